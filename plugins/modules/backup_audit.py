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
  - The status is a finding and no failure of the task. Let C(failed_when) decide what is one.
  - An audit that is not made by root says what it could not look at.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.reads
options:
  language:
    description: The language of the text.
    type: str
    choices: [en, pt-BR]
    default: en
"""

EXAMPLES = r"""
- name: See how this host is backed up
  restaura.stack.backup_audit:
  register: found

- name: Refuse to go on where data would be lost
  restaura.stack.backup_audit:
  register: found
  failed_when: found.audit.status == 'CRITICAL'
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
    PROGRAM_OPTION,
    call,
    result,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "language": {"type": "str", "choices": ["en", "pt-BR"], "default": "en"},
            **PROGRAM_OPTION,
        },
        supports_check_mode=True,
    )
    audit = call(module, "audit", "--fail-on=never", f"--language={module.params['language']}")
    module.exit_json(changed=False, audit=result(audit))


if __name__ == "__main__":
    main()
