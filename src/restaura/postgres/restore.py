# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore: databases built beside the live ones, swapped in by renaming, swapped back, discarded.

Names: `restaura_stage_ID` is an empty database from which the others are renamed, `restaura_stage_ID_N` what is being
restored, `restaura_kept_ID_N` what was live before, `restaura_kept_ID_Nr` what was restored, after an undo.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from restaura.errors import DamagedError, RefusedError, SourceError
from restaura.paths import private_dir, write_atomic
from restaura.postgres import cluster, fingerprint, roles
from restaura.postgres.capture import CLUSTER, FORMAT
from restaura.postgres.server import Server, connection_string, quote_name, quote_text
from restaura.postgres.session import Session, SqlError


class Reader(Protocol):
    """What a restore needs of a point (a part of `PointReader`)."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield an artifact."""


_CHUNK = 1 << 18
_NAME_BYTES = 63
# pg_cron can be made in the database that its setting names, and in one of this name (its own tests').
_CRON_NAME = "contrib_regression"
_MARK = "swapping"
_DEPENDENT = "2BP01"


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
        _quiet(admin)
        described["made"] = _make_roles(admin, described["roles"])
        keep(directory, described)
        _make_tablespaces(admin, plan, described)
        for name in plan.names:
            _build_one(admin, plan, name, described, point)
        if any(one["subscriptions"] for one in _subscriptions(admin, plan)):
            notes.append("subscriptions are restored disabled: ALTER SUBSCRIPTION … ENABLE")
    return notes


def entrance(server: Server) -> str:
    """Return a database through which the server can be entered before anything of ours is there."""
    try:
        with Session(server, "postgres"):
            return "postgres"
    except SourceError:
        with Session(server, "template1"):
            return "template1"


def _quiet(admin: Session) -> None:
    """Keep what this session says (password hashes among it) out of the server's log."""
    admin.execute(
        "SELECT set_config('log_statement', 'none', false), set_config('log_min_error_statement', 'panic', false),"
        " set_config('log_min_duration_statement', '-1', false)"
    )


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


def _build_one(admin: Session, plan: Plan, name: str, described: dict[str, Any], point: Reader) -> None:
    facts, stage = described["databases"][name], plan.stage(name)
    try:
        admin.execute(roles.create_database(stage, facts))
    except SqlError as error:
        fix = "dpkg-reconfigure locales (the server needs a restart)" if "locale" in error.what else ""
        raise SourceError(f"database {name!r} cannot be made: {error.what}", where=admin.where, fix=fix) from error
    admin.execute(f"ALTER DATABASE {quote_name(stage)} OWNER TO {quote_name(facts['owner'])}")
    place = _CRON_NAME if "pg_cron" in facts["extensions"] else stage
    if place != stage:
        admin.execute(f"ALTER DATABASE {quote_name(stage)} RENAME TO {quote_name(place)}")
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
        load(admin, described["major"], place, stream)
    if not plan.in_place_tablespaces:
        with Session(admin.server, place) as session:
            session.execute("ANALYZE")
    if place != stage:
        admin.execute(f"ALTER DATABASE {quote_name(place)} RENAME TO {quote_name(stage)}")
    roles.execute_all(admin, roles.properties(stage, facts))


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


def swap_record(
    server: Server, plan: Plan, described: dict[str, Any], directory: Path, terminate: bool
) -> dict[str, Any]:
    """Return what swap, undo and discard need; roles go to a file that root alone reads (password hashes)."""
    with Session(server, plan.door) as admin:
        live = cluster.databases(admin)
        wanted = described["roles"] if plan.whole else {}
        present = cluster.roles(admin)
        before = {name: present[name] for name in wanted if name in present}
        private_dir(directory)
        write_atomic(directory / "roles.json", json.dumps({"wanted": wanted, "before": before}).encode())
    databases = []
    for number, (name, final) in enumerate(plan.names.items()):
        facts = described["databases"][name]
        databases.append(
            {
                "final": final,
                "stage": plan.stage(name),
                "kept": f"restaura_kept_{plan.id}_{number}",
                "undone": f"restaura_kept_{plan.id}_{number}r",
                "facts": {key: facts[key] for key in ("allow", "limit", "template")},
                "before": {key: live[final][key] for key in ("allow", "limit", "template")} if final in live else None,
            }
        )
    return {
        "server": server.to_json(),
        "door": plan.door,
        "directory": str(directory),
        "databases": databases,
        "parameters": described["parameters"] if plan.whole else {},
        "made": described["made"],
        "terminate": terminate,
    }


def swap(record: dict[str, Any]) -> None:
    """Rename the live databases away and the restored ones to their names, roles with them, in one transaction."""
    write_atomic(Path(record["directory"]) / _MARK, b"")
    known = json.loads((Path(record["directory"]) / "roles.json").read_text())
    with Session(Server.from_json(record["server"]), record["door"]) as admin:
        _quiet(admin)
        present = _names(admin)
        moves = []
        for one in record["databases"]:
            if one["stage"] not in present:
                continue
            if one["final"] in present:
                moves.append((one["final"], one["kept"]))
            moves.append((one["stage"], one["final"]))
        _keep_out(admin, [old for old, _ in moves], terminate=record["terminate"])
        admin.execute("BEGIN")
        for old, new in moves:
            admin.execute(f"ALTER DATABASE {quote_name(old)} RENAME TO {quote_name(new)}")
        for one in record["databases"]:
            roles.execute_all(admin, roles.admission(one["final"], one["facts"]))
        roles.execute_all(admin, roles.all_roles(known["wanted"], cluster.roles(admin), admin.major))
        roles.execute_all(admin, roles.parameters(record["parameters"]))
        admin.execute("COMMIT")
        _check_roles(admin, known["wanted"])


def _check_roles(admin: Session, wanted: dict[str, dict[str, Any]]) -> None:
    present = cluster.roles(admin)
    if wrong := sorted(name for name, facts in wanted.items() if present.get(name) != facts):
        raise SourceError(
            f"the roles {', '.join(wrong)} are not as they were backed up", where=admin.where, fix="restaura undo"
        )


def undo(record: dict[str, Any]) -> None:
    """Rename back; what was restored is kept under another name. Roles that existed get their old definitions."""
    if not Path(record["directory"]).exists():
        return
    known = json.loads((Path(record["directory"]) / "roles.json").read_text())
    with _through(Server.from_json(record["server"]), record) as admin:
        _quiet(admin)
        present = _names(admin)
        moves: list[tuple[str, str]] = []
        for one in record["databases"]:
            if one["stage"] in present or one["undone"] in present:
                continue
            moves.append((one["final"], one["undone"]))
            if one["before"] is not None:
                moves.append((one["kept"], one["final"]))
        _keep_out(admin, [old for old, _ in moves], terminate=record["terminate"])
        admin.execute("BEGIN")
        for old, new in moves:
            admin.execute(f"ALTER DATABASE {quote_name(old)} RENAME TO {quote_name(new)}")
        for one in record["databases"]:
            if one["before"] is not None:
                roles.execute_all(admin, roles.admission(one["final"], one["before"]))
        roles.execute_all(admin, roles.all_roles(known["before"], cluster.roles(admin), admin.major))
        admin.execute("COMMIT")


def discard(record: dict[str, Any]) -> None:
    """Delete the side that is not live, the empty database last, and then the record of roles.

    Roles that the restore made go with the restored side, unless something uses them.
    """
    server = Server.from_json(record["server"])
    with Session(server, entrance(server)) as admin:
        present = _names(admin)
        for name in [one[key] for one in record["databases"] for key in ("stage", "kept", "undone")]:
            drop(admin, name)
        if record["door"] in present and not any(one["kept"] in present for one in record["databases"]):
            _drop_roles(admin, record["made"])
        drop(admin, record["door"])
    shutil.rmtree(record["directory"], ignore_errors=True)


def take_back(data: dict[str, Any]) -> None:
    """Drop what a restore built that never came to a swap: databases, and roles that it made and nothing uses."""
    directory, door = Path(data["directory"]), f"restaura_stage_{data['id']}"
    if (directory / _MARK).exists():
        return
    server = Server.from_json(data["server"])
    with Session(server, entrance(server)) as admin:
        present = _names(admin)
        if data["cron"] and door in present:
            drop(admin, _CRON_NAME)
        for name in present:
            if name.startswith(f"{door}_"):
                drop(admin, name)
        if door in present:
            _drop_roles(admin, data["roles"])
            drop(admin, door)
    shutil.rmtree(directory, ignore_errors=True)


def _drop_roles(admin: Session, names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(SqlError):
            admin.execute(f"DROP ROLE IF EXISTS {quote_name(name)}")


def sessions(admin: Session, names: list[str]) -> list[str]:
    """Name the sessions and prepared transactions that use databases."""
    listed = ", ".join(map(quote_text, names)) or "NULL"
    rows = admin.rows(
        "SELECT datname, pid::text AS who, usename, application_name AS app, backend_type AS kind "
        f"FROM pg_stat_activity WHERE datname IN ({listed}) AND pid <> pg_backend_pid() "
        "AND backend_type <> 'autovacuum worker'"
    )
    found = [
        f"database {one['datname']}: process {one['who']} ({one['kind']} {one['app']}, role {one['usename']})"
        for one in rows
    ]
    prepared = admin.rows(f"SELECT database, gid FROM pg_prepared_xacts WHERE database IN ({listed})")
    return found + [f"database {one['database']}: prepared transaction {one['gid']}" for one in prepared]


def _keep_out(admin: Session, names: list[str], *, terminate: bool) -> None:
    """Let nobody connect to databases any more, and end the sessions that there are when that is allowed."""
    if not names:
        return
    if not terminate and (held := sessions(admin, names)):
        raise _in_use(admin, held)
    for name in names:
        admin.execute(f"ALTER DATABASE {quote_name(name)} ALLOW_CONNECTIONS false IS_TEMPLATE false")
    deadline = time.monotonic() + 10
    listed = ", ".join(map(quote_text, names))
    while held := sessions(admin, names):
        if not terminate or time.monotonic() > deadline:
            raise _in_use(admin, held)
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname IN ({listed}) AND pid <> pg_backend_pid()"
        )
        time.sleep(0.1)


def _in_use(admin: Session, held: list[str]) -> RefusedError:
    return RefusedError(
        "the live databases are in use:\n  " + "\n  ".join(held),
        where=admin.server.where,
        fix="stop what uses them, or set terminate_sessions of the component",
    )


def drop(admin: Session, name: str) -> None:
    """Delete a database of ours, whatever is connected to it; nothing when it is not there."""
    if name not in _names(admin):
        return
    quoted = quote_name(name)
    if admin.rows(
        "SELECT 1 AS one FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        f"WHERE d.datname = {quote_text(name)}"
    ):
        _drop_subscriptions(admin, name)
    admin.execute(f"ALTER DATABASE {quoted} IS_TEMPLATE false")
    admin.execute(f"DROP DATABASE {quoted} WITH (FORCE)")


def _drop_subscriptions(admin: Session, name: str) -> None:
    """Drop a database's subscriptions without touching the publisher, whose slot may serve another subscriber."""
    admin.execute(f"ALTER DATABASE {quote_name(name)} ALLOW_CONNECTIONS true")
    with Session(admin.server, name) as session:
        for one in session.rows(
            "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
            "WHERE d.datname = current_database()"
        ):
            quoted = quote_name(one["subname"])
            session.execute(f"ALTER SUBSCRIPTION {quoted} DISABLE")
            session.execute(f"ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)")
            session.execute(f"DROP SUBSCRIPTION {quoted}")


def _names(admin: Session) -> set[str]:
    return {one["datname"] for one in admin.rows("SELECT datname FROM pg_database")}


@contextlib.contextmanager
def _through(server: Server, record: dict[str, Any]) -> Iterator[Session]:
    """Enter by the empty database, made again when somebody dropped it."""
    with Session(server, entrance(server)) as admin:
        if record["door"] not in _names(admin):
            admin.execute(f"CREATE DATABASE {quote_name(record['door'])} TEMPLATE template0")
    with Session(server, record["door"]) as admin:
        yield admin
