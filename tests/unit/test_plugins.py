# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules, lookups and filters, as far as they can be tried without a host."""

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext
from ansible_collections.restaura.stack.plugins.filter.did_you_mean import did_you_mean
from ansible_collections.restaura.stack.plugins.lookup import kept_kit, stray_vars, vaulted
from ansible_collections.restaura.stack.plugins.module_utils import program
from ansible_collections.restaura.stack.plugins.module_utils.point import arguments
from ansible_collections.restaura.stack.plugins.modules import backup_config

from restaura import CONTRACT
from restaura.errors import Exit


class FailedError(Exception):
    def __init__(self, msg: str, more: dict[str, Any]) -> None:
        super().__init__(msg)
        self.more = more


class EndedError(Exception):
    pass


class Module:
    """An AnsibleModule as far as `call` uses it."""

    def __init__(self, path: Path | str | None) -> None:
        self.params = {"program": path and str(path), "program_sha256": None, "program_else": None}

    def exit_json(self, **result: Any) -> NoReturn:
        raise EndedError(result)

    def fail_json(self, msg: str, **more: Any) -> NoReturn:
        raise FailedError(msg, more)


def answering(folder: Path, answer: str, code: int = 0, stderr: str = "") -> Module:
    """A program that notes how it was called, and answers."""
    path = folder / "program.py"
    path.write_text(
        "import json, os, sys\n"
        f"seen = open({str(folder / 'seen')!r}, 'w')\n"
        "json.dump([sys.argv[1:], sys.stdin.read(), os.getsid(0) == os.getpid()], seen); seen.close()\n"
        f"sys.stderr.write({stderr!r}); sys.stdout.write({answer!r}); sys.exit({code})\n"
    )
    return Module(path)


def test_a_secret_goes_to_standard_input_and_the_program_has_a_session_of_its_own(tmp_path: Path) -> None:
    module = answering(tmp_path, json.dumps({"contract": CONTRACT, "exit": 0, "changed": True}))
    assert program.call(module, "configure", "--check", given="secret") == {"contract": 1, "exit": 0, "changed": True}
    assert json.loads((tmp_path / "seen").read_text()) == [["configure", "--json", "--check"], "secret", True]


def test_a_module_without_the_wanted_program_asks_for_it_or_takes_the_one_that_will_do(tmp_path: Path) -> None:
    module = answering(tmp_path, json.dumps({"contract": CONTRACT, "exit": 0}))
    wanted = Path(module.params["program"])
    module.params["program_sha256"] = hashlib.sha256(wanted.read_bytes()).hexdigest()
    assert program.call(module, "status")["exit"] == 0
    module.params["program_sha256"] = "0" * 64
    with pytest.raises(EndedError, match="program_needed"):
        program.call(module, "status")
    module.params["program_else"] = str(tmp_path / "not there")
    with pytest.raises(EndedError, match="program_needed"):
        program.call(module, "status")
    module.params["program_else"] = str(wanted)
    assert program.call(module, "status")["exit"] == 0


def test_an_error_names_place_and_fix(tmp_path: Path) -> None:
    error = {"what": "is full", "where": "store local", "fix": "make room"}
    module = answering(tmp_path, json.dumps({"contract": CONTRACT, "exit": 1, "error": error}), 1)
    with pytest.raises(FailedError, match="store local: is full\nfix: make room"):
        program.call(module, "run")


def test_a_partial_run_names_what_failed(tmp_path: Path) -> None:
    parts = [{"component": "a", "error": None}, {"component": "b", "error": "pg_dump was killed"}]
    answer = {"contract": CONTRACT, "exit": 3, "components": parts, "problems": ["not pruned"]}
    module = answering(tmp_path, json.dumps(answer), 3)
    with pytest.raises(FailedError, match="exit code 3\nb: pg_dump was killed\nnot pruned"):
        program.call(module, "run")
    assert program.call(module, "run", accept=(3,))["exit"] == 3


def test_another_contract_is_refused_with_the_fix(tmp_path: Path) -> None:
    module = answering(tmp_path, json.dumps({"contract": CONTRACT + 1, "exit": 0}))
    with pytest.raises(FailedError, match=r"fix: run setup_backup\.yml again"):
        program.call(module, "status")


@pytest.mark.parametrize("answer", ["", "Traceback", "[]", '{"exit": 0}'])
def test_no_answer_is_a_failure_even_with_exit_0(tmp_path: Path, answer: str) -> None:
    module = answering(tmp_path, answer, 0, "killed")
    with pytest.raises(FailedError, match="no answer") as failed:
        program.call(module, "run")
    assert failed.value.more["stderr"] == "killed"


def test_without_its_action_a_module_says_how_to_call_it() -> None:
    with pytest.raises(FailedError, match=r"restaura\.stack\.NAME"):
        program.call(Module(None), "run")


def test_modules_and_program_agree_on_contract_and_exit_codes() -> None:
    assert (program.CONTRACT, program.EXIT_DONE, program.EXIT_PARTIAL) == (CONTRACT, Exit.DONE, Exit.PARTIAL)


def test_a_value_that_begins_with_a_dash_stays_a_value() -> None:
    given = {"plan": "daily", "point": None, "date": "", "before": None, "components": ["-x", "a b"], "to": "live"}
    assert arguments(given, to="--to") == ["--plan=daily", "--component=-x", "--component=a b", "--to=live"]


def test_what_was_not_given_is_not_declared() -> None:
    assert backup_config._given({"a": None, "b": [{"c": None, "d": False}], "e": ""}) == {"b": [{"d": False}], "e": ""}


def test_a_misspelt_name_is_led_to_the_right_one() -> None:
    known = ["backup_files_components", "backup_runtime_stores"]
    assert did_you_mean(["backup_file_components", "backup_zzz"], known) == [
        "backup_file_components (did you mean backup_files_components?)",
        "backup_zzz",
    ]


def with_password(password: str | None) -> None:
    """Let lookups see the vault password of a run."""
    secrets = [("default", VaultSecret(password.encode()))] if password else []
    VaultSecretsContext._current = VaultSecretsContext(secrets)


def test_a_text_is_encrypted_when_there_is_a_password() -> None:
    with_password(None)
    assert vaulted.LookupModule().run(["key"]) == ["key"]
    with_password("one")
    (found,) = vaulted.LookupModule().run(["key"])
    assert VaultLib([("default", VaultSecret(b"one"))]).decrypt(found) == b"key"


def test_a_kept_kit_is_told_by_its_digest_only_while_it_is_as_it_should_be(tmp_path: Path) -> None:
    keep, digest = tmp_path / "kit", hashlib.sha256(b"key").hexdigest()

    def kept(password: str | None) -> str:
        with_password(password)
        (found,) = kept_kit.LookupModule().run([str(keep)])
        return str(found)

    assert kept("one") == ""
    with_password("one")
    keep.write_text(*vaulted.LookupModule().run(["key"]))
    keep.chmod(0o600)
    assert kept("one") == digest
    assert (kept("two"), kept(None)) == ("", "")
    keep.chmod(0o644)
    assert kept("one") == ""
    keep.write_text("key")
    keep.chmod(0o600)
    assert (kept(None), kept("one")) == (digest, "")


def test_variables_of_a_group_or_host_that_there_is_not_are_found(tmp_path: Path) -> None:
    def stray() -> list[str]:
        lookup = stray_vars.LookupModule()
        lookup.set_options = lambda var_options, direct: None
        lookup.get_option = lambda name: ["all", "webservers", "web1"]
        return [one.replace(f"{tmp_path}/", "") for one in lookup.run([str(tmp_path / "hosts.yml"), "web1,"])]

    (tmp_path / "hosts.yml").write_text("all: {children: {webservers: {hosts: {web1: }}}}\n")
    for folder in ("group_vars/wbeservers", "host_vars"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "group_vars/webservers.yml").write_text("backup_files_components: []\n")
    (tmp_path / "group_vars/others.yml").write_text("ports: [80]\n")
    assert stray() == []
    (tmp_path / "group_vars/wbeservers/backup.yml").write_text("ports: [80]\nbackup_files_components: []\n")
    (tmp_path / "host_vars/web2.json").write_text('{"backup_files_components": []}')
    assert stray() == [
        "group_vars/wbeservers (there is no group wbeservers, did you mean webservers?)",
        "host_vars/web2.json (there is no host web2, did you mean web1?)",
    ]
    # Another inventory of the folder knows both.
    (tmp_path / "staging.ini").write_text("[wbeservers]\nweb2\n")
    assert stray() == []
