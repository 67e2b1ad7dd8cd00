# SPDX-License-Identifier: GPL-3.0-or-later
"""An audit as a document: methods, status, problems, what holds data, how it is backed up, what to do next."""

from collections.abc import Iterator

from restaura.audit.advice import SETUP, TERMS
from restaura.audit.document import Block, Document, Heading, Item, Items, Paragraph, Say, Table, Tick, Ticks, Tone
from restaura.audit.judge import DATABASES, is_script
from restaura.audit.model import Audit, Evidence, Holder, Problem, Protection, Recommendation, Status

MOST_EVIDENCE = 5
YES, NO, UNKNOWN = Say("yes"), Say("no"), Say("unknown")
TONES: dict[Status, Tone] = {"OK": "good", "WARNING": "warning", "CRITICAL": "critical"}
KINDS = {"cron", "timer", "script", "compose_service", "restaura"}


def report(audit: Audit) -> Document:
    """Return the report of one host."""
    return tuple(_blocks(audit))


def status(one: Status) -> Say:
    """Return a status, with its tone."""
    return Say(plain=one, tone=TONES[one])


def _blocks(audit: Audit) -> Iterator[Block]:
    counts = {"holders": len(audit.holders), "protections": len(audit.protections), "problems": len(audit.problems)}
    told = {"when_at": audit.at, **{name: str(count) for name, count in counts.items()}}
    yield Heading(1, Say("title", {"host": audit.host}))
    yield Heading(2, Say("overview"))
    yield Paragraph(Say("overview_text", told))
    yield Heading(2, Say("results"))
    yield Heading(3, Say("methods"))
    yield Ticks(tuple(_method(audit, name, answer) for name, answer in audit.methods.items()))
    yield Heading(3, Say("status"))
    yield Paragraph(Say(f"status_{audit.status}"), strong=status(audit.status))
    yield Heading(3, Say("problems"))
    yield Items(tuple(map(_problem, audit.problems))) if audit.problems else Paragraph(Say("no_problems"))
    yield Heading(3, Say("recovery"))
    yield Ticks(tuple(_recovery(audit)))
    yield Heading(2, Say("holders"))
    yield _holders(audit) if audit.holders else Paragraph(Say("no_holders"))
    yield Heading(2, Say("protections"))
    yield _protections(audit) if audit.protections else Paragraph(Say("no_protections"))
    yield Heading(2, Say("recommendations"))
    for term in TERMS:
        some = tuple(_recommendation(one) for one in audit.recommendations if one.term == term)
        if some:
            yield Heading(3, Say(term))
            yield Items(some)
    if not audit.recommendations:
        yield Paragraph(Say("no_recommendations"))
    if audit.unreadable:
        yield Heading(2, Say("unreadable"))
        yield Items(tuple(Item(Say(plain=_seen(one)), (_reason(one),)) for one in audit.unreadable), numbered=False)
    yield Heading(2, Say("conclusion"))
    yield Paragraph(Say(f"conclusion_{audit.status}"))
    yield Heading(2, Say("next_steps"))
    yield Items(tuple(_steps(audit)))


def _method(audit: Audit, name: str, answer: bool | None) -> Tick:
    label = Say(f"method_{name}")
    if answer:
        names = sorted({one.name for one in _of_method(audit, name)})
        return Tick(True, label, Say("configured", {"names": "\n".join(names)}))
    if answer is None:
        return Tick(None, label, Say("not_seen" if _hidden(audit) else "not_needed"))
    return Tick(False, label, Say("not_configured"))


def _of_method(audit: Audit, name: str) -> Iterator[Protection]:
    """Yield the protections that a method's tick is for."""
    kinds = {one.id: one.kind for one in audit.holders}
    wanted: dict[str, tuple[str, ...]] = {
        "database_backup": tuple(kind for kind in DATABASES if kind != "supabase"),
        "supabase_backup": ("supabase",),
        "volume_backup": ("docker_volume",),
    }
    started = {"cron_jobs": ("cron", "timer", "restaura"), "compose_backup_services": ("compose_service",)}
    for one in audit.protections:
        covered = {kinds.get(holder, "") for holder in one.covers} | {take.kind for take in one.takes}
        if (
            one.kind in started.get(name, ())
            or covered & set(wanted.get(name, ()))
            or (name == "backup_scripts" and (one.kind == "script" or is_script(one)))
        ):
            yield one


def _seen(one: Evidence) -> str:
    """Return evidence as a person looks it up."""
    where = one.where if one.line is None else f"{one.where}:{one.line}"
    return where if one.kind in ("file", "directory") else f"{one.kind} {where}"


def _problem(one: Problem) -> Item:
    seen = tuple(dict.fromkeys(map(_seen, one.evidence)))
    shown = seen[:MOST_EVIDENCE] + (("…",) if len(seen) > MOST_EVIDENCE else ())
    return Item(Say(one.code, one.parameters), evidence=shown, tone=one.severity)


def _recommendation(one: Recommendation) -> Item:
    return Item(Say(one.code, one.parameters), command=one.command)


def _recovery(audit: Audit) -> Iterator[Tick]:
    tried = sorted({one.name for one in audit.protections if one.restore_tried})
    for name, found in (
        ("recovery_documents", [_seen(one) for one in audit.recovery_documents]),
        ("recovery_scripts", [_seen(one) for one in audit.recovery_scripts]),
        ("restore_tests", tried),
    ):
        if found:
            yield Tick(True, Say(name), Say("configured", {"names": "\n".join(found)}))
        else:
            hidden = _hidden(audit)
            yield Tick(None if hidden else False, Say(name), Say("not_seen" if hidden else "not_configured"))


def _hidden(audit: Audit) -> bool:
    """Whether something could not be looked at, so that what was not found may be there."""
    return any(one.code == "not_all_seen" for one in audit.problems)


def _holders(audit: Audit) -> Table:
    head = tuple(Say(f"head_{name}") for name in ("holder", "size", "running", "protected", "newest", "away"))
    return Table(head, tuple(_holder(audit, one) for one in audit.holders))


def _holder(audit: Audit, holder: Holder) -> tuple[Say, ...]:
    by = [one for one in audit.protections if holder.id in one.covers and not one.idle]
    newest = max((copy.at for one in by for copy in one.copies[:1]), default="")
    away = [one.off_host for one in by]
    return (
        Say(plain=holder.id),
        UNKNOWN if holder.bytes is None else Say("size", {"of_bytes": str(holder.bytes)}),
        _answer(holder.running),
        Say(plain=", ".join(sorted({one.name for one in by}))) if by else Say("nobody", tone="critical"),
        Say("date", {"of_at": newest}) if newest else (UNKNOWN if by else Say("never")),
        _answer(True if True in away else None if None in away else False),
    )


def _protections(audit: Audit) -> Table:
    names = ("name", "started", "schedule", "newest", "copies", "away", "encrypted", "tried", "loud")
    return Table(tuple(Say(f"head_{name}") for name in names), tuple(map(_protection, audit.protections)))


def _protection(one: Protection) -> tuple[Say, ...]:
    newest = Say("date", {"of_at": one.copies[0].at}) if one.copies else Say("never") if one.seen else UNKNOWN
    tried = one.restore_tried
    return (
        Say(plain=one.name),
        Say("nobody") if one.idle else Say(f"kind_{one.kind if one.kind in KINDS else 'other'}"),
        Say(plain=one.schedule or "-"),
        newest,
        Say(plain=str(len(one.copies))),
        _answer(one.off_host),
        _answer(one.encrypted),
        Say("never") if not tried else Say("scheduled") if tried == "scheduled" else Say("date", {"of_at": tried}),
        _answer(one.loud),
    )


def _answer(value: bool | None) -> Say:
    return UNKNOWN if value is None else YES if value else NO


def _reason(one: Evidence) -> Say:
    known = {"permission", "binary", "too_long", "invalid", "remote"}
    return Say(one.detail if one.detail in known else "failed_to_read" if one.detail == "failed" else "not_read")


def _steps(audit: Audit) -> Iterator[Item]:
    """Yield what to type, in order."""
    own = any("restaura" in one.uses for one in audit.protections)
    if any(one.term == "short" for one in audit.recommendations):
        yield Item(Say("step_apply"))
    if not own:
        yield Item(Say("step_setup"), command=SETUP)
    yield Item(Say("step_audit"), command="restaura audit")
    yield Item(Say("step_drill"), command="restaura drill")
    yield Item(Say("step_kit"), command=f"restaura keys kit > {audit.host}.kit")
