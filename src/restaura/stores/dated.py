# SPDX-License-Identifier: GPL-3.0-or-later
"""The `dated` store: plain files by date, local or S3, that GNU tar, zstd and age open without any tool of ours.

`<location>/[<host>/][<plan>/]<label>/` is a point's prefix. It holds `<component>/<artifact>[.tar][.zst][.age]` (or an
expanded tree's files and `<artifact>.sha256`), the signed `manifest.json` (written last, deleted first) and `records/`.
Beside the prefixes, `.claims/<label>` says that a label was once given away; claims are never removed, so no prefix is
ever used twice.
"""

import contextlib
import hashlib
import io
import json
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from restaura import process
from restaura.config.schema import Store as StoreConfig
from restaura.errors import DamagedError, RestauraError, StoreError
from restaura.point import ID_PATTERN, Manifest, Record, StoredArtifact, safe_name
from restaura.sources import INDEX_SUFFIX, Stream, Tree
from restaura.stores import LAYOUT_VERSION, StoredEntry, StoredPoint, StoreInfo, Writer, expanded, tar
from restaura.stores.blobs import Blob, Blobs, checked, open_blobs
from restaura.stores.checked import SAMPLE_BYTES, read_one
from restaura.stores.encode import CHUNK, Encoder, decoding
from restaura.stores.root import STORE, Root
from restaura.trees import Entry, Index

if TYPE_CHECKING:
    from restaura.host import Host
    from restaura.journal import Debt

MANIFEST = "manifest.json"
RECORDS = "records"
CLAIMS = ".claims"
LABELS_TRIED = 100
THREADS = 16


class DatedStore:
    """One dated store (a `Store`)."""

    def __init__(self, config: StoreConfig, host: "Host") -> None:
        self.name, self.deduplicates = config.name, False
        self.remote = config.location.startswith("s3:")
        self._config = config
        self._host = host

    @cached_property
    def blobs(self) -> Blobs:
        """The store's blobs."""
        return open_blobs(self._config, self._host)

    @cached_property
    def root(self) -> Root:
        """The documents at the store's root."""
        return Root(self._config, self._host, self.blobs)

    @cached_property
    def _recipients(self) -> list[str]:
        """The age public keys that open what is stored: the host's own first."""
        _, out, _ = process.run(["age-keygen", "-y", str(self._host.key("age.key"))])
        return [*out.decode().split(), *self._config.age_recipients]

    def check(self, writing: bool) -> StoreInfo:
        """Say whether the store is there and takes a write, and whether the programs it needs are."""
        free = self.blobs.probe()
        writers = self.root.check(writing)
        if writing:
            for program in ["tar", "age", *(["zstd"] if self._config.compression == "zstd" else [])]:
                process.run([program, "--version"])
            if not self._recipients:
                raise StoreError("the key has no public half", where=str(self._host.key("age.key")), fix="age-keygen")
        return StoreInfo(version=str(LAYOUT_VERSION), free_bytes=free, writers=writers)

    def create(self, writer: Writer) -> bool:
        """Make the store and register its writer."""
        return self.root.create(writer)

    def adopt(self, writer: Writer) -> None:
        """Replace the writer document of `writer.host`."""
        self.root.adopt(writer)

    def put_kit_files(self, files: dict[str, bytes], check: bool = False) -> list[str]:
        """Keep what a bare machine needs at the root."""
        return self.root.put_kit_files(files, check)

    # -- points ---------------------------------------------------------------------------------------------------

    def points(self, host: str | None = None) -> list[StoredPoint]:
        """Return every sealed point; what claims to be one and is not shows its damage."""
        top = safe_name(host) if host is not None and self._config.host_segment else ""
        blobs = self.blobs.listing(top)
        depth = 2 + self._config.host_segment + self._config.plan_segment
        records: dict[str, list[Blob]] = {}
        prefixes = []
        for blob in blobs:
            parts = blob.key.split("/")
            if len(parts) == depth and parts[-1] == MANIFEST and parts[-2] != CLAIMS:
                prefixes.append("/".join(parts[:-1]))
            elif len(parts) == depth + 1 and parts[-2] == RECORDS:
                records.setdefault("/".join(parts[:-2]), []).append(blob)
        if not prefixes and self.blobs.size(STORE) is None:
            raise StoreError("there is no store here", where=self.blobs.where, fix="mount its disk if it has one")
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda prefix: self._point(prefix, records.get(prefix, ())), prefixes))
        mine = [one for one in found if one is not None and host in (None, "", one.host)]
        return sorted(mine, key=lambda one: (one.id, one.label))

    def _point(self, prefix: str, records: Sequence[Blob]) -> StoredPoint | None:
        raw = self.blobs.get(f"{prefix}/{MANIFEST}")
        if raw is None:
            return None  # Deleted between the listing and now.
        where = f"{self.blobs.where}: {prefix}"
        try:
            manifest = Manifest.from_json(self._host.signer.open(raw, where))
        except DamagedError as error:
            return self._damaged(prefix, raw, str(error))
        if self._prefix(manifest.host, manifest.plan, manifest.label) != prefix:
            return self._damaged(prefix, raw, f"{where}: the manifest of another point ({manifest.id})")
        opened = [one for blob in records if (one := self._record(blob.key, manifest)) is not None]
        return StoredPoint(
            id=manifest.id,
            host=manifest.host,
            plan=manifest.plan,
            label=manifest.label,
            where={"prefix": prefix},
            manifest=manifest,
            records=tuple(sorted(opened, key=lambda record: record.at)),
        )

    def _record(self, key: str, manifest: Manifest) -> Record | None:
        """Return a record of `manifest`'s point; one that was forged or lies elsewhere counts for nothing."""
        raw = self.blobs.get(key)
        if raw is None:
            return None
        try:
            record = Record(**self._host.signer.open(raw, f"{self.blobs.where}: {key}"))
        except (DamagedError, TypeError) as error:
            self._host.log.event("record ignored", "error", store=self.name, record=key, error=str(error))
            return None
        return record if record.point == manifest.id else None

    def _damaged(self, prefix: str, raw: bytes, damage: str) -> StoredPoint:
        """Return a point that cannot be trusted, under the names that its place gives it."""
        *segments, label = prefix.split("/")
        host = segments[0] if self._config.host_segment else self._host.name
        plan = segments[-1] if self._config.plan_segment else ""
        claim = self.blobs.get("/".join([*segments, CLAIMS, label]))
        point_id = (claim or b"").decode(errors="replace").strip()
        if not ID_PATTERN.match(point_id):
            point_id = _unsigned_id(raw)
        return StoredPoint(point_id, host, plan, label, {"prefix": prefix}, damage=damage)

    def begin(self, point_id: str, host: str, plan: str, label: str) -> "DatedWriter":
        """Claim the first free label and begin a point below it."""
        self.root.check(writing=False)
        if safe_name(label) != label:
            raise StoreError(f"{label!r} is no label", where=self.blobs.where)
        timed = f"{label}T{point_id[9:15]}"
        for wished in (label, timed, *(f"{timed}-{number}" for number in range(2, LABELS_TRIED))):
            prefix = self._prefix(host, plan, wished)
            claim = "/".join([*prefix.split("/")[:-1], CLAIMS, wished])
            if self.blobs.put_if_absent(claim, f"{point_id}\n".encode()) and not self.blobs.listing(prefix):
                data = {"prefix": prefix, "begun": []}
                debt = self._host.journal.write(f"store:{self.name}", "point", data)
                return DatedWriter(self, self._host, point_id, wished, prefix, debt)
        raise StoreError(f"every label like {label} is taken", where=self.blobs.where, fix="give the plan another name")

    def add_record(self, point: StoredPoint, record: Record) -> None:
        """Keep a signed record beside the point."""
        at = safe_name(record.at.replace(":", ""))
        key = f"{self._own_prefix(point)}/{RECORDS}/{at}-{record.kind}-{secrets.token_hex(4)}.json"
        self.blobs.put(key, self._host.signer.sign(record.to_json()))

    def delete(self, point: StoredPoint) -> None:
        """Delete the manifest, then what it names, then the records."""
        prefix = self._own_prefix(point)
        if point.manifest is None:
            raise StoreError("a damaged point is not deleted", where=f"{self.blobs.where}: {prefix}", fix=point.damage)
        named = [
            one for component in point.manifest.components for one in component.artifacts if one.kind != "external"
        ]
        with self._host.journal.owing(f"store:{self.name}", "delete", {"prefix": prefix, "begun": []}):
            keys = [key for one in named for key in self._keys(point.manifest, one)]
            self.blobs.delete([f"{prefix}/{MANIFEST}"])
            self.blobs.delete(keys)
            self.blobs.delete([blob.key for blob in self.blobs.listing(f"{prefix}/{RECORDS}")])

    def clean(self) -> None:
        """Do nothing: what is deleted is free at once."""

    def sweep(self, data: dict[str, Any]) -> None:
        """Remove what a dead writer left below its prefix, unless it was sealed. The claim stays."""
        prefix = str(data["prefix"])
        if self.blobs.size(f"{prefix}/{MANIFEST}") is None:
            self.blobs.delete_all(prefix, data["begun"])

    # -- reading --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open_stream(self, manifest: Manifest, artifact: StoredArtifact) -> Iterator[IO[bytes]]:
        """Yield a stream's plain bytes."""
        with self._decoding(manifest, artifact, artifact.bytes, artifact.sha256) as stream:
            yield stream

    def restore_tree(
        self, manifest: Manifest, artifact: StoredArtifact, index: Index, destination: Path, paths: Sequence[str] | None
    ) -> None:
        """Unpack a tree, each member only after the index allowed it."""
        try:
            if expanded.FILES in artifact.stored:
                devices = self._restore_files(manifest, artifact, index, destination, paths)
            else:
                unpacking = tar.Unpacking(index, destination, paths)
                with self._decoding(manifest, artifact) as stream:
                    unpacking.run(stream)
                devices = unpacking.devices
        except DamagedError as error:
            raise DamagedError(error.what, where=error.where or self._key(manifest, artifact), fix=error.fix) from error
        if devices:
            self._host.log.event("device nodes left out", "warning", paths=devices)

    def _restore_files(
        self, manifest: Manifest, artifact: StoredArtifact, index: Index, destination: Path, paths: Sequence[str] | None
    ) -> list[str]:
        """Make an expanded tree's entries again; return the device nodes left out."""
        hashes = self._hashes(manifest, artifact)
        entries = {one.path: one for one in index.entries}

        def opened(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
            entry, name = entries[path], expanded.name_of(artifact.stored, path)
            if name not in hashes:
                raise DamagedError(f"holds no {name!r}, which the index has", where=self._key(manifest, artifact))
            stored = {**artifact.stored, "sha256": hashes[name]}
            return self.decode(self._below(manifest, name), stored, entry.size, entry.sha256 or None)

        return expanded.restore(index, destination, paths, opened)

    def verify(self, manifest: Manifest, artifact: StoredArtifact, index: Index | None, full: bool) -> None:  # noqa: ARG002
        """Check presence and size, or every stored byte. No key is needed for either."""
        if artifact.kind == "external":
            return
        key = self._key(manifest, artifact)
        where = f"{self.blobs.where}: {key}"
        size = self.blobs.size(key)
        if size is None:
            raise DamagedError("is missing", where=where)
        if size != artifact.stored["bytes"]:
            raise DamagedError(f"has {size} bytes; {artifact.stored['bytes']} were stored", where=where)
        if full:
            self._read_stored(key, artifact.stored["sha256"])
        if expanded.FILES in artifact.stored:
            self._verify_files(manifest, artifact, full)

    def _verify_files(self, manifest: Manifest, artifact: StoredArtifact, full: bool) -> None:
        """Check that every file of an expanded tree is there; when their sizes are not as stored, each one's bytes."""
        hashes = self._hashes(manifest, artifact)
        folder = self._below(manifest, artifact.stored["folder"])
        sizes = {blob.key: blob.size for blob in self.blobs.listing(folder)}
        keys = {self._below(manifest, name): sha256 for name, sha256 in hashes.items()}
        if missing := sorted(keys.keys() - sizes.keys()):
            raise DamagedError("is missing", where=f"{self.blobs.where}: {missing[0]}")
        if full or sum(sizes[key] for key in keys) != artifact.stored[expanded.FILES]:
            for key, sha256 in keys.items():
                self._read_stored(key, sha256)

    def _read_stored(self, key: str, sha256: str) -> None:
        digest = hashlib.sha256()
        with self.blobs.open(key) as stream:
            while data := stream.read(CHUNK):
                digest.update(data)
        if digest.hexdigest() != sha256:
            raise DamagedError("the stored bytes were changed", where=f"{self.blobs.where}: {key}")

    def sample(self, manifest: Manifest) -> None:
        """Read one stream back, and one file of an expanded tree, through all their layers."""
        read_one(self, manifest)
        found = [
            one
            for component in manifest.components
            for one in component.artifacts
            if component.state != "failed" and one.stored.get(expanded.FILES, SAMPLE_BYTES + 1) <= SAMPLE_BYTES
        ]
        chosen = random.choice(found) if found else None  # noqa: S311 - a sample, not a secret
        names = sorted(self._hashes(manifest, chosen).items()) if chosen else []
        if chosen and names:
            name, sha256 = random.choice(names)  # noqa: S311
            with self.decode(self._below(manifest, name), {**chosen.stored, "sha256": sha256}) as stream:
                while stream.read(CHUNK):
                    pass

    def verify_all(self, full: bool) -> None:
        """Check nothing: every byte of this store belongs to one point."""

    # -- shared with the writer -----------------------------------------------------------------------------------

    def verify_part(self, part: int, parts: int) -> bool:  # noqa: ARG002 - the contract's
        """Read nothing: a dated store is read artifact by artifact."""
        return False

    def encode_filters(self, layers: Mapping[str, Any]) -> list[list[str]]:
        """Return the programs that plain bytes go through. Public keys are no secrets."""
        recipients = [part for one in self._recipients for part in ("-r", one)] if layers["age"] else []
        packers = [["gzip", "-n", "-c"]] * bool(layers.get("gzip")) + [["zstd", "-q", "-c", "-T1"]] * layers["zstd"]
        return packers + [["age", *recipients, "-o", "-"]] * layers["age"]

    def decode(
        self, key: str, stored: Mapping[str, Any], size: int | None = None, sha256: str | None = None
    ) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Yield the plain bytes of the blob `key`, all of them checked at their end."""
        identities: list[str] = []
        if stored["age"]:
            for one in (self._host.key("age.key"), *sorted(self._host.paths.keys.glob("age.key.*"))):
                identities += ["-i", str(one)]
        packers = [["zstd", "-q", "-d", "-c"]] * bool(stored["zstd"]) + [["gzip", "-d", "-c"]] * bool(
            stored.get("gzip")
        )
        filters = [["age", "-d", *identities]] * bool(stored["age"]) + packers
        where = f"{self.blobs.where}: {key}"
        opened = self.blobs.open(key)
        return decoding(filters, opened, stored_sha256=stored["sha256"], where=where, size=size, sha256=sha256)

    @property
    def layers(self) -> tuple[bool, bool]:
        """Whether plain artifacts are compressed, and encrypted."""
        return self._config.compression == "zstd", self._config.encrypt

    def _decoding(
        self, manifest: Manifest, artifact: StoredArtifact, size: int | None = None, sha256: str | None = None
    ) -> contextlib.AbstractContextManager[IO[bytes]]:
        return self.decode(self._key(manifest, artifact), artifact.stored, size, sha256)

    def _prefix(self, host: str, plan: str, label: str) -> str:
        segments = [safe_name(host)] * self._config.host_segment + [safe_name(plan)] * self._config.plan_segment
        return "/".join([*segments, safe_name(label)])

    def _own_prefix(self, point: StoredPoint) -> str:
        return self._prefix(point.host, point.plan, point.label)

    def _key(self, manifest: Manifest, artifact: StoredArtifact) -> str:
        return self._below(manifest, str(artifact.stored["path"]))

    def _keys(self, manifest: Manifest, artifact: StoredArtifact) -> list[str]:
        """Return every blob of an artifact; where an expanded tree's list is damaged, all of the tree's folder."""
        key = self._key(manifest, artifact)
        if expanded.FILES not in artifact.stored:
            return [key]
        try:
            return [key, *(self._below(manifest, name) for name in self._hashes(manifest, artifact))]
        except DamagedError:
            below = self.blobs.listing(self._below(manifest, artifact.stored["folder"]))
            return [key, *(blob.key for blob in below)]

    def _hashes(self, manifest: Manifest, artifact: StoredArtifact) -> dict[str, str]:
        """Return the SHA-256 of each stored file of an expanded tree, by path below the point's folder."""
        key = self._key(manifest, artifact)
        return expanded.load_list(self.blobs.get(key), artifact, f"{self.blobs.where}: {key}")

    def _below(self, manifest: Manifest, path: str) -> str:
        return f"{self._prefix(manifest.host, manifest.plan, manifest.label)}/{checked(path)}"


class DatedWriter:
    """A point that is being written (a `PointWriter`); several threads may write artifacts at once."""

    def __init__(self, store: DatedStore, host: "Host", point_id: str, label: str, prefix: str, debt: "Debt") -> None:
        self.label = label
        self._store = store
        self._host = host
        self._id = point_id
        self._prefix = prefix
        self._debt = debt
        self._lock = threading.Lock()
        self._open: dict[str, Encoder] = {}
        self._names: set[str] = set()
        self._entries: dict[str, list[StoredEntry]] = {}
        self._files: dict[str, dict[str, dict[str, Any]]] = {}
        self._notes: dict[str, list[str]] = {}

    def stream(self, component: str, artifact: Stream) -> "DatedStream":
        """Begin a stream artifact."""
        stored = self._place(component, artifact.name, artifact.secret)
        return DatedStream(self, artifact, stored, self._begin(stored, artifact.expected_bytes))

    def first_pass(self, component: str, artifact: Tree, watch: Callable[[], None]) -> None:
        """Do nothing: an archive is written in one go."""

    def tree(self, component: str, artifact: Tree, watch: Callable[[], None] = lambda: None) -> StoredArtifact:
        """Store a tree as one archive, or expanded."""
        if artifact.expanded is not None and (done := self._expand(component, artifact, watch)) is not None:
            return done
        stored = self._place(component, f"{artifact.name}.tar", artifact.secret, gzip=artifact.gzip)
        encoder = self._begin(stored, sum(one.size for one in artifact.index.entries))
        try:
            entries = tar.pack(artifact, encoder.write, watch)
            self.end(stored, encoder)
        except BaseException:
            self.drop(stored, encoder)
            raise
        self._entries[stored["path"]] = entries
        size = sum(one.size for one in entries if one.type == "file")
        return StoredArtifact(artifact.name, "tree", size, "", artifact.secret, stored)

    def _expand(self, component: str, tree: Tree, watch: Callable[[], None]) -> StoredArtifact | None:
        """Store a tree as plain files; return None, and keep a note, when it has to be an archive."""
        own, shape = f"{self._folder(component)}/{tree.name}", self._layers(tree.secret)
        folder = "/".join(filter(None, [self._folder(component), tree.expanded]))
        stored: dict[str, Any] = {**shape, "path": own + expanded.LIST_SUFFIX, "folder": folder, "top": tree.top}
        files = {one.path: {**shape, "path": expanded.name_of(stored, one.path)} for one in expanded.files(tree)}
        names = [one["path"] for one in files.values()]
        # What else is stored of the tree, now or if it changes.
        others = [stored["path"], *(f"{own}{end}{expanded.suffix(shape)}" for end in (".tar", INDEX_SUFFIX))]
        with self._lock:
            if why := expanded.hindrance(tree, names, [*others, *self._names]):
                self._notes.setdefault(component, []).append(f"{tree.name} is stored as an archive: {why}")
                return None
            self._names.update([stored["path"], *names])
        entries: list[StoredEntry] = []
        try:
            entries += [one for entry in tree.index.entries if (one := expanded.told(tree.base, entry))]
            expanded.each(
                expanded.files(tree), lambda one, tick: self._put_file(tree, one, files[one.path], entries, tick), watch
            )
            raw = expanded.dump_list({one["path"]: one["sha256"] for one in files.values() if "sha256" in one})
            self._store.blobs.put(f"{self._prefix}/{stored['path']}", raw)
        except BaseException:
            with contextlib.suppress(RestauraError):
                self._store.blobs.delete([f"{self._prefix}/{one}" for one in (stored["path"], *names)])
            with self._lock:
                self._names.difference_update([stored["path"], *names])
            raise
        stored |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        stored[expanded.FILES] = sum(one.get("bytes", 0) for one in files.values())
        self._entries[stored["path"]], self._files[stored["path"]] = entries, files
        size = sum(one.size for one in entries if one.type == "file")
        return StoredArtifact(tree.name, "tree", size, "", tree.secret, stored)

    def _put_file(
        self, tree: Tree, entry: Entry, locator: dict[str, Any], entries: list[StoredEntry], tick: Callable[[], None]
    ) -> None:
        """Store one file of an expanded tree, and add what was stored to `entries`."""
        encoder = self._begin(locator, entry.size)
        try:
            entries.append(expanded.copy_file(tree.base, entry, encoder.write, tick))
            self.end(locator, encoder)
        except FileNotFoundError:
            self.drop(locator, encoder)
        except BaseException:
            self.drop(locator, encoder)
            raise

    def tree_entries(self, stored: StoredArtifact) -> Iterator[StoredEntry]:
        """Yield what the archive or the files hold, once; sockets cannot be in either."""
        # They may be a great many, and are of no use afterwards.
        yield from self._entries.pop(stored.stored["path"])

    @contextlib.contextmanager
    def read_file(self, stored: StoredArtifact, path: str) -> Iterator[IO[bytes]]:
        """Yield one file of an expanded tree, or one out of the archive, which is read up to it."""
        key = f"{self._prefix}/{stored.stored['path']}"
        if expanded.FILES in stored.stored:
            locator = self._files[stored.stored["path"]][path]
            with self._store.decode(f"{self._prefix}/{locator['path']}", locator) as stream:
                yield stream
            return
        content = tar.read_file(lambda: self._store.decode(key, stored.stored), path)
        with contextlib.closing(content), io.BufferedReader(tar.Chunks(content), CHUNK) as stream:
            yield stream

    def notes(self, component: str) -> list[str]:
        """Say which trees could not be expanded."""
        return self._notes.get(component, [])

    def seal(self, manifest: Manifest) -> StoredPoint:
        """Write the signed manifest."""
        where = f"{self._store.blobs.where}: {self._prefix}"
        if (manifest.id, manifest.label) != (self._id, self.label):
            raise StoreError(f"the manifest is of {manifest.id}, the point is {self._id}", where=where)
        if not self._store.blobs.put_if_absent(
            f"{self._prefix}/{MANIFEST}", self._host.signer.sign(manifest.to_json())
        ):
            raise StoreError("a manifest is there already", where=where)
        self._host.journal.settle(self._debt)
        return StoredPoint(
            manifest.id, manifest.host, manifest.plan, manifest.label, {"prefix": self._prefix}, manifest
        )

    def abort(self) -> None:
        """Remove everything below the prefix."""
        with self._lock:
            still_open = list(self._open.values())
        for encoder in still_open:
            encoder.abort()
        with contextlib.suppress(RestauraError):
            self._store.sweep(self._debt.data)
            self._host.journal.settle(self._debt)

    # -- shared with its streams ----------------------------------------------------------------------------------

    def end(self, stored: dict[str, Any], encoder: Encoder) -> None:
        """Make an artifact durable, and complete its locator."""
        stored["bytes"], stored["sha256"] = encoder.commit()
        with self._lock:
            del self._open[stored["path"]]

    def drop(self, stored: dict[str, Any], encoder: Encoder) -> None:
        """Take an artifact back; its name is free again."""
        encoder.abort()
        with self._lock:
            self._open.pop(stored["path"], None)
            self._names.discard(stored["path"])

    def _place(self, component: str, name: str, secret: bool, *, gzip: bool = False) -> dict[str, Any]:
        """Return the locator of an artifact to come: its path below the prefix, and the layers of its file."""
        layers = {**self._layers(secret), "zstd": False, "gzip": True} if gzip else self._layers(secret)
        path = checked(f"{self._folder(component)}/{name}{expanded.suffix(layers)}")
        with self._lock:
            if path in self._names:
                raise StoreError(f"{path} is there twice", where=self._store.blobs.where)
            self._names.add(path)
        return {"path": path, **layers}

    def _layers(self, secret: bool) -> dict[str, Any]:
        """Return the layers of a file as its locator has them; what is secret is encrypted in any store."""
        zstd, encrypt = self._store.layers
        return {"zstd": zstd, "age": encrypt or secret}

    @staticmethod
    def _folder(component: str) -> str:
        folder = safe_name(component)
        return f"%{ord(folder[0]):02X}{folder[1:]}" if folder in (MANIFEST, RECORDS) else folder

    def _begin(self, stored: dict[str, Any], expected: int | None) -> Encoder:
        filters = self._store.encode_filters(stored)
        key = f"{self._prefix}/{stored['path']}"
        blob = self._store.blobs.write(key, expected, self._journal)
        encoder = Encoder(filters, blob, f"{self._store.blobs.where}: {key}")
        with self._lock:
            self._open[stored["path"]] = encoder
        return encoder

    def _journal(self, key: str) -> None:
        with self._lock:
            data = {**self._debt.data, "begun": [*self._debt.data["begun"], key]}
            self._debt = self._host.journal.update(self._debt, data)


class DatedStream:
    """A stream artifact that is being written (a `StreamWriter`)."""

    def __init__(self, writer: DatedWriter, artifact: Stream, stored: dict[str, Any], encoder: Encoder) -> None:
        self._writer = writer
        self._artifact = artifact
        self._stored = stored
        self._encoder = encoder

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._encoder.write(data)

    def commit(self, size: int, sha256: str) -> StoredArtifact:
        """End the artifact."""
        self._writer.end(self._stored, self._encoder)
        return StoredArtifact(self._artifact.name, "stream", size, sha256, self._artifact.secret, self._stored)

    def abort(self) -> None:
        """Drop the artifact."""
        self._writer.drop(self._stored, self._encoder)


def _unsigned_id(raw: bytes) -> str:
    """Return the id that an untrusted manifest gives itself, for showing it only."""
    with contextlib.suppress(ValueError, AttributeError):
        claimed = str(json.loads(raw).get("id"))
        if ID_PATTERN.match(claimed):
            return claimed
    return "unknown"
