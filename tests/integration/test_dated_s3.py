# SPDX-License-Identifier: GPL-3.0-or-later
"""The dated store on an S3 server that dies, hangs, breaks off or knows no conditional writes."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from restaura.config.schema import Store
from restaura.errors import StoreError
from restaura.host import Host
from restaura.point import new_id
from restaura.stores import s3
from restaura.stores.dated import DatedStore
from tests.integration.test_dated import AT, MIB, Place, content, made, s3_place
from tests.store_hosts import make_host, make_manifest, take_point, write_stream

DEAD_SECONDS = 90


class Proxy:
    """A TCP relay to the S3 server that can break: `allowed` bytes pass in each direction before it cuts."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.allowed: int | None = None
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *given: object) -> None:
        self._threads.append(threading.Thread(target=work, args=given))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            self._start(self._relay, near, far)
            self._start(self._relay, far, near)

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if self.allowed is not None:
                    self.allowed -= len(data)
                    if self.allowed < 0:
                        self.allowed = None
                        break
                sink.sendall(data)
        except OSError:
            pass
        self._drop(source, sink)

    @staticmethod
    def _drop(*sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Refuse all that comes, and drop all that is there."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop(*self._sockets)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    url = urlsplit(os.environ["RESTAURA_TEST_S3_ENDPOINT"])
    relay = Proxy((str(url.hostname), int(url.port or 80)))
    yield relay
    if relay.port:
        relay.close()


@pytest.fixture
def place() -> Iterator[Place]:
    yield from s3_place()


@pytest.fixture
def opened(place: Place, tmp_path: Path) -> tuple[DatedStore, Host]:
    return made(tmp_path, Store(name="main", type="dated", location=place.location, compression="none"))


@pytest.fixture
def relayed(place: Place, proxy: Proxy, tmp_path: Path) -> tuple[DatedStore, Host]:
    endpoint = os.environ["RESTAURA_TEST_S3_ENDPOINT"]
    location = place.location.replace(endpoint, f"http://127.0.0.1:{proxy.port}")
    return made(tmp_path, Store(name="main", type="dated", location=location, compression="none"))


def shut(proxy: Proxy) -> None:
    proxy.close()
    proxy.port = 0


@pytest.mark.debian12
def test_a_large_stream_goes_up_in_parts_and_comes_back(
    opened: tuple[DatedStore, Host], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES_UNKNOWN", 5 * MIB)
    store, host = opened
    big = os.urandom(12 * MIB + 1)
    point = take_point(store, host, {"big": big})
    assert place.uploads() == []
    stored = place.get("web1/nightly/2025-09-22/app/big")
    assert hashlib.sha256(stored).digest() == hashlib.sha256(content(store, point, "big")).digest()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(big).digest()


@pytest.mark.debian12
def test_one_of_many_gets_a_claim_also_without_the_look_before(opened: tuple[DatedStore, Host]) -> None:
    """The server's own conditional write decides: boto3 1.26 sends it as a plain header."""
    store, _ = opened
    blobs = store.blobs
    assert isinstance(blobs, s3.S3Blobs)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: blobs._put_conditionally("claim", b"%d" % number), range(8)))
    assert answers.count("") == 1
    assert set(answers) <= {"", "PreconditionFailed", "ConditionalRequestConflict"}
    assert blobs.get("claim") == b"%d" % answers.index("")


def test_a_server_that_ignores_conditions_still_refuses_what_is_there(
    opened: tuple[DatedStore, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_only_if_absent", lambda **_: None)
    store, host = opened
    fresh = DatedStore(store._config, host)
    assert fresh.blobs.put_if_absent("claim", b"first")
    assert not fresh.blobs.put_if_absent("claim", b"second")
    # A rival that wrote between our look and our write, and was then overwritten, reads bytes that are not its own.
    monkeypatch.setattr(fresh.blobs, "size", lambda _: None)
    real = fresh.blobs.get
    monkeypatch.setattr(fresh.blobs, "get", lambda key: (fresh.blobs.put(key, b"rival"), real(key))[1])
    assert not fresh.blobs.put_if_absent("claim", b"third")


def test_a_server_that_knows_no_conditions_is_written_to_without(
    opened: tuple[DatedStore, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = opened
    monkeypatch.setattr(store.blobs, "_put_conditionally", lambda *_: "NotImplemented")
    assert store.blobs.put_if_absent("claim", b"first")
    assert store.blobs.get("claim") == b"first"
    assert not store.blobs.put_if_absent("claim", b"second")


@pytest.mark.debian12
def test_an_empty_object_does_not_stall_what_follows_it(opened: tuple[DatedStore, Host]) -> None:
    store, host = opened
    began = time.monotonic()
    for _ in range(3):
        store.blobs.put("empty", b"")
        store.blobs.put("full", bytes(3 * MIB))
    point = take_point(store, host, {"empty": b"", "full": bytes(3 * MIB)})
    assert content(store, point, "empty") == b""
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_a_dead_server_is_told_of_soon_and_by_name(tmp_path: Path, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if how == "refused":
            listener.close()
        config = Store(name="offsite", type="dated", location=f"s3:http://127.0.0.1:{port}/bucket")
        store = DatedStore(config, make_host(tmp_path, config))
        began = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.check(writing=True)
    assert time.monotonic() - began < DEAD_SECONDS
    assert "store offsite" in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)


def test_wrong_keys_are_told_without_showing_them(place: Place, tmp_path: Path) -> None:
    config = Store(name="main", type="dated", location=place.location)
    host = make_host(tmp_path, config)
    secret = host.paths.keys / "stores.main.s3_secret_key"
    secret.write_text("not-the-secret")
    with pytest.raises(StoreError) as caught:
        DatedStore(config, host).check(writing=False)
    assert "s3_secret_key" in caught.value.fix
    assert "not-the-secret" not in str(caught.value)


def test_a_bucket_that_is_gone_is_no_empty_store(opened: tuple[DatedStore, Host], place: Place) -> None:
    store, host = opened
    gone = Store(name="main", type="dated", location=f"{place.location.rpartition('/some')[0]}-gone/some/where")
    with pytest.raises(StoreError, match="NoSuchBucket"):
        DatedStore(gone, host).points()
    assert store.points() == []


def test_a_server_that_dies_while_written_to_fails_the_writer_and_is_swept_when_it_is_back(
    relayed: tuple[DatedStore, Host], proxy: Proxy, place: Place, tmp_path: Path
) -> None:
    store, host = relayed
    before = set(place.listed())
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-22")
    write_stream(writer, "small", b"before")
    proxy.allowed = 40 * MIB
    killer = threading.Timer(0, lambda: (_until(lambda: bool(place.uploads())), shut(proxy)))
    killer.start()
    began = time.monotonic()
    with pytest.raises(StoreError):
        write_stream(writer, "big", os.urandom(200 * MIB))
    killer.join()
    writer.abort()
    assert time.monotonic() - began < 60
    (debt,) = host.journal.open_debts()
    # MinIO lists the uploads of a whole key only: each is journaled.
    assert debt.data["begun"] == ["web1/nightly/2025-09-22/app/big"]
    assert place.uploads() != []
    back = DatedStore(Store(name="main", type="dated", location=place.location), host)
    back.sweep(debt.data)
    assert set(place.listed()) - before == {"web1/nightly/.claims/2025-09-22"}
    assert place.uploads() == []


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_connection_that_breaks_while_read_is_taken_up_again(relayed: tuple[DatedStore, Host], proxy: Proxy) -> None:
    store, host = relayed
    data = os.urandom(12 * MIB)
    point = take_point(store, host, {"big": data})
    assert point.manifest is not None
    proxy.allowed = 5 * MIB
    assert content(store, point, "big") == data
    assert proxy.allowed is None


def test_a_server_that_is_gone_at_sealing_leaves_no_point(
    relayed: tuple[DatedStore, Host], proxy: Proxy, place: Place
) -> None:
    store, host = relayed
    point_id = new_id(AT)
    writer = store.begin(point_id, host.name, "nightly", "2025-09-22")
    stored = write_stream(writer, "small", b"whole")
    shut(proxy)
    with pytest.raises(StoreError):
        writer.seal(make_manifest(host, point_id, writer.label, "nightly", [stored]))
    writer.abort()
    (debt,) = host.journal.open_debts()
    back = DatedStore(Store(name="main", type="dated", location=place.location), host)
    assert back.points() == []
    back.sweep(debt.data)
    assert "web1/nightly/2025-09-22/app/small" not in place.listed()
