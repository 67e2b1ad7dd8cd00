# SPDX-License-Identifier: GPL-3.0-or-later
"""Suna: an agent that remembers what was said, a gateway that answers from it, and a check of what both left behind."""

import contextlib
import hashlib
import http.server
import json
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

STOPPING = threading.Event()


def opened(memory: Path) -> sqlite3.Connection:
    """Open the memory, which readers and the writer share."""
    connection = sqlite3.connect(memory / "memory.db", timeout=30, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute(
        "create table if not exists said (number integer primary key, text text, file text, sha256 text)"
    )
    return connection


def summary(memory: Path) -> dict[str, object]:
    """Return how much is remembered, and the last of it."""
    with contextlib.closing(opened(memory)) as connection:
        count, last = connection.execute("select count(*), max(number) from said").fetchone()
    return {"said": count, "last": last}


def agent(memory: Path, workspace: Path) -> None:
    """Remember something every few milliseconds, each time with a file in the workspace."""
    connection = opened(memory)
    number = connection.execute("select coalesce(max(number), 0) from said").fetchone()[0]
    while not STOPPING.wait(0.03):
        number += 1
        content = os.urandom(512)
        name = f"artifact-{number:06d}.bin"
        (workspace / name).write_bytes(content)
        row = (number, f"message {number}", name, hashlib.sha256(content).hexdigest())
        with connection:
            connection.execute("insert into said values (?, ?, ?, ?)", row)


def gateway(memory: Path) -> None:
    """Answer over HTTP with what is remembered."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(summary(memory)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("", 8001), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    STOPPING.wait()


def check(memory: Path, workspace: Path) -> None:
    """Say what is there; an error when the folders do not belong together."""
    with contextlib.closing(opened(memory)) as connection:
        if connection.execute("pragma integrity_check").fetchone() != ("ok",):
            sys.exit("the memory is damaged")
        rows = connection.execute("select number, file, sha256 from said order by number").fetchall()
    for number, (told, name, sha256) in enumerate(rows, 1):
        path = workspace / name
        if told != number or not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            sys.exit(f"message {number} has lost its file, or is none")
    print(json.dumps({"said": len(rows), "last": len(rows)}))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    {"agent": agent, "gateway": gateway, "check": check}[sys.argv[1]](*map(Path, sys.argv[2:]))
