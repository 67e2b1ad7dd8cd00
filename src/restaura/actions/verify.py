# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura verify`: read stored bytes again, a part each time, so that all are read within 30 days."""

import argparse
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from restaura import catalogue, locks
from restaura.actions import find_plan
from restaura.config.schema import Plan
from restaura.errors import DamagedError, Exit, NoPointError, RestauraError
from restaura.host import Host
from restaura.output import Answer
from restaura.point import ComponentRecord, Manifest, Record
from restaura.report import reporting
from restaura.restoring import StoreReader
from restaura.sources import INDEX_SUFFIX
from restaura.standing import next_record, standing
from restaura.stores import Store, StoredPoint, open_store

PARTS = 30


def verify(host: Host, options: argparse.Namespace) -> Answer:
    """Verify the stores of one plan or of all; what fails is disproven and loud."""
    plans = [find_plan(host, options.plan)] if options.plan else list(host.config.plans)
    rows: list[dict[str, Any]] = []
    code = int(Exit.DONE)
    for plan in plans:
        with reporting(host, plan, "verify") as answers:
            answer = _verify_plan(host, plan, options)
            answers.append(answer)
        rows += answer.data["stores"]
        code = code or answer.code
    return Answer({"changed": False, "stores": rows}, "\n".join(map(_line, rows)), code)


def _verify_plan(host: Host, plan: Plan, options: argparse.Namespace) -> Answer:
    rows = []
    for config in host.config.plan_stores(plan):
        with locks.holding(host.paths.locks, [f"store:{config.name}"], options.wait):
            row: dict[str, Any] = {"plan": plan.name, "store": config.name, "points": 0, "read": 0, "problems": []}
            try:
                _verify_store(host, plan, open_store(config, host), options, row)
            except RestauraError as error:
                row["problems"].append(str(error))
            rows.append(row)
    code = Exit.FAILED if any(one["problems"] for one in rows) else Exit.DONE
    return Answer({"stores": rows}, "\n".join(map(_line, rows)), code)


def _verify_store(host: Host, plan: Plan, store: Store, options: argparse.Namespace, row: dict[str, Any]) -> None:
    """Check every point's presence and sizes, and read the content of those whose turn it is."""
    listed = store.points(host.name)
    row["problems"] += [f"point {one.id}: {one.damage}" for one in listed if one.damage]
    points = [one for one in listed if one.manifest and one.plan == plan.name]
    if options.point:
        points = [one for one in points if one.id.startswith(options.point)]
        if not points:
            raise NoPointError("no such point", where=f"store {store.name}, {options.point}", fix="restaura list")
    full = options.full or bool(options.point)
    row["points"] = len(points)
    whole, damage = _structure(host, plan, store, options.full and not options.point, parts=not full)
    row["problems"] += damage
    turn = set() if whole and not damage else {one.id for one in points}
    if not (full or whole or damage):
        turn = _whose_turn(host, plan, store, points)
    changed = False
    for point in points:
        problems = _verify_point(store, point, point.id in turn)
        row["read"] += point.id in turn
        row["problems"] += [f"{name} of point {point.id}: {text}" for name, text in problems.items()]
        changed |= _keep_verdict(store, point, problems, point.id in turn)
    _took_turns(host, plan, store, turn, {one.id for one in points})
    if changed:
        catalogue.put(host, store.name, store.points())


def _structure(host: Host, plan: Plan, store: Store, full: bool, parts: bool) -> tuple[bool, list[str]]:
    """Check what belongs to no one point, and read this store's next parts where it is read in parts.

    Return whether that covers its bytes, and what is damaged (then every point must be read, to tell which).
    """
    state = _state(host, plan, store)
    now = datetime.now(UTC)
    last = state.get("at")
    days = min(PARTS, (now - datetime.fromisoformat(last)).days + 1) if last else 1
    begin = int(state.get("part", 0))
    try:
        store.verify_all(full)
        covered = False
        for number in range(days if parts else 0):
            if not store.verify_part((begin + number) % PARTS + 1, PARTS):
                break
            covered = True
            _save_state(host, plan, store, {"part": (begin + number + 1) % PARTS, "at": now.isoformat()})
    except DamagedError as error:
        host.log.event("store damaged", "error", store=store.name, error=str(error))
        return False, [str(error)]
    return covered, []


def _verify_point(store: Store, point: StoredPoint, full: bool) -> dict[str, str]:
    """Return what is wrong, by component."""
    problems = {}
    for component in point.manifest.components if point.manifest else ():
        if component.state != "failed":
            try:
                _verify_component(store, point, component, full)
            except DamagedError as error:
                problems[component.name] = str(error)
    return problems


def _verify_component(store: Store, point: StoredPoint, component: ComponentRecord, full: bool) -> None:
    manifest = point.manifest
    if not isinstance(manifest, Manifest):
        return
    reader = StoreReader(store, point, component.name)
    for artifact in component.artifacts:
        index = reader.index(artifact.name) if artifact.kind == "tree" and full else None
        store.verify(manifest, artifact, index, full)
        if artifact.kind == "tree" and artifact.name + INDEX_SUFFIX not in {one.name for one in component.artifacts}:
            raise DamagedError("has no index", where=f"{component.name}/{artifact.name}")


def _keep_verdict(store: Store, point: StoredPoint, problems: dict[str, str], read: bool) -> bool:
    """Keep a record of what was found wrong, or found right that a verify had found wrong."""
    results = dict.fromkeys(problems, "disproven")
    for component in point.manifest.components if point.manifest and read else ():
        if _disproven(point, component.name) and component.name not in problems:
            results[component.name] = "verified"
    news = {name: result for name, result in results.items() if result == "verified" or not _disproven(point, name)}
    if news:
        store.add_record(point, Record(point.id, "verify", next_record(point), news, {"problems": problems}))
    return bool(news)


def _disproven(point: StoredPoint, component: str) -> bool:
    verdict = standing(point, component)
    return verdict is not None and verdict.proof == "disproven"


def _whose_turn(host: Host, plan: Plan, store: Store, points: Iterable[StoredPoint]) -> set[str]:
    """Return the points to read now: a thirtieth for each day since the last verify, those read longest ago first."""
    read: dict[str, str] = _state(host, plan, store).get("read", {})
    waiting = sorted(points, key=lambda one: read.get(one.id, ""))
    last = max(read.values(), default="")
    now = datetime.now(UTC)
    days = 1 if not last else max(1, (now - datetime.fromisoformat(last)).days + 1)
    share = -(-len(waiting) * min(days, PARTS) // PARTS)
    late = {
        one.id for one in waiting if one.id in read and (now - datetime.fromisoformat(read[one.id])).days >= PARTS - 2
    }
    return late | {one.id for one in waiting[:share]}


def _state(host: Host, plan: Plan, store: Store) -> dict[str, Any]:
    """Return what was read of the plan's points in this store; nothing when that was at another place."""
    verified: Any = host.load_state().get("verified", {})
    kept = dict(verified.get(plan.name, {}).get(store.name, {}))
    return kept if kept.get("place") == host.config.store(store.name).place else {}


def _save_state(host: Host, plan: Plan, store: Store, news: dict[str, Any]) -> None:
    with host.changing_state() as state:
        mine = state.setdefault("verified", {}).setdefault(plan.name, {})
        mine[store.name] = {**_state(host, plan, store), **news, "place": host.config.store(store.name).place}


def _took_turns(host: Host, plan: Plan, store: Store, read: set[str], there: set[str]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = {**_state(host, plan, store).get("read", {}), **dict.fromkeys(read, now)}
    _save_state(host, plan, store, {"read": {one: at for one, at in rows.items() if one in there}})


def _line(row: dict[str, Any]) -> str:
    head = f"{row['plan']} in {row['store']}: {row['points']} points, {row['read']} read whole"
    return "\n".join([head, *(f"  {one}" for one in row["problems"])])
