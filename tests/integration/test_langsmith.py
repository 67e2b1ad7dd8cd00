# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith, played by a stand-in, filled and read by its own client: kept, restored, undone, and what goes wrong."""

import hashlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.langsmith_sdk import ALL_RUNS, FILL, KEY, PORT, READ, URL, Sdk
from tests.integration.system import System

UNIT = "restaura-langsmith-standin"
STATE = Path("/var/tmp/langsmith-standin")
STANDIN = Path(__file__).resolve().parents[1] / "standins/langsmith.py"


def standin(what: str, **given: Any) -> Any:
    """Tell the stand-in what only it does."""
    request = urllib.request.Request(f"{URL}/_standin/{what}", json.dumps(given).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    shutil.rmtree(STATE, ignore_errors=True)
    unit = f"[Service]\nExecStart=/usr/bin/python3 {STANDIN} --port {PORT} --state {STATE}\n"
    unit += f"Environment=LANGSMITH_STANDIN_KEYS={KEY},lsv2_sk_of_the_lab PYTHONDONTWRITEBYTECODE=1\n"
    Path(f"/run/systemd/system/{UNIT}.service").write_text(unit)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", UNIT], check=True)
    reachable()
    yield
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    Path(f"/run/systemd/system/{UNIT}.service").unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def reachable() -> None:
    """Wait until the stand-in answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{URL}/api/v1/info").read()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="module")
def sdk(server: None) -> Iterator[Sdk]:
    one = Sdk()
    yield one
    one.close()


@pytest.fixture
def filled(sdk: Sdk) -> dict[str, Any]:
    """Fill the workspace anew and return the ids."""
    standin("faults")
    standin("wipe")
    found: dict[str, Any] = sdk.do(FILL)
    return found


def system(place: Path, **options: Any) -> System:
    """Return a host that keeps the workspace in a dated store."""
    one = System(place / "host")
    component = {"name": "langsmith", "url": URL, "api_key": KEY, "requests_per_minute": 60_000, **options}
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}],
        plans=[{"name": "daily", "drill": "daily"}],
        components={"langsmith": [component]},
    )
    return one


def artifact(place: Path, name: str) -> Any:
    """Return the newest point's artifact, as it stands in the store."""
    found = sorted((place / "store").rglob(f"langsmith/{name}"), key=lambda one: one.stat().st_mtime_ns)
    return json.loads(found[-1].read_text())


def test_a_wiped_workspace_comes_back(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    host = system(tmp_path)
    before = sdk.do(READ)
    host.run("run", "daily", "--drill")
    assert sorted(run["id"] for run in artifact(tmp_path, "runs.json")) == sorted(filled["runs"])
    photos = sorted((tmp_path / "store").rglob("langsmith/attachments/runs/*/photo"))
    kept = {hashlib.sha256(one.read_bytes()).hexdigest() for one in photos}
    assert kept == {hashlib.sha256(b"PNG" * 1000 + bytes([number])).hexdigest() for number in range(3)}

    standin("wipe")
    answer = host.run("restore", "--component", "langsmith", "--yes")
    assert sdk.do(READ) == before
    assert sdk.do(ALL_RUNS) == []
    assert any("29 runs and 3 feedbacks are an archive" in note for note in answer["notes"])
    assert host.leftovers() == []
    # The runs that cannot be imported are in the next point all the same.
    host.run("run", "daily", "--drill")
    assert sorted(run["id"] for run in artifact(tmp_path, "runs.json")) == sorted(filled["runs"])
