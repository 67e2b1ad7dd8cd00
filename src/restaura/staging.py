# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of a point are unpacked into root-only holds: for live data, on its very file system."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from restaura import trees
from restaura.config.schema import Component
from restaura.errors import ConfigError, DamagedError, NoPointError, ProtectedError, RefusedError
from restaura.exchange import STAGE, remove
from restaura.host import Host
from restaura.mounts import mounts
from restaura.paths import private_dir
from restaura.sources import PointReader, Target
from restaura.trees import Index
from restaura.trees.applying import Applied

TREE, COPIES = "tree", "copies"

# Never restored live as a whole: a running system stands on them.
SYSTEM = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var", "/var/lib"),
)


def protected(component: Component, paths: Sequence[str] = ()) -> list[str]:
    """Return what of a component (or of the `paths` asked for) a restore never makes live as a whole."""
    return [one for one in paths or getattr(component, "paths", ()) if f"/{one.strip('/')}" in SYSTEM]


@dataclass(frozen=True)
class Held:
    """What a point holds of a component: `whole` is one index of all its trees.

    `over` are the indexes of the trees that are unpacked over `tree`, by name: files that are kept apart from the
    others, and copies at last. `dropped` are files that a tree has and the whole has not.
    """

    whole: Index
    over: dict[str, Index]
    dropped: list[str]

    @classmethod
    def of(cls, point: PointReader) -> "Held":
        """Read the settled indexes of a point."""
        names = point.names()
        apart = [one for one in names if one not in (TREE, COPIES) and point.component.artifact(one).kind == "tree"]
        found = {one: point.index(one) for one in (TREE, *apart, *([COPIES] if COPIES in names else []))}
        whole = as_one(found)
        known = {one.path for one in whole.entries}
        dropped = [one.path for index in found.values() for one in index.entries if one.path not in known]
        return cls(whole, {name: index for name, index in found.items() if name != TREE}, list(dict.fromkeys(dropped)))


def as_one(indexes: Mapping[str, Index]) -> Index:
    """Return the indexes of a component's trees as one: files kept apart beside the tree's, copies in their place."""
    whole = indexes[TREE]
    for name, index in indexes.items():
        if name not in (TREE, COPIES):
            whole = replace(trees.merge(whole, index), roots=list(dict.fromkeys([*whole.roots, *index.roots])))
    return trees.merge(whole, indexes.get(COPIES))


def wanted(index: Index, target: Target, component: str) -> list[str]:
    """Return the paths to restore, relative to `/`; refuse what the point has not, or must not go live as a whole."""
    known = {one.path for one in index.entries}
    found = [one.strip("/") for one in target.paths] or list(index.roots)
    for one in found:
        if one not in known or not trees.below(one, index.roots):
            raise NoPointError(f"the point holds no /{one}", where=f"component {component}", fix="restaura show POINT")
    for one in found if target.kind == "live" else ():
        if f"/{one}" in SYSTEM:
            raise ProtectedError(
                "is never restored live as a whole",
                where=f"/{one}",
                fix=f"--to dir:PATH, or name what of it you need: --path /{one}/…",
            )
        parent = os.path.realpath(Path(f"/{one}").parent)
        if parent != str(Path(f"/{one}").parent):
            raise RefusedError(f"leads over a symbolic link to {parent}", where=f"/{one}", fix="--to dir:PATH")
    # What lies in another path comes with it.
    return [one for one in dict.fromkeys(found) if not trees.below(one, [other for other in found if other != one])]


def places(paths: Sequence[str], target: Target) -> list[tuple[str, list[str]]]:
    """Return (directory, paths to be unpacked in or beside it); a live path's directory is on its file system."""
    if target.kind == "scratch":
        return [(target.value, list(paths))]
    if target.kind == "dir":
        directory = Path(target.value)
        if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
            raise ConfigError("is not a directory", where=target.value, fix="--to dir:/PATH")
        if directory.is_dir() and any(directory.iterdir()):
            raise RefusedError("is not empty", where=target.value, fix="name an empty or a new directory")
        return [(str(directory), list(paths))]
    if target.kind != "live":
        raise ConfigError(f"files cannot be restored to {target.kind!r}", fix="--to live or --to dir:/PATH")
    mounted = {one.point for one in mounts()}
    groups: dict[str, list[str]] = {}
    for one in paths:
        live = Path(f"/{one}")
        where = live if str(live) in mounted and live.is_dir() else live.parent
        groups.setdefault(str(_existing(where)).rstrip("/"), []).append(one)
    return list(groups.items())


def need_space(host: Host, index: Index, groups: Sequence[tuple[str, list[str]]], where: str) -> None:
    """Raise SpaceError unless what is to be unpacked fits on every file system it goes to."""
    needed: dict[int, tuple[Path, int]] = {}
    for directory, paths in groups:
        place = _existing(Path(directory or "/"))
        device = place.stat().st_dev
        needed[device] = (place, needed.get(device, (place, 0))[1] + trees.subset(index, paths).total_bytes)
    for place, size in needed.values():
        host.need_space(place, size, where)


def unpack(point: PointReader, held: Held, hold: Path, paths: Sequence[str]) -> Applied:
    """Unpack tree and copies into the root-only directory `hold`, and put on what stores do not keep."""
    private_dir(hold)
    part = trees.subset(held.whole, paths)
    everything = set(paths) == set(held.whole.roots)
    over = {
        name: {one.path for one in index.entries if one.type == "file"} - {*held.dropped}
        for name, index in held.over.items()
    }
    elsewhere = set().union(*over.values())
    # A hard link cannot be unpacked without the name that holds its content.
    leaders = {one.hard_link for one in held.whole.entries if one.hard_link and trees.below(one.path, paths)}
    extra = sorted(one for one in leaders if not trees.below(one, paths))
    plain = [one for one in paths if one not in elsewhere]
    if plain:
        point.restore_tree(TREE, hold, None if everything else [*plain, *extra])
    for name, files in over.items():
        asked = sorted(one for one in files if trees.below(one, paths))
        if asked:
            # Missing directories are made, and what is there is checked to be directories, before anything moves in.
            trees.apply(replace(part, entries=[one for one in part.entries if one.type == "dir"]), hold)
            overlay = private_dir(hold / f"{STAGE}{name}")
            point.restore_tree(name, overlay, None if everything else asked)
            for one in asked:
                _inside(overlay, one).rename(_inside(hold, one))
            remove(overlay)
    for one in (*extra, *(one for one in held.dropped if trees.below(one, paths))):
        if os.path.lexists(hold / one):
            _prune(hold, one)
    return trees.apply(part, hold)


def _prune(hold: Path, path: str) -> None:
    """Delete one file in `hold`, and the directories that it leaves empty."""
    _inside(hold, path).unlink()
    for parent in (hold / path).parents:
        if parent == hold or any(parent.iterdir()):
            return
        parent.rmdir()


def _inside(hold: Path, path: str) -> Path:
    """Return the path of an entry; DamagedError when a link that came out of the store leads to it from elsewhere."""
    parent = (hold / path).parent
    if os.path.realpath(parent) != os.path.realpath(hold) + str(parent)[len(str(hold)) :]:
        raise DamagedError("a link stands where the index has a directory", where=str(parent))
    return hold / path


def _existing(directory: Path) -> Path:
    while not directory.is_dir():
        directory = directory.parent
    return directory
