# SPDX-License-Identifier: GPL-3.0-or-later
"""How backups are found: commands and scripts, what hides their failure, schedules, settings, services, secrets."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from restaura.actions.audit import audit_host
from restaura.audit import copies
from restaura.audit.copies import Copies
from restaura.audit.holders import find_holders
from restaura.audit.jobs import calendar_interval, cron_interval, find_jobs
from restaura.audit.looking import Look
from restaura.audit.model import Protection
from restaura.audit.programs import inner_shell, read
from restaura.audit.protections import Found, find_protections
from restaura.audit.secrecy import Secrets, everywhere
from restaura.audit.settings import load_yaml
from restaura.audit.shell import read_python, read_shell
from restaura.paths import Paths
from restaura.point import new_id
from tests.audited_hosts import AuditedHost

HOUR, DAY = 3600, 86400


@pytest.fixture
def host(tmp_path: Path) -> AuditedHost:
    host = AuditedHost(tmp_path)
    host.base()
    return host


def look(host: AuditedHost) -> Found:
    return find_protections(Look(host.root), (), Secrets())


def only(host: AuditedHost) -> Protection:
    (one,) = look(host).protections
    return one


# What commands do


@pytest.mark.parametrize(
    ("line", "takes", "writes"),
    [
        ("su postgres -c pg_dumpall | gzip > /b/x-$(date +%F).gz", ["postgres"], ["/b/x-*.gz"]),
        ("sh -c 'pg_dump shop' > /b/x.sql", ["postgres shop"], ["/b/x.sql"]),
        ("pg_dump -h localhost -U app shop | gzip > /b/shop-$(date +%F).gz", ["postgres shop"], ["/b/shop-*.gz"]),
        ("docker exec -t db pg_dumpall -U postgres > /b/dump.sql", ["postgres  db"], ["/b/dump.sql"]),
        (
            'docker compose -f /opt/app/compose.yml exec -T pg sh -c "pg_dump -U x y" | gzip > /b/y.gz',
            ["postgres y pg app"],
            ["/b/y.gz"],
        ),
        (
            "docker run --rm -v app_data:/data -v /var/b:/out alpine tar czf /out/app.tgz -C /data .",
            ["docker_volume app_data"],
            ["/var/b/app.tgz"],
        ),
        (
            "for v in $(docker volume ls -q); do docker run --rm -v $v:/v -v /b:/o alpine tar czf /o/$v.tgz /v; done",
            ["docker_volume"],
            ["/b/*.tgz"],
        ),
        (
            "restic -r s3:s3.example.org/b backup /etc /srv --exclude /srv/x",
            ["path /etc", "path /srv"],
            ["s3:s3.example.org/b"],
        ),
        ("BORG_REPO=ssh://u@h/./r borg create --stats ::{now} /home", ["path /home"], ["ssh://h/./r"]),
        ('tar czf - /srv/app | ssh me@b.example.org "cat > /x.tgz"', ["path /srv/app"], ["ssh://b.example.org"]),
        ("rsync -az --delete /srv/ u@nas:/b/", ["path /srv"], ["u@nas:/b/"]),
        ("rsync -a /srv/ /mnt/usb/", ["path /srv"], ["/mnt/usb/"]),
        ("cd /srv && tar czf /backup/app.tgz app", ["path /srv/app"], ["/backup/app.tgz"]),
        ("nice -n 19 ionice -c3 mysqldump --all-databases -uroot -pX > /b/all.sql", ["mysql"], ["/b/all.sql"]),
        ("mysqldump -u root shop orders > /b/s.sql", ["mysql shop"], ["/b/s.sql"]),
        ("mongodump --uri mongodb://u:p@mongo:27017/shop --archive=/b/m.gz", ["mongodb shop mongo"], ["/b/m.gz"]),
        ('sqlite3 /srv/a.db ".backup /var/backups/a.db"', ["path /srv/a.db"], ["/var/backups/a.db"]),
        (
            "sudo -u postgres pg_dump -Fc -f /b/s.dump postgres://u:pw@db.example.org/shop",
            ["postgres shop db.example.org"],
            ["/b/s.dump"],
        ),
        (
            "for db in crm wiki; do pg_dump $db > /b/$db-`date +%F`.sql; done",
            ["postgres crm", "postgres wiki"],
            ["/b/*-*.sql"],
        ),
        ('D=${BACKUPS:-/b}; pg_dumpall -f "$D/all.sql"', ["postgres"], ["/b/all.sql"]),
        ("aws s3 cp /b/x s3://bucket/x --profile p", ["path /b/x"], ["s3://bucket/x"]),
        ("rclone copy /var/backups far:bucket", ["path /var/backups"], ["far:bucket"]),
    ],
)
def test_what_a_backup_takes_and_where_it_writes(line: str, takes: list[str], writes: list[str]) -> None:
    script = read_shell(line, {"PWD": "/root"})
    facts = read(script.commands, script.variables)
    assert facts.backs_up
    assert [f"{one.kind} {one.name} {one.container} {one.project}".rstrip() for one in facts.takes] == takes
    assert facts.writes == writes


@pytest.mark.parametrize(
    "line",
    [
        "certbot renew",
        "cp /etc/a /etc/b",
        "tar xzf /b/x.tgz -C /srv",
        "restic check",
        "echo pg_dump",
        "find /b -delete",
        "# pg_dump shop > /b/x",
        "tar czf /tmp/x.tgz /srv",
        "ssh db.example.org pg_dump shop",
        "restic forget --prune",
    ],
)
def test_what_is_no_backup_of_this_host(line: str) -> None:
    script = read_shell(line, {"PWD": "/root"})
    assert not read(script.commands, script.variables).backs_up


@pytest.mark.parametrize(
    "text",
    [
        "'",
        '"$(',
        "`",
        "${a:-${b:-${c",
        "$((1+",
        "<<EOF\nx",
        "((((",
        "a=(",
        "for",
        "if then",
        "\\",
        "$",
        "x <(",
        "> >(tee",
        "$(" * 3000,
        "${a:-" * 3000,
        '"' * 999,
        "{" * 999,
        "\x00\x01",
        "case x in a) y;;",
        "${!a[@]}",
        "function f {",
    ],
)
def test_no_text_is_too_strange_to_read_and_none_hides_another_job(host: AuditedHost, text: str) -> None:
    host.script("/opt/strange.sh", f"#!/bin/sh\n{text}\npg_dump x")
    host.script("/opt/strange.py", f"#!/usr/bin/python3\n{text}")
    host.put("/etc/cron.d/a", "@daily root /opt/strange.sh\n@daily root /opt/strange.py\n")
    host.put("/etc/cron.d/b", "@daily root pg_dumpall > /b/x.sql\n")
    assert ("/b/x.sql",) in [one.writes for one in look(host).protections]


def test_a_texts_shell_and_its_scripts_are_followed(host: AuditedHost) -> None:
    assert inner_shell(["su", "-", "postgres", "-c", "pg_dumpall"]) == "pg_dumpall"
    host.script("/opt/a/run.sh", '#!/bin/sh\ncd "$(dirname "$0")"\n. ./lib/settings\nsh -c "./lib/dump.sh"\n')
    host.put("/opt/a/lib/settings", "TARGET=/var/backups/deep\n")
    host.script("/opt/a/lib/dump.sh", "#!/bin/sh\nexec pg_dumpall -f /var/backups/deep/x.sql\n")
    host.put("/etc/cron.d/a", "@daily root flock -n /run/a su root -c /opt/a/run.sh\n")
    one = only(host)
    assert one.writes == ("/var/backups/deep/x.sql",)
    assert [e.where for e in one.evidence] == ["/etc/cron.d/a", "/opt/a/run.sh", "/opt/a/lib/dump.sh"]


def test_a_called_scripts_output_may_go_on_through_a_pipe(host: AuditedHost) -> None:
    host.script("/opt/dump", "#!/bin/sh\npg_dumpall\n")
    host.script("/opt/backup", "#!/bin/sh\n/opt/dump | gzip > /b/all-$(date +%F).gz\n")
    host.put(QUIET, "@daily root /opt/backup >> /var/log/b.log\n")
    one = only(host)
    assert one.writes == ("/b/all-*.gz",)
    host.at("/opt/dump").unlink()
    host.script("/opt/backup", "#!/bin/sh\npg_dumpall -f /b/all.sql\n")
    host.put(QUIET, "@daily root /opt/backup > /tmp/last-run\n")
    assert only(host).writes == ("/b/all.sql",)


def test_python_scripts_are_read() -> None:
    text = (
        "import subprocess\nfrom pathlib import Path\nBASE = '/var/backups/py'\n"
        "subprocess.run(['pg_dump', '-f', f'{BASE}/{name()}.sql', 'shop'], check=True)\n"
    )
    script = read_python(text, {})
    assert script
    facts = read(script.commands, script.variables)
    assert (facts.takes[0].name, facts.writes, script.stops) == ("shop", ["/var/backups/py/*.sql"], True)
    careless = read_python(text.replace(", check=True", ""), {})
    assert careless
    assert not careless.stops


# Whether somebody hears of a failure

QUIET = "/etc/cron.d/b"


@pytest.mark.parametrize(
    ("crontab", "script", "codes"),
    [
        ("", "set -e\npg_dumpall -f /b/x", set()),
        ("", "pg_dumpall -f /b/x\necho done", set()),  # what it says of its failure is mailed
        (" >/dev/null 2>&1", "pg_dumpall -f /b/x", {"output_discarded"}),
        (" >/dev/null", "pg_dumpall -f /b/x", set()),
        (" >> /var/log/b.log 2>&1", "pg_dumpall -f /b/x", {"output_to_file"}),
        (" &> /var/log/b.log", "pg_dumpall -f /b/x", {"output_to_file"}),
        ("", "pg_dumpall 2>/dev/null | gzip > /b/x", {"output_discarded", "pipe_hides_failure"}),
        (
            " >/dev/null 2>&1",
            "set -eo pipefail\ncurl https://hc-ping.com/x\npg_dumpall | gzip > /b/x",
            set(),
        ),
        (
            " >/dev/null 2>&1",
            "pg_dumpall -f /b/x || true\ncurl https://hc-ping.com/x",
            {"output_discarded", "errors_ignored"},
        ),
    ],
)
def test_what_keeps_a_crons_failure_unheard(crontab: str, script: str, codes: set[str], host: AuditedHost) -> None:
    host.script("/usr/local/bin/b.sh", f"#!/bin/bash\n{script}\n")
    host.put(QUIET, f"0 2 * * * root /usr/local/bin/b.sh{crontab}\n")
    one = only(host)
    assert one.loud is (not codes)
    assert codes <= {hush.detail for hush in one.hushed}
    assert not one.loud or not one.hushed


@pytest.mark.parametrize(
    ("unit", "script", "loud"),
    [
        ("OnFailure=tell.service", "set -e\npg_dumpall -f /b/x\necho", True),
        ("", "set -e\npg_dumpall -f /b/x", False),
        ("OnFailure=tell.service", "pg_dumpall -f /b/x\necho done", False),
        ("OnFailure=tell.service", "set -e\npg_dumpall | gzip > /b/x\necho", False),
        ("OnFailure=tell.service", "set -euo pipefail\npg_dumpall | gzip > /b/x\necho", True),
        ("OnFailure=tell.service", "if ! pg_dumpall -f /b/x; then exit 1; fi", True),
        ("OnFailure=tell.service", "pg_dumpall -f /b/x || exit 3\necho", True),
        ("OnFailure=tell.service", "set -e\npg_dumpall -f /b/x || true", False),
    ],
)
def test_what_keeps_a_timers_failure_unheard(unit: str, script: str, loud: bool, host: AuditedHost) -> None:
    host.script("/usr/local/bin/b.sh", f"#!/bin/bash\n{script}\n")
    host.timer("b", "/usr/local/bin/b.sh", "daily", unit=unit)
    one = only(host)
    assert one.loud is loud
    assert bool(one.hushed) is not loud


def test_mail_is_heard_only_where_it_is_sent(tmp_path: Path) -> None:
    for number, (mail, setting, code) in enumerate(
        [(True, "", None), (True, "MAILTO=''\n", "mailto_empty"), (False, "", "no_mailer")]
    ):
        (tmp_path / str(number)).mkdir()
        host = AuditedHost(tmp_path / str(number))
        host.base(mail=mail)
        host.put(QUIET, f"{setting}0 2 * * * root pg_dumpall -f /b/x\n")
        assert [hush.detail for hush in only(host).hushed] == ([code] if code else [])


# When it runs


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ("0 2 * * *", DAY),
        ("*/15 * * * *", 900),
        ("0 3 * * sun", 7 * DAY),
        ("30 4 1 * *", 31 * DAY),
        ("0 */6 * * *", 6 * HOUR),
        ("0 1 * * mon-fri", 3 * DAY),
        ("0 1 * jan *", 336 * DAY),
        ("5 0,12 * * *", 12 * HOUR),
        ("0 2 30 2 *", None),
        ("61 2 * * *", None),
    ],
)
def test_the_longest_time_between_two_starts_by_cron(fields: str, seconds: int | None) -> None:
    assert cron_interval(fields) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("daily", DAY),
        ("Sun 03:00", 7 * DAY),
        ("*-*-* 02:30:00", DAY),
        ("*:0/15", 900),
        ("Mon..Fri 01:00", 3 * DAY),
        ("*-*-01 00:00", 31 * DAY),
        ("02,14:00", 12 * HOUR),
        ("2024-01-01 00:00", None),
        ("hourly", HOUR),
    ],
)
def test_the_longest_time_between_two_starts_by_a_timer(text: str, seconds: int | None) -> None:
    assert calendar_interval(text) == seconds


def test_every_place_of_jobs_is_read(host: AuditedHost) -> None:
    host.put("/etc/crontab", "1 1 * * * root a1\n")
    host.put("/etc/cron.d/two", "2 2 * * * www-data a2 \\% b % standard input\n")
    host.put("/var/spool/cron/crontabs/ana", "MAILTO=ana\n3 3 * * * a3\n")
    host.put("/etc/crontabs/root", "@weekly a4\n")
    host.script("/etc/cron.weekly/a5", "#!/bin/sh\n")
    host.put("/etc/anacrontab", "7 10 a6 /usr/local/bin/a6\n")
    host.put("/usr/sbin/anacron")
    host.timer("a7", "/usr/local/bin/a7 --now", "Sun 03:00")
    host.timer("a8@", "/usr/local/bin/a8 %i", "daily")
    host.at("/etc/systemd/system/timers.target.wants/a8@x.timer").symlink_to("/etc/systemd/system/a8@.timer")
    host.put(
        "/etc/systemd/system/a7.service.d/user.conf",
        "[Service]\nUser=ana\nExecStart=\nExecStart=/bin/other \\\n  more\n",
    )
    jobs = {job.name: job for job in find_jobs(Look(host.root))}
    said = {name: (job.user, job.commands, job.interval, job.idle) for name, job in jobs.items()}
    assert said["/etc/crontab:1"] == ("root", ("a1",), DAY, "")
    assert said["/etc/cron.d/two:1"] == ("www-data", ("a2 % b",), DAY, "")
    assert said["/var/spool/cron/crontabs/ana:2"] == ("ana", ("a3",), DAY, "")
    assert said["/etc/crontabs/root:1"] == ("root", ("a4",), 7 * DAY, "")
    assert said["/etc/cron.weekly/a5"] == ("root", ("/etc/cron.weekly/a5",), 7 * DAY, "")
    assert said["/etc/anacrontab:1"] == ("root", ("/usr/local/bin/a6",), 7 * DAY, "")
    assert said["a7.timer"] == ("ana", ("/bin/other    more",), 7 * DAY, "")
    assert said["a8@x.timer"] == ("root", ("/usr/local/bin/a8 x",), DAY, "")
    assert "a8@.timer" not in said


@pytest.mark.parametrize(
    ("prepare", "idle"),
    [
        (lambda host: host.put("/etc/cron.d/b.old", "0 2 * * * root pg_dumpall -f /b/x\n"), "dot_in_name"),
        (lambda host: host.put("/etc/cron.d/b", "0 2 * * * root pg_dumpall -f /b/x"), "no_newline"),
        (lambda host: host.put("/etc/cron.d/b", "0 25 * * * root pg_dumpall -f /b/x\n"), "bad_time"),
        (lambda host: host.put("/etc/cron.d/b", "0 2 * * * root pg_dumpall -f /b/x\n").chmod(0o666), "insecure_mode"),
        (lambda host: host.script("/etc/cron.daily/b.sh", "pg_dumpall -f /b/x\n"), "dot_in_name"),
        (lambda host: host.script("/etc/cron.daily/b", "pg_dumpall -f /b/x\n", 0o644), "not_executable"),
        (lambda host: host.timer("b", "/usr/bin/pg_dumpall -f /b/x", "daily", enabled=False), "timer_disabled"),
        (lambda host: host.script("/opt/backup.sh", "pg_dumpall -f /b/x\n"), "not_scheduled"),
        (
            lambda host: [host.at("/usr/sbin/cron").unlink(), host.put(QUIET, "0 2 * * * root pg_dumpall -f /b/x\n")],
            "no_cron_daemon",
        ),
    ],
)
def test_what_is_never_started_is_known(prepare: Any, idle: str, host: AuditedHost) -> None:
    prepare(host)
    assert only(host).idle == idle


# Secrets


@pytest.mark.parametrize(
    ("line", "kind", "secret"),
    [
        ("PGPASSWORD=abcdef12 pg_dump", "password", "abcdef12"),
        ("export MYSQL_PWD='ab cd'", "password", "ab cd"),
        ('RESTIC_PASSWORD="x-y-z9"', "password", "x-y-z9"),
        ("export BORG_PASSPHRASE=hunter2", "password", "hunter2"),
        ("AWS_SECRET_ACCESS_KEY=wJalr/K7", "password", "wJalr/K7"),
        ("mysqldump -u root -pS3cret db", "password", "S3cret"),
        ("mysqldump --password=S3cret db", "password", "S3cret"),
        ("redis-cli -a S3cret --rdb x", "password", "S3cret"),
        ("curl -u me:S3cret https://x", "password", "S3cret"),
        ("sshpass -p S3cret scp x y:", "password", "S3cret"),
        ("openssl enc -aes256 -k S3cret", "password", "S3cret"),
        ("gpg --batch --passphrase S3cret -c", "password", "S3cret"),
        ("pg_dump postgres://u:S3cret@h/db", "password_in_url", "S3cret"),
        ("x AKIAIOSFODNN7EXAMPLE", "access_key", "AKIAIOSFODNN7EXAMPLE"),
        ("curl https://hooks.slack.com/services/T0/B0/xyz123", "token", "T0/B0/xyz123"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private_key", ""),
        ('pg_dump "host=db password=S3cret"', "password", "S3cret"),
        ("zip -P S3cret -r x y", "password", "S3cret"),
    ],
)
def test_a_secret_is_found_named_and_struck_out(line: str, kind: str, secret: str) -> None:
    secrets = Secrets()
    secrets.search(f"first\n{line}\n", "/x")
    assert [(one.where, one.line, one.detail) for one in secrets.found] == [("/x", 2, kind)]
    if secret:
        assert secret not in str(everywhere(secrets.mask, {"a": [f"x{secret}y"], "b": (line,)}))


@pytest.mark.parametrize(
    "line",
    [
        "PGPASSWORD=$SECRET pg_dump",
        "export PGPASSWORD=$(cat /root/pw)",
        "RESTIC_PASSWORD_FILE=/root/pw",
        "PASSWORD=",
        "PASSWORD=''",
        "restic --password-file /root/pw backup",
        "mysqldump --defaults-file=/root/.my.cnf",
        "BORG_PASSCOMMAND='cat /root/pw'",
        "pg_dump -p 5432 shop",
        "mysqldump -p shop",
        "curl https://example.org/x",
        "tar -p -czf x y",
        "git clone git@host:x/y",
        "gpg --passphrase-file /k -c",
        'PASSWORD="${PW}"',
        "read -s PASSWORD",
        "mkdir -p /var/backups/mysql",
        "# see the password in the vault",
    ],
)
def test_what_is_no_secret_is_not_called_one(line: str) -> None:
    secrets = Secrets()
    secrets.search(line, "/x")
    assert secrets.found == ()


# Programs with settings of their own, and services


def test_settings_of_programs_are_read(host: AuditedHost) -> None:
    host.put(
        "/etc/cron.d/a",
        "1 1 * * * root borgmatic --verbosity 1\n2 2 * * * root rsnapshot daily\n3 3 * * * barman barman cron\n",
    )
    host.put(
        "/etc/borgmatic/config.yaml",
        "source_directories: [/etc, /srv]\nrepositories:\n  - path: /mnt/r\n  - path: ssh://u@h/./r\n"
        "postgresql_databases:\n  - name: all\nmysql_databases:\n  - {name: shop, hostname: db}\n",
    )
    host.put("/etc/rsnapshot.conf", "snapshot_root\t/snap/\nbackup\t/home/\tlocalhost/\nbackup\troot@far:/x\tfar/\n")
    host.put("/etc/barman.conf", "[barman]\nbarman_home = /data/barman\n")
    host.put("/etc/barman.d/pg.conf", "[pg]\nconninfo = host=db.example.org user=barman\n")
    host.put(
        "/etc/pgbackrest.conf",
        "[global]\nrepo1-path=/p\nrepo1-cipher-type=aes-256-cbc\nrepo2-type=s3\nrepo2-s3-bucket=b\nrepo2-path=/q\n[main]\npg1-path=/pg\n",
    )
    host.put("/etc/wal-g/pg.env", "WALG_S3_PREFIX=s3://b/w\nWALG_LIBSODIUM_KEY=x\n")
    found = {one.name: one for one in look(host).protections}
    borg = found["borgmatic"]
    assert [(one.kind, one.name, one.container) for one in borg.takes] == [
        ("path", "/etc", ""),
        ("path", "/srv", ""),
        ("postgres", "", ""),
        ("mysql", "shop", "db"),
    ]
    assert (borg.writes, borg.off_host) == (("/mnt/r", "ssh://h/./r"), True)
    assert (found["rsnapshot"].takes[0].name, found["rsnapshot"].writes) == ("/home", ("/snap",))
    assert (found["barman"].takes[0].container, found["barman"].writes) == ("db.example.org", ("/data/barman/pg/base",))
    rest = found["pgbackrest"]
    assert (rest.kind, rest.idle, rest.writes, rest.encrypted) == (
        "pgbackrest",
        "not_scheduled",
        ("/p/backup/main", "s3://b/q"),
        True,
    )
    assert (found["wal-g"].off_host, found["wal-g"].encrypted) == (True, True)


def test_a_remote_of_rclone_may_be_this_host_itself(host: AuditedHost) -> None:
    host.put(
        "/root/.config/rclone/rclone.conf",
        "[far]\ntype = s3\n[here]\ntype = local\n[secret]\ntype = crypt\nremote = here:x\n",
    ).chmod(0o600)
    for remote, away in (("far", True), ("here", False), ("secret", False)):
        host.put(QUIET, f"0 2 * * * root rclone sync /var/backups {remote}:x\n")
        assert only(host).off_host is away


def test_a_network_mount_is_off_this_host(host: AuditedHost) -> None:
    host.put("/proc/mounts", "/dev/sda1 / ext4 rw 0 0\nnas:/x /mnt/nas\\040one nfs4 rw 0 0\n")
    for place, away in (("/mnt/nas one/db.sql", True), ("/mnt/usb/db.sql", False)):
        host.put(QUIET, f"0 2 * * * root pg_dumpall -f '{place}'\n")
        assert only(host).off_host is away


def test_nothing_is_missing_where_it_may_not_be_looked(host: AuditedHost) -> None:
    for closed, seen in (("/b", False), ("/b/old", False), ("/", False), ("/bb", True)):
        looking = Look(host.root)
        looking.blame(closed, "permission", "directory")
        # Also for the second that writes there.
        assert [Copies(looking).of(["/b/x-*.sql"])[1] for _ in range(2)] == [seen, seen]


def test_a_network_mount_that_hangs_is_not_waited_for(host: AuditedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("/proc/mounts", "nas:/x /mnt/nas nfs4 rw 0 0\n")
    host.put(QUIET, "0 2 * * * root pg_dumpall -f /mnt/nas/db.sql\n")
    host.put("/mnt/nas/db.sql", "x" * 100)
    assert (len(only(host).copies), only(host).seen) == (1, True)
    hanging = threading.Event()
    monkeypatch.setattr(Copies, "_at", lambda *_: iter([hanging.wait()][:0]))
    monkeypatch.setattr(copies, "FAR_SECONDS", 0.05)
    one = only(host)
    hanging.set()
    assert (one.copies, one.seen, one.off_host) == ((), False, True)


def test_what_a_log_ends_with_is_known_and_not_quoted(host: AuditedHost) -> None:
    for text, failed in (
        ("ok\nConnection refused, password=xyzzy\n", True),
        ("Error: x\nfinished: 0 errors\n", False),
        ("done\n", False),
    ):
        host.put("/var/log/b.log", text)
        host.put(QUIET, "0 2 * * * root restic -r rest:http://h/ backup /srv >> /var/log/b.log 2>&1\n")
        one = only(host)
        assert bool(one.failures) is failed
        assert one.last_run
        assert "xyzzy" not in repr(one)


def test_copies_of_folders_of_days_and_of_repositories(host: AuditedHost) -> None:
    for day in ("2024-05-01", "2024-05-02"):
        host.put(f"/b/mongo/{day}/shop/a.bson", b"x" * 100)
        host.put(f"/b/mongo/{day}/shop/b.bson", b"x" * 50)
    host.put(QUIET, "0 2 * * * root mongodump --out /b/mongo/$(date +\\%F)\n")
    found = {(one.where, one.bytes) for one in only(host).copies}
    assert found == {("/b/mongo/2024-05-01", 150), ("/b/mongo/2024-05-02", 150)}
    host.put(QUIET, "0 2 * * * root mongodump --out /b/mongo\n")
    assert {(one.where, one.bytes) for one in only(host).copies} == found
    for name in ("config", "keys/k", "data/00/x"):
        host.put(f"/b/restic/{name}")
    host.aged(f"/b/restic/snapshots/{'1' * 64}", b"x", 2)
    host.put(QUIET, "0 2 * * * root restic -r /b/restic backup /srv\n")
    one = only(host)
    (copy,) = one.copies
    assert abs(datetime.fromisoformat(copy.at) - (datetime.now(UTC) - timedelta(days=2))) < timedelta(minutes=5)
    assert one.encrypted


def test_jobs_that_restore_are_tests_of_what_they_restore(host: AuditedHost) -> None:
    host.put(
        QUIET,
        "0 2 * * * root pg_dumpall -f /b/x.sql\n0 3 * * * root restic -r s3:h/b backup /srv\n"
        "0 4 * * 0 root restic -r s3:h/b restore latest --target /t\n",
    )
    tried = {one.name: one.restore_tried for one in look(host).protections}
    assert tried == {"pg_dumpall": None, "restic": "scheduled"}


def test_restaura_tells_of_itself(host: AuditedHost) -> None:
    now = datetime.now(UTC)
    points = [new_id(now - timedelta(days=days)) for days in (2, 1)]
    declared = {
        "settings": {"host": "vps1"},
        "stores": [{"name": "far", "location": "s3:https://s3.example.org/b"}],
        "plans": [{"name": "nightly", "schedule": "02:30", "stores": ["far"], "failure_command": "mail"}],
        "components": {
            "files": [{"name": "srv", "paths": ["/srv"]}],
            "postgres": [{"name": "pg", "cluster": "17/main"}],
        },
    }
    host.put("/etc/restaura/config.json", json.dumps(declared))
    row = {
        "store": "far",
        "host": "vps1",
        "plan": "nightly",
        "label": "x",
        "component": "srv",
        "state": "complete",
        "consistency": "snapshot",
        "good": True,
        "bytes": 5,
        "seconds": 1.0,
    }
    rows = [
        {**row, "point": point, "proof": proof} for point, proof in zip(points, ("proven", "unproven"), strict=True)
    ]
    place = "restic at s3:https://s3.example.org/b"
    shelf = {"place": place, "listed": "", "error": "", "damaged": {}, "rows": rows}
    host.put("/var/lib/restaura/catalogue.json", json.dumps({"version": 1, "stores": {"far": shelf}}))
    host.put("/etc/cron.d/restaura", "30 2 * * * root /usr/local/bin/restaura run nightly\n")
    host.put("/usr/local/bin/restaura")
    found = look(host)
    assert [one.id for one in found.protections] == ["restaura:nightly/srv", "restaura:nightly/pg"]
    srv, pg = found.protections
    assert (srv.interval, srv.off_host, srv.encrypted, srv.loud) == (DAY, True, True, True)
    assert [one.at[:10] for one in srv.copies] == [f"{now - timedelta(days=days):%Y-%m-%d}" for days in (1, 2)]
    assert srv.restore_tried
    assert srv.restore_tried[:10] == f"{now - timedelta(days=2):%Y-%m-%d}"
    assert [(one.kind, one.container) for one in pg.takes] == [("postgres", "17/main")]
    assert [one.where for one in found.scripts] == ["/usr/local/bin/restaura"]


# Files that are made to keep an audit busy


@pytest.mark.parametrize(
    "compose",
    ["services: {x: {image: backup, environment: *a11}}", "services: {x: {image: *a11, volumes: *a11, command: *a11}}"],
)
def test_a_compose_file_of_aliases_of_aliases_is_not_written_out(host: AuditedHost, compose: str) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    host.put("/opt/app/compose.yml", bomb + compose)
    seen = Look(host.root)
    find_holders(host.root, seen)
    assert [(one.where, one.detail) for one in seen.unreadable] == [("/opt/app/compose.yml", "invalid")]


def test_aliases_that_people_write_are_read(host: AuditedHost) -> None:
    path = host.put("/opt/app/compose.yml", "x-log: &log {driver: local}\nservices: {a: {<<: *log}, b: {log: *log}}\n")
    assert load_yaml(Look(host.root), "/opt/app/compose.yml")["services"]["a"] == {"driver": "local"}, path


@pytest.mark.parametrize("text", ["a=(" * 60_000, "${a:-" * 40_000, "-" * 4990 + "\n" + "-" * 4990])
def test_a_script_that_opens_and_never_closes_is_read_to_its_end(host: AuditedHost, text: str) -> None:
    host.script("/usr/local/sbin/backup", f"#!/bin/sh\npg_dump shop > /backup/x.sql\n{text}\n")
    host.put("/etc/cron.d/backup", "1 2 * * * root /usr/local/sbin/backup\n")
    assert only(host).writes == ("/backup/x.sql",)


def test_python_that_nests_too_deep_is_no_traceback() -> None:
    long = " + ".join(['"a"'] * 900)
    script = read_python(f"run(['pg_dump', 'shop'])\nx = {long}\nrun(['pg_dump', x])\n", {})
    assert script is not None


# A job that puts different data in different places

TWO_PLACES = (
    "#!/bin/sh\nset -e\npg_dumpall -f /var/backups/pg/all-$(date +%F).sql\n"
    "restic -r s3:https://s3.example.org/vps1 backup {}\n"
)


def two_places(host: AuditedHost, *, dumped: float, sent: float, paths: str = "/srv /var/backups/pg") -> dict[str, Any]:
    host.postgres()
    host.put("/srv/shop/app.py", "print()")
    host.script("/usr/local/sbin/backup", TWO_PLACES.format(paths))
    host.put("/etc/cron.d/backup", "1 2 * * * root /usr/local/sbin/backup\n")
    host.copies("/var/backups/pg/all-%s.sql", newest=dumped)
    for days in range(3):
        host.aged(f"/root/.cache/restic/{'0' * 64}/snapshots/0{days}/{days:064x}", b"x", days + sent)
    audit = audit_host(Paths(host.root))
    return {one.code: set(one.about) for one in audit.problems if not one.code.startswith(("no_", "restore_"))}


CRON = "cron:/etc/cron.d/backup:1"


def test_each_place_of_a_job_must_have_something_new(host: AuditedHost) -> None:
    assert two_places(host, dumped=0.3, sent=0.3) == {}


def test_old_dumps_are_not_made_up_for_by_fresh_snapshots_of_them(host: AuditedHost) -> None:
    assert two_places(host, dumped=60, sent=0.3) == {"stale": {CRON, "postgres:17/main"}}


def test_old_snapshots_are_not_made_up_for_by_fresh_dumps(host: AuditedHost) -> None:
    assert two_places(host, dumped=0.3, sent=60) == {"stale": {CRON, "tree:/srv/shop"}}


def test_a_dump_that_no_snapshot_takes_along_stays_on_the_host(host: AuditedHost) -> None:
    assert two_places(host, dumped=0.3, sent=0.3, paths="/srv") == {"only_on_same_disk": {"postgres:17/main", CRON}}


def test_what_is_only_put_down_to_be_sent_counts_as_sent(host: AuditedHost) -> None:
    host.put("/srv/shop/app.py", "print()")
    host.copies("/var/backups/etc-%s.tgz")
    lines = "tar czf /tmp/srv.tgz /srv\naws s3 cp /tmp/srv.tgz s3://b/srv.tgz\nrm /tmp/srv.tgz\n"
    host.script("/usr/local/sbin/backup", f"{lines}tar czf /var/backups/etc-$(date +%F).tgz /etc\n")
    host.put("/etc/cron.d/backup", "1 2 * * * root /usr/local/sbin/backup\n")
    codes = {one.code for one in audit_host(Paths(host.root)).problems}
    assert not codes & {"stale", "never_produced", "only_on_host", "only_on_same_disk"}


def test_a_place_where_there_is_nothing_is_named_though_another_is_fresh(host: AuditedHost) -> None:
    host.postgres()
    host.put("/srv/shop/app.py", "print()")
    host.folder("/backup/pg")
    host.script("/usr/local/sbin/backup", "pg_dumpall -f /backup/pg/x.sql\ntar czf /backup/srv-$(date +%F).tgz /srv\n")
    host.put("/etc/cron.d/backup", "1 2 * * * root /usr/local/sbin/backup\n")
    host.copies("/backup/srv-%s.tgz")
    (problem,) = [one for one in audit_host(Paths(host.root)).problems if one.code == "never_produced"]
    assert problem.about == (CRON, "postgres:17/main")
    assert problem.parameters["writes"] == "/backup/pg/x.sql"


@pytest.mark.parametrize(
    "line",
    [
        *("restic -r s3:x/y backup --dry-run /srv", "restic -r s3:x/y backup -n /srv", "rsync -an /srv/ u@nas:/b/"),
        *("borg create -n ssh://u@h/./r::{now} /srv", "rclone sync --dry-run /srv r:/b"),
        *(
            "pg_dump -s shop > /backup/x",
            "pg_dumpall --schema-only > /backup/x",
            "mysqldump --no-data shop > /backup/x",
        ),
    ],
)
def test_what_only_tells_or_leaves_out_the_data_takes_nothing(line: str) -> None:
    assert read(read_shell(line, {}).commands, {}).takes == []


def test_the_files_beside_one_database_are_not_the_others(host: AuditedHost) -> None:
    host.postgres()
    host.put("/etc/cron.d/b", "1 2 * * * root pg_dump shop > /backup/x.sql; tar czf /backup/etc.tgz /etc\n")
    host.copies("/backup/x.sql%.0s", count=1)
    host.copies("/backup/etc.tgz%.0s", count=1)
    assert "some_databases" in {one.code for one in audit_host(Paths(host.root)).problems}


@pytest.mark.parametrize(
    "line",
    [
        *("PASS=Zq9xSECRET; mysqldump -p$PASS x", "pw='Zq9xSECRET'", 'SENHA="Zq9xSECRET"', "DB_PW=Zq9xSECRET"),
        *("rclone copy /srv :webdav:/x --webdav-pass Zq9xSECRET", "curl -H 'X-Api-Key: Zq9xSECRET' https://h/x"),
        *("export B2_ACCOUNT_KEY=Zq9xSECRET", "mc alias set m https://h KEYKEYKEY Zq9xSECRET"),
    ],
)
def test_more_places_of_secrets(line: str) -> None:
    secrets = Secrets()
    secrets.search(line, "/b.sh")
    assert [one.line for one in secrets.found] == [1]
    assert "Zq9xSECRET" not in secrets.mask(f"/backup/{line}")
