# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the on-host program: one executable zipapp, the same bytes for the same source.

`python3 tools/build_runtime.py [DIRECTORY]` writes it there (default: .cache/runtime) and prints its path.
"""

import hashlib
import importlib.util
import io
import os
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHEBANG = b"#!/usr/bin/python3\n"
MAIN = b"import sys\nfrom restaura.cli import main\nsys.exit(main())\n"
# The oldest time a ZIP can hold: files' own times differ from clone to clone.
TIME = (1980, 1, 1, 0, 0, 0)
NAME_DIGITS = 12


def runtime_bytes() -> bytes:
    """Return the zipapp: the package `restaura`, and PyYAML without its C part.

    Nothing is compressed, since zlib's output differs between its versions. Raises FileNotFoundError when the source
    or PyYAML is missing.
    """
    files = {"__main__.py": MAIN, **_package(ROOT / "src/restaura"), **_package(_yaml_directory())}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return SHEBANG + packed.getvalue()


def build(directory: Path) -> Path:
    """Write the zipapp into `directory` as `<first 12 digits of its SHA-256>.pyz` and return its path."""
    data = runtime_bytes()
    path = directory / f"{hashlib.sha256(data).hexdigest()[:NAME_DIGITS]}.pyz"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.chmod(0o755)
        temporary.replace(path)
    return path


def _package(directory: Path) -> dict[str, bytes]:
    """Return the files of a package by their name in the archive."""
    files = {
        path.relative_to(directory.parent).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".so"} and "__pycache__" not in path.parts
    }
    if not files:
        raise FileNotFoundError(f"no package in {directory}")
    return files


def _yaml_directory() -> Path:
    found = importlib.util.find_spec("yaml")
    if found is None or found.origin is None:
        raise FileNotFoundError("PyYAML is not installed beside Ansible")
    return Path(found.origin).parent


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache/runtime"))
