# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus: the blocks of a snapshot that the server makes, its configuration, rules, and every file they name."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restaura import exchange, staging, trees
from restaura.errors import ConfigError, NoPointError, RefusedError, RestauraError, SourceError
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint
from restaura.postgres.scratch import parent
from restaura.prometheus import blocks, capture, restore, snapshot, trial
from restaura.prometheus.capture import DESCRIPTION, TSDB
from restaura.prometheus.references import Named, named_by
from restaura.prometheus.server import Facts, Place, Server
from restaura.prometheus.settings import PrometheusComponent
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree
from restaura.trees.applying import Applied, read_as

if TYPE_CHECKING:
    from restaura.host import Host

# What Prometheus allocates for a block's chunks while it writes one (tsdb/chunks/chunks.go: DefaultChunkSegmentSize).
SEGMENT_BYTES = 512 << 20


class Prometheus:
    """The source `prometheus`."""

    def __init__(self, options: PrometheusComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._server = Server(options, host)

    # Capture

    def probe(self) -> Probe:
        """Say whether the server answers and may be asked for a snapshot, and whether its files are here."""
        try:
            facts, place = self._server.facts(), self._server.place()
            named = named_by(place, facts.config, facts.web_config, masked=facts.masked)
        except RestauraError as error:
            return Probe(problems=[(str(error).split("\n  fix: ")[0], error.fix)])
        problems, warnings, size = [], self._warnings(facts, named, place), 0
        data, problem = self._server.data_on_host(facts.data, place)
        if problem:
            problems.append(problem)
        elif not Path(data).is_dir():
            problems.append((f"its data directory {data} is not here", "correct data_directory of the component"))
        else:
            size = _bytes_of_blocks(Path(data))
        if not facts.admin_api:
            problems.append(("its admin API is off, and only that makes snapshots", self._server.admin_fix()))
        return Probe({"server": facts.version}, size, "snapshot", problems, warnings)

    def _warnings(self, facts: Facts, named: Named, place: Place) -> list[str]:
        found = [f"{one} is named by the configuration, and not there" for one in named.missing]
        if not facts.loaded:
            found.append("the server could not load its configuration as it is now: promtool check config FILE")
        elif Path(place.readable(facts.config)).stat().st_mtime > facts.loaded_at + 1:
            found.append(f"{facts.config} was changed after the server read it: what runs is not what is saved")
        if facts.out_of_order:
            found.append(
                "it takes samples out of order: those that came late and are not in a block yet (some hours) are in no "
                "snapshot of Prometheus"
            )
        return found

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Nothing is done before the freeze: only the server can make a snapshot."""
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[capture.Captured]:  # noqa: ARG002
        """Have a snapshot made, and copy the files; the instant is fixed when the server writes what is in memory."""
        server = self._server
        facts, place = server.facts(), server.place()
        data, problem = server.data_on_host(facts.data, place)
        if problem:
            raise SourceError(problem[0], where=server.where, fix=problem[1])
        size = SEGMENT_BYTES + _bytes_in(Path(data) / "chunks_head")
        self._host.need_space(Path(data), size, f"{server.where}, its snapshot")
        with self._host.spool("prometheus") as folder:
            limit = self._options.snapshot_timeout
            with snapshot.taken(self._host.journal, server.service, data, limit) as whole:
                loaded = server.rule_files()
                named = named_by(place, facts.config, facts.web_config, masked=facts.masked)
                capture.copy_files(place, [*named.plain, *named.secret], folder)
                notes, doubts = self._warnings(facts, named, place), _unsaved(loaded, named)
                yield capture.Captured(depth, facts, named, folder, whole, notes, doubts)

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make a directory that a throw-away server may be let into."""
        folder = parent(self._host.paths) / f"restaura-{secrets.token_hex(8)}"
        debt = self._host.journal.write(snapshot.OWNER, "scratch", {"directory": str(folder)})
        folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.parent.chmod(0o711)
        folder.mkdir(mode=0o700)
        try:
            yield Target("scratch", str(folder))
        finally:
            _remove(folder)
            self._host.journal.settle(debt)

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Unpack blocks and files beside the live ones, or as files below a directory: `tsdb`, and the others' paths.

        Parts of the target are `tsdb` and absolute paths of files.
        """
        if target.kind not in ("live", "dir", "scratch"):
            raise ConfigError(f"Prometheus cannot be restored to {target.kind!r}", fix="--to live or --to dir:/PATH")
        with point.open(DESCRIPTION) as stream:
            described = capture.described(stream.read())
        with self._host.spool("prometheus-restore") as spool:
            files, applied = restore.unpack_files(point, spool)
            wanted = self._wanted(point, files, target)
            notes = list(applied.notes)
            if target.kind == "live":
                return self._stage_live(point, target, described, spool, wanted, applied, notes)
            return self._stage_aside(point, target, described, spool, wanted, applied, notes)

    def _wanted(
        self, point: PointReader, files: Sequence[tuple[str, bool]], target: Target
    ) -> tuple[bool, list[tuple[str, bool]]]:
        """Return whether the blocks are to be restored, and which files; NoPointError for what the point has not."""
        if not target.paths:
            return True, list(files)
        chosen = [one for one in files if any(trees.below(one[0], [path.rstrip("/")]) for path in target.paths)]
        for path in target.paths:
            if path != TSDB and not any(trees.below(one[0], [path.rstrip("/")]) for one in files):
                known = ", ".join([TSDB, *(one[0] for one in files)])
                where = f"point {point.point_id}, {self._server.where}"
                raise NoPointError(
                    f"the point holds no {path}; it holds {known}", where=where, fix="restaura show POINT"
                )
        return TSDB in target.paths, chosen

    def _stage_aside(
        self,
        point: PointReader,
        target: Target,
        described: dict[str, Any],
        spool: Path,
        wanted: tuple[bool, list[tuple[str, bool]]],
        applied: Applied,
        notes: list[str],
    ) -> Staged:
        folder = Path(target.value)
        staging.places([], target)
        index = point.index(TSDB) if TSDB in point.names() else trees.Index([])
        private_dir(folder)
        self._host.need_space(folder, index.total_bytes, f"point {point.point_id}, {self._server.where}")
        if wanted[0]:
            restore.unpack_blocks(point, folder / TSDB, None, 0o755)
        staged = []
        for path, secret in wanted[1]:
            restore.put_file(spool, path, folder, path)
            staged.append([path, str(folder / path.lstrip("/")), secret])
        data = self._data(str(folder / TSDB) if wanted[0] else "", staged, described, applied)
        return Staged(target, data, notes, part=bool(target.paths))

    def _stage_live(
        self,
        point: PointReader,
        target: Target,
        described: dict[str, Any],
        spool: Path,
        wanted: tuple[bool, list[tuple[str, bool]]],
        applied: Applied,
        notes: list[str],
    ) -> Staged:
        to = restore.live(self._server, described)
        index = point.index(TSDB) if TSDB in point.names() else trees.Index([])
        places: dict[str, tuple[str, bool]] = {}
        for path, secret in wanted[1]:
            here = to.place.on_host(to.place.resolved(path))
            if here:
                places[here] = (path, secret)
            else:
                notes.append(f"{path} is part of the container's image and was left as it is there")
        if not wanted[0] and not places:
            raise RefusedError("nothing of it can be put in place here", where=self._server.where, fix="--to dir:/PATH")
        groups = dict(staging.places([one.lstrip("/") for one in places], target))
        if wanted[0]:
            groups.setdefault(restore.beside(to), []).append(to.data.lstrip("/"))
        name = f"{exchange.STAGE}{secrets.token_hex(6)}"
        holds = [(f"{where}/{name}", [f"/{one}" for one in paths]) for where, paths in groups.items()]
        if wanted[0]:
            above = next(Path(one[0]).parent for one in holds if to.data in one[1])
            self._host.need_space(above, index.total_bytes, f"point {point.point_id}, {self._server.where}")
        debt = self._host.journal.write(snapshot.OWNER, "stage", {"holds": [one[0] for one in holds]})
        try:
            tsdb, staged = "", []
            for hold, paths in holds:
                private_dir(Path(hold))
                for one in paths:
                    inside = Path(hold + one)
                    if one == to.data:
                        restore.unpack_blocks(point, inside, *restore.owner_of(self._server, one))
                        tsdb = str(inside)
                    else:
                        path, secret = places[one]
                        restore.put_file(spool, path, Path(hold), one)
                        staged.append([path, str(inside), secret])
            found = blocks.find(Path(tsdb)) if tsdb else []
            if tsdb:
                notes += restore.refuse(self._server, to, described, found, index)
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise
        notes += self._stays(to.place, described)
        data = self._data(tsdb, staged, described, applied)
        data |= {"debt": debt.id, "holds": holds, "live": to.data, "blocks": len(found)}
        part = bool(target.paths) or len(staged) < len(wanted[1])
        return Staged(target, data, notes, part=part)

    @staticmethod
    def _data(tsdb: str, files: list[list[Any]], described: dict[str, Any], applied: Applied) -> dict[str, Any]:
        return {
            "tsdb": tsdb,
            "files": files,
            "salt": described["salt"],
            "config": described["config"],
            "rules": described["rules"],
            "users": applied.users,
            "groups": applied.groups,
        }

    def _stays(self, place: Place, described: dict[str, Any]) -> list[str]:
        """Name rule files that are live and not in the point: they stay, and count again once the server starts."""
        try:
            now = named_by(place, described["config"])
        except RestauraError:
            return []
        extra = [one for one in now.rules if one not in described["rules"]]
        return [f"{one} is not in the point, and stays: move it away if its rules are not wanted" for one in extra]

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged; in a drill, Prometheus itself counts what can be read of it."""
        data = staged.data
        found, entries = [], []
        if data["tsdb"]:
            folder = Path(data["tsdb"])
            found = blocks.find(folder)
            entries = trees.scan(folder, sorted(one.name for one in folder.iterdir()), depth=depth).entries
        files = []
        for path, here, secret in data["files"]:
            index = trees.scan(Path(here).parent, [Path(here).name], depth=depth)
            index = read_as(index, Applied([], data["users"], data["groups"]))
            files.append((replace(index.entries[0], path=path.lstrip("/")), secret))
        made = capture.fingerprint(depth, entries, found, files, bytes.fromhex(data["salt"]))
        if staged.target.kind != "scratch":
            return made
        counts = dict(made.counts)
        more = self._tried(staged, found)
        for name, count in zip(("blocks", "series in blocks", "samples"), more, strict=True):
            counts[name] += count
        return replace(made, counts=counts)

    def _tried(self, staged: Staged, found: Sequence[blocks.Block]) -> tuple[int, int, int]:
        """Have promtool and a throw-away server look at a drill's data; return what they count beyond what it says."""
        here = {path: Path(staged_at) for path, staged_at, _ in staged.data["files"]}
        one = trial.Trial(trial.Programs.of(self._server), self._host, Path(staged.target.value))
        one.check_files(here[staged.data["config"]], [here[path] for path in staged.data["rules"]])
        return one.count(Path(staged.data["tsdb"]), found)

    def busy(self, staged: Staged) -> list[str]:
        """Name what uses the live data but for the server itself, which a swap stops."""
        if staged.target.kind != "live":
            return []
        return restore.busy(self._server, [staged.data["live"]])

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Record what changes places, and what is stopped for it."""
        if staged.target.kind != "live":
            return {}
        return restore.plan(self._server, staged.data["holds"], staged.data["live"], staged.data["blocks"])

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Name the directory that stands for `/`, and in RESTAURA_TSDB that of the blocks."""
        if staged is None or staged.target.kind == "live":
            facts = self._server.facts()
            data, _ = self._server.data_on_host(facts.data, self._server.place())
            return {"RESTAURA_TARGET": "/", "RESTAURA_TSDB": data, "RESTAURA_URL": self._server.service.url}
        return {"RESTAURA_TARGET": staged.target.value, "RESTAURA_TSDB": staged.data["tsdb"]}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Exchange data and files with the server stopped; it must come up and open what was restored."""
        restore.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Exchange back with the server stopped."""
        restore.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        exchange.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Remove what a dead run left: a snapshot, staged data, a drill's directory or container."""
        if act == snapshot.ACT:
            snapshot.remove(data)
        elif act == "stage":
            exchange.remove_staged(data["holds"])
        elif act == trial.ACT:
            trial.remove_container(data["name"])
        elif act == "scratch":
            _remove(Path(data["directory"]))
        else:
            raise SourceError(f"nobody knows how to take back {act!r}", where=snapshot.OWNER)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    if folder.exists():
        raise SourceError("the drill's data could not be removed", where=str(folder), fix=f"rm -rf {folder}")


def _unsaved(loaded: Sequence[str], named: Named) -> list[str]:
    """Name the files whose rules the server has `loaded`, and that its configuration no longer leads to."""
    return [
        f"the server has rules of {one}, which is not saved: put it back, or have the server read its configuration"
        for one in loaded
        if one not in named.rules
    ]


def _bytes_of_blocks(data: Path) -> int:
    return sum(_bytes_in(one) for one in data.iterdir() if blocks.ULID.fullmatch(one.name))


def _bytes_in(folder: Path) -> int:
    found = 0
    for top, _, files in os.walk(folder):
        for one in files:
            with contextlib.suppress(OSError):
                found += os.lstat(f"{top}/{one}").st_size
    return found


SOURCE = SourceKind("prometheus", PrometheusComponent, Prometheus, packages=("python3-requests", "python3-docker"))
