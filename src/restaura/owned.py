# SPDX-License-Identifier: GPL-3.0-or-later
"""What setup owns on a host, compared with what it should be, and put back; each difference in words.

What setup wrote last is remembered in the host's state (SHA-256 of each file and key, the identity). So an edit by hand
is told from a new declaration, and a key that was lost from one that was never made.
"""

import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restaura.audit.secrecy import Secrets
from restaura.config.schema import HttpPause, Plan, Store
from restaura.paths import sync_dir, write_atomic
from restaura.sources import registry

SECRET = "(secret)"  # noqa: S105 - what is shown in the place of one
SHOWN = 8
LONGEST = 160


class Changes:
    """What differs from the declaration, as `before` and `after` texts that hold no secret, and as a sentence."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(self, what: str, before: str, after: str, said: str = "") -> None:
        """Record one difference; the sentence is made of the others when it is not given."""
        self.rows.append(
            {"what": what, "before": before, "after": after, "said": said or f"{what}: was {before}, is {after}"}
        )


class Remembered:
    """What the setup before this one left: `files` and `keys` by name with SHA-256, `identity`, and `config`."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        data = state.get("setup")
        data = data if isinstance(data, dict) else {}
        held = {name: value for name, value in data.items() if isinstance(value, dict)}
        self.files: dict[str, str] = held.get("files", {})
        self.keys: dict[str, str] = held.get("keys", {})
        identity = data.get("identity")
        self.identity = identity if isinstance(identity, str) else ""
        self.config: dict[str, Any] = held.get("config", {})

    def dump(self) -> dict[str, Any]:
        """Return it as JSON values for the state."""
        return {"files": self.files, "keys": self.keys, "identity": self.identity, "config": self.config}


def digest(data: bytes) -> str:
    """Return the SHA-256 that is remembered of a file or key."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file that setup writes, root's own, with a mode. An `opaque` one is told as a version, not as text.

    A `single` one must have no second name: Debian's cron reads no file that has one (NUMBER OF HARD LINKS > 1).
    """

    path: Path
    data: bytes
    mode: int
    opaque: bool = False
    single: bool = False

    @property
    def fingerprint(self) -> str:
        """What is remembered of it."""
        return digest(self.data)

    def compare(self, changes: Changes, remembered: Remembered) -> None:
        """Add what differs: the content, or else mode and owner."""
        there = _regular(self.path)
        if there is not None and not self.path.is_symlink():
            _compare_mode(self.path, self.mode, changes)
        if there == self.data:
            if self._shared():
                said = f"{self.path} had a second name (a hard link), so cron did not read it; it has one name again"
                changes.add(f"names of {self.path}", "several", "one", said)
            return
        known = remembered.files.get(str(self.path))
        after = self._shown(self.data)
        before = "" if there is None else self._shown(there, set(after.splitlines()))
        if there is None:
            said = _absent(self.path, known)
        elif digest(there) == known:
            said = f"{self.path} was brought up to date with the declaration"
        elif known is None:
            said = f"{self.path} was replaced: it was not written by setup"
        else:
            details = "" if self.opaque else _details(before, after)
            said = f"{self.path} had been changed by hand and was put back{details}"
        changes.add(str(self.path), before, after, said)

    def put(self) -> None:
        """Write what differs, and set mode and owner."""
        if _regular(self.path) != self.data or self._shared():
            write_atomic(self.path, self.data, self.mode)
        own(self.path, self.mode)

    def _shared(self) -> bool:
        return self.single and self.path.lstat().st_nlink > 1

    def _shown(self, data: bytes, known: Collection[str] = ()) -> str:
        if self.opaque:
            return f"version {digest(data)[:12]}\n"
        return mask(_struck(data.decode(errors="backslashreplace"), known))


@dataclass(frozen=True)
class Link:
    """A symbolic link that setup makes."""

    path: Path
    target: Path

    @property
    def fingerprint(self) -> str:
        """What is remembered of it."""
        return str(self.target)

    def compare(self, changes: Changes, remembered: Remembered) -> None:
        """Add what is in the link's place when that is not the link."""
        before = self._there()
        if before == f"link to {self.target}":
            return
        known = remembered.files.get(str(self.path))
        if before == "absent":
            said = _absent(self.path, known)
        elif known is None or before == f"link to {known}":
            said = f"{self.path} was brought up to date: it runs {self.target.name}"
        else:
            said = f"{self.path} had been replaced by hand ({before}) and was put back"
        changes.add(str(self.path), before, f"link to {self.target}", said)

    def put(self) -> None:
        """Flip the link; there is no moment without one."""
        if self._there() != f"link to {self.target}":
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.target)
            temporary.replace(self.path)
            sync_dir(self.path.parent)

    def _there(self) -> str:
        if self.path.is_symlink():
            return f"link to {self.path.readlink()}"
        return "another file" if self.path.exists() else "absent"


@dataclass(frozen=True)
class Directory:
    """A directory that setup makes, root's own, with a mode."""

    path: Path
    mode: int = 0o700

    def compare(self, changes: Changes) -> None:
        """Add that it is absent, or its mode and owner when they differ."""
        if not self.path.is_dir():
            changes.add(f"directory {self.path}", "absent", f"{self.mode:04o} root", f"{self.path} was made")
        else:
            _compare_mode(self.path, self.mode, changes)

    def put(self) -> None:
        """Make it, and set mode and owner."""
        self.path.mkdir(mode=self.mode, parents=True, exist_ok=True)
        own(self.path, self.mode)


def own(path: Path, mode: int) -> None:
    """Give a file or directory to root, with this mode."""
    os.chown(path, 0, 0)
    path.chmod(mode)


def compare_key_mode(path: Path, changes: Changes) -> None:
    """Add mode and owner of a key when others than root can read it."""
    _compare_mode(path, 0o600, changes, "key ")


def mask(text: str) -> str:
    """Return a configuration without the values of secret settings, which somebody may have written into it by hand."""
    kinds = (Store, Plan, HttpPause, *(one.options for one in registry().values()))
    secret = {one.name for kind in kinds for one in dataclasses.fields(kind) if one.metadata.get("secret")}
    pattern = rf'("(?:{"|".join(sorted(secret))})"\s*:\s*)"(?:[^"\\]|\\.)*"?'
    return re.sub(pattern, rf'\1"{SECRET}"', text)


def _struck(text: str, known: Collection[str]) -> str:
    """Return a text without what looks like a secret in lines that are not `known`: those somebody wrote by hand."""
    secrets = Secrets()
    for line in text.splitlines() if known else []:
        if line not in known:
            secrets.search(line, "")
    return secrets.mask(text)


def _regular(path: Path) -> bytes | None:
    """Return a file's content; None when there is none. A link in its place is another file, whatever it leads to."""
    if path.is_symlink():
        return f"link to {path.readlink()}".encode()
    return path.read_bytes() if path.is_file() else None


def _compare_mode(path: Path, mode: int, changes: Changes, kind: str = "") -> None:
    found = path.stat()
    if (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (mode, 0, 0):
        return
    before = f"{stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid}"
    said = f"mode and owner of {kind}{path} were {before}, and are {mode:04o}, root again"
    changes.add(f"mode of {kind}{path}", before, f"{mode:04o}, owner 0:0", said)


def _absent(path: Path, known: str | None) -> str:
    return f"{path} was written" if known is None else f"{path} had been deleted and was written again"


def _details(before: str, after: str) -> str:
    """Return what an edit by hand had done, as lines below a sentence."""
    try:
        found = list(_json_details(json.loads(before), json.loads(after)))
    except ValueError:
        found = list(_line_details(before.splitlines(), after.splitlines()))
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "".join(f"\n  - {one[:LONGEST]}" for one in [*found[:SHOWN], *more])


def _line_details(before: list[str], after: list[str]) -> Iterator[str]:
    commented = {line.lstrip("#; \t"): line for line in before if line.lstrip().startswith(("#", ";"))}
    told = set()
    for line in after:
        if line.strip() and line not in before:
            if line in commented:
                told.add(commented[line])
                yield f"commented out: {line}"
            else:
                yield f"missing or edited: {line}"
    for line in before:
        if line.strip() and line not in after and line not in told:
            yield f"not Restaura's: {line}"


def _json_details(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yield every value that differs, by its place; items of lists go by their names."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(key for key in before if key not in after)]:
            place = f"{where}.{key}" if where else str(key)
            if key not in before:
                yield f"{place} was missing"
            elif key not in after:
                yield f"{place} was added"
            else:
                yield from _json_details(before[key], after[key], place)
    elif (left := _named(before)) is not None and (right := _named(after)) is not None:
        for name in [*right, *(name for name in left if name not in right)]:
            place = f"{where}[{name}]"
            if name not in left:
                yield f"{place} was missing"
            elif name not in right:
                yield f"{place} was added"
            else:
                yield from _json_details(left[name], right[name], place)
    elif before != after:
        yield f"{where} was {json.dumps(before)}, is {json.dumps(after)}"


def _named(value: Any) -> dict[str, Any] | None:
    """Return a list's items by their names; None when it is no list of named items."""
    if isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value):
        return {str(one["name"]): one for one in value}
    return None
