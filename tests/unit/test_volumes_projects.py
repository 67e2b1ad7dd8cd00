# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files define a Compose project: all that its Compose files name, wherever they are, or a warning."""

from pathlib import Path

import pytest

from restaura.volumes.daemon import PROJECT, Container
from restaura.volumes.projects import Project, projects


def container(**labels: str) -> Container:
    """Return a container of the project `shop` with labels of Compose."""
    named = {PROJECT: "shop", **{f"{PROJECT}.{key}": value for key, value in labels.items()}}
    return Container("1", "shop-app-1", "running", "", 0, "", "", named, (), "", 10, False, "")


def found(directory: Path, *files: str) -> Project:
    """Return the project of a directory and its Compose files."""
    (one,) = projects([container(working_dir=str(directory), config_files=",".join(f"{directory}/{x}" for x in files))])
    return one


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The directory of a project."""
    path = tmp_path / "shop"
    path.mkdir()
    return path


def written(path: Path, text: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_an_override_in_another_directory_names_files_of_the_project(shop: Path) -> None:
    """As Compose has it: paths are relative to the project's directory, but for what is extended or included."""
    files = [
        written(shop / "compose.yml", "services: {app: {extends: {file: base/app.yml, service: app}}}"),
        written(shop / "base/app.yml", "services: {app: {env_file: base.env}}"),
        written(shop / "base/base.env"),
        written(shop / "deploy/prod.yml", "services: {app: {env_file: [{path: prod.env}], label_file: app.labels}}"),
        written(shop / "prod.env"),
        written(shop / "app.labels"),
    ]
    project = found(shop, "compose.yml", "deploy/prod.yml")
    assert (sorted(project.files), project.warnings) == (sorted(files), ())


def test_what_is_included_brings_its_own_environment(shop: Path) -> None:
    files = [
        written(shop / "compose.yml", "include: [one/compose.yml, {path: two/c.yml, project_directory: other}]"),
        written(shop / "one/compose.yml", "secrets: {key: {file: key.pem}}"),
        written(shop / "one/key.pem"),
        written(shop / "one/.env"),
        written(shop / "two/c.yml", "configs: {conf: {file: a.conf}}"),
        written(shop / "other/a.conf"),
        written(shop / "other/.env"),
    ]
    project = found(shop, "compose.yml")
    assert (sorted(project.files), project.warnings) == (sorted(files), ())


def test_links_are_taken_with_what_they_lead_to(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "opt").symlink_to(shop)
    (shop / "compose.yml").symlink_to("../common/compose.yml")
    (shop / ".env").symlink_to(tmp_path / "common/current.env")
    (tmp_path / "common").mkdir()
    (tmp_path / "common/current.env").symlink_to("env.7")
    written(tmp_path / "common/compose.yml", "services: {app: {env_file: app.env}}")
    written(shop / "app.env")
    written(tmp_path / "common/env.7")
    project = found(tmp_path / "opt", "compose.yml")
    names = ["opt", "shop/compose.yml", "shop/.env", "shop/app.env"]
    names += ["common/compose.yml", "common/current.env", "common/env.7"]
    assert (sorted(project.files), project.warnings) == (sorted(str(tmp_path / one) for one in names), ())


def test_files_that_are_not_found_are_told(shop: Path) -> None:
    written(
        shop / "compose.yml", "services: {app: {env_file: ['${STAGE}.env', gone.env, {path: may, required: false}]}}"
    )
    first, second = found(shop, "compose.yml").warnings
    assert "${STAGE}.env" in first
    assert "gone.env" in second


def test_a_file_that_does_not_parse_is_told_without_its_content(shop: Path) -> None:
    for text in ("services:\n  app: {PASSWORD: *hunter2}", "PASSWORD: !!int hunter2", "a: 'hunter2", "a: \0hunter2"):
        written(shop / "compose.yml", text)
        (warning,) = found(shop, "compose.yml").warnings
        assert "compose.yml cannot be read" in warning
        assert "hunter2" not in warning
