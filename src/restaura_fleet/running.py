# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `audit_backup.yml` against an inventory, through ansible-runner."""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ansible_runner

from restaura.errors import RestauraError

ROOT = Path(__file__).parents[2]
PLAYBOOK = ROOT / "playbooks/audit_backup.yml"


def audit_all(inventories: Sequence[str], reports: Path, language: str | None, options: Sequence[str]) -> None:
    """Audit the hosts of inventories and have the reports written into the directory `reports`.

    `options` are further ones of ansible-playbook. That hosts fail is a finding; RestauraError says that Ansible wrote
    no report, with what it printed.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    variables = {"backup_report_dir": str(reports), **({"backup_report_language": language} if language else {})}
    arguments = [str(PLAYBOOK), *(part for one in inventories for part in ("-i", one))]
    with tempfile.TemporaryDirectory() as data:
        out, errors, code = ansible_runner.run_command(
            executable_cmd=str(program) if program.exists() else program.name,
            cmdline_args=[*arguments, *options, "-e", json.dumps(variables)],
            private_data_dir=data,
            host_cwd=str(Path.cwd()),
            # Without a terminal of its own, ssh asks on that of the person, as under ansible-playbook.
            runner_mode="subprocess",
            envvars={"ANSIBLE_CONFIG": os.environ.get("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))},
            quiet=True,
        )
    if not any(reports.iterdir()):
        raise RestauraError(
            f"no host was audited; ansible-playbook ended with exit code {code}\n{out}{errors}".rstrip(),
            where=", ".join(inventories),
            fix=f"ansible-playbook {' '.join(arguments[1:])} audit_backup.yml",
        )
