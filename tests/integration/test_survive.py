# SPDX-License-Identifier: GPL-3.0-or-later
"""What the whole program does when things go wrong: exit code, message, and what is left behind."""

import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System, make_tree, protecting, tree_digest

PHASES = ["recover", "lock", "preflight", "prepare", "freeze", "copy", "seal", "verify", "prune"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "srv/app")


@pytest.fixture
def system(tmp_path: Path, tree: Path) -> System:
    return protecting(tree, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def component(answer: dict[str, Any], store: str = "plain") -> dict[str, Any]:
    return next(one for one in answer["components"] if one["store"] == store)


def wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


# -- killed --------------------


@pytest.mark.parametrize("phase", [*PHASES, "pause"])
def test_a_killed_run_is_taken_back_by_its_watcher(system: System, tmp_path: Path, phase: str) -> None:
    trace = tmp_path / "trace"
    pause = {"command": f"echo pause >> {trace}", "resume": f"echo resume >> {trace}"}
    system.configure(plans=[{"name": "daily", "pause": pause}])
    if phase in ("recover", "pause"):
        # There is no watcher yet, or no debt yet: the next run does it.
        system.killed("run", "daily", at=phase)
        system.run("recover")
    else:
        system.killed("run", "daily", at=phase)
        system.settled()
    assert system.leftovers() == []
    if trace.exists():
        assert trace.read_text().split()[-1] == "resume"
    found = system.good_points()
    assert len(found.get("plain", [])) == (1 if phase in ("verify", "prune") else 0)
    assert len(list((tmp_path / "store").rglob("manifest.json"))) == len(found.get("plain", []))
    if not found:
        assert list((tmp_path / "store").rglob("*.zst")) == []
    assert system.run("run", "daily")["components"][0]["good"]


@pytest.mark.parametrize("phase", ["copy", "seal"])
def test_what_both_dead_run_and_dead_watcher_left_the_next_run_takes_back(
    system: System, tmp_path: Path, phase: str
) -> None:
    system.killed("run", "daily", at=phase, who="run and watcher")
    time.sleep(1)
    assert system.leftovers() != []
    assert system.good_points() == {}
    problems = [one["what"] for one in system.run("status", expect=3)["problems"]]
    assert any("not taken back" in one for one in problems)
    assert system.run("run", "daily")["exit"] == 0
    assert system.leftovers() == []
    assert len(list((tmp_path / "store").rglob("manifest.json"))) == 1


def test_a_killed_watcher_changes_nothing(system: System) -> None:
    system.killed("run", "daily", at="copy", who="watcher")
    assert system.leftovers() == []
    assert len(system.good_points()["plain"]) == 1


def test_sigterm_ends_a_run_cleanly(system: System, tmp_path: Path) -> None:
    pause = {"command": f"touch {tmp_path}/held; sleep 60", "resume": f"touch {tmp_path}/resumed"}
    system.configure(plans=[{"name": "daily", "pause": pause}])
    run = system.start("run", "daily")
    wait_for(tmp_path / "held")
    run.terminate()
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "interrupted" in json.loads(out)["error"]["what"]
    assert (tmp_path / "resumed").exists()
    assert system.leftovers() == []


@pytest.mark.parametrize("phase", ["stage", "swap", "swapped"])
def test_a_restore_killed_half_way_leaves_the_old_data_and_runs_again(system: System, tree: Path, phase: str) -> None:
    system.run("run", "daily")
    wanted = tree_digest(tree)
    (tree / "sub/file 2").write_text("changed since")
    changed = tree_digest(tree)
    system.killed("restore", "--component", "app", "--yes", at=phase)
    system.settled()
    assert tree_digest(tree) == changed
    assert sorted(one.name for one in tree.parent.iterdir()) == [tree.name]
    answer = system.run("restore", "--component", "app", "--yes")
    assert tree_digest(tree) == wanted
    system.run("undo", answer["id"])
    assert tree_digest(tree) == changed


def test_a_restore_killed_once_all_is_swapped_is_finished_and_not_taken_back(system: System, tree: Path) -> None:
    system.run("run", "daily")
    (tree / "sub/file 2").write_text("changed since")
    changed = tree_digest(tree)
    system.killed("restore", "--component", "app", "--yes", at="committed", who="run and watcher")
    (tree / "written").write_text("after the restore, before the recovery")
    system.run("recover")
    assert system.leftovers() == []
    assert (tree / "written").read_text() == "after the restore, before the recovery"
    assert (tree / "sub/file 2").read_bytes() != b"changed since"
    system.run("undo", system.run("undo")["restores"][0]["id"])
    assert tree_digest(tree) == changed


# -- locks --------------------


def test_a_second_run_says_that_it_is_locked_and_with_wait_it_waits(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    held = f"touch {tmp_path}/held; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    system.configure(plans=[{"name": "daily", "pause": {"command": held, "resume": "true"}}])
    first = system.start("run", "daily")
    wait_for(tmp_path / "held")
    assert "is held by process" in system.run("run", "daily", expect=4)["error"]["what"]
    assert system.run("restore", "--component", "app", "--yes", expect=4)["error"]["where"] == "lock"
    second = system.start("run", "daily", "--wait", "60")
    (tmp_path / "go").touch()
    for one in (first, second):
        one.communicate(timeout=120)
    assert [first.returncode, second.returncode] == [0, 0]
    assert len(system.good_points()["plain"]) == 3


def test_two_runs_in_one_second_make_two_points(system: System, tmp_path: Path) -> None:
    two = [system.start("run", "daily", "--wait", "60") for _ in range(2)]
    for one in two:
        one.communicate(timeout=120)
    assert [one.returncode for one in two] == [0, 0]
    assert len(system.good_points()["plain"]) == 2
    labels = {one.parent.name for one in (tmp_path / "store").rglob("manifest.json")}
    assert len(labels) == 2


# -- stores --------------------


def test_one_full_store_of_two_is_exit_3_and_the_other_is_good(system: System, tree: Path, small_disk: Path) -> None:
    (tree / "large").write_bytes(os.urandom(12_000_000))
    well = system.declaration["stores"][0]
    system.configure(stores=[{"name": "full", "type": "dated", "location": str(small_disk / "store")}, well])
    answer = system.run("run", "daily", expect=3)
    assert not component(answer, "full")["good"]
    assert "fit" in component(answer, "full")["error"] or "space" in component(answer, "full")["error"].lower()
    assert component(answer, "plain")["good"]
    assert system.leftovers() == []
    assert [one for one in small_disk.rglob("*") if one.is_file() and one.stat().st_size > 100_000] == []


def test_the_only_store_full_is_exit_1_and_leaves_no_point(system: System, tree: Path, small_disk: Path) -> None:
    (tree / "large").write_bytes(os.urandom(12_000_000))
    system.configure(stores=[{"name": "full", "type": "dated", "location": str(small_disk / "store")}])
    assert system.run("run", "daily", expect=1)["point"] is None
    assert system.good_points() == {}
    assert system.leftovers() == []


def test_a_store_that_is_gone_is_never_made_by_a_run(system: System, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store")
    answer = system.run("run", "daily", expect=1)
    assert "plain" in answer["error"]["what"] + answer["error"]["where"]
    assert not (tmp_path / "store").exists()


def test_a_wrong_key_is_refused(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    (tmp_path / "host/etc/restaura/keys/manifest.key").write_text("00" * 32)
    answer = system.run("run", "daily", expect=1)
    assert "key" in answer["error"]["what"]


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["tree.tar.zst", "manifest.json"])
def test_a_flipped_bit_is_found_refused_and_read_from_the_other_store(
    system: System, tree: Path, tmp_path: Path, pattern: str
) -> None:
    first = system.declaration["stores"][0]
    second = {"name": "second", "type": "dated", "location": str(tmp_path / "second")}
    system.configure(stores=[first, second])
    point = system.run("run", "daily")["point"]
    wanted = tree_digest(tree)
    damaged(next((tmp_path / "store").rglob(pattern)))
    answer = system.run("verify", "--plan", "daily", "--full", expect=1)
    problems = {one["store"]: one["problems"] for one in answer["stores"]}
    assert problems["plain"]
    assert not problems["second"]
    assert point not in system.good_points().get("plain", [])
    shutil.rmtree(tree)
    back = system.run("restore", "--component", "app", "--yes")
    assert back["restored"][0]["from"] == "second"
    assert tree_digest(tree) == wanted


def test_with_one_store_a_flipped_bit_is_refused_and_nothing_is_touched(
    system: System, tree: Path, tmp_path: Path
) -> None:
    point = system.run("run", "daily")["point"]
    damaged(next((tmp_path / "store").rglob("tree.tar.zst")))
    before = tree_digest(tree)
    answer = system.run("restore", "--component", "app", "--point", point, "--yes", expect=1)
    assert answer["error"]["what"]
    assert tree_digest(tree) == before
    assert system.leftovers() == []
    assert system.run("drill", expect=6)["results"][0]["verdict"] == "disproven"
    assert system.run("restore", "--component", "app", "--yes", expect=5)["error"]["what"].startswith("no point")


def test_a_manifest_forged_by_somebody_who_can_write_the_store_is_no_point(system: System, tmp_path: Path) -> None:
    point = system.run("run", "daily")["point"]
    manifest = next((tmp_path / "store").rglob("manifest.json"))
    data = json.loads(manifest.read_text())
    data["components"][0]["artifacts"][0]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(data))
    assert system.good_points() == {}
    assert point in system.run("list", "--refresh")["damaged"]["plain"]
    assert (
        "signature" in system.run("restore", "--point", point, "--component", "app", "--yes", expect=1)["error"]["what"]
    )
    assert "PROBLEM" not in json.dumps(system.run("prune", expect=1)["results"][0]["deleted"])


# -- hosts and clocks --------------------


def test_a_rebuilt_host_of_the_same_name_is_refused_until_it_adopts(system: System, tmp_path: Path, tree: Path) -> None:
    system.run("run", "daily")
    kit = tmp_path / "web1.kit"
    kit.write_text(json.dumps(system.run("keys", "kit")))
    rebuilt = System(tmp_path / "rebuilt", dict(system.declaration))
    answer = rebuilt.configure(expect=1)
    assert answer["error"]["fix"]
    shutil.rmtree(tmp_path / "rebuilt/etc/restaura/keys")
    rebuilt.run("keys", "restore", "--kit", str(kit))
    assert "adopt" in rebuilt.configure(expect=1)["error"]["fix"]
    assert "adopt" in json.dumps(rebuilt.run("run", "daily", expect=1)["error"])
    assert rebuilt.run("restore", "--component", "app")["components"][0]["component"] == "app"
    rebuilt.run("adopt", "plain", "--yes")
    rebuilt.configure()
    assert rebuilt.run("run", "daily")["exit"] == 0
    assert "adopt" in json.dumps(system.run("run", "daily", expect=1)["error"])


def test_a_clock_that_was_a_year_ahead_keeps_prune_from_deleting(system: System, tmp_path: Path) -> None:
    retention = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "floor": 1}
    system.configure(plans=[{"name": "daily", "retention": retention}])
    preload = next(Path("/usr/lib").rglob("libfaketime.so.1"))
    ahead = {"LD_PRELOAD": str(preload), "FAKETIME": "+365d"}
    system.run("run", "daily", **ahead)
    answer = system.run("run", "daily", expect=3)
    assert "future" in answer["problems"][0]
    assert len(system.good_points()["plain"]) == 2
    assert "future" in system.run("prune", expect=1)["results"][0]["error"]
    system.run("prune", "--accept-time")
    assert len(system.good_points()["plain"]) == 1


# -- restores --------------------


def test_data_that_a_process_holds_open_is_not_swapped(system: System, tree: Path) -> None:
    system.run("run", "daily")
    with (tree / "sub/file 3").open("ab"):
        answer = system.run("restore", "--component", "app", "--yes", expect=2)
        assert str(os.getpid()) in answer["error"]["what"]
    assert system.leftovers() == []
    assert sorted(one.name for one in tree.parent.iterdir()) == [tree.name]


def test_a_restore_can_be_undone_and_the_copy_discarded(system: System, tree: Path) -> None:
    system.run("run", "daily")
    wanted = tree_digest(tree)
    shutil.rmtree(tree / "sub")
    lost = tree_digest(tree)
    answer = system.run("restore", "--component", "app", "--yes")
    assert tree_digest(tree) == wanted
    kept = [one.name for one in tree.parent.iterdir() if one != tree]
    assert len(kept) == 1
    assert system.run("run", "daily")["components"][0]["bytes"] < 2 * 20 * 20_000
    system.run("undo", answer["id"])
    assert tree_digest(tree) == lost
    system.run("undo", answer["id"], "--discard")
    assert [one.name for one in tree.parent.iterdir()] == [tree.name]
    assert system.run("undo")["restores"] == []


def test_a_restore_of_a_catalog_point_does_not_claim_equal_content(system: System) -> None:
    system.configure(plans=[{"name": "daily", "fingerprint": "catalog", "drill": "never"}])
    system.run("run", "daily")
    compared = system.run("restore", "--component", "app", "--yes")["restored"][0]["compared"]
    assert "content, not compared" in compared
    system.configure(plans=[{"name": "daily"}])
    system.run("run", "daily")
    assert system.run("restore", "--component", "app", "--yes")["restored"][0]["compared"] == "equal"


def test_a_restore_of_everything_puts_the_system_aside(system: System, tree: Path) -> None:
    system.configure(
        components={"files": [{"name": "system", "paths": ["/etc"]}, {"name": "app", "paths": [str(tree)]}]}
    )
    system.run("run", "daily")
    wanted = tree_digest(tree)
    shutil.rmtree(tree)
    answer = system.run("restore", "--yes")
    assert tree_digest(tree) == wanted
    aside = next(system.root.glob("var/lib/restaura/restored/*/system"))
    assert (aside / "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert str(aside) in " ".join(answer["notes"])
    assert "never" in system.run("restore", "--component", "system", "--yes", expect=2)["error"]["what"]
    assert system.leftovers() == []


def test_a_machine_with_only_store_and_kit_restores(system: System, tree: Path, tmp_path: Path) -> None:
    system.run("run", "daily")
    wanted = tree_digest(tree)
    kit = tmp_path / "web1.kit"
    kit.write_text(json.dumps(system.run("keys", "kit")))
    shutil.rmtree(system.root)
    shutil.rmtree(tree)
    moved = tmp_path / "elsewhere"
    (tmp_path / "store").rename(moved)
    bare = System(tmp_path / "bare")
    arguments = ["--store", str(moved), "--kit", str(kit), "--host", "web1"]
    assert bare.run("restore", *arguments)["components"][0]["component"] == "app"
    assert not tree.exists()
    bare.run("restore", *arguments, "--yes")
    assert tree_digest(tree) == wanted
    assert bare.leftovers() == []
    assert not (tmp_path / "bare/etc").exists()


# -- telling --------------------


def test_a_failure_is_told_and_a_success_is_not(system: System, tmp_path: Path, tree: Path) -> None:
    told = tmp_path / "told"
    command = f'echo "$RESTAURA_PLAN $RESTAURA_ACTION $RESTAURA_EXIT" >> {told}'
    system.configure(plans=[{"name": "daily", "failure_command": command}])
    system.run("run", "daily")
    assert not told.exists()
    shutil.rmtree(tree)
    system.run("run", "daily", expect=1)
    assert told.read_text() == "daily run 1\n"
    metrics = (tmp_path / "host/var/lib/restaura/restaura.prom").read_text()
    assert 'restaura_last_exit_code{plan="daily",action="run"} 1' in metrics


def test_the_heartbeat_beats_after_a_good_run_alone_and_its_silence_fails_none(system: System, tree: Path) -> None:
    beats: list[str] = []

    class Monitor(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            beats.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Monitor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        secret = f"http://127.0.0.1:{server.server_port}/ping/s3cret"
        system.configure(plans=[{"name": "daily", "heartbeat_url": secret}])
        system.run("run", "daily")
        shutil.move(tree, tree.with_name("away"))
        system.run("run", "daily", expect=1)
        shutil.move(tree.with_name("away"), tree)
        server.shutdown()
        thread.join()
    assert beats == ["/ping/s3cret"]
    assert system.run("run", "daily")["exit"] == 0
    logs = "".join(one.read_text() for one in system.root.glob("var/log/restaura/*.jsonl"))
    assert "heartbeat failed" in logs
    assert "s3cret" not in logs + (system.root / "etc/restaura/config.json").read_text()


def test_the_catalogue_is_rebuilt_from_the_stores(system: System, tmp_path: Path) -> None:
    point = system.run("run", "daily")["point"]
    (tmp_path / "host/var/lib/restaura/catalogue.json").unlink()
    assert [one["point"] for one in system.run("list")["points"]] == [point]


def test_a_component_that_shrank_waits_for_a_person(system: System, tree: Path) -> None:
    system.run("run", "daily")
    for number in range(15):
        (tree / f"sub/file {number}").unlink(missing_ok=True)
    point = system.run("run", "daily", expect=3)["point"]
    assert len(system.good_points()["plain"]) == 1
    assert system.run("restore", "--component", "app")["components"][0]["point"] != point
    system.run("accept", point, "app")
    assert system.run("restore", "--component", "app")["components"][0]["point"] == point


@pytest.mark.parametrize(
    ("section", "value", "said"),
    [
        ("components", {"files": [{"name": "../x", "paths": ["/etc"]}]}, "'../x' is no name"),
        ("components", {"files": [{"name": "$(id)", "paths": ["/etc"]}]}, "is no name"),
        ("components", {"files": [{"name": "app", "pahts": ["/etc"]}]}, "did you mean 'paths'"),
        ("components", {"files": [{"name": "app", "paths": ["relative"]}]}, "relative"),
        ("plans", [{"name": "daily", "schedule": "sometimes"}], "schedule"),
        ("plans", [{"name": "daily", "stores": ["plian"]}], "did you mean 'plain'"),
        ("stores", [{"name": "a\nb", "location": "/x"}], "is no name"),
    ],
)
def test_a_mistake_in_the_declaration_is_exit_2_and_changes_nothing(
    system: System, section: str, value: Any, said: str
) -> None:
    before = tree_digest(system.root)
    answer = system.configure(expect=2, **{section: value})
    assert said in answer["error"]["what"]
    assert tree_digest(system.root) == before
