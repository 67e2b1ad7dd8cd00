# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees as plain files in a dated store: every regular file is one blob at its own path; all else is in the index.

Beside them lies a list of the blobs' hashes, which `sha256sum --check` reads in the point's folder. The signed manifest
has the list's own hash, so each file is held against a hash that nobody without the key can change.
"""

import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from restaura.errors import DamagedError, StoreError
from restaura.point import StoredArtifact
from restaura.sources import Tree
from restaura.stores import StoredEntry
from restaura.stores.blobs import checked
from restaura.trees import Entry, Index, below
from restaura.trees.scanning import READ

LIST_SUFFIX = ".sha256"
FILES = "files"  # the key of a locator that tells an expanded tree
MOST_FILES = 10_000
# What is left of a file system's 255 bytes for a name and of S3's 1024 for a key, after prefix and suffixes.
LONGEST_NAME, LONGEST_PATH = 220, 700
SMALL_BYTES = 4 << 20  # larger files are copied one at a time: S3 holds a part of each in memory
THREADS = 4
WATCH_SECONDS = 1.0
CHUNK = 1 << 18
_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)\n")

Opened = Callable[[str], AbstractContextManager[IO[bytes]]]


def files(tree: Tree) -> list[Entry]:
    """Return the entries that become blobs; every name of a hard link is one."""
    return [one for one in tree.index.entries if one.type == "file"]


def hindrance(tree: Tree, names: Sequence[str], taken: Collection[str]) -> str:
    """Say why a tree cannot be stored as the blobs `names` beside those that are `taken`; nothing when it can.

    Names are paths of one point's folder. What would be one file on a disk that knows no upper case counts as the same.
    """
    entries = files(tree)
    if len(entries) > MOST_FILES:
        return f"it has {len(entries)} files, more than {MOST_FILES}"
    outside = [one.path for one in entries if tree.top and not one.path.startswith(f"{tree.top}/")]
    if outside:
        return f"{outside[0]!r} lies outside of {tree.top!r}"
    for entry in entries:
        if why := _unfit(entry.path):
            return f"the name {entry.path!r} {why}"
    known = {one.casefold() for one in taken}
    folders = _folders(known)
    for name in names:
        folded = name.casefold()
        if folded in known or folded in folders or _folders([folded]) & known:
            return f"{name!r} collides with another file"
        known.add(folded)
        folders |= _folders([folded])
    return ""


def _unfit(path: str) -> str:
    if any(0xDC80 <= ord(char) <= 0xDCFF for char in path):
        return "is no UTF-8"
    if any(ord(char) < 32 or ord(char) == 127 or char == "\\" for char in path):
        return "holds a control character or a backslash"
    parts = path.split("/")
    if len(path.encode()) > LONGEST_PATH or any(len(one.encode()) > LONGEST_NAME for one in parts):
        return "is too long"
    if any(one in ("", ".", "..") for one in parts):
        return "leads elsewhere"
    if any(one.startswith(".") and one.endswith((".part", ".tmp")) for one in parts):
        return "is like that of a file that is being written"
    return ""


def _folders(paths: Iterable[str]) -> set[str]:
    return {"/".join(parts[:count]) for path in paths for parts in [path.split("/")] for count in range(1, len(parts))}


def told(base: Path, entry: Entry) -> StoredEntry | None:
    """Return what stands at an entry's path now, when that is nothing with content; None when it is gone."""
    try:
        now = os.lstat(base / entry.path)
        kind = {stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}.get(stat.S_IFMT(now.st_mode))
        link = os.readlink(base / entry.path) if kind == "link" else ""  # noqa: PTH115 - a Path would change its text
    except OSError:
        return None
    return _entry(entry.path, kind, now, len(os.fsencode(link)), link) if kind else None


def _entry(path: str, kind: str, now: os.stat_result, size: int, link: str = "", sha256: str = "") -> StoredEntry:
    times = now.st_mtime_ns, now.st_ctime_ns
    return StoredEntry(
        path, kind, size, *times, stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid, link, sha256 or None
    )


def copy_file(base: Path, entry: Entry, write: Callable[[bytes], object], tick: Callable[[], None]) -> StoredEntry:
    """Write a file's content as it is now; FileNotFoundError when there is no such file any more."""
    try:
        descriptor = os.open(base / entry.path, READ)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(entry.path) from error
        raise StoreError(f"cannot be read: {error.strerror}", where=f"{base / entry.path}") from error
    digest, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(entry.path)
        while data := stream.read(CHUNK):
            tick()
            digest.update(data)
            size += len(data)
            write(data)
        # Its times now: what was written while it was read is seen by them.
        return _entry(entry.path, "file", os.fstat(descriptor), size, sha256=digest.hexdigest())


def each(entries: Sequence[Entry], act: Callable[[Entry, Callable[[], None]], None], watch: Callable[[], None]) -> None:
    """Do `act` for every entry, small files several at a time; the first error ends it.

    `watch` is called every second, and ends it by raising. `act` gets what it must call now and then.
    """
    ended, last = threading.Event(), time.monotonic()

    def stop() -> None:
        if ended.is_set():
            raise StoreError("was ended")

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > WATCH_SECONDS:
            last = time.monotonic()
            watch()

    with ThreadPoolExecutor(THREADS) as pool:
        running = {pool.submit(act, one, stop) for one in entries if one.size <= SMALL_BYTES}
        try:
            while running:
                watch()
                done, running = wait(running, WATCH_SECONDS, FIRST_EXCEPTION)
                for one in done:
                    one.result()
        except BaseException:
            ended.set()
            pool.shutdown(cancel_futures=True)
            raise
    for entry in entries:
        if entry.size > SMALL_BYTES:
            act(entry, tick)


def dump_list(hashes: Mapping[str, str]) -> bytes:
    """Return the list of blobs (path below the point's folder: SHA-256 of what is stored)."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(hashes.items())).encode()


def load_list(raw: bytes | None, artifact: StoredArtifact, where: str) -> dict[str, str]:
    """Return the list that an expanded tree's manifest entry names; DamagedError when it is not that one."""
    if raw is None:
        raise DamagedError("is missing", where=where)
    if hashlib.sha256(raw).hexdigest() != artifact.stored["sha256"]:
        raise DamagedError("the stored bytes were changed", where=where)
    return {checked(path.decode()): sha256.decode() for sha256, path in _LINE.findall(raw)}


def name_of(stored: Mapping[str, object], path: str) -> str:
    """Return the blob of the entry `path`, below the point's folder; `stored` is the tree's locator."""
    top, folder = str(stored["top"]), str(stored["folder"])
    inside = path.removeprefix(f"{top}/") if top else path
    return f"{folder}/{inside}{suffix(stored)}"


def suffix(stored: Mapping[str, object]) -> str:
    """Return what a locator's layers add to a file's name."""
    return ".gz" * bool(stored.get("gzip")) + ".zst" * bool(stored["zstd"]) + ".age" * bool(stored["age"])


def restore(index: Index, destination: Path, paths: Sequence[str] | None, opened: Opened) -> list[str]:
    """Make the entries of `index` (at and below `paths`) in the empty `destination`; return device nodes left out.

    `opened` yields the checked content of a file by its entry's path. Links come last, so that nothing is written
    through one.
    """
    wanted = [one for one in index.entries if paths is None or below(one.path, paths)]
    contents, linked = _made_dirs(index, wanted, destination)

    def write(entry: Entry, tick: Callable[[], None]) -> None:
        with opened(entry.path) as stream, (destination / entry.path).open("xb") as out:
            while data := stream.read(CHUNK):
                tick()
                if data.strip(b"\0"):
                    out.write(data)
                else:
                    out.seek(len(data), os.SEEK_CUR)
            out.truncate(entry.size)

    each(contents, write, lambda: None)
    for entry, first in linked:
        (destination / entry.path).hardlink_to(destination / first.path)
    for entry in wanted:
        if entry.type == "link":
            (destination / entry.path).symlink_to(entry.link)
        elif entry.type == "fifo":
            os.mkfifo(destination / entry.path, 0o600)
    return [one.path for one in wanted if one.type in ("char", "block")]


def _made_dirs(
    index: Index, wanted: Sequence[Entry], destination: Path
) -> tuple[list[Entry], list[tuple[Entry, Entry]]]:
    """Make all directories; return the files to write, and those to link to one of them."""
    known = {one.path: one for one in index.entries}
    leaders: dict[str, Entry] = {}
    contents, linked = [], []
    for entry in wanted:
        parent = known.get(entry.path.rpartition("/")[0])
        if any(one in ("", ".", "..") for one in entry.path.split("/")) or (parent and parent.type != "dir"):
            raise DamagedError(f"the index holds {entry.path!r} inside of what is no directory")
        target = destination / entry.path
        (target if entry.type == "dir" else target.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        if entry.type == "file":
            first = leaders.setdefault(entry.hard_link or entry.path, entry)
            # Names that were one file when it was scanned may be two by the time they were stored.
            same = (first.whole and entry.whole) or first.sha256 == entry.sha256 != ""
            if first is entry or not same:
                contents.append(entry)
            else:
                linked.append((entry, first))
    return contents, linked
