# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's owners do by hand, one step after another, while ingestion stands still.

`by_hand.py ENDPOINT BUCKET`: each step is the tool that its system brings, or its own API; then come tar, gzip, and
boto3's upload to S3. What lies in files is read where it lies. Runs on a host that
tests/applications/inteligencia/install.sh laid out.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3

OUT = Path("/srv/bench/by-hand")
FILES = Path("/srv/inteligencia")
ARCHIVE = OUT.with_suffix(".tar.gz")
QDRANT, QDRANT_KEY = "http://127.0.0.1:6333", {"api-key": "qdrant-key-of-the-stack"}
LANGSMITH, LANGSMITH_KEY = "http://127.0.0.1:1984/api/v1", {"x-api-key": "lsv2_key_of_the_stack"}
GRAFANA = "http://127.0.0.1:3000/api"
GRAFANA_LOGIN = {"Authorization": f"Basic {base64.b64encode(b'admin:grafana-password-of-the-stack').decode()}"}
PROMETHEUS = "http://127.0.0.1:9090/api/v1"
SNAPSHOTS = Path("/var/lib/prometheus/metrics2/snapshots")
MONGODB = ("--port", "27117")
REDIS_PASSWORD = {"REDISCLI_AUTH": "redis-password-of-the-stack"}
PAGE = 1000


def main(arguments: list[str]) -> int:
    """Do all of it; subprocess.CalledProcessError or URLError when a step fails."""
    endpoint, bucket = arguments
    shutil.rmtree(OUT, ignore_errors=True)
    run("systemctl", "stop", "ingest")
    try:
        qdrant(OUT / "qdrant")
        mongodb(OUT / "mongodb")
        redis()
        langsmith(OUT / "langsmith")
        run("tar", "-C", f"{FILES}/infra", "-czf", made(OUT / "infra") / "etl_scripts.tar.gz", "etl")
        snapshot = prometheus()
        grafana(OUT / "grafana")
        places = [OUT, FILES, "/var/lib/redis", snapshot, "/etc/prometheus", "/etc/grafana/grafana.ini"]
        packed = " ".join(str(place)[1:] for place in places)
        run("bash", "-euo", "pipefail", "-c", f"tar -C / -c {packed} | gzip > {ARCHIVE}")
        boto3.client("s3", endpoint_url=endpoint).upload_file(str(ARCHIVE), bucket, f"by-hand/{ARCHIVE.name}")
    finally:
        run("systemctl", "start", "ingest")
    shutil.rmtree(snapshot)
    return 0


def qdrant(place: Path) -> None:
    """Make and fetch a snapshot of each collection, and export its points."""
    for one in call("GET", f"{QDRANT}/collections", QDRANT_KEY)["result"]["collections"]:
        name = one["name"]
        at = f"{QDRANT}/collections/{name}/snapshots"
        snapshot = call("POST", at, QDRANT_KEY)["result"]["name"]
        folder = made(place / name)
        with (
            urlopen(Request(f"{at}/{snapshot}", headers=QDRANT_KEY)) as read,  # noqa: S310 - always http
            (folder / "snapshot.snapshot").open("wb") as out,
        ):
            shutil.copyfileobj(read, out)
        call("DELETE", f"{at}/{snapshot}", QDRANT_KEY)
        with (folder / "export.json").open("w", encoding="utf-8") as export:
            body: dict[str, Any] = {"limit": PAGE, "with_vector": True, "with_payload": True}
            while True:
                page = call("POST", f"{QDRANT}/collections/{name}/points/scroll", QDRANT_KEY, body)["result"]
                export.writelines(json.dumps(point) + "\n" for point in page["points"])
                if page["next_page_offset"] is None:
                    break
                body["offset"] = page["next_page_offset"]


def mongodb(place: Path) -> None:
    """Dump everything, and export each collection."""
    run("mongodump", *MONGODB, "--out", place / "dump")
    for file in sorted(place.glob("dump/*/*.bson")):
        database, name = file.parent.name, file.stem
        with (made(place / "export") / f"{database}.{name}.json").open("wb") as out:
            run("mongoexport", *MONGODB, "-d", database, "-c", name, "--jsonFormat", "canonical", out=out)


def redis() -> None:
    """Make dump.rdb anew; it and the append-only file are packed where they lie."""
    run("redis-cli", "BGSAVE", env=REDIS_PASSWORD)
    while b"rdb_bgsave_in_progress:0" not in run("redis-cli", "INFO", "persistence", env=REDIS_PASSWORD):
        time.sleep(0.1)


def langsmith(place: Path) -> None:
    """Export projects and runs."""
    projects = call("GET", f"{LANGSMITH}/sessions?limit=100", LANGSMITH_KEY)
    (made(place) / "projects.json").write_text(json.dumps(projects), encoding="utf-8")
    body: dict[str, Any] = {"session": [one["id"] for one in projects], "limit": 100}
    runs = call("POST", f"{LANGSMITH}/runs/query", LANGSMITH_KEY, body)["runs"]
    (place / "runs.json").write_text(json.dumps(runs), encoding="utf-8")


def prometheus() -> Path:
    """Have a snapshot made; return its folder, which is packed where it lies."""
    return SNAPSHOTS / str(call("POST", f"{PROMETHEUS}/admin/tsdb/snapshot", {})["data"]["name"])


def grafana(place: Path) -> None:
    """Copy the database, and export each dashboard."""
    run("sqlite3", "/var/lib/grafana/grafana.db", f".backup {made(place)}/grafana.db")
    for one in call("GET", f"{GRAFANA}/search?type=dash-db", GRAFANA_LOGIN):
        found = call("GET", f"{GRAFANA}/dashboards/uid/{one['uid']}", GRAFANA_LOGIN)
        (made(place / "dashboards") / f"{one['uid']}.json").write_text(json.dumps(found), encoding="utf-8")


def run(*command: str | Path, env: dict[str, str] | None = None, out: Any = subprocess.PIPE) -> bytes:
    """Run one tool and return its output."""
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(command, check=True, stdout=out, env={**path, **(env or {})}).stdout or b""


def call(method: str, address: str, headers: dict[str, str], body: Any = None) -> Any:
    """Call an API and return its JSON."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json", **headers}
    request = Request(address, data=data, headers=headers, method=method)  # noqa: S310 - always http
    with urlopen(request, timeout=600) as answer:  # noqa: S310
        return json.load(answer)


def made(folder: Path) -> Path:
    """Return a folder, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
