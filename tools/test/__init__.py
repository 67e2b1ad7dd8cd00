# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the project's tests: find them, count them, say where the time went."""
