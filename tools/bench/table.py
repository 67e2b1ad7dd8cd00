# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/performance.md: seconds of each contestant, their ratios, and whether the aims are met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.bench.subjects import ACTS, DEPTHS, STORES, SUBJECTS

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# Times the bare tools, plus seconds.
AIMS = {"catalog": 1.05, "content": 1.3}
EXTRA_SECONDS = 3.0
PEAK_MIB = 100.0
# Of stopping containers around tar and gzip: how long they stand still, and the whole.
STOP_SHARE, TOTAL_SHARE = 0.1, 0.5
# Of a stack's backup by hand: how long ingestion is paused, and the whole; and our own memory there.
PAUSE_SHARE, STACK_SHARE, STACK_MIB = 0.1, 0.7, 150.0
SETUP_SECONDS = 15.0
WHAT = {"database": "1 GB database", "tree": "2 GB, 50,000 files", "databases": "100 small databases"}
DOES = {"first": "first backup", "changed": "backup after 1 % changed", "restore": "restore"}
TOOLS = {
    ("database", "dated"): "pg_dump into zstd",
    ("database", "restic"): "pg_dump into restic",
    ("tree", "dated"): "tar into zstd",
    ("tree", "restic"): "restic",
    ("databases", "dated"): "a loop of pg_dump into zstd",
    ("databases", "restic"): "a loop of pg_dump, then restic",
}


@dataclass(frozen=True)
class Result:
    """One measurement: seconds, bytes that its store took, the program's own peak memory in MiB (0: not ours).

    `stop_seconds` is how long containers were stopped, `pause_seconds` how long ingestion was paused, `further_seconds`
    what each host after the first adds.
    """

    name: str
    seconds: float
    stored: int = 0
    peak_mib: float = 0.0
    stop_seconds: float = 0.0
    further_seconds: float = 0.0
    pause_seconds: float = 0.0


def markdown(results: Mapping[str, Result], header: str) -> str:
    """Return the tables of every row that was measured whole, and what is short of the aims."""
    lines = [header, ""]
    short: list[str] = []
    for subject in SUBJECTS:
        rows = [
            row for act in ACTS for store in STORES if (row := _row(results, subject, act, store, short)) is not None
        ]
        if rows:
            lines += [f"### {WHAT[subject]}", ""]
            lines += [
                "| | bare tools | `catalog` | `content` | borgmatic | memory |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
            lines += [*rows, ""]
    lines += [*_volumes(results, short), *_stack(results, short), *_setup(results, short)]
    lines += ["Short of the aims:", "", *short, ""] if short else ["Every row meets the aims.", ""]
    return "\n".join(lines)


def _volumes(results: Mapping[str, Result], short: list[str]) -> list[str]:
    """Return the table of Docker volumes."""
    bare = results.get("volumes/bare")
    if bare is None:
        return []
    lines = ["### 2 GB in 3 Docker volumes", "", "| | containers stopped | in all |", "| --- | --- | --- |"]
    lines.append(f"| stop, tar and gzip, start | {bare.stop_seconds:.1f} s | {bare.seconds:.1f} s |")
    for store in STORES:
        if one := results.get(f"volumes/{store}"):
            late = one.stop_seconds > bare.stop_seconds * STOP_SHARE or one.seconds > bare.seconds * TOTAL_SHARE
            stopped = f"{one.stop_seconds:.1f} s ({one.stop_seconds / bare.stop_seconds:.2f} ×)"
            total = f"{one.seconds:.1f} s ({one.seconds / bare.seconds:.2f} ×)"
            lines.append(f"| `{store}` | {stopped} | {total}{' ✗' * late} |")
            if late:
                aim = f"{bare.stop_seconds * STOP_SHARE:.1f} s and {bare.seconds * TOTAL_SHARE:.1f} s"
                short.append(f"- Docker volumes, `{store}`: stopped {stopped}, in all {total}; the aim is {aim}")
    return [*lines, ""]


def _stack(results: Mapping[str, Result], short: list[str]) -> list[str]:
    """Return the table of a whole AI stack."""
    bare = results.get("stack/bare")
    if bare is None:
        return []
    lines = ["### An AI stack of 3 GB", "", "| | ingestion paused | in all | memory |", "| --- | --- | --- | --- |"]
    lines.append(f"| by hand, one after another | {bare.pause_seconds:.1f} s | {bare.seconds:.1f} s | – |")
    for store in STORES:
        if one := results.get(f"stack/{store}"):
            long = one.pause_seconds > bare.pause_seconds * PAUSE_SHARE
            late, large = one.seconds > bare.seconds * STACK_SHARE, one.peak_mib > STACK_MIB
            paused = f"{one.pause_seconds:.1f} s ({one.pause_seconds / bare.pause_seconds:.3f} ×)"
            total = f"{one.seconds:.1f} s ({one.seconds / bare.seconds:.2f} ×)"
            cells = [paused + " ✗" * long, total + " ✗" * late, f"{one.peak_mib:.0f} MiB{' ✗' * large}"]
            lines.append(f"| `{store}` | {' | '.join(cells)} |")
            where = f"- AI stack, `{store}`"
            if long:
                short.append(f"{where}: paused {paused}; the aim is {bare.pause_seconds * PAUSE_SHARE:.1f} s")
            if late:
                short.append(f"{where}: in all {total}; the aim is {bare.seconds * STACK_SHARE:.1f} s")
            if large:
                short.append(f"{where}: {one.peak_mib:.0f} MiB of memory of its own; the aim is {STACK_MIB:.0f} MiB")
    return [*lines, ""]


def _setup(results: Mapping[str, Result], short: list[str]) -> list[str]:
    """Return the table of setup_backup.yml on hosts that are set up."""
    rows = [one for name, one in results.items() if name.startswith("setup/")]
    if not rows:
        return []
    lines = ["### `setup_backup.yml` on hosts that are set up already", "", "| hosts | | each further host |"]
    lines.append("| --- | --- | --- |")
    for one in sorted(rows, key=lambda one: one.name):
        further = f"{one.further_seconds:.1f} s" if one.further_seconds else "–"
        lines.append(f"| {one.name.partition('/')[2]} | {one.seconds:.1f} s | {further} |")
    if rows[0].seconds > SETUP_SECONDS:
        short.append(f"- `setup_backup.yml` on one host: {rows[0].seconds:.1f} s; the aim is {SETUP_SECONDS:.0f} s")
    return [*lines, ""]


def _row(results: Mapping[str, Result], subject: str, act: str, store: str, short: list[str]) -> str | None:
    names = [f"{subject}-{act}/{store}-{who}" for who in ("bare", *DEPTHS)]
    if not all(name in results for name in names):
        return None
    bare, *ours = [results[name] for name in names]
    borgmatic = results.get(f"{subject}-{act}/borgmatic")
    label = f"{DOES[act]}, `{store}`"
    cells = [f"{label} ({TOOLS[subject, store]})", f"{bare.seconds:.1f} s"]
    for depth, one in zip(DEPTHS, ours, strict=True):
        limit = bare.seconds * AIMS[depth] + EXTRA_SECONDS
        cells.append(f"{one.seconds:.1f} s ({one.seconds / bare.seconds:.2f} ×){' ✗' * (one.seconds > limit)}")
        where = f"- {WHAT[subject]}, {label}, `{depth}`: {one.seconds:.1f} s"
        if one.seconds > limit:
            short.append(f"{where}, {one.seconds - limit:.1f} s over {AIMS[depth]} × {bare.seconds:.1f} s + 3 s")
        if borgmatic and one.seconds >= borgmatic.seconds:
            short.append(f"{where}, and borgmatic {borgmatic.seconds:.1f} s")
        if one.peak_mib > PEAK_MIB:
            short.append(f"{where}, with {one.peak_mib:.0f} MiB of memory of its own")
    cells += [f"{borgmatic.seconds:.1f} s" if borgmatic else "–", f"{max(one.peak_mib for one in ours):.0f} MiB"]
    return f"| {' | '.join(cells)} |"


def write(page: Path, table: str) -> None:
    """Put the tables between the markers of a page; ValueError when it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks {BEGIN} or {END}")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
