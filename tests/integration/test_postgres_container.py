# SPDX-License-Identifier: GPL-3.0-or-later
"""A server in a container: backed up, drilled, restored and recovered through Docker's exec interface alone."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.errors import RestauraError
from restaura.host import Host
from restaura.runners import run as run_in
from restaura.runners.container import ContainerRunner
from restaura.sources import Target
from restaura.sources.postgres import Postgres
from tests.memory_point import take
from tests.postgres_cluster import make_host, recover, run, scratch_root, source, wait_until

# Debian 12's Docker client warns of itself.
pytestmark = [pytest.mark.debian12, pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")]
NAME = "restaura-test-postgres"
TOOLS = ("sh", "cat", "kill", "mkdir", "rm", "ls", "sort", "tail", "sleep", "head", "tr")
SERVE = (
    "mkdir -p -m 0700 /tmp/live && initdb -D /tmp/live -A trust --no-sync -U postgres --locale=C >/dev/null && "
    "exec postgres -D /tmp/live -c fsync=off -c unix_socket_directories=/tmp"
)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container of this host's own server and a few tools, and nothing else."""
    run("systemctl", "start", "docker", check=False)
    wait_until(lambda: subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0)
    programs = max(Path("/usr/lib/postgresql").iterdir(), key=lambda one: int(one.name))
    binaries = [*programs.glob("bin/*"), *programs.glob("lib/*.so"), *(Path(shutil.which(one) or "") for one in TOOLS)]
    listed = run("sh", "-c", 'for one; do ldd "$one"; done 2>/dev/null', "sh", *map(str, binaries))
    libraries = {word for word in listed.split() if word.startswith("/") and not word.endswith(":")}
    share = [f"/usr/share/postgresql/{programs.name}", "/usr/share/zoneinfo", "/etc/passwd", "/etc/group"]
    root = tmp_path_factory.mktemp("image")
    for path in (*map(str, binaries), *sorted(libraries), *share):
        if "llvmjit" not in path:
            copied = root / path.removeprefix("/")
            copied.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-aL", path, str(copied))
    run("cp", "-aL", "--parents", "/bin/sh", str(root))
    for folder in ("tmp", "dev", "proc", "sys"):
        (root / folder).mkdir(exist_ok=True)
    run("chmod", "1777", str(root / "tmp"))
    run("sh", "-c", f'tar -C "$0" -c . | docker import - {NAME}', str(root))
    path = f"PATH={programs}/bin:/usr/bin:/bin"
    run("docker", "run", "-d", "--name", NAME, "--user", "postgres", "-e", path, NAME, "sh", "-c", SERVE)
    try:
        wait_until(lambda: "1" in psql("SELECT 1", check=False))
        psql("CREATE DATABASE app")
        psql("CREATE TABLE t AS SELECT g, md5(g::text) AS x FROM generate_series(1, 50000) g", "app")
        psql("CREATE ROLE reader PASSWORD 'x'; GRANT SELECT ON t TO reader; SELECT lo_from_bytea(7, 'abc')", "app")
        yield NAME
    finally:
        run("docker", "rm", "-f", NAME)
        run("docker", "image", "rm", NAME)


@pytest.fixture
def host() -> Iterator[Host]:
    with scratch_root() as root:
        yield make_host(root)


def psql(statement: str, database: str = "postgres", *, check: bool = True) -> str:
    argv = ["docker", "exec", "-i", NAME, "psql", "-h", "/tmp", "-U", "postgres", "-XAtq", "-d", database]
    return run(*argv, stdin=statement, check=check).strip()


def own(host: Host) -> Postgres:
    return source(host, container=NAME, host="/tmp", terminate_sessions=True)


def test_programs_in_a_container_have_pipes_and_an_exit_status(container: str) -> None:
    runner = ContainerRunner(container)
    assert run_in(runner, ["cat"], stdin=b"x" * 300_000)[1] == b"x" * 300_000
    code, out, errors = run_in(runner, ["sh", "-c", "echo out; echo err >&2; exit 3"], accept=(3,))
    assert (code, out, errors) == (3, b"out\n", "err")
    with pytest.raises(RestauraError, match="exit code 4"):
        run_in(runner, ["sh", "-c", "exit 4"])
    with pytest.raises(RestauraError, match="could not be started"):
        run_in(runner, ["no-such-program"])
    with pytest.raises(RestauraError, match="no such container"):
        run_in(ContainerRunner("restaura-test-none"), ["true"])
    running = runner.start(["sleep", "1000"])
    running.kill()
    assert running.wait(10) == -signal.SIGKILL
    running.close()
    # More held programs than the daemon hands on before their output is read.
    held = [runner.start(["sh", "-c", "head -c 300000 /dev/zero"], held=True) for _ in range(4)]
    assert run_in(runner, ["cat"], stdin=b"meanwhile")[1] == b"meanwhile"
    for one in held:
        one.stdin.close()
        assert len(one.stdout.read()) == 300_000
        assert one.wait(10) == 0
        one.close()


def test_a_server_in_a_container_is_drilled_restored_and_undone(container: str, host: Host) -> None:
    live = own(host)
    assert live.probe().problems == []
    point = take(live)
    assert point.record.fingerprint is not None
    with live.scratch() as target:
        staged = live.stage(point, target)
        assert point.record.fingerprint.differences(live.fingerprint(staged, "content")) == []
    assert "restaura" not in run("docker", "exec", container, "ls", "/tmp")
    digest = "SELECT count(*), md5(string_agg(x, ',' ORDER BY g)) FROM t"
    before = psql(digest, "app")
    psql("DELETE FROM t WHERE g > 10; ALTER ROLE reader LOGIN", "app")
    staged = live.stage(point, Target("live"))
    record = live.plan_swap(staged)
    Postgres.swap(record)
    assert psql(digest, "app") == before
    assert psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'reader'") == "f"
    Postgres.undo(record)
    assert psql("SELECT count(*) FROM t", "app") == "10"
    assert psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'reader'") == "t"
    Postgres.discard(record)
    assert "restaura" not in psql("SELECT datname FROM pg_database")
    assert not [one for one in host.journal.open_debts() if one.act != "stage"]


VICTIM = """
import sys, time
sys.path[:0] = [{repository!r} + "/src", {repository!r}]
from pathlib import Path
from tests.memory_point import take
from tests.postgres_cluster import make_host, source
host = make_host(Path({root!r}))
own = source(host, container={name!r}, host="/tmp")
with own.freeze("content") as frozen, own.scratch() as target:
    Path({root!r}, "here").touch()
    time.sleep(100)
"""


def test_what_a_killed_program_left_in_the_container_is_ended(container: str, host: Host) -> None:
    root, repository = str(host.paths.root), str(Path(__file__).parents[2])
    script = VICTIM.format(repository=repository, root=root, name=container)
    with subprocess.Popen([sys.executable, "-c", script]) as victim:
        wait_until(lambda: Path(root, "here").exists(), 60)
        assert psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'restaura-%'") != "0"
        os.kill(victim.pid, signal.SIGKILL)
    assert set(recover(host)) >= {"sessions", "scratch"}
    wait_until(lambda: psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'restaura-%'") == "0")
    assert "restaura" not in run("docker", "exec", container, "ls", "/tmp")
