# SPDX-License-Identifier: GPL-3.0-or-later
"""Real trees for tests: made by the system's own programs, and digested by them, never by the code that is tested."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src"

# What the web application `app` of the tests is made of. Names, links, holes and rights as real hosts have them.
SEED = r"""
set -e
mkdir -p uploads/2024 bin empty 'a b' "it's"
seq 1 2000 > uploads/2024/list.txt
ln uploads/2024/list.txt uploads/list-again.txt
ln -s uploads/2024/list.txt current
ln -s /nonexistent/target dangling
ln -s ../.. 'a b/up'
mkfifo queue
printf 'latin \xe9' > $'uploads/caf\xe9.txt'
printf new > $'uploads/two\nlines'
printf dash > ./-rf
printf glob > 'uploads/[a-z]*?.txt'
printf money > 'it'\''s/$(touch pwned)'
mkdir $'uploads/\xff dir'; printf deep > $'uploads/\xff dir/file'
truncate -s 3M sparse.img; printf end | dd of=sparse.img bs=1 seek=2000000 conv=notrunc status=none
printf owned > uploads/owned; chown www-data:backup uploads/owned; chmod 640 uploads/owned
printf acl > uploads/acl; setfacl -m u:www-data:rw,g:backup:r uploads/acl
setfacl -d -m u:games:rx uploads/2024; setfacl -m u:games:rx uploads/2024
printf attr > uploads/attr; setfattr -n user.supabase.content-type -v image/png uploads/attr
setfattr -n trusted.note -v kept uploads/attr; setfattr -n user.dir -v yes uploads
setfattr -h -n trusted.onlink -v yes current
cp /bin/true bin/ping; setcap cap_net_raw+ep bin/ping
cp /bin/true bin/su; chown root:games bin/su; chmod 4750 bin/su
chmod 1777 empty; chown www-data: 'a b'
touch -h -d '2003-03-03 03:03:03.123456789' dangling
touch -d '2001-01-01 01:01:01.000000001' uploads/owned 'a b' uploads/2024 empty
chmod 000 uploads/attr
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("app.sock")'
"""

DIGEST = r"""
set -e -o pipefail
export LC_ALL=C
seen() { find . ! -type s "$@" | sort -z; }
seen "$@" \( -type d -printf '%p|%y|%m|%u|%g|%T@|%l\0' -o -printf '%p|%y|%m|%u|%g|%T@|%l|%n|%s\0' \)
seen "$@" -type f -print0 | xargs -0 -r sha256sum -b
seen "$@" -print0 | xargs -0 -r getfattr -h -d -m - -e hex
seen "$@" ! -type l -print0 | xargs -0 -r getfacl -p
"""


def shell(script: str, where: Path, *arguments: str) -> str:
    """Run a bash script in a directory and return what it printed."""
    done = subprocess.run(
        ["/bin/bash", "-c", script, "bash", *arguments], cwd=where, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="surrogateescape")


def seed(directory: Path) -> Path:
    """Make the web application in a new directory."""
    directory.mkdir(parents=True)
    shell(SEED, directory)
    return directory


def digest(directory: Path, *left_out: str) -> str:
    """Return what find, sha256sum, getfattr and getfacl say of a tree, but for sockets and `left_out` (`./cache*`)."""
    return shell(DIGEST, directory, *(word for one in left_out for word in ("!", "-path", one))).replace("\0", "\n")


@dataclass(frozen=True)
class System:
    """A configured program whose places, stores and data all lie below one directory."""

    root: Path

    def run(self, *argv: str, given: str = "") -> tuple[int, str]:
        """Run one verb; return its exit code and all it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "restaura", *argv],
            input=given,
            env={**os.environ, "RESTAURA_ROOT": str(self.root), "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=250,
        )
        return done.returncode, done.stdout

    def well(self, *argv: str, given: str = "") -> str:
        """Run one verb that must succeed, and return what it printed."""
        code, said = self.run(*argv, given=given)
        assert code == 0, said
        return said

    def configure(self, component: Mapping[str, Any], stores: Sequence[str] = ("dated", "restic")) -> None:
        """Configure one component `app` and one plan `daily` over local stores, each named by its type."""
        declaration = {
            "settings": {"host": "web1", "reserve_bytes": 0, "reserve_percent": 0},
            "stores": [{"name": one, "type": one, "location": f"{self.root}/stores/{one}"} for one in stores],
            "plans": [{"name": "daily", "schedule": "never"}],
            "components": {"files": [{"name": "app", **component}]},
        }
        self.well("configure", given=json.dumps(declaration))

    def points(self) -> list[dict[str, Any]]:
        """Return what `list` knows."""
        found: list[dict[str, Any]] = json.loads(self.well("list", "--json"))["points"]
        return found
