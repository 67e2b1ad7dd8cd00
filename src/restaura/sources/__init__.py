# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a source, and the registry: every module of this folder is one kind of source, its `SOURCE`."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, get_args

from restaura.hold import Hold
from restaura.point import ComponentRecord, Consistency, Depth, Fingerprint
from restaura.trees import Index

UNLIMITED = 86_400.0
INDEX_SUFFIX = ".index.jsonl"  # of the artifact that holds a tree's index

if TYPE_CHECKING:
    from pathlib import Path

    from restaura.config.schema import Component
    from restaura.host import Host


@dataclass(frozen=True)
class Stream:
    """An artifact that is one stream of bytes.

    `open` yields a readable binary stream; leaving the context raises SourceError when the producer failed, and the
    pipeline leaves it *before* it commits any store's copy. `secret` streams are never stored in the clear.
    `expected_bytes` 0 says that the stream may be empty; another empty one makes its component suspect. The size of a
    stream that `varies` says nothing of the data's: the shrink guard does not look at it.
    """

    name: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    secret: bool = False
    expected_bytes: int | None = None
    varies: bool = False


@dataclass(frozen=True)
class Tree:
    """An artifact that is a file tree: exactly the entries of `index`, found below `base`.

    Entry paths are relative to `base`. A store keeps the tree in its own way; what it kept is settled against
    the index afterwards (`trees.settle`), so the index that is stored says what this store holds.

    A `held` tree stands still only while the freeze lasts, and every second of that counts. It is read in two passes:
    `Source.prepare` returns it as it moves, with its index; the freeze yields it once more, under the same name, with
    the index of a second scan. Only one store reads it then, or a copy in the spool is brought up to date; everything
    else, settling too, happens after `Hold.release`. Held trees of one component are read at the same time, and are
    all read only when `artifacts` has ended.

    A small tree may be `expanded`: a dated store keeps its files as plain files in that folder of the component (`""`:
    the component's own), at their paths below `top` (a directory relative to `base`, `""`: `base` itself). Where names
    or their number do not allow it, the tree is one archive all the same, and a note of the component says why.

    A `gzip` tree is NAME.tar.gz in a dated store, which any system unpacks, however the store compresses.
    """

    name: str
    base: "Path"
    index: Index
    secret: bool = False
    held: bool = False
    expanded: str | None = None
    top: str = ""
    gzip: bool = False


Artifact = Stream | Tree


@dataclass(frozen=True)
class Probe:
    """What a source says of itself before anything is touched.

    `problems` are (what, fix) pairs that stop the component; `warnings` are told and do not stop it. `bytes` is the
    expected size of a copy, 0 when unknown.
    """

    versions: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    consistency: Consistency | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What was captured, known once the last artifact was copied. `doubts` make the component suspect."""

    fingerprint: Fingerprint
    consistency: Consistency
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


class Frozen(Protocol):
    """A component that holds still.

    `hold` is what was stopped for it, if anything was. The pipeline releases that as soon as the last byte is read,
    before it leaves the context.
    """

    hold: Hold | None

    def artifacts(self) -> Iterator[Artifact]:
        """Yield the artifacts.

        Each is copied whole before the next is asked for, so what it held can be released; only held trees are not.
        """

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:
        """Return what one store captured; `indexes` are that store's settled indexes by tree artifact name.

        With a `hold`, it is asked for after the release.
        """


@dataclass(frozen=True)
class Target:
    """Where a restore goes: `live`, `dir` (value: a path), `name` (value: another name), `scratch` (a drill).

    `data` is the source's own: what `scratch` made, which parts were asked for (`paths`, `databases`).
    """

    kind: str
    value: str = ""
    paths: Sequence[str] = ()
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Staged:
    """Restored data that stands beside the live data. `data` is JSON, and enough to compare, swap or remove it.

    `part` says that not all of the component was asked for, and that its fingerprint names only the parts that were;
    `compared` that `stage` compared what it built itself, entry by entry.
    """

    target: Target
    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    part: bool = False
    compared: bool = False


class PointReader(Protocol):
    """One component of one point, as one store holds it. Every read is checked against the signed manifest."""

    @property
    def point_id(self) -> str:
        """The point's id."""

    @property
    def component(self) -> ComponentRecord:
        """What the signed manifest says of the component."""

    def names(self) -> list[str]:
        """Return the names of the artifacts, tree indexes left out."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield a stream artifact; leaving the context after the last byte raises DamagedError on a wrong hash."""

    def index(self, name: str) -> Index:
        """Return the settled index of the tree artifact `name`."""

    def restore_tree(self, name: str, destination: "Path", paths: Sequence[str] | None = None) -> None:
        """Unpack the tree `name` (or the entries at and below `paths`) into the existing empty `destination`."""


class Source(Protocol):
    """One configured source on this host: built from its options for each run, and thrown away after it."""

    def __init__(self, options: Any, host: "Host") -> None: ...

    def probe(self) -> Probe:
        """Say whether the source answers and what is missing; change nothing."""

    def prepare(self, depth: Depth) -> Sequence[Tree]:
        """Do the long work that needs no stillness, and return the trees that will be held, scanned as they move.

        They are scanned after `trees.flush`, and told so: then a file that is written to through a mapping tells by its
        times. What is only paused keeps its mappings: there `trees.flush` is called once more while it is.
        """

    def freeze(self, depth: Depth, stop_limit: float = UNLIMITED) -> AbstractContextManager[Frozen]:
        """Hold still; leaving the context always lets go and cleans up.

        What has to be stopped for that is stopped by a `Hold`, for `stop_limit` seconds at most.
        """

    def scratch(self) -> AbstractContextManager[Target]:
        """Make a throw-away target for a drill, and remove it."""

    def stage(self, point: PointReader, target: Target) -> Staged:
        """Build the point's data at or beside `target`; live data is untouched.

        What is built is journaled first (owner `source:KIND`, act `stage`), and `data["debt"]` of the result is that
        debt's id: whoever swaps or removes the staged data settles it.
        """

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged, with the algorithm of `Frozen.outcome`."""

    def busy(self, staged: Staged) -> list[str]:
        """Name what holds the live data open (processes, sessions) and keeps a swap from being safe."""

    def plan_swap(self, staged: Staged) -> dict[str, Any]:
        """Return the JSON record of a swap that is about to happen: enough for swap, undo and discard."""

    def checks(self, staged: Staged | None) -> dict[str, str]:
        """Return the environment that tells the user's checks where staged data is; None means live data.

        `RESTAURA_TARGET` is the directory that stands for `/`, where the source has files. `RESTAURA_RUN_AS` names the
        account to run commands as, where it is not root.
        """

    @staticmethod
    def swap(record: dict[str, Any]) -> None:
        """Put the staged data where the live data is, keeping the latter. Idempotent over its record."""

    @staticmethod
    def undo(record: dict[str, Any]) -> None:
        """Swap back, keeping both sides. Idempotent, also over a swap that was cut off half-way."""

    @staticmethod
    def discard(record: dict[str, Any]) -> None:
        """Delete the side that is not live. Idempotent."""

    @staticmethod
    def take_back(act: str, data: dict[str, Any]) -> None:
        """Finish or undo what a dead process left half done: `act` and `data` are what it journaled. Idempotent."""


# What servers store in; servers of data; what asks these; programs and their settings, which are started last.
Tier = Literal["volumes", "databases", "services", "files"]
TIERS: tuple[Tier, ...] = get_args(Tier)


@dataclass(frozen=True)
class SourceKind:
    """One kind of source: its name, its options, its class, and the packages it needs on a host.

    `files` says that `RESTAURA_TARGET` is a file tree, in which checks can look at files. `tier` is its place in the
    order in which components change places in a restore: those before do not need it, those after may.
    """

    name: str
    options: "type[Component]"
    source: type[Source]
    packages: tuple[str, ...] = ()
    files: bool = True
    tier: Tier = "databases"


class Registry(Mapping[str, SourceKind]):
    """Every kind of source by name. Each is a module of this folder of that name, imported when it is asked for."""

    def __init__(self) -> None:
        self._names = sorted(module.name for module in pkgutil.iter_modules(__path__))

    def __getitem__(self, name: str) -> SourceKind:
        """Return a kind of source; KeyError when there is none of that name."""
        if name not in self._names:
            raise KeyError(name)
        kind: SourceKind = importlib.import_module(f"{__name__}.{name}").SOURCE
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


@cache
def registry() -> Registry:
    """Return every kind of source by name."""
    return Registry()
