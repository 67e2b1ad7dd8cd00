# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Docker daemon says: volumes, containers, Compose projects. Every call of it has a limit in time."""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from restaura.errors import RestauraError, SourceError
from restaura.runners.container import docker_api

SECONDS = 60
STOP_SECONDS = 10  # what Docker gives a container that says nothing else
PROJECT = "com.docker.compose.project"
VOLUME = "com.docker.compose.volume"
# What Compose writes of itself: another version of it, or another name, makes another value, and it works all the same.
OF_COMPOSE = ("com.docker.compose.version", "com.docker.compose.config-hash")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "glusterfs", "ceph", "9p")


class UnreachableError(SourceError):
    """The daemon is stopped, hangs, or its client is not installed."""


class GoneError(SourceError):
    """There is no such container or volume."""


@dataclass(frozen=True)
class Volume:
    """One volume as the daemon has it."""

    name: str
    driver: str
    options: dict[str, str]
    labels: dict[str, str]
    mountpoint: str

    @property
    def anonymous(self) -> bool:
        """Whether Docker itself made the name up."""
        return bool(_ANONYMOUS.fullmatch(self.name)) and not any(
            one.startswith("com.docker.compose.") for one in self.labels
        )

    @property
    def project(self) -> str:
        """The Compose project it belongs to, or nothing."""
        return self.labels.get(PROJECT, "")

    @property
    def bound(self) -> bool:
        """Whether it is another name for a directory of this host."""
        return self.driver == "local" and bool({"bind", "rbind"} & set(self.options.get("o", "").split(",")))

    @property
    def path(self) -> str:
        """The directory of this host that its data is in."""
        return self.options.get("device", "").rstrip("/") if self.bound else self.mountpoint

    @property
    def in_memory(self) -> bool:
        """Whether its data is gone with the container that uses it."""
        return self.driver == "local" and self.options.get("type", "") in ("tmpfs", "ramfs")

    def elsewhere(self) -> tuple[str, str] | None:
        """Say why its data cannot be read here, and what to do; None when it can."""
        kind, fix = self.options.get("type", ""), f"back it up where it is kept, and add {self.name!r} to `exclude`"
        if self.driver != "local":
            return (
                f"the volume {self.name!r} is kept by the plugin {self.driver!r}, not in a directory of this host",
                fix,
            )
        if kind in _NETWORK:
            return f"the volume {self.name!r} is on a file server ({kind} {self.options.get('device', '')})", fix
        if self.bound or self.in_memory or not self.options.get("device"):
            return None
        what = (
            f"the volume {self.name!r} is a disk of its own ({self.options['device']}), mounted only while it is used"
        )
        return what, f"mount it, back it up as `files`, and add {self.name!r} to `exclude`"

    def described(self) -> dict[str, Any]:
        """Return what a volume must have again after a restore."""
        return {"name": self.name, "driver": self.driver, "options": self.options, "labels": self.labels}


@dataclass(frozen=True)
class Mount:
    """One place where a container sees data of this host: `volume` is empty for a bind mount."""

    volume: str
    source: str
    destination: str
    writes: bool

    @cached_property
    def real(self) -> str:
        """Where the source is, without links: Docker keeps it as it was written."""
        return os.path.realpath(self.source) if self.source else ""


@dataclass(frozen=True)
class Container:
    """One container as the daemon has it. `status` is Docker's word, `started` the time of its last start."""

    id: str
    name: str
    status: str
    started: str
    exit_code: int
    health: str
    image: str
    labels: dict[str, str]
    mounts: tuple[Mount, ...]
    restart: str
    stop_seconds: int
    removes_itself: bool
    network_of: str

    @property
    def runs(self) -> bool:
        """Whether its processes run: a paused container's do not."""
        return self.status in ("running", "restarting")

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self.status == "paused"

    @property
    def project(self) -> str:
        """The Compose project it belongs to, or nothing."""
        return self.labels.get(PROJECT, "")

    @property
    def service(self) -> str:
        """Its Compose service, or nothing."""
        return self.labels.get("com.docker.compose.service", "")

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What a recreated container has in common with the one before it."""
        number = self.labels.get("com.docker.compose.container-number", "")
        return (self.project, self.service, number, "") if self.service else ("", "", "", self.name)

    @property
    def needs(self) -> dict[str, str]:
        """The services of its project that it depends on, and the condition of each (Compose's own label)."""
        listed = filter(None, self.labels.get("com.docker.compose.depends_on", "").split(","))
        return {parts[0]: parts[1] if len(parts) > 1 else "" for parts in (one.split(":") for one in listed)}

    @property
    def of_swarm(self) -> bool:
        """Whether Swarm decides when it runs."""
        return "com.docker.swarm.service.id" in self.labels

    def uses(self, volume: str, path: str, *, own: bool = True, writing: bool = False) -> bool:
        """Whether it sees (or may write to) the volume, or as a bind mount the directory `path` or a part of it.

        One that is given a directory above `path` counts too, unless that is Docker's `own`: a manager of containers
        sees all volumes, and uses none.
        """
        for one in self.mounts:
            if writing and not one.writes:
                continue
            if volume and one.volume == volume:
                return True
            above = not own and one.real != "/" and within(path, one.real)
            if not one.volume and one.source and (within(one.real, path) or above):
                return True
        return False


def within(path: str, directory: str) -> bool:
    """Whether an absolute path is `directory` or below it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


class Daemon:
    """A connection to the daemon, for one thread. Every error is a SourceError that names the daemon or the thing."""

    def __init__(self, seconds: int = SECONDS) -> None:
        """Connect; a call that takes longer than `seconds` raises UnreachableError."""
        self._seconds = seconds
        try:
            self._api = docker_api(seconds)
        except RestauraError as error:
            raise UnreachableError(error.what, where="Docker", fix=error.fix) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    def about(self) -> dict[str, str]:
        """Return the daemon's version, and the directory that it keeps its data in."""
        with self._asked("Docker"):
            return {"version": self._api.version()["Version"], "root": self._api.info()["DockerRootDir"]}

    def volumes(self) -> list[Volume]:
        """Return every volume, in the order of their names."""
        with self._asked("Docker's volumes"):
            listed = self._api.volumes()["Volumes"] or []
        return sorted(map(_volume, listed), key=lambda one: one.name)

    def volume(self, name: str) -> Volume:
        """Return one volume; GoneError when there is none."""
        with self._asked(f"volume {name}"):
            return _volume(self._api.inspect_volume(name))

    def create_volume(self, described: dict[str, Any]) -> Volume:
        """Create a volume as `Volume.described` has it; where there is one of the name, that one is returned."""
        with self._asked(f"volume {described['name']}"):
            made = self._api.create_volume(
                described["name"], described["driver"], described["options"] or None, described["labels"] or None
            )
            return _volume(made)

    def remove_volume(self, name: str) -> None:
        """Remove a volume that nobody uses; SourceError when somebody does, GoneError when there is none."""
        with self._asked(f"volume {name}"):
            self._api.remove_volume(name)

    def containers(self) -> list[Container]:
        """Return every container, stopped ones too; what goes while it is looked at is left out."""
        with self._asked("Docker's containers"):
            listed = self._api.containers(all=True)
        found = []
        for one in listed:
            with contextlib.suppress(GoneError):
                found.append(self.container(one["Id"]))
        return sorted(found, key=lambda one: one.name)

    def container(self, name: str) -> Container:
        """Return one container by id or name; GoneError when there is none."""
        with self._asked(f"container {name}"):
            return _container(self._api.inspect_container(name))

    def writers_since(self, since: datetime, volumes: Collection[str]) -> set[str]:
        """Return the ids of containers that had one of `volumes` mounted to write since then, gone ones too.

        As far as Docker remembers: it keeps its last 256 events.
        """
        with self._asked("Docker's events"):
            found = self._api.events(
                since=f"{since.timestamp():.6f}",
                until=f"{time.time():.6f}",
                filters={"type": "volume", "event": "mount"},
                decode=True,
            )
            mounted = [(one["Actor"]["ID"], one["Actor"]["Attributes"]) for one in found]
        return {said["container"] for name, said in mounted if name in volumes and said["read/write"] == "true"}

    def stop(self, container_id: str, seconds: int) -> None:
        """Stop a container; it is killed when it does not end within `seconds`. One that does not run stays so."""
        with self._asked(f"container {container_id[:12]}"):
            self._api.stop(container_id, timeout=seconds)

    def start(self, container_id: str) -> None:
        """Start a container; one that runs stays as it is. GoneError when there is none."""
        with self._asked(f"container {container_id[:12]}"):
            self._api.start(container_id)

    def pause(self, container_id: str) -> None:
        """Pause a container that runs."""
        with self._asked(f"container {container_id[:12]}"):
            self._api.pause(container_id)

    def unpause(self, container_id: str) -> None:
        """Let a paused container go on."""
        with self._asked(f"container {container_id[:12]}"):
            self._api.unpause(container_id)

    @contextlib.contextmanager
    def _asked(self, where: str) -> Iterator[None]:
        """Make errors of the client ours."""
        from docker.errors import APIError, DockerException, NotFound
        from requests import RequestException

        try:
            yield
        except NotFound as error:
            raise GoneError("there is none", where=where, fix="docker ps --all; docker volume ls") from error
        except APIError as error:
            raise SourceError(f"Docker says: {error.explanation or error}", where=where, fix="docker events") from error
        except (DockerException, RequestException, OSError) as error:
            what = f"the Docker daemon does not answer: {type(error).__name__} after up to {self._seconds} s"
            raise UnreachableError(what, where=where, fix="systemctl restart docker") from error


def _volume(data: dict[str, Any]) -> Volume:
    return Volume(data["Name"], data["Driver"], data["Options"] or {}, data["Labels"] or {}, data["Mountpoint"])


def _container(data: dict[str, Any]) -> Container:
    config, host, state = data["Config"], data["HostConfig"], data["State"]
    mounts = [
        Mount(
            one.get("Name", "") if one["Type"] == "volume" else "",
            one.get("Source", "") if one["Type"] in ("bind", "volume") else "",
            one["Destination"],
            one["RW"],
        )
        for one in data["Mounts"]
    ]
    mode = host.get("NetworkMode") or ""
    return Container(
        data["Id"],
        data["Name"].lstrip("/"),
        state["Status"],
        state["StartedAt"],
        state["ExitCode"],
        (state.get("Health") or {}).get("Status", ""),
        data["Image"],
        config["Labels"] or {},
        tuple(mounts),
        host["RestartPolicy"]["Name"],
        STOP_SECONDS if config.get("StopTimeout") is None else config["StopTimeout"],
        host["AutoRemove"],
        mode.removeprefix("container:") if mode.startswith("container:") else "",
    )
