# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker volumes, with a real daemon, real containers and Compose: held, kept, restored, and what goes wrong."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura.config.schema import Config, Settings
from restaura.errors import SourceError
from restaura.host import Host
from restaura.paths import Paths
from restaura.sources import Tree
from restaura.sources.docker_volumes import DockerVolumes
from restaura.volumes import stopping
from restaura.volumes.capture import Captured
from restaura.volumes.daemon import Daemon
from restaura.volumes.pieces import DockerVolumesComponent, VolumeHold
from tests.docker_project import (
    IDLE,
    IMAGE,
    STUBBORN,
    WRITER,
    Project,
    clean,
    data,
    digest,
    docker,
    fill,
    inspect,
    make_image,
    run,
    start_daemon,
    state,
    times,
    wait_until,
)
from tests.integration.system import System

# Debian 12's Docker client warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")
STORED = "/var/lib/docker"


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    start_daemon()
    clean()
    make_image(tmp_path_factory.mktemp("image"))
    yield
    clean()
    docker("image", "rm", IMAGE)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory whose project and volumes are gone afterwards."""
    yield tmp_path
    clean()
    run("sh", "-c", f"rm -rf {STORED}/.restaura-*")


@pytest.fixture
def project(place: Path) -> Project:
    """The project `shop`, which runs: its volume `db` is being written to, `uploads` is full of oddities."""
    made = Project(place / "shop")
    made.compose("up", "-d")
    fill(data("shop_uploads"))
    return made


@pytest.fixture
def host(place: Path) -> Host:
    return Host(Paths(place / "host"), Config(Settings(host="h", reserve_bytes=1_000_000)))


def system(place: Path, **options: Any) -> System:
    """Return a host that keeps the component `volumes` in a dated store."""
    one = System(place / "system")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store")}],
        plans=[{"name": "daily"}],
        components={"docker_volumes": [{"name": "volumes", **options}]},
    )
    return one


def source(host: Host, **options: Any) -> DockerVolumes:
    return DockerVolumes(DockerVolumesComponent(**{"name": "volumes", **options}), host)


def component(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = answer["components"][0]
    return found


def container(name: str, *options: str, command: str = IDLE) -> str:
    """Start a container that belongs to no project."""
    return docker("run", "-d", "--name", name, "--network", "none", *options, IMAGE, "sh", "-c", command)


def held_trees(frozen: Captured) -> list[str]:
    return [one.name for one in frozen.artifacts() if isinstance(one, Tree)]


# -- what is taken, and how it is held --------------------


def test_a_project_is_stopped_in_order_copied_and_started_again(project: Project, place: Path) -> None:
    docker("run", "-d", "--name", "paused", "-v", "shop_uploads:/u", "--network", "none", IMAGE, "sh", "-c", IDLE)
    docker("pause", "paused")
    docker("create", "--name", "stopped", "-v", "shop_db:/u", IMAGE, "sh", "-c", IDLE)
    before = {name: times(project.container(name)) for name in ("db", "app", "looker")}
    answer = system(place, projects=["shop"]).run("run", "daily", "--drill")
    (drilled,) = answer["drill"]["results"]
    assert (drilled["verdict"], drilled["problems"]) == ("proven", [])
    assert component(answer)["stop_seconds"] > 0
    # A paused container's data is as a power cut would leave it.
    assert component(answer)["consistency"] == "crash"
    assert set(project.states().values()) == {"running"}
    assert (state("paused"), state("stopped")) == ("paused", "created")
    after = {name: times(project.container(name)) for name in ("db", "app", "looker")}
    assert after["looker"] == before["looker"], "who only reads need not be stopped"
    assert after["app"][1] <= after["db"][1], "app needs db, so it is stopped first"
    assert after["db"][0] < after["app"][0], "and started last"
    described = json.loads(run("sh", "-c", f"zstd -dc {place}/store/*/*/*/volumes/volumes.json.zst"))
    assert {one["name"]: one["labels"].get("tier") for one in described["volumes"]} == {
        "shop_db": "gold",
        "shop_uploads": None,
    }
    names = [one.name for one in place.glob("store/*/*/*/volumes/*/*")]
    assert sorted(names)[:2] == ["shop.index.jsonl.zst.age", "shop.tar.zst.age"], "no secret in the clear"
    docker("rm", "-f", "paused", "stopped")


@pytest.mark.debian12
def test_volumes_of_containers_without_compose(place: Path) -> None:
    docker("volume", "create", "--label", "keep=yes", "--label", 'odd="$(touch /tmp/owned)" ../../x', "one")
    docker("volume", "create", "--label", "keep=no", "other")
    container("user", "-v", "one:/data", command=WRITER)
    container("reader", "-v", "one:/data:ro")
    container("borrower", "--volumes-from", "user")
    fill(data("one"))
    run("useradd", "--uid", "4242", "--no-create-home", "restaura-test")
    (data("one") / "sub/owned").touch()
    run("chown", "4242", str(data("one") / "sub/owned"))
    one = system(place, labels=["keep=yes"])
    answer = one.run("run", "daily", "--drill")
    assert (component(answer)["consistency"], answer["drill"]["results"][0]["verdict"]) == ("stopped", "proven")
    before, labels = digest(data("one") / "sub"), inspect("volume", "one")["Labels"]
    assert {name: state(name) for name in ("user", "reader", "borrower")} == dict.fromkeys(
        ("user", "reader", "borrower"), "running"
    )
    docker("rm", "-f", "user", "reader", "borrower")
    docker("volume", "rm", "one")
    # The number is a container's account, whatever this host calls it.
    run("usermod", "--uid", "4243", "restaura-test")
    restored = one.run("restore", "--component", "volumes", "--yes")
    assert (digest(data("one") / "sub"), inspect("volume", "one")["Labels"]) == (before, labels)
    one.run("undo", restored["id"])
    assert "one" not in docker("volume", "ls", "-q").split(), "it was not there before"
    one.run("undo", restored["id"], "--discard")
    assert not list(Path(STORED).glob(".restaura-*"))
    assert not Path("/tmp/owned").exists()
    run("userdel", "restaura-test")


def test_what_cannot_be_read_is_refused_and_what_is_not_taken_is_told(host: Host, place: Path) -> None:
    docker("volume", "create", "-o", "type=nfs", "-o", "o=addr=192.0.2.1", "-o", "device=:/export", "remote")
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    docker("volume", "create", "-o", "type=ext4", "-o", "device=/dev/sdz1", "disk")
    docker("volume", "create", "plain")
    container("nameless", "-v", "/data")
    probe = source(host, all=True).probe()
    told = "; ".join(what for what, _ in probe.problems)
    assert "'remote' is on a file server (nfs :/export)" in told
    assert "'disk' is a disk of its own (/dev/sdz1)" in told
    assert len(probe.problems) == 2
    warned = "; ".join(probe.warnings)
    assert "anonymous volume" in warned
    assert "container nameless uses it" in warned
    assert "'memory' is in memory" in warned
    excluded = source(host, all=True, exclude=("remote", "disk"))
    assert excluded.probe().problems == []
    assert [one.name for one in excluded.prepare("content")] == ["volumes/plain"]
    everything = source(host, all=True, exclude=("remote", "disk"), anonymous=True)
    assert len(everything.prepare("content")) == 2
    for options, what in (
        ({"volumes": ("plane",)}, "no volume 'plane'"),
        ({"projects": ("shop",)}, "no Compose project 'shop'"),
        ({"labels": ("nobody=has",)}, "no volume is chosen"),
        ({"volumes": ("plain",), "holds": (VolumeHold(volumes=("plain",)),)}, "without a container or a command"),
    ):
        assert what in source(host, **options).probe().problems[0][0]


def test_a_container_that_would_not_come_back_is_not_stopped(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    container("passing", "--rm", "-v", "one:/data")
    assert "--rm" in source(host, volumes=("one",)).probe().problems[0][0]
    assert source(host, volumes=("one",), hold="pause").probe().problems == []


def test_paused_containers_go_on(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    container("user", "-v", "one:/data", command=WRITER)
    wait_until((data("one") / "log").exists)
    before = times("user")
    with source(host, volumes=("one",), hold="pause").freeze("content") as frozen:
        assert held_trees(frozen) == ["volumes/one"]
        assert state("user") == "paused"
        size = (data("one") / "log").stat().st_size
        assert frozen.hold is not None
        frozen.hold.release()
        frozen.hold.check()
    assert (state("user"), times("user")) == ("running", before)
    wait_until(lambda: (data("one") / "log").stat().st_size > size)


def test_a_command_in_a_container_holds_its_volumes(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    container("user", "-v", "one:/data")
    rule = VolumeHold(volumes=("o*",), container="user", command="touch /data/dump", resume="rm /data/dump")
    with source(host, volumes=("one",), holds=(rule,)).freeze("content") as frozen:
        (tree,) = [one for one in frozen.artifacts() if isinstance(one, Tree)]
        assert "_data/dump" in {one.path for one in tree.index.entries}
        assert state("user") == "running"
    assert not (data("one") / "dump").exists()
    wrong = VolumeHold(volumes=("one",), container="user", command="echo no room >&2; test 1 = 2", resume="")
    with pytest.raises(SourceError, match=r"exit code 1.*no room"):
        source(host, volumes=("one",), holds=(wrong,)).freeze("content").__enter__()
    assert host.journal.open_debts() == []


def test_a_command_in_a_container_that_does_not_run_holds_nothing(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    container("user", "-v", "one:/data")
    rule = VolumeHold(volumes=("one",), container="usr", command="true")
    (problem,) = source(host, volumes=("one",), holds=(rule,)).probe().problems
    assert "container usr" in problem[0]
    assert "user" in problem[0]
    docker("stop", "user")
    assert source(host, volumes=("one",), holds=(rule,)).probe().problems == []


def test_a_container_that_writes_over_a_link_is_held(host: Host, place: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={place}/real", "bound")
    container("user", "-v", f"{place}/link:/data", command=WRITER)
    with source(host, volumes=("bound",)).freeze("content"):
        assert state("user") == "exited"
    assert state("user") == "running"


def test_volumes_that_are_not_held(host: Host, place: Path) -> None:
    """SQLite is copied through SQLite, what else moves is shown, and a database server's files are refused."""
    one = system(place, all=True, hold="none")
    docker("volume", "create", "one")
    container("user", "-v", "one:/data", command=WRITER)
    base = data("one")
    script = "pragma journal_mode=wal; create table t(n); insert into t values (7)"
    keep = subprocess.Popen(["sqlite3", str(base / "app.db")], stdin=subprocess.PIPE, text=True)
    assert keep.stdin is not None
    keep.stdin.write(f"{script};\n")
    keep.stdin.flush()
    wait_until(lambda: (base / "app.db-wal").exists() and (base / "app.db-wal").stat().st_size > 4000)
    answer = one.run("run", "daily", "--drill")
    keep.stdin.close()
    keep.wait()
    assert (component(answer)["consistency"], component(answer)["stop_seconds"]) == ("crash", 0)
    assert answer["drill"]["results"][0]["verdict"] == "proven"
    one.run("restore", "--component", "volumes", "--to", f"dir:{place}/out", "--yes")
    out = Path(f"{place}/out{base}")
    assert run("sqlite3", str(out / "app.db"), "select n from t") == "7"
    assert not (out / "app.db-wal").exists()
    (base / "pg_wal").mkdir()
    container("server", "-v", "one:/data", command="exec 3>/data/pg_wal/1; " + IDLE)
    wait_until((base / "pg_wal/1").exists)
    problems = source(host, all=True, hold="none").probe().problems
    assert "PostgreSQL" in problems[0][0]
    assert source(host, all=True, hold="none", accept_torn=True).probe().problems == []
    assert source(host, all=True).probe().problems == []


def test_a_database_of_the_host_in_a_volume_is_refused(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    (data("one") / "pg_wal").mkdir()
    server = subprocess.Popen(["sh", "-c", f"exec 3>{data('one')}/pg_wal/1; exec sleep 1000"])
    try:
        wait_until((data("one") / "pg_wal/1").exists)
        problems = source(host, volumes=("one",)).probe().problems
    finally:
        server.kill()
        server.wait()
    assert problems
    assert "PostgreSQL" in problems[0][0]


def test_a_mount_below_a_volume_is_told(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    media = data("one") / "media"
    media.mkdir()
    run("mount", "-t", "tmpfs", "tmpfs", str(media))
    try:
        warnings = source(host, volumes=("one",)).probe().warnings
    finally:
        run("umount", str(media))
    assert any(str(media) in one for one in warnings), warnings


def test_a_project_in_a_volume_keeps_its_secrets(host: Host, place: Path) -> None:
    project = Project(place / "shop")
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={project.folder}", "code")
    project.compose("up", "-d", "looker")
    for options in ({"all": True}, {"volumes": ("code",)}):
        trees = {one.name: one.secret for one in source(host, **options).prepare("content")}
        assert trees["volumes/code"], trees


def test_a_store_in_a_volume_is_no_part_of_it(place: Path) -> None:
    docker("volume", "create", "one")
    (data("one") / "sub").mkdir()
    (data("one") / "file").touch()
    (place / "store").symlink_to(data("one") / "sub")
    one = system(place, volumes=["one"])
    one.run("run", "daily")
    one.run("restore", "--component", "volumes", "--to", f"dir:{place}/out", "--yes")
    assert [path.name for path in Path(f"{place}/out{data('one')}").iterdir()] == ["file"]
    docker("volume", "create", "two")
    one.configure(
        stores=[{"name": "inside", "type": "dated", "location": str(data("two"))}],
        components={"docker_volumes": [{"name": "volumes", "all": True}]},
    )
    assert component(one.run("run", "daily"))["state"] == "complete"
    assert [path.name for path in data("two").rglob("*.tar*")] == ["one.tar.zst"]


def test_a_point_says_which_files_of_a_project_it_lacks(project: Project, place: Path) -> None:
    (project.folder / "app.env").unlink()
    found = component(system(place, projects=["shop"]).run("run", "daily"))
    assert found["state"] == "complete"
    assert any("app.env, which the Compose file" in one for one in found["notes"]), found["notes"]


def test_what_is_not_held_is_never_as_good_as_stopped(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    with source(host, all=True, hold="none").freeze("content") as frozen:
        indexes = {one.name: one.index for one in frozen.artifacts() if isinstance(one, Tree)}
        assert frozen.outcome(indexes).consistency == "crash"


# -- what happens to containers meanwhile --------------------


def test_a_container_that_will_not_stop_is_killed_as_docker_does(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    container("deaf", "-v", "one:/data", command=STUBBORN)
    with source(host, volumes=("one",), stop_timeout=1).freeze("content") as frozen:
        assert state("deaf") == "exited"
    assert frozen.notes == ["container deaf did not end within 1 s: Docker killed it"]
    assert state("deaf") == "running"
    docker("rm", "-f", "deaf")
    container("slow", "--stop-timeout", "100", "-v", "one:/data")
    with pytest.raises(SourceError, match="slow: may take 100 s to stop, and only"):
        source(host, volumes=("one",)).freeze("content", 50).__enter__()
    assert state("slow") == "running"
    assert host.journal.open_debts() == []


def test_a_container_that_starts_while_it_is_held_fails_the_component(project: Project, host: Host) -> None:
    own = source(host, projects=["shop"])
    for name in ("shop-db-1", "visitor"):
        with own.freeze("content") as frozen:
            if name == "visitor":
                container(name, "-v", "shop_db:/data")
            else:
                docker("start", name)
            assert frozen.hold is not None
            frozen.hold.release()
            with pytest.raises(SourceError, match=f"started by somebody.*{name}"):
                frozen.hold.check()
    assert set(project.states().values()) == {"running"}


def test_a_container_made_anew_while_it_is_held_is_not_doubled(project: Project, host: Host) -> None:
    with source(host, projects=["shop"]).freeze("content") as frozen:
        old = inspect("container", "shop-app-1")["Id"]
        project.compose("up", "-d", "--force-recreate", "--no-deps", "app")
        docker("rm", "shop-db-1")
        assert frozen.hold is not None
        frozen.hold.release()
    assert inspect("container", "shop-app-1")["Id"] != old
    assert project.states() == {"shop-app-1": "running", "shop-looker-1": "running"}
    assert "container shop-app-1 was made anew meanwhile: it is left as it is (running)" in frozen.notes
    assert "container shop-db-1 was removed meanwhile: there is nothing to start" in frozen.notes


def test_two_projects_with_one_volume_are_both_stopped(project: Project, host: Host, place: Path) -> None:
    other = Project(place / "other", "other")
    text = (other.folder / "compose.yml").read_text()
    shared = text.replace("uploads: {}", "uploads: {external: true, name: shop_uploads}")
    (other.folder / "compose.yml").write_text(shared)
    other.compose("up", "-d")
    with source(host, volumes=("shop_uploads",)).freeze("content"):
        held = {"shop-app-1": "exited", "other-app-1": "exited", "shop-db-1": "running", "other-db-1": "running"}
        assert {name: state(name) for name in held} == held
    assert {*project.states().values(), *other.states().values()} == {"running"}


def test_components_that_share_a_container_take_turns(project: Project, place: Path) -> None:
    one = system(place, volumes=["shop_db"])
    docker(
        "run",
        "-d",
        "--name",
        "both",
        "--network",
        "none",
        "-v",
        "shop_db:/a",
        "-v",
        "shop_uploads:/b",
        IMAGE,
        "sh",
        "-c",
        IDLE,
    )
    parts = [{"name": name, "volumes": [f"shop_{name}"]} for name in ("db", "uploads")]
    one.configure(components={"docker_volumes": parts})
    answer = one.run("run", "daily")
    assert [(row["state"], row["consistency"]) for row in answer["components"]] == [("complete", "stopped")] * 2
    assert {state("both"), *project.states().values()} == {"running"}


def test_what_nobody_used_must_not_be_used_while_it_is_read(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    own = source(host, volumes=("one",))
    with own.freeze("content") as frozen:
        (tree,) = [one for one in frozen.artifacts() if isinstance(one, Tree)]
        assert frozen.hold is None
        assert frozen.outcome({tree.name: tree.index}).consistency == "stopped"
        container("later", "-v", "one:/data")
        assert frozen.outcome({tree.name: tree.index}).consistency == "stopped", "it was read by then"
    docker("rm", "-f", "later")
    with own.freeze("content") as frozen:
        list(frozen.artifacts())
        container("late", "-v", "one:/data")
        with pytest.raises(SourceError, match=r"started by somebody.*late"):
            frozen.outcome({tree.name: tree.index})


def test_a_container_that_came_and_went_while_the_data_was_read(host: Host, place: Path) -> None:
    docker("volume", "create", "one")
    docker("volume", "create", "other")
    container("user", "-v", "one:/data")
    for volume, mode, told in (("other", "rw", False), ("one", "ro", False), ("one", "rw", True)):
        with source(host, volumes=("one",)).freeze("content") as frozen:
            docker("run", "--rm", "--network", "none", "-v", f"{volume}:/data:{mode}", IMAGE, "ls", "/data")
            assert frozen.hold is not None
            frozen.hold.release()
            if told:
                with pytest.raises(SourceError, match="started by somebody"):
                    frozen.hold.check()
            else:
                frozen.hold.check()


def test_volumes_that_come_and_go_during_a_run(host: Host, place: Path) -> None:
    for name in ("one", "two"):
        docker("volume", "create", name)
    own = source(host, all=True)
    own.prepare("content")
    docker("volume", "create", "three")
    with own.freeze("content") as frozen:
        assert held_trees(frozen) == ["volumes/one", "volumes/two"]
    assert frozen.notes == ["three appeared during the run: the next point will hold it"]
    docker("volume", "rm", "two")
    with pytest.raises(SourceError, match="volumes/two: was removed during the run"):
        own.freeze("content").__enter__()
    with source(host, all=True, hold="none").freeze("content") as frozen:
        docker("volume", "rm", "one")
        with pytest.raises(SourceError, match=r"one, .*: was removed during the run"):
            list(frozen.artifacts())


# -- the daemon, and being killed --------------------


@pytest.fixture
def daemon_again() -> Iterator[None]:
    """Have the daemon again afterwards, whatever became of it."""
    yield
    start_daemon()


# Docker's client leaves its socket open when the daemon does not answer.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("daemon_again")
def test_a_daemon_that_stops_hangs_or_restarts(project: Project, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    own = source(host, projects=["shop"])
    pid = run("systemctl", "show", "-P", "MainPID", "docker")
    run("kill", "-STOP", pid)
    with monkeypatch.context() as impatient:
        impatient.setattr(Daemon.__init__, "__defaults__", (2,))
        (problem,) = own.probe().problems
    run("kill", "-CONT", pid)
    assert "the Docker daemon does not answer" in problem[0]
    assert problem[1] == "systemctl restart docker"

    frozen = own.freeze("content")
    held = frozen.__enter__()
    run("systemctl", "stop", "docker.socket", "docker.service")
    assert held.hold is not None
    with monkeypatch.context() as impatient:
        impatient.setattr(stopping, "DAEMON_SECONDS", 0)
        with pytest.raises(SourceError, match=r"were not started again.*does not answer"):
            held.hold.release()
    frozen.__exit__(None, None, None)
    assert "does not answer" in own.probe().problems[0][0]
    (debt,) = [one for one in host.journal.open_debts() if one.act == "hold"]
    start_daemon()
    # Docker starts what is to run always, and leaves alone what was stopped.
    wait_until(lambda: state("shop-db-1") == "running")
    assert state("shop-app-1") == "exited"
    DockerVolumes.take_back(debt.act, debt.data)
    DockerVolumes.take_back(debt.act, debt.data)
    assert {state("shop-db-1"), state("shop-app-1")} == {"running"}


@pytest.mark.parametrize("who", ["run", "run and watcher"])
def test_killed_while_containers_are_stopped(project: Project, place: Path, who: str) -> None:
    one = system(place, projects=["shop"])
    one.killed("run", "daily", at="held", who=who)
    if "watcher" in who:
        assert project.states()["shop-db-1"] == "exited"
        one.run("recover")
    one.settled()
    assert set(project.states().values()) == {"running"}
    assert one.leftovers() == []


def test_killed_while_a_container_is_still_stopping(place: Path) -> None:
    """Docker goes on with a stop whose client is gone: the container ends after it was looked at."""
    docker("volume", "create", "one")
    container("slow", "-v", "one:/data", command=IDLE.replace("exit", "touch /data/asked; sleep 3; exit"))
    before, one = times("slow"), system(place, volumes=["one"])
    running = one.start("run", "daily")
    wait_until((data("one") / "asked").exists)
    running.kill()
    running.communicate()
    one.settled()
    assert (state("slow"), times("slow")[0] > before[0]) == ("running", True)
    assert one.leftovers() == []


def test_what_a_gone_container_was_to_take_back_is_told_and_no_debt(place: Path) -> None:
    command = {"container": "gone", "user": "", "command": "true", "resume": "true"}
    (note,) = stopping.go_on({"stop": [], "pause": [], "commands": [command]})
    assert note.startswith("container gone was removed meanwhile")


# -- restoring --------------------


def test_volumes_that_move_beside_held_ones_in_stores_of_both_kinds(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"], holds=[{"volumes": ["shop_db"], "hold": "none"}])
    one.configure(
        stores=[
            {"name": "main", "type": "restic", "location": str(place / "repository")},
            {"name": "plain", "type": "dated", "location": str(place / "store")},
        ]
    )
    answer = one.run("run", "daily", "--drill")
    assert [row["consistency"] for row in answer["components"]] == ["crash", "crash"]
    assert [row["verdict"] for row in answer["drill"]["results"]] == ["proven", "proven"]
    before = digest(data("shop_uploads"))
    project.compose("down", "-v")
    one.run("restore", "--component", "volumes", "--from-store", "plain", "--yes")
    assert digest(data("shop_uploads")) == before


def test_a_lost_project_comes_back_whole(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    (data("shop_uploads") / "seeded").unlink()
    project.compose("stop")
    one.run("run", "daily")
    before = {name: digest(data(name)) for name in ("shop_db", "shop_uploads")}
    files, labels = digest(project.folder, "./* ./.env"), inspect("volume", "shop_db")["Labels"]
    blocks = (data("shop_uploads") / "sparse").stat().st_blocks
    project.compose("down", "-v")
    shutil.rmtree(project.folder)
    one.run("restore", "--component", "volumes", "--yes")
    assert {name: digest(data(name)) for name in before} == before
    assert (digest(project.folder, "./* ./.env"), inspect("volume", "shop_db")["Labels"]) == (files, labels)
    assert (data("shop_uploads") / "sparse").stat().st_blocks <= blocks
    said = project.compose("up", "-d")
    assert "warn" not in said.lower(), said
    assert set(project.states().values()) == {"running"}
    assert not (data("shop_uploads") / "seeded").exists(), "the image must not fill what was restored"


def test_a_project_over_links_comes_back_with_them(place: Path) -> None:
    project = Project(place / "real")
    shared = place / "common"
    shared.mkdir()
    (project.folder / ".env").rename(shared / "env")
    (project.folder / ".env").symlink_to("../common/env")
    (place / "shop").symlink_to("real")
    run("sh", "-c", f"cd -L {place}/shop && docker compose -p shop up -d")
    assert f"{place}/shop" in docker("inspect", "shop-app-1")
    one = system(place, projects=["shop"])
    answer = one.run("run", "daily", "--drill")
    assert answer["drill"]["results"][0]["verdict"] == "proven"
    docker("rm", "-f", *project.states())
    for path in (project.folder, shared):
        shutil.rmtree(path)
    (place / "shop").unlink()
    one.run("restore", "--component", "volumes", "--yes")
    assert "very-secret-word" in (place / "shop/.env").read_text()
    assert ((place / "shop").readlink(), (place / "real/.env").readlink()) == (Path("real"), Path("../common/env"))


def test_restored_over_running_containers_undone_and_discarded(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    one.run("run", "daily")
    uploads = data("shop_uploads")
    old, names = digest(uploads), docker("volume", "ls", "-q")
    run("rm", "-rf", str(uploads / "sub"))
    (uploads / "new").write_text("written after the point")
    (project.folder / ".env").write_text("CHANGED=1")
    spoilt = digest(uploads)
    answer = one.run("restore", "--component", "volumes", "--yes")
    assert digest(uploads) == old
    assert set(project.states().values()) == {"running"}
    assert docker("exec", "shop-app-1", "cat", "/data/sub/file") == "x" * 70_000, "it sees what was restored"
    assert (project.folder / ".env").read_text() == "CHANGED=1"
    assert any(".env is there and was left as it is" in note for note in answer["notes"])
    # Neither Docker nor a backup takes what is kept for a volume.
    assert docker("volume", "ls", "-q") == names
    run("systemctl", "restart", "docker")
    start_daemon()
    assert docker("volume", "ls", "-q") == names
    project.compose("up", "-d")
    one.run("undo", answer["id"])
    assert digest(uploads) == spoilt
    assert set(project.states().values()) == {"running"}
    one.run("undo", answer["id"], "--discard")
    assert not list(Path(STORED).glob(".restaura-*"))
    one.run("restore", "--component", "volumes", "--path", f"{project.folder}/.env", "--yes")
    assert "very-secret-word" in (project.folder / ".env").read_text()


def test_undone_though_the_volumes_were_removed(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    one.run("run", "daily")
    project.compose("down")
    docker("volume", "rm", "shop_db")
    (data("shop_uploads") / "new").write_text("written after the point")
    spoilt, labels = digest(data("shop_uploads")), inspect("volume", "shop_uploads")["Labels"]
    answer = one.run("restore", "--component", "volumes", "--yes")
    docker("volume", "rm", "shop_db", "shop_uploads")
    one.run("undo", answer["id"])
    assert (digest(data("shop_uploads")), inspect("volume", "shop_uploads")["Labels"]) == (spoilt, labels)
    assert "shop_db" not in docker("volume", "ls", "-q").split(), "it was not there before"
    assert one.leftovers() == []
    assert "warn" not in project.compose("up", "-d").lower()


def test_a_volume_in_use_is_not_restored_over(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    one.run("run", "daily")
    one.configure(components={"docker_volumes": [{"name": "volumes", "projects": ["shop"], "hold": "none"}]})
    before = project.states(), times("shop-db-1"), digest(data("shop_uploads"))
    answer = one.run("restore", "--component", "volumes", "--yes", expect=2)
    assert "container shop-app-1 (running)" in answer["error"]["what"]
    assert (project.states(), times("shop-db-1"), digest(data("shop_uploads"))) == before
    project.compose("down")
    docker("volume", "rm", "shop_uploads")
    docker("volume", "create", "shop_uploads")
    answer = one.run("restore", "--component", "volumes", "--yes", expect=2)
    assert "other labels" in answer["error"]["what"]
    assert one.leftovers() == []
    assert not list(Path(STORED).glob(".restaura-*"))


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 10 MB."""
    path = place / "small"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(path))
    try:
        yield path
    finally:
        run("umount", "-l", str(path))


def test_a_disk_that_is_full(place: Path, small_disk: Path) -> None:
    (small_disk / "real").mkdir()
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={small_disk}/real", "bound")
    container("user", "-v", "bound:/data")
    run("sh", "-c", "head -c 6000000 /dev/urandom > real/file", cwd=small_disk)
    one = system(place, volumes=["bound"])
    one.run("run", "daily")
    answer = one.run("restore", "--component", "volumes", "--yes", expect=1)
    assert "do not fit" in answer["error"]["what"]
    assert [one.name for one in small_disk.iterdir()] == ["real"]
    one.configure(stores=[{"name": "small", "type": "dated", "location": f"{small_disk}/store"}])
    answer = one.run("run", "daily", expect=1)
    assert "do not fit" in component(answer)["error"]
    assert state("user") == "running"
    assert one.leftovers() == []


def test_restored_under_another_project_name(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    one.run("run", "daily")
    answer = one.run("restore", "--component", "volumes", "--to", "name:shop2", "--yes")
    assert digest(data("shop2_uploads")) == digest(data("shop_uploads"))
    second = Project(place / "second", "shop2")
    assert "warn" not in second.compose("up", "-d").lower()
    assert set(second.states().values()) == {"running"}
    again = one.run("restore", "--component", "volumes", "--to", "name:shop2", "--yes", expect=2)
    assert "there is a volume of that name already" in again["error"]["what"]
    second.compose("down")
    one.run("undo", answer["id"])
    assert "shop2_uploads" not in docker("volume", "ls", "-q").split()
    assert set(project.states().values()) == {"running"}


def test_killed_while_containers_are_stopped_for_a_restore(project: Project, place: Path) -> None:
    one = system(place, projects=["shop"])
    one.run("run", "daily")
    (data("shop_uploads") / "new").write_text("written after the point")
    before = digest(data("shop_uploads"))
    container("slow", "-v", "shop_uploads:/x", command=IDLE.replace("exit", "sleep 3; exit"))
    restoring = one.start("restore", "--component", "volumes", "--yes")
    wait_until(lambda: state("shop-app-1") == "exited")
    restoring.send_signal(signal.SIGKILL)
    restoring.communicate()
    one.settled()
    assert digest(data("shop_uploads")) == before
    assert {state("slow"), *project.states().values()} == {"running"}
    assert one.leftovers() == []
    assert not list(Path(STORED).glob(".restaura-*"))


def test_a_volume_that_is_a_directory_of_the_host(place: Path) -> None:
    folder = place / "real"
    folder.mkdir()
    fill(folder)
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={folder}", "bound")
    container("user", "-v", "bound:/data")
    one = system(place, volumes=["bound"])
    one.run("run", "daily", "--drill")
    before = digest(folder)
    run("rm", "-rf", str(folder / "sub"))
    one.run("restore", "--component", "volumes", "--yes")
    assert (digest(folder), state("user")) == (before, "running")
    assert docker("exec", "user", "cat", "/data/link") == "x" * 70_000


def test_hostile_names(place: Path) -> None:
    name = "z" + "-_." * 60
    labels = {"com.docker.compose.project": "../../../tmp/owned", "a b\n": "$(touch /tmp/owned)", "c": "\x1b[2J"}
    with Daemon() as daemon:
        daemon.create_volume({"name": name, "driver": "local", "options": {}, "labels": labels})
    (data(name) / "file").write_text("kept")
    container("odd", "-v", f"{name}:/data", "--label", "com.docker.compose.project=../../../tmp/owned")
    one = system(place, all=True)
    answer = one.run("run", "daily", "--drill")
    assert answer["drill"]["results"][0]["verdict"] == "proven"
    found = inspect("volume", name)["Labels"]
    docker("rm", "-f", "odd")
    docker("volume", "rm", name)
    one.run("restore", "--component", "volumes", "--yes")
    assert ((data(name) / "file").read_text(), inspect("volume", name)["Labels"]) == ("kept", found)
    refused = one.run("restore", "--component", "volumes", "--to", "name:../x", "--yes", expect=2)
    assert "no name of a Compose project" in refused["error"]["what"]
    assert not Path("/tmp/owned").exists()
