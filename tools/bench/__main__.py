# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: measure, and write the table of docs/performance.md. ROWS chooses rows, SCALE makes all data smaller.

What is measured is kept in .cache/bench/SCALE.jsonl: started again, the bench goes on where it was, in the same host.
The host is removed when everything was measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.bench import setup, stack, table
from tools.bench.subjects import ACTS, CONTESTANTS, PROGRAM, STORES, SUBJECTS
from tools.build_runtime import build
from tools.lab import daemon, hosts, s3
from tools.lab.common import ROOT, LabError, run

CACHE = ROOT / ".cache/bench"
PAGE = ROOT / "docs/performance.md"
NAME = "bench"
BORGMATIC = "borgmatic==2.1.10"
ROWS = [*(f"{subject}-{act}" for subject in SUBJECTS for act in ACTS), "volumes", "stack", "setup"]
WHOLE = ("volumes", "stack")
# Debian's minimal systems have neither; all that they reach is Debian's archive.
INSTALL = """set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -q -y --no-install-recommends borgbackup >/dev/null
rm -rf /opt/borgmatic
cp -r /bench/borgmatic /opt/borgmatic
python3 -m compileall -q /opt/borgmatic
"""
ZSTD = "zstd -V | grep -o 'Zstandard.*v[0-9.]*'"
VERSIONS = f"restic version; borg --version; pg_dump --version; {ZSTD}; tar --version | head -n 1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; return 0 when all of it could be."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the full size; others leave the page alone")
    parser.add_argument("--fresh", action="store_true", help="forget what is measured, and begin with a new host")
    parser.add_argument("--keep", action="store_true", help="keep the host when all is measured")
    told = parser.parse_args(arguments)
    if unknown := [one for one in told.rows if one not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    try:
        return bench(told.rows or ROWS, told.scale, fresh=told.fresh, keep=told.keep)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def bench(rows: Sequence[str], scale: float, *, fresh: bool, keep: bool) -> int:
    """Measure rows in the bench's host; print the table, and write it to the page when it is of full size."""
    CACHE.mkdir(parents=True, exist_ok=True)
    kept = CACHE / f"{scale:g}.jsonl"
    daemon.up()
    if fresh:
        kept.unlink(missing_ok=True)
        hosts.destroy(NAME)
    host = _host(kept)
    began = time.monotonic()
    for row in rows:
        left = _left(row, results(kept))
        if left and _measure(host, kept, scale, row, left):
            print(f"bench: {row} failed; what is measured is kept, and make bench goes on from there", file=sys.stderr)
            return 1
    text = table.markdown(results(kept), _header(host, scale))
    print(text)
    print(f"{time.monotonic() - began:.0f} s; every figure is in {kept.relative_to(ROOT)}")
    if scale == 1:
        table.write(PAGE, text)
    if not keep and not any(_left(row, results(kept)) for row in ROWS):
        hosts.destroy(NAME)
    return 0


def results(kept: Path) -> dict[str, table.Result]:
    """Return what is measured by its name; the last of several measurements of one thing counts."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["name"]: table.Result(**row) for row in rows if "name" in row}


def _left(row: str, done: Mapping[str, table.Result]) -> list[str]:
    """Return what of a row is not measured yet."""
    if row == "setup":
        return [] if any(name.startswith("setup/") for name in done) else [row]
    contestants = ("bare", *STORES) if row in WHOLE else [one.name for one in CONTESTANTS]
    names = [f"{row}/{one}" for one in contestants]
    return [name for name in names if name not in done]


def _host(kept: Path) -> hosts.Host:
    """Return the host that the measurements were begun in, or make one: a later row stands on what is stored there."""
    begun = json.loads(kept.read_text(encoding="utf-8").splitlines()[0])["host"] if kept.exists() else ""
    for host in hosts.all_hosts():
        if host.name == NAME and _id(host) == begun:
            _give_program(host)
            return host
    if kept.exists():
        kept.rename(kept.with_suffix(".old"))
    host = hosts.create(NAME, mounts=[f"{ROOT}:/restaura:ro", f"{CACHE}:/bench:ro"])
    folder = CACHE / "borgmatic"
    if not folder.exists():
        python = ("--python-version", "3.13", "--only-binary=:all:", "--no-compile")
        run(str(ROOT / ".venv/bin/python"), "-m", "pip", "install", "-q", "--target", str(folder), *python, BORGMATIC)
    _inside(host, INSTALL)
    _give_program(host)
    kept.write_text(json.dumps({"host": _id(host)}) + "\n", encoding="utf-8")
    return host


def _id(host: hosts.Host) -> str:
    return run("docker", "inspect", "--format", "{{.Id}}", host.container).strip()


def _inside(host: hosts.Host, script: str) -> str:
    return run("docker", "exec", "-i", host.container, "sh", "-s", stdin=script)


def _give_program(host: hosts.Host) -> None:
    """Install the program as setup does: the zipapp."""
    run("docker", "cp", str(build(ROOT / ".cache/runtime")), f"{host.container}:{PROGRAM}")


def _measure(host: hosts.Host, kept: Path, scale: float, row: str, names: Sequence[str]) -> int:
    """Measure, keeping each measurement as it comes; return the inner part's exit code."""
    if row == "setup":
        for told in setup.measure():
            # Its processor time says little beside the others' seconds.
            told.pop("cpu_seconds")
            _keep(kept, {"name": f"setup/{told.pop('hosts')}", **told})
        return 0
    if row == "stack":
        with stack.host() as other:
            _give_program(other)
            return _inner(other, kept, "stack", f"{scale:g}", s3.up().endpoint)
    return _inner(host, kept, *(("volumes", f"{scale:g}") if row == "volumes" else ("inside", f"{scale:g}", *names)))


def _inner(host: hosts.Host, kept: Path, module: str, *arguments: str) -> int:
    """Run a part of the bench inside a host, keeping each measurement as it comes; return its exit code."""
    environment = ["-e", "PYTHONPATH=/restaura:/restaura/src", "-e", "PYTHONDONTWRITEBYTECODE=1", "-w", "/"]
    command = ["docker", "exec", *environment, host.container, "python3", "-m", f"tools.bench.{module}", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as inner:
        for line in inner.stdout or ():
            _keep(kept, json.loads(line))
    return inner.returncode


def _keep(kept: Path, row: dict[str, Any]) -> None:
    with kept.open("a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
    print(f"{row['name']:<36} {row['seconds']:>8.2f} s {row.get('peak_mib', ''):>7}", flush=True)


def _header(host: hosts.Host, scale: float) -> str:
    """Say when and where, and with which versions."""
    cores = _inside(host, "nproc").strip()
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "unknown")
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    versions = ", ".join(line.split(" compiled")[0] for line in _inside(host, VERSIONS).splitlines())
    size = "" if scale == 1 else f" Everything at {scale:g} of its size."
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}, {cores} cores ({model}), {memory} GiB of memory, Linux "
        f"{platform.release()}: {versions}, {BORGMATIC.replace('==', ' ')}.{size}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    sys.exit(main())
