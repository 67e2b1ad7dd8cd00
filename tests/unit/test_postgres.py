# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the postgres source that need no server."""

import pytest

from restaura.postgres.cluster import grants, set_config
from restaura.postgres.fingerprint import Sequence, canonical
from restaura.postgres.roles import memberships, role
from restaura.postgres.server import connection_string, kept_out, quote_name, quote_text

ROLE = {
    "super": False, "inherit": True, "createrole": False, "createdb": False, "login": True, "replication": False,
    "bypassrls": False, "limit": -1, "until": None, "settings": None, "comment": None, "labels": None,
}  # fmt: skip


def test_names_and_texts_are_quoted() -> None:
    assert quote_name('a"b') == '"a""b"'
    assert quote_text("it's \\") == "'it''s \\'"
    assert connection_string("it's \\") == "dbname='it\\'s \\\\'"


def test_own_copies_are_kept_out() -> None:
    assert kept_out("restaura_kept_1_0")
    assert kept_out("restaura_stage_1")
    assert not kept_out("restaura")


def test_a_definition_is_the_same_with_and_without_qualifiers() -> None:
    older = {"sql_view": "SELECT t.\"T\",\n    t.t\n   FROM public.t\n  WHERE (t.t <> 'a.b (c)'::text);", "x": "t.t"}
    newer = {"sql_view": "SELECT \"T\",\n    t\n   FROM public.t\n  WHERE (t <> 'a.b (c)'::text);", "x": "t.t"}
    assert canonical(older) == canonical(newer)
    assert canonical({"sql": "n > 1.5"}) != canonical({"sql": "n > 2.5"})
    assert canonical({"sql": "a = 'x.y'"}) != canonical({"sql": "a = 'z.y'"})
    assert canonical({"plain": "t.t"}) != canonical({"plain": "t"})


@pytest.mark.parametrize(
    ("last", "called", "reached"),
    [(10, True, True), (11, True, True), (10, False, False), (9, True, False), (12, False, True)],
)
def test_a_sequence_may_stand_further_and_never_fall_back(last: int, called: bool, reached: bool) -> None:
    assert Sequence("s", last, called, 1, cycles=False).reached(Sequence("s", 10, True, 1, cycles=False)) is reached


def test_a_sequence_that_counts_down_is_reached_below() -> None:
    frozen = Sequence("s", -10, True, -5, cycles=False)
    assert Sequence("s", -15, True, -5, cycles=False).reached(frozen)
    assert not Sequence("s", -5, True, -5, cycles=False).reached(frozen)


def test_settings_come_back_item_by_item_and_quoted() -> None:
    assert set_config("ALTER ROLE r", ['search_path="$user", "a ""b", public', "work_mem=7MB", "my.x=it's"]) == [
        "ALTER ROLE r SET \"search_path\" TO '$user', 'a \"b', 'public'",
        "ALTER ROLE r SET \"work_mem\" TO '7MB'",
        "ALTER ROLE r SET \"my\".\"x\" TO 'it''s'",
    ]


def test_grants_name_public_and_the_grant_option() -> None:
    changes = {"revoked": [["", "CONNECT", False]], "granted": [["a b", "ALL", True]]}
    assert grants("DATABASE", '"d"', changes) == [
        'REVOKE CONNECT ON DATABASE "d" FROM PUBLIC',
        'GRANT ALL ON DATABASE "d" TO "a b" WITH GRANT OPTION',
    ]


def test_a_role_whose_password_was_not_readable_keeps_its_own() -> None:
    assert "PASSWORD" not in role("r", ROLE, {})[0]
    assert "PASSWORD NULL" in role("r", {**ROLE, "password": None}, {})[0]
    assert "VALID UNTIL 'infinity'" in role("r", ROLE, {"until": "2030-01-01"})[0]


def test_memberships_are_said_in_the_words_of_the_server() -> None:
    wanted = [{"role": "g", "admin": True, "inherit": False, "set": True}]
    assert memberships("m", wanted, [], 15) == ['GRANT "g" TO "m" WITH ADMIN OPTION']
    assert memberships("m", wanted, [], 17) == ['GRANT "g" TO "m" WITH ADMIN TRUE, INHERIT FALSE, SET TRUE']
    assert memberships("m", [], wanted, 17) == ['REVOKE "g" FROM "m"']
    assert memberships("m", wanted, wanted, 17) == []
