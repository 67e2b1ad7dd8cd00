# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus: where a server is and keeps its data, its snapshots, the files it names, its blocks, restores."""
