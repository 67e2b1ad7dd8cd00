# SPDX-License-Identifier: GPL-3.0-or-later
"""Every word of an audit's report, by code, in each language. The first line of a text is its title.

A parameter whose name ends in `_bytes` is a size, in `_at` a time, in `_seconds` a length of time; one of several lines
is a list.
"""

import string
from collections.abc import Mapping
from datetime import UTC, datetime

from restaura.audit.document import Item, Say
from restaura.audit.texts_pt_br import PT_BR
from restaura.output import printable, size

MOST_LISTED = 6

EN = {
    # The report
    "title": "Backup and recovery audit of {host}",
    "overview": "Overview",
    "overview_text": "Everything on this host that holds data was looked for, and every way in which it is backed "
    "up. Nothing was changed. Seen on {when_at}: {holders} holders of data, {protections} ways of "
    "backing up, {problems} problems.",
    "results": "Results",
    "methods": "Backup methods found",
    "status": "Overall status",
    "status_OK": "everything that holds data is backed up, off this host, and restores are tried.",
    "status_WARNING": "the backup configuration has gaps that should be closed.",
    "status_CRITICAL": "data would be lost today: a backup that is relied on does not work, or there is none.",
    "problems": "Problems found",
    "no_problems": "None.",
    "holders": "What holds data",
    "no_holders": "Nothing was found that holds data.",
    "protections": "How it is backed up",
    "no_protections": "Nothing was found that makes a backup.",
    "recommendations": "Recommendations",
    "no_recommendations": "None.",
    "short": "Short term",
    "medium": "Medium term",
    "long": "Long term",
    "recovery": "Recovery",
    "recovery_documents": "Recovery documents",
    "recovery_scripts": "Recovery scripts",
    "restore_tests": "Restore tests",
    "unreadable": "What could not be looked at",
    "conclusion": "Conclusion",
    "conclusion_OK": "The backups of this host are in order. Keep trying restores: only what was restored is proven.",
    "conclusion_WARNING": "The audit found gaps in the backups of this host. The recommendations above close them, the "
    "first ones first.",
    "conclusion_CRITICAL": "Some of its data could not be restored today. "
    "Carry out the short-term recommendations now.",
    "next_steps": "Next steps",
    "step_apply": "Carry out the short-term recommendations",
    "step_setup": "Set up backups (from a clone of Restaura on this host)",
    "step_audit": "Verify the configuration afterwards",
    "step_drill": "Test the recovery procedures",
    "step_kit": "Document the results, and keep what a restore needs away from this host",
    "evidence": "seen in: {places}",
    "and_more": "{list} and {count} more",
    "contents": "Contents",
    # How numbers and times are written
    "decimal_mark": ".",
    "time_format": "%Y-%m-%d %H:%M UTC",
    # The fleet
    "fleet_title": "Backup and recovery audit of all hosts",
    "fleet_overview_text": "Hosts audited on {when_at}: {audited} of {count}. Nothing was changed.",
    "fleet_status_OK": "everything that holds data on any host is backed up, and restores are tried.",
    "fleet_status_WARNING": "the backups of some hosts have gaps that should be closed, or could not be looked at.",
    "fleet_status_CRITICAL": "some hosts would lose data today: a backup that is relied on does not work, or there is "
    "none.",
    "fleet_hosts": "Hosts",
    "not_audited": "NOT AUDITED",
    "not_audited_hosts": "Hosts that could not be audited",
    "host_not_audited": "{host} could not be audited\n{reason}\nNothing is known of its backups",
    # Table heads
    "head_holder": "data",
    "head_size": "size",
    "head_running": "runs",
    "head_protected": "protected by",
    "head_newest": "newest copy",
    "head_away": "off host",
    "head_name": "backup",
    "head_started": "started by",
    "head_schedule": "schedule",
    "head_copies": "copies",
    "head_encrypted": "encrypted",
    "head_tried": "restore tried",
    "head_loud": "failure heard",
    "head_host": "host",
    "head_status": "status",
    "head_holders": "holders of data",
    "head_unprotected": "without a backup",
    "head_last_good": "last good copy",
    "yes": "yes",
    "no": "no",
    "unknown": "?",
    "nobody": "NOBODY",
    "never": "never",
    "scheduled": "by schedule",
    "size": "{of_bytes}",
    "date": "{of_at}",
    # Methods
    "method_cron_jobs": "Cron jobs and timers",
    "method_backup_scripts": "Backup scripts",
    "method_database_backup": "Database backup",
    "method_supabase_backup": "Supabase backup",
    "method_volume_backup": "Volume backup",
    "method_compose_backup_services": "Docker Compose backup services",
    "configured": "configured: {names}",
    "not_configured": "not configured",
    "not_needed": "nothing here needs it",
    "not_seen": "not seen, and not everything could be looked at",
    # How backups are started
    "kind_cron": "cron",
    "kind_timer": "timer",
    "kind_script": "nobody",
    "kind_compose_service": "container",
    "kind_restaura": "Restaura",
    "kind_other": "nobody known",
    # Problems
    "nothing_protected": "No data on this host is backed up\n"
    "No job, script, service or program takes: {holders}\n"
    "All of it is lost when the server fails",
    "unprotected_databases": "Databases without a backup\n"
    "No script or job dumps: {holders}\n"
    "Their data is in no backup",
    "unprotected_supabase": "Supabase without a backup\n"
    "No script or job takes: {holders}\n"
    "Its databases and files are in no backup",
    "unprotected_volumes": "Docker volumes without a backup\n"
    "No backup takes: {holders}\n"
    "Risk of losing their data when the server fails",
    "unprotected_files": "Files and applications without a backup\nNo backup takes: {holders}",
    "unseen_databases": "No backup was seen of some databases\n"
    "Nothing that could be read takes: {holders}\n"
    "What could not be read may take them",
    "unseen_supabase": "No backup was seen of Supabase\n"
    "Nothing that could be read takes: {holders}\n"
    "What could not be read may take it",
    "unseen_volumes": "No backup was seen of some Docker volumes\n"
    "Nothing that could be read takes: {holders}\n"
    "What could not be read may take them",
    "unseen_files": "No backup was seen of some files and applications\n"
    "Nothing that could be read takes: {holders}\n"
    "What could not be read may take them",
    "copied_live": "Running databases are only copied as files\n"
    "Their files change while they are read, so that the copy of {holders} may not start\n"
    "A dump, or a stop while copying, is needed",
    "some_databases": "Only some databases of {holder} are dumped\n"
    "Dumped are: {databases}\n"
    "Others, and its roles, are in no backup",
    "stale": "{name} has made nothing new since {newest_at}\nIts schedule is {schedule}\nIt is at {place}",
    "never_produced": "{name} has produced nothing\nThere is nothing at {writes}\nIt is at {place}",
    "age_unknown": "It cannot be seen when {name} last worked\nIt writes to {writes}, and leaves no trace on this host",
    "empty": "{name} writes empty copies\n{copies}: {size_bytes}\nNothing can be restored from them",
    "shrinking": "The copies of {name} are shrinking\n{copy}: {size_bytes}, where {usual_bytes} were usual",
    "failed": "The log of {name} ends with an error\nLook at the end of {log}",
    "silent": "Nobody hears when {name} fails\nBecause {reasons}",
    "idle_timer_disabled": "{name} is never started: its timer is not enabled\nThe timer is {place}",
    "idle_dot_in_name": "{name} is never started: cron skips names with a dot\nThe file is {place}",
    "idle_not_executable": "{name} is never started: its script is not executable\nThe file is {place}",
    "idle_insecure_mode": "{name} is never started: cron refuses files that others may write\nThe file is {place}",
    "idle_no_newline": "{name} is never started: its line has no end, so that cron skips it\nThe line is {place}",
    "idle_bad_time": "{name} is never started: cron does not understand its times\nThe line is {place}",
    "idle_no_cron_daemon": "{name} is never started: no cron daemon is installed\nThe line is {place}",
    "idle_not_scheduled": "{name} is started by nobody\nNo crontab, timer or service calls {place}",
    "only_on_same_disk": "The only copies are on the disk of the data itself\n"
    "A failing disk takes both the data and the copies of {holders}\n"
    "They are at {writes}",
    "only_on_host": "The only copies are on this host\n"
    "When the server is lost, so are the copies of {holders}\n"
    "They are at {writes}",
    "world_readable": "Everybody on this host may read the copies of {name}\nFiles in {folder}: {count}",
    "owner_cannot_read": "The owner of copies of {name} may not read them\nFiles in {folder}: {count}",
    "secret_in_file": "Secrets stand in {file}\n"
    "Line {lines}: {kinds}\n"
    "Whoever reads the file, or a backup of it, has them",
    "restore_never_tried": "No recovery tests\n"
    "There is no sign that a restore was ever tried of: {protections}\n"
    "What was never restored may not be restorable",
    "no_recovery_documents": "No documented recovery procedures\n"
    "No runbook, README or other document says how to restore",
    "no_recovery_scripts": "No recovery scripts\nNo script restores what is backed up",
    "not_all_seen": "Not everything could be looked at\n"
    "{count} places: {places}\n"
    "There may be backups, or data, that this audit did not see",
    # Why nobody hears
    "no_mailer": "no mail can be sent from this host",
    "mailto_empty": "MAILTO is empty in the crontab",
    "no_onfailure": "the unit has no OnFailure",
    "no_notification": "the service is told of no address to notify",
    "output_discarded": "errors go to /dev/null",
    "output_to_file": "errors only go to a log file",
    "errors_ignored": "failures are ignored",
    "pipe_hides_failure": "a pipe hides the exit status of the dump (no pipefail)",
    "failure_not_checked": "the script goes on after a failure (no set -e)",
    # Kinds of secrets
    "password": "a password",
    "password_in_url": "a password in an address",
    "access_key": "an access key",
    "token": "a token",
    "private_key": "a private key",
    # Why something could not be looked at
    "permission": "no permission",
    "binary": "no text",
    "too_long": "too large to look at whole",
    "failed_to_read": "it could not be read",
    "invalid": "it does not parse",
    "remote": "on another machine, not entered",
    "not_read": "not read",
    # Recommendations
    "protect_everything": "Set up backups of this host\n"
    "Take everything that was found: {holders}\n"
    "Run by cron, and prove by restoring",
    "protect_databases": "Set up a backup of the databases\nDump {holders}\nRun it regularly by cron",
    "protect_supabase": "Set up a backup of Supabase\n"
    "Take its databases, files and settings: {holders}\n"
    "Run it regularly by cron",
    "protect_volumes": "Set up a backup of the Docker volumes\n"
    "Take all volumes with persistent data: {holders}\n"
    "Run it regularly by cron",
    "protect_files": "Set up a backup of files and applications\nTake {holders}\nRun it regularly by cron",
    "look_as_root": "Run the audit again as root\nWhat could not be read is looked at then",
    "start_it": "Have {name} started",
    "repair": "Find out why {name} does not work, and repair it",
    "look_there": "See when {name} last worked\nIt writes to {writes}",
    "dump_databases": "Take databases by dumps, whole servers at once\nFor {holders}",
    "move_secrets": "Move secrets out of {file}\n"
    "Put them into a file that only its user may read, as ~/.pgpass, and change them",
    "close_copies": "Keep others from reading {folder}",
    "open_copies": "Let the owner read {copy}",
    "recovery_procedures": "Create recovery procedures\n"
    "Write down how each kind of backup is restored\n"
    "Have scripts that do it\n"
    "Test them",
    "store_elsewhere": "Store backups off this host\n"
    "Transfer copies automatically to S3 or another machine\n"
    "Name the store as backup_runtime_stores in {settings}",
    "hear_failures": "Monitor {name}\nHave somebody told when it fails",
    "try_restores": "Try a restore\nRestore a copy of {name} beside the live data, and look at it",
    "automate_drills": "Automate recovery tests\nHave restores tried regularly, and their results kept",
    "incremental": "Make backups incremental\n"
    "Smaller copies and shorter runs: a deduplicating store keeps only what changed",
    "replicate": "Archive the write-ahead log of Postgres\n"
    "So that a restore can reach any moment, and not just the last dump",
    "disaster_plan": "Plan for the loss of {host}\n"
    "Keep what a restore needs away from it\n"
    "Restore the whole host on another machine once, and write down how long it took",
}

LANGUAGES: dict[str, Mapping[str, str]] = {"en": EN, "pt-BR": PT_BR}
# Parameters that are lists of codes themselves.
_CODES = {"reasons", "kinds"}


def word(language: str, code: str, parameters: Mapping[str, str] | None = None) -> str:
    """Return what a code says in a language; KeyError for one that there is not."""
    texts = LANGUAGES[language]
    given = {name: _value(language, name, value) for name, value in (parameters or {}).items()}
    return string.Formatter().vformat(texts[code], (), given)


class Words:
    """Says things in one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def say(self, one: Say) -> str:
        """Return the words for something to say, on one line."""
        return printable(self._lines(one)[0] if one.code else one.plain)

    def details(self, one: Say) -> list[str]:
        """Return the further lines of a text."""
        return [printable(line) for line in self._lines(one)[1:]] if one.code else []

    def below(self, item: Item) -> list[str]:
        """Return what stands below an item's title, but for its command."""
        places = ", ".join(map(printable, item.evidence))
        seen = word(self.language, "evidence", {"places": places}) if places else ""
        return [line for line in (*self.details(item.title), *map(self.say, item.lines), seen) if line]

    def _lines(self, one: Say) -> list[str]:
        return word(self.language, one.code, one.parameters).split("\n")


def _value(language: str, name: str, value: str) -> str:
    texts = LANGUAGES[language]
    if name.endswith("_bytes"):
        return size(int(value)).replace(".", texts["decimal_mark"])
    if name.endswith("_at"):
        return datetime.fromisoformat(value).astimezone(UTC).strftime(texts["time_format"])
    parts = value.split("\n")
    if name in _CODES:
        parts = [texts.get(one, one) for one in parts]
    shown = ", ".join(parts[:MOST_LISTED])
    if len(parts) > MOST_LISTED:
        return texts["and_more"].format(list=shown, count=len(parts) - MOST_LISTED)
    return shown
