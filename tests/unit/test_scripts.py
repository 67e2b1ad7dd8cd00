# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the administrator's path: each is one call of the program, and hands its exit code on."""

import re
import subprocess
from pathlib import Path

import pytest

from restaura import scripts
from restaura.cli import parser
from restaura.errors import ConfigError
from restaura.schedule import PROGRAM

TEXTS = scripts.texts()
REMOVE = Path(__file__).parents[2] / "roles/backup_runtime/tasks/remove.yml"


def test_there_are_the_four_that_are_promised() -> None:
    assert set(TEXTS) == {"backup_all.sh", "backup_postgres.sh", "backup_volumes.sh", "recover.sh"}


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_is_plain_shell_says_whose_it_is_and_how_to_use_it(name: str, tmp_path: Path) -> None:
    assert scripts.MARK in TEXTS[name].splitlines()[2]
    path = tmp_path / name
    path.write_text(TEXTS[name])
    for shell in ("sh", "bash", "dash"):
        subprocess.run([shell, "-n", path], check=True)
    for asked in ("-h", "--help"):
        told = subprocess.run(["dash", path, asked], capture_output=True, text=True, check=True)
        assert told.stdout.startswith(f"usage: {name}")
        assert told.stderr == ""


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_goes_when_the_program_goes(name: str) -> None:
    assert f"- /usr/local/sbin/{name}\n" in REMOVE.read_text()


def called(name: str, *arguments: str, code: int = 0, tmp_path: Path) -> list[str]:
    """Run a script against a program that writes down how it was called; the script must end with its exit code."""
    program, written = tmp_path / "program", tmp_path / "called"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {written}\nexit {code}\n')
    program.chmod(0o755)
    path = tmp_path / name
    path.write_text(TEXTS[name].replace(PROGRAM, str(program)))
    done = subprocess.run(["dash", path, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    return written.read_text().splitlines()


@pytest.mark.parametrize(
    ("script", "calls"),
    [
        ("backup_all.sh", "run --all"),
        ("backup_all.sh --check --wait 9", "run --all --check --wait 9"),
        ("backup_postgres.sh --drill", "run --source postgres --drill"),
        ("backup_volumes.sh", "run --source docker_volumes"),
        ("recover.sh", "list"),
        ("recover.sh list --plan nightly", "list --plan nightly"),
        ("recover.sh undo", "undo"),
        ("recover.sh undo latest", "undo latest"),
        ("recover.sh --all", "restore --ask"),
        ("recover.sh --all --date 2026-11-20", "restore --ask --date 2026-11-20"),
        ("recover.sh cache --date 2026-11-20 --yes", "restore --ask --component cache --date 2026-11-20 --yes"),
        ("recover.sh --component list", "restore --ask --component list"),
    ],
)
@pytest.mark.parametrize("code", [0, 3])
def test_a_script_is_one_call_that_the_program_takes(script: str, calls: str, code: int, tmp_path: Path) -> None:
    name, *arguments = script.split()
    assert called(name, *arguments, code=code, tmp_path=tmp_path) == calls.split()
    parser().parse_args(calls.split())


@pytest.mark.parametrize("options", [["--yes"], ["--date", "2026-11-20"], ["--to", "dir:/tmp/look"]])
def test_everything_is_restored_only_for_who_says_so(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "recover.sh"
    path.write_text(TEXTS["recover.sh"])
    done = subprocess.run(["dash", path, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name a component, or say --all" in done.stderr


def test_an_argument_stays_one_argument(tmp_path: Path) -> None:
    path = "/srv/a b/*; $(reboot)"
    assert called("recover.sh", "cache", "--path", path, tmp_path=tmp_path)[-2:] == ["--path", path]


@pytest.mark.parametrize("name", TEXTS)
def test_every_option_that_the_usage_names_is_one(name: str) -> None:
    verb = "restore" if name == "recover.sh" else "run"
    named = re.findall(r"^  (--[a-z]+)(?: ([A-Z-]+|dir:/PATH))?", TEXTS[name], re.MULTILINE)
    assert named
    values = {"SECONDS": "9", "YYYY-MM-DD": "2026-11-20", "TIME": "2026-11-21T10:00:00-03:00"}
    for option, value in named:
        parser().parse_args([verb, option, *([values.get(value, value)] if value else [])])


@pytest.mark.parametrize("given", ["today", "22/11/2026", "2026-11-31", "2026"])
@pytest.mark.parametrize("verb", ["restore", "drill"])
def test_what_is_no_date_is_a_mistake_and_no_missing_point(verb: str, given: str) -> None:
    with pytest.raises(ConfigError, match="no date, as in 2026-11-21"):
        parser().parse_args([verb, "--date", given])
    assert parser().parse_args([verb, "--date", "2026-11-21"]).date == "2026-11-21"
