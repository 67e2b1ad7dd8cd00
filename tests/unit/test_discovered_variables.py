# SPDX-License-Identifier: GPL-3.0-or-later
"""What discovery writes beside an inventory is read back as it was found: no name of a host's is ever a template."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "/srv/{{ lookup('pipe', 'touch PWNED') }}",
    "/srv/{% raw %}",
    "/srv/a: b # c",
    "/srv/\"quoted\" 'twice' \\ and, [more] {x}",
    "/srv/läs 💾",
    "!vault",
    "yes",
    "null",
)
# A file that is read by a module is untrusted, as what a module answers is.
WRITE = f"""
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.slurp:
        src: found.json
      register: read
    - ansible.builtin.template:
        src: {ROOT}/roles/backup_runtime/templates/backup_discovered.yml.j2
        dest: host_vars/web1/backup_discovered.yml
        mode: "0600"
      vars:
        found: "{{{{ read.content | b64decode | from_json }}}}"
        __backup_runtime_new: "{{{{ found.new }}}}"
        __backup_runtime_found: "{{{{ found }}}}"
"""
READ = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        dest: read.json
        content: "{{ dict(names | zip(query('ansible.builtin.vars', *names))) | to_json }}"
        mode: "0600"
      vars:
        names: [backup_discovered, backup_files_components, backup_runtime_plans]
"""


def run(folder: Path, *command: str) -> str:
    """Run one of Ansible's programs in `folder`."""
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    program = str(Path(sys.executable).with_name(command[0]))
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hostile_names_are_read_back_as_they_were_found(tmp_path: Path) -> None:
    new = {
        "backup_files_components": [
            {"name": "applications", "paths": list(HOSTILE), "exclude": list(HOSTILE), "secret": True},
            {"name": "other", "paths": ["/x"]},
        ],
        "backup_runtime_plans": [{"name": "daily", "retention": {"keep_last": 3, "keep_within": ""}}],
        "backup_discovered": True,
    }
    decisions = {"applications": "because: {{ evil }} # - x", "plan daily": "every night " * 30}
    notes = ["{{ note }} is not protected: - {name: x}"]
    found = {"new": new, "discovery": {"decisions": decisions, "notes": notes}}
    (tmp_path / "found.json").write_text(json.dumps(found))
    (tmp_path / "hosts").write_text(f"web1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    (tmp_path / "host_vars/web1").mkdir(parents=True)
    for name, play in (("write.yml", WRITE), ("read.yml", READ)):
        (tmp_path / name).write_text(play)
        run(tmp_path, "ansible-playbook", "-i", "hosts", name)
    written = (tmp_path / "host_vars/web1/backup_discovered.yml").read_text()
    assert json.loads((tmp_path / "read.json").read_text()) == new
    assert not (tmp_path / "PWNED").exists()
    assert '  # because: {{ evil }} # - x\n  - name: "applications"\n' in written
    assert "# - {{ note }} is not protected" in written
    assert max(len(line) for line in written.splitlines() if "every night" in line) < 120
