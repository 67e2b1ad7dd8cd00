# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell and Python scripts as lists of the commands in them, without running anything.

This is no shell: it knows as much of one as tells what a backup script calls, on what, where to, and whether its
failure would be noticed. What only a run could tell (a date, the output of a command) reads as `*`.
"""

import ast
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

UNKNOWN = "*"
RESERVED = {"then", "do", "else", "{", "}", "!", "time", "fi", "done", "esac", ";;", "function", "coproc"}
CONDITIONS = {"if", "while", "until", "elif", "!"}
DECLARING = {"export", "local", "readonly", "declare", "typeset"}
MOST_COMMANDS = 5000
MOST_DEPTH = 20
MOST_WORD = 4000
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """One command of a script: its words with the variables that are known filled in, and where it stands.

    `outputs` and `inputs` are the files its standard streams are redirected to and from; `errors` is the file that its
    errors go to (`/dev/null`: nowhere). `ignored` is whether its failure is said not to matter (`|| true`), `handled`
    whether the script asks for it. `piped` is whether its output goes to the next command of pipeline `pipeline`, whose
    exit status hides its own.
    """

    words: tuple[str, ...]
    line: int
    pipeline: int = 0
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    errors: str = ""
    ignored: bool = False
    handled: bool = False
    piped: bool = False


@dataclass
class Script:
    """What a script does: its commands, the variables it ends with, and whether a failed command ends it."""

    commands: list[Command] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    loops: set[str] = field(default_factory=set)
    stops: bool = False
    pipefail: bool = False
    included: Callable[[str], str] = lambda _: ""


def read_shell(
    text: str, variables: Mapping[str, str], line: int = 1, included: Callable[[str], str] = lambda _: ""
) -> Script:
    """Return what a shell script does, given the variables that it is started with.

    `included` returns the text of a file that the script reads in (`. FILE`), for its variables.
    """
    script = Script(variables=dict(variables), included=included)
    with contextlib.suppress(RecursionError):  # what was read until then counts
        _Reader(text, script, line, 0).read()
    return script


class _Reader:
    """Reads one text of shell commands into a script."""

    def __init__(self, text: str, script: Script, line: int, depth: int) -> None:
        self.text, self.script, self.line, self.depth = text, script, line, depth
        self.at = 0
        self.pipeline = len(script.commands) + 1
        self.condition = False
        self.documents: list[tuple[str, bool]] = []
        self._fresh(line)

    def _fresh(self, line: int) -> None:
        self.words: list[str] = []
        self.outputs: list[str] = []
        self.inputs: list[str] = []
        self.errors = ""
        self.begun = line

    def read(self) -> None:
        """Read everything."""
        while self.at < len(self.text) and len(self.script.commands) < MOST_COMMANDS:
            self._step(self.text[self.at])
        self._end("")

    def _step(self, char: str) -> None:
        two = self.text[self.at : self.at + 2]
        if char == "\n":
            self.at += 1
            self._end("\n")
            self.line += 1
            self._skip_documents()
            self.begun = self.line
        elif two == "\\\n":
            self.at += 2
            self.line += 1
        elif char in " \t\r":
            self.at += 1
        elif char == "#":
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
        elif two in ("&&", "||", ";;", "|&"):
            self.at += 2
            self._end(two)
        elif two == "&>" or re.match(r"\d*[<>]", self.text[self.at : self.at + 4]):
            self._redirect()
        elif char in ";|&()":
            self.at += 1
            self._end(char)
        else:
            self._add(self._word())

    def _add(self, word: str) -> None:
        if not self.words:
            self.begun = self.line
            if word in CONDITIONS:
                self.condition = True
                return
            if word in RESERVED:
                return
        self.words.append(word[:MOST_WORD])

    def _redirect(self) -> None:
        match = re.compile(r"(&>>?|\d*(?:<<<|<<-?|>>|>\||[<>]&|<>|[<>]))").match(self.text, self.at)
        if match is None:  # cannot be: _step saw one
            self.at += 1
            return
        operator = match[1]
        self.at = match.end()
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        if self.text[self.at : self.at + 1] == "(":  # process substitution: what is in it is read as commands
            return
        raw = self.at
        target = self._word() if self.text[self.at : self.at + 1] not in ("", "\n", ";", "|", "&") else ""
        number, kind = re.match(r"(\d*)(.*)", operator).groups()  # type: ignore[union-attr]  # matches anything
        if kind in ("<<", "<<-"):
            self.documents.append((target.strip("\\"), "\\" in self.text[raw : self.at]))
        elif kind in ("<", "<>"):
            self.inputs.append(target)
        elif kind == ">&":
            if (number, target) == ("2", "1"):
                self.errors = self.outputs[-1] if self.outputs else ""
        elif number == "2":
            self.errors = target
        else:
            self.outputs.append(target)
            self.errors = target if kind.startswith("&") else self.errors

    def _skip_documents(self) -> None:
        """Leave out here-documents."""
        for end, _ in self.documents:
            while self.at < len(self.text):
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                one = self.text[self.at : stop]
                self.at = stop + 1
                self.line += 1
                if one.strip("\t") == end:
                    break
        self.documents = []

    def _word(self) -> str:
        """Read one word with its quotes and expansions."""
        parts: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\r\n;|&()<>":
                break
            if char == "'":
                end = self.text.find("'", self.at + 1)
                end = len(self.text) if end < 0 else end
                parts.append(self.text[self.at + 1 : end])
                self.line += parts[-1].count("\n")
                self.at = end + 1
            elif char == '"':
                parts.append(self._double())
            elif char == "\\":
                parts.append(self.text[self.at + 1 : self.at + 2].replace("\n", ""))
                self.line += self.text[self.at + 1 : self.at + 2] == "\n"
                self.at += 2
            elif char in "$`":
                parts.append(self._expand())
            else:
                parts.append(char)
                self.at += 1
                if char == "=" and self.text[self.at : self.at + 1] == "(":
                    parts.append(self._array())
        word = "".join(parts)
        if word == "~" or word.startswith("~/"):
            word = self.script.variables.get("HOME", UNKNOWN) + word[1:]
        return word

    def _array(self) -> str:
        end = self._closing(self.at, "(", ")")
        inner = self.text[self.at + 1 : end]
        self.at = end + 1
        self.line += inner.count("\n")
        if self.depth >= MOST_DEPTH:
            return UNKNOWN
        nested = _Reader(inner.replace("\n", " "), Script(variables=self.script.variables), self.line, self.depth + 1)
        nested.read()
        return " ".join(word for one in nested.script.commands for word in one.words)

    def _double(self) -> str:
        parts: list[str] = []
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ('"', "\\", "$", "`", "\n"):
                parts.append(self.text[self.at + 1].replace("\n", ""))
                self.line += self.text[self.at + 1] == "\n"
                self.at += 2
            elif char in "$`":
                parts.append(self._expand())
            else:
                self.line += char == "\n"
                parts.append(char)
                self.at += 1
        self.at += 1
        return "".join(parts)

    def _closing(self, start: int, opening: str, closing: str) -> int:
        """Return where the bracket that opens at `start` closes; the end of the text when it never does."""
        level, quote = 0, ""
        for at in range(start, len(self.text)):
            char = self.text[at]
            if quote:
                quote = "" if char == quote and self.text[at - 1] != "\\" else quote
            elif char in "'\"":
                quote = char
            elif char == opening:
                level += 1
            elif char == closing:
                level -= 1
                if not level:
                    return at
        return len(self.text)

    def _expand(self) -> str:
        """Read an expansion that begins here."""
        if self.text[self.at] == "`":
            end = self.text.find("`", self.at + 1)
            end = len(self.text) if end < 0 else end
            inner = self.text[self.at + 1 : end]
            self.at = end + 1
            return self._substitute(inner)
        following = self.text[self.at + 1 : self.at + 2]
        if self.text.startswith("$((", self.at):
            end = self._closing(self.at + 1, "(", ")")
            self.at = end + 1
            return UNKNOWN
        if following == "(":
            end = self._closing(self.at + 1, "(", ")")
            inner = self.text[self.at + 2 : end]
            self.at = end + 1
            return self._substitute(inner)
        if following == "{":
            end = self._closing(self.at + 1, "{", "}")
            inner = self.text[self.at + 2 : end]
            self.at = end + 1
            return self._parameter(inner)
        match = re.compile(r"\$([A-Za-z_]\w*|[0-9@*#?$!-])").match(self.text, self.at)
        if match is None:
            self.at += 1
            return "$"
        self.at = match.end()
        return self.script.variables.get(match[1], UNKNOWN)

    def _parameter(self, inner: str) -> str:
        match = re.fullmatch(r"([#!]?)([A-Za-z_]\w*|[0-9@*#?$!-])(?:\[[^\]]*\])?(.*)", inner, re.DOTALL)
        if match is None or match[1]:
            return UNKNOWN
        value = self.script.variables.get(match[2])
        rest = match[3]
        default = re.match(r":?[-=](.*)", rest, re.DOTALL)
        if value is None and default and self.depth < MOST_DEPTH:
            nested = _Reader(f'"{default[1]}"', self.script, self.line, self.depth + 1)
            return nested._word()
        if value is None or (rest and not rest.startswith((":-", "-", ":=", "=", ":?", "?"))):
            return UNKNOWN
        return value

    def _substitute(self, inner: str) -> str:
        """Return what a command substitution prints, as far as that can be known; its commands are read too."""
        bare = inner.strip()
        own = self.script.variables.get("0", UNKNOWN)
        if re.match(r"(cd\s+)?[\"']?\$\(?\s*dirname|dirname\s", bare) and re.search(r"\$0|\$\{?BASH_SOURCE", bare):
            return own.rpartition("/")[0] or UNKNOWN
        if bare in ("pwd", "pwd -P"):
            return self.script.variables.get("PWD", UNKNOWN)
        if bare in ("whoami", "id -un") and "USER" in self.script.variables:
            return self.script.variables["USER"]
        first = self.line
        if self.depth < MOST_DEPTH:
            _Reader(inner, self.script, first, self.depth + 1).read()
        self.line = first + inner.count("\n")
        return UNKNOWN

    def _end(self, operator: str) -> None:
        """End a command with the operator after it."""
        piped = operator in ("|", "|&")
        if self.words or self.outputs:
            self._finish(operator, piped)
        if operator in (";", "\n", "&&", "||", "&"):
            self.pipeline += 1
            self.condition = self.condition and operator in ("&&", "||")
        self._fresh(self.line)

    def _finish(self, operator: str, piped: bool) -> None:
        words = self._assignments()
        if words and words[0] == "for" and "in" in words[1:3]:
            value = " ".join(words[words.index("in") + 1 :]) or UNKNOWN
            self.script.variables[words[1]] = value
            self.script.loops |= {value} if " " in value else set()
            return
        if words and words[0] == "set":
            self._options(words[1:])
        if len(words) > 1 and words[0] in (".", "source") and self.depth < MOST_DEPTH:
            read = Script(variables=self.script.variables, included=self.script.included)
            _Reader(self.script.included(words[1]), read, 1, self.depth + 1).read()
            self.script.stops |= read.stops
            self.script.pipefail |= read.pipefail
        if words and words[0] == "cd" and len(words) > 1:
            self.script.variables["PWD"] = _joined(self.script.variables.get("PWD", UNKNOWN), words[1])
        if not words and not self.outputs:
            return
        after = re.match(r"\s*(\S+)", self.text[self.at :]) if operator == "||" else None
        ignored = bool(after and after[1].rstrip(";)}\"'") in ("true", ":", "/bin/true"))
        self.script.commands.append(
            Command(
                tuple(map(self._of_each, words)),
                self.begun,
                self.pipeline,
                tuple(map(self._of_each, self.outputs)),
                tuple(self.inputs),
                errors=self.errors,
                ignored=ignored,
                handled=(operator == "||" and not ignored) or self.condition,
                piped=piped,
            )
        )

    def _of_each(self, word: str) -> str:
        """Return a word that holds all values of a loop's variable as a pattern, but for one that is nothing else."""
        for values in self.script.loops:
            word = word if word == values else word.replace(values, UNKNOWN)
        return word

    def _assignments(self) -> list[str]:
        """Take the assignments that a command begins with, and return the words after them."""
        words = list(self.words)
        declares = bool(words) and words[0] in DECLARING
        rest: list[str] = []
        for number, word in enumerate(words):
            match = ASSIGNMENT.fullmatch(word)
            if match and (declares or not rest):
                before = self.script.variables.get(match[1], "") if match[2] == "+=" else ""
                self.script.variables[match[1]] = (before + match[3])[:MOST_WORD]
            elif not (declares and (number == 0 or word.startswith("-"))):
                rest.append(word)
        return [] if declares else rest

    def _options(self, words: list[str]) -> None:
        for word in words:
            if re.match(r"-[a-zA-Z]*e", word) or word == "errexit":
                self.script.stops = True
            if word == "pipefail" or word.endswith("pipefail"):
                self.script.pipefail = True


def _joined(base: str, path: str) -> str:
    return path if path.startswith(("/", UNKNOWN)) else f"{base.rstrip('/')}/{path}".removesuffix("/.")


PYTHON_RUNS = {"run", "call", "check_call", "check_output", "Popen", "system", "getoutput", "popen"}


def read_python(text: str, variables: Mapping[str, str]) -> Script | None:
    """Return what a Python script starts, as far as its literals tell; None when it is not Python of this version."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    script = Script(variables=dict(variables))
    with contextlib.suppress(RecursionError):  # what was read until then counts
        _read_tree(tree, script)
    script.commands.sort(key=lambda one: one.line)
    script.stops = bool(script.commands) and all(one.handled for one in script.commands)
    script.pipefail = True
    return script


def _read_tree(tree: ast.Module, script: Script) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = _literal(node.value, script.variables)
            if isinstance(value, str):
                script.variables.setdefault(node.targets[0].id, value)
    for call in (one for one in ast.walk(tree) if isinstance(one, ast.Call)):
        script.commands += _python_call(call, script.variables)


def _python_call(call: ast.Call, variables: Mapping[str, str]) -> Iterator[Command]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in PYTHON_RUNS or not call.args:
        return
    checked = name.startswith("check_") or any(
        one.arg == "check" and isinstance(one.value, ast.Constant) and one.value.value is True for one in call.keywords
    )
    value = _literal(call.args[0], variables)
    if isinstance(value, str):
        for command in read_shell(value, variables, call.lineno).commands:
            yield replace(command, line=call.lineno, handled=checked or command.handled)
    elif isinstance(value, list) and value:
        yield Command(tuple(value), call.lineno, handled=checked)


def _literal(node: ast.AST, variables: Mapping[str, str]) -> str | list[str] | None:
    """Return what an expression is, as far as it stands there: text with `*` for what does not, or a list of texts."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str | int) else None
    if isinstance(node, ast.Name):
        return variables.get(node.id, UNKNOWN)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one, variables) for one in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, variables)
    if isinstance(node, ast.List | ast.Tuple):
        return [_text(one, variables) for one in node.elts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        left, right = _text(node.left, variables), _text(node.right, variables)
        return f"{left}/{right}" if isinstance(node.op, ast.Div) else left + right
    return UNKNOWN if isinstance(node, ast.Call | ast.Subscript | ast.Attribute) else None


def _text(node: ast.AST, variables: Mapping[str, str]) -> str:
    value = _literal(node, variables)
    return value if isinstance(value, str) else UNKNOWN
