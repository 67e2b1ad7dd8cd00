# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a client program runs: on the host as some user, or in a container. A server reached over TCP is the former."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Protocol

from restaura.errors import RestauraError
from restaura.process import failure


class Running(Protocol):
    """A program that runs, wherever it does."""

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to it; closing it gives the program its end of file."""

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from it, buffered."""

    def ready(self, timeout: float) -> bool:
        """Whether output (or its end) can be read within `timeout` seconds."""

    def ended(self) -> bool:
        """Whether it is known to have ended."""

    def errors(self) -> str:
        """Return the end of what it wrote to standard error so far."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code (negative: the signal that ended it)."""

    def kill(self) -> None:
        """Kill it and everything it started."""

    def close(self) -> None:
        """Kill it if it still runs, and free its pipes."""


class Runner(Protocol):
    """Starts programs in one place."""

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, held: bool = False
    ) -> Running:
        """Start `argv` with `env` added to a clean environment; RestauraError when the program is not there.

        A program whose output is read later than that of others is `held`; its standard input is closed before the
        reading begins.
        """

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process `pid` of that place; no error when there is none."""


def run(
    runner: Runner,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    accept: Sequence[int] = (0,),
) -> tuple[int, bytes, str]:
    """Run `argv` to its end and return exit code, standard output and the end of standard error.

    `stdin` must be small: it is written before anything is read. RestauraError for an exit code not in `accept`.
    """
    running = runner.start(argv, env=env, stdin=bool(stdin))
    try:
        if stdin:
            with contextlib.suppress(BrokenPipeError):
                running.stdin.write(stdin)
                running.stdin.close()
        out = running.stdout.read()
        code = running.wait()
        if code in (126, 127):
            raise RestauraError(f"the program {argv[0]} could not be started: {running.errors() or out.decode()}")
        if code not in accept:
            raise RestauraError(failure(argv, code, running.errors()))
        return code, out, running.errors()
    finally:
        running.close()


@contextlib.contextmanager
def reading(running: Running, argv: Sequence[str]) -> Iterator[IO[bytes]]:
    """Yield the standard output of a started program; on leaving, RestauraError unless it ended well.

    A body that leaves before the end has the program killed and no error raised for that.
    """
    try:
        yield running.stdout
        if running.stdout.read(1):
            running.kill()
            return
        code = running.wait()
        if code:
            raise RestauraError(failure(argv, code, running.errors()))
    finally:
        running.close()
