# SPDX-License-Identifier: GPL-3.0-or-later
"""How a MongoDB server is reached through PyMongo, and its errors in words that say where and what to do."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from restaura.errors import SourceError
from restaura.paths import read_secret
from restaura.runners.container import address_of

APPLICATION = "restaura"
CONNECT_SECONDS = 5
# The first PyMongo with sessions that read one snapshot, and dates beyond Python's; Debian 12 has 3.11, Debian 13 4.10.
OLDEST_CLIENT = (4, 3)
# Debian's name of the server's oldest version that is still looked after; what is older is not tried.
OLDEST_SERVER = (4, 2)
SNAPSHOTS_SINCE = (5, 0)
CAPPED_SNAPSHOTS_SINCE = (8, 0)
# Error codes of the server (src/mongo/base/error_codes.yml).
UNAUTHORIZED, LOGIN_FAILED, NOT_FOUND, NO_COMMAND, TOO_OLD, UNAVAILABLE = 13, 18, 26, 59, 239, 246
NOT_PRIMARY = (10107, 13435)


@dataclass(frozen=True)
class Server:
    """A server and how to reach it, so plain that a journal can hold it; `passfile` is a file with the password."""

    component: str
    container: str = ""
    host: str = "localhost"
    port: int = 27017
    user: str = ""
    passfile: str = ""
    auth_database: str = "admin"
    replica_set: str = ""
    tls: bool = False
    tls_ca_file: str = ""
    tls_certificate_key_file: str = ""
    timeout: int = 300

    def to_json(self) -> dict[str, Any]:
        """Return the server as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Server":
        """Build a server from JSON values."""
        return cls(**data)

    @property
    def where(self) -> str:
        """The server's name in messages."""
        return f"MongoDB in container {self.container}" if self.container else f"MongoDB at {self.host}:{self.port}"

    def password(self) -> str | None:
        """Return the password, or None when none was given; SourceError when its file cannot be read."""
        return read_secret(self.passfile, f"component {self.component}") if self.passfile else None

    def address(self) -> str:
        """Return the name or address that this host reaches the server at; RestauraError for a dead container."""
        return address_of(self.container) if self.container else self.host

    def client(self, *, patient: bool = False) -> Any:
        """Return a PyMongo client, not yet connected. A `patient` one waits for ever for an answer (index builds)."""
        options: dict[str, Any] = {
            "appname": APPLICATION,
            "serverSelectionTimeoutMS": CONNECT_SECONDS * 1000,
            "connectTimeoutMS": CONNECT_SECONDS * 1000,
            "socketTimeoutMS": None if patient else self.timeout * 1000,
        }
        # Addressed by itself, a member of a replica set is not left for the others, whose names may not resolve here.
        options |= {"replicaSet": self.replica_set} if self.replica_set else {"directConnection": True}
        if self.user:
            password = self.password()
            if not password:
                where = f"component {self.component}"
                raise SourceError(f"user {self.user!r} has no password", where=where, fix=f"set password of {where}")
            options |= {"username": self.user, "password": password, "authSource": self.auth_database}
        if self.tls:
            options["tls"] = True
            files = {"tlsCAFile": self.tls_ca_file, "tlsCertificateKeyFile": self.tls_certificate_key_file}
            options |= {key: value for key, value in files.items() if value}
            # A container is reached by its address, which is in no certificate.
            options["tlsAllowInvalidHostnames"] = bool(self.container)
        return pymongo().MongoClient(self.address(), self.port, **options)


def pymongo() -> Any:
    """Return the module; SourceError when it is missing or too old."""
    try:
        import pymongo as module
    except ImportError as error:
        raise SourceError(
            "PyMongo is not installed", where="this host", fix="apt-get install python3-pymongo"
        ) from error
    if module.version_tuple[:2] < OLDEST_CLIENT:
        oldest = ".".join(map(str, OLDEST_CLIENT))
        raise SourceError(
            f"PyMongo {module.version} is too old: {oldest} is the oldest that can read one snapshot",
            where="this host",
            fix="back the server up from a Debian 13 host, over the network (host: of the component)",
        )
    return module


@contextlib.contextmanager
def connected(server: Server, *, patient: bool = False) -> Iterator[Any]:
    """Yield a client; whatever PyMongo raises in the body becomes a SourceError."""
    with told(server):
        client = server.client(patient=patient)
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def told(server: Server) -> Iterator[None]:
    """Turn PyMongo's errors into SourceErrors that say where and what to do."""
    pymongo()
    from bson.errors import BSONError
    from pymongo.errors import PyMongoError

    try:
        yield
    except (PyMongoError, BSONError) as error:
        what, fix = _said(server, error)
        raise SourceError(what, where=server.where, fix=fix) from error


def _said(server: Server, error: Exception) -> tuple[str, str]:
    """Return what happened and the fix. Messages of the server name no document's content but duplicate keys."""
    from pymongo import errors

    text = str(error).split(", Timeout:")[0].split(", full error:")[0]
    start = f"docker start {server.container}" if server.container else "systemctl start mongod"
    code = getattr(error, "code", None)
    component = f"component {server.component}"
    if isinstance(error, errors.NetworkTimeout):
        return f"did not answer within {server.timeout} s", f"raise timeout of {component}, or look at its log"
    if isinstance(error, errors.ServerSelectionTimeoutError | errors.AutoReconnect) and code not in NOT_PRIMARY:
        return f"does not answer: {text}", start
    if code in NOT_PRIMARY:
        return "is no primary: it takes no writes", f"set host or replica_set of {component} to the primary"
    if code == LOGIN_FAILED:
        return f"user {server.user!r} cannot log in", f"correct user, password and auth_database of {component}"
    if code == UNAUTHORIZED and not server.user:
        return "the server wants a user and a password", f"set user and password of {component}"
    if code == UNAUTHORIZED:
        roles = f'db.grantRolesToUser("{server.user}", ["backup", "restore", "clusterMonitor"])'
        return f"user {server.user!r} may not do that: {text}", f"in mongosh, as an administrator: {roles}"
    if code in (TOO_OLD, UNAVAILABLE):
        longer = "db.adminCommand({setParameter: 1, minSnapshotHistoryWindowInSeconds: 7200})"
        return f"the server let go of the snapshot: {text}", f"in mongosh: {longer}"
    return text, ""


@dataclass(frozen=True)
class About:
    """What a server says of itself: `version` as numbers and text, `compatibility` its feature version if told."""

    version: tuple[int, ...]
    text: str
    compatibility: str
    replica_set: str
    sharded: bool
    primary: bool

    @classmethod
    def of(cls, client: Any) -> "About":
        """Ask the server."""
        # Every version knows the older name of `hello`.
        hello = client.admin.command("isMaster")
        build = client.admin.command("buildInfo")
        told_version = parameter(client, "featureCompatibilityVersion")
        compatibility = told_version.get("version", "") if isinstance(told_version, dict) else ""
        return cls(
            tuple(build["versionArray"][:3]),
            str(build["version"]),
            str(compatibility),
            str(hello.get("setName", "")),
            hello.get("msg") == "isdbgrid",
            bool(hello.get("ismaster", hello.get("isWritablePrimary"))),
        )

    @property
    def snapshots(self) -> bool:
        """Whether a session can read everything as it was at one instant."""
        return bool(self.replica_set) and self.version >= SNAPSHOTS_SINCE


def parameter(client: Any, name: str) -> Any:
    """Return a server parameter; None where it is not known or not told to this user."""
    from pymongo.errors import OperationFailure

    try:
        return client.admin.command({"getParameter": 1, name: 1}).get(name)
    except OperationFailure:
        return None
