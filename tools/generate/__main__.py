# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: `python -m tools.generate [--check]`. With --check nothing is written; a stale file is exit code 1."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.generate import audit, markdown, options, roles

ROOT = roles.ROOT
HEADER = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
WRITTEN = "Written by `make generate` from src/restaura; edit that instead."


class Dumper(yaml.SafeDumper):
    """YAML as yamllint wants it: lists are indented below their key, and nothing is an alias."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists too."""
        del indentless
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out where it stands."""
        del data
        return True


def generated() -> dict[Path, str]:
    """Return every generated file with its text."""
    declaration = options.declaration()
    files = {
        "docs/reference/configuration.md": markdown.reference(),
        "docs/reference/schema.json": json.dumps(options.json_schema(), indent=2) + "\n",
        "docs/reference/audit.json": json.dumps(audit.json_schema(), indent=2) + "\n",
        "docs/reference/fleet_audit.json": json.dumps(audit.fleet_schema(), indent=2) + "\n",
        "plugins/module_utils/declaration.py": _python(
            f'{HEADER}"""The argument spec of a whole declaration. {WRITTEN}"""\n\n'
            f"from typing import Any\n\nSPEC: dict[str, Any] = {options.module_spec(declaration)!r}\n"
        ),
        "plugins/doc_fragments/declaration.py": _python(
            f'{HEADER}"""The documentation of a whole declaration. {WRITTEN}"""\n\n\n'
            'class ModuleDocFragment:\n    """Options of a declaration."""\n\n'
            f'    DOCUMENTATION = r"""\n{_yaml({"options": options.documented(declaration)})}"""\n'
        ),
    }
    declared = {
        "__backup_runtime_kinds": [role.removeprefix("backup_") for role in roles.names() if role != roles.RUNTIME],
        "__backup_runtime_known": sorted({name for role in roles.names() for name in roles.variables(role)}),
    }
    files["roles/backup_runtime/vars/main/declared.yml"] = f"{HEADER}# {WRITTEN}\n" + _yaml(declared)
    for role in roles.names():
        files[f"roles/{role}/README.md"] = markdown.readme(role)
        files[f"roles/{role}/meta/argument_specs.yml"] = f"{HEADER}# {WRITTEN}\n" + _yaml(
            {"argument_specs": _specs(role)}
        )
    return {ROOT / name: text for name, text in files.items()}


def main() -> int:
    """Write what differs, or with --check name it. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    stale = [path for path, text in generated().items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(generated()[path])
    return 1 if check and stale else 0


def _specs(role: str) -> dict[str, Any]:
    found = {}
    for entry, (text, known) in roles.entries(role).items():
        found[entry] = {"short_description": text, "description": [text], "options": known}
    return found


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, width=100, allow_unicode=True)


def _python(text: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    argv = [str(ruff), "format", "--stdin-filename", str(ROOT / "plugins/generated.py"), "-"]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    sys.exit(main())
