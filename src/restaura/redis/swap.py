# SPDX-License-Identifier: GPL-3.0-or-later
"""The swap of a restored RDB: the live server copies it from a second one, as a replica does, after its own was kept.

Everything lies in one directory: `dump.rdb` is what is restored, `before.rdb` what was live, `after.rdb` what was live
when it was undone, `state.json` how far it came. A server that is a replica of nobody refuses writes and keeps its
data: so nothing that was acknowledged is missing from what is kept. One that has to send its data pauses writes for it.
"""

import contextlib
import json
import secrets
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restaura.errors import RefusedError, SourceError
from restaura.paths import sync_dir, write_atomic
from restaura.redis import scratch as scratches
from restaura.redis import server as servers
from restaura.redis.capture import check_whole, content
from restaura.redis.scratch import RDB, Needs, Scratch
from restaura.redis.server import Server, session

BEFORE, AFTER, FOUND, STATE = "before.rdb", "after.rdb", "found.rdb", "state.json"
USERS_BEFORE = "users.before"
NO_EVICTION = "noeviction"
SAVE_SECONDS = 3600
SYNC_SECONDS = 3600
CONNECT_SECONDS = 60
FREE_SECONDS = 60
# Connections that come back after a restore: query and output buffers, some 20 KiB each.
CLIENTS_BYTES = 1 << 20
_MIB = 1 << 20
# A master that never answers: nothing listens on tcpmux's port.
NOBODY = ("127.0.0.1", "1")
# What a replica must not do while it is one: let clients write, drop its data before it has the new, ask for TLS.
# And nothing is evicted before the data are known to fit: a replica keeps what is too much for it, a master does not.
_HOLDING = {
    "replica-read-only": "yes",
    "replica-serve-stale-data": "yes",
    "repl-diskless-load": "disabled",
    "maxmemory-policy": NO_EVICTION,
}
_OURS = (*_HOLDING, "masterauth", "masteruser", "tls-replication")
_PORTS = range(20_000, 32_000)
_NEEDED = (
    ("REPLICAOF", "NO", "ONE"),
    ("CONFIG", "SET", "replica-read-only", "yes"),
    ("CLIENT", "PAUSE", "1", "WRITE"),
    ("CLIENT", "UNPAUSE"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("ACL", "SETUSER", "nobody"),
)


def swap(record: Mapping[str, Any]) -> None:
    """Make the live server hold what was restored. Idempotent; what was live is kept before anything is replaced."""
    folder, phase = Path(record["directory"]), _phase(record)
    if phase in ("", "holding"):
        _hold(record, "holding")
        _save(record, folder / BEFORE)
        _note(record, "replacing")
    if phase != "live":
        _replace(record, folder / RDB, Needs(**record["needs"]))
        _refuse_full(record)
        _let_go(record)
        _apply_users(record, record["users"])
        _note(record, "live")


def undo(record: Mapping[str, Any]) -> None:
    """Make the live server hold what it held before. Idempotent, also over a swap that was cut off anywhere.

    SourceError when it was written to since that: then what it holds is left. Also when what it held is back and would
    be evicted: then its `maxmemory-policy` is left at `noeviction` until there is room, or somebody sets another.
    """
    folder, phase = Path(record["directory"]), _phase(record)
    if phase in ("", "undone"):
        return
    if phase == "full":
        _evict_again(record)
        _note(record, "undone")
        return
    if phase == "left":
        raise _left(record)
    if phase == "holding":
        # Nothing was replaced yet.
        _let_go(record)
    else:
        if phase in ("live", "undo holding"):
            _hold(record, "undo holding")
            _save(record, folder / AFTER)
            _note(record, "undo replacing")
        else:
            _hold(record, phase)
            _refuse_written(record, (folder / BEFORE, folder / (RDB if phase == "replacing" else AFTER)))
        _replace(record, folder / BEFORE, Needs(**{**record["needs"], "memory": 0}))
        full = _wanted_limit(record) > 0
        _let_go(record, evicting=not full)
        _apply_users(record, json.loads((folder / USERS_BEFORE).read_text()), gone=record["users"])
        if full:
            _note(record, "full")
            _evict_again(record)
    _note(record, "undone")


def discard(record: Mapping[str, Any]) -> None:
    """Delete the kept copies: what is live is in the server. Idempotent."""
    _clear(record)
    shutil.rmtree(record["directory"], ignore_errors=True)


def take_back(data: Mapping[str, Any]) -> None:
    """Delete what was staged, unless a swap has begun with it, whose own record says what to do."""
    if _phase(data) in ("", "undone"):
        _clear(data)
        shutil.rmtree(data["directory"], ignore_errors=True)


def clients(client: Any) -> list[str]:
    """Name the clients of a server but for ourselves, its replicas and its master."""
    others = [one for one in client.client_list() if not set(one["flags"]) & set("SM") and one["name"] != "restaura"]
    return [f"client {one['addr']}" + (f" ({one['name']})" if one["name"] else "") for one in others]


def watched(client: Any) -> bool:
    """Whether a Sentinel watches the server: it would make another one the master."""
    return any(str(one.get("name", "")).startswith("sentinel-") for one in client.client_list())


def forbidden(client: Any, user: str) -> str:
    """Return which command of a swap the server refuses to us, or has not got (`rename-command`); empty for none.

    Who learns it half way can neither go on nor go back.
    """
    from redis.exceptions import ResponseError

    for words in _NEEDED:
        try:
            said = servers.text_of(client.execute_command("ACL", "DRYRUN", user or "default", *words))
        except ResponseError as error:
            return str(error)
        if said != "OK":
            return said
    return ""


def _phase(record: Mapping[str, Any]) -> str:
    with contextlib.suppress(FileNotFoundError):
        return str(json.loads((Path(record["directory"]) / STATE).read_text())["phase"])
    return ""


def _state(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(record["directory"]) / STATE).read_text())
    return found


def _settings(record: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = _state(record)["settings"]
    return found


def _note(record: Mapping[str, Any], phase: str) -> None:
    _write_state(record, {**_state(record), "phase": phase})


def _write_state(record: Mapping[str, Any], state: dict[str, Any]) -> None:
    """Record durably how far it came; the settings may hold a password, so that root alone reads them."""
    write_atomic(Path(record["directory"]) / STATE, json.dumps(state).encode())


def _hold(record: Mapping[str, Any], phase: str) -> None:
    """Make the live server refuse writes, what was set on it written down first, and end its clients if they may be."""
    live, folder = Server.from_json(record["server"]), Path(record["directory"])
    again = _phase(record) == phase
    with session(live) as client:
        role = client.info("replication")
        if role["role"] != "master" and not again:
            what = f"it is a replica of {role['master_host']}:{role['master_port']}"
            raise RefusedError(what, where=live.where, fix="restore its master instead")
        if (held := clients(client)) and not record["terminate"] and not again:
            what = f"the live data is in use: {'; '.join(held[:5])}"
            raise RefusedError(what, where=live.where, fix="stop what uses it, or set terminate_clients")
        if not again:
            there = servers.config_of(client.config_get("*"))
            if phase == "holding":
                users = servers.lines_of(client.execute_command("ACL", "LIST"))
                write_atomic(folder / USERS_BEFORE, json.dumps(users).encode())
            settings = {name: there[name] for name in _OURS if name in there}
            run_id = client.info("server")["run_id"]
            _write_state(record, {"phase": phase, "settings": settings, "run_id": run_id})
        for name, value in _HOLDING.items():
            client.config_set(name, value)
        if servers.files_of(live, client.info("server")) is None:
            # A replica of nobody sends its data to nobody.
            client.execute_command("CLIENT", "PAUSE", 1000 * SAVE_SECONDS, "WRITE")
        else:
            client.execute_command("REPLICAOF", *NOBODY)
        if record["terminate"]:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def _refuse_written(record: Mapping[str, Any], known: Sequence[Path]) -> None:
    """Raise SourceError, and let it go, when the held server holds none of the `known` RDB files.

    One that was started again takes writes: it does not know that it was a replica.
    """
    with session(Server.from_json(record["server"])) as client:
        if client.info("server")["run_id"] == _state(record).get("run_id"):
            return
    found = Path(record["directory"]) / FOUND
    try:
        _save(record, found)
        if _content(record, found) not in [_content(record, one) for one in known]:
            _note(record, "left")
            raise _left(record)
    except BaseException:
        _let_go(record)
        raise
    finally:
        found.unlink(missing_ok=True)


def _content(record: Mapping[str, Any], rdb: Path) -> dict[str, str]:
    """Return the fingerprint of an RDB file, by a second server that loads it."""
    _clear(record)
    second = Scratch(Server.from_json(record["server"]), Path(record["scratch"]))
    try:
        second.start(rdb, Needs(**{**record["needs"], "memory": 0}))
        return content(second, [], b"").parts
    finally:
        second.stop()


def _left(record: Mapping[str, Any]) -> SourceError:
    return SourceError(
        "was started again and written to since the restore was cut off: what it holds is left",
        where=Server.from_json(record["server"]).where,
        fix=f"what was live before is in {Path(record['directory']) / BEFORE}; docs/sources/redis.md, By hand",
    )


def limit_for(memory: int, config: Mapping[str, str]) -> int:
    """Return which `maxmemory` a server needs to evict nothing of `memory` bytes of data; 0 where its own suffices.

    Beside the data there will be clients, and the backlog for replicas, which every copy begins and later writes fill
    (redis: evict.c, freeMemoryGetNotCountedMemory).
    """
    limit = int(config.get("maxmemory", 0))
    wanted = memory + int(config.get("repl-backlog-size", 0)) + CLIENTS_BYTES
    evicts = config.get("maxmemory-policy", NO_EVICTION) != NO_EVICTION
    # In whole MiB, and one to spare: the next look finds a little more.
    return (wanted // _MIB + 2) * _MIB if evicts and 0 < limit < wanted else 0


def memory_of(told: Mapping[str, Any]) -> int:
    """Return how many bytes of a server's data count towards `maxmemory` (INFO memory), without its backlog."""
    beside = ("mem_not_counted_for_evict", "mem_replication_backlog")
    return int(told["used_memory"]) - sum(int(told.get(name, 0)) for name in beside)


def _wanted_limit(record: Mapping[str, Any]) -> int:
    """Return which `maxmemory` the live server needs for what it holds now, under the policy that it had."""
    deadline = time.monotonic() + FREE_SECONDS
    with session(Server.from_json(record["server"])) as client:
        while True:
            config = servers.config_of(client.config_get("*")) | _settings(record)
            told = client.info("memory")
            wanted = limit_for(memory_of(told), config)
            # What it held before may be freed in the background (replica-lazy-flush).
            if not wanted or not int(told.get("lazyfree_pending_objects", 0)) or time.monotonic() > deadline:
                return wanted
            time.sleep(servers.POLL_SECONDS)


def _refuse_full(record: Mapping[str, Any]) -> None:
    """Raise SourceError when the live server would evict what was restored, which it keeps while it is a replica."""
    if wanted := _wanted_limit(record):
        policy = _settings(record)["maxmemory-policy"]
        raise SourceError(
            f"would evict what was restored ({policy}): here that needs a maxmemory of {wanted} bytes",
            where=Server.from_json(record["server"]).where,
            fix=f"redis-cli CONFIG SET maxmemory {wanted}, and restore again",
        )


def _evict_again(record: Mapping[str, Any]) -> None:
    """Put the policy of eviction back, unless somebody set one; SourceError when data would be evicted."""
    live, policy = Server.from_json(record["server"]), _settings(record)["maxmemory-policy"]
    with session(live) as client:
        if servers.config_of(client.config_get("maxmemory-policy"))["maxmemory-policy"] != NO_EVICTION:
            return
        if wanted := _wanted_limit(record):
            raise SourceError(
                "holds what it held before, and would evict some of it: "
                f"its maxmemory-policy is {NO_EVICTION} now, not {policy}, so that it may refuse writes",
                where=live.where,
                fix=f"redis-cli CONFIG SET maxmemory {wanted}, or CONFIG SET maxmemory-policy {policy} to let it "
                "evict; then: restaura recover",
            )
        client.config_set("maxmemory-policy", policy)


def _let_go(record: Mapping[str, Any], *, evicting: bool = True) -> None:
    """Make the live server a master again, with the settings that it had; wait until its append-only file is whole.

    Without `evicting` its `maxmemory-policy` stays `noeviction`.
    """
    live = Server.from_json(record["server"])
    with session(live) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.execute_command("CLIENT", "UNPAUSE")
        for name, value in _settings(record).items():
            if evicting or name != "maxmemory-policy":
                client.config_set(name, value)
        servers.await_idle(client, live, SAVE_SECONDS)
        told = client.info("persistence")
        if told["aof_enabled"] and (told["aof_last_bgrewrite_status"], told["aof_last_write_status"]) != ("ok", "ok"):
            fix = "free space on its disk, then: redis-cli BGREWRITEAOF"
            raise SourceError("could not write its append-only file", where=live.where, fix=fix)


def _save(record: Mapping[str, Any], to: Path) -> None:
    """Keep what the live server holds now; it takes no writes, so the moment does not matter."""
    live = Server.from_json(record["server"])
    part = to.with_suffix(".part")
    with session(live) as client:
        servers.await_idle(client, live, SAVE_SECONDS)
        told = client.info()
        files = servers.files_of(live, told)
        if files is not None:
            client.execute_command("BGSAVE")
            servers.await_idle(client, live, SAVE_SECONDS)
            if client.info("persistence")["rdb_last_bgsave_status"] != "ok":
                fix = "free space on the disk of its `dir`, look at its log, then: redis-cli BGSAVE"
                raise SourceError("its data could not be saved, so it is not replaced", where=live.where, fix=fix)
            config = servers.config_of(client.config_get("*"))
            part.unlink(missing_ok=True)
            servers.append(live, files, f"{config['dir'].rstrip('/')}/{config['dbfilename']}", part)
        else:
            with contextlib.closing(servers.start_transfer(live, part)) as running:
                servers.end_transfer(live, running, SAVE_SECONDS)
    check_whole(part, live.where)
    part.replace(to)
    sync_dir(to.parent)


def _replace(record: Mapping[str, Any], rdb: Path, needs: Needs) -> None:
    """Have the live server copy `rdb` from a second server, which is there for no longer than that."""
    live = Server.from_json(record["server"])
    _clear(record)
    password = secrets.token_hex(32)
    second = Scratch(live, Path(record["scratch"]))
    address = address_for(live)
    try:
        port = _start(second, rdb, needs, address, password)
        with session(live) as client, second.session(password) as other:
            if _version(client.info("server")) < _version(other.info("server")):
                what = "the program on the disk is newer than the server that runs"
                raise SourceError(what, where=live.where, fix="restart it, and restore then")
            for name, value in (("masteruser", ""), ("masterauth", password)):
                client.config_set(name, value)
            if "tls-replication" in _settings(record):
                client.config_set("tls-replication", "no")
            client.execute_command("REPLICAOF", address, port)
            client.execute_command("CLIENT", "UNPAUSE")
            _await_copy(client, live, f"{address}:{port}")
            there = servers.keyspace_of(other.info("keyspace"))
            here = servers.keyspace_of(client.info("keyspace"))
            if {name: one[0] - one[1] for name, one in there.items()} != {
                name: one[0] - one[1] for name, one in here.items()
            }:
                raise SourceError(f"holds {here}, not {there}", where=live.where, fix="restaura undo latest")
    finally:
        second.stop()


def _start(second: Scratch, rdb: Path, needs: Needs, address: str, password: str) -> int:
    """Start the second server on a port that is free; return the port."""
    for attempt in range(5):
        port = secrets.choice(_PORTS)
        try:
            second.start(rdb, needs, serves=(address, port, password))
            return port
        except SourceError as error:
            if "Address already in use" not in error.what or attempt == 4:
                raise
            second.stop()
    raise SourceError("found no free port", where=second.where)


def address_for(live: Server) -> str:
    """Return the address of this host at which the live server can reach us; RefusedError where that would be in clear.

    A container's second server shares its network.
    """
    if live.container or live.local:
        return "127.0.0.1"
    if live.tls:
        raise RefusedError(
            "its data would cross the network in the clear: a server over TLS is restored on its own host",
            where=live.where,
            fix="run restaura there, or: restaura restore --to dir:PATH",
        )
    with contextlib.closing(socket.create_connection((live.host, live.port), CONNECT_SECONDS)) as connection:
        return str(connection.getsockname()[0])


def _await_copy(client: Any, live: Server, master: str) -> None:
    begun = seen = time.monotonic()
    while True:
        told, now = client.info("replication"), time.monotonic()
        if told["master_link_status"] == "up" and not told["master_sync_in_progress"]:
            return
        seen = now if told["master_sync_in_progress"] else seen
        if now - seen > CONNECT_SECONDS or now - begun > SYNC_SECONDS:
            fix = "look at its log; a server on another host must reach this one: restore on that host instead"
            raise SourceError(f"did not copy the restored data from {master}", where=live.where, fix=fix)
        time.sleep(servers.POLL_SECONDS)


def _apply_users(record: Mapping[str, Any], wanted: Sequence[str], gone: Sequence[str] = ()) -> None:
    """Give the users of `wanted` (lines of ACL LIST) their rules, but for the one we are; delete those only in `gone`.

    Users that neither names stay as they are.
    """
    live = Server.from_json(record["server"])
    if not wanted and not gone:
        return
    own = live.user or "default"
    rules = {line.split(" ")[1]: line.split(" ")[2:] for line in wanted}
    with session(live) as client:
        listed = servers.lines_of(client.execute_command("ACL", "LIST"))
        there = {line.split(" ")[1]: line.split(" ")[2:] for line in listed}
        changed = [name for name, one in rules.items() if name != own and there.get(name) != one]
        for name in changed:
            client.execute_command("ACL", "SETUSER", name, "reset", *rules[name])
        dropped = {line.split(" ")[1] for line in gone} - rules.keys() - {own, "default"}
        for name in sorted(dropped & there.keys()):
            client.execute_command("ACL", "DELUSER", name)
        if (changed or dropped) and servers.config_of(client.config_get("aclfile")).get("aclfile"):
            client.execute_command("ACL", "SAVE")


def _version(told: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(one) for one in str(told["redis_version"]).split(".")[:2])


def _clear(record: Mapping[str, Any]) -> None:
    """Remove a second server that a dead process left."""
    scratches.remove(Server.from_json(record["server"]), Path(record["scratch"]))
