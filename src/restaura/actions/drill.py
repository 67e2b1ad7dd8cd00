# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura drill`: restore a point into a throw-away target, compare, measure, and keep the verdict beside it."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from restaura import catalogue, checks, locks, restoring
from restaura.actions import find_plan, lock_names
from restaura.config.schema import Component, Plan
from restaura.errors import DamagedError, Exit, NoPointError, RestauraError
from restaura.host import Host
from restaura.output import Answer, table
from restaura.point import Record
from restaura.report import reporting
from restaura.sources import registry
from restaura.standing import Wanted, choose, held, next_record
from restaura.stores import Store, StoredPoint, open_store


def drill(host: Host, options: argparse.Namespace) -> Answer:
    """Drill a point of a plan, from every store of the plan or from one."""
    plan = find_plan(host, options.plan)
    wanted = Wanted(options.point, options.date or "", options.before, plan.name)
    return _reported(host, plan, wanted, options.component, options.from_store, options.wait)


def drill_point(host: Host, plan: Plan, point_id: str, wait: float) -> Answer:
    """Drill the point that a run has just sealed."""
    return _reported(host, plan, Wanted(id=point_id, plan=plan.name), [], None, wait)


def _reported(host: Host, plan: Plan, wanted: Wanted, names: Sequence[str], only: str | None, wait: float) -> Answer:
    with reporting(host, plan, "drill") as answers, locks.holding(host.paths.locks, lock_names(host, plan), wait):
        answers.append(_drill(host, plan, wanted, names, only))
    return answers[-1]


def _drill(host: Host, plan: Plan, wanted: Wanted, names: Sequence[str], only: str | None) -> Answer:
    components = [one for one in host.config.plan_components(plan) if not names or one.name in names]
    if missing := sorted(set(names) - {one.name for one in components}):
        raise NoPointError(
            f"plan {plan.name} has no component {', '.join(missing)}", where="drill", fix="restaura status"
        )
    results: list[dict[str, Any]] = []
    for config in host.config.plan_stores(plan):
        if only and config.name != only:
            continue
        store = open_store(config, host)
        try:
            points = store.points(host.name)
        except RestauraError as error:
            results += [_result(one, config.name, None, "failed", [str(error)], 0.0) for one in components]
            continue
        for component in components:
            results.append(_drill_component(host, store, points, wanted, component))
        _keep_verdicts(store, points, results)
        catalogue.put(host, store.name, store.points())
    if not results:
        raise NoPointError("no such store in this plan", where=f"--from-store {only}", fix="restaura status")
    return _answer(plan, results)


def _drill_component(
    host: Host, store: Store, points: list[StoredPoint], wanted: Wanted, component: Component
) -> dict[str, Any]:
    """Restore one component from one store and compare it; return the verdict."""
    begun = time.monotonic()
    point_id = None
    judged: list[checks.Result] = []
    try:
        point = choose(points, wanted, [component.name])
        point_id = point.id
        record = held(point.manifest, component.name) if point.manifest else None
        if record is None or record.fingerprint is None or record.state == "failed":
            return _result(component, store.name, point_id, "failed", ["the point does not hold it whole"], 0.0)
        options, kind = restoring.options_of(host, component.name, point)
        source = registry()[kind].source(options, host)
        with source.scratch() as target:
            built = restoring.stage(host, source, [(store, point)], component.name, target)
            found = source.fingerprint(built.staged, record.fingerprint.depth)
            problems = record.fingerprint.differences(found)
            judged = checks.judge(source, options, built.staged)
            problems += checks.failures(judged)
    except DamagedError as error:
        return _result(component, store.name, point_id, "disproven", [str(error)], time.monotonic() - begun)
    except RestauraError as error:
        return _result(component, store.name, point_id, "failed", [str(error)], time.monotonic() - begun)
    seconds = time.monotonic() - begun
    if not problems and record.fingerprint.depth != "content":
        why = ["catalog fingerprints prove no content"]
        return _result(component, store.name, point_id, "equal", why, seconds, judged)
    return _result(component, store.name, point_id, "disproven" if problems else "proven", problems, seconds, judged)


def _result(
    component: Component,
    store: str,
    point: str | None,
    verdict: str,
    problems: list[str],
    seconds: float,
    judged: Sequence[checks.Result] = (),
) -> dict[str, Any]:
    return {
        "component": component.name,
        "store": store,
        "point": point,
        "verdict": verdict,
        "problems": problems,
        "seconds": round(seconds, 2),
        "checks": [asdict(one) for one in judged],
    }


def _keep_verdicts(store: Store, points: list[StoredPoint], results: list[dict[str, Any]]) -> None:
    """Write one signed record a point: what was proven, and what was disproven."""
    for point in points:
        rows = [one for one in results if one["store"] == store.name and one["point"] == point.id]
        verdicts = {one["component"]: one["verdict"] for one in rows if one["verdict"] in ("proven", "disproven")}
        if verdicts:
            details = {
                one["component"]: {"seconds": one["seconds"], "checks": one["checks"], "problems": one["problems"][:50]}
                for one in rows
            }
            store.add_record(point, Record(point.id, "drill", next_record(point), verdicts, details))


def _answer(plan: Plan, results: list[dict[str, Any]]) -> Answer:
    verdicts = {one["verdict"] for one in results}
    code = Exit.MISMATCH if "disproven" in verdicts else Exit.FAILED if "failed" in verdicts else Exit.DONE
    rows = [
        [
            one["component"],
            one["store"],
            one["point"] or "-",
            one["verdict"],
            checks.summary([checks.Result(**row) for row in one["checks"]]),
            f"{one['seconds']:.1f}",
        ]
        for one in results
    ]
    text = table(["component", "store", "point", "restored", "checks", "seconds"], rows)
    problems = [f"{one['component']} from {one['store']}: {what}" for one in results for what in one["problems"]]
    data = {"changed": True, "plan": plan.name, "results": results, "problems": problems}
    return Answer(data, "\n".join([text, *problems]), code)
