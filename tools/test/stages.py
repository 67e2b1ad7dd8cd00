# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of `make test`. Each returns its results and leaves its whole output under .cache/test/."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.lab import clients, daemon, hosts, images, jars, s3
from tools.lab.common import ROOT, LabError
from tools.test.results import Result, read_junit

LOGS = ROOT / ".cache/test"
BIN = ROOT / ".venv/bin"
# Both cores: integration tests and scenarios mostly wait for their own host.
LANES = 2
NEWEST = "debian13-stack"  # of the hosts that integration tests run in
STAGE_SECONDS = 2400
LINTERS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("yamllint", "--strict", "."),
    ("ansible-lint", "--offline", "-c", ".config/ansible-lint.yml"),
)


@dataclass(frozen=True)
class Choice:
    """What a person chose on the command line."""

    expression: str = ""
    scenario: str = ""
    keep: bool = False
    # A full run starts from new hosts; a single stage uses the warm ones.
    fresh: bool = False


def lint(_: Choice) -> list[Result]:
    """Every linter over the whole tree: one result."""
    return [_one("lint", LINTERS)]


def types(_: Choice) -> list[Result]:
    """Mypy over the program, the plugins and the tools: one result."""
    return [_one("types", (("mypy",),))]


def unit(choice: Choice) -> list[Result]:
    """The tests that need no server."""
    return _pytest("unit", choice)


def repo(choice: Choice) -> list[Result]:
    """The tests of the project's own rules."""
    return _pytest("repo", choice)


def playbooks(choice: Choice) -> list[Result]:
    """The playbooks and make setup_backup, run from here against hosts of the lab."""
    return _pytest("playbooks", choice, "-n", str(LANES), "--dist", "loadfile")


def integration(choice: Choice) -> list[Result]:
    """The tests against real servers, as root inside hosts of the lab, each of which takes the next file."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "tests/integration").rglob("test_*.py"))
    if not files:
        return []
    server = s3.up()
    for name in ("grafana", "langchain", "langsmith", "qdrant"):
        clients.up(name)
    jars.up()
    # The longest first, so that no host is left alone with it; a fresh machine guesses by the length of the file.
    known = _durations()
    longest = sorted(files, key=lambda path: -known.get(path.stem, float((ROOT / path).stat().st_size)))
    older = [path for path in files if "mark.debian12" in (ROOT / path).read_text(encoding="utf-8")]
    newest = _Work(longest)
    lanes = [_Lane(f"integration-{n + 1}", NEWEST, newest) for n in range(min(LANES, len(files)))]
    lanes += [_Lane("integration-12", "debian12", _Work(older), marker="debian12")] if older else []
    # All at once: they wait for servers and disks more than they compute.
    with ThreadPoolExecutor(len(lanes)) as pool:
        done = list(pool.map(lambda lane: _run_lane(lane, server, choice), lanes))
    results = [result for part in done for result in part]
    _remember_durations(results)
    return results


def molecule(choice: Choice) -> list[Result]:
    """Every scenario, each a process of its own with its own host, two at a time."""
    found = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))
    names = [name for name in found if name != "default"]
    if choice.scenario:
        if choice.scenario not in names:
            return [Result("molecule", choice.scenario, 0, f"no such scenario: there are {', '.join(names)}")]
        names = [choice.scenario]
    images.up("debian13")
    with ThreadPoolExecutor(LANES) as pool:
        return list(pool.map(lambda name: _scenario(name, choice), names))


Stage = Callable[[Choice], list[Result]]
STAGES: dict[str, Stage] = {
    "lint": lint,
    "types": types,
    "unit": unit,
    "repo": repo,
    "integration": integration,
    "playbooks": playbooks,
    "molecule": molecule,
}
NEED_DOCKER = ("integration", "playbooks", "molecule")


def run(name: str, choice: Choice) -> list[Result]:
    """Run one stage. A stage that could not be run, or that found no test, is a failed result that says so."""
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        if name in NEED_DOCKER:
            daemon.up()
        results = STAGES[name](choice)
    except LabError as error:
        return [Result(name, "(all)", 0, f"not run: {error}")]
    return results or [Result(name, "(all)", 0, "no test was found: an empty stage proves nothing")]


class _Work:
    """Test files that wait for a host; each is handed out once."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Path]:
        while True:
            with self._lock:
                if not self._files:
                    return
                path = self._files.pop(0)
            yield path


@dataclass(frozen=True)
class _Lane:
    """A host, and the test files that it takes one after another."""

    host: str
    image: str
    work: _Work
    marker: str = ""


def _one(stage: str, commands: Sequence[Sequence[str]]) -> Result:
    began = time.monotonic()
    failures = []
    (LOGS / f"{stage}.log").write_text("", encoding="utf-8")
    for command in commands:
        code = _logged([str(BIN / command[0]), *command[1:]], LOGS / f"{stage}.log", append=True)
        if code:
            failures.append(f"{command[0]} exited {code}")
    if failures:
        _show(LOGS / f"{stage}.log")
    return Result(stage, stage, time.monotonic() - began, ", ".join(failures))


def _pytest(stage: str, choice: Choice, *options: str) -> list[Result]:
    junit = LOGS / f"{stage}.xml"
    junit.unlink(missing_ok=True)
    command = [str(BIN / "python"), "-m", "pytest", f"tests/{stage}", f"--junitxml={junit}"]
    code = _logged([*command, *options, *_expression(choice)], LOGS / f"{stage}.log")
    results = read_junit(stage, junit)
    if code:
        _show(LOGS / f"{stage}.log")
    return _checked(stage, stage, results, code)


def _checked(stage: str, name: str, results: list[Result], code: int) -> list[Result]:
    """Add a failure where the runner failed though none of its tests did. pytest's 5 is: no test collected."""
    if code not in (0, 5) and all(result.passed for result in results):
        results = [*results, Result(stage, name, 0, f"pytest exited {code}: see .cache/test/{name}.log")]
    return results


def _run_lane(lane: _Lane, server: s3.Server, choice: Choice) -> list[Result]:
    _lane_host(lane, choice)
    log = LOGS / f"{lane.host}.log"
    log.write_text("", encoding="utf-8")
    return [result for path in lane.work for result in _run_file(lane, path, log, server, choice)]


def _run_file(lane: _Lane, path: Path, log: Path, server: s3.Server, choice: Choice) -> list[Result]:
    container = hosts.container_of(lane.host)
    credentials = "/run/restaura-test/s3-credentials"
    script = f"""set -eu
mkdir -p -m 0700 {credentials.rpartition("/")[0]}
cat > {credentials}
cd /restaura
export PYTHONPATH=/restaura/src:/restaura PYTHONPYCACHEPREFIX=/var/cache/restaura-test
export HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
export RESTAURA_TEST_S3_ENDPOINT={server.endpoint} AWS_SHARED_CREDENTIALS_FILE={credentials}
export AWS_DEFAULT_REGION={server.region}
rm -f /var/tmp/junit.xml
exec timeout {STAGE_SECONDS} python3 -m pytest --junitxml=/var/tmp/junit.xml "$@"
"""
    options = ["-m", lane.marker] if lane.marker else []
    command = ["docker", "exec", "-i", container, "/bin/sh", "-c", script, "sh", *options, *_expression(choice)]
    junit = LOGS / f"{lane.host}-{path.stem}.xml"
    junit.unlink(missing_ok=True)
    keys = Path(server.credentials).read_text(encoding="utf-8")
    code = _logged([*command, str(path)], log, stdin=keys, append=True)
    subprocess.run(["docker", "cp", f"{container}:/var/tmp/junit.xml", str(junit)], capture_output=True, check=False)
    if code not in (0, 5):
        _show(log)
    results = read_junit("integration", junit)
    if lane.image != NEWEST:
        results = [Result(one.stage, f"{lane.image}: {one.name}", one.seconds, one.failure) for one in results]
    return _checked("integration", lane.host, results, code)


def _lane_host(lane: _Lane, choice: Choice) -> None:
    """Make the lane's host, unless a warm one will do: running, of today's image."""
    if not choice.fresh and any(host.name == lane.host for host in hosts.all_hosts()):
        used = subprocess.run(
            ["docker", "inspect", "--format", "{{.Config.Image}}", hosts.container_of(lane.host)],
            capture_output=True,
            text=True,
            check=False,
        )
        if used.stdout.strip() == images.tag(lane.image):
            return
    hosts.create(lane.host, lane.image, mounts=[f"{ROOT}:/restaura:ro"])


def _scenario(name: str, choice: Choice) -> Result:
    began = time.monotonic()
    log = LOGS / f"molecule-{name}.log"
    state = ROOT / ".cache/molecule" / name
    # What an earlier run that kept its host remembers would make Molecule skip the create.
    shutil.rmtree(state, ignore_errors=True)
    environment = {
        "RESTAURA_SCENARIO": name,
        # Its own, so that scenarios can run side by side: Molecule keeps one state and one inventory per folder.
        "MOLECULE_EPHEMERAL_DIRECTORY": str(state),
    }
    # A single scenario that fails leaves its host for a look.
    destroy = "never" if choice.keep or choice.scenario else "always"
    code = _logged([str(BIN / "molecule"), "test", "-s", name, f"--destroy={destroy}"], log, environment)
    failure = f"molecule exited {code}" if code else _skipped(log.read_text(encoding="utf-8", errors="replace"))
    if choice.scenario and not choice.keep and not failure:
        hosts.destroy(name)
    if failure:
        _show(log)
        if choice.scenario:
            print(f"the host is kept: tools/lab/lab exec {name} COMMAND; remove it: tools/lab/lab host destroy {name}")
    return Result("molecule", name, time.monotonic() - began, failure)


def _skipped(log: str) -> str:
    """Return what Molecule left out though it exited 0, or nothing: it calls a missing playbook a success."""
    if found := re.search(r".*(missing=[1-9]|Missing playbook|no hosts matched|Skipping, verifier).*", log):
        return f"a step was left out: {found[0].strip()}"
    return ""


def _durations() -> dict[str, float]:
    path = LOGS / "durations.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _remember_durations(results: Sequence[Result]) -> None:
    took: dict[str, float] = {}
    for result in results:
        if found := re.search(r"(test_\w+)(\.\w+)*::", result.name):
            took[found[1]] = took.get(found[1], 0.0) + result.seconds
    (LOGS / "durations.json").write_text(json.dumps({**_durations(), **took}, indent=1), encoding="utf-8")


def _expression(choice: Choice) -> list[str]:
    return ["-k", choice.expression] if choice.expression else []


def _logged(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
    stdin: str = "",
    append: bool = False,
) -> int:
    """Run a command with its output in a log; return its exit code, 124 when it took too long."""
    own = {
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".cache/hypothesis"),
        "PYTHONPYCACHEPREFIX": str(ROOT / ".cache/python"),
        "NO_COLOR": "1",
    }
    with log.open("a" if append else "w", encoding="utf-8") as output:
        try:
            return subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **own, **(environment or {})},
                input=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=STAGE_SECONDS + 60,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return 124


def _show(log: Path, lines: int = 80) -> None:
    """Print the end of a log of something that failed."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join([f"--- {log.relative_to(ROOT)}", *text[-lines:], "---"]), flush=True)
