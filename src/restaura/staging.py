# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees of a point are unpacked into root-only holds: for live data, on its very file system."""

import os
from collections.abc import Sequence
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
    """What a point holds of a component: `whole` is one index of tree and copies, `copies` that of the latter.

    `dropped` are files that the tree has and the whole has not.
    """

    whole: Index
    copies: Index | None
    dropped: list[str]

    @classmethod
    def of(cls, point: PointReader) -> "Held":
        """Read the settled indexes of a point."""
        tree = point.index(TREE)
        copies = point.index(COPIES) if COPIES in point.names() else None
        whole = trees.merge(tree, copies)
        known = {one.path for one in whole.entries}
        return cls(whole, copies, [one.path for one in tree.entries if one.path not in known])


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
    copies = {one.path for one in held.copies.entries if one.type == "file"} if held.copies else set()
    # A hard link cannot be unpacked without the name that holds its content.
    leaders = {one.hard_link for one in held.whole.entries if one.hard_link and trees.below(one.path, paths)}
    extra = sorted(one for one in leaders if not trees.below(one, paths))
    plain = [one for one in paths if one not in copies]
    if plain:
        point.restore_tree(TREE, hold, None if everything else [*plain, *extra])
    asked = sorted(one for one in copies if trees.below(one, paths))
    if asked:
        # Missing directories are made, and what is there is checked to be directories, before anything moves in.
        trees.apply(replace(part, entries=[one for one in part.entries if one.type == "dir"]), hold)
        overlay = private_dir(hold / f"{STAGE}copies")
        point.restore_tree(COPIES, overlay, None if everything else asked)
        for one in asked:
            _inside(overlay, one).rename(_inside(hold, one))
        remove(overlay)
    for one in (*extra, *(one for one in held.dropped if trees.below(one, paths))):
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
