# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points of one plan in one store are no longer wanted: one pure function, counted per component.

A point goes only when no component in it wants it. For a component that is still configured:

- its **good** points are wanted by `keep_last`, `keep_within`, `keep_daily`, `keep_weekly`, `keep_monthly` (the newest
  good point of each of so many local days, ISO weeks and months that have one), by the floor, as its newest good point,
  and as its newest proven one;
- a point that holds data of it that is **not good** (suspect, torn, disproven) takes nobody's place, and stays until
  `keep_last` good points, or the floor where that is more, are newer, and as long as `keep_within` says;
- a component that failed holds nothing, and wants nothing.

A component that is no longer configured is **orphaned**: it is counted as if time had stood still at its newest point,
so it never ages, and a point that holds nothing but orphans is never deleted.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any

from restaura.config.schema import Retention
from restaura.point import started_at
from restaura.standing import in_future, is_good, recency, standing
from restaura.stores import StoredPoint

JUMP = timedelta(days=40)
NOW = "now"
UNITS = {"h": 1, "d": 24, "w": 7 * 24, "m": 30 * 24, "y": 365 * 24}
BUCKETS: tuple[tuple[str, Callable[[datetime], Any]], ...] = (
    ("daily", lambda at: at.date()),
    ("weekly", lambda at: at.isocalendar()[:2]),
    ("monthly", lambda at: (at.year, at.month)),
)


@dataclass(frozen=True)
class PrunePlan:
    """What may be deleted. `keep` has every other point of the plan, with the reasons by which it is wanted.

    `refused` says why nothing may be deleted, and `fix` what to type. `doubtful` are the points whose time is in doubt.
    A person accepts it for this call by `accept_time`, and for good by a Record of kind `accept` beside each of them
    with `details={"time": "accepted"}`.
    """

    keep: dict[str, list[str]]
    delete: list[str]
    refused: str = ""
    fix: str = ""
    orphaned: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)


def plan_prune(
    points: Sequence[StoredPoint],
    rule: Retention,
    *,
    host: str,
    plan: str,
    components: Collection[str],
    now: datetime,
    zone: tzinfo,
    just_sealed: str | None = None,
    accept_time: bool = False,
) -> PrunePlan:
    """Plan the pruning of one plan's points in one store. Changes nothing.

    `points` is the store's complete listing (`Store.points()`), `components` the names now configured in the plan,
    `now` aware, `zone` the plan's time zone. Nothing may be deleted when the listing lacks the point just sealed, when
    a manifest of this host is damaged, when a point of it lies in the future, or when time jumped: two of the newest
    points, or the newest and now, are more than 40 days and more than 3 times as far apart as the others.
    """
    mine = [one for one in points if one.manifest and (one.manifest.host, one.manifest.plan) == (host, plan)]
    # Those of the future come last: what was taken since the clock was set right is newer.
    own = sorted(mine, key=lambda one: recency(one.id, now), reverse=True)
    held = {name for one in own for name, state in _states(one).items() if state != "failed"}
    orphaned = sorted(held - set(components))
    keep: dict[str, list[str]] = {one.id: [] for one in own}
    for name in sorted(held):
        copies = [one for one in own if _states(one).get(name, "failed") != "failed"]
        clock = started_at(copies[0].id) if name in orphaned else now
        for point_id, reasons in _wanted(copies, name, rule, clock, zone).items():
            keep[point_id] += [f"{name}: {reason}" for reason in reasons]
    for one in own:
        names = {name for name, state in _states(one).items() if state != "failed"}
        if names and names <= set(orphaned):
            keep[one.id].append("holds orphaned components only")
        if one.id == just_sealed:
            keep[one.id].append("just sealed")

    doubts = _jumped(own, components, rule, now, just_sealed) | _future(points, host, now)
    refused, fix = _untrusted(points, own, host, just_sealed)
    if doubts and not refused and not accept_time:
        refused = f"time is in doubt: {'; '.join(doubts.values())}"
        fix = "look at the clock (`date -u`), set it right if it is wrong, then: restaura prune --accept-time"
    delete = [] if refused else sorted(one for one, reasons in keep.items() if not reasons)
    kept = {one: reasons or ["nothing may be deleted"] for one, reasons in keep.items() if one not in delete}
    return PrunePlan(kept, delete, refused, fix, orphaned, [one for one in doubts if one != NOW])


def _wanted(
    copies: Sequence[StoredPoint], name: str, rule: Retention, clock: datetime, zone: tzinfo
) -> dict[str, list[str]]:
    """Return the reasons, by point id, for which the points `copies` (newest first) are wanted by one component."""
    wanted: dict[str, list[str]] = {one.id: [] for one in copies}
    within = clock - _span(rule.keep_within) if rule.keep_within else None
    rank = 0
    last = max(rule.keep_last, rule.floor)
    full: dict[str, set[Any]] = {bucket: set() for bucket, _ in BUCKETS}
    for one in copies:
        at, reasons = started_at(one.id), wanted[one.id]
        if within is not None and at >= within:
            reasons.append(f"within {rule.keep_within}")
        if not is_good(one, name):
            if rank < last:
                reasons.append(f"not good, and fewer than {last} good points are newer")
            continue
        if rank == 0:
            reasons.append("newest good")
        if rank < rule.keep_last:
            reasons.append("last")
        if rank < rule.floor:
            reasons.append("floor")
        rank += 1
        for bucket, key in BUCKETS:
            value = key(at.astimezone(zone))
            if value not in full[bucket] and len(full[bucket]) < getattr(rule, f"keep_{bucket}"):
                full[bucket].add(value)
                reasons.append(bucket)
    newest_proven = next((one for one in copies if _proven(one, name)), None)
    if newest_proven:
        wanted[newest_proven.id].append("newest proven")
    return wanted


def _untrusted(
    points: Sequence[StoredPoint], own: Sequence[StoredPoint], host: str, just_sealed: str | None
) -> tuple[str, str]:
    """Say why the listing cannot be trusted with a deletion, and the fix; two empty texts when it can."""
    if just_sealed is not None and just_sealed not in {one.id for one in own}:
        return f"the listing lacks the point just sealed, {just_sealed}", "restaura list, and look at the store"
    for one in points:
        wrong = one.damage or ("its manifest is of another point" if one.manifest and one.manifest.id != one.id else "")
        if wrong and one.host in ("", host):
            return f"the manifest of point {one.id} is damaged: {wrong}", f"restaura show {one.id}"
    twice = [one.id for one in own if [other.id for other in own].count(one.id) > 1]
    return (f"point {twice[0]} is listed twice", f"restaura show {twice[0]}") if twice else ("", "")


def _future(points: Iterable[StoredPoint], host: str, now: datetime) -> dict[str, str]:
    """Name the points of this host, damaged ones too, that begin more than an hour after now."""
    return {
        one.id: f"point {one.id} lies in the future of {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        for one in points
        if one.host in ("", host) and in_future(one.id, now) and not _time_accepted(one)
    }


def _jumped(
    own: Sequence[StoredPoint], components: Collection[str], rule: Retention, now: datetime, just_sealed: str | None
) -> dict[str, str]:
    """Name the points before which time jumped.

    Only those that no earlier pruning can have thinned out are compared: as many newest good ones as retention always
    keeps, and the one just sealed.
    """
    solid = [one for one in own if any(is_good(one, name) for name in components)]
    solid = solid[: max(rule.keep_last, rule.floor) + (just_sealed is not None)]
    ends = [(NOW, now), *((one.id, started_at(one.id)) for one in solid)]
    gaps = [(newer[0], newer[1] - older[1]) for newer, older in pairwise(ends)]
    accepted = {one.id for one in solid if _time_accepted(one)}
    found = {}
    for number, (end, gap) in enumerate(gaps):
        others = [other for n, (_, other) in enumerate(gaps) if n != number]
        if gap > max(JUMP, 3 * max(others, default=timedelta())) and end not in accepted:
            found[end] = f"{gap.days} days without a good point before {end if end == NOW else f'point {end}'}"
    return found


def _states(point: StoredPoint) -> dict[str, str]:
    return {one.name: one.state for one in point.manifest.components} if point.manifest else {}


def _proven(point: StoredPoint, component: str) -> bool:
    verdict = standing(point, component)
    return verdict is not None and verdict.proof == "proven"


def _time_accepted(point: StoredPoint) -> bool:
    return any(
        (one.point, one.kind, one.details.get("time")) == (point.id, "accept", "accepted") for one in point.records
    )


def _span(text: str) -> timedelta:
    return timedelta(hours=min(int(text[:-1]) * UNITS[text[-1]], 1000 * UNITS["y"]))
