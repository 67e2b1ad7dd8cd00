# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels that `make setup_backup` installs, for hosts that reach Debian's archive but no PyPI."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tools.lab.common import CACHE, ROOT, lock, run

# The Pythons of Debian 12 and 13.
PYTHONS = ("3.11", "3.13")
REQUIREMENTS = (ROOT / "requirements/controller.txt", ROOT / "requirements/constraints.txt")


def up() -> Path:
    """Download the controller's requirements for every Python that a host may have, once; return their folder.

    In a host with the folder mounted, PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER makes pip use it.
    """
    told = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()[:12]
    folder = CACHE / f"wheels-{told}"
    with lock("wheels"):
        if not (folder / "complete").exists():
            for python in PYTHONS:
                run(
                    *(str(ROOT / ".venv/bin/python"), "-m", "pip", "download", "-q", "--only-binary=:all:"),
                    *("--python-version", python, "-d", str(folder), "-r", str(REQUIREMENTS[0])),
                )
            (folder / "complete").touch()
    return folder
