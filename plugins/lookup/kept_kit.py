# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: which recovery kit a file on the controller holds."""

DOCUMENTATION = r"""
name: kept_kit
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Tell which recovery kit a file holds
description:
  - Returns the SHA-256 of the kit in the file, decrypted when Ansible Vault encrypted it.
  - Returns an empty text when there is none, when it does not open with the vault passwords of this run, when it is
    plain though there is a vault password, and when others than its owner can read it.
options:
  _terms:
    description: The file.
    required: true
"""

EXAMPLES = r"""
- name: Say whether the kit is that of now
  ansible.builtin.assert:
    that: lookup('restaura.stack.kept_kit', 'recovery_kits/web1.kit') == configured.kit_sha256
"""

RETURN = r"""
_raw:
  description: The SHA-256 or an empty text, one element.
  type: list
  elements: str
"""

import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecretsContext, is_encrypted
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Decrypt with what --vault-password-file and the like gave."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the digest of the file's plain text."""
        path, vault = Path(str(terms[0])), VaultLib(VaultSecretsContext.current().secrets)
        if not path.is_file() or path.stat().st_mode & 0o077:
            return [""]
        there = path.read_bytes()
        if is_encrypted(there) != bool(vault.secrets):
            return [""]
        try:
            plain = bytes(vault.decrypt(there)) if vault.secrets else there
        except AnsibleError:
            return [""]
        return [hashlib.sha256(plain).hexdigest()]
