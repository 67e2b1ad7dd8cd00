# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: `python -m restaura_fleet VERB`, from a clone `tools/audit` and `make audit`."""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from restaura.actions.audit import FAIL_ON, exit_code
from restaura.audit.document import Document
from restaura.audit.model import Audit
from restaura.audit.rendering import render
from restaura.audit.report import report
from restaura.audit.texts import LANGUAGES
from restaura.cli import Parser
from restaura.errors import ConfigError, Exit, RestauraError
from restaura.output import lines
from restaura.paths import write_atomic
from restaura.point import safe_name
from restaura_fleet.model import FleetAudit
from restaura_fleet.reading import fleet_of
from restaura_fleet.report import fleet_report, summary

ENDINGS = {"text": "txt", "markdown": "md", "html": "html"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit code."""
    try:
        options = parser().parse_args(argv)
        return int(options.call(options))
    except RestauraError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _failed(RestauraError("interrupted; no report was written"))
    except OSError as error:
        where = str(error.filename or "")
        return _failed(RestauraError(error.strerror or str(error), where=where, fix="name another --directory"))


def _failed(error: RestauraError) -> int:
    print(lines(f"restaura_fleet: {error}"), file=sys.stderr)
    return int(error.exit_code)


def parser() -> Parser:
    """Return the parser of both verbs."""
    top = Parser(prog="python3 -m restaura_fleet", description="Audit many hosts at once.")
    verbs = top.add_subparsers(required=True, metavar="VERB")
    directory = Parser(add_help=False)
    directory.add_argument("--directory", type=Path, default=Path("reports"), help="where reports go; default: reports")
    one = verbs.add_parser(
        "audit", parents=[directory], help="audit every host of an inventory and write one report of all of them"
    )
    one.add_argument("-i", "--inventory", action="append", required=True, metavar="PATH", help="as ansible-playbook -i")
    one.add_argument("--language", choices=sorted(LANGUAGES), help="default: backup_report_language, or else en")
    one.add_argument(
        "--fail-on", choices=FAIL_ON, default="warning", help="the least status told by the exit code; default: warning"
    )
    one.add_argument("ansible", nargs="*", metavar="-- OPTION", help="options of ansible-playbook: -- --limit web1")
    one.set_defaults(call=audit)
    one = verbs.add_parser(
        "report", parents=[directory], help="write reports of what hosts answered (JSON on standard input)"
    )
    one.add_argument("--language", choices=sorted(LANGUAGES), default="en", help="default: en")
    one.set_defaults(call=write_reports)
    return top


def audit(options: argparse.Namespace) -> Exit:
    """Audit a fleet. A host that could not be audited is a failure, whatever `--fail-on` says."""
    for one in options.inventory:
        if "," not in one and not Path(one).exists():
            raise ConfigError("there is no such inventory", where=one, fix="ls inventories")
    try:
        from restaura_fleet.running import audit_all
    except ImportError as error:
        raise RestauraError(f"{error.name} is not installed", fix="tools/venv controller") from error
    with tempfile.TemporaryDirectory() as folder:
        # Only what this run writes is read.
        audit_all(options.inventory, Path(folder), options.language, options.ansible)
        (written,) = Path(folder).glob("audit-????-??-??.json")
        found = json.loads(written.read_text())
        options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in Path(folder).iterdir():
            shutil.move(path, options.directory / path.name)
    print(found["text"])
    print(
        "\n" + "\n".join(str(options.directory / f"{written.stem}.{ending}") for ending in (*ENDINGS.values(), "json"))
    )
    code = exit_code(found["status"], options.fail_on)
    return Exit.FAILED if code != Exit.UNPROTECTED and any(not one["audit"] for one in found["hosts"]) else code


def write_reports(options: argparse.Namespace) -> Exit:
    """Write the report of a fleet and of each of its hosts in every format: `audit-DATE.*` and `audit-DATE-HOST.*`."""
    now = datetime.now(UTC)
    try:
        results = dict(json.load(sys.stdin))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"no JSON object ({error})", where="standard input") from error
    fleet = fleet_of(results, now.isoformat(timespec="seconds"))
    name = f"audit-{now.astimezone():%Y-%m-%d}"
    _write(options.directory / name, fleet, summary(fleet), fleet_report(fleet), options.language)
    for one in fleet.hosts:
        if one.audit:
            path, document = options.directory / f"{name}-{safe_name(one.name)}", report(one.audit)
            _write(path, one.audit, document, document, options.language)
    return Exit.DONE


def _write(path: Path, data: FleetAudit | Audit, text: Document, document: Document, language: str) -> None:
    plain = {"text": render(text, "text", language), **dataclasses.asdict(data)}
    write_atomic(path.with_name(f"{path.name}.json"), json.dumps(plain, indent=2).encode() + b"\n")
    for form, ending in ENDINGS.items():
        write_atomic(path.with_name(f"{path.name}.{ending}"), f"{render(document, form, language)}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
