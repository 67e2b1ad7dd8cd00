# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite databases are copied by SQLite itself (sqlite.org/backup.html), however they are being written to."""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from restaura.errors import SourceError
from restaura.still import Copied, carry
from restaura.trees.index import Entry

MAGIC = b"SQLite format 3\x00"
COMPANIONS = ("-wal", "-shm", "-journal")
PATIENCE = 60.0
_WAL_OFFSET = 18
_WAL = 2


class NotADatabaseError(SourceError):
    """A file begins like a SQLite database and is none, or is damaged."""


def copy(source: Path, destination: Path) -> None:
    """Write a copy of the database `source`, as of one transaction, to the new file `destination`.

    Page size and journal mode stay; nothing beside the source is created or changed. Raises NotADatabaseError when
    SQLite cannot make sense of the file, SourceError when it stays locked for PATIENCE seconds or changes without
    pause.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            # Opening a database in WAL mode that nobody has open would leave files beside it.
            with_wal = _in_wal_mode(source) or _beside(source, "-wal").exists()
            if with_wal and not _beside(source, "-shm").exists():
                _copy_still(source, destination, deadline)
            else:
                _backup(f"file:{_quoted(source)}?mode=ro", destination, source, deadline)
            break
        except sqlite3.OperationalError as error:
            # A journal that a crash left: it can only be played back by writing, so that is done on a copy.
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                try:
                    _copy_still(source, destination, deadline)
                    break
                except _MovedError:
                    _wait(source, deadline)
            else:
                raise SourceError(f"SQLite: {error}", where=str(source)) from error
        except _MovedError:
            _wait(source, deadline)
        except sqlite3.DatabaseError as error:
            raise NotADatabaseError(f"SQLite: {error}", where=str(source)) from error
    _check(destination, source)


def copy_all(
    databases: Iterable[Entry], spool: Path, base: Path = Path("/")
) -> tuple[list[Copied], list[Entry], list[str]]:
    """Copy databases, given as entries relative to `base`, to the same paths below `spool`.

    Returns those that were copied, those that turned out to be none, and notes about them.
    """
    copied: list[Copied] = []
    plain: list[Entry] = []
    notes: list[str] = []
    for entry in databases:
        live, made = base / entry.path, spool / entry.path
        made.parent.mkdir(0o700, parents=True, exist_ok=True)
        try:
            copy(live, made)
        except NotADatabaseError as error:
            made.unlink(missing_ok=True)
            plain.append(entry)
            notes.append(f"{live} was taken as a plain file: {error.what}")
            continue
        except FileNotFoundError:
            notes.append(f"{live} vanished before it was copied")
            continue
        if entry.hard_link:
            notes.append(f"{live} has several names: each is kept as a database of its own")
        carry(made, entry)
        copied.append(Copied(entry.path, entry.xattrs))
    return copied, plain, notes


class _MovedError(Exception):
    """The database was written to while its files were copied."""


def _backup(uri: str, destination: Path, source: Path, deadline: float) -> None:
    def in_time(_status: int, _remaining: int, _total: int) -> None:
        # Called after every try: a lock that somebody holds makes SQLite try again for ever.
        if time.monotonic() > deadline:
            raise _locked(source)

    destination.unlink(missing_ok=True)
    live = sqlite3.connect(uri, uri=True, timeout=PATIENCE)
    try:
        copied = sqlite3.connect(destination)
        try:
            # All pages in one step: one read transaction, not started over whenever somebody writes.
            live.backup(copied, pages=-1, progress=in_time, sleep=0.05)
        finally:
            copied.close()
    finally:
        live.close()


def _copy_still(source: Path, destination: Path, deadline: float) -> None:
    """Copy the files of a database that nobody writes to, and let SQLite recover the copy."""
    names = ("", "-wal", "-journal")
    before = [_state(_beside(source, one)) for one in names]
    raw = destination.with_name(f"{destination.name}.raw")
    try:
        for one in names:
            try:
                shutil.copyfile(_beside(source, one), _beside(raw, one), follow_symlinks=False)
            except FileNotFoundError:
                if one == "":
                    raise
        if before != [_state(_beside(source, one)) for one in names]:
            raise _MovedError
        _backup(f"file:{_quoted(raw)}", destination, source, deadline)
    finally:
        for one in ("", *COMPANIONS):
            _beside(raw, one).unlink(missing_ok=True)


def _check(copied: Path, source: Path) -> None:
    """Let SQLite look the copy over, without touching it."""
    database = sqlite3.connect(f"file:{_quoted(copied)}?mode=ro&immutable=1", uri=True)
    try:
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise NotADatabaseError(f"SQLite: {error}", where=str(source)) from error
    finally:
        database.close()
    if found != "ok":
        raise NotADatabaseError(f"SQLite's quick_check says: {found}", where=str(source))


def _in_wal_mode(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(_WAL_OFFSET + 2)
    return len(header) > _WAL_OFFSET + 1 and header[_WAL_OFFSET + 1] == _WAL


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _wait(source: Path, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _locked(source)
    time.sleep(0.2)


def _locked(source: Path) -> SourceError:
    return SourceError(
        f"the SQLite database stayed locked for {PATIENCE:.0f} seconds",
        where=str(source),
        fix=f"see who holds it: fuser {source}",
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _quoted(path: Path) -> str:
    return quote(os.fsencode(path))
