# SPDX-License-Identifier: GPL-3.0-or-later
"""What no archive of Debian has and hosts of an AI stack need: stand-ins, their jars, clients, and an application."""

from __future__ import annotations

from tools.lab import clients, jars
from tools.lab.common import ROOT

PLACE = "/opt/stack"
CLIENTS = ("grafana", "langchain", "langsmith", "qdrant")


def mounts() -> list[str]:
    """Return SRC:DST:ro of each, below PLACE; what has to be downloaded is."""
    folders = {f"clients/{name}": clients.up(name) for name in CLIENTS}
    folders |= {"jars": jars.up(), "standins": ROOT / "tests/standins"}
    folders |= {"inteligencia": ROOT / "tests/applications/inteligencia"}
    return [f"{folder}:{PLACE}/{name}:ro" for name, folder in folders.items()]
