# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura adopt`: a rebuilt host becomes the writer of a store in which its predecessor wrote."""

import argparse

from restaura.errors import ConfigError
from restaura.host import Host
from restaura.output import Answer
from restaura.stores import Writer, open_store


def adopt(host: Host, options: argparse.Namespace) -> Answer:
    """Show who writes there and what could be restored first; with --yes become the writer."""
    config = next((one for one in host.config.stores if one.name == options.store), None)
    if config is None:
        known = ", ".join(one.name for one in host.config.stores)
        raise ConfigError(f"no store is called {options.store!r}", where="restaura adopt", fix=f"one of: {known}")
    store = open_store(config, host)
    points = store.points(host.name)
    plans = tuple(sorted(plan.name for plan in host.config.plans if config in host.config.plan_stores(plan)))
    others = sorted({one.manifest.identity for one in points if one.manifest} - {host.identity})
    text = f"store {config.name} holds {len(points)} points of {host.name}, by {len(others)} other machine(s)"
    data = {"changed": True, "store": config.name, "points": len(points), "identities": others}
    if not options.yes or options.check:
        text += f"\nrestore first:  restaura restore --from-store {config.name}"
        text += f"\nthen:           restaura adopt {config.name} --yes"
        return Answer({**data, "changed": bool(others)}, text)
    store.adopt(Writer(host.name, host.identity, plans))
    return Answer(data, f"{text}\nthis machine is the writer now; the points stay")
