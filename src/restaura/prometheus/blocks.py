# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks of a TSDB: what their `meta.json` and the heads of their files tell, and their fingerprint.

Formats: tsdb/docs/format/{README,index,chunks}.md of Prometheus. A block never changes once it is written.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from restaura.errors import DamagedError
from restaura.point import Depth
from restaura.trees import Entry

ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
INDEX_MAGIC = bytes.fromhex("baaad700")
# What every version from 2.0 on reads; of chunks there is only one format.
OLDEST_META, OLDEST_INDEX = 1, 2


@dataclass(frozen=True)
class Block:
    """One block. `mint` and `maxt` are in milliseconds, the latter exclusive."""

    ulid: str
    mint: int
    maxt: int
    samples: int
    series: int
    chunks: int
    tombstones: int
    meta_version: int
    index_version: int


def find(folder: Path) -> list[Block]:
    """Return the blocks at the top of a directory, oldest first; DamagedError when one cannot be read."""
    names = sorted(one.name for one in folder.iterdir() if ULID.fullmatch(one.name))
    return sorted((_read(folder / name) for name in names), key=lambda one: (one.mint, one.maxt, one.ulid))


def _read(path: Path) -> Block:
    try:
        meta = json.loads((path / "meta.json").read_text())
        with (path / "index").open("rb") as stream:
            head = stream.read(5)
        if len(head) < 5 or head[:4] != INDEX_MAGIC:
            raise ValueError("its index is none")
        stats = meta["stats"]
        return Block(
            path.name,
            int(meta["minTime"]),
            int(meta["maxTime"]),
            int(stats.get("numSamples", 0)),
            int(stats.get("numSeries", 0)),
            int(stats.get("numChunks", 0)),
            int(stats.get("numTombstones", 0)),
            int(meta["version"]),
            head[4],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"is no whole block: {error}", where=str(path)) from error


def fingerprint(
    entries: Iterable[Entry], blocks: Sequence[Block], depth: Depth
) -> tuple[dict[str, str], dict[str, int]]:
    """Return parts (one for each block's facts, with `content` one for each file's content) and counts.

    `entries` are the tree's; owners, modes and times are not the data's and do not count.
    """
    parts = {f"block {one.ulid}": _digest(asdict(one)) for one in blocks}
    files = [one for one in entries if one.type == "file"]
    if depth == "content":
        parts |= {f"tsdb/{one.path}": one.sha256 for one in files}
    counts = {
        "blocks": len(blocks),
        "series in blocks": sum(one.series for one in blocks),
        "samples": sum(one.samples for one in blocks),
        "tsdb files": len(files),
        "tsdb bytes": sum(one.size for one in files),
    }
    return parts, counts


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def formats(blocks: Sequence[Block]) -> tuple[int, int]:
    """Return the newest format of `meta.json` and of the index among blocks."""
    return (
        max((one.meta_version for one in blocks), default=OLDEST_META),
        max((one.index_version for one in blocks), default=OLDEST_INDEX),
    )


def too_old(server: tuple[int, int], writer: tuple[int, int], blocks: Sequence[Block]) -> str:
    """Say why a server of version `server` cannot read what one of version `writer` wrote; nothing when it can.

    Prometheus 3 writes what 2.55 is the oldest to read (its migration guide); native histograms came with 2.40.
    """
    if server >= writer or (0, 0) in (server, writer):
        return ""
    told = f"the server is {server[0]}.{server[1]}, and the point is from {writer[0]}.{writer[1]}"
    if writer >= (3, 0) and server < (2, 55):
        return f"{told}: data of Prometheus 3 is read by 2.55 and newer"
    if writer >= (2, 40) and server < (2, 40):
        return f"{told}: the data may hold native histograms, which 2.40 is the oldest to read"
    meta, index = formats(blocks)
    if meta > OLDEST_META or index > OLDEST_INDEX:
        return f"{told}, and has blocks of a newer format (meta.json {meta}, index {index})"
    return ""


def beyond_retention(
    blocks: Sequence[Block], seconds: float, size: int, sizes: dict[str, int], now: float
) -> tuple[list[Block], list[Block]]:
    """Return the blocks that a server with these limits (0: none) deletes at once, and those it does within hours.

    At its start it deletes what ends more than `seconds` before the newest block does, and the oldest beyond `size`
    bytes (tsdb/db.go: BeyondTimeRetention, BeyondSizeRetention). Once it has written a block of its own, which takes
    some hours, the time counts from that one.
    """
    newest_first = sorted(blocks, key=lambda one: one.maxt, reverse=True)
    limit = seconds * 1000
    at_once = [one for one in newest_first if seconds and newest_first[0].maxt - one.maxt > limit]
    total = 0
    for one in newest_first:
        total += sizes.get(one.ulid, 0)
        if size and total > size and one not in at_once:
            at_once.append(one)
    soon = [one for one in newest_first if seconds and now * 1000 - one.maxt > limit and one not in at_once]
    return at_once, soon
