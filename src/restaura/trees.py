# SPDX-License-Identifier: GPL-3.0-or-later
"""File trees: scanned into an index, settled against what a store kept of them, compared after a restore."""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal

EntryType = Literal["file", "dir", "link", "fifo", "socket", "char", "block"]


@dataclass(frozen=True)
class Entry:
    """One entry of a tree. `path` is relative to the tree's base; bytes that are not UTF-8 are surrogates (PEP 383).

    `hard_link` is the first path (in index order) of the same inode, for the others of its group. `whole` is False
    for a file that changed while it was read: then only path, type, size and content are known to be as stored.
    """

    path: str
    type: EntryType
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0
    link: str = ""
    hard_link: str = ""
    xattrs: dict[str, bytes] = field(default_factory=dict)
    sha256: str = ""
    rdev: int = 0
    whole: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {**asdict(self), "xattrs": {k: base64.b64encode(v).decode() for k, v in self.xattrs.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Entry":
        """Build an entry from JSON values."""
        return cls(**{**data, "xattrs": {k: base64.b64decode(v) for k, v in data["xattrs"].items()}})


@dataclass
class Index:
    """The entries of a tree in path order (parents first), and what could not be taken as it stood.

    `vanished`, `changed` (whole all the same: grown, or replaced) and `torn` (neither old nor new nor a prefix) are
    paths. `unreadable` maps a path to the reason.
    """

    entries: list[Entry]
    vanished: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def dump(self) -> Iterator[bytes]:
        """Yield the index as JSON lines: a header, then one entry a line."""
        header = {"version": 1, "vanished": self.vanished, "changed": self.changed, "torn": self.torn}
        yield json.dumps({**header, "unreadable": self.unreadable}).encode() + b"\n"
        for entry in self.entries:
            yield json.dumps(entry.to_json()).encode() + b"\n"

    @classmethod
    def load(cls, lines: Iterable[bytes] | IO[bytes]) -> "Index":
        """Read what `dump` wrote."""
        rows = iter(lines)
        header = json.loads(next(rows))
        header.pop("version")
        return cls(entries=[Entry.from_json(json.loads(row)) for row in rows], **header)
