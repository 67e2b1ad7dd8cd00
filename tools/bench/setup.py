# SPDX-License-Identifier: GPL-3.0-or-later
"""How long `setup_backup.yml` takes on hosts that are set up already, and what each further host adds.

Runs on the controller, against lab hosts of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tools.bench.running import BenchError
from tools.lab import hosts
from tools.lab.common import ROOT

COUNTS = (1, 2, 4)
REPEATS = 3
VARIABLES = {
    "backup_runtime_stores": [{"name": "local", "type": "restic", "location": "/var/backups/restaura"}],
    "backup_files_components": [{"name": "system", "paths": ["/etc"]}],
    # Copying and drilling is what the other rows measure.
    "backup_runtime_first_run": False,
}


def measure() -> list[dict[str, Any]]:
    """Return a row for each number of hosts: the best of several runs that change nothing, and its processor time.

    `seconds` is wall time, `cpu_seconds` user and system time of the controller's processes, `further_seconds` what
    each host beyond the first adds. BenchError when a run fails or changes something.
    """
    names = [f"bench-setup-{number}" for number in range(1, max(COUNTS) + 1)]
    try:
        made = [hosts.create(name) for name in names]
        with tempfile.TemporaryDirectory() as folder:
            _play(Path(folder), made)
            rows = [_best(Path(folder), made[:count]) for count in COUNTS]
    finally:
        for name in names:
            hosts.destroy(name)
    for row in rows[1:]:
        row["further_seconds"] = round((row["seconds"] - rows[0]["seconds"]) / (row["hosts"] - 1), 2)
    return rows


def _best(folder: Path, chosen: list[hosts.Host]) -> dict[str, Any]:
    runs = [_play(folder, chosen) for _ in range(REPEATS)]
    if any(" changed=0 " not in line for _, _, recap in runs for line in recap):
        raise BenchError("a run of setup_backup.yml on hosts that are set up changed something")
    seconds, cpu, _ = min(runs)
    return {"hosts": len(chosen), "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}


def _play(folder: Path, chosen: list[hosts.Host]) -> tuple[float, float, list[str]]:
    """Set hosts up once; return wall time, processor time, and the recap's line of each host."""
    inventory = {"all": {"hosts": {one.name: _reached(one) for one in chosen}, "vars": VARIABLES}}
    (folder / "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
    playbook = Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    before, began = _cpu(), time.monotonic()
    done = subprocess.run(
        [playbook, "-i", str(folder / "hosts.json"), "setup_backup.yml"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise BenchError(f"setup_backup.yml failed\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return seconds, _cpu() - before, done.stdout.partition("PLAY RECAP")[2].strip().splitlines()[1:]


def _reached(host: hosts.Host) -> dict[str, str]:
    return {
        "ansible_host": host.address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": host.key,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts} -o StrictHostKeyChecking=yes",
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
