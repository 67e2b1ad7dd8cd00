# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the on-host program for a module: its JSON answer becomes the result. Private to this collection."""

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

CONTRACT = 1
# Not the module's interpreter: the program needs the distribution's Python, which has boto3 and docker.
PYTHON = "/usr/bin/python3"
PROGRAM_OPTION = {"program": {"type": "path"}, "program_sha256": {"type": "str"}, "program_else": {"type": "path"}}
EXIT_DONE = 0
EXIT_PARTIAL = 3


def call(
    module: AnsibleModule, *arguments: str, given: str = "", accept: tuple[int, ...] = (EXIT_DONE,)
) -> dict[str, Any]:
    """Run the program with `arguments` and return its answer; the module fails for an exit code not in `accept`.

    `given` goes to its standard input: secrets never stand on a command line. The program runs in a session of its own
    and writes into files, so that it ends its work even when the connection, and with it the module, is gone.
    """
    argv = [PYTHON, _program(module), arguments[0], "--json", *arguments[1:]]
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(given.encode())
        stdin.seek(0)
        code = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd="/", start_new_session=True).wait()
        out, errors = (_read(one) for one in (stdout, stderr))
    try:
        answer = json.loads(out)
        contract = answer["contract"]
    except (ValueError, KeyError, TypeError):
        shown = {"stdout": out[-4000:], "stderr": errors[-4000:], "rc": code}
        module.fail_json(msg=f"restaura {arguments[0]} ended with exit code {code} and no answer", **shown)
    if contract != CONTRACT:
        spoken = f"the program on this host speaks contract {contract}, this collection {CONTRACT}"
        module.fail_json(msg=f"{spoken}\nfix: run setup_backup.yml again")
    if code not in accept:
        more = {} if answer.get("error") else {"answer": result(answer)}
        module.fail_json(msg=_message(arguments[0], answer), rc=code, **more)
    return dict(answer)


def _program(module: AnsibleModule) -> str:
    """Return the program to run; where the wanted one is not, the module ends, and its action plugin brings it."""
    wanted, other = module.params["program"], module.params["program_else"]
    if not wanted:
        module.fail_json(msg="this module is run by its action plugin: call it by its full name, restaura.stack.NAME")
    try:
        right = module.params["program_sha256"] in (None, hashlib.sha256(Path(wanted).read_bytes()).hexdigest())
    except OSError:
        right = False
    if right:
        return str(wanted)
    if not other or not Path(other).is_file():
        module.exit_json(changed=False, program_needed=True)
    return str(other)


def result(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer says, without what only the two programs tell each other."""
    return {key: value for key, value in answer.items() if key not in {"contract", "exit", "changed"}}


def _message(verb: str, answer: dict[str, Any]) -> str:
    """Return what went wrong, where, and the fix: the error, or what an answer says of its parts."""
    error = answer.get("error") or {}
    if not error:
        parts = [f"{one['component']}: {one['error']}" for one in answer.get("components", []) if one.get("error")]
        drilled = (answer.get("drill") or {}).get("problems", [])
        found = [*dict.fromkeys(parts), *map(str, [*answer.get("problems", []), *drilled])]
        return "\n".join([f"restaura {verb} ended with exit code {answer['exit']}", *found])
    text = f"{error['where']}: {error['what']}" if error.get("where") else str(error["what"])
    return f"{text}\nfix: {error['fix']}" if error.get("fix") else text


def _read(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read().decode("utf-8", "replace"))
