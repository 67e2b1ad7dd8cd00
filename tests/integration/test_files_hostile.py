# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes out of a store is hostile, or of a host with other accounts: nothing escapes, nothing changes hands."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pytest

from restaura import trees
from restaura.config.schema import Config, Settings
from restaura.errors import DamagedError, MismatchError, RefusedError
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import ComponentRecord
from restaura.sources import Target
from restaura.sources.files import Files, FilesComponent
from restaura.trees import Index
from tests.trees_on_disk import digest, seed, shell


@dataclass
class Point:
    """A point whose store is a copy of the tree made by `cp -a`, then spoilt by `spoil`."""

    index_of_tree: Index
    copy: Path
    spoil: Callable[[Path], object]
    point_id: str = "20260101T000000Z-0000000000"
    component: ComponentRecord | None = None

    def names(self) -> list[str]:
        """Only a tree."""
        return ["tree"]

    def index(self, _name: str) -> Index:
        """The signed index."""
        return self.index_of_tree

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """No streams."""
        raise NotImplementedError(name)
        yield

    def restore_tree(self, _name: str, destination: Path, _paths: Sequence[str] | None = None) -> None:
        """Unpack everything."""
        subprocess.run(["cp", "-aT", self.copy, destination], check=True)
        self.spoil(destination)


@dataclass
class Made:
    """A host, its application, and a point of it."""

    files: Files
    app: Path
    point: Point
    host: Host

    @property
    def stored(self) -> str:
        """Where the application is in an unpacked tree."""
        return str(self.app)[1:]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A point of the web application, from a store that may be made to lie."""
    app = seed(tmp_path / "srv/app")
    host = Host(Paths(tmp_path / "root"), Config(Settings(host="web1", reserve_bytes=0, reserve_percent=0)))
    files = Files(FilesComponent(name="app", paths=(str(app),)), host)
    index = trees.scan(Path("/"), [str(app)[1:]])
    copy = tmp_path / "copy"
    (copy / str(app.parent)[1:]).mkdir(parents=True)
    subprocess.run(["cp", "-a", app, copy / str(app.parent)[1:]], check=True)
    return Made(files, app, Point(index, copy, lambda _: None), host)


def nothing_left(made: Made) -> bool:
    """Whether no stage and no debt is left."""
    return not list(made.app.parent.glob(".restaura-*")) and not made.host.journal.open_debts()


def test_an_honest_store_is_the_measure(made: Made) -> None:
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content")) == []
    assert "privileged: " in " ".join(staged.notes)


@pytest.mark.parametrize(
    "spoil",
    [
        'rm -r uploads; ln -s "$1" uploads',
        'rm -r "a b"; ln -s "$1" "a b"',
        'rm bin/su; ln -s "$1/victim" bin/su',
        "rm bin/su; mknod bin/su c 1 3",
        "rm bin/su; mkfifo bin/su",
        "rm bin/su",
    ],
)
def test_a_link_or_device_in_the_place_of_something_else_is_refused_and_reaches_nothing(
    made: Made, tmp_path: Path, spoil: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("victim", "owned", "acl", "attr"):
        (outside / name).write_text("untouched")
    before, live = digest(outside), digest(made.app)
    made.point.spoil = lambda hold: shell(spoil, hold / made.stored, str(outside))
    with pytest.raises(DamagedError):
        made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    assert digest(outside) == before
    assert digest(made.app) == live
    assert nothing_left(made)


@pytest.mark.parametrize(
    "spoil",
    [
        "printf x >> uploads/owned; touch -d '2001-01-01 01:01:01.000000001' uploads/owned",
        "printf evil > added",
        "rm dangling; ln -s /other dangling",
        "cp --remove-destination uploads/2024/list.txt uploads/list-again.txt",
    ],
)
def test_other_content_is_seen_by_the_fingerprint_and_by_a_restore_of_one_path(made: Made, spoil: str) -> None:
    made.point.spoil = lambda hold: shell(spoil, hold / made.stored)
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content"))
    made.files.take_back("stage", {"holds": [one["hold"] for one in staged.data["holds"]]})
    with pytest.raises(MismatchError):
        made.files.stage(made.point, Target("live", paths=(str(made.app),)))  # type: ignore[arg-type]


def test_rights_that_a_store_adds_are_taken_away_again(made: Made) -> None:
    add = (
        "setcap cap_sys_admin+ep bin/ping; chmod 6777 uploads/owned; "
        "setfattr -n user.evil -v x uploads/acl; setfacl -m u:nobody:rwx empty"
    )
    made.point.spoil = lambda hold: shell(add, hold / made.stored)
    before = digest(made.app)
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    made.files.swap(made.files.plan_swap(staged))
    assert digest(made.app) == before


def renamed(index: Index, **names: str) -> Index:
    """Return the index as of a host on which accounts have other names."""
    entries = [
        replace(one, user=names.get(one.user, one.user), group=names.get(one.group, one.group)) for one in index.entries
    ]
    users = {number: names.get(name, name) for number, name in index.users.items()}
    return replace(index, entries=entries, users=users)


def test_owners_and_acls_come_back_by_name_whatever_their_numbers(made: Made) -> None:
    """The host that was backed up calls 33 `games` and 5 `www-data`: here it is the other way round."""
    made.point.index_of_tree = renamed(made.point.index_of_tree, **{"www-data": "games", "games": "www-data"})
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content")) == []
    made.files.swap(made.files.plan_swap(staged))
    assert shell("stat -c '%U %G' uploads/owned bin/su; getfacl -pc uploads/acl | grep user:g", made.app).split() == [
        "games",
        "backup",
        "root",
        "www-data",
        "user:games:rw-",
    ]


def test_an_account_that_is_not_here_keeps_its_number_and_is_told(made: Made) -> None:
    index = made.point.index_of_tree
    entries = [replace(one, user="gone", uid=54321) if one.user == "www-data" else one for one in index.entries]
    made.point.index_of_tree = replace(index, entries=entries)
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    assert any("'gone'" in one and "54321" in one for one in staged.notes)
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content")) == []


def test_the_files_of_an_account_that_is_not_here_go_to_nobody_else_and_are_equal(made: Made) -> None:
    """The number of `gone` is `www-data` here, as happens to system accounts on every host that is made anew."""
    made.point.index_of_tree = renamed(made.point.index_of_tree, **{"www-data": "gone"})
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    assert any("'gone'" in one and "59033; 33 is 'www-data' here" in one for one in staged.notes)
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content")) == []
    made.files.swap(made.files.plan_swap(staged))
    assert shell("stat -c %U:%u uploads/owned; getfacl -pc uploads/acl | grep user:5", made.app).split() == [
        "UNKNOWN:59033",
        "user:59033:rw-",
    ]
    assert not shell("find . -user www-data; getfacl -Rp . | grep www-data || true", made.app)


def test_an_owner_that_was_put_on_wrongly_is_a_difference(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    chown = os.chown
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **given: chown(path, 5 if uid == 33 else uid, gid, **given))
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    wanted = trees.fingerprint(made.point.index_of_tree, "content")
    assert wanted.differences(made.files.fingerprint(staged, "content"))


@pytest.mark.parametrize("path", ["/etc", "/usr", "/var"])
def test_the_system_is_never_restored_live_as_a_whole(made: Made, path: str) -> None:
    files = Files(FilesComponent(name="system", paths=(path,)), made.host)
    made.point.index_of_tree = trees.scan(Path("/"), [path[1:]], depth="catalog", boundaries=[path[1:]])
    with pytest.raises(RefusedError, match="never restored live"):
        files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    assert not list(Path("/").glob(".restaura-*"))


def test_machine_bound_files_stay_unless_asked_for_by_their_exact_path(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made.app / "ssh_host_key").write_text("of the old machine")
    made.point.index_of_tree = trees.scan(Path("/"), [made.stored])
    shell('cp -a "$1/ssh_host_key" "$2/"', made.app, str(made.app), str(made.point.copy / made.stored))
    (made.app / "ssh_host_key").write_text("of this machine")
    (made.app / "uploads/owned").write_text("changed")
    bound = trees.Selection(exclude=("ssh_host_*",), own=False)
    monkeypatch.setattr("restaura.sources.files.MACHINE", bound)
    staged = made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    record = made.files.plan_swap(staged)
    made.files.swap(record)
    assert (made.app / "ssh_host_key").read_text() == "of this machine"
    assert (made.app / "uploads/owned").read_text() == "owned"
    assert record["left"] == [f"{made.app}/ssh_host_key"]
    made.files.undo(record)
    made.files.discard(record)
    monkeypatch.setattr(
        made.point, "restore_tree", lambda *_: shell('mkdir -p "$1"; cp -a "$2" "$1"', made.app, *_only(made))
    )
    one = made.files.stage(made.point, Target("live", paths=(f"{made.app}/ssh_host_key",)))  # type: ignore[arg-type]
    made.files.swap(made.files.plan_swap(one))
    assert (made.app / "ssh_host_key").read_text() == "of the old machine"


def _only(made: Made) -> tuple[str, str]:
    hold = next(made.app.glob(".restaura-stage-*"))
    return f"{hold}/{made.stored}", f"{made.point.copy}/{made.stored}/ssh_host_key"


def test_a_disk_without_room_refuses_before_anything_is_written(made: Made) -> None:
    big = [
        replace(one, size=1 << 60) if one.path.endswith("/owned") else one for one in made.point.index_of_tree.entries
    ]
    made.point.index_of_tree = replace(made.point.index_of_tree, entries=big)
    with pytest.raises(Exception, match="do not fit"):
        made.files.stage(made.point, Target("live"))  # type: ignore[arg-type]
    assert nothing_left(made)
    assert list(made.app.parent.iterdir()) == [made.app]
