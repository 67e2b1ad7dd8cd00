# SPDX-License-Identifier: GPL-3.0-or-later
"""A Postgres server: where it is, how its clients reach it, and which client programs there are."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from restaura import process
from restaura.errors import RestauraError, SourceError
from restaura.paths import read_secret
from restaura.runners import Runner, Running, run
from restaura.runners.container import ContainerRunner
from restaura.runners.host import HostRunner

PROGRAMS = "/usr/lib/postgresql"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Server:
    """How a server is reached; plain JSON values, and none of them secret, so that a journal can hold it.

    `account` runs the client programs on the host or in `container`. `host` is a socket directory or a host name.
    `passfile` is a file that holds the bare password. `uid` is set for throw-away servers, whose clients run as it.
    `programs` overrides where client programs are sought. `application` marks every session of one run.
    """

    component: str
    account: str = ""
    container: str = ""
    host: str = ""
    port: int = 5432
    user: str = "postgres"
    passfile: str = ""
    sslmode: str = "prefer"
    uid: int = 0
    programs: str = ""
    application: str = "restaura"
    options: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the server as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Server":
        """Build a server from JSON values."""
        return cls(**data)

    def marked(self, application: str, options: str = "") -> "Server":
        """Return the server with another application name and server options for its sessions."""
        return replace(self, application=application, options=options)

    @property
    def where(self) -> str:
        """The server's name in messages."""
        if self.container:
            return f"Postgres in container {self.container}"
        return f"Postgres at {self.host or 'localhost'}:{self.port}"

    @property
    def runner(self) -> Runner:
        """Where the client programs run."""
        if self.container:
            return ContainerRunner(self.container, self.account)
        return HostRunner(self.account, self.uid)

    def environment(self, database: str) -> dict[str, str]:
        """Return what libpq reads, the password among it (as a file where there are files to share)."""
        env = {
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": database,
            "PGAPPNAME": self.application,
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "PGCLIENTENCODING": "UTF8",
            "PGSSLMODE": self.sslmode,
            "PGTZ": "UTC",
        }
        if self.host:
            env["PGHOST"] = self.host
        if self.options:
            env["PGOPTIONS"] = self.options
        if self.passfile:
            env |= self._password()
        return env

    def _password(self) -> dict[str, str]:
        password = read_secret(self.passfile, f"component {self.component}")
        return {"PGPASSWORD": password} if self.container else {"PGPASSFILE": _passfile(password)}

    def program(self, name: str, major: int = 0) -> str:
        """Return the client program `name` of the smallest version that is at least `major`; SourceError names the fix.

        A container has programs of one version: those in PATH, or in Debian's directories.
        """
        if self.programs:
            return f"{self.programs}/{name}"
        if self.container:
            return self._program_in_container(name)
        for found in sorted(installed(name)):
            if found >= major:
                return f"{PROGRAMS}/{found}/bin/{name}"
        package = f"postgresql-{major}" if name in ("initdb", "postgres") else f"postgresql-client-{major}"
        raise SourceError(
            f"no {name} of version {major} or newer is installed", where=self.where, fix=f"apt-get install {package}"
        )

    def _program_in_container(self, name: str) -> str:
        found = _lookup(self.container, self.account, name)
        if not found:
            raise SourceError(f"{name} is not in the container", where=self.where, fix="use an image that has it")
        return found

    def start(
        self, program: str, words: Sequence[str], *, database: str, stdin: bool = False, held: bool = False
    ) -> Running:
        """Start a client program (see `Runner.start`); SourceError when it cannot be."""
        try:
            return self.runner.start([program, *words], env=self.environment(database), stdin=stdin, held=held)
        except RestauraError as error:
            raise SourceError(error.what, where=error.where or self.where, fix=error.fix) from error

    def version_of(self, program: str) -> str:
        """Return the version that a client program says of itself, as in `17.6`."""
        try:
            said = run(self.runner, [program, "--version"])[1].decode(errors="replace")
        except RestauraError as error:
            raise SourceError(error.what, where=self.where, fix=error.fix) from error
        found = re.search(r"\d+(\.\d+)*", said)
        return found.group() if found else said.strip()


@cache
def _passfile(password: str) -> str:
    """Return a path, good while this process lives, of a password file in memory: no crash leaves it behind.

    libpq wants a plain file that others cannot read; a memory file with mode 0600 is one. Each backslash and colon is
    escaped, as the format of ~/.pgpass asks.
    """
    descriptor = os.memfd_create("pgpass")
    os.fchmod(descriptor, 0o600)
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
    return f"/proc/{os.getpid()}/fd/{descriptor}"


@cache
def _lookup(container: str, account: str, name: str) -> str:
    """Return the path of a program in a container; empty when it has none. Debian keeps servers out of PATH."""
    script = f'command -v "$1" || ls {PROGRAMS}/*/bin/"$1" 2>/dev/null | sort -V | tail -n 1'
    try:
        out = run(ContainerRunner(container, account), ["sh", "-c", script, "sh", name])[1]
    except RestauraError as error:
        raise SourceError(error.what, where=error.where, fix=error.fix) from error
    return out.decode().strip()


def installed(name: str = "pg_dump") -> list[int]:
    """Return the major versions whose program `name` is installed on this host (Debian's layout)."""
    return [int(one.parts[-3]) for one in Path(PROGRAMS).glob(f"*/bin/{name}") if one.parts[-3].isdigit()]


def clusters() -> list[dict[str, Any]]:
    """Return Debian's registered clusters as `pg_lsclusters --json` has them; none without postgresql-common."""
    try:
        out = process.run(["pg_lsclusters", "--json"])[1]
    except RestauraError:
        return []
    found: list[dict[str, Any]] = json.loads(out or b"[]")
    return found


def find_cluster(wanted: str, component: str) -> dict[str, Any]:
    """Return the cluster `wanted` (`17/main`), or the only running one when it is empty; SourceError otherwise."""
    known = clusters()
    names = {f"{one['version']}/{one['cluster']}": one for one in known}
    where = f"component {component}"
    if wanted:
        if wanted not in names:
            listed = ", ".join(names) or "none"
            raise SourceError(
                f"there is no cluster {wanted!r} on this host (there are: {listed})", where=where, fix="pg_lsclusters"
            )
        return names[wanted]
    running = [name for name, one in names.items() if one["running"]]
    if len(running) != 1:
        what = f"{len(running)} clusters run here: {', '.join(running)}" if running else "no Postgres cluster runs here"
        fix = f"set cluster of component {component}" if running else "systemctl start postgresql"
        raise SourceError(what, where=where, fix=fix)
    return names[running[0]]


def kept_out(name: str) -> bool:
    """Whether a database is Restaura's own copy, which no backup holds."""
    return name.startswith(("restaura_kept_", "restaura_stage_"))


def quote_name(name: str) -> str:
    """Return an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return an SQL string literal (sessions keep standard_conforming_strings on)."""
    return "'" + text.replace("'", "''") + "'"


def connection_string(database: str) -> str:
    """Return a libpq connection string that names a database, whatever its name looks like."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
