# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup: variables of groups and hosts that no inventory names."""

DOCUMENTATION = r"""
name: stray_vars
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Find variables that nobody gets
description:
  - Looks at C(group_vars) and C(host_vars) beside the given inventories. Ansible says nothing about a file there whose
    group or host does not exist, so a misspelt one ends what it declares without a word.
  - Returns the files that set a C(backup_) variable for a name that is neither a group or host of this run, nor named
    in any other file of the inventory's folder, as that of another inventory there would be.
options:
  _terms:
    description: Inventories, as in C(ansible_inventory_sources).
    type: list
    elements: str
    required: true
  names:
    description: Every group and host there is.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Find them
  ansible.builtin.debug:
    msg: "{{ query('restaura.stack.stray_vars', *ansible_inventory_sources, names=groups.keys()) }}"
"""

RETURN = r"""
_raw:
  description: The files, each with the name that was probably meant.
  type: list
  elements: str
"""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

KINDS = {"group_vars": "group", "host_vars": "host"}
SETS = re.compile(r"^[\s\"'{]*backup_", re.MULTILINE)


class LookupModule(LookupBase):
    """Look beside every inventory."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return a sentence for each stray file."""
        self.set_options(var_options=variables, direct=kwargs)
        names = list(self.get_option("names"))
        folders = {path if path.is_dir() else path.parent for path in map(Path, terms) if path.exists()}
        return [sentence for folder in sorted(folders) for sentence in _stray(folder, names)]


def _stray(folder: Path, names: list[str]) -> Iterator[str]:
    told = "\n".join(_text(path) for path in sorted(folder.iterdir()) if path.is_file())
    for kind, one in KINDS.items():
        for path in sorted((folder / kind).glob("*")):
            name = path.stem if path.suffix in (".yml", ".yaml", ".json") else path.name
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            if name in names or re.search(rf"\b{re.escape(name)}\b", told) or not any(map(_sets, files)):
                continue
            near = difflib.get_close_matches(name, names, 1)
            yield f"{path} (there is no {one} {name}{f', did you mean {near[0]}?' if near else ''})"


def _sets(path: Path) -> bool:
    return path.is_file() and bool(SETS.search(_text(path)))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
