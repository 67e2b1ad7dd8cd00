# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords in crontabs, scripts and settings: found, named by place and kind, and never shown.

What is found is kept here only to be struck out of everything that an audit says (`Secrets.mask`).
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from restaura.audit.model import Evidence

MASK = "***"
# A value that is no secret itself: a variable, what a command prints, a file's name, an empty one.
NOT = r"(?![\"']?(?:\$|`|/|~|\*|<|%[a-z]|\{\{|[\"']?(?:\s|$)))"
VALUE = r"(?:\"([^\"\n]+)\"|'([^'\n]+)'|([^\s\"';&|)]+))"
# No longer than names are: a line of nothing but dashes is looked through once for each of them.
NAME = (
    r"[A-Za-z0-9_.-]{0,60}(?:passw(?:or)?d|passphrase|passwd|[_-]pass|pgpass|_pwd|_pw|senha|secret|token|api[_-]?key"
    r"|access_key|account_key)"
)
PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("private_key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----()")),
    ("password_in_url", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"']*:(?!\$|\*)([^\s@/\"']+)@", re.IGNORECASE)),
    ("access_key", re.compile(r"\b((?:AKIA|ASIA)[0-9A-Z]{16})\b")),
    (
        "token",
        re.compile(
            r"\b(?:api\.telegram\.org/bot|hooks\.slack\.com/services/|discord(?:app)?\.com/api/webhooks/)"
            r"(?!\$)([\w:/-]{8,})"
        ),
    ),
    ("token", re.compile(r"\b((?:ghp|gho|ghs|glpat|xox[bap]|sk|hf)[-_][A-Za-z0-9_-]{16,})")),
    ("token", re.compile(r"(?i)authorization:\s*(?:bearer|basic|token)\s+(?!\$)([^\s\"']+)")),
    ("password", re.compile(rf"(?i)--(?:{NAME}|pass)(?:=|\s+){NOT}{VALUE}")),
    ("password", re.compile(rf"(?i)(?<![\w$-])(?:export\s+)?{NAME}\w*[\"']?\s*(?:=|:\s)\s*{NOT}{VALUE}")),
    ("password", re.compile(rf"\b(?:mysql\w*|mariadb[\w-]*|mydumper)\b[^|;&\n]*?\s-p{NOT}(?!\s){VALUE}")),
    ("password", re.compile(rf"\b(?:mongo\w*|sshpass|lftp)\b[^|;&\n]*?\s-p\s*{NOT}{VALUE}")),
    ("password", re.compile(rf"\bredis-cli\b[^|;&\n]*?\s-a\s+{NOT}{VALUE}")),
    (
        "password",
        re.compile(
            r"\b(?:curl|wget|smbclient)\b[^|;&\n]*?\s(?:-u|-U|--user)[= ]?[\"']?"
            r"[^\s:\"'$%]+[:%](?!\$)([^\s\"']+)"
        ),
    ),
    ("password", re.compile(rf"(?i)(?<![\w$-])(?:pass|pw)={NOT}{VALUE}")),
    ("password", re.compile(r"-pass(?:in|out)?\s+[\"']?pass:(?!\$)([^\s\"']+)")),
    ("password", re.compile(rf"\b(?:zip|unzip)\b[^|;&\n]*?\s-P\s*{NOT}{VALUE}")),
    ("password", re.compile(rf"\b(?:mc|mcli)\s+(?:alias\s+set|config\s+host\s+add)\s+\S+\s+\S+\s+\S+\s+{NOT}{VALUE}")),
    ("password", re.compile(rf"\b7z[ar]?\b[^|;&\n]*?\s-p{NOT}(?!\s){VALUE}")),
    ("password", re.compile(rf"\bopenssl\s+enc\b[^|;&\n]*?\s-k\s+{NOT}{VALUE}")),
    ("password", re.compile(rf"(?i)\bpassword\s*=\s*{NOT}{VALUE}")),
)
# A setting that names a secret's place, or how to get it, and not the secret.
ELSEWHERE = re.compile(r"(?i)(_file|-file|_command|-command|_path|passcommand|_fd)[\"']?\s*[=:\s]")
# Words that say nothing when they stand as a value: what an audit says may hold them for other reasons.
PLAIN = re.compile(
    r"(?i)(true|false|yes|no|none|null|required|optional|keep|ask|root|admin|postgres|mysql|mariadb|redis"
    r"|mongo(db)?|backup|test|[a-z]{1,4}|\d{1,4})$"
)


class Secrets:
    """The secrets that an audit came upon."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._found: dict[tuple[str, int | None, str], Evidence] = {}

    @property
    def found(self) -> tuple[Evidence, ...]:
        """Where secrets stand; `detail` is the kind: password, password_in_url, access_key, token, private_key."""
        return tuple(self._found[key] for key in sorted(self._found, key=lambda key: (key[0], key[1] or 0, key[2])))

    def search(self, text: str, path: str, *, line: int = 1, told: bool = True) -> None:
        """Look for secrets in the lines of a text, the first of which is `line`. Untold ones are only struck out."""
        for number, one in enumerate(text.split("\n"), line):
            if len(one) < 5000:
                self._line(one, path, number, told)

    def _line(self, text: str, path: str, number: int, told: bool) -> None:
        comment = text.lstrip().startswith("#")
        for kind, pattern in PATTERNS:
            for match in pattern.finditer(text):
                if kind == "password" and ELSEWHERE.search(match[0]):
                    continue
                value = next((group for group in match.groups() if group), "")
                if path.endswith(".py") and kind == "password" and match.lastindex == 3 and " " not in match[0]:
                    continue  # in Python, what has no quotes is a name
                if kind != "private_key" and (len(value) < 2 or value.startswith("$")):
                    continue
                if kind == "password" and comment and re.fullmatch(r"[\w.<>-]{0,12}", value):
                    continue  # an example in a comment
                self._values.add(value)
                if told:
                    key = (path, number, kind)
                    self._found.setdefault(key, Evidence("file", path, number, kind))

    def mask(self, text: str) -> str:
        """Return a text without any secret that was found, and without what cannot be written as UTF-8."""
        for value in sorted(self._values, key=len, reverse=True):
            if value and value in text and not PLAIN.match(value):
                text = text.replace(value, MASK)
        return text.encode("utf-8", "backslashreplace").decode()


# Fields that hold codes of ours, and never a word that was read.
CODES = {"kind", "code", "severity", "term", "status", "detail", "source", "idle"}


def everywhere(change: Callable[[str], str], value: Any) -> Any:
    """Return nested lists, tuples, dicts and dataclasses with every string in them changed, but for keys and codes."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: everywhere(change, one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(everywhere(change, one) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in dataclasses.fields(value) if one.name not in CODES]
        return dataclasses.replace(value, **{name: everywhere(change, getattr(value, name)) for name in names})
    return value
