# SPDX-License-Identifier: GPL-3.0-or-later
"""`restaura audit`: what on this host holds data, how it is backed up, and what nobody backs up. Changes nothing."""

import argparse
import dataclasses
import socket
import time
from datetime import UTC, datetime

from restaura.audit.holders import find_holders
from restaura.audit.judge import Seen, judge
from restaura.audit.looking import Look
from restaura.audit.model import Audit, Holder, Status
from restaura.audit.protections import find_protections
from restaura.audit.rendering import render
from restaura.audit.report import report
from restaura.audit.secrecy import Secrets, everywhere
from restaura.errors import Exit
from restaura.host import Host
from restaura.output import Answer
from restaura.paths import Paths

EXITS = {"OK": Exit.DONE, "WARNING": Exit.PARTIAL, "CRITICAL": Exit.UNPROTECTED}
FAIL_ON = ("warning", "critical", "never")


def audit(host: Host, options: argparse.Namespace) -> Answer:
    """Audit this host; the exit code says the status, down to the level that is asked to fail."""
    found = audit_host(host.paths)
    text = render(report(found), options.format, options.language)
    return Answer(dataclasses.asdict(found), text, exit_code(found.status, options.fail_on))


def exit_code(status: Status, fail_on: str) -> Exit:
    """Return the exit code of a status: success where it is better than the least that fails (one of `FAIL_ON`)."""
    failing = {"warning": ("WARNING", "CRITICAL"), "critical": ("CRITICAL",), "never": ()}
    return EXITS[status] if status in failing[fail_on] else Exit.DONE


def audit_host(paths: Paths) -> Audit:
    """Look at the host below `paths.root` and judge what was seen, without any secret. Needs no configuration."""
    begun = time.monotonic()
    look, secrets = Look(paths.root), Secrets()
    holders, _ = find_holders(paths.root, look)
    found = find_protections(look, holders, secrets)
    disks = {one.id: _disks(look, one) for one in holders}
    audit = judge(Seen(_name(look), datetime.now(UTC), holders, found, look.unreadable, disks))
    audit = dataclasses.replace(audit, seconds=round(time.monotonic() - begun, 2))
    masked: Audit = everywhere(secrets.mask, audit)
    return masked


def _disks(look: Look, holder: Holder) -> frozenset[int]:
    return frozenset(status.st_dev for path in holder.paths if (status := look.status(path)))


def _name(look: Look) -> str:
    if str(look.root) == "/":
        return socket.gethostname()
    return (look.text("/etc/hostname") or "").strip() or "localhost"
