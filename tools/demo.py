# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a host is backed up by its cron line and destroyed; another becomes it, from store and kit alone."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import boto3

from tools.lab import daemon, hosts, s3
from tools.lab.common import ROOT, LabError, run

T = TypeVar("T")
FOLDER = ROOT / ".cache/demo"
FIRST, SECOND = "demo-first", "demo-second"
SEED = r"""set -eu
mkdir -p /srv/shop/uploads
head -c 5000000 /dev/urandom > /srv/shop/uploads/photo.bin
for n in $(seq 500); do echo "order $n" > "/srv/shop/uploads/order $n.txt"; done
ln /srv/shop/uploads/photo.bin /srv/shop/hard-link; ln -s uploads/photo.bin /srv/shop/link
truncate -s 50M /srv/shop/sparse; chown -R www-data: /srv/shop/uploads; setfacl -m u:nobody:r /srv/shop/link
sqlite3 /srv/shop/sessions.db 'create table s(id integer primary key, v text); insert into s(v) values (1),(2)'
su postgres -c psql >/dev/null <<'SQL'
create role shop login password 'not a secret';
create database shop owner shop;
\c shop
create table orders(id int primary key, what text, price numeric);
insert into orders select n, 'thing ' || n, n * 1.5 from generate_series(1, 20000) n;
alter table orders owner to shop;
SQL
"""
# With the systems' own clients, on both hosts alike.
DIGESTS = {
    "files": r"""cd /srv/shop && { find . -printf '%p %y %m %u %g %n %l\n' | sort; getfacl -R . | sort
find . -type f ! -name '*.db' -exec sha256sum {} + | sort; sqlite3 sessions.db .dump; } | sha256sum""",
    "postgres": r"""su postgres -c "psql -d shop -Atc 'select o::text from orders o order by id' \
-c '\d orders' -c 'select rolname, rolpassword from pg_authid order by 1'" | sha256sum""",
}
# Debian's server is in the image, and off.
POSTGRES = "systemctl enable -q --now postgresql && until su postgres -c 'psql -qc select' ; do sleep 0.2; done"


def main() -> int:
    """Play the demo; return 0 when the second host holds what the first one held."""
    try:
        equal = demo()
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0 if equal else 1


def demo() -> bool:
    """Do it, telling each step and its time; return whether all digests are equal. Both hosts are gone afterwards."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    daemon.up()
    try:
        store = _bucket()
        first = _step("a host is made", lambda: hosts.create(FIRST))
        _sh(first, f"mkdir -p /srv/shop; {POSTGRES}")
        inventory = _inventory(first, store)
        _step("setup_backup.yml protects it", lambda: _playbook(inventory))
        _sh(first, SEED)
        before = {name: _sh(first, script) for name, script in DIGESTS.items()}
        cron_line = (ROOT / "molecule/resources/cron_line.py").read_text(encoding="utf-8")
        _step(
            "its cron line backs it up",
            lambda: _sh(first, f"python3 - /etc/cron.d/restaura <<'EOF'\n{cron_line}\nEOF\n"),
        )
        kit = FOLDER / "recovery_kits" / f"{FIRST}.kit"
        _step("it is destroyed", lambda: hosts.destroy(FIRST))

        second = _step("a clean host is made", lambda: hosts.create(SECOND))
        _sh(second, POSTGRES)
        program = FOLDER / "restaura.pyz"
        store.client.download_file(store.bucket, f"{FIRST}/restaura.pyz", str(program))
        for path in (program, kit):
            run("docker", "cp", str(path), f"{second.container}:/root/{path.name}")
        command = (
            f"cd /root && python3 restaura.pyz restore --store {store.location} --kit {kit.name} --host {FIRST} --yes"
        )
        print(_step("it is restored from store and kit", lambda: _sh(second, command)))
        after = {name: _sh(second, script) for name, script in DIGESTS.items()}
    finally:
        hosts.destroy(FIRST)
        hosts.destroy(SECOND)
    for name, digest in before.items():
        print(f"{name:<10} {digest[:16]} {after[name][:16]} {'equal' if after[name] == digest else 'DIFFERENT'}")
    return before == after


class _Store:
    """The demo's bucket on the lab's S3 server."""

    def __init__(self, server: s3.Server) -> None:
        keys = configparser.ConfigParser()
        keys.read(server.credentials)
        self.access_key = keys["default"]["aws_access_key_id"]
        self.secret_key = keys["default"]["aws_secret_access_key"]
        self.bucket = f"demo-{uuid.uuid4().hex[:8]}"
        self.location = f"s3:{server.endpoint}/{self.bucket}/{FIRST}"
        self.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        self.client.create_bucket(Bucket=self.bucket)


def _bucket() -> _Store:
    return _Store(_step("an S3 server runs", s3.up))


def _inventory(host: hosts.Host, store: _Store) -> Path:
    """Write the inventory that a user would have; the keys' file is readable by its owner alone."""
    reached = {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": host.key,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -o StrictHostKeyChecking=yes",
    }
    settings = {
        "backup_runtime_stores": [
            {
                "name": "offsite",
                "type": "restic",
                "location": store.location,
                "s3_access_key": store.access_key,
                "s3_secret_key": store.secret_key,
            }
        ],
        "backup_runtime_plans": [{"name": "nightly", "schedule": "02:30"}],
        "backup_files_components": [{"name": "shop", "paths": ["/srv/shop"]}],
        "backup_postgres_components": [{"name": "postgres"}],
    }
    folder = FOLDER / "inventory"
    folder.mkdir()
    # JSON is YAML.
    text = json.dumps({"all": {"hosts": {FIRST: reached}, "vars": settings}}, indent=2)
    with os.fdopen(os.open(folder / "hosts.yml", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as handle:
        handle.write(text)
    return folder


def _playbook(inventory: Path) -> str:
    return run(str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(inventory), "setup_backup.yml", cwd=ROOT)


def _sh(host: hosts.Host, script: str) -> str:
    """Run a script in a host; return what it printed. Raises LabError with its end when it fails."""
    return run("docker", "exec", "-i", host.container, "/bin/sh", stdin=script)


def _step(what: str, act: Callable[[], T]) -> T:
    began = time.monotonic()
    print(f"{what} … ", end="", flush=True)
    result = act()
    print(f"{time.monotonic() - began:.1f} s", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
