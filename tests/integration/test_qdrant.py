# SPDX-License-Identifier: GPL-3.0-or-later
"""Qdrant: backed up, restored and undone through the command line, and what goes wrong.

The server is a stand-in on Qdrant's own engine; what is there is told by Qdrant's own client.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System
from tests.qdrant_server import QdrantServer, alias, digest, make_docs, make_plain

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


def system(place: Path, server: QdrantServer, plan: dict[str, Any] | None = None, **options: Any) -> System:
    """Return a host that keeps the component `qdrant` in a dated store, in files as they are."""
    one = System(place / "system")
    component = {"name": "qdrant", "url": server.url, "timeout": 20, **options}
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}],
        plans=[{"name": "daily", **(plan or {})}],
        components={"qdrant": [component]},
    )
    return one


def stored(place: Path) -> list[str]:
    """Name the artifacts of the newest point."""
    folder = sorted(place.glob("store/web1/daily/2*"))[-1] / "qdrant"
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def left(server: QdrantServer) -> list[str]:
    """Name what Restaura left on the server."""
    collections = [one["name"] for one in server.call("GET", "/collections")["collections"]]
    return [one for one in collections if one not in ("docs", "plain")] + server.files()


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
