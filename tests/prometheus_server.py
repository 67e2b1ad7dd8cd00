# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus for tests: Debian's program as a unit of its own, seeded and asked by promtool alone."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

UNIT = "restaura-test-prometheus.service"
PORT = 19090
URL = f"http://127.0.0.1:{PORT}"
PLACE = Path("/var/lib/restaura-test-prometheus")
DATA = PLACE / "data"
ETC = Path("/etc/restaura-test-prometheus")
ELSEWHERE = Path("/srv/restaura-test-rules")
# An hour of the past, in seconds, aligned to the two hours of a block; and one that only its test uses.
HOUR = 3600
START = int(time.time()) // (2 * HOUR) * (2 * HOUR) - 24 * HOUR
PASSWORD = "target-pa55word"

CONFIG = f"""\
global:
  scrape_interval: 1s
  external_labels: {{site: "lisbon"}}
rule_files: ["rules.yml", "{ELSEWHERE}/*.yml", "/nowhere/*.yml"]
scrape_configs:
  - job_name: self
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
  - job_name: found
    file_sd_configs: [{{files: ["targets/*.json"]}}]
    basic_auth: {{username: u, password_file: target.password}}
    tls_config: {{ca_file: ca.pem}}
"""
RULES = """\
groups:
  - name: disk
    rules:
      - alert: DiskFull
        expr: disk_used_ratio > 0.9
        for: 5m
"""


def run(*argv: str, check: bool = True, stdin: str = "") -> str:
    """Run a program and return what it says."""
    done = subprocess.run(argv, capture_output=True, text=True, input=stdin, check=False, timeout=120)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def openmetrics(value: float = 0.5, label: str = "a", shift: int = 0) -> str:
    """Return an hour of three series, a sample every 30 seconds, as OpenMetrics text."""
    lines = ["# TYPE disk_used_ratio gauge"]
    for number in range(3):
        disk = f"sd{label}{number}"
        lines += [
            f'disk_used_ratio{{disk="{disk}"}} {value + number + step / 1000} {START + step * 30 + shift}'
            for step in range(120)
        ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def write_config(**files: str) -> None:
    """Write the configuration and all that it names."""
    for folder in (ETC / "targets", ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
    given = {
        "prometheus.yml": CONFIG,
        "rules.yml": RULES,
        "targets/node.json": '[{"targets": ["127.0.0.1:19100"], "labels": {"room": "1"}}]',
        "target.password": PASSWORD,
        "ca.pem": "not looked at before it is used\n",
        **files,
    }
    for name, text in given.items():
        (ETC / name).write_text(text)
    (ELSEWHERE / "more.yml").write_text(RULES.replace("disk", "more").replace("DiskFull", "MoreFull"))
    shutil.chown(ETC / "target.password", "root", "prometheus")
    (ETC / "target.password").chmod(0o640)


def install(*flags: str) -> None:
    """Write the unit with these further flags."""
    words = [
        "/usr/bin/prometheus",
        f"--config.file={ETC}/prometheus.yml",
        f"--storage.tsdb.path={DATA}",
        f"--web.listen-address=127.0.0.1:{PORT}",
        *flags,
    ]
    text = f"[Service]\nUser=prometheus\nExecStart={' '.join(words)}\nTimeoutStopSec=30\n"
    Path(f"/etc/systemd/system/{UNIT}").write_text(text)
    run("systemctl", "daemon-reload")


def seed(text: str = "") -> None:
    """Make the data directory with a block of the past."""
    DATA.mkdir(parents=True, exist_ok=True)
    source = PLACE / "seed.txt"
    source.write_text(text or openmetrics())
    run("promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(DATA))
    run("chown", "-R", "prometheus:prometheus", str(DATA))


def start() -> None:
    """Start it and wait until it has scraped itself."""
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "start", UNIT)
    wait_until_ready()
    wait_until(lambda: bool(asked("up")))


def stop() -> None:
    run("systemctl", "stop", UNIT)


def hold(number: int) -> None:
    """Stop a process as it is, and wait until each of its threads stands still."""
    os.kill(number, signal.SIGSTOP)

    def still() -> bool:
        try:
            states = [
                one.read_text().rpartition(")")[2].split()[0] for one in Path(f"/proc/{number}/task").glob("*/stat")
            ]
        except OSError:
            return False
        return set(states) == {"T"}

    wait_until(still)


def wait_until_ready() -> None:
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{URL}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    wait_until(ready)


def wait_until(true: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"never became true: {true}"
        time.sleep(0.1)


def asked(query: str, at: float | None = None) -> list[Any]:
    """Return the result of an instant query, as promtool gives it."""
    when = [f"--time={at}"] if at else []
    found: list[Any] = json.loads(run("promtool", "query", "instant", "-o", "json", *when, URL, query))
    return found


def digest(start: int = START, end: int = START + HOUR, query: str = '{__name__=~"disk.*"}') -> str:
    """Return a digest of every sample of a window, by promtool's own range query."""
    said = run("promtool", "query", "range", f"--start={start}", f"--end={end}", "--step=30s", URL, query)
    assert "@[" in said
    return hashlib.sha256("\n".join(sorted(said.splitlines())).encode()).hexdigest()


def remove() -> None:
    """Take everything away."""
    run("systemctl", "stop", UNIT, check=False)
    run("systemctl", "reset-failed", UNIT, check=False)
    Path(f"/etc/systemd/system/{UNIT}").unlink(missing_ok=True)
    for path in (PLACE, ETC, ELSEWHERE):
        shutil.rmtree(path, ignore_errors=True)
