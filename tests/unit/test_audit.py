# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole audits of made-up hosts, through the command line: status, exit code, problems, report, and no secret."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from restaura import cli
from restaura.audit.secrecy import MASK
from tests.audited_hosts import HOSTS, PGPASS, SECRETS, AuditedHost, make

ROOT = Path(__file__).parents[2]
CODES = {"OK": 0, "WARNING": 3, "CRITICAL": 7}
# Problems that are about something that is not there.
WITHOUT_EVIDENCE = {"no_recovery_documents", "no_recovery_scripts"}


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[str], AuditedHost]]:
    """Make each host once, under a short path that others may enter."""
    folder = Path(tempfile.mkdtemp(prefix="audit-", dir="/tmp"))
    folder.chmod(0o755)
    hosts: dict[str, AuditedHost] = {}

    def of(name: str) -> AuditedHost:
        if name not in hosts:
            (folder / name).mkdir()
            hosts[name] = make(name, folder / name)
        return hosts[name]

    yield of
    for one in hosts.values():
        one.close()
    shutil.rmtree(folder)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run `restaura audit` on a host; returns exit code and all that it printed."""

    def run(host: AuditedHost, *arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("RESTAURA_ROOT", str(host.root))
        code = cli.main(["audit", *arguments])
        out, errors = capfd.readouterr()
        return code, out + errors

    return run


def found(run: Callable[..., tuple[int, str]], host: AuditedHost) -> dict[str, Any]:
    return json.loads(run(host, "--json")[1])


def codes(audit: dict[str, Any]) -> set[str]:
    return {one["code"] for one in audit["problems"]}


def state(root: Path) -> dict[str, tuple[int, ...]]:
    """What a change of a host would show in."""
    told = {}
    for folder, _, names in os.walk(root):
        for one in (folder, *(f"{folder}/{name}" for name in names)):
            status = os.lstat(one)
            told[one] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_nlink)
    return told


@pytest.mark.parametrize("name", HOSTS)
def test_an_audit_says_what_is_wrong_and_nothing_else(name: str, made, run) -> None:
    expected, host = HOSTS[name][1], made(name)
    before = state(host.root)
    audit = found(run, host)
    assert audit["status"] == expected.status, codes(audit)
    assert audit["exit"] == CODES[expected.status]
    assert expected.problems <= codes(audit)
    assert not expected.absent & codes(audit)
    if expected.whole:
        assert codes(audit) == expected.problems
    assert expected.methods <= {method for method, answer in audit["methods"].items() if answer}
    assert expected.protected <= {one for protection in audit["protections"] for one in protection["covers"]}
    assert state(host.root) == before


@pytest.mark.parametrize("name", HOSTS)
def test_no_secret_is_ever_shown(name: str, made, run) -> None:
    for arguments in ((), ("--json",)):
        _, told = run(made(name), *arguments)
        assert [secret for secret in SECRETS if secret in told] == []
        # What JSON escapes could hide one.
        if arguments:
            told = repr(json.loads(told))
            assert [secret for secret in SECRETS if secret in told] == []


def test_the_secrets_are_where_they_would_be_found() -> None:
    """Else the test above proves nothing."""
    with tempfile.TemporaryDirectory() as folder:
        texts = []
        for name in HOSTS:
            (Path(folder) / name).mkdir()
            host = make(name, Path(folder) / name)
            texts += [path.read_text(errors="replace") for path in host.root.rglob("*") if path.is_file()]
    assert [secret for secret in SECRETS if not any(secret in text for text in texts)] == []


def test_every_secret_in_a_crontab_unit_or_script_is_named_by_line(made, run) -> None:
    named = {
        (name, evidence["where"], evidence["line"], evidence["detail"])
        for name in HOSTS
        for problem in found(run, made(name))["problems"]
        if problem["code"] == "secret_in_file"
        for evidence in problem["evidence"]
    }
    for wanted in (
        ("only_cron", "/etc/cron.d/pg", 1, "password"),
        ("only_timers", "/etc/systemd/system/pg-backup.service", 5, "password"),
        ("borg_failing", "/usr/local/sbin/borg.sh", 2, "password"),
        ("empty_dumps", "/usr/local/bin/backup_db.sh", 2, "password"),
        ("same_disk", "/etc/cron.daily/backup", 3, "password"),
        ("everything", "/etc/cron.d/backups", 4, "token"),
        ("everything", "/etc/cron.d/backups", 5, "password_in_url"),
        ("everything", "/root/.config/rclone/rclone.conf", 3, "access_key"),
        ("everything", "/etc/backup.env", 1, "password"),
        ("everything", "/opt/tools/backup_redis.py", 4, "password"),
    ):
        assert wanted in named
    assert not [one for one in named if one[0] == "restic_right"], "settings that only root reads are their place"


@pytest.mark.parametrize("name", HOSTS)
def test_the_json_is_as_documented_and_every_finding_names_its_evidence(name: str, made, run) -> None:
    audit = found(run, made(name))
    jsonschema.validate(audit, json.loads((ROOT / "docs/reference/audit.json").read_text()))
    assert [
        one["code"] for one in audit["problems"] if not one["evidence"] and one["code"] not in WITHOUT_EVIDENCE
    ] == []
    assert [one["id"] for one in audit["protections"] if not one["evidence"]] == []


@pytest.mark.parametrize("name", HOSTS)
def test_every_recommendation_has_a_command_that_a_shell_takes(name: str, made, run) -> None:
    for one in found(run, made(name))["recommendations"]:
        assert one["command"], one["code"]
        subprocess.run(["bash", "-n", "-c", one["command"]], check=True, capture_output=True)
        assert shlex.split(one["command"])


def test_the_report_of_the_seeds_server_reads_as_its_own_audit_did(made, run) -> None:
    code, text = run(made("seed"))
    assert code == CODES["WARNING"]
    lines = text.splitlines()
    for wanted in (
        "✅ Cron jobs and timers: configured: backup_postgres.sh",
        "✅ Backup scripts: configured: backup_postgres.sh",
        "✅ Database backup: configured: backup_postgres.sh",
        "❌ Volume backup: not configured",
        "❌ Docker Compose backup services: not configured",
        "WARNING: the backup configuration has gaps that should be closed.",
    ):
        assert wanted in lines
    for problem in (
        "Docker volumes without a backup",
        "No documented recovery procedures",
        "No recovery scripts",
        "No recovery tests",
    ):
        assert [line for line in lines if line.endswith(problem)], problem
    heads = (
        "Overview",
        "Backup methods found",
        "Overall status",
        "Problems found",
        "Short term",
        "Medium term",
        "Long term",
        "Conclusion",
        "Next steps",
    )
    places = [lines.index(head) for head in heads]
    assert places == sorted(places)
    assert "docker_volume:renum_data, docker_volume:suna_data" in text
    assert "/opt/scripts/backup_postgres.sh:3" in text


def test_the_report_is_had_in_another_format_and_language(made, run) -> None:
    code, page = run(made("seed"), "--format", "html", "--language", "pt-BR")
    assert code == CODES["WARNING"]
    assert page.startswith('<!DOCTYPE html>\n<html lang="pt-BR">')
    assert "Volumes Docker sem configuração de backup" in page
    text = json.loads(run(made("seed"), "--json", "--format", "markdown")[1])["text"]
    assert "\n1. **Docker volumes without a backup**\n" in text


def test_hostile_names_move_no_cursor_and_break_no_line(made, run) -> None:
    _, text = run(made("odd_names"))
    assert "\x1b" not in text
    assert "tree:/srv/a \\x1b[31mb\\n$(touch x)" in text
    assert not (Path.cwd() / "x").exists()


@pytest.mark.parametrize(
    ("name", "limit", "code"),
    [
        ("only_cron", "warning", 3),
        ("only_cron", "critical", 0),
        ("empty_dumps", "critical", 7),
        ("empty_dumps", "never", 0),
        ("nothing", "warning", 0),
    ],
)
def test_the_exit_code_follows_the_level_that_fails(name: str, limit: str, code: int, made, run) -> None:
    assert run(made(name), "--fail-on", limit)[0] == code


def test_a_wrong_option_is_a_usage_error(made, run) -> None:
    code, told = run(made("nothing"), "--fail-on", "sometimes")
    assert code == 2
    assert "fix:" in told


def test_what_may_not_be_read_is_named_and_not_called_missing(tmp_path: Path) -> None:
    """As another user, or as root without its rights: the crontab that has the backup is closed."""
    folder = Path(tempfile.mkdtemp(prefix="audit-", dir="/tmp"))
    try:
        host = make("seed", folder)
        for path in ("/var/spool/cron/crontabs/root", "/opt/scripts/backup_postgres.sh"):
            host.at(path).chmod(0o000)
        done = subprocess.run(
            [sys.executable, "-m", "restaura", "audit", "--json"],
            env={"RESTAURA_ROOT": str(folder), "PYTHONPATH": str(_copy(folder)), "PYTHONDONTWRITEBYTECODE": "1"},
            user=65534 if os.geteuid() == 0 else None,
            capture_output=True,
            text=True,
            check=False,
        )
        audit = json.loads(done.stdout)
    finally:
        shutil.rmtree(folder)
    blamed = {one["where"]: one["detail"] for one in audit["unreadable"]}
    assert blamed["/var/spool/cron/crontabs/root"] == "permission"
    assert blamed["/opt/scripts/backup_postgres.sh"] == "permission"
    assert done.returncode == CODES["WARNING"]
    assert not {one for one in codes(audit) if one.startswith("unprotected_") or one == "nothing_protected"}
    assert {"unseen_databases", "unseen_volumes", "not_all_seen"} <= codes(audit)
    assert not {one for one in codes(audit) if one.startswith("no_recovery")}
    assert audit["methods"]["cron_jobs"] is None
    assert "❌" not in audit["text"]
    assert PGPASS not in done.stdout


def _copy(folder: Path) -> Path:
    """Copy the program to where another user may read it."""
    shutil.copytree(ROOT / "src/restaura", folder / "program/restaura", ignore=shutil.ignore_patterns("__pycache__"))
    import yaml

    shutil.copytree(
        Path(yaml.__file__).parent, folder / "program/yaml", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    subprocess.run(["chmod", "-R", "a+rX", folder / "program"], check=True)
    return folder / "program"


def test_a_large_host_is_looked_at_whole(tmp_path: Path, run) -> None:
    """200 containers with a volume each, 300 lines in crontabs: printed is what it took, asserted what was found."""
    tmp_path.chmod(0o755)
    host = AuditedHost(tmp_path)
    host.base()
    for number in range(200):
        name = f"app{number:03}"
        volume = host.volume(f"{name}_data", Labels={"com.docker.compose.project": name})
        host.put(f"{volume}/blob", b"x" * 5000)
        host.container(f"{name}-web-1", "nginx", (f"{name}_data", "/data"), project=name, folder=f"/srv/{name}")
        host.put(
            f"/srv/{name}/compose.yml",
            "services:\n  web:\n    image: nginx\n    volumes: [data:/data]\nvolumes: {data: {}}\n",
        )
    host.daemon_stopped()
    lines = []
    for number in range(300):
        lines.append(
            f"{number % 60} {number % 24} * * * root /opt/jobs/job{number:03}.sh >> /var/log/jobs/{number}.log 2>&1\n"
        )
        loop = 'for i in 1 2 3; do\n  echo "step $i of $(hostname)" >> /tmp/x\ndone\n' * 20
        backup = f"docker run --rm -v app{number:03}_data:/d -v /var/backups/v:/b alpine"
        backup += f" tar czf /b/app{number:03}-$(date +%F).tgz /d\n"
        host.script(f"/opt/jobs/job{number:03}.sh", f"#!/bin/bash\nset -e\n{loop}{backup if number < 150 else ''}")
    host.put("/etc/cron.d/jobs", "".join(lines[:150]))
    host.put("/var/spool/cron/crontabs/root", "".join(line.replace(" root ", " ", 1) for line in lines[150:]))
    for number in range(150):
        host.copies(f"/var/backups/v/app{number:03}-%s.tgz", count=4)
    audit = found(run, host)
    print(f"audit of 200 containers and 300 lines: {audit['seconds']} s")
    covered = {one for protection in audit["protections"] for one in protection["covers"]}
    assert {f"docker_volume:app{number:03}_data" for number in range(150)} <= covered
    assert len(audit["protections"]) == 150
    (volumes,) = [one for one in audit["problems"] if one["code"] == "unprotected_volumes"]
    assert len(volumes["about"]) == 50
    assert MASK not in json.dumps(audit)
