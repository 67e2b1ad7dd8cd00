# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds data, found on made-up hosts: whatever is stopped, half-written, unreadable or oddly named."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.audit import holders_docker, holders_walk
from restaura.audit.holders import find_holders
from restaura.audit.holders_host import Machine
from restaura.audit.looking import Look
from restaura.audit.model import Evidence, Holder
from tests.made_up_host import SQLITE, MadeUpHost


@pytest.fixture
def host() -> Iterator[MadeUpHost]:
    """An empty host, under a path short enough for a socket's, which others may enter."""
    root = Path(tempfile.mkdtemp(prefix="holders-", dir="/tmp"))
    root.chmod(0o755)
    made = MadeUpHost(root)
    yield made
    made.close()
    shutil.rmtree(root)


def found(host: MadeUpHost) -> dict[str, Holder]:
    return {one.id: one for one in find_holders(host.root)[0]}


def blamed(host: MadeUpHost) -> dict[str, str]:
    return {one.where: one.detail for one in find_holders(host.root)[1]}


def evidence(holder: Holder) -> set[tuple[str, str]]:
    return {(one.kind, one.where) for one in holder.evidence}


def test_an_empty_host_holds_nothing(host: MadeUpHost) -> None:
    host.put("/etc/hostname")
    for one in ("/srv/empty", "/opt/containerd/bin", "/home/ana", "/var/lib/apt/lists", "/var/lib/redis"):
        host.folder(one)
    host.put("/home/ana/.profile")
    assert find_holders(host.root) == ((), ())


# -- Postgres --------------------


def test_postgres_clusters_that_run_and_that_are_stopped(host: MadeUpHost) -> None:
    host.cluster("17/main", "/var/lib/postgresql/17/main", "")
    host.cluster("15/old", "/srv/pg's data", "port = 5433\ndata_directory='/srv/pg''s data'\n")
    host.put("/srv/fast/PG_17_202406281/1")
    host.folder("/srv/pg's data/pg_tblspc")
    host.at("/srv/pg's data/pg_tblspc/16400").symlink_to(host.at("/srv/fast"))
    host.process(7, "/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17/main", "-c", "x=y")
    host.process(8, "postgres: 17/main: checkpointer ")
    clusters = found(host)
    main, old = clusters["postgres:17/main"], clusters["postgres:15/old"]
    assert (main.running, main.version, main.paths) == (True, "17", ("/var/lib/postgresql/17/main",))
    assert main.component == {"name": "postgres-17-main", "cluster": "17/main"}
    assert ("process", "postgres (PID 7)") in evidence(main)
    assert (old.running, old.paths) == (False, ("/srv/pg's data", "/srv/fast"))
    assert Evidence("file", "/etc/postgresql/15/old/postgresql.conf", 3) in old.evidence
    assert old.bytes
    assert [one for one in clusters if "pg's data" in one] == []


def test_a_pid_file_tells_of_a_running_cluster_unless_it_is_stale(host: MadeUpHost) -> None:
    data = host.cluster("17/main", "/var/lib/postgresql/17/main", "")
    host.process(9, "python3", works=data)
    host.put(f"{data}/postmaster.pid", f"9\n{data}\n")
    assert found(host)["postgres:17/main"].running
    host.put(f"{data}/postmaster.pid", "10\n")
    assert not found(host)["postgres:17/main"].running


def test_a_cluster_whose_configuration_or_data_is_gone(host: MadeUpHost) -> None:
    host.cluster("16/gone", "/var/lib/postgresql/16/gone", "")
    shutil.rmtree(host.at("/var/lib/postgresql/16"))
    host.put("/var/lib/postgresql/14/left/PG_VERSION", "14\n")
    host.folder("/var/lib/postgresql/14/left/global")
    only = found(host)
    assert list(only) == ["postgres:/var/lib/postgresql/14/left"]
    assert only["postgres:/var/lib/postgresql/14/left"].version == "14"


@pytest.mark.parametrize("how", ["unit", "process", "directory"])
def test_a_server_of_somebodys_own_is_found_each_way(host: MadeUpHost, how: str) -> None:
    data = "/data/db one/pg" if how == "directory" else "/var/cache/pg"
    host.put(f"{data}/PG_VERSION", "16\n")
    host.put(f"{data}/base/1/1")
    host.folder(f"{data}/global")
    if how == "unit":
        host.service("mydb", ExecStart=f"-/opt/pg/bin/postgres \\\n  -D {data}")
    if how == "process":
        host.process(5, "/opt/pg/bin/postgres", f"-D{data}", group="/system.slice/mydb.service")
    holders = found(host)
    assert list(holders) == [f"postgres:{data}"]
    holder = holders[f"postgres:{data}"]
    assert (holder.running, holder.version, holder.source) == (how == "process", "16", "postgres")
    assert holder.component == {}
    if how == "unit":
        assert Evidence("unit", "mydb.service", 3, "/etc/systemd/system/mydb.service") in holder.evidence


# -- other servers --------------------

SERVERS = [
    ("redis", "redis-server", "dump.rdb", "/etc/redis/redis.conf", "dir {}", "/var/lib/redis"),
    ("mongodb", "mongod", "WiredTiger", "/etc/mongod.conf", "storage:\n  dbPath: {}", "/var/lib/mongodb"),
    ("mysql", "mariadbd", "ibdata1", "/etc/mysql/mariadb.conf.d/50-server.cnf", "datadir = {}", "/var/lib/mysql"),
    ("qdrant", "qdrant", "raft_state.json", "/etc/qdrant/config.yaml", "  storage_path: {}", "/var/lib/qdrant"),
    (
        "prometheus",
        "prometheus",
        "wal/0",
        "/etc/default/prometheus",
        'ARGS="--storage.tsdb.path={}"',
        "/var/lib/prometheus",
    ),
    ("grafana", "grafana-server", "grafana.db", "/etc/grafana/grafana.ini", "[paths]\ndata = {}", "/var/lib/grafana"),
]


@pytest.mark.parametrize(("kind", "program", "marker", "config", "setting", "usual"), SERVERS)
def test_a_server_is_found_stopped_and_running(
    host: MadeUpHost, kind: str, program: str, marker: str, config: str, setting: str, usual: str
) -> None:
    def lay(folder: str) -> None:
        host.put(f"{folder}/{marker}", SQLITE if marker == "grafana.db" else "x")
        if kind == "prometheus":
            host.folder(f"{folder}/chunks_head")

    lay(usual)
    stopped = found(host)
    assert list(stopped) == [f"{kind}:{usual}"]
    assert (stopped[f"{kind}:{usual}"].running, bool(stopped[f"{kind}:{usual}"].bytes)) == (False, True)

    lay("/media/fast/data")
    host.put(config, f"# comment\n{setting.format('/media/fast/data')}\n")
    moved = found(host)
    assert list(moved) == [f"{kind}:/media/fast/data", f"{kind}:{usual}"]
    assert ("file", config) in evidence(moved[f"{kind}:/media/fast/data"])

    shutil.rmtree(host.at(usual))
    host.process(40, f"/usr/bin/{program}", group=f"/system.slice/{program}.service")
    running = found(host)
    assert list(running) == [f"{kind}:/media/fast/data"]
    assert running[f"{kind}:/media/fast/data"].running


@pytest.mark.parametrize(("kind", "program"), [one[:2] for one in SERVERS])
def test_a_server_of_which_only_the_process_can_be_seen(host: MadeUpHost, kind: str, program: str) -> None:
    host.process(40, f"/usr/bin/{program}", group="/system.slice/it.service")
    only = found(host)[f"{kind}:it.service"]
    assert (only.running, only.paths, only.bytes) == (True, (), None)


def test_versions_are_those_of_the_packages(host: MadeUpHost) -> None:
    host.put("/var/lib/redis/dump.rdb")
    status = "Package: redis-server\nStatus: {} ok installed\nPriority: optional\nVersion: 5:8.0.2-3\n\n"
    host.put(
        "/var/lib/dpkg/status", "Package: x\nStatus: install ok installed\nVersion: 1\n\n" + status.format("install")
    )
    assert found(host)["redis:/var/lib/redis"].version == "5:8.0.2-3"


def test_metrics_of_an_exporter_are_no_database(host: MadeUpHost) -> None:
    host.put("/var/lib/prometheus/node-exporter/apt.prom")
    host.process(4, "/usr/bin/prometheus-node-exporter")
    host.daemon()
    host.container("exporter", "prom/node-exporter:v1")
    host.container("metrics", "quay.io/prometheuscommunity/postgres-exporter")
    assert [one for one in found(host) if not one.startswith("tree")] == []


PORTS = "  sl  local_address rem_address st\n{}"
LINE = "   0: 00000000:{:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 {}\n"


def test_an_open_port_alone_tells_of_a_server(host: MadeUpHost) -> None:
    host.put("/proc/net/tcp", PORTS.format(LINE.format(27017, 77) + LINE.format(9090, 78) + LINE.format(22, 79)))
    host.put("/proc/net/tcp6", PORTS.format(LINE.format(6379, 80) + LINE.format(5432, 81)))
    host.process(3, "/usr/bin/ssh", "-L", "6379:x:6379", holds=("socket:[80]",))
    host.process(4, "/usr/bin/docker-proxy", "-proto", "tcp", "-host-ip", "::", "-host-port", "5432")
    assert list(found(host)) == ["mongodb:port 27017"]
    assert evidence(found(host)["mongodb:port 27017"]) == {("port", "27017")}


# -- Docker --------------------


def shop(host: MadeUpHost) -> None:
    """Two projects and what else Docker may hold."""
    for name in ("shop_db", "shop_uploads", "cache", "left", "shared"):
        host.volume(name)
    host.volume("f" * 64)
    host.volume("far", Options={"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"})
    host.put("/var/lib/docker/volumes/shop_db/_data/PG_VERSION", "16\n")
    host.put("/srv/shop/compose.yml", "services: {}\n")
    host.put("/srv/shop/media/1.jpg")
    host.put("/media/blobs/1")
    secret = ("POSTGRES_USER=shop", "POSTGRES_PASSWORD=s3cret-of-the-shop")
    project = {"project": "shop", "folder": "/srv/shop"}
    host.container(
        "shop-db-1", "postgres:16-alpine", ("shop_db", "/var/lib/postgresql/data"), environment=secret, **project
    )
    host.container(
        "shop-web-1",
        "shop:latest",
        ("shop_uploads", "/up"),
        ("/srv/shop/media", "/m"),
        ("/media/blobs", "/b"),
        **project,
    )
    host.container("cache", "redis:7.2.4", ("cache", "/data"), running=False)
    host.container("one", "busybox", ("shared", "/a"), ("f" * 64, "/b"), ("far", "/c"))
    host.container("two", "busybox", ("shared", "/x"), ("/etc/localtime", "/etc/localtime"), ("/run", "/run"))


@pytest.mark.parametrize("daemon", [True, False])
def test_containers_volumes_and_projects(host: MadeUpHost, daemon: bool) -> None:
    shop(host)
    if daemon:
        host.daemon()
    else:
        host.daemon_stopped()
    holders = found(host)
    assert set(holders) == {
        "postgres:shop-db-1",
        "redis:cache",
        "compose_project:shop",
        f"docker_volume:{'f' * 64}",
        "docker_volume:far",
        "docker_volume:left",
        "docker_volume:shared",
        "docker_volume:shop_uploads",
    }
    database = holders["postgres:shop-db-1"]
    assert (database.running, database.version, database.container) == (daemon, "16", "shop-db-1")
    assert (database.paths, database.volumes) == (("/var/lib/docker/volumes/shop_db/_data",), ("shop_db",))
    assert database.component == {"name": "postgres-shop-db-1", "container": "shop-db-1", "user": "shop"}
    cache = holders["redis:cache"]
    assert (cache.running, cache.version, cache.volumes, cache.source) == (False, "7.2.4", ("cache",), "docker_volumes")
    project = holders["compose_project:shop"]
    assert (project.running, project.paths) == (daemon, ("/srv/shop", "/media/blobs"))
    assert project.volumes == ("shop_db", "shop_uploads")
    assert ("file", "/srv/shop/compose.yml") in evidence(project)
    assert holders["docker_volume:shop_uploads"].project == "shop"
    assert holders["docker_volume:shared"].bytes
    assert {"one", "two"} <= {one.where for one in holders["docker_volume:shared"].evidence}
    assert (
        holders["docker_volume:far"].evidence[0].detail,
        holders["docker_volume:far"].source,
        holders["docker_volume:far"].paths,
    ) == ("nfs", "", ())
    assert holders[f"docker_volume:{'f' * 64}"].evidence[0].detail == "anonymous"
    assert holders["docker_volume:left"].evidence[0].detail == "no container uses it"
    assert "s3cret-of-the-shop" not in repr([holders, holders_docker.engines(Machine(Look(host.root)))])


def test_moved_data_of_docker_and_that_of_users(host: MadeUpHost) -> None:
    host.put("/etc/docker/daemon.json", '{"data-root": "/srv/docker"}')
    host.put("/srv/docker/volumes/moved/_data/x")
    host.put("/srv/docker/overlay2/layer/srv/app.db", SQLITE)
    host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n")
    host.put("/home/ana/.local/share/docker/volumes/hers/_data/x")
    assert list(found(host)) == [
        "docker_volume:hers of /home/ana/.local/share/docker",
        "docker_volume:moved",
    ]
    host.put("/srv/engine two/volumes/told/_data/x")
    host.process(9, "/usr/bin/dockerd", "--data-root", "/srv/engine two")
    assert "docker_volume:told" in found(host)
    assert "tree:/srv/engine two" not in found(host)
    assert found(host)["docker_volume:hers of /home/ana/.local/share/docker"].source == ""


def test_a_database_is_known_by_its_process_and_by_its_data_whatever_its_image(host: MadeUpHost) -> None:
    host.put(host.volume("a") + "/PG_VERSION", "15\n")
    host.folder("/var/lib/docker/volumes/a/_data/global")
    host.volume("b")
    host.container("renum-db", "renum-db:prod", ("a", "/var/lib/postgresql/data"))
    other = host.container("queue", "acme/queue", ("b", "/data"))
    host.process(50, "redis-server *:6379", group=f"/docker/{other}")
    host.daemon()
    assert list(found(host)) == ["postgres:renum-db", "redis:queue"]


def test_the_version_of_a_cluster_that_lies_where_newer_images_put_it(host: MadeUpHost) -> None:
    host.put(host.volume("db") + "/18/docker/PG_VERSION", "18\n")
    host.container("db", "postgres", ("db", "/var/lib/postgresql"))
    host.daemon()
    assert found(host)["postgres:db"].version == "18"
    assert blamed(host) == {}


def test_a_volume_that_holds_more_than_a_database_is_told_of_too(host: MadeUpHost) -> None:
    host.volume("everything")
    host.container("db", "postgres:17", ("everything", "/var/lib"))
    host.daemon()
    assert list(found(host)) == ["docker_volume:everything", "postgres:db"]


def test_data_in_no_volume_is_said_to_be_so(host: MadeUpHost) -> None:
    host.container("db", "mongo:7")
    host.daemon()
    only = found(host)["mongodb:db"]
    assert (only.paths, only.evidence[-1].detail) == ((), "its data is in no volume")


def test_supabase_is_one_holder(host: MadeUpHost) -> None:
    host.put("/opt/supabase/volumes/db/data/PG_VERSION", "15\n")
    host.folder("/opt/supabase/volumes/db/data/global")
    host.volume("supabase_db-config")
    project = {"project": "supabase", "folder": "/opt/supabase"}
    mounts = (("/opt/supabase/volumes/db/data", "/var/lib/postgresql/data"), ("supabase_db-config", "/etc/postgresql"))
    host.container("supabase-db", "supabase/postgres:15.8.1", *mounts, **project)
    host.container("supabase-kong", "kong:2.8.1", **project)
    host.daemon()
    holders = found(host)
    assert list(holders) == ["supabase:supabase"]
    assert holders["supabase:supabase"].container == "supabase-db"
    assert holders["supabase:supabase"].paths == ("/opt/supabase",)


COMPOSE = """
name: ${PROJECT:-shop}
services:
  db:
    image: "postgres:${VERSION:-16}"
    volumes: [{type: volume, source: db, target: /var/lib/postgresql/data}]
    environment: {POSTGRES_USER: "${USER_NAME}", POSTGRES_PASSWORD: s3cret}
  web:
    image: web
    ports: !reset []
    volumes:
      - ./media:/m:ro
      - uploads:/up
      - ${FAR:-old}:/far
volumes:
  db: {name: "${PROJECT:-shop}-database"}
  old: {external: true}
"""


def test_a_project_that_is_down_is_known_by_its_compose_file(host: MadeUpHost) -> None:
    host.put("/srv/shop/compose.yaml", COMPOSE)
    host.put("/srv/shop/.env", "USER_NAME='ana'\n# VERSION=1\nVERSION=17\n")
    assert list(found(host)) == ["tree:/srv/shop"]
    for name in ("shop-database", "shop_uploads", "old"):
        host.volume(name)
    holders = found(host)
    assert list(holders) == [
        "compose_project:shop",
        "docker_volume:old",
        "docker_volume:shop_uploads",
        "postgres:shop-db-1",
    ]
    database = holders["postgres:shop-db-1"]
    assert (database.running, database.version, database.volumes) == (False, "17", ("shop-database",))
    assert database.component["user"] == "ana"
    assert Evidence("file", "/srv/shop/compose.yaml", 4, "service db") in database.evidence
    assert holders["compose_project:shop"].volumes == ("old", "shop-database", "shop_uploads")
    assert "s3cret" not in repr(holders)


# -- files --------------------


def test_sqlite_files_and_application_trees(host: MadeUpHost) -> None:
    host.put("/srv/app/data/app.sqlite3", SQLITE)
    host.put("/srv/app/thumbs.db", "no database at all")
    host.put("/srv/app/node_modules/x/test.db", SQLITE)
    host.put("/var/lib/tracker/tracker.db", SQLITE)
    host.put("/var/lib/fwupd/pending.db", SQLITE)
    host.put("/home/ana/notes.txt")
    host.put("/home/bea/.mozilla/places.sqlite", SQLITE)
    host.put("/uploads/1.jpg")
    host.put("/backups/dump.sql")
    host.service("app", ExecStart="/usr/bin/python3 app.py", WorkingDirectory="/srv/app")
    host.service("state", ExecStart="/usr/bin/x", StateDirectory="wiki none")
    host.put("/var/lib/wiki/page")
    host.process(
        6, "/usr/bin/python3", "app.py", group="/system.slice/app.service", holds=("/srv/app/data/app.sqlite3",)
    )
    holders = found(host)
    assert list(holders) == [
        "sqlite:/srv/app/data/app.sqlite3",
        "sqlite:/var/lib/tracker/tracker.db",
        "tree:/home/ana",
        "tree:/srv/app",
        "tree:/uploads",
        "tree:/var/lib/wiki",
    ]
    assert holders["sqlite:/srv/app/data/app.sqlite3"].running
    assert not holders["sqlite:/var/lib/tracker/tracker.db"].running
    assert holders["tree:/srv/app"].running
    assert ("unit", "app.service") in evidence(holders["tree:/srv/app"])
    assert holders["tree:/uploads"].component == {"name": "uploads", "paths": ["/uploads"], "secret": True}


def test_directories_that_containers_mount(host: MadeUpHost) -> None:
    host.put("/media/pictures/1.jpg")
    host.container("gallery", "gallery", ("/media/pictures", "/p"), ("/etc", "/e"), ("/", "/host"), ("/gone", "/g"))
    host.daemon()
    assert list(found(host)) == ["tree:/media/pictures"]


def test_repositories_hold_copies_and_are_no_data(host: MadeUpHost) -> None:
    for name in ("config", "data/x", "index/x", "keys/x", "snapshots/x"):
        host.put(f"/srv/r/{name}")
    for name in ("README", "config", "data/0/1", "nonce"):
        host.put(f"/mnt/disk/b/{name}")
    host.put("/opt/s/store.json")
    host.put("/srv/app/config")
    assert list(found(host)) == ["tree:/srv/app"]


def test_sizes_count_hard_links_once_and_holes_not(host: MadeUpHost) -> None:
    host.put("/srv/app/one", b"x" * 100_000)
    host.at("/srv/app/two").hardlink_to(host.at("/srv/app/one"))
    os.truncate(host.put("/srv/app/hole"), 10**9)
    command = ["du", "-sx", "-B1", str(host.at("/srv/app"))]
    counted = int(subprocess.run(command, capture_output=True, check=True).stdout.split()[0])
    assert found(host)["tree:/srv/app"].bytes == counted - host.at("/srv/app").stat().st_blocks * 512


# -- hostile --------------------


def test_odd_names_are_kept_and_make_no_component_of_an_odd_name(host: MadeUpHost) -> None:
    odd = os.fsdecode(b"/srv/new\nline \xff {{ lookup('pipe', 'id') }}")
    host.put(f"{odd}/app.db", SQLITE)
    host.volume("läs;rm -rf")
    host.daemon()
    holders = found(host)
    assert {f"tree:{odd}", f"sqlite:{odd}/app.db", "docker_volume:läs;rm -rf"} == set(holders)
    assert holders[f"tree:{odd}"].component["name"] == "srv-new-line-lookup-pipe-id"
    json.dumps([one.component for one in holders.values()])


def test_links_pipes_and_devices_are_not_followed_opened_or_waited_for(host: MadeUpHost) -> None:
    host.put("/srv/app/file")
    host.at("/srv/app/loop").symlink_to(host.at("/srv"))
    host.at("/srv/again").symlink_to(host.at("/srv/app"))
    host.folder("/etc/redis")
    for one in ("/srv/app/pipe.db", "/srv/app/compose.yml", "/etc/redis/redis.conf", "/srv/app/.env"):
        os.mkfifo(host.at(one))
    assert list(found(host)) == ["tree:/srv/app"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"services": 5}', "services:\n  a: [\n", "services: {a: 1}", "a: *b", "\0"]
)
def test_a_compose_file_that_does_not_parse_is_told_of(host: MadeUpHost, text: str) -> None:
    host.put("/srv/app/docker-compose.yml", text)
    host.put("/srv/app/data")
    assert list(found(host)) == ["tree:/srv/app"]
    told = {"{", "services:\n  a: [\n", "a: *b", "\0"}
    assert ("/srv/app/docker-compose.yml" in blamed(host)) == (text in told)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Config": 5}', "[" * 100_000])
def test_half_written_configuration_of_a_container_is_told_of(host: MadeUpHost, text: str) -> None:
    host.volume("kept")
    path = f"/var/lib/docker/containers/{'a' * 64}/config.v2.json"
    host.put(path, text)
    assert list(found(host)) == ["docker_volume:kept"]
    assert text == "[]" or blamed(host)[path] == "invalid"


@pytest.mark.parametrize("how", ["dead", "silent", "nonsense"])
def test_a_daemon_that_does_not_answer_is_told_of_and_its_files_are_read(
    host: MadeUpHost, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders_docker, "SECONDS", 0.2)
    shop(host)
    host.daemon_stopped()
    if how == "nonsense":
        host.containers = [5]
    host.daemon(answers=how == "nonsense")
    if how == "dead":
        host.close()
    assert "postgres:shop-db-1" in found(host)
    assert blamed(host)["/run/docker.sock"] == "no_answer"


def test_a_huge_directory_is_walked_in_part_and_told_of(host: MadeUpHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders_walk, "ENTRIES", 100)
    for number in range(300):
        host.put(f"/srv/huge/{number}")
    host.put("/srv/small/x")
    holders = found(host)
    assert holders["tree:/srv/huge"].bytes is None
    assert holders["tree:/srv/small"].bytes
    assert blamed(host) == {"/srv/huge": "too_long"}


def test_network_file_systems_are_not_entered(host: MadeUpHost) -> None:
    host.put("/mnt/far away/x")
    host.put("/mnt/disk/x")
    host.put("/proc/self/mounts", "nas:/x /mnt/far\\040away nfs4 rw 0 0\n/dev/sdb /mnt/disk ext4 rw 0 0\n")
    assert list(found(host)) == ["tree:/mnt/disk"]
    assert blamed(host) == {"/mnt/far away": "remote"}


def test_what_may_not_be_read_is_unreadable_and_not_missing(host: MadeUpHost) -> None:
    """As a person who is not root sees the host."""
    host.cluster("17/main", "/var/lib/postgresql/17/main", "")
    host.process(7, "/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17/main")
    host.put("/var/lib/redis/dump.rdb")
    host.put("/srv/app/private/x")
    host.put("/srv/app/open/x")
    shop(host)
    host.daemon()
    closed = [
        "/var/lib/postgresql/17/main",
        "/var/lib/redis",
        "/srv/app/private",
        "/run/docker.sock",
        "/var/lib/docker",
    ]
    for one in closed:
        host.at(one).chmod(0)
    script = (
        "import json, sys; from pathlib import Path; from restaura.audit.holders import find_holders\n"
        "holders, unreadable = find_holders(Path(sys.argv[1]))\n"
        "print(json.dumps([[[one.id, one.running] for one in holders], [one.where for one in unreadable]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(host.root)],
        user=65534 if os.geteuid() == 0 else None,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=False,
    )
    for one in closed:
        host.at(one).chmod(0o700)
    assert done.returncode == 0, done.stderr.decode()
    holders, unreadable = json.loads(done.stdout)
    assert {("postgres:17/main", True), ("redis:/var/lib/redis", False), ("tree:/srv/app", False)} <= set(
        map(tuple, holders)
    )
    assert set(closed) <= {one.removesuffix("/volumes") for one in unreadable}


def test_two_hundred_containers(host: MadeUpHost) -> None:
    for number in range(200):
        host.volume(f"v{number}")
        host.container(f"c{number}", "postgres:17" if number % 2 else "app", (f"v{number}", "/var/lib/postgresql/data"))
    host.daemon()
    kinds = [one.kind for one in find_holders(host.root)[0]]
    assert (kinds.count("postgres"), kinds.count("docker_volume")) == (100, 100)


def test_what_a_restore_keeps_is_no_data_of_its_own(host: MadeUpHost) -> None:
    host.put("/srv/shop/app.py", "print()")
    host.put("/srv/.restaura-kept-d14353dab6dc/shop/app.py", "print()")
    host.put("/srv/shop/.restaura-kept-d14353dab6dc/a.db", b"SQLite format 3\0" + b"\0" * 4080)
    assert list(found(host)) == ["tree:/srv/shop"]
