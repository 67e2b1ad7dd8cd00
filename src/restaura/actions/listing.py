# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura list`, `show` and `accept`: what points there are, what one holds, and a person's word on it."""

import argparse
from typing import Any

from restaura import catalogue
from restaura.errors import ConfigError, NoPointError, RestauraError, StoreError
from restaura.host import Host
from restaura.output import Answer, size, table
from restaura.point import Record
from restaura.standing import Wanted, choose, held, next_record, recency, standing
from restaura.stores import Store, StoredPoint, open_store


def list_points(host: Host, options: argparse.Namespace) -> Answer:
    """List points, oldest first, one line a component and store; from the catalogue unless asked to --refresh."""
    if options.host and options.host != host.name:
        options.refresh = True
    shelves = catalogue.refresh(host) if options.refresh else catalogue.current(host)
    names = [one.name for one in host.config.stores]
    rows = [row for name in names for row in shelves[name].rows if _asked(row, host, options)]
    rows.sort(key=lambda row: (row.point, row.component, row.store))
    cells = [
        [
            row.point,
            row.label,
            row.plan,
            row.component,
            row.store,
            row.state,
            row.proof,
            row.how or "-",
            size(row.bytes),
            f"{row.seconds:.1f}",
        ]
        for row in rows
    ]
    head = ["point", "label", "plan", "component", "store", "state", "proof", "consistency", "bytes", "seconds"]
    text = [table(head, cells)] if cells else ["no points"]
    text += [f"store {name} did not answer: {shelves[name].error}" for name in names if shelves[name].error]
    text += [
        f"point {point} in {name} is damaged: {why}" for name in names for point, why in shelves[name].damaged.items()
    ]
    data = {
        "points": [vars(row) for row in rows],
        "errors": {name: shelves[name].error for name in names if shelves[name].error},
        "damaged": {name: shelves[name].damaged for name in names if shelves[name].damaged},
        "listed": {name: shelves[name].listed for name in names},
    }
    return Answer(data, "\n".join(text))


def _asked(row: catalogue.Row, host: Host, options: argparse.Namespace) -> bool:
    return (
        row.host == (options.host or host.name)
        and options.plan in (None, row.plan)
        and options.component in (None, row.component)
    )


def find(host: Host, point_id: str) -> list[tuple[Store, StoredPoint]]:
    """Return a point in every store that lists it; NoPointError when none does, StoreError when none answers."""
    found, problems = [], []
    wanted = Wanted(point_id)
    for config in host.config.stores:
        store = open_store(config, host)
        try:
            found.append((store, choose(store.points(host.name), wanted, [])))
        except NoPointError:
            continue
        except RestauraError as error:
            problems.append(str(error))
    if not found and problems:
        raise StoreError("; ".join(problems), where=f"point {point_id}")
    if not found:
        raise NoPointError("no such point", where=f"point {point_id}", fix="restaura list --refresh")
    newest = max((point.id for _, point in found), key=recency)
    return [(store, point) for store, point in found if point.id == newest]


def show_point(host: Host, options: argparse.Namespace) -> Answer:
    """Show a point's manifest, and its records, as each store holds it."""
    stores: dict[str, Any] = {}
    text = []
    for store, point in find(host, options.point):
        manifest = point.manifest.to_json() if point.manifest else None
        stores[store.name] = {
            "manifest": manifest,
            "damage": point.damage,
            "records": [one.to_json() for one in point.records],
        }
        text.append(f"point {point.id} ({point.label}) of plan {point.plan} in store {store.name}  {point.damage}")
        for component in point.manifest.components if point.manifest else ():
            verdict = standing(point, component.name)
            proof = verdict.proof if verdict else "-"
            how = f"{component.state}, {proof}, {component.consistency or '-'}, {size(component.bytes)}"
            how += f", stopped for {component.stop_seconds:.1f} s" if component.stop_seconds else ""
            if component.pause_seconds:
                how += f", held still {component.frozen_after:.1f} s into a pause of {component.pause_seconds:.1f} s"
            text.append(f"  {component.name}: {how}")
            text += [
                f"    {artifact.name}  {size(artifact.bytes)}  sha256 {artifact.sha256}"
                for artifact in component.artifacts
            ]
            text += [f"    {line}" for line in [*component.notes, *([component.error] if component.error else [])]]
    return Answer({"stores": stores}, "\n".join(text))


def accept(host: Host, options: argparse.Namespace) -> Answer:
    """Let a suspect or torn component count as good, in every store that holds it so."""
    done = []
    for store, point in find(host, options.point):
        record = held(point.manifest, options.component) if point.manifest else None
        verdict = standing(point, options.component)
        if record is None or verdict is None:
            raise NoPointError(
                f"holds no component {options.component!r}", where=f"point {point.id}", fix="restaura list"
            )
        if record.state == "failed":
            raise ConfigError("a failed component holds no data to accept", where=f"{record.name} of point {point.id}")
        if verdict.good or record.state == "complete":
            continue
        if not options.check:
            store.add_record(point, Record(point.id, "accept", next_record(point), {record.name: "accepted"}))
            catalogue.put(host, store.name, store.points())
        done.append(store.name)
    text = (
        f"{options.component} of point {options.point} accepted in {', '.join(done)}" if done else "nothing to accept"
    )
    return Answer({"changed": bool(done), "stores": done}, text)
