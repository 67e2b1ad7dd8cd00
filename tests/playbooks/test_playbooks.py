# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as a person runs them over SSH: set up, drift, restore, a lost connection, removal."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.playbooks.runs import Play, Site, sh
from tools.lab import hosts

# One host, and its tests in the order of this file.
pytestmark = pytest.mark.timeout(900)

PASSWORD = "s3cret-of-the-store"
DIGEST = "cd /srv/shop && find . -printf '%p %m %u %s %T@\\n' -type f -exec sha256sum {} + | sort | sha256sum"
FILES = "/etc/restaura /etc/cron.d /usr/local"
STATE = f"find {FILES} -type f -printf '%p %m %T@\\n' -exec sha256sum {{}} + | sort | sha256sum"


@pytest.fixture(scope="module")
def host(make_host: Callable[..., hosts.Host]) -> hosts.Host:
    host = make_host("plays", "debian13")
    sh(host, "mkdir -p /srv/shop && cd /srv/shop && for n in $(seq 50); do seq $n > page-$n; done")
    return host


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, project: Path, host: hosts.Host) -> Site:
    site = Site(
        tmp_path_factory.mktemp("site"),
        project,
        {
            "backup_runtime_stores": [
                {"name": "local", "type": "restic", "location": "/var/backups/shop", "password": PASSWORD}
            ],
            "backup_files_components": [{"name": "shop", "paths": ["/srv/shop"]}],
        },
    )
    site.add(host)
    (site.folder / "vault").write_text("vault password\n")
    return site


@pytest.fixture(scope="module")
def first(site: Site) -> Play:
    """The first setup, as loud as Ansible can be."""
    return site.play("setup_backup.yml", "-vvv", "--diff", "--vault-password-file", str(site.folder / "vault"))


def setup(site: Site, *options: str, **extra: object) -> Play:
    return site.play(
        "setup_backup.yml", "--diff", "--vault-password-file", str(site.folder / "vault"), *options, **extra
    )


def test_a_check_of_a_bare_host_shows_all_and_changes_nothing(
    make_host: Callable[..., hosts.Host], site: Site, tmp_path: Path
) -> None:
    bare = make_host("plays-bare", "bare12")
    alone = Site(tmp_path, site.project, site.variables)
    alone.add(bare)
    files = "find /etc /usr/local /var/lib /var/backups -printf '%p %m %s\\n'"
    state = f"dpkg -l | sha256sum; {files} | grep -v dpkg | sort | sha256sum"
    before = sh(bare, state)
    seen = alone.play("setup_backup.yml", "--check", "--diff")
    assert (seen.status, seen.failed) == ("successful", 0), seen.messages
    assert seen.changed
    for shown in (
        "missing packages: cron",
        "/etc/cron.d/restaura",
        "/usr/local/sbin/recover.sh",
        "Pin-Priority: -10",
        "restaura run daily",
        '"location": "/var/backups/shop"',
    ):
        assert shown in seen.text, shown
    assert PASSWORD not in seen.text
    assert sh(bare, state) == before


def test_setup_backs_up_proves_and_says_what_is_unsafe(first: Play, host: hosts.Host) -> None:
    assert (first.status, first.failed) == ("successful", 0), first.messages
    assert "UNSAFE" in first.text
    assert sh(host, "restaura list --json | grep -c proven").strip() == "1"


def test_no_secret_is_told_at_any_loudness(first: Play, site: Site, host: hosts.Host) -> None:
    generated = sh(host, "cat /etc/restaura/keys/manifest.key").strip()
    assert sh(host, "cat /etc/restaura/keys/stores.local.password").strip() == PASSWORD
    left = [path for path in (site.folder / "runner").rglob("*") if path.is_file()]
    assert left
    for secret in (PASSWORD, generated):
        assert secret not in first.text
        assert [path for path in left if secret in path.read_text(errors="replace")] == []
        assert sh(host, f"grep -rlF {secret} /var/log /etc/restaura/config.json /root/.ansible_async || true") == ""


def test_the_kit_is_kept_beside_the_inventory_encrypted(first: Play, site: Site, host: hosts.Host) -> None:
    kit = site.folder / "recovery_kits" / f"{host.name}.kit"
    assert kit.stat().st_mode & 0o777 == 0o600
    opened = VaultLib([("default", VaultSecret(b"vault password"))]).decrypt(kit.read_bytes())
    assert PASSWORD in opened.decode()
    assert (kit.parent / f"{host.name}.md").read_text() == sh(host, "cat /etc/restaura/RUNBOOK.md")


def test_a_second_setup_changes_nothing(first: Play, site: Site, host: hosts.Host) -> None:
    before = sh(host, STATE)
    second = setup(site)
    assert (second.status, second.changed) == ("successful", 0), second.text[-4000:]
    assert sh(host, STATE) == before


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"backup_file_components": []}, "backup_file_components (did you mean backup_files_components?)"),
        ({"backup_runtime_plans": [{"name": "a"}, {"name": "a"}]}, "the name 'a' stands twice"),
        ({"backup_runtime_plans": [{"name": "a", "components": ["shpo"]}]}, "did you mean 'shop'"),
        ({"backup_files_components": [{"name": "$(x)", "paths": ["/srv"]}]}, "is no name"),
        ({"backup_files_components": [{"name": "shop", "path": ["/srv"]}]}, "path"),
    ],
)
def test_a_mistake_is_told_before_anything_is_changed(
    first: Play, site: Site, host: hosts.Host, extra: dict[str, object], told: str
) -> None:
    before = sh(host, STATE)
    seen = setup(site, **extra)
    assert seen.status == "failed"
    assert told in " ".join(seen.messages)
    assert (seen.changed, sh(host, STATE)) == (0, before)


def test_setup_is_not_green_when_the_next_backup_cannot_run(first: Play, site: Site, host: hosts.Host) -> None:
    seen = setup(site, backup_runtime_plans=[{"name": "daily", "pause": {"units": ["ingestor.service"]}}])
    assert seen.status == "failed"
    assert "systemd does not know ingestor.service" in seen.text
    assert setup(site).status == "successful"


def test_a_restore_needs_the_names_of_all_hosts_of_the_play(first: Play, site: Site, host: hosts.Host) -> None:
    before = sh(host, DIGEST)
    sh(host, "cd /srv/shop && rm page-7 && echo spoilt > page-8")
    spoilt = sh(host, DIGEST)
    planned = site.play("restore_backup.yml")
    assert (planned.status, planned.changed) == ("successful", 0), planned.messages
    assert f"-e backup_restore_confirm={host.name}" in planned.text
    assert "would be restored to live" in planned.text
    refused = site.play("restore_backup.yml", backup_restore_confirm="another")
    assert refused.status == "failed"
    assert f"-e backup_restore_confirm={host.name}" in refused.messages[0]
    assert sh(host, DIGEST) == spoilt
    checked = site.play("restore_backup.yml", "--check", backup_restore_confirm=host.name)
    assert (checked.status, sh(host, DIGEST)) == ("successful", spoilt)
    restored = site.play("restore_backup.yml", backup_restore_confirm=host.name)
    assert (restored.status, restored.changed) == ("successful", 1), restored.messages
    assert sh(host, DIGEST) == before


def test_a_wrong_point_is_an_error_with_a_reason(first: Play, site: Site) -> None:
    seen = site.play("restore_backup.yml", backup_restore_point="20010101T000000Z-0000abcdef")
    assert seen.status == "failed"
    assert "20010101T000000Z-0000abcdef" in seen.messages[0]


def test_drill_and_status_show_what_is_proven(first: Play, site: Site) -> None:
    drilled = site.play("drill_backup.yml")
    assert (drilled.status, drilled.changed) == ("successful", 0), drilled.messages
    status = site.play("status_backup.yml")
    assert (status.status, status.changed) == ("successful", 0)
    assert "equal" in status.text


def test_a_run_survives_the_loss_of_the_connection(first: Play, site: Site, host: hosts.Host) -> None:
    sh(host, "mkdir -p /srv/large && head -c 400000000 /dev/urandom > /srv/large/blob")
    more = [*site.variables["backup_files_components"], {"name": "large", "paths": ["/srv/large"]}]
    site.variables["backup_files_components"] = more
    site.variables["backup_runtime_plans"] = [{"name": "daily", "components": ["shop"]}, {"name": "other"}]
    done: list[Play] = []
    running = threading.Thread(target=lambda: done.append(setup(site)))
    running.start()
    deadline = time.monotonic() + 300
    while "run --json" not in sh(host, "ps -eo args") and time.monotonic() < deadline:
        time.sleep(0.2)
    sessions = sh(host, "pgrep -f '^sshd(-session)?: root' || true").split()
    assert sessions, "the run had not begun, or nobody was connected"
    sh(host, f"kill -9 {' '.join(sessions)}")
    running.join()
    assert (done[0].status, done[0].failed) == ("successful", 0), done[0].messages
    assert setup(site).changed == 0
    sh(host, "truncate -s 0 /srv/large/blob")


def test_the_installed_collection_does_the_same(first: Play, site: Site, tmp_path: Path) -> None:
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "home")}
    for command in (["build", "--output-path", str(tmp_path)], ["install", "--offline", "-p", str(tmp_path)]):
        built = [str(one) for one in tmp_path.glob("*.tar.gz")] if "install" in command else []
        subprocess.run(
            [galaxy, "collection", *command, *built],
            cwd=site.project if "build" in command else tmp_path,
            env=environment,
            check=True,
            capture_output=True,
        )
    (tmp_path / "ansible.cfg").write_text("[defaults]\ninterpreter_python=/usr/bin/python3\n")
    elsewhere = Site(site.folder, tmp_path, site.variables)
    elsewhere.hosts = site.hosts
    elsewhere.environment |= {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path)}
    vault = ("--vault-password-file", str(site.folder / "vault"))
    seen = elsewhere.play("restaura.stack.setup_backup", *vault)
    # The same source makes the same program, wherever it lies.
    assert (seen.status, seen.changed) == ("successful", 0), seen.text[-4000:]


def test_removal_leaves_what_opens_the_backups(first: Play, site: Site, host: hosts.Host) -> None:
    kept = "ls /etc/restaura/keys /etc/restaura/RUNBOOK.md /var/backups/shop | sha256sum"
    before = sh(host, kept)
    seen = site.play("remove_backup.yml")
    assert seen.status == "successful", seen.messages
    assert "/var/backups/shop" in seen.text
    assert "/etc/restaura/keys" in seen.text
    assert sh(host, kept) == before
    gone = "/usr/local/bin/restaura /usr/local/lib/restaura /etc/cron.d/restaura /etc/restaura/config.json"
    assert sh(host, f"ls -d {gone} 2>/dev/null || true") == ""
    again = site.play("remove_backup.yml")
    assert (again.status, again.changed) == ("successful", 0)
    # And back again: the same keys open the same store.
    assert setup(site).status == "successful"
    assert sh(host, "restaura list --json | grep -c proven").strip() == "1"
