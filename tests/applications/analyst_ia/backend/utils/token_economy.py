# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of interactions and the tokens they saved: token_economy.py check DATABASE [REPORTS]."""

import contextlib
import hashlib
import json
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS interactions (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    tokens_without INTEGER NOT NULL, tokens_used INTEGER NOT NULL, digest TEXT NOT NULL)
"""
FIELDS = "id, at, question, answer, tokens_without, tokens_used"


def opened(database: Path, readonly: bool = False) -> sqlite3.Connection:
    """Open the history; a writer makes it, a reader changes nothing."""
    if readonly:
        return sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
    connection = sqlite3.connect(database, timeout=30)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute(SCHEMA)
    return connection


def chained(before: str, row: tuple[Any, ...]) -> str:
    """Return the digest of a row and of all before it."""
    return hashlib.sha256((before + json.dumps(row)).encode()).hexdigest()


def add(history: sqlite3.Connection, question: str, answer: str, without: int, used: int) -> int:
    """Keep one interaction, and return its number."""
    last = history.execute("SELECT id, digest FROM interactions ORDER BY id DESC LIMIT 1").fetchone() or (0, "")
    row = (last[0] + 1, datetime.now(UTC).isoformat(), question, answer, without, used)
    with history:
        history.execute(
            f"INSERT INTO interactions ({FIELDS}, digest) VALUES (?,?,?,?,?,?,?)", (*row, chained(last[1], row))
        )
    return row[0]


def economy(history: sqlite3.Connection, day: str = "") -> dict[str, Any]:
    """Return the token economy of a day (`2025-06-28`), or of all days."""
    requests, without, used = history.execute(
        "SELECT count(*), coalesce(sum(tokens_without), 0), coalesce(sum(tokens_used), 0) FROM interactions "
        "WHERE at LIKE ? || '%'",
        (day,),
    ).fetchone()
    return {"period": day, "requests": requests, "tokens_used": used, "tokens_saved": without - used}


def check(database: Path, reports: Path | None = None) -> dict[str, Any]:
    """Return the whole economy; ValueError where the history has a gap or was altered, or a report saves nothing."""
    with contextlib.closing(opened(database, readonly=True)) as history:
        digest = ""
        for *row, kept in history.execute(f"SELECT {FIELDS}, digest FROM interactions ORDER BY id"):
            digest = chained(digest, tuple(row))
            if digest != kept:
                raise ValueError(f"the history is broken at interaction {row[0]}")
        found = economy(history)
    if not found["requests"]:
        raise ValueError("the history is empty")
    for path in sorted(reports.glob("token_economy_*.json")) if reports else ():
        report = json.loads(path.read_text())
        if report["requests"] and report["tokens_saved"] <= 0:
            raise ValueError(f"{path.name} says that nothing was saved")
    return found


def main(verb: str, database: str, reports: str = "") -> None:
    """Check a history and its reports."""
    if verb != "check":
        sys.exit(__doc__)
    try:
        print(json.dumps(check(Path(database), Path(reports) if reports else None)))
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        sys.exit(f"token economy: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
