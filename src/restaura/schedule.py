# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules: what a setting such as `daily` or `sun 03:30` means to cron, when it comes next, and the cron file.

Times are the host's own, as cron's are. Around a change of the clock this follows Debian's cron(8): a job with a fixed
time that falls into the hour that is skipped runs right after it, and one in the hour that comes twice runs once; jobs
whose minute or hour begins with `*` just follow the clock.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from restaura.config.schema import SCHEDULE, Config, Plan

PROGRAM = "/usr/local/bin/restaura"
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
NIGHT = range(1, 6)
WAIT = 3600
GRACE = timedelta(hours=1)
LONGEST_DAYS = 8 * 366  # 29 February: eight years pass without one around 1900 and 2100.
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Cron:
    """Five parsed cron fields. `floating`: minute or hour begins with `*`, so the job follows the clock (cron(8))."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    floating: bool
    either_day: bool

    def on(self, day: date) -> bool:
        """Whether the job runs on this date. When day of month and of week are both given, either will do (cron)."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either_day else of_month and of_week)

    def slots(self, day: date, zone: tzinfo) -> list[datetime]:
        """Return the UTC times at which the job starts on a local date, in order."""
        if not self.on(day):
            return []
        walls = [datetime.combine(day, time(h, m), zone) for h in self.hours for m in self.minutes]
        return sorted({slot for wall in walls for slot in self._instants(wall, zone)})

    def _instants(self, wall: datetime, zone: tzinfo) -> Iterator[datetime]:
        first, second = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
        exists = first.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None)
        if exists:
            yield first
            if self.floating and second > first:
                yield second
        elif not self.floating:
            # The skipped hour: walk back to the minute in which the clock was changed.
            while (first - MINUTE).astimezone(zone).utcoffset() == first.astimezone(zone).utcoffset():
                first -= MINUTE
            yield first


def seed(config: Config, plan: Plan, verb: str = "run") -> str:
    """Return what the drawn times of a plan's `run`, `drill` or `verify` depend on: the same on every setup."""
    return f"{config.settings.host}/{plan.name}/{verb}"


def cron_fields(schedule: str, seed: str) -> str:
    """Return the five cron fields of a schedule, or an empty text for `never`; ValueError says what is wrong with it.

    `hourly`, `daily`, `weekly` and `monthly` get minute, hour (1 to 5 at night), weekday and day (1 to 28) from `seed`.
    """
    if not re.fullmatch(SCHEDULE, schedule):
        raise ValueError(f"{schedule!r} is no schedule")
    drawn = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big")
    drawn, minute = divmod(drawn, 60)
    drawn, hour = divmod(drawn, len(NIGHT))
    clock = f"{minute} {NIGHT[hour]}"
    words = {
        "never": "",
        "hourly": f"{minute} * * * *",
        "daily": f"{clock} * * *",
        "weekly": f"{clock} * * {drawn % 7}",
        "monthly": f"{clock} {drawn % 28 + 1} * *",
    }
    if schedule in words:
        return words[schedule]
    if ":" in schedule:
        day, _, at = schedule.rpartition(" ")
        return f"{int(at[3:])} {int(at[:2])} * * {WEEKDAYS.index(day) if day else '*'}"
    parse(schedule)
    return schedule


def parse(fields: str) -> Cron:
    """Parse five cron fields of numbers; ValueError names the field that cron would refuse (with the whole file)."""
    texts = fields.split()
    minutes, hours, days, months, weekdays = (_field(text, *rule) for text, rule in zip(texts, FIELDS, strict=True))
    stars = [text.startswith("*") for text in texts]
    cron = Cron(
        minutes,
        hours,
        days,
        months,
        weekdays=frozenset(day % 7 for day in weekdays),
        floating=stars[0] or stars[1],
        either_day=not (stars[2] or stars[4]),
    )
    start = date(2000, 1, 1)
    if not any(cron.on(start + timedelta(days=n)) for n in range(LONGEST_DAYS)):
        raise ValueError(f"{fields!r}: this date never comes")
    return cron


def _field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if match is None or (match[4] and not match[1] and match[3] is None):
            raise ValueError(f"{name}: {part!r} is not a number, a range or `*`, with a step after the latter two")
        first = low if match[1] else int(match[2])
        last = high if match[1] else int(match[3] or match[2])
        step = int(match[4] or 1)
        if not (low <= first <= last <= high and step):
            raise ValueError(f"{name}: {part!r} is not within {low}-{high}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def next_run(schedule: str, now: datetime, seed: str, zone: tzinfo | None = None) -> datetime | None:
    """Return the first start after `now` (aware) in the host's time, or None for `never`."""
    return _nearest(schedule, now, seed, zone, 1)


def previous_run(schedule: str, now: datetime, seed: str, zone: tzinfo | None = None) -> datetime | None:
    """Return the last start at or before `now` (aware) in the host's time, or None for `never`."""
    return _nearest(schedule, now, seed, zone, -1)


def _nearest(schedule: str, now: datetime, seed: str, zone: tzinfo | None, step: int) -> datetime | None:
    fields = cron_fields(schedule, seed)
    if not fields:
        return None
    zone = zone or local_timezone()
    cron, today = parse(fields), now.astimezone(zone).date()
    for distance in range(-1, LONGEST_DAYS):
        slots = cron.slots(today + timedelta(days=step * distance), zone)
        for slot in slots[::step]:
            if slot > now if step > 0 else slot <= now:
                return slot.astimezone(zone)
    return None


def overdue(schedule: str, last_success: datetime | None, now: datetime, seed: str, zone: tzinfo | None = None) -> bool:
    """Whether a start that lies more than an hour back was missed: no success began at or after it.

    `last_success` is when the newest successful run began (aware), None when there was none. The hour leaves cron's
    own line its time.
    """
    due = previous_run(schedule, now.astimezone(UTC) - GRACE, seed, zone)
    return due is not None and (last_success is None or last_success < due)


def local_timezone(root: Path = Path("/")) -> tzinfo:
    """Return the host's time zone, which is cron's, with its rules: `/etc/localtime`, or UTC where there is none."""
    try:
        with (root / "etc/localtime").open("rb") as stream:
            return ZoneInfo.from_file(stream)
    except (OSError, ValueError):
        return UTC


def plan_timezone(plan: Plan) -> tzinfo:
    """Return the time zone of a plan's labels and retention: its own, or the host's."""
    return ZoneInfo(plan.timezone) if plan.timezone else local_timezone()


def cron_file(config: Config) -> str:
    """Return the text of `/etc/cron.d/restaura` (crontab(5); names of plans hold no `%`, which cron would cut at).

    MAILTO is left to the host: nothing is printed when all is well, so mail to root means that something is not.
    """
    # Not `&&`: what cannot be taken back must not keep a missed run from being made up for.
    catch_up = f"{PROGRAM} recover; {PROGRAM} run --catch-up"
    hourly = cron_fields("hourly", config.settings.host)
    lines = [
        "# Managed by Restaura: what is edited here by hand is put back by setup_backup.yml.",
        "SHELL=/bin/sh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "",
        "# What was missed or left half done while the host was off.",
        f"@reboot root sleep 60; {catch_up}",
        f"{hourly} root {catch_up}",
    ]
    for plan in config.plans:
        verbs = {
            "run": (plan.schedule, f"run {plan.name} --wait {WAIT}"),
            "drill": (plan.drill, f"drill --plan {plan.name} --wait {WAIT}"),
            "verify": (plan.verify, f"verify --plan {plan.name} --wait {WAIT}"),
        }
        lines += ["", f"# Plan {plan.name}"]
        for verb, (schedule, arguments) in verbs.items():
            fields = cron_fields(schedule, seed(config, plan, verb))
            lines += [f"{fields} root {PROGRAM} {arguments}"] if fields else []
    return "\n".join(lines) + "\n"
