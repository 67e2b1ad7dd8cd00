# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis server in a container, over the network, over TLS and on a Unix socket: backed up, drilled, restored."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from restaura.errors import RefusedError, SourceError
from restaura.host import Host
from restaura.redis import server as servers
from restaura.runners import Running
from restaura.sources import Target
from restaura.sources.redis import Redis
from tests.docker_project import docker, start_daemon
from tests.redis_server import Server, leftovers, make_host, run, scratch_root, source, taken, wait_until

# Debian 12's Docker client warns of itself.
pytestmark = [pytest.mark.debian12, pytest.mark.filterwarnings("ignore:.*distutils.*:DeprecationWarning")]
NAME = "restaura-test-redis"
TOOLS = ("sh", "cat", "redis-server", "redis-cli")
PASSWORD = "Container-Pw-1"
SERVE = f"exec redis-server --dir /data --appendonly yes --requirepass {PASSWORD} --save ''"


@pytest.fixture
def host() -> Iterator[Host]:
    with scratch_root("/var/tmp/rde") as root:
        yield make_host(root)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of this host's own server and shell, and nothing else."""
    start_daemon()
    root = tmp_path_factory.mktemp("image")
    programs = [shutil.which(one) or "" for one in TOOLS]
    libraries = {word for one in programs for word in run("ldd", one).split() if word.startswith("/")}
    for path in (*(f"/bin/{one}" for one in TOOLS), *sorted(libraries)):
        copied = root / path.removeprefix("/")
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)
    for folder in ("data", "dev", "proc", "sys", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    run("sh", "-c", f'tar -C "$0" -c . | docker import --change "ENV PATH=/bin" - {NAME}', str(root))
    yield NAME
    docker("image", "rm", "-f", NAME)


class InContainer(Server):
    """A server in a container, asked at its own address: nothing of it is published."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), 6379, password=PASSWORD)
        self.address = ""

    def start(self) -> "InContainer":
        docker("run", "-d", "--name", NAME, "--memory", "64m", NAME, "sh", "-c", SERVE)
        wait_until(lambda: self.cli("PING", check=False) == "PONG")
        return self

    def cli(self, *words: str, database: int = 0, stdin: str = "", check: bool = True, user: str = "") -> str:
        self.address = self.address or docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", NAME)
        argv = ["env", f"REDISCLI_AUTH={PASSWORD}", "redis-cli", "-h", self.address, "-n", str(database)]
        return run(*argv, *words, stdin=stdin, check=check).strip()

    def client(self, database: int = 0) -> Any:
        return redis.Redis(host=self.address, password=PASSWORD, db=database)

    def stop(self, *, kill: bool = False) -> None:
        docker("rm", "-f", "-v", NAME)


def test_a_server_in_a_container_comes_back_with_its_append_only_file(image: str, host: Host) -> None:
    server = InContainer().start()
    try:
        server.seed()
        own = source(host, password=PASSWORD, container=NAME)
        good = server.content()
        point = taken(own)
        assert "appendonlydir/appendonly.aof.manifest" in point.data
        with own.scratch() as target:
            found = own.stage(point, target)
            assert point.record.fingerprint is not None
            assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
            second = f"restaura-{Path(target.value).name}"
            assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}} {{.HostConfig.Memory}}", second) == "none 0"
        server.cli("FLUSHALL")
        server.cli("SET", "newer", "1")
        damaged = server.content()
        found = own.stage(point, Target("live"))
        assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
        record = own.plan_swap(found)
        Redis.swap(record)
        assert server.content() == good
        docker("kill", NAME)
        docker("start", NAME)
        wait_until(lambda: server.cli("PING", check=False) == "PONG")
        restarted = server.content()
        assert {**restarted, "users": None} == {**good, "users": None}
        Redis.undo(record)
        assert {**server.content(), "users": None} == {**damaged, "users": None}
        Redis.discard(record)
        host.journal.settle(found.data["debt"])
        assert docker("ps", "-a", "--format", "{{.Names}}") == NAME
        docker("stop", "-t", "1", NAME)
        [(what, fix)] = own.probe().problems
        assert "does not run" in what
        assert fix == f"docker start {NAME}"
    finally:
        server.stop()
    assert leftovers(host) == []


def test_a_published_port_is_not_taken_for_a_service_of_the_host(image: str, host: Host) -> None:
    docker("run", "-d", "--name", NAME, "-p", "127.0.0.1:6399:6379", NAME, "sh", "-c", SERVE)
    try:
        own = source(host, password=PASSWORD, port=6399)
        wait_until(lambda: "does not answer" not in str(own.probe().problems))
        [(what, fix)] = own.probe().problems
        assert "no process of this host" in what
        assert "set container" in fix
    finally:
        docker("rm", "-f", NAME)


@pytest.fixture
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on every address, with TLS beside it, and a user for backups."""
    folder = Path("/var/tmp/rde-live")
    run("rm", "-rf", str(folder))
    folder.mkdir()
    subject = ["-subj", "/CN=redis", "-addext", f"subjectAltName=DNS:localhost,IP:{address()}"]
    made = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "9"]
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *made, *subject)
    files = [
        f"tls-cert-file {folder}/cert.pem",
        f"tls-key-file {folder}/key.pem",
        f"tls-ca-cert-file {folder}/cert.pem",
    ]
    settings = ["tls-port 6398", *files, "tls-auth-clients yes", "tls-replication yes", f"bind 127.0.0.1 {address()}"]
    server = Server(folder, 6397, settings, "Net-Pw-1")
    listed = (Path(__file__).parents[2] / "docs/sources/redis.md").read_text().split("ACL SETUSER over_network ", 1)[1]
    rules = [one for one in listed.split("\n")[0].split("`")[0].split(" ") if not one.startswith(">")]
    try:
        server.start()
        server.seed()
        server.cli("ACL", "SETUSER", "backup", ">backup-Pw", *rules)
        yield server
    finally:
        server.stop(kill=True)
        run("rm", "-rf", str(folder))


def address() -> str:
    """Return an address of this host that is not local."""
    return run("hostname", "-I").split()[0]


def test_a_server_on_another_host_is_copied_as_a_replica_does(certified: Server, host: Host) -> None:
    good = certified.content()
    tls = {name: f"{certified.folder}/{file}.pem" for name, file in (("tls_ca_file", "cert"), ("tls_key_file", "key"))}
    tls |= {"tls": True, "tls_cert_file": f"{certified.folder}/cert.pem"}
    points = []
    for options in ({"port": 6397}, {"port": 6398, **tls}):
        own = source(host, password="backup-Pw", user="backup", host=address(), **options)
        probe = own.probe()
        assert probe.problems == []
        point = taken(own)
        assert set(point.data) == {"dump.rdb", "users.acl", "server.json"}
        with own.scratch() as target:
            found = own.stage(point, target)
            assert point.record.fingerprint is not None
            assert point.record.fingerprint.differences(own.fingerprint(found, "content")) == []
        points.append(point)
    certified.cli("FLUSHALL")
    damaged = certified.content()
    own = source(host, password="Net-Pw-1", host=address(), port=6398, **tls)
    with pytest.raises(RefusedError, match="in the clear"):
        own.stage(points[1], Target("live"))
    own = source(host, password="Net-Pw-1", host=address(), port=6397)
    found = own.stage(points[0], Target("live"))
    record = own.plan_swap(found)
    Redis.swap(record)
    assert certified.content() == good
    Redis.undo(record)
    assert certified.content() == damaged
    Redis.discard(record)
    host.journal.settle(found.data["debt"])
    assert leftovers(host) == []


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_the_moment_over_the_network_is_our_own_fork_and_no_other_save(
    diskless: str, certified: Server, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody saves just before we ask, and writes as soon as we say that the moment is past."""
    certified.cli("CONFIG", "SET", "rdb-key-save-delay", "20000")
    certified.cli("CONFIG", "SET", "repl-diskless-sync", diskless)
    settings, real = sorted(certified.cli("CONFIG", "GET", "*").splitlines()), servers.start_transfer

    def late(server: servers.Server, to: Path) -> Running:
        certified.cli("BGSAVE")
        certified.cli("INCR", "counter")
        return real(server, to)

    monkeypatch.setattr(servers, "start_transfer", late)
    own = source(host, password="Net-Pw-1", host=address(), port=6397)
    with own.freeze("content") as frozen:
        at = certified.cli("GET", "counter")
        certified.cli("INCR", "counter")
        list(frozen.artifacts())
        assert sorted(certified.cli("CONFIG", "GET", "*").splitlines()) == settings
        certified.cli("CONFIG", "SET", "rdb-key-save-delay", "0")
        folder = Path("/var/tmp/rde-taken")
        run("rm", "-rf", str(folder))
        folder.mkdir()
        shutil.copy(frozen.spool / "dump.rdb", folder)
    other = Server(folder, 6394).start()
    try:
        assert other.cli("GET", "counter") == at
    finally:
        other.stop(kill=True)
        run("rm", "-rf", str(folder))
    assert leftovers(host) == []


def test_tls_and_a_socket_reach_the_same_server_of_this_host(certified: Server, host: Host) -> None:
    files = {"tls_cert_file": f"{certified.folder}/cert.pem", "tls_key_file": f"{certified.folder}/key.pem"}
    own = source(host, password="Net-Pw-1", host="localhost", port=6398, tls=True, **files)
    with pytest.raises(SourceError, match="certificate"):
        own.prepare("content")
    files["tls_ca_file"] = f"{certified.folder}/cert.pem"
    good = certified.content()
    for options in (
        {"host": "localhost", "port": 6398, "tls": True, **files},
        {"socket": f"{certified.folder}/s"},
    ):
        own = source(host, password="Net-Pw-1", **options)
        point = taken(own)
        certified.cli("FLUSHALL")
        found = own.stage(point, Target("live"))
        Redis.swap(own.plan_swap(found))
        assert certified.content() == good
        Redis.discard(own.plan_swap(found))
        host.journal.settle(found.data["debt"])
    # Without an append-only file, the saved one is what the server starts with.
    assert "appendonlydir/appendonly.aof.manifest" not in point.data
    certified.stop(kill=True)
    certified.start()
    assert {**certified.content(), "users": None} == {**good, "users": None}
    assert leftovers(host) == []
