# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a Prometheus configuration names, and which of them hold secrets.

Known by Prometheus' own naming (configuration reference): `rule_files`, `scrape_config_files` and the `files` of file
discovery are lists of patterns, every other key that ends in `_file` is one path. All are relative to the file that
names them.
"""

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restaura import others_yaml
from restaura.errors import SourceError
from restaura.prometheus.server import Place

# Files that everybody may read: certificates, not their keys.
PUBLIC = ("ca_file", "cert_file", "client_ca_file")
_SECRET_KEY = re.compile(
    r"(.*_)?(password|secret|secrets|secret_key|token|credentials|api_key|consumer_key|key|headers)"
)
_NO_SECRET = ("true", "false", "")
_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")


@dataclass
class Named:
    """The files of a configuration, by their paths as the server sees them: the configuration itself first.

    `rules` are among the plain ones. `missing` are named by a full path and not there; the server runs all the same.
    """

    plain: list[str] = field(default_factory=list)
    secret: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, path: str, *, secret: bool) -> None:
        """Add a file; one that is named twice is secret when it is once."""
        if secret and path in self.plain:
            self.plain.remove(path)
        if path not in (*self.plain, *self.secret):
            (self.secret if secret else self.plain).append(path)


def named_by(place: Place, config: str, web_config: str = "", *, masked: bool = False) -> Named:
    """Return every file that the configuration file `config` (and `web_config`, if any) names, with those two.

    `masked` says that the server itself shows secrets in it as `<secret>`. SourceError when a file that must be read
    cannot be.
    """
    found = Named()
    data = _parsed(place, config)
    found.add(config, secret=masked or _holds_secret(data))
    _walk(place, data, config, found)
    if web_config:
        # It holds the hashes of passwords.
        found.add(web_config, secret=True)
        _walk(place, _parsed(place, web_config), web_config, found)
    return found


def _parsed(place: Place, path: str) -> Any:
    here = place.readable(path)
    fix = f"prometheus reads it, so look: ls -l {here or path}"
    try:
        with open(here, encoding="utf-8") as stream:  # noqa: PTH123  a path of /proc/PID/root
            return others_yaml.load(stream.read())
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path, fix=fix) from error
    except others_yaml.NOT_READ as error:
        what, line = others_yaml.complaint(error)
        where = f"{path} line {line}" if line else path
        raise SourceError(f"is no YAML: {what}", where=where, fix=f"promtool check config {here}") from error


def _walk(place: Place, node: Any, path: str, found: Named, key: str = "") -> None:
    """Add what a part of the file `path` names; `key` is what the part stands under."""
    for one in node if isinstance(node, list) else ():
        _walk(place, one, path, found, key)
    for name, value in node.items() if isinstance(node, dict) else ():
        if name in ("rule_files", "scrape_config_files"):
            _add_matching(place, name, value, path, found)
        elif name == "files" and isinstance(value, list):
            for one in _matching(place, value, path, found):
                found.add(one, secret=key != "file_sd_configs")
        elif str(name).endswith("_file") and isinstance(value, str) and value:
            one = _joined(path, value)
            here = place.readable(one)
            if here and Path(here).is_file():
                found.add(one, secret=name not in PUBLIC)
            else:
                found.missing.append(one)
        else:
            _walk(place, value, path, found, str(name))


def _add_matching(place: Place, name: str, patterns: Any, path: str, found: Named) -> None:
    for one in _matching(place, patterns, path, found):
        if name == "rule_files":
            found.add(one, secret=False)
            found.rules.append(one)
        else:
            data = _parsed(place, one)
            found.add(one, secret=_holds_secret(data))
            _walk(place, data, one, found)


def _joined(path: str, named: str) -> str:
    return os.path.normpath(Path(path).parent / named)


def _matching(place: Place, patterns: Any, path: str, found: Named) -> Iterator[str]:
    """Yield the files that match patterns of the file `path`, as the server sees them (Go's filepath.Glob).

    One that is no pattern and matches nothing is missing.
    """
    for pattern in patterns if isinstance(patterns, list) else ():
        there = list(_matches(place, str(pattern), path))
        if not there and not glob.has_magic(str(pattern)):
            found.missing.append(_joined(path, str(pattern)))
        yield from there


def _matches(place: Place, pattern: str, path: str) -> Iterator[str]:
    folder, _, name = _joined(path, pattern).rpartition("/")
    if not glob.has_magic(folder):
        here = place.readable(folder or "/")
        names = glob.glob(name, root_dir=here, include_hidden=True) if here else []  # noqa: PTH207  hidden ones too
        yield from (f"{folder}/{one}" for one in sorted(names) if Path(here, one).is_file())
    elif place.root:
        root = place.root.rstrip("/")
        found = glob.glob(f"{glob.escape(root)}{folder}/{name}", include_hidden=True)  # noqa: PTH207  hidden ones too
        yield from (one.removeprefix(root) for one in sorted(found) if Path(one).is_file())


def _holds_secret(node: Any) -> bool:
    """Whether a configuration has a secret written into it."""
    if isinstance(node, list):
        return any(map(_holds_secret, node))
    if isinstance(node, str):
        return bool(_WITH_PASSWORD.search(node))
    if not isinstance(node, dict):
        return False
    for name, value in node.items():
        if isinstance(name, str) and _SECRET_KEY.fullmatch(name.lower()) and _is_given(value):
            return True
        if _holds_secret(value):
            return True
    return False


def _is_given(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(one, str | int) and str(one).lower() not in _NO_SECRET for one in value)
    if isinstance(value, dict):
        return any(_is_given(one) for one in value.values() if not isinstance(one, dict))
    return isinstance(value, str | int) and not isinstance(value, bool) and value not in _NO_SECRET
