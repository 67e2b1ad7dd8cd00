# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Docker daemon, an image of this host's own shell, a Compose project: looked at by Docker's client alone."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGE = "restaura-test-shell"
# It writes without end, and ends when it is asked to.
WRITER = "trap 'exit 0' TERM; n=0; while :; do n=$((n+1)); echo $n >> /data/log; sleep 0.05; done"
IDLE = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"
TOOLS = ("sh", "cat", "sleep", "rm", "ls", "mkdir", "touch", "test")
COMPOSE = """
x-common: &common {{image: {image}, network_mode: none}}
services:
  db:
    <<: *common
    command: ["sh", "-c", "{writer}"]
    volumes: [db:/data, ./conf:/conf]
    healthcheck: {{test: ["CMD", "test", "-s", "/data/log"], interval: 1s, retries: 30}}
    restart: always
  app:
    <<: *common
    command: ["sh", "-c", "{idle}"]
    depends_on: {{db: {{condition: service_healthy}}}}
    volumes: [uploads:/data]
    env_file: [app.env]
    restart: unless-stopped
  looker:
    <<: *common
    command: ["sh", "-c", "{idle}"]
    volumes: [uploads:/data:ro]
volumes:
  db: {{labels: {{tier: gold}}}}
  uploads: {{}}
"""


def run(*argv: str, check: bool = True, cwd: Path | str = "/") -> str:
    """Run a program and return what it says."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd, timeout=240)
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return (done.stdout if check else done.stdout + done.stderr).strip()


def docker(*argv: str, check: bool = True) -> str:
    """Run Docker's client."""
    return run("docker", *argv, check=check)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)


def start_daemon() -> None:
    """Start the daemon of this host and wait until it answers."""
    run("systemctl", "reset-failed", "docker.service", "docker.socket", check=False)
    run("systemctl", "start", "docker.socket", "docker.service")
    wait_until(lambda: "Server Version" in docker("info", check=False))


def make_image(folder: Path) -> None:
    """Import an image of a few of this host's programs. What is in its `/data` fills an empty volume at first use."""
    if docker("image", "ls", "-q", IMAGE):
        return
    programs = [str(Path(shutil.which(one) or "").resolve()) for one in TOOLS]
    libraries = {word for one in programs for word in run("ldd", one).split() if word.startswith("/")}
    for path in (*programs, *libraries):
        copied = folder / path.lstrip("/")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    for tool, path in zip(TOOLS, programs, strict=True):
        link = folder / "bin" / tool
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(path)
    for name in ("data", "dev", "proc", "sys", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "data/seeded").write_text("by the image")
    run("sh", "-c", f'tar -C "$0" -c . | docker import --change "ENV PATH=/bin:/usr/bin" - {IMAGE}', str(folder))


def inspect(kind: str, name: str) -> dict[str, Any]:
    """Return what the daemon says of one thing."""
    found: dict[str, Any] = json.loads(docker(kind, "inspect", name))[0]
    return found


def state(name: str) -> str:
    """Return a container's status."""
    return str(inspect("container", name)["State"]["Status"])


def times(name: str) -> tuple[str, str]:
    """Return when a container was last started, and last ended."""
    found = inspect("container", name)["State"]
    return found["StartedAt"], found["FinishedAt"]


def data(volume: str) -> Path:
    """Return the directory of a volume."""
    return Path(inspect("volume", volume)["Mountpoint"])


def digest(path: Path, top: str = ".") -> str:
    """Return a digest of a tree: names, types, modes, numeric owners, times, links, ACLs, attributes, content.

    With `top` as `./*`, the directory itself does not count.
    """
    script = f"""
    export LC_ALL=C
    find {top} -type d -printf '%p|%m|%U|%G|%T@\\n' -o -printf '%p|%y|%m|%U|%G|%l|%s|%T@\\n' | sort
    find . -type f -print0 | sort -z | xargs -0r sha256sum
    find . -print0 | sort -z | xargs -0r getfacl -n -P -p 2>/dev/null
    find . -print0 | sort -z | xargs -0r getfattr -h -d -m - -e hex 2>/dev/null
    find . -type f -links +1 -printf '%i %P\\n' | sort | awk '{{print ($1 == i), $2; i = $1}}'
    """
    return run("sh", "-c", f"({script}) | sha256sum", cwd=path)


def fill(path: Path) -> None:
    """Put everything into a volume that it can hold, under owners that this host has no or other names for."""
    (path / "sub").mkdir()
    (path / "sub/file").write_bytes(b"x" * 70_000)
    (path / "hard").hardlink_to(path / "sub/file")
    (path / "link").symlink_to("sub/file")
    (path / 'odd "$(touch x)"\n--name').write_text("odd")
    run("truncate", "-s", "50M", str(path / "sparse"))
    run("sh", "-c", "echo end >> sparse; mkfifo queue", cwd=path)
    run("setfattr", "-n", "user.origin", "-v", "import 7", str(path / "sub/file"))
    run("setfacl", "-m", "u:70001:rw,g:33:r", str(path / "sub/file"))
    run("chown", "-R", "999:70002", str(path / "sub"))
    run("chown", "33:33", str(path))
    path.chmod(0o2750)


class Project:
    """A Compose project in a directory of its own: `db` writes, `app` needs it healthy, `looker` only reads."""

    def __init__(self, folder: Path, name: str = "shop") -> None:
        self.folder, self.name = folder, name
        (folder / "conf").mkdir(parents=True)
        text = COMPOSE.format(image=IMAGE, writer=WRITER.replace("$", "$$"), idle=IDLE)
        (folder / "compose.yml").write_text(text)
        (folder / ".env").write_text("PASSWORD=very-secret-word\n")
        (folder / "app.env").write_text("TOKEN=other-secret-word\n")
        (folder / "conf/db.conf").write_text("port = 1")

    def compose(self, *argv: str) -> str:
        """Run Compose, and return what it says on both outputs."""
        argv = ("docker", "compose", "--progress", "plain", "-p", self.name, *argv)
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=self.folder, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.name}-{service}-1"

    def states(self) -> dict[str, str]:
        """Return the status of every container of the project."""
        listed = docker(
            "ps", "-a", "--filter", f"label=com.docker.compose.project={self.name}", "--format", "{{.Names}}"
        )
        return {name: state(name) for name in sorted(listed.split())}


def clean() -> None:
    """Remove every container, volume and network of this host's daemon."""
    for kind, list_all in (("container", ("ps", "-aq")), ("volume", ("volume", "ls", "-q"))):
        if names := docker(*list_all).split():
            docker(kind, "rm", "-f", *names)
    docker("network", "prune", "-f")
