# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person types: several plans at once, a look before a restore, a restore that asks, the last one undone."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.system import System

HELD = "as it was backed up\n"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    tree = tmp_path / "app"
    tree.mkdir()
    (tree / "file").write_text(HELD)
    return tree


@pytest.fixture
def one(tmp_path: Path, app: Path) -> System:
    """A host with two plans, one of which holds what never goes live as a whole."""
    one = System(tmp_path / "host")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(tmp_path / "store")}],
        plans=[
            {"name": "system", "components": ["system"], "schedule": "never"},
            {"name": "apps", "components": ["app"]},
        ],
        components={"files": [{"name": "system", "paths": ["/etc"]}, {"name": "app", "paths": [str(app)]}]},
    )
    return one


def asked(one: System, answer: str, *arguments: str) -> tuple[int, str]:
    """Run `restore --ask` with a terminal as its input; return its exit code and what it showed."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "restaura", "restore", "--ask", *arguments],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=one.environment(),
            check=False,
            timeout=120,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def test_a_script_of_somebody_else_is_kept(one: System) -> None:
    script = one.root / "usr/local/sbin/backup_all.sh"
    ours = script.read_text()
    script.write_text("#!/bin/sh\npg_dumpall > /srv/dump.sql\n")
    one.configure()
    kept = list(script.parent.glob("backup_all.sh.replaced-*"))
    assert [path.read_text() for path in kept] == ["#!/bin/sh\npg_dumpall > /srv/dump.sql\n"]
    assert script.read_text() == ours
    script.write_text(f"{ours}# edited\n")
    one.configure()
    assert (script.read_text(), list(script.parent.glob("backup_all.sh.*"))) == (ours, kept)


def test_every_plan_is_run_or_those_with_a_kind_of_source(one: System) -> None:
    for which in (("--all",), ("--source", "files", "--check")):
        answer = one.run("run", *which)
        assert [(row["plan"], row["changed"]) for row in answer["runs"]] == [("system", True), ("apps", True)]
    assert len(one.good_points()["plain"]) == 2
    refused = one.run("run", "--source", "docker_volumes", expect=2)["error"]
    assert "has a component of source 'docker_volumes': nothing was backed up" in refused["what"]
    assert "declared on this host: files" in refused["fix"]


def test_a_plan_that_fails_keeps_no_other_from_running_and_is_heard_of(one: System, app: Path) -> None:
    one.configure(
        components={"files": [{"name": "system", "paths": ["/nowhere"]}, {"name": "app", "paths": [str(app)]}]}
    )
    answer = one.run("run", "--all", expect=1)
    assert "/nowhere" in answer["text"]
    assert [row.get("point") is not None for row in answer["runs"]] == [False, True]


def test_a_host_without_plans_says_so(tmp_path: Path) -> None:
    bare = System(tmp_path / "host")
    bare.configure()
    assert "no plan" in bare.run("run", "--all", expect=2)["error"]["what"]


def test_a_look_says_what_is_covered_and_what_never_goes_live(one: System, app: Path) -> None:
    one.run("run", "--all")
    (app / "file").write_text("lost")
    aside = one.root / "var/lib/restaura/restored"
    told = one.run("restore")["text"]
    assert f"app: paths: {app}" in told
    assert f"system: /etc never goes live as a whole: it would be put below {aside}" in told
    named = one.run("restore", "--component", "system")["text"]
    assert "system: /etc never goes live as a whole: this would be refused" in named
    assert "never goes live" not in one.run("restore", "--component", "system", "--to", "dir:/tmp/look")["text"]
    assert (app / "file").read_text() == "lost"
    one.run("restore", "--yes")
    assert (app / "file").read_text() == HELD
    assert list(aside.glob("*/system/etc/hostname"))


def test_a_restore_that_asks_does_what_it_showed_or_nothing(one: System, app: Path) -> None:
    one.run("run", "apps")
    (app / "file").write_text("lost")
    assert "no terminal" in one.run("restore", "--ask", "--component", "app", expect=2)["error"]["what"]
    code, shown = asked(one, "y", "--component", "app")
    assert (code, (app / "file").read_text()) == (2, "lost")
    assert f"paths: {app}" in shown
    assert "not confirmed; nothing was changed" in shown
    assert asked(one, "yes", "--component", "app")[0] == 0
    assert (app / "file").read_text() == HELD


def test_the_last_restore_that_is_live_is_undone(one: System, app: Path) -> None:
    one.run("run", "apps")
    one.run("undo", "latest", expect=5)
    for lost in ("lost once", "lost twice"):
        (app / "file").write_text(lost)
        one.run("restore", "--component", "app", "--yes")
    for before in ("lost twice", "lost once"):
        one.run("undo", "latest")
        assert (app / "file").read_text() == before
    one.run("undo", "latest", expect=5)


def test_who_stops_reading_hears_no_more(one: System) -> None:
    point = one.run("run", "apps")["point"]
    for arguments, code in ((("show", point), 141), (("show", "nothing", "--json"), 5), (("status",), 3)):
        end, pipe = os.pipe()
        os.close(end)
        shown = [sys.executable, "-m", "restaura", *arguments]
        done = subprocess.run(shown, stdout=pipe, stderr=subprocess.PIPE, env=one.environment(), check=False)
        os.close(pipe)
        assert (done.returncode, done.stderr) == (code, b"")


def test_an_answer_that_nothing_takes_is_an_error(one: System) -> None:
    with Path("/dev/full").open("wb") as full:
        shown = [sys.executable, "-m", "restaura", "list"]
        done = subprocess.run(shown, stdout=full, stderr=subprocess.PIPE, env=one.environment(), check=False)
    assert (done.returncode, done.stderr) == (
        1,
        b"restaura: the answer could not be written: No space left on device\n",
    )
