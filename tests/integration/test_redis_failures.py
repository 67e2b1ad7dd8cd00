# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a Redis server, in its freeze, in a restore, and what is told of it; nothing is left behind."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from restaura.errors import RefusedError, RestauraError, SourceError
from restaura.host import Host
from restaura.redis.scratch import NoRoomError, Scratch
from restaura.sources import Staged, Target
from restaura.sources.redis import Redis
from tests.memory_point import MemoryPoint, take
from tests.redis_server import Server, leftovers, make_host, recover, run, scratch_root, source, taken, wait_until

# Debian 12's Docker client warns of itself.
pytestmark = [pytest.mark.debian12, pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with scratch_root("/var/tmp/rdf") as root:
        yield make_host(root)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path("/var/tmp/rdf-live")
    run("rm", "-rf", str(path))
    yield path
    run("rm", "-rf", str(path))


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """A server with a few keys and an append-only file; each test has its own."""
    run("rm", "-rf", str(folder))
    made = Server(folder, 6395, ["appendonly yes"], "Live-Pw-1")
    try:
        made.start()
        made.cli(stdin="SET a 1\nSET b 2\nRPUSH list 1 2 3\nSELECT 2\nSET c 3")
        made.cli("ACL", "SETUSER", "shop", "on", ">shop-Pw", "~*", "+get")
        yield made
    finally:
        made.stop(kill=True)


@pytest.fixture
def point(server: Server, host: Host) -> MemoryPoint:
    return taken(source(host, server))


def test_a_server_that_does_not_answer_or_refuses_the_login_says_so(server: Server, host: Host) -> None:
    for password, said in (("Wrong-Pw", "login is refused"), ("", "login is refused")):
        [(what, fix)] = source(host, server, password=password).probe().problems
        assert said in what
        assert "component cache" in fix
        assert "Wrong-Pw" not in what + fix
    server.cli("ACL", "SETUSER", "poor", "on", ">poor-Pw", "+info", "+client")
    [(what, fix)] = source(host, server, password="poor-Pw", user="poor").probe().problems
    assert "may not" in what
    assert fix.startswith("ACL SETUSER poor")
    [(what, fix)] = source(host, server, container="nowhere").probe().problems
    assert fix in ("docker ps --all", "systemctl start docker", "systemctl restart docker")
    server.stop()
    [(what, fix)] = source(host, server).probe().problems
    assert "does not answer" in what
    assert fix == "systemctl start redis-server"
    assert leftovers(host) == []


def test_a_user_with_what_the_documentation_lists_can_back_up(server: Server, host: Host) -> None:
    listed = (Path(__file__).parents[2] / "docs/sources/redis.md").read_text().split("ACL SETUSER restaura ", 1)[1]
    rules = [one for one in listed.split("\n")[0].split("`")[0].split(" ") if not one.startswith(">")]
    server.cli("ACL", "SETUSER", "restaura", ">backup-Pw", *rules)
    wanted = taken(source(host, server)).record.fingerprint
    found = taken(source(host, server, password="backup-Pw", user="restaura")).record.fingerprint
    assert wanted is not None
    assert found is not None
    assert [one for one in wanted.differences(found) if not one.startswith("user ")] == []


@pytest.mark.parametrize(("setting", "said"), [("cluster-enabled yes", "a cluster"), ("", "a Sentinel")])
def test_what_is_no_single_server_is_refused(setting: str, said: str, host: Host) -> None:
    path = Path("/var/tmp/rdf-other")
    run("rm", "-rf", str(path))
    other = Server(path, 6396, [setting], sentinel=not setting).start()
    try:
        [(what, _)] = source(host, other).probe().problems
        assert said in what
    finally:
        other.stop(kill=True)
        run("rm", "-rf", str(path))


def test_a_replica_is_backed_up_with_a_warning_and_not_restored(server: Server, host: Host, point: MemoryPoint) -> None:
    path = Path("/var/tmp/rdf-other")
    run("rm", "-rf", str(path))
    replica = Server(path, 6396, ["replicaof 127.0.0.1 6395", "masterauth Live-Pw-1"]).start()
    try:
        wait_until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
        own = source(host, replica)
        assert "replica of 127.0.0.1:6395" in own.probe().warnings[0]
        found = take(own).record.fingerprint
        assert found is not None
        assert point.record.fingerprint is not None
        assert [one for one in point.record.fingerprint.differences(found) if not one.startswith("user ")] == []
        with pytest.raises(RefusedError, match="is a replica of"):
            own.stage(point, Target("live"))
        server.stop()
        wait_until(lambda: "master_link_status:down" in replica.cli("INFO", "replication"))
        assert "has lost it" in own.probe().problems[0][0]
    finally:
        replica.stop(kill=True)
        run("rm", "-rf", str(path))
    assert leftovers(host) == []


def test_a_save_that_fails_or_never_ends_or_is_not_ours_is_no_copy(server: Server, host: Host, folder: Path) -> None:
    own = source(host, server, save_timeout=1)
    # Each key takes half a minute to save.
    server.cli("CONFIG", "SET", "rdb-key-save-delay", "30000000")
    with own.freeze("content") as frozen, pytest.raises(SourceError, match="did not end within 1 s"):
        list(frozen.artifacts())
    with pytest.raises(SourceError, match="did not end within 1 s"):
        own.prepare("content")
    server.kill_child()
    server.cli("CONFIG", "SET", "rdb-key-save-delay", "0")
    own = source(host, server)
    with own.freeze("content") as frozen:
        wait_until(lambda: "rdb_bgsave_in_progress:0" in server.cli("INFO", "persistence"))
        server.cli("SET", "later", "1")
        server.cli("BGSAVE")
        wait_until(lambda: "rdb_bgsave_in_progress:0" in server.cli("INFO", "persistence"))
        with pytest.raises(SourceError, match="another save took the place"):
            list(frozen.artifacts())
    with own.freeze("content") as frozen:
        wait_until(lambda: "rdb_bgsave_in_progress:0" in server.cli("INFO", "persistence"))
        server.cli("BGREWRITEAOF")
        wait_until(lambda: "aof_rewrite_in_progress:0" in server.cli("INFO", "persistence"))
        with pytest.raises(SourceError, match="rewritten during the copy"):
            list(frozen.artifacts())
    folder.chmod(0o500)
    run("chown", "root", str(folder))
    with own.freeze("content") as frozen, pytest.raises(SourceError, match="BGSAVE failed"):
        list(frozen.artifacts())
    assert "last background save failed" in own.probe().problems[0][0]
    assert server.cli("CONFIG", "GET", "auto-aof-rewrite-percentage").splitlines()[1] == "100"
    assert leftovers(host) == []


def test_a_server_that_dies_in_the_freeze_is_no_copy(server: Server, host: Host) -> None:
    own = source(host, server)
    server.cli("CONFIG", "SET", "rdb-key-save-delay", "30000000")
    with own.freeze("content") as frozen:
        server.stop(kill=True)
        with pytest.raises(SourceError, match="does not answer"):
            list(frozen.artifacts())
    # The setting could not be put back, and is owed; the server comes back with its own.
    assert len(host.journal.open_debts()) == 1
    server.start()
    recover(host)
    with own.freeze("content") as frozen:
        server.stop(kill=True)
        server.start()
        with pytest.raises(SourceError, match="was started again"):
            list(frozen.artifacts())
    recover(host)
    assert leftovers(host) == []


def test_settings_come_back_after_a_kill_in_the_freeze(server: Server, host: Host) -> None:
    killed(host, server, "with own.freeze('content'): os.kill(os.getpid(), 9)")
    assert server.cli("CONFIG", "GET", "auto-aof-rewrite-percentage").splitlines()[1] == "0"
    killed(host, server, "with own.scratch() as target: os.kill(os.getpid(), 9)")
    recover(host)
    assert server.cli("CONFIG", "GET", "auto-aof-rewrite-percentage").splitlines()[1] == "100"
    assert leftovers(host) == []


def test_without_memory_for_a_second_server_only_counts_are_taken_and_told(
    server: Server, host: Host, point: MemoryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: Scratch, size: int) -> None:
        raise NoRoomError("a second server needs more memory")

    with monkeypatch.context() as changed:
        changed.setattr(Scratch, "_need_memory", none)
        poor = take(source(host, server))
        assert poor.record.fingerprint is not None
        assert poor.record.fingerprint.depth == "catalog"
        assert "proves no content" in poor.record.notes[0]
        assert leftovers(host) == []
        own = source(host, server)
        found = own.stage(poor, Target("live"))
        with pytest.raises(NoRoomError):
            own.fingerprint(found, "content")
    recover(host)
    own = source(host, server)
    found = own.stage(poor, Target("live"))
    assert poor.record.fingerprint.differences(own.fingerprint(found, "catalog")) == []
    recover(host)
    wanting = described(point, memory=10**15)
    with pytest.raises(NoRoomError, match="are available on this host"):
        own.fingerprint(own.stage(wanting, Target("live")), "content")
    recover(host)
    assert leftovers(host) == []


def described(point: MemoryPoint, **changed: object) -> MemoryPoint:
    """Return the point with another description."""
    told = {**json.loads(point.data["server.json"]), **changed}
    return MemoryPoint(point.record, {**point.data, "server.json": json.dumps(told).encode()}, point.secret)


def test_what_the_server_cannot_hold_is_refused_before_anything_is_done(
    server: Server, host: Host, point: MemoryPoint
) -> None:
    own, before = source(host, server), server.content()
    for wrong, said in (
        (described(point, modules=[{"name": "search", "ver": 2, "path": "", "args": []}]), "lacks the modules search"),
        (described(point, keyspace={"db20": [1, 0]}), "database 20"),
    ):
        with pytest.raises(RefusedError, match=said):
            own.stage(wrong, Target("live"))
    server.cli("CONFIG", "SET", "maxmemory", "1000")
    with pytest.raises(RefusedError, match="maxmemory is 1000"):
        own.stage(point, Target("live"))
    server.cli("CONFIG", "SET", "maxmemory", "0")
    rdb = point.data["dump.rdb"]
    newer = MemoryPoint(point.record, {**point.data, "dump.rdb": b"REDIS0999" + rdb[9:]}, set())
    with pytest.raises(RefusedError, match=r"newer version than this server reads.*999"):
        own.fingerprint(own.stage(newer, Target("live")), "content")
    recover(host)
    spoilt = bytearray(rdb)
    spoilt[-4] ^= 1
    corrupt = MemoryPoint(point.record, {**point.data, "dump.rdb": bytes(spoilt)}, set())
    with pytest.raises(SourceError, match="does not load the data"):
        own.fingerprint(own.stage(corrupt, Target("live")), "content")
    recover(host)
    with redis.Redis(port=server.port, password=server.password, client_name="sentinel-1a2b-cmd") as sentinel:
        sentinel.ping()
        with pytest.raises(RefusedError, match="Sentinel watches"):
            own.stage(point, Target("live"))
    assert server.content() == before
    server.stop()
    with pytest.raises(SourceError, match="does not answer"):
        own.stage(point, Target("live"))
    assert leftovers(host) == []


def fill(server: Server, keys: int) -> None:
    """Add hashes of 200 short fields, which take far more where `hash-max-listpack-entries` is less than that."""
    fields = " ".join(f"f{number} v" for number in range(200))
    server.cli(stdin="\n".join(f"HSET h{number} {fields}" for number in range(keys)))


def limited(server: Server, more: int) -> int:
    """Let the server have `more` bytes than it takes, and evict above that; return its limit."""
    with server.client() as client:
        limit = int(client.info("memory")["used_memory"]) + more
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", limit)
        client.config_resetstat()
    return limit


def evicted(server: Server) -> tuple[str, bool]:
    """Return the policy of eviction, and whether a key was evicted, by now and once a command made the server look."""
    server.cli("GET", "none")
    stats = dict(line.split(":", 1) for line in server.cli("INFO", "stats").splitlines() if ":" in line)
    return server.cli("CONFIG", "GET", "maxmemory-policy").splitlines()[1], int(stats["evicted_keys"]) > 0


def test_a_full_cache_is_restored_once_its_limit_is_raised(server: Server, host: Host) -> None:
    fill(server, 400)
    good, point = server.content(), taken(source(host, server))
    limit = limited(server, 100_000)
    own = source(host, server)
    with pytest.raises(RefusedError, match="what it holds would be evicted"):
        own.stage(described(point, memory=1), Target("live"))
    server.cli("FLUSHALL")
    with pytest.raises(RefusedError, match="the point's data would be evicted") as told:
        own.stage(point, Target("live"))
    raised = told.value.fix.split(";")[0].removeprefix("redis-cli ")
    assert f"set {limit} again" in told.value.fix
    server.cli(*raised.split())
    found = own.stage(point, Target("live"))
    Redis.swap(own.plan_swap(found))
    server.cli("PING")
    assert evicted(server) == ("allkeys-lru", False)
    assert server.content() == good
    Redis.discard(own.plan_swap(found))
    host.journal.settle(found.data["debt"])
    assert leftovers(host) == []


def test_what_needs_more_memory_than_it_took_is_undone_and_not_evicted(server: Server, host: Host) -> None:
    server.cli("CONFIG", "SET", "hash-max-listpack-entries", "512")
    fill(server, 1000)
    point = taken(source(host, server))
    server.cli("FLUSHALL")
    server.cli("SET", "newer", "1")
    server.cli("CONFIG", "SET", "hash-max-listpack-entries", "16")
    before = server.content()
    limited(server, json.loads(point.data["server.json"])["memory"] + 4_000_000)
    own = source(host, server)
    record = own.plan_swap(own.stage(point, Target("live")))
    with pytest.raises(SourceError, match="would evict what was restored"):
        Redis.swap(record)
    assert "role:slave" in server.cli("INFO", "replication"), "nobody can write to what is half restored"
    Redis.undo(record)
    assert evicted(server) == ("allkeys-lru", False)
    assert server.content() == before
    recover(host)
    assert leftovers(host) == []


def test_an_undo_without_room_evicts_nothing_and_says_so(server: Server, host: Host, point: MemoryPoint) -> None:
    server.cli(stdin="\n".join(f"SET big{number} {'v' * 100_000}" for number in range(40)))
    before = server.content()
    own = source(host, server)
    found = own.stage(point, Target("live"))
    record = own.plan_swap(found)
    limit = limited(server, 100_000)
    Redis.swap(record)
    for _ in range(2):
        with pytest.raises(SourceError, match="maxmemory-policy is noeviction now, not allkeys-lru") as told:
            Redis.undo(record)
        assert evicted(server) == ("noeviction", False)
        assert server.content() == before
    assert "role:master" in server.cli("INFO", "replication")
    raised = told.value.fix.split(",")[0].removeprefix("redis-cli ").split()
    assert int(raised[-1]) > limit
    server.cli(*raised)
    server.cli("SET", "acknowledged", "1")
    Redis.undo(record)
    Redis.undo(record)
    assert evicted(server) == ("allkeys-lru", False)
    server.cli("DEL", "acknowledged")
    assert server.content() == before
    Redis.discard(record)
    host.journal.settle(found.data["debt"])
    assert leftovers(host) == []


def test_clients_are_named_and_acknowledged_writes_are_kept(server: Server, host: Host, point: MemoryPoint) -> None:
    acknowledged, stop = [0], threading.Event()

    def write() -> None:
        """Write until writes are refused; connect again where the connection was ended."""
        with redis.Redis(port=server.port, password=server.password, client_name="worker") as client:
            while not stop.is_set():
                try:
                    acknowledged[0] = max(acknowledged[0], int(client.incr("orders")))
                except redis.exceptions.ReadOnlyError:
                    return
                except redis.RedisError:
                    continue

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: acknowledged[0] > 10)
    careful = source(host, server)
    found = careful.stage(point, Target("live"))
    assert any("(worker)" in one for one in careful.busy(found))
    with pytest.raises(RefusedError, match="in use"):
        Redis.swap(careful.plan_swap(found))
    assert writer.is_alive()
    recover(host)
    live = source(host, server, terminate_clients=True)
    found = live.stage(point, Target("live"))
    assert live.busy(found) == []
    record = live.plan_swap(found)
    Redis.swap(record)
    stop.set()
    writer.join()
    Redis.undo(record)
    assert int(server.cli("GET", "orders")) >= acknowledged[0] > 10
    Redis.discard(record)
    host.journal.settle(found.data["debt"])
    assert leftovers(host) == []


KILLED_IN_SWAP = ("_save:before", "_save:after", "_await_copy:before", "_await_copy:after", "_let_go:after", "end")


@pytest.mark.parametrize("at", KILLED_IN_SWAP)
def test_a_swap_that_was_killed_is_taken_back(at: str, server: Server, host: Host, point: MemoryPoint) -> None:
    server.cli("SET", "newer", "1")
    server.cli("ACL", "SETUSER", "shop", "+set")
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    before, settings = server.content(), server.cli("CONFIG", "GET", "*")
    found = source(host, server).stage(point, Target("live"))
    killed(host, server, f"kill_at({at!r}); Redis.swap({found.data['record']!r}); os.kill(os.getpid(), 9)")
    # Killed as the copy began, either may be there.
    assert (server.content() == before) == at.startswith("_save:") or at == "_await_copy:before"
    Redis.undo(found.data["record"])
    Redis.discard(found.data["record"])
    recover(host)
    assert server.content() == before
    assert server.cli("CONFIG", "GET", "*") == settings
    assert "role:master" in server.cli("INFO", "replication")
    assert leftovers(host) == []


@pytest.mark.parametrize("written", [False, True])
def test_what_a_server_took_that_was_started_again_in_a_swap_is_not_lost(
    written: bool, server: Server, host: Host, point: MemoryPoint
) -> None:
    server.cli("SET", "newer", "1")
    before = server.content()
    found = source(host, server).stage(point, Target("live"))
    record = found.data["record"]
    killed(host, server, f"kill_at('_replace:before'); Redis.swap({record!r})")
    server.stop()
    server.start()
    if not written:
        Redis.undo(record)
        assert server.content() == before
    else:
        server.cli("SET", "acknowledged", "1")
        before = server.content()
        # Also when it is tried again, as every hour.
        for _ in range(2):
            with pytest.raises(SourceError, match="what it holds is left"):
                Redis.undo(record)
            recover(host)
            assert server.content() == before
        assert "role:master" in server.cli("INFO", "replication")
        assert (Path(record["directory"]) / "before.rdb").exists()
    Redis.discard(record)
    recover(host)
    assert leftovers(host) == []


@pytest.mark.parametrize("at", ["_save:before", "_await_copy:before", "_let_go:after"])
def test_an_undo_that_was_killed_is_finished(at: str, server: Server, host: Host, point: MemoryPoint) -> None:
    server.cli("SET", "newer", "1")
    before, settings = server.content(), server.cli("CONFIG", "GET", "*")
    found = source(host, server).stage(point, Target("live"))
    Redis.swap(found.data["record"])
    killed(host, server, f"kill_at({at!r}); Redis.undo({found.data['record']!r})")
    Redis.undo(found.data["record"])
    assert server.content() == before
    assert server.cli("CONFIG", "GET", "*") == settings
    Redis.discard(found.data["record"])
    recover(host)
    assert leftovers(host) == []


KILLER = """
import os, sys
from tests.redis_server import make_host, source
from pathlib import Path
from restaura.redis import swap
from restaura.sources.redis import Redis
def kill_at(at):
    name, _, when = at.partition(":")
    if not when:
        return
    real = getattr(swap, name)
    def act(*arguments, **options):
        if when == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), 9)
    setattr(swap, name, act)
host = make_host(Path(sys.argv[1]))
own = source(host, None, sys.argv[3], port=int(sys.argv[2]))
"""


def killed(host: Host, server: Server, code: str) -> None:
    """Run code in a process that kills itself."""
    argv = [sys.executable, "-c", KILLER + code, str(host.paths.root), str(server.port), server.password]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=120)
    assert done.returncode == -9, done.stderr


def test_a_restore_that_fails_brings_the_old_data_back(
    server: Server, host: Host, point: MemoryPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cli("SET", "newer", "1")
    before = server.content()
    own = source(host, server)
    found: Staged = own.stage(point, Target("live"))
    record = own.plan_swap(found)
    # The rules of a user that this version does not know.
    wrong = {**record, "users": [*record["users"], "user odd on +@no-such-category"]}
    with pytest.raises(RestauraError, match="Unknown command or category"):
        Redis.swap(wrong)
    Redis.undo(wrong)
    recover(host)
    assert server.content() == before
    assert leftovers(host) == []


def test_a_server_that_cannot_be_made_a_replica_is_refused_before_it_is_held(
    server: Server, host: Host, point: MemoryPoint, folder: Path
) -> None:
    server.cli("ACL", "SETUSER", "half", "on", ">half-Pw", "~*", "&*", "+@all", "-replicaof")
    with pytest.raises(RefusedError, match="replicaof"):
        source(host, server, "half-Pw", user="half").stage(point, Target("live"))
    server.stop(kill=True)
    with (folder / "redis.conf").open("a") as file:
        file.write('rename-command REPLICAOF ""\n')
    server.start()
    with pytest.raises(RefusedError, match="REPLICAOF"):
        source(host, server).stage(point, Target("live"))
    assert leftovers(host) == []
