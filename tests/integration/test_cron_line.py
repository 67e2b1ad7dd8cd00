# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios' cron stand-in does with a line what the cron daemon does with it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "molecule/resources/cron_line.py"
CRONTAB = Path("/etc/cron.d/restaura-cron-line")
SEEN = Path("/var/tmp/restaura-cron-line")
LINE = (
    f"* * * * * root : run it; (env | sort; pwd; id; umask; date +\\%Y; cat) > {SEEN}.new; mv {SEEN}.new {SEEN}%one%two"
)


@pytest.fixture
def crontab() -> Iterator[Path]:
    # cron reads a file again when it changed, and runs it at the next full minute.
    CRONTAB.write_text(f'PATH=/usr/local/bin:/usr/bin:/bin\nMAILTO=""\n{LINE}\n', encoding="utf-8")
    yield CRONTAB
    CRONTAB.unlink()
    SEEN.unlink(missing_ok=True)


def waited(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while not SEEN.exists():
        assert time.monotonic() < deadline, "cron did not run the line"
        time.sleep(0.5)
    return SEEN.read_text(encoding="utf-8")


@pytest.mark.timeout(200)
@pytest.mark.debian12
def test_a_line_sees_what_it_sees_under_cron(crontab: Path) -> None:
    subprocess.run([sys.executable, TOOL, crontab], check=True, stdout=subprocess.DEVNULL)
    ours = SEEN.read_text(encoding="utf-8")
    assert ours.endswith("one\ntwo\n")
    SEEN.unlink()
    theirs = waited(130)
    # PAM gives cron the locale of /etc/default/locale; our line must not need it.
    kept = [line for line in theirs.splitlines() if not line.startswith(("LANG=", "LC_"))]
    assert ours.splitlines() == kept


def test_only_the_lines_of_the_plan_are_run(tmp_path: Path) -> None:
    crontab = tmp_path / "crontab"
    entries = (
        "5 3 * * * root restaura run daily",
        "5 4 * * 0 root restaura run weekly",
        "@reboot root restaura run daily",
    )
    crontab.write_text("\n".join(entry.replace("restaura", f"echo >> {tmp_path}/said") for entry in entries) + "\n")
    subprocess.run([sys.executable, TOOL, crontab, "weekly"], check=True)
    assert (tmp_path / "said").read_text() == "run weekly\n"
    subprocess.run([sys.executable, TOOL, crontab], check=True)
    assert (tmp_path / "said").read_text() == "run weekly\nrun daily\nrun weekly\n"


def test_a_failing_line_and_an_absent_one_are_failures(tmp_path: Path) -> None:
    crontab = tmp_path / "crontab"
    crontab.write_text("5 3 * * * root exit 3 # run\n6 3 * * * root true run\n")
    assert subprocess.run([sys.executable, TOOL, crontab], check=False).returncode == 3
    absent = subprocess.run([sys.executable, TOOL, crontab, "hourly"], capture_output=True, text=True, check=False)
    assert (absent.returncode, absent.stderr.strip()) == (1, f"{crontab} has no line that runs hourly")
