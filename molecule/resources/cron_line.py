# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the backup lines of /etc/cron.d/restaura exactly as Debian's cron does: cron_line.py [PLAN].

Only lines with a time of day that call `restaura run` (of that plan, where one is named) are run; none is a failure.
cron(8), crontab(5): the line's own settings over HOME, LOGNAME, SHELL and PATH and nothing else, in the user's home,
by SHELL -c; an unescaped % ends the command and starts its input.
"""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

CRONTAB = Path("/etc/cron.d/restaura")


def lines(plan):
    """Yield (user, command, settings) of the lines that back up."""
    settings = {}
    for line in CRONTAB.read_text(encoding="utf-8").splitlines():
        if setting := re.match(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line):
            settings[setting[1]] = setting[2].strip("\"'")
        elif entry := re.match(r"\s*((?:[\d*/,-]+\s+){5})(\S+)\s+(.*)$", line):
            words = entry[3].split()
            if "run" in words and (not plan or plan in words):
                yield entry[2], entry[3], dict(settings)


def run(user, command, settings):
    """Run one line; return its exit code."""
    account = pwd.getpwnam(user)
    environment = {"HOME": account.pw_dir, "LOGNAME": user, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", **settings}
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command)]
    print(f"{user}: {parts[0]}", flush=True)
    done = subprocess.run(
        [environment["SHELL"], "-c", parts[0]],
        input="\n".join(parts[1:]).encode(),
        env=environment,
        cwd=account.pw_dir,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=os.getgrouplist(user, account.pw_gid),
        check=False,
    )
    return done.returncode


codes = [run(*line) for line in lines(sys.argv[1] if len(sys.argv) > 1 else "")]
if not codes:
    sys.exit(f"{CRONTAB} has no line that runs a backup")
sys.exit(max(codes, key=abs))
