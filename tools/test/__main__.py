# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test`: every stage, whatever fails before it, and a last line that counts."""

from __future__ import annotations

import argparse
import sys
import time

from tools.test.results import Result, summary
from tools.test.stages import STAGES, Choice, run


def main() -> int:
    """Run the stages asked for (all when none is named); return 0 when every test passed, else 1."""
    parser = argparse.ArgumentParser(prog="tools.test", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("-k", dest="expression", default="", help="only the pytest tests that match")
    parser.add_argument("-s", dest="scenario", default="", help="only this Molecule scenario")
    parser.add_argument("--keep", action="store_true", help="keep the scenario's host")
    told = parser.parse_args()
    if unknown := set(told.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}: use {', '.join(STAGES)}")
    choice = Choice(told.expression, told.scenario, told.keep, fresh=not told.stages)
    results: list[Result] = []
    seconds: dict[str, float] = {}
    for stage in told.stages or STAGES:
        began = time.monotonic()
        results += run(stage, choice)
        seconds[stage] = time.monotonic() - began
        own = [one for one in results if one.stage == stage]
        print(f"{stage}: {sum(one.passed for one in own)} of {len(own)} passed, {seconds[stage]:.1f} s", flush=True)
    print(summary(results, seconds))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
