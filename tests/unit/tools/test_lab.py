# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own decisions, without Docker."""

from pathlib import Path

import pytest

from tools.lab import daemon, hosts, images
from tools.lab.common import LabError, run

OTHERS = """Types: deb
URIs: http://packages.example.net/tool
Suites: stable
Components: main

Types: deb
URIs: http://containers.example.net/linux/debian
Suites: bookworm
Components: stable
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/a-others.sources").write_text(OTHERS)
    return tmp_path


def test_mirrors_come_from_the_deb822_format(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://mirror.example.net/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main contrib\n\n"
        "Types: deb\nURIs: http://mirror.example.net/debian-security\nSuites: bookworm-security\nComponents: main\n"
    )
    assert images.mirrors(apt) == ("http://mirror.example.net/debian", "http://mirror.example.net/debian-security")


def test_mirrors_come_from_the_one_line_format(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://old.example.net/debian trixie main\n"
        "deb-src http://source.example.net/debian trixie main\n"
        "deb [arch=amd64 signed-by=/x.gpg] http://mirror.example.net/debian/ trixie main\n"
    )
    assert images.mirrors(apt) == ("http://mirror.example.net/debian/", None)


def test_a_disabled_source_is_no_mirror_and_none_at_all_is_an_error(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://mirror.example.net/debian\nSuites: trixie\nComponents: main\n"
    )
    with pytest.raises(LabError, match="no Debian archive"):
        images.mirrors(apt)


def test_an_image_is_another_one_when_its_recipe_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "mirrors", lambda: ("http://mirror.example.net/debian", None))
    before = images.RECIPES["debian13"].tag
    assert images.RECIPES["debian13"].tag == before
    monkeypatch.setattr(images, "INSTALL", images.INSTALL + "true\n")
    assert images.RECIPES["debian13"].tag != before


@pytest.mark.parametrize("name", ["", "-x", "../x", "A", "a b", "x" * 50])
def test_a_hostile_host_name_is_refused_before_anything_is_done(name: str) -> None:
    with pytest.raises(LabError, match="is no host name"):
        hosts.create(name)


def test_a_missing_mount_is_refused_before_anything_is_done() -> None:
    with pytest.raises(LabError, match="/does/not/exist does not exist"):
        hosts.create("host", mounts=["/does/not/exist:/x:ro"])


def test_a_failed_command_says_what_it_said() -> None:
    with pytest.raises(LabError, match=r"exited 3: bad thing"):
        run("sh", "-c", "echo bad thing >&2; exit 3")
    with pytest.raises(LabError, match="tools/lab/lab up"):
        run("no-such-program-here")


def test_without_root_and_daemon_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "answers", lambda: False)
    monkeypatch.setattr(daemon.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="sudo make lab-up"):
        daemon.up()
