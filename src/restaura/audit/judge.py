# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement: what protects what, what is wrong with it, and the status. Pure: the same findings, the same words.

The status is CRITICAL when data would be lost today although somebody thinks it is backed up, or nothing is backed up
at all; WARNING when anything else is wrong, be it that something could not be looked at; OK when nothing is.
"""

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from restaura.audit.advice import advise
from restaura.audit.model import Audit, Copy, Evidence, Holder, Problem, Protection, Severity, Status, Take
from restaura.audit.programs import BACKUP_WORD
from restaura.audit.protections import Found, Way
from restaura.output import printable

DATABASES = ("postgres", "supabase", "mysql", "mongodb", "redis", "qdrant", "prometheus", "grafana", "sqlite")
# A copy of so few bytes holds nothing: an empty gzip has 20, an empty zstd 13, an empty xz 32.
EMPTY_BYTES = 64
SHRUNK = 0.5
SERIES = 3
SMALL_BYTES = 1000
GRACE = timedelta(hours=1)
LATE = 2
LOST = 4
MOST_STEPS = 3
UNKNOWN_INTERVAL = timedelta(days=8)
# What could not be read may have held a backup.
HIDING = {"permission", "binary", "invalid", "failed"}
MAKE_CONSISTENT = {
    "pg_dump",
    "pg_dumpall",
    "pg_basebackup",
    "mysqldump",
    "mariadb-dump",
    "mongodump",
    "sqlite3",
    "restaura",
}
METHODS = (
    *("cron_jobs", "backup_scripts", "database_backup", "supabase_backup", "volume_backup", "compose_backup_services"),
)


@dataclass(frozen=True)
class Seen:
    """All that was found on a host: what holds data, how it is backed up, what could not be read, where disks are.

    `disks` says of a holder's id on which disks its data is.
    """

    host: str
    now: datetime
    holders: tuple[Holder, ...] = ()
    found: Found = field(default_factory=Found)
    unreadable: tuple[Evidence, ...] = ()
    disks: Mapping[str, frozenset[int]] = field(default_factory=dict)


def judge(seen: Seen) -> Audit:
    """Return the audit of a host."""
    return _Judgement(seen).audit()


class _Judgement:
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        # What Restaura covers is known by its own rules.
        self.protections = [
            one if one.kind == "restaura" else replace(one, covers=covered(one, seen.holders))
            for one in seen.found.protections
        ]
        self.protections = _with_contents(self.protections, seen.holders)
        places = [(one.kind, place) for one in self.protections for place in one.writes if place.startswith("/")]
        folders = [(kind, place.rpartition("/")[0] if "*" in place else place) for kind, place in places]
        kept = {
            place
            for kind, place in folders
            if "*" not in place and (kind == "restaura" or BACKUP_WORD.search(place.rpartition("/")[2]))
        }
        # Where backups lie is no data of its own.
        self.holders = [
            one
            for one in seen.holders
            if not (one.kind == "tree" and any(_within(path, place) for path in one.paths for place in kept))
        ]
        self.hidden = [one for one in seen.unreadable if _hides(one) and not self._is_data(one.where)]
        self.problems: list[Problem] = []
        self._known: dict[Take, frozenset[str]] = {}

    def audit(self) -> Audit:
        """Return the audit."""
        self._holders()
        for one in self.protections:
            self._protection(one)
        self._places()
        self._recovery()
        self._secrets()
        if not_seen := [one for one in self.seen.unreadable if _hides(one)]:
            parameters = {"count": str(len(not_seen)), "places": _lines(map(_place, not_seen))}
            self._problem("not_all_seen", "warning", (), parameters, not_seen)
        ranked = sorted(self.problems, key=lambda one: one.severity != "critical")
        seen = self.seen
        audit = Audit(
            seen.host,
            seen.now.isoformat(timespec="seconds"),
            status_of(ranked),
            self._methods(),
            tuple(seen.holders),
            tuple(self.protections),
            tuple(ranked),
            (),
            seen.found.documents,
            seen.found.scripts,
            seen.unreadable,
        )
        return replace(audit, recommendations=advise(audit))

    def _problem(
        self,
        code: str,
        severity: Severity,
        about: Iterable[str],
        parameters: Mapping[str, str],
        evidence: Iterable[Evidence] = (),
    ) -> None:
        self.problems.append(Problem(code, severity, tuple(about), dict(parameters), tuple(evidence)))

    def _is_data(self, path: str) -> bool:
        return path.startswith(("/proc/", "/var/lib/docker/")) or any(
            _within(path, place)
            for holder in self.seen.holders
            for place in holder.paths
            if place not in ("/", "/root")
        )

    # Holders

    def _covering(self, holder: Holder) -> list[Protection]:
        return [one for one in self.protections if holder.id in one.covers]

    def usable(self, one: Protection) -> bool:
        """Whether a protection holds a copy that is fresh and not empty, as far as can be told."""
        if one.idle or not self._full(one):
            return False
        newest = _newest(one)
        if newest is None:
            return not one.seen and not one.failures
        return self._age(newest) <= self._limit(one, LATE)

    @staticmethod
    def _full(one: Protection) -> bool:
        return not one.copies or any(not _is_empty(copy) for copy in _heads(one))

    def _age(self, at: str) -> timedelta:
        return self.seen.now - datetime.fromisoformat(at)

    @staticmethod
    def _limit(one: Protection, times: int) -> timedelta:
        interval = timedelta(seconds=one.interval) if one.interval else UNKNOWN_INTERVAL
        return interval * times + GRACE

    def _holders(self) -> None:
        """Name the holders that nothing protects, and those whose files are copied while they change."""
        bare = [one for one in self.holders if not [p for p in self._covering(one) if not p.idle]]
        if bare and len(bare) == len(self.holders) and not self.hidden:
            self._problem("nothing_protected", "critical", _ids(bare), {"holders": _names(bare)}, _evidence(bare))
        else:
            for code, kinds in (("databases", DATABASES), ("volumes", ("docker_volume",)), ("files", ())):
                some = [
                    one
                    for one in bare
                    if one.kind in kinds or (not kinds and one.kind not in (*DATABASES, "docker_volume"))
                ]
                for kind in ("supabase", "") if code == "databases" else ("",):
                    part = [one for one in some if (one.kind == "supabase") == (kind == "supabase")]
                    name = ("unseen_" if self.hidden else "unprotected_") + (kind or code)
                    if part:
                        self._problem(name, "warning", _ids(part), {"holders": _names(part)}, _evidence(part))
        live = [one for one in self.holders if self._is_copied_live(one)]
        if live:
            self._problem("copied_live", "warning", _ids(live), {"holders": _names(live)}, _evidence(live))
        for one in self.holders:
            asked = [take.name for p in self._covering(one) for take in p.takes if take.kind == one.kind]
            if one.kind in ("postgres", "mysql", "mongodb") and asked and all(asked) and not self._whole(one):
                names = {"holder": printable(one.id), "databases": _lines(sorted(set(asked)))}
                self._problem("some_databases", "warning", (one.id,), names, one.evidence[:1])

    def _whole(self, holder: Holder) -> bool:
        """Whether something takes a whole server: all of its databases, or its files."""
        return any(
            (take.kind == "docker_volume" or not take.name or take.kind == "path") and holder.id in self._taken(take)
            for one in self._covering(holder)
            for take in one.takes
        )

    def _is_copied_live(self, holder: Holder) -> bool:
        """Whether all that protects a running database is a copy of its files."""
        covering = [one for one in self._covering(holder) if not one.idle]
        if holder.kind not in DATABASES or not holder.running or not covering:
            return False
        return not any(
            MAKE_CONSISTENT & set(one.uses) or any(take.kind == holder.kind for take in one.takes) for one in covering
        )

    # Protections

    def _protection(self, one: Protection) -> None:
        others = [
            other
            for other in self.protections
            if other.id != one.id and set(one.covers) <= set(other.covers) and one.covers and self.usable(other)
        ]
        about, name = (one.id, *one.covers), {"name": printable(one.name), "place": printable(_where(one))}
        if one.idle:
            # One that nobody starts is only missed where nothing else does its work.
            if not others and (one.kind != "script" or not self._scheduled(one)):
                self._problem(f"idle_{one.idle}", "warning", about, name, one.evidence[:2])
            return
        self._output(one, about, name, superseded=bool(others))
        if one.loud is False and not any(other.loud for other in others):
            codes = sorted({hush.detail for hush in one.hushed})
            self._problem("silent", "warning", about, {**name, "reasons": "\n".join(codes)}, one.hushed)
        self._permissions(one, about, name)

    def _scheduled(self, one: Protection) -> bool:
        return any(not other.idle and set(one.evidence) & set(other.evidence) for other in self.protections)

    def _output(self, one: Protection, about: tuple[str, ...], name: dict[str, str], *, superseded: bool) -> None:
        """Judge what a protection has to show."""
        newest, severity = _newest(one), "warning" if superseded or not one.covers else "critical"
        empty = [copy for copy in _heads(one) if _is_empty(copy)]
        if empty:
            told = {**name, "copies": _lines(copy.where for copy in empty), "size_bytes": str(empty[0].bytes)}
            self._problem("empty", _severity(severity), about, told, [Evidence("file", copy.where) for copy in empty])
        elif newest is None and one.seen:
            told = {**name, "writes": _lines(one.writes) or "?"}
            self._problem("never_produced", _severity(severity), about, told, one.evidence)
        elif newest is None:
            if one.uses and not one.last_run:
                self._problem(
                    "age_unknown", "warning", about, {**name, "writes": _lines(one.writes) or "?"}, one.evidence
                )
        elif self._age(newest) > self._limit(one, LATE):
            lost = self._age(newest) > max(self._limit(one, LOST), timedelta(days=2)) and severity == "critical"
            told = {**name, "newest_at": newest, "schedule": one.schedule}
            shown = [Evidence("file", one.copies[0].where)] if one.copies else []
            self._problem(
                "stale", "critical" if lost else "warning", about, told, [*one.evidence[:1], *shown, *one.failures]
            )
        else:
            self._detours(one, name, severity)
        if one.failures:
            self._problem("failed", "warning", about, {**name, "log": one.failures[0].where}, one.failures)
        for series in _series(one):
            sizes = [copy.bytes for copy in series if copy.bytes is not None]
            usual = median(sizes[1:8]) if len(sizes) >= SERIES else 0
            if usual > SMALL_BYTES and EMPTY_BYTES < sizes[0] < usual * SHRUNK:
                told = {**name, "copy": series[0].where, "size_bytes": str(sizes[0]), "usual_bytes": str(int(usual))}
                self._problem("shrinking", "warning", about, told, [Evidence("file", series[0].where)])

    def _detours(self, one: Protection, name: dict[str, str], severity: str) -> None:
        """Name what a job puts somewhere of its own, where there is nothing new while other places have something."""
        ways = self.seen.found.ways.get(one.id, ())
        for take in dict.fromkeys(take for way in ways for take in way.takes):
            taking, holders = [way for way in ways if take in way.takes], sorted(self._taken(take))
            times = [self._arrived(one, way) for way in taking]
            newest = max(filter(None, times), default="")
            if not holders or None in times or (newest and self._age(newest) <= self._limit(one, LATE)):
                continue
            places = list(dict.fromkeys(way.place for way in taking))
            title = f"{name['name']} → {printable(places[0])}"
            told = {**name, "name": title, "newest_at": newest, "schedule": one.schedule}
            # A script may do so on some days only: what it made within a week is no loss.
            lost = bool(newest) and self._age(newest) > max(self._limit(one, LOST), UNKNOWN_INTERVAL)
            code, told = ("stale", told) if newest else ("never_produced", {**told, "writes": _lines(places)})
            self._problem(code, _severity(severity if lost else "warning"), (one.id, *holders), told, one.evidence[:1])

    def _taken(self, take: Take) -> frozenset[str]:
        """Return the ids of the holders that are taken, but for the places where backups lie."""
        if take not in self._known:
            found = {holder.id for holder in _taken(take, self.seen.holders)}
            self._known[take] = frozenset(found & {holder.id for holder in self.holders})
        return self._known[take]

    def _ways(self, one: Protection, holder: Holder) -> list[Way]:
        """Return the ways on which a protection takes a holder; none where it has but one, or that cannot be told."""
        ways = self.seen.found.ways.get(one.id, ())
        return [way for way in ways if any(holder.id in self._taken(take) for take in way.takes)]

    def _onward(self, one: Protection, way: Way) -> list[Way]:
        """Return the ways on which a protection takes along what it had put somewhere."""
        return [
            other
            for other in self.seen.found.ways.get(one.id, ())
            if other.place != way.place
            and any(take.kind == "path" and _within(way.place, take.name) for take in other.takes)
        ]

    def _arrived(self, one: Protection, way: Way, steps: int = MOST_STEPS) -> str | None:
        """Return when a way last ended at something, as `Way.newest`; what was only put down to be sent was sent."""
        if way.newest != "" or not steps:
            return way.newest
        times = [self._arrived(one, other, steps - 1) for other in self._onward(one, way)]
        return None if None in times else max(filter(None, times), default="")

    def _permissions(self, one: Protection, about: tuple[str, ...], name: dict[str, str]) -> None:
        public = [] if one.encrypted else [copy for copy in one.copies if copy.world_readable]
        closed = [copy for copy in one.copies if not copy.owner_readable]
        for code, copies in (("world_readable", public), ("owner_cannot_read", closed)):
            if copies:
                folder = posixpath.dirname(copies[0].where)
                told = {**name, "folder": folder, "count": str(len(copies)), "copy": copies[0].where}
                self._problem(code, "warning", about, told, [Evidence("file", copy.where) for copy in copies[:5]])

    # The host

    def _places(self) -> None:
        """Name what would be lost with the host, and with one disk."""
        away = self._away()
        kept: list[Holder] = []
        same: list[Holder] = []
        for holder in self.holders:
            covering = [one for one in self._covering(holder) if not one.idle]
            if not covering or any(self._leaves(one, holder, away[one.id]) is not False for one in covering):
                continue
            disks = self.seen.disks.get(holder.id, frozenset())
            held = {copy.disk for one in covering for copy in one.copies} - {None}
            (same if disks and held and held <= set(disks) else kept).append(holder)
        for code, some in (("only_on_same_disk", same), ("only_on_host", kept)):
            if some:
                ids = _ids(some)
                by = [one for one in self.protections if set(one.covers) & set(ids) and not one.idle]
                told = {
                    "holders": _names(some),
                    "writes": _lines(sorted({place for one in by for place in one.writes})),
                }
                self._problem(
                    code, "warning", (*ids, *(one.id for one in by)), told, [e for p in by for e in p.evidence[:1]]
                )

    def _leaves(self, one: Protection, holder: Holder, away: bool | None) -> bool | None:
        """Return whether the copies of a holder leave the host, where other data of the same job may."""
        ways = self._ways(one, holder) if one.off_host else []
        for _ in range(MOST_STEPS):
            ways += [other for way in ways for other in self._onward(one, way) if other not in ways]
        if not ways or any(way.away is not False for way in ways):
            return away
        return any(
            other.off_host and not other.idle and take.kind == "path" and _within(way.place, take.name)
            for other in self.protections
            if other.id != one.id
            for take in other.takes
            for way in ways
        )

    def _away(self) -> dict[str, bool | None]:
        """Return whether a protection's copies leave the host: by itself, or by another that takes where it writes."""
        away = {one.id: one.off_host for one in self.protections}
        for one in self.protections:
            for other in self.protections:
                taken = [take.name for take in other.takes if take.kind == "path"]
                local = [place for place in one.writes if place.startswith("/")]
                if (
                    other.off_host
                    and not other.idle
                    and local
                    and all(any(_within(w, t) for t in taken) for w in local)
                ):
                    away[one.id] = True
        return away

    def _recovery(self) -> None:
        """Name what would be missed on the day of a restore."""
        if not self.holders:
            return
        working = [one for one in self.protections if not one.idle]
        untried = [one for one in working if one.restore_tried is None and not self._tried_elsewhere(one)]
        if untried:
            told = {"protections": _lines(sorted({one.name for one in untried}))}
            evidence = [e for one in untried for e in one.evidence[:1]]
            self._problem("restore_never_tried", "warning", [one.id for one in untried], told, evidence)
        if not self.seen.found.documents and not self.hidden:
            self._problem("no_recovery_documents", "warning", (), {})
        if not self.seen.found.scripts and not self.hidden:
            self._problem("no_recovery_scripts", "warning", (), {})

    def _tried_elsewhere(self, one: Protection) -> bool:
        """Whether another protection of the same data was tried, or one that takes what this one writes."""
        for other in self.protections:
            taken = [take.name for take in other.takes if take.kind == "path"]
            same = bool(one.covers) and set(one.covers) <= set(other.covers)
            if other.restore_tried is not None and (same or any(_within(w, t) for w in one.writes for t in taken)):
                return True
        return False

    def _secrets(self) -> None:
        files: dict[str, list[Evidence]] = {}
        for one in self.seen.found.secrets:
            files.setdefault(one.where, []).append(one)
        for path, found in files.items():
            told = {
                "file": path,
                "lines": ", ".join(sorted({str(one.line) for one in found}, key=int)),
                "kinds": "\n".join(sorted({one.detail for one in found})),
            }
            self._problem("secret_in_file", "warning", (), told, found)

    def _methods(self) -> dict[str, bool | None]:
        kinds = {one.kind for one in self.seen.holders}
        by_id = {one.id: one for one in self.seen.holders}
        working = [one for one in self.protections if not one.idle]
        covered_kinds = {by_id[name].kind for one in working for name in one.covers if name in by_id}
        covered_kinds |= {take.kind for one in working for take in one.takes if take.kind != "path"}
        answers: dict[str, bool | None] = {
            "cron_jobs": any(one.kind in ("cron", "timer", "restaura") for one in working),
            "backup_scripts": any(one.kind == "script" or is_script(one) for one in self.protections),
            "database_backup": bool(covered_kinds & (set(DATABASES) - {"supabase"})),
            "supabase_backup": "supabase" in covered_kinds,
            "volume_backup": "docker_volume" in covered_kinds,
            "compose_backup_services": any(one.kind == "compose_service" for one in working),
        }
        needed = {
            "database_backup": bool(kinds & (set(DATABASES) - {"supabase"})),
            "supabase_backup": "supabase" in kinds,
            "volume_backup": "docker_volume" in kinds,
            "compose_backup_services": bool(kinds & {"compose_project", "docker_volume", "supabase"}),
        }
        for name, answer in answers.items():
            if not answer and (self.hidden or not needed.get(name, True)):
                answers[name] = None
        return answers


def status_of(problems: Iterable[Problem]) -> Status:
    """Return the status that problems make."""
    severities = {one.severity for one in problems}
    return "CRITICAL" if "critical" in severities else "WARNING" if severities else "OK"


# What takes what


def covered(protection: Protection, holders: Sequence[Holder]) -> tuple[str, ...]:
    """Return the ids of the holders that a protection takes, in their order."""
    wanted = {holder.id for take in protection.takes for holder in _taken(take, holders)}
    return tuple(one.id for one in holders if one.id in wanted)


def _taken(take: Take, holders: Sequence[Holder]) -> list[Holder]:
    if take.kind == "path":
        return [one for one in holders if one.paths and all(_within(path, take.name) for path in one.paths)]
    if take.kind == "docker_volume":
        return [one for one in holders if one.volumes and one.kind != "compose_project" and _takes_volumes(take, one)]
    kin = [one for one in holders if one.kind == take.kind]
    if take.kind == "compose_project":
        return [one for one in kin if take.name in ("", one.name)]
    return _servers(take, kin)


def _takes_volumes(take: Take, holder: Holder) -> bool:
    if take.container and take.container != holder.container:
        return False
    if take.project and not take.name:
        return holder.project == take.project
    return all(not take.name or fnmatch.fnmatchcase(volume, take.name) for volume in holder.volumes)


def _servers(take: Take, kin: list[Holder]) -> list[Holder]:
    """Return the servers that a client asks; where that cannot be told, the only one that it can be."""
    if take.container and "*" not in take.container:
        called = re.compile(rf"({re.escape(take.project)}[-_])?{re.escape(take.container)}([-_]\d+)?")
        found = [one for one in kin if take.container in (one.name, one.container, *one.paths)]
        return found or [
            one
            for one in kin
            if one.container and called.fullmatch(one.container) and take.project in ("", one.project)
        ]
    inside = [one for one in kin if one.container]
    outside = [one for one in kin if not one.container]
    if take.container or not outside:
        return inside if len(inside) == 1 else []
    running = [one for one in outside if one.running]
    return outside if len(outside) == 1 else running if len(running) == 1 else []


def _with_contents(protections: list[Protection], holders: Sequence[Holder]) -> list[Protection]:
    """Say of a Compose project of which nothing but volumes is here that it is taken when all of these are."""
    found = []
    for one in protections:
        more = [
            holder.id
            for holder in holders
            if holder.kind == "compose_project"
            and holder.id not in one.covers
            and not holder.paths
            and holder.volumes
            and set(holder.volumes) <= {v for other in holders if other.id in one.covers for v in other.volumes}
        ]
        found.append(replace(one, covers=(*one.covers, *more)))
    return found


def _within(path: str, place: str) -> bool:
    """Whether a path lies at or below another, which may hold `*`."""
    if "*" in place:
        return fnmatch.fnmatchcase(path, place) or fnmatch.fnmatchcase(path, f"{place}/*")
    return path == place or path.startswith(place.rstrip("/") + "/")


# Copies


def _series(one: Protection) -> list[list[Copy]]:
    """Return the copies that follow one another, newest first: those whose names differ in nothing but digits."""
    found: dict[str, list[Copy]] = {}
    for copy in one.copies:
        found.setdefault(re.sub(r"\d+", "0", copy.where), []).append(copy)
    return list(found.values())


def _heads(one: Protection) -> list[Copy]:
    """Return the newest copy of every series that is still written: those of the newest day, and the newest of all."""
    heads = [series[0] for series in _series(one)]
    latest = max((copy.at for copy in heads), default="")
    return [copy for copy in heads if copy.at[:10] == latest[:10]]


def _is_empty(copy: Copy) -> bool:
    return copy.bytes is not None and copy.bytes <= EMPTY_BYTES


def _newest(one: Protection) -> str | None:
    """Return when a protection last wrote a copy, or, where copies cannot be seen, anything."""
    times = [copy.at for copy in one.copies]
    if not times and not one.seen and not one.failures and one.last_run:
        times = [one.last_run]
    return max(times, default=None)


# Words


def _severity(text: str) -> Severity:
    return "critical" if text == "critical" else "warning"


def _ids(holders: Iterable[Holder]) -> tuple[str, ...]:
    return tuple(one.id for one in holders)


def _lines(words: Iterable[str]) -> str:
    """Return a parameter that is a list; no word of it may break its line."""
    return "\n".join(map(printable, words))


def _names(holders: Iterable[Holder]) -> str:
    return _lines(one.id for one in holders)


def _evidence(holders: Iterable[Holder]) -> list[Evidence]:
    return [evidence for one in holders for evidence in one.evidence[:1]]


def _hides(one: Evidence) -> bool:
    """Whether what could not be read may hide a backup: a file read in part may, a tree too long to walk does not."""
    return one.detail in HIDING or (one.detail == "too_long" and one.kind == "file")


def _place(one: Evidence) -> str:
    return one.where if one.line is None else f"{one.where}:{one.line}"


def _where(one: Protection) -> str:
    return _place(one.evidence[0]) if one.evidence else one.name


def is_script(one: Protection) -> bool:
    """Whether a script is at work: one that is called, or that lies in `cron.daily` and the like itself."""
    if one.kind == "restaura":
        return True
    in_crontab = re.compile(r"/etc/(crontab|cron\.d/|anacrontab|borgmatic|pgbackrest|barman)|/var/spool/cron")
    return one.kind in ("cron", "timer") and any(
        evidence.kind == "file" and not in_crontab.match(evidence.where) for evidence in one.evidence
    )
