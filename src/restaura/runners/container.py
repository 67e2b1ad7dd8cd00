# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs run in a container through Docker's exec interface: pipes attached, exit status read."""

import contextlib
import io
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

from restaura.errors import RestauraError
from restaura.process import ERROR_CHARACTERS

_HEADER = struct.Struct(">BxxxL")
_STDERR = 2
_START_SECONDS = 5


class _Output(io.RawIOBase):
    """Standard output taken out of Docker's multiplexed stream (frames of type, length and payload)."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._left = 0
        self.errors = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._left == 0:
            header = self._source.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return 0
            kind, length = _HEADER.unpack(header)
            if kind == _STDERR:
                self.errors += self._source.read(length)
                del self.errors[: -4 * ERROR_CHARACTERS]
            else:
                self._left = length
        data = self._source.read(min(len(buffer), self._left))
        if not data:
            raise RestauraError("the connection to the Docker daemon broke off")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


class _Input(io.RawIOBase):
    """Standard input: written to the socket, whose write half is shut when it is closed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.sendall(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
        super().close()


class ContainerProcess:
    """A program that runs by `docker exec`."""

    def __init__(self, api: Any, exec_id: str) -> None:
        self._api = api
        self._id = exec_id
        raw = api.exec_start(exec_id, socket=True)
        # The daemon's first bytes may already stand in the response's buffer, so it is read through that.
        self._response: Any = raw._response
        self._source: Any = self._response.raw._fp.fp
        self._connection: socket.socket = raw._sock
        self._connection.settimeout(None)
        self._output = _Output(self._source)
        self._stdout: IO[bytes] = io.BufferedReader(self._output, 1 << 18)
        self._stdin: IO[bytes] = _Input(self._connection)  # type: ignore[assignment]
        self._lock = threading.Lock()

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the program."""
        return self._stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the program."""
        return self._stdout

    def ready(self, timeout: float) -> bool:
        """Whether output (or its end) can be read within `timeout` seconds; ask before the first read."""
        return self._buffered() or bool(select.select([self._connection], [], [], timeout)[0])

    def _buffered(self) -> bool:
        """Whether output was read from the socket already, together with the daemon's answer."""
        self._connection.settimeout(0)
        try:
            return bool(self._source.peek(1))
        finally:
            self._connection.settimeout(None)

    def ended(self) -> bool:
        """Whether the daemon says that it has ended."""
        return self._api.exec_inspect(self._id)["ExitCode"] is not None

    def errors(self) -> str:
        """Return the end of what the program wrote to standard error, as far as its output was read."""
        return bytes(self._output.errors[-ERROR_CHARACTERS:]).decode(errors="replace").strip()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; above 128 it is a signal, given as a negative number."""
        limit = time.monotonic() + timeout if timeout is not None else None
        while True:
            code = self._api.exec_inspect(self._id)["ExitCode"]
            if code is not None:
                return int(code) if code <= 128 else 128 - int(code)
            if limit is not None and time.monotonic() > limit:
                raise RestauraError(f"the program in the container did not end within {timeout} seconds")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the program. Docker has no call for that: its process id on the host is used."""
        with self._lock:
            state = self._api.exec_inspect(self._id)
            deadline = time.monotonic() + _START_SECONDS
            # A program that is being started has no process id yet.
            while state["ExitCode"] is None and not state["Pid"] and time.monotonic() < deadline:
                time.sleep(0.02)
                state = self._api.exec_inspect(self._id)
            if state["Running"] and state["Pid"]:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(state["Pid"], signal.SIGKILL)

    def close(self) -> None:
        """Kill the program if it still runs, and free its pipes."""
        with contextlib.suppress(OSError, RestauraError, self._api_error):
            self.kill()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._stdin.close()
        self._response.close()
        self._source.close()
        self._connection.close()
        self._api.close()

    @cached_property
    def _api_error(self) -> type[Exception]:
        from docker.errors import DockerException

        found: type[Exception] = DockerException
        return found


# The daemon handles the end of programs one by one, and each only when all its output was read. A program whose output
# is read later therefore must not end before: it waits for the end of its standard input.
HELD = ("sh", "-c", '"$@" </dev/null; code=$?; cat >/dev/null; exit $code', "sh")


@dataclass(frozen=True)
class ContainerRunner:
    """Runs in the container called `container`, as its account `account` (empty: the image's own)."""

    container: str
    account: str = ""

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, held: bool = False
    ) -> ContainerProcess:
        """Start `argv`; RestauraError when daemon, container or program is not there."""
        client = docker_api()
        from docker.errors import APIError, DockerException, NotFound

        where = f"container {self.container}"
        try:
            made = client.exec_create(
                self.container,
                [*(HELD if held else ()), *argv],
                stdin=stdin or held,
                user=self.account,
                environment={"LC_ALL": "C.UTF-8", **(env or {})},
            )
            return ContainerProcess(client, made["Id"])
        except DockerException as error:
            client.close()
            if isinstance(error, NotFound):
                what, fix = "there is no such container", "docker ps --all"
            elif isinstance(error, APIError):
                what, fix = str(error.explanation or error), f"docker start {self.container}"
            else:
                what, fix = f"the Docker daemon does not answer: {error}", "systemctl start docker"
            raise RestauraError(what, where=where, fix=fix) from error

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process `pid`, as the container counts them; no error when there is none."""
        running = self.start(["kill", f"-{number}", str(pid)])
        with contextlib.closing(running):
            running.stdout.read()


def address_of(container: str) -> str:
    """Return the address of a running container on its first network: this host reaches it, published ports or not.

    A container in the host's own network is at 127.0.0.1. RestauraError when it is not there, or does not run.
    """
    with contextlib.closing(docker_api()) as client:
        from docker.errors import DockerException, NotFound

        where = f"container {container}"
        try:
            told = client.inspect_container(container)
        except NotFound as error:
            raise RestauraError("there is no such container", where=where, fix="docker ps --all") from error
        except DockerException as error:
            raise RestauraError(f"the Docker daemon: {error}", where=where, fix="docker info") from error
        if told["HostConfig"].get("NetworkMode") == "host":
            return "127.0.0.1"
        networks = (told["NetworkSettings"].get("Networks") or {}).values()
        address = next((str(one["IPAddress"]) for one in networks if one.get("IPAddress")), "")
        if not address:
            raise RestauraError("it has no address: it does not run", where=where, fix=f"docker start {container}")
        return address


def docker_api(seconds: int = 60) -> Any:
    """Return a client of the daemon that DOCKER_HOST names, or the local one; no call waits longer than `seconds`."""
    try:
        import docker
    except ImportError as error:
        raise RestauraError("Python's Docker client is not installed", fix="apt-get install python3-docker") from error
    try:
        return docker.from_env(timeout=seconds).api
    except docker.errors.DockerException as error:
        raise RestauraError(f"the Docker daemon does not answer: {error}", fix="systemctl restart docker") from error
