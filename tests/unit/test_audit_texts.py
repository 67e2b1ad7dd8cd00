# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of an audit: all of them in every language, and for every code that the program has."""

import ast
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Formatter

import pytest

import restaura.audit
from restaura.audit import texts
from restaura.audit.document import Say
from restaura.audit.judge import METHODS
from restaura.audit.texts import Words

FILES = {path.stem: ast.parse(path.read_text()) for path in Path(restaura.audit.__path__[0]).glob("*.py")}
# What is written alike: names, numbers, and what is no word.
ALIKE = {"method_compose_backup_services", "kind_cron", "kind_timer", "kind_restaura", "unknown", "size", "date"}
ALIKE |= {"head_name", "head_status"}


def parameters(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name)


def values(node: ast.expr) -> Iterator[str]:
    """Every text that an expression can be, but for the empty one."""
    parts = {ast.IfExp: ("body", "orelse"), ast.BoolOp: ("values",)}.get(type(node), ())
    for part in parts:
        inner = getattr(node, part)
        for one in inner if isinstance(inner, list) else [inner]:
            yield from values(one)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value


def constants(*stems: str) -> set[str]:
    """Every text that stands in files as it is."""
    nodes = (node for stem in stems for node in ast.walk(FILES[stem]) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str)}


def called(*names: str) -> Iterator[str]:
    """The first argument of every call of these functions, where it stands there as it is."""
    for tree in FILES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in names and isinstance(node.args[0], ast.Constant):
                    yield node.args[0].value


def looped() -> Iterator[str]:
    """What the judge goes through as `for code, … in (("a", …), …)`."""
    for node in ast.walk(FILES["judge"]):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Tuple) and isinstance(node.iter, ast.Tuple):
            names = [getattr(one, "id", "") for one in node.target.elts]
            if names[0] == "code" and names[1] != "kinds":
                yield from (one.elts[0].value for one in node.iter.elts)  # type: ignore[attr-defined]


def idle() -> Iterator[str]:
    """Every reason why something is never started."""
    for stem in ("jobs", "protections", "restaura_itself"):
        for node in ast.walk(FILES[stem]):
            names = [getattr(one, "id", "") for one in getattr(node, "targets", [])] + [getattr(node, "arg", "")]
            if isinstance(node, ast.Assign | ast.keyword) and set(names) & {"idle", "cut", "refused"}:
                yield from values(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_crontab":
                yield from values(node.args[-1])


def problems() -> set[str]:
    kinds = ("databases", "supabase", "volumes", "files")
    taken = {f"{how}_{kind}" for how, kind in product(("unprotected", "unseen"), kinds)}
    return {*called("_problem"), *looped(), *taken, *(f"idle_{one}" for one in idle())}


def test_every_code_that_the_judge_can_produce_is_worded() -> None:
    found = problems()
    # A sample of each way to find them, so that none is blind.
    assert {"silent", "stale", "only_on_same_disk", "world_readable", "idle_dot_in_name", "idle_bad_time"} <= found
    assert {"idle_not_scheduled", "idle_timer_disabled", "idle_insecure_mode", "idle_no_cron_daemon"} <= found
    assert sorted(found - set(texts.EN)) == []


def test_every_recommendation_method_and_reason_is_worded() -> None:
    advice = {*called("Recommendation"), *(f"protect_{kind}" for kind in ("databases", "supabase", "volumes", "files"))}
    assert {"disaster_plan", "try_restores"} <= advice
    reasons = constants("shell", "scripts", "jobs") & {
        *("no_mailer", "mailto_empty", "no_onfailure", "output_discarded", "output_to_file", "pipe_hides_failure")
    }
    assert len(reasons) == 6
    said = {*called("Say"), *advice, *reasons, *(f"method_{name}" for name in METHODS)}
    assert "not_configured" in said
    assert sorted(said - set(texts.EN)) == []


@pytest.mark.parametrize("language", sorted(set(texts.LANGUAGES) - {"en"}))
def test_a_language_has_every_text_with_the_same_parameters_and_lines(language: str) -> None:
    said = texts.LANGUAGES[language]
    assert set(said) == set(texts.EN)
    assert [code for code in said if parameters(said[code]) != parameters(texts.EN[code])] == []
    assert [code for code in said if said[code].count("\n") != texts.EN[code].count("\n")] == []
    assert {code for code in said if said[code] == texts.EN[code]} <= ALIKE


@pytest.mark.parametrize(
    ("language", "date", "size"),
    [("en", "2026-05-01 12:30 UTC", "1.5 MB"), ("pt-BR", "01/05/2026 12:30 UTC", "1,5 MB")],
)
def test_times_and_numbers_are_written_as_the_language_does(language: str, date: str, size: str) -> None:
    words = Words(language)
    assert words.say(Say("date", {"of_at": "2026-05-01T14:30:00+02:00"})) == date
    assert words.say(Say("size", {"of_bytes": "1500000"})) == size


def test_the_portuguese_words_are_those_of_the_report_that_the_audit_follows() -> None:
    said = texts.LANGUAGES["pt-BR"]
    for code, words in {
        "methods": "Métodos de Backup Encontrados",
        "status": "Status Geral",
        "problems": "Problemas Identificados",
        "recommendations": "Recomendações",
        "short": "Curto Prazo",
        "medium": "Médio Prazo",
        "long": "Longo Prazo",
        "next_steps": "Próximos Passos",
        "unprotected_volumes": "Volumes Docker sem configuração de backup",
        "unprotected_supabase": "Supabase sem configuração de backup",
        "no_recovery_documents": "Ausência de procedimentos de recuperação documentados",
        "restore_never_tried": "Ausência de testes de recuperação",
        "store_elsewhere": "Implementar armazenamento externo de backups",
        "automate_drills": "Automatizar testes de recuperação",
        "incremental": "Implementar backup incremental",
    }.items():
        assert said[code].split("\n")[0] == words
