# SPDX-License-Identifier: GPL-3.0-or-later
"""The freeze of a server: one snapshot where a replica set can read one, else a copy taken while nobody writes."""

import contextlib
import io
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

from restaura.errors import SourceError
from restaura.hold import Hold
from restaura.mongodb import catalog, fingerprint
from restaura.mongodb.catalog import USERS, Collection
from restaura.mongodb.server import CAPPED_SNAPSHOTS_SINCE, UNAUTHORIZED, About, Server, parameter, told
from restaura.mongodb.tools import Tools
from restaura.point import Consistency, Depth, Fingerprint
from restaura.sources import Artifact, Outcome, Stream
from restaura.trees import Index

DESCRIPTION = "server.json"
FORMAT = 1
CHUNK = 1 << 18
# Collections that are copied at once. Of a batch, which a server makes of up to 16 MB, the driver holds four copies.
THREADS = 2
BATCH_BYTES = 2 << 20
_SETTLE_SECONDS = 30
_TRIES = 5
# Canonical Extended JSON is about so many times as big as the BSON that it tells of.
_EXPORT_SHARE = 2
_HISTORY = "minSnapshotHistoryWindowInSeconds"
# Commands that change what there is, by the names of serverStatus().metrics.commands.
_CHANGING = ("create", "createIndexes", "drop", "dropDatabase", "dropIndexes", "collMod", "renameCollection")


class Reading(io.RawIOBase):
    """A stream made of pieces of bytes, as they come."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


class FrozenServer:
    """A server whose content at one instant can be read: from a snapshot, or from copies in the spool."""

    hold: Hold | None = None

    def __init__(self, client: Any, server: Server, about: About, depth: Depth, folder: Path, exports: bool) -> None:
        """Exports are made unless `exports` is false; copies go into `folder`."""
        self.notes: list[str] = []
        self.consistency: Consistency = "snapshot"
        self.collections: list[Collection] = []
        self._client, self._server, self._about, self._depth, self._folder = client, server, about, depth, folder
        self._salt = secrets.token_bytes(16)
        self._session: Any = None
        self._copies: dict[str, Path] = {}
        self._sums: dict[str, fingerprint.Sum] = {}
        self._accounts: dict[str, bytes] = {}
        self._configuration: dict[str, Any] = {}
        self._names: list[str] = []
        self._exports = exports

    # The instant

    def hold_snapshot(self, names: list[str]) -> None:
        """Open a session that reads everything as it is now, and list what there is; again while that changes."""
        self._names, self.consistency = names, "transactional"
        for _ in range(_TRIES):
            self.collections = catalog.collections(self._client, names)
            apart = self._not_in_snapshots()
            self._copy_all(apart, None)
            self._settle()
            self._session = self._client.start_session(snapshot=True)
            first = next((one for one in self.collections if one.type == "collection" and one not in apart), None)
            if first:
                # The first read of a session is what fixes the instant.
                self._client[first.database][first.name].find_one({}, {"_id": 1}, session=self._session)
            if self._unchanged():
                self.notes += [
                    f"{one.namespace} was written to while it was copied: its documents are of another moment than the "
                    "others' (before MongoDB 8.0 a snapshot has no capped collections)"
                    for one in apart
                    if not self._same(one)
                ]
                self.consistency = "torn" if self.notes else "transactional"
                return
            self._session.end_session()
        raise SourceError(
            "collections were created or dropped all the while",
            where=self._server.where,
            fix="pause what does that (pause of the plan)",
        )

    def copy(self, names: list[str], tools: Tools | None, locked: Callable[[], None] | None = None) -> None:
        """Copy everything into the spool, and find out whether it stood still meanwhile.

        It did when the server is locked (`locked` raises when it is no more), when its counters show no write, or when
        every byte is the same once it is read again.
        """
        self._names = names
        before = counters(self._client)
        self.collections = catalog.collections(self._client, names)
        self._copy_all(self.collections, tools, locked or (lambda: None))
        if locked or (before is not None and counters(self._client) == before):
            return
        with ThreadPoolExecutor(THREADS) as pool:
            same = list(pool.map(self._same, [one for one in self.collections if one.data_name]))
        if not self._unchanged() or not all(same):
            self.consistency = "torn"
            self.notes.append(
                "the server was written to while it was copied: pause what writes (pause of the plan), set lock, or "
                "make the server a replica set of one member, which can read a snapshot"
            )

    def add_accounts(self, accounts: dict[str, bytes], configuration: dict[str, Any]) -> None:
        """Add users and roles, and what the server says of its configuration."""
        self._accounts, self._configuration = accounts, configuration

    def _not_in_snapshots(self) -> list[Collection]:
        old = self._about.version < CAPPED_SNAPSHOTS_SINCE
        return [one for one in self.collections if one.capped and old]

    def _settle(self) -> None:
        """Wait until a majority has all that was written by now: a snapshot is of what a majority has."""
        written = self._client.admin.command("isMaster").get("lastWrite", {}).get("opTime", {}).get("ts")
        first = next((one for one in self.collections if one.type == "collection"), None)
        if written is None or first is None:
            return
        concern = {"level": "majority", "afterClusterTime": written}
        with contextlib.suppress(StopIteration):
            self._client[first.database].command(
                {"find": first.name, "limit": 1, "projection": {"_id": 1}, "readConcern": concern},
                maxTimeMS=_SETTLE_SECONDS * 1000,
            )

    def _unchanged(self) -> bool:
        now = catalog.collections(self._client, self._names)
        return catalog.identity(now) == catalog.identity(self.collections)

    # Copies

    def _copy_all(
        self, found: Sequence[Collection], tools: Tools | None, within: Callable[[], None] = lambda: None
    ) -> None:
        self._copies = {
            one.namespace: self._folder / f"{number}.bson" for number, one in enumerate(found) if one.data_name
        }
        with ThreadPoolExecutor(THREADS) as pool:
            jobs = [pool.submit(self._copy, one, tools, within) for one in found if one.data_name]
            for job in jobs:
                job.result()

    def _copy(self, one: Collection, tools: Tools | None, within: Callable[[], None]) -> None:
        with self._copies[one.namespace].open("wb") as out, contextlib.ExitStack() as stack, told(self._server):
            if tools:
                stream = stack.enter_context(tools.dump(one))
                pieces: Iterator[bytes] = iter(lambda: stream.read(CHUNK), b"")
            else:
                pieces = self._batches(one)
            for piece in pieces:
                within()
                out.write(piece)

    def _same(self, one: Collection) -> bool:
        """Whether a collection is still, byte for byte and in the same order, what was copied."""
        with self._copies[one.namespace].open("rb") as copied, told(self._server):
            return all(copied.read(len(batch)) == batch for batch in self._batches(one)) and not copied.read(1)

    def _batches(self, one: Collection, session: Any = None) -> Iterator[bytes]:
        count = max(2, BATCH_BYTES // one.average) if one.average else 0
        return iter(self._client[one.database][one.data_name].find_raw_batches(session=session, batch_size=count))

    # Artifacts

    def artifacts(self) -> Iterator[Artifact]:
        """Yield each collection's documents, metadata and export; then the accounts and the description."""
        for one in self.collections:
            if one.data_file:
                yield Stream(one.data_file, partial(self._dump, one), expected_bytes=one.size)
                self._check_there(one)
            yield _small(one.metadata_file, one.metadata())
            if one.export_file and self._exports:
                yield Stream(one.export_file, partial(self._export, one), expected_bytes=_EXPORT_SHARE * one.size)
        for kind, data in self._accounts.items():
            if data:
                name = USERS[kind]
                yield _small(f"dump/admin/{name}.bson", data, secret=True)
                indexes = [{"v": 2, "key": {"_id": 1}, "name": "_id_"}]
                yield _small(f"dump/admin/{name}.metadata.json", Collection("admin", name, indexes=indexes).metadata())
        yield _small(DESCRIPTION, json.dumps(self._description(), indent=1, sort_keys=True).encode(), secret=True)

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:  # noqa: ARG002
        """Return the fingerprint of all that was captured."""
        parts: dict[str, str] = {}
        counts: dict[str, int] = {}
        for one in self.collections:
            parts |= fingerprint.structure(one)
            if one.data_name:
                found, counted = fingerprint.content(one.namespace, self._sums[one.namespace], self._depth)
                parts |= found
                counts |= counted
        users, roles = (
            list(map(bytes, fingerprint.documents(self._accounts.get(kind, b"")))) for kind in ("users", "roles")
        )
        parts |= fingerprint.accounts(users, roles, self._salt)
        return Outcome(Fingerprint(fingerprint.ALGORITHM, self._depth, parts, counts), self.consistency, self.notes)

    def close(self) -> None:
        """Let go of the snapshot."""
        if self._session is not None:
            self._session.end_session()

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": self._about.text,
            "compatibility": self._about.compatibility,
            "salt": self._salt.hex(),
            "configuration": self._configuration,
            "accounts": bool(self._accounts),
            "collections": [
                {
                    "database": one.database,
                    "name": one.name,
                    "metadata": one.metadata_file,
                    "data": one.data_file,
                    "bytes": self._sums[one.namespace].bytes if one.data_name else 0,
                }
                for one in self.collections
            ],
        }

    @contextlib.contextmanager
    def _documents(self, one: Collection) -> Iterator[Iterator[bytes]]:
        """Yield the documents in pieces that may begin and end anywhere."""
        if path := self._copies.get(one.namespace):
            with path.open("rb") as copied:
                yield iter(lambda: copied.read(CHUNK), b"")
        else:
            with told(self._server):
                yield self._batches(one, self._session)

    @contextlib.contextmanager
    def _dump(self, one: Collection) -> Iterator[IO[bytes]]:
        found, cutter = fingerprint.Sum(ordered=one.capped), fingerprint.Cutter()

        def summed(pieces: Iterator[bytes]) -> Iterator[bytes]:
            for piece in pieces:
                found.add(cutter.whole(piece))
                yield piece

        with self._documents(one) as pieces:
            yield io.BufferedReader(Reading(summed(pieces)), CHUNK)
        cutter.end()
        self._sums[one.namespace] = found

    @contextlib.contextmanager
    def _export(self, one: Collection) -> Iterator[IO[bytes]]:
        from bson import decode

        cutter, options = fingerprint.Cutter(), catalog.codec()

        def lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
            for piece in pieces:
                for document in fingerprint.documents(cutter.whole(piece)):
                    yield catalog.canonical(decode(document, options)).encode(errors="surrogatepass") + b"\n"

        with self._documents(one) as pieces:
            yield io.BufferedReader(Reading(lines(pieces)), CHUNK)

    def _check_there(self, one: Collection) -> None:
        """Raise SourceError when a collection was dropped while its snapshot was read: what came then is not whole."""
        if one.namespace in self._copies:
            return
        now = catalog.described(self._client, one.database, one.name)
        if now is None or now.uuid != one.uuid:
            raise SourceError(
                f"{one.namespace} was dropped or renamed while it was read",
                where=self._server.where,
                fix="restaura run PLAN, once that is over",
            )


def counters(client: Any) -> dict[str, Any] | None:
    """Return what counts every write to the server; None where it does not say, or not to this user.

    `metrics.document` counts the documents that any command inserts, changes or deletes (serverStatus).
    """
    from pymongo.errors import OperationFailure

    try:
        metrics = client.admin.command("serverStatus").get("metrics", {})
    except OperationFailure:
        return None
    if not {"document", "commands"} <= metrics.keys():
        return None
    documents = {key: metrics["document"].get(key) for key in ("inserted", "updated", "deleted")}
    commands = {key: metrics["commands"].get(key, {}).get("total") for key in _CHANGING}
    return {**documents, **commands, "expired": metrics.get("ttl", {}).get("deletedDocuments")}


def read_accounts(client: Any, server: Server) -> dict[str, bytes]:
    """Return users, roles and the version of both, raw as mongodump has them; SourceError for who may not read them."""
    from pymongo.errors import OperationFailure

    try:
        return {kind: b"".join(client.admin[name].find_raw_batches()) for kind, name in USERS.items()}
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        raise SourceError(
            f"user {server.user!r} may not read users and roles",
            where=server.where,
            fix=f'in mongosh: db.grantRolesToUser("{server.user}", ["backup"]), or set users: false',
        ) from error


def history(client: Any) -> int | None:
    """Return for how many seconds the server keeps snapshots; None where it does not say."""
    found = parameter(client, _HISTORY)
    return found if isinstance(found, int) else None


def set_history(client: Any, seconds: int) -> None:
    """Set how long the server keeps snapshots, where it lets us."""
    from pymongo.errors import OperationFailure

    with contextlib.suppress(OperationFailure):
        client.admin.command({"setParameter": 1, _HISTORY: seconds})


def refuse_locked(client: Any, server: Server) -> None:
    """Raise SourceError when the server takes no writes already."""
    if is_locked(client):
        raise SourceError("it is locked already (fsyncLock)", where=server.where, fix="in mongosh: db.fsyncUnlock()")


def lock(client: Any) -> None:
    """Make the server take no writes."""
    client.admin.command("fsync", lock=True)


def unlock(client: Any) -> None:
    """Let the server take writes again, if it does not."""
    from pymongo.errors import OperationFailure

    if is_locked(client) is not False:
        # Where it does not say whether it is locked, unlocking what is not locked is an error.
        with contextlib.suppress(OperationFailure):
            client.admin.command("fsyncUnlock")


def is_locked(client: Any) -> bool | None:
    """Whether the server takes no writes; None when it does not say."""
    from pymongo.errors import OperationFailure

    try:
        return bool(client.admin.command("currentOp").get("fsyncLock", False))
    except OperationFailure:
        return None


def _small(name: str, data: bytes, *, secret: bool = False) -> Stream:
    return Stream(name, lambda: contextlib.nullcontext(io.BytesIO(data)), secret, len(data))
