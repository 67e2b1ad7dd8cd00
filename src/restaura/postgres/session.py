# SPDX-License-Identifier: GPL-3.0-or-later
"""An SQL session: a psql that stays, so that it works wherever a client program runs and needs no Python driver."""

import contextlib
import json
import secrets
from typing import Any, Self

from restaura.errors import SourceError
from restaura.postgres.server import Server

# Everything that changes how a value is written as text, or lets a session see less or end early.
PINNED = {
    "standard_conforming_strings": "on",
    "client_min_messages": "error",
    "search_path": "",
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "synchronize_seqscans": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
PINNED_SINCE = {14: "idle_session_timeout", 17: "transaction_timeout"}


class SqlError(SourceError):
    """A statement failed. `code` is its SQLSTATE."""

    def __init__(self, what: str, code: str, *, where: str) -> None:
        super().__init__(what, where=where)
        self.code = code


class Session:
    """A connection to one database. One statement at a time, from one thread."""

    def __init__(self, server: Server, database: str) -> None:
        """Connect; SourceError says why it could not."""
        self.server = server
        self.database = database
        self.where = f"{server.where}, database {database!r}"
        self._mark = secrets.token_hex(16)
        self._psql = server.start(server.program("psql"), ["-X", "-A", "-t", "-q", "-w"], database=database, stdin=True)
        try:
            self.version = int(self.value("SELECT pg_catalog.current_setting('server_version_num')"))
            pinned = PINNED | {name: "0" for major, name in PINNED_SINCE.items() if self.major >= major}
            pairs = (f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in pinned.items())
            self.execute(f"SELECT {', '.join(pairs)}")
        except BaseException:
            self.close()
            raise

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.version // 10000

    def execute(self, sql: str) -> list[str]:
        """Run statements and return their output lines; SqlError for one that fails, SourceError when psql ended.

        `sql` is ours: values and names in it are quoted, so that psql finds no command of its own in them. The error
        state is that of the last statement, so statements that may fail are given one by one.
        """
        mark = self._mark
        script = f"{sql}\n;\n\\echo '\\n'{mark} :ERROR :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo {mark}\n"
        try:
            self._psql.stdin.write(script.encode(errors="surrogateescape"))
            self._psql.stdin.flush()
        except OSError:
            raise self._ended() from None
        lines = self._until(f"{mark} ")
        failed, code = lines.pop().split()[1:3]
        message = "\n".join(self._until(mark)[:-1])
        if failed == "true":
            raise SqlError(message, code, where=self.where)
        return [line for line in lines if line]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Run one query and return its rows; each is one line of JSON, whatever it holds."""
        lines = self.execute(f"SELECT pg_catalog.row_to_json(q)::text FROM ({query}) AS q")
        return [json.loads(line) for line in lines]

    def value(self, query: str) -> str:
        """Run a query for one value that is a plain word or number."""
        return "".join(self.execute(query))

    def kill(self) -> None:
        """End the session from another thread."""
        self._psql.kill()

    def close(self) -> None:
        """End the session, and with it its transaction."""
        self._psql.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until(self, start: str) -> list[str]:
        """Return the lines up to and with the one that begins with `start`."""
        lines = []
        while True:
            raw = self._psql.stdout.readline()
            if not raw:
                raise self._ended()
            line = raw.decode(errors="surrogateescape").removesuffix("\n")
            lines.append(line)
            if line.startswith(start):
                return lines

    def _ended(self) -> SourceError:
        with contextlib.suppress(Exception):
            self._psql.wait(10)
        said = self._psql.errors().removeprefix("psql: error: ")
        return SourceError(said or "the session ended", where=self.where, fix=_fix(self.server, said))


def _fix(server: Server, said: str) -> str:
    if "password" in said or "authentication failed" in said:
        return f"check user and password of component {server.component}, and pg_hba.conf"
    if server.container:
        return f"docker start {server.container}"
    return "pg_lsclusters; systemctl status postgresql"


def entrance(server: Server) -> str:
    """Return a database through which the server can be entered before anything of ours is there."""
    try:
        with Session(server, "postgres"):
            return "postgres"
    except SourceError:
        with Session(server, "template1"):
            return "template1"
