# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a run, and what each failure leaves behind, against stores and sources that fail on purpose."""

import contextlib
import io
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pytest

from restaura.config.load import parse
from restaura.config.schema import Component
from restaura.errors import SourceError, StoreError
from restaura.host import Host
from restaura.paths import Paths, write_atomic
from restaura.pause_steps import KINDS
from restaura.pipeline import Part, Take, fan_out, shrunk
from restaura.point import ComponentRecord, Fingerprint, Manifest, StoredArtifact
from restaura.process import shell
from restaura.sinks import Sink
from restaura.sources import Outcome, Probe, Stream
from restaura.stores import StoredPoint


@dataclass
class FakeStore:
    """Keeps committed streams in memory; fails where it is told to."""

    name: str
    remote: bool = False
    fail_at: str = ""
    kept: dict[str, bytes] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    sealed: list[Manifest] = field(default_factory=list)

    def begin(self, point_id: str, host: str, plan: str, label: str) -> "FakeWriter":
        if self.fail_at == "begin":
            raise StoreError("gone", where=self.name)
        return FakeWriter(self, label)

    @contextlib.contextmanager
    def open_stream(self, manifest: Manifest, artifact: StoredArtifact) -> Any:
        if self.fail_at == "open":
            raise StoreError("unreadable", where=self.name)
        yield io.BytesIO(self.kept[artifact.name])


@dataclass
class FakeWriter:
    store: FakeStore
    label: str
    ended: bool = False

    def stream(self, component: str, artifact: Stream) -> "FakeStream":
        return FakeStream(self.store, artifact.name)

    def notes(self, _component: str) -> list[str]:
        return []

    def seal(self, manifest: Manifest) -> StoredPoint:
        if self.store.fail_at == "seal":
            raise StoreError("full", where=self.store.name)
        self.store.sealed.append(manifest)
        return StoredPoint(manifest.id, manifest.host, manifest.plan, manifest.label, {}, manifest)

    def abort(self) -> None:
        self.store.aborted.append("point")


@dataclass
class FakeStream:
    store: FakeStore
    name: str
    data: bytes = b""

    def write(self, data: bytes) -> None:
        if self.store.fail_at == "write":
            raise StoreError("disk full", where=self.store.name)
        self.data += data

    def commit(self, size: int, sha256: str) -> StoredArtifact:
        if self.store.fail_at == "commit":
            raise StoreError("lost", where=self.store.name)
        self.store.kept[self.name] = self.data
        return StoredArtifact(self.name, "stream", size, sha256)

    def abort(self) -> None:
        self.store.aborted.append(self.name)


class FakeSource:
    """Yields streams; records the order of what happens to it in `events`."""

    hold = None

    def __init__(self, events: list[str], streams: dict[str, bytes], error: str = "", freeze_error: str = "") -> None:
        self.events, self.streams, self.error, self.freeze_error = events, streams, error, freeze_error
        self.reads = 0
        self.doubts: list[str] = []

    @contextlib.contextmanager
    def freeze(self, depth: str, stop_limit: float) -> Any:
        if self.freeze_error:
            raise SourceError(self.freeze_error)
        self.events.append("frozen")
        try:
            yield self
        finally:
            self.events.append("released")

    def artifacts(self) -> Any:
        for name in self.streams:
            yield Stream(name, lambda name=name: self._open(name))

    @contextlib.contextmanager
    def _open(self, name: str) -> Any:
        self.reads += 1
        self.events.append(f"read {name}")
        yield io.BytesIO(self.streams[name])
        if self.error:
            raise SourceError(self.error)

    def outcome(self, indexes: Any) -> Outcome:
        return Outcome(Fingerprint("fake-1", "content", {"all": "1"}), "transactional", ["a note"], self.doubts)


def host_at(root: Path, pause: dict[str, Any] | None = None) -> Host:
    config = parse(
        {
            "settings": {"host": "web1"},
            "stores": [{"name": "main", "location": "/backups"}],
            "plans": [{"name": "daily", "pause": pause} if pause else {"name": "daily"}],
            "components": {},
        },
        "test",
    )
    host = Host(Paths(root), config)
    write_atomic(root / "etc/restaura/identity", b"me\n")
    host.log.verbose = False
    return host


def take(host: Host, source: Any, *stores: FakeStore, previous: list[StoredPoint] | None = None) -> Take:
    local = any(not one.remote for one in stores)
    sinks = [Sink(one, fed=local and one.remote, previous=previous or []) for one in stores]  # type: ignore[arg-type]
    part = Part(Component(name="db"), "fake", source, Probe())
    plan = host.config.plans[0]
    return Take(host, plan, "20260101T000000Z-0000aaaaaa", "2026-01-01", [part], sinks, "content")


def states(one: Take) -> dict[str, str]:
    return {
        sink.store.name: sink.sealed.manifest.components[0].state if sink.sealed and sink.sealed.manifest else "none"
        for sink in one.sinks
    }


def test_a_stream_is_read_once_and_stands_in_every_store(tmp_path: Path) -> None:
    source, one, two = FakeSource([], {"dump": b"x" * 700_000}), FakeStore("one"), FakeStore("two")
    run = take(host_at(tmp_path), source, one, two)
    run.capture()
    assert run.seal()
    assert states(run) == {"one": "complete", "two": "complete"}
    assert one.kept == two.kept == {"dump": b"x" * 700_000}
    assert source.reads == 1


def test_a_producer_that_fails_at_its_very_end_commits_nothing(tmp_path: Path) -> None:
    store = FakeStore("one")
    run = take(host_at(tmp_path), FakeSource([], {"dump": b"half"}, error="pg_dump ended with exit code 1"), store)
    run.capture()
    run.seal()
    assert store.kept == {}
    assert store.aborted == ["dump", "point"]
    assert states(run) == {"one": "none"}
    assert "exit code 1" in run.parts[0].error


@pytest.mark.parametrize("where", ["begin", "write", "commit"])
def test_a_dead_store_does_not_stop_the_other(tmp_path: Path, where: str) -> None:
    dead, well = FakeStore("dead", fail_at=where), FakeStore("well")
    run = take(host_at(tmp_path), FakeSource([], {"dump": b"data"}), dead, well)
    run.capture()
    assert run.seal()
    assert states(run) == {"dead": "none", "well": "complete"}
    assert dead.kept == {}


def test_a_remote_store_is_fed_after_the_release(tmp_path: Path) -> None:
    events: list[str] = []
    source, local, remote = FakeSource(events, {"dump": b"data"}), FakeStore("local"), FakeStore("far", remote=True)
    run = take(host_at(tmp_path), source, local, remote)
    run.capture()
    assert events[-1] == "released"
    assert remote.kept == {}
    assert run.seal()
    assert remote.kept == {"dump": b"data"}
    assert source.reads == 1
    assert states(run) == {"local": "complete", "far": "complete"}


def test_a_local_disk_that_is_full_lets_the_stream_go_straight_to_the_remote_store(tmp_path: Path) -> None:
    source, local, remote = (
        FakeSource([], {"dump": b"data"}),
        FakeStore("local", fail_at="write"),
        FakeStore("far", True),
    )
    run = take(host_at(tmp_path), source, local, remote)
    run.capture()
    run.seal()
    assert remote.kept == {"dump": b"data"}


def test_a_local_store_that_cannot_be_sealed_asks_for_another_taking(tmp_path: Path) -> None:
    local, remote = FakeStore("local", fail_at="seal"), FakeStore("far", remote=True)
    run = take(host_at(tmp_path), FakeSource([], {"dump": b"data"}), local, remote)
    run.capture()
    assert not run.seal()
    assert remote.sealed == []
    assert "point" in remote.aborted


def test_ingestion_resumes_before_anything_is_copied(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pause = {"command": f"echo pause >> {trace}", "resume": f"echo resume >> {trace}"}
    events: list[str] = []

    class Source(FakeSource):
        @contextlib.contextmanager
        def _open(self, name: str) -> Any:
            events.append(trace.read_text())
            yield io.BytesIO(b"data")

    run = take(host_at(tmp_path, pause), Source(events, {"dump": b""}), FakeStore("one"))
    run.capture()
    assert events == ["frozen", "pause\nresume\n", "released"]
    assert run.host.journal.open_debts() == []
    assert run.pause.seconds > 0


def test_a_failing_freeze_resumes_ingestion(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pause = {"command": f"echo pause >> {trace}", "resume": f"echo resume >> {trace}"}
    run = take(host_at(tmp_path, pause), FakeSource([], {}, freeze_error="locked"), FakeStore("one"))
    run.capture()
    assert trace.read_text() == "pause\nresume\n"
    assert run.parts[0].error == "locked"


def test_a_pause_command_that_fails_resumes_and_captures_nothing(tmp_path: Path) -> None:
    trace, store = tmp_path / "trace", FakeStore("one")
    run = take(host_at(tmp_path, {"command": "exit 3", "resume": f"echo resume >> {trace}"}), FakeSource([], {}), store)
    with pytest.raises(SourceError, match="exit code 3"):
        run.capture()
    assert trace.read_text() == "resume\n"
    assert store.kept == {}


def test_a_component_that_holds_still_too_late_fails_and_keeps_ingestion_paused_no_longer(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pause = {"command": f"echo pause >> {trace}", "resume": f"echo resume >> {trace}", "limit": 1}
    resumed: list[bool] = []

    class Late(FakeSource):
        @contextlib.contextmanager
        def freeze(self, depth: str, stop_limit: float) -> Any:
            for _ in range(3000):
                if "resume" in trace.read_text():
                    break
                time.sleep(0.01)
            resumed.append(True)
            yield self

    run = take(host_at(tmp_path, pause), FakeSource([], {"dump": b"a"}), FakeStore("one"))
    run.parts = [*run.parts, Part(Component(name="late"), "fake", Late([], {"dump": b"b"}), Probe())]  # type: ignore[arg-type]
    run.capture()
    run.seal()
    records = {one.name: one for one in run.sinks[0].sealed.manifest.components}  # type: ignore[union-attr]
    assert resumed == [True]
    assert (records["db"].state, records["late"].state) == ("complete", "failed")
    assert "limit is 1 s" in run.problems[0]
    assert 0 < records["db"].frozen_after < 1 <= records["db"].pause_seconds
    assert records["late"].frozen_after == 0
    assert run.host.journal.open_debts() == []


def test_a_pause_that_was_broken_leaves_nothing_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KINDS["command"], "come_back", lambda _: "ingest.service started by itself")
    run = take(host_at(tmp_path, {"command": "true", "resume": "true"}), FakeSource([], {"d": b"a"}), FakeStore("one"))
    run.capture()
    run.seal()
    assert states(run) == {"one": "torn"}
    assert "started by itself" in run.problems[0]


def test_ingestion_that_is_not_resumed_is_told_and_loses_no_data(tmp_path: Path) -> None:
    run = take(
        host_at(tmp_path, {"command": "true", "resume": "exit 3"}), FakeSource([], {"d": b"a"}), FakeStore("one")
    )
    run.capture()
    run.seal()
    assert states(run) == {"one": "complete"}
    assert "was not resumed" in run.problems[0]
    assert [one.owner for one in run.host.journal.open_debts()] == ["pause"]


def test_nothing_is_paused_when_nothing_is_left_to_freeze(tmp_path: Path) -> None:
    run = take(host_at(tmp_path, {"command": f"touch {tmp_path}/paused", "resume": "true"}), FakeSource([], {}))
    run.parts[0].error = "the server is down"
    run.capture()
    assert not (tmp_path / "paused").exists()
    assert run.parts[0].error == "the server is down"


def test_a_component_that_shrank_is_suspect(tmp_path: Path) -> None:
    before = ComponentRecord(
        "db", "fake", "complete", bytes=200_000, artifacts=[StoredArtifact("dump", "stream", 200_000, "")]
    )
    manifest = Manifest("20251231T000000Z-0000aaaaaa", "l", "web1", "me", "daily", "", "", "", 1, {}, [before])
    last = StoredPoint(manifest.id, "web1", "daily", "l", {}, manifest)
    for size, state in ((0, "suspect"), (99_000, "suspect"), (101_000, "complete")):
        run = take(host_at(tmp_path), FakeSource([], {"dump": b"x" * size}), FakeStore("one"), previous=[last])
        run.capture()
        run.seal()
        assert states(run) == {"one": state}, size


def test_an_empty_dump_is_suspect_at_the_first_run_too(tmp_path: Path) -> None:
    run = take(host_at(tmp_path), FakeSource([], {"dump": b""}), FakeStore("one"))
    run.capture()
    run.seal()
    assert states(run) == {"one": "suspect"}


def test_what_its_source_doubts_is_suspect(tmp_path: Path) -> None:
    source = FakeSource([], {"dump": b"x"})
    source.doubts = ["a doubt"]
    run = take(host_at(tmp_path), source, FakeStore("one"))
    run.capture()
    run.seal()
    assert states(run) == {"one": "suspect"}
    manifest = run.sinks[0].sealed.manifest if run.sinks[0].sealed else None
    assert manifest is not None
    assert manifest.component("db").notes == ["a note", "a doubt"]


def test_an_artifact_that_is_gone_is_suspect() -> None:
    artifacts = [
        StoredArtifact("a.dump", "stream", 9, ""),
        StoredArtifact("volumes/a", "tree", 1_000_000, ""),
        StoredArtifact("volumes/b", "tree", 9_000_000, ""),
        StoredArtifact("copies/volumes.a", "tree", 9, ""),
        StoredArtifact("copies", "tree", 9, ""),
    ]
    before = ComponentRecord("db", "fake", "complete", artifacts=artifacts)
    manifest = Manifest("20251231T000000Z-0000aaaaaa", "l", "h", "me", "daily", "", "", "", 1, {}, [before])
    last = StoredPoint(manifest.id, "h", "daily", "l", {}, manifest)
    now = [StoredArtifact("volumes/a", "tree", 400_000, ""), artifacts[2]]
    assert shrunk(Component(name="db"), now, last) == [
        "a.dump is no longer there (9 bytes before)",
        "volumes/a shrank from 1000000 to 400000 bytes",
    ]
    assert "volumes/a is no longer there (1000000 bytes before)" in shrunk(Component(name="db"), artifacts[2:], last)
    assert shrunk(Component(name="db", shrink_guard=100), [], last) == []
    # What varies is not looked at, in itself and in the sum.
    before = replace(before, bytes=109, artifacts=[artifacts[0], StoredArtifact("log", "stream", 100, "")])
    last = replace(last, manifest=manifest.with_components([before]))
    assert shrunk(Component(name="db"), artifacts[:1], last) != []
    assert shrunk(Component(name="db"), artifacts[:1], last, {"log"}) == []


def test_two_components_hold_still_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    class Source(FakeSource):
        @contextlib.contextmanager
        def freeze(self, depth: str, stop_limit: float) -> Any:
            together.wait()
            yield self

    run = take(host_at(tmp_path), Source([], {"dump": b"a"}), FakeStore("one"))
    run.parts = [*run.parts, Part(Component(name="other"), "fake", Source([], {"dump": b"b"}), Probe())]  # type: ignore[arg-type]
    run.capture()
    run.seal()
    manifest = run.sinks[0].sealed.manifest if run.sinks[0].sealed else None
    assert manifest is not None
    assert [one.state for one in manifest.components] == ["complete", "complete"]


def test_fan_out_ends_when_no_store_is_left(tmp_path: Path) -> None:
    read: list[int] = []

    @contextlib.contextmanager
    def endless() -> Any:
        class Zeros(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                read.append(size)
                return b"\0" * size

        stream: IO[bytes] = Zeros()  # type: ignore[assignment]
        yield stream

    sink = Sink(FakeStore("full", fail_at="write"), fed=False, previous=[])  # type: ignore[arg-type]
    sink.writer = FakeWriter(sink.store, "l")  # type: ignore[arg-type, assignment]
    with pytest.raises(StoreError, match="every store failed"):
        fan_out("db", Stream("dump", endless), [sink], lambda _: None)
    assert len(read) == 1
    assert "disk full" in sink.of("db").error


def test_a_shell_command_that_hangs_is_ended() -> None:
    with pytest.raises(SourceError, match="did not end within"):
        shell("sleep 30", 0.2, "pause")
