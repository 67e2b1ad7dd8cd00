# SPDX-License-Identifier: GPL-3.0-or-later
"""The test runner counts what was proven, and nothing else."""

from pathlib import Path

import pytest

from tools.lab.common import LabError
from tools.test import stages
from tools.test.results import Result, read_junit, summary

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="good" time="1.5"/>
<testcase classname="tests.unit.test_a" name="bad" time="0.5"><failure message="1 != 2"/></testcase>
<testcase classname="tests.unit.test_a" name="broken" time="0.5"><error message="no fixture"/></testcase>
<testcase classname="tests.unit.test_a" name="skipped" time="0"><skipped message="no server"/></testcase>
</testsuite></testsuites>"""


def test_only_what_ran_and_held_counts_as_passed(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    results = read_junit("unit", tmp_path / "junit.xml")
    assert [(one.name.split("::")[1], one.passed) for one in results] == [
        ("good", True),
        ("bad", False),
        ("broken", False),
        ("skipped", False),
    ]
    told = summary(results, {"unit": 2.5})
    assert told.splitlines()[-1] == "1 passed, 3 failed"
    assert "FAILED unit: tests.unit.test_a::bad: failure: 1 != 2" in told


def test_a_result_without_a_message_is_told_too() -> None:
    assert "FAILED unit: x: failure" in summary([Result("unit", "x", 0, "failure\nlong text")], {"unit": 0})


def test_an_empty_stage_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stages, "LOGS", tmp_path)
    monkeypatch.setitem(stages.STAGES, "unit", lambda _: [])
    assert [one.passed for one in stages.run("unit", stages.Choice())] == [False]


def test_a_stage_that_cannot_run_fails_and_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_daemon() -> None:
        raise LabError("no Docker daemon answers")

    monkeypatch.setattr(stages, "LOGS", tmp_path)
    monkeypatch.setattr(stages.daemon, "up", no_daemon)
    (result,) = stages.run("molecule", stages.Choice())
    assert (result.passed, result.failure) == (False, "not run: no Docker daemon answers")


def test_pytest_that_crashes_without_a_failing_test_fails() -> None:
    good = [Result("unit", "a", 1)]
    assert [one.passed for one in stages._checked("unit", "unit", good, 3)] == [True, False]
    assert stages._checked("unit", "unit", good, 0) == good


@pytest.mark.parametrize(
    "line",
    [
        "proof : ok=1 changed=0 missing=1 failed=0",
        "WARNING Missing playbook (Remove from test_sequence to suppress)",
        "skipping: no hosts matched",
    ],
)
def test_molecule_leaving_a_step_out_is_no_success(line: str) -> None:
    assert stages._skipped(f"INFO all is well\n{line}\nINFO done").endswith(line)
    assert stages._skipped("proof : ok=1 changed=0 missing=0 failed=0") == ""


def test_each_file_goes_to_one_host_and_a_slow_one_takes_fewer() -> None:
    work = stages._Work([Path(name) for name in ("slow", "a", "b", "c")])
    first, second = iter(work), iter(work)
    taken = [next(first), *second]
    assert [path.name for path in taken] == ["slow", "a", "b", "c"]
    assert list(first) == []
