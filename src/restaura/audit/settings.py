# SPDX-License-Identifier: GPL-3.0-or-later
"""What the settings of backup programs say that they take and where they write: borgmatic, pgBackRest and others.

Each reader follows the program's own manual. A setting that is a secret is never kept.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from restaura import others_yaml
from restaura.audit.looking import Look
from restaura.audit.model import Take
from restaura.audit.programs import Facts, Where, address
from restaura.audit.secrecy import Secrets

Section = dict[str, str]


@dataclass
class Setting:
    """One file of settings: whose it is, what it says; `remotes` of rclone are names and whether each is elsewhere."""

    program: str
    path: str
    facts: Facts = field(default_factory=Facts)
    remotes: dict[str, bool] = field(default_factory=dict)


def find_settings(look: Look, secrets: Secrets) -> list[Setting]:
    """Return the settings of every backup program that has some here."""
    found = [one for reader in READERS for one in reader(look)]
    for one in found:
        status = look.status(one.path)
        # Such a file is where a secret belongs, unless everybody may read it.
        secrets.search(look.text(one.path) or "", one.path, told=bool(status and status.st_mode & 0o004))
    return found


def _files(look: Look, *patterns: str) -> Iterator[str]:
    """Yield files by path, or by `DIRECTORY/*.SUFFIX`; `~` is every home."""
    for pattern in patterns:
        homes = [home for _, home in look.homes()] if pattern.startswith("~") else [""]
        for home in homes:
            path = home + pattern.removeprefix("~")
            directory, _, name = path.rpartition("/")
            if name.startswith("*"):
                yield from (f"{directory}/{one}" for one in look.names(directory) if one.endswith(name[1:]))
            elif look.status(path):
                yield path


def sections(text: str) -> dict[str, Section]:
    """Return an INI file's sections; what stands before the first is in the section without a name."""
    found: dict[str, Section] = {}
    name = ""
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith(("#", ";")):
            continue
        if header := re.fullmatch(r"\[(.+)\]", bare):
            name = header[1]
            found.setdefault(name, {})
        elif "=" in bare:
            key, _, value = bare.partition("=")
            found.setdefault(name, {})[key.strip()] = value.strip().strip("\"'")
    return found


def load_yaml(look: Look, path: str) -> Any:
    """Return what a YAML file says; None when there is none, or it does not parse, which is remembered."""
    text = look.text(path)
    if text is None:
        return None
    try:
        return others_yaml.load(text)
    except others_yaml.NOT_READ:
        look.blame(path, "invalid")
        return None


def _lists(data: Any, name: str) -> list[Any]:
    """Return a list of that name, at the top or in one of the older sections of borgmatic."""
    places = [data, *(data.get(one) for one in ("location", "storage", "hooks"))] if isinstance(data, dict) else []
    for place in places:
        value = place.get(name) if isinstance(place, dict) else None
        if isinstance(value, list):
            return value
    return []


def _borgmatic(look: Look) -> Iterator[Setting]:
    kinds = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "mongodb": "mongodb", "sqlite": "sqlite"}
    places = ("/etc/borgmatic/config.yaml", "/etc/borgmatic.d/*.yaml", "/etc/borgmatic.d/*.yml")
    for path in _files(look, *places, "~/.config/borgmatic/config.yaml", "~/.config/borgmatic.d/*.yaml"):
        data = load_yaml(look, path)
        one = Setting("borgmatic", path)
        for source in _lists(data, "source_directories"):
            if isinstance(source, str) and source.startswith("/"):
                one.facts.takes.append(Take("path", source.rstrip("/") or "/"))
        for repository in _lists(data, "repositories"):
            place = repository.get("path") if isinstance(repository, dict) else repository
            if isinstance(place, str):
                one.facts.write(place.removeprefix("file://"))
        for key, kind in kinds.items():
            for database in _lists(data, f"{key}_databases"):
                if isinstance(database, dict):
                    _borgmatic_database(one.facts, kind, database)
        yield one


def _borgmatic_database(facts: Facts, kind: Any, database: dict[str, Any]) -> None:
    name = str(database.get("name", ""))
    host = str(database.get("container") or database.get("hostname") or "")
    if kind == "sqlite":
        facts.takes.append(Take("path", str(database.get("path", ""))))
    else:
        facts.take(kind, "" if name == "all" else name, Where(), host)


def _pgbackrest(look: Look) -> Iterator[Setting]:
    for path in _files(
        look, "/etc/pgbackrest/pgbackrest.conf", "/etc/pgbackrest.conf", "/etc/pgbackrest/conf.d/*.conf"
    ):
        found = sections(look.text(path) or "")
        one = Setting("pgbackrest", path)
        general = found.get("global", {})
        numbers = sorted({match[1] for key in general if (match := re.match(r"repo(\d+)-", key))} or {"1"})
        stanzas = [name for name in found if name and not name.startswith("global")]
        for number in numbers:
            kind = general.get(f"repo{number}-type", "posix")
            place = general.get(f"repo{number}-path", "/var/lib/pgbackrest")
            host = general.get(f"repo{number}-host") or general.get(f"repo{number}-sftp-host")
            if kind in ("posix", "cifs") and not host:
                for stanza in stanzas:
                    one.facts.write(f"{place}/backup/{stanza}")
            else:
                bucket = next(
                    (general[key] for key in general if re.match(rf"repo{number}-\w+-(bucket|container)", key)), ""
                )
                one.facts.write(f"{kind}://{host or bucket}{place}")
            one.facts.encrypted |= general.get(f"repo{number}-cipher-type", "none") != "none"
        for stanza in stanzas:
            data = [value for key, value in found[stanza].items() if re.fullmatch(r"pg\d+-path|db-path", key)]
            one.facts.takes += [Take("postgres", "", value) for value in data or [""]]
        yield one


def _wal_g(look: Look) -> Iterator[Setting]:
    for path in _files(
        look, "~/.walg.json", "/etc/wal-g.json", "/etc/wal-g/*.json", "/etc/wal-g/*.env", "/etc/wal-g.env"
    ):
        text = look.text(path) or ""
        try:
            data = json.loads(text) if path.endswith(".json") else sections(text).get("", {})
        except (ValueError, RecursionError):
            look.blame(path, "invalid")
            continue
        yield _wal_g_setting(
            path, {str(key): str(value) for key, value in data.items()} if isinstance(data, dict) else {}
        )
    for directory in ("/etc/wal-g.d/env", "/etc/wal-g/env"):
        if names := look.names(directory):
            values = {name: (look.text(f"{directory}/{name}") or "").strip() for name in names if "PREFIX" in name}
            yield _wal_g_setting(directory, values | {name: "" for name in names if "PREFIX" not in name})


def _wal_g_setting(path: str, values: dict[str, str]) -> Setting:
    one = Setting("wal-g", path)
    one.facts.takes.append(Take("postgres"))
    one.facts.encrypted = any(re.search(r"LIBSODIUM_KEY|PGP_KEY", name) for name in values)
    for name, value in values.items():
        if name.endswith("_PREFIX"):
            one.facts.write(f"{value}/basebackups_005" if "FILE" in name else address(value))
    return one


def _barman(look: Look) -> Iterator[Setting]:
    home = sections(look.text("/etc/barman.conf") or "").get("barman", {}).get("barman_home", "/var/lib/barman")
    for path in _files(look, "/etc/barman.conf", "/etc/barman.d/*.conf"):
        for name, section in sections(look.text(path) or "").items():
            if name in ("", "barman"):
                continue
            one = Setting("barman", path)
            host = re.search(r"host=(\S+)", section.get("conninfo", ""))
            one.facts.take("postgres", "", Where(), host[1] if host else "")
            one.facts.write(
                section.get("basebackups_directory") or f"{section.get('backup_directory', f'{home}/{name}')}/base"
            )
            yield one


def _rsnapshot(look: Look) -> Iterator[Setting]:
    for path in _files(look, "/etc/rsnapshot.conf"):
        one = Setting("rsnapshot", path)
        for line in (look.text(path) or "").splitlines():
            fields = line.split("\t") if "\t" in line else line.split()
            fields = [field for field in fields if field]
            if fields[:1] == ["snapshot_root"] and len(fields) > 1:
                one.facts.write(fields[1].rstrip("/"))
            elif fields[:1] == ["backup"] and len(fields) > 1 and fields[1].startswith("/"):
                one.facts.takes.append(Take("path", fields[1].rstrip("/") or "/"))
        yield one


def _automatic(look: Look) -> Iterator[Setting]:
    """Debian's `automysqlbackup` and `autopostgresqlbackup`: all databases, to a directory of settings."""
    for program, takes in (("automysqlbackup", Take("mysql")), ("autopostgresqlbackup", Take("postgres"))):
        for path in _files(look, f"/etc/default/{program}"):
            one = Setting(program, path)
            one.facts.takes.append(takes)
            told = sections(look.text(path) or "").get("", {})
            one.facts.write(told.get("BACKUPDIR") or f"/var/lib/{program}")
            yield one


def _rclone(look: Look) -> Iterator[Setting]:
    for path in _files(look, "~/.config/rclone/rclone.conf", "~/.rclone.conf", "/etc/rclone.conf"):
        found = sections(look.text(path) or "")
        one = Setting("rclone", path)
        for name, section in found.items():
            below = section.get("remote", "").partition(":")[0] if section.get("type") in ("crypt", "alias") else name
            one.remotes[name] = found.get(below, section).get("type", "local") != "local"
            one.facts.encrypted |= section.get("type") == "crypt"
        yield one


READERS: tuple[Callable[[Look], Iterator[Setting]], ...] = (
    *(_borgmatic, _pgbackrest, _wal_g, _barman, _rsnapshot, _automatic, _rclone),
)
