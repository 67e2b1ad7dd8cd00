# SPDX-License-Identifier: GPL-3.0-or-later
"""Restored files change places with live ones: renames only, recorded beforehand, to be finished or undone at any time.

Restored data stands in root-only *holds* on the file system of the live data. A hold is called `.restaura-stage-ID`
while nothing in it was ever live, and `.restaura-kept-ID` from before the first exchange until the last one is undone:
so whoever removes a stage never removes live data. Which side of an entry is live is read off the inode number in the
hold, never guessed: the hold is ours alone, whatever others do to the live side meanwhile.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from restaura.errors import RefusedError, SourceError
from restaura.mounts import mounted_below, mounts
from restaura.paths import sync_dir
from restaura.trees.applying import apply_attributes
from restaura.trees.index import Entry
from restaura.trees.scanning import scan

STAGE, KEPT = ".restaura-stage-", ".restaura-kept-"
NOREPLACE, EXCHANGE = 1, 2
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Hold:
    """The root-only directory that holds what is to change places with live data: its name before and after."""

    stage: str
    kept: str

    def find(self) -> Path:
        """Return the hold under the name it has now; SourceError when it is gone."""
        for name in (self.kept, self.stage):
            if os.path.lexists(name):
                return Path(name)
        raise SourceError("the kept copy is gone", where=self.kept, fix="restaura list")


@dataclass(frozen=True)
class Move:
    """One entry that changes places: `inside` is its path in the hold; an inode is None where nothing is."""

    hold: int
    live: str
    inside: str
    live_inode: int | None
    staged_inode: int | None


class Planner:
    """Makes the moves that put everything in a hold live and leave alone what `stays`."""

    def __init__(
        self, hold: int, where: Path, stays: Callable[[str, bool], bool], keeps: Callable[[str], bool]
    ) -> None:
        """`stays(path, is_dir)`: live data that is no part of the backup. `keeps(path)`: staged data not to go live."""
        self._hold, self._where = hold, where
        self._stays, self._keeps = stays, keeps
        self._mounts = {one.point for one in mounts()}
        self.moves: list[Move] = []
        self.attributes: list[dict[str, Any]] = []
        self.parents: list[dict[str, Any]] = []
        self.left: list[str] = []

    def add(self, inside: str) -> None:
        """Plan the entry `inside` the hold, a path relative to `/`."""
        live = Path("/") / inside
        self._make_parents(inside)
        self._plan(live, inside)

    def _make_parents(self, inside: str) -> None:
        parts = inside.split("/")[:-1]
        for number in range(1, len(parts) + 1):
            path = "/".join(parts[:number])
            if not os.path.lexists(f"/{path}") and path not in {one["path"] for one in self.parents}:
                self.parents.append(_looked_at(self._where, path).to_json())

    def _plan(self, live: Path, inside: str) -> None:
        staged = self._where / inside
        here, there = _stat(live), _stat(staged)
        if self._keeps(str(live)) or (here is not None and there is None and self._stays(str(live), _is_dir(here))):
            self.left.append(str(live))
        elif str(live) in self._mounts and live != self._where.parent:
            self._leave_mount(live, staged)
        elif here is not None and there is not None and self._apart(live, here, staged, there):
            self.attributes.append(
                {"old": _looked_at(Path("/"), inside).to_json(), "new": _looked_at(self._where, inside).to_json()}
            )
            for name in sorted({*os.listdir(live), *os.listdir(staged)}):  # noqa: PTH208  names, not paths
                if not name.startswith((STAGE, KEPT)):
                    self._plan(live / name, f"{inside}/{name}")
        elif here is not None and there is None and self._holds_staying(live):
            self.left.append(str(live))
        elif here is not None or there is not None:
            self.moves.append(Move(self._hold, str(live), inside, here and here.st_ino, there and there.st_ino))

    def _leave_mount(self, live: Path, staged: Path) -> None:
        """Leave another file system alone, unless the backup has something of what is in it."""
        if _stat(staged) and (not staged.is_dir() or any(staged.iterdir())):
            fix = f"umount it, restore it by its own path (--path {live}), or restore to a directory (--to dir:PATH)"
            raise RefusedError("is a mount of its own", where=str(live), fix=fix)
        self.left.append(str(live))

    def _apart(self, live: Path, here: os.stat_result, staged: Path, there: os.stat_result) -> bool:
        """Whether two directories change places entry by entry: they cannot as a whole, or something in them stays."""
        if not (_is_dir(here) and _is_dir(there)):
            return False
        return (
            str(live) in self._mounts
            or self._holds_staying(live)
            or self._holds_kept_back(staged)
            or not _can_rename(live, self._where)
        )

    def _holds_staying(self, live: Path) -> bool:
        """Whether something below the live directory must not move: mounts, and what is no part of the backup."""
        if not live.is_dir() or live.is_symlink():
            return False
        if mounted_below(str(live), mounts()):
            return True
        for top, directories, files in os.walk(live):
            if any(self._stays(f"{top}/{name}", True) or self._keeps(f"{top}/{name}") for name in directories):
                return True
            if any(self._stays(f"{top}/{name}", False) or self._keeps(f"{top}/{name}") for name in files):
                return True
        return False

    def _holds_kept_back(self, staged: Path) -> bool:
        cut = len(str(self._where))
        return any(
            self._keeps(f"{top}/{name}"[cut:]) for top, inner, files in os.walk(staged) for name in [*inner, *files]
        )


def record(holds: list[Hold], planners: list[Planner]) -> dict[str, Any]:
    """Return the JSON record of a swap."""
    return {
        "holds": [asdict(one) for one in holds],
        "moves": [asdict(move) for planner in planners for move in planner.moves],
        "parents": [one for planner in planners for one in planner.parents],
        "attributes": [one for planner in planners for one in planner.attributes],
        "left": [path for planner in planners for path in planner.left],
    }


def swap(data: dict[str, Any]) -> None:
    """Put what is staged in place of what is live. Idempotent, and finishes a swap that was cut off."""
    holds, moves = _read(data)
    for hold in holds:
        if not os.path.lexists(hold.kept):
            _rename(hold.stage, hold.kept, NOREPLACE)
            sync_dir(Path(hold.kept).parent)
    for parent in data["parents"]:
        entry = Entry.from_json(parent)
        path = Path("/") / entry.path
        if not os.path.lexists(path):
            path.mkdir(0o700)
        apply_attributes(path, entry)
    for move in moves:
        _settle(move, holds[move.hold], "staged")
    _attributes(data, "new")


def undo(data: dict[str, Any]) -> None:
    """Put what was live back, and keep what was restored in the holds. Idempotent, also over half a swap."""
    holds, moves = _read(data)
    if not any(os.path.lexists(name) for hold in holds for name in (hold.stage, hold.kept)) and _untouched(moves):
        return
    for move in reversed(moves):
        _settle(move, holds[move.hold], "live")
    for hold in holds:
        if os.path.lexists(hold.kept):
            _rename(hold.kept, hold.stage, NOREPLACE)
            sync_dir(Path(hold.kept).parent)
    _attributes(data, "old")
    for parent in reversed(data["parents"]):
        with contextlib.suppress(OSError):
            (Path("/") / Entry.from_json(parent).path).rmdir()


def discard(data: dict[str, Any]) -> None:
    """Delete the side that is not live. Refused while the sides are mixed. Idempotent."""
    holds, moves = _read(data)
    left = [hold for hold in holds if os.path.lexists(hold.kept) or os.path.lexists(hold.stage)]
    states = {_side(move, holds[move.hold]) for move in moves if holds[move.hold] in left}
    if len(states) > 1 or "moving" in states:
        raise RefusedError("the swap was cut off half-way", where=holds[0].kept, fix="restaura recover")
    for hold in left:
        remove(hold.find())


def remove(path: Path) -> None:
    """Delete a tree of ours without following links."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    sync_dir(path.parent)


def remove_staged(holds: Iterable[str]) -> None:
    """Delete holds that were staged and never swapped; a swap renames its holds first, so they are not there."""
    for hold in holds:
        if os.path.lexists(hold):
            remove(Path(hold))


def _read(data: dict[str, Any]) -> tuple[list[Hold], list[Move]]:
    return [Hold(**one) for one in data["holds"]], [Move(**one) for one in data["moves"]]


def _untouched(moves: list[Move]) -> bool:
    """Whether everything live is what was live before the swap."""
    found = [_stat(Path(one.live)) for one in moves]
    return all((now.st_ino if now else None) == one.live_inode for now, one in zip(found, moves, strict=True))


def _side(move: Move, hold: Hold) -> Literal["staged", "live", "moving"]:
    """Say which side is live, by what the hold has; SourceError when that is nothing."""
    inside = hold.find() / move.inside
    found = _stat(inside)
    inode = found.st_ino if found else None
    if os.path.lexists(_aside(inside)):
        return "moving"
    if inode is None and move.staged_inode is not None and move.live_inode is not None:
        raise SourceError("the kept copy was taken away", where=str(inside), fix=f"put it back to {inside}")
    # Only what was staged is known by its inode: overlayfs gives a file of a lower layer another one when it moves.
    return "live" if inode == move.staged_inode else "staged"


def _settle(move: Move, hold: Hold, wanted: Literal["staged", "live"]) -> None:
    """Make the wanted side live."""
    inside, live = hold.find() / move.inside, Path(move.live)
    aside = _aside(inside)
    if os.path.lexists(aside):
        _finish_pair(live, inside, aside)
    if _side(move, hold) == wanted:
        return
    if os.path.lexists(inside) and os.path.lexists(live):
        try:
            _rename(str(inside), str(live), EXCHANGE)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise SourceError(f"cannot change places: {error.strerror}", where=move.live) from error
            _rename(str(live), str(aside), NOREPLACE)
            _finish_pair(live, inside, aside)
    elif os.path.lexists(inside):
        live.parent.mkdir(parents=True, exist_ok=True)
        _rename(str(inside), str(live), NOREPLACE)
    elif os.path.lexists(live):
        inside.parent.mkdir(0o700, parents=True, exist_ok=True)
        _rename(str(live), str(inside), NOREPLACE)
    else:
        return
    sync_dir(live.parent)
    sync_dir(inside.parent)


def _finish_pair(live: Path, inside: Path, aside: Path) -> None:
    """Go on with an exchange by two renames, where the kernel has none for this file system."""
    if os.path.lexists(inside) and not os.path.lexists(live):
        os.rename(inside, live)  # noqa: PTH104  beside the other renames
    if not os.path.lexists(inside):
        os.rename(aside, inside)  # noqa: PTH104  beside the other renames
    sync_dir(live.parent)
    sync_dir(inside.parent)


def _aside(inside: Path) -> Path:
    return inside.with_name(f".restaura-aside-{inside.name}"[:255])


def _attributes(data: dict[str, Any], side: str) -> None:
    for one in reversed(data["attributes"]):
        entry = Entry.from_json(one[side])
        apply_attributes(Path("/") / entry.path, entry)


def _can_rename(live: Path, where: Path) -> bool:
    """Whether a directory can be renamed into `where`, without doing it: onto a directory that is not empty.

    That fails in any case (rename(2)), but as EXDEV or EBUSY where the directory itself cannot be moved: another
    mount, or a directory of a lower layer of overlayfs.
    """
    probe = where / ".restaura-probe"
    (probe / "full").mkdir(0o700, parents=True, exist_ok=True)
    try:
        os.rename(live, probe)  # noqa: PTH104  beside the other renames
    except OSError as error:
        return error.errno in (errno.ENOTEMPTY, errno.EEXIST)
    finally:
        shutil.rmtree(probe)
    raise RuntimeError(f"{live} was renamed onto a directory that is not empty")


def _rename(old: str, new: str, flags: int) -> None:
    """Rename (renameat2(2)): NOREPLACE or EXCHANGE; plain rename stands in for a NOREPLACE that is not known."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) == 0:
        return
    number = ctypes.get_errno()
    if flags == NOREPLACE and number in (errno.EINVAL, errno.ENOSYS) and not os.path.lexists(new):
        os.rename(old, new)  # noqa: PTH104  beside renameat2
        return
    raise OSError(number, os.strerror(number), old, None, new)


def _looked_at(base: Path, path: str) -> Entry:
    found = scan(base, [path], depth="catalog", boundaries=[path])
    return next(one for one in found.entries if one.path == path)


def _is_dir(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
