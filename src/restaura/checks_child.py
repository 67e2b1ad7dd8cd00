# SPDX-License-Identifier: GPL-3.0-or-later
"""The child that judges files and services for `restaura.checks`: asked by JSON, and answering so.

What it looks at may be hostile: it has changed its root to the directory that stands for `/`, so links lead where they
would lead on the live host, and never out; only regular files are read; and its parent kills it when time is up.
"""

import glob
import http.client
import json
import os
import re
import sqlite3
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

ANSWER_BYTES = 10_000_000
LARGEST = 256 << 20  # bytes of a file that is looked at as a whole, in memory
NOT_READY = (502, 503, 504)
PAUSE = 0.5
BOM = b"\xef\xbb\xbf"
COMPANIONS = ("-wal", "-shm", "-journal")


class _WrongError(Exception):
    """What was looked at is not as it must be."""


def main() -> None:
    """Answer one request: a list of what is wrong."""
    asked = json.load(sys.stdin)
    if asked["root"] != "/":
        try:
            os.chroot(asked["root"])
            os.chdir("/")
        except OSError as error:
            print(json.dumps([f"{asked['root']} cannot be entered: {error.strerror}"]))
            return
    if asked["kind"] == "http":
        wrong = list(_answer(asked["options"], time.monotonic() + asked["timeout"]))
    else:
        wrong = list(_files(asked["options"], {"file": _file, "json": _json, "sqlite": _sqlite}[asked["kind"]]))
    print(json.dumps(wrong))


# -- files --------------------


def _files(options: dict[str, Any], look: Callable[[str, dict[str, Any]], None]) -> Iterator[str]:
    pattern = options["path"]
    found = [pattern]
    if glob.has_magic(pattern):
        found = sorted(str(path) for path in Path("/").glob(pattern[1:]) if not path.is_dir())
    if not found:
        yield f"{pattern}: nothing matches"
    for path in found:
        try:
            look(path, options)
        except _WrongError as error:
            yield f"{path}: {error}"
        except OSError as error:
            yield f"{path}: {error.strerror or error}"
        except (MemoryError, RecursionError) as error:
            yield f"{path}: cannot be judged: {type(error).__name__}"


def _read(path: str, most: int = -1) -> bytes:
    """Return a regular file's content, `most` bytes of it. Whatever else it is, opening it does not wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _WrongError("is not a file")
    with os.fdopen(descriptor, "rb") as file:
        if most < 0 and status.st_size > LARGEST:
            raise _WrongError(f"is larger than {LARGEST >> 20} MiB: look at it by a command")
        return file.read(most)


def _file(path: str, options: dict[str, Any]) -> None:
    content = _read(path)
    if options["contains"].encode() not in content:
        raise _WrongError(f"does not contain {options['contains']!r}")
    # A regular expression is for text; what is none is searched all the same, byte by byte.
    if options["matches"] and not re.search(options["matches"], content.decode(errors="surrogateescape"), re.MULTILINE):
        raise _WrongError(f"nothing in it matches {options['matches']!r}")


def _json(path: str, options: dict[str, Any]) -> None:
    try:
        # Decoded here: Python would load a codec, which is out of reach below another root.
        data = json.loads(_read(path).removeprefix(BOM).decode())
    except ValueError as error:
        raise _WrongError(f"is no JSON: {error}") from None
    if not options["keys"]:
        return
    if not isinstance(data, dict):
        raise _WrongError("is no JSON object")
    if missing := [one for one in options["keys"] if one not in data]:
        raise _WrongError(f"has no {', '.join(map(repr, missing))}")


def _sqlite(path: str, _options: dict[str, Any]) -> None:
    if not _read(path, 1):
        raise _WrongError("is empty")
    # A database that nobody has open is read without a lock, which would leave files beside it; when somebody opened
    # it meanwhile, what was read counts for nothing.
    while True:
        still = not _opened(path)
        before = Path(path).stat().st_mtime_ns
        wrong = _integrity(path, still)
        if not (wrong and still) or (not _opened(path) and Path(path).stat().st_mtime_ns == before):
            break
    if wrong:
        raise _WrongError(wrong)


def _opened(path: str) -> bool:
    return any(os.path.lexists(path + end) for end in COMPANIONS)


def _integrity(path: str, still: bool) -> str:
    """Return what SQLite says is wrong with a database (sqlite.org/pragma.html#pragma_integrity_check)."""
    uri = f"file:{quote(os.fsencode(path))}?mode=ro" + ("&immutable=1" if still else "")
    try:
        database = sqlite3.connect(uri, uri=True, timeout=60)
        try:
            rows = [str(row[0]) for row in database.execute("PRAGMA integrity_check(3)")]
        finally:
            database.close()
    except sqlite3.Error as error:
        return f"SQLite: {error}"
    return "" if rows == ["ok"] else f"integrity_check: {'; '.join(rows)}"


# -- services --------------------


def _answer(options: dict[str, Any], deadline: float) -> Iterator[str]:
    """Ask until there is an answer that is more than "not ready yet", or until `deadline`."""
    while True:
        try:
            status, body = _ask(options["url"], max(deadline - time.monotonic(), PAUSE))
            wrong = f"answered {status}, not {options['status']}" if status != options["status"] else ""
            waiting = status in NOT_READY
        except (ValueError, http.client.InvalidURL, ssl.SSLCertVerificationError) as error:
            body, wrong, waiting = b"", f"cannot be asked: {error}", False
        except (OSError, http.client.HTTPException) as error:
            body, wrong, waiting = b"", f"no answer: {error or type(error).__name__}", True
        if not wrong and options["contains"].encode() not in body:
            wrong = f"answered without {options['contains']!r}"
            waiting = False
        if not (wrong and waiting) or time.monotonic() + PAUSE > deadline:
            break
        time.sleep(PAUSE)
    if wrong:
        yield f"{options['url']}: {wrong}"


def _ask(url: str, seconds: float) -> tuple[int, bytes]:
    """Return status and beginning of the answer to one GET. No proxy is asked: the service is meant, not another."""
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=seconds, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES)
    finally:
        connection.close()
