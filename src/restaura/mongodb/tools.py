# SPDX-License-Identifier: GPL-3.0-or-later
"""mongodump and mongorestore, on the host or in the server's container, one collection at a time by their pipes."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from restaura.errors import RestauraError, SourceError
from restaura.mongodb.catalog import Collection
from restaura.mongodb.server import Server
from restaura.runners import Runner, Running, reading, run
from restaura.runners.container import ContainerRunner
from restaura.runners.host import HostRunner

_CHUNK = 1 << 18
# The password is in no argument, no environment and no file with a name. The programs' own configuration (--config) is
# the first bytes of standard input, copied one by one so that nothing of what follows is lost, opened and unlinked.
_SCRIPT = (
    "umask 077; f=$(mktemp /dev/shm/restaura.XXXXXX 2>/dev/null || mktemp) || exit 1; "
    'dd bs=1 count="$1" of="$f" 2>/dev/null; exec 3<"$f"; rm -f "$f"; shift; exec "$@" --config /dev/fd/3'
)
_FAILED = re.compile(r"(\d+) document\(s\) failed to restore")


@dataclass(frozen=True)
class Tools:
    """The two programs of one server, and where they run."""

    server: Server
    version: str

    @classmethod
    def find(cls, server: Server) -> "Tools | None":
        """Return the programs when both are on the host, or in the server's container; None otherwise."""
        try:
            for name in ("mongorestore", "mongodump"):
                said = run(_runner(server), [name, "--version"])[1].decode(errors="replace")
        except RestauraError:
            return None
        found = re.search(r"\d+(\.\d+)+", said)
        return cls(server, found.group() if found else said.strip())

    @contextlib.contextmanager
    def dump(self, collection: Collection) -> Iterator[IO[bytes]]:
        """Yield the documents of a collection; leaving raises SourceError unless mongodump ended well."""
        argv = self._argv("mongodump", collection.database, collection.name, "--out=-")
        with self._failing(argv[0]), reading(self._start(argv), argv[:1]) as stream:
            yield stream

    def restore(self, database: str, name: str, stream: IO[bytes]) -> None:
        """Insert a stream's documents into a collection that exists; SourceError unless every one is in."""
        words = ("--noIndexRestore", "--stopOnError", "--maintainInsertionOrder", "--bypassDocumentValidation", "-")
        argv = self._argv("mongorestore", database, name, *words)
        with self._failing(argv[0]):
            running = self._start(argv)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    shutil.copyfileobj(stream, running.stdin, _CHUNK)
                    running.stdin.close()
                running.stdout.read()
                code, said = running.wait(), running.errors()
            finally:
                running.close()
            failed = _FAILED.findall(said)
            # It exits 0 also when documents were refused.
            if code or not failed or failed[-1] != "0":
                raise RestauraError(f"mongorestore into {database}.{name} ended with exit code {code}: {said}")
            while stream.read(_CHUNK):
                pass

    @contextlib.contextmanager
    def _failing(self, program: str) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except RestauraError as error:
            raise SourceError(error.what, where=f"{program}, {self.server.where}", fix=error.fix) from error

    def _argv(self, program: str, database: str, collection: str, *words: str) -> list[str]:
        server = self.server
        host = "localhost" if server.container else server.host
        argv = [program, f"--host={host}", f"--port={server.port}"]
        if server.user:
            argv += [f"--username={server.user}", f"--authenticationDatabase={server.auth_database}"]
        if server.tls:
            argv.append("--ssl")
        if server.tls and not server.container:
            files = {"--sslCAFile": server.tls_ca_file, "--sslPEMKeyFile": server.tls_certificate_key_file}
            argv += [f"{key}={value}" for key, value in files.items() if value]
        elif server.tls:
            # The certificate's authority is on this host, the programs are in the container, beside the server.
            argv.append("--tlsInsecure")
        return [*argv, f"--db={database}", f"--collection={collection}", *words]

    def _start(self, argv: list[str]) -> Running:
        # A JSON text is YAML too.
        configuration = json.dumps({"password": self.server.password() or ""}).encode()
        running = _runner(self.server).start(
            ["sh", "-c", _SCRIPT, "sh", str(len(configuration)), *argv], env={}, stdin=True
        )
        with contextlib.suppress(BrokenPipeError):
            running.stdin.write(configuration)
            running.stdin.flush()
        if argv[0] == "mongodump":
            running.stdin.close()
        return running


def _runner(server: Server) -> Runner:
    return ContainerRunner(server.container) if server.container else HostRunner()
