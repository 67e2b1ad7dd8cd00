# SPDX-License-Identifier: GPL-3.0-or-later
"""Points made of nothing but their manifests, for tests of the rules over them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from restaura.point import ComponentRecord, Manifest, Record
from restaura.stores import StoredPoint


def make_point(
    at: datetime,
    components: Mapping[str, str],
    records: Iterable[tuple[str, Mapping[str, str]]] = (),
    *,
    suffix: str = "0000000000",
    host: str = "web1",
    plan: str = "daily",
    config: Mapping[str, Any] | None = None,
    damage: str = "",
) -> StoredPoint:
    """Return a point that began at `at`, with each component's state, and (kind, results) records, oldest first."""
    point_id = f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{suffix}"
    label, stamp = f"{at:%Y-%m-%d}", at.isoformat()
    parts = [ComponentRecord(name, "files", state) for name, state in components.items()]
    manifest = Manifest(point_id, label, host, "i", plan, stamp, stamp, "0", 1, dict(config or {}), parts)
    found = tuple(
        Record(point_id, kind, (at + timedelta(minutes=n)).isoformat(), dict(results))
        for n, (kind, results) in enumerate(records, 1)
    )
    return StoredPoint(point_id, host, plan, label, {}, None if damage else manifest, found, damage)
