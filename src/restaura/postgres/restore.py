# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore: databases built from a point under names of their own, beside what is live."""

import contextlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from restaura.errors import DamagedError, RefusedError, SourceError
from restaura.paths import private_dir, write_atomic
from restaura.postgres import cluster, fingerprint, roles
from restaura.postgres.capture import CLUSTER, FORMAT
from restaura.postgres.server import Server, connection_string, quote_name, quote_text
from restaura.postgres.session import Session, SqlError, entrance


class Reader(Protocol):
    """What a restore needs of a point (a part of `PointReader`)."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield an artifact."""


_CHUNK = 1 << 18
# Databases that are filled at once.
THREADS = 2
_NAME_BYTES = 63
# pg_cron can be made in the database that its setting names, and in one of this name (its own tests').
CRON_NAME = "contrib_regression"


@dataclass(frozen=True)
class Plan:
    """What is restored: original names with their final ones, and whether roles are brought to the point's state."""

    id: str
    names: dict[str, str]
    whole: bool
    in_place_tablespaces: bool = False

    def stage(self, name: str) -> str:
        """Return the name of a database while it is built."""
        return f"restaura_stage_{self.id}_{list(self.names).index(name)}"

    @property
    def door(self) -> str:
        """The empty database from which the others are renamed."""
        return f"restaura_stage_{self.id}"


def description(point: Reader) -> dict[str, Any]:
    """Return what the point says of its server; DamagedError when this program cannot read it."""
    with point.open(CLUSTER) as stream:
        data: dict[str, Any] = json.loads(stream.read())
    if data.get("format") != FORMAT:
        raise DamagedError(
            f"{CLUSTER} has format {data.get('format')!r}; this program reads {FORMAT}",
            where=CLUSTER,
            fix="use the program that is kept in the store beside the point",
        )
    return data


def keep(directory: Path, described: dict[str, Any]) -> None:
    """Keep the point's description for the time of the restore: it holds password hashes, so root alone reads it."""
    private_dir(directory)
    write_atomic(directory / CLUSTER, json.dumps(described).encode())


def kept(directory: Path) -> dict[str, Any]:
    """Return the description that `keep` kept."""
    data: dict[str, Any] = json.loads((directory / CLUSTER).read_text())
    return data


def shared(admin: Session, described: dict[str, Any], *, pending: bool) -> fingerprint.Parts:
    """Fingerprint roles, tablespaces and parameters of the point as they are on the server.

    With `pending`, roles that were there before and parameters are taken as the swap will leave them, and check.
    """
    found = cluster.roles(admin)
    spaces = cluster.tablespaces(admin)
    granted = cluster.parameters(admin)
    made = described.get("made", [])
    roles_now = {
        name: facts if pending and name not in made else found[name]
        for name, facts in described["roles"].items()
        if name in found
    }
    wanted = described["parameters"]
    return fingerprint.shared(
        roles_now,
        {name: spaces[name] for name in described["tablespaces"] if name in spaces},
        wanted if pending else {name: granted[name] for name in wanted if name in granted},
        bytes.fromhex(described["salt"]),
    )


class Folder:
    """A point's artifacts as files in a directory (a `PointReader` that can only open)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Return the names of the artifacts."""
        return [str(one.relative_to(self._directory)) for one in self._directory.rglob("*") if one.is_file()]

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield one artifact."""
        return (self._directory / name).open("rb")


def check(admin: Session, plan: Plan, described: dict[str, Any]) -> None:
    """Raise SourceError, with everything that is missing, when the server cannot take the restore."""
    where = admin.server.where
    if admin.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != "t":
        raise SourceError("a restore needs a superuser", where=where, fix="restore with user postgres")
    if admin.major < described["major"]:
        raise SourceError(
            f"the server is version {admin.major}, the point is from version {described['major']}",
            where=where,
            fix=f"apt-get install postgresql-{described['major']}, and restore into that cluster",
        )
    available = {one["name"] for one in admin.rows("SELECT name FROM pg_available_extensions")}
    wanted = {one for name in plan.names for one in described["databases"][name]["extensions"]}
    if missing := sorted(wanted - available):
        raise SourceError(
            f"the server lacks the extensions {', '.join(missing)}", where=where, fix="install their packages"
        )
    if "pg_cron" in wanted and admin.value(f"SELECT count(*) FROM pg_database WHERE datname = '{CRON_NAME}'") != "0":
        raise RefusedError(
            f"pg_cron is restored by way of a database called {CRON_NAME}, and there is one",
            where=where,
            fix=f"rename it: ALTER DATABASE {CRON_NAME} RENAME TO …",
        )
    for name in plan.names.values():
        if len(name.encode()) > _NAME_BYTES:
            raise RefusedError(f"the name {name!r} is longer than {_NAME_BYTES} bytes", where=where)


def build(server: Server, plan: Plan, described: dict[str, Any], point: Reader, directory: Path) -> list[str]:
    """Build every database of the plan under its stage name; return notes. What is live stays as it is."""
    notes: list[str] = []
    with Session(server, entrance(server)) as admin:
        check(admin, plan, described)
        admin.execute(f"CREATE DATABASE {quote_name(plan.door)} TEMPLATE template0")
    with Session(server, plan.door) as admin:
        roles.quiet(admin)
        described["made"] = _make_roles(admin, described["roles"])
        keep(directory, described)
        _make_tablespaces(admin, plan, described)
        _build_all(admin, plan, described, point)
        if any(one["subscriptions"] for one in _subscriptions(admin, plan)):
            notes.append("subscriptions are restored disabled: ALTER SUBSCRIPTION … ENABLE")
    return notes


def _make_roles(admin: Session, wanted: dict[str, dict[str, Any]]) -> list[str]:
    """Make the roles that are missing, whole, and return their names; those that exist are not touched."""
    present = cluster.roles(admin)
    missing = {name: facts for name, facts in wanted.items() if name not in present}
    for name in missing:
        admin.execute(f"CREATE ROLE {quote_name(name)}")
    roles.execute_all(admin, roles.all_roles(missing, {}, admin.major))
    return list(missing)


def _make_tablespaces(admin: Session, plan: Plan, described: dict[str, Any]) -> None:
    present = cluster.tablespaces(admin)
    if plan.in_place_tablespaces:
        admin.execute("SET allow_in_place_tablespaces = on")
    for name, facts in described["tablespaces"].items():
        if name in present:
            continue
        made, finish = roles.tablespace(name, facts, in_place=plan.in_place_tablespaces)
        try:
            admin.execute(made)
        except SqlError as error:
            place = facts["location"]
            raise SourceError(
                f"tablespace {name!r} cannot be made: {error.what}",
                where=admin.where,
                fix=f"install -d -o postgres -g postgres -m 0700 {place}",
            ) from error
        roles.execute_all(admin, finish)


def _build_all(admin: Session, plan: Plan, described: dict[str, Any], point: Reader) -> None:
    """Build the databases, several at once; those with pg_cron one by one, by way of the one name that it allows."""
    alone = [name for name in plan.names if "pg_cron" in described["databases"][name]["extensions"]]
    for name in alone:
        place = _make_one(admin, plan, name, described)
        _fill_one(admin, plan, place, described["databases"][name], described["major"], point)
        _finish_one(admin, plan, name, place, described)
    pool = ThreadPoolExecutor(THREADS)
    filling = []
    try:
        for name in [one for one in plan.names if one not in alone]:
            place = _make_one(admin, plan, name, described)
            facts = described["databases"][name]
            job = pool.submit(_fill_one, admin, plan, place, facts, described["major"], point)
            filling.append((name, place, job))
        for name, place, job in filling:
            job.result()
            _finish_one(admin, plan, name, place, described)
    finally:
        # What still runs after a failure ends when its database is dropped.
        pool.shutdown(wait=False, cancel_futures=True)


def _make_one(admin: Session, plan: Plan, name: str, described: dict[str, Any]) -> str:
    """Make a database, empty, and return the name under which it is filled."""
    facts, stage = described["databases"][name], plan.stage(name)
    try:
        admin.execute(roles.create_database(stage, facts))
    except SqlError as error:
        fix = "dpkg-reconfigure locales (the server needs a restart)" if "locale" in error.what else ""
        raise SourceError(f"database {name!r} cannot be made: {error.what}", where=admin.where, fix=fix) from error
    admin.execute(f"ALTER DATABASE {quote_name(stage)} OWNER TO {quote_name(facts['owner'])}")
    if "pg_cron" not in facts["extensions"]:
        return stage
    admin.execute(f"ALTER DATABASE {quote_name(stage)} RENAME TO {quote_name(CRON_NAME)}")
    return CRON_NAME


def _fill_one(admin: Session, plan: Plan, place: str, facts: dict[str, Any], major: int, point: Reader) -> None:
    """Load a database's dump; runs no statement in the session of `admin`."""
    with Session(admin.server, place) as session:
        if not facts["public"]:
            session.execute("DROP SCHEMA public")
        if "plpgsql" not in facts["extensions"]:
            session.execute("DROP EXTENSION plpgsql")
        if "pg_cron" in facts["extensions"]:
            # Its schema was public before 1.5 and must be pg_catalog since: the dump's own line would fail.
            session.execute("SET search_path = public")
            session.execute("CREATE EXTENSION pg_cron")
    with point.open(facts["artifact"]) as stream:
        load(admin, major, place, stream)
    if not plan.in_place_tablespaces:
        with Session(admin.server, place) as session:
            session.execute("ANALYZE")


def _finish_one(admin: Session, plan: Plan, name: str, place: str, described: dict[str, Any]) -> None:
    stage = plan.stage(name)
    if place != stage:
        admin.execute(f"ALTER DATABASE {quote_name(place)} RENAME TO {quote_name(stage)}")
    roles.execute_all(admin, roles.properties(stage, described["databases"][name]))


def load(admin: Session, dumped_by: int, database: str, stream: IO[bytes]) -> None:
    """Feed a dump to pg_restore; SourceError for the first thing that it could not restore.

    Event triggers of the dump must not fire on what comes after them.
    """
    silent = "-c event_triggers=off" if admin.major >= 17 else "-c session_replication_role=replica"
    server = admin.server.marked(admin.server.application, silent)
    words = ["--exit-on-error", "--no-password", f"--dbname={connection_string(database)}"]
    program = server.program("pg_restore", max(dumped_by, admin.major))
    running = server.start(program, words, database=database, stdin=True)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            shutil.copyfileobj(stream, running.stdin, _CHUNK)
            running.stdin.close()
        running.stdout.read()
        code = running.wait()
        if code:
            raise SourceError(
                f"pg_restore ended with exit code {code}: {running.errors()}",
                where=f"{server.where}, database {database!r}",
            )
        while stream.read(_CHUNK):
            pass
    finally:
        running.close()


def _subscriptions(admin: Session, plan: Plan) -> list[dict[str, Any]]:
    names = ", ".join(quote_text(plan.stage(name)) for name in plan.names)
    return admin.rows(
        "SELECT count(*) AS subscriptions FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        f"WHERE d.datname IN ({names})"
    )
