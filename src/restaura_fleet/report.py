# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet as a document: a table of its hosts, what could not be audited, then each host's own report."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Say, Table
from restaura.audit.judge import EMPTY_BYTES
from restaura.audit.model import Audit, Holder, Protection
from restaura.audit.report import NO, UNKNOWN, YES, report, status
from restaura_fleet.model import AuditedHost, FleetAudit

NOTHING = Say(plain="–")
BARE = ("nothing_protected", "unprotected_", "unseen_")
ONLY_HERE = ("only_on_host", "only_on_same_disk")
NOT_AUDITED = Say("not_audited", tone="warning")


def fleet_report(fleet: FleetAudit) -> Document:
    """Return the report of a fleet, with every host's."""
    return (*summary(fleet), *(block for one in fleet.hosts if one.audit for block in _host(one.name, one.audit)))


def summary(fleet: FleetAudit) -> Document:
    """Return what a report says of the whole fleet."""
    return tuple(_summary(fleet))


def _summary(fleet: FleetAudit) -> Iterator[Block]:
    missing = [one for one in fleet.hosts if not one.audit]
    told = {"count": str(len(fleet.hosts)), "audited": str(len(fleet.hosts) - len(missing)), "when_at": fleet.at}
    yield Heading(1, Say("fleet_title", told))
    yield Heading(2, Say("overview"))
    yield Paragraph(Say("fleet_overview_text", told))
    yield Heading(2, Say("status"))
    yield Paragraph(Say(f"fleet_status_{fleet.status}"), strong=status(fleet.status))
    yield Heading(2, Say("fleet_hosts"))
    heads = ("host", "status", "holders", "unprotected", "last_good", "away")
    yield Table(tuple(Say(f"head_{name}") for name in heads), tuple(map(_row, fleet.hosts)))
    if missing:
        yield Heading(2, Say("not_audited_hosts"))
        yield Items(tuple(map(_missing, missing)))


def _row(one: AuditedHost) -> tuple[Say, ...]:
    if one.audit is None:
        return (Say(plain=one.name), NOT_AUDITED, *[UNKNOWN] * 4)
    audit, bare = one.audit, unprotected(one.audit)
    return (
        Say(plain=one.name),
        status(audit.status),
        Say(plain=str(len(audit.holders))),
        Say(plain=str(len(bare)), tone="critical" if bare else ""),
        _last_good(audit) if audit.holders else NOTHING,
        _away(audit) if audit.holders else NOTHING,
    )


def unprotected(audit: Audit) -> set[str]:
    """Return the ids of the holders of data that no backup was found of."""
    return {name for problem in audit.problems if problem.code.startswith(BARE) for name in problem.about}


def _covering(audit: Audit, holder: Holder) -> list[Protection]:
    return [one for one in audit.protections if holder.id in one.covers and not one.idle]


def _last_good(audit: Audit) -> Say:
    """Return since when all that is backed up has a copy that is not empty: the oldest of its newest copies."""
    newest = []
    for holder in audit.holders:
        if by := _covering(audit, holder):
            good = (copy.at for one in by for copy in one.copies if copy.bytes is None or copy.bytes > EMPTY_BYTES)
            newest.append(max(good, default=""))
    if not newest:
        return Say("never")
    return Say("date", {"of_at": min(newest)}) if all(newest) else UNKNOWN


def _away(audit: Audit) -> Say:
    """Return whether all that is backed up has a copy off the host."""
    by = [_covering(audit, holder) for holder in audit.holders]
    if not any(by) or any(one.code in ONLY_HERE for one in audit.problems):
        return NO
    places = [{one.off_host for one in some} for some in by if some]
    return UNKNOWN if any(None in some and True not in some for some in places) else YES


def _missing(one: AuditedHost) -> Item:
    return Item(
        Say("host_not_audited", {"host": one.name, "reason": one.error}),
        command=f"ansible-playbook -i INVENTORY audit_backup.yml --limit {shlex.quote(one.name)}",
        tone="warning",
    )


def _host(name: str, audit: Audit) -> Iterator[Block]:
    """Yield a host's report below its name: each heading one level further down."""
    yield Heading(2, Say(plain=name))
    for block in report(audit)[1:]:
        yield replace(block, level=block.level + 1) if isinstance(block, Heading) else block
