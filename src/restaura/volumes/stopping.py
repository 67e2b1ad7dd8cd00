# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers hold still, and go on: only those that ran, in the order of their Compose projects, whatever happens.

What is held is JSON, so that the journal can keep it from before the first act: then `go_on` lets everything go on
again, from any process, and as often as it is called.
"""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import groupby
from typing import Any

from restaura.errors import RestauraError, SourceError
from restaura.runners.container import ContainerRunner
from restaura.volumes.daemon import SECONDS, Container, Daemon, GoneError, UnreachableError

# How long the daemon may take to come back, and a container to say that it is healthy before what needs it is started.
DAEMON_SECONDS = 90
HEALTHY_SECONDS = 120
COMMAND_SECONDS = 300
# Beyond its own grace period, how long a container may take to show what it was asked for.
ANSWER_SECONDS = 3
_POLL = 0.2
_THREADS = 8
_KILLED = 137  # 128 + SIGKILL

Row = dict[str, Any]
Held = dict[str, list[Row]]


def plan(
    stop: Iterable[Container],
    pause: Iterable[Container],
    commands: Iterable[Mapping[str, str]],
    known: Sequence[Container],
    stop_seconds: int = 0,
) -> Held:
    """Return what is to be held: containers that run now, in the order in which they are started again.

    `known` are all containers: they say who depends on whom. `stop_seconds` 0 is each container's own.
    """
    ranks = _ranks(known)
    stopped = {one.id: one for one in stop if one.runs}
    paused = {one.id: one for one in pause if one.runs and one.id not in stopped}
    return {
        "stop": _rows(stopped.values(), ranks, stop_seconds),
        "pause": _rows(paused.values(), ranks, stop_seconds),
        "commands": [dict(one) for one in commands],
    }


def hold_still(held: Held, limit: float) -> list[str]:
    """Run the commands, pause and stop, dependents first, within `limit` seconds; return notes.

    Raises SourceError when something does not hold still; `go_on` takes back what was done.
    """
    deadline = time.monotonic() + limit
    for row in (*held["stop"], *held["pause"]):
        row["asked"] = False
    for one in held["commands"]:
        left = max(0.0, deadline - time.monotonic())
        _in_container(one["container"], one["user"], one["command"], min(left, COMMAND_SECONDS))
    notes: list[str] = []

    def stop(daemon: Daemon, row: Row) -> None:
        seconds, begun = row["stop_seconds"], time.monotonic()
        if seconds < 0 or begun + seconds > deadline:
            takes = f"{seconds} s" if seconds >= 0 else "any time"
            what = f"may take {takes} to stop, and only {max(0.0, deadline - begun):.0f} s are left"
            raise SourceError(what, where=f"container {row['name']}", fix="raise stop_limit of the plan")
        row["asked"] = True
        daemon.stop(row["id"], seconds)
        row["asked"] = False
        if daemon.container(row["id"]).exit_code == _KILLED and time.monotonic() - begun >= seconds:
            notes.append(f"container {row['name']} did not end within {seconds} s: Docker killed it")

    def pause(daemon: Daemon, row: Row) -> None:
        row["asked"] = True
        daemon.pause(row["id"])
        row["asked"] = False

    _by_rank(held["stop"], stop, reverse=True)
    _by_rank(held["pause"], pause, reverse=True)
    return notes


def intruders(
    held: Held, since: datetime, volumes: Collection[str], uses: Callable[[Container], bool], seconds: int = SECONDS
) -> str:
    """Say which containers did not hold still, or use the data and were started; nothing when all is well.

    `since` is when it was planned, in UTC. Containers that are gone again are known by the `volumes` they wrote to.
    A daemon that does not answer within `seconds` is an error.
    """
    stopped = {row["id"]: row for row in held["stop"]}
    paused = {row["id"]: row for row in held["pause"]}
    found = []
    with Daemon(seconds) as daemon:
        passing = daemon.writers_since(since, volumes)
        for one in daemon.containers():
            passing.discard(one.id)
            if one.id in stopped:
                moved = one.runs or one.started != stopped[one.id]["started"]
            elif one.id in paused:
                moved = not one.paused or one.started != paused[one.id]["started"]
            else:
                moved = one.started > since.isoformat() and uses(one)
            if moved:
                found.append(one.name)
    found += [f"{one[:12]} (gone by now)" for one in sorted(passing)]
    return f"started by somebody while the data was read: container {', '.join(found)}" if found else ""


def go_on(held: Held) -> list[str]:
    """Let everything go on, dependencies first; return notes. What runs already stays as it is.

    A container that was made anew meanwhile is left alone, whether it runs or not: there are never two of them. Raises
    SourceError when one cannot be started, after all the others were.
    """
    notes: list[str] = []
    problems: list[str] = []

    def tried(act: Callable[[Daemon, Row, list[str]], None]) -> Callable[[Daemon, Row], None]:
        def acted(daemon: Daemon, row: Row) -> None:
            try:
                act(daemon, row, notes)
            except GoneError:
                notes.append(_replaced(daemon, row))
            except SourceError as error:
                problems.append(str(error))

        return acted

    try:
        if held["pause"] or held["stop"]:
            _wait_for_daemon()
        _by_rank(held["pause"], tried(_unpause))
        _by_rank(held["stop"], tried(_start))
    except SourceError as error:
        problems.append(str(error))
    for one in reversed([one for one in held["commands"] if one["resume"]]):
        try:
            with Daemon() as daemon:
                daemon.container(one["container"])
            _in_container(one["container"], one["user"], one["resume"], COMMAND_SECONDS)
        except GoneError:
            notes.append(f"container {one['container']} was removed meanwhile: there is nothing to take back in it")
        except SourceError as error:
            problems.append(str(error))
    if problems:
        raise SourceError("; ".join(problems), where="containers were not started again", fix="restaura recover")
    return notes


def _unpause(daemon: Daemon, row: Row, _: list[str]) -> None:
    _wait_answered(daemon, row, ANSWER_SECONDS)
    if daemon.container(row["id"]).paused:
        daemon.unpause(row["id"])


def _start(daemon: Daemon, row: Row, notes: list[str]) -> None:
    _wait_answered(daemon, row, row["stop_seconds"] + ANSWER_SECONDS)
    if daemon.container(row["id"]).status in ("created", "exited"):
        _wait_healthy(daemon, row, notes)
        daemon.start(row["id"])


def _wait_answered(daemon: Daemon, row: Row, seconds: float) -> None:
    """Wait for a stop or pause that may be under way: Docker goes on with one whose client died or gave up.

    `asked` says whether there may be one; what a dead process left does not say so.
    """
    deadline = time.monotonic() + seconds
    while row.get("asked", True) and time.monotonic() < deadline:
        one = daemon.container(row["id"])
        if not one.runs or one.started != row["started"]:
            return
        time.sleep(_POLL)


def _rows(containers: Iterable[Container], ranks: Mapping[str, int], stop_seconds: int) -> list[Row]:
    return [
        {
            "id": one.id,
            "name": one.name,
            "project": one.project,
            "place": list(one.place),
            "started": one.started,
            "rank": ranks[one.id],
            "stop_seconds": stop_seconds or one.stop_seconds,
            "healthy": [name for name, condition in one.needs.items() if condition == "service_healthy"],
        }
        for one in sorted(containers, key=lambda one: (ranks[one.id], one.name))
    ]


def _ranks(known: Sequence[Container]) -> dict[str, int]:
    """Return how many containers must be started before each, one after the other; those of a circle count once."""
    services: dict[tuple[str, str], list[Container]] = {}
    for one in known:
        services.setdefault((one.project, one.service), []).append(one)
    names = {name: one for one in known for name in (one.id, one.name)}
    ranks: dict[str, int] = {}

    def rank(one: Container, above: tuple[str, ...]) -> int:
        if one.id in above:
            return 0
        if one.id not in ranks:
            needed = [other for name in one.needs if one.project for other in services.get((one.project, name), [])]
            needed += [names[one.network_of]] if one.network_of in names else []
            ranks[one.id] = 1 + max((rank(other, (*above, one.id)) for other in needed), default=-1)
        return ranks[one.id]

    for one in known:
        rank(one, ())
    return ranks


def _by_rank(rows: Sequence[Row], act: Callable[[Daemon, Row], None], *, reverse: bool = False) -> None:
    """Act on all containers of a rank at once, and on the ranks one after the other; raises the first error."""

    def connected(row: Row) -> RestauraError | None:
        try:
            with Daemon() as daemon:
                act(daemon, row)
        except RestauraError as error:
            return error
        return None

    ordered = sorted(rows, key=lambda row: row["rank"], reverse=reverse)
    with ThreadPoolExecutor(_THREADS) as pool:
        for _, group in groupby(ordered, key=lambda row: row["rank"]):
            for error in filter(None, list(pool.map(connected, group))):
                raise error


def _wait_for_daemon() -> None:
    """Wait until the daemon answers: it may be on its way up again."""
    deadline = time.monotonic() + DAEMON_SECONDS
    while True:
        try:
            with Daemon() as daemon:
                daemon.about()
            return
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _wait_healthy(daemon: Daemon, row: Row, notes: list[str]) -> None:
    """Wait for the services that must be healthy before this container is started, as its Compose project has it."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while row["healthy"]:
        needed = [one for one in daemon.containers() if one.project == row["project"] and one.service in row["healthy"]]
        if all(one.health in ("", "healthy") for one in needed if one.runs):
            return
        if time.monotonic() > deadline:
            notes.append(f"container {row['name']} was started though {', '.join(row['healthy'])} is not healthy")
            return
        time.sleep(_POLL)


def _replaced(daemon: Daemon, row: Row) -> str:
    other = next((one for one in daemon.containers() if list(one.place) == row["place"]), None)
    if other is None:
        return f"container {row['name']} was removed meanwhile: there is nothing to start"
    return f"container {row['name']} was made anew meanwhile: it is left as it is ({other.status})"


def _in_container(container: str, user: str, command: str, seconds: float) -> None:
    """Run a shell command in a container; SourceError when it fails or takes longer than `seconds`."""
    where = f"container {container}"
    fix = f"docker exec {container} sh -c '…', and correct `holds` of the component"
    try:
        running = ContainerRunner(container, user).start(["sh", "-c", command])
        limit = threading.Timer(seconds, running.kill)
        try:
            limit.start()
            running.stdout.read()
            code, said = running.wait(seconds), running.errors()
        finally:
            limit.cancel()
            running.close()
    except RestauraError as error:
        raise SourceError(f"{command}: {error.what}", where=where, fix=fix) from error
    if code:
        late = f"did not end within {seconds:.0f} s" if code == -signal.SIGKILL else f"exit code {code}"
        raise SourceError(f"{late}: {command}" + (f": {said}" if said else ""), where=where, fix=fix)
