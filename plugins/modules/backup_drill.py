#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: prove a restore point by restoring it."""

DOCUMENTATION = r"""
module: backup_drill
version_added: "0.1.0"
short_description: Prove a restore point by restoring it into a throw-away target
description:
  - Restores a point beside everything that runs, compares fingerprints, records the result, removes what it restored.
  - Live data are never touched: the module reports no change. It fails when what came back is not what was backed up.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.point
options:
  wait:
    description: Seconds to wait for another run that holds the same components or stores.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Does nothing and says so.
  diff_mode:
    support: none
    description: Changes nothing.
  async:
    support: full
    description: Goes on when the connection drops.
"""

EXAMPLES = r"""
- name: Prove the latest point of the database
  restaura.stack.backup_drill:
    components: [postgres]
"""

RETURN = r"""
answer:
  description: What the program answered, by component.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.point import POINT_OPTIONS, arguments
from ansible_collections.restaura.stack.plugins.module_utils.program import PROGRAM_OPTION, call, result


def main() -> None:
    module = AnsibleModule(
        argument_spec={**POINT_OPTIONS, "wait": {"type": "int", "default": 0}, **PROGRAM_OPTION},
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, answer={}, msg="check mode: nothing was drilled")
    answer = call(module, "drill", *arguments(module.params, wait="--wait"))
    module.exit_json(changed=False, answer=result(answer))


if __name__ == "__main__":
    main()
