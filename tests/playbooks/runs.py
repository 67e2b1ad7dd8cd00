# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks are run through ansible-runner, as a person would run them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

from tools.lab import hosts


@dataclass
class Play:
    """What one run of a playbook did. `text` is all that a person would have seen, `told` what setup says last."""

    status: str
    text: str
    changed: int
    failed: int
    messages: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@dataclass
class Site:
    """A controller's folder with an inventory of lab hosts, from which playbooks are run."""

    folder: Path
    project: Path
    variables: dict[str, Any]

    def play(self, playbook: str, *options: str, **extra: Any) -> Play:
        """Run a playbook of the project, or of an installed collection by its full name."""
        (self.folder / "extra.json").write_text(json.dumps(extra))
        inventory = {"all": {"vars": self.variables, "hosts": self.hosts}}
        for folder in ("site", "runner"):
            (self.folder / folder).mkdir(exist_ok=True)
        (self.folder / "site/hosts.yml").write_text(yaml.safe_dump(inventory))
        path = self.project / playbook
        done = ansible_runner.run(
            private_data_dir=str(self.folder / "runner"),
            project_dir=str(self.project),
            playbook=str(path) if path.exists() else playbook,
            inventory=str(self.folder / "site"),
            cmdline=" ".join([*options, "-e", f"@{self.folder / 'extra.json'}"]),
            envvars=self.environment,
            suppress_env_files=True,
            quiet=True,
        )
        stats = done.stats or {}

        def results(task: str) -> list[dict[str, Any]]:
            return [
                event["event_data"]["res"]
                for event in done.events
                if event["event"] == "runner_on_ok" and event["event_data"]["task"] == task
            ]

        failures = [event["event_data"]["res"] for event in done.events if event["event"] == "runner_on_failed"]
        with done.stdout as output:
            text = output.read()
        return Play(
            done.status,
            text,
            sum((stats.get("changed") or {}).values()),
            sum((stats.get("failures") or {}).values()) + sum((stats.get("dark") or {}).values()),
            [str(one.get("msg", one)) for one in failures],
            [line for res in results("What was put back or changed") for line in res["msg"]],
        )

    def __post_init__(self) -> None:
        """Begin without a host."""
        self.hosts: dict[str, Any] = {}
        self.environment = {
            "ANSIBLE_CONFIG": str(self.project / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_HOME": str(self.folder / "home"),
        }

    def add(self, host: hosts.Host) -> None:
        """Put a lab host into the inventory."""
        self.hosts[host.name] = {
            "ansible_host": host.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": host.key,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -o StrictHostKeyChecking=yes",
        }


def sh(host: hosts.Host, script: str) -> str:
    """Run a script in a host, not through Ansible, and return what it printed; it must succeed."""
    command = ["docker", "exec", host.container, "/bin/bash", "-c", script]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def ssh(host: hosts.Host, script: str) -> str:
    """Run a script in a host over SSH. Where containers run in it, `docker exec` cannot enter it any more.

    Its systemd gives cgroup controllers to their slices then, and the kernel lets no process into a group that does.
    """
    options = ["-i", host.key, "-o", f"UserKnownHostsFile={host.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
    command = ["ssh", *options, f"root@{host.address}", "bash", "-s"]
    return subprocess.run(command, input=script, stdout=subprocess.PIPE, text=True, check=True).stdout
