# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker keeps: containers, volumes and Compose projects, asked of the daemon, or read from its own files.

A daemon that is stopped, hangs or may not be asked is no reason to miss what it holds: then the configuration of every
container and the folder of every volume are read below its data root. Compose files tell of projects that are down.
"""

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from restaura.audit.holders_host import Machine
from restaura.audit.looking import Look
from restaura.audit.model import Evidence
from restaura.audit.settings import load_yaml

SECONDS = 3.0
ANSWER_BYTES = 64_000_000
DATA_ROOT = "/var/lib/docker"
SOCKET = "/run/docker.sock"
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
FOLDER = "com.docker.compose.project.working_dir"
FILES = "com.docker.compose.project.config_files"
SWARM = "com.docker.swarm.service.id"
COMPOSE_NAMES = frozenset({"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"})
# Environment variables that are looked at; all others may be secrets, and are not kept.
_TOLD = ("PGDATA", "POSTGRES_USER")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Mounted:
    """A directory of a container that is a volume (`volume` names it) or a path of the host (`source`)."""

    target: str
    volume: str = ""
    source: str = ""


@dataclass(frozen=True)
class Container:
    """A container, or a service of a Compose file that has none at present (`id` is empty then).

    `stays` is whether it is still there once it was stopped: not one of `--rm`, nor Swarm's.
    """

    id: str
    name: str
    image: str
    running: bool
    mounts: tuple[Mounted, ...]
    evidence: Evidence
    project: str = ""
    service: str = ""
    folder: str = ""
    files: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    stays: bool = True


@dataclass(frozen=True)
class Volume:
    """A volume. `path` is where its data is; `remote` says why that is not this host's own disk."""

    name: str
    path: str
    project: str = ""
    remote: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compose:
    """A Compose file: its project, and its services as containers that do not run."""

    path: str
    project: str
    services: tuple[Container, ...]

    @property
    def folder(self) -> str:
        """The project's folder."""
        return self.path.rsplit("/", 1)[0] or "/"


@dataclass
class Engine:
    """One daemon's containers and volumes. `own` is the daemon of the system, not one of a user."""

    data_root: str
    own: bool = True
    answers: bool = False
    containers: list[Container] = field(default_factory=list)
    volumes: dict[str, Volume] = field(default_factory=dict)


def is_anonymous(volume: str) -> bool:
    """Whether nobody gave a volume its name."""
    return bool(_ANONYMOUS.fullmatch(volume))


def engines(machine: Machine) -> list[Engine]:
    """Find the system's Docker, Snap's, and those of users."""
    look = machine.look
    places = [(_data_root(machine), SOCKET, True), ("/var/snap/docker/common/var-lib-docker", SOCKET, True)]
    for _, home in look.homes():
        status = look.status(home)
        if status and home != "/root":
            places.append((f"{home}/.local/share/docker", f"/run/user/{status.st_uid}/docker.sock", False))
    found: list[Engine] = []
    for data_root, address, own in dict.fromkeys(places):
        if machine.is_dir(data_root):
            engine = Engine(data_root, own)
            asked = not any(one.answers and one.own == own for one in found) and _ask(look, address, engine)
            if not asked:
                _read(machine, engine)
            found.append(engine)
    return found


def _data_root(machine: Machine) -> str:
    """Return where the system's Docker keeps its data: told on its command line, in its configuration, or as usual."""
    for process in machine.processes:
        if process.program == "dockerd":
            told = re.search(r"--data-root[\0=](/[^\0]+)", "\0".join(process.arguments))
            if told:
                return told[1]
    configuration = _json(machine.look, "/etc/docker/daemon.json")
    named = configuration.get("data-root") if isinstance(configuration, dict) else None
    return named.rstrip("/") if isinstance(named, str) and named.startswith("/") and len(named) > 1 else DATA_ROOT


def _json(look: Look, path: str) -> Any:
    text = look.text(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        look.blame(path, "invalid")
        return None


class _Daemon(http.client.HTTPConnection):
    """A connection to a daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def _get(path: Path, resource: str) -> Any:
    """Return a daemon's answer; OSError or ValueError when it gives none."""
    daemon = _Daemon(path)
    try:
        daemon.request("GET", resource)
        answer = daemon.getresponse()
        data = answer.read(ANSWER_BYTES)
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"status {answer.status}")
        return json.loads(data)
    except http.client.HTTPException as error:
        raise ValueError(str(error)) from error
    finally:
        daemon.close()


def _ask(look: Look, address: str, engine: Engine) -> bool:
    """Ask a daemon for its containers and volumes; whether it answered."""
    path = look.at(address)
    if not path.exists():
        return False
    try:
        listed = _get(path, "/containers/json?all=1")
        volumes = _get(path, "/volumes").get("Volumes") or []
        engine.volumes = {one.name: one for one in map(_volume, volumes)}
        engine.containers = [_listed(one) for one in listed]
    except PermissionError:
        look.blame(address, "permission")
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        look.blame(address, "no_answer")
        return False
    engine.containers = [_looked_into(look, path, engine, one) for one in engine.containers]
    engine.answers = True
    return True


def _looked_into(look: Look, address: Path, engine: Engine, one: Container) -> Container:
    """Return a container with what the daemon's list does not tell."""
    settings = _json(look, f"{engine.data_root}/containers/{one.id}/hostconfig.json")
    if _is_map(settings) and settings.get("AutoRemove"):
        one = replace(one, stays=False)
    if "postgres" in one.image or any("/postgres" in mounted.target for mounted in one.mounts):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return replace(one, environment=_told(_get(address, f"/containers/{one.id}/json")["Config"]["Env"]))
    return one


def _listed(one: dict[str, Any]) -> Container:
    name = (one.get("Names") or [one["Id"][:12]])[0].lstrip("/")
    labels = one.get("Labels") or {}
    mounts = [
        Mounted(mount["Destination"], mount.get("Name", ""), "" if mount.get("Name") else mount.get("Source", ""))
        for mount in one.get("Mounts") or []
        if mount.get("Type") in ("volume", "bind")
    ]
    evidence = Evidence("container", name, detail=one["Image"])
    running = one.get("State") in ("running", "paused", "restarting")
    return _container(one["Id"], name, one["Image"], running, mounts, evidence, labels)


def _container(
    number: str,
    name: str,
    image: str,
    running: bool,
    mounts: Iterable[Mounted],
    evidence: Evidence,
    labels: dict[str, str],
) -> Container:
    files = tuple(one for one in labels.get(FILES, "").split(",") if one.startswith("/"))
    project, service, folder = (labels.get(one, "") for one in (PROJECT, SERVICE, FOLDER))
    made = Container(number, name, image, running, tuple(mounts), evidence, project, service, folder, files)
    return replace(made, stays=SWARM not in labels)


def _told(environment: Iterable[str] | None) -> dict[str, str]:
    pairs = (one.partition("=") for one in environment or ())
    return {key: value for key, _, value in pairs if key in _TOLD}


def _volume(one: dict[str, Any]) -> Volume:
    options, labels = one.get("Options") or {}, one.get("Labels") or {}
    path, remote = one.get("Mountpoint") or "", ""
    if one.get("Driver", "local") != "local":
        remote = f"driver {one['Driver']}"
    elif options.get("type") in ("nfs", "nfs4", "cifs"):
        remote = str(options["type"])
    elif "bind" in str(options.get("o", "")).split(",") and str(options.get("device", "")).startswith("/"):
        path = options["device"]
    told = tuple(sorted(f"{key}={value}" for key, value in labels.items()))
    return Volume(one["Name"], path, labels.get(PROJECT, ""), remote, told)


def _read(machine: Machine, engine: Engine) -> None:
    """Read what a daemon that does not answer keeps on its disk."""
    look, root = machine.look, engine.data_root
    for entry in look.entries(f"{root}/volumes"):
        if machine.is_dir(f"{root}/volumes/{entry.name}/_data"):
            options = _json(look, f"{root}/volumes/{entry.name}/opts.json")
            told = {"MountType": "type", "MountOpts": "o", "MountDevice": "device"}
            plain = {told[key]: value for key, value in options.items() if key in told} if _is_map(options) else {}
            made = _volume({"Name": entry.name, "Options": plain, "Mountpoint": f"{root}/volumes/{entry.name}/_data"})
            engine.volumes[entry.name] = made
    alive = {one.container for one in machine.processes if one.container}
    for name in look.names(f"{root}/containers"):
        path = f"{root}/containers/{name}/config.v2.json"
        written = _json(look, path)
        if _is_map(written):
            try:
                engine.containers.append(_written(name, written, path, name in alive))
            except (KeyError, TypeError, AttributeError):
                look.blame(path, "invalid")
    for one in engine.containers:
        for mounted in one.mounts:
            if mounted.volume in engine.volumes and one.project and not engine.volumes[mounted.volume].project:
                engine.volumes[mounted.volume] = replace(engine.volumes[mounted.volume], project=one.project)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _written(number: str, written: dict[str, Any], path: str, running: bool) -> Container:
    configuration = written["Config"]
    mounts = [
        Mounted(target, one.get("Name") or "", "" if one.get("Name") else one.get("Source") or "")
        for target, one in (written.get("MountPoints") or {}).items()
    ]
    name = str(written.get("Name") or number[:12]).lstrip("/")
    evidence = Evidence("container", name, detail=path)
    labels = configuration.get("Labels") or {}
    made = _container(number, name, str(configuration["Image"]), running, mounts, evidence, labels)
    return replace(made, environment=_told(configuration.get("Env")))


def read_compose(look: Look, path: str) -> Compose | None:
    """Read a Compose file (docs.docker.com/reference/compose-file); None when it is none."""
    written = load_yaml(look, path)
    services = written.get("services") if isinstance(written, dict) else None
    if not isinstance(services, dict):
        return None
    folder = path.rsplit("/", 1)[0]
    variables = _variables(look, f"{folder}/.env")
    named = written.get("name") or variables.get("COMPOSE_PROJECT_NAME") or folder.rsplit("/", 1)[-1]
    project = re.sub(r"[^a-z0-9_-]", "", _filled(str(named), variables).lower()).lstrip("_-")
    lines = (look.text(path) or "").splitlines()
    declared = written.get("volumes") if isinstance(written.get("volumes"), dict) else {}
    found = []
    for name, one in services.items():
        if not isinstance(one, dict):
            continue
        line = next(
            (n for n, text in enumerate(lines, 1) if re.match(rf"\s+[\"']?{re.escape(str(name))}[\"']?\s*:", text)),
            None,
        )
        image = _filled(str(one.get("image") or ""), variables)
        mounts = list(_mounts(one.get("volumes"), project, folder, declared, variables))
        container = _filled(str(one.get("container_name") or f"{project}-{name}-1"), variables)
        evidence = Evidence("file", path, line, f"service {name}")
        labels = {PROJECT: project, SERVICE: str(name), FOLDER: folder, FILES: path}
        made = _container("", container, image, False, mounts, evidence, labels)
        found.append(replace(made, environment=_environment(one.get("environment"), variables)))
    return Compose(path, project, tuple(found))


def _mounts(
    written: Any, project: str, folder: str, declared: dict[str, Any], variables: dict[str, str]
) -> Iterable[Mounted]:
    for one in written if isinstance(written, list) else []:
        if isinstance(one, dict):
            kind, source, target = (str(one.get(key) or "") for key in ("type", "source", "target"))
        else:
            # A variable's default may hold a colon: it is filled in first.
            source, _, rest = _filled(str(one), variables).partition(":")
            kind, target = "bind" if source.startswith((".", "/", "~")) else "volume", rest.split(":")[0]
        source, target = _filled(source, variables), _filled(target, variables)
        if not target:
            continue
        if kind == "bind" and source:
            joined = source if source.startswith("/") else f"{folder}/{source}"
            yield Mounted(target, source=_plain(joined))
        elif kind == "volume" and source:
            settings = declared.get(source) if isinstance(declared.get(source), dict) else {}
            external = settings.get("external") if isinstance(settings, dict) else None
            own = settings.get("name") if isinstance(settings, dict) else None
            own = own or (external.get("name") if isinstance(external, dict) else None)
            name = str(own or (source if external else f"{project}_{source}"))
            yield Mounted(target, volume=_filled(name, variables))


def _plain(path: str) -> str:
    """Return a path without `.` and `..`."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _environment(written: Any, variables: dict[str, str]) -> dict[str, str]:
    if isinstance(written, dict):
        written = [f"{key}={value}" for key, value in written.items()]
    return _told([_filled(str(one), variables) for one in written]) if isinstance(written, list) else {}


def _variables(look: Look, path: str) -> dict[str, str]:
    found = {}
    for line in (look.text(path) or "").splitlines():
        name, is_one, value = line.strip().removeprefix("export ").partition("=")
        if is_one and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def _filled(text: str, variables: dict[str, str]) -> str:
    """Fill in `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}`."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[3]) or (match[2] or "")

    return re.sub(r"\$(?:\{(\w+)(?::?-([^{}]*)|:?\?[^{}]*)?\}|(\w+))", value, text)
