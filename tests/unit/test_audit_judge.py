# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement, without a host: what protects what, ages, sizes, places, and what another backup makes up for."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Any

import pytest

from restaura.audit import texts
from restaura.audit.judge import METHODS, Seen, judge
from restaura.audit.model import Audit, Copy, Evidence, Holder, Protection, Take
from restaura.audit.protections import Found

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = 86400
POSTGRES = Holder("postgres:17/main", "postgres", "17/main", True, ("/var/lib/postgresql/17/main",))
VOLUME = Holder(
    "docker_volume:shop_data",
    "docker_volume",
    "shop_data",
    True,
    ("/v/shop_data/_data",),
    volumes=("shop_data",),
    project="shop",
)
TREE = Holder("tree:/srv/app", "tree", "/srv/app", False, ("/srv/app",))
FOUND_RECOVERY = {"documents": (Evidence("file", "/R"),), "scripts": (Evidence("file", "/r.sh"),)}


def copies(*days: float, size: int = 10_000, where: str = "/b/all-{}.sql", **more: Any) -> tuple[Copy, ...]:
    """Copies that are so many days old, newest first."""
    return tuple(
        Copy(
            where.format(f"{NOW - timedelta(days=one):%Y%m%d}"),
            (NOW - timedelta(days=one)).isoformat(timespec="seconds"),
            size,
            **more,
        )
        for one in days
    )


DUMP = Protection(
    "cron:/etc/cron.d/b:1",
    "cron",
    "b",
    "0 2 * * *",
    DAY,
    uses=("pg_dumpall",),
    takes=(Take("postgres"),),
    writes=("/b/all-*.sql",),
    copies=copies(0.4, 1.4, 2.4),
    off_host=True,
    encrypted=False,
    restore_tried="scheduled",
    loud=True,
    evidence=(Evidence("file", "/etc/cron.d/b", 1),),
)
FILES = replace(DUMP, id="cron:files", uses=("tar",), takes=(Take("path", "/srv"), Take("docker_volume")))


def audit(
    holders: Iterable[Holder],
    *protections: Protection,
    unreadable: tuple[Evidence, ...] = (),
    disks: Any = None,
    **found: Any,
) -> Audit:
    all_found = Found(protections, **{**FOUND_RECOVERY, **found})
    return judge(Seen("h", NOW, tuple(holders), all_found, unreadable, disks or {}))


def codes(told: Audit) -> set[str]:
    return {one.code for one in told.problems}


def severity(told: Audit, code: str) -> str:
    (one,) = [problem for problem in told.problems if problem.code == code]
    return one.severity


def test_all_in_order_is_ok() -> None:
    told = audit((POSTGRES, VOLUME, TREE), DUMP, FILES)
    assert (told.status, told.problems) == ("OK", ())
    assert tuple(told.methods) == METHODS
    assert told.methods["supabase_backup"] is None
    assert audit(()).status == "OK"


def test_nothing_protected_is_critical_and_a_gap_is_a_warning() -> None:
    assert (audit((POSTGRES, TREE)).status, codes(audit((POSTGRES, TREE)))) == ("CRITICAL", {"nothing_protected"})
    gap = audit((POSTGRES, TREE, VOLUME), DUMP)
    assert (gap.status, codes(gap)) == ("WARNING", {"unprotected_files", "unprotected_volumes"})


def test_what_could_not_be_read_is_not_called_missing() -> None:
    closed = (Evidence("file", "/var/spool/cron/crontabs/root", None, "permission"),)
    told = audit((POSTGRES,), unreadable=closed)
    assert (told.status, codes(told)) == ("WARNING", {"unseen_databases", "not_all_seen"})
    assert told.methods["cron_jobs"] is None
    # A closed folder of the data itself hides no backup; one that is too long to walk hides nothing.
    within = (Evidence("directory", "/var/lib/postgresql/17/main/base", None, "permission"),)
    assert "nothing_protected" in codes(audit((POSTGRES,), unreadable=within))
    assert codes(audit((POSTGRES,), DUMP, unreadable=(Evidence("directory", "/srv", None, "too_long"),))) == set()
    assert codes(audit((POSTGRES,), DUMP, unreadable=(Evidence("file", "/c", None, "too_long"),))) == {"not_all_seen"}


@pytest.mark.parametrize(
    ("age", "code", "status"),
    [
        (0.9, None, "OK"),
        (2.0, None, "OK"),
        (2.2, "stale", "WARNING"),
        (4.3, "stale", "CRITICAL"),
        (31, "stale", "CRITICAL"),
    ],
)
def test_a_copy_ages_by_its_own_schedule(age: float, code: str | None, status: str) -> None:
    told = audit((POSTGRES,), replace(DUMP, copies=copies(age, age + 1)))
    assert (told.status, codes(told)) == (status, {code} if code else set())
    weekly = audit((POSTGRES,), replace(DUMP, copies=copies(age), interval=7 * DAY))
    assert ("stale" in codes(weekly)) is (age > 14)


def test_another_backup_of_the_same_data_makes_up_for_one_that_fails() -> None:
    old = replace(DUMP, id="cron:old", copies=copies(31), loud=False, off_host=False, restore_tried=None)
    told = audit((POSTGRES,), DUMP, old)
    assert (told.status, codes(told)) == ("WARNING", {"stale"})
    assert codes(audit((POSTGRES,), DUMP, replace(old, copies=copies(1)))) == set()
    assert codes(audit((POSTGRES,), DUMP, replace(old, idle="timer_disabled"))) == set()
    assert "idle_timer_disabled" in codes(audit((POSTGRES,), replace(old, idle="timer_disabled")))


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"copies": copies(0.1, 1.1, size=20)}, "empty", "CRITICAL"),
        ({"copies": ()}, "never_produced", "CRITICAL"),
        ({"copies": (), "seen": False}, "age_unknown", "WARNING"),
        ({"copies": (*copies(0.1, size=4000), *copies(1.1, 2.1, 3.1, size=10_000))}, "shrinking", "WARNING"),
        ({"failures": (Evidence("file", "/l"),)}, "failed", "WARNING"),
        ({"loud": False, "hushed": (Evidence("file", "/x", 1, "pipe_hides_failure"),)}, "silent", "WARNING"),
        ({"off_host": False}, "only_on_host", "WARNING"),
        ({"restore_tried": None}, "restore_never_tried", "WARNING"),
        ({"copies": copies(0.1, world_readable=True)}, "world_readable", "WARNING"),
        ({"copies": copies(0.1, owner_readable=False)}, "owner_cannot_read", "WARNING"),
        ({"takes": (Take("postgres", "shop"),)}, "some_databases", "WARNING"),
        ({"takes": (Take("path", "/var/lib"),), "uses": ("tar",)}, "copied_live", "WARNING"),
    ],
)
def test_each_thing_that_is_wrong_has_its_code(change: dict[str, Any], code: str, status: str) -> None:
    told = audit((POSTGRES,), replace(DUMP, **change))
    assert (codes(told), told.status) == ({code}, status)


def test_a_public_copy_that_is_encrypted_gives_nothing_away() -> None:
    assert codes(audit((POSTGRES,), replace(DUMP, encrypted=True, copies=copies(0.1, world_readable=True)))) == set()


def test_some_empty_dumps_among_others_are_found() -> None:
    mixed = (*copies(0.1, 1.1, where="/b/shop-{}.gz"), *copies(0.11, 1.11, size=20, where="/b/wiki-{}.gz"))
    told = audit((POSTGRES,), replace(DUMP, copies=mixed))
    assert codes(told) == {"empty"}
    gone = (*copies(0.1, 1.1, where="/b/shop-{}.gz"), *copies(40, size=20, where="/b/gone-{}.gz"))
    assert codes(audit((POSTGRES,), replace(DUMP, copies=gone))) == set()


def test_copies_leave_the_host_by_another_job() -> None:
    local = replace(DUMP, off_host=False, restore_tried=None)
    away = replace(
        FILES, takes=(Take("path", "/b"),), writes=("s3:x",), copies=(), seen=False, last_run=NOW.isoformat()
    )
    assert codes(audit((POSTGRES,), local, away)) == set()
    other = replace(away, takes=(Take("path", "/c"),))
    assert {"only_on_host", "restore_never_tried"} <= codes(audit((POSTGRES,), local, other))


def test_the_disk_of_the_data_is_told_from_another() -> None:
    local = replace(DUMP, off_host=False, copies=copies(0.1, disk=8))
    assert codes(audit((POSTGRES,), local, disks={POSTGRES.id: frozenset({8})})) == {"only_on_same_disk"}
    assert codes(audit((POSTGRES,), local, disks={POSTGRES.id: frozenset({9})})) == {"only_on_host"}


def test_what_is_missed_on_the_day_of_a_restore() -> None:
    assert codes(audit((POSTGRES,), DUMP, documents=(), scripts=())) == {"no_recovery_documents", "no_recovery_scripts"}


def test_where_backups_lie_is_no_data() -> None:
    kept = Holder("tree:/srv/dumps", "tree", "/srv/dumps", False, ("/srv/dumps",))
    assert codes(audit((POSTGRES, kept), replace(DUMP, writes=("/srv/dumps/all-*.sql",)))) == set()


def container(name: str, project: str = "") -> Holder:
    return Holder(
        f"postgres:{name}",
        "postgres",
        name,
        True,
        (f"/v/{name}",),
        container=name,
        project=project,
        volumes=(f"{name}_v",),
    )


@pytest.mark.parametrize(
    ("take", "covered"),
    [
        (Take("postgres"), {"17/main"}),
        (Take("postgres", "", "db"), {"db"}),
        (Take("postgres", "", "pg", "shop"), {"shop-pg-1"}),
        (Take("postgres", "", "pg", "wiki"), set()),
        (Take("postgres", "", "17/main"), {"17/main"}),
        (Take("postgres", "", "db.example.org"), set()),
        (Take("path", "/v"), {"db", "shop-pg-1"}),
        (Take("path", "/"), {"17/main", "db", "shop-pg-1"}),
        (Take("docker_volume", "db_v"), {"db"}),
        (Take("docker_volume", "shop*"), {"shop-pg-1"}),
        (Take("docker_volume", "", "", "shop"), {"shop-pg-1"}),
        (Take("mysql"), set()),
    ],
)
def test_what_a_client_asks_is_matched_to_the_server_it_is(take: Take, covered: set[str]) -> None:
    told = audit((POSTGRES, container("db"), container("shop-pg-1", "shop")), replace(DUMP, takes=(take,)))
    assert {one.partition(":")[2] for one in told.protections[0].covers} == covered


def test_of_several_servers_that_could_be_meant_none_is_called_protected() -> None:
    second = replace(POSTGRES, id="postgres:15/old", name="15/old")
    assert audit((POSTGRES, second), DUMP).protections[0].covers == ()
    assert audit((POSTGRES, replace(second, running=False)), DUMP).protections[0].covers == (POSTGRES.id,)


def test_every_language_has_the_same_texts_with_the_same_parameters() -> None:
    def parameters(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    for language, said in texts.LANGUAGES.items():
        assert set(said) == set(texts.EN), language
        assert [code for code in said if parameters(said[code]) != parameters(texts.EN[code])] == [], language


def test_a_long_list_is_cut_and_says_by_how_much() -> None:
    told = texts.word("en", "unprotected_volumes", {"holders": "\n".join(f"v{n}" for n in range(9))})
    assert "v0, v1, v2, v3, v4, v5 and 3 more" in told
