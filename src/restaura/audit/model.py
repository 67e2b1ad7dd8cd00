# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit says, as data: holders of data, protections, problems and recommendations, each with its evidence.

No text for people stands here: problems and recommendations are codes with parameters, which `texts` words in each
language. No field ever holds a secret's value.
"""

from dataclasses import dataclass, field
from typing import Literal

SCHEMA = 1

HolderKind = Literal[
    "postgres",
    "supabase",
    "docker_volume",
    "compose_project",
    "redis",
    "mongodb",
    "qdrant",
    "prometheus",
    "grafana",
    "mysql",
    "sqlite",
    "tree",
]
Status = Literal["OK", "WARNING", "CRITICAL"]
Severity = Literal["warning", "critical"]
Term = Literal["short", "medium", "long"]


@dataclass(frozen=True)
class Evidence:
    """Where something was seen: a file (with its line), a unit, a container, a process, a port, a directory."""

    kind: Literal["file", "unit", "container", "volume", "image", "process", "port", "directory"]
    where: str
    line: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Holder:
    """Something that holds data. `id` is `KIND:NAME`, the same in every audit of one host.

    `paths` are the directories and files that the data is in, as the host itself names them (also where the audit
    looks at one mounted elsewhere); `bytes` what they take on disk, None when that could not be measured quickly.
    `volumes` are the Docker volumes it lies in, `labels` (`KEY=VALUE`) that volume's: one that holds nothing but a
    database is no holder of its own.
    `source` is the kind of component that can protect it (empty: none can), `component` the settings that discovery
    would declare for it (empty: a person must write them, since a password or an address is wanted).
    """

    id: str
    kind: HolderKind
    name: str
    running: bool
    paths: tuple[str, ...] = ()
    bytes: int | None = None
    version: str = ""
    container: str = ""
    project: str = ""
    volumes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    source: str = ""
    component: dict[str, object] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Take:
    """What a protection says that it takes: a path, or by `kind` a database, a volume; an empty `name` is all of them.

    `container` is the container, or the service of Compose project `project`, that it asks for it.
    """

    kind: Literal["path"] | HolderKind
    name: str = ""
    container: str = ""
    project: str = ""


@dataclass(frozen=True)
class Copy:
    """One thing that a protection produced: where, when (UTC, ISO 8601), how big, on which disk; who may read it."""

    where: str
    at: str
    bytes: int | None = None
    world_readable: bool = False
    owner_readable: bool = True
    disk: int | None = None


@dataclass(frozen=True)
class Protection:
    """One way in which something is backed up, whether it works or not. None means that it cannot be told.

    `kind` names how it is started (`cron`, `timer`, `compose_service`; `script` by nobody) or, where only its
    settings are there, the program (`pgbackrest`, `wal_g`, `barman`, `restic`, `borg`, `borgmatic`, `rclone`,
    `restaura`); `uses` are the programs that do it. `schedule` stands as it is written, `interval` is the longest
    time between two starts in seconds, and `idle` the code of why it is never started. `takes` is what it asks for,
    `covers` the ids of the holders that this is; `writes` the places it writes to, `copies` what is there, newest
    first, and `seen` whether all of these places could be looked at. `last_run` is when it last wrote anything, were
    it a log (UTC, ISO 8601); `failures` are the lines that say that it failed. `loud` is whether somebody hears of
    its failure, `hushed` what hides it (`detail` is a code). `restore_tried` is when a restore of it was last tried
    (`scheduled`: by a job, at an unknown time).
    """

    id: str
    kind: str
    name: str
    schedule: str = ""
    interval: int | None = None
    idle: str = ""
    uses: tuple[str, ...] = ()
    takes: tuple[Take, ...] = ()
    covers: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    seen: bool = True
    last_run: str | None = None
    failures: tuple[Evidence, ...] = ()
    off_host: bool | None = None
    encrypted: bool | None = None
    restore_tried: str | None = None
    loud: bool | None = None
    hushed: tuple[Evidence, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something wrong: a code that `texts` words, its parameters, and the holders or protections it is about."""

    code: str
    severity: Severity
    about: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """What to do next, by when, and the exact command (empty only where no command does it)."""

    code: str
    term: Term
    parameters: dict[str, str] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True)
class Audit:
    """The audit of one host.

    `methods` says of each method of the report whether it was found; None: there is nothing that needs it, or it could
    not be looked for.
    `unreadable` names what could not be looked at, and why: what an audit did not see it must not call missing.
    """

    host: str
    at: str
    status: Status
    methods: dict[str, bool | None]
    holders: tuple[Holder, ...] = ()
    protections: tuple[Protection, ...] = ()
    problems: tuple[Problem, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    recovery_documents: tuple[Evidence, ...] = ()
    recovery_scripts: tuple[Evidence, ...] = ()
    unreadable: tuple[Evidence, ...] = ()
    seconds: float = 0.0
    schema: int = SCHEMA
