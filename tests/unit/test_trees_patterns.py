# SPDX-License-Identifier: GPL-3.0-or-later
"""What patterns take and leave, and what they say of what lies below a directory."""

from pathlib import Path

import pytest

from restaura.trees.patterns import Selection, check_pattern


@pytest.mark.parametrize(
    ("pattern", "left_out", "taken"),
    [
        ("*.tmp", ["/srv/a.tmp", "/a.tmp/deep/x", "/srv/.tmp"], ["/srv/a.tmp.gz", "/srv/tmp"]),
        (
            "node_modules/",
            ["/srv/node_modules/", "/srv/a/node_modules/x/y"],
            ["/srv/node_modules", "/x/node_modules2/"],
        ),
        ("/srv/cache", ["/srv/cache", "/srv/cache/", "/srv/cache/x"], ["/srv/cache2", "/a/srv/cache"]),
        ("/srv/cache/**", ["/srv/cache/x", "/srv/cache/x/y"], ["/srv/cache/", "/srv/cache"]),
        ("/srv/**/log", ["/srv/log", "/srv/a/log", "/srv/a/b/log/x"], ["/srv/alog", "/log"]),
        ("**/x/y", ["/x/y", "/a/b/x/y"], ["/a/x/z/y"]),
        ("/srv/*/tmp", ["/srv/a/tmp"], ["/srv/tmp", "/srv/a/b/tmp"]),
        ("a?c", ["/abc"], ["/ac", "/a/c", "/abbc"]),
        ("[a-c]x", ["/ax", "/cx"], ["/dx", "/-x"]),
        ("[!a-c]x", ["/dx"], ["/ax", "//x"]),
        ("[]x]y", ["/]y", "/xy"], ["/y"]),
        ("a[b", ["/a[b"], ["/ab"]),
        ("\\*", ["/*"], ["/a"]),
        ("ä b", ["/ä b"], ["/ab"]),
        ("*", ["/x", "/two\nlines", "/caf\udce9"], []),
        ("two*", ["/two\nlines"], ["/on\ntwo"]),
        ("a.b", ["/a.b"], ["/axb"]),
        ("(x|y)$", ["/(x|y)$"], ["/x", "/y"]),
    ],
)
def test_a_pattern_leaves_out_what_it_matches_and_all_below(
    pattern: str, left_out: list[str], taken: list[str]
) -> None:
    selection = Selection(exclude=[pattern])
    for path in left_out:
        assert not selection.takes(path.rstrip("/"), path.endswith("/")), path
    for path in taken:
        assert selection.takes(path.rstrip("/"), path.endswith("/")), path


def test_include_wins_and_leads_the_walk_into_what_is_excluded() -> None:
    selection = Selection(exclude=["/srv/cache/", "*.tmp"], include=["/srv/cache/a/keep/"])
    assert selection.takes("/srv/cache/a/keep", True)
    assert selection.takes("/srv/cache/a/keep/x.tmp", False)
    assert not selection.takes("/srv/cache/a/other", False)
    assert [selection.may_take_below(one) for one in ("/srv/cache", "/srv/cache/a", "/srv/cache/b")] == [
        True,
        True,
        False,
    ]
    assert Selection(exclude=["/srv/cache/"], include=["*.keep"]).may_take_below("/srv/cache/any")


def test_what_is_our_own_is_left_out_whatever_include_says() -> None:
    selection = Selection(include=["**"], exclude=["/x"], never=[Path("/var/lib/restaura")])
    for path in ("/var/lib/restaura", "/var/lib/restaura/journal/x", "/srv/.restaura-kept-1/srv", "/.restaura-stage-2"):
        assert not selection.takes(path, False), path
        assert not selection.may_take_below(path), path
    assert selection.takes("/var/lib/restaura2", True)
    assert Selection(own=False).takes("/srv/.restaura-kept-1", True)


@pytest.mark.parametrize("pattern", ["", "/", " x", "x ", "a/../b", "./a"])
def test_a_pattern_that_is_none_is_told(pattern: str) -> None:
    assert check_pattern(pattern)
    assert not check_pattern("/srv/*/x/")
