# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith: its API, the archive of what it gave, the reading of a workspace, and what can be imported again."""
