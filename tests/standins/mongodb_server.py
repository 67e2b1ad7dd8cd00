#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for mongod: mongo-java-server, which stores documents and indexes, behind a proxy that adds what it lacks.

It is not MongoDB. Added, as the manual has it (https://www.mongodb.com/docs/manual/reference/command/…):
collection options, views, time series by their buckets and UUIDs (create, listCollections, renameCollection, drop,
collMod); users and roles as documents of admin.system.users and .roles; logging in by SCRAM-SHA-256 (RFC 7677); fsync
with a lock, fsyncUnlock, currentOp; serverStatus with metrics.document; getParameter and setParameter. With
--replica-set also hello's answer of a primary, and sessions that read one snapshot (reference/read-concern-snapshot):
the first read copies everything into memory. Options are not enforced: a capped collection grows, a validator lets all
pass. What they are is kept in STATE/catalog.json and dies with it, as the documents do with the back end's file.
"""

import argparse
import base64
import ctypes
import hashlib
import hmac
import itertools
import json
import os
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import bson
from bson import json_util
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from bson.timestamp import Timestamp
from pymongo import MongoClient

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")
ADMIN = "zz_admin"  # the back end has no collections in `admin`, and none called `system.…`
HIDDEN = "zz"
WRITES = {"insert", "update", "delete", "findandmodify", "create", "createindexes", "drop", "dropdatabase"}
WRITES |= {"dropindexes", "collmod", "renamecollection"}
OPEN = {"hello", "ismaster", "saslstart", "saslcontinue", "buildinfo", "ping", "endsessions"}
GENERIC = {"$db", "lsid", "$clusterTime", "$readPreference", "writeConcern", "readConcern", "comment", "txnNumber"}
ITERATIONS = 15000
LARGEST_BATCH = 16 << 20
CODES = {13: "Unauthorized", 18: "AuthenticationFailed", 20: "IllegalOperation", 26: "NamespaceNotFound"}
CODES |= {48: "NamespaceExists", 59: "CommandNotFound", 123: "NotAReplicaSet", 166: "CommandNotSupportedOnView"}
CODES |= {246: "SnapshotUnavailable"}


class RefusedError(Exception):
    """A command that is answered by an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Standin:
    """What is the same for every connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        host, _, port = options.backend.partition(":")
        self.backend = (host, int(port))
        self.client: Any = MongoClient(host, int(port), directConnection=True)
        self.path = Path(options.state) / "catalog.json"
        self.lock = threading.RLock()
        self.writing = threading.Condition(self.lock)
        self.locks = 0
        self.counted = {"inserted": 0, "updated": 0, "deleted": 0}
        self.commands: dict[str, int] = {}
        self.parameters: dict[str, Any] = {"featureCompatibilityVersion": {"version": options.version[:3]}}
        if options.replica_set:
            self.parameters["minSnapshotHistoryWindowInSeconds"] = 300
        self.clients: dict[int, dict[str, str]] = {}
        self.snapshots: dict[Timestamp, dict[str, list[bytes]]] = {}
        self.cursors: dict[int, list[bytes]] = {}
        self.salt = os.urandom(28)
        # Type, options and UUID of collections by namespace; those made by a first insert are not in it at first.
        self.catalog: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            options = json_util.CANONICAL_JSON_OPTIONS
            self.catalog = json_util.loads(self.path.read_text(), json_options=options)

    def keep(self, catalog: dict[str, dict[str, Any]]) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json_util.dumps(catalog, json_options=json_util.CANONICAL_JSON_OPTIONS))
        temporary.replace(self.path)
        self.catalog = catalog

    def ask(self, database: str, command: dict[str, Any]) -> dict[str, Any]:
        """Ask the back end."""
        return dict(self.client[inner_database(database)].command(command))

    def now(self) -> Timestamp:
        return Timestamp(int(time.time()), self.counted["inserted"] % 1000 + 1)

    # -- commands, each with its document; what returns None is the back end's own affair

    def hello(self, document: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "ismaster": True,
            "helloOk": True,
            "maxBsonObjectSize": 16777216,
            "maxMessageSizeBytes": 48000000,
            "maxWriteBatchSize": 100000,
            "localTime": datetime.now(UTC),
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 13,
            "readOnly": False,
        }
        if "saslSupportedMechs" in document:
            found["saslSupportedMechs"] = ["SCRAM-SHA-256"]
        if self.options.replica_set:
            here = self.options.listen
            last = {"opTime": {"ts": self.now(), "t": 1}, "lastWriteDate": datetime.now(UTC)}
            found |= {"setName": self.options.replica_set, "hosts": [here], "me": here, "primary": here}
            found |= {"secondary": False, "setVersion": 1, "lastWrite": last}
        if self.options.mongos:
            found["msg"] = "isdbgrid"
        return found

    def build_info(self, _: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(one) for one in self.options.version.split(".")]
        return {"version": self.options.version, "versionArray": [*numbers, 0], "maxBsonObjectSize": 16777216}

    def list_databases(self, _: dict[str, Any]) -> dict[str, Any]:
        names = [one["name"] for one in self.client.admin.command("listDatabases")["databases"]]
        outer = {"admin" if name == ADMIN else name for name in names} | {"admin", "local"}
        outer |= {one.partition(".")[0] for one in self.catalog}
        there = [name for name in sorted(outer) if name in ("admin", "local") or self.listed(name)]
        return {"databases": [{"name": name, "sizeOnDisk": 1, "empty": False} for name in there]}

    def listed(self, database: str) -> dict[str, dict[str, Any]]:
        """Return the collections of a database by name, as listCollections has them."""
        with self.lock:
            catalog = self.catalog
            stored = self.ask(database, {"listCollections": 1})["cursor"]["firstBatch"]
            names = {outer_name(one["name"]) for one in stored} - {"system.namespaces", "system.indexes"}
            names |= {one.partition(".")[2] for one in catalog if one.partition(".")[0] == database}
            found, grown = {}, False
            for name in sorted(names):
                if name.startswith("system.") and database == "admin" and not self.count(database, name):
                    continue
                key = f"{database}.{name}"
                if key not in catalog:
                    catalog[key] = {"type": "collection", "options": {}, "uuid": uuid.uuid4().bytes}
                    grown = True
                one = catalog[key]
                info: dict[str, Any] = {"readOnly": one["type"] == "view"}
                if one["type"] != "view":
                    info["uuid"] = bson.Binary(one["uuid"], 4)
                found[name] = {"name": name, "type": one["type"], "options": one["options"], "info": info}
            if grown:
                self.keep(catalog)
            return found

    def count(self, database: str, name: str) -> int:
        return int(self.ask(database, {"count": inner_name(name)})["n"])

    def list_collections(self, document: dict[str, Any]) -> dict[str, Any]:
        found = list(self.listed(document["$db"]).values())
        if wanted := document.get("filter", {}).get("name"):
            found = [one for one in found if one["name"] == wanted]
        return first_batch(f"{document['$db']}.$cmd.listCollections", found)

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        name, database = document["create"], document["$db"]
        with self.lock:
            if name in self.listed(database):
                raise RefusedError(48, f"Collection {database}.{name} already exists.")
            options = {key: value for key, value in document.items() if key not in GENERIC | {"create"}}
            kind = "view" if "viewOn" in options else "timeseries" if "timeseries" in options else "collection"
            if kind != "view":
                self.ask(database, {"create": inner_name(name if kind == "collection" else f"system.buckets.{name}")})
            catalog = self.catalog
            catalog[f"{database}.{name}"] = {"type": kind, "options": options, "uuid": uuid.uuid4().bytes}
            self.keep(catalog)
        return {}

    def coll_mod(self, document: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            key = f"{document['$db']}.{document['collMod']}"
            self.listed(document["$db"])
            catalog = self.catalog
            changed = {name: value for name, value in document.items() if name not in GENERIC | {"collMod"}}
            catalog[key]["options"] = {**catalog[key]["options"], **changed}
            self.keep(catalog)
        return {}

    def rename(self, document: dict[str, Any]) -> dict[str, Any]:
        old, new = document["renameCollection"], document["to"]
        database, _, name = old.partition(".")
        with self.lock:
            there = self.listed(database)
            if name not in there:
                raise RefusedError(26, f"Source collection {old} does not exist")
            if there[name]["type"] != "collection":
                raise RefusedError(166, f"cannot rename {there[name]['type']}: {old}")
            if name.startswith("system.") or new.partition(".")[2].startswith("system."):
                raise RefusedError(20, f"renaming system collection {old} is not allowed")
            if new.partition(".")[2] in self.listed(new.partition(".")[0]):
                raise RefusedError(48, "target namespace exists")
            self.move(database, name, new.partition(".")[2])
            catalog = self.catalog
            catalog[new] = catalog.pop(old)
            self.keep(catalog)
        return {}

    def move(self, database: str, old: str, new: str) -> None:
        """Rename by copying: what the back end renames still shares its file with what is made under the old name."""
        handle = self.client[inner_database(database)]
        source = handle.get_collection(old, DEFAULT_RAW_BSON_OPTIONS)
        handle.command({"create": new})
        if found := list(source.find()):
            handle.get_collection(new, DEFAULT_RAW_BSON_OPTIONS).insert_many(found)
        indexes = [dict(one) for one in handle[old].list_indexes() if one["name"] != "_id_"]
        if indexes:
            handle.command("createIndexes", new, indexes=indexes)
        handle.drop_collection(old)

    def drop(self, document: dict[str, Any]) -> dict[str, Any]:
        name, database = document["drop"], document["$db"]
        with self.lock:
            there = self.listed(database)
            if name not in there:
                raise RefusedError(26, "ns not found")
            if there[name]["type"] != "view":
                self.ask(database, {"drop": inner_name(self.data_name(database, name))})
            gone = {f"{database}.{name}", f"{database}.{self.data_name(database, name)}"}
            self.keep({key: one for key, one in self.catalog.items() if key not in gone})
        return {"ns": f"{database}.{name}"}

    def drop_database(self, document: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.client.drop_database(inner_database(document["$db"]))
            self.keep({key: one for key, one in self.catalog.items() if key.partition(".")[0] != document["$db"]})
        return {"dropped": document["$db"]}

    def data_name(self, database: str, name: str) -> str:
        kind = self.catalog.get(f"{database}.{name}", {}).get("type")
        return f"system.buckets.{name}" if kind == "timeseries" else name

    def server_status(self, _: dict[str, Any]) -> dict[str, Any]:
        commands = {name: {"total": number, "failed": 0} for name, number in self.commands.items()}
        metrics = {"document": dict(self.counted), "commands": commands, "ttl": {"deletedDocuments": 0}}
        return {"version": self.options.version, "process": "mongod", "metrics": metrics}

    def fsync(self, document: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.locks += bool(document.get("lock"))
        return {"numFiles": 1, "lockCount": self.locks}

    def fsync_unlock(self, _: dict[str, Any]) -> dict[str, Any]:
        with self.writing:
            if not self.locks:
                raise RefusedError(20, "fsyncUnlock called when not locked")
            self.locks -= 1
            self.writing.notify_all()
        return {"info": "fsyncUnlock completed", "lockCount": self.locks}

    def current_op(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"inprog": list(self.clients.values())} | ({"fsyncLock": True} if self.locks else {})

    def get_parameter(self, document: dict[str, Any]) -> dict[str, Any]:
        found = {name: value for name, value in self.parameters.items() if name in document}
        if not found:
            raise RefusedError(72, "no option found to get")
        return found

    def set_parameter(self, document: dict[str, Any]) -> dict[str, Any]:
        for name in [one for one in document if one in self.parameters]:
            self.parameters[name] = document[name]
        return {}

    def find(self, document: dict[str, Any]) -> dict[str, Any] | None:
        database, name = document["$db"], document["find"]
        namespace = f"{database}.{name}"
        known = self.catalog.get(namespace, {})
        concern = document.get("readConcern", {})
        if known.get("type") == "view":
            pipeline = [*known["options"]["pipeline"], {"$match": document.get("filter", {})}]
            answer = self.ask(database, {"aggregate": known["options"]["viewOn"], "pipeline": pipeline, "cursor": {}})
            return first_batch(namespace, answer["cursor"]["firstBatch"])
        if concern.get("level") != "snapshot":
            return None
        if not self.options.replica_set:
            raise RefusedError(123, "node needs to be a replica set member to use readConcern: snapshot")
        if known.get("options", {}).get("capped"):
            raise RefusedError(246, "Reading from capped collections with readConcern snapshot is not supported")
        at = concern.get("atClusterTime") or self.take()
        found = self.snapshots[at].get(namespace, [])
        found = found[: document.get("limit") or len(found)]
        number, count = 0, fitting(found, document.get("batchSize") or 101)
        if found[count:]:
            number = int.from_bytes(os.urandom(6), "little") | 1 << 60
            self.cursors[number] = found[count:]
        documents = [RawBSONDocument(one) for one in found[:count]]
        return {"cursor": {"firstBatch": documents, "id": bson.Int64(number), "ns": namespace, "atClusterTime": at}}

    def take(self) -> Timestamp:
        """Copy everything as it is now."""
        with self.lock:
            found = {}
            for one in self.list_databases({})["databases"]:
                for name, listed in self.listed(one["name"]).items():
                    if listed["type"] != "view":
                        inner = inner_name(self.data_name(one["name"], name))
                        raw = self.client[inner_database(one["name"])].get_collection(inner, DEFAULT_RAW_BSON_OPTIONS)
                        outer = self.data_name(one["name"], name)
                        found[f"{one['name']}.{outer}"] = [document.raw for document in raw.find()]
            at = Timestamp(int(time.time()), len(self.snapshots) + 1)
            self.snapshots[at] = found
            return at

    def get_more(self, document: dict[str, Any]) -> dict[str, Any] | None:
        if document["getMore"] not in self.cursors:
            return None
        rest = self.cursors.pop(document["getMore"])
        count = fitting(rest, document.get("batchSize") or len(rest))
        if rest[count:]:
            self.cursors[document["getMore"]] = rest[count:]
        number = document["getMore"] if rest[count:] else 0
        batch = [RawBSONDocument(one) for one in rest[:count]]
        namespace = f"{document['$db']}.{document['collection']}"
        return {"cursor": {"nextBatch": batch, "id": bson.Int64(number), "ns": namespace}}

    COMMANDS: ClassVar[dict[str, Any]] = {
        "hello": hello,
        "ismaster": hello,
        "buildinfo": build_info,
        "listdatabases": list_databases,
        "listcollections": list_collections,
        "create": create,
        "collmod": coll_mod,
        "renamecollection": rename,
        "drop": drop,
        "dropdatabase": drop_database,
        "serverstatus": server_status,
        "fsync": fsync,
        "fsyncunlock": fsync_unlock,
        "currentop": current_op,
        "getparameter": get_parameter,
        "setparameter": set_parameter,
        "find": find,
        "getmore": get_more,
        "endsessions": lambda _self, _document: {},
    }


class Connection(socketserver.BaseRequestHandler):
    """One client: its messages are answered here, or by the back end over a connection of its own."""

    server: "Server"

    def handle(self) -> None:
        self.standin = self.server.standin
        self.inner: socket.socket | None = None
        self.login: dict[str, Any] = {}
        self.known = not self.standin.options.user
        try:
            while message := receive(self.request):
                self.request.sendall(self.answered(message))
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self.standin.clients.pop(id(self), None)
            if self.inner:
                self.inner.close()

    def answered(self, message: bytes) -> bytes:
        _, request, _, code = HEADER.unpack(message[:16])
        if code == OP_QUERY:
            start = message.index(b"\0", 20) + 1 + 8
            document = bson.decode(message[start : start + int.from_bytes(message[start : start + 4], "little")])
            self.remember(document)
            body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode({**self.standin.hello(document), "ok": 1.0})
            return HEADER.pack(16 + len(body), request, request, OP_REPLY) + body
        size = int.from_bytes(message[21:25], "little")
        document = bson.decode(message[21 : 21 + size])
        try:
            answer = self.command(document, message, size)
        except RefusedError as error:
            told = {"errmsg": str(error), "code": error.code, "codeName": CODES.get(error.code, "Error")}
            return reply(request, {"ok": 0.0, **told})
        except Exception as error:  # noqa: BLE001 - an answer in any case
            return reply(request, {"ok": 0.0, "errmsg": f"stand-in: {error!r}", "code": 8, "codeName": "UnknownError"})
        return answer if isinstance(answer, bytes) else reply(request, {**answer, "ok": 1.0})

    def command(self, document: dict[str, Any], message: bytes, size: int) -> dict[str, Any] | bytes:
        standin, name = self.standin, next(iter(document)).lower()
        if name in ("hello", "ismaster"):
            self.remember(document)
        if name in ("saslstart", "saslcontinue"):
            return self.sasl(document)
        if not self.known and name not in OPEN:
            raise RefusedError(13, f"command {name} requires authentication")
        if name in WRITES:
            with standin.writing:
                while standin.locks:
                    standin.writing.wait()
                standin.commands[next(iter(document))] = standin.commands.get(next(iter(document)), 0) + 1
        if (handler := standin.COMMANDS.get(name)) and (answer := handler(standin, document)) is not None:
            return answer
        return self.forwarded(document, message, size)

    def forwarded(self, document: dict[str, Any], message: bytes, size: int) -> bytes:
        """Let the back end answer; documents beside the command pass through as they are."""
        first = next(iter(document))
        changed = {key: value for key, value in document.items() if key not in ("lsid", "txnNumber", "readConcern")}
        if isinstance(document[first], str):
            changed[first] = inner_name(self.standin.data_name(document["$db"], document[first]))
        if "collection" in document:
            changed["collection"] = inner_name(document["collection"])
        changed["$db"] = inner_database(document["$db"])
        body = bson.encode(changed)
        rest = message[21 + size :]
        if int.from_bytes(message[16:20], "little") & 1:
            rest = rest[:-4]  # a checksum, which would be another one now
        inner = HEADER.pack(21 + len(body) + len(rest), *HEADER.unpack(message[:16])[1:]) + struct.pack("<IB", 0, 0)
        if self.inner is None:
            self.inner = socket.create_connection(self.standin.backend)
        self.inner.sendall(inner + body + rest)
        answer = receive(self.inner)
        if first in ("insert", "update", "delete", "findAndModify"):
            told = bson.decode(answer[21:])
            key = {"insert": "inserted", "delete": "deleted"}.get(first, "updated")
            with self.standin.lock:
                self.standin.counted[key] += int(told.get("n", 1) or 0)
        return answer

    def remember(self, document: dict[str, Any]) -> None:
        if client := document.get("client"):
            name = client.get("application", {}).get("name", "")
            host, port = self.client_address[:2]
            self.standin.clients[id(self)] = {"type": "idleConnection", "client": f"{host}:{port}", "appName": name}

    def sasl(self, document: dict[str, Any]) -> dict[str, Any]:
        """Take one step of SCRAM-SHA-256 (RFC 7677)."""
        options, payload = self.standin.options, bytes(document["payload"]).decode()
        if "saslStart" in document:
            self.login = {"bare": payload[3:], "short": document.get("options", {}).get("skipEmptyExchange")}
            fields = dict(one.split("=", 1) for one in self.login["bare"].split(","))
            nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
            first = f"r={nonce},s={base64.b64encode(self.standin.salt).decode()},i={ITERATIONS}"
            self.login |= {"user": fields["n"], "first": first}
            return {"conversationId": 1, "done": False, "payload": first.encode()}
        if not payload:
            return {"conversationId": 1, "done": True, "payload": b""}
        without, _, proof = payload.rpartition(",p=")
        message = f"{self.login['bare']},{self.login['first']},{without}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", options.password.encode(), self.standin.salt, ITERATIONS)
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        wanted = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if self.login["user"] != options.user or not hmac.compare_digest(wanted, base64.b64decode(proof)):
            raise RefusedError(18, "Authentication failed.")
        self.known = True
        told = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        payload_out = b"v=" + base64.b64encode(told)
        return {"conversationId": 1, "done": bool(self.login["short"]), "payload": payload_out}


class Server(socketserver.ThreadingTCPServer):
    """Listens for clients."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 64
    standin: Standin


def receive(connection: socket.socket) -> bytes:
    """Return one whole message; empty when the other side has gone."""
    head = exactly(connection, 16)
    return head + exactly(connection, HEADER.unpack(head)[0] - 16) if head else b""


def exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            if data:
                raise ConnectionError("cut off")
            return b""
        data += piece
    return bytes(data)


def reply(request: int, document: dict[str, Any]) -> bytes:
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return HEADER.pack(16 + len(body), request, request, OP_MSG) + body


def fitting(documents: list[bytes], most: int) -> int:
    """Return how many of the first documents an answer holds: `most`, and no more than 16 MiB, but one at least."""
    sizes = itertools.accumulate(len(one) for one in documents[:most])
    within = itertools.takewhile(lambda size: size <= LARGEST_BATCH, sizes)
    return max(1, sum(1 for _ in within)) if documents else 0


def first_batch(namespace: str, documents: list[Any]) -> dict[str, Any]:
    return {"cursor": {"firstBatch": documents, "id": bson.Int64(0), "ns": namespace}}


def inner_database(name: str) -> str:
    return ADMIN if name == "admin" else name


def inner_name(name: str) -> str:
    return HIDDEN + name if name.startswith("system.") else name


def outer_name(name: str) -> str:
    return name.removeprefix(HIDDEN) if name.startswith(f"{HIDDEN}system.") else name


def start_backend(options: argparse.Namespace) -> None:
    """Start mongo-java-server, which dies with this process, and wait until it answers."""
    libc = ctypes.CDLL(None)
    subprocess.Popen(
        ["java", "-Xmx256m", "-cp", f"{options.jars}/*", "de.bwaldvogel.mongo.H2MongoServer", f"{options.state}/data"],
        preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # noqa: PLW1509 - no thread runs yet
    )
    host, _, port = options.backend.partition(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionError:
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:27017")
    parser.add_argument("--backend", default="127.0.0.1:27017", help="the only address that the back end takes")
    parser.add_argument("--jars", default="", help="start the back end from the jars of this folder")
    parser.add_argument("--state", required=True)
    parser.add_argument("--version", default="5.0.31")
    parser.add_argument("--replica-set", default="")
    parser.add_argument("--mongos", action="store_true")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    options = parser.parse_args()
    host, _, port = options.listen.partition(":")
    Path(options.state).mkdir(parents=True, exist_ok=True)
    if options.jars:
        start_backend(options)
    with Server((host, int(port)), Connection) as server:
        server.standin = Standin(options)
        print(json.dumps({"listening": options.listen}), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
