# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith: a workspace read through its API, kept whole in every point, and imported again as far as the API lets.

The artifacts: a JSON array for each kind of object (`runs.json`, `projects.json`, `datasets.json`, `examples.json`,
`prompts.json`, `feedback.json`, `annotation_queues.json`), and `attachments`, a tree.
"""

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from restaura.config.schema import Component, setting
from restaura.errors import ConfigError, DamagedError, RefusedError, RestauraError, SourceError
from restaura.hold import Hold
from restaura.langsmith import importing
from restaura.langsmith.api import Address, moment_of
from restaura.langsmith.archive import ATTACHMENTS, DATABASE, KINDS, Archive, file_of, opened
from restaura.langsmith.capture import Reader, Selection, now
from restaura.paths import Paths, private_dir
from restaura.point import Depth, Fingerprint
from restaura.sources import UNLIMITED, Artifact, Outcome, PointReader, Probe, SourceKind, Staged, Stream, Target, Tree
from restaura.stores.tar import Chunks
from restaura.trees import Index

if TYPE_CHECKING:
    from restaura.host import Host

OWNER = "source:langsmith"
PROBE_SECONDS = 60.0
_CHUNK = 1 << 18


@dataclass(frozen=True)
class LangsmithComponent(Component):
    """Settings of a `langsmith` component."""

    url: str = setting(
        "Address of the API. In the EU `https://eu.api.smith.langchain.com`; self-hosted, the address of the server.",
        default="https://api.smith.langchain.com",
        pattern=r"https?://[^\s/@?#]+(/[^\s?#]*)?",
    )
    api_key: str | None = setting("API key; a restore needs one that may write.", default=None, secret=True)
    workspace: str = setting(
        "Id of the workspace; needed with a key of a whole organisation.", default="", pattern=r"(|[0-9a-fA-F-]{36})"
    )
    ca_file: str = setting("PEM file of the only authority that is trusted; empty: the host's.", default="")
    projects: tuple[str, ...] = setting(
        "Projects whose runs are read (shell patterns); empty: all.", default=(), example=["shop-*"]
    )
    exclude_projects: tuple[str, ...] = setting("Projects that are left out (shell patterns).", default=())
    since: str = setting(
        "Day from which runs are read the first time; empty: all that the server has.",
        default="",
        pattern=r"(|\d{4}-\d{2}-\d{2})",
        example="2026-01-01",
    )
    late_hours: int = setting(
        "Hours before the last point that are read again, for runs that came or ended late.", default=48, minimum=1
    )
    page_size: int = setting("Runs asked for at a time (at most 1000).", default=100, minimum=1)
    compare_counts: bool = setting(
        "Whether the number of runs must not be short of what the server counts (`/runs/stats`).", default=True
    )
    requests_per_minute: int = setting("Requests sent in a minute, at most.", default=600, minimum=1)
    deadline: int = setting(
        "Seconds for reading the workspace before the freeze, and again after it.", default=3000, minimum=1
    )


@dataclass
class Captured:
    """The workspace as of `until`; what is new is read once ingestion goes on."""

    reader: Reader
    until: datetime
    depth: Depth
    notes: list[str] = field(default_factory=list)
    hold: Hold | None = None

    def artifacts(self) -> Iterator[Artifact]:
        """Read what is new, and yield everything."""
        archive = self.reader.archive
        with _told():
            self.reader.after(self.until)
        for kind in KINDS:
            yield Stream(file_of(kind), lambda kind=kind: _lines(archive, kind))  # type: ignore[misc]
        index = archive.scan(self.depth)
        if index.total_bytes or any(one.type == "file" for one in index.entries):
            yield Tree(ATTACHMENTS, archive.attachments, index, expanded=ATTACHMENTS)

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:
        """Fingerprint the archive, and what the store holds of the attachments."""
        with _told():
            fingerprint = self.reader.archive.fingerprint(self.depth, indexes.get(ATTACHMENTS))
        return Outcome(fingerprint, "crash", list(dict.fromkeys([*self.notes, *self.reader.notes])))


class Langsmith:
    """The source `langsmith`."""

    def __init__(self, options: LangsmithComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._where = f"component {options.name}"
        self._open = contextlib.ExitStack()
        self._reader: Reader | None = None
        self._notes: list[str] = []

    # Capture

    def probe(self) -> Probe:
        """Ask who the key belongs to, and whether the chosen projects are there."""
        options, problems = self._options, list[tuple[str, str]]()
        if options.since and _day(options.since) is None:
            problems.append((f"since: {options.since} is no day", f"correct since of component {options.name}"))
        if options.page_size > 1000:
            problems.append(("page_size is more than 1000", f"correct page_size of component {options.name}"))
        try:
            api = self._address().open(PROBE_SECONDS)
            info = api.find("/v1/info") or {}
            api.get("/v1/settings")
            if options.projects:
                names = [str(one["name"]) for one in api.pages("/v1/sessions", include_stats="false")]
                for one in options.projects:
                    if not any(Selection([one], ()).takes(name) for name in names):
                        problems.append((f"there is no project {one!r}", f"correct projects of {self._where}"))
        except RestauraError as error:
            return Probe(
                problems=[*problems, (f"{error.where}: {error.what}" if error.where else error.what, error.fix)]
            )
        size = (self._folder / DATABASE).stat().st_size if (self._folder / DATABASE).is_file() else 0
        return Probe({"server": str(info.get("version") or "")}, size, "crash", problems)

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Read the runs and prompts that there are by now; after the freeze only what is new is read."""
        with _told():
            if not (self._folder / DATABASE).exists():
                self._notes.append(
                    "the archive was begun: of runs and feedback it has what LangSmith has by now, and no more"
                )
            archive = self._open.enter_context(opened(self._folder, self._notes))
            self._reader = self._new_reader(archive)
            try:
                self._reader.before(now())
            except BaseException:
                self._open.close()
                raise
        return []

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[Captured]:  # noqa: ARG002
        """Fix the instant: what began later is left out. Nothing stands still, and nothing is asked yet."""
        until = now()
        with self._open:
            if self._reader is None:
                raise SourceError("nothing was prepared", where=self._where)
            self._reader.api = self._address().open(self._options.deadline)
            yield Captured(self._reader, until, depth, self._notes)

    def _new_reader(self, archive: Archive) -> Reader:
        options = self._options
        return Reader(
            self._address().open(options.deadline),
            archive,
            Selection(options.projects, options.exclude_projects),
            _day(options.since),
            timedelta(hours=options.late_hours),
            options.page_size,
            options.compare_counts,
            lambda size: self._host.need_space(archive.folder, size, self._where),
        )

    @property
    def _folder(self) -> Path:
        """Where the archive is."""
        return self._host.paths.var / "langsmith" / self._options.name

    def _address(self) -> Address:
        options = self._options
        key = self._host.secret("components", options.name, "api_key")
        return Address(
            options.name, options.url, options.workspace, options.ca_file, str(key or ""), options.requests_per_minute
        )

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make an empty root-only directory in the spool: a drill sends nothing to LangSmith."""
        with self._host.spool("drill-langsmith") as path:
            yield Target("scratch", str(path))

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Write the point as files; for `live` also as the archive to be, and into the workspace under other names."""
        if target.kind not in ("live", "dir", "scratch"):
            raise ConfigError(f"LangSmith cannot be restored to {target.kind!r}", fix="--to live or dir:/PATH")
        if target.paths:
            raise ConfigError("a part of a workspace cannot be restored alone", where="--path", fix="--to dir:/PATH")
        if target.kind != "live":
            folder = Path(target.value)
            if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
                raise RefusedError("is no empty directory", where=str(folder), fix="give another: --to dir:/PATH")
            self._write(point, folder)
            return Staged(target, {"folder": str(folder)})
        return self._stage_live(point, target)

    def _stage_live(self, point: PointReader, target: Target) -> Staged:
        token = secrets.token_hex(4)
        files = self._host.paths.restored / f"{token}-{self._options.name}"
        staged, kept = (self._folder.with_name(f"{self._folder.name}.{one}-{token}") for one in ("restored", "kept"))
        address = importing.record_of(self._address())
        data: dict[str, Any] = {"address": address, "folders": [str(files), str(staged)], "names": []}
        debt = self._host.journal.write(OWNER, "stage", data)
        try:
            with _told(), self._host.spool("langsmith") as spool, contextlib.ExitStack() as stack:
                self._write(point, files)
                archive = stack.enter_context(self._load(files, staged, staged / ATTACHMENTS))
                _link(files / ATTACHMENTS, archive.attachments)
                run = self._import(archive, stack.enter_context(Archive(spool / "seen")), token, spool)
                debt = self._host.journal.update(debt, data | {"names": run.names()})
                items = run.build()
                run.compare(items)
                notes = [*run.notes, *self._archived(archive, files)]
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise
        record = {
            "address": address,
            "items": items,
            "archive": {"live": str(self._folder), "new": str(staged), "kept": str(kept)},
            "files": str(files),
        }
        return Staged(target, {"debt": debt.id, "record": record, "archive": str(staged), "folder": str(files)}, notes)

    def _import(self, archive: Archive, seen: Archive, token: str, spool: Path) -> importing.Import:
        reader = self._new_reader(seen)
        return importing.Import(reader.api, archive, reader, token, spool)

    def _archived(self, archive: Archive, files: Path) -> list[str]:
        """Say what was not imported: the API takes no run that began more than 24 hours ago."""
        runs, feedback = archive.count("runs"), archive.count("feedback")
        if not runs and not feedback:
            return []
        return [f"{runs} runs and {feedback} feedbacks are an archive: LangSmith cannot import them; see {files}"]

    def _write(self, point: PointReader, folder: Path) -> None:
        """Write the artifacts as files."""
        private_dir(folder)
        self._host.need_space(folder, point.component.bytes, f"point {point.point_id}, {self._where}")
        for name in point.names():
            if name == ATTACHMENTS:
                if any(one.type not in ("file", "dir") for one in point.index(name).entries):
                    raise DamagedError("attachments are files, and there is something else", where=name)
                point.restore_tree(name, private_dir(folder / name))
                continue
            with point.open(name) as stream, (folder / name).open("wb") as out:
                shutil.copyfileobj(stream, out, _CHUNK)

    def _load(self, files: Path, folder: Path, attachments: Path) -> Archive:
        """Return an archive in `folder` of what stands in files; DamagedError when an id is there twice."""
        archive = Archive(folder, attachments)
        for kind in KINDS:
            try:
                with (files / file_of(kind)).open("rb") as stream:
                    archive.load(kind, stream)
            except FileNotFoundError:
                raise DamagedError("is missing", where=file_of(kind)) from None
        return archive

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was written: the archive to be, or files. What was imported `stage` compared itself."""
        if "archive" in staged.data:
            with _told(), Archive(Path(staged.data["archive"])) as archive:
                return archive.fingerprint(depth)
        files = Path(staged.data["folder"])
        with _told(), self._host.spool("langsmith") as spool, self._load(files, spool, files / ATTACHMENTS) as archive:
            return archive.fingerprint(depth)

    def busy(self, staged: Staged) -> list[str]:  # noqa: ARG002 - the contract's
        """Nothing: what is live is renamed, and stays usable."""
        return []

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the record of the swap."""
        record: dict[str, Any] = staged.data["record"]
        return record

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return where the files are (or the archive), the address of the API, and the file of its key."""
        address = self._address()
        folder = staged.data["folder"] if staged else str(self._folder)
        return {"RESTAURA_TARGET": folder, "LANGSMITH_ENDPOINT": address.root, "LANGSMITH_API_KEY_FILE": address.key}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Give what was imported its name, and make the restored archive the one that the next run goes on with."""
        places = {name: Path(path) for name, path in record["archive"].items()}
        new, live, kept = places["new"], places["live"], places["kept"]
        with _told():
            api = importing.open_api(_with_key(record))
            with Archive(new if new.exists() else live) as archive:
                for item in record["items"]:
                    importing.swap(api, item, archive)
                if new.exists() and live.exists():
                    # Runs that LangSmith has deleted are nowhere else.
                    archive.take_over(live)
            if new.exists():
                if live.exists() and not kept.exists():
                    live.rename(kept)
                new.rename(live)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Give the names back, and the archive."""
        places = {name: Path(path) for name, path in record["archive"].items()}
        new, live, kept = places["new"], places["live"], places["kept"]
        with _told():
            api = importing.open_api(_with_key(record))
            with Archive(new if new.exists() else live) as archive:
                for item in reversed(record["items"]):
                    importing.undo(api, item, archive)
            if not new.exists() and live.exists():
                live.rename(new)
            if kept.exists() and not live.exists():
                kept.rename(live)
            if new.exists():
                # Also where there was no archive before: what was read since is in none but this.
                with Archive(live) as archive:
                    archive.take_over(new)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live, in the workspace and here."""
        places = {name: Path(path) for name, path in record["archive"].items()}
        with _told():
            api = importing.open_api(_with_key(record))
            for item in record["items"]:
                importing.discard(api, item)
            if places["new"].exists():
                shutil.rmtree(record["files"], ignore_errors=True)
            for name in ("new", "kept"):
                shutil.rmtree(places[name], ignore_errors=True)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Remove what a restore built that never came to a swap."""
        if act != "stage":
            raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)
        if data["names"]:
            api = importing.open_api(_with_key(data))
            for kind, name in data["names"]:
                importing.remove(api, kind, name)
        for folder in data["folders"]:
            shutil.rmtree(folder, ignore_errors=True)


def _with_key(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with the key's file as it is now: that of a recovery kit is gone when its restore ended."""
    address = record["address"]
    if Path(address["key"]).is_file():
        return record
    key = Paths.from_environment().keys / f"components.{address['name']}.api_key"
    return {**record, "address": {**address, "key": str(key)}}


def _day(text: str) -> datetime | None:
    with contextlib.suppress(ValueError):
        return moment_of(text).astimezone(UTC) if text else None
    return None


def _link(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, copy_function=os.link, dirs_exist_ok=True)


@contextlib.contextmanager
def _lines(archive: Archive, kind: str) -> Iterator[IO[bytes]]:
    """Yield an artifact as a stream."""
    with _told():
        yield Chunks(archive.lines(kind))  # type: ignore[misc]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise what SQLite, the disk and an answer of another shape make go wrong as SourceError."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SourceError(f"the archive cannot be kept: {error}", where=OWNER) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(f"the API answered what nobody expected: {error!r}", where=OWNER) from error


SOURCE = SourceKind(
    "langsmith", LangsmithComponent, Langsmith, packages=("python3-requests",), files=False, tier="services"
)
