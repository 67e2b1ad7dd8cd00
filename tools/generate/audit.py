# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schemas of a host's audit (`restaura audit --json`) and of a fleet's, from the classes they are made of."""

import dataclasses
import inspect
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

from restaura.audit import model
from restaura.audit.judge import METHODS
from restaura_fleet.model import FleetAudit

PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema() -> dict[str, Any]:
    """Return the schema of what `restaura audit --json` prints, without what every verb's answer has."""
    return _schema(model.Audit)


def fleet_schema() -> dict[str, Any]:
    """Return the schema of the report that is written of many hosts, without its text."""
    return _schema(FleetAudit)


def _schema(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    whole = _object(kind, found)
    for one in (whole, *found.values()):
        if "methods" in one["properties"]:
            one["properties"]["methods"]["propertyNames"] = {"enum": list(METHODS)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        "$comment": f"Written by `make generate` from src/{kind.__module__.replace('.', '/')}.py; edit that instead.",
        **whole,
        "$defs": found,
    }


def _object(kind: type, found: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    return {
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "type": "object",
        "properties": {name: _type(hints[name], found) for name in names},
        "required": names,
    }


def _type(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(inside)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(one, found) for one in inside]}
    if origin is tuple:
        return {"type": "array", "items": _type(inside[0], found)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(inside[1], found)}
    if hint is type(None):
        return {"type": "null"}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in found:
            found[hint.__name__] = {}
            found[hint.__name__] = _object(hint, found)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": PLAIN[hint]} if hint in PLAIN else {}
