# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment's files beside a real Docker daemon and Compose: which images ran, and whether the files are valid."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker_project import IMAGE, Project, clean, docker, make_image, start_daemon
from tests.integration.system import System

# Debian 12's Docker client warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    start_daemon()
    clean()
    make_image(tmp_path_factory.mktemp("image"))
    yield
    clean()
    docker("image", "rm", IMAGE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path / "shop")
    project.compose("create")
    yield project
    clean()


def configured(tmp_path: Path, project: Project) -> System:
    system = System(tmp_path / "system")
    system.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(tmp_path / "store"), "compression": "none"}],
        plans=[{"name": "daily"}],
        components={
            "infra": [
                {"name": "infra", "directory": str(project.folder), "compose": ["compose.yml"], "files": ["conf"]}
            ]
        },
    )
    return system


def test_images_are_kept_by_digest_and_compose_reads_what_was_restored(tmp_path: Path, project: Project) -> None:
    system = configured(tmp_path, project)
    system.run("run", "daily")
    (kept,) = (tmp_path / "store").glob("*/*/*/infra/images.json")
    identity = docker("image", "inspect", "--format", "{{.Id}}", IMAGE)
    told = json.loads(kept.read_text())["images"]
    assert [one["service"] for one in told] == ["app", "db", "looker"]
    assert {(one["image"], one["id"]) for one in told} == {(IMAGE, identity)}
    assert [one["verdict"] for one in system.run("drill")["results"]] == ["proven"]
    shutil.rmtree(project.folder)
    system.run("restore", "--yes")
    project.compose("config", "-q")
    assert (project.folder / "conf/db.conf").read_text() == "port = 1"
    system.run("restore", "--to", f"dir:{tmp_path}/looked", "--yes")
    assert (tmp_path / "looked/images.json").read_text() == kept.read_text()


def test_files_that_compose_refuses_stop_the_component(tmp_path: Path, project: Project) -> None:
    compose = project.folder / "compose.yml"
    compose.write_text(compose.read_text().replace("restart: always", "restrat: always"))
    answer = configured(tmp_path, project).run("run", "daily", expect=1)
    error = answer["components"][0]["error"]
    assert "compose.yml: docker compose config says" in error
    assert "restrat" in error
    assert "secret-word" not in json.dumps(answer)
