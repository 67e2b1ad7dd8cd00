# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that people keep about backups: scripts that nobody starts, recovery scripts, and recovery documents."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from restaura.audit.looking import Look
from restaura.audit.model import Evidence
from restaura.audit.programs import BACKUP_WORD

PLACES = (
    *("/usr/local/bin", "/usr/local/sbin", "/root", "/home", "/opt", "/srv", "/var/www", "/var/backups", "/backup"),
    *("/backups", "/scripts", "/docker", "/data", "/etc/backup", "/usr/local/share", "/usr/local/etc", "/etc/restaura"),
)
SKIPPED = re.compile(
    r"node_modules|\.git|venv|\.venv|site-packages|dist-packages|vendor|\.cache|__pycache__|\.cargo|\.rustup|\.npm|go|pkg"
    r"|\.local|\.pyenv|\.nvm|overlay2|uploads|media|static|public|dist|build|target|tests?|docs?-site|_data"
)
DEEP = 4
MOST_ENTRIES = 20_000
MOST_CHARACTERS = 200_000
SCRIPT = re.compile(r".*\.(sh|bash|py|pl|rb|php)|[\w-]+")
DOCUMENT = re.compile(r".*\.(md|txt|rst|adoc|org|html?|pdf|docx?|odt)|README|RUNBOOK|RECOVERY|RESTORE", re.IGNORECASE)
TELLING = re.compile(
    r"readme|runbook|playbook|recover|restor|disaster|backup|emergenc|howto|operation|recupera|restaura|desastre|wiki|drp?\b",
    re.IGNORECASE,
)
RESTORE_WORD = re.compile(r"restor|recover|recuper|restaur", re.IGNORECASE)


@dataclass
class Kept:
    """What people keep: possible backup scripts, possible recovery scripts (paths), and recovery documents."""

    scripts: list[str] = field(default_factory=list)
    recovery_scripts: list[str] = field(default_factory=list)
    documents: list[Evidence] = field(default_factory=list)


def find_kept(look: Look) -> Kept:
    """Look through the places where people put scripts and documents."""
    kept = Kept()
    for path, status in _files(look):
        name = path.rpartition("/")[2]
        script = SCRIPT.fullmatch(name) and (status.st_mode & 0o111 or "." in name) and not DOCUMENT.fullmatch(name)
        if script and status.st_size <= MOST_CHARACTERS:
            if RESTORE_WORD.search(name):
                kept.recovery_scripts.append(path)
            elif BACKUP_WORD.search(name):
                kept.scripts.append(path)
        elif DOCUMENT.fullmatch(name) and TELLING.search(name) and _tells(look, path, name, status.st_size):
            kept.documents.append(Evidence("file", path))
    return kept


def _tells(look: Look, path: str, name: str, size: int) -> bool:
    """Whether a document says how backups are restored."""
    if re.search(r"\.(pdf|docx?|odt)$", name, re.IGNORECASE):
        return bool(RESTORE_WORD.search(name))
    text = (look.text(path, most=MOST_CHARACTERS, surely=False) or "") if size else ""
    paragraphs = re.split(r"\n\s*\n|\n#", text)
    return any(
        RESTORE_WORD.search(one) and (BACKUP_WORD.search(one) or RESTORE_WORD.search(name)) for one in paragraphs
    )


def _files(look: Look) -> Iterator[tuple[str, os.stat_result]]:
    left = MOST_ENTRIES
    waiting = [(one, 1) for one in reversed(PLACES)]
    while waiting:
        directory, depth = waiting.pop()
        for entry in look.entries(directory):
            left -= 1
            if left < 0:
                look.blame(directory, "too_long", "directory")
                return
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            path = f"{directory}/{entry.name}"
            if stat.S_ISREG(status.st_mode):
                yield path, status
            elif stat.S_ISDIR(status.st_mode) and depth < DEEP and not SKIPPED.fullmatch(entry.name):
                waiting.append((path, depth + 1))
