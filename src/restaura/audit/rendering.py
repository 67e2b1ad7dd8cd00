# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents rendered in a language: as plain text for a terminal or a mail."""

import textwrap

from restaura.audit import texts
from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Say, Table, Ticks
from restaura.output import printable
from restaura.output import table as text_table

WIDTH = 100
TICKS = {True: "✅", False: "❌", None: "–"}
UNDERLINES = {1: "=", 2: "-", 3: "~"}


class Words:
    """Says things in one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def say(self, one: Say) -> str:
        """Return the words for something to say, on one line."""
        return printable(texts.title(self.language, one.code, one.parameters) if one.code else one.plain)

    def details(self, one: Say) -> list[str]:
        """Return the further lines of a text."""
        return [printable(line) for line in texts.details(self.language, one.code, one.parameters)] if one.code else []

    def evidence(self, item: Item) -> str:
        """Return where something was seen, or nothing."""
        places = ", ".join(map(printable, item.evidence))
        return texts.word(self.language, "evidence", {"places": places}) if places else ""


def as_text(document: Document, language: str) -> str:
    """Return a document as plain text."""
    words = Words(language)
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
    mark = f"[{item.mark.upper()}] " if item.mark == "critical" else ""
    found = [
        textwrap.fill(mark + words.say(item.title), WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    ]
    details = [*words.details(item.title), *(words.say(one) for one in item.lines), words.evidence(item)]
    found += [
        textwrap.fill(line, WIDTH, initial_indent="   - ", subsequent_indent="     ", break_on_hyphens=False)
        for line in details
        if line
    ]
    # A command stands alone on its line, whole, to be copied.
    found += [f"     $ {printable(item.command)}"] if item.command else []
    return "\n".join(found)


def _table(block: Table, words: Words) -> str:
    head = [words.say(one) for one in block.head]
    return text_table(head, [[words.say(cell) for cell in row] for row in block.rows])
