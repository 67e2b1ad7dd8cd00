# SPDX-License-Identifier: GPL-3.0-or-later
"""What developers run: the test hosts, the test runner, the generators. None of it reaches a server."""
