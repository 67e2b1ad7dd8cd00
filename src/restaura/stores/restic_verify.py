# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what snapshots hold against what was stored: presence and sizes from a listing, contents from a tar of it all.

One reading of a snapshot serves all its artifacts, so that a hundred small dumps cost one start of restic.
"""

import contextlib
import hashlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from restaura.errors import DamagedError
from restaura.stores.repository import Node, Repository, nodes
from restaura.stores.restic_tree import Names
from restaura.trees import Index

if TYPE_CHECKING:
    from restaura.host import Host

CHUNK = 1 << 18


class SnapshotCheck:
    """Reads snapshots of one repository, each at most once for sizes and once for contents."""

    def __init__(self, repository: Repository, host: "Host") -> None:
        self._repository, self._host = repository, host
        self._sizes: dict[str, dict[str, int]] = {}
        self._reading: dict[str, Future[dict[str, tuple[int, str]]]] = {}
        self._pool = ThreadPoolExecutor(1)

    def sizes(self, snapshot: str) -> dict[str, int]:
        """Return the size of every file of a small snapshot, by path."""
        if snapshot not in self._sizes:
            self._sizes[snapshot] = {one.path: one.size for one in self._nodes(snapshot) if one.type == "file"}
        return self._sizes[snapshot]

    def read(self, snapshot: str) -> None:
        """Begin to read a small snapshot, for `hashes`."""
        if snapshot not in self._reading:
            self._reading[snapshot] = self._pool.submit(self._read, snapshot)

    def is_read(self, snapshot: str) -> bool:
        """Whether a snapshot was read, or is being read."""
        return snapshot in self._reading

    def hashes(self, snapshot: str) -> dict[str, tuple[int, str]]:
        """Return size and SHA-256 of every file of a small snapshot, by path; only of some when it is damaged."""
        self.read(snapshot)
        return self._reading[snapshot].result()

    def _read(self, snapshot: str) -> dict[str, tuple[int, str]]:
        found = {}
        with contextlib.suppress(DamagedError, tarfile.TarError):
            for path, size, digest, _ in self._members(snapshot):
                found[path] = size, digest
        return found

    def tree(self, snapshot: str, index: Index | None, full: bool, where: str) -> None:
        """Hold a tree's snapshot against its index; DamagedError says how many entries are wrong and names the first.

        Without an index, only that the snapshot can be read. Directories and fifos hold nothing to read.
        """
        left = {one.path: one for one in (index.entries if index else ()) if one.type in {"file", "link"}}
        wrong = []
        if full:
            try:
                for path, size, digest, link in self._members(snapshot):
                    one = left.pop(path, None)
                    if one and (size, link, digest) != (
                        one.size * (one.type == "file"),
                        one.link,
                        one.sha256 or digest,
                    ):
                        wrong.append(path)
            except tarfile.TarError as error:
                raise DamagedError(f"the tree cannot be read whole: {error}", where=where) from error
        else:
            names = Names(left.values())
            for node in self._nodes(snapshot):
                one = left.pop(names.exact(node) or "", None)
                if one and (one.type, one.size) != (node.type, node.size if node.type == "file" else one.size):
                    wrong.append(one.path)
        wrong += left
        if wrong:
            text = f"{len(wrong)} entries are missing or not what was stored, first {wrong[0]!r}"
            raise DamagedError(text, where=where, fix="restore from another store or point")

    def _nodes(self, snapshot: str) -> Iterator[Node]:
        with self._host.spool("listing") as folder, (folder / "listing").open("w+b") as listing:
            self._repository.list(snapshot, listing)
            listing.seek(0)
            yield from nodes(listing)

    def _members(self, snapshot: str) -> Iterator[tuple[str, int, str, str]]:
        """Yield path, size, SHA-256 and link target of every file and symbolic link."""
        with self._repository.archive(snapshot) as stream:
            with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
                for member in tar:
                    if member.isreg() and (content := tar.extractfile(member)):
                        digest = hashlib.sha256()
                        while chunk := content.read(CHUNK):
                            digest.update(chunk)
                        yield member.name, member.size, digest.hexdigest(), ""
                    elif member.issym():
                        yield member.name, 0, "", member.linkname
                    # tarfile keeps every header it saw.
                    tar.members.clear()  # type: ignore[attr-defined]
            while stream.read(CHUNK):
                pass
