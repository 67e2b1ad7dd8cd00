# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the hosts of a fleet answered to its audit.

An answer comes from a host that may be in other hands: it is checked field by field, and one that is not an audit is a
host that was not audited.
"""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from restaura.audit.model import Audit
from restaura.audit.rendering import render
from restaura_fleet.model import RANK, AuditedHost, FleetAudit
from restaura_fleet.report import fleet_report


def fleet_of(results: Mapping[str, Any], at: str) -> FleetAudit:
    """Return the audit of a fleet from each host's result of the module `backup_audit`, as Ansible registers it."""
    hosts = sorted((_host(name, result, at) for name, result in results.items()), key=_rank, reverse=True)
    return FleetAudit(at, RANK[max((int(_rank(one)) for one in hosts), default=0)], tuple(hosts))


def _rank(one: AuditedHost) -> float:
    return RANK.index(one.audit.status) if one.audit else 1.5


def _host(name: str, result: Any, at: str) -> AuditedHost:
    told = result if isinstance(result, Mapping) else {}
    if "audit" not in told:
        reason = str(told.get("msg") or "it gave no answer").strip()
        return AuditedHost(name, error=reason)
    try:
        audit: Audit = _read(Audit, told["audit"])
        # One that cannot be worded must not keep others from being read.
        render(fleet_report(FleetAudit(at, audit.status, (AuditedHost(name, audit),))), "text", "en")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return AuditedHost(name, error=f"its answer is no audit ({type(error).__name__}: {error})")
    return AuditedHost(name, audit)


def _read(hint: Any, value: Any) -> Any:
    """Return plain data as what a type says; TypeError or ValueError when it is something else."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return value
    if origin in (Union, types.UnionType):
        for one in inside[:-1]:
            with contextlib.suppress(TypeError, ValueError):
                return _read(one, value)
        return _read(inside[-1], value)
    if origin is Literal:
        if value not in inside:
            raise ValueError(f"{value!r} is none of {', '.join(inside)}")
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_read(inside[0], one) for one in value)
    if origin is dict and isinstance(value, Mapping):
        return {_read(str, key): _read(inside[1], one) for key, one in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        hints = typing.get_type_hints(hint)
        return hint(**{name: _read(hints[name], value[name]) for name in hints if name in value})
    if isinstance(hint, type) and (isinstance(value, hint) or (hint is float and isinstance(value, int))):
        return value
    raise TypeError(f"{value!r:.80} is no {getattr(hint, '__name__', hint)}")
