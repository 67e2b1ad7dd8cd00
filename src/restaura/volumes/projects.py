# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose projects: the files that define one, and the directories of this host that its containers are given."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restaura import others_yaml
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
        _compose_file(os.path.join(directory or "/", path), directory, files, warnings)  # noqa: PTH118
    for path in [*_listed(members, "environment_file"), *([f"{directory}/.env"] if directory else [])]:
        _take(path, files)
    if not files:
        warnings.append(f"the Compose files of project {name!r} are not there: {directory or 'no directory is known'}")
    if directory:
        files.update(dict.fromkeys(one for one in _with_links(directories[0]) if one != directory))
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


def _compose_file(path: str, base: str, found: dict[str, None], warnings: list[str]) -> None:
    """Take in a Compose file and the files that it names, which are relative to `base`."""
    real = os.path.realpath(path)
    if real in found:
        return
    if not _take(path, found):
        warnings.append(f"the Compose file {path} is not there")
        return
    try:
        content = others_yaml.load(Path(real).read_text())
    except (OSError, *others_yaml.NOT_READ) as error:
        # The parser's own words may hold a password.
        mark = getattr(error, "problem_mark", None)
        problem = f"{type(error).__name__}{f' in line {mark.line + 1}' if mark else ''}"
        warnings.append(f"the Compose file {path} cannot be read, so the files that it names are not taken: {problem}")
        return
    if isinstance(content, dict):
        base = base or str(Path(path).parent)
        for one, directory in includes(content):
            included = os.path.join(base, one)  # noqa: PTH118
            within_it = os.path.join(base, directory) if directory else str(Path(included).parent)  # noqa: PTH118
            _compose_file(included, within_it, found, warnings)
            _take(f"{within_it}/.env", found)
        for one in extended_files(content):
            extended = os.path.join(base, one)  # noqa: PTH118
            _compose_file(extended, str(Path(extended).parent), found, warnings)
        for one, required in named_files(content):
            if not _take(os.path.join(base, one), found) and required:  # noqa: PTH118
                warnings.append(f"{one}, which the Compose file {path} names, is not taken: there is no such file")


def _take(path: str, found: dict[str, None]) -> bool:
    """Take in a file, with the links that lead to it; return whether it is there."""
    if not Path(path).is_file():
        return False
    found.update(dict.fromkeys(_with_links(path)))
    return True


def _with_links(path: str) -> Iterator[str]:
    """Yield a path and, where it is a link, what it leads to, each below a directory without links."""
    while True:
        folder, name = os.path.split(path)
        path = os.path.join(os.path.realpath(folder), name) if name else os.path.realpath(path)  # noqa: PTH118
        yield path
        if not Path(path).is_symlink():
            return
        path = os.path.join(os.path.dirname(path), os.readlink(path))  # noqa: PTH115, PTH118, PTH120


def includes(content: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yield the files that are included, and the directory that their paths are relative to, where it is given."""
    for one in _items(content.get("include")):
        if isinstance(one, dict):
            yield from ((str(path), str(one.get("project_directory") or "")) for path in _items(one.get("path")))
        else:
            yield str(one), ""


def extended_files(content: dict[Any, Any]) -> Iterator[str]:
    """Yield the files that services are extended from."""
    for service in _values(content.get("services")):
        extends = service.get("extends") if isinstance(service, dict) else None
        if isinstance(extends, dict) and "file" in extends:
            yield str(extends["file"])


def named_files(content: dict[Any, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the files of environments, labels, secrets and configs that a Compose file names: (path, required)."""
    for one in [*_values(content.get("services")), *_items(content.get("include"))]:
        if isinstance(one, dict):
            for file in [*_items(one.get("env_file")), *_items(one.get("label_file"))]:
                named = file if isinstance(file, dict) else {"path": file}
                yield str(named.get("path", "")), named.get("required") is not False
    for section in ("secrets", "configs"):
        for one in _values(content.get(section)):
            if isinstance(one, dict) and "file" in one:
                yield str(one["file"]), True


def bound_paths(content: dict[Any, Any]) -> Iterator[str]:
    """Yield the bind mounts and build contexts of services as a Compose file has them (docs.docker.com/reference)."""
    for service in _values(content.get("services")):
        for one in _items(service.get("volumes")) if isinstance(service, dict) else ():
            if isinstance(one, dict):
                if one.get("type") == "bind":
                    yield str(one.get("source", ""))
            elif str(one)[:1] in (".", "/", "~") and ":" in str(one):
                yield str(one).partition(":")[0]
        build = service.get("build") if isinstance(service, dict) else None
        told = build if isinstance(build, dict) else {"context": build}
        yield str(told.get("context") or "")
        further = told.get("additional_contexts") or ()
        pairs = further.values() if isinstance(further, dict) else (str(one).partition("=")[2] for one in further)
        yield from (str(one) for one in pairs if not str(one).startswith("service:"))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
