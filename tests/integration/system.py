# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole host below a directory of a test: configured by `restaura configure`, driven by its command line alone."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Runs the program, which kills itself (or its watcher, or both) when it logs a certain event or phase.
DRIVER = textwrap.dedent(
    """
    import os, signal, sys, time
    from restaura import cli, log
    from restaura.actions import recover
    want, who = os.environ["AT"], os.environ["WHO"]
    watcher = []
    start = recover.subprocess.Popen
    def started(*arguments, **keywords):
        child = start(*arguments, **keywords)
        if "--watch" in arguments[0]:
            watcher.append(child)
        return child
    recover.subprocess.Popen = started
    event = log.Log.event
    def killing(self, name, level="info", **fields):
        event(self, name, level, **fields)
        if fields.get("phase", name) == want:
            if "watcher" in who:
                for child in watcher:
                    child.kill()
                    child.wait()
            if "run" in who:
                os.kill(os.getpid(), signal.SIGKILL)
    log.Log.event = killing
    sys.exit(cli.main())
    """
)


@dataclass
class System:
    """One host: `root` is its RESTAURA_ROOT, `declaration` what it was last configured with."""

    root: Path
    declaration: dict[str, Any] = field(default_factory=dict)

    def configure(self, *, expect: int = 0, **sections: Any) -> dict[str, Any]:
        """Apply a declaration; sections that are not given stay."""
        self.declaration.update(sections)
        given = {"settings": {"host": "web1", "reserve_bytes": 1_000_000}, **self.declaration}
        return self.run("configure", stdin=json.dumps(given), expect=expect)

    def run(self, *arguments: str, stdin: str = "", expect: int | None = 0, **environment: str) -> dict[str, Any]:
        """Run a verb with --json and return its answer; `expect` is its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "restaura", *arguments, "--json"],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(**environment),
            check=False,
            timeout=240,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert expect is None or done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["exit"] == done.returncode
        return answer

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start a verb and return its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "restaura", *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**environment),
        )

    def killed(self, *arguments: str, at: str, who: str = "run") -> None:
        """Run a verb that is killed by SIGKILL when it logs `at`; `who` names run, watcher or both."""
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, *arguments],
            capture_output=True,
            text=True,
            env=self.environment(AT=at, WHO=who),
            check=False,
            timeout=240,
        )
        wanted = -signal.SIGKILL if "run" in who else 0
        assert done.returncode == wanted, f"{at}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment of a child of this host."""
        # Bytecode where this very test keeps it: the program starts in a third of the time.
        names = ("PATH", "HOME", "LANG", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return {**kept, "RESTAURA_ROOT": str(self.root), "PYTHONPATH": str(SOURCE), **extra}

    def settled(self, seconds: float = 60) -> None:
        """Wait until the watcher has taken back everything."""
        journal = self.root / "var/lib/restaura/journal"
        deadline = time.monotonic() + seconds
        while left := list(journal.glob("*.json")):
            assert time.monotonic() < deadline, f"still owed: {[one.read_text() for one in left]}"
            time.sleep(0.1)

    def leftovers(self) -> list[str]:
        """Name what a run must not leave behind: debts, spooled files, temporary files."""
        state = self.root / "var/lib/restaura"
        found = [*state.glob("journal/*"), *state.glob("spool/*"), *self.root.rglob("*.tmp")]
        return [str(one) for one in found]

    def good_points(self) -> dict[str, list[str]]:
        """Return the ids of the points whose every component is good, by store, from the stores themselves."""
        points: dict[str, dict[str, bool]] = {}
        for row in self.run("list", "--refresh")["points"]:
            there = points.setdefault(row["store"], {})
            there[row["point"]] = there.get(row["point"], True) and row["good"]
        return {store: sorted(one for one, good in found.items() if good) for store, found in points.items()}


def protecting(tree: Path, place: Path, **plan: Any) -> System:
    """Return a host below `place` that keeps one tree in a dated store, `plain`, which is the quickest."""
    one = System(place / "host")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store")}],
        plans=[{"name": "daily", **plan}],
        components={"files": [{"name": "app", "paths": [str(tree)]}]},
    )
    return one


def tree_digest(path: Path) -> str:
    """Return a digest of a tree by find and sha256sum."""
    listed = "find . -printf '%P|%y|%m|%u|%g|%l\\n' | LC_ALL=C sort"
    script = f"{listed}; find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum"
    out = subprocess.run(["/bin/sh", "-c", script], cwd=path, capture_output=True, check=True).stdout
    return hashlib.sha256(out).hexdigest()


def make_tree(path: Path, files: int = 20, size: int = 20_000) -> Path:
    """Fill a directory with files of random content and a few oddities."""
    (path / "sub").mkdir(parents=True)
    for number in range(files):
        (path / "sub" / f"file {number}").write_bytes(os.urandom(size))
    (path / "link").symlink_to("sub/file 0")
    os.link(path / "sub/file 1", path / "hard")
    (path / 'sub/$(touch x) "quoted"\n--flag').write_text("odd")
    return path
