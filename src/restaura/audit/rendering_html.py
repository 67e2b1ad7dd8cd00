# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents as one HTML page that needs nothing else: no script, no picture, no address. For telephone, desk and paper.

What was found on a host only ever becomes text: all of it goes through `html.escape`, and should that have a gap, the
page's policy forbids every script and every request.
"""

from collections.abc import Iterator
from html import escape

from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Say, Table, Tick, Ticks
from restaura.audit.rendering_text import TICKS
from restaura.audit.texts import Words, word
from restaura.output import printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CLASSES = {True: "good", False: "critical", None: "unknown"}
# A table of many columns is one card for each row where it does not fit: each cell brings its column's head.
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2327; --dim: #59636e; --line: #d5dae0; --box: #f4f6f8;
  --link: #0a58ca; --good: #1a7f37; --warning: #8a5a00; --critical: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e4e7ea; --dim: #9aa4ae; --line: #363d45;
  --box: #1f242a; --link: #7db3ff; --good: #4cc26a; --warning: #e3b04b; --critical: #ff8a80; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: 1rem; color: var(--dim); margin: 1.2rem 0 .4rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
nav { font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; padding: 0; margin: .5rem 0; }
nav a { display: inline-block; padding: .3rem 0; }
.good { color: var(--good); } .warning { color: var(--warning); } .critical { color: var(--critical); }
p.status { border-left: .35rem solid; background: var(--box); padding: .7rem .9rem; border-radius: .25rem; }
p.status > span { color: var(--ink); }
ul.ticks { list-style: none; padding: 0; }
ul.ticks > li { padding: .15rem 0 .15rem 1.9rem; text-indent: -1.9rem; }
ul.ticks > li > span:first-child { display: inline-block; width: 1.9rem; text-indent: 0; }
.items { padding-left: 1.6rem; }
.items > li { margin: 0 0 1rem; }
.items > li::marker { color: var(--dim); }
.items p { margin: 0; }
.items ul { padding-left: 1.1rem; margin: .2rem 0; color: var(--dim); }
.title { font-weight: 600; }
.badge { font-size: .75rem; font-weight: 700; border: 1px solid; border-radius: .25rem; padding: 0 .35rem; }
pre { margin: .45rem 0 0; background: var(--box); border: 1px solid var(--line); border-radius: .25rem;
  padding: .45rem .7rem; white-space: pre-wrap; font: .875rem/1.45 ui-monospace, monospace; }
pre code { font: inherit; -webkit-user-select: all; user-select: all; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; overflow-wrap: break-word; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
th { color: var(--dim); font-weight: 600; }
td.good, td.warning, td.critical { font-weight: 600; }
@media screen and (max-width: 48rem) {
  table, tbody, tr, td { display: block; width: 100%; }
  thead { display: none; }
  tr { border: 1px solid var(--line); border-radius: .35rem; padding: .5rem .8rem; margin: 0 0 .8rem; }
  td { border: 0; padding: .1rem 0; display: flex; gap: .8rem; justify-content: space-between; text-align: right;
    overflow-wrap: anywhere; }
  td::before { content: attr(data-head); color: var(--dim); flex: none; text-align: left; }
  td:first-child { display: block; text-align: left; font-weight: 600; font-size: 1rem; }
  td:first-child::before { content: none; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --dim: #444; --line: #bbb; --box: #f4f6f8;
    --good: #1a7f37; --warning: #8a5a00; --critical: #b3261e; }
  @page { margin: 15mm; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1, h2, h3, h4, thead { break-after: avoid; }
  .items > li, tr, pre, p.status { break-inside: avoid; }
  table { font-size: 8.5pt; }
}
"""


def as_html(document: Document, words: Words) -> str:
    """Return a document as a page."""
    title = next((words.say(one.text) for one in document if isinstance(one, Heading)), "")
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="{escape(words.language)}">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_body(document, words),
            "</main>",
            "</body>",
            "</html>",
        )
    )


def _body(document: Document, words: Words) -> Iterator[str]:
    sections = [one for one in document if isinstance(one, Heading) and one.level == 2]
    number = 0
    for block in document:
        if not isinstance(block, Heading):
            yield from _block(block, words)
        elif block.level == 2:
            yield f'<h2 id="section-{number}">{_say(block.text, words)}</h2>'
            number += 1
        else:
            yield f"<h{block.level}>{_say(block.text, words)}</h{block.level}>"
            yield from _contents(sections, words) if block.level == 1 else ()


def _contents(sections: list[Heading], words: Words) -> Iterator[str]:
    yield f'<nav aria-label="{escape(word(words.language, "contents"))}">'
    yield "<ul>"
    for number, one in enumerate(sections):
        yield f'<li><a href="#section-{number}">{_say(one.text, words)}</a></li>'
    yield "</ul>"
    yield "</nav>"


def _say(one: Say, words: Words) -> str:
    return escape(words.say(one))


def _class(*names: str) -> str:
    told = " ".join(filter(None, names))
    return f' class="{told}"' if told else ""


def _block(block: Block, words: Words) -> Iterator[str]:
    if isinstance(block, Paragraph):
        if block.strong:
            strong = f"<strong>{_say(block.strong, words)}</strong>: <span>{_say(block.text, words)}</span>"
            yield f"<p{_class('status', block.strong.tone)}>{strong}</p>"
        else:
            yield f"<p>{_say(block.text, words)}</p>"
    elif isinstance(block, Ticks):
        yield from ('<ul class="ticks">', *(_tick(one, words) for one in block.rows), "</ul>")
    elif isinstance(block, Items):
        tag = "ol" if block.numbered else "ul"
        yield from (f'<{tag} class="items">', *(_item(one, words) for one in block.items), f"</{tag}>")
    elif isinstance(block, Table):
        yield from _table(block, words)


def _tick(one: Tick, words: Words) -> str:
    mark = f"<span{_class(CLASSES[one.answer])}>{TICKS[one.answer]}</span>"
    return f"<li>{mark}<strong>{_say(one.label, words)}</strong>: {_say(one.detail, words)}</li>"


def _item(item: Item, words: Words) -> str:
    badge = '<span class="badge critical">CRITICAL</span> ' if item.tone == "critical" else ""
    found = [f'<li><p class="title">{badge}{_say(item.title, words)}</p>']
    if below := words.below(item):
        found.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in below) + "</ul>")
    if item.command:
        found.append(f"<pre><code>{escape(printable(item.command))}</code></pre>")
    return "".join(found) + "</li>"


def _table(block: Table, words: Words) -> Iterator[str]:
    heads = [_say(one, words) for one in block.head]
    yield "<table>"
    yield "<thead><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead>"
    yield "<tbody>"
    for row in block.rows:
        cells = zip(heads, row, strict=True)
        yield (
            "<tr>"
            + "".join(f'<td{_class(cell.tone)} data-head="{head}">{_say(cell, words)}</td>' for head, cell in cells)
            + "</tr>"
        )
    yield "</tbody>"
    yield "</table>"
