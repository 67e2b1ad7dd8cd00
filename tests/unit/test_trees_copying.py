# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies in two passes: what the second reads, what it makes of files that move all the same, and who reads at all."""

import fcntl
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from restaura import trees
from restaura.config.load import parse
from restaura.errors import SourceError, StoreError
from restaura.host import Host
from restaura.paths import Paths
from restaura.sources import Tree
from restaura.trees import scanning
from restaura.trees.copying import FICLONE
from restaura.twopass import TwoPass


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that was left alone for a while, on a disk whose times tell."""
    for module in ("scanning", "copying"):
        monkeypatch.setattr(f"restaura.trees.{module}.untold_devices", set)
    base = tmp_path / "base"
    (base / "app/sub").mkdir(parents=True)
    for name in ("app/one", "app/two", "app/sub/three"):
        (base / name).write_text(name)
    os.link(base / "app/one", base / "app/sub/linked")
    (base / "app/link").symlink_to("/etc/hostname")
    os.mkfifo(base / "app/fifo")
    with (base / "app/holes").open("wb") as out:
        out.seek(1 << 20)
        out.write(b"end")
    time.sleep(2 * scanning.TICK_NS / 1e9)
    return base


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> trees.Copy:
    (tmp_path / "folder").mkdir()
    return trees.Copy(base, tmp_path / "folder")


def scanned(base: Path) -> trees.Index:
    return trees.scan(base, ["app"])


def finished(copy: trees.Copy, index: trees.Index) -> tuple[Path, trees.Index, list[str]]:
    """Finish the copy; return also how the copy, scanned anew, differs from the index that came with it."""
    base, found = copy.finish(index)
    return base, found, trees.differences(found, scanned(base), "content")


def test_the_second_pass_reads_what_changed_and_nothing_else(base: Path, copy: trees.Copy) -> None:
    copy.first(scanned(base), lambda _: None)
    (base / "app/two").write_text("changed")
    (base / "app/new").write_text("new one")
    (base / "app/sub/three").unlink()
    index = scanned(base)
    copy.second(index, lambda _: None)
    assert copy.copied_bytes == len("changed") + len("new one")
    at, found, wrong = finished(copy, index)
    assert wrong == []
    assert trees.fingerprint(found, "content") == trees.fingerprint(index, "content")
    assert (at / "app/one").stat().st_ino == (at / "app/sub/linked").stat().st_ino
    assert (at / "app/holes").stat().st_blocks < 64
    assert not (at / "app/sub/three").exists()


def test_a_file_written_again_within_the_tick_of_its_copy_is_read_again(base: Path, copy: trees.Copy) -> None:
    copy.first(scanned(base), lambda _: None)
    index = scanned(base)
    moment = next(one for one in index.entries if one.path == "app/two")
    copy._since_ns = moment.ctime_ns  # as if the first pass had begun right then
    copy.second(index, lambda _: None)
    assert copy.copied_bytes > 0


def test_in_memory_where_times_do_not_tell_everything_is_read_again(
    base: Path, copy: trees.Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = scanned(base)
    copy.first(index, lambda _: None)
    monkeypatch.setattr("restaura.trees.copying.untold_devices", lambda: {base.stat().st_dev})
    copy.second(index, lambda _: None)
    assert copy.copied_bytes >= len("app/one" + "app/two" + "app/sub/three" + "end")


def test_a_directory_that_becomes_a_link_leads_nowhere(base: Path, copy: trees.Copy, tmp_path: Path) -> None:
    index = scanned(base)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/three").write_text("not to be seen")
    shutil.rmtree(base / "app/sub")
    (base / "app/sub").symlink_to(tmp_path / "secret")
    copy.first(index, lambda _: None)
    with pytest.raises(SourceError, match="another file"):
        copy.second(index, lambda _: None)
    assert all(b"seen" not in one.read_bytes() for one in (tmp_path / "folder/contents").iterdir())


@pytest.mark.parametrize("during", [False, True])
def test_what_moves_while_it_is_held_is_not_called_still(base: Path, copy: trees.Copy, during: bool) -> None:
    copy.first(scanned(base), lambda _: None)
    (base / "app/two").write_text("1" * 100)
    index = scanned(base)

    def write(_: int = 0) -> None:
        (base / "app/two").write_text("2" * 90)

    if not during:
        write()
    copy.second(index, write if during else lambda _: None)
    at, found, wrong = finished(copy, index)
    assert wrong == []
    assert (found.torn if during else found.changed) == ["app/two"]
    entry = next(one for one in found.entries if one.path == "app/two")
    assert not entry.whole
    assert entry.size == (at / "app/two").stat().st_size


def test_clones_are_used_where_every_file_system_has_them(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = scanned(base)

    def ioctl(out: int, request: int, descriptor: int) -> int:
        assert request == FICLONE
        if has:
            os.pwrite(out, os.pread(descriptor, 1 << 22, 0), 0)
            return 0
        raise OSError(95, "not supported")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    has = False
    assert not trees.can_clone(index, base, tmp_path)
    has = True
    assert trees.can_clone(index, base, tmp_path)
    (tmp_path / "folder").mkdir()
    copy = trees.Copy(base, tmp_path / "folder")
    copy.first(index, lambda _: None)
    copy.second(index, lambda _: None)
    assert copy.copied_bytes == 0
    assert finished(copy, index)[2] == []


# -- who reads --


class FakeWriter:
    def __init__(self, fails: bool) -> None:
        self.fails, self.passes = fails, 0

    def first_pass(self, component: str, tree: Tree, watch: Any) -> None:
        self.passes += 1
        if self.fails:
            raise StoreError("gone")


def sink(name: str, fails: bool = False) -> Any:
    """A store by its kind: `restic` or `dated`, on this host or `far`."""
    store = SimpleNamespace(name=name, deduplicates="restic" in name, remote="far" in name)
    captured = SimpleNamespace(error="")
    return SimpleNamespace(store=store, writer=FakeWriter(fails), open_writer=FakeWriter(fails), of=lambda _: captured)


def decided(tmp_path: Path, base: Path, sinks: list[Any], reserve: int = 0) -> TwoPass:
    config = parse(
        {
            "settings": {"host": "web1", "reserve_bytes": reserve, "reserve_percent": 100},
            "stores": [],
            "plans": [],
            "components": {},
        },
        "test",
    )
    two = TwoPass(Host(Paths(tmp_path / "root"), config), "app", sinks)
    two.first([Tree("tree", base, scanned(base), held=True)], lambda: None)
    return two


FULL = 1 << 62


@pytest.mark.parametrize(
    ("stores", "reserve", "readers", "owed"),
    [
        (["restic"], 0, ["restic"], []),
        (["dated"], 0, [], []),
        (["dated", "far dated"], 0, [], []),
        (["dated", "restic", "far restic"], 0, ["restic"], ["dated", "far restic"]),
        (["far restic"], 0, ["far restic"], []),
        (["dated", "far restic"], 0, [], []),
        (["dated"], FULL, ["dated"], []),
        (["dated", "restic"], FULL, ["restic", "dated"], []),
        (["dated", "far restic"], FULL, ["far restic", "dated"], []),
    ],
)
def test_who_reads_while_it_is_stopped(
    base: Path, tmp_path: Path, stores: list[str], reserve: int, readers: list[str], owed: list[str]
) -> None:
    sinks = {one: sink(one) for one in stores}
    two = decided(tmp_path, base, list(sinks.values()), reserve)
    assert [one.store.name for one in two.readers] == readers
    assert [one.store.name for one in two.owed] == owed
    assert bool(two.notes) == (reserve == FULL)
    assert [one for one in stores if sinks[one].open_writer.passes] == [one for one in readers if "restic" in one]
    assert bool(list((tmp_path / "root/var/lib/restaura/spool").iterdir())) == (not readers)
    two.close()
    assert list((tmp_path / "root/var/lib/restaura/spool").iterdir()) == []


def test_where_the_file_system_clones_no_store_reads(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "can_clone", lambda *_: True)
    two = decided(tmp_path, base, [sink("restic")], FULL)
    assert (two.readers, two.owed, two.notes) == ([], [], [])
    two.close()


def test_a_store_that_fails_at_the_first_pass_leaves_the_reading_to_another(base: Path, tmp_path: Path) -> None:
    failing = sink("restic", fails=True)
    two = decided(tmp_path, base, [failing, sink("far restic")])
    assert failing.of("app").error == "gone"
    assert [one.store.name for one in two.readers] == ["far restic"]
    assert two.owed == []


def test_what_was_written_during_the_flush_is_not_taken_for_known(base: Path) -> None:
    began = trees.flush(base, ["app"])
    (base / "app/two").write_text("dirty again before the flush ended")
    first = trees.scan(base, ["app"], flushed_ns=began)
    assert first.started_ns == began
    forged = next(one for one in first.entries if one.path == "app/two")
    assert scanning.is_racy(forged, first.started_ns)
