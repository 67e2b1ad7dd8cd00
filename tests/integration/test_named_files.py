# SPDX-License-Identifier: GPL-3.0-or-later
"""LangChain's, a model's and a deployment's files: backed up by the command line, lost, and restored."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura.host import Host
from restaura.paths import Paths
from restaura.sources.llm import Llm
from tests import stack_files
from tests.integration.system import System
from tests.qdrant_server import QdrantServer, client_of
from tools.lab import clients

LAYOUT = {
    "langchain": [
        *("prompts.yaml", "chains.json", "agents.yaml", "templates/greeting.txt", "examples/answers.json"),
        *("prompts/rag.json", "docs/support.md", "langgraph.json", "src/agent.py", ".env.age"),
    ],
    "gpt": ["model_config.json", "system_prompts.json", "weights/model.gguf"],
    "infra": [
        *("docker-compose.yaml", "docker-compose.override.yaml", "config/ingest.yaml", "k8s/ingest.yaml"),
        *(".env.age", "qdrant.env.age", "token.txt.age", "k8s/secret.yaml.age", "etl_scripts.tar.gz", "images.json"),
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

    # Folders that were no part of the backup have new times, and what stood in them is gone.
    lost = ("unrelated.log", "not-backed-up")
    kept = _files([one for one in before.splitlines() if not any(word in one for word in lost)])
    subprocess.run(["find", srv, "-mindepth", "1", "-delete"], check=True)
    system.run("restore", "--from-store", "plain", "--yes")
    assert _files(told(srv).splitlines()) == kept

    (point / "langchain/prompts.yaml").write_bytes(b"!" + (point / "langchain/prompts.yaml").read_bytes()[1:])
    (point / "infra/docker-compose.yaml").unlink()
    problems = system.run("verify", "--full", expect=1)["stores"][0]["problems"]
    said = ("infra/docker-compose.yaml: is missing", "langchain/prompts.yaml: the stored bytes were changed")
    assert [wanted in one for wanted, one in zip(said, sorted(problems), strict=True)] == [True, True]
    subprocess.run(["find", srv, "-mindepth", "1", "-delete"], check=True)
    system.run("restore", "--yes")
    assert _files(told(srv).splitlines()) == kept
    system.run("restore", "--component", "infra", "--to", f"dir:{tmp_path}/looked", "--yes")
    assert (tmp_path / f"looked{srv}/inteligencia/.env").read_bytes() == (srv / "inteligencia/.env").read_bytes()
    assert system.leftovers() == []


def _files(lines: list[str]) -> list[str]:
    """Return what was told of all but directories."""
    return [one for one in lines if " d " not in one]


@pytest.mark.debian12
def test_a_restore_over_other_files_is_undone(system: System, srv: Path) -> None:
    (srv / "langchain/odd\\name").write_text("x")
    langchain = {**components(srv)["langchain"][0], "files": ["odd\\name"]}
    system.configure(components={**components(srv), "langchain": [langchain]})
    system.run("run", "daily")
    (manifest,) = srv.parent.glob("plain/*/manifest.json")
    notes = {one["name"]: one["notes"] for one in json.loads(manifest.read_text())["components"]}
    assert notes["gpt"] == []
    assert "tree is stored as an archive: the name" in notes["langchain"][0]
    old = told(srv)
    (srv / "langchain/templates/greeting.txt").write_text("worse")
    (srv / "gpt/model_config.json").write_text(json.dumps({**stack_files.MODEL, "provider": "other"}))
    (srv / "inteligencia/.env").write_text("TAG=2\nMONGO_PASSWORD=x\n")
    worse = told(srv)
    restored = system.run("restore", "--yes")
    assert _files(told(srv).splitlines()) == _files(old.splitlines())
    system.run("undo", restored["id"])
    assert _files(told(srv).splitlines()) == _files(worse.splitlines())


@pytest.mark.parametrize("target", ["../blobs/", "{srv}/gpt/blobs/"])
def test_weights_behind_links_are_in_the_point_or_refused(
    system: System, srv: Path, tmp_path: Path, target: str
) -> None:
    """The layout of Hugging Face's cache: names are links to files that are called by their hash."""
    weights, blob = srv / "gpt/weights/model.gguf", srv / "gpt/blobs/abc"
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(target.format(srv=srv) + "abc")
    refused = system.run("run", "daily", expect=3)
    (gpt,) = (one for one in refused["components"] if one["component"] == "gpt")
    assert gpt["state"] == "failed"
    assert "which is not in the point (fix: name the directory" in gpt["error"]
    llm = {**components(srv)["llm"][0], "weights": ["weights", "blobs"]}
    system.configure(components={**components(srv), "llm": [llm]})
    system.run("run", "daily")
    results = system.run("drill", "--plan", "daily")["results"]
    assert {one["verdict"] for one in results} == {"proven"}, results
    before = told(srv / "gpt")
    subprocess.run(["find", srv / "gpt", "-mindepth", "1", "-delete"], check=True)
    system.run("restore", "--component", "gpt", "--yes")
    assert _files(told(srv / "gpt").splitlines()) == _files(before.splitlines())
    assert weights.read_bytes() == stack_files.WEIGHTS


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


# -- langchain-core -----------------------------------------------------------------------------------------------

# Loads the restored prompts as an application does, and fills them in.
APPLICATION = """
import json, warnings, yaml
warnings.simplefilter("ignore")
from langchain_core.prompts.loading import load_prompt, load_prompt_from_config
named = yaml.safe_load(open("prompts.yaml"))
print(json.dumps([
    load_prompt_from_config(named["greeting"]).format(name="Ana", place="Recife"),
    load_prompt_from_config(named["answer"]).format(question="1+1?"),
    load_prompt("prompts/rag.json").format(context="all"),
]))
"""


@pytest.fixture
def interpreters() -> Iterator[Path]:
    """A directory that every account can read: pytest's are root's."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="restaura-python-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def configure(system: System, srv: Path, **options: str) -> None:
    langchain = components(srv)["langchain"][0]
    system.configure(components={"langchain": [{**langchain, **options}]})


def test_langchain_core_loads_what_was_restored(system: System, srv: Path, interpreters: Path) -> None:
    subprocess.run(["python3", "-m", "venv", "--without-pip", interpreters], check=True)
    (packages,) = interpreters.glob("lib/python3*/site-packages")
    (packages / "pinned.pth").write_text(f"{clients.folder_of('langchain')}\n")
    python = str(interpreters / "bin/python")
    configure(system, srv, python=python)
    system.run("run", "daily")
    assert [one["verdict"] for one in system.run("drill")["results"]] == ["proven"]
    subprocess.run(["find", srv / "langchain", "-delete"], check=True)
    system.run("restore", "--yes")
    done = subprocess.run(
        [python, "-c", APPLICATION], cwd=srv / "langchain", check=True, capture_output=True, text=True
    )
    greeting, answer, rag = json.loads(done.stdout)
    assert greeting == "Hello Ana from Recife, olá ☀"
    assert "Q: capital of Brazil? A: Brasília" in answer
    assert rag == "all"
    # What the references do not tell: langchain-core reads templates of .txt alone.
    (srv / "langchain/templates/greeting.txt").rename(srv / "langchain/templates/greeting.md")
    prompts = srv / "langchain/prompts.yaml"
    prompts.write_text(prompts.read_text().replace("greeting.txt", "greeting.md"))
    error = system.run("run", "daily", expect=1)["components"][0]["error"]
    assert "prompts.yaml line 2: greeting: langchain-core 1." in error
    assert "Only '.txt' files are supported" in error


def test_prompts_are_loaded_without_rights_and_without_network(system: System, srv: Path, interpreters: Path) -> None:
    python = interpreters / "python"
    told = "$(id -u) $(grep -c : /proc/net/dev) $(grep CapEff /proc/self/status | tr -d '[:space:]')"
    python.write_text(
        f'#!/bin/sh\ncat > /dev/null\necho \'{{"version": "0", "wrong": ["\'"{told}"\'", "", "", ""]}}\'\n'
    )
    python.chmod(0o755)
    configure(system, srv, python=str(python))
    error = system.run("run", "daily", expect=1)["components"][0]["error"]
    assert "says 65534 1 CapEff:0000000000000000" in error
    configure(system, srv, python=str(interpreters / "gone"))
    system.run("run", "daily")


# -- the dimension of embeddings --------------------------------------------------------------------------------------


def test_embeddings_must_fit_the_collections_of_qdrant(system: System, srv: Path, tmp_path: Path) -> None:
    server = QdrantServer(tmp_path / "qdrant", 6391).start()
    try:
        client = client_of(server.url)
        from qdrant_client import models

        client.create_collection("docs", vectors_config=models.VectorParams(size=4, distance="Cosine"))
        named = {name: models.VectorParams(size=size, distance="Dot") for name, size in (("text", 5), ("image", 8))}
        client.create_collection("both", vectors_config=named)
        client.update_collection_aliases(
            [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="docs", alias_name="live"))]
        )
        system.configure(
            plans=[{"name": "daily", "components": ["gpt"]}],
            components={
                "llm": [{**components(srv)["llm"][0], "qdrant_component": "vectors"}],
                "qdrant": [{"name": "vectors", "url": server.url}],
            },
        )

        host = Host(Paths(system.root))

        def said(**embedding: Any) -> str:
            model = {**stack_files.MODEL, "embedding": {**stack_files.MODEL["embedding"], **embedding}}
            stack_files.write(srv / "gpt", {"model_config.json": model})
            probe = Llm(host.config.component("gpt"), host).probe()
            return "; ".join([*(what for what, _ in probe.problems), *probe.warnings])

        assert said() == ""
        assert said(collections=["docs", "live"]) == ""
        assert said(collections=["both"], vector="text", dimension=5) == ""
        wrong = "model_config.json line 16: embeddings of 5 dimensions do not fit the collection 'docs': the vector 4"
        assert wrong in said(dimension=5)
        assert "do not fit the collection 'both': image 8, text 5" in said(collections=["both"])
        assert said(collections=[]) == "", "the other is another model's"
        assert "do not fit the collection 'both'" in said(collections=[], dimension=6)
        assert "the collection 'gone' is not in Qdrant" in said(collections=["gone"])
        server.stop()
        told = said(dimension=5)
        assert "was not compared with Qdrant" in told
        assert "do not fit" not in told
    finally:
        server.remove()
