# SPDX-License-Identifier: GPL-3.0-or-later
"""The action behind every module: it sees to it that the host has a program to run, and names it to the module.

`meta/runtime.yml` sends the modules here. The host's own program is used when it is the one of this collection. A host
that has none, or in check mode another, is given it in a temporary directory: so `--check` works on a bare host.
"""

import hashlib
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.hashing import checksum
from ansible_collections.restaura.stack.tools.build_runtime import build

INSTALLED = "/usr/local/bin/restaura"
VERSIONS = "/usr/local/lib/restaura"
# These must be this collection's version: what they check or write is what this version will read.
OWN_VERSION = {"restaura.stack.backup_config", "restaura.stack.backup_audit"}


class ActionModule(ActionBase):
    """Run a module of this collection with the path of a program on the host."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module with the program that is there, or else with one that is carried to the host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        own = build(Path(constants.DEFAULT_LOCAL_TMP))
        asked = self._task.args.get("gather") or []
        own_version = self._task.resolved_action in OWN_VERSION or self._task.check_mode or "discovery" in asked
        there: dict[str, Any] = {
            "program": f"{VERSIONS}/{own.name}",
            "program_sha256": hashlib.sha256(own.read_bytes()).hexdigest(),
            "program_else": None if own_version else INSTALLED,
        }
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        # A module in the background could not say that it lacks the program.
        if wrap_async and not self._found(own, task_vars):
            there = {"program": INSTALLED} if not own_version else {"program": self._carry(own)}
        answer = self._execute(there, task_vars, wrap_async)
        if answer.get("program_needed"):
            answer = self._execute({"program": self._carry(own)}, task_vars)
        result.update(answer)
        return result

    def _execute(
        self, program: dict[str, Any], task_vars: dict[str, Any] | None, wrap_async: bool = False
    ) -> dict[str, Any]:
        arguments = {**self._task.args, **program}
        done: dict[str, Any] = self._execute_module(
            module_args=arguments, task_vars=task_vars or {}, wrap_async=wrap_async
        )
        return done

    def _found(self, own: Path, task_vars: dict[str, Any] | None) -> bool:
        found = self._execute_remote_stat(f"{VERSIONS}/{own.name}", all_vars=task_vars or {}, follow=True)
        return bool(found.get("checksum") == checksum(str(own)))

    def _carry(self, own: Path) -> str:
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        carried = self._connection._shell.join_path(self._connection._shell.tmpdir, own.name)
        self._transfer_file(str(own), carried)
        self._fixup_perms2((self._connection._shell.tmpdir, carried))
        return str(carried)
