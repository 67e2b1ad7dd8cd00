# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that live while they are backed up: logs, rewrites, SQLite under load, open databases; and what stays out."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura import units
from restaura.config.schema import Config, Settings, Store
from restaura.errors import SourceError
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import Depth
from restaura.sources import Tree
from restaura.sources.files import Files, FilesComponent
from restaura.trees import Index
from tests.trees_on_disk import System, digest, shell

LEDGER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute(f"pragma journal_mode={sys.argv[2]}")
db.execute("create table if not exists entries (n integer primary key, debit int, credit int, pad blob)")
print("ready", flush=True)
n = 0
while True:
    n += 1
    db.execute("begin immediate")
    db.execute("insert into entries values (?, ?, 0, randomblob(2000))", (2 * n, n))
    db.execute("insert into entries values (?, 0, ?, randomblob(2000))", (2 * n + 1, n))
    db.execute("commit")
    time.sleep(0.002)
"""
WRITER = """
import os, sys, time
log = open(sys.argv[1] + "/app.log", "a", buffering=1)
n = 0
print("ready", flush=True)
while True:
    n += 1
    log.write(f"line {n}\\n")
    with open(sys.argv[1] + "/state.tmp", "w") as f:
        f.write(str(n) * 1000)
    os.rename(sys.argv[1] + "/state.tmp", sys.argv[1] + "/state")
    open(sys.argv[1] + f"/session-{n % 50}", "w").write(str(n))
    if n > 20:
        try:
            os.unlink(sys.argv[1] + f"/session-{(n - 20) % 50}")
        except FileNotFoundError:
            pass
    time.sleep(0.001)
"""


def running(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a Python script, and wait until it says that it is ready."""
    child = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


@pytest.fixture
def stopping() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children that are killed after the test."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        with child:
            child.kill()


def source(root: Path, **options: Any) -> Files:
    """Return the source over a host below `root`."""
    settings = Settings(host="web1", reserve_bytes=0, reserve_percent=0)
    config = Config(settings, (Store(name="main", location=str(root / "stores/main")),))
    return Files(FilesComponent(name="app", **options), Host(Paths(root), config))


def captured(files: Files, depth: Depth = "content") -> dict[str, Index]:
    """Return the indexes of what a freeze yields."""
    files.prepare(depth)
    with files.freeze(depth) as frozen:
        return {one.name: one.index for one in frozen.artifacts() if isinstance(one, Tree)}


def paths(index: Index, below: Path) -> list[str]:
    """Return the paths of an index below a directory."""
    return [
        one.path[len(str(below)) - 1 :] for one in index.entries if one.path.startswith(str(below).lstrip("/") + "/")
    ]


def balance(database: Path) -> tuple[int, int, int]:
    """Let the sqlite3 program check a database; return entries, sum of debits, sum of credits."""
    ask = "pragma integrity_check; select count(*), sum(debit), sum(credit) from entries"
    said = subprocess.run(["sqlite3", database, ask], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "ok"
    count, debit, credit = (int(one) for one in said[1].split("|"))
    return count, debit, credit


@pytest.mark.parametrize("store", ["dated", "restic"])
def test_a_tree_under_load_is_told_as_what_it_is_and_restored_as_it_was_taken(
    tmp_path: Path, store: str, stopping: list[subprocess.Popen[bytes]]
) -> None:
    system = System(tmp_path)
    app = tmp_path / "srv/app"
    (app / "live").mkdir(parents=True)
    for number in range(300):
        (app / f"quiet-{number}").write_text("quiet")
    system.configure({"paths": [str(app)]}, [store])
    stopping.append(running(WRITER, str(app / "live")))
    stopping += [running(LEDGER, str(app / f"{mode}.db"), mode) for mode in ("wal", "delete")]
    time.sleep(0.5)
    system.well("run", "daily")
    (point,) = system.points()
    assert (point["state"], point["consistency"]) == ("complete", "crash")
    system.well("drill", "--plan", "daily")
    for child in stopping:
        child.kill()
        child.wait()
    shutil.rmtree(app)
    system.well("restore", "--yes")
    for mode in ("wal", "delete"):
        count, debit, credit = balance(app / f"{mode}.db")
        assert count >= 2
        assert count % 2 == 0
        assert debit == credit
    lines = (app / "live/app.log").read_text().splitlines()
    assert len(lines) > 10
    assert lines[:-1] == [f"line {n}" for n in range(1, len(lines))]
    state = (app / "live/state").read_text()
    assert state == state[: len(state) // 1000] * 1000
    assert shell("cat quiet-* | wc -c", app).strip() == "1500"


def test_fifty_thousand_small_files(tmp_path: Path) -> None:
    system = System(tmp_path)
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    shell("for d in {1..250}; do mkdir d$d; for f in {1..200}; do echo $d $f > d$d/f$f; done; done", app)
    before = shell("find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; find . | wc -l", app)
    system.configure({"paths": [str(app)]}, ["restic"])
    system.well("run", "daily")
    shutil.rmtree(app)
    system.well("restore", "--yes")
    after = shell("find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; find . | wc -l", app)
    assert after == before


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_is_copied_with_its_page_size_and_mode_and_nothing_is_left_beside_it(tmp_path: Path, mode: str) -> None:
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    shell(
        'sqlite3 a.db "pragma page_size=8192; pragma journal_mode=$1; create table t (x); insert into t values (1)"',
        app,
        mode,
    )
    os.chown(app / "a.db", 33, 34)
    (app / "a.db").chmod(0o640)
    shell("setfattr -n user.note -v kept a.db; touch -d 2001-01-01 a.db", app)
    before = digest(app)
    files = source(tmp_path, paths=(str(app),))
    files.prepare("content")
    with files.freeze("content") as frozen:
        tree, copies = [one for one in frozen.artifacts() if isinstance(one, Tree)]
        assert digest(app) == before
        assert paths(tree.index, app) == []
        (entry,) = [one for one in copies.index.entries if one.type == "file"]
        assert (entry.mode, entry.user, entry.group, entry.xattrs) == (
            0o640,
            "www-data",
            "backup",
            {"user.note": b"kept"},
        )
        assert entry.mtime_ns == (app / "a.db").stat().st_mtime_ns
        copy = copies.base / entry.path
        said = shell('sqlite3 "$1" "pragma page_size; select x from t"; od -An -tu1 -j18 -N1 "$1"', app, str(copy))
        assert said.split() == ["8192", "1", "2" if mode == "wal" else "1"]
    assert not list((tmp_path / "var/lib/restaura/spool").iterdir())


def test_sqlite_with_the_journal_of_a_crash_is_copied_as_of_before_the_crash(tmp_path: Path) -> None:
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    crash = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma cache_size=1"); db.execute("create table t (x)")
db.execute("insert into t values (zeroblob(100000))")
db.execute("begin"); db.execute("update t set x = randomblob(100000)")
db.execute("insert into t select randomblob(100000) from t")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", crash, str(app / "a.db")], check=False)
    assert (app / "a.db-journal").stat().st_size > 0
    before = digest(app)
    files = source(tmp_path, paths=(str(app),))
    with files.freeze("content") as frozen:
        _, copies = [one for one in frozen.artifacts() if isinstance(one, Tree)]
        copy = copies.base / f"{app}/a.db".lstrip("/")
        assert shell('sqlite3 "$1" "select count(*), sum(x = zeroblob(100000)) from t"', app, str(copy)) == "1|1\n"
    assert digest(app) == before


def test_sqlite_that_stays_locked_fails_the_component_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restaura.sqlite.PATIENCE", 1.0)
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    shell("sqlite3 a.db 'create table t (x)'", app)
    holder = sqlite3.connect(app / "a.db", isolation_level=None)
    holder.execute("begin exclusive")
    with pytest.raises(SourceError, match=r"a\.db: .*locked"), source(tmp_path, paths=(str(app),)).freeze("content"):
        pass
    holder.close()


def test_what_only_looks_like_sqlite_is_taken_as_a_file_and_noted(tmp_path: Path) -> None:
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    (app / "fake.db").write_bytes((b"SQLite format 3\0" + b"no database " * 500).ljust(6144))
    shell("sqlite3 bad.db 'create table t (x); insert into t values (zeroblob(50000))'", app)
    shell("printf garbage-garbage | dd of=bad.db bs=1 seek=9000 conv=notrunc status=none; printf x > bad.db-wal", app)
    shell("dd if=/dev/urandom of=bad.db bs=4096 seek=1 count=1 conv=notrunc status=none", app)
    before = digest(app)
    files = source(tmp_path, paths=(str(app),))
    with files.freeze("content") as frozen:
        (tree,) = [one for one in frozen.artifacts() if isinstance(one, Tree)]
        outcome = frozen.outcome({"tree": tree.index})
    assert digest(app) == before
    assert paths(tree.index, app) == ["/bad.db", "/bad.db-wal", "/fake.db"]
    hashes = {one.path.rsplit("/", 1)[1]: one.sha256 for one in tree.index.entries if one.type == "file"}
    assert hashes["fake.db"] == shell("sha256sum fake.db", app)[:64]
    assert len([one for one in outcome.notes if "plain file" in one]) == 2


def test_own_places_stores_and_kept_copies_are_left_out(tmp_path: Path) -> None:
    for path in ("stores/main/x", "var/lib/restaura/x", "etc/restaura/keys/x", ".restaura-kept-1/x", "srv/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    index = captured(source(tmp_path, paths=(str(tmp_path),)))["tree"]
    assert [one for one in paths(index, tmp_path) if "x" in one] == ["/srv/x"]


def test_include_and_exclude(tmp_path: Path) -> None:
    for path in ("a.tmp", "keep.tmp", "cache/x", "cache/keep/y", "node_modules/z", "src/node_modules"):
        (tmp_path / "srv" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "srv" / path).write_text("x")
    srv = tmp_path / "srv"
    files = source(
        tmp_path,
        paths=(str(srv),),
        exclude=("*.tmp", f"{srv}/cache/", "node_modules/"),
        include=("keep.tmp", f"{srv}/cache/keep/"),
    )
    assert paths(captured(files)["tree"], srv) == [
        "/cache",
        "/cache/keep",
        "/cache/keep/y",
        "/keep.tmp",
        "/src",
        "/src/node_modules",
    ]


@pytest.mark.parametrize("one_file_system", [True, False])
def test_other_mounts_are_told_or_entered_and_proc_never(tmp_path: Path, one_file_system: bool) -> None:
    srv = tmp_path / "srv"
    for name in ("disk", "proc"):
        (srv / name).mkdir(parents=True)
    shell("mount -t tmpfs none disk; mount -t proc none proc; echo x > disk/file", srv)
    try:
        files = source(tmp_path, paths=(str(srv),), one_file_system=one_file_system)
        index = captured(files)["tree"]
        warnings = files.probe().warnings
    finally:
        shell("umount disk proc", srv)
    inner = [] if one_file_system else ["/disk/file"]
    assert paths(index, srv) == ["/disk", *inner, "/proc"]
    assert warnings == ([f"the mount {srv}/disk is not entered"] if one_file_system else [])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["missing"], "is not there"),
        (["link"], "symbolic link"),
        (["link/below"], "symbolic link"),
        (["real", "real/below"], "overlap"),
        (["real", "real"], "overlap"),
        (["real/../real"], "'..'"),
        (["var/lib/restaura/spool"], "Restaura's own"),
        (["stores/main"], "a store"),
        ([], "no paths"),
    ],
)
def test_a_wrong_path_stops_the_component_before_anything_is_touched(
    tmp_path: Path, given: list[str], problem: str
) -> None:
    for path in ("real/below", "var/lib/restaura/spool", "stores/main"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    before = digest(tmp_path)
    probe = source(tmp_path, paths=tuple(f"{tmp_path}/{one}" for one in given)).probe()
    assert any(problem in what and fix for what, fix in probe.problems), probe.problems
    assert digest(tmp_path) == before


def test_an_open_database_of_another_engine_stops_the_component_unless_excluded_or_accepted(
    tmp_path: Path, stopping: list[subprocess.Popen[bytes]]
) -> None:
    data = tmp_path / "srv/redis"
    data.mkdir(parents=True)
    stopping.append(
        running(
            "import sys, time; f = open(sys.argv[1], 'a'); print('ready', flush=True); time.sleep(99)",
            f"{data}/appendonly.aof",
        )
    )
    ((what, _),) = source(tmp_path, paths=(str(tmp_path / "srv"),)).probe().problems
    assert f"PID {stopping[0].pid}" in what
    assert "Redis" in what
    assert source(tmp_path, paths=(str(tmp_path / "srv"),), exclude=("redis/",)).probe().problems == []
    accepted = source(tmp_path, paths=(str(tmp_path / "srv"),), accept_torn=True).probe()
    assert accepted.problems == []
    assert len(accepted.warnings) == 1


def test_a_file_that_cannot_be_read_fails_the_component_and_names_it(tmp_path: Path) -> None:
    srv = tmp_path / "srv"
    srv.mkdir()
    shell('touch bad; mount --bind "/proc/$1/mem" bad', srv, str(os.getpid()))
    try:
        with pytest.raises(SourceError, match="Input/output error") as raised:
            captured(source(tmp_path, paths=(str(srv),)))
    finally:
        shell("umount bad", srv)
    assert raised.value.where == f"{srv}/bad"
    assert raised.value.fix


def test_a_path_that_vanished_before_the_freeze_fails_the_component(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    files = source(tmp_path, paths=(str(tmp_path / "srv"),))
    files.prepare("content")
    (tmp_path / "srv").rmdir()
    with pytest.raises(SourceError, match="is not there"), files.freeze("content"):
        pass


def test_who_holds_live_data_is_named_whatever_the_way(tmp_path: Path, stopping: list[subprocess.Popen[bytes]]) -> None:
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    (app / "file").write_bytes(b"x" * 4096)
    shutil.copy("/bin/sleep", app / "program")
    files = source(tmp_path, paths=(str(app),))
    sleep = "; print('ready', flush=True); time.sleep(99)"
    stopping += [
        running(f"import os, sys, time; os.chdir(sys.argv[1]){sleep}", str(app)),
        running(f"import sys, time; f = open(sys.argv[1]){sleep}", f"{app}/file"),
        running(
            f"import mmap, sys, time; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 0, prot=1); f.close(){sleep}",
            f"{app}/file",
        ),
        running(
            f"import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]){sleep}", f"{app}/sock"
        ),
        subprocess.Popen([app / "program", "99"]),
        subprocess.Popen(
            [
                "unshare",
                "-m",
                "sh",
                "-c",
                'mkdir -p "$2" && mount --bind "$1" "$2" && echo ready && exec sleep 99',
                "sh",
                str(app),
                str(tmp_path / "elsewhere"),
            ],
            stdout=subprocess.PIPE,
        ),
    ]
    assert stopping[-1].stdout is not None
    stopping[-1].stdout.readline()
    time.sleep(0.2)
    staged = type(
        "Live",
        (),
        {"target": type("T", (), {"kind": "live"}), "data": {"holds": [{"hold": "", "paths": [str(app)[1:]]}]}},
    )
    held = files.busy(staged)  # type: ignore[arg-type]
    assert {int(one.split()[0]) for one in held} == {one.pid for one in stopping}
    for child in stopping:
        child.kill()
        child.wait()
    assert files.busy(staged) == []  # type: ignore[arg-type]


def test_units_that_run_are_stopped_around_a_swap_and_started_again(tmp_path: Path) -> None:
    app = tmp_path / "srv/app"
    app.mkdir(parents=True)
    (app / "file").write_text("old")
    unit = Path("/run/systemd/system/restaura-test-app.service")
    unit.write_text(f"[Service]\nWorkingDirectory={app}\nExecStart=/bin/sleep infinity\n")
    system = System(tmp_path)
    component = {"paths": [str(app)], "restore_stops": [unit.name, "restaura-test-other.service"]}
    system.configure(component, ["dated"])
    system.well("run", "daily")
    (app / "file").write_text("new")
    shell(f"systemctl daemon-reload; systemctl start {unit.name}", app)
    try:
        begun = shell(f"systemctl show -p MainPID --value {unit.name}", app)
        system.well("restore", "--yes")
        now = shell(f"systemctl show -p MainPID --value {unit.name}", app)
        assert now not in (begun, "0\n")
        assert (app / "file").read_text() == "old"
        assert shell('readlink "/proc/$1/cwd"', app, now.strip()) == f"{app}\n"
    finally:
        shell(f"systemctl stop {unit.name}", app)
        unit.unlink()


def test_a_unit_of_several_components_is_started_as_often_as_it_was_stopped() -> None:
    folder = Path("/run/systemd/system")
    unit = folder / "restaura-test-often.service"
    wanted = folder / "multi-user.target.wants" / unit.name
    unit.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    # Enabled: systemd forgets the starts of a unit that nothing wants.
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to(unit)
    shell(f"systemctl daemon-reload; systemctl start {unit.name}", folder)
    try:
        for _ in range(8):
            units.stop([unit.name])
            units.start([unit.name])
        assert units.running([unit.name]) == [unit.name]
    finally:
        wanted.unlink()
        shell(f"systemctl stop {unit.name}", folder)
        unit.unlink()
