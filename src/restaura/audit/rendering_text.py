# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents as plain text, for a terminal or a mail."""

import textwrap

from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Table, Ticks
from restaura.audit.texts import Words
from restaura.output import printable
from restaura.output import table as text_table

WIDTH = 100
TICKS = {True: "✅", False: "❌", None: "–"}
UNDERLINES = {1: "=", 2: "-", 3: "~", 4: "."}


def as_text(document: Document, words: Words) -> str:
    """Return a document as plain text."""
    return "\n\n".join(_block(one, words) for one in document)


def _block(block: Block, words: Words) -> str:
    if isinstance(block, Heading):
        text = words.say(block.text)
        return f"{text}\n{UNDERLINES[block.level] * len(text)}"
    if isinstance(block, Paragraph):
        strong = f"{words.say(block.strong)}: " if block.strong else ""
        return textwrap.fill(strong + words.say(block.text), WIDTH)
    if isinstance(block, Ticks):
        return "\n".join(
            textwrap.fill(
                f"{TICKS[one.answer]} {words.say(one.label)}: {words.say(one.detail)}", WIDTH, subsequent_indent="   "
            )
            for one in block.rows
        )
    if isinstance(block, Items):
        gap = "\n\n" if block.numbered else "\n"
        return gap.join(_item(number if block.numbered else 0, one, words) for number, one in enumerate(block.items, 1))
    return _table(block, words)


def _item(number: int, item: Item, words: Words) -> str:
    first = f"{number}. " if number else "- "
    mark = "[CRITICAL] " if item.tone == "critical" else ""
    found = [
        textwrap.fill(mark + words.say(item.title), WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    ]
    found += [
        textwrap.fill(line, WIDTH, initial_indent="   - ", subsequent_indent="     ", break_on_hyphens=False)
        for line in words.below(item)
    ]
    # A command stands alone on its line, whole, to be copied.
    found += [f"     $ {printable(item.command)}"] if item.command else []
    return "\n".join(found)


def _table(block: Table, words: Words) -> str:
    head = [words.say(one) for one in block.head]
    return text_table(head, [[words.say(cell) for cell in row] for row in block.rows])
