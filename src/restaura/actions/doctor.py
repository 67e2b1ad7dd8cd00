# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura doctor`: everything a run needs, checked without changing anything."""

import argparse
import os
import shutil
from pathlib import Path

from restaura import keys, pause
from restaura.errors import Exit, RestauraError
from restaura.host import Host
from restaura.output import Answer, table
from restaura.sources import registry
from restaura.stores import open_store

PROGRAMS = {"restic": ("restic",), "dated": ("tar", "zstd", "age", "age-keygen")}


def doctor(host: Host, _options: argparse.Namespace) -> Answer:
    """Check configuration, keys, programs, cron, stores and sources; exit 1 when something is missing."""
    rows: list[tuple[str, str, str]] = []
    config = host.config
    rows.append(("configuration", "", ""))
    for name in keys.wanted_keys(config):
        path = host.paths.keys / name
        wrong = "missing" if not path.is_file() else "readable by others" if path.stat().st_mode & 0o077 else ""
        rows.append(
            (f"key {name}", wrong, "run setup_backup.yml again, or restaura keys restore --kit FILE" if wrong else "")
        )
    for kind in sorted({one.type for one in config.stores}):
        for program in PROGRAMS[kind]:
            there = shutil.which(program)
            rows.append(
                (f"program {program}", "" if there else "not installed", "" if there else "run setup_backup.yml again")
            )
    for store in config.stores:
        try:
            found = open_store(store, host).check(writing=True)
            rows += [(f"store {store.name}", "", ""), *((f"store {store.name}", one, "") for one in found.warnings)]
        except RestauraError as error:
            rows.append((f"store {store.name}", error.what, error.fix))
    for component in config.components:
        rows += _component(host, component.name)
    for plan in config.plans:
        if plan.pause:
            missing, warnings = pause.preflight(plan)
            rows += [(f"pause of plan {plan.name}", what, fix) for what, fix in missing or [("", "; ".join(warnings))]]
    dead = [debt for debt in host.journal.open_debts() if not debt.process.alive]
    rows.append(("journal", f"{len(dead)} acts of dead runs" if dead else "", "restaura recover" if dead else ""))
    cron = _cron_runs()
    rows.append(
        (
            "cron",
            "" if cron else "no cron daemon runs: nothing is started by itself",
            "" if cron else "systemctl enable --now cron",
        )
    )
    problems = [row for row in rows if row[1]]
    text = table(["what", "problem", "fix"], [[what, wrong or "ok", fix] for what, wrong, fix in rows])
    data = {"checks": [{"what": what, "problem": wrong, "fix": fix} for what, wrong, fix in rows]}
    return Answer(data, text, Exit.FAILED if problems else Exit.DONE)


def _component(host: Host, name: str) -> list[tuple[str, str, str]]:
    source = registry()[host.config.kinds[name]].source(host.config.component(name), host)
    try:
        probe = source.probe()
    except RestauraError as error:
        return [(f"component {name}", error.what, error.fix)]
    rows = [(f"component {name}", what, fix) for what, fix in probe.problems]
    return rows or [(f"component {name}", "", "; ".join(probe.warnings))]


def _cron_runs() -> bool:
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() in ("cron", "crond"):
                return True
        except OSError:
            continue
    return os.environ.get("RESTAURA_ROOT", "/") != "/"
