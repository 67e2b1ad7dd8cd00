# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura prune`: delete what retention lets go, manifest first. Can run elsewhere with another credential."""

import argparse
from datetime import UTC, datetime
from typing import Any

from restaura import catalogue, locks, retention, schedule
from restaura.actions import find_plan
from restaura.config.schema import Plan
from restaura.errors import Exit, RestauraError, StoreError
from restaura.host import Host
from restaura.output import Answer
from restaura.point import Record
from restaura.report import reporting
from restaura.stores import Store, StoredPoint, open_store


def prune(host: Host, options: argparse.Namespace) -> Answer:
    """Prune the points of one plan or of all, in every store of them."""
    plans = [find_plan(host, options.plan)] if options.plan else list(host.config.plans)
    results: list[dict[str, Any]] = []
    code = int(Exit.DONE)
    for plan in plans:
        if options.check:
            answer = _prune_plan(host, plan, options)
        else:
            with reporting(host, plan, "prune") as answers:
                answer = _prune_plan(host, plan, options)
                answers.append(answer)
        results += answer.data["results"]
        code = code or answer.code
    text = "\n".join(line for one in results for line in [_line(one), *(_reasons(one) if options.check else [])])
    deleted = any(one["deleted"] for one in results)
    return Answer({"changed": deleted, "results": results}, text or "nothing to prune", code)


def _prune_plan(host: Host, plan: Plan, options: argparse.Namespace) -> Answer:
    results = []
    stores = host.config.plan_stores(plan)
    with locks.holding(host.paths.locks, [f"store:{one.name}" for one in stores], options.wait):
        for config in stores:
            row: dict[str, Any] = {"plan": plan.name, "store": config.name, "deleted": [], "kept": {}, "error": None}
            try:
                row |= prune_store(
                    host,
                    plan,
                    open_store(config, host),
                    accept_time=options.accept_time,
                    check=options.check,
                    of_host=options.host,
                )
            except RestauraError as error:
                row["error"] = str(error)
            results.append(row)
    failed = [one for one in results if one["error"]]
    return Answer({"results": results}, "\n".join(map(_line, results)), Exit.FAILED if failed else Exit.DONE)


def prune_store(
    host: Host,
    plan: Plan,
    store: Store,
    just_sealed: str | None = None,
    *,
    accept_time: bool = False,
    check: bool = False,
    of_host: str | None = None,
    listed: list[StoredPoint] | None = None,
) -> dict[str, Any]:
    """Prune one plan's points in one store; StoreError says why nothing may be deleted, or what failed.

    `listed` is a complete listing that was made under the same lock, if there is one.
    """
    points = store.points() if listed is None else listed
    now = datetime.now(UTC)
    verdict = retention.plan_prune(
        points,
        plan.retention,
        host=of_host or host.name,
        plan=plan.name,
        components=[one.name for one in host.config.plan_components(plan)],
        now=now,
        zone=schedule.plan_timezone(plan),
        just_sealed=just_sealed,
        accept_time=accept_time,
    )
    if verdict.refused:
        raise StoreError(f"nothing was deleted: {verdict.refused}", where=f"store {store.name}", fix=verdict.fix)
    if not check:
        if accept_time:
            _accept_time(store, [one for one in points if one.id in verdict.doubtful], now)
        for point in points:
            if point.id in verdict.delete:
                host.log.event("delete", store=store.name, deleted=point.id, label=point.label)
                store.delete(point)
        if verdict.delete:
            store.clean()
            catalogue.put(host, store.name, store.points())
    return {"deleted": verdict.delete, "kept": verdict.keep, "orphaned": verdict.orphaned}


def _accept_time(store: Store, points: list[StoredPoint], now: datetime) -> None:
    for point in points:
        record = Record(point.id, "accept", now.isoformat(timespec="seconds"), {}, {"time": "accepted"})
        store.add_record(point, record)


def _line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['plan']} in {row['store']}: {row['error']}"
    orphans = f"; orphaned: {', '.join(row['orphaned'])}" if row.get("orphaned") else ""
    deleted = f" ({', '.join(row['deleted'])})" if row["deleted"] else ""
    return f"{row['plan']} in {row['store']}: {len(row['deleted'])} deleted{deleted}, {len(row['kept'])} kept{orphans}"


def _reasons(row: dict[str, Any]) -> list[str]:
    return [f"  {point} stays: {'; '.join(why)}" for point, why in sorted(row["kept"].items())]
