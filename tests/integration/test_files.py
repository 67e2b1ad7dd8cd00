# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees as real hosts have them, backed up into real stores by the program, lost, and restored."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trees_on_disk import SOURCE, System, digest, seed, shell

STORES = ("dated", "restic")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[System, Path, str]:
    """A web application that was backed up, and its digest."""
    system = System(tmp_path_factory.mktemp("files"))
    app = seed(system.root / "srv/app")
    (app / "cache").mkdir()
    (app / "cache/page").write_text("cached")
    system.configure({"paths": [str(app)], "exclude": ["cache/", "*.tmp"]})
    system.well("run", "daily")
    return system, app, digest(app, "./cache*")


@pytest.mark.parametrize("store", STORES)
def test_a_lost_tree_comes_back_equal_from_each_store(taken: tuple[System, Path, str], store: str) -> None:
    system, app, before = taken
    shutil.rmtree(app)
    system.well("restore", "--yes", "--from-store", store)
    assert digest(app) == before
    assert int(shell("stat -c %b sparse.img", app)) * 512 < 100_000
    assert shell("stat -c %i uploads/2024/list.txt uploads/list-again.txt | sort -u | wc -l", app).strip() == "1"
    assert not (app / "app.sock").exists()
    assert not list(app.parent.glob(".restaura-stage-*"))


@pytest.mark.parametrize("store", STORES)
def test_a_drill_proves_the_point_in_each_store(taken: tuple[System, Path, str], store: str) -> None:
    system, _, _ = taken
    system.well("drill", "--plan", "daily", "--from-store", store)
    assert next(one for one in system.points() if one["store"] == store)["proof"] == "proven"
    assert not list((system.root / "var/lib/restaura/spool").iterdir())


def test_undo_brings_the_changed_tree_back_and_what_is_excluded_never_moves(taken: tuple[System, Path, str]) -> None:
    system, app, before = taken
    (app / "cache").mkdir(exist_ok=True)
    (app / "cache/page").write_text("newer")
    (app / "added").write_text("since")
    (app / "uploads/owned").write_text("changed")
    changed = digest(app)
    said = system.well("restore", "--yes")
    assert digest(app, "./cache*") == before
    assert (app / "cache/page").read_text() == "newer"
    restore_id = said.split("restaura undo ")[1].split()[0]
    system.well("undo", restore_id)
    assert digest(app) == changed
    others = set(app.parent.iterdir())
    system.well("undo", restore_id, "--discard")
    gone = others - set(app.parent.iterdir())
    assert [one.name.startswith(".restaura-") for one in gone] == [True]
    assert digest(app) == changed
    (app / "added").unlink()


def test_one_path_comes_back_and_the_rest_stays(taken: tuple[System, Path, str]) -> None:
    system, app, _ = taken
    (app / "uploads/owned").unlink()
    (app / "current").unlink()
    rest = digest(app, "./uploads*")
    # The second name of a hard link whose first name is not asked for.
    (app / "uploads/list-again.txt").unlink()
    paths = [f"{app}/uploads/owned", f"{app}/uploads/list-again.txt"]
    system.well("restore", "--yes", *(word for one in paths for word in ("--path", one)))
    assert digest(app, "./uploads*") == rest
    assert shell("stat -c '%U %G %a %s' uploads/owned; sha256sum < uploads/list-again.txt", app) == shell(
        "echo www-data backup 640 5; seq 1 2000 | sha256sum", app
    )
    assert not (app / "current").is_symlink()


def test_a_path_that_the_point_has_not_is_no_point(taken: tuple[System, Path, str]) -> None:
    system, app, _ = taken
    code, said = system.run("restore", "--yes", "--path", f"{app}/nothing")
    assert code == 5
    assert "nothing" in said


def test_a_component_that_no_point_holds_is_told_with_those_that_are_there(taken: tuple[System, Path, str]) -> None:
    system, _, _ = taken
    code, said = system.run("restore", "--component", "shop")
    assert code == 5
    assert "component shop: no point holds it; there are: app" in said


def test_what_would_be_restored_names_the_paths(taken: tuple[System, Path, str]) -> None:
    system, app, _ = taken
    assert f"{app}/current, {app}/bin would be restored to live" in system.well(
        "restore", "--path", f"{app}/current", "--path", f"{app}/bin"
    )
    assert "all of it would be restored to live" in system.well("restore")


def test_a_kit_that_goes_to_a_file_is_for_root_alone(taken: tuple[System, Path, str], tmp_path: Path) -> None:
    system, _, _ = taken
    kit = tmp_path / "web1.kit"
    verb = f'RESTAURA_ROOT="$1" PYTHONPATH="$2" {sys.executable} -m restaura keys kit > "$3"'
    shell(f"umask 022; {verb}", tmp_path, str(system.root), str(SOURCE), str(kit))
    assert (kit.stat().st_mode & 0o777, "manifest.key" in kit.read_text()) == (0o600, True)


def test_a_directory_target_must_be_empty_and_is_for_root_alone(
    taken: tuple[System, Path, str], tmp_path: Path
) -> None:
    system, app, before = taken
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("mine")
    code, said = system.run("restore", "--yes", "--to", f"dir:{full}")
    assert (code, (full / "precious").read_text()) == (2, "mine")
    assert "not empty" in said
    system.well("restore", "--yes", "--to", f"dir:{tmp_path}/out")
    assert digest(Path(f"{tmp_path}/out{app}")) == before
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_process_that_holds_live_data_keeps_the_swap_from_happening(taken: tuple[System, Path, str]) -> None:
    system, app, _ = taken
    system.well("restore", "--yes")
    state = digest(app)
    with subprocess.Popen(["sleep", "60"], cwd=app) as holder:
        code, said = system.run("restore", "--yes")
        holder.kill()
    assert code == 2
    assert f"{holder.pid} sleep {app}" in said
    assert digest(app) == state
    assert not list(app.parent.glob(".restaura-stage-*"))
