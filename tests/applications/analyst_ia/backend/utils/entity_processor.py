# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of the collector's caches what is worth asking about: entity_processor.py DIRECTORY."""

import json
import sys
from pathlib import Path
from typing import Any


def process(cache: Path) -> list[dict[str, Any]]:
    """Return every entity of the caches in `cache` with its health; ValueError names what cannot be processed."""
    totals = json.loads((cache / "cache.json").read_text())["entities"]
    found = []
    for domain, count in totals.items():
        path = cache / f"entities_{domain.lower()}.json"
        entities = json.loads(path.read_text())["entities"]
        if len(entities) != count:
            raise ValueError(f"{path.name} has {len(entities)} entities, cache.json says {count}")
        for one in entities:
            if not one.get("guid") or not one.get("metrics"):
                raise ValueError(f"{path.name}: an entity without guid or metrics: {one.get('name')}")
            errors = sum(point["error_rate"] for point in one["metrics"]) / len(one["metrics"])
            found.append({"guid": one["guid"], "name": one["name"], "domain": domain, "healthy": errors < 0.05})
    if not found:
        raise ValueError("the cache holds no entity")
    return found


def main(directory: str) -> None:
    """Print a summary of a cache."""
    try:
        entities = process(Path(directory))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"the cache cannot be processed: {error!r}")
    print(json.dumps({"entities": len(entities), "healthy": sum(one["healthy"] for one in entities)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
