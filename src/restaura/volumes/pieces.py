# SPDX-License-Identifier: GPL-3.0-or-later
"""What a component takes: the volumes and projects that its settings choose, each a tree with its way of being held."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from restaura import trees
from restaura.config.schema import Component, setting
from restaura.point import safe_name
from restaura.volumes.daemon import Container, Daemon, Volume, within
from restaura.volumes.projects import Project, projects

Way = Literal["stop", "pause", "command", "none"]
HOLD_HELP = (
    "`stop` stops the containers that write to them, and starts those that ran again; `pause` freezes these, which is "
    "as a power cut would leave the data; `none` lets them run: what changes meanwhile is shown as `crash` or `torn`"
)


@dataclass(frozen=True)
class VolumeHold:
    """How some volumes are held, where not as the component says."""

    volumes: tuple[str, ...] = setting("Names of volumes, or shell patterns.", example=["shop_db"])
    hold: Way = setting(
        f"{HOLD_HELP}; `command` runs `command` in a container before they are read, and `resume` after.",
        default="command",
    )
    container: str = setting("The container that the commands are run in.", default="", example="shop-db-1")
    user: str = setting("The account in the container that runs them. Empty: the image's own.", default="")
    command: str = setting(
        "Shell command that makes the volumes hold still, or writes what is to be kept into them.",
        default="",
        example="redis-cli save",
    )
    resume: str = setting("Shell command that takes it back; may run twice.", default="")


@dataclass(frozen=True)
class DockerVolumesComponent(Component):
    """Some of a host's Docker volumes."""

    volumes: tuple[str, ...] = setting(
        "Names of volumes, or shell patterns (`*`, `?`, `[a-z]`). A name without a pattern must be there.",
        default=(),
        example=["shop_uploads", "wiki_*"],
    )
    labels: tuple[str, ...] = setting(
        "Volumes that have one of these labels: `KEY`, or `KEY=VALUE`.", default=(), example=["backup=yes"]
    )
    projects: tuple[str, ...] = setting("Compose projects, with all of their volumes.", default=(), example=["shop"])
    all: bool = setting("Whether to take all volumes and Compose projects.", default=False)
    exclude: tuple[str, ...] = setting(
        "Names of volumes, or shell patterns, to leave out whatever chooses them.", default=(), example=["shop_cache"]
    )
    anonymous: bool = setting(
        "Whether to take volumes that have no name of their own too. Else they are only reported.", default=False
    )
    hold: Literal["stop", "pause", "none"] = setting(f"How volumes are held still: {HOLD_HELP}.", default="stop")
    holds: tuple[VolumeHold, ...] = setting(
        "Volumes that are held in another way. The first that names a volume counts.", default=()
    )
    stop_timeout: int = setting(
        "Seconds that a container gets to stop before Docker kills it; 0 is its own (`stop_grace_period`).",
        default=0,
        minimum=0,
    )
    project_files: bool = setting(
        "Whether Compose projects that are taken come with their Compose files, `.env` and other files that these "
        "name, and the bind mounts below the project's directory. No store keeps them in the clear.",
        default=True,
    )


@dataclass(frozen=True)
class Piece:
    """One tree of a component: the data of a volume, or a project's files and bind mounts.

    `roots` are relative to `base`. `way` is how it is held, `rule` the setting that says so where it is not the
    component's own. Owners of a volume are a container's: numbers only, as this host's names mean nothing there.
    A project's files are `secret`, also where they are in a volume.
    """

    artifact: str
    base: Path
    roots: tuple[str, ...]
    way: Way
    volume: Volume | None = None
    project: Project | None = None
    rule: VolumeHold | None = None
    secret: bool = False

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.volume.name if self.volume else f"project {self.project.name if self.project else ''}"

    @property
    def moves(self) -> bool:
        """Whether nothing keeps it from changing while it is copied."""
        return self.way == "none"

    @property
    def paths(self) -> list[str]:
        """Where its data is."""
        return [str(self.base / one) for one in self.roots]

    def users(self, containers: Sequence[Container], *, writing: bool = False) -> list[Container]:
        """Return the containers that see the data, or those that may write to it."""
        name = self.volume.name if self.volume else ""
        own = self.volume is not None and not self.volume.bound
        return [one for one in containers if any(one.uses(name, path, own=own, writing=writing) for path in self.paths)]

    def read(self, index: trees.Index) -> trees.Index:
        """Return an index with its owners as they count for this tree."""
        return numeric(index) if self.volume else index


@dataclass
class Chosen:
    """What the settings choose of what there is; `problems` are (what, fix), `notes` warnings that points keep."""

    pieces: list[Piece] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def numeric(index: trees.Index) -> trees.Index:
    """Return an index whose owners have no names."""
    entries = [replace(one, user="", group="") for one in index.entries]
    return replace(index, entries=entries, users={}, groups={})


def rule_of(options: DockerVolumesComponent, volume: str) -> VolumeHold | None:
    """Return the first of the component's `holds` that names the volume."""
    return next((one for one in options.holds if any(fnmatchcase(volume, name) for name in one.volumes)), None)


def way_of(options: DockerVolumesComponent, volume: str) -> Way:
    """Return how a volume is held; without a name, how project files are."""
    rule = rule_of(options, volume) if volume else None
    return rule.hold if rule else options.hold


def choose(options: DockerVolumesComponent, daemon: Daemon) -> Chosen:
    """Ask the daemon, and return what the settings choose."""
    chosen = Chosen(containers=daemon.containers(), versions={"docker": daemon.about()["version"]})
    volumes, known = daemon.volumes(), projects(chosen.containers)
    _check_settings(options, chosen, volumes, known)
    for volume in volumes:
        if _takes(options, volume):
            _take_volume(options, volume, known, chosen)
    for project in known:
        if options.project_files and (options.all or project.name in options.projects):
            _take_project(options, project, chosen)
    taken = [one for one in chosen.pieces if one.volume]
    for number, one in enumerate(taken):
        for other in taken[:number]:
            if within(one.paths[0], other.paths[0]) or within(other.paths[0], one.paths[0]):
                what = f"the volumes {other.name!r} and {one.name!r} are in one directory: {one.paths[0]}"
                chosen.problems.append((what, f"add {one.name!r} to `exclude`"))
    if not chosen.pieces and not chosen.problems:
        fix = "docker volume ls, and correct `volumes`, `labels`, `projects` or `all` of the component"
        chosen.problems.append(("no volume is chosen", fix))
    for one in chosen.pieces:
        _check_hold(one, chosen)
    return chosen


def _check_settings(
    options: DockerVolumesComponent, chosen: Chosen, volumes: Sequence[Volume], known: Sequence[Project]
) -> None:
    names = {one.name for one in volumes}
    for name in options.volumes:
        if name not in names and not set(name) & set("*?["):
            chosen.problems.append((f"there is no volume {name!r}", "docker volume ls, and correct `volumes`"))
    running, kept = {one.name for one in known}, {one.project for one in volumes} - {""}
    for name in options.projects:
        if name not in running | kept:
            what = f"there is no Compose project {name!r} with a container or a volume"
            chosen.problems.append((what, "docker compose ls --all, and correct `projects`"))
    for name in sorted(kept - running) if options.project_files else ():
        if options.all or name in options.projects:
            what = (
                f"project {name!r} has no container: where its Compose files are is not known, and they are not taken"
            )
            chosen.warnings.append(what)
    for rule in options.holds:
        if rule.hold == "command" and not (rule.container and rule.command):
            what = f"the hold of {', '.join(rule.volumes)} is `command` without a container or a command"
            chosen.problems.append((what, "give `container` and `command`, or another `hold`"))


def _takes(options: DockerVolumesComponent, volume: Volume) -> bool:
    if any(fnmatchcase(volume.name, one) for one in options.exclude):
        return False
    if volume.name in options.volumes:
        return True
    return (
        options.all
        or volume.project in options.projects
        or any(fnmatchcase(volume.name, one) for one in options.volumes)
        or any(_labelled(volume, one) for one in options.labels)
    )


def _labelled(volume: Volume, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in volume.labels and (not equals or volume.labels[key] == value)


def _take_volume(options: DockerVolumesComponent, volume: Volume, known: Sequence[Project], chosen: Chosen) -> None:
    if volume.anonymous and not options.anonymous and volume.name not in options.volumes:
        users = [one.name for one in chosen.containers if one.uses(volume.name, volume.path)]
        used = f"container {', '.join(users)} uses it" if users else "nothing uses it"
        chosen.warnings.append(f"the anonymous volume {volume.name[:12]}… is not taken: {used}")
        return
    if volume.in_memory:
        chosen.warnings.append(f"the volume {volume.name!r} is in memory (tmpfs): there is nothing to keep")
        return
    if problem := volume.elsewhere():
        chosen.problems.append(problem)
        return
    if not Path(volume.path).is_dir():
        what = f"{volume.path}, the directory of the volume {volume.name!r}, is not there"
        fix = "mkdir it" if volume.bound else "run Restaura on the machine that the Docker daemon runs on"
        chosen.problems.append((what, fix))
        return
    path = Path(os.path.realpath(volume.path))
    rule, way = rule_of(options, volume.name), way_of(options, volume.name)
    artifact = f"volumes/{safe_name(volume.name)}"
    # A project without containers is not known: what is a project's directory then shows in its `.env`.
    secret = any(within(one, str(path)) for project in known for one in project.files)
    secret = secret or (volume.bound and os.path.lexists(path / ".env"))
    chosen.pieces.append(Piece(artifact, path.parent, (path.name,), way, volume=volume, rule=rule, secret=secret))


def _take_project(options: DockerVolumesComponent, project: Project, chosen: Chosen) -> None:
    chosen.warnings += project.warnings
    chosen.notes += project.warnings
    for path in project.outside:
        what = f"the bind mount {path} of project {project.name!r} is not below {project.directory or 'its directory'}"
        chosen.warnings.append(f"{what}: it is not taken. Back it up as `files`")
    volumes = [one.paths[0] for one in chosen.pieces if one.volume]
    roots = tuple(one.lstrip("/") for one in project.roots if not any(within(one, other) for other in volumes))
    if roots:
        artifact = f"projects/{safe_name(project.name)}"
        chosen.pieces.append(Piece(artifact, Path("/"), roots, options.hold, project=project, secret=True))


def _check_hold(piece: Piece, chosen: Chosen) -> None:
    """Refuse to stop what could not be started again, and a command where it cannot run though others write."""
    rule = piece.rule
    if (
        rule
        and piece.way == "command"
        and not any(one.runs and one.name == rule.container for one in chosen.containers)
    ):
        writing = [one.name for one in piece.users(chosen.containers, writing=True) if one.runs]
        if writing:
            what = f"container {rule.container}, which is to hold {piece.name!r} still, does not run"
            fix = f"docker start {rule.container}, or correct `holds` of the component"
            chosen.problems.append((f"{what}, and {', '.join(writing)} may write to it", fix))
    for one in piece.users(chosen.containers, writing=True) if piece.way == "stop" else ():
        if one.runs and one.removes_itself:
            what = f"container {one.name}, which uses {piece.name!r}, was started with --rm: stopped, it would be gone"
            chosen.problems.append((what, "start it without --rm, or set the hold of the volume to `pause`"))
        elif one.runs and one.of_swarm:
            what = f"container {one.name}, which uses {piece.name!r}, is Swarm's: stopped, it would be replaced"
            chosen.problems.append((what, "set the hold of the volume to `pause`"))
