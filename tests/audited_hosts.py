# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts made up to be audited, each with what its audit must say. SECRETS stand wherever people put them."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from restaura.point import new_id
from tests.made_up_host import MadeUpHost

# No audit may ever show one of these.
SECRETS = (
    *("Hunter2-cron-env", "Tr0ub4dor-pgpass", "S3cr3tKey/wJalrXUtnFEMI", "b0rg-Passphrase!x", "R3stic-pw-9931"),
    *("mysql-Pw-77x", "AKIAIOSFODNN7EXAMPLE", "1234567:AAtelegramTOKENtokenTOKEN", "compose-Pw-55", "url-Pw-4242"),
    *("unit-Pw-313", "rclone-Pw-9z", "python-Pw-81q", "redis-Pw-616", "env-file-Pw-01"),
)
PGPASS, CRON, S3, BORG, RESTIC = SECRETS[1], SECRETS[0], SECRETS[2], SECRETS[3], SECRETS[4]
MYSQL, AWS, TELEGRAM, COMPOSE, URL = SECRETS[5:10]
UNIT, RCLONE, PYTHON, REDIS, ENV_FILE = SECRETS[10:]
GOOD_SCRIPT = "#!/bin/bash\nset -euo pipefail\n"
DAY = 1.0


@dataclass(frozen=True)
class Expected:
    """What an audit must say: its status, the codes of its problems, and codes that it must not name.

    `methods` are those it must have found, `protected` the holders that something must cover.
    """

    status: str
    problems: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    whole: bool = False  # no other problem than these


class AuditedHost(MadeUpHost):
    """A made-up host with crontabs, timers, scripts and copies."""

    def base(self, *, mail: bool = True) -> None:
        """What Debian brings: cron, its own jobs, accounts, a mailer."""
        self.put("/etc/hostname", "vps1\n")
        self.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nana:x:1000:1000::/home/ana:/bin/bash\n")
        self.put("/usr/sbin/cron")
        self.put("/etc/crontab", "SHELL=/bin/sh\n17 * * * * root cd / && run-parts --report /etc/cron.hourly\n")
        self.script("/etc/cron.daily/dpkg", "#!/bin/sh\n/usr/libexec/dpkg/dpkg-db-backup\n")
        self.script("/etc/cron.daily/logrotate", "#!/bin/sh\nlogrotate /etc/logrotate.conf\n")
        self.put("/usr/libexec/dpkg/dpkg-db-backup", "tar czf /var/backups/dpkg.tar.gz /var/lib/dpkg\n")
        if mail:
            self.put("/usr/sbin/sendmail")

    def script(self, path: str, text: str, mode: int = 0o755) -> None:
        self.put(path, text).chmod(mode)

    def timer(
        self, name: str, command: str, calendar: str, *, enabled: bool = True, unit: str = "", service: str = ""
    ) -> None:
        """Install a timer with its service."""
        folder = "/etc/systemd/system"
        self.put(
            f"{folder}/{name}.timer",
            f"[Timer]\nOnCalendar={calendar}\nPersistent=true\n[Install]\nWantedBy=timers.target\n",
        )
        self.put(
            f"{folder}/{name}.service", f"[Unit]\n{unit}\n[Service]\nType=oneshot\n{service}\nExecStart={command}\n"
        )
        if enabled:
            self.folder(f"{folder}/timers.target.wants")
            self.at(f"{folder}/timers.target.wants/{name}.timer").symlink_to(f"{folder}/{name}.timer")

    def copies(
        self,
        pattern: str,
        size: int = 40_000,
        count: int = 5,
        newest: float = 0.3,
        every: float = DAY,
        mode: int = 0o600,
    ) -> None:
        """Put copies, the newest so many days old; `pattern` has `%s` for the date."""
        for number in range(count):
            moment = datetime.now(UTC) - timedelta(days=newest + number * every)
            path = self.put(pattern % f"{moment:%Y-%m-%d}", b"x" * size)
            path.chmod(mode)
            os.utime(path, (moment.timestamp(), moment.timestamp()))

    def aged(self, path: str, text: str | bytes, days: float) -> None:
        """Put a file that was written so many days ago."""
        moment = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(self.put(path, text), (moment, moment))

    def postgres(self) -> None:
        """A Postgres cluster that runs."""
        self.cluster("17/main", "/var/lib/postgresql/17/main", "")
        self.process(7, "/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17/main")

    def recovery(self) -> None:
        """A runbook and a script that restores."""
        self.put(
            "/usr/local/share/RUNBOOK.md", ("# Recovery\nHow to restore a backup: run /usr/local/sbin/restore.sh\n")
        )
        restoring = 'restic restore latest --target /var/tmp/restored\nzcat "$1" | psql -d restored < /dev/stdin\n'
        text = GOOD_SCRIPT + restoring
        self.script("/usr/local/sbin/restore.sh", text)


def nothing(host: AuditedHost) -> None:
    host.base()


def data_only(host: AuditedHost) -> None:
    host.base()
    host.postgres()
    host.volume("shop_uploads")
    host.daemon_stopped()
    host.put("/srv/shop/app.py", "print()")


def only_cron(host: AuditedHost) -> None:
    host.base()
    host.postgres()
    host.put(
        "/etc/cron.d/pg",
        (f"PGPASSWORD={CRON}\n15 2 * * * postgres pg_dumpall -f /var/backups/pg/all-`date +\\%F`.sql\n"),
    )
    host.copies("/var/backups/pg/all-%s.sql")


def only_timers(host: AuditedHost) -> None:
    host.base(mail=False)
    host.postgres()
    text = f"{GOOD_SCRIPT}pg_dumpall | gzip > /var/backups/pg/all-$(date +%F).sql.gz\n"
    host.script("/usr/local/sbin/pg-backup", text)
    host.timer("pg-backup", "/usr/local/sbin/pg-backup", "*-*-* 02:30:00", service=f"Environment=PGPASSWORD={UNIT}")
    host.timer("old-backup", "/usr/local/sbin/old-backup", "daily", enabled=False)
    host.script("/usr/local/sbin/old-backup", f"{GOOD_SCRIPT}pg_dumpall -f /var/backups/old.sql\n")
    host.copies("/var/backups/pg/all-%s.sql.gz")


def restic_right(host: AuditedHost) -> None:
    host.base()
    host.postgres()
    host.put("/srv/shop/app.py", "print()")
    repository = "s3:https://s3.example.org/vps1"
    host.put(
        "/etc/backup/restic.env",
        f"RESTIC_REPOSITORY={repository}\nRESTIC_PASSWORD={RESTIC}\nAWS_SECRET_ACCESS_KEY={S3}\n",
    ).chmod(0o600)
    host.script(
        "/usr/local/sbin/backup",
        f"{GOOD_SCRIPT}. /etc/backup/restic.env\npg_dumpall -f /var/backups/pg/all-$(date +%F).sql\n"
        "restic backup /etc /srv /var/backups/pg --exclude /srv/cache\n",
        0o700,
    )
    host.timer("backup", "/usr/local/sbin/backup", "daily", unit="OnFailure=tell@%n.service")
    host.script(
        "/usr/local/sbin/try-restore",
        f"{GOOD_SCRIPT}. /etc/backup/restic.env\nrestic restore latest --target /var/tmp/r\npg_restore -d r x\n",
        0o700,
    )
    host.timer("try-restore", "/usr/local/sbin/try-restore", "weekly", unit="OnFailure=tell@%n.service")
    host.aged("/var/lib/systemd/timers/stamp-try-restore.timer", b"", 3)
    cache = f"/root/.cache/restic/{'0' * 64}/snapshots"
    for days in range(5):
        host.aged(f"{cache}/{days:02x}/{days:064x}", b"x", days + 0.3)
    host.copies("/var/backups/pg/all-%s.sql")
    host.recovery()


def borg_failing(host: AuditedHost) -> None:
    host.base()
    host.put("/srv/shop/app.py", "print()")
    script = (
        f"#!/bin/sh\nexport BORG_PASSPHRASE='{BORG}'\n"
        f"borg create --stats ssh://u@nas.example.org/./vps1::{{now}} /srv /etc\n"
    )
    host.script("/usr/local/sbin/borg.sh", script, 0o700)
    host.put("/var/spool/cron/crontabs/root", "0 3 * * * /usr/local/sbin/borg.sh >> /var/log/borg.log 2>&1\n").chmod(
        0o600
    )
    host.put(
        "/var/log/borg.log",
        (
            "Archive: ok\nRemote: ssh: connect to host nas.example.org port 22: Connection refused\n"
            "Connection closed by remote host\n"
        ),
    )
    month = datetime.now(UTC) - timedelta(days=31)
    for name, text in (
        ("location", "ssh://u@nas.example.org/./vps1"),
        ("key-type", "3"),
        ("manifest-timestamp", f"{month:%Y-%m-%dT%H:%M:%S.%f}"),
    ):
        host.put(f"/root/.config/borg/security/{'ab' * 32}/{name}", text)


def empty_dumps(host: AuditedHost) -> None:
    host.base()
    host.postgres()
    dump = "pg_dump -h localhost -U shop shop 2>/dev/null | gzip > /var/backups/db/shop-`date +%F`.sql.gz"
    text = f'#!/bin/sh\nexport PGPASSWORD="{PGPASS}"\n{dump}\n'
    host.script("/usr/local/bin/backup_db.sh", text)
    host.put("/etc/cron.d/backup-db", "30 1 * * * root /usr/local/bin/backup_db.sh >/dev/null 2>&1\n")
    host.copies("/var/backups/db/shop-%s.sql.gz", size=20, mode=0o644)


def same_disk(host: AuditedHost) -> None:
    host.base()
    host.put("/srv/shop/app.py", "print()")
    host.put("/var/lib/mysql/ibdata1", b"x" * 100)
    host.process(8, "/usr/sbin/mariadbd")
    text = (
        f"{GOOD_SCRIPT}mysqldump --all-databases -uroot -p{MYSQL} --result-file=/backups/mysql-$(date +%F).sql\n"
        "tar czf /backups/srv-$(date +%F).tgz -C / srv\n"
    )
    host.script("/etc/cron.daily/backup", text)
    host.copies("/backups/mysql-%s.sql")
    host.copies("/backups/srv-%s.tgz")
    host.recovery()


def odd_names(host: AuditedHost) -> None:
    host.base()
    host.postgres()
    host.put("/srv/a \x1b[31mb\n$(touch x)/app's.py", "print()")
    host.put("/srv/shop/ünïcode-\udcff/app.py", "print()")
    odd = "/opt/ba ckup;\n$(reboot)"
    host.script(f"{odd}/backup 'db'.sh", f'{GOOD_SCRIPT}pg_dumpall -f "/var/backups/pg/a\'b ;$(id).sql"\n')
    host.put(
        "/etc/cron.d/odd",
        (
            '0 4 * * * root sh "/opt/ba ckup;\n0 5 * * * root /usr/local/bin/backup-tool --all\n'
            "@daily root . /root/loop-backup.sh\n\"''$((`\n* * * *\n61 25 * * * root pg_dump x\n"
        ),
    )
    host.put("/usr/local/bin/backup-tool", b"\x7fELF\0\0\0\1binary").chmod(0o755)
    host.script(
        "/root/loop-backup.sh",
        "#!/bin/sh\n. /root/loop-backup.sh\nsh /root/loop-two.sh\npg_dump loop > /var/backups/loop.sql\n",
    )
    host.script("/root/loop-two.sh", "#!/bin/sh\n/root/loop-backup.sh\n")
    host.script("/etc/cron.daily/backup.sh", "#!/bin/sh\ntar czf /var/backups/x.tgz /srv\n")
    host.script("/etc/cron.weekly/backup-weekly", "#!/bin/sh\ntar czf /var/backups/y.tgz /srv\n", 0o644)
    host.put("/opt/app/compose.yml", "services: [\n  {{{ not yaml")
    host.put("/etc/borgmatic/config.yaml", "source_directories: [/srv\n: {")
    os.mkfifo(host.folder("/etc/cron.d") / "pipe")
    host.at("/etc/cron.d/gone").symlink_to("/nowhere")
    host.at("/etc/cron.d/round").symlink_to("/etc/cron.d/round")


def seed(host: AuditedHost) -> None:
    """Postgres dumped by an old cron script, and two Compose projects whose volumes nobody backs up."""
    host.base(mail=False)
    host.postgres()
    for project in ("renum", "suna"):
        volume = host.volume(f"{project}_data", Labels={"com.docker.compose.project": project})
        host.put(f"{volume}/state.json", "{}")
        host.container(
            f"{project}-app-1",
            f"{project}:latest",
            (f"{project}_data", "/data"),
            project=project,
            folder=f"/opt/{project}",
        )
        host.put(
            f"/opt/{project}/compose.yml",
            (
                f"services:\n  app:\n    image: {project}\n    environment:\n      API_TOKEN: {COMPOSE}\n"
                "    volumes: [data:/data]\nvolumes:\n  data:\n"
            ),
        )
    host.daemon_stopped()
    host.script(
        "/opt/scripts/backup_postgres.sh",
        (
            f"#!/bin/bash\nBACKUP_DIR=/var/backups/postgres\nexport PGPASSWORD='{PGPASS}'\n"
            "DATE=$(date +%Y%m%d)\nmkdir -p $BACKUP_DIR\n"
            "pg_dumpall -h localhost -U postgres | gzip > $BACKUP_DIR/all_$DATE.sql.gz\n"
            "find $BACKUP_DIR -mtime +7 -delete\n"
        ),
    )
    host.put(
        "/var/spool/cron/crontabs/root", "0 2 * * * /opt/scripts/backup_postgres.sh >> /var/log/backup.log 2>&1\n"
    ).chmod(0o600)
    host.copies("/var/backups/postgres/all_%s.sql.gz", mode=0o644)


def everything(host: AuditedHost) -> None:
    """Many programs at once, each with its secrets."""
    host.base()
    host.postgres()
    host.put("/srv/wiki/pages.txt", "x")
    host.put("/var/lib/redis/dump.rdb", b"REDIS0011" + b"x" * 100)
    host.put(
        "/root/.config/rclone/rclone.conf",
        f"[far]\ntype = s3\naccess_key_id = {AWS}\nsecret_access_key = {S3}\npass = {RCLONE}\n",
    ).chmod(0o644)
    host.put(
        "/etc/pgbackrest/pgbackrest.conf",
        (
            "[global]\nrepo1-path=/var/lib/pgbackrest\nrepo1-cipher-type=aes-256-cbc\n"
            f"repo1-cipher-pass={BORG}\n[main]\npg1-path=/var/lib/postgresql/17/main\n"
        ),
    )
    host.copies("/var/lib/pgbackrest/backup/main/%s-020000F/pg_data.bundle")
    host.put(
        "/etc/borgmatic/config.yaml",
        (
            f"source_directories: [/srv]\nrepositories:\n  - path: ssh://u:{URL}@nas/./r\n"
            f"encryption_passphrase: {BORG}\n"
        ),
    ).chmod(0o600)
    call = f'"redis-cli", "-a", "{REDIS}", "--rdb", "/var/backups/redis/dump.rdb"'
    python = f'import subprocess\nPW = "{PYTHON}"\nsubprocess.run([{call}], check=True)\npassword = PW\n'
    host.script("/opt/tools/backup_redis.py", f"#!/usr/bin/env python3\n{python}")
    host.aged("/var/backups/redis/dump.rdb", b"x" * 500, 0.02)
    host.put("/etc/backup.env", f"DB_PASSWORD={ENV_FILE}\n").chmod(0o644)
    host.timer("redis-backup", "/opt/tools/backup_redis.py", "hourly", service="EnvironmentFile=/etc/backup.env")
    host.put(
        "/etc/cron.d/backups",
        f"15 1 * * * postgres pgbackrest --stanza=main backup\n45 1 * * * root borgmatic\n"
        f"0 5 * * * root rclone sync /var/backups far:vps1\n"
        f"5 5 * * * root curl -s https://api.telegram.org/bot{TELEGRAM}/sendMessage -d text=backup\n"
        f"10 5 * * * root pg_dump postgres://shop:{URL}@db.example.org/shop > /var/backups/elsewhere.sql\n",
    )
    host.put(
        "/srv/stack/docker-compose.yml",
        (
            "services:\n  db:\n    image: postgres:17\n    volumes: [db:/var/lib/postgresql/data]\n"
            "  files:\n    image: nginx\n    volumes: [files:/data]\n"
            "  pgbackups:\n    image: prodrigestivill/postgres-backup-local:17\n    environment:\n"
            f"      POSTGRES_HOST: db\n      POSTGRES_DB: shop\n      POSTGRES_PASSWORD: {COMPOSE}\n"
            "      SCHEDULE: '@daily'\n    volumes: [/var/backups/stack:/backups]\n"
            "  backup:\n    image: offen/docker-volume-backup:v2\n    environment:\n"
            "      BACKUP_CRON_EXPRESSION: '0 4 * * *'\n      AWS_S3_BUCKET_NAME: far\n"
            f"      AWS_SECRET_ACCESS_KEY: {S3}\n      GPG_PASSPHRASE: {BORG}\n"
            "      NOTIFICATION_URLS: smtp://x\n"
            "    volumes: [files:/backup/files:ro, /var/run/docker.sock:/var/run/docker.sock:ro]\n"
            "volumes:\n  db:\n  files:\n"
        ),
    )
    for name in ("db", "files"):
        host.volume(f"stack_{name}", Labels={"com.docker.compose.project": "stack"})
    host.put("/var/lib/docker/volumes/stack_db/_data/PG_VERSION", "17\n")
    host.container(
        "stack-db-1", "postgres:17", ("stack_db", "/var/lib/postgresql/data"), project="stack", folder="/srv/stack"
    )
    host.container("stack-files-1", "nginx", ("stack_files", "/data"), project="stack", folder="/srv/stack")
    host.daemon_stopped()
    host.copies("/var/backups/stack/daily/shop-%s.sql.gz")


def restaura(host: AuditedHost) -> None:
    """A server that Restaura backs up to S3 and proves, with the scripts that it installs."""
    host.base()
    host.postgres()
    host.put("/srv/shop/app.py", "print()")
    declared = {
        "settings": {"host": "vps1"},
        "stores": [{"name": "far", "location": "s3:https://s3.example.org/b"}],
        "plans": [{"name": "nightly", "schedule": "02:30"}],
        "components": {
            "postgres": [{"name": "pg", "cluster": "17/main"}],
            "files": [{"name": "shop", "paths": ["/srv/shop"]}],
        },
    }
    host.put("/etc/restaura/config.json", json.dumps(declared)).chmod(0o600)
    host.put("/etc/restaura/RUNBOOK.md", "# Runbook\nHow to restore from a backup\n")
    host.put("/etc/restaura/keys/stores.far.password", RESTIC).chmod(0o600)
    row = {"store": "far", "host": "vps1", "plan": "nightly", "label": "x", "state": "complete", "seconds": 1.0}
    row |= {"consistency": "snapshot", "good": True, "bytes": 50_000, "proof": "proven"}
    row["point"] = new_id(datetime.now(UTC) - timedelta(hours=3))
    rows = [{**row, "component": one} for one in ("pg", "shop")]
    place = "restic at s3:https://s3.example.org/b"
    shelf = {"place": place, "listed": "", "error": "", "damaged": {}, "rows": rows}
    host.put("/var/lib/restaura/catalogue.json", json.dumps({"version": 1, "stores": {"far": shelf}}))
    host.put(
        "/etc/cron.d/restaura",
        "30 2 * * * root /usr/local/bin/restaura run nightly --wait 3600\n"
        "@reboot root sleep 60; /usr/local/bin/restaura recover; /usr/local/bin/restaura run --catch-up\n"
        "5 4 * * 0 root /usr/local/bin/restaura drill --plan nightly\n",
    )
    host.put("/usr/local/bin/restaura")
    for name in ("backup_all", "backup_postgres", "recover"):
        text = (Path(__file__).parents[1] / f"src/restaura/scripts/{name}.sh").read_text()
        host.script(f"/usr/local/sbin/{name}.sh", text)


Build = Callable[[AuditedHost], None]
RECOVERY = {"restore_never_tried", "no_recovery_documents", "no_recovery_scripts"}
HOSTS: dict[str, tuple[Build, Expected]] = {
    "nothing": (nothing, Expected("OK", whole=True)),
    "data_only": (
        data_only,
        Expected(
            "CRITICAL", frozenset({"nothing_protected", "no_recovery_documents", "no_recovery_scripts"}), whole=True
        ),
    ),
    "only_cron": (
        only_cron,
        Expected(
            "WARNING",
            frozenset({*RECOVERY, "only_on_same_disk", "secret_in_file"}),
            methods=frozenset({"cron_jobs", "database_backup"}),
            protected=frozenset({"postgres:17/main"}),
            whole=True,
        ),
    ),
    "only_timers": (
        only_timers,
        Expected(
            "WARNING",
            frozenset({*RECOVERY, "only_on_same_disk", "secret_in_file", "silent"}),
            methods=frozenset({"cron_jobs", "backup_scripts", "database_backup"}),
            protected=frozenset({"postgres:17/main"}),
            whole=True,
        ),
    ),
    "restic_right": (
        restic_right,
        Expected("OK", whole=True, protected=frozenset({"postgres:17/main", "tree:/srv/shop"})),
    ),
    "borg_failing": (
        borg_failing,
        Expected(
            "CRITICAL",
            frozenset({*RECOVERY, "stale", "failed", "secret_in_file", "silent"}),
            whole=True,
            protected=frozenset({"tree:/srv/shop"}),
        ),
    ),
    "empty_dumps": (
        empty_dumps,
        Expected(
            "CRITICAL",
            frozenset(
                {
                    *RECOVERY,
                    "empty",
                    "silent",
                    "secret_in_file",
                    "world_readable",
                    "only_on_same_disk",
                    "some_databases",
                }
            ),
            whole=True,
        ),
    ),
    "same_disk": (
        same_disk,
        Expected(
            "WARNING",
            frozenset({"only_on_same_disk", "restore_never_tried", "secret_in_file"}),
            whole=True,
            protected=frozenset({"tree:/srv/shop"}),
        ),
    ),
    "odd_names": (
        odd_names,
        Expected("CRITICAL", frozenset({"idle_dot_in_name", "idle_not_executable", "not_all_seen"})),
    ),
    "seed": (
        seed,
        Expected(
            "WARNING",
            frozenset(
                {*RECOVERY, "unprotected_volumes", "only_on_same_disk", "secret_in_file", "silent", "world_readable"}
            ),
            absent=frozenset({"unprotected_databases", "stale", "empty"}),
            methods=frozenset({"cron_jobs", "backup_scripts", "database_backup"}),
            protected=frozenset({"postgres:17/main"}),
        ),
    ),
    "restaura": (
        restaura,
        Expected(
            "OK",
            whole=True,
            methods=frozenset({"cron_jobs", "backup_scripts", "database_backup"}),
            protected=frozenset({"postgres:17/main", "tree:/srv/shop"}),
        ),
    ),
    "everything": (
        everything,
        Expected(
            "WARNING",
            frozenset({"secret_in_file", "restore_never_tried"}),
            absent=frozenset({"unprotected_databases", "empty", "nothing_protected"}),
            methods=frozenset(
                {"cron_jobs", "backup_scripts", "database_backup", "volume_backup", "compose_backup_services"}
            ),
        ),
    ),
}


def make(name: str, root: Path) -> AuditedHost:
    """Make one of the hosts below a directory."""
    root.chmod(0o755)
    host = AuditedHost(root)
    HOSTS[name][0](host)
    return host
