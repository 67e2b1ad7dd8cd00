# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a component of a point stands: its state, its proof, and whether it is good. The one place that judges it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from restaura.errors import NoPointError
from restaura.point import ID_PATTERN, ComponentRecord, Consistency, Manifest, Proof, State, started_at
from restaura.stores import StoredPoint

TICK = timedelta(microseconds=1)
FUTURE = timedelta(hours=1)


@dataclass(frozen=True)
class Standing:
    """The verdict over one component of one point in one store.

    Good means complete (or torn or suspect, and accepted by a person or its settings) and not disproven.
    """

    state: State
    consistency: Consistency | None
    proof: Proof
    proof_at: str | None
    accepted: bool

    @property
    def good(self) -> bool:
        """Whether this component of the point may be trusted for a restore."""
        whole = self.state == "complete" or (self.accepted and self.state in ("torn", "suspect"))
        return whole and self.proof != "disproven"


def standing(point: StoredPoint, component: str) -> Standing | None:
    """Return where `component` stands in `point`; None when the point does not hold it or cannot be read."""
    record = held(point.manifest, component) if point.manifest else None
    if record is None or point.manifest is None:
        return None
    proof: Proof = "unproven"
    unread: Proof = "unproven"
    proof_at = None
    accepted = accepts_torn(point.manifest, component) and record.state == "torn"
    # A record is signed, but whoever can write the store could put it beside another point.
    for found in sorted((one for one in point.records if one.point == point.id), key=lambda one: one.at):
        result = found.results.get(component)
        if result == "accepted":
            accepted = True
        elif result == "verified":
            proof = unread
        elif result in ("proven", "disproven"):
            proof, proof_at = "proven" if result == "proven" else "disproven", found.at
            # What a verify found wrong a later verify can find right (a disk that came back); a drill's word it cannot.
            unread = proof if found.kind == "drill" else unread
    return Standing(record.state, record.consistency, proof, proof_at, accepted)


def next_record(point: StoredPoint) -> str:
    """Return the time to write into a record of `point` made now: later than every other's, whatever the clock says."""
    now = datetime.now(UTC)
    last = max((datetime.fromisoformat(one.at) for one in point.records), default=now - TICK)
    return max(now, last + TICK).isoformat(timespec="microseconds")


def held(manifest: Manifest, component: str) -> ComponentRecord | None:
    """Return the record of `component` in `manifest`, or None."""
    return next((one for one in manifest.components if one.name == component), None)


def accepts_torn(manifest: Manifest, component: str) -> bool:
    """Whether the configuration of the time accepted torn data of this component."""
    declared = [one for kind in manifest.config.get("components", {}).values() for one in kind]
    return any(one["name"] == component and one.get("accept_torn") for one in declared)


def is_good(point: StoredPoint, component: str) -> bool:
    """Whether `point` holds `component` and it is good."""
    verdict = standing(point, component)
    return verdict is not None and verdict.good


def last_good(points: list[StoredPoint], component: str) -> StoredPoint | None:
    """Return the newest point in which `component` is good."""
    return max((one for one in points if is_good(one, component)), key=lambda one: recency(one.id), default=None)


def recency(point_id: str, now: datetime | None = None) -> tuple[bool, str]:
    """Return what orders points by time. One of the future was taken while the clock was wrong, before all others."""
    return not in_future(point_id, now or datetime.now(UTC)), point_id


def in_future(point_id: str, now: datetime) -> bool:
    """Whether a point's id claims a start more than an hour after `now`."""
    return bool(ID_PATTERN.match(point_id)) and started_at(point_id) > now + FUTURE


@dataclass(frozen=True)
class Wanted:
    """Which point is asked for: an exact `id`, the newest of a `date` (label), the newest `before` an instant."""

    id: str = ""
    date: str = ""
    before: datetime | None = None
    plan: str = ""


def choose(points: list[StoredPoint], wanted: Wanted, components: list[str]) -> StoredPoint:
    """Return the newest point that answers `wanted` and in which every asked component is good.

    A point asked for by its id (or a prefix of it) is given whatever its standing: the caller looks at that. Raises
    NoPointError, which says what there is instead.
    """
    there = [one for one in points if not wanted.plan or one.plan == wanted.plan]
    if wanted.id and wanted.id != "latest":
        exact = [one for one in there if one.id.startswith(wanted.id)]
        if len({one.id for one in exact}) == 1:
            return exact[0]
        raise NoPointError(
            "no such point" if not exact else "more than one point begins so",
            where=f"point {wanted.id}",
            fix="restaura list",
        )
    if wanted.date:
        there = [one for one in there if one.label.startswith(wanted.date)]
    if wanted.before is not None:
        there = [one for one in there if ID_PATTERN.match(one.id) and started_at(one.id) <= wanted.before]
    good = [one for one in there if all(is_good(one, name) for name in components)]
    if not good:
        known = sorted({one.name for point in points if point.manifest for one in point.manifest.components})
        if unknown := [name for name in components if known and name not in known]:
            raise NoPointError(
                f"no point holds it; there are: {', '.join(known)}",
                where=f"component {', '.join(unknown)}",
                fix="restaura list",
            )
        asked = " and ".join(components) or "anything"
        raise NoPointError(
            f"no point in which {asked} is good ({len(there)} in question)",
            where=f"date {wanted.date}" if wanted.date else "latest",
            fix="restaura list",
        )
    return max(good, key=lambda one: recency(one.id))
