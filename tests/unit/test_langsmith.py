# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith: what of objects means something, the archive's artifacts, and the end of paging."""

import io
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura.errors import DamagedError, SourceError
from restaura.langsmith import facts
from restaura.langsmith.api import Address, Api, moment_of
from restaura.langsmith.archive import Archive, split_lines
from restaura.langsmith.capture import Selection
from restaura.web import Service

RUN = {"id": "r1", "project_id": "p1", "start_time": "2026-11-22T06:00:00Z", "inputs": {"q": "é\n"}, "name": "x"}


@pytest.mark.parametrize("ending", ["", "/", "/api", "/api/v1", "/api/v1/"])
def test_the_address_is_taken_as_other_clients_take_it(ending: str) -> None:
    assert Address("a", f"https://ls.example.com{ending}", "", "", "", 60).root == "https://ls.example.com"


def test_times_without_an_offset_are_utc() -> None:
    assert moment_of("2026-11-22T06:00:00.5") == moment_of("2026-11-22T07:00:00.500+01:00")


def test_projects_are_chosen_by_patterns() -> None:
    names = ["shop", "shop-eu", "lab"]
    assert [one for one in names if Selection(["shop*"], ["*-eu"]).takes(one)] == ["shop"]
    assert [one for one in names if Selection([], ["lab"]).takes(one)] == ["shop", "shop-eu"]


def test_a_sum_has_no_order_and_counts_twice() -> None:
    assert facts.Sum(["a", "b"]).text == facts.Sum(["b", "a"]).text
    assert facts.Sum(["a", "a"]).text != facts.Sum(["a"]).text


def test_what_changes_by_being_looked_at_is_not_kept() -> None:
    repo = {"id": "1", "repo_handle": "a", "num_views": 3, "liked_by_auth_user": True}
    assert facts.kept("prompts", repo) == {"id": "1", "repo_handle": "a"}
    assert facts.kept("runs", {**RUN, "share_url": "https://x", "s3_urls": {}}) == RUN


def test_splits_and_defaults_of_an_example_mean_the_same() -> None:
    one = {"inputs": {}, "metadata": {"dataset_split": ["b", "a"], "k": 1}}
    assert facts.example(one)["split"] == facts.example({"metadata": {"dataset_split": ["a", "b"]}})["split"]
    assert facts.example({"inputs": {}, "metadata": {"k": 1, "dataset_split": "a"}})["metadata"] == {"k": 1}


def test_a_prompts_tags_name_places_not_hashes() -> None:
    commits = [{"commit_hash": "h1", "manifest": {"n": 1}}, {"commit_hash": "h2", "manifest": {"n": 2}}]
    told = {"repo_handle": "a", "commits": commits, "commit_tags_list": [{"tag_name": "prod", "commit_hash": "h2"}]}
    other = [{**one, "commit_hash": f"new {one['commit_hash']}"} for one in commits]
    same = {**told, "commits": other, "commit_tags_list": [{"tag_name": "prod", "commit_hash": "new h2"}]}
    assert facts.prompt(told) == facts.prompt(same)
    assert facts.prompt(told) != facts.prompt({**told, "commits": commits[:1]})


def test_an_archive_is_what_its_artifacts_say(tmp_path: Path) -> None:
    with Archive(tmp_path / "a") as one, Archive(tmp_path / "b") as other:
        for number in range(50):
            one.put("runs", {**RUN, "id": f"r{number}", "parent_run_id": "r1"}, part="p1", at=f"{number:02}")
        one.put("projects", {"id": "p1", "name": "shop"})
        one.commit()
        for kind in ("runs", "projects", "prompts"):
            other.load(kind, io.BytesIO(b"".join(one.lines(kind))))
        assert other.fingerprint("content").differences(one.fingerprint("content")) == []
        assert one.fingerprint("content").counts["orphan runs"] == 0
        other.put("runs", {**RUN, "name": "y"}, part="p1")
        assert other.fingerprint("content").differences(one.fingerprint("content")) == ["runs/shop: differs"]
        assert other.fingerprint("catalog").differences(one.fingerprint("catalog")) == []


@pytest.mark.parametrize("text", [b'[\n{"id":"1"},\n{"id":"1"}\n]\n', b"[\n{\n]\n", b'[\n{"name":"x"}\n]\n', b"x"])
def test_an_artifact_that_is_none_is_told(tmp_path: Path, text: bytes) -> None:
    with Archive(tmp_path) as archive, pytest.raises(DamagedError, match=r"projects\.json"):
        archive.load("projects", io.BytesIO(text))


def test_a_changed_object_is_told(tmp_path: Path) -> None:
    with Archive(tmp_path) as archive:
        archive.put("runs", RUN, part="p1")
        archive._db.execute("UPDATE item SET body = replace(body, 'x', 'y')")
        with pytest.raises(DamagedError, match="runs r1 is not what was put in"):
            archive.check()


def test_a_sweep_removes_what_was_not_seen_again(tmp_path: Path) -> None:
    with Archive(tmp_path) as archive:
        archive.put("datasets", {"id": "1", "name": "a"})
        archive.put("datasets", {"id": "2", "name": "b"})
        archive.commit()
    with Archive(tmp_path) as archive:
        archive.put("datasets", {"id": "2", "name": "b"})
        archive.sweep("datasets")
        assert [one["name"] for one in archive.objects("datasets")] == ["b"]


def test_what_cannot_be_taken_over_for_want_of_room_is_an_error(tmp_path: Path) -> None:
    with Archive(tmp_path / "later") as later:
        for number in range(200):
            later.put("runs", {**RUN, "id": f"r{number}", "outputs": {"text": "x" * 1000}})
        later.commit()
    with Archive(tmp_path / "restored") as restored:
        restored._db.execute("PRAGMA max_page_count = 20")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            restored.take_over(tmp_path / "later")
    with Archive(tmp_path / "again") as again:
        again.take_over(tmp_path / "later")
        again.take_over(tmp_path / "later")
        assert again.count("runs") == 200
    (tmp_path / "later/archive.db").write_bytes(b"no database")
    with Archive(tmp_path / "other") as other:
        other.take_over(tmp_path / "later")
        assert other.count("runs") == 0


def test_lines_are_split_wherever_the_pieces_end() -> None:
    class Pieces(io.RawIOBase):
        left = iter([b"a\nb", b"", b"c\n"])

        def read(self, _: int = -1) -> bytes:
            return next((one for one in self.left if one), b"")

    assert list(split_lines(Pieces())) == [b"a", b"bc", b""]  # type: ignore[arg-type]


def asking(answers: Iterator[Any]) -> Api:
    """Return an API that gives these answers."""
    api = Api(Service("http://127.0.0.1:9"), 0.0, time.monotonic() + 60, 60, "component x")
    api._read = lambda *_, **__: next(answers)  # type: ignore[method-assign]
    return api


def test_a_list_that_repeats_itself_is_no_list() -> None:
    with pytest.raises(SourceError, match="same page again, at offset 95"):
        list(asking(itertools.repeat([{"id": one} for one in range(100)])).pages("/v1/x"))
    with pytest.raises(SourceError, match="same page again and again"):
        list(asking(itertools.repeat({"items": [1], "next_cursor": "a"})).cursor_pages("/v1/x"))
    with pytest.raises(SourceError, match="is no list"):
        list(asking(iter([{"detail": "x"}])).pages("/v1/x"))


def test_a_list_ends_with_its_last_page() -> None:
    full, rest = [{"id": one} for one in range(100)], [{"id": 100}]
    assert len(list(asking(iter([{"repos": full}, {"repos": [*full[-5:], *rest]}])).pages("/v1/x", "repos"))) == 101
    assert list(asking(iter([full, full[-5:]])).pages("/v1/x")) == full


def listing(items: list[int], changes: dict[int, Callable[[list[int]], None]]) -> Api:
    """Return an API that lists `items`, of which the n-th answer is given only after its change."""
    api: Any = Api(Service("http://127.0.0.1:9"), 0.0, time.monotonic() + 60, 60, "component x")
    numbers = itertools.count(1)

    def read(*_: Any, params: dict[str, int], **__: Any) -> Any:
        if change := changes.get(next(numbers)):
            change(items)
        return [{"id": one} for one in items[params["offset"] :][: params["limit"]]]

    api._read = read
    return api  # type: ignore[no-any-return]


def removal(*gone: int) -> Callable[[list[int]], None]:
    def remove(items: list[int]) -> None:
        for one in gone:
            if one in items:
                items.remove(one)

    return remove


def moved(*changed: int) -> Callable[[list[int]], None]:
    """An item that is changed goes to the end of a list that is sorted by that."""

    def move(items: list[int]) -> None:
        for one in changed:
            items.append(items.pop(items.index(one)))

    return move


@pytest.mark.parametrize("length", [101, 250])
@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({2: removal(5)}, set()),
        ({2: removal(99)}, set()),
        ({2: removal(*range(100))}, set()),
        ({3: removal(*range(150))}, set()),
        ({4: removal(249)}, set()),
        ({2: removal(200)}, {200}),
        ({2: removal(5), 3: removal(6), 4: removal(7)}, set()),
        ({2: moved(3)}, set()),
        ({2: moved(0, 1)}, set()),
        ({2: moved(*range(40)), 4: moved(*range(3))}, set()),
        ({2: moved(99)}, set()),
        ({2: lambda items: items.insert(0, 1000)}, set()),
        ({number: removal(number) for number in range(2, 9)}, set()),
    ],
)
def test_what_moves_up_in_a_list_since_others_were_deleted_is_not_left_out(
    changes: dict[int, Callable[[list[int]], None]], gone: set[int], length: int
) -> None:
    found = [one["id"] for one in listing(list(range(length)), changes).pages("/v1/x")]
    assert len(found) == len(set(found))
    assert set(range(length)) - set(found) <= gone


def test_a_list_that_shrinks_for_ever_is_not_read_for_ever() -> None:
    changes = {number: removal(number) for number in range(2, 10_000)}
    with pytest.raises(SourceError, match="changes faster"):
        list(listing(list(range(10_000)), changes).pages("/v1/x"))
