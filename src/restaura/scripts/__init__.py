# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts in the administrator's path: a few lines each over `restaura`, for who knows no other name."""

from importlib import resources

MARK = "# Managed by Restaura"


def texts() -> dict[str, str]:
    """Return the scripts by name: the `.sh` files of this folder."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda one: one.name)
    return {one.name: one.read_text(encoding="utf-8") for one in files if one.name.endswith(".sh")}
