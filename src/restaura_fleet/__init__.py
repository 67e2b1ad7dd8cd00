# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of Restaura: many hosts at once. No host ever gets this."""
