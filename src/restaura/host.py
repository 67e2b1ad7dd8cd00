# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of a run shares: this host's places, configuration, keys, journal, log and disk reserve."""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restaura import locks
from restaura.config import load
from restaura.config.schema import Config
from restaura.errors import ConfigError, SpaceError
from restaura.journal import Journal
from restaura.log import Log
from restaura.paths import Paths, private_dir, write_atomic
from restaura.point import Signer

if TYPE_CHECKING:
    from restaura.pause import Paused

STATE_SECONDS = 60
GENERATED_KEYS = ("manifest.key", "age.key")


class Host:
    """A host as the program on it sees it. Nothing is read before it is asked for.

    `paused` is the plan's pause while there is one.
    """

    def __init__(self, paths: Paths, config: Config | None = None) -> None:
        self.paths = paths
        self._config = config
        self.journal = Journal(paths.journal)
        self.paused: Paused | None = None
        self.log = Log(paths.logs)

    @cached_property
    def config(self) -> Config:
        """The configuration; ConfigError when the host is not set up or it is wrong."""
        return self._config or load.load(self.paths.config)

    @property
    def name(self) -> str:
        """The host's name in stores."""
        return self.config.settings.host

    @cached_property
    def identity(self) -> str:
        """The random id that tells this machine from another of the same name; ConfigError when setup made none."""
        try:
            return (self.paths.etc / "identity").read_text(errors="replace").strip()
        except FileNotFoundError:
            raise ConfigError(
                "this host has no identity", where=str(self.paths.etc), fix="ansible-playbook setup_backup.yml"
            ) from None

    @cached_property
    def signer(self) -> Signer:
        """Signs with `manifest.key`; also opens what older keys (`manifest.key.*`) signed."""
        older = [_hex_key(one) for one in sorted(self.paths.keys.glob("manifest.key.*"))]
        return Signer(_hex_key(self.key("manifest.key")), older)

    def key(self, name: str) -> Path:
        """Return the file of a key or secret that must be there; ConfigError names it when it is not."""
        path = self.paths.keys / name
        if not path.is_file():
            raise ConfigError(
                "the key file is missing",
                where=str(path),
                fix="restore it from the recovery kit: restaura keys restore --kit FILE",
            )
        return path

    def secret(self, section: str, name: str, field: str) -> Path | None:
        """Return the file that holds a secret setting (`stores`, `main`, `password`), or None when none was given."""
        path = self.paths.keys / f"{section}.{name}.{field}"
        return path if path.is_file() else None

    @contextlib.contextmanager
    def spool(self, purpose: str) -> Iterator[Path]:
        """Yield a new root-only directory, journaled, and remove it with all it holds."""
        root = private_dir(self.paths.spool)
        path = root / f"{purpose}-{secrets.token_hex(6)}"
        debt = self.journal.write("spool", "remove", {"path": str(path)})
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                self.journal.settle(debt)

    def reserve(self, path: Path) -> int:
        """Return the bytes that must stay free on the disk of `path`."""
        settings = self.config.settings
        return min(settings.reserve_bytes, shutil.disk_usage(path).total * settings.reserve_percent // 100)

    def need_space(self, path: Path, size: int, where: str) -> None:
        """Raise SpaceError unless `size` bytes fit on the disk of `path` above the reserve."""
        free, reserve = shutil.disk_usage(path).free, self.reserve(path)
        if free - size < reserve:
            raise SpaceError(
                f"{size} bytes do not fit: {free} are free on {path}, of which {reserve} stay in reserve",
                where=where,
                fix=f"free space on the disk of {path}, or lower settings.reserve_bytes",
            )

    def load_state(self) -> dict[str, object]:
        """Return the host's state (last runs by plan); empty when there is none or it cannot be read."""
        try:
            data = json.loads(self.paths.state.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    @contextlib.contextmanager
    def changing_state(self) -> Iterator[dict[str, Any]]:
        """Yield the host's state and replace it durably; other processes wait, or the last would undo the first."""
        with locks.holding(self.paths.locks, ["state"], STATE_SECONDS):
            state: dict[str, Any] = self.load_state()
            yield state
            self._save_state(state)

    def _save_state(self, state: dict[str, object]) -> None:
        private_dir(self.paths.var)
        write_atomic(self.paths.state, json.dumps(state, indent=1, sort_keys=True).encode())


def _hex_key(path: Path) -> bytes:
    with contextlib.suppress(ValueError):
        if key := bytes.fromhex(path.read_text().strip()):
            return key
    fix = f"mv {path} /root/, and restore it from the recovery kit: restaura keys restore --kit FILE"
    raise ConfigError("the key file is damaged", where=str(path), fix=fix)
