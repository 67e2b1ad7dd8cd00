# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's modules share: this clone's name and folders, and running commands."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "lab"
# Several clones share one Docker daemon: everything a clone makes carries this.
CLONE = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
CLONE_LABEL = f"restaura.lab.clone={CLONE}"


class LabError(Exception):
    """Something the lab needs could not be had; the message says what, and what to type."""


def run(*command: str, stdin: str | None = None, cwd: Path | None = None) -> str:
    """Run a command and return its standard output.

    Raises LabError with the command and the end of its output when it exits non-zero or does not exist.
    """
    try:
        done = subprocess.run(command, input=stdin, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{command[0]} is not installed: run tools/lab/lab up") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(command[:6])} … exited {done.returncode}: {said}")
    return done.stdout


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold this clone's lock of that name: two lab commands at once must not make the same thing twice."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
