# SPDX-License-Identifier: GPL-3.0-or-later
"""What must leave a host neither stuck nor silent: full disks, damaged records, stores that are gone, wrong clocks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.system import System, make_tree, protecting


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "srv/app", files=3)


@pytest.fixture
def system(tmp_path: Path, tree: Path) -> System:
    return protecting(tree, tmp_path, drill="never")


KILLED_AFTER_THE_MANIFEST = """
import os, signal, sys
from restaura import cli
from restaura.stores.blobs import LocalBlobs
delete, calls = LocalBlobs.delete, []
def killing(self, keys):
    calls.append(keys)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    delete(self, keys)
LocalBlobs.delete = killing
sys.exit(cli.main())
"""


@pytest.fixture
def small_state(system: System) -> Iterator[Path]:
    """The host's state on a small disk of its own."""
    state = system.root / "var/lib/restaura"
    state.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)], check=True)
    yield state
    subprocess.run(["umount", "-l", str(state)], check=True)


def test_a_full_disk_of_the_state_is_an_error_that_is_told(system: System, small_state: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    system.configure(plans=[{"name": "daily", "failure_command": f'echo "$RESTAURA_EXIT $RESTAURA_SUMMARY" > {told}'}])
    subprocess.run(["dd", "if=/dev/zero", f"of={small_state}/ballast", "bs=4k"], capture_output=True, check=False)
    answer = system.run("run", "daily", expect=1)
    assert "space" in answer["error"]["what"]
    assert told.read_text().startswith("1 ")


def test_a_debt_of_a_store_that_is_no_longer_configured_is_paid_before_it_goes(system: System, tmp_path: Path) -> None:
    system.killed("run", "daily", at="copy", who="run and watcher")
    assert list((system.root / "var/lib/restaura/journal").glob("*.json"))
    system.configure(stores=[{"name": "other", "type": "dated", "location": str(tmp_path / "other")}])
    assert system.leftovers() == []
    assert list((tmp_path / "store").rglob("*.part")) == []


@pytest.mark.parametrize("text", ['{"broken', '{"id": "1", "owner": "spool", "act": "remove", "data": {}, %s}'])
def test_a_damaged_journal_record_stops_no_run_and_says_how_to_be_rid_of_it(system: System, text: str) -> None:
    path = system.root / "var/lib/restaura/journal/1.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    process = '"process": {"pid": 1, "started": 1, "boot": ""}, "at": "2026-01-01T00:00:00+00:00"'
    path.write_text(text % process if "%s" in text else text)
    assert system.run("run", "daily")["exit"] == 0
    answer = system.run("recover", expect=1)
    assert f"rm {path}" in answer["failed"][0]["error"]
    path.unlink()
    system.run("recover")


def test_a_store_whose_disk_is_not_mounted_is_neither_verified_nor_taken_for_empty(
    system: System, tmp_path: Path
) -> None:
    system.run("run", "daily", "--drill")
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").mkdir()
    assert "no store" in system.run("verify", expect=1)["stores"][0]["problems"][0]
    assert "no store" in system.run("prune", expect=1)["results"][0]["error"]
    assert system.run("run", "daily", "--unless-proven", expect=1)["error"]["what"]
    assert "no store" in json.dumps(system.run("restore", "--component", "app", expect=1)["error"])


def test_setup_makes_no_new_store_where_one_was(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    (tmp_path / "store").rename(tmp_path / "unmounted")
    (tmp_path / "store").mkdir()
    answer = system.configure(expect=1)
    assert "mount" in answer["error"]["fix"]
    assert list((tmp_path / "store").iterdir()) == []


def test_a_prune_that_was_killed_leaves_no_data_behind(system: System, tmp_path: Path) -> None:
    keep = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "floor": 1}
    system.configure(plans=[{"name": "daily", "drill": "never", "retention": {**keep, "keep_last": 3}}])
    old = system.run("run", "daily")["point"]
    system.run("run", "daily")
    system.configure(plans=[{"name": "daily", "drill": "never", "retention": keep}])
    manifest = next(one for one in (tmp_path / "store").rglob("manifest.json") if old in one.read_text())
    killing = [sys.executable, "-c", KILLED_AFTER_THE_MANIFEST, "prune"]
    assert subprocess.run(killing, env=system.environment(), check=False).returncode == -signal.SIGKILL
    assert not manifest.exists()
    system.run("recover")
    assert [one for one in manifest.parent.rglob("*") if one.is_file()] == []
    assert len(system.good_points()["plain"]) == 1


def test_a_pause_whose_children_hang_ends_at_its_limit(system: System, tmp_path: Path) -> None:
    resumed = tmp_path / "resumed"
    pause = {"command": "sleep 60 | cat", "resume": f"touch {resumed}", "limit": 2}
    system.configure(plans=[{"name": "daily", "drill": "never", "pause": pause}])
    begun = time.monotonic()
    answer = system.run("run", "daily", expect=1)
    assert time.monotonic() - begun < 30
    assert "did not end within" in answer["error"]["what"]
    assert resumed.exists()


def test_the_kit_holds_keys_alone(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    keys = system.root / "etc/restaura/keys"
    (keys / ".manifest.key.1a2b3c4d.tmp").write_text("half a k")
    (keys / ".manifest.key.swp").write_bytes(b"b0VIM\xff\xfe")
    kit = tmp_path / "web1.kit"
    kit.write_text(json.dumps(system.run("keys", "kit")))
    shutil.rmtree(system.root)
    bare = System(tmp_path / "bare")
    target = tmp_path / "look"
    bare.run("restore", "--kit", str(kit), "--component", "app", "--to", f"dir:{target}", "--yes")
    assert next(target.rglob("hard")).is_file()


def test_a_key_that_is_damaged_is_named(system: System) -> None:
    key = system.root / "etc/restaura/keys/manifest.key"
    for content in ("", "no hexadecimal\n"):
        key.write_text(content)
        error = system.run("run", "daily", expect=1)["error"]["what"]
        assert f"{key}: the key file is damaged" in error
        assert "restaura keys restore --kit" in error


def test_metrics_of_a_plan_that_was_removed_end(system: System, tmp_path: Path, tree: Path) -> None:
    system.configure(plans=[{"name": "daily", "drill": "never"}, {"name": "old", "drill": "never"}])
    system.run("run", "old")
    metrics = system.root / "var/lib/restaura/restaura.prom"
    assert 'plan="old"' in metrics.read_text()
    system.configure(plans=[{"name": "daily", "drill": "never"}])
    system.run("run", "daily")
    assert 'plan="old"' not in metrics.read_text()


def test_names_with_control_characters_reach_no_terminal(system: System, tree: Path) -> None:
    name = tree / "a\x1b]0;owned\x07\nb"
    system.run("run", "daily")
    done = subprocess.run(
        [sys.executable, "-m", "restaura", "restore", "--component", "app", "--path", str(name), "--yes"],
        capture_output=True,
        env=system.environment(),
        check=False,
    )
    assert done.returncode != 0
    assert b"owned" in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr


def test_a_component_of_another_kind_under_an_old_name_disproves_no_old_point(
    system: System, tree: Path, tmp_path: Path
) -> None:
    old = system.run("run", "daily")["point"]
    system.configure(
        components={
            "files": [],
            "postgres": [{"name": "app", "host": "127.0.0.1", "port": 9, "user": "x", "password": "y"}],
        }
    )
    system.run("drill", "--point", old, "--component", "app")
    assert system.good_points()["plain"] == [old]
    shutil.rmtree(tree)
    system.run("restore", "--point", old, "--component", "app", "--yes")
    assert os.path.lexists(tree / "hard")


def test_damage_that_comes_back_after_it_was_healed_counts_again(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    path = next((tmp_path / "store").rglob("tree.tar.zst"))
    right = path.read_bytes()
    for content, exit_code, good in ((b"x", 1, 0), (right, 0, 1), (b"x", 1, 0)):
        path.write_bytes(content)
        system.run("verify", "--full", expect=exit_code)
        assert len(system.good_points().get("plain", [])) == good


def test_verdicts_follow_each_other_whatever_the_clock_says(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    preload = next(Path("/usr/lib").rglob("libfaketime.so.1"))
    system.run("drill", LD_PRELOAD=str(preload), FAKETIME="+30d")
    next((tmp_path / "store").rglob("tree.tar.zst")).write_bytes(b"x")
    system.run("verify", "--full", expect=1)
    assert system.good_points().get("plain", []) == []


def test_a_point_of_the_future_is_neither_latest_nor_what_prune_keeps_alone(
    system: System, tree: Path, tmp_path: Path
) -> None:
    retention = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "floor": 1}
    system.configure(plans=[{"name": "daily", "drill": "never", "retention": retention}])
    preload = next(Path("/usr/lib").rglob("libfaketime.so.1"))
    system.run("run", "daily", LD_PRELOAD=str(preload), FAKETIME="+365d")
    (tree / "new").write_text("written since")
    now = system.run("run", "daily", expect=3)["point"]
    assert system.run("restore", "--component", "app")["components"][0]["point"] == now
    system.run("prune", "--accept-time")
    assert system.good_points()["plain"] == [now]


def test_prune_check_reports_to_nobody(system: System, tmp_path: Path) -> None:
    told = tmp_path / "told"
    system.configure(plans=[{"name": "daily", "drill": "never", "failure_command": f"touch {told}"}])
    shutil.rmtree(tmp_path / "store")
    system.run("prune", "--check", expect=1)
    assert not told.exists()


def test_what_two_processes_find_out_at_once_is_all_kept(system: System) -> None:
    # Each waits between reading and writing, so that without a lock the two undo each other's writes.
    child = """
import sys, time
from dataclasses import replace
from restaura import catalogue
from restaura.host import Host
from restaura.paths import Paths
load = catalogue.load
def slow(host):
    found = load(host)
    time.sleep(0.02)
    return found
catalogue.load = slow
host = Host(Paths.from_environment())
store, = host.config.stores
stores = tuple(replace(store, name=f"{who}{n}") for who in "ab" for n in range(15))
host = Host(host.paths, replace(host.config, stores=stores))
for n in range(15):
    catalogue.put(host, f"{sys.argv[1]}{n}", [])
    with host.changing_state() as state:
        time.sleep(0.02)
        state[f"{sys.argv[1]}{n}"] = n
"""
    running = [subprocess.Popen([sys.executable, "-c", child, name], env=system.environment()) for name in "ab"]
    assert [one.wait(60) for one in running] == [0, 0]
    wanted = {f"{name}{n}" for name in "ab" for n in range(15)}
    state = system.root / "var/lib/restaura"
    assert wanted <= json.loads((state / "state.json").read_text()).keys()
    assert wanted <= json.loads((state / "catalogue.json").read_text())["stores"].keys()


def test_a_kit_that_knows_not_every_store_is_not_confirmed(system: System, tmp_path: Path) -> None:
    def unsafe() -> bool:
        return any("key" in one["what"] for one in system.run("status", expect=None)["unsafe"])

    system.run("run", "daily")
    kit = tmp_path / "web1.kit"
    kit.write_text(json.dumps(system.run("keys", "kit")))
    assert unsafe()
    system.run("keys", "confirm", "--kit", str(kit))
    assert not unsafe()
    more = {"name": "second", "type": "dated", "location": str(tmp_path / "second")}
    system.configure(stores=[*system.declaration["stores"], more])
    system.run("run", "daily")
    assert unsafe()
    error = system.run("keys", "confirm", "--kit", str(kit), expect=2)["error"]
    assert "second" in error["what"]
    assert "keys kit" in error["fix"]
    kit.write_text(json.dumps(system.run("keys", "kit")))
    system.run("keys", "confirm", "--kit", str(kit))
    assert not unsafe()


def test_old_logs_go(system: System) -> None:
    old = system.root / "var/log/restaura/2020-01-01.jsonl"
    old.touch()
    system.run("run", "daily")
    assert not old.exists()
