# SPDX-License-Identifier: GPL-3.0-or-later
"""The repository is a collection too: through the symlinks from a clone, and as the built tarball."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSIDE = ROOT / "collections/ansible_collections/restaura/stack"
SHIPPED = {
    *("LICENSE", "README.md", "requirements.yml", "MANIFEST.json", "FILES.json", "changelogs", "meta", "playbooks"),
    *("plugins", "roles", "src", "tools"),
}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("built")
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([galaxy, "collection", "build", "--output-path", folder], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        return [member.name for member in archive.getmembers() if member.isfile()]


def test_the_symlinks_lead_into_this_clone() -> None:
    links = sorted(INSIDE.iterdir())
    assert [link.name for link in links] == ["galaxy.yml", "meta", "playbooks", "plugins", "roles", "src", "tools"]
    assert [link.name for link in links if link.readlink().is_absolute() or link.resolve() != ROOT / link.name] == []


def test_the_tarball_holds_what_a_user_needs_and_nothing_else(members: list[str]) -> None:
    assert {name.split("/")[0] for name in members} == SHIPPED
    assert [name for name in members if name.endswith(".pyc") or "/." in name] == []
    assert [name for name in members if name.startswith("tools/")] == ["tools/__init__.py", "tools/build_runtime.py"]


@pytest.mark.parametrize("folder", ["roles", "plugins", "playbooks", "src"])
def test_the_tarball_leaves_no_tracked_file_out(members: list[str], folder: str) -> None:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [name for name in listed.splitlines() if (ROOT / name).exists()]
    assert tracked
    assert sorted(set(tracked) - set(members)) == []
