# SPDX-License-Identifier: GPL-3.0-or-later
"""The program is one file, the same for the same source."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tools import build_runtime

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another clone: other times, other modes, files that a run leaves behind."""
    package = tmp_path / "src/restaura"
    shutil.copytree(ROOT / "src/restaura", package)
    for path in package.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__/left.cpython-311.pyc").write_bytes(b"left behind")
    monkeypatch.setattr(build_runtime, "ROOT", tmp_path)
    return package


def test_another_clone_of_the_same_source_gives_the_same_bytes(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = build_runtime.runtime_bytes()
    monkeypatch.setattr(build_runtime, "ROOT", ROOT)
    assert there == build_runtime.runtime_bytes()


def test_another_source_gives_another_name(copy: Path, tmp_path: Path) -> None:
    before = build_runtime.build(tmp_path / "out")
    with (copy / "errors.py").open("a") as source:
        source.write("# changed\n")
    after = build_runtime.build(tmp_path / "out")
    assert before != after
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([before.name, after.name])


def test_it_runs_alone_on_the_systems_python_and_holds_nothing_of_this_machine(tmp_path: Path) -> None:
    program = build_runtime.build(tmp_path)
    assert os.access(program, os.X_OK)
    environment = {"PATH": os.defpath}
    told = subprocess.run([program, "--version"], env=environment, cwd="/", capture_output=True, text=True, check=True)
    assert told.stdout.startswith("restaura ")
    with zipfile.ZipFile(program) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"__main__.py", "restaura", "yaml"}
    assert [name for name in names if name.endswith((".pyc", ".so"))] == []


def test_without_a_source_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_runtime, "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="no package in"):
        build_runtime.runtime_bytes()
