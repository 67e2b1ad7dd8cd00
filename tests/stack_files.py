# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an AI stack, as tests of `langchain`, `llm` and `infra` write them."""

import hashlib
import json
from pathlib import Path
from typing import Any

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
PROMPTS = """\
greeting:
  _type: prompt
  input_variables: [name, place]
  template_path: templates/greeting.txt
  output_parser: null
answer:
  _type: few_shot
  input_variables: [question]
  prefix: Answer as in the examples.
  suffix: "Q: {question}"
  examples: examples/answers.json
  example_prompt:
    _type: prompt
    input_variables: [q, a]
    template: "Q: {q} A: {a}"
"""
MODEL: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-4.1-mini-2025-04-14",
    "parameters": {"temperature": 0.2, "top_p": 0.9, "max_tokens": 1024, "stop": ["END"], "seed": 7},
    "embedding": {"provider": "openai", "model": "text-embedding-3-small", "dimension": 4, "collections": ["docs"]},
    "weights": [{"path": "weights/model.gguf", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}],
}
COMPOSE = """\
services:
  qdrant:
    image: qdrant/qdrant:${QDRANT_TAG:-v1.15.4}
    env_file: [qdrant.env]
    volumes: ["qdrant:/qdrant/storage"]
  ingest:
    image: ingest:${TAG}
    environment:
      MONGO_URL: mongodb://app:${MONGO_PASSWORD}@mongo/app
      PRICE: "$$5"
    configs: [ingest]
    secrets: [token]
volumes: {qdrant: {}}
configs:
  ingest: {file: ./config/ingest.yaml}
secrets:
  token: {file: ./token.txt}
"""
MANIFESTS = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingest}
---
apiVersion: v1
kind: Service
metadata: {name: ingest}
"""


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Write files below a folder: text, bytes, or what becomes JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2) + "\n")
    return folder


def langchain(folder: Path) -> Path:
    """Write an application's prompts, chains and agents."""
    return write(
        folder,
        {
            "prompts.yaml": PROMPTS,
            "chains.json": {"rag": {"_type": "llm_chain", "prompt_path": "prompts/rag.json", "llm": "gpt"}},
            "agents.yaml": "support:\n  _type: zero-shot-react-description\n  system_file: docs/support.md\n",
            "templates/greeting.txt": "Hello {name} from {place}, olá ☀",
            "examples/answers.json": [{"q": "2+2?", "a": "4"}, {"q": "capital of Brazil?", "a": "Brasília"}],
            "prompts/rag.json": {"_type": "prompt", "input_variables": ["context"], "template": "{context}"},
            "docs/support.md": "# Support\n",
            "langgraph.json": {"graphs": {"agent": "./src/agent.py:graph"}, "env": ".env"},
            "src/agent.py": "graph = None\n",
            ".env": "OPENAI_API_KEY=sk-test-not-a-key\n",
            "unrelated.log": "not backed up\n",
        },
    )


def llm(folder: Path) -> Path:
    """Write a model's configuration, prompts and weights."""
    return write(
        folder,
        {
            "model_config.json": MODEL,
            "system_prompts.json": {"support": "You are kind.", "sales": {"content": "You sell.", "version": 3}},
            "weights/model.gguf": WEIGHTS,
        },
    )


def infra(folder: Path, scripts: Path) -> Path:
    """Write the files of a deployment, and its scripts elsewhere."""
    write(scripts, {"load.py": "print(1)\n", "sync/run.sh": "#!/bin/sh\nexit 0\n"})
    (scripts / "sync/run.sh").chmod(0o755)
    (scripts / "latest").symlink_to("sync/run.sh")
    return write(
        folder,
        {
            "docker-compose.yaml": COMPOSE,
            "docker-compose.override.yaml": "services:\n  ingest:\n    restart: always\n",
            ".env": 'TAG=1.2.3\nexport MONGO_PASSWORD=\'very "secret\'\n# a comment\n\nMULTI="a\nb"\n',
            "qdrant.env": "QDRANT__SERVICE__API_KEY=also-secret\n",
            "config/ingest.yaml": "batch: 100\n",
            "token.txt": "third-secret\n",
            "k8s/ingest.yaml": MANIFESTS,
            "k8s/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {p: Zm91cnRoLXNlY3JldA==}\n",
            "data/not-backed-up": "x",
        },
    )
