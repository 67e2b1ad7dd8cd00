# SPDX-License-Identifier: GPL-3.0-or-later
"""What a point holds of a Prometheus server, and its fingerprint.

The artifacts: `tsdb`, the snapshot's blocks; `config`, the configuration and the plain files below its directory, at
their places in it; `files`, plain files elsewhere; `secrets`, what of either is secret; `server.json`, which describes
the server. All trees but `tsdb` have their files at the paths that the server sees, relative to `/`.
"""

import contextlib
import hashlib
import hmac
import io
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from restaura import trees
from restaura.errors import SourceError
from restaura.hold import Hold
from restaura.point import Depth, Fingerprint
from restaura.prometheus import blocks
from restaura.prometheus.references import Named
from restaura.prometheus.server import Facts, Place
from restaura.sources import Artifact, Outcome, Stream, Tree

ALGORITHM = "prometheus-1"
TSDB, CONFIG, FILES, SECRETS = "tsdb", "config", "files", "secrets"
DESCRIPTION = "server.json"
FORMAT = 1


@dataclass
class Captured:
    """A server's snapshot, and copies of its files in `folder`, as of the same moment."""

    depth: Depth
    facts: Facts
    named: Named
    folder: Path
    snapshot: Callable[[], Path]
    notes: list[str]
    doubts: list[str]
    hold: Hold | None = None
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    found: list[blocks.Block] = field(default_factory=list)

    def artifacts(self) -> Iterator[Artifact]:
        """Yield the blocks once the snapshot is whole, then the files."""
        base = self.snapshot()
        self.found = blocks.find(base)
        if self.found:
            names = sorted(one.ulid for one in self.found)
            yield Tree(TSDB, base, trees.scan(base, names, depth=self.depth), expanded=TSDB)
        else:
            self.notes.append("the server holds no samples yet")
        plain, top = self.named.plain, str(Path(self.facts.config).parent).lstrip("/")
        below = [one for one in plain if trees.below(one.lstrip("/"), [top])]
        if below:
            yield Tree(CONFIG, self.folder, self._index(below), expanded="", top=top)
        if others := [one for one in plain if one not in below]:
            yield Tree(FILES, self.folder, self._index(others), expanded=FILES)
        if self.named.secret:
            yield Tree(SECRETS, self.folder, self._index(self.named.secret), secret=True)
        yield Stream(DESCRIPTION, self._described, secret=True)

    def outcome(self, indexes: Mapping[str, trees.Index]) -> Outcome:
        """Return what one store captured: all of it was still, so what is torn there is the store's doing."""
        torn = [path for index in indexes.values() for path in index.torn]
        notes = [*self.notes, *(f"{one} is not in the store as it was" for one in torn[:3])]
        tsdb = indexes[TSDB].entries if TSDB in indexes else []
        files = [
            (one, name == SECRETS)
            for name in (CONFIG, FILES, SECRETS)
            if name in indexes
            for one in indexes[name].entries
            if one.type == "file"
        ]
        found = fingerprint(self.depth, tsdb, self.found, files, self.salt)
        return Outcome(found, "torn" if torn else "snapshot", notes, self.doubts)

    def _index(self, paths: Iterable[str]) -> trees.Index:
        return trees.scan(self.folder, [one.lstrip("/") for one in paths], depth="content")

    @contextlib.contextmanager
    def _described(self) -> Iterator[IO[bytes]]:
        facts = self.facts
        data = {
            "format": FORMAT,
            "salt": self.salt.hex(),
            "version": facts.version,
            "data": facts.data,
            "config": facts.config,
            "web_config": facts.web_config,
            "rules": self.named.rules,
            "missing": self.named.missing,
        }
        yield io.BytesIO(json.dumps(data, indent=1).encode())


def copy_files(place: Place, paths: Iterable[str], folder: Path) -> None:
    """Copy files of the server to the same paths below `folder`, with owners, modes, times and attributes."""
    for path in paths:
        here, target = place.readable(path), folder / path.lstrip("/")
        try:
            _copy_parents(Path(here).parent, target.parent, folder)
            copy_file(Path(here), target)
        except OSError as error:
            raise SourceError(f"cannot be copied: {error.strerror}", where=path, fix=f"ls -l {here}") from error


def copy_file(source: Path, target: Path) -> None:
    """Copy one file with all that it carries."""
    found = source.stat()
    shutil.copyfile(source, target)
    os.chown(target, found.st_uid, found.st_gid)
    shutil.copystat(source, target)


def _copy_parents(source: Path, target: Path, top: Path) -> None:
    """Make the directories of a copy, those that are missing with owner and mode of the original."""
    missing = [one for one in (target, *target.parents) if one != top and one.is_relative_to(top) and not one.exists()]
    # A container may see a file deeper down than it lies here.
    originals = itertools.chain((source, *source.parents), itertools.repeat(Path("/")))
    for made, original in reversed(list(zip(missing, originals, strict=False))):
        found = original.stat()
        made.mkdir(mode=0o700)
        os.chown(made, found.st_uid, found.st_gid)
        made.chmod(found.st_mode & 0o7777)


def fingerprint(
    depth: Depth,
    tsdb: Iterable[trees.Entry],
    found: Sequence[blocks.Block],
    files: Iterable[tuple[trees.Entry, bool]],
    salt: bytes,
) -> Fingerprint:
    """Fingerprint blocks and files (each with whether it is secret).

    A secret file's part is salted: what it holds may be short enough to be guessed.
    """
    parts, counts = blocks.fingerprint(tsdb, found, depth)
    counts["files"] = 0
    for entry, secret in files:
        content = entry.sha256 if depth == "content" else ""
        said = json.dumps([entry.mode, entry.user or entry.uid, entry.group or entry.gid, entry.size, content]).encode()
        digest = hmac.new(salt, said, "sha256") if secret else hashlib.sha256(said)
        parts[f"file /{entry.path}"] = digest.hexdigest()
        counts["files"] += 1
    return Fingerprint(ALGORITHM, depth, parts, counts)


def described(raw: bytes) -> dict[str, Any]:
    """Return what a point says of its server; SourceError when this program cannot read it."""
    data: dict[str, Any] = json.loads(raw)
    if data.get("format") != FORMAT:
        fix = "use the program that is kept in the store beside the point"
        raise SourceError(f"has format {data.get('format')!r}; this program reads {FORMAT}", where=DESCRIPTION, fix=fix)
    return data
