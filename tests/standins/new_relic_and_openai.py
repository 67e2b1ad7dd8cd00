# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for New Relic's and OpenAI's HTTP interfaces, as far as Analyst IA asks: new_relic_and_openai.py PORT.

It knows no more than this: entities come in pages of 20 with their metrics, an answer costs tokens, and a wrong key is
answered with 401. The real services cannot be had in a test.
"""

import http.server
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGES = {"APM": 3, "BROWSER": 1, "INFRA": 2}
KEYS = {"newrelic": ("Api-Key", "NRAK-of-the-lab"), "openai": ("Authorization", "Bearer sk-of-the-lab")}


def entities(domain: str, page: int) -> dict[str, Any]:
    """Return a page of a domain's entities; `next` is 0 on the last."""
    found = [
        {
            "guid": f"{domain}-{page}-{number}",
            "name": f"{domain.lower()}-service-{page * 20 + number}",
            "metrics": [{"minute": at, "error_rate": ((number + at) % 7) / 100} for at in range(30)],
        }
        for number in range(20)
    ]
    return {"entities": found, "next": page + 1 if page < PAGES[domain] else 0}


class Services(http.server.BaseHTTPRequestHandler):
    """Both services, each below its own path."""

    def do_GET(self) -> None:
        """Answer `/newrelic/entities?domain=D&page=N` and `/openai/models`."""
        url = urlsplit(self.path)
        if url.path == "/newrelic/entities":
            asked = parse_qs(url.query)
            self._answer(entities(asked["domain"][0], int(asked["page"][0])))
        else:
            self._answer({"data": [{"id": "gpt-of-the-lab"}]})

    def do_POST(self) -> None:
        """Answer `/openai/chat/completions`."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][-1]["content"]
        usage = {"total_tokens": len(text) // 4 + 12}
        self._answer({"choices": [{"message": {"content": f"Yes: {text[:40]}"}}], "usage": usage})

    def _answer(self, data: dict[str, Any]) -> None:
        header, key = KEYS.get(self.path.split("/")[1], ("Host", ""))
        known = self.headers[header] == key
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps(data if known else {"error": "wrong key"}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Services).serve_forever()
