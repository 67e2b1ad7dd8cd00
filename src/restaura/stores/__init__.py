# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a store: where points live. A manifest is written last and deleted first."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from restaura.point import Manifest, Record, StoredArtifact
from restaura.sources import Stream, Tree
from restaura.trees import Index

if TYPE_CHECKING:
    from restaura.config.schema import Store as StoreConfig
    from restaura.host import Host

LAYOUT_VERSION = 1


@dataclass(frozen=True)
class StoredPoint:
    """A sealed point as a listing shows it. `where` is the store's own locator of the manifest.

    `damage` says why a manifest could not be read or trusted; such a point has no `manifest` and counts for nothing,
    but is shown, and keeps retention from deleting anything in this store.
    """

    id: str
    host: str
    plan: str
    label: str
    where: dict[str, Any]
    manifest: Manifest | None = None
    records: tuple[Record, ...] = ()
    damage: str = ""


@dataclass(frozen=True)
class Writer:
    """Who writes into a store: one document per host in `writers/`, made by setup, replaced only by `adopt`."""

    host: str
    identity: str
    plans: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreInfo:
    """What a store says of itself: `free_bytes` is None where there is no such number (S3)."""

    version: str
    free_bytes: int | None = None
    writers: tuple[Writer, ...] = ()
    warnings: list[str] = field(default_factory=list)


class StreamWriter(Protocol):
    """Takes one stream of bytes. Exactly one of `commit` and `abort` ends it; a writer that raised is aborted."""

    def write(self, data: bytes) -> None:
        """Take the next bytes; StoreError when the store failed."""

    def commit(self, size: int, sha256: str) -> StoredArtifact:
        """End the artifact: `size` and `sha256` are of the plain stream, as the pipeline counted them."""

    def abort(self) -> None:
        """Drop what was written. Never raises."""


class PointWriter(Protocol):
    """A point that is being written. It does not exist for anybody until `seal`."""

    label: str

    def stream(self, component: str, artifact: Stream) -> StreamWriter:
        """Begin a stream artifact."""

    def first_pass(self, component: str, artifact: Tree, watch: Callable[[], None]) -> None:
        """Read a tree that still moves, so that `tree` need only read what changed since; it is no part of the point.

        What cannot be read now is passed over. `watch` is called every second and may raise to stop it.
        """

    def tree(self, component: str, artifact: Tree, watch: Callable[[], None] = lambda: None) -> StoredArtifact:
        """Copy a tree, all of it or StoreError. `sha256` of the result is empty: the pipeline fills it in.

        `watch` is called every second at least, while there is something to write, and may raise to stop it.
        """

    def tree_entries(self, stored: StoredArtifact) -> "Iterator[StoredEntry]":
        """Yield what `tree` stored, for settling the index."""

    def read_file(self, stored: StoredArtifact, path: str) -> AbstractContextManager[IO[bytes]]:
        """Yield the content of one file that `tree` stored (entry path, relative to the tree's base)."""

    def notes(self, component: str) -> list[str]:
        """Say what a person should know of how this store keeps a component, after its artifacts were stored."""

    def seal(self, manifest: Manifest) -> StoredPoint:
        """Make everything durable, then write the signed manifest last."""

    def abort(self) -> None:
        """Remove everything this writer wrote. Never raises; what it could not remove the journal still names."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One tree entry as a store holds it; None where the store does not keep that attribute."""

    path: str
    type: str
    size: int
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    link: str | None = None
    sha256: str | None = None


class Store(Protocol):
    """One configured store. Opening one does no input or output; every method may raise StoreError.

    One that `deduplicates` reads of a tree only what changed since it last read it.
    """

    name: str
    remote: bool
    deduplicates: bool

    def check(self, writing: bool) -> StoreInfo:
        """Say whether the store is there, is this layout, opens with our keys and (when `writing`) takes a write.

        IdentityError when this host's name is taken by another identity, or when the store admits one host and
        another is there. Never creates the store.
        """

    def create(self, writer: Writer) -> bool:
        """Make the store and register its writer (setup only). Return whether anything changed."""

    def adopt(self, writer: Writer) -> None:
        """Replace the writer document of `writer.host`."""

    def put_kit_files(self, files: dict[str, bytes], check: bool = False) -> list[str]:
        """Keep at the root what a bare machine needs (program, configuration without secrets, runbook).

        Return the names that changed, with `check` those that would. Nothing in `files` is secret.
        """

    def points(self, host: str | None = None) -> list[StoredPoint]:
        """Return every sealed point, oldest first: a complete listing or StoreError, never a part."""

    def begin(self, point_id: str, host: str, plan: str, label: str) -> PointWriter:
        """Claim a prefix and begin a point. `label` is what is wished for; the writer's own says what was free."""

    def open_stream(self, manifest: Manifest, artifact: StoredArtifact) -> AbstractContextManager[IO[bytes]]:
        """Yield the plain bytes of a stream artifact; DamagedError or StoreError when they cannot be read whole."""

    def restore_tree(
        self, manifest: Manifest, artifact: StoredArtifact, index: Index, destination: Path, paths: Sequence[str] | None
    ) -> None:
        """Unpack a tree into the existing empty `destination`; never outside it, never a device node.

        Every entry that comes out must be in `index` (which was verified); DamagedError otherwise.
        """

    def add_record(self, point: StoredPoint, record: Record) -> None:
        """Keep a signed record beside the point."""

    def verify(self, manifest: Manifest, artifact: StoredArtifact, index: Index | None, full: bool) -> None:
        """Check presence and size and, when `full`, read every stored byte again; DamagedError names what is wrong."""

    def sample(self, manifest: Manifest) -> None:
        """Read some content of a point back, as a restore does; DamagedError when it is not what was stored."""

    def verify_all(self, full: bool) -> None:
        """Check what belongs to no one point (a restic repository's own structure)."""

    def verify_part(self, part: int, parts: int) -> bool:
        """Read the `part`-th (from 1) of `parts` shares of all stored bytes; DamagedError when one is wrong.

        Return False, having read nothing, when this store's bytes are read artifact by artifact (`verify`).
        """

    def delete(self, point: StoredPoint) -> None:
        """Delete a point: its manifest first, then only what that manifest names."""

    def clean(self) -> None:
        """Free what deleted points used (restic prune). May be slow."""

    def sweep(self, data: dict[str, Any]) -> None:
        """Remove what a dead writer left: `data` is what `begin` journaled. Idempotent; a sealed point is left."""


def open_store(config: "StoreConfig", host: "Host") -> Store:
    """Return the store that `config` declares."""
    if config.type == "restic":
        from restaura.stores.restic import ResticStore

        return ResticStore(config, host)
    from restaura.stores.dated import DatedStore

    return DatedStore(config, host)
