# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifacts of a point become files: in one directory, beside the live files, or as documents for the API."""

import grp
import json
import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restaura import exchange, staging, trees
from restaura.errors import RefusedError, SourceError
from restaura.grafana import api, database, encryption
from restaura.grafana.content import DATABASE, INI, PLUGINS, PROVISIONING, SERVER, Content
from restaura.grafana.installed import Installed
from restaura.grafana.settings import Settings
from restaura.paths import private_dir, write_atomic
from restaura.sources import PointReader
from restaura.trees.applying import Applied, read_as
from restaura.volumes.restore import OneTree


def unpack(point: PointReader, folder: Path, wanted: Sequence[str], places: Mapping[str, Path]) -> dict[str, Any]:
    """Unpack the description, the settings, the export and `wanted` into `folder`, or each to its place.

    Returns what `content` and `provisioning` need, as JSON values.
    """
    private_dir(folder)
    tree: dict[str, Any] = {}
    for name in point.names():
        place = places.get(name, folder / name)
        if name == api.DASHBOARDS:
            _tree(point, name, place)
        elif name == PROVISIONING:
            tree = _tree(point, name, place) if name in wanted else {}
        elif name != DATABASE or name in wanted:
            with point.open(name) as stream, place.open("xb") as out:
                place.chmod(0o600)
                shutil.copyfileobj(stream, out, 1 << 18)
    return {
        "folder": str(folder),
        "wanted": list(wanted),
        "places": {name: str(path) for name, path in places.items()},
        PROVISIONING: tree,
    }


def _tree(point: PointReader, name: str, place: Path) -> dict[str, Any]:
    """Unpack a tree whose only root is a directory to `place`."""
    one = OneTree(point, name)
    held = staging.Held.of(one)
    (root,) = held.whole.roots
    overlay = place.with_name(f"{exchange.STAGE}{name}")
    applied = staging.unpack(one, held, overlay, [root])
    (overlay / root).rename(place)
    exchange.remove(overlay)
    loose = [entry.path for entry in held.whole.entries if not entry.whole]
    found = {"place": str(place), "root": root, "loose": loose, "notes": applied.notes}
    return {**found, "users": applied.users, "groups": applied.groups}


def content(data: Mapping[str, Any]) -> Content:
    """Return what was unpacked."""
    folder = Path(data["folder"])
    described = json.loads((folder / SERVER).read_bytes())
    return Content(folder, described, {name: Path(path) for name, path in data["places"].items()})


def provisioning(tree: Mapping[str, Any], depth: Any) -> trees.Index:
    """Scan the provisioning files that were unpacked, their owners called as on the host they came from."""
    place = Path(tree["place"])
    index = trees.scan(place.parent, [place.name], depth=depth)
    return read_as(index, Applied([], tree["users"], tree["groups"]))


# -- beside the live files --------------------


def places(there: Installed, before: Content, wanted: list[str], notes: list[str]) -> dict[str, Path]:
    """Return where the `wanted` parts go on this host, and say what stays; RefusedError when that must not be.

    `before` is the point's description and settings.
    """
    found: dict[str, Path] = {}
    after = there.settings
    if INI in wanted:
        if path := there.here(there.config):
            found[INI] = path
            after = there.settings.with_ini(before.path(INI).read_text(errors="replace"))
        else:
            notes.append(f"{there.config} is in the container's image: it was left as it is")
    for name, seen in ((DATABASE, after.database), (PROVISIONING, after.provisioning)):
        if name in wanted:
            if path := there.here(seen):
                found[name] = path
            elif name == DATABASE:
                fix = f"mount a volume at {after.data} of {there.where}"
                raise RefusedError(
                    f"{seen} is in no volume: it goes when the container goes", where=there.where, fix=fix
                )
            else:
                notes.append(f"{seen} is in the container's image: it was left as it is")
    if DATABASE in wanted:
        if after.engine != "sqlite3":
            raise RefusedError(f"would use a {after.engine} database", where=there.where, fix="--to dir:PATH")
        _refuse_other_key(before.settings, after, there)
    return found


def _refuse_other_key(point: Settings, after: Settings, there: Installed) -> None:
    """Refuse a database whose secrets the server could not open."""
    if point.secret_key != after.secret_key:
        raise RefusedError(
            "would run with another secret_key than the database was written with: no data source would open",
            where=there.where,
            fix="restore all of it (without --path); and where GF_SECURITY_SECRET_KEY stands in this server's "
            f"environment, set it as the point has it: --to dir:PATH writes {INI} and {SERVER} to look it up",
        )


def refuse_older(of_point: str, here: str, there: Installed) -> list[str]:
    """Refuse a database that a newer Grafana wrote; return a note when a version is not known."""
    if of_point and here and _number(of_point) > _number(here):
        what = f"is Grafana {here}, and the point was taken of {of_point}: an older one cannot read its database"
        raise RefusedError(what, where=there.where, fix=f"install Grafana {of_point} or newer")
    return [] if of_point and here else ["the versions of Grafana are not known: this one must not be older"]


def refuse_unknown_migrations(restored: Path, live: Path, there: Installed) -> None:
    """Refuse a database with migrations that the live one, of a Grafana that has run here, has not got."""
    if not live.exists():
        return
    with database.opened(restored) as newer:
        wanted = database.migrations(newer)
    try:
        with database.opened(live) as older:
            known = database.migrations(older)
    except SourceError:
        # The live database is damaged: the reason for the restore, maybe.
        return
    if known and (unknown := sorted(wanted - known)):
        raise RefusedError(
            f"knows nothing of {len(unknown)} migrations of the database ({unknown[0]!r}): a newer Grafana wrote it",
            where=there.where,
            fix="install the Grafana that the point was taken of, or a newer one, and start it once",
        )


def put_on(staged: Path, live: Path, recorded: Mapping[str, Any] | None, *, numeric: bool) -> None:
    """Give a staged file the owner and mode of the live one or, where there is none, of the one that was backed up."""
    if live.exists():
        found = live.stat()
        uid, gid, mode = found.st_uid, found.st_gid, found.st_mode & 0o7777
    elif recorded:
        uid, gid, mode = recorded["uid"], recorded["gid"], recorded["mode"]
        if not numeric:
            uid, gid = _user(recorded["user"], uid), _group(recorded["group"], gid)
    else:
        found = existing_parent(live).stat()
        uid, gid, mode = found.st_uid, found.st_gid, 0o640
    os.chown(staged, uid, gid)
    staged.chmod(mode)


def existing_parent(path: Path) -> Path:
    """Return the nearest directory above a path that is there."""
    return next(one for one in path.parents if one.is_dir())


def make_parents(hold: Path, staged: Path) -> None:
    """Make the directories of a staged file; those that are there live lend their attributes in the swap."""
    private_dir(hold)
    for parent in reversed(staged.parents):
        if parent.is_relative_to(hold):
            parent.mkdir(0o755, exist_ok=True)
    hold.chmod(0o700)


def missing_plugins(folder: Path, there: Installed) -> list[str]:
    """Return a note for the plugins that the point's server had and this one has not."""
    if not (folder / PLUGINS).exists():
        return []
    have = {one["id"] for one in there.plugins()}
    lacking = [one for one in json.loads((folder / PLUGINS).read_bytes()) if one["id"] not in have]
    commands = "; ".join(f"grafana cli plugins install {one['id']} {one['version']}" for one in lacking)
    return [f"plugins are not in the point; install them: {commands}"] if lacking else []


# -- for the API --------------------


def for_api(point: PointReader, found: Content) -> list[str]:
    """Give the data sources their secrets, which the export has not; return notes. RefusedError without an export."""
    made = api.Export(found.folder)
    if not (found.folder / "folders.json").exists():
        raise RefusedError(
            "holds no export through the API (the component had no token): there is nothing to restore by it",
            where=f"point {point.point_id}",
            fix="restore the database: --to live, or --to dir:PATH",
        )
    notes = []
    sources = made.keys("datasources")
    if DATABASE in point.names() and encryption.available():
        copy = found.folder / DATABASE
        with point.open(DATABASE) as stream, copy.open("xb") as out:
            copy.chmod(0o600)
            shutil.copyfileobj(stream, out, 1 << 18)
        with database.opened(copy) as opened:
            opener = encryption.Opener(opened, found.settings.secret_key)
            told = {key: opener.data_source(int(found.described["org"]), key) for key in sources}
        copy.unlink()
        write_atomic(found.folder / api.SECRETS, api.to_json(told))
    elif sources:
        notes.append(f"set the secrets of data sources {', '.join(sources)} by hand: the API gives none")
    if lacking := api.redacted(made.read("contact-points")):
        notes.append(f"set the secrets of contact points {', '.join(lacking)} by hand: the export has none")
    return notes


def _number(version: str) -> tuple[int, ...]:
    """Return what of a version can be compared: 12.0.0 of `12.0.0-pre`."""
    return tuple(int(one) for one in re.split(r"[-+]", version, maxsplit=1)[0].split(".") if one.isdigit())


def _user(name: str, uid: int) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return uid


def _group(name: str, gid: int) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return gid
