# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away server for drills: made by initdb, reachable by one private socket, without network and workers."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from restaura import process
from restaura.errors import RestauraError, SourceError
from restaura.paths import Paths
from restaura.postgres.server import Server
from restaura.postgres.session import Session
from restaura.runners import Running, run
from restaura.runners.container import ContainerRunner
from restaura.runners.host import HostRunner, as_uid, free_uid

_START_SECONDS = 60
# No background worker can start with none allowed: no scheduler, no subscription, no launcher of an extension.
SETTINGS = {
    "listen_addresses": "",
    "max_worker_processes": "0",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "archive_mode": "off",
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "2GB",
    "max_connections": "20",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "jit": "off",
    "ssl": "off",
    "logging_collector": "off",
    "log_min_messages": "fatal",
    "cluster_name": "restaura drill",
}


def parent(paths: Paths) -> Path:
    """Return where throw-away servers of this host live: beside the state, whose directory root alone may enter."""
    return paths.var.with_name("restaura-drill")


class Scratch:
    """A throw-away server: on the host as a user id of its own, or in the live server's container as its account."""

    def __init__(self, live: Server, directory: str) -> None:
        self._live, self._directory = live, directory
        self._running: Running | None = None
        self._uid = 0 if live.container else free_uid()

    def start(self, description: dict[str, Any], application: str) -> Server:
        """Make and start a server for what `description` (of the point) needs; return how it is reached."""
        live, major = self._live, description["major"]
        initdb = live.program("initdb", major)
        programs = str(Path(initdb).parent)
        socket = f"{self._directory}/s"
        data = f"{self._directory}/d"
        self._make(socket)
        words = [f"--pgdata={data}", f"--username={description['superuser']}", "--auth=trust", "--no-sync"]
        self._run([initdb, *words, "--encoding=UTF8", "--locale=C", "--no-instructions"])
        self._hand_over()
        settings = SETTINGS | {"unix_socket_directories": socket, "max_locks_per_transaction": description["locks"]}
        settings |= _preload(description)
        argv = [f"{programs}/postgres", "-D", data, "-p", "5432"]
        argv += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._running = self._start(argv)
        server = Server(
            live.component,
            account=live.account if live.container else "",
            container=live.container,
            host=socket,
            user=description["superuser"],
            uid=self._uid,
            programs=programs,
            application=application,
        )
        self._await(server)
        return server

    def stop(self) -> None:
        """Stop the server and delete it."""
        if self._running is not None:
            if self._live.container:
                _kill_in_container(self._live, self._directory)
            self._running.close()
        remove(self._live, self._directory)

    def _make(self, socket: str) -> None:
        if self._live.container:
            self._run(["mkdir", "-p", "-m", "0700", self._directory, socket])
            return
        directory = Path(self._directory)
        directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        directory.parent.chmod(0o711)
        for one in (directory, Path(socket)):
            one.mkdir(mode=0o700)
            shutil.chown(one, "nobody", "nogroup")

    def _run(self, argv: list[str]) -> None:
        """Run a program that makes the cluster: on the host as nobody, because initdb wants an account with a name."""
        live = self._live
        runner = live.runner if live.container else HostRunner("nobody")
        try:
            run(runner, argv)
        except RestauraError as error:
            raise SourceError(error.what, where=f"throw-away server of {live.component}", fix=error.fix) from error

    def _hand_over(self) -> None:
        """Give the directory to the user id that the server runs as, which nothing else on the host has."""
        if self._uid:
            for folder, _, files in os.walk(self._directory):
                for path in (folder, *(f"{folder}/{one}" for one in files)):
                    os.lchown(path, self._uid, self._uid)

    def _start(self, argv: list[str]) -> Running:
        if self._live.container:
            return self._live.runner.start(argv)
        return HostRunner().start([*process.without_network(), *as_uid(self._uid), *argv])

    def _await(self, server: Server) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with Session(server, "template1"):
                    return
            except SourceError as error:
                if self._running is None or self._running.ended() or time.monotonic() > deadline:
                    said = self._running.errors() if self._running else ""
                    raise SourceError(
                        f"it does not start: {said or error.what}", where=f"throw-away server of {server.component}"
                    ) from error
            time.sleep(0.1)


def _preload(description: dict[str, Any]) -> dict[str, str]:
    """Return the settings of libraries that must be loaded at start for an extension of the point to be made."""
    wanted = {name for one in description["databases"].values() for name in one["extensions"]}
    libraries = [one.strip().strip('"') for one in description["preload"].split(",")]
    found = {"shared_preload_libraries": ",".join(one for one in libraries if one in wanted)}
    if description["cron_database"]:
        found["cron.database_name"] = description["cron_database"]
    return found


def _kill_in_container(live: Server, directory: str) -> None:
    with contextlib.suppress(RestauraError):
        script = 'read pid <"$1/d/postmaster.pid" && kill -QUIT "$pid"; sleep 0.2; true'
        run(ContainerRunner(live.container, live.account), ["sh", "-c", script, "sh", directory])


def remove(live: Server, directory: str) -> None:
    """Kill what serves from a throw-away directory, and delete it. Idempotent."""
    if live.container:
        _kill_in_container(live, directory)
        run(ContainerRunner(live.container, live.account), ["rm", "-rf", "--", directory])
        return
    with contextlib.suppress(OSError, ValueError):
        pid = int(Path(f"{directory}/d/postmaster.pid").read_text().split()[0])
        if _serves(pid, directory):
            HostRunner().signal(pid, signal.SIGQUIT)
            _gone(pid, 5)
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        Path(directory).parent.rmdir()
    if Path(directory).exists():
        raise SourceError("a throw-away server could not be removed", where=directory, fix=f"rm -rf {directory}")


def _serves(pid: int, directory: str) -> bool:
    """Whether the process is the server of that directory, and not a later one of the same number."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()) == f"{directory}/d"
    except OSError:
        return False


def _gone(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
