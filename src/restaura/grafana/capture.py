# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run takes of a Grafana: the database as of one transaction, the files beside it, and the export."""

import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from restaura import sqlite, trees
from restaura.errors import SourceError
from restaura.grafana import api, database, encryption
from restaura.grafana.content import (
    ALGORITHM,
    DATABASE,
    INI,
    PLUGINS,
    PROVISIONING,
    SECRET,
    SERVER,
    Content,
    do_not_open,
    provisioning_parts,
)
from restaura.grafana.installed import Installed
from restaura.hold import Hold
from restaura.host import Host
from restaura.paths import private_dir, write_atomic
from restaura.point import Consistency, Depth, Fingerprint, safe_name
from restaura.sources import Artifact, Outcome, Stream, Tree
from restaura.trees.index import Entry
from restaura.trees.links import Links
from restaura.trees.scanning import entry_of
from restaura.web import Service


class Captured:
    """What was taken: all of it stands in `spool`, but for the provisioning files, which are read as they lie there."""

    hold: Hold | None = None

    def __init__(self, host: Host, component: str, spool: Path, depth: Depth) -> None:
        self._host, self._where, self._spool, self._depth = host, f"component {component}", spool, depth
        described = {"salt": secrets.token_hex(16), "opened": False, "version": "", "environment": {}, "files": {}}
        self._content = Content(spool, described)
        self._provisioning: Tree | None = None
        self._notes: list[str] = []

    def take(self, there: Installed) -> None:
        """Copy the database and the settings of the Grafana of this host."""
        settings, described = there.settings, self._content.described
        if settings.engine == "sqlite3":
            live = there.here(settings.database)
            if live is None or not live.exists():
                raise SourceError("the database is not there", where=settings.database, fix="restaura run PLAN --check")
            self._host.need_space(self._spool, database.size(live), self._where)
            sqlite.copy(live, self._spool / DATABASE)
            described[DATABASE] = _owned(live)
        else:
            self._notes.append(f"the {settings.engine} database is not in this component (`external_database`)")
        if there.ini:
            write_atomic(self._spool / INI, there.ini)
        if (ini := there.here(there.config)) and ini.exists():
            described[INI] = _owned(ini)
        described |= {"environment": settings.told, "files": settings.files}
        write_atomic(self._spool / PLUGINS, api.to_json(there.plugins()))
        self._provisioning = provisioning(there, self._depth)
        if not there.here(settings.provisioning):
            self._notes.append(f"{settings.provisioning} is in the container's image, and not in the point")

    def export(self, service: Service | None, version: str) -> None:
        """Export through the API or, without one, the dashboards that the copy of the database has."""
        self._content.described["version"] = version
        if service:
            self._content.described["org"] = api.organisation(service)
            made = api.export(service, self._spool)
            self._notes += made.notes
            if lacking := api.redacted(made.read("contact-points")):
                self._notes.append(f"the export has no secrets of contact points {', '.join(lacking)}")
        elif (self._spool / DATABASE).exists():
            folder = private_dir(self._spool / api.DASHBOARDS)
            with database.opened(self._spool / DATABASE) as copied:
                for name, model in database.dashboards(copied):
                    write_atomic(folder / f"{safe_name(name)}.json", api.to_json(model))
            self._notes.append("the component has no token: its export has dashboards alone, from the database")

    def artifacts(self) -> Iterator[Artifact]:
        """Yield the files of the spool, then the provisioning files; the database is checked first."""
        spool = self._spool
        if (spool / DATABASE).exists():
            database.check(spool / DATABASE)
            self._content.described["opened"] = encryption.available()
            if not encryption.available():
                self._notes.append(f"no secret was opened to prove it: apt-get install {encryption.PACKAGE}")
        write_atomic(spool / SERVER, api.to_json(self._content.described))
        for path in sorted(one for one in spool.iterdir() if one.is_file()):
            yield Stream(path.name, partial(_open, path), path.name in SECRET, path.stat().st_size)
        if any(spool.glob(f"{api.DASHBOARDS}/*.json")):
            index = trees.scan(spool, [api.DASHBOARDS], depth=self._depth)
            yield Tree(api.DASHBOARDS, spool, index, expanded=api.DASHBOARDS, top=api.DASHBOARDS)
        if self._provisioning:
            yield self._provisioning

    def outcome(self, indexes: Mapping[str, trees.Index]) -> Outcome:
        """Return the fingerprint of what stands in the spool, with one store's index of the provisioning files."""
        parts, counts, sealed = self._content.fingerprint(self._depth)
        fix = "put back the key that they were written with, or enter them again"
        doubts = [f"{do_not_open(sealed)}: {fix}"] if sealed else []
        still: Consistency = "transactional" if (self._spool / DATABASE).exists() else "crash"
        if index := indexes.get(PROVISIONING):
            found = provisioning_parts(index, self._depth, bytes.fromhex(self._content.described["salt"]))
            parts, counts = parts | found[0], counts | found[1]
            still = "torn" if index.torn else "crash" if index.changed or index.vanished else still
        return Outcome(Fingerprint(ALGORITHM, self._depth, parts, counts), still, list(self._notes), doubts)


def provisioning(there: Installed, depth: Depth) -> Tree | None:
    """Scan the provisioning files; None where this host has none. SourceError for a link to what is not among them."""
    seen = there.settings.provisioning
    folder = there.here(seen)
    if not folder or not folder.is_dir():
        return None
    folder = folder.resolve()
    index = trees.scan(folder.parent, [folder.name], depth=depth)
    for link in Links(index, {seen: folder.name, str(folder): folder.name}).leading_out():
        raise SourceError(
            f"is a link to {link.link}, which is not in the point",
            where=f"{seen}{link.path.removeprefix(folder.name)}",
            fix="put the files themselves there (cp -rL)",
        )
    return Tree(PROVISIONING, folder.parent, index, secret=True)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _owned(path: Path) -> dict[str, Any]:
    entry: Entry = entry_of("", path.stat(), {})
    return {name: getattr(entry, name) for name in ("mode", "uid", "gid", "user", "group")}
