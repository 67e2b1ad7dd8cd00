# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that changed while their tree was copied are copied once more, each at a moment when it stood still."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from restaura.trees import Entry, Index
from restaura.trees.scanning import READ, TICK_NS, entry_of, read_xattrs

# What changed and is larger is left as the store has it; all copies of one run together take no more than the second.
FILE_BYTES = 256 << 20
TOTAL_BYTES = 2 << 30
_TRIES = 20
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Copied:
    """A copy in the spool and what its original was: `xattrs` are not put on the copy, the index has them."""

    path: str
    xattrs: dict[str, bytes]


def copy_changed(index: Index, base: Path, spool: Path, room: int) -> tuple[list[Copied], list[str]]:
    """Copy the files of `index` that are no longer as scanned to the same paths below `spool`; `room` is in bytes.

    Returns the copies, and the paths of files that are gone by now.

    A copy is one state of its file: its modification time was older than a tick of the kernel's clock before it was
    read, and still the same afterwards. Owner, mode and modification time of a copy are the file's. Hard links among
    the copied stay such.
    """
    left = min(TOTAL_BYTES, room)
    copied: list[Copied] = []
    gone: list[str] = []
    names: dict[int, Path] = {}
    for entry in index.entries:
        if entry.type != "file" or _as_scanned(entry, base):
            continue
        target = spool / entry.path
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        other = names.get(entry.inode)
        if other is not None and _same_file(base / other.relative_to(spool), base / entry.path):
            target.hardlink_to(other)
            copied.append(Copied(entry.path, next(one.xattrs for one in copied if spool / one.path == other)))
            continue
        made = _copy(base / entry.path, target, min(FILE_BYTES, left))
        if made is None:
            target.unlink(missing_ok=True)
            if not os.path.lexists(base / entry.path):
                gone.append(entry.path)
            continue
        names[entry.inode] = target
        left -= made.size
        copied.append(Copied(entry.path, made.xattrs))
    return copied, gone


def carry(copy: Path, entry: Entry) -> None:
    """Give a copy in the spool the owner, mode and modification time of its original."""
    os.chown(copy, entry.uid, entry.gid)
    copy.chmod(entry.mode)
    os.utime(copy, ns=(entry.mtime_ns, entry.mtime_ns))


def _as_scanned(entry: Entry, base: Path) -> bool:
    try:
        now = (base / entry.path).lstat()
    except OSError:
        return False
    return (now.st_ino, now.st_ctime_ns, now.st_size) == (entry.inode, entry.ctime_ns, entry.size)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.lstat().st_ino == other.lstat().st_ino
    except OSError:
        return False


def _copy(source: Path, target: Path, limit: int) -> Entry | None:
    """Copy one file as it stands still; return what it was, or None when it does not, is gone, or is too large."""
    try:
        descriptor = os.open(source, READ)
    except OSError:
        return None
    try:
        for _ in range(_TRIES):
            before = os.fstat(descriptor)
            if before.st_size > limit:
                return None
            # A write within the tick of the last one would not show in the time.
            if time.time_ns() - before.st_mtime_ns <= TICK_NS:
                time.sleep(TICK_NS / 1e9)
                continue
            xattrs = read_xattrs(f"/proc/self/fd/{descriptor}", follow=True)
            _write(descriptor, target, limit)
            after = os.fstat(descriptor)
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                made = entry_of("", after, xattrs)
                carry(target, made)
                return made if made.type == "file" else None
        return None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _write(descriptor: int, target: Path, limit: int) -> None:
    with target.open("wb") as out:
        offset = 0
        while offset <= limit and (data := os.pread(descriptor, _CHUNK, offset)):
            out.write(data)
            offset += len(data)
