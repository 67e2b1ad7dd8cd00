# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes on their way into and out of blobs: through zstd and age, hashed on both sides."""

import contextlib
import hashlib
import io
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from restaura.errors import DamagedError, StoreError
from restaura.process import Child, failure
from restaura.stores.blobs import BlobWriter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 18
Filters = Sequence[Sequence[str]]


class _Pipeline:
    """Programs one after the other, each reading what the one before wrote, with a thread beside them."""

    def __init__(self, filters: Filters) -> None:
        self.children: list[Child] = []
        self.thread = ThreadPoolExecutor(1)
        try:
            for argv in filters:
                before = self.children[-1].stdout if self.children else subprocess.PIPE
                self.children.append(Child(argv, stdin=before))
                if not isinstance(before, int):
                    # Ours too would keep the one before from noticing that the one after died.
                    before.close()
        except BaseException:
            self.close()
            raise

    def failures(self) -> list[str]:
        """Wait for the programs, and tell of those that failed."""
        codes = [(child, child.wait()) for child in self.children]
        return [failure(child.argv, code, child.errors()) for child, code in codes if code]

    def kill(self) -> None:
        """Kill what still runs; who reads or writes its pipes finds them broken."""
        for child in self.children:
            if child.process.poll() is None:
                child.kill()

    def close(self) -> None:
        """Kill what still runs, and end the thread."""
        self.kill()
        self.thread.shutdown()
        for child in self.children:
            child.close()


class Encoder:
    """Takes plain bytes, and writes what `filters` make of them into a blob. Ends like the blob's writer."""

    def __init__(self, filters: Filters, blob: BlobWriter, where: str) -> None:
        self._blob = blob
        self._where = where
        self._digest = hashlib.sha256()
        self._size = 0
        self._pipeline: _Pipeline | None = None
        if filters:
            try:
                self._pipeline = _Pipeline(filters)
            except BaseException:
                blob.abort()
                raise
            self._pumping = self._pipeline.thread.submit(self._pump, self._pipeline)

    def write(self, data: bytes) -> None:
        """Take the next plain bytes; what the store or a filter failed with is raised at the next call."""
        if self._pipeline is None:
            self._keep(data)
            return
        try:
            self._pipeline.children[0].stdin.write(data)
        except OSError as error:
            self._raise(self._pipeline, error)

    def commit(self) -> tuple[int, str]:
        """End the blob; return the size and SHA-256 of what is stored."""
        if self._pipeline is not None:
            try:
                self._pipeline.children[0].stdin.close()
            except OSError as error:
                self._raise(self._pipeline, error)
            self._pumping.result()
            failures = self._pipeline.failures()
            self._pipeline.close()
            if failures:
                raise StoreError("; ".join(failures), where=self._where)
        self._blob.commit()
        return self._size, self._digest.hexdigest()

    def abort(self) -> None:
        """Drop everything; never raises."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._blob.abort()

    def _pump(self, pipeline: _Pipeline) -> None:
        try:
            while data := pipeline.children[-1].stdout.read(CHUNK):
                self._keep(data)
        except BaseException:
            pipeline.kill()
            raise

    def _keep(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._blob.write(data)

    def _raise(self, pipeline: _Pipeline, error: OSError) -> None:
        """Tell why a filter went away: the blob's failure if there is one, else its own."""
        self._pumping.result()
        raise StoreError("; ".join(pipeline.failures()) or str(error), where=self._where) from error


class _PlainReader(io.RawIOBase):
    """What `filters` make of stored bytes. Reading the end checks everything, and raises what was wrong.

    `stored_sha256` is of the stored bytes; `size` and `sha256`, unless None, of the plain ones.
    """

    def __init__(
        self, filters: Filters, source: IO[bytes], stored_sha256: str, size: int | None, sha256: str | None, where: str
    ) -> None:
        self._source = source
        self._stored = stored_sha256
        self._size = size
        self._sha256 = sha256
        self._where = where
        self._count = 0
        self._digest = hashlib.sha256()
        # `cat` where nothing has to be undone: one way to check what was stored.
        self._pipeline = _Pipeline(filters or [["cat"]])
        self._feeding = self._pipeline.thread.submit(self._feed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._pipeline.children[-1].stdout.read(len(view))
        if not data:
            self._check()
        view[: len(data)] = data
        self._count += len(data)
        self._digest.update(data)
        return len(data)

    @property
    def complete(self) -> bool:
        """Whether every byte that was expected has been read."""
        return self._count == self._size

    def close(self) -> None:
        if not self.closed:
            self._pipeline.close()
        super().close()

    def _feed(self) -> None:
        digest = hashlib.sha256()
        stdin = self._pipeline.children[0].stdin
        try:
            while data := self._source.read(CHUNK):
                digest.update(data)
                stdin.write(data)
        except BrokenPipeError:
            # The filter's own exit code tells why, or nobody reads on.
            return
        finally:
            with contextlib.suppress(OSError):
                stdin.close()
        if digest.hexdigest() != self._stored:
            raise DamagedError("the stored bytes were changed", where=self._where)

    def _check(self) -> None:
        self._feeding.result()
        if failures := self._pipeline.failures():
            raise DamagedError("; ".join(failures), where=self._where)
        if self._size is not None and self._count != self._size:
            raise DamagedError(f"{self._count} bytes came back of {self._size}", where=self._where)
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            raise DamagedError("what came back is not what was stored", where=self._where)


@contextlib.contextmanager
def decoding(
    filters: Filters,
    source: AbstractContextManager[IO[bytes]],
    *,
    stored_sha256: str,
    where: str,
    size: int | None = None,
    sha256: str | None = None,
) -> Iterator[IO[bytes]]:
    """Yield plain bytes; DamagedError at their end, or on leaving after the last one, when they are not as stored.

    A body that leaves earlier is told nothing.
    """
    with source as opened:
        reader = _PlainReader(filters, opened, stored_sha256, size, sha256, where)
        with io.BufferedReader(reader, CHUNK) as stream:
            yield stream
            if reader.complete:
                stream.read(1)
