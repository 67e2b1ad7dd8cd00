# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention: what is wanted, what may never go, and which points years of daily runs leave behind."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaura.config.schema import Retention
from restaura.point import Record, started_at
from restaura.retention import PrunePlan, plan_prune
from restaura.standing import is_good, standing
from restaura.stores import StoredPoint
from tests.points import make_point

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOTHING = Retention(keep_last=0, keep_daily=0, keep_weekly=0, keep_monthly=0, floor=1)


def prune(points, rule=NOTHING, *, now=NOW, components=("app",), zone=UTC, **more) -> PrunePlan:
    return plan_prune(points, rule, host="web1", plan="daily", components=components, now=now, zone=zone, **more)


def series(count, step=DAY, states="complete", newest=NOW - timedelta(hours=1), **more) -> list[StoredPoint]:
    """Points a step apart, oldest first."""
    return [make_point(newest - step * n, {"app": states}, **more) for n in reversed(range(count))]


def ages(points, plan: PrunePlan) -> list[int]:
    """How many days old the points that stay are, youngest first."""
    kept = [one for one in points if one.id in plan.keep]
    return sorted((NOW.date() - started_at(one.id).date()).days for one in kept)


# -- the rules, one by one ----------------------------------------------------------------------------------------


def test_keep_last_counts_good_points():
    points = series(10)
    plan = prune(points, replace(NOTHING, keep_last=4))
    assert ages(points, plan) == [0, 1, 2, 3]
    assert sorted(plan.delete) == [one.id for one in points[:6]]
    assert plan.refused == ""


def test_keep_within_is_measured_from_now():
    points = series(10)
    assert ages(points, prune(points, replace(NOTHING, keep_within="3d"))) == [0, 1, 2]
    assert ages(points, prune(points, replace(NOTHING, keep_within="73h"))) == [0, 1, 2, 3]
    assert ages(points, prune(points, replace(NOTHING, keep_within="99999999999999y"))) == list(range(10))


def test_daily_weekly_monthly_keep_the_newest_of_each():
    points = series(200, timedelta(hours=12))
    plan = prune(points, replace(NOTHING, keep_daily=3, keep_weekly=3, keep_monthly=3))
    # 21 November 2026 is a Saturday: weeks end on the 15th and the 8th, months on 31 October and 30 September.
    assert ages(points, plan) == [0, 1, 2, 6, 13, 21, 52]
    assert all(started_at(one).hour == 23 for one in plan.keep if one != points[-1].id)


def test_days_are_those_of_the_plans_time_zone():
    evening, night = datetime(2026, 11, 20, 22, tzinfo=UTC), datetime(2026, 11, 21, 2, tzinfo=UTC)
    points = [make_point(evening, {"app": "complete"}), make_point(night, {"app": "complete"})]
    rule = replace(NOTHING, keep_daily=2)
    assert prune(points, rule).delete == []
    assert prune(points, rule, zone=ZoneInfo("America/Sao_Paulo")).delete == [points[0].id]


def test_the_floor_holds_against_every_other_rule():
    points = series(10)
    assert ages(points, prune(points, replace(NOTHING, floor=3))) == [0, 1, 2]
    assert ages(points, prune(points, replace(NOTHING, floor=0))) == [0]


def test_the_newest_proven_point_stays_however_old():
    points = series(30)
    points[4] = make_point(started_at(points[4].id), {"app": "complete"}, [("drill", {"app": "proven"})])
    points[2] = make_point(started_at(points[2].id), {"app": "complete"}, [("drill", {"app": "proven"})])
    assert ages(points, prune(points)) == [0, 25]


@pytest.mark.parametrize("state", ["suspect", "torn"])
def test_bad_points_evict_nothing_and_go_when_enough_good_ones_are_newer(state):
    good, bad = series(5, newest=NOW - 10 * DAY), series(8, states=state)
    plan = prune([*good, *bad], replace(NOTHING, keep_last=2))
    assert ages([*good, *bad], plan) == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]
    newer = [make_point(NOW - timedelta(minutes=n), {"app": "complete"}) for n in (1, 2)]
    later = prune([*good, *bad, *newer], replace(NOTHING, keep_last=2))
    assert sorted(later.keep) == sorted(one.id for one in newer)


def test_a_disproven_point_is_no_good_point():
    points = series(3)
    points[-1] = make_point(started_at(points[-1].id), {"app": "complete"}, [("drill", {"app": "disproven"})])
    assert ages(points, prune(points)) == [0, 1]


def test_an_accepted_suspect_counts_as_good():
    points = series(3)
    points[-1] = make_point(started_at(points[-1].id), {"app": "suspect"}, [("accept", {"app": "accepted"})])
    assert ages(points, prune(points)) == [0]


def test_torn_counts_as_good_when_its_component_accepted_it():
    config = {"components": {"files": [{"name": "app", "accept_torn": True}]}}
    points = series(3, states="torn", config=config)
    assert ages(points, prune(points)) == [0]
    other = {"components": {"files": [{"name": "app", "accept_torn": False}]}}
    assert ages(points, prune(series(3, states="torn", config=other))) == [0, 1, 2]


def test_a_record_copied_from_another_point_is_not_believed():
    points = series(3)
    stolen = Record(points[0].id, "drill", NOW.isoformat(), {"app": "disproven"})
    points[-1] = replace(points[-1], records=(stolen,))
    assert ages(points, prune(points)) == [0]


def test_a_point_stays_while_any_component_in_it_is_wanted():
    old = make_point(NOW - 9 * DAY, {"app": "complete", "db": "complete"})
    newer = [make_point(NOW - n * DAY, {"app": "complete", "db": "failed"}) for n in (3, 2, 1)]
    plan = prune([old, *newer], components=("app", "db"))
    assert plan.delete == [newer[0].id, newer[1].id]
    assert [reason for reason in plan.keep[old.id] if reason.startswith("app")] == []


def test_points_in_which_everything_failed_go_but_not_the_one_just_sealed():
    points = [*series(2), *series(2, states="failed", newest=NOW)]
    assert prune(points, replace(NOTHING, floor=2)).delete == sorted(one.id for one in points[2:])
    assert prune(points, replace(NOTHING, floor=2), just_sealed=points[-1].id).delete == [points[2].id]


# -- orphans ------------------------------------------------------------------------------------------------------


def test_an_orphan_never_ages_and_is_reported():
    rule = replace(NOTHING, keep_last=1, keep_within="5d")
    both = [make_point(NOW - n * DAY, {"app": "complete", "gone": "complete"}) for n in (402, 399, 398, 395)]
    ours = series(400)
    plan = prune([*both, *ours], rule)
    assert plan.orphaned == ["gone"]
    # As on the day it was last taken, 395 days ago: three points were within 5 days then.
    assert set(plan.delete) & {one.id for one in both} == {both[0].id}


def test_points_of_orphans_alone_are_never_deleted():
    gone = [make_point(NOW - n * DAY, {"gone": "complete", "app": "failed"}) for n in range(100, 130)]
    plan = prune([*gone, *series(5)])
    assert {one.id for one in gone} <= set(plan.keep)
    assert len(plan.delete) == 4


# -- what a deletion must be sure of ------------------------------------------------------------------------------


def refused(points, rule=NOTHING, **more) -> str:
    plan = prune(points, rule, **more)
    assert plan.delete == []
    assert set(plan.keep) == {one.id for one in points if one.manifest and one.host == "web1"}
    return plan.refused


def test_a_listing_that_lacks_the_point_just_sealed_deletes_nothing():
    points = series(10)
    assert "lacks" in refused(points[:-1], just_sealed=points[-1].id)
    assert refused_not(points, just_sealed=points[-1].id)


def refused_not(points, rule=NOTHING, **more) -> bool:
    plan = prune(points, rule, **more)
    return plan.refused == "" and bool(plan.delete)


def test_a_damaged_manifest_of_this_host_blocks_the_store():
    points = series(10)
    broken = make_point(NOW - 5 * DAY, {}, suffix="000000000b", damage="signature does not hold")
    assert broken.id in refused([*points, broken])
    assert "damaged" in refused([*points, replace(broken, plan="weekly")])
    assert refused_not([*points, replace(broken, host="web2")])


def test_a_manifest_under_another_points_id_blocks_the_store():
    points = series(10)
    points[3] = replace(points[3], manifest=points[4].manifest)
    assert "another point" in prune(points).refused
    assert prune(points).delete == []


def test_a_point_listed_twice_blocks_the_store():
    points = series(10)
    assert "twice" in prune([*points, points[4]]).refused
    assert prune([*points, points[4]]).delete == []


def test_nothing_goes_while_a_point_lies_in_the_future():
    points = [*series(10), make_point(NOW + timedelta(hours=2), {"app": "complete"})]
    assert "future" in refused(points)
    assert prune(points).doubtful == [points[-1].id]
    assert refused_not(points, accept_time=True)
    near = [*series(10), make_point(NOW + timedelta(minutes=50), {"app": "complete"})]
    assert refused_not(near)


def test_a_clock_set_back_a_year_deletes_nothing():
    points = series(30)
    past = make_point(NOW - 365 * DAY, {"app": "complete"})
    assert "future" in refused([past, *points], now=NOW - 365 * DAY, just_sealed=past.id)


def test_a_clock_set_forward_a_year_deletes_nothing():
    rule = replace(NOTHING, keep_within="60d", keep_last=3)
    then = NOW + 365 * DAY
    points = [*series(60), make_point(then, {"app": "complete"})]
    plan = prune(points, rule, now=then, just_sealed=points[-1].id)
    assert plan.delete == []
    assert "without a good point before" in plan.refused
    assert plan.doubtful == [points[-1].id]
    assert prune(points[:-1], rule, now=then).refused != ""
    assert prune(points, replace(rule, keep_last=1), now=then, just_sealed=points[-1].id).refused != ""
    assert len(prune(points, rule, now=then, just_sealed=points[-1].id, accept_time=True).delete) == 58


def test_accepted_time_is_remembered_beside_the_point():
    points = [*series(10), make_point(NOW + timedelta(hours=2), {"app": "complete"})]
    accepted = Record(points[-1].id, "accept", NOW.isoformat(), {}, {"time": "accepted"})
    points[-1] = replace(points[-1], records=(accepted,))
    assert refused_not(points)
    points[-1] = replace(points[-1], records=(replace(accepted, point=points[0].id),))
    assert "future" in refused(points)


@pytest.mark.parametrize("step", [7, 31, 92])
def test_a_plan_that_rarely_runs_is_no_jump(step):
    points = series(12, step * DAY)
    assert refused_not(points, replace(NOTHING, keep_last=3), just_sealed=points[-1].id)


def test_old_points_that_retention_left_far_apart_are_no_jump():
    points = series(10)
    proven = make_point(NOW - 300 * DAY, {"app": "complete"}, [("drill", {"app": "proven"})])
    assert refused_not([proven, *points], replace(NOTHING, keep_last=3), just_sealed=points[-1].id)


def test_points_of_another_host_or_plan_are_neither_counted_nor_deleted():
    ours = series(3)
    others = [*series(9, host="web2", suffix="000000000a"), *series(9, plan="weekly", suffix="000000000b")]
    forged = replace(make_point(NOW, {"app": "complete"}, suffix="000000000c", host="web2"), host="web1")
    plan = prune([*ours, *others, forged])
    assert {*plan.keep, *plan.delete} == {one.id for one in ours}
    assert plan.delete == [ours[0].id, ours[1].id]


# -- properties ---------------------------------------------------------------------------------------------------

STATES = st.sampled_from(["complete", "complete", "complete", "torn", "suspect", "failed"])
RECORDS = st.lists(
    st.sampled_from(
        [
            ("drill", {"app": "proven"}),
            ("drill", {"app": "disproven"}),
            ("drill", {"db": "proven"}),
            ("verify", {"app": "disproven"}),
            ("verify", {"app": "verified", "db": "verified"}),
            ("accept", {"app": "accepted"}),
        ]
    ),
    max_size=3,
)
RULES = st.builds(
    Retention,
    keep_last=st.integers(0, 4),
    keep_within=st.sampled_from(["", "12h", "3d", "2w", "1m"]),
    keep_daily=st.integers(0, 5),
    keep_weekly=st.integers(0, 3),
    keep_monthly=st.integers(0, 3),
    floor=st.integers(1, 3),
)


@st.composite
def listings(draw) -> list[StoredPoint]:
    """Points at distinct hours of the last three months, of up to three components."""
    hours = draw(st.lists(st.integers(1, 90 * 24), unique=True, max_size=25))
    points = []
    for hour in sorted(hours, reverse=True):
        names = draw(st.sets(st.sampled_from(["app", "db", "gone"]), min_size=1))
        states = {name: draw(STATES) for name in sorted(names)}
        points.append(make_point(NOW - timedelta(hours=hour), states, draw(RECORDS)))
    return points


def apply(points, rule, **more) -> list[StoredPoint]:
    gone = set(prune(points, rule, components=("app", "db"), accept_time=True, **more).delete)
    return [one for one in points if one.id not in gone]


def goods(points, name) -> list[str]:
    return [one.id for one in points if is_good(one, name)]


@given(listings(), RULES)
def test_what_may_never_go(points, rule):
    left = apply(points, rule)
    for name in ("app", "db"):
        before, after = goods(points, name), goods(left, name)
        assert len(after) >= min(rule.floor, len(before))
        assert after[-1:] == before[-1:]
        assert (
            after[len(after) - min(rule.keep_last, len(before)) :]
            == before[len(before) - min(rule.keep_last, len(before)) :]
        )
        proven = [
            one.id for one in points if (s := standing(one, name)) and s.proof == "proven" and s.state != "failed"
        ]
        assert set(proven[-1:]) <= {one.id for one in left}
    alone = [one.id for one in points if {c.name for c in one.manifest.components if c.state != "failed"} == {"gone"}]
    assert set(alone) <= {one.id for one in left}


@given(listings(), RULES)
def test_every_point_is_kept_for_a_reason_or_deleted(points, rule):
    plan = prune(points, rule, components=("app", "db"), accept_time=True)
    assert set(plan.keep).isdisjoint(plan.delete)
    assert {*plan.keep, *plan.delete} == {one.id for one in points}
    assert all(plan.keep.values())


@given(listings(), RULES)
def test_pruning_twice_is_pruning_once(points, rule):
    left = apply(points, rule)
    assert apply(left, rule) == left


@given(listings(), RULES, st.sampled_from(["torn", "suspect", "failed"]), st.integers(1, 90 * 24 * 60))
def test_a_point_that_is_not_good_never_costs_another(points, rule, state, minutes):
    newcomer = make_point(NOW - timedelta(minutes=minutes), {"app": state}, suffix="ffffffffff")
    before = {one.id for one in apply(points, rule)}
    after = {one.id for one in apply([*points, newcomer], rule)}
    assert before <= after


@given(listings(), RULES, st.sampled_from(["complete", "torn", "suspect", "failed"]))
def test_a_point_older_than_all_never_costs_another(points, rule, state):
    newcomer = make_point(NOW - 91 * DAY, {"app": state, "db": "complete"})
    before = {one.id for one in apply(points, rule)}
    assert before <= {one.id for one in apply([newcomer, *points], rule)}


@given(listings(), RULES)
def test_the_newest_days_weeks_and_months_stay_covered(points, rule):
    left = {one.id for one in apply(points, rule)}
    for name in ("app", "db"):
        for form, count in (("%Y-%m-%d", rule.keep_daily), ("%G-%V", rule.keep_weekly), ("%Y-%m", rule.keep_monthly)):
            newest = {f"{started_at(one):{form}}": one for one in goods(points, name)}
            assert {newest[key] for key in sorted(newest, reverse=True)[:count]} <= left


@given(listings(), RULES, st.randoms())
def test_the_order_of_the_listing_does_not_matter(points, rule, shuffle: random.Random):
    shuffled = list(points)
    shuffle.shuffle(shuffled)
    assert prune(shuffled, rule) == prune(points, rule)


@given(listings(), RULES, st.integers(2, 24 * 400))
def test_a_clock_that_was_set_back_never_deletes(points, rule, hours):
    if points:
        now = started_at(points[-1].id) - timedelta(hours=hours)
        assert prune(points, rule, now=now).delete == []


# -- simulated years ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"])
def test_five_years_of_daily_runs(zone):
    """Daily at 02:30 local, 1 of 12 runs not good, weeks missed, drills on Sundays: what every day leaves behind."""
    chance, local = random.Random(7), ZoneInfo(zone)
    rule = Retention()
    points: list[StoredPoint] = []
    day = datetime(2021, 1, 1, tzinfo=UTC).date()
    missed = 0
    for number in range(5 * 365):
        missed = chance.randint(5, 20) if not missed and chance.random() < 0.005 else max(0, missed - 1)
        if missed:
            continue
        at = datetime.combine(day + number * DAY, datetime.min.time(), local).replace(hour=2, minute=30).astimezone(UTC)
        state = "complete" if chance.random() > 1 / 12 else chance.choice(["failed", "torn", "suspect"])
        drill = [("drill", {"app": "proven"})] if at.weekday() == 6 and state == "complete" else []
        points.append(make_point(at, {"app": state}, drill))
        plan = prune(points, rule, now=at + timedelta(minutes=5), zone=local, just_sealed=points[-1].id)
        assert plan.refused == ""
        points = [one for one in points if one.id not in plan.delete]
        good = [one for one in points if is_good(one, "app")]
        assert len(good) <= rule.keep_last + rule.keep_daily + rule.keep_weekly + rule.keep_monthly + 2
        if number > 60:
            assert len(good) >= rule.keep_daily
    times = [started_at(one.id).astimezone(local) for one in points if is_good(one, "app")]
    assert len({(at.year, at.month) for at in times}) == rule.keep_monthly
    assert len({at.isocalendar()[:2] for at in times}) >= rule.keep_weekly
    assert len({at.date() for at in times}) >= rule.keep_daily
    assert (at - times[0]).days >= 150
    assert len(points) < 25


def test_a_year_in_which_everything_is_suspect_loses_nothing():
    good = series(10, newest=NOW - 366 * DAY)
    left = list(good)
    for number in range(365):
        at = NOW - (365 - number) * DAY
        left.append(make_point(at, {"app": "suspect"}))
        plan = prune(left, Retention(), now=at, just_sealed=left[-1].id)
        left = [one for one in left if one.id not in plan.delete]
    assert set(goods(left, "app")) >= {one.id for one in good[-7:]}
    assert len(left) >= 365 + 7
