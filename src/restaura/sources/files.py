# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and files of a host; SQLite databases in them are copied through SQLite.

The artifact `tree` holds everything below the paths. What does not hold still is copied into the spool first: SQLite
databases through SQLite, and after the tree was copied whatever changed meanwhile, file by file. These copies are the
artifact `copies`, under the same relative paths; a restore puts them in place of what the tree has there.

With `stops`, the tree stands still instead, and all that is in it is copied as it lies there.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from restaura import exchange, locks, mounts, sqlite, staging, still, trees, units
from restaura.config.schema import UNIT, Component, setting
from restaura.engines import open_databases
from restaura.errors import MismatchError, RefusedError, SourceError
from restaura.hold import Hold
from restaura.host import Host
from restaura.paths import private_dir, write_atomic
from restaura.point import Consistency, Depth, Fingerprint, safe_name
from restaura.sources import UNLIMITED, Artifact, Outcome, PointReader, Probe, SourceKind, Staged, Target, Tree
from restaura.staging import COPIES, TREE, Held
from restaura.trees.applying import Applied, read_as
from restaura.trees.patterns import check_pattern

ROOT = Path("/")
OWNER = "source:files"
LOCK_LIMITS = 4  # so many times its limit may the stops of others last before ours

# What ties a system to one machine: never made live unless asked for by its exact path.
MACHINE = trees.Selection(
    exclude=(
        "/etc/NetworkManager/",
        "/etc/crypttab",
        "/etc/fstab",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/machine-id",
        "/etc/netplan/",
        "/etc/network/",
        "/etc/resolv.conf",
        "/etc/restaura/",
        "/etc/ssh/ssh_host_*",
        "/etc/systemd/network/",
        "/etc/udev/rules.d/70-persistent-net.rules",
        "/var/lib/dbus/machine-id",
    ),
    own=False,
)


@dataclass(frozen=True)
class FilesComponent(Component):
    """One set of directories and files."""

    paths: tuple[str, ...] = setting(
        "Absolute directories and files to back up, none inside another.",
        example=["/srv/app", "/etc"],
        pattern=r"(/[^/\0]+)+",
    )
    exclude: tuple[str, ...] = setting(
        "What to leave out. Shell patterns as in .gitignore: `*`, `?` and `[a-z]` stay within one name, `**` is "
        "any number of directories, a trailing `/` means directories only. A pattern that begins with `/` is matched "
        "against the absolute path, any other against the end of it. What matches takes along all that is below it.",
        default=(),
        example=["node_modules/", "*.tmp", "/srv/app/cache/**"],
    )
    include: tuple[str, ...] = setting(
        "Patterns of the same kind that win over `exclude`.", default=(), example=["/srv/app/cache/keep/"]
    )
    one_file_system: bool = setting(
        "Whether to stay on the file system of each path; other mounts below are reported and kept as empty "
        "directories. Pseudo file systems are never entered.",
        default=True,
    )
    sqlite: Literal["backup", "plain"] = setting(
        "How SQLite databases are copied: `backup` through SQLite, as of one transaction, or `plain` like other files.",
        default="backup",
    )
    secret: bool = setting(
        "Whether the files are secret: then no store keeps them, or their names, in the clear.", default=False
    )
    stops: tuple[str, ...] = setting(
        "systemd units that are stopped while what changed in their files is copied, and while restored files change "
        "places with live ones. Only those that ran are started again, always. The plan's `stop_limit` bounds it.",
        default=(),
        example=["app.service"],
        pattern=UNIT,
    )
    restore_stops: tuple[str, ...] = setting(
        "systemd units that are stopped only while restored files change places with live ones, if they run.",
        default=(),
        example=["app.service"],
        pattern=UNIT,
    )


class _Captured:
    """The tree of one run, and copies of what does not hold still: databases, and what changed meanwhile."""

    hold: Hold | None = None

    def __init__(
        self, artifacts: Sequence[Artifact], index: trees.Index, depth: Depth, spool: Path, room: int, *, secret: bool
    ) -> None:
        self._artifacts, self._index, self._depth = artifacts, index, depth
        self._spool, self._room, self._secret = spool, room, secret
        self.copied: list[still.Copied] = []
        self.notes: list[str] = []
        self.parts: dict[str, str] = {}

    def artifacts(self) -> Iterator[Artifact]:
        yield from self._artifacts
        # By now every store has read the tree.
        changed, gone = still.copy_changed(self._index, ROOT, self._spool, self._room)
        self.copied += changed
        if self.copied or gone:
            roots = [one.path for one in self.copied] or [str(Path(gone[0]).parent)]
            index = trees.scan(self._spool, roots, depth=self._depth)
            attributes = {one.path: one.xattrs for one in self.copied}
            entries = [replace(one, xattrs=attributes.get(one.path, {})) for one in index.entries]
            index = replace(index, entries=entries, vanished=gone)
            yield Tree(COPIES, self._spool, index, self._secret)

    def outcome(self, indexes: Mapping[str, trees.Index]) -> Outcome:
        return _outcome(staging.as_one(indexes), "snapshot", self._depth, self.notes, self.parts)


class _Stopped:
    """The tree of one run while the units that write to it are stopped; it is scanned once more when asked for."""

    def __init__(self, component: FilesComponent, scan: Callable[[], trees.Index], depth: Depth, hold: Hold) -> None:
        self._component, self._scan, self._depth = component, scan, depth
        self.hold: Hold | None = hold
        self.index: trees.Index | None = None
        self.notes: list[str] = []

    def artifacts(self) -> Iterator[Artifact]:
        self.index = self._scan()
        yield Tree(TREE, ROOT, self.index, self._component.secret, held=True)

    def outcome(self, indexes: Mapping[str, trees.Index]) -> Outcome:
        return _outcome(indexes[TREE], "stopped", self._depth, self.notes)


class Files:
    """The source `files`."""

    def __init__(self, options: FilesComponent, host: Host) -> None:
        self._options, self._host = options, host
        self._previous: trees.Index | None = None
        never = [*host.paths.own(), *(Path(one.location) for one in host.config.stores if one.location[0] == "/")]
        self._selection = trees.Selection(options.exclude, options.include, never)
        self._never = trees.Selection(never=never)

    # Capture

    def probe(self) -> Probe:
        """Look at the paths, the patterns, and at what has database files in them open."""
        problems = self._path_problems()
        for field in ("exclude", "include"):
            for pattern in getattr(self._options, field):
                if why := check_pattern(pattern):
                    problems.append((f"{field} pattern {pattern!r} {why}", "correct it in the component's settings"))
        warnings = []
        if not problems:
            stopped = units.running(self._options.stops)
            found = open_databases(self._options.paths, self._selection, lambda one: one.unit in stopped)
            if self._options.accept_torn:
                warnings += [what for what, _ in found]
            else:
                problems += found
            warnings += [f"the mount {one} is not entered" for one in self._boundaries()[1]]
        problems += [
            (f"`stops` names {one}, which systemd does not know", "correct `stops` of the component")
            for one in units.missing(self._options.stops)
        ]
        return Probe({}, self._known_bytes(), "stopped" if self._options.stops else "crash", problems, warnings)

    def prepare(self, depth: Depth) -> Sequence[Tree]:
        """Scan once, so that the scan at the freeze reads only what changed since."""
        self._previous = self._previous or self._cached()
        flushed = trees.flush(ROOT, self._roots) if self._options.stops else None
        self._previous = index = self._scan(depth, [], flushed)
        return [Tree(TREE, ROOT, index, self._options.secret, held=True)] if self._options.stops else ()

    def freeze(
        self, depth: Depth, stop_limit: float = UNLIMITED
    ) -> contextlib.AbstractContextManager[_Captured | _Stopped]:
        """Stop what writes to the files, or copy while they move."""
        return self._stopped(depth, stop_limit) if self._options.stops else self._moving(depth)

    @contextlib.contextmanager
    def _stopped(self, depth: Depth, stop_limit: float) -> Iterator[_Stopped]:
        """Stop the units that run, with what depends on them; the tree is scanned while they stand still.

        Components that stop one unit do so one after the other: none may start it while another still reads.
        """
        names = [f"unit:{one}" for one in self._options.stops]
        with contextlib.ExitStack() as alone:
            alone.enter_context(locks.holding(self._host.paths.locks, names, LOCK_LIMITS * stop_limit))
            paused = self._host.paused
            # What the plan's pause stopped stays so until its files are copied, though the pause ends before.
            taken = paused.units_for(self._options.stops) if paused else []
            ran = [*units.running(self._options.stops), *taken]

            def stop(seconds: float) -> None:
                if paused:
                    paused.hand_over(taken)
                units.stop(ran, seconds)

            def start() -> None:
                with alone:
                    back = taken if paused and paused.hand_back(taken) else ()
                    units.start([one for one in ran if one not in back])

            def broken() -> str:
                back = units.running([*self._options.stops, *ran])
                fix = "name what starts it, as its socket or timer, in `stops` of the component"
                return f"{', '.join(back)} started by itself while its files were copied\n  fix: {fix}" if back else ""

            debt = (OWNER, "start", {"units": ran})
            with Hold(self._host.journal, debt, stop_limit, stop, start, broken) as hold:
                stopped = _Stopped(self._options, lambda: self._scan(depth, []), depth, hold)
                stopped.notes = self._not_entered()
                yield stopped
                if stopped.index is not None:
                    self._keep(stopped.index)
        units.confirm(ran)

    @contextlib.contextmanager
    def _moving(self, depth: Depth) -> Iterator[_Captured]:
        """Scan, and copy SQLite databases; the tree itself runs on, and what changes is found when it is settled."""
        databases: list[trees.Entry] = []
        index = self._scan(depth, databases)
        with self._host.spool("files") as spool:
            self._host.need_space(spool, sum(one.size for one in databases), f"component {self._options.name}")
            copied, plain, notes = sqlite.copy_all(databases, spool)
            index = self._without_companions(index, databases, plain, depth)
            self._keep(index)
            room = max(0, shutil.disk_usage(spool).free - self._host.reserve(spool))
            captured = _Captured(self._artifacts(index), index, depth, spool, room, secret=self._secret)
            captured.copied += copied
            captured.notes = [*notes, *self._not_entered()]
            yield captured

    def _artifacts(self, index: trees.Index) -> Sequence[Artifact]:
        """Return the artifacts of what was scanned and nothing holds still."""
        return [Tree(TREE, ROOT, index, self._secret)]

    def _scan(self, depth: Depth, databases: list[trees.Entry], flushed: int | None = None) -> trees.Index:
        """Scan the paths; SQLite databases go to `databases` in place of the index."""
        roots = self._roots

        def on_file(entry: trees.Entry, head: bytes) -> bool:
            if head == sqlite.MAGIC:
                databases.append(entry)
                return False
            return True

        index = trees.scan(
            ROOT,
            roots,
            self._selection,
            self._previous,
            depth=depth,
            boundaries=self._boundaries()[0],
            on_file=on_file if self._copies_databases else None,
            flushed_ns=flushed,
        )
        present = {one.path for one in index.entries} | {one.path for one in databases}
        missing = [one for one in roots if one not in present and one not in index.unreadable]
        if missing:
            raise SourceError("is not there", where=f"/{missing[0]}", fix="correct `paths` of the component")
        if index.unreadable:
            path, why = next(iter(index.unreadable.items()))
            raise SourceError(
                f"{len(index.unreadable)} entries cannot be read; the first: {why}",
                where=f"/{path}",
                fix="repair them, or add them to `exclude` of the component",
            )
        return index

    def _without_companions(
        self, index: trees.Index, databases: Sequence[trees.Entry], plain: Sequence[trees.Entry], depth: Depth
    ) -> trees.Index:
        """Leave a copied database's journals out of the tree, and take in the files that are no databases."""
        journals = {one.path + end for one in databases if one not in plain for end in sqlite.COMPANIONS}
        index = replace(index, entries=[one for one in index.entries if one.path not in journals])
        if not plain:
            return index
        return replace(
            trees.merge(index, trees.scan(ROOT, [one.path for one in plain], depth=depth)), roots=index.roots
        )

    @property
    def _roots(self) -> list[str]:
        return [one.strip("/") for one in self._options.paths]

    @property
    def _secret(self) -> bool:
        """Whether copies of what changed meanwhile, and by default all, are secret."""
        return self._options.secret

    @property
    def _copies_databases(self) -> bool:
        """Whether SQLite databases are copied through SQLite; those of stopped units are at rest."""
        return self._options.sqlite == "backup" and not self._options.stops

    def _not_entered(self) -> list[str]:
        return [f"the mount {one} was not entered" for one in self._boundaries()[1]]

    def _boundaries(self) -> tuple[list[str], list[str]]:
        """Return the directories not to be entered, relative to the root, and the real mounts among them."""
        seen = mounts.mounts()
        below = [one for path in self._options.paths for one in mounts.mounted_below(path, seen)]
        kinds = {one.point: one.kind for one in below}
        closed = [point for point, kind in kinds.items() if self._options.one_file_system or kind in mounts.PSEUDO]
        told = [one for one in closed if kinds[one] not in mounts.PSEUDO and self._selection.takes(one, True)]
        return [one.strip("/") for one in closed], [one for one in told if Path(one).is_dir()]

    def _path_problems(self) -> list[tuple[str, str]]:
        problems = []
        paths = self._options.paths
        for number, path in enumerate(paths):
            if any(one in (".", "..") for one in path.split("/")):
                problems.append((f"{path} holds '.' or '..'", "write the path out"))
            elif not os.path.lexists(path):
                problems.append((f"{path} is not there", "create it, or take it out of `paths`"))
            elif os.path.realpath(path) != path:
                problems.append((f"{path} leads over a symbolic link", f"name {os.path.realpath(path)} in its place"))
            elif not self._never.takes(path, True):
                problems.append((f"{path} is Restaura's own, or a store", "take it out of `paths`"))
            overlapping = [one for one in paths[:number] if trees.below(path, [one]) or trees.below(one, [path])]
            problems += [(f"{path} and {one} overlap", "name only the outer one") for one in overlapping]
        if not paths:
            problems.append(("no paths are given", "name at least one in `paths`"))
        return problems

    def _cache(self) -> Path:
        # A file that is known is not looked at again, so what counts as one must not have changed.
        plain = "" if self._copies_databases else ".plain"
        return self._host.paths.cache / f"files-{safe_name(self._options.name)}{plain}.jsonl"

    def _cached(self) -> trees.Index | None:
        try:
            with self._cache().open("rb") as lines:
                return trees.Index.load(lines)
        except (OSError, ValueError, TypeError, KeyError, StopIteration):
            return None

    def _known_bytes(self) -> int:
        # It may take a second to read: `prepare` needs it again.
        self._previous = self._previous or self._cached()
        return self._previous.total_bytes if self._previous else 0

    def _keep(self, index: trees.Index) -> None:
        private_dir(self._host.paths.cache)
        write_atomic(self._cache(), index.dump())

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make an empty root-only directory in the spool."""
        with self._host.spool("drill-files") as path:
            yield Target("scratch", str(path))

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Unpack what was asked for, and put on owners, modes and attributes.

        With `target.paths`, every entry is compared here (MismatchError): a part has no fingerprint in the manifest.
        """
        held = Held.of(point)
        wanted = staging.wanted(held.whole, target, self._options.name)
        groups = staging.places(wanted, target)
        staging.need_space(self._host, held.whole, groups, f"point {point.point_id}, component {self._options.name}")
        name = f"/{exchange.STAGE}{secrets.token_hex(6)}" if target.kind == "live" else ""
        holds = [{"hold": where + name, "paths": paths} for where, paths in groups]
        loose = [one.path for one in held.whole.entries if not one.whole]
        debt = self._host.journal.write(OWNER, "stage", {"holds": [one["hold"] for one in holds]})
        try:
            applied = Applied()
            for where, paths in groups:
                applied.add(staging.unpack(point, held, Path(where + name), paths))
            data = {"debt": debt.id, "holds": holds, "asked": list(target.paths), "loose": loose}
            names = {"users": applied.users, "groups": applied.groups}
            staged = Staged(target, {**data, **names}, applied.notes, compared=bool(target.paths))
            if target.paths:
                self._compare(trees.subset(held.whole, wanted), staged)
            staged = self._staged(point, staged)
        except BaseException:
            self.take_back(debt.act, debt.data)
            self._host.journal.settle(debt)
            raise
        if target.kind == "scratch":
            # The spool it stands in is a debt of its own.
            self._host.journal.settle(debt)
        return staged

    def _staged(self, _point: PointReader, staged: Staged) -> Staged:
        """Return what was staged once the rest of the component stands beside it too."""
        return staged

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged; with `target.paths` it is that of a part, and stage() has compared it."""
        index = self._restored(staged, depth)
        return Fingerprint("tree-1", depth, *trees.fingerprint_parts(index, depth, set(staged.data["loose"])))

    def busy(self, staged: Staged) -> list[str]:
        """Name every process that holds live files; none of a unit that the swap itself stops."""
        if staged.target.kind != "live":
            return []
        paths = [f"/{path}" for one in staged.data["holds"] for path in one["paths"]]
        stopped = units.running(self._swap_stops)
        return [str(one) for one in mounts.holders(paths) if one.unit not in stopped]

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Record which entries change places; what is no part of the backup, and machine-bound files, stay."""
        if staged.target.kind != "live":
            return {}
        asked = {f"/{one.strip('/')}" for one in staged.data["asked"]}
        holds, planners = [], []
        for number, one in enumerate(staged.data["holds"]):
            stage = one["hold"]
            holds.append(exchange.Hold(stage, stage.replace(exchange.STAGE, exchange.KEPT)))
            planner = exchange.Planner(
                number,
                Path(stage),
                lambda path, is_dir: not self._selection.takes(path, is_dir),
                lambda path: path not in asked and not MACHINE.takes(path, True),
            )
            for path in one["paths"]:
                planner.add(path)
            planners.append(planner)
        return {**exchange.record(holds, planners), "units": units.running(self._swap_stops)}

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Name the directory that stands for `/`."""
        return {"RESTAURA_TARGET": staged.data["holds"][0]["hold"] if staged else "/"}

    @property
    def _swap_stops(self) -> list[str]:
        return [*self._options.stops, *self._options.restore_stops]

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Stop the component's units, exchange, start them again."""
        with _stopped(record):
            exchange.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Stop the component's units, exchange back, start them again."""
        with _stopped(record):
            exchange.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        exchange.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Start what was stopped; remove what was staged and never swapped: a swap renames its holds first."""
        if act == "start":
            units.start(data["units"])
        if act == "stage":
            exchange.remove_staged(data["holds"])

    def _compare(self, wanted: trees.Index, staged: Staged) -> None:
        """Raise MismatchError unless what was staged is what the index says, entry by entry."""
        depth: Depth = "content" if any(one.sha256 for one in wanted.entries) else "catalog"
        wrong = trees.differences(wanted, self._restored(staged, depth), depth, set(staged.data["loose"]))
        if wrong:
            raise MismatchError("; ".join(wrong[:5]), where=f"component {self._options.name}")

    def _restored(self, staged: Staged, depth: Depth) -> trees.Index:
        """Scan what was staged as one tree, its owners called as on the host it came from."""
        found: trees.Index | None = None
        for one in staged.data["holds"]:
            index = trees.scan(Path(one["hold"]), one["paths"], depth=depth)
            if found is not None:
                index = replace(trees.merge(found, index), roots=[*found.roots, *index.roots])
            found = index
        if found is None:
            raise SourceError("nothing was staged", where=f"component {self._options.name}")
        return read_as(found, Applied([], staged.data["users"], staged.data["groups"]))


def _outcome(
    index: trees.Index, still: Consistency, depth: Depth, notes: Sequence[str], parts: Mapping[str, str] | None = None
) -> Outcome:
    """Return the outcome of a tree: `still` when nothing in it moved. `parts` are further ones of the fingerprint."""
    consistency = "torn" if index.torn else "crash" if index.changed or index.vanished else still
    said = [
        f"{len(paths)} {what}: {_shown(paths)}"
        for what, paths in (
            ("torn (neither old nor new)", index.torn),
            ("changed while they were copied", index.changed),
            ("vanished while they were copied", index.vanished),
        )
        if paths
    ]
    found = trees.fingerprint(index, depth)
    return Outcome(replace(found, parts={**found.parts, **(parts or {})}), consistency, [*notes, *said])


def _shown(paths: Sequence[str]) -> str:
    return ", ".join(f"/{one}" for one in paths[:3]) + (" …" if len(paths) > 3 else "")


@contextlib.contextmanager
def _stopped(record: Mapping[str, Any]) -> Iterator[None]:
    """Stop the recorded units around an exchange; when it fails they are started all the same."""
    ran = record["units"]
    units.stop(ran)
    try:
        paths = [one["live"] for one in record["moves"]]
        held = mounts.holders(paths) if ran else []
        if held:
            raise RefusedError("is in use: " + "; ".join(map(str, held[:5])), where=paths[0], fix="stop it first")
        yield
    finally:
        units.start(ran)


SOURCE = SourceKind("files", FilesComponent, Files, tier="files")
