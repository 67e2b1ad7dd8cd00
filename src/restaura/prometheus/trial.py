# SPDX-License-Identifier: GPL-3.0-or-later
"""Restored data is opened by Prometheus itself: promtool, and a throw-away server that nobody else can reach.

Both come from where the live server has them: this host, or its container's image. They run as a user id of their own,
without a network. What they count is compared with what the blocks themselves say.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restaura import process
from restaura.errors import DamagedError, RestauraError, SourceError
from restaura.host import Host
from restaura.journal import Process
from restaura.prometheus.blocks import Block
from restaura.prometheus.server import PORT, Server
from restaura.prometheus.snapshot import OWNER
from restaura.runners.container import docker_api
from restaura.runners.host import as_uid, free_uid

ACT = "drill container"
START_SECONDS = 120
TOOL_SECONDS = 3600
# Of the block that is read value by value.
MOST_SERIES, MOST_SAMPLES = 200_000, 5_000_000
# Every series has a name but for those of odd remote writers.
MATCHERS = ('{__name__!=""}', '{job!=""}', '{instance!=""}')
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h


@dataclass(frozen=True)
class Programs:
    """Where promtool and prometheus are: in a directory of this host each, or in an image. "" for what is nowhere."""

    promtool: str
    prometheus: str
    image: str = ""

    @classmethod
    def of(cls, server: Server) -> "Programs":
        """Find those of a live server, whether it runs or not."""
        if server.kind == "container":
            try:
                image = server.inspected()["Image"]
            except SourceError:
                return cls("", "")
            return cls("promtool", "prometheus", image)
        beside = ""
        with contextlib.suppress(OSError):
            beside = str(Path(f"/proc/{server.pid()}/exe").readlink().parent)
        path = ":".join(filter(None, (beside, process.environment()["PATH"])))
        return cls(shutil.which("promtool", path=path) or "", shutil.which("prometheus", path=path) or "")


class Trial:
    """A directory that programs may read and write as a user id of its own."""

    def __init__(self, programs: Programs, host: Host, folder: Path) -> None:
        self._programs, self._host, self._folder, self._uid = programs, host, folder, free_uid()
        # Where `promtool tsdb dump` puts what it has to write, below the directory that it runs in.
        (folder / "data").mkdir(exist_ok=True)
        for top, _, files in os.walk(folder):
            for path in (top, *(f"{top}/{one}" for one in files)):
                os.lchown(path, self._uid, self._uid)

    def check_files(self, config: Path, rules: Sequence[Path]) -> None:
        """Have promtool check a configuration and rule files; SourceError with what it says."""
        if not self._programs.promtool:
            return
        # Other files than these are checked by whether they are there: their paths are the live ones.
        self._promtool("check", "config", "--syntax-only", str(config))
        if rules:
            self._promtool("check", "rules", *map(str, rules))

    def count(self, data: Path, blocks: Sequence[Block]) -> tuple[int, int, int]:
        """Have the blocks in `data` opened; return how many more blocks, series and samples there are than they say."""
        probe = self._probed(blocks)
        loaded, series, samples = len(blocks), 0, 0
        if self._programs.prometheus and blocks:
            loaded, found = self._ask(data, probe)
            series = found - probe.series if probe else 0
        if self._programs.promtool and probe and probe.samples <= MOST_SAMPLES:
            # Without one, `promtool tsdb dump` ends before it has begun.
            (data / "wal").mkdir(exist_ok=True)
            window = (f"--min-time={probe.mint}", f"--max-time={probe.maxt - 1}")
            out = self._promtool("tsdb", "dump", *window, str(data))
            samples = out.count(b"\n") - probe.samples
        return loaded - len(blocks), series, samples

    @staticmethod
    def _probed(blocks: Sequence[Block]) -> Block | None:
        """Return the smallest block whose time is its own, of those that can be counted exactly."""
        alone = [
            one
            for one in blocks
            if one.series <= MOST_SERIES
            and not one.tombstones
            and not any(one.mint < other.maxt and other.mint < one.maxt for other in blocks if other is not one)
        ]
        return min(alone, key=lambda one: one.samples, default=None)

    def _promtool(self, *words: str) -> bytes:
        argv = [self._programs.promtool, *words]
        try:
            if self._programs.image:
                with self._container(argv, wait=True) as (_, out):
                    return out
            lead = [*process.without_network(), *as_uid(self._uid)]
            return process.run([*lead, *argv], timeout=TOOL_SECONDS, cwd=str(self._folder))[1]
        except RestauraError as error:
            corrupt = any(word in error.what for word in ("checksum", "corrupt", "invalid size"))
            kind = DamagedError if corrupt else SourceError
            raise kind(f"promtool {words[0]} {words[1]}: {error.what}", where="restored data") from error

    def _ask(self, data: Path, probe: Block | None) -> tuple[int, int]:
        """Start a server on `data`; return how many blocks it has open, and the series in the probed block's time."""
        config = self._folder / "empty.yml"
        config.write_text("global:\n  scrape_interval: 1h\n")
        config.chmod(0o644)
        argv = [
            self._programs.prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=100y",
            "--log.level=error",
        ]
        asked = {"seconds": START_SECONDS, "window": [probe.mint, probe.maxt - 1] if probe else None}
        if self._programs.image:
            with self._container([*argv, f"--web.listen-address=0.0.0.0:{PORT}"], wait=False) as (pid, _):
                return self._asked(pid, PORT, asked, private=True)
        alone = process.without_network()
        address, port = ("0.0.0.0", PORT) if alone else ("127.0.0.1", _free_port())  # noqa: S104  in a network of its own
        lead = [*alone, *as_uid(self._uid)]
        with process.Child(
            [*lead, *argv, f"--web.listen-address={address}:{port}"], stdout=subprocess.DEVNULL
        ) as child:
            try:
                return self._asked(child.process.pid, port, asked, private=bool(alone))
            except SourceError as error:
                raise self._told(error, child.errors()) from error

    def _asked(self, pid: int, port: int, asked: dict[str, Any], *, private: bool) -> tuple[int, int]:
        if private:
            _await_network(pid)
        lead = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"] if private else []
        argv = [*lead, *process.python_argv("from restaura.prometheus import trial; trial.main()")]
        given = json.dumps({**asked, "port": port, "pid": pid, "private": private}).encode()
        try:
            out = process.run(argv, stdin=given, timeout=START_SECONDS + TOOL_SECONDS)[1]
            answer = json.loads(out)
            return int(answer["blocks"]), int(answer["series"])
        except (RestauraError, ValueError, KeyError) as error:
            why = error.what if isinstance(error, RestauraError) else str(error)
            raise SourceError(f"it did not open the data: {why}", where="throw-away server") from error

    @staticmethod
    def _told(error: SourceError, said: str) -> RestauraError:
        """Return the error with what the server said of it; data that it cannot open is damaged."""
        lines = [line for line in said.splitlines() if "err=" in line]
        if any("opening storage failed" in line for line in lines):
            return DamagedError(f"Prometheus cannot open it: {lines[-1][-500:]}", where="restored data")
        return SourceError(f"{error.what}{': ' + lines[-1][-500:] if lines else ''}", where="throw-away server")

    @contextlib.contextmanager
    def _container(self, argv: Sequence[str], *, wait: bool) -> Iterator[tuple[int, bytes]]:
        """Run a program of the image with the directory at its own path; yield its process id here, or its output."""
        from docker.errors import DockerException

        name = f"restaura-drill-{secrets.token_hex(6)}"
        debt = self._host.journal.write(OWNER, ACT, {"name": name})
        with contextlib.closing(docker_api(TOOL_SECONDS)) as client:
            try:
                client.create_container(
                    self._programs.image,
                    list(argv[1:]),
                    name=name,
                    entrypoint=[argv[0]],
                    user=f"{self._uid}:{self._uid}",
                    working_dir=str(self._folder),
                    host_config=client.create_host_config(
                        binds=[f"{self._folder}:{self._folder}"], network_mode="none", cap_drop=["ALL"]
                    ),
                )
                client.start(name)
                if wait:
                    code = client.wait(name)["StatusCode"]
                    said = client.logs(name, stdout=False, stderr=True).decode(errors="replace").strip()
                    if code:
                        raise SourceError(process.failure(argv, code, said[-process.ERROR_CHARACTERS :]))
                    yield 0, client.logs(name, stdout=True, stderr=False)
                else:
                    try:
                        yield client.inspect_container(name)["State"]["Pid"], b""
                    except SourceError as error:
                        said = client.logs(name, stdout=False, stderr=True).decode(errors="replace")
                        raise self._told(error, said) from error
            except DockerException as error:
                what = f"a throw-away container cannot be run: {error}"
                raise SourceError(what, where=f"image {self._programs.image[:19]}", fix="docker info") from error
            finally:
                remove_container(name)
                self._host.journal.settle(debt)


def remove_container(name: str) -> None:
    """Remove a throw-away container. Idempotent."""
    from docker.errors import DockerException, NotFound

    with contextlib.closing(docker_api()) as client:
        try:
            client.remove_container(name, force=True, v=True)
        except NotFound:
            pass
        except DockerException as error:
            fix = f"docker rm -f {name}"
            raise SourceError(f"cannot be removed: {error}", where=f"container {name}", fix=fix) from error


def main() -> None:
    """Ask a throw-away server, from inside its network: standard input says what, standard output gets the counts."""
    asked = json.load(sys.stdin)
    if asked["private"]:
        _bring_up_loopback()
    base = f"http://127.0.0.1:{asked['port']}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + asked["seconds"]
    while True:
        try:
            with opener.open(f"{base}/-/ready", timeout=10):
                break
        except OSError:
            gone = Process.of(asked["pid"]) is None
            if gone or time.monotonic() > deadline:
                sys.exit("it ended" if gone else "it is not ready")
        time.sleep(0.1)
    with opener.open(f"{base}/metrics", timeout=60) as answer:
        found = re.search(rb"^prometheus_tsdb_blocks_loaded ([0-9.e+]+)$", answer.read(), re.MULTILINE)
    series = 0
    if asked["window"]:
        start, end = (one / 1000 for one in asked["window"])
        query = urllib.parse.urlencode([*(("match[]", one) for one in MATCHERS), ("start", start), ("end", end)])
        with opener.open(f"{base}/api/v1/series?{query}", timeout=TOOL_SECONDS) as answer:
            series = len(json.load(answer)["data"])
    json.dump({"blocks": int(float(found[1])) if found else 0, "series": series}, sys.stdout)


def _await_network(pid: int) -> None:
    """Wait until a process that was just started is in its own network."""
    ours = Path("/proc/self/ns/net").stat().st_ino
    while Process.of(pid) is not None and Path(f"/proc/{pid}/ns/net").stat().st_ino == ours:
        time.sleep(0.01)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        told = fcntl.ioctl(one, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", told)[1]
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
