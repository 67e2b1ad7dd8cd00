# SPDX-License-Identifier: GPL-3.0-or-later
"""How long ingestion is paused for a backup of a whole AI stack, and all of it takes, against doing it by hand.

`host` makes the host, on the controller; in it `python3 -m tools.bench.stack SCALE ENDPOINT` fills the stack's servers
and prints one line of JSON for each measurement. Everybody uploads to the lab's S3 server.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tools.bench.by_hand import ARCHIVE, FILES, OUT, QDRANT, QDRANT_KEY, REDIS_PASSWORD
from tools.bench.data import PLACE, Maker, drop_pages
from tools.bench.running import ENVIRONMENT, timed, untimed
from tools.bench.subjects import PROGRAM, STORES
from tools.lab import hosts, s3, stack
from tools.lab.common import ROOT, run

NAME = "bench-stack"
BUCKET = "bench-stack"
CREDENTIALS = Path("/root/.aws/credentials")
# 3 GB together. Of MongoDB and Qdrant as much as the stand-ins bear: one copies all documents into its memory when a
# snapshot is opened, and answers with all of a collection at once; the other's JSON is Python's.
WEIGHTS_BYTES, REDIS_BYTES, MONGODB_BYTES = 2_000_000_000, 800_000_000, 200_000_000
VECTORS, SAMPLES = 10_000, 200_000
_VALUE_BYTES, _DIMENSION, _BATCH, _SERIES, _COLLECTIONS = 8_000, 128, 500, 50, 10
SERVERS = [Path("/var/lib") / name for name in ("redis", "mongodb", "qdrant", "prometheus", "grafana", "langsmith")]
PREPARE = f"""set -eu
sh {stack.PLACE}/inteligencia/install.sh {stack.PLACE} seeded
sh {stack.PLACE}/inteligencia/clients.sh fill 2>&1
for tool in mongodump mongoexport; do install {stack.PLACE}/standins/mongo_tools.py /usr/local/bin/$tool; done
"""
COMPONENTS = {
    "qdrant": [{"name": "qdrant", "api_key": QDRANT_KEY["api-key"]}],
    "mongodb": [{"name": "mongodb", "host": "127.0.0.1", "port": 27117}],
    "redis": [{"name": "redis", "password": REDIS_PASSWORD["REDISCLI_AUTH"]}],
    "langchain": [{"name": "langchain", "directory": f"{FILES}/langchain"}],
    "langsmith": [{"name": "langsmith", "url": "http://127.0.0.1:1984", "api_key": "lsv2_key_of_the_stack"}],
    "llm": [{"name": "gpt", "directory": f"{FILES}/gpt", "weights": ["weights"]}],
    "infra": [{"name": "infra", "directory": f"{FILES}/infra", "scripts": ["etl"]}],
    "prometheus": [{"name": "prometheus"}],
    "grafana": [{"name": "grafana", "password": "grafana-password-of-the-stack"}],
}


@contextlib.contextmanager
def host() -> Iterator[hosts.Host]:
    """Make a host on which all of the stack runs, and remove it. LabError when it cannot be had."""
    server = s3.up()
    made = hosts.create(NAME, "debian13-stack", mounts=[f"{ROOT}:/restaura:ro", *stack.mounts()])
    try:
        run("docker", "exec", "-i", made.container, "sh", "-s", stdin=PREPARE)
        run("docker", "exec", made.container, "mkdir", "-p", str(CREDENTIALS.parent))
        run("docker", "cp", server.credentials, f"{made.container}:{CREDENTIALS}")
        yield made
    finally:
        hosts.destroy(NAME)


def main(arguments: list[str]) -> int:
    """Fill the stack and measure each way; BenchError when a script fails."""
    scale, endpoint = float(arguments[0]), arguments[1]
    PLACE.mkdir(exist_ok=True)
    _fill(scale)
    bucket = _bucket(endpoint)
    try:
        began = _ready()
        measured = timed(f"exec python3 {Path(__file__).with_name('by_hand.py')} {endpoint} {BUCKET}")
        # They hold ingestion from their first step to their last.
        _tell("bare", time.monotonic() - began, measured.seconds, ARCHIVE.stat().st_size)
        untimed(f"rm -rf {OUT} {ARCHIVE}")
        for store in STORES:
            root = _configure(store, endpoint)
            began = _ready()
            ours = timed(f"RESTAURA_ROOT={root} exec {PROGRAM} run all --json > {PLACE}/run.json", memory=True)
            seconds = time.monotonic() - began
            told = json.loads((PLACE / "run.json").read_text(encoding="utf-8"))
            stored = sum(one.size for one in bucket.objects.filter(Prefix=f"{store}/"))
            _tell(store, seconds, told["pause_seconds"], stored, ours.peak_mib)
    finally:
        bucket.objects.all().delete()
        bucket.delete()
    return 0


def _fill(scale: float) -> None:
    """Give the servers their data, and write it down: nothing is saved or rewritten when the measuring begins."""
    import redis

    maker = Maker(7)
    _fill_weights(maker, int(WEIGHTS_BYTES * scale))
    _fill_mongodb(maker, int(MONGODB_BYTES * scale))
    _fill_qdrant(maker, int(VECTORS * scale))
    _fill_prometheus(maker, int(SAMPLES * scale))
    store = redis.Redis(password=REDIS_PASSWORD["REDISCLI_AUTH"])
    keys = int(REDIS_BYTES * scale / _VALUE_BYTES)
    for first in range(0, keys, _BATCH):
        with store.pipeline(transaction=False) as pipe:
            for number in range(first, min(first + _BATCH, keys)):
                pipe.set(f"memory:{number}", maker.content(_VALUE_BYTES))
            pipe.execute()
    _settle(store)
    store.bgrewriteaof()
    _settle(store)


def _settle(store: Any) -> None:
    """Wait until Redis saves and rewrites nothing."""
    busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")
    while any(store.info("persistence")[one] for one in busy):
        time.sleep(0.1)


def _fill_weights(maker: Maker, size: int) -> None:
    """Write a file that is half noise and half text."""
    folder = FILES / "gpt/weights"
    folder.mkdir()
    piece = 1 << 20
    with (folder / "model.bin").open("wb") as out:
        while out.tell() < size:
            out.write(maker.random.randbytes(piece))
            out.write(maker.words(piece).encode())
    untimed(f"chown -R ingest: {folder}")


def _fill_mongodb(maker: Maker, size: int) -> None:
    import pymongo

    # Any: the types of pymongo's stubs are not those of the pymongo that the host has.
    database: Any = pymongo.MongoClient("127.0.0.1", 27117, directConnection=True)["knowledge"]
    each = size // _COLLECTIONS // _VALUE_BYTES
    for collection in range(_COLLECTIONS):
        for first in range(0, each, _BATCH):
            numbers = range(first, min(first + _BATCH, each))
            documents = [{"_id": number, "text": maker.words(_VALUE_BYTES)} for number in numbers]
            database[f"pages_{collection}"].insert_many(documents)


def _fill_qdrant(maker: Maker, count: int) -> None:
    place = f"{QDRANT}/collections/passages"
    _put(place, {"vectors": {"size": _DIMENSION, "distance": "Dot"}})
    for first in range(0, count, _BATCH):
        points = [
            {
                "id": number,
                "vector": [maker.random.uniform(-1, 1) for _ in range(_DIMENSION)],
                "payload": {"text": maker.words(300)},
            }
            for number in range(first, min(first + _BATCH, count))
        ]
        _put(f"{place}/points?wait=true", {"points": points})


def _put(address: str, body: Any) -> None:
    headers = {"Content-Type": "application/json", **QDRANT_KEY}
    request = Request(address, data=json.dumps(body).encode(), headers=headers, method="PUT")  # noqa: S310 - always http
    with urlopen(request, timeout=300):  # noqa: S310
        pass


def _fill_prometheus(maker: Maker, count: int) -> None:
    """Give Prometheus the last day but three hours in blocks, and turn on what makes snapshots."""
    text, step = PLACE / "metrics.txt", 21 * 3600 * _SERIES / count
    began = time.time() - 24 * 3600
    with text.open("w", encoding="utf-8") as out:
        out.write("# TYPE load gauge\n")
        for series in range(_SERIES):
            for number in range(count // _SERIES):
                out.write(f'load{{job="j{series}"}} {maker.random.random():.6f} {began + number * step:.3f}\n')
        out.write("# EOF\n")
    data = "/var/lib/prometheus/metrics2"
    untimed(
        f"promtool tsdb create-blocks-from openmetrics {text} {data}; rm {text}; chown -R prometheus: {data}; "
        """sed -i 's/^ARGS=.*/ARGS="--web.enable-admin-api"/' /etc/default/prometheus; systemctl restart prometheus; """
        "until curl -fs http://127.0.0.1:9090/-/ready; do sleep 0.2; done"
    )


def _bucket(endpoint: str) -> Any:
    """Return the bucket, made anew."""
    import boto3

    bucket = boto3.resource("s3", endpoint_url=endpoint).Bucket(BUCKET)
    if bucket.creation_date:
        bucket.objects.all().delete()
    else:
        bucket.create()
    return bucket


def _configure(store: str, endpoint: str) -> Path:
    keys = configparser.ConfigParser()
    keys.read(CREDENTIALS)
    access, secret = keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"]
    place = {"location": f"s3:{endpoint}/{BUCKET}/{store}", "s3_access_key": access, "s3_secret_key": secret}
    pause = {"units": ["ingest.service"]}
    declaration = {
        "settings": {"host": "bench", "reserve_percent": 1},
        "stores": [{"name": "store", "type": store, **place}],
        "plans": [{"name": "all", "pause": pause, "fingerprint": "catalog", "drill": "never"}],
        "components": COMPONENTS,
    }
    root = PLACE / f"stack-{store}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    subprocess.run(
        [PROGRAM, "configure"],
        input=json.dumps(declaration).encode(),
        env={**ENVIRONMENT, "RESTAURA_ROOT": str(root)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return root


def _ready() -> float:
    drop_pages(FILES, *SERVERS)
    return time.monotonic()


def _tell(name: str, seconds: float, paused: float, stored: int, peak: float | None = None) -> None:
    told = {"name": f"stack/{name}", "seconds": round(seconds, 2), "pause_seconds": round(paused, 2), "stored": stored}
    if peak is not None:
        told["peak_mib"] = round(peak, 1)
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
