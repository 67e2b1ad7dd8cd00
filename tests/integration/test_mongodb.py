# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the mongodb source promises, against the stand-in: as a replica set, by itself, and by hand."""

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64

from restaura.config import load
from restaura.errors import RefusedError, SourceError
from restaura.host import Host
from restaura.mongodb import restore
from restaura.paths import Paths
from restaura.sources import Target
from restaura.sources.mongodb import Mongodb, MongodbComponent
from tests.integration.system import System
from tests.memory_point import MemoryPoint, take
from tests.mongodb_server import (
    ODD,
    PASSWORD,
    PORT,
    STANDINS,
    UNIT,
    USER,
    Server,
    run,
    wait_until,
)

SET = ("--replica-set", "rs0")


@pytest.fixture(scope="module")
def unit() -> Iterator[Server]:
    made = Server()
    made.start(*SET)
    yield made
    made.remove()


@pytest.fixture
def server(unit: Server) -> Server:
    """The server, seeded, as the one member of a replica set."""
    if "rs0" not in UNIT.read_text() or unit.login or not unit.answers():
        unit.start(*SET)
    unit.wipe()
    unit.seed()
    return unit


@pytest.fixture
def host(tmp_path: Path) -> Host:
    config = load.parse({"settings": {"host": "web1", "reserve_bytes": 1000}}, "test")
    return Host(Paths(tmp_path / "host"), config)


def source(host: Host, **options: Any) -> Mongodb:
    return Mongodb(MongodbComponent(name="mongodb", port=PORT, **options), host)


def differences(point: MemoryPoint, found: Any) -> list[str]:
    assert point.record.fingerprint is not None
    return point.record.fingerprint.differences(found)


def ours(server: Server) -> list[str]:
    """Name what of Restaura's is on the server."""
    with server.client() as client:
        found = [
            f"{name}.{one}" for name in client.list_database_names() for one in client[name].list_collection_names()
        ]
    return [one for one in found if "restaura_" in one]


def read(artifacts: Iterable[Any]) -> dict[str, bytes]:
    """Read streams, each before the next is asked for, as the pipeline does."""
    found = {}
    for one in artifacts:
        with one.open() as stream:
            found[one.name] = stream.read()
    return found


# -- the whole way, by the command line


def protecting(tmp_path: Path, **options: Any) -> System:
    one = System(tmp_path / "host")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(tmp_path / "store"), "compression": "none"}],
        plans=[{"name": "daily"}],
        components={"mongodb": [{"name": "mongodb", "port": PORT, "swap_while_connected": True, **options}]},
    )
    return one


def test_a_server_comes_back_whole_after_it_was_wiped_and_a_restore_is_undone(unit: Server, tmp_path: Path) -> None:
    unit.start(*SET, password=PASSWORD)
    unit.wipe()
    unit.seed()
    good = unit.digest()
    system = protecting(tmp_path, user=USER, password=PASSWORD)
    answer = system.run("run", "daily")
    assert {one["consistency"] for one in answer["components"]} == {"transactional"}
    (point,) = (tmp_path / "store/web1/daily").glob("2*")
    there = {str(path.relative_to(point / "mongodb")) for path in (point / "mongodb").rglob("*") if path.is_file()}
    assert {"dump/shop/orders.bson", "dump/shop/orders.metadata.json", "export/shop.orders.json"} <= there
    assert {"dump/crm/system.buckets.measured.bson", "dump/crm/measured.metadata.json"} <= there
    assert {"dump/admin/system.users.bson.age", "dump/admin/system.roles.bson.age", "server.json.age"} <= there
    assert not [path for path in point.rglob("*") if path.is_file() and b"stored-key-of" in path.read_bytes()]
    logs = "".join(path.read_text() for path in (tmp_path / "host/var/log").rglob("*.jsonl"))
    assert PASSWORD not in logs
    assert [one["verdict"] for one in system.run("drill", "--plan", "daily")["results"]] == ["proven"]
    assert ours(unit) == []
    unit.wipe()
    assert unit.digest() != good
    restored = system.run("restore", "--yes")
    assert unit.digest() == good
    with unit.client() as client:
        assert len(list(client["shop"]["newest"].find())) == 50
        client["shop"]["orders"].delete_many({"n": {"$gt": 3}})
        client["shop"]["later"].insert_one({"new": True})
        client["admin"]["system.users"].delete_one({"user": "bob"})
        client["crm"]["system.buckets.measured"].insert_one({"_id": 1, "later": True})
    damaged = unit.digest()
    again = system.run("restore", "--yes")
    assert unit.digest() == good
    # What is kept is in no backup.
    system.run("run", "daily")
    system.run("undo", again["id"])
    assert unit.digest() == damaged
    system.run("undo", again["id"], "--discard")
    system.run("undo", restored["id"], "--discard")
    assert (unit.digest(), ours(unit)) == (damaged, [])
    assert not [path for path in (tmp_path / "store").rglob("*") if "restaura_" in path.name]


def test_what_a_killed_run_leaves_on_the_server_is_taken_back(server: Server, tmp_path: Path) -> None:
    system, before = protecting(tmp_path), server.digest()
    system.killed("run", "daily", at="copy", who="run, watcher")
    with server.client() as client:
        wanted = {"getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1}
        assert client.admin.command(wanted)["minSnapshotHistoryWindowInSeconds"] == 7200
        system.run("recover")
        assert client.admin.command(wanted)["minSnapshotHistoryWindowInSeconds"] == 300
    assert (server.digest(), ours(server), system.leftovers()) == (before, [], [])


def test_what_a_killed_drill_leaves_on_the_server_is_taken_back(server: Server, host: Host) -> None:
    owner, before = source(host), server.digest()
    point = take(owner)
    with owner.scratch() as target:
        owner.stage(point, target)
        assert len(ours(server)) > 10
        (debt,) = host.journal.open_debts()
        # Databases of another drill are left alone.
        Mongodb.take_back("drill", {**debt.data, "id": "00000000"})
        assert len(ours(server)) > 10
        Mongodb.take_back(debt.act, debt.data)
        assert ours(server) == []
    assert (server.digest(), host.journal.open_debts()) == (before, [])


@pytest.mark.parametrize(("at", "live"), [("swap", "before"), ("swapped", "before"), ("committed", "restored")])
def test_a_killed_restore_is_taken_back_or_finished(server: Server, tmp_path: Path, at: str, live: str) -> None:
    good = server.digest()
    system = protecting(tmp_path)
    system.run("run", "daily")
    with server.client() as client:
        client["shop"]["orders"].delete_many({})
        client["admin"]["system.users"].delete_one({"user": "bob"})
    damaged = server.digest()
    system.killed("restore", "--yes", at=at, who="run, watcher")
    system.run("recover")
    assert server.digest() == (damaged if live == "before" else good)
    if live == "before":
        assert (ours(server), system.leftovers()) == ([], [])


def test_the_user_that_restores_is_left_as_it_is(unit: Server, host: Host) -> None:
    """Another server's user has an id and a password of its own: with the point's it would shut us out."""
    unit.start(*SET, password=PASSWORD)
    unit.wipe()
    unit.seed(5)
    (host.paths.keys).mkdir(parents=True)
    (host.paths.keys / "components.mongodb.password").write_text(PASSWORD)

    def users(client: Any) -> dict[str, Any]:
        return {one["user"]: one.get("credentials") for one in client["admin"]["system.users"].find()}

    with unit.client() as client:
        own = {"_id": f"admin.{USER}", "user": USER, "db": "admin", "credentials": "of the point"}
        own["roles"] = [{"role": "keeper", "db": "admin"}]
        client["admin"]["system.users"].insert_one(own)
        rights = client["admin"]["system.roles"]
        for name, held in (("keeper", [{"role": "writer", "db": "shop"}]), ("writer", []), ("other", [])):
            home = "shop" if name == "writer" else "admin"
            rights.insert_one({"_id": f"{home}.{name}", "role": name, "db": home, "privileges": [], "roles": held})
        there, owner = users(client), source(host, user=USER)
        point = take(owner)
        rights.update_many({}, {"$set": {"privileges": [{"of": "this server"}]}})
        for name in (USER, "bob"):
            client["admin"]["system.users"].update_one({"user": name}, {"$set": {"credentials": "of this server"}})
        before = users(client)
        staged = owner.stage(point, Target("live"))
        assert [one for one in staged.notes if f"admin.{USER}" in one]
        assert differences(point, owner.fingerprint(staged, "content")) == []
        record = owner.plan_swap(staged)
        for _ in range(2):
            Mongodb.swap(record)
            assert users(client) == {**there, USER: "of this server"}
            assert {one["role"] for one in rights.find({"privileges": []})} == {"other"}
        Mongodb.undo(record)
        assert users(client) == before
        Mongodb.discard(record)


# -- the fingerprint


def put(database: str, name: str, document: dict[str, Any]) -> Callable[[Any], object]:
    return lambda client: client[database][name].replace_one({"_id": document["_id"]}, document, upsert=True)


def reindexed(name: str, keys: Any, **options: Any) -> Callable[[Any], object]:
    def change(client: Any) -> None:
        client["shop"]["orders"].drop_index(name)
        client["shop"]["orders"].create_index(keys, name=name, **options)

    return change


def swapped_fields(client: Any) -> None:
    client["shop"][ODD].replace_one({"_id": 1}, {"_id": 1, "b": 1, "a": 2})


CHANGES: dict[str, Callable[[Any], object]] = {
    "a value": put("shop", "types", {"_id": "int32", "value": 8}),
    "int32 to int64": put("shop", "types", {"_id": "int32", "value": Int64(7)}),
    "int32 to double": put("shop", "types", {"_id": "int32", "value": 7.0}),
    "trailing zero of a decimal": put("shop", "types", {"_id": "decimal", "value": Decimal128("1.1")}),
    "null to missing": put("shop", "types", {"_id": "null"}),
    "binary subtype": put("shop", "types", {"_id": "uuid", "value": bson.Binary(bytes(range(16)), 0)}),
    "order of fields": swapped_fields,
    "one document less": lambda client: client["shop"]["orders"].delete_one({"_id": 5}),
    "one document twice": put("shop", "orders", {"_id": 10_000, "n": 10_000}),
    "index direction": reindexed("by customer", [("customer", 1), ("n", 1)], collation={"locale": "pt"}),
    "index collation": reindexed("by customer", [("customer", 1), ("n", -1)], collation={"locale": "pt_BR"}),
    "no longer unique": reindexed("n_1", "n", sparse=True),
    "no longer sparse": reindexed("n_1", "n", unique=True),
    "seconds of a TTL": reindexed("at_1", "at", expireAfterSeconds=3_000_000_001),
    "filter of a partial index": reindexed("m_1", "m", partialFilterExpression={"m": {"$gt": 5}}, hidden=True),
    "no longer hidden": reindexed("m_1", "m", partialFilterExpression={"m": {"$gt": Int64(5)}}),
    "an index less": lambda client: client["shop"]["orders"].drop_index("m_1"),
    "size of a capped collection": lambda client: client["shop"].command("collMod", "log", size=2_097_152),
    "a validator": lambda client: client["shop"].command("collMod", "checked", validator={}),
    "what a validator does": lambda client: client["shop"].command("collMod", "checked", validationAction="warn"),
    "a view's pipeline": lambda client: client["shop"].command("collMod", "newest", pipeline=[]),
    "an empty collection more": lambda client: client["shop"].create_collection("empty"),
    "a collection's name": lambda client: client["crm"]["people"].rename("persons"),
    "expiry of a time series": lambda client: client["crm"].command("collMod", "measured", expireAfterSeconds=901),
    "a bucket": lambda client: client["crm"]["system.buckets.measured"].update_one({}, {"$set": {"data.t.x": 1}}),
    "a role of a user": lambda client: client["admin"]["system.users"].update_one(
        {"user": "bob"}, {"$set": {"roles": [{"role": "root", "db": "shop"}]}}
    ),
    "a password": lambda client: client["admin"]["system.users"].update_one(
        {"user": "bob"}, {"$set": {"credentials.SCRAM-SHA-256.storedKey": "other"}}
    ),
    "a role less": lambda client: client["admin"]["system.roles"].delete_one({}),
}


def test_every_small_change_is_seen_in_the_fingerprint(server: Server, host: Host) -> None:
    """Each upon the former ones: what is compared is the state before and after one change."""
    owner = source(host, export=False)
    salted = ("user ", "role ")

    def parts() -> tuple[dict[str, str], dict[str, int]]:
        point = take(owner)
        assert point.record.fingerprint is not None
        salt = bytes.fromhex(json.loads(point.data["server.json"])["salt"])
        salts.append(salt)
        found = point.record.fingerprint
        # Accounts are salted anew in every point: theirs are made comparable with the first one's salt.
        from restaura.mongodb import fingerprint as print_

        raw = [
            [bytes(one) for one in print_.documents(point.data.get(f"dump/admin/system.{kind}.bson", b""))]
            for kind in ("users", "roles")
        ]
        assert {key: value for key, value in found.parts.items() if key.startswith(salted)} == print_.accounts(
            *raw, salt
        )
        return {**found.parts, **print_.accounts(*raw, salts[0])}, found.counts

    salts: list[bytes] = []
    before = parts()
    assert parts() == before
    unseen = []
    with server.client() as client:
        for name, change in CHANGES.items():
            change(client)
            after = parts()
            if after == before:
                unseen.append(name)
            before = after
    assert unseen == []
    assert len(CHANGES) >= 15


# -- one moment


def test_databases_that_are_not_named_are_told(server: Server, host: Host) -> None:
    with server.client() as client:
        there = sorted({*client.list_database_names()} - {"admin", "config", "local", "shop"})
    assert there
    one = source(host, databases=("shop",))
    one.prepare("catalog")
    with one.freeze("catalog") as frozen:
        read(frozen.artifacts())
        (note,) = frozen.outcome({}).notes
    assert note == f"not in `databases`, and so not taken: {', '.join(there)} (or name it in `exclude_databases`)"


def test_a_snapshot_holds_one_moment_while_all_is_written_to(server: Server, host: Host) -> None:
    over = threading.Event()
    with server.client() as client:
        for name in ("first", "second"):
            client["counters"][name].insert_one({"_id": 0, "n": 0})

        def count() -> None:
            number = 0
            while not over.is_set():
                number += 1
                client["counters"]["first"].update_one({"_id": 0}, {"$set": {"n": number}})
                client["counters"]["second"].update_one({"_id": 0}, {"$set": {"n": number}})

        writer = threading.Thread(target=count)
        writer.start()
        try:
            wait_until(lambda: client["counters"]["second"].find_one()["n"] > 3)
            owner = source(host)
            with owner.freeze("content") as frozen:
                at = client["counters"]["second"].find_one()["n"]
                wait_until(lambda: client["counters"]["second"].find_one()["n"] > at + 3)
                found = read(frozen.artifacts())
                assert frozen.outcome({}).consistency == "transactional"
        finally:
            over.set()
            writer.join()
    first, second = (bson.decode(found[f"dump/counters/{name}.bson"])["n"] for name in ("first", "second"))
    assert first - second in (0, 1)
    assert second <= at


def test_a_collection_that_is_dropped_while_its_snapshot_is_read_fails_the_component(
    server: Server, host: Host
) -> None:
    owner = source(host)
    with owner.freeze("content") as frozen, server.client() as client:
        client["shop"].drop_collection("orders")
        client["shop"]["orders"].insert_one({"another": "one"})
        with pytest.raises(SourceError, match=r"shop\.orders was dropped"):
            read(frozen.artifacts())


def test_what_is_copied_is_of_one_moment_or_torn(unit: Server, host: Host) -> None:
    unit.start()
    unit.wipe()
    unit.seed()
    quiet = take(source(host))
    assert (quiet.record.consistency, quiet.record.notes) == ("snapshot", [])
    over = threading.Event()
    with unit.client() as client:

        def write() -> None:
            number = 0
            while not over.is_set():
                number += 1
                client["shop"]["orders"].update_one({"_id": 0}, {"$set": {"x": number}})

        writer = threading.Thread(target=write)
        writer.start()
        try:
            torn = take(source(host))
            locked = take(source(host, lock=True))
        finally:
            over.set()
            writer.join()
        assert torn.record.consistency == "torn"
        assert "pause what writes" in torn.record.notes[0]
        assert locked.record.consistency == "snapshot"
        assert "fsyncLock" not in client.admin.command("currentOp")
        client.admin.command("fsync", lock=True)
        with pytest.raises(SourceError, match="locked already"):
            take(source(host, lock=True))
        client.admin.command("fsyncUnlock")
    assert not host.journal.open_debts()


def test_a_lock_that_a_killed_run_left_is_let_go(unit: Server, host: Host) -> None:
    unit.start()
    owner = source(host, lock=True)
    with unit.client() as client:
        client.admin.command("fsync", lock=True)
        Mongodb.take_back("lock", {"server": owner._server().to_json()})
        assert "fsyncLock" not in client.admin.command("currentOp")
        Mongodb.take_back("lock", {"server": owner._server().to_json()})


# -- mongodump and mongorestore


@pytest.fixture
def tools(tmp_path: Path) -> Iterator[Path]:
    """The stand-ins in PATH; yields the file that tells their arguments and environment."""
    names = [Path("/usr/local/bin") / name for name in ("mongodump", "mongorestore", "mongoexport")]
    log = Path("/run/mongo-tools.log")
    log.unlink(missing_ok=True)
    for path in names:
        shutil.copy(STANDINS / "mongo_tools.py", path)
        path.chmod(0o755)
    yield log
    for path in names:
        path.unlink()
    log.unlink(missing_ok=True)


def test_the_tools_are_used_where_there_is_no_snapshot_and_see_no_password(
    unit: Server, tmp_path: Path, tools: Path
) -> None:
    unit.start(password=PASSWORD)
    unit.wipe()
    unit.seed(20)
    good = unit.digest()
    system = protecting(tmp_path, user=USER, password=PASSWORD)
    answer = system.run("run", "daily")
    assert {one["consistency"] for one in answer["components"]} == {"snapshot"}
    unit.wipe()
    system.run("restore", "--yes")
    assert unit.digest() == good
    said = tools.read_text()
    assert "mongodump --host" in said
    assert "mongorestore --host" in said
    assert PASSWORD not in said
    assert PASSWORD.replace("\\", "\\\\").replace('"', '\\"') not in said
    assert not list(Path("/dev/shm").glob("restaura.*"))


def test_documents_that_mongorestore_could_not_restore_fail_the_restore(unit: Server, host: Host, tools: Path) -> None:
    unit.start()
    unit.wipe()
    unit.seed(20)
    owner = source(host, swap_while_connected=True)
    point = take(owner)
    before = unit.digest()
    script = "#!/bin/sh\ncase $1 in --version) echo mongorestore version: 1.2;; *) cat >/dev/null\n"
    script += "echo '7 document(s) restored successfully. 2 document(s) failed to restore.' >&2;; esac\n"
    Path("/usr/local/bin/mongorestore").write_text(script)
    with pytest.raises(SourceError, match="2 document"):
        owner.stage(point, Target("live", paths=("shop.orders",)))
    assert (unit.digest(), ours(unit)) == (before, [])


def test_the_files_are_mongodumps_and_a_stock_mongorestore_reads_them(
    server: Server, host: Host, tools: Path, tmp_path: Path
) -> None:
    good = server.digest()
    owner = source(host)
    point = take(owner)
    staged = owner.stage(point, Target("dir", str(tmp_path / "out")))
    assert differences(point, owner.fingerprint(staged, "content")) == []
    run("mongodump", f"--port={PORT}", f"--out={tmp_path / 'theirs'}")
    listed = {
        str(path.relative_to(tmp_path / "theirs")): path.read_bytes()
        for path in (tmp_path / "theirs").rglob("*")
        if path.is_file()
    }
    # Of users and roles only what is in them is compared: their UUIDs are the server's own affair.
    out = tmp_path / "out/dump"
    own = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    alike = {
        name
        for name in {*listed, *own}
        if not name.endswith(("system.users.metadata.json", "system.roles.metadata.json"))
    }
    assert {name: listed.get(name) for name in alike} == {name: own.get(name) for name in alike}
    assert {f"shop/{name}.bson" for name in ("odd%2F%20n%C3%A4me%3B%2C%3F%25&+:=@~", "orders")} <= listed.keys()
    (cut,) = [name for name in listed if name.startswith("shop/long") and name.endswith(".bson")]
    assert len(cut) == len("shop/.bson") + 238
    exported = run("mongoexport", f"--port={PORT}", "--db=shop", "--collection=types", "--jsonFormat=canonical")
    assert point.data["export/shop.types.json"].decode() == exported
    server.wipe()
    run("mongorestore", f"--port={PORT}", f"--dir={tmp_path / 'out/dump'}")
    assert server.digest() == good


# -- other targets, and refusals


def test_a_database_and_a_collection_come_back_alone_and_under_another_name(server: Server, host: Host) -> None:
    owner = source(host, swap_while_connected=True)
    point, good = take(owner), server.digest()
    with server.client() as client:
        client["shop"]["orders"].delete_many({})
        client["shop"]["types"].delete_many({})
        client["shop"]["later"].insert_one({"_id": 1})
    damaged = server.digest()
    staged = owner.stage(point, Target("live", paths=("shop.orders",)))
    assert set(owner.fingerprint(staged, "content").counts) == {"shop.orders: documents"}
    one = owner.plan_swap(staged)
    Mongodb.swap(one)
    assert server.digest() == damaged | {"shop.orders": good["shop.orders"]}
    Mongodb.undo(one)
    Mongodb.discard(one)
    assert server.digest() == damaged
    staged = owner.stage(point, Target("live", paths=("shop",)))
    record = owner.plan_swap(staged)
    Mongodb.swap(record)
    assert server.digest() == good
    Mongodb.undo(record)
    Mongodb.undo(record)
    assert server.digest() == damaged
    Mongodb.discard(record)
    staged = owner.stage(point, Target("name", "shop_old", paths=("shop",)))
    Mongodb.swap(owner.plan_swap(staged))
    old = {key.replace("shop_old.", "shop.", 1): value for key, value in server.digest().items() if "shop_old" in key}
    assert old == {key: value for key, value in good.items() if key.startswith("shop.")}
    with pytest.raises(RefusedError, match="'shop_old' already"):
        owner.stage(point, Target("name", "shop_old", paths=("shop",)))
    with pytest.raises(RefusedError, match="holds no database or collection 'nope'"):
        owner.stage(point, Target("live", paths=("nope",)))
    assert ours(server) == []


def test_what_an_application_makes_between_two_renames_is_not_lost(server: Server, host: Host) -> None:
    owner = source(host, swap_while_connected=True)
    point = take(owner)
    staged = owner.stage(point, Target("live", paths=("shop.orders",)))
    record = owner.plan_swap(staged)
    (move,) = record["moves"]
    with server.client() as client:
        client["shop"]["orders"].rename(move["kept"])
        client["shop"]["orders"].insert_one({"_id": "made meanwhile"})
        Mongodb.swap(record)
        assert client["shop"]["orders"].count_documents({}) == 150
        assert client["shop"][move["late"]].find_one() == {"_id": "made meanwhile"}
        Mongodb.undo(record)
        # Neither a discard nor the recovery of a killed restore deletes it: a person does.
        with pytest.raises(SourceError, match=move["late"]):
            Mongodb.discard(record)
        with pytest.raises(SourceError, match=move["late"]):
            Mongodb.take_back("stage", {**staged.data, "homes": ["shop"]})
        assert client["shop"][move["late"]].find_one() == {"_id": "made meanwhile"}
        client["shop"].drop_collection(move["late"])
    Mongodb.discard(record)
    assert ours(server) == []


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_what_cannot_be_renamed_is_whole_after_any_interruption(
    server: Server, host: Host, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Copies are cut off half-way, one after the other, until each of swap and undo got through."""
    owner = source(host, swap_while_connected=True)
    with server.client() as client:
        buckets = client["crm"]["system.buckets.measured"]
        buckets.insert_many([{"_id": number} for number in range(9)])
        point = take(owner)
        buckets.delete_many({"_id": {"$lt": 5}})
        damaged = server.digest()
        staged = owner.stage(point, Target("live", paths=("crm.measured",)))
        record = owner.plan_swap(staged)
        copy, calls = restore.copy, []

        def cut_off(client: Any, database: str, found: Any, name: str) -> None:
            calls.append(name)
            copy(client, database, found, name)
            if len(calls) == step:
                one = client[database][f"system.buckets.{name}"]
                one.delete_one({"_id": one.find_one()["_id"]})
                raise SourceError("cut off")

        monkeypatch.setattr(restore, "copy", cut_off)
        for act in (Mongodb.swap, Mongodb.undo):
            with contextlib.suppress(SourceError):
                act(record)
        Mongodb.undo(record)
        assert server.digest() == damaged
        Mongodb.undo(record)
        assert server.digest() == damaged
        Mongodb.discard(record)
    assert (server.digest(), ours(server)) == (damaged, [])


def test_a_swap_refuses_while_clients_are_connected(server: Server, host: Host) -> None:
    owner = source(host)
    point = take(owner)
    staged = owner.stage(point, Target("live", paths=("crm.people",)))
    assert owner.busy(staged) == []
    with server.client("shop front") as client:
        client["crm"]["people"].find_one()
        assert all("shop front" in one for one in owner.busy(staged))
        assert owner.busy(staged)
        assert source(host, swap_while_connected=True).busy(staged) == []
    Mongodb.discard(owner.plan_swap(staged))


def test_newer_data_clusters_and_other_mistakes_are_refused(unit: Server, host: Host) -> None:
    unit.start("--version", "7.0.5")
    unit.wipe()
    unit.seed(5)
    point = take(source(host))
    unit.start("--version", "6.0.1")
    with pytest.raises(SourceError, match=r"is version 6\.0\.1, the point is from version 7\.0\.5"):
        source(host).stage(point, Target("live"))
    unit.start("--version", "7.0.5", "--mongos")
    ((what, _),) = source(host).probe().problems
    assert "sharded" in what
    unit.start(*SET, password=PASSWORD)
    ((what, fix),) = source(host).probe().problems
    assert (what, fix) == ("the server wants a user and a password", "set user and password of component mongodb")
    ((what, _),) = source(host, user=USER).probe().problems
    assert what == "user 'backup' has no password"
    keys = host.paths.keys
    keys.mkdir(parents=True)
    (keys / "components.mongodb.password").write_text("wrong")
    ((what, _),) = source(host, user=USER).probe().problems
    assert what == "user 'backup' cannot log in"
    (keys / "components.mongodb.password").write_text(PASSWORD)
    ((what, _),) = source(host, databases=("nope",), user=USER).probe().problems
    assert what == "there is no database 'nope'"
    assert source(host, user=USER).probe().problems == []
    unit.stop()
    ((what, fix),) = source(host, user=USER).probe().problems
    assert "does not answer" in what
    assert fix == "systemctl start mongod"
    with pytest.raises(SourceError, match="does not answer"):
        take(source(host, user=USER))


def test_a_server_that_dies_in_the_freeze_fails_the_component_alone(server: Server, tmp_path: Path) -> None:
    system = protecting(tmp_path)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    system.configure(
        components={**system.declaration["components"], "files": [{"name": "app", "paths": [str(tree)]}]},
        plans=[{"name": "daily", "pause": {"command": "true", "resume": f"systemctl kill -s KILL {UNIT.name}"}}],
    )
    answer = system.run("run", "daily", expect=3)
    states = {one["component"]: one["state"] for one in answer["components"]}
    assert states == {"app": "complete", "mongodb": "failed"}
    server.start(*SET)
    system.run("recover")
    assert system.leftovers() == []


def test_a_damaged_artifact_is_never_made_live(server: Server, tmp_path: Path) -> None:
    system = protecting(tmp_path)
    system.run("run", "daily")
    (path,) = (tmp_path / "store").rglob("dump/shop/orders.bson")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    before = server.digest()
    system.run("restore", "--yes", expect=1)
    assert (server.digest(), ours(server), system.leftovers()) == (before, [], [])
