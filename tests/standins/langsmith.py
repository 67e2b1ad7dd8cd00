#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for LangSmith's HTTP API: langsmith.py --port 1984 --state DIR; its keys come from LANGSMITH_STANDIN_KEYS.

Everything is kept in DIR (SQLite, and a file for each attachment). It answers as these pages have it, all below
https://docs.langchain.com/langsmith/ unless they say otherwise:

- smithdb-sdk-migration-query-runs: POST /api/v2/runs/query gives ids alone without `selects`, the last day alone
  without `min_start_time`, at most 1000 a page, `next_cursor`; POST /api/v1/runs/query has `cursors.next`.
- smith-api/runs: /runs/batch and /runs/multipart take no time that is more than 24 hours off; /runs/stats counts.
- smith-api/tracer-sessions, smith-api/datasets, smith-api/feedback, smith-api/annotation-queues: lists by `limit` (at
  most 100) and `offset`; names are unique, 409 otherwise.
- smith-api/examples/upload-examples and manage-datasets: multipart, a part for each field and attachment; examples
  have versions that `as_of` names; attachments are fetched at presigned addresses, which expire (403).
- smith-api/repos, smith-api/commits: a prompt's commits newest first; 409 where nothing changed; no other name for one.
- cloud-rate-limits and administration-overview: 429 when more is asked than is allowed.
- The SDK of PyPI (langsmith 0.15.0, client.py): X-API-Key and X-Tenant-Id, 403 `org_scoped_key_requires_workspace`,
  paths with and without /api/v1, what each method sends and expects.

What the real one does not have is below /_standin: faults to come, and time to pass.
"""

import argparse
import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import secrets
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TENANT = "11111111-2222-4333-8444-555555555555"
DAY = timedelta(hours=24)
SIMPLE = {"session": "sessions", "dataset": "datasets", "queue": "annotation-queues"}
# Fields of v2 that have another name, or another form, than those of v1.
V2: dict[str, Callable[[dict[str, Any]], Any]] = {
    "PROJECT_ID": lambda run: run["session_id"],
    "RUN_TYPE": lambda run: run["run_type"].upper(),
    "STATUS": lambda run: run["status"].upper(),
    "METADATA": lambda run: (run.get("extra") or {}).get("metadata"),
    "IS_ROOT": lambda run: not run.get("parent_run_id"),
    "PARENT_RUN_IDS": lambda run: run["parent_run_ids"],
    "MANIFEST": lambda run: run.get("serialized"),
}


class Refusal(Exception):  # noqa: N818
    """An answer that says no."""

    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)


def text(moment: datetime) -> str:
    """Return a moment as the API writes it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}+00:00"


def moment(said: str) -> datetime:
    """Read a moment."""
    found = datetime.fromisoformat(said)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class State:
    """What is on disk. `obj` holds current objects, `version` every version of every example."""

    def __init__(self, folder: Path) -> None:
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.db = sqlite3.connect(folder / "langsmith.db", check_same_thread=False, isolation_level=None)
        self.kept = sqlite3.connect(folder / "kept.db", check_same_thread=False, isolation_level=None)
        self.db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS obj "
            "(kind TEXT, id TEXT, above TEXT, at TEXT, body TEXT, PRIMARY KEY (kind, id));"
            "CREATE TABLE IF NOT EXISTS version (id TEXT, dataset TEXT, since TEXT, until TEXT, body TEXT);"
            "CREATE TABLE IF NOT EXISTS blob (id TEXT PRIMARY KEY, mime TEXT);"
            "CREATE TABLE IF NOT EXISTS token (id TEXT PRIMARY KEY, blob TEXT, expires REAL);"
        )

    @staticmethod
    def copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
        """Make `target` what `source` is: how a test goes back to where it began."""
        source.backup(target)

    def put(self, kind: str, body: dict[str, Any], above: str = "", at: str = "") -> dict[str, Any]:
        """Write an object."""
        row = (kind, body["id"], above, at, json.dumps(body))
        self.db.execute("INSERT OR REPLACE INTO obj VALUES (?, ?, ?, ?, ?)", row)
        return body

    def get(self, kind: str, key: str, what: str = "") -> dict[str, Any]:
        """Return an object; 404 when there is none."""
        row = self.db.execute("SELECT body FROM obj WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        if row is None:
            raise Refusal(404, f"{what or kind.capitalize()} not found")
        return dict(json.loads(row[0]))

    def all(self, kind: str, above: str | None = None) -> list[dict[str, Any]]:
        """Return the objects of a kind, oldest first."""
        query = "SELECT body FROM obj WHERE kind = ?" + (" AND above = ?" if above is not None else "")
        given = (kind, above) if above is not None else (kind,)
        return [json.loads(row[0]) for row in self.db.execute(f"{query} ORDER BY at, id", given)]

    def drop(self, kind: str, key: str) -> None:
        """Delete an object."""
        self.get(kind, key)
        self.db.execute("DELETE FROM obj WHERE kind = ? AND id = ?", (kind, key))

    def keep_blob(self, data: bytes, mime: str) -> str:
        """Keep an attachment and return its id."""
        key = hashlib.sha256(data + mime.encode()).hexdigest()
        (self.blobs / key).write_bytes(data)
        self.db.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (key, mime))
        return key

    def examples(self, dataset: str, as_of: str) -> list[dict[str, Any]]:
        """Return the examples of a dataset as of a moment."""
        query = "SELECT body FROM version WHERE dataset = ? AND since <= ? AND until > ? ORDER BY since, id"
        return [json.loads(row[0]) for row in self.db.execute(query, (dataset, as_of, as_of))]

    def change_example(self, key: str, dataset: str, body: dict[str, Any] | None) -> str:
        """Write a new version of an example (None: it is deleted) and return when."""
        at = text(now())
        self.db.execute("UPDATE version SET until = ? WHERE id = ? AND until = '9'", (at, key))
        if body is not None:
            body["modified_at"] = at
            row = (key, dataset, at, "9", json.dumps(body))
            self.db.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?)", row)
        return at


class Faults:
    """What goes wrong next: rules of {path (a regular expression), status | cut | loop, times, retry_after}."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.lifetime = 300.0
        self.v2 = True
        self.asked: dict[str, int] = {}

    def next(self, method: str, path: str) -> dict[str, Any] | None:
        """Return the rule that this request meets."""
        for rule in self.rules:
            if re.search(rule["path"], f"{method} {path}") and rule.get("times", 1) > 0:
                if rule.get("after", 0) > 0:
                    rule["after"] -= 1
                    continue
                rule["times"] = rule.get("times", 1) - 1
                return rule
        return None


STATE: State
FAULTS = Faults()
KEYS: list[str] = []


class LangSmith(http.server.BaseHTTPRequestHandler):
    """The API."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing: addresses hold tokens."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            raw = b"".join(self._chunks())
        self.asked = parse_qs(url.query)
        self.raw = raw
        try:
            path = unquote(url.path).rstrip("/")
            if path.startswith("/_standin/"):
                self._answer(200, standin(path.removeprefix("/_standin/"), json.loads(raw or b"{}")))
                return
            version, path = ("v2", path.removeprefix("/api/v2")) if path.startswith("/api/v2/") else ("v1", path)
            path = re.sub(r"\A(/api)?(/v1)?", "", path)
            FAULTS.asked[path] = FAULTS.asked.get(path, 0) + 1
            rule = FAULTS.next(self.command, f"/{version}{path}")
            if rule and "status" in rule:
                headers = {"Retry-After": str(rule["retry_after"])} if "retry_after" in rule else {}
                raise Refusal(rule["status"], rule.get("detail", "fault"), **headers)
            if path not in ("/info", "/public/download"):
                self._authenticate()
            with STATE.lock:
                found = self._route(version, path)
            if rule and rule.get("loop"):
                found = looped(found, rule["loop"])
            self._answer(200, found, cut=bool(rule and rule.get("cut")))
        except Refusal as refusal:
            self._answer(refusal.status, {"detail": refusal.detail}, headers=refusal.headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, status: int, data: Any, *, cut: bool = False, headers: dict[str, str] | None = None) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(data, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _authenticate(self) -> None:
        key = self.headers.get("X-API-Key")
        if not key:
            raise Refusal(401, "Not authenticated")
        if key not in KEYS:
            raise Refusal(401, "Invalid token")
        tenant = self.headers.get("X-Tenant-Id")
        if tenant not in (None, TENANT):
            raise Refusal(403, "Forbidden")
        if key.startswith("lsv2_sk_") and not tenant:
            raise Refusal(403, {"error": "org_scoped_key_requires_workspace"})

    def _route(self, version: str, path: str) -> Any:
        words = path.strip("/").split("/")
        method, head, rest = self.command, words[0], words[1:]
        if version == "v2":
            return self._v2(method, words)
        plain: dict[str, Callable[[str, list[str]], Any]] = {
            "sessions": self._sessions,
            "runs": self._runs,
            "datasets": self._datasets,
            "examples": self._examples,
            "feedback": self._feedback,
            "annotation-queues": self._queues,
            "repos": self._repos,
            "commits": self._commits,
            "platform": self._platform,
        }
        if head in plain:
            return plain[head](method, rest)
        if path == "/info":
            flags = {"dataset_examples_multipart_enabled": True, "examples_multipart_enabled": True}
            batch = {"use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520}
            batch |= {"scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16, "scale_down_nempty_trigger": 4}
            return {"version": "0.16.4", "instance_flags": flags, "batch_ingest_config": batch}
        if path == "/settings":
            created = "2026-01-01T00:00:00+00:00"
            return {"id": TENANT, "display_name": "Lab", "created_at": created, "tenant_handle": "lab"}
        if path == "/public/download":
            return self._download()
        raise Refusal(404, "Not Found")

    @property
    def _json(self) -> Any:
        try:
            return json.loads(self.raw or b"null")
        except ValueError:
            raise Refusal(422, "not JSON") from None

    def _one(self, name: str, default: str = "") -> str:
        return self.asked.get(name, [default])[0]

    def _page(self, items: list[Any]) -> list[Any]:
        limit, offset = int(self._one("limit", "100")), int(self._one("offset", "0"))
        if not 1 <= limit <= 100:
            raise Refusal(422, "limit: Input should be less than or equal to 100")
        return items[offset : offset + limit]

    # Projects

    def _sessions(self, method: str, rest: list[str]) -> Any:
        if not rest and method == "GET":
            found = self._sorted(self._named(STATE.all("session")))
            return self._page([counted(one) for one in found])
        if not rest:
            given = self._json
            there = next((one for one in STATE.all("session") if one["name"] == given["name"]), None)
            if there and self._one("upsert") == "true":
                return there
            if there:
                raise Refusal(409, "Session already exists")
            body = {
                "id": str(uuid.uuid4()),
                "start_time": text(now()),
                "tenant_id": TENANT,
                "description": None,
                "extra": None,
                "reference_dataset_id": None,
                "trace_tier": "shortlived",
                **{name: value for name, value in given.items() if value is not None},
            }
            return self._new("session", body, body["start_time"])
        if method == "DELETE":
            for run in STATE.all("run", rest[0]):
                STATE.drop("run", run["id"])
        return self._plain(method, "session", rest[0])

    def _new(self, kind: str, body: dict[str, Any], at: str) -> dict[str, Any]:
        with contextlib.suppress(Refusal):
            STATE.get(kind, body["id"])
            raise FileExistsError
        return STATE.put(kind, body, at=at)

    def _plain(self, method: str, kind: str, key: str) -> Any:
        body = STATE.get(kind, key)
        if method == "GET":
            return counted(body) if kind == "session" else body
        if method == "DELETE":
            STATE.drop(kind, key)
            return {}
        given = self._json
        if kind == "session":
            # The SDK sends null for what is to stay.
            given = {name: value for name, value in given.items() if value is not None}
        if given.get("name", body.get("name")) != body.get("name") and any(
            one["name"] == given["name"] for one in STATE.all(kind)
        ):
            raise Refusal(409, f"{kind} with this name already exists.")
        at = STATE.db.execute("SELECT at FROM obj WHERE kind = ? AND id = ?", (kind, key)).fetchone()[0]
        return STATE.put(kind, body | given, at=at)

    def _named(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if name := self._one("name"):
            found = [one for one in found if one["name"] == name]
        if part := self._one("name_contains"):
            found = [one for one in found if part.lower() in one["name"].lower()]
        return [one for one in found if not self.asked.get("id") or one["id"] in self.asked["id"]]

    def _sorted(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Newest first, unless it is asked for otherwise.
        return found if self._one("sort_by_desc") == "false" else found[::-1]

    # Runs

    def _runs(self, method: str, rest: list[str]) -> Any:
        if rest == ["query"]:
            return self._query_v1(self._json)
        if rest == ["stats"]:
            given = self._json
            end = moment(given["end_time"]) if given.get("end_time") else now()
            runs = [run for key in given["session"] for run in STATE.all("run", key)]
            return {"run_count": sum(moment(run["start_time"]) <= end for run in runs)}
        if rest == ["batch"]:
            for run in self._json.get("post") or []:
                self._ingest(run["id"], run)
            for run in self._json.get("patch") or []:
                self._ingest(run["id"], run)
            return {}
        if rest == ["multipart"]:
            return self._run_parts()
        if len(rest) == 1 and method == "GET":
            return self._v1_run(STATE.get("run", rest[0]))
        if method in ("POST", "PATCH"):
            given = self._json
            self._ingest(rest[0] if rest else given["id"], given)
            return {}
        raise Refusal(404, "Not Found")

    def _run_parts(self) -> Any:
        runs: dict[str, dict[str, Any]] = {}
        files: list[tuple[str, str, bytes, str]] = []
        for name, mime, data in multipart(self.headers["Content-Type"], self.raw):
            operation, key, *field = name.split(".", 2)
            if operation == "attachment":
                files.append((key, field[0], data, mime))
            elif operation in ("post", "patch"):
                run = runs.setdefault(key, {})
                run.update({field[0]: json.loads(data)} if field else json.loads(data))
        for key, run in runs.items():
            self._ingest(key, run)
        for key, name, data, mime in files:
            run = STATE.get("run", key)
            run.setdefault("files", {})[name] = [STATE.keep_blob(data, mime), mime]
            STATE.put("run", run, run["session_id"], run["start_time"])
        return {}

    def _ingest(self, key: str, given: dict[str, Any]) -> None:
        for name in ("start_time", "end_time"):
            said = given.get(name)
            if said and abs(moment(said) - now()) > DAY:
                raise Refusal(422, f"{name} must be within 24 hours of now")
        before: dict[str, Any] = {}
        with contextlib.suppress(Refusal):
            before = STATE.get("run", key)
        run = {**before, **{name: value for name, value in given.items() if value is not None}, "id": key}
        if "session_id" not in run:
            name = run.pop("session_name", "default")
            there = next((one for one in STATE.all("session") if one["name"] == name), None)
            if there is None:
                there = {"id": str(uuid.uuid4()), "name": name, "start_time": text(now()), "tenant_id": TENANT}
                there |= {"description": None, "extra": None, "reference_dataset_id": None, "trace_tier": "shortlived"}
                STATE.put("session", there, at=there["start_time"])
            run["session_id"] = there["id"]
        run.setdefault("trace_id", key)
        run["start_time"] = text(moment(run["start_time"]))
        run["status"] = "error" if run.get("error") else "success" if run.get("end_time") else "pending"
        above = run.get("parent_run_id")
        run["parent_run_ids"] = []
        if above:
            with contextlib.suppress(Refusal):
                run["parent_run_ids"] = STATE.get("run", above)["parent_run_ids"]
            run["parent_run_ids"] = [*run["parent_run_ids"], above]
        STATE.put("run", run, run["session_id"], run["start_time"])

    def _chosen(self, projects: list[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        runs = [run for key in projects for run in STATE.all("run", key)]
        found = [run for run in runs if since <= moment(run["start_time"]) <= until]
        return sorted(found, key=lambda run: (run["start_time"], run["id"]), reverse=True)

    def _query_v1(self, given: dict[str, Any]) -> Any:
        if given.get("limit") and given["limit"] > 100:
            raise Refusal(422, "limit: Input should be less than or equal to 100")
        since = moment(given["start_time"]) if given.get("start_time") else datetime.fromtimestamp(0, UTC)
        said = re.search(r'lte\(start_time, "([^"]+)"\)', given.get("filter") or "")
        found = self._chosen(given.get("session") or [], since, moment(said[1]) if said else now() + DAY)
        found = [run for run in found if not given.get("id") or run["id"] in given["id"]]
        items, following = paged(found, given.get("cursor"), given.get("limit") or 100)
        wanted = given.get("select")
        rows = [self._v1_run(run) for run in items]
        chosen = [{name: row.get(name) for name in wanted} for row in rows] if wanted else rows
        return {"runs": chosen, "cursors": {"next": following}}

    def _v1_run(self, run: dict[str, Any]) -> dict[str, Any]:
        files = {
            f"attachment.{name}": self._presigned(blob, mime) for name, (blob, mime) in run.get("files", {}).items()
        }
        row = {name: value for name, value in run.items() if name != "files"}
        return row | {"s3_urls": files or None, "feedback_stats": stats(run), "thread_id": None}

    def _v2(self, method: str, words: list[str]) -> Any:
        if words[0] != "runs" or not FAULTS.v2:
            raise Refusal(404, "Not Found")
        if words[1:] != ["query"]:
            return self._v2_run(STATE.get("run", words[1]), self.asked.get("selects") or [])
        given = self._json
        if bool(given.get("project_ids")) == bool(given.get("reference_dataset_id")):
            raise Refusal(422, "set exactly one of project_ids and reference_dataset_id")
        size = given.get("page_size", 100)
        if not 1 <= size <= 1000:
            raise Refusal(422, "page_size must be between 1 and 1000")
        since = moment(given["min_start_time"]) if given.get("min_start_time") else now() - DAY
        until = moment(given["max_start_time"]) if given.get("max_start_time") else now()
        items, following = paged(self._chosen(given["project_ids"], since, until), given.get("cursor"), size)
        return {"items": [self._v2_run(run, given.get("selects") or []) for run in items], "next_cursor": following}

    def _v2_run(self, run: dict[str, Any], selects: list[str]) -> dict[str, Any]:
        found = {"id": run["id"]}
        for field in selects:
            name = field.lower()
            if field == "ATTACHMENTS":
                files = run.get("files", {}).items()
                found[name] = {one: self._presigned(blob, mime)["presigned_url"] for one, (blob, mime) in files}
            elif field == "FEEDBACK_STATS":
                found[name] = stats(run)
            else:
                value = V2[field](run) if field in V2 else run.get(name)
                if value is not None:
                    found[name] = value
        return found

    # Datasets and examples

    def _datasets(self, method: str, rest: list[str]) -> Any:
        if not rest and method == "GET":
            return self._page(self._sorted(self._named([self._dataset(one) for one in STATE.all("dataset")])))
        if not rest:
            given = self._json
            if any(one["name"] == given["name"] for one in STATE.all("dataset")):
                raise Refusal(409, "Dataset with this name already exists.")
            extra = given.pop("extra", None) or {}
            body = {"id": str(uuid.uuid4()), "created_at": text(now()), "tenant_id": TENANT, "description": None}
            body |= {"data_type": "kv", "inputs_schema_definition": None, "outputs_schema_definition": None}
            body |= {"transformations": None, "externally_managed": False, "modified_at": text(now())}
            body |= {name: value for name, value in given.items() if value is not None}
            body["metadata"] = extra.get("metadata")
            try:
                return self._dataset(self._new("dataset", body, text(now())))
            except FileExistsError:
                raise Refusal(409, "Dataset with this id already exists.") from None
        key = rest[0]
        STATE.get("dataset", key)
        if rest[1:] == ["versions"]:
            return self._page(versions(key))
        if rest[1:] == ["tags"]:
            given = self._json
            known = [one for one in versions(key) if one["as_of"] <= text(moment(given["as_of"]))]
            if not known:
                raise Refusal(404, "Dataset version not found")
            body = {"id": f"{key}:{given['tag']}", "as_of": known[0]["as_of"], "tag": given["tag"]}
            STATE.put("dataset tag", body, key)
            return {}
        if method == "DELETE":
            STATE.db.execute("DELETE FROM version WHERE dataset = ?", (key,))
        found = self._plain(method, "dataset", key)
        return self._dataset(found) if found else found

    def _dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        held = STATE.examples(body["id"], text(now()))
        return body | {"example_count": len(held), "session_count": 0, "last_session_start_time": None}

    def _examples(self, method: str, rest: list[str]) -> Any:
        as_of = self._one("as_of")
        at = text(moment(as_of)) if as_of and as_of != "latest" else text(now())
        if not rest and method == "GET":
            key = self._one("dataset")
            STATE.get("dataset", key)
            return self._page([self._shown(one) for one in STATE.examples(key, at)])
        if not rest or rest == ["bulk"]:
            given = self._json
            made = [self._example(one["dataset_id"], one) for one in (given if rest else [given])]
            return made if rest else made[0]
        row = STATE.db.execute("SELECT dataset FROM version WHERE id = ? AND until = '9'", (rest[0],)).fetchone()
        found = [one for one in STATE.examples(row[0], at) if one["id"] == rest[0]] if row else []
        if not found:
            raise Refusal(404, "Example not found")
        if method == "GET":
            return self._shown(found[0], whole=True)
        if method == "DELETE":
            STATE.change_example(rest[0], row[0], None)
            return {}
        given = self._json
        body = found[0] | {
            name: given[name] for name in ("inputs", "outputs", "metadata") if given.get(name) is not None
        }
        if given.get("split"):
            body["metadata"] = {**(body.get("metadata") or {}), "dataset_split": _list(given["split"])}
        STATE.change_example(rest[0], row[0], body)
        return {"message": "updated"}

    def _example(
        self, dataset: str, given: dict[str, Any], files: dict[str, list[str]] | None = None
    ) -> dict[str, Any]:
        STATE.get("dataset", dataset)
        key = given.get("id") or str(uuid.uuid4())
        if STATE.db.execute("SELECT 1 FROM version WHERE id = ? AND until = '9'", (key,)).fetchone():
            raise Refusal(409, f"Example {key} already exists")
        metadata = dict(given.get("metadata") or {})
        metadata["dataset_split"] = _list(given.get("split") or metadata.get("dataset_split") or "base")
        body = {
            "id": key,
            "dataset_id": dataset,
            "name": f"#{key[:4]}",
            "created_at": given.get("created_at") or text(now()),
            "inputs": given.get("inputs") or {},
            "outputs": given.get("outputs"),
            "metadata": metadata,
            "source_run_id": given.get("source_run_id"),
            "files": files or {},
        }
        STATE.change_example(key, dataset, body)
        return self._shown(body)

    def _shown(self, body: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
        row = {name: value for name, value in body.items() if name != "files"}
        if whole or "attachment_urls" in self.asked.get("select", []):
            files = body["files"].items()
            row["attachment_urls"] = {f"attachment.{one}": self._presigned(*file) for one, file in files} or None
        return row

    def _platform(self, method: str, rest: list[str]) -> Any:
        if rest[0] == "annotation-queues" and rest[2:] == ["items"]:
            return self._queue_items(method, rest[1])
        if rest[0] != "datasets" or rest[2:] != ["examples"]:
            raise Refusal(404, "Not Found")
        given: dict[str, dict[str, Any]] = {}
        files: dict[str, dict[str, list[str]]] = {}
        for name, mime, data in multipart(self.headers["Content-Type"], self.raw):
            key, _, field = name.partition(".")
            if field.startswith("attachment."):
                files.setdefault(key, {})[field.removeprefix("attachment.")] = [STATE.keep_blob(data, mime), mime]
            elif field:
                given.setdefault(key, {})[field] = json.loads(data)
            else:
                given.setdefault(key, {}).update(json.loads(data))
        if method == "POST":
            made = [self._example(rest[1], {**one, "id": key}, files.get(key)) for key, one in given.items()]
            return {"count": len(made), "example_ids": [one["id"] for one in made], "as_of": text(now())}
        for key, one in given.items():
            found = next((old for old in STATE.examples(rest[1], text(now())) if old["id"] == key), None)
            if found is None:
                raise Refusal(404, "Example not found")
            keep = (one.pop("attachments_operations", None) or {}).get("retain")
            kept = {name: file for name, file in found["files"].items() if keep is None or name in keep}
            body = found | {name: one[name] for name in ("inputs", "outputs", "metadata") if one.get(name) is not None}
            STATE.change_example(key, rest[1], body | {"files": kept | files.get(key, {})})
        return {"count": len(given), "example_ids": list(given), "as_of": text(now())}

    def _presigned(self, blob: str, mime: str) -> dict[str, str]:
        token = secrets.token_urlsafe(24)
        STATE.db.execute("INSERT INTO token VALUES (?, ?, ?)", (token, blob, time.time() + FAULTS.lifetime))
        url = f"http://{self.headers['Host']}/public/download?jwt={token}"
        return {"presigned_url": url, "mime_type": mime, "s3_url": f"s3://attachments/{blob}"}

    def _download(self) -> bytes:
        if self.headers.get("X-API-Key"):
            raise Refusal(400, "a presigned address takes no key")
        found = STATE.db.execute("SELECT blob, expires FROM token WHERE id = ?", (self._one("jwt"),)).fetchone()
        if found is None or found[1] < time.time():
            raise Refusal(403, "Request has expired")
        return (STATE.blobs / found[0]).read_bytes()

    # Feedback

    def _feedback(self, method: str, rest: list[str]) -> Any:
        if not rest and method == "GET":
            found = STATE.all("feedback")
            for name, field in (("run", "run_id"), ("session", "session_id"), ("key", "key")):
                if wanted := self.asked.get(name):
                    found = [one for one in found if one[field] in wanted]
            if until := self._one("max_created_at"):
                found = [one for one in found if moment(one["created_at"]) <= moment(until)]
            return self._page(found[::-1])
        if not rest:
            given = {name: value for name, value in self._json.items() if name != "feedback_config"}
            run = STATE.get("run", given["run_id"]) if given.get("run_id") else {}
            body = {"id": str(uuid.uuid4()), "created_at": text(now()), "modified_at": text(now())}
            body |= {"session_id": run.get("session_id"), "trace_id": run.get("trace_id")} | {
                k: v for k, v in given.items() if v is not None
            }
            return STATE.put("feedback", body, at=body["created_at"])
        body = STATE.get("feedback", rest[0])
        if method == "PATCH":
            return STATE.put("feedback", body | self._json | {"modified_at": text(now())}, at=body["created_at"])
        if method == "DELETE":
            STATE.drop("feedback", rest[0])
        return body

    # Annotation queues

    def _queues(self, method: str, rest: list[str]) -> Any:
        short = ("rubric_instructions", "rubric_items")
        if not rest and method == "GET":
            found = self._named(STATE.all("queue"))
            return self._page([{name: v for name, v in one.items() if name not in short} for one in found])
        if not rest:
            given = self._json
            if any(one["name"] == given["name"] for one in STATE.all("queue")):
                raise Refusal(409, "Queue with this name already exists.")
            body = {"id": str(uuid.uuid4()), "created_at": text(now()), "updated_at": text(now()), "tenant_id": TENANT}
            body |= {"queue_type": "single", "default_dataset": None, "description": None, "metadata": None}
            body |= {"num_reviewers_per_item": 1, "enable_reservations": True, "reservation_minutes": 1}
            body |= {"reviewer_access_mode": "any", "rubric_instructions": None, "rubric_items": []}
            return self._new("queue", body | {k: v for k, v in given.items() if v is not None}, text(now()))
        if len(rest) == 1:
            return self._plain(method, "queue", rest[0])
        STATE.get("queue", rest[0])
        if rest[1] == "runs" and method == "GET":
            items = STATE.all("queue item", rest[0])
            rows = [self._v1_run(STATE.get("run", one["run_id"])) | {"added_at": one["added_at"]} for one in items]
            return self._page(rows)
        if rest[1] == "runs" and method == "POST":
            for run in self._json:
                self._queue_item(rest[0], run if isinstance(run, str) else run["run_id"])
            return []
        raise Refusal(404, "Not Found")

    def _queue_item(self, queue: str, run: str) -> None:
        found = STATE.get("run", run)
        body = {"id": f"{queue[:18]}{run[18:]}", "run_id": run, "queue_id": queue, "project_id": found["session_id"]}
        body |= {"added_at": text(now()), "start_time": found["start_time"], "item_type": "RUN"}
        STATE.put("queue item", body | {"status": "needs_my_review"}, queue, body["added_at"])

    def _queue_items(self, method: str, queue: str) -> Any:
        STATE.get("queue", queue)
        if method == "POST":
            for one in self._json["items"]:
                self._queue_item(queue, one["run_id"])
            return {}
        if not FAULTS.v2:
            raise Refusal(404, "Not Found")
        found = [one for one in STATE.all("queue item", queue) if one["status"] == self._one("status")]
        items, following = paged(found, self._one("cursor"), int(self._one("page_size", "100")))
        shown = [{name: value for name, value in one.items() if name != "status"} for one in items]
        return {"items": shown, "next_cursor": following}

    # Prompts

    def _repos(self, method: str, rest: list[str]) -> Any:
        if not rest and method == "GET":
            found = [self._repo(one) for one in STATE.all("repo")]
            if self._one("is_archived", "false") != "allow":
                found = [one for one in found if one["is_archived"] == (self._one("is_archived") == "true")]
            if not self._one("tenant_id"):
                # The hub's public prompts are listed too.
                found = [*found, {**PUBLIC, "updated_at": text(now())}]
            found.sort(key=lambda one: one["updated_at"], reverse=self._one("sort_direction", "desc") == "desc")
            return {"repos": self._page(found), "total": len(found)}
        if not rest:
            given = self._json
            if not re.fullmatch(r"[a-z][a-z0-9_-]*", given["repo_handle"]):
                raise Refusal(422, "repo_handle: lower case letters, digits, - and _")
            if any(one["repo_handle"] == given["repo_handle"] for one in STATE.all("repo")):
                raise Refusal(409, "Repo already exists")
            body = {"id": str(uuid.uuid4()), "created_at": text(now()), "updated_at": text(now()), "tenant_id": TENANT}
            body |= {"description": "", "readme": "", "tags": [], "is_public": False, "is_archived": False}
            body |= {"repo_type": "prompt", "num_likes": 0, "num_downloads": 0, "num_views": 0, "owner": None}
            return {"repo": self._repo(STATE.put("repo", body | given, at=body["created_at"]))}
        body = self._by_handle(rest)
        if rest[2:] == ["tags"]:
            if method == "GET":
                return [{**one, "repo_id": body["id"]} for one in STATE.all("commit tag", body["id"])]
            given = self._json
            commit = STATE.get("commit", given["commit_id"])
            tag = {"id": f"{body['id']}:{given['tag_name']}", "tag_name": given["tag_name"], "commit_id": commit["id"]}
            return STATE.put("commit tag", tag | {"commit_hash": commit["commit_hash"]}, body["id"])
        if method == "DELETE":
            for kind in ("commit", "commit tag"):
                STATE.db.execute("DELETE FROM obj WHERE kind = ? AND above = ?", (kind, body["id"]))
            STATE.drop("repo", body["id"])
            return {}
        if method == "PATCH":
            given = {name: value for name, value in self._json.items() if value is not None}
            # A prompt has no other name.
            given.pop("repo_handle", None)
            body = STATE.put("repo", body | given | {"updated_at": text(now())}, at=body["created_at"])
        else:
            body = STATE.put("repo", body | {"num_views": body["num_views"] + 1}, at=body["created_at"])
        return {"repo": self._repo(body)}

    def _repo(self, body: dict[str, Any]) -> dict[str, Any]:
        commits = STATE.all("commit", body["id"])
        told = {"num_commits": len(commits), "last_commit_hash": commits[-1]["commit_hash"] if commits else None}
        tags = [one["tag_name"] for one in STATE.all("commit tag", body["id"])]
        return body | told | {"full_name": f"lab/{body['repo_handle']}", "commit_tags": tags}

    def _by_handle(self, rest: list[str]) -> dict[str, Any]:
        if rest[0] not in ("-", "lab"):
            raise Refusal(404, "Repo not found")
        for one in STATE.all("repo"):
            if one["repo_handle"] == rest[1]:
                return one
        raise Refusal(404, "Repo not found")

    def _commits(self, method: str, rest: list[str]) -> Any:
        repo = self._by_handle(rest)
        commits = STATE.all("commit", repo["id"])[::-1]
        if len(rest) == 2 and method == "GET":
            listed = [{name: v for name, v in one.items() if name != "manifest"} for one in commits]
            return {"commits": self._page(listed), "total": len(commits)}
        if method == "POST":
            given = self._json
            latest = commits[0] if commits else None
            if latest and latest["manifest"] == given["manifest"]:
                raise Refusal(409, "Nothing to commit: prompt has not changed since latest commit")
            if given.get("parent_commit") != (latest["commit_hash"] if latest else None):
                raise Refusal(409, "parent_commit is not the latest commit")
            at = text(now())
            told = hashlib.sha256(json.dumps([given["manifest"], given.get("parent_commit"), at]).encode())
            body = {"id": str(uuid.uuid4()), "commit_hash": told.hexdigest(), "repo_id": repo["id"], "created_at": at}
            body |= {"parent_commit_hash": given.get("parent_commit"), "updated_at": at, "example_run_ids": []}
            body |= {"manifest": given["manifest"], "description": given.get("description"), "num_views": 0}
            body["num_downloads"] = 0
            STATE.put("repo", repo | {"updated_at": at}, at=repo["created_at"])
            return {"commit": STATE.put("commit", body, repo["id"], at)}
        for one in commits:
            if one["commit_hash"].startswith(rest[2]) or rest[2] == "latest":
                wanted = ("commit_hash", "manifest", "description")
                return {name: one[name] for name in wanted} | {"examples": []}
        raise Refusal(404, "Commit not found")


PUBLIC = {
    "id": "99999999-0000-4000-8000-000000000000",
    "repo_handle": "rag-prompt",
    "tenant_id": "99999999-0000-4000-8000-000000000001",
    "full_name": "somebody/rag-prompt",
    "owner": "somebody",
    "is_public": True,
    "is_archived": False,
    "repo_type": "prompt",
    "tags": [],
    "created_at": "2024-01-01T00:00:00+00:00",
    "num_commits": 1,
    "num_likes": 9,
    "num_downloads": 9,
    "num_views": 9,
}


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def counted(session: dict[str, Any]) -> dict[str, Any]:
    """Return a project with what the real one counts about it."""
    runs = STATE.all("run", session["id"])
    last = max((run["start_time"] for run in runs), default=None)
    return session | {"run_count": len(runs), "last_run_start_time": last, "latency_p50": 0.1, "feedback_stats": None}


def stats(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's feedback, counted by key."""
    found = [one["key"] for one in STATE.all("feedback") if one.get("run_id") == run["id"]]
    return {key: {"n": found.count(key)} for key in set(found)}


def versions(dataset: str) -> list[dict[str, Any]]:
    """Return the versions of a dataset, newest first, with their tags."""
    query = (
        "SELECT since FROM version WHERE dataset = ? UNION SELECT until FROM version WHERE dataset = ? AND until < '9'"
    )
    times = sorted((row[0] for row in STATE.db.execute(query, (dataset, dataset))), reverse=True)
    tags: dict[str, list[str]] = {}
    for one in STATE.all("dataset tag", dataset):
        tags.setdefault(one["as_of"], []).append(one["tag"])
    return [{"as_of": at, "tags": ["latest"][number:] + tags.get(at, [])} for number, at in enumerate(times)]


def paged(found: list[Any], cursor: str | None, size: int) -> tuple[list[Any], str | None]:
    """Return a page, and the cursor of the next."""
    try:
        begin = int(base64.b64decode(cursor)) if cursor else 0
    except ValueError:
        # The cursor of a fault: everything again.
        begin = 0
    following = begin + size
    return found[begin:following], base64.b64encode(str(following).encode()).decode() if following < len(
        found
    ) else None


def looped(answer: Any, how: str) -> Any:
    """Return an answer that has no end: the same cursor for ever, or a new one each time."""
    cursor = "same" if how == "same" else secrets.token_hex(8)
    return answer | {"next_cursor": cursor} if isinstance(answer, dict) and "next_cursor" in answer else answer


def multipart(content_type: str, raw: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Yield (name, type, content) of each part of multipart/form-data."""
    boundary = content_type.split("boundary=")[1].strip('"').encode()
    for part in (b"\r\n" + raw).split(b"\r\n--" + boundary)[1:]:
        if part.startswith(b"--"):
            return
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        said = head.decode()
        name = re.search(r'name="([^"]*)"', said)
        mime = re.search(r"(?i)content-type: ([^;\r\n]+)", said)
        yield name[1] if name else "", mime[1] if mime else "", body


def standin(what: str, given: dict[str, Any]) -> Any:
    """Do what only the stand-in does: faults, expiry, no v2, time that passed, runs that the retention took."""
    acts: dict[str, Callable[[dict[str, Any]], Any]] = {
        "faults": set_faults,
        "backdate": backdate,
        "expire": expire,
        "wipe": wipe,
        "keep": lambda _: STATE.copy(STATE.db, STATE.kept),
        "go back": lambda _: STATE.copy(STATE.kept, STATE.db),
        "asked": lambda _: FAULTS.asked,
    }
    what = unquote(what)
    if what not in acts:
        raise Refusal(404, what)
    with STATE.lock:
        return acts[what](given) or {}


def set_faults(given: dict[str, Any]) -> None:
    """Say what goes wrong next, how long presigned addresses live, and whether there is a v2."""
    FAULTS.rules = given.get("rules", [])
    FAULTS.lifetime, FAULTS.v2 = given.get("lifetime", 300.0), given.get("v2", True)


def backdate(given: dict[str, Any]) -> None:
    """Let `hours` have passed since runs were traced; their project is as old as they."""
    for run in STATE.all("run"):
        if run["id"] in given["ids"]:
            for name in ("start_time", "end_time"):
                if run.get(name):
                    run[name] = text(moment(run[name]) - timedelta(hours=given["hours"]))
            STATE.put("run", run, run["session_id"], run["start_time"])
    for one in STATE.all("session"):
        first = min([one["start_time"], *(run["start_time"] for run in STATE.all("run", one["id"]))])
        STATE.put("session", one | {"start_time": first}, at=first)


def expire(given: dict[str, Any]) -> None:
    """Delete runs, as the retention does."""
    for key in given["ids"]:
        STATE.drop("run", key)


def wipe(_: dict[str, Any]) -> None:
    """Forget everything."""
    for table in ("obj", "version", "blob", "token"):
        STATE.db.execute(f"DELETE FROM {table}")


def main() -> None:
    """Serve."""
    global STATE  # noqa: PLW0603
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=1984)
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args()
    KEYS.extend(os.environ["LANGSMITH_STANDIN_KEYS"].split(","))
    STATE = State(options.state)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), LangSmith)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
