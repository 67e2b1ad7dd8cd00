# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration (JSON values) becomes typed objects, or one ConfigError that names every mistake, its key and its fix.

The declaration's shape, as roles and `restaura configure` have it:
`{"settings": {…}, "stores": [{…}], "plans": [{…}], "components": {"files": [{…}], "postgres": [{…}]}}`.
"""

import dataclasses
import difflib
import json
import posixpath
import re
import types
import typing
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from restaura.config.schema import NAME, NAME_RULE, Component, Config, Plan, Settings, Store
from restaura.errors import ConfigError
from restaura.schedule import cron_fields
from restaura.sources import SourceKind, registry

T = TypeVar("T")

SECTIONS = ("settings", "stores", "plans", "components")


def load(path: Path) -> Config:
    """Read config.json; ConfigError (exit 2) when it is missing, unreadable or wrong."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(
            "this host is not set up", where=str(path), fix="ansible-playbook setup_backup.yml -i INVENTORY"
        ) from None
    except PermissionError:
        raise ConfigError("only root can read the configuration", where=str(path), fix="sudo restaura …") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="run setup_backup.yml again") from error
    return parse(data, str(path))


def parse(data: Any, where: str) -> Config:
    """Make typed objects of a declaration; ConfigError names every mistake at once."""
    mistakes: list[str] = []
    if not isinstance(data, Mapping):
        raise ConfigError("must be a JSON object", where=where)
    _unknown(data, SECTIONS, "", mistakes)
    settings = _object(Settings, data.get("settings", {}), "settings", mistakes)
    stores = _objects(Store, data.get("stores", []), "stores", mistakes)
    plans = _objects(Plan, data.get("plans", []), "plans", mistakes)
    components: list[Component] = []
    kinds: dict[str, str] = {}
    declared = data.get("components", {})
    if isinstance(declared, Mapping):
        _unknown(declared, registry(), "components.", mistakes)
        for kind in (one for one in registry() if one in declared):
            source = registry()[kind]
            for one in _objects(source.options, declared[kind], f"components.{kind}", mistakes):
                components.append(one)
                kinds[one.name] = kind
                mistakes += _checks(source, one)
    else:
        mistakes.append("components: must be an object of lists, one for each source")
    if not mistakes:
        mistakes += _references(stores, plans, components)
    if mistakes or settings is None:
        raise ConfigError("\n  ".join([f"{len(mistakes)} mistake(s):", *mistakes]), where=where)
    return Config(settings, tuple(stores), tuple(plans), tuple(components), kinds)


def dump(config: Config) -> dict[str, Any]:
    """Return the declaration of `config` without its secrets, every default written out."""
    components: dict[str, list[Any]] = {}
    for one in config.components:
        components.setdefault(config.kinds[one.name], []).append(plain(one))
    return {
        "settings": plain(config.settings),
        "stores": [plain(one) for one in config.stores],
        "plans": [plain(one) for one in config.plans],
        "components": components,
    }


def plain(value: Any) -> Any:
    """Return a settings object as JSON values, secrets left out."""
    if dataclasses.is_dataclass(value):
        return {
            one.name: plain(getattr(value, one.name))
            for one in dataclasses.fields(value)
            if not one.metadata.get("secret")
        }
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value


def secrets_of(item: Any) -> dict[str, str]:
    """Return the secrets that a settings object holds, by field name: `password`, or `pause.steps.0.http.headers`."""
    found: dict[str, str] = {}
    for one in dataclasses.fields(item):
        value = getattr(item, one.name)
        if one.metadata.get("secret"):
            found |= {} if value is None else {one.name: value}
        elif dataclasses.is_dataclass(value):
            found |= {f"{one.name}.{name}": secret for name, secret in secrets_of(value).items()}
        elif isinstance(value, tuple):
            inner = [(n, secrets_of(part)) for n, part in enumerate(value) if dataclasses.is_dataclass(part)]
            found |= {f"{one.name}.{n}.{name}": secret for n, part in inner for name, secret in part.items()}
    return found


def _unknown(data: Mapping[str, Any], known: Iterable[str], prefix: str, mistakes: list[str]) -> None:
    names = list(known)
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
            mistakes.append(f"{prefix}{_shown(key)}: unknown setting; {hint}")


def _objects(kind: type[T], data: Any, where: str, mistakes: list[str]) -> list[T]:
    if not isinstance(data, list | tuple):
        mistakes.append(f"{where}: must be a list")
        return []
    found = []
    for number, one in enumerate(data):
        label = one.get("name") if isinstance(one, Mapping) else None
        place = f"{where}[{number}]" if not isinstance(label, str) else f"{where}[{_shown(label)}]"
        item = _object(kind, one, place, mistakes)
        if item is not None:
            found.append(item)
    return found


def _object(kind: type[T], data: Any, where: str, mistakes: list[str]) -> T | None:
    if not isinstance(data, Mapping):
        mistakes.append(f"{where}: must be an object")
        return None
    before = len(mistakes)
    fields = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    _unknown(data, fields, f"{where}.", mistakes)
    values = {}
    for name, one in fields.items():
        place = f"{where}.{name}"
        if name in data:
            values[name] = _value(hints[name], data[name], place, one.metadata, mistakes)
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            mistakes.append(f"{place}: is required")
    if len(mistakes) > before:
        return None
    item = kind(**values)
    if hasattr(item, "mistakes"):
        mistakes += [f"{where}: {wrong}" for wrong in item.mistakes()]
    return item


def _value(hint: Any, value: Any, where: str, rules: Mapping[str, Any], mistakes: list[str]) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None or (value == "" and rules.get("secret")):
            return None
        return _value(next(one for one in get_args(hint) if one is not type(None)), value, where, rules, mistakes)
    if origin is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list | tuple):
            mistakes.append(f"{where}: must be a list")
            return ()
        if dataclasses.is_dataclass(inner):
            return tuple(_objects(inner, value, where, mistakes))  # type: ignore[arg-type]
        return tuple(_value(inner, one, f"{where}[{n}]", rules, mistakes) for n, one in enumerate(value))
    if origin is Literal:
        if value not in get_args(hint):
            mistakes.append(f"{where}: must be one of {', '.join(map(str, get_args(hint)))}; it is {_shown(value)}")
        return value
    if dataclasses.is_dataclass(hint):
        return _object(hint, value, where, mistakes)  # type: ignore[arg-type]
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        mistakes.append(f"{where}: must be of type {hint.__name__}, not {type(value).__name__}")
        return value
    return _ruled(value, where, rules, mistakes)


def _ruled(value: Any, where: str, rules: Mapping[str, Any], mistakes: list[str]) -> Any:
    minimum, pattern = rules.get("minimum"), rules.get("pattern")
    if rules.get("name") and not NAME.fullmatch(value):
        mistakes.append(f"{where}: {_shown(value)} is no name; a name is {NAME_RULE}")
    if minimum is not None and value < minimum:
        mistakes.append(f"{where}: must be at least {minimum}; it is {value}")
    if pattern is not None and not re.fullmatch(pattern, value):
        shown = "the value" if rules.get("secret") else _shown(value)
        mistakes.append(f"{where}: {shown} does not have the form {pattern}")
    if isinstance(value, str) and "\0" in value:
        mistakes.append(f"{where}: holds a NUL byte")
    return value


def _checks(source: SourceKind, component: Component) -> list[str]:
    where = f"components.{source.name}[{_shown(component.name)}].checks"
    names = [one.name for one in component.checks]
    mistakes = [f"{where}: the name {one!r} stands twice" for one in sorted(set(names)) if names.count(one) > 1]
    if not source.files:
        files = [one for one in component.checks if one.file or one.json or one.sqlite]
        why = f"{source.name} has no files to look at; give a command"
        mistakes += [f"{where}[{_shown(one.name)}]: {why}" for one in files]
    return mistakes


def _references(stores: list[Store], plans: list[Plan], components: list[Component]) -> list[str]:
    mistakes = []
    for section, items in (("stores", stores), ("plans", plans), ("components", components)):
        names = [one.name for one in items]
        mistakes += [f"{section}: the name {one!r} stands twice" for one in sorted(set(names)) if names.count(one) > 1]
    for plan in plans:
        for field, known in (("components", components), ("stores", stores)):
            names = [one.name for one in known]
            for name in getattr(plan, field):
                if name not in names:
                    near = difflib.get_close_matches(name, names, 1)
                    hint = f"did you mean {near[0]!r}?" if near else f"declared: {', '.join(names) or 'none'}"
                    mistakes.append(f"plans[{plan.name}].{field}: no such name {_shown(name)}; {hint}")
        if plan.timezone:
            try:
                zoneinfo.ZoneInfo(plan.timezone)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
                mistakes.append(f"plans[{plan.name}].timezone: no such time zone {_shown(plan.timezone)}")
        for field in ("schedule", "drill", "verify"):
            try:
                cron_fields(getattr(plan, field), plan.name)
            except ValueError as error:
                mistakes.append(f"plans[{plan.name}].{field}: {error}")
    if plans and not stores:
        mistakes.append("stores: at least one store is required")
    locations = [
        posixpath.normpath(one.location) if one.location.startswith("/") else one.location.rstrip("/") for one in stores
    ]
    mistakes += [
        f"stores: the location {one!r} stands twice" for one in sorted(set(locations)) if locations.count(one) > 1
    ]
    return mistakes


def _shown(value: Any) -> str:
    """Return a value as text that no terminal or log can be tricked by."""
    return repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…'"
