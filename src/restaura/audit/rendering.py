# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents rendered in a language and a format: one function for each format, none of which knows what it says."""

from collections.abc import Callable

from restaura.audit.document import Document
from restaura.audit.rendering_html import as_html
from restaura.audit.rendering_markdown import as_markdown
from restaura.audit.rendering_text import as_text
from restaura.audit.texts import Words

FORMATS: dict[str, Callable[[Document, Words], str]] = {"text": as_text, "markdown": as_markdown, "html": as_html}


def render(document: Document, form: str, language: str) -> str:
    """Return a document in a format (`FORMATS`) and a language (`texts.LANGUAGES`), without a newline at its end."""
    return FORMATS[form](document, Words(language))
