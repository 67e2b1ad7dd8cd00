# SPDX-License-Identifier: GPL-3.0-or-later
"""The freeze of a server: the moment at which its background save forks. All else happens afterwards.

The artifacts: `dump.rdb`, `appendonlydir/…` (with AOF on: the same moment, cut to the byte), `redis.conf`, `users.acl`
and `server.json`. Over the network alone there are no files: then the RDB comes as a replica gets it.
"""

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from restaura.errors import SourceError
from restaura.hold import Hold
from restaura.host import Host
from restaura.point import Depth, Fingerprint
from restaura.redis import fingerprint
from restaura.redis import server as servers
from restaura.redis.scratch import RDB, Needs, NoRoomError, Scratch
from restaura.redis.server import Files, Server, session
from restaura.runners import Running
from restaura.sources import Artifact, Outcome, Stream
from restaura.trees import Index

DESCRIPTION = "server.json"
USERS = "users.acl"
CONFIG = "redis.conf"
AOF = "appendonlydir"
FORMAT = 1
_EOF = 0xFF  # the last opcode of an RDB file; its checksum, 8 bytes, follows
_FLUSH_SECONDS = 15


@dataclass
class FrozenServer:
    """A server whose save has forked. `spool` is where its files are copied to; `place` makes room for a second server.

    `save_seconds` bounds the wait for saves, ours and those before it.
    """

    host: Host
    server: Server
    depth: Depth
    spool: Path
    place: Callable[[], contextlib.AbstractContextManager[Path]]
    save_seconds: float
    hold: Hold | None = None
    told: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _files: Files | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _description: dict[str, Any] = field(default_factory=dict)
    _users: list[str] = field(default_factory=list)
    _config: dict[str, str] = field(default_factory=dict)
    _exact: bool = False
    _transfer: Running | None = None
    _found: Fingerprint | None = None

    # The moment

    def freeze(self) -> None:
        """Have the server fork, as soon as it saves nothing else; SourceError when it cannot."""
        with session(self.server) as client:
            told = client.info()
            self._files = servers.files_of(self.server, told)
            # As it is without what the freeze itself sets.
            self._config = servers.config_of(client.config_get("*"))
            wanted = {}
            if self._files is None:
                # Sent as it is made, and to those alone who waited before the fork: then its first byte comes after it.
                # Otherwise a replica gets a file once that is whole, and maybe one that was forked for another replica.
                # The fork would wait for more replicas, 5 seconds by default (redis: replication.c, syncCommand).
                wanted = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}
            elif told["aof_enabled"]:
                wanted = {"auto-aof-rewrite-percentage": "0"}
            if wanted:
                self._stack.enter_context(servers.changed_settings(self.host.journal, self.server, wanted))
            self._users = servers.lines_of(client.execute_command("ACL", "LIST"))
            modules = servers.modules_of(client.execute_command("MODULE", "LIST"))
            if self._files is None:
                self._begin_transfer(client)
            else:
                self._fork(client)
        self._description = {
            "format": FORMAT,
            "version": self.told["redis_version"],
            "memory": int(self.told["used_memory"]),
            "keyspace": servers.keyspace_of(self.told),
            "modules": modules,
            "config": self._config,
            "salt": secrets.token_hex(16),
        }

    def _fork(self, client: Any) -> None:
        """Start a background save: what is asked in one breath with it is of the same moment."""
        deadline = time.monotonic() + self.save_seconds
        while True:
            servers.await_idle(client, self.server, max(0.0, deadline - time.monotonic()))
            together = client.pipeline(transaction=False)
            together.info()
            together.execute_command("BGSAVE")
            together.info()
            before, answer, after = together.execute(raise_on_error=False)
            for one in (before, after):
                if isinstance(one, Exception):
                    raise servers.problem(self.server, one)
            if not isinstance(answer, Exception):
                break
            # A save rule or somebody else was quicker; anything else is final.
            if "in progress" not in str(answer) and "child process" not in str(answer):
                fix = "look at the server's log; where it cannot fork: sysctl vm.overcommit_memory=1"
                raise SourceError(f"BGSAVE is refused: {answer}", where=self.server.where, fix=fix)
            if time.monotonic() > deadline:
                raise servers.problem(self.server, answer)
        self.told = after
        # Eviction may work between two commands.
        self._exact = servers.keyspace_of(before) == servers.keyspace_of(after)

    def _begin_transfer(self, client: Any) -> None:
        """Ask for the RDB as a replica does, and wait for its first byte: the server has forked for us by then.

        That it saves says nothing: it may save for somebody else, and fork for us only afterwards.
        """
        servers.await_idle(client, self.server, self.save_seconds)
        self._transfer = servers.start_transfer(self.server, self.spool / RDB)
        deadline = time.monotonic() + self.save_seconds
        path = self.spool / RDB
        while not self._transfer.ended():
            if path.exists() and path.stat().st_size:
                break
            if time.monotonic() > deadline:
                raise SourceError(f"sent nothing within {self.save_seconds:.0f} s", where=self.server.where)
            time.sleep(servers.POLL_SECONDS)
        self.told = client.info()

    def close(self) -> None:
        """Put back what was changed on the server."""
        if self._transfer is not None:
            self._transfer.close()
        self._stack.close()

    # The copies

    def artifacts(self) -> Iterator[Artifact]:
        """Copy everything into the spool, let the server go on as before, and yield what was copied."""
        rdb = self.spool / RDB
        if self._files is not None:
            self._copy_saved(self._files, rdb)
        elif self._transfer is not None:
            servers.end_transfer(self.server, self._transfer, self.save_seconds)
        check_whole(rdb, self.server.where)
        kept = [Stream(RDB, partial(_opened, rdb), expected_bytes=rdb.stat().st_size)]
        if self._files is not None:
            kept += self._append_only(self._files)
            kept += self._configuration(self._files)
        self.close()
        for name, data in (
            (USERS, "".join(f"{one}\n" for one in self._users)),
            (DESCRIPTION, json.dumps(self._description, indent=1, sort_keys=True)),
        ):
            path = self.spool / name
            path.write_bytes(data.encode(errors="surrogateescape"))
            kept.append(Stream(name, partial(_opened, path), secret=True))
        yield from kept

    def _copy_saved(self, files: Files, to: Path) -> None:
        """Wait for our save and copy it, unless another one took its place."""
        deadline = time.monotonic() + self.save_seconds
        with session(self.server) as client:
            while True:
                told = self._same(client)
                if not told["rdb_bgsave_in_progress"]:
                    break
                if time.monotonic() > deadline:
                    what = f"BGSAVE did not end within {self.save_seconds:.0f} s"
                    raise SourceError(what, where=self.server.where, fix="raise save_timeout of the component")
                time.sleep(servers.POLL_SECONDS)
            if told["rdb_last_bgsave_status"] != "ok":
                raise SourceError(
                    "BGSAVE failed; with save rules, the server refuses writes until one succeeds",
                    where=self.server.where,
                    fix="free space on the disk of its `dir`, look at its log, then: redis-cli BGSAVE",
                )
            source = f"{self._config['dir'].rstrip('/')}/{self._config['dbfilename']}"
            self.host.need_space(self.spool, int(self._description["memory"]), f"component {self.server.component}")
            with servers.opened(self.server, files, source) as stream:
                # What is open now stays what it is, whatever is saved next.
                self._same(client, saves=True)
                with to.open("wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 18)

    def _same(self, client: Any, *, saves: bool = False) -> Mapping[str, Any]:
        """Return what the server says; SourceError when it was started again, or (with `saves`) began another save."""
        told: Mapping[str, Any] = client.info()
        if told["run_id"] != self.told["run_id"]:
            raise SourceError("was started again during the save", where=self.server.where, fix="run the plan again")
        if saves and told.get("rdb_saves") != self.told.get("rdb_saves"):
            what = "another save took the place of ours before it was copied"
            raise SourceError(what, where=self.server.where, fix="run the plan again")
        return told

    def _append_only(self, files: Files) -> list[Stream]:
        """Copy the append-only files up to the moment of the fork; names and their number are always the same."""
        if not self.told["aof_enabled"]:
            return []
        name, folder = self._config["appendfilename"], self._config["appenddirname"]
        base = f"{self._config['dir'].rstrip('/')}/{folder}"
        cut = int(self.told["aof_current_size"]) + int(self.told["aof_buffer_length"])
        self._await_written(cut)
        listed = self._manifest(files, f"{base}/{name}.manifest")
        target = self.spool / AOF
        target.mkdir()
        kept, copied = [], 0
        for kind, word in (("b", "base"), ("i", "incr")):
            paths = [path for path, one in listed if one == kind]
            suffix = paths[0].rsplit(".", 1)[-1] if paths else "aof"
            if not paths:
                continue
            to = target / f"{name}.1.{word}.{suffix}"
            for path in paths:
                most = cut - copied if kind == "i" else None
                copied += servers.append(self.server, files, f"{base}/{path}", to, most)
            kept.append((to.name, kind))
        if copied != cut or self._manifest(files, f"{base}/{name}.manifest") != listed:
            raise self._rewritten()
        lines = "".join(f"file {one} seq 1 type {kind}\n" for one, kind in kept)
        (target / f"{name}.manifest").write_text(lines)
        return [
            Stream(f"{AOF}/{one.name}", partial(_opened, one), expected_bytes=one.stat().st_size, varies=True)
            for one in sorted(target.iterdir())
        ]

    def _rewritten(self) -> SourceError:
        what = "its append-only files were rewritten during the copy"
        return SourceError(what, where=self.server.where, fix="run the plan again, without BGREWRITEAOF meanwhile")

    def _await_written(self, cut: int) -> None:
        deadline = time.monotonic() + _FLUSH_SECONDS
        with session(self.server) as client:
            while int((told := self._same(client))["aof_current_size"]) < cut:
                if told["aof_base_size"] != self.told["aof_base_size"]:
                    raise self._rewritten()
                if time.monotonic() > deadline:
                    raise SourceError(
                        f"did not write its append-only file within {_FLUSH_SECONDS} s", where=self.server.where
                    )
                time.sleep(servers.POLL_SECONDS)

    def _manifest(self, files: Files, path: str) -> list[tuple[str, str]]:
        """Return the files that a manifest lists with their types (`b` base, `i` increment), but for those given up."""
        with servers.opened(self.server, files, path) as stream:
            text = stream.read().decode(errors="replace")
        found = []
        for line in text.splitlines():
            words = dict(zip(line.split()[::2], line.split()[1::2], strict=False))
            if words.get("type") in ("b", "i") and "/" not in words.get("file", "/"):
                found.append((words["file"].strip('"'), words["type"]))
        return found

    def _configuration(self, files: Files) -> list[Stream]:
        path = str(self.told.get("config_file") or "")
        if not path:
            return []
        to = self.spool / CONFIG
        servers.append(self.server, files, path, to)
        for line in to.read_text(errors="replace").splitlines():
            if line.strip().lower().startswith("include "):
                self.notes.append(f"{path} includes {line.split(None, 1)[1]}: take that with a component of files")
        return [Stream(CONFIG, partial(_opened, to), secret=True)]

    # The proof

    def outcome(self, indexes: Mapping[str, Index]) -> Outcome:  # noqa: ARG002 - there are no trees
        """Return the fingerprint of what was copied, by a second server that loads it."""
        if self._found is None:
            self._found = self._fingerprint()
        return Outcome(self._found, "snapshot", self.notes)

    def _fingerprint(self) -> Fingerprint:
        salt = bytes.fromhex(self._description["salt"])
        if self.depth == "content":
            try:
                with self.place() as directory:
                    scratch = Scratch(self.server, directory)
                    try:
                        scratch.start(self.spool / RDB, needs(self._description))
                        found = content(scratch, self._users, salt)
                    finally:
                        scratch.stop()
                self._compare({name.removesuffix(" keys"): one for name, one in found.counts.items()})
                return found
            except NoRoomError as error:
                self.notes.append(f"only counts were fingerprinted, which proves no content: {error.what}")
        counted = fingerprint.counts(self._description["keyspace"])
        return Fingerprint(fingerprint.ALGORITHM, "catalog", fingerprint.users(self._users, salt), counted)

    def _compare(self, found: Mapping[str, int]) -> None:
        """Raise SourceError when what was loaded has not as many keys as the server had at the fork."""
        there = {name: one[0] for name, one in self._description["keyspace"].items()}
        here = {name: one for name, one in found.items() if " " not in name}
        if self._exact and there != here:
            what = f"the saved file is not of the moment of the fork: {there} keys then, {here} in it"
            raise SourceError(what, where=self.server.where, fix="run the plan again")


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def needs(description: Mapping[str, Any]) -> Needs:
    """Return what a server needs to load a point's RDB."""
    databases = int(description["config"].get("databases", 16))
    return Needs(databases, int(description["memory"]), description["modules"])


def content(scratch: Scratch, users: list[str], salt: bytes) -> Fingerprint:
    """Return the fingerprint of a throw-away server's data, and of the users that belong to it."""
    digest = fingerprint.Digest()
    with scratch.session() as client:
        scratch.spent = fingerprint.take_vector_sets(client, digest)
    with scratch.rewritten() as stream:
        fingerprint.read(stream, digest)
    parts = digest.parts() | fingerprint.users(users, salt)
    return Fingerprint(fingerprint.ALGORITHM, "content", parts, fingerprint.counts(digest.keyspace()))


def check_whole(path: Path, where: str) -> None:
    """Raise SourceError unless a file begins and ends as an RDB file does."""
    with path.open("rb") as stream:
        head = stream.read(9)
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 9))
        tail = stream.read(9)
    if not head.startswith((b"REDIS", b"VALKEY")) or tail[:1] != bytes([_EOF]):
        raise SourceError("the copied RDB file is not whole", where=where, fix="run the plan again")
