# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do next: from the problems of an audit to recommendations for the short, medium and long term."""

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator

from restaura.audit.model import Audit, Problem, Protection, Recommendation, Term

# From a clone of Restaura on the host itself; nothing has to be edited.
SETUP = "make setup_backup"
SETTINGS = "inventories/local/group_vars/all.yml"
TERMS: tuple[Term, ...] = ("short", "medium", "long")
DEDUPLICATING = {
    "restic",
    "borg",
    "borgmatic",
    "kopia",
    "duplicity",
    "restaura",
    "pgbackrest",
    "rdiff-backup",
    "rsnapshot",
}
ARCHIVING = {"pgbackrest", "wal-g", "barman"}
# Problems with what a protection has to show.
OUTPUT = {"stale", "never_produced", "empty", "failed", "shrinking"}
SHELL_FIXES = {"pipe_hides_failure", "failure_not_checked"}


def advise(audit: Audit) -> tuple[Recommendation, ...]:
    """Return the recommendations for an audit's problems, short term first, each once."""
    found: dict[tuple[str, str], Recommendation] = {}
    protections = {one.id: one for one in audit.protections}
    for problem in audit.problems:
        about = [protections[one] for one in problem.about if one in protections]
        for one in _of(problem, about):
            found.setdefault((one.code, one.command), one)
    for one in _further(audit):
        found.setdefault((one.code, one.command), one)
    return tuple(sorted(found.values(), key=lambda one: TERMS.index(one.term)))


def _of(problem: Problem, about: list[Protection]) -> Iterator[Recommendation]:
    """Yield what to do about a problem."""
    code, told = problem.code, problem.parameters
    name = {"name": told.get("name", "")}
    if code == "nothing_protected":
        yield Recommendation("protect_everything", "short", {"holders": told["holders"]}, SETUP)
    elif code.startswith("unprotected_"):
        yield Recommendation(
            f"protect_{code.removeprefix('unprotected_')}", "short", {"holders": told["holders"]}, SETUP
        )
    elif code.startswith("idle_"):
        yield Recommendation("start_it", "short", name, _start(code.removeprefix("idle_"), about[0]))
    elif code in OUTPUT:
        yield Recommendation("repair", "short", name, _look(about[0], told.get("log", "")))
    elif code == "age_unknown":
        yield Recommendation("look_there", "short", {**name, "writes": told["writes"]}, _list(about[0]))
    elif code == "silent":
        yield Recommendation("hear_failures", "medium", name, _loud(about[0]))
    elif code == "restore_never_tried":
        yield Recommendation("try_restores", "medium", {"name": about[0].name}, _try(about[0]))
    else:
        yield from _of_host(code, told)


def _of_host(code: str, told: dict[str, str]) -> Iterator[Recommendation]:
    """Yield what to do about a problem that is no one protection's."""
    if code.startswith("unseen_") or code == "not_all_seen":
        yield Recommendation("look_as_root", "short", {}, "sudo restaura audit")
    elif code in ("copied_live", "some_databases"):
        yield Recommendation("dump_databases", "short", {"holders": told.get("holders", told.get("holder", ""))}, SETUP)
    elif code == "secret_in_file":
        yield Recommendation("move_secrets", "short", {"file": told["file"]}, _edit(told["file"]))
    elif code == "world_readable":
        command = f"chmod -R o-rwx {_quoted(told['folder'])}"
        yield Recommendation("close_copies", "short", {"folder": told["folder"]}, command)
    elif code == "owner_cannot_read":
        yield Recommendation("open_copies", "short", {"copy": told["copy"]}, f"chmod u+r {_quoted(told['copy'])}")
    elif code in ("no_recovery_documents", "no_recovery_scripts"):
        yield Recommendation("recovery_procedures", "short", {}, SETUP)
    elif code in ("only_on_host", "only_on_same_disk"):
        command = f"${{EDITOR:-vi}} {SETTINGS} && {SETUP}"
        yield Recommendation("store_elsewhere", "medium", {"settings": SETTINGS}, command)


def _further(audit: Audit) -> Iterator[Recommendation]:
    """Yield what is worth doing once nothing is wrong any more."""
    working = [one for one in audit.protections if not one.idle]
    uses = {name for one in working for name in one.uses}
    kinds = {one.kind for one in audit.holders}
    if not audit.holders:
        return
    if working and not any("restaura" in one.uses for one in working):
        yield Recommendation("automate_drills", "medium", {}, SETUP)
    if not uses & DEDUPLICATING:
        yield Recommendation("incremental", "long", {}, SETUP)
    if kinds & {"postgres", "supabase"} and not uses & ARCHIVING:
        yield Recommendation("replicate", "long", {}, "apt-get install pgbackrest")
    command = f"restaura keys kit > {_quoted(audit.host)}.kit" if "restaura" in uses else SETUP
    yield Recommendation("disaster_plan", "long", {"host": audit.host}, command)


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _file(one: Protection) -> str:
    return one.evidence[0].where if one.evidence else one.name


def _scripts(one: Protection) -> list[str]:
    skipped = ("/etc/", "/var/spool/cron", "/var/log/")
    return [e.where for e in one.evidence if e.kind == "file" and not e.where.startswith(skipped) and "/" in e.where]


def _unit(one: Protection) -> str:
    return _quoted(_file(one).removesuffix(".timer"))


def _start(code: str, one: Protection) -> str:
    path = _file(one)
    name = posixpath.basename(path)
    fixed = posixpath.join(posixpath.dirname(path), re.sub(r"[^A-Za-z0-9_-].*$", "", name) or "backup")
    scheduled = re.sub(r"[^A-Za-z0-9_-]", "-", name.partition(".")[0]) or "backup"
    # cron hands the line to a shell of its own, and ends it at a bare %.
    line = _quoted(f"15 2 * * * root {_quoted(path)}".replace("%", r"\%"))
    return {
        "timer_disabled": f"systemctl enable --now {_quoted(path)}",
        "dot_in_name": f"mv {_quoted(path)} {_quoted(fixed)}",
        "not_executable": f"chmod +x {_quoted(path)}",
        "insecure_mode": f"chmod go-w {_quoted(path)}",
        "bad_time": _edit(path),
        "no_newline": f"echo >> {_quoted(path)}",
        "no_cron_daemon": "apt-get install cron",
        "not_scheduled": f"echo {line} > /etc/cron.d/{scheduled}" if one.kind == "script" else SETUP,
    }.get(code, SETUP)


def _look(one: Protection, log: str) -> str:
    """Return what shows why a protection fails."""
    if log:
        return f"tail -n 50 {_quoted(log)}"
    if one.kind == "timer":
        return f"journalctl -u {_unit(one)}.service -n 50"
    if one.kind == "restaura":
        return "restaura status"
    if one.kind == "compose_service":
        project, _, service = one.name.partition("/")
        return f"docker compose -p {_quoted(project)} logs --tail 50 {_quoted(service)}"
    if scripts := _scripts(one):
        return f"sh -x {_quoted(scripts[0])}" if scripts[0].endswith(".sh") else _quoted(scripts[0])
    line = one.evidence[0].line
    return f"sed -n {line}p {_quoted(_file(one))}" if line else f"sh -x {_quoted(_file(one))}"


def _list(one: Protection) -> str:
    """Return what lists the copies on another machine."""
    place = next((place for place in one.writes if "*" not in place), "")
    if place and "restic" in one.uses:
        return f"restic -r {_quoted(place)} snapshots --latest 1"
    if place and set(one.uses) & {"borg", "borgmatic"}:
        return f"borg list --last 3 {_quoted(place)}"
    if place and "rclone" in one.uses:
        return f"rclone lsl {_quoted(place)}"
    if place and "aws" in one.uses:
        return f"aws s3 ls {_quoted(place)}"
    return _look(one, "")


def _edit(path: str) -> str:
    if match := re.fullmatch(r"/var/spool/cron/(?:crontabs/)?([^/]+)", path):
        return f"crontab -u {_quoted(match[1])} -e"
    return f"sudoedit {_quoted(path)}"


def _loud(one: Protection) -> str:
    """Return what lets somebody hear of a failure."""
    by_code = {hush.detail: hush for hush in one.hushed}
    for code in ("output_discarded", "errors_ignored", "output_to_file"):
        if code in by_code:
            return _edit(by_code[code].where)
    for code in SHELL_FIXES:
        if code in by_code:
            # Debian's sh knows no pipefail.
            return f"sed -i '1s|^#!.*sh.*|#!/bin/bash|; 1a set -eo pipefail' {_quoted(by_code[code].where)}"
    if "no_mailer" in by_code:
        return "apt-get install msmtp-mta"
    if "no_onfailure" in by_code:
        return f"systemctl edit {_unit(one)}.service"
    return _edit(_file(one))


def _try(one: Protection) -> str:
    """Return what tries a restore beside the live data."""
    repository = next(iter(one.writes), "")
    newest = next((copy.where for copy in one.copies), "")
    if "restaura" in one.uses:
        return "restaura drill"
    if "restic" in one.uses and repository and "*" not in repository:
        return f"restic -r {_quoted(repository)} restore latest --target /var/tmp/restored"
    if set(one.uses) & {"borg", "borgmatic"} and repository and "*" not in repository:
        place = _quoted(repository)
        return f'borg extract --dry-run {place}::"$(borg list --last 1 --short {place})"'
    if newest.endswith((".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.xz")):
        return f"mkdir /var/tmp/restored && tar -xf {_quoted(newest)} -C /var/tmp/restored"
    if newest.endswith((".sql.gz", ".gz")) and _dumps(one.uses, "pg_dump"):
        return f"createdb restored && zcat {_quoted(newest)} | psql -v ON_ERROR_STOP=1 restored"
    if newest and _dumps(one.uses, "pg_dump"):
        tool = "psql -v ON_ERROR_STOP=1 -d restored -f" if newest.endswith(".sql") else "pg_restore -d restored"
        return f"createdb restored && {tool} {_quoted(newest)}"
    return SETUP


def _dumps(uses: Iterable[str], program: str) -> bool:
    return any(name.startswith(program) for name in uses)
