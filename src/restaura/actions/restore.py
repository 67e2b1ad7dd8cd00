# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura restore` and `restaura undo`: staged beside the live data, compared, swapped in, and swapped back."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import checks, keys, locks, restoring
from restaura.actions import recover as recovery
from restaura.config import load
from restaura.config.schema import Component, Config, Plan
from restaura.config.schema import Store as StoreConfig
from restaura.config.shown import covers
from restaura.errors import (
    ConfigError,
    Exit,
    MismatchError,
    NoPointError,
    ProtectedError,
    RefusedError,
    RestauraError,
    StoreError,
)
from restaura.host import Host
from restaura.journal import Debt
from restaura.output import Answer, lines, printable, size, table
from restaura.paths import Paths, private_dir, write_atomic
from restaura.pause import concerned, paused
from restaura.point import ComponentRecord, new_id
from restaura.restoring import Built
from restaura.sources import TIERS, Source, Target, registry
from restaura.staging import protected
from restaura.standing import Wanted, choose, held, standing
from restaura.stores import Store, StoredPoint, open_store


@dataclass(frozen=True)
class Choice:
    """One component to restore: its options, its record, and every store that holds this point of it, best first.

    `asked` is the store that --from-store names, `missed` why it is not the first, where that is known already.
    """

    options: Component
    kind: str
    record: ComponentRecord
    plan: str
    point: StoredPoint
    candidates: list[tuple[Store, StoredPoint]]
    asked: str
    missed: str


def restore(host: Host, options: argparse.Namespace) -> Answer:
    """Show what a restore would do, or with --yes do it."""
    target = _target(options)
    with _reading_host(host, options) as reader:
        choices = _choose(reader, options)
        if not options.yes or options.check:
            aside = None if options.component or target.paths else reader.paths.restored
            shown = _shown(choices, target, aside)
            if options.check or not options.ask:
                return shown
            _confirm(shown.text)
        recovery.watch(reader)
        recovery.pay(reader)
        names = [f"component:{one.options.name}" for one in choices]
        names += [f"store:{store.name}" for one in choices for store, _ in one.candidates]
        with locks.holding(reader.paths.locks, names, options.wait):
            plans = _plans(reader, [one.options.name for one in choices]) if options.pause else []
            return _restore(reader, choices, target, plans, named=bool(options.component))


def _target(options: argparse.Namespace) -> Target:
    kind, _, value = options.to.partition(":")
    if kind == "dir" and not value.startswith("/"):
        raise ConfigError("a directory is given by its absolute path", where=f"--to {options.to}", fix="--to dir:/PATH")
    return Target(kind, value, tuple(options.path))


# -- which points, from where --------------------


@contextlib.contextmanager
def _reading_host(host: Host, options: argparse.Namespace) -> Iterator[Host]:
    """Yield the host to read as: this one, or with --kit the one whose kit it is, its keys in a spool of their own."""
    if not options.kit:
        if options.store:
            raise ConfigError("--store needs --kit", where="restaura restore", fix="--kit FILE, the recovery kit")
        yield host
        return
    kit = keys.Kit.read(Path(options.kit))
    config = load.parse(kit.config, options.kit)
    with unlocked(host.paths, config, kit) as reader:
        if options.store:
            yield _moved(reader, options.store)
        else:
            yield reader


@contextlib.contextmanager
def unlocked(paths: Paths, config: Config, kit: keys.Kit) -> Iterator[Host]:
    """Yield a host that reads with a kit's keys alone; they are unpacked into a journaled spool, and removed."""
    with Host(paths, config).spool("kit") as folder:
        kit.write_keys(folder)
        yield Host(replace(paths, keys_of_kit=folder), config)


def _moved(host: Host, location: str) -> Host:
    """Return a host whose one store is the kit's that answers at `location`."""
    location = location.rstrip("/")
    stores = host.config.stores
    there = [one for one in stores if one.location.rstrip("/") == location]
    for one in there or [replace(one, location=location) for one in stores]:
        found = Host(host.paths, replace(host.config, stores=(one,)))
        try:
            open_store(one, found).points()
        except StoreError:
            if there:
                raise
            continue
        return found
    known = ", ".join(one.location for one in stores)
    raise ConfigError("no store of the kit answers there", where=f"--store {location}", fix=f"the kit knows: {known}")


def _choose(host: Host, options: argparse.Namespace) -> list[Choice]:
    """Find the point of every asked component, and every store that holds it."""
    of_host = options.host or host.name
    listed: dict[str, tuple[Store, list[StoredPoint]]] = {}
    problems: dict[str, str] = {}
    for config in _ordered(host.config.stores, options.from_store):
        store = open_store(config, host)
        try:
            listed[store.name] = (store, store.points(of_host))
        except StoreError as error:
            problems[store.name] = str(error)
    if not listed:
        raise StoreError("; ".join(problems.values()) or "no store is configured", where="restore")
    points = [point for _, found in listed.values() for point in found]
    names = options.component or _all_components(host, points, options.plan)
    wanted = Wanted(options.point or "latest", options.date or "", options.before, options.plan or "")
    choices = [_choice(host, name, point, listed) for name, point in _points_for(points, wanted, names)]
    if options.from_store:
        choices = [_asking(one, options.from_store, problems) for one in choices]
    return sorted(choices, key=lambda one: TIERS.index(registry()[one.kind].tier))


def _ordered(stores: Sequence[StoreConfig], first: str | None) -> list[StoreConfig]:
    if first and first not in {one.name for one in stores}:
        known = ", ".join(one.name for one in stores)
        raise ConfigError("no such store", where=f"--from-store {first}", fix=f"one of: {known}")
    return sorted(stores, key=lambda one: (one.name != first, one.location.startswith("s3:")))


def _all_components(host: Host, points: Sequence[StoredPoint], plan: str | None) -> list[str]:
    plans = [one for one in host.config.plans if not plan or one.name == plan]
    if plan and not plans:
        raise ConfigError("no such plan", where=f"--plan {plan}", fix="restaura status")
    wanted = {one.name for known in plans for one in host.config.plan_components(known)}
    there = {one.name for point in points if point.manifest for one in point.manifest.components}
    return [one.name for one in host.config.components if one.name in wanted] or sorted(there)


def _points_for(points: Sequence[StoredPoint], wanted: Wanted, names: Sequence[str]) -> list[tuple[str, StoredPoint]]:
    """Return one point in which all are good; where plans split them and no id was given, the newest for each."""
    try:
        point = choose(list(points), wanted, list(names))
    except NoPointError:
        if wanted.id != "latest" or len(names) == 1:
            raise
        return [(name, choose(list(points), wanted, [name])) for name in names]
    return [(name, point) for name in names]


def _choice(host: Host, name: str, point: StoredPoint, listed: dict[str, tuple[Store, list[StoredPoint]]]) -> Choice:
    candidates = []
    for store, found in listed.values():
        for one in found:
            record = held(one.manifest, name) if one.manifest else None
            if one.id == point.id and record and record.state != "failed":
                candidates.append((store, one))
    candidates.sort(key=lambda one: _rank(one[1], name))
    record = held(point.manifest, name) if point.manifest else None
    if point.damage and not candidates:
        raise StoreError(point.damage, where=f"point {point.id}")
    if not candidates or record is None:
        raise NoPointError(
            f"does not hold {name!r}" + (f": {record.error}" if record and record.error else ""),
            where=f"point {point.id}",
            fix=f"restaura show {point.id}",
        )
    options, kind = restoring.options_of(host, name, point)
    best = candidates[0][1].manifest
    return Choice(options, kind, best.component(name) if best else record, point.plan, point, candidates, "", "")


def _asking(choice: Choice, asked: str, problems: Mapping[str, str]) -> Choice:
    """Return the choice for who asked for a store; `problems` are those of the stores that did not answer."""
    names = [store.name for store, _ in choice.candidates]
    missed = ""
    if asked in problems:
        missed = f"store {asked} did not answer ({problems[asked]})"
    elif asked not in names:
        missed = f"store {asked} has no such point"
    elif asked != names[0]:
        missed = f"what store {asked} has of this point is not good"
    return replace(choice, asked=asked, missed=missed)


def _instead(choice: Choice, store: str) -> list[str]:
    """Say why `store` is read and not the one that was asked for."""
    if choice.asked in ("", store):
        return []
    why = choice.missed or f"what store {choice.asked} has of this point could not be read whole"
    return [f"{choice.options.name}: {why}; read from {store}"]


def _rank(point: StoredPoint, name: str) -> int:
    verdict = standing(point, name)
    return 0 if verdict and verdict.good else 1


def _confirm(shown: str) -> None:
    """Show what would happen and ask for a `yes` on the terminal; RefusedError when none is given."""
    if not sys.stdin.isatty():
        raise RefusedError("there is no terminal to ask on; nothing was changed", where="restore", fix="--yes does it")
    print(lines(shown), "Type yes to do it: ", sep="\n", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise RefusedError("not confirmed; nothing was changed", where="restore")


def _shown(choices: Sequence[Choice], target: Target, aside: Path | None) -> Answer:
    """Show the choices; what never goes live as a whole goes below `aside`, or is refused when there is none."""
    rows = [
        [
            one.options.name,
            one.kind,
            one.point.id,
            one.point.label,
            size(one.record.bytes),
            one.record.consistency or "-",
            _verdict(one),
            ", ".join(store.name for store, _ in one.candidates),
        ]
        for one in choices
    ]
    text = table(["component", "kind", "point", "label", "bytes", "consistency", "standing", "from"], rows)
    where = f"{target.kind}:{target.value}" if target.value else target.kind
    data = {"changed": True, "target": where, "paths": list(target.paths), "components": [_row(one) for one in choices]}
    for one in choices:
        text += f"\n{one.options.name}: {printable(covers(one.options))}"
        if target.kind == "live" and (paths := protected(one.options, target.paths)):
            text += f"\n{one.options.name}: {_never_live(paths, aside)}"
    what = ", ".join(map(printable, target.paths)) or "all of it"
    notes = mixed(choices) + [note for one in choices for note in _instead(one, one.candidates[0][0].name)]
    text += "".join(f"\n{one}" for one in notes)
    text += f"\n{what} would be restored to {where}; nothing was changed. Do it with --yes"
    return Answer({**data, "notes": notes}, text)


def mixed(choices: Sequence[Choice]) -> list[str]:
    """Say of which plans the components were captured in one pause each, and do not come from the same one."""
    found = []
    for plan in sorted({one.plan for one in choices}):
        held_still = [one for one in choices if one.plan == plan and one.record.pause_seconds]
        if len({one.point.id for one in held_still}) > 1:
            each = ", ".join(f"{one.options.name} from {one.point.id}" for one in held_still)
            found.append(f"NOT OF ONE MOMENT: no point of plan {plan} holds all of them good: {each}")
    return found


def _never_live(paths: Sequence[str], aside: Path | None) -> str:
    what = f"{', '.join(map(printable, paths))} never goes live as a whole"
    if aside:
        return f"{what}: it would be put below {aside}, for you to copy from"
    return f"{what}: this would be refused. Give --to dir:/PATH, or name what of it you need with --path"


def _verdict(choice: Choice) -> str:
    verdict = standing(choice.candidates[0][1], choice.options.name)
    return "?" if verdict is None else f"{verdict.state}, {verdict.proof}" + ("" if verdict.good else " (NOT GOOD)")


def _row(choice: Choice) -> dict[str, Any]:
    return {
        "component": choice.options.name,
        "kind": choice.kind,
        "point": choice.point.id,
        "label": choice.point.label,
        "plan": choice.plan,
        "bytes": choice.record.bytes,
        "standing": _verdict(choice),
        "stores": [store.name for store, _ in choice.candidates],
    }


# -- the act --------------------


@dataclass(frozen=True)
class Ready:
    """A component that is staged and compared."""

    choice: Choice
    built: Built
    source: Source


def _plans(host: Host, components: Sequence[str]) -> list[Plan]:
    """Return the plans whose ingestion writes to these components; none on a machine that was not set up."""
    there = host.paths.config.exists() or host.paths.keys_of_kit
    return concerned(host.config, components) if there else []


def _restore(host: Host, choices: Sequence[Choice], target: Target, plans: Sequence[Plan], named: bool) -> Answer:
    restore_id = new_id(datetime.now(UTC))
    host.log.context = {"restore": restore_id}
    ready: list[Ready] = []
    host.log.event("phase", phase="stage")
    try:
        for choice in choices:
            try:
                ready.append(_stage(host, choice, target))
            except ProtectedError:
                if named or target.paths:
                    raise
                ready.append(_stage(host, choice, _aside(host, restore_id, choice)))
        kept, judged, trouble = _swap_paused(host, plans if target.kind == "live" else [], restore_id, ready)
    except BaseException:
        _take_back(host, ready)
        raise
    judged = [[*found, *_judged(one, live=True)] for one, found in zip(ready, judged, strict=True)]
    failed = [
        f"{one.choice.options.name}: {text}"
        for one, found in zip(ready, judged, strict=True)
        for text in checks.failures(found)
    ]
    notes = mixed([one.choice for one in ready])
    notes += [note for one in ready for note in _instead(one.choice, one.built.store)]
    notes += [f"{one.choice.options.name}: {note}" for one in ready for note in one.built.staged.notes]
    notes += [
        f"{one.choice.options.name}: never goes live as a whole; it stands in {one.built.staged.target.value}. Make "
        f"live what you need of it: restaura restore --component {one.choice.options.name} --path /… --yes"
        for one in ready
        if (one.built.staged.target.kind, target.kind) == ("dir", "live")
    ]
    rows = [
        {
            **_row(one.choice),
            "from": one.built.store,
            "kept": one.choice.options.name in kept,
            "compared": _compared(one.built),
            "checks": [asdict(result) for result in found],
        }
        for one, found in zip(ready, judged, strict=True)
    ]
    text = table(
        ["component", "point", "from", "bytes", "restored", "checks"],
        [
            [row["component"], row["point"], row["from"], size(row["bytes"]), row["compared"], checks.summary(found)]
            for row, found in zip(rows, judged, strict=True)
        ],
    )
    undo = f"restaura undo {restore_id}" if kept else ""
    if failed:
        failed.append("it was restored all the same; when that is mended, look again: restaura check")
    told = [text, *map(printable, notes), *failed, *trouble, *([f"swap back: {undo}"] if undo else [])]
    data = {"changed": True, "id": restore_id, "restored": rows, "notes": notes, "undo": undo}
    data["problems"] = [*failed, *trouble]
    host.log.event("restored", components=[row["component"] for row in rows], problems=data["problems"])
    return Answer(data, "\n".join(told), Exit.MISMATCH if failed else Exit.FAILED if trouble else Exit.DONE)


def _judged(one: Ready, *, live: bool) -> list[checks.Result]:
    """Run a component's checks: those that ask the `live` system, or those of the data alone.

    By now it was restored, so who interrupts them must still be told that it was.
    """
    wanted = tuple(check for check in one.choice.options.checks if check.needs_live == live)
    try:
        return checks.judge(one.source, replace(one.choice.options, checks=wanted), one.built.staged)
    except KeyboardInterrupt:
        return [checks.Result(check.name, "failed", "interrupted") for check in wanted]


def _compared(built: Built) -> str:
    """Return what the comparison showed: a catalog fingerprint says nothing of content."""
    wanted = built.reader.component.fingerprint
    return "equal" if wanted and wanted.depth == "content" else "equal but for content, not compared"


def _aside(host: Host, restore_id: str, choice: Choice) -> Target:
    """Return where a component that never goes live as a whole is put by a restore of everything."""
    return Target("dir", str(private_dir(host.paths.restored / restore_id) / choice.options.name))


def _stage(host: Host, choice: Choice, target: Target) -> Ready:
    """Stage one component and compare it; what differs is removed again. Another store is tried when one is damaged."""
    source = registry()[choice.kind].source(choice.options, host)
    candidates = list(choice.candidates)
    while True:
        built = restoring.stage(host, source, candidates, choice.options.name, target)
        problems = _compare(source, built)
        if not problems:
            return Ready(choice, built, source)
        _drop_staged(host, choice.kind, built)
        host.log.event("mismatch", "error", component=choice.options.name, store=built.store, problems=problems[:50])
        candidates = [one for one in candidates if one[0].name != built.store]
        if not candidates:
            raise MismatchError(
                "what was restored is not what was backed up: " + "; ".join(problems[:10]),
                where=f"component {choice.options.name}, point {choice.point.id}",
                fix=f"restaura list --component {choice.options.name}, then restore an older point: --point ID",
            )


def _compare(source: Source, built: Built) -> list[str]:
    """Return the differences to the fingerprint of the point; of its parts, where only some were asked for."""
    wanted = built.reader.component.fingerprint
    if wanted is None or built.staged.compared:
        return []
    found = source.fingerprint(built.staged, wanted.depth)
    if built.staged.part:
        parts = {name: digest for name, digest in wanted.parts.items() if name in found.parts}
        wanted, found = replace(wanted, parts=parts, counts={}), replace(found, counts={})
    return wanted.differences(found)


def _refuse_busy(ready: Sequence[Ready]) -> None:
    holders = [f"{one.choice.options.name}: {who}" for one in ready for who in one.source.busy(one.built.staged)]
    if holders:
        shown = "; ".join(map(printable, holders[:10]))
        raise RefusedError(
            f"the live data is in use ({len(holders)}): {shown}",
            where="restore",
            fix="stop what uses it and try again; nothing was changed",
        )


def _swap_paused(
    host: Host, plans: Sequence[Plan], restore_id: str, ready: Sequence[Ready]
) -> tuple[set[str], list[list[checks.Result]], list[str]]:
    """Swap and look at the data while ingestion is paused: what asks services is for afterwards.

    Returns what was kept, what the checks found, and what went wrong once all was swapped.
    """
    with paused(host, plans, limited=False) as pause:
        _refuse_busy(ready)
        kept = _swap_all(host, restore_id, ready)
        judged = [_judged(one, live=False) for one in ready]
    return kept, judged, [f"restored, but: {one}" for one in pause.problems]


def _swap_all(host: Host, restore_id: str, ready: Sequence[Ready]) -> set[str]:
    """Swap every component in, each journaled before; when one fails, those before it are swapped back."""
    done: list[tuple[Ready, Debt, dict[str, Any]]] = []
    try:
        for one in ready:
            record = one.source.plan_swap(one.built.staged) if one.built.staged.target.kind != "dir" else {}
            if not record:
                continue
            name = f"{restore_id}-{one.choice.options.name}"
            staged = str(one.built.staged.data.get("debt") or "")
            data = {"record": record, "kept": name, "stage": staged}
            debt = host.journal.write(f"swap:{one.choice.kind}", "swap", data)
            done.append((one, debt, record))
            _keep(host, name, one.choice, restore_id, record)
            host.log.event("phase", phase="swap")
            one.source.swap(record)
        host.log.event("phase", phase="swapped")
    except BaseException:
        for one, debt, record in reversed(done):
            one.source.undo(record)
            host.journal.settle(debt)
            _kept_path(host, f"{restore_id}-{one.choice.options.name}").unlink(missing_ok=True)
        raise
    # From here on a restore that dies is finished, not taken back: somebody may be writing to what it made live.
    paid = [debt.id for _, debt, _ in done] + [str(one.built.staged.data.get("debt") or "") for one in ready]
    commit = host.journal.write("commit", "settle", {"debts": list(filter(None, paid))})
    host.log.event("phase", phase="committed")
    recovery.settle_all(host, commit)
    return {one.choice.options.name for one, _, _ in done}


def _take_back(host: Host, ready: Sequence[Ready]) -> None:
    for one in ready:
        with contextlib.suppress(RestauraError):
            _drop_staged(host, one.choice.kind, one.built)


def _drop_staged(host: Host, kind: str, built: Built) -> None:
    """Remove what was staged, by the debt that `stage` wrote."""
    wanted = built.staged.data.get("debt")
    for debt in host.journal.open_debts():
        if debt.id == wanted:
            registry()[kind].source.take_back(debt.act, debt.data)
            host.journal.settle(debt)


# -- undo --------------------


KEPT_FIELDS = {"id", "component", "kind", "point", "at", "order", "live", "record"}


def _kept_path(host: Host, name: str) -> Path:
    return host.paths.kept / f"{name}.json"


def _keep(host: Host, name: str, choice: Choice, restore_id: str, record: dict[str, Any]) -> None:
    private_dir(host.paths.kept)
    data = {
        "id": restore_id,
        "component": choice.options.name,
        "kind": choice.kind,
        "point": choice.point.id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "order": 1 + max((one["order"] for _, one in kept_records(host)), default=0),
        "live": "restored",
        "record": record,
    }
    write_atomic(_kept_path(host, name), json.dumps(data).encode())


def kept_records(host: Host) -> list[tuple[Path, dict[str, Any]]]:
    """Return the records of restores that can be swapped back, oldest first; what cannot be read is left out."""
    return [(path, data) for path, data in _records(host) if data is not None]


def damaged_records(host: Host) -> list[Path]:
    """Return the records of kept copies that cannot be read."""
    return [path for path, data in _records(host) if data is None]


def _records(host: Host) -> list[tuple[Path, dict[str, Any] | None]]:
    found: list[tuple[Path, dict[str, Any] | None]] = []
    for path in sorted(host.paths.kept.glob("*.json")):
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError):
            data = None
        whole = isinstance(data, dict) and data.keys() >= KEPT_FIELDS
        found.append((path, data if whole else None))
    return sorted(found, key=lambda one: one[1]["order"] if one[1] else 0)


def undo(host: Host, options: argparse.Namespace) -> Answer:
    """Swap a restore back (both sides stay), or with --discard delete the copy that is not live."""
    records = kept_records(host)
    if not options.id:
        rows = [[one["id"], one["component"], one["point"], one["at"], one["live"]] for _, one in records]
        text = table(["id", "component", "point", "at", "live"], rows) if rows else "no restore to swap back"
        return Answer({"changed": False, "restores": [one for _, one in records]}, text)
    wanted = _last_live(records) if options.id == "latest" else options.id
    chosen = [(path, one) for path, one in records if wanted and one["id"].startswith(wanted)]
    if not chosen or len({one["id"] for _, one in chosen}) > 1:
        raise NoPointError("no such restore", where=f"undo {options.id}", fix="restaura undo")
    names = [one["component"] for _, one in chosen]
    done: list[str] = []
    already = [
        f"{one['component']}: the data from before is live already"
        for _, one in chosen
        if one["live"] != "restored" and not options.discard
    ]
    if not options.check:
        recovery.watch(host)
        recovery.pay(host)
    with locks.holding(host.paths.locks, [f"component:{name}" for name in names], 0):
        if not options.discard:
            _refuse_undo(chosen, kept_records(host))
        swaps = options.pause and not (options.discard or options.check)
        with paused(host, _plans(host, names) if swaps else [], limited=False) as pause:
            for path, one in reversed(chosen):
                done.append(_undo_one(host, path, one, discard=options.discard, check=options.check))
    trouble = [f"swapped back, but: {one}" for one in pause.problems]
    data = {"changed": any(done), "id": chosen[0][1]["id"], "problems": trouble}
    text = "\n".join([*filter(None, done), *already, *trouble])
    return Answer(data, text, Exit.FAILED if trouble else Exit.DONE)


def _last_live(records: Sequence[tuple[Path, dict[str, Any]]]) -> str:
    """Return the id of the last restore whose data is live, or an empty text."""
    return next((str(one["id"]) for _, one in reversed(records) if one["live"] == "restored"), "")


def _refuse_undo(chosen: Sequence[tuple[Path, dict[str, Any]]], records: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """Refuse what would make half a copy live, or would mix up the sides of a newer restore that lies on top."""
    for _, one in chosen:
        where = f"undo {one['id']}"
        if one.get("discarding"):
            fix = f"restaura undo {one['id']} --discard"
            raise RefusedError("its discard was begun: the copy is no longer whole", where=where, fix=fix)
        newer = [
            other["id"]
            for _, other in records
            if other["component"] == one["component"] and other["order"] > one["order"] and other["live"] == "restored"
        ]
        if one["live"] == "restored" and newer:
            fix = f"restaura undo {newer[-1]}"
            raise RefusedError(f"a newer restore of {one['component']} is live", where=where, fix=fix)


def other_side(kept: dict[str, Any]) -> str:
    """Say which side of a restore is kept: the one that is not live."""
    return "the data from before the restore" if kept["live"] == "restored" else "the restored data"


def _undo_one(host: Host, path: Path, kept: dict[str, Any], discard: bool, check: bool) -> str:
    source = registry()[kept["kind"]].source
    if discard:
        if not check:
            write_atomic(path, json.dumps({**kept, "discarding": True}).encode())
            host.log.event("phase", phase="discard")
            source.discard(kept["record"])
            path.unlink()
        return f"{kept['component']}: {other_side(kept)} {'would be' if check else 'was'} deleted"
    if kept["live"] != "restored":
        return ""
    if not check:
        debt = host.journal.write(f"undo:{kept['kind']}", "undo", {"record": kept["record"], "kept": path.name})
        host.log.event("phase", phase="undo")
        source.undo(kept["record"])
        write_atomic(path, json.dumps({**kept, "live": "before"}).encode())
        host.journal.settle(debt)
    return f"{kept['component']}: the data from before {'would be' if check else 'is'} live again; both sides are kept"
