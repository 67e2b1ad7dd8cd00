# SPDX-License-Identifier: GPL-3.0-or-later
r"""What of a tree is taken: shell patterns on absolute paths.

As in .gitignore: `*`, `?` and `[a-z]` stay within one name, `**` stands for any number of directories, a trailing `/`
means directories only, `\` takes the next character as it is. A pattern that begins with `/` is matched against the
absolute path, any other against the end of it. What matches takes along all that is below it.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

OWN_NAME = re.compile(r"/\.restaura-(?:kept|stage)-[^/]*(?:/|\Z)")


class Selection:
    """Decides about absolute paths. `never` is left out whatever `include` says; `include` wins over `exclude`.

    Where a path of `never` leads over links, what it leads to is left out.
    """

    def __init__(
        self, exclude: Sequence[str] = (), include: Sequence[str] = (), never: Sequence[Path] = (), own: bool = True
    ) -> None:
        """Compile the patterns. `own` leaves out the kept and staged copies of earlier restores."""
        self._exclude = _compile(exclude)
        self._include = _compile(include)
        places = {path for one in never for path in (str(one), os.path.realpath(one))}
        self._never = tuple(one.rstrip("/") + "/" for one in sorted(places))
        self._own = own
        self._prefixes = [_fixed(one) for one in include]

    def takes(self, path: str, is_dir: bool) -> bool:
        """Whether the entry at the absolute `path` is part of the tree."""
        full = f"{path}/" if is_dir else path
        if self._is_never(path) or (self._own and OWN_NAME.search(full)):
            return False
        if self._exclude is None or not self._exclude.search(full):
            return True
        return self._include is not None and bool(self._include.search(full))

    def may_take_below(self, path: str) -> bool:
        """Whether something below a directory that is not taken may be taken."""
        if self._include is None or self._is_never(path) or (self._own and OWN_NAME.search(path)):
            return False
        directory = f"{path}/"
        return any(one.startswith(directory) or directory.startswith(one) for one in self._prefixes)

    def _is_never(self, path: str) -> bool:
        return bool(self._never) and f"{path}/".startswith(self._never)


def check_pattern(pattern: str) -> str:
    """Return why `pattern` is none, or nothing."""
    if not pattern.strip("/") or pattern != pattern.strip():
        return "is empty, or begins or ends with a blank"
    if any(one in (".", "..") for one in pattern.split("/")):
        return "holds '.' or '..'"
    return ""


def _compile(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(_translate(one) for one in patterns), re.DOTALL) if patterns else None


def _translate(pattern: str) -> str:
    """Return a regular expression that finds `pattern` in an absolute path (a directory's ends with `/`)."""
    parts = pattern.strip("/").split("/")
    body = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            body += ".+" if last else "(?:[^/]+/)*"
        else:
            body += _name(part) + ("" if last else "/")
    end = "/" if pattern.endswith("/") else r"(?:/|\Z)"
    return (r"\A/" if pattern.startswith("/") else "/") + body + end


def _name(part: str) -> str:
    out, rest = "", part
    while rest:
        char, rest = rest[0], rest[1:]
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (end := rest.find("]", 2 if rest.startswith("!") else 1)) > 0:
            inner = rest[:end].replace("\\", "\\\\").replace("[", "\\[")
            inner = "^/" + inner[1:] if inner.startswith("!") else inner.replace("^", "\\^", 1)
            out, rest = out + f"[{inner}]", rest[end + 1 :]
        elif char == "\\" and rest:
            out, rest = out + re.escape(rest[0]), rest[1:]
        else:
            out += re.escape(char)
    return out


def _fixed(pattern: str) -> str:
    """Return the directory that every match of an anchored pattern lies in or above; `/` for other patterns."""
    if not pattern.startswith("/"):
        return "/"
    fixed = re.split(r"[*?\[\\]", pattern, maxsplit=1)[0]
    return fixed if fixed != pattern else pattern.rstrip("/") + "/"
