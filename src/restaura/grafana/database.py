# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of Grafana's SQLite database: whether it is whole, its fingerprint, its migrations, and its dashboards."""

import contextlib
import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restaura.errors import SourceError
from restaura.grafana.encryption import ElsewhereError, Opener, SealedError
from restaura.point import Depth
from restaura.sqlite import COMPANIONS

# What Grafana itself writes all the time: sessions, caches, locks, and the states that alerts are in just now.
VOLATILE = ("alert_instance", "cache_data", "login_attempt", "server_lock", "session", "user_auth_token")
VOLATILE_COLUMNS = {"user": ("last_seen_at",), "api_key": ("last_used_at",)}
# What has a name of its own in the fingerprint: table, and the column that names a row.
NAMED = {
    "alert_rule": "uid",
    "dashboard": "uid",
    "data_source": "uid",
    "folder": "uid",
    "library_element": "uid",
    "org": "name",
    "plugin_setting": "plugin_id",
    "user": "login",
}
_BITS = 256


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a database that nobody writes to; it is read as it lies there. SourceError when it is damaged."""
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        yield database
    except sqlite3.DatabaseError as error:
        raise SourceError(f"SQLite: {error}", where=str(path)) from error
    finally:
        database.close()


def size(path: Path) -> int:
    """Return the bytes of a database and of what is beside it."""
    there = (path.with_name(path.name + one) for one in ("", *COMPANIONS))
    return sum(one.stat().st_size for one in there if one.exists())


def check(path: Path) -> None:
    """Raise SourceError unless the database passes SQLite's integrity check, and is Grafana's."""
    with opened(path) as database:
        found = [str(row[0]) for row in database.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            raise SourceError(f"SQLite's integrity_check says: {'; '.join(found)}", where=str(path))
        if not migrations(database):
            raise SourceError("is no database of Grafana's: it has no migration_log", where=str(path))


def migrations(database: sqlite3.Connection) -> set[str]:
    """Return the names of the migrations that were applied: a newer Grafana applies more."""
    with contextlib.suppress(sqlite3.OperationalError):
        return {str(row[0]) for row in database.execute("SELECT migration_id FROM migration_log WHERE success")}
    return set()


def dashboards(database: sqlite3.Connection) -> Iterator[tuple[str, Any]]:
    """Yield the dashboards of all organisations: a name (the uid, after `ORG-` but in the first), and the model."""
    query = "SELECT org_id, uid, data FROM dashboard WHERE NOT is_folder ORDER BY org_id, uid"
    for org, uid, data in database.execute(query):
        yield (str(uid) if org == 1 else f"{org}-{uid}"), json.loads(data)


def fingerprint(path: Path, depth: Depth, salt: bytes) -> tuple[dict[str, str], dict[str, int]]:
    """Return one digest for every table or named row, keyed by `salt`, and the number of rows of each table.

    A table's digest is a sum of its rows' digests: their order does not matter, nor that of the columns.
    """
    parts, counts = {}, {}
    with opened(path) as database:
        database.text_factory = _Text
        defined = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
        parts["schema"] = keyed(salt, _row(row for one in database.execute(defined) for row in one))
        tables = [
            bytes(row[0]).decode() for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in sorted(tables):
            if table in VOLATILE or table.startswith("sqlite_"):
                continue
            quoted = _quoted(table)
            counts[f"table {table}"] = database.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608
            if depth == "content":
                parts |= _contents(database, table, salt)
    return parts, counts


def _contents(database: sqlite3.Connection, table: str, salt: bytes) -> dict[str, str]:
    left_out = VOLATILE_COLUMNS.get(table, ())
    there = [bytes(row[1]).decode() for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
    columns = sorted(one for one in there if one not in left_out)
    named = NAMED.get(table, "")
    label = [columns.index(one) for one in ("org_id", named) if one in columns] if named in columns else []
    listed = ", ".join(map(_quoted, columns))
    total, found = 0, {}
    for row in database.execute(f"SELECT {listed} FROM {_quoted(table)}"):  # noqa: S608
        digest = hmac.new(salt, _row(row), hashlib.sha256).digest()
        if label:
            name = "/".join(
                one.decode(errors="replace") if isinstance(one, bytes) else str(one)
                for one in map(row.__getitem__, label)
            )
            found[f"{table} {name}"] = digest.hex()
        total = (total + int.from_bytes(digest, "big")) % (1 << _BITS)
    return {f"table {table}": f"{total:064x}", **found}


def secrets(path: Path, secret_key: str, salt: bytes) -> tuple[dict[str, str], list[str]]:
    """Return a keyed digest of each secret in the database, opened, and the names of those that do not open.

    Of those names none is of a secret whose key is with a key management service.
    """
    parts, sealed = {}, []
    with opened(path) as database:
        opener = Opener(database, secret_key)
        for label, payload in opener.secrets():
            try:
                parts[f"opened {label}"] = keyed(salt, opener.open(payload).encode())
            except SealedError as error:
                parts[f"opened {label}"] = "does not open"
                if not isinstance(error, ElsewhereError):
                    sealed.append(label)
    return parts, sealed


def keyed(salt: bytes, data: bytes) -> str:
    """Return a digest that says nothing of `data` to who has not the point's own `salt`."""
    return hmac.new(salt, data, hashlib.sha256).hexdigest()


class _Text(bytes):
    """A value of type TEXT, whatever its bytes."""


def _row(values: Any) -> bytes:
    """Encode a row so that two rows are never the same bytes: type, length, value."""
    parts = []
    for value in values:
        kind = "t" if isinstance(value, _Text) else {int: "i", float: "f", bytes: "b"}.get(type(value), "n")
        body = bytes(value) if isinstance(value, bytes) else b"" if value is None else repr(value).encode()
        parts.append(f"{kind}{len(body)}:".encode() + body)
    return b"".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
