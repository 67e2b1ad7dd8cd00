# SPDX-License-Identifier: GPL-3.0-or-later
"""The dated store on a real disk and a real S3 server, read back with nothing but tar, zstd, age and an S3 client."""

import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from restaura import trees
from restaura.config.schema import Store
from restaura.errors import DamagedError, IdentityError, SpaceError, StoreError
from restaura.host import Host
from restaura.point import Record, Signer, StoredArtifact, new_id
from restaura.sources import Stream, Tree
from restaura.stores import StoredPoint, Writer, s3
from restaura.stores.dated import DatedStore
from tests.store_hosts import COMPONENT, make_host, make_manifest, take_point, write_stream

MIB = 1 << 20
RANDOM = os.urandom(3 * MIB)
TEXT = b"one line and another\n" * 100_000
AT = datetime(2025, 9, 22, 6, tzinfo=UTC)
NOTHING = contextlib.nullcontext(io.BytesIO())


@dataclass
class Place:
    """Where a store is, and how somebody without Restaura reads and changes what is there."""

    location: str
    listed: Callable[[], list[str]]
    get: Callable[[str], bytes]
    put: Callable[[str, bytes], None]
    uploads: Callable[[], list[str]]


def s3_place() -> Iterator[Place]:
    endpoint, bucket = os.environ["RESTAURA_TEST_S3_ENDPOINT"], f"dated-{secrets.token_hex(4)}"
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    prefix = "some/where/"

    def keys() -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [one["Key"][len(prefix) :] for page in pages for one in page.get("Contents", [])]

    yield Place(
        f"s3:{endpoint}/{bucket}/some/where",
        keys,
        lambda key: client.get_object(Bucket=bucket, Key=prefix + key)["Body"].read(),
        lambda key, data: client.put_object(Bucket=bucket, Key=prefix + key, Body=data),
        lambda: [one["Key"] for one in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])],
    )
    with contextlib.suppress(client.exceptions.NoSuchBucket):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: client.delete_object(Bucket=bucket, Key=prefix + key), keys()))
        client.delete_bucket(Bucket=bucket)
    client.close()


def local_place(root: Path) -> Place:
    top = root / "store"

    def put(key: str, data: bytes) -> None:
        (top / key).parent.mkdir(parents=True, exist_ok=True)
        (top / key).write_bytes(data)

    return Place(
        str(top),
        lambda: sorted(str(one.relative_to(top)) for one in top.rglob("*") if not one.is_dir()),
        lambda key: (top / key).read_bytes(),
        put,
        list,
    )


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "s3":
        yield from s3_place()
    else:
        yield local_place(tmp_path)


def configured(place: Place, **options: object) -> Store:
    return Store(name="main", type="dated", location=place.location, **options)  # type: ignore[arg-type]


def made(root: Path, config: Store, **identity: str) -> tuple[DatedStore, Host]:
    """Return a store that setup made, and its host."""
    host = make_host(root / "host", config, **identity)
    store = DatedStore(config, host)
    store.create(Writer(host.name, host.identity, ("nightly",)))
    return store, host


@pytest.fixture
def opened(place: Place, tmp_path: Path) -> tuple[DatedStore, Host]:
    return made(tmp_path, configured(place))


def piped(data: bytes, *argv: str | Path) -> bytes:
    return subprocess.run(list(map(str, argv)), input=data, check=True, capture_output=True).stdout


def artifact_of(point: StoredPoint, name: str) -> StoredArtifact:
    assert point.manifest is not None
    return point.manifest.component(COMPONENT).artifact(name)


def content(store: DatedStore, point: StoredPoint, name: str) -> bytes:
    assert point.manifest is not None
    with store.open_stream(point.manifest, artifact_of(point, name)) as stream:
        return stream.read()


def flipped(data: bytes, at: int | None = None) -> bytes:
    at = len(data) // 2 if at is None else at
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# -- round trips --------------------------------------------------------------------------------------------------


@pytest.mark.debian12
@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("encrypt", [True, False])
def test_streams_are_read_back_by_plain_tools_and_by_us(
    place: Place, tmp_path: Path, compression: str, encrypt: bool
) -> None:
    store, host = made(tmp_path, configured(place, compression=compression, encrypt=encrypt))
    streams = {"db/app.dump": RANDOM, "text": TEXT, "empty": b"", "odd %0A": b"x"}
    taken = take_point(store, host, streams)
    (point,) = DatedStore(configured(place), host).points()
    assert point == replace(taken, records=())
    suffix = ".zst" * (compression == "zstd") + ".age" * encrypt
    for name, data in streams.items():
        stored = place.get(f"web1/nightly/2025-09-22/app/{name}{suffix}")
        if encrypt:
            assert len(data) < 9 or data[:9] not in stored
            stored = piped(stored, "age", "-d", "-i", host.key("age.key"))
        if compression == "zstd":
            stored = piped(stored, "zstd", "-dc")
        assert stored == data
        assert content(store, point, name) == data
    assert place.uploads() == []


@pytest.mark.debian12
def test_a_secret_is_never_stored_in_the_clear_and_a_second_key_opens_it(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)
    recipient = piped(b"", "age-keygen", "-y", other).decode().strip()
    config = configured(place, encrypt=False, compression="none", age_recipients=(recipient,))
    store, host = made(tmp_path, config)
    take_point(store, host, {"globals.sql": TEXT}, secret=True)
    stored = place.get("web1/nightly/2025-09-22/app/globals.sql.age")
    assert b"one line" not in stored
    assert piped(stored, "age", "-d", "-i", other) == TEXT


def make_tree(base: Path) -> None:
    """Make a tree of everything that real hosts have and a tar can hold."""
    script = r"""
    mkdir -p folder/deeper etc; chmod 2770 folder; chown 1234:4321 folder
    printf hello > plain; ln plain folder/hard; ln -s ../nowhere folder/link; ln -s /etc/passwd absolute
    printf x > "$(printf 'new\nline')"; printf y > "$(printf '\377\376 bad')"; printf z > ./-lead
    printf q > 'back\nslash'
    truncate -s 30M sparse; printf mid | dd of=sparse bs=1 seek=10000000 conv=notrunc status=none
    mkfifo pipe
    cp /bin/true capable; setcap cap_net_raw+ep capable; cp /bin/true setuid; chmod 4755 setuid
    printf a > acl; setfacl -m u:1234:rw,g:4321:r acl; setfacl -d -m u:99:rwx etc
    printf b > attributes; setfattr -n user.note -v 0x00ff0a attributes; setfattr -n trusted.note -v kept attributes
    head -c 3000000 /dev/urandom > random; touch -d 1969-12-31T23:00:00.123456789Z old; touch -d 2222-01-01 future
    for n in $(seq 300); do echo $n > etc/$n; done
    """
    subprocess.run(["sh", "-ec", script], cwd=base, check=True)


def told(base: Path) -> str:
    """Return all that find, sha256sum, getfattr and getfacl say of a tree."""
    script = r"""
    find . ! -name . -printf '%P %y %#m %n %U:%G %T@ %l\n' | sort
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    find . ! -name . ! -type l -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex
    find . ! -name . ! -type l -print0 | sort -z | xargs -0 getfacl -n -p
    getcap -r . | sort
    """
    done = subprocess.run(["sh", "-ec", script], cwd=base, check=True, capture_output=True)
    return done.stdout.decode(errors="backslashreplace")


def take_tree(store: DatedStore, host: Host, base: Path) -> tuple[StoredPoint, trees.Index]:
    """Take a point of one tree as the pipeline does, its settled index beside it."""
    point_id = new_id(AT)
    writer = store.begin(point_id, host.name, "nightly", "2025-09-22")
    tree = Tree("tree", base, trees.scan(base, sorted(one.name for one in base.iterdir())))
    stored = writer.tree(COMPONENT, tree)
    index = trees.settle(
        tree.index, tree.base, writer.tree_entries(stored), lambda path: writer.read_file(stored, path)
    )
    kept = write_stream(writer, "tree.index.jsonl", b"".join(index.dump()))
    artifacts = [replace(stored, sha256=kept.sha256), kept]
    return writer.seal(make_manifest(host, point_id, writer.label, "nightly", artifacts)), index


@pytest.mark.debian12
@pytest.mark.parametrize("encrypt", [True, False])
def test_a_tree_comes_back_by_plain_tar_and_by_us(place: Place, tmp_path: Path, encrypt: bool) -> None:
    base, plain, ours = (tmp_path / one for one in ("base", "plain", "ours"))
    for folder in (base, plain, ours):
        folder.mkdir()
    make_tree(base)
    store, host = made(tmp_path, configured(place, encrypt=encrypt))
    point, index = take_tree(store, host, base)
    assert (index.changed, index.torn, index.vanished) == ([], [], [])
    data = place.get(f"web1/nightly/2025-09-22/app/tree.tar.zst{'.age' * encrypt}")
    if encrypt:
        data = piped(data, "age", "-d", "-i", host.key("age.key"))
    options = ["-p", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner"]
    subprocess.run(["tar", "-x", "--zstd", *options, "-C", plain], input=data, check=True)
    assert told(plain) == told(base)
    assert point.manifest is not None
    store.restore_tree(point.manifest, artifact_of(point, "tree"), index, ours, None)
    assert told(ours) == told(base)
    assert (ours / "sparse").stat().st_blocks * 512 < 2 * MIB


def test_one_path_of_a_tree_comes_back(opened: tuple[DatedStore, Host], tmp_path: Path) -> None:
    store, host = opened
    base, back = tmp_path / "base", tmp_path / "back"
    base.mkdir()
    back.mkdir()
    make_tree(base)
    point, index = take_tree(store, host, base)
    assert point.manifest is not None
    store.restore_tree(point.manifest, artifact_of(point, "tree"), index, back, ["folder", "new\nline"])
    assert sorted(str(one.relative_to(back)) for one in back.rglob("*")) == [
        "folder",
        "folder/deeper",
        "folder/hard",
        "folder/link",
        "new\nline",
    ]
    assert (back / "folder/hard").read_bytes() == b"hello"


def test_files_that_change_under_the_copy_are_settled_as_the_archive_has_them(
    opened: tuple[DatedStore, Host], tmp_path: Path
) -> None:
    store, host = opened
    base, back = tmp_path / "base", tmp_path / "back"
    base.mkdir()
    back.mkdir()
    for name in ("log", "gone", "rewritten"):
        (base / name).write_bytes(b"before")
    point_id = new_id(AT)
    writer = store.begin(point_id, host.name, "nightly", "2025-09-22")
    tree = Tree("tree", base, trees.scan(base, ["gone", "log", "rewritten"]))
    (base / "gone").unlink()
    (base / "log").write_bytes(b"before and after")
    (base / "rewritten").write_bytes(b"other!")
    stored = writer.tree(COMPONENT, tree)
    index = trees.settle(
        tree.index, tree.base, writer.tree_entries(stored), lambda path: writer.read_file(stored, path)
    )
    assert (index.vanished, index.changed, index.torn) == (["gone"], ["log", "rewritten"], [])
    with writer.read_file(stored, "log") as stream:
        assert stream.read() == b"before and after"
    point = writer.seal(make_manifest(host, point_id, writer.label, "nightly", [stored]))
    assert point.manifest is not None
    store.restore_tree(point.manifest, stored, index, back, None)
    assert {one.name: one.read_bytes() for one in back.iterdir()} == {
        "log": b"before and after",
        "rewritten": b"other!",
    }


# -- what a writer leaves -------------------------------------------------------------------------------------------

KILLED = """
import os, sys
sys.path[:0] = {path!r}
from tests.integration.test_dated import *
config = Store(**{config!r})
host = make_host(Path({root!r}), config)
writer = DatedStore(config, host).begin(new_id(AT), host.name, "nightly", "2025-09-22")
write_stream(writer, "done", RANDOM)
half = writer.stream(COMPONENT, Stream("half", lambda: NOTHING, expected_bytes=1))
for _ in range(40):
    half.write(os.urandom(MIB))
print("half-way", flush=True)
import time; time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_that_sweep_does_not_remove(place: Place, tmp_path: Path) -> None:
    config = configured(place)
    _, host = made(tmp_path, config)
    before = place.listed()
    options = {"name": "main", "type": "dated", "location": config.location}
    script = KILLED.format(path=sys.path, config=options, root=str(tmp_path / "host"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd="/") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half-way\n"
        child.send_signal(signal.SIGKILL)
    (debt,) = host.journal.open_debts()
    assert (debt.owner, debt.act, debt.process.alive) == ("store:main", "point", False)
    left = set(place.listed()) - set(before)
    assert "web1/nightly/2025-09-22/app/done.zst" in left
    assert place.uploads() or any(one.endswith(".part") for one in left)
    store = DatedStore(config, host)
    assert store.points() == []
    for _ in range(2):
        store.sweep(debt.data)
        assert set(place.listed()) - set(before) == {"web1/nightly/.claims/2025-09-22"}
        assert place.uploads() == []
    assert take_point(store, host, {"x": b"1"}).label == "2025-09-22T060000"


def test_sweep_leaves_a_sealed_point(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    point = take_point(store, host, {"x": TEXT})
    store.sweep({"prefix": point.where["prefix"], "begun": []})
    assert content(store, point, "x") == TEXT


def test_an_aborted_artifact_and_an_aborted_point_leave_nothing(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    before = place.listed()
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-22")
    write_stream(writer, "kept", TEXT)
    stream = writer.stream(COMPONENT, Stream("dropped", lambda: NOTHING, expected_bytes=1))
    for _ in range(40):
        stream.write(os.urandom(MIB))
    stream.abort()
    assert [one for one in place.listed() if "dropped" in one] == place.uploads() == []
    write_stream(writer, "dropped", b"its name is free again")
    with pytest.raises(StoreError, match="twice"):
        write_stream(writer, "dropped", b"")
    unfinished = writer.stream(COMPONENT, Stream("unfinished", lambda: NOTHING))
    unfinished.write(TEXT)
    writer.abort()
    assert set(place.listed()) - set(before) == {"web1/nightly/.claims/2025-09-22"}
    assert host.journal.open_debts() == []


def test_a_label_is_given_once_whatever_the_clock_says(opened: tuple[DatedStore, Host]) -> None:
    store, host = opened
    labels = [take_point(store, host, {"x": b"%d" % n}).label for n in range(3)]
    assert labels == ["2025-09-22", "2025-09-22T060000", "2025-09-22T060000-2"]
    for point in store.points():
        store.delete(point)
    assert take_point(store, host, {"x": b""}).label == "2025-09-22T060000-3"
    a_year_back = take_point(store, host, {"x": b""}, at=AT - timedelta(days=365), label="2024-09-22")
    assert a_year_back.label == "2024-09-22"


def test_a_prefix_that_holds_anything_is_not_written_into_though_its_claim_was_lost(
    opened: tuple[DatedStore, Host], place: Place
) -> None:
    store, host = opened
    point = take_point(store, host, {"x": TEXT})
    store.blobs.delete(["web1/nightly/.claims/2025-09-22"])
    assert take_point(store, host, {"x": b""}, at=AT + timedelta(hours=1)).label == "2025-09-22T070000"
    assert content(store, point, "x") == TEXT


def test_deleting_takes_the_point_its_records_and_nothing_else(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    first = take_point(store, host, {"db/x": TEXT, "y": b"y"})
    before = set(place.listed())
    second = take_point(store, host, {"db/x": TEXT, "y": b"y"}, label="2025-09-23", at=AT + timedelta(days=1))
    store.add_record(second, Record(second.id, "drill", "2025-09-23T07:00:00+00:00", {COMPONENT: "proven"}))
    (_, listed) = store.points()
    assert [record.results for record in listed.records] == [{COMPONENT: "proven"}]
    store.delete(listed)
    assert set(place.listed()) - before == {"web1/nightly/.claims/2025-09-23"}
    assert [point.id for point in store.points()] == [first.id]
    store.delete(listed)


# -- whose store it is ----------------------------------------------------------------------------------------------


def test_setup_run_twice_changes_nothing(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    before = {key: place.get(key) for key in place.listed()}
    assert sorted(before) == ["store.json", "writers/web1.json"]
    assert not store.create(Writer(host.name, host.identity, ("nightly",)))
    store.check(writing=True)
    assert {key: place.get(key) for key in place.listed()} == before
    assert store.create(Writer(host.name, host.identity, ("nightly", "weekly")))
    files = {"restaura.pyz": b"program", "config-web1.json": b"{}"}
    assert store.put_kit_files(files) == ["config-web1.json", "restaura.pyz"]
    assert store.put_kit_files({**files, "config-web1.json": b"{ }"}) == ["config-web1.json"]


def test_a_run_never_makes_a_store(place: Place, tmp_path: Path) -> None:
    config = configured(place)
    host = make_host(tmp_path / "host", config)
    store = DatedStore(config, host)
    if not store.remote:
        (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match=r"there is no store here|NoSuchBucket"):
        store.check(writing=True)
    with pytest.raises(StoreError, match=r"there is no store here|NoSuchBucket"):
        store.begin(new_id(AT), host.name, "nightly", "2025-09-22")
    assert host.journal.open_debts() == []


def test_a_rebuilt_host_is_refused_until_it_adopts_and_can_read_before(place: Place, tmp_path: Path) -> None:
    config = configured(place)
    store, host = made(tmp_path / "old", config)
    point = take_point(store, host, {"x": TEXT})
    rebuilt = make_host(tmp_path / "new/host", config, identity="second")
    there = DatedStore(config, rebuilt)
    writer = Writer(rebuilt.name, rebuilt.identity, ("nightly",))
    with pytest.raises(IdentityError, match="another machine writes here as web1") as caught:
        there.check(writing=True)
    assert "restaura adopt main" in caught.value.fix
    with pytest.raises(IdentityError):
        there.create(writer)
    there.check(writing=False)
    assert [one.id for one in there.points("web1")] == [point.id]
    there.adopt(writer)
    there.check(writing=True)
    with pytest.raises(IdentityError):
        store.check(writing=True)


def test_a_store_without_folders_takes_one_host_and_one_plan(place: Place, tmp_path: Path) -> None:
    config = configured(place, host_segment=False, plan_segment=False)
    store, host = made(tmp_path / "one", config)
    point = take_point(store, host, {"x": TEXT})
    assert "2025-09-22/app/x.zst" in place.listed()
    assert store.points("web1") == [point]
    second = make_host(tmp_path / "two/host", config, name="web2", identity="second")
    before = place.listed()
    with pytest.raises(IdentityError, match="admits one host, and web1 writes here"):
        DatedStore(config, second).create(Writer("web2", "second", ("nightly",)))
    with pytest.raises(IdentityError, match="admits one plan, and nightly, weekly would write here"):
        store.create(Writer(host.name, host.identity, ("nightly", "weekly")))
    assert place.listed() == before
    store.check(writing=True)
    changed = DatedStore(replace(config, host_segment=True), host)
    with pytest.raises(StoreError, match="host_segment was False when the store was made"):
        changed.check(writing=False)
    with pytest.raises(StoreError, match="this is a dated store, not a restic one"):
        DatedStore(replace(config, type="restic"), host).check(writing=False)


def test_two_hosts_share_a_store_and_see_their_own(place: Place, tmp_path: Path) -> None:
    config = configured(place)
    stores = []
    for number, name in enumerate(("web1", "web2")):
        store, host = made(tmp_path / name, config, name=name, identity=str(number))
        stores.append((store, take_point(store, host, {"x": name.encode()})))
    for store, point in stores:
        assert store.points(point.host) == [point]
        assert len(store.points()) == 2
    assert [one.host for one in stores[0][0].check(writing=True).writers] == ["web1", "web2"]


def test_a_store_of_other_keys_says_so(opened: tuple[DatedStore, Host], place: Place, tmp_path: Path) -> None:
    config = configured(place)
    stranger = make_host(tmp_path / "stranger", config, name="web2", identity="second", key="cd" * 32)
    for act in (
        lambda store: store.check(writing=False),
        lambda store: store.create(Writer("web2", "second")),
        lambda store: store.begin(new_id(AT), "web2", "nightly", "2025-09-22"),
    ):
        with pytest.raises(DamagedError, match="made by a host with other keys") as caught:
            act(DatedStore(config, stranger))
        assert "manifest.key" in caught.value.fix


# -- damage and forgery ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [True, False])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_flipped_bit_is_found_and_refused(place: Place, tmp_path: Path, encrypt: bool, compression: str) -> None:
    store, host = made(tmp_path, configured(place, encrypt=encrypt, compression=compression))
    point = take_point(store, host, {"x": RANDOM})
    assert point.manifest is not None
    artifact = artifact_of(point, "x")
    store.verify(point.manifest, artifact, None, full=True)
    (key,) = [one for one in place.listed() if "/app/x" in one]
    good = place.get(key)
    for at in (0, len(good) // 2, len(good) - 1):
        place.put(key, flipped(good, at))
        store.verify(point.manifest, artifact, None, full=False)
        with pytest.raises(DamagedError, match="stored bytes were changed"):
            store.verify(point.manifest, artifact, None, full=True)
        with pytest.raises(DamagedError):
            content(store, point, "x")
    for shorter in (good[:-1], good[: len(good) // 2], good[:1]):
        place.put(key, shorter)
        with pytest.raises(DamagedError, match="were stored"):
            store.verify(point.manifest, artifact, None, full=False)
        with pytest.raises(DamagedError):
            content(store, point, "x")
    place.put(key, good + b"\0")
    with pytest.raises(DamagedError):
        content(store, point, "x")


def test_a_stream_left_before_its_end_is_no_error_and_one_read_exactly_is_checked(
    opened: tuple[DatedStore, Host], place: Place
) -> None:
    store, host = opened
    point = take_point(store, host, {"x": RANDOM})
    assert point.manifest is not None
    with store.open_stream(point.manifest, artifact_of(point, "x")) as stream:
        assert stream.read(10) == RANDOM[:10]
    lie = replace(artifact_of(point, "x"), sha256="0" * 64)
    with (
        pytest.raises(DamagedError, match="not what was stored"),
        store.open_stream(point.manifest, lie) as stream,
    ):
        assert stream.read(len(RANDOM)) == RANDOM


def test_a_missing_artifact_is_damage(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    point = take_point(store, host, {"x": RANDOM})
    store.blobs.delete(["web1/nightly/2025-09-22/app/x.zst"])
    assert point.manifest is not None
    with pytest.raises(DamagedError, match="missing"):
        store.verify(point.manifest, artifact_of(point, "x"), None, full=False)
    with pytest.raises(DamagedError, match="missing"):
        content(store, point, "x")


def test_the_wrong_age_key_is_told_as_such(place: Place, tmp_path: Path) -> None:
    store, host = made(tmp_path, configured(place, encrypt=True))
    point = take_point(store, host, {"x": TEXT})
    key = host.key("age.key")
    key.rename(key.with_name("age.key.1"))
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    assert content(store, point, "x") == TEXT, "an older key that is kept still opens"
    key.with_name("age.key.1").unlink()
    with pytest.raises(DamagedError, match=r"age ended with exit code 1: .*no identity matched"):
        content(store, point, "x")


def test_a_changed_attribute_in_an_archive_is_refused(place: Place, tmp_path: Path) -> None:
    """No checksum of tar covers its extended headers, and the index none of the store's bytes."""
    store, host = made(tmp_path, configured(place, compression="none"))
    base, back = tmp_path / "base", tmp_path / "back"
    base.mkdir()
    back.mkdir()
    (base / "file").write_bytes(b"x")
    os.setxattr(base / "file", "user.role", b"reader")
    point, index = take_tree(store, host, base)
    key = "web1/nightly/2025-09-22/app/tree.tar"
    assert place.get(key).count(b"reader") == 1
    place.put(key, place.get(key).replace(b"reader", b"writer"))
    with pytest.raises(DamagedError, match="stored bytes were changed"):
        store.restore_tree(point.manifest, artifact_of(point, "tree"), index, back, None)  # type: ignore[arg-type]


def test_a_damaged_tree_is_refused(opened: tuple[DatedStore, Host], place: Place, tmp_path: Path) -> None:
    store, host = opened
    base, back = tmp_path / "base", tmp_path / "back"
    base.mkdir()
    back.mkdir()
    (base / "file").write_bytes(RANDOM)
    point, index = take_tree(store, host, base)
    key = "web1/nightly/2025-09-22/app/tree.tar.zst"
    good = place.get(key)
    hostile = subprocess.run(
        ["tar", "-C", base, "-c", "--transform=s,^,../,", "-P", "file"], check=True, capture_output=True
    ).stdout
    for bad in (flipped(good), good[:-9], piped(hostile, "zstd", "-c"), piped(b"", "zstd", "-c")):
        place.put(key, bad)
        with pytest.raises(DamagedError):
            store.restore_tree(point.manifest, artifact_of(point, "tree"), index, back, None)  # type: ignore[arg-type]
        assert not (tmp_path / "file").exists()


def test_forged_and_moved_manifests_are_damage_and_forged_records_count_for_nothing(
    opened: tuple[DatedStore, Host], place: Place
) -> None:
    store, host = opened
    point = take_point(store, host, {"x": b"1"})
    store.add_record(point, Record(point.id, "drill", "2025-09-23T07:00:00+00:00", {COMPONENT: "disproven"}))
    good = place.get("web1/nightly/2025-09-22/manifest.json")
    signature = json.loads(good)["signature"]
    changed = {**json.loads(good), "components": [], "signature": signature}
    by_another_key = Signer(b"another").sign(json.loads(good))
    for number, forged in enumerate((json.dumps(changed).encode(), by_another_key, b"{", b" ", b"[]", b"\xff"), 10):
        place.put(f"web1/nightly/2025-10-{number}/manifest.json", forged)
    place.put("web1/nightly/2025-10-20/manifest.json", good)
    place.put("web1/other/2025-09-22/manifest.json", good)
    proven = {"point": point.id, "kind": "drill", "at": "2025-09-24T00:00:00+00:00", "results": {COMPONENT: "proven"}}
    place.put("web1/nightly/2025-09-22/records/forged.json", Signer(b"another").sign(proven))
    place.put("web1/nightly/2025-09-22/records/other.json", host.signer.sign({**proven, "point": "another"}))
    found = store.points()
    whole = [one for one in found if one.manifest is not None]
    damaged = [one for one in found if one.manifest is None]
    assert [one.id for one in whole] == [point.id]
    assert [record.results for record in whole[0].records] == [{COMPONENT: "disproven"}]
    assert len(damaged) == 8
    assert all(one.damage and (one.host, one.plan) in (("web1", "nightly"), ("web1", "other")) for one in damaged)
    for one in damaged:
        with pytest.raises(StoreError, match="a damaged point is not deleted"):
            store.delete(one)
    place.put("web1/nightly/2025-09-22/manifest.json", flipped(good))
    (hit,) = [one for one in store.points() if one.label == "2025-09-22" and one.plan == "nightly"]
    assert hit.manifest is None
    assert (hit.id, bool(hit.damage)) == (point.id, True)


def test_every_point_is_listed_however_many_pages_that_takes(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE_KEYS", 7)
    store, host = made(tmp_path, configured(place))
    days = [AT + timedelta(days=number) for number in range(50)]
    for day in days:
        label = f"{day:%Y-%m-%d}"
        manifest = make_manifest(host, new_id(day), label, "nightly", [])
        place.put(f"web1/nightly/{label}/manifest.json", host.signer.sign(manifest.to_json()))
        place.put(f"web1/nightly/{label}/app/x", b"x")
    assert [one.label for one in store.points("web1")] == [f"{day:%Y-%m-%d}" for day in days]


# -- stores that fail -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_told_as_such_and_left_as_it_was(small_disk: Path, tmp_path: Path) -> None:
    config = Store(name="main", type="dated", location=str(small_disk / "store"))
    store, host = made(tmp_path, config)
    kept = take_point(store, host, {"x": TEXT})
    before = sorted(small_disk.rglob("*"))
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-23")
    with pytest.raises(SpaceError, match="the disk is full"):
        write_stream(writer, "big", os.urandom(40 * MIB))
    writer.abort()
    assert set(small_disk.rglob("*")) - set(before) == {small_disk / "store/web1/nightly/.claims/2025-09-23"}
    assert host.journal.open_debts() == []
    assert content(store, kept, "x") == TEXT
    base = tmp_path / "base"
    base.mkdir()
    (base / "big").write_bytes(os.urandom(40 * MIB))
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-24")
    # The size of a tree is known beforehand.
    with pytest.raises(SpaceError, match="do not fit"):
        writer.tree(COMPONENT, Tree("tree", base, trees.scan(base, ["big"])))
    writer.abort()


def test_a_disk_that_goes_away_fails_the_writer(tmp_path: Path) -> None:
    config = Store(name="main", type="dated", location=str(tmp_path / "store"))
    store, host = made(tmp_path, config)
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-22")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        write_stream(writer, "x", TEXT)
    writer.abort()
    with pytest.raises(StoreError, match="directory is not there"):
        store.points()
