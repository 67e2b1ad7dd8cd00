# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of hosts that have nothing of ours and hardly anything else, by the playbook."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.audited_hosts import SECRETS, make
from tests.playbooks.runs import Site, sh
from tools.lab import hosts

pytestmark = pytest.mark.timeout(600)

PLACES = "/etc /opt /srv /usr /var/backups /var/spool /root"
STATE = f"find {PLACES} -xdev -type f -not -path '/root/.ansible/*' -printf '%p %m %s %C@\\n' | sort | sha256sum"
# What a real host has itself.
OWN = ("etc/hostname", "etc/passwd", "proc")


def become(host: hosts.Host, name: str, folder: Path) -> None:
    """Lay the files of a made-up host over a real one."""
    folder.mkdir()
    made = make(name, folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(made.root.rglob("*")):
            inside = str(path.relative_to(made.root))
            if not inside.startswith(OWN) and (path.is_symlink() or not path.is_dir()):
                archive.add(path, inside, recursive=False)
    command = ["docker", "exec", "-i", host.container, "tar", "-x", "-C", "/"]
    subprocess.run(command, input=packed.getvalue(), check=True)


@pytest.fixture(scope="module")
def audited(
    make_host: Callable[..., hosts.Host], tmp_path_factory: pytest.TempPathFactory, project: Path
) -> tuple[Site, dict[str, hosts.Host]]:
    site, found = Site(tmp_path_factory.mktemp("site"), project, {}), dict[str, hosts.Host]()
    for name, image in (("seed", "bare13"), ("borg_failing", "bare12")):
        host = make_host(f"audit-{name.replace('_', '-')}", image)
        become(host, name, site.folder / name)
        site.add(host)
        found[name] = host
    return site, found


def test_bare_hosts_are_audited_and_nothing_is_left_on_them(audited: tuple[Site, dict[str, hosts.Host]]) -> None:
    site, made = audited
    before = {name: sh(host, STATE) for name, host in made.items()}
    for options in ((), ("--check",)):
        seen = site.play("audit_backup.yml", *options)
        assert (seen.status, seen.changed) == ("successful", 0), seen.messages
        for told in (
            "WARNING: the backup configuration has gaps that should be closed.",
            "CRITICAL: data would be lost today",
            "Docker volumes without a backup",
            "borg.sh has made nothing new since",
            "✅ Database backup: configured: backup_postgres.sh",
        ):
            assert told in seen.text, told
        assert [one for one in SECRETS if one in seen.text] == []
    assert {name: sh(host, STATE) for name, host in made.items()} == before
    assert [sh(host, "ls /usr/local/bin/restaura /etc/restaura 2>/dev/null || true") for host in made.values()] == [
        "",
        "",
    ]


def test_the_play_fails_for_the_hosts_that_are_bad_enough(audited: tuple[Site, dict[str, hosts.Host]]) -> None:
    site, _ = audited
    seen = site.play("audit_backup.yml", backup_audit_fail_on="critical")
    assert (seen.failed, seen.messages) == (1, ["the audit ends with CRITICAL"])
    assert "WARNING: the backup configuration has gaps" in seen.text


def test_a_fleet_gets_one_report_and_a_host_that_is_gone_is_in_it(
    audited: tuple[Site, dict[str, hosts.Host]], tmp_path: Path
) -> None:
    site, made = audited
    names = {name: host.name for name, host in made.items()}
    gone = {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    inventory = {"all": {"vars": {"backup_report_language": "pt-BR"}, "hosts": {**site.hosts, **gone}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def audit(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "restaura_fleet", "audit", "-i", "hosts.yml", *options]
        path = {"PYTHONPATH": str(site.project / "src")}
        env = {**os.environ, **site.environment, **path}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = audit("--", "--forks", "3")
    assert done.returncode == 7, done.stdout + done.stderr
    (report,) = (tmp_path / "reports").glob("audit-????-??-??.json")
    found = json.loads(report.read_text())
    assert [(one["name"], one["audit"] and one["audit"]["status"]) for one in found["hosts"]] == [
        (names["borg_failing"], "CRITICAL"),
        ("gone", None),
        (names["seed"], "WARNING"),
    ]
    assert "Connection refused" in found["hosts"][1]["error"]
    assert found["text"] in done.stdout
    for line in ("NÃO ANALISADO", "Servidores Não Analisados", "gone não pôde ser analisado"):
        assert line in done.stdout
    written = [path.read_text() for path in (tmp_path / "reports").iterdir()]
    assert len(written) == 3 * 4
    assert [secret for secret in SECRETS for text in written if secret in text] == []
    assert "Ausência de procedimentos de recuperação documentados" in report.with_suffix(".html").read_text()

    alone = audit("--fail-on", "never", "--directory", "alone", "--", "--limit", "gone")
    assert (alone.returncode, len(list((tmp_path / "alone").iterdir()))) == (1, 4), alone.stdout + alone.stderr
    assert "gone não pôde ser analisado" in alone.stdout
