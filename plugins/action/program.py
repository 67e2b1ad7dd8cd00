# SPDX-License-Identifier: GPL-3.0-or-later
"""The action behind every module: it sees to it that the host has a program to run, and names it to the module.

`meta/runtime.yml` sends the modules here. The host's own program is used when it is the one of this collection. A host
that has none, or in check mode another, is given it in a temporary directory: so `--check` works on a bare host.
"""

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.hashing import checksum
from ansible_collections.restaura.stack.tools.build_runtime import build

INSTALLED = "/usr/local/bin/restaura"
VERSIONS = "/usr/local/lib/restaura"
# These must be this collection's version: what they check or write is what this version will read.
OWN_VERSION = {"restaura.stack.backup_config"}


class ActionModule(ActionBase):
    """Run a module of this collection with the path of a program on the host."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Find or carry the program, then run the module; the result is the module's."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        wrap_async = self._task.async_val and not self._connection.has_native_async
        arguments = {**self._task.args, "program": self._program(task_vars or {})}
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
        return result

    def _program(self, task_vars: dict[str, Any]) -> str:
        own = build(Path(constants.DEFAULT_LOCAL_TMP))
        there = f"{VERSIONS}/{own.name}"
        if self._stat(there, task_vars).get("checksum") == checksum(str(own)):
            return there
        own_version = self._task.resolved_action in OWN_VERSION or self._task.check_mode
        if not own_version and self._stat(INSTALLED, task_vars)["exists"]:
            return INSTALLED
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        carried = self._connection._shell.join_path(self._connection._shell.tmpdir, own.name)
        self._transfer_file(str(own), carried)
        self._fixup_perms2((self._connection._shell.tmpdir, carried))
        return str(carried)

    def _stat(self, path: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_remote_stat(path, all_vars=task_vars, follow=True)
        return found
