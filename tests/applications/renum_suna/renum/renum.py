# SPDX-License-Identifier: GPL-3.0-or-later
"""Renum: a backend that takes orders, a worker that files a receipt for each, and a check of what both left behind."""

import hashlib
import http.server
import json
import os
import signal
import sys
import threading
from pathlib import Path

GENESIS = "0" * 64
STOPPING = threading.Event()


def write(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def read_orders(data: Path) -> list[dict[str, str]]:
    """Return the orders, oldest first; an error when the chain is broken."""
    path, last, orders = data / "orders.jsonl", GENESIS, []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else []):
        order = json.loads(line)
        if order["number"] != number or order["previous"] != last:
            sys.exit(f"order {number} does not follow the one before it")
        last = hashlib.sha256(line.encode()).hexdigest()
        orders.append({**order, "hash": last})
    return orders


def receipt(uploads: Path, number: int) -> Path:
    """Return where the receipt of an order is filed."""
    return uploads / f"{number // 100:04d}" / f"receipt-{number}.txt"


def summary(data: Path) -> dict[str, object]:
    """Return the number of orders and the end of their chain."""
    orders = read_orders(data)
    return {"orders": len(orders), "last": orders[-1]["hash"] if orders else GENESIS}


def backend(data: Path) -> None:
    """Take an order every few milliseconds, and answer over HTTP with what there is."""
    lock = threading.Lock()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                body = json.dumps(summary(data)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("", 8000), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    said = summary(data)
    number, last = int(str(said["orders"])), str(said["last"])
    with (data / "orders.jsonl").open("a") as out:
        while not STOPPING.wait(0.02):
            line = json.dumps({"number": number, "previous": last, "item": os.urandom(64).hex()})
            with lock:
                out.write(line + "\n")
                out.flush()
                number, last = number + 1, hashlib.sha256(line.encode()).hexdigest()
                write(data / "state.json", json.dumps({"orders": number, "last": last}))


def worker(data: Path, uploads: Path) -> None:
    """File a receipt for every order, and note how far it came."""
    done = int(json.loads((data / "worker.json").read_text())["done"]) if (data / "worker.json").exists() else 0
    while not STOPPING.wait(0.05):
        state = json.loads((data / "state.json").read_text()) if (data / "state.json").exists() else {"orders": 0}
        while done < state["orders"]:
            path = receipt(uploads, done)
            path.parent.mkdir(exist_ok=True)
            write(path, f"order {done}\n")
            done += 1
            write(data / "worker.json", json.dumps({"done": done}))


def check(data: Path, uploads: Path) -> None:
    """Say what is there; an error when the folders do not belong together."""
    found = summary(data)
    state = json.loads((data / "state.json").read_text())
    if state != found:
        sys.exit(f"the state says {state}, the orders say {found}")
    done = json.loads((data / "worker.json").read_text())["done"]
    missing = [number for number in range(done) if not receipt(uploads, number).exists()]
    if missing or done > int(str(found["orders"])):
        sys.exit(f"{done} receipts were filed, of which {len(missing)} are missing, for {found['orders']} orders")
    print(json.dumps({**found, "receipts": done}))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    {"backend": backend, "worker": worker, "check": check}[sys.argv[1]](*map(Path, sys.argv[2:]))
