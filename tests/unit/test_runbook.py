# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook: every command in it is one that the program takes, and none that it refuses."""

import re
import shlex
from pathlib import Path

from restaura.cli import parser
from restaura.config import load
from restaura.paths import Paths
from restaura.runbook import render

CONFIG = load.parse(
    {
        "settings": {"host": "web1"},
        "stores": [
            {"name": "local", "location": "/var/backups/restaura"},
            {"name": "offsite", "location": "s3:https://s3.example.org/shop-backups/it's web1"},
        ],
        "plans": [{"name": "nightly"}],
        "components": {
            "files": [{"name": "system", "paths": ["/etc"]}, {"name": "shop", "paths": ["/srv/shop"]}],
            "postgres": [{"name": "postgres"}],
        },
    },
    "test",
)


def commands(text: str) -> list[list[str]]:
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)).splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line]
    return [one[2:] if one[0] == "python3" else one[1:] for one in words]


def test_a_host_that_is_gone_is_restored_from_a_store_that_is_not() -> None:
    here = render(CONFIG, Paths(Path("/")))
    assert "--store /var/backups" not in here
    assert "--store /var/backups/restaura " in render(CONFIG, Paths(Path("/")), CONFIG.store("local"))


def test_every_command_is_taken_by_the_program() -> None:
    found = commands(render(CONFIG, Paths(Path("/"))))
    for one in found:
        parser().parse_args(one)
    assert {one[0] for one in found} == {"list", "restore", "undo", "keys"}


def test_every_component_comes_back_and_the_system_to_a_directory() -> None:
    taken = [parser().parse_args(one) for one in commands(render(CONFIG, Paths(Path("/")))) if one[0] == "restore"]
    acts = [one for one in taken if one.yes and one.kit]
    assert [(one.component, one.to) for one in acts] == [
        (["system"], "dir:/root/system"),
        (["shop", "postgres"], "live"),
    ]
    assert {(one.store, one.kit, one.host) for one in acts} == {
        ("s3:https://s3.example.org/shop-backups/it's web1", "web1.kit", "web1")
    }
