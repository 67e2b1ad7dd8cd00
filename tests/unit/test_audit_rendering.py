# SPDX-License-Identifier: GPL-3.0-or-later
"""One audit in every format and language: all of it is there, in order, and nothing found on a host becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from restaura.audit.document import Heading, Items, Table
from restaura.audit.model import Audit, Copy, Evidence, Holder, Problem, Protection, Recommendation
from restaura.audit.rendering import FORMATS, render
from restaura.audit.report import report
from restaura.audit.texts import LANGUAGES, Words
from restaura.output import printable

# What a name on a host can hold. None may be more than text in any format.
HOSTILE = (
    *(
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style></title><b>",
        "&lt;b&gt;&amp;",
        "' onx='",
    ),
    *(
        "[click](https://evil.example)",
        "**bold** and *it*",
        "_under_ __strong__",
        "`code` ``` ~~~",
        "a | b",
        "# heading",
    ),
    *("1. item", "- item", "+ item", "=====", "---", "    indented", "https://evil.example", "www.evil.example"),
    *(
        "<https://evil.example>",
        "![x](x.png)",
        "$x$",
        "back\\slash*",
        "\x1b[31mred",
        "a\nb",
        "\u202ertl",
        "\udcff",
        "@all",
    ),
)
VOID = {"meta"}
TAGS = {
    *("html", "head", "title", "style", "body", "main", "nav", "h1", "h2", "h3", "h4", "p", "span", "strong", "ul"),
    *("ol", "li", "a", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "meta"),
}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "data-head", "aria-label"}


class Page(HTMLParser):
    """A page, taken apart; it fails where a browser would have to guess."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.pieces: list[str] = []
        self.commands: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "code":
            self.commands.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or not data.strip():
            return
        if self.open[-1] == "style":
            self.style += data
            return
        self.pieces.append(data.strip())
        if re.fullmatch("h[1-6]", self.open[-1]):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)
        if self.open[-1] == "code":
            self.commands[-1] += data


def hostile(status: str = "CRITICAL") -> Audit:
    """An audit in which every word that comes from a host is hostile."""
    names = [printable(one) for one in HOSTILE]
    seen = tuple(Evidence("file", one, number) for number, one in enumerate(HOSTILE))
    protections = tuple(
        Protection(
            f"cron:{one}",
            "cron",
            one,
            schedule=one,
            covers=(f"tree:{one}",),
            copies=(Copy(one, "2026-05-01T02:00:00+00:00", 1000),),
            restore_tried="2026-04-01T02:00:00+00:00",
            evidence=seen[:1],
        )
        for one in HOSTILE
    )
    return Audit(
        HOSTILE[0],
        "2026-05-01T12:00:00+00:00",
        status,  # type: ignore[arg-type]
        {"cron_jobs": True, "backup_scripts": False, "volume_backup": None},
        tuple(Holder(f"tree:{one}", "tree", one, False, (one,), 1500) for one in HOSTILE),
        protections,
        # A title that begins with what was found, and a line below it that does.
        tuple(
            Problem("empty", "critical", (), {"name": one, "copies": one, "size_bytes": "20"}, (Evidence("file", one),))
            for one in names
        ),
        tuple(Recommendation("repair", "short", {"name": one}, f"cat -- '{one}'") for one in names),
        seen[:1],
        seen[1:2],
        tuple(Evidence("file", one, None, "permission") for one in HOSTILE),
    )


def small() -> Audit:
    """An audit with some of everything."""
    dump = Protection(
        "cron:b", "cron", "b.sh", "0 2 * * *", covers=("postgres:17/main",), evidence=(Evidence("file", "/b"),)
    )
    return Audit(
        "web1",
        "2026-05-01T12:00:00+00:00",
        "WARNING",
        {"cron_jobs": True, "volume_backup": False},
        (
            Holder("postgres:17/main", "postgres", "17/main", True, ("/var/lib/postgresql",), 12_300_000),
            Holder("docker_volume:shop_data", "docker_volume", "shop_data", True),
        ),
        (dump,),
        (
            Problem("unprotected_volumes", "warning", (), {"holders": "docker_volume:shop_data"}),
            Problem("empty", "critical", (), {"name": "b.sh", "place": "/b", "copies": "/c", "size_bytes": "20"}),
        ),
        (
            Recommendation("protect_volumes", "short", {"holders": "docker_volume:shop_data"}, "make setup_backup"),
            Recommendation("incremental", "long", {}, "make setup_backup"),
        ),
    )


def tokens(text: str) -> list[tuple[str, str]]:
    """The kinds and contents of everything that Markdown makes of a text, as GitHub reads tables."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found += [(one.type, one.content) for one in (token.children or [token])]
    return found


def markdown_text(text: str) -> str:
    kinds = {"text", "text_special"}
    return "\n".join(
        "".join(one.content for one in token.children or [] if one.type in kinds)
        for token in MarkdownIt("commonmark").enable("table").parse(text)
        if token.type == "inline"
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("audit", [small(), hostile(), hostile("OK")], ids=["small", "hostile", "hostile OK"])
def test_every_format_says_all_of_it_in_the_same_order(audit: Audit, language: str) -> None:
    document, words = report(audit), Words(language)
    heads = [(one.level, words.say(one.text)) for one in document if isinstance(one, Heading)]
    items = [item for one in document if isinstance(one, Items) for item in one.items]
    cells = [words.say(cell) for one in document if isinstance(one, Table) for row in one.rows for cell in row]
    commands = [printable(one.command) for one in items if one.command]
    said = [words.say(one.title) for one in items] + [line for one in items for line in words.below(one)] + cells
    assert len(audit.problems) + len(audit.recommendations) <= len(items)

    page = Page(render(document, "html", language))
    assert page.headings == heads
    assert page.commands == commands
    assert [one for one in said if one.strip() not in page.pieces] == []

    markdown = render(document, "markdown", language)
    parsed = MarkdownIt("commonmark").enable("table").parse(markdown)
    levels = [int(one.tag[1]) for one in parsed if one.type == "heading_open"]
    assert levels == [level for level, _ in heads]
    assert [one.content.removesuffix("\n") for one in parsed if one.type == "fence"] == commands
    told = markdown_text(markdown).split("\n")
    flat = "\n".join(" ".join(one.split()) for one in told)
    assert [one for one in said if " ".join(one.split()) not in flat] == []

    text = " ".join(render(document, "text", language).split())
    # Where a line is broken, a long word may be too.
    bare = text.replace(" ", "")
    assert [one for one in said if one.replace(" ", "") not in bare] == []


@pytest.mark.parametrize("status", ["OK", "WARNING", "CRITICAL"])
def test_a_page_needs_nothing_else_and_holds_no_script(status: str) -> None:
    page = Page(render(report(hostile(status)), "html", "pt-BR"))
    assert page.tags <= TAGS
    assert {name for _, name, _ in page.attributes} <= ATTRIBUTES
    links = [value for _, name, value in page.attributes if name == "href"]
    targets = {f"#{value}" for _, name, value in page.attributes if name == "id"}
    assert links
    assert set(links) == targets
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert ("html", "lang", "pt-BR") in page.attributes
    assert "url(" not in page.style
    assert "@import" not in page.style
    assert "@media print" in page.style
    assert f'<p class="status {({"OK": "good"}).get(status, status.lower())}"><strong>{status}' in render(
        report(hostile(status)), "html", "pt-BR"
    )


def test_headings_go_down_one_by_one() -> None:
    levels = [level for level, _ in Page(render(report(small()), "html", "en")).headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert [here for before, here in pairwise(levels) if here > before + 1] == []


def test_nothing_found_on_a_host_is_markup_in_markdown() -> None:
    markdown = render(report(hostile()), "markdown", "en")
    kinds = {kind for kind, _ in tokens(markdown)}
    assert (
        kinds & {"html_inline", "html_block", "link_open", "image", "code_inline", "code_block", "em_open", "hr"}
        == set()
    )
    outside = re.sub(r"```+sh\n.*\n *```+", "", markdown)
    # What GitHub makes of it besides: links of bare addresses, mentions, formulas.
    assert re.findall(r"https?://|(?<!\\)www\.|(?<!\\)[@$]", outside) == []
    strong = [kind for kind, _ in tokens(markdown)].count("strong_open")
    ours = [one for one in report(hostile()) if isinstance(one, Items)]
    assert strong == 1 + 3 + 3 + sum(1 + (item.tone == "critical") for one in ours for item in one.items)


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_moves_a_cursor_or_turns_text_around(form: str) -> None:
    text = render(report(hostile()), form, "en")
    assert [one for one in text if not one.isprintable() and one != "\n"] == []
    text.encode()


def test_a_host_without_anything_has_a_whole_report_too() -> None:
    bare = replace(small(), holders=(), protections=(), problems=(), recommendations=(), status="OK")
    for form in FORMATS:
        text = render(report(bare), form, "pt-BR")
        assert "Não foi encontrado nada que guarde dados" in text
        assert "Nenhum" in text
    assert Page(render(report(bare), "html", "pt-BR")).headings
