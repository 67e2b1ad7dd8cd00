# SPDX-License-Identifier: GPL-3.0-or-later
"""What a workspace gave, kept on this host: SQLite for everything that is JSON, plain files for attachments.

It makes every point whole by itself: runs that the server has deleted since (14 days on the base tier) stay in it.
When it is lost, the next run reads anew what the server still has; the older points have the rest.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from restaura import trees
from restaura.errors import DamagedError, SourceError
from restaura.langsmith import facts
from restaura.paths import private_dir
from restaura.point import Depth, Fingerprint, canonical
from restaura.trees import Index

ALGORITHM = "langsmith-1"
# Kinds of objects, in the order in which they are read, and the artifacts that hold them.
KINDS = ("projects", "runs", "datasets", "examples", "prompts", "feedback", "annotation_queues")
# What the archive keeps though the server has it no more; of the others it is a mirror.
KEPT = ("runs", "feedback")
ATTACHMENTS = "attachments"
DATABASE = "archive.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
  kind TEXT NOT NULL, id TEXT NOT NULL, part TEXT NOT NULL, at TEXT NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL,
  seen INTEGER NOT NULL, PRIMARY KEY (kind, id));
CREATE INDEX IF NOT EXISTS in_order ON item (kind, part, at, id);
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_LINE = re.compile(rb"\s*(\{.*\}),?\s*\Z", re.DOTALL)


def file_of(kind: str) -> str:
    """Return the name of the artifact that holds the objects of a kind."""
    return f"{kind}.json"


class Archive:
    """The archive in `folder`; DamagedError when it cannot be opened. One writer at a time (the component's lock)."""

    def __init__(self, folder: Path, attachments: Path | None = None) -> None:
        self.folder = private_dir(folder)
        self.attachments = attachments or folder / ATTACHMENTS
        try:
            self._db = sqlite3.connect(folder / DATABASE, check_same_thread=False)
            self._db.executescript(_SCHEMA)
            self._seen = 1 + int(self.mark("seen") or 0)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._damaged(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was not committed is lost."""
        self._db.close()

    def check(self) -> None:
        """Read everything; DamagedError when something is not what was put in."""
        try:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self._damaged(f"SQLite's quick_check says: {found}")
            for kind in KINDS:
                for _ in self.rows(kind):
                    pass
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error

    def put(self, kind: str, body: dict[str, Any], *, part: str = "", at: str = "", key: str = "id") -> None:
        """Add an object, or replace the one of its id."""
        data = canonical(body)
        row = (kind, str(body[key]), part, at, data, hashlib.sha256(data).digest(), self._seen)
        self._db.execute("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def sweep(self, kind: str) -> None:
        """Remove the objects of a kind that were not put since the archive was opened."""
        self._db.execute("DELETE FROM item WHERE kind = ? AND seen <> ?", (kind, self._seen))

    def keep(self, kind: str, key: str) -> None:
        """Count an object as put though its body was not read again."""
        self._db.execute("UPDATE item SET seen = ? WHERE kind = ? AND id = ?", (self._seen, kind, key))

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return one object, or None."""
        row = self._db.execute("SELECT body FROM item WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return json.loads(row[0]) if row else None

    def mark(self, name: str, value: str | None = None) -> str:
        """Return a remembered text (empty when there is none), set before when `value` is given."""
        if value is not None:
            self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))
        row = self._db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def commit(self) -> None:
        """Make what was put durable."""
        self.mark("seen", str(self._seen))
        self._db.commit()

    def count(self, kind: str, part: str | None = None) -> int:
        """Return how many objects of a kind (of one part) there are."""
        query, given = "SELECT count(*) FROM item WHERE kind = ?", [kind]
        if part is not None:
            query, given = f"{query} AND part = ?", [*given, part]
        return int(self._db.execute(query, given).fetchone()[0])

    def fresh(self, kind: str, part: str) -> int:
        """Return how many objects of a part were put since the archive was opened."""
        query = "SELECT count(*) FROM item WHERE kind = ? AND part = ? AND seen = ?"
        return int(self._db.execute(query, (kind, part, self._seen)).fetchone()[0])

    def moments(self, kind: str, part: str) -> Iterator[str]:
        """Yield when the objects of a part began, as the API wrote it."""
        for (at,) in self._db.execute("SELECT at FROM item WHERE kind = ? AND part = ?", (kind, part)):
            yield at

    def take_over(self, folder: Path) -> None:
        """Add what the archive in `folder`, which was read later, keeps though the server may have it no more.

        One that is damaged adds nothing. sqlite3.Error and OSError when there is no room: then this one may not take
        its place.
        """
        try:
            with Archive(folder) as other:
                other.check()
        except DamagedError:
            return
        self._db.execute("ATTACH ? AS other", (str(folder / DATABASE),))
        kinds = ", ".join("?" * len(KEPT))
        copied = "SELECT kind, id, part, at, body, digest, 0 FROM other.item"
        with self._db:
            self._db.execute(f"INSERT OR REPLACE INTO item {copied} WHERE kind IN ({kinds})", KEPT)
            self._db.execute("INSERT OR REPLACE INTO mark SELECT * FROM other.mark WHERE name LIKE 'until %'")
        self._db.execute("DETACH other")
        for file in (folder / ATTACHMENTS / "runs").glob("*/*"):
            to = self.attachments / file.relative_to(folder / ATTACHMENTS)
            if not to.exists():
                to.parent.mkdir(0o700, parents=True, exist_ok=True)
                os.link(file, to)

    def rows(self, kind: str, part: str | None = None) -> Iterator[bytes]:
        """Yield the objects of a kind in canonical JSON, always in the same order; DamagedError for a changed one."""
        where, given = "kind = ?", [kind]
        if part is not None:
            where, given = f"{where} AND part = ?", [*given, part]
        query = f"SELECT id, body, digest FROM item WHERE {where} ORDER BY part, at, id"  # noqa: S608
        for key, body, digest in self._db.execute(query, given):
            if not isinstance(body, bytes) or hashlib.sha256(body).digest() != digest:
                raise self._damaged(f"{kind} {key} is not what was put in")
            yield body

    def objects(self, kind: str, part: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the objects of a kind."""
        for row in self.rows(kind, part):
            yield json.loads(row)

    def lines(self, kind: str) -> Iterator[bytes]:
        """Yield the artifact of a kind: a JSON array with an object on each line."""
        before = b"[\n"
        for row in self.rows(kind):
            yield before + row
            before = b",\n"
        yield b"[]\n" if before == b"[\n" else b"\n]\n"

    def load(self, kind: str, stream: IO[bytes]) -> None:
        """Put what `lines` wrote; DamagedError when it is not that, or an id stands in it twice."""
        where = file_of(kind)
        for number, line in enumerate(split_lines(stream), 1):
            if line.strip() in (b"[", b"]", b"[]", b""):
                continue
            found = _LINE.match(line)
            try:
                body = json.loads(found[1] if found else b"")
                key = str(body["id"])
                if self._db.execute("SELECT 1 FROM item WHERE kind = ? AND id = ?", (kind, key)).fetchone():
                    raise DamagedError(f"{key} stands in it twice", where=where)
                self.put(kind, body, part=facts.part_of(kind, body), at=facts.moment(kind, body))
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedError(f"line {number} is no object: {error!r}", where=where) from error
        self.commit()

    def scan(self, depth: Depth) -> Index:
        """Return the index of the attachments."""
        private_dir(self.attachments)
        return trees.scan(self.attachments, sorted(one.name for one in self.attachments.iterdir()), depth=depth)

    def fingerprint(self, depth: Depth, attached: Index | None = None) -> Fingerprint:
        """Fingerprint everything: order-free sums of the objects' hashes, a part for each project, dataset and prompt.

        With depth `catalog` it is their ids that are hashed. With `content` it has the parts `import/…` too: what of an
        object comes back from a server that it is imported into (`facts`). `attached` is the index of the attachments.
        """
        parts: dict[str, str] = {}
        counts: dict[str, int] = {}
        names = self.names()
        for kind in KINDS:
            sums: Counter[str] = Counter()
            query = "SELECT part, id, digest FROM item WHERE kind = ?"
            number = 0
            for part, key, digest in self._db.execute(query, (kind,)):
                one = hashlib.sha256(key.encode() + (digest if depth == "content" else b"")).digest()
                name = f"{kind}/{names.get(part, part)}" if part else f"{kind}/{names.get(key, key)}"
                sums[name] += int.from_bytes(one)
                number += 1
            counts[kind] = number
            parts |= {name: f"{total % (1 << 256):064x}" for name, total in sums.items()}
        counts["orphan runs"] = self._orphans()
        parts["attachments"], counts["attachments"] = self._attached(depth, attached)
        if depth == "content":
            parts |= self.importable()
        return Fingerprint(ALGORITHM, depth, parts, counts)

    def importable(self) -> dict[str, str]:
        """Return the parts `import/…` of a fingerprint."""
        found = {}
        for dataset in self.objects("datasets"):
            examples = facts.Sum(facts.example(one) for one in self.objects("examples", str(dataset["id"])))
            found[f"import/datasets/{dataset['name']}"] = facts.digest([facts.dataset(dataset), examples.text])
        for prompt in self.objects("prompts"):
            found[f"import/prompts/{prompt['repo_handle']}"] = facts.digest(facts.prompt(prompt))
        for queue in self.objects("annotation_queues"):
            found[f"import/annotation_queues/{queue['name']}"] = facts.digest(facts.queue(queue))
        for project in self.objects("projects"):
            if facts.is_tracing(project):
                found[f"import/projects/{project['name']}"] = facts.digest(facts.project(project))
        return found

    def names(self) -> dict[str, str]:
        """Return what people call projects, datasets, prompts and queues, by id."""
        query = "SELECT id, body FROM item WHERE kind IN ('projects', 'datasets', 'prompts', 'annotation_queues')"
        found = {}
        for key, body in self._db.execute(query):
            one = json.loads(body)
            found[key] = str(one.get("name") or one.get("repo_handle") or key)
        twice = {name for name, times in Counter(found.values()).items() if times > 1}
        return {key: f"{name} ({key})" if name in twice else name for key, name in found.items()}

    def _orphans(self) -> int:
        """Return how many runs name a parent that the archive does not hold."""
        self._db.create_function("parent", 1, lambda body: facts.parent(json.loads(body)), deterministic=True)
        query = (
            "SELECT count(*) FROM (SELECT parent(body) AS above FROM item WHERE kind = 'runs') "
            "WHERE above <> '' AND NOT EXISTS (SELECT 1 FROM item WHERE kind = 'runs' AND id = above)"
        )
        return int(self._db.execute(query).fetchone()[0])

    def _attached(self, depth: Depth, index: Index | None) -> tuple[str, int]:
        total, number = facts.Sum(()), 0
        for entry in (index or self.scan(depth)).entries:
            if entry.type != "dir":
                total.add([entry.path, entry.size, entry.sha256])
                number += 1
        return total.text, number

    def _damaged(self, why: str) -> DamagedError:
        return DamagedError(f"the archive is damaged: {why}", where=str(self.folder / DATABASE))


def split_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream that can only be read in pieces."""
    rest = bytearray()
    while chunk := stream.read(1 << 18):
        *lines, last = chunk.split(b"\n")
        for line in lines:
            rest += line
            yield bytes(rest)
            rest.clear()
        rest += last
    yield bytes(rest)


@contextlib.contextmanager
def opened(folder: Path, notes: list[str]) -> Iterator[Archive]:
    """Yield the archive in `folder`; one that is damaged is put aside and begun anew, and a note says so."""
    try:
        archive = Archive(folder)
        archive.check()
    except DamagedError as error:
        aside = folder.with_name(f"{folder.name}.damaged")
        number = 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"{folder.name}.damaged-{number}")
        folder.rename(aside)
        notes.append(f"{error.what}; it was put aside ({aside}) and read anew: runs the server has deleted are missing")
        archive = Archive(folder)
    except sqlite3.Error as error:
        raise SourceError(f"SQLite: {error}", where=str(folder)) from error
    with archive:
        yield archive
