# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree becomes an index: every entry looked at through directory descriptors, links never followed."""

import contextlib
import ctypes
import errno
import grp
import hashlib
import os
import pwd
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from restaura.mounts import mounts
from restaura.point import Depth
from restaura.trees.index import NO_XATTRS, Entry, EntryType, Index, above
from restaura.trees.patterns import Selection

TYPES: dict[int, EntryType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HEAD = 16
# A SQLite database is a whole number of pages, and none is smaller (sqlite.org/fileformat2.html, 1.3.2).
PAGE = 512
_libc = ctypes.CDLL(None, use_errno=True)
_CHUNK = 1 << 20
_LARGE = 1 << 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# Kernel timestamps move in ticks of up to 10 ms: a file that changed less than this before it was read may change
# again without its ctime telling.
TICK_NS = 20_000_000

ACL_XATTRS = ("system.posix_acl_access", "system.posix_acl_default")
ACL_USER, ACL_GROUP = 0x02, 0x08

OnFile = Callable[[Entry, bytes], bool]


@cache
def user_name(uid: int) -> str:
    """Return the name of a user id on this host, or nothing."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@cache
def group_name(gid: int) -> str:
    """Return the name of a group id on this host, or nothing."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def acl_entries(value: bytes) -> list[tuple[int, int, int]]:
    """Return (tag, permissions, id) of a POSIX ACL as the kernel keeps it (linux/posix_acl_xattr.h, version 2)."""
    return list(struct.iter_unpack("<HHI", value[4:])) if len(value) % 8 == 4 else []


def untold_devices() -> set[int]:
    """Return the devices (st_dev) of file systems in memory: a write through a mapping shows in no time of theirs."""
    found = set()
    for mount in mounts():
        if mount.kind in ("tmpfs", "ramfs"):
            major, minor = mount.device.split(":")
            found.add(os.makedev(int(major), int(minor)))
    return found


def is_racy(entry: Entry, started_ns: int) -> bool:
    """Whether the entry may have changed after it was read without its times telling."""
    return entry.ctime_ns >= started_ns - TICK_NS


@dataclass
class _Frame:
    """One open directory of the walk: `pending` is its own entry while it is recorded only for what is below it."""

    fd: int
    path: str
    names: Iterator[str]
    pending: Entry | None


class _Walk:
    def __init__(
        self,
        base: Path,
        selection: Selection,
        known: Mapping[str, Entry],
        known_started: int,
        depth: Depth,
        boundaries: Collection[str],
        on_file: OnFile | None,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.unreadable: dict[str, str] = {}
        self._base = str(base).rstrip("/")
        self._selection, self._known, self._known_started = selection, known, known_started
        self._untold = untold_devices()
        self._depth, self._boundaries, self._on_file, self._pool = depth, boundaries, on_file, pool
        self._hashing: deque[tuple[Entry, Future[str]]] = deque()
        self._stack: list[_Frame] = []

    def root(self, base: int, path: str) -> None:
        """Walk one root and note the directories above it."""
        fd, done = os.dup(base), ""
        try:
            *parents, name = path.split("/")
            for part in parents:
                done = f"{done}/{part}" if done else part
                if done not in self.entries:
                    self.entries[done] = replace(self._look(fd, part, done), whole=False)
                fd = _step(fd, part)
            self._visit(fd, name, path)
        except OSError as error:
            if error.errno not in _GONE:
                self.unreadable[done or path] = os.strerror(error.errno or 0)
        finally:
            os.close(fd)
        try:
            while self._stack:
                frame = self._stack[-1]
                child = next(frame.names, None)
                if child is None:
                    os.close(self._stack.pop().fd)
                else:
                    self._visit(frame.fd, child, f"{frame.path}/{child}")
        finally:
            for frame in self._stack:
                os.close(frame.fd)
        while self._hashing:
            self._hashed()

    def _visit(self, fd: int, name: str, path: str) -> None:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            is_dir = stat.S_ISDIR(found.st_mode)
            live = f"{self._base}/{path}"
            taken = self._selection.takes(live, is_dir)
            if not taken and not (is_dir and self._selection.may_take_below(live)):
                return
            if stat.S_ISREG(found.st_mode):
                self._file(fd, name, path, found)
                return
            entry = _entry(fd, name, path, found)
            if taken:
                self._record(entry)
            if is_dir and path not in self._boundaries:
                inner = os.open(name, DIRECTORY, dir_fd=fd)
                try:
                    names = iter(sorted(os.listdir(inner)))  # noqa: PTH208  a Path knows no descriptors
                except OSError:
                    os.close(inner)
                    raise
                self._stack.append(_Frame(inner, path, names, None if taken else entry))
        except OSError as error:
            if error.errno not in _GONE:
                self.unreadable[path] = os.strerror(error.errno or 0)

    def _file(self, fd: int, name: str, path: str, found: os.stat_result) -> None:
        entry = _entry(fd, name, path, found)
        known = self._known.get(path)
        told = known is not None and entry.device not in self._untold and not is_racy(known, self._known_started)
        if known is not None and told and _same(entry, known) and (known.sha256 or self._depth == "catalog"):
            same = replace(entry, sha256=known.sha256) if self._depth == "content" else entry
            # One object serves both indexes: there may be a great many.
            self._record(known if same == known else same)
            return
        asked = self._on_file if entry.size % PAGE == 0 else None
        if self._depth == "catalog" and asked is None:
            self._record(entry)
            return
        with _opened(fd, name) as file:
            if asked is not None and not asked(entry, os.pread(file, HEAD, 0)):
                return
            if self._depth == "catalog":
                self._record(entry)
                return
            # The stat that counts is the one of the very file that is read.
            entry = _entry(fd, name, path, os.fstat(file))
            if entry.size < _LARGE:
                self._record(replace(entry, sha256=hash_file(file, entry.size)))
                return
            if len(self._hashing) >= 8:
                self._hashed()
            self._record(entry)
            self._hashing.append((entry, self._pool.submit(_hash_and_close, os.dup(file), entry.size)))

    def _hashed(self) -> None:
        entry, future = self._hashing.popleft()
        try:
            self.entries[entry.path] = replace(entry, sha256=future.result())
        except OSError as error:
            del self.entries[entry.path]
            self.unreadable[entry.path] = os.strerror(error.errno or 0)

    def _record(self, entry: Entry) -> None:
        for frame in self._stack:
            if frame.pending is not None:
                self.entries[frame.path], frame.pending = frame.pending, None
        self.entries[entry.path] = entry

    def _look(self, fd: int, name: str, path: str) -> Entry:
        return _entry(fd, name, path, os.stat(name, dir_fd=fd, follow_symlinks=False))


def flush(base: Path, roots: Sequence[str]) -> int:
    """Write the file systems of `roots` (relative to `base`) to their disks (syncfs(2)); return when that began.

    From then on, a write through a shared mapping shows in its file's times: the kernel sets them at the first write to
    a page that is clean. A page may be written to again while the others are still on their way to the disk.
    """
    began, devices = time.time_ns(), set()
    for root in roots:
        with contextlib.suppress(OSError):
            descriptor = os.open(base / root, READ)
            try:
                device = os.fstat(descriptor).st_dev
                if device not in devices:
                    devices.add(device)
                    _libc.syncfs(descriptor)
            finally:
                os.close(descriptor)
    return began


def scan(
    base: Path,
    roots: Sequence[str],
    selection: Selection | None = None,
    previous: Index | None = None,
    *,
    depth: Depth = "content",
    boundaries: Collection[str] = (),
    on_file: OnFile | None = None,
    flushed_ns: int | None = None,
) -> Index:
    """Return the index of `roots` (relative to `base`, none inside another) and the directories above them.

    A file's SHA-256 is taken from `previous` when size, times, inode and device are equal, and times tell there; depth
    `catalog` reads no content. `boundaries` are directories that are recorded but not entered. `on_file` is called with
    every file of whole pages of a database that is not known from `previous`, and its first 16 bytes: opening all files
    of a tree takes longer than everything else. When it returns False, the file is left out. A
    root that is not there has no entry; what cannot be read is in `unreadable`. `selection` is asked absolute paths.
    `flushed_ns` is what `flush` returned right before: when the scan began as far as times tell.
    """
    started = time.time_ns() if flushed_ns is None else flushed_ns
    known = {one.path: one for one in previous.entries if one.type == "file"} if previous else {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        walk = _Walk(
            base,
            selection or Selection(own=False),
            known,
            previous.started_ns if previous else 0,
            depth,
            frozenset(boundaries),
            on_file,
            pool,
        )
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for root in roots:
                walk.root(descriptor, root)
        finally:
            os.close(descriptor)
    parents = above(roots)
    taken = above(one for one in walk.entries if one not in parents)
    entries = [walk.entries[one] for one in sorted(walk.entries) if one not in parents or one in taken]
    users, groups = _acl_names(entries)
    return Index(
        _hard_links(entries),
        unreadable=walk.unreadable,
        roots=list(roots),
        users=users,
        groups=groups,
        started_ns=started,
    )


def hash_file(descriptor: int, size: int) -> str:
    """Return the SHA-256 of the first `size` bytes (fewer when there are fewer) of an open file."""
    digest, offset = hashlib.sha256(), 0
    while offset < size and (data := os.pread(descriptor, min(_CHUNK, size - offset), offset)):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()


def read_xattrs(path: str, follow: bool = False) -> dict[str, bytes]:
    """Return every extended attribute of the entry at `path` itself; none where the file system has no such thing."""
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    found = {}
    for name in sorted(names):
        with contextlib.suppress(OSError):
            found[name] = os.getxattr(path, name, follow_symlinks=follow)
    return found or NO_XATTRS


def _hash_and_close(descriptor: int, size: int) -> str:
    try:
        return hash_file(descriptor, size)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(directory: int, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, READ | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        descriptor = os.open(name, READ, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _step(descriptor: int, name: str) -> int:
    """Return the descriptor of the directory `name` in place of its parent's, which is closed."""
    inner = os.open(name, DIRECTORY, dir_fd=descriptor)
    os.close(descriptor)
    return inner


def entry_of(path: str, found: os.stat_result, xattrs: dict[str, bytes], link: str = "") -> Entry:
    """Return the entry of what lstat(2) found. `hard_link` is, for now, the number of names where there are several."""
    kind = TYPES[stat.S_IFMT(found.st_mode)]
    return Entry(
        path,
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        user_name(found.st_uid),
        group_name(found.st_gid),
        found.st_size if kind in ("file", "link") else 0,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino,
        found.st_dev,
        link,
        str(found.st_nlink) if kind != "dir" and found.st_nlink > 1 else "",
        xattrs,
        "",
        found.st_rdev,
    )


def _entry(directory: int, name: str, path: str, found: os.stat_result) -> Entry:
    link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(found.st_mode) else ""
    return entry_of(path, found, read_xattrs(f"/proc/self/fd/{directory}/{name}"), link)


def _same(entry: Entry, known: Entry) -> bool:
    return (entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode, entry.device) == (
        known.size,
        known.mtime_ns,
        known.ctime_ns,
        known.inode,
        known.device,
    )


def _hard_links(entries: list[Entry]) -> list[Entry]:
    first: dict[tuple[int, int], str] = {}
    found = []
    for entry in entries:
        if entry.hard_link:
            leader = first.setdefault((entry.device, entry.inode), entry.path)
            found.append(replace(entry, hard_link="" if leader == entry.path else leader))
        else:
            found.append(entry)
    return found


def _acl_names(entries: list[Entry]) -> tuple[dict[str, str], dict[str, str]]:
    users: dict[str, str] = {}
    groups: dict[str, str] = {}
    for entry in entries:
        for attribute in ACL_XATTRS:
            for tag, _, number in acl_entries(entry.xattrs.get(attribute, b"")):
                if tag == ACL_USER:
                    users[str(number)] = user_name(number)
                elif tag == ACL_GROUP:
                    groups[str(number)] = group_name(number)
    return users, groups
