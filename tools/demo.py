# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a host is lost and comes back.

A disposable host is set up, filled, backed up by its cron line and destroyed. A second one, which has only the store
and the recovery kit, restores it; its data is compared with what the systems' own clients said before.
"""

import configparser
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tools.lab import daemon, hosts, images, s3
from tools.lab.common import ROOT, LabError

WORK = ROOT / ".cache/demo"
HOST, SECOND = "demo", "demo-second"
BUCKET = "demo"
CRON_LINE = ROOT / "molecule/resources/cron_line.py"

SEED = r"""
set -eu
mkdir -p /srv/shop/uploads
i=0; while [ $i -lt 200 ]; do head -c 20000 /dev/urandom > "/srv/shop/uploads/photo $i.jpg"; i=$((i + 1)); done
ln "/srv/shop/uploads/photo 0.jpg" /srv/shop/uploads/cover.jpg
printf 'name' > "$(printf '/srv/shop/uploads/n\303o-utf8-\351')"
setfacl -m u:www-data:r /srv/shop/uploads/cover.jpg
chown -R www-data:www-data /srv/shop
sqlite3 /srv/shop/orders.db "create table orders(id integer primary key, total real);
  insert into orders(total) select random() from generate_series(1, 5000);"
runuser -u postgres -- createdb shop
runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 shop <<'SQL'
create role clerk login password 'not a real one';
create table customer(id bigint generated always as identity primary key, name text, born date, photo bytea);
insert into customer(name, born, photo)
  select 'customer ' || n, date '1970-01-01' + n, sha256(n::text::bytea) from generate_series(1, 20000) n;
alter table customer enable row level security;
create policy own on customer using (name = current_user);
grant select on customer to clerk;
SQL
"""

DIGEST = r"""
set -eu
cd /srv/shop
find . ! -name 'orders.db*' -printf '%P|%y|%m|%u|%g|%n|%l\n' | LC_ALL=C sort | sha256sum
find . -type f ! -name 'orders.db*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
getfacl -Rp . | sha256sum
sqlite3 orders.db .dump | sha256sum
cd /
ask() { runuser -u postgres -- psql -qXAt -v ON_ERROR_STOP=1 shop -c "$1" | sha256sum; }
ask "copy (select * from customer order by id) to stdout"
ask "select polname, relrowsecurity, relacl from pg_policy p join pg_class c on c.oid = polrelid"
ask "select rolname, rolcanlogin, rolpassword from pg_authid where rolname = 'clerk'"
"""


def main() -> int:
    """Run the demo; 0 when the second host's data is equal."""
    try:
        daemon.up()
        images.up()
        return _demo()
    except (LabError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        for name in (HOST, SECOND):
            hosts.destroy(name)


def _demo() -> int:
    shutil.rmtree(WORK, ignore_errors=True)
    inventory = WORK / "inventory"
    inventory.mkdir(mode=0o700, parents=True)
    _say("a fresh host, and an S3 server")
    server, host = s3.up(), hosts.create(HOST)
    profile = configparser.ConfigParser()
    profile.read(server.credentials)
    location = f"s3:{server.endpoint}/{BUCKET}-{int(time.time())}"
    variables = {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": host.key,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -o StrictHostKeyChecking=yes",
        "backup_runtime_stores": [
            {"name": "local", "location": "/var/backups/restaura"},
            {
                "name": "bucket",
                "location": location,
                "s3_access_key": profile["default"]["aws_access_key_id"],
                "s3_secret_key": profile["default"]["aws_secret_access_key"],
            },
        ],
        "backup_runtime_first_run": False,
        "backup_files_components": [{"name": "shop", "paths": ["/srv/shop"]}],
        "backup_postgres_components": [{"name": "postgres"}],
    }
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {HOST: variables}}}))
    (inventory / "hosts.yml").chmod(0o600)
    _say("data: files with every oddity, a SQLite database, a Postgres database")
    _shell(HOST, SEED)
    _say("ansible-playbook setup_backup.yml")
    _playbook(inventory)
    before = _shell(HOST, DIGEST)
    _say("the line that cron runs")
    script = CRON_LINE.read_text()
    subprocess.run(
        ["docker", "exec", "-i", host.container, "python3", "-", "/etc/cron.d/restaura"],
        input=script,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    _say("the host is destroyed; a second one has the program from the bucket, and the kit")
    hosts.destroy(HOST)
    second = hosts.create(SECOND)
    _take_program(location, profile, second.container)
    kit = inventory / "recovery_kits" / f"{HOST}.kit"
    subprocess.run(["docker", "cp", "--quiet", str(kit), f"{second.container}:/root/{HOST}.kit"], check=True)
    restore = f"python3 /root/restaura.pyz restore --store '{location}' --kit /root/{HOST}.kit --host {HOST}"
    _say(restore.replace("/root/", "") + " --yes")
    print(_shell(SECOND, f"{restore} --yes"))
    after = _shell(SECOND, DIGEST)
    equal = before == after
    _say("equal, by the systems' own clients" if equal else f"NOT EQUAL\nbefore:\n{before}\nafter:\n{after}")
    return 0 if equal else 1


def _playbook(inventory: Path) -> None:
    done = subprocess.run(
        [ROOT / ".venv/bin/ansible-playbook", "-i", inventory, "setup_backup.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(
            f"setup_backup.yml ended with exit code {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
        )


def _take_program(location: str, profile: configparser.ConfigParser, container: str) -> None:
    """Fetch the program from the bucket's root as a person would, with any S3 client."""
    import boto3

    endpoint, _, bucket = location.removeprefix("s3:").rpartition("/")
    keys = profile["default"]
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys["aws_access_key_id"],
        aws_secret_access_key=keys["aws_secret_access_key"],
    )
    program = WORK / "restaura.pyz"
    client.download_file(bucket, "restaura.pyz", str(program))
    subprocess.run(["docker", "cp", "--quiet", str(program), f"{container}:/root/restaura.pyz"], check=True)


def _shell(name: str, script: str) -> str:
    done = subprocess.run(
        ["docker", "exec", "-i", hosts.container_of(name), "/bin/sh"],
        input=script,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"a script failed on {name}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    return done.stdout.strip()


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
