# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's pause: ingestion is held while components take their instant, or change places, and goes on for certain.

What is to be paused is planned before anything is: each step becomes a row of JSON that says what runs now, and how it
is resumed. The rows are one debt in the journal, so `resume` lets everything go on from any process, as often as it is
called. What did not run before has no part in it, and stays as it is.
"""

import contextlib
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from restaura import locks, process, units
from restaura.config.schema import Config, Pause, PauseStep, Plan
from restaura.errors import ConfigError, RestauraError, SourceError
from restaura.hold import Hold
from restaura.host import Host
from restaura.pause_steps import KINDS, Problem, Row
from restaura.sources import UNLIMITED

OWNER = "pause"
LOCK_SECONDS = 3600  # another plan's pause, or a restore's
RETRY_SECONDS = 10
ASKED_SECONDS = 60


class Paused:
    """Ingestion that is paused, or none.

    `seconds` is how long it is or was, from the begin of the pausing to the end of the resuming. Once it is over,
    `broken` says why it was not paused all the time, and `problems` what a run must not end well with.
    """

    def __init__(self, host: Host | None = None, rows: Sequence[Row] = (), limit: float = UNLIMITED) -> None:
        self.problems: list[str] = []
        self.broken = ""
        self._host, self._rows, self._limit = host, rows, limit
        self._limited = limit < UNLIMITED
        self._begun = self._ended = 0.0
        self._over = False
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds since ingestion was paused, or that it was; 0 when there was nothing to pause."""
        return (self._ended or time.monotonic()) - self._begun if self._begun else 0.0

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self._limit - self.seconds

    def after(self) -> float:
        """Return the seconds since the pause began; SourceError when it is over already."""
        if self._over:
            raise SourceError(
                f"did not hold still before ingestion was resumed, at the pause's limit of {self._limit:.0f} s",
                fix="raise `pause.limit` of the plan, or see what its freeze waits for",
            )
        return self.seconds

    def pause(self, limit: float) -> None:
        """Pause one step after the other within `limit` seconds; SourceError names what cannot be paused."""
        self._begun = time.monotonic()
        for row in self._rows:
            row["begun"] = False
        for row in self._rows:
            row["begun"] = True
            try:
                self._note(KINDS[row["kind"]].pause(row, max(0.0, limit - self.seconds)))
            except RestauraError as error:
                fix = error.fix if self._limited else f"{error.fix or 'mend that'}; where no ingestion runs: --no-pause"
                raise SourceError(error.what, where=f"ingestion was not paused, {error.where}", fix=fix) from error

    def resume(self) -> None:
        """Let everything go on; SourceError names what does not, after all was tried."""
        with self._lock:
            if not self._over:
                # While a component cannot start what it took over: that would be taken for ingestion.
                self.broken = "; ".join(filter(None, map(_come_back, self._rows)))
                self._over = True
        self._note(resume(self._rows))
        self._ended = time.monotonic()

    def units_for(self, names: Sequence[str]) -> list[str]:
        """Return what is stopped by this pause of units that a component stops too."""
        ran = [one for row in self._rows if row["kind"] == "units" for one in row["ran"]]
        return [one for one in units.stopped_with(names) if one in ran] if ran else []

    def containers_for(self, ids: Collection[str]) -> list[Row]:
        """Return what is stopped by this pause of containers that a component stops too, with what depends on them."""
        stopped = [one for row in self._rows if row["kind"] == "containers" for one in row["held"]["stop"]]
        wanted = [one for one in stopped if one["id"] in ids]
        below = {one["project"]: one["rank"] for one in sorted(wanted, key=lambda one: -one["rank"]) if one["project"]}
        return [one for one in stopped if one in wanted or one["rank"] > below.get(one["project"], one["rank"])]

    def hand_over(self, taken: Collection[str]) -> None:
        """Leave the units and containers (ids) that were `taken` to a component, which owes their start by now."""
        with self._lock:
            for row in self._rows:
                stopped = _stopped_of(row)
                row["handed"] = [*row.get("handed", ()), *(one for one in stopped if _name_of(one) in taken)]
                stopped[:] = [one for one in stopped if _name_of(one) not in taken]

    def hand_back(self, taken: Collection[str]) -> bool:
        """Take them back: nothing goes on before this pause ends. False when it has: the component is to start them."""
        with self._lock:
            if self._over:
                return False
            for row in self._rows:
                handed = row.get("handed", ())
                _stopped_of(row).extend(one for one in handed if _name_of(one) in taken)
                row["handed"] = [one for one in handed if _name_of(one) not in taken]
            return True

    def insist(self, debt: str) -> None:
        """Try again, until ingestion goes on or this process ends: then `recover` does."""
        while not self._ended:
            time.sleep(RETRY_SECONDS)
            with contextlib.suppress(RestauraError):
                self.resume()
        if self._host:
            self._host.journal.settle(debt)
            self._host.log.event("resumed", seconds=round(self.seconds, 3))

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            if self._host:
                self._host.log.event("warning", "warning", text=note)


@contextlib.contextmanager
def paused(host: Host, plans: Sequence[Plan], *, limited: bool) -> Iterator[Paused]:
    """Pause the ingestion of plans around the body; it is resumed also when this process dies (journal).

    `limited` is for captures: at the plan's limit it is resumed, whatever the body waits for. A swap must not be
    written into half-way, so there it is not. Raises SourceError when something cannot be paused, once everything was
    resumed; what goes wrong later stands in `problems` of what is yielded. One pause at a time: who finds a unit
    stopped by another's pause would take it for one that does not run.
    """
    pauses = {plan.pause: plan for plan in reversed(plans) if plan.pause}
    if not pauses:
        yield Paused()
        return
    limit = min(one.limit for one in pauses) if limited else UNLIMITED
    with locks.holding(host.paths.locks, [OWNER], LOCK_SECONDS):
        rows = [row for one in reversed(pauses) for row in _rows(host, pauses[one], one)]
        host.log.event("phase", phase="pause")
        one = Paused(host, rows, limit)
        with Hold(host.journal, (OWNER, "resume", {"rows": rows}), limit, one.pause, one.resume) as hold:
            if hold.released:
                raise SourceError(f"could not be paused within the pause's limit of {limit:.0f} s", where="ingestion")
            host.log.event("paused", seconds=round(one.seconds, 3))
            host.paused = one
            try:
                yield one
            finally:
                host.paused = None
            _end(host, one, hold, limit)


def _end(host: Host, one: Paused, hold: Hold, limit: float) -> None:
    try:
        hold.release()
        host.log.event("resumed", seconds=round(one.seconds, 3))
    except RestauraError as error:
        host.log.event("not resumed", "error", error=str(error))
        one.problems.append(str(error))
        threading.Thread(target=one.insist, args=(hold.debt,), daemon=True).start()
    if hold.expired or one.seconds > limit:
        one.problems.append(f"ingestion was paused for {one.seconds:.1f} s; the pause's limit is {limit:.0f} s")
    if one.broken:
        one.problems.append(f"ingestion was not paused all the time: {one.broken}")


def _stopped_of(row: Row) -> list[Any]:
    """Return what a step has stopped, the list itself: names of units, or rows of containers; empty for other kinds."""
    found: list[Any] = row["ran"] if row["kind"] == "units" else row["held"]["stop"] if "held" in row else []
    return found


def _name_of(one: Any) -> str:
    """Return by what a component calls what it takes over: a unit's name, a container's id."""
    return one if isinstance(one, str) else str(one["id"])


def _come_back(row: Row) -> str:
    """Say what of a step went on by itself, or that nobody knows."""
    try:
        return KINDS[row["kind"]].come_back(row)
    except Exception as error:  # noqa: BLE001 - nothing there may keep it from going on
        return str(error)


def resume(rows: Sequence[Row]) -> list[str]:
    """Let everything go on, the last that was paused first; return notes.

    Raises SourceError, which names all that does not go on, after everything was tried.
    """
    notes: list[str] = []
    problems: list[str] = []
    for row in reversed(rows):
        # A record of the journal was written before anything was begun.
        if row.get("begun", True):
            try:
                notes += KINDS[row["kind"]].resume(row)
            except RestauraError as error:
                problems.append(str(error))
            except Exception as error:  # noqa: BLE001 - a defect there must not leave the others paused
                problems.append(f"defect of the program: {error!r}")
    if problems:
        raise SourceError("; ".join(problems), where="ingestion was not resumed", fix="mend that: restaura recover")
    return notes


def preflight(plan: Plan) -> tuple[list[Problem], list[str]]:
    """Return what keeps the plan's pause from being sure, with the fix, and warnings. Nothing is changed."""
    problems: list[Problem] = []
    warnings: list[str] = []
    for place, step in plan.pause.all_steps.items() if plan.pause else ():
        try:
            found, said = KINDS[step.kind].preflight(step)
        except RestauraError as error:
            found, said = [(str(error), "")], []
        problems += [(f"plan {plan.name}, {place}.{step.kind}: {what}", fix) for what, fix in found]
        warnings += [f"plan {plan.name}, {place}.{step.kind}: {what}" for what in said]
    return problems, warnings


def check(host: Host, plan: Plan) -> None:
    """Raise ConfigError for what `preflight` finds, and log its warnings."""
    problems, warnings = preflight(plan)
    for one in warnings:
        host.log.event("warning", "warning", text=one)
    if problems:
        what = "; ".join(f"{what} (fix: {fix})" if fix else what for what, fix in problems)
        raise ConfigError(what, where="the pause; nothing was paused")


def concerned(config: Config, components: Sequence[str]) -> list[Plan]:
    """Return the plans with a pause that hold one of `components`."""
    return [
        plan
        for plan in config.plans
        if plan.pause and any(one.name in components for one in config.plan_components(plan))
    ]


def told(pause: Pause) -> list[tuple[str, str]]:
    """Return what pauses each step and what resumes it, as a person types it or reads it."""
    return [KINDS[one.kind].told(one) for one in pause.all_steps.values()]


def _rows(host: Host, plan: Plan, pause: Pause) -> list[Row]:
    rows = []
    for place, step in pause.all_steps.items():
        if _runs(step):
            rows.append({"kind": step.kind, **KINDS[step.kind].plan(host, plan, place, step)})
        else:
            host.log.event("not paused", place=place, why="only_if says that it does not run")
    return rows


def _runs(step: PauseStep) -> bool:
    """Whether ingestion runs, as `only_if` says; SourceError when it can say nothing."""
    if not step.only_if:
        return True
    argv = ["/bin/sh", "-c", step.only_if]
    code, _, said = process.run(argv, timeout=ASKED_SECONDS, accept=range(-64, 256))
    # 126 and 127 are the shell's own: the command is not there, or cannot be run.
    if code < 0 or code > 125:
        raise SourceError(process.failure(["only_if"], code, said), where=f"pause: {step.only_if}")
    return code == 0
