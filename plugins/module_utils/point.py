# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that choose a point, shared by restores and drills. Private to this collection."""

from typing import Any

POINT_OPTIONS: dict[str, Any] = {
    "plan": {"type": "str"},
    "point": {"type": "str"},
    "date": {"type": "str"},
    "before": {"type": "str"},
    "components": {"type": "list", "elements": "str", "default": []},
}


def arguments(params: dict[str, Any], **named: str) -> list[str]:
    """Return the command line for the options that were given; `named` maps an option to its flag."""
    flags = {"plan": "--plan", "point": "--point", "date": "--date", "before": "--before", "components": "--component"}
    found: list[str] = []
    for option, flag in {**flags, **named}.items():
        value = params[option]
        # One word with `=`: a value that begins with a dash is still a value.
        found += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value]) if one not in (None, "")]
    return found
