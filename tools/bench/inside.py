# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the bench that runs inside its host, as root: one line of JSON on standard output for each measurement.

`python3 -m tools.bench.inside SCALE ROW[/CONTESTANT] …` measures what is named, in the order of the bench; a row
without a contestant stands for all. What a row stands on (the data, its change) is made where it is not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tools.bench.data import PLACE, drop_pages
from tools.bench.running import Measured, start_cluster, timed
from tools.bench.subjects import ACTS, CONTESTANTS, DEPTHS, OUT, SUBJECTS, Contestant, Subject


def main(arguments: list[str]) -> int:
    """Measure what is asked for; return the exit code. BenchError when a script fails."""
    scale, wanted = float(arguments[0]), set(arguments[1:])
    OUT.mkdir(parents=True, exist_ok=True)
    start_cluster()
    for subject in SUBJECTS.values():
        for act in ACTS:
            row = f"{subject.name}-{act}"
            chosen = [one for one in CONTESTANTS if row in wanted or f"{row}/{one.name}" in wanted]
            if chosen:
                _prepare(subject, act, scale)
            for one in chosen:
                _tell(f"{row}/{one.name}", _measure(subject, act, one), one.place(subject))
    return 0


def _prepare(subject: Subject, act: str, scale: float) -> None:
    _once(f"{subject.name}-made", subject.make, scale)
    if act != "first":
        _once(f"{subject.name}-changed", subject.change, scale)


def _once(mark: str, make: Callable[[float], None], scale: float) -> None:
    """Do what is done once in the life of the host."""
    if not (PLACE / mark).exists():
        make(scale)
        (PLACE / mark).touch()


def _measure(subject: Subject, act: str, one: Contestant) -> Measured:
    if act == "first":
        one.begin(subject)
    elif act == "restore":
        subject.clear()
    drop_pages()
    measured = timed(one.script(subject, act), memory=one.who in DEPTHS)
    if act == "restore":
        one.end(subject)
    return measured


def _tell(name: str, measured: Measured, place: Path) -> None:
    stored = sum(one.lstat().st_size for one in place.rglob("*") if one.is_file())
    told = {"name": name, "seconds": round(measured.seconds, 2), "stored": stored}
    if measured.peak_mib is not None:
        told["peak_mib"] = round(measured.peak_mib, 1)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
