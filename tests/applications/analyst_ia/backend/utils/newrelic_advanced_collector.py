# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects entities and their metrics from New Relic, page by page, into a JSON cache for each domain."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from utils import settings

Fetch = Callable[[str, int], Any]
DOMAINS = ("APM", "BROWSER", "INFRA")


def collect(domain: str, fetch: Fetch) -> dict[str, Any]:
    """Return the cache of one domain; `fetch` gives a page of it."""
    entities: list[dict[str, Any]] = []
    page = 1
    while page:
        answer = fetch(domain, page)
        entities += answer["entities"]
        page = answer["next"]
    return {"timestamp": datetime.now(UTC).isoformat(), "domain": domain, "entities": entities}


def refresh(root: Path) -> int:
    """Collect every domain into the caches below `root`, and return how many entities there are."""
    known = settings.load(root)
    headers = {"Api-Key": known["NEW_RELIC_API_KEY"]}

    def fetch(domain: str, page: int) -> Any:
        return settings.ask(f"{known['NEW_RELIC_URL']}/entities?domain={domain}&page={page}", headers)

    counts = {}
    for domain in DOMAINS:
        cache = collect(domain, fetch)
        settings.write(root / f"backend/historico/entities_{domain.lower()}.json", cache)
        counts[domain] = len(cache["entities"])
    settings.write(
        root / "backend/historico/cache.json", {"timestamp": datetime.now(UTC).isoformat(), "entities": counts}
    )
    return sum(counts.values())


def self_test() -> None:
    """Collect from two pages made up here: no network, no cache."""
    pages = {1: {"entities": [{"guid": "a"}], "next": 2}, 2: {"entities": [{"guid": "b"}], "next": 0}}
    found = collect("APM", lambda _domain, page: pages[page])
    if [one["guid"] for one in found["entities"]] != ["a", "b"]:
        sys.exit(f"the collector lost a page: {found}")


if __name__ == "__main__":
    self_test()
    print("the collector follows every page")
