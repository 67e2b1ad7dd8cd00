# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of Debian hosts, made once from the machine's own Debian mirror and kept under a hash of their recipe."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.lab.common import CACHE, LabError, lock, run

REPOSITORY = "restaura-lab"
SUITES = ("bookworm", "trixie", "forky", "oldstable", "stable", "testing", "sid", "unstable")
BARE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "iproute2", "ca-certificates")
COMMON_PACKAGES = (
    *("cron", "sudo", "make", "procps", "psmisc", "lsof", "strace", "git", "iptables", "openssl", "curl"),
    *("tar", "zstd", "age", "attr", "acl", "libcap2-bin", "libfaketime", "sqlite3", "rsync", "docker.io"),
    *("python3-apt", "python3-yaml", "python3-boto3", "python3-docker", "python3-psycopg", "python3-requests"),
    *("python3-pytest", "python3-pytest-timeout", "python3-hypothesis"),
)
# Units that only fail or wait in a container.
MASKED_UNITS = ("systemd-modules-load.service", "nvmf-autoconnect.service", "systemd-networkd-wait-online.service")
FILES = {
    # The machine may lack CAP_SYS_RESOURCE: units that raise limits would fail (docker.service raises most of them).
    "etc/systemd/system/service.d/limits.conf": "[Service]\nLimitNOFILE=20000\nLimitNPROC=\nLimitMEMLOCK=\n",
    "etc/systemd/system/docker.service.d/limits.conf": "[Service]\nLimitCORE=0\nOOMScoreAdjust=0\n",
    "etc/ssh/sshd_config.d/lab.conf": "PermitRootLogin prohibit-password\nUseDNS no\n",
    # A host is thrown away: what dpkg unpacks need not outlive a power cut.
    "etc/dpkg/dpkg.cfg.d/lab": "force-unsafe-io\n",
    # Every host has its own identity: an empty one is filled at the first boot.
    "etc/machine-id": "",
}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCE = "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: " + KEYRING + "\n"
# Servers are installed and left off, so that a host boots fast and runs only what its test started.
INSTALL = """set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -q -y --no-install-recommends {packages}
for unit in postgresql docker.service docker.socket containerd apt-daily.timer apt-daily-upgrade.timer; do
    systemctl disable "$unit" 2>/dev/null || true
done
rm /usr/sbin/policy-rc.d
apt-get clean
: > /etc/machine-id
"""


@dataclass(frozen=True)
class Recipe:
    """How one image is made: a release, and the packages that are installed over a minimal system with SSH.

    `upon` names the image it is installed upon, whose packages it has too; `off` are more services to leave off.
    """

    name: str
    release: str
    packages: tuple[str, ...] = ()
    upon: str = ""
    off: tuple[str, ...] = ()

    @property
    def base(self) -> Recipe | None:
        """The recipe this one is installed upon; None for one made from nothing."""
        return RECIPES[self.upon] if self.upon else None

    @property
    def tag(self) -> str:
        """The image's name and tag; the tag changes with anything that goes into the image."""
        told: tuple[object, ...]
        told = (self.release, self.packages, BARE_PACKAGES, MASKED_UNITS, FILES, SOURCE, INSTALL, mirrors())
        if self.base and self.base.base:
            told += (self.base.tag,)
        told += self.off
        return f"{REPOSITORY}/{self.name}:{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("bare13", "trixie"),
        Recipe("bare12", "bookworm"),
        Recipe(
            "debian13",
            "trixie",
            (
                *COMMON_PACKAGES,
                *("docker-cli", "docker-compose", "restic", "minio-client"),
                *("postgresql-17", "postgresql-client-17", "postgresql-17-pgvector", "postgresql-17-cron"),
            ),
            upon="bare13",
        ),
        # Beside the former, since a server that is installed is one that an audit finds.
        Recipe(
            "debian13-stack",
            "trixie",
            (
                *("redis-server", "redis-tools", "prometheus", "python3-redis", "python3-pymongo"),
                *("default-jre-headless", "python3-cryptography"),
            ),
            upon="debian13",
            off=("redis-server", "prometheus"),
        ),
        Recipe(
            "debian12",
            "bookworm",
            (
                *COMMON_PACKAGES,
                *("postgresql-15", "postgresql-client-15", "postgresql-15-cron"),
                *("redis-server", "redis-tools", "python3-redis"),
            ),
            upon="bare12",
            off=("redis-server",),
        ),
    )
}


def up(*names: str) -> None:
    """Build the named images (all when none is named) where they are missing, and remove those of older recipes."""
    with lock("images"):
        present = _present()
        for name in names or RECIPES:
            _ensure(RECIPES[name], present)
        current = {recipe.tag for recipe in RECIPES.values()}
        for old in present - current:
            # An image that a host of another clone still uses stays: docker refuses to remove it.
            subprocess.run(["docker", "rmi", old], capture_output=True, check=False)


def tag(name: str) -> str:
    """Return the image to run for that name, building it where it is missing. Raises LabError for an unknown name."""
    if name not in RECIPES:
        raise LabError(f"no image {name}: use one of {', '.join(RECIPES)}")
    if RECIPES[name].tag not in _present():
        up(name)
    return RECIPES[name].tag


def mirrors(apt: Path = Path("/etc/apt")) -> tuple[str, str | None]:
    """Return the URIs of Debian's archive and of its security archive that this machine's own apt sources use.

    Raises LabError when the machine has no Debian archive among its sources.
    """
    main: str | None = None
    security: str | None = None
    for uri, suite, components in _apt_sources(apt):
        # Other archives call their suites alike; Debian's has a component main below a folder named debian.
        if "main" not in components:
            continue
        if suite.endswith(("-security", "/updates")):
            security = security or uri
        elif suite in SUITES and uri.rstrip("/").endswith("debian"):
            main = main or uri
    if main is None:
        raise LabError(f"no Debian archive among the sources in {apt}: the lab builds Debian hosts from it")
    return main, security


def _apt_sources(apt: Path) -> list[tuple[str, str, list[str]]]:
    """Return (URI, suite, components) of every binary source of this machine, in both of apt's formats."""
    found: list[tuple[str, str, list[str]]] = []
    folder = apt / "sources.list.d"
    one_line = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", re.MULTILINE)
    for path in (apt / "sources.list", *sorted(folder.glob("*.list"))):
        if path.exists():
            matches = one_line.findall(path.read_text(encoding="utf-8"))
            found += [(uri, suite, components.split()) for uri, suite, components in matches]
    for path in sorted(folder.glob("*.sources")):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        for stanza in "\n".join(lines).split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
                components = fields.get("Components", "").split()
                suites = fields["Suites"].split()
                found += [(uri, suite, components) for uri in fields["URIs"].split() for suite in suites]
    return found


def _present() -> set[str]:
    return set(run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"{REPOSITORY}/*").split())


def _ensure(recipe: Recipe, present: set[str]) -> None:
    if recipe.tag in present:
        return
    if recipe.base is None:
        _bootstrap(recipe)
    else:
        _ensure(recipe.base, present)
        _install(recipe, recipe.base)
    present.add(recipe.tag)


def _bootstrap(recipe: Recipe) -> None:
    """Make an image from nothing with debootstrap."""
    if os.geteuid() != 0:
        raise LabError("only root can build the images: run sudo make lab-up")
    main, security = mirrors()
    print(f"building {recipe.name} ({recipe.release})", flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="image-") as folder:
        root = Path(folder) / "root"
        run(
            *("debootstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(BARE_PACKAGES)}"),
            *(recipe.release, str(root), main),
        )
        sources = SOURCE.format(uri=main, suites=f"{recipe.release} {recipe.release}-updates")
        if security:
            sources += "\n" + SOURCE.format(uri=security, suites=f"{recipe.release}-security")
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
        for path, text in {**FILES, "etc/apt/sources.list.d/debian.sources": sources}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        for unit in MASKED_UNITS:
            (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        run("chroot", str(root), "apt-get", "clean")
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
            done = subprocess.run(
                ["docker", "import", "-", recipe.tag], stdin=packed.stdout, capture_output=True, text=True, check=False
            )
        if done.returncode != 0 or packed.returncode != 0:
            raise LabError(f"docker import of {recipe.name} failed: {done.stderr.strip()}")


def _script(recipe: Recipe) -> str:
    disabled = "".join(f"systemctl disable {unit}\n" for unit in recipe.off)
    return INSTALL.format(packages=" ".join(recipe.packages)) + disabled


def _install(recipe: Recipe, base: Recipe) -> None:
    """Make an image by installing a recipe's packages over its base."""
    print(f"building {recipe.name} ({len(recipe.packages)} packages over {base.name})", flush=True)
    container = run("docker", "create", "-i", base.tag, "/bin/sh").strip()
    try:
        run("docker", "start", "-ai", container, stdin=_script(recipe))
        run("docker", "commit", container, recipe.tag)
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)
