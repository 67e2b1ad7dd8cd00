# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus in a container: its data in a volume, its configuration bind-mounted, its tools those of its image."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prometheus_server as server
from tests.integration.system import System
from tests.postgres_cluster import scratch_root

NAME = "restaura-test-prometheus"
VOLUME = f"{NAME}-data"
OWNER = 65534
CONFIG = """\
global: {scrape_interval: 1s}
rule_files: [rules.yml, /image/rules.yml]
scrape_configs: [{job_name: self, static_configs: [{targets: ["127.0.0.1:9090"]}]}]
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of this host's own Prometheus and promtool, and nothing else but a rule file."""
    server.run("systemctl", "start", "docker", check=False)
    server.wait_until(lambda: subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0)
    root = tmp_path_factory.mktemp("image")
    programs = ["/usr/bin/prometheus", "/usr/bin/promtool"]
    listed = server.run("sh", "-c", 'for one; do ldd "$one"; done 2>/dev/null', "sh", *programs, check=False)
    libraries = {word for word in listed.split() if word.startswith("/") and not word.endswith(":")}
    for path in (*programs, *sorted(libraries)):
        copied = root / path.lstrip("/")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    for folder in ("etc/prometheus", "image", "prometheus", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "image/rules.yml").write_text(server.RULES.replace("DiskFull", "OfTheImage"))
    server.run("sh", "-c", f'tar -C "$0" -c . | docker import - {NAME}', str(root))
    shutil.rmtree(root)
    yield NAME
    server.run("docker", "image", "rm", "-f", NAME)


@pytest.fixture
def place(image: str) -> Iterator[Path]:
    """The directory of a running container's configuration; its volume has a block of the past."""
    with scratch_root() as root:
        etc = root / "etc"
        etc.mkdir()
        (etc / "prometheus.yml").write_text(CONFIG)
        (etc / "rules.yml").write_text(server.RULES)
        server.run("docker", "volume", "create", VOLUME)
        seed(root, 0.5)
        run_container(etc, image, "--web.enable-admin-api", "--storage.tsdb.retention.time=90d")
        try:
            yield root
        finally:
            server.run("docker", "rm", "-f", NAME, check=False)
            server.run("docker", "volume", "rm", "-f", VOLUME)


def run_container(etc: Path, image: str, *flags: str) -> None:
    words = ["docker", "run", "-d", "--name", NAME, "--user", f"{OWNER}:{OWNER}", "-v", f"{VOLUME}:/prometheus"]
    words += ["-v", f"{etc}:/etc/prometheus", image, "/usr/bin/prometheus"]
    given = ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus", *flags]
    server.run(*words, *given)
    server.wait_until(lambda: "@[" in asked())


def data() -> Path:
    return Path(json.loads(server.run("docker", "volume", "inspect", VOLUME))[0]["Mountpoint"])


def seed(root: Path, value: float) -> None:
    """Make the volume hold one block, and nothing else."""
    for one in data().iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()
    (root / "seed.txt").write_text(server.openmetrics(value))
    server.run("promtool", "tsdb", "create-blocks-from", "openmetrics", str(root / "seed.txt"), str(data()))
    server.run("chown", "-R", f"{OWNER}:{OWNER}", str(data()))


def asked() -> str:
    """Return all samples of the seed, as promtool in the container gives them."""
    window = [f"--start={server.START}", f"--end={server.START + server.HOUR}", "--step=30s"]
    argv = ["docker", "exec", NAME, "promtool", "query", "range", *window, "http://127.0.0.1:9090", "disk_used_ratio"]
    return "\n".join(sorted(server.run(*argv, check=False).splitlines()))


def test_a_container_is_backed_up_drilled_restored_and_undone(place: Path, image: str) -> None:
    system = System(place / "host")
    component = {"name": "metrics", "container": NAME}
    store = {"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}
    system.configure(stores=[store], plans=[{"name": "daily"}], components={"prometheus": [component]})
    before = asked()
    # Copies that other tests of this host keep.
    kept_there = sorted(Path("/var/lib/docker").glob(".restaura-*"))
    system.run("run", "daily")
    assert list((data() / "snapshots").iterdir()) == []
    kept = next(place.glob("store/**/metrics"))
    assert (kept / "rules.yml").read_text() == server.RULES
    assert "OfTheImage" in (kept / "files/image/rules.yml").read_text()
    assert [one["verdict"] for one in system.run("drill", "--plan", "daily")["results"]] == ["proven"]
    assert "restaura-drill" not in server.run("docker", "ps", "--all")

    server.run("docker", "stop", NAME)
    seed(place, 7)
    (place / "etc/rules.yml").write_text("groups: []\n")
    server.run("docker", "start", NAME)
    server.wait_until(lambda: "@[" in asked())
    other = asked()
    assert other != before
    answer = system.run("restore", "--component", "metrics", "--yes")
    assert any("/image/rules.yml is part of the container's image" in one for one in answer["notes"])
    assert asked() == before
    assert (place / "etc/rules.yml").read_text() == server.RULES
    assert {one.stat().st_uid for one in data().rglob("*")} == {OWNER}
    system.run("undo", answer["id"])
    server.wait_until(lambda: "@[" in asked())
    assert asked() == other
    system.run("undo", answer["id"], "--discard")
    assert sorted(Path("/var/lib/docker").glob(".restaura-*")) == kept_there
    assert list(data().parent.glob(".restaura-*")) == []
    assert system.leftovers() == []

    # Without the admin API, and with its data in the container itself: both are said, with what to do.
    server.run("docker", "rm", "-f", NAME)
    words = ["docker", "run", "-d", "--name", NAME, "-v", f"{place}/etc:/etc/prometheus", image]
    server.run(*words, "/usr/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml")
    server.wait_until(
        lambda: (
            "@["
            in server.run(
                "docker", "exec", NAME, "promtool", "query", "range", "http://127.0.0.1:9090", "up", check=False
            )
        )
    )
    said = system.run("run", "daily", expect=1)["text"]
    assert "would be lost with it" in said
    assert "docker run -v prometheus:" in said
    assert "--web.enable-admin-api to the command of container" in said
