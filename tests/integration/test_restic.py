# SPDX-License-Identifier: GPL-3.0-or-later
"""The restic store, with the real restic on a real disk."""

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from restaura import trees
from restaura.config.schema import Store
from restaura.errors import ConfigError, DamagedError, SpaceError, StoreError
from restaura.host import Host
from restaura.point import Record, StoredArtifact, new_id
from restaura.sources import Stream, Tree
from restaura.stores import StoredPoint, StreamWriter, Writer, repository
from restaura.stores.restic import ResticStore
from tests.store_hosts import COMPONENT, make_host, make_manifest, take_point, write_stream

MIB = 1 << 20
WHEN = datetime(2025, 9, 22, 6, tzinfo=UTC)
LARGE = 17 * MIB


def open_host(root: Path, location: Path | str, **options: str) -> tuple[Host, ResticStore]:
    config = Store(name="main", type="restic", location=str(location), **options)
    host = make_host(root, config)
    (host.paths.keys / "stores.main.password").write_text("correct horse\n")
    return host, ResticStore(config, host)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host and an empty store, made once: making a repository takes seconds."""
    top = tmp_path_factory.mktemp("fresh")
    host, store = open_host(top / "host", top / "store")
    assert store.create(Writer(host.name, host.identity, ("nightly",)))
    return top


@pytest.fixture
def host_and_store(tmp_path: Path, fresh: Path) -> tuple[Host, ResticStore]:
    for part in ("host", "store"):
        shutil.copytree(fresh / part, tmp_path / part)
    return open_host(tmp_path / "host", tmp_path / "store")


@pytest.fixture
def store(host_and_store: tuple[Host, ResticStore]) -> ResticStore:
    return host_and_store[1]


@pytest.fixture
def host(host_and_store: tuple[Host, ResticStore]) -> Host:
    return host_and_store[0]


def restic(store: ResticStore, *arguments: str, data: bytes = b"") -> bytes:
    """Run the plain restic, as a person would."""
    env = {**os.environ, "RESTIC_PASSWORD": "correct horse", **store._environment()}
    command = ["restic", "--no-cache", "--repo", store.repository.url, *arguments]
    return subprocess.run(command, env=env, input=data, capture_output=True, check=True).stdout


def snapshots(store: ResticStore) -> list[dict[str, str]]:
    rows = json.loads(restic(store, "snapshots", "--json", "--no-lock"))
    return [dict(tag.split("=", 1) for tag in row["tags"]) | {"id": row["id"]} for row in rows]


def kinds(store: ResticStore) -> list[str]:
    return sorted(one["kind"] for one in snapshots(store))


def locks(store: ResticStore) -> list[str]:
    return sorted(one.name for one in (Path(store.repository.url) / "locks").iterdir())


def read(store: ResticStore, point: StoredPoint, name: str) -> bytes:
    assert point.manifest
    artifact = point.manifest.component(COMPONENT).artifact(name)
    with store.open_stream(point.manifest, artifact) as stream:
        return stream.read()


def begin(store: ResticStore, host: Host, at: datetime = WHEN):
    return store.begin(new_id(at), host.name, "nightly", "2025-09-22")


def left_behind(host: Host) -> list[str]:
    """What a writer must not leave: debts and spooled data."""
    spool = [one.name for one in host.paths.spool.iterdir()] if host.paths.spool.exists() else []
    return [*spool, *(debt.owner for debt in host.journal.open_debts())]


# -- streams ------------------------------------------------------------------------------------------------------


def test_small_and_large_streams_come_back_and_plain_restic_reads_them(store: ResticStore, host: Host) -> None:
    data = {"globals.sql": b"CREATE ROLE app;\n", "databases/app.dump": os.urandom(LARGE), "empty": b""}
    point = take_point(store, host, data)
    assert kinds(store) == ["manifest", "stream"]
    (listed,) = store.points("web1")
    assert listed == point
    for name, content in data.items():
        assert read(store, listed, name) == content
    large = next(one["id"] for one in snapshots(store) if one["kind"] == "stream")
    plain = restic(store, "dump", large, "/app.dump")
    assert hashlib.sha256(plain).digest() == hashlib.sha256(data["databases/app.dump"]).digest()
    assert left_behind(host) == []
    assert locks(store) == []


def test_a_hundred_small_streams_cost_one_snapshot_and_one_reading(store: ResticStore, host: Host) -> None:
    data = {f"databases/{number}.dump": b"%d" % number * 99 for number in range(100)}
    begun = time.monotonic()
    point = take_point(store, host, data)
    assert kinds(store) == ["manifest"]
    assert point.manifest
    for artifact in point.manifest.component(COMPONENT).artifacts:
        store.verify(point.manifest, artifact, None, full=False)
        store.verify(point.manifest, artifact, None, full=True)
    assert time.monotonic() - begun < 30


def test_small_streams_are_readable_before_the_point_is_sealed(store: ResticStore, host: Host) -> None:
    writer = begin(store, host)
    artifact = write_stream(writer, "globals.sql", b"data")
    manifest = make_manifest(host, writer._tags["point"], writer.label, "nightly", [artifact])
    with store.open_stream(manifest, artifact) as stream:
        assert stream.read() == b"data"
    writer.abort()


def test_a_small_stream_that_restic_does_not_find_keeps_the_point_from_being(store: ResticStore, host: Host) -> None:
    writer = begin(store, host)
    kept, lost = write_stream(writer, "kept", b"1"), write_stream(writer, "lost", b"2")
    writer.spooled(lost).unlink()
    manifest = make_manifest(host, writer._tags["point"], writer.label, "nightly", [kept, lost])
    with pytest.raises(StoreError, match="2 files of 3"):
        writer.seal(manifest)
    assert snapshots(store) == []
    writer.abort()
    assert store.points() == []
    assert left_behind(host) == []


def test_points_of_one_date_get_labels_of_their_own(store: ResticStore, host: Host) -> None:
    labels = [take_point(store, host, {"a": b"1"}).label for _ in range(3)]
    assert labels == ["2025-09-22", "2025-09-22T060000", "2025-09-22T060000-2"]


def test_an_aborted_stream_leaves_no_snapshot_and_the_others_go_on(store: ResticStore, host: Host) -> None:
    writer = begin(store, host)
    failing = writer.stream(COMPONENT, Stream("broken.dump", lambda: nullcontext(io.BytesIO())))
    failing.write(os.urandom(LARGE))
    kept = write_stream(writer, "kept", b"kept")
    failing.abort()
    assert snapshots(store) == []
    again = write_stream(writer, "broken.dump", b"second try")
    point = writer.seal(make_manifest(host, writer._tags["point"], writer.label, "nightly", [kept, again]))
    assert kinds(store) == ["manifest"]
    assert read(store, point, "broken.dump") == b"second try"


def test_an_aborted_point_leaves_nothing(store: ResticStore, host: Host) -> None:
    writer = begin(store, host)
    write_stream(writer, "large", os.urandom(LARGE))
    running = writer.stream(COMPONENT, Stream("running", lambda: nullcontext(io.BytesIO())))
    running.write(os.urandom(LARGE))
    assert kinds(store) == ["stream"]
    writer.abort()
    assert snapshots(store) == []
    assert left_behind(host) == []
    assert locks(store) == []
    assert store.points() == []


def test_a_stream_of_another_length_than_counted_is_refused(store: ResticStore, host: Host) -> None:
    writer = begin(store, host)
    for size in (10, LARGE):
        stream = writer.stream(COMPONENT, Stream(f"s{size}", lambda: nullcontext(io.BytesIO())))
        stream.write(bytes(size))
        with pytest.raises(StoreError):
            stream.commit(size + 1, "")
        stream.abort()
    backup = store.repository.backup_stream("short", "web1", ["program=restaura", f"point={writer._tags['point']}"])
    backup.write(b"12345")
    with pytest.raises(StoreError, match="5 of 6 bytes"):
        backup.commit(6)
    writer.abort()
    assert snapshots(store) == []


KILLED = """
    import io, os, signal, sys
    from contextlib import nullcontext
    from pathlib import Path
    from restaura.sources import Stream
    from tests.integration.test_restic import COMPONENT, begin, open_host, write_stream
    host, store = open_host(Path(sys.argv[1]), sys.argv[2])
    writer = begin(store, host)
    write_stream(writer, "small", b"small")
    write_stream(writer, "large", os.urandom(17 << 20))
    stream = writer.stream(COMPONENT, Stream("running", lambda: nullcontext(io.BytesIO())))
    stream.write(os.urandom(17 << 20))
    print("ready", flush=True)
    signal.pause()
"""


def test_sigkill_of_the_writer_then_sweep_leaves_nothing(store: ResticStore, host: Host, tmp_path: Path) -> None:
    sealed = take_point(store, host, {"a": b"1"})
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root}/src:{root}"}
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "host"), str(tmp_path / "store")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(2)  # restic must be up and hold its lock
        assert locks(store)
        os.kill(writer.pid, signal.SIGKILL)
    assert locks(store)
    debts = [one for one in host.journal.open_debts() if one.owner == "store:main"]
    assert [one.act for one in debts] == ["point"]
    for debt in debts:
        store.sweep(debt.data)
        store.sweep(debt.data)
    assert kinds(store) == ["manifest"]
    assert locks(store) == []
    assert store.points() == [sealed]


def test_sweep_leaves_a_sealed_point(store: ResticStore, host: Host) -> None:
    point = take_point(store, host, {"a": b"1"})
    store.sweep({"point": point.id})
    assert read(store, store.points()[0], "a") == b"1"


# -- listing, records, deleting -------------------------------------------------------------------------------------


def test_records_stand_beside_their_point_and_forged_ones_prove_nothing(store: ResticStore, host: Host) -> None:
    point = take_point(store, host, {"a": b"1"})
    record = Record(point.id, "drill", "2025-09-22T07:00:00+00:00", {COMPONENT: "proven"})
    store.add_record(point, record)
    tags = f"program=restaura,kind=record,host=web1,plan=nightly,point={point.id},label=2025-09-22"
    forged = json.dumps({**record.to_json(), "signature": {"key": "0", "value": "0"}}).encode()
    restic(store, "backup", "--stdin", "--stdin-filename", "record.json", "--tag", tags, data=forged)
    replayed = host.signer.sign(Record("20250101T000000Z-0000000000", "drill", "2025", {COMPONENT: "proven"}).to_json())
    restic(store, "backup", "--stdin", "--stdin-filename", "record.json", "--tag", tags, data=replayed)
    records = [record for one in store.points() for record in one.records]
    assert records == [record]
    assert store.points("other") == []
    log = "".join(one.read_text() for one in host.paths.logs.iterdir())
    assert log.count('"record ignored"') == 2


def test_a_forged_and_a_replayed_manifest_are_damage(store: ResticStore, host: Host) -> None:
    point = take_point(store, host, {"a": b"1"})
    assert point.manifest
    stranger = make_host(host.paths.root / "stranger", replace(store._config), key="cd" * 32)
    signed = host.signer.sign(point.manifest.to_json())
    cases = {
        "20250922T070000Z-0000000001": stranger.signer.sign(point.manifest.to_json()),
        "20250922T070000Z-0000000002": signed,
        "20250922T070000Z-0000000003": signed.replace(b'"label":"2025-09-22"', b'"label":"2025-09-23"'),
        "20250922T070000Z-0000000004": b"nonsense",
    }
    for identity, raw in cases.items():
        tags = f"program=restaura,kind=manifest,host=web1,plan=nightly,point={identity},label=2025-09-22"
        restic(store, "backup", "--stdin", "--stdin-filename", "manifest.json", "--tag", tags, data=raw)
    good, *bad = store.points()
    assert good == point
    assert [(one.id, one.manifest) for one in bad] == [(identity, None) for identity in cases]
    said = ["signed with a key", "another point", "signature does not hold", "not a signed document"]
    assert all(words in one.damage for words, one in zip(said, bad, strict=True))


def test_a_listing_reads_each_manifest_once(store: ResticStore, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    take_point(store, host, {"a": b"1"})
    _, fresh = open_host(host.paths.root / "bare", store._config.location)
    assert [one.manifest is not None for one in fresh.points()] == [True]
    monkeypatch.setattr(fresh.repository, "dump", lambda *_: pytest.fail("a cached manifest was read again"))
    assert [one.manifest is not None for one in fresh.points()] == [True]


def test_delete_forgets_its_own_snapshots_only(store: ResticStore, host: Host) -> None:
    large = os.urandom(LARGE)
    first = take_point(store, host, {"a": b"1", "big": large})
    second = take_point(store, host, {"a": b"2", "big": large}, at=WHEN.replace(day=23), label="2025-09-23")
    store.add_record(first, Record(first.id, "verify", "2025-09-23T00:00:00+00:00", {COMPONENT: "verified"}))
    restic(store, "backup", "--stdin", "--stdin-filename", "x", "--tag", "somebody", data=b"else's")
    store.delete(first)
    store.clean()
    assert store.points() == [second]
    assert (read(store, second, "a"), read(store, second, "big")) == (b"2", large)
    rows = json.loads(restic(store, "snapshots", "--json"))
    assert len(rows) == 3
    assert not any(f"point={first.id}" in row["tags"] for row in rows)
    store.delete(first)
    assert store.points() == [second]


# -- what must be refused -------------------------------------------------------------------------------------------


def test_check_says_what_is_there_and_create_changes_nothing_twice(store: ResticStore, host: Host) -> None:
    info = store.check(writing=True)
    assert info.version.startswith("restic 0.")
    assert info.free_bytes
    assert [one.host for one in info.writers] == ["web1"]
    assert not store.create(Writer(host.name, host.identity, ("nightly",)))


def test_wrong_password(store: ResticStore, host: Host) -> None:
    (host.paths.keys / "stores.main.password").write_text("wrong\n")
    with pytest.raises(StoreError, match="password does not open") as caught:
        store.check(writing=False)
    assert "kit" in caught.value.fix
    with pytest.raises(StoreError, match="password does not open"):
        store.create(Writer(host.name, host.identity, ("nightly",)))
    (host.paths.keys / "stores.main.password").unlink()
    with pytest.raises(ConfigError, match="password is missing"):
        store.check(writing=False)


def test_repository_gone(store: ResticStore, host: Host, tmp_path: Path) -> None:
    writer = begin(store, host)
    (tmp_path / "store/restic").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="no restic repository"):
        store.check(writing=True)
    with pytest.raises(StoreError, match="no restic repository"):
        store.points()
    with pytest.raises(StoreError, match="no restic repository"):
        write_stream(writer, "large", os.urandom(LARGE))
    writer.abort()
    assert [one.owner for one in host.journal.open_debts()] == ["store:main"]
    assert not (tmp_path / "store/restic").exists()
    (tmp_path / "moved").rename(tmp_path / "store/restic")
    assert store.points() == []


def test_an_old_restic_is_named(store: ResticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin/restic"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho restic 0.14.0 compiled with go1.19\n")
    old.chmod(0o755)
    monkeypatch.setattr("restaura.process.environment", lambda **extra: {"PATH": f"{old.parent}:/bin", **extra})
    with pytest.raises(ConfigError, match="too old") as caught:
        store.check(writing=False)
    assert "0.18" in caught.value.fix


def packs(store: ResticStore) -> list[Path]:
    found = [one for one in (Path(store.repository.url) / "data").rglob("*") if one.is_file()]
    return sorted(found, key=lambda one: one.stat().st_size)


def flip(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as pack:
        pack.seek(path.stat().st_size // 3)
        old = pack.read(1)
        pack.seek(-1, os.SEEK_CUR)
        pack.write(bytes([old[0] ^ 1]))


def test_a_flipped_bit_is_found_by_verify_and_refused_by_reading(store: ResticStore, host: Host) -> None:
    point = take_point(store, host, {"small": b"s", "big": os.urandom(LARGE)})
    assert point.manifest
    flip(packs(store)[-1])
    big, small = (
        point.manifest.component(COMPONENT).artifact("big"),
        point.manifest.component(COMPONENT).artifact("small"),
    )
    store.verify_all(full=False)
    store.verify(point.manifest, big, None, full=False)
    with pytest.raises(DamagedError):
        store.verify(point.manifest, big, None, full=True)
    store.verify(point.manifest, small, None, full=True)
    with pytest.raises(DamagedError):
        read(store, point, "big")
    with pytest.raises(DamagedError):
        store.verify_all(full=True)
    wrong = []
    for part in (1, 2):
        try:
            store.verify_part(part, 2)
        except DamagedError:
            wrong.append(part)
    assert len(wrong) == 1


def test_a_missing_pack_is_damage(store: ResticStore, host: Host) -> None:
    point = take_point(store, host, {"big": os.urandom(LARGE)})
    packs(store)[-1].unlink()
    with pytest.raises(DamagedError):
        read(store, point, "big")
    with pytest.raises(DamagedError):
        store.verify_all(full=False)


def test_an_unreadable_snapshot_is_listed_as_damage_and_others_still_come_back(
    store: ResticStore, host: Host, tmp_path: Path
) -> None:
    first = take_point(store, host, {"a": b"1"})
    second = take_point(store, host, {"a": b"2"}, at=WHEN.replace(day=23), label="2025-09-23")
    flip(Path(store.repository.url) / "snapshots" / first.where["snapshot"])
    _, fresh = open_host(tmp_path / "bare", store._config.location)
    damaged, whole = fresh.points("web1")
    assert whole == second
    assert (damaged.where, damaged.manifest, damaged.host) == ({"snapshot": first.where["snapshot"]}, None, "")
    assert damaged.damage
    assert read(fresh, second, "a") == b"2"


def test_a_snapshot_swapped_for_another_is_refused(store: ResticStore, host: Host, tmp_path: Path) -> None:
    """Somebody who can write the disk puts an older state under the id that the manifest names."""
    first = take_point(store, host, {"a": bytes(LARGE)})
    second = take_point(store, host, {"a": bytes(LARGE + 1)}, at=WHEN.replace(day=23))
    old, new = (
        one.manifest.component(COMPONENT).artifact("a").stored["snapshot"] for one in (first, second) if one.manifest
    )
    folder = Path(store.repository.url) / "snapshots"
    (folder / new).chmod(0o600)
    (folder / new).write_bytes((folder / old).read_bytes())
    _, fresh = open_host(tmp_path / "bare", store._config.location)
    with pytest.raises(DamagedError):
        read(fresh, second, "a")


def test_a_full_disk_fails_the_write_and_keeps_what_was_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "40m"):
        host, store = open_host(tmp_path / "host", disk / "store")
        store.create(Writer(host.name, host.identity, ("nightly",)))
        point = take_point(store, host, {"a": b"1"})
        writer = begin(store, host)
        with pytest.raises(SpaceError):
            write_stream(writer, "large", os.urandom(100 * MIB))
        writer.abort()
        assert read(store, point, "a") == b"1"
        assert store.points() == [point]


def test_the_reserve_stops_a_stream_and_a_tree_that_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "WATCH_SECONDS", 0.05)
    disk, source = tmp_path / "disk", tmp_path / "source"
    disk.mkdir()
    source.mkdir()
    (source / "big").write_bytes(os.urandom(700 * MIB))
    with mounted(disk, "1g"):
        host, store = open_host(tmp_path / "host", disk / "store")
        store.create(Writer(host.name, host.identity, ("nightly",)))
        settings = replace(host.config.settings, reserve_bytes=800 * MIB, reserve_percent=90)
        tight = Host(host.paths, replace(host.config, settings=settings))
        tight_store = ResticStore(store._config, tight)
        writer = begin(tight_store, tight)
        with pytest.raises(SpaceError, match="reserve"):
            writer.tree(COMPONENT, scanned(source))
        assert shutil.disk_usage(disk).used < 600 * MIB
        writer.abort()
        store.clean()
        writer = begin(tight_store, tight)
        with pytest.raises(SpaceError, match="reserve"):
            write_megabytes(writer.stream(COMPONENT, Stream("large", lambda: nullcontext(io.BytesIO()))), 700)
        writer.abort()
        assert store.points() == []


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# -- trees ----------------------------------------------------------------------------------------------------------

ODD = [
    b"\xff\xfe-latin",
    b"\xfe\xff-latin",
    b"new\nline",
    b"-dash",
    b"*glob?[a]",
    b"back\\slash",
    b"$HOME",
    b" sp ace ",
    b"'q\"",
    "ü\ufffd".encode(),
]


def populate(top: Path) -> None:
    """A tree with everything a real host has."""
    for folder in ("site/uploads", "site/empty", "site/cache/only-excluded", "mixed/sub"):
        (top / folder).mkdir(parents=True)
    for name in ODD:
        for folder in (b"site/uploads", b"\xe9t\xe9"):
            (top / os.fsdecode(folder)).mkdir(exist_ok=True)
            (top / os.fsdecode(folder) / os.fsdecode(name)).write_bytes(name * 9)
    (top / "site/index.php").write_text("<?php\n")
    os.link(top / "site/index.php", top / "site/linked.php")
    os.link(top / "site/index.php", top / "mixed/linked.php")
    (top / "site/current").symlink_to("uploads/../index.php")
    (top / "site/odd-link").symlink_to(os.fsdecode(b"to-\xff"))
    os.mkfifo(top / "site/fifo", 0o640)
    with (top / "site/sparse").open("wb") as sparse:
        sparse.seek(32 * MIB)
        sparse.write(b"end")
    (top / "site/setuid").write_bytes(b"#!x\n")
    os.chown(top / "site/setuid", 1234, 4321)
    (top / "site/setuid").chmod(0o6755)
    for command in (
        ["setfattr", "-n", "user.note", "-v", "kept", "site/index.php"],
        ["setfattr", "-n", "user.note", "-v", "kept", "site/uploads"],
        ["setfacl", "-m", "u:33:rw", "site/index.php"],
        ["setfacl", "-d", "-m", "g:33:rx", "site/uploads"],
        ["cp", "/bin/true", "site/capable"],
        ["setcap", "cap_net_bind_service+ep", "site/capable"],
    ):
        subprocess.run(command, cwd=top, check=True)
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('site/socket')"], cwd=top, check=True
    )
    os.mknod(top / "site/device", 0o20600, os.makedev(1, 3))
    (top / "site/cache/only-excluded/tmp.bin").write_bytes(b"no")
    (top / "mixed/secret.key").write_bytes(b"no")
    (top / "mixed/sub/kept").write_bytes(b"yes")
    os.utime(top / "mixed/sub/kept", ns=(1, 1_000_000_001))
    os.utime(top / "mixed/sub", ns=(1, 999_999_999))


def scanned(base: Path, without: tuple[str, ...] = ()) -> Tree:
    index = trees.scan(base, sorted(one.name for one in base.iterdir()))
    index.entries = [one for one in index.entries if not trees.below(one.path, without)]
    return Tree("tree", base, index)


EXCLUDED = ("site/cache/only-excluded/tmp.bin", "mixed/secret.key")


def store_tree(
    store: ResticStore, host: Host, tree: Tree, at: datetime = WHEN
) -> tuple[StoredPoint, StoredArtifact, trees.Index]:
    writer = begin(store, host, at)
    stored = writer.tree(COMPONENT, tree)
    index = trees.settle(
        tree.index, tree.base, writer.tree_entries(stored), lambda path: writer.read_file(stored, path)
    )
    point = writer.seal(make_manifest(host, writer._tags["point"], writer.label, "nightly", [stored]))
    return point, stored, index


def digest(top: Path) -> str:
    """The tree as the system's own tools see it: every attribute, hard links, holes, contents."""
    script = r"""
        find . -mindepth 1 ! -type s ! -type b ! -type c -printf '%P %y %m %U %G %T@ %l %n\0' | sort -z
        find . -type f -print0 | sort -z | xargs -0 sha256sum -z
        find . -mindepth 1 ! -type s ! -type l ! -type b ! -type c -print0 | sort -z |
            xargs -0 getfattr -h -d -m - --absolute-names
        find . -type f -links +1 -printf '%i %P\n' | sort -k2 |
            awk '{ if (!($1 in seen)) seen[$1] = NR; print seen[$1], $2 }'
    """
    out = subprocess.run(["bash", "-euc", script], cwd=top, capture_output=True, check=True).stdout
    return out.decode(errors="surrogateescape")


def restore(
    store: ResticStore,
    point: StoredPoint,
    stored: StoredArtifact,
    index: trees.Index,
    to: Path,
    paths: list[str] | None = None,
) -> None:
    assert point.manifest
    to.mkdir(mode=0o700)
    store.restore_tree(point.manifest, stored, index, to, paths)
    trees.apply(index if paths is None else trees.subset(index, paths), to)


def test_a_tree_of_everything_comes_back_equal(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    populate(source)
    tree = scanned(source, EXCLUDED)
    point, stored, index = store_tree(store, host, tree)
    assert (index.changed, index.torn, index.vanished) == ([], [], [])
    assert len(index.entries) == len(tree.index.entries)
    restore(store, point, stored, index, tmp_path / "back")
    for path in EXCLUDED:
        assert not (tmp_path / "back" / path).exists()
        moved = (source / path).parent
        times = moved.stat()
        (source / path).unlink()
        os.utime(moved, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(tmp_path / "back") == digest(source)
    assert (tmp_path / "back/site/sparse").stat().st_blocks * 512 < MIB
    assert not os.path.lexists(tmp_path / "back/site/device")
    assert (tmp_path / "back/site/cache/only-excluded").is_dir()
    assert point.manifest
    for full in (False, True):
        store.verify(point.manifest, stored, index, full)


def test_parts_of_a_tree_come_back_alone(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    populate(source)
    point, stored, index = store_tree(store, host, scanned(source, EXCLUDED))
    odd = "site/uploads/*glob?[a]"
    restore(
        store, point, stored, index, tmp_path / "back", [odd, "mixed/sub", os.fsdecode(b"\xe9t\xe9/\xff\xfe-latin")]
    )
    back = sorted(
        os.fsencode(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*") if not one.is_dir()
    )
    assert back == sorted([odd.encode(), b"mixed/sub/kept", b"\xe9t\xe9/\xff\xfe-latin"])
    assert (tmp_path / "back/mixed/sub").stat().st_mtime_ns == 999_999_999
    restore(store, point, stored, index, tmp_path / "hollow", ["site/cache/only-excluded"])
    assert [one.name for one in (tmp_path / "hollow").rglob("*")] == ["site", "cache", "only-excluded"]


def test_what_changes_between_scan_and_copy_is_what_the_index_then_says(
    store: ResticStore, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    populate(source)
    (source / "site/log").write_bytes(b"one\n")
    tree = scanned(source, EXCLUDED)
    backup_paths = store.repository.backup_paths

    def at_the_last_moment(*arguments: Any, **more: Any) -> str:
        """The paths are chosen, restic has not read them yet."""
        with (source / "site/log").open("ab") as log:
            log.write(b"two\n")
        (source / "site/uploads/new").write_bytes(b"new")
        (source / "site/index.php").unlink()
        (source / "site/current").unlink()
        (source / "site/current").symlink_to("elsewhere/entirely")
        (source / "site/uploads/new-link").symlink_to("new")
        os.mknod(source / "site/uploads/new-device", 0o20600, os.makedev(1, 5))
        Path(os.fsdecode(os.fsencode(source) + b"/site/uploads/new-\xff")).write_bytes(b"odd")
        (source / "mixed/another-secret.key").write_bytes(b"no")
        return backup_paths(*arguments, **more)

    monkeypatch.setattr(store.repository, "backup_paths", at_the_last_moment)
    point, stored, index = store_tree(store, host, tree)
    monkeypatch.undo()
    assert index.vanished == ["site/index.php"]
    assert index.torn == []
    assert {"site/log", "site/current", "site/uploads/new", "site/uploads/new-link"} <= set(index.changed)
    restore(store, point, stored, index, tmp_path / "back")
    assert (tmp_path / "back/site/log").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "back/site/uploads/new").read_bytes() == b"new"
    assert (tmp_path / "back/site/current").readlink() == Path("elsewhere/entirely")
    assert (tmp_path / "back/site/uploads/new-link").readlink() == Path("new")
    uploads = os.listdir(os.fsencode(tmp_path / "back/site/uploads"))  # noqa: PTH208 - as bytes
    assert sorted(uploads) == sorted([*ODD, b"new", b"new-link"])
    assert sorted(one.name for one in (tmp_path / "back/mixed").iterdir()) == ["linked.php", "sub"]


def test_a_second_run_reads_only_what_changed(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "etc").mkdir(parents=True)
    (source / "etc/big").write_bytes(os.urandom(30 * MIB))
    (source / "etc/excluded").write_bytes(b"no")
    store_tree(store, host, scanned(source, ("etc/excluded",)))
    (source / "etc/more").write_bytes(os.urandom(MIB))
    point, _, _ = store_tree(store, host, scanned(source, ("etc/excluded",)), WHEN.replace(day=23))
    rows = json.loads(restic(store, "snapshots", "--json"))
    newest = next(one for one in rows if f"point={point.id}" in one["tags"] and "kind=tree" in one["tags"])
    assert newest["parent"]
    assert (newest["summary"]["files_unmodified"], newest["summary"]["files_new"]) == (1, 1)
    assert newest["summary"]["data_added"] < 2 * MIB


def test_a_tree_of_nothing_but_folders_and_sockets(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "run").mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('run/s')"], cwd=source, check=True
    )
    (source / "run/excluded").write_bytes(b"no")
    point, stored, index = store_tree(store, host, scanned(source, ("run/excluded",)))
    assert kinds(store) == ["manifest"]
    restore(store, point, stored, index, tmp_path / "back")
    assert [one.name for one in (tmp_path / "back").rglob("*")] == ["run"]
    store.delete(point)
    assert snapshots(store) == []


def test_an_unreadable_file_is_an_error_that_names_it(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a/fine").write_bytes(b"1")
    (source / "a/locked").write_bytes(b"1")
    tree = scanned(source)
    writer = begin(store, host)
    # What root cannot open: a file that is the memory of a process, bound over the one that was scanned.
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", str(source / "a/locked")], check=True)
    try:
        with pytest.raises(StoreError, match="locked"):
            writer.tree(COMPONENT, tree)
    finally:
        subprocess.run(["umount", str(source / "a/locked")], check=True)
    writer.abort()
    assert snapshots(store) == []


def test_a_damaged_tree_is_refused(store: ResticStore, host: Host, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a/big").write_bytes(os.urandom(5 * MIB))
    point, stored, index = store_tree(store, host, scanned(source))
    assert point.manifest
    wrong = replace(index, entries=[replace(one, sha256="0" * 64) if one.sha256 else one for one in index.entries])
    with pytest.raises(DamagedError, match="a/big"):
        store.verify(point.manifest, stored, wrong, full=True)
    more = replace(index, entries=[*index.entries, replace(index.entries[-1], path="a/missing")])
    for full in (False, True):
        with pytest.raises(DamagedError, match="a/missing"):
            store.verify(point.manifest, stored, more, full=full)
    (tmp_path / "lacking").mkdir()
    with pytest.raises(DamagedError, match="a/missing"):
        store.restore_tree(point.manifest, stored, more, tmp_path / "lacking", None)
    flip(packs(store)[-1])
    (tmp_path / "back").mkdir()
    with pytest.raises(DamagedError):
        store.restore_tree(point.manifest, stored, index, tmp_path / "back", None)
    with pytest.raises(DamagedError):
        store.verify(point.manifest, stored, index, full=True)


# -- S3 -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bucket() -> str:
    return f"s3:{os.environ['RESTAURA_TEST_S3_ENDPOINT']}/restic-{secrets.token_hex(4)}/acme"


def test_a_repository_in_s3(bucket: str, tmp_path: Path) -> None:
    host, store = open_host(tmp_path / "host", bucket)
    assert store.remote
    assert store.create(Writer(host.name, host.identity, ("nightly",)))
    data = {"small": b"s" * 99, "big": os.urandom(LARGE)}
    point = take_point(store, host, data)
    assert store.check(writing=True).free_bytes is None
    assert {name: read(store, store.points()[0], name) for name in data} == data
    source = tmp_path / "source"
    populate(source)
    tree_point, stored, index = store_tree(store, host, scanned(source, EXCLUDED), WHEN.replace(day=23))
    restore(store, tree_point, stored, index, tmp_path / "back", ["mixed/sub"])
    assert (tmp_path / "back/mixed/sub/kept").read_bytes() == b"yes"
    store.verify_all(full=True)
    store.delete(point)
    store.clean()
    assert [one.id for one in store.points()] == [tree_point.id]
    (host.paths.keys / "stores.main.s3_secret_key").write_text("wrong")
    with pytest.raises(StoreError):
        store.check(writing=False)


def write_megabytes(stream: StreamWriter, count: int) -> None:
    for _ in range(count):
        stream.write(os.urandom(MIB))


class Proxy:
    """Passes TCP connections on to the S3 server, until it is cut."""

    def __init__(self) -> None:
        self._server = urlsplit(os.environ["RESTAURA_TEST_S3_ENDPOINT"])
        self.port = 0
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        # A thread that waits in accept() keeps a closed socket listening.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((self._server.hostname, self._server.port))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_s3_gone_in_the_middle_fails_the_point_and_is_swept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "PATIENCE_SECONDS", 4)
    proxy = Proxy()
    host, store = open_host(tmp_path / "host", f"s3:http://127.0.0.1:{proxy.port}/gone-{secrets.token_hex(4)}")
    store.create(Writer(host.name, host.identity, ("nightly",)))
    sealed = take_point(store, host, {"a": b"1"})
    writer = begin(store, host)
    artifacts = [write_stream(writer, "whole", os.urandom(LARGE))]
    stream = writer.stream(COMPONENT, Stream("cut", lambda: nullcontext(io.BytesIO())))
    stream.write(os.urandom(LARGE))
    proxy.cut()
    begun = time.monotonic()
    with pytest.raises(StoreError, match="does not answer"):
        write_megabytes(stream, 320)
    stream.abort()
    with pytest.raises(StoreError, match="does not answer"):
        writer.seal(make_manifest(host, writer._tags["point"], writer.label, "nightly", artifacts))
    writer.abort()
    assert time.monotonic() - begun < 90
    (debt,) = host.journal.open_debts()
    assert debt.owner == "store:main"
    proxy.open()
    store.sweep(debt.data)
    assert store.points() == [sealed]
    # Its small stream lies in the manifest's own snapshot.
    assert [one["kind"] for one in snapshots(store)] == ["manifest"]
    proxy.cut()


def test_a_dead_s3_fails_soon_and_names_it(tmp_path: Path) -> None:
    _, store = open_host(tmp_path / "host", "s3:http://127.0.0.1:9/acme-backups")
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9"):
        store.check(writing=True)
    assert time.monotonic() - begun < 60
