# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the Qdrant server: Qdrant's own storage engine (`qdrant-edge-py`) behind a REST front.

The engine keeps points, vectors and payload indexes; the front keeps collections' settings, aliases and snapshots, and
answers as a single 1.18.3 server was recorded to (`qdrant_1_18_3.json`), errors and quirks included. What it does not
know is refused with 501. It follows https://api.qdrant.tech/api-reference/{collections,points,aliases,snapshots,service}
and is configured as the real one is (https://qdrant.tech/documentation/guides/configuration/): QDRANT__SERVICE__HOST,
…__HTTP_PORT, …__API_KEY, …__READ_ONLY_API_KEY, …__ENABLE_TLS, QDRANT__TLS__CERT, …__KEY,
QDRANT__STORAGE__STORAGE_PATH, …__SNAPSHOTS_PATH. A server of its own has `STANDIN_VERSION` and `STANDIN_PEERS`.

`faults.json` in the storage makes it fail on purpose: see `Faults`.
"""

import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import qdrant_edge as edge

PEER = 1382245044382797
# What the recorded server tells of a collection that was created with nothing but vectors.
DEFAULTS: dict[str, Any] = {
    "params": {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True},
    "hnsw_config": {
        "m": 16,
        "ef_construct": 100,
        "full_scan_threshold": 10000,
        "max_indexing_threads": 0,
        "on_disk": False,
    },
    "optimizer_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "max_segment_size": None,
        "memmap_threshold": None,
        "indexing_threshold": 10000,
        "flush_interval_sec": 5,
        "max_optimization_threads": None,
        "prevent_unoptimized": None,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "quantization_config": None,
}
OPEN = ("/", "/healthz", "/livez", "/readyz")
READING = re.compile(r"/collections/[^/]+/points/(scroll|count|query)$|/collections/[^/]+/points$")


class RefusedError(Exception):
    """An answer that says no. `plain` ones are no JSON."""

    def __init__(self, status: int, error: str, *, plain: bool = False) -> None:
        super().__init__(error)
        self.status, self.error, self.plain = status, error, plain


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose: `faults.json` holds any of these."""

    snapshot_seconds: float = 0.0  # how long a snapshot takes
    die_in_snapshot: bool = False  # the process is killed in the midst of one
    wrong_checksum: bool = False  # a snapshot's checksum is another one's
    no_space: bool = False  # no snapshot fits on the disk
    scroll_for_ever: bool = False  # the first page of points again and again
    lose_points: int = 0  # a snapshot lacks that many points
    upload_seconds: float = 0.0  # how long it takes until an upload to `docs` is made a collection
    status: int = 0  # every request but to `/` is answered with this
    seconds: float = 0.0  # how long every answer takes

    @classmethod
    def read(cls, storage: Path) -> "Faults":
        """Return what stands in `faults.json`, or nothing."""
        path = storage / "faults.json"
        return cls(**json.loads(path.read_text())) if path.exists() else cls()


# -- the engine --------------------


def shard_of(folder: Path, params: dict[str, Any], quantization: dict[str, Any] | None) -> Any:
    """Open the engine's shard in a folder, made anew with a collection's vectors where there is none."""
    if (folder / "segments").is_dir():
        return edge.EdgeShard.load(str(folder))
    folder.mkdir(parents=True)
    dense = params.get("vectors") or {}
    named = {"": dense} if "size" in dense else dense
    sparse = {name: sparse_params(one) for name, one in (params.get("sparse_vectors") or {}).items()}
    if not named and not sparse:
        # The server takes a collection without vectors, the engine wants one.
        sparse = {"none": sparse_params({})}
    # Without a log of 32 MB for each collection; every change is flushed instead.
    config = edge.EdgeConfig(
        vectors={name: dense_params(one, quantization) for name, one in named.items()},
        sparse_vectors=sparse,
        wal_enabled=False,
    )
    return edge.EdgeShard.create(str(folder), config)


def dense_params(one: dict[str, Any], quantization: dict[str, Any] | None) -> Any:
    """Return a dense vector's or multivector's parameters for the engine."""
    multi = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if one.get("multivector_config") else None
    scalar = (quantization or {}).get("scalar")
    quantized = (
        edge.ScalarQuantizationConfig(edge.ScalarType.Int8, scalar.get("quantile"), scalar.get("always_ram"))
        if scalar and not multi
        else None
    )
    return edge.EdgeVectorParams(
        size=one["size"],
        distance=getattr(edge.Distance, one["distance"]),
        on_disk=one.get("on_disk"),
        multivector_config=multi,
        quantization_config=quantized,
    )


def sparse_params(one: dict[str, Any]) -> Any:
    """Return a sparse vector's parameters for the engine."""
    return edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if one.get("modifier") == "idf" else None)


def to_engine(vector: Any) -> Any:
    """Return a vector of a request as the engine takes it."""
    if isinstance(vector, dict):
        return {name: to_engine_one(one) for name, one in vector.items()}
    return vector


def to_engine_one(vector: Any) -> Any:
    """Return one named vector as the engine takes it."""
    return edge.SparseVector(vector["indices"], vector["values"]) if isinstance(vector, dict) else vector


def from_engine(vector: Any) -> Any:
    """Return a vector of the engine as the server writes it."""
    if isinstance(vector, dict):
        return {name: from_engine(one) for name, one in vector.items()}
    if isinstance(vector, list):
        return [from_engine(one) for one in vector]
    if isinstance(vector, float | int):
        return shortest(vector)
    return {"indices": list(vector.indices), "values": [shortest(one) for one in vector.values]}


def shortest(value: float) -> float:
    """Return the number of fewest digits that is the same in 32 bits: so the server writes it."""
    for digits in range(6, 10):
        found = float(f"{value:.{digits}g}")
        if struct.pack("<f", found) == struct.pack("<f", value):
            return found
    return value


# -- collections --------------------


class Collection:
    """One collection: `config.json` and `payload_index.json` are the front's, `0` is the engine's shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.schema: dict[str, Any] = json.loads((folder / "payload_index.json").read_text())
        self.shard = shard_of(folder / "0", self.config["params"], self.config.get("quantization_config"))
        self.operation = 0

    @classmethod
    def make(cls, folder: Path, body: dict[str, Any]) -> "Collection":
        """Create a collection as `PUT /collections/{name}` asks for it."""
        config = json.loads(json.dumps(DEFAULTS))
        config["params"] |= {"vectors": body.get("vectors") or {}}
        for key in ("sparse_vectors", "on_disk_payload"):
            if key in body:
                config["params"][key] = body[key]
        config["hnsw_config"] |= body.get("hnsw_config") or {}
        config["optimizer_config"] |= body.get("optimizers_config") or {}
        config["quantization_config"] = body.get("quantization_config")
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "payload_index.json").write_text("{}")
        return cls(folder)

    def save(self) -> None:
        """Write what the front keeps."""
        (self.folder / "config.json").write_text(json.dumps(self.config))
        (self.folder / "payload_index.json").write_text(json.dumps(self.schema))

    def apply(self, operation: Any) -> dict[str, Any]:
        """Have the engine apply an operation."""
        try:
            self.shard.update(operation)
            self.shard.flush()
        except Exception as error:
            raise RefusedError(400, f"Wrong input: {error}") from error
        self.operation += 1
        return {"operation_id": self.operation, "status": "completed"}

    def info(self) -> dict[str, Any]:
        """Return what `GET /collections/{name}` tells."""
        told = self.shard.info()
        schema = {}
        for field, given in self.schema.items():
            kind = given if isinstance(given, str) else given["type"]
            params = {} if isinstance(given, str) else {"params": given}
            indexed = told.payload_schema.get(field)
            schema[field] = {"data_type": kind, **params, "points": indexed.points if indexed else 0}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": told.indexed_vectors_count,
            "points_count": told.points_count,
            "segments_count": told.segments_count,
            "config": self.config,
            "payload_schema": schema,
        }

    def index(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a payload index."""
        field, given = body["field_name"], body["field_schema"]
        kind = given if isinstance(given, str) else given["type"]
        schema = getattr(edge.PayloadSchemaType, kind.capitalize())
        done = self.apply(edge.UpdateOperation.create_field_index(field, schema))
        self.schema[field] = given
        self.save()
        return done

    def drop_index(self, field: str) -> dict[str, Any]:
        """Delete a payload index."""
        done = self.apply(edge.UpdateOperation.delete_field_index(field))
        self.schema.pop(field, None)
        self.save()
        return done

    def change(self, body: dict[str, Any]) -> bool:
        """Change settings as `PATCH /collections/{name}` does."""
        self.config["hnsw_config"] |= body.get("hnsw_config") or {}
        self.config["optimizer_config"] |= body.get("optimizers_config") or {}
        self.config["params"] |= body.get("params") or {}
        for key in ("quantization_config", "strict_mode_config"):
            if key in body:
                self.config[key] = body[key]
        self.save()
        return True

    def upsert(self, body: dict[str, Any]) -> dict[str, Any]:
        """Write points."""
        points = [edge.Point(one["id"], to_engine(one["vector"]), one.get("payload")) for one in body["points"]]
        return self.apply(edge.UpdateOperation.upsert_points(points))

    def set_vectors(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace vectors of points."""
        given = [edge.PointVectors(one["id"], to_engine(one["vector"])) for one in body["points"]]
        return self.apply(edge.UpdateOperation.update_vectors(given))

    def retrieve(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return points by their ids."""
        payload, vector = body.get("with_payload", True), body.get("with_vector", False)
        return [told_point(one) for one in self.shard.retrieve(body["ids"], payload, vector)]

    def scroll(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a page of points in the order of their ids."""
        if body.get("filter") or body.get("order_by"):
            raise RefusedError(501, "the stand-in knows no filter and no order")
        strict = self.config.get("strict_mode_config") or {}
        limit, most = body.get("limit") or 10, strict.get("max_query_limit")
        if strict.get("enabled") and most and limit > most:
            raise RefusedError(400, f'Bad request: Limit exceeded {limit} > {most} for "limit"')
        records, following = self.shard.scroll(
            edge.ScrollRequest(
                offset=body.get("offset"),
                limit=body.get("limit") or 10,
                with_payload=body.get("with_payload", True),
                with_vector=body.get("with_vector", False),
            )
        )
        return {"points": [told_point(one) for one in records], "next_page_offset": plain_id(following)}

    def query(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the points that are nearest to a vector."""
        found = self.shard.query(
            edge.QueryRequest(
                query=edge.Query.Nearest(to_engine_one(body["query"]), using=body.get("using")),
                limit=body.get("limit") or 10,
                params=edge.SearchParams(exact=True),
                with_payload=body.get("with_payload", False),
                with_vector=body.get("with_vector", False),
            )
        )
        return {"points": [{**told_point(one), "version": 0, "score": one.score} for one in found]}


def told_point(record: Any) -> dict[str, Any]:
    """Return a point of the engine as the server writes it."""
    point = {"id": plain_id(record.id), "payload": record.payload or {}}
    if record.vector is not None:
        point["vector"] = from_engine(record.vector)
    return point


def plain_id(value: Any) -> Any:
    """Return a point's id as JSON has it."""
    return value if value is None or isinstance(value, int) else str(value)


class Storage:
    """Everything that is on the disk: collections, aliases, snapshots."""

    def __init__(self, storage: Path, snapshots: Path) -> None:
        self.path, self.snapshots = storage, snapshots
        self.lock = threading.RLock()
        for folder in (storage / "collections", storage / "tmp", snapshots):
            folder.mkdir(parents=True, exist_ok=True)
        self.collections = {
            unquote(one.name): Collection(one) for one in sorted((storage / "collections").iterdir()) if one.is_dir()
        }
        aliases = storage / "aliases/data.json"
        self.aliases: dict[str, str] = json.loads(aliases.read_text()) if aliases.exists() else {}

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return Faults.read(self.path)

    def collection(self, name: str) -> Collection:
        """Return a collection by its name or an alias."""
        found = self.collections.get(self.aliases.get(name, name))
        if found is None:
            raise RefusedError(404, f"Not found: Collection `{name}` doesn't exist!")
        return found

    def folder(self, name: str) -> Path:
        """Return where a collection is, or would be."""
        return self.path / "collections" / quote(name, safe="")

    def create(self, name: str, body: dict[str, Any]) -> bool:
        """Create a collection."""
        if name in self.collections or name in self.aliases:
            raise RefusedError(409, f"Wrong input: Collection `{name}` already exists!")
        self.collections[name] = Collection.make(self.folder(name), body)
        return True

    def delete(self, name: str) -> bool:
        """Delete a collection and its aliases; its snapshots stay."""
        found = self.collections.pop(name, None)
        if found is None:
            return False
        found.shard.close()
        shutil.rmtree(found.folder)
        self.set_aliases({alias: one for alias, one in self.aliases.items() if one != name})
        return True

    def set_aliases(self, aliases: dict[str, str]) -> None:
        """Replace all aliases."""
        self.aliases = aliases
        path = self.path / "aliases/data.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(aliases))

    def change_aliases(self, actions: list[dict[str, Any]]) -> bool:
        """Apply actions on aliases, all or none."""
        changed = dict(self.aliases)
        for one in actions:
            if told := one.get("create_alias"):
                if told["collection_name"] not in self.collections:
                    raise RefusedError(404, f"Not found: Collection `{told['collection_name']}` doesn't exist!")
                if told["alias_name"] in self.collections:
                    raise RefusedError(409, f"Wrong input: Collection `{told['alias_name']}` already exists!")
                changed[told["alias_name"]] = told["collection_name"]
            elif told := one.get("delete_alias"):
                changed.pop(told["alias_name"], None)
            elif told := one.get("rename_alias"):
                changed[told["new_alias_name"]] = changed.pop(told["old_alias_name"])
        self.set_aliases(changed)
        return True

    def told_aliases(self, collection: str = "") -> dict[str, Any]:
        """Return the aliases, all or of one collection."""
        return {
            "aliases": [
                {"alias_name": alias, "collection_name": name}
                for alias, name in sorted(self.aliases.items())
                if collection in ("", name)
            ]
        }

    # Snapshots: a tar of the front's files and, in `0`, of the engine's, as a collection snapshot of the server has it.

    def shelf(self, name: str) -> Path:
        """Return the folder of a collection's snapshots: that of the name it was asked for by, an alias too."""
        return self.snapshots / quote(name, safe="")

    def listed(self, name: str) -> list[dict[str, Any]]:
        """Return the snapshots of a collection, uploaded files too."""
        self.collection(name)
        return [described(one) for one in sorted(self.shelf(name).glob("*.snapshot"))]

    def take(self, name: str, version: str) -> dict[str, Any]:
        """Make a snapshot; a second one of the same second gets the first one's name and replaces it."""
        found, real, faults = self.collection(name), self.aliases.get(name, name), self.faults
        if faults.no_space:
            raise RefusedError(500, "Service internal error: No space left on device (os error 28)")
        self.shelf(name).mkdir(exist_ok=True)
        file_name = f"{real}-{PEER}-{time.strftime('%Y-%m-%d-%H-%M-%S', time.gmtime())}.snapshot"
        path = self.shelf(name) / file_name.replace("/", "_")
        with tempfile.TemporaryDirectory(dir=self.path / "tmp") as folder:
            made = Path(folder) / "made.snapshot"
            (Path(folder) / "version.info").write_text(version)
            pack(made, found.folder, "config.json", "payload_index.json", "0", "-C", folder, "version.info")
            if faults.lose_points:
                without(made, faults.lose_points)
            time.sleep(faults.snapshot_seconds)
            if faults.die_in_snapshot:
                os.kill(os.getpid(), signal.SIGKILL)
            checksum = digest(made)
            Path(f"{path}.checksum").write_text("0" * 64 if faults.wrong_checksum else checksum)
            made.replace(path)
        return described(path)

    def snapshot(self, name: str, file_name: str) -> Path:
        """Return a snapshot's file."""
        self.collection(name)
        path = self.shelf(name) / file_name
        if "/" in file_name or not path.is_file():
            raise RefusedError(404, f"Not found: Snapshot {file_name} not found", plain=True)
        return path

    def drop_snapshot(self, name: str, file_name: str) -> bool:
        """Delete a snapshot."""
        path = self.snapshot(name, file_name)
        path.unlink()
        Path(f"{path}.checksum").unlink(missing_ok=True)
        return True

    def keep_upload(self, name: str, uploaded: Path, file_name: str, checksum: str) -> Path:
        """Put an uploaded file among the collection's snapshots, where it stays whatever comes of it."""
        found = digest(uploaded)
        if checksum and found != checksum:
            raise RefusedError(400, f"Checksum mismatch: expected {found}, actual {checksum}")
        self.shelf(name).mkdir(exist_ok=True)
        return uploaded.rename(self.shelf(name) / Path(file_name).name)

    def recover(self, name: str, path: Path) -> bool:
        """Make a collection of a snapshot, or replace the content of one that has the same vectors."""
        real = self.aliases.get(name, name)
        with tempfile.TemporaryDirectory(dir=self.path / "tmp", prefix="recovery-") as folder:
            unpack(path, folder)
            config = json.loads((Path(folder) / "config.json").read_text())
            there = self.collections.get(real)
            if there is not None and there.config["params"]["vectors"] != config["params"]["vectors"]:
                raise RefusedError(
                    400,
                    "Wrong input: Snapshot is not compatible with existing collection: Collection vectors: "
                    f"{there.config['params']['vectors']} Snapshot Vectors: {config['params']['vectors']}",
                )
            if there is not None:
                there.shard.close()
                # The collection's own settings stay.
                shutil.copy(there.folder / "config.json", Path(folder) / "config.json")
                shutil.rmtree(there.folder)
            shutil.move(folder, self.folder(real))
            Path(folder).mkdir()
            self.collections[real] = Collection(self.folder(real))
        return True

    def recover_from(self, name: str, body: dict[str, Any]) -> bool:
        """Recover from a file of the snapshots folder."""
        where = urlsplit(body["location"])
        path = Path(unquote(where.path)).resolve()
        if where.scheme != "file":
            raise RefusedError(501, "the stand-in recovers from files only")
        if self.snapshots.resolve() not in path.parents:
            raise RefusedError(
                403, f'Forbidden: Snapshot file path must be inside the snapshots directory "{self.snapshots}"'
            )
        if body.get("checksum") and digest(path) != body["checksum"]:
            raise RefusedError(400, f"Checksum mismatch: expected {digest(path)}, actual {body['checksum']}")
        return self.recover(name, path)


def described(path: Path) -> dict[str, Any]:
    """Return what is told of a snapshot."""
    kept = Path(f"{path}.checksum")
    return {
        "name": path.name,
        "creation_time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(path.stat().st_mtime)),
        "size": path.stat().st_size,
        "checksum": kept.read_text() if kept.exists() else None,
    }


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pack(path: Path, folder: Path, *names: str) -> None:
    """Pack files of a folder; the engine's are nearly all holes."""
    subprocess.run(["tar", "-cSf", str(path), "-C", str(folder), *names], check=True)


def unpack(path: Path, folder: str) -> None:
    """Unpack a snapshot; one that is cut or no tar at all is an error of the server."""
    done = subprocess.run(["tar", "-xf", str(path), "-C", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(500, f"Service internal error: File IO error: {done.stderr.strip()}")


def without(path: Path, count: int) -> None:
    """Take points out of a snapshot."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(path, folder)
        shard = edge.EdgeShard.load(f"{folder}/0")
        records, _ = shard.scroll(edge.ScrollRequest(limit=count))
        shard.update(edge.UpdateOperation.delete_points([one.id for one in records]))
        shard.close()
        pack(path, Path(folder), *sorted(one.name for one in Path(folder).iterdir()))


# -- HTTP --------------------


class Front(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    storage: Storage
    key, read_only_key, version, peers = "", "", "1.18.3", 1

    def handle_one(self) -> None:
        """Answer a request."""
        begun = time.perf_counter()
        url = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.unread = int(self.headers.get("Content-Length") or 0)
        parts = [unquote(one) for one in url.path.strip("/").split("/") if one]
        try:
            self._admit(url.path)
            faults = self.storage.faults
            time.sleep(faults.seconds)
            if faults.status and parts:
                raise RefusedError(faults.status, "Service internal error: a fault on purpose")
            told = self._answer(parts)
        except RefusedError as refused:
            self._refuse(refused, begun)
        except Exception as error:  # noqa: BLE001 - a defect is an answer too
            traceback.print_exc()
            self._refuse(RefusedError(500, f"Service internal error: {error!r}"), begun)
        else:
            self._send_told(told, parts, begun)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one  # noqa: N815 - the library's names

    def _send_told(self, told: Any, parts: list[str], begun: float) -> None:
        if isinstance(told, Path):
            self._send_file(told)
            return
        body = {"result": told, "status": "ok", "time": time.perf_counter() - begun} if parts else told
        self._send(200, "application/json", json.dumps(body).encode())

    def _admit(self, path: str) -> None:
        """Ask for a key where there is one (https://qdrant.tech/documentation/guides/security/)."""
        given = self.headers.get("api-key") or (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if path in OPEN or not (self.key or self.read_only_key) or (given == self.key and given):
            return
        if not given or given != self.read_only_key:
            say = "Invalid API key or JWT" if given else "Must provide an API key or an Authorization bearer token"
            raise RefusedError(401, say, plain=True)
        if self.command != "GET" and not (self.command == "POST" and READING.match(path)):
            raise RefusedError(403, "Forbidden: Global manage access is required")

    def _answer(self, parts: list[str]) -> Any:
        """Find who answers; everything but the reading of a body happens one after another."""
        if parts[-2:] == ["snapshots", "upload"] and self.command == "POST":
            return self._upload(parts[1])
        body = self._body()
        known = ROUTES.get(f"{self.command} {template(parts)}")
        if known is None:
            raise RefusedError(501, f"the stand-in does not know {self.command} {self.path}")
        with self.storage.lock:
            return known(self, parts[1] if len(parts) > 1 else "", parts[-1] if parts else "", body)

    def told_cluster(self) -> dict[str, Any]:
        """Return whether the server is one of a cluster."""
        if self.peers == 1:
            return {"status": "disabled"}
        peers = {str(PEER + one): {"uri": f"http://10.0.0.{one}:6335/"} for one in range(self.peers)}
        return {"status": "enabled", "peer_id": PEER, "peers": peers}

    def _upload(self, name: str) -> bool:
        """Receive a multipart form with one file, `snapshot`, and recover from it."""
        mark = b"--" + re.search(r"boundary=(\S+)", self.headers["Content-Type"])[1].strip('"').encode()  # type: ignore[index]
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            self.unread -= len(line)
            head += line
        told = re.search(rb'name="snapshot"; filename="([^"]*)"', head)
        if not head.startswith(mark) or not told:
            raise RefusedError(400, "Bad Request: Multipart error: Field with name 'snapshot' is required")
        tail = len(b"\r\n" + mark + b"--\r\n")
        with tempfile.TemporaryDirectory(dir=self.storage.path / "tmp") as folder:
            uploaded = Path(folder) / "uploaded"
            with uploaded.open("wb") as out:
                left = self.unread - tail
                while left > 0 and (data := self.rfile.read(min(left, 1 << 18))):
                    out.write(data)
                    left -= len(data)
                    self.unread -= len(data)
            if left or not self.rfile.read(tail).startswith(b"\r\n" + mark):
                raise RefusedError(400, "Bad Request: Multipart error: stream is incomplete")
            self.unread = 0
            time.sleep(self.storage.faults.upload_seconds if name == "docs" else 0)
            with self.storage.lock:
                path = self.storage.keep_upload(name, uploaded, told[1].decode(), self.query.get("checksum", ""))
                return self.storage.recover(name, path)

    def _body(self) -> Any:
        raw = self.rfile.read(self.unread)
        self.unread = 0
        try:
            return json.loads(raw) if raw else {}
        except ValueError as error:
            raise RefusedError(400, f"Format error in JSON body: {error}") from error

    def _refuse(self, refused: RefusedError, begun: float) -> None:
        # What is left of a body would be taken for the next request.
        self.close_connection = self.close_connection or self.unread > 0
        if refused.plain:
            self._send(refused.status, "text/plain; charset=utf-8", refused.error.encode())
            return
        told = {"status": {"error": refused.error}, "time": time.perf_counter() - begun}
        self._send(refused.status, "application/json", json.dumps(told).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as stream:
            shutil.copyfileobj(stream, self.wfile, 1 << 18)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def template(parts: list[str]) -> str:
    """Return a path with `*` for the names of collections, snapshots and indexes."""
    found = list(parts)
    if len(found) > 1 and found[0] == "collections" and found != ["collections", "aliases"]:
        found[1] = "*"
        if len(found) == 4 and (found[2] == "index" or (found[2] == "snapshots" and found[3] != "recover")):
            found[3] = "*"
    return "/".join(found)


def shards(found: Collection) -> dict[str, Any]:
    """Return where a collection's shards are."""
    shard = {"shard_id": 0, "points_count": found.shard.info().points_count, "state": "Active"}
    lists = {"local_shards": [shard], "remote_shards": [], "shard_transfers": []}
    return {"peer_id": PEER, "shard_count": 1, **lists}


def on_collection(act: Callable[[Collection, Any], Any]) -> Callable[[Front, str, str, Any], Any]:
    """Return what answers a request for one collection."""
    return lambda front, name, _last, body: act(front.storage.collection(name), body)


def scrolled(found: Collection, body: dict[str, Any]) -> dict[str, Any]:
    """Return a page of points, or on purpose the first one again."""
    if Front.storage.faults.scroll_for_ever:
        return found.scroll({**body, "offset": None}) | {"next_page_offset": 1}
    return found.scroll(body)


def product(front: Front) -> dict[str, Any]:
    """Return what the server says of itself."""
    return {"title": "qdrant - vector search engine", "version": front.version, "commit": "0" * 40}


ROUTES: dict[str, Callable[[Front, str, str, Any], Any]] = {
    "GET ": lambda front, *_: product(front),
    **{f"GET {one[1:]}": lambda *_: "healthz check passed" for one in OPEN[1:]},
    "GET cluster": lambda front, *_: front.told_cluster(),
    "GET telemetry": lambda front, *_: {"app": {"name": "qdrant", "version": front.version}},
    "GET collections": lambda front, *_: {"collections": [{"name": one} for one in sorted(front.storage.collections)]},
    "GET aliases": lambda front, *_: front.storage.told_aliases(),
    "POST collections/aliases": lambda front, _name, _last, body: front.storage.change_aliases(body["actions"]),
    "PUT collections/*": lambda front, name, _last, body: front.storage.create(name, body),
    "DELETE collections/*": lambda front, name, *_: front.storage.delete(name),
    "GET collections/*": on_collection(lambda one, _: one.info()),
    "PATCH collections/*": on_collection(lambda one, body: one.change(body)),
    "GET collections/*/aliases": lambda front, name, *_: front.storage.told_aliases(name),
    "GET collections/*/cluster": on_collection(lambda one, _: shards(one)),
    "PUT collections/*/index": on_collection(lambda one, body: one.index(body)),
    "DELETE collections/*/index/*": lambda front, name, field, _: front.storage.collection(name).drop_index(field),
    "PUT collections/*/points": on_collection(lambda one, body: one.upsert(body)),
    "POST collections/*/points": on_collection(lambda one, body: one.retrieve(body)),
    "POST collections/*/points/scroll": on_collection(scrolled),
    "POST collections/*/points/query": on_collection(lambda one, body: one.query(body)),
    "POST collections/*/points/count": on_collection(
        lambda one, _: {"count": one.shard.count(edge.CountRequest(exact=True))}
    ),
    "POST collections/*/points/delete": on_collection(
        lambda one, body: one.apply(edge.UpdateOperation.delete_points(body["points"]))
    ),
    "POST collections/*/points/payload": on_collection(
        lambda one, body: one.apply(edge.UpdateOperation.set_payload(body["points"], body["payload"]))
    ),
    "POST collections/*/points/payload/delete": on_collection(
        lambda one, body: one.apply(edge.UpdateOperation.delete_payload(body["points"], body["keys"]))
    ),
    "PUT collections/*/points/vectors": on_collection(lambda one, body: one.set_vectors(body)),
    "POST collections/*/points/vectors/delete": on_collection(
        lambda one, body: one.apply(edge.UpdateOperation.delete_vectors(body["points"], body["vector"]))
    ),
    "GET collections/*/snapshots": lambda front, name, *_: front.storage.listed(name),
    "POST collections/*/snapshots": lambda front, name, *_: front.storage.take(name, front.version),
    "PUT collections/*/snapshots/recover": lambda front, name, _last, body: front.storage.recover_from(name, body),
    "GET collections/*/snapshots/*": lambda front, name, last, _: front.storage.snapshot(name, last),
    "DELETE collections/*/snapshots/*": lambda front, name, last, _: front.storage.drop_snapshot(name, last),
}


def main() -> None:
    """Serve until the end."""
    given = os.environ.get
    storage = Path(given("QDRANT__STORAGE__STORAGE_PATH", "./storage"))
    Front.storage = Storage(storage, Path(given("QDRANT__STORAGE__SNAPSHOTS_PATH", str(storage / "snapshots"))))
    Front.key = given("QDRANT__SERVICE__API_KEY", "")
    Front.read_only_key = given("QDRANT__SERVICE__READ_ONLY_API_KEY", "")
    Front.version, Front.peers = given("STANDIN_VERSION", "1.18.3"), int(given("STANDIN_PEERS", "1"))
    address = given("QDRANT__SERVICE__HOST", "0.0.0.0"), int(given("QDRANT__SERVICE__HTTP_PORT", "6333"))
    server = http.server.ThreadingHTTPServer(address, Front)
    if given("QDRANT__SERVICE__ENABLE_TLS", "") == "true":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(
            given("QDRANT__TLS__CERT", "./tls/cert.pem"), given("QDRANT__TLS__KEY", "./tls/key.pem")
        )
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
