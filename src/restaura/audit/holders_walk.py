# SPDX-License-Identifier: GPL-3.0-or-later
"""Directory trees walked within limits: what lies in them, and what they weigh. What was left out is remembered."""

import contextlib
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from restaura.audit.holders_docker import COMPOSE_NAMES
from restaura.audit.holders_host import Machine
from restaura.audit.holders_kinds import marked
from restaura.audit.model import HolderKind
from restaura.sqlite import MAGIC
from restaura.trees.patterns import OWN_NAME

ENTRIES = 60_000
REFUSALS = 50
PATIENCE = 4
_SQLITE = re.compile(r".+\.(db|db3|s3db|sqlite|sqlite3)", re.IGNORECASE)
# Below these, a database is a cache or a tool's own.
_TOOLS = frozenset({".git", ".venv", "venv", "node_modules", "site-packages", "dist-packages", "__pycache__"})
# What stands at the top of a repository of Restaura, restic and borg: it holds copies.
_COPIES = (
    frozenset({"store.json"}),
    frozenset({"config", "data", "index", "keys", "snapshots"}),
    frozenset({"README", "config", "data", "nonce"}),
)


@dataclass
class Found:
    """What a tree holds: `bytes` on disk (None when not all could be walked), whether there are files of a person's.

    `databases` are data directories, with their kind: they were not entered.
    """

    bytes: int | None = 0
    files: bool = False
    databases: list[tuple[HolderKind, str]] = field(default_factory=list)
    sqlite: list[str] = field(default_factory=list)
    compose: list[str] = field(default_factory=list)


class Walker:
    """Walks within ENTRIES entries for each tree, and for all within `seconds` of work, PATIENCE times as long at most.

    Work counts, and not time alone: on a busy host as much is seen as on an idle one.
    """

    def __init__(self, machine: Machine, seconds: float, skip: frozenset[str] = frozenset()) -> None:
        self._machine, self._skip = machine, skip
        self._deadline, self._latest = time.thread_time() + seconds, time.monotonic() + PATIENCE * seconds
        self._refusals = 0

    def walk(self, top: str, *, look: bool = True) -> Found:
        """Walk a tree on one file system, breadth first, no link followed. Without `look`, only sizes are taken."""
        found, left, seen = Found(), ENTRIES, set[int]()
        device = self._status(top)
        waiting = deque([(top, "" if look else "/")])
        while waiting and device is not None:
            directory, hidden = waiting.popleft()
            blocks = 0
            names, here = set[str](), Found()
            folders: list[tuple[str, str]] = []
            for entry in self._entries(directory, found):
                left -= 1
                if left < 0 or (left % 500 == 0 and self._late()):
                    self._machine.look.blame(directory, "too_long", "directory")
                    found.bytes, waiting, folders = None, deque(), []
                    break
                status = self._lstat(entry)
                path = f"{directory.rstrip('/')}/{entry.name}"
                if status is None or status.st_dev != device or path in self._skip or OWN_NAME.search(path):
                    continue
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                    if status.st_ino in seen:
                        continue
                    seen.add(status.st_ino)
                blocks += status.st_blocks
                names.add(entry.name)
                if stat.S_ISDIR(status.st_mode):
                    folders.append((path, hidden or self._hidden(top, entry.name)))
                elif stat.S_ISREG(status.st_mode):
                    here.files = here.files or not (hidden or entry.name.startswith("."))
                    if not hidden:
                        self._file(here, path, entry.name, status)
            engine = None if hidden or directory == "/" else marked(names)
            if engine and engine.kind != "grafana":
                found.databases.append((engine.kind, directory))
                continue
            if any(one <= names for one in _COPIES):
                continue
            found.bytes = None if found.bytes is None else found.bytes + blocks * 512
            found.files = found.files or here.files
            found.sqlite += here.sqlite
            found.compose += here.compose
            waiting.extend(folders)
        return found

    def _late(self) -> bool:
        return time.thread_time() > self._deadline or time.monotonic() > self._latest

    def size(self, path: str) -> int | None:
        """Return the bytes on disk of a path and all below it; None when that would take too long or is forbidden."""
        status = self._machine.look.status(path)
        if status is None:
            return None
        if not stat.S_ISDIR(status.st_mode):
            return status.st_blocks * 512
        return self.walk(path, look=False).bytes

    @staticmethod
    def _hidden(top: str, name: str) -> str:
        """Return a directory's name when what is below it is a tool's or, in a home, a program's own; else nothing."""
        tool = name in _TOOLS or re.fullmatch(r"\..*cache", name)
        return name if tool or (name.startswith(".") and top.startswith(("/home/", "/root"))) else ""

    def _file(self, found: Found, path: str, name: str, status: os.stat_result) -> None:
        if name in COMPOSE_NAMES:
            found.compose.append(path)
        elif _SQLITE.fullmatch(name) and status.st_size >= len(MAGIC) and self._is_sqlite(path):
            found.sqlite.append(path)

    def _is_sqlite(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            place = self._machine.look.root / path.lstrip("/")
            with os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as one:
                return one.read(len(MAGIC)) == MAGIC
        self._machine.look.blame(path, "permission")
        return False

    def _entries(self, directory: str, found: Found) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._machine.look.root / directory.lstrip("/")) as entries:
                yield from entries
        except OSError:
            found.bytes = None
            self._refusals += 1
            if self._refusals <= REFUSALS:
                self._machine.look.blame(directory, "permission", "directory")

    def _status(self, path: str) -> int | None:
        status = self._machine.look.status(path)
        return status.st_dev if status else None

    @staticmethod
    def _lstat(entry: os.DirEntry[str]) -> os.stat_result | None:
        with contextlib.suppress(OSError):
            return entry.stat(follow_symlinks=False)
        return None
