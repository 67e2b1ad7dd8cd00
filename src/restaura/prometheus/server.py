# SPDX-License-Identifier: GPL-3.0-or-later
"""One Prometheus server: how it is reached, what it says of itself, and where on this host its files are."""

import base64
import contextlib
import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from restaura import process
from restaura.errors import RestauraError, SourceError
from restaura.host import Host
from restaura.paths import read_secret
from restaura.prometheus.settings import PrometheusComponent
from restaura.runners.container import address_of, docker_api
from restaura.web import Service

PORT = 9090
PATIENCE = 5.0
ADMIN_FLAG = "--web.enable-admin-api"
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_SIZE = re.compile(r"(\d+)([KMGTPE]i)?B")
_POWERS = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}

Kind = Literal["unit", "container", "network"]


@dataclass(frozen=True)
class Facts:
    """What a running server says of itself. Paths are as it sees them, absolute.

    `retention` is in seconds and `retention_bytes` in bytes, 0 for no limit. `loaded` says whether it could read its
    configuration when it last did, at `loaded_at` (Unix time); `masked` that it shows secrets in it as such.
    """

    version: str
    data: str
    config: str
    web_config: str
    admin_api: bool
    retention: float
    retention_bytes: int
    loaded: bool
    loaded_at: float
    masked: bool
    out_of_order: bool


@dataclass(frozen=True)
class Place:
    """Where the files that a server sees are on this host.

    `mounts` are a container's (what it sees, what that is here). `root` is the directory that stands for its `/` while
    it runs, "" when it does not.
    """

    kind: Kind
    root: str = "/"
    mounts: Sequence[tuple[str, str]] = ()

    def on_host(self, path: str) -> str:
        """Return where a path of the server's is on this host, or "" when it is part of a container's image."""
        if self.kind != "container":
            return path
        best = max((one for one in self.mounts if _within(path, one[0])), key=lambda one: len(one[0]), default=None)
        return best[1].rstrip("/") + path[len(best[0].rstrip("/")) :] if best else ""

    def readable(self, path: str) -> str:
        """Return where a path of the server's can be read now, links followed as it does; "" when nowhere."""
        if self.kind != "container":
            return os.path.realpath(path)
        if here := self.on_host(self.resolved(path)):
            return here
        return self.root.rstrip("/") + self.resolved(path) if self.root else ""

    def resolved(self, path: str) -> str:
        """Return the path without links, as the server follows them."""
        if self.kind != "container":
            return os.path.realpath(path)
        done, left, links = "", [one for one in path.split("/") if one], 0
        while left:
            name = left.pop(0)
            if name in (".", ".."):
                done = done.rpartition("/")[0] if name == ".." else done
                continue
            step = f"{done}/{name}"
            here = self.on_host(step) or (f"{self.root.rstrip('/')}{step}" if self.root else "")
            if here and Path(here).is_symlink() and links < 40:
                links += 1
                target = str(Path(here).readlink())
                done = "" if target.startswith("/") else done
                left = [one for one in target.split("/") if one] + left
            else:
                done = step
        return done or "/"


@dataclass
class Server:
    """A component's server. Nothing is asked before it is needed."""

    options: PrometheusComponent
    host: Host = field(repr=False)

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"component {self.options.name}"

    @cached_property
    def kind(self) -> Kind:
        """How it runs: in a container, as a unit of this host, or only reached over the network."""
        if self.options.container:
            return "container"
        name = urlsplit(self.options.url).hostname
        return "unit" if name is None or _is_here(name) else "network"

    @property
    def start_command(self) -> str:
        """The command that starts it."""
        if self.kind == "network":
            return f"start the server at {self.options.url}"
        if self.kind == "container":
            return f"docker start {self.options.container}"
        return f"systemctl start {self.options.unit}"

    def pid(self) -> int:
        """Return the process id of the server on this host, 0 when it does not run or is not here."""
        if self.kind == "container":
            with contextlib.suppress(RestauraError):
                return int(self.inspected()["State"]["Pid"])
        elif self.kind == "unit":
            argv = ["systemctl", "show", "--property=MainPID", "--value", "--", self.options.unit]
            with contextlib.suppress(RestauraError, ValueError):
                return int(process.run(argv)[1].strip() or 0)
        return 0

    @cached_property
    def service(self) -> Service:
        """The server's HTTP API; SourceError when nothing says where it is."""
        options = self.options
        headers = {}
        where = f"component {options.name}"
        secrets = {name: self.host.secret("components", options.name, name) for name in ("password", "token")}
        if options.username and secrets["password"]:
            given = f"{options.username}:{read_secret(secrets['password'], where)}"
            headers["Authorization"] = "Basic " + base64.b64encode(given.encode()).decode()
        elif secrets["token"]:
            headers["Authorization"] = "Bearer " + read_secret(secrets["token"], where, "token").strip()
        url = options.url or self._url()
        return Service(url, headers, options.ca_file, patience=PATIENCE, fix=self.start_command)

    def _url(self) -> str:
        """Return where the server's own command line says that it listens."""
        flags = flags_of(self.pid())
        address, _, port = flags.get("web.listen-address", f"0.0.0.0:{PORT}").rpartition(":")
        prefix = flags.get("web.route-prefix") or urlsplit(flags.get("web.external-url", "")).path
        if self.kind == "container":
            try:
                address = address_of(self.options.container)
            except RestauraError as error:
                raise SourceError(error.what, where=self.where, fix=error.fix) from error
        elif address in ("", "0.0.0.0", "[::]", "::"):  # noqa: S104  compared, not listened on
            address = "127.0.0.1"
        return f"http://{address}:{port}/{prefix.strip('/')}".rstrip("/")

    def ask(self, path: str, **params: Any) -> Any:
        """Return the `data` of an answer of the API."""
        return self.service.json("GET", f"/api/v1/{path}", params=params)["data"]

    def facts(self) -> Facts:
        """Ask the server about itself; SourceError when it does not answer, or has not got a TSDB."""
        flags, runtime, config = (self.ask(f"status/{name}") for name in ("flags", "runtimeinfo", "config"))
        if flags.get("agent") == "true" or "agent" in flags.get("enable-feature", "").split(","):
            fix = "back up the server that it writes to"
            raise SourceError("it runs as an agent, and keeps no data of its own", where=self.where, fix=fix)
        folder = runtime.get("CWD", "/")
        text = config["yaml"]

        def absolute(flag: str) -> str:
            given = flags.get(flag, "")
            return os.path.normpath(Path(folder) / given) if given else ""

        said = str(runtime.get("storageRetention", ""))
        return Facts(
            version=self.ask("status/buildinfo")["version"],
            data=absolute("storage.tsdb.path"),
            config=absolute("config.file"),
            web_config=absolute("web.config.file"),
            admin_api=flags.get("web.enable-admin-api") == "true",
            retention=seconds(said.partition(" or ")[0]),
            retention_bytes=bytes_of(said),
            loaded=bool(runtime.get("reloadConfigSuccess", True)),
            loaded_at=_unix(str(runtime.get("lastConfigTime", ""))),
            masked="<secret>" in text or ":xxxxx@" in text,
            out_of_order=bool(re.search(r"^\s*out_of_order_time_window: *[1-9]", text, re.MULTILINE)),
        )

    def rule_files(self) -> list[str]:
        """Return the files whose rules the server has loaded now, as it sees them: one may have vanished since."""
        folder = self.ask("status/runtimeinfo").get("CWD", "/")
        found = {one["file"] for one in self.ask("rules")["groups"]}
        return sorted(os.path.normpath(Path(folder) / one) for one in found)

    def place(self) -> Place:
        """Say where its files are on this host; SourceError when the container is not there."""
        if self.kind != "container":
            return Place(self.kind)
        told = self.inspected()
        mounts = [(one["Destination"], one["Source"]) for one in told["Mounts"] if one.get("Source")]
        pid = told["State"]["Pid"]
        return Place("container", f"/proc/{pid}/root" if pid else "", mounts)

    def inspected(self) -> dict[str, Any]:
        """Return what Docker tells of the container; SourceError when there is none."""
        from docker.errors import DockerException, NotFound

        try:
            with contextlib.closing(docker_api()) as client:
                told: dict[str, Any] = client.inspect_container(self.options.container)
                return told
        except NotFound as error:
            raise SourceError("there is no such container", where=self.where, fix="docker ps --all") from error
        except (DockerException, RestauraError) as error:
            raise SourceError(f"the Docker daemon: {error}", where=self.where, fix="docker info") from error

    def data_on_host(self, path: str, place: Place) -> tuple[str, tuple[str, str] | None]:
        """Return the data directory on this host, or "" with (what, fix) when it cannot be said."""
        options = self.options
        if options.data_directory:
            return os.path.realpath(options.data_directory), None
        if self.kind == "network":
            fix = f"run Restaura on its host, or mount its data here and set data_directory of component {options.name}"
            return "", (f"the server is reached over the network alone ({options.url}), and its data is not here", fix)
        here = place.on_host(place.resolved(path))
        if not here:
            what = f"its data ({path}) is in the container {options.container} itself, and would be lost with it"
            return "", (what, f"mount a volume at {path}: docker run -v prometheus:{path} …")
        return os.path.realpath(here), None

    def admin_fix(self) -> str:
        """Return what turns the admin API on."""
        if self.kind == "container":
            return (
                f"add {ADMIN_FLAG} to the command of container {self.options.container} (Compose: `command:`, after "
                "the flags that are there), and make it anew: docker compose up -d"
            )
        if self.kind == "network":
            return f"add {ADMIN_FLAG} to the flags of the server at {self.options.url}, and restart it"
        return (
            "set backup_prometheus_enable_admin_api: true, then ansible-playbook setup_backup.yml; or add "
            f"{ADMIN_FLAG} to ARGS in /etc/default/prometheus, then systemctl restart {self.options.unit}"
        )

    def ready(self, limit: float) -> None:
        """Wait until the server says that it is ready; SourceError after `limit` seconds."""
        deadline = time.monotonic() + limit
        while True:
            # Where it listens is known by its process alone, and that may be a new one.
            service = replace(self, options=self.options).service
            try:
                with replace(service, patience=0).answer("GET", "/-/ready"):
                    return
            except SourceError as error:
                if time.monotonic() > deadline:
                    what = f"was started, and is not ready after {limit:.0f} s: {error.what}"
                    raise SourceError(what, where=self.where, fix=self.look) from error
            time.sleep(0.2)

    def blocks_loaded(self) -> int:
        """Return how many blocks the server has open, as its own metrics tell."""
        with self.service.answer("GET", "/metrics") as answer:
            found = re.search(r"^prometheus_tsdb_blocks_loaded ([0-9.e+]+)$", answer.text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    @property
    def look(self) -> str:
        """The command that shows its log."""
        if self.kind == "container":
            return f"docker logs {self.options.container}"
        return f"journalctl -u {self.options.unit}"


def flags_of(pid: int) -> dict[str, str]:
    """Return the flags of a process's command line, without dashes; of one given twice the first."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("-"):
            name, given, value = word.lstrip("-").partition("=")
            found.setdefault(name, value if given else "" if after.startswith("-") else after)
    return found


def seconds(text: str) -> float:
    """Return a duration of Prometheus (`15d`, `1d12h`) in seconds; 0 for none."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def bytes_of(text: str) -> int:
    """Return the size that stands in a text (`15d or 1GiB512MiB`), 0 when none does."""
    return sum(int(number) * 1024 ** _POWERS[unit] for number, unit in _SIZE.findall(text))


def version_key(version: str) -> tuple[int, int]:
    """Return major and minor version, to be compared; (0, 0) for what is no version."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _within(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _is_here(name: str) -> bool:
    """Whether a host name is one of this machine's own addresses: only those can be bound to."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(name, 0, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as one:
                one.bind(address)
                return True
    return False


def _unix(text: str) -> float:
    """Return an RFC 3339 time as Unix time, 0 for what is none."""
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()
    return 0.0
