# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host starts by itself: the lines of every crontab, the scripts of `cron.daily` and the like, systemd timers.

Read from files, as cron(8), crontab(5), anacrontab(5), run-parts(8) and systemd.unit(5) say, without asking a daemon.
"""

import contextlib
import functools
import itertools
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from restaura import schedule
from restaura.audit.looking import Look
from restaura.audit.model import Evidence

HOUR, DAY = 3600, 86400
WORDS = {"hourly": HOUR, "daily": DAY, "midnight": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY, "yearly": 366 * DAY}
WORDS |= {"annually": 366 * DAY, "quarterly": 92 * DAY, "semiannually": 184 * DAY, "minutely": 60}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPOOLS = ("/var/spool/cron/crontabs", "/var/spool/cron", "/etc/crontabs")
PARTS = ("hourly", "daily", "weekly", "monthly", "yearly")
# What starts crontabs: Debian's and Red Hat's cron, others, and the generator of systemd-cron.
DAEMONS = (
    *("/usr/sbin/cron", "/usr/sbin/crond", "/sbin/crond", "/usr/sbin/fcron", "/usr/sbin/bcron-start"),
    *("/usr/lib/systemd/system-generators/systemd-crontab-generator",),
)
MAILERS = ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/msmtp", "/usr/sbin/ssmtp")
UNITS = (
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)
USER_UNITS = (".config/systemd/user", ".local/share/systemd/user")
# They keep records of the system itself beside them, and back up nothing that a person put there.
SYSTEMS_OWN = {"dpkg", "dpkg-db-backup", "passwd", "aptitude", "apt-compat", "apt-daily", "etckeeper", "shadow"}
SYSTEMS_OWN |= {"samba", "standard"}
MOST_LINES = 20_000
PART_NAME = re.compile(r"[A-Za-z0-9_-]+")
ENTRY = re.compile(r"\s*(?:@(?P<word>[a-z]+)|(?P<fields>[0-9*][^\s=]*(?:\s+[0-9a-zA-Z*,/~?-]+){4}))\s+(?P<rest>\S.*)")
SETTING = re.compile(r"\s*[\"']?([A-Za-z_]\w*)[\"']?\s*=\s*(.*?)\s*")


@dataclass(frozen=True)
class Job:
    """Something that is started by the clock.

    `commands` are shell commands or, for `cron.daily` and the like, a script's path; `interval` is the longest time
    between two starts in seconds, None when it cannot be told; `idle` the code of why it is never started. `told` is
    whether somebody is told of what it prints (cron) or that it failed (systemd); `hushed` what keeps that from them.
    """

    kind: str
    name: str
    commands: tuple[str, ...]
    schedule: str
    interval: int | None
    evidence: Evidence
    user: str = "root"
    idle: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()
    told: bool = True
    hushed: tuple[Evidence, ...] = ()
    last_run: str | None = None


def find_jobs(look: Look) -> Iterator[Job]:
    """Yield everything that this host starts by the clock, and what looks as if but never is (`idle`)."""
    yield from _crontabs(look)
    yield from _parts(look)
    yield from _anacrontab(look)
    yield from _timers(look)


def moment(seconds: float) -> str:
    """Return a time since the epoch as audits write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


# cron


def _crontabs(look: Look) -> Iterator[Job]:
    idle = "" if any(look.status(one) for one in DAEMONS) else "no_cron_daemon"
    yield from _crontab(look, "/etc/crontab", "", idle)
    for name in look.names("/etc/cron.d"):
        path = f"/etc/cron.d/{name}"
        status = look.status(path)
        if name.startswith(".") or name == "README" or status is None:
            continue
        refused = "insecure_mode" if status.st_mode & 0o022 else ""
        yield from _crontab(look, path, "", ("" if PART_NAME.fullmatch(name) else "dot_in_name") or refused or idle)
    for spool in SPOOLS:
        for entry in look.entries(spool):
            with contextlib.suppress(OSError):
                if not entry.name.startswith(".") and not entry.is_dir():
                    yield from _crontab(look, f"{spool}/{entry.name}", entry.name, idle)


def _crontab(look: Look, path: str, user: str, idle: str) -> Iterator[Job]:
    """Yield the jobs of a crontab; `user` is empty where the lines name it."""
    text = look.text(path) or ""
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        look.blame(path, "too_long")
    environment: dict[str, str] = {}
    mailer = any(look.status(one) for one in MAILERS)
    for number, line in enumerate(lines[:MOST_LINES], 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if setting := SETTING.fullmatch(line):
            environment[setting[1]] = setting[2].strip("\"'")
            continue
        entry = ENTRY.match(line)
        if entry is None:
            continue
        account, _, command = (user, "", entry["rest"]) if user else entry["rest"].partition(" ")
        evidence = Evidence("file", path, number)
        told = mailer and environment.get("MAILTO", "root") != ""
        code = "mailto_empty" if mailer else "no_mailer"
        interval = WORDS.get(entry["word"]) if entry["word"] else cron_interval(entry["fields"])
        # cron(8) of Debian does not run a last line that has no end, and refuses times that it does not understand.
        cut = "no_newline" if number == len(lines) else ""
        cut = cut or ("bad_time" if entry["fields"] and interval is None else "")
        yield Job(
            "cron",
            f"{path}:{number}",
            (_until_percent(command.strip()),),
            f"@{entry['word']}" if entry["word"] else " ".join(entry["fields"].split()),
            interval,
            evidence,
            user=account.strip(),
            idle=cut or idle,
            environment=dict(environment),
            told=told,
            hushed=() if told else (Evidence("file", path, number, code),),
        )


def _until_percent(command: str) -> str:
    """Return a crontab's command: what follows the first bare % is its standard input."""
    return re.sub(r"(?<!\\)%.*", "", command).replace("\\%", "%").strip()


def _parts(look: Look) -> Iterator[Job]:
    cron = any(look.status(one) for one in (*DAEMONS, "/usr/sbin/anacron"))
    mailer = any(look.status(one) for one in MAILERS)
    for period in PARTS:
        for entry in look.entries(f"/etc/cron.{period}"):
            path = f"/etc/cron.{period}/{entry.name}"
            status = look.status(path)
            if status is None or not stat.S_ISREG(status.st_mode) or entry.name in {*SYSTEMS_OWN, ".placeholder"}:
                continue
            idle = "" if PART_NAME.fullmatch(entry.name) else "dot_in_name"
            idle = idle or ("" if status.st_mode & 0o111 else "not_executable") or ("" if cron else "no_cron_daemon")
            evidence = Evidence("file", path)
            hushed = () if mailer else (Evidence("file", path, None, "no_mailer"),)
            yield Job(
                "cron",
                path,
                (path,),
                f"cron.{period}",
                WORDS[period],
                evidence,
                idle=idle,
                told=mailer,
                hushed=hushed,
            )


def _anacrontab(look: Look) -> Iterator[Job]:
    path = "/etc/anacrontab"
    idle = "" if look.status("/usr/sbin/anacron") else "no_cron_daemon"
    for number, line in enumerate((look.text(path) or "").split("\n")[:MOST_LINES], 1):
        entry = re.match(r"\s*(?:@([a-z]+)|(\d+))\s+\d+\s+(\S+)\s+(\S.*)", line)
        if entry and "run-parts" not in entry[4]:
            interval = WORDS.get(entry[1]) if entry[1] else int(entry[2]) * DAY
            when = f"@{entry[1]}" if entry[1] else f"{entry[2]} days"
            evidence = Evidence("file", path, number)
            stamp = look.status(f"/var/spool/anacron/{entry[3]}")
            last = moment(stamp.st_mtime) if stamp else None
            yield Job(
                "cron", f"{path}:{number}", (entry[4].strip(),), when, interval, evidence, idle=idle, last_run=last
            )


@functools.cache
def cron_interval(fields: str) -> int | None:
    """Return the longest time in seconds between two starts by five cron fields; None when they make no schedule."""
    try:
        cron = schedule.parse(" ".join(_numbers(number, one) for number, one in enumerate(fields.split())))
    except ValueError:
        return None
    start = date(2024, 1, 1)
    days = [number for number in range(3 * 366) if cron.on(start + timedelta(days=number))]
    longest = max((late - early for early, late in itertools.pairwise(days)), default=0)
    if longest != 1:
        return longest * DAY if longest else None
    minutes = sorted(hour * 60 + minute for hour in cron.hours for minute in cron.minutes)
    return 60 * max(late - early for early, late in zip(minutes, [*minutes[1:], minutes[0] + 24 * 60], strict=True))


def _numbers(number: int, text: str) -> str:
    """Return a cron field with the names of its months and weekdays as numbers."""
    names = {3: MONTHS, 4: WEEKDAYS}.get(number, ())
    text = re.sub(r"[a-z]{3}", lambda found: _number(found[0], names), text.lower())
    return re.sub(r"^([1-6])-0$", r"\1-7", text.replace("?", "*"))


def _number(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        return name
    return str((names.index(name) + 1) % 7) if names is WEEKDAYS else str(names.index(name) + 1)


# systemd

Unit = dict[str, dict[str, list[tuple[str, str, int]]]]


def _timers(look: Look) -> Iterator[Job]:
    homes = [(user, tuple(f"{home}/{one}" for one in USER_UNITS)) for user, home in look.homes()]
    for user, places in (("root", UNITS), *homes):
        wanted = _wanted(look, places)
        seen = set()
        for place in places:
            for name in look.names(place):
                if name.endswith(".timer") and name not in seen and name.removesuffix(".timer") not in SYSTEMS_OWN:
                    seen.add(name)
                    names = sorted(one for one in wanted if _template(one) == name) or [name]
                    # A template of which there is no instance is nobody's job.
                    for instance in (one for one in names if "@." not in one):
                        yield from _timer(look, places, place, name, instance, instance in wanted, user)


def _wanted(look: Look, places: tuple[str, ...]) -> set[str]:
    """Return the units that a target wants: `systemctl enable` does no more than link them so."""
    found: set[str] = set()
    for place in places:
        for entry in look.entries(place):
            if entry.name.endswith((".wants", ".requires")):
                found |= set(look.names(f"{place}/{entry.name}"))
    return found


def _template(name: str) -> str:
    return re.sub(r"@.+\.", "@.", name)


def _timer(
    look: Look, places: tuple[str, ...], place: str, file: str, name: str, enabled: bool, user: str
) -> Iterator[Job]:
    path = f"{place}/{file}"
    timer = _unit(look, places, file)
    clock = timer.get("Timer", {})
    starts = [
        (key, *one)
        for key in clock
        if (key.startswith("On") and "Sec" in key) or key == "OnCalendar"
        for one in clock[key]
    ]
    if not starts:
        return
    instance = re.sub(r"^[^@]*@?(.*)\.timer$", r"\1", name) if "@" in name else ""
    target = clock["Unit"][-1][0] if clock.get("Unit") else name.removesuffix(".timer") + ".service"
    service = _unit(look, places, _template(target))
    section = service.get("Service", {})
    commands = [
        (
            re.sub(r"^[@:+!|-]+", "", value).replace("%i", instance).replace("%I", instance).replace("%%", "%"),
            where,
            line,
        )
        for key in ("ExecStartPre", "ExecStart", "ExecStartPost")
        for value, where, line in section.get(key, [])
    ]
    if not commands:
        return
    intervals = [one for one in (_interval(key, value) for key, value, _, _ in starts) if one]
    stamp = look.status(f"/var/lib/systemd/timers/stamp-{name}") if user == "root" else None
    told = bool(service.get("Unit", {}).get("OnFailure")) or any("notify" in one[0] for one in commands)
    ignored = [value for value, _, _ in section.get("ExecStart", []) if value.startswith("-")]
    hushed = [Evidence("unit", target, None, "no_onfailure")] if not told else []
    hushed += [Evidence("unit", target, None, "errors_ignored")] if ignored else []
    yield Job(
        "timer",
        name,
        tuple(one for one, _, _ in commands),
        ", ".join(value if key == "OnCalendar" else f"{key}={value}" for key, value, _, _ in starts),
        min(intervals, default=None),
        Evidence("unit", name, None, path),
        user=(section.get("User") or [(user, "", 0)])[-1][0],
        idle="" if enabled else "timer_disabled",
        environment=dict(pair for value, _, _ in section.get("Environment", []) for pair in _pairs(value)),
        environment_files=tuple(value.lstrip("-") for value, _, _ in section.get("EnvironmentFile", [])),
        told=told and not ignored,
        hushed=tuple(hushed),
        last_run=moment(stamp.st_mtime) if stamp else None,
    )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for quoted, plain in re.findall(r"\"([^\"]*)\"|(\S+)", text):
        name, found, value = (quoted or plain).partition("=")
        if found:
            yield name, value


def unit_files(look: Look, places: tuple[str, ...], name: str) -> list[str]:
    """Return the files that make up a unit: the first of its name, and its drop-ins."""
    found = [f"{place}/{name}" for place in places if look.status(f"{place}/{name}")][:1]
    for place in places:
        found += [f"{place}/{name}.d/{one}" for one in look.names(f"{place}/{name}.d") if one.endswith(".conf")]
    return found


def _unit(look: Look, places: tuple[str, ...], name: str) -> Unit:
    """Return a unit's settings with file and line; an empty value takes back those before it (systemd.unit(5))."""
    unit: Unit = {}
    for path in unit_files(look, places, name):
        section: dict[str, list[tuple[str, str, int]]] = {}
        held, begun = "", 0
        for number, line in enumerate((look.text(path) or "").split("\n"), 1):
            if not held and (not line.strip() or line.lstrip().startswith(("#", ";"))):
                continue
            begun = begun or number
            if line.endswith("\\"):
                held += line[:-1] + " "
                continue
            whole, first = (held + line).strip(), begun
            held, begun = "", 0
            if header := re.fullmatch(r"\[(.+)\]", whole):
                section = unit.setdefault(header[1], {})
            elif "=" in whole:
                key, _, value = whole.partition("=")
                known = section.setdefault(key.strip(), [])
                if value.strip():
                    known.append((value.strip(), path, first))
                else:
                    known.clear()
    return unit


def _interval(key: str, value: str) -> int | None:
    if key == "OnCalendar":
        return calendar_interval(value)
    if key in ("OnUnitActiveSec", "OnUnitInactiveSec"):
        return _span(value)
    return None


def _span(text: str) -> int | None:
    """Return the seconds of a time span (systemd.time(7)); None when it is none."""
    units = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": HOUR, "hr": HOUR, "hour": HOUR, "d": DAY, "day": DAY}
    units |= {"w": 7 * DAY, "week": 7 * DAY, "month": 31 * DAY, "y": 366 * DAY, "year": 366 * DAY, "": 1}
    total = 0.0
    for number, unit in re.findall(r"([\d.]+)\s*([a-zA-Z]*)", text):
        name = unit if unit in units else unit.rstrip("s") or unit
        if name not in units or number.count(".") > 1:
            return None
        total += float(number) * units[name]
    return int(total) or None


def calendar_interval(text: str) -> int | None:
    """Return the longest time in seconds between two starts by a calendar event (systemd.time(7)), roughly.

    Days of the month count as once a month when they name one, and dates with a year are no schedule: None.
    """
    if text.strip().lower() in WORDS:
        return WORDS[text.strip().lower()]
    days, monthly, clock = set(range(7)), 0, ""
    for part in text.lower().split():
        if re.match(r"[a-z]{3}", part) and part[:3] in WEEKDAYS:
            days = _weekdays(part)
        elif re.fullmatch(r"(\*|\d{4})-[\d*/,.~]+-[\d*/,.~]+|[\d*/,.]+-[\d*/,.~]+", part):
            *years, _, of_month = re.split(r"[-~](?!$)", part)
            if years and years[0] != "*":
                return None
            monthly = 0 if of_month.startswith("*") else 31 * DAY // max(1, of_month.count(",") + 1)
        elif ":" in part:
            clock = part
    gaps = sorted(days)
    if not gaps:
        return None
    longest = max(late - early for early, late in zip(gaps, [*gaps[1:], gaps[0] + 7], strict=True))
    if monthly or longest > 1:
        return max(monthly, longest * DAY)
    return _clock_interval(clock)


def _weekdays(text: str) -> set[int]:
    days: set[int] = set()
    for part in text.split(","):
        ends = [one[:3] for one in re.split(r"\.\.|-", part)]
        if all(one in WEEKDAYS for one in ends):
            first, last = WEEKDAYS.index(ends[0]), WEEKDAYS.index(ends[-1])
            days |= {number % 7 for number in range(first, last + 1 if last >= first else last + 8)}
    return days


def _clock_interval(text: str) -> int:
    """Return the longest time between two starts within days, by the time of a calendar event."""
    hours, minutes = [*text.split(":"), "0"][:2] if text else ("0", "0")
    lists = []
    for part, most in ((hours, 24), (minutes, 60)):
        found: set[int] = set()
        for one in part.split(","):
            match = re.fullmatch(r"(?:(\*)|(\d+)(?:\.\.(\d+))?)(?:/(\d+))?", one)
            if match is None:
                return DAY
            first, step = int(match[2] or 0), int(match[4] or 1)
            last = int(match[3]) if match[3] else (most - 1 if match[1] or match[4] else first)
            found |= set(range(first, min(last, most - 1) + 1, max(1, step)))
        lists.append(found)
    slots = sorted(hour * 60 + minute for hour in lists[0] for minute in lists[1])
    return 60 * max((b - a for a, b in zip(slots, [*slots[1:], slots[0] + 24 * 60], strict=True)), default=24 * 60)
