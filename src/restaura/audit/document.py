# SPDX-License-Identifier: GPL-3.0-or-later
"""A report without a language or a format: headings, paragraphs, ticks, tables and lists of things to say.

What is said is a code with parameters, which `texts` words; what has no words (a path, a command) stands as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["", "good", "warning", "critical"]


@dataclass(frozen=True)
class Say:
    """Something to say: a code of `texts` with its parameters, or, without a code, `plain` as it is.

    `tone` is how grave it is, for those who show that by a colour.
    """

    code: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    plain: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the report's title."""

    level: int
    text: Say


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `strong` is the part to set off before it (a status)."""

    text: Say
    strong: Say | None = None


@dataclass(frozen=True)
class Tick:
    """A line with yes, no, or neither (None) before it."""

    answer: bool | None
    label: Say
    detail: Say


@dataclass(frozen=True)
class Ticks:
    """Ticked lines."""

    rows: tuple[Tick, ...]


@dataclass(frozen=True)
class Item:
    """An entry of a list: a title, lines below it, where it was seen, the command to type next, and how grave it is."""

    title: Say
    lines: tuple[Say, ...] = ()
    evidence: tuple[str, ...] = ()
    command: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Items:
    """A list, numbered or not."""

    items: tuple[Item, ...]
    numbered: bool = True


@dataclass(frozen=True)
class Table:
    """A table."""

    head: tuple[Say, ...]
    rows: tuple[tuple[Say, ...], ...]


Block = Heading | Paragraph | Ticks | Items | Table
Document = tuple[Block, ...]
