# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees as GNU tar archives: packed from exactly an index's entries, unpacked only as far as a signed index allows.

GNU tar writes and reads them; the stream is parsed on its way (pax headers as POSIX.1-2001 and GNU tar's manual,
"Sparse Formats", PAX 1.0, have them), which hashes every file, and keeps from tar whatever the index does not hold.
"""

import contextlib
import hashlib
import io
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from restaura.errors import DamagedError, RestauraError, StoreError
from restaura.process import Child, failure
from restaura.sources import Tree
from restaura.stores import StoredEntry
from restaura.trees import Entry, Index

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 512
CHUNK = 1 << 20
WATCH_SECONDS = 1.0
LONGEST_PAX = 64 << 20
ZEROS = bytes(CHUNK)
TYPES = {"0": "file", "\0": "file", "7": "file", "1": "hard", "2": "link", "3": "char", "4": "block", "5": "dir"}
TYPES["6"] = "fifo"
# What tar says of files that changed under it; what the archive holds of them is settled against the index.
HARMLESS = re.compile(
    r"tar: (.*: (Cannot (stat|open|readlink): (No such file or|Not a) directory|File removed before we read it"
    r"|file changed as we read it|File shrank by \d+ bytes?; padding with zeros|Warning: Cannot \w+: [^:]*)"
    r"|Exiting with failure status due to previous errors)"
)


@dataclass
class Member:
    """One member of an archive. `type` is an EntryType or `hard`, whose `link` is the path of an earlier member.

    `size` is that of the file, holes included. `sha256` is known once `content` was read.
    """

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int | None
    link: str
    sha256: str = ""
    head: bytes = field(default=b"", repr=False)


class Archive:
    """A tar stream that is read once, member by member. What `forward` was called for goes on to `copy`."""

    def __init__(self, stream: IO[bytes], copy: Callable[[bytes], object]) -> None:
        self._stream = stream
        self._copy = copy
        self._head = bytearray()
        self._forwarding = False
        self._content: Iterator[bytes] = iter(())

    def members(self) -> Iterator[Member]:
        """Yield the members; content that was not read is skipped. DamagedError when this is no whole archive."""
        while True:
            self._head.clear()
            self._forwarding = False
            header = self._read(BLOCK)
            if not header.strip(b"\0"):
                break
            records: dict[str, bytes] = {}
            if header[156:157] == b"x":
                records = _pax(self._read_padded(_number(_checked(header)[124:136])))
                header = self._read(BLOCK)
            member, stored, sparse = _member(_checked(header), records)
            member.head = bytes(self._head)
            self._content = self._read_content(member, stored, sparse)
            yield member
            for _ in self._content:
                pass
        self._end()

    def forward(self, member: Member) -> None:
        """Copy the current member: its header now, its content as it is read."""
        self._copy(member.head)
        self._forwarding = True

    def content(self) -> Iterator[bytes]:
        """Yield the current member's content, holes as zeros."""
        return self._content

    def _read_content(self, member: Member, stored: int, sparse: bool) -> Iterator[bytes]:
        digest = hashlib.sha256()
        pieces = self._sparse(member, stored) if sparse else self._plain(stored)
        for piece in pieces:
            digest.update(piece)
            yield piece
        self._body(-stored % BLOCK)
        member.sha256 = digest.hexdigest() if member.type == "file" else ""

    def _plain(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._body(min(size, CHUNK))
            size -= len(piece)
            yield piece

    def _sparse(self, member: Member, stored: int) -> Iterator[bytes]:
        """Yield a sparse file: the map (a count, then offset and size of each piece) comes first in its data."""
        text, at = b"", 0
        lines: list[bytes] = []
        while not lines or len(lines) <= 2 * _decimal(lines[0]):
            if stored < BLOCK:
                raise DamagedError(f"{member.path!r} has a broken map of its holes")
            text += self._body(BLOCK)
            stored -= BLOCK
            *more, text = text.split(b"\n")
            lines += more
        numbers = [_decimal(line) for line in lines[1 : 1 + 2 * _decimal(lines[0])]]
        for offset, size in zip(numbers[::2], numbers[1::2], strict=True):
            if offset < at or offset + size > member.size or size > stored:
                raise DamagedError(f"{member.path!r} has a broken map of its holes")
            yield from _zeros(offset - at)
            yield from self._plain(size)
            at, stored = offset + size, stored - size
        if stored:
            raise DamagedError(f"{member.path!r} has a broken map of its holes")
        yield from _zeros(member.size - at)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise DamagedError("the archive broke off")
        self._head += data
        return data

    def _read_padded(self, size: int) -> bytes:
        if size > LONGEST_PAX:
            raise DamagedError(f"the archive has an extended header of {size} bytes")
        return self._read(size + -size % BLOCK)[:size]

    def _body(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) != size:
            raise DamagedError("the archive broke off")
        if self._forwarding:
            self._copy(data)
        return data

    def _end(self) -> None:
        self._copy(bytes(self._head))
        while rest := self._stream.read(CHUNK):
            if rest.strip(b"\0"):
                raise DamagedError("the archive goes on after its end")
            self._copy(rest)


def _zeros(size: int) -> Iterator[bytes]:
    while size:
        piece = ZEROS[: min(size, CHUNK)]
        size -= len(piece)
        yield piece


def _checked(header: bytes) -> bytes:
    if header[257:263] != b"ustar\0" or sum(header) - sum(header[148:156]) + 8 * 32 != _number(header[148:156]):
        raise DamagedError("the archive has a broken header")
    return header


def _number(field_: bytes) -> int:
    """Return a header's number, in octal digits; those that do not fit are in the extended header."""
    digits = field_.strip(b" \0")
    # No regular expressions here: a tree has a great many members.
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise DamagedError("the archive has a broken header")
    return int(digits, 8)


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise DamagedError("the archive has a broken header")
    return int(text)


def _pax(data: bytes) -> dict[str, bytes]:
    """Return the records of an extended header: `LENGTH KEY=VALUE` and a newline each."""
    records = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        end = at + _decimal(data[at : max(at, space)])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if space < 0 or end > len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise DamagedError("the archive has a broken extended header")
        records[key.decode(errors="surrogateescape")] = value
        at = end
    return records


def _nanoseconds(text: bytes) -> int:
    match = re.fullmatch(rb"(-?)(\d+)(?:\.(\d{1,9})\d*)?", text)
    if not match:
        raise DamagedError("the archive has a broken time")
    value = int(match[2]) * 10**9 + int((match[3] or b"0").ljust(9, b"0"))
    return -value if match[1] else value


def _member(header: bytes, records: dict[str, bytes]) -> tuple[Member, int, bool]:
    """Return a member, the bytes that follow its header, and whether they are a sparse file's."""
    kind = TYPES.get(header[156:157].decode("latin-1"))
    sparse = "GNU.sparse.major" in records
    version = (records.get("GNU.sparse.major", b"1"), records.get("GNU.sparse.minor", b"0"))
    if kind is None or (
        any(key.startswith("GNU.sparse.") for key in records) and not (sparse and version == (b"1", b"0"))
    ):
        raise DamagedError("the archive holds a kind of member that no archive of ours has")
    prefix, name = (header[start:end].split(b"\0")[0] for start, end in ((345, 500), (0, 100)))
    path = records.get("GNU.sparse.name") or records.get("path") or (prefix + b"/" + name if prefix else name)
    stored = _decimal(records["size"]) if "size" in records else _number(header[124:136])
    if stored and kind != "file":
        raise DamagedError(f"the archive has content for a {kind}")
    member = Member(
        path=path.decode(errors="surrogateescape").rstrip("/"),
        type=kind,
        mode=_number(header[100:108]) & 0o7777,
        uid=_decimal(records["uid"]) if "uid" in records else _number(header[108:116]),
        gid=_decimal(records["gid"]) if "gid" in records else _number(header[116:124]),
        size=_decimal(records["GNU.sparse.realsize"]) if sparse else stored,
        mtime_ns=_nanoseconds(records["mtime"]) if "mtime" in records else _number(header[136:148]) * 10**9,
        ctime_ns=_nanoseconds(records["ctime"]) if "ctime" in records else None,
        link=records.get("linkpath", header[157:257].split(b"\0")[0]).decode(errors="surrogateescape"),
    )
    return member, stored, sparse


def pack(tree: Tree, write: Callable[[bytes], object], watch: Callable[[], None] = lambda: None) -> list[StoredEntry]:
    """Write a tree's archive and return what it holds, hashed as it flowed; StoreError when a file cannot be read.

    `watch` is called every second, and stops it by raising: tar may wait for a disk meanwhile.

    Files that vanish or change meanwhile are no error here: the entries tell. Sockets cannot be in an archive.
    """
    argv = ["tar", "--create", "--format=posix", "--pax-option=delete=atime", "--no-recursion", "--blocking-factor=128"]
    argv += ["--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "--sparse"]
    argv += [f"--directory={tree.base}", "--null", "--verbatim-files-from", "--no-unquote", "--files-from=-"]
    entries: dict[str, StoredEntry] = {}
    with tempfile.TemporaryFile() as names:
        names.writelines(_bytes(one.path) + b"\0" for one in tree.index.entries if one.type != "socket")
        names.seek(0)
        # LC_ALL=C: its messages are read.
        with Child(argv, env={"LC_ALL": "C"}, stdin=names) as child, _watched(child, watch):
            archive = Archive(child.stdout, write)
            try:
                for member in archive.members():
                    archive.forward(member)
                    for _ in archive.content():
                        pass
                    entries[member.path] = _stored(member, entries)
            except DamagedError as error:
                child.kill()
                raise StoreError(f"tar failed: {error.what}: {child.errors()}", where=str(tree.base)) from error
            code = child.wait()
            problems = [one for one in child.errors(None).splitlines() if not HARMLESS.fullmatch(one)]
            if code not in (0, 1, 2) or (code and problems):
                raise StoreError(failure(argv, code, "\n".join(problems[:20])), where=str(tree.base))
    return list(entries.values())


@contextlib.contextmanager
def _watched(child: Child, watch: Callable[[], None]) -> Iterator[None]:
    """Kill `child` as soon as `watch` raises."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(WATCH_SECONDS):
            try:
                watch()
            except RestauraError:
                child.kill()
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _stored(member: Member, earlier: dict[str, StoredEntry]) -> StoredEntry:
    """Return the entry of a member; a hard link is what it links to."""
    first = earlier[member.link] if member.type == "hard" else None
    return StoredEntry(
        path=member.path,
        type=first.type if first else member.type,
        size=first.size if first else member.size,
        mtime_ns=member.mtime_ns,
        ctime_ns=member.ctime_ns,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        link=first.link if first else member.link,
        sha256=first.sha256 if first else member.sha256 or None,
    )


class Unpacking:
    """Unpacks an archive into `destination`, of which it hands to GNU tar only what `index` holds.

    `devices` are the paths of device nodes, which are never made.
    """

    def __init__(self, index: Index, destination: Path, paths: Sequence[str] | None) -> None:
        self._entries = {entry.path: entry for entry in index.entries}
        self._destination = destination
        wanted = self._entries if paths is None else [one for one in self._entries if _at_or_below(one, paths)]
        self._wanted = set(wanted)
        # A hard link needs the member of its group that has the content, wanted or not.
        self._groups = {_group(self._entries[one]) for one in wanted}
        self._seen: set[str] = set()
        self._extra: list[str] = []
        self.devices: list[str] = []

    def run(self, stream: IO[bytes]) -> None:
        """Unpack; DamagedError as soon as a member is not as the index has it, or at the end when one is missing."""
        argv = ["tar", "--extract", "--preserve-permissions", "--same-owner", "--numeric-owner", "--acls", "--xattrs"]
        argv += ["--xattrs-include=*", "--delay-directory-restore"]
        with Child(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=str(self._destination)) as child:

            def feed(data: bytes) -> None:
                # tar stops reading at the end-of-archive marker, before the padding after it has been written.
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(data)

            self._filter(Archive(stream, feed))
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            if code := child.wait():
                raise StoreError(failure(argv, code, child.errors()), where=str(self._destination))
        missing = [one for one in self._wanted - self._seen if self._entries[one].type != "socket"]
        if missing:
            raise DamagedError(f"the archive lacks {len(missing)} entries of its index, as {min(missing)!r}")
        for path in self._extra:
            self._remove(path)

    def _filter(self, archive: Archive) -> None:
        for member in archive.members():
            entry = self._allowed(member)
            self._seen.add(member.path)
            if entry.type in ("char", "block"):
                self.devices += [member.path] * (member.path in self._wanted)
            elif member.path in self._wanted and member.path != ".":
                archive.forward(member)
            elif member.type == "file" and _group(entry) in self._groups:
                archive.forward(member)
                self._extra.append(member.path)
            for _ in archive.content():
                pass
            if member.type == "file" and entry.sha256 and member.sha256 != entry.sha256:
                raise DamagedError(f"the content of {member.path!r} is not what its index says")

    def _allowed(self, member: Member) -> Entry:
        """Return the index's entry of a member; DamagedError when the two are not the same thing."""
        path, entry = member.path, self._entries.get(member.path)
        if entry is None or (path != "." and any(part in ("", ".", "..") for part in path.split("/"))):
            raise DamagedError(f"the archive holds {path!r}, which its index does not")
        parent = self._entries.get(path.rpartition("/")[0])
        if path in self._seen or (parent is not None and parent.type != "dir"):
            raise DamagedError(f"the archive holds {path!r} twice, or inside of what is no directory")
        first = self._entries.get(member.link) if member.type == "hard" else None
        if member.type == "hard" and (first is None or member.link not in self._seen or not self._linked(entry, first)):
            raise DamagedError(f"the archive links {path!r} to {member.link!r}, which its index does not")
        if (first.type if first else member.type) != entry.type:
            raise DamagedError(f"{path!r} is a {member.type} in the archive and a {entry.type} in its index")
        if member.type == "link" and member.link != entry.link:
            raise DamagedError(f"the archive links {path!r} to {member.link!r}, which its index does not")
        if member.type == "file" and member.size != entry.size:
            raise DamagedError(f"{path!r} has {member.size} bytes in the archive and {entry.size} in its index")
        if entry.whole and member.mode & 0o6000 & ~entry.mode:
            raise DamagedError(f"{path!r} is setuid or setgid in the archive and not in its index")
        return entry

    @staticmethod
    def _linked(entry: Entry, first: Entry) -> bool:
        """Whether the index has both as one file; of a file that changed meanwhile it does not know."""
        return _group(entry) == _group(first) or not (entry.whole and first.whole)

    def _remove(self, path: str) -> None:
        """Remove what only helped a hard link, and the folders that tar made for it."""
        (self._destination / path).unlink()
        folder = path.rpartition("/")[0]
        while folder and folder not in self._wanted and not any((self._destination / folder).iterdir()):
            (self._destination / folder).rmdir()
            folder = folder.rpartition("/")[0]


def read_file(opened: Callable[[], AbstractContextManager[IO[bytes]]], path: str) -> Generator[bytes, None, None]:
    """Yield the content of the file `path` of an archive, which is opened again when that is a hard link."""
    with opened() as stream:
        archive = Archive(stream, lambda _: None)
        for member in archive.members():
            if member.path == path and member.type == "file":
                yield from archive.content()
                return
            if member.path == path and member.type == "hard":
                path = member.link
                break
        else:
            raise DamagedError(f"the archive holds no file {path!r}")
    yield from read_file(opened, path)


class Chunks(io.RawIOBase):
    """An iterator of bytes as a readable stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill as much of `buffer` as there is."""
        view = memoryview(buffer).cast("B")
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        data, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(data)] = data
        return len(data)


def _group(entry: Entry) -> str:
    return entry.hard_link or entry.path


def _at_or_below(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")
