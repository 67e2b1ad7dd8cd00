# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run writes to: each store that takes part, and what it holds of the point so far."""

from dataclasses import dataclass, field

from restaura.errors import StoreError
from restaura.point import StoredArtifact
from restaura.sources import Outcome
from restaura.stores import PointWriter, Store, StoredPoint
from restaura.trees import Index


@dataclass
class Captured:
    """What one store holds of one component so far."""

    artifacts: list[StoredArtifact] = field(default_factory=list)
    indexes: dict[str, Index] = field(default_factory=dict)
    error: str = ""
    outcome: Outcome | None = None


@dataclass
class Sink:
    """One store of this run, its writer, and what it holds of each component."""

    store: Store
    fed: bool
    previous: list[StoredPoint]
    writer: PointWriter | None = None
    error: str = ""
    captured: dict[str, Captured] = field(default_factory=dict)
    sealed: StoredPoint | None = None
    listed: list[StoredPoint] = field(default_factory=list)

    def of(self, component: str) -> Captured:
        """Return what this store holds of `component`."""
        return self.captured.setdefault(component, Captured())

    @property
    def open_writer(self) -> PointWriter:
        """The writer; StoreError when this store takes no part any more."""
        if self.writer is None:
            raise StoreError(self.error or "the store takes no part", where=f"store {self.store.name}")
        return self.writer
