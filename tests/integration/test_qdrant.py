# SPDX-License-Identifier: GPL-3.0-or-later
"""Qdrant: backed up, restored and undone through the command line, and what goes wrong.

The server is a stand-in on Qdrant's own engine; what is there is told by Qdrant's own client.
"""

import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from restaura.config.schema import Config, Settings
from restaura.errors import SourceError
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import Fingerprint
from restaura.qdrant import swap
from restaura.qdrant.server import Server, Snapshot
from restaura.sources import Staged, Target
from restaura.sources.qdrant import Qdrant, QdrantComponent
from tests import docker_project
from tests.docker_project import docker, wait_until
from tests.integration.system import System
from tests.memory_point import take
from tests.qdrant_server import DOCS, INDEXES, LIBRARIES, ROOT, QdrantServer, alias, digest, make_docs, make_plain

KEY = {"QDRANT__SERVICE__API_KEY": "sesame", "QDRANT__SERVICE__READ_ONLY_API_KEY": "peep"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    """One server for all tests of this file."""
    made = QdrantServer(tmp_path_factory.mktemp("qdrant")).start()
    yield made
    made.remove()


@pytest.fixture
def server(running: QdrantServer) -> QdrantServer:
    """The server with two collections and three aliases, and nothing else."""
    running.faults()
    for one in running.call("GET", "/collections")["collections"]:
        running.call("DELETE", f"/collections/{one['name']}")
    shutil.rmtree(running.place / "snapshots")
    (running.place / "snapshots").mkdir()
    make_docs(running)
    make_plain(running)
    for name, collection in (("prod", "docs"), ("ler tudo", "docs"), ("simple", "plain")):
        alias(running, name, collection)
    return running


def system(place: Path, server: QdrantServer, **options: Any) -> System:
    """Return a host that keeps the component `qdrant` in a dated store, in files as they are."""
    one = System(place / "system")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}],
        plans=[{"name": "daily"}],
        components={"qdrant": [{"name": "qdrant", "url": server.url, "timeout": 20, **options}]},
    )
    return one


def stored(place: Path) -> list[str]:
    """Name the artifacts of the newest point."""
    folder = max(place.glob("store/web1/daily/2*")) / "qdrant"
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def left(server: QdrantServer) -> list[str]:
    """Name what Restaura left on the server."""
    collections = [one["name"] for one in server.call("GET", "/collections")["collections"]]
    return [one for one in collections if one not in ("docs", "plain")] + server.files()


def kept(host: System) -> list[Path]:
    return list((host.root / "var/lib/restaura/kept").glob("*"))


# -- the whole way --------------------


def test_what_is_wiped_comes_back_with_aliases_indexes_and_settings(server: QdrantServer, tmp_path: Path) -> None:
    before = digest(server)
    host = system(tmp_path, server)
    answer = host.run("run", "daily", "--drill")
    assert [one["verdict"] for one in answer["drill"]["results"]] == ["proven"]
    assert answer["components"][0]["consistency"] == "snapshot"
    assert "2 collections" in answer["components"][0]["notes"][0]
    assert (left(server), host.leftovers()) == ([], [])
    assert stored(tmp_path) == [
        "aliases.json",
        "docs/export.json",
        "docs/snapshot.snapshot",
        "plain/export.json",
        "plain/snapshot.snapshot",
    ]
    server.wipe()
    server.start()
    assert digest(server) != before
    host.run("restore", "--yes")
    assert digest(server) == before
    assert (left(server), host.leftovers()) == ([], [])


def test_a_collection_in_strict_mode_is_read_in_the_pages_that_it_allows(server: QdrantServer, tmp_path: Path) -> None:
    """Its settings come back with it, so that the copies of the freeze and of a drill are as strict."""
    strict = {"strict_mode_config": {"enabled": True, "max_query_limit": 3}}
    server.call("PATCH", "/collections/docs", strict)
    host = system(tmp_path, server)
    answer = host.run("run", "daily", "--drill")
    assert [one["verdict"] for one in answer["drill"]["results"]] == ["proven"]
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": list(range(5, 60))})
    host.run("restore", "--yes")
    assert server.call("POST", "/collections/docs/points/count", {"exact": True})["count"] == 60
    assert server.call("GET", "/collections/docs")["config"]["strict_mode_config"] == strict["strict_mode_config"]
    assert (left(server), host.leftovers()) == ([], [])


def test_one_named_collection_has_its_files_side_by_side(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server, collections=["prod"])
    taken = host.run("run", "daily")
    assert "so not taken: plain (or name it in `exclude_collections`)" in json.dumps(taken["components"][0]["notes"])
    assert stored(tmp_path) == ["aliases.json", "export.json", "snapshot.snapshot"]
    exported = json.loads((next(tmp_path.glob("store/web1/daily/2*/qdrant")) / "export.json").read_text())
    points = server.client().scroll("docs", limit=1000, with_payload=True, with_vectors=True)[0]
    assert [one["id"] for one in exported["points"]] == [one.id for one in points]
    assert exported["points"][3]["payload"] == points[3].payload
    assert exported["points"][3]["vector"]["img"] == points[3].vector["img"]
    # What was exported is written back by the interface, and is the same to the bit.
    before = digest(server)
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [one.id for one in points]})
    server.call("PUT", "/collections/docs/points?wait=true", {"points": exported["points"]})
    assert digest(server) == before


def test_a_restore_over_live_data_is_undone_and_discarded(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    host.run("run", "daily")
    backed_up = digest(server)
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [1, 2, 3]})
    server.call("PATCH", "/collections/plain", {"hnsw_config": {"m": 32}})
    alias(server, "prod", "plain")
    alias(server, "newer", "docs")
    changed = digest(server)
    shown = host.run("restore")
    assert (digest(server), shown["changed"]) == (changed, True)
    restored = host.run("restore", "--yes")
    assert digest(server) == backed_up
    host.run("undo", restored["id"])
    assert digest(server) == changed
    assert len([file for one in kept(host) for file in one.glob("*.snapshot")]) == 4
    host.run("undo", restored["id"], "--discard")
    assert (digest(server), left(server), host.leftovers(), kept(host)) == (changed, [], [], [])


def test_a_name_that_is_an_alias_now_is_switched_and_switched_back(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server, collections=["docs"])
    host.run("run", "daily")
    asked = "/collections/docs/points", {"ids": [1], "with_vector": True}
    wanted = server.call("POST", *asked)
    server.call("DELETE", "/collections/docs")
    make_plain(server, "docs_v2")
    alias(server, "docs", "docs_v2")

    def leading() -> dict[str, str]:
        return {one["alias_name"]: one["collection_name"] for one in server.call("GET", "/aliases")["aliases"]}

    restored = host.run("restore", "--yes")
    assert leading()["docs"].startswith("docs_restored_")
    assert leading()["prod"] == leading()["docs"]
    assert server.call("POST", *asked) == wanted
    host.run("undo", restored["id"])
    assert leading() == {"docs": "docs_v2", "simple": "plain"}
    host.run("undo", restored["id"], "--discard")
    there = [one["name"] for one in server.call("GET", "/collections")["collections"]]
    assert (there, server.files(), host.leftovers()) == (["docs_v2", "plain"], [], [])


def test_one_collection_goes_under_another_name_and_files_to_a_directory(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    host.run("run", "daily")
    before = digest(server)
    assert "only one collection" in host.run("restore", "--to", "name:x", "--yes", expect=2)["error"]["what"]
    assert "already" in host.run("restore", "--path", "docs", "--to", "name:plain", "--yes", expect=2)["error"]["what"]
    assert "no collection" in host.run("restore", "--path", "nope", "--yes", expect=5)["error"]["what"]
    host.run("restore", "--path", "docs", "--to", "name:old ones", "--yes")
    old, new = (
        server.call("POST", f"/collections/{name}/points/scroll", {"limit": 100, "with_vector": True})
        for name in ("docs", "old ones")
    )
    assert old == new
    server.call("DELETE", "/collections/old ones")
    assert digest(server) == before
    host.run("restore", "--to", f"dir:{tmp_path}/files", "--yes")
    files = [str(one.relative_to(tmp_path / "files")) for one in (tmp_path / "files").rglob("*") if one.is_file()]
    assert sorted(files) == stored(tmp_path)
    assert (digest(server), left(server), host.leftovers()) == (before, [], [])


# -- the fingerprint --------------------


def changes(server: QdrantServer) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield small changes of live data, each by what it is called."""

    def send(method: str, path: str, body: Any = None) -> Callable[[], object]:
        return lambda: server.call(method, f"/collections/docs{path}", body)

    def payload(value: Any) -> Callable[[], object]:
        return send("POST", "/points/payload?wait=true", {"points": [1], "payload": {"x": value}})

    def vector(name: str, value: Any) -> Callable[[], object]:
        return send("PUT", "/points/vectors?wait=true", {"points": [{"id": 1, "vector": {name: value}}]})

    def index(field: str, schema: Any) -> Callable[[], object]:
        return send("PUT", "/index?wait=true", {"field_name": field, "field_schema": schema})

    yield "a payload value", payload(1)
    yield "the type of a payload value", payload(1.0)
    yield "a number that is a text now", payload("1")
    yield "a payload value that is null", payload(None)
    yield "the order in a list", payload([1, 2])
    yield "the other order in a list", payload([2, 1])
    yield "a key deep in a payload", payload({"a": {"b": [{"c": 1}]}})
    yield "a big number's last digit", payload(2**63 - 1)
    yield "a big number's other last digit", payload(2**63 - 2)
    yield "a payload key less", send("POST", "/points/payload/delete?wait=true", {"points": [1], "keys": ["x"]})
    yield "a dense vector", vector("img", [0.5] * 8)
    yield "a dense vector's last bit", vector("img", [0.5] * 7 + [0.50000006])
    yield "a zero", vector("img", [0.5] * 7 + [0.0])
    yield "a zero's sign", vector("img", [0.5] * 7 + [-0.0])
    yield "a sparse vector", vector("bm25", {"indices": [1, 7], "values": [0.5, 0.25]})
    yield "a sparse vector's value", vector("bm25", {"indices": [1, 7], "values": [0.5, 0.5]})
    yield "a sparse vector's index", vector("bm25", {"indices": [1, 8], "values": [0.5, 0.5]})
    yield "a row more in a multivector", vector("late", [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    yield "the order in a multivector", vector("late", [[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    yield "a vector less", send("POST", "/points/vectors/delete?wait=true", {"points": [1], "vector": ["bm25"]})
    yield "a point less", send("POST", "/points/delete?wait=true", {"points": [4]})
    yield "an index less", send("DELETE", "/index/when?wait=true")
    yield "an index more", index("other", "keyword")
    yield "an index's type", index("other", "float")
    yield "an index's option", index("body", {**dict(INDEXES["body"]), "lowercase": False})
    yield "a setting of the graph", send("PATCH", "", {"hnsw_config": {"m": 17}})
    yield "a setting of the optimizer", send("PATCH", "", {"optimizers_config": {"deleted_threshold": 0.3}})
    yield "quantisation", send("PATCH", "", {"quantization_config": {"scalar": {"type": "int8", "quantile": 0.98}}})
    yield "where payloads are", send("PATCH", "", {"params": {"on_disk_payload": False}})
    yield "an alias more", lambda: alias(server, "more", "docs")
    yield "an alias that leads elsewhere", lambda: alias(server, "more", "plain")


def source(place: Path, server: QdrantServer, **options: Any) -> Qdrant:
    host = Host(Paths(place / "host"), Config(Settings(host="h", reserve_bytes=1_000_000)))
    return Qdrant(QdrantComponent(**{"name": "qdrant", "url": server.url, "timeout": 20, **options}), host)


def printed(one: Qdrant) -> Fingerprint:
    found = take(one).record.fingerprint
    assert found is not None
    return found


def test_the_fingerprint_sees_every_small_change(server: QdrantServer, tmp_path: Path) -> None:
    one = source(tmp_path, server, export=False, collections=["docs"])
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": list(range(5, 60))})
    known = printed(one)
    assert known.differences(printed(one)) == []
    unseen = []
    for what, change in changes(server):
        change()
        found = printed(one)
        if not known.differences(found):
            unseen.append(what)
        known = found
    assert unseen == []
    point = server.call("POST", "/collections/docs/points", {"ids": [2], "with_vector": True})[0]
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [2]})
    server.call("PUT", "/collections/docs/points?wait=true", {"points": [point]})
    assert known.differences(printed(one)) == [], "what was written anew is the same"


def test_a_catalog_reads_no_point_and_what_is_excluded_stays_out(server: QdrantServer, tmp_path: Path) -> None:
    one = source(tmp_path, server, export=False, exclude_collections=["docs"])
    server.faults(scroll_for_ever=True)
    point = take(one, "catalog")
    assert point.names() == ["plain/snapshot.snapshot", "aliases.json"]
    wanted = point.record.fingerprint
    assert wanted is not None
    assert wanted.counts == {"plain: points": 2}
    with one.scratch() as target:
        staged = one.stage(point, target)
        assert wanted.differences(one.fingerprint(staged, "catalog")) == []
        (copy,) = [entry["stage"] for entry in staged.data["collections"]]
        server.call("POST", f"/collections/{copy}/points/delete?wait=true", {"points": [1]})
        server.call("PATCH", f"/collections/{copy}", {"hnsw_config": {"m": 99}})
        found = wanted.differences(one.fingerprint(staged, "catalog"))
    assert found == ["plain: config hnsw_config.m: differs", "plain: points: 2 backed up, 1 restored"]
    assert left(server) == []


# -- how the server is reached --------------------


def test_a_key_and_a_certificate_are_needed_and_never_shown(tmp_path: Path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    tls = {"QDRANT__SERVICE__ENABLE_TLS": "true", "QDRANT__TLS__CERT": f"{tmp_path}/cert.pem"}
    server = QdrantServer(tmp_path / "tls", 6343).start(**KEY, **tls, QDRANT__TLS__KEY=f"{tmp_path}/key.pem")
    asked = {"ca_file": f"{tmp_path}/cert.pem", "timeout": 30}
    try:
        make_docs(server, 20)
        for number, (key, ca_file, said) in enumerate(
            [
                ("sesame", "", "certificate"),
                ("", "cert.pem", "401"),
                ("open", "cert.pem", "401"),
                ("peep", "cert.pem", "403"),
            ]
        ):
            one = source(tmp_path / str(number), server, ca_file=str(tmp_path / ca_file) if ca_file else "", timeout=1)
            (tmp_path / str(number) / "host/etc/restaura/keys").mkdir(parents=True)
            if key:
                (tmp_path / str(number) / "host/etc/restaura/keys/components.qdrant.api_key").write_text(key)
            ((what, fix),) = one.probe().problems
            assert said in what
            assert fix
        host = system(tmp_path, server, **asked, api_key="sesame")
        answer = host.run("run", "daily", "--drill")
        assert answer["drill"]["results"][0]["verdict"] == "proven"
        server.call("DELETE", "/collections/docs")
        host.run("restore", "--yes")
        assert server.call("POST", "/collections/docs/points/count", {"exact": True}) == {"count": 20}
        holding = subprocess.run(
            ["grep", "-rl", "sesame", str(tmp_path / "system"), str(tmp_path / "store")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert [Path(one).name for one in holding.stdout.split()] == ["components.qdrant.api_key"]
    finally:
        server.remove()


def test_a_server_in_a_container_is_reached_without_a_published_port(tmp_path: Path) -> None:
    docker_project.start_daemon()
    (tmp_path / "image").mkdir()
    for name in ("lib", "lib64", "bin"):
        (tmp_path / "image" / name).symlink_to(f"usr/{name}")
    packed = subprocess.run(["tar", "-C", tmp_path / "image", "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(["docker", "import", "-", "qdrant-standin"], input=packed, capture_output=True, check=True)
    mounts = ("/usr:/usr:ro", "/etc:/etc:ro", f"{ROOT}:{ROOT}:ro", f"{LIBRARIES.resolve()}:/libraries:ro", "/qdrant")
    told = ("QDRANT__STORAGE__STORAGE_PATH=/qdrant", "PYTHONPATH=/libraries", "PYTHONDONTWRITEBYTECODE=1")
    words = [word for one in mounts for word in ("-v", one)] + [word for one in told for word in ("-e", one)]
    docker(
        "run", "-d", "--name", "vectors", *words, "qdrant-standin", "python3", f"{ROOT}/tests/standins/qdrant_server.py"
    )

    def reached() -> QdrantServer:
        address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "vectors")
        found = QdrantServer(tmp_path / "none", address=address)
        wait_until(found.ready)
        return found

    try:
        server = reached()
        make_plain(server)
        before = digest(server)
        host = system(tmp_path, server, url="", container="vectors", timeout=10)
        host.run("run", "daily")
        server.call("DELETE", "/collections/plain")
        docker("restart", "-t", "0", "vectors")
        server = reached()
        host.run("restore", "--yes")
        assert digest(server) == before
        docker("stop", "-t", "0", "vectors")
        assert "docker start vectors" in json.dumps(host.run("run", "daily", expect=1))
    finally:
        docker("rm", "-f", "-v", "vectors")
        docker("image", "rm", "qdrant-standin")


# -- what goes wrong --------------------


@pytest.mark.parametrize(
    ("faults", "said", "timeout"),
    [
        ({"wrong_checksum": True}, "checksum", 60),
        ({"no_space": True}, "No space left", 60),
        ({"lose_points": 3}, "holds 57 points; the server counted 60", 60),
        ({"scroll_for_ever": True}, "again and again", 60),
        ({"status": 503}, "503", 1),
        ({"seconds": 2.0}, "does not answer", 1),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_server_does_wrong_fails_the_component(
    server: QdrantServer, tmp_path: Path, faults: dict[str, Any], said: str, timeout: int
) -> None:
    one = source(tmp_path, server, timeout=timeout)
    server.faults(**faults)
    with pytest.raises(SourceError, match=said) as raised:
        take(one)
    assert raised.value.fix
    server.faults()
    for debt in one._host.journal.open_debts():
        Qdrant.take_back(debt.act, debt.data)
    assert left(server) == []


def test_a_server_that_dies_in_the_freeze_is_cleaned_later(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server, timeout=15)
    server.faults(die_in_snapshot=True)
    assert "does not answer" in json.dumps(host.run("run", "daily", expect=1))
    assert "readyz" in json.dumps(host.run("run", "daily", expect=1)), "it is down"
    server.faults()
    server.start()
    host.run("run", "daily")
    host.settled()
    assert (left(server), host.leftovers()) == ([], [])


def test_a_run_that_is_killed_while_a_snapshot_is_made_leaves_none(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    server.call("POST", "/collections/docs/snapshots?wait=true")
    own = server.files()
    server.faults(snapshot_seconds=2)
    run = host.start("run", "daily")
    wait_until(server.makes_a_snapshot)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    host.settled()
    assert server.files() == own, "a person's own snapshot stays"
    assert [one for one in left(server) if one not in own] == []


def test_a_run_that_is_killed_leaves_nothing_on_the_server(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    host.killed("run", "daily", at="copy")
    host.settled()
    assert (left(server), host.leftovers()) == ([], [])


@pytest.mark.parametrize("phase", ["swap", "swapped"])
def test_a_restore_that_is_killed_is_undone(server: QdrantServer, tmp_path: Path, phase: str) -> None:
    host = system(tmp_path, server)
    host.run("run", "daily")
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [1, 2, 3]})
    alias(server, "prod", "plain")
    before = digest(server)
    host.killed("restore", "--yes", at=phase)
    host.settled()
    assert (digest(server), left(server), host.leftovers(), kept(host)) == (before, [], [], [])


@pytest.mark.parametrize("fault", ["snapshot_seconds", "upload_seconds"])
def test_a_swap_that_dies_half_way_is_undone(server: QdrantServer, tmp_path: Path, fault: str) -> None:
    """While a snapshot of what is live is made; and when that was deleted, and its replacement is being loaded."""
    host = system(tmp_path, server, timeout=10)
    host.run("run", "daily")
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [1, 2, 3]})
    server.call("PATCH", "/collections/docs", {"hnsw_config": {"m": 32}})
    before = digest(server)
    server.faults(**{fault: 2})
    run = host.start("restore", "--yes")

    def docs_is_gone() -> bool:
        return {"name": "docs"} not in server.call("GET", "/collections")["collections"]

    wait_until(server.makes_a_snapshot if fault == "snapshot_seconds" else docs_is_gone)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    host.settled()
    assert (digest(server), left(server), host.leftovers(), kept(host)) == (before, [], [], [])


def test_what_is_written_after_a_swap_died_is_not_lost(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = source(tmp_path, server)
    point = take(owner)
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [1, 2]})
    before = digest(server)
    staged = owner.stage(point, Target("live"))
    record = owner.plan_swap(staged)
    write = swap.Progress.write

    def dying(self: swap.Progress, state: str, **more: Any) -> None:
        write(self, state, **more)
        if state == "replacing":
            raise KeyboardInterrupt

    monkeypatch.setattr(swap.Progress, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        Qdrant.swap(record)
    monkeypatch.undo()
    server.call("POST", "/collections/docs/points/delete?wait=true", {"points": [3]})
    Qdrant.take_back("stage", staged.data)
    written = digest(server)
    for _ in range(2):
        with pytest.raises(SourceError, match="'docs' was written to"):
            Qdrant.undo(record)
        assert digest(server) == written
    # Who wants back what was there before does as he is told.
    server.call("DELETE", "/collections/docs")
    Qdrant.undo(record)
    assert digest(server) == before
    Qdrant.discard(record)
    assert left(server) == []


def changed_and_staged(server: QdrantServer, tmp_path: Path) -> tuple[Staged, dict[str, Any], Any, Any]:
    """Take a point of a collection, delete of it, and stage the point.

    Return that, the record of its swap, and what the server holds: its digest, and the points of the collection.
    """
    owner = source(tmp_path, server, collections=["plain"])
    point = take(owner)
    server.call("POST", "/collections/plain/points/delete?wait=true", {"points": [2]})
    held = digest(server), server.client().scroll("plain", with_vectors=True)
    staged = owner.stage(point, Target("live"))
    return staged, owner.plan_swap(staged), *held


def test_what_is_written_while_a_collection_is_replaced_is_kept(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes as soon as the collection is there again: into what was restored, then into what is put back."""
    staged, record, before, points = changed_and_staged(server, tmp_path)
    folder, load, written = Path(record["directory"]), Server.recover, iter([71, 72])

    def late(self: Server, collection: str, *arguments: Any, **options: Any) -> None:
        load(self, collection, *arguments, **options)
        if collection == "plain" and (number := next(written, 0)):
            body = {"points": [{"id": number, "vector": [float(number)] * 4}]}
            server.call("PUT", "/collections/plain/points?wait=true", body)

    monkeypatch.setattr(Server, "recover", late)
    with pytest.raises(SourceError, match="'plain' was written to") as told:
        Qdrant.swap(record)
    assert str(folder / "0.late.snapshot") in told.value.fix
    Qdrant.undo(record)
    Qdrant.undo(record)
    assert server.client().scroll("plain", with_vectors=True) == points
    for _ in range(2):
        with pytest.raises(SourceError, match="wrote while") as left_over:
            Qdrant.take_back("stage", staged.data)
    assert digest(server) == before
    for name, number in (("late", 71), ("late1", 72)):
        with (folder / f"0.{name}.snapshot").open("rb") as file:
            url = f"{server.url}/collections/found/snapshots/upload?priority=snapshot&wait=true"
            assert requests.post(url, files={"snapshot": file}, timeout=60).ok
        assert number in [one.id for one in server.client().scroll("found")[0]]
        server.call("DELETE", "/collections/found")
        (folder / f"0.{name}.snapshot").unlink()
    shutil.rmtree(server.place / "snapshots/found")
    assert str(folder / "0.late.snapshot") in left_over.value.what
    Qdrant.take_back("stage", staged.data)
    assert (left(server), folder.exists()) == ([], False)


def test_a_collection_that_never_stands_still_is_not_deleted_for_an_undo(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "PUT_BACK_PAUSE", 0.0)
    staged, record, before, points = changed_and_staged(server, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap, "_same", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Qdrant.swap(record)
    take_snapshot, number = Server.make_snapshot, iter(range(100, 200))

    def busy(self: Server, collection: str) -> Snapshot:
        made = take_snapshot(self, collection)
        body = {"points": [{"id": next(number), "vector": [1.0] * 4}]}
        server.call("PUT", "/collections/plain/points?wait=true", body)
        return made

    server.call("PUT", "/collections/plain/points?wait=true", {"points": [{"id": 99, "vector": [1.0] * 4}]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "make_snapshot", busy)
        with pytest.raises(SourceError, match="'plain' is being written to") as told:
            Qdrant.undo(record)
    assert "restaura recover" in told.value.fix
    ids = [one.id for one in server.client().scroll("plain", limit=1000)[0]]
    assert ids == [1, 2, 99, *range(100, next(number))], "all that was acknowledged is there"
    Qdrant.undo(record)
    assert server.client().scroll("plain", with_vectors=True) == points
    assert (Path(record["directory"]) / "0.late.snapshot").exists()
    shutil.rmtree(record["directory"])
    Qdrant.take_back("stage", staged.data)
    assert (digest(server), left(server)) == (before, [])


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def written_to(server: QdrantServer) -> Iterator[list[int]]:
    """Write a growing counter into `plain` all the while; the list tells what was acknowledged."""
    done, over = [2], threading.Event()

    def write() -> None:
        while not over.is_set():
            number = done[-1] + 1
            body = {"points": [{"id": number, "vector": [float(number)] * 4, "payload": {"n": number}}]}
            server.call("PUT", "/collections/plain/points?wait=true", body)
            done.append(number)
            over.wait(0.01)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def test_what_is_written_meanwhile_is_in_the_point_up_to_one_moment(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    with written_to(server) as done:
        wait_until(lambda: len(done) > 5)
        earliest = done[-1]
        host.run("run", "daily")
    server.call("DELETE", "/collections/plain")
    host.run("restore", "--path", "plain", "--yes")
    ids = [one.id for one in server.client().scroll("plain", limit=100_000)[0]]
    assert ids == list(range(1, len(ids) + 1))
    assert earliest <= ids[-1] <= done[-1]


def test_a_collection_that_is_being_written_to_is_not_replaced(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server, collections=["plain"])
    host.run("run", "daily")
    with written_to(server) as done:
        assert "being written to" in host.run("restore", "--yes", expect=2)["error"]["what"]
    count = server.call("POST", "/collections/plain/points/count", {"exact": True})["count"]
    assert count == done[-1], "nothing that was written is lost"
    assert (left(server), host.leftovers(), kept(host)) == ([], [], [])


def test_a_collection_dropped_and_one_created_during_the_freeze(server: QdrantServer, tmp_path: Path) -> None:
    one, names, calls = source(tmp_path, server), Qdrant._names, []

    def late(self: Qdrant, *arguments: Any) -> list[str]:
        found = names(self, *arguments)
        calls.append(found)
        # After what is to be frozen was listed.
        if len(calls) == 2:
            server.call("DELETE", "/collections/docs")
            make_plain(server, "late")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Qdrant, "_names", late)
        point = take(one)
    assert {name.split("/")[0] for name in point.names()} == {"aliases.json", "plain", "late"}
    assert any("dropped" in note and "docs" in note for note in point.record.notes)


def test_a_damaged_snapshot_is_not_restored(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    host.run("run", "daily")
    before = digest(server)
    path = next(tmp_path.glob("store/web1/daily/2*/qdrant/docs/snapshot.snapshot"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    host.run("restore", "--yes", expect=1)
    assert (digest(server), left(server), host.leftovers()) == (before, [], [])


def test_a_cluster_and_an_older_server_are_refused_with_the_reason(server: QdrantServer, tmp_path: Path) -> None:
    host = system(tmp_path, server)
    host.run("run", "daily")
    before = digest(server)
    try:
        server.start(STANDIN_VERSION="1.17.9", STANDIN_PEERS="3")
        assert "one of 3 peers of a cluster" in json.dumps(host.run("run", "daily", expect=1))
        assert "cluster" in host.run("restore", "--yes", expect=2)["error"]["what"]
        server.start(STANDIN_PEERS="1")
        assert "1.17.9" in host.run("restore", "--yes", expect=2)["error"]["what"]
    finally:
        server.environment.clear()
        server.start()
    assert (digest(server), left(server), host.leftovers()) == (before, [], [])


# -- the stand-in --------------------


def fits(expected: Any, found: Any, names: dict[str, str]) -> bool:
    """Whether an answer is as the recording has it."""
    if expected == "?":
        return True
    if expected == "#":
        return isinstance(found, int | float)
    if isinstance(expected, str) and expected.startswith("~"):
        return isinstance(found, str) and re.fullmatch(expected[1:], found, re.DOTALL) is not None
    if isinstance(expected, dict):
        same = isinstance(found, dict) and found.keys() == expected.keys()
        return same and all(fits(value, found[key], names) for key, value in expected.items())
    if isinstance(expected, list):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(fits(*pair, names) for pair in zip(expected, found, strict=True))
    return bool(found == names.get(str(expected), expected)) and isinstance(found, bool) == isinstance(expected, bool)


def test_the_stand_in_answers_as_a_real_server_was_recorded_to(tmp_path: Path) -> None:
    recorded = json.loads((ROOT / "tests/standins/qdrant_1_18_3.json").read_text())["steps"]
    server = QdrantServer(tmp_path / "recorded", 6353).start(**KEY)
    names, content, wrong = {"$NAME": "", "$SUM": ""}, b"", []
    try:
        for what, request, body, status, expected in recorded:
            key = request.split()[1] if request.startswith("KEY") else KEY["QDRANT__SERVICE__API_KEY"]
            method, path = request.split()[-2:]
            for name, value in names.items():
                path = path.replace(name, value)
            uploads = {
                "upload": content,
                "cut upload": content[: len(content) // 2],
                "garbage upload": b"not a tar" * 900,
            }
            sent = {"json": DOCS if body == "DOCS" else body}
            if isinstance(body, str) and body in uploads:
                sent = {"files": {"snapshot": ("up.snapshot", uploads[body])}}
            answer = requests.request(method, server.url + path, headers={"api-key": key}, timeout=60, **sent)
            kind = answer.headers["Content-Type"]
            if expected == "bytes":
                content, good = answer.content, kind == "application/octet-stream"
                good = good and hashlib.sha256(content).hexdigest() == names["$SUM"]
            elif isinstance(expected, str) and expected.startswith("plain: "):
                good = kind == "text/plain; charset=utf-8" and expected[7:] in ("?", answer.text)
            else:
                told = answer.json()
                good = kind == "application/json" and isinstance(told["time"], float)
                good = good and fits(expected, told["result"] if answer.ok else told["status"]["error"], names)
                if what == "a snapshot":
                    names = {"$NAME": told["result"]["name"], "$SUM": told["result"]["checksum"]}
            if not good or answer.status_code != status:
                wrong.append(f"{what}: {answer.status_code} {kind} {answer.text[:300]}")
    finally:
        server.remove()
    assert not wrong, "\n".join(wrong)
