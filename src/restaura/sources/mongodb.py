# SPDX-License-Identifier: GPL-3.0-or-later
"""MongoDB: every database or a list with all that belongs to them, and users and roles, of one moment."""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from restaura.config.schema import Component, setting
from restaura.errors import RefusedError, RestauraError, SourceError, SpaceError
from restaura.hold import Hold
from restaura.mongodb import capture, catalog, restore, swap
from restaura.mongodb.server import OLDEST_SERVER, About, Server, connected, told
from restaura.mongodb.tools import Tools
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint
from restaura.sources import UNLIMITED, PointReader, Probe, SourceKind, Staged, Target, Tree

if TYPE_CHECKING:
    from restaura.host import Host

OWNER = "source:mongodb"
_SHARDED = (
    "it is a mongos: a sharded cluster is not one server",
    "back up its shards while the balancer is stopped, or use Percona Backup for MongoDB",
)


@dataclass(frozen=True)
class MongodbComponent(Component):
    """Settings of a `mongodb` component."""

    host: str = setting("Name or address of the server.", default="localhost")
    port: int = setting("Port of the server.", default=27017, minimum=1)
    container: str = setting("Name of the container that the server runs in; `port` is the one in there.", default="")
    user: str = setting(
        "User to log in as: with the roles `backup` and `clusterMonitor`, and for restores `restore`.", default=""
    )
    password: str | None = setting("Password of that user.", default=None, secret=True)
    auth_database: str = setting("Database that the user is defined in.", default="admin")
    replica_set: str = setting(
        "Name of a replica set whose primary is to be found by way of `host`. Empty: this very server.", default=""
    )
    tls: bool = setting("Whether the server is reached over TLS.", default=False)
    tls_ca_file: str = setting("File with the certificate of the authority that signed the server's.", default="")
    tls_certificate_key_file: str = setting("File with the client's own certificate and key.", default="")
    timeout: int = setting("Seconds that the server may take for one answer.", default=300, minimum=1)
    databases: tuple[str, ...] = setting("Databases to back up. Empty: every one but `local` and `config`.", default=())
    exclude_databases: tuple[str, ...] = setting("Databases to leave out.", default=())
    users: bool = setting("Whether users and roles are backed up too.", default=True)
    export: bool = setting("Whether each collection is also kept as canonical extended JSON (`export/`).", default=True)
    lock: bool = setting(
        "Whether a server that has no snapshots is locked (`fsyncLock`) while it is copied: whoever writes waits.",
        default=False,
    )
    tools: Literal["auto", "never"] = setting(
        "Whether mongodump and mongorestore are used where a server has no snapshots and they are there: on the host, "
        "or in the container.",
        default="auto",
    )
    snapshot_window: int = setting(
        "Seconds for which a replica set is to keep the snapshot that is read; what it keeps by itself is 300.",
        default=7200,
        minimum=1,
    )
    swap_while_connected: bool = setting(
        "Whether a restore to `live` may go ahead while clients are connected to the server.", default=False
    )


class Mongodb:
    """One MongoDB server: on this host, in a container, or somewhere else."""

    def __init__(self, options: MongodbComponent, host: "Host") -> None:
        self._options, self._host = options, host
        self._drill = ""
        self._notes: list[str] = []

    # Capture

    def probe(self) -> Probe:
        """Say whether the server answers, whether this user may read everything, and how consistent a copy will be."""
        try:
            server = self._server()
            with connected(server) as client:
                return self._examine(server, client)
        except RestauraError as error:
            return Probe(problems=[(error.what, error.fix)])

    def _examine(self, server: Server, client: Any) -> Probe:
        about = About.of(client)
        if about.sharded:
            return Probe({"server": about.text}, problems=[_SHARDED])
        problems: list[tuple[str, str]] = []
        if about.version < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            problems.append((f"the server is version {about.text}", f"version {oldest} is the oldest supported"))
        found = catalog.collections(client, self._names(client, problems))
        versions = {"server": about.text}
        if not about.snapshots and (tools := self._tools(server)):
            versions["tools"] = tools.version
        size = sum(one.size for one in found)
        if not about.snapshots:
            private_dir(self._host.paths.spool)
            self._host.need_space(self._host.paths.spool, size, f"component {self._options.name}")
        if self._options.users:
            capture.read_accounts(client, server)
        return Probe(versions, size, "transactional" if about.snapshots else "snapshot", problems)

    def prepare(self, depth: Depth) -> Sequence[Tree]:  # noqa: ARG002 - the contract's
        """See which databases are left out."""
        options = self._options
        with connected(self._server()) as client:
            left = sorted({*catalog.databases(client)} - {"admin", *options.databases, *options.exclude_databases})
        if options.databases and left:
            self._notes = [
                f"not in `databases`, and so not taken: {', '.join(left)} (or name it in `exclude_databases`)"
            ]
        return ()

    @contextlib.contextmanager
    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> Iterator[capture.FrozenServer]:
        """Open a snapshot, or where the server has none copy everything into the spool now."""
        server, options = self._server(), self._options
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(connected(server))
            about = About.of(client)
            if about.sharded:
                raise SourceError(_SHARDED[0], where=server.where, fix=_SHARDED[1])
            problems: list[tuple[str, str]] = []
            names = self._names(client, problems)
            if problems:
                raise SourceError(problems[0][0], where=server.where, fix=problems[0][1])
            folder = stack.enter_context(self._host.spool("mongodb"))
            frozen = capture.FrozenServer(client, server, about, depth, folder, options.export)
            stack.callback(frozen.close)
            if about.snapshots:
                stack.enter_context(self._longer_history(server, client))
                frozen.hold_snapshot(names)
            else:
                self._copy(server, client, frozen, names, stop_limit)
            if options.users:
                frozen.add_accounts(capture.read_accounts(client, server), self._configuration(client))
            frozen.notes += self._notes
            yield frozen

    def _copy(
        self, server: Server, client: Any, frozen: capture.FrozenServer, names: list[str], stop_limit: float
    ) -> None:
        """Copy everything, while the server is locked when that is asked for: for `stop_limit` seconds at most."""
        tools = self._tools(server)
        if not self._options.lock:
            frozen.copy(names, tools)
            return
        # Who locked it before would find it unlocked.
        capture.refuse_locked(client, server)

        def stop(_: float) -> None:
            with told(server):
                capture.lock(client)

        def start() -> None:
            with told(server):
                capture.unlock(client)

        def broken() -> str:
            return "somebody unlocked the server (fsyncUnlock)" if capture.is_locked(client) is False else ""

        debt = (OWNER, "lock", {"server": server.to_json()})
        with Hold(self._host.journal, debt, stop_limit, stop, start, broken) as hold:
            frozen.copy(names, tools, hold.check)
        hold.check()

    @contextlib.contextmanager
    def _longer_history(self, server: Server, client: Any) -> Iterator[None]:
        """Have the server keep snapshots for longer, journaled."""
        now = capture.history(client)
        if now is None or now >= self._options.snapshot_window:
            yield
            return
        with self._host.journal.owing(OWNER, "history", {"server": server.to_json(), "seconds": now}):
            capture.set_history(client, self._options.snapshot_window)
            yield
            capture.set_history(client, now)

    def _configuration(self, client: Any) -> dict[str, Any]:
        """Return what the server was started with, as far as this user is told."""
        from bson.json_util import dumps
        from pymongo.errors import OperationFailure

        try:
            found: dict[str, Any] = json.loads(dumps(client.admin.command("getCmdLineOpts").get("parsed", {})))
        except OperationFailure:
            return {}
        return found

    # Restore

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Target]:
        """Make room for databases of the drill's own, on the same server; they are made by `stage`."""
        server, number = self._server(), secrets.token_hex(4)
        debt = self._host.journal.write(OWNER, "drill", {"server": server.to_json(), "id": number})
        self._drill = number
        try:
            yield Target("scratch", number)
        finally:
            self._drill = ""
            with connected(server) as client:
                restore.drop_drill(client, number)
            self._host.journal.settle(debt)

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Build the point's collections beside the live ones, in a drill's databases, or as files."""
        if target.kind == "dir":
            return self._to_directory(point, target)
        if target.kind not in ("live", "name", "scratch"):
            raise RefusedError(f"MongoDB cannot be restored to {target.kind!r}", fix="--to live, name:DB or dir:PATH")
        server, number = self._server(), self._drill or secrets.token_hex(4)
        described = restore.description(point)
        known = tuple(sorted({one["database"] for one in described["collections"]}))
        if target.kind == "name" and len({one.partition(".")[0] for one in target.paths or known}) != 1:
            raise RefusedError("only one database can get another name", fix="name it: --path DATABASE")
        homes = restore.Homes(target.value if target.kind == "name" else "", self._drill, known)
        whole, notes = target.kind in ("live", "scratch") and not target.paths, list[str]()
        data: dict[str, Any] = {"server": server.to_json(), "id": number, "directory": "", "debt": ""}
        with connected(server, patient=True) as client, contextlib.ExitStack() as on_failure:
            restore.check_version(client, described, server.where)
            found = restore.entries(point, described, target.paths, number, homes)
            if target.kind == "name":
                self._refuse_taken(server, client, target.value)
            self._need_space(client, sum(one.bytes for one in found))
            accounts = restore.accounts(point, described, point.names()) if whole else {}
            if target.kind != "scratch":
                data["homes"] = sorted({one.home for one in found})
                data["directory"] = str(self._host.paths.kept / f"mongodb-{number}")
                debt = self._host.journal.write(OWNER, "stage", data)
                on_failure.callback(self._unstage, debt.data, debt.id)
                data["debt"] = debt.id
            tools = None if About.of(client).snapshots else self._tools(server)
            restore.build(client, point, found, tools, server.where)
            if target.kind != "scratch":
                directory = private_dir(Path(data["directory"]))
                data["record"] = self._plan(client, server, number, found, target, directory)
                if any(accounts.values()):
                    notes = swap.keep_accounts(client, server, directory, accounts)
            on_failure.pop_all()
        data["built"] = [one.to_json() for one in found]
        data["accounts"] = restore.account_parts(accounts, described) if whole else {}
        names = {one.collection.database: one.home for one in found}
        return Staged(target, data | {"names": names}, notes, part=not whole)

    def _plan(
        self, client: Any, server: Server, number: str, found: list[restore.Entry], target: Target, directory: Path
    ) -> dict[str, Any]:
        """Return the record of the swap; a database that is restored as a whole loses what the point has not."""
        wholes = {one.home for one in found}
        if target.paths:
            wholes &= {one for one in target.paths if "." not in one}
        return swap.plan(client, server, number, found, sorted(wholes) if target.kind == "live" else [], directory)

    def _unstage(self, data: dict[str, Any], debt: str) -> None:
        """Take back a restore that failed while it was built; what that cannot, `recover` does."""
        self.take_back("stage", data)
        self._host.journal.settle(debt)

    def _refuse_taken(self, server: Server, client: Any, name: str) -> None:
        if catalog.names_in(client, name):
            raise RefusedError(
                f"there is a database {name!r} already", where=server.where, fix="give another name: --to name:NEW"
            )

    def _need_space(self, client: Any, size: int) -> None:
        """Raise SpaceError when the server says that its disk cannot hold the restored beside the live."""
        from pymongo.errors import OperationFailure

        try:
            stats = client.admin.command("dbStats")
        except OperationFailure:
            return
        total, used = stats.get("fsTotalSize"), stats.get("fsUsedSize")
        if not total or used is None:
            return
        settings = self._host.config.settings
        reserve = min(settings.reserve_bytes, int(total) * settings.reserve_percent // 100)
        if int(total) - int(used) - size < reserve:
            raise SpaceError(
                f"{size} bytes do not fit: {int(total - used)} are free, of which {reserve} stay in reserve",
                where=f"the disk of the server of component {self._options.name}",
                fix="free space there, or restore one database at a time: --path DATABASE",
            )

    def _to_directory(self, point: PointReader, target: Target) -> Staged:
        """Write the artifacts as files, for a person's own mongorestore; they are only readable by root."""
        folder = Path(target.value)
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError("the directory is not empty", where=str(folder), fix="give another: --to dir:PATH")
        private_dir(folder)
        names = restore.mongodump_files(point)
        for name in point.names():
            path = folder / names.get(name, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with point.open(name) as stream, path.open("wb") as out:
                shutil.copyfileobj(stream, out, capture.CHUNK)
        return Staged(target, {"directory": str(folder)})

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was built, or the files of a directory.

        Users and roles are put on by the swap, which compares them itself: they are counted as they came.
        """
        if staged.target.kind == "dir":
            return restore.fingerprinted_files(restore.Folder(Path(staged.data["directory"])), depth)
        with connected(Server.from_json(staged.data["server"]), patient=True) as client:
            found = restore.fingerprinted(client, staged.data["built"], depth)
        found.parts.update(staged.data["accounts"])
        return found

    def busy(self, staged: Staged) -> list[str]:
        """Name the clients of the server; none where the component says that they may stay."""
        if self._options.swap_while_connected or staged.target.kind != "live":
            return []
        with connected(Server.from_json(staged.data["server"])) as client:
            return swap.clients(client)

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the record of the swap: which collection gets which name."""
        record: dict[str, Any] = staged.data.get("record", {})
        return record

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return how to reach the server, and by JSON each database's name there in RESTAURA_DATABASES."""
        if staged is not None and staged.target.kind == "dir":
            return {"RESTAURA_TARGET": staged.data["directory"]}
        server = self._server()
        with connected(server) as client:
            names = {one: one for one in self._names(client, [])} if staged is None else staged.data["names"]
        env = {"RESTAURA_TARGET": server.address(), "RESTAURA_DATABASES": json.dumps(names)}
        env |= {"MONGODB_HOST": server.address(), "MONGODB_PORT": str(server.port)}
        if server.user:
            env |= {"MONGODB_USER": server.user, "MONGODB_AUTH_DATABASE": server.auth_database}
            env["MONGODB_PASSWORD_FILE"] = server.passfile
        return env

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Put the restored collections in the place of the live ones, which are kept under other names."""
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
        """Undo what a dead run left: a lock, a setting, a drill's databases, half a restore."""
        server = Server.from_json(data["server"])
        if act == "stage":
            swap.take_back(server, data["id"], data["homes"], data["directory"])
            return
        with connected(server) as client:
            if act == "lock":
                capture.unlock(client)
            elif act == "history":
                capture.set_history(client, data["seconds"])
            elif act == "drill":
                restore.drop_drill(client, data["id"])
            else:
                raise SourceError(f"nobody knows how to take back {act!r}", where=OWNER)

    def _server(self) -> Server:
        options = self._options
        return Server(
            options.name,
            options.container,
            options.host,
            options.port,
            options.user,
            str(self._host.secret("components", options.name, "password") or ""),
            options.auth_database,
            options.replica_set,
            options.tls,
            options.tls_ca_file,
            options.tls_certificate_key_file,
            options.timeout,
        )

    def _tools(self, server: Server) -> Tools | None:
        return Tools.find(server) if self._options.tools == "auto" else None

    def _names(self, client: Any, problems: list[tuple[str, str]]) -> list[str]:
        """Return the databases to capture; a problem for each that is not there."""
        options, there = self._options, catalog.databases(client)
        fix = f"correct databases of component {options.name}"
        problems += [(f"there is no database {one!r}", fix) for one in options.databases if one not in there]
        wanted = [one for one in there if not options.databases or one in options.databases]
        return [one for one in wanted if one not in options.exclude_databases]


SOURCE = SourceKind(
    "mongodb",
    MongodbComponent,
    Mongodb,
    packages=("python3-pymongo", "python3-bson-ext", "python3-docker"),
    files=False,
)
