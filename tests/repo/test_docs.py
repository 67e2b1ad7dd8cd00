# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says is there: links, commands, verbs, both languages, and the worked example."""

import argparse
import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from restaura.cli import Parser, parser
from restaura.config import load
from restaura.config.schema import Component
from restaura.sources import Source, SourceKind

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "roles").glob("*/README.md")])
TRANSLATED = [
    (ROOT / "README.md", ROOT / "README.pt-BR.md"),
    (ROOT / "docs/restore-runbook.md", ROOT / "docs/restore-runbook.pt-BR.md"),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return BLOCK.sub("", text(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks, without comments, empty lines and joined where they go on."""
    found = []
    for language, block in BLOCK.findall(text(page)):
        lines = block.replace("\\\n", " ").splitlines()
        if language == "sh":
            found += lines
        elif language == "console":
            found += [line[2:] for line in lines if line.startswith(("# ", "$ "))]
    bare = [re.sub(r"\s+# .*$", "", line).strip() for line in found]
    return [line for line in bare if line and not line.startswith("#")]


def verbs() -> dict[str, Parser]:
    (action,) = [one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(action.choices)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target


def test_no_page_has_a_gap() -> None:
    assert [page.name for page in PAGES if re.search(r"@@|TODO|FIXME|XXX", text(page))] == []


def test_every_page_is_linked_from_the_readme() -> None:
    for readme in TRANSLATED[0]:
        linked = {(ROOT / one.split("#")[0]).resolve() for one in LINK.findall(text(readme))}
        pages = {page for page in PAGES if page.parent != ROOT or page.name == "CONTRIBUTING.md"}
        runbooks = set(TRANSLATED[1])
        assert pages - runbooks
        assert sorted(str(page) for page in pages - runbooks - linked) == []
        assert runbooks & linked


@pytest.mark.parametrize("pair", TRANSLATED, ids=lambda pair: pair[0].name)
def test_both_languages_have_the_same_sections_commands_and_tables(pair: tuple[Path, Path]) -> None:
    english, portuguese = pair
    assert commands(english)
    assert commands(english) == commands(portuguese)
    for pattern in (r"^(#+) ", r"^(\|).*\|$", r"^(```)"):
        count = [len(re.findall(pattern, text(page), re.MULTILINE)) for page in pair]
        assert count[0] == count[1], pattern
    levels = [re.findall(r"^(#+) ", BLOCK.sub("", text(page)), re.MULTILINE) for page in pair]
    assert levels[0] == levels[1]


def test_every_verb_is_documented() -> None:
    for readme in TRANSLATED[0]:
        assert verbs()
        assert [verb for verb in verbs() if f"`{verb}`" not in text(readme)] == []
    elsewhere = " ".join(text(page) for page in PAGES if page.parent != ROOT)
    assert [verb for verb in verbs() if f"restaura {verb}" not in elsewhere] == []


def test_every_command_of_ours_in_the_docs_is_one_that_the_program_takes() -> None:
    known = verbs()
    checked = 0
    for page in PAGES:
        written = [*commands(page), *re.findall(r"`(restaura [a-z][^`]*)`", prose(page))]
        for line in (one for command in written for one in re.split(r" && | \| |; ", command)):
            if not re.match(r"restaura [a-z]", line):
                continue
            words = shlex.split(line.split(" > ")[0])
            assert words[1] in known, f"{page.name}: {line}"
            given = {word.split("=")[0] for word in words[2:] if word.startswith("--")}
            assert given <= set(known[words[1]]._option_string_actions), f"{page.name}: {line}"
            checked += 1
    assert checked > 50


def test_every_make_target_and_playbook_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z_-]+):.*##", text(ROOT / "Makefile"), re.MULTILINE))
    written = "\n".join(text(page) for page in PAGES)
    named = set(re.findall(r"`make ([a-z_-]+)", written)) | {
        target for page in PAGES for line in commands(page) for target in re.findall(r"^make ([a-z_-]+)", line)
    }
    assert named
    assert named - targets == set()
    playbooks = set(re.findall(r"\b([a-z]+_backup\.yml)\b", written))
    assert playbooks == {path.name for path in (ROOT / "playbooks").glob("*.yml")}


def test_the_worked_example_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fulfils the contract, and its settings load like any other's."""
    (code,) = [block for language, block in BLOCK.findall(text(ROOT / "CONTRIBUTING.md")) if language == "python"]
    module = ModuleType("restaura.sources.packages")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "CONTRIBUTING.md", "exec"), module.__dict__)
    kind = module.SOURCE
    assert isinstance(kind, SourceKind)
    assert issubclass(kind.options, Component)
    steps = [name for name, _ in inspect.getmembers(Source, inspect.isfunction) if not name.startswith("_")]
    assert {"freeze", "stage", "take_back"} <= set(steps)
    for step in steps:
        wanted, here = inspect.signature(getattr(Source, step)), inspect.signature(getattr(kind.source, step))
        assert list(wanted.parameters) == list(here.parameters), step
    monkeypatch.setattr(load, "registry", lambda: {kind.name: kind})
    declared = {"settings": {"host": "web1"}, "components": {kind.name: [{"name": "packages", "only": ["a*"]}]}}
    config = load.parse(json.loads(json.dumps(declared)), "example")
    assert getattr(config.component("packages"), "only", None) == ("a*",)
