# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench itself, a thousand times smaller: what nobody runs rots."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench.data import PLACE
from tools.bench.running import NAME
from tools.bench.subjects import PROGRAM
from tools.build_runtime import build

# borgmatic is not in the hosts of tests.
MEASURED = [
    *("database-first/restic-bare", "database-first/restic-content"),
    *("tree-first/dated-bare", "tree-first/dated-catalog", "tree-restore/dated-bare", "tree-restore/dated-catalog"),
    *("databases-first/dated-bare", "databases-first/dated-catalog"),
    *("databases-restore/dated-bare", "databases-restore/dated-catalog"),
]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    path = Path(PROGRAM)
    assert not path.exists()
    shutil.copy(build(tmp_path), path)
    yield path
    path.unlink()
    shutil.rmtree(PLACE, ignore_errors=True)
    subprocess.run(["pg_dropcluster", "--stop", "17", NAME], check=False)


@pytest.mark.usefixtures("program")
def test_each_kind_of_script_runs_and_is_measured() -> None:
    command = [sys.executable, "-m", "tools.bench.inside", "0.001", *MEASURED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/restaura")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == MEASURED
    for row in rows:
        assert row["seconds"] > 0
        assert row["stored"] > 0
        assert ("peak_mib" in row) == ("bare" not in row["name"])
    assert all(row["peak_mib"] < 100 for row in rows if "peak_mib" in row)
