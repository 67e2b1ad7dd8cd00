# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore: the point's collections built under names of their own, in the databases that they belong to.

Beside the live data in its own database, since a server renames within a database at once and copies between two. A
drill has databases of its own and keeps the collections' names.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from restaura.errors import DamagedError, RefusedError, SourceError
from restaura.mongodb import catalog, fingerprint
from restaura.mongodb.capture import CHUNK, DESCRIPTION, FORMAT
from restaura.mongodb.catalog import BUCKETS, DRILL, KEPT, STAGE, USERS, Collection
from restaura.mongodb.server import About
from restaura.mongodb.tools import Tools
from restaura.point import Depth, Fingerprint


class Reader(Protocol):
    """What a restore needs of a point (a part of `PointReader`)."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield an artifact."""


@dataclass(frozen=True)
class Entry:
    """One collection of the point: `home` is the database it goes to; the names it has while it is built and then."""

    collection: Collection
    home: str
    built: str
    data: str
    bytes: int

    @property
    def final(self) -> str:
        """The name that it has once it is live."""
        return self.collection.name

    def to_json(self) -> dict[str, Any]:
        """Return what a fingerprint of the built collection needs."""
        one = self.collection
        return {"database": one.database, "name": one.name, "type": one.type, "home": self.home, "built": self.built}


def description(point: Reader) -> dict[str, Any]:
    """Return what the point says of its server; DamagedError when this program cannot read it."""
    with point.open(DESCRIPTION) as stream:
        data: dict[str, Any] = json.loads(stream.read())
    if data.get("format") != FORMAT:
        raise DamagedError(
            f"{DESCRIPTION} has format {data.get('format')!r}; this program reads {FORMAT}",
            where=DESCRIPTION,
            fix="use the program that is kept in the store beside the point",
        )
    return data


def mongodump_files(point: Reader) -> dict[str, str]:
    """Return the files of mongodump's layout by the artifacts of a point; they differ in long names."""
    found: dict[str, str] = {}
    for one in description(point)["collections"]:
        kind = "timeseries" if one["data"].rpartition("/")[2].startswith(BUCKETS) else "collection"
        found |= Collection(one["database"], one["name"], kind).mongodump_files()
    return found


class Folder:
    """A point's artifacts as files in a directory, where they have mongodump's names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._names: dict[str, str] = {}
        self._names = mongodump_files(self)

    def names(self) -> list[str]:
        """Return the names of the files."""
        return [str(one.relative_to(self._directory)) for one in self._directory.rglob("*") if one.is_file()]

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield one artifact."""
        return (self._directory / self._names.get(name, name)).open("rb")


def entries(point: Reader, described: dict[str, Any], asked: Iterable[str], number: str, homes: "Homes") -> list[Entry]:
    """Return what is to be built: everything, or the asked databases and collections (`DB` or `DB.COLLECTION`)."""
    asked, found = list(asked), []
    known = described["collections"]
    for one in asked:
        if not any(_meant(one, each) for each in known):
            listed = ", ".join(sorted({each["database"] for each in known}))
            raise RefusedError(
                f"the point holds no database or collection {one!r}; its databases: {listed}", fix="restaura show POINT"
            )
    for position, one in enumerate(known):
        if asked and not any(_meant(name, one) for name in asked):
            continue
        with point.open(one["metadata"]) as stream:
            read = Collection.from_metadata(one["database"], stream.read())
        if read.name != one["name"]:
            raise DamagedError(f"is of {read.name!r}, not of {one['name']!r}", where=one["metadata"])
        home, built = homes.of(read, f"{STAGE}{number}_{position}")
        found.append(Entry(read, home, built, one["data"], one["bytes"]))
    return found


def _meant(asked: str, one: dict[str, Any]) -> bool:
    return asked in (one["database"], f"{one['database']}.{one['name']}")


@dataclass(frozen=True)
class Homes:
    """Which database a collection goes to: its own, another `name`, or a drill's, which are numbered."""

    name: str = ""
    drill: str = ""
    known: tuple[str, ...] = ()

    def of(self, collection: Collection, stage: str) -> tuple[str, str]:
        """Return database and name under which a collection is built."""
        if self.drill:
            return self.database(collection.database), collection.name
        return self.database(collection.database), stage

    def database(self, name: str) -> str:
        """Return the database that the contents of the point's `name` go to."""
        if self.drill:
            return f"{DRILL}{self.drill}_{self.known.index(name)}"
        return self.name or name


def numbers(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version, which are what makes it another release."""
    return tuple(int(one) for one in re.findall(r"\d+", text)[:2])


def check_version(client: Any, described: dict[str, Any], where: str) -> About:
    """Raise SourceError when the server is older than the point's, or the wrong kind."""
    about = About.of(client)
    if about.sharded:
        raise SourceError("is a mongos: a sharded cluster cannot be restored", where=where, fix="restore to its shards")
    asked = numbers(described["version"])
    if about.version[:2] < asked:
        raise SourceError(
            f"the server is version {about.text}, the point is from version {described['version']}",
            where=where,
            fix=f"install MongoDB {'.'.join(map(str, asked))} or newer, and restore into that",
        )
    if described["compatibility"] and about.compatibility:
        level = described["compatibility"]
        if numbers(about.compatibility) < numbers(level):
            command = f'db.adminCommand({{setFeatureCompatibilityVersion: "{level}", confirm: true}})'
            raise SourceError(
                f"the server's feature compatibility version is {about.compatibility}, the point's {level}",
                where=where,
                fix=f"in mongosh: {command}",
            )
    return about


def build(client: Any, point: Reader, found: Iterable[Entry], tools: Tools | None, where: str) -> None:
    """Build every collection, load its documents and make its indexes; the views last, which look at them."""
    for entry in sorted(found, key=lambda one: one.collection.type == "view"):
        one, home = entry.collection, client.get_database(entry.home, codec_options=catalog.codec())
        create(client, entry.home, replace(one, name=entry.built))
        if not entry.data:
            continue
        name = replace(one, name=entry.built).data_name
        with point.open(entry.data) as stream:
            if tools and one.type == "collection":
                tools.restore(entry.home, name, stream)
            else:
                insert(home[name], batches(stream), f"{where}, {one.namespace}")
        wanted = [index for index in one.indexes if not _implied(index)]
        if wanted:
            home.command("createIndexes", entry.built, indexes=wanted)


def create(client: Any, database: str, one: Collection) -> None:
    """Make a collection, view or time series with its options."""
    # Servers since 4.0 make the index on _id in any case, and newer ones do not know the option.
    options = {key: value for key, value in one.options.items() if key != "autoIndexId"}
    client.get_database(database, codec_options=catalog.codec()).command({"create": one.name, **options})


def _implied(index: dict[str, Any]) -> bool:
    """Whether an index comes with its collection."""
    return index["name"] == "_id_" or bool(index.get("clustered"))


def insert(collection: Any, found: Iterable[bytes], where: str) -> None:
    """Insert documents as they are; SourceError for the first that the server does not take."""
    from bson.raw_bson import RawBSONDocument
    from pymongo.errors import BulkWriteError

    for batch in found:
        documents = [RawBSONDocument(bytes(one)) for one in fingerprint.documents(batch)]
        try:
            collection.insert_many(documents, ordered=True, bypass_document_validation=True)
        except BulkWriteError as error:
            wrong = (error.details.get("writeErrors") or error.details.get("writeConcernErrors") or [{}])[0]
            what = f"a document failed to restore: {wrong.get('errmsg', error)}"
            raise SourceError(what, where=where, fix="look at the server's log") from error


def batches(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield whole documents of a stream, about a chunk of them at once; DamagedError when it ends within one."""
    cutter = fingerprint.Cutter()
    while piece := stream.read(CHUNK):
        if whole := cutter.whole(piece):
            yield whole
    cutter.end()


def copy(client: Any, database: str, source: Collection, name: str) -> None:
    """Make `name` a copy of what cannot be renamed; what has the name by now is dropped."""
    copied = replace(source, name=name)
    client[database].drop_collection(name)
    create(client, database, copied)
    if not source.data_name:
        return
    found = client[database][source.data_name].find_raw_batches()
    insert(client[database][copied.data_name], found, f"{database}.{name}")
    wanted = [index for index in source.indexes if not _implied(index)]
    if wanted:
        client[database].command("createIndexes", name, indexes=wanted)


def fingerprinted(client: Any, found: Iterable[dict[str, Any]], depth: Depth) -> Fingerprint:
    """Fingerprint what was built, under the names of the point."""
    parts: dict[str, str] = {}
    counts: dict[str, int] = {}
    for one in found:
        namespace = f"{one['database']}.{one['name']}"
        there = catalog.described(client, one["home"], one["built"])
        if there is None:
            continue
        parts |= fingerprint.structure(there, namespace)
        if there.data_name:
            total = fingerprint.Sum(ordered=there.capped)
            for batch in client[one["home"]][there.data_name].find_raw_batches():
                total.add(batch)
            found_parts, counted = fingerprint.content(namespace, total, depth)
            parts |= found_parts
            counts |= counted
    return Fingerprint(fingerprint.ALGORITHM, depth, parts, counts)


def fingerprinted_files(point: Folder, depth: Depth) -> Fingerprint:
    """Fingerprint the artifacts of a point where they lie as files."""
    described = description(point)
    wanted = accounts(point, described, point.names())
    parts = account_parts(wanted, described)
    counts: dict[str, int] = {}
    for one in described["collections"]:
        with point.open(one["metadata"]) as stream:
            read = Collection.from_metadata(one["database"], stream.read())
        parts |= fingerprint.structure(read)
        if one["data"]:
            total = fingerprint.Sum(ordered=read.capped)
            with point.open(one["data"]) as stream:
                for batch in batches(stream):
                    total.add(batch)
            found, counted = fingerprint.content(read.namespace, total, depth)
            parts |= found
            counts |= counted
    return Fingerprint(fingerprint.ALGORITHM, depth, parts, counts)


def accounts(point: Reader, described: dict[str, Any], names: Iterable[str]) -> dict[str, bytes]:
    """Return users and roles of the point, as the series of BSON documents that they are."""
    there, found = set(names), {}
    for kind in ("users", "roles"):
        artifact = f"dump/admin/{USERS[kind]}.bson"
        found[kind] = b""
        if described["accounts"] and artifact in there:
            with point.open(artifact) as stream:
                found[kind] = stream.read()
    return found


def account_parts(found: dict[str, bytes], described: dict[str, Any]) -> dict[str, str]:
    """Return the parts of users and roles, as the point salts them."""
    users, roles = (list(map(bytes, fingerprint.documents(found[kind]))) for kind in ("users", "roles"))
    return fingerprint.accounts(users, roles, bytes.fromhex(described["salt"]))


def drop(client: Any, database: str, name: str) -> None:
    """Delete a collection of ours, and nothing else; nothing when it is not there."""
    if not name.startswith((STAGE, KEPT)):
        raise SourceError(f"{name!r} is no copy of ours", where=database)
    client[database].drop_collection(name)


def drop_drill(client: Any, number: str) -> None:
    """Delete the databases of a drill."""
    for one in client.list_databases(nameOnly=True):
        if one["name"].startswith(f"{DRILL}{number}_"):
            client.drop_database(one["name"])
