# SPDX-License-Identifier: GPL-3.0-or-later
"""Weeks of Analyst IA's own schedule pass on a false clock: which points are left, against what the seed's table says.

The program is the real one, started in a fork for each act; what must be left is computed here from the table alone.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from tests.integration.system import System

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = ROOT / "tests/applications/analyst_ia/backend"
HOME = Path("/srv/analyst_ia")
UNIT = Path("/etc/systemd/system/analyst_ia.service")
# A Monday at midnight, to which the simulated weeks lead up.
END = datetime(2026, 6, 29, tzinfo=UTC)

# Makes the application's data; then acts on demand, each in a child that has its own look at the clock.
MAKE = """
import json, sys
from pathlib import Path
sys.path.insert(0, "/srv/analyst_ia/backend")
from utils import settings, token_economy
root = Path("/srv/analyst_ia")
one = {"guid": "a", "name": "service", "metrics": [{"error_rate": 0.01}]}
settings.write(root / "backend/historico/entities_apm.json", {"timestamp": "", "domain": "APM", "entities": [one]})
settings.write(root / "backend/historico/cache.json", {"timestamp": "", "entities": {"APM": 1}})
history = token_economy.opened(root / "backend/historico/interactions.db")
token_economy.add(history, "Is it healthy?", "Yes", 100, 10)
settings.write(root / "relatorios/token_economy_2026-01-01.json", token_economy.economy(history))
history.close()
(root / "backend/logs/analyst_ia.log").write_text("collected\\n")
(root / "backend/.env").write_text("NEW_RELIC_API_KEY=a\\nOPENAI_API_KEY=b\\n")
"""
# libfaketime's lock is not made for a fork beside threads: the clock that the program reads is told in Python.
DRIVER = """
import datetime, json, os, sys, time
real, true, ahead = datetime.datetime, time.time, 0.0

class ToldTime(real):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(true() + ahead, tz)

datetime.datetime, time.time = ToldTime, lambda: true() + ahead
from restaura import cli
for line in sys.stdin:
    moment, arguments = json.loads(line)
    ahead = moment - true()
    child = os.fork()
    if not child:
        code = cli.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Clock:
    """Acts of one system at times that are told it."""

    system: System
    process: "subprocess.Popen[str]" = field(init=False)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.system.environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def act(self, at: datetime, *arguments: str) -> None:
        """Run a verb at a time; it must end well."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([at.timestamp(), arguments]) + "\n")
        self.process.stdin.flush()
        said = []
        while not (line := self.process.stdout.readline()).startswith("exit "):
            assert line, "the driver died"
            said.append(line)
        assert line == "exit 0\n", f"{at} {arguments}: {line} {said}"


@dataclass(frozen=True)
class Row:
    """A row of the schedule's table: on which days before END, at which hours, kept how long, never fewer than."""

    days: Sequence[int]
    hours: tuple[float, ...]
    kept: timedelta
    floor: int

    def times(self) -> Iterator[datetime]:
        """Yield when it runs, each time a little later than the time before, as cron does not promise the second."""
        for number, before in enumerate(self.days):
            for hour in self.hours:
                yield END - timedelta(days=before) + timedelta(hours=hour, seconds=3 * number + hour / 10)

    def left(self, times: list[datetime], proven: datetime) -> list[datetime]:
        """Return which of its points are left after the last of them was taken."""
        newest = times[::-1]
        wanted = [one for n, one in enumerate(newest) if times[-1] - one < self.kept or n < self.floor or one == proven]
        return wanted[::-1]


TABLE = {
    "full": Row(range(10, 0, -1), (23,), timedelta(days=7), 7),
    "cache": Row(range(4, 0, -1), (0, 6, 12, 18), timedelta(days=3), 4),
    # Of the month only both ends: no limit is near what lies between.
    "logs": Row([*range(33, 28, -1), *range(6, 0, -1)], (23 + 1 / 3,), timedelta(days=30), 7),
    # END is a Monday.
    "reports": Row(range(15 * 7 + 1, 0, -7), (23 + 2 / 3,), timedelta(days=90), 4),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: every act waits for the disk many times, and the disk is not what is looked at."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture
def system(place: Path) -> Iterator[System]:
    """Analyst IA's data, and its own inventory's components and plans; only the store is another."""
    shutil.rmtree(HOME, ignore_errors=True)
    shutil.copytree(APPLICATION, HOME / "backend", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("backend/historico", "backend/logs", "relatorios"):
        (HOME / folder).mkdir(parents=True)
    shutil.copy(APPLICATION.parent / UNIT.name, UNIT)
    subprocess.run([sys.executable, "-B", "-c", MAKE], check=True)
    declared = yaml.safe_load((ROOT / "inventories/analyst_ia/group_vars/all/backup.yml").read_text())
    plans = [
        {name: value for name, value in plan.items() if name not in ("heartbeat_url", "failure_command")}
        for plan in declared["backup_runtime_plans"]
    ]
    one = System(place / "host")
    one.configure(
        settings={"host": "analyst_ia", "reserve_bytes": 1_000_000, "contacts": declared["backup_runtime_contacts"]},
        stores=[{"name": "local", "type": "dated", "location": str(place / "store")}],
        plans=plans,
        components={"files": declared["backup_files_components"]},
    )
    yield one
    shutil.rmtree(HOME)
    UNIT.unlink()


def points(place: Path) -> dict[str, list[datetime]]:
    """Return when the points of each plan began, from the store's own folders."""
    found: dict[str, list[datetime]] = {}
    for manifest in (place / "store").rglob("manifest.json"):
        point: dict[str, Any] = json.loads(manifest.read_text())
        point = point.get("manifest", point)
        began = datetime.strptime(point["id"].split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        found.setdefault(point["plan"], []).append(began)
    return {plan: sorted(times) for plan, times in found.items()}


def near(found: list[datetime], wanted: list[datetime]) -> bool:
    """Whether points began when they should have, give or take how long a busy machine needs to begin."""
    apart = [abs(one - other) for one, other in zip(found, wanted, strict=False)]
    return len(found) == len(wanted) and max(apart) < timedelta(hours=1)


def test_each_row_of_the_schedule_keeps_its_points_as_long_as_it_says(system: System, place: Path) -> None:
    acts = sorted((at, plan) for plan, row in TABLE.items() for at in row.times())
    taken: dict[str, list[datetime]] = {plan: [] for plan in TABLE}
    proven: dict[str, datetime] = {}
    with Clock(system) as clock:
        for at, plan in acts:
            clock.act(at, "run", plan)
            taken[plan].append(at)
            # The first of each plan is proven, and for the cache, whose points go soonest, one of every day.
            if len(taken[plan]) == 1 or (plan == "cache" and at.hour == 0):
                clock.act(at + timedelta(minutes=5), "drill", "--plan", plan)
                proven[plan] = at
        left = points(place)
        wanted = {plan: row.left(taken[plan], proven[plan]) for plan, row in TABLE.items()}
        shown = {plan: [f"{one:%m-%d %H}" for one in times] for plan, times in left.items()}
        assert {plan for plan in TABLE if not near(left[plan], wanted[plan])} == set(), shown
        # What the table promises: 7 days, 3 days, 30 days, 90 days, and beside them the one that is proven.
        assert {plan: len(times) for plan, times in left.items()} == {"full": 8, "cache": 12, "logs": 9, "reports": 14}

        # Ten days off: of what is too old by then, the newest stay, as many as the floor says.
        back = END + timedelta(days=10, hours=9)
        for minute, (plan, row) in enumerate(TABLE.items()):
            clock.act(back + timedelta(minutes=minute), "run", plan)
            # Counted from what was left: a point that is gone does not come back.
            wanted[plan] = row.left([*wanted[plan], back + timedelta(minutes=minute)], proven[plan])
        left = points(place)
        shown = {plan: [f"{one:%m-%d %H}" for one in times] for plan, times in left.items()}
        assert {plan for plan in TABLE if not near(left[plan], wanted[plan])} == set(), shown
        assert {plan: len(times) for plan, times in left.items()} == {"full": 8, "cache": 5, "logs": 8, "reports": 14}
