# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML files of other programs: read as they are written, whatever tags they use, and never for long."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MOST_NODES = 200_000
ALIASES = "aliases of aliases stand for more values than anybody writes"
# PyYAML's constructors raise the latter ones on values that do not fit their tags (`!!bool maybe`).
NOT_READ = (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError)


def complaint(error: Exception) -> tuple[str, int | None]:
    """Return what one of NOT_READ says, and the line (from 1) where it is known.

    Without what it quotes of the file: that may be a secret.
    """
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or (ALIASES if str(error) == ALIASES else type(error).__name__)
    # Single characters and names of tokens ('<block end>') stay.
    said = re.sub(r"""(["'])(<[^"']*|.?)\1|(["']).*?\3""", lambda one: one[0] if one[1] else "…", said)
    return said, mark.line + 1 if mark else None


def load(text: str) -> Any:
    """Return what a file says; one of NOT_READ when it does not parse.

    A file whose aliases stand for more values than anybody writes does not parse either.
    """
    loader = _Tolerant(text)
    node = loader.get_single_node()
    if node is not None and _weight(node, {}) > MOST_NODES:
        raise ValueError(ALIASES)
    return loader.construct_document(node) if node is not None else None


@dataclass(frozen=True)
class Document:
    """One document of a file: its values, and the line (from 1) that each of them begins in, by its keys from the top.

    `twice` are keys that a mapping has twice, of which every reader drops one without a word.
    """

    data: Any
    lines: dict[tuple[Any, ...], int] = field(default_factory=dict)
    twice: tuple[tuple[Any, ...], ...] = ()


def documents(text: str) -> list[Document]:
    """Return all documents of a file; one of NOT_READ when it does not parse."""
    loader, found = _Tolerant(text), []
    while loader.check_node():
        if (node := loader.get_node()) is None:
            continue
        if _weight(node, {}) > MOST_NODES:
            raise ValueError(ALIASES)
        lines: dict[tuple[Any, ...], int] = {}
        twice: list[tuple[Any, ...]] = []
        for keys, at in _placed(node, ()):
            if keys in lines and not any(keys[: len(one)] == one for one in twice):
                twice.append(keys)
            lines[keys] = at.start_mark.line + 1
        found.append(Document(loader.construct_document(node), lines, tuple(twice)))
    return found


def _placed(node: yaml.Node, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], yaml.Node]]:
    yield keys, node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                yield from _placed(value, (*keys, key.value if isinstance(key, yaml.ScalarNode) else ""))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _placed(value, (*keys, number))


class _Tolerant(yaml.SafeLoader):
    """Reads borgmatic's `!include`, Compose's `!reset` and `!override` as the values they stand at."""


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node is with every alias written out: ten aliases can be a billion."""
    if id(node) not in known:
        known[id(node)] = 1
        values = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = itertools.chain.from_iterable(one if isinstance(one, tuple) else (one,) for one in values)
        known[id(node)] += sum(_weight(one, known) for one in parts)
    return known[id(node)]


def _untagged(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Tolerant.add_multi_constructor("!", _untagged)
