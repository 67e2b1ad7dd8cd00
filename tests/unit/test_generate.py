# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings classes become Ansible options and JSON Schema."""

from dataclasses import dataclass
from typing import Literal

import jsonschema
import pytest

from restaura.config.load import dump, parse
from restaura.config.schema import setting
from tools.generate import options


@dataclass(frozen=True)
class Inner:
    """Part of one."""

    size: int = setting("How big.", minimum=3)


@dataclass(frozen=True)
class Sample:
    """One of each."""

    name: str = setting("Name.", name=True)
    mode: Literal["a", "b"] = setting("Mode.", default="a")
    words: tuple[str, ...] = setting("Words.", default=("x",))
    parts: tuple[Inner, ...] = setting("Parts.", default=())
    maybe: Inner | None = setting("Maybe.", default=None)
    key: str | None = setting("Key.", default=None, secret=True)


def test_every_kind_of_setting_becomes_an_option() -> None:
    found = options.module_spec(options.options(Sample))
    size = {"size": {"type": "int", "required": True}}
    assert found == {
        "name": {"type": "str", "required": True},
        "mode": {"type": "str", "choices": ["a", "b"], "default": "a"},
        "words": {"type": "list", "elements": "str", "default": ["x"]},
        "parts": {"type": "list", "elements": "dict", "options": size, "default": []},
        "maybe": {"type": "dict", "options": size},
        "key": {"type": "str", "no_log": True},
    }


def test_what_cannot_be_an_option_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        what: bytes = setting("What.", default=b"")

    with pytest.raises(TypeError, match="no Ansible type"):
        options.options(Odd)


DECLARATION = {
    "settings": {"host": "web1"},
    "stores": [{"name": "local", "location": "/var/backups/x"}],
    "plans": [{"name": "daily", "retention": {"keep_within": "7d"}}],
    "components": {"files": [{"name": "etc", "paths": ["/etc"]}], "postgres": [{"name": "db", "password": None}]},
}


def test_the_json_schema_takes_what_the_program_takes_and_what_it_writes() -> None:
    schema = options.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(DECLARATION, schema)
    jsonschema.validate(dump(parse(DECLARATION, "test")), schema)


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("stores", [{"name": "local"}]),
        ("stores", [{"name": "-x", "location": "/x"}]),
        ("stores", [{"name": "x", "location": "nowhere"}]),
        ("plans", [{"name": "x", "schedul": "daily"}]),
        ("plans", [{"name": "x", "freeze_timeout": 0}]),
        ("components", {"fils": []}),
    ],
)
def test_the_json_schema_refuses_what_the_program_refuses(section: str, wrong: object) -> None:
    from restaura.errors import ConfigError

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**DECLARATION, section: wrong}, options.json_schema())
    with pytest.raises(ConfigError):
        parse({**DECLARATION, section: wrong}, "test")
