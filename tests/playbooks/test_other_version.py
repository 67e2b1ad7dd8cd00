# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debian 12's Postgres 15 held comes back on another host in Debian 13's 17, from store and kit alone."""

import json
import subprocess
from pathlib import Path

from tools.lab import hosts

PROGRAM = "PYTHONPATH=/restaura/src PYTHONDONTWRITEBYTECODE=1 python3 -m restaura"
DECLARATION = {
    "settings": {"host": "old"},
    "stores": [{"name": "plain", "type": "dated", "location": "/root/store"}],
    "plans": [{"name": "daily"}],
    "components": {"postgres": [{"name": "postgres"}]},
}
# Every table's rows by Postgres itself, and the roles with their passwords.
DIGEST = r"""
ask() { runuser -u postgres -- psql -qXAt -v ON_ERROR_STOP=1 "$@"; }
ask -c "select rolname, rolcanlogin, rolconnlimit, rolvaliduntil, rolpassword from pg_authid
  where rolname !~ '^pg_' order by 1"
ask -0 -c "select datname from pg_database where datallowconn and datname !~ '^(template|restaura_)' order by 1" |
while read -r -d '' db; do
  echo "database $db"
  ask -d "$db" <<'SQL'
set timezone = 'UTC';
select format('select %L, count(*), md5(string_agg(t::text, E''\n'' order by t::text collate "C")) from only %I.%I t',
  c.relname, n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and n.nspname !~ '^(pg_|information_schema)' order by n.nspname, c.relname
\gexec
select oid, md5(lo_get(oid)) from pg_largeobject_metadata order by 1;
select polname, pg_get_expr(polqual, polrelid) from pg_policy order by 1;
SQL
done
"""


def shell(host: hosts.Host, script: str, stdin: bytes = b"") -> bytes:
    command = ["docker", "exec", "-i", host.container, "bash", "-c", f"set -euo pipefail\n{script}"]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, f"{done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout


def test_postgres_15_comes_back_in_postgres_17(project: Path, tmp_path: Path) -> None:
    made = []
    try:
        for name, image in (("version-15", "debian12"), ("version-17", "debian13")):
            made.append(hosts.create(name, image, mounts=[f"{project}:/restaura:ro"]))
        old, new = made
        for host in made:
            shell(host, "systemctl start postgresql; install -d -o postgres -g postgres /var/lib/postgresql/fast")
        seed = (project / "tests/integration/seed.sql").read_bytes()
        shell(old, "runuser -u postgres -- psql -qX -v tablespace=/var/lib/postgresql/fast -f -", seed)
        shell(old, f"{PROGRAM} configure", json.dumps(DECLARATION).encode())
        shell(old, f"{PROGRAM} run daily")
        wanted = shell(old, DIGEST)
        assert wanted.count(b"database") >= 3
        shell(new, "cat > /root/old.kit", shell(old, f"{PROGRAM} keys kit"))
        shell(new, "tar -C /root -xf -", shell(old, "tar -C /root -cf - store"))
        hosts.destroy("version-15")
        told = shell(new, f"{PROGRAM} restore --store /root/store --kit /root/old.kit --host old --yes").decode()
        assert "equal" in told
        assert shell(new, DIGEST).decode().splitlines() == wanted.decode().splitlines()
        assert shell(new, "runuser -u postgres -- psql -XAtc 'show server_version_num'").startswith(b"17")
    finally:
        for name in ("version-15", "version-17"):
            hosts.destroy(name)
