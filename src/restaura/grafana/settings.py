# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Grafana is told: grafana.ini, and the environment that overrides it.

As grafana.com/docs/grafana/latest/setup-grafana/configure-grafana has it: `GF_SECTION_KEY` wins over the file, values
may hold `$__file{PATH}`, `$__env{NAME}` and `${NAME}`. Docker's image also takes `GF_SECTION_KEY__FILE`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

# What conf/defaults.ini gives to a server that was told no other.
SECRET_KEY = "SW2YcwTIb9zpOOhoPsMm"  # noqa: S105  public: everybody's default
_HOME = "/usr/share/grafana"
_FILE = re.compile(r"\$__file\{([^}]+)\}")
_EXPANDED = re.compile(r"\$(?:__(env|file))?\{([^}]+)\}")
_QUOTES = ('"""', "`", '"', "'")

Read = Callable[[str], str | None]


class Settings:
    """The settings of one Grafana. They hold secrets: nothing of them goes into an error or a log."""

    def __init__(self, ini: str, environment: Mapping[str, str], read: Read) -> None:
        """`read` returns the text of a file as Grafana sees it, None for one that is not there."""
        self._ini = parse(ini)
        self._environment, self._read = environment, read
        texts = [ini, *environment.values()]
        paths = [path.strip() for text in texts for path in _FILE.findall(text)]
        paths += [value for name, value in environment.items() if _names_file(name)]
        self.files = {path: text for path in sorted(set(paths)) if (text := read(path)) is not None}
        self._named = {name for text in texts for _, name in _EXPANDED.findall(text)}

    @classmethod
    def recorded(cls, ini: str, described: Mapping[str, Any]) -> "Settings":
        """Return the settings of the server that a point was taken of."""
        return cls(ini, described["environment"], described["files"].get)

    def with_ini(self, ini: str) -> "Settings":
        """Return the settings of the same server with another grafana.ini."""
        return Settings(ini, self._environment, self._read)

    @property
    def told(self) -> dict[str, str]:
        """What of the environment Grafana takes as settings."""
        return {
            name: value
            for name, value in self._environment.items()
            if name.startswith("GF_") or name in self._named or name in _PACKAGED
        }

    def get(self, section: str, key: str, default: str = "") -> str:
        """Return the value that is in force."""
        name = re.sub(r"[.-]", "_", f"GF_{section}_{key}").upper()
        raw = self._environment.get(name) or ""
        if not raw and (path := self._environment.get(f"{name}__FILE")):
            raw = (self.files.get(path) or "").rstrip("\n")
        return _EXPANDED.sub(self._expand, raw or self._ini.get((section, key), "")) or default

    def _expand(self, found: "re.Match[str]") -> str:
        kind, name = found.groups()
        if kind == "file":
            return (self.files.get(name.strip()) or "").strip()
        return self._environment.get(name.strip(), "")

    @property
    def secret_key(self) -> str:
        """What encrypts the secrets in the database."""
        return self.get("security", "secret_key", SECRET_KEY)

    @property
    def engine(self) -> str:
        """The kind of database: `sqlite3`, `postgres` or `mysql`."""
        url = self.get("database", "url")
        return urlsplit(url).scheme if "://" in url else self.get("database", "type", "sqlite3")

    @property
    def database(self) -> str:
        """The SQLite database's path, as Grafana sees it."""
        return _below(self.data, self.get("database", "path", "grafana.db"))

    @property
    def data(self) -> str:
        """The data directory."""
        return _below(_HOME, self.get("paths", "data", self._environment.get("DATA_DIR", "/var/lib/grafana")))

    @property
    def provisioning(self) -> str:
        """The directory of provisioning files."""
        packaged = self._environment.get("PROVISIONING_CFG_DIR", "/etc/grafana/provisioning")
        return _below(_HOME, self.get("paths", "provisioning", packaged))

    @property
    def plugins(self) -> str:
        """The directory of plugins."""
        packaged = self._environment.get("PLUGINS_DIR", f"{self.data}/plugins")
        return _below(_HOME, self.get("paths", "plugins", packaged))

    def url(self, address: str) -> str:
        """Return where the HTTP API answers, asked at `address` unless Grafana listens at one only; empty: no port."""
        protocol = self.get("server", "protocol", "http")
        if protocol == "socket":
            return ""
        listens = self.get("server", "http_addr")
        host = address if listens in ("", "0.0.0.0", "::", "localhost") else listens  # noqa: S104  compared only
        path = ""
        if self.get("server", "serve_from_sub_path", "false").lower() == "true":
            path = urlsplit(self.get("server", "root_url")).path.rstrip("/")
        scheme = "http" if protocol == "http" else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.get('server', 'http_port', '3000')}{path}"


# The variables that Debian's and RPM's unit gives to the server as defaults of its paths.
_PACKAGED = ("CONF_FILE", "DATA_DIR", "PLUGINS_DIR", "PROVISIONING_CFG_DIR")


def parse(text: str) -> dict[tuple[str, str], str]:
    """Return the values of grafana.ini by section and key, as go-ini reads them."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and "]" in line:
            section = line[1 : line.index("]")].strip()
        elif line and line[0] not in "#;" and (split := re.match(r"([^=:]+)[=:](.*)", line)):
            found[section, split[1].strip()] = _value(split[2].strip())
    return found


def _value(text: str) -> str:
    for quote in _QUOTES[:2]:
        if text.startswith(quote) and quote in text[len(quote) :]:
            return text[len(quote) : text.index(quote, len(quote))]
    text = re.split(r"[#;]", text, maxsplit=1)[0].rstrip()
    for quote in _QUOTES[2:]:
        if len(text) > 1 and text.startswith(quote) and text.endswith(quote):
            return text[1:-1]
    return text


def _names_file(name: str) -> bool:
    return name.startswith("GF_") and name.endswith("__FILE")


def _below(base: str, path: str) -> str:
    return path.rstrip("/") if path.startswith("/") else f"{base}/{path}"
