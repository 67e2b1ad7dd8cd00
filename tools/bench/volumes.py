# SPDX-License-Identifier: GPL-3.0-or-later
"""How long containers are stopped for a backup of their volumes, against stopping them around tar and gzip.

Runs inside the bench's host: `python3 -m tools.bench.volumes SCALE` prints one line of JSON for each measurement.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.docker_project import IMAGE, WRITER, docker, make_image, start_daemon
from tools.bench.data import PLACE, TREE, drop_pages, make_tree
from tools.bench.running import timed, untimed
from tools.bench.subjects import PROGRAM

NAMES = [f"bench-{number}" for number in range(3)]
VOLUMES = Path("/var/lib/docker/volumes")
ROOT = PLACE / "stores/volumes"
STORES = ("restic", "dated")


def main(arguments: list[str]) -> int:
    """Fill three volumes that containers write to, and measure each way; BenchError when a script fails."""
    PLACE.mkdir(exist_ok=True)
    start_daemon()
    with tempfile.TemporaryDirectory() as folder:
        make_image(Path(folder))
    _fill(float(arguments[0]))
    try:
        _measure()
    finally:
        untimed(f"docker rm -f {' '.join(NAMES)}; docker volume rm -f {' '.join(NAMES)}")
    return 0


def _measure() -> None:
    began = _ready()
    packed = " ".join(f"{name}/_data" for name in NAMES)
    stopped = timed(
        f"docker stop {' '.join(NAMES)}; tar -C {VOLUMES} -c {packed} | gzip > {PLACE}/volumes.tgz; sync "
        f"{PLACE}/volumes.tgz; docker start {' '.join(NAMES)}"
    )
    _tell("bare", time.monotonic() - began, stopped.seconds)
    for store in STORES:
        _configure(store)
        began = _ready()
        timed(f"RESTAURA_ROOT={ROOT}-{store} {PROGRAM} run all --json > {PLACE}/run.json")
        seconds = time.monotonic() - began
        told = json.loads((PLACE / "run.json").read_text(encoding="utf-8"))
        _tell(store, seconds, max(one["stop_seconds"] for one in told["components"]))


def _fill(scale: float) -> None:
    """Make the volumes out of a tree's folders, a third each, and start a container on each that writes without end."""
    make_tree(scale)
    folders = sorted(TREE.glob("*/*"))
    for number, name in enumerate(NAMES):
        docker("volume", "create", name)
        place = VOLUMES / name / "_data"
        for folder in folders[number :: len(NAMES)]:
            shutil.move(folder, place / folder.name)
        docker("run", "-d", "--name", name, "--network=none", "-v", f"{name}:/data", IMAGE, "sh", "-c", WRITER)
    shutil.rmtree(TREE)
    # The tree's own rows make it again.
    (PLACE / "tree-made").unlink(missing_ok=True)


def _configure(store: str) -> None:
    root = Path(f"{ROOT}-{store}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    declaration = {
        "settings": {"host": "bench", "reserve_percent": 1},
        "stores": [{"name": "store", "type": store, "location": f"{root}/store"}],
        "plans": [{"name": "all", "fingerprint": "catalog", "drill": "never"}],
        "components": {"docker_volumes": [{"name": "data", "volumes": NAMES, "project_files": False}]},
    }
    (root / "declaration.json").write_text(json.dumps(declaration), encoding="utf-8")
    untimed(f"RESTAURA_ROOT={root} {PROGRAM} configure < {root}/declaration.json")


def _ready() -> float:
    drop_pages(VOLUMES)
    return time.monotonic()


def _tell(name: str, seconds: float, stopped: float) -> None:
    told = {"name": f"volumes/{name}", "seconds": round(seconds, 2), "stop_seconds": round(stopped, 2), "stored": 0}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
