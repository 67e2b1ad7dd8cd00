# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of many hosts, as data."""

from dataclasses import dataclass

from restaura.audit.model import SCHEMA, Audit, Status

# From the best to the worst.
RANK: tuple[Status, ...] = ("OK", "WARNING", "CRITICAL")


@dataclass(frozen=True)
class AuditedHost:
    """A host by its name in the inventory, with its audit, or with `error`: why there is none."""

    name: str
    audit: Audit | None = None
    error: str = ""


@dataclass(frozen=True)
class FleetAudit:
    """The audit of many hosts, the worst first. A host that was not audited makes the status a WARNING at least.

    `at` is when it ended (UTC, ISO 8601).
    """

    at: str
    status: Status
    hosts: tuple[AuditedHost, ...]
    schema: int = SCHEMA
