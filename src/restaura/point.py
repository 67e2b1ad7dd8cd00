# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore point: its id and label, the manifest that makes it exist, and the signature that makes it trusted."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from restaura.errors import DamagedError

MANIFEST_VERSION = 1
ID_FORMAT = "%Y%m%dT%H%M%SZ"
ID_PATTERN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{10}\Z")

State = Literal["complete", "torn", "suspect", "failed"]
Proof = Literal["unproven", "proven", "disproven"]
Consistency = Literal["transactional", "stopped", "snapshot", "crash", "torn"]
Depth = Literal["content", "catalog"]
ArtifactKind = Literal["stream", "tree", "external"]


def safe_name(text: str) -> str:
    """Return `text` as one path segment: percent-encoded but for letters, digits, `_`, `-` and `.`.

    It never begins with `.` or `-` and is never empty. Names over 190 bytes are cut to 197 with a hash at their end,
    so that two names are never the same segment.
    """
    name = "".join(
        c
        if c.isascii() and (c.isalnum() or c in "_-.")
        else "".join(f"%{byte:02X}" for byte in c.encode(errors="surrogateescape"))
        for c in text
    )
    if name.startswith((".", "-")):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > 190:
        name = f"{name[:180]}.{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}"
    return name or "%"


def new_id(now: datetime) -> str:
    """Return a point id: UTC start time, the fraction of its second (in 1/65536) and three random bytes, in hex.

    Sorted as text, ids are in the order of time, also those of two runs that began in one second.
    """
    return f"{now.astimezone(UTC):{ID_FORMAT}}-{now.microsecond * 65536 // 1_000_000:04x}{secrets.token_hex(3)}"


def started_at(point_id: str) -> datetime:
    """Return the UTC start time that a point id carries."""
    return datetime.strptime(point_id.split("-", maxsplit=1)[0], ID_FORMAT).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Fingerprint:
    """An exact digest of a component's content: one digest per named part, so that a difference names its place.

    `algorithm` is a name with a version (`postgres-1`); two fingerprints compare only when algorithm and depth are
    equal. `counts` is for people (rows, files, bytes) and is compared too.
    """

    algorithm: str
    depth: Depth
    parts: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over all parts and counts, in hexadecimal."""
        body = json.dumps([self.algorithm, self.depth, self.parts, self.counts], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()

    def differences(self, other: "Fingerprint") -> list[str]:
        """Name every part and count in which `other` (what was restored) differs from this one (what was backed up)."""
        if (self.algorithm, self.depth) != (other.algorithm, other.depth):
            theirs = f"{other.algorithm}/{other.depth}"
            return [f"fingerprints do not compare: {self.algorithm}/{self.depth} and {theirs}"]
        found = []
        for name in sorted({*self.parts, *other.parts}):
            if name not in other.parts:
                found.append(f"{name}: missing after restore")
            elif name not in self.parts:
                found.append(f"{name}: only there after restore")
            elif self.parts[name] != other.parts[name]:
                found.append(f"{name}: differs")
        counted = {name: (self.counts.get(name), other.counts.get(name)) for name in {*self.counts, *other.counts}}
        found += [f"{name}: {a} backed up, {b} restored" for name, (a, b) in sorted(counted.items()) if a != b]
        return found


@dataclass(frozen=True)
class StoredArtifact:
    """One artifact as one store keeps it.

    `bytes` and `sha256` describe the plain stream (for a tree: the sum of file sizes and the SHA-256 of its index
    artifact's stream); `stored` is the store's own locator (a path, a restic snapshot id) and means nothing to others.
    """

    name: str
    kind: ArtifactKind
    bytes: int
    sha256: str
    secret: bool = False
    stored: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ComponentRecord:
    """What a point says of one component.

    `pause_seconds` is how long ingestion was paused, `frozen_after` how long after the begin of that pause it held
    still, `freeze_seconds` how long it was held for the copy, and `stop_seconds` how long services or containers were
    stopped for it, from the begin of the stop to the end of the start.
    """

    name: str
    source: str
    state: State
    consistency: Consistency | None = None
    error: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    frozen_at: str | None = None
    frozen_after: float = 0.0
    freeze_seconds: float = 0.0
    pause_seconds: float = 0.0
    stop_seconds: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    fingerprint: Fingerprint | None = None
    notes: list[str] = field(default_factory=list)
    artifacts: list[StoredArtifact] = field(default_factory=list)

    def artifact(self, name: str) -> StoredArtifact:
        """Return the artifact called `name`; DamagedError when the manifest has none."""
        for one in self.artifacts:
            if one.name == name:
                return one
        raise DamagedError(f"the manifest lists no artifact {name!r}", where=f"component {self.name}")


@dataclass(frozen=True)
class Manifest:
    """One point in one store. It is written last: without a manifest a point does not exist."""

    id: str
    label: str
    host: str
    identity: str
    plan: str
    started: str
    finished: str
    program: str
    contract: int
    config: dict[str, Any]
    components: list[ComponentRecord]
    version: int = MANIFEST_VERSION

    def component(self, name: str) -> ComponentRecord:
        """Return the record of the component called `name`; DamagedError when it has none."""
        for one in self.components:
            if one.name == name:
                return one
        raise DamagedError(f"the point holds no component {name!r}", where=f"point {self.id}")

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values, unsigned."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Manifest":
        """Build a manifest from JSON values; DamagedError when they are not one this program reads."""
        version = data.get("version")
        if version != MANIFEST_VERSION:
            raise DamagedError(
                f"manifest version {version!r}; this program reads {MANIFEST_VERSION}",
                where=f"point {data.get('id')}",
                fix="use the program that is kept in the store beside the point",
            )
        try:
            components = [_component(one) for one in data["components"]]
            return cls(**{**{k: v for k, v in data.items() if k != "signature"}, "components": components})
        except (KeyError, TypeError) as error:
            raise DamagedError(f"the manifest is not whole: {error}", where=f"point {data.get('id')}") from error

    def with_components(self, components: Iterable[ComponentRecord]) -> "Manifest":
        """Return a copy that holds other component records."""
        return replace(self, components=list(components))


def _component(data: Mapping[str, Any]) -> ComponentRecord:
    artifacts = [StoredArtifact(**one) for one in data["artifacts"]]
    fingerprint = Fingerprint(**data["fingerprint"]) if data["fingerprint"] else None
    return ComponentRecord(**{**data, "artifacts": artifacts, "fingerprint": fingerprint})


@dataclass(frozen=True)
class Record:
    """What was found out about a point after it was sealed: kept beside the manifest, signed like it.

    `kind` is `drill` (a restore was compared), `verify` (stored bytes were read again) or `accept` (a person accepted
    a suspect component). `results` maps component to `proven` / `disproven` / `verified` / `accepted`.
    """

    point: str
    kind: Literal["drill", "verify", "accept"]
    at: str
    results: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, unsigned."""
        return asdict(self)


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return the one byte form of JSON values that signatures cover."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class Signer:
    """Signs and checks JSON documents with a key that is never kept in a store (HMAC-SHA256, RFC 2104)."""

    def __init__(self, key: bytes, older: Iterable[bytes] = ()) -> None:
        self._key = key
        self._keys = {self.key_id(one): one for one in (key, *older)}

    @staticmethod
    def key_id(key: bytes) -> str:
        """Return a short public name of a key."""
        return hashlib.sha256(b"restaura key id" + key).hexdigest()[:16]

    def sign(self, data: Mapping[str, Any]) -> bytes:
        """Return the document with its signature, as the bytes to store."""
        body = {key: value for key, value in data.items() if key != "signature"}
        value = hmac.new(self._key, canonical(body), hashlib.sha256).hexdigest()
        return canonical({**body, "signature": {"key": self.key_id(self._key), "value": value}}) + b"\n"

    def open(self, raw: bytes, where: str) -> dict[str, Any]:
        """Return the document in `raw` when its signature holds; DamagedError when it was changed or forged."""
        try:
            data = json.loads(raw)
            signature = data.pop("signature")
            key_id, value = str(signature["key"]), str(signature["value"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedError("not a signed document", where=where) from error
        key = self._keys.get(key_id)
        if key is None:
            raise DamagedError(
                f"signed with a key ({key_id}) that this host does not hold",
                where=where,
                fix="give the recovery kit that holds it: --kit FILE",
            )
        expected = hmac.new(key, canonical(data), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), value.encode(errors="surrogatepass")):
            raise DamagedError("the signature does not hold: changed or forged", where=where)
        return dict(data)
