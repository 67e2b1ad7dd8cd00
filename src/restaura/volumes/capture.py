# SPDX-License-Identifier: GPL-3.0-or-later
"""The trees of one run: those that are held are read in two passes, the others as `files` are, moving.

What of a moving tree does not stand still (SQLite databases, files that changed while they were copied) is copied into
the spool, and is an artifact of its own: `copies/NAME` beside `volumes/NAME`.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from restaura import mounts, sqlite, still, trees
from restaura.errors import SourceError
from restaura.hold import Hold
from restaura.host import Host
from restaura.paths import private_dir, write_atomic
from restaura.point import Consistency, Depth, Fingerprint, safe_name
from restaura.sources import Artifact, Outcome, Stream, Tree
from restaura.volumes.daemon import Container
from restaura.volumes.pieces import Chosen, Piece, Way

ALGORITHM = "volumes-1"
DESCRIPTION = "volumes.json"
_WEAKEST: tuple[Consistency, ...] = ("torn", "crash", "snapshot", "stopped", "transactional")


def copies_name(artifact: str) -> str:
    """Return the artifact that holds what of another did not stand still."""
    return f"copies/{artifact.replace('/', '.')}"


class Scanner:
    """Scans the trees of a component, each with what is known from the last time."""

    def __init__(self, host: Host, component: str) -> None:
        self._folder = host.paths.cache / f"volumes-{safe_name(component)}"
        never = [*host.paths.own(), *(Path(one.location) for one in host.config.stores if one.location[0] == "/")]
        self.selection = trees.Selection(never=never)
        self._known: dict[Path, trees.Index | None] = {}

    def scan(
        self, piece: Piece, depth: Depth, databases: list[trees.Entry] | None = None, flushed: int | None = None
    ) -> trees.Index:
        """Return the index of a tree. SQLite databases of one that moves go to `databases` in place of the index."""
        found = [] if databases is None else databases

        def on_file(entry: trees.Entry, head: bytes) -> bool:
            if head == sqlite.MAGIC:
                found.append(entry)
                return False
            return True

        boundaries = [one.point.removeprefix(str(piece.base)).lstrip("/") for one in _boundaries(piece)]
        hook, known = on_file if piece.moves else None, self.known(piece)
        try:
            index = trees.scan(
                piece.base,
                piece.roots,
                self.selection,
                known,
                depth=depth,
                boundaries=boundaries,
                on_file=hook,
                flushed_ns=flushed,
            )
        except FileNotFoundError:
            index = trees.Index([])
        there = {one.path for one in index.entries} | {one.path for one in found}
        missing = [one for one in piece.roots if one not in there and one not in index.unreadable]
        if missing:
            raise SourceError("was removed during the run", where=f"{piece.name}, {piece.base / missing[0]}")
        if index.unreadable:
            path, why = next(iter(index.unreadable.items()))
            raise SourceError(f"cannot be read: {why}", where=f"{piece.name}, {piece.base / path}")
        index = piece.read(index)
        self._known[self._cache(piece)] = index
        return index

    def known(self, piece: Piece) -> trees.Index | None:
        """Return the last index of a tree: this run's, or an earlier one's."""
        path = self._cache(piece)
        if path not in self._known:
            self._known[path] = None
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, StopIteration), path.open("rb") as lines:
                self._known[path] = trees.Index.load(lines)
        return self._known[path]

    def keep(self) -> None:
        """Keep the indexes of this run for the next one, and no others."""
        private_dir(self._folder)
        for path in self._folder.iterdir():
            if path not in self._known:
                path.unlink()
        for path, index in self._known.items():
            if index is not None:
                write_atomic(path, b"".join(index.dump()))

    def _cache(self, piece: Piece) -> Path:
        """Return the file of a tree's last index; that of a moving tree lacks SQLite databases."""
        return self._folder / safe_name(f"{piece.artifact}{'-moving' if piece.moves else ''}.jsonl")


@dataclass
class Captured:
    """What one run takes of the chosen trees."""

    host: Host
    name: str
    chosen: Chosen
    scanner: Scanner
    depth: Depth
    spool: Path
    begin: "Callable[[Captured], None] | None" = None
    hold: Hold | None = None
    broken: Callable[[], str] = lambda: ""
    _why: str | None = None
    notes: list[str] = field(default_factory=list)
    open_engines: set[str] = field(default_factory=set)

    def artifacts(self) -> Iterator[Artifact]:
        """Yield the trees that move, with their copies; then, once `begin` made them still, those that are held."""
        for piece in self.chosen.pieces:
            if piece.moves:
                yield from self._moving(piece)
        if self.begin is not None:
            self.begin(self)
        for piece in self.chosen.pieces:
            if not piece.moves:
                index = self.scanner.scan(piece, self.depth)
                yield Tree(piece.artifact, piece.base, index, piece.secret, held=True)
        text = json.dumps(describe(self.chosen), indent=1, sort_keys=True).encode()
        yield Stream(DESCRIPTION, lambda: contextlib.nullcontext(io.BytesIO(text)))
        self.scanner.keep()

    def _moving(self, piece: Piece) -> Iterator[Artifact]:
        """Copy a tree whose containers run: SQLite databases through SQLite, and again what changed meanwhile."""
        databases: list[trees.Entry] = []
        spool = private_dir(self.spool / safe_name(piece.artifact))
        index = self.scanner.scan(piece, self.depth, databases)
        self.host.need_space(spool, sum(one.size for one in databases), piece.name)
        copied, plain, notes = sqlite.copy_all(databases, spool, piece.base)
        self.notes += notes
        journals = {one.path + end for one in databases if one not in plain for end in sqlite.COMPANIONS}
        index = replace(index, entries=[one for one in index.entries if one.path not in journals])
        if plain:
            taken = trees.scan(piece.base, [one.path for one in plain], depth=self.depth)
            index = replace(trees.merge(index, piece.read(taken)), roots=index.roots)
        yield Tree(piece.artifact, piece.base, index, piece.secret)
        # By now every store has read the tree.
        room = max(0, shutil.disk_usage(spool).free - self.host.reserve(spool))
        changed, gone = still.copy_changed(index, piece.base, spool, room)
        copied += changed
        if copied or gone:
            roots = [one.path for one in copied] or [str(Path(gone[0]).parent)]
            found = trees.scan(spool, roots, depth=self.depth)
            attributes = {one.path: one.xattrs for one in copied}
            entries = [replace(one, xattrs=attributes.get(one.path, {})) for one in found.entries]
            found = piece.read(replace(found, entries=entries, vanished=gone))
            yield Tree(copies_name(piece.artifact), spool, found, piece.secret)

    def outcome(self, indexes: Mapping[str, trees.Index]) -> Outcome:
        """Fingerprint what one store holds, and say how consistent the weakest tree is.

        SourceError when something that nobody used, and that therefore was not stopped, is used by now.
        """
        if self.hold is None and self._why is None:
            # Asked once, as soon as all was read: later stores get theirs from the first.
            self._why = self.broken()
        if self._why:
            raise SourceError(self._why, where=f"component {self.name}")
        parts = {DESCRIPTION: described_digest(describe(self.chosen))}
        counts: dict[str, int] = {}
        notes = list(self.notes)
        found: list[Consistency] = ["stopped"]
        for piece in self.chosen.pieces:
            index = piece.read(trees.merge(indexes[piece.artifact], indexes.get(copies_name(piece.artifact))))
            add_parts(parts, counts, piece.artifact, index, self.depth)
            found.append(self._consistency(piece, index))
            notes += [*_notes(piece, index), *not_entered(piece)]
        weakest = min(found, key=_WEAKEST.index)
        return Outcome(Fingerprint(ALGORITHM, self.depth, parts, counts), weakest, notes)

    def _consistency(self, piece: Piece, index: trees.Index) -> Consistency:
        """Say how consistent one tree is, by who could write to it and what the store has of it."""
        users = piece.users(self.chosen.containers, writing=True)
        runs = any(one.runs for one in users)
        if index.torn or piece.name in self.open_engines:
            return "torn"
        if index.changed or index.vanished or any(one.paused for one in users):
            return "crash"
        if piece.moves:
            # Who did not run when it began may have run since: nothing looks after what is not held.
            return "crash"
        ways: dict[Way, Consistency] = {"stop": "stopped", "command": "snapshot"}
        return ways.get(piece.way, "crash") if runs else "stopped"


def describe(chosen: Chosen) -> dict[str, Any]:
    """Return what a point says of its volumes and projects, as JSON values."""
    volumes = [
        {
            **one.volume.described(),
            "artifact": one.artifact,
            "path": one.paths[0],
            "hold": one.way,
            "containers": [_described(user) for user in one.users(chosen.containers)],
        }
        for one in chosen.pieces
        if one.volume
    ]
    taken = [
        {
            "name": one.project.name,
            "artifact": one.artifact,
            "directory": one.project.directory,
            "files": list(one.project.files),
            "binds": list(one.project.binds),
        }
        for one in chosen.pieces
        if one.project
    ]
    return {"version": 1, "daemon": chosen.versions.get("docker", ""), "volumes": volumes, "projects": taken}


def described_digest(described: Mapping[str, Any]) -> str:
    """Return the SHA-256 over what of a description a restore must give back."""
    fields = ("name", "driver", "options", "labels")
    body = [{name: one[name] for name in fields} for one in described["volumes"]]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def add_parts(
    parts: dict[str, str],
    counts: dict[str, int],
    artifact: str,
    index: trees.Index,
    depth: Depth,
    loose: Sequence[str] = (),
) -> None:
    """Add the fingerprint of one tree to that of the component."""
    found, counted = trees.fingerprint_parts(index, depth, set(loose))
    parts.update({f"{artifact}:{name}": digest for name, digest in found.items()})
    for name, count in counted.items():
        counts[name] = counts.get(name, 0) + count


def _described(container: Container) -> dict[str, Any]:
    return {
        "name": container.name,
        "project": container.project,
        "service": container.service,
        "image": container.image,
        "restart": container.restart,
        "mounts": [
            {"volume": one.volume, "source": one.source, "destination": one.destination, "writes": one.writes}
            for one in container.mounts
        ],
    }


def _notes(piece: Piece, index: trees.Index) -> list[str]:
    said = (
        ("torn (neither old nor new)", index.torn),
        ("changed while they were copied", index.changed),
        ("vanished while they were copied", index.vanished),
    )
    return [f"{piece.name}: {len(paths)} {what}: {', '.join(paths[:3])}" for what, paths in said if paths]


def not_entered(piece: Piece) -> list[str]:
    """Say which mounts below a tree hold data that is not taken."""
    points = dict.fromkeys(one.point for one in _boundaries(piece) if one.kind not in mounts.PSEUDO)
    return [f"{piece.name}: the mount {one} is not entered: back it up as `files`" for one in points]


def _boundaries(piece: Piece) -> list[mounts.Mount]:
    """Return the mounts below a tree: they are not entered."""
    seen = mounts.mounts()
    return [one for path in piece.paths for one in mounts.mounted_below(path, seen)]
