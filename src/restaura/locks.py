# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of components and stores: flock(2), so that the kernel lets go when their holder dies, however it dies."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from restaura.errors import LockedError
from restaura.paths import private_dir
from restaura.point import safe_name

POLL_SECONDS = 0.5


@contextlib.contextmanager
def holding(directory: Path, names: Iterable[str], wait: float = 0) -> Iterator[None]:
    """Hold the locks called `names` (`component:postgres`, `store:main`), taken in sorted order so that none deadlock.

    Raises LockedError, naming the lock and its holder's PID, when one is not free within `wait` seconds.
    """
    private_dir(directory)
    deadline = time.monotonic() + wait
    with contextlib.ExitStack() as stack:
        for name in sorted(set(names)):
            descriptor = os.open(directory / safe_name(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            _take(descriptor, name, deadline)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


def _take(descriptor: int, name: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace") or "another process"
                raise LockedError(
                    f"{name} is held by process {holder}",
                    where="lock",
                    fix="wait for it to end, or give --wait SECONDS",
                ) from None
            time.sleep(POLL_SECONDS)
