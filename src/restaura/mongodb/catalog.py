# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a server: databases and collections with options and indexes, and their files in mongodump's layout."""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from restaura.errors import DamagedError

BUCKETS = "system.buckets."
# Names of Restaura's own collections and databases, which no backup holds.
STAGE, KEPT, DRILL = "restaura_stage_", "restaura_kept_", "restaura_drill_"
USERS = {"users": "system.users", "roles": "system.roles", "version": "system.version"}
# mongodump cuts longer names, so that NAME.metadata.json.gz fits into 255 bytes; a store adds more than `.gz`.
_LONGEST, _LONGEST_STORED = 238, 200


@dataclass(frozen=True)
class Collection:
    """A collection, view or time series; options and indexes are as the server lists them.

    `size` is that of all documents and `average` that of one, in bytes; 0 where this user is not told.
    """

    database: str
    name: str
    type: str = "collection"
    options: dict[str, Any] = field(default_factory=dict)
    indexes: Sequence[dict[str, Any]] = ()
    uuid: str = ""
    size: int = 0
    average: int = 0

    @property
    def namespace(self) -> str:
        """The name with the database's."""
        return f"{self.database}.{self.name}"

    @property
    def capped(self) -> bool:
        """Whether documents have an order, and the oldest make room."""
        return bool(self.options.get("capped"))

    @property
    def data_name(self) -> str:
        """The collection that the documents are in: a time series is kept as buckets; a view has none (empty)."""
        return {"timeseries": BUCKETS + self.name, "view": ""}.get(self.type, self.name)

    @property
    def moves_by_copy(self) -> bool:
        """Whether the server cannot rename it."""
        return self.type != "collection" or self.name.startswith("system.")

    @property
    def metadata_file(self) -> str:
        """Its metadata's artifact."""
        return f"dump/{self.database}/{escaped(self.name, _LONGEST_STORED)}.metadata.json"

    @property
    def data_file(self) -> str:
        """Its documents' artifact; empty for a view."""
        name = escaped(self.data_name, _LONGEST_STORED)
        return f"dump/{self.database}/{name}.bson" if self.data_name else ""

    @property
    def export_file(self) -> str:
        """Its export's artifact; empty for views and time series, whose documents are no one's."""
        name = escaped(self.name, _LONGEST_STORED - len(self.database.encode()))
        return f"export/{self.database}.{name}.json" if self.type == "collection" else ""

    def mongodump_files(self) -> dict[str, str]:
        """Return the names that mongodump gives its files, by their artifacts."""
        found = {self.metadata_file: f"dump/{self.database}/{escaped(self.name)}.metadata.json"}
        return found | (
            {self.data_file: f"dump/{self.database}/{escaped(self.data_name)}.bson"} if self.data_name else {}
        )

    def metadata(self) -> bytes:
        """Return mongodump's metadata file: canonical extended JSON (mongodump/metadata_dump.go)."""
        data: dict[str, Any] = {"options": self.options} if self.options else {}
        data |= {"indexes": list(self.indexes), "uuid": self.uuid, "collectionName": self.name, "type": self.type}
        return canonical(data).encode()

    @classmethod
    def from_metadata(cls, database: str, raw: bytes) -> "Collection":
        """Read mongodump's metadata file; DamagedError when it is none."""
        from bson.json_util import loads

        try:
            data = loads(raw, json_options=json_options())
            return cls(
                database,
                data["collectionName"],
                data.get("type", "collection"),
                data.get("options", {}),
                data["indexes"],
                data.get("uuid", ""),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedError(f"metadata that cannot be read: {error!r}", where=f"database {database}") from error


def escaped(name: str, longest: int = _LONGEST) -> str:
    """Return the file name that mongodump gives a collection (common/util/file.go, mongodump/prepare.go)."""
    text = quote(name, safe="$&+:=@~")
    if len(text) <= longest:
        return text
    digest = base64.urlsafe_b64encode(hashlib.sha1(name.encode(), usedforsecurity=False).digest()).decode().rstrip("=")
    return f"{text[: longest - 30]}%24{digest}"


def codec() -> Any:
    """Return how documents are decoded: in order, with dates beyond Python's, and UUIDs as the bytes they are."""
    from bson.codec_options import CodecOptions, DatetimeConversion

    return CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace")


def json_options() -> Any:
    """Return how extended JSON is written and read: canonical, which keeps every type."""
    from bson.codec_options import DatetimeConversion
    from bson.json_util import CANONICAL_JSON_OPTIONS

    return CANONICAL_JSON_OPTIONS.with_options(
        datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
    )


def canonical(value: Any) -> str:
    """Return a value as canonical extended JSON on one line, as mongoexport writes it."""
    from bson.json_util import dumps

    text: str = dumps(value, json_options=json_options(), separators=(",", ":"), ensure_ascii=False)
    return text


def databases(client: Any) -> list[str]:
    """Return the databases that hold data of users: `local` and `config` are the server's own."""
    names = [one["name"] for one in client.list_databases(nameOnly=True)]
    return sorted(name for name in names if name not in ("local", "config") and not name.startswith(DRILL))


def skipped(database: str, name: str) -> bool:
    """Whether a collection is the server's own (mongodump/prepare.go) or a copy of ours."""
    if "$" in name or name.startswith((STAGE, KEPT, BUCKETS + STAGE, BUCKETS + KEPT)):
        return True
    return name.startswith("system.") and not (name == "system.js" and database != "admin")


def collections(client: Any, names: Iterable[str], *, own: bool = False) -> list[Collection]:
    """Return the collections of databases with options, indexes and sizes; with `own` Restaura's copies alone."""
    found = []
    for database in names:
        handle = client.get_database(database, codec_options=codec())
        for one in handle.list_collections():
            name = one["name"]
            if name.startswith((STAGE, KEPT)) if own else not skipped(database, name):
                found.append(_described(handle, one, sized=not own))
    return sorted(found, key=lambda one: (one.database, one.name))


def described(client: Any, database: str, name: str) -> Collection | None:
    """Return one collection, whatever it is called, or None when there is none."""
    handle = client.get_database(database, codec_options=codec())
    for one in handle.list_collections(filter={"name": name}):
        if one["name"] == name:
            return _described(handle, one, sized=False)
    return None


def _described(handle: Any, listed: dict[str, Any], *, sized: bool) -> Collection:
    name, kind = listed["name"], listed.get("type", "collection")
    indexes = [] if kind == "view" else [dict(one) for one in handle[name].list_indexes()]
    for one in indexes:
        # The namespace, which servers before 4.4 list, is not the index's own.
        one.pop("ns", None)
    uuid = listed.get("info", {}).get("uuid")
    found = Collection(
        handle.name, name, kind, dict(listed.get("options", {})), indexes, bytes(uuid).hex() if uuid else ""
    )
    return _sized(handle, found) if sized and kind != "view" else found


def _sized(handle: Any, one: Collection) -> Collection:
    from pymongo.errors import OperationFailure

    try:
        told = handle.command("collStats", one.name)
    except OperationFailure:
        return one
    return replace(one, size=int(told.get("size", 0)), average=int(told.get("avgObjSize", 0)))


def identity(found: Iterable[Collection]) -> list[str]:
    """Return what tells one state of a catalog from another: sizes left out."""
    return sorted(json.dumps([one.namespace, one.metadata().decode()]) for one in found)


def names_in(client: Any, database: str) -> set[str]:
    """Return the names of everything in a database."""
    return {one["name"] for one in client[database].list_collections(nameOnly=True)}
