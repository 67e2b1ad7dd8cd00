# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker volumes: what the daemon says of them, the containers that use them, and how those are held still."""
