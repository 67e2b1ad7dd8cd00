# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role's variables: the schema's, under the role's prefix, and the few that are Ansible's own."""

import inspect
from pathlib import Path
from typing import Any

import yaml

from restaura.audit.texts import LANGUAGES
from restaura.config import schema
from restaura.sources import registry
from tools.generate.options import Options, components, declaration, options

ROOT = Path(__file__).parents[2]
RUNTIME = "backup_runtime"

# The variables of `backup_runtime` that no host ever sees. Their defaults stand in the role's defaults.
OWN: Options = {
    "backup_runtime_first_run": {
        "description": ["Whether setup takes and drills a first point of every plan that has no proven one."],
        "type": "bool",
    },
    "backup_runtime_wait": {
        "description": ["Seconds that setup, restores and drills wait for a run that holds the same components."],
        "type": "int",
    },
    "backup_runtime_kit_dir": {
        "description": [
            "Directory on the controller that gets every host's recovery kit, `HOST.kit`, encrypted with Ansible Vault "
            "when a vault password is given to the playbook. Default: `recovery_kits` beside the inventory."
        ],
        "type": "path",
    },
    "backup_runtime_restic_url": {
        "description": [
            "Where restic comes from on a distribution that has no restic 0.18 of its own (bzip2); not used on Debian."
        ],
        "type": "str",
    },
    "backup_runtime_restic_sha256": {
        "description": ["SHA-256 of that file by the host's architecture, as `uname -m` names it."],
        "type": "dict",
    },
}
# What a source's role does beside declaring its components.
SOURCES: dict[str, Options] = {
    "backup_prometheus": {
        "backup_prometheus_enable_admin_api": {
            "description": [
                "Whether to turn on the admin API of the server of Debian's package (`ARGS` in "
                "`/etc/default/prometheus`), which makes snapshots, and restart it. For a container, what to add to "
                "its command is said."
            ],
            "type": "bool",
        },
    },
}

_POINT: Options = {
    "plan": {"description": ["The plan whose points are meant."], "type": "str"},
    "point": {"description": ["The point's id, or the beginning of it. Default: the latest good one."], "type": "str"},
    "date": {"description": ["The newest point with this label, `YYYY-MM-DD`."], "type": "str"},
    "before": {"description": ["The newest point before this time, ISO 8601 with its offset."], "type": "str"},
    "components": {"description": ["Only these components."], "type": "list", "elements": "str"},
}
RESTORE: Options = {
    "confirm": {
        "description": [
            "Names of the hosts to restore, separated by commas: must be the hosts of the play. Without it, only the "
            "plan of what would happen is shown."
        ],
        "type": "str",
    },
    **_POINT,
    "paths": {"description": ["Only these paths (files) or databases (postgres)."], "type": "list", "elements": "str"},
    "to": {"description": ["`live`, `dir:PATH`, or `name:NEW`. Default: `live`."], "type": "str"},
    "from_host": {"description": ["The host whose points to restore. Default: this one."], "type": "str"},
    "pause": {
        "description": ["Whether plans' ingestion is paused meanwhile; false where none runs yet. Default: true."],
        "type": "bool",
    },
}
DISCOVER: Options = {
    "discover": {
        "description": [
            "Whether the first setup declares what it finds on the host (`restaura discover`): it writes "
            "`host_vars/HOST/backup_discovered.yml` beside the inventory, once, with a plan and every list of "
            "components that is empty. What appears later is only named. Default: false."
        ],
        "type": "bool",
    },
    "discovered": {
        "description": ["Stands in that file: whether the host was discovered already. Default: false."],
        "type": "bool",
    },
}
AUDIT: Options = {
    "audit_fail_on": {
        "description": [
            "The least status with which a host fails, after all reports. Default: `never`. One that could not be "
            "audited always fails."
        ],
        "type": "str",
        "choices": ["warning", "critical", "never"],
    },
    "report_language": {
        "description": ["The language of reports. Default: `en`."],
        "type": "str",
        "choices": list(LANGUAGES),
    },
    "report_dir": {
        "description": [
            "Directory on the controller that gets the report of all hosts, `audit-DATE`, and each host's, "
            "`audit-DATE-HOST`, as `.txt`, `.json`, `.md` and `.html`. Default: none is written."
        ],
        "type": "path",
    },
}
# Entry points of `backup_runtime` that a playbook of its own calls: their variables' prefix, options and purpose.
ENTRIES: dict[str, tuple[str, Options, str]] = {
    "restore": ("backup_restore_", RESTORE, "Restore components of a point, or show what that would do."),
    "drill": ("backup_drill_", _POINT, "Restore a point into a throw-away target and compare."),
    "status": ("backup_status_", {}, "Show what is protected, proven, due and unsafe."),
    "discover": ("backup_", DISCOVER, "Declare what is found on a host, once. Every setup asks for it."),
    "audit": ("backup_", AUDIT, "Find what holds data, how it is backed up, and what nobody backs up."),
    "remove": ("backup_remove_", {}, "Take the program off the host; stores, keys and runbook stay."),
}


def names() -> list[str]:
    """Return the names of all roles: the runtime's and one for each source."""
    return [RUNTIME, *(f"backup_{kind}" for kind in sorted(registry()))]


def defaults(role: str) -> dict[str, Any]:
    """Return the defaults of a role as its file has them."""
    return dict(yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()) or {})


def entries(role: str) -> dict[str, tuple[str, Options]]:
    """Return a role's entry points: what each is for, and its variables."""
    if role != RUNTIME:
        kind = role.removeprefix("backup_")
        text = f"Components of the `{kind}` source. What is no longer in the list loses its schedule; its points stay."
        variable = {"description": [text], "type": "list", "elements": "dict", "options": components()[kind]}
        return {
            "main": (purpose(role), _with_defaults(role, {f"{role}_components": variable, **SOURCES.get(role, {})}))
        }
    runtime: Options = {}
    for name in ("stores", "plans"):
        runtime[f"{role}_{name}"] = declaration()[name]
    for name, one in options(schema.Settings).items():
        runtime[f"{role}_{name}"] = {key: value for key, value in one.items() if key not in {"required", "default"}}
    found = {"main": (purpose(role), _with_defaults(role, {**runtime, **OWN}))}
    for entry, (prefix, known, text) in ENTRIES.items():
        found[entry] = (text, {f"{prefix}{name}": one for name, one in known.items()})
    return found


def variables(role: str) -> list[str]:
    """Return the names of every variable that a role takes, at any entry point."""
    return [name for _, known in entries(role).values() for name in known]


def purpose(role: str) -> str:
    """Return one line that says what a role is for."""
    if role == RUNTIME:
        return "The program, its stores, plans and schedule: the role that every setup ends with."
    module = inspect.getmodule(registry()[role.removeprefix("backup_")].options)
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")


def _with_defaults(role: str, found: Options) -> Options:
    given = defaults(role)
    return {name: {**one, **({"default": given[name]} if name in given else {})} for name, one in found.items()}
