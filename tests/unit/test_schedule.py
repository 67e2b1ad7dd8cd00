# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules: cron fields, the next start through changes of the clock, what is overdue, and the cron file."""

import itertools
import re
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaura import schedule
from restaura.config.schema import Config, Plan, Settings
from restaura.schedule import cron_fields, next_run, overdue, previous_run

BERLIN = ZoneInfo("Europe/Berlin")
NAMES = st.text("abcdefgh-._0123456789", min_size=1, max_size=20)


def at(text: str, zone=BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


# -- fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("never", ""),
        ("23:00", "0 23 * * *"),
        ("05:07", "7 5 * * *"),
        ("sun 03:30", "30 3 * * 0"),
        ("mon 00:00", "0 0 * * 1"),
        ("sat 12:05", "5 12 * * 6"),
        ("*/5 3-4 1,15 * 1", "*/5 3-4 1,15 * 1"),
        ("0 0 29 2 *", "0 0 29 2 *"),
    ],
)
def test_exact_schedules_are_exact_for_everybody(text, fields):
    assert cron_fields(text, "web1/daily/run") == cron_fields(text, "other") == fields


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("hourly", r"[0-9]+ \* \* \* \*"),
        ("daily", r"[0-9]+ [1-5] \* \* \*"),
        ("weekly", r"[0-9]+ [1-5] \* \* [0-6]"),
        ("monthly", r"[0-9]+ [1-5] [0-9]+ \* \*"),
    ],
)
def test_words_are_drawn_from_the_seed(word, form):
    drawn = [cron_fields(word, f"host{n}/daily/run") for n in range(200)]
    assert drawn == [cron_fields(word, f"host{n}/daily/run") for n in range(200)]
    assert all(re.fullmatch(form, one) for one in drawn)
    assert all(int(one.split()[0]) < 60 for one in drawn)
    assert len({one.split()[0] for one in drawn}) > 50
    if word == "monthly":
        assert {int(one.split()[2]) for one in drawn} == set(range(1, 29))


def test_a_drawn_time_stays_what_it_is():
    # Other hosts' crons were written with this draw: another algorithm would move every backup of every host.
    assert cron_fields("daily", "web1/daily/run") == "46 1 * * *"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("60 0 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month"),
        ("0 0 1 13 *", "month"),
        ("0 0 * * 8", "day of week"),
        ("5-1 0 * * *", "minute"),
        ("*/0 0 * * *", "minute"),
        ("5/2 0 * * *", "minute"),
        ("--- 0 * * *", "minute"),
        ("0 , * * *", "hour"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 * *", "no schedule"),
        ("24:00", "no schedule"),
        ("sundays 03:00", "no schedule"),
        ("@daily", "no schedule"),
        ("0 0 * * *\n* * * * * root id", "no schedule"),
        ("", "no schedule"),
    ],
)
def test_what_cron_would_refuse_is_refused(text, names):
    with pytest.raises(ValueError, match=names):
        cron_fields(text, "seed")


# -- next and previous --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "now", "then"),
    [
        ("23:00", "2026-05-10T22:59", "2026-05-10T23:00"),
        ("23:00", "2026-05-10T23:00", "2026-05-11T23:00"),
        ("sun 03:30", "2026-11-21T12:00", "2026-11-22T03:30"),
        ("0 4 31 * *", "2026-09-01T00:00", "2026-10-31T04:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("15,45 * * * *", "2026-01-01T00:20", "2026-01-01T00:45"),
        ("0 0 * * 7", "2026-11-21T12:00", "2026-11-22T00:00"),
        # Both days given: either will do. One of them begins with `*`: both must hold.
        ("0 0 13 * 5", "2026-11-21T12:00", "2026-11-27T00:00"),
        ("0 0 13 * 5", "2026-12-12T12:00", "2026-12-13T00:00"),
        ("0 0 */2 * 1", "2026-11-21T12:00", "2026-11-23T00:00"),
        ("0 0 */2 * 1", "2026-11-23T12:00", "2026-12-07T00:00"),
    ],
)
def test_next_run(text, now, then):
    assert next_run(text, at(now), "", BERLIN) == at(then)


def test_a_time_that_the_clock_skips_runs_right_after():
    assert next_run("02:30", at("2026-03-28T12:00"), "", BERLIN) == at("2026-03-29T03:00")
    assert next_run("02:30", at("2026-03-29T03:00"), "", BERLIN) == at("2026-03-30T02:30")


def test_a_time_that_comes_twice_runs_once():
    first = next_run("02:30", at("2026-10-24T12:00"), "", BERLIN)
    assert first.astimezone(UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_run("02:30", first, "", BERLIN) == at("2026-10-26T02:30")


def test_a_job_that_follows_the_clock_skips_and_repeats_with_it():
    def starts(now, count):
        found = [at(now).astimezone(UTC)]
        for _ in range(count):
            found.append(next_run("*/30 * * * *", found[-1], "", BERLIN).astimezone(UTC))
        return found

    for found in (starts("2026-03-29T00:30", 8), starts("2026-10-25T00:30", 8)):
        assert {later - earlier for earlier, later in itertools.pairwise(found)} == {timedelta(minutes=30)}
    # Fixed hours behind a floating minute: the hour that comes twice is twice as busy.
    night = list(schedule.parse("*/30 2 * * *").slots(date(2026, 10, 25), BERLIN))
    assert len(night) == 4
    assert schedule.parse("*/30 2 * * *").slots(date(2026, 3, 29), BERLIN) == []


def test_midnight_that_does_not_exist():
    # Sao Paulo went from 23:59 to 01:00 on 4 November 2018.
    zone = ZoneInfo("America/Sao_Paulo")
    found = next_run("00:15", datetime(2018, 11, 3, 12, tzinfo=zone), "", zone)
    assert found.isoformat() == "2018-11-04T01:00:00-02:00"
    assert previous_run("00:15", found, "", zone) == found


TEXTS = st.sampled_from(
    [
        "hourly",
        "daily",
        "weekly",
        "monthly",
        "23:00",
        "02:30",
        "sun 02:30",
        "*/20 * * * *",
        "0 2 1,15 * 3",
        "5 0-4 * * *",
    ]
)


@given(
    TEXTS,
    st.integers(1_420_000_000, 2_050_000_000),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
    NAMES,
)
def test_next_and_previous_are_neighbours(text, moment, zone_name, seed):
    zone, now = ZoneInfo(zone_name), datetime.fromtimestamp(moment, UTC)
    after, before = next_run(text, now, seed, zone), previous_run(text, now, seed, zone)
    assert before <= now < after
    assert previous_run(text, after, seed, zone) == after
    assert previous_run(text, after.astimezone(UTC) - timedelta(seconds=1), seed, zone) == before
    assert next_run(text, before, seed, zone) == after


def test_never_is_never():
    now = datetime.now(UTC)
    assert next_run("never", now, "x") is None
    assert previous_run("never", now, "x") is None
    assert not overdue("never", None, now, "x")


# -- overdue ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        ("2026-05-10T23:00", "2026-05-11T22:00", False),
        ("2026-05-10T23:00", "2026-05-11T23:30", False),
        ("2026-05-10T23:00", "2026-05-12T00:01", True),
        ("2026-05-11T23:00", "2026-05-12T00:01", False),
        ("2026-05-11T12:00", "2026-05-12T00:01", True),
        ("2026-05-12T00:30", "2026-05-12T01:00", False),
        # 03:30 on the day that has no 02:00 is half an hour after 01:59.
        ("2026-03-28T01:59", "2026-03-29T03:30", False),
        ("2026-03-28T01:59", "2026-03-29T04:00", True),
    ],
)
def test_overdue(last, now, expected):
    text = "01:59" if last.endswith("01:59") else "23:00"
    assert overdue(text, at(last), at(now), "", BERLIN) is expected


def test_a_plan_that_never_ran_is_overdue():
    assert overdue("monthly", None, at("2026-05-12T00:01"), "", BERLIN)


# -- the host's zone ----------------------------------------------------------------------------------------------


def test_the_hosts_time_zone_has_rules(tmp_path):
    (tmp_path / "etc").mkdir()
    shutil.copy("/usr/share/zoneinfo/Europe/Berlin", tmp_path / "etc/localtime")
    zone = schedule.local_timezone(tmp_path)
    offsets = [datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    assert offsets == [timedelta(hours=1), timedelta(hours=2)]


@pytest.mark.parametrize("content", [None, b"", b"no time zone"])
def test_a_host_without_a_readable_zone_keeps_utc(tmp_path, content):
    (tmp_path / "etc").mkdir()
    if content is not None:
        (tmp_path / "etc/localtime").write_bytes(content)
    assert schedule.local_timezone(tmp_path) is UTC


def test_a_plans_own_zone_comes_first():
    assert schedule.plan_timezone(Plan(name="p", timezone="Europe/Berlin")) == BERLIN


# -- the cron file ------------------------------------------------------------------------------------------------

PLANS = (
    Plan(name="daily"),
    Plan(name="weekly", schedule="sun 03:30", drill="never", verify="never"),
    Plan(name="off", schedule="never", drill="never", verify="never"),
)
CONFIG = Config(Settings(host="web1"), plans=PLANS)
LINE = re.compile(r"(@reboot|(?:\S+ ){4}\S+) root (.+)")


def jobs(config: Config = CONFIG) -> list[tuple[str, str]]:
    lines = schedule.cron_file(config).splitlines()
    found = [LINE.fullmatch(one) for one in lines if one and not one.startswith("#") and not re.match(r"[A-Z]+=", one)]
    assert all(found)
    return [(one[1], one[2]) for one in found]


def test_the_cron_file_has_every_plans_jobs():
    program = "/usr/local/bin/restaura"
    found = dict.fromkeys(command for _, command in jobs())
    assert list(found) == [
        f"sleep 60; {program} recover; {program} run --catch-up",
        f"{program} recover; {program} run --catch-up",
        f"{program} run daily --wait 3600",
        f"{program} drill --plan daily --wait 3600",
        f"{program} verify --plan daily --wait 3600",
        f"{program} run weekly --wait 3600",
    ]
    times = {command: when for when, command in jobs()}
    assert times[f"{program} run weekly --wait 3600"] == "30 3 * * 0"
    assert times[f"sleep 60; {program} recover; {program} run --catch-up"] == "@reboot"


def test_the_cron_file_and_next_run_agree():
    plan = PLANS[0]
    for verb, text, command in (
        ("run", plan.schedule, "run daily"),
        ("drill", plan.drill, "drill"),
        ("verify", plan.verify, "verify"),
    ):
        when = next(when for when, one in jobs() if f"restaura {command}" in one and "daily" in one)
        expected = next_run(text, datetime(2026, 5, 1, tzinfo=UTC), schedule.seed(CONFIG, plan, verb), UTC)
        assert next_run(when, datetime(2026, 5, 1, tzinfo=UTC), "", UTC) == expected


def test_the_cron_file_is_what_cron_takes():
    text = schedule.cron_file(CONFIG)
    assert text.endswith("\n")
    assert "%" not in text
    assert max(map(len, text.splitlines())) < 998
    assert schedule.cron_file(CONFIG) == text
    assert "SHELL=/bin/sh\n" in text
    for when, _ in jobs():
        if when != "@reboot":
            schedule.parse(when)


def test_a_jobs_command_runs_in_an_empty_environment_and_keeps_the_exit_code(tmp_path):
    program = tmp_path / "restaura"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$1" = recover ] || exit 3\n')
    program.chmod(0o755)
    for _, command in jobs():
        line = command.replace("/usr/local/bin/restaura", str(program)).replace("sleep 60", "sleep 0")
        done = subprocess.run(["/usr/bin/env", "-i", "/bin/sh", "-c", line], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert (tmp_path / "calls").read_text().splitlines()[:3] == ["recover", "run --catch-up", "recover"]
