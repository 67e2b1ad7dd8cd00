# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling people and monitors: the state file, metrics, the failure command, the heartbeat."""

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restaura import catalogue
from restaura.config.schema import Plan
from restaura.errors import Exit, RestauraError
from restaura.host import Host
from restaura.output import Answer
from restaura.paths import write_atomic
from restaura.process import shell

COMMAND_SECONDS = 120
HEARTBEAT_SECONDS = 20


@contextlib.contextmanager
def reporting(host: Host, plan: Plan, action: str) -> Iterator[list[Answer]]:
    """Report an action of a plan however it ends; the body appends its Answer to the list it is given."""
    answers: list[Answer] = []
    began = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        yield answers
    except RestauraError as error:
        finish(host, plan, action, began, int(error.exit_code), str(error), {})
        raise
    except KeyboardInterrupt:
        finish(host, plan, action, began, Exit.FAILED, "interrupted", {})
        raise
    except Exception as error:
        # A full disk, a defect: whoever watches must hear of it all the same.
        finish(host, plan, action, began, Exit.FAILED, f"{type(error).__name__}: {error}", {})
        raise
    if answers:
        finish(host, plan, action, began, answers[-1].code, answers[-1].text, answers[-1].data)


def finish(host: Host, plan: Plan, action: str, began: str, code: int, summary: str, data: dict[str, Any]) -> None:
    """Write state and metrics, then run the failure command or fetch the heartbeat. Never raises."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    host.log.event(
        "finished", "info" if code == 0 else "error", action=action, plan=plan.name, exit=code, summary=summary
    )
    with _told(host, "state"), host.changing_state() as state:
        row = state.setdefault("plans", {}).setdefault(plan.name, {}).setdefault(action, {})
        row.update({"at": now, "exit": code, "summary": summary[-2000:]})
        if code == 0:
            row["good_began"] = began
        if data.get("point"):
            row["point"] = data["point"]
        if plan.pause and "pause_seconds" in data:
            row["pause_seconds"] = data["pause_seconds"]
    with _told(host, "metrics"):
        write_metrics(host)
    with _told(host, "log"):
        host.log.expire(host.config.settings.log_days)
    if code not in {Exit.DONE, Exit.LOCKED} and plan.failure_command:
        with _told(host, "failure command"):
            shell(
                plan.failure_command,
                COMMAND_SECONDS,
                "failure command",
                RESTAURA_PLAN=plan.name,
                RESTAURA_ACTION=action,
                RESTAURA_EXIT=str(code),
                RESTAURA_SUMMARY=summary[-2000:].replace("\0", ""),
            )
    if code == 0 and action == "run":
        with _told(host, "heartbeat"):
            _heartbeat(host, plan)


def _heartbeat(host: Host, plan: Plan) -> None:
    path = host.secret("plans", plan.name, "heartbeat_url")
    if path is None:
        return
    url = path.read_text().strip()
    if not url.startswith(("http://", "https://")):
        raise RestauraError("heartbeat_url is not an http(s) address", where=f"plan {plan.name}")
    try:
        urllib.request.urlopen(url, timeout=HEARTBEAT_SECONDS).close()  # noqa: S310 - the scheme was checked
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise RestauraError(f"the heartbeat was not taken: {getattr(error, 'reason', error)}") from None


@contextlib.contextmanager
def _told(host: Host, what: str) -> Iterator[None]:
    try:
        yield
    except (RestauraError, OSError, ValueError) as error:
        host.log.event(f"{what} failed", "error", error=str(error))


def write_metrics(host: Host) -> None:
    """Write the metrics of this host in the text format of Prometheus."""
    lines = []

    def metric(name: str, help_text: str, rows: list[tuple[dict[str, str], float]]) -> None:
        lines.append(f"# HELP restaura_{name} {help_text}")
        lines.append(f"# TYPE restaura_{name} gauge")
        for labels, value in rows:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(
                f"restaura_{name}{{{shown}}} {value:g}" if value < 1e6 else f"restaura_{name}{{{shown}}} {value:.0f}"
            )

    plans = host.load_state().get("plans", {})
    actions = [
        ({"plan": plan, "action": action}, row)
        for plan, found in (plans.items() if isinstance(plans, dict) else ())
        if plan in {one.name for one in host.config.plans}
        for action, row in found.items()
    ]
    metric("last_exit_code", "Exit code of the last action.", [(labels, row["exit"]) for labels, row in actions])
    metric(
        "last_timestamp_seconds",
        "When the last action ended.",
        [(labels, _seconds(row["at"])) for labels, row in actions],
    )
    metric(
        "pause_seconds",
        "Seconds that ingestion was paused for the last run.",
        [({"plan": one["plan"]}, row["pause_seconds"]) for one, row in actions if "pause_seconds" in row],
    )
    rows = catalogue.newest(host)
    keyed = [({"plan": one.plan, "component": one.component, "store": one.store}, one) for one in rows]
    metric(
        "good_timestamp_seconds",
        "Start of the newest good point.",
        [(labels, one.good_at.timestamp()) for labels, one in keyed if one.good_at],
    )
    metric(
        "proven_timestamp_seconds",
        "Start of the newest proven point.",
        [(labels, one.proven_at.timestamp()) for labels, one in keyed if one.proven_at],
    )
    metric("bytes", "Bytes of the newest good point.", [(labels, one.bytes) for labels, one in keyed])
    metric(
        "stop_seconds",
        "Seconds that services or containers were stopped for the newest point.",
        [(labels, one.last.stop_seconds) for labels, one in keyed if one.last],
    )
    metric(
        "frozen_after_seconds",
        "Seconds from the begin of the pause of ingestion until the component held still, for the newest point.",
        [(labels, one.last.frozen_after) for labels, one in keyed if one.last and one.last.pause_seconds],
    )
    metric("points", "Points that hold the component.", [(labels, one.points) for labels, one in keyed])
    text = "\n".join(lines) + "\n"
    targets = [host.paths.metrics]
    if host.config.settings.metrics_file:
        targets.append(Path(host.config.settings.metrics_file))
    for target in targets:
        write_atomic(target, text.encode(), 0o644)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
