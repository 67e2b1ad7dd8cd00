# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs run on this host as an account, or as a bare user id that no account has."""

import contextlib
import os
import pwd
import secrets
import select
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restaura.errors import RestauraError
from restaura.process import Child

# systemd's range for users that exist only while they are used (systemd.exec(5), DynamicUser=).
_UIDS = range(61184, 65520)


class HostProcess(Child):
    """A child process whose output can be waited for."""

    def ready(self, timeout: float) -> bool:
        """Whether output (or its end) can be read within `timeout` seconds; ask before the first read."""
        return bool(select.select([self.stdout], [], [], timeout)[0])

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None


@dataclass(frozen=True)
class HostRunner:
    """Runs as `account`, or as the user id `uid` (setpriv; for throw-away servers), or as the caller.

    Every program dies with the thread that started it.
    """

    account: str = ""
    uid: int = 0

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, held: bool = False
    ) -> HostProcess:
        """Start `argv` with `env` added to a clean environment; RestauraError when program or account is missing."""
        account = self.account if self.account and self.account != pwd.getpwuid(os.geteuid()).pw_name else None
        if account and os.geteuid():
            raise RestauraError(f"only root can become {account}", fix="run as root: sudo restaura …")
        try:
            return HostProcess(
                [*as_uid(self.uid), *argv],
                env=env,
                stdin=subprocess.PIPE if stdin or held else subprocess.DEVNULL,
                user=account,
            )
        except KeyError:
            raise RestauraError(
                f"there is no account {self.account!r} on this host", fix="set system_user of the component"
            ) from None

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the process `pid`; no error when there is none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def as_uid(uid: int) -> list[str]:
    """Return the words that run what follows as `uid` without groups, dying with its parent; none for 0.

    setpriv(1) sets the death signal itself, because changing the user id clears it (prctl(2)).
    """
    if not uid:
        return []
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--pdeathsig=KILL", "--"]


def free_uid() -> int:
    """Return a user id that no account uses and no process has now."""
    taken = set()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(FileNotFoundError):
            taken.add(entry.stat().st_uid)
    while True:
        uid = secrets.choice(_UIDS)
        if uid not in taken:
            return uid
