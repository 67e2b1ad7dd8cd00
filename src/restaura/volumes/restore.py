# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes and projects of a point, staged beside the live data and exchanged with it.

Docker cannot rename volumes. So a volume that is not there is created, empty, with driver, options and labels of the
point, and then the directories that hold the data change places. Nothing is ever started before that: an image has no
chance to fill an empty volume.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from restaura import exchange, mounts, staging, trees
from restaura.errors import NoPointError, RefusedError, SourceError
from restaura.paths import private_dir, write_atomic
from restaura.point import ComponentRecord
from restaura.sources import PointReader, Target
from restaura.staging import COPIES, TREE, Held
from restaura.trees.applying import Applied, read_as
from restaura.volumes import stopping
from restaura.volumes.capture import DESCRIPTION, copies_name
from restaura.volumes.daemon import OF_COMPOSE, PROJECT, VOLUME, Container, Daemon, GoneError, Volume
from restaura.volumes.pieces import numeric

STOP_SECONDS = 86_400.0


@dataclass(frozen=True)
class Item:
    """One tree to restore: `paths` are relative to the point's `base`, which becomes the directory `to` (absolute).

    `volume` is the name that a volume has here, `described` what it is made as, `create` whether it is not there.
    """

    artifact: str
    to: str
    paths: tuple[str, ...]
    volume: str = ""
    described: dict[str, Any] | None = None
    create: bool = False
    part: bool = False

    @property
    def live(self) -> list[str]:
        """The absolute paths that it is to stand at."""
        return [f"{self.to.rstrip('/')}/{one}" for one in self.paths]


class OneTree:
    """A `PointReader` of one tree of the component and its copies, under the names that `staging` knows."""

    def __init__(self, point: PointReader, artifact: str) -> None:
        self._point = point
        self._names = {TREE: artifact, COPIES: copies_name(artifact)}
        self._numeric = artifact.startswith("volumes/")

    @property
    def point_id(self) -> str:
        """The point's id."""
        return self._point.point_id

    @property
    def component(self) -> ComponentRecord:
        """What the manifest says of the component."""
        return self._point.component

    def names(self) -> list[str]:
        """Return which of `tree` and `copies` there are."""
        there = set(self._point.names())
        return [name for name, artifact in self._names.items() if artifact in there]

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Yield a stream artifact: there is none."""
        raise NoPointError("is no stream", where=name)

    def index(self, name: str) -> trees.Index:
        """Return a settled index, its owners as they count."""
        index = self._point.index(self._names[name])
        return numeric(index) if self._numeric else index

    def restore_tree(self, name: str, destination: Path, paths: Sequence[str] | None = None) -> None:
        """Unpack a tree into the empty `destination`."""
        self._point.restore_tree(self._names[name], destination, paths)


def description(point: PointReader) -> dict[str, Any]:
    """Return what the point says of its volumes and projects."""
    with point.open(DESCRIPTION) as stream:
        found: dict[str, Any] = json.loads(stream.read())
        return found


def items(point: PointReader, described: Mapping[str, Any], target: Target, component: str) -> list[Item]:
    """Return what of the point is to be restored where.

    Paths of the target are names of volumes, or absolute paths of project files. Raises NoPointError for what the
    point has not, RefusedError for a volume that is there and not the same.
    """
    names = [one for one in target.paths if not one.startswith("/")]
    paths = [one for one in target.paths if one.startswith("/")]
    known = {one["name"]: one for one in described["volumes"]}
    if missing := [one for one in names if one not in known]:
        listed = ", ".join(map(repr, known)) or "none"
        raise NoPointError(
            f"the point holds no volume {missing[0]!r}; it holds {listed}", where=f"component {component}"
        )
    chosen = [known[one] for one in names] if target.paths else list(known.values())
    found = _volumes(chosen, target) if target.kind in ("live", "name") else _as_they_were(chosen)
    if target.kind == "name" and paths:
        raise RefusedError("project files have no other name", where=paths[0], fix="--to dir:PATH")
    if target.kind != "name" and not names:
        found += _project_items(point, described, paths, target, component)
    if not found:
        raise NoPointError("the point holds nothing of what was asked for", where=f"component {component}")
    return found


def _as_they_were(chosen: Sequence[Mapping[str, Any]]) -> list[Item]:
    return [
        Item(one["artifact"], str(Path(one["path"]).parent), (Path(one["path"]).name,), one["name"]) for one in chosen
    ]


def _volumes(chosen: Sequence[Mapping[str, Any]], target: Target) -> list[Item]:
    """Return volumes as they are here, or are to be made here."""
    found = []
    with Daemon() as daemon:
        root = daemon.about()["root"]
        there = {one.name: one for one in daemon.volumes()}
    for one in chosen:
        wanted = renamed(one, target.value) if target.kind == "name" else dict(one)
        live, inside = there.get(wanted["name"]), Path(one["path"]).name
        made = {key: wanted[key] for key in ("name", "driver", "options", "labels")}
        if live is None:
            volume = Volume(made["name"], made["driver"], made["options"], made["labels"], "")
            path = Path(volume.path) if volume.bound else Path(root, "volumes", volume.name, "_data")
        elif target.kind == "name":
            fix = f"give another name, or docker volume rm {live.name} once nothing in it is needed"
            raise RefusedError("there is a volume of that name already", where=f"volume {live.name}", fix=fix)
        else:
            _refuse_other(live, made)
            path = Path(os.path.realpath(live.path))
        if path.name != inside:
            raise RefusedError(
                f"its data is at {path}, not in {inside}", where=f"volume {made['name']}", fix="--to dir:PATH"
            )
        found.append(Item(one["artifact"], str(path.parent), (inside,), made["name"], made, live is None))
    return found


def renamed(volume: Mapping[str, Any], project: str) -> dict[str, Any]:
    """Return a volume's description as Compose has it in a project of another name."""
    labels = {key: value for key, value in volume["labels"].items() if key not in OF_COMPOSE}
    where = f"volume {volume['name']}"
    if PROJECT not in labels or VOLUME not in labels:
        raise RefusedError(
            "belongs to no Compose project", where=where, fix="name the volumes to restore: --path VOLUME"
        )
    if Volume("", volume["driver"], volume["options"], {}, "").bound:
        what = f"is the directory {volume['options']['device']}, under whatever project name"
        raise RefusedError(what, where=where, fix="--to dir:PATH, or name the other volumes: --path VOLUME")
    return {**volume, "name": f"{project}_{labels[VOLUME]}", "labels": {**labels, PROJECT: project}}


def _refuse_other(live: Volume, made: Mapping[str, Any]) -> None:
    """Refuse to restore into a volume that is not made as the point's was: Docker can change none of that."""
    other = live.described()
    wrong = [key for key in ("driver", "options") if other[key] != made[key]]
    mine, theirs = ({k: v for k, v in one["labels"].items() if k not in OF_COMPOSE} for one in (other, made))
    wrong += ["labels"] if mine != theirs else []
    if wrong:
        raise RefusedError(
            f"has other {' and '.join(wrong)} than in the point, and Docker can change none of them",
            where=f"volume {live.name}",
            fix=f"--to dir:PATH, or docker volume rm {live.name} once nothing in it is needed: then it is made anew",
        )


def _project_items(
    point: PointReader, described: Mapping[str, Any], paths: Sequence[str], target: Target, component: str
) -> list[Item]:
    """Return project files: those that were asked for, or all of them."""
    found, left = [], list(paths)
    for one in described["projects"]:
        index = point.index(one["artifact"])
        known = {entry.path for entry in index.entries}
        own = [path for path in left if path.strip("/") in known and trees.below(path.strip("/"), index.roots)]
        left = [path for path in left if path not in own]
        if own or not target.paths:
            wanted = staging.wanted(index, replace(target, paths=own), component)
            found.append(Item(one["artifact"], "/", tuple(wanted), part=bool(own)))
    if left:
        raise NoPointError(f"the point holds no {left[0]}", where=f"component {component}", fix="restaura show POINT")
    return found


# -- staging --------------------


def hold_for(item: Item, path: str) -> str:
    """Return the directory, on the file system of a live path, that its hold is made in.

    Beside Docker's volumes, not among them: Docker takes every directory there for a volume.
    """
    parts = Path(item.to).parts
    if item.volume and len(parts) > 3 and parts[-2] == "volumes" and path.endswith("/_data"):
        root, folder = Path(*parts[:-2]), Path(*parts[:-1])
        place = root if root.stat().st_dev == _existing(folder).stat().st_dev else folder
        return str(place)
    mounted = {one.point for one in mounts.mounts()}
    live = Path(path)
    where = live if path in mounted and live.is_dir() else live.parent
    return str(_existing(where)).rstrip("/")


def unpack(point: PointReader, item: Item, hold: Path, paths: Sequence[str]) -> tuple[dict[str, Any], Applied]:
    """Unpack `paths` of a tree below `hold`, at their live paths; return what `restored` needs to scan them."""
    one = OneTree(point, item.artifact)
    held = Held.of(one)
    overlay = private_dir(hold) / f"{exchange.STAGE}{secrets.token_hex(6)}"
    applied = staging.unpack(one, held, overlay, paths)
    base = Path(f"{hold}{item.to.rstrip('/')}")
    for path in paths:
        place = base / path
        for parent in reversed(place.parents):
            if parent.is_relative_to(hold):
                parent.mkdir(0o700, exist_ok=True)
        (overlay / path).rename(place)
    exchange.remove(overlay)
    part = trees.subset(held.whole, paths)
    trees.apply(replace(part, entries=[one for one in part.entries if not trees.below(one.path, paths)]), base)
    found = {
        "artifact": item.artifact,
        "base": str(base),
        "paths": list(paths),
        "loose": [entry.path for entry in held.whole.entries if not entry.whole],
        "users": applied.users,
        "groups": applied.groups,
    }
    return found, applied


def restored(found: Mapping[str, Any], depth: Any) -> trees.Index:
    """Scan a staged tree, its owners called as on the host it came from."""
    index = trees.scan(Path(found["base"]), found["paths"], depth=depth)
    index = read_as(index, Applied([], found["users"], found["groups"]))
    return numeric(index) if found["artifact"].startswith("volumes/") else index


def _existing(directory: Path) -> Path:
    while not directory.is_dir():
        directory = directory.parent
    return directory


# -- changing places --------------------


def users(record: Mapping[str, Any], containers: Sequence[Container]) -> list[Container]:
    """Return the containers that see what changes places."""
    return [
        one
        for one in containers
        if any(one.uses(use["volume"], path, own=use["own"]) for use in record["uses"] for path in use["paths"])
    ]


def swap(record: dict[str, Any]) -> None:
    """Create the volumes that are missing, and exchange, while the containers that use them are stopped."""
    with _stopped(record):
        with Daemon() as daemon:
            for one in record["create"]:
                made = daemon.create_volume(one["volume"])
                if made.described() != one["volume"] or (not made.bound and made.path != one["path"]):
                    what = "was made by somebody else meanwhile, or its data is not where Docker keeps that of others"
                    raise SourceError(what, where=f"volume {made.name}", fix=f"docker volume inspect {made.name}")
        exchange.swap(record)


def undo(record: dict[str, Any]) -> None:
    """Exchange back, and remove the volumes that were not there before, but for what was put into them since.

    Those that were there, and are gone by now, are made again.
    """
    with _stopped(record):
        there = {one["volume"]["name"] for one in record["create"]}
        with Daemon() as daemon:
            for use in record["uses"]:
                if use.get("described") and use["volume"] not in there:
                    daemon.create_volume(use["described"])
        exchange.undo(record)
        if record["create"]:
            with Daemon() as daemon:
                for one in record["create"]:
                    _remove_made(daemon, one)


def _remove_made(daemon: Daemon, made: Mapping[str, Any]) -> None:
    with contextlib.suppress(GoneError):
        volume = daemon.volume(made["volume"]["name"])
        empty = volume.bound or not any(Path(volume.path).iterdir())
        used = any(one.uses(volume.name, volume.path) for one in daemon.containers())
        if empty and not used and volume.described() == made["volume"]:
            daemon.remove_volume(volume.name)


@contextlib.contextmanager
def _stopped(record: Mapping[str, Any]) -> Iterator[None]:
    """Stop the containers that use what changes places, and start them again; those too that a dead process stopped."""
    note = Path(record["stopped"])
    before = json.loads(note.read_text()) if note.exists() else {"stop": [], "pause": [], "commands": []}
    with Daemon() as daemon:
        known = daemon.containers()
    now = [one for one in users(record, known) if one.runs or one.paused]
    free = [one.name for one in now if one.paused or not stoppable(record, one)]
    if free:
        raise RefusedError(f"container {', '.join(free)} uses it", where="restore", fix=f"docker stop {' '.join(free)}")
    held = stopping.plan(now, (), (), known, record["stop_seconds"])
    ids = {row["id"] for row in held["stop"]}
    held["stop"] += [row for row in before["stop"] if row["id"] not in ids]
    if held["stop"]:
        write_atomic(note, json.dumps(held).encode())
    try:
        stopping.hold_still({**held, "stop": [row for row in held["stop"] if row["id"] in ids]}, STOP_SECONDS)
        yield
    finally:
        if held["stop"]:
            stopping.go_on(held)
            note.unlink(missing_ok=True)


def stoppable(record: Mapping[str, Any], container: Container) -> bool:
    """Whether a restore may stop the container: all it uses of this restore is held by stopping."""
    used = [
        use
        for use in record["uses"]
        if any(container.uses(use["volume"], path, own=use["own"]) for path in use["paths"])
    ]
    return all(use["stops"] for use in used) and not container.removes_itself and not container.of_swarm
