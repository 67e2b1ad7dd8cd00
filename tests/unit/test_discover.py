# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery on a made-up host below a temporary root: what it declares, leaves out, measures and refuses."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restaura import discover
from restaura.config import load
from restaura.config.schema import Plan
from restaura.discover import Discovery
from restaura.errors import SpaceError
from restaura.paths import Paths
from restaura.trees.patterns import Selection
from tests.made_up_host import SQLITE, MadeUpHost

MB = 1_000_000
STORE = {"name": "local", "location": "/store"}


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with a configuration, one application, two homes, and the empty directories that Debian has."""
    put(tmp_path / "etc/hostname")
    put(tmp_path / "srv/app/data.bin", 3 * MB)
    put(tmp_path / "root/.profile")
    put(tmp_path / "home/ana/notes.txt")
    for empty in ("opt", "usr/local/bin", "var/backups"):
        (tmp_path / empty).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def serving(root: Path) -> Callable[[Path], int]:
    """Let processes work in a directory, as a database server does."""
    host = MadeUpHost(root)

    def start(directory: Path) -> int:
        pid = 100 + len(list((root / "proc").glob("*")))
        host.process(pid, "server", works=f"/{directory.relative_to(root)}")
        return pid

    return start


def found(root: Path, *stores: Path) -> Discovery:
    return discover.discover(Paths(root), stores)


def component(result: Discovery, name: str) -> dict:
    return next(one for kind in result.components.values() for one in kind if one["name"] == name)


def taken(result: Discovery, path: Path) -> bool:
    """Whether the component `applications` takes a path, by the rules of the files source itself."""
    applications = component(result, "applications")
    selection = Selection(applications["exclude"])
    inside = any(path.is_relative_to(one) for one in applications["paths"])
    return inside and selection.takes(str(path), path.is_dir())


def test_configuration_and_applications_are_found(root):
    result = found(root)
    assert component(result, "system") == {"name": "system", "paths": [f"{root}/etc"], "secret": True}
    assert component(result, "applications")["paths"] == [
        f"{root}/{one}" for one in ("srv", "home", "root", "usr/local")
    ]
    assert list(result.components) == ["files"]
    assert result.notes == []
    json.dumps(result.components)


def test_a_recovery_kit_is_not_backed_up_beside_what_it_opens(root):
    kit = put(root / "srv/restaura/inventories/local/recovery_kits/web1.kit")
    assert taken(found(root), root / "srv/app/data.bin")
    assert not taken(found(root), kit.parent)


def test_sizes_are_what_du_counts(root):
    os.truncate(put(root / "home/ana/sparse"), 500 * MB)
    (root / "home/ana/again").hardlink_to(root / "srv/app/data.bin")
    (root / "srv/app/twice").hardlink_to(root / "srv/app/data.bin")
    result = found(root)
    roots = ["etc", "srv", "home", "root", "usr/local"]
    counted = sum(
        int(subprocess.run(["du", "-sx", "-B1", str(root / one)], capture_output=True, check=True).stdout.split()[0])
        - (root / one).stat().st_blocks * 512
        for one in roots
    )
    assert result.bytes == counted
    assert {path for path, _ in result.largest[:2]} == {f"{root}/srv/app", f"{root}/home/ana"}
    assert result.largest[0][1] < 4 * MB


def test_caches_are_left_out_and_told_but_state_is_not(root):
    left_out = [
        put(root / one, 2 * MB)
        for one in ("home/ana/.cache/x", "root/.npm/_cacache/x", "root/.pyenv/versions/3.11/x", "home/ana/go/pkg/mod/x")
    ]
    state = [
        put(root / one)
        for one in ("root/.npmrc", "home/ana/.config/app/x", "srv/app/node_modules/x", "srv/.cache/x", "root/go/src/x")
    ]
    result = found(root)
    assert not any(taken(result, path) for path in left_out)
    assert all(taken(result, path) for path in state)
    assert len(result.notes) == 4
    assert any(f"{root}/root/.pyenv/versions (2.0 MB) is left out: a cache or toolchain" in one for one in result.notes)
    assert result.bytes < 4 * MB


def test_the_declaration_does_not_change_when_a_cache_appears(root):
    before = found(root).components
    put(root / "root/.cache/pip/x")
    put(root / "home/bea/.cargo/registry/x")
    put(root / "usr/local/bin/restaura")
    put(root / "var/backups/restaura/config")
    assert found(root).components == before


def test_our_own_state_and_store_are_not_counted(root):
    before = found(root).bytes
    put(root / "etc/restaura/keys/manifest.key", 2 * MB)
    store = put(root / "srv/backups/data", 5 * MB).parent
    result = found(root, store)
    assert result.bytes == before
    assert result.stored >= 5 * MB
    assert f"{root}/etc/restaura" not in dict(result.largest)


def test_moved_docker_data_is_left_out_and_said_to_be_unprotected(root):
    put(root / "srv/docker/overlay2/x", 2 * MB)
    put(root / "etc/docker/daemon.json").write_text(json.dumps({"data-root": "/srv/docker"}))
    put(root / "home/ana/.local/share/docker/volumes/x/_data/x")
    put(root / "etc/passwd").write_text("ana:x:1000:1000::/home/ana:/bin/sh\n")
    result = found(root)
    assert not taken(result, root / "srv/docker/overlay2/x")
    assert not taken(result, root / "home/ana/.local/share/docker/volumes/x")
    assert taken(result, root / "srv/app/data.bin")
    assert sum("a container engine's data" in one for one in result.notes) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"data-root": 5}', '{"data-root": "relative"}'])
def test_a_strange_docker_configuration_is_no_obstacle(root, content):
    put(root / "etc/docker/daemon.json").write_text(content)
    assert taken(found(root), root / "srv/app/data.bin")


@pytest.mark.parametrize("marker", ["PG_VERSION", "ibdata1", "WiredTiger", "dump.rdb", "raft_state.json"])
def test_the_data_of_a_running_server_is_left_out_and_of_a_stopped_one_is_not(root, serving, marker):
    data = put(root / f"srv/odd [\\name]\n/data/{marker}").parent
    (data / "global").mkdir()
    assert taken(found(root), data / marker)
    serving(data)
    result = found(root)
    assert not taken(result, data / marker)
    assert taken(result, root / "srv/app/data.bin")
    assert [one for one in result.notes if "name]\\n/data (" in one and "running database server" in one]


def cluster(root: Path, name: str, data: Path, configuration: str | None = None) -> Path:
    put(data / "PG_VERSION")
    put(data / "global/1")
    put(data / "base/1/1", 2 * MB)
    text = f"data_directory = '/{data.relative_to(root)}'\t# comment\n" if configuration is None else configuration
    put(root / "etc/postgresql" / name / "postgresql.conf").write_text(f"# data_directory = '/elsewhere'\n{text}")
    return data


def start(data: Path, serving) -> None:
    (data / "postmaster.pid").write_text(f"{serving(data)}\n{data}\n")


def test_running_clusters_become_components_and_their_data_no_files(root, serving):
    space = put(root / "srv/fast disk/PG_17_202406281/1").parent.parent
    main = cluster(root, "17/main", root / "var/lib/postgresql/17/main", "")
    moved = cluster(root, "15/old", root / "srv/pg's data", "data_directory='/srv/pg''s data'\n")
    cluster(root, "16/stopped", root / "var/lib/postgresql/16/stopped")
    (moved / "pg_tblspc").mkdir()
    (moved / "pg_tblspc/16400").symlink_to(space)
    old = cluster(root, "13/older", root / "var/lib/postgresql/13/older")
    start(old, serving)
    for data in (main, moved):
        start(data, serving)
    result = found(root)
    assert result.components["postgres"] == [
        {"name": "postgres-15-old", "cluster": "15/old"},
        {"name": "postgres-17-main", "cluster": "17/main"},
    ]
    assert not taken(result, moved / "base/1/1")
    assert not taken(result, space / "PG_17_202406281/1")
    assert 4 * MB < result.bytes - 3 * MB < 5 * MB
    assert [one for one in result.notes if "postgres 16/stopped" in one and "is not protected" in one]
    assert result.decisions["postgres-17-main"] == "Postgres 17 in cluster 17/main: every database, and the roles."


def test_a_stale_pid_file_is_no_running_cluster(root, serving):
    data = cluster(root, "17/main", root / "var/lib/postgresql/17/main")
    (data / "postmaster.pid").write_text(f"{serving(root)}\n")
    assert "postgres" not in found(root).components
    (data / "postmaster.pid").write_text("")
    assert "postgres" not in found(root).components


@pytest.fixture
def docked() -> Iterator[MadeUpHost]:
    """A host with Docker, under a path short enough for its socket."""
    host = MadeUpHost(Path(tempfile.mkdtemp(prefix="discover-", dir="/tmp")))
    yield host
    host.close()
    shutil.rmtree(host.root)


def test_docker_is_declared_by_project_and_what_must_stop_together(docked: MadeUpHost) -> None:
    labelled = {"Labels": {"com.docker.compose.project": "shop"}}
    for name in ("shop_db", "shop_up"):
        docked.volume(name, **labelled)
    for name in ("outside", "wiki", "f" * 64):
        docked.volume(name)
    docked.volume("far", Driver="rclone")
    docked.put("/srv/shop/compose.yml", "services: {}\n")
    docked.put("/srv/shop/media/1.jpg")
    project = {"project": "shop", "folder": "/srv/shop"}
    docked.container("shop-db-1", "postgres:16", ("shop_db", "/var/lib/postgresql/data"), **project)
    docked.container("shop-web-1", "web", ("shop_up", "/up"), ("outside", "/o"), ("/srv/shop/media", "/m"), **project)
    docked.container("wiki", "wiki", ("wiki", "/w"), ("f" * 64, "/tmp"), ("far", "/far"))
    docked.container("old", "postgres:9.6", ("f" * 64, "/var/lib/postgresql/data"))
    docked.daemon()
    result = found(docked.root)
    assert result.components["postgres"] == [{"name": "postgres-shop-db-1", "container": "shop-db-1"}]
    declared = result.components["docker_volumes"]
    assert declared == [
        {"name": "shop", "projects": ["shop"], "volumes": ["outside"], "exclude": ["shop_db"], "hold": "stop"},
        {"name": "wiki", "volumes": ["wiki"], "hold": "stop"},
    ]
    assert {"shop", "wiki", "postgres-shop-db-1"} <= set(result.decisions)
    assert not taken(result, docked.root / "srv/shop/media/1.jpg")
    assert taken(result, docked.root / "srv/shop/compose.yml")
    left = [one for one in result.notes if "is not protected" in one]
    assert len(left) == 2
    assert [one for one in left if "postgres old" in one and "no source takes" in one]
    assert [one for one in left if "Docker volume far" in one]
    load.parse({"settings": {"host": "x"}, "stores": [STORE], "components": result.components}, "discovery")


@pytest.mark.parametrize("how", ["rm", "swarm"])
def test_what_would_be_gone_when_stopped_is_only_paused(docked: MadeUpHost, how: str) -> None:
    docked.volume("wiki")
    docked.volume("other")
    docked.container("other", "x", ("other", "/o"))
    number = docked.container("wiki", "wiki", ("wiki", "/w"))
    if how == "rm":
        docked.put(f"/var/lib/docker/containers/{number}/hostconfig.json", '{"AutoRemove": true}')
    else:
        docked.containers[-1]["Labels"]["com.docker.swarm.service.id"] = "x"
    docked.daemon()
    result = found(docked.root)
    declared = {one["name"]: one["hold"] for one in result.components["docker_volumes"]}
    assert declared == {"wiki": "pause", "other": "stop"}
    assert "would be gone" in result.decisions["wiki"]


def test_a_stopped_daemon_declares_nothing_that_could_not_be_taken(docked: MadeUpHost) -> None:
    docked.volume("wiki")
    result = found(docked.root)
    assert "docker_volumes" not in result.components
    assert [one for one in result.notes if "Docker volume wiki" in one and "is not protected" in one]


def test_state_of_services_and_trees_of_ones_own_are_declared(root: Path) -> None:
    host = MadeUpHost(root)
    host.put("/data/blobs/1")
    host.put("/var/lib/tracker/tracker.db", SQLITE)
    host.put("/var/lib/grafana/grafana.db", SQLITE)
    host.put("/var/lib/redis/dump.rdb")
    host.put("/od\nd/x")
    result = found(root)
    assert component(result, "state")["paths"] == [f"{root}/var/lib/grafana", f"{root}/var/lib/tracker"]
    assert f"{root}/data" in component(result, "applications")["paths"]
    left = [one for one in result.notes if "not protected" in one or "cannot be declared" in one]
    assert len(left) == 3
    assert [one for one in left if one.startswith("redis /var/lib/redis")]
    assert [one for one in left if "od\\nd has a name that cannot be declared" in one]


def test_names_that_stand_twice_or_cannot_be_declared(docked: MadeUpHost) -> None:
    docked.container("17-main", "postgres:17")
    docked.cluster("17/main", "/var/lib/postgresql/17/main")
    docked.cluster("17/ma in", "/var/lib/postgresql/17/ma in")
    for number, name in enumerate(("main", "ma in")):
        docked.process(50 + number, "/usr/lib/postgresql/17/bin/postgres", "-D", f"/var/lib/postgresql/17/{name}")
    docked.daemon()
    result = found(docked.root)
    assert result.components["postgres"] == [
        {"name": "postgres-17-main", "container": "17-main"},
        {"name": "postgres-17-main-postgres", "cluster": "17/main"},
    ]
    assert [one for one in result.notes if one.startswith("postgres 17/ma in") and "is not protected" in one]


def test_the_plan_is_written_out(root: Path) -> None:
    (plan,) = found(root).plans
    made = load.parse({"settings": {"host": "x"}, "stores": [STORE], "plans": [plan]}, "discovery").plans[0]
    assert made == Plan(name="daily")


def test_more_than_half_of_the_free_space_is_refused_by_name():
    paths = [("/srv/videos", 60 * MB), ("/home/ana", 3 * MB)]
    fits = Discovery({}, bytes=50 * MB, free=100 * MB, largest=paths)
    fits.require_room()
    # What the store holds already was room for this very data.
    Discovery({}, bytes=60 * MB, free=60 * MB, stored=60 * MB).require_room()
    with pytest.raises(SpaceError) as failed:
        Discovery({}, bytes=50 * MB + 1, free=100 * MB, largest=paths).require_room()
    text = str(failed.value)
    assert text.index("/srv/videos") < text.index("/home/ana")
    assert "60.0 MB" in text
    assert "backup_files_components" in text


def test_a_host_with_nothing_declares_nothing(tmp_path):
    result = found(tmp_path)
    assert result.components == {}
    assert result.bytes == 0


def test_free_space_is_that_of_the_store(root):
    free = int(
        subprocess.run(["df", "-B1", "--output=avail", "/dev/shm"], capture_output=True, check=True).stdout.split()[1]
    )
    assert abs(found(root, Path("/dev/shm/not/there/yet")).free - free) < 50 * MB
