# SPDX-License-Identifier: GPL-3.0-or-later
"""The small streams of points, read out of a restic repository together: each start of restic costs half a second."""

import contextlib
import io
import os
import tarfile
import tempfile
import threading
import weakref
from typing import IO, TYPE_CHECKING

from restaura.errors import DamagedError
from restaura.paths import private_dir
from restaura.stores.repository import Repository

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from restaura.host import Host

CHUNK = 1 << 18


class SmallStreams:
    """Copies of whole snapshots, in files without names."""

    def __init__(self, repository: Repository, host: "Host") -> None:
        self._repository, self._host = repository, host
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._copies: dict[str, _Copy] = {}

    def open(self, snapshot: str, path: str, size: int, worthwhile: int) -> IO[bytes] | None:
        """Return the content of one file, or None when it has to be read by itself.

        A snapshot whose files take `size` bytes is copied at once when that is no more than `worthwhile`, else when it
        is asked for again.
        """
        with self._lock:
            if snapshot not in self._copies:
                if size > worthwhile and snapshot not in self._asked:
                    self._asked.add(snapshot)
                    return None
                folder = private_dir(self._host.paths.spool)
                self._host.need_space(folder, size, self._repository.where)
                self._copies[snapshot] = _Copy(self._repository, snapshot, folder)
            return self._copies[snapshot].open(path)


class _Copy:
    """The files of one snapshot, one after another; of a damaged one those that come before the damage."""

    def __init__(self, repository: Repository, snapshot: str, folder: os.PathLike[str]) -> None:
        self._file, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)  # noqa: PTH108 - the name is a plain text
        weakref.finalize(self, os.close, self._file)
        self._places: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(DamagedError, tarfile.TarError), repository.archive(snapshot) as stream:
            self._fill(stream)

    def open(self, path: str) -> IO[bytes] | None:
        """Return one file's content; None when it is not there."""
        place = self._places.get(path)
        return io.BufferedReader(_Part(self, self._file, *place), CHUNK) if place else None

    def _fill(self, stream: IO[bytes]) -> None:
        at = 0
        with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                start = at
                while content and (data := content.read(CHUNK)):
                    at += os.pwrite(self._file, data, at)
                if content:
                    self._places[member.name] = start, at - start
        while stream.read(CHUNK):
            pass


class _Part(io.RawIOBase):
    """A part of a file, read without moving its offset. It keeps `owner`, who closes the file, alive."""

    def __init__(self, owner: _Copy, file: int, start: int, size: int) -> None:
        self._owner, self._file, self._at, self._end = owner, file, start, start + size

    def readable(self) -> bool:
        """Say that this is for reading."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer`; 0 is the end."""
        view = memoryview(buffer).cast("B")
        data = os.pread(self._file, min(len(view), self._end - self._at), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
