# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units that are stopped for a while, with what depends on them, and started again."""

import shutil
from collections.abc import Iterable, Sequence

from restaura.errors import RestauraError, SourceError
from restaura.process import run

START_SECONDS = 120
STOP_SECONDS = 120
# What systemd stops together with a unit (systemd.unit(5), "Mapping of unit properties to their inverses").
_STOPPED_TOO = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
_SHOWN = ("Id", "LoadState", "ActiveState", "Type", "RemainAfterExit", "InvocationID", "Triggers", "TriggeredBy")
_RUNS = ("active", "reloading", "refreshing", "activating")


def missing(units: Iterable[str]) -> list[str]:
    """Return those of `units` that systemd does not know; all of them where there is no systemd."""
    return [one for one in units if _show(one).get("LoadState") in (None, "not-found")]


def running(units: Iterable[str]) -> list[str]:
    """Return those of `units` that run, and what runs and would be stopped with them."""
    found: list[str] = []
    left = list(units)
    while left:
        shown = _show(left.pop(0))
        name = shown.get("Id", "")
        if shown.get("ActiveState") in _RUNS and name not in found:
            found.append(name)
            left += [one for key in _STOPPED_TOO for one in shown.get(key, "").split()]
    return found


def stopped_with(units: Iterable[str]) -> list[str]:
    """Return `units`, and what systemd stops with them, by their own names."""
    found: list[str] = []
    left = list(units)
    while left:
        shown = _show(left.pop(0))
        if (name := shown.get("Id", "")) and name not in found:
            found.append(name)
            left += [one for key in _STOPPED_TOO for one in shown.get(key, "").split()]
    return found


def triggered(units: Iterable[str]) -> list[str]:
    """Return what `units` start: the services of timers, paths and sockets."""
    return _all("Triggers", units)


def triggers(units: Iterable[str]) -> list[str]:
    """Return the timers, paths and sockets that run, and start one of `units`."""
    return [one for one in _all("TriggeredBy", units) if _show(one).get("ActiveState") in _RUNS]


def invocations(units: Iterable[str]) -> dict[str, str]:
    """Return the id of the latest start of each of `units`; empty for one that was not started since it was loaded."""
    return {shown["Id"]: shown.get("InvocationID", "") for one in units if "Id" in (shown := _show(one))}


def stop(units: Sequence[str], seconds: float = STOP_SECONDS) -> None:
    """Stop `units`; SourceError when one still runs after `seconds`."""
    if not units:
        return
    try:
        run(["systemctl", "stop", *units], timeout=seconds)
    except RestauraError as error:
        raise SourceError(f"cannot be stopped: {error.what}", where=", ".join(units), fix=_look(units)) from error
    if left := [one for one in units if _show(one).get("ActiveState") in _RUNS]:
        raise SourceError("still runs after it was stopped", where=", ".join(left), fix=_look(left))


def start(units: Sequence[str]) -> None:
    """Start `units`, which may run already; SourceError when one does not start.

    What is a job (`Type=oneshot`, as a timer starts it) was in the midst of it: its end is not waited for.
    """
    if not units:
        return
    # Components of one unit are swapped one after the other: systemd would refuse the sixth start within 10 seconds.
    run(["systemctl", "reset-failed", *units], accept=range(256))
    try:
        jobs = [one for one in units if _is_job(one)]
        for words, names in (((), [one for one in units if one not in jobs]), (("--no-block",), jobs)):
            if names:
                run(["systemctl", "start", *words, *names], timeout=START_SECONDS)
    except RestauraError as error:
        what = f"was stopped for a copy or a swap and does not start again: {error.what}"
        raise SourceError(what, where=", ".join(units), fix=_look(units)) from error
    confirm(units)


def confirm(units: Sequence[str]) -> None:
    """Raise SourceError when one of `units` failed after it was started again."""
    if failed := [one for one in units if _show(one).get("ActiveState") == "failed"]:
        what = "was stopped for a copy or a swap, was started again, and failed"
        raise SourceError(what, where=", ".join(failed), fix=_look(failed))


def _all(key: str, units: Iterable[str]) -> list[str]:
    return sorted({other for one in units for other in _show(one).get(key, "").split()})


def _is_job(unit: str) -> bool:
    shown = _show(unit)
    return (shown.get("Type"), shown.get("RemainAfterExit")) == ("oneshot", "no")


def _show(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit; nothing where there is no systemd."""
    if not shutil.which("systemctl"):
        return {}
    names = ",".join((*_SHOWN, *_STOPPED_TOO))
    code, out, _ = run(["systemctl", "show", f"--property={names}", "--", unit], accept=range(256))
    return dict(line.split("=", 1) for line in out.decode().splitlines() if "=" in line) if code == 0 else {}


def _look(units: Sequence[str]) -> str:
    return f"systemctl status {' '.join(units)}"
