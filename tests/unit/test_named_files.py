# SPDX-License-Identifier: GPL-3.0-or-later
"""What LangChain's, a model's and a deployment's files must say, and that a fingerprint sees every change of them."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from restaura import others_yaml, process
from restaura.config.schema import Config, Settings
from restaura.errors import SourceError
from restaura.host import Host
from restaura.named_files import NamedFiles
from restaura.paths import Paths
from restaura.point import Fingerprint
from restaura.sources import Tree
from restaura.sources.infra import Infra, InfraComponent
from restaura.sources.langchain import Langchain, LangchainComponent
from restaura.sources.llm import Llm, LlmComponent
from tests import stack_files


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "host").mkdir()
    return Host(Paths(tmp_path / "host"), Config(Settings(host="web1", reserve_bytes=0, reserve_percent=0)))


def langchain(host: Host, top: Path, **options: Any) -> Langchain:
    return Langchain(LangchainComponent(name="langchain", directory=str(top / "langchain"), **options), host)


def llm(host: Host, top: Path, **options: Any) -> Llm:
    options = {"weights": ("weights",), **options}
    return Llm(LlmComponent(name="gpt", directory=str(top / "gpt"), **options), host)


def infra(host: Host, top: Path, **options: Any) -> Infra:
    given = {"kubernetes": ("k8s",), "scripts": (str(top / "etl"),), "images": False, **options}
    return Infra(InfraComponent(name="infra", directory=str(top / "inteligencia"), **given), host)


MAKERS: dict[str, Callable[..., NamedFiles]] = {"langchain": langchain, "gpt": llm, "inteligencia": infra}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    stack_files.langchain(tmp_path / "langchain")
    stack_files.llm(tmp_path / "gpt")
    stack_files.infra(tmp_path / "inteligencia", tmp_path / "etl")
    return tmp_path


def fingerprint(source: NamedFiles) -> Fingerprint:
    """Return what a run would keep of the files as they are."""
    source.prepare("content")
    with source.freeze("content") as frozen:
        indexes = {one.name: one.index for one in frozen.artifacts() if isinstance(one, Tree)}
        return frozen.outcome(indexes).fingerprint


def problems(source: NamedFiles) -> list[str]:
    found = source.probe().problems
    assert all(fix for _, fix in found)
    return [what for what, _ in found]


@pytest.mark.parametrize("name", MAKERS)
def test_good_files_have_no_problem(host: Host, top: Path, name: str) -> None:
    probe = MAKERS[name](host, top).probe()
    assert (probe.problems, probe.warnings) == ([], [])


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("prompts.yaml", "templates/greeting.txt", "../greeting.txt", "line 4: template_path '../greeting.txt'"),
        ("prompts.yaml", "templates/greeting.txt", "/etc/greeting.txt", "'/etc/greeting.txt' leads out"),
        ("prompts.yaml", "examples/answers.json", "examples/gone.json", "line 11: examples 'examples/gone.json' leads"),
        ("prompts.yaml", "greeting:", "greeting: [", "is no YAML"),
        ("prompts.yaml", "answer:", "greeting:", "line 7: has 'greeting' twice"),
        ("chains.json", '"llm": "gpt"', '"llm": "gpt",', "is no JSON"),
        ("chains.json", '"gpt"', "NaN", "is no JSON"),
        ("chains.json", "prompts/rag.json", "prompts/gone.json", "line 4: prompt_path 'prompts/gone.json' leads"),
        ("prompts/rag.json", "\"_type\"", "_type", "prompts/rag.json line 2: is no JSON"),
        ("langgraph.json", '"env": ".env"', '"env": "other.env"', "env 'other.env' leads nowhere"),
        ("agents.yaml", "docs/support.md", "docs/gone.md", "line 3: system_file 'docs/gone.md' leads nowhere"),
        ("agents.yaml", None, None, "agents.yaml: is not there"),
        ("agents.yaml", "docs/support.md", "docs/none-such", "line 3: system_file 'docs/none-such' leads nowhere"),
        ("agents.yaml", "docs/support.md", "docs/gone.tmpl", "line 3: system_file 'docs/gone.tmpl' leads nowhere"),
        ("agents.yaml", "system_file: docs/support.md", "a_paths: [src/agent.py, x.json]", "a_paths 'x.json' leads no"),
        ("agents.yaml", "system_file: docs/support.md", "my-files: {a: gone.xml}", "line 3: my-files 'gone.xml' leads"),
        ("agents.yaml", "system_file: docs/support.md", "llm_path: model.json", "llm_path 'model.json' leads nowhere"),
        ("agents.yaml", "system_file: docs/support.md", "x_path: /srv/x.json", "x_path '/srv/x.json' leads out"),
        ("agents.yaml", "system_file: docs/support.md", "api_spec_path: api/openapi", "'api/openapi' leads nowhere"),
        ("agents.yaml", "system_file: docs/support.md", "model_file: a/b/c.gguf", "'a/b/c.gguf' leads nowhere"),
    ],
)  # fmt: skip
def test_langchain_problems(host: Host, top: Path, file: str, old: str | None, new: str | None, said: str) -> None:
    change(top / "langchain" / file, old, new)
    assert [said in one for one in problems(langchain(host, top))] == [True]


REFERENCES = """\
a:
  template_path: templates/sales.tmpl
  index_path: index
  example_paths: [templates/one.j3, templates/two.j3]
  prompt_files: {greeting: templates/three}
  model_path: models/local
"""
OF_NO_FILE = """\
a:
  llm_path: https://example.org/llm.json
  model_path: acme/gpt-mini
  tokenizer_path: tokenizer-1
  embedding_path: acme/embed-1.5
  class_path: app.chains.Chain
  output_path: out/answers.json
  log_file: app.log
  cache_path:
  state_path: ""
  prompt_path: |
    several
    lines
  base_path: .
  api_path: /v1/chat
  examples: [2+2, what is the capital of Brazil]
  env: production
"""


def test_what_is_referred_to_is_taken_whatever_its_name(host: Host, top: Path) -> None:
    names = ("templates/sales.tmpl", "index/a.faiss", "templates/one.j3", "templates/two.j3", "templates/three")
    stack_files.write(top / "langchain", {"agents.yaml": REFERENCES, **dict.fromkeys((*names, "models/local"), "x")})
    source = langchain(host, top)
    assert source.probe().problems == []
    taken = {one.removeprefix(f"{top}/langchain/") for one in source._options.paths}
    assert {*names, "models/local", "index"} - {"index/a.faiss"} <= taken


def test_values_that_are_no_files_of_this_host_are_no_problem(host: Host, top: Path) -> None:
    stack_files.write(top / "langchain", {"agents.yaml": OF_NO_FILE})
    probe = langchain(host, top).probe()
    assert (probe.problems, probe.warnings) == ([], [])


def test_references_that_cannot_be_followed_are_told(host: Host, top: Path) -> None:
    text = "a:\n  data_path: /srv/data\n  user_file: users/${NAME}\n  more_path: ../more\n"
    text += f"  kept_path: {top}/langchain/src\n"
    stack_files.write(top / "langchain", {"agents.yaml": text})
    source = langchain(host, top, files=("src",))
    said = ("line 2: data_path '/srv/data'", "line 3: user_file 'users/${NAME}'", "line 4: more_path '../more'")
    probe = source.probe()
    assert probe.problems == []
    assert [wanted in one for wanted, one in zip(said, probe.warnings, strict=True)] == [True] * 3
    assert all("name it in `files`" in one for one in probe.warnings)
    source.prepare("catalog")
    with source.freeze("catalog") as frozen:
        index = next(one.index for one in frozen.artifacts() if isinstance(one, Tree))
        assert frozen.outcome({"tree": index}).notes == probe.warnings


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"provider": ""}, "line 2: `provider` is not given"),
        ({"model": "gpt-4.1-mini"}, "line 3: names no exact model"),
        ({"revision": "main"}, "`revision` 'main' is another model tomorrow"),
        ({"digest": "sha256:12"}, "`digest` 'sha256:12' is no SHA-256"),
        ({"parameters": {"temperature": 2.1}}, "line 5: `temperature` is 2.1, not between 0 and 2"),
        ({"parameters": {"top_p": "0.9"}}, "`top_p` is '0.9', no number"),
        ({"parameters": {"top_p": -0.1}}, "`top_p` is -0.1, not between"),
        ({"parameters": {"max_tokens": 0}}, "`max_tokens` is 0, not between"),
        ({"parameters": {"max_tokens": 1.5}}, "`max_tokens` is 1.5, no whole number"),
        ({"parameters": {"seed": True}}, "`seed` is True, no whole number"),
        ({"parameters": {"stop": [1]}}, "`stop` is neither text nor a list of texts"),
        ({"parameters": []}, "`parameters` is no object"),
        ({"temperature": 3}, "`temperature` is 3, not between"),
        ({"embedding": {"model": "e", "dimension": 0}}, "`embedding.dimension` is no number"),
        ({"embedding": {"dimension": 4}}, "`embedding.model` is not given"),
        ({"embedding": {"model": "e", "dimension": 4, "collections": "docs"}}, "`embedding.collections` is no list"),
        ({"weights": [{"path": "weights/gone.gguf", "sha256": "0" * 64}]}, "weights/gone.gguf are not there"),
        ({"weights": [{"path": "weights/model.gguf", "sha256": "?"}]}, "has no `sha256`"),
        ({"weights": [{"path": "weights/model.gguf"}]}, "has no `sha256`"),
        ({"weights": ["weights/model.gguf"]}, "`weights` is no list of objects with `path` and `sha256`"),
        ({"weights": {"path": "weights/model.gguf"}}, "`weights` is no list of objects with `path` and `sha256`"),
        ({"models": []}, "is neither a model nor has it `models`"),
    ],
)  # fmt: skip
def test_model_problems(host: Host, top: Path, model: dict[str, Any], said: str) -> None:
    stack_files.write(top / "gpt", {"model_config.json": {**stack_files.MODEL, **model}})
    assert [said in one for one in problems(llm(host, top))] == [True]


def test_several_models_are_each_looked_at(host: Host, top: Path) -> None:
    good = stack_files.MODEL
    models = {"chat": good, "code": {**good, "parameters": {"temperature": -1}}}
    stack_files.write(top / "gpt", {"model_config.json": {"models": models}})
    assert ["line 34: `temperature` is -1" in one for one in problems(llm(host, top))] == [True]
    stack_files.write(
        top / "gpt", {"model_config.json": {"models": [good, {**good, "revision": "a1b2c3", "model": "x"}]}}
    )
    assert problems(llm(host, top)) == []


@pytest.mark.parametrize(
    "prompts", [{}, [], "text", {"a": ""}, {"a": {"content": " "}}, {"a": 1}, {"a": [{"role": "x"}]}]
)
def test_prompts_without_text_are_a_problem(host: Host, top: Path, prompts: Any) -> None:
    stack_files.write(top / "gpt", {"system_prompts.json": json.dumps(prompts)})
    assert len(problems(llm(host, top))) == 1


def test_other_weights_than_the_configuration_names_fail_the_run(host: Host, top: Path) -> None:
    with (top / "gpt/weights/model.gguf").open("r+b") as weights:
        weights.seek(100)
        weights.write(b"!")
    source = llm(host, top)
    assert problems(source) == []
    with pytest.raises(SourceError, match=r"model_config.json line 24: the weights .* have the SHA-256"):
        fingerprint(source)


@pytest.mark.parametrize("several", [False, True])
def test_weights_that_are_not_in_the_point_are_refused(host: Host, top: Path, several: bool) -> None:
    def configure(path: str) -> None:
        model = {**stack_files.MODEL, "weights": [{**stack_files.MODEL["weights"][0], "path": path}]}
        stack_files.write(top / "gpt", {"model_config.json": {"models": {"chat": model}} if several else model})

    configure("weights/gone.gguf")
    assert ["weights/gone.gguf are not there" in one for one in problems(llm(host, top))] == [True]
    # There, but in no path of the component.
    (top / "gpt/other.gguf").write_bytes(stack_files.WEIGHTS)
    configure("other.gguf")
    assert ["other.gguf are not in the point" in one for one in problems(llm(host, top))] == [True]
    configure("weights/model.gguf")
    assert ["model.gguf are not in the point" in one for one in problems(llm(host, top, exclude=("*.gguf",)))] == [True]
    assert problems(llm(host, top)) == []


@pytest.mark.parametrize("listed", [False, True])
def test_weights_behind_links_are_refused_unless_all_is_taken(host: Host, top: Path, listed: bool) -> None:
    """The cache of Hugging Face: what a snapshot's names lead to is in `blobs`."""
    if not listed:
        stack_files.write(top / "gpt", {"model_config.json": {**stack_files.MODEL, "weights": []}})
    (top / "gpt/blobs").mkdir()
    (top / "gpt/weights/model.gguf").rename(top / "gpt/blobs/abc")
    (top / "gpt/weights/model.gguf").symlink_to("../blobs/abc")
    (said, fix), *more = llm(host, top).probe().problems
    assert said == f"{top}/gpt/weights/model.gguf: is a link to ../blobs/abc, which is not in the point"
    assert "`weights`" in fix
    assert len(more) == listed
    whole = llm(host, top, weights=("weights", "blobs"))
    assert problems(whole) == []
    fingerprint(whole)
    (top / "gpt/blobs/abc").write_bytes(b"others")
    if listed:
        with pytest.raises(SourceError, match="have the SHA-256"):
            fingerprint(llm(host, top, weights=("weights", "blobs")))


def test_a_link_that_appears_after_preflight_fails_the_run(host: Host, top: Path) -> None:
    source = llm(host, top)
    assert problems(source) == []
    (top / "gpt/weights/more.gguf").symlink_to("/srv/models/more.gguf")
    with pytest.raises(SourceError, match=r"more.gguf: is a link to /srv/models/more.gguf, which is not in the point"):
        fingerprint(source)


def test_a_qdrant_component_must_be_declared(host: Host, top: Path) -> None:
    assert problems(llm(host, top, qdrant_component="vectors")) == [
        "component gpt: there is no qdrant component 'vectors'"
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("docker-compose.yaml", "services:", "services: [", "is no YAML"),
        ("docker-compose.yaml", "env_file: [qdrant.env]", "env_file: [gone.env]", "line 4: 'gone.env' leads nowhere"),
        ("docker-compose.yaml", "file: ./token.txt", "file: ./gone.txt", "line 17: './gone.txt' leads nowhere"),
        ("docker-compose.yaml", "ingest:${TAG}", "ingest:$OTHER", "line 7: the variable OTHER has no value"),
        ("docker-compose.yaml", "ingest:${TAG}", "ingest:${OTHER:?must}", "line 7: the variable OTHER has no value"),
        ("docker-compose.override.yaml", "always", "${RESTART}", "line 3: the variable RESTART has no value"),
        ("docker-compose.yaml", None, None, "docker-compose.yaml: is not there"),
        (".env", "TAG=1.2.3", "TAG 1.2.3", ".env line 1: is no NAME=VALUE"),
        (".env", "TAG=1.2.3", "TAGS=1.2.3", "docker-compose.yaml line 7: the variable TAG has no value"),
        ("k8s/ingest.yaml", "kind: Service", "kid: Service", "ingest.yaml line 5: is no manifest"),
        ("k8s/ingest.yaml", "metadata: {name: ingest}\n---", "metadata: {name: ingest\n---", "is no YAML"),
    ],
)  # fmt: skip
def test_deployment_problems(host: Host, top: Path, file: str, old: str | None, new: str | None, said: str) -> None:
    change(top / "inteligencia" / file, old, new)
    found = problems(infra(host, top))
    assert [one for one in found if said in one], found
    assert not [one for one in found if "secret" in one.replace("secret.yaml", "")]


def test_variables_with_a_value_of_their_own_or_from_elsewhere_are_none_to_miss(host: Host, top: Path) -> None:
    for text in ("${OTHER:-x}", "${OTHER-x}", "${OTHER:+x}", "$$OTHER", "$${OTHER}"):
        change(top / "inteligencia/docker-compose.yaml", "ingest:${TAG}", text)
        assert problems(infra(host, top)) == [], text
        change(top / "inteligencia/docker-compose.yaml", text, "ingest:${TAG}")
    change(top / "inteligencia/docker-compose.yaml", "ingest:${TAG}", "ingest:$OTHER")
    assert problems(infra(host, top, variables=("OTHER",))) == []


def test_what_compose_files_name_goes_along(host: Host, top: Path) -> None:
    folder = stack_files.write(
        top / "inteligencia",
        {
            "docker-compose.yaml": "include: [more/c.yaml]\nservices: {a: {extends: {file: base.yaml, service: b}}}\n",
            "more/c.yaml": "services: {c: {image: c, env_file: [{path: c.env}, {path: no.env, required: false}]}}\n",
            "more/c.env": "C=1\n",
            "base.yaml": "services:\n  b: {image: b}\n",
        },
    )
    source = infra(host, top)
    assert problems(source) == []
    found = {one.removeprefix(f"{folder}/") for one in source._options.paths}
    assert {"more/c.yaml", "more/c.env", "base.yaml"} <= found
    assert "config/ingest.yaml" not in found
    assert source.group(f"{folder}/more/c.env") == "secrets"


def test_what_compose_would_fetch_is_told(host: Host, top: Path) -> None:
    text = (top / "inteligencia/docker-compose.yaml").read_text()
    remote = "include: ['https://github.com/acme/stack.git#v1', 'oci://registry.example.org/base']\n"
    (top / "inteligencia/docker-compose.yaml").write_text(remote + text)
    folder = infra(host, top)._found
    assert folder.problems == []
    assert ["is no part of the backup" in one for one in folder.warnings] == [True, True]


def test_manifests_behind_links_are_refused_and_scripts_are_told(host: Host, top: Path) -> None:
    (top / "etl/python").symlink_to("/usr/bin/python3")
    probe = infra(host, top).probe()
    assert probe.problems == []
    assert probe.warnings == [f"{top}/etl/python is a link to /usr/bin/python3, which is not in the point"]
    (top / "ingest.yaml").write_text(stack_files.MANIFESTS)
    (top / "inteligencia/k8s/ingest.yaml").unlink()
    (top / "inteligencia/k8s/ingest.yaml").symlink_to("../../ingest.yaml")
    assert ["k8s/ingest.yaml: is a link to ../../ingest.yaml" in one for one in problems(infra(host, top))] == [True]


BINDS = """\
services:
  web:
    build: ./app
    image: web
    volumes:
      - ./nginx.conf:/etc/nginx/nginx.conf:ro
      - data:/var/lib/web
      - /etc/localtime:/etc/localtime:ro
      - {type: bind, source: conf.d, target: /etc/web}
      - {type: volume, source: data, target: /x}
      - {type: bind, source: ../inteligencia/k8s, target: /k8s}
  worker:
    image: worker
    build: {context: worker, additional_contexts: {base: ./base, other: "docker-image://alpine"}}
    volumes: ["./config/ingest.yaml:/ingest.yaml", "../elsewhere:/e", "./data-${TAG}:/d", "~/home:/h"]
  remote:
    build: https://github.com/acme/web.git
"""


def test_binds_and_build_contexts_that_are_not_in_the_point_are_told(host: Host, top: Path) -> None:
    stack_files.write(top / "inteligencia", {"docker-compose.override.yaml": BINDS, "nginx.conf": "x"})
    names = ["./app", "./base", "./data-${TAG}", "./nginx.conf", "../elsewhere", "conf.d", "worker"]
    (told,) = infra(host, top).probe().warnings
    assert told.startswith(f"{top}/inteligencia/docker-compose.override.yaml: ")
    assert told.partition(": ")[2].partition(" (")[0].split(", ") == sorted(names)
    (told,) = infra(host, top, files=("nginx.conf",)).probe().warnings
    assert "nginx.conf" not in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'failed to read {top}/.env: line 3: unterminated quoted value "sk-secret',
            ".env line 3: docker compose cannot",
        ),
        ('failed to read {top}/.env: Invalid template: "${{sk-secret"', ".env: docker compose cannot read it"),
        ("{top}/qdrant.env: line 1: unexpected character in sk-secret", "qdrant.env line 1: docker compose cannot"),
        ('time="" level=warning msg="The \\"sk-secret\\" variable is not set"\nno service', "says no service"),
    ],
)
def test_compose_tells_no_value_of_an_environment_file(
    host: Host, top: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    def run(argv: list[str], **_: Any) -> tuple[int, str, str]:
        return (0, "", "") if argv[-1] == "version" else (1, "", said.format(top=f"{top}/inteligencia"))

    monkeypatch.setattr(process, "run", run)
    (one,) = problems(infra(host, top))
    assert told in one
    assert "sk-secret" not in one


def test_links_that_lead_out_are_not_followed(host: Host, top: Path) -> None:
    (top / "elsewhere.txt").write_text("x")
    (top / "langchain/templates/greeting.txt").unlink()
    (top / "langchain/templates/greeting.txt").symlink_to(top / "elsewhere.txt")
    assert any("leads over a symbolic link" in one for one in problems(langchain(host, top)))


def change(path: Path, old: str | None, new: str | None) -> None:
    """Replace a text in a file, or remove the file."""
    if old is None or new is None:
        path.unlink()
        return
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))


# -- what changed ---------------------------------------------------------------------------------------------------


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda top: change(top / name, old, new)


CHANGES: dict[str, list[Callable[[Path], object]]] = {
    "langchain": [
        edit("prompts.yaml", "Answer as", "Answer  as"),
        edit("prompts.yaml", "[name, place]", "[place, name]"),
        edit("prompts.yaml", "few_shot", "prompt"),
        edit("templates/greeting.txt", "☀", "☁"),
        edit("templates/greeting.txt", "Hello", "hello"),
        edit("examples/answers.json", "Bras\\u00edlia", "Rio"),
        edit("prompts/rag.json", "{context}", "{context} "),
        edit("chains.json", '"gpt"', '"gpt2"'),
        edit("agents.yaml", "zero-shot", "few-shot"),
        edit("docs/support.md", "# Support\n", "# Support"),
        edit("src/agent.py", "None", "1"),
        edit(".env", "not-a-key", "not-a-kez"),
        edit("langgraph.json", "agent.py:graph", "agent.py:graf"),
        lambda top: (top / "prompts.yaml").chmod(0o600),
        lambda top: os.utime(top / "chains.json", ns=(1, 1)),
        lambda top: os.setxattr(top / "agents.yaml", "user.note", b"x"),
        lambda top: (top / "src/agent.py").chmod(0o755),
    ],
    "gpt": [
        *[edit("model_config.json", old, new) for old, new in (
            ("0.2", "0.3"), ("0.9", "0.8"), ("1024", "1025"), ('"END"', '"STOP"'), ('"seed": 7', '"seed": 8'),
            ("04-14", "04-15"), ("-3-small", "-3-large"), ('"dimension": 4', '"dimension": 5'), ('"docs"', '"texts"'),
            ('"top_p"', '"min_p"'),
        )],
        edit("system_prompts.json", "kind.", "kind!"),
        edit("system_prompts.json", '"version": 3', '"version": 4'),
        edit("system_prompts.json", '"sales"', '"Sales"'),
        lambda top: (top / "weights/tokenizer.json").write_text("{}"),
        lambda top: (top / "weights/empty").mkdir(),
        lambda top: (top / "weights/link").symlink_to("model.gguf"),
        lambda top: (top / "weights/model.gguf").chmod(0o640),
    ],
    "inteligencia": [
        edit("docker-compose.yaml", "v1.15.4", "v1.15.5"),
        edit("docker-compose.yaml", "/qdrant/storage", "/qdrant/data"),
        edit("docker-compose.yaml", '"$$5"', '"$$6"'),
        edit("docker-compose.override.yaml", "always", "no"),
        edit(".env", "1.2.3", "1.2.4"),
        edit(".env", "# a comment", "# another"),
        edit(".env", "very", "VERY"),
        edit("qdrant.env", "also", "still"),
        edit("token.txt", "third", "3rd"),
        edit("config/ingest.yaml", "100", "101"),
        edit("k8s/secret.yaml", "Zm91", "Zm92"),
        edit("k8s/ingest.yaml", "kind: Service", "kind: Ingress"),
        lambda top: (top / "k8s/more.json").write_text('{"apiVersion": "v1", "kind": "Pod"}'),
        lambda top: change(top.parent / "etl/load.py", "1", "2"),
        lambda top: (top.parent / "etl/sync/run.sh").chmod(0o700),
        lambda top: (top.parent / "etl/new.py").touch(),
        lambda top: (top.parent / "etl/latest").unlink(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_every_small_change_is_seen_and_named(host: Host, top: Path, name: str) -> None:
    changes = CHANGES[name]
    assert len(changes) >= 15
    before = fingerprint(MAKERS[name](host, top))
    assert fingerprint(MAKERS[name](host, top)) == before
    seen = {before.digest}
    for number, one in enumerate(changes):
        one(top / name)
        now = fingerprint(MAKERS[name](host, top))
        assert now.digest not in seen, f"change {number} of {name}"
        assert before.differences(now)
        seen.add(now.digest)


# -- artifacts ----------------------------------------------------------------------------------------------------


def test_each_file_is_in_one_artifact_and_secrets_in_a_secret_one(host: Host, top: Path) -> None:
    source = infra(host, top)
    source.prepare("content")
    with source.freeze("content") as frozen:
        found = {one.name: one for one in frozen.artifacts() if isinstance(one, Tree)}
    files = {name: {one.path for one in tree.index.entries if one.type == "file"} for name, tree in found.items()}
    assert sorted(found) == ["etl_scripts", "secrets", "tree"]
    assert sum(map(len, files.values())) == len(set().union(*files.values()))
    folder = f"{top}/inteligencia"[1:]
    assert {one.removeprefix(f"{folder}/") for one in files["secrets"]} == {
        ".env",
        "qdrant.env",
        "token.txt",
        "k8s/secret.yaml",
    }
    assert found["secrets"].secret
    assert not found["tree"].secret
    assert (found["tree"].expanded, found["tree"].top) == ("", folder)
    assert found["etl_scripts"].gzip


@pytest.mark.parametrize("name", ["kustomization.yaml", "Kustomization"])
def test_what_kustomize_makes_secrets_of_is_with_the_secrets(host: Host, top: Path, name: str) -> None:
    folder = top / "inteligencia/k8s/overlay"
    folder.mkdir()
    (folder / name).write_text(
        "resources: [../ingest.yaml]\nsecretGenerator:\n- {name: a, literals: [password=hunter2]}\n"
        "- {name: b, files: [key=password.txt], envs: [more.txt]}\nconfigMapGenerator: [{files: [plain.txt]}]\n"
    )
    for one in ("password.txt", "more.txt", "plain.txt"):
        (folder / one).write_text("hunter2\n")
    source = infra(host, top)
    source.prepare("content")
    with source.freeze("content") as frozen:
        found = {one.name: one for one in frozen.artifacts() if isinstance(one, Tree)}
    where = {f"/{one.path}": name for name, tree in found.items() for one in tree.index.entries}
    secret = [one for one in (name, "password.txt", "more.txt", "plain.txt") if where[str(folder / one)] == "secrets"]
    assert secret == [name, "password.txt", "more.txt"]


def test_a_secret_among_weights_is_with_the_secrets(host: Host, top: Path) -> None:
    (top / "gpt/weights/.env").write_text("HF_TOKEN=hf_secret\n")
    (top / "gpt/weights/another-name.bin").hardlink_to(top / "gpt/weights/.env")
    source = llm(host, top)
    source.prepare("content")
    with source.freeze("content") as frozen:
        found = {one.name: one for one in frozen.artifacts() if isinstance(one, Tree)}
    where = {one.path: name for name, tree in found.items() for one in tree.index.entries if one.type == "file"}
    assert where[f"{top}/gpt/weights/.env"[1:]] == "secrets"
    assert where[f"{top}/gpt/weights/another-name.bin"[1:]] == "secrets"
    assert set(where.values()) == {"tree", "weights", "secrets"}


def test_lines_of_documents_and_keys_that_are_there_twice() -> None:
    first, second = others_yaml.documents("a:\n  - b\n  - {c: 1, c: 2}\n---\nx: &n\n  y: 1\nz: *n\n")
    assert first.lines["a", 1, "c"] == 3
    assert first.twice == (("a", 1, "c"),)
    assert second.lines["z", "y"] == 6
    assert replace(second, lines={}).data == {"x": {"y": 1}, "z": {"y": 1}}
    for text in ("a: [", "a: &a [*a]\n", "\ta: 1"):
        with pytest.raises(others_yaml.NOT_READ):
            others_yaml.documents(text)


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("a: [1\nb: 2", "expected ',' or ']', but got ':'", 2),
        ("a: [1", "expected ',' or ']', but got '<stream end>'", 1),
        ("a:\n  b: *secret", "found undefined alias …", 2),
        ("a: !!python/object:secret 1", "could not determine a constructor for the tag …", 1),
        ("a: !!int secret", "ValueError", None),
        ("a: !!bool secret", "KeyError", None),
        ("a: !!int ''", "IndexError", None),
        ("a: !!timestamp secret", "AttributeError", None),
    ],
)
def test_a_complaint_about_yaml_quotes_nothing_of_it(text: str, said: str, line: int | None) -> None:
    with pytest.raises(others_yaml.NOT_READ) as raised:
        others_yaml.load(text)
    assert others_yaml.complaint(raised.value) == (said, line)
