# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams out of a store whose size and SHA-256 are held against the signed manifest as they are read."""

import contextlib
import hashlib
import io
import random
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from restaura.errors import DamagedError
from restaura.point import Manifest, StoredArtifact

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from restaura.stores import Store

CHUNK = 1 << 18
SAMPLE_BYTES = 64 << 20


class _Hashing(io.RawIOBase):
    """Passes a stream through, counting and hashing it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0
        self.ended = False

    def readable(self) -> bool:
        """Say that this is for reading."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer`; 0 is the end."""
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        self.digest.update(data)
        self.size += len(data)
        self.ended = not data
        return len(data)


@contextlib.contextmanager
def checked_stream(stream: IO[bytes], artifact: StoredArtifact, where: str) -> Iterator[IO[bytes]]:
    """Yield `stream`; on leaving after its end, DamagedError unless size and hash are those of `artifact`.

    A body that leaves before the end has nothing checked.
    """
    hashing = _Hashing(stream)
    yield io.BufferedReader(hashing, CHUNK)
    if (hashing.ended or hashing.size >= artifact.bytes) and (
        hashing.size != artifact.bytes or hashing.digest.hexdigest() != artifact.sha256
    ):
        raise DamagedError(
            f"artifact {artifact.name}: {hashing.size} bytes came out, and they are not the {artifact.bytes} put in",
            where=where,
            fix="restore from another store or point",
        )


def read_one(store: "Store", manifest: Manifest) -> None:
    """Read one of a point's streams to its end, chosen by chance among those that are not large."""
    streams = [
        artifact
        for component in manifest.components
        for artifact in component.artifacts
        if component.state != "failed" and artifact.kind == "stream" and artifact.bytes <= SAMPLE_BYTES
    ]
    if streams:
        with store.open_stream(manifest, random.choice(streams)) as stream:  # noqa: S311 - a sample, not a secret
            while stream.read(CHUNK):
                pass
