# SPDX-License-Identifier: GPL-3.0-or-later
"""The one source of truth of every setting: types, defaults, choices and descriptions.

Role specs, role READMEs, the configuration reference and the JSON Schema are generated from these classes
(`make generate`); `load.py` makes them from JSON. A source's own settings stand in its file, as a subclass of
`Component`.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
NAME_RULE = "letters, digits, '_', '-' and '.', beginning with a letter or digit, at most 63 characters"


def setting(
    description: str,
    *,
    default: Any = dataclasses.MISSING,
    secret: bool = False,
    name: bool = False,
    example: Any = None,
    minimum: int | None = None,
    pattern: str | None = None,
) -> Any:
    """Declare one setting.

    A `secret` is kept in a file of its own, never in config.json. A `name` must follow NAME_RULE. `minimum` is for
    numbers, `pattern` (a whole-match regular expression) for strings.
    """
    metadata = {
        "description": description,
        "secret": secret,
        "name": name,
        "example": example,
        "minimum": minimum,
        "pattern": pattern,
    }
    if isinstance(default, list | dict):
        raise TypeError("give a tuple or a frozen class as a default")
    return dataclasses.field(default=default, metadata=metadata, kw_only=True)


CHECK_PATH = r"(/[^/\0]+)+"
CHECK_PATH_HELP = (
    "Absolute path, as it is on the live host. Shell patterns are allowed (`*`, `?`, `[a-z]`, and `**` for any number "
    "of directories): at least one file must match, and all that do are looked at."
)


@dataclass(frozen=True)
class HttpCheck:
    """What a service must answer."""

    url: str = setting(
        "Where to ask (GET, redirects are not followed).",
        example="http://127.0.0.1:8000/health",
        pattern=r"https?://[^\s/@]+(/\S*)?",
    )
    status: int = setting("Status that the answer must have.", default=200, minimum=100)
    contains: str = setting("Text that the answer's first 10 MB must hold.", default="", example='"status": "ok"')


@dataclass(frozen=True)
class FileCheck:
    """What files must be and hold."""

    path: str = setting(CHECK_PATH_HELP, example="/srv/app/settings.ini", pattern=CHECK_PATH)
    contains: str = setting("Text that each must hold.", default="", example="DATABASE_URL=")
    matches: str = setting(
        "Python regular expression that must be found in each; `^` and `$` are a line's ends.",
        default="",
        example="^version = [0-9]+$",
    )


@dataclass(frozen=True)
class JsonCheck:
    """JSON files that must parse."""

    path: str = setting(CHECK_PATH_HELP, example="/srv/app/cache/*.json", pattern=CHECK_PATH)
    keys: tuple[str, ...] = setting(
        "Keys that the object in each must have.", default=(), example=["collected_at", "entities"]
    )


@dataclass(frozen=True)
class SqliteCheck:
    """SQLite databases that must open and pass `PRAGMA integrity_check`."""

    path: str = setting(CHECK_PATH_HELP, example="/srv/app/app.db", pattern=CHECK_PATH)


@dataclass(frozen=True)
class Check:
    """What must be true of a component's data: looked at in drills, after restores, and by `restaura check`.

    It has exactly one of `command`, `http`, `file`, `json` and `sqlite`.
    """

    name: str = setting("Name shown in reports.", name=True)
    command: str = setting(
        "Shell command (`/bin/sh -c`). Exit 0 means the data is good. The environment names the data: "
        "`RESTAURA_TARGET` (the directory that stands for `/`, or the socket directory of a database) and what the "
        "source adds. No secret: it stands in the runbook, in the clear.",
        default="",
        example='test -s "$RESTAURA_TARGET/srv/app/orders.csv"',
    )
    http: HttpCheck | None = setting("A service that must answer. Implies `live_only`.", default=None)
    file: FileCheck | None = setting("Files that must be there, and hold something.", default=None)
    json: JsonCheck | None = setting("JSON files that must parse.", default=None)
    sqlite: SqliteCheck | None = setting("SQLite databases that must be whole.", default=None)
    live_only: bool = setting(
        "Whether the check needs the running system (its services, its network): then it is run after a restore to "
        "`live` and by `restaura check`, and in no drill.",
        default=False,
    )
    timeout: int = setting(
        "Seconds after which the check has failed. A service that cannot be reached, or answers that it is not ready "
        "(502, 503, 504), is asked again until then.",
        default=300,
        minimum=1,
    )

    @property
    def kind(self) -> str:
        """Which of its kinds the check is."""
        return self.kinds()[0]

    @property
    def needs_live(self) -> bool:
        """Whether the check makes sense against live data only."""
        return self.live_only or self.http is not None

    def kinds(self) -> list[str]:
        """Return the kinds that were given; one, in a configuration without mistakes."""
        return [one for one in ("command", "http", "file", "json", "sqlite") if getattr(self, one)]

    def mistakes(self) -> list[str]:
        """Say what is wrong with the check as a whole."""
        found = []
        if len(self.kinds()) != 1:
            given = " and ".join(self.kinds()) or "none"
            found.append(f"must have exactly one of command, http, file, json and sqlite; it has {given}")
        if self.file and self.file.matches:
            try:
                re.compile(self.file.matches)
            except (re.error, RecursionError, OverflowError) as error:
                found.append(f"file.matches is no regular expression: {error}")
        return found


@dataclass(frozen=True)
class Component:
    """What every source's components have in common."""

    name: str = setting("Name of the component, unique on the host.", name=True)
    accept_torn: bool = setting(
        "Whether data that could not be captured at one instant (shown as `torn`) may count as good.", default=False
    )
    shrink_guard: int = setting(
        "Per cent by which the component may shrink against its last good point before it is kept as *suspect*, "
        "which evicts nothing until `restaura accept`. 100 turns the guard off.",
        default=50,
        minimum=0,
    )
    checks: tuple[Check, ...] = setting(
        "What must be true of the data, in drills and after restores. Each check has exactly one of `command`, `http`, "
        "`file`, `json` and `sqlite`.",
        default=(),
    )


@dataclass(frozen=True)
class Store:
    """Where points are kept."""

    name: str = setting("Name of the store, unique on the host.", name=True)
    type: Literal["restic", "dated"] = setting(
        "`restic` keeps points deduplicated and encrypted; `dated` keeps plain files by date, readable with no tool "
        "of ours.",
        default="restic",
    )
    location: str = setting(
        "An absolute directory, or `s3:https://ENDPOINT/BUCKET[/PREFIX]`.",
        example="s3:https://s3.eu-central-1.amazonaws.com/acme-backups/web1",
        pattern=r"(/.*|s3:https?://[^/\s]+/[^/\s]+(/.*)?)",
    )
    s3_access_key: str | None = setting("S3 access key id.", default=None, secret=True)
    s3_secret_key: str | None = setting("S3 secret access key.", default=None, secret=True)
    s3_region: str = setting("S3 region.", default="us-east-1")
    password: str | None = setting(
        "Password of a restic repository. Without one, it is generated on the host once and goes into the "
        "recovery kit.",
        default=None,
        secret=True,
    )
    compression: Literal["zstd", "none"] = setting("How a dated store compresses (adds `.zst`).", default="zstd")
    encrypt: bool = setting(
        "Whether a dated store encrypts everything with age (adds `.age`). Artifacts that hold secrets are always "
        "encrypted.",
        default=False,
    )
    age_recipients: tuple[str, ...] = setting(
        "Further age public keys that can open a dated store, beside the host's own key.",
        default=(),
        pattern=r"age1[a-z0-9]{58}",
    )
    host_segment: bool = setting("Whether a dated store has a folder for each host.", default=True)
    plan_segment: bool = setting("Whether a dated store has a folder for each plan.", default=True)
    host_may_delete: bool = setting(
        "Whether this host may delete points. With `false`, retention runs elsewhere: `restaura prune` with another "
        "credential.",
        default=True,
    )

    @property
    def place(self) -> str:
        """What tells where this store is from where another of its name was."""
        return f"{self.type} at {self.location}"


@dataclass(frozen=True)
class Retention:
    """How long points are kept, counted per component and per store. A point stays when any rule wants it."""

    keep_last: int = setting("Keep this many newest points.", default=3, minimum=0)
    keep_within: str = setting(
        "Keep every point younger than this: a number and `h`, `d`, `w`, `m` (30 days) or `y` (365 days).",
        default="",
        pattern=r"(|[0-9]+[hdwmy])",
        example="7d",
    )
    keep_daily: int = setting("Keep the newest point of this many days that have one.", default=7, minimum=0)
    keep_weekly: int = setting("Keep the newest point of this many ISO weeks that have one.", default=4, minimum=0)
    keep_monthly: int = setting("Keep the newest point of this many months that have one.", default=6, minimum=0)
    floor: int = setting("Never keep fewer good points than this, whatever the other rules say.", default=2, minimum=1)


UNIT = r"[A-Za-z0-9:_.@\\-]+\.(service|socket|timer|path|target)"
HEADERS = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*(\r?\n|$))+"


@dataclass(frozen=True)
class HttpCall:
    """One request, and what must be answered."""

    url: str = setting(
        "Where to ask; redirects are not followed.",
        example="http://127.0.0.1:8080/ingestion/pause",
        pattern=r"https?://[^\s/@]+(/\S*)?",
    )
    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = setting("Method of the request.", default="POST")
    body: str = setting("JSON text that is sent.", default="", example='{"is_paused": true}')
    status: int = setting("Status that the answer must have; 0 is any from 200 to 299.", default=0, minimum=0)

    def mistakes(self) -> list[str]:
        """Say what is wrong with the call as a whole."""
        try:
            json.loads(self.body or "null")
        except (ValueError, RecursionError) as error:
            return [f"body is no JSON: {error}"]
        return []


@dataclass(frozen=True)
class HttpPause:
    """A service that is asked to pause, and to go on."""

    pause: HttpCall = setting("What pauses it. When the service cannot be reached, the run fails.")
    resume: HttpCall = setting(
        "What lets it go on; it may be sent twice. It is sent again for 30 seconds, and by `restaura recover`."
    )
    headers: str | None = setting(
        "Headers of both requests, one a line: `Authorization: Bearer …`.", default=None, secret=True, pattern=HEADERS
    )
    ca_file: str = setting(
        "Certificate (PEM) of the authority that signed the service's, when the system does not know it.",
        default="",
        pattern=r"(|/.*)",
    )


@dataclass(frozen=True)
class ContainersPause:
    """Containers that ingest: those with one of the names, and those that have all of the labels."""

    names: tuple[str, ...] = setting(
        "Names of containers. One that is not there fails the run.",
        default=(),
        pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*",
        example=["etl-worker-1"],
    )
    labels: tuple[str, ...] = setting(
        "Labels that a container must have, all of them, each `KEY` or `KEY=VALUE`.",
        default=(),
        pattern=r"[^=\s]+(=.*)?",
        example=["com.docker.compose.project=etl"],
    )
    hold: Literal["stop", "pause"] = setting(
        "`stop` lets them end what they are at, dependents first; `pause` freezes them in an instant, and what they "
        "are at stays half done until they go on.",
        default="stop",
    )

    def mistakes(self) -> list[str]:
        """Say what is wrong with the choice as a whole."""
        return [] if self.names or self.labels else ["must have `names` or `labels`"]


@dataclass(frozen=True)
class PauseStep:
    """One thing that is paused. It has exactly one of `command`, `units`, `containers` and `http`."""

    command: str = setting(
        "Shell command (`/bin/sh -c`) that pauses ingestion, and ends once it is paused.",
        default="",
        example="airflow dags pause ingest",
    )
    resume: str = setting(
        "Shell command that resumes what `command` paused; it may run twice.",
        default="",
        example="airflow dags unpause ingest",
    )
    units: tuple[str, ...] = setting(
        "systemd units that are stopped. Only those that ran are started again, with what depends on them.",
        default=(),
        example=["ingest.timer", "ingest.service"],
        pattern=UNIT,
    )
    containers: ContainersPause | None = setting(
        "Containers that are stopped or paused. Only those that ran go on, in the order of their Compose projects.",
        default=None,
    )
    http: HttpPause | None = setting("A service that is asked to pause.", default=None)
    only_if: str = setting(
        "Shell command. When its exit code is not 0, ingestion does not run, so it is neither paused nor resumed.",
        default="",
        example="systemctl is-active --quiet airflow-scheduler",
    )

    @property
    def kind(self) -> str:
        """Which of its kinds the step is."""
        return self.kinds()[0]

    def kinds(self) -> list[str]:
        """Return the kinds that were given; one, in a configuration without mistakes."""
        return [one for one in ("command", "units", "containers", "http") if getattr(self, one)]

    def mistakes(self) -> list[str]:
        """Say what is wrong with the step as a whole."""
        found = []
        if len(self.kinds()) != 1:
            given = " and ".join(self.kinds()) or "none"
            found.append(f"must have exactly one of command, units, containers and http; it has {given}")
        if bool(self.command) != bool(self.resume):
            found.append("`command` and `resume` belong together")
        return found


@dataclass(frozen=True)
class Pause(PauseStep):
    """How ingestion is held while components take their instant. It is resumed also after SIGKILL or a reboot.

    It is one step itself, or has several in `steps`.
    """

    steps: tuple[PauseStep, ...] = setting(
        "Several things that are paused one after the other, and resumed in reverse order, in place of the one above.",
        default=(),
    )
    limit: int = setting(
        "Seconds after which ingestion is resumed, whatever is still waited for. Components that do not hold still by "
        "then fail, and with them the run.",
        default=300,
        minimum=1,
    )

    @property
    def all_steps(self) -> dict[str, PauseStep]:
        """The steps in their order, by the place where each was declared below the plan."""
        return {f"pause.steps.{n}": one for n, one in enumerate(self.steps)} or {"pause": self}

    def mistakes(self) -> list[str]:
        """Say what is wrong with the pause as a whole."""
        if not self.steps:
            return super().mistakes()
        beside = [*self.kinds(), *(one for one in ("resume", "only_if") if getattr(self, one))]
        return [f"{', '.join(beside)} stands beside `steps`: make it one of them"] if beside else []


SCHEDULE = (
    r"(never|hourly|daily|weekly|monthly|([01][0-9]|2[0-3]):[0-5][0-9]|"
    r"(mon|tue|wed|thu|fri|sat|sun) ([01][0-9]|2[0-3]):[0-5][0-9]|[0-9*/,-]+( [0-9*/,-]+){4})"
)
SCHEDULE_HELP = (
    "`hourly`, `daily`, `weekly`, `monthly` (at a time drawn from the host's name), an exact time `23:00`, "
    "`sun 03:30`, five cron fields, or `never`."
)


@dataclass(frozen=True)
class Plan:
    """When which components go into which stores, and how long they stay there."""

    name: str = setting("Name of the plan, unique on the host.", name=True)
    components: tuple[str, ...] = setting("Names of components; empty means all of the host's.", default=())
    stores: tuple[str, ...] = setting("Names of stores; empty means all of the host's.", default=())
    schedule: str = setting(f"When cron runs it: {SCHEDULE_HELP}", default="daily", pattern=SCHEDULE)
    timezone: str = setting(
        "Time zone of point labels, as in `America/Sao_Paulo`; empty means the host's own. Cron itself always runs "
        "in the host's.",
        default="",
    )
    retention: Retention = setting("How long points are kept.", default=Retention())
    fingerprint: Literal["content", "catalog"] = setting(
        "`content` reads every value; `catalog` reads structure, counts and sizes, and is quicker. A run that a drill "
        "will prove takes `content` whatever stands here.",
        default="content",
    )
    drill: str = setting(
        f"When the newest point is restored into a throw-away target: {SCHEDULE_HELP}",
        default="weekly",
        pattern=SCHEDULE,
    )
    verify: str = setting(
        f"When stored bytes are read again, a part each time so that all are read within 30 days: {SCHEDULE_HELP}",
        default="daily",
        pattern=SCHEDULE,
    )
    pause: Pause | None = setting(
        "How ingestion is held while components take their instant: by a command, systemd units, containers or an HTTP "
        "call. It is held during a restore and an undo of these components too.",
        default=None,
    )
    freeze_timeout: int = setting("Seconds a component may hold still; beyond it fails.", default=3600, minimum=1)
    stop_limit: int = setting(
        "Seconds that services or containers may be stopped for a copy (`stops`); beyond it they are started again at "
        "once, and their component fails.",
        default=600,
        minimum=1,
    )
    failure_command: str = setting(
        "Shell command run when a run, drill, verify or prune ends with any exit code but 0. Its environment has "
        "`RESTAURA_PLAN`, `RESTAURA_ACTION`, `RESTAURA_EXIT`, `RESTAURA_SUMMARY`. No secret: it lies in every store in "
        "the clear; have it read a file.",
        default="",
    )
    heartbeat_url: str | None = setting(
        "URL fetched after every run that ended with exit code 0 (Healthchecks, Uptime Kuma …); `/fail` is not added.",
        default=None,
        secret=True,
    )


LINE = r"[^\r\n]*"


@dataclass(frozen=True)
class Contact:
    """Somebody to call when a restore is needed. It stands in the runbook, which lies in every store in the clear."""

    name: str = setting("Who: a person, a team or a supplier.", example="Ana Souza", pattern=r"[^\r\n]+")
    role: str = setting("What they are for.", default="", example="database administrator", pattern=LINE)
    email: str = setting("E-mail address.", default="", example="ana@example.com", pattern=LINE)
    phone: str = setting("Telephone number.", default="", example="+55 11 5555-0100", pattern=LINE)
    note: str = setting(
        "What else is to be known: hours, another channel, a contract number. No secret: the runbook is not encrypted.",
        default="",
        pattern=LINE,
    )


@dataclass(frozen=True)
class Settings:
    """The host's own settings."""

    host: str = setting("Name of this host in stores: the inventory name.", name=True)
    reserve_percent: int = setting("Per cent of a disk that no write of ours may use up.", default=10, minimum=0)
    reserve_bytes: int = setting(
        "Bytes of a disk that no write of ours may use up; the smaller of the two reserves holds.",
        default=5_000_000_000,
        minimum=0,
    )
    metrics_file: str = setting(
        "Where metrics go for a node exporter's textfile collector, beside `/var/lib/restaura/restaura.prom`.",
        default="",
        pattern=r"(|/.+\.prom)",
    )
    log_days: int = setting("Days that logs are kept.", default=90, minimum=1)
    contacts: tuple[Contact, ...] = setting(
        "Whom to call, in this order, when something must be restored. They head the runbook.", default=()
    )


@dataclass(frozen=True)
class Config:
    """Everything one host is told. `components` holds each source's own class."""

    settings: Settings
    stores: tuple[Store, ...] = ()
    plans: tuple[Plan, ...] = ()
    components: tuple[Component, ...] = ()
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)

    def store(self, name: str) -> Store:
        """Return the store called `name` (KeyError when there is none: load.py has checked every reference)."""
        return {one.name: one for one in self.stores}[name]

    def component(self, name: str) -> Component:
        """Return the component called `name` (KeyError when there is none)."""
        return {one.name: one for one in self.components}[name]

    def plan_components(self, plan: Plan) -> tuple[Component, ...]:
        """Return the components of a plan, in the order of their declaration."""
        return tuple(one for one in self.components if not plan.components or one.name in plan.components)

    def plan_stores(self, plan: Plan) -> tuple[Store, ...]:
        """Return the stores of a plan, in the order of their declaration."""
        return tuple(one for one in self.stores if not plan.stores or one.name in plan.stores)
