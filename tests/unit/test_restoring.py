# SPDX-License-Identifier: GPL-3.0-or-later
"""A component is staged from the first store that gives it back whole, and nothing of the others stays."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from restaura import restoring
from restaura.errors import DamagedError, RefusedError
from restaura.sources import Staged, Target


class Source:
    """Writes a file, and then finds out that the store is damaged; the store `good` is not."""

    def stage(self, reader: Any, target: Target) -> Staged:
        folder = Path(target.value)
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError("is not empty", where=str(folder), fix="--to dir:PATH")
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/projects.json").write_text(reader)
        if reader != "good":
            raise DamagedError("the stored bytes were changed", where=reader)
        return Staged(target, {})


def stage(monkeypatch: pytest.MonkeyPatch, folder: Path, *stores: str) -> str:
    monkeypatch.setattr(restoring, "StoreReader", lambda store, *_: store.name)
    candidates: Any = [(mock.Mock(), mock.Mock()) for _ in stores]
    for (store, _), name in zip(candidates, stores, strict=True):
        store.name = name
    source: Any = Source()
    return restoring.stage(mock.Mock(), source, candidates, "shop", Target("dir", str(folder))).store


@pytest.mark.parametrize("there", [False, True])
def test_a_directory_has_what_the_good_store_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    folder = tmp_path / "look"
    if there:
        folder.mkdir()
    assert stage(monkeypatch, folder, "damaged", "good") == "good"
    assert (folder / "sub/projects.json").read_text() == "good"


def test_nothing_is_left_where_no_store_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DamagedError, match="the stored bytes were changed"):
        stage(monkeypatch, tmp_path / "look", "damaged", "other")
    assert list((tmp_path / "look").iterdir()) == []


def test_what_was_in_the_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RefusedError):
        stage(monkeypatch, tmp_path, "damaged", "good")
    assert (tmp_path / "mine").read_text() == "mine"
