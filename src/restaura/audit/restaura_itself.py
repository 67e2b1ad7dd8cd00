# SPDX-License-Identifier: GPL-3.0-or-later
"""Restaura's own backups, as its configuration and catalogue on this host tell. Read only: no store is asked."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC

from restaura import catalogue, schedule
from restaura.audit import coverage
from restaura.audit.jobs import MAILERS, cron_interval
from restaura.audit.looking import Look
from restaura.audit.model import Copy, Evidence, Holder, Protection, Take
from restaura.catalogue import Row
from restaura.config.schema import Component, Config, Plan
from restaura.errors import RestauraError
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import started_at

PROGRAM = "/usr/local/bin/restaura"


def find(look: Look, paths: Paths, holders: Sequence[Holder]) -> tuple[list[Protection], list[Evidence]]:
    """Return what Restaura protects of the holders, by component and plan, and the program as the script to recover."""
    if look.text("/etc/restaura/config.json") is None:
        return [], []
    host = Host(paths)
    try:
        config = host.config
        shelves = catalogue.load(host)
    except (RestauraError, OSError):
        look.blame("/etc/restaura/config.json", "invalid")
        return [], []
    rows = [row for shelf in shelves.values() for row in shelf.rows if row.host == host.name]
    mailed = any(look.status(one) for one in MAILERS)
    whole = coverage.covered(config, holders)
    found = []
    for plan in config.plans:
        for component in config.plan_components(plan):
            own = [one for one in rows if (one.plan, one.component) == (plan.name, component.name)]
            heard = mailed or host.secret("plans", plan.name, "heartbeat_url") is not None
            alone = coverage.covered(replace(config, components=(component,)), holders)
            covers = tuple(one.id for one in holders if one.id in alone or whole.get(one.id) == component.name)
            found.append(replace(_protection(config, plan, component, own, heard), covers=covers))
    return found, [Evidence("file", PROGRAM)] if look.status(PROGRAM) else []


def _protection(config: Config, plan: Plan, component: Component, rows: list[Row], told: bool) -> Protection:
    stores = config.plan_stores(plan)
    good = sorted((row for row in rows if row.good), key=lambda row: row.point, reverse=True)
    proven = [row for row in good if row.proof == "proven"]
    fields = schedule.cron_fields(plan.schedule, schedule.seed(config, plan))
    evidence = Evidence("file", "/etc/restaura/config.json", None, f"{plan.name}/{component.name}")
    # What fails is printed, which cron mails; and the settings may name somebody to tell.
    heard = told or bool(plan.failure_command)
    return Protection(
        f"restaura:{plan.name}/{component.name}",
        "restaura",
        component.name,
        schedule=plan.schedule,
        interval=cron_interval(fields) if fields else None,
        idle="" if fields else "not_scheduled",
        uses=("restaura",),
        takes=takes(config.kinds.get(component.name, ""), component),
        writes=tuple(one.location for one in stores),
        copies=tuple(Copy(f"{row.store}: {row.point}", _at(row), row.bytes) for row in good),
        off_host=any(one.location.startswith("s3:") for one in stores),
        encrypted=all(one.type == "restic" or one.encrypt for one in stores),
        restore_tried=_at(proven[0]) if proven else None,
        loud=heard,
        hushed=() if heard else (Evidence("file", "/etc/cron.d/restaura", None, "no_mailer"),),
        evidence=(evidence,),
    )


def takes(kind: str, component: Component) -> tuple[Take, ...]:
    """Return what a component takes."""
    if kind == "postgres":
        where = next(
            (str(one) for name in ("container", "cluster", "host") if (one := getattr(component, name, ""))), ""
        )
        return tuple(Take("postgres", name, where) for name in getattr(component, "databases", ()) or ("",))
    found = [Take("path", str(one).rstrip("/") or "/") for one in getattr(component, "paths", ())]
    found += [Take("docker_volume", str(one)) for one in getattr(component, "volumes", ())]
    for project in getattr(component, "projects", ()):
        found += [Take("compose_project", str(project)), Take("docker_volume", "", "", str(project))]
    if getattr(component, "all", False):
        found += [Take("compose_project"), Take("docker_volume")]
    return tuple(found)


def _at(row: Row) -> str:
    return started_at(row.point).astimezone(UTC).isoformat(timespec="seconds")
