# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and secrets on this host: made once, never overwritten by anything automatic; and the kit that holds them."""

import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import process
from restaura.config.load import secrets_of
from restaura.config.schema import Config
from restaura.errors import ConfigError
from restaura.host import Host
from restaura.paths import private_dir, write_atomic

KIT_VERSION = 1


def declared_secrets(config: Config) -> dict[str, str]:
    """Return every secret that a declaration carries, by the name of its file below `keys/`."""
    found = {}
    for section, items in (("stores", config.stores), ("plans", config.plans), ("components", config.components)):
        for item in items:
            name = item.name
            found.update({f"{section}.{name}.{field}": value for field, value in secrets_of(item).items()})
    return found


def wanted_keys(config: Config) -> list[str]:
    """Return the names of the keys that the host must hold, given or generated."""
    names = ["manifest.key"]
    if any(one.type == "dated" for one in config.stores):
        names.append("age.key")
    return names + [f"stores.{one.name}.password" for one in config.stores if one.type == "restic"]


def older(path: Path) -> list[Path]:
    """Return the keys that are read beside the one at `path`, as `NAME.*`: those that it replaced."""
    return sorted(path.parent.glob(f"{path.name}.*")) if path.name in ("manifest.key", "age.key") else []


def files(directory: Path) -> list[Path]:
    """Return the files of a directory of keys. Links are not ours to change, whatever they lead to."""
    found = sorted(directory.iterdir()) if directory.is_dir() else []
    return [one for one in found if one.is_file() and not one.is_symlink()]


def generate(directory: Path, name: str) -> None:
    """Make the key `name` in `directory`; an existing file is never touched."""
    private_dir(directory)
    path = directory / name
    if path.exists():
        return
    if name == "age.key":
        _, out, _ = process.run(["age-keygen"])
        write_atomic(path, out)
    else:
        write_atomic(path, secrets.token_hex(32).encode() + b"\n")


def ensure_identity(host: Host) -> str:
    """Return this machine's identity; it is made when there is none."""
    path = host.paths.etc / "identity"
    if not path.exists():
        write_atomic(path, f"{uuid.uuid4()}\n".encode())
    return host.identity


@dataclass(frozen=True)
class Kit:
    """The recovery kit: what opens this host's points on a machine that has nothing else."""

    host: str
    identity: str
    made: str
    config: dict[str, Any]
    keys: dict[str, str]
    version: int = KIT_VERSION

    def dump(self) -> dict[str, Any]:
        """Return the kit as JSON values. They are secret."""
        return {
            "restaura_kit": self.version,
            "host": self.host,
            "identity": self.identity,
            "made": self.made,
            "config": self.config,
            "keys": self.keys,
        }

    @classmethod
    def read(cls, path: Path) -> "Kit":
        """Read a kit; ConfigError says what is wrong with the file, without showing any of it."""
        try:
            data = json.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix="--kit FILE") from error
        except ValueError:
            fix = (
                f"ansible-vault decrypt {path}" if _is_vault(path) else "--kit FILE, as `restaura keys kit` printed it"
            )
            raise ConfigError("is not a plain recovery kit", where=str(path), fix=fix) from None
        if not isinstance(data, Mapping) or data.get("restaura_kit") != KIT_VERSION:
            raise ConfigError("is not a recovery kit this program reads", where=str(path), fix="--kit FILE")
        try:
            return cls(data["host"], data["identity"], data["made"], data["config"], data["keys"])
        except KeyError as error:
            raise ConfigError(f"is not whole: {error} is missing", where=str(path), fix="--kit FILE") from None

    def write_keys(self, directory: Path) -> list[str]:
        """Write the keys that are missing in `directory`, and return their names; a key that differs is an error."""
        private_dir(directory)
        for name in self.keys:
            if "/" in name or name.startswith("."):
                raise ConfigError(f"names a key {name!r} that is no file name", where="recovery kit")
        there = {name: (directory / name).read_text() for name in self.keys if (directory / name).exists()}
        differing = sorted(name for name, text in there.items() if text != self.keys[name])
        if differing:
            raise ConfigError(
                f"this host holds other keys of that name: {', '.join(differing)}",
                where=str(directory),
                fix=f"move them away (never delete a key), then try again: mv {directory / differing[0]} /root/",
            )
        missing = sorted(set(self.keys) - set(there))
        for name in missing:
            write_atomic(directory / name, self.keys[name].encode())
        return missing


def kit_of(host: Host) -> Kit:
    """Return the recovery kit of this host as it stands: the same, its time too, as long as nothing in it changes."""
    config = json.loads(host.paths.config.read_text())
    # A name with a dot is what a killed write or an editor left.
    files = [one for one in sorted(host.paths.keys.iterdir()) if one.is_file() and not one.name.startswith(".")]
    changed = max(one.stat().st_mtime for one in [host.paths.config, *files])
    made = datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
    return Kit(host.name, host.identity, made, config, {one.name: one.read_text() for one in files})


def _is_vault(path: Path) -> bool:
    return path.read_bytes().startswith(b"$ANSIBLE_VAULT;")
