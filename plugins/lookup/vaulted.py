# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: a text as Ansible Vault encrypts it."""

DOCUMENTATION = r"""
name: vaulted
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Encrypt a text with the vault password of this run
description:
  - Returns the text encrypted with the first vault password given to this run, or as it is when none was given.
options:
  _terms:
    description: The text.
    required: true
"""

EXAMPLES = r"""
- name: Keep a key
  ansible.builtin.copy:
    content: "{{ lookup('restaura.stack.vaulted', key) }}"
    dest: keys/web1
    mode: "0600"
"""

RETURN = r"""
_raw:
  description: The text to write, one element.
  type: list
  elements: str
"""

from typing import Any

from ansible.parsing.vault import VaultLib, VaultSecretsContext
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Encrypt with what --vault-password-file and the like gave."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the one text to write."""
        text, vault = str(terms[0]), VaultLib(VaultSecretsContext.current().secrets)
        return [vault.encrypt(text).decode() if vault.secrets else text]
