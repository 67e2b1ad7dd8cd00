# SPDX-License-Identifier: GPL-3.0-or-later
"""The structured log (a JSON line an event, a file a day) and what a person at a terminal sees of it."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from restaura.paths import private_dir


class Log:
    """Writes events. A log that cannot be written never stops a backup: the event goes to standard error instead."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.verbose = sys.stderr.isatty()
        self.context: dict[str, Any] = {}

    def event(self, name: str, level: str = "info", **fields: Any) -> None:
        """Record one event; `fields` are JSON values and never secrets."""
        now = datetime.now(UTC)
        row = {"at": now.isoformat(timespec="milliseconds"), "level": level, "event": name, **self.context, **fields}
        try:
            private_dir(self._directory)
            with (self._directory / f"{now:%Y-%m-%d}.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"restaura: the log cannot be written: {error}", file=sys.stderr)
        if self.verbose or level == "error":
            print(f"{name}: " + ", ".join(f"{k}={v}" for k, v in fields.items()), file=sys.stderr)

    def expire(self, days: int) -> None:
        """Delete the log files older than `days`."""
        oldest = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}.jsonl"
        for path in self._directory.glob("????-??-??.jsonl"):
            if path.name < oldest:
                path.unlink(missing_ok=True)
