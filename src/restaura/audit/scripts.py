# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job or a script really does: the scripts it calls are read too, and what keeps a failure of it unheard."""

import posixpath
import re
import shlex
from dataclasses import dataclass, field

from restaura.audit.looking import Look
from restaura.audit.model import Evidence
from restaura.audit.programs import BACKUP_WORD, PROGRAMS, Facts, Where, inner_shell, read, redirects, script_called
from restaura.audit.secrecy import Secrets
from restaura.audit.shell import Command, Script, read_python, read_shell

MOST_BYTES = 262_144
MOST_CALLS = 4
MOST_FILES = 40
SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/opt/bin")
# Programs of the distribution: known by their names, not read.
SYSTEM = ("/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/usr/libexec/", "/lib/", "/usr/share/")
MENTION = re.compile(
    r"(?<![\w./-])(" + "|".join(sorted(map(re.escape, PROGRAMS), key=len, reverse=True)) + r")\s[^\n]*"
)


@dataclass
class Trace:
    """What commands do with all that they call.

    `evidence` are the scripts, `opaque` those that could not be read as text; `hushed` is what hides a failure.
    `visible` is whether the errors of the dump itself come out at the top, `noticed` whether its failure ends as a
    failure of all; `logs` are the files that output goes to.
    """

    facts: Facts = field(default_factory=Facts)
    evidence: list[Evidence] = field(default_factory=list)
    opaque: list[Evidence] = field(default_factory=list)
    hushed: list[Evidence] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    visible: bool = True
    noticed: bool = True

    def merge(self, other: "Trace") -> None:
        """Add what was found of a script that is called."""
        self.facts.merge(other.facts)
        for name in ("evidence", "opaque", "hushed", "logs"):
            held = getattr(self, name)
            held += [one for one in getattr(other, name) if one not in held]


class Tracer:
    """Follows commands into scripts; each is read once for each environment it is called with."""

    def __init__(self, look: Look, secrets: Secrets) -> None:
        self.look = look
        self.secrets = secrets
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], Trace] = {}
        self._texts: dict[str, str | None] = {}
        self._there: dict[str, bool] = {}

    def command(self, text: str, variables: dict[str, str], path: str, line: int | None, *, named: bool) -> Trace:
        """Trace one command of a crontab or unit, which stands in `path` at `line`."""
        script = read_shell(text, variables, line or 1, self._included)
        return self._script(script, path, line, named, MOST_CALLS, ())

    def script(
        self, path: str, variables: dict[str, str], calls: int = MOST_CALLS, above: tuple[str, ...] = ()
    ) -> Trace:
        """Trace a script; `above` are those that called it, so that a loop ends."""
        variables = {**variables, "0": path}
        key = (path, tuple(sorted(variables.items())))
        if key not in self._known:
            self._known[key] = self._trace_file(path, variables, calls, above)
        return self._known[key]

    def _trace_file(self, path: str, variables: dict[str, str], calls: int, above: tuple[str, ...]) -> Trace:
        text = self.text(path)
        if text is None:
            return Trace(opaque=[Evidence("file", path)])
        named = bool(BACKUP_WORD.search(posixpath.basename(path)))
        script = self._read(text, path, variables)
        trace = self._script(script, path, None, named, calls, (*above, path))
        status = self.look.status(path)
        # Settings that a script reads in are a place for secrets, when nobody else may read them.
        settings = bool(status) and not (trace.facts.backs_up or trace.facts.restores or script.commands)
        self.secrets.search(text, path, told=not (settings and status and not status.st_mode & 0o077))
        if path.endswith(".py"):
            for command in script.commands:
                self.secrets.search(shlex.join(command.words), path, line=command.line)
        if trace.facts.backs_up or trace.facts.restores:
            trace.evidence.insert(0, Evidence("file", path))
        return trace

    def text(self, path: str) -> str | None:
        """Return a script's text; None when it is binary or cannot be read."""
        if path not in self._texts:
            surely = bool(BACKUP_WORD.search(path))
            self._texts[path] = self.look.text(path, most=MOST_BYTES, surely=surely)
        return self._texts[path]

    def _included(self, path: str) -> str:
        return (self.text(path) or "") if path.startswith("/") else ""

    def _read(self, text: str, path: str, variables: dict[str, str]) -> Script:
        first = text.partition("\n")[0]
        python = path.endswith(".py") or (first.startswith("#!") and "python" in first)
        shell = path.endswith(".sh") or not first.startswith("#!") or re.search(r"\b(ba|da|a|z|k)?sh\b", first)
        script = read_python(text, variables) if python else read_shell(text, variables, 1, self._included)
        if script is not None and (python or shell):
            script.stops = script.stops or bool(re.match(r"#!.*sh\s+-\w*e", first))
            return script
        # Another language: only the lines that name a program of ours.
        loose = Script(variables=dict(variables))
        for number, line in enumerate(text.split("\n"), 1):
            if match := MENTION.search(line):
                loose.commands += read_shell(match[0].rstrip("\"'`);,"), variables, number).commands[:1]
        return loose

    def _script(
        self, script: Script, path: str, line: int | None, named: bool, calls: int, above: tuple[str, ...]
    ) -> Trace:
        """Trace the commands of a script, or of a line of a crontab (`line`)."""
        trace = Trace(facts=read(script.commands, script.variables, Where(named=named)))
        for dump in trace.facts.dumps:
            self._judge(trace, script, dump, path, line)
        top = line is not None
        for command in script.commands if calls else ():
            called = self._called(command, script, path, named, calls, above)
            if called is None:
                continue
            trace.merge(called)
            if called.facts.backs_up and not called.facts.writes:  # it prints what it takes
                for one in script.commands:
                    if one.pipeline == command.pipeline:
                        redirects(one, trace.facts, Where(directory=script.variables.get("PWD", "*")))
            if called.facts.backs_up or called.opaque:
                trace.visible = trace.visible and called.visible and not command.errors
                trace.noticed = trace.noticed and called.noticed and self._passes(command, script, top)
                self._blame(trace, command, path, script, top=top)
        return trace

    def _called(
        self, command: Command, script: Script, path: str, named: bool, calls: int, above: tuple[str, ...]
    ) -> Trace | None:
        """Trace what a command calls: a text for a shell, or a script; None when it calls neither."""
        text = inner_shell(command.words)
        if text is not None and text != "*":
            inner = read_shell(text, script.variables, command.line, self._included)
            return self._script(inner, path, command.line, named, calls - 1, above)
        name = script_called(command.words)
        target = self._find(name, script.variables) if name else None
        if target is None or target in above or len(above) > MOST_FILES:
            return None
        return self.script(target, _inherited(script.variables), calls - 1, above)

    def _find(self, name: str, variables: dict[str, str]) -> str | None:
        """Return the path of a script that is called; None for a program of the distribution or one not there."""
        if "*" in name or name.startswith("-") or posixpath.basename(name) in PROGRAMS:
            return None
        if "/" in name:
            places = [name if name.startswith("/") else posixpath.join(variables.get("PWD", "/"), name)]
        else:
            home = variables.get("HOME", "/root")
            places = [f"{one}/{name}" for one in (*SEARCHED, f"{home}/bin", f"{home}/.local/bin")]
        return next((one for one in map(posixpath.normpath, places) if self._is_there(one)), None)

    def _is_there(self, path: str) -> bool:
        if path not in self._there:
            self._there[path] = not path.startswith(SYSTEM) and self.look.status(path) is not None
        return self._there[path]

    def _judge(self, trace: Trace, script: Script, dump: Command, path: str, line: int | None) -> None:
        """Look at what happens when a dump fails."""
        last = bool(script.commands) and dump is script.commands[-1]
        top = line is not None
        passes = (script.stops or dump.handled or last or top) and (script.pipefail or not dump.piped)
        trace.noticed = trace.noticed and passes and not dump.ignored
        trace.visible = trace.visible and not dump.errors
        self._blame(trace, dump, path, script, top=top)

    @staticmethod
    def _passes(command: Command, script: Script, top: bool) -> bool:
        last = bool(script.commands) and command is script.commands[-1]
        checked = script.stops or command.handled or last or top
        return checked and not command.ignored and (script.pipefail or not command.piped)

    def _blame(self, trace: Trace, command: Command, path: str, script: Script, *, top: bool) -> None:
        """Name what hides the failure of a command."""
        codes = []
        if command.errors == "/dev/null":
            codes.append("output_discarded")
        elif command.errors:
            codes.append("output_to_file")
            trace.logs.append(command.errors)
        if command.ignored:
            codes.append("errors_ignored")
        if command.piped and not script.pipefail and not top:
            codes.append("pipe_hides_failure")
        elif not self._passes(command, script, top):
            codes.append("failure_not_checked")
        for code in codes:
            evidence = Evidence("file", path, command.line, code)
            trace.hushed += [evidence] if evidence not in trace.hushed else []


def _inherited(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables that a called script may see. More than those exported: rather too many than none."""
    return {name: value for name, value in variables.items() if name.isupper() and len(value) < 1000}
