# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the Ansible layer: generated files are current, documents and specs agree, names are whole."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from restaura.config import schema
from restaura.sources import registry
from tools.generate import roles
from tools.generate.__main__ import generated

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
TASK_FILES = sorted(
    path
    for folder in ("roles/*/tasks", "roles/*/handlers", "playbooks", "molecule/*/tasks", "molecule/resources", ".")
    for path in ROOT.glob(f"{folder}/*.yml")
    if not path.name.startswith(".") and isinstance(yaml.safe_load(path.read_text()), list)
)
# What a play, block or task may hold besides the one module that it calls.
KEYWORDS = {
    *("any_errors_fatal", "args", "async", "become", "become_user", "changed_when", "check_mode", "connection"),
    *("delegate_to", "diff", "environment", "failed_when", "ignore_errors", "ignore_unreachable", "loop"),
    *("loop_control", "name", "no_log"),
    *("notify", "poll", "register", "retries", "run_once", "tags", "until", "vars", "when"),
}


def test_no_generated_file_is_stale() -> None:
    files = generated()
    assert len(files) > len(roles.names())
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    assert [str(path.relative_to(ROOT)) for path in stale] == [], "run make generate"


def test_every_source_has_its_role_and_every_role_its_source() -> None:
    assert registry()
    assert sorted(path.name for path in (ROOT / "roles").iterdir()) == sorted(roles.names())


@pytest.mark.parametrize("role", roles.names())
def test_spec_and_defaults_agree_by_value(role: str) -> None:
    spec = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    found = {name: one["default"] for name, one in spec["options"].items() if "default" in one}
    assert found == roles.defaults(role)
    assert set(spec["options"]) == set(found), "a variable of a role has a default"


def test_a_roles_settings_are_the_schemas_with_the_schemas_defaults() -> None:
    defaults = roles.defaults(roles.RUNTIME)
    settings = yaml.safe_load((ROOT / "roles/backup_runtime/vars/main/main.yml").read_text())[
        "__backup_runtime_settings"
    ]
    fields = {one.name: one.default for one in dataclasses.fields(schema.Settings)}
    assert settings == {name: f"{{{{ backup_runtime_{name} }}}}" for name in fields}
    known = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value is not dataclasses.MISSING
    }
    assert {name: defaults[f"backup_runtime_{name}"] for name in known} == known


def test_every_role_variable_has_the_roles_prefix_and_internals_two_underscores() -> None:
    for role in roles.names():
        assert [name for name in roles.defaults(role) if not name.startswith(f"{role}_")] == []
        for path in (ROOT / f"roles/{role}/vars").rglob("*.yml"):
            assert [name for name in yaml.safe_load(path.read_text()) if not name.startswith(f"__{role}_")] == [], path


def test_setup_applies_every_source_and_the_runtime_last() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/setup_backup.yml").read_text())
    applied = [one["role"] for one in play["roles"]]
    assert applied[-1] == "restaura.stack.backup_runtime"
    assert sorted(applied) == sorted(f"restaura.stack.{role}" for role in roles.names())


def tasks(node: Any) -> list[dict[str, Any]]:
    """Return every task of a play, a block or a list of them."""
    found: list[dict[str, Any]] = []
    for one in node or []:
        inner = [key for key in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always") if key in one]
        found += [] if "hosts" in one or "block" in one else [one]
        for key in inner:
            found += tasks(one[key])
    return found


def test_every_module_is_called_by_its_full_name() -> None:
    assert len(TASK_FILES) > 20
    short = []
    for path in TASK_FILES:
        for task in tasks(yaml.safe_load(path.read_text())):
            called = [key for key in task if key not in KEYWORDS and not key.startswith("with_")]
            assert len(called) == 1, f"{path}: {called}"
            short += [f"{path}: {called[0]}"] if called[0].count(".") < 2 else []
    assert short == []


def test_roles_and_playbooks_are_named_in_full() -> None:
    named = re.compile(r"^\s*(?:- role|name|ansible\.builtin\.import_playbook): (\S+)$", re.MULTILINE)
    text = "".join(path.read_text() for path in TASK_FILES)
    found = [one for one in named.findall(text) if "backup_" in one]
    assert found
    assert [one for one in found if not one.startswith(("restaura.stack.", "playbooks/"))] == []


def test_every_phase_has_its_tag() -> None:
    main = yaml.safe_load((ROOT / "roles/backup_runtime/tasks/main.yml").read_text())
    assert [(one["ansible.builtin.import_tasks"], one["tags"]) for one in main] == [
        (f"{phase}.yml", [phase]) for phase in ("preflight", "install", "configure", "run")
    ]


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    doc = Path(sys.executable).with_name("ansible-doc")
    names = [f"restaura.stack.{name}" for name in MODULES]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    told = subprocess.run(
        [doc, "--json", *names], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout)


def argument_spec(module: str) -> dict[str, Any]:
    """Return the spec that a module gives to AnsibleModule, by running it as far as that."""
    script = (
        "import importlib, json\n"
        "from ansible.module_utils import basic\n"
        "class Stop(Exception): pass\n"
        "def stop(*a, argument_spec, **k): print(json.dumps(argument_spec)); raise SystemExit\n"
        f"module = importlib.import_module('ansible_collections.restaura.stack.plugins.modules.{module}')\n"
        "module.AnsibleModule = stop\n"
        "module.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def compare(spec: dict[str, Any], documented: dict[str, Any], where: str) -> None:
    assert set(spec) == set(documented), where
    for name, one in spec.items():
        told = documented[name]
        for key in ("type", "elements", "choices", "default", "required"):
            empty = False if key == "required" else None
            assert one.get(key, empty) == told.get(key, empty), f"{where}.{name}: {key}"
        if "options" in one:
            compare(one["options"], told["suboptions"] if "suboptions" in told else told["options"], f"{where}.{name}")


@pytest.mark.parametrize("module", MODULES)
def test_a_modules_documentation_says_what_its_spec_says(module: str, documents: dict[str, Any]) -> None:
    doc = documents[f"restaura.stack.{module}"]
    compare(argument_spec(module), doc["doc"]["options"], module)
    assert {"check_mode", "diff_mode"} <= set(doc["doc"]["attributes"])
    for task in yaml.safe_load(doc["examples"]):
        assert next(key for key in task if key not in KEYWORDS).count(".") == 2
    assert doc["return"]


def test_every_module_runs_through_the_action_that_brings_the_program() -> None:
    routing = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["plugin_routing"]["modules"]
    assert MODULES
    assert routing == {name: {"action_plugin": "restaura.stack.program"} for name in MODULES}


def secrets(spec: dict[str, Any]) -> set[str]:
    found = {name for name, one in spec.items() if one.get("no_log")}
    for one in spec.values():
        found |= secrets(one.get("options", {}))
    return found


def test_every_secret_of_the_schema_is_one_to_ansible() -> None:
    classes = [schema.Store, schema.Plan, schema.HttpPause, *(kind.options for kind in registry().values())]
    wanted = {one.name for kind in classes for one in dataclasses.fields(kind) if one.metadata.get("secret")}
    assert {"password", "s3_secret_key"} <= wanted
    assert secrets(argument_spec("backup_config")) == wanted


def test_a_package_that_lost_all_of_its_files_is_seen(tmp_path: Path) -> None:
    tasks = yaml.safe_load((ROOT / "roles/backup_runtime/tasks/install.yml").read_text())
    text = next(one for one in tasks if one["name"] == "See what is there")["ansible.builtin.shell"]["cmd"]
    text = re.sub(r"\{\{ *__backup_runtime_wanted.*?\}\}", "large whole", text)
    text = re.sub(r"\{\{.*?\}\}", "other", text)
    stubs = {
        "dpkg-query": "echo -n installed",
        "dpkg": '[ "$1 $2" != "--verify large" ] || for n in $(seq 5000); do echo "missing /usr/lib/$n"; done',
    }
    for name, act in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{act}\n")
        (tmp_path / name).chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], env=path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert "damaged large" in lines
    assert "package whole" in lines
    assert "damaged whole" not in lines


def test_no_test_folder_is_empty() -> None:
    # Stand-ins are what tests need, and none themselves.
    others = ("standins", "__pycache__")
    folders = [path for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name not in others]
    assert folders
    assert [path.name for path in folders if not list(path.rglob("test_*.py"))] == []
