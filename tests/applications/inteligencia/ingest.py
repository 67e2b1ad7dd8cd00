#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes documents in: each goes into Postgres, MongoDB, Redis and Qdrant under one growing number, or into none.

`ingest.py serve` runs until it is asked to stop, and then ends with the document it is at. It begins where all four
stores agree, and refuses to begin where they do not. `ingest.py counters` prints what each store holds, as JSON.
Where the stores are stands in INGEST_* variables (/etc/default/ingest).
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pymongo
import redis

COLLECTION = "documents"
DIMENSION = 8
PAUSE = 0.02


def embedding(text: str) -> list[float]:
    """Return a document's vector: what a model would make of it, made of its hash."""
    digest = hashlib.sha256(text.encode()).digest()
    return [(byte - 127.5) / 128 for byte in digest[:DIMENSION]]


class Stores:
    """The four places that a document goes to."""

    def __init__(self) -> None:
        settings = os.environ
        self.postgres = psycopg.connect(settings["INGEST_POSTGRES"], autocommit=True)
        self.mongodb: Any = pymongo.MongoClient(settings["INGEST_MONGODB"])["intelligence"]["documents"]
        self.redis = redis.Redis.from_url(settings["INGEST_REDIS"])
        self.qdrant = settings["INGEST_QDRANT"].rstrip("/")
        self.key = settings["INGEST_QDRANT_KEY"]

    def ask_qdrant(self, method: str, path: str, body: Any = None) -> Any:
        """Call Qdrant's HTTP API."""
        headers = {"api-key": self.key, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        with urlopen(Request(self.qdrant + path, data=data, headers=headers, method=method), timeout=30) as answer:
            return json.load(answer)["result"]

    def prepare(self) -> None:
        """Make what the stores need to begin with."""
        self.postgres.execute("create table if not exists documents(id int primary key, title text, at timestamptz)")
        if not any(one["name"] == COLLECTION for one in self.ask_qdrant("GET", "/collections")["collections"]):
            self.ask_qdrant("PUT", f"/collections/{COLLECTION}", {"vectors": {"size": DIMENSION, "distance": "Cosine"}})

    def put(self, number: int) -> None:
        """Store one document everywhere."""
        title = f"document {number}"
        self.postgres.execute("insert into documents values (%s, %s, now())", (number, title))
        self.mongodb.insert_one({"_id": number, "title": title, "words": [len(title), number % 7]})
        point = {"id": number, "vector": embedding(title), "payload": {"title": title, "number": number}}
        self.ask_qdrant("PUT", f"/collections/{COLLECTION}/points?wait=true", {"points": [point]})
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.set("ingest:counter", number)
            pipe.xadd("ingest:log", {"id": number}, maxlen=1000)
            pipe.set(f"cache:{number}", title, ex=86400)
            pipe.execute()

    def counters(self) -> dict[str, list[int]]:
        """Return, for each store, its highest number and how many documents it holds."""
        row = self.postgres.execute("select coalesce(max(id), 0), count(*) from documents").fetchone()
        highest = self.mongodb.find_one(sort=[("_id", -1)])
        cached = int(self.redis.get("ingest:counter") or 0)
        count = self.ask_qdrant("POST", f"/collections/{COLLECTION}/points/count", {"exact": True})["count"]
        # Numbers are ids, and come in their order.
        body = {"limit": 1, "with_payload": True, "offset": max(count, 1)}
        last = self.ask_qdrant("POST", f"/collections/{COLLECTION}/points/scroll", body)["points"]
        return {
            "postgres": list(row or (0, 0)),
            "mongodb": [highest["_id"] if highest else 0, self.mongodb.count_documents({})],
            "redis": [cached, cached],
            "qdrant": [last[0]["payload"]["number"] if last else 0, count],
        }


def serve(stores: Stores) -> int:
    """Take documents in until somebody asks to stop."""
    stores.prepare()
    found = stores.counters()
    if len({tuple(one) for one in found.values()}) != 1:
        print(f"the stores do not agree: {json.dumps(found)}", file=sys.stderr)
        return 1
    number = found["postgres"][0]
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    class Metrics(BaseHTTPRequestHandler):
        """What Prometheus scrapes."""

        def do_GET(self) -> None:
            body = f"# TYPE ingest_documents_total counter\ningest_documents_total {number}\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 9101), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not stopped.is_set():
        number += 1
        stores.put(number)
        time.sleep(PAUSE)
    return 0


def main() -> int:
    """Do what is asked for."""
    stores = Stores()
    if sys.argv[1:] == ["counters"]:
        stores.prepare()
        print(json.dumps(stores.counters()))
        return 0
    return serve(stores)


if __name__ == "__main__":
    sys.exit(main())
