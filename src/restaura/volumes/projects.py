# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose projects: the files that define one, and the directories of this host that its containers are given."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from restaura.volumes.daemon import Container, within

_LABEL = "com.docker.compose.project"
# Of the system, not of the project: never taken for a project's data.
_SYSTEM = ("/boot", "/dev", "/etc/localtime", "/etc/timezone", "/lib", "/proc", "/run", "/sys", "/usr", "/var/run")


@dataclass(frozen=True)
class Project:
    """A Compose project, as the labels of its containers have it.

    `files` are the Compose files and what they name that is there, `binds` the bind mounts below its directory, and
    `outside` those elsewhere. `warnings` say what could not be found or read.
    """

    name: str
    directory: str
    files: tuple[str, ...]
    binds: tuple[str, ...]
    outside: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def roots(self) -> list[str]:
        """Files and bind mounts as the fewest paths, none inside another."""
        paths = sorted({*self.files, *self.binds})
        return [one for one in paths if not any(one != other and within(one, other) for other in paths)]


class _Loader(yaml.SafeLoader):
    """Reads a Compose file with tags of its own (`!reset`, `!override`): they say nothing about files."""


def _untagged(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_multi_constructor("!", _untagged)


def projects(containers: Sequence[Container]) -> list[Project]:
    """Return every project that has a container, in the order of their names."""
    named: dict[str, list[Container]] = {}
    for one in containers:
        if one.project:
            named.setdefault(one.project, []).append(one)
    return [_project(name, members) for name, members in sorted(named.items())]


def _project(name: str, members: Sequence[Container]) -> Project:
    directories = _listed(members, "working_dir")
    directory = os.path.realpath(directories[0]) if directories and directories[0].startswith("/") else ""
    warnings: list[str] = []
    files: dict[str, None] = {}
    for path in _listed(members, "config_files"):
        _compose_file(path, directory, files, warnings)
    candidates = [*_listed(members, "environment_file"), *([f"{directory}/.env"] if directory else [])]
    files.update(dict.fromkeys(os.path.realpath(one) for one in candidates if Path(one).is_file()))
    if not files:
        warnings.append(f"the Compose files of project {name!r} are not there: {directory or 'no directory is known'}")
    bound = sorted({one.source for member in members for one in member.mounts if not one.volume and one.source})
    bound = [one for one in bound if one != "/" and not any(within(one, system) for system in _SYSTEM)]
    bound = [one for one in bound if Path(one).is_dir() or Path(one).is_file()]
    real = {one: os.path.realpath(one) for one in bound}
    inside = {path for path in real.values() if directory not in ("", "/") and within(path, directory)}
    outside = sorted(one for one, path in real.items() if path not in inside)
    return Project(name, directory, tuple(files), tuple(sorted(inside)), tuple(outside), tuple(warnings))


def _listed(members: Iterable[Container], label: str) -> list[str]:
    """Return the different values of a label that lists paths."""
    values = (path for one in members for path in one.labels.get(f"{_LABEL}.{label}", "").split(","))
    return list(dict.fromkeys(filter(None, values)))


def _compose_file(path: str, directory: str, found: dict[str, None], warnings: list[str]) -> None:
    """Take in a Compose file and the files that it names."""
    real = os.path.realpath(os.path.join(directory or "/", path))  # noqa: PTH118  a Path knows no realpath of a missing file
    if real in found:
        return
    if not Path(real).is_file():
        warnings.append(f"the Compose file {path} is not there")
        return
    found[real] = None
    try:
        content = yaml.load(Path(real).read_text(), _Loader)  # noqa: S506  it is a SafeLoader
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        problem = str(error).splitlines()[0]
        warnings.append(f"the Compose file {path} cannot be read, so the files that it names are not taken: {problem}")
        return
    if isinstance(content, dict):
        for one in _includes(content):
            _compose_file(one, str(Path(real).parent), found, warnings)
        for one in _named(content):
            named = os.path.realpath(Path(real).parent / one)
            if Path(named).is_file():
                found[named] = None


def _includes(content: dict[Any, Any]) -> Iterator[str]:
    for one in _items(content.get("include")):
        yield from map(str, _items(one.get("path")) if isinstance(one, dict) else [one])
    for service in _values(content.get("services")):
        extends = service.get("extends") if isinstance(service, dict) else None
        if isinstance(extends, dict) and "file" in extends:
            yield str(extends["file"])


def _named(content: dict[Any, Any]) -> Iterator[str]:
    """Yield the environment files, secrets and configs that a Compose file names."""
    for one in [*_values(content.get("services")), *_items(content.get("include"))]:
        if isinstance(one, dict):
            for file in _items(one.get("env_file")):
                yield str(file.get("path", "") if isinstance(file, dict) else file)
    for section in ("secrets", "configs"):
        for one in _values(content.get(section)):
            if isinstance(one, dict) and "file" in one:
                yield str(one["file"])


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
