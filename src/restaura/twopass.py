# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that stop for their copy are read in two passes: all of it while they move, what changed while they stand.

Who reads while they stand, best first: nobody but the file system, which clones what changed into the spool; a
deduplicating store on this host; a copy in the spool, where a plain store takes part and the disk has room; a
deduplicating store elsewhere; every store by itself. All other stores get the trees after the release, from the spool
or from the store that read them.
"""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from restaura import trees
from restaura.errors import RestauraError, SpaceError, StoreError
from restaura.host import Host
from restaura.point import StoredArtifact
from restaura.sinks import Sink
from restaura.sources import Tree
from restaura.trees import Index
from restaura.trees.scanning import TICK_NS, untold_devices

SPACE_CHECK_BYTES = 64 << 20

Watch = Callable[[], None]
Keep = Callable[[Sink, Tree, StoredArtifact, Collection[str]], None]


class TwoPass:
    """The held trees of one component on their way into the stores of a run.

    `readers` read them while they stand still; the `owed` get them from the first reader once its point is sealed.
    With neither, all stores read a copy in the spool. `notes` say why a stop was longer than it need be.
    """

    def __init__(self, host: Host, component: str, sinks: Sequence[Sink]) -> None:
        self._host, self._component, self._sinks = host, component, sinks
        self._stack = contextlib.ExitStack()
        self._spool: Path | None = None
        self._copies: dict[str, trees.Copy] = {}
        self._passed: dict[str, tuple[int, int]] = {}
        self._read: dict[str, tuple[Tree, Collection[str]]] = {}
        self._stored: dict[tuple[str, str], StoredArtifact] = {}
        self._lock = threading.Lock()
        self.readers: list[Sink] = []
        self.owed: list[Sink] = []
        self.notes: list[str] = []

    def first(self, moving: Sequence[Tree], watch: Watch) -> None:
        """Decide who reads, and read the trees as they move. A store that fails now takes no part any more."""
        allowed = True
        while True:
            self._decide(moving, allowed)
            try:
                for tree in moving:
                    self._first(tree, watch)
            except (SpaceError, OSError):
                if self._spool is None:
                    raise
                allowed = False
            else:
                if self._spool is not None or all(self._takes(one) for one in self.readers) or not self._taking():
                    return

    def second(self, tree: Tree, watch: Watch) -> None:
        """Read what changed of a tree that stands still. `watch` raises when it does so no longer."""
        if self._spool is not None:
            copy = self._copy(tree)
            copy.second(tree.index, self._spacious(watch))
            self._host.log.event("copied", component=self._component, tree=tree.name, bytes=copy.copied_bytes)
            self._read[tree.name] = (tree, ())
            return
        index, doubtful = self._renewed(tree)
        tree = replace(tree, index=index)
        self._read[tree.name] = (tree, doubtful)
        self._store_in(self.readers, tree, watch)

    def rescue(self, watch: Watch) -> None:
        """When every reader failed, let the others read while the trees still stand."""
        if self._spool is None and not any(self._takes(one) for one in self.readers) and self.owed:
            names = ", ".join(one.store.name for one in self.readers)
            self.notes.append(f"stopped for longer: {names} failed, and the other stores read while it lasted")
            self.readers, self.owed = self.owed, []
            for tree, _ in self._read.values():
                self._store_in(self.readers, tree, watch)

    def finish(self, keep: Keep) -> None:
        """After the release: settle what was read, or store the copy; `keep` is called for each tree and store."""
        for name, (tree, doubtful) in self._read.items():
            sinks = self.readers
            if self._spool is not None:
                base, index = self._copies.pop(name).finish(tree.index)
                tree, sinks = replace(tree, base=base, index=index), self._taking()  # noqa: PLW2901
                self._store_in(sinks, tree, lambda: None)
            for sink in sinks:
                if self._takes(sink):
                    keep(sink, tree, self._stored[sink.store.name, name], doubtful)

    def tree(self, name: str) -> Tree:
        """Return a tree as it was read while it stood still."""
        return self._read[name][0]

    def close(self) -> None:
        """Remove what is in the spool."""
        self._stack.close()
        self._spool = None

    # -- deciding -------------------------------------------------------------------------------------------------

    def _decide(self, moving: Sequence[Tree], may_copy: bool) -> None:
        self.close()
        self.readers, self.owed = [], []
        taking = self._taking()
        spool = self._stack.enter_context(self._host.spool("held"))
        if may_copy and all(trees.can_clone(one.index, one.base, spool) for one in moving):
            self._spool = spool
            return
        size = sum(one.index.total_bytes for one in moving)
        full = self._full(spool, size)
        readers = [one for one in taking if one.store.deduplicates and not one.store.remote]
        if not readers and may_copy and not full and any(not one.store.deduplicates for one in taking):
            self._spool = spool
            return
        self._stack.close()
        readers = (readers or [one for one in taking if one.store.deduplicates])[:1]
        others = [one for one in taking if one not in readers]
        if not others:
            self.readers = readers
        elif readers and not self._full(self._host.paths.spool, max(one.index.total_bytes for one in moving)):
            self.readers, self.owed = readers, others
        else:
            self.readers = [*readers, *others]
            why = full or "the spool's disk filled up"
            names = ", ".join(one.store.name for one in others)
            self.notes = [f"stopped for longer: {names} read while it lasted, since no copy fits: {why}"]

    def _full(self, place: Path, size: int) -> str:
        try:
            self._host.need_space(place, size, f"component {self._component}")
        except SpaceError as error:
            return error.what
        return ""

    def _taking(self) -> list[Sink]:
        return [one for one in self._sinks if self._takes(one)]

    def _takes(self, sink: Sink) -> bool:
        return sink.writer is not None and not sink.of(self._component).error

    # -- reading --------------------------------------------------------------------------------------------------

    def _first(self, tree: Tree, watch: Watch) -> None:
        if self._spool is not None:
            self._copy(tree).first(tree.index, self._spacious(watch))
            return
        for sink in self.readers:
            if sink.store.deduplicates and self._takes(sink):
                try:
                    sink.open_writer.first_pass(self._component, tree, watch)
                except (RestauraError, OSError) as error:
                    watch()
                    sink.of(self._component).error = str(error)
                self._passed[tree.name] = (tree.index.started_ns, time.time_ns())

    def _copy(self, tree: Tree) -> trees.Copy:
        if self._spool is None:
            raise StoreError("there is no copy in the spool", where=f"component {self._component}")
        with self._lock:
            if tree.name not in self._copies:
                folder = self._spool / f"{len(self._copies)}-{time.monotonic_ns()}"
                folder.mkdir(mode=0o700)
                self._copies[tree.name] = trees.Copy(tree.base, folder)
            return self._copies[tree.name]

    def _spacious(self, watch: Watch) -> Callable[[int], None]:
        """Return `watch` with a look at the spool's disk, now and then."""
        spool, written = self._host.paths.spool, 0

        def looked(count: int) -> None:
            nonlocal written
            watch()
            before, written = written, written + count
            if before // SPACE_CHECK_BYTES != written // SPACE_CHECK_BYTES:
                self._host.need_space(spool, 0, f"component {self._component}")

        return looked

    def _store_in(self, sinks: Sequence[Sink], tree: Tree, watch: Watch) -> None:
        def store(sink: Sink) -> None:
            if not self._takes(sink):
                return
            try:
                self._stored[sink.store.name, tree.name] = sink.open_writer.tree(self._component, tree, watch)
            except (RestauraError, OSError) as error:
                # That it stands still no longer is no failure of the store.
                watch()
                sink.of(self._component).error = str(error)

        with ThreadPoolExecutor(max(1, len(sinks))) as pool:
            for done in [pool.submit(store, one) for one in sinks]:
                done.result()

    def _renewed(self, tree: Tree) -> tuple[Index, Collection[str]]:
        """Give a new time of change to files whose own says nothing, and return the index with it.

        A store knows by times what changed since the first pass. A file that changed during that pass may have done so
        again within one tick of the kernel's clock, or through a mapping, without its times telling. Where no time can
        be set, the path is returned too: its stored content is read back.
        """
        if tree.name not in self._passed:
            return tree.index, ()
        since, until = self._passed[tree.name]
        renewed: dict[tuple[int, int], int] = {}
        doubtful, untold = set(), untold_devices()
        for one in tree.index.entries:
            told = one.device not in untold and not since - TICK_NS <= one.ctime_ns <= until + TICK_NS
            if one.type == "file" and not one.hard_link and not told:
                try:
                    renewed[one.device, one.inode] = _touch(tree.base / one.path, one.device, one.inode, one.ctime_ns)
                except OSError:
                    doubtful.add(one.path)
        entries = [
            replace(one, ctime_ns=renewed[one.device, one.inode]) if (one.device, one.inode) in renewed else one
            for one in tree.index.entries
        ]
        return replace(tree.index, entries=entries), doubtful


def _touch(path: Path, device: int, inode: int, ctime_ns: int) -> int:
    """Set a file's mode to what it is, which changes its ctime alone; return the new one, never `ctime_ns`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (device, inode):
            raise FileNotFoundError(path)
        while True:
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            now = os.fstat(descriptor).st_ctime_ns
            if now != ctime_ns:
                return now
            time.sleep(TICK_NS / 1e9)
    finally:
        os.close(descriptor)
