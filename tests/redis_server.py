# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Redis servers for tests: started by the program of Debian's package, seeded and read by redis-cli alone."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from restaura.config.schema import Config, Settings
from restaura.host import Host
from restaura.paths import Paths
from restaura.sources.redis import Redis, RedisComponent
from tests.memory_point import MemoryPoint, take

FUNCTION = "#!lua name=shop\nredis.register_function('total', function(keys, args) return 42 end)"
LATER = int(time.time()) + 40_000_000


def run(*argv: str, stdin: str = "", check: bool = True) -> str:
    """Run a program and return what it says."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, errors="replace", check=False, env=env, timeout=120
    )
    assert not check or done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout + ("" if check else done.stderr)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


class Server:
    """A server of this host as the account redis, with its data in `folder`; `settings` are lines of its redis.conf.

    With `aclfile`, users and password stand in a file that `settings` name.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        settings: Sequence[str] = (),
        password: str = "",
        *,
        aclfile: bool = False,
        sentinel: bool = False,
    ) -> None:
        self.folder, self.port, self.settings, self.password = folder, port, list(settings), password
        self.aclfile, self.sentinel = aclfile, sentinel
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "redis.conf"
        lines = [f"dir {self.folder}", f"port {self.port}", f"unixsocket {self.folder}/s", "bind 127.0.0.1"]
        lines += [] if self.sentinel else ['save ""']
        lines += [f"logfile {self.folder}/log", *self.settings]
        lines += [f"requirepass {self.password}"] if self.password and not self.aclfile else []
        if not config.exists():
            config.write_text("\n".join(lines) + "\n")
        run("chown", "-R", "redis:redis", str(self.folder))
        argv = ["setpriv", "--reuid=redis", "--regid=redis", "--init-groups", "redis-server", str(config)]
        argv += ["--sentinel"] if self.sentinel else []
        self.process = subprocess.Popen(argv, cwd="/")
        wait_until(lambda: self.cli("PING", check=False) == "PONG")
        wait_until(lambda: self.sentinel or "loading:0" in self.cli("INFO", "persistence"))
        return self

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait(60)
            self.process = None

    def kill_child(self) -> None:
        """Kill what saves or rewrites, as Redis itself does where it no longer needs it."""
        assert self.process is not None
        run("pkill", "-USR1", "-P", str(self.process.pid))
        wait_until(lambda: "rdb_bgsave_in_progress:0" in self.cli("INFO", "persistence"))

    def cli(self, *words: str, database: int = 0, stdin: str = "", check: bool = True, user: str = "") -> str:
        login = ["--user", user] if user else []
        env = {"PATH": "/usr/bin:/bin", **({"REDISCLI_AUTH": self.password} if self.password else {})}
        argv = ["redis-cli", "-s", f"{self.folder}/s", "-n", str(database), *login, *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, errors="replace", check=False, env=env)
        said = done.stdout.strip()
        if check:
            wrong = [one for one in said.splitlines() if one.startswith(("ERR", "NOPERM", "WRONGTYPE", "NOAUTH"))]
            assert (done.returncode, wrong) == (0, []), f"{words}: {said}{done.stderr}"
        return said

    def seed(self) -> None:
        """Fill three databases with every type, times of expiry, functions and users."""
        lines = [
            *("SET plain value", 'SET "sp ace\\x00\\xff" "\\x00\\x01bin"', "SET number 12345", "INCR counter"),
            f"SET session:1 token EXAT {LATER}",
            f"SET session:2 token PXAT {LATER}123",
            *("RPUSH list a b c a", "SADD set one two three", "SADD ints 1 2 3", "ZADD scores 1.5 a -inf b 0.1 c"),
            *("HSET hash f1 v1 f2 v2", "PFADD hll a b c", "SETBIT bits 77 1", "GEOADD geo 13.4 52.5 berlin"),
            *("XADD stream 1-1 f v g w", "XADD stream 2-1 f v2", "XADD stream 3-1 f v3", "XDEL stream 2-1"),
            *("XGROUP CREATE stream workers 0", "XREADGROUP GROUP workers ana COUNT 1 STREAMS stream >"),
            "XGROUP CREATE empty readers $ MKSTREAM",
            *(f"RPUSH long {' '.join(f'item{number}' for number in range(300))}",),
            *(f"HSET wide {' '.join(f'f{number} v{number}' for number in range(300))}",),
            *(f"SADD many {' '.join(f'm{number}' for number in range(700))}",),
            *("SELECT 3", "SET other 1", "SELECT 15", "SET last 1"),
        ]
        self.cli(stdin="\n".join(lines))
        self.cli("FUNCTION", "LOAD", "REPLACE", FUNCTION)
        self.cli("ACL", "SETUSER", "shop", "on", ">shop-Pw-1", "~shop:*", "&*", "+@read", "(~cache:* +set)")

    def client(self, database: int = 0) -> Any:
        """Return a client of its own kind: text stays bytes."""
        return redis.Redis(unix_socket_path=f"{self.folder}/s", password=self.password or None, db=database)

    def content(self) -> dict[str, Any]:
        """Return all that a client is shown of every key, of functions and of users."""
        found: dict[str, Any] = {}
        for database in range(16):
            with self.client(database) as client:
                for key in client.scan_iter(count=1000):
                    kind = client.type(key).decode()
                    value = getattr(self, f"_{kind}")(client, key)
                    found[f"{database} {key!r}"] = (kind, value, client.execute_command("PEXPIRETIME", key))
        with self.client() as client:
            found["functions"] = client.execute_command("FUNCTION", "LIST", "WITHCODE")
            # Redis 7.0 says the default only of a user whose rules were reset.
            listed = client.execute_command("ACL", "LIST")
            found["users"] = sorted(one.replace(b" sanitize-payload", b"") for one in listed)
        return found

    def _string(self, client: Any, key: bytes) -> Any:
        return client.get(key)

    def _list(self, client: Any, key: bytes) -> Any:
        return client.lrange(key, 0, -1)

    def _set(self, client: Any, key: bytes) -> Any:
        return client.smembers(key)

    def _zset(self, client: Any, key: bytes) -> Any:
        return client.zrange(key, 0, -1, withscores=True)

    def _hash(self, client: Any, key: bytes) -> Any:
        return client.hgetall(key)

    def _stream(self, client: Any, key: bytes) -> Any:
        groups = client.xinfo_groups(key)
        pending = [client.xpending_range(key, one["name"], "-", "+", 99) for one in groups]
        owed = [[(one["message_id"], one["consumer"], one["times_delivered"]) for one in group] for group in pending]
        about = {name: value for name, value in client.xinfo_stream(key).items() if not name.startswith("radix")}
        return client.xrange(key), groups, owed, about


@contextmanager
def scratch_root(root: str = "/var/tmp/rds") -> Iterator[Path]:
    """Make a root for a host whose paths are short enough for sockets."""
    run("rm", "-rf", root)
    Path(root).mkdir(mode=0o711)
    yield Path(root)
    run("rm", "-rf", root)


def make_host(root: Path) -> Host:
    return Host(Paths(root), Config(Settings(host="web1", reserve_bytes=1_000_000)))


def source(system: Host, server: Server | None = None, password: str | None = None, **options: Any) -> Redis:
    """Return the source for a server."""
    if server is not None:
        options.setdefault("port", server.port)
        password = server.password if password is None else password
    component = RedisComponent(name="cache", **options)
    secret = system.paths.keys / "components.cache.password"
    secret.unlink(missing_ok=True)
    if password:
        secret.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(password)
    return Redis(component, system)


def taken(own: Redis) -> MemoryPoint:
    """Take a point as a run does."""
    assert own.probe().problems == []
    own.prepare("content")
    return take(own)


def recover(host: Host) -> None:
    """Pay every debt, as `restaura recover` does once the process that made it is dead."""
    for debt in reversed(host.journal.open_debts()):
        if debt.owner == "spool":
            shutil.rmtree(debt.data["path"], ignore_errors=True)
        else:
            Redis.take_back(debt.act, debt.data)
        host.journal.settle(debt)


def leftovers(host: Host) -> list[str]:
    """Name what nothing may leave behind."""
    there = [*host.paths.spool.glob("*"), *host.paths.kept.glob("*"), *host.paths.var.parent.glob("restaura-drill")]
    return [str(one) for one in (*there, *host.journal.open_debts())]
