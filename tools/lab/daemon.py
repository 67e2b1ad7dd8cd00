# SPDX-License-Identifier: GPL-3.0-or-later
"""A running Docker daemon, installed from the distribution and started where none answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tools.lab.common import CACHE, LabError, lock, run

# What the lab calls, and the Debian packages that bring it (the client is a package of its own since Debian 13).
PROGRAMS = {
    "dockerd": ("docker.io",),
    "docker": ("docker-cli", "docker.io"),
    "iptables": ("iptables",),
    "debootstrap": ("debootstrap",),
    "ssh": ("openssh-client",),
    "ssh-keygen": ("openssh-client",),
    "mvn": ("maven",),
}
START_SECONDS = 40


def answers() -> bool:
    """Tell whether a daemon answers the docker client."""
    return bool(shutil.which("docker")) and _quiet("docker", "version", "--format", "{{.Server.Version}}")


def up() -> None:
    """Make the daemon run: install what is missing, start it when none answers. Raises LabError saying why not."""
    if answers() and shutil.which("debootstrap", path=_path()) and shutil.which("ssh-keygen"):
        return
    if os.geteuid() != 0:
        raise LabError("no Docker daemon answers, and only root can start one: run sudo make lab-up")
    with lock("daemon"):
        install_missing()
        if not answers():
            start()


def install_missing() -> None:
    """Install the Debian packages of the programs that are not there."""
    missing = {name: packages for name, packages in PROGRAMS.items() if not shutil.which(name, path=_path())}
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"{', '.join(missing)} missing and apt-get is not here: the lab needs Debian 12 or newer")
    run("apt-get", "update", "-q")
    for packages in missing.values():
        known = next((name for name in packages if _quiet("apt-cache", "show", name)), packages[-1])
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", known)


def start() -> None:
    """Start the daemon, by systemd where it runs, else in the background, and wait until it answers."""
    log = CACHE / "dockerd.log"
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker.service")
    else:
        # A pid file left by a killed daemon or an earlier boot makes dockerd refuse to start.
        Path("/var/run/docker.pid").unlink(missing_ok=True)
        with log.open("ab") as output:
            subprocess.Popen(
                ["dockerd", f"--mtu={_mtu()}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            why = log.read_text(errors="replace")[-1500:] if log.exists() else "see journalctl -u docker"
            raise LabError(f"dockerd did not answer within {START_SECONDS} s: {why}")
        time.sleep(0.2)


def _mtu() -> int:
    """Return the smallest MTU of the machine's own interfaces: a larger one on the bridge stalls large packets."""
    sizes = [int(path.read_text()) for path in Path("/sys/class/net").glob("e*/mtu")]
    return min([1500, *sizes])


def _path() -> str:
    """Return PATH with the system folders that a plain user's PATH lacks."""
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _quiet(*command: str) -> bool:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
