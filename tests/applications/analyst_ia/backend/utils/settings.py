# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings in `.env`, and requests to the services it names."""

import json
import urllib.request
from pathlib import Path
from typing import Any


def load(root: Path) -> dict[str, str]:
    """Return the settings of the application below `root`."""
    lines = (root / "backend/.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def ask(url: str, headers: dict[str, str], body: Any = None) -> Any:
    """Return what a service answers to a GET, or to a POST of `body`, as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def write(path: Path, data: Any) -> None:
    """Replace a JSON file as a whole, so that a reader sees the old or the new."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(data, indent=1))
    half.replace(path)
