#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: audit what on a host holds data and how it is backed up."""

DOCUMENTATION = r"""
module: backup_audit
version_added: "0.1.0"
short_description: Find what holds data on a host, how it is backed up, and what nobody backs up
description:
  - Reads only, and needs nothing on the host but Python, neither packages nor a configuration.
  - Looks for databases, Docker volumes, Compose projects and application trees; for cron jobs, timers, scripts,
    services and programs that back them up; and for what these have to show. Judges what it finds.
  - The status is a finding and no failure of the task, unless O(fail_on) says so.
  - An audit that is not made by root says what it could not look at.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.reads
options:
  fail_on:
    description: The least status with which the task fails.
    type: str
    choices: [warning, critical, never]
    default: never
  language:
    description: The language of the text.
    type: str
    choices: [en]
    default: en
"""

EXAMPLES = r"""
- name: See how this host is backed up
  restaura.stack.backup_audit:
  register: found

- name: Refuse to go on where data would be lost
  restaura.stack.backup_audit:
    fail_on: critical
"""

RETURN = r"""
audit:
  description:
    - The audit, as C(restaura audit --json) answers it; C(docs/audit.md) and C(docs/reference/audit.json) describe it.
  returned: success
  type: dict
  contains:
    status:
      description: C(OK), C(WARNING) or C(CRITICAL).
      type: str
    text:
      description: The report for people.
      type: str
    problems:
      description: What is wrong, each with code, severity, parameters and evidence.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.program import (
    EXIT_DONE,
    EXIT_PARTIAL,
    EXIT_UNPROTECTED,
    PROGRAM_OPTION,
    call,
    result,
)

LEVELS = ["OK", "WARNING", "CRITICAL"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "fail_on": {"type": "str", "choices": ["warning", "critical", "never"], "default": "never"},
            "language": {"type": "str", "choices": ["en"], "default": "en"},
            **PROGRAM_OPTION,
        },
        supports_check_mode=True,
    )
    accept = (EXIT_DONE, EXIT_PARTIAL, EXIT_UNPROTECTED)
    audit = result(call(module, "audit", f"--language={module.params['language']}", accept=accept))
    limit = module.params["fail_on"].upper()
    if limit in LEVELS and LEVELS.index(audit["status"]) >= LEVELS.index(limit):
        module.fail_json(msg=f"the audit ends with {audit['status']}\n{audit['text']}", audit=audit)
    module.exit_json(changed=False, audit=audit)


if __name__ == "__main__":
    main()
