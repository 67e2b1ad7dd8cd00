# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of trees, against the system's own tar; and archives that somebody made to do harm."""

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from restaura import trees
from restaura.errors import DamagedError, StoreError
from restaura.sources import Tree
from restaura.stores import tar
from restaura.trees import Entry, Index

ODD_NAMES = ["-lead", "new\nline", "back\\nslash", "\udcff\udcfe bad", "ü", "*glob?[a]", "a" * 200, " "]
LONG = "/".join(["d" * 60] * 5)


def make_tree(base: Path) -> None:
    """Make a tree of everything that needs no root."""
    for name in ODD_NAMES:
        (base / name).write_bytes(b"content of " + os.fsencode(name))
    (base / LONG).mkdir(parents=True)
    (base / LONG / "deep").write_bytes(b"deep")
    (base / "big").write_bytes(bytes(range(256)) * 9000)
    (base / "empty").touch()
    os.link(base / "big", base / "hard")
    (base / "link").symlink_to("/nowhere/\udcff")
    os.link(base / "link", base / "link2", follow_symlinks=False)
    os.mkfifo(base / "pipe")
    for name, pieces in {"sparse": [(3 << 20, b"a"), (9 << 20, b"bc" * 5000)], "holes": []}.items():
        with (base / name).open("wb") as stream:
            for at, data in pieces:
                stream.seek(at)
                stream.write(data)
            stream.truncate(12 << 20)
    os.utime(base / "empty", ns=(1, 1_234_567_891_123_456_789))


def scanned(base: Path) -> Index:
    return trees.scan(base, sorted(one.name for one in base.iterdir()))


def packed(base: Path, index: Index | None = None) -> tuple[bytes, dict[str, tar.StoredEntry]]:
    out = io.BytesIO()
    tree = Tree("tree", base, index or scanned(base))
    entries = tar.pack(tree, out.write)
    return out.getvalue(), {one.path: one for one in entries}


def listing(base: Path) -> str:
    """Return what the system's own tools say of a tree: type, mode, links, size, time, name, target, content."""
    find = "find . ! -name . -printf '%P %y %m %n %U:%G %T@ %l ' \\( ! -type d -printf '%s' -o -true \\) -printf '\\0'"
    sums = "find . -type f -print0 | sort -z | xargs -0 -r sha256sum -z"
    script = f"cd {base} && {find} | sort -z | sha256sum && {sums} | sha256sum && {find} | sort -z | tr '\\0' '\\n'"
    return subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True, errors="replace").stdout


def test_the_archive_is_one_that_gnu_tar_unpacks_to_the_same_tree(tmp_path: Path) -> None:
    base, back = tmp_path / "base", tmp_path / "back"
    base.mkdir()
    back.mkdir()
    make_tree(base)
    data, _ = packed(base)
    subprocess.run(["tar", "-xp", "-C", str(back)], input=data, check=True)
    assert listing(back) == listing(base)
    assert (back / "sparse").stat().st_blocks * 512 < 2 << 20


def test_entries_say_what_the_archive_holds(tmp_path: Path) -> None:
    make_tree(tmp_path)
    _, entries = packed(tmp_path)
    assert sorted(entries) == sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*"))
    for path in ("big", "hard", "empty", "sparse", "holes", f"{LONG}/deep", *ODD_NAMES):
        found = (tmp_path / path).lstat()
        told = entries[path]
        assert told.sha256 == hashlib.sha256((tmp_path / path).read_bytes()).hexdigest(), path
        assert (told.size, told.mtime_ns, told.ctime_ns) == (found.st_size, found.st_mtime_ns, found.st_ctime_ns), path
    assert {entries[one].type for one in ("link", "link2")} == {"link"}
    assert entries["link2"].link == "/nowhere/\udcff"
    assert entries["pipe"].type == "fifo"


@pytest.mark.parametrize("path", ["big", "hard", "sparse", "new\nline", "\udcff\udcfe bad"])
def test_one_file_is_read_back(tmp_path: Path, path: str) -> None:
    make_tree(tmp_path)
    data, _ = packed(tmp_path)
    content = tar.read_file(lambda: nullcontext(io.BytesIO(data)), path)
    assert io.BufferedReader(tar.Chunks(content)).read() == (tmp_path / path).read_bytes()


def test_a_file_that_is_not_there_is_no_empty_file(tmp_path: Path) -> None:
    make_tree(tmp_path)
    data, _ = packed(tmp_path)
    with pytest.raises(DamagedError, match="no file 'nothing'"):
        list(tar.read_file(lambda: nullcontext(io.BytesIO(data)), "nothing"))


def test_numbers_beyond_octal_are_read() -> None:
    info = tarfile.TarInfo("huge")
    info.size, info.uid = 9 << 30, 3 << 30
    members = tar.Archive(io.BytesIO(info.tobuf(tarfile.PAX_FORMAT)), lambda _: None).members()
    huge = next(members)
    assert (huge.path, huge.size, huge.uid) == ("huge", 9 << 30, 3 << 30)
    with pytest.raises(DamagedError, match="broke off"):
        next(members)


def test_files_that_vanish_between_scan_and_copy_are_not_in_the_archive_and_no_error(tmp_path: Path) -> None:
    make_tree(tmp_path)
    index = scanned(tmp_path)
    (tmp_path / "new\nline").unlink()
    (tmp_path / "empty").unlink()
    _, entries = packed(tmp_path, index)
    assert {one.path for one in index.entries} - set(entries) == {"new\nline", "empty"}


def test_a_folder_that_became_a_file_is_as_good_as_gone(tmp_path: Path) -> None:
    make_tree(tmp_path)
    index = trees.scan(tmp_path, ["big", LONG.partition("/")[0]])
    (tmp_path / LONG / "deep").unlink()
    (tmp_path / LONG).rmdir()
    (tmp_path / LONG).write_bytes(b"a file now")
    _, entries = packed(tmp_path, index)
    assert {one.path for one in index.entries} - set(entries) == {f"{LONG}/deep"}
    assert entries[LONG].type == "file"


def test_a_file_that_tar_cannot_read_is_an_error(tmp_path: Path) -> None:
    make_tree(tmp_path)
    index = trees.scan(tmp_path, ["big"])
    index.entries.append(entry("x" * 300))
    with pytest.raises(StoreError, match=r"exit code 2: tar: x+: Cannot stat: File name too long$"):
        packed(tmp_path, index)


def test_a_base_that_is_gone_is_an_error(tmp_path: Path) -> None:
    make_tree(tmp_path)
    index = trees.scan(tmp_path, ["big"])
    with pytest.raises(StoreError, match="Cannot open: No such file"):
        packed(tmp_path / "gone", index)


# -- unpacking ----------------------------------------------------------------------------------------------------


def unpack(data: bytes, index: Index, destination: Path, paths: list[str] | None = None) -> tar.Unpacking:
    destination.mkdir(mode=0o700, exist_ok=True)
    unpacking = tar.Unpacking(index, destination, paths)
    unpacking.run(io.BytesIO(data))
    return unpacking


def test_unpacking_gives_the_tree_back(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    make_tree(base)
    index = scanned(base)
    unpack(packed(base, index)[0], index, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(base)


def test_a_part_comes_back_without_the_rest_also_when_its_content_lies_elsewhere(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "a/in").mkdir(parents=True)
    (base / "a/in/first").write_bytes(b"shared")
    (base / "b").mkdir()
    os.link(base / "a/in/first", base / "b/second")
    (base / "bc").write_bytes(b"not below b")
    index = trees.scan(base, ["a", "b", "bc"])
    unpack(packed(base, index)[0], index, tmp_path / "back", ["b"])
    assert sorted(str(one.relative_to(tmp_path / "back")) for one in (tmp_path / "back").rglob("*")) == [
        "b",
        "b/second",
    ]
    assert (tmp_path / "back/b/second").read_bytes() == b"shared"


def entry(path: str, kind: str = "file", **fields: object) -> Entry:
    given = {"mode": 0o644, "uid": 0, "gid": 0, "user": "root", "group": "root", "size": 0, "mtime_ns": 0, **fields}
    return Entry(path=path, type=kind, **given)  # type: ignore[arg-type]


def hostile(*members: tuple[str, dict[str, object]], end: bytes = b"", content: bytes = b"x" * 9) -> bytes:
    """Return an archive of one good file and of members that somebody put into it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields in (("good", {}), *members):
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue() + end


LINK, HARD, CHAR, DIR = ({"type": one} for one in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE))
SPARSE = {
    "size": 521,
    "pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "0"},
}
NOT_INDEXED = "which its index does not"
ATTACKS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "parent": (lambda _: hostile(("../escaped", {})), NOT_INDEXED),
    "parent inside": (lambda _: hostile(("folder", DIR), ("folder/../../escaped", {})), NOT_INDEXED),
    "parent in the index too": (lambda _: hostile(("../indexed", {})), NOT_INDEXED),
    "absolute": (lambda top: hostile((f"{top}/escaped", {})), NOT_INDEXED),
    "not in the index": (lambda _: hostile(("more", {})), NOT_INDEXED),
    "twice": (lambda _: hostile(("good", {})), "twice"),
    "absolute link": (
        lambda top: hostile(("link", {**LINK, "linkname": f"{top}"})),
        f"links 'link' to .*{NOT_INDEXED}",
    ),
    "link instead of a file": (lambda top: hostile(("file", {**LINK, "linkname": f"{top}/escaped"})), "is a link in"),
    "through a link": (
        lambda _: hostile(("link", {**LINK, "linkname": "target"}), ("link/escaped", {})),
        "no directory",
    ),
    "hard link out": (lambda top: hostile(("file", {**HARD, "linkname": f"{top}/victim"})), NOT_INDEXED),
    "hard link up": (lambda _: hostile(("file", {**HARD, "linkname": "../victim"})), NOT_INDEXED),
    "hard link to a stranger": (lambda _: hostile(("file", {**HARD, "linkname": "good"})), NOT_INDEXED),
    "hard link to what follows": (lambda _: hostile(("twin", {**HARD, "linkname": "file"})), NOT_INDEXED),
    "device": (lambda _: hostile(("file", {**CHAR, "devmajor": 1, "devminor": 3})), "is a char in the archive"),
    "setuid": (lambda _: hostile(("file", {"mode": 0o4755})), "setuid"),
    "other size": (lambda _: hostile(("file", {"size": 5})), "5 bytes in the archive"),
    "other content": (lambda _: hostile(("sized", {"size": 3})), "content of 'sized'"),
    "after the end": (lambda _: hostile(end=hostile(("../escaped", {}))), "goes on after its end"),
    "cut short": (lambda _: hostile()[:512], "broke off"),
    "incomplete": (lambda _: hostile(), "lacks"),
    "global header": (
        lambda _: tarfile.TarInfo.create_pax_global_header({"path": "../e"}) + hostile(),
        "kind of member",
    ),
    "old sparse": (
        lambda _: hostile(("file", {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}})),
        "kind of member",
    ),
    "sparse map beyond the file": (
        lambda _: hostile(("file", SPARSE), content=b"1\n0\n9\n".ljust(512, b"\0") + b"x" * 9),
        "map of its holes",
    ),
    "no archive": (lambda _: b"x" * 4096, "broken header"),
    "nothing": (lambda _: b"", "broke off"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_index_does_not_hold_is_refused_before_tar_sees_it(tmp_path: Path, attack: str) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    index = Index(
        [
            entry("../indexed"),
            entry("file"),
            entry("folder", "dir"),
            entry("good"),
            entry("link", "link", link="target"),
            entry("link/escaped"),
            entry("sized", size=3, sha256=hashlib.sha256(b"abc").hexdigest()),
            entry("twin", hard_link="file"),
        ]
    )
    make, said = ATTACKS[attack]
    with pytest.raises(DamagedError, match=said):
        unpack(make(tmp_path), index, tmp_path / "in")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "victim"]
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert (tmp_path / "victim").stat().st_nlink == 1
    assert [one for one in (tmp_path / "in").rglob("*") if one.name == "escaped" or one.lstat().st_mode & 0o6000] == []


def test_a_device_that_the_index_has_is_left_out_and_told(tmp_path: Path) -> None:
    index = Index([entry("good"), entry("null", "char", rdev=259)])
    unpacking = unpack(hostile(("null", {**CHAR, "devmajor": 1, "devminor": 3})), index, tmp_path / "in")
    assert unpacking.devices == ["null"]
    assert [one.name for one in (tmp_path / "in").iterdir()] == ["good"]
