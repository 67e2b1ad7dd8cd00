# SPDX-License-Identifier: GPL-3.0-or-later
"""Postgres: every database or a list, with roles and all that belongs to them, from one snapshot each."""

import contextlib
import json
import pwd
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from restaura.config.schema import Component, setting
from restaura.errors import RefusedError, RestauraError, SourceError
from restaura.journal import Debt
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint
from restaura.postgres import capture, cluster, fingerprint, restore, scratch, swap
from restaura.postgres.server import Server, find_cluster, kept_out, quote_name
from restaura.postgres.session import Session, entrance
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree

if TYPE_CHECKING:
    from restaura.host import Host

OWNER = "source:postgres"
OLDEST = 15
_SPARE_CONNECTIONS = 5


@dataclass(frozen=True)
class PostgresComponent(Component):
    """Settings of a `postgres` component."""

    cluster: str = setting(
        "Debian's cluster (`VERSION/NAME`). Empty: the only one that runs.", default="", pattern=r"(|\d+/[^/\s]+)"
    )
    container: str = setting("Name of the container that the server runs in.", default="")
    host: str = setting("Name or address of a server reached over TCP.", default="")
    port: int = setting("Port of the server; 0 is the cluster's own, or 5432.", default=0, minimum=0)
    user: str = setting("Database role to connect as.", default="postgres")
    password: str | None = setting("Password of that role.", default=None, secret=True)
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = setting(
        "How TLS is used over TCP, as libpq names it.", default="prefer"
    )
    system_user: str = setting(
        "Account, on the host or in the container, that runs the client programs. Empty: the cluster's owner, in a "
        "container `postgres`, over TCP root.",
        default="",
    )
    databases: tuple[str, ...] = setting("Databases to back up. Empty: every one but template0.", default=())
    exclude_databases: tuple[str, ...] = setting("Databases to leave out.", default=())
    restricted_role: bool = setting(
        "Whether `user` may be no superuser but a role with `pg_read_all_data`, `BYPASSRLS` and `CONNECT`. Such a role "
        "cannot read large objects: preflight refuses it where there are any. It cannot restore.",
        default=False,
    )
    lock_timeout: int = setting(
        "Seconds that one attempt to lock the tables waits; other sessions queue behind it.", default=2, minimum=1
    )
    lock_wait: int = setting("Seconds after which locking is given up.", default=120, minimum=1)
    snapshot_max_age: int = setting("Seconds that a snapshot may be held.", default=3600, minimum=1)
    terminate_sessions: bool = setting(
        "Whether a restore to `live` may end the sessions that use a database.", default=False
    )


class Postgres:
    """One Postgres server. Client programs run on the host, in a container, or on the host against a TCP address."""

    def __init__(self, options: PostgresComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._scratch: scratch.Scratch | None = None
        self._folder: Path | None = None
        self._application = f"restaura-{secrets.token_hex(4)}"

    def probe(self) -> Probe:
        """Say whether the server answers, what client programs there are, and what the role may not read."""
        try:
            server = self._server()
            with Session(server, entrance(server)) as admin:
                return self._examine(server, admin)
        except RestauraError as error:
            return Probe(problems=[(error.what, error.fix)])

    def _examine(self, server: Server, admin: Session) -> Probe:
        problems: list[tuple[str, str]] = []
        warnings: list[str] = []
        if admin.major < OLDEST:
            problems.append((f"the server is version {admin.major}", f"version {OLDEST} is the oldest supported"))
        versions = {"server": admin.value("SELECT current_setting('server_version')")}
        try:
            versions["client"] = server.version_of(server.program("pg_dump", admin.major))
            if int(versions["client"].split(".")[0]) < admin.major:
                package = f"apt-get install postgresql-client-{admin.major}"
                problems.append((f"pg_dump {versions['client']} is older than the server", package))
        except SourceError as error:
            problems.append((error.what, error.fix))
        facts = cluster.databases(admin)
        names = self._names(facts, problems)
        if admin.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != "t":
            problems += self._examine_role(server, admin, [name for name in names if facts[name]["allow"]])
        if self._held(admin) < 1:
            problems.append(("the server has too few connections left", "raise max_connections"))
        return Probe(versions, sum(facts[name]["size"] for name in names), "transactional", problems, warnings)

    def _examine_role(self, server: Server, admin: Session, names: list[str]) -> list[tuple[str, str]]:
        role = quote_name(self._options.user)
        if not self._options.restricted_role:
            fix = f"ALTER ROLE {role} SUPERUSER, or set restricted_role of component {self._options.name}"
            return [(f"role {self._options.user} is no superuser", fix)]
        problems = []
        row = admin.rows(
            "SELECT rolbypassrls AS bypass, pg_has_role('pg_read_all_data', 'USAGE') AS reads FROM pg_roles "
            "WHERE rolname = current_user"
        )[0]
        if not row["bypass"] or not row["reads"]:
            fix = f"ALTER ROLE {role} BYPASSRLS; GRANT pg_read_all_data TO {role}"
            problems.append((f"role {self._options.user} may not read every row", fix))
        for name in names:
            with Session(server, name) as session:
                if session.value("SELECT count(*) FROM pg_largeobject_metadata") != "0":
                    what = f"database {name!r} has large objects, which role {self._options.user} cannot read"
                    problems.append((what, "back up with a superuser"))
        return problems

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """Nothing is done before the freeze: pg_dump reads from the snapshot alone."""
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[capture.FrozenServer]:  # noqa: ARG002
        """Hold every database in a snapshot of its own, taken as near to one moment as can be."""
        server = self._server()
        with contextlib.ExitStack() as stack:
            debt = self._host.journal.write(OWNER, "sessions", {"server": server.to_json()})
            stack.callback(self._host.journal.settle, debt)
            admin = stack.enter_context(Session(server, entrance(server)))
            facts = cluster.databases(admin)
            problems: list[tuple[str, str]] = []
            names = self._names(facts, problems)
            if problems:
                raise SourceError(problems[0][0], where=server.where, fix=problems[0][1])
            stack.enter_context(self._admitted(admin, [one for one in names if not facts[one]["allow"]]))
            options = self._options
            limits = capture.Limits(
                options.lock_timeout, options.lock_wait, options.snapshot_max_age, self._held(admin)
            )
            frozen = capture.FrozenServer(server, names, depth, limits)
            stack.callback(frozen.close)
            frozen.freeze(admin, facts)
            yield frozen

    @contextlib.contextmanager
    def _admitted(self, admin: Session, names: list[str]) -> Iterator[None]:
        """Let connections into databases that allow none, for as long as it takes; journaled."""
        if not names:
            yield
            return
        debt = self._host.journal.write(
            OWNER, "refuse connections", {"server": admin.server.to_json(), "database": admin.database, "names": names}
        )
        try:
            _allow(admin, names, allowed=True)
            yield
        finally:
            with Session(admin.server, admin.database) as session:
                _allow(session, names, allowed=False)
            self._host.journal.settle(debt)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make room for a throw-away server; it is started by `stage`, which knows what the point needs."""
        live = self._server(live=False)
        base = "/tmp" if live.container else str(scratch.parent(self._host.paths))  # noqa: S108
        directory = f"{base}/restaura-{secrets.token_hex(8)}"
        debt = self._host.journal.write(OWNER, "scratch", {"server": live.to_json(), "directory": directory})
        made = scratch.Scratch(live, directory)
        with self._host.spool("postgres") as folder:
            self._scratch, self._folder = made, folder
            try:
                yield Target("scratch", directory)
            finally:
                self._scratch = self._folder = None
                made.stop()
                self._host.journal.settle(debt)

    def stage(self, point: PointReader | restore.Folder, target: Target) -> Staged:
        """Build the point's databases beside the live ones, in another cluster, in a throw-away server, or as files."""
        if target.kind == "dir":
            return self._to_directory(point, target)
        described = restore.description(point)
        names = self._targets(described, target)
        whole = not target.paths and target.kind != "name"
        plan = restore.Plan(secrets.token_hex(4), names, whole, target.kind == "scratch")
        if target.kind == "scratch":
            if self._scratch is None:
                raise SourceError("there is no throw-away server", where=f"component {self._options.name}")
            server = self._scratch.start(described, self._application)
        else:
            server = self._server(cluster_name=target.value if target.kind == "cluster" else "")
        directory = self._folder or self._host.paths.kept / f"postgres-{plan.id}"
        restore.keep(directory, described)
        data: dict[str, Any] = {"server": server.to_json(), "id": plan.id, "directory": str(directory)}
        with contextlib.ExitStack() as on_failure:
            if target.kind != "scratch":
                self._refuse_taken(server, target, names)
                self._need_space(server, described, names)
                debt = self._journal_stage(server, plan, described, data)
                on_failure.callback(self._unstage, debt)
            notes = restore.build(server, plan, described, point, directory)
            record = swap.plan(server, plan, described, directory, self._options.terminate_sessions)
            on_failure.pop_all()
        current = {name: plan.stage(name) for name in names}
        if target.kind == "scratch":
            swap.swap(record | {"terminate": True})
            current = names
        data |= {"record": record, "names": names, "current": current, "whole": whole}
        return Staged(target, data, notes, part=not whole)

    def _to_directory(self, point: PointReader | restore.Folder, target: Target) -> Staged:
        """Write the artifacts as files, for a person's own pg_restore; they are only readable by root."""
        folder = Path(target.value)
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError("the directory is not empty", where=str(folder), fix="give another: --to dir:PATH")
        private_dir(folder)
        for name in point.names():
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with point.open(name) as stream, path.open("wb") as out:
                shutil.copyfileobj(stream, out, 1 << 18)
        return Staged(target, {"directory": str(folder)})

    def _targets(self, described: dict[str, Any], target: Target) -> dict[str, str]:
        """Return the databases to restore and the names they get; RefusedError for one that the point lacks."""
        known = described["databases"]
        names = list(target.paths or known)
        where = f"component {self._options.name}"
        if missing := [name for name in names if name not in known]:
            listed = ", ".join(map(repr, known))
            raise RefusedError(
                f"the point holds no database {missing[0]!r}; it holds {listed}", where=where, fix="restaura show POINT"
            )
        if target.kind != "name":
            return {name: name for name in names}
        if len(names) != 1:
            raise RefusedError("only one database can get another name", where=where, fix="name it: --path DATABASE")
        return {names[0]: target.value}

    def _refuse_taken(self, server: Server, target: Target, names: dict[str, str]) -> None:
        if target.kind != "name":
            return
        with Session(server, entrance(server)) as admin:
            if target.value in cluster.databases(admin):
                raise RefusedError(
                    f"there is a database {target.value!r} already",
                    where=server.where,
                    fix=f"give another name, or restore {next(iter(names))!r} to live",
                )

    def _journal_stage(
        self, server: Server, plan: restore.Plan, described: dict[str, Any], data: dict[str, Any]
    ) -> Debt:
        """Record what is about to be built; once a swap has begun, the swap's own record takes its place."""
        with Session(server, entrance(server)) as admin:
            missing = [name for name in described["roles"] if name not in cluster.roles(admin)]
        cron = any("pg_cron" in described["databases"][name]["extensions"] for name in plan.names)
        return self._host.journal.write(OWNER, "stage", {**data, "roles": missing, "cron": cron})

    def _unstage(self, debt: Debt) -> None:
        """Take back a restore that failed while it was built; what that cannot, `recover` does."""
        swap.take_back(debt.data)
        self._host.journal.settle(debt)

    def _need_space(self, server: Server, described: dict[str, Any], names: dict[str, str]) -> None:
        """Raise SpaceError when the disk of a server on this host cannot hold the restored beside the live."""
        if server.container or not server.host.startswith("/"):
            return
        with Session(server, entrance(server)) as admin:
            folder = Path(admin.rows("SELECT current_setting('data_directory') AS folder")[0]["folder"])
        size = sum(described["databases"][name]["size"] for name in names)
        self._host.need_space(folder, size, f"component {self._options.name}")

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged. Files are loaded into a throw-away server for that.

        What only the swap puts on (who may connect, the state of roles that exist) is counted as the point has it; the
        swap compares it itself.
        """
        if staged.target.kind == "dir":
            with self.scratch() as target:
                reader = restore.Folder(Path(staged.data["directory"]))
                return self.fingerprint(self.stage(reader, target), depth)
        server, current = Server.from_json(staged.data["server"]), staged.data["current"]
        described = restore.kept(Path(staged.data["directory"]))
        pending = staged.target.kind != "scratch"
        found = []
        with Session(server, staged.data["record"]["door"]) as admin:
            if staged.data["whole"]:
                found.append(restore.shared(admin, described, pending=pending))
            now = cluster.databases(admin)
            for name, here in current.items():
                facts = described["databases"][name]
                waiting = {key: facts[key] for key in ("allow", "limit", "template")} if pending else {}
                found.append(fingerprint.properties(name, now[here] | waiting))
            closed = [here for here in current.values() if not now[here]["allow"]]
            _allow(admin, closed, allowed=True)
            with ThreadPoolExecutor(capture.THREADS) as pool:
                salt = bytes.fromhex(described["salt"])
                jobs = [
                    pool.submit(_fingerprint_one, server, name, here, depth, salt, described["databases"][name])
                    for name, here in current.items()
                ]
                found += [job.result() for job in jobs]
            _allow(admin, closed, allowed=False)
        whole = fingerprint.merged(found)
        return Fingerprint(fingerprint.ALGORITHM, depth, whole.parts, whole.counts)

    def busy(self, staged: Staged) -> list[str]:
        """Name the sessions that use the live databases; none where the component says that they may be ended."""
        if self._options.terminate_sessions or "record" not in staged.data:
            return []
        record = staged.data["record"]
        names = [one["final"] for one in record["databases"] if one["before"] is not None]
        with Session(Server.from_json(record["server"]), record["door"]) as admin:
            return swap.sessions(admin, names)

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the record of the swap: which database gets which name."""
        record: dict[str, Any] = staged.data["record"]
        return record

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return libpq's variables for the server, and by JSON each database's name there in RESTAURA_DATABASES."""
        if staged is None:
            server = self._server()
            with Session(server, entrance(server)) as admin:
                names = {name: name for name in self._names(cluster.databases(admin), [])}
        elif "server" in staged.data:
            server, names = Server.from_json(staged.data["server"]), staged.data["names"]
        else:
            return {"RESTAURA_TARGET": staged.data["directory"]}
        env = {"RESTAURA_TARGET": server.host, "RESTAURA_DATABASES": json.dumps(names)}
        if server.account and not server.container:
            env["RESTAURA_RUN_AS"] = server.account
        return env | {key: value for key, value in server.environment("postgres").items() if key != "PGAPPNAME"}

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Put the restored databases in the place of the live ones, which are kept under other names."""
        swap.swap(record)

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Put back what was live; what was restored is kept."""
        swap.undo(record)

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live."""
        swap.discard(record)

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Undo what a dead run left: sessions, admitted connections, throw-away servers, half restores."""
        server = Server.from_json(data["server"])
        if act == "sessions":
            capture.end_sessions(server)
        elif act == "refuse connections":
            with Session(server, data["database"]) as admin:
                _allow(admin, data["names"], allowed=False)
        elif act == "scratch":
            scratch.remove(server, data["directory"])
        elif act == "stage":
            swap.take_back(data)
        else:
            raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)

    def _server(self, *, cluster_name: str = "", live: bool = True) -> Server:
        """Return how the server is reached; SourceError when it is a cluster that is not there or does not run.

        With `live` False it need not run: a drill only wants to know where to put its own.
        """
        options = self._options
        password = self._host.secret("components", options.name, "password")
        server = Server(
            options.name,
            account=options.system_user,
            container=options.container,
            host=options.host,
            port=options.port or 5432,
            user=options.user,
            passfile=str(password or ""),
            sslmode=options.sslmode,
            application=self._application,
        )
        if options.container and not cluster_name:
            return replace(server, account=options.system_user or "postgres")
        if (options.host and not cluster_name) or not live:
            return server
        found = find_cluster(cluster_name or options.cluster, options.name)
        name = f"{found['version']}/{found['cluster']}"
        if not found["running"]:
            fix = f"pg_ctlcluster {found['version']} {found['cluster']} start"
            raise SourceError(f"cluster {name} does not run", where=f"component {options.name}", fix=fix)
        return replace(
            server,
            account=options.system_user or pwd.getpwuid(int(found["owneruid"])).pw_name,
            host=found["socketdir"],
            port=options.port or int(found["port"]),
            container="",
        )

    def _names(self, facts: dict[str, dict[str, Any]], problems: list[tuple[str, str]]) -> list[str]:
        """Return the databases to capture, never Restaura's own copies; a problem for each that is not there."""
        options = self._options
        for name in options.databases:
            if name not in facts:
                fix = f"correct databases of component {options.name}"
                problems.append((f"there is no database {name!r}", fix))
        wanted = [name for name in facts if not options.databases or name in options.databases]
        return sorted(name for name in wanted if name not in options.exclude_databases and not kept_out(name))

    @staticmethod
    def _held(admin: Session) -> int:
        """Return how many databases the server's free connections let us hold at once, two connections for each."""
        free = admin.value(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
            "- (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
        return (int(free) - _SPARE_CONNECTIONS) // 2


def _fingerprint_one(
    server: Server, name: str, here: str, depth: Depth, salt: bytes, facts: dict[str, Any]
) -> fingerprint.Parts:
    """Fingerprint the database that is called `here`, as `name`."""
    with Session(server, here) as session:
        return fingerprint.database(session, name, depth, salt, fingerprint.load_sequences(facts["sequences"]))


def _allow(admin: Session, names: list[str], *, allowed: bool) -> None:
    for name in names:
        admin.execute(f"ALTER DATABASE {quote_name(name)} ALLOW_CONNECTIONS {allowed}")


SOURCE = SourceKind(
    "postgres", PostgresComponent, Postgres, packages=("postgresql-client", "python3-docker"), files=False
)
