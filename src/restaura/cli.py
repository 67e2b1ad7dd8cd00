# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: verbs become calls of `restaura.actions`."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from types import FrameType
from typing import NoReturn

from restaura import CONTRACT, __version__, process
from restaura.audit.rendering import FORMATS
from restaura.audit.texts import LANGUAGES
from restaura.errors import ConfigError, Exit, RestauraError
from restaura.host import Host
from restaura.output import Answer, lines
from restaura.paths import Paths

# What cron starts says nothing when all is well, so that mail to root means something.
QUIET = ("run", "drill", "verify", "prune", "recover")

UNREAD = 128 + signal.SIGPIPE

EXITS = """exit codes:
  0 done · 1 failed · 2 usage or configuration · 3 partial · 4 locked · 5 no such point · 6 mismatch"""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes read like every other error of the program."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line."""
        raise ConfigError(message, where=self.prog, fix=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. Only a defect of the program itself ends in a traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    signal.signal(signal.SIGTERM, _terminated)
    process.give_memory_back()
    try:
        options = parser().parse_args(arguments)
        if options.root_only and os.geteuid() != 0:
            raise ConfigError("must be run by root", where=f"restaura {options.verb}", fix="sudo restaura …")
        host = Host(Paths.from_environment())
        action = importlib.import_module(f"restaura.actions.{options.action}")
        answer = getattr(action, options.call)(host, options)
    except RestauraError as error:
        return _failed(error, as_json)
    except KeyboardInterrupt:
        return _failed(RestauraError("interrupted; what was begun was taken back"), as_json)
    except OSError as error:
        where = str(error.filename or f"restaura {options.verb}")
        fix = "look at its disk (df -h, dmesg) and its permissions, then try again"
        return _failed(RestauraError(error.strerror or str(error), where=where, fix=fix), as_json)
    if not isinstance(answer, Answer):
        raise TypeError(f"{options.action}.{options.call} returned no Answer")
    quiet = options.verb in QUIET and not getattr(options, "check", False)
    if quiet and not as_json and answer.code == Exit.DONE and not sys.stdout.isatty():
        return Exit.DONE
    return _shown(answer, as_json)


def _shown(answer: Answer, as_json: bool) -> int:
    """Show the answer and return its exit code; where that is 0 and nobody reads on (`| head`), what shells expect."""
    try:
        return answer.show(as_json)
    except OSError as error:
        # Else Python tries once more at its end, and prints a notice.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return answer.code or UNREAD
        print(f"restaura: the answer could not be written: {error.strerror}", file=sys.stderr)
        return answer.code or Exit.FAILED


def _failed(error: RestauraError, as_json: bool) -> int:
    if as_json:
        told = {"what": error.what, "where": error.where, "fix": error.fix}
        return _shown(Answer({"error": told}, code=error.exit_code), as_json)
    print(lines(f"restaura: {error}"), file=sys.stderr)
    return int(error.exit_code)


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def parser() -> Parser:
    """Return the parser of every verb."""
    top = Parser(
        prog="restaura",
        description="Backups of this host that are proven by restoring them.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"restaura {__version__} (contract {CONTRACT})")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    def verb(name: str, text: str, *examples: str, action: str = "", call: str = "", root: bool = True) -> Parser:
        made: Parser = verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog="examples:\n  " + "\n  ".join(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("--json", action="store_true", help="answer with one JSON object")
        made.set_defaults(action=action or name, call=call or name, root_only=root)
        return made

    one = verb(
        "run",
        "Take a restore point of a plan, or of several, one after the other.",
        "restaura run daily",
        "restaura run daily --check",
        "restaura run --all --wait 3600",
        "restaura run --source postgres",
    )
    which = one.add_mutually_exclusive_group()
    which.add_argument("plan", nargs="?", help="the plan's name")
    which.add_argument("--all", action="store_true", help="every plan, also one whose schedule is never")
    which.add_argument("--source", metavar="KIND", help="every plan with a component of this kind, as a whole")
    one.add_argument("--check", action="store_true", help="only the preflight: change nothing")
    one.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for locks")
    one.add_argument("--drill", action="store_true", help="drill the new point at once")
    one.add_argument("--unless-proven", action="store_true", help="do nothing when the plan has a proven point")
    which.add_argument("--catch-up", action="store_true", help="every plan whose time passed while the host was off")

    one = verb(
        "restore",
        "Restore components of a point: a plan of what would happen, or with --yes the act itself.",
        "restaura restore --component postgres",
        "restaura restore --component cache --date 2025-06-28 --yes",
        "restaura restore --component files --to dir:/tmp/look --yes",
        "restaura restore --store s3:https://s3.example/backups/web1 --kit web1.kit --host web1 --yes",
    )
    _which_point(one)
    one.add_argument(
        "--to", default="live", metavar="TARGET", help="live (default), dir:PATH, name:NEW or what a source adds"
    )
    one.add_argument("--path", action="append", default=[], help="only this path (files) or database (postgres)")
    one.add_argument(
        "--from-store",
        metavar="NAME",
        help="read from this store first; what it has not is read from another, and said",
    )
    one.add_argument("--yes", action="store_true", help="do it")
    one.add_argument("--ask", action="store_true", help="show it, ask on the terminal, and do what was shown")
    one.add_argument("--check", action="store_true", help="only show what would happen, also with --yes")
    _pausing(one)
    one.add_argument("--store", metavar="URL", help="on a machine without configuration: the store's location")
    one.add_argument("--kit", metavar="FILE", help="on a machine without configuration: the recovery kit")
    one.add_argument("--host", metavar="NAME", help="the host whose points to restore (default: this one)")
    one.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for locks")

    one = verb(
        "undo",
        "Swap the last restore of a component back; both sides are kept.",
        "restaura undo",
        "restaura undo latest",
        "restaura undo 20261121T101500Z-1a2b3c4d5e --discard",
        action="restore",
    )
    one.add_argument(
        "id",
        nargs="?",
        help="the restore's id (shown by restore and by status), or latest: the last one that is live; none lists them",
    )
    one.add_argument("--discard", action="store_true", help="delete the copy that is not live")
    _pausing(one)
    one.add_argument("--check", action="store_true", help="only show what would happen")

    one = verb(
        "drill",
        "Restore a point into a throw-away target, compare fingerprints, measure the time.",
        "restaura drill --plan daily",
        "restaura drill --component postgres --point 20261121T101500Z-1a2b3c4d5e",
    )
    _which_point(one)
    one.add_argument("--from-store", metavar="NAME", help="only from this store")
    one.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for locks")

    one = verb(
        "check",
        "Run the components' checks against the data that is live now.",
        "restaura check",
        "restaura check --component cache --component app",
    )
    one.add_argument("--component", action="append", default=[], help="only this component; may stand several times")

    one = verb(
        "verify",
        "Read stored bytes again; within 30 days, all of them.",
        "restaura verify --plan daily",
        "restaura verify --full",
    )
    one.add_argument("--plan", help="only this plan's points")
    one.add_argument("--point", help="only this point, whole")
    one.add_argument("--full", action="store_true", help="read everything now")
    one.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for locks")

    one = verb(
        "prune", "Delete the points that retention lets go.", "restaura prune --check", "restaura prune --plan daily"
    )
    one.add_argument("--plan", help="only this plan")
    one.add_argument("--check", action="store_true", help="only show what would go, and what stays why")
    one.add_argument("--accept-time", action="store_true", help="delete although the clock jumped")
    one.add_argument("--host", metavar="NAME", help="points of another host (deletion run elsewhere)")
    one.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for locks")

    one = verb("recover", "Finish or take back whatever an earlier run left half done.", "restaura recover")
    one.add_argument("--watch", type=int, metavar="PID", help=argparse.SUPPRESS)
    one.add_argument("--check", action="store_true", help="only show what is left")

    one = verb(
        "list",
        "List restore points.",
        "restaura list",
        "restaura list --plan daily --refresh",
        action="listing",
        call="list_points",
    )
    one.add_argument("--plan", help="only this plan")
    one.add_argument("--component", help="only points that hold this component")
    one.add_argument("--host", metavar="NAME", help="points of another host in these stores")
    one.add_argument("--refresh", action="store_true", help="ask the stores, not the catalogue")

    one = verb(
        "show",
        "Show one point: its manifest and what was found out about it.",
        "restaura show latest",
        action="listing",
        call="show_point",
    )
    one.add_argument("point", help="its id, the beginning of it, or latest")

    verb("status", "Show how this host stands: what is protected, proven, due and unsafe.", "restaura status")

    one = verb(
        "keys",
        "The recovery kit: what opens the backups when this host is gone.",
        "restaura keys kit > web1.kit",
        "restaura keys confirm --kit web1.kit",
        "restaura keys restore --kit web1.kit",
        call="keys_verb",
    )
    one.add_argument(
        "what",
        choices=("kit", "confirm", "restore"),
        help="print the kit; prove that it opens a point; put its keys back",
    )
    one.add_argument("--kit", metavar="FILE", help="the kit's file")
    one.add_argument("--check", action="store_true", help="change nothing")

    one = verb(
        "adopt",
        "Become the writer of a store in which another machine of this name wrote.",
        "restaura adopt main --yes",
    )
    one.add_argument("store", help="the store's name")
    one.add_argument("--yes", action="store_true", help="do it")
    one.add_argument("--check", action="store_true", help="change nothing")

    one = verb(
        "accept",
        "Accept a suspect or torn component: it counts as good from then on.",
        "restaura accept 20261121T101500Z-1a2b3c4d5e postgres",
        action="listing",
    )
    one.add_argument("point", help="the point's id")
    one.add_argument("component", help="the component's name")
    one.add_argument("--check", action="store_true", help="change nothing")

    one = verb(
        "audit",
        "Show what on this host holds data, how it is backed up, and what nobody backs up. Changes nothing.",
        "restaura audit",
        "restaura audit --json",
        "restaura audit --fail-on critical",
        "restaura audit --format html --language pt-BR > audit.html",
        root=False,
    )
    one.add_argument("--format", choices=sorted(FORMATS), default="text", help="the report's format; default: text")
    one.add_argument("--language", choices=sorted(LANGUAGES), default="en", help="the report's language")
    one.add_argument(
        "--fail-on",
        choices=("warning", "critical", "never"),
        default="warning",
        help="the least status that is told by the exit code (3 WARNING, 7 CRITICAL); default: warning",
    )

    verb("doctor", "Check what a run needs and name what is missing, with the fix.", "restaura doctor")

    one = verb(
        "configure",
        "Apply a declaration (JSON on standard input): configuration, keys, stores, cron.",
        "restaura configure --check < declaration.json",
    )
    one.add_argument("--check", action="store_true", help="only show what would change")

    one = verb("discover", "Show what this host holds that a first setup would protect.", "restaura discover --json")
    one.add_argument("--store", action="append", default=[], metavar="DIR", help="where a local store is, or will be")
    return top


def _which_point(one: Parser) -> None:
    one.add_argument("--plan", help="the plan whose points are meant")
    one.add_argument("--point", default="latest", metavar="ID", help="its id or the beginning of it; default: latest")
    one.add_argument("--date", type=day, metavar="YYYY-MM-DD", help="the newest point with this label")
    one.add_argument(
        "--before", type=moment, metavar="TIME", help="the newest point before this time (ISO 8601 with offset)"
    )
    one.add_argument("--component", action="append", default=[], help="only this component; may stand several times")


def _pausing(one: Parser) -> None:
    one.add_argument(
        "--no-pause", dest="pause", action="store_false", help="leave ingestion alone: it does not run on this machine"
    )


def day(text: str) -> str:
    """Return a date as labels have it."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date, as in 2026-11-21") from None


def moment(text: str) -> datetime:
    """Return a time given with its offset, in UTC."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = None
    if value is None or value.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time with an offset, as in 2026-11-21T10:00:00-03:00")
    return value.astimezone(UTC)
