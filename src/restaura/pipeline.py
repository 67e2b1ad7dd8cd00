# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a point: freeze every component, resume ingestion, copy into every store, release, seal.

Each component lives in a thread of its own from freeze to release, so that what a source opened there (sessions,
children that die with their thread) is closed there. A stream is read once and fanned out to the *direct* stores; the
*fed* ones (remote, when a local store takes part) get it from a direct one after release, so that a slow network
never holds a freeze. Trees are read by every store itself, and settled for each; but for held ones, see `twopass`.
"""

import contextlib
import hashlib
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO

from restaura import CONTRACT, __version__, trees
from restaura.config import load
from restaura.config.schema import Component, Plan
from restaura.errors import RestauraError, SourceError, StoreError
from restaura.hold import Hold
from restaura.host import Host
from restaura.output import Progress
from restaura.pause import Paused, paused
from restaura.point import ComponentRecord, Depth, Manifest, State, StoredArtifact
from restaura.sinks import Sink
from restaura.sources import INDEX_SUFFIX, Frozen, Probe, Source, Stream, Tree
from restaura.standing import held, last_good
from restaura.stores import StoredPoint, StreamWriter
from restaura.trees import Index
from restaura.twopass import TwoPass

CHUNK = 1 << 18
JOIN_SECONDS = 60
HELD_TREES = 4  # read at the same time
SHRINK_FLOOR = 1 << 16  # bytes under which a single artifact may shrink freely


@dataclass
class Part:
    """One component of this run: its options, its source, and what came of it."""

    options: Component
    kind: str
    source: Source
    probe: Probe
    error: str = ""
    frozen_at: datetime | None = None
    frozen_after: float = 0.0
    freeze_seconds: float = 0.0
    seconds: float = 0.0
    is_frozen: threading.Event = field(default_factory=threading.Event)
    streams: list[Stream] = field(default_factory=list)
    moving: Sequence[Tree] = ()
    held: TwoPass | None = None
    frozen: Frozen | None = None
    stop_seconds: float = 0.0

    @property
    def name(self) -> str:
        """The component's name."""
        return self.options.name


class CancelledError(SourceError):
    """The run was interrupted or its time was over."""


class NoStoreLeftError(StoreError):
    """Every store that was written to failed."""


class Take:
    """One taking of a point, straight through: `capture`, then `seal`."""

    def __init__(
        self,
        host: Host,
        plan: Plan,
        point_id: str,
        label: str,
        parts: Sequence[Part],
        sinks: Sequence[Sink],
        depth: Depth,
    ) -> None:
        self.host, self.plan, self.point_id, self.label = host, plan, point_id, label
        self.parts, self.sinks, self.depth = parts, sinks, depth
        self.progress = Progress()
        self.started = datetime.now(UTC)
        self.pause = Paused()
        self.problems: list[str] = []
        self._go = threading.Event()
        self._cancel = threading.Event()

    # -- capture ------------------------------------------------------------------------------------------------

    def capture(self) -> None:
        """Freeze, resume, copy and release every component; errors are kept in parts and sinks, none is raised."""
        for sink in self.sinks:
            self._begin(sink)
        self._first_passes()
        threads = [threading.Thread(target=self._hold, args=(part,), name=part.name) for part in self.parts]
        # With nothing left to freeze, ingestion is not paused for it.
        plans = [self.plan] if any(not part.error for part in self.parts) else []
        try:
            with paused(self.host, plans, limited=True) as self.pause:
                self.host.log.event("phase", phase="freeze")
                for thread in threads:
                    thread.start()
                deadline = time.monotonic() + min(self.pause.left, self.plan.freeze_timeout)
                for part in self.parts:
                    if not part.is_frozen.wait(max(0.0, deadline - time.monotonic())):
                        part.error = "did not hold still in time (`pause.limit` or `freeze_timeout` of the plan)"
            self.problems += self.pause.problems
            self.host.log.event("phase", phase="copy")
            self._go.set()
            for thread in threads:
                thread.join()
        except BaseException:
            self._cancel.set()
            self._go.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(JOIN_SECONDS)
            raise
        finally:
            for part in self.parts:
                if part.held is not None:
                    part.held.close()
            self.progress.done()

    def _first_passes(self) -> None:
        """Read the trees that will be held while all runs."""
        held = [part for part in self.parts if part.moving and not part.error]
        if not held:
            return
        self.host.log.event("phase", phase="first pass")
        with ThreadPoolExecutor(len(held)) as pool:
            try:
                for done in [pool.submit(self._first_pass, part) for part in held]:
                    done.result()
            except BaseException:
                self._cancel.set()
                raise

    def _first_pass(self, part: Part) -> None:
        part.held = TwoPass(self.host, part.name, self.sinks)
        try:
            part.held.first(part.moving, self._watch)
        except (RestauraError, OSError) as error:
            part.error = str(error)

    def _watch(self) -> None:
        if self._cancel.is_set():
            raise CancelledError("interrupted")

    def _begin(self, sink: Sink) -> None:
        if sink.error:
            return
        try:
            sink.writer = sink.store.begin(self.point_id, self.host.name, self.plan.name, self.label)
        except RestauraError as error:
            self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        """Take a store out of this run: it failed as a whole."""
        sink.error = str(error)
        self.host.log.event("store failed", "error", store=sink.store.name, error=str(error))
        if sink.writer is not None:
            sink.writer.abort()
            sink.writer = None

    def _hold(self, part: Part) -> None:
        """Live one component from freeze to release, in its own thread."""
        begun, captured = time.monotonic(), False
        try:
            if part.error:
                raise CancelledError(part.error)
            with part.source.freeze(self.depth, self.plan.stop_limit) as frozen:
                part.frozen_after = self.pause.after()
                part.frozen_at, part.frozen = datetime.now(UTC), frozen
                part.is_frozen.set()
                if frozen.hold is None:
                    self._go.wait()
                else:
                    self.host.log.event("held", component=part.name)
                if part.error:
                    raise CancelledError(part.error)
                self._copy(part, frozen)
                captured = True
        except RestauraError as error:
            if captured and part.stop_seconds:
                # What was copied is whole, whatever became of what was stopped for it.
                self.problems.append(f"component {part.name}: {error}")
            else:
                part.error = str(error)
        except Exception as error:  # noqa: BLE001 - one component's defect must not take the others down
            part.error = f"defect of the program: {error!r}"
            self.host.log.event("defect", "error", component=part.name, trace=traceback.format_exc())
        finally:
            part.is_frozen.set()
            if part.frozen and part.frozen.hold:
                part.stop_seconds = part.frozen.hold.seconds
            part.seconds = time.monotonic() - begun
            if part.error:
                self.host.log.event("component failed", "error", component=part.name, error=part.error)

    def _copy(self, part: Part, frozen: Frozen) -> None:
        held = part.held = part.held or TwoPass(self.host, part.name, self.sinks)
        self._read(part, frozen, held)
        for note in held.notes:
            self.host.log.event("warning", "warning", component=part.name, text=note)
        if frozen.hold is not None:
            self._release(part, frozen.hold)
        part.freeze_seconds = (datetime.now(UTC) - (part.frozen_at or self.started)).total_seconds()
        held.finish(lambda sink, tree, stored, doubtful: self._keep(part, tree, sink, stored, doubtful))
        for sink in self.sinks:
            if self._takes(sink, part) and sink not in held.owed:
                sink.of(part.name).outcome = frozen.outcome(sink.of(part.name).indexes)

    def _read(self, part: Part, frozen: Frozen, held: TwoPass) -> None:
        """Read all artifacts, held trees beside what else there is."""
        failed = threading.Event()

        def watch() -> None:
            self._tick(part)(0)
            if failed.is_set():
                raise CancelledError("another part of the component failed")
            if frozen.hold is not None:
                frozen.hold.check()

        with ThreadPoolExecutor(HELD_TREES) as pool:
            reading = []
            try:
                for artifact in frozen.artifacts():
                    if isinstance(artifact, Stream):
                        part.streams.append(artifact)
                        self._copy_stream(part, artifact)
                    elif artifact.held:
                        reading.append(pool.submit(held.second, artifact, watch))
                    else:
                        for sink in self.sinks:
                            self._copy_tree(part, artifact, sink)
                for one in as_completed(reading):
                    one.result()
                held.rescue(watch)
            except BaseException:
                failed.set()
                raise

    def _release(self, part: Part, hold: Hold) -> None:
        """Start again what was stopped: the last held byte is read. SourceError when it did not stand still."""
        try:
            hold.release()
        except RestauraError as error:
            # What was copied is whole all the same.
            self.problems.append(f"component {part.name}: {error}")
            self.host.log.event("not started again", "error", component=part.name, error=str(error))
        part.stop_seconds = hold.seconds
        self.host.log.event("released", component=part.name, seconds=round(hold.seconds, 3))
        hold.check()

    def _copy_stream(self, part: Part, artifact: Stream) -> None:
        """Fan a stream out to the direct stores; when all of them fail, to the fed ones, from the start."""
        direct = [one for one in self.sinks if not one.fed and self._takes(one, part)]
        try:
            fan_out(part.name, artifact, direct, self._tick(part))
        except NoStoreLeftError:
            fed = [one for one in self.sinks if one.fed and self._takes(one, part)]
            if not fed:
                raise
            fan_out(part.name, artifact, fed, self._tick(part))

    def _takes(self, sink: Sink, part: Part) -> bool:
        return sink.writer is not None and not sink.of(part.name).error

    def _tick(self, part: Part) -> Callable[[int], None]:
        def tick(count: int) -> None:
            if self._cancel.is_set():
                raise CancelledError("interrupted")
            since = None if part.freeze_seconds else part.frozen_at
            if since and (datetime.now(UTC) - since).total_seconds() > self.plan.freeze_timeout:
                raise CancelledError(f"held still for more than {self.plan.freeze_timeout} s (freeze_timeout)")
            self.progress.add(part.name, count)

        return tick

    def _copy_tree(self, part: Part, tree: Tree, sink: Sink) -> None:
        if not self._takes(sink, part):
            return
        self._tick(part)(0)
        try:
            stored = sink.open_writer.tree(part.name, tree)
        except (RestauraError, OSError) as error:
            sink.of(part.name).error = str(error)
            return
        self._keep(part, tree, sink, stored)

    def _keep(self, part: Part, tree: Tree, sink: Sink, stored: StoredArtifact, doubtful: Collection[str] = ()) -> None:
        """Settle the index of a tree against what a store holds of it, and store the index."""
        captured, writer = sink.of(part.name), sink.open_writer
        captured.artifacts.append(stored)
        try:
            index = trees.settle(
                tree.index,
                tree.base,
                writer.tree_entries(stored),
                lambda path: writer.read_file(stored, path),
                still=tree.held,
                doubtful=doubtful,
            )
            kept = self._store_index(part, tree, index, sink)
        except (RestauraError, OSError) as error:
            captured.error = str(error)
            return
        size = sum(entry.size for entry in index.entries if entry.type == "file" and not entry.hard_link)
        captured.artifacts[captured.artifacts.index(stored)] = StoredArtifact(
            stored.name, "tree", size, kept.sha256, stored.secret, stored.stored
        )
        captured.indexes[tree.name] = index
        self.progress.add(part.name, size)

    def _store_index(self, part: Part, tree: Tree, index: Index, sink: Sink) -> StoredArtifact:
        @contextlib.contextmanager
        def opened() -> Iterator[IO[bytes]]:
            with self.host.spool("index") as folder:
                with (folder / "index").open("wb") as out:
                    out.writelines(index.dump())
                with (folder / "index").open("rb") as back:
                    yield back

        fan_out(part.name, Stream(tree.name + INDEX_SUFFIX, opened, tree.secret), [sink], lambda _: None)
        captured = sink.of(part.name)
        if captured.error:
            raise StoreError(captured.error)
        return captured.artifacts[-1]

    # -- seal -----------------------------------------------------------------------------------------------------

    def seal(self) -> bool:
        """Seal every direct store, then feed and seal the others; a store that fails is dropped with its error.

        A store that is owed trees by another is sealed after that one.

        Return False when no direct store could be sealed and the fed ones therefore hold nothing: the point has to be
        taken again, straight into them.
        """
        self.host.log.event("phase", phase="seal")
        direct = [one for one in self.sinks if not one.fed]
        fed = [one for one in self.sinks if one.fed and one.writer is not None]
        owed = [sink for part in self.parts if part.held for sink in part.held.owed]
        for sink in direct:
            if sink not in owed:
                self._seal(sink)
        if owed:
            self._feed_trees()
        for sink in direct:
            if sink in owed:
                self._seal(sink)
        if fed and not any(one.sealed for one in direct):
            self.abort()
            return False
        for sink in fed:
            if sink.writer is not None:
                self._feed(sink, [one for one in direct if one.sealed])
                self._seal(sink)
        return True

    def abort(self) -> None:
        """Remove whatever is written and not sealed."""
        for sink in self.sinks:
            if sink.writer is not None and sink.sealed is None:
                sink.writer.abort()
                sink.writer = None

    def _feed(self, sink: Sink, sources: Sequence[Sink]) -> None:
        self.host.log.event("phase", phase="feed", store=sink.store.name)
        for part in self.parts:
            captured = sink.of(part.name)
            there = {one.name for one in captured.artifacts}
            for stream in part.streams:
                if not captured.error and not part.error and stream.name not in there:
                    self._feed_one(part, stream, sink, sources)

    def _feed_one(self, part: Part, stream: Stream, sink: Sink, sources: Sequence[Sink]) -> None:
        captured, problem = sink.of(part.name), "no local store holds it"
        for source in sources:
            manifest = source.sealed.manifest if source.sealed else None
            if manifest is None or source.of(part.name).error:
                continue
            stored = manifest.component(part.name).artifact(stream.name)

            @contextlib.contextmanager
            def opened(
                source: Sink = source, manifest: Manifest = manifest, stored: StoredArtifact = stored
            ) -> Iterator[IO[bytes]]:
                with source.store.open_stream(manifest, stored) as back:
                    yield back

            try:
                fan_out(part.name, Stream(stream.name, opened, stream.secret, stored.bytes), [sink], lambda _: None)
            except RestauraError as error:
                problem = str(error)
                continue
            return
        captured.error = captured.error or problem

    def _feed_trees(self) -> None:
        """Give the trees that one store read while they stood still to the others, from its sealed point."""
        for part in self.parts:
            held = part.held
            if held is None or part.error or not held.owed:
                continue
            reader, sinks = held.readers[0], [one for one in held.owed if self._takes(one, part)]
            self.host.log.event("phase", phase="feed trees", component=part.name)
            try:
                for name in reader.of(part.name).indexes:
                    # Trees that moved were read by every store itself.
                    lacking = [one for one in sinks if name not in one.of(part.name).indexes]
                    if lacking:
                        self._feed_tree(part, held.tree(name), reader, lacking)
            except (RestauraError, OSError) as error:
                for sink in sinks:
                    captured = sink.of(part.name)
                    captured.error = captured.error or f"store {reader.store.name}, which read it: {error}"
            for sink in sinks:
                if part.frozen and self._takes(sink, part):
                    sink.of(part.name).outcome = part.frozen.outcome(sink.of(part.name).indexes)

    def _feed_tree(self, part: Part, tree: Tree, reader: Sink, sinks: Sequence[Sink]) -> None:
        manifest = reader.sealed.manifest if reader.sealed else None
        if manifest is None or reader.of(part.name).error:
            raise StoreError(reader.error or reader.of(part.name).error or "could not be sealed")
        stored, index = manifest.component(part.name).artifact(tree.name), reader.of(part.name).indexes[tree.name]
        with self.host.spool("feed") as base:
            self.host.need_space(base, index.total_bytes, f"component {part.name}")
            reader.store.restore_tree(manifest, stored, index, base, None)
            trees.apply(index, base)
            tree = replace(tree, base=base, index=trees.located(index, base))
            for sink in sinks:
                if self._takes(sink, part):
                    self._copy_tree(part, tree, sink)
                captured = sink.of(part.name)
                if not captured.error:
                    wrong = trees.differences(index, captured.indexes[tree.name], self.depth)
                    captured.error = f"is not what was restored to it: {'; '.join(wrong[:3])}" if wrong else ""

    def _seal(self, sink: Sink) -> None:
        if sink.writer is None:
            return
        records = [self._record(part, sink) for part in self.parts]
        if all(one.state == "failed" for one in records):
            sink.writer.abort()
            sink.writer, sink.error = None, sink.error or "no component could be stored"
            return
        manifest = Manifest(
            id=self.point_id,
            label=sink.writer.label,
            host=self.host.name,
            identity=self.host.identity,
            plan=self.plan.name,
            started=self.started.isoformat(timespec="seconds"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            program=__version__,
            contract=CONTRACT,
            config=load.dump(self.host.config),
            components=records,
        )
        try:
            sink.sealed = sink.writer.seal(manifest)
        except (RestauraError, OSError) as error:
            self._drop(sink, error)

    def _record(self, part: Part, sink: Sink) -> ComponentRecord:
        captured = sink.of(part.name)
        error = part.error or captured.error
        outcome = captured.outcome
        state: State = "complete"
        notes = [*(part.held.notes if part.held else ()), *(outcome.notes if outcome else ())]
        notes += sink.open_writer.notes(part.name)
        if error or outcome is None:
            state, error = "failed", error or "nothing was captured"
        elif outcome.consistency == "torn" or self.pause.broken:
            state = "torn"
            notes += [f"ingestion was not paused all the time: {self.pause.broken}"] if self.pause.broken else []
        else:
            doubts = [*outcome.doubts, *empty(part.streams, captured.artifacts)]
            varying = {one.name for one in part.streams if one.varies}
            doubts += shrunk(part.options, captured.artifacts, last_good(sink.previous, part.name), varying)
            if doubts:
                state, notes = "suspect", [*notes, *doubts]
        return ComponentRecord(
            name=part.name,
            source=part.kind,
            state=state,
            consistency=outcome.consistency if outcome else None,
            error=error or None,
            versions=part.probe.versions,
            frozen_at=part.frozen_at.isoformat(timespec="milliseconds") if part.frozen_at else None,
            freeze_seconds=round(part.freeze_seconds, 3),
            frozen_after=round(part.frozen_after, 3),
            pause_seconds=round(self.pause.seconds, 3),
            stop_seconds=round(part.stop_seconds, 3),
            seconds=round(part.seconds, 3),
            bytes=sum(one.bytes for one in captured.artifacts if not one.name.endswith(INDEX_SUFFIX)),
            fingerprint=outcome.fingerprint if outcome else None,
            notes=notes,
            artifacts=captured.artifacts,
        )


def _begin_stream(component: str, artifact: Stream, sinks: Sequence[Sink]) -> dict[str, tuple[Sink, StreamWriter]]:
    writers = {}
    for sink in sinks:
        try:
            writers[sink.store.name] = (sink, sink.open_writer.stream(component, artifact))
        except (RestauraError, OSError) as error:
            sink.of(component).error = str(error)
    return writers


def fan_out(component: str, artifact: Stream, sinks: Sequence[Sink], tick: Callable[[int], None]) -> None:
    """Read `artifact` once and write it to every sink. The producer's exit is checked before any store commits.

    A sink that fails is marked for this component, and the others go on. Raises what the producer raised, after
    every writer was aborted; NoStoreLeftError when no sink is left to write to.
    """
    writers = _begin_stream(component, artifact, sinks)

    def failed(name: str, error: Exception) -> None:
        sink, writer = writers.pop(name)
        writer.abort()
        sink.of(component).error = str(error)

    digest, size = hashlib.sha256(), 0
    try:
        if not writers:
            raise NoStoreLeftError("no store is left to write to", where=f"component {component}")
        with artifact.open() as stream:
            while chunk := stream.read(CHUNK):
                tick(len(chunk))
                digest.update(chunk)
                size += len(chunk)
                for name, (_, writer) in list(writers.items()):
                    try:
                        writer.write(chunk)
                    except (RestauraError, OSError) as error:
                        failed(name, error)
                if not writers:
                    raise NoStoreLeftError("every store failed", where=f"component {component}, {artifact.name}")
    except BaseException:
        for _, writer in writers.values():
            writer.abort()
        raise
    for name, (sink, writer) in list(writers.items()):
        try:
            sink.of(component).artifacts.append(writer.commit(size, digest.hexdigest()))
        except (RestauraError, OSError) as error:
            failed(name, error)


def empty(streams: Sequence[Stream], artifacts: Sequence[StoredArtifact]) -> list[str]:
    """Name the streams that hold nothing, but for those whose source expects nothing."""
    may = {one.name for one in streams if one.expected_bytes == 0}
    return [
        f"{one.name} is empty" for one in artifacts if one.kind == "stream" and not one.bytes and one.name not in may
    ]


def shrunk(
    options: Component, artifacts: Sequence[StoredArtifact], last: StoredPoint | None, varying: Collection[str] = ()
) -> list[str]:
    """Say what shrank beyond the guard against the last good point, but for artifacts whose sizes vary."""
    before = held(last.manifest, options.name) if last and last.manifest else None
    if before is None or options.shrink_guard >= 100:
        return []
    keep = (100 - options.shrink_guard) / 100
    now: Mapping[str, int] = {one.name: one.bytes for one in artifacts}
    total = sum(size for name, size in now.items() if not name.endswith(INDEX_SUFFIX) and name not in varying)
    whole = before.bytes - sum(one.bytes for one in before.artifacts if one.name in varying)
    found = [f"shrank from {whole} to {total} bytes"] if total < whole * keep else []
    for one in before.artifacts:
        # What is copied beside a tree since it moved comes and goes; of a component's only tree the total says it all.
        folder, named, _ = one.name.partition("/")
        if one.name.endswith(INDEX_SUFFIX) or (one.kind == "tree" and (not named or folder == "copies")):
            continue
        if one.name in varying:
            continue
        there = now.get(one.name)
        if there is None:
            found.append(f"{one.name} is no longer there ({one.bytes} bytes before)")
        elif one.bytes >= SHRINK_FLOOR and there < one.bytes * keep:
            found.append(f"{one.name} shrank from {one.bytes} to {there} bytes")
    return found
