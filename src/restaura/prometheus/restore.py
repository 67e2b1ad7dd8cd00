# SPDX-License-Identifier: GPL-3.0-or-later
"""Data and files of a point, staged beside the live ones and exchanged with them while the server is stopped.

The data directory changes places as a whole: blocks at its top, no write-ahead log of other data beside them.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restaura import exchange, mounts, process, trees, units
from restaura.errors import RefusedError, RestauraError, SourceError
from restaura.host import Host
from restaura.paths import Paths, private_dir
from restaura.prometheus import blocks
from restaura.prometheus.capture import CONFIG, FILES, SECRETS, TSDB, copy_file
from restaura.prometheus.server import Facts, Place, Server, version_key
from restaura.prometheus.settings import PrometheusComponent
from restaura.sources import PointReader
from restaura.trees.applying import Applied
from restaura.volumes import stopping
from restaura.volumes.daemon import Daemon
from restaura.volumes.restore import Item, hold_for

STOP_SECONDS = 3600.0


@dataclass(frozen=True)
class Live:
    """Where a restore goes: `data` is the live data directory on this host. `facts` are None when nothing runs."""

    data: str
    place: Place
    facts: Facts | None


def live(server: Server, described: Mapping[str, Any]) -> Live:
    """Say where the server's data is, by its own word or, when it does not run, by the point's."""
    facts = None
    if server.kind == "network" or server.pid():
        with contextlib.suppress(SourceError):
            facts = server.facts()
    place = server.place()
    data, problem = server.data_on_host(facts.data if facts else described["data"], place)
    if problem:
        raise SourceError(problem[0], where=server.where, fix=problem[1])
    return Live(data, place, facts)


def beside(to: Live) -> str:
    """Return the directory that the staged data directory is made in: on its file system, and among no volumes."""
    return hold_for(Item("", str(Path(to.data).parent), (), volume=to.data), to.data)


def refuse(
    server: Server, to: Live, described: Mapping[str, Any], found: Sequence[blocks.Block], index: trees.Index
) -> list[str]:
    """Raise RefusedError when the server cannot read the blocks, or would delete them at once; return notes."""
    version = to.facts.version if to.facts else _installed(server)
    if why := blocks.too_old(version_key(version), version_key(described["version"]), found):
        fix = f"install Prometheus {described['version']} or newer, or restore to a directory: --to dir:PATH"
        raise RefusedError(why, where=server.where, fix=fix)
    if to.facts is None:
        return [f"the server does not run, so its retention is not known; start it: {server.start_command}"]
    sizes: dict[str, int] = {}
    for entry in index.entries:
        name = entry.path.split("/")[0]
        sizes[name] = sizes.get(name, 0) + entry.size
    at_once, soon = blocks.beyond_retention(found, to.facts.retention, to.facts.retention_bytes, sizes, time.time())
    fix = "raise --storage.tsdb.retention.time (or .size) of the server, or restore to a directory: --to dir:PATH"
    if at_once or (soon and len(soon) == len(found)):
        lost = at_once or soon
        when = "as soon as it starts" if at_once else "within hours"
        what = f"the server's retention would delete {len(lost)} of {len(found)} restored blocks {when}"
        raise RefusedError(what, where=server.where, fix=fix)
    if soon:
        return [
            f"the server's retention deletes the {len(soon)} oldest of {len(found)} restored blocks within hours: {fix}"
        ]
    return []


def _installed(server: Server) -> str:
    """Return the version of the program on this host, for a server that does not run; "" when it is not known."""
    if server.kind == "unit":
        with contextlib.suppress(RestauraError):
            _, out, said = process.run(["prometheus", "--version"])
            # Older versions say it on standard error.
            words = f"{out.decode(errors='replace')} {said}".split()
            return next((after for word, after in itertools.pairwise(words) if word == "version"), "")
    return ""


def unpack_files(point: PointReader, folder: Path) -> tuple[list[tuple[str, bool]], Applied]:
    """Unpack the files of a point below `folder`; return their paths as the server sees them, and which are secret."""
    found, applied = [], Applied()
    for name in (CONFIG, FILES, SECRETS):
        if name not in point.names():
            continue
        part = private_dir(folder / f".{name}")
        point.restore_tree(name, part)
        index = point.index(name)
        applied.add(trees.apply(index, part))
        for entry in index.entries:
            if entry.type == "file":
                _move(part, folder, entry.path)
                found.append((f"/{entry.path}", name == SECRETS))
        shutil.rmtree(part)
    return found, applied


def _move(part: Path, folder: Path, path: str) -> None:
    _make_parents(part, folder, path)
    (part / path).rename(folder / path)


def _make_parents(source: Path, target: Path, path: str, named: str = "") -> None:
    """Make the directories above `target`/`named`, those above `path` as they are in `source`."""
    wanted = (target / (named or path)).parents
    originals = (source / path).parents
    missing = [one for one in wanted if one.is_relative_to(target) and one != target and not one.exists()]
    for made, original in reversed(list(zip(missing, originals, strict=False))):
        found = original.stat() if original.is_relative_to(source) and original != source else None
        made.mkdir(mode=0o700)
        if found:
            os.chown(made, found.st_uid, found.st_gid)
        made.chmod(found.st_mode & 0o7777 if found else 0o755)


def put_file(source: Path, path: str, hold: Path, here: str) -> None:
    """Copy the unpacked file `path` to where it is to be put in a hold: `here`, a path of this host."""
    _make_parents(source, hold, path.lstrip("/"), here.lstrip("/"))
    copy_file(source / path.lstrip("/"), hold / here.lstrip("/"))


def unpack_blocks(point: PointReader, folder: Path, owner: tuple[int, int] | None, mode: int) -> None:
    """Unpack the blocks into the new directory `folder`, and give all to `owner`."""
    folder.mkdir(mode=0o700, parents=True)
    if TSDB in point.names():
        index = point.index(TSDB)
        point.restore_tree(TSDB, folder)
        trees.apply(index, folder)
        top = next((one for one in index.entries if one.type == "dir"), None)
        if owner is None and top:
            owner = (folder / top.path).stat().st_uid, (folder / top.path).stat().st_gid
    if owner:
        for top_path, _, files in os.walk(folder):
            for one in (top_path, *(f"{top_path}/{name}" for name in files)):
                os.lchown(one, *owner)
    folder.chmod(mode)


def owner_of(server: Server, data: str) -> tuple[tuple[int, int] | None, int]:
    """Return whose the data directory is and its mode: that of the live one, or of the account the unit runs as."""
    with contextlib.suppress(OSError):
        found = Path(data).stat()
        return (found.st_uid, found.st_gid), found.st_mode & 0o7777
    if server.kind == "unit":
        argv = ["systemctl", "show", "--property=User", "--value", "--", server.options.unit]
        with contextlib.suppress(RestauraError, KeyError):
            account = pwd.getpwnam(process.run(argv)[1].decode().strip())
            return (account.pw_uid, account.pw_gid), 0o755
    return None, 0o755


def plan(server: Server, holds: Sequence[tuple[str, Sequence[str]]], data: str, count: int) -> dict[str, Any]:
    """Return the record of a swap: what changes places, and what is stopped for it.

    `holds` are (hold, absolute paths in it), `count` is the number of blocks the server must open then.
    """
    pairs, planners = [], []
    for number, (hold, paths) in enumerate(holds):
        pairs.append(exchange.Hold(hold, hold.replace(exchange.STAGE, exchange.KEPT)))
        planner = exchange.Planner(number, Path(hold), lambda path, _: path == f"{data}/lost+found", lambda _: False)
        for one in paths:
            planner.add(one.lstrip("/"))
        planners.append(planner)
    options = {key: value for key, value in asdict(server.options).items() if key != "checks"}
    record = {
        **exchange.record(pairs, planners),
        "options": options,
        "root": str(server.host.paths.root),
        "data": data,
        "blocks": count,
        "units": [],
        "held": {"stop": [], "pause": [], "commands": []},
    }
    if server.kind == "container":
        with Daemon() as daemon:
            known = daemon.containers()
        record["held"] = stopping.plan([one for one in known if one.name == server.options.container], (), (), known)
    elif server.kind == "unit":
        record["units"] = units.running([server.options.unit])
    return record


def busy(server: Server, paths: Sequence[str]) -> list[str]:
    """Name what uses the live data, but for the server itself: that is stopped."""
    if server.kind == "network":
        with contextlib.suppress(SourceError):
            server.facts()
            return [f"the server at {server.options.url}, which cannot be stopped from here"]
    stopped = units.running([server.options.unit]) if server.kind == "unit" else []
    own = ""
    if server.kind == "container":
        with Daemon() as daemon:
            container = daemon.container(server.options.container)
        if container.runs and (container.removes_itself or container.of_swarm):
            why = "is gone once it stops (--rm)" if container.removes_itself else "is Swarm's to start and stop"
            return [f"container {container.name}, which {why}: stop it yourself"]
        own = container.id
    return [str(one) for one in mounts.holders(paths) if one.unit not in stopped and not _in_container(one.pid, own)]


def _in_container(pid: int, container_id: str) -> bool:
    if not container_id:
        return False
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape")
    except OSError:
        return True


def swap(record: dict[str, Any]) -> None:
    """Stop the server, exchange, start it, and see that it opens the restored blocks."""
    with _stopped(record):
        exchange.swap(record)
    server = _server(record)
    if _ran(record):
        server.ready(record["options"]["start_timeout"])
        if record["blocks"] and not server.blocks_loaded():
            what = f"the server opened none of the {record['blocks']} restored blocks"
            raise SourceError(what, where=server.where, fix=server.look)


def undo(record: dict[str, Any]) -> None:
    """Stop the server, exchange back, and start it."""
    with _stopped(record):
        exchange.undo(record)
    if _ran(record):
        _server(record).ready(record["options"]["start_timeout"])


def _server(record: dict[str, Any]) -> Server:
    return Server(PrometheusComponent(**record["options"]), Host(Paths(Path(record["root"]))))


def _ran(record: dict[str, Any]) -> bool:
    return bool(record["units"] or record["held"]["stop"])


@contextlib.contextmanager
def _stopped(record: dict[str, Any]) -> Iterator[None]:
    """Stop the unit or the container around an exchange; it is started again also when that fails.

    A container that was made anew since the record was written is stopped and started as well.
    """
    held: stopping.Held = record["held"]
    now: stopping.Held = {"stop": [], "pause": [], "commands": []}
    if name := record["options"]["container"]:
        with Daemon() as daemon:
            known = daemon.containers()
        now = stopping.plan([one for one in known if one.name == name], (), (), known)
        ids = {row["id"] for row in now["stop"]}
        there = {one.id for one in known}
        rows = [row for row in held["stop"] if row["id"] not in ids and row["id"] in there]
        held = {**now, "stop": [*now["stop"], *rows]}
    try:
        units.stop(record["units"])
        stopping.hold_still(now, STOP_SECONDS)
        if users := mounts.holders([record["data"]]):
            shown = "; ".join(map(str, users[:5]))
            raise RefusedError(f"is in use: {shown}", where=record["data"], fix="stop what uses it, and try again")
        yield
    finally:
        units.start(record["units"])
        stopping.go_on(held)
