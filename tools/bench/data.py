# SPDX-License-Identifier: GPL-3.0-or-later
"""The data that is backed up: made from a seed, and as compressible as real data (zstd makes it half as large)."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tools.bench.running import CLUSTER, sql, stream_in

PLACE = Path("/srv/bench")
TREE = PLACE / "tree"
DATABASE = "bench"
SMALL = [f"small_{number:03}" for number in range(100)]
FULL_TREE_BYTES, FULL_TREE_FILES, FULL_DATABASE_BYTES = 2 << 30, 50_000, 1 << 30
# Bytes that one round of rows takes on the server's disk, indexes included, and how many rounds make a COPY.
_ROUND_BYTES = 9_600
_TABLES = """
    CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, what jsonb NOT NULL);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, at timestamptz NOT NULL, total numeric(10, 2),
        note text);
    CREATE TABLE documents (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL);
    CREATE TABLE pictures (id bigint PRIMARY KEY, data bytea NOT NULL);
"""
_INDEXES = """
    CREATE INDEX ON events (at); CREATE INDEX ON orders (customer, at); CREATE INDEX ON documents (title);
    ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES events (id);
    ANALYZE;
"""
_EVENTS, _ORDERS = 12, 8


@cache
def _running_text() -> str:
    """Return ten megabytes of words, few of them frequent and many rare, as in any language."""
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlucmfwyp", k=chance.randint(2, 11))) for _ in range(20_000)]
    return " ".join(chance.choices(words, [1 / (rank + 3) for rank in range(len(words))], k=1_500_000))


class Maker:
    """Makes words, text and noise from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._pool = _running_text()

    def words(self, size: int) -> str:
        """Return about `size` characters of running text."""
        parts, left = [], size
        while left > 0:
            some = min(left, self.random.randint(40, 400))
            start = self.random.randrange(len(self._pool) - some)
            parts.append(self._pool[start : start + some])
            left -= some
        return "".join(parts)

    def content(self, size: int) -> bytes:
        """Return a file's content: text, noise (what is compressed already: pictures, archives), or lines of a log."""
        kind = self.random.random()
        if kind < 0.4:
            return self.random.randbytes(size)
        if kind < 0.8 or size < 200:
            return self.words(size).encode()[:size]
        lines, length = [], 0
        while length < size:
            second = self.random.randrange(86_400)
            stamp = f"2026-11-{second % 28 + 1:02} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            line = f"{stamp} worker[{second % 97}] {self.words(60)} status={second % 5}\n"
            lines.append(line)
            length += len(line)
        return "".join(lines).encode()[:size]


def make_tree(scale: float) -> None:
    """Make the tree: sizes as in a home directory, most files small and most bytes in few, 200 files to a folder."""
    shutil.rmtree(TREE, ignore_errors=True)
    maker, files = Maker(1), int(FULL_TREE_FILES * scale)
    sizes = [maker.random.lognormvariate(8.5, 2.0) for _ in range(files)]
    factor = FULL_TREE_BYTES * scale / sum(sizes)
    for number, size in enumerate(sizes):
        path = _file(number)
        if number % 200 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(maker.content(max(1, int(size * factor))))


def change_tree(scale: float) -> None:
    """Change 1 % of the files: most are written anew, some grow, some go, and as many come."""
    maker, files = Maker(2), int(FULL_TREE_FILES * scale)
    for number in maker.random.sample(range(files), max(4, files // 100)):
        path, act = _file(number), maker.random.random()
        if act < 0.6:
            path.write_bytes(maker.content(path.stat().st_size))
        elif act < 0.8:
            with path.open("ab") as out:
                out.write(maker.content(5_000))
        else:
            path.rename(path.with_name(f"new {number}"))


def _file(number: int) -> Path:
    return TREE / f"group {number // 10_000}" / f"folder {number // 200:04}" / f"file {number:06}.dat"


def make_database(scale: float) -> None:
    """Make the database: JSON events, orders, documents and pictures, with keys and indexes."""
    sql("postgres", f"DROP DATABASE IF EXISTS {DATABASE}", f"CREATE DATABASE {DATABASE}")
    sql(DATABASE, _TABLES)
    rounds = int(FULL_DATABASE_BYTES * scale / _ROUND_BYTES)
    _fill(DATABASE, Maker(3), 0, rounds)
    sql(DATABASE, _INDEXES)
    sql(DATABASE, "VACUUM", "CHECKPOINT")


def change_database(scale: float) -> None:
    """Change 1 % of the rows: half are new, half are old ones that lie together."""
    rounds = int(FULL_DATABASE_BYTES * scale / _ROUND_BYTES)
    some = max(1, rounds // 200)
    _fill(DATABASE, Maker(4), rounds, rounds + some)
    first = rounds // 3
    sql(
        DATABASE,
        f"""UPDATE events SET kind = 'seen' WHERE id >= {first * _EVENTS} AND id < {(first + some) * _EVENTS}""",
        f"""UPDATE orders SET note = 'sent' WHERE id >= {first * _EVENTS} AND id < {(first + some) * _EVENTS}""",
        f"""UPDATE documents SET body = body || ' (edited)' WHERE id >= {first} AND id < {first + some}""",
        "CHECKPOINT",
    )


def make_small(scale: float) -> None:
    """Make the small databases: eight tables each, a megabyte or so."""
    names = SMALL[: max(3, int(len(SMALL) * scale))]
    sql("postgres", *(f"DROP DATABASE IF EXISTS {name}" for name in [*SMALL, "small_seed"]))
    sql("postgres", "CREATE DATABASE small_seed")
    sql("small_seed", _TABLES)
    for number in range(4):
        sql(
            "small_seed",
            f"CREATE TABLE setting_{number} (name text PRIMARY KEY, value text NOT NULL DEFAULT '')",
            f"INSERT INTO setting_{number} SELECT 'name ' || n, md5(n::text) FROM generate_series(1, 200) n",
        )
    _fill("small_seed", Maker(5), 0, 60)
    sql("small_seed", _INDEXES)
    for number, name in enumerate(names):
        sql("postgres", f"CREATE DATABASE {name} TEMPLATE small_seed")
        _fill(name, Maker(100 + number), 60, 100)
    sql("postgres", "DROP DATABASE small_seed", "CHECKPOINT")


def change_small(scale: float) -> None:
    """Change one of the small databases in a hundred."""
    for name in SMALL[: max(1, int(len(SMALL) * scale) // 100)]:
        _fill(name, Maker(6), 100, 110)
    sql("postgres", "CHECKPOINT")


def _fill(database: str, maker: Maker, first: int, last: int) -> None:
    """Copy rounds of rows into the tables."""
    for table, rows in (("events", _events), ("orders", _orders), ("documents", _documents), ("pictures", _pictures)):
        stream_in(database, f"COPY {table} FROM STDIN", rows(maker, first, last))


def _at(number: int) -> str:
    day = f"2026-{number // 86_400 % 12 + 1:02}-{number // 3_600 % 28 + 1:02}"
    return f"{day} {number // 60 % 24:02}:{number % 60:02}:00+00"


def _events(maker: Maker, first: int, last: int) -> Iterator[str]:
    for number in range(first * _EVENTS, last * _EVENTS):
        what = {
            "user": number * 7 % 9_973,
            "path": f"/{maker.words(12).strip()}/{number % 400}",
            "agent": f"Mozilla/5.0 ({number % 13})",
            "took": maker.random.randrange(5_000),
            "text": maker.words(90),
        }
        yield f"{number}\t{_at(number)}\t{('view', 'click', 'buy', 'leave')[number % 4]}\t{json.dumps(what)}\n"


def _orders(maker: Maker, first: int, last: int) -> Iterator[str]:
    for number in range(first, last):
        for item in range(_ORDERS):
            key = number * _EVENTS + item
            total = maker.random.randrange(100_000) / 100
            yield f"{key}\t{key * 31 % 20_011}\t{_at(key)}\t{total:.2f}\t{maker.words(30)}\n"


def _documents(maker: Maker, first: int, last: int) -> Iterator[str]:
    for number in range(first, last):
        yield f"{number}\t{maker.words(40)}\t{maker.words(maker.random.randint(500, 2_600))}\n"


def _pictures(maker: Maker, first: int, last: int) -> Iterator[str]:
    for number in range(first, last, 8):
        yield f"{number}\t\\\\x{maker.random.randbytes(11_000).hex()}\n"


def drop_pages(*more: Path) -> None:
    """Write back what is dirty, and drop the pages of the data and of all repositories: every run begins alike."""
    os.sync()
    for top in (PLACE, CLUSTER, *more):
        for folder, _, names in os.walk(top):
            for name in names:
                try:
                    descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                except OSError:
                    continue
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                except OSError:
                    continue
                finally:
                    os.close(descriptor)
