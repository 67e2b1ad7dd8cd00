# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unpacked tree still lacks is put on from its index: owners by name, modes, ACLs, attributes, times.

The tree is hostile until compared: everything goes through directory descriptors and no link is ever followed.
"""

import contextlib
import grp
import os
import pwd
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from restaura.errors import DamagedError, SourceError
from restaura.trees.index import Entry, Index
from restaura.trees.scanning import (
    ACL_GROUP,
    ACL_USER,
    ACL_XATTRS,
    DIRECTORY,
    TYPES,
    acl_entries,
    group_name,
    read_xattrs,
    user_name,
)

PRIVILEGED = "security.capability"
SET_ID = stat.S_ISUID | stat.S_ISGID
# Ids for names that this host does not know and whose numbers are other accounts' here: the last that Debian gives out
# (policy 9.2.2). The same number gets the same one in each place that a restore unpacks into.
SPARE, SPARES = 59_000, 1_000


@dataclass
class Applied:
    """What was put on. `users` and `groups` say how this host's ids are to be read to compare with the index."""

    notes: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Applied") -> None:
        """Take in what was put on in another place."""
        self.notes += [one for one in other.notes if one not in self.notes]
        self.users.update(other.users)
        self.groups.update(other.groups)


class Names:
    """Turns the owners of an index into this host's ids: by name; an unknown name gets a number of nobody here."""

    def __init__(self, index: Index) -> None:
        self._users: dict[tuple[int, str], int] = {}
        self._groups: dict[tuple[int, str], int] = {}
        self._index = index
        self.notes: list[str] = []
        for entry in index.entries:
            self.user(entry.uid, entry.user)
            self.group(entry.gid, entry.group)
        for number, name in index.users.items():
            self.user(int(number), name)
        for number, name in index.groups.items():
            self.group(int(number), name)

    def user(self, uid: int, name: str) -> int:
        """Return this host's id for a user."""
        if (uid, name) not in self._users:
            try:
                self._users[uid, name] = pwd.getpwnam(name).pw_uid if name else uid
            except KeyError:
                self._users[uid, name] = self._unknown("user", name, uid, user_name)
        return self._users[uid, name]

    def group(self, gid: int, name: str) -> int:
        """Return this host's id for a group."""
        if (gid, name) not in self._groups:
            try:
                self._groups[gid, name] = grp.getgrnam(name).gr_gid if name else gid
            except KeyError:
                self._groups[gid, name] = self._unknown("group", name, gid, group_name)
        return self._groups[gid, name]

    def _unknown(self, kind: str, name: str, number: int, name_here: Callable[[int], str]) -> int:
        """Note a name that is not known here and return its number, or where that is another's here a spare one."""
        here, found = name_here(number), number
        if here:
            spares = (SPARE + (number + step) % SPARES for step in range(SPARES))
            found = next((one for one in spares if not name_here(one)), number)
        taken = f"; {number} is {here!r} here" if here else ""
        self.notes.append(f"the {kind} {name!r} is not known on this host: its files carry the number {found}{taken}")
        return found

    def acl(self, value: bytes) -> bytes:
        """Return a POSIX ACL with this host's ids."""
        rules = []
        for tag, rights, number in acl_entries(value):
            here = number
            if tag == ACL_USER:
                here = self.user(number, self._index.users.get(str(number), ""))
            elif tag == ACL_GROUP:
                here = self.group(number, self._index.groups.get(str(number), ""))
            rules.append((tag, rights, here))
        return value[:4] + b"".join(
            struct.pack("<HHI", *one) for one in sorted(rules, key=lambda one: (one[0], one[2]))
        )

    def readings(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return how ids of this host are to be read: what the index calls them, where that is unmistakable."""
        return _reading(self._users, user_name), _reading(self._groups, group_name)


def apply(index: Index, destination: Path) -> Applied:
    """Make the tree below `destination` as `index` has it; files and links must be there already.

    Missing directories and fifos are made. Names that this host does not know keep their number, or get a spare one
    where it is another's here, and are noted. Set-user-id bits and capabilities come last and are noted. Raises
    DamagedError when an entry is missing or of another type, SourceError when an attribute cannot be put on.
    """
    names = Names(index)
    base = os.open(destination, DIRECTORY)
    privileged: list[Entry] = []
    try:
        for entry in index.entries:
            if entry.type in ("socket", "char", "block"):
                continue
            with _parent(base, entry.path) as (parent, name):
                _present(parent, name, entry, destination)
                if not entry.hard_link:
                    _put_on(parent, name, entry, names)
            if (entry.mode & SET_ID and entry.type == "file") or PRIVILEGED in entry.xattrs:
                privileged.append(entry)
        for entry in privileged:
            with _parent(base, entry.path) as (parent, name):
                _put_on_privilege(parent, name, entry)
        for entry in reversed(index.entries):
            if entry.type == "dir":
                with _parent(base, entry.path) as (parent, name):
                    _set_times(parent, name, entry)
    finally:
        os.close(base)
    users, groups = names.readings()
    return Applied(names.notes + _notes(index, privileged), users, groups)


def read_as(index: Index, applied: Applied) -> Index:
    """Return the index of a restored tree with owners called as the restored index calls them."""
    if not applied.users and not applied.groups:
        return index
    entries = [
        replace(
            one,
            user=applied.users.get(str(one.uid), one.user),
            group=applied.groups.get(str(one.gid), one.group),
        )
        for one in index.entries
    ]
    users = {number: applied.users.get(number, name) for number, name in index.users.items()}
    groups = {number: applied.groups.get(number, name) for number, name in index.groups.items()}
    return replace(index, entries=entries, users=users, groups=groups)


def apply_attributes(path: Path, entry: Entry) -> None:
    """Give one directory or file the attributes of `entry`, by numeric ids; links are not followed."""
    parent = os.open(path.parent, DIRECTORY)
    try:
        _put_on(parent, path.name, entry, None)
        _put_on_privilege(parent, path.name, entry)
        _set_times(parent, path.name, entry)
    finally:
        os.close(parent)


@contextlib.contextmanager
def _parent(base: int, path: str) -> Iterator[tuple[int, str]]:
    """Yield the descriptor of the directory that holds `path`, and the last name."""
    *parents, name = path.split("/")
    descriptor = os.dup(base)
    try:
        for part in parents:
            inner = os.open(part, DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    except OSError as error:
        if error.filename is None:
            raise
        raise SourceError(f"cannot be restored: {error.strerror}", where=f"/{path}") from error
    finally:
        os.close(descriptor)


def _present(parent: int, name: str, entry: Entry, destination: Path) -> None:
    try:
        found = TYPES[stat.S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)]
    except FileNotFoundError:
        if entry.type == "dir":
            os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.type == "fifo":
            os.mkfifo(name, 0o600, dir_fd=parent)
        else:
            raise DamagedError("was not unpacked", where=str(destination / entry.path)) from None
        return
    if found != entry.type:
        raise DamagedError(f"is a {found}, not a {entry.type}", where=str(destination / entry.path))


def _put_on(parent: int, name: str, entry: Entry, names: Names | None) -> None:
    """Put owner, attributes, mode and (but for a directory) times on; nothing that gives privileges yet."""
    uid = names.user(entry.uid, entry.user) if names else entry.uid
    gid = names.group(entry.gid, entry.group) if names else entry.gid
    # Also takes away set-id bits and capabilities that the store's own client may have put on.
    os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    path = f"/proc/self/fd/{parent}/{name}"
    wanted = {
        key: names.acl(value) if names and key in ACL_XATTRS else value
        for key, value in entry.xattrs.items()
        if key != PRIVILEGED
    }
    found = read_xattrs(path)
    for key in found.keys() - wanted.keys():
        os.removexattr(path, key, follow_symlinks=False)
    for key, value in wanted.items():
        if found.get(key) != value:
            try:
                os.setxattr(path, key, value, follow_symlinks=False)
            except OSError as error:
                what = f"the extended attribute {key} cannot be set: {error.strerror}"
                raise SourceError(what, where=f"/{entry.path}", fix="restore to a file system that keeps it") from error
    if entry.type != "link":
        # chmod follows links, but this is none, in a directory that only root can write to.
        Path(path).chmod(entry.mode & ~SET_ID if entry.type == "file" else entry.mode)
    if entry.type != "dir":
        _set_times(parent, name, entry)


def _put_on_privilege(parent: int, name: str, entry: Entry) -> None:
    path = f"/proc/self/fd/{parent}/{name}"
    if entry.type == "file" and entry.mode & SET_ID:
        Path(path).chmod(entry.mode)
    if PRIVILEGED in entry.xattrs:
        os.setxattr(path, PRIVILEGED, entry.xattrs[PRIVILEGED], follow_symlinks=False)


def _set_times(parent: int, name: str, entry: Entry) -> None:
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _notes(index: Index, privileged: list[Entry]) -> list[str]:
    said = [f"privileged: /{one.path} (mode {one.mode:04o})" for one in privileged if one.mode & SET_ID]
    said += [f"privileged: /{one.path} (capabilities)" for one in privileged if PRIVILEGED in one.xattrs]
    for kind, reason in (("socket", "made anew by its program"), ("char", "never made"), ("block", "never made")):
        paths = [one.path for one in index.entries if one.type == kind]
        if paths:
            said.append(f"{len(paths)} of type {kind} not restored ({reason}): /{paths[0]}")
    return said


def _reading(ids: dict[tuple[int, str], int], name_here: Callable[[int], str]) -> dict[str, str]:
    called: dict[int, set[str]] = {}
    for (_, name), number in ids.items():
        called.setdefault(number, set()).add(name)
    found = {}
    for number, names in called.items():
        own, only = name_here(number), next(iter(names))
        # A number that another account has here is that account's: read otherwise, a wrong owner would compare equal.
        if len(names) == 1 and only != own and not (own and only):
            found[str(number)] = only
    return found
