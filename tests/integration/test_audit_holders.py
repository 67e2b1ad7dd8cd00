# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds data on a real host: servers that run and that are stopped, Docker with and without its daemon."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.audit.holders import find_holders
from restaura.audit.model import Holder
from tests.docker_project import IDLE, IMAGE, clean, docker, make_image, run, start_daemon, wait_until

CLUSTER = max(Path("/etc/postgresql").glob("*/main")).parent.name + "/main"
SERVER = f"postgresql@{CLUSTER.replace('/', '-')}"
LABELS = ("--label", "com.docker.compose.project=shop")
SECRET = "s3cret-of-a-container"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running cluster, a container with a volume, a volume that nobody uses, and a tree with a service in it."""
    start_daemon()
    clean()
    make_image(tmp_path_factory.mktemp("image"))
    run("systemctl", "start", SERVER)
    docker("volume", "create", *LABELS, "shop_up")
    docker("volume", "create", "left")
    told = (*LABELS, "--label", "com.docker.compose.service=web", "-e", f"PASSWORD={SECRET}")
    docker(
        "run", "-d", "--network", "none", "--name", "shop-web-1", *told, "-v", "shop_up:/data", IMAGE, "sh", "-c", IDLE
    )
    Path("/srv/audited").mkdir()
    Path("/srv/audited/page").write_text("x")
    unit = Path("/etc/systemd/system/audited.service")
    unit.write_text("[Service]\nType=exec\nWorkingDirectory=/srv/audited\nExecStart=/bin/sleep 3600\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "audited")
    yield
    run("systemctl", "stop", "audited")
    unit.unlink()
    run("systemctl", "daemon-reload")
    run("rm", "-r", "/srv/audited")
    start_daemon()
    clean()


def found() -> dict[str, Holder]:
    return {one.id: one for one in find_holders()[0]}


def test_what_runs_and_what_is_stopped_is_found(host: None) -> None:
    holders = found()
    cluster = holders[f"postgres:{CLUSTER}"]
    assert cluster.running
    assert cluster.paths == (f"/var/lib/postgresql/{CLUSTER}",)
    volume = holders["docker_volume:shop_up"]
    assert (volume.running, volume.project, volume.container) == (True, "shop", "shop-web-1")
    assert not holders["docker_volume:left"].running
    assert holders["compose_project:shop"].volumes == ("shop_up",)
    assert holders["tree:/srv/audited"].running
    assert "audited.service" in [one.where for one in holders["tree:/srv/audited"].evidence]
    assert SECRET not in repr(holders)
    run("systemctl", "stop", SERVER, "audited")
    try:
        holders = found()
        assert not holders[f"postgres:{CLUSTER}"].running
        assert not holders["tree:/srv/audited"].running
    finally:
        run("systemctl", "start", SERVER, "audited")


def test_a_person_who_is_not_root_is_told_what_could_not_be_seen(host: None) -> None:
    script = (
        "import json; from restaura.audit.holders import find_holders; holders, unreadable = find_holders()\n"
        "print(json.dumps([{one.id: one.running for one in holders}, [one.where for one in unreadable]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        user="nobody",
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    holders, unreadable = json.loads(done.stdout)
    assert holders[f"postgres:{CLUSTER}"] is True
    assert "/run/docker.sock" in unreadable
    assert [one for one in unreadable if one.startswith("/var/lib/docker")]


def test_what_a_stopped_daemon_keeps_is_found(host: None) -> None:
    before = {name: one.paths for name, one in found().items() if one.kind in ("docker_volume", "compose_project")}
    assert len(before) == 3
    run("systemctl", "stop", "docker.socket", "docker.service")
    try:
        wait_until(lambda: "inactive" in run("systemctl", "is-active", "docker.service", check=False))
        after = found()
        assert {name: after[name].paths for name in before} == before
        assert not after["docker_volume:shop_up"].running
        assert after["docker_volume:shop_up"].project == "shop"
        assert SECRET not in repr(after)
    finally:
        start_daemon()
