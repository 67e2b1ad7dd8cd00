# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML files of other programs: read as they are written, whatever tags they use, and never for long."""

import itertools
from typing import Any

import yaml

MOST_NODES = 200_000
NOT_READ = (yaml.YAMLError, RecursionError, ValueError, TypeError)


def load(text: str) -> Any:
    """Return what a file says; one of NOT_READ when it does not parse.

    A file whose aliases stand for more values than anybody writes does not parse either.
    """
    loader = _Tolerant(text)
    node = loader.get_single_node()
    if node is not None and _weight(node, {}) > MOST_NODES:
        raise ValueError("aliases of aliases")
    return loader.construct_document(node) if node is not None else None


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
