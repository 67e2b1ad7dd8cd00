# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is told to back up: the schema, and how a declaration becomes typed objects."""
