# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run whose S3 store goes away before it, in the middle, and at sealing: exit 3, and the local copy is good."""

import configparser
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.system import System, make_tree, tree_digest
from tests.integration.test_dated import Place, s3_place
from tests.integration.test_dated_s3 import Proxy


class CuttingProxy(Proxy):
    """Lets nothing pass any more, for good, from the first bytes on that hold `word`; `gone` says that it is so."""

    word = b""
    gone = False

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not self.gone and (data := source.recv(1 << 16)):
                self.gone = self.gone or bool(self.word and self.word in data)
                if not self.gone:
                    sink.sendall(data)
        except OSError:
            pass
        self._drop(source, sink)


@pytest.fixture
def place() -> Iterator[Place]:
    yield from s3_place()


@pytest.fixture
def cutting() -> Iterator[CuttingProxy]:
    url = urlsplit(os.environ["RESTAURA_TEST_S3_ENDPOINT"])
    relay = CuttingProxy((str(url.hostname), int(url.port or 80)))
    yield relay
    relay.close()


@pytest.fixture(params=["dated", "restic"])
def system(request: pytest.FixtureRequest, tmp_path: Path, place: Place, cutting: CuttingProxy) -> System:
    """A host with a local store and one in S3."""
    profile = configparser.ConfigParser()
    profile.read(os.environ["AWS_SHARED_CREDENTIALS_FILE"])
    keys = profile["default"]
    endpoint = os.environ["RESTAURA_TEST_S3_ENDPOINT"]
    one = System(tmp_path / "host")
    far = {
        "name": "far",
        "type": request.param,
        "location": place.location.replace(endpoint, f"http://127.0.0.1:{cutting.port}"),
        "s3_access_key": keys["aws_access_key_id"],
        "s3_secret_key": keys["aws_secret_access_key"],
    }
    one.configure(
        stores=[{"name": "near", "type": "dated", "location": str(tmp_path / "near")}, far],
        plans=[{"name": "daily"}],
        components={"files": [{"name": "app", "paths": [str(make_tree(tmp_path / "srv/app"))]}]},
    )
    return one


def test_both_hold_the_point_while_all_is_well(system: System, tmp_path: Path) -> None:
    assert system.run("run", "daily")["exit"] == 0
    found = system.good_points()
    assert len(found["near"]) == 1
    assert found["near"] == found["far"]
    wanted = tree_digest(tmp_path / "srv/app")
    (tmp_path / "srv/app/link").unlink()
    back = system.run("restore", "--component", "app", "--from-store", "far", "--yes")
    assert back["restored"][0]["from"] == "far"
    assert tree_digest(tmp_path / "srv/app") == wanted


@pytest.mark.parametrize(
    ("system", "word"),
    [("dated", ""), ("dated", "tree"), ("dated", "manifest.json"), ("restic", "")],
    indirect=["system"],
)
def test_s3_that_goes_away_costs_only_its_own_copy(system: System, cutting: CuttingProxy, word: str) -> None:
    # restic is cut off half-way by its store's own tests: each cut costs it a minute of trying.
    cutting.word = word.encode()
    cutting.gone = not word
    answer = system.run("run", "daily", expect=3)
    states = {one["store"]: one["good"] for one in answer["components"]}
    assert states == {"near": True, "far": False}
    assert next(one["error"] for one in answer["components"] if one["store"] == "far")
    listed = system.run("list", "--refresh")
    assert {(one["store"], one["good"]) for one in listed["points"]} == {("near", True)}
    assert "far" in listed["errors"]
    assert system.run("status", expect=3)["problems"]
