# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a misspelt name was probably meant to be."""

DOCUMENTATION = r"""
name: did_you_mean
author: [The Restaura authors]
version_added: "0.1.0"
short_description: Say what misspelt names were probably meant to be
description: Adds to every name the known one that is nearest to it.
positional: known
options:
  _input:
    description: The names.
    type: list
    elements: str
    required: true
  known:
    description: The names there are.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
message: "{{ ['prot'] | restaura.stack.did_you_mean(['port', 'host']) }}"
"""

RETURN = r"""
_value:
  description: The names, C(prot (did you mean port?)) where one is near.
  type: list
  elements: str
"""

import difflib
from collections.abc import Callable, Iterable


def did_you_mean(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return every name, with the known one that is nearest to it where one is near."""
    choices = list(known)
    found = []
    for name in names:
        near = difflib.get_close_matches(name, choices, 1)
        found.append(f"{name} (did you mean {near[0]}?)" if near else name)
    return found


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filters by name."""
        return {"did_you_mean": did_you_mean}
