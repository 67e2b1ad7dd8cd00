# SPDX-License-Identifier: GPL-3.0-or-later
"""Role READMEs and the configuration reference, as Markdown."""

import json
from typing import Any

import yaml

from restaura.config import schema
from restaura.sources import registry
from tools.generate import roles
from tools.generate.options import Options, components, options

MARK = (
    "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
    "<!-- Written by `make generate`; edit src/restaura instead. -->\n"
)


def readme(role: str) -> str:
    """Return the README of a role."""
    parts = [f"{MARK}\n# {role}\n", f"{roles.purpose(role)}\n"]
    for entry, (text, known) in roles.entries(role).items():
        if entry != "main":
            parts.append(f"## Entry point `{entry}`\n\n{text}\n")
        elif role == roles.RUNTIME:
            parts.append("## Variables\n")
        else:
            parts.append(f"## Variables\n\nExample:\n\n```yaml\n{_example(role)}```\n")
        if known:
            parts.append(_table(known))
        parts += _nested(known, "")
    return "\n".join(parts)


def reference() -> str:
    """Return the reference of every setting."""
    parts = [
        f"{MARK}\n# Configuration\n",
        "Every setting of a host, by section. In an inventory, `settings` are variables `backup_runtime_NAME`,\n"
        "`stores` and `plans` are the lists `backup_runtime_stores` and `backup_runtime_plans`, and each source's\n"
        "components are the list `backup_SOURCE_components`. As JSON, all that is what `restaura configure`\n"
        "takes on its standard input; [schema.json](schema.json) describes it to editors. A *secret* never stands in\n"
        "`config.json`, a log or a diff: it is kept in a file of its own below `/etc/restaura/keys`.\n",
    ]
    sections: dict[str, tuple[str, Options]] = {
        "settings": (_first_line(schema.Settings), options(schema.Settings)),
        "stores": (_first_line(schema.Store), options(schema.Store)),
        "plans": (_first_line(schema.Plan), options(schema.Plan)),
    }
    for kind, known in components().items():
        sections[f"components.{kind}"] = (_first_line(registry()[kind].options), known)
    for name, (text, known) in sections.items():
        parts += [f"## {name}\n\n{text}\n", _table(known), *_nested(known, f"{name}.")]
    return "\n".join(parts)


def _nested(known: Options, prefix: str) -> list[str]:
    """Return a section for every option that holds options."""
    parts = []
    for name, one in known.items():
        if "options" in one:
            parts += [f"### `{prefix}{name}`\n", _table(one["options"]), *_nested(one["options"], f"{prefix}{name}.")]
    return parts


def _table(known: Options) -> str:
    rows = ["| name | type | default | description |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{name}` | {_type(one)} | {_default(one)} | {_cell(' '.join(one['description']))} |"
        for name, one in known.items()
    ]
    return "\n".join(rows) + "\n"


def _type(one: dict[str, Any]) -> str:
    text = f"list of {one['elements']}" if one["type"] == "list" else one["type"]
    if one.get("choices"):
        text = " or ".join(f"`{choice}`" for choice in one["choices"])
    return f"{text}, secret" if one.get("no_log") else text


def _default(one: dict[str, Any]) -> str:
    if one.get("required"):
        return "**required**"
    if "default" not in one:
        return ""
    value = one["default"]
    return f"`{value}`" if isinstance(value, str) and value else f"`{_cell(json.dumps(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").split("\n\n")[0]


def _example(role: str) -> str:
    """Return a component with what it must have and what has an example."""
    kind = registry()[role.removeprefix("backup_")]
    one: dict[str, Any] = {}
    for name, field in kind.options.__dataclass_fields__.items():
        if field.metadata["example"] is not None:
            one[name] = field.metadata["example"]
        elif name == "name":
            one[name] = kind.name
    return yaml.safe_dump({f"{role}_components": [one]}, sort_keys=False, width=100)
