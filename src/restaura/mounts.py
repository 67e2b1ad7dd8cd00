# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts as /proc/PID/mountinfo has them (proc_pid_mountinfo(5)), and which process holds what below a directory.

A process in a container sees the same file under another path. So every path is turned into device and path within
the file system before it is compared.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
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
    """A process that has `path` open, mapped, mounted or as its directory. `path` is as that process sees it."""

    pid: int
    name: str
    path: str
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
    own = mounts()
    places = [_within(path, own) for path in paths]
    found: dict[tuple[int, str], Holder] = {}
    seen_by: dict[str, list[Mount]] = {}
    own_space = _link("/proc/self/ns/mnt")
    for pid in sorted(int(one) for one in os.listdir("/proc") if one.isdigit()):  # noqa: PTH208  names, not paths
        if pid == os.getpid():
            continue
        space = _link(f"/proc/{pid}/ns/mnt")
        if space not in seen_by:
            seen_by[space] = own if space == own_space else mounts(str(pid))
        name = ""
        for path, writing in _held(pid, seen_by[space], foreign=space != own_space):
            if any(_covers(place, _within(path, seen_by[space])) for place in places):
                name = name or _name(pid)
                before = found.get((pid, path))
                found[pid, path] = Holder(pid, name, path, writing or bool(before and before.writing), _unit(pid))
    return list(found.values())


def _held(pid: int, seen: list[Mount], foreign: bool) -> Iterator[tuple[str, bool]]:
    """Yield (path, open for writing) of what a process holds; nothing more once it is gone."""
    with contextlib.suppress(OSError):
        for name in ("cwd", "root", "exe"):
            yield _link(f"/proc/{pid}/{name}"), False
        for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  names, not paths
            path = _link(f"/proc/{pid}/fd/{number}")
            if path.startswith("/"):
                yield path, _writes(pid, number)
        with Path(f"/proc/{pid}/maps").open("rb") as lines:
            for path in {_unescape(line.split(None, 5)[5].rstrip(b"\n")) for line in lines if b" /" in line}:
                yield path, False
    if foreign:
        for mount in seen:
            yield mount.point, False


def _writes(pid: int, number: str) -> bool:
    with contextlib.suppress(OSError):
        found = re.search(rb"^flags:\s*([0-7]+)", Path(f"/proc/{pid}/fdinfo/{number}").read_bytes(), re.MULTILINE)
        return bool(found and int(found[1], 8) & os.O_ACCMODE)
    return False


def _within(path: str, seen: Iterable[Mount]) -> tuple[str, str]:
    """Return device and path within it; a path whose file was deleted is nowhere."""
    if not path.startswith("/") or path.endswith(" (deleted)"):
        return "", ""
    best = None
    for mount in seen:
        inside = mount.point in ("/", path) or path.startswith(f"{mount.point}/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    if best is None:
        return "", ""
    rest = path if best.point == "/" else path[len(best.point) :]
    return best.device, (best.root.rstrip("/") + rest).rstrip("/") or "/"


def _covers(place: tuple[str, str], held: tuple[str, str]) -> bool:
    return bool(held[0]) and place[0] == held[0] and (held[1] == place[1] or held[1].startswith(f"{place[1]}/"))


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
