# SPDX-License-Identifier: GPL-3.0-or-later
"""What a settings object says beyond its defaults, in words that people read."""

import dataclasses
from typing import Any

from restaura.config.schema import Component


def covers(component: Component) -> str:
    """Return what a component backs up: the settings of its own kind that differ from their defaults."""
    common = {one.name for one in dataclasses.fields(Component)}
    return told(component, common) or "everything of it"


def told(item: Any, leave_out: set[str]) -> str:
    """Return the settings of `item` that differ from their defaults, secrets and `leave_out` left out."""
    found = []
    for one in dataclasses.fields(item):
        value = getattr(item, one.name)
        if one.name in leave_out or one.metadata.get("secret") or value == one.default:
            continue
        found.append(f"{one.name.replace('_', ' ')}: {_text(value)}")
    return "; ".join(found)


def _text(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return told(value, set())
    return ", ".join(map(_text, value)) if isinstance(value, tuple | list) else str(value)
