# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Postgres clusters for tests: made by Debian's tools, seeded, and digested by pg_dump and pg_dumpall alone."""

import hashlib
import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from restaura.config.schema import Config, Settings
from restaura.host import Host
from restaura.paths import Paths
from restaura.sources.postgres import Postgres, PostgresComponent

SEED = Path(__file__).parent / "integration/seed.sql"
SHOP = 'Shop "of" $(touch /tmp/restaura-owned) -d\'x'
ORDERS = '"Sch ema"."Ord""ers $(id)\nx"'


def run(*argv: str, env: Mapping[str, str] | None = None, stdin: str = "", check: bool = True) -> str:
    """Run a program from / and return what it says."""
    done = subprocess.run(  # noqa: PLW1510
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
    )
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


class Cluster:
    """One cluster of this host, `version/name`."""

    def __init__(self, port: int, name: str = "restauratest") -> None:
        installed = [int(one.name) for one in Path("/usr/lib/postgresql").iterdir() if (one / "bin/initdb").exists()]
        self.major, self.port, self.name = max(installed), port, name
        self.spaces = Path(f"/var/lib/postgresql/{name}-spaces")

    @property
    def cluster(self) -> str:
        return f"{self.major}/{self.name}"

    def create(self) -> None:
        """Make an empty cluster, in place of one that a broken test left, and start it."""
        self.destroy()
        run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "0700", str(self.spaces))
        run("pg_createcluster", str(self.major), self.name, "-p", str(self.port), "--", "--locale=C.UTF-8")
        for key, value in {"shared_preload_libraries": "pg_cron", "fsync": "off"}.items():
            run("pg_conftool", str(self.major), self.name, "set", key, value)
        self.start()

    def start(self) -> None:
        run("pg_ctlcluster", str(self.major), self.name, "start")

    def stop(self) -> None:
        run("pg_ctlcluster", str(self.major), self.name, "stop", "-m", "fast")

    def destroy(self) -> None:
        run("pg_dropcluster", "--stop", str(self.major), self.name, check=False)
        run("rm", "-rf", str(self.spaces))

    def program(self, *argv: str, database: str = "postgres", stdin: str = "", check: bool = True) -> str:
        """Run a client program as the account postgres."""
        env = {"PGPORT": str(self.port), "PGDATABASE": database, "PGHOST": "/var/run/postgresql"}
        return run(
            "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *argv, env=env, stdin=stdin, check=check
        )

    def sql(self, statement: str, database: str = "postgres") -> str:
        return self.program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", database=database, stdin=statement).strip()

    def seed(self) -> None:
        """Fill it with everything that the source promises to bring back."""
        self.program("psql", "-Xq", "-v", f"tablespace={self.spaces}", "-f", "-", stdin=SEED.read_text())
        self.sql("CREATE EXTENSION pg_cron; SELECT cron.schedule('0 0 1 1 *', 'SELECT 1')")

    def databases(self) -> list[str]:
        rows = self.sql("SELECT to_json(datname) FROM pg_database WHERE datname <> 'template0'").splitlines()
        return sorted(json.loads(row) for row in rows)

    def digests(self) -> dict[str, str]:
        return digests({"PGPORT": str(self.port), "PGHOST": "/var/run/postgresql"}, account="postgres")


def digests(env: Mapping[str, str], account: str = "") -> dict[str, str]:
    """Digest roles and every database of a server, by the lines of pg_dumpall and pg_dump in sorted order."""
    become = ("setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups") if account else ()

    def client(*argv: str, database: str = "postgres") -> str:
        return run(*become, *argv, env={**env, "PGDATABASE": database, "PGUSER": "postgres"})

    names = [json.loads(row) for row in client("psql", "-XAtqc", _LISTED).splitlines()]
    found = {"roles": _lines(client("pg_dumpall", "--roles-only"))}
    for name in names:
        shown = name.replace('"', '""')
        allowed = client("psql", "-XAtqc", f"SELECT datallowconn FROM pg_database WHERE datname = $x${name}$x$").strip()
        for state in ("true", "false"):
            if allowed == "f":
                client("psql", "-Xqc", f'ALTER DATABASE "{shown}" ALLOW_CONNECTIONS {state}')
            if state == "true":
                text = client("pg_dump", "--create", "--inserts", "--rows-per-insert=1", database=name)
        found[name] = allowed + _lines(text)
    return found


_LISTED = "SELECT to_json(datname) FROM pg_database WHERE datname <> 'template0' AND datname !~ '^restaura_'"


def _lines(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--")))
    # pg_dump lists a policy's roles as they happen to lie in pg_authid.
    even = sorted(" ".join(sorted(re.split("[ ,]+", one))) if one.startswith("CREATE POLICY") else one for one in lines)
    return hashlib.sha256("\n".join(even).encode(errors="surrogateescape")).hexdigest()


def make_host(root: Path) -> Host:
    return Host(Paths(root), Config(Settings(host="h")))


def source(place: Host, cluster: str = "", **options: object) -> Postgres:
    settings: dict[str, object] = {"name": "db", "cluster": cluster, **options}
    return Postgres(PostgresComponent(**settings), place)  # type: ignore[arg-type]


@contextmanager
def scratch_root() -> Iterator[Path]:
    """A root below which throw-away servers can be entered: pytest's own temporary folders are closed to others."""
    root = Path(f"/var/tmp/restaura-test-{secrets.token_hex(4)}")
    root.mkdir(mode=0o755)
    try:
        yield root
    finally:
        run("rm", "-rf", str(root))


def recover(host: Host) -> list[str]:
    """Take back the debts of dead processes, as `restaura recover` does; return their acts."""
    acts = []
    for debt in reversed(host.journal.open_debts()):
        if not debt.process.alive:
            if debt.owner == "source:postgres":
                Postgres.take_back(debt.act, debt.data)
                Postgres.take_back(debt.act, debt.data)
                acts.append(debt.act)
            host.journal.settle(debt)
    return acts


def wait_until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
