# SPDX-License-Identifier: GPL-3.0-or-later
"""A VPS as an audit found it: dumped by an old cron script, its volumes by nobody. Protected, destroyed, and back."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks.runs import Site, ssh
from tools.lab import hosts

pytestmark = pytest.mark.timeout(1500)

APPLICATIONS = Path(__file__).parents[1] / "applications" / "renum_suna"
DATABASE = r"""set -eu
systemctl start postgresql cron docker
until su postgres -c 'psql -qc "select"'; do sleep 0.2; done
su postgres -c 'psql -q' << 'SQL'
create role renum login password 'renum-senha-antiga';
create database renum owner renum;
\c renum
create table customers(id int primary key, name text, since timestamptz);
insert into customers select n, 'customer ' || n, '2025-01-01'::timestamptz + n * interval '1 hour'
    from generate_series(1, 3000) n;
alter table customers owner to renum;
SQL
"""
# As the seed's scripts are found on such a server: nobody ever restored from what they write.
OLD_CRON = r"""set -eu
install -D /var/tmp/applications/backup_database.sh /opt/scripts/backup_database.sh
echo '0 2 * * * root /opt/scripts/backup_database.sh > /dev/null 2>&1' > /etc/cron.d/backup_database
/opt/scripts/backup_database.sh
"""
PROJECTS = r"""set -eu
sh /var/tmp/applications/image.sh
for project in renum suna; do
    mkdir -p /opt/$project
    cp -n /var/tmp/applications/$project/* /opt/$project/
done
mkdir -p /opt/suna/workspace
[ -e /opt/renum/.env ] || echo 'RENUM_KEY=renum-chave-secreta' > /opt/renum/.env
"""
UP = "for project in renum suna; do (cd /opt/$project && docker-compose up -d) 2>&1; done"
VOLUMES = "/var/lib/docker/volumes"
RENUM = f"python3 /opt/renum/renum.py check {VOLUMES}/renum_data/_data {VOLUMES}/renum_uploads/_data"
SUNA = f"python3 /opt/suna/suna.py check {VOLUMES}/suna_memory/_data /opt/suna/workspace"
ORDERS = f"cat {VOLUMES}/renum_data/_data/orders.jsonl"
ROWS = (
    "su postgres -c \"psql -d renum -Atc 'select c::text from customers c order by id' -c '\\d customers' "
    "-c 'select rolname, rolpassword from pg_authid where rolname = \\$\\$renum\\$\\$'\" | sha256sum"
)
WAIT = "for port in 8000 8001; do for _ in $(seq 100); do curl -sf localhost:$port && break; sleep 0.2; done; done"


def declared(project: Path, bucket: Any) -> dict[str, Any]:
    """Return what the inventory declares, its bucket and keys those of the lab."""
    found: dict[str, Any] = yaml.safe_load((project / "inventories/renum_suna/group_vars/all/backup.yml").read_text())
    found["backup_runtime_stores"][1].update(location=f"{bucket.place}/vps", **bucket.keys)
    return {**found, "vault_heartbeat_url": "http://127.0.0.1:9/ping"}


def host_with_projects(make_host: Callable[..., hosts.Host], name: str) -> hosts.Host:
    host = make_host(name, "debian13")
    subprocess.run(["docker", "cp", str(APPLICATIONS), f"{host.container}:/var/tmp/applications"], check=True)
    return host


def audited(host: hosts.Host) -> dict[str, Any]:
    """Return what `restaura audit` says of a host."""
    answer: dict[str, Any] = json.loads(ssh(host, "restaura audit --json --fail-on never"))
    return answer


def test_what_the_audit_found_is_protected_and_comes_back(
    tmp_path: Path, project: Path, make_host: Callable[..., hosts.Host], bucket: Any
) -> None:
    old = host_with_projects(make_host, "renum-suna")
    ssh(old, DATABASE)
    ssh(old, OLD_CRON)
    ssh(old, f"{PROJECTS}\n{UP}\n{WAIT}")
    site = Site(tmp_path, project, declared(project, bucket))
    site.add(old)

    looked = site.play("audit_backup.yml")
    assert "WARNING" in looked.text
    for said in ("Cron", "renum_uploads", "suna_memory"):
        assert said in looked.text
    assert "renum-senha-antiga" not in looked.text
    assert "renum-chave-secreta" not in looked.text

    done = site.play("setup_backup.yml")
    assert done.status == "successful", done.text[-5000:]
    ssh(old, "rm /etc/cron.d/backup_database /opt/scripts/backup_database.sh; rm -r /var/backups/postgres")
    kit = site.folder / "recovery_kits" / f"{old.name}.kit"
    subprocess.run(["docker", "cp", str(kit), f"{old.container}:/root/old.kit"], check=True)
    ssh(old, "restaura keys confirm --kit /root/old.kit && rm /root/old.kit")
    assert audited(old)["status"] == "OK", json.dumps(audited(old)["problems"], indent=1)

    assert "databases" in (crontab := ssh(old, "cat /etc/cron.d/restaura"))
    assert "volumes" in crontab
    subprocess.run(
        ["docker", "cp", str(project / "molecule/resources/cron_line.py"), f"{old.container}:/var/tmp/"], check=True
    )
    ssh(old, "python3 /var/tmp/cron_line.py /etc/cron.d/restaura")
    assert ssh(old, "docker ps -q | wc -l") == "4\n"
    ssh(old, "backup_volumes.sh")
    rows, orders = ssh(old, ROWS), ssh(old, ORDERS).splitlines()
    remembered = json.loads(ssh(old, "curl -s localhost:8001"))["said"]
    hosts.destroy(old.name)

    new = host_with_projects(make_host, "renum-suna-new")
    ssh(new, "systemctl start docker postgresql; sh /var/tmp/applications/image.sh")
    subprocess.run(["docker", "cp", str(kit), f"{new.container}:/root/old.kit"], check=True)
    bucket.Object("vps/restaura.pyz").download_file(str(tmp_path / "restaura"))
    subprocess.run(["docker", "cp", str(tmp_path / "restaura"), f"{new.container}:/usr/local/bin/"], check=True)
    store = f"{bucket.place}/vps"
    names = " ".join(f"--component {name}" for name in ("postgres", "renum", "suna"))
    restore = f"restaura restore --store {store} --kit /root/old.kit --host {old.name}"
    told = ssh(new, f"chmod +x /usr/local/bin/restaura; {restore} {names} --yes")
    assert told.count("equal") == 3, told

    assert ssh(new, ROWS) == rows
    renum, suna = json.loads(ssh(new, RENUM)), json.loads(ssh(new, SUNA))
    kept = ssh(new, ORDERS).splitlines()
    assert 0 < len(kept) == renum["orders"] <= len(orders)
    assert kept == orders[: len(kept)]
    assert 0 < suna["said"] <= remembered
    assert ssh(new, "cat /opt/renum/.env") == "RENUM_KEY=renum-chave-secreta\n"

    started = ssh(new, f"{UP}\n{WAIT}")
    assert "already exists" not in started, started
    assert json.loads(ssh(new, "curl -s localhost:8000"))["orders"] >= renum["orders"]
    assert json.loads(ssh(new, "curl -s localhost:8001"))["said"] >= suna["said"]
    assert ssh(new, ORDERS).splitlines()[: len(kept)] == kept
