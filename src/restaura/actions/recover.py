# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura recover`: pay the debts of dead processes.

Runs at the start of every run, at boot, hourly, and from a watcher that outlives the run.
"""

import argparse
import json
import os
import select
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import locks, pause, process
from restaura.errors import Exit, RestauraError
from restaura.host import Host
from restaura.journal import Debt
from restaura.output import Answer
from restaura.paths import write_atomic
from restaura.process import environment
from restaura.sources import registry
from restaura.stores import open_store

RESUME_SECONDS = 600
UNWATCHED_SECONDS = 60  # a watcher recovers at once: what is older was left by a power cut


def recover(host: Host, options: argparse.Namespace) -> Answer:
    """Take back what dead processes left; with --check only name it."""
    if options.watch:
        _wait_for(options.watch)
    if options.check:
        left = [_row(debt) for debt in host.journal.open_debts() if not debt.process.alive]
        return Answer({"changed": bool(left), "debts": left}, "\n".join(map(str, left)) or "nothing to recover")
    paid, failed = pay(host)
    text = "\n".join([*(f"taken back: {one['owner']} {one['act']}" for one in paid), *(one["error"] for one in failed)])
    code = Exit.FAILED if failed else Exit.DONE
    return Answer({"changed": bool(paid), "paid": paid, "failed": failed}, text or "nothing to recover", code)


def pay(host: Host) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Take back every debt of a dead process, newest first; return what was paid and what failed (and stays)."""
    paid, failed = [], []
    with locks.holding(host.paths.locks, ["recover"], wait=RESUME_SECONDS):
        for debt in reversed(host.journal.open_debts()):
            # A commit that was paid before settles older debts.
            if debt.process.alive or not host.journal.path(debt.id).exists():
                continue
            try:
                _take_back(host, debt)
            except (RestauraError, OSError, KeyError, TypeError, ValueError) as error:
                why = str(error) if isinstance(error, RestauraError | OSError) else f"the record is damaged: {error!r}"
                why += f"\n  when it can never be taken back: rm {host.journal.path(debt.id)}"
                host.log.event("recover failed", "error", owner=debt.owner, act=debt.act, error=why)
                failed.append({**_row(debt), "error": f"{debt.owner} {debt.act}: {why}"})
                continue
            host.journal.settle(debt)
            host.log.event("recovered", owner=debt.owner, act=debt.act)
            paid.append(_row(debt))
    return paid, failed


def settle_all(host: Host, commit: Debt) -> None:
    """Strike out the debts that a commit names, then the commit itself: what they would take back is to stay."""
    for name in commit.data["debts"]:
        host.journal.settle(name)
    host.journal.settle(commit)


def watch(host: Host) -> None:
    """Start the watcher: a process of its own session that recovers as soon as this one has died."""
    subprocess.Popen(
        [*process.program_argv(), "recover", "--watch", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=environment(RESTAURA_ROOT=str(host.paths.root)),
    )


def _wait_for(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    finally:
        os.close(descriptor)


def _take_back(host: Host, debt: Debt) -> None:
    owner, _, name = debt.owner.partition(":")
    if owner == "spool":
        path = Path(debt.data["path"])
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            raise RestauraError("could not be removed", where=str(path), fix=f"rm -rf {path}")
    elif owner == "pause":
        pause.resume(debt.data["rows"])
    elif owner == "store":
        open_store(host.config.store(name), host).sweep(debt.data)
    elif owner == "swap":
        _swap_back(host, name, debt)
    elif owner == "undo":
        registry()[name].source.undo(debt.data["record"])
        path = host.paths.kept / debt.data["kept"]
        if path.exists():
            write_atomic(path, json.dumps({**json.loads(path.read_text()), "live": "before"}).encode())
    elif owner == "commit":
        settle_all(host, debt)
    elif owner == "source":
        registry()[name].source.take_back(debt.act, debt.data)
    else:
        raise RestauraError(f"nobody knows how to take back {debt.owner}", where=f"journal {debt.id}")


def _swap_back(host: Host, kind: str, debt: Debt) -> None:
    """Make the data from before a restore live again, and remove what was restored, unless it was live for long.

    After a power cut nobody watched, and what started since may have written to what it found live: then it is kept.
    """
    source, record = registry()[kind].source, debt.data["record"]
    path = host.paths.kept / f"{debt.data['kept']}.json"
    source.undo(record)
    if path.exists() and (datetime.now(UTC) - datetime.fromisoformat(debt.at)).total_seconds() > UNWATCHED_SECONDS:
        write_atomic(path, json.dumps({**json.loads(path.read_text()), "live": "before"}).encode())
        # What was staged is the side that is kept.
        host.journal.settle(debt.data.get("stage", ""))
        host.log.event("restored side kept", "warning", component=debt.data["kept"], fix="restaura undo")
        return
    source.discard(record)
    path.unlink(missing_ok=True)


def _row(debt: Debt) -> dict[str, Any]:
    return {"id": debt.id, "owner": debt.owner, "act": debt.act, "at": debt.at}
