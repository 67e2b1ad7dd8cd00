# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup services in Compose files: known images, images named so, jobs in labels, and commands that dump."""

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from restaura.audit.jobs import DAY, WORDS, cron_interval
from restaura.audit.looking import Look
from restaura.audit.model import HolderKind, Take
from restaura.audit.programs import Facts, Where, inner_shell, read
from restaura.audit.secrecy import Secrets
from restaura.audit.settings import load_yaml
from restaura.audit.shell import UNKNOWN, read_shell

IMAGES = re.compile(
    r"docker-volume-backup|postgres-backup|pg-?backup|mysql-(cron-)?backup|mariadb-backup|db-backup|mongo\w*-backup"
    r"|redis-backup|[\w-]*backup[\w-]*|restic|resticker|borg\w*|duplicati|duplicacy|kopia|rclone|wal-g|pgbackrest|barman",
    re.IGNORECASE,
)
# What the images of backup services are for, by a word in their name.
KINDS: tuple[tuple[str, HolderKind], ...] = (
    *(("postgres", "postgres"), ("pg-", "postgres"), ("pgbackup", "postgres"), ("pgbackrest", "postgres")),
    *(("wal-g", "postgres"), ("barman", "postgres"), ("mysql", "mysql"), ("mariadb", "mysql"), ("mongo", "mongodb")),
    *(("redis", "redis"),),
)
ENCRYPTING = re.compile(r"restic|borg|kopia|duplicati|duplicacy", re.IGNORECASE)
SCHEDULE = re.compile(r"(BACKUP_CRON_EXPRESSION|SCHEDULE|CRON\w*|BACKUP_CRON|CRON_TIME|BACKUP_SCHEDULE|\w+_CRON)$")
REMOTE = re.compile(
    r"(AWS_S3_BUCKET_NAME|S3_BUCKET\w*|WEBDAV_URL|SSH_HOST_NAME|AZURE_STORAGE_ACCOUNT_NAME|B2_BUCKET\w*"
    r"|GS_BUCKET\w*|SWIFT_URL|DB_DUMP_TARGET|RESTIC_REPOSITORY|BORG_REPO|WALG_S3_PREFIX|DROPBOX_\w+)$"
)
NOTIFYING = re.compile(
    r"NOTIFICATION_URLS|SLACK|TELEGRAM|WEBHOOK|HEALTHCHECK|MAILX_ARGS|EMAIL|SMTP|NTFY|DISCORD|PING", re.IGNORECASE
)
HOST = re.compile(r"(POSTGRES|PG|MYSQL|MARIADB|DB|MONGO\w*|REDIS)_?HOST|DB01_HOST|DB_SERVER")
DATABASE = re.compile(r"(POSTGRES|PG|MYSQL|MARIADB|MONGO\w*)_?(DB|DATABASE)|DB_NAME|DB01_NAME|DB_NAMES")


@dataclass
class Service:
    """One backup service: where it is declared, when it runs, what it does; `notifies` whether it tells of failures."""

    path: str
    line: int
    project: str
    name: str
    image: str = ""
    schedule: str = ""
    interval: int | None = None
    facts: Facts = field(default_factory=Facts)


def find_services(look: Look, secrets: Secrets, paths: Iterable[str]) -> Iterator[Service]:
    """Yield the backup services of Compose files."""
    for path in sorted(set(paths)):
        text = look.text(path)
        if text is None:
            continue
        secrets.search(text, path, told=False)
        data = load_yaml(look, path)
        services = data.get("services") if isinstance(data, dict) else None
        if isinstance(services, dict):
            compose = _Compose(look, secrets, path, text, data)
            for name, service in services.items():
                if isinstance(service, dict):
                    yield from compose.service(str(name), service)


class _Compose:
    """One Compose file."""

    def __init__(self, look: Look, secrets: Secrets, path: str, text: str, data: dict[Any, Any]) -> None:
        self.look, self.secrets, self.path, self.text, self.data = look, secrets, path, text, data
        self.folder = posixpath.dirname(path)
        self.dotenv = self._environment_file(f"{self.folder}/.env")
        told = data.get("name") or self.dotenv.get("COMPOSE_PROJECT_NAME") or posixpath.basename(self.folder)
        self.project = re.sub(r"[^a-z0-9_-]", "", str(told).lower()).lstrip("_-")

    def service(self, name: str, service: dict[Any, Any]) -> Iterator[Service]:
        """Yield what of a service backs up: itself, and the jobs in its labels."""
        image = self._filled(str(service.get("image", "")))
        line = next((n for n, one in enumerate(self.text.split("\n"), 1) if one.strip().rstrip(":") == name), 1)
        environment = self._environment(service)
        made = Service(self.path, line, self.project, name, image)
        repository = image.partition("@")[0].rpartition(":")[0] or image
        command = self._command(service)
        script = read_shell(command, {"PWD": "/", **environment})
        facts = read(script.commands, script.variables, Where(mounts=tuple(self._mounts(service))))
        if any(IMAGES.fullmatch(part) for part in repository.split("/")[-2:]):
            self._image(made, repository, environment, service)
            made.facts.merge(facts)
            yield made
        elif facts.backs_up:
            made.facts.merge(facts)
            sleeps = [one.words[1] for one in script.commands if one.words[:1] == ("sleep",) and len(one.words) > 1]
            made.schedule = f"sleep {sleeps[-1]}" if sleeps else ""
            made.interval = _seconds(sleeps[-1]) if sleeps else None
            yield made
        yield from self._labelled(name, line, service)

    def _image(self, made: Service, repository: str, environment: dict[str, str], service: dict[Any, Any]) -> None:
        """Say what a service of a known image, or one named so, does: by what it mounts and is told."""
        facts = made.facts
        facts.backs_up = True
        facts.programs = [posixpath.basename(repository)]
        kind = next((kind for word, kind in KINDS if word in repository.lower()), None)
        for source, target in self._mounts(service):
            if target.startswith(("/var/run", "/run", "/etc")):
                continue
            if target.startswith(("/archive", "/backups", "/dump", "/repo", "/target", "/storage")) or (
                kind and target.startswith("/backup")
            ):
                facts.write(source if source.startswith("/") else f"/var/lib/docker/volumes/{source}/_data")
            elif kind is None and target not in ("/cache", "/config"):
                facts.takes.append(Take("path", source) if source.startswith("/") else Take("docker_volume", source))
        host = next((value for name, value in environment.items() if HOST.fullmatch(name)), "")
        names = next((value for name, value in environment.items() if DATABASE.fullmatch(name)), "")
        if kind:
            names = "" if names.lower() == "all" else names.replace(",", " ").replace(";", " ")
            facts.take(kind, names, Where(project=self.project), host)
            facts.takes = [
                Take(one.kind, one.name, host, self.project) if one.kind == kind else one for one in facts.takes
            ]
        for name, value in environment.items():
            if REMOTE.fullmatch(name) and value:
                facts.write(
                    value if "://" in value or value.startswith("/") else f"{name.partition('_')[0].lower()}://{value}"
                )
            facts.notifies = facts.notifies or (bool(NOTIFYING.search(name)) and bool(value))
            facts.encrypted = facts.encrypted or (name.startswith(("GPG_", "AGE_", "ENCRYPT")) and bool(value))
        facts.encrypted = facts.encrypted or bool(ENCRYPTING.search(repository))
        given = next((value for name, value in environment.items() if SCHEDULE.fullmatch(name) and value), "@daily")
        made.schedule, made.interval = given, _interval(given)

    def _labelled(self, name: str, line: int, service: dict[Any, Any]) -> Iterator[Service]:
        """Yield the jobs that ofelia finds in labels (`ofelia.job-exec.NAME.command`)."""
        labels = _pairs(service.get("labels"))
        for key, value in labels.items():
            if match := re.fullmatch(r"(ofelia\.job-\w+\.[^.]+)\.command", key):
                text = inner_shell(read_shell(value, {}).commands[0].words) if read_shell(value, {}).commands else None
                script = read_shell(text or value, {"PWD": "/"})
                facts = read(script.commands, script.variables, Where(name, self.project))
                if facts.backs_up:
                    given = labels.get(f"{match[1]}.schedule", "")
                    yield Service(self.path, line, self.project, name, "", given, _interval(given), facts)

    def _mounts(self, service: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        """Yield a service's mounts as (host path or the volume's real name, place in the container)."""
        for one in service.get("volumes") or []:
            if isinstance(one, dict):
                source, target = str(one.get("source", "")), str(one.get("target", ""))
            else:
                source, _, rest = self._filled(str(one)).partition(":")
                target = rest.partition(":")[0] or source
            if source.startswith((".", "~")):
                yield posixpath.normpath(posixpath.join(self.folder, source.replace("~", "/root", 1))), target
            else:
                yield source if source.startswith("/") else self._volume(source), target

    def _volume(self, name: str) -> str:
        declared = (self.data.get("volumes") or {}) if isinstance(self.data.get("volumes"), dict) else {}
        one = declared.get(name)
        settings = one if isinstance(one, dict) else {}
        external = settings.get("external")
        if isinstance(external, dict) and external.get("name"):
            return str(external["name"])
        return str(settings.get("name") or (name if external else f"{self.project}_{name}"))

    def _command(self, service: dict[Any, Any]) -> str:
        """Return what a service runs as text of a shell."""
        parts = []
        for key in ("entrypoint", "command"):
            value = service.get(key)
            words = [str(one) for one in value] if isinstance(value, list) else read_words(str(value or ""))
            parts += words
        inner = inner_shell(parts)
        text = (
            inner
            if inner is not None
            else " ".join(one if re.fullmatch(r"[\w./:=@%+,-]+", one) else _quoted(one) for one in parts)
        )
        return self._filled(text.replace("$$", "$"))[:20_000]

    def _environment(self, service: dict[Any, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        files = service.get("env_file") or []
        for one in [files] if isinstance(files, str | dict) else files:
            path = str(one.get("path", "")) if isinstance(one, dict) else str(one)
            found |= self._environment_file(posixpath.normpath(posixpath.join(self.folder, path)))
        return found | {key: self._filled(value) for key, value in _pairs(service.get("environment")).items()}

    def _environment_file(self, path: str) -> dict[str, str]:
        found = {}
        text = self.look.text(path) or ""
        self.secrets.search(text, path, told=False)
        for line in text.splitlines():
            if match := re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)", line):
                found[match[1]] = match[2].strip().strip("\"'")
        return found

    def _filled(self, text: str) -> str:
        """Return a text with Compose's variables filled in from `.env`."""

        def value(match: re.Match[str]) -> str:
            return self.dotenv.get(match[1] or match[3], match[2] or UNKNOWN)

        return re.sub(r"\$(?:\{(\w+)(?::?-([^}]*))?[^}]*\}|([A-Za-z_]\w*))", value, text)


def read_words(text: str) -> list[str]:
    """Return the words of one command."""
    commands = read_shell(text, {}).commands
    return list(commands[0].words) if len(commands) == 1 else ["sh", "-c", text]


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _pairs(value: Any) -> dict[str, str]:
    """Return a mapping that Compose lets be written as a list of `NAME=VALUE` too."""
    if isinstance(value, dict):
        return {str(key): "" if one is None else str(one) for key, one in value.items()}
    if isinstance(value, list):
        return {key: given for key, _, given in (str(one).partition("=") for one in value)}
    return {}


def _seconds(text: str) -> int | None:
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY}[match[2]] if match else None


def _interval(text: str) -> int | None:
    """Return the longest time between two starts by a schedule as these images take them."""
    bare = text.strip().lstrip("@").lower()
    if bare in WORDS:
        return WORDS[bare]
    if match := re.fullmatch(r"(?:every\s+)?((?:\d+[smhd])+)", bare):
        return sum(_seconds(one) or 0 for one in re.findall(r"\d+[smhd]", match[1])) or None
    fields = text.split()
    # With six fields the first are seconds (robfig/cron).
    return cron_interval(" ".join(fields[-5:])) if len(fields) in (5, 6) else None
