# SPDX-License-Identifier: GPL-3.0-or-later
"""Running things inside the bench's host: its own Postgres cluster, timed scripts, one program's own memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NAME, PORT = "bench", "5499"
SOCKET = "/var/run/postgresql"
CLUSTER = Path("/var/lib/postgresql/17") / NAME
# A hundred dumps at once, which is borgmatic's way, want more than the hundred connections that Debian allows.
_SETTINGS = {"max_connections": "300", "max_wal_size": "4GB", "autovacuum": "off"}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "PGHOST": SOCKET,
    "PGPORT": PORT,
    "PGUSER": "postgres",
    "TMPDIR": "/var/tmp",  # noqa: S108 - the host is thrown away
}
_SAMPLE_SECONDS = 0.02


class BenchError(Exception):
    """Something that the bench runs failed; the message has its last words."""


@dataclass(frozen=True)
class Measured:
    """One script's wall time, and the peak memory of its first process alone (None unless it was asked for)."""

    seconds: float
    peak_mib: float | None = None


def timed(script: str, *, memory: bool = False) -> Measured:
    """Run a bash script to its end; BenchError when any part of it fails.

    With `memory`, the script is one program (`exec …`), whose peak resident set is read from /proc: what wait4(2) tells
    counts its children too.
    """
    began, peak = time.monotonic(), 0
    argv = ["bash", "-euo", "pipefail", "-c", script]
    with open("/var/tmp/bench.log", "w+b") as said:  # noqa: PTH123, S108
        with subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as child:
            while memory and child.poll() is None:
                peak = max(peak, _peak_kib(child.pid))
                time.sleep(_SAMPLE_SECONDS)
            code = child.wait()
        seconds = time.monotonic() - began
        if code:
            said.seek(0)
            raise BenchError(f"exit code {code}: {script}\n{said.read().decode(errors='replace')[-3000:]}")
    return Measured(seconds, peak / 1024 if memory else None)


def _peak_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def untimed(script: str) -> None:
    """Run a bash script that prepares or clears away."""
    timed(script)


def sql(database: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    for statement in statements:
        stream_in(database, statement, ())


def stream_in(database: str, statement: str, lines: Iterable[str]) -> None:
    """Run a statement whose standard input are `lines` (COPY … FROM STDIN)."""
    argv = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        if child.stdin is None or child.stderr is None:
            raise BenchError("psql has no pipes")
        for line in lines:
            child.stdin.write(line.encode())
        child.stdin.close()
        said = child.stderr.read().decode(errors="replace")
    if child.returncode:
        raise BenchError(f"{statement[:200]}: {said}")


def start_cluster() -> None:
    """Make and start the cluster, once."""
    if not (CLUSTER / "PG_VERSION").exists():
        untimed(f"pg_createcluster 17 {NAME} -p {PORT} -- --locale=C.UTF-8 --auth-local=trust")
        for key, value in _SETTINGS.items():
            untimed(f"pg_conftool 17 {NAME} set {key} {value}")
    untimed(f"pg_ctlcluster 17 {NAME} status || pg_ctlcluster 17 {NAME} start")
