# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: a text as Ansible Vault encrypts it, the same as long as the text is the same."""

DOCUMENTATION = r"""
name: vaulted
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Encrypt a text with the vault password of this run
description:
  - Returns the text encrypted with the first vault password given to this run, or as it is when none was given.
  - Every encryption of a text differs. What O(keep) holds is returned unchanged when it decrypts to this very text
    and is encrypted when it should be.
options:
  _terms:
    description: The text.
    required: true
  keep:
    description: File on the controller that may hold the text already.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Keep a key
  ansible.builtin.copy:
    content: "{{ lookup('restaura.stack.vaulted', key, keep='keys/web1') }}"
    dest: keys/web1
    mode: "0600"
"""

RETURN = r"""
_raw:
  description: The text to write, one element.
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecretsContext, is_encrypted
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Encrypt with what --vault-password-file and the like gave."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the one text to write."""
        self.set_options(var_options=variables, direct=kwargs)
        text, path = str(terms[0]), Path(self.get_option("keep"))
        vault = VaultLib(VaultSecretsContext.current().secrets)
        there = path.read_bytes() if path.is_file() else b""
        if is_encrypted(there) == bool(vault.secrets) and self._plain(vault, there) == text.encode():
            return [there.decode()]
        return [vault.encrypt(text).decode() if vault.secrets else text]

    @staticmethod
    def _plain(vault: VaultLib, there: bytes) -> bytes | None:
        try:
            return bytes(vault.decrypt(there)) if is_encrypted(there) else there
        except AnsibleError:
            return None
