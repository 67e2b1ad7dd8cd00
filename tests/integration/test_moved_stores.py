# SPDX-License-Identifier: GPL-3.0-or-later
"""A store that keeps its name and gets another place: what the old one held is not taken for what the new one holds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System, make_tree, protecting, tree_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "srv/app", files=3)


@pytest.fixture
def system(tmp_path: Path, tree: Path) -> System:
    """A host with one point, drilled and found equal."""
    one = protecting(tree, tmp_path)
    one.run("run", "daily", "--drill")
    return one


def move(system: System, place: Path, expect: int = 0) -> dict[str, Any]:
    """Give the host's store another location, and nothing else."""
    return system.configure(stores=[{"name": "plain", "type": "dated", "location": str(place)}], expect=expect)


def standing(system: System, expect: int) -> dict[str, Any]:
    (row,) = system.run("status", expect=expect)["components"]
    return dict(row)


def test_a_store_at_another_place_holds_nothing_until_a_run(system: System, tmp_path: Path) -> None:
    assert standing(system, 0)["proven_at"]
    told = move(system, tmp_path / "new")
    stays = f"store plain is at another place now; its points stay at {tmp_path / 'store'}"
    assert [one for one in told["warnings"] if "plain" in one] == [stays]
    assert move(system, tmp_path / "new")["warnings"] == told["warnings"][1:]
    row = standing(system, 3)
    assert (row["points"], row["good_at"], row["proven_at"]) == (0, None, None)
    assert system.run("list")["points"] == []
    assert "app in plain has no good point" in system.run("status", expect=3)["text"]


def test_setup_takes_and_drills_the_first_point_of_another_place(system: System, tmp_path: Path) -> None:
    assert system.run("run", "daily", "--unless-proven", "--drill")["skipped"] == "proven"
    move(system, tmp_path / "new")
    assert system.run("run", "daily", "--unless-proven", "--drill")["drill"]["results"][0]["verdict"] == "proven"
    assert standing(system, 0)["points"] == 1
    assert len(list((tmp_path / "new").rglob("manifest.json"))) == 1


def test_points_that_were_moved_along_are_seen_and_read_anew(system: System, tmp_path: Path) -> None:
    assert system.run("verify")["stores"][0]["read"] == 1
    system.run("verify", "--full")
    shutil.copytree(tmp_path / "store", tmp_path / "new")
    move(system, tmp_path / "new")
    assert standing(system, 0)["points"] == 1
    state = system.root / "var/lib/restaura/state.json"
    verified = json.loads(state.read_text())["verified"]["daily"]["plain"]
    system.run("verify")
    again = json.loads(state.read_text())["verified"]["daily"]["plain"]
    assert (verified["place"], again["place"]) == (f"dated at {tmp_path / 'store'}", f"dated at {tmp_path / 'new'}")


def test_a_place_that_could_not_be_reached_at_first_is_made_later(system: System, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    move(system, in_the_way / "new", expect=1)
    row = standing(system, 3)
    assert row["points"] == 0
    in_the_way.unlink()
    in_the_way.mkdir()
    (in_the_way / "new").mkdir()
    move(system, in_the_way / "new")
    assert (in_the_way / "new/store.json").exists()


def test_a_restore_says_that_the_asked_store_does_not_hold_the_point(
    system: System, tree: Path, tmp_path: Path
) -> None:
    plain = system.declaration["stores"][0]
    system.configure(stores=[plain, {"name": "bucket", "type": "dated", "location": str(tmp_path / "bucket")}])
    wanted = tree_digest(tree)
    (tree / "link").unlink()
    note = "app: store bucket has no such point; read from plain"
    shown = system.run("restore", "--from-store", "bucket")
    assert shown["notes"] == [note]
    assert note in shown["text"]
    done = system.run("restore", "--from-store", "bucket", "--yes")
    assert done["restored"][0]["from"] == "plain"
    assert done["notes"] == [note]
    assert note in done["text"]
    assert tree_digest(tree) == wanted
    assert system.run("restore", "--from-store", "plain")["notes"] == []
    assert system.run("restore")["notes"] == []
    (tmp_path / "bucket/store.json").rename(tmp_path / "store.json")
    assert "app: store bucket did not answer (" in system.run("restore", "--from-store", "bucket")["text"]


def test_a_restore_says_that_the_asked_store_could_not_be_read(system: System, tree: Path, tmp_path: Path) -> None:
    plain = system.declaration["stores"][0]
    system.configure(stores=[plain, {"name": "bucket", "type": "dated", "location": str(tmp_path / "bucket")}])
    system.run("run", "daily")
    assert system.run("restore", "--from-store", "bucket")["notes"] == []
    (stored,) = (tmp_path / "bucket").rglob("tree.tar.zst")
    stored.write_bytes(stored.read_bytes()[:-9])
    done = system.run("restore", "--from-store", "bucket", "--yes")
    assert done["restored"][0]["from"] == "plain"
    assert done["notes"] == ["app: what store bucket has of this point could not be read whole; read from plain"]
    system.run("verify", expect=1)
    assert system.run("restore", "--from-store", "bucket")["notes"] == [
        "app: what store bucket has of this point is not good; read from plain"
    ]


def test_what_was_swapped_back_already_is_said_to_be(system: System, tree: Path) -> None:
    before = tree_digest(tree)
    done = system.run("restore", "--component", "app", "--yes")
    again = tree_digest(tree)
    first = system.run("undo", done["id"])
    assert (first["changed"], "is live again" in first["text"]) == (True, True)
    second = system.run("undo", done["id"])
    assert (second["changed"], second["text"]) == (False, "app: the data from before is live already")
    assert tree_digest(tree) == before == again
