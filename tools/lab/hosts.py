# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian hosts in containers, with systemd and SSH as a VPS has them, or without an init as a bare container is."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.lab import images
from tools.lab.common import CACHE, CLONE, CLONE_LABEL, LabError, lock, run

KEY = CACHE / "id_ed25519"
NAME_LABEL = "restaura.lab.name"
BOOT_SECONDS = 60
NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,40}[a-z0-9])?")


@dataclass(frozen=True)
class Host:
    """One test host: how it is reached."""

    name: str
    container: str
    address: str
    image: str
    key: str
    known_hosts: str


def container_of(name: str) -> str:
    """Return the container of this clone's host of that name."""
    return f"restaura-{CLONE}-{name}"


def create(name: str, image: str = "debian13", init: bool = True, mounts: Sequence[str] = ()) -> Host:
    """Make a host, removing first what has the name, and wait until it is booted and SSH answers.

    `mounts` are SRC:DST[:ro] as docker has them. Without init nothing runs in it: no SSH, only `exec`.
    Raises LabError when it does not boot; it is left for a look, and the next create removes it.
    """
    if not NAME.fullmatch(name):
        raise LabError(f"{name!r} is no host name: use a-z, 0-9, - and _")
    for mount in mounts:
        if not Path(mount.split(":")[0]).exists():
            raise LabError(f"--mount {mount}: {mount.split(':')[0]} does not exist")
    container = container_of(name)
    destroy(name)
    # systemd wants the unified hierarchy, which stands apart where the machine still mounts cgroup v1.
    unified = Path("/sys/fs/cgroup/unified")
    cgroup = unified if unified.is_dir() else unified.parent
    options = [
        *("--name", container, "--hostname", name.replace("_", "-")),
        *("--label", CLONE_LABEL, "--label", f"{NAME_LABEL}={name}"),
        # Not --privileged: that fails where the machine itself lacks a capability.
        *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
        # Docker inside the host needs its own volume (overlay on overlay does not work) and writable sysctls.
        *("--security-opt", "systempaths=unconfined", "--volume", "/var/lib/docker"),
    ]
    for mount in mounts:
        options += ["--volume", mount]
    if init:
        options += [
            "--tmpfs",
            "/run",
            "--tmpfs",
            "/run/lock",
            "--cgroupns=host",
            "--volume",
            f"{cgroup}:/sys/fs/cgroup",
        ]
    process = ["/lib/systemd/systemd"] if init else ["sleep", "infinity"]
    run("docker", "create", *options, images.tag(image), *process)
    if init:
        _give_keys(name, container)
    run("docker", "start", container)
    host = _host(container)
    if init:
        (_folder(name) / "known_hosts").write_text(f"{host.address} {_public_key(name)}\n", encoding="utf-8")
        _wait(host)
    return host


def destroy(name: str) -> None:
    """Remove a host and its volumes; nothing when there is none."""
    if _exists(container_of(name)):
        run("docker", "rm", "--force", "--volumes", container_of(name))
    shutil.rmtree(_folder(name), ignore_errors=True)


def all_hosts() -> list[Host]:
    """Return this clone's running hosts, by name."""
    filters = ("--filter", f"label={CLONE_LABEL}", "--filter", f"label={NAME_LABEL}")
    names = run("docker", "ps", *filters, "--format", "{{.Names}}").split()
    return sorted((_host(name) for name in names), key=lambda host: host.name)


def down() -> None:
    """Remove all of this clone's hosts, stopped ones too."""
    for container in run("docker", "ps", "--all", "--filter", f"label={CLONE_LABEL}", "--quiet").split():
        run("docker", "rm", "--force", "--volumes", container)


def execute(name: str, command: Sequence[str]) -> int:
    """Run a command in a host as root with this process's input and output, and return its exit code."""
    return subprocess.run(["docker", "exec", "-i", container_of(name), *command], check=False).returncode


def _exists(container: str) -> bool:
    return bool(run("docker", "ps", "--all", "--quiet", "--filter", f"name=^{container}$").strip())


def _host(container: str) -> Host:
    told = json.loads(run("docker", "inspect", container))[0]
    name = told["Config"]["Labels"][NAME_LABEL]
    return Host(
        name=name,
        container=container,
        address=told["NetworkSettings"]["IPAddress"] or told["NetworkSettings"]["Networks"]["bridge"]["IPAddress"],
        image=told["Config"]["Image"].removeprefix(f"{images.REPOSITORY}/").split(":")[0],
        key=str(KEY),
        known_hosts=str(_folder(name) / "known_hosts"),
    )


def _folder(name: str) -> Path:
    return CACHE / "hosts" / name


def _public_key(name: str) -> str:
    return (_folder(name) / "ssh_host_ed25519_key.pub").read_text(encoding="utf-8").strip()


def _give_keys(name: str, container: str) -> None:
    """Give a host, before its first boot, a host key of its own and the key that root is reached with."""
    with lock("key"):
        if not KEY.exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "restaura-lab", "-f", str(KEY))
    folder = _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    host_key = folder / "ssh_host_ed25519_key"
    host_key.unlink(missing_ok=True)
    host_key.with_suffix(".pub").unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(host_key))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, source, mode in (
            ("root/.ssh/authorized_keys", KEY.with_suffix(".pub"), 0o600),
            ("etc/ssh/ssh_host_ed25519_key", host_key, 0o600),
            ("etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub"), 0o644),
        ):
            entry = tarfile.TarInfo(path)
            content = source.read_bytes()
            entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    done = subprocess.run(
        ["docker", "cp", "-", f"{container}:/"], input=packed.getvalue(), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"docker cp into {container} failed: {done.stderr.decode().strip()}")
    host_key.unlink()


def _wait(host: Host) -> None:
    """Wait until systemd has started everything and SSH answers. Raises LabError naming the units that failed."""
    deadline = time.monotonic() + BOOT_SECONDS
    state = "no answer"
    while time.monotonic() < deadline:
        command = ["docker", "exec", host.container, "systemctl", "is-system-running"]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if state == "degraded":
            failed = run("docker", "exec", host.container, "systemctl", "--failed", "--no-legend", "--plain")
            raise LabError(f"host {host.name} booted with failed units:\n{failed}")
        if state == "running" and _ssh_answers(host.address):
            return
        time.sleep(0.1)
    raise LabError(f"host {host.name} did not boot within {BOOT_SECONDS} s (systemd says {state!r})")


def _ssh_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
