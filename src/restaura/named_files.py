# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources whose data are a few named files of a directory, and every file that these refer to.

They are captured and restored as `files` are. What they say is looked at before they are backed up, and again where
they were restored: a file that does not parse, or refers to what is not there, is worth nothing on another server.
"""

import contextlib
import hashlib
import io
import json
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from restaura import others_yaml, trees
from restaura.config.schema import UNIT, Component, setting
from restaura.errors import DamagedError, SourceError
from restaura.host import Host
from restaura.others_yaml import Document
from restaura.point import Depth, Fingerprint
from restaura.sources import INDEX_SUFFIX, Artifact, PointReader, Probe, Staged, Stream, Tree
from restaura.sources.files import ROOT, Files, FilesComponent, _Captured
from restaura.staging import TREE
from restaura.trees.index import above, regroup
from restaura.trees.links import Links

SECRETS, ELSEWHERE = "secrets", "elsewhere"
LARGEST = 16 << 20  # bytes of a file that is parsed
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class NamedFilesComponent(Component):
    """What sources of named files have in common."""

    directory: str = setting(
        "Absolute directory that the files are in, and that paths are relative to.",
        example="/srv/app",
        pattern=r"(/[^/\0]+)+",
    )
    files: tuple[str, ...] = setting(
        "Further files and directories to back up, absolute or relative to `directory`.",
        default=(),
        example=["requirements.txt", "src"],
    )
    exclude: tuple[str, ...] = setting(
        "What to leave out of directories: patterns as in `files` components.",
        default=("__pycache__/", ".git/", ".venv/", "node_modules/"),
    )
    secrets: tuple[str, ...] = setting(
        "Patterns of the same kind: files that no store keeps in the clear.",
        default=(".env", ".env.*", "*.env", "*.key", "*.pem"),
    )
    restore_stops: tuple[str, ...] = setting(
        "systemd units that are stopped while restored files change places with live ones, if they run.",
        default=(),
        example=["app.service"],
        pattern=UNIT,
    )


@dataclass(frozen=True)
class Problem:
    """What is wrong in a file (its path on the live host), in which line where that is known, and what to do."""

    file: str
    what: str
    fix: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}{f' line {self.line}' if self.line else ''}: {self.what}"


@dataclass
class Folder:
    """A component's directory, live or restored, and what was found by looking at it.

    `places` are pairs of a directory that stands for `/` and the paths (relative to it) that it has, None for all.
    `found` are the paths to back up, as on the live host, in the order in which they were met. `whole` are those (with
    the setting that names them) below which no link may lead out of the point.
    """

    directory: str
    places: Sequence[tuple[str, Sequence[str] | None]] = (("", None),)
    found: dict[str, None] = field(default_factory=dict)
    secret: set[str] = field(default_factory=set)
    whole: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _read: dict[str, list[Document] | None] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether this is the live directory."""
        return self.places[0][0] == ""

    def absolute(self, path: str) -> str:
        """Return a path as it is on the live host."""
        return posixpath.normpath(posixpath.join(self.directory, path))

    def inside(self, path: str) -> bool:
        """Whether an absolute path is below the directory."""
        return path.startswith(f"{self.directory}/")

    def at(self, path: str) -> Path | None:
        """Return where an absolute path is here; None when it is not here, or a link leads out."""
        for root, paths in self.places:
            if paths is None or trees.below(path[1:], paths):
                real = os.path.realpath(root) if root else ""
                here = Path(f"{root}{path}")
                return here if os.path.realpath(here).startswith(f"{real}/") else None
        return None

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        here = self.at(path)
        return here is not None and here.is_file()

    def is_dir(self, path: str) -> bool:
        """Whether there is such a directory."""
        here = self.at(path)
        return here is not None and here.is_dir()

    def take(self, path: str, *, secret: bool = False) -> None:
        """Have a path backed up."""
        self.found[path] = None
        if secret:
            self.secret.add(path)

    def wrong(self, path: str, what: str, fix: str, line: int | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(path, what, fix, line))

    def named(self, path: str, option: str, *, secret: bool = False) -> str | None:
        """Take a file that a setting names, and return its absolute path; None, and a problem, when it is not there."""
        if not path:
            return None
        whole = self.absolute(path)
        if self.is_file(whole):
            self.take(whole, secret=secret)
            return whole
        self.wrong(whole, "is not there", f"create it, or correct `{option}` of the component (empty: there is none)")
        return None

    def further(self, paths: Iterable[str], option: str, *, whole: bool = False) -> list[str]:
        """Take files and directories that a setting names; return their absolute paths."""
        taken = []
        for one in paths:
            path = self.absolute(one)
            if self.is_file(path) or self.is_dir(path):
                self.take(path)
                taken.append(path)
            else:
                self.wrong(path, "is not there", f"correct `{option}` of the component")
        if whole:
            self.whole |= dict.fromkeys(taken, option)
        return taken

    def files(self, path: str) -> list[str]:
        """Return the files at and below an absolute path, links left out."""
        here = self.at(path)
        if here is None or not here.is_dir():
            return [path] if self.is_file(path) else []
        found = []
        for folder, _, names in os.walk(here):
            inner = path + folder.removeprefix(str(here))
            found += [f"{inner}/{name}" for name in names if not Path(folder, name).is_symlink()]
        return sorted(found)

    def text(self, path: str) -> str | None:
        """Return a file's text; None, and a problem, when it has none."""
        here, fix = self.at(path), "repair the file, or restore it from an older point"
        try:
            if here is None or not stat.S_ISREG(here.stat().st_mode):
                self.wrong(path, "is not there, or is no file", fix)
                return None
            if here.stat().st_size > LARGEST:
                self.wrong(path, f"is larger than {LARGEST >> 20} MiB", "split it")
                return None
            return here.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            line = here.read_bytes()[: error.start].count(b"\n") + 1 if here else None
            self.wrong(path, "is no UTF-8", fix, line)
        except OSError as error:
            self.wrong(path, f"cannot be read: {error.strerror}", fix)
        return None

    def documents(self, path: str) -> list[Document] | None:
        """Return what a YAML or JSON file says; None, and a problem, when it does not parse. Read once."""
        if path not in self._read:
            text = self.text(path)
            self._read[path] = None if text is None else self._parsed(path, text)
        return self._read[path]

    def document(self, path: str) -> Document | None:
        """Return the only document of a file."""
        found = self.documents(path)
        if found is not None and len(found) != 1:
            self.wrong(path, f"has {len(found)} documents, not one", "write one document")
            return None
        return found[0] if found else None

    def _parsed(self, path: str, text: str) -> list[Document] | None:
        fix = "correct it"
        if path.endswith(".json"):
            try:
                data = json.loads(text, parse_constant=_no_constant)
            except json.JSONDecodeError as error:
                self.wrong(path, f"is no JSON: {error.msg}", fix, error.lineno)
                return None
            except (ValueError, RecursionError) as error:
                self.wrong(path, f"is no JSON: {error}", fix)
                return None
            # JSON is YAML but for some spaces: the lines are known in all but such files.
            with contextlib.suppress(*others_yaml.NOT_READ):
                (known,) = others_yaml.documents(text.replace("\t", " "))
                self._twice(path, known)
                return [replace(known, data=data)]
            return [Document(data)]
        try:
            found = others_yaml.documents(text)
        except others_yaml.NOT_READ as error:
            what, line = others_yaml.complaint(error)
            self.wrong(path, f"is no YAML: {what}", fix, line)
            return None
        for one in found:
            self._twice(path, one)
        return found

    def _twice(self, path: str, document: Document) -> None:
        for keys in document.twice:
            what = f"has {keys[-1]!r} twice: all but the last are ignored"
            self.wrong(path, what, "name one of them otherwise", document.lines.get(keys))


def walk(data: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value of parsed data with its keys from the top (those of mappings as text, as `Document.lines`)."""
    yield keys, data
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from walk(value, (*keys, str(key)))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from walk(value, (*keys, number))


class NamedFiles(Files):
    """A source of named files: what there is and what is wrong is said by `look`, and by `try_out` at more cost."""

    def __init__(self, options: NamedFilesComponent, host: Host) -> None:
        self._named = options
        self._made: dict[str, bytes] = {}
        self._marked = trees.Selection(options.secrets, own=False)
        self._found = self._looked(Folder(options.directory))
        paths = sorted(self._found.found)
        outer = [one for one in paths if not any(one.startswith(f"{other}/") for other in paths)]
        own = FilesComponent(
            name=options.name,
            accept_torn=options.accept_torn,
            shrink_guard=options.shrink_guard,
            checks=options.checks,
            paths=tuple(outer),
            exclude=options.exclude,
            restore_stops=options.restore_stops,
        )
        super().__init__(own, host)

    # What a kind of source says

    def look(self, folder: Folder) -> None:
        """Take what is to be backed up, and note what is wrong. It may be the live directory or a restored one."""
        raise NotImplementedError

    def try_out(self, folder: Folder) -> None:
        """Note what is wrong and only a program or a server can tell."""

    def judge(self, folder: Folder, scanned: Callable[[Depth], trees.Index]) -> None:
        """Note what is wrong with all that is taken, by its index; at preflight that has no hashes."""
        for link in Links(scanned("catalog")).leading_out():
            path, what = f"/{link.path}", f"is a link to {link.link}, which is not in the point"
            option = next((option for one, option in folder.whole.items() if trees.below(path, [one])), None)
            if option:
                fix = f"name the directory that holds it in `{option}` of the component too, or copy with cp -L"
                folder.wrong(path, what, fix)
            else:
                folder.warnings.append(f"{path} {what}")

    def made(self) -> dict[str, bytes]:
        """Return further artifacts of a run by name: small files that say what stands nowhere in the directory."""
        return {}

    def group(self, path: str) -> str:
        """Return the artifact that a file is in, by its absolute path."""
        if trees.below(path, self._found.secret) or not self._marked.takes(path, False):
            return SECRETS
        return TREE if self._found.inside(path) else ELSEWHERE

    def tree(self, name: str, index: trees.Index) -> Tree:
        """Return one artifact of those that `group` names."""
        expanded = "" if name in (TREE, SECRETS) else None
        return Tree(name, ROOT, index, name == SECRETS, expanded=expanded, top=self._named.directory[1:])

    # What is common to all

    def probe(self) -> Probe:
        """Look at the directory, and try out what can be."""
        if not self._found.problems:
            self.try_out(self._found)
        probe = super().probe() if self._options.paths else Probe()
        if self._options.paths and not probe.problems and not self._found.problems:
            databases: list[trees.Entry] = []
            index = self._scan("catalog", databases)
            self.judge(self._found, lambda _: replace(index, entries=[*index.entries, *databases]))
        problems = [(str(one), one.fix) for one in self._found.problems]
        return replace(probe, problems=[*problems, *probe.problems], warnings=[*self._found.warnings, *probe.warnings])

    def prepare(self, depth: Depth) -> Sequence[Tree]:
        """Scan once, and ask for what stands nowhere in the directory."""
        self._made = self.made()
        return super().prepare(depth)

    @contextlib.contextmanager
    def _moving(self, depth: Depth) -> Iterator[_Captured]:
        with super()._moving(depth) as captured:
            captured.notes += self._found.warnings
            captured.parts = {name: hashlib.sha256(data).hexdigest() for name, data in self._made.items()}
            yield captured

    @property
    def _secret(self) -> bool:
        return True

    def _artifacts(self, index: trees.Index) -> Sequence[Artifact]:
        """Part what was scanned by groups; directories, links and the like are in the first."""
        folder = Folder(self._named.directory, whole=self._found.whole)
        self.judge(folder, lambda _: index)
        if folder.problems:
            raise SourceError(str(folder.problems[0]), fix=folder.problems[0].fix)
        groups: dict[str, set[str]] = {}
        files = [one for one in index.entries if one.type == "file"]
        # Another name of a secret file is as secret.
        inodes = {one.hard_link or one.path for one in files if self.group(f"/{one.path}") == SECRETS}
        for entry in files:
            linked = (entry.hard_link or entry.path) in inodes
            if (name := SECRETS if linked else self.group(f"/{entry.path}")) != TREE:
                groups.setdefault(name, set()).add(entry.path)
        apart = set().union(*groups.values())
        rest = [one for one in index.entries if one.path not in apart]
        found: list[Artifact] = [self.tree(TREE, replace(index, entries=regroup(rest)))]
        for name, paths in groups.items():
            parents = above(paths)
            entries = [
                replace(one, whole=one.whole and one.path in paths)
                for one in index.entries
                if one.path in paths or one.path in parents
            ]
            part = replace(index, entries=regroup(entries), vanished=[], changed=[], torn=[], unreadable={})
            found.append(self.tree(name, part))
        return [*found, *(Stream(name, _opened(data)) for name, data in self._made.items())]

    def _staged(self, point: PointReader, staged: Staged) -> Staged:
        """Read the other artifacts too, and look at what was restored: in a drill, what is wrong disproves it."""
        made = {}
        for one in point.component.artifacts:
            if one.kind == "stream" and not one.name.endswith(INDEX_SUFFIX):
                with point.open(one.name) as stream:
                    made[one.name] = stream.read()
                if staged.target.kind == "dir" and not staged.target.paths:
                    (Path(staged.target.value) / one.name).write_bytes(made[one.name])
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
        staged = replace(staged, data={**staged.data, "made": digests})
        if staged.target.paths:
            return staged
        folder = self._looked(
            Folder(self._named.directory, [(one["hold"], one["paths"]) for one in staged.data["holds"]])
        )
        self.judge(folder, lambda depth: self._restored(staged, depth))
        if not folder.problems:
            self.try_out(folder)
        said = [str(one) for one in folder.problems]
        if said and staged.target.kind == "scratch":
            raise DamagedError("; ".join(said[:5]), where=f"component {self._named.name}, restored")
        return replace(staged, notes=[*staged.notes, *said, *folder.warnings])

    def fingerprint(self, staged: Staged, depth: Depth) -> Fingerprint:
        """Fingerprint what was staged, with the artifacts beside the trees."""
        found = super().fingerprint(staged, depth)
        return replace(found, parts={**found.parts, **staged.data["made"]})

    def _looked(self, folder: Folder) -> Folder:
        if not folder.is_dir(folder.directory) and folder.live:
            folder.wrong(folder.directory, "is not there", "correct `directory` of the component")
            return folder
        folder.further(self._named.files, "files")
        self.look(folder)
        return folder


def _opened(data: bytes) -> Callable[[], contextlib.AbstractContextManager[io.BytesIO]]:
    return lambda: contextlib.nullcontext(io.BytesIO(data))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
