# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person or a program reads: tables, sizes, ages, progress on a terminal, one JSON object with --json."""

import json
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from restaura import CONTRACT
from restaura.errors import Exit


def size(count: int) -> str:
    """Return a number of bytes as people read it (SI units)."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago `moment` was."""
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{max(seconds, 0)} s ago"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their heads, columns as wide as their widest cell. Control characters are shown escaped."""
    clean = [[printable(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[number]) for row in clean) for number in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def printable(text: str) -> str:
    """Return text that cannot move a terminal's cursor or break a line; undecodable bytes are shown escaped."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(escaped)


def lines(text: str) -> str:
    """Return text of several lines, each made printable."""
    return "\n".join(map(printable, text.split("\n")))


class Answer:
    """The one answer of a verb: `text` for people, `data` with that text for --json, and the exit code."""

    def __init__(self, data: dict[str, Any], text: str = "", code: int = Exit.DONE) -> None:
        self.data = data
        self.text = text
        self.code = int(code)

    def show(self, as_json: bool) -> int:
        """Print the answer on standard output and return the exit code."""
        if as_json:
            print(json.dumps({"contract": CONTRACT, "exit": self.code, "text": self.text, **self.data}), flush=True)
        elif self.text:
            print(lines(self.text), flush=True)
        return self.code


class Progress:
    """A line on a terminal that says what is going on; silent where there is none (cron, --json)."""

    def __init__(self, enabled: bool | None = None) -> None:
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._shown = 0.0

    def phase(self, name: str) -> None:
        """Say that a phase began."""
        if self._enabled:
            self._write(f"\r\x1b[K{name}\n" if self._counts else f"{name}\n")

    def add(self, name: str, count: int) -> None:
        """Count `count` more bytes of `name`."""
        if not self._enabled:
            return
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count
            now = datetime.now(UTC).timestamp()
            if now - self._shown > 0.2:
                self._shown = now
                self._write("\r\x1b[K  " + "  ".join(f"{printable(k)} {size(v)}" for k, v in self._counts.items()))

    def done(self) -> None:
        """Clear the line."""
        if self._enabled and self._counts:
            self._counts.clear()
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
