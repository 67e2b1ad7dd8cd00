# SPDX-License-Identifier: GPL-3.0-or-later
"""The freeze of collections: a snapshot of each, made at the same time; then each is copied, read back and let go."""

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from restaura.errors import RestauraError, SourceError
from restaura.hold import Hold
from restaura.journal import Journal
from restaura.point import Depth, Fingerprint, safe_name
from restaura.qdrant import fingerprint
from restaura.qdrant.server import STAGE, Server, Snapshot, gone, stamp
from restaura.sources import Artifact, Outcome, Stream
from restaura.stores.tar import Chunks
from restaura.trees import Index
from restaura.web import AnswerError

OWNER = "source:qdrant"
SNAPSHOT, EXPORT, ALIASES = "snapshot.snapshot", "export.json", "aliases.json"
THREADS = 4  # collections that are frozen at the same time
ROUNDS = 3
# How long a snapshot may take to be listed whose making outlived us, and how far the clocks may differ.
WAIT_SECONDS, SKEW_SECONDS = 30.0, 120.0


@dataclass
class Frozen:
    """One collection at its instant. `folder` is where its artifacts are; `count` is None where that changed."""

    name: str
    folder: str
    info: dict[str, Any]
    count: int | None
    snapshot: Snapshot
    points: fingerprint.Points = field(default_factory=fingerprint.Points)

    @property
    def structure(self) -> dict[str, Any]:
        """Settings and payload indexes."""
        return fingerprint.structure(self.info)


class FrozenCollections:
    """Collections of which a snapshot lies on the server."""

    hold: Hold | None = None

    def __init__(self, server: Server, journal: Journal, depth: Depth, stage_id: str, *, export: bool, flat: bool):
        self._server, self._journal, self._depth, self._id = server, journal, depth, stage_id
        self._export, self._flat = export, flat
        self.collections: list[Frozen] = []
        self.aliases: dict[str, str] = {}
        self.notes: list[str] = []
        self._lock = threading.Lock()
        self._made: dict[str, str] = {}
        owed = {"server": server.to_json(), "stage": stage_id, "asked": {}, "made": {}}
        self._debt = journal.write(OWNER, "freeze", owed)

    # The freeze

    def freeze(self, listed: Callable[[], list[str]], *, chosen: bool) -> None:
        """Make a snapshot of every collection; those that come or go meanwhile are seen, unless names were `chosen`.

        Before one is made the journal knows which were there already, and when it was asked for.
        """
        begun = time.monotonic()
        names = wanted = listed()
        seen: set[str] = set()
        for _ in range(ROUNDS):
            seen |= set(wanted)
            with ThreadPoolExecutor(THREADS) as pool:
                found = list(pool.map(partial(self._freeze_one, chosen=chosen), wanted))
            self.collections += [one for one in found if one is not None]
            wanted = [] if chosen else [one for one in listed() if one not in seen]
            if not wanted:
                break
        else:
            raise SourceError(
                "collections are created faster than snapshots can be made",
                where=self._server.where,
                fix="pause what creates them (`pause` of the plan), or name `collections` of the component",
            )
        self._tell(names, time.monotonic() - begun)
        self._owe()

    def _tell(self, names: list[str], seconds: float) -> None:
        present = {one.name for one in self.collections}
        if dropped := sorted(set(names) - present):
            self.notes.append(f"dropped while the backup ran, and not in this point: {', '.join(dropped)}")
        self.collections.sort(key=lambda one: one.name)
        self.aliases = {alias: name for alias, name in self._server.aliases().items() if name in present}
        if len(self.collections) > 1:
            self.notes.append(
                f"each of the {len(self.collections)} collections is from a moment of its own, all from within "
                f"{seconds:.1f} s: that is one moment only where nothing wrote meanwhile (`pause` of the plan)"
            )

    def _freeze_one(self, name: str, *, chosen: bool) -> Frozen | None:
        """Make a snapshot of a collection; None when it was dropped meanwhile."""
        try:
            known = [one.name for one in self._server.snapshots(name)]
            before = self._server.count(name)
            self._owe(asked={name: {"known": known, "since": time.time()}})
            snapshot = self._server.make_snapshot(name)
            self._made[name] = snapshot.name
            info = self._server.info(name)
            count = self._server.count(name)
        except AnswerError as error:
            if not chosen and error.status == 404 and name not in self._server.all_collections():
                return None
            raise
        folder = "" if self._flat else f"{safe_name(name)}/"
        return Frozen(name, folder, info, count if count == before else None, snapshot)

    def _owe(self, asked: Mapping[str, Any] | None = None) -> None:
        """Journal which snapshots are asked for, and which were made."""
        with self._lock:
            owed = {**self._debt.data, "made": dict(self._made)}
            owed["asked"] = {**owed["asked"], **(asked or {})}
            self._debt = self._journal.update(self._debt, owed)

    def close(self) -> None:
        """Remove every snapshot and copy that is still there; what cannot be removed stays owed."""
        for name, one in self._made.items():
            self._server.delete_snapshot(name, one)
        drop_stages(self._server, self._id)
        self._journal.settle(self._debt)

    # The copy

    def artifacts(self) -> Iterator[Artifact]:
        """Yield snapshot and export of each collection; its snapshot on the server goes as soon as both are copied."""
        for number, one in enumerate(self.collections):
            # Of the data's size the export tells more: a snapshot holds logs, and files that are allocated ahead.
            opened = partial(self._server.download, one.snapshot)
            yield Stream(one.folder + SNAPSHOT, opened, expected_bytes=one.snapshot.size or None, varies=self._export)
            if self._export or self._depth == "content":
                with self._copy(one, number) as copy:
                    if self._export:
                        # A float32 in JSON is about five times as long.
                        size = 5 * one.snapshot.size or None
                        yield Stream(one.folder + EXPORT, partial(self._exported, one, copy), expected_bytes=size)
                    else:
                        one.points = fingerprint.summed(self._server.points(copy))
                self._check(one)
            self._server.delete_snapshot(one.name, one.snapshot.name)
        described = json.dumps(self.description(), indent=1, ensure_ascii=False).encode() + b"\n"
        yield Stream(ALIASES, lambda: contextlib.closing(io.BytesIO(described)))

    @contextlib.contextmanager
    def _copy(self, one: Frozen, number: int) -> Iterator[str]:
        """Yield the name of a collection that is made of the snapshot: what can be read there was the frozen moment."""
        name = f"{STAGE}{self._id}_{number}"
        try:
            with self._server.download(one.snapshot) as stream:
                self._server.recover(name, stream, one.snapshot.size, one.snapshot.checksum)
            differing = _differing(one.structure, fingerprint.structure(self._server.info(name)))
            if differing:
                raise SourceError(
                    f"the snapshot of collection {one.name!r} does not hold this as the server has it: "
                    + ", ".join(differing[:10]),
                    where=self._server.where,
                    fix="if the collection was changed meanwhile, run again, with a `pause` in the plan",
                )
            yield name
        except BaseException:
            with contextlib.suppress(RestauraError):
                self._server.drop(name)
            raise
        self._server.drop(name)

    @contextlib.contextmanager
    def _exported(self, one: Frozen, copy: str) -> Iterator[IO[bytes]]:
        """Yield collection `copy` as JSON, a point a line, and sum up the points on the way."""
        one.points = fingerprint.Points()
        chunks = _exporting(one, self._server.points(copy))
        with contextlib.closing(chunks), io.BufferedReader(Chunks(chunks), 1 << 18) as stream:
            yield stream

    def _check(self, one: Frozen) -> None:
        if one.count is not None and one.points.count != one.count:
            raise SourceError(
                f"the snapshot of collection {one.name!r} holds {one.points.count} points; the server counted "
                f"{one.count} before and after it was made",
                where=self._server.where,
                fix="if something writes to it, give the plan a `pause`; if nothing does, look into the server's log",
            )

    def _points(self, one: Frozen) -> int | None:
        """Return how many points the snapshot holds; None when it was not read, and the collection moved."""
        return one.points.count if self._export or self._depth == "content" else one.count

    def description(self) -> dict[str, Any]:
        """Return `aliases.json`: the aliases, and what a restore needs to know of each collection."""
        return {
            "aliases": [{"alias_name": alias, "collection_name": name} for alias, name in sorted(self.aliases.items())],
            "collections": [
                {
                    "name": one.name,
                    "snapshot": one.folder + SNAPSHOT,
                    "points": self._points(one),
                    "config": one.info["config"],
                    "payload_schema": one.info.get("payload_schema") or {},
                }
                for one in self.collections
            ],
        }

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:  # noqa: ARG002 - the contract's
        """Return the fingerprint; the consistency is that of each collection, and the notes tell of them together."""
        parts, counts = fingerprint.alias_parts(self.aliases), {}
        for one in self.collections:
            parts |= fingerprint.structure_parts(one.name, one.structure)
            if self._depth == "content":
                parts |= fingerprint.point_parts(one.name, one.points)
            if (count := self._points(one)) is not None:
                counts[f"{one.name}: points"] = count
        return Outcome(Fingerprint(fingerprint.ALGORITHM, self._depth, parts, counts), "snapshot", self.notes)


def _exporting(one: Frozen, points: Iterator[dict[str, Any]]) -> Generator[bytes, None, None]:
    head = {
        "collection": one.name,
        "config": one.info["config"],
        "payload_schema": one.info.get("payload_schema") or {},
    }
    yield json.dumps(head, ensure_ascii=False)[:-1].encode() + b', "points": ['
    comma = b"\n"
    for point in points:
        one.points.add(point)
        yield comma + json.dumps(point, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
        comma = b",\n"
    yield b"\n]}\n"


def _differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))


def drop_stages(server: Server, stage_id: str) -> None:
    """Delete every collection that was made under an id."""
    for name in server.all_collections():
        if name.startswith(f"{STAGE}{stage_id}_"):
            server.drop(name)


def take_back(data: dict[str, Any]) -> None:
    """Remove what a dead backup left on the server: copies, snapshots, and a snapshot that is perhaps still being made.

    The server goes on making a snapshot that was asked for. Which one is ours, when we died before we were told, is the
    first that was not there before and was begun when ours was; a person's own is never taken for it.
    """
    server = Server.from_json(data["server"])
    drop_stages(server, data["stage"])
    for name, one in data["made"].items():
        server.delete_snapshot(name, one)
    deadline = time.monotonic() + WAIT_SECONDS
    for name, one in data["asked"].items():
        if name not in data["made"]:
            delete_first_new(server, name, one["known"], one["since"], deadline)


def delete_first_new(server: Server, name: str, known: list[str], since: float, deadline: float) -> None:
    """Delete the first snapshot that was not there before and was begun at `since`, once it is listed.

    SourceError when it is not by the `deadline` (of the monotonic clock), and may still come.
    """
    while True:
        found: list[Snapshot] = []
        with gone():
            found = server.snapshots(name)
        begun = {one.name: stamp(one.name) for one in found if one.name not in known}
        ours = [one for one, at in begun.items() if abs(at - since) <= SKEW_SECONDS]
        if ours:
            server.delete_snapshot(name, min(ours, key=lambda name: begun[name]))
            return
        if time.time() - since > server.seconds or name not in server.all_collections():
            return
        if time.monotonic() > deadline:
            raise SourceError(
                f"a snapshot of collection {name!r} is perhaps still being made",
                where=server.where,
                fix="it is looked for again by: restaura recover",
            )
        time.sleep(0.5)
