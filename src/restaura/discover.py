# SPDX-License-Identifier: GPL-3.0-or-later
"""What a first setup declares on a host that nobody described: components, a plan, and why each is as it is.

What holds data is found by the audit's own finders. Configuration and application trees are taken as files, servers
by the source of their kind. Three things are left out of the trees: caches and toolchains that their own tools bring
back, the data of container engines, and the data of database servers that run, which cannot be copied as files. Each
that is there is told in `notes`, with its size; so is what no component protects.
"""

import contextlib
import dataclasses
import glob
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restaura.audit.coverage import PROJECTS, below, covered, told
from restaura.audit.holders import Finder
from restaura.audit.holders_docker import Container, Engine, is_anonymous
from restaura.audit.holders_host import Machine
from restaura.audit.looking import Look
from restaura.audit.model import Holder
from restaura.config import load
from restaura.config.schema import Plan, Retention
from restaura.errors import SpaceError
from restaura.output import printable, size
from restaura.paths import Paths
from restaura.sources import registry

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
CACHE = "a cache or toolchain that its own tool brings back"
ENGINES = (".local/share/docker", ".local/share/containers")
ENGINE = "a container engine's data; its volumes are told of one by one"
# Holders that are files, whether anything runs on them or not.
FILES = ("tree", "sqlite", "grafana", "compose_project", "supabase")


@dataclass(frozen=True)
class Discovery:
    """What was found. `components` and `plans` are those sections of a declaration; all sizes are bytes on disk.

    `decisions` says by a component's name, or `plan NAME`, why it is declared as it is: one line of plain text each.
    `bytes` is what a first copy would take at most, `free` what is free where it would go, `stored` what the store
    there already holds, `largest` the biggest paths, biggest first; `notes` say what is not protected, and why.
    """

    components: dict[str, list[dict[str, Any]]]
    bytes: int
    free: int
    plans: list[dict[str, Any]] = field(default_factory=list)
    decisions: dict[str, str] = field(default_factory=dict)
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
    finder = Finder(Machine(Look(paths.root)), [str(one) for one in (*paths.own(), *stores)])
    holders = finder.holders()
    made = _Declared(str(paths.root).rstrip("/"), holders)
    for engine in finder.engines:
        if engine.own and engine.answers:
            made.volumes(engine)
    scan = _Scan([*paths.own(), *stores])
    for one in finder.engines:
        scan.leave_out(paths.root / one.data_root.lstrip("/"), ENGINE)
    scan.leave_out_patterns(paths)
    for path, why in made.left_out():
        scan.leave_out(path, why)
    made.files(paths, scan)
    for path in made.servers:
        scan.sizes[str(path)] += _size(path)
    return Discovery(
        components={kind: ones for kind, ones in made.components.items() if ones},
        plans=[_plan()],
        decisions={**made.decisions, "plan daily": PLAN},
        bytes=sum(scan.sizes.values()),
        free=min(shutil.disk_usage(_existing(one)).free for one in stores),
        stored=sum(_size(one) for one in stores),
        largest=[(path, count) for path, count in scan.sizes.most_common(LARGEST) if count],
        notes=[printable(one) for one in (*scan.notes, *made.notes, *made.unprotected(paths.root))],
    )


PLAN = (
    "Everything, every night, at a minute drawn from the host's name. Kept: the last 3, one for each of 7 days, of 4 "
    "weeks and of 6 months. One restore a week proves it, and all that is stored is read again within 30 days."
)
STOPPED = (
    "the containers that write are stopped for the moment in which what changed is copied, and started again. "
    "`hold: pause` only freezes them, as a power cut would leave their data."
)
PAUSED = (
    "the containers that write are only frozen, as a power cut would leave their data: one of them (of `--rm` or "
    "Swarm) would be gone if it were stopped."
)


def _plan() -> dict[str, Any]:
    """Return a plan with its defaults written out, so that a person sees what there is to change."""
    fields = {one.name: one.default for one in dataclasses.fields(Plan)}
    kept = {name: value for name, value in dataclasses.asdict(Retention()).items() if value}
    return {
        "name": "daily",
        "schedule": fields["schedule"],
        "retention": kept,
        "drill": fields["drill"],
        "verify": fields["verify"],
    }


class _Declared:
    """The components that are made of what was found."""

    def __init__(self, root: str, holders: Sequence[Holder]) -> None:
        self._root, self._holders = root, holders
        self.components: dict[str, list[dict[str, Any]]] = {"files": []}
        self.decisions: dict[str, str] = {}
        self.notes: list[str] = []
        # Directories of servers that components of another kind than files protect.
        self.servers: list[Path] = []
        self._protected: dict[str, str] = {}
        # What containers of declared projects mount: taken with these, while nothing writes to it.
        self._binds: set[str] = set()
        for one in holders:
            if one.kind == "postgres" and one.running and one.component:
                where = f"container {one.container}" if one.container else f"cluster {one.name}"
                self._add("postgres", one, f"Postgres {one.version} in {where}: every database, and the roles.")

    def _add(self, kind: str, holder: Holder, why: str) -> None:
        component = dict(holder.component)
        self._declare(kind, component, why)
        self._protected[holder.id] = str(component["name"])
        self.servers += [self._at(path) for path in holder.paths]

    def _declare(self, kind: str, component: dict[str, Any], why: str) -> None:
        while component["name"] in self.decisions:
            component["name"] = f"{component['name'][:50]}-{kind}"
        self.components.setdefault(kind, []).append(component)
        self.decisions[component["name"]] = printable(why)

    def volumes(self, engine: Engine) -> None:
        """Declare volumes and Compose projects: in one component what one container may have to be stopped for."""
        if "docker_volumes" not in registry():
            return
        known = {one.project for one in engine.containers} | {one.project for one in engine.volumes.values()}
        for names in _together(engine.containers, self._holders):
            inside = [one for one in self._holders if names & _names(one)]
            taken = [one for one in inside if one.source == "docker_volumes" and one.component]
            projects = sorted({one.project for one in taken if one.kind in PROJECTS} & known)
            loose = {volume for one in taken if one.kind not in PROJECTS for volume in one.volumes}
            loose -= {one.name for one in engine.volumes.values() if one.project in projects}
            apart = {volume for one in inside if one.id in self._protected for volume in one.volumes}
            if projects or loose:
                users = [one for one in engine.containers if one.running and _uses(one) & names]
                hold = "stop" if all(one.stays for one in users) else "pause"
                self._take_volumes(taken, projects, sorted(loose), sorted(filter(_has_name, apart)), hold)
                self._binds |= {
                    mounted.source for one in engine.containers if one.project in projects for mounted in one.mounts
                }

    def _take_volumes(
        self, taken: list[Holder], projects: list[str], volumes: list[str], apart: list[str], hold: str
    ) -> None:
        component = {"name": taken[0].component["name"], "projects": projects, "volumes": volumes, "exclude": apart}
        what = f"Compose project {' and '.join(projects)}" if projects else f"Docker volume {', '.join(volumes)}"
        dumped = f" (not {', '.join(apart)}: Postgres is dumped)" if apart else ""
        given = {key: value for key, value in component.items() if value}
        why = STOPPED if hold == "stop" else PAUSED
        self._declare("docker_volumes", {**given, "hold": hold}, f"{what}{dumped}: {why}")
        self.servers += [self._at(path) for one in taken if one.kind not in PROJECTS for path in one.paths]

    def _at(self, path: str) -> Path:
        return Path(f"{self._root}{path}")

    def left_out(self) -> Iterator[tuple[Path, str]]:
        """Yield the directories that are not taken as files, and why: those of servers that run, and of containers."""
        folders = [one.paths[0] for one in self._holders if one.kind in PROJECTS and one.paths]
        for path in sorted(self._binds):
            if any(below(path, one) and path != one for one in folders) and self._at(path).is_dir():
                yield self._at(path), "a container mounts it: it is taken with its Compose project"
        for one in self._holders:
            if one.kind in ("tree", "sqlite", "grafana", "compose_project", "docker_volume") or not one.running:
                continue
            # A project's folder is files; only the data directory in it is not.
            paths = one.paths if one.kind != "supabase" else [x.where for x in one.evidence if x.kind == "directory"]
            component = self._protected.get(one.id)
            for path in paths:
                if component:
                    yield self._at(path), f"the data of {one.kind} {one.name}, which component {component} protects"
                else:
                    yield self._at(path), "the data of a running database server, which cannot be copied as files"

    def files(self, paths: Paths, scan: "_Scan") -> None:
        """Declare the system's configuration, the application trees, and the state of services."""
        if (paths.root / "etc").is_dir():
            component = {"name": "system", "paths": [str(paths.root / "etc")], "secret": True}
            self._declare(
                "files", component, "The system's configuration: it holds secrets, so it is always encrypted."
            )
            scan.tree(paths.root / "etc")
        roots = [str(paths.root / one) for one in APPLICATIONS if _holds_something(paths.root / one)]
        state: list[str] = []
        for path in self._elsewhere():
            if any(below(str(self._at(path)), one) for one in (*roots, *state)):
                continue
            if path != printable(path):
                self.notes.append(f"{path} has a name that cannot be declared: rename it")
            else:
                (state if path.startswith("/var/") else roots).append(str(self._at(path)))
        for name, found, why in (
            (
                "applications",
                roots,
                "Applications, homes and what was installed by hand. Caches and databases are left out.",
            ),
            ("state", state, "What services keep: SQLite files are copied through SQLite, while they are written to."),
        ):
            for root in found:
                scan.tree(Path(root))
            if found:
                exclude = [one for one in scan.patterns if any(one.startswith(f"{root}/") for root in found)]
                # A kit beside the backups it opens would be found by whoever finds them.
                exclude += ["recovery_kits/"] if name == "applications" else []
                self._declare("files", {"name": name, "paths": found, **({"exclude": exclude} if exclude else {})}, why)

    def _elsewhere(self) -> list[str]:
        """Return the directories that hold files of applications, those above others first."""
        found = set()
        for one in self._holders:
            if one.kind in FILES:
                for path in one.paths:
                    above = path.rsplit("/", 1)[0]
                    found.add(above if one.kind == "sqlite" and above.count("/") > 2 else path)
        return sorted(found)

    def unprotected(self, root: Path) -> list[str]:
        """Say what holds data and is protected by no component that was made."""
        declaration = {
            "settings": {"host": "discovered"},
            "stores": [{"name": "local", "location": "/"}],
            "plans": [{"name": "daily"}],
            "components": {kind: ones for kind, ones in self.components.items() if kind in registry()},
        }
        taken = covered(load.parse(declaration, "discovery"), self._holders, root)
        left = [told(one) for one in self._holders if one.id not in taken]
        return [f"{what} is not protected: {fix}" for what, fix in left]


class _Scan:
    """A walk that sums sizes by path, and leaves out what is no file of an application."""

    def __init__(self, own: Iterable[Path]) -> None:
        self.sizes: Counter[str] = Counter()
        self.notes: list[str] = []
        self.patterns: list[str] = []
        self._own = {str(one) for one in own}
        self._left_out: dict[str, str] = {}

    def leave_out(self, path: Path, why: str) -> None:
        """Leave out one directory, and say so where it is met."""
        self._left_out[str(path)] = why
        # What may not stand in a declaration becomes any one character.
        pattern = glob.escape(str(path)).replace("\\", "[\\]")
        self.patterns.append("".join(c if c.isprintable() and c != " " else "?" for c in pattern))

    def leave_out_patterns(self, paths: Paths) -> None:
        """Leave out caches, and the data of container engines."""
        for home in HOMES:
            for names, why in ((CACHES, CACHE), (ENGINES, ENGINE)):
                for pattern in (f"{glob.escape(str(paths.root)).rstrip('/')}/{home}/{name}" for name in names):
                    self.patterns.append(pattern)
                    for one in glob.glob(pattern):  # noqa: PTH207
                        self._left_out.setdefault(one, why)

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
                    why = self._left_out.get(entry.path)
                    if why:
                        self.notes.append(f"{entry.path} ({size(_size(Path(entry.path)))}) is left out: {why}")
                    elif status.st_dev != device:
                        self.notes.append(f"{entry.path} is left out: another file system is mounted there")
                    else:
                        waiting.append((entry.path, place))
                if status.st_dev == device and (status.st_nlink == 1 or status.st_ino not in seen):
                    seen.add(status.st_ino)
                    self.sizes[place if entry.is_dir(follow_symlinks=False) else bucket] += status.st_blocks * 512


def _has_name(volume: str) -> bool:
    return not is_anonymous(volume)


def _names(holder: Holder) -> set[tuple[str, str]]:
    """Return the volumes and the project that a holder lies in."""
    project = {("project", holder.project)} if holder.project else set()
    return {*project, *(("volume", one) for one in holder.volumes)}


def _uses(container: Container) -> set[tuple[str, str]]:
    """Return the volumes and the project that a container has to do with."""
    project = {("project", container.project)} if container.project else set()
    return {*project, *(("volume", one.volume) for one in container.mounts if one.volume)}


def _together(containers: Sequence[Container], holders: Sequence[Holder]) -> list[set[tuple[str, str]]]:
    """Return the sets of volumes and projects that have containers in common."""
    groups: list[set[tuple[str, str]]] = []
    for names in filter(None, [*map(_uses, containers), *map(_names, holders)]):
        touched = [one for one in groups if one & names]
        groups = [one for one in groups if one not in touched]
        groups.append(names.union(*touched))
    return sorted(groups, key=sorted)


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
