# SPDX-License-Identifier: GPL-3.0-or-later
"""The role turns the admin API of Debian's Prometheus on: once, beside the flags there are; check mode only says so."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.playbooks.runs import Site
from tools.lab import hosts

PLAY = """\
- name: Apply the role alone
  hosts: all
  gather_facts: false
  roles:
    - role: restaura.stack.backup_prometheus
"""
FLAGS = "/etc/default/prometheus"
ON = "--web.enable-admin-api"


def on_host(host: hosts.Host, script: str) -> str:
    done = subprocess.run(
        ["docker", "exec", host.container, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def running(host: hosts.Host) -> list[str]:
    script = "tr '\\0' '\\n' < /proc/$(systemctl show --property=MainPID --value prometheus)/cmdline"
    return on_host(host, script).split()


def test_the_admin_api_is_turned_on_once(
    project: Path, tmp_path: Path, make_host: Callable[[str, str], hosts.Host]
) -> None:
    host = make_host("prometheus", "debian13-stack")
    playbook = project / "only_prometheus.yml"
    playbook.write_text(PLAY)
    variables = {
        "backup_prometheus_components": [{"name": "prometheus"}],
        "backup_prometheus_enable_admin_api": True,
    }
    site = Site(tmp_path, project, variables)
    site.add(host)
    given = "--storage.tsdb.retention.time=30d"
    on_host(host, f"sed -i 's/^ARGS=.*/ARGS=\"{given}\"/' {FLAGS}; systemctl start prometheus")
    before = on_host(host, f"cat {FLAGS}")
    assert ON not in before
    shown = site.play(playbook.name, "--check", "--diff")
    assert shown.status == "successful", shown.text
    assert f'+ARGS="{given} {ON}"' in shown.text
    assert on_host(host, f"cat {FLAGS}") == before
    assert ON not in running(host)

    done = site.play(playbook.name)
    assert (done.status, done.changed) == ("successful", 2), done.text
    assert {given, ON} <= set(running(host))
    assert on_host(host, f"cat {FLAGS}") == before.replace(f'"{given}"', f'"{given} {ON}"')
    again = site.play(playbook.name)
    assert (again.status, again.changed) == ("successful", 0), again.text

    # A file without the line gets one; a server that was stopped stays so.
    on_host(host, f"systemctl stop prometheus; sed -i /^ARGS=/d {FLAGS}")
    added = site.play(playbook.name)
    assert (added.status, added.changed) == ("successful", 1), added.text
    assert on_host(host, f"grep ^ARGS= {FLAGS}") == f'ARGS="{ON}"\n'
    assert on_host(host, "systemctl is-active prometheus || true") == "inactive\n"

    # What cannot be edited line by line is left alone, and said.
    on_host(host, f"printf 'ARGS=\"--log.level=warn \\\\\\n --log.format=json\"\\n' > {FLAGS}")
    odd = on_host(host, f"cat {FLAGS}")
    assert odd.count("\n") == 2
    refused = site.play(playbook.name)
    assert refused.failed == 1
    assert "ARGS is not one line in quotes" in refused.text
    assert on_host(host, f"cat {FLAGS}") == odd
