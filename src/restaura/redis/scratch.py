# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away server that loads an RDB file: beside the live one, of its own program or image, on a private socket.

On the host it runs as a user id that nothing else has. In place of a container's server, a container of the same image
runs it, so that neither the memory limit nor the file system of the live one is touched.
"""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from restaura import process
from restaura.errors import RefusedError, RestauraError, SourceError
from restaura.redis.server import CONNECT_SECONDS, PROGRAMS, Server, session
from restaura.runners import Running
from restaura.runners.container import docker_api
from restaura.runners.host import HostRunner, as_uid, free_uid

RDB = "dump.rdb"
START_SECONDS = 30
LOAD_SECONDS = 3600
REMOVE_SECONDS = 30
_INSIDE = "/restaura"
_SERVE = " || ".join(f"command -v {one}" for one in PROGRAMS)


class NoRoomError(SourceError):
    """Memory or disk of the host do not suffice for a second server with this data."""


@dataclass(frozen=True)
class Needs:
    """What a server needs to load a point's RDB: databases, bytes of memory, and modules (name, path, args)."""

    databases: int = 16
    memory: int = 0
    modules: Sequence[dict[str, Any]] = ()


@dataclass
class Scratch:
    """A throw-away server in `directory`, whose last part names its container too. `live` says which program it is.

    Once it is `spent` it lacks keys that it loaded.
    """

    live: Server
    directory: Path
    uid: int = field(default_factory=free_uid)
    spent: bool = False
    _running: Running | None = None

    @property
    def server(self) -> Server:
        """How it is reached from this host."""
        return Server(self.live.component, socket=str(self.directory / "s"))

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f"throw-away server of {self.live.component}"

    def start(self, rdb: Path, needs: Needs, *, serves: tuple[str, int, str] | None = None) -> None:
        """Start it and wait until `rdb` (which it reads only) is loaded.

        It is a replica of nobody, so that it keeps keys that have expired. With `serves` (address, port, password) it
        is a master instead, which the live server can copy from. RefusedError when the file is too new for it;
        NoRoomError when memory is short; SourceError when it does not start.
        """
        self._need_memory(needs.memory or 3 * rdb.stat().st_size)
        self._make(rdb)
        settings = self._settings(needs)
        if serves:
            settings += [f"bind {serves[0]}", f"port {serves[1]}", f"requirepass {serves[2]}", "protected-mode no"]
        else:
            settings += ["port 0", "replicaof 127.0.0.1 1"]
        config = self.directory / "redis.conf"
        config.touch(mode=0o640)
        config.write_text("\n".join(settings) + "\n")
        os.chown(config, 0, self.uid)
        if self.live.container:
            self._start_container(shared_network=bool(serves))
        else:
            network = [] if serves else process.without_network()
            self._running = HostRunner().start([*network, *as_uid(self.uid), self._program(), str(config)])
        self._await(serves[2] if serves else "")

    def _settings(self, needs: Needs) -> list[str]:
        place = _INSIDE if self.live.container else str(self.directory)
        found = [f"dir {place}", f"unixsocket {place}/s", "unixsocketperm 700", f"logfile {place}/log"]
        found += [f"dbfilename {RDB}", f"databases {max(16, needs.databases)}", 'save ""', "appendonly no"]
        found += [
            "aof-use-rdb-preamble no",
            "appenddirname aof",
            "daemonize no",
            "maxmemory 0",
            "rdb-del-sync-files no",
        ]
        found += ["stop-writes-on-bgsave-error no", "repl-diskless-sync yes", "repl-diskless-sync-delay 0"]
        found += [" ".join(["loadmodule", one["path"], *one["args"]]) for one in needs.modules if one["path"]]
        return found

    def _make(self, rdb: Path) -> None:
        """Make the directory, in which the server may write, and give it the file to read."""
        parent = self.directory.parent
        parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        parent.chmod(0o711)
        self.directory.mkdir(mode=0o700)
        given = self.directory / RDB
        try:
            given.hardlink_to(rdb)
        except OSError:
            shutil.copyfile(rdb, given)
        os.chown(given, 0, self.uid)
        given.chmod(0o640)
        os.chown(self.directory, self.uid, self.uid)

    def _need_memory(self, size: int) -> None:
        told = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(told["MemAvailable"].split()[0]) * 1024
        if free < size * 1.1:
            raise NoRoomError(
                f"a second server needs {size} bytes of memory; {free} are available on this host",
                where=self.where,
                fix="free memory, or restore by hand: restaura restore --to dir:PATH, and docs/sources/redis.md",
            )

    def _program(self) -> str:
        """Return the program of the live server; what Debian's redis-tools brings is the same, under another name."""
        if self.live.local:
            with contextlib.suppress(SourceError), session(self.live) as client:
                pid = int(client.info("server")["process_id"])
                with contextlib.suppress(OSError):
                    path = Path(f"/proc/{pid}/exe").readlink()
                    if path.name in PROGRAMS and path.exists():
                        return str(path)
        for name in PROGRAMS:
            if found := shutil.which(name, path=process.environment()["PATH"]):
                return found
        if tool := shutil.which("redis-check-rdb", path=process.environment()["PATH"]):
            # It is the server as soon as it is called so (redis: server.c, main).
            link = self.directory / "redis-server"
            link.symlink_to(tool)
            return str(link)
        raise SourceError("there is no redis-server on this host", where=self.where, fix="apt-get install redis-tools")

    def _start_container(self, *, shared_network: bool) -> None:
        with contextlib.closing(docker_api()) as api:
            from docker.errors import DockerException

            try:
                image = api.inspect_container(self.live.container)["Image"]
                made = api.create_container(
                    image,
                    entrypoint=["sh", "-c", f'exec "$({_SERVE})" {_INSIDE}/redis.conf'],
                    command=[],
                    name=container_of(self.directory),
                    user=f"{self.uid}:{self.uid}",
                    labels={"restaura": self.live.component},
                    host_config=api.create_host_config(
                        binds={str(self.directory): {"bind": _INSIDE, "mode": "rw"}},
                        network_mode=f"container:{self.live.container}" if shared_network else "none",
                        cap_drop=["ALL"],
                        security_opt=["no-new-privileges"],
                        read_only=True,
                    ),
                )
                api.start(made["Id"])
            except DockerException as error:
                raise SourceError(f"cannot be started: {error}", where=self.where, fix="docker info") from error

    def _await(self, password: str) -> None:
        started, said = time.monotonic(), "it does not answer"
        while True:
            try:
                with self.session(password, CONNECT_SECONDS) as client:
                    if not client.info("persistence")["loading"]:
                        return
                limit = LOAD_SECONDS
            except SourceError as error:
                said, limit = error.what, LOAD_SECONDS if "loading" in error.what else START_SECONDS
            if self._ended() or time.monotonic() - started > limit:
                raise self._failure(said)
            time.sleep(0.05)

    def _failure(self, said: str) -> RestauraError:
        """Return why it did not start, by the end of its log."""
        with contextlib.suppress(OSError):
            lines = (self.directory / "log").read_text(errors="replace").splitlines()
            said = " | ".join(one.split(" * ")[-1].split(" # ")[-1] for one in lines[-5:]) or said
            for one in lines:
                if "Can't handle RDB format version" in one:
                    what = f"the data is of a newer version than this server reads: {one.split(' # ')[-1]}"
                    return RefusedError(
                        what, where=self.where, fix="install the version that the point names, or newer"
                    )
        if self._running is not None and self._running.ended():
            said = self._running.errors() or said
        return SourceError(f"it does not load the data: {said}", where=self.where, fix="restaura verify")

    def _ended(self) -> bool:
        if self.live.container:
            with contextlib.closing(docker_api()) as api:
                from docker.errors import DockerException

                with contextlib.suppress(DockerException):
                    return not api.inspect_container(container_of(self.directory))["State"]["Running"]
            return True
        return self._running is None or self._running.ended()

    @contextlib.contextmanager
    def session(self, password: str = "", read_seconds: float = 60) -> Iterator[Any]:
        """Yield a client of it (see `server.session`)."""
        with session(self.server, read_seconds, password) as client:
            yield client

    @contextlib.contextmanager
    def rewritten(self) -> Iterator[IO[bytes]]:
        """Have it write all of its data as commands, and yield them; the file is removed afterwards."""
        with self.session() as client:
            client.bgrewriteaof()
            while True:
                told = client.info("persistence")
                if not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]:
                    break
                time.sleep(0.02)
            if told["aof_last_bgrewrite_status"] != "ok":
                fix = "free space on its disk, and memory (vm.overcommit_memory=1); data of some modules cannot be"
                raise NoRoomError("its data could not be written", where=f"{self.where} in {self.directory}", fix=fix)
        [path] = (self.directory / "aof").glob("*.base.aof")
        with path.open("rb", buffering=1 << 20) as stream:
            yield stream
        shutil.rmtree(path.parent)

    def stop(self) -> None:
        """Stop it and delete it."""
        if self._running is not None:
            self._running.close()
        remove(self.live, self.directory)


def container_of(directory: Path) -> str:
    """Return the name of the container that serves from a throw-away directory."""
    return f"restaura-{directory.name}"


def new_directory(parent: Path) -> Path:
    """Return a directory for a throw-away server, which is not made yet."""
    return parent / f"redis-{secrets.token_hex(8)}"


def remove(live: Server, directory: Path) -> None:
    """Remove a throw-away server and its directory. Idempotent.

    On the host it dies with who started it; what it forked to write for others ends a little later.
    """
    if live.container:
        with contextlib.closing(docker_api()) as api:
            from docker.errors import DockerException, NotFound

            try:
                api.remove_container(container_of(directory), force=True)
            except NotFound:
                pass
            except DockerException as error:
                fix = f"docker rm -f {container_of(directory)}"
                raise SourceError(f"cannot be removed: {error}", where=container_of(directory), fix=fix) from error
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        if time.monotonic() > deadline:
            what = "a throw-away server could not be removed"
            raise SourceError(what, where=str(directory), fix=f"rm -rf {directory}")
        time.sleep(0.05)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()
