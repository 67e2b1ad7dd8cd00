# SPDX-License-Identifier: GPL-3.0-or-later
"""What the index says of a store that copied a tree while it changed."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from restaura import trees
from restaura.errors import StoreError
from restaura.stores import StoredEntry
from restaura.trees import Entry, Index

TYPES = {"regular file": "file", "regular empty file": "file", "directory": "dir", "symbolic link": "link"}


class Copy:
    """A store: `cp -a` of the tree, told of as restic tells (times, modes, owners) or as tar does (and a SHA-256)."""

    def __init__(self, live: Path, where: Path, hashes: bool) -> None:
        self.live, self.where, self._hashes = live, where, hashes
        self.ctimes: dict[str, int] = {}
        self.read_back: list[str] = []

    def take(self) -> None:
        """Copy the tree, and note the times of change that were seen."""
        for path in self.live.rglob("*"):
            self.ctimes[str(path.relative_to(self.live.parent))] = path.lstat().st_ctime_ns
        subprocess.run(["cp", "-a", self.live, self.where], check=True)

    def entries(self) -> Iterator[StoredEntry]:
        """Tell of every entry."""
        for path in [self.where / "app", *sorted((self.where / "app").rglob("*"))]:
            name = str(path.relative_to(self.where))
            kind, found = _type(path), path.lstat()
            link = str(path.readlink()) if kind == "link" else None
            size = found.st_size if kind == "file" else 0
            digest = sha256(path.read_bytes()) if self._hashes and kind == "file" else None
            yield StoredEntry(
                name,
                kind,
                size,
                found.st_mtime_ns,
                None if self._hashes else self.ctimes.get(name),
                found.st_mode,
                found.st_uid,
                found.st_gid,
                link,
                digest,
            )

    @contextlib.contextmanager
    def read(self, path: str) -> Iterator[IO[bytes]]:
        """Read a stored file."""
        self.read_back.append(path)
        with (self.where / path).open("rb") as stream:
            yield stream


def _type(path: Path) -> str:
    said = subprocess.run(["stat", "-c", "%F", path], capture_output=True, text=True, check=True).stdout.strip()
    return TYPES.get(said, said)


@pytest.fixture(params=[True, False], ids=["a store that tells hashes", "a store that tells none"])
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Copy:
    """A small tree and a store for it."""
    live = tmp_path / "live/app"
    (live / "d").mkdir(parents=True)
    (live / "log").write_bytes(b"line 1\n" * 100)
    (live / "page").write_bytes(b"A" * 5000)
    (live / "d/quiet").write_bytes(b"quiet")
    (live / "link").symlink_to("page")
    (tmp_path / "store").mkdir()
    # What changed within a tick of the clock is read back, which some tests count.
    time.sleep(0.05)
    return Copy(live, tmp_path / "store", request.param)


def settled(
    made: Copy, before: Callable[[Path], object] | None = None, after: Callable[[Path], object] | None = None
) -> Index:
    """Scan, let `before` happen, copy, let `after` happen, settle."""
    index = trees.scan(made.live.parent, ["app"])
    if before:
        before(made.live)
    made.take()
    if after:
        after(made.live)
    return trees.settle(index, made.live.parent, made.entries(), made.read)


def entry(index: Index, path: str) -> Entry:
    return next(one for one in index.entries if one.path == path)


def sha256(data: bytes) -> str:
    return subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout[:64].decode()


def test_nothing_changed_and_nothing_is_read_back(made: Copy) -> None:
    index = settled(made)
    assert (index.changed, index.torn, index.vanished) == ([], [], [])
    assert [one.path for one in index.entries if not one.whole] == []
    assert entry(index, "app/page").sha256 == sha256(b"A" * 5000)
    assert made.read_back == []


def test_a_log_that_grew_before_and_after_the_copy_is_one_moment(made: Copy) -> None:
    def grow(live: Path) -> None:
        with (live / "log").open("ab") as log:
            log.write(b"more\n")

    index = settled(made, grow, grow)
    assert (index.changed, index.torn) == (["app/log"], [])
    kept = entry(index, "app/log")
    assert (kept.size, kept.sha256, kept.whole) == (705, sha256(b"line 1\n" * 100 + b"more\n"), False)


def test_a_log_cut_off_after_the_copy_is_one_moment_too(made: Copy) -> None:
    def cut(live: Path) -> None:
        (live / "log").write_bytes(b"")

    def grow(live: Path) -> None:
        with (live / "log").open("ab") as log:
            log.write(b"more\n")

    index = settled(made, grow, cut)
    assert (index.changed, index.torn) == (["app/log"], [])
    assert entry(index, "app/log").size == 705


def test_a_file_rewritten_before_the_copy_is_what_the_live_file_is(made: Copy) -> None:
    index = settled(made, lambda live: (live / "page").write_bytes(b"B" * 4000))
    assert (index.changed, index.torn) == (["app/page"], [])
    assert (entry(index, "app/page").size, entry(index, "app/page").sha256) == (4000, sha256(b"B" * 4000))


def test_a_file_rewritten_after_the_copy_is_whole_and_told(made: Copy) -> None:
    index = settled(made, None, lambda live: (live / "page").write_bytes(b"B" * 5000))
    assert (index.changed, index.torn) == (["app/page"], [])
    assert (entry(index, "app/page").size, entry(index, "app/page").sha256) == (5000, sha256(b"A" * 5000))


@pytest.mark.parametrize("stored", [b"A" * 2500 + b"B" * 2500, b"A" * 2500, b"A" * 4999, b"B" * 6000])
def test_a_mixture_or_a_part_is_torn(made: Copy, stored: bytes) -> None:
    def mix(_: Path) -> None:
        (made.where / "app/page").write_bytes(stored)
        (made.live / "page").write_bytes(b"C" * 5000)

    index = settled(made, None, mix)
    assert index.torn == ["app/page"]
    assert (entry(index, "app/page").size, entry(index, "app/page").sha256) == (len(stored), sha256(stored))
    assert not entry(index, "app/page").whole


def test_same_size_and_time_but_other_content_is_found(made: Copy) -> None:
    """What a store tells is not enough when the file was touched since."""

    def forge(live: Path) -> None:
        found = (live / "page").stat()
        for path in (live / "page", made.where / "app/page"):
            path.write_bytes(b"X" * 5000)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    index = settled(made, None, forge)
    assert entry(index, "app/page").sha256 == sha256(b"X" * 5000)
    assert index.changed == ["app/page"]


def test_a_file_that_changed_within_a_tick_of_the_scan_is_read_back(made: Copy) -> None:
    (made.live / "page").write_bytes(b"Z" * 5000)
    index = trees.scan(made.live.parent, ["app"])
    made.take()
    (made.where / "app/page").write_bytes(b"Y" * 5000)
    shutil.copystat(made.live / "page", made.where / "app/page")
    index = trees.settle(index, made.live.parent, made.entries(), made.read)
    assert index.torn == ["app/page"]


def test_gone_before_the_copy_is_vanished_and_its_links_are_regrouped(made: Copy) -> None:
    for name in ("page2", "page3"):
        (made.live / name).hardlink_to(made.live / "page")
    index = settled(made, lambda live: (live / "page").unlink())
    assert index.vanished == ["app/page"]
    assert "app/page" not in [one.path for one in index.entries]
    assert [entry(index, f"app/{one}").hard_link for one in ("page2", "page3")] == ["", "app/page2"]


def test_gone_after_the_copy_is_still_what_the_store_holds(made: Copy) -> None:
    index = settled(made, None, lambda live: (live / "page").unlink())
    assert index.vanished == []
    assert entry(index, "app/page").sha256 == sha256(b"A" * 5000)
    assert "app/page" in index.changed


def test_what_appeared_is_added_as_far_as_the_store_has_it(made: Copy) -> None:
    def appear(live: Path) -> None:
        (live / "new").mkdir()
        (live / "new/file").write_bytes(b"new")
        (live / "new/link").symlink_to("file")

    index = settled(made, appear)
    assert (entry(index, "app/new/file").sha256, entry(index, "app/new/file").whole) == (sha256(b"new"), False)
    assert entry(index, "app/new/link").link == "file"
    assert {"app/new", "app/new/file", "app/new/link"} <= set(index.changed)
    assert index.entries == sorted(index.entries, key=lambda one: one.path)


def test_a_file_that_became_a_link_is_what_the_store_holds(made: Copy) -> None:
    def turn(live: Path) -> None:
        (live / "page").unlink()
        (live / "page").symlink_to("/etc/shadow")

    index = settled(made, turn)
    assert (entry(index, "app/page").type, entry(index, "app/page").link) == ("link", "/etc/shadow")


def test_a_store_that_left_out_what_stands_there_is_an_error(made: Copy) -> None:
    with pytest.raises(StoreError, match="app/d/quiet"):
        settled(made, None, lambda _: (made.where / "app/d/quiet").unlink())


def test_a_changed_mode_is_told_and_does_not_count(made: Copy) -> None:
    index = settled(made, lambda live: (live / "page").chmod(0o600))
    assert index.changed == ["app/page"]
    assert not entry(index, "app/page").whole


def test_beyond_what_may_be_read_back_files_count_as_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restaura.trees.settling.READ_BACK_BYTES", 100)
    live = tmp_path / "live/app"
    live.mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (live / "big").write_bytes(b"A" * 1000)
    index = settled(Copy(live, tmp_path / "store", False), lambda app: (app / "big").write_bytes(b"B" * 1000))
    assert index.torn == ["app/big"]


def test_an_index_is_read_as_it_was_written(made: Copy) -> None:
    subprocess.run(["setfattr", "-n", "user.x", "-v", "0x00ff", made.live / "page"], check=True)
    (made.live / os.fsdecode(b"caf\xe9\n")).write_bytes(b"")
    index = settled(made, lambda live: (live / "log").unlink())
    again = Index.load(list(index.dump()))
    assert again == index
    assert entry(again, "app/page").xattrs == {"user.x": b"\x00\xff"}
    assert all(line.endswith(b"\n") and line.isascii() for line in index.dump())
