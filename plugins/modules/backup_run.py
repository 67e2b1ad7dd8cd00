#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: take a restore point."""

DOCUMENTATION = r"""
module: backup_run
version_added: "0.1.0"
short_description: Take a restore point of a plan
description:
  - Runs what the plan's cron line runs. Fails unless every component is complete in every store of the plan.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.acts
options:
  plan:
    description: The plan's name.
    type: str
    required: true
  unless_proven:
    description: Whether to do nothing when the plan has a proven point of everything it holds.
    type: bool
    default: false
  drill:
    description: Whether to drill the new point at once, restoring it into a throw-away target and comparing.
    type: bool
    default: false
  wait:
    description: Seconds to wait for another run that holds the same components or stores.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Take and prove a first point
  restaura.stack.backup_run:
    plan: daily
    unless_proven: true
    drill: true
    wait: 3600
  async: 604800
  poll: 5
"""

RETURN = r"""
answer:
  description: What the program answered, the point and what became of each component.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.program import PROGRAM_OPTION, call, result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "str", "required": True},
            "unless_proven": {"type": "bool", "default": False},
            "drill": {"type": "bool", "default": False},
            "wait": {"type": "int", "default": 0},
            **PROGRAM_OPTION,
        },
        supports_check_mode=True,
    )
    flags = {
        "--unless-proven": module.params["unless_proven"],
        "--drill": module.params["drill"],
        "--check": module.check_mode,
    }
    chosen = [flag for flag, wanted in flags.items() if wanted]
    answer = call(module, "run", *chosen, f"--wait={module.params['wait']}", "--", module.params["plan"])
    module.exit_json(changed=answer.get("changed", True), answer=result(answer))


if __name__ == "__main__":
    main()
