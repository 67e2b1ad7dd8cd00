# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a tree in two passes: contents first, while it moves; what changed, while it stands still; then the rest.

What must be read while the tree stands still is contents alone: everything else is in its index. So the contents are
kept by device and inode, and become a tree (names, links, owners, modes, times, attributes) once the original is let
go. Where the file system shares blocks (ioctl_ficlone(2): btrfs, xfs), a content is copied in no time.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from restaura.errors import SourceError
from restaura.trees.applying import apply
from restaura.trees.index import Entry, Index
from restaura.trees.scanning import READ, TICK_NS, hash_file, untold_devices

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_State = tuple[int, int, int]


class Copy:
    """The copy of one tree below `base`, in the empty root-only directory `folder`."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base, self._folder = base, folder
        self._contents = folder / "contents"
        self._contents.mkdir(mode=0o700)
        self._states: dict[tuple[int, int], _State] = {}
        self._since_ns = 0
        self._changed: set[str] = set()
        self._torn: set[str] = set()
        self.copied_bytes = 0

    def first(self, index: Index, watch: Callable[[int], None]) -> None:
        """Copy the contents of a tree that moves; what cannot be read now is left to `second`."""
        self._since_ns = index.started_ns
        for entry in _contents(index):
            try:
                self._copy(entry, watch)
            except OSError as error:
                if error.errno in _FULL:
                    raise

    def second(self, index: Index, watch: Callable[[int], None]) -> None:
        """Copy what is not as it was at the first pass; SourceError when something cannot be read.

        A time within a tick of the first pass tells nothing, so what has one is copied again.
        """
        self.copied_bytes, untold = 0, untold_devices()
        for entry in _contents(index):
            known = self._states.get((entry.device, entry.inode))
            racy = entry.ctime_ns >= self._since_ns - TICK_NS
            if known != _state(entry) or racy or entry.device in untold:
                try:
                    moved = self._copy(entry, watch)
                except OSError as error:
                    if error.errno in _FULL:
                        raise
                    raise SourceError(f"cannot be copied: {error.strerror}", where=f"/{entry.path}") from error
                if moved is not None:
                    (self._changed if moved else self._torn).add(entry.path)

    def finish(self, index: Index) -> tuple[Path, Index]:
        """Make the contents a tree; return its base, and the index with the inodes and times of change it has there.

        What did not stand still after all is `changed` or `torn` in it.
        """
        base = self._folder / "tree"
        base.mkdir(mode=0o700)
        entries = []
        for entry in index.entries:
            path = base / entry.path
            now = entry
            if entry.type == "dir":
                path.mkdir(mode=0o700)
            elif entry.type == "file":
                if entry.hard_link:
                    path.hardlink_to(base / entry.hard_link)
                else:
                    self._content(entry.device, entry.inode).rename(path)
                if (entry.hard_link or entry.path) in self._changed | self._torn:
                    now = _as_copied(entry, path)
            elif entry.type == "link":
                path.symlink_to(entry.link)
            entries.append(now)
        index = replace(
            index,
            entries=entries,
            changed=sorted({*index.changed, *self._changed}),
            torn=sorted({*index.torn, *self._torn}),
        )
        apply(index, base)
        return base, located(index, base)

    def _copy(self, entry: Entry, watch: Callable[[int], None]) -> bool | None:
        """Copy one content; return None when it is as the index has it, else whether it is one state of the file."""
        descriptor = os.open(self._base / entry.path, READ)
        try:
            before = os.fstat(descriptor)
            # The path may lead elsewhere by now, over a link that was put in it.
            if (before.st_dev, before.st_ino) != (entry.device, entry.inode):
                raise FileNotFoundError(errno.ENOENT, "is another file by now")
            target = self._content(entry.device, entry.inode)
            target.unlink(missing_ok=True)
            self.copied_bytes += copy_content(descriptor, target, watch)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        state = (before.st_size, before.st_mtime_ns, before.st_ctime_ns)
        self._states[entry.device, entry.inode] = state
        same = state == (after.st_size, after.st_mtime_ns, after.st_ctime_ns)
        return None if same and state == _state(entry) else same

    def _content(self, device: int, inode: int) -> Path:
        return self._contents / f"{device:x}-{inode:x}"


def copy_content(descriptor: int, target: Path, watch: Callable[[int], None]) -> int:
    """Copy an open file's content to the new file `target`, its holes too; return the bytes that had to be copied.

    `watch` gets the bytes copied since its last call, and may raise.
    """
    with target.open("xb") as out:
        if _cloned(descriptor, out.fileno()):
            watch(0)
            return 0
        size, at, copied = os.fstat(descriptor).st_size, 0, 0
        while at < size:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            at = start
            while at < end and (data := os.pread(descriptor, min(_CHUNK, end - at), at)):
                out.seek(at)
                out.write(data)
                at, copied = at + len(data), copied + len(data)
                watch(len(data))
            if at < end:
                break
        out.truncate(size)
        return copied


def can_clone(index: Index, base: Path, folder: Path) -> bool:
    """Whether every file system that the tree's files are on shares blocks with that of `folder`."""
    first: dict[int, str] = {}
    for entry in _contents(index):
        if entry.size:
            first.setdefault(entry.device, entry.path)
    probe = folder / "clone"
    for path in first.values():
        try:
            descriptor = os.open(base / path, READ)
        except OSError:
            return False
        try:
            with probe.open("xb") as out:
                if not _cloned(descriptor, out.fileno()):
                    return False
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    return bool(first)


def located(index: Index, base: Path) -> Index:
    """Return the index of the same tree as it stands at `base`: its own inodes, devices and times of change."""
    time.sleep(TICK_NS / 1e9)
    entries = []
    for entry in index.entries:
        with contextlib.suppress(FileNotFoundError):
            found = (base / entry.path).lstat()
            entry = replace(entry, inode=found.st_ino, device=found.st_dev, ctime_ns=found.st_ctime_ns)  # noqa: PLW2901
        entries.append(entry)
    return replace(index, entries=entries, started_ns=time.time_ns())


def _contents(index: Index) -> Iterable[Entry]:
    return (one for one in index.entries if one.type == "file" and not one.hard_link)


def _state(entry: Entry) -> _State:
    return entry.size, entry.mtime_ns, entry.ctime_ns


def _cloned(descriptor: int, out: int) -> bool:
    try:
        fcntl.ioctl(out, FICLONE, descriptor)
    except OSError:
        return False
    return True


def _as_copied(entry: Entry, path: Path) -> Entry:
    descriptor = os.open(path, READ)
    try:
        size = os.fstat(descriptor).st_size
        sha256 = hash_file(descriptor, size) if entry.sha256 else ""
    finally:
        os.close(descriptor)
    return replace(entry, size=size, sha256=sha256, whole=False)
