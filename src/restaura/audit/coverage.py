# SPDX-License-Identifier: GPL-3.0-or-later
"""Which component of a configuration protects which holder of data, and what is left that none protects."""

import os
import shlex
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from restaura.audit.holders import find_holders
from restaura.audit.holders_docker import is_anonymous
from restaura.audit.model import Holder
from restaura.config.schema import Config
from restaura.output import size
from restaura.trees.patterns import Selection

# Holders that are files, whatever works in them, and those that are Compose projects.
FILES = ("tree", "sqlite", "grafana", "compose_project")
PROJECTS = ("compose_project", "supabase")
SERVERS = ("grafana", "mongodb", "postgres", "prometheus", "qdrant", "redis")
HERE = ("", "localhost", "127.0.0.1", "::1")
WITHOUT_SOURCE = (
    "no source takes a running {kind}: have it dump into a directory that a component of files takes, or stop it for "
    "good"
)


def covered(config: Config, holders: Iterable[Holder], root: Path = Path("/")) -> dict[str, str]:
    """Return the component that protects each holder, by the holder's id: one of a plan that is ever run.

    What lies in several places is protected when each of them is; then the component of the first is named. `root` is
    where the host was looked at: paths of components below it are taken for the host's own.
    """
    seen = list(holders)
    planned = {one.name for plan in config.plans if plan.schedule != "never" for one in config.plan_components(plan)}
    components = [(config.kinds[one.name], one) for one in config.components if one.name in planned]
    found: dict[str, str] = {}
    for holder in seen:
        if servers := [one.name for kind, one in components if _is_server(kind, one, holder, seen)]:
            found[holder.id] = servers[0]
            continue
        place = str(root).rstrip("/")
        takers = [_takers(components, holder, path, seen, place) for path in holder.paths]
        if holder.kind == "tree":
            # Bit by bit is as good as whole.
            takers = [one or _together(components, path, place) for one, path in zip(takers, holder.paths, strict=True)]
        if not holder.paths and holder.volumes:
            volumes = [one for kind, one in components if kind == "docker_volumes"]
            takers = [[one.name for one in volumes if _chosen(one, name, holder)] for name in holder.volumes]
        if takers and all(takers):
            found[holder.id] = takers[0][0]
    return found


def unprotected(config: Config, root: Path) -> list[Holder]:
    """Return what on the host below `root` holds data that no component of its configuration protects."""
    own = [one.location for one in config.stores if one.location.startswith("/")]
    holders, _ = find_holders(root, skip=own)
    taken = covered(config, holders, root)
    return [one for one in holders if one.id not in taken]


def told(holder: Holder) -> tuple[str, str]:
    """Say of a holder that nothing protects what it is, and what to do about it."""
    name = {"docker_volume": "Docker volume", "compose_project": "Compose project", "tree": "directory"}
    kind = name.get(holder.kind, holder.kind)
    # Where a volume is, is Docker's own affair.
    plain = holder.kind == "docker_volume" or holder.paths == (holder.name,)
    place = f" in {', '.join(holder.paths)}" if holder.paths and not plain else ""
    state = [] if holder.kind in ("tree", "sqlite") else ["running" if holder.running else "not running"]
    weight = [size(holder.bytes)] if holder.bytes is not None else []
    what = f"{kind} {holder.name}{place}" + (f" ({', '.join(state + weight)})" if state + weight else "")
    # A Postgres without a source is too old for it.
    source = holder.source or (holder.kind if holder.kind in SERVERS and holder.kind != "postgres" else "")
    if not source:
        return what, WITHOUT_SOURCE.format(kind=kind)
    variable = f"backup_{source}_components"
    if source == "docker_volumes" and not holder.component:
        return what, f"give it a name in the Compose file, or set `anonymous` of a component in {variable}"
    if not holder.component:
        return what, f"declare it in {variable}: how it is reached must be told"
    return what, f"add it to {variable}, then run setup_backup.yml: {_flow(holder.component)}"


def _flow(component: dict[str, object]) -> str:
    """Return a component as it may stand in an inventory."""
    return "- {" + ", ".join(f"{key}: {_value(value)}" for key, value in component.items()) + "}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if text == shlex.quote(text) else "'" + text.replace("'", "''") + "'"


def _takers(
    components: list[tuple[str, Any]], holder: Holder, path: str, holders: list[Holder], root: str
) -> list[str]:
    """Return the components that take a path of a holder; what a running server writes cannot be taken as files."""
    found = []
    still = holder.kind in FILES or not holder.running
    for kind, one in components:
        if (kind == "files" and still and _takes_path(one, path, root)) or (
            kind == "docker_volumes" and _takes_in_docker(one, holder, path, holders)
        ):
            found.append(one.name)
    return found


def _together(components: list[tuple[str, Any]], path: str, root: str) -> list[str]:
    """Return the components of files that among them take all that there is in a directory; none when they do not."""
    inside = [
        (kind, one)
        for kind, one in components
        if kind == "files" and any(below(_on_host(inner, root), path) for inner in one.paths)
    ]
    if not inside:
        return []
    try:
        with os.scandir(f"{root}{path}") as listed:
            entries = [(f"{path}/{one.name}", one.is_dir(follow_symlinks=False)) for one in listed]
    except OSError:
        return []
    found: list[str] = []
    for inner, is_dir in entries:
        takers = [one.name for _, one in inside if _takes_path(one, inner, root, is_dir)]
        takers = takers or (_together(inside, inner, root) if is_dir else [])
        if not takers:
            return []
        found += takers
    return found


def _takes_path(component: Any, path: str, root: str, is_dir: bool = True) -> bool:
    chosen = Selection(
        [_on_host(one, root) for one in component.exclude], [_on_host(one, root) for one in component.include]
    )
    return any(below(path, _on_host(one, root)) for one in component.paths) and chosen.takes(path, is_dir)


def _on_host(path: str, root: str) -> str:
    """Return a path of a component, which may name where the host was looked at, as the host's own."""
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _takes_in_docker(component: Any, holder: Holder, path: str, holders: list[Holder]) -> bool:
    """Whether a component of volumes takes a path: a volume's own, or one in the folder of a project that it takes."""
    if holder.kind not in PROJECTS and any(_chosen(component, one, holder) for one in holder.volumes):
        return True
    if not component.project_files or not (component.all or holder.project in component.projects):
        return False
    folders = [one.paths[0] for one in holders if one.kind in PROJECTS and one.project == holder.project and one.paths]
    return bool(holder.project) and any(below(path, one) for one in folders)


def _chosen(component: Any, volume: str, holder: Holder) -> bool:
    """Whether a component's settings choose a volume."""
    if any(fnmatchcase(volume, one) for one in component.exclude):
        return False
    if volume in component.volumes:
        return True
    if is_anonymous(volume) and not component.anonymous:
        return False
    labels = {*holder.labels, *(one.partition("=")[0] for one in holder.labels)}
    patterns = any(fnmatchcase(volume, one) for one in component.volumes)
    return component.all or patterns or holder.project in component.projects or bool(labels & set(component.labels))


def _is_server(kind: str, component: Any, holder: Holder, holders: list[Holder]) -> bool:
    """Whether a component of a server's kind means this server."""
    if kind not in SERVERS or kind != ("postgres" if holder.kind == "supabase" else holder.kind):
        return False
    if component.container:
        return holder.kind == kind and bool(holder.container == component.container)
    if cluster := getattr(component, "cluster", ""):
        return not holder.container and bool(holder.name == cluster)
    alike = [one for one in holders if one.kind == kind and not one.container]
    if kind != "postgres" and not holder.running and len(alike) > 1:
        return False
    on_host = [one for one in alike if one.running]
    address = getattr(component, "host", "") or urlsplit(getattr(component, "url", "")).hostname or ""
    return address in HERE and not holder.container and len(on_host) <= 1


def below(path: str, directory: str) -> bool:
    """Whether a path is a directory, or below it."""
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")
