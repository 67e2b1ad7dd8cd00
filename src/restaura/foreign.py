# SPDX-License-Identifier: GPL-3.0-or-later
"""What others left on a host that also starts this program. It is never touched, only named."""

import re
from collections.abc import Iterator
from pathlib import Path

from restaura.audit.secrecy import Secrets
from restaura.paths import Paths

CRONTABS = ("etc/crontab", "etc/cron.d/*", "etc/cron.*ly/*", "var/spool/cron/crontabs/*", "var/spool/cron/*")
UNITS = ("etc/systemd/system/*.service",)
# A script of the same name in another folder is somebody else's.
STARTS = re.compile(
    r"(?:^|[\s/;&|=\"'])restaura[\"']?\s+(?:run|drill|verify|prune|restore)\b"
    r"|(?:/usr/local/sbin/|(?<![\w./-]))backup_(?:all|postgres|volumes)\.sh\b"
)
# Debian's cron reads no file of /etc/cron.d whose name holds another character (cron(8)).
READ = re.compile(r"[A-Za-z0-9_-]+")


def found(paths: Paths) -> list[str]:
    """Return a sentence for every other schedule that starts this program, and for every copy that cron ignores."""
    return [sentence for path in _schedules(paths) for sentence in _told(path, paths)]


def _schedules(paths: Paths) -> Iterator[Path]:
    for pattern in CRONTABS + UNITS:
        for path in sorted(paths.root.glob(pattern)):
            if path.is_file() and path != paths.cron and not path.name.startswith("."):
                yield path


def _told(path: Path, paths: Paths) -> Iterator[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return
    started = [line.strip() for line in lines if not line.lstrip().startswith("#") and STARTS.search(line)]
    if not started:
        return
    secrets = Secrets()
    secrets.search(started[0], "")
    line = secrets.mask(started[0])[:100]
    if path.parent == paths.cron.parent and not READ.fullmatch(path.name):
        yield f"{path} is a copy that cron never reads; it is not Restaura's and was left: delete it if nobody needs it"
    else:
        yield f"{path} starts restaura too ({line}); it is not Restaura's and was left: take that line out"
