# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees in a restic repository: which paths restic is given, what it then holds, what a restore may leave behind."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from restaura.errors import DamagedError
from restaura.stores import StoredEntry
from restaura.stores.repository import Node, Repository, nodes
from restaura.trees import Entry, Index

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def cover(base: Path, index: Index) -> list[str]:
    """Return the fewest paths that bring in all of `index` and nothing else that now stands below `base`.

    A directory of which everything was left out is brought in by none of them, nor are sockets, which restic skips:
    the index itself holds all there is to know of these.
    """
    children: dict[str, dict[str, bool]] = {}
    folders = {one.path for one in index.entries if one.type == "dir"}
    for one in index.entries:
        folder, _, name = one.path.rpartition("/")
        children.setdefault(folder, {})[name] = one.path in folders
    sockets = {one.path for one in index.entries if one.type == "socket"}
    brought: dict[str, list[str]] = {}
    whole: set[str] = set()
    for folder in sorted({*folders, ""}, key=lambda path: path.count("/") + bool(path), reverse=True):
        known = children.get(folder, {})
        inside = {f"{folder}/{name}" if folder else name: is_folder for name, is_folder in known.items()}
        subfolders = [path for path, is_folder in inside.items() if is_folder]
        if folder and _names(base / folder) <= known.keys() and whole.issuperset(subfolders):
            whole.add(folder)
            brought[folder] = [folder]
        else:
            leaves = [path for path, is_folder in inside.items() if not is_folder and path not in sockets]
            brought[folder] = leaves + [one for path in subfolders for one in brought.pop(path)]
    return sorted(brought[""])


def _names(folder: Path) -> set[str]:
    """Return the names in a folder; none when it cannot be read: restic then says what is wrong."""
    try:
        return {one.name for one in folder.iterdir()}
    except OSError:
        return set()


class Names:
    """Finds the exact path of an entry that restic lists with U+FFFD for bytes that are not UTF-8."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._odd: dict[str, list[Entry]] = {}
        for one in entries:
            shown = _lossy(one.path)
            if "\ufffd" in shown:
                self._odd.setdefault(shown, []).append(one)

    def exact(self, node: Node) -> str | None:
        """Return the path of `node`, or None when it is no entry's. Entries that look alike are told by their inode."""
        if "\ufffd" not in node.path:
            return node.path
        there = self._odd.get(node.path, [])
        found = next((one for one in there if one.inode == node.inode), there[0] if len(there) == 1 else None)
        if found is None:
            return None
        there.remove(found)
        return found.path


def _lossy(path: str) -> str:
    """Return `path` as Go's encoding/json writes it: each byte that is not UTF-8 as U+FFFD."""
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in path)


def stored_entries(repository: Repository, snapshot: str, index: Index, listing: IO[bytes]) -> Iterator[StoredEntry]:
    """Yield what `listing` says that a snapshot holds.

    What came in beside the index and has no name in UTF-8 is passed over: a restore drops it.
    """
    names, scanned = Names(index.entries), {one.path: one for one in index.entries if one.type == "link"}
    for one in nodes(listing):
        path = names.exact(one)
        if path is None:
            continue
        link = None
        # A listing does not tell where links lead; only of one that was made since the scan need it be known.
        if one.type == "link" and (path not in scanned or scanned[path].ctime_ns != one.ctime_ns):
            link = repository.link_target(snapshot, path, one.inode)
        yield StoredEntry(path, one.type, one.size, one.mtime_ns, one.ctime_ns, one.mode, one.uid, one.gid, link)


def conform(destination: Path, index: Index, where: str) -> None:
    """Make what restic unpacked hold the index's entries and nothing else.

    Removes what else came out, makes directories that are missing (root-only: the rest is for `trees.apply`).
    DamagedError when an entry is missing or not of its type, size and target. Device nodes are never there.
    """
    wanted, seen = {one.path: one for one in index.entries}, set()
    folders = [""]
    while folders:
        folder = folders.pop()
        for found in os.scandir(destination / folder):
            path = f"{folder}/{found.name}" if folder else found.name
            status = found.stat(follow_symlinks=False)
            entry, kind = wanted.get(path), _KINDS.get(stat.S_IFMT(status.st_mode), "device")
            if entry is None:
                if kind == "dir":
                    shutil.rmtree(found.path)
                else:
                    Path(found.path).unlink()
            elif kind != entry.type or _differs(entry, Path(found.path), status.st_size):
                raise DamagedError(f"{path!r} came out otherwise than its index says", where=where)
            else:
                seen.add(path)
                if kind == "dir":
                    folders.append(path)
    lost = [path for path, one in wanted.items() if one.type in {"file", "link"} and path not in seen]
    if lost:
        raise DamagedError(f"{len(lost)} entries did not come out, first {lost[0]!r}", where=where)
    for path, one in wanted.items():
        if one.type == "dir" and path not in seen:
            (destination / path).mkdir(mode=0o700, parents=True, exist_ok=True)


def _differs(entry: Entry, path: Path, size: int) -> bool:
    if entry.type == "link":
        return os.readlink(path) != entry.link  # noqa: PTH115 - a Path would tidy the target
    return entry.type == "file" and size != entry.size
