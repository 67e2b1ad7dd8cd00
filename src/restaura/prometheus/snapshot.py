# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots that the server makes: of hard links and one block of what it has in memory; always removed afterwards.

`POST /api/v1/admin/tsdb/snapshot` answers with the snapshot's name once it is whole. The name (time and a random
number) is the server's own and not known before. So the journal keeps, from before the request, when it was sent and
which snapshots there were: then the one that appeared within moments of it is ours, and those of others stay.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura.errors import SourceError
from restaura.journal import Journal
from restaura.web import AnswerError, Service

OWNER = "source:prometheus"
ACT = "snapshot"
FOLDER = "snapshots"
PATH = "/api/v1/admin/tsdb/snapshot"
# The server makes the folder as soon as it is asked (web/api/v1/api.go: snapshot), within the second after this.
NEAR_SECONDS = 5
# tsdb/compact.go: the block of what is in memory is written under this name, once its last sample is fixed.
WRITING = ".tmp-for-creation"
STILL_SECONDS = 3.0
ANSWER_SECONDS = 5.0
SETTLE_SECONDS = 2.0
GONE_SECONDS = 60.0
_NAME = re.compile(r"(\d{8}T\d{6})Z?[+-]?\d*-[0-9a-f]+")
_POLL = 0.02


class Taking:
    """A snapshot that is being made, in a thread: the request ends only when it is whole."""

    def __init__(self, service: Service, data: str, limit: float, known: list[str]) -> None:
        self._folder, self._known, self._limit = Path(data) / FOLDER, known, limit
        self._pool = ThreadPoolExecutor(1)
        self._answer: Future[Any] = self._pool.submit(
            service.json, "POST", PATH, params={"skip_head": "false"}, read_seconds=limit
        )

    def fixed(self) -> None:
        """Wait until the snapshot's last instant is fixed: what is in memory is being written, or all is done."""
        while not self._answer.done():
            for one in found_in(self._folder, self._known):
                if any(name.endswith(WRITING) for name in _names(self._folder / one)):
                    return
            time.sleep(_POLL)
        self.name()

    def name(self) -> str:
        """Wait for the end and return the snapshot's name; SourceError when it could not be made."""
        try:
            answer = self._answer.result(self._limit)
        except NotDone:
            raise SourceError(f"the snapshot is not done after {self._limit:.0f} s") from None
        except AnswerError as error:
            raise SourceError(
                f"the server made no snapshot: {error.what}", where=error.where, fix=_fix(error)
            ) from error
        return str(answer["data"]["name"])

    def answered(self) -> bool:
        """Whether the server has answered, be it with an error."""
        error = self._answer.exception() if self._answer.done() else SourceError("not yet")
        return error is None or isinstance(error, AnswerError)

    def close(self) -> None:
        """Forget about the request; the server goes on with it."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def taken(journal: Journal, service: Service, data: str, limit: float) -> Iterator[Callable[[], Path]]:
    """Have the server make a snapshot of the data in the directory `data`, and remove it when the context is left.

    Yields at the instant that the snapshot holds: a function that waits for its end and returns its directory.
    """
    folder = Path(data) / FOLDER
    asked = {"url": service.url, "ca_file": service.ca_file}
    known = {"folder": str(folder), "known": _names(folder), "at": time.time(), "name": "", "unanswered": False}
    debt = journal.write(OWNER, ACT, {**known, **asked})
    taking = Taking(service, data, limit, debt.data["known"])

    def whole() -> Path:
        nonlocal debt
        name = taking.name()
        if not _NAME.fullmatch(name):
            raise SourceError(f"the server named its snapshot {name!r}", where=str(folder))
        debt = journal.update(debt, {**debt.data, "name": name})
        if not (folder / name).is_dir():
            what = f"the server made the snapshot {name}, and it is not there"
            raise SourceError(what, where=str(folder), fix="correct data_directory of the component")
        return folder / name

    def clean() -> None:
        taking.close()
        remove(debt.data)
        journal.settle(debt)

    try:
        taking.fixed()
        yield whole
    except BaseException:
        if not taking.answered():
            debt = journal.update(debt, {**debt.data, "unanswered": True})
        # What cannot be removed now stays in the journal.
        with contextlib.suppress(SourceError):
            clean()
        raise
    clean()


def remove(data: dict[str, Any]) -> None:
    """Delete the snapshot that a journaled request made, and no other. Idempotent.

    Whoever had no answer does not know its name, and the server may still be making it: then it is waited for.
    SourceError, and the debt stays, when the server hangs, or when it cannot be told from somebody else's snapshot.
    """
    folder = Path(data["folder"])
    if data["name"]:
        _delete(folder / data["name"])
        return
    until = _latest_begin(data)
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        ours = [one for one in found_in(folder, data["known"]) if int(data["at"]) - 1 <= _begun(one) <= until]
        if len(ours) > 1:
            what = f"one of these snapshots is ours, the others are somebody else's: {', '.join(ours)}"
            raise SourceError(what, where=str(folder), fix=f"rm -r {folder}/NAME, then restaura recover")
        if not ours:
            return
        _wait_until_still(folder / ours[0], deadline)
        _delete(folder / ours[0])
        # A server that was not done makes it anew.
        time.sleep(1)
        if time.monotonic() > deadline and (folder / ours[0]).exists():
            fix = "wait until the server is done with it: restaura recover"
            raise SourceError("the server is still making this snapshot", where=str(folder / ours[0]), fix=fix)


def _latest_begin(data: dict[str, Any]) -> float:
    """Return when (Unix time) the server can have begun what it was asked for at the latest.

    That is at once, but for a server that did not answer in time: it begins when it goes on. SourceError while it
    hangs, because it may act on the request as soon as it goes on.
    """
    service = Service(data["url"], ca_file=data["ca_file"], read_seconds=ANSWER_SECONDS, patience=0)
    near, started = float(data["at"]) + NEAR_SECONDS, None
    try:
        with service.answer("GET", "/metrics") as answer:
            started = re.search(r"^process_start_time_seconds ([0-9.e+]+)$", answer.text, re.MULTILINE)
    except AnswerError:
        pass
    except SourceError as error:
        if "timed out" in error.what:
            fix = "see why the server hangs, then: restaura recover"
            raise SourceError("it was asked for a snapshot and does not answer", where=data["url"], fix=fix) from error
        return near
    # What it was asked before, it has begun by now.
    time.sleep(max(0.0, min(SETTLE_SECONDS, data["at"] + SETTLE_SECONDS - time.time())))
    same = started is not None and float(started[1]) < data["at"]
    return max(near, time.time()) if data["unanswered"] and same else near


def found_in(folder: Path, known: list[str]) -> list[str]:
    """Return the snapshots that were not `known`."""
    return [one for one in _names(folder) if one not in known and _NAME.fullmatch(one)]


def _begun(name: str) -> float:
    """Return when a snapshot was begun (Unix time), as its name tells."""
    found = _NAME.fullmatch(name)
    return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp() if found else 0.0


def _wait_until_still(path: Path, deadline: float) -> None:
    """Wait until nothing in a snapshot has changed for a while."""
    seen, since = _state(path), time.monotonic()
    while time.monotonic() < min(since + STILL_SECONDS, deadline):
        time.sleep(_POLL * 10)
        now = _state(path)
        if now != seen:
            seen, since = now, time.monotonic()


def _state(path: Path) -> list[tuple[str, int]]:
    found = []
    for top, _, files in os.walk(path):
        for one in files:
            with contextlib.suppress(OSError):
                found.append((f"{top}/{one}", os.lstat(f"{top}/{one}").st_size))
    return sorted(found)


def _delete(path: Path) -> None:
    if path.is_symlink() or not _NAME.fullmatch(path.name):
        raise SourceError("is no snapshot", where=str(path))
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        raise SourceError("the snapshot cannot be removed", where=str(path), fix=f"rm -r {path}")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        return []


def _fix(error: AnswerError) -> str:
    if "no space" in error.said:
        return "free space on the disk of the server's data directory"
    return error.fix
