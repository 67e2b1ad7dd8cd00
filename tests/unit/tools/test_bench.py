# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's table says what is short of the aims, and goes nowhere but between its markers."""

from pathlib import Path

import pytest

from tools.bench import __main__ as bench
from tools.bench.subjects import CONTESTANTS
from tools.bench.table import BEGIN, END, Result, markdown, write


def rows(**seconds: float) -> dict[str, Result]:
    """Measurements of one row; every contestant takes a second unless it is told otherwise."""
    found = {}
    for one in CONTESTANTS:
        name = f"tree-first/{one.name}"
        found[name] = Result(name, seconds.get(one.name.replace("-", "_"), 1.0), 0, 50.0)
    return found


def test_what_meets_the_aims_is_not_called_short() -> None:
    text = markdown(rows(dated_catalog=4.0, dated_content=4.2, borgmatic=5.0), "when")
    assert "Every row meets the aims." in text
    assert (
        "| first backup, `dated` (tar into zstd) | 1.0 s | 4.0 s (4.00 ×) | 4.2 s (4.20 ×) | 5.0 s | 50 MiB |" in text
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ({"dated_catalog": 4.1}, "`dated`, `catalog`: 4.1 s, 0.0 s over 1.05 × 1.0 s + 3 s"),
        ({"restic_content": 4.5}, "`restic`, `content`: 4.5 s, 0.2 s over 1.3 × 1.0 s + 3 s"),
        ({"restic_catalog": 3.0, "borgmatic": 2.0}, "`restic`, `catalog`: 3.0 s, and borgmatic 2.0 s"),
    ],
)
def test_what_is_short_of_an_aim_is_told(seconds: dict[str, float], told: str) -> None:
    assert told in markdown(rows(**{"borgmatic": 9.0, **seconds}), "when")


def test_memory_containers_and_setup_have_aims_too() -> None:
    found = rows(borgmatic=9.0)
    found["tree-first/dated-content"] = Result("tree-first/dated-content", 1.0, 0, 101.0)
    found["volumes/bare"] = Result("volumes/bare", 100.0, stop_seconds=100.0)
    found["volumes/restic"] = Result("volumes/restic", 49.0, stop_seconds=11.0)
    found["volumes/dated"] = Result("volumes/dated", 49.0, stop_seconds=9.0)
    found["setup/1"] = Result("setup/1", 15.1)
    text = markdown(found, "when")
    short = text.partition("Short of the aims:")[2].strip().splitlines()
    assert [line.partition(":")[0] for line in short] == [
        "- 2 GB, 50,000 files, first backup, `dated`, `content`",
        "- Docker volumes, `restic`",
        "- `setup_backup.yml` on one host",
    ]


def test_a_stack_is_held_against_doing_it_by_hand() -> None:
    def short(**ours: float) -> list[str]:
        found = {"stack/bare": Result("stack/bare", 100.0, pause_seconds=100.0)}
        found["stack/dated"] = Result(
            "stack/dated", **{"seconds": 70.0, "pause_seconds": 10.0, "peak_mib": 150.0, **ours}
        )
        text = markdown(found, "when")
        row = next(line for line in text.splitlines() if line.startswith("| `dated`"))
        told = text.partition("Short of the aims:")[2].strip().splitlines()
        assert row.count("✗") == len(told)
        return told

    assert short() == []
    assert short(pause_seconds=10.1) == ["- AI stack, `dated`: paused 10.1 s (0.101 ×); the aim is 10.0 s"]
    assert short(seconds=71.0) == ["- AI stack, `dated`: in all 71.0 s (0.71 ×); the aim is 70.0 s"]
    assert short(peak_mib=151.0) == ["- AI stack, `dated`: 151 MiB of memory of its own; the aim is 150 MiB"]
    assert len(short(pause_seconds=11.0, seconds=71.0, peak_mib=151.0)) == 3
    assert bench._left("stack", {"stack/bare": Result("stack/bare", 1.0)}) == ["stack/dated", "stack/restic"]


def test_a_row_that_was_not_measured_whole_is_left_out_and_measured_next() -> None:
    found = rows()
    del found["tree-first/dated-bare"]
    assert "`dated`" not in markdown(found, "when").partition("Short of")[0]
    assert bench._left("tree-first", found) == ["tree-first/dated-bare"]
    assert bench._left("setup", found) == ["setup"]


def test_the_page_keeps_what_is_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="lacks"):
        write(page, "new")


def test_the_page_of_this_project_has_the_markers() -> None:
    text = bench.PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
