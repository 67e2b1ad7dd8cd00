# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that a dated store keeps as plain files, on a disk and on S3: read back by plain tools, and by us."""

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from restaura import trees
from restaura.config.schema import Store
from restaura.errors import DamagedError, StoreError
from restaura.host import Host
from restaura.point import new_id
from restaura.sources import Tree
from restaura.stores import StoredPoint, expanded
from restaura.stores.dated import DatedStore
from tests.integration.test_dated import (
    AT,
    RANDOM,
    Place,
    artifact_of,
    configured,
    flipped,
    made,
    opened,
    piped,
    place,
    told,
)
from tests.store_hosts import COMPONENT, make_manifest, write_stream

__all__ = ["opened", "place"]
POINT = "web1/nightly/2025-09-22"


def make_tree(base: Path) -> None:
    """Make a tree of everything but names that no object may have."""
    script = r"""
    mkdir -p app/prompts/deep app/empty; cd app; chmod 2770 prompts; chown 1234:4321 prompts
    printf hello > prompts.yaml; ln prompts.yaml prompts/hard; printf 'é' > 'prompts/a b é.txt'
    ln -s ../nowhere// prompts/link; ln -s /etc/passwd absolute; ln -s prompts folder
    mkfifo pipe; touch nothing; printf x > .hidden; chmod 0640 .hidden
    truncate -s 6M sparse; printf mid | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none
    printf a > acl; setfacl -m u:1234:rw acl; setfattr -n user.note -v 0x00ff0a acl
    touch -d 1969-12-31T23:00:00.123456789Z nothing; touch -d 2222-01-01 empty
    """
    subprocess.run(["sh", "-ec", script], cwd=base, check=True)


def take(
    store: DatedStore,
    host: Host,
    tree: Tree,
    meanwhile: Callable[[], None] = lambda: None,
    others: dict[str, bytes] | None = None,
) -> tuple[StoredPoint, trees.Index, list[str]]:
    """Take a point of one tree as the pipeline does, its settled index beside it; and what the store says of it."""
    point_id = new_id(AT)
    writer = store.begin(point_id, host.name, "nightly", "2025-09-22")
    artifacts = [write_stream(writer, name, data) for name, data in (others or {}).items()]
    meanwhile()
    stored = writer.tree(COMPONENT, tree)
    index = trees.settle(
        tree.index, tree.base, writer.tree_entries(stored), lambda path: writer.read_file(stored, path)
    )
    kept = write_stream(writer, f"{tree.name}.index.jsonl", b"".join(index.dump()), secret=tree.secret)
    artifacts += [replace(stored, sha256=kept.sha256), kept]
    notes = writer.notes(COMPONENT)
    return writer.seal(make_manifest(host, point_id, writer.label, "nightly", artifacts)), index, notes


def tree_at(base: Path, folder: str = "", *, secret: bool = False) -> Tree:
    return Tree("tree", base, trees.scan(base, ["app"]), secret, expanded=folder, top="app")


def restore(store: DatedStore, point: StoredPoint, index: trees.Index, to: Path, *paths: str) -> None:
    to.mkdir()
    assert point.manifest is not None
    store.restore_tree(point.manifest, artifact_of(point, "tree"), index, to, list(paths) or None)
    trees.apply(trees.subset(index, paths) if paths else index, to)


@pytest.mark.debian12
@pytest.mark.parametrize(("compression", "encrypt", "secret"), [("none", False, False), ("zstd", False, True)])
def test_a_tree_is_plain_files_for_plain_tools_and_comes_back_whole(
    place: Place, tmp_path: Path, compression: str, encrypt: bool, secret: bool
) -> None:
    base, fetched = tmp_path / "base", tmp_path / "fetched"
    base.mkdir()
    make_tree(base)
    store, host = made(tmp_path, configured(place, compression=compression, encrypt=encrypt))
    point, index, notes = take(store, host, tree_at(base, secret=secret))
    assert notes == []
    assert (index.changed, index.torn, index.vanished) == ([], [], [])
    suffix = ".zst" * (compression == "zstd") + ".age" * (encrypt or secret)
    names = ["prompts.yaml", "prompts/hard", "prompts/a b é.txt", "nothing", ".hidden", "sparse", "acl"]
    listed = [one.removeprefix(f"{POINT}/app/") for one in place.listed() if one.startswith(f"{POINT}/app/")]
    assert sorted(listed) == sorted([*(name + suffix for name in names), "tree.sha256", f"tree.index.jsonl{suffix}"])
    for name in names:
        data = place.get(f"{POINT}/app/{name}{suffix}")
        (fetched / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / "app" / f"{name}{suffix}").write_bytes(data)
        if secret:
            data = piped(data, "age", "-d", "-i", host.key("age.key"))
        if compression == "zstd":
            data = piped(data, "zstd", "-dc")
        assert data == (base / "app" / name).read_bytes()
    (fetched / "app/tree.sha256").write_bytes(place.get(f"{POINT}/app/tree.sha256"))
    subprocess.run(["sha256sum", "--check", "--strict", "app/tree.sha256"], cwd=fetched, check=True)
    restore(store, point, index, tmp_path / "ours")
    assert told(tmp_path / "ours") == told(base)
    assert (tmp_path / "ours/app/sparse").stat().st_blocks * 512 < 1 << 20
    restore(store, point, index, tmp_path / "part", "app/prompts")
    assert sorted(one.name for one in (tmp_path / "part/app").iterdir()) == ["prompts"]
    assert (tmp_path / "part/app/prompts/hard").read_bytes() == b"hello"


def test_damage_to_one_file_is_found_and_named(place: Place, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    make_tree(base)
    store, host = made(tmp_path, configured(place, compression="none"))
    point, index, _ = take(store, host, tree_at(base, "conf"))
    assert point.manifest is not None
    artifact = artifact_of(point, "tree")
    store.verify(point.manifest, artifact, index, full=True)
    store.sample(point.manifest)
    key = f"{POINT}/app/conf/prompts/a b é.txt"
    good = place.get(key)
    for number, (bad, full) in enumerate([(flipped(good), True), (good[:-1], False), (good + b"x", False)]):
        place.put(key, bad)
        with pytest.raises(DamagedError, match=r"a b é\.txt: the stored bytes were changed"):
            store.verify(point.manifest, artifact, index, full=full)
        with pytest.raises(DamagedError, match=r"a b é\.txt"):
            restore(store, point, index, tmp_path / f"bad{number}")
    store.blobs.delete([key])
    with pytest.raises(DamagedError, match=r"a b é\.txt: is missing"):
        store.verify(point.manifest, artifact, index, full=False)
    with pytest.raises(DamagedError, match=r"a b é\.txt"):
        restore(store, point, index, tmp_path / "missing")
    place.put(key, good)
    store.verify(point.manifest, artifact, index, full=True)
    listed = f"{POINT}/app/tree.sha256"
    lines = place.get(listed)
    place.put(listed, re.sub(rb"^[0-9a-f]{64}", b"0" * 64, lines))
    acts: tuple[Callable[[], None], ...] = (
        lambda: store.verify(point.manifest, artifact, index, full=False),
        lambda: restore(store, point, index, tmp_path / "forged"),
    )
    for act in acts:
        with pytest.raises(DamagedError, match=r"tree\.sha256: the stored bytes were changed"):
            act()
    # A point whose list is gone can still be deleted whole.
    store.blobs.delete([listed])
    store.delete(point)
    assert [one for one in place.listed() if one.startswith(POINT)] == []


def test_deleting_takes_exactly_what_the_point_stored(
    opened: tuple[DatedStore, Host], place: Place, tmp_path: Path
) -> None:
    store, host = opened
    base = tmp_path / "base"
    base.mkdir()
    make_tree(base)
    point, _, _ = take(store, host, tree_at(base), others={"dump.rdb": b"x"})
    place.put(f"{POINT}/app/somebody's own", b"note")
    store.delete(point)
    assert [one for one in place.listed() if one.startswith(POINT)] == [f"{POINT}/app/somebody's own"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (r"""printf x > "$(printf 'new\nline')" """, "control character"),
        (r"""printf x > "$(printf '\377bad')" """, "no UTF-8"),
        (r"printf x > 'back\slash'", "backslash"),
        ("printf x > Prompts.YAML; printf y > prompts.yaml", "collides"),
        ("printf x > dump.rdb.zst; printf x > DUMP.rdb", "collides"),
        ("mkdir -p a.zst; printf x > a; printf y > a.zst/b", "collides"),
        ("printf x > tree.index.jsonl", "collides"),
        ("printf x > .x.part", "being written"),
        ("printf x > $(printf '%0250d' 0)", "too long"),
        ("seq 12 | xargs touch", "12 files, more than 10"),
    ],
)
def test_what_cannot_be_plain_files_is_an_archive_and_says_why(
    opened: tuple[DatedStore, Host],
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    why: str,
) -> None:
    monkeypatch.setattr(expanded, "MOST_FILES", 10)
    store, host = opened
    base = tmp_path / "base"
    (base / "app").mkdir(parents=True)
    subprocess.run(["sh", "-ec", script], cwd=base / "app", check=True)
    point, index, notes = take(store, host, tree_at(base), others={"DUMP.rdb": b"stream"})
    assert [why in one for one in notes] == [True], notes
    assert f"{POINT}/app/tree.tar.zst" in place.listed()
    restore(store, point, index, tmp_path / "ours")
    assert told(tmp_path / "ours") == told(base)


def test_files_that_change_under_the_copy_are_settled_as_the_store_has_them(
    opened: tuple[DatedStore, Host], tmp_path: Path
) -> None:
    store, host = opened
    base = tmp_path / "base"
    base.mkdir()
    make_tree(base)
    app = base / "app"

    def change() -> None:
        (app / "prompts.yaml").write_bytes(b"other")
        (app / ".hidden").unlink()
        (app / "acl").unlink()
        (app / "acl").symlink_to("elsewhere")
        (app / "absolute").unlink()
        (app / "absolute").write_bytes(b"a file now")

    point, index, _ = take(store, host, tree_at(base), change)
    assert index.vanished == ["app/.hidden", "app/absolute"]
    assert sorted(index.changed) == ["app", "app/acl", "app/prompts.yaml", "app/prompts/hard"]
    assert index.torn == []
    restore(store, point, index, tmp_path / "ours")
    assert (tmp_path / "ours/app/prompts/hard").read_bytes() == b"other"
    assert (tmp_path / "ours/app/acl").readlink() == Path("elsewhere")


def test_an_expansion_that_fails_leaves_no_file(
    opened: tuple[DatedStore, Host], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, host = opened
    base = tmp_path / "base"
    base.mkdir()
    make_tree(base)
    tree = tree_at(base)
    writer = store.begin(new_id(AT), host.name, "nightly", "2025-09-22")
    before = place.listed()
    with pytest.raises(StoreError, match="stop"):
        writer.tree(COMPONENT, tree, _raise)
    copy_file, seen = expanded.copy_file, []

    def failing(*arguments: object) -> object:
        seen.append(arguments)
        if len(seen) == 5:
            raise StoreError("the fifth")
        return copy_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(expanded, "copy_file", failing)
    with pytest.raises(StoreError, match="the fifth"):
        writer.tree(COMPONENT, tree)
    assert place.listed() == before
    monkeypatch.undo()
    assert writer.tree(COMPONENT, tree).stored["files"] > 0, "its names are free again"
    writer.abort()
    assert [one for one in place.listed() if one.startswith(POINT)] == []


def _raise() -> None:
    raise StoreError("stop")


def test_large_and_many_files(opened: tuple[DatedStore, Host], tmp_path: Path) -> None:
    store, host = opened
    app = tmp_path / "base/app"
    app.mkdir(parents=True)
    (app / "large").write_bytes(RANDOM * 2)
    for number in range(60):
        (app / f"{number}").write_bytes(os.urandom(number))
    point, index, _ = take(store, host, tree_at(app.parent, "tsdb"))
    restore(store, point, index, tmp_path / "ours")
    assert told(tmp_path / "ours") == told(app.parent)


def test_a_hostile_index_leads_nowhere(opened: tuple[DatedStore, Host], tmp_path: Path) -> None:
    store, host = opened
    base = tmp_path / "base"
    (base / "app").mkdir(parents=True)
    (base / "app/file").write_bytes(b"x")
    point, index, _ = take(store, host, tree_at(base))
    file = next(one for one in index.entries if one.path == "app/file")
    out = replace(file, path="app/out", type="link", link="/tmp", size=4)
    for number, entries in enumerate(
        [[replace(file, path="../app/file")], [out, replace(file, path="app/out/file")], [replace(file, path="/x")]]
    ):
        with pytest.raises(DamagedError, match="inside of what is no directory"):
            restore(store, point, replace(index, entries=entries), tmp_path / f"bad{number}")
    with pytest.raises(DamagedError, match="holds no 'app/other"):
        restore(store, point, replace(index, entries=[replace(file, path="other")]), tmp_path / "other")


def test_a_store_of_another_layout_is_not_confused(place: Place, tmp_path: Path) -> None:
    """A user's own manifest.json, records and claims inside of a tree are files like others."""
    config: Store = configured(place, host_segment=False, plan_segment=False)
    store, host = made(tmp_path, config)
    app = tmp_path / "base/app"
    (app / "records").mkdir(parents=True)
    (app / ".claims").mkdir()
    for name in ("manifest.json", "records/manifest.json", "store.json", ".claims/x"):
        (app / name).write_bytes(b"{}")
    take(store, host, tree_at(app.parent))
    (point,) = store.points()
    assert point.damage == ""
    assert point.records == ()
