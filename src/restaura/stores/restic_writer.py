# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a point into a restic store: trees and large streams at once, last the manifest with the small streams."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from restaura.errors import RestauraError, StoreError
from restaura.journal import Debt
from restaura.paths import private_dir
from restaura.point import Manifest, StoredArtifact
from restaura.sources import Stream, Tree
from restaura.stores import StoredEntry, StoredPoint
from restaura.stores.repository import FolderBackup, StreamBackup
from restaura.stores.restic_tree import cover, stored_entries
from restaura.trees import Index

if TYPE_CHECKING:
    from restaura.stores.restic import ResticStore

# The last snapshot of a point: its signed manifest, and its small streams in a folder.
MANIFEST, SMALL = "manifest.json", "streams"
SMALL_BYTES = 16 << 20
SPACE_CHECK_BYTES = 64 << 20
CHUNK = 1 << 18
# The kind of snapshots that are none of a point's: a tree as it moved, for reading only what changed when it stands.
MOVING = "moving"


class ResticPointWriter:
    """A point that is being written into a restic store. May be used from several threads."""

    def __init__(
        self, store: "ResticStore", tags: dict[str, str], parents: dict[tuple[str, str], str], debt: Debt
    ) -> None:
        self.label = tags["label"]
        self._store, self._tags, self._parents, self._debt = store, tags, parents, debt
        self._stack = contextlib.ExitStack()
        self.folder = self._stack.enter_context(store.host.spool(f"restic-{store.name}"))
        self._lock = threading.Lock()
        self._small: list[StoredArtifact] = []
        private_dir(self.folder / "last")
        self._last: FolderBackup | None = None
        # A child dies with the thread that started it, and a component's thread ends before the point is sealed.
        self._starter = self._stack.enter_context(ThreadPoolExecutor(1))
        self._passes: list[str] = []
        self._indexes: dict[str, Index] = {}
        self._running: set[_StreamWriter] = set()

    def stream(self, component: str, artifact: Stream) -> "_StreamWriter":
        """Begin a stream: spooled while it is small, then piped into restic."""
        self._begin_last()
        writer = _StreamWriter(self, component, artifact)
        with self._lock:
            self._running.add(writer)
        return writer

    def first_pass(self, component: str, artifact: Tree, watch: Callable[[], None]) -> None:
        """Store a tree as it moves, as a snapshot that is the parent of the next one and goes before the point is."""
        if paths := cover(artifact.base, artifact.index):
            snapshot = self._backup(MOVING, artifact.base, paths, component, artifact.name, watch)
            with self._lock:
                self._parents[component, artifact.name] = snapshot
                self._passes.append(snapshot)
        # Not while something is stopped.
        self._begin_last()

    def tree(self, component: str, artifact: Tree, watch: Callable[[], None] = lambda: None) -> StoredArtifact:
        """Store the entries of a tree's index as one snapshot, next to nothing when there is nothing to store."""
        self._begin_last()
        paths = cover(artifact.base, artifact.index)
        stored = {}
        if paths:
            snapshot = self._backup("tree", artifact.base, paths, component, artifact.name, watch)
            stored = {"snapshot": snapshot}
            with self._lock:
                self._indexes[snapshot] = artifact.index
        return StoredArtifact(artifact.name, "tree", artifact.index.total_bytes, "", artifact.secret, stored)

    def tree_entries(self, stored: StoredArtifact) -> Iterator[StoredEntry]:
        """Yield what the snapshot of a tree holds, as restic lists it."""
        if not stored.stored:
            return
        snapshot, repository = stored.stored["snapshot"], self._store.repository
        with self._store.host.spool("listing") as folder, (folder / "listing").open("w+b") as listing:
            repository.list(snapshot, listing)
            listing.seek(0)
            yield from stored_entries(repository, snapshot, self._indexes[snapshot], listing)

    @contextlib.contextmanager
    def read_file(self, stored: StoredArtifact, path: str) -> Iterator[IO[bytes]]:
        """Yield the content of a file as restic keeps it."""
        with self._store.repository.dump(stored.stored["snapshot"], path) as stream:
            yield stream

    def notes(self, component: str) -> list[str]:  # noqa: ARG002 - the contract's
        """Say nothing: whatever a tree is like, it is one snapshot."""
        return []

    def seal(self, manifest: Manifest) -> StoredPoint:
        """Store the manifest and the small streams as one snapshot: until then there is no point."""
        raw = self._store.host.signer.sign(manifest.to_json())
        (self.folder / "last" / MANIFEST).write_bytes(raw)
        last, self._last = self._begin_last(), None
        size = len(raw) + sum(one.bytes for one in self._small)
        snapshot = last.commit(1 + len(self._small), size, self._store.need_space)
        point = self._store.sealed(manifest, snapshot, raw)
        if self._store.forget_passes(self._passes):
            self._end()
        else:
            self._close()
        return point

    def abort(self) -> None:
        """Kill what still runs and forget what was stored; what cannot be forgotten stays in the journal."""
        for writer in list(self._running):
            writer.abort()
        self._drop_last()
        try:
            self._store.sweep(self._tags)
        except (RestauraError, OSError) as error:
            self._store.host.log.event("not swept", "warning", store=self._store.name, error=str(error))
            self._close()
        else:
            self._end()

    def spooled(self, artifact: StoredArtifact) -> Path:
        """Return where a small stream stands before the point is sealed."""
        return self.folder / "last" / str(artifact.stored["path"])

    # -- for the stream writers ---------------------------------------------------------------------------------

    def begin_backup(self, component: str, artifact: Stream) -> StreamBackup:
        """Start restic for a large stream."""
        tags = tag_list(self._tags, "stream", component, artifact.name)
        return self._store.repository.backup_stream(file_name(artifact.name), self._tags["host"], tags)

    def need_space(self, size: int = 0) -> None:
        """Raise SpaceError when the spool's disk or a local store's run short."""
        self._store.host.need_space(self.folder, size, self._store.where)
        self._store.need_space(size)

    def ended(self, writer: "_StreamWriter", small: StoredArtifact | None = None) -> None:
        """Take note of a stream that is committed or aborted."""
        with self._lock:
            self._running.discard(writer)
            if small:
                self._small.append(small)

    def _backup(
        self,
        kind: str,
        base: Path,
        paths: list[str],
        component: str = "",
        artifact: str = "",
        watch: Callable[[], None] = lambda: None,
    ) -> str:
        def watched() -> None:
            self._store.need_space()
            watch()

        self.need_space()
        tags = tag_list(self._tags, kind, component, artifact)
        with self._store.host.spool("names") as folder:
            names = folder / "names"
            names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
            return self._store.repository.backup_paths(
                names,
                base,
                self._tags["host"],
                tags,
                self._parents.get((component, artifact)),
                watched,
                moving=kind == MOVING,
            )

    def _begin_last(self) -> FolderBackup:
        """Start restic for the point's last snapshot, which costs half a second, while there is other work to do."""
        with self._lock:
            if self._last is None:
                begin = self._store.repository.backup_folder
                tags = tag_list(self._tags, "manifest")
                self._last = self._starter.submit(begin, self.folder / "last", self._tags["host"], tags).result()
            return self._last

    def _drop_last(self) -> None:
        with self._lock:
            if self._last is not None:
                self._last.abort()
            self._last = None

    def _close(self) -> None:
        self._stack.close()
        self._store.forget_writer(self._tags["point"])

    def _end(self) -> None:
        self._close()
        self._store.host.journal.settle(self._debt)


class _StreamWriter:
    """One stream: in the spool up to SMALL_BYTES, then restic's standard input."""

    def __init__(self, point: ResticPointWriter, component: str, artifact: Stream) -> None:
        self._point, self._component, self._artifact = point, component, artifact
        self._path = f"{SMALL}/{component}/{artifact.name}"
        point.need_space(SMALL_BYTES)
        self._spool = point.folder / "last" / self._path
        private_dir(self._spool.parent)
        self._file: IO[bytes] = self._spool.open("xb")
        self._backup: StreamBackup | None = None
        self._written = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        before, self._written = self._written, self._written + len(data)
        if self._backup is None and self._written <= SMALL_BYTES:
            self._file.write(data)
            return
        if before // SPACE_CHECK_BYTES != self._written // SPACE_CHECK_BYTES:
            self._point.need_space()
        (self._backup or self._grow()).write(data)

    def commit(self, size: int, sha256: str) -> StoredArtifact:
        """End the stream; a small one goes into its snapshot when the point is sealed."""
        if self._written != size:
            raise StoreError(f"{self._written} of {size} bytes were written", where=self._path)
        kept = StoredArtifact(self._artifact.name, "stream", size, sha256, self._artifact.secret)
        if self._backup is None:
            self._file.close()
            small = replace(kept, stored={"path": self._path})
            self._point.ended(self, small)
            return small
        snapshot = self._backup.commit(size)
        self._point.ended(self)
        return replace(kept, stored={"path": file_name(self._artifact.name), "snapshot": snapshot})

    def abort(self) -> None:
        """Drop the stream; a running restic is killed before its input ends."""
        if self._backup is not None:
            self._backup.abort()
        self._drop_spool()
        self._point.ended(self)

    def _grow(self) -> StreamBackup:
        """Go over from the spool to restic."""
        self._file.close()
        self._backup = self._point.begin_backup(self._component, self._artifact)
        with self._spool.open("rb") as back:
            while chunk := back.read(CHUNK):
                self._backup.write(chunk)
        self._drop_spool()
        return self._backup

    def _drop_spool(self) -> None:
        self._file.close()
        self._spool.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._spool.parent.rmdir()


def tag_list(tags: dict[str, str], kind: str, component: str = "", artifact: str = "") -> list[str]:
    """Return a snapshot's tags. Names hold no commas (`config.schema.NAME`, `point.safe_name`)."""
    every = {"program": "restaura", "kind": kind, **tags, "component": component, "artifact": artifact}
    return [f"{key}={value}" for key, value in every.items() if value]


def file_name(artifact: str) -> str:
    """Return the file that a large stream has in its snapshot: `--stdin-filename` of restic 0.18 takes no folders."""
    return artifact.rpartition("/")[2]
