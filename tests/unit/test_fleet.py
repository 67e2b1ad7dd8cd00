# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of many hosts: what they answered, the report of all of them, the files, and the exit codes."""

import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from restaura.audit.document import Heading, Table
from restaura.audit.model import Audit, Copy, Holder, Take
from restaura.audit.rendering import FORMATS, render
from restaura.audit.texts import LANGUAGES, Words
from restaura.cli import parser
from restaura_fleet import running
from restaura_fleet.__main__ import ENDINGS, main
from restaura_fleet.model import FleetAudit
from restaura_fleet.reading import fleet_of
from restaura_fleet.report import fleet_report, summary
from tests.unit.test_audit_judge import DUMP, POSTGRES, TREE, copies
from tests.unit.test_audit_judge import audit as judged

ROOT = Path(__file__).parents[2]
AT = "2026-05-01T12:00:00+00:00"
UNREACHABLE = {
    "unreachable": True,
    "changed": False,
    "msg": "ssh: connect to host 10.0.0.9 port 22: Connection refused",
}
RIGHT = judged((POSTGRES,), DUMP)
GAPS = judged((POSTGRES, TREE), dataclasses.replace(DUMP, off_host=False))
LOST = judged((POSTGRES,), dataclasses.replace(DUMP, copies=copies(0.4, 1.4, size=20)))


def answer(audit: Audit) -> dict[str, Any]:
    """What the module answers for an audit, as it comes through Ansible."""
    told: dict[str, Any] = json.loads(json.dumps({"text": "…", "exit": 0, **dataclasses.asdict(audit)}))
    return {"changed": False, "failed": False, "audit": told}


def fleet(**results: Any) -> FleetAudit:
    return fleet_of(results, AT)


def rows(found: FleetAudit, language: str = "en") -> dict[str, list[str]]:
    words = Words(language)
    (table,) = [one for one in summary(found) if isinstance(one, Table)]
    shown = [[words.say(cell) for cell in row] for row in table.rows]
    return {row[0]: row[1:] for row in shown}


def test_the_audits_are_what_they_should_be() -> None:
    assert (RIGHT.status, GAPS.status, LOST.status) == ("OK", "WARNING", "CRITICAL")


def test_what_hosts_answered_is_read_back_whole_and_the_worst_comes_first() -> None:
    found = fleet(a=answer(RIGHT), b=answer(GAPS), c=UNREACHABLE, d=answer(LOST), e=answer(GAPS))
    assert [one.name for one in found.hosts] == ["d", "c", "b", "e", "a"]
    assert [one.audit for one in found.hosts] == [LOST, None, GAPS, GAPS, RIGHT]
    assert found.hosts[1].error == UNREACHABLE["msg"]


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ({"a": answer(RIGHT)}, "OK"),
        ({"a": answer(RIGHT), "b": answer(GAPS)}, "WARNING"),
        ({"a": answer(RIGHT), "b": UNREACHABLE}, "WARNING"),
        ({"a": answer(RIGHT), "b": {}}, "WARNING"),
        ({"a": answer(LOST), "b": answer(GAPS), "c": UNREACHABLE}, "CRITICAL"),
    ],
)
def test_the_status_is_the_worst_and_never_ok_without_an_audit(results: dict[str, Any], status: str) -> None:
    assert fleet_of(results, AT).status == status


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    told = answer(GAPS)
    change(told["audit"])
    return told


@pytest.mark.parametrize(
    "result",
    [
        {},
        None,
        "text",
        {"audit": None},
        {"audit": {}},
        broken(lambda audit: audit.update(status="FINE")),
        broken(lambda audit: audit.pop("methods")),
        broken(lambda audit: audit.update(holders="none")),
        broken(lambda audit: audit["holders"].append({"id": 5})),
        broken(lambda audit: audit["holders"][0].update(bytes="many")),
        broken(lambda audit: audit["problems"][0].update(code="no such code")),
        broken(lambda audit: audit["problems"][0].update(parameters={})),
        broken(lambda audit: audit["protections"][0]["copies"][1].update(at="midnight")),
        broken(lambda audit: audit["problems"][0]["parameters"].update(size_bytes=["x"])),
    ],
)
def test_what_is_no_audit_is_a_host_that_was_not_audited(result: Any) -> None:
    found = fleet(good=answer(RIGHT), other=result)
    (bad,) = [one for one in found.hosts if one.audit is None]
    assert (bad.name, found.status) == ("other", "WARNING")
    assert bad.error
    for form in FORMATS:
        assert "NOT AUDITED" in render(fleet_report(found), form, "en")


def test_the_table_tells_what_is_unprotected_how_old_and_whether_it_is_elsewhere() -> None:
    shop = Holder("docker_volume:shop", "docker_volume", "shop", True, ("/v/shop",), volumes=("shop",))
    older = dataclasses.replace(DUMP, id="cron:tar", uses=("tar",), takes=(Take("path", "/v"),), copies=copies(1.9))
    unseen = dataclasses.replace(older, copies=(), seen=False, last_run=copies(0.5)[0].at, off_host=None)
    empty = (Copy("/b/new.sql", copies(0.1)[0].at, 0), *copies(0.8))
    found = fleet(
        right=answer(RIGHT),
        gaps=answer(GAPS),
        two=answer(judged((POSTGRES, shop), DUMP, older)),
        unseen=answer(judged((POSTGRES, shop), DUMP, unseen)),
        empty=answer(judged((POSTGRES,), dataclasses.replace(DUMP, copies=empty))),
        bare=answer(judged((POSTGRES,))),
        none=answer(judged(())),
        gone=UNREACHABLE,
    )
    times = {days: f"{datetime.fromisoformat(copies(days)[0].at):%Y-%m-%d %H:%M} UTC" for days in (0.4, 0.8, 1.9)}
    assert rows(found) == {
        "right": ["OK", "1", "0", times[0.4], "yes"],
        "gaps": ["WARNING", "2", "1", times[0.4], "no"],
        "two": ["OK", "2", "0", times[1.9], "yes"],
        "unseen": ["OK", "2", "0", "?", "?"],
        "empty": ["CRITICAL", "1", "0", times[0.8], "yes"],
        "bare": ["CRITICAL", "1", "1", "never", "no"],
        "none": ["OK", "0", "0", "–", "–"],
        "gone": ["NOT AUDITED", "?", "?", "?", "?"],
    }
    assert rows(found, "pt-BR")["gone"][0] == "NÃO ANALISADO"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_has_the_summary_and_then_every_hosts_own(language: str) -> None:
    found, words = fleet(a=answer(GAPS), b=UNREACHABLE, c=answer(LOST)), Words(language)
    heads = [(one.level, words.say(one.text)) for one in fleet_report(found) if isinstance(one, Heading)]
    assert [level for level, _ in heads].count(1) == 1
    assert [text for level, text in heads if level == 2][-2:] == ["c", "a"]
    assert max(level for level, _ in heads) == 4
    own = [text for level, text in heads if text == LANGUAGES[language]["problems"]]
    assert len(own) == 2
    for form in FORMATS:
        text = render(fleet_report(found), form, language)
        assert "10.0.0.9 port 22: Connection refused" in " ".join(text.split())


def test_a_hosts_name_is_quoted_in_the_command_to_type() -> None:
    assert "--limit 'a;reboot'" in render(fleet_report(fleet(**{"a;reboot": UNREACHABLE})), "text", "en")


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Give results to the standard input, as the playbook does."""
    return lambda results: monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(results)))


def test_reports_are_written_for_all_and_for_each_in_every_format(
    tmp_path: Path, tell: Callable[[dict[str, Any]], None]
) -> None:
    tell({"web/1": answer(GAPS), "db": answer(LOST), "gone": UNREACHABLE})
    folder = tmp_path / "reports"
    assert main(["report", "--directory", str(folder), "--language", "pt-BR"]) == 0
    written = {path.name for path in folder.iterdir()}
    (date,) = {name[6:16] for name in written}
    assert abs((datetime.now(UTC).date() - datetime.fromisoformat(date).date()).days) <= 1
    endings = {*ENDINGS.values(), "json"}
    assert endings == {"txt", "md", "html", "json"}
    stems = (f"audit-{date}", f"audit-{date}-web%2F1", f"audit-{date}-db")
    assert written == {f"{stem}.{ending}" for stem in stems for ending in endings}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    told = json.loads((folder / f"audit-{date}.json").read_text())
    jsonschema.validate(told, json.loads((ROOT / "docs/reference/fleet_audit.json").read_text()))
    assert "Servidores Não Analisados" in told["text"]
    assert [one["name"] for one in told["hosts"]] == ["db", "gone", "web/1"]
    host = json.loads((folder / f"audit-{date}-db.json").read_text())
    jsonschema.validate(host, json.loads((ROOT / "docs/reference/audit.json").read_text()))
    for stem in stems:
        assert (folder / f"{stem}.html").read_text().startswith('<!DOCTYPE html>\n<html lang="pt-BR">')
        assert (folder / f"{stem}.md").read_text().startswith("# Resumo da Análise de Backup e Recuperação")
        assert (folder / f"{stem}.txt").read_text().startswith("Resumo da Análise de Backup e Recuperação")


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let Ansible have got these answers, without Ansible."""

    def answered(**results: Any) -> None:
        def audit_all(inventories: Sequence[str], reports: Path, language: str | None, options: Sequence[str]) -> None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(results)))
            assert main(["report", "--directory", str(reports), "--language", language or "en"]) == 0

        monkeypatch.setattr(running, "audit_all", audit_all)

    return answered


@pytest.mark.parametrize(
    ("results", "limit", "code"),
    [
        ({"a": answer(RIGHT)}, "warning", 0),
        ({"a": answer(RIGHT), "b": answer(GAPS)}, "warning", 3),
        ({"a": answer(RIGHT), "b": answer(GAPS)}, "critical", 0),
        ({"a": answer(LOST), "b": answer(GAPS)}, "critical", 7),
        ({"a": answer(LOST), "b": UNREACHABLE}, "warning", 7),
        ({"a": answer(LOST), "b": UNREACHABLE}, "never", 1),
        ({"a": answer(RIGHT), "b": UNREACHABLE}, "warning", 1),
        ({"a": answer(RIGHT), "b": UNREACHABLE}, "never", 1),
        ({"a": answer(LOST)}, "never", 0),
    ],
)
def test_the_exit_code_is_never_that_of_success_when_a_host_is_missing(
    tmp_path: Path, answered: Callable[..., None], results: dict[str, Any], limit: str, code: int
) -> None:
    answered(**results)
    arguments = ["audit", "-i", "a,", "--directory", str(tmp_path / "reports"), "--fail-on", limit]
    assert main(arguments) == code


def test_a_fleets_audit_prints_the_summary_and_where_the_reports_are(
    tmp_path: Path, answered: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    answered(a=answer(RIGHT), b=UNREACHABLE)
    main(["audit", "-i", "a,b", "--directory", str(tmp_path), "--language", "pt-BR", "--", "--limit", "a"])
    told = capsys.readouterr().out
    assert re.search(r"^b +NÃO ANALISADO", told, re.MULTILINE)
    named = [Path(line) for line in told.splitlines() if line.startswith(str(tmp_path))]
    assert {path.suffix for path in named} == {".txt", ".md", ".html", ".json"}
    assert all(path.is_file() for path in named)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["audit", "-i", "/nonexistent/hosts.yml"], "/nonexistent/hosts.yml: there is no such inventory"),
        (["audit"], "-i/--inventory"),
        (["audit", "-i", "a,", "--language", "de"], "invalid choice"),
    ],
)
def test_a_mistake_is_told_and_runs_nothing(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "audit_all", None)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "fix:" in error


@pytest.mark.parametrize("given", ["", "[1]", "no JSON", "5"])
def test_what_is_no_json_is_told(
    given: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert main(["report"]) == 2
    assert "standard input: no JSON object" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_told(
    tmp_path: Path, tell: Callable[[dict[str, Any]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    tell({"a": answer(RIGHT)})
    assert main(["report", "--directory", str(tmp_path / "file/reports")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_every_place_knows_the_same_languages() -> None:
    specs = yaml.safe_load((ROOT / "roles/backup_runtime/meta/argument_specs.yml").read_text())["argument_specs"]
    module = yaml.safe_load(
        re.search(r'DOCUMENTATION = r"""(.*?)"""', (ROOT / "plugins/modules/backup_audit.py").read_text(), re.DOTALL)[1]
    )
    offered = [
        specs["audit"]["options"]["backup_report_language"]["choices"],
        module["options"]["language"]["choices"],
    ]
    assert offered == [list(LANGUAGES)] * 2
    assert parser().parse_args(["audit", "--language", "pt-BR", "--format", "html"]).language == "pt-BR"
    assert set(FORMATS) == set(ENDINGS)
