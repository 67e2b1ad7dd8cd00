# SPDX-License-Identifier: GPL-3.0-or-later
"""What `restaura configure` makes of keys and configuration that somebody changed by hand."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.system import System

KEYS = ["manifest.key", "age.key", "stores.repo.password"]


@pytest.fixture
def system(tmp_path: Path) -> System:
    one = System(tmp_path / "root")
    (tmp_path / "tree").mkdir()
    one.configure(
        stores=[
            {"name": "repo", "type": "restic", "location": str(tmp_path / "repo")},
            {"name": "plain", "type": "dated", "location": str(tmp_path / "plain")},
        ],
        plans=[{"name": "daily"}],
        components={"files": [{"name": "app", "paths": [str(tmp_path / "tree")]}]},
    )
    return one


def check(system: System, expect: int = 0) -> dict[str, Any]:
    given = {"settings": {"host": "web1", "reserve_bytes": 1_000_000}, **system.declaration}
    return system.run("configure", "--check", stdin=json.dumps(given), expect=expect)


def said(answer: dict[str, Any]) -> str:
    return "\n".join([one["said"] for one in answer["changes"]] + answer["warnings"])


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_lost_key_is_not_made_anew(system: System, name: str, forgotten: bool) -> None:
    key = system.root / "etc/restaura/keys" / name
    text = key.read_text()
    kit = system.root / "web1.kit"
    kit.write_text(json.dumps(system.run("keys", "kit")))
    key.unlink()
    if forgotten:
        # The configuration alone tells that there was one.
        (system.root / "var/lib/restaura/state.json").unlink()
    cron = (system.root / "etc/cron.d/restaura").read_text()
    (system.root / "etc/cron.d/restaura").write_text("")
    for answer in (check(system, expect=2), system.configure(expect=2)):
        assert answer["error"]["where"] == str(key)
        assert "keys restore --kit" in answer["error"]["fix"]
    assert not key.exists()
    system.run("keys", "restore", "--kit", str(kit))
    system.configure()
    assert key.read_text() == text
    assert (system.root / "etc/cron.d/restaura").read_text() == cron


@pytest.mark.parametrize("name", KEYS)
def test_an_edited_key_is_refused(system: System, name: str) -> None:
    key = system.root / "etc/restaura/keys" / name
    key.write_text("0" * 64 + "\n")
    for answer in (check(system, expect=2), system.configure(expect=2)):
        assert "changed by hand" in answer["error"]["what"]
        assert f"mv {key} /root/" in answer["error"]["fix"]
        assert "0000" not in json.dumps(answer)
    assert key.read_text() == "0" * 64 + "\n"


def test_a_key_whose_old_self_is_kept_may_be_made_anew(system: System) -> None:
    keys = system.root / "etc/restaura/keys"
    keys.joinpath("age.key").rename(keys / "age.key.old")
    assert "age.key was generated" in said(system.configure())
    assert keys.joinpath("age.key").read_text() != keys.joinpath("age.key.old").read_text()


@pytest.mark.parametrize("spoilt", ["", "{", '{"plans": 4}', None])
def test_a_configuration_that_cannot_be_read_is_put_back_and_what_left_is_told(
    system: System, spoilt: str | None
) -> None:
    config = system.root / "etc/restaura/config.json"
    text = config.read_text()
    config.unlink()
    if spoilt is not None:
        config.write_text(spoilt)
    seen = check(system)
    assert f"{config} had been {'deleted' if spoilt is None else 'changed by hand'}" in said(seen)
    # The stores are known still: they are looked at, not made.
    assert "not registered" not in json.dumps(seen)
    assert config.exists() == (spoilt is not None)
    system.declaration["components"] = {"files": [{"name": "other", "paths": ["/srv"]}]}
    system.declaration["plans"] = [{"name": "nightly"}]
    assert said(check(system)).splitlines()[-2:] == [
        "component app is no longer protected; its points stay",
        "plan daily is no longer run; its points stay",
    ]
    system.declaration["components"] = {"files": [{"name": "app", "paths": [str(system.root.parent / "tree")]}]}
    system.declaration["plans"] = [{"name": "daily"}]
    system.configure()
    assert config.read_text() == text
    assert check(system)["changes"] == []


def test_a_store_that_is_away_is_told_and_the_schedule_is_mended_all_the_same(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    cron = system.root / "etc/cron.d/restaura"
    text = cron.read_text()
    cron.write_text("# nothing\n")
    shutil.move(tmp_path / "plain", tmp_path / "away")
    assert "plain" in said(check(system))
    assert "it held points" in system.configure(expect=1)["error"]["what"]
    assert cron.read_text() == text
    shutil.move(tmp_path / "away", tmp_path / "plain")
    assert system.configure()["changes"] == []


def test_a_file_of_an_older_declaration_is_not_called_edited_by_hand(system: System) -> None:
    system.declaration["plans"] = [{"name": "daily", "schedule": "03:33"}]
    told = said(check(system))
    assert "brought up to date with the declaration" in told
    assert "by hand" not in told
    system.configure()
    assert check(system)["changes"] == []


def test_a_link_in_the_place_of_a_file_is_replaced_by_the_file(system: System, tmp_path: Path) -> None:
    cron = system.root / "etc/cron.d/restaura"
    shutil.copy(cron, tmp_path / "elsewhere")
    cron.unlink()
    cron.symlink_to(tmp_path / "elsewhere")
    assert f"{cron} had been changed by hand" in said(check(system))
    system.configure()
    assert not cron.is_symlink()
    assert (tmp_path / "elsewhere").read_text() == cron.read_text()
