# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Analyst IA is in order: test_system_integrity.py [--root DIR] [cache|connections|collector|entities|tokens]…

It looks at the data below `--root` (default: where it stands itself) and changes nothing. Ends with 1 when something is
wrong, and says what.
"""

import argparse
import contextlib
import json
import sqlite3
from pathlib import Path

from utils import entity_processor, newrelic_advanced_collector, settings, token_economy


def cache(root: Path) -> str:
    """Every cache is JSON with its time, and the history's file is whole."""
    files = sorted((root / "backend/historico").glob("*.json"))
    if not files:
        raise ValueError("there is no cache")
    for path in files:
        if "timestamp" not in json.loads(path.read_text()):
            raise ValueError(f"{path.name} has no timestamp")
    with contextlib.closing(token_economy.opened(root / "backend/historico/interactions.db", readonly=True)) as history:
        found = history.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        raise ValueError(f"interactions.db: {found}")
    return f"{len(files)} caches"


def connections(root: Path) -> str:
    """New Relic and OpenAI answer to the keys in `.env`."""
    known = settings.load(root)
    settings.ask(f"{known['NEW_RELIC_URL']}/entities?domain=APM&page=1", {"Api-Key": known["NEW_RELIC_API_KEY"]})
    settings.ask(f"{known['OPENAI_URL']}/models", {"Authorization": f"Bearer {known['OPENAI_API_KEY']}"})
    return "New Relic and OpenAI answer"


def collector(_root: Path) -> str:
    """The collector follows every page."""
    newrelic_advanced_collector.self_test()
    return "collects every page"


def entities(root: Path) -> str:
    """The cache can be processed."""
    return f"{len(entity_processor.process(root / 'backend/historico'))} entities"


def tokens(root: Path) -> str:
    """The history has no gap, and the reports agree that tokens are saved."""
    found = token_economy.check(root / "backend/historico/interactions.db", root / "relatorios")
    return f"{found['tokens_saved']} tokens saved in {found['requests']} requests"


PARTS = {one.__name__: one for one in (cache, connections, collector, entities, tokens)}


def main() -> int:
    """Look at the parts asked for, or at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    wrong = 0
    for name in options.parts or PARTS:
        try:
            print(f"ok    {name}: {PARTS[name](options.root)}")
        except (OSError, ValueError, KeyError, TypeError, sqlite3.Error) as error:
            wrong = 1
            print(f"WRONG {name}: {error!r}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
