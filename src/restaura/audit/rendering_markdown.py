# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents as Markdown (CommonMark with GitHub's tables). What was found on a host never becomes markup or a link."""

import re

from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Say, Table, Ticks
from restaura.audit.rendering_text import TICKS
from restaura.audit.texts import Words
from restaura.output import printable

# An underscore within a word means nothing; what GitHub makes a link, a mention, an issue or a formula of, does.
ACTIVE = re.compile(r"[\\`*\[\]<>|~&@#$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=www)\.", re.IGNORECASE)
# What would begin a list, a heading or a rule.
FIRST = re.compile(r"^(\d*)(?:(?<=\d)[.)](?=\s|$)|(?<!\d)[-+=])")


def as_markdown(document: Document, words: Words) -> str:
    """Return a document as Markdown."""
    return "\n\n".join(_block(one, words) for one in document)


def escaped(text: str) -> str:
    """Return text of one line as Markdown that reads as that text."""
    return FIRST.sub(lambda match: f"{match[1]}\\{match[0][-1]}", ACTIVE.sub(r"\\\g<0>", text.strip()))


def _say(one: Say, words: Words) -> str:
    return escaped(words.say(one))


def _block(block: Block, words: Words) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_say(block.text, words)}"
    if isinstance(block, Paragraph):
        strong = f"**{_say(block.strong, words)}**: " if block.strong else ""
        return strong + _say(block.text, words)
    if isinstance(block, Ticks):
        return "\n".join(
            f"- {TICKS[one.answer]} **{_say(one.label, words)}**: {_say(one.detail, words)}" for one in block.rows
        )
    if isinstance(block, Items):
        gap = "\n\n" if block.numbered else "\n"
        return gap.join(_item(f"{n}." if block.numbered else "-", one, words) for n, one in enumerate(block.items, 1))
    return _table(block, words)


def _item(first: str, item: Item, words: Words) -> str:
    indent = " " * (len(first) + 1)
    mark = "**CRITICAL**: " if item.tone == "critical" else ""
    lines = [f"{first} {mark}**{_say(item.title, words)}**"]
    lines += [f"{indent}- {escaped(line)}" for line in words.below(item)]
    if item.command:
        command = printable(item.command)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
        lines += ["", *(indent + line for line in (f"{fence}sh", command, fence))]
    return "\n".join(lines)


def _table(block: Table, words: Words) -> str:
    rows = [block.head, *block.rows]
    lines = [f"| {' | '.join(_say(cell, words) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(block.head), *lines[1:]])
