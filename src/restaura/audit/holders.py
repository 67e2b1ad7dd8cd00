# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host holds data: found by what runs, what is installed, what is configured, and what lies on its disks.

Every finder is asked, so that a server that is stopped, or whose configuration is gone, is found by its data, and one
whose data may not be read by its process. A database inside a Docker volume is one holder, of the database's kind; a
volume that holds nothing else is not told of again.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from restaura.audit import holders_docker as docker
from restaura.audit.holders_host import Machine, Process, Unit
from restaura.audit.holders_kinds import BY_KIND, ENGINES, TELLING_PORTS, Engine, image_version
from restaura.audit.holders_walk import Found, Walker
from restaura.audit.looking import Look
from restaura.audit.model import Evidence, Holder, HolderKind
from restaura.sources.postgres import OLDEST
from restaura.trees.patterns import OWN_NAME

WALK_SECONDS = 4.0
SIZE_SECONDS = 2.0
# What is below these is applications, each directory one.
APPLICATIONS = ("/srv", "/opt", "/var/www", "/var/opt", "/home", "/mnt")
STATE = "/var/lib"
# Directories at the top of the file system that are the system's own, or were looked at one by one.
_TOP = frozenset(
    """bin boot cdrom dev etc home lib lib32 lib64 libx32 lost+found media mnt nix opt proc root run sbin snap srv sys
    tmp usr var""".split()  # noqa: SIM905  a word list reads better
)
# Below /var/lib: the system's own, which its packages bring back.
_SYSTEM = frozenset(
    """AccountsService NetworkManager PackageKit aide alternatives apt aptitude aspell boltd bluetooth cloud colord
    command-not-found containerd containers dbus dhcp dhcpcd dictionaries-common dkms docker dpkg emacsen-common
    fail2ban fwupd ghostscript git grub ieee-data initramfs-tools initscripts insserv ispell kubelet libuuid logrotate
    lxcfs machines man-db misc mlocate nfs ntp ntpsec os-prober pam plocate polkit-1 portables power-profiles-daemon
    python resolvconf restaura selinux sgml-base shells.state shim-signed snapd snmp sudo swcatalog systemd
    tpm ubuntu-advantage ubuntu-release-upgrader ucf udisks2 unattended-upgrades update-manager update-notifier
    upower urandom usb_modeswitch vim xfonts xkb xml-core""".split()  # noqa: SIM905
)
_BACKUPS = re.compile(r"(.*[-_.])?(backups?|bkp|snapshots?|restic|borg)([-_.].*)?", re.IGNORECASE)
_REMOTE = re.compile(r"nfs\d?|cifs|smb\w*|ceph|glusterfs|fuse\.(?!(ext|ntfs|mergerfs|zfs)).+|davfs|afs")
# What containers mount of the system is no data of theirs.
_NOT_DATA = re.compile(
    r"/|/(bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|tmp|usr|var/(run|log|cache|tmp|lib/docker))(/.*)?"
)
_QUOTED = re.compile(r"^\s*data_directory\s*=?\s*'((?:[^']|'')*)'", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def find_holders(
    root: Path = Path("/"), look: Look | None = None, skip: Iterable[str] = ()
) -> tuple[tuple[Holder, ...], tuple[Evidence, ...]]:
    """Return what holds data on the host below `root`, and what could not be looked at. Changes nothing.

    Takes a few seconds at most: trees and sizes are measured within limits, and what is too large has no size. `look`
    is given by who reads the host, too, so that what cannot be read is told once. `skip` are directories that hold
    copies, as the stores do.
    """
    finder = Finder(Machine(look or Look(root)), skip)
    return finder.holders(), finder.machine.look.unreadable


def component_name(*parts: str) -> str:
    """Return a name for a component, or nothing when these parts make none."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("-._")[:63]
    return name if _PLAIN.fullmatch(name) else ""


@dataclass
class _Draft:
    """A holder that is being found."""

    kind: HolderKind
    name: str
    running: bool = False
    paths: list[str] = field(default_factory=list)
    bytes: int | None = None
    version: str = ""
    container: str = ""
    project: str = ""
    volumes: list[str] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    source: str = ""
    component: dict[str, object] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def done(self) -> Holder:
        """Return the holder."""
        return Holder(
            f"{self.kind}:{self.name}",
            self.kind,
            self.name,
            self.running,
            tuple(dict.fromkeys(self.paths)),
            self.bytes,
            self.version,
            self.container,
            self.project,
            tuple(dict.fromkeys(self.volumes)),
            self.labels,
            self.source,
            self.component,
            tuple(dict.fromkeys(self.evidence)),
        )


class Finder:
    """Asks every finder once, in an order in which each knows what those before it have found."""

    def __init__(self, machine: Machine, skip: Iterable[str] = ()) -> None:
        self.machine = machine
        self._skip = {machine.name(one) for one in skip}
        self._drafts: dict[tuple[HolderKind, str], _Draft] = {}
        self._trees: dict[str, Found] = {}
        self._databases: list[tuple[HolderKind, str]] = []
        self._sqlite: list[str] = []
        self._compose: dict[str, docker.Compose] = {}
        # Volumes that hold nothing but a database, or belong to what is one holder as a whole.
        self._told_of: set[str] = set()

    @cached_property
    def engines(self) -> list[docker.Engine]:
        """The Docker daemons of this host, with what they hold."""
        return docker.engines(self.machine)

    def holders(self) -> tuple[Holder, ...]:
        """Return everything that holds data, in the order of kinds and names."""
        self._walk()
        self._clusters()
        for engine in ENGINES:
            self._servers(engine)
        containers = self._containers()
        for one in containers:
            self._database_in(one)
        self._projects(containers)
        for kind, path in self._databases:
            self._data_directory(kind, path)
        self._open_ports()
        self._volumes()
        self._files()
        self._users(containers)
        self._measure()
        return tuple(one.done() for _, one in sorted(self._drafts.items()))

    def _draft(self, kind: HolderKind, name: str, *evidence: Evidence) -> _Draft:
        draft = self._drafts.setdefault((kind, name), _Draft(kind, name))
        draft.evidence += evidence
        return draft

    def _holding(self, path: str) -> _Draft | None:
        """Return the server whose data directory is at or above a path."""
        for one in self._drafts.values():
            if one.kind not in ("tree", "sqlite", "compose_project", "docker_volume") and any(
                path == place or path.startswith(f"{place}/") for place in one.paths
            ):
                return one
        return None

    # -- trees --------------------

    def _walk(self) -> None:
        """Walk the application trees and the state of services."""
        remote = self._remote_mounts()
        skip = frozenset({*(one.data_root for one in self.engines), "/opt/containerd", *self._skip, *remote})
        walker = Walker(self.machine, WALK_SECONDS, skip)
        tops = [f"/{one}" for one in self.machine.look.names("/") if one not in _TOP and not one.startswith(".")]
        for above in APPLICATIONS:
            tops += [f"{above}/{one}" for one in self.machine.look.names(above)]
        for top in [*tops, "/root"]:
            own = OWN_NAME.search(top)
            if top in skip or own or _BACKUPS.fullmatch(top.rsplit("/", 1)[-1]) or self._is_link(top):
                continue
            if self.machine.is_dir(top):
                self._trees[top] = self._keep(walker.walk(top))
        for one in self.machine.look.names(STATE):
            top = f"{STATE}/{one}"
            if one not in _SYSTEM and top not in skip and not self._is_link(top) and self.machine.is_dir(top):
                self._keep(walker.walk(top))
        for path in [*self._labelled_files()]:
            self._read_compose(path)

    def _keep(self, found: Found) -> Found:
        self._databases += found.databases
        self._sqlite += found.sqlite
        for path in found.compose:
            self._read_compose(path)
        return found

    def _read_compose(self, path: str) -> None:
        if path not in self._compose and (read := docker.read_compose(self.machine.look, path)):
            self._compose[path] = read

    def _labelled_files(self) -> Iterable[str]:
        return sorted({path for engine in self.engines for one in engine.containers for path in one.files})

    def _is_link(self, path: str) -> bool:
        return (self.machine.look.root / path.lstrip("/")).is_symlink()

    def _remote_mounts(self) -> set[str]:
        """Return where network file systems are mounted: they may hang, and their data is another host's."""
        found = set()
        for line in (self.machine.look.text("/proc/self/mounts") or "").splitlines():
            fields = line.split(" ")
            if len(fields) > 2 and _REMOTE.fullmatch(fields[2]):
                path = re.sub(r"\\([0-7]{3})", lambda one: chr(int(one[1], 8)), fields[1])
                self.machine.look.blame(path, "remote", "directory")
                found.add(path)
        return found

    # -- servers on the host --------------------

    def _clusters(self) -> None:
        """Find Debian's Postgres clusters by their configuration (pg_lsclusters(1))."""
        look = self.machine.look
        for path in self.machine.glob("/etc/postgresql/*/*/postgresql.conf"):
            version, name = path.split("/")[-3:-1]
            text = look.text(path) or ""
            told = list(_QUOTED.finditer(text))
            place = told[-1][1].replace("''", "'") if told else f"{STATE}/postgresql/{version}/{name}"
            line = text.count("\n", 0, told[-1].start(1)) + 1 if told else None
            running = self._serving(place)
            if not running and not self.machine.is_dir(place):
                continue
            draft = self._draft("postgres", f"{version}/{name}", Evidence("file", path, line), *running)
            draft.running, draft.version = bool(running), version
            self._by_postgres(draft)
            draft.paths = [place, *self._tablespaces(place)]
            if draft.source and _PLAIN.fullmatch(name):
                draft.component = {"name": component_name("postgres", version, name), "cluster": f"{version}/{name}"}

    def _serving(self, directory: str) -> list[Evidence]:
        """Return the server that runs on a Postgres data directory as evidence."""
        found = [
            one for one in self._processes("postgres") if self._told(BY_KIND["postgres"], one.arguments) == directory
        ]
        lines = (self.machine.look.text(f"{directory}/postmaster.pid") or "").split("\n")
        if not found and lines[0].isdigit() and self.machine.working_directory(int(lines[0])) == directory:
            return [Evidence("process", f"postgres (PID {lines[0]})", detail=f"{directory}/postmaster.pid")]
        return [one.evidence for one in found]

    def _tablespaces(self, directory: str) -> list[str]:
        links = [one for one in self.machine.look.entries(f"{directory}/pg_tblspc") if one.is_symlink()]
        return [self.machine.name(os.readlink(one.path)) for one in links]  # noqa: PTH115  named, not followed

    def _processes(self, kind: HolderKind) -> list[Process]:
        """Return the processes of a kind of server that are in no container."""
        programs = BY_KIND[kind].programs
        return [one for one in self.machine.processes if one.program in programs and not one.container]

    @staticmethod
    def _told(engine: Engine, arguments: Iterable[str]) -> str:
        """Return the data directory that a command line names."""
        found = re.search(engine.option, "\0".join(arguments))
        return found[1].rstrip("/") if found and found[1].startswith("/") else ""

    def _servers(self, engine: Engine) -> None:
        """Find servers of one kind by configuration, unit, their usual directories, and process."""
        units = [one for one in self.machine.units if one.program in engine.programs and "@." not in one.name]
        places: dict[str, list[Evidence]] = {}
        for path, evidence in self._candidates(engine, units):
            places.setdefault(path, []).append(evidence)
        places = {path: one for path, one in places.items() if not any(p.startswith(f"{path}/") for p in places)}
        running: dict[str, list[Evidence]] = {}
        for process in self._processes(engine.kind):
            path = self._place(engine, process, list(places))
            if path or engine.kind != "postgres":
                running.setdefault(path, []).append(process.evidence)
        only = next(iter(places)) if len(places) == 1 else ""
        for unit in units:
            path = self._told(engine, unit.command) or only
            if path in places:
                places[path].append(unit.evidence)
            if unit.name in self.machine.running_units:
                running.setdefault(path, []).append(unit.evidence)
        for path in dict.fromkeys([*places, *running]):
            self._server(engine, path, places.get(path, []), running.get(path, []))

    def _candidates(self, engine: Engine, units: list[Unit]) -> Iterable[tuple[str, Evidence]]:
        """Yield the data directories that configuration, units and custom name, if there is anything in them."""
        told = [(self._told(engine, one.command), one.evidence) for one in units]
        for path, evidence in [*self._configured(engine), *told]:
            if path and self.machine.holds_something(path):
                yield path, evidence
        for pattern in engine.folders:
            for path in self.machine.glob(pattern):
                if self._is_data(engine, path):
                    yield path, Evidence("directory", path)

    def _server(self, engine: Engine, path: str, seen: list[Evidence], running: list[Evidence]) -> None:
        known = self._holding(path) if path else None
        if known and known.kind == engine.kind:
            known.evidence += running
            known.running = known.running or bool(running)
            return
        name = path or (running[0].detail or running[0].where.split(" ")[0])
        draft = self._draft(engine.kind, name, *seen, *running)
        draft.paths = [path] if path else []
        draft.running = draft.running or bool(running)
        draft.version = self._version(engine, path)
        if engine.kind == "postgres":
            self._by_postgres(draft)
        elif engine.kind == "grafana":
            self._by_files(draft, path)

    def _configured(self, engine: Engine) -> Iterable[tuple[str, Evidence]]:
        for pattern in engine.configs:
            for path in self.machine.glob(pattern):
                for number, line in enumerate((self.machine.look.text(path) or "").splitlines(), 1):
                    found = re.search(engine.setting, line)
                    if found and found[1].startswith("/") and not line.lstrip().startswith(("#", ";")):
                        yield found[1].rstrip("/"), Evidence("file", path, number)

    def _is_data(self, engine: Engine, path: str) -> bool:
        """Whether a directory is a server's data: it looks like it, or it may not be looked at."""
        names = self.machine.inside(path)
        return names is None or engine.marks(names)

    def _place(self, engine: Engine, process: Process, known: list[str]) -> str:
        """Return the data directory of a process: told, worked in, or the only one there is."""
        if told := self._told(engine, process.arguments):
            return told
        works = self.machine.working_directory(process.pid)
        if works in known or (works and engine.marks(self.machine.inside(works) or set())):
            return works
        return known[0] if len(known) == 1 and engine.kind != "postgres" else ""

    def _version(self, engine: Engine, path: str) -> str:
        if engine.kind == "postgres":
            return (self.machine.look.text(f"{path}/PG_VERSION") or "").strip()[:20] if path else ""
        return next((self.machine.packages[one] for one in engine.packages if one in self.machine.packages), "")

    def _data_directory(self, kind: HolderKind, path: str) -> None:
        """A data directory that a walk came upon: of a server that nothing else told of, or of one that is known."""
        if known := self._holding(path):
            known.evidence.append(Evidence("directory", path))
            return
        opened = any(one == path or one.startswith(f"{path}/") for one in self.machine.open_paths)
        draft = self._draft(kind, path, Evidence("directory", path))
        draft.paths, draft.running = [path], opened
        draft.version = self._version(BY_KIND[kind], path) if kind == "postgres" else ""
        if kind == "postgres":
            self._by_postgres(draft)

    @staticmethod
    def _by_postgres(draft: _Draft) -> None:
        """Say that the Postgres source can protect it, unless it is too old."""
        major = re.match(r"\d+", draft.version)
        draft.source = "" if major and int(major[0]) < OLDEST else "postgres"

    def _open_ports(self) -> None:
        """Find servers that nothing but an open port tells of."""
        kinds = {one.kind for one in self._drafts.values() if one.running}
        forwarded = {
            argument
            for one in self.machine.processes
            if one.program == "docker-proxy"
            for option, argument in zip(one.arguments, one.arguments[1:], strict=False)
            if option == "-host-port"
        }
        for port, engine in sorted(TELLING_PORTS.items()):
            if port not in self.machine.ports or engine in kinds or str(port) in forwarded:
                continue
            listener = self.machine.listeners.get(self.machine.ports[port])
            if listener and listener.program not in BY_KIND[engine].programs:
                continue
            more = [listener.evidence] if listener else []
            draft = self._draft(engine, f"port {port}", Evidence("port", str(port)), *more)
            draft.running = True
            kinds.add(engine)

    # -- Docker --------------------

    def _containers(self) -> list[docker.Container]:
        """Return all containers, and the services of Compose files that have none but whose data is there."""
        found = [one for engine in self.engines for one in engine.containers]
        there = {(one.project, one.service) for one in found if one.service}
        for compose in self._compose.values():
            for one in compose.services:
                if (one.project, one.service) not in there and any(self._is_there(one, m) for m in one.mounts):
                    there.add((one.project, one.service))
                    found.append(one)
        return found

    def _is_there(self, one: docker.Container, mounted: docker.Mounted) -> bool:
        """Whether a Compose file's service has run here: its volume is there, or a database's directory."""
        if mounted.volume:
            return self._volume(mounted.volume) is not None
        engine = self._kind_of(one)
        return engine is not None and mounted.target in engine.inside and self.machine.holds_something(mounted.source)

    def _volume(self, name: str) -> docker.Volume | None:
        return next((one.volumes[name] for one in self.engines if name in one.volumes), None)

    def _labels(self, volume: str) -> tuple[str, ...]:
        found = self._volume(volume)
        return found.labels if found else ()

    def _path(self, mounted: docker.Mounted) -> str:
        volume = self._volume(mounted.volume) if mounted.volume else None
        return volume.path if volume else mounted.source

    def _kind_of(self, one: docker.Container) -> Engine | None:
        """Return which server a container runs: by its image, its processes, or its data."""
        for engine in ENGINES:
            if engine.is_image(one.image):
                return engine
        programs = {process.program for process in self.machine.processes if one.id and process.container == one.id}
        for engine in ENGINES:
            if programs & set(engine.programs):
                return engine
        for engine in ENGINES:
            for mounted in one.mounts:
                if mounted.target in engine.inside and mounted.target != "/data":
                    path = self._path(mounted)
                    if path and self.machine.is_dir(path) and engine.marks(self.machine.inside(path) or set()):
                        return engine
        return None

    def _database_in(self, one: docker.Container) -> None:
        engine = self._kind_of(one)
        if engine is None or self._is_supabase(one.project):
            return
        inside = [one.environment["PGDATA"], *engine.inside] if "PGDATA" in one.environment else [*engine.inside]
        mounted = next(
            (m for place in inside for m in one.mounts if place == m.target or place.startswith(f"{m.target}/")), None
        )
        draft = self._draft(engine.kind, one.name, one.evidence)
        draft.running, draft.container, draft.project = one.running, one.name, one.project
        draft.version = image_version(one.image)
        if mounted:
            path = self._path(mounted)
            draft.paths = [path] if path else []
            draft.volumes = [mounted.volume] if mounted.volume else []
            draft.labels = self._labels(mounted.volume)
            if mounted.volume and mounted.target in inside:
                self._told_of.add(mounted.volume)
            if mounted.volume:
                draft.evidence.append(Evidence("volume", mounted.volume))
            if engine.kind == "postgres":
                draft.version = self._postgres_version(path) or draft.version
        else:
            draft.evidence.append(Evidence("container", one.name, detail="its data is in no volume"))
        if engine.kind == "postgres":
            self._by_postgres(draft)
            if draft.source and (name := component_name("postgres", one.name)):
                draft.component = {"name": name, "container": one.name}
                if one.environment.get("POSTGRES_USER", "postgres") != "postgres":
                    draft.component["user"] = one.environment["POSTGRES_USER"]
        elif draft.volumes:
            self._by_volume(draft, draft.volumes[0])

    def _postgres_version(self, path: str) -> str:
        """Return the major version that a cluster in a volume tells; from 18 on, its image puts it two levels down."""
        places = [f"{path}/PG_VERSION", *self.machine.glob(f"{path}/*/docker/PG_VERSION")] if path else []
        return next((text.strip()[:20] for one in places if (text := self.machine.look.text(one))), "")

    def _is_supabase(self, project: str) -> bool:
        return project in self._supabase

    @cached_property
    def _supabase(self) -> set[str]:
        containers = [*(c for engine in self.engines for c in engine.containers)]
        containers += [c for compose in self._compose.values() for c in compose.services]
        return {one.project for one in containers if one.project and re.search(r"(^|/)supabase/", one.image)}

    def _projects(self, containers: list[docker.Container]) -> None:
        """Find Compose projects: their folders, and what else of the host their containers mount."""
        for project in sorted({one.project for one in containers if one.project}):
            members = [one for one in containers if one.project == project]
            kind: HolderKind = "supabase" if self._is_supabase(project) else "compose_project"
            draft = self._draft(kind, project, *(one.evidence for one in members))
            draft.project, draft.running = project, any(one.running for one in members)
            files = sorted({path for one in members for path in one.files})
            draft.evidence = [*(Evidence("file", path) for path in files), *draft.evidence]
            folders = sorted({one.folder for one in members if one.folder.startswith("/")})
            mounts = [mounted for one in members for mounted in one.mounts]
            draft.volumes = sorted({one.volume for one in mounts if one.volume})
            paths = [one for one in folders if self.machine.is_dir(one)]
            for source in sorted({one.source for one in mounts if self._is_mounted_data(one)}):
                if not any(source == one or source.startswith(f"{one}/") for one in paths) and not self._holding(
                    source
                ):
                    paths.append(source)
            draft.paths = paths
            for path in paths:
                if path in self._trees:
                    draft.bytes = self._trees.pop(path).bytes
            if kind == "supabase":
                self._told_of.update(draft.volumes)
                database = [one for one in members if BY_KIND["postgres"].is_image(one.image)]
                draft.container = database[0].name if database else ""
                draft.version = image_version(database[0].image) if database else ""
            if draft.paths or draft.volumes:
                draft.source = "docker_volumes"
                if name := component_name(project):
                    draft.component = {"name": name, "projects": [project], "hold": "stop"}
            else:
                del self._drafts[kind, project]

    def _is_mounted_data(self, mounted: docker.Mounted) -> bool:
        source = mounted.source
        return bool(source) and not _NOT_DATA.fullmatch(source) and self.machine.is_dir(source)

    def _volumes(self) -> None:
        """Find the volumes that hold something else than a database that was found."""
        for engine in self.engines:
            for volume in engine.volumes.values():
                if volume.name in self._told_of and engine.own:
                    continue
                name = volume.name if engine.own else f"{volume.name} of {engine.data_root}"
                if docker.is_anonymous(volume.name) and not self.machine.holds_something(volume.path):
                    continue
                users = [one for one in engine.containers if any(m.volume == volume.name for m in one.mounts)]
                detail = volume.remote or (
                    "anonymous" if docker.is_anonymous(volume.name) else "" if users else "no container uses it"
                )
                draft = self._draft("docker_volume", name, Evidence("volume", volume.name, detail=detail))
                draft.evidence += [one.evidence for one in users]
                draft.running = any(one.running for one in users)
                draft.container = users[0].name if users else ""
                draft.project = volume.project or next((one.project for one in users if one.project), "")
                draft.volumes, draft.labels = [volume.name], volume.labels
                draft.paths = [volume.path] if volume.path and not volume.remote else []
                if engine.own and not volume.remote:
                    self._by_volume(draft, volume.name)

    @staticmethod
    def _by_volume(draft: _Draft, volume: str) -> None:
        """Say that the volume source can protect it."""
        draft.source = "docker_volumes"
        # An anonymous volume has another name as soon as its container is made anew.
        if (name := component_name(volume)) and not docker.is_anonymous(volume):
            draft.component = {"name": name, "volumes": [volume], "hold": "stop"}

    # -- files --------------------

    def _files(self) -> None:
        """Find SQLite files and application trees."""
        opened = self.machine.open_paths if self._sqlite else set()
        for path in self._sqlite:
            if not self._holding(path):
                draft = self._draft("sqlite", path, Evidence("file", path))
                draft.paths, draft.running = [path], path in opened
                self._by_files(draft, path.rsplit("/", 1)[0])
        for path, found in self._trees.items():
            if found.files and not self._holding(path):
                self._tree(path, Evidence("directory", path)).bytes = found.bytes

    def _users(self, containers: list[docker.Container]) -> None:
        """Say which services and containers work in a tree, and find the directories that they keep state in."""
        for unit in self.machine.units:
            for folder in unit.folders:
                running = unit.name in self.machine.running_units
                self._used(folder, unit.evidence, running, new=self._is_state(folder))
        for one in containers:
            for mounted in one.mounts:
                if self._is_mounted_data(mounted) and not self._holding(mounted.source):
                    self._used(mounted.source, one.evidence, one.running, new=not one.project)

    def _used(self, path: str, user: Evidence, running: bool, *, new: bool) -> None:
        above = (one for one in self._drafts.values() if one.kind in ("tree", "compose_project", "supabase"))
        tree = next((one for one in above if any(f"{path}/".startswith(f"{place}/") for place in one.paths)), None)
        if tree is None and new:
            tree = self._tree(path, Evidence("directory", path))
        if tree is not None:
            tree.evidence.append(user)
            tree.running = tree.running or running

    def _tree(self, path: str, evidence: Evidence) -> _Draft:
        draft = self._draft("tree", path, evidence)
        draft.paths = [path]
        self._by_files(draft, path)
        return draft

    def _is_state(self, folder: str) -> bool:
        """Whether a service's directory holds state that no package brings back."""
        parts = folder.split("/")
        below = folder.startswith(f"{STATE}/") and parts[3] not in _SYSTEM
        return below and not self._holding(folder) and self.machine.holds_something(folder)

    @staticmethod
    def _by_files(draft: _Draft, path: str) -> None:
        """Say that the files source can protect it."""
        draft.source = "files"
        if name := component_name(path):
            # An application's directory has keys in it as often as not (`.env`): no store is to keep them in the clear.
            secret = {"secret": True} if draft.kind == "tree" else {}
            draft.component = {"name": name, "paths": [path], **secret}

    def _measure(self) -> None:
        walker = Walker(self.machine, SIZE_SECONDS)
        for one in self._drafts.values():
            if one.bytes is None and one.paths and one.kind not in ("tree", "compose_project", "supabase"):
                sizes = [walker.size(path) for path in one.paths]
                one.bytes = None if None in sizes else sum(size or 0 for size in sizes)
