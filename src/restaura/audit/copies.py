# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups produced, as found where they write: newest files, their sizes, ages, and who may read them."""

import os
import re
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from restaura.audit.jobs import moment
from restaura.audit.looking import Look
from restaura.audit.model import Copy, Evidence
from restaura.audit.shell import UNKNOWN

DEEP = 3
FAR_SECONDS = 3.0
MOST_ENTRIES = 5000
MOST_COPIES = 60
MIRROR_FILES = 40
# File systems that lie on other machines.
NETWORK = re.compile(
    r"nfs\d?|cifs|smb3|smbfs|ceph|glusterfs|afs|davfs|fuse\.(sshfs|rclone|s3fs|s3ql|goofys|davfs|gluster\w*)"
)
FAILED = re.compile(
    r"\b(error|errors|failed|failure|fatal|cannot|can't|unable|denied|refused|timed? out|no space left|traceback"
    r"|abort\w*|terminating|rc [12])\b",
    re.IGNORECASE,
)
HARMLESS = re.compile(r"\b(0|no|without) (errors?|failures?)|errors?:\s*0\b|\bsuccess", re.IGNORECASE)
LAST_LINES = 6
# The name of a folder that holds one day's, or one turn's, copy.
DATE = re.compile(r"\d{4}[-_.]?\d\d[-_.]?\d\d|^(daily|weekly|monthly|hourly)[._-]\d+$")


class Copies:
    """Finds what there is at the places that backups write to."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._walked: dict[str, list[tuple[str, os.stat_result]]] = {}
        self._mounts = sorted(self._read_mounts(), reverse=True)

    def of(self, writes: list[str]) -> tuple[list[Copy], bool]:
        """Return the copies at host paths and patterns, newest first, and whether all the places could be looked at."""
        found: dict[str, Copy] = {}
        seen = True
        for one in writes:
            if not one.startswith("/"):
                seen = False
                continue
            found |= {copy.where: copy for copy in (self._at(one) if not self.on_network(one) else self._far(one))}
            seen = seen and self._base(one) != "/" and not self._is_closed(self._base(one))
        newest = sorted(found.values(), key=lambda copy: (copy.at, copy.where), reverse=True)
        return newest[:MOST_COPIES], seen

    def _is_closed(self, base: str) -> bool:
        """Whether a place, one above it or one below it could not be looked at."""
        closed = [one.where.rstrip("/") for one in self.look.unreadable]
        return any(f"{base}/".startswith(f"{one}/") or one.startswith(f"{base}/") for one in closed)

    def on_network(self, path: str) -> bool:
        """Whether a path lies on another machine's disk."""
        for place, kind in self._mounts:
            if path == place or path.startswith(place.rstrip("/") + "/"):
                return bool(NETWORK.fullmatch(kind))
        return False

    def failures(self, log: str) -> tuple[Evidence, ...]:
        """Return a log whose end says that something failed, without what it says."""
        lines = [line for line in self.look.end(log).split("\n") if line.strip()]
        for line in reversed(lines[-LAST_LINES:]):
            if HARMLESS.search(line):
                return ()
            if FAILED.search(line):
                return (Evidence("file", log, None, "says_it_failed"),)
        return ()

    def written(self, path: str) -> str | None:
        """Return when a file was last written."""
        status = self.look.status(path)
        return moment(status.st_mtime) if status else None

    def restic_caches(self, home: str) -> list[Copy]:
        """Return the snapshots that restic keeps in its cache, when all are of one repository.

        The cache does not name the repository, so that of several none can be told from another.
        """
        base = f"{home}/.cache/restic"
        repositories = [name for name in self.look.names(base) if len(name) == 64]
        if len(repositories) != 1:
            return []
        return self._snapshots(f"{base}/{repositories[0]}/snapshots")

    def borg_records(self, home: str, repository: str) -> tuple[list[Copy], bool | None]:
        """Return when borg last wrote to a repository from here, and whether it is encrypted, by borg's own records."""
        base = f"{home}/.config/borg/security"
        wanted = _plain(repository)
        for name in self.look.names(base):
            if _plain((self.look.text(f"{base}/{name}/location") or "").strip()) != wanted:
                continue
            written = (self.look.text(f"{base}/{name}/manifest-timestamp") or "").strip()
            kind = (self.look.text(f"{base}/{name}/key-type") or "").strip()
            try:
                at = datetime.fromisoformat(written).replace(tzinfo=UTC).isoformat(timespec="seconds")
            except ValueError:
                continue
            # borg.crypto.key: 2 is no encryption, 6 and 7 only authenticate.
            return [Copy(repository, at)], kind not in ("2", "6", "7") if kind else None
        return [], None

    def _far(self, pattern: str) -> list[Copy]:
        """Return the copies on a network file system, or none when it does not answer: it may hang for good."""
        found: list[Copy] = []
        looking = threading.Thread(target=lambda: found.extend(self._at(pattern)), daemon=True)
        looking.start()
        looking.join(FAR_SECONDS)
        if looking.is_alive():
            self.look.blame(self._base(pattern), "remote", "directory")
            return []
        return found

    def _at(self, pattern: str) -> Iterator[Copy]:
        base = self._base(pattern)
        if base == "/":
            return
        status = self.look.status(base)
        if status is None:
            return
        whole = base == pattern.rstrip("/")
        names = set(self.look.names(base)) if stat.S_ISDIR(status.st_mode) else set[str]()
        if {"config", "snapshots", "keys"} <= names:
            yield from self._snapshots(f"{base}/snapshots")
        elif {"config", "data", "README"} <= names:
            yield from self._borg_repository(base, names)
        elif whole and names:
            yield from self._directory(base)
        else:
            # A file may be compressed, encrypted or rotated after it was written.
            parent = base if names and not whole else base.rpartition("/")[0] or "/"
            yield from self._matching(parent, pattern)

    @staticmethod
    def _base(pattern: str) -> str:
        """Return the part of a pattern that is the same for all."""
        if UNKNOWN not in pattern:
            return pattern.rstrip("/") or "/"
        return pattern[: pattern.index(UNKNOWN)].rpartition("/")[0] or "/"

    def _matching(self, parent: str, pattern: str) -> Iterator[Copy]:
        if parent == "/":
            return
        wanted = re.compile(
            ".*".join(map(re.escape, re.split(r"\*+", pattern.rstrip("/")))) + r"([./_-].*)?", re.DOTALL
        )
        deep = pattern.rstrip("/").count("/")
        folders: dict[str, list[tuple[str, os.stat_result]]] = {}
        for path, status in self._walk(parent):
            if stat.S_ISREG(status.st_mode) and wanted.fullmatch(path):
                if path.count("/") > deep:  # what is written is a folder, with all that is in it
                    folders.setdefault("/".join(path.split("/")[: deep + 1]), []).append((path, status))
                else:
                    yield self._copy(path, status)
        for folder, held in folders.items():
            yield self._folder(folder, held, max(status.st_mtime for _, status in held))

    def _directory(self, base: str) -> Iterator[Copy]:
        """Return a directory's files as copies, each folder of a date as one, or a mirror of a tree as one."""
        files = [(path, status) for path, status in self._walk(base) if stat.S_ISREG(status.st_mode)]
        dated: dict[str, list[tuple[str, os.stat_result]]] = {}
        for path, status in files:
            top, below, _ = path[len(base) :].strip("/").partition("/")
            if below and DATE.search(top):
                dated.setdefault(f"{base}/{top}", []).append((path, status))
        loose = [one for one in files if not any(one[0].startswith(f"{folder}/") for folder in dated)]
        for folder, held in dated.items():
            yield self._folder(folder, held, max(status.st_mtime for _, status in held))
        if len(loose) <= MIRROR_FILES:
            for path, status in loose:
                yield self._copy(path, status)
        elif not dated:
            # A mirror keeps the times of what it mirrors: when it was written itself, the change time knows.
            yield self._folder(base, loose, max(max(status.st_mtime, status.st_ctime) for _, status in loose))

    def _folder(self, path: str, files: list[tuple[str, os.stat_result]], written: float) -> Copy:
        open_to_all = any(status.st_mode & 0o004 for _, status in files) and self._passable(f"{path}/x")
        total = sum(status.st_size for _, status in files)
        readable = all(status.st_mode & 0o400 for _, status in files)
        return Copy(path, moment(written), total, open_to_all, readable, files[0][1].st_dev)

    def _snapshots(self, base: str) -> list[Copy]:
        return [
            Copy(path, moment(status.st_mtime), None, disk=status.st_dev)
            for path, status in self._walk(base)
            if stat.S_ISREG(status.st_mode)
        ]

    def _borg_repository(self, base: str, names: set[str]) -> Iterator[Copy]:
        """Return one copy: borg writes its index anew with every archive."""
        marks = [name for name in names if re.match(r"(index|hints|integrity)\.\d+$", name)]
        found = [status for name in marks if (status := self.look.status(f"{base}/{name}"))]
        if found:
            newest = max(found, key=lambda status: status.st_mtime)
            yield Copy(base, moment(newest.st_mtime), None, disk=newest.st_dev)

    def _walk(self, base: str) -> list[tuple[str, os.stat_result]]:
        """Return what lies below a directory but directories; each is walked once."""
        if base not in self._walked:
            self._walked[base] = list(self._entries(base))
        return self._walked[base]

    def _entries(self, base: str) -> Iterator[tuple[str, os.stat_result]]:
        waiting, counted = [(base, 0)], 0
        while waiting:
            directory, depth = waiting.pop()
            for entry in self.look.entries(directory):
                counted += 1
                if counted > MOST_ENTRIES:
                    return
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                path = f"{directory.rstrip('/')}/{entry.name}"
                if stat.S_ISDIR(status.st_mode):
                    if depth < DEEP:
                        waiting.append((path, depth + 1))
                else:
                    yield path, status

    def _copy(self, path: str, status: os.stat_result) -> Copy:
        return Copy(
            path,
            moment(status.st_mtime),
            status.st_size,
            world_readable=bool(status.st_mode & 0o004) and self._passable(path),
            owner_readable=bool(status.st_mode & 0o400),
            disk=status.st_dev,
        )

    def _passable(self, path: str) -> bool:
        """Whether every directory above a path lets everybody through."""
        parts = path.split("/")[1:-1]
        above = ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]
        return all((status := self.look.status(one)) is not None and status.st_mode & 0o001 for one in above)

    def _read_mounts(self) -> Iterator[tuple[str, str]]:
        for line in (self.look.text("/proc/mounts", surely=False) or "").splitlines():
            fields = line.split(" ")
            if len(fields) > 2:
                yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[1]), fields[2]


def _plain(repository: str) -> str:
    """Return a repository's address without account and `./`, as two spellings of one are compared."""
    text = re.sub(r"^(ssh://)?([\w.+-]+@)?", "", repository)
    return re.sub(r":\d+/", "/", text).replace("/./", "/").replace("/~/", "/").replace(":", "/", 1).replace("//", "/")
