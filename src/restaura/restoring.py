# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a component of a point back: checked reads, and staging with another store at hand."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from restaura import exchange
from restaura.config import load
from restaura.config.schema import Component
from restaura.errors import DamagedError, MismatchError, RestauraError, StoreError
from restaura.host import Host
from restaura.point import ComponentRecord
from restaura.sources import INDEX_SUFFIX, Source, Staged, Target
from restaura.standing import held
from restaura.stores import Store, StoredPoint
from restaura.trees import Index


class StoreReader:
    """One component of one point as one store holds it (a `PointReader`)."""

    def __init__(self, store: Store, point: StoredPoint, component: str) -> None:
        if point.manifest is None:
            raise DamagedError(point.damage or "the point has no manifest", where=f"point {point.id} in {store.name}")
        self._store, self._manifest = store, point.manifest
        self._indexes: dict[str, Index] = {}
        self._record = point.manifest.component(component)

    @property
    def point_id(self) -> str:
        """The point's id."""
        return self._manifest.id

    @property
    def component(self) -> ComponentRecord:
        """What the signed manifest says of the component."""
        return self._record

    def names(self) -> list[str]:
        """Return the names of the artifacts, tree indexes left out."""
        return [one.name for one in self._record.artifacts if not one.name.endswith(INDEX_SUFFIX)]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a stream artifact; the store checks its hash."""
        with self._store.open_stream(self._manifest, self._record.artifact(name)) as stream:
            yield stream

    def index(self, name: str) -> Index:
        """Return the settled index of a tree artifact."""
        listed = self._record.artifact(name + INDEX_SUFFIX)
        if listed.sha256 != self._record.artifact(name).sha256:
            raise DamagedError("index and tree do not belong together", where=f"{self._record.name}/{name}")
        if name not in self._indexes:
            with self._store.open_stream(self._manifest, listed) as stream:
                self._indexes[name] = Index.load(_lines(stream))
        return self._indexes[name]

    def restore_tree(self, name: str, destination: Path, paths: Sequence[str] | None = None) -> None:
        """Unpack a tree (or the entries at and below `paths`) into the existing empty `destination`."""
        artifact = self._record.artifact(name)
        self._store.restore_tree(self._manifest, artifact, self.index(name), destination, paths)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(1 << 18):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


@dataclass(frozen=True)
class Built:
    """A component that was staged: from which store, and what stands there."""

    source: Source
    staged: Staged
    reader: StoreReader
    store: str


def options_of(host: Host, name: str, point: StoredPoint) -> tuple[Component, str]:
    """Return a component's options and kind: this host's, or those the point was taken with where it has none such."""
    record = held(point.manifest, name) if point.manifest else None
    if name in host.config.kinds and (record is None or record.source == host.config.kinds[name]):
        return host.config.component(name), host.config.kinds[name]
    declared = point.manifest.config.get("components", {}) if point.manifest else {}
    only = {kind: [one for one in items if one["name"] == name] for kind, items in declared.items()}
    config = load.parse({"settings": {"host": host.name}, "components": only}, f"point {point.id}")
    return config.component(name), config.kinds[name]


def stage(
    host: Host, source: Source, candidates: Sequence[tuple[Store, StoredPoint]], component: str, target: Target
) -> Built:
    """Stage a component from the first store that gives it back whole; the errors of the others are logged.

    Raises the last store's error when none does. An error that is not a store's ends it at once.
    """
    problem: RestauraError | None = None
    before = _in_directory(target)
    for store, point in candidates:
        try:
            reader = StoreReader(store, point, component)
            return Built(source, source.stage(reader, target), reader, store.name)
        except (StoreError, MismatchError) as error:
            host.log.event("store failed", "error", store=store.name, component=component, error=str(error))
            problem = error
            # What one store gave of it is in the way of the next, and no restore.
            for one in _in_directory(target) - before:
                exchange.remove(one)
    raise problem or StoreError("no store holds the point", where=f"component {component}")


def _in_directory(target: Target) -> set[Path]:
    """Return what is in the directory that is restored to."""
    return set(Path(target.value).iterdir()) if target.kind == "dir" and Path(target.value).is_dir() else set()
