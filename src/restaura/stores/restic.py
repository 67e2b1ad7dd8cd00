# SPDX-License-Identifier: GPL-3.0-or-later
"""The `restic` store: deduplicated and encrypted, one repository at `<location>/restic`, the root files beside it.

Every snapshot carries `key=value` tags (program, kind, host, plan, point, label, component, artifact). A point is: one
snapshot for each tree and each large stream, and last the one of its signed manifest, which also holds all its small
streams. The manifest names the other snapshots by their ids, which are hashes over all that they hold, and the small
streams by their own hashes, so its signature covers everything.
"""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from restaura.errors import ConfigError, DamagedError, RestauraError, SpaceError
from restaura.paths import private_dir, write_atomic
from restaura.point import Manifest, Record, StoredArtifact
from restaura.stores import StoredPoint, StoreInfo, Writer
from restaura.stores.blobs import open_blobs
from restaura.stores.checked import SAMPLE_BYTES, checked_stream, read_one
from restaura.stores.repository import SNAPSHOT_ID, Repository, Snapshot
from restaura.stores.restic_small import SmallStreams
from restaura.stores.restic_tree import conform
from restaura.stores.restic_verify import SnapshotCheck
from restaura.stores.restic_writer import MANIFEST, MOVING, ResticPointWriter, tag_list
from restaura.stores.root import Root
from restaura.trees import Index, subset

if TYPE_CHECKING:
    from restaura.config.schema import Store as StoreConfig
    from restaura.host import Host

OURS = "program=restaura"
RECORD = "record.json"
READERS = 4
INCLUDE_PATHS = 500
PRUNE_BYTES = 64 << 20
CHUNK = 1 << 18
# An unreadable snapshot is shown under an id that is older than any point's, so that it is never the latest.
UNREADABLE_ID = "19700101T000000Z-"


class ResticStore:
    """One store of type `restic`."""

    def __init__(self, config: "StoreConfig", host: "Host") -> None:
        self.name, self.deduplicates = config.name, True
        self.remote = config.location.startswith("s3:")
        self.where = f"store {config.name}"
        self.host = host
        self._config = config
        location = config.location.rstrip("/")
        self._directory = None if self.remote else Path(location)
        self.repository = Repository(
            f"{location}/restic",
            self._password,
            self._environment,
            lambda name: open_blobs(config, host).delete([f"restic/{name}"]),
            host.paths.cache / "restic" / config.name,
            self.where,
        )
        self.snapshots = SnapshotCheck(self.repository, host)
        self._small = SmallStreams(self.repository, host)
        self._writers: dict[str, ResticPointWriter] = {}
        # What `check` saw, for `points` right after it, and that for `begin`: each start of restic costs half a second.
        self._seen: tuple[list[Snapshot], dict[str, str]] | None = None
        self._listed: list[Snapshot] = []
        # The snapshots of manifests, by the points' ids.
        self._homes: dict[str, str] = {}

    # -- the store --------------------------------------------------------------------------------------------------

    def check(self, writing: bool) -> StoreInfo:
        """See `Store.check`; the repository is opened and, when `writing`, listed under a lock, which is a write."""
        version = self.repository.version()
        blobs = open_blobs(self._config, self.host)
        free = blobs.probe()
        writers = Root(self._config, self.host, blobs).check(writing)
        if writing:
            self._seen = self.repository.snapshots(OURS, writing=True)
        else:
            self.repository.probe()
        return StoreInfo(f"restic {version}", free, writers)

    def create(self, writer: Writer) -> bool:
        """Make directory or bucket, root files and repository where they are missing."""
        self.repository.version()
        changed = self._root().create(writer)
        return self.repository.init() or changed

    def adopt(self, writer: Writer) -> None:
        """Let `writer` go on under its host's name."""
        self._root().adopt(writer)

    def put_kit_files(self, files: dict[str, bytes], check: bool = False) -> list[str]:
        """Write what a bare machine needs at the root; return what changed."""
        return self._root().put_kit_files(files, check)

    def sample(self, manifest: Manifest) -> None:
        """Read one stream back, unless `verify` has read all small ones, which are read from their sealing on."""
        if not self.snapshots.is_read(self._homes.get(manifest.id, "")):
            read_one(self, manifest)

    def verify_all(self, full: bool) -> None:
        """Run `restic check`; when `full`, with `--read-data`: every stored byte is read and checked."""
        self._unlock()
        self.repository.check(*(["--read-data"] if full else []))

    def verify_part(self, part: int, parts: int) -> bool:
        """Read the `part`-th (from 1) of `parts` equal shares of the stored bytes: all of them in `parts` calls."""
        self._unlock()
        self.repository.check(f"--read-data-subset={part}/{parts}")
        return True

    def clean(self) -> None:
        """Free what deleted points used; on a disk that is almost full, only what can be freed without space."""
        self._unlock()
        try:
            self.need_space(PRUNE_BYTES)
        except SpaceError:
            self.repository.prune("--max-unused", "unlimited")
            return
        self.repository.prune()

    # -- points -------------------------------------------------------------------------------------------------------

    def points(self, host: str | None = None) -> list[StoredPoint]:
        """List every sealed point with one call of restic; manifests and records that were read once are cached.

        A snapshot that cannot be read may be a manifest: it is listed as a damaged point of no host.
        """
        if self.remote and self._seen is None:
            # A dead endpoint is told in seconds here; restic alone would try for a minute.
            open_blobs(self._config, self.host).probe()
        found, unreadable = self._seen or self.repository.snapshots(OURS)
        self._seen, self._listed = None, found
        self._homes |= {one.tags.get("point", ""): one.id for one in found if one.tags.get("kind") == "manifest"}
        wanted = [one for one in found if host is None or one.tags.get("host") == host]
        documents = self._documents([one for one in wanted if one.tags.get("kind") in {"manifest", "record"}])
        records: dict[str, list[Record]] = {}
        for one in wanted:
            if one.tags.get("kind") == "record" and (record := self._record(one, documents[one.id])):
                records.setdefault(record.point, []).append(record)
        points = [self._point(one, documents[one.id], records) for one in wanted if one.tags.get("kind") == "manifest"]
        for snapshot, why in unreadable.items():
            damage = f"{why}; restic repair snapshots --forget, or restic forget {snapshot[:8]}, drops it"
            identity = UNREADABLE_ID + snapshot[:6]
            points.append(StoredPoint(identity, "", "", "unreadable", {"snapshot": snapshot}, damage=damage))
        return sorted(points, key=lambda one: one.id)

    def begin(self, point_id: str, host: str, plan: str, label: str) -> ResticPointWriter:
        """Begin a point: remove locks of dead processes, look up the last trees (restic reads only what changed)."""
        self._unlock()
        found = self._listed or self.repository.snapshots(OURS, f"host={host}")[0]
        found, self._listed = [one for one in found if one.tags.get("host") == host], []
        same = [one for one in found if one.tags.get("plan") == plan and one.tags.get("kind") == "manifest"]
        trees = [one for one in found if one.tags.get("kind") == "tree"]
        parents = {(one.tags.get("component", ""), one.tags.get("artifact", "")): one.id for one in trees}
        tags = {"host": host, "plan": plan, "point": point_id}
        tags["label"] = _free(label, point_id, {one.tags.get("label", "") for one in same})
        debt = self.host.journal.write(f"store:{self.name}", "point", tags)
        writer = self._writers[point_id] = ResticPointWriter(self, tags, parents, debt)
        return writer

    @contextlib.contextmanager
    def open_stream(self, manifest: Manifest, artifact: StoredArtifact) -> Iterator[IO[bytes]]:
        """Yield a stream artifact, checked against its hash; also a small one of a point that is not sealed yet."""
        writer = self._writers.get(manifest.id)
        with contextlib.ExitStack() as stack:
            if writer and is_small(artifact):
                stream: IO[bytes] = stack.enter_context(writer.spooled(artifact).open("rb"))
            else:
                snapshot, path = self._snapshot_of(manifest, artifact), str(artifact.stored["path"])
                copied = self._copied(manifest, snapshot, path) if is_small(artifact) else None
                stream = copied or stack.enter_context(self.repository.dump(snapshot, path))
            yield stack.enter_context(checked_stream(stream, artifact, f"{self.where}, point {manifest.id}"))

    def restore_tree(
        self, manifest: Manifest, artifact: StoredArtifact, index: Index, destination: Path, paths: Sequence[str] | None
    ) -> None:
        """Unpack a tree: exactly what is in `index` but sockets and devices; see `Store.restore_tree`.

        Directories that restic does not hold are made root-only: owners, modes and times are for `trees.apply`.
        """
        wanted = index if paths is None else subset(index, paths)
        if artifact.stored:
            # Many patterns slow restic down; what else comes out is cut off below.
            include = paths if paths and len(paths) <= INCLUDE_PATHS else ()
            self.repository.restore(snapshot_of(artifact), destination, include)
        conform(destination, wanted, f"{self.where}, point {manifest.id}, artifact {artifact.name}")

    def add_record(self, point: StoredPoint, record: Record) -> None:
        """Keep a signed record as a small snapshot of its own."""
        tags = {"host": point.host, "plan": point.plan, "point": point.id, "label": point.label}
        self._put_document(RECORD, self.host.signer.sign(record.to_json()), tags, "record")

    def verify(self, manifest: Manifest, artifact: StoredArtifact, index: Index | None, full: bool) -> None:
        """Check one artifact: that its files are there with their sizes, and when `full` the hash of each of them."""
        where = f"{self.where}, point {manifest.id}, artifact {artifact.name}"
        if artifact.kind == "tree":
            if artifact.stored:
                self.snapshots.tree(snapshot_of(artifact), index, full, where)
            return
        snapshot, path = self._snapshot_of(manifest, artifact), str(artifact.stored["path"])
        if not full and not self.snapshots.is_read(snapshot):
            told = self._counted(snapshot) if not is_small(artifact) else None
            size = told if told is not None else self.snapshots.sizes(snapshot).get(path)
            if size != artifact.bytes:
                raise DamagedError(f"{artifact.bytes} bytes were stored, {size or 'none'} are there", where=where)
            return
        there = self.snapshots.hashes(snapshot).get(path) if is_small(artifact) else None
        if there is None:
            with self.open_stream(manifest, artifact) as stream:
                while stream.read(CHUNK):
                    pass
        elif there != (artifact.bytes, artifact.sha256):
            raise DamagedError("what is there is not what was stored", where=where)

    def delete(self, point: StoredPoint) -> None:
        """Forget the manifest's snapshot, then the point's records and what the manifest names."""
        with self.host.journal.owing(f"store:{self.name}", "delete", {"point": point.id}):
            self.repository.forget([_checked(point.where["snapshot"])])
            found = self._listed or self.repository.snapshots(OURS, f"point={point.id}")[0]
            found = [one for one in found if one.tags.get("point") == point.id]
            rest = {one.id for one in found if one.tags.get("kind") in {"record", MOVING}}
            for component in point.manifest.components if point.manifest else ():
                rest |= {snapshot_of(one) for one in component.artifacts if one.stored and not is_small(one)}
            self.repository.forget(sorted(rest))
        for snapshot in {point.where["snapshot"], *rest}:
            self._cached(snapshot).unlink(missing_ok=True)

    def sweep(self, data: dict[str, Any]) -> None:
        """Remove locks of dead processes, and the snapshots of a point that was not sealed or that are none of its.

        Where this host may not delete, both stay: without a manifest the snapshots are no point.
        """
        if not self._config.host_may_delete:
            return
        self.repository.unlock()
        found, unreadable = self.repository.snapshots(OURS, f"point={data['point']}")
        sealed = unreadable or any(one.tags.get("kind") == "manifest" for one in found)
        self.repository.forget([one.id for one in found if not sealed or one.tags.get("kind") == MOVING])

    # -- for the writer -----------------------------------------------------------------------------------------------

    def need_space(self, size: int = 0) -> None:
        """Raise SpaceError when a local store's disk would fall below its reserve by `size` bytes more."""
        if self._directory is not None:
            self.host.need_space(self._directory, size, self.where)

    def sealed(self, manifest: Manifest, snapshot: str, raw: bytes) -> StoredPoint:
        """Return the point whose signed manifest is in `snapshot`; its small streams are read back from now on."""
        write_atomic(private_dir(self._cached("")) / snapshot, raw)
        self._homes[manifest.id] = snapshot
        if sum(one.bytes for one in _small_streams(manifest)) <= SAMPLE_BYTES:
            self.snapshots.read(snapshot)
        return StoredPoint(manifest.id, manifest.host, manifest.plan, manifest.label, {"snapshot": snapshot}, manifest)

    def forget_writer(self, point_id: str) -> None:
        """Drop the writer of a point that is sealed or aborted."""
        self._writers.pop(point_id, None)

    def forget_passes(self, snapshots: Sequence[str]) -> bool:
        """Forget the first passes of a sealed point; where this host may not delete, they go with the point.

        Return False when that failed: the point is whole all the same, and the journal still names it.
        """
        try:
            if self._config.host_may_delete:
                self.repository.forget(snapshots)
        except RestauraError as error:
            self.host.log.event("first pass not forgotten", "warning", store=self.name, error=str(error))
            return False
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _root(self) -> Root:
        return Root(self._config, self.host, open_blobs(self._config, self.host))

    def _unlock(self) -> None:
        """Remove locks of dead processes; where this host may not delete, they stay, and only delay whoever prunes."""
        if self._config.host_may_delete and open_blobs(self._config, self.host).listing("restic/locks"):
            self.repository.unlock()

    def _password(self) -> Path:
        path = self.host.secret("stores", self.name, "password")
        if path is None:
            raise ConfigError(
                f"the repository's password is missing: {self.host.paths.keys}/stores.{self.name}.password",
                where=self.where,
                fix="restore it from the recovery kit: restaura keys restore --kit FILE",
            )
        return path

    def _environment(self) -> dict[str, str]:
        if not self.remote:
            return {}
        env = {"AWS_DEFAULT_REGION": self._config.s3_region}
        for variable, field in (("AWS_ACCESS_KEY_ID", "s3_access_key"), ("AWS_SECRET_ACCESS_KEY", "s3_secret_key")):
            if path := self.host.secret("stores", self.name, field):
                env[variable] = path.read_text().strip()
        return env

    def _snapshot_of(self, manifest: Manifest, artifact: StoredArtifact) -> str:
        """Return the snapshot that holds an artifact; that of a small stream is the manifest's own."""
        if not is_small(artifact):
            return snapshot_of(artifact)
        if manifest.id not in self._homes:
            self.points(manifest.host)
        return _checked(self._homes.get(manifest.id))

    def _copied(self, manifest: Manifest, snapshot: str, path: str) -> IO[bytes] | None:
        """Return a small stream from a copy of all of them."""
        size = sum(one.bytes for one in _small_streams(manifest))
        return self._small.open(snapshot, path, size, SAMPLE_BYTES)

    def _counted(self, snapshot: str) -> int | None:
        """Return the bytes of a snapshot of one file as the last listing tells, None when it does not."""
        return next((one.bytes for one in self._listed if one.id == snapshot and one.files == 1), None)

    def _put_document(self, name: str, raw: bytes, tags: dict[str, str], kind: str) -> str:
        backup = self.repository.backup_stream(name, tags["host"], tag_list(tags, kind))
        try:
            backup.write(raw)
        except BaseException:
            backup.abort()
            raise
        snapshot = backup.commit(len(raw))
        write_atomic(self._cached(snapshot), raw)
        return snapshot

    def _cached(self, snapshot: str) -> Path:
        return self.host.paths.cache / "documents" / self.name / snapshot

    def _documents(self, snapshots: Sequence[Snapshot]) -> dict[str, bytes | str]:
        """Return manifests and records by snapshot id; a text says why one is damaged."""
        private_dir(self._cached(""))
        with ThreadPoolExecutor(READERS) as pool:
            return dict(zip([one.id for one in snapshots], pool.map(self._document, snapshots), strict=True))

    def _document(self, snapshot: Snapshot) -> bytes | str:
        cached = self._cached(snapshot.id)
        with contextlib.suppress(OSError):
            return cached.read_bytes()
        name = MANIFEST if snapshot.tags["kind"] == "manifest" else RECORD
        try:
            with self.repository.dump(snapshot.id, name) as stream:
                raw = stream.read()
        except DamagedError as error:
            return error.what
        write_atomic(cached, raw)
        return raw

    def _point(self, one: Snapshot, raw: bytes | str, records: dict[str, list[Record]]) -> StoredPoint:
        point, host, plan, label = (one.tags.get(key, "") for key in ("point", "host", "plan", "label"))
        manifest, damage = None, raw if isinstance(raw, str) else ""
        if isinstance(raw, bytes):
            try:
                manifest = Manifest.from_json(self.host.signer.open(raw, f"{self.where}, point {point}"))
            except DamagedError as error:
                damage = error.what
        if manifest and (manifest.id, manifest.host, manifest.plan, manifest.label) != (point, host, plan, label):
            manifest, damage = None, "the manifest is that of another point"
        elif manifest and 0 <= one.files <= len(_small_streams(manifest)):
            manifest, damage = None, f"its snapshot holds {one.files} files, which are not all of its small streams"
        kept = tuple(records.get(point, ()))
        return StoredPoint(point, host, plan, label, {"snapshot": one.id}, manifest, kept, damage)

    def _record(self, one: Snapshot, raw: bytes | str) -> Record | None:
        """Return a record; None, with a line in the log, when it is damaged or forged: then it proves nothing."""
        problem, record = raw if isinstance(raw, str) else "it is of another point", None
        if isinstance(raw, bytes):
            try:
                record = Record(**self.host.signer.open(raw, f"{self.where}, record {one.id[:8]}"))
            except (DamagedError, TypeError) as error:
                problem = str(error)
        if record and record.point == one.tags.get("point"):
            return record
        self.host.log.event("record ignored", "warning", store=self.name, snapshot=one.id, why=problem)
        return None


def _small_streams(manifest: Manifest) -> list[StoredArtifact]:
    return [one for component in manifest.components for one in component.artifacts if is_small(one)]


def is_small(artifact: StoredArtifact) -> bool:
    """Whether an artifact is a stream that is stored beside the manifest."""
    return artifact.kind == "stream" and "snapshot" not in artifact.stored


def snapshot_of(artifact: StoredArtifact) -> str:
    """Return the id of the snapshot that holds `artifact`; DamagedError when its locator has none."""
    return _checked(artifact.stored.get("snapshot"))


def _checked(snapshot: object) -> str:
    if not isinstance(snapshot, str) or not SNAPSHOT_ID.match(snapshot):
        raise DamagedError(f"{snapshot!r} is no id of a restic snapshot")
    return snapshot


def _free(label: str, point_id: str, taken: set[str]) -> str:
    """Return `label`, or with the point's time (and a number) behind it when it is taken."""
    timed = f"{label}T{point_id[9:15]}"
    choices = [label, timed, *(f"{timed}-{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in choices if one not in taken)
