# SPDX-License-Identifier: GPL-3.0-or-later
"""A restored database changes places with the live one while Grafana is stopped; a restored export goes in by the API.

Both ways are static functions over a JSON record, so that any process can finish or undo them.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from restaura import exchange, mounts, units
from restaura.errors import MismatchError, RefusedError, RestauraError, SourceError
from restaura.grafana import api
from restaura.grafana.installed import find
from restaura.sqlite import COMPANIONS, MAGIC
from restaura.volumes.daemon import Daemon
from restaura.web import Service

HEALTHY_SECONDS = 120
_POLL = 0.3
WANTED, BEFORE, NOW = "wanted", "before", "now"


def swap(record: Mapping[str, Any]) -> None:
    """Make what was restored live; SourceError when Grafana does not come up on it."""
    if "api" in record:
        _apply(record, WANTED)
        return
    with _stopped(record):
        exchange.swap(dict(record))
    if record["units"] or record["container"]:
        _wait_healthy(record)


def undo(record: Mapping[str, Any]) -> None:
    """Make live what was before. By the API, secrets of data sources that were overwritten do not come back."""
    if "api" in record:
        if not Path(record["directory"], BEFORE).exists():
            return
        _apply(record, BEFORE)
        wanted, before = (api.Export(Path(record["directory"], one)) for one in (WANTED, BEFORE))
        api.remove(_service(record), wanted, before)
        return
    with _stopped(record):
        exchange.undo(dict(record))


def discard(record: Mapping[str, Any]) -> None:
    """Delete the side that is not live."""
    if "api" in record:
        shutil.rmtree(record["directory"], ignore_errors=True)
    else:
        exchange.discard(dict(record))


def _apply(record: Mapping[str, Any], side: str) -> None:
    """Write the documents of one side to the API, and read them back; MismatchError when they are not the same."""
    service, folder = _service(record), Path(record["directory"])
    wanted = api.Export(folder / side)
    api.put_back(service, wanted, _now(service, folder))
    if wrong := api.differences(wanted, _now(service, folder)):
        raise MismatchError(f"the API does not give back what was written: {'; '.join(wrong[:5])}", where=service.url)


def _now(service: Service, folder: Path) -> api.Export:
    shutil.rmtree(folder / NOW, ignore_errors=True)
    return api.export(service, folder / NOW)


def _service(record: Mapping[str, Any]) -> Service:
    told = record["api"]
    token, password = (Path(told[one]) if told[one] else None for one in ("token", "password"))
    return api.login(told["url"], token, told["user"], password, told["ca_file"], told["org"])


@contextlib.contextmanager
def _stopped(record: Mapping[str, Any]) -> Iterator[None]:
    """Stop Grafana while its files change places. What ran when the swap was planned is started, whatever happens."""
    try:
        units.stop(record["units"])
        if record["container"]:
            with Daemon() as daemon:
                daemon.stop(record["container"], record["stop_seconds"])
        for path in record["databases"]:
            if held := mounts.holders([path]):
                raise RefusedError(f"is in use: {'; '.join(map(str, held[:5]))}", where=path, fix="stop it first")
            play_back(Path(path))
        yield
    finally:
        units.start(record["units"])
        if record["container"]:
            with Daemon() as daemon:
                daemon.start(record["container"])


def play_back(database: Path) -> None:
    """Let SQLite finish what a journal beside the database holds, so that the database is one file.

    A journal that SQLite cannot play back is kept under another name: beside another database it would spoil that one.
    """
    beside = [database.with_name(database.name + one) for one in COMPANIONS]
    if not any(one.exists() for one in beside):
        return
    # What is no database SQLite would take for an empty one, and throw its journal away.
    if _begins(database) == MAGIC:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as opened:
            opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            opened.execute("SELECT count(*) FROM sqlite_master").fetchall()
    for one in beside:
        if one.exists():
            one.rename(one.with_name(f"{one.name}.restaura-{time.time_ns()}"))


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except FileNotFoundError:
        return b""


def _wait_healthy(record: Mapping[str, Any]) -> None:
    """Wait until Grafana is well, where its settings, which may be other ones by now, say that it answers."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while True:
        try:
            if url := record["url"] or find(**record["server"]).url:
                api.health(Service(url, ca_file=record["ca_file"], patience=0))
            return
        except RestauraError as error:
            if time.monotonic() > deadline:
                what = f"does not come up on what was restored within {HEALTHY_SECONDS} s: {error.what}"
                raise SourceError(what, where=error.where, fix="look at Grafana's log") from error
            time.sleep(_POLL)
