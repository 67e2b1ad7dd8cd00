# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings classes as Ansible options (the form that role specs and module documentation share) and as JSON Schema."""

import dataclasses
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from restaura.config import schema
from restaura.sources import registry

Options = dict[str, dict[str, Any]]
TYPES = {str: ("str", "string"), int: ("int", "integer"), float: ("float", "number"), bool: ("bool", "boolean")}


def options(kind: type) -> Options:
    """Return the options of a settings class by name, in the order of its fields."""
    hints = typing.get_type_hints(kind)
    return {field.name: _option(hints[field.name], field) for field in dataclasses.fields(kind)}


def components() -> dict[str, Options]:
    """Return every source's component options by the source's name."""
    return {name: options(kind.options) for name, kind in sorted(registry().items())}


def declaration() -> Options:
    """Return the options of a whole declaration, as `restaura configure` takes it."""
    kinds: Options = {
        name: {
            "description": [f"Components of the `{name}` source."],
            "type": "list",
            "elements": "dict",
            "options": one,
        }
        for name, one in components().items()
    }
    return {
        "settings": _section("The host's own settings.", "dict", options(schema.Settings)),
        "stores": _section("Where points are kept.", "list", options(schema.Store)),
        "plans": _section("When which components go into which stores.", "list", options(schema.Plan)),
        "components": _section("What is backed up: a list for each source.", "dict", kinds),
    }


def _section(description: str, form: str, inner: Options) -> dict[str, Any]:
    elements = {"elements": "dict"} if form == "list" else {}
    return {"description": [description], "type": form, **elements, "options": inner}


def _option(hint: Any, field: "dataclasses.Field[Any]") -> dict[str, Any]:
    rules = field.metadata
    found: dict[str, Any] = {"description": [rules["description"], *_rules(rules)], **_type(_plain(hint))}
    if field.default is dataclasses.MISSING:
        found["required"] = True
    elif field.default is not None and not dataclasses.is_dataclass(field.default):
        found["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    if rules["secret"]:
        found["no_log"] = True
    elif found["type"] == "str" and "key" in field.name:
        found["no_log"] = False
    return found


def _rules(rules: Any) -> list[str]:
    texts = []
    if rules["name"]:
        texts.append(f"A name is {schema.NAME_RULE}.")
    if rules["minimum"] is not None:
        texts.append(f"At least {rules['minimum']}.")
    if rules["example"] is not None:
        texts.append(f"Example: `{rules['example']}`.")
    return texts


def _plain(hint: Any) -> Any:
    """Return a type without `| None`."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(one for one in get_args(hint) if one is not type(None))
    return hint


def _type(hint: Any) -> dict[str, Any]:
    if hint in TYPES:
        return {"type": TYPES[hint][0]}
    if get_origin(hint) is Literal:
        return {"type": "str", "choices": list(get_args(hint))}
    if get_origin(hint) is tuple:
        inner = _type(get_args(hint)[0])
        return {"type": "list", "elements": inner["type"], **{k: v for k, v in inner.items() if k == "options"}}
    if dataclasses.is_dataclass(hint):
        return {"type": "dict", "options": options(typing.cast("type", hint))}
    raise TypeError(f"no Ansible type for {hint}")


def module_spec(found: Options) -> Options:
    """Return options as a module's argument spec: without their descriptions."""
    return {
        name: {
            key: module_spec(value) if key == "options" else value for key, value in one.items() if key != "description"
        }
        for name, one in found.items()
    }


def documented(found: Options) -> Options:
    """Return options as documentation: `no_log` is a module's own affair."""
    return {
        name: {key: documented(value) if key == "options" else value for key, value in one.items() if key != "no_log"}
        for name, one in found.items()
    }


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a declaration."""
    kinds = {name: {"type": "array", "items": _object(kind.options)} for name, kind in sorted(registry().items())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Restaura declaration",
        "type": "object",
        "additionalProperties": False,
        "required": ["settings"],
        "properties": {
            "settings": _object(schema.Settings),
            "stores": {"type": "array", "items": _object(schema.Store)},
            "plans": {"type": "array", "items": _object(schema.Plan)},
            "components": {"type": "object", "additionalProperties": False, "properties": kinds},
        },
    }


def _object(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [one.name for one in fields if one.default is dataclasses.MISSING],
        "properties": {one.name: _property(hints[one.name], one) for one in fields},
    }


def _property(hint: Any, field: "dataclasses.Field[Any]") -> dict[str, Any]:
    rules = field.metadata
    found: dict[str, Any] = {"description": rules["description"], **_json_type(_plain(hint), _limits(rules))}
    if rules["secret"]:
        found["writeOnly"] = True
    if field.default is None:
        found = {"anyOf": [found, {"type": "null"}]}
    elif field.default is not dataclasses.MISSING and not dataclasses.is_dataclass(field.default):
        found["default"] = field.default
    return found


def _limits(rules: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if rules["name"]:
        found["pattern"] = schema.NAME.pattern
    if rules["pattern"] is not None:
        found["pattern"] = f"^({rules['pattern']})$"
    if rules["minimum"] is not None:
        found["minimum"] = rules["minimum"]
    return found


def _json_type(hint: Any, limits: dict[str, Any]) -> dict[str, Any]:
    if hint in TYPES:
        return {"type": TYPES[hint][1], **limits}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _json_type(get_args(hint)[0], limits)}
    return _object(hint)
