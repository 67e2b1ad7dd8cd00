# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis and Valkey: every database with functions and users, of the moment at which a background save forks."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restaura.config.schema import Component, setting
from restaura.errors import ConfigError, RefusedError, RestauraError, SourceError
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint
from restaura.redis import capture, fingerprint, swap
from restaura.redis import server as servers
from restaura.redis.scratch import RDB, Needs, Scratch, new_directory, remove
from restaura.redis.server import OWNER, Server, session
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree

if TYPE_CHECKING:
    from restaura.host import Host

OLDEST = (7, 0)
# What belongs to a machine, or is changed by us while a restore lasts.
_MACHINES = (
    *("dir", "port", "bind", "pidfile", "logfile", "unixsocket", "aclfile", "io-threads", "server-cpulist", "locale"),
    *(
        "replicaof",
        "masterauth",
        "masteruser",
        "requirepass",
        "oom-score-adj-values",
        "supervised",
        "proc-title-template",
    ),
)
_TOLD = 10


@dataclass(frozen=True)
class RedisComponent(Component):
    """Settings of a `redis` component."""

    container: str = setting("Name of the container that the server runs in.", default="")
    host: str = setting(
        "Name or address of a server on another host. Empty: this host's own, at 127.0.0.1.", default=""
    )
    port: int = setting("Port of the server.", default=6379, minimum=1)
    socket: str = setting(
        "Unix socket of a server of this host, in place of host and port.", default="", pattern=r"(|/.+)"
    )
    user: str = setting("ACL user to log in as. Empty: `default`.", default="")
    password: str | None = setting("Password of that user.", default=None, secret=True)
    tls: bool = setting("Whether the server is reached over TLS.", default=False)
    tls_ca_file: str = setting("CA certificates (PEM) that the server's must be signed by.", default="")
    tls_cert_file: str = setting("Certificate (PEM) to show to the server.", default="")
    tls_key_file: str = setting("Key (PEM) of that certificate.", default="")
    save_timeout: int = setting("Seconds that a background save may take.", default=3600, minimum=1)
    terminate_clients: bool = setting(
        "Whether a restore to `live` may end the connections of clients, which then connect again.", default=False
    )


class Redis:
    """One Redis server: a service of this host, in a container, or over the network."""

    def __init__(self, options: RedisComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._scratch: Scratch | None = None
        self._rdb: Path | None = None

    # Capture

    def probe(self) -> Probe:
        """Ask the server what it is, whether it can be frozen, and whether its files can be read."""
        server = self._server()
        try:
            with session(server) as client:
                return self._examine(server, client)
        except RestauraError as error:
            return Probe(problems=[(error.what, error.fix)])

    def _examine(self, server: Server, client: Any) -> Probe:
        told = client.info()
        problems: list[tuple[str, str]] = []
        warnings: list[str] = []
        mode, version = told.get("redis_mode", "standalone"), str(told["redis_version"])
        if mode != "standalone":
            what = "a cluster" if mode == "cluster" else "a Sentinel, which holds no data"
            return Probe(problems=[(f"the server is {what}", "name a single server: others are not supported")])
        if tuple(int(one) for one in version.split(".")[:2]) < OLDEST:
            problems.append((f"the server is version {version}", "version 7.0 is the oldest supported"))
        if told["role"] == "slave":
            master = f"{told['master_host']}:{told['master_port']}"
            if told["master_link_status"] == "up":
                warnings.append(f"it is a replica of {master}: what that has not sent yet is not in the copy")
            else:
                problems.append((f"it is a replica of {master}, and has lost it", "mend the link, or name the master"))
        if not problems:
            client.execute_command("ACL", "LIST")
            servers.modules_of(client.execute_command("MODULE", "LIST"))
            config = servers.config_of(client.config_get("*"))
            files = servers.files_of(server, told)
            if files is None:
                if told["aof_enabled"]:
                    warnings.append("over the network the append-only file is not copied; dump.rdb holds everything")
                if not shutil.which("redis-cli"):
                    problems.append(("redis-cli is not on this host", "apt-get install redis-tools"))
            elif told["rdb_last_bgsave_status"] != "ok":
                fix = f"free space on the disk of {config['dir']}, look at its log, then: redis-cli BGSAVE"
                problems.append(("its last background save failed", fix))
        versions = {"server": f"{told['valkey_version']} (Valkey)" if "valkey_version" in told else version}
        return Probe(versions, int(told["used_memory"]), "snapshot", problems, warnings)

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Wait until the server saves and rewrites nothing: the freeze has to be short."""
        server = self._server()
        with session(server) as client:
            servers.await_idle(client, server, self._options.save_timeout)
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[capture.FrozenServer]:  # noqa: ARG002
        """Have the server fork: from then on it may change, and the copy does not."""
        with self._host.spool("redis") as spool:
            frozen = capture.FrozenServer(
                self._host, self._server(), depth, spool, self._place, self._options.save_timeout
            )
            try:
                frozen.freeze()
                yield frozen
            finally:
                frozen.close()

    @contextlib.contextmanager
    def _place(self) -> Iterator[Path]:
        """Yield a directory for a throw-away server, journaled."""
        directory, server = new_directory(self._parent()), self._server()
        debt = self._host.journal.write(OWNER, "scratch", {"server": server.to_json(), "directory": str(directory)})
        try:
            yield directory
        finally:
            remove(server, directory)
            self._host.journal.settle(debt)

    def _parent(self) -> Path:
        return self._host.paths.var.with_name("restaura-drill")

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make room for a throw-away server; `stage` starts it with what the point holds."""
        with self._place() as directory, self._host.spool("redis") as folder:
            self._scratch = Scratch(self._server(), directory)
            self._rdb = folder / RDB
            try:
                yield Target("scratch", str(directory))
            finally:
                self._scratch.stop()
                self._scratch = self._rdb = None

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Write the artifacts beside the live data, or into a directory; for a drill, load them into a server."""
        if target.kind not in ("live", "dir", "scratch") or target.paths:
            raise ConfigError("Redis is restored as a whole", fix="--to live or --to dir:/PATH, without --path")
        where = f"point {point.point_id}, component {self._options.name}"
        if target.kind == "dir":
            return self._to_directory(point, target)
        described = _description(point)
        if target.kind == "scratch":
            if self._scratch is None or self._rdb is None:
                raise SourceError("there is no throw-away server", where=where)
            _write(point, RDB, self._rdb)
            self._scratch.start(self._rdb, capture.needs(described))
            return Staged(target, {"directory": str(self._rdb.parent), **_kept(point, described)})
        self._refuse(described)
        directory = self._host.paths.kept / f"redis-{os.urandom(6).hex()}"
        record = {
            "server": self._server().to_json(),
            "directory": str(directory),
            "scratch": str(new_directory(self._parent())),
            "terminate": self._options.terminate_clients,
            "needs": asdict(capture.needs(described)),
            "users": _users(point),
        }
        size = point.component.artifact(RDB).bytes
        debt = self._host.journal.write(OWNER, "stage", record)
        try:
            private_dir(directory)
            self._host.need_space(directory, 2 * size, where)
            _write(point, RDB, directory / RDB)
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise
        data = {"directory": str(directory), "record": record, "debt": debt.id, **_kept(point, described)}
        return Staged(target, data, self._notes(point, described))

    def _to_directory(self, point: PointReader, target: Target) -> Staged:
        """Write the artifacts as files; they are only readable by root."""
        folder = Path(target.value)
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError("the directory is not empty", where=str(folder), fix="give another: --to dir:PATH")
        private_dir(folder)
        for name in point.names():
            _write(point, name, folder / name)
        return Staged(target, {"directory": str(folder), **_kept(point, _description(point))})

    def _refuse(self, described: dict[str, Any]) -> None:
        """Raise RefusedError when the live server cannot hold what the point has."""
        server = self._server()
        swap.address_for(server)
        with session(server) as client:
            told = client.info()
            if told.get("redis_mode", "standalone") != "standalone":
                raise RefusedError("it is a cluster or a Sentinel", where=server.where, fix="name a single server")
            if told["role"] != "master":
                what = f"it is a replica of {told['master_host']}:{told['master_port']}"
                raise RefusedError(what, where=server.where, fix="restore its master instead")
            if swap.watched(client):
                what = "a Sentinel watches it, and would make another server the master meanwhile"
                raise RefusedError(what, where=server.where, fix="SENTINEL REMOVE it, restore, and SENTINEL MONITOR it")
            if wrong := swap.forbidden(client, server.user):
                fix = f"ACL SETUSER {server.user or 'default'} allkeys allchannels +@all, and no rename-command for it"
                raise RefusedError(f"does not let itself be restored to: {wrong}", where=server.where, fix=fix)
            config = servers.config_of(client.config_get("*"))
            there = {one["name"] for one in servers.modules_of(client.execute_command("MODULE", "LIST"))}
        if missing := sorted({one["name"] for one in described["modules"]} - there):
            what = f"it lacks the modules {', '.join(missing)}, which the point was taken with"
            raise RefusedError(what, where=server.where, fix="loadmodule of redis.conf")
        highest = max((int(name[2:]) for name in described["keyspace"]), default=0)
        if highest >= int(config.get("databases", 16)):
            what = f"the point has keys in database {highest}; the server has {config['databases']} databases"
            raise RefusedError(what, where=server.where, fix=f"databases {highest + 1} in redis.conf, and restart it")
        limit, policy = int(config.get("maxmemory", 0)), config.get("maxmemory-policy", "")
        # What it holds now has to have room too, should the restore be undone.
        for whose, memory in (("the point's data", int(described["memory"])), ("what it holds", swap.memory_of(told))):
            if wanted := swap.limit_for(memory, config):
                what = f"its maxmemory is {limit} bytes; {whose} would be evicted ({policy})"
                fix = f"redis-cli CONFIG SET maxmemory {wanted}; after the restore set {limit} again, if it may evict"
                raise RefusedError(what, where=server.where, fix=fix)
        if 0 < limit < int(described["memory"]):
            what = (
                f"its maxmemory is {limit} bytes, the point's data took {described['memory']}: it would take no write"
            )
            raise RefusedError(what, where=server.where, fix="redis-cli CONFIG SET maxmemory 0, or a larger limit")

    def _notes(self, point: PointReader, described: dict[str, Any]) -> list[str]:
        """Say what is not put on by a restore: settings, and the user that we log in as."""
        server = self._server()
        with session(server) as client:
            here = servers.config_of(client.config_get("*"))
            users = servers.lines_of(client.execute_command("ACL", "LIST"))
        notes = [
            f"setting {name} was {described['config'][name]!r}, and is {here[name]!r} here: it was left so"
            for name in sorted(described["config"].keys() & here.keys() - set(_MACHINES))
            if described["config"][name] != here[name] and not _secret(name)
        ]
        if len(notes) > _TOLD:
            notes = [*notes[:_TOLD], f"and {len(notes) - _TOLD} more settings differ: --to dir:PATH gives redis.conf"]
        own = f"user {server.user or 'default'} "
        mine = [[one for one in lines if one.startswith(own)] for lines in (_users(point), users)]
        if mine[0] != mine[1]:
            notes.append(f"{own}has other rules or another password here; it was left so, since it does the restore")
        if len(_users(point)) > 1 and not here.get("aclfile"):
            notes.append(
                "the server has no aclfile: to keep the restored users over a restart: redis-cli CONFIG REWRITE"
            )
        return notes

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged, in a throw-away server that loads it."""
        if self._scratch is not None and self._rdb is not None and staged.target.kind == "scratch":
            found = self._fingerprint(self._scratch, staged, depth)
            if self._scratch.spent:
                # A drill's checks look at it.
                self._scratch.stop()
                self._scratch.start(self._rdb, Needs(**staged.data["needs"]))
            return found
        with self._place() as directory:
            server = Scratch(self._server(), directory)
            try:
                needs = Needs(**staged.data["needs"])
                server.start(Path(staged.data["directory"]) / RDB, needs)
                return self._fingerprint(server, staged, depth)
            finally:
                server.stop()

    @staticmethod
    def _fingerprint(server: Scratch, staged: Staged, depth: Depth) -> Fingerprint:
        users, salt = staged.data["users"], bytes.fromhex(staged.data["salt"])
        if depth == "content":
            return capture.content(server, users, salt)
        with server.session() as client:
            counts = fingerprint.counts(servers.keyspace_of(client.info("keyspace")))
        return Fingerprint(fingerprint.ALGORITHM, depth, fingerprint.users(users, salt), counts)

    def busy(self, staged: Staged) -> list[str]:
        """Name the clients of the live server; none where the component says that they may be ended."""
        if staged.target.kind != "live" or self._options.terminate_clients:
            return []
        with session(self._server()) as client:
            return swap.clients(client)

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the record of the swap."""
        record: dict[str, Any] = staged.data.get("record", {})
        return record

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return redis-cli's command line in RESTAURA_REDIS_CLI; a password stands in REDISCLI_AUTH."""
        if staged is None or staged.target.kind == "live":
            server = self._server()
        elif self._scratch is not None:
            server = self._scratch.server
        else:
            return {"RESTAURA_TARGET": staged.data["directory"]}
        words, env = server.command_line()
        return {"RESTAURA_TARGET": server.socket or f"{server.address}:{server.port}", **env} | {
            "RESTAURA_REDIS_CLI": " ".join(words)
        }

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Have the live server copy what was restored, after its own data was kept."""
        swap.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Have it copy back what it held before; what was restored is kept."""
        swap.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the kept copies."""
        swap.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Put back settings, and remove throw-away servers and what was staged."""
        if act == "settings":
            servers.set_back(Server.from_json(data["server"]), data["settings"])
        elif act == "scratch":
            remove(Server.from_json(data["server"]), Path(data["directory"]))
        elif act == "stage":
            swap.take_back(data)
        else:
            raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)

    def _server(self) -> Server:
        options = self._options
        password = self._host.secret("components", options.name, "password")
        return Server(
            options.name,
            container=options.container,
            host=options.host,
            port=options.port,
            socket=options.socket,
            user=options.user,
            passfile=str(password or ""),
            tls=options.tls,
            tls_ca_file=options.tls_ca_file,
            tls_cert_file=options.tls_cert_file,
            tls_key_file=options.tls_key_file,
        )


def _secret(name: str) -> bool:
    return any(word in name for word in ("pass", "auth", "secret", "user"))


def _description(point: PointReader) -> dict[str, Any]:
    with point.open(capture.DESCRIPTION) as stream:
        described: dict[str, Any] = json.loads(stream.read())
    return described


def _users(point: PointReader) -> list[str]:
    with point.open(capture.USERS) as stream:
        return stream.read().decode(errors="surrogateescape").splitlines()


def _kept(point: PointReader, described: dict[str, Any]) -> dict[str, Any]:
    """Return what a fingerprint of staged data needs."""
    return {"needs": asdict(capture.needs(described)), "users": _users(point), "salt": described["salt"]}


def _write(point: PointReader, name: str, to: Path) -> None:
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with point.open(name) as stream, to.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 18)


SOURCE = SourceKind(
    "redis", RedisComponent, Redis, packages=("redis-tools", "python3-redis", "python3-docker"), files=False
)
