# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test run gave: one result per test, read from what the runners wrote."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One test: a pytest test, a Molecule scenario, or a whole stage of linters."""

    stage: str
    name: str
    seconds: float
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether it passed; a skipped or unrunnable test did not."""
        return not self.failure


def read_junit(stage: str, path: Path) -> list[Result]:
    """Return the results in a JUnit file that pytest wrote; none when it wrote none.

    A skipped test counts as failed: what was not run proves nothing.
    """
    if not path.exists():
        return []
    found = []
    for case in ET.parse(path).getroot().iter("testcase"):
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        failure = "" if bad is None else f"{bad.tag}: {bad.get('message', '')}"
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        found.append(Result(stage, name, float(case.get("time", 0)), failure))
    return found


def summary(results: list[Result], seconds: dict[str, float]) -> str:
    """Return the closing table: what failed, each stage's counts and time, the slowest tests, and the count."""
    lines = [f"FAILED {one.stage}: {one.name}: {one.failure.splitlines()[0][:200]}" for one in results if one.failure]
    lines += ["", f"{'stage':<14}{'passed':>8}{'failed':>8}{'seconds':>9}"]
    for stage, took in seconds.items():
        own = [one for one in results if one.stage == stage]
        good = sum(one.passed for one in own)
        lines.append(f"{stage:<14}{good:>8}{len(own) - good:>8}{took:>9.1f}")
    lines += ["", "slowest"]
    lines += [
        f"{one.seconds:>8.1f} s  {one.stage}: {one.name}"
        for one in sorted(results, key=lambda one: -one.seconds)[:10]
        if one.seconds >= 1
    ]
    good = sum(one.passed for one in results)
    return "\n".join([*lines, "", f"{good} passed, {len(results) - good} failed"])
