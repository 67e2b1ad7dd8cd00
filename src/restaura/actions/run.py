# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura run`: what cron, Ansible and a person start to take a restore point of a plan, or of several."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from restaura import catalogue, locks, pause, schedule
from restaura.actions import drill as drilling
from restaura.actions import find_plan, lock_names
from restaura.actions import prune as pruning
from restaura.actions import recover as recovery
from restaura.config.schema import Component, Plan
from restaura.errors import ConfigError, Exit, RestauraError, StoreError
from restaura.host import Host
from restaura.output import Answer, size, table
from restaura.pipeline import Part, Take
from restaura.point import ComponentRecord, Depth, new_id
from restaura.report import reporting
from restaura.sinks import Sink
from restaura.sources import Probe, registry
from restaura.standing import held, is_good
from restaura.stores import open_store


def run(host: Host, options: argparse.Namespace) -> Answer:
    """Take a point of the plan, or of several: all, those with a kind of source, those that missed their time."""
    if options.all or options.source or options.catch_up:
        return _run_each(host, _several(host, options), options)
    plan = find_plan(host, options.plan)
    if options.unless_proven and _proven(host, plan):
        return Answer(
            {"changed": False, "plan": plan.name, "skipped": "proven"}, f"plan {plan.name} has a proven point"
        )
    if options.check:
        return _preflight_only(host, plan)
    with reporting(host, plan, "run") as answers:
        answers.append(_run(host, plan, options))
    answer = answers[-1]
    if options.drill and answer.data.get("point"):
        drilled = drilling.drill_point(host, plan, answer.data["point"], options.wait)
        answer.data["drill"] = drilled.data
        answer.text += "\n" + drilled.text
        answer.code = answer.code or drilled.code
    return answer


def _proven(host: Host, plan: Plan) -> bool:
    """Whether every component of the plan has a proven point in every store of it, by the stores' own word."""
    shelves = catalogue.refresh(host)
    if any(shelves[store.name].error for store in host.config.plan_stores(plan)):
        return False
    rows = [one for one in catalogue.newest(host) if one.plan == plan.name]
    return bool(rows) and all(one.proven_at for one in rows)


def _several(host: Host, options: argparse.Namespace) -> list[Plan]:
    """Return the plans that the options ask for; ConfigError when a person asked for what is not there."""
    config = host.config
    if options.catch_up:
        return [plan for plan in config.plans if _overdue(host, plan)]
    if options.all:
        found = list(config.plans)
        what, fix = "this host has no plan", "declare backup_runtime_plans, then run setup_backup.yml"
    else:
        kind = options.source
        found = [p for p in config.plans if any(config.kinds[one.name] == kind for one in config.plan_components(p))]
        what = f"no plan of this host has a component of source {kind!r}: nothing was backed up"
        known = ", ".join(sorted(set(config.kinds.values()))) or "nothing"
        fix = f"declare backup_{kind}_components and run setup_backup.yml; declared on this host: {known}"
    if not found:
        raise ConfigError(what, where="restaura run", fix=fix)
    return found


def _overdue(host: Host, plan: Plan) -> bool:
    state: Any = host.load_state().get("plans", {})
    last = state.get(plan.name, {}).get("run", {}).get("good_began")
    began = datetime.fromisoformat(last) if last else None
    return schedule.overdue(plan.schedule, began, datetime.now(UTC), schedule.seed(host.config, plan))


def _run_each(host: Host, plans: Sequence[Plan], options: argparse.Namespace) -> Answer:
    """Run plans one after the other, whatever becomes of those before; the lowest exit code but 0 is the gravest."""
    done: list[Answer] = []
    for plan in plans:
        alone = {"all": False, "source": None, "catch_up": False, "plan": plan.name}
        try:
            done.append(run(host, argparse.Namespace(**{**vars(options), **alone})))
        except RestauraError as error:
            text = f"plan {plan.name}: {error}"
            done.append(Answer({"changed": False, "plan": plan.name, "error": str(error)}, text, error.exit_code))
    code = min((one.code for one in done if one.code), default=int(Exit.DONE))
    data = {"changed": any(one.data["changed"] for one in done), "runs": [one.data for one in done]}
    return Answer(data, "\n".join(one.text for one in done), code)


def _preflight_only(host: Host, plan: Plan) -> Answer:
    problems = []
    for config in host.config.plan_stores(plan):
        try:
            open_store(config, host).check(writing=False)
        except RestauraError as error:
            problems.append(str(error))
    for part in _parts(host, plan):
        problems += [f"component {part.name}: {part.error}"] if part.error else []
    problems += [f"{what} (fix: {fix})" if fix else what for what, fix in pause.preflight(plan)[0]]
    text = "\n".join(problems) or f"plan {plan.name} can run"
    return Answer(
        {"changed": not problems, "plan": plan.name, "problems": problems}, text, Exit.FAILED if problems else Exit.DONE
    )


def _run(host: Host, plan: Plan, options: argparse.Namespace) -> Answer:
    host.log.context = {"plan": plan.name}
    host.log.event("phase", phase="recover")
    recovery.watch(host)
    recovery.pay(host)
    host.log.event("phase", phase="lock")
    with locks.holding(host.paths.locks, lock_names(host, plan), options.wait):
        now = datetime.now(UTC)
        point_id = new_id(now)
        host.log.context["point"] = point_id
        host.log.event("phase", phase="preflight")
        pause.check(host, plan)
        sinks, parts = _sinks(host, plan), _parts(host, plan)
        depth: Depth = "content" if options.drill or plan.drill != "never" else plan.fingerprint
        _prepare(host, parts, depth)
        take = _take(host, plan, point_id, _label(plan, now), parts, sinks, depth)
        host.log.event("phase", phase="verify")
        problems = [problem for sink in take.sinks if sink.sealed for problem in _read_back(host, sink)]
        host.log.event("phase", phase="prune")
        problems += _prune(host, plan, take.sinks, point_id)
    return _answer(plan, point_id, take, [*take.problems, *problems])


def _take(
    host: Host, plan: Plan, point_id: str, label: str, parts: list[Part], sinks: list[Sink], depth: Depth
) -> Take:
    """Take the point; straight into the remote stores when the local ones could not be sealed."""
    take = Take(host, plan, point_id, label, parts, sinks, depth)
    try:
        take.capture()
        if take.seal():
            return take
    except BaseException:
        take.abort()
        raise
    lost = [one for one in sinks if not one.fed]
    host.log.event(
        "taken again", "error", why="no local store could be sealed", stores=[one.store.name for one in lost]
    )
    again = [replace(one, fed=False, captured={}, writer=None) for one in sinks if one.fed and not one.error]
    parts = _parts(host, plan)
    _prepare(host, parts, depth)
    second = Take(host, plan, point_id, label, parts, again, depth)
    second.problems = take.problems
    try:
        second.capture()
        second.seal()
    except BaseException:
        second.abort()
        raise
    second.sinks = [*lost, *again]
    return second


def _label(plan: Plan, now: datetime) -> str:
    return f"{now.astimezone(schedule.plan_timezone(plan)):%Y-%m-%d}"


def _sinks(host: Host, plan: Plan) -> list[Sink]:
    """Check every store of the plan; StoreError when none can be written to."""
    sinks = []
    for config in host.config.plan_stores(plan):
        store = open_store(config, host)
        sink = Sink(store, fed=False, previous=[])
        try:
            store.check(writing=True)
            sink.previous = [one for one in store.points(host.name) if one.plan == plan.name]
        except RestauraError as error:
            sink.error = str(error)
            host.log.event("store failed", "error", store=store.name, error=str(error))
        sinks.append(sink)
    usable = [one for one in sinks if not one.error]
    if not usable:
        raise StoreError("; ".join(one.error for one in sinks), where=f"plan {plan.name}: no store can be used")
    if any(not one.store.remote for one in usable):
        for one in usable:
            one.fed = one.store.remote
    return sinks


def _parts(host: Host, plan: Plan) -> list[Part]:
    """Make and probe the source of every component; what is missing becomes the part's error."""

    def probed(component: Component) -> Part:
        kind = host.config.kinds[component.name]
        source = registry()[kind].source(component, host)
        part = Part(component, kind, source, Probe())
        try:
            part.probe = source.probe()
            part.error = "; ".join(f"{what} (fix: {fix})" for what, fix in part.probe.problems)
        except RestauraError as error:
            part.error = str(error)
        for warning in part.probe.warnings:
            host.log.event("warning", "warning", component=component.name, text=warning)
        return part

    return list(_parallel(probed, host.config.plan_components(plan)))


def _prepare(host: Host, parts: list[Part], depth: Depth) -> None:
    host.log.event("phase", phase="prepare")

    def prepared(part: Part) -> None:
        try:
            if not part.error:
                part.moving = part.source.prepare(depth)
        except RestauraError as error:
            part.error = str(error)

    list(_parallel(prepared, parts))


def _parallel(work: Any, items: Sequence[Any]) -> list[Any]:
    if not items:
        return []
    with ThreadPoolExecutor(max_workers=len(items)) as pool:
        return list(pool.map(work, items))


def _read_back(host: Host, sink: Sink) -> list[str]:
    """Read manifest, sizes and a sample of the content back from the store; return what is wrong."""
    store, sealed = sink.store, sink.sealed
    try:
        points = sink.listed = store.points()
        catalogue.put(host, store.name, points)
        found = next((one for one in points if sealed and one.id == sealed.id), None)
        if found is None or found.manifest is None:
            raise StoreError(found.damage if found else "the sealed point is not listed", where=f"store {store.name}")
        for component in found.manifest.components:
            for artifact in component.artifacts if component.state != "failed" else ():
                if artifact.kind == "stream":
                    store.verify(found.manifest, artifact, None, full=False)
        store.sample(found.manifest)
    except RestauraError as error:
        sink.error, sink.sealed = str(error), None
        return [str(error)]
    return []


def _prune(host: Host, plan: Plan, sinks: Sequence[Sink], point_id: str) -> list[str]:
    problems = []
    for sink in sinks:
        if sink.sealed and host.config.store(sink.store.name).host_may_delete:
            try:
                pruning.prune_store(host, plan, sink.store, point_id, listed=sink.listed)
            except RestauraError as error:
                problems.append(f"store {sink.store.name} was not pruned: {error}")
    return problems


def _answer(plan: Plan, point_id: str, take: Take, problems: list[str]) -> Answer:
    rows: list[list[str]] = []
    data: list[dict[str, Any]] = []
    whole = True
    for part in take.parts:
        for sink in take.sinks:
            record = _record_of(sink, part.name)
            trusted = bool(sink.sealed and is_good(sink.sealed, part.name))
            whole &= trusted
            told = (record and record.error, sink.of(part.name).error, part.error, sink.error)
            error = next(filter(None, told), None)
            state = record.state if record else "failed"
            data.append(
                {
                    "component": part.name,
                    "store": sink.store.name,
                    "state": state,
                    "good": trusted,
                    "consistency": record.consistency if record else None,
                    "bytes": record.bytes if record else 0,
                    "seconds": record.seconds if record else part.seconds,
                    "frozen_after": record.frozen_after if record else round(part.frozen_after, 3),
                    "pause_seconds": record.pause_seconds if record else 0,
                    "stop_seconds": record.stop_seconds if record else round(part.stop_seconds, 3),
                    "error": error,
                    "notes": record.notes if record else [],
                }
            )
            rows.append(
                [
                    part.name,
                    sink.store.name,
                    state,
                    (record and record.consistency) or "-",
                    size(record.bytes) if record else "-",
                    f"{part.seconds:.1f}",
                ]
            )
    sealed = any(sink.sealed for sink in take.sinks)
    code = Exit.FAILED if not sealed else Exit.DONE if whole and not problems else Exit.PARTIAL
    text = [
        f"point {point_id} of plan {plan.name}",
        table(["component", "store", "state", "consistency", "bytes", "seconds"], rows),
    ]
    text += sorted({f"{one['component']} in {one['store']}: {one['error']}" for one in data if one["error"]})
    notes = {f"{one['component']}: {note}" for one in data for note in one["notes"]}
    # Of a component that no store has, a record says nothing.
    notes |= {f"{part.name}: {note}" for part in take.parts if part.held for note in part.held.notes}
    text += sorted(notes)
    if take.pause.seconds:
        still = ", ".join(f"{part.name} {part.frozen_after:.1f} s" for part in take.parts if part.frozen_at)
        text.append(f"ingestion was paused for {take.pause.seconds:.1f} s; held still after: {still or 'none'}")
    text += [f"{part.name}: stopped for {part.stop_seconds:.1f} s" for part in take.parts if part.stop_seconds]
    suspect = sorted({one["component"] for one in data if one["state"] == "suspect"})
    text += [f"accept it: restaura accept {point_id} {name}" for name in suspect]
    text += problems
    answer = {
        "changed": sealed,
        "plan": plan.name,
        "point": point_id if sealed else None,
        "components": data,
        "pause_seconds": round(take.pause.seconds, 3),
        "problems": problems,
    }
    return Answer(answer, "\n".join(text), code)


def _record_of(sink: Sink, component: str) -> ComponentRecord | None:
    manifest = sink.sealed.manifest if sink.sealed else None
    return held(manifest, component) if manifest else None
