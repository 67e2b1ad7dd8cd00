# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: what the stores last said they hold. A cache: delete it and it is rebuilt from the stores."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from restaura import locks
from restaura.errors import RestauraError
from restaura.host import Host
from restaura.paths import write_atomic
from restaura.point import started_at
from restaura.standing import recency, standing
from restaura.stores import StoredPoint, open_store

VERSION = 1
LOCK_SECONDS = 60


@dataclass(frozen=True)
class Row:
    """One component of one point in one store, as lists and tables show it."""

    store: str
    point: str
    host: str
    plan: str
    label: str
    component: str
    state: str
    consistency: str | None
    proof: str
    good: bool
    bytes: int
    seconds: float
    stop_seconds: float = 0.0
    frozen_after: float = 0.0
    pause_seconds: float = 0.0

    @property
    def how(self) -> str:
        """The consistency for people, with the time that services or containers were stopped for it."""
        stopped = f" {self.stop_seconds:.1f} s" if self.consistency == "stopped" and self.stop_seconds else ""
        return (self.consistency or "") + stopped


@dataclass
class Shelf:
    """What one store held when it was last asked: `listed` is when, `error` why the last asking failed.

    `place` is where the store was then: what is known of one place says nothing of another.
    """

    place: str
    listed: str = ""
    error: str = ""
    rows: list[Row] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def load(host: Host) -> dict[str, Shelf]:
    """Return what is known of the configured stores, each where it is now; empty when there is no such catalogue."""
    places = {one.name: one.place for one in host.config.stores}
    try:
        data = json.loads(host.paths.catalogue.read_text())
        if data["version"] != VERSION:
            return {}
        return {
            name: Shelf(**{**shelf, "rows": [Row(**row) for row in shelf["rows"]]})
            for name, shelf in data["stores"].items()
            if shelf["place"] == places.get(name)
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def put(host: Host, store: str, points: list[StoredPoint]) -> None:
    """Keep a complete listing of one store."""
    rows = [row for point in points for row in _rows(store, point)]
    damaged = {point.id: point.damage for point in points if point.damage}
    with _changing(host) as shelves:
        place = host.config.store(store).place
        shelves[store] = Shelf(place, datetime.now(UTC).isoformat(timespec="seconds"), "", rows, damaged)


def refresh(host: Host) -> dict[str, Shelf]:
    """Ask every store for its points; one that does not answer keeps its old rows and gets an error."""
    for config in host.config.stores:
        try:
            put(host, config.name, open_store(config, host).points())
        except RestauraError as error:
            with _changing(host) as shelves:
                shelves.setdefault(config.name, Shelf(config.place)).error = str(error)
    return load(host)


def current(host: Host) -> dict[str, Shelf]:
    """Return the catalogue of the configured stores, asked for anew when it lacks one, or one that moved."""
    shelves = load(host)
    names = [one.name for one in host.config.stores]
    if any(name not in shelves for name in names):
        shelves = refresh(host)
    return {name: shelves[name] for name in names}


@dataclass(frozen=True)
class Newest:
    """How one component stands in one store: its newest good and newest proven points."""

    plan: str
    component: str
    store: str
    points: int
    good_at: datetime | None
    proven_at: datetime | None
    bytes: int
    last: Row | None


def newest(host: Host) -> list[Newest]:
    """Return how every configured component stands in every store of every plan that holds it."""
    shelves = current(host)
    found = []
    for plan in host.config.plans:
        for component in host.config.plan_components(plan):
            for store in host.config.plan_stores(plan):
                rows = [
                    row
                    for row in shelves[store.name].rows
                    if (row.host, row.plan, row.component) == (host.name, plan.name, component.name)
                ]
                rows.sort(key=lambda row: recency(row.point))
                good = [row for row in rows if row.good]
                proven = [row for row in good if row.proof == "proven"]
                found.append(
                    Newest(
                        plan.name,
                        component.name,
                        store.name,
                        len(rows),
                        started_at(good[-1].point) if good else None,
                        started_at(proven[-1].point) if proven else None,
                        good[-1].bytes if good else 0,
                        rows[-1] if rows else None,
                    )
                )
    return found


def orphans(host: Host) -> dict[str, datetime]:
    """Return the components that have points of this host and are no longer declared, with the newest's time."""
    declared = {one.name for one in host.config.components}
    found: dict[str, datetime] = {}
    for shelf in current(host).values():
        for row in shelf.rows:
            if row.host == host.name and row.component not in declared:
                found[row.component] = max(started_at(row.point), found.get(row.component, started_at(row.point)))
    return dict(sorted(found.items()))


def _rows(store: str, point: StoredPoint) -> list[Row]:
    rows = []
    for record in point.manifest.components if point.manifest else ():
        verdict = standing(point, record.name)
        if verdict is not None:
            rows.append(
                Row(
                    store,
                    point.id,
                    point.host,
                    point.plan,
                    point.label,
                    record.name,
                    record.state,
                    record.consistency,
                    verdict.proof,
                    verdict.good,
                    record.bytes,
                    record.seconds,
                    record.stop_seconds,
                    record.frozen_after,
                    record.pause_seconds,
                )
            )
    return rows


@contextlib.contextmanager
def _changing(host: Host) -> Iterator[dict[str, Shelf]]:
    """Yield the catalogue and keep what was changed; runs of other plans wait, or the last would undo the first."""
    with locks.holding(host.paths.locks, ["catalogue"], LOCK_SECONDS):
        shelves = load(host)
        yield shelves
        _save(host, shelves)


def _save(host: Host, shelves: dict[str, Shelf]) -> None:
    data: dict[str, Any] = {"version": VERSION, "stores": {name: asdict(shelf) for name, shelf in shelves.items()}}
    write_atomic(host.paths.catalogue, json.dumps(data).encode())
