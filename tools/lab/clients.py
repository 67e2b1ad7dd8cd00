# SPDX-License-Identifier: GPL-3.0-or-later
"""Client libraries of PyPI for test hosts, which reach no PyPI: unpacked once into a folder that hosts have mounted."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from typing import TYPE_CHECKING

from tools.lab.common import CACHE, ROOT, lock, run

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = "3.13"  # of Debian 13


def folder_of(name: str) -> Path:
    """Return the folder, for PYTHONPATH, with what `requirements/NAME.txt` pins; it need not be there yet."""
    pinned = hashlib.sha256((ROOT / f"requirements/{name}.txt").read_bytes()).hexdigest()
    return CACHE / "clients" / f"{name}-{pinned[:12]}"


def up(name: str) -> Path:
    """Download what `requirements/NAME.txt` pins, once, and return its folder."""
    pinned, folder = ROOT / f"requirements/{name}.txt", folder_of(name)
    with lock(f"clients-{name}"):
        if not folder.exists():
            wheels, part = folder.with_name(f"{folder.name}.wheels"), folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            run(
                *(str(ROOT / ".venv/bin/python"), "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
                *("--python-version", PYTHON, "-d", str(wheels), "-r", str(pinned)),
            )
            for wheel in sorted(wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(part)
            shutil.rmtree(wheels)
            part.rename(folder)
    return folder
