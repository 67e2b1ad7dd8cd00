# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint: options and indexes of every collection, and an order-free sum over its documents' bytes.

The server has no such function (`dbHash` depends on the storage order and holds a lock), so the bytes are summed up
here, while they pass by: modulo 2^128, the BLAKE2b-128 of each document. Capped collections have an order: theirs is
a digest over all documents in it, beside the sum.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from typing import Any

from restaura.errors import DamagedError
from restaura.mongodb.catalog import Collection, canonical
from restaura.point import Depth

ALGORITHM = "mongodb-1"
_MODULUS = 1 << 128
_SMALLEST = 5  # bytes of an empty document


def documents(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the documents of concatenated BSON; DamagedError when it does not end where a document does."""
    view, at = memoryview(data), 0
    while at < len(view):
        size = int.from_bytes(view[at : at + 4], "little")
        if size < _SMALLEST or at + size > len(view) or view[at + size - 1]:
            raise DamagedError("not a series of BSON documents", where=f"byte {at}")
        yield view[at : at + size]
        at += size


class Cutter:
    """Cuts a stream of BSON, which comes in pieces of any size, at the ends of documents."""

    def __init__(self) -> None:
        self._rest = b""

    def whole(self, data: bytes) -> bytes:
        """Return the whole documents that there are by now."""
        data = self._rest + data
        at = 0
        while at + 4 <= len(data):
            size = int.from_bytes(data[at : at + 4], "little")
            if size < _SMALLEST:
                raise DamagedError("not a series of BSON documents")
            if at + size > len(data):
                break
            at += size
        self._rest = data[at:]
        return data[:at]

    def end(self) -> None:
        """Raise DamagedError when half a document is left."""
        if self._rest:
            raise DamagedError("the stream ends within a document")


class Sum:
    """The sum over the documents of a collection."""

    def __init__(self, *, ordered: bool = False) -> None:
        self.count = self.bytes = 0
        self._total = 0
        self._chain = hashlib.blake2b(digest_size=16) if ordered else None

    def add(self, data: bytes) -> None:
        """Add whole documents."""
        total = 0
        for document in documents(data):
            total += int.from_bytes(hashlib.blake2b(document, digest_size=16).digest(), "little")
            self.count += 1
        self._total = (self._total + total) % _MODULUS
        self.bytes += len(data)
        if self._chain:
            self._chain.update(data)

    def __str__(self) -> str:
        ordered = f":{self._chain.hexdigest()}" if self._chain else ""
        return f"{self.count}:{self.bytes}:{self._total:032x}{ordered}"


def structure(collection: Collection, name: str = "") -> dict[str, str]:
    """Return the parts of a collection's options and indexes, under `name` (its namespace in the point)."""
    name = name or collection.namespace
    options = {key: collection.options[key] for key in sorted(collection.options)}
    parts = {f"{name}: {collection.type}": _digest(canonical(options))}
    for one in collection.indexes:
        index = {key: one[key] for key in sorted(one) if key != "ns"}
        parts[f"{name}: index {one['name']}"] = _digest(canonical(index))
    return parts


def content(name: str, found: Sum, depth: Depth) -> tuple[dict[str, str], dict[str, int]]:
    """Return the part and the count of a collection's documents."""
    parts = {f"{name}: documents": _digest(str(found))} if depth == "content" else {}
    return parts, {f"{name}: documents": found.count}


def accounts(users: Iterable[bytes], roles: Iterable[bytes], salt: bytes) -> dict[str, str]:
    """Return the parts of users and roles; salted, since they hold what passwords can be guessed against."""
    from bson import decode

    parts = {}
    for kind, found in (("user", users), ("role", roles)):
        for raw in found:
            document: dict[str, Any] = decode(raw)
            parts[f"{kind} {document['_id']}"] = hmac.new(salt, raw, hashlib.sha256).hexdigest()[:32]
    return parts


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
