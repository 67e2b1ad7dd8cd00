# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts as /proc/PID/mountinfo has them (proc_pid_mountinfo(5)), and which process holds what below a directory.

A process in a container sees the same file under another path. So every path is turned into device and path within
the file system before it is compared.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# They hold no data of their own: no backup ever enters them.
PSEUDO = frozenset(
    """autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs
    proc pstore rpc_pipefs securityfs selinuxfs sysfs tracefs""".split()  # noqa: SIM905  a word list reads better
)


@dataclass(frozen=True)
class Mount:
    """One mount: `root` is what of the file system `device` (major:minor) is seen at `point`."""

    device: str
    root: str
    point: str
    kind: str


@dataclass(frozen=True)
class Holder:
    """A process that has something open, mapped, mounted, bound as a socket, or as its directory.

    `path` is as that process sees it, `live` as we do.
    """

    pid: int
    name: str
    path: str
    live: str
    writing: bool = False
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.pid} {self.name} {self.path}"


def mounts(pid: str = "self") -> list[Mount]:
    """Return the mounts that a process sees, later ones last; none when it is gone."""
    found = []
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split()
        kind = fields[fields.index(b"-") + 1]
        device, root, point = (_unescape(one) for one in fields[2:5])
        found.append(Mount(device, root, point, os.fsdecode(kind)))
    return found


def mounted_below(directory: str, seen: Iterable[Mount]) -> list[Mount]:
    """Return the mounts strictly below `directory`."""
    return [one for one in seen if one.point.startswith(f"{directory.rstrip('/')}/") and one.point != "/"]


def holders(paths: Sequence[str]) -> list[Holder]:
    """Return every other process that holds something at or below `paths` (absolute, without links)."""
    own = _Space(mounts())
    places = [(path, own.within(path)) for path in paths]
    found: dict[tuple[int, str], Holder] = {}
    own_id = _link("/proc/self/ns/mnt")
    spaces, sockets = {own_id: own}, _bound_sockets()
    for pid in sorted(int(one) for one in os.listdir("/proc") if one.isdigit()):  # noqa: PTH208  names, not paths
        if pid == os.getpid():
            continue
        space_id = _link(f"/proc/{pid}/ns/mnt")
        if space_id not in spaces:
            spaces[space_id] = _Space(mounts(str(pid)))
        space = spaces[space_id]
        mounted = [] if space is own else [one.point for one in space.mounts]
        held = [*((one, False) for one in mounted), *_held(pid, sockets if space is own else {})]
        for path, writing in held:
            device, inside = space.within(path)
            for live, (place, root) in places:
                if device and device == place and (inside == root or inside.startswith(f"{root.rstrip('/')}/")):
                    before = found.get((pid, path))
                    writes = writing or (before is not None and before.writing)
                    found[pid, path] = Holder(pid, _name(pid), path, live + inside[len(root) :], writes, _unit(pid))
    return list(found.values())


class _Space:
    """The mounts of one mount namespace, and where in which file system a path of it is."""

    def __init__(self, seen: list[Mount]) -> None:
        self.mounts = seen
        self._known: dict[str, tuple[str, str]] = {}

    def within(self, path: str) -> tuple[str, str]:
        """Return device and path within it; what was deleted, or is no file, is nowhere."""
        if path not in self._known:
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> tuple[str, str]:
        if not path.startswith("/") or path.endswith(" (deleted)"):
            return "", ""
        best = None
        for mount in self.mounts:
            inside = mount.point in ("/", path) or path.startswith(f"{mount.point}/")
            if inside and (best is None or len(mount.point) >= len(best.point)):
                best = mount
        if best is None:
            return "", ""
        rest = path if best.point == "/" else path[len(best.point) :]
        return best.device, (best.root.rstrip("/") + rest).rstrip("/") or "/"


def _held(pid: int, sockets: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield (path, open for writing) of what a process holds; nothing more once it is gone."""
    with contextlib.suppress(OSError):
        for name in ("cwd", "root", "exe"):
            yield _link(f"/proc/{pid}/{name}"), False
        for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  names, not paths
            path = _link(f"/proc/{pid}/fd/{number}")
            if path.startswith("/"):
                yield path, _writes(pid, number)
            elif path in sockets:
                yield sockets[path], False
        with Path(f"/proc/{pid}/maps").open("rb") as lines:
            for path in {_unescape(line.split(None, 5)[5].rstrip(b"\n")) for line in lines if b" /" in line}:
                yield path, False


def _bound_sockets() -> dict[str, str]:
    """Return the paths of bound Unix sockets by what /proc/PID/fd calls them (proc(5), /proc/net/unix)."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_bytes().splitlines()[1:]:
            fields = line.split(None, 7)
            if len(fields) == 8 and fields[7].startswith(b"/"):
                found[f"socket:[{int(fields[6])}]"] = os.fsdecode(fields[7])
    return found


def _writes(pid: int, number: str) -> bool:
    with contextlib.suppress(OSError):
        found = re.search(rb"^flags:\s*([0-7]+)", Path(f"/proc/{pid}/fdinfo/{number}").read_bytes(), re.MULTILINE)
        return bool(found and int(found[1], 8) & os.O_ACCMODE)
    return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  not a path when it names a pipe or a socket
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n"))
    except OSError:
        return "?"


def _unit(pid: int) -> str:
    """Return the systemd service that a process belongs to, or nothing."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape").splitlines():
            for part in reversed(line.split(":", 2)[2].split("/")):
                if part.endswith((".service", ".socket", ".mount")):
                    return part
    return ""


def _unescape(raw: bytes) -> str:
    r"""Undo the kernel's \040-like escapes."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), raw))
