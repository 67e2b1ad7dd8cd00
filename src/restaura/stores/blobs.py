# SPDX-License-Identifier: GPL-3.0-or-later
"""Named blobs in a local directory or below an S3 prefix: the few operations that a store is built on.

A key is a relative path of safe segments (`web1/nightly/2025-09-22/manifest.json`). A blob appears whole or not at all.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from restaura.config.schema import Store as StoreConfig
from restaura.errors import DamagedError, SpaceError, StoreError
from restaura.paths import sync_dir, write_atomic

if TYPE_CHECKING:
    from restaura.host import Host

MIB = 1 << 20
SPACE_CHECK_BYTES = 64 * MIB


@dataclass(frozen=True)
class Blob:
    """One blob of a listing."""

    key: str
    size: int


class BlobWriter(Protocol):
    """Takes one blob's bytes. Exactly one of `commit` and `abort` ends it."""

    def write(self, data: bytes) -> None:
        """Take the next bytes; StoreError or SpaceError when they could not be kept."""

    def commit(self) -> None:
        """Make the blob durable and visible."""

    def abort(self) -> None:
        """Drop what was written; raises nothing that a store can answer with."""


class Blobs(Protocol):
    """Where blobs are. `where` names the place for people; every method raises StoreError when it fails."""

    where: str

    def create(self) -> bool:
        """Make the directory or bucket when there is none; return whether it was made."""

    def probe(self) -> int | None:
        """Raise StoreError unless the place is there; return its free bytes, None where there is no such number."""

    def get(self, key: str) -> bytes | None:
        """Return a small blob's bytes, or None when there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Write a small blob, replacing an older one whole."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write a small blob unless there is one; return whether it is ours. `data` must differ between rivals."""

    def size(self, key: str) -> int | None:
        """Return a blob's size in bytes, or None when there is none."""

    def listing(self, prefix: str) -> list[Blob]:
        """Return every blob below the folder `prefix` (`""`: all), sorted by key: completely, or StoreError."""

    def open(self, key: str, start: int = 0) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Yield a blob's bytes from `start` on; DamagedError when there is none."""

    def write(self, key: str, expected: int | None = None, begun: Callable[[str], None] = lambda _: None) -> BlobWriter:
        """Begin a blob of about `expected` bytes.

        `begun` is called with the key before anything is made that `listing` does not show (an S3 multipart upload).
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete blobs; those that are gone already are no error."""

    def delete_all(self, prefix: str, begun: Iterable[str] = ()) -> None:
        """Delete everything below the folder `prefix`, unfinished writes (of the keys `begun` too) included."""


def open_blobs(config: StoreConfig, host: "Host") -> Blobs:
    """Return the blobs at a store's location, without input or output; StoreError when S3 needs boto3 and it lacks."""
    if config.location.startswith("s3:"):
        try:
            from restaura.stores.s3 import S3Blobs
        except ImportError as error:
            raise StoreError(
                f"S3 needs boto3: {error}", where=f"store {config.name}", fix="apt-get install python3-boto3"
            ) from error
        return S3Blobs(config, host)
    return LocalBlobs(Path(config.location), host, config.name)


def checked(key: str) -> str:
    """Return `key` when it is a relative path that stays below its root; DamagedError otherwise."""
    if not key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise DamagedError(f"{key!r} is no path inside a store")
    return key


class LocalBlobs:
    """Blobs as files below a directory. Temporary names begin with a dot and end in `.part` or `.tmp`."""

    def __init__(self, root: Path, host: "Host", name: str) -> None:
        self.root = root
        self.where = f"store {name} ({root})"
        self._host = host

    def create(self) -> bool:
        """Make the directory, readable by root alone."""
        if self.root.is_dir():
            return False
        with self._disk():
            self.root.mkdir(mode=0o700, parents=True)
            sync_dir(self.root.parent)
        return True

    def probe(self) -> int | None:
        """Return the free bytes of the disk."""
        self._need_root()
        with self._disk():
            return shutil.disk_usage(self.root).free

    def get(self, key: str) -> bytes | None:
        """Return a file's bytes, or None when there is none."""
        with self._disk():
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put(self, key: str, data: bytes) -> None:
        """Replace a file whole."""
        with self._disk():
            write_atomic(self._ready(key, len(data)), data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Make a file by a hard link, which never replaces one; exclusively where the disk has no links (FAT)."""
        path = self._ready(key, len(data))
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with self._disk():
            write_atomic(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                return self._exclusive(path, data)
            finally:
                temporary.unlink()
                sync_dir(path.parent)
        return True

    @staticmethod
    def _exclusive(path: Path, data: bytes) -> bool:
        try:
            with path.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            return False
        return True

    def size(self, key: str) -> int | None:
        """Return a file's size, or None when there is none."""
        with self._disk():
            try:
                return self._path(key).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def listing(self, prefix: str) -> list[Blob]:
        """Return every file below a folder but temporary ones."""
        self._need_root()
        found = []
        top = self._path(prefix) if prefix else self.root
        with self._disk():
            for directory, _, names in os.walk(top, onerror=_raise_unless_gone):
                for name in names:
                    path = Path(directory, name)
                    if not (name.startswith(".") and name.endswith((".part", ".tmp"))):
                        found.append(Blob(path.relative_to(self.root).as_posix(), path.lstat().st_size))
        return sorted(found, key=lambda blob: blob.key)

    @contextlib.contextmanager
    def open(self, key: str, start: int = 0) -> Iterator[IO[bytes]]:
        """Yield a file's bytes."""
        with self._disk():
            try:
                stream = self._path(key).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise DamagedError(f"{key} is missing", where=self.where) from None
        with stream:
            stream.seek(start)
            yield stream

    def write(self, key: str, expected: int | None = None, begun: Callable[[str], None] = lambda _: None) -> BlobWriter:  # noqa: ARG002
        """Begin a file under a temporary name."""
        path = self._ready(key, expected or 0)
        with self._disk():
            return _LocalWriter(self, path)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files, and the folders that are empty then."""
        with self._disk():
            for key in keys:
                path = self._path(key)
                path.unlink(missing_ok=True)
                self._drop_empty(path.parent)

    def delete_all(self, prefix: str, begun: Iterable[str] = ()) -> None:  # noqa: ARG002
        """Delete a folder."""
        path = self._path(prefix)
        with self._disk():
            if path.exists():
                shutil.rmtree(path)
                self._drop_empty(path.parent)

    def need_space(self, size: int) -> None:
        """Raise SpaceError unless `size` bytes fit above the reserve."""
        self._host.need_space(self.root, size, self.where)

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Tell what the disk answered as StoreError or SpaceError."""
        with self._disk():
            yield

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def _need_root(self) -> None:
        if not self.root.is_dir():
            raise StoreError(
                "the directory is not there", where=self.where, fix="mount its disk, or run setup_backup.yml to make it"
            )

    def _ready(self, key: str, size: int) -> Path:
        """Return the file of `key` once its folder exists durably and `size` bytes fit."""
        path = self._path(key)
        self._need_root()
        self.need_space(size)
        with self._disk():
            missing = [one for one in (path.parent, *path.parent.parents) if self.root in one.parents]
            for folder in reversed(missing):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
                    sync_dir(folder.parent)
        return path

    def _drop_empty(self, folder: Path) -> None:
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpaceError("the disk is full", where=self.where, fix="free space on it") from error
            raise StoreError(str(error), where=self.where, fix=f"look at the disk of {self.root}") from error


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


class _LocalWriter:
    """A file that is being written beside its final name."""

    def __init__(self, blobs: LocalBlobs, path: Path) -> None:
        self._blobs = blobs
        self._path = path
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._stream = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._unchecked = 0

    def write(self, data: bytes) -> None:
        """Write, looking at the reserve every SPACE_CHECK_BYTES."""
        self._unchecked += len(data)
        if self._unchecked >= SPACE_CHECK_BYTES:
            self._blobs.need_space(self._unchecked)
            self._unchecked = 0
        with self._blobs.disk():
            self._stream.write(data)

    def commit(self) -> None:
        """Flush to the disk and take the final name."""
        with self._blobs.disk():
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._part.rename(self._path)
            sync_dir(self._path.parent)

    def abort(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)
