# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura check`: a component's checks against the data that is live now."""

import argparse
from dataclasses import asdict

from restaura import checks
from restaura.errors import ConfigError, Exit
from restaura.host import Host
from restaura.output import Answer, table
from restaura.sources import registry


def check(host: Host, options: argparse.Namespace) -> Answer:
    """Run the checks of every component, or of those named; exit 6 when one fails."""
    config = host.config
    known = [one.name for one in config.components]
    if unknown := [one for one in options.component if one not in known]:
        raise ConfigError("no such component", where=f"--component {unknown[0]}", fix=f"one of: {', '.join(known)}")
    chosen = [one for one in config.components if not options.component or one.name in options.component]
    found = [
        (one.name, result)
        for one in chosen
        for result in checks.judge(registry()[config.kinds[one.name]].source(one, host), one)
    ]
    rows = [[name, one.check, one.result, one.why] for name, one in found]
    text = table(["component", "check", "result", "why"], rows) if rows else "no checks are configured"
    problems = [f"{name}: {one}" for name, one in found if one.result == "failed"]
    data = {"changed": False, "checks": [{"component": name, **asdict(one)} for name, one in found]}
    return Answer({**data, "problems": problems}, text, Exit.MISMATCH if problems else Exit.DONE)
