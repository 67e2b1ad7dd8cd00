# SPDX-License-Identifier: GPL-3.0-or-later
"""A Grafana with something in it: filled, changed and read through its own API, by this client alone."""

import base64
import contextlib
import hashlib
import json
import sqlite3
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADMIN = ("admin", "admin-of-the-lab")
PASSWORD = "data-source-password"
HOOK = "https://hooks.example.com/secret-of-slack"
PROVISIONING = "/api/v1/provisioning"


@dataclass
class Client:
    """A client of Grafana's API with basic authentication; every call raises for a status of 300 and above."""

    url: str
    login: tuple[str, str] = ADMIN
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON and return JSON."""
        pair = base64.b64encode(":".join(self.login).encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json", **self.headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def find(self, path: str) -> Any:
        """Return what stands there, None where nothing does."""
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def status(self, method: str, path: str, body: Any = None) -> int:
        """Return the status of an answer."""
        try:
            self.call(method, path, body)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def wait(self, seconds: float = 60) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.call("GET", "/api/health")
            except OSError:
                assert time.monotonic() < deadline, f"{self.url} does not answer"
                time.sleep(0.1)
            else:
                return

    def token(self, role: str = "Admin") -> str:
        """Make a service account's token."""
        return str(
            self.call("POST", "/api/serviceaccounts/1/tokens", {"name": f"t{time.time_ns()}", "role": role})["key"]
        )

    def fill(self, dashboards: int = 3) -> None:
        """Make one of everything."""
        self.call(
            "POST",
            "/api/datasources",
            {
                "uid": "prom",
                "name": "Prometheus",
                "type": "prometheus",
                "access": "proxy",
                "isDefault": True,
                "url": "http://127.0.0.1:9090",
                "jsonData": {"httpMethod": "POST"},
                "basicAuth": True,
                "secureJsonData": {"basicAuthPassword": PASSWORD, "httpHeaderValue1": "Bearer x"},
            },
        )
        self.call("POST", "/api/folders", {"uid": "ops", "title": "Operations"})
        self.call("POST", "/api/folders", {"uid": "ops-db", "title": "Databases", "parentUid": "ops"})
        self.call(
            "POST",
            "/api/library-elements",
            {"uid": "lib1", "name": "Load", "kind": 1, "folderUid": "ops", "model": {"type": "stat", "title": "Load"}},
        )
        for number in range(dashboards):
            model = {"uid": f"d{number}", "title": f"Dashboard {number}", "panels": [panel(f"CPU of çã {number}")]}
            folder = "ops-db" if number % 2 else ""
            self.call("POST", "/api/dashboards/db", {"dashboard": model, "folderUid": folder})
        self.call("PUT", f"{PROVISIONING}/templates/short", {"template": '{{ define "short" }}x{{ end }}'})
        interval = {"times": [{"start_time": "22:00", "end_time": "23:59"}], "weekdays": ["saturday", "sunday"]}
        self.call("POST", f"{PROVISIONING}/mute-timings", {"name": "weekend", "time_intervals": [interval]})
        self.call(
            "POST",
            f"{PROVISIONING}/contact-points",
            {"uid": "cp1", "name": "Slack", "type": "slack", "settings": {"recipient": "#ops", "url": HOOK}},
        )
        self.call("PUT", f"{PROVISIONING}/policies", policies())
        for uid, threshold in (("r1", 90), ("r2", 5)):
            self.call("POST", f"{PROVISIONING}/alert-rules", rule(uid, threshold))
        group = self.call("GET", f"{PROVISIONING}/folder/ops/rule-groups/hosts")
        self.call("PUT", f"{PROVISIONING}/folder/ops/rule-groups/hosts", {**group, "interval": 120})

    def everything(self) -> dict[str, Any]:
        """Return all that a person set up, as the API tells it; secrets by whether they open, and to what."""
        uids = sorted(one["uid"] for one in self.call("GET", "/api/search?type=dash-db"))
        sources = [one["uid"] for one in self.call("GET", "/api/datasources")]
        found = {f"dashboard {uid}": self.call("GET", f"/api/dashboards/uid/{uid}") for uid in uids}
        found |= {f"source {uid}": self.call("GET", f"/api/datasources/uid/{uid}") for uid in sources}
        found |= {f"opened {uid}": self.call("GET", f"/api/datasources/uid/{uid}/health") for uid in sources}
        for name in ("folders", "folders?parentUid=ops", "library-elements"):
            found[name] = self.call("GET", f"/api/{name}")
        for name in ("alert-rules", "contact-points/export?decrypt=true", "policies", "mute-timings", "templates"):
            found[name] = self.find(f"{PROVISIONING}/{name}")
        found["group"] = self.find(f"{PROVISIONING}/folder/ops/rule-groups/hosts")
        return found

    def portable(self) -> dict[str, Any]:
        """Return `everything` without what a server makes up itself."""
        made_up = ("id", "version", "updated", "created", "orgId", "orgID", "meta")

        def clean(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: clean(one) for name, one in value.items() if name not in made_up}
            return [clean(one) for one in value] if isinstance(value, list) else value

        found: dict[str, Any] = clean(self.everything())
        return found


def panel(title: str) -> dict[str, Any]:
    """Return a panel."""
    return {"id": 1, "type": "timeseries", "title": title, "targets": [{"expr": "up", "refId": "A"}]}


def policies(receiver: str = "Slack") -> dict[str, Any]:
    """Return a tree of notification policies."""
    inner = {"receiver": receiver, "object_matchers": [["team", "=", "ops"]], "mute_time_intervals": ["weekend"]}
    return {"receiver": "grafana-default-email", "group_by": ["alertname"], "routes": [inner]}


def rule(uid: str, threshold: float) -> dict[str, Any]:
    """Return an alert rule."""
    model = {"expr": f"node_load1 > {threshold}", "refId": "A"}
    return {
        "uid": uid,
        "title": f"Rule {uid}",
        "folderUID": "ops",
        "ruleGroup": "hosts",
        "condition": "A",
        "for": "60s",
        "noDataState": "NoData",
        "execErrState": "Error",
        "labels": {"team": "ops"},
        "isPaused": False,
        "annotations": {"summary": "high"},
        "data": [{"refId": "A", "datasourceUid": "prom", "model": model, "relativeTimeRange": {"from": 600, "to": 0}}],
    }


def dump(database: Path) -> str:
    """Return a digest of a database by SQLite's own dump of it."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        return hashlib.sha256("\n".join(opened.iterdump()).encode(errors="replace")).hexdigest()
