# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura status`: how this host stands, as a table, with what is wrong and what is unsafe."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from restaura import catalogue, schedule
from restaura.actions import keys as keys_action
from restaura.actions.restore import damaged_records, kept_records, other_side
from restaura.audit.coverage import told, unprotected
from restaura.catalogue import Newest
from restaura.config.schema import Config
from restaura.errors import Exit
from restaura.host import Host
from restaura.output import Answer, age, size, table

PROOF = {"proven": "equal", "unproven": "not yet", "disproven": "NOT EQUAL"}
LATE = 2


def status(host: Host, _options: argparse.Namespace) -> Answer:
    """Show every component in every store; exit 3 when something is wrong (unsafe, or not protected at all, is not)."""
    config, now = host.config, datetime.now(UTC)
    newest = catalogue.newest(host)
    rows = [_row(config, one, now) for one in newest]
    head = ["component", "plan", "store", "bytes", "seconds", "restored", "consistency", "newest good", "next run"]
    orphans = {name: age(at, now) for name, at in catalogue.orphans(host).items()}
    problems = _problems(host, newest, now)
    unsafe = _unsafe(host)
    left = [(one.id, *told(one)) for one in unprotected(config, host.paths.root)]
    text = [table(head, rows)] if rows else ["no component is protected"]
    where = [f"  {one.name}: {one.place}" for one in config.stores]
    text += ["", "copies are in:", *where]
    text += [""] if orphans else []
    text += [f"ORPHAN   {name} is no longer protected; its newest point is {when}" for name, when in orphans.items()]
    text += ["", *(f"PROBLEM  {what}\n         fix: {fix}" for what, fix in problems)] if problems else []
    text += ["", *(f"UNSAFE   {what}\n         fix: {fix}" for what, fix in unsafe)] if unsafe else []
    text += ["", *(f"FOUND    not protected: {what}\n         fix: {fix}" for _, what, fix in left)] if left else []
    kept = [
        f"kept copy of {one['component']}: {other_side(one)} {one['id']}: restaura undo {one['id']} --discard"
        for _, one in kept_records(host)
    ]
    data: dict[str, Any] = {
        "host": host.name,
        "components": [_data(config, one, now) for one in newest],
        "stores": [{"name": one.name, "type": one.type, "location": one.location} for one in config.stores],
        "orphans": list(orphans),
        "problems": [{"what": what, "fix": fix} for what, fix in problems],
        "unsafe": [{"what": what, "fix": fix} for what, fix in unsafe],
        "unprotected": [{"id": name, "what": what, "fix": fix} for name, what, fix in left],
        "kept": kept,
    }
    return Answer(data, "\n".join([*text, *kept]), Exit.PARTIAL if problems else Exit.DONE)


def _row(config: Config, one: Newest, now: datetime) -> list[str]:
    due = _next_run(config, one.plan, now)
    return [
        one.component,
        one.plan,
        one.store,
        size(one.last.bytes) if one.last else "-",
        f"{one.last.seconds:.1f}" if one.last else "-",
        PROOF[one.last.proof] if one.last else "-",
        (one.last.how or one.last.state) if one.last else "-",
        age(one.good_at, now) if one.good_at else "NEVER",
        f"{due:%Y-%m-%d %H:%M}" if due else "never",
    ]


def _data(config: Config, one: Newest, now: datetime) -> dict[str, Any]:
    due = _next_run(config, one.plan, now)
    return {
        "component": one.component,
        "plan": one.plan,
        "store": one.store,
        "points": one.points,
        "last": vars(one.last) if one.last else None,
        "good_at": one.good_at.isoformat() if one.good_at else None,
        "proven_at": one.proven_at.isoformat() if one.proven_at else None,
        "next_run": due.isoformat() if due else None,
    }


def _next_run(config: Config, name: str, now: datetime) -> datetime | None:
    plan = next(one for one in config.plans if one.name == name)
    return schedule.next_run(plan.schedule, now, schedule.seed(config, plan))


def _problems(host: Host, newest: list[Newest], now: datetime) -> list[tuple[str, str]]:
    found = []
    for one in newest:
        where = f"{one.component} in {one.store}"
        if one.good_at is None:
            found.append((f"{where} has no good point", f"restaura run {one.plan}"))
        elif _late(host.config, one, now):
            found.append((f"{where}: the newest good point is {age(one.good_at, now)}", f"restaura run {one.plan}"))
        if one.last and one.last.proof == "disproven":
            found.append((f"{where}: point {one.last.point} is disproven", f"restaura run {one.plan} --drill"))
        if one.last and not one.last.good and one.last.state in ("suspect", "torn"):
            found.append((f"{where}: point {one.last.point} is {one.last.state}", f"restaura show {one.last.point}"))
    for name, shelf in catalogue.current(host).items():
        found += [
            (f"point {point} in {name} is damaged: {why}", "restaura verify --full")
            for point, why in shelf.damaged.items()
        ]
        if shelf.error:
            found.append((f"store {name} did not answer: {shelf.error}", "restaura doctor"))
    plans: Any = host.load_state().get("plans", {})
    for plan, actions in plans.items():
        for action, row in actions.items():
            if row["exit"] not in (Exit.DONE, Exit.LOCKED) and plan in {one.name for one in host.config.plans}:
                found.append(
                    (
                        f"the last {action} of plan {plan} ended with exit code {row['exit']}",
                        f"restaura {action} {'--plan ' if action != 'run' else ''}{plan}",
                    )
                )
    return found + _left(host)


def _left(host: Host) -> list[tuple[str, str]]:
    """Name what dead runs left, and the records of kept copies that cannot be read."""
    found = [
        (f"the record of a kept copy cannot be read: {path}", f"look at it, then: rm {path}")
        for path in damaged_records(host)
    ]
    if dead := [debt for debt in host.journal.open_debts() if not debt.process.alive]:
        found.append((f"{len(dead)} acts of dead runs are not taken back", "restaura recover"))
    return found


def _late(config: Config, one: Newest, now: datetime) -> bool:
    """Whether the newest good point is older than twice the plan's interval."""
    plan = next(plan for plan in config.plans if plan.name == one.plan)
    drawn = schedule.seed(config, plan)
    due = schedule.next_run(plan.schedule, now, drawn)
    last = schedule.previous_run(plan.schedule, now, drawn)
    if one.good_at is None or due is None or last is None:
        return False
    return now - one.good_at > LATE * (due - last) + timedelta(hours=1)


def _unsafe(host: Host) -> list[tuple[str, str]]:
    found = []
    config = host.config
    remote = {one.name for one in config.stores if one.location.startswith("s3:")}
    fix = "add a store in S3 to backup_runtime_stores and run setup_backup.yml again"
    for plan in config.plans:
        if not remote & {one.name for one in config.plan_stores(plan)}:
            found += [(f"the only copies of plan {plan.name} are on this host", fix)]
    if not keys_action.confirmed(host):
        found.append(
            (
                "the only proven key is on this host",
                f"restaura keys kit > {host.name}.kit, take it away from this host, and prove it there or here: "
                f"restaura keys confirm --kit {host.name}.kit",
            )
        )
    return found
