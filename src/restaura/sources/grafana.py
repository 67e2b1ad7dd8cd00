# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana: its SQLite database, its settings and provisioning files, and what its API exports, from one moment.

The database is copied through SQLite while Grafana runs; it is what a restore to `live` puts back. The export is what
another Grafana can take (`--to api`), and what a person can read.
"""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restaura import exchange, mounts, units
from restaura.config.schema import Component, setting
from restaura.errors import ConfigError, DamagedError, NoPointError, RefusedError, RestauraError, SourceError
from restaura.grafana import api, database, encryption, restore, swap
from restaura.grafana.capture import Captured, provisioning
from restaura.grafana.content import ALGORITHM, DATABASE, EXPORTS, INI, PARTS, do_not_open, provisioning_parts
from restaura.grafana.content import PROVISIONING as FILES
from restaura.grafana.installed import Installed, find
from restaura.point import Consistency, Depth, Fingerprint
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree
from restaura.web import Service

if TYPE_CHECKING:
    from restaura.host import Host

OWNER = "source:grafana"
PROBE_SECONDS = 2.0


@dataclass(frozen=True)
class GrafanaComponent(Component):
    """One Grafana."""

    unit: str = setting(
        "Its systemd unit. With `unit: ''` and no `container` it is elsewhere: `url` and a token then give its export.",
        default="grafana-server.service",
        pattern=r"(|[A-Za-z0-9:_.@\\-]+\.service)",
    )
    container: str = setting("Name of the container that it runs in.", default="")
    config: str = setting(
        "Path of grafana.ini, as Grafana sees it. Empty: as its environment says, or /etc/grafana/grafana.ini.",
        default="",
        pattern=r"(|(/[^/\0]+)+)",
    )
    url: str = setting(
        "Where its API answers. Empty: what its settings say, at 127.0.0.1 or the container's address.",
        default="",
        pattern=r"(|https?://[^\s/@]+(/\S*)?)",
        example="https://grafana.example.com",
    )
    ca_file: str = setting("PEM file of the only authority to trust.", default="", pattern=r"(|/.+)")
    token: str | None = setting(
        "Token of a service account with the role Admin, for the export. Without it and `password`, dashboards are "
        "exported from the database, and all else stands in `grafana.db` alone.",
        default=None,
        secret=True,
    )
    user: str = setting("User, where there is a `password` and no `token`.", default="admin")
    password: str | None = setting("Password of that user.", default=None, secret=True)
    org: int = setting("Organisation to export; 0 is that of the token, or the user's own.", default=0, minimum=0)
    external_database: bool = setting(
        "Whether its Postgres or MySQL database is another component's business: this one then holds all the rest.",
        default=False,
    )
    stop_timeout: int = setting(
        "Seconds that its container gets to stop for a restore, before Docker kills it.", default=30, minimum=1
    )


class Grafana:
    """One Grafana: of a systemd unit, in a container, or elsewhere."""

    def __init__(self, options: GrafanaComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._where = f"component {options.name}"

    @cached_property
    def _installed(self) -> Installed | None:
        """The Grafana of this host; None when it is elsewhere."""
        options = self._options
        return find(options.unit, options.container, options.config) if options.unit or options.container else None

    def _url(self) -> str:
        return self._options.url or (self._installed.url if self._installed else "")

    def _secret(self, name: str) -> Path | None:
        return self._host.secret("components", self._options.name, name)

    def _service(self) -> Service | None:
        """Return the API with the component's credentials; None where it has none."""
        options, token, password = self._options, self._secret("token"), self._secret("password")
        if not token and not password:
            return None
        if not (url := self._url()):
            raise SourceError("listens at no port, only at a socket", where=self._where, fix="set `url`")
        return api.login(url, token, options.user, password, options.ca_file, options.org)

    def _version(self) -> str:
        """Return the version of the server where it answers at once, else nothing."""
        with contextlib.suppress(RestauraError, ImportError):
            if url := self._url():
                return api.health(Service(url, ca_file=self._options.ca_file, read_seconds=5, patience=0))
        return ""

    # Capture

    def probe(self) -> Probe:
        """Look at the settings and the database, and whether the API takes the credentials."""
        problems: list[tuple[str, str]] = []
        warnings: list[str] = []
        version, size = "", 0
        try:
            if there := self._installed:
                size = self._look(there, problems, warnings)
            service = self._service()
            if not there and not (self._options.url and service):
                fix = f"set them for {self._where}, or name its `unit` or `container`"
                problems.append(("a Grafana elsewhere needs `url`, and `token` or `password`", fix))
            if service:
                quick = replace(service, patience=PROBE_SECONDS)
                version = api.health(quick)
                api.organisation(quick)
            else:
                warnings.append("without a token, all but dashboards is in grafana.db alone, and not exported")
                version = self._version()
        except RestauraError as error:
            problems.append((f"{error.where}: {error.what}" if error.where else error.what, error.fix))
        held: Consistency = "transactional" if size else "crash"
        return Probe({"server": version} if version else {}, size, held, problems, warnings)

    def _look(self, there: Installed, problems: list[tuple[str, str]], warnings: list[str]) -> int:
        """Look at what is installed here; return the size of the database, 0 where it is not SQLite's."""
        settings = there.settings
        provisioning(there, "catalog")
        if settings.engine != "sqlite3":
            if not self._options.external_database:
                fix = "back it up as a component of its own (`postgres`) in the same plan"
                if not settings.engine.startswith("postgres"):
                    fix = f"have {settings.engine}'s own dump written into files that a `files` component holds"
                fix += f", and set `external_database: true` of {self._where}"
                problems.append((f"its database is {settings.engine}, not SQLite", fix))
            return 0
        if not encryption.available():
            warnings.append(f"secrets are not opened to prove them: apt-get install {encryption.PACKAGE}")
        path = there.here(settings.database)
        if path is None:
            what = f"{settings.database} is in no volume: it goes when the container goes"
            problems.append((what, f"mount a volume at {settings.data} of {there.where}"))
        elif not path.is_file():
            problems.append((f"there is no database {path}", f"start {there.where} once, or correct `config`"))
        else:
            return database.size(path)
        return 0

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Read the settings: all else is a matter of the moment."""
        _ = self._installed
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[Captured]:  # noqa: ARG002
        """Copy the database through SQLite and export through the API; Grafana itself runs on."""
        service = self._service()
        with self._host.spool("grafana") as spool:
            captured = Captured(self._host, self._options.name, spool, depth)
            if self._installed:
                captured.take(self._installed)
            captured.export(service, api.health(service) if service else self._version())
            yield captured

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make an empty root-only directory in the spool."""
        with self._host.spool("drill-grafana") as path:
            yield Target("scratch", str(path))

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Unpack the point into a directory, beside the live files, or as documents for the API."""
        if target.kind not in ("live", "dir", "scratch", "api"):
            raise ConfigError(f"Grafana cannot be restored to {target.kind!r}", fix="--to live, dir:PATH or api")
        if wrong := [one for one in target.paths if one not in PARTS]:
            fix = f"--path one of: {', '.join(PARTS)}"
            raise NoPointError(f"{wrong[0]!r} is no part of a Grafana", where=self._where, fix=fix)
        wanted = [one for one in target.paths or PARTS if one in point.names()]
        if target.kind == "live":
            return self._stage_live(point, target, wanted)
        folder = Path(target.value)
        if target.kind == "dir" and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RefusedError("is not an empty directory", where=str(folder), fix="--to dir:/PATH")
        if target.kind == "api":
            folder = self._host.paths.kept / f"grafana-{secrets.token_hex(6)}"
        with self._staging([folder]) as debt:
            if target.kind == "api":
                data = restore.unpack(point, folder / swap.WANTED, [], {})
                notes = restore.for_api(point, restore.content(data))
                staged = Staged(target, {**data, "debt": debt, "root": str(folder)}, notes, part=True)
            else:
                self._need_space(folder, point)
                data = restore.unpack(point, folder, wanted, {})
                staged = Staged(target, {**data, "debt": debt}, part=bool(target.paths))
        if target.kind == "scratch":
            # The spool it stands in is a debt of its own.
            self._host.journal.settle(debt)
        return staged

    def _stage_live(self, point: PointReader, target: Target, wanted: list[str]) -> Staged:
        """Unpack beside the live files, on the file system of each; refuse what this Grafana could not use."""
        there, notes = self._installed, list[str]()
        if there is None or not wanted:
            what = "is elsewhere: only its API can be reached" if wanted else "the point holds its export alone"
            raise RefusedError(f"Grafana: {what}", where=self._where, fix="--to api")
        with self._host.spool("grafana") as spool:
            before = restore.content(restore.unpack(point, spool / "point", [], {}))
            live = restore.places(there, before, wanted, notes)
        if DATABASE in live:
            notes += restore.refuse_older(before.described["version"], self._version(), there)
        name = f"{exchange.STAGE}{secrets.token_hex(6)}"
        holds = {part: restore.existing_parent(path) / name for part, path in live.items()}
        folder = (holds.get(DATABASE) or next(iter(holds.values()))) / "point"
        self._need_space(restore.existing_parent(folder), point)
        with self._staging(list(holds.values())) as debt:
            places = {part: holds[part] / str(path).lstrip("/") for part, path in live.items()}
            for part, path in places.items():
                restore.make_parents(holds[part], path)
            data = restore.unpack(point, folder, list(live), places)
            for part in (DATABASE, INI):
                if part in live:
                    recorded = before.described.get(part)
                    restore.put_on(places[part], live[part], recorded, numeric=there.container is not None)
            if DATABASE in live:
                restore.refuse_unknown_migrations(places[DATABASE], live[DATABASE], there)
        notes += [*data[FILES].get("notes", ()), *restore.missing_plugins(folder, there)]
        data |= {
            "debt": debt,
            "holds": {part: str(path) for part, path in holds.items()},
            "live": {part: str(path) for part, path in live.items()},
        }
        return Staged(target, data, notes, part=set(live) != {one for one in PARTS if one in point.names()})

    @contextlib.contextmanager
    def _staging(self, holds: Sequence[Path]) -> Iterator[str]:
        """Journal what is about to be built, and remove it again when that fails."""
        debt = self._host.journal.write(OWNER, "stage", {"holds": sorted({str(one) for one in holds})})
        try:
            yield debt.id
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise

    def _need_space(self, folder: Path, point: PointReader) -> None:
        place = folder if folder.is_dir() else restore.existing_parent(folder)
        self._host.need_space(place, point.component.bytes, f"point {point.point_id}, {self._where}")

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was unpacked; for the API, the documents as they were exported.

        In a drill, secrets that do not open disprove the point (DamagedError), though they did not open before either.
        """
        content = restore.content(staged.data)
        wanted = staged.data["wanted"] if staged.part else PARTS
        parts, counts, sealed = content.fingerprint(depth, (*wanted, EXPORTS))
        if sealed and staged.target.kind == "scratch":
            raise DamagedError(do_not_open(sealed), where=f"{self._where}, restored")
        if tree := staged.data[FILES]:
            index = restore.provisioning(tree, depth)
            loose = [f"{index.roots[0]}{one[len(tree['root']) :]}" for one in tree["loose"]]
            found = provisioning_parts(index, depth, bytes.fromhex(content.described["salt"]), loose)
            parts, counts = parts | found[0], counts | found[1]
        return Fingerprint(ALGORITHM, depth, parts, counts)

    def busy(self, staged: Staged) -> list[str]:
        """Name every process that has the database open, but for Grafana itself: the swap stops that."""
        if staged.target.kind != "live" or self._installed is None or DATABASE not in staged.data["live"]:
            return []
        own = units.running([self._options.unit]) if not self._installed.container else []
        return [
            str(one)
            for one in mounts.holders([staged.data["live"][DATABASE]])
            if one.unit not in own and not self._installed.has(one.pid)
        ]

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Record what changes places and what is stopped for it; by the API, export what is there before."""
        options = self._options
        if staged.target.kind == "api":
            return self._plan_api(staged)
        there = self._installed
        if staged.target.kind != "live" or there is None:
            return {}
        holds = sorted(set(staged.data["holds"].values()))
        planners = [
            exchange.Planner(number, Path(hold), lambda _path, _is_dir: False, lambda _path: False)
            for number, hold in enumerate(holds)
        ]
        for part, path in staged.data["live"].items():
            planners[holds.index(staged.data["holds"][part])].add(path.lstrip("/"))
        pairs = [exchange.Hold(one, one.replace(exchange.STAGE, exchange.KEPT)) for one in holds]
        runs = there.runs
        return {
            **exchange.record(pairs, planners),
            "databases": [path for part, path in staged.data["live"].items() if part == DATABASE],
            "units": units.running([options.unit]) if runs and not there.container else [],
            "container": options.container if runs and there.container else "",
            "stop_seconds": options.stop_timeout,
            "server": {"unit": options.unit, "container": options.container, "config": options.config},
            "url": options.url,
            "ca_file": options.ca_file,
        }

    def _plan_api(self, staged: Staged) -> dict[str, Any]:
        service, options = self._service(), self._options
        if service is None:
            raise RefusedError("has no token", where=self._where, fix="set `token` of the component")
        folder = Path(staged.data["root"])
        api.organisation(service)
        api.export(service, folder / swap.BEFORE)
        token, password = (str(self._secret(one) or "") for one in ("token", "password"))
        told = {"url": service.url, "token": token, "password": password, "user": options.user, "org": options.org}
        return {"api": {**told, "ca_file": options.ca_file}, "directory": str(folder)}

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Name the directory that holds grafana.db."""
        if staged and staged.target.kind != "api":
            return {"RESTAURA_TARGET": staged.data["folder"]}
        path = self._installed.here(self._installed.settings.database) if self._installed else None
        return {"RESTAURA_TARGET": str(path.parent) if path else "/"}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Stop Grafana, exchange, start it, and wait until it is well; or write the documents by the API."""
        swap.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Exchange back; or by the API write what was there before, and delete what was not."""
        swap.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        swap.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Remove what was staged and never swapped."""
        if act != "stage":
            raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)
        exchange.remove_staged(data["holds"])


SOURCE = SourceKind(
    "grafana",
    GrafanaComponent,
    Grafana,
    packages=(encryption.PACKAGE, "python3-docker", "python3-requests"),
    files=False,
    tier="services",
)
