# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host is backed up: every job, script, service and program that makes backups, and what each has to show for it.

Nothing is run and nobody is asked: crontabs, units, scripts, settings and the copies themselves are read.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from restaura.audit import restaura_itself
from restaura.audit.backup_services import Service, find_services
from restaura.audit.copies import Copies
from restaura.audit.jobs import SYSTEMS_OWN, Job, find_jobs
from restaura.audit.looking import Look
from restaura.audit.model import Copy, Evidence, Holder, Protection, Take
from restaura.audit.programs import BACKUP_WORD, Facts
from restaura.audit.recovery import find_kept
from restaura.audit.scripts import Trace, Tracer
from restaura.audit.secrecy import Secrets
from restaura.audit.settings import Setting, find_settings
from restaura.audit.shell import UNKNOWN
from restaura.paths import Paths

ENCRYPTED = re.compile(r"\.(gpg|asc|age|enc|pgp|aes)$", re.IGNORECASE)
# Which of the programs that restore try backups of which: by what they take, or by the program that made them.
RESTORERS = {
    **dict.fromkeys(("pg_restore", "psql"), "postgres"),
    **dict.fromkeys(("mysql", "mariadb", "myloader"), "mysql"),
    "mongorestore": "mongodb",
}


@dataclass(frozen=True)
class Way:
    """One way that data goes in a job that puts it in several places: what is taken, and one place where it is put.

    `newest` is when that place was last written to (None: not known; empty: there is nothing), `away` whether it is on
    another machine (None: not known).
    """

    takes: tuple[Take, ...]
    place: str
    newest: str | None
    away: bool | None


@dataclass(frozen=True)
class Found:
    """What was found: protections, where secrets stand (`detail` is the kind), recovery documents and scripts.

    `ways` are those of the protections that put different data in different places, by id.
    """

    protections: tuple[Protection, ...] = ()
    ways: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)
    secrets: tuple[Evidence, ...] = ()
    documents: tuple[Evidence, ...] = ()
    scripts: tuple[Evidence, ...] = ()


def find_protections(look: Look, holders: Sequence[Holder], secrets: Secrets) -> Found:
    """Return how the host that `look` sees is backed up; `holders` name its Compose files. Changes nothing."""
    return _Finder(look, secrets).find(holders)


class _Finder:
    def __init__(self, look: Look, secrets: Secrets) -> None:
        self.look, self.secrets = look, secrets
        self.tracer = Tracer(look, secrets)
        self.copies = Copies(look)
        self.settings = find_settings(look, secrets)
        self.homes = dict(look.homes())
        self.used: set[str] = set()
        self.restores: list[tuple[Facts, str]] = []
        self.ways: dict[str, tuple[Way, ...]] = {}

    def find(self, holders: Sequence[Holder]) -> Found:
        """Find everything."""
        own, ours = restaura_itself.find(self.look, Paths(self.look.root), holders)
        found = [*own, *(one for job in find_jobs(self.look) for one in self._job(job, known=bool(own)))]
        compose = {one.where for holder in holders for one in holder.evidence if _is_compose(one)}
        found += [self._service(one) for one in find_services(self.look, self.secrets, compose)]
        found += [self._setting(one) for one in self.settings if one.facts.takes and one.program not in self.used]
        kept = find_kept(self.look)
        scheduled = {one.where for protection in found for one in protection.evidence}
        found += [
            one
            for path in kept.scripts
            if path not in scheduled
            for one in self._script(path)
            if not (own and one.uses == ("restaura",))
        ]
        scripts = [one for path in kept.recovery_scripts for one in self._recovery(path)]
        return Found(
            tuple(self._tried(found)),
            self.ways,
            self.secrets.found,
            tuple(kept.documents),
            (*ours, *scripts),
        )

    # What is started

    def _job(self, job: Job, *, known: bool) -> Iterator[Protection]:
        """Yield the protection that a job is, if it is one; `known` is whether Restaura tells of its own by itself."""
        self._search(job)
        home = self.homes.get(job.user, "/root")
        variables = {"HOME": home, "PWD": home, "USER": job.user, **job.environment}
        for path in job.environment_files:
            variables |= self._variables(path)
        trace = Trace()
        for command in job.commands:
            named = bool(BACKUP_WORD.search(f"{job.name} {command.split(' ')[0]}"))
            line = job.evidence.line or 1
            one = self.tracer.command(command, variables, job.evidence.where, line, named=named)
            trace.visible, trace.noticed = trace.visible and one.visible, trace.noticed and one.noticed
            trace.merge(one)
        facts = trace.facts
        if facts.restores and not facts.backs_up:
            self.restores.append((facts, job.last_run or self._last_log(trace) or "scheduled"))
        opaque = [one for one in trace.opaque if BACKUP_WORD.search(f"{job.name} {one.where}")]
        own = {posixpath.basename(command.split(" ")[0]) for command in job.commands} & SYSTEMS_OWN
        if own or not (facts.backs_up or opaque) or (known and facts.programs == ["restaura"]):
            return
        settings = self._merge_settings(facts)
        # Cron is told of what is printed, systemd of what failed; and a script may tell somebody itself.
        heard = job.told and (trace.visible if job.kind == "cron" else trace.noticed)
        loud: bool | None = heard or (facts.notifies and trace.noticed)
        if opaque and not facts.backs_up:
            loud = None
        evidence = (job.evidence, *trace.evidence, *opaque, *(Evidence("file", one.path) for one in settings))
        logs = [one for one in trace.logs if one.startswith("/") and UNKNOWN not in one and one != "/dev/null"]
        made = self._made(
            Protection(
                f"{job.kind}:{job.name}",
                job.kind,
                self._name(trace, job),
                schedule=job.schedule,
                interval=job.interval,
                idle=job.idle,
                last_run=max(filter(None, [job.last_run, self._last_log(trace)]), default=None),
                failures=tuple(line for log in dict.fromkeys(logs) for line in self.copies.failures(log)),
                loud=loud,
                hushed=() if loud else tuple(dict.fromkeys([*job.hushed, *trace.hushed])),
                evidence=tuple(dict.fromkeys(evidence)),
            ),
            facts,
            home,
        )
        yield replace(made, seen=False) if opaque and not facts.backs_up else made

    def _search(self, job: Job) -> None:
        """Look for secrets where a job is written down."""
        path = job.evidence.detail if job.evidence.kind == "unit" else job.evidence.where
        for one in (path, path.removesuffix(".timer") + ".service") if path.endswith(".timer") else (path,):
            if one not in self.used and not one.startswith(("/usr/lib/", "/lib/")):
                self.used.add(one)
                self.secrets.search(self.look.text(one, surely=False) or "", one)

    def _last_log(self, trace: Trace) -> str | None:
        times = [self.copies.written(one) for one in trace.logs if one.startswith("/") and UNKNOWN not in one]
        return max(filter(None, times), default=None)

    def _variables(self, path: str) -> dict[str, str]:
        found = {}
        text = self.look.text(path) or ""
        status = self.look.status(path)
        # A file of variables may hold secrets, as long as not everybody may read it.
        self.secrets.search(text, path, told=bool(status and status.st_mode & 0o004))
        for line in text.splitlines():
            if match := re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)", line):
                found[match[1]] = match[2].strip().strip("\"'")
        return found

    @staticmethod
    def _name(trace: Trace, job: Job) -> str:
        scripts = [posixpath.basename(one.where) for one in trace.evidence[:1] or trace.opaque[:1]]
        return (scripts or [", ".join(trace.facts.programs)])[0] or job.name

    def _script(self, path: str) -> Iterator[Protection]:
        """Yield the protection that a script would be if somebody started it."""
        home = next((home for home in self.homes.values() if path.startswith(f"{home}/")), "/root")
        trace = self.tracer.script(path, {"HOME": home, "PWD": posixpath.dirname(path)})
        if trace.facts.backs_up:
            facts = Facts()
            facts.merge(trace.facts)
            self._merge_settings(facts)
            protection = Protection(
                f"script:{path}",
                "script",
                posixpath.basename(path),
                idle="not_scheduled",
                evidence=tuple(dict.fromkeys(trace.evidence)),
            )
            yield self._made(protection, facts, home)

    def _recovery(self, path: str) -> Iterator[Evidence]:
        """Yield a recovery script, if that is what it is."""
        trace = self.tracer.script(path, {"HOME": "/root", "PWD": posixpath.dirname(path)})
        if trace.facts.restores or trace.opaque:
            yield Evidence("file", path)

    def _service(self, service: Service) -> Protection:
        """Return the protection that a service of a Compose file is."""
        facts = service.facts
        self._merge_settings(facts)
        where = Evidence("file", service.path, service.line)
        hushed = () if facts.notifies else (Evidence("file", service.path, service.line, "no_notification"),)
        protection = Protection(
            f"compose_service:{service.project}/{service.name}",
            "compose_service",
            f"{service.project}/{service.name}",
            schedule=service.schedule,
            interval=service.interval,
            loud=facts.notifies,
            hushed=hushed,
            evidence=(where,),
        )
        return self._made(protection, facts, "/root")

    def _setting(self, setting: Setting) -> Protection:
        """Return the protection that settings describe which no job uses."""
        kind = setting.program.replace("-", "_")
        name = setting.program
        evidence = (Evidence("file", setting.path),)
        protection = Protection(f"{kind}:{setting.path}", kind, name, idle="not_scheduled", evidence=evidence)
        return self._made(replace(protection, uses=(name,)), setting.facts, "/root")

    def _merge_settings(self, facts: Facts) -> list[Setting]:
        """Add what the settings of the programs say that are called without telling them anything."""
        found = [one for one in self.settings if one.program in facts.configs]
        for one in found:
            facts.merge(one.facts)
            self.used.add(one.program)
        return found

    # What it has to show

    def _made(self, protection: Protection, facts: Facts, home: str) -> Protection:
        """Return a protection with what it takes, where it writes and what is there."""
        writes = list(dict.fromkeys(facts.writes))
        copies, seen = self.copies.of(writes)
        encrypted: bool | None = facts.encrypted or (bool(writes) and all(map(ENCRYPTED.search, writes)))
        for one in writes:
            if not one.startswith("/"):
                records, secret = self._records(one, facts, home)
                copies += records
                encrypted = encrypted or secret
        if "borg" in _families(facts) and not encrypted:
            known = [self.copies.borg_records(home, one)[1] for one in writes]
            encrypted = next((one for one in known if one is not None), None)
        copies.sort(key=lambda copy: (copy.at, copy.where), reverse=True)
        if len(facts.ways) > 1:
            self.ways[protection.id] = tuple(
                Way(takes, place, self._written(place, facts, home), self._is_off_host(place))
                for takes, places in facts.ways
                for place in places
            )
        return replace(
            protection,
            uses=tuple(facts.programs) or protection.uses,
            takes=tuple(dict.fromkeys(facts.takes)),
            writes=tuple(writes),
            copies=tuple(copies),
            seen=seen and bool(writes),
            off_host=self._off_host(writes),
            encrypted=encrypted,
        )

    def _records(self, repository: str, facts: Facts, home: str) -> tuple[list[Copy], bool | None]:
        """Return what restic and borg keep here of a repository elsewhere, and whether borg encrypts it."""
        cached = self.copies.restic_caches(home) if "restic" in facts.programs else []
        records, secret = self.copies.borg_records(home, repository) if "borg" in _families(facts) else ([], None)
        return [*(replace(copy, where=repository) for copy in cached), *records], secret

    def _written(self, place: str, facts: Facts, home: str) -> str | None:
        """Return when a place was last written to; empty when there is nothing, None when that cannot be seen."""
        if place.startswith("/"):
            copies, seen = self.copies.of([place])
        else:
            copies, seen = self._records(place, facts, home)[0], False
        return max((copy.at for copy in copies), default="" if seen else None)

    def _off_host(self, writes: Iterable[str]) -> bool | None:
        """Whether any of these places is on another machine; None when one of them is not known."""
        answers = [self._is_off_host(one) for one in writes]
        if True in answers:
            return True
        return None if None in answers or not answers else False

    def _is_off_host(self, place: str) -> bool | None:
        if place.startswith("/"):
            return self.copies.on_network(place.partition(UNKNOWN)[0])
        if place.startswith(UNKNOWN):
            return None
        if re.match(r"(\w+://)?(localhost|127\.0\.0\.1|\[::1\])[:/]", place):
            return False
        remotes = {name: away for one in self.settings for name, away in one.remotes.items()}
        return remotes.get(place.partition(":")[0], True)

    def _tried(self, found: Iterable[Protection]) -> Iterator[Protection]:
        """Yield protections with the restores that jobs try of them."""
        for one in found:
            times = [at for facts, at in self.restores if any(_tries(name, one) for name in facts.restorers)]
            dated = [at for at in times if at != "scheduled"]
            tried = max(dated, default=times[0] if times else None)
            yield one if one.restore_tried or not tried else replace(one, restore_tried=tried)


def _families(facts: Facts) -> set[str]:
    return {name.partition("matic")[0] for name in facts.programs}


def _tries(program: str, protection: Protection) -> bool:
    """Whether a program that restores tries what a protection made."""
    if program in RESTORERS:
        return any(take.kind == RESTORERS[program] for take in protection.takes)
    return program in protection.uses or (program == "borg" and "borgmatic" in protection.uses)


def _is_compose(evidence: Evidence) -> bool:
    name = posixpath.basename(evidence.where)
    return evidence.kind == "file" and "compose" in name and name.endswith((".yml", ".yaml"))
