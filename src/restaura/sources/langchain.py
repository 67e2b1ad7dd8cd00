# SPDX-License-Identifier: GPL-3.0-or-later
"""LangChain: prompts, chains and agents of an application, and every file that they refer to.

References are those of langchain-core's loaders (`langchain_core/prompts/loading.py`): `template_path`, `examples`,
`example_prompt_path` and the like. They are resolved in the directory that the application runs in, and since version
1.2.22 may neither be absolute nor lead upwards (CVE-2026-34070).
"""

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restaura import process, trees
from restaura.config.schema import setting
from restaura.errors import RestauraError
from restaura.named_files import SUFFIXES, Folder, NamedFiles, NamedFilesComponent, walk
from restaura.sources import SourceKind

# What of an application goes with its prompts, where it is there.
BESIDE = ("langgraph.json", "pyproject.toml", "poetry.lock", "requirements.txt", "uv.lock")
REFERENCES = re.compile(r"[\w-]*[_-](path|file)(?P<several>s?)", re.IGNORECASE)
UNSUFFIXED = ("examples", "env")
# Words of such keys: what is written there, not read; what is called by a name or, if local, a path; and addresses.
WRITTEN = {"cache", "log", "logs", "out", "output", "pid", "save", "socket", "temp", "tmp"}
NAMED = {"adapter", "checkpoint", "embedding", "embeddings", "llm", "model", "repo", "tokenizer"}
NAMED |= {"class", "function", "import", "module"}
ADDRESSED = {"api", "endpoint", "http", "route", "url"}
NAME = re.compile(r"[\w.:-]+(/[\w.-]+)?")  # huggingface.co's `organisation/name`, Python's `package.module:object`
# What is a file whatever its key.
KNOWN = (*SUFFIXES, ".txt", ".md", ".jinja", ".jinja2", ".j2", ".prompt", ".py", ".csv", ".jsonl", ".toml", ".env")
READ = (*SUFFIXES, ".txt")  # by langchain-core's loaders
LOADED = ("prompt", "few_shot", "chat")  # `_type`s of prompts that langchain-core loads
TRY_SECONDS = 120
NOBODY = "65534"  # Debian's account without rights


@dataclass(frozen=True)
class LangchainComponent(NamedFilesComponent):
    """The prompts, chains and agents of one application."""

    prompts: str = setting("Its prompt templates, YAML or JSON. Empty: there are none.", default="prompts.yaml")
    chains: str = setting("Its chains. Empty: there are none.", default="chains.json")
    agents: str = setting("Its agents. Empty: there are none.", default="agents.yaml")
    python: str = setting(
        "Python interpreter that has the application's langchain-core. With one, prompts are loaded by it at preflight "
        "and in drills: as an account without rights, without network, from copies of the files. Empty: they are not.",
        default="",
        example="/srv/app/.venv/bin/python",
        pattern=r"(|(/[^/\0]+)+)",
    )


class Langchain(NamedFiles):
    """Files of an application that uses LangChain."""

    def __init__(self, options: LangchainComponent, host: Any) -> None:
        self._own = options
        super().__init__(options, host)

    def look(self, folder: Folder) -> None:
        """Follow every reference from the named files."""
        named = ((self._own.prompts, "prompts"), (self._own.chains, "chains"), (self._own.agents, "agents"))
        waiting = [one for path, option in named if (one := folder.named(path, option))]
        waiting += [one for name in BESIDE if folder.is_file(one := folder.absolute(name))]
        seen: set[str] = set()
        while waiting:
            path = waiting.pop(0)
            if path not in seen:
                seen.add(path)
                folder.take(path)
                if path.endswith(SUFFIXES) and folder.is_file(path):
                    waiting += self._references(folder, path)

    def _references(self, folder: Folder, path: str) -> list[str]:
        """Return the files that one file refers to; note those that lead nowhere."""
        found = []
        for document in folder.documents(path) or ():
            for keys, value in walk(document.data):
                if not isinstance(value, str) or not value or "\n" in value or len(value) > 1024 or "://" in value:
                    continue
                key = _referring(keys)
                # `src/agent.py:graph` names what is in a file.
                before = value.rpartition(":")[0]
                name = before if before.endswith(KNOWN) and not value.endswith(KNOWN) else value
                if not key and not name.endswith(KNOWN):
                    continue
                leads_out = name.startswith("/") or ".." in name.split("/")
                there = "" if leads_out else self._resolved(folder, path, name)
                if there:
                    found.append(there)
                elif key and not _is_no_file(key, name):
                    self._missed(folder, path, f"{key} {value!r}", name, document.lines.get(keys))
        return found

    @staticmethod
    def _missed(folder: Folder, path: str, what: str, name: str, line: int | None) -> None:
        """Note a reference that was not followed: a problem, or a warning where nobody can tell what it leads to."""
        outside = name.startswith("/") or ".." in name.split("/")
        if "$" in name or "{" in name:
            why = "depends on a variable"
        elif not outside:
            folder.wrong(path, f"{what} leads nowhere", "create the file, or correct the reference", line)
            return
        elif name.endswith(KNOWN):
            fix = f"write it relative to {folder.directory}: langchain-core 1.2.22 refuses it (CVE-2026-34070)"
            folder.wrong(path, f"{what} leads out of the directory", fix, line)
            return
        elif trees.below(folder.absolute(name), folder.found):
            return
        else:
            why = "leads out of the directory, and is not in the point"
        folder.warnings.append(f"{path}{f' line {line}' if line else ''}: {what} {why}: name it in `files`")

    @staticmethod
    def _resolved(folder: Folder, path: str, name: str) -> str:
        """Return the file or directory of a reference, relative to the directory or to the file that has it."""
        for base in (folder.directory, posixpath.dirname(path)):
            whole = posixpath.normpath(posixpath.join(base, name))
            if folder.inside(whole) and (folder.is_file(whole) or folder.is_dir(whole)):
                return whole
        return ""

    def try_out(self, folder: Folder) -> None:
        """Have the application's own langchain-core load the prompts."""
        if not self._own.python:
            return
        if not Path(self._own.python).exists():
            what = f"{self._own.python} is not there, so the prompts were not loaded by langchain-core"
            folder.warnings.append(what)
            return
        prompts = [(path, keys, one) for path in folder.found for keys, one in self._loadable(folder, path)]
        texts = {path: folder.text(path) or "" for path in folder.found if path.endswith(READ) and self._plain(path)}
        asked = {
            "files": {path.removeprefix(f"{folder.directory}/"): text for path, text in texts.items()},
            "prompts": [one for _, _, one in prompts],
        }
        argv = [*process.without_network(), "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        argv += ["--no-new-privs", "--bounding-set=-all", self._own.python, "-I", "-c", LOADER]
        try:
            _, out, _ = process.run(argv, stdin=json.dumps(asked).encode(), timeout=TRY_SECONDS, env={"HOME": "/"})
            answers = json.loads(out)
        except (RestauraError, ValueError) as error:
            folder.wrong(
                self._own.python, f"cannot load prompts: {error}", "pip install langchain-core, or take `python` out"
            )
            return
        for (path, keys, _), wrong in zip(prompts, answers["wrong"], strict=True):
            if wrong:
                line = (folder.documents(path) or [])[0].lines.get(keys)
                what = f"{'.'.join(map(str, keys)) or 'the prompt'}: langchain-core {answers['version']} says {wrong}"
                folder.wrong(path, what, "correct it for that version", line)

    def _plain(self, path: str) -> bool:
        return self._marked.takes(path, False)

    @staticmethod
    def _loadable(folder: Folder, path: str) -> list[tuple[tuple[Any, ...], Mapping[str, Any]]]:
        """Return the prompts of a file that say of which type of langchain-core they are, with their keys."""
        if not path.endswith(SUFFIXES):
            return []
        found = [(keys, one) for document in folder.documents(path) or () for keys, one in walk(document.data)]
        return [(keys, one) for keys, one in found if isinstance(one, dict) and one.get("_type") in LOADED]


def _referring(keys: tuple[Any, ...]) -> str:
    """Return the key that makes a value a reference, or nothing: its own or, where it is in several, theirs."""
    names = [one for one in keys if isinstance(one, str)]
    own = names[-1] if names else ""
    if own in UNSUFFIXED or REFERENCES.fullmatch(own):
        return own
    outer = REFERENCES.fullmatch(str(keys[-2])) if len(keys) > 1 else None
    return outer[0] if outer and outer["several"] else ""


def _is_no_file(key: str, name: str) -> bool:
    """Whether a value that leads nowhere need not be a file of this host."""
    words = {*re.split("[_-]", key.lower())}
    if name.endswith(KNOWN):
        return bool(words & WRITTEN)
    if words & ADDRESSED and name.startswith("/"):
        return True
    if words & NAMED and NAME.fullmatch(name):
        return True
    return bool(words & WRITTEN) or key in UNSUFFIXED or posixpath.normpath(name) == "."


# What runs in the application's interpreter: prompts alone are made, from given files in a directory of their own.
LOADER = """
import json, os, sys, tempfile, warnings
warnings.simplefilter("ignore")
asked = json.load(sys.stdin)
import langchain_core
from langchain_core.prompts.loading import load_prompt_from_config
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for path, text in asked["files"].items():
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    wrong = []
    for one in asked["prompts"]:
        try:
            load_prompt_from_config(dict(one))
            wrong.append("")
        except Exception as error:
            wrong.append(type(error).__name__ + ": " + " ".join(str(error).split())[:300])
    os.chdir("/")
print(json.dumps({"version": getattr(langchain_core, "__version__", "?"), "wrong": wrong}))
"""


SOURCE = SourceKind("langchain", LangchainComponent, Langchain, tier="files")
