# SPDX-License-Identifier: GPL-3.0-or-later
"""A point kept in memory, for tests of sources that make streams only."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from restaura.point import ComponentRecord, Depth, StoredArtifact
from restaura.sources import Source, Stream


@dataclass
class MemoryPoint:
    """One component of one point (a `PointReader` without trees)."""

    record: ComponentRecord
    data: dict[str, bytes]
    secret: set[str]

    @property
    def point_id(self) -> str:
        return "20260102T030405Z-0000abcdef"

    @property
    def component(self) -> ComponentRecord:
        return self.record

    def names(self) -> list[str]:
        return list(self.data)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        yield io.BytesIO(self.data[name])

    def index(self, name: str) -> object:
        raise NotImplementedError

    def restore_tree(self, name: str, destination: Path, paths: object = None) -> None:
        raise NotImplementedError


def take(source: Source, depth: Depth = "content") -> MemoryPoint:
    """Freeze a source and copy its streams, as the pipeline does."""
    data, secret, artifacts = {}, set(), []
    with source.freeze(depth) as frozen:
        for artifact in frozen.artifacts():
            assert isinstance(artifact, Stream)
            with artifact.open() as stream:
                data[artifact.name] = stream.read()
            if artifact.secret:
                secret.add(artifact.name)
            artifacts.append(StoredArtifact(artifact.name, "stream", len(data[artifact.name]), "", artifact.secret))
        outcome = frozen.outcome({})
    record = ComponentRecord(
        "db",
        "postgres",
        "complete",
        outcome.consistency,
        fingerprint=outcome.fingerprint,
        notes=outcome.notes,
        artifacts=artifacts,
    )
    return MemoryPoint(record, data, secret)
