# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not hurt: tables truncated during a run, held locks, killed dumps, dead programs, wrong passwords."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restaura.errors import RestauraError, SourceError
from restaura.host import Host
from restaura.sources import Stream, Target
from restaura.sources.postgres import Postgres
from tests.memory_point import take
from tests.postgres_cluster import Cluster, make_host, recover, run, scratch_root, source, wait_until

ROWS = 2000
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'restaura-%'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(5521, "restaurasurvive")
    made.create()
    made.sql("CREATE DATABASE app")
    made.sql(
        f"CREATE TABLE busy AS SELECT g AS id, repeat(md5(g::text), 10) AS x FROM generate_series(1, {ROWS}) g;"
        "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 30) AS x FROM generate_series(1, 60000) g",
        "app",
    )
    yield made
    made.destroy()


@pytest.fixture
def host() -> Iterator[Host]:
    with scratch_root() as root:
        yield make_host(root)


def still(cluster: Cluster) -> bool:
    return cluster.sql(OURS) == "0"


def test_tables_truncated_created_and_dropped_during_runs_are_whole_or_not_there(cluster: Cluster, host: Host) -> None:
    stop = threading.Event()
    seen: list[str] = []

    def disturb() -> None:
        argv = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "psql",
            "-XAtq",
            "-p",
            "5521",
            "app",
        ]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, cwd="/", stdout=subprocess.DEVNULL) as psql:
            assert psql.stdin is not None
            while not stop.is_set():
                psql.stdin.write(
                    "BEGIN; TRUNCATE busy; INSERT INTO busy SELECT g, repeat(md5(g::text), 10) "
                    f"FROM generate_series(1, {ROWS}) g; COMMIT;\n"
                    "DROP TABLE IF EXISTS passing; CREATE TABLE passing AS SELECT 1 AS one;\n"
                )
                psql.stdin.flush()
                time.sleep(0.02)
            psql.stdin.close()
            seen.append("ended")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        own = source(host, cluster.cluster, databases=("app",), lock_timeout=1, lock_wait=60)
        points = [take(own) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    for point in points:
        text = subprocess.run(
            ["pg_restore", "-f", "-"], input=point.data["databases/app.dump"], capture_output=True, check=True
        ).stdout.decode()
        copied = text.partition("COPY public.busy ")[2].partition("\n\\.\n")[0].count("\n")
        assert copied == ROWS
        passing = text.partition("COPY public.passing ")[2].partition("\n\\.\n")[0].count("\n")
        assert passing == ("CREATE TABLE public.passing" in text)
    wait_until(lambda: still(cluster))
    with own.scratch() as target:
        staged = own.stage(points[-1], target)
        assert points[-1].record.fingerprint is not None
        assert points[-1].record.fingerprint.differences(own.fingerprint(staged, "content")) == []


def test_a_lock_that_is_not_given_is_tried_again_and_then_named(cluster: Cluster, host: Host) -> None:
    argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-XAtq", "-p", "5521", "app"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("BEGIN; LOCK TABLE busy; SELECT 1;\n")
        other.stdin.flush()
        other.stdout.readline()
        begun = time.monotonic()
        with pytest.raises(SourceError, match="could not be locked within 3 seconds"):
            take(source(host, cluster.cluster, lock_timeout=1, lock_wait=3))
        assert time.monotonic() - begun > 3
        threading.Timer(2, other.stdin.close).start()
        assert "databases/app.dump" in take(source(host, cluster.cluster, lock_timeout=1, lock_wait=30)).data
    assert still(cluster)
    assert not host.journal.open_debts()


def copy(own: Postgres, meanwhile: Callable[[], object]) -> list[str]:
    """Copy all streams, with something happening while the dump is read; return those left well, and the error."""
    left: list[str] = []
    with error_as_last(left), own.freeze("content") as frozen:
        for artifact in frozen.artifacts():
            assert isinstance(artifact, Stream)
            with artifact.open() as stream:
                if artifact.name == "databases/app.dump":
                    stream.read(1 << 20)
                    meanwhile()
                while stream.read(1 << 20):
                    pass
            left.append(artifact.name)
    return left


@contextlib.contextmanager
def error_as_last(left: list[str]) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        left.append(error.what)


def end_dump_session(cluster: Cluster) -> None:
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%-dump'")


@pytest.mark.parametrize("how", ["the program", "its connection"])
def test_a_dump_that_dies_half_way_never_leaves_its_stream_well(cluster: Cluster, host: Host, how: str) -> None:
    own = source(host, cluster.cluster, databases=("app",))
    assert "databases/app.dump" in copy(own, lambda: None)
    if how == "the program":
        left = copy(own, lambda: run("pkill", "-KILL", "-P", str(os.getpid()), "pg_dump"))
    else:
        left = copy(own, lambda: end_dump_session(cluster))
    assert "databases/app.dump" not in left
    assert "pg_dump" in left[-1]
    wait_until(lambda: still(cluster))
    assert not host.journal.open_debts()


def test_a_snapshot_has_a_greatest_age(cluster: Cluster, host: Host) -> None:
    own = source(host, cluster.cluster, databases=("app",), snapshot_max_age=2)
    left = copy(own, lambda: time.sleep(3))
    assert "databases/app.dump" not in left
    assert left[-1] == "its snapshot was held for more than 2 seconds"
    wait_until(lambda: still(cluster))


def test_a_server_that_is_down_and_one_that_is_not_there_are_named(cluster: Cluster, host: Host) -> None:
    cluster.stop()
    try:
        down = source(host, cluster.cluster)
        what, fix = down.probe().problems[0]
        assert "does not run" in what
        assert fix == f"pg_ctlcluster {cluster.major} {cluster.name} start"
        with pytest.raises(SourceError, match="does not run"):
            take(down)
    finally:
        cluster.start()
    assert "no cluster '9/gone'" in source(host, "9/gone").probe().problems[0][0]
    assert "there is no database 'gone'" in source(host, cluster.cluster, databases=("gone",)).probe().problems[0][0]


def test_tcp_takes_its_password_from_a_file_and_shows_it_to_nobody(cluster: Cluster, host: Host) -> None:
    secret = r"p:a\ss 'w\"ord"
    cluster.sql("CREATE ROLE keeper SUPERUSER LOGIN; ALTER ROLE keeper PASSWORD $p$" + secret + "$p$")
    key = host.paths.keys / "components.db.password"
    key.parent.mkdir(parents=True)
    key.write_text(secret)
    remote = source(host, host="127.0.0.1", port=5521, user="keeper", databases=("app",))
    assert remote.probe().problems == []
    with remote.freeze("content") as frozen:
        shown = run("ps", "-eo", "args")
        assert "ass 'w" not in shown
        assert any(isinstance(one, Stream) for one in frozen.artifacts())
    key.write_text("wrong")
    what, fix = remote.probe().problems[0]
    assert "password authentication failed" in what
    assert "wrong" not in what + fix


def test_a_restricted_role_is_refused_where_it_cannot_read_everything(cluster: Cluster, host: Host) -> None:
    cluster.sql("CREATE ROLE lesser LOGIN PASSWORD 'x'; CREATE DATABASE objects")
    key = host.paths.keys / "components.db.password"
    key.parent.mkdir(parents=True)
    key.write_text("x")
    options = {"host": "127.0.0.1", "port": 5521, "user": "lesser", "exclude_databases": ("objects",)}
    assert "no superuser" in source(host, **options).probe().problems[0][0]
    assert "may not read every row" in source(host, restricted_role=True, **options).probe().problems[0][0]
    cluster.sql("ALTER ROLE lesser BYPASSRLS; GRANT pg_read_all_data TO lesser")
    allowed = source(host, restricted_role=True, **options)
    assert allowed.probe().problems == []
    point = take(allowed)
    assert len(point.data["databases/app.dump"]) > 1_000_000
    assert any("configuration files are not in the backup" in note for note in point.record.notes)
    cluster.sql("SELECT lo_create(7)", "objects")
    everything = source(host, restricted_role=True, **(options | {"exclude_databases": ()}))
    assert "large objects" in everything.probe().problems[0][0]
    cluster.sql("DROP DATABASE objects")


VICTIM = """
import sys, time
sys.path[:0] = [{repository!r} + "/src", {repository!r}]
from pathlib import Path
from restaura.sources import Target
from tests.memory_point import take
from tests.postgres_cluster import make_host, source
host = make_host(Path({root!r}))
own = source(host, {cluster!r}, databases=("app", "closed"), terminate_sessions=True)
phase = {phase!r}
def here():
    Path({root!r}, "here").touch()
    time.sleep(100)
if phase == "freeze":
    with own.freeze("content") as frozen:
        here()
point = take(own)
if phase == "scratch":
    with own.scratch() as target:
        own.stage(point, target)
        here()
opened = point.open
if phase == "stage":
    def stalling(name):
        if name == "databases/closed.dump":
            here()
        return opened(name)
    point.open = stalling
own.stage(point, Target("live"))
"""


@pytest.mark.parametrize("phase", ["freeze", "scratch", "stage"])
def test_a_killed_program_leaves_nothing_after_recovery(cluster: Cluster, host: Host, phase: str) -> None:
    if "closed" not in cluster.databases():
        cluster.sql("CREATE DATABASE closed")
        cluster.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false")
    before = cluster.databases()
    root, repository = str(host.paths.root), str(Path(__file__).parents[2])
    script = VICTIM.format(repository=repository, root=root, cluster=cluster.cluster, phase=phase)
    with subprocess.Popen([sys.executable, "-c", script]) as victim:
        wait_until(lambda: Path(root, "here").exists(), 60)
        assert phase != "stage" or len(cluster.databases()) > len(before)
        os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: still(cluster))
    acts = recover(host)
    assert {"freeze": "refuse connections", "scratch": "scratch", "stage": "stage"}[phase] in acts
    assert cluster.databases() == before
    assert cluster.sql("SELECT datallowconn FROM pg_database WHERE datname = 'closed'") == "f"
    assert root not in run("ps", "-eo", "args")
    assert not (host.paths.var.parent / "restaura-drill").exists()
    assert not host.journal.open_debts()


def test_a_swap_cut_off_before_its_end_is_finished_or_undone(
    cluster: Cluster, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = source(host, cluster.cluster, databases=("app",), terminate_sessions=True)
    point = take(own)
    cluster.sql("CREATE TABLE since (n int)", "app")
    staged = own.stage(point, Target("live"))
    record = own.plan_swap(staged)
    with monkeypatch.context() as patched:

        def cut(*_: object) -> list[str]:
            raise RestauraError("the power went")

        patched.setattr("restaura.postgres.roles.admission", cut)
        with pytest.raises(RestauraError, match="the power went"):
            Postgres.swap(record)
    wait_until(lambda: still(cluster))
    assert cluster.sql("SELECT datallowconn FROM pg_database WHERE datname = 'app'") == "f"
    Postgres.undo(record)
    assert cluster.sql("SELECT count(*) FROM pg_class WHERE relname = 'since'", "app") == "1"
    Postgres.swap(record)
    assert cluster.sql("SELECT count(*) FROM pg_class WHERE relname = 'since'", "app") == "0"
    Postgres.undo(record)
    Postgres.discard(record)
    assert cluster.sql("SELECT count(*) FROM pg_class WHERE relname = 'since'", "app") == "1"
    cluster.sql("DROP TABLE since", "app")


def test_a_damaged_dump_is_refused_and_what_was_built_is_gone(cluster: Cluster, host: Host) -> None:
    own = source(host, cluster.cluster, databases=("app",))
    point = take(own)
    before = cluster.databases()
    point.data["databases/app.dump"] = point.data["databases/app.dump"][:-5000]
    with pytest.raises(SourceError, match="pg_restore ended with exit code 1"):
        own.stage(point, Target("live"))
    assert cluster.databases() == before
    assert not host.journal.open_debts()
    point.data["databases/app.dump"] = b""
    with pytest.raises(SourceError, match="pg_restore ended with exit code 1"), own.scratch() as target:
        own.stage(point, target)
    assert not host.journal.open_debts()
