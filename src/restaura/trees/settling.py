# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store kept of a tree that nothing held still: the index is made to say exactly that."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from restaura.errors import StoreError
from restaura.trees.index import Entry, Index, above, regroup
from restaura.trees.scanning import READ, group_name, hash_file, is_racy, user_name

if TYPE_CHECKING:
    from restaura.stores import StoredEntry

ReadFile = Callable[[str], AbstractContextManager[IO[bytes]]]

# What may be read back from a store for one tree; files beyond it count as torn.
READ_BACK_FILES = 2000
READ_BACK_BYTES = 16 << 30
_CHUNK = 1 << 18


def settle(
    index: Index,
    base: Path,
    stored_entries: "Iterable[StoredEntry]",
    read_file: ReadFile,
    *,
    still: bool = False,
    doubtful: Collection[str] = (),
) -> Index:
    """Return the index of what a store holds, of a tree that was scanned into `index` and then copied from `base`.

    An entry is whole when all that the store tells of it is as scanned, and it was not touched since or its stored
    content hashes to what was scanned. Of any other file the stored content is hashed: equal to the scan's or the
    live file's, or one a beginning of the other (a log that grew), it is `changed`, else `torn`. What is neither in
    the store nor on the disk any more has `vanished`; what appeared after the scan is added. Raises StoreError when
    the store left out something that stood there untouched.

    A tree that stood `still` from scan to copy is untouched by definition, and what stands at `base` by now is of no
    interest. `doubtful` are files of it whose times vouch for nothing: their stored content is hashed.
    """
    return _Settling(index, base, read_file, still, doubtful).settle({one.path: one for one in stored_entries})


@dataclass
class _Content:
    """Stored content: size, hash, and the hash of its first bytes; not `known` when too much was read back already."""

    size: int
    sha256: str
    start: str
    known: bool = True


class _Settling:
    def __init__(self, index: Index, base: Path, read_file: ReadFile, still: bool, doubtful: Collection[str]) -> None:
        self._index, self._base, self._read_file = index, base, read_file
        self._still, self._doubtful = still, frozenset(doubtful)
        self._left_files, self._left_bytes = READ_BACK_FILES, READ_BACK_BYTES
        self._entries: list[Entry] = []
        self._vanished = list(index.vanished)
        self._changed = list(index.changed)
        self._torn = list(index.torn)

    def settle(self, stored: "dict[str, StoredEntry]") -> Index:
        missed = []
        parents = above(self._index.roots)
        for entry in self._index.entries:
            kept = stored.pop(entry.path, None)
            untouched = self._untouched(entry)
            if kept is None:
                # The index itself holds all there is to know of these.
                if entry.type in ("dir", "socket", "char", "block"):
                    self._indexed_only(entry, untouched)
                elif untouched:
                    missed.append(entry.path)
                else:
                    self._vanished.append(entry.path)
            elif entry.path in parents:
                self._entries.append(entry)
            elif kept.type != entry.type:
                self._appeared(kept)
            else:
                self._kept(entry, kept, untouched)
        if missed:
            raise StoreError(f"the store did not keep {len(missed)} entries of the tree: {', '.join(missed[:3])!r}")
        for path in sorted(stored):
            if path not in parents:
                self._appeared(stored[path])
        entries = regroup(sorted(self._entries, key=lambda one: one.path))
        return replace(self._index, entries=entries, vanished=self._vanished, changed=self._changed, torn=self._torn)

    def _untouched(self, entry: Entry) -> bool:
        if self._still:
            return True
        try:
            now = os.lstat(self._base / entry.path)
        except OSError:
            return False
        same = (now.st_ino, now.st_ctime_ns, now.st_mtime_ns) == (entry.inode, entry.ctime_ns, entry.mtime_ns)
        return same and (entry.type != "file" or now.st_size == entry.size)

    def _indexed_only(self, entry: Entry, untouched: bool) -> None:
        if untouched or not entry.whole:
            self._entries.append(entry)
        elif os.path.lexists(self._base / entry.path):
            self._entries.append(replace(entry, whole=False))
            self._changed.append(entry.path)
        else:
            self._vanished.append(entry.path)

    def _kept(self, entry: Entry, kept: "StoredEntry", untouched: bool) -> None:
        told = _as_scanned(entry, kept)
        # A ctime that the store saw unchanged vouches for what it does not tell of, such as attributes.
        sure = told and (untouched or kept.ctime_ns is not None or entry.type not in ("file", "dir"))
        if entry.type != "file":
            self._entries.append(entry if sure else replace(entry, **_link(kept, entry), whole=False))
            if not (sure and untouched):
                self._changed.append(entry.path)
            return
        if told and untouched and (kept.sha256 or not self._unsure(entry)):
            self._entries.append(entry)
            return
        content = self._content(entry, kept)
        as_scanned = content.known and (content.size, content.sha256) == (entry.size, entry.sha256)
        one_moment = content.known and (as_scanned or self._one_moment(entry, content))
        self._entries.append(
            replace(
                entry, size=content.size, sha256=content.sha256, whole=sure and one_moment and (as_scanned or untouched)
            )
        )
        if not one_moment:
            self._torn.append(entry.path)
        elif not (told and untouched and (as_scanned or not entry.sha256)):
            self._changed.append(entry.path)

    def _unsure(self, entry: Entry) -> bool:
        """Whether the content may be another though all times are the same."""
        return entry.path in self._doubtful if self._still else is_racy(entry, self._index.started_ns)

    def _one_moment(self, entry: Entry, content: _Content) -> bool:
        """Whether stored content is a state that the file was in: it grew since the scan, or is the live file's."""
        if entry.sha256 and content.size >= entry.size and content.start == entry.sha256:
            return True
        return not self._still and self._live_start(entry.path, content.size) == content.sha256

    def _live_start(self, path: str, size: int) -> str:
        """Return the SHA-256 of the first `size` bytes of the live file, or nothing when it has fewer."""
        try:
            descriptor = os.open(self._base / path, READ)
            try:
                return hash_file(descriptor, size) if os.fstat(descriptor).st_size >= size else ""
            finally:
                os.close(descriptor)
        except OSError:
            return ""

    def _content(self, entry: Entry, kept: "StoredEntry") -> _Content:
        """Hash the stored content, unless the store told its hash and the scan or the live file has the same."""
        if kept.sha256:
            told = _Content(kept.size, kept.sha256, "")
            grew = entry.sha256 and kept.size > entry.size
            if kept.sha256 == entry.sha256 or not grew or self._live_start(entry.path, kept.size) == kept.sha256:
                return told
        return self._read_back(kept, entry.size)

    def _read_back(self, kept: "StoredEntry", cut: int) -> _Content:
        self._left_files -= 1
        self._left_bytes -= kept.size
        if self._left_files < 0 or self._left_bytes < 0:
            return _Content(kept.size, kept.sha256 or "", "", known=False)
        with self._read_file(kept.path) as stream:
            return _hashes(stream, cut)

    def _appeared(self, kept: "StoredEntry") -> None:
        """Take in what the store has and the scan had not, or not of this type."""
        content, link = _Content(0, "", ""), ""
        if kept.type == "file":
            content = _Content(kept.size, kept.sha256, "") if kept.sha256 else self._read_back(kept, 0)
        elif kept.type == "link":
            link = kept.link or ""
        elif kept.type not in ("dir", "fifo"):
            return
        uid, gid = kept.uid or 0, kept.gid or 0
        default = 0o700 if kept.type == "dir" else 0o600
        self._entries.append(
            Entry(
                kept.path,
                kept.type,  # type: ignore[arg-type]
                default if kept.mode is None else kept.mode & 0o7777,
                uid,
                gid,
                user_name(uid),
                group_name(gid),
                content.size if kept.type == "file" else len(os.fsencode(link)),
                kept.mtime_ns or 0,
                link=link,
                sha256=content.sha256,
                whole=False,
            )
        )
        (self._changed if content.known else self._torn).append(kept.path)


def _as_scanned(entry: Entry, kept: "StoredEntry") -> bool:
    """Whether every attribute that the store offers is the scan's."""
    pairs = [
        (kept.mtime_ns, entry.mtime_ns),
        (kept.ctime_ns, entry.ctime_ns),
        (None if kept.mode is None else kept.mode & 0o7777, entry.mode),
        (kept.uid, entry.uid),
        (kept.gid, entry.gid),
        (kept.link if entry.type == "link" else None, entry.link),
        (kept.sha256 if entry.type == "file" and entry.sha256 else None, entry.sha256),
        (kept.size if entry.type == "file" else None, entry.size),
    ]
    return all(stored is None or stored == scanned for stored, scanned in pairs)


def _link(kept: "StoredEntry", entry: Entry) -> dict[str, Any]:
    """Return link target and size as the store has them, for a link."""
    target = kept.link if entry.type == "link" and kept.link is not None else entry.link
    return {"link": target, "size": len(os.fsencode(target))}


def _hashes(stream: IO[bytes], cut: int) -> _Content:
    """Read a stream to its end; `start` hashes its first `cut` bytes."""
    digest, size, start = hashlib.sha256(), 0, ""
    while data := stream.read(_CHUNK):
        if not start and size + len(data) >= cut:
            head = digest.copy()
            head.update(data[: cut - size])
            start = head.hexdigest()
        digest.update(data)
        size += len(data)
    return _Content(size, digest.hexdigest(), start or digest.hexdigest())
