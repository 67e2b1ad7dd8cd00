# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in of a Qdrant server as a unit of systemd, and Qdrant's own client to fill and to read it."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tools.lab import clients

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = clients.folder_of("qdrant")
UNIT = """[Unit]
Description=Qdrant (stand-in)
[Service]
ExecStart=/usr/bin/python3 {program}
Environment=PYTHONPATH={libraries} PYTHONDONTWRITEBYTECODE=1
{environment}
"""


def client_of(url: str, **options: Any) -> Any:
    """Return Qdrant's own client."""
    # After the system's packages, which other tests have loaded already.
    if str(LIBRARIES) not in sys.path:
        sys.path.append(str(LIBRARIES))
    from qdrant_client import QdrantClient

    return QdrantClient(url=url, check_compatibility=False, timeout=60, **options)


@dataclass
class QdrantServer:
    """One server below a directory; `environment` is its configuration, as the real one reads it."""

    place: Path
    port: int = 6333
    environment: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"

    @property
    def unit(self) -> str:
        """The name of its unit."""
        return f"qdrant-{self.port}"

    @property
    def url(self) -> str:
        """Where it answers."""
        scheme = "https" if "QDRANT__TLS__CERT" in self.environment else "http"
        return f"{scheme}://{self.address}:{self.port}"

    @property
    def trusted(self) -> str | bool:
        """The certificate that is trusted: its own, where it has one."""
        return self.environment.get("QDRANT__TLS__CERT", True)

    @property
    def storage(self) -> Path:
        """Where its data is."""
        return self.place / "storage"

    def start(self, **environment: str) -> "QdrantServer":
        """Write the unit, start it, and wait until it answers."""
        self.environment |= environment
        told = {
            "QDRANT__STORAGE__STORAGE_PATH": str(self.storage),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(self.place / "snapshots"),
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.port),
            **self.environment,
        }
        text = UNIT.format(
            program=ROOT / "tests/standins/qdrant_server.py",
            libraries=LIBRARIES,
            environment="\n".join(f"Environment={key}={value}" for key, value in told.items()),
        )
        self.storage.mkdir(parents=True, exist_ok=True)
        Path(f"/etc/systemd/system/{self.unit}.service").write_text(text)
        systemctl("daemon-reload")
        systemctl("restart", self.unit)
        deadline = time.monotonic() + 60
        while not self.ready():
            assert time.monotonic() < deadline, journal(self.unit)
            time.sleep(0.05)
        return self

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=5, verify=self.trusted).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """Stop it."""
        systemctl("stop", self.unit)

    def wipe(self) -> None:
        """Stop it and lose everything on its disk."""
        self.stop()
        shutil.rmtree(self.place)
        self.place.mkdir()

    def remove(self) -> None:
        """Stop it and remove its unit."""
        subprocess.run(["systemctl", "kill", "-s", "KILL", self.unit], capture_output=True, check=False)
        self.stop()
        Path(f"/etc/systemd/system/{self.unit}.service").unlink(missing_ok=True)

    def faults(self, **faults: Any) -> None:
        """Have things go wrong from now on, or nothing any more."""
        path = self.storage / "faults.json"
        path.with_suffix(".new").write_text(json.dumps(faults))
        path.with_suffix(".new").replace(path)

    def makes_a_snapshot(self) -> bool:
        """Whether it is in the midst of a snapshot."""
        return any(self.storage.glob("tmp/*/made.snapshot"))

    def files(self) -> list[str]:
        """Name the snapshots and uploads that lie on its disk."""
        return sorted(str(one.relative_to(self.place)) for one in self.place.glob("snapshots/*/*"))

    def client(self, **options: Any) -> Any:
        """Return Qdrant's own client of it."""
        return client_of(self.url, **options)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request as it stands in Qdrant's documentation, and return its result."""
        key = self.environment.get("QDRANT__SERVICE__API_KEY", "")
        answer = requests.request(
            method, self.url + path, json=body, headers={"api-key": key} if key else {}, timeout=60, verify=self.trusted
        )
        assert answer.ok, answer.text
        return answer.json()["result"]


def systemctl(*arguments: str) -> None:
    """Run systemctl."""
    subprocess.run(["systemctl", *arguments], check=True, capture_output=True)


def journal(unit: str) -> str:
    """Return the end of what a unit wrote."""
    return subprocess.run(["journalctl", "-u", unit, "-n", "40"], capture_output=True, text=True, check=False).stdout


DOCS = {
    "vectors": {
        "text": {"size": 16, "distance": "Cosine"},
        "img": {"size": 8, "distance": "Dot", "on_disk": True},
        "late": {"size": 4, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}},
    },
    "sparse_vectors": {"bm25": {"modifier": "idf"}},
    "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}},
    "on_disk_payload": True,
    "optimizers_config": {"indexing_threshold": 1000},
}
INDEXES = {
    "k": "integer",
    "tag": "keyword",
    "body": {"type": "text", "tokenizer": "word", "lowercase": True},
    "when": "datetime",
    "geo": "geo",
    "u": {"type": "uuid"},
}


def make_docs(server: QdrantServer, points: int = 60, name: str = "docs") -> None:
    """Make a collection with every kind of vector, six payload indexes, and odd payloads."""
    server.call("PUT", f"/collections/{name}", DOCS)
    for field_name, schema in INDEXES.items():
        server.call("PUT", f"/collections/{name}/index?wait=true", {"field_name": field_name, "field_schema": schema})
    drawn = random.Random(name)

    def vector(size: int) -> list[float]:
        return [drawn.gauss(0, 1) for _ in range(size)]

    made: list[dict[str, Any]] = [
        {
            "id": number,
            "vector": {
                "text": vector(16),
                "img": vector(8),
                "late": [vector(4) for _ in range(1 + number % 3)],
                "bm25": {"indices": [number, 1000 + number], "values": [0.5, drawn.random()]},
            },
            "payload": {
                "k": 2**63 - 1 - number,
                "f": 0.1,
                "whole": 1.0,
                "null": None,
                "tag": ["a", "ç☃"],
                "body": "a text",
                "when": "2026-01-02T03:04:05Z",
                "geo": {"lon": 13.4, "lat": 52.5},
                "deep": {"list": [1, "1", True, {"x": []}]},
            },
        }
        for number in range(1, points)
    ]
    made.append({"id": "e9408f2b-b917-4af1-ab75-d97ac6b2c047", "vector": {"text": vector(16)}, "payload": {}})
    server.call("PUT", f"/collections/{name}/points?wait=true", {"points": made})


def make_plain(server: QdrantServer, name: str = "plain") -> None:
    """Make a collection with one vector that has no name."""
    server.call("PUT", f"/collections/{name}", {"vectors": {"size": 4, "distance": "Euclid"}})
    points = [{"id": 1, "vector": [0.1, 0.2, 0.3, 0.4], "payload": {}}, {"id": 2, "vector": [1.5, -2.0, 3.25, 0.0]}]
    server.call("PUT", f"/collections/{name}/points?wait=true", {"points": points})


def alias(server: QdrantServer, name: str, collection: str) -> None:
    """Point an alias at a collection."""
    action = {"create_alias": {"collection_name": collection, "alias_name": name}}
    server.call("POST", "/collections/aliases", {"actions": [action]})


def digest(server: QdrantServer, **options: Any) -> str:
    """Return a digest of everything on the server, as Qdrant's own client reads it."""
    client = server.client(**options)
    found: dict[str, Any] = {
        "aliases": sorted((one.alias_name, one.collection_name) for one in client.get_aliases().aliases)
    }
    for name in sorted(one.name for one in client.get_collections().collections):
        told = client.get_collection(name)
        points, offset = [], None
        while True:
            page, offset = client.scroll(name, limit=100, offset=offset, with_payload=True, with_vectors=True)
            points += [one.model_dump(mode="json") for one in page]
            if offset is None:
                break
        schema = {key: [one.data_type, str(one.params)] for key, one in sorted(told.payload_schema.items())}
        exact = client.count(name, exact=True).count
        found[name] = [told.config.model_dump(mode="json"), schema, exact, points]
    client.close()
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
