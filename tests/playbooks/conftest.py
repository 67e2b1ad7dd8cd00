# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks are run from a copy of this tree that nobody edits meanwhile, against lab hosts."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.lab import hosts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows or would know."""
    copy = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.exists() or source.is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def make_host() -> Iterator[Callable[..., hosts.Host]]:
    """Make hosts that go with the module; each worker's have a name of their own."""
    made: list[str] = []

    def make(name: str, image: str) -> hosts.Host:
        full = f"{name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
        made.append(full)
        return hosts.create(full, image)

    yield make
    for name in made:
        hosts.destroy(name)
