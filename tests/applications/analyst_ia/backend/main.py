# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyst IA: collects, answers questions, saves tokens, and says over HTTP how it is."""

import contextlib
import http.server
import json
import logging
import signal
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils import entity_processor, newrelic_advanced_collector, settings, token_economy

ROOT = Path(__file__).parents[1]
CACHE, REPORTS = ROOT / "backend/historico", ROOT / "relatorios"
STOPPING = threading.Event()
LOG = logging.getLogger("analyst_ia")


def collect() -> None:
    """Refresh the cache every second; when New Relic cannot be reached, the last one stays."""
    while not STOPPING.is_set():
        try:
            LOG.info("collected %d entities", newrelic_advanced_collector.refresh(ROOT))
        except (OSError, ValueError, KeyError) as error:
            LOG.warning("the collector failed, the last cache stays: %s", error)
        STOPPING.wait(1)


def answer_questions() -> None:
    """Ask OpenAI about one entity after the other, and keep what was said."""
    known = settings.load(ROOT)
    headers = {"Authorization": f"Bearer {known['OPENAI_API_KEY']}"}
    turn = 0
    with contextlib.closing(token_economy.opened(CACHE / "interactions.db")) as history:
        while not STOPPING.wait(0.05):
            try:
                entities = entity_processor.process(CACHE)
                one = entities[turn % len(entities)]
                turn += 1
                question = f"Is {one['name']} healthy?"
                said = settings.ask(
                    f"{known['OPENAI_URL']}/chat/completions",
                    headers,
                    {"messages": [{"role": "user", "content": f"{question} {json.dumps(one)}"}]},
                )
            except (OSError, ValueError, KeyError) as error:
                LOG.warning("no answer: %s", error)
                STOPPING.wait(0.5)
                continue
            without = sum(path.stat().st_size for path in CACHE.glob("entities_*.json")) // 4
            text = said["choices"][0]["message"]["content"]
            number = token_economy.add(history, question, text, without, said["usage"]["total_tokens"])
            LOG.info("interaction %d: %s", number, question)
            today = f"{datetime.now(UTC):%Y-%m-%d}"
            settings.write(REPORTS / f"token_economy_{today}.json", token_economy.economy(history, today))


def health() -> dict[str, Any]:
    """Return how the application is, from its data."""
    entities = entity_processor.process(CACHE)
    with contextlib.closing(token_economy.opened(CACHE / "interactions.db", readonly=True)) as history:
        return {"status": "ok", "entities": len(entities), **token_economy.economy(history)}


def interactions() -> list[dict[str, Any]]:
    """Return the first interactions."""
    with contextlib.closing(token_economy.opened(CACHE / "interactions.db", readonly=True)) as history:
        rows = history.execute("SELECT id, question, answer FROM interactions ORDER BY id LIMIT 5").fetchall()
    return [dict(zip(("id", "question", "answer"), row, strict=True)) for row in rows]


class Api(http.server.BaseHTTPRequestHandler):
    """What is asked over HTTP."""

    def do_GET(self) -> None:
        """Answer from the data, or say what is wrong with it."""
        known = {"/health": health, "/entities": lambda: entity_processor.process(CACHE), "/interactions": interactions}
        answer = known.get(self.path, lambda: {"paths": sorted(known)})
        try:
            status, found = 200 if self.path in known else 404, answer()
        except (OSError, ValueError, KeyError, sqlite3.Error) as error:
            status, found = 500, {"status": "degraded", "why": str(error)}
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep requests out of the journal."""


def main() -> None:
    """Work until told to stop."""
    logging.basicConfig(
        filename=ROOT / "backend/logs/analyst_ia.log", level=logging.INFO, format="%(asctime)s %(message)s"
    )
    workers = [threading.Thread(target=work) for work in (collect, answer_questions)]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(settings.load(ROOT)["PORT"])), Api)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    for worker in workers:
        worker.start()
    server.serve_forever()
    STOPPING.set()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
