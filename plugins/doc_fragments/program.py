# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation of every module of this collection has in common."""


class ModuleDocFragment:
    """Attributes and the option that the action plugin fills in."""

    DOCUMENTATION = r"""
options:
  program:
    description:
      - Path of the program on the host. The action plugin fills it in; never give it yourself.
    type: path
  program_sha256:
    description:
      - SHA-256 of the program that is wanted. The action plugin fills it in; never give it yourself.
    type: str
  program_else:
    description:
      - Path of the program to use when O(program) is not the one that is wanted.
      - The action plugin fills it in; never give it yourself.
    type: path
requirements:
  - Python 3.11 or newer at C(/usr/bin/python3) on the host
  - The module must be run as root
author:
  - The Restaura authors
"""

    ACTS = r"""
attributes:
  check_mode:
    support: full
    description: Says what would happen and changes nothing, also on a host that has no program yet.
  diff_mode:
    support: none
    description: Does not apply; what is copied or restored is not shown.
  async:
    support: full
    description: Goes on when the connection drops; a run that nobody waits for any more ends its work, too.
"""

    READS = r"""
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  async:
    support: full
    description: May be run in the background.
"""

    POINT = r"""
options:
  plan:
    description: The plan whose points are meant.
    type: str
  point:
    description: The point's id, or the beginning of it. Default is the latest good one.
    type: str
  date:
    description: The newest point with this label, as C(2025-06-28).
    type: str
  before:
    description: The newest point before this time, ISO 8601 with its offset.
    type: str
  components:
    description: Only these components. Default is all of the point.
    type: list
    elements: str
    default: []
"""
