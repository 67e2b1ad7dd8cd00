# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack that was held still for one moment is not put together of several without a word."""

from types import SimpleNamespace
from typing import Any

from restaura.actions.restore import mixed


def choice(name: str, point: str, paused: float, plan: str = "stack") -> Any:
    return SimpleNamespace(
        options=SimpleNamespace(name=name),
        record=SimpleNamespace(pause_seconds=paused),
        plan=plan,
        point=SimpleNamespace(id=point),
    )


def test_components_of_two_pauses_are_named() -> None:
    (told,) = mixed([choice("redis", "p2", 1.5), choice("qdrant", "p1", 1.2), choice("files", "p3", 0, "daily")])
    assert told == "NOT OF ONE MOMENT: no point of plan stack holds all of them good: redis from p2, qdrant from p1"


def test_components_of_one_point_or_without_a_pause_need_no_word() -> None:
    assert mixed([choice("redis", "p2", 1.5), choice("qdrant", "p2", 1.5)]) == []
    assert mixed([choice("redis", "p2", 0), choice("qdrant", "p1", 0)]) == []
    assert mixed([choice("redis", "p2", 1.5, "a"), choice("qdrant", "p1", 1.5, "b")]) == []
