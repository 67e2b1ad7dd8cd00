# SPDX-License-Identifier: GPL-3.0-or-later
"""What setup says of files that somebody changed by hand, and of other schedules that start the program."""

from pathlib import Path

import pytest

from restaura import foreign, process
from restaura.errors import RestauraError
from restaura.owned import Changes, File, Remembered
from restaura.paths import Paths

SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("etc/cron.d/nightly", "0 4 * * * root /usr/local/sbin/backup_all.sh"),
        ("etc/cron.d/nightly", "0 4 * * * root cd / && backup_postgres.sh --wait 60"),
        ("etc/cron.daily/backup", "restaura run --all"),
        ("etc/systemd/system/nightly.service", "ExecStart=/usr/local/bin/restaura run daily"),
    ],
)
def test_what_else_starts_restaura_is_named(tmp_path: Path, name: str, line: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(f"# by hand\n{line}\n")
    (told,) = foreign.found(Paths(tmp_path))
    assert told.startswith(f"{path} starts restaura too ({line})")


@pytest.mark.parametrize("line", ["0 4 * * * root /opt/acme/backup_all.sh", "5 5 * * * root ls /srv/restaura"])
def test_scripts_of_others_are_not_restauras(tmp_path: Path, line: str) -> None:
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    (tmp_path / "etc/cron.d/acme").write_text(f"{line}\n")
    assert foreign.found(Paths(tmp_path)) == []


def test_a_secret_in_another_schedule_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    (tmp_path / "etc/cron.d/mine").write_text(f"1 1 * * * root RESTIC_PASSWORD={SECRET} restaura run daily\n")
    (told,) = foreign.found(Paths(tmp_path))
    assert "RESTIC_PASSWORD=" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    ("declared", "by_hand"),
    [
        ("SHELL=/bin/sh\n", f"SHELL=/bin/sh\nRESTIC_PASSWORD={SECRET}\n"),
        ("exec restaura\n", f"export AWS_SECRET_ACCESS_KEY='{SECRET}'\nexec restaura\n"),
        ('{"failure_command": "true"}', f'{{"failure_command": "curl -u ops:{SECRET} https://example.org"}}'),
    ],
)
def test_a_secret_that_was_written_by_hand_is_not_told(tmp_path: Path, declared: str, by_hand: str) -> None:
    path, changes = tmp_path / "file", Changes()
    path.write_text(by_hand)
    before = Remembered({"setup": {"files": {str(path): "another"}}})
    File(path, declared.encode(), 0o644).compare(changes, before)
    told = str(changes.rows)
    assert "changed by hand" in told
    assert SECRET not in told
    assert "***" in told


def test_a_program_that_may_not_be_executed_is_named_with_what_mends_it(tmp_path: Path) -> None:
    program = tmp_path / "age"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(RestauraError, match="may not be executed") as failed:
        process.run([str(program)])
    assert "setup_backup.yml" in failed.value.fix
