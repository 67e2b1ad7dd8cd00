# SPDX-License-Identifier: GPL-3.0-or-later
"""Debts: what a process changed outside itself and has yet to take back, written and fsynced before each act.

A debt whose process is gone is paid by `restaura recover`. The process is named by PID, its start time and the boot,
so that a reused PID is never mistaken for it.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura.paths import private_dir, sync_dir, write_atomic


@dataclass(frozen=True)
class Process:
    """A process that cannot be confused with a later one of the same PID."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the living process `pid`, or None; a zombie is dead."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot)

    @classmethod
    def own(cls) -> "Process":
        """Return this process."""
        me = cls.of(os.getpid())
        if me is None:
            raise RuntimeError("/proc is not mounted")
        return me

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self


@dataclass(frozen=True)
class Debt:
    """One act to take back: `owner` names who knows how (`source:postgres`, `store:main`, `spool`), `act` what."""

    id: str
    owner: str
    act: str
    data: dict[str, Any]
    process: Process
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class Journal:
    """The debts of this host, one file each, in order of their writing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, owner: str, act: str, data: dict[str, Any]) -> Debt:
        """Record a debt durably; return it once it is on the disk. Only then may the act be done."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
        debt = Debt(name, owner, act, data, Process.own())
        self._save(debt)
        return debt

    def update(self, debt: Debt, data: dict[str, Any]) -> Debt:
        """Replace a debt's data durably, and return the new debt."""
        newer = Debt(debt.id, debt.owner, debt.act, data, debt.process, debt.at)
        self._save(newer)
        return newer

    def settle(self, debt: Debt | str) -> None:
        """Strike a debt (or the one of that id) out: its act was taken back or is no longer ours."""
        with contextlib.suppress(FileNotFoundError):
            self.path(debt if isinstance(debt, str) else debt.id).unlink()
            sync_dir(self._directory)

    @contextlib.contextmanager
    def owing(self, owner: str, act: str, data: dict[str, Any]) -> Iterator[Debt]:
        """Hold a debt around an act whose taking back happens inside: it is settled only when the body ended well.

        When the body raises, the debt stays for `recover`, which takes the act back.
        """
        debt = self.write(owner, act, data)
        yield debt
        self.settle(debt)

    def open_debts(self) -> list[Debt]:
        """Return every debt, oldest first; those of living processes too.

        A file that cannot be read (a damaged disk) becomes a debt of the owner `unreadable`, which nobody can pay: it
        keeps none of the others from being paid, and stays until a person looked at it.
        """
        if not self._directory.is_dir():
            return []
        debts = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                data = json.loads(path.read_text())
                debts.append(Debt(**{**data, "process": Process(**data["process"])}))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, TypeError, KeyError) as error:
                debts.append(Debt(path.stem, "unreadable", f"{path}: {error}", {}, Process(0, 0, "")))
        return debts

    def path(self, name: str) -> Path:
        """Return the file of the debt of that id."""
        return self._directory / f"{name}.json"

    def _save(self, debt: Debt) -> None:
        private_dir(self._directory)
        write_atomic(self.path(debt.id), json.dumps(asdict(debt)).encode())
