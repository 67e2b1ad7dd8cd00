# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for MongoDB as a unit of this host, seeded with every type and option, and read by PyMongo alone."""

import contextlib
import datetime as dt
import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bson import (
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from bson.binary import Binary
from bson.code import Code
from bson.json_util import CANONICAL_JSON_OPTIONS
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tools.lab import jars

PORT = 27117
UNIT = Path("/run/systemd/system/restaura-test-mongod.service")
BACKEND = UNIT.with_name("restaura-test-mongo-java-server.service")
STATE = Path("/var/lib/restaura-test-mongod")
STANDINS = Path(__file__).parent / "standins"
LONG = "long " + "ü" * 50 + ".x"
ODD = "odd/ näme;,?%&+:=@~"
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678000)  # noqa: DTZ001 - as PyMongo gives them
USER, PASSWORD = "backup", "pässword: of the \"lab\" 'x' \\"

TYPES: dict[str, Any] = {
    "double": 1.5,
    "not a number": float("nan"),
    "text": 'a "quoted" <ä> \U0001f600',
    "document": {"z": 1, "a": {"deep": [1, [2, {"x": None}]]}},
    "binary": Binary(b"\x00\x01", 0),
    "uuid": Binary(bytes(range(16)), 4),
    "user defined": Binary(b"x", 128),
    "object id": ObjectId("0123456789abcdef01234567"),
    "true": True,
    "date": NOW,
    "old date": dt.datetime(1901, 1, 1),  # noqa: DTZ001
    "null": None,
    "regex": Regex("^a.*b$", "im"),
    "code": Code("function() { return 1 }"),
    "int32": 7,
    "int64": Int64(7),
    "large": Int64(2**62),
    "timestamp": Timestamp(1_700_000_000, 3),
    "decimal": Decimal128("1.10"),
    "min": MinKey(),
    "max": MaxKey(),
    "reference": DBRef("orders", 5),
}


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


class Server:
    """The stand-in, with its data in STATE; what keeps the documents runs on while it is started anew."""

    def __init__(self) -> None:
        self.login: dict[str, Any] = {}
        write_unit(BACKEND, f"/usr/bin/java -Xmx256m -cp {jars.folder()}/* {jars.MAIN} {STATE}/data")
        STATE.mkdir(parents=True, exist_ok=True)
        run("systemctl", "restart", BACKEND.name)
        wait_until(lambda: listening(27017))

    def start(self, *words: str, password: str = "") -> "Server":
        """Start it with these options, anew where it runs."""
        self.login = {"username": USER, "password": password} if password else {}
        words = (*words, "--user", USER, "--password", password) if password else words
        program = f"/usr/bin/python3 {STANDINS}/mongodb_server.py --state {STATE} --listen 127.0.0.1:{PORT}"
        write_unit(UNIT, " ".join([program, *(quoted(one) for one in words)]))
        run("systemctl", "restart", UNIT.name)
        wait_until(self.answers)
        return self

    def stop(self) -> None:
        run("systemctl", "stop", UNIT.name)

    def remove(self) -> None:
        for path in (UNIT, BACKEND):
            subprocess.run(["systemctl", "stop", path.name], check=False, capture_output=True)
            path.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        run("rm", "-rf", str(STATE))

    def client(self, name: str = "test") -> Any:
        return MongoClient("127.0.0.1", PORT, directConnection=True, appname=name, **self.login)

    @staticmethod
    def answers() -> bool:
        return listening(PORT)

    def wipe(self) -> None:
        """Empty it. Where the back end fails in that, as it does at times, it is made anew."""
        with self.client() as client:
            try:
                for name in [*client.list_database_names(), "admin"]:
                    if name != "local":
                        client.drop_database(name)
            except OperationFailure:
                run("systemctl", "stop", UNIT.name, BACKEND.name)
                run("rm", "-rf", str(STATE))
                STATE.mkdir()
                run("systemctl", "start", BACKEND.name)
                wait_until(lambda: listening(27017))
                run("systemctl", "start", UNIT.name)
                wait_until(self.answers)

    def seed(self, orders: int = 150) -> None:
        """Fill it with every type and option."""
        with self.client() as client:
            shop, crm = client["shop"], client["crm"]
            shop["types"].insert_one({"_id": ObjectId("5f0000000000000000000001"), **TYPES})
            shop["types"].insert_many([{"_id": key, "value": value} for key, value in TYPES.items()])
            shop["orders"].insert_many([{"_id": n, "n": n, "customer": f"c{n % 7}", "at": NOW} for n in range(orders)])
            shop["orders"].create_index([("customer", 1), ("n", -1)], name="by customer", collation={"locale": "pt"})
            shop["orders"].create_index("n", unique=True, sparse=True)
            shop["orders"].create_index("at", expireAfterSeconds=3_000_000_000)
            shop["orders"].create_index("m", partialFilterExpression={"m": {"$gt": Int64(5)}}, hidden=True)
            shop.create_collection("log", capped=True, size=1_048_576, max=5000)
            shop["log"].insert_many([{"_id": 9 - n, "line": "x" * n} for n in range(9)])
            shop.create_collection(
                "checked", validator={"$jsonSchema": {"required": ["name"]}}, validationAction="error"
            )
            shop.create_collection("sorted", collation={"locale": "de", "strength": 2})
            shop.create_collection("newest", viewOn="orders", pipeline=[{"$match": {"n": {"$gte": 100}}}])
            shop[ODD].insert_one({"_id": 1, "odd": True})
            shop[LONG].insert_one({"_id": 1, "long": True})
            crm.create_collection("measured", timeseries={"timeField": "t", "metaField": "m"}, expireAfterSeconds=900)
            crm["system.buckets.measured"].insert_one({"_id": ObjectId(), "control": {"version": 1}, "data": {"t": {}}})
            crm["people"].insert_many([{"_id": f"p{n}", "name": f"Zoë {n}"} for n in range(5)])
            for name in ("alice", "bob"):
                credentials = {"SCRAM-SHA-256": {"storedKey": f"stored-key-of-{name}", "salt": "c2FsdA=="}}
                user = {"_id": f"admin.{name}", "user": name, "db": "admin", "credentials": credentials}
                client["admin"]["system.users"].insert_one({**user, "roles": [{"role": "root", "db": "admin"}]})
            client["admin"]["system.roles"].insert_one({"_id": "shop.clerk", "role": "clerk", "db": "shop"})

    def digest(self) -> dict[str, str]:
        """Return a digest of everything by namespace, users and roles among it."""
        found = {}
        with self.client() as client:
            for database in client.list_database_names():
                if database in ("local", "admin"):
                    continue
                for one in client[database].list_collections():
                    if not one["name"].startswith(("restaura_", "system.buckets.restaura_")):
                        found[f"{database}.{one['name']}"] = self._digest(client[database], one)
            for name in ("system.users", "system.roles"):
                found[name] = documents(client["admin"][name])
        return found

    @staticmethod
    def _digest(database: Any, one: dict[str, Any]) -> str:
        told = extended([one["type"], sorted(one["options"].items(), key=str)])
        if one["type"] == "view":
            return hashlib.sha256(told.encode()).hexdigest()
        indexes = sorted(extended(sorted(index.items())) for index in database[one["name"]].list_indexes())
        stored = f"system.buckets.{one['name']}" if one["type"] == "timeseries" else one["name"]
        return hashlib.sha256(f"{told}{indexes}{documents(database[stored])}".encode()).hexdigest()


def write_unit(path: Path, program: str) -> None:
    path.write_text(f"[Service]\nUMask=0077\nEnvironment=PYTHONDONTWRITEBYTECODE=1\nExecStart={program}\n")
    run("systemctl", "daemon-reload")


def listening(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def documents(collection: Any) -> str:
    """Return a digest of the documents, whatever their order."""
    found = sorted(extended(one) for one in collection.find())
    return f"{len(found)}:{hashlib.sha256(json.dumps(found).encode()).hexdigest()}"


def extended(value: Any) -> str:
    return json_util.dumps(value, json_options=CANONICAL_JSON_OPTIONS, ensure_ascii=False)


def quoted(word: str) -> str:
    """Return a word for a unit's ExecStart."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'
