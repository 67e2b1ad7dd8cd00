# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint `redis-1`: of the commands that a server itself writes to build its data anew.

A throw-away server that loaded the RDB rewrites it as an append-only file without RDB preamble: every value by its
type, every time of expiry absolute, and also keys that expired since. So the digest depends neither on encodings nor on
the clock. Vector sets, of which Redis can write no commands, are asked for element by element. For each database and
type there are the number of keys and a sum of 128-bit hashes, one of each key. Items without an order (members, fields)
are summed too. Not covered: idle times, LFU counters, and when consumers were seen.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from restaura.errors import SourceError
from restaura.redis.server import modules_of

ALGORITHM = "redis-1"
_WHOLE = 1 << 128
_LARGE = 1 << 16
_CHUNK = 1 << 18
_TOGETHER = 500
# What of VINFO makes a vector set another one.
_SHAPE = (b"quant-type", b"vector-dim", b"projection-input-dim", b"hnsw-m", b"size")
_KINDS = {
    b"SET": "string",
    b"RPUSH": "list",
    b"SADD": "set",
    b"ZADD": "sorted set",
    b"HMSET": "hash",
    b"HSET": "hash",
    b"XADD": "stream",
    b"XSETID": "stream",
    b"XGROUP": "stream",
    b"XCLAIM": "stream",
}


def commands(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Yield the commands of an append-only file; an argument over 64 KB is yielded as its hash and length.

    SourceError when the file is no such file, or ends in the middle.
    """
    while head := stream.readline():
        if head.startswith(b"#"):
            continue
        if not head.startswith(b"*"):
            raise SourceError(f"is no append-only file: {head[:40]!r}", where="redis fingerprint")
        yield [_argument(stream) for _ in range(int(head[1:]))]


def _argument(stream: IO[bytes]) -> bytes:
    head = stream.readline()
    size = int(head[1:]) if head.startswith(b"$") else -1
    if 0 <= size <= _LARGE:
        data = stream.read(size + 2)
        if len(data) == size + 2:
            return data[:-2]
    elif size > _LARGE:
        digest, left = hashlib.blake2b(digest_size=32), size
        while left and (chunk := stream.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        if not left and len(stream.read(2)) == 2:
            return b"\0large\0%d\0" % size + digest.digest()
    raise SourceError("the append-only file ends in the middle of a command", where="redis fingerprint")


def _hash(*parts: bytes) -> int:
    body = b"".join([b"%d:%b" % (len(one), one) for one in parts])
    return int.from_bytes(hashlib.blake2b(body, digest_size=16).digest(), "big")


@dataclass
class _Key:
    """One key while its commands pass: `ordered` is the hash of what has an order, `total` the sum of what has none."""

    name: bytes
    kind: str
    ordered: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    total: int = 0
    items: int = 0
    expiry: bytes = b""

    def append(self, args: Sequence[bytes]) -> None:
        for one in args:
            self.ordered.update(b"%d:%b" % (len(one), one))
        self.items += len(args)

    def add(self, *args: bytes) -> None:
        self.total = (self.total + _hash(*args)) % _WHOLE
        self.items += 1

    def take(self, name: bytes, args: Sequence[bytes]) -> None:
        """Take one command of this key; `args` are those after the key."""
        if name == b"SADD":
            for one in args:
                self.add(one)
        elif name in (b"ZADD", b"HMSET", b"HSET"):
            for first, second in zip(args[::2], args[1::2], strict=True):
                # Versions write a score in different ways.
                self.add(repr(float(first)).encode() if name == b"ZADD" else first, second)
        elif name == b"HPEXPIREAT":
            for one in args[3:]:
                self.add(b"expires", args[0], one)
        elif name == b"PEXPIREAT":
            self.expiry = args[0]
        else:
            self.append(args if name in (b"SET", b"RPUSH") else [name, *args])


@dataclass
class Digest:
    """What was digested so far: sums by (database, what), and how many there were of each."""

    sums: dict[tuple[int, str], int] = field(default_factory=dict)
    numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    functions: list[bytes] = field(default_factory=list)

    def add(self, database: int, key: _Key) -> None:
        """Count one key in."""
        body = (key.kind.encode(), key.name, key.ordered.digest(), b"%d" % key.total, b"%d" % key.items)
        self._sum(database, f"{key.kind} keys", _hash(*body))
        if key.expiry:
            self._sum(database, "times of expiry", _hash(key.name, key.expiry))

    def _sum(self, database: int, what: str, value: int) -> None:
        place = (database, what)
        self.sums[place] = (self.sums.get(place, 0) + value) % _WHOLE
        self.numbers[place] = self.numbers.get(place, 0) + 1

    def keyspace(self) -> dict[str, list[int]]:
        """Return the number of keys, and of keys that expire, by database, as `server.keyspace_of` does."""
        found: dict[str, list[int]] = {}
        for (database, what), number in self.numbers.items():
            found.setdefault(f"db{database}", [0, 0])[what == "times of expiry"] += number
        return found

    def parts(self) -> dict[str, str]:
        """Return the digest of each part."""
        found = {f"db{db} {what}": f"{self.numbers[db, what]}:{value:032x}" for (db, what), value in self.sums.items()}
        for code in self.functions:
            name = code.split(b"\n", 1)[0].partition(b"name=")[2].split(b" ")[0].decode(errors="replace")
            found[f"functions: {name}"] = hashlib.sha256(code).hexdigest()
        return found


def take_vector_sets(client: Any, digest: Digest) -> bool:
    """Digest the vector sets of a throw-away server and delete them there; return whether there was one.

    The child that should write them as commands dies of them (github.com/redis/redis/issues/15387).
    """
    if not any(one["name"] == "vectorset" for one in modules_of(client.execute_command("MODULE", "LIST"))):
        return False
    found = False
    # Newer clients make objects of these answers.
    for name in ("VEMB", "VGETATTR", "VINFO", "VRANDMEMBER"):
        client.response_callbacks.pop(name, None)
    for database in [int(name[2:]) for name in client.info("keyspace")]:
        client.execute_command("SELECT", database)
        for name in list(client.scan_iter(_type="vectorset", count=1000)):
            digest.add(database, _vector_set(client, database, name))
            if not found:
                client.config_set("replica-read-only", "no")
            client.execute_command("DEL", name)
            found = True
    return found


def _vector_set(client: Any, database: int, name: bytes) -> _Key:
    key = _Key(name, "vector set")
    info = client.execute_command("VINFO", name)
    told = dict(zip(info[::2], info[1::2], strict=True))
    key.append([b"%b" % told[one] if isinstance(told[one], bytes) else b"%d" % told[one] for one in _SHAPE])
    members = client.execute_command("VRANDMEMBER", name, told[b"size"])
    for number in range(0, len(members), _TOGETHER):
        some = members[number : number + _TOGETHER]
        asked = client.pipeline(transaction=False)
        # It has a connection of its own.
        asked.execute_command("SELECT", database)
        for one in some:
            asked.execute_command("VEMB", name, one, "RAW")
            asked.execute_command("VGETATTR", name, one)
        _, *answers = asked.execute()
        for one, vector, attributes in zip(some, answers[::2], answers[1::2], strict=True):
            key.add(one, *vector, attributes or b"")
    if (expiry := client.execute_command("PEXPIRETIME", name)) > 0:
        key.expiry = b"%d" % expiry
    return key


def read(stream: IO[bytes], digest: Digest | None = None) -> Digest:
    """Digest an append-only file that a server has just rewritten: the commands of a key follow one another."""
    database, key = 0, None
    digest = Digest() if digest is None else digest
    for name, *args in commands(stream):
        verb = name.upper()
        if verb in (b"SELECT", b"FUNCTION"):
            if key is not None:
                digest.add(database, key)
                key = None
            if verb == b"SELECT":
                database = int(args[0])
            else:
                digest.functions.append(args[-1])
            continue
        place = 1 if verb == b"XGROUP" else 0
        if key is None or args[place] != key.name:
            if key is not None:
                digest.add(database, key)
            key = _Key(args[place], _KINDS.get(verb, f"other ({verb.decode(errors='replace').lower()})"))
        key.take(verb, [*args[:place], *args[place + 1 :]])
    if key is not None:
        digest.add(database, key)
    return digest


def counts(keyspace: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return what is counted, of a keyspace."""
    found = {f"{name} keys": one[0] for name, one in keyspace.items()}
    return found | {f"{name} keys that expire": one[1] for name, one in keyspace.items() if one[1]}


def users(lines: Sequence[str], salt: bytes) -> dict[str, str]:
    """Return a salted digest of each user's rules, of the lines that ACL LIST gives."""
    found = {}
    for line in lines:
        _, name, *rules = line.split(" ")
        # Said from version 7.0 on, and always the default.
        rules = [one for one in rules if one != "sanitize-payload"]
        found[f"user {name}"] = hmac.new(salt, " ".join(rules).encode(errors="surrogateescape"), "sha256").hexdigest()
    return found
