# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifacts of a Grafana as files in one directory, while they are captured or restored, and their fingerprint."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restaura import trees
from restaura.grafana import api, database, encryption
from restaura.grafana.settings import Settings
from restaura.point import Depth
from restaura.trees.compare import facts

ALGORITHM = "grafana-1"
DATABASE, INI, PROVISIONING = "grafana.db", "grafana.ini", "provisioning"
# What a restore puts live; `exports` are for other Grafanas, and for people.
PARTS = (DATABASE, INI, PROVISIONING)
SERVER, PLUGINS, EXPORTS = "server.json", "plugins.json", "exports"
# Beside grafana.ini and the database itself: a data source's address may hold a password, too.
SECRET = (DATABASE, INI, SERVER, "contact-points.json", "datasources.json")

MOST_NAMED = 10


@dataclass(frozen=True)
class Content:
    """The files in `folder`; `places` are the paths of those that are elsewhere.

    `described` is what server.json says: the salt of the fingerprint, the environment and the files that belong to
    grafana.ini, the server's version, whether secrets were opened, and owners and modes.
    """

    folder: Path
    described: dict[str, Any]
    places: Mapping[str, Path] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.places.get(name, self.folder / name)

    @property
    def settings(self) -> Settings:
        """The settings of the server that this was taken of."""
        ini = self.path(INI).read_text(errors="replace") if self.path(INI).exists() else ""
        return Settings.recorded(ini, self.described)

    def fingerprint(
        self, depth: Depth, wanted: Collection[str] = (*PARTS, EXPORTS)
    ) -> tuple[dict[str, str], dict[str, int], list[str]]:
        """Return parts and counts of `wanted`, but for the provisioning files; and the secrets that do not open."""
        salt = bytes.fromhex(self.described["salt"])
        parts: dict[str, str] = {}
        counts: dict[str, int] = {}
        sealed: list[str] = []
        if INI in wanted and self.path(INI).exists():
            told = {name: self.described[name] for name in ("environment", "files")}
            parts[INI] = database.keyed(salt, self.path(INI).read_bytes())
            parts["environment"] = database.keyed(salt, api.to_json(told))
            parts["secret key"] = database.keyed(salt, self.settings.secret_key.encode())
        if DATABASE in wanted and self.path(DATABASE).exists():
            rows, counts = database.fingerprint(self.path(DATABASE), depth, salt)
            parts |= rows
            if self.described["opened"] and (depth == "content" or encryption.available()):
                opened, sealed = database.secrets(self.path(DATABASE), self.settings.secret_key, salt)
                parts |= opened if depth == "content" else {}
        if EXPORTS in wanted:
            parts |= self._exported(salt)
        return parts, counts, sealed

    def _exported(self, salt: bytes) -> dict[str, str]:
        """Return a digest of every exported document, and one of their names."""
        made, parts = api.Export(self.folder), {}
        for path in sorted((self.folder / api.DASHBOARDS).glob("*.json")):
            parts[f"export {api.DASHBOARDS} {path.stem}"] = database.keyed(salt, path.read_bytes())
        for kind in (one for one in api.DOCUMENTS if one != api.DASHBOARDS):
            for key, one in made.read(kind).items():
                parts[f"export {kind} {key}"] = database.keyed(salt, api.to_json(one))
        if made.places():
            parts["export folders of dashboards"] = database.keyed(salt, api.to_json(made.places()))
        return parts


def do_not_open(sealed: Collection[str]) -> str:
    """Say which secrets do not open."""
    more = " …" if len(sealed) > MOST_NAMED else ""
    named = ", ".join(sorted(sealed)[:MOST_NAMED])
    return f"{len(sealed)} secrets do not open with the server's secret_key: {named}{more}"


def provisioning_parts(
    index: trees.Index, depth: Depth, salt: bytes, loose: Collection[str] = ()
) -> tuple[dict[str, str], dict[str, int]]:
    """Return the fingerprint of the provisioning files, whatever their directory is called."""
    (root,) = index.roots
    parts = {}
    for entry in index.entries:
        told = facts(entry, index, depth, entry.path in loose) | {"path": f"{PROVISIONING}{entry.path[len(root) :]}"}
        parts[told["path"]] = database.keyed(salt, json.dumps(told, sort_keys=True).encode())
    return parts, {PROVISIONING: len(parts)}
