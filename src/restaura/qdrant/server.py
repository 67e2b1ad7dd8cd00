# SPDX-License-Identifier: GPL-3.0-or-later
"""A Qdrant server, spoken to by its REST interface (https://api.qdrant.tech).

Facts about snapshots that the interface does not tell, as a single 1.18 server showed them: an upload leaves its file
in the collection's snapshot folder, also when it fails; two snapshots of a collection within one second get one name;
recovering over an existing collection keeps that one's own configuration; deleting a collection deletes its aliases
and keeps its snapshots (qdrant/qdrant#5558).
"""

import calendar
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any
from urllib.parse import quote

from restaura.errors import DamagedError, RestauraError, SourceError
from restaura.paths import read_secret
from restaura.runners.container import address_of
from restaura.web import AnswerError, Service

STAGE = "restaura_stage_"
PATIENCE = 10
UPLOADED = "restaura.snapshot"
PAGE_BYTES = 1 << 20
FIRST_PAGE, LONGEST_PAGE = 8, 4096


def kept_out(name: str) -> bool:
    """Whether a collection is Restaura's own copy, which no backup holds."""
    return name.startswith(STAGE)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that lies on the server; `checksum` (SHA-256, hex) is empty where the server tells none."""

    collection: str
    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Server:
    """How a server is reached. `key_file` holds the API key; `seconds` is the longest wait for one answer."""

    component: str
    url: str = ""
    container: str = ""
    port: int = 6333
    ca_file: str = ""
    key_file: str = ""
    seconds: int = 600

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values; they hold no secret."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Server":
        """Build a server from what `to_json` made."""
        return cls(**data)

    @property
    def where(self) -> str:
        """How an error names the server."""
        return f"component {self.component}, Qdrant at {self.container or self.url}"

    @property
    def address(self) -> str:
        """The URL of the server. A container's is asked for each time: it changes when the container is restarted."""
        return self.url or f"http://{address_of(self.container)}:{self.port}"

    @property
    def key(self) -> str:
        """The API key, or an empty text; SourceError when its file cannot be read."""
        return read_secret(self.key_file, self.where, "API key").strip() if self.key_file else ""

    def service(self) -> Service:
        """Return the HTTP service."""
        start = f"docker start {self.container}" if self.container else f"curl {self.url}/readyz"
        return Service(
            self.address,
            {"api-key": self.key} if self.key else {},
            self.ca_file,
            read_seconds=self.seconds,
            patience=min(PATIENCE, self.seconds),
            fix=f"see whether the server runs: {start}",
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Give what a server answers the fix that suits it."""
        try:
            yield
        except AnswerError as error:
            if error.status in (401, 403):
                fix = f"give component {self.component} an api_key that may manage the server (no read-only key)"
            elif error.status < 500:
                fix = ""
            elif "space" in error.said.lower():
                fix = "free space on the server's disk: a snapshot needs as much as its collection"
            else:
                fix = "look into the server's log"
            raise _again(error, fix) from None

    def call(self, method: str, path: str, body: Any = None, *, repeatable: bool | None = None, **params: Any) -> Any:
        """Return the `result` of a call; AnswerError when the server says no."""
        with self._explained():
            told = self.service().json(method, path, params=params or None, body=body, repeatable=repeatable)
        return told["result"] if isinstance(told, dict) and "result" in told else told

    # What there is

    def version(self) -> str:
        """Return the server's version."""
        told = self.call("GET", "/")
        if not isinstance(told, dict) or "version" not in told:
            raise SourceError("what answers is no Qdrant server", where=self.where, fix="correct url or port")
        return str(told["version"])

    def peers(self) -> int:
        """Return of how many peers the cluster is that the server belongs to; 1 for a server of its own."""
        told = self.call("GET", "/cluster")
        return max(1, len(told.get("peers") or ())) if told.get("status") == "enabled" else 1

    def collections(self) -> list[str]:
        """Return the names of the collections, Restaura's own copies left out, sorted."""
        return sorted(name for name in self.all_collections() if not kept_out(name))

    def all_collections(self) -> list[str]:
        """Return the names of all collections."""
        return [str(one["name"]) for one in self.call("GET", "/collections")["collections"]]

    def aliases(self) -> dict[str, str]:
        """Return the collection that each alias leads to."""
        found = self.call("GET", "/aliases")["aliases"]
        return {str(one["alias_name"]): str(one["collection_name"]) for one in found}

    def info(self, collection: str) -> dict[str, Any]:
        """Return configuration and payload schema of a collection."""
        told: dict[str, Any] = self.call("GET", _path(collection))
        return told

    def count(self, collection: str) -> int:
        """Return the exact number of a collection's points."""
        return int(self.call("POST", f"{_path(collection)}/points/count", {"exact": True}, repeatable=True)["count"])

    def points(self, collection: str) -> Iterator[dict[str, Any]]:
        """Yield every point with all vectors and its payload, in the order of ids; pages are about 1 MiB.

        A collection in strict mode may allow less (qdrant.tech/documentation/guides/administration, Strict mode).
        """
        offset: Any = None
        strict = self.info(collection)["config"].get("strict_mode_config") or {}
        longest = min(LONGEST_PAGE, (strict.get("enabled") and strict.get("max_query_limit")) or LONGEST_PAGE)
        limit = min(FIRST_PAGE, longest)
        path = f"{_path(collection)}/points/scroll"
        while True:
            body = {"limit": limit, "with_payload": True, "with_vector": True}
            if offset is not None:
                body["offset"] = offset
            with self._explained(), self.service().answer("POST", path, body=body, repeatable=True) as answer:
                try:
                    content = answer.content
                    told = json.loads(content)["result"]
                except (ValueError, KeyError, OSError) as error:
                    raise SourceError(f"a page of points is no JSON: {error}", where=self.where) from error
            yield from told["points"]
            if told["next_page_offset"] is None:
                return
            if told["next_page_offset"] == offset:
                raise SourceError(
                    "the server gives the same page of points again and again",
                    where=self.where,
                    fix="look into the server's log",
                )
            offset = told["next_page_offset"]
            limit = max(1, min(limit * PAGE_BYTES // max(1, len(content)), limit * 4, longest))

    # Snapshots

    def snapshots(self, collection: str) -> list[Snapshot]:
        """Return the snapshots of a collection that lie on the server."""
        found = self.call("GET", f"{_path(collection)}/snapshots")
        return [_snapshot(collection, one) for one in found]

    def make_snapshot(self, collection: str) -> Snapshot:
        """Make a snapshot: it holds the collection as it is at some moment before this returns.

        One that was made within this very second is waited for: the new one would take its name, and its place.
        """
        if any(stamp(one.name) > time.time() - 1 for one in self.snapshots(collection)):
            time.sleep(1.1)
        return _snapshot(collection, self.call("POST", f"{_path(collection)}/snapshots", wait="true"))

    def delete_snapshot(self, collection: str, name: str) -> None:
        """Delete a snapshot or an uploaded file; no error when there is none."""
        with gone():
            self.call("DELETE", f"{_path(collection)}/snapshots/{quote(name, safe='')}", wait="true")

    @contextlib.contextmanager
    def download(self, snapshot: Snapshot) -> Iterator[IO[bytes]]:
        """Yield a snapshot's bytes; leaving after the last one raises SourceError unless length and checksum hold."""
        path = f"{_path(snapshot.collection)}/snapshots/{quote(snapshot.name, safe='')}"
        with self._explained(), self.service().download(path) as stream:
            checked = Checked(stream)
            yield checked  # type: ignore[misc]
            if not checked.read(1):
                checked.check(snapshot, self.where)

    def recover(self, collection: str, stream: IO[bytes], size: int, checksum: str, *, keep: bool = False) -> None:
        """Make the collection from a snapshot of `size` bytes, and delete the file that the server keeps of it.

        With `keep` that file stays, as the collection's snapshot UPLOADED.

        The collection must not exist: over an existing one the server keeps that one's configuration.
        """
        with self._explained():
            try:
                self.service().upload(
                    f"{_path(collection)}/snapshots/upload",
                    stream,
                    size,
                    field_name="snapshot",
                    file_name=UPLOADED,
                    params={"priority": "snapshot", "wait": "true", **({"checksum": checksum} if checksum else {})},
                    read_seconds=self.seconds,
                )
            except AnswerError as error:
                with contextlib.suppress(RestauraError):
                    self._remove_upload(collection)
                if error.status == 400 and "hecksum" in error.said:
                    raise DamagedError(f"the snapshot arrived damaged: {error.said}", where=self.where) from error
                raise
        if not keep:
            self.delete_snapshot(collection, UPLOADED)

    def _remove_upload(self, collection: str) -> None:
        """Delete what a refused upload left behind: the file can be reached only where the collection is."""
        if collection not in self.all_collections():
            self.call("PUT", _path(collection), {"vectors": {}})
        self.drop(collection)

    def drop(self, collection: str) -> None:
        """Delete a collection that was made by an upload, and the file of that."""
        self.delete_snapshot(collection, UPLOADED)
        self.delete(collection)

    def delete(self, collection: str) -> None:
        """Delete a collection, and with it its aliases; no error when there is none."""
        with gone():
            self.call("DELETE", _path(collection), timeout=self.seconds)

    def change_aliases(self, wanted: dict[str, str | None]) -> None:
        """Point aliases at collections, or delete them (None), all at one moment."""
        present = self.aliases()
        actions: list[dict[str, Any]] = []
        for alias, collection in wanted.items():
            if present.get(alias) == collection:
                continue
            if alias in present:
                actions.append({"delete_alias": {"alias_name": alias}})
            if collection is not None:
                actions.append({"create_alias": {"collection_name": collection, "alias_name": alias}})
        if actions:
            self.call("POST", "/collections/aliases", {"actions": actions})


class Checked:
    """A stream whose bytes are counted and hashed as they are read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.bytes, self._digest = stream, 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        data = self._stream.read(size)
        self.bytes += len(data)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        """The digest of what was read, in hexadecimal."""
        return self._digest.hexdigest()

    def check(self, snapshot: Snapshot, where: str) -> None:
        """Raise SourceError unless what was read is what the server said it would send."""
        if self.bytes != snapshot.size:
            raise SourceError(f"snapshot {snapshot.name} has {self.bytes} bytes, not {snapshot.size}", where=where)
        if snapshot.checksum and self.sha256 != snapshot.checksum:
            raise SourceError(
                f"snapshot {snapshot.name} does not have the checksum that the server tells",
                where=where,
                fix="look into the server's log and at its disk: dmesg",
            )


@contextlib.contextmanager
def gone() -> Iterator[None]:
    """Take what is not there for deleted."""
    try:
        yield
    except AnswerError as error:
        if error.status != 404:
            raise


def stamp(name: str) -> float:
    """Return the time in a snapshot's name (`NAME-PEER-2026-11-21-22-44-18.snapshot`, UTC), or 0."""
    with contextlib.suppress(ValueError):
        return calendar.timegm(time.strptime(name.removesuffix(".snapshot")[-19:], "%Y-%m-%d-%H-%M-%S"))
    return 0.0


def same_or_next(old: str, new: str) -> bool:
    """Whether a server of version `new` reads snapshots of `old`: of the same minor version, or the one before."""
    (major, minor), (new_major, new_minor) = _release(old), _release(new)
    return major == new_major and 0 <= new_minor - minor <= 1


def _release(version: str) -> Sequence[int]:
    try:
        major, minor, *_ = version.split(".")
        return int(major), int(minor)
    except ValueError:
        raise RestauraError(f"{version!r} is no version of Qdrant") from None


def _path(collection: str) -> str:
    return f"/collections/{quote(collection, safe='')}"


def _snapshot(collection: str, told: dict[str, Any]) -> Snapshot:
    return Snapshot(collection, str(told["name"]), int(told["size"]), str(told.get("checksum") or ""))


def _again(error: AnswerError, fix: str) -> AnswerError:
    return AnswerError(error.status, error.said, where=error.where, fix=fix or error.fix)
