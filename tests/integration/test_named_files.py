# SPDX-License-Identifier: GPL-3.0-or-later
"""LangChain's, a model's and a deployment's files: backed up by the command line, lost, and restored."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import stack_files
from tests.integration.system import System

LAYOUT = {
    "langchain": [
        *("prompts.yaml", "chains.json", "agents.yaml", "templates/greeting.txt", "examples/answers.json"),
        *("prompts/rag.json", "docs/support.md", "langgraph.json", "src/agent.py", ".env.age"),
    ],
    "gpt": ["model_config.json", "system_prompts.json", "weights/model.gguf"],
    "infra": [
        *("docker-compose.yaml", "docker-compose.override.yaml", "config/ingest.yaml", "k8s/ingest.yaml"),
        *(".env.age", "qdrant.env.age", "token.txt.age", "k8s/secret.yaml.age", "etl_scripts.tar.gz"),
    ],
}
SECRETS = (b"sk-test-not-a-key", b'very "secret', b"also-secret", b"third-secret", b"Zm91cnRoLXNlY3JldA")


def told(*folders: Path) -> str:
    """Return what find and sha256sum say of folders, but for what a restore keeps aside."""
    script = r"""
    find "$@" -name '.restaura-*' -prune -o -printf '%p %y %#m %U:%G %s %T@ %l\n' | sort
    find "$@" -name '.restaura-*' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
    """
    done = subprocess.run(["sh", "-ec", script, "sh", *folders], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    srv = tmp_path / "srv"
    stack_files.langchain(srv / "langchain")
    stack_files.llm(srv / "gpt")
    stack_files.infra(srv / "inteligencia", srv / "etl")
    return srv


def components(srv: Path) -> dict[str, Any]:
    return {
        "langchain": [{"name": "langchain", "directory": str(srv / "langchain")}],
        "llm": [{"name": "gpt", "directory": str(srv / "gpt"), "weights": ["weights"]}],
        "infra": [
            {
                "name": "infra",
                "directory": str(srv / "inteligencia"),
                "kubernetes": ["k8s"],
                "scripts": [str(srv / "etl")],
            }
        ],
    }


@pytest.fixture
def system(tmp_path: Path, srv: Path) -> System:
    system = System(tmp_path / "host")
    plain = {"name": "plain", "type": "dated", "location": str(tmp_path / "plain"), "compression": "none"}
    system.configure(
        stores=[{**plain, "host_segment": False, "plan_segment": False}],
        plans=[{"name": "daily"}],
        components=components(srv),
    )
    return system


def test_backup_loss_and_restore(system: System, srv: Path, tmp_path: Path) -> None:
    before = told(srv)
    restic = {"name": "restic", "type": "restic", "location": str(tmp_path / "restic")}
    system.configure(stores=[*system.declaration["stores"], restic])
    system.run("run", "daily")
    (point,) = (one for one in (tmp_path / "plain").glob("2*") if one.is_dir())
    own = ("index.jsonl", "index.jsonl.age", ".sha256")
    for name, wanted in LAYOUT.items():
        files = [str(one.relative_to(point / name)) for one in (point / name).rglob("*") if one.is_file()]
        assert sorted(one for one in files if not one.endswith(own)) == sorted(wanted)
    for name, file in (("langchain", "prompts.yaml"), ("gpt", "model_config.json"), ("infra", "docker-compose.yaml")):
        folder = "inteligencia" if name == "infra" else name
        assert (point / name / file).read_bytes() == (srv / folder / file).read_bytes()
        subprocess.run(["sha256sum", "--check", "--quiet", f"{name}/tree.sha256"], cwd=point, check=True)
    everything = b"".join(one.read_bytes() for one in point.rglob("*") if one.is_file())
    assert [one for one in SECRETS if one in everything] == []
    listed = subprocess.run(
        ["tar", "-tzf", point / "infra/etl_scripts.tar.gz"], check=True, capture_output=True, text=True
    )
    assert f"{str(srv)[1:]}/etl/sync/run.sh" in listed.stdout.split("\n")

    results = system.run("drill", "--plan", "daily")["results"]
    assert {(one["component"], one["store"], one["verdict"]) for one in results} == {
        (name, store, "proven") for name in LAYOUT for store in ("plain", "restic")
    }
    system.run("verify", "--full")

    for store in ("plain", "restic"):
        subprocess.run(["find", srv, "-mindepth", "1", "-delete"], check=True)
        system.run("restore", "--from-store", store, "--yes")
        after = told(srv)
        lost = ("unrelated.log", "not-backed-up")
        kept = [one for one in before.splitlines() if not any(word in one for word in lost)]
        # Folders that were no part of the backup have new times, and what stood in them is gone.
        assert _files(after.splitlines()) == _files(kept)
    system.run("restore", "--component", "infra", "--to", f"dir:{tmp_path}/looked", "--yes")
    assert (tmp_path / f"looked{srv}/inteligencia/.env").read_bytes() == (srv / "inteligencia/.env").read_bytes()
    assert system.leftovers() == []


def _files(lines: list[str]) -> list[str]:
    """Return what was told of all but directories."""
    return [one for one in lines if " d " not in one]


def test_a_restore_over_other_files_is_undone(system: System, srv: Path) -> None:
    system.run("run", "daily")
    old = told(srv)
    (srv / "langchain/templates/greeting.txt").write_text("worse")
    (srv / "gpt/model_config.json").write_text(json.dumps({**stack_files.MODEL, "provider": "other"}))
    (srv / "inteligencia/.env").write_text("TAG=2\nMONGO_PASSWORD=x\n")
    worse = told(srv)
    system.run("restore", "--yes")
    assert _files(told(srv).splitlines()) == _files(old.splitlines())
    system.run("undo")
    assert _files(told(srv).splitlines()) == _files(worse.splitlines())


def test_a_bad_file_stops_its_component_with_file_line_and_fix(system: System, srv: Path) -> None:
    (srv / "langchain/templates/greeting.txt").unlink()
    (srv / "inteligencia/k8s/ingest.yaml").write_text("apiVersion: v1\nkind: [\n")
    answer = system.run("run", "daily", expect=3)
    errors = {one["component"]: one["error"] for one in answer["components"] if one["error"]}
    assert (
        f"{srv}/langchain/prompts.yaml line 4: template_path 'templates/greeting.txt' leads nowhere"
        in errors["langchain"]
    )
    assert f"{srv}/inteligencia/k8s/ingest.yaml line 3: is no YAML" in errors["infra"]
    assert "fix: " in errors["infra"]
    assert "gpt" not in errors
