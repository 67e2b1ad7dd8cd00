# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's own rules, each found out from the tree itself: an empty list of things to check is a failure."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TRACKED = [
    ROOT / name
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()
]
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
SCENARIOS = sorted(
    path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml") if path.parent.name != "default"
)
# What must happen to a scenario's data, in this order.
DRILL = ("converge", "idempotence", "seed", "backup", "wipe", "restore", "verify", "destroy")
# The roles of one stack are proven together, by the scenario that is named here.
SHARED = {
    "ai_stack": (
        *("backup_redis", "backup_qdrant", "backup_mongodb", "backup_prometheus", "backup_grafana"),
        *("backup_langchain", "backup_llm", "backup_infra", "backup_langsmith"),
    )
}


def load(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_is_something_to_check() -> None:
    assert TRACKED
    assert ROLES
    assert SCENARIOS


def test_every_source_file_names_its_licence() -> None:
    sources = [path for path in TRACKED if path.suffix in {".py", ".yml", ".yaml", ".sh", ".toml", ".cfg"}]
    bare = [
        path
        for path in sources
        if not any(LICENCE in line for line in path.read_text(encoding="utf-8").splitlines()[:3])
    ]
    assert named(bare) == []


def test_no_registry_or_mirror_is_named() -> None:
    """A mirror is the one that the machine already uses; a registry is its client's own business."""
    hosts = (
        "deb." + "debian.org",
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "npmjs" + ".org",
        "galaxy" + ".ansible.com",
    )
    found = [
        f"{path.relative_to(ROOT)}: {host}" for path in TRACKED for host in hosts if host.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    mark = re.compile(r"pytest\.(skip|importorskip|xfail)\(|mark\.(skip|xfail)")
    tests = [path for path in TRACKED if path.match("tests/**/*.py") or path.match("tests/*.py")]
    assert tests
    assert named([path for path in tests if mark.search(path.read_text(encoding="utf-8"))]) == []


def scenario_of(role: str) -> str:
    """Return the scenario that proves a role: its own, or the one that it shares."""
    return next((shared for shared, roles in SHARED.items() if role in roles), role)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_a_spec_a_readme_and_a_scenario(role: str) -> None:
    needed = [f"roles/{role}/meta/argument_specs.yml", f"roles/{role}/README.md"]
    scenario = scenario_of(role)
    if scenario == role or scenario in SCENARIOS:
        needed.append(f"molecule/{scenario}/molecule.yml")
    assert [path for path in needed if not (ROOT / path).is_file()] == []


def test_a_shared_scenario_declares_components_of_every_role_that_shares_it() -> None:
    for scenario, roles in SHARED.items():
        declared = load(ROOT / "molecule" / scenario / "vars/main.yml") if scenario in SCENARIOS else None
        wanted = [role for role in roles if role in ROLES and declared is not None]
        assert [role for role in wanted if not (declared or {}).get(f"{role}_components")] == [], scenario


@pytest.mark.parametrize("scenario", sorted({*map(scenario_of, ROLES)} - (SHARED.keys() - set(SCENARIOS))))
def test_a_roles_scenario_seeds_wipes_restores_and_compares(scenario: str) -> None:
    folder = ROOT / "molecule" / scenario
    needed = ("vars/main.yml", "tasks/seed.yml", "tasks/wipe.yml", "tasks/digest.yml")
    assert [path for path in needed if not (folder / path).is_file()] == []
    # A sequence or playbook of its own could leave the restore out.
    own = load(folder / "molecule.yml")
    assert {key: own[key] for key in ("scenario", "ansible", "provisioner", "verifier") if key in own} == {}
    # What judges the program is not the program.
    digest = (folder / "tasks/digest.yml").read_text(encoding="utf-8")
    assert "scenario_digest" in digest
    assert "restaura" not in digest.replace(LICENCE, "")


def test_the_shared_drill_does_every_step_in_order() -> None:
    settings = yaml.safe_load((ROOT / ".config/molecule/config.yml").read_text(encoding="utf-8"))
    steps = [Path(step.split()[-1]).stem for step in settings["scenario"]["test_sequence"]]
    assert [step for step in steps if step in DRILL] == list(DRILL)
    # Molecule skips a step whose playbook is not there, and succeeds.
    told = [*settings["ansible"]["playbooks"].values()]
    told += [step.split()[1] for step in settings["scenario"]["test_sequence"] if " " in step]
    assert [path for path in told if not (ROOT / "molecule/default" / path).is_file()] == []


def test_every_playbook_can_be_called_from_the_top() -> None:
    assert sorted(path.name for path in ROOT.glob("*_backup.yml")) == sorted(
        path.name for path in (ROOT / "playbooks").glob("*_backup.yml")
    )


def test_every_requirement_is_pinned() -> None:
    folder = ROOT / "requirements"
    pinned = re.findall(r"^([\w.-]+)==\S+$", (folder / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pinned}
    for name in ("controller.txt", "develop.txt"):
        asked = re.findall(r"^([A-Za-z][\w.-]*)$", (folder / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert asked, name
        assert [one for one in asked if one.lower() not in known] == [], name
