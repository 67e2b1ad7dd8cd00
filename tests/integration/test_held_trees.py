# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a service that is stopped for their copy: what is captured is one instant, and the service runs again.

The service counts in three files at once, one of them through a shared mapping, in place and a thousand times a second:
wherever they do not agree, they were not of one instant.
"""

import configparser
import json
import os
import struct
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System
from tests.integration.test_dated import s3_place

BULK, BULK_BYTES, HOLES_BYTES = 30, 200_000, 64 << 20
WRITER = textwrap.dedent(
    """
    import mmap, os, signal, struct, sys, time
    os.chdir(sys.argv[1])
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    files = [os.open(name, os.O_RDWR) for name in ("one", "two", "mapped")]
    mapped = mmap.mmap(files[2], 8)
    count, = struct.unpack("Q", os.pread(files[0], 8, 0))
    while not asked:
        count += 1
        raw = struct.pack("Q", count)
        os.pwrite(files[0], raw, 0)
        mapped[:8] = raw
        os.pwrite(files[1], raw, 0)
        time.sleep(0.001)
    """
)
UNITS = Path("/run/systemd/system")
NAME = "restaura-held.service"


def systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip()


def active(unit: str = NAME) -> bool:
    return systemctl("is-active", unit) == "active"


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory on a disk: in memory, where pytest's may be, times do not tell of writes through a mapping."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="restaura-held-") as path:
        yield Path(path)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A tree of 70 MB, most of them a hole, that stands still, and three files in it that do not."""
    path = tmp_path / "srv/app"
    (path / "still").mkdir(parents=True)
    for number in range(BULK):
        (path / f"still/{number}").write_bytes(os.urandom(BULK_BYTES))
    os.link(path / "still/0", path / "still/linked")
    (path / "still/odd \udcff").touch()
    for name in ("one", "two", "mapped"):
        (path / name).write_bytes(struct.pack("Q", 0))
    with (path / "holes").open("wb") as out:
        out.truncate(HOLES_BYTES)
    return path


@pytest.fixture
def declare(app: Path, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Write and start units; the first is the writer, with what a test adds."""
    (tmp_path / "writer.py").write_text(WRITER)
    made = []

    def declared(name: str = NAME, more: str = "", start: bool = True) -> None:
        unit = f"[Service]\nExecStart=/usr/bin/python3 {tmp_path}/writer.py {app}\n{more}"
        (UNITS / name).write_text(more if name != NAME else unit)
        made.append(name)
        systemctl("daemon-reload")
        if start:
            systemctl("start", name)
            assert active(name)

    yield declared
    for name in reversed(made):
        systemctl("kill", "--signal=KILL", name)
        (UNITS / name).write_text("[Service]\nExecStart=/bin/true\n")
        systemctl("daemon-reload")
        systemctl("stop", name)
        (UNITS / name).unlink()
        systemctl("daemon-reload")
        systemctl("reset-failed", name)


@pytest.fixture
def service(declare: Callable[..., None]) -> None:
    declare()


@pytest.fixture
def wrapped() -> Iterator[Callable[[str, str], None]]:
    """Put a shell script in the place of a program; `$real` is the program itself."""
    made = []

    def wrap(program: str, script: str) -> None:
        path = Path("/usr/local/sbin") / program
        path.write_text(f'#!/bin/sh\nreal=/usr/bin/{program}\n{script}\nexec "$real" "$@"\n')
        path.chmod(0o755)
        made.append(path)

    yield wrap
    for path in made:
        path.unlink()


def host(tmp_path: Path, app: Path, *stores: dict[str, Any], **plan: Any) -> System:
    """Return a host that keeps the tree in `stores`, its service stopped for it."""
    one = System(tmp_path / "host")
    one.configure(
        stores=[{"name": "near", "location": str(tmp_path / "near"), **store} for store in stores or ({},)],
        plans=[{"name": "daily", "drill": "never", "fingerprint": "content", **plan}],
        components={"files": [{"name": "app", "paths": [str(app)], "stops": [NAME]}]},
    )
    return one


DATED = {"type": "dated"}
ALSO_DATED = {"name": "plain", "type": "dated"}


def far(kind: str, location: str) -> dict[str, Any]:
    profile = configparser.ConfigParser()
    profile.read(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    keys = profile["default"]
    access = {"s3_access_key": keys["aws_access_key_id"], "s3_secret_key": keys["aws_secret_access_key"]}
    return {"name": "far", "type": kind, "location": location, **access}


@pytest.fixture
def bucket() -> Iterator[str]:
    for place in s3_place():
        yield place.location


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[None]:
    """A spool of 20 MB, in which no copy of the tree has room."""
    path = tmp_path / "host/var/lib/restaura/spool"
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path)], check=True)
    yield
    subprocess.run(["umount", "-l", str(path)], check=True)


def restic(system: System, store: str, *arguments: str) -> Any:
    location = next(one["location"] for one in system.declaration["stores"] if one["name"] == store)
    password = system.root / f"etc/restaura/keys/stores.{store}.password"
    argv = ["restic", "--repo", f"{location}/restic", "--password-file", str(password), "--json", *arguments]
    env = {"PATH": os.environ["PATH"], "HOME": "/root"}
    return json.loads(subprocess.run(argv, capture_output=True, check=True, env=env).stdout)


def snapshots(system: System, store: str = "near", kind: str = "") -> list[dict[str, Any]]:
    return [one for one in restic(system, store, "snapshots") if f"kind={kind}" in one["tags"] or not kind]


def logged(system: System, event: str) -> list[dict[str, Any]]:
    lines = [
        one for path in (system.root / "var/log/restaura").glob("*.jsonl") for one in path.read_text().splitlines()
    ]
    return [row for row in map(json.loads, lines) if row.get("event") == event]


def component(system: System, answer: dict[str, Any], store: str) -> dict[str, Any]:
    shown = system.run("show", answer["point"])["stores"][store]["manifest"]["components"][0]
    assert isinstance(shown, dict)
    return shown


def check_restored(system: System, app: Path, store: str, place: Path) -> int:
    """Restore from a store; the counters must agree and all else be as it is. Return the count."""
    system.run("restore", "--component", "app", "--from-store", store, "--to", f"dir:{place}", "--yes")
    back = place / str(app)[1:]
    counts = {struct.unpack("Q", (back / name).read_bytes())[0] for name in ("one", "two", "mapped")}
    assert len(counts) == 1, counts
    script = 'cd "$1" && find . -printf "%P|%y|%m|%U|%G|%n|%T@\\n" | grep -Ev "^(one|two|mapped|)[|]" | LC_ALL=C sort'
    script += " && cd still && LC_ALL=C sha256sum * | sort && stat -c %i 0 linked | uniq | wc -l"
    told = [
        subprocess.run(["sh", "-c", script, "sh", str(one)], capture_output=True, check=True) for one in (app, back)
    ]
    assert told[0].stdout == told[1].stdout
    assert (back / "holes").stat().st_blocks < 64
    return int(counts.pop())


def clean(system: System, *stores: str) -> None:
    """Nothing of a run is left: no debt, no spool, no snapshot that is no point's."""
    assert system.leftovers() == []
    for store in stores:
        sealed = {tag for one in snapshots(system, store, "manifest") for tag in one["tags"] if tag[:6] == "point="}
        assert [one["tags"] for one in snapshots(system, store) if not sealed & {*one["tags"]}] == []
        assert snapshots(system, store, "moving") == []


# -- ways -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("stores", [({},), (DATED,), ({}, ALSO_DATED)])
def test_one_instant_in_every_store_and_the_service_runs_again(
    app: Path, tmp_path: Path, stores: tuple[dict[str, Any], ...]
) -> None:
    stores = tuple({**one, "location": str(tmp_path / one.get("name", "near"))} for one in stores)
    system = host(tmp_path, app, *stores)
    answer = system.run("run", "daily")
    assert active()
    assert all(one["good"] and one["consistency"] == "stopped" for one in answer["components"])
    for number, store in enumerate(one.get("name", "near") for one in stores):
        record = component(system, answer, store)
        assert 0 < record["stop_seconds"] <= record["seconds"]
        assert record["notes"] == []
        count = check_restored(system, app, store, tmp_path / f"back{number}")
        assert 0 < count < struct.unpack("Q", (app / "one").read_bytes())[0]
    # All but what the service writes was read before it stopped.
    if "type" not in stores[0]:
        (tree,) = snapshots(system, "near", "tree")
        assert tree["summary"]["files_unmodified"] == BULK + 3
        assert tree["summary"]["files_new"] == 0
        clean(system, "near")
    else:
        assert [one["bytes"] for one in logged(system, "copied")] == [3 * 8]
        clean(system)
    if len(stores) > 1:
        assert system.run("drill", "--plan", "daily")["exit"] == 0


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("kind", ["dated", "restic"])
def test_a_remote_store_gets_what_the_local_one_read(app: Path, tmp_path: Path, bucket: str, kind: str) -> None:
    system = host(tmp_path, app, {}, far(kind, bucket))
    answer = system.run("run", "daily")
    assert [one["good"] for one in answer["components"]] == [True, True]
    near, remote = component(system, answer, "near"), component(system, answer, "far")
    assert near["fingerprint"] == remote["fingerprint"]
    assert check_restored(system, app, "near", tmp_path / "a") == check_restored(system, app, "far", tmp_path / "b")
    clean(system, "near")


@pytest.mark.usefixtures("service")
def test_a_remote_restic_alone_reads_only_what_changed(app: Path, tmp_path: Path, bucket: str) -> None:
    system = host(tmp_path, app, far("restic", bucket))
    system.run("run", "daily")
    assert logged(system, "copied") == []
    check_restored(system, app, "far", tmp_path / "back")


@pytest.mark.usefixtures("service", "cramped")
@pytest.mark.parametrize("stores", [(DATED,), ({}, ALSO_DATED)])
def test_without_room_a_plain_store_reads_while_the_service_is_stopped_and_says_so(
    app: Path, tmp_path: Path, stores: tuple[dict[str, Any], ...]
) -> None:
    stores = tuple({**one, "location": str(tmp_path / one.get("name", "near"))} for one in stores)
    system = host(tmp_path, app, *stores)
    answer = system.run("run", "daily")
    assert active()
    for number, store in enumerate(one.get("name", "near") for one in stores):
        (note,) = component(system, answer, store)["notes"]
        assert "stopped for longer" in note
        assert "do not fit" in note
        check_restored(system, app, store, tmp_path / f"back{number}")


@pytest.mark.usefixtures("service")
def test_a_reader_that_fails_while_the_service_is_stopped_is_stood_in_for(
    app: Path, tmp_path: Path, wrapped: Callable[[str, str], None]
) -> None:
    system = host(tmp_path, app, {}, {**ALSO_DATED, "location": str(tmp_path / "plain")})
    wrapped("restic", 'case "$*" in *kind=tree*) exit 1;; esac')
    answer = system.run("run", "daily", expect=3)
    assert {one["store"]: one["good"] for one in answer["components"]} == {"near": False, "plain": True}
    assert "near failed" in component(system, answer, "plain")["notes"][0]
    check_restored(system, app, "plain", tmp_path / "back")
    clean(system, "near")


# -- the limit --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("store", "program", "when"), [({}, "restic", "*kind=tree*"), (DATED, "tar", "*--create*")])
def test_beyond_its_limit_the_service_is_started_and_the_component_fails(
    app: Path,
    tmp_path: Path,
    wrapped: Callable[[str, str], None],
    request: pytest.FixtureRequest,
    store: dict[str, Any],
    program: str,
    when: str,
) -> None:
    if program == "tar":
        request.getfixturevalue("cramped")
    system = host(tmp_path, app, store, stop_limit=6)
    wrapped(program, f'case "$*" in {when}) exec sleep 600;; esac')
    answer = system.run("run", "daily", expect=1)
    assert active()
    assert "started again after the limit of 6 s" in answer["components"][0]["error"]
    assert answer["components"][0]["stop_seconds"] >= 6
    assert subprocess.run(["pgrep", "-f", "sleep 600"], check=False).returncode == 1
    clean(system, *(["near"] if program == "restic" else []))


def test_a_service_that_takes_too_long_to_stop_is_started_again(
    app: Path, tmp_path: Path, declare: Callable[..., None]
) -> None:
    declare(more="ExecStop=/bin/sleep 8\n")
    system = host(tmp_path, app, DATED, stop_limit=1)
    answer = system.run("run", "daily", expect=1)
    assert "cannot be stopped" in answer["components"][0]["error"]
    assert NAME in answer["components"][0]["error"]
    assert active()
    clean(system)


# -- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("at", "who"),
    [("first pass", "run"), ("held", "run"), ("held", "run and watcher"), ("feed trees", "run"), ("prune", "run")],
)
def test_killed_at_any_moment_the_service_runs_and_nothing_is_left(
    app: Path, tmp_path: Path, at: str, who: str
) -> None:
    system = host(tmp_path, app, {}, {**ALSO_DATED, "location": str(tmp_path / "plain")})
    system.killed("run", "daily", at=at, who=who)
    if "watcher" in who:
        assert not active()
        system.run("recover")
    else:
        system.settled()
    assert active()
    clean(system, "near")


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("at", ["first pass", "freeze", "held", "released", "seal"])
def test_killed_with_a_copy_in_the_spool_nothing_is_left(app: Path, tmp_path: Path, at: str) -> None:
    system = host(tmp_path, app, DATED)
    system.killed("run", "daily", at=at)
    system.settled()
    assert active()
    clean(system)


@pytest.mark.usefixtures("service")
def test_two_components_of_one_service_do_not_start_it_under_each_other(app: Path, tmp_path: Path) -> None:
    system = host(tmp_path, app, DATED)
    own = {"name": "own", "paths": [str(app / "still")], "stops": [NAME]}
    rest = {"name": "app", "paths": [str(app)], "exclude": [str(app / "still/")], "stops": [NAME]}
    system.configure(components={"files": [own, rest]})
    answer = system.run("run", "daily")
    assert {(one["good"], one["consistency"]) for one in answer["components"]} == {(True, "stopped")}
    assert active()


# -- units ------------------------------------------------------------------------------------------------------------


def test_a_unit_that_did_not_run_is_not_started(app: Path, tmp_path: Path, declare: Callable[..., None]) -> None:
    declare(start=False)
    system = host(tmp_path, app, DATED)
    assert system.run("run", "daily")["components"][0]["consistency"] == "stopped"
    assert systemctl("show", "--property=ActiveEnterTimestampMonotonic", "--value", NAME) == "0"


def test_what_depends_on_a_unit_is_started_again_too(app: Path, tmp_path: Path, declare: Callable[..., None]) -> None:
    declare()
    other, idle = "restaura-held-other.service", "restaura-held-idle.service"
    needs = f"[Unit]\nRequires={NAME}\nAfter={NAME}\n[Service]\nExecStart=/bin/sleep infinity\n"
    declare(other, needs)
    declare(idle, needs, start=False)
    before = systemctl("show", "--property=MainPID", "--value", other)
    host(tmp_path, app, DATED).run("run", "daily")
    assert active(other)
    assert systemctl("show", "--property=MainPID", "--value", other) != before
    assert not active(idle)


def test_a_unit_that_refuses_to_stop_fails_the_component(
    app: Path, tmp_path: Path, declare: Callable[..., None]
) -> None:
    declare(more="[Unit]\nRefuseManualStop=yes\n")
    system = host(tmp_path, app, DATED)
    answer = system.run("run", "daily", expect=1)
    assert "cannot be stopped" in answer["components"][0]["error"]
    assert f"systemctl status {NAME}" in answer["components"][0]["error"]
    assert active()
    clean(system)


def test_a_unit_that_does_not_start_again_is_loud_and_costs_no_data(
    app: Path, tmp_path: Path, declare: Callable[..., None]
) -> None:
    flag = tmp_path / "flag"
    declare(more=f"ExecStartPre=/usr/bin/test ! -e {flag}\nExecStopPost=/usr/bin/touch {flag}\n")
    system = host(tmp_path, app, DATED)
    answer = system.run("run", "daily", expect=3)
    assert answer["components"][0]["good"]
    assert "does not start again" in answer["problems"][0]
    check_restored(system, app, "near", tmp_path / "back")
    assert not active()
    assert system.run("recover", expect=1)["failed"]
    flag.unlink()
    systemctl("reset-failed", NAME)
    # The last attempt's ExecStopPost may come after.
    (UNITS / f"{NAME}.d").mkdir()
    try:
        (UNITS / f"{NAME}.d/mended.conf").write_text("[Service]\nExecStopPost=\n")
        systemctl("daemon-reload")
        flag.unlink(missing_ok=True)
        assert system.run("recover")["paid"]
        assert active()
    finally:
        (UNITS / f"{NAME}.d/mended.conf").unlink()
        (UNITS / f"{NAME}.d").rmdir()
    clean(system)


def test_a_unit_that_comes_back_by_itself_fails_the_component(
    app: Path, tmp_path: Path, declare: Callable[..., None], wrapped: Callable[[str, str], None]
) -> None:
    declare()
    system = host(tmp_path, app)
    wrapped("restic", f'case "$*" in *kind=tree*) systemctl start {NAME};; esac')
    answer = system.run("run", "daily", expect=1)
    assert "started by itself" in answer["components"][0]["error"]
    assert "`stops`" in answer["components"][0]["error"]
    assert active()
    clean(system, "near")


def test_a_database_that_will_be_stopped_may_be_open(app: Path, tmp_path: Path, declare: Callable[..., None]) -> None:
    declare()
    name, held = "restaura-held-database.service", f"exec sleep infinity 9>>{app}/data.mdb"
    declare(name, f"[Service]\nExecStart=/bin/sh -c '{held}'\n")
    system = host(tmp_path, app, DATED)
    deadline = time.monotonic() + 30
    while not (app / "data.mdb").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "LMDB" in system.run("run", "daily", "--check", expect=1)["problems"][0]
    files = system.declaration["components"]["files"][0]
    system.configure(components={"files": [{**files, "stops": [NAME, name]}]})
    assert system.run("run", "daily")["components"][0]["consistency"] == "stopped"
    assert active(name)


def test_a_unit_that_is_not_there_is_a_mistake(app: Path, tmp_path: Path) -> None:
    system = host(tmp_path, app, DATED)
    assert NAME in system.run("run", "daily", "--check", expect=1)["problems"][0]
