# SPDX-License-Identifier: GPL-3.0-or-later
"""The swap of restored collections, and back again.

The server cannot rename a collection. Where the live name is an alias, it is pointed at the restored collection.
Otherwise what is live goes into a file first (a snapshot, loaded and compared before anything is deleted), and the live
collection is made anew from the point's snapshot, which waits on the server beside the staged collection.

`state.json` in the restore's directory says how far each collection is: `saved`, `replacing` (what is live may be
deleted by now), `loading`, `replaced`; `undoing`, `undone`. Each is written before the act it names, as are the
snapshots that the server was `asked` for.
`N.before.snapshot` is what was live, `N.after.snapshot` what was restored, after an undo, and `N.late.snapshot` (then
`N.late1.snapshot`, …) what stood under the live name and is none of these: an application wrote meanwhile.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from restaura.errors import RefusedError, SourceError, SpaceError
from restaura.paths import private_dir, write_atomic
from restaura.qdrant import fingerprint
from restaura.qdrant.capture import WAIT_SECONDS, delete_first_new, drop_stages
from restaura.qdrant.server import STAGE, UPLOADED, Checked, Server, Snapshot

CHUNK = 1 << 18
PUT_BACK_TRIES, PUT_BACK_PAUSE = 5, 2.0


def swap(record: dict[str, Any]) -> None:
    """Make the restored collections live, one after another, and their aliases."""
    server, directory = Server.from_json(record["server"]), private_dir(Path(record["directory"]))
    for number, one in enumerate(record["collections"]):
        if one["alias"]:
            continue
        progress = Progress(directory, number)
        if not progress.state:
            wanted = _content(server, one["stage"])
            progress.write("saved", wanted=wanted, before=_save(server, one["final"], progress, "before"))
        if progress.state == "saved":
            progress.write("replacing")
        if progress.state == "replacing":
            server.drop(one["final"])
            progress.write("loading")
        if progress.state == "loading":
            waiting = Snapshot(one["stage"], UPLOADED, one["bytes"], one["sha256"])
            with server.download(waiting) as stream:
                server.recover(one["final"], stream, waiting.size, waiting.checksum)
            if not _same(progress.told["wanted"], _content(server, one["final"])):
                raise SourceError(
                    f"collection {one['final']!r} was written to as it was made anew, or is not what it was made of",
                    where=server.where,
                    fix=f"stop what writes to it and try again. What was live before is kept in {directory}; "
                    f"what was written since, once that is put back, in {progress.file('late')}",
                )
            progress.write("replaced")
        leading = {alias: name for alias, name in record["aliases"].items() if name == one["final"]}
        server.change_aliases(leading)
    server.change_aliases(record["aliases"])
    _check_aliases(server, record["aliases"])
    drop_stages(server, record["stage"])


def undo(record: dict[str, Any]) -> None:
    """Make live again what was live before; what was restored goes into files.

    SourceError when a collection was written to before it was deleted: then it is left. What was written since is kept.
    """
    server, directory = Server.from_json(record["server"]), Path(record["directory"])
    if not directory.exists():
        return
    for number, one in enumerate(record["collections"]):
        progress = Progress(directory, number)
        if progress.state == "replaced":
            progress.write("undoing", after=_save(server, one["final"], progress, "after"))
        if progress.state == "replacing":
            _refuse_written(server, one["final"], progress)
        if progress.state in ("replacing", "loading", "undoing"):
            _put_back(server, one["final"], progress)
            progress.write("undone")
    server.change_aliases(record["aliases_before"])
    _check_aliases(server, record["aliases_before"])
    for number, one in enumerate(record["collections"]):
        Progress(directory, number).forget(server, one["final"])


def discard(record: dict[str, Any]) -> None:
    """Delete the side that is not live: files, and of a name that is an alias the collection it no longer leads to."""
    server = Server.from_json(record["server"])
    drop_stages(server, record["stage"])
    leading = set(server.aliases().values())
    for one in record["collections"]:
        if one["alias"]:
            for name in (one["stage"], one["old"]):
                if name not in leading:
                    server.drop(name)
    _refuse_late(record)
    shutil.rmtree(record["directory"], ignore_errors=True)


def take_back(data: dict[str, Any]) -> None:
    """Remove what a restore built that never came to a swap; nothing of it while a swap has yet to be undone."""
    server, directory = Server.from_json(data["server"]), Path(data["directory"])
    drop_stages(server, data["stage"])
    leading = set(server.aliases().values())
    for name in data["restored"]:
        if name not in leading:
            server.drop(name)
    progress = [Progress(directory, number) for number in range(len(data["collections"]))]
    if not any(one.asked or one.state in ("replacing", "loading", "replaced", "undoing") for one in progress):
        _refuse_late(data)
        shutil.rmtree(directory, ignore_errors=True)


class Progress:
    """How far the swap of one collection is: `state`, and what else was `told`."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory, self._number = directory, str(number)
        self.told: dict[str, Any] = self._all().get(self._number, {})

    @property
    def state(self) -> str:
        """What was begun last; empty when nothing was."""
        return str(self.told.get("state", ""))

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The snapshots that the server was asked for and that were not deleted: what was there before, and when."""
        return list(self.told.get("asked", ()))

    @property
    def late(self) -> list[str]:
        """The files of what an application wrote while the collection was being replaced."""
        return list(self.told.get("late", ()))

    def write(self, state: str, **more: Any) -> None:
        """Record durably what is begun now."""
        self.told = {**self.told, **more, "state": state}
        content = {**self._all(), self._number: self.told}
        write_atomic(self._directory / "state.json", json.dumps(content).encode())

    def file(self, side: str) -> Path:
        """Return where the collection as it was `before` or `after` the swap, or between (`late…`), is kept."""
        return self._directory / f"{self._number}.{side}.snapshot"

    def forget(self, server: Server, name: str) -> None:
        """Remove the snapshots of collection `name` that were being made when a process died."""
        deadline = time.monotonic() + WAIT_SECONDS
        for one in self.asked:
            delete_first_new(server, name, one["known"], one["since"], deadline)
        if self.asked:
            self.write(self.state, asked=[])

    def _all(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._directory / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return found


def _save(server: Server, name: str, progress: Progress, side: str) -> dict[str, Any]:
    """Keep a live collection as a file that was loaded once and found equal; empty when there is no such collection."""
    if name not in server.all_collections():
        return {}
    path = progress.file(side)
    asked = {"known": [one.name for one in server.snapshots(name)], "since": time.time()}
    progress.write(progress.state, asked=[*progress.asked, asked])
    snapshot = server.make_snapshot(name)
    try:
        if snapshot.size > shutil.disk_usage(path.parent).free:
            raise SpaceError(f"{snapshot.size} bytes do not fit", where=str(path.parent), fix="free space there")
        with server.download(snapshot) as stream, path.open("wb") as out:
            checked = Checked(stream)
            while chunk := checked.read(CHUNK):
                out.write(chunk)
            os.fsync(out.fileno())
    finally:
        server.delete_snapshot(name, snapshot.name)
    progress.write(progress.state, asked=[one for one in progress.asked if one != asked])
    saved = {"bytes": checked.bytes, "sha256": checked.sha256}
    trial = f"{STAGE}{path.parent.name.removeprefix('qdrant-')}_trial"
    server.drop(trial)
    try:
        _load(server, trial, path, saved)
        held = _content(server, trial)
    finally:
        server.drop(trial)
    if held != _content(server, name):
        raise RefusedError(
            f"collection {name!r} is being written to: what was kept of it is not what is live",
            where=server.where,
            fix="stop what writes to it and try again; nothing was changed",
        )
    return {**saved, **held}


def _refuse_written(server: Server, name: str, progress: Progress) -> None:
    """Raise SourceError when a collection that was not deleted yet, or was made anew, is not what was kept of it."""
    before = progress.told["before"]
    if name not in server.all_collections():
        return
    if any(before.get(key) != value for key, value in _content(server, name).items()):
        raise SourceError(
            f"collection {name!r} was written to since the restore was cut off, and is left as it is",
            where=server.where,
            fix=f"what was live before is {progress.file('before')}. To have that back, delete the collection, then: "
            "restaura recover",
        )


def _save_late(server: Server, name: str, progress: Progress) -> None:
    """Keep what stands under a live name unless it is known or empty; SourceError when it never stands still."""
    if name not in server.all_collections():
        return
    found = _content(server, name)
    known = [one for one in map(progress.told.get, ("before", "wanted", "after")) if one]
    # A load over what a dead process's upload made has the points of one and settings of the other.
    points = found["points"] in [one["points"] for one in known]
    settings = {part for one in known for part in one["structure"].items()}
    if not found["count"] or (points and set(found["structure"].items()) <= settings):
        return
    side = f"late{len(progress.late) or ''}"
    try:
        _save(server, name, progress, side)
    except RefusedError as error:
        raise SourceError(
            f"collection {name!r} is being written to: what was live before is not put back over it",
            where=server.where,
            fix="stop what writes to it, then: restaura recover",
        ) from error
    progress.write(progress.state, late=[*progress.late, str(progress.file(side))])


def _refuse_late(record: dict[str, Any]) -> None:
    """Raise SourceError when an application's points are in a file, which only a person may delete."""
    directory = Path(record["directory"])
    late = [one for number in range(len(record["collections"])) for one in Progress(directory, number).late]
    if left := [one for one in late if Path(one).exists()]:
        raise SourceError(
            f"an application wrote while a collection was replaced: what stood there is in {left[0]}",
            where=str(directory),
            fix=f"load it as a collection of another name (docs/sources/qdrant.md, Without Restaura) and copy what you "
            f"need; then: rm {left[0]}",
        )


def _put_back(server: Server, name: str, progress: Progress) -> None:
    """Make a collection what it was before the swap; what stands there and is not known is kept first.

    Tried again when that fails: a server that a dead process sent a snapshot to goes on making a collection of it.
    """
    before, path = progress.told["before"], progress.file("before")
    for left in reversed(range(PUT_BACK_TRIES)):
        try:
            _save_late(server, name, progress)
            server.drop(name)
            if before:
                _load(server, name, path, before)
                _compare(server, name, before, path.parent)
            return
        except SourceError:
            if not left:
                raise
            time.sleep(PUT_BACK_PAUSE)


def _load(server: Server, name: str, path: Path, saved: dict[str, Any]) -> None:
    with path.open("rb") as stream:
        server.recover(name, stream, saved["bytes"], saved["sha256"])


def _content(server: Server, name: str) -> dict[str, Any]:
    points = fingerprint.summed(server.points(name))
    parts = fingerprint.structure_parts("", fingerprint.structure(server.info(name)))
    return {"points": points.digest, "count": points.count, "structure": parts}


def _same(known: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    return bool(known) and all((known or {}).get(key) == value for key, value in found.items())


def _compare(server: Server, name: str, wanted: dict[str, Any], directory: Path) -> None:
    if not _same(wanted, _content(server, name)):
        raise SourceError(
            f"collection {name!r} is not what it was made of",
            where=server.where,
            fix=f"what was live before is kept in {directory}",
        )


def _check_aliases(server: Server, wanted: dict[str, str | None]) -> None:
    present = server.aliases()
    if wrong := sorted(alias for alias, name in wanted.items() if present.get(alias) != name):
        raise SourceError(f"these aliases do not lead where they should: {', '.join(wrong)}", where=server.where)
