#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: list restore points and how the host stands."""

DOCUMENTATION = r"""
module: backup_point_info
version_added: "0.1.0"
short_description: List restore points and show how a host stands
description:
  - Reads only. Returns the points in the host's stores, what C(restaura status) says of them, and what
    C(restaura discover) would declare.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.reads
options:
  gather:
    description: What to return. Points may have to be listed in remote stores. V(discovery) needs no configuration.
    type: list
    elements: str
    choices: [points, status, discovery]
    default: [points, status]
  plan:
    description: Only the points of this plan.
    type: str
  component:
    description: Only points that hold this component.
    type: str
  stores:
    description: Where local stores are, or will be. What they hold is not discovered; what is found must fit there.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: See which points there are
  restaura.stack.backup_point_info:
    component: postgres
  register: found

- name: Refuse to upgrade without a proven backup
  ansible.builtin.assert:
    that: [found.points | length > 0]
"""

RETURN = r"""
points:
  description: The points, oldest first.
  returned: when O(gather) holds V(points)
  type: list
  elements: dict
status:
  description: What C(restaura status) answered.
  returned: when O(gather) holds V(status)
  type: dict
discovery:
  description: What C(restaura discover) answered.
  returned: when O(gather) holds V(discovery)
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.program import (
    EXIT_DONE,
    EXIT_PARTIAL,
    PROGRAM_OPTION,
    call,
    result,
)


def main() -> None:
    what = ["points", "status"]
    module = AnsibleModule(
        argument_spec={
            "gather": {"type": "list", "elements": "str", "choices": [*what, "discovery"], "default": what},
            "stores": {"type": "list", "elements": "path", "default": []},
            "plan": {"type": "str"},
            "component": {"type": "str"},
            **PROGRAM_OPTION,
        },
        supports_check_mode=True,
    )
    found: dict[str, Any] = {}
    if "points" in module.params["gather"]:
        chosen = [f"--{name}={module.params[name]}" for name in ("plan", "component") if module.params[name]]
        found["points"] = call(module, "list", *chosen)["points"]
    if "status" in module.params["gather"]:
        found["status"] = result(call(module, "status", accept=(EXIT_DONE, EXIT_PARTIAL)))
    if "discovery" in module.params["gather"]:
        found["discovery"] = result(call(module, "discover", *(f"--store={one}" for one in module.params["stores"])))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
