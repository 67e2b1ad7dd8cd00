# SPDX-License-Identifier: GPL-3.0-or-later
"""Restaura: backups of a host that are proven by restoring them."""

__version__ = "0.1.0"

# What modules, action plugin and program agree on: raised when the JSON of a verb changes incompatibly.
CONTRACT = 1
