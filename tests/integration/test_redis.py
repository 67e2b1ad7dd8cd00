# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the redis source promises, on real servers: frozen, drilled, restored live, undone, and refused."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from restaura.errors import ConfigError, RefusedError, RestauraError, SourceError
from restaura.host import Host
from restaura.redis import scratch, swap
from restaura.sources import Staged, Target
from restaura.sources.redis import Redis
from tests.memory_point import MemoryPoint, take
from tests.redis_server import FUNCTION, LATER, Server, make_host, run, scratch_root, source, wait_until

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
    (folder / "users.acl").touch()
    made = Server(folder, 6391, ["appendonly yes", f"aclfile {folder}/users.acl"], PASSWORD)
    # With an aclfile, redis.conf may name no user: the password is set as a user's is.
    made.password = ""
    made.start()
    made.cli("ACL", "SETUSER", "default", f">{PASSWORD}")
    made.password = PASSWORD
    made.cli("ACL", "SAVE")
    made.seed()
    yield made
    made.stop()
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


def taken(own: Redis) -> MemoryPoint:
    assert own.probe().problems == []
    own.prepare("content")
    return take(own)


def staged(own: Redis, point: MemoryPoint) -> Staged:
    """Stage a point beside the live data, and compare it as a restore does."""
    found = own.stage(point, Target("live"))
    assert point.record.fingerprint is not None
    assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
    return found


def done(host: Host, found: Staged) -> None:
    """Settle what a restore settles once all was swapped."""
    host.journal.settle(found.data["debt"])


def leftovers(host: Host) -> list[str]:
    there = [*host.paths.spool.glob("*"), *host.paths.kept.glob("*"), *host.paths.var.parent.glob("restaura-drill")]
    return [str(one) for one in (*there, *host.journal.open_debts())]


def test_a_point_holds_what_a_person_expects(server: Server, host: Host, point: MemoryPoint) -> None:
    names = set(point.data)
    assert {"dump.rdb", "redis.conf", "users.acl", "server.json", "appendonlydir/appendonly.aof.manifest"} <= names
    assert point.secret == {"redis.conf", "users.acl", "server.json"}
    assert b"shop" in point.data["users.acl"]
    assert PASSWORD.encode() not in b"".join(point.data[one] for one in names - point.secret)
    assert PASSWORD not in json.dumps([point.record.fingerprint.parts, point.record.notes])
    assert server.cli("CONFIG", "GET", "auto-aof-rewrite-percentage").splitlines()[1] == "100"
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
