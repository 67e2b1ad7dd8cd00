# SPDX-License-Identifier: GPL-3.0-or-later
"""Blobs on a disk, and the arithmetic of multipart uploads."""

import os
import threading
from pathlib import Path

import pytest

from restaura.config.schema import Config, Settings, Store
from restaura.errors import DamagedError, SpaceError, StoreError
from restaura.host import Host
from restaura.paths import Paths
from restaura.stores.blobs import LocalBlobs
from restaura.stores.s3 import part_bytes

MIB = 1 << 20
PARTS = 10_000
LARGEST_PART = 5 << 30


def blobs_at(root: Path, **settings: int) -> LocalBlobs:
    store = Store(name="main", type="dated", location=str(root / "store"))
    reserve = {"reserve_bytes": 0, "reserve_percent": 0, **settings}
    host = Host(Paths(root / "host"), Config(Settings(host="web1", **reserve), (store,)))
    return LocalBlobs(root / "store", host, "main")


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    made = blobs_at(tmp_path)
    assert made.create()
    return made


def files(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())


def test_a_blob_is_not_there_before_its_commit_and_not_after_an_abort(blobs: LocalBlobs) -> None:
    kept, dropped = blobs.write("a/kept"), blobs.write("a/dropped")
    kept.write(b"one")
    dropped.write(b"two")
    assert blobs.listing("") == []
    assert blobs.get("a/kept") is None
    kept.commit()
    dropped.abort()
    assert files(blobs.root) == ["a/kept"]
    assert [(blob.key, blob.size) for blob in blobs.listing("a")] == [("a/kept", 3)]
    with blobs.open("a/kept", start=1) as stream:
        assert stream.read() == b"ne"


def test_only_one_of_many_writers_gets_a_key(blobs: LocalBlobs) -> None:
    won = []
    line = threading.Barrier(8)

    def claim(number: int) -> None:
        line.wait()
        if blobs.put_if_absent("claims/x", b"%d" % number):
            won.append(b"%d" % number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert blobs.get("claims/x") == won[0]
    assert files(blobs.root) == ["claims/x"]


def test_a_disk_without_hard_links_refuses_the_second_writer_too(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links on FAT")

    monkeypatch.setattr(os, "link", refuse)
    assert blobs.put_if_absent("x", b"1")
    assert not blobs.put_if_absent("x", b"2")
    assert blobs.get("x") == b"1"


@pytest.mark.parametrize("key", ["", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/\0"])
def test_no_key_leads_out_of_the_store(blobs: LocalBlobs, key: str) -> None:
    (blobs.root.parent / "x").write_bytes(b"outside")
    for act in (blobs.get, blobs.size, blobs.write, blobs.delete_all, lambda one: blobs.delete([one])):
        with pytest.raises(DamagedError, match="no path inside a store"):
            act(key)
    assert (blobs.root.parent / "x").read_bytes() == b"outside"


def test_an_unmounted_disk_is_an_error_and_not_a_new_store(tmp_path: Path) -> None:
    blobs = blobs_at(tmp_path)
    for act in (lambda: blobs.put("x", b""), lambda: blobs.write("x"), lambda: blobs.listing(""), blobs.probe):
        with pytest.raises(StoreError, match="directory is not there"):
            act()
    assert not (tmp_path / "store").exists()


def test_the_reserve_is_kept_free_while_writing(tmp_path: Path) -> None:
    blobs_at(tmp_path).create()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    total = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    # All but 32 MiB of what is free now belongs to the reserve, give or take what others write meanwhile.
    blobs = blobs_at(tmp_path, reserve_bytes=free - 32 * MIB, reserve_percent=-(-100 * free // total))
    writer = blobs.write("x")

    def write(count: int) -> None:
        for _ in range(count):
            writer.write(bytes(MIB))

    with pytest.raises(SpaceError, match="stay in reserve"):
        write(256)
    writer.abort()
    assert files(tmp_path / "store") == []
    with pytest.raises(SpaceError, match="stay in reserve"):
        blobs.write("y", expected=1 << 40)


def test_deleting_leaves_no_empty_folders_and_nothing_else_touched(blobs: LocalBlobs) -> None:
    for key in ("a/b/1", "a/b/2", "a/c"):
        blobs.put(key, b"")
    blobs.delete(["a/b/1", "a/b/2", "a/gone"])
    assert sorted(path.name for path in (blobs.root / "a").iterdir()) == ["c"]
    unfinished = blobs.write("a/d/unfinished")
    unfinished.write(b"x")
    blobs.delete_all("a")
    unfinished.abort()
    assert list(blobs.root.iterdir()) == []


@pytest.mark.parametrize("expected", [0, 1, 300 << 30, 4 << 40])
def test_an_upload_of_twice_the_expected_size_fits_into_the_parts_that_s3_takes(expected: int) -> None:
    sizes = [part_bytes(number, expected) for number in range(1, PARTS + 1)]
    assert sum(sizes) >= min(2 * expected, 5 << 40)
    assert max(sizes[: PARTS // 2]) <= LARGEST_PART
    assert min(sizes) >= 5 * MIB


def test_parts_are_of_one_size_as_long_as_the_expectation_holds() -> None:
    expected = 300 << 30
    sent, sizes = 0, set()
    for number in range(1, PARTS + 1):
        sizes.add(part_bytes(number, expected))
        sent += part_bytes(number, expected)
        if sent >= expected:
            break
    assert len(sizes) == 1


def test_an_upload_of_unknown_size_can_grow_to_4_tib() -> None:
    assert sum(part_bytes(number, None) for number in range(1, PARTS + 1)) >= 4 << 40
