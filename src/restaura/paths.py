# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are on a host, and how files there are written so that a power cut leaves the old or the new."""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from restaura.errors import SourceError


@dataclass(frozen=True)
class Paths:
    """The program's places below `root` (`/` unless a test or `RESTAURA_ROOT` says otherwise).

    `keys_of_kit` is where a recovery kit's keys were unpacked, on a machine that reads with them alone.
    """

    root: Path = Path("/")
    keys_of_kit: Path | None = None

    @classmethod
    def from_environment(cls) -> "Paths":
        """Take `root` from RESTAURA_ROOT, so that tests and the plan of a bare host touch no real configuration."""
        return cls(Path(os.environ.get("RESTAURA_ROOT", "/")))

    @property
    def etc(self) -> Path:
        return self.root / "etc/restaura"

    @property
    def config(self) -> Path:
        return self.etc / "config.json"

    @property
    def keys(self) -> Path:
        return self.keys_of_kit or self.etc / "keys"

    @property
    def cron(self) -> Path:
        return self.root / "etc/cron.d/restaura"

    @property
    def program(self) -> Path:
        """The link to the version in use."""
        return self.root / "usr/local/bin/restaura"

    @property
    def versions(self) -> Path:
        return self.root / "usr/local/lib/restaura"

    @property
    def var(self) -> Path:
        return self.root / "var/lib/restaura"

    @property
    def journal(self) -> Path:
        return self.var / "journal"

    @property
    def locks(self) -> Path:
        return self.var / "locks"

    @property
    def spool(self) -> Path:
        return self.var / "spool"

    @property
    def cache(self) -> Path:
        return self.var / "cache"

    @property
    def kept(self) -> Path:
        """Records of the copies that `undo` swaps back."""
        return self.var / "kept"

    @property
    def restored(self) -> Path:
        """Where a restore of everything puts what never goes live as a whole, a directory for each restore."""
        return self.var / "restored"

    @property
    def scripts(self) -> Path:
        return self.root / "usr/local/sbin"

    @property
    def state(self) -> Path:
        return self.var / "state.json"

    @property
    def catalogue(self) -> Path:
        return self.var / "catalogue.json"

    @property
    def metrics(self) -> Path:
        return self.var / "restaura.prom"

    @property
    def logs(self) -> Path:
        return self.root / "var/log/restaura"

    def own(self) -> list[Path]:
        """What a backup of trees must leave out: the program's own keys, state and logs."""
        return [self.etc, self.var, self.logs]


def private_dir(path: Path) -> Path:
    """Make `path` (and parents) a directory that root alone reads, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def write_atomic(path: Path, data: bytes | Iterable[bytes], mode: int = 0o600) -> None:
    """Replace `path` with `data`, or several after another, so that a crash leaves the old or the new content."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Flush a directory's own entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path | str, where: str, what: str = "password") -> str:
    """Return what a file of `keys/` holds, as it was given; SourceError when it cannot be read."""
    try:
        return Path(path).read_text().rstrip("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        fix = "ansible-playbook setup_backup.yml"
        raise SourceError(f"the {what} file cannot be read: {why}", where=where, fix=fix) from error
