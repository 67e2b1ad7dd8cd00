# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan's pause with real units, containers and a service: what stands still, what goes on for certain, what stays."""

import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker_project import IDLE, IMAGE, Project, clean, docker, make_image, run, start_daemon, state, wait_until
from tests.integration.system import System, make_tree, protecting, tree_digest

# Debian 12's Docker client warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")
UNITS = Path("/run/systemd/system")
INGEST, OTHER, SLOW, SERVICE = "ingest.service", "ingest-other.service", "ingest-slow.service", "ingest-http.service"
WRITES = "/bin/sh -c 'while :; do date >> /run/ingest-log; sleep 0.05; done'"
# It notes what it is asked, and answers as the file beside its log says.
SERVED = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
log = Path(sys.argv[1])
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        with log.open("a") as out:
            out.write(f"{self.path} {self.headers.get('Authorization', '-')}\\n")
        answer = log.with_suffix(".answer")
        self.send_response(int(answer.read_text()) if answer.exists() else 200)
        self.end_headers()
HTTPServer(("127.0.0.1", 8199), Handler).serve_forever()
"""
SECRET = "S3CRET-token"


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    start_daemon()
    clean()
    make_image(tmp_path_factory.mktemp("image"))
    yield
    clean()
    docker("image", "rm", IMAGE)


@pytest.fixture(scope="module", autouse=True)
def units() -> Iterator[None]:
    """Units, one of which does not stop before another one runs; they are gone afterwards."""
    write_unit(INGEST, f"ExecStart={WRITES}\nExecStartPre=/usr/bin/test ! -e /run/ingest-broken")
    write_unit(OTHER, "ExecStart=/bin/sleep infinity")
    waits = f"n=0; until systemctl is-active {INGEST} || [ $$n = 600 ]; do n=$$((n+1)); sleep 0.1; done"
    write_unit(SLOW, f"ExecStart=/bin/sleep infinity\nExecStop=/bin/sh -c '{waits}'")
    yield
    Path("/run/ingest-broken").unlink(missing_ok=True)
    run("systemctl", "start", INGEST)
    run("systemctl", "stop", SLOW)
    names = [one.name for one in UNITS.glob("ingest*")]
    run("systemctl", "stop", *names, check=False)
    for one in names:
        (UNITS / one).unlink()
    run("systemctl", "daemon-reload")


def write_unit(name: str, service: str) -> None:
    UNITS.mkdir(exist_ok=True)
    (UNITS / name).write_text(f"[Unit]\nStartLimitIntervalSec=0\n[Service]\n{service}\n")
    run("systemctl", "daemon-reload")


@pytest.fixture
def containers() -> Iterator[None]:
    """Containers and volumes are gone afterwards."""
    yield
    clean()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    Path("/run/ingest-broken").unlink(missing_ok=True)
    run("systemctl", "start", INGEST)
    run("systemctl", "stop", OTHER, SLOW)
    return make_tree(tmp_path / "srv/app", files=3)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The log of a service that is asked to pause."""
    (tmp_path / "served.py").write_text(SERVED)
    write_unit(SERVICE, f"ExecStart={sys.executable} {tmp_path}/served.py {tmp_path}/served.log")
    run("systemctl", "start", SERVICE)
    wait_until(lambda: subprocess.run(["curl", "-s", "http://127.0.0.1:8199"], check=False).returncode == 0)
    yield tmp_path / "served.log"
    run("systemctl", "stop", SERVICE)


def paused_by(tree: Path, tmp_path: Path, *steps: dict[str, Any], **pause: Any) -> System:
    return protecting(tree, tmp_path, drill="never", pause={"steps": list(steps), **pause})


def active(unit: str) -> str:
    return run("systemctl", "is-active", unit, check=False)


def when(unit: str, change: str) -> int:
    """Return when a unit last changed so, in microseconds since boot."""
    return int(run("systemctl", "show", "--value", f"--property={change}Monotonic", unit))


def by_command(trace: Path, name: str = "command", also: str = "true") -> dict[str, str]:
    return {"command": f"echo pause {name} >> {trace}; {also}", "resume": f"echo resume {name} >> {trace}"}


def by_http(**options: Any) -> dict[str, Any]:
    calls = {which: {"url": f"http://127.0.0.1:8199/{which}"} for which in ("pause", "resume")}
    return {"http": {**calls, "headers": f"Authorization: Bearer {SECRET}", **options}}


def worker(name: str, *options: str) -> None:
    docker("run", "-d", "--name", name, "--network", "none", *options, IMAGE, "sh", "-c", IDLE)


def killed(system: System, *arguments: str) -> None:
    """Run a verb that is killed by what it starts."""
    process = system.start(*arguments)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


# -- what is paused, and what stays --------------------


@pytest.mark.usefixtures("containers")
def test_everything_is_paused_in_order_while_components_freeze_and_goes_on(
    tree: Path, tmp_path: Path, served: Path
) -> None:
    project = Project(tmp_path / "etl", "etl")
    project.compose("up", "-d")
    worker("frozen")
    worker("stopped", "--label", "etl=1")
    docker("stop", "-t", "0", "stopped")
    worker("held", "--label", "etl=1")
    docker("pause", "held")
    trace = tmp_path / "trace"
    look = f"docker ps -a --format '{{{{.Names}}}} {{{{.State}}}}' | sort > {tmp_path}/seen; systemctl is-active"
    system = paused_by(
        tree,
        tmp_path,
        {"units": [INGEST, OTHER]},
        {"containers": {"labels": ["com.docker.compose.project=etl"]}},
        {"containers": {"names": ["frozen"], "labels": ["etl=1"], "hold": "pause"}},
        by_http(),
        by_command(trace, also=f"{look} {INGEST} >> {trace}; cat {served} >> {trace}"),
    )
    answer = system.run("run", "daily")
    asked = ["/pause", "Bearer", SECRET]
    assert trace.read_text().split() == ["pause", "command", "inactive", *asked, "resume", "command"]
    seen = dict(line.split() for line in (tmp_path / "seen").read_text().splitlines())
    assert seen == {
        **dict.fromkeys(("etl-db-1", "etl-app-1", "etl-looker-1", "stopped"), "exited"),
        **dict.fromkeys(("frozen", "held"), "paused"),
    }
    assert set(project.states().values()) == {"running"}
    assert [state(one) for one in ("frozen", "stopped", "held")] == ["running", "exited", "paused"]
    assert [active(one) for one in (INGEST, OTHER)] == ["active", "inactive"]
    assert served.read_text().split() == [*asked, "/resume", "Bearer", SECRET]
    # Told everywhere.
    (row,) = answer["components"]
    assert 0 < row["frozen_after"] < answer["pause_seconds"] == row["pause_seconds"]
    manifest = json.loads(next((tmp_path / "store").rglob("manifest.json")).read_text())
    (record,) = manifest["components"]
    assert (record["frozen_after"], record["pause_seconds"]) == (row["frozen_after"], row["pause_seconds"])
    assert f"pause of {row['pause_seconds']:.1f} s" in shown(system, "show", answer["point"])
    metrics = (system.root / "var/lib/restaura/restaura.prom").read_text()
    assert f'restaura_pause_seconds{{plan="daily"}} {answer["pause_seconds"]:g}' in metrics
    assert (
        f'restaura_frozen_after_seconds{{plan="daily",component="app",store="plain"}} {row["frozen_after"]:g}'
        in metrics
    )
    kept = [one for one in system.root.rglob("*") if one.is_file() and SECRET in one.read_text(errors="replace")]
    assert [one.name for one in kept] == ["plans.daily.pause.steps.3.http.headers"]
    assert kept[0].stat().st_mode & 0o077 == 0


def shown(system: System, *arguments: str) -> str:
    argv = [sys.executable, "-m", "restaura", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=system.environment(), check=True).stdout


@pytest.mark.parametrize("late", ["files.Files", "docker_volumes.DockerVolumes"])
@pytest.mark.usefixtures("containers")
def test_what_a_component_stops_too_stays_stopped_until_all_is_copied_or_the_pause_ends(
    tree: Path, tmp_path: Path, late: str
) -> None:
    """The other component is copied long before the `late` one holds still, and must not start what it took over."""
    worker("etl", "--label", "etl=1", "-v", "etl_state:/data")
    run("systemctl", "start", OTHER)
    trace = tmp_path / "trace"
    running = (
        f"systemctl is-active {INGEST} {OTHER} >> {trace}; docker inspect -f '{{{{.State.Status}}}}' etl >> {trace}"
    )
    system = paused_by(tree, tmp_path, {"units": [INGEST, OTHER]}, {"containers": {"labels": ["etl=1"]}})
    system.configure(
        components={
            "files": [{"name": "app", "paths": [str(tree)], "stops": [INGEST]}],
            "docker_volumes": [{"name": "volumes", "volumes": ["etl_state"]}],
        }
    )
    driver = textwrap.dedent(
        f"""
        import subprocess, sys, time
        from restaura import cli, log
        from restaura.sources import {late.partition(".")[0]}
        event, freeze = log.Log.event, {late}.freeze
        def looking(self, name, level="info", **fields):
            event(self, name, level, **fields)
            if name in ("released", "resumed"):
                subprocess.run("echo " + name + " >> {trace};" + {running!r}, shell=True)
        def slow(*arguments):
            time.sleep(4)
            return freeze(*arguments)
        log.Log.event, {late}.freeze = looking, slow
        sys.exit(cli.main())
        """
    )
    argv = [sys.executable, "-c", driver, "run", "daily", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=system.environment(), check=False)
    answer = json.loads(done.stdout)
    assert done.returncode == 0, answer
    assert [one["good"] for one in answer["components"]] == [True, True]
    seen = trace.read_text().split()
    assert seen[:4] == ["released", "inactive", "inactive", "exited"], "nothing goes on before the pause ends"
    assert seen[seen.index("resumed") + 2] == "active", "what no component stops goes on when it does"
    assert all(one["stop_seconds"] > 0 for one in answer["components"])
    assert [active(INGEST), active(OTHER), state("etl")] == ["active", "active", "running"]


def test_a_unit_that_is_not_there_is_refused_before_anything_is_paused(tree: Path, tmp_path: Path) -> None:
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, {"units": ["ingest-gone.timer"]})
    begun = when(INGEST, "ActiveEnterTimestamp")
    error = system.run("run", "daily", expect=2)["error"]
    assert "pause.steps.1.units: systemd does not know ingest-gone.timer" in error["what"]
    assert "ingest-gone.timer" in system.run("run", "daily", "--check", expect=1)["problems"][0]
    pause = {"steps": [{"containers": {"names": ["no-such"]}}]}
    system.configure(plans=[{"name": "daily", "pause": pause}])
    assert "there is no container no-such" in system.run("run", "daily", expect=2)["error"]["what"]
    assert when(INGEST, "ActiveEnterTimestamp") == begun
    # Containers of a label come and go.
    pause = {"containers": {"labels": ["no=such"]}}
    system.configure(plans=[{"name": "daily", "pause": pause}])
    assert system.run("run", "daily")["exit"] == 0
    assert "no container has no=such" in "".join(one.read_text() for one in (system.root / "var/log").rglob("*.jsonl"))


def test_a_job_that_a_timer_started_is_begun_anew_and_its_end_is_not_waited_for(tree: Path, tmp_path: Path) -> None:
    write_unit("ingest-job.service", "Type=oneshot\nExecStart=/bin/sleep infinity")
    run("systemctl", "start", "--no-block", "ingest-job.service")
    wait_until(lambda: active("ingest-job.service").strip() == "activating")
    began = when("ingest-job.service", "InactiveExitTimestamp")
    system = paused_by(tree, tmp_path, {"units": ["ingest-job.service"]})
    assert system.run("run", "daily")["pause_seconds"] > 0
    assert active("ingest-job.service").strip() == "activating"
    assert when("ingest-job.service", "InactiveExitTimestamp") > began
    run("systemctl", "stop", "ingest-job.service")


def test_a_service_that_is_gone_fails_the_run_and_the_others_go_on(tree: Path, tmp_path: Path) -> None:
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, by_http())
    error = system.run("run", "daily", expect=1)["error"]
    assert "ingestion was not paused" in error["where"]
    assert active(INGEST) == "active"
    assert system.leftovers() == []


# -- it goes on for certain --------------------


@pytest.mark.usefixtures("containers")
@pytest.mark.parametrize("who", ["run", "run and watcher"])
def test_ingestion_goes_on_after_sigkill(tree: Path, tmp_path: Path, served: Path, who: str) -> None:
    worker("etl", "--label", "etl=1")
    worker("frozen")
    system = paused_by(
        tree,
        tmp_path,
        {"units": [INGEST, OTHER]},
        {"containers": {"labels": ["etl=1"]}},
        {"containers": {"names": ["frozen"], "hold": "pause"}},
        by_http(),
    )
    system.killed("run", "daily", at="paused", who=who)
    if who == "run and watcher":
        # As after a reboot: nobody but the boot's own `recover` is there to do it.
        assert [active(INGEST), state("etl"), state("frozen")] == ["inactive", "exited", "paused"]
        system.run("recover")
    system.settled()
    assert [active(INGEST), active(OTHER)] == ["active", "inactive"]
    assert [state("etl"), state("frozen")] == ["running", "running"]
    assert "/resume" in served.read_text()
    assert system.good_points() == {}
    assert system.run("recover")["paid"] == []


@pytest.mark.usefixtures("containers")
def test_ingestion_goes_on_after_sigkill_in_the_midst_of_the_pausing(tree: Path, tmp_path: Path) -> None:
    """Two of three are paused; what the third one's command still does is over before anything goes on."""
    worker("etl", "--label", "etl=1")
    trace = tmp_path / "trace"
    dying = f"kill -KILL $PPID; sleep 1; systemctl stop {OTHER}; echo paused >> {trace}"
    run("systemctl", "start", OTHER)
    system = paused_by(
        tree,
        tmp_path,
        {"units": [INGEST]},
        {"containers": {"labels": ["etl=1"]}},
        {"command": dying, "resume": f"systemctl start {OTHER}; echo resumed >> {trace}"},
    )
    killed(system, "run", "daily")
    system.settled()
    assert trace.read_text().split() == ["paused", "resumed"]
    assert [active(INGEST), active(OTHER), state("etl")] == ["active", "active", "running"]


def test_at_the_limit_ingestion_goes_on_though_a_freeze_is_slow(tree: Path, tmp_path: Path) -> None:
    run("systemctl", "start", SLOW)
    late = make_tree(tmp_path / "srv/late", files=2)
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, limit=5)
    files = [{"name": "app", "paths": [str(tree)]}, {"name": "late", "paths": [str(late)]}]
    system.configure(components={"files": files})
    good = system.run("run", "daily")["point"]
    system.configure(components={"files": [files[0], {**files[1], "stops": [SLOW]}]})
    answer = system.run("run", "daily", expect=3)
    assert {one["component"]: one["state"] for one in answer["components"]} == {"app": "complete", "late": "failed"}
    assert "the pause's limit is 5 s" in answer["problems"][0]
    assert [active(INGEST), active(SLOW)] == ["active", "active"]
    assert {one["point"] for one in system.run("restore")["components"]} == {good}, "it is not the latest"
    assert system.leftovers() == []


def test_ingestion_that_comes_back_by_itself_leaves_no_good_point(tree: Path, tmp_path: Path) -> None:
    back = {"command": f"systemctl start {INGEST}", "resume": "true"}
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, back)
    answer = system.run("run", "daily", expect=3)
    assert answer["components"][0]["state"] == "torn"
    assert f"{INGEST} started by itself" in answer["problems"][0]
    system.run("restore", "--component", "app", expect=5)


@pytest.mark.parametrize(
    ("named", "ticks", "lasts", "broken"),
    [
        (["ingest-tick.service"], 0.1, "true", True),
        (["ingest-tick.timer"], 60, "sleep infinity", True),
        (["ingest-tick.timer", "ingest-tick.service"], 0.1, "true", False),
    ],
    ids=["its timer goes on", "its job goes on", "neither"],
)
def test_a_job_that_a_timer_starts_in_the_pause_leaves_no_good_point(
    tree: Path, tmp_path: Path, named: list[str], ticks: float, lasts: str, broken: bool
) -> None:
    write_unit("ingest-tick.service", f"Type=oneshot\nExecStart=/bin/sh -c 'date >> /run/ingest-ticks; {lasts}'")
    timer = UNITS / "ingest-tick.timer"
    timer.write_text(f"[Timer]\nOnActiveSec=0\nOnUnitInactiveSec={ticks}\nAccuracySec=10ms\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", timer.name)
    ticked = Path("/run/ingest-ticks")
    wait_until(ticked.exists)
    inside = {
        "command": f"wc -l < {ticked} > {tmp_path}/begun; sleep 1.5",
        "resume": f"wc -l < {ticked} > {tmp_path}/over",
    }
    system = paused_by(tree, tmp_path, {"units": named}, inside)
    answer = system.run("run", "daily", expect=3 if broken else 0)
    assert answer["components"][0]["state"] == ("torn" if broken else "complete")
    if broken:
        assert "ingest-tick.service started by itself, or was never stopped" in answer["problems"][0]
        log = "".join(one.read_text() for one in (system.root / "var/log").rglob("*.jsonl"))
        other = "ingest-tick.timer" if named == ["ingest-tick.service"] else "ingest-tick.service"
        assert re.search(rf"{other} may [^\"]*name it too", log)
    else:
        assert (tmp_path / "begun").read_text() == (tmp_path / "over").read_text()
    run("systemctl", "stop", timer.name, "ingest-tick.service")
    ticked.unlink()


def test_ingestion_that_does_not_go_on_is_loud_and_recover_mends_it(tree: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, {"command": "touch /run/ingest-broken", "resume": "true"})
    (plan,) = system.declaration["plans"]
    system.configure(plans=[{**plan, "failure_command": f'echo "$RESTAURA_EXIT $RESTAURA_SUMMARY" > {told}'}])
    answer = system.run("run", "daily", expect=3)
    assert answer["components"][0]["good"], "what was captured is whole"
    assert "ingestion was not resumed" in answer["problems"][0]
    assert told.read_text().startswith("3 ")
    assert "ingestion was not resumed" in told.read_text()
    assert any("not taken back" in one["what"] for one in system.run("status", expect=3)["problems"])
    assert INGEST in system.run("recover", expect=1)["failed"][0]["error"]
    Path("/run/ingest-broken").unlink()
    system.run("recover")
    assert active(INGEST) == "active"
    assert system.leftovers() == []


def test_two_runs_do_not_pause_into_each_other(tree: Path, tmp_path: Path) -> None:
    """The second one would find the unit stopped, take it for one that does not run, and freeze while it goes on."""
    (other := tmp_path / "srv/other").mkdir()
    held = f"touch {tmp_path}/held; until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    system = paused_by(tree, tmp_path, {"units": [INGEST]}, {"command": held, "resume": "true"})
    system.configure(
        components={"files": [{"name": "app", "paths": [str(tree)]}, {"name": "other", "paths": [str(other)]}]},
        stores=[{"name": name, "type": "dated", "location": str(tmp_path / name)} for name in ("plain", "second")],
        plans=[
            {**system.declaration["plans"][0], "components": ["app"], "stores": ["plain"]},
            {"name": "second", "components": ["other"], "stores": ["second"], "pause": {"units": [INGEST]}},
        ],
    )
    first = system.start("run", "daily")
    wait_until((tmp_path / "held").exists)
    second = system.start("run", "second")
    wait_until(lambda: "prepare" in phases(system, "second"))
    time.sleep(1)
    assert "freeze" not in phases(system, "second")
    (tmp_path / "go").touch()
    for one in (first, second):
        one.communicate(timeout=120)
    assert [first.returncode, second.returncode] == [0, 0]
    assert active(INGEST) == "active"


def phases(system: System, plan: str) -> list[str]:
    lines = [line for one in (system.root / "var/log").rglob("*.jsonl") for line in one.read_text().splitlines()]
    return [one["phase"] for one in map(json.loads, lines) if one.get("plan") == plan and "phase" in one]


# -- restore and undo --------------------


def looks(trace: Path, name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "command": f"echo {name} $(systemctl is-active {INGEST}) >> {trace}; sleep 1", **options}


@pytest.fixture
def restorable(tree: Path, tmp_path: Path) -> System:
    """A host whose checks note whether ingestion runs, and whose tree was changed since its point."""
    trace = tmp_path / "trace"
    system = paused_by(tree, tmp_path, {"units": [INGEST]})
    checks = [looks(trace, "data"), looks(trace, "service", live_only=True)]
    system.configure(components={"files": [{"name": "app", "paths": [str(tree)], "checks": checks}]})
    system.run("run", "daily")
    (tree / "sub/file 2").write_text("changed since")
    return system


def test_ingestion_is_paused_for_a_restore_and_an_undo(restorable: System, tree: Path, tmp_path: Path) -> None:
    """It has a file of the tree open, and goes on once the data was looked at, though that takes beyond the limit."""
    write_unit(OTHER, f"ExecStart=/bin/sh -c 'exec sleep infinity < {tree}/link'")
    run("systemctl", "start", OTHER)
    changed = tree_digest(tree)
    refused = restorable.run("restore", "--component", "app", "--yes", "--no-pause", expect=2)["error"]
    assert "in use" in refused["what"]
    restorable.configure(plans=[{"name": "daily", "drill": "never", "pause": {"units": [INGEST, OTHER], "limit": 1}}])
    (tmp_path / "trace").unlink(missing_ok=True)
    answer = restorable.run("restore", "--component", "app", "--yes")
    assert (tmp_path / "trace").read_text().split() == ["data", "inactive", "service", "active"]
    assert tree_digest(tree) != changed
    begun = when(INGEST, "ActiveEnterTimestamp")
    restorable.run("undo", answer["id"])
    assert tree_digest(tree) == changed
    assert when(INGEST, "ActiveEnterTimestamp") > begun
    assert [active(INGEST), active(OTHER)] == ["active", "active"]
    run("systemctl", "stop", OTHER)


@pytest.mark.parametrize("phase", ["swap", "committed"])
def test_ingestion_goes_on_after_sigkill_in_a_restore(restorable: System, tree: Path, phase: str) -> None:
    changed = tree_digest(tree)
    restorable.killed("restore", "--component", "app", "--yes", at=phase)
    restorable.settled()
    assert active(INGEST) == "active"
    assert (tree_digest(tree) == changed) == (phase == "swap")
    assert restorable.leftovers() == []
    if phase == "committed":
        restorable.killed("undo", "latest", at="undo")
        restorable.settled()
        assert active(INGEST) == "active"
        assert tree_digest(tree) == changed


@pytest.mark.usefixtures("containers")
def test_volumes_are_restored_before_files(restorable: System, tree: Path) -> None:
    docker("volume", "create", "state")
    restorable.configure(
        components={
            "files": [{"name": "app", "paths": [str(tree)]}],
            "docker_volumes": [{"name": "zzz-volumes", "volumes": ["state"]}],
        }
    )
    restorable.run("run", "daily")
    chosen = restorable.run("restore", "--component", "app", "--component", "zzz-volumes")
    assert [one["component"] for one in chosen["components"]] == ["zzz-volumes", "app"]
    answer = restorable.run("restore", "--component", "app", "--component", "zzz-volumes", "--yes")
    assert [one["component"] for one in answer["restored"]] == ["zzz-volumes", "app"]
