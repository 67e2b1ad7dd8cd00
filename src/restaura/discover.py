# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that nobody described holds: its configuration, its application trees, its running Postgres clusters.

The declaration stays the same while the host's disks, users and running servers do, so that setup run twice changes
nothing: what is left out is named by patterns, not by what happens to be there. Only three things are left out of the
trees: caches and toolchains that their own tools bring back, the data of container engines, and the data of database
servers that run, which cannot be copied as files. Each that is there is told in `notes`, with its size.
"""

import contextlib
import glob
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restaura.config.schema import NAME
from restaura.errors import SpaceError
from restaura.output import size
from restaura.paths import Paths

APPLICATIONS = ("srv", "opt", "var/www", "home", "root", "usr/local")
HOMES = ("root", "home/*")
STORE = "var/backups/restaura"
LARGEST = 10

# Below a home. What a tool fetched and fetches again; a program's own state is never here.
CACHES = (
    ".cache",
    ".npm/_cacache",
    ".cargo/registry",
    ".rustup/toolchains",
    ".pyenv/versions",
    ".nvm/versions",
    ".gradle/caches",
    "go/pkg/mod",
    ".ansible/tmp",
)
ENGINES = (".local/share/docker", ".local/share/containers")
# A file that stands at the top of a server's data directory: Postgres, MySQL and MariaDB, MongoDB.
DATA_MARKERS = {"PG_VERSION", "ibdata1", "WiredTiger"}


@dataclass(frozen=True)
class Discovery:
    """What was found. `components` is the `components` section of a declaration; all sizes are bytes on disk.

    `bytes` is what a first copy would take at most, `free` what is free where it would go, `stored` what the store
    there already holds, `largest` the biggest paths, biggest first; `notes` say what is not protected, and why.
    """

    components: dict[str, list[dict[str, Any]]]
    bytes: int
    free: int
    stored: int = 0
    largest: list[tuple[str, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def require_room(self) -> None:
        """Raise SpaceError, naming the largest paths, when all this would need more than half of the free space.

        What the store holds already counts as free: it was room for this very data.
        """
        if self.bytes > (self.free + self.stored) // 2:
            largest = "".join(f"\n    {size(count):>10}  {path}" for path, count in self.largest)
            raise SpaceError(
                f"backing up what was found would take {size(self.bytes)}, more than half of the "
                f"{size(self.free + self.stored)} that a local store may use. The largest:{largest}",
                where="discovery",
                fix="declare what to back up (backup_files_components) or another store (backup_runtime_stores)",
            )


def discover(paths: Paths, stores: Sequence[Path] = ()) -> Discovery:
    """Look at this host, and change nothing. `stores` are the directories of local stores; empty: the default one."""
    stores = stores or (paths.root / STORE,)
    scan = _Scan([*paths.own(), *stores])
    clusters, data, notes = _clusters(paths)
    for path, why in data.items():
        scan.leave_out(path, why)
    scan.leave_out_patterns(paths)
    roots = [paths.root / one for one in APPLICATIONS if _holds_something(paths.root / one)]
    files: list[dict[str, Any]] = []
    if (paths.root / "etc").is_dir():
        files.append({"name": "system", "paths": [str(paths.root / "etc")], "secret": True})
        scan.tree(paths.root / "etc")
    for root in roots:
        scan.tree(root)
    if roots:
        exclude = [one for one in scan.patterns if any(one.startswith(f"{root}/") for root in map(str, roots))]
        # A kit beside the backups it opens would be found by whoever finds them.
        exclude.append("recovery_kits/")
        files.append({"name": "applications", "paths": [str(root) for root in roots], "exclude": exclude})
    for path in data:
        scan.sizes[str(path)] += _size(path)
    found = {"files": files, "postgres": clusters}
    return Discovery(
        components={kind: ones for kind, ones in found.items() if ones},
        bytes=sum(scan.sizes.values()),
        free=min(shutil.disk_usage(_existing(one)).free for one in stores),
        stored=sum(_size(one) for one in stores),
        largest=[(path, count) for path, count in scan.sizes.most_common(LARGEST) if count],
        notes=notes + scan.notes,
    )


class _Scan:
    """A walk that sums sizes by path, and leaves out what is no file of an application."""

    def __init__(self, own: Iterable[Path]) -> None:
        self.sizes: Counter[str] = Counter()
        self.notes: list[str] = []
        self.patterns: list[str] = []
        self._own = {str(one) for one in own}
        self._left_out: dict[str, str] = {}
        self._busy = _open_paths()

    def leave_out(self, path: Path, why: str) -> None:
        """Leave out one directory, and say so where it is met."""
        self._left_out[str(path)] = why
        self.patterns.append(glob.escape(str(path)))

    def leave_out_patterns(self, paths: Paths) -> None:
        """Leave out caches, and the data of container engines."""
        engine = "a container engine's data, of which no component takes care: volumes in it are not protected"
        configured = _docker_data(paths)
        if configured:
            self.leave_out(configured, engine)
        for home in HOMES:
            for names, why in ((CACHES, "a cache or toolchain that its own tool brings back"), (ENGINES, engine)):
                for pattern in (f"{glob.escape(str(paths.root)).rstrip('/')}/{home}/{name}" for name in names):
                    self.patterns.append(pattern)
                    self._left_out.update(dict.fromkeys(glob.glob(pattern), why))  # noqa: PTH207

    def tree(self, root: Path) -> None:
        """Add a tree's sizes: each path two levels below its root apart, one file system, hard links once."""
        device, seen = root.lstat().st_dev, set[int]()
        waiting = [(str(root), str(root))]
        while waiting:
            directory, bucket = waiting.pop()
            for entry in _entries(directory):
                status = _status(entry)
                if status is None or entry.path in self._own:
                    continue
                place = entry.path if entry.path.count("/") - str(root).rstrip("/").count("/") <= 2 else bucket
                if entry.is_dir(follow_symlinks=False):
                    why = self._left_out.get(entry.path) or self._server(entry.path)
                    if why:
                        self.notes.append(f"{entry.path} ({size(_size(Path(entry.path)))}) is left out: {why}")
                    elif status.st_dev != device:
                        self.notes.append(f"{entry.path} is left out: another file system is mounted there")
                    else:
                        waiting.append((entry.path, place))
                if status.st_dev == device and (status.st_nlink == 1 or status.st_ino not in seen):
                    seen.add(status.st_ino)
                    self.sizes[place if entry.is_dir(follow_symlinks=False) else bucket] += status.st_blocks * 512

    def _server(self, directory: str) -> str:
        """Say why a directory is the data of a database server that runs (it is at work in it); empty when not."""
        if not any((Path(directory) / one).is_file() for one in DATA_MARKERS):
            return ""
        if not any(one == directory or one.startswith(f"{directory}/") for one in self._busy):
            return ""
        self.patterns.append(glob.escape(directory))
        return "the data of a running database server: declare it as a component of its kind"


def _clusters(paths: Paths) -> tuple[list[dict[str, Any]], dict[Path, str], list[str]]:
    """Find Debian's Postgres clusters: components of those that run, their data directories, notes on the others."""
    components, data, notes = [], {}, []
    for configuration in sorted((paths.root / "etc/postgresql").glob("*/*/postgresql.conf")):
        version, name = configuration.parts[-3:-1]
        cluster = f"{version}/{name}"
        directory = _data_directory(configuration) or paths.root / "var/lib/postgresql" / version / name
        component = f"postgres-{version}-{name}"
        if not _serves(directory):
            notes.append(f"Postgres cluster {cluster} is not running, and not protected")
        elif not NAME.fullmatch(component):
            notes.append(f"Postgres cluster {cluster!r} is not protected: declare it under a plain name")
        else:
            components.append({"name": component, "cluster": cluster})
            for place in (directory, *_tablespaces(directory)):
                data[place] = f"the data of Postgres cluster {cluster}, which component {component} protects"
    return components, data, notes


def _data_directory(configuration: Path) -> Path | None:
    with contextlib.suppress(OSError):
        text = configuration.read_text(errors="surrogateescape")
        found = re.findall(r"^\s*data_directory\s*=?\s*'((?:[^']|'')*)'", text, re.MULTILINE)
        if found:
            return Path(found[-1].replace("''", "'"))
    return None


def _serves(directory: Path) -> bool:
    """Whether a Postgres server runs on a data directory: the process of its pid file works in it."""
    with contextlib.suppress(OSError, IndexError):
        process = (directory / "postmaster.pid").read_text().split()[0]
        return Path(f"/proc/{process}/cwd").samefile(directory)
    return False


def _tablespaces(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [one.resolve() for one in sorted((directory / "pg_tblspc").iterdir()) if one.is_symlink()]
    return []


def _docker_data(paths: Paths) -> Path | None:
    """Return Docker's data directory where its configuration names another than `/var/lib/docker`."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        named = json.loads((paths.root / "etc/docker/daemon.json").read_text()).get("data-root")
        return Path(named) if isinstance(named, str) and named.startswith("/") else None
    return None


def _open_paths() -> set[str]:
    """Return every path that a process works in or holds open."""
    found = set()
    for pattern in ("/proc/[0-9]*/cwd", "/proc/[0-9]*/fd/*"):
        for link in glob.iglob(pattern):  # noqa: PTH207
            with contextlib.suppress(OSError):
                found.add(str(Path(link).readlink()))
    return found


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(directory) as found:
        yield from found


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return entry.stat(follow_symlinks=False)
    return None


def _size(path: Path) -> int:
    """Return the bytes on disk of a path and all below it, on its file system; hard links count once."""
    try:
        top = path.lstat()
    except OSError:
        return 0
    total, seen, waiting = top.st_blocks * 512, set[int](), [str(path)]
    while waiting:
        for entry in _entries(waiting.pop()):
            status = _status(entry)
            if status is None or status.st_dev != top.st_dev or status.st_ino in seen:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif status.st_nlink > 1:
                seen.add(status.st_ino)
            total += status.st_blocks * 512
    return total


def _holds_something(directory: Path) -> bool:
    return directory.is_dir() and not directory.is_symlink() and any(_entries(str(directory)))


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())
