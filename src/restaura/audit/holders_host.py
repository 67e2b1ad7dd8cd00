# SPDX-License-Identifier: GPL-3.0-or-later
"""What works on a host: its processes, its units and its open ports, as far as one may see them; and its packages."""

import contextlib
import os
import re
import shlex
import stat
from dataclasses import dataclass
from functools import cached_property

from restaura.audit.looking import Look
from restaura.audit.model import Evidence

UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_LISTENING = "0A"  # proc_net_tcp: the state TCP_LISTEN of include/net/tcp_states.h
_CONTAINER = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Process:
    """A process: `program` is the last name of what it was started as; `container` the id of one it runs in."""

    pid: int
    program: str
    arguments: tuple[str, ...]
    unit: str
    container: str

    @property
    def evidence(self) -> Evidence:
        """The process as evidence; its arguments may hold secrets and are left out."""
        return Evidence("process", f"{self.program} (PID {self.pid})", detail=self.unit)


@dataclass(frozen=True)
class Unit:
    """A systemd service file: what it starts, where that works and keeps its state."""

    name: str
    path: str
    line: int | None
    command: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def program(self) -> str:
        """The last name of the program it starts."""
        return self.command[0].rsplit("/", 1)[-1] if self.command else ""

    @property
    def evidence(self) -> Evidence:
        """The unit as evidence."""
        return Evidence("unit", self.name, self.line, self.path)


class Machine:
    """A host below a root. Every path that goes in or out is the host's own."""

    def __init__(self, look: Look) -> None:
        self.look = look

    def name(self, path: str) -> str:
        """Return the host's own name of a path below the root."""
        root = str(self.look.root).rstrip("/")
        return path.removeprefix(root) if path.startswith(f"{root}/") else path

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted paths that match an absolute pattern of `*` and plain names."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if "*" in part:
                wanted = re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)
                below = [(one, name) for one in found if self.is_dir(one) for name in self.look.names(one or "/")]
                found = [f"{one}/{name}" for one, name in below if wanted.fullmatch(name)]
            else:
                found = [f"{one}/{part}" for one in found]
        return sorted(one for one in found if self.look.status(one))

    def is_dir(self, path: str) -> bool:
        """Whether a path is a directory, or a link to one."""
        found = self.look.status(path or "/")
        return found is not None and stat.S_ISDIR(found.st_mode)

    def inside(self, directory: str) -> set[str] | None:
        """Return the names in a directory; None when it may not be looked into."""
        try:
            return set(os.listdir(self.look.at(directory)))  # noqa: PTH208  names, not paths
        except PermissionError:
            self.look.blame(directory, "permission", "directory")
            return None
        except (OSError, ValueError):
            return set()

    def holds_something(self, directory: str) -> bool:
        """Whether a directory has anything in it; one that may not be looked into counts as full."""
        return self.is_dir(directory) and self.inside(directory) != set()

    @cached_property
    def processes(self) -> list[Process]:
        """Every process that can be seen, kernel threads left out."""
        own = set(_CONTAINER.findall(self._proc("self/cgroup")))
        found = []
        numbers = sorted(int(one.name) for one in self.look.entries("/proc") if one.name.isdigit())
        for pid in numbers:
            arguments = self._proc(f"{pid}/cmdline").rstrip("\0").split("\0")
            # A server that renames itself leaves its title in one word, as in `redis-server 127.0.0.1:6379`.
            program = arguments[0].split(" ")[0].rstrip(":").rsplit("/", 1)[-1]
            if not program:
                continue
            group = self._proc(f"{pid}/cgroup")
            units = [part for part in re.split(r"[/\n]", group) if part.endswith(".service")]
            containers = [one for one in _CONTAINER.findall(group) if one not in own]
            last = containers[-1] if containers else ""
            found.append(Process(pid, program, tuple(arguments[1:]), units[-1] if units else "", last))
        return found

    def _proc(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return os.fsdecode((self.look.root / "proc" / name).read_bytes())
        return ""

    def working_directory(self, pid: int) -> str:
        """Return where a process works; empty when that may not be seen."""
        with contextlib.suppress(OSError):
            return self.name(os.readlink(self.look.root / f"proc/{pid}/cwd"))  # noqa: PTH115  may be no path
        return ""

    @cached_property
    def open_paths(self) -> set[str]:
        """Every path that a process works in or holds open, as far as that may be seen."""
        found: set[str] = set()
        for process in self.processes:
            found.add(self.working_directory(process.pid))
            with contextlib.suppress(OSError):
                folder = self.look.root / f"proc/{process.pid}/fd"
                for number in os.listdir(folder):  # noqa: PTH208  names, not paths
                    with contextlib.suppress(OSError):
                        found.add(self.name(os.readlink(folder / number)))  # noqa: PTH115  may be a socket
        return found

    @cached_property
    def ports(self) -> dict[int, str]:
        """The TCP ports that somebody listens on, with what /proc calls the socket."""
        found: dict[int, str] = {}
        for table in ("net/tcp", "net/tcp6"):
            for line in self._proc(table).splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTENING:
                    with contextlib.suppress(ValueError):
                        found.setdefault(int(fields[1].rsplit(":", 1)[-1], 16), f"socket:[{fields[9]}]")
        return found

    @cached_property
    def listeners(self) -> dict[str, Process]:
        """Which process has which socket open, as far as that may be seen."""
        found: dict[str, Process] = {}
        wanted = set(self.ports.values())
        for process in self.processes:
            with contextlib.suppress(OSError):
                folder = self.look.root / f"proc/{process.pid}/fd"
                for number in os.listdir(folder):  # noqa: PTH208  names, not paths
                    with contextlib.suppress(OSError):
                        link = os.readlink(folder / number)  # noqa: PTH115  a socket is no path
                        if link in wanted:
                            found[link] = process
        return found

    @cached_property
    def units(self) -> list[Unit]:
        """Every service there is a file for; the file that systemd would take."""
        found: dict[str, Unit] = {}
        for folder in UNIT_FOLDERS:
            for name in self.look.names(folder):
                path = f"{folder}/{name}"
                if name.endswith(".service") and name not in found and (text := self.look.text(path)):
                    found[name] = _unit(name, path, text)
        return list(found.values())

    @cached_property
    def running_units(self) -> set[str]:
        """The services that have a process."""
        return {one.unit for one in self.processes if one.unit}

    @cached_property
    def packages(self) -> dict[str, str]:
        """Debian's installed packages, with their versions."""
        text = self.look.text("/var/lib/dpkg/status") or ""
        found = re.findall(r"^Package: (\S+)\nStatus: \S+ \S+ installed\n(?:.+\n)*?Version: (\S+)", text, re.MULTILINE)
        return dict(found)


def _unit(name: str, path: str, text: str) -> Unit:
    r"""Read what counts of a unit file (systemd.syntax(7)): the last value of each key, lines that end in \ joined."""
    keys: dict[str, tuple[str, int]] = {}
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first if joined else number
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        key, found, value = joined.partition("=")
        if found and not key.startswith(("#", ";")) and value.strip():
            keys[key.strip()] = (value.strip(), first)
        joined = ""
    command, line_number = keys.get("ExecStart", ("", 0))
    folders = [keys["WorkingDirectory"][0].lstrip("-")] if "WorkingDirectory" in keys else []
    folders += [f"/var/lib/{one.split(':')[0]}" for one in keys.get("StateDirectory", ("", 0))[0].split()]
    whole = [one.rstrip("/") for one in folders if one.startswith("/") and "%" not in one]
    return Unit(name, path, line_number or None, tuple(_words(command.lstrip("-@:+!|"))), tuple(whole))


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()
