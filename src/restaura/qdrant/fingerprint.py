# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of collections: settings, payload indexes and aliases one by one, points as an order-free sum."""

import array
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ALGORITHM = "qdrant-1"
_MODULUS = 1 << 256


class Points:
    """The sum of a collection's points: of each, SHA-256 over id, every vector to the bit, and payload."""

    def __init__(self) -> None:
        self.count, self._sum = 0, 0

    def add(self, point: Mapping[str, Any]) -> None:
        """Add a point as the server's JSON has it."""
        digest = hashlib.sha256(_text(point["id"]))
        digest.update(_text(point.get("payload") or {}))
        _add_vectors(digest, point.get("vector") or {})
        self._sum = (self._sum + int.from_bytes(digest.digest(), "big")) % _MODULUS
        self.count += 1

    @property
    def digest(self) -> str:
        """The sum, in hexadecimal."""
        return f"{self._sum:064x}"


def structure(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a collection's info is its own: one entry for each setting and each payload index.

    Left out: what is not set, as newer servers know more settings, and the numbers that change by themselves.
    """
    found = {f"config {path}": value for path, value in _leaves(info["config"])}
    for field, schema in (info.get("payload_schema") or {}).items():
        kept = {key: value for key, value in schema.items() if key != "points" and value is not None}
        found[f"payload index {field}"] = kept
    return found


def structure_parts(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a fingerprint that tell a collection's structure."""
    return {f"{name}: {key}": hashlib.sha256(_text(value)).hexdigest() for key, value in found.items()}


def point_parts(name: str, points: Points) -> dict[str, str]:
    """Return the part of a fingerprint that tells a collection's content."""
    return {f"{name}: points": points.digest}


def alias_parts(aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of a fingerprint that tell where aliases lead."""
    return {f"alias {alias}": hashlib.sha256(_text(name)).hexdigest() for alias, name in aliases.items()}


def summed(points: Iterable[Mapping[str, Any]]) -> Points:
    """Return the sum over points."""
    found = Points()
    for point in points:
        found.add(point)
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a nested object that is set, with its path; an empty object is a value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value


def _add_vectors(digest: "hashlib._Hash", vector: Any) -> None:
    """Add the vectors of a point: the one that has no name, or all in the order of their names."""
    named = vector if isinstance(vector, dict) else {"": vector}
    for name in sorted(named):
        digest.update(_text(name))
        _add_vector(digest, named[name])


def _add_vector(digest: "hashlib._Hash", vector: Any) -> None:
    """Add a sparse vector (in the order of its indices), a multivector, or a dense one."""
    if isinstance(vector, dict):
        pairs = sorted(zip(vector["indices"], vector["values"], strict=True))
        digest.update(b"sparse" + _text([index for index, _ in pairs]) + _floats([value for _, value in pairs]))
        return
    rows = vector if vector and isinstance(vector[0], list) else [vector]
    digest.update(b"dense" + _text([len(one) for one in rows]))
    for one in rows:
        digest.update(_floats(one))


def _floats(values: list[float]) -> bytes:
    """Return 32-bit floats as bytes: how a server writes a number (`1`, `1.0`) says nothing."""
    try:
        return array.array("f", values).tobytes()
    except (TypeError, OverflowError):
        return _text(values)


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
