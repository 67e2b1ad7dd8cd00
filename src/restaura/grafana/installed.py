# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana of this host: a systemd unit or a container, with its settings and the places of its files."""

import contextlib
import io
import json
import re
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restaura import units
from restaura.errors import RestauraError, SourceError
from restaura.grafana.settings import Settings
from restaura.process import run
from restaura.runners.container import address_of
from restaura.volumes.daemon import Container, Daemon
from restaura.volumes.daemon import within as is_within

CONFIG = "/etc/grafana/grafana.ini"


@dataclass(frozen=True)
class Installed:
    """One Grafana. `config` is where it reads grafana.ini, `ini` what stands there; both as Grafana sees them."""

    unit: str
    container: Container | None
    config: str
    ini: bytes = field(repr=False)
    settings: Settings = field(repr=False)

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self.container.runs if self.container else bool(units.running([self.unit]))

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"container {self.container.name}" if self.container else self.unit

    def here(self, path: str) -> Path | None:
        """Return where this host has a path of Grafana's; None for what is in the container's image or layer alone."""
        return _here(self.container, path) if self.container else Path(path)

    @property
    def url(self) -> str:
        """Where the API answers; empty where that is a socket. RestauraError for a container that does not run."""
        return self.settings.url(address_of(self.container.name) if self.container else "127.0.0.1")

    def has(self, pid: int) -> bool:
        """Whether a process is one of its container's, by its control group."""
        with contextlib.suppress(OSError):
            groups = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape")
            return self.container is not None and self.container.id in groups
        return True

    def plugins(self) -> list[dict[str, str]]:
        """Return the plugins that were installed: their ids and versions."""
        folder = self.here(self.settings.plugins)
        found = []
        for path in sorted(folder.glob("*/plugin.json")) + sorted(folder.glob("*/dist/plugin.json")) if folder else ():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                told = json.loads(path.read_text())
                found.append({"id": str(told["id"]), "version": str(told["info"]["version"])})
        return found


def find(unit: str, container: str, config: str) -> Installed:
    """Return the Grafana of that unit or container; SourceError when there is none, or its settings cannot be read."""
    if container:
        with Daemon() as daemon:
            there = daemon.container(container)
        return _made(unit, there, config, _container_environment(container))
    return _made(unit, None, config, _unit_environment(unit))


def _made(unit: str, container: Container | None, config: str, environment: Mapping[str, str]) -> Installed:
    path = config or environment.get("GF_PATHS_CONFIG") or environment.get("CONF_FILE") or CONFIG

    def read(name: str) -> bytes | None:
        here = _here(container, name) if container else Path(name)
        try:
            return here.read_bytes() if here else _from_image(container, name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=name) from error

    def text(name: str) -> str | None:
        data = read(name)
        return None if data is None else data.decode(errors="replace")

    ini = read(path) or b""
    return Installed(unit, container, path, ini, Settings(ini.decode(errors="replace"), environment, text))


def _here(container: Container, path: str) -> Path | None:
    fitting = [one for one in container.mounts if one.source and is_within(path, one.destination)]
    if not fitting:
        return None
    best = max(fitting, key=lambda one: len(one.destination))
    return Path(best.source + path[len(best.destination.rstrip("/")) :])


def _from_image(container: Container | None, path: str) -> bytes | None:
    """Read a file of a container that no volume holds (it need not run)."""
    from docker.errors import DockerException, NotFound

    from restaura.runners.container import docker_api

    with contextlib.closing(docker_api()) as client:
        try:
            stream, _ = client.get_archive(container.id if container else "", path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as packed:
                file = packed.extractfile(packed.next() or "")
                return file.read() if file else None
        except NotFound:
            return None
        except (DockerException, tarfile.TarError, KeyError) as error:
            raise SourceError(f"cannot be read: {error}", where=f"container, {path}", fix="docker info") from error


def _container_environment(name: str) -> dict[str, str]:
    from docker.errors import DockerException

    from restaura.runners.container import docker_api

    with contextlib.closing(docker_api()) as client:
        try:
            told: dict[str, Any] = client.inspect_container(name)
        except DockerException as error:
            raise SourceError(f"Docker says: {error}", where=f"container {name}", fix="docker ps --all") from error
    return dict(one.split("=", 1) for one in told["Config"].get("Env") or () if "=" in one)


def _unit_environment(unit: str) -> dict[str, str]:
    """Return the environment that systemd gives a unit; SourceError for one that it does not know."""
    if units.missing([unit]):
        fix = "name its unit or container (`unit`, `container`), or with `unit: ''` and `url` a Grafana elsewhere"
        raise SourceError("systemd knows no such unit", where=unit, fix=fix)
    try:
        _, out, _ = run(["systemctl", "show", "--property=Environment,EnvironmentFiles", "--", unit])
    except RestauraError as error:
        raise SourceError(error.what, where=unit, fix=f"systemctl show {unit}") from error
    found: dict[str, str] = {}
    files = ""
    for line in out.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        if name == "Environment":
            found |= _pairs(shlex.split(value))
        elif name == "EnvironmentFiles" and value:
            with contextlib.suppress(OSError):
                # What files say comes later, and wins (systemd.exec(5), EnvironmentFile=).
                files += Path(re.sub(r" \(ignore_errors=\w+\)$", "", value)).read_text(errors="replace") + "\n"
    for line in files.splitlines():
        if line.strip() and line.strip()[0] not in "#;":
            name, _, value = line.partition("=")
            with contextlib.suppress(ValueError):
                found[name.strip()] = " ".join(shlex.split(value))
    return found


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(one.split("=", 1) for one in words if "=" in one)
