# SPDX-License-Identifier: GPL-3.0-or-later
"""The index of a tree: its entries, what could not be taken as it stood, and its form as JSON lines."""

import base64
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import IO, Any, Literal

# What most entries have; nobody changes an entry's attributes.
NO_XATTRS: dict[str, bytes] = {}

EntryType = Literal["file", "dir", "link", "fifo", "socket", "char", "block"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tree. `path` is relative to the tree's base; bytes that are not UTF-8 are surrogates (PEP 383).

    `hard_link` is the first path (in index order) of the same inode, for the others of its group. `whole` is False
    for what is known by path, type, size and content alone: a file that changed while it was read, and a directory
    above the tree's roots. `size` is 0 for all but files and links.
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
        """Return the entry as JSON values, defaults left out."""
        data = {name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default}
        if self.xattrs:
            data["xattrs"] = {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Entry":
        """Build an entry from JSON values."""
        # Owners are few, entries may be a great many.
        told = {**data, "user": sys.intern(data["user"]), "group": sys.intern(data["group"])}
        found = {name: base64.b64decode(value) for name, value in data.get("xattrs", {}).items()}
        return cls(**{**told, "xattrs": found or NO_XATTRS})


# Fields without a default are always written: nothing equals MISSING.
_DEFAULTS: dict[str, Any] = {one.name: {} if one.name == "xattrs" else one.default for one in fields(Entry)}


@dataclass
class Index:
    """The entries of a tree in path order (parents first), and what could not be taken as it stood.

    `vanished`, `changed` (whole all the same: grown, or replaced) and `torn` (neither old nor new nor a prefix) are
    paths. `unreadable` maps a path to the reason. `roots` are the paths that were asked for; the directories above
    them are entries too. `users` and `groups` name the numeric ids that ACLs mention. `started_ns` is when the scan
    began (Unix time).
    """

    entries: list[Entry]
    vanished: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    started_ns: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of file sizes, hard-linked files counted once."""
        return sum(one.size for one in self.entries if one.type == "file" and not one.hard_link)

    def dump(self) -> Iterator[bytes]:
        """Yield the index as JSON lines: a header, then one entry a line."""
        header = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "entries"}
        yield json.dumps({"version": 1, **header}).encode() + b"\n"
        for entry in self.entries:
            yield json.dumps(entry.to_json()).encode() + b"\n"

    @classmethod
    def load(cls, lines: Iterable[bytes] | IO[bytes]) -> "Index":
        """Read what `dump` wrote."""
        rows = iter(lines)
        header = json.loads(next(rows))
        header.pop("version")
        return cls(entries=[Entry.from_json(json.loads(row)) for row in rows], **header)


def below(path: str, roots: Collection[str]) -> bool:
    """Whether the relative `path` is one of `roots` or lies below one."""
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def above(paths: Iterable[str]) -> set[str]:
    """Return every directory above `paths`, the base itself left out."""
    found: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


def subset(index: Index, paths: Sequence[str]) -> Index:
    """Return the index of the entries at and below `paths`, with the directories above them (not whole)."""
    parents = above(paths)
    entries = []
    for entry in index.entries:
        if below(entry.path, paths):
            entries.append(entry)
        elif entry.path in parents:
            entries.append(replace(entry, whole=False))
    kept = {one.path for one in entries}
    return replace(
        index,
        entries=regroup(entries),
        changed=[one for one in index.changed if one in kept],
        torn=[one for one in index.torn if one in kept],
        vanished=[one for one in index.vanished if below(one, paths)],
        unreadable={path: why for path, why in index.unreadable.items() if below(path, paths)},
        roots=list(paths),
    )


def merge(first: Index, second: Index | None) -> Index:
    """Return both trees as one, with the first's roots.

    Of two entries of a path, a whole file of the second wins. What the second says has vanished is left out where the
    first has it torn.
    """
    if second is None:
        return first
    newer = {one.path for one in second.entries if one.whole and one.type == "file"}
    newer |= {*second.vanished} & {*first.torn}
    older = {one.path for one in first.entries} - newer
    entries = [one for one in first.entries if one.path in older]
    entries += [one for one in second.entries if one.path not in older]
    return replace(
        first,
        entries=sorted(entries, key=lambda one: one.path),
        vanished=[one for one in first.vanished if one not in newer] + second.vanished,
        changed=sorted({*first.changed, *({*first.torn} & newer), *second.changed}),
        torn=[one for one in first.torn if one not in newer] + second.torn,
        unreadable={**first.unreadable, **second.unreadable},
        users={**second.users, **first.users},
        groups={**second.groups, **first.groups},
    )


def regroup(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries with every hard-link group named by its first path among them, after some were left out."""
    first: dict[str, str] = {}
    found = []
    for entry in entries:
        group = entry.hard_link or entry.path
        leader = first.setdefault(group, entry.path)
        link = "" if leader == entry.path else leader
        found.append(entry if entry.hard_link == link else replace(entry, hard_link=link))
    return found
