# SPDX-License-Identifier: GPL-3.0-or-later
"""Database engines that have files in a tree open: a copy of those would be torn."""

from collections.abc import Callable, Sequence

from restaura.mounts import Holder, holders
from restaura.trees.patterns import Selection

# Files by which an engine that writes is known.
ENGINES = {
    "PostgreSQL": Selection(exclude=("pg_wal/*", "pg_xact/*", "base/*/*"), own=False),
    "MySQL or MariaDB": Selection(exclude=("ibdata1", "*.ibd", "ib_logfile*"), own=False),
    "MongoDB": Selection(exclude=("mongod.lock", "WiredTiger.wt", "WiredTiger.lock"), own=False),
    "Redis": Selection(exclude=("*.aof",), own=False),
    "etcd": Selection(exclude=("member/snap/db",), own=False),
    "LMDB": Selection(exclude=("data.mdb",), own=False),
    "Prometheus": Selection(exclude=("chunks_head/*",), own=False),
    "LevelDB or RocksDB": Selection(exclude=("MANIFEST-*",), own=False),
}


def open_databases(
    paths: Sequence[str], selection: Selection, stops: Callable[[Holder], bool] = lambda _: False
) -> list[tuple[str, str]]:
    """Return (what, fix) for every engine that has files at or below `paths`, as far as selected, open for writing.

    A process that `stops` before the files are copied does not count.
    """
    found: dict[tuple[str, int], str] = {}
    for one in holders(paths):
        if one.writing and not stops(one) and selection.takes(one.live, False):
            for engine, files in ENGINES.items():
                if not files.takes(one.live, False):
                    found.setdefault((engine, one.pid), f"{engine} ({one.name}, PID {one.pid}) writes {one.live}")
    return [
        (
            f"{what}: a copy of it would be torn",
            "exclude it and back it up as a source of its own kind, or name its unit in `stops`",
        )
        for what in found.values()
    ]
