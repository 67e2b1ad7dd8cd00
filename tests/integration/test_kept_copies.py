# SPDX-License-Identifier: GPL-3.0-or-later
"""The copies that restores keep: undone in the right order, discarded whole, and named when their record is damaged."""

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.system import System, make_tree, protecting, tree_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "srv/app", files=3)


@pytest.fixture
def system(tmp_path: Path, tree: Path) -> System:
    one = protecting(tree, tmp_path, drill="never")
    one.run("run", "daily")
    return one


def restored(system: System, tree: Path, mark: str) -> str:
    """Mark what is live, restore over it, and return the restore's id."""
    (tree / "mark").write_text(mark)
    answer: str = system.run("restore", "--component", "app", "--yes")["id"]
    return answer


def test_an_older_restore_is_not_undone_below_a_newer_one(system: System, tree: Path) -> None:
    first = restored(system, tree, "original")
    second = restored(system, tree, "written after the first restore")
    live = tree_digest(tree)
    answer = system.run("undo", first, expect=2)
    assert second in answer["error"]["fix"]
    assert tree_digest(tree) == live
    system.run("undo", second)
    assert (tree / "mark").read_text() == "written after the first restore"
    system.run("undo", first)
    assert (tree / "mark").read_text() == "original"
    system.run("undo", second, "--discard")
    system.run("undo", first, "--discard")
    assert (tree / "mark").read_text() == "original"


def test_a_copy_whose_discard_was_cut_off_is_never_made_live(system: System, tree: Path) -> None:
    restore = restored(system, tree, "original")
    live = tree_digest(tree)
    system.killed("undo", restore, "--discard", at="discard")
    kept = next(one for one in tree.parent.iterdir() if one != tree)
    shutil.rmtree(next(kept.rglob("sub")))
    assert "--discard" in system.run("undo", restore, expect=2)["error"]["fix"]
    assert tree_digest(tree) == live
    system.run("undo", restore, "--discard")
    assert [one.name for one in tree.parent.iterdir()] == [tree.name]


def test_a_killed_undo_is_finished_by_its_watcher(system: System, tree: Path) -> None:
    restore = restored(system, tree, "original")
    system.killed("undo", restore, at="undo")
    system.settled()
    assert (tree / "mark").read_text() == "original"
    assert system.run("undo")["restores"][0]["live"] == "before"


def test_what_was_written_to_restored_data_after_a_power_cut_is_kept(system: System, tree: Path) -> None:
    (tree / "mark").write_text("original")
    system.killed("restore", "--component", "app", "--yes", at="swapped", who="run, watcher")
    (tree / "mark").write_text("written before anybody recovered")
    for path in (system.root / "var/lib/restaura/journal").glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "at": "2026-01-01T00:00:00+00:00"}))
    system.run("recover")
    assert (tree / "mark").read_text() == "original"
    assert system.run("recover")["changed"] is False
    (kept,) = system.run("undo")["restores"]
    assert kept["live"] == "before"
    marks = {one.read_text() for one in tree.parent.rglob("mark")}
    assert marks == {"original", "written before anybody recovered"}
    system.run("undo", kept["id"], "--discard")
    assert [one.name for one in tree.parent.iterdir()] == [tree.name]


def test_a_damaged_record_of_a_kept_copy_is_told_and_hides_no_other(system: System, tree: Path) -> None:
    restore = restored(system, tree, "original")
    damaged = system.root / "var/lib/restaura/kept/20260101T000000Z-0000000000-app.json"
    damaged.write_text('{"id": "2026')
    status = system.run("status", expect=3)
    assert any(str(damaged) in one["what"] for one in status["problems"])
    assert [one["id"] for one in system.run("undo")["restores"]] == [restore]
    system.run("undo", restore)
    assert (tree / "mark").read_text() == "original"


def test_a_restore_whose_ingestion_does_not_resume_is_told_as_done_and_can_be_undone(
    system: System, tree: Path, tmp_path: Path
) -> None:
    works = tmp_path / "works"
    pause = {"command": "true", "resume": f"test -e {works}", "limit": 30}
    system.configure(plans=[{"name": "daily", "drill": "never", "pause": pause}])
    (tree / "mark").write_text("original")
    answer = system.run("restore", "--component", "app", "--yes", expect=1)
    assert not (tree / "mark").exists()
    assert "resume" in answer["problems"][0]
    works.touch()
    system.run("recover")
    assert answer["undo"] == f"restaura undo {answer['id']}"
    system.run("undo", answer["id"])
    assert (tree / "mark").read_text() == "original"
