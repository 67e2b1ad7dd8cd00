# SPDX-License-Identifier: GPL-3.0-or-later
"""The freeze of a server: every table locked before the snapshot is taken, every dump started on that snapshot."""

import contextlib
import io
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from restaura.errors import RestauraError, SourceError
from restaura.hold import Hold
from restaura.point import Depth, Fingerprint, safe_name
from restaura.postgres import cluster, fingerprint
from restaura.postgres.server import Server, quote_name
from restaura.postgres.session import Session, SqlError
from restaura.runners import Running, reading
from restaura.sources import Artifact, Outcome, Stream
from restaura.trees import Index

CLUSTER = "cluster.json"
GLOBALS = "globals.sql"
FORMAT = 1
# Conditions under which locking is tried again: a lock not granted, a table dropped or replaced meanwhile, a deadlock.
_AGAIN = {"55P03", "42P01", "3F000", "40P01", "42809"}
_EXTENSIONS = "SELECT extname AS name FROM pg_extension ORDER BY 1"
_HAS_PUBLIC = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')"
_DUMP_SUFFIX = "-dump"
_FIRST_BYTE_SECONDS = 0.1
# Databases that are frozen, or fingerprinted, at once.
THREADS = 3


@dataclass(frozen=True)
class Limits:
    """How long a freeze may try and last, in seconds, and how many databases it may hold at once."""

    lock_timeout: int
    lock_wait: int
    max_age: int
    held: int


@dataclass
class FrozenDatabase:
    """One database that holds still: the session whose transaction holds locks and snapshot, and the dump on it."""

    name: str
    session: Session
    dump: Running
    argv: list[str]
    sequences: list[fingerprint.Sequence]
    expired: threading.Event = field(default_factory=threading.Event)
    timer: threading.Timer | None = None

    def hold_at_most(self, seconds: float) -> None:
        """Let go by force when `seconds` are over: a snapshot that is held for long makes the server bloat."""

        def expire() -> None:
            self.expired.set()
            self.dump.kill()
            self.session.kill()

        self.timer = threading.Timer(seconds, expire)
        self.timer.daemon = True
        self.timer.start()

    def close(self) -> None:
        """End dump and session."""
        if self.timer:
            self.timer.cancel()
        self.dump.close()
        self.session.close()


def freeze_database(server: Server, name: str, limits: Limits) -> FrozenDatabase:
    """Lock every table of a database, export the snapshot, and start a dump on it that holds its own locks too.

    What gets in between (a lock that is not granted in time, a table that appears or goes) is tried again until
    `limits.lock_wait` seconds are over: then SourceError.
    """
    deadline = time.monotonic() + limits.lock_wait
    while True:
        session = Session(server, name)
        try:
            return _attempt(server, session, limits)
        except SqlError as error:
            session.close()
            if error.code == "53200":
                raise SourceError(
                    error.what, where=session.where, fix="raise max_locks_per_transaction in postgresql.conf"
                ) from error
            if error.code not in _AGAIN or time.monotonic() > deadline:
                raise _not_locked(error, limits) if error.code in _AGAIN else error from None
            time.sleep(0.1 + secrets.randbelow(200) / 1000)
        except BaseException:
            session.close()
            raise


def _not_locked(error: SqlError, limits: Limits) -> SourceError:
    return SourceError(
        f"its tables could not be locked within {limits.lock_wait} seconds: {error.what}",
        where=error.where,
        fix="find the session that holds the lock: SELECT pid, query FROM pg_stat_activity "
        "WHERE pid IN (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity)",
    )


def _attempt(server: Server, session: Session, limits: Limits) -> FrozenDatabase:
    query = fingerprint.TABLES.format(kinds="'r', 'p'")
    wanted = session.rows(query)
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.execute(f"SET LOCAL lock_timeout = '{limits.lock_timeout}s'")
    names = ", ".join(f"ONLY {quote_name(one['schema'])}.{quote_name(one['name'])}" for one in wanted)
    if names:
        # LOCK takes no snapshot: the transaction's is taken by the next statement, when nothing can be truncated.
        session.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    snapshot = session.value("SELECT pg_export_snapshot()")
    if {one["oid"] for one in session.rows(query)} != {one["oid"] for one in wanted}:
        raise SqlError("tables were created or dropped meanwhile", "55P03", where=session.where)
    session.execute("SET LOCAL lock_timeout = 0")
    marked = server.marked(f"{server.application}{_DUMP_SUFFIX}")
    words = ["--format=custom", "--compress=0", "--no-password", f"--snapshot={snapshot}"]
    argv = [server.program("pg_dump", session.major), *words]
    dump = marked.start(argv[0], argv[1:], database=session.database, held=True)
    try:
        _await_dump(session, marked.application, dump, limits)
        return FrozenDatabase(session.database, session, dump, argv, fingerprint.sequences(session))
    except BaseException:
        dump.close()
        raise


def _await_dump(session: Session, application: str, dump: Running, limits: Limits) -> None:
    """Wait for the dump's first byte: then it has locked every table itself.

    Between our lock and its own, somebody may have queued for an exclusive lock (TRUNCATE): the dump waits for them,
    they for us. See `_let_pass`.
    """
    blocked_since = 0.0
    while not dump.ready(_FIRST_BYTE_SECONDS):
        rows = session.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name = '{application}' AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        blocked_since = (blocked_since or time.monotonic()) if rows else 0.0
        if rows:
            _let_pass(session)
        if blocked_since and time.monotonic() - blocked_since > limits.lock_timeout:
            raise SqlError("pg_dump could not lock the tables", "55P03", where=session.where)
    if not dump.stdout.peek(1):  # type: ignore[attr-defined]
        code = dump.wait()
        raise SourceError(f"pg_dump ended with exit code {code}: {dump.errors()}", where=session.where)


def _let_pass(session: Session) -> None:
    """Have the server let the dump pass those that wait for us.

    We ask for a lock that the dump keeps from us, for a moment. That closes a circle (we wait for the dump, it for the
    waiting TRUNCATE, that for us), which the server's deadlock detector resolves without a victim, by putting the dump
    first in the queue (src/backend/storage/lmgr/README, "soft edges"). Every dump has read pg_extension by then, and
    hardly anybody else does. Only a superuser may; for others the whole attempt is made again.
    """
    session.execute("SAVEPOINT let_pass")
    with contextlib.suppress(SqlError):
        session.execute("SET LOCAL deadlock_timeout = '20ms'")
        session.execute("SET LOCAL lock_timeout = '100ms'")
        session.execute("LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE")
    session.execute("ROLLBACK TO SAVEPOINT let_pass")
    session.execute("RELEASE SAVEPOINT let_pass")


class FrozenServer:
    """Several databases of a server that hold still; each is let go as soon as dump and fingerprint are done.

    They are frozen, and fingerprinted beside their dumps, by a few threads. A child dies with the thread that started
    it, so these last until `close`.
    """

    hold: Hold | None = None

    def __init__(self, server: Server, names: list[str], depth: Depth, limits: Limits) -> None:
        self.notes: list[str] = []
        self._pool = ThreadPoolExecutor(THREADS)
        self._server, self._names, self._depth, self._limits = server, names, depth, limits
        self._salt = secrets.token_bytes(16)
        self._frozen: dict[str, FrozenDatabase] = {}
        self._found: list[fingerprint.Parts] = []
        self._description: dict[str, Any] = {}
        self._configuration: dict[str, bytes] = {}

    def freeze(self, admin: Session, facts: Mapping[str, dict[str, Any]]) -> None:
        """Freeze the databases, as many at once as the server's connections allow, and take what is small.

        `facts` are the properties of the databases as they were before this run allowed connections to any.
        """
        list(self._pool.map(self._hold, self._names[: self._limits.held]))
        if len(self._names) > self._limits.held:
            self.notes.append(
                f"{len(self._names) - self._limits.held} of {len(self._names)} databases were frozen one after "
                "another, for want of connections (max_connections)"
            )
        described = describe(admin, {name: facts[name] for name in self._names}) | {"salt": self._salt.hex()}
        self._found = [
            fingerprint.shared(described["roles"], described["tablespaces"], described["parameters"], self._salt)
        ]
        self._found += [fingerprint.properties(name, facts[name]) for name in self._names]
        self._description = described
        self._configuration = configuration(admin, self.notes)

    def _hold(self, name: str) -> FrozenDatabase:
        if name not in self._frozen:
            held = freeze_database(self._server, name, self._limits)
            self._frozen[name] = held
            held.hold_at_most(self._limits.max_age)
        return self._frozen[name]

    def _fingerprint(self, name: str) -> fingerprint.Parts:
        """Fingerprint a database under its locks and snapshot; describe what a restore must know of it."""
        held, described = self._frozen[name], self._description["databases"][name]
        found = fingerprint.database(held.session, name, self._depth, self._salt, held.sequences)
        described["extensions"] = [one["name"] for one in held.session.rows(_EXTENSIONS)]
        described["public"] = held.session.value(_HAS_PUBLIC) == "t"
        return found

    def artifacts(self) -> Iterator[Artifact]:
        """Yield what is small, the globals, then one dump for each database."""
        for name, data in self._configuration.items():
            yield Stream(f"configuration/{safe_name(name)}", _opener(data), secret=True, expected_bytes=len(data))
        yield Stream(GLOBALS, self._globals, secret=True)
        databases = self._description["databases"]
        printed = {name: self._pool.submit(self._fingerprint, name) for name in self._frozen}
        for name in self._names:
            if name not in printed:
                self._pool.submit(self._hold, name).result()
                printed[name] = self._pool.submit(self._fingerprint, name)
            held = self._frozen[name]
            yield Stream(databases[name]["artifact"], partial(self._dump, held), expected_bytes=databases[name]["size"])
            self._finish(held, printed[name])
        data = json.dumps(self._description, indent=1, sort_keys=True).encode()
        yield Stream(CLUSTER, _opener(data), secret=True, expected_bytes=len(data))

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:  # noqa: ARG002
        """Return the fingerprint of all that was captured."""
        found = fingerprint.merged(self._found)
        whole = Fingerprint(fingerprint.ALGORITHM, self._depth, found.parts, found.counts)
        return Outcome(whole, "transactional", list(self.notes))

    def close(self) -> None:
        """Let go of every database."""
        held = list(self._frozen.values())
        for one in held:
            one.close()
        self._pool.shutdown(cancel_futures=True)
        # What was being frozen meanwhile.
        for one in self._frozen.values():
            if one not in held:
                one.close()

    @contextlib.contextmanager
    def _dump(self, held: FrozenDatabase) -> Iterator[IO[bytes]]:
        try:
            held.dump.stdin.close()
            with reading(held.dump, held.argv) as stream:
                yield stream
        except (RestauraError, OSError) as error:
            raise self._failure(held, error) from error

    def _finish(self, held: FrozenDatabase, printed: Future[fingerprint.Parts]) -> None:
        """Let go, once the fingerprint is there."""
        try:
            self._found.append(printed.result())
        except (RestauraError, OSError, ValueError) as error:
            raise self._failure(held, error) from error
        finally:
            held.close()
        sequences = [one.to_json() for one in held.sequences]
        self._description["databases"][held.name]["sequences"] = sequences

    def _failure(self, held: FrozenDatabase, error: Exception) -> Exception:
        if held.expired.is_set():
            return SourceError(
                f"its snapshot was held for more than {self._limits.max_age} seconds",
                where=held.session.where,
                fix="raise snapshot_max_age of the component, or use a store that keeps up",
            )
        if isinstance(error, SourceError) or not isinstance(error, RestauraError):
            return error
        return SourceError(error.what, where=held.session.where)

    @contextlib.contextmanager
    def _globals(self) -> Iterator[IO[bytes]]:
        program = self._server.program("pg_dumpall", self._description["major"])
        argv = [program, "--globals-only", "--no-password"]
        database = self._description["database"]
        try:
            running = self._server.start(program, [*argv[1:], f"--database={database}"], database=database)
            with reading(running, argv) as stream:
                yield stream
        except RestauraError as error:
            raise SourceError(error.what, where=self._server.where, fix=error.fix) from error


def _opener(data: bytes) -> Any:
    return lambda: contextlib.nullcontext(io.BytesIO(data))


def describe(admin: Session, facts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a restore must know before it begins: version, first superuser, locales, tablespaces, databases."""
    rows = admin.rows(
        "SELECT rolname AS superuser, "
        "coalesce((SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), '') AS preload, "
        "(SELECT setting FROM pg_settings WHERE name = 'cron.database_name') AS cron_database, "
        "current_setting('max_locks_per_transaction') AS locks, "
        "current_setting('block_size') AS block_size FROM pg_roles WHERE oid = 10"
    )[0]
    databases = {name: {**one, "artifact": f"databases/{safe_name(name)}.dump"} for name, one in facts.items()}
    return {
        "format": FORMAT,
        "major": admin.major,
        "database": admin.database,
        **rows,
        "roles": cluster.roles(admin),
        "parameters": cluster.parameters(admin),
        "tablespaces": cluster.tablespaces(admin),
        "databases": databases,
    }


def configuration(admin: Session, notes: list[str]) -> dict[str, bytes]:
    """Return the server's configuration files by path, read by the server itself; a note when it may not."""
    try:
        files = [
            one["file"]
            for one in admin.rows(
                "SELECT setting AS file FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') "
                "UNION SELECT sourcefile FROM pg_file_settings WHERE sourcefile IS NOT NULL"
            )
        ]
        found = {}
        for path in sorted({one for one in files if one}):
            quoted = path.replace("'", "''")
            rows = admin.rows(f"SELECT encode(pg_read_binary_file('{quoted}', 0, 16777216, true), 'hex') AS data")
            if rows[0]["data"] is not None:
                found[path] = bytes.fromhex(rows[0]["data"])
        return found
    except SqlError as error:
        if error.code != cluster.INSUFFICIENT_PRIVILEGE:
            raise
        notes.append("the server's configuration files are not in the backup: its role may not read them")
        return {}


def end_sessions(server: Server) -> None:
    """End what a dead run left connected. On this host its clients died with it; in a container they may live on."""
    if not server.container:
        return
    try:
        session = Session(server.marked("restaura"), "postgres")
    except SourceError:
        return
    with session:
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE application_name IN ('{server.application}', '{server.application}{_DUMP_SUFFIX}')"
        )
