# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of steps that a pause has: commands, systemd units, containers, HTTP services.

A row is JSON: what `plan` found out before anything was paused, and all that `resume` needs, in any process.
"""

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from restaura import process, units
from restaura.config import load
from restaura.config.schema import ContainersPause, HttpPause, PauseStep, Plan
from restaura.errors import ConfigError, SourceError
from restaura.host import Host
from restaura.volumes import stopping
from restaura.volumes.daemon import Container, Daemon
from restaura.web import AnswerError, Service, UnreachedError

RESUME_SECONDS = 600
ANSWER_SECONDS = 60.0
LOOK_SECONDS = 5  # at what stands still, before it goes on
PATIENCE_SECONDS = 30.0
# What a command that pauses may still do when its run was killed, or its time was over: half of it is worse.
GRACE_SECONDS = 10
MARK = "RESTAURA_PAUSE"

Row = dict[str, Any]
Problem = tuple[str, str]


class Kind(Protocol):
    """What is known of one kind of step."""

    def preflight(self, step: PauseStep) -> tuple[list[Problem], list[str]]:
        """Return problems with their fixes, and warnings; change nothing."""

    def plan(self, host: Host, plan: Plan, place: str, step: PauseStep) -> Row:
        """Say what runs now. `place` is where below the plan the step was declared."""

    def pause(self, row: Row, seconds: float) -> list[str]:
        """Pause what ran, within `seconds`; return notes. SourceError when something goes on."""

    def resume(self, row: Row) -> list[str]:
        """Let what ran go on, and return notes; SourceError when it does not. May be called again."""

    def come_back(self, row: Row) -> str:
        """Say what went on by itself; nothing when all was paused all the time, or that cannot be known."""

    def told(self, step: PauseStep) -> tuple[str, str]:
        """Return what pauses it and what resumes it, as a person types or reads it."""


class _Command:
    """Two shell commands. All that the first starts is marked, so that it is known when its run was killed."""

    def preflight(self, _: PauseStep) -> tuple[list[Problem], list[str]]:
        return [], []

    def plan(self, _: Host, __: Plan, ___: str, step: PauseStep) -> Row:
        return {"command": step.command, "resume": step.resume, "mark": secrets.token_hex(8)}

    def pause(self, row: Row, seconds: float) -> list[str]:
        process.shell(row["command"], seconds, "pause", **{MARK: row["mark"]})
        row["ended"] = True
        return []

    def resume(self, row: Row) -> list[str]:
        if not row.get("ended"):
            process.end_marked(f"{MARK}={row['mark']}", GRACE_SECONDS)
        process.shell(row["resume"], RESUME_SECONDS, "resume")
        return []

    def come_back(self, _: Row) -> str:
        return ""

    def told(self, step: PauseStep) -> tuple[str, str]:
        return step.command, step.resume


class _Units:
    """systemd units, and what is stopped with them."""

    def preflight(self, step: PauseStep) -> tuple[list[Problem], list[str]]:
        fix = "correct `units` of the pause: systemctl list-unit-files"
        named = units.stopped_with(step.units)
        started = [one for one in units.triggered(step.units) if one not in named]
        starting = [one for one in units.triggers(step.units) if one not in named]
        warnings = [f"what {one} may be at when the pause begins is not stopped: name it too" for one in started]
        warnings += [f"{one} may start what is paused: name it too" for one in starting]
        return [(f"systemd does not know {one}", fix) for one in units.missing(step.units)], warnings

    def plan(self, _: Host, __: Plan, ___: str, step: PauseStep) -> Row:
        watched = [*units.stopped_with(step.units), *units.triggered(step.units)]
        return {"ran": units.running(step.units), "watched": watched}

    def pause(self, row: Row, seconds: float) -> list[str]:
        units.stop(row["ran"], seconds)
        # A job that a timer starts may have ended again when the pause does.
        row["started"] = units.invocations(row["watched"])
        return []

    def resume(self, row: Row) -> list[str]:
        units.start(row["ran"])
        return []

    def come_back(self, row: Row) -> str:
        back = set(units.running(row["watched"]))
        now, before = units.invocations(row["watched"]), row.get("started", {})
        back |= {one for one, start in now.items() if start and start != before.get(one, start)}
        names = ", ".join(sorted(back))
        fix = "name it, and what starts it, as its timer, in `units` too"
        return f"{names} started by itself, or was never stopped: {fix}" if back else ""

    def told(self, step: PauseStep) -> tuple[str, str]:
        names = " ".join(step.units)
        return f"systemctl stop {names}", f"systemctl start {names}"


class _Containers:
    """Containers, by name and by label."""

    def preflight(self, step: PauseStep) -> tuple[list[Problem], list[str]]:
        chosen = _chosen(step)
        with Daemon() as daemon:
            known = daemon.containers()
        there = {one.name for one in known}
        problems = [
            (f"there is no container {name}", "correct `names` of the pause, or choose it by `labels`: docker ps --all")
            for name in chosen.names
            if name not in there
        ]
        fix = "set `hold` to `pause`"
        for one in known:
            if one.runs and chosen.hold == "stop" and _takes(one, chosen.names, chosen.labels):
                if one.removes_itself:
                    problems.append((f"container {one.name} was started with --rm: stopped, it would be gone", fix))
                elif one.of_swarm:
                    problems.append((f"container {one.name} is Swarm's: stopped, it would be replaced", fix))
        labelled = any(_takes(one, (), chosen.labels) for one in known)
        shown = ", ".join(chosen.labels)
        return problems, [f"no container has {shown}: none is paused"] if shown and not labelled else []

    def plan(self, _: Host, __: Plan, ___: str, step: PauseStep) -> Row:
        chosen, since = _chosen(step), datetime.now(UTC)
        with Daemon() as daemon:
            known = daemon.containers()
        found = [one for one in known if _takes(one, chosen.names, chosen.labels)]
        stops = chosen.hold == "stop"
        held = stopping.plan(found if stops else (), () if stops else found, (), known)
        choice = {"names": chosen.names, "labels": chosen.labels}
        return {"held": held, "since": since.isoformat(), **choice}

    def pause(self, row: Row, seconds: float) -> list[str]:
        return stopping.hold_still(row["held"], seconds)

    def resume(self, row: Row) -> list[str]:
        return stopping.go_on(row["held"])

    def come_back(self, row: Row) -> str:
        since = datetime.fromisoformat(row["since"])
        chosen = partial(_takes, names=row["names"], labels=row["labels"])
        return stopping.intruders(row["held"], since, (), chosen, LOOK_SECONDS)

    def told(self, step: PauseStep) -> tuple[str, str]:
        chosen = _chosen(step)
        filters = " ".join(f"--filter label={one}" for one in chosen.labels)
        names = " ".join([*chosen.names, *([f"$(docker ps --all --quiet {filters})"] if filters else [])])
        verbs = ("stop", "start") if chosen.hold == "stop" else ("pause", "unpause")
        return f"docker {verbs[0]} {names}", f"docker {verbs[1]} {names}"


class _Http:
    """A service that is asked. Its headers are read from their file each time: the journal keeps no secret."""

    def preflight(self, _: PauseStep) -> tuple[list[Problem], list[str]]:
        return [], []

    def plan(self, host: Host, plan: Plan, place: str, step: PauseStep) -> Row:
        http = _http(step)
        headers = host.secret("plans", plan.name, f"{place}.http.headers")
        return {**load.plain(http), "headers": str(headers or "")}

    def pause(self, row: Row, seconds: float) -> list[str]:
        try:
            _ask(row, "pause", seconds, 0.0)
        except UnreachedError:
            # It cannot have been paused, so it need not be resumed.
            row["begun"] = False
            raise
        except AnswerError as error:
            row["begun"] = not 400 <= error.status < 500
            raise
        return []

    def resume(self, row: Row) -> list[str]:
        _ask(row, "resume", ANSWER_SECONDS, PATIENCE_SECONDS)
        return []

    def come_back(self, _: Row) -> str:
        return ""

    def told(self, step: PauseStep) -> tuple[str, str]:
        http = _http(step)
        return f"{http.pause.method} {http.pause.url}", f"{http.resume.method} {http.resume.url}"


def _chosen(step: PauseStep) -> ContainersPause:
    return step.containers or ContainersPause()


def _http(step: PauseStep) -> HttpPause:
    if step.http is None:
        raise ConfigError("has no http", where="pause")
    return step.http


def _takes(one: Container, names: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether a container is one of `names`, or has all of `labels`."""

    def has(label: str) -> bool:
        key, given, value = label.partition("=")
        return key in one.labels and (not given or one.labels[key] == value)

    return one.name in names or (bool(labels) and all(map(has, labels)))


def _ask(row: Row, which: str, seconds: float, patience: float) -> None:
    """Send one of a service's two requests; SourceError when the answer is not what it must be."""
    call = row[which]
    split = urlsplit(call["url"])
    path = call["url"].removeprefix(f"{split.scheme}://{split.netloc}")
    headers = _headers(Path(row["headers"])) if row["headers"] else {}
    fix = f"see why, and correct `http.{which}` of the pause"
    origin = f"{split.scheme}://{split.netloc}"
    service = Service(origin, headers, row["ca_file"], read_seconds=max(seconds, 0.1), patience=patience, fix=fix)
    body = json.loads(call["body"]) if call["body"] else None
    try:
        with service.answer(call["method"], path, body=body, repeatable=patience > 0) as answer:
            status = answer.status_code
    except AnswerError as error:
        if error.status != call["status"]:
            raise
        return
    if call["status"] not in (0, status):
        raise SourceError(f"answered {status}, not {call['status']}", where=f"{call['method']} {call['url']}", fix=fix)


def _headers(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        fix = "give `http.headers` of the pause again: run setup_backup.yml"
        raise SourceError(f"cannot be read: {error.strerror}", where=str(file), fix=fix) from error
    return {name.strip(): value.strip() for name, _, value in (one.partition(":") for one in lines if one.strip())}


KINDS: dict[str, Kind] = {"command": _Command(), "units": _Units(), "containers": _Containers(), "http": _Http()}
