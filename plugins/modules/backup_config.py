#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make a host what its declaration says."""

DOCUMENTATION = r"""
module: backup_config
version_added: "0.1.0"
short_description: Declare what a host backs up, where to and when
description:
  - Takes the whole declaration at once. The on-host program writes configuration, keys, stores and the cron file.
  - The declaration is checked as a whole before anything is written. What was edited by hand is put back.
  - A key that is not given is generated on the host once, never in check mode, and never overwritten.
extends_documentation_fragment:
  - restaura.stack.program
  - restaura.stack.declaration
attributes:
  check_mode:
    support: full
    description: Says what differs, also on a host that has no program yet.
  diff_mode:
    support: full
    description: Shows every difference; a secret only as C((secret)).
  async:
    support: full
    description: May be run in the background.
"""

EXAMPLES = r"""
- name: Back up the configuration and the web application every night
  restaura.stack.backup_config:
    settings: {host: "{{ inventory_hostname }}"}
    stores:
      - {name: local, type: restic, location: /var/backups/restaura}
    plans:
      - {name: daily, schedule: "02:30"}
    components:
      files:
        - {name: system, paths: [/etc]}
        - {name: web, paths: [/srv/www]}
"""

RETURN = r"""
changes:
  description: What differed from the declaration, each with C(what), C(before), C(after), and C(said), a sentence.
  returned: success
  type: list
  elements: dict
  sample:
    - what: mode of key /etc/restaura/keys/manifest.key
      before: 0644, owner 0:0
      after: 0600, owner 0:0
      said: mode and owner of key /etc/restaura/keys/manifest.key were 0644, owner 0:0, and are 0600, root again
components:
  description: Names of the components that are declared.
  returned: success
  type: list
  elements: str
  sample: [system, web]
kit_sha256:
  description: SHA-256 of the recovery kit as C(restaura keys kit) prints it; empty while the host has none.
  returned: success
  type: str
runbook:
  description: The host's runbook, as Markdown. It holds no secret.
  returned: success
  type: str
told:
  description: What a person should read, what was put back or changed, what is no longer protected, what others left.
  returned: success
  type: list
  elements: str
  sample: [/etc/cron.d/restaura had been deleted and was written again]
unprotected:
  description: Components that were protected before and are no longer declared.
  returned: success
  type: list
  elements: str
  sample: [old-shop]
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.restaura.stack.plugins.module_utils.declaration import SPEC
from ansible_collections.restaura.stack.plugins.module_utils.program import PROGRAM_OPTION, call


def main() -> None:
    module = AnsibleModule(
        argument_spec={**SPEC, **PROGRAM_OPTION},
        supports_check_mode=True,
    )
    declaration = {name: _given(module.params[name]) for name in SPEC if module.params[name] is not None}
    check = ["--check"] if module.check_mode else []
    answer = call(module, "configure", *check, given=json.dumps(declaration))
    for warning in answer["warnings"]:
        module.warn(warning)
    names = [one["name"] for kind in declaration.get("components", {}).values() for one in kind]
    module.exit_json(
        changed=answer["changed"],
        changes=answer["changes"],
        unprotected=answer["unprotected"],
        kit_sha256=answer["kit_sha256"],
        runbook=answer["runbook"],
        told=[one["said"] for one in answer["changes"]] + answer["warnings"],
        components=names,
        diff=[_diff(one) for one in answer["changes"]],
    )


def _given(value: Any) -> Any:
    """Return a declaration without what was not given, so that the program's own defaults hold."""
    if isinstance(value, dict):
        return {key: _given(one) for key, one in value.items() if one is not None}
    return [_given(one) for one in value] if isinstance(value, list) else value


def _diff(change: dict[str, str]) -> dict[str, str]:
    ended = {
        side: text if text.endswith("\n") else f"{text}\n"
        for side, text in change.items()
        if side in ("before", "after")
    }
    return {"before_header": change["what"], "after_header": change["what"], **ended}


if __name__ == "__main__":
    main()
