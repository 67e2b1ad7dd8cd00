# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit: what on this host holds data, how it is backed up, and what nobody backs up. It changes nothing."""
