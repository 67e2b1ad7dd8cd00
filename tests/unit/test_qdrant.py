# SPDX-License-Identifier: GPL-3.0-or-later
"""Qdrant without a server: what a fingerprint sees, which versions read which snapshots, whose collections are ours."""

from typing import Any

import pytest

from restaura.errors import RestauraError
from restaura.qdrant import fingerprint
from restaura.qdrant.server import kept_out, same_or_next, stamp

POINT: dict[str, Any] = {
    "id": 1,
    "payload": {"a": 1, "b": [1.5, {"c": None}]},
    "vector": {
        "dense": [0.5, -1.0],
        "late": [[1.0, 0.0], [0.0, 1.0]],
        "sparse": {"indices": [4, 2], "values": [0.1, 0.2]},
    },
}


def digest(*points: dict[str, Any]) -> str:
    return fingerprint.summed(points).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"id": 2},
        {"id": "1"},
        {"payload": {}},
        {"payload": {"a": 1.0, "b": [1.5, {"c": None}]}},
        {"payload": {"a": 1, "b": [1.5, {}]}},
        {"vector": {**POINT["vector"], "dense": [0.5, -1.0000001]}},
        {"vector": {**POINT["vector"], "dense": [-1.0, 0.5]}},
        {"vector": {**POINT["vector"], "late": [[1.0], [0.0, 0.0, 1.0]]}},
        {"vector": {**POINT["vector"], "sparse": {"indices": [4, 2], "values": [0.2, 0.1]}}},
        {"vector": {"dense": [0.5, -1.0]}},
        {"vector": {"other" if name == "dense" else name: one for name, one in POINT["vector"].items()}},
        {"vector": [0.5, -1.0]},
        {"vector": {**POINT["vector"], "dense": [0.5, None]}},
    ],
)
def test_a_change_of_a_point_is_seen(changed: dict[str, Any]) -> None:
    assert digest(POINT) != digest({**POINT, **changed})


@pytest.mark.parametrize(
    "same",
    [
        {"payload": {"b": [1.5, {"c": None}], "a": 1}},
        {"vector": dict(reversed(POINT["vector"].items()))},
        {"vector": {**POINT["vector"], "dense": [0.5, -1]}},
        {"vector": {**POINT["vector"], "sparse": {"indices": [2, 4], "values": [0.2, 0.1]}}},
    ],
)
def test_how_a_point_is_written_is_not_seen(same: dict[str, Any]) -> None:
    assert digest(POINT) == digest({**POINT, **same})


def test_points_are_summed_in_any_order_and_a_double_is_no_zero() -> None:
    other = {"id": 2, "vector": {}}
    assert digest(POINT, other) == digest(other, POINT)
    assert len({digest(), digest(POINT), digest(POINT, POINT), digest(POINT, other)}) == 4
    assert digest(other) == digest({**other, "payload": None}), "no payload and an empty one are told alike"


def test_the_structure_leaves_out_what_is_not_set_and_what_changes_by_itself() -> None:
    info = {
        "status": "green",
        "points_count": 5,
        "config": {"params": {"vectors": {}, "shard_number": 1}, "quantization_config": None},
        "payload_schema": {"k": {"data_type": "integer", "points": 7}},
    }
    assert fingerprint.structure(info) == {
        "config params.vectors": {},
        "config params.shard_number": 1,
        "payload index k": {"data_type": "integer"},
    }


@pytest.mark.parametrize(
    ("old", "new", "reads"),
    [
        ("1.18.3", "1.18.0", True),
        ("1.18.3", "1.19.1", True),
        ("1.18.3", "1.20.0", False),
        ("1.18.3", "1.17.9", False),
        ("1.18.3", "2.18.3", False),
        ("1.9.0", "1.10.0", True),
    ],
)
def test_a_server_reads_its_own_minor_version_and_the_one_before(old: str, new: str, reads: bool) -> None:
    assert same_or_next(old, new) is reads


def test_a_version_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises(RestauraError, match="dev"):
        same_or_next("dev", "1.18.3")


def test_the_time_of_a_snapshot_is_read_from_its_name() -> None:
    assert stamp("docs-1382245044382797-2026-11-21-22-44-18.snapshot") == 1795301058
    assert stamp("restaura.snapshot") == 0


def test_own_copies_are_never_backed_up() -> None:
    assert kept_out("restaura_stage_0123_4567_0")
    assert not kept_out("docs_restored_0123_4567")
