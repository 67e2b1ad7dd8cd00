# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the backup lines of a file of /etc/cron.d exactly as Debian's cron does: cron_line.py CRONTAB [PLAN].

Only lines with a time of day that call `restaura run` (of that plan, where one is named) are run; none is a failure.
From cron(8) and crontab(5), and held against the daemon itself by tests/integration/test_cron_line.py: the file's own
settings over HOME, LOGNAME, SHELL and PATH and nothing else; in the user's home; by SHELL -c; an unescaped % ends the
command and starts its input.
"""

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

Line = tuple[str, str, dict[str, str]]


def lines(crontab: Path, plan: str) -> Iterator[Line]:
    """Yield (user, command, settings) of the lines that back up."""
    settings: dict[str, str] = {}
    for line in crontab.read_text(encoding="utf-8").splitlines():
        if setting := re.match(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line):
            settings[setting[1]] = setting[2].strip("\"'")
        elif entry := re.match(r"\s*(?:[\d*/,-]+\s+){5}(\S+)\s+(.*)$", line):
            words = entry[2].split()
            if "run" in words and (not plan or plan in words):
                yield entry[1], entry[2], dict(settings)


def run(user: str, command: str, settings: dict[str, str]) -> int:
    """Run one line; return its exit code."""
    account = pwd.getpwnam(user)
    environment = {"HOME": account.pw_dir, "LOGNAME": user, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", **settings}
    told, *typed = (part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command))
    print(f"{user}: {told}", flush=True)
    return subprocess.run(
        [environment["SHELL"], "-c", told],
        input="".join(f"{line}\n" for line in typed).encode(),
        env=environment,
        cwd=account.pw_dir,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(user, account.pw_gid),
        check=False,
    ).returncode


def main(crontab: str, plan: str = "") -> int:
    """Run every line that backs up; return the first exit code that is not 0."""
    codes = [run(*line) for line in lines(Path(crontab), plan)]
    if not codes:
        sys.exit(f"{crontab} has no line that runs {plan or 'a plan'}")
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
