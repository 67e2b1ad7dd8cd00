# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: build the on-host program on the controller."""

DOCUMENTATION = r"""
name: runtime
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Build the on-host program
description:
  - Builds the program from this collection's source and returns its path on the controller.
  - The same source gives the same bytes, and the file is named after their SHA-256.
options: {}
"""

EXAMPLES = r"""
- name: Install the program
  ansible.builtin.copy:
    src: "{{ lookup('restaura.stack.runtime') }}"
    dest: /usr/local/lib/restaura/
    mode: "0755"
"""

RETURN = r"""
_raw:
  description: The path, one element.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.lookup import LookupBase
from ansible_collections.restaura.stack.tools.build_runtime import build


class LookupModule(LookupBase):
    """Build into Ansible's own temporary directory, which goes with the run."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the program's path."""
        return [str(build(Path(constants.DEFAULT_LOCAL_TMP)))]
