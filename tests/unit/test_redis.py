# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the redis source needs no server: the digest of commands, the reading of replies, and command lines."""

import io
from pathlib import Path

import pytest

from restaura.errors import SourceError
from restaura.redis import capture, fingerprint, server, swap


def aof(*commands: str | bytes) -> io.BytesIO:
    """Return commands as an append-only file has them; words are parted by spaces."""
    text = b""
    for one in commands:
        words = (one.encode() if isinstance(one, str) else one).split(b" ")
        text += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return io.BytesIO(text)


def parts(*commands: str | bytes) -> dict[str, str]:
    return fingerprint.read(aof(*commands)).parts()


def test_the_order_of_keys_members_and_commands_says_nothing() -> None:
    one = parts(
        "SELECT 0", "SET a 1", "SADD s x y", "SADD s z", "ZADD z 1.50 m 2 n", "HMSET h f 1 g 2", "PEXPIREAT h 9"
    )
    other = parts(
        "SELECT 0", "HSET h g 2", "HSET h f 1", "PEXPIREAT h 9", "ZADD z 2 n 1.5 m", "SADD s z y x", "SET a 1"
    )
    assert one == other
    assert set(one) == {f"db0 {kind}" for kind in ("string keys", "set keys", "sorted set keys", "hash keys")} | {
        "db0 times of expiry"
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["RPUSH l a b"], ["RPUSH l b a"]),
        (["RPUSH l a b"], ["RPUSH l ab"]),
        (["SET a 1"], ["SET b 1"]),
        (["SET a 1", "SET b 2"], ["SET a 2", "SET b 1"]),
        (["SADD s a b"], ["RPUSH s a b"]),
        (["SADD s a"], ["SADD s a", "PEXPIREAT s 9"]),
        (["SET a 1", "PEXPIREAT a 9"], ["SET a 1", "PEXPIREAT a 8"]),
        (["ZADD z 0.1 a"], ["ZADD z 0.10000000000000002 a"]),
        (["HSET h f v"], ["HSET h v f"]),
        (["HSET h f v"], ["HSET h f v", "HPEXPIREAT h 9 FIELDS 1 f"]),
        (["XADD x 1-1 f v"], ["XADD x 1-2 f v"]),
        (["XADD x 1-1 f v"], ["XADD x 1-1 f v", "XGROUP CREATE x g 0-0"]),
        (["NEWTYPE k 1"], ["NEWTYPE k 2"]),
        (["SELECT 1", "SET a 1"], ["SELECT 2", "SET a 1"]),
        (["FUNCTION LOAD #!lua\tname=f\nx"], ["FUNCTION LOAD #!lua\tname=f\ny"]),
        ([b"SET a " + b"x" * 70_000], [b"SET a " + b"x" * 69_999 + b"y"]),
    ],
)
def test_every_difference_shows(one: list[str], other: list[str]) -> None:
    assert parts(*one) == parts(*one)
    assert parts(*one) != parts(*other)


def test_keys_are_counted_as_the_server_counts_them() -> None:
    digest = fingerprint.read(
        aof("SELECT 0", "SET a 1", "PEXPIREAT a 9", "SET b 1", "SELECT 3", "RPUSH l x", "RPUSH l y")
    )
    told = {"db0": {"keys": 2, "expires": 1}, "db3": {"keys": 1, "expires": 0}, "db0_distrib": {}, "redis_mode": "x"}
    assert digest.keyspace() == server.keyspace_of(told) == {"db0": [2, 1], "db3": [1, 0]}
    assert fingerprint.counts(digest.keyspace()) == {"db0 keys": 2, "db0 keys that expire": 1, "db3 keys": 1}


@pytest.mark.parametrize("wrong", [b"*1\r\n$5\r\nabc", b"*2\r\n$1\r\na\r\n", b"hello\r\n", b"*1\r\n:5\r\n"])
def test_what_is_no_whole_append_only_file_is_an_error(wrong: bytes) -> None:
    with pytest.raises(SourceError, match="append-only file"):
        fingerprint.read(io.BytesIO(wrong))


def test_users_are_digested_with_a_salt() -> None:
    lines = ["user a on #abc ~* +@all", "user b off sanitize-payload ~x -@all (~y +get)"]
    salted = fingerprint.users(lines, b"1")
    assert set(salted) == {"user a", "user b"}
    assert salted != fingerprint.users(lines, b"2")
    assert fingerprint.users(["user b off ~x -@all (~y +get)"], b"1") == {"user b": salted["user b"]}


def test_a_file_that_is_cut_or_no_rdb_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(b"REDIS0011" + b"data" + b"\xff" + b"8" * 8)
    capture.check_whole(path, "here")
    for wrong in (path.read_bytes()[:-1], b"HTTP/1.1 " + path.read_bytes(), b""):
        path.write_bytes(wrong)
        with pytest.raises(SourceError, match="not whole"):
            capture.check_whole(path, "here")


def test_the_command_line_holds_no_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("Pw-1\n")
    reached = server.Server("cache", host="db1", port=7000, user="u", passfile=str(secret), tls=True, tls_ca_file="/ca")
    words, env = reached.command_line()
    assert words == ["redis-cli", "-h", "db1", "-p", "7000", "--user", "u", "--tls", "--cacert", "/ca"]
    assert env == {"REDISCLI_AUTH": "Pw-1"}
    assert server.Server.from_json(reached.to_json()) == reached
    assert "Pw-1" not in str(reached.to_json())


def test_a_process_that_is_no_redis_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no process of this host") as caught:
        server.files_of(server.Server("cache"), {"process_id": 1})
    assert "set container of component cache" in caught.value.fix
    assert server.files_of(server.Server("cache", host="10.0.0.7"), {"process_id": 1}) is None


def test_undoing_what_never_began_does_nothing(tmp_path: Path) -> None:
    swap.undo({"directory": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
