# SPDX-License-Identifier: GPL-3.0-or-later
"""The mongodb source's parts that need no server: names, sums, streams, versions, arguments."""

import base64
import io
import itertools
import json
import subprocess
import sys

import pytest

from restaura.errors import DamagedError, RestauraError
from restaura.mongodb import fingerprint, restore, tools
from restaura.mongodb.catalog import Collection, escaped, skipped
from restaura.mongodb.server import Server


def document(number: int) -> bytes:
    """Return {"n": number} in BSON (bsonspec.org)."""
    body = b"\x10n\0" + number.to_bytes(4, "little") + b"\0"
    return (len(body) + 4).to_bytes(4, "little") + body


DOCUMENTS = [document(number) for number in range(1, 40)]
STREAM = b"".join(DOCUMENTS)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("orders", "orders"),
        ("fs.chunks", "fs.chunks"),
        ("a/b c%", "a%2Fb%20c%25"),
        ("&+:=@~;,?!*'()", "&+:=@~%3B%2C%3F%21%2A%27%28%29"),
        ("é", "%C3%A9"),
        ("a" * 238, "a" * 238),
    ],
)
def test_files_have_mongodumps_names(name: str, file: str) -> None:
    assert escaped(name) == file


def test_a_long_name_is_cut_and_told_from_others_by_its_digest() -> None:
    # printf %s aaa… | sha1sum
    digest = base64.urlsafe_b64encode(bytes.fromhex("fdc30857cf7b957f47ebd8288d5e5d7426f44394")).decode().rstrip("=")
    assert escaped("a" * 239) == "a" * 208 + "%24" + digest


def test_no_stored_name_is_longer_than_a_file_system_takes_with_what_a_store_adds() -> None:
    one = Collection("d" * 60, "ü" * 200, type="collection")
    names = (one.metadata_file, one.data_file, one.export_file)
    assert max(len(name.rpartition("/")[2].encode()) for name in names) + len(".01234567.part.zst.age") < 255
    other = Collection("d" * 60, "ü" * 199 + "u")
    assert one.data_file != other.data_file


@pytest.mark.parametrize(
    ("database", "name", "out"),
    [
        ("shop", "orders", False),
        ("shop", "system.js", False),
        ("shop", "system.views", True),
        ("shop", "system.buckets.t", True),
        ("admin", "system.users", True),
        ("admin", "system.js", True),
        ("shop", "restaura_kept_1_2", True),
        ("shop", "system.buckets.restaura_stage_1_2", True),
    ],
)
def test_what_is_the_servers_own_or_ours_is_left_out(database: str, name: str, out: bool) -> None:
    assert skipped(database, name) is out


def total(data: bytes, *, ordered: bool = False) -> str:
    found = fingerprint.Sum(ordered=ordered)
    found.add(data)
    return str(found)


def test_the_sum_has_no_order_and_sees_every_bit() -> None:
    whole = total(STREAM)
    assert total(b"".join(reversed(DOCUMENTS))) == whole
    assert total(STREAM, ordered=True) != total(b"".join(reversed(DOCUMENTS)), ordered=True)
    assert total(STREAM + DOCUMENTS[0]) != whole
    assert total(b"".join(DOCUMENTS[1:])) != whole
    # Twice the one and none of the other is not both.
    assert total(DOCUMENTS[0] * 2) != total(DOCUMENTS[0] + DOCUMENTS[1])
    for position in range(7, 11):
        changed = bytearray(STREAM)
        changed[position] ^= 1
        assert total(bytes(changed)) != whole


@pytest.mark.parametrize("size", [1, 3, 12, 13, 1000])
def test_a_stream_is_cut_where_documents_end(size: int) -> None:
    cutter = fingerprint.Cutter()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    whole = [cutter.whole(piece) for piece in pieces]
    cutter.end()
    assert [bytes(one) for piece in whole for one in fingerprint.documents(piece)] == DOCUMENTS


@pytest.mark.parametrize("data", [STREAM[:-1], STREAM + b"\5\0\0\0", STREAM + b"\4\0\0\0\0", STREAM[:-1] + b"\1"])
def test_half_a_document_is_damage(data: bytes) -> None:
    with pytest.raises(DamagedError):
        [list(fingerprint.documents(one)) for one in restore.batches(io.BytesIO(data))]


def test_versions_compare_by_their_release() -> None:
    assert restore.numbers("7.0.5") == (7, 0)
    assert restore.numbers("6.0.14-rc1") < restore.numbers("7.0")
    assert restore.numbers("8.0") < restore.numbers("8.2.1")


def test_the_password_reaches_the_tools_by_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script is run with a program that tells its arguments, environment and what it reads."""
    program = (
        "import json, os, sys; f = sys.argv[sys.argv.index('--config') + 1]; print(json.dumps("
        "[sys.argv[1:], dict(os.environ), open(f).read(), os.path.realpath(f), sys.stdin.read()]))"
    )
    secret = '{"password": "s3cret: \\"x\\""}'
    argv = ["sh", "-c", tools._SCRIPT, "sh", str(len(secret)), sys.executable, "-c", program, "--db=shop", "-"]
    done = subprocess.run(argv, input=secret + "documents", capture_output=True, text=True, check=True)
    words, environment, config, path, rest = json.loads(done.stdout)
    assert (config, rest) == (secret, "documents")
    assert words == ["--db=shop", "-", "--config", "/dev/fd/3"]
    assert "s3cret" not in json.dumps([words, environment])
    assert path.endswith("(deleted)")


def test_a_password_file_that_is_gone_is_told(tmp_path: object) -> None:
    with pytest.raises(RestauraError, match="password file cannot be read"):
        Server("mongodb", passfile=f"{tmp_path}/none").password()


def test_every_kind_of_collection_has_its_files() -> None:
    kinds = ("collection", "view", "timeseries")
    found = {kind: Collection("shop", "x", type=kind) for kind in kinds}
    assert [found[kind].data_file for kind in kinds] == ["dump/shop/x.bson", "", "dump/shop/system.buckets.x.bson"]
    assert [bool(found[kind].export_file) for kind in kinds] == [True, False, False]
    assert {found[kind].metadata_file for kind in kinds} == {"dump/shop/x.metadata.json"}
    assert len(set(itertools.chain(*(one.mongodump_files() for one in found.values())))) == 3
