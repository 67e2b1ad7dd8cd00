# SPDX-License-Identifier: GPL-3.0-or-later
"""What `restaura configure` makes of keys and configuration that somebody changed by hand."""

import json
import os
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


def test_a_second_name_of_the_cron_file_is_taken_from_it(system: System, tmp_path: Path) -> None:
    # Such as `cp -al /etc /etc.old` makes: Debian's cron reads no such file, and says so in its own log only.
    cron = system.root / "etc/cron.d/restaura"
    os.link(cron, tmp_path / "old")
    assert f"{cron} had a second name" in said(check(system))
    assert cron.stat().st_nlink == 2
    assert f"{cron} had a second name" in said(system.configure())
    assert (cron.stat().st_nlink, cron.read_text()) == (1, (tmp_path / "old").read_text())
    assert check(system)["changes"] == []


@pytest.mark.parametrize("name", KEYS[:2])
def test_a_key_that_was_renamed_to_what_nobody_reads_is_not_made_anew(system: System, name: str) -> None:
    keys = system.root / "etc/restaura/keys"
    (keys / name).rename(keys / f"old-{name}")
    assert system.configure(expect=2)["error"]["where"] == str(keys / name)
    assert not (keys / name).exists()
    (keys / f"old-{name}").rename(keys / name)
    assert system.configure()["changes"] == []


def test_two_keys_that_were_exchanged_are_named(system: System) -> None:
    keys = system.root / "etc/restaura/keys"
    texts = [(keys / name).read_text() for name in KEYS[1:]]
    for name, text in zip(KEYS[1:], reversed(texts), strict=True):
        (keys / name).write_text(text)
    assert "was changed by hand" in system.configure(expect=2)["error"]["what"]


def test_the_password_of_a_repository_is_not_made_anew_beside_the_old_one(system: System) -> None:
    key = system.root / "etc/restaura/keys/stores.repo.password"
    key.rename(key.with_name(f"{key.name}.bak"))
    assert system.configure(expect=2)["error"]["where"] == str(key)


def test_an_age_key_that_was_put_aside_as_an_older_one_is_followed_by_another(system: System) -> None:
    system.run("run", "daily")
    key = system.root / "etc/restaura/keys/age.key"
    key.rename(key.with_name("age.key.2026"))
    assert [one["what"] for one in system.configure()["changes"]][:1] == [f"key {key}"]
    system.run("drill", "--component", "app", "--from-store", "plain")


def test_links_and_directories_among_the_keys_are_left_alone(system: System, tmp_path: Path) -> None:
    keys, place = system.root / "etc/restaura/keys", tmp_path / "place"
    place.mkdir(mode=0o755)
    (keys / "a").symlink_to(place)
    (keys / "b").symlink_to(tmp_path / "nowhere")
    (keys / "c").mkdir(mode=0o755)
    assert system.configure()["changes"] == []
    assert (place.stat().st_mode & 0o777, (keys / "c").stat().st_mode & 0o777) == (0o755, 0o755)


@pytest.mark.parametrize("bad", [b"\xff\xfe", b""])
def test_an_identity_that_was_spoilt_is_put_back(system: System, bad: bytes) -> None:
    path = system.root / "etc/restaura/identity"
    text = path.read_bytes()
    path.write_bytes(bad)
    assert "had been changed by hand" in said(system.configure())
    assert path.read_bytes() == text


def test_a_state_that_somebody_made_up_is_no_traceback(system: System) -> None:
    path, identity = system.root / "var/lib/restaura/state.json", system.root / "etc/restaura/identity"
    before, own = json.loads(path.read_text())["setup"], identity.read_bytes()
    path.write_text(json.dumps({"setup": {"files": [1], "keys": "x", "identity": 3, "config": None}}))
    system.configure()
    assert identity.read_bytes() == own
    assert json.loads(path.read_text())["setup"] == before
