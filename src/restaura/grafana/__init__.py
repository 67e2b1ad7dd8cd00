# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source `grafana` is made of: its settings, its database, its API, and the swap."""
