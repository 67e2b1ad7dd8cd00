# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the `postgres` source: servers, sessions, capture, fingerprint, restore, throw-away clusters."""
