# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis (or Valkey) server: how it is reached, what it says of itself, and its settings while they are changed."""

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from restaura.errors import RestauraError, SourceError
from restaura.journal import Journal
from restaura.paths import read_secret
from restaura.runners import Runner, Running, reading
from restaura.runners.container import ContainerRunner, address_of
from restaura.runners.host import HostRunner

OWNER = "source:redis"
HERE = ("", "localhost", "127.0.0.1", "::1")
PROGRAMS = ("redis-server", "valkey-server", "keydb-server")
CONNECT_SECONDS = 10
OPEN_SECONDS = 60
POLL_SECONDS = 0.05
CHUNK = 1 << 18
_DATABASE = re.compile(r"db\d+")


@dataclass(frozen=True)
class Server:
    """How a server is reached; plain JSON values, and none of them secret, so that a journal can hold it.

    `passfile` is a file that holds the bare password.
    """

    component: str
    container: str = ""
    host: str = ""
    port: int = 6379
    socket: str = ""
    user: str = ""
    passfile: str = ""
    tls: bool = False
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the server as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Server":
        """Build a server from JSON values."""
        return cls(**data)

    @property
    def where(self) -> str:
        """The server's name in messages."""
        if self.container:
            return f"Redis in container {self.container}"
        return "Redis at " + (self.socket or f"{self.host or 'localhost'}:{self.port}")

    @property
    def local(self) -> bool:
        """Whether it is a service of this host, whose files this host has."""
        return not self.container and (bool(self.socket) or self.host in HERE)

    @property
    def address(self) -> str:
        """The name or address that it is reached at; SourceError for a container that has none."""
        if not self.container:
            return self.host or "127.0.0.1"
        try:
            return address_of(self.container)
        except RestauraError as error:
            raise SourceError(error.what, where=self.where, fix=error.fix) from error

    def password(self) -> str | None:
        """Return the password, or None where none was given."""
        return read_secret(self.passfile, self.where) if self.passfile else None

    def command_line(self) -> tuple[list[str], dict[str, str]]:
        """Return redis-cli's words and environment that reach the server; the password is in the latter."""
        words = ["redis-cli", *(["-s", self.socket] if self.socket else ["-h", self.address, "-p", str(self.port)])]
        words += ["--user", self.user] if self.user else []
        words += ["--tls"] if self.tls else []
        for option, path in (("cacert", self.tls_ca_file), ("cert", self.tls_cert_file), ("key", self.tls_key_file)):
            words += [f"--{option}", path] if self.tls and path else []
        password = self.password()
        return words, {"REDISCLI_AUTH": password} if password else {}


@contextlib.contextmanager
def session(server: Server, read_seconds: float = 60, password: str = "") -> Iterator[Any]:
    """Yield a client with one connection (a `redis.Redis` that gives bytes); SourceError says what failed, and the fix.

    Nothing is sent twice by itself: a second BGSAVE would be another moment.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {"username": server.user or None, "password": password or server.password()}
    if server.socket:
        options["unix_socket_path"] = server.socket
    else:
        options |= {"host": server.address, "port": server.port}
    if server.tls:
        options |= {"ssl": True, "ssl_ca_certs": server.tls_ca_file or None}
        options |= {"ssl_certfile": server.tls_cert_file or None, "ssl_keyfile": server.tls_key_file or None}
    client = redis.Redis(
        **options,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=read_seconds,
        retry=Retry(NoBackoff(), 0),
        client_name="restaura",
    )
    try:
        # One connection, so that what is sent together is carried out together.
        with client.client() as single:
            yield single
    except (redis.RedisError, OSError) as error:
        raise problem(server, error) from error
    finally:
        client.close()


def problem(server: Server, error: Exception) -> SourceError:
    """Return what to tell of an error of the client, with what to do about it."""
    import redis

    text = str(error)
    if isinstance(error, redis.exceptions.AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        fix = f"check user and password of component {server.component}"
        return SourceError(f"the login is refused: {text}", where=server.where, fix=fix)
    if isinstance(error, redis.exceptions.NoPermissionError) or text.startswith("NOPERM"):
        fix = f"ACL SETUSER {server.user or 'default'} allkeys +@all, or only what docs/sources/redis.md lists"
        return SourceError(f"the user may not do that: {text}", where=server.where, fix=fix)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return SourceError("it is still loading its data", where=server.where, fix="try again when it has")
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        fix = "systemctl start redis-server" if server.local else f"check host and port of component {server.component}"
        fix = f"docker start {server.container}" if server.container else fix
        if "protected mode" in text:
            fix = "give the server a password, and the component too"
        return SourceError(f"does not answer: {text}", where=server.where, fix=fix)
    return SourceError(text, where=server.where)


def text_of(value: Any) -> str:
    """Return a reply as text, whatever bytes it holds."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def config_of(reply: Any) -> dict[str, str]:
    """Return the reply to CONFIG GET as texts."""
    pairs = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {text_of(name): text_of(value) for name, value in pairs}


def lines_of(reply: Any) -> list[str]:
    """Return the reply to ACL LIST as texts."""
    return [text_of(one) for one in reply]


def modules_of(reply: Any) -> list[dict[str, Any]]:
    """Return the reply to MODULE LIST: name, ver, and from version 7 on path and args of each."""
    found = []
    for one in reply:
        pairs = one.items() if isinstance(one, Mapping) else zip(one[::2], one[1::2], strict=True)
        told = {text_of(name): value for name, value in pairs}
        found.append(
            {
                "name": text_of(told["name"]),
                "ver": int(told["ver"]),
                "path": text_of(told.get("path", "")),
                "args": [text_of(arg) for arg in told.get("args", [])],
            }
        )
    return sorted(found, key=lambda one: str(one["name"]))


def keyspace_of(info: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the number of keys, and of keys that expire, by database, as INFO has them."""
    found = {name: one for name, one in info.items() if _DATABASE.fullmatch(name)}
    return {name: [int(one["keys"]), int(one["expires"])] for name, one in found.items()}


def await_idle(client: Any, server: Server, seconds: float) -> None:
    """Wait until the server saves and rewrites nothing; SourceError when it still does after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        told = client.info("persistence")
        if told.get("loading"):
            raise SourceError("it is still loading its data", where=server.where, fix="try again when it has")
        busy = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
        if not any(int(told.get(name, 0)) for name in busy):
            return
        if time.monotonic() > deadline:
            what = f"a save or rewrite that was running before did not end within {seconds:.0f} s"
            raise SourceError(what, where=server.where, fix="redis-cli INFO persistence")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def changed_settings(journal: Journal, server: Server, wanted: dict[str, str]) -> Iterator[None]:
    """Change settings while the body runs, by CONFIG SET; journaled, so that they are put back whatever happens."""
    with session(server) as client:
        before = {name: config_of(client.config_get(name))[name] for name in wanted}
        debt = journal.write(OWNER, "settings", {"server": server.to_json(), "settings": before})
        for name, value in wanted.items():
            client.config_set(name, value)
    try:
        yield
    finally:
        # A server that is gone comes back with its own settings; if it only does not answer, `recover` tries again.
        with contextlib.suppress(SourceError):
            set_back(server, before)
            journal.settle(debt)


def set_back(server: Server, settings: Mapping[str, str]) -> None:
    """Put settings back."""
    with session(server) as client:
        for name, value in settings.items():
            client.config_set(name, value)


@dataclass(frozen=True)
class Files:
    """The files of a server on this host or in a container, read by `cat` there: what it has open stays what it is."""

    runner: Runner
    prefix: str = ""

    def argv(self, path: str) -> list[str]:
        """Return the command that reads a file of the server."""
        return ["cat", "--", f"{self.prefix}{path}"]


@contextlib.contextmanager
def opened(server: Server, files: Files, path: str) -> Iterator[IO[bytes]]:
    """Yield a file of the server, which is open there by then; SourceError when it cannot be read to its end."""
    argv = files.argv(path)
    try:
        running = files.runner.start(argv)
        with reading(running, argv) as stream:
            running.ready(OPEN_SECONDS)
            yield stream
    except RestauraError as error:
        raise SourceError(error.what, where=f"{server.where}: {path}", fix=error.fix) from error


def append(server: Server, files: Files, path: str, to: Path, most: int | None = None) -> int:
    """Append a file of the server (`most` bytes of it) to `to`; return how many bytes that were."""
    done = 0
    with opened(server, files, path) as stream, to.open("ab") as out:
        while chunk := stream.read(CHUNK if most is None else min(CHUNK, most - done)):
            out.write(chunk)
            done += len(chunk)
    return done


def start_transfer(server: Server, to: Path) -> Running:
    """Start redis-cli, which gets the RDB as a replica does, into a new file."""
    words, env = server.command_line()
    try:
        return HostRunner().start([*words, "--rdb", str(to)], env=env)
    except RestauraError as error:
        raise SourceError(error.what, where=server.where, fix="apt-get install redis-tools") from error


def end_transfer(server: Server, running: Running, seconds: float) -> None:
    """Wait for redis-cli to end; SourceError when it failed."""
    try:
        running.stdout.read()
        code = running.wait(seconds)
    except (RestauraError, subprocess.TimeoutExpired) as error:
        raise SourceError(str(error), where=server.where) from error
    if code:
        said = running.errors() or "no reason given"
        fix = "the user needs +sync +psync +replconf +ping"
        raise SourceError(f"redis-cli --rdb failed: {said}", where=server.where, fix=fix)


def files_of(server: Server, info: Mapping[str, Any]) -> Files | None:
    """Return how the server's files are read; None for one that is reached over the network alone.

    SourceError when it should be a service of this host and is none: a container's published port.
    """
    if server.container:
        return Files(ContainerRunner(server.container))
    if not server.local:
        return None
    pid = int(info["process_id"])
    try:
        runs = Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        runs = ""
    if not runs.startswith(("redis-", "valkey-", "keydb-")):
        raise SourceError(
            "the server that answers there is no process of this host",
            where=server.where,
            fix=f"set container of component {server.component}, or host to an address that is not local",
        )
    # A unit may have a view of the file system of its own (ProtectSystem=, PrivateTmp=).
    return Files(HostRunner(), f"/proc/{pid}/root")
