# SPDX-License-Identifier: GPL-3.0-or-later
"""make setup_backup from a clone, on a machine that has nothing: no init, no cron, no sudo, no python3-venv."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lab import hosts, wheels

ROOT = Path(__file__).parents[2]
# In a host there is no PyPI: pip takes what the lab downloaded.
PIP = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels DEBIAN_FRONTEND=noninteractive; cd /opt/restaura; "


def sh(host: hosts.Host, script: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "exec", host.container, "/bin/sh", "-c", script]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def clone(host: hosts.Host) -> None:
    """Lay the tree into the host as git would, the files not yet committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    there = b"\0".join(name for name in listed.split(b"\0") if name and (ROOT / name.decode()).exists())
    packed = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=there, capture_output=True, check=True)
    unpack = [
        "docker",
        "exec",
        "-i",
        host.container,
        "/bin/sh",
        "-c",
        "mkdir -p /opt/restaura && tar -x -C /opt/restaura",
    ]
    subprocess.run(unpack, input=packed.stdout, check=True)


DISCOVERED = "/opt/restaura/inventories/local/host_vars/localhost/backup_discovered.yml"


@pytest.fixture(scope="module", params=["bare13", "bare12"])
def machine(request: pytest.FixtureRequest) -> Iterator[hosts.Host]:
    host = hosts.create(f"fresh-{request.param}", request.param, init=False, mounts=[f"{wheels.up()}:/wheels:ro"])
    clone(host)
    made = sh(host, "apt-get update -q && apt-get install -q -y make && mkdir -p /srv/app && echo kept > /srv/app/file")
    assert made.returncode == 0, made.stdout
    yield host
    hosts.destroy(host.name)


@pytest.mark.timeout(900)
def test_a_fresh_machine_is_backed_up_proven_and_told_what_is_unsafe(machine: hosts.Host) -> None:
    refused = sh(machine, f"{PIP} useradd somebody; su somebody -c 'make setup_backup'")
    assert refused.returncode == 2
    assert "Run: sudo make setup_backup" in refused.stdout
    assert sh(machine, "ls /etc/restaura /opt/restaura/.venv 2>/dev/null").stdout == ""

    first = sh(machine, f"{PIP} make setup_backup")
    assert first.returncode == 0, first.stdout[-6000:]
    table = [line.split() for line in first.stdout.splitlines() if re.match(r"\s+(system|applications)\s", line)]
    assert [(row[0], "equal" in row) for row in table] == [("system", True), ("applications", True)], first.stdout[
        -6000:
    ]
    assert "UNSAFE" in first.stdout
    assert "cron could not be started" in first.stdout

    # What was found stands beside the inventory, each thing with its reason, for root alone.
    assert sh(machine, f"stat -c '%a %U' {DISCOVERED} $(dirname {DISCOVERED})").stdout == "600 root\n700 root\n"
    written = sh(machine, f"cat {DISCOVERED}").stdout
    assert re.search(r"^  # .+\n  - name: \"applications\"\n    paths: \[.*\"/srv\"", written, re.MULTILINE), written
    assert "keep_weekly: 4" in written
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", DISCOVERED.removeprefix("/opt/restaura/")], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0

    back = sh(machine, "restaura restore --component applications --to dir:/root/back --yes")
    assert back.returncode == 0, back.stdout
    assert sh(machine, "cat /root/back/srv/app/file").stdout == "kept\n"

    # What appears later is named, and nothing is changed for it.
    before = sh(machine, f"sha256sum {DISCOVERED}; mkdir /var/lib/redis; echo x > /var/lib/redis/dump.rdb").stdout
    second = sh(machine, f"{PIP} rm -r /root/back; make setup_backup")
    assert second.returncode == 0, second.stdout[-6000:]
    assert re.search(r"changed=0\s", second.stdout), second.stdout[-6000:]
    assert re.search(r"FOUND +not protected: redis /var/lib/redis", second.stdout), second.stdout[-6000:]
    assert sh(machine, f"sha256sum {DISCOVERED}").stdout == before
