# SPDX-License-Identifier: GPL-3.0-or-later
"""The restic program over one repository: its command lines, exit codes and JSON, as of restic 0.18.

Reads take no lock (`--no-lock`), so that a restore works from a full disk and with a read-only key; a prune elsewhere
at the same time makes them fail loudly, never wrongly: every blob is checked against its hash.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from restaura import process
from restaura.errors import ConfigError, DamagedError, RestauraError, SpaceError, StoreError
from restaura.journal import Process
from restaura.paths import private_dir

OLDEST = (0, 18)
LOCKED = 11
LOCK_SECONDS = 300
LOCK_WAIT = "10s"
CHECK_SECONDS = 60
WATCH_SECONDS = 1.0
ABORT_SECONDS = 2
SIGNAL_SECONDS = 0.1
PATIENCE_SECONDS = 60
SNAPSHOT_ID = re.compile(r"^[0-9a-f]{64}$")

_IGNORED = re.compile(r'Ignoring "([0-9a-f]+)"[^\n]*')
_DAMAGE = re.compile(
    r"ciphertext verification failed|invalid data returned|unexpected pack id|not found in (?:repository|index)"
    r"|data/[0-9a-f]+.*(?:no such file|does not exist)"
    r"|failed to load snapshot.*(?:invalid data|no such file|does not exist)|no matching ID found"
    r"|repository contains errors|mac does not match|wrong data returned"
)
_GONE = re.compile(r"no such file or directory|not a directory|does not exist, skipping|could not be read")
_NO_DEVICE = re.compile(r"^mknod .*operation not permitted$|^Fatal: There were \d+ errors$", re.DOTALL)
_TYPES = {"file": "file", "dir": "dir", "symlink": "link", "fifo": "fifo", "socket": "socket"}
_TYPES |= {"chardev": "char", "dev": "block"}


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as a listing shows it: `tags` are the `key=value` tags this program gave it.

    `files` and `bytes` are what restic counted as it made it, -1 where it did not say.
    """

    id: str
    time: str
    tags: dict[str, str]
    files: int = -1
    bytes: int = -1

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Snapshot":
        """Build one from a row of `restic snapshots --json`."""
        tags = dict(tag.split("=", 1) for tag in row.get("tags") or [] if "=" in tag)
        told = row.get("summary") or {}
        return cls(
            row["id"], row["time"], tags, told.get("total_files_processed", -1), told.get("total_bytes_processed", -1)
        )


@dataclass(frozen=True)
class Node:
    """One entry of a snapshot. `path` is relative to its root; bytes that are not UTF-8 stand in it as U+FFFD."""

    path: str
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    inode: int
    mtime_ns: int
    ctime_ns: int


class Repository:
    """One restic repository. `where` names the store in errors; nothing is read before the first call.

    `remove` deletes a file of the repository by its name.
    """

    def __init__(
        self,
        url: str,
        password: Callable[[], Path],
        env: Callable[[], dict[str, str]],
        remove: Callable[[str], None],
        cache: Path,
        where: str,
    ) -> None:
        self.url, self.where = url, where
        self._password, self._env, self._remove, self._cache = password, env, remove, cache

    # -- running ------------------------------------------------------------------------------------------------

    def start(
        self,
        *arguments: str | bytes,
        cwd: str | None = None,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        before: Sequence[str] = (),
    ) -> process.Child:
        """Start restic on this repository. `before` is a program that starts it in its turn."""
        argv = [*before, "restic", "--repo", self.url, "--password-file", str(self._password())]
        argv += ["--cache-dir", str(private_dir(self._cache)), "--cleanup-cache", "--retry-lock", LOCK_WAIT]
        # Packs are built in TMPDIR, which is memory on many hosts.
        env = {**self._env(), "TMPDIR": str(self._cache)}
        child = process.Child([*argv, *arguments], env=env, cwd=cwd, stdin=stdin or subprocess.DEVNULL, stdout=stdout)
        if self.url.startswith("s3:"):
            threading.Thread(target=_give_up, args=(child,), daemon=True).start()
        return child

    def call(self, *arguments: str | bytes, what: str, timeout: float | None = None) -> tuple[bytes, str]:
        """Run restic to its end; return standard output and the end of standard error.

        For five minutes it waits for locks, and removes those of processes that ended meanwhile.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            with tempfile.TemporaryFile() as out, self.start(*arguments, stdout=out) as child:
                try:
                    code, errors = child.wait(timeout), child.errors(None)
                except subprocess.TimeoutExpired:
                    said = _messages(child.errors())
                    raise StoreError(
                        f"{what}: no answer within {timeout:.0f} s" + (f": {said[-1]}" if said else ""),
                        where=self.where,
                        fix=f"check that {self.url} can be reached from this host",
                    ) from None
                out.seek(0)
                data = out.read()
            if code == 0:
                return data, errors
            if code != LOCKED or time.monotonic() > deadline:
                raise self.failure(code, errors, what)
            self._unlock_ended()

    @contextlib.contextmanager
    def reading(self, *arguments: str | bytes, what: str) -> Iterator[IO[bytes]]:
        """Yield restic's standard output; on leaving after its last byte, raise when restic failed."""
        with self.start(*arguments) as child:
            yield child.stdout
            if child.stdout.read(1):
                child.kill()
                return
            code = child.wait()
            if code:
                raise self.failure(code, child.errors(), what)

    def failure(self, code: int, errors: str, what: str) -> RestauraError:
        """Return the error that an exit code and standard error stand for."""
        text = "; ".join(_messages(errors))[-1000:]
        if code == 10:
            return StoreError(
                f"{what}: there is no restic repository at {self.url}",
                where=self.where,
                fix="check that the disk or bucket is there; ansible-playbook setup_backup.yml makes a new one",
            )
        if code == LOCKED:
            return StoreError(
                f"{what}: another program holds the repository's lock: {text}",
                where=self.where,
                fix="wait for it to end and try again; restaura recover removes locks of dead processes",
            )
        if code == 12:
            return StoreError(
                f"{what}: the password does not open the repository",
                where=self.where,
                fix="restore its key from the recovery kit: restaura keys restore --kit FILE",
            )
        if "no space left on device" in errors or "disk quota exceeded" in errors:
            return SpaceError(f"{what}: the disk is full: {text}", where=self.where, fix="free space on that disk")
        if _DAMAGE.search(errors):
            fix = "restore from another store or point; restaura verify names what is damaged"
            return DamagedError(f"{what}: {text}", where=self.where, fix=fix)
        how = f"restic ended with exit code {code}"
        if code < 0:
            silent = "retrying after" in errors
            how = "the store does not answer" if silent else f"restic was killed by {signal.Signals(-code).name}"
        return StoreError(f"{what}: {how}: {text}", where=self.where, fix=f"check that {self.url} can be reached")

    # -- the repository -----------------------------------------------------------------------------------------

    def version(self) -> str:
        """Return restic's version; ConfigError when it is missing or older than 0.18."""
        fix = "ansible-playbook setup_backup.yml (it installs restic 0.18 or newer)"
        try:
            _, out, _ = process.run(["restic", "version"], timeout=CHECK_SECONDS)
        except RestauraError as error:
            raise ConfigError(f"restic cannot be run: {error.what}", where=self.where, fix=fix) from error
        found = re.match(rb"restic (\d+)\.(\d+)[.\d]*", out)
        if not found or (int(found[1]), int(found[2])) < OLDEST:
            raise ConfigError(f"{out.decode(errors='replace').strip()!r} is too old", where=self.where, fix=fix)
        return found[0].decode().removeprefix("restic ")

    def probe(self) -> None:
        """Open the repository."""
        self.call("cat", "config", "--no-lock", what="cannot be opened", timeout=CHECK_SECONDS)

    def init(self) -> bool:
        """Make the repository; return False when there is one that our password opens."""
        try:
            self.probe()
        except StoreError as error:
            if "there is no restic repository" not in error.what:
                raise
            self.call("init", "--repository-version", "2", what="cannot be created", timeout=CHECK_SECONDS)
            return True
        return False

    def unlock(self) -> None:
        """Remove the locks of dead processes (never of living ones: no `--remove-all`)."""
        self.call("unlock", what="locks cannot be removed")

    def _unlock_ended(self) -> None:
        """Remove locks also of processes that ended and were never reaped, as where a container has no init.

        restic takes these for living.
        """
        self.unlock()
        for lock in self.call("list", "locks", "--no-lock", what="locks cannot be listed")[0].decode().split():
            # The lock may be gone by now.
            with contextlib.suppress(StoreError):
                row = json.loads(self.call("cat", "lock", lock, "--no-lock", what="a lock cannot be read")[0])
                if row["hostname"] == socket.gethostname() and Process.of(row["pid"]) is None:
                    self._remove(f"locks/{lock}")

    def check(self, *arguments: str) -> None:
        """Check the repository's structure, with `--read-data…` the stored bytes; DamagedError names what is wrong."""
        self.call("check", *arguments, what="the check failed")

    def forget(self, snapshots: Sequence[str]) -> None:
        """Forget these snapshots; those that are gone already are passed over."""
        if snapshots:
            self.call("forget", *snapshots, what="snapshots cannot be forgotten")

    def prune(self, *arguments: str) -> None:
        """Free the space of what no snapshot uses."""
        self.call("prune", *arguments, what="unused space cannot be freed")

    # -- reading ------------------------------------------------------------------------------------------------

    def snapshots(self, *tags: str, writing: bool = False) -> tuple[list[Snapshot], dict[str, str]]:
        """Return the snapshots that carry all `tags`, oldest first; and by id why others could not be read at all.

        With `writing`, a lock is taken and removed meanwhile, which is a write. restic leaves unreadable snapshots out
        with a warning and exit code 0.
        """
        lock = [] if writing else ["--no-lock"]
        out, errors = self.call("snapshots", "--json", *lock, "--tag", ",".join(tags), what="cannot be listed")
        found = [Snapshot.of(row) for row in json.loads(out) or []]
        return sorted(found, key=lambda one: one.time), {one[1]: one[0] for one in _IGNORED.finditer(errors)}

    @contextlib.contextmanager
    def dump(self, snapshot: str, path: str) -> Iterator[IO[bytes]]:
        """Yield the content of one file."""
        with self.reading("dump", "--no-lock", snapshot, _raw(path), what=f"{path!r} cannot be read") as stream:
            yield stream

    @contextlib.contextmanager
    def archive(self, snapshot: str) -> Iterator[IO[bytes]]:
        """Yield a whole snapshot as tar: contents only, restic's has no hard links, holes, fifos and sockets."""
        arguments = ("dump", "--no-lock", "--archive", "tar", snapshot, "/")
        with self.reading(*arguments, what=f"snapshot {snapshot[:8]} cannot be read") as stream:
            yield stream

    def list(self, snapshot: str, out: IO[bytes]) -> None:
        """Write the entries of a snapshot to `out`, for `nodes`."""
        with self.start("ls", "--json", "--no-lock", snapshot, stdout=out) as child:
            if code := child.wait():
                raise self.failure(code, child.errors(), f"snapshot {snapshot[:8]} cannot be listed")

    def link_target(self, snapshot: str, path: str, inode: int) -> str:
        """Return where a symbolic link leads, which only the tree that holds it tells."""
        folder = path.rpartition("/")[0]
        what = f"the folder {folder!r} cannot be read"
        out, _ = self.call("cat", "tree", "--no-lock", snapshot.encode() + b":" + _raw(folder), what=what)
        for row in json.loads(out)["nodes"]:
            if row["type"] == "symlink" and row["inode"] == inode:
                raw = row.get("linktarget_raw")
                return os.fsdecode(base64.b64decode(raw)) if raw else str(row["linktarget"])
        raise DamagedError(f"the snapshot does not tell where {path!r} leads", where=self.where)

    def restore(self, snapshot: str, destination: Path, include: Sequence[str] = ()) -> None:
        """Unpack a snapshot, or what `include` names of it, into `destination`.

        restic runs without CAP_MKNOD, so that no device node is made whatever the snapshot holds; its complaints about
        that are passed over. On Linux it restores attributes of `user.*` only: ACLs and capabilities are for
        `trees.apply`, which puts them on last.
        """
        options = ["--no-lock", "--json", "--quiet", "--sparse", "--target", str(destination)]
        patterns = [b"--include=" + _pattern(path) for path in include]
        without_devices = ("setpriv", "--bounding-set=-mknod", "--")
        with tempfile.TemporaryFile() as out:
            with self.start("restore", *options, *patterns, snapshot, stdout=out, before=without_devices) as child:
                code, errors = child.wait(), child.errors(None)
            if code and not all(_NO_DEVICE.search(one) for one in _messages(errors)):
                raise self.failure(code, errors, f"snapshot {snapshot[:8]} cannot be restored")

    # -- writing ------------------------------------------------------------------------------------------------

    def backup_paths(
        self,
        names: Path,
        base: Path,
        host: str,
        tags: Sequence[str],
        parent: str | None,
        watch: Callable[[], None],
        moving: bool = False,
    ) -> str:
        """Store the paths that the file `names` lists (relative to `base`, NUL after each) as one snapshot.

        Returns its id. `watch` is called every second and may raise to stop it: then no snapshot exists. What is gone
        by now is passed over; StoreError with restic's words when something that is there could not be read, unless
        the paths are `moving` and are stored once more.
        """
        how = ["--parent", parent] if parent else ["--force"]
        arguments = [*_backup(host, tags), "--no-scan", *how, "--files-from-raw", str(names)]
        with tempfile.TemporaryFile() as out, self.start(*arguments, cwd=str(base), stdout=out) as child:
            while (code := _ended(child)) is None:
                watch()
            problems = [one for one in _messages(child.errors()) if not _GONE.search(one)]
            if code not in {0, 3} or (code == 3 and problems and not moving):
                raise self.failure(code, child.errors(), "cannot be stored")
            return str(_summary(out, self.where)["snapshot_id"])

    def backup_stream(self, filename: str, host: str, tags: Sequence[str]) -> "StreamBackup":
        """Begin a snapshot of one file whose content is written to the result."""
        return StreamBackup(self, [*_backup(host, tags), "--force", "--stdin", "--stdin-filename", filename])

    def backup_folder(self, folder: Path, host: str, tags: Sequence[str]) -> "FolderBackup":
        """Begin a snapshot of a folder's content, which may still be written until the result is committed."""
        # restic opens the repository, which costs most of a second, and then waits for the end of its exclude file.
        waiting = ("--exclude-file", "/dev/stdin")
        return FolderBackup(self, [*_backup(host, tags), "--force", "--no-scan", *waiting, "."], folder)


class _Backup:
    """A running `restic backup` that waits for the end of its standard input. No snapshot exists before that."""

    def __init__(self, repository: Repository, arguments: Sequence[str], folder: Path | None = None) -> None:
        self._repository = repository
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        where = str(folder) if folder else None
        self._child = repository.start(*arguments, cwd=where, stdin=subprocess.PIPE, stdout=self._out)

    def abort(self) -> None:
        """Stop restic before its input ends, so that no snapshot is made: it hears SIGINT first, to remove its lock."""
        with contextlib.closing(self):
            self._child.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(ABORT_SECONDS)
            self._child.kill()

    def close(self) -> None:
        """Free what the child held."""
        self._child.close()
        self._out.close()

    def _end(self) -> None:
        """End the input; a flush that meets a dead restic is told by its exit code."""
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()


class FolderBackup(_Backup):
    """A snapshot of a folder that is taken when it is committed."""

    def abort(self) -> None:
        """Stop restic. It only looks whether it was told to when its exclude file has ended."""
        self._child.process.send_signal(signal.SIGINT)
        time.sleep(SIGNAL_SECONDS)
        self._end()
        super().abort()

    def commit(self, files: int, size: int, watch: Callable[[], None]) -> str:
        """Let restic read the folder; return the snapshot's id.

        StoreError unless it stored exactly so many files of `size` bytes together: then there is no snapshot, or it is
        forgotten. `watch` is called every second and may raise.
        """
        with contextlib.closing(self):
            self._end()
            while (code := _ended(self._child)) is None:
                watch()
            # With exit code 3 there is a snapshot, of what could be read.
            row = _summary(self._out, self._repository.where) if code in {0, 3} else {}
            counted = row.get("total_files_processed"), row.get("total_bytes_processed")
            if code == 0 and counted == (files, size):
                return str(row["snapshot_id"])
            if row:
                self._repository.forget([row["snapshot_id"]])
            if code:
                raise self._repository.failure(code, self._child.errors(), "cannot be stored")
            text = f"restic stored {counted[0]} files of {files}, {counted[1]} bytes of {size}"
            raise StoreError(text, where=self._repository.where)


class StreamBackup(_Backup):
    """A running `restic backup --stdin`. No snapshot exists before `commit`."""

    def write(self, data: bytes) -> None:
        """Take the next bytes; StoreError with restic's own words when it has ended."""
        try:
            self._child.stdin.write(data)
        except BrokenPipeError:
            raise self._repository.failure(self._child.wait(), self._child.errors(), "cannot be stored") from None

    def commit(self, size: int) -> str:
        """End the stream and return the snapshot's id; StoreError unless restic stored exactly `size` bytes."""
        with contextlib.closing(self):
            self._end()
            if code := self._child.wait():
                raise self._repository.failure(code, self._child.errors(), "cannot be stored")
            summary = _summary(self._out, self._repository.where)
            if summary["total_bytes_processed"] != size:
                raise StoreError(
                    f"restic stored {summary['total_bytes_processed']} of {size} bytes", where=self._repository.where
                )
            return str(summary["snapshot_id"])


def nodes(listing: IO[bytes]) -> Iterator[Node]:
    """Yield the entries that `Repository.list` wrote."""
    for line in listing:
        row = json.loads(line)
        if row.get("struct_type") == "node":
            yield Node(
                row["path"].lstrip("/"),
                _TYPES.get(row["type"], row["type"]),
                row.get("size", 0),
                _mode(row.get("mode", 0)),  # left out when it is 0
                row.get("uid", 0),
                row.get("gid", 0),
                row.get("inode", 0),
                _nanoseconds(row["mtime"]),
                _nanoseconds(row["ctime"]),
            )


def _backup(host: str, tags: Sequence[str]) -> list[str]:
    return ["backup", "--json", "--quiet", "--host", host, "--tag", ",".join(tags)]


def _raw(path: str) -> bytes:
    return b"/" + path.encode(errors="surrogateescape")


def _pattern(path: str) -> bytes:
    """Return a pattern that matches `path` and nothing else (Go's path/filepath.Match)."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", _raw(path))


def _mode(mode: int) -> int:
    """Return POSIX permission bits from Go's io/fs.FileMode (set-uid, set-gid and sticky are its bits 23, 22, 20)."""
    special = (0o4000 if mode >> 23 & 1 else 0) | (0o2000 if mode >> 22 & 1 else 0) | (0o1000 if mode >> 20 & 1 else 0)
    return mode & 0o777 | special


def _nanoseconds(text: str) -> int:
    """Return an RFC 3339 time with up to nine decimals as nanoseconds since the epoch."""
    found = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise DamagedError(f"restic wrote a time {text!r} that is none")
    whole = datetime.fromisoformat(found[1] + ("+00:00" if found[3] == "Z" else found[3]))
    return int(whole.timestamp()) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def _summary(out: IO[bytes], where: str) -> dict[str, Any]:
    """Return the summary that `restic backup --json` ends with."""
    out.seek(0)
    for line in out:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if row.get("message_type") == "summary" and SNAPSHOT_ID.match(row.get("snapshot_id", "")):
                return dict(row)
    raise StoreError("restic ended well and named no snapshot", where=where, fix="restaura doctor")


def _messages(errors: str) -> list[str]:
    """Return what restic said on standard error, its JSON messages as text."""
    said: dict[str, None] = {}
    for line in errors.splitlines():
        text = line.removeprefix("\x1b[2K")
        with contextlib.suppress(ValueError, AttributeError, KeyError):
            row = json.loads(line)
            text = row.get("message") or row["error"]["message"]
        said[text.strip()] = None
    return [one for one in said if one]


def _give_up(child: process.Child) -> None:
    """Kill a restic that has met nothing but errors for a minute: it would try for a quarter of an hour."""
    failing_since = 0.0
    # The child's files are closed once it has ended.
    with contextlib.suppress(ValueError):
        while child.process.poll() is None:
            time.sleep(WATCH_SECONDS)
            if "retrying after" not in child.errors().rpartition("\n")[2]:
                failing_since = 0.0
            elif not failing_since:
                failing_since = time.monotonic()
            elif time.monotonic() - failing_since > PATIENCE_SECONDS:
                child.kill()


def _ended(child: process.Child) -> int | None:
    """Return the exit code, or None when a second later there still is none."""
    try:
        return child.wait(WATCH_SECONDS)
    except subprocess.TimeoutExpired:
        return None
