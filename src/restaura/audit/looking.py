# SPDX-License-Identifier: GPL-3.0-or-later
"""How an audit looks at a host: below a root, never writing, never waiting, and remembering what it could not read."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from restaura.audit.model import Evidence

MOST_BYTES = 4_000_000
END_BYTES = 16_384
LINKS = 40


class Look:
    """Read access to the files of a host below `root`. Paths are the host's own, as `/etc/crontab`.

    `unreadable` collects what is there and could not be read, with the reason as a code in `detail`: `permission`,
    `binary`, `too_long`, `failed`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._unreadable: dict[str, Evidence] = {}

    @property
    def unreadable(self) -> tuple[Evidence, ...]:
        """What could not be read, by path."""
        return tuple(self._unreadable[path] for path in sorted(self._unreadable))

    def blame(self, path: str, why: str, kind: str = "file") -> None:
        """Remember that something could not be read."""
        self._unreadable.setdefault(path, Evidence("directory" if kind == "directory" else "file", path, None, why))

    def at(self, path: str) -> Path:
        """Return where a path of the host is. Links are followed below the root, never out of it."""
        if str(self.root) == "/":
            return Path(path)
        waiting, found, links = [*reversed(PurePosixPath(path).parts[1:])], PurePosixPath("/"), 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                found = found.parent
                continue
            here = self.root / str(found / part).lstrip("/")
            if links < LINKS and here.is_symlink():
                links += 1
                target = PurePosixPath(here.readlink())
                found = PurePosixPath("/") if target.is_absolute() else found
                waiting += [one for one in reversed(target.parts) if one != "/"]
            else:
                found /= part
        return self.root / str(found).lstrip("/")

    def status(self, path: str) -> os.stat_result | None:
        """Return what stat(2) says of a path, or None; that it could not be looked at is remembered."""
        try:
            return self.at(path).stat()
        except PermissionError:
            self.blame(path, "permission")
        except (OSError, ValueError):
            pass
        return None

    def text(self, path: str, *, most: int = MOST_BYTES, surely: bool = True) -> str | None:
        """Return a regular file's text, `most` bytes of it, or None when there is none or it could not be read as text.

        That it is no text is only remembered of a file that is `surely` one.
        """
        try:
            place = self.at(path)
            if not stat.S_ISREG(place.stat().st_mode):
                return None
            # Not to wait for a pipe that took the file's place.
            with os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                data = stream.read(most + 1)
        except PermissionError:
            self.blame(path, "permission")
            return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.blame(path, "failed")
            return None
        if b"\0" in data:
            if surely:
                self.blame(path, "binary")
            return None
        if len(data) > most and surely:
            self.blame(path, "too_long")
        return data[:most].decode("utf-8", "replace")

    def end(self, path: str, most: int = END_BYTES) -> str:
        """Return the end of a regular file's text; empty when there is none or it could not be read."""
        try:
            place = self.at(path)
            status = place.stat()
            if not stat.S_ISREG(status.st_mode):
                return ""
            with os.fdopen(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                stream.seek(max(0, status.st_size - most))
                return stream.read(most).decode("utf-8", "replace")
        except PermissionError:
            self.blame(path, "permission")
        except (OSError, ValueError):
            pass
        return ""

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        """Return a directory's entries by name; none when there is no such directory or it could not be read."""
        try:
            with os.scandir(self.at(directory)) as found:
                return sorted(found, key=lambda entry: entry.name)
        except PermissionError:
            self.blame(directory, "permission", "directory")
        except (OSError, ValueError):
            pass
        return []

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""
        return [entry.name for entry in self.entries(directory)]

    def homes(self) -> Iterator[tuple[str, str]]:
        """Yield the accounts that have a home, as (account, home)."""
        seen = set()
        for line in (self.text("/etc/passwd") or "root:x:0:0::/root:/bin/sh").splitlines():
            fields = line.split(":")
            if len(fields) > 5 and fields[5].startswith("/") and len(fields[5]) > 1:
                seen.add(fields[0])
                yield fields[0], fields[5]
        if "root" not in seen:
            yield "root", "/root"
