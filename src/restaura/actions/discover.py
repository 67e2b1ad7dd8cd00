# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura discover`: what this host holds that a first setup would protect. Needs no configuration."""

import argparse
from dataclasses import asdict
from pathlib import Path

from restaura import discover as discovery
from restaura.host import Host
from restaura.output import Answer, size, table


def discover(host: Host, options: argparse.Namespace) -> Answer:
    """Show the components that a first setup would declare, and what they weigh."""
    stores = [Path(one) for one in options.store]
    found = discovery.discover(host.paths, stores)
    found.require_room()
    rows = [[kind, one["name"], str(one)] for kind, items in found.components.items() for one in items]
    text = [table(["kind", "component", "settings"], rows), f"{size(found.bytes)} in all, {size(found.free)} free"]
    return Answer(asdict(found), "\n".join([*text, *found.notes]))
