# SPDX-License-Identifier: GPL-3.0-or-later
"""Restored and live files change places: whole or undone, whatever step the machine dies at."""

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from restaura import exchange
from restaura.errors import RefusedError, SourceError
from restaura.sources.files import Files
from tests.trees_on_disk import digest, shell

MAKE = """
mkdir -p "$1/conf" "$1/data/deep"
echo "$2" > "$1/conf/a"; echo "$2 b" > "$1/data/deep/b"; ln "$1/conf/a" "$1/data/a2"; ln -s conf "$1/link"
chmod "$3" "$1" "$1/conf"; setfattr -n user.side -v "$2" "$1"; chown "$4" "$1/data"
touch -d "$5" "$1/data/deep" "$1/data" "$1/conf" "$1"
"""
OLD, NEW = ("old", "755", "root:root", "2001-01-01"), ("new", "750", "www-data:backup", "2002-02-02")


@dataclass
class Swap:
    """Live data, restored data in a hold beside it, and what is to be exchanged."""

    live: Path
    hold: Path
    stays: Callable[[str, bool], bool] = lambda _path, _is_dir: False
    keeps: Callable[[str], bool] = lambda _path: False
    paths: Sequence[str] = ()
    left: list[str] = field(default_factory=list)

    @property
    def inside(self) -> Path:
        """Where the restored data stands in the hold."""
        return Path(f"{self.hold}{self.live}")

    def plan(self) -> dict[str, Any]:
        """Return the record, as it comes back from the disk."""
        stage = str(self.hold)
        planner = exchange.Planner(0, self.hold, self.stays, self.keeps)
        for path in self.paths or [str(self.live)]:
            planner.add(path.lstrip("/"))
        self.left = planner.left
        holds = [exchange.Hold(stage, stage.replace(exchange.STAGE, exchange.KEPT))]
        record: dict[str, Any] = json.loads(json.dumps({**exchange.record(holds, [planner]), "units": []}))
        return record


@pytest.fixture
def swap(tmp_path: Path) -> Swap:
    """Live data and restored data that differ in everything."""
    made = Swap(tmp_path / "srv/app", tmp_path / "srv/.restaura-stage-1")
    make(made)
    return made


def make(made: Swap) -> None:
    """Make both sides."""
    made.live.parent.mkdir(parents=True, exist_ok=True)
    shell(MAKE, made.live.parent, str(made.live), *OLD)
    made.hold.mkdir(mode=0o700)
    made.inside.parent.mkdir(parents=True)
    shell(MAKE, made.hold, str(made.inside), *NEW)


@contextlib.contextmanager
def tmpfs(where: Path) -> Iterator[None]:
    """Mount a file system."""
    where.mkdir(parents=True, exist_ok=True)
    shell('mount -t tmpfs -o mode=755 none "$1"', where.parent, str(where))
    try:
        yield
    finally:
        shell('umount "$1"', where.parent, str(where))


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel know no RENAME_EXCHANGE, as on NFS."""
    real = exchange._rename

    def rename(old: str, new: str, flags: int) -> None:
        if flags == exchange.EXCHANGE:
            raise OSError(errno.EINVAL, "Invalid argument")
        real(old, new, flags)

    monkeypatch.setattr(exchange, "_rename", rename)


def die_at(step: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run `act` in a child that is killed just before its `step`th change of the disk; return whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)

            return call

        monkeypatch.setattr(exchange._libc, "renameat2", counted(exchange._libc.renameat2))
        for name in ("rename", "chown", "setxattr", "utime"):
            monkeypatch.setattr(os, name, counted(getattr(os, name)))
        with contextlib.suppress(BaseException):
            act()
            os._exit(0)
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), "the child failed"
    return status == signal.SIGKILL


def state(made: Swap) -> str:
    """Return the digest of the live side of a mount point, but for the hold in it, which also changes its mtime."""
    top = shell("stat -c '%a %U %G' .; getfattr -d -m - .", made.live)
    return top + digest(made.live, "./.restaura-*", ".")


def test_swap_undo_and_swap_again_each_twice(swap: Swap) -> None:
    old, new = digest(swap.live), digest(swap.inside)
    assert old != new
    record = swap.plan()
    for act, live in ((Files.swap, new), (Files.undo, old), (Files.swap, new)):
        act(record)
        act(record)
        assert digest(swap.live) == live
    Files.discard(record)
    Files.discard(record)
    assert list(swap.live.parent.iterdir()) == [swap.live]
    assert digest(swap.live) == new


@pytest.mark.parametrize("kernel", ["exchange", "no exchange"])
@pytest.mark.parametrize("way", ["whole", "entry by entry"])
def test_killed_at_every_step_of_a_swap_it_is_undone_whole_or_finished_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, way: str
) -> None:
    if kernel == "no exchange":
        without_exchange(monkeypatch)
    step, killed = 0, True
    while killed:
        step += 1
        made = Swap(tmp_path / f"{step}/app", tmp_path / f"{step}/.restaura-stage-1")
        make(made)
        if way == "entry by entry":
            (made.live / "cache").mkdir()
            made.stays = lambda path, _: path.endswith("/cache")
        old, new = digest(made.live, "./cache*"), digest(made.inside)
        record = made.plan()
        assert (len(record["moves"]) > 1) == (way == "entry by entry")
        killed = die_at(step, lambda record=record: Files.swap(record), monkeypatch)  # type: ignore[misc]
        if not made.hold.exists():
            # The debt of the stage is still there too: paying it must never take away what was live.
            Files.take_back("stage", {"holds": [str(made.hold)]})
        if step % 3:
            Files.undo(record)
            assert digest(made.live, "./cache*") == old
            Files.discard(record)
            assert digest(made.live, "./cache*") == old
        else:
            Files.swap(record)
            assert digest(made.live, "./cache*") == new
            killed_undoing = die_at(2, lambda record=record: Files.undo(record), monkeypatch)  # type: ignore[misc]
            assert killed_undoing
            Files.undo(record)
            assert digest(made.live, "./cache*") == old
    assert step > 2


def test_what_is_no_part_of_the_backup_stays_where_it_is(swap: Swap) -> None:
    (swap.live / "data/cache").mkdir()
    (swap.live / "data/cache/page").write_text("cached")
    (swap.live / "data/since").write_text("since the backup")
    inode = (swap.live / "data/cache/page").stat().st_ino
    old, new = digest(swap.live), digest(swap.inside)
    swap.stays = lambda path, is_dir: is_dir and path.endswith("/cache")
    record = swap.plan()
    Files.swap(record)
    assert digest(swap.live, "./data/cache*") == new
    assert (swap.live / "data/cache/page").stat().st_ino == inode
    assert not (swap.live / "data/since").exists()
    Files.undo(record)
    assert digest(swap.live) == old


def test_a_mount_below_stays_mounted(swap: Swap) -> None:
    new = digest(swap.inside, "./data")
    with tmpfs(swap.live / "data/mnt"):
        (swap.live / "data/mnt/other").write_text("another disk")
        (swap.inside / "data/mnt").mkdir()
        record = swap.plan()
        Files.swap(record)
        assert (swap.live / "data/mnt/other").read_text() == "another disk"
        assert digest(swap.live, "./data/mnt*", "./data") == new
        Files.undo(record)
        assert (swap.live / "conf/a").read_text() == "old\n"
        assert (swap.live / "data/mnt/other").read_text() == "another disk"
        (swap.inside / "data/mnt/other").write_text("backed up")
        with pytest.raises(RefusedError, match="mount"):
            swap.plan()


def test_a_path_that_is_a_mount_point_changes_its_entries_and_attributes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "app"):
        made = Swap(tmp_path / "app", tmp_path / "app/.restaura-stage-1")
        make(made)
        old, new = state(made), state(Swap(made.inside, made.hold))
        record = made.plan()
        Files.swap(record)
        assert state(made) == new
        assert made.live.is_mount()
        Files.undo(record)
        assert state(made) == old
        Files.swap(record)
        Files.discard(record)
        assert state(made) == new
        assert not list(made.live.glob(".restaura-*"))


def test_directories_of_a_lower_layer_change_entry_by_entry(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk"):
        shell(MAKE, tmp_path / "disk", str(tmp_path / "disk/lower/app"), *OLD)
        # overlayfs keeps no hard links of a lower layer together.
        (tmp_path / "disk/lower/app/data/a2").unlink()
        shell(
            "mkdir disk/upper disk/work over; "
            "mount -t overlay -o lowerdir=disk/lower,upperdir=disk/upper,workdir=disk/work none over",
            tmp_path,
        )
        try:
            made = Swap(tmp_path / "over/app", tmp_path / "over/.restaura-stage-1")
            made.hold.mkdir(mode=0o700)
            made.inside.parent.mkdir(parents=True)
            shell(MAKE, made.hold, str(made.inside), *NEW)
            (made.inside / "data/a2").unlink()
            shell(
                'touch -d 2001-01-01 "$1/data"; touch -d 2002-02-02 "$2/data"',
                tmp_path,
                str(made.live),
                str(made.inside),
            )
            old, new = digest(made.live), digest(made.inside)
            record = made.plan()
            assert len(record["moves"]) > 1
            Files.swap(record)
            assert digest(made.live) == new
            Files.undo(record)
            assert digest(made.live) == old
        finally:
            shell("umount over", tmp_path)


def test_a_missing_path_appears_with_its_missing_parents_and_goes_again(tmp_path: Path) -> None:
    made = Swap(tmp_path / "srv/www/site", tmp_path / ".restaura-stage-1")
    made.hold.mkdir(mode=0o700)
    made.inside.parent.mkdir(parents=True)
    shell(MAKE, made.hold, str(made.inside), *NEW)
    made.inside.parent.chmod(0o711)
    os.chown(made.inside.parent, 33, 34)
    new = digest(made.inside)
    record = made.plan()
    Files.swap(record)
    assert digest(made.live) == new
    assert shell("stat -c '%a %U %G' srv/www", tmp_path) == "711 www-data backup\n"
    Files.undo(record)
    assert not (tmp_path / "srv").exists()
    Files.swap(record)
    Files.discard(record)
    assert digest(made.live) == new


def test_one_file_that_an_editor_replaced_since_is_swapped_back_all_the_same(swap: Swap) -> None:
    swap.paths = [f"{swap.live}/conf/a"]
    record = swap.plan()
    Files.swap(record)
    assert (swap.live / "conf/a").read_text() == "new\n"
    (swap.live / "conf/a.tmp").write_text("edited\n")
    (swap.live / "conf/a.tmp").rename(swap.live / "conf/a")
    Files.swap(record)
    assert (swap.live / "conf/a").read_text() == "edited\n"
    Files.undo(record)
    assert (swap.live / "conf/a").read_text() == "old\n"
    assert (swap.live / "data/deep/b").read_text() == "old b\n"


def test_half_a_swap_is_not_discarded(swap: Swap, monkeypatch: pytest.MonkeyPatch) -> None:
    swap.stays = lambda path, _: path.endswith("/link")
    (swap.inside / "link").unlink()
    record = swap.plan()
    assert die_at(3, lambda: Files.swap(record), monkeypatch)
    with pytest.raises(RefusedError, match="half-way"):
        Files.discard(record)


def test_a_kept_copy_that_is_gone_is_an_error_and_nothing_moves(swap: Swap) -> None:
    record = swap.plan()
    Files.swap(record)
    new = digest(swap.live)
    kept = Path(record["holds"][0]["kept"])
    kept.rename(swap.live.parent / "away")
    with pytest.raises(SourceError, match="gone"):
        Files.undo(record)
    (swap.live.parent / "away").rename(kept)
    Path(f"{kept}{swap.live}").rename(swap.live.parent / "old-data")
    with pytest.raises(SourceError, match="taken away"):
        Files.undo(record)
    assert digest(swap.live) == new
