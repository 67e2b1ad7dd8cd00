# SPDX-License-Identifier: GPL-3.0-or-later
"""The swap of restored databases: by renaming, in one transaction; back again; and the deletion of what is not live.

Names: `restaura_stage_ID` is an empty database from which the others are renamed, `restaura_stage_ID_N` what is being
restored, `restaura_kept_ID_N` what was live before, `restaura_kept_ID_Nr` what was restored, after an undo.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restaura.errors import RefusedError, SourceError
from restaura.paths import private_dir, write_atomic
from restaura.postgres import cluster, roles
from restaura.postgres.restore import CRON_NAME, Plan
from restaura.postgres.server import Server, quote_name, quote_text
from restaura.postgres.session import Session, SqlError, entrance

_MARK = "swapping"


def plan(server: Server, plan: Plan, described: dict[str, Any], directory: Path, terminate: bool) -> dict[str, Any]:
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
        roles.quiet(admin)
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
        roles.quiet(admin)
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
            drop(admin, CRON_NAME)
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
