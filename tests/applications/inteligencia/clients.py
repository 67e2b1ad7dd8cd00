#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the systems' own clients make in the stack, and what they find there: clients.py fill | look.

`look` prints one JSON object: for each system what must be the same on another server. Nothing of it is Restaura's.
Environment: HOME of its account, PYTHONPATH with qdrant-client, langsmith and langchain-core; what `ingest.py` reads.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pymongo
import redis
from bson import json_util

GRAFANA, LOGIN = "http://127.0.0.1:3000", "admin:grafana-password-of-the-stack"
LANGSMITH, KEY = "http://127.0.0.1:1984", "lsv2_key_of_the_stack"
FILES = "/srv/inteligencia"


def digest(value: Any) -> str:
    """Hash a value by its JSON."""
    return hashlib.sha256(json_util.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def grafana(method: str, path: str, body: Any = None) -> Any:
    """Call Grafana's API as its administrator."""
    import base64

    headers = {
        "Authorization": f"Basic {base64.b64encode(LOGIN.encode()).decode()}",
        "Content-Type": "application/json",
        "X-Disable-Provenance": "true",
    }
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(GRAFANA + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def langsmith() -> Any:
    """Return LangSmith's own client."""
    from langsmith import Client

    return Client(api_url=LANGSMITH, api_key=KEY)


def fill() -> None:
    """Make in each system what ingestion does not."""
    store = redis.Redis.from_url(os.environ["INGEST_REDIS"])
    store.set("session:1", "token", exat=4_000_000_000)
    store.function_load("#!lua name=stack\nredis.register_function('total', function() return 42 end)", replace=True)
    store.select(3)
    store.hset("settings", mapping={"language": "pt-BR", "top_k": "4"})
    database = pymongo.MongoClient(os.environ["INGEST_MONGODB"])["intelligence"]
    database["logs"].insert_many([{"_id": n, "line": f"line {n}", "weight": n / 3} for n in range(500)])
    database["logs"].create_index([("line", 1)], name="by_line", unique=True)
    grafana("POST", "/api/folders", {"uid": "stack", "title": "Inteligência"})
    source = {
        "name": "Prometheus",
        "uid": "prom",
        "type": "prometheus",
        "access": "proxy",
        "url": "http://127.0.0.1:9090",
    }
    grafana("POST", "/api/datasources", {**source, "secureJsonData": {"httpHeaderValue1": "secret-of-the-source"}})
    panels = [{"id": 1, "type": "timeseries", "title": "Documentos", "targets": [{"expr": "ingest_documents_total"}]}]
    dashboard = {"uid": "ingest", "title": "Ingestão", "panels": panels}
    grafana("POST", "/api/dashboards/db", {"dashboard": dashboard, "folderUid": "stack", "overwrite": True})
    client = langsmith()
    dataset = client.create_dataset("perguntas", description="what people asked")
    client.create_examples(
        dataset_id=dataset.id,
        examples=[{"inputs": {"question": f"q{n}"}, "outputs": {"answer": f"a{n}"}} for n in range(5)],
    )
    client.create_project("orquestrador")
    for number in range(20):
        client.create_run(
            f"run {number}", {"question": f"q{number}"}, "chain", project_name="orquestrador", outputs={"answer": "a"}
        )
    client.flush()


def look() -> dict[str, Any]:
    """Return what each system holds, by its own client."""
    from langchain_core.prompts import load_prompt
    from qdrant_client import QdrantClient

    found: dict[str, Any] = {}
    qdrant = QdrantClient(url=os.environ["INGEST_QDRANT"], api_key=os.environ["INGEST_QDRANT_KEY"], timeout=60)
    points: list[Any] = []
    offset = None
    while True:
        page, offset = qdrant.scroll("documents", limit=500, offset=offset, with_vectors=True, with_payload=True)
        points += page
        if offset is None:
            break
    # By number: what was stored for it, whenever the moment was.
    found["qdrant"] = {str(one.id): digest([one.payload, one.vector]) for one in points}
    database = pymongo.MongoClient(os.environ["INGEST_MONGODB"])["intelligence"]
    found["mongodb"] = {str(one["_id"]): digest(one) for one in database["documents"].find()}
    found["mongodb_logs"] = digest(list(database["logs"].find().sort("_id", 1)))
    found["mongodb_indexes"] = sorted(database["logs"].index_information())
    store = redis.Redis.from_url(os.environ["INGEST_REDIS"])
    found["redis"] = {key.decode().split(":")[1]: digest(store.get(key).decode()) for key in store.keys("cache:*")}
    found["redis_session"] = [store.get("session:1").decode(), store.expiretime("session:1")]
    found["redis_function"] = store.fcall("total", 0)
    store.select(3)
    found["redis_settings"] = sorted(store.hgetall("settings").items(), key=str)
    rows = subprocess.run(
        ["psql", "-U", "ingest", "-d", "intelligence", "-Atc", "select id, title, at from documents order by id"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found["postgres"] = {row.split("|")[0]: digest(row) for row in rows.splitlines()}
    dashboard = grafana("GET", "/api/dashboards/uid/ingest")["dashboard"]
    found["grafana_dashboard"] = digest({key: dashboard[key] for key in ("title", "panels", "uid")})
    found["grafana_source"] = grafana("GET", "/api/datasources/uid/prom")["url"]
    found["grafana_folder"] = grafana("GET", "/api/folders/stack")["title"]
    query = ["promtool", "query", "instant", "http://127.0.0.1:9090", "max_over_time(ingest_documents_total[1d])"]
    found["prometheus"] = re.findall(
        r"=> (\d+)", subprocess.run(query, capture_output=True, text=True, check=True).stdout
    )
    client = langsmith()
    examples = client.list_examples(dataset_name="perguntas")
    found["langsmith_examples"] = digest(sorted(json.dumps([one.inputs, one.outputs]) for one in examples))
    os.chdir(f"{FILES}/langchain")
    found["langchain"] = load_prompt("prompts.yaml").format(question="q", context="c")
    found["files"] = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(Path(FILES).rglob("*"))
        if path.is_file()
    }
    return found


def main() -> int:
    """Do what is asked for."""
    if sys.argv[1] == "fill":
        fill()
    else:
        print(json.dumps(look(), default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
