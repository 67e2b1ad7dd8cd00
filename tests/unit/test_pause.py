# SPDX-License-Identifier: GPL-3.0-or-later
"""A pause: the order of its steps, what is undone when one fails, what is asked of a service, who is killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from restaura import pause, process
from restaura.config.load import parse
from restaura.config.schema import Plan
from restaura.errors import ConfigError, SourceError
from restaura.host import Host
from restaura.paths import Paths, write_atomic
from restaura.pause import paused
from restaura.pause_steps import KINDS

SECRET = "S3CRET-token"


def host_at(root: Path, **options: Any) -> Host:
    config = parse(
        {
            "settings": {"host": "web1"},
            "stores": [{"name": "main", "location": "/backups"}],
            "plans": [{"name": "daily", "pause": options}],
            "components": {},
        },
        "test",
    )
    host = Host(Paths(root / "host"), config)
    host.log.verbose = False
    return host


def plan_of(host: Host) -> Plan:
    return host.config.plans[0]


def events(host: Host) -> list[dict[str, Any]]:
    return [json.loads(line) for path in host.paths.logs.glob("*") for line in path.read_text().splitlines()]


def step(trace: Path, name: str, end: str = "true") -> dict[str, str]:
    """Return a step by commands that write down when they ran."""
    return {"command": f"echo pause {name} >> {trace}; {end}", "resume": f"echo resume {name} >> {trace}"}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


# -- order, failures, limits --------------------


def test_steps_are_resumed_in_reverse_order_once_the_body_is_through(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, steps=[step(trace, "a"), step(trace, "b"), step(trace, "c")])
    with paused(host, [plan_of(host)], limited=True) as one:
        assert trace.read_text().splitlines() == ["pause a", "pause b", "pause c"]
        assert 0 < one.after() <= one.seconds < one.left
        assert [debt.owner for debt in host.journal.open_debts()] == ["pause"]
    assert trace.read_text().splitlines()[3:] == ["resume c", "resume b", "resume a"]
    assert host.journal.open_debts() == []
    assert one.problems == []
    lasted = one.seconds
    assert lasted == one.seconds > 0


def test_what_was_not_begun_is_not_resumed(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, steps=[step(trace, "a"), step(trace, "b", "exit 3"), step(trace, "c")])
    with (
        pytest.raises(SourceError, match="ingestion was not paused, pause: exit code 3"),
        paused(host, [plan_of(host)], limited=True),
    ):
        pytest.fail("it is not paused")
    assert trace.read_text().split("\n")[2:4] == ["resume b", "resume a"]
    assert "c" not in trace.read_text().replace("pause", "")
    assert host.journal.open_debts() == []


def test_one_that_does_not_resume_keeps_none_of_the_others_paused(tmp_path: Path, trace: Path) -> None:
    stubborn = {"command": "true", "resume": f"test -e {tmp_path}/mended"}
    host = host_at(tmp_path, steps=[step(trace, "a"), stubborn, step(trace, "c")])
    with paused(host, [plan_of(host)], limited=True) as one:
        pass
    assert trace.read_text().splitlines()[2:] == ["resume c", "resume a"]
    (problem,) = one.problems
    assert "ingestion was not resumed" in problem
    (debt,) = host.journal.open_debts()
    (tmp_path / "mended").touch()
    pause.resume(debt.data["rows"])


def test_a_run_goes_on_trying_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "RETRY_SECONDS", 0.05)
    host = host_at(tmp_path, command="true", resume=f"test -e {tmp_path}/mended")
    with paused(host, [plan_of(host)], limited=True) as one:
        pass
    assert one.problems
    assert host.journal.open_debts()
    (tmp_path / "mended").touch()
    for _ in range(600):
        if not host.journal.open_debts():
            break
        time.sleep(0.05)
    assert host.journal.open_debts() == []
    assert one.seconds == one.seconds > 0.05


def test_at_the_limit_it_is_resumed_whatever_the_body_waits_for(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, **step(trace, "a"), limit=1)
    with paused(host, [plan_of(host)], limited=True) as one:
        for _ in range(3000):
            if "resume" in trace.read_text():
                break
            time.sleep(0.01)
        with pytest.raises(SourceError, match="at the pause's limit of 1 s"):
            one.after()
    assert trace.read_text().splitlines() == ["pause a", "resume a"]
    assert "limit is 1 s" in one.problems[0]


def test_a_swap_is_not_cut_short_by_the_limit(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, **step(trace, "a"), limit=1)
    with paused(host, [plan_of(host)], limited=False) as one:
        time.sleep(1.2)
        one.after()
        assert trace.read_text() == "pause a\n"
    assert one.problems == []


def test_an_error_of_the_body_resumes_and_stays_what_it_is(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, **step(trace, "a"))
    with pytest.raises(KeyboardInterrupt), paused(host, [plan_of(host)], limited=True):
        raise KeyboardInterrupt
    assert trace.read_text() == "pause a\nresume a\n"


def test_what_cannot_be_looked_at_counts_as_come_back_and_goes_on(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def come_back(_: Any) -> str:
        raise SourceError("the Docker daemon does not answer")

    monkeypatch.setattr(KINDS["command"], "come_back", come_back)
    host = host_at(tmp_path, **step(trace, "a"))
    with paused(host, [plan_of(host)], limited=True) as one:
        pass
    assert "does not answer" in one.broken
    assert trace.read_text() == "pause a\nresume a\n"


def test_what_does_not_run_is_neither_paused_nor_resumed(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, steps=[{**step(trace, "a"), "only_if": "exit 1"}, {**step(trace, "b"), "only_if": "true"}])
    with paused(host, [plan_of(host)], limited=True):
        pass
    assert trace.read_text() == "pause b\nresume b\n"


def test_an_only_if_that_cannot_be_asked_pauses_nothing(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, **step(trace, "a"), only_if="there-is-no-such-command")
    with pytest.raises(SourceError, match="exit code 127"), paused(host, [plan_of(host)], limited=True):
        pytest.fail("it is not paused")
    assert not trace.exists()


def test_two_plans_with_one_pause_pause_once(tmp_path: Path, trace: Path) -> None:
    host = host_at(tmp_path, **step(trace, "a"))
    with paused(host, [plan_of(host), Plan(name="other", pause=plan_of(host).pause)], limited=False):
        pass
    assert trace.read_text() == "pause a\nresume a\n"


# -- commands whose run was killed --------------------


def test_a_command_that_outlives_its_run_ends_before_ingestion_is_resumed(tmp_path: Path, trace: Path) -> None:
    """The shell that pauses is not killed with the run: what it still does must not come after the resuming."""
    command = f"echo begun >> {trace}; (sleep 2; echo paused >> {trace}) & wait"
    script = f"""
    import sys
    from pathlib import Path
    sys.path[:0] = {sys.path!r}
    from tests.unit.test_pause import host_at, plan_of, paused
    host = host_at(Path({str(tmp_path)!r}), command={command!r}, resume="echo resumed >> {trace}")
    with paused(host, [plan_of(host)], limited=True):
        pass
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    for _ in range(3000):
        if trace.exists() and "begun" in trace.read_text():
            break
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (debt,) = host_at(tmp_path, command="x", resume="y").journal.open_debts()
    assert not debt.process.alive
    pause.resume(debt.data["rows"])
    assert trace.read_text().split() == ["begun", "paused", "resumed"]


def test_a_marked_process_that_does_not_end_is_killed() -> None:
    child = subprocess.Popen(["sleep", "600"], env={**os.environ, "RESTAURA_PAUSE": "abc"})
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "RESTAURA_PAUSE": "abcd"})
    waiting = threading.Thread(target=child.wait)
    waiting.start()
    try:
        process.end_marked("RESTAURA_PAUSE=abc", 0)
        waiting.join(30)
        assert child.returncode == -signal.SIGKILL
        assert other.poll() is None
    finally:
        child.kill()
        other.kill()
        other.wait()


# -- HTTP --------------------


@dataclass
class Service:
    """A service that notes what it is asked, and answers what it is told to."""

    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service()

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            one.asked.append((self.command, self.path, json.loads(body) if body else None))
            one.seen.append(self.headers.get("Authorization", ""))
            self.send_response(one.answers.pop(0) if one.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PATCH = do_GET = do  # noqa: N815 - the names that http.server asks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one.url = f"http://127.0.0.1:{server.server_port}"
    yield one
    server.shutdown()
    server.server_close()


def http(url: str, **options: Any) -> dict[str, Any]:
    call = {"url": f"{url}/dags/etl/", "method": "PATCH", "body": '{"is_paused": true}', **options}
    return {"http": {"pause": call, "resume": {"url": f"{url}/resume?now=1"}}}


def test_a_service_is_asked_to_pause_and_to_go_on(tmp_path: Path, service: Service) -> None:
    host = host_at(tmp_path, **http(service.url))
    write_atomic(host.paths.keys / "plans.daily.pause.http.headers", f"Authorization: Bearer {SECRET}\n".encode())
    with paused(host, [plan_of(host)], limited=True):
        assert service.asked == [("PATCH", "/dags/etl/", {"is_paused": True})]
        assert SECRET not in "".join(path.read_text() for path in host.paths.journal.glob("*"))
    assert service.asked[1:] == [("POST", "/resume?now=1", None)]
    assert service.seen == [f"Bearer {SECRET}"] * 2
    assert SECRET not in json.dumps(events(host))


def test_resuming_is_asked_for_again_and_pausing_is_not(tmp_path: Path, service: Service) -> None:
    host = host_at(tmp_path, **http(service.url))
    service.answers = [200, 503, 503, 200]
    with paused(host, [plan_of(host)], limited=True) as one:
        pass
    assert one.problems == []
    assert [path for _, path, _ in service.asked] == ["/dags/etl/"] + ["/resume?now=1"] * 3
    service.answers = [503]
    with pytest.raises(SourceError, match="HTTP status 503"), paused(host, [plan_of(host)], limited=True):
        pass


@pytest.mark.parametrize(("status", "wanted", "works"), [(204, 0, True), (204, 200, False), (409, 409, True)])
def test_the_status_must_be_the_wanted_one(
    tmp_path: Path, service: Service, status: int, wanted: int, works: bool
) -> None:
    host = host_at(tmp_path, **http(service.url, status=wanted))
    service.answers = [status]
    with (
        contextlib.nullcontext() if works else pytest.raises(SourceError, match="answered 204, not 200"),
        paused(host, [plan_of(host)], limited=True),
    ):
        pass
    assert len(service.asked) == 2, "what may have been paused is resumed"


@pytest.mark.parametrize("status", [401, 404])
def test_a_service_that_refuses_was_not_paused_and_the_others_go_on(
    tmp_path: Path, trace: Path, service: Service, status: int
) -> None:
    host = host_at(tmp_path, steps=[step(trace, "a"), http(service.url)])
    service.answers = [status]
    with pytest.raises(SourceError, match=f"HTTP status {status}"), paused(host, [plan_of(host)], limited=True):
        pass
    assert len(service.asked) == 1
    assert trace.read_text() == "pause a\nresume a\n"
    assert host.journal.open_debts() == []


def test_a_service_that_is_not_there_was_not_paused_and_the_others_go_on(tmp_path: Path, trace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = host_at(tmp_path, steps=[step(trace, "a"), http(f"http://127.0.0.1:{port}")])
    refused = pytest.raises(SourceError, match="ingestion was not paused, PATCH http")
    with refused, paused(host, [plan_of(host)], limited=True):
        pass
    assert trace.read_text() == "pause a\nresume a\n"
    assert host.journal.open_debts() == []


def test_a_service_that_answers_too_late_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restaura.pause_steps.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("restaura.pause_steps.PATIENCE_SECONDS", 0.2)
    failing = pytest.raises(SourceError, match="and then: ingestion was not resumed")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        host = host_at(tmp_path, **http(f"http://127.0.0.1:{deaf.getsockname()[1]}"), limit=1)
        with failing, paused(host, [plan_of(host)], limited=True):
            pass
    assert [one.owner for one in host.journal.open_debts()] == ["pause"], "it may have been paused after all"


# -- before anything is paused --------------------


def test_a_unit_that_is_not_there_is_named_before_anything_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restaura.units.missing", lambda units: [one for one in units if "gone" in one])
    host = host_at(tmp_path, units=["ingest.service", "gone.timer"])
    with pytest.raises(ConfigError, match=r"plan daily, pause\.units: systemd does not know gone\.timer \(fix: "):
        pause.check(host, plan_of(host))


def test_what_a_component_took_over_goes_on_with_the_pause_or_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("restaura.units.start", started.extend)
    monkeypatch.setattr("restaura.units.running", lambda _: list(started))
    monkeypatch.setattr("restaura.volumes.stopping.intruders", lambda *_: "")

    def go_on(held: dict[str, Any]) -> list[str]:
        started.extend(one["id"] for one in held["stop"])
        return []

    monkeypatch.setattr("restaura.volumes.stopping.go_on", go_on)
    held = {"stop": [{"id": "etl"}, {"id": "other"}], "pause": [], "commands": []}
    rows = [
        {"kind": "containers", "held": held, "since": "2026-01-01T00:00:00+00:00", "names": [], "labels": ["etl=1"]},
        {"kind": "units", "ran": ["early", "late"], "watched": ["early", "late"]},
        {"kind": "command", "command": "true", "resume": "true", "mark": "x", "ended": True},
    ]
    one = pause.Paused(rows=rows)
    one.hand_over(["early", "late"])
    one.hand_over(["etl"])
    assert one.hand_back(["early"])
    assert one.hand_back(["etl"])
    assert started == []
    one.resume()
    assert one.broken == ""
    assert sorted(started) == ["early", "etl", "other"]
    assert not one.hand_back(["late"]), "the component starts it"


def test_what_a_person_would_type() -> None:
    def told(**options: Any) -> list[tuple[str, str]]:
        found = host_at(Path("/nonexistent"), **options).config.plans[0].pause
        return pause.told(found) if found else []

    assert told(units=["a.timer", "a.service"]) == [
        ("systemctl stop a.timer a.service", "systemctl start a.timer a.service")
    ]
    labelled = told(containers={"names": ["x"], "labels": ["etl", "tier=1"], "hold": "pause"})
    assert labelled[0][0] == "docker pause x $(docker ps --all --quiet --filter label=etl --filter label=tier=1)"
    assert told(steps=[http("http://x"), {"units": ["b.path"]}])[0] == (
        "PATCH http://x/dags/etl/",
        "POST http://x/resume?now=1",
    )
