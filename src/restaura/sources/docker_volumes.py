# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker volumes, with the Compose projects they belong to; containers are stopped as shortly as can be.

The artifacts: `volumes/NAME`, the tree of a volume; `projects/NAME`, that of a project's Compose files and bind mounts;
`volumes.json`, which describes them; `copies/…`, what of a volume that was not held did not stand still.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from restaura import exchange, locks, mounts, staging, trees
from restaura.engines import open_databases
from restaura.errors import ConfigError, MismatchError, RefusedError, SourceError
from restaura.hold import Hold
from restaura.host import Host
from restaura.paths import private_dir, write_atomic
from restaura.point import Depth, Fingerprint
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree
from restaura.trees.applying import Applied
from restaura.volumes import restore, stopping
from restaura.volumes.capture import ALGORITHM, DESCRIPTION, Captured, Scanner, add_parts, described_digest, not_entered
from restaura.volumes.daemon import Container, Daemon
from restaura.volumes.pieces import Chosen, DockerVolumesComponent, choose, way_of

OWNER = "source:docker_volumes"
TURN_SECONDS = 3600.0
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class DockerVolumes:
    """The source `docker_volumes`."""

    def __init__(self, options: DockerVolumesComponent, host: Host) -> None:
        self._options, self._host = options, host
        self._scanner = Scanner(host, options.name)
        self._prepared: set[str] | None = None

    # Capture

    def probe(self) -> Probe:
        """Ask the daemon what is chosen, and say what of it cannot be read, held or kept whole."""
        try:
            chosen = self._choose()
        except SourceError as error:
            return Probe(problems=[(error.what, error.fix)])
        problems, warnings = list(chosen.problems), list(chosen.warnings)
        warnings += [told for one in chosen.pieces for told in not_entered(one)]
        engines = [one for found in self._engines(chosen).values() for one in found]
        if self._options.accept_torn:
            warnings += [what for what, _ in engines]
        else:
            problems += engines
        known = [self._scanner.known(one) for one in chosen.pieces]
        size = sum(one.total_bytes for one in known if one)
        moving = any(one.moves for one in chosen.pieces)
        return Probe(chosen.versions, size, "crash" if moving else "stopped", problems, warnings)

    def prepare(self, depth: Depth) -> Sequence[Tree]:
        """Scan everything once while the containers run."""
        found = []
        chosen = self._choose()
        self._prepared = {one.artifact for one in chosen.pieces}
        for one in chosen.pieces:
            flushed = None if one.moves else trees.flush(one.base, one.roots)
            index = self._scanner.scan(one, depth, flushed=flushed)
            if not one.moves:
                found.append(Tree(one.artifact, one.base, index, one.secret, held=True))
        return found

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[Captured]:
        """Hold the containers as their volumes ask for; where some move, only once those were copied."""
        chosen, notes = self._still_there()
        with contextlib.ExitStack() as stack:
            spool = stack.enter_context(self._host.spool("volumes"))
            notes += chosen.notes
            captured = Captured(self._host, self._options.name, chosen, self._scanner, depth, spool, notes=notes)
            captured.open_engines = set(self._engines(chosen))

            def begin(captured: Captured) -> None:
                self._begin(captured, stop_limit, stack)

            if any(one.moves for one in chosen.pieces):
                captured.begin = begin
            else:
                begin(captured)
            yield captured

    def _begin(self, captured: Captured, stop_limit: float, stack: contextlib.ExitStack) -> None:
        """Stop, pause and run commands: journaled, and taken back when the context is left, whatever happens.

        Components that share a container take turns: none starts what another one reads.
        """
        chosen, pieces = captured.chosen, [one for one in captured.chosen.pieces if not one.moves]
        if not pieces:
            return
        shared = {user.name for one in pieces for user in one.users(chosen.containers, writing=True)}
        with contextlib.ExitStack() as turn:
            turn.enter_context(
                locks.holding(self._host.paths.locks, [f"container:{one}" for one in shared], TURN_SECONDS)
            )
            since = datetime.now(UTC)
            with Daemon() as daemon:
                chosen.containers = daemon.containers()
            held, volumes = self._plan(chosen), {one.volume.name for one in pieces if one.volume}
            paused = self._host.paused
            # What the plan's pause stopped stays so until its volumes are copied, though the pause ends before.
            writing = [one.users(chosen.containers, writing=True) for one in pieces if one.way in ("stop", "pause")]
            taken = paused.containers_for({user.id for users in writing for user in users}) if paused else []
            held["stop"] += [dict(one) for one in taken]

            def broken() -> str:
                return stopping.intruders(
                    held, since, volumes, lambda one: any(part.users([one], writing=True) for part in pieces)
                )

            captured.broken = broken
            if not any(held.values()):
                return
            stack.push(turn.pop_all())

        ids = [one["id"] for one in taken]

        def stop(limit: float) -> None:
            if paused:
                paused.hand_over(ids)
            captured.notes += stopping.hold_still(held, limit)

        def start() -> None:
            back = ids if paused and paused.hand_back(ids) else ()
            captured.notes += stopping.go_on({**held, "stop": [one for one in held["stop"] if one["id"] not in back]})

        debt = (OWNER, "hold", {"held": held})
        captured.hold = stack.enter_context(Hold(self._host.journal, debt, stop_limit, stop, start, broken))

    def _plan(self, chosen: Chosen) -> stopping.Held:
        users: dict[str, list[Container]] = {"stop": [], "pause": []}
        commands = []
        running = {one.name for one in chosen.containers if one.runs}
        for one in chosen.pieces:
            writing = one.users(chosen.containers, writing=True)
            if one.way in users:
                users[one.way] += writing
            elif (
                one.rule
                and one.way == "command"
                and (one.rule.container in running or any(user.runs for user in writing))
            ):
                command = {name: getattr(one.rule, name) for name in ("container", "user", "command", "resume")}
                commands += [command] if command not in commands else []
        return stopping.plan(users["stop"], users["pause"], commands, chosen.containers, self._options.stop_timeout)

    def _choose(self) -> Chosen:
        with Daemon() as daemon:
            chosen = choose(self._options, daemon)
        for one in list(chosen.pieces):
            if one.volume and not self._scanner.selection.takes(one.paths[0], True):
                chosen.pieces.remove(one)
                what = f"the volume {one.name!r} is a store, or Restaura's own"
                if one.name in self._options.volumes:
                    chosen.problems.append((what, "take it out of `volumes`"))
                else:
                    chosen.warnings.append(f"{what}: it is not taken")
        return chosen

    def _still_there(self) -> tuple[Chosen, list[str]]:
        """Return what is chosen now; SourceError when something was removed since `prepare`."""
        chosen = self._choose()
        if chosen.problems:
            what, fix = chosen.problems[0]
            raise SourceError(what, where=f"component {self._options.name}", fix=fix)
        if self._prepared is None:
            return chosen, []
        there = {one.artifact for one in chosen.pieces}
        if gone := sorted(self._prepared - there):
            raise SourceError("was removed during the run", where=gone[0], fix="run the plan again")
        new = [one for one in chosen.pieces if one.artifact not in self._prepared]
        chosen.pieces = [one for one in chosen.pieces if one not in new]
        return chosen, [f"{one.name} appeared during the run: the next point will hold it" for one in new]

    def _engines(self, chosen: Chosen) -> dict[str, list[tuple[str, str]]]:
        """Return the database engines that write to what is not held, by the name of what they write to.

        What is held stands still in containers alone: those of the host itself write to it all the same.
        """
        found = {}
        paused = [one for one in chosen.containers if one.paused]
        moving, held = ([one for one in chosen.pieces if one.moves == moves] for moves in (True, False))
        for pieces, still in ((moving, paused), (held, chosen.containers)):
            stops, selection = partial(_stands_still, still), self._scanner.selection
            # All processes are looked at for it, so all trees are asked after at once.
            if open_databases([path for one in pieces for path in one.paths], selection, stops):
                for one in pieces:
                    if engines := open_databases(one.paths, selection, stops):
                        way = "set `hold` (stop, or a command)" if one.moves else "stop it, or exclude the volume"
                        fix = f"{way}, or back the database up as a source of its own kind"
                        found[one.name] = [(f"{one.name}: {what}", fix) for what, _ in engines]
        return found

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make an empty root-only directory in the spool: a drill never makes a volume."""
        with self._host.spool("drill-volumes") as path:
            yield Target("scratch", str(path))

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Unpack what was asked for beside the live data, or into a directory, at the paths it has live."""
        where = f"point {point.point_id}, component {self._options.name}"
        if target.kind not in ("live", "dir", "scratch", "name"):
            raise ConfigError(
                f"volumes cannot be restored to {target.kind!r}", fix="--to live, dir:PATH or name:PROJECT"
            )
        if target.kind == "name" and not _PROJECT_NAME.fullmatch(target.value):
            raise ConfigError(
                "is no name of a Compose project", where=f"--to name:{target.value}", fix="--to name:shop2"
            )
        described = restore.description(point)
        items = restore.items(point, described, target, self._options.name)
        places = self._places(items, target)
        self._need_space(point, places, where)
        debt = self._host.journal.write(OWNER, "stage", {"holds": sorted({hold for _, _, hold in places})})
        applied, pieces = Applied(), []
        try:
            for item, paths, hold in places:
                piece, put_on = restore.unpack(point, item, Path(hold), paths)
                pieces.append(piece)
                applied.add(put_on)
            file = Path(debt.data["holds"][0]) / DESCRIPTION
            write_atomic(file, json.dumps(described, indent=1, sort_keys=True).encode())
            kept = self._kept_back(items, described, target)
            notes = [
                *applied.notes,
                *(f"{one} is there and was left as it is; restore it: --path {one}" for one in kept),
            ]
            data = {
                "debt": debt.id,
                "description": str(file),
                "pieces": pieces,
                "items": [
                    self._item(item, hold, [one for one in paths if f"/{one}" not in kept])
                    for item, paths, hold in places
                ],
            }
            staged = Staged(target, data, notes, part=target.kind == "name", compared=bool(target.paths))
            if target.paths:
                self._compare(point, staged)
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise
        if target.kind == "scratch":
            # The spool it stands in is a debt of its own.
            self._host.journal.settle(debt)
        return staged

    def _places(self, items: Sequence[restore.Item], target: Target) -> list[tuple[restore.Item, list[str], str]]:
        """Return (tree, paths of it, hold): one hold on each file system that is restored to."""
        if target.kind in ("dir", "scratch"):
            folder = Path(target.value)
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise ConfigError("is not a directory", where=target.value, fix="--to dir:/PATH")
            if folder.is_dir() and any(folder.iterdir()):
                raise RefusedError("is not empty", where=target.value, fix="name an empty or a new directory")
            return [(item, list(item.paths), str(folder)) for item in items]
        name, groups = f"{exchange.STAGE}{secrets.token_hex(6)}", []
        for item in items:
            holds: dict[str, list[str]] = {}
            for path, live in zip(item.paths, item.live, strict=True):
                holds.setdefault(f"{restore.hold_for(item, live)}/{name}", []).append(path)
            groups += [(item, paths, hold) for hold, paths in holds.items()]
        return groups

    def _need_space(
        self, point: PointReader, places: Sequence[tuple[restore.Item, list[str], str]], where: str
    ) -> None:
        needed: dict[int, tuple[Path, int]] = {}
        for item, paths, hold in places:
            place = next(one for one in Path(hold, "x").parents if one.is_dir())
            size = trees.subset(staging.Held.of(restore.OneTree(point, item.artifact)).whole, paths).total_bytes
            device = place.stat().st_dev
            needed[device] = (place, needed.get(device, (place, 0))[1] + size)
        for place, size in needed.values():
            self._host.need_space(place, size, where)

    def _kept_back(self, items: Sequence[restore.Item], described: dict[str, Any], target: Target) -> list[str]:
        """Return the Compose files that are there: they change places only where they were asked for."""
        files = {path for one in described["projects"] for path in one["files"]}
        live = [path for item in items if not item.volume and not item.part for path in item.live]
        return [one for one in live if target.kind == "live" and one in files and os.path.lexists(one)]

    def _item(self, item: restore.Item, hold: str, paths: Sequence[str]) -> dict[str, Any]:
        """Return what a swap needs to know of a tree, as JSON values."""
        prefix = item.to.rstrip("/")
        return {
            "hold": hold,
            "live": [f"{prefix}/{one}" for one in paths],
            "volume": item.volume,
            "described": item.described,
            "create": item.create,
            "stops": way_of(self._options, item.volume) == "stop",
        }

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged; under another project's name, without what describes the volumes."""
        parts: dict[str, str] = {}
        counts: dict[str, int] = {}
        if not staged.part:
            parts[DESCRIPTION] = described_digest(json.loads(Path(staged.data["description"]).read_text()))
        merged: dict[str, tuple[trees.Index, list[str]]] = {}
        for one in staged.data["pieces"]:
            index = restore.restored(one, depth)
            if one["artifact"] in merged:
                other = merged[one["artifact"]][0]
                index = replace(trees.merge(other, index), roots=[*other.roots, *index.roots])
            merged[one["artifact"]] = (index, one["loose"])
        for artifact, (index, loose) in merged.items():
            add_parts(parts, counts, artifact, index, depth, loose)
        return Fingerprint(ALGORITHM, depth, parts, counts)

    def busy(self, staged: Staged) -> list[str]:
        """Name the containers and processes that use the live data, but for containers that the swap stops."""
        record = self.plan_swap(staged)
        if not record:
            return []
        with Daemon() as daemon:
            using = [one for one in restore.users(record, daemon.containers()) if one.runs or one.paused]
        found = [
            f"container {one.name} ({one.status})" for one in using if one.paused or not restore.stoppable(record, one)
        ]
        paths = [path for use in record["uses"] for path in use["paths"]]
        return found + [str(one) for one in mounts.holders(paths) if not _in_container(one.pid, using)]

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Record the volumes to create, what changes places, and who uses it."""
        if staged.target.kind not in ("live", "name"):
            return {}
        items = staged.data["items"]
        holds = list(dict.fromkeys(one["hold"] for one in items))
        planners = {
            hold: exchange.Planner(
                number,
                Path(hold),
                lambda path, is_dir: not self._scanner.selection.takes(path, is_dir),
                lambda _: False,
            )
            for number, hold in enumerate(holds)
        }
        create, moves = [], []
        for one in items:
            if one["create"]:
                create.append({"volume": one["described"], "path": one["live"][0]})
            for path in one["live"]:
                inside = path.lstrip("/")
                if one["create"] and not os.path.lexists(path):
                    made = Path(one["hold"], inside).lstat().st_ino
                    moves.append(exchange.Move(holds.index(one["hold"]), path, inside, None, made))
                else:
                    planners[one["hold"]].add(inside)
        planners[holds[0]].moves += moves
        pairs = [exchange.Hold(one, one.replace(exchange.STAGE, exchange.KEPT)) for one in holds]
        uses = [
            {
                "volume": one["volume"],
                "described": one["described"],
                "paths": one["live"],
                "own": bool(one["volume"]) and one["live"][0].endswith("/_data"),
                "stops": one["stops"],
            }
            for one in items
            if one["live"]
        ]
        return {
            **exchange.record(pairs, list(planners.values())),
            "create": create,
            "uses": uses,
            "stop_seconds": self._options.stop_timeout,
            "stopped": str(private_dir(self._host.paths.kept) / f"{Path(holds[0]).name}.stopped"),
        }

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Name the directory that stands for `/`."""
        if staged is None or staged.target.kind in ("live", "name"):
            return {"RESTAURA_TARGET": "/"}
        return {"RESTAURA_TARGET": staged.target.value}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Create the volumes that are missing, and exchange, with the containers that use them stopped."""
        restore.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Exchange back; volumes that were not there before are gone again."""
        restore.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        exchange.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Let containers go on that a dead run held, or remove what was staged and never swapped."""
        if act == "hold":
            stopping.go_on(data["held"])
        elif act == "stage":
            exchange.remove_staged(data["holds"])

    def _compare(self, point: PointReader, staged: Staged) -> None:
        """Raise MismatchError unless what was staged is what the point's indexes say, entry by entry."""
        for one in staged.data["pieces"]:
            whole = staging.Held.of(restore.OneTree(point, one["artifact"])).whole
            wanted = trees.subset(whole, one["paths"])
            depth: Depth = "content" if any(entry.sha256 for entry in wanted.entries) else "catalog"
            wrong = trees.differences(wanted, restore.restored(one, depth), depth, set(one["loose"]))
            if wrong:
                raise MismatchError("; ".join(wrong[:5]), where=f"component {self._options.name}, {one['artifact']}")


def _stands_still(containers: Sequence[Container], process: mounts.Holder) -> bool:
    """Whether a process is in one of the containers that do not run while the data is read."""
    return _in_container(process.pid, containers)


def _in_container(pid: int, containers: Sequence[Container]) -> bool:
    """Whether a process is one of a container's, by its control group."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape")
    except OSError:
        return True
    return any(one.id in groups for one in containers)


SOURCE = SourceKind(
    "docker_volumes", DockerVolumesComponent, DockerVolumes, packages=("python3-docker",), tier="volumes"
)
