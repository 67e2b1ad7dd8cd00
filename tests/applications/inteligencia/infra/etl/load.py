# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns one line of a feed into a document."""


def document(line: str) -> dict[str, str]:
    """Return a document; ValueError for a line without a title."""
    title, _, body = line.partition("|")
    if not title.strip():
        raise ValueError("a line without a title")
    return {"title": title.strip(), "body": body.strip()}
