#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: restore components of a point."""

DOCUMENTATION = r"""
module: backup_restore
version_added: "0.1.0"
short_description: Restore components of a restore point
description:
  - Without O(confirmed) it shows what would happen. With it, the data are restored beside the live data, compared, and
    swapped in; what they replace is kept, and C(restaura undo) brings it back.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.program.acts
  - restaura.stack.program.point
options:
  paths:
    description: Only these paths (files) or databases (postgres).
    type: list
    elements: str
    default: []
  to:
    description: Where to, as V(live), V(dir:PATH) or V(name:NEW).
    type: str
    default: live
  from_host:
    description: The host whose points to restore. Default is this one.
    type: str
  pause:
    description: Whether plans' ingestion is paused meanwhile. Say V(false) on a host where none runs yet.
    type: bool
    default: true
  confirmed:
    description: Whether to do it.
    type: bool
    default: false
  wait:
    description: Seconds to wait for another run that holds the same components or stores.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: See what a restore of yesterday's database would do
  restaura.stack.backup_restore:
    components: [postgres]
    date: "2025-06-28"

- name: Look at the web application's files in another place
  restaura.stack.backup_restore:
    components: [web]
    to: dir:/root/look
    confirmed: true
"""

RETURN = r"""
answer:
  description: What the program answered; without O(confirmed), what it would do.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.point import POINT_OPTIONS, arguments
from ansible_collections.restaura.stack.plugins.module_utils.program import PROGRAM_OPTION, call, result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **POINT_OPTIONS,
            "paths": {"type": "list", "elements": "str", "default": []},
            "to": {"type": "str", "default": "live"},
            "from_host": {"type": "str"},
            "pause": {"type": "bool", "default": True},
            "confirmed": {"type": "bool", "default": False},
            "wait": {"type": "int", "default": 0},
            **PROGRAM_OPTION,
        },
        supports_check_mode=True,
    )
    act = module.params["confirmed"] and not module.check_mode
    named = arguments(module.params, paths="--path", to="--to", from_host="--host", wait="--wait")
    alone = [] if module.params["pause"] else ["--no-pause"]
    answer = call(module, "restore", *named, *alone, "--yes" if act else "--check")
    module.exit_json(changed=act and answer.get("changed", True), answer=result(answer))


if __name__ == "__main__":
    main()
