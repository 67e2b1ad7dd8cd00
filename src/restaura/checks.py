# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's checks of a component: of staged data, in drills and after restores, or of live data.

Commands run as they are. Everything else runs in a child of ours (`restaura.checks_child`), so that neither hostile
data nor a slow service can hold a drill longer than the check's timeout.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from restaura import process
from restaura.config import load
from restaura.config.schema import Check, Component
from restaura.errors import RestauraError
from restaura.sources import Source, Staged

# In the environment of commands: the account that they run as, where root is not it (peer authentication).
RUN_AS = "RESTAURA_RUN_AS"
TARGET = "RESTAURA_TARGET"
# What a child that asks a service gets beyond the timeout, to say what it was answered last.
GRACE = 5


@dataclass(frozen=True)
class Result:
    """What one check found. `why` says what is wrong, or why it was not run."""

    check: str
    result: Literal["passed", "failed", "not run"]
    why: str = ""

    def __str__(self) -> str:
        return f"check {self.check} {self.result}" + (f": {self.why}" if self.why else "")


def judge(source: Source, options: Component, staged: Staged | None = None) -> list[Result]:
    """Run a component's checks against staged data or, without any, against live data.

    Where the data was restored to `live`, it is the live data. A part of a component that was restored elsewhere is not
    judged. Drills have no network, where the kernel can shut it off.
    """
    if not options.checks:
        return []
    apart = staged if staged and staged.target.kind != "live" else None
    if apart and apart.target.paths:
        return [Result(one.name, "not run", "only a part was restored") for one in options.checks]
    try:
        env = source.checks(apart)
    except RestauraError as error:
        return [Result(one.name, "failed", error.what) for one in options.checks]
    return [_judge(one, env, apart) for one in options.checks]


def summary(results: Sequence[Result]) -> str:
    """Return how many checks passed, failed and were not run; `-` where there are none."""
    counts = [(sum(one.result == kind for one in results), kind) for kind in ("passed", "failed", "not run")]
    return ", ".join(f"{count} {kind}" for count, kind in counts if count) or "-"


def failures(results: Sequence[Result]) -> list[str]:
    """Return what failed, a sentence each."""
    return [str(one) for one in results if one.result == "failed"]


def _judge(check: Check, env: dict[str, str], apart: Staged | None) -> Result:
    if apart and check.needs_live:
        return Result(check.name, "not run", "it needs the live system")
    try:
        wrong = _command(check, env, apart) if check.command else _look(check, env)
    except RestauraError as error:
        wrong = error.what
    return Result(check.name, "failed" if wrong else "passed", wrong)


def _command(check: Check, env: dict[str, str], apart: Staged | None) -> str:
    argv = ["/bin/sh", "-c", check.command]
    if account := env.get(RUN_AS):
        argv = ["runuser", "--user", account, "--", *argv]
    if apart and apart.target.kind == "scratch":
        argv = [*process.without_network(), *argv]
    known = {name: value for name, value in env.items() if name != RUN_AS}
    code, out, errors = process.run(argv, env=known, timeout=check.timeout, accept=range(-64, 256))
    said = errors or out.decode(errors="replace").strip()[-process.ERROR_CHARACTERS :]
    return process.failure(["the command"], code, said) if code else ""


def _look(check: Check, env: dict[str, str]) -> str:
    asked = {
        "kind": check.kind,
        "options": load.plain(getattr(check, check.kind)),
        "root": env[TARGET] if check.kind != "http" else "/",
        "timeout": check.timeout,
    }
    argv = process.python_argv("from restaura import checks_child; checks_child.main()")
    try:
        _, out, _ = process.run(
            argv, stdin=json.dumps(asked).encode(), timeout=check.timeout + GRACE * bool(check.http)
        )
        found: list[str] = json.loads(out)
    except ValueError as error:
        raise RestauraError(f"was not judged: {error}") from error
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
