# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the redis source promises, on real servers: frozen, drilled, restored live, undone, and refused."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.errors import ConfigError, RefusedError
from restaura.host import Host
from restaura.sources import Staged, Target
from restaura.sources.redis import Redis
from tests.integration.system import System
from tests.memory_point import MemoryPoint, take
from tests.redis_server import (
    FUNCTION,
    LATER,
    Server,
    leftovers,
    make_host,
    run,
    scratch_root,
    source,
    taken,
    wait_until,
)

pytestmark = pytest.mark.debian12
PASSWORD = "Live-Pw-7f2c"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with scratch_root() as root:
        yield make_host(root)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with a password, an append-only file and users that it keeps in a file."""
    folder = Path("/var/tmp/rds-live")
    run("rm", "-rf", str(folder))
    folder.mkdir()
    (folder / "users.acl").write_text(f"user default on >{PASSWORD} ~* &* +@all\n")
    made = Server(folder, 6391, ["appendonly yes", f"aclfile {folder}/users.acl"], PASSWORD, aclfile=True)
    try:
        made.start()
        made.seed()
        yield made
    finally:
        made.stop(kill=True)
        run("rm", "-rf", str(folder))


@pytest.fixture(scope="module")
def point(server: Server, host: Host) -> MemoryPoint:
    return taken(source(host, server))


@pytest.fixture
def clean(server: Server, host: Host, point: MemoryPoint) -> Iterator[None]:
    """What a test does to the live server is taken back, by the server's own means."""
    before = server.content()
    server.cli("CONFIG", "SET", "dbfilename", "dump.rdb", check=False)
    yield
    server.cli("REPLICAOF", "NO", "ONE")
    if server.content() != before:
        server.cli("FLUSHALL")
        server.cli("FUNCTION", "FLUSH")
        server.cli("ACL", "DELUSER", "shop", "later")
        server.seed()


def staged(own: Redis, point: MemoryPoint) -> Staged:
    """Stage a point beside the live data, and compare it as a restore does."""
    found = own.stage(point, Target("live"))
    assert point.record.fingerprint is not None
    assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
    return found


def done(host: Host, found: Staged) -> None:
    """Settle what a restore settles once all was swapped."""
    host.journal.settle(found.data["debt"])


def test_a_point_holds_what_a_person_expects(server: Server, host: Host, point: MemoryPoint) -> None:
    names = set(point.data)
    assert {"dump.rdb", "redis.conf", "users.acl", "server.json", "appendonlydir/appendonly.aof.manifest"} <= names
    assert point.secret == {"redis.conf", "users.acl", "server.json"}
    assert b"shop" in point.data["users.acl"]
    assert PASSWORD.encode() not in b"".join(point.data[one] for one in names - point.secret)
    assert PASSWORD not in json.dumps([point.record.fingerprint.parts, point.record.notes])
    assert server.cli("CONFIG", "GET", "auto-aof-rewrite-percentage").splitlines()[1] == "100"
    assert json.loads(point.data["server.json"])["config"]["auto-aof-rewrite-percentage"] == "100"
    assert leftovers(host) == []


def test_a_drill_gives_back_everything_also_what_expired_since(server: Server, host: Host) -> None:
    for milliseconds in ("1500", "15000", "60000"):
        server.cli("SET", "soon", "1", "PX", milliseconds)
        server.cli("HSET", "gone", "f", "v")
        server.cli("PEXPIRE", "gone", milliseconds)
        point = taken(source(host, server))
        assert point.record.fingerprint is not None
        # A slow machine needs them to live longer.
        if point.record.fingerprint.counts["db0 keys that expire"] == 4:
            break
    assert point.record.fingerprint.counts["db0 keys that expire"] == 4
    wait_until(lambda: server.cli("EXISTS", "soon", "gone") == "0")
    drilled = source(host, server)
    with drilled.scratch() as target:
        found = drilled.stage(point, target)
        assert point.record.fingerprint.differences(drilled.fingerprint(found, "content")) == []
        command = drilled.checks(found)["RESTAURA_REDIS_CLI"].split()
        assert run(*command, "-n", "3", "GET", "other") == "1\n"
        assert "total" in run(*command, "FUNCTION", "LIST")
        [pid] = [one for one in run("pgrep", "-f", target.value).split() if "cli" not in run("ps", "-o", "args=", one)]
        assert Path(f"/proc/{pid}").stat().st_uid >= 61184
        assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        catalog = take(source(host, server), "catalog").record.fingerprint
        assert catalog is not None
        assert catalog.depth == "catalog"
    assert not Path(target.value).exists()
    assert leftovers(host) == []


def test_a_live_restore_swaps_undoes_and_discards(clean: None, server: Server, host: Host, point: MemoryPoint) -> None:
    good = server.content()
    server.cli("FLUSHALL")
    server.cli("FUNCTION", "FLUSH")
    server.cli("SET", "newer", "1", database=2)
    server.cli("ACL", "SETUSER", "shop", "+@write")
    server.cli("ACL", "SETUSER", "later", "on", ">later-Pw")
    damaged, settings = server.content(), server.cli("CONFIG", "GET", "*")
    live = source(host, server)
    found = staged(live, point)
    assert server.content() == damaged
    record = live.plan_swap(found)
    Redis.swap(record)
    Redis.swap(record)
    server.cli("ACL", "DELUSER", "later")
    assert server.content() == good
    server.cli("ACL", "SETUSER", "later", "on", ">later-Pw")
    assert "role:master" in server.cli("INFO", "replication")
    assert server.cli("CONFIG", "GET", "*") == settings
    server.cli("SET", "after", "1")
    Redis.undo(record)
    Redis.undo(record)
    assert server.content() == damaged
    assert server.cli("CONFIG", "GET", "*") == settings
    Redis.discard(record)
    Redis.discard(record)
    assert server.content() == damaged
    done(host, found)
    second = staged(live, point)
    Redis.swap(live.plan_swap(second))
    Redis.discard(live.plan_swap(second))
    done(host, second)
    server.cli("ACL", "DELUSER", "later")
    assert server.content() == good
    # What was restored outlives the server: its append-only file and its users hold it.
    server.stop(kill=True)
    server.start()
    server.cli("ACL", "DELUSER", "later")
    assert server.content() == good
    assert leftovers(host) == []


def test_the_append_only_files_of_a_point_are_the_same_moment(server: Server, host: Host) -> None:
    """Writers never stop: what the artifacts hold has to be equal all the same, by a server of each."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            server.cli(stdin="INCR counter\nINCR counter\nRPUSH log x\n" * 20)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: int(server.cli("GET", "counter")) > 50)
        point = taken(source(host, server))
    finally:
        stop.set()
        writer.join()
    found = []
    for kind in ("dump.rdb", "appendonlydir/"):
        folder = Path(f"/var/tmp/rds-{kind.strip('/.')}")
        run("rm", "-rf", str(folder))
        for name in [one for one in point.data if one.startswith(kind)]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(point.data[name])
        other = Server(folder, 6392, ["appendonly yes"] if kind == "appendonlydir/" else []).start()
        content = other.content()
        other.stop()
        run("rm", "-rf", str(folder))
        found.append({name: value for name, value in content.items() if name != "users"})
    assert found[0] == found[1]
    assert int(found[0]["0 b'counter'"][1]) > 50


CHANGES = {
    "a value": ("SET", "plain", "valuf"),
    "a bit": ("SETBIT", "bits", "78", "1"),
    "a counter": ("INCR", "counter"),
    "a new key": ("SET", "one more", ""),
    "a key less": ("DEL", "number"),
    "another name": ("RENAME", "ints", "integers"),
    "a time of expiry, by a millisecond": ("PEXPIREAT", "session:2", f"{LATER}124"),
    "no time of expiry": ("PERSIST", "session:1"),
    "the order of a list": ("LMOVE", "list", "list", "LEFT", "RIGHT"),
    "an item of a long list": ("LSET", "long", "277", "item278"),
    "a member": ("SADD", "set", "four"),
    "a score's last bit": ("ZADD", "scores", "1.5000000000000002", "a"),
    "a field": ("HSET", "hash", "f1", "v2"),
    "a field of many": ("HSET", "wide", "f250", "w250"),
    "an entry of a stream": ("XADD", "stream", "4-1", "f", "v"),
    "an entry that was deleted": ("XDEL", "stream", "3-1"),
    "an acknowledgement": ("XACK", "stream", "workers", "1-1"),
    "a consumer": ("XGROUP", "CREATECONSUMER", "stream", "workers", "bia"),
    "a group's place": ("XGROUP", "SETID", "empty", "readers", "9-9"),
    "another database": ("MOVE", "hll", "3"),
    "another type": ("EVAL", "redis.call('DEL','list') return redis.call('SADD','list','a','b','c')", "0"),
    "a function": ("FUNCTION", "LOAD", "REPLACE", FUNCTION.replace("42", "43")),
    "a user's rule": ("ACL", "SETUSER", "shop", "+get", "+set"),
    "a user's password": ("ACL", "SETUSER", "shop", ">other-Pw"),
}


def test_every_small_change_shows_in_the_fingerprint(clean: None, server: Server, host: Host) -> None:
    def fingerprint() -> dict[str, str]:
        with source(host, server).freeze("content") as frozen:
            list(frozen.artifacts())
            frozen._description["salt"] = "00"
            return frozen.outcome({}).fingerprint.parts

    before = fingerprint()
    assert fingerprint() == before
    for what, command in CHANGES.items():
        server.cli(*command)
        after = fingerprint()
        assert after != before, what
        before = after


def test_encodings_do_not_show_in_the_fingerprint(clean: None, server: Server, host: Host) -> None:
    first = taken(source(host, server))
    server.cli("CONFIG", "SET", "list-max-listpack-size", "2", "hash-max-listpack-entries", "1")
    server.cli("CONFIG", "SET", "set-max-intset-entries", "1", "zset-max-listpack-entries", "1")
    server.cli("DEL", "list", "hash", "scores", "ints")
    server.cli(stdin="RPUSH list a b c a\nZADD scores 0.1 c 15e-1 a -inf b\nHSET hash f2 v2 f1 v1\nSADD ints 3 2 1")
    assert server.cli("OBJECT", "ENCODING", "hash") == "hashtable"
    second = taken(source(host, server))
    server.cli("CONFIG", "SET", "list-max-listpack-size", "-2", "hash-max-listpack-entries", "128")
    server.cli("CONFIG", "SET", "set-max-intset-entries", "512", "zset-max-listpack-entries", "128")
    assert first.record.fingerprint is not None
    assert second.record.fingerprint is not None
    wrong = first.record.fingerprint.differences(second.record.fingerprint)
    assert [one for one in wrong if "user" not in one] == []


def test_files_are_enough_for_somebody_without_restaura(
    server: Server, host: Host, point: MemoryPoint, tmp_path: Path
) -> None:
    own = source(host, server)
    found = own.stage(point, Target("dir", str(tmp_path / "out")))
    assert own.busy(found) == []
    assert own.plan_swap(found) == {}
    assert point.record.fingerprint is not None
    assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
    with pytest.raises(RefusedError, match="not empty"):
        own.stage(point, Target("dir", str(tmp_path / "out")))
    with pytest.raises(ConfigError, match="as a whole"):
        own.stage(point, Target("live", paths=("plain",)))
    folder = Path("/var/tmp/rds-hand")
    run("rm", "-rf", str(folder))
    run("cp", "-r", str(tmp_path / "out"), str(folder))
    (folder / "redis.conf").unlink()
    other = Server(folder, 6393, [f"aclfile {folder}/users.acl"], aclfile=True, password=PASSWORD)
    other.start()
    try:
        wanted, content = server.content(), other.content()
        moved = ("0 b'counter'", "0 b'log'")
        assert {name: one for name, one in content.items() if name not in moved} == {
            name: one for name, one in wanted.items() if name not in moved
        }
    finally:
        other.stop()
        run("rm", "-rf", str(folder))
    assert leftovers(host) == []


def test_the_program_backs_up_drills_restores_and_undoes(clean: None, server: Server) -> None:
    with scratch_root("/var/tmp/rdc") as root:
        system = System(root / "host")
        system.configure(
            stores=[{"name": "plain", "type": "dated", "location": str(root / "store")}],
            plans=[{"name": "daily"}],
            components={"redis": [{"name": "cache", "port": server.port, "password": PASSWORD}]},
        )
        system.run("run", "daily")
        [proven] = system.run("drill", "--plan", "daily")["results"]
        assert (proven["verdict"], proven["problems"]) == ("proven", [])
        stored = {one.name for one in (root / "store").rglob("*") if one.is_file()}
        assert {"users.acl.zst.age", "redis.conf.zst.age", "server.json.zst.age"} <= stored
        good = server.content()
        server.cli("FLUSHALL")
        system.run("restore", "--yes")
        assert server.content() == good
        restored = system.run("undo", "latest")["id"]
        assert "0 b'plain'" not in server.content()
        system.run("undo", restored, "--discard")
        assert system.leftovers() == []
        assert PASSWORD not in "".join(one.read_text() for one in (root / "host").rglob("*.jsonl"))
