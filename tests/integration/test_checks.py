# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks where they run: in drills, after restores to live and beside it, by hand; and against hostile data."""

import http.server
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An application's data: a cache, a database in WAL mode, settings."""
    folder = tmp_path / "app"
    (folder / "cache").mkdir(parents=True)
    for name in ("hosts", "services"):
        (folder / f"cache/{name}.json").write_text(json.dumps({"entities": [name]}))
    (folder / "settings.ini").write_text("version = 7\n")
    with closing(sqlite3.connect(folder / "app.db")) as made:
        made.execute("PRAGMA journal_mode = wal")
        made.execute("CREATE TABLE t (n INTEGER)")
        made.execute("INSERT INTO t VALUES (1)")
        made.commit()
    return folder


def protected(app: Path, place: Path, *checks: dict[str, Any]) -> System:
    """Return a host that keeps the application, with these checks, and has one point of it."""
    one = System(place / "host")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store")}],
        plans=[{"name": "daily"}],
        components={"files": [{"name": "app", "paths": [str(app)], "checks": list(checks)}]},
    )
    one.run("run", "daily")
    return one


def good(app: Path) -> list[dict[str, Any]]:
    return [
        {"name": "cache", "json": {"path": f"{app}/cache/*.json", "keys": ["entities"]}},
        {"name": "history", "sqlite": {"path": f"{app}/app.db"}},
        {"name": "settings", "file": {"path": f"{app}/settings.ini", "matches": "^version = [0-9]+$"}},
        {"name": "command", "command": f'test "$(wc -l < "$RESTAURA_TARGET{app}/settings.ini")" = 1'},
    ]


def results(row: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["result"] for one in row["checks"]}


def test_a_drill_judges_what_it_restored_and_the_proof_says_so(app: Path, tmp_path: Path) -> None:
    system = protected(app, tmp_path, *good(app))
    # What lives now is not what a drill judges.
    (app / "cache/hosts.json").write_text("{")
    (app / "app.db").write_bytes(b"none")
    answer = system.run("drill")
    assert results(answer["results"][0]) == dict.fromkeys(("cache", "history", "settings", "command"), "passed")
    assert "4 passed" in answer["text"]
    records = [json.loads(one.read_text()) for one in (tmp_path / "store").rglob("*drill*.json")]
    assert json.dumps(records).count('"passed"') == 4, records
    assert system.leftovers() == []


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("cache", {"json": {"path": "/cache/*.json", "keys": ["costs"]}}),
        ("history", {"sqlite": {"path": "/settings.ini"}}),
        ("settings", {"file": {"path": "/settings.ini", "contains": "debug"}}),
        ("command", {"command": "exit 9"}),
    ],
)
def test_a_failing_check_disproves_and_a_restore_tells_and_says_how_to_go_back(
    app: Path, tmp_path: Path, name: str, check: dict[str, Any]
) -> None:
    ((kind, options),) = check.items()
    placed = options if kind == "command" else {**options, "path": f"{app}{options['path']}"}
    system = protected(app, tmp_path, *good(app)[:1], {"name": f"bad-{name}", kind: placed})
    drilled = system.run("drill", expect=6)
    assert (drilled["results"][0]["verdict"], results(drilled["results"][0])[f"bad-{name}"]) == ("disproven", "failed")
    assert f"check bad-{name} failed" in drilled["text"]
    assert "1 passed, 1 failed" in drilled["text"]
    point = drilled["results"][0]["point"]
    (app / "settings.ini").write_text("written since\n")
    restored = system.run("restore", "--component", "app", "--point", point, "--yes", expect=6)
    assert f"app: check bad-{name} failed" in restored["text"]
    assert any(f"check bad-{name} failed" in one for one in restored["problems"])
    assert results(restored["restored"][0]) == {"cache": "passed", f"bad-{name}": "failed"}
    # It was restored all the same, and can be swapped back.
    assert (app / "settings.ini").read_text() == "version = 7\n"
    assert restored["undo"] in restored["text"]
    system.run("undo", restored["id"])
    assert (app / "settings.ini").read_text() == "written since\n"


def test_what_needs_the_live_system_is_asked_there_only(app: Path, tmp_path: Path) -> None:
    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((app / "settings.ini").read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_port}/"
        system = protected(
            app,
            tmp_path,
            {"name": "answers", "http": {"url": url, "contains": "version = 7"}, "timeout": 30},
            {"name": "network", "command": f"test -d {app}/cache", "live_only": True},
        )
        apart = {"answers": "not run", "network": "not run"}
        assert results(system.run("drill")["results"][0]) == apart
        aside = system.run("restore", "--component", "app", "--to", f"dir:{tmp_path}/look", "--yes")
        assert results(aside["restored"][0]) == apart
        (app / "settings.ini").write_text("version = 8\n")
        wrong = system.run("check", expect=6)
        assert wrong["problems"] == [f"app: check answers failed: {url}: answered without 'version = 7'"]
        live = system.run("restore", "--component", "app", "--yes")
        assert results(live["restored"][0]) == {"answers": "passed", "network": "passed"}
        assert system.run("check")["problems"] == []
        service.shutdown()
    assert "no answer" in system.run("check", "--component", "app", expect=None)["problems"][0]
    assert "one of: app" in system.run("check", "--component", "ap", expect=2)["error"]["fix"]


def test_who_interrupts_the_checks_of_a_restore_is_told_that_it_was_restored(app: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = {"name": "slow", "command": f"touch {begun}; sleep 200", "live_only": True}
    system = protected(app, tmp_path, slow)
    (app / "settings.ini").write_text("written since\n")
    running = system.start("restore", "--component", "app", "--yes")
    while not begun.exists() and running.poll() is None:
        time.sleep(0.05)
    running.terminate()
    told = json.loads(running.communicate()[0])
    assert (running.returncode, told["problems"][0]) == (6, "app: check slow failed: interrupted")
    system.run("undo", told["id"])
    assert (app / "settings.ini").read_text() == "written since\n"


def test_restored_beside_or_in_part_is_judged_where_that_makes_sense(app: Path, tmp_path: Path) -> None:
    system = protected(app, tmp_path, *good(app))
    whole = system.run("restore", "--to", f"dir:{tmp_path}/whole", "--yes")
    assert set(results(whole["restored"][0]).values()) == {"passed"}
    # Looking leaves nothing beside a database.
    assert not list((tmp_path / "whole").rglob("app.db?*"))
    part = system.run("restore", "--path", f"{app}/cache", "--to", f"dir:{tmp_path}/part", "--yes")
    assert set(results(part["restored"][0]).values()) == {"not run"}
    (app / "cache/hosts.json").unlink()
    live = system.run("restore", "--path", f"{app}/cache", "--yes")
    assert set(results(live["restored"][0]).values()) == {"passed"}


def test_a_link_leads_where_it_leads_on_the_live_host_and_never_out(app: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"entities": ["of this host"]}')
    (app / "cache/current.json").symlink_to(app / "cache/hosts.json")
    (app / "cache/above.json").symlink_to("../cache/services.json")
    inside = {"name": "inside", "json": {"path": f"{app}/cache/*.json"}}
    system = protected(app, tmp_path, inside)
    assert results(system.run("drill")["results"][0]) == {"inside": "passed"}
    for number, target in enumerate((str(outside), os.path.relpath(outside, app / "cache"), "/etc/hostname")):
        (app / "cache/out").unlink(missing_ok=True)
        (app / "cache/out").symlink_to(target)
        out = {"name": "out", "file": {"path": f"{app}/cache/out"}}
        other = protected(app, tmp_path / str(number), out)
        assert other.run("check")["checks"][0]["result"] == "passed"
        drilled = other.run("drill", expect=6)
        assert "No such file" in drilled["results"][0]["checks"][0]["why"]
    (app / "cache/out").unlink()
    (app / "cache/out").symlink_to(outside.parent)
    other = protected(app, tmp_path / "through", {"name": "out", "json": {"path": f"{app}/cache/out/*.json"}})
    assert "nothing matches" in other.run("drill", expect=6)["results"][0]["checks"][0]["why"]


def test_a_declaration_with_two_kinds_in_one_check_is_refused_and_nothing_changes(app: Path, tmp_path: Path) -> None:
    system = protected(app, tmp_path, *good(app))
    before = (system.root / "etc/restaura/config.json").read_bytes()
    check = {"name": "both", "command": "true", "file": {"path": f"{app}/settings.ini"}}
    told = system.configure(components={"files": [{"name": "app", "paths": [str(app)], "checks": [check]}]}, expect=2)
    assert "checks['both']: must have exactly one of" in told["error"]["what"]
    assert (system.root / "etc/restaura/config.json").read_bytes() == before
