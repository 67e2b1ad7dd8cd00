# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for Grafana, whose server cannot be had in a test: grafana.py server --config=/etc/grafana/grafana.ini

It reads grafana.ini and GF_* as Grafana does, keeps everything in SQLite with the tables of Grafana's migrations
(github.com/grafana/grafana, pkg/services/sqlstore/migrations), encrypts as Grafana does (pkg/services/secrets/manager,
pkg/services/encryption), and answers as grafana.com/docs/grafana/latest/developers/http_api/ says; each handler names
its page. What is not told there it does not know. GRAFANA_STANDIN_VERSION makes it another version.
"""

import base64
import configparser
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
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

DOCS = "https://grafana.com/docs/grafana/latest/developers/http_api"
VERSION = os.environ.get("GRAFANA_STANDIN_VERSION", "11.6.0")
# The settings of a contact point that are kept encrypted (pkg/services/ngalert/notifier/channels_config).
SEALED = {
    "slack": ("url", "token"),
    "webhook": ("password", "authorization_credentials"),
    "pagerduty": ("integrationKey",),
}
REDACTED = "[REDACTED]"

SCHEMA = """
CREATE TABLE migration_log (id INTEGER PRIMARY KEY AUTOINCREMENT, migration_id TEXT NOT NULL, sql TEXT NOT NULL,
  success INTEGER NOT NULL, error TEXT NOT NULL, timestamp DATETIME NOT NULL);
CREATE TABLE org (id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, name TEXT NOT NULL UNIQUE,
  created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE user (id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, login TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL, name TEXT, password TEXT, salt TEXT, rands TEXT, org_id INTEGER NOT NULL,
  is_admin INTEGER NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL, last_seen_at DATETIME,
  is_service_account INTEGER NOT NULL DEFAULT 0, uid TEXT);
CREATE TABLE org_user (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, user_id INTEGER NOT NULL,
  role TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE api_key (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, name TEXT NOT NULL,
  key TEXT NOT NULL UNIQUE, role TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL,
  service_account_id INTEGER, last_used_at DATETIME, is_revoked INTEGER DEFAULT 0);
CREATE TABLE dashboard (id INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER NOT NULL, slug TEXT NOT NULL,
  title TEXT NOT NULL, data TEXT NOT NULL, org_id INTEGER NOT NULL, created DATETIME NOT NULL,
  updated DATETIME NOT NULL, folder_uid TEXT, is_folder INTEGER NOT NULL DEFAULT 0, uid TEXT);
CREATE UNIQUE INDEX UQE_dashboard_org_id_uid ON dashboard (org_id, uid);
CREATE TABLE dashboard_version (id INTEGER PRIMARY KEY AUTOINCREMENT, dashboard_id INTEGER NOT NULL,
  version INTEGER NOT NULL, created DATETIME NOT NULL, message TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE folder (id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL, org_id INTEGER NOT NULL,
  title TEXT NOT NULL, description TEXT, parent_uid TEXT, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE UNIQUE INDEX UQE_folder_uid_org_id ON folder (uid, org_id);
CREATE TABLE data_source (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, version INTEGER NOT NULL,
  type TEXT NOT NULL, name TEXT NOT NULL, access TEXT NOT NULL, url TEXT NOT NULL, user TEXT, database TEXT,
  basic_auth INTEGER NOT NULL, basic_auth_user TEXT, is_default INTEGER NOT NULL, json_data TEXT,
  created DATETIME NOT NULL, updated DATETIME NOT NULL, with_credentials INTEGER NOT NULL DEFAULT 0,
  secure_json_data TEXT, read_only INTEGER, uid TEXT NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX UQE_data_source_org_id_name ON data_source (org_id, name);
CREATE TABLE data_keys (name TEXT PRIMARY KEY NOT NULL, active INTEGER NOT NULL, scope TEXT NOT NULL,
  provider TEXT NOT NULL, encrypted_data BLOB NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL,
  label TEXT NOT NULL DEFAULT '');
CREATE TABLE secrets (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, namespace TEXT NOT NULL,
  type TEXT NOT NULL, value TEXT, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE plugin_setting (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER, plugin_id TEXT NOT NULL,
  enabled INTEGER NOT NULL, pinned INTEGER NOT NULL, json_data TEXT, secure_json_data TEXT, created DATETIME NOT NULL,
  updated DATETIME NOT NULL, plugin_version TEXT);
CREATE TABLE library_element (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, folder_id INTEGER NOT NULL,
  uid TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, type TEXT NOT NULL, description TEXT NOT NULL,
  model TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL, version INTEGER NOT NULL, folder_uid TEXT);
CREATE TABLE alert_rule (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, title TEXT NOT NULL,
  condition TEXT NOT NULL, data TEXT NOT NULL, updated DATETIME NOT NULL, interval_seconds INTEGER NOT NULL DEFAULT 60,
  version INTEGER NOT NULL DEFAULT 0, uid TEXT NOT NULL DEFAULT 0, namespace_uid TEXT NOT NULL,
  rule_group TEXT NOT NULL, no_data_state TEXT NOT NULL DEFAULT 'NoData',
  exec_err_state TEXT NOT NULL DEFAULT 'Alerting',
  `for` INTEGER NOT NULL DEFAULT 0, annotations TEXT, labels TEXT, rule_group_idx INTEGER NOT NULL DEFAULT 1,
  is_paused INTEGER NOT NULL DEFAULT 0, notification_settings TEXT);
CREATE UNIQUE INDEX UQE_alert_rule_org_id_uid ON alert_rule (org_id, uid);
CREATE TABLE alert_configuration (id INTEGER PRIMARY KEY AUTOINCREMENT, alertmanager_configuration TEXT NOT NULL,
  configuration_version TEXT NOT NULL, created_at INTEGER NOT NULL, `default` INTEGER NOT NULL DEFAULT 0,
  org_id INTEGER NOT NULL DEFAULT 0, configuration_hash TEXT NOT NULL DEFAULT '');
CREATE TABLE alert_instance (rule_org_id INTEGER NOT NULL, rule_uid TEXT NOT NULL DEFAULT 0, labels TEXT NOT NULL,
  labels_hash TEXT NOT NULL, current_state TEXT NOT NULL, current_state_since INTEGER NOT NULL,
  last_eval_time INTEGER NOT NULL, PRIMARY KEY (rule_org_id, rule_uid, labels_hash));
CREATE TABLE provenance_type (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, record_key TEXT NOT NULL,
  record_type TEXT NOT NULL, provenance TEXT NOT NULL);
CREATE UNIQUE INDEX UQE_provenance ON provenance_type (record_type, record_key, org_id);
CREATE TABLE kv_store (id INTEGER PRIMARY KEY AUTOINCREMENT, org_id INTEGER NOT NULL, namespace TEXT NOT NULL,
  key TEXT NOT NULL, value TEXT NOT NULL, created DATETIME NOT NULL, updated DATETIME NOT NULL);
CREATE TABLE server_lock (id INTEGER PRIMARY KEY AUTOINCREMENT, operation_uid TEXT NOT NULL, version INTEGER NOT NULL,
  last_execution INTEGER NOT NULL);
CREATE TABLE user_auth_token (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, auth_token TEXT NOT NULL,
  prev_auth_token TEXT NOT NULL, user_agent TEXT NOT NULL, client_ip TEXT NOT NULL, auth_token_seen INTEGER NOT NULL,
  seen_at INTEGER, rotated_at INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
"""
DEFAULT_ALERTING = {
    "template_files": None,
    "alertmanager_config": {
        "route": {"receiver": "grafana-default-email", "group_by": ["grafana_folder", "alertname"]},
        "receivers": [
            {
                "name": "grafana-default-email",
                "grafana_managed_receiver_configs": [
                    {
                        "uid": "default-email",
                        "name": "email receiver",
                        "type": "email",
                        "disableResolveMessage": False,
                        "settings": {"addresses": "<example@email.com>"},
                    }
                ],
            }
        ],
    },
}


def now() -> str:
    """Return a time as Grafana writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


@cache
def hashed(password: str, salt: str) -> str:
    """Return a password as the table `user` has it (pkg/util/encoding.go)."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), 10_000, 50).hex()


# -- encryption --------------------


def cipher(secret: bytes, salt: bytes, vector: bytes) -> Any:
    """Return AES-256-CFB with the key that PBKDF2 makes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    try:
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
    except ImportError:
        from cryptography.hazmat.primitives.ciphers.modes import CFB
    return Cipher(algorithms.AES(hashlib.pbkdf2_hmac("sha256", secret, salt, 10_000, 32)), CFB(vector))


def seal(payload: bytes, secret: bytes) -> bytes:
    """Encrypt as pkg/services/encryption does: `*aes-cfb*`, salt, initial vector, AES-256-CFB."""
    salt, vector = secrets.token_hex(4).encode(), secrets.token_bytes(16)
    encryptor = cipher(secret, salt, vector).encryptor()
    prefix = b"*" + base64.b64encode(b"aes-cfb").rstrip(b"=") + b"*"
    return prefix + salt + vector + bytes(encryptor.update(payload) + encryptor.finalize())


def unseal(sealed: bytes, secret: bytes) -> bytes:
    """Take back `seal`; with a wrong secret it is noise."""
    rest = sealed.split(b"*", 2)[2]
    decryptor = cipher(secret, rest[:8], rest[8:24]).decryptor()
    return bytes(decryptor.update(rest[24:]) + decryptor.finalize())


class RefusedError(Exception):
    """An answer of the API that says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Grafana:
    """One server: its settings, its database, and what its API does."""

    def __init__(self, config: Path, environment: dict[str, str], data: str = "/var/lib/grafana") -> None:
        ini = configparser.ConfigParser(interpolation=None, strict=False)
        ini.optionxform = str  # type: ignore[assignment,method-assign]
        ini.read_string("[DEFAULT]\n" + (config.read_text() if config.exists() else ""))

        def told(section: str, key: str, default: str) -> str:
            name = re.sub(r"[.-]", "_", f"GF_{section}_{key}").upper()
            return environment.get(name) or ini.get(section, key, fallback="") or default

        self.data = Path(told("paths", "data", data))
        self.database = self.data / told("database", "path", "grafana.db")
        self.wal = told("database", "wal", "false") == "true"
        self.address = (told("server", "http_addr", "0.0.0.0"), int(told("server", "http_port", "3000")))
        self.secret_key = told("security", "secret_key", "SW2YcwTIb9zpOOhoPsMm").encode()
        self.admin = told("security", "admin_user", "admin"), told("security", "admin_password", "admin")
        self.lock = threading.RLock()
        self.db = self._open()

    def _open(self) -> sqlite3.Connection:
        self.data.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.database, check_same_thread=False, isolation_level=None)
        db.row_factory = sqlite3.Row
        if self.wal:
            db.execute("PRAGMA journal_mode=WAL")
        self.database.chmod(0o640)
        if not db.execute("SELECT name FROM sqlite_master WHERE name = 'migration_log'").fetchone():
            db.executescript(SCHEMA)
            db.execute("INSERT INTO org VALUES (1, 0, 'Main Org.', ?, ?)", (now(), now()))
            self._user(db, *self.admin)
            self._save_config(1, DEFAULT_ALERTING, db)
        known = {row[0] for row in db.execute("SELECT migration_id FROM migration_log")}
        for name in [f"create {one} table" for one in re.findall(r"CREATE TABLE (\w+)", SCHEMA)] + [
            f"migration of {number}" for number in range(9, int(VERSION.split(".")[0]) + 1)
        ]:
            if name not in known:
                db.execute("INSERT INTO migration_log VALUES (NULL, ?, '', 1, '', ?)", (name, now()))
        return db

    def _user(self, db: sqlite3.Connection, login: str, password: str) -> None:
        salt = secrets.token_hex(5)
        db.execute(
            "INSERT INTO user VALUES (NULL, 0, ?, ?, '', ?, ?, ?, 1, 1, ?, ?, ?, 0, ?)",
            (
                login,
                f"{login}@localhost",
                hashed(password, salt),
                salt,
                secrets.token_hex(5),
                now(),
                now(),
                now(),
                secrets.token_hex(7),
            ),
        )
        db.execute("INSERT INTO org_user VALUES (NULL, 1, 1, 'Admin', ?, ?)", (now(), now()))

    # -- secrets

    def encrypt(self, text: str) -> str:
        """Encrypt with the current data key, made when there is none; base64 as in a JSON column."""
        row = self.db.execute("SELECT name, encrypted_data FROM data_keys WHERE active").fetchone()
        if row is None:
            name, key = secrets.token_hex(7), secrets.token_bytes(16)
            label = f"{now()[:10]}/root@secretKey.v1"
            values = (name, "root", "secretKey.v1", seal(key, self.secret_key), now(), now(), label)
            self.db.execute("INSERT INTO data_keys VALUES (?, 1, ?, ?, ?, ?, ?, ?)", values)
        else:
            name, key = row["name"], unseal(row["encrypted_data"], self.secret_key)
        prefix = b"#" + base64.b64encode(name.encode()).rstrip(b"=") + b"#"
        return base64.b64encode(prefix + seal(text.encode(), key)).decode()

    def decrypt(self, sealed: str) -> str:
        """Take back `encrypt`; 500 with another secret key, as Grafana says it."""
        _, name, payload = base64.b64decode(sealed).split(b"#", 2)
        row = self.db.execute(
            "SELECT encrypted_data FROM data_keys WHERE name = ?", (base64.b64decode(name + b"==").decode(),)
        ).fetchone()
        try:
            return unseal(payload, unseal(row[0], self.secret_key)).decode()
        except ValueError as error:
            raise RefusedError(500, "failed to decrypt") from error

    # -- who asks

    def organisation(self, headers: Any) -> tuple[int, str]:
        """Return (org id, role) of a request; DOCS/authentication: 401 without valid credentials."""
        kind, _, value = (headers["Authorization"] or "").partition(" ")
        if kind == "Bearer":
            key = hashlib.sha256(value.encode()).hexdigest()
            row = self.db.execute("SELECT org_id, role FROM api_key WHERE key = ?", (key,)).fetchone()
            if row is None:
                raise RefusedError(401, "Invalid API key")
            self.db.execute("UPDATE api_key SET last_used_at = ? WHERE key = ?", (now(), key))
            return row["org_id"], row["role"]
        if kind == "Basic":
            login, _, password = base64.b64decode(value).decode().partition(":")
            row = self.db.execute("SELECT * FROM user WHERE login = ?", (login,)).fetchone()
            if row is None or hashed(password, row["salt"]) != row["password"]:
                raise RefusedError(401, "Invalid username or password")
            self.db.execute("UPDATE user SET last_seen_at = ? WHERE id = ?", (now(), row["id"]))
            org = int(headers["X-Grafana-Org-Id"] or row["org_id"])
            if not self.db.execute("SELECT 1 FROM org WHERE id = ?", (org,)).fetchone():
                raise RefusedError(401, "Unauthorized")
            return org, "Admin"
        raise RefusedError(401, "Unauthorized")

    # -- alerting's own configuration

    def config(self, org: int) -> dict[str, Any]:
        """Return the alertmanager configuration of an organisation."""
        row = self.db.execute(
            "SELECT alertmanager_configuration FROM alert_configuration WHERE org_id = ? ORDER BY id DESC", (org,)
        ).fetchone()
        found: dict[str, Any] = json.loads(row[0]) if row else json.loads(json.dumps(DEFAULT_ALERTING))
        return found

    def _save_config(self, org: int, config: dict[str, Any], db: sqlite3.Connection | None = None) -> None:
        text = json.dumps(config)
        db = db or self.db
        db.execute("DELETE FROM alert_configuration WHERE org_id = ?", (org,))
        db.execute(
            "INSERT INTO alert_configuration VALUES (NULL, ?, 'v1', ?, 0, ?, ?)",
            (text, int(time.time()), org, hashlib.md5(text.encode()).hexdigest()),
        )

    def provenance(self, org: int, kind: str, key: str, headers: Any = None) -> str:
        """Record (with headers) or return where a resource was made: `X-Disable-Provenance` leaves it editable."""
        if headers is not None:
            made = "" if headers["X-Disable-Provenance"] is not None else "api"
            self.db.execute(
                "DELETE FROM provenance_type WHERE org_id = ? AND record_key = ? AND record_type = ?", (org, key, kind)
            )
            self.db.execute("INSERT INTO provenance_type VALUES (NULL, ?, ?, ?, ?)", (org, key, kind, made))
            return made
        row = self.db.execute(
            "SELECT provenance FROM provenance_type WHERE org_id = ? AND record_key = ? AND record_type = ?",
            (org, key, kind),
        ).fetchone()
        return row[0] if row else ""


def page(rows: list[Any], asked: dict[str, str], size: str, most: int) -> list[Any]:
    """Return one page of a list."""
    limit, number = min(int(asked.get(size, most)), most), int(asked.get("page", 1))
    return rows[(number - 1) * limit : number * limit]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def _do(self, method: str) -> None:
        url = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        length = int(self.headers["Content-Length"] or 0)
        raw = self.rfile.read(length)
        status, answer = 200, None
        try:
            body = json.loads(raw) if raw else None
            with self.server.grafana.lock:
                status, answer = self._route(method, unquote(url.path), asked, body)
        except RefusedError as error:
            status, answer = error.status, {"message": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            status, answer = 400, {"message": f"bad request data: {error!r}"}
        except sqlite3.Error as error:
            status, answer = 500, {"message": f"database: {error}"}
        data = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def do_PUT(self) -> None:
        self._do("PUT")

    def do_PATCH(self) -> None:
        self._do("PATCH")

    def do_DELETE(self) -> None:
        self._do("DELETE")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _route(self, method: str, path: str, asked: dict[str, str], body: Any) -> tuple[int, Any]:
        grafana = self.server.grafana
        if path == "/api/health":  # DOCS/other/#returns-health-information-about-grafana
            ok = grafana.db.execute("SELECT 1").fetchone() is not None
            return 200, {"commit": "standin", "database": "ok" if ok else "failing", "version": VERSION}
        org, role = grafana.organisation(self.headers)
        if method != "GET" and role == "Viewer":
            raise RefusedError(403, "You'll need additional permissions to perform this action.")
        for pattern, name in ROUTES:
            if found := re.fullmatch(pattern, f"{method} {path}"):
                act = Actions(grafana, org, role, asked, body, self.headers)
                return getattr(act, name)(*found.groups())  # type: ignore[no-any-return]
        raise RefusedError(404, "Not found")


class Actions:
    """What the API does, one method a path; each answers (status, JSON)."""

    def __init__(self, grafana: Grafana, org: int, role: str, asked: dict[str, str], body: Any, headers: Any) -> None:
        self.g, self.db, self.org, self.role = grafana, grafana.db, org, role
        self.asked, self.body, self.headers = asked, body, headers

    def _one(self, table: str, uid: str) -> sqlite3.Row:
        row = self.db.execute(f"SELECT * FROM {table} WHERE org_id = ? AND uid = ?", (self.org, uid)).fetchone()
        if row is None:
            raise RefusedError(404, f"{table} not found")
        found: sqlite3.Row = row
        return found

    def _all(self, table: str, order: str = "id") -> list[sqlite3.Row]:
        return self.db.execute(f"SELECT * FROM {table} WHERE org_id = ? ORDER BY {order}", (self.org,)).fetchall()

    def _gone(self, table: str, uid: str) -> None:
        self._one(table, uid)
        self.db.execute(f"DELETE FROM {table} WHERE org_id = ? AND uid = ?", (self.org, uid))

    # DOCS/org/#get-current-organization
    def get_org(self) -> tuple[int, Any]:
        row = self.db.execute("SELECT id, name FROM org WHERE id = ?", (self.org,)).fetchone()
        return 200, dict(row)

    # DOCS/other/#get-settings, cut down to what a client asks for
    def get_settings(self) -> tuple[int, Any]:
        return 200, {"buildInfo": {"version": VERSION, "commit": "standin"}}

    # DOCS/serviceaccount/#create-service-account-tokens, cut down to what a test needs
    def post_token(self) -> tuple[int, Any]:
        token = f"glsa_{secrets.token_hex(16)}"
        values = (
            self.org,
            self.body["name"],
            hashlib.sha256(token.encode()).hexdigest(),
            self.body["role"],
            now(),
            now(),
        )
        self.db.execute("INSERT INTO api_key VALUES (NULL, ?, ?, ?, ?, ?, ?, 1, NULL, 0)", values)
        return 200, {"name": self.body["name"], "key": token}

    # DOCS/folder_dashboard_search/: at most 5000 a page
    def search(self) -> tuple[int, Any]:
        rows = [
            {
                "id": row["id"],
                "uid": row["uid"],
                "title": row["title"],
                "type": "dash-db",
                "folderUid": row["folder_uid"],
            }
            for row in self._all("dashboard", "title")
        ]
        if within := self.asked.get("folderUIDs"):
            folders = [one for one in self._all("folder") if one["parent_uid"] == within]
            rows = [one for one in rows if one["folderUid"] == within] + [{"uid": one["uid"]} for one in folders]
        if self.asked.get("type") == "dash-folder":
            rows = [{"uid": row["uid"], "title": row["title"], "type": "dash-folder"} for row in self._all("folder")]
        return 200, page(rows, self.asked, "limit", 5000)

    # DOCS/dashboard/#get-dashboard-by-uid
    def get_dashboard(self, uid: str) -> tuple[int, Any]:
        row = self._one("dashboard", uid)
        model = {**json.loads(row["data"]), "id": row["id"], "version": row["version"]}
        return 200, {"dashboard": model, "meta": {"folderUid": row["folder_uid"] or "", "version": row["version"]}}

    # DOCS/dashboard/#create--update-dashboard: 412 when it was changed meanwhile, and `overwrite` is not set
    def post_dashboard(self) -> tuple[int, Any]:
        model = dict(self.body["dashboard"])
        model.pop("id", None)
        folder = self.body.get("folderUid") or None
        if not model.get("title"):
            raise RefusedError(400, "Dashboard title cannot be empty")
        if folder:
            self._one("folder", folder)
        uid = model.setdefault("uid", secrets.token_hex(7))
        old = self.db.execute("SELECT * FROM dashboard WHERE org_id = ? AND uid = ?", (self.org, uid)).fetchone()
        if old and not self.body.get("overwrite") and model.get("version") != old["version"]:
            raise RefusedError(412, "The dashboard has been changed by someone else")
        version = old["version"] + 1 if old else 1
        text = json.dumps({**model, "version": version})
        slug = re.sub(r"\W+", "-", model["title"].lower())
        if old:
            self.db.execute(
                "UPDATE dashboard SET version = ?, title = ?, slug = ?, data = ?, updated = ?, folder_uid = ? "
                "WHERE id = ?",
                (version, model["title"], slug, text, now(), folder, old["id"]),
            )
        else:
            self.db.execute(
                "INSERT INTO dashboard VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                (version, slug, model["title"], text, self.org, now(), now(), folder, uid),
            )
        number = self._one("dashboard", uid)["id"]
        self.db.execute("INSERT INTO dashboard_version VALUES (NULL, ?, ?, ?, '', ?)", (number, version, now(), text))
        return 200, {"uid": uid, "status": "success", "version": version, "id": number}

    # DOCS/dashboard/#delete-dashboard-by-uid
    def delete_dashboard(self, uid: str) -> tuple[int, Any]:
        self._gone("dashboard", uid)
        return 200, {"message": "deleted"}

    # DOCS/folder/#get-all-folders: those at the root, or below `parentUid`
    def folders(self) -> tuple[int, Any]:
        parent = self.asked.get("parentUid", "")
        rows = [row for row in self._all("folder", "title") if (row["parent_uid"] or "") == parent]
        return 200, page([self._folder(row) for row in rows], self.asked, "limit", 1000)

    def _folder(self, row: sqlite3.Row) -> dict[str, Any]:
        found = {"id": row["id"], "uid": row["uid"], "title": row["title"]}
        return found | ({"parentUid": row["parent_uid"]} if row["parent_uid"] else {})

    # DOCS/folder/#get-folder-by-uid
    def get_folder(self, uid: str) -> tuple[int, Any]:
        return 200, self._folder(self._one("folder", uid))

    # DOCS/folder/#create-folder: 409 for one that is there
    def post_folder(self) -> tuple[int, Any]:
        uid, parent = self.body.get("uid") or secrets.token_hex(7), self.body.get("parentUid") or None
        if parent:
            self._one("folder", parent)
        if self.db.execute("SELECT 1 FROM folder WHERE org_id = ? AND uid = ?", (self.org, uid)).fetchone():
            raise RefusedError(409, "a folder with the same uid already exists")
        self.db.execute(
            "INSERT INTO folder VALUES (NULL, ?, ?, ?, '', ?, ?, ?)",
            (uid, self.org, self.body["title"], parent, now(), now()),
        )
        return 200, self._folder(self._one("folder", uid))

    # DOCS/folder/#update-folder: 412 when it was changed meanwhile, and `overwrite` is not set
    def put_folder(self, uid: str) -> tuple[int, Any]:
        self._one("folder", uid)
        if not self.body.get("overwrite") and "version" not in self.body:
            raise RefusedError(412, "the folder has been changed by someone else")
        self.db.execute(
            "UPDATE folder SET title = ?, updated = ? WHERE org_id = ? AND uid = ?",
            (self.body["title"], now(), self.org, uid),
        )
        return 200, self._folder(self._one("folder", uid))

    # DOCS/folder/#move-folder
    def move_folder(self, uid: str) -> tuple[int, Any]:
        self._one("folder", uid)
        parent = self.body["parentUid"] or None
        self.db.execute("UPDATE folder SET parent_uid = ? WHERE org_id = ? AND uid = ?", (parent, self.org, uid))
        return 200, self._folder(self._one("folder", uid))

    # DOCS/folder/#delete-folder: with all that is in it; 400 where alert rules are
    def delete_folder(self, uid: str) -> tuple[int, Any]:
        if self.db.execute(
            "SELECT 1 FROM alert_rule WHERE org_id = ? AND namespace_uid = ?", (self.org, uid)
        ).fetchone():
            raise RefusedError(400, "folder cannot be deleted: folder contains alert rules")
        for row in self.db.execute(
            "SELECT uid FROM folder WHERE org_id = ? AND parent_uid = ?", (self.org, uid)
        ).fetchall():
            self.delete_folder(row[0])
        self._gone("folder", uid)
        self.db.execute("DELETE FROM dashboard WHERE org_id = ? AND folder_uid = ?", (self.org, uid))
        return 200, {"message": "Folder deleted"}

    # DOCS/data_source/#get-all-data-sources: never with secureJsonData
    def data_sources(self) -> tuple[int, Any]:
        return 200, [self._source(row) for row in self._all("data_source", "name")]

    def _source(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "uid": row["uid"],
            "orgId": row["org_id"],
            "name": row["name"],
            "type": row["type"],
            "typeLogoUrl": "",
            "access": row["access"],
            "url": row["url"],
            "user": row["user"] or "",
            "database": row["database"] or "",
            "basicAuth": bool(row["basic_auth"]),
            "isDefault": bool(row["is_default"]),
            "jsonData": json.loads(row["json_data"] or "{}"),
            "readOnly": bool(row["read_only"]),
        }

    # DOCS/data_source/#get-a-single-data-source-by-uid
    def get_source(self, uid: str) -> tuple[int, Any]:
        row = self._one("data_source", uid)
        fields = dict.fromkeys(json.loads(row["secure_json_data"] or "{}"), True)
        return 200, {**self._source(row), "version": row["version"], "secureJsonFields": fields}

    # DOCS/data_source/#check-data-source-health: only with the secrets opened can it ask
    def source_health(self, uid: str) -> tuple[int, Any]:
        sealed = json.loads(self._one("data_source", uid)["secure_json_data"] or "{}")
        opened = {name: self.g.decrypt(value) for name, value in sealed.items()}
        return 200, {"status": "OK", "message": hashlib.sha256(json.dumps(opened, sort_keys=True).encode()).hexdigest()}

    # DOCS/data_source/#create-a-data-source: 409 for a name that is taken
    def post_source(self) -> tuple[int, Any]:
        if self.db.execute(
            "SELECT 1 FROM data_source WHERE org_id = ? AND name = ?", (self.org, self.body["name"])
        ).fetchone():
            raise RefusedError(409, "data source with the same name already exists")
        uid = self.body.get("uid") or secrets.token_hex(7)
        values = (self.org, self.body["type"], self.body["name"], now(), now(), uid)
        self.db.execute(
            "INSERT INTO data_source VALUES "
            "(NULL, ?, 0, ?, ?, 'proxy', '', '', '', 0, '', 0, '{}', ?, ?, 0, '{}', 0, ?)",
            values,
        )
        return self.put_source(uid)

    # DOCS/data_source/#update-an-existing-data-source: secrets that are not given stay
    def put_source(self, uid: str) -> tuple[int, Any]:
        row = self._one("data_source", uid)
        sealed = json.loads(row["secure_json_data"] or "{}")
        sealed |= {name: self.g.encrypt(text) for name, text in (self.body.get("secureJsonData") or {}).items()}
        fields = ("name", "type", "access", "url", "user", "database")
        values = [self.body.get(name) or "" for name in fields]
        flags = [int(bool(self.body.get(name))) for name in ("basicAuth", "isDefault")]
        self.db.execute(
            "UPDATE data_source SET name = ?, type = ?, access = ?, url = ?, user = ?, database = ?, basic_auth = ?, "
            "is_default = ?, json_data = ?, secure_json_data = ?, version = version + 1, updated = ? WHERE id = ?",
            (*values, *flags, json.dumps(self.body.get("jsonData") or {}), json.dumps(sealed), now(), row["id"]),
        )
        return 200, {"datasource": self._source(self._one("data_source", uid)), "message": "Datasource updated"}

    # DOCS/data_source/#delete-an-existing-data-source-by-uid
    def delete_source(self, uid: str) -> tuple[int, Any]:
        self._gone("data_source", uid)
        return 200, {"message": "Data source deleted"}

    # DOCS/library_element/#get-all-library-elements
    def elements(self) -> tuple[int, Any]:
        rows = [self._element(row) for row in self._all("library_element", "name")]
        shown = page(rows, self.asked, "perPage", 1000)
        return 200, {"result": {"totalCount": len(rows), "page": 1, "perPage": 100, "elements": shown}}

    def _element(self, row: sqlite3.Row) -> dict[str, Any]:
        fields = ("id", "uid", "name", "kind", "type", "description", "version")
        return {name: row[name] for name in fields} | {
            "orgId": row["org_id"],
            "folderUid": row["folder_uid"] or "",
            "model": json.loads(row["model"]),
            "meta": {"created": row["created"]},
        }

    # DOCS/library_element/#create-library-element: 400 for one that is there
    def post_element(self) -> tuple[int, Any]:
        uid, model = self.body.get("uid") or secrets.token_hex(7), self.body["model"]
        if self.db.execute("SELECT 1 FROM library_element WHERE org_id = ? AND uid = ?", (self.org, uid)).fetchone():
            raise RefusedError(400, "library element with that name or UID already exists")
        if self.body.get("folderUid"):
            self._one("folder", self.body["folderUid"])
        self.db.execute(
            "INSERT INTO library_element VALUES (NULL, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (
                self.org,
                uid,
                self.body["name"],
                self.body["kind"],
                model.get("type", ""),
                model.get("description", ""),
                json.dumps(model),
                now(),
                now(),
                self.body.get("folderUid") or "",
            ),
        )
        return 200, {"result": self._element(self._one("library_element", uid))}

    # DOCS/library_element/#update-library-element: 412 for another version than the present one
    def patch_element(self, uid: str) -> tuple[int, Any]:
        row = self._one("library_element", uid)
        if self.body["version"] != row["version"]:
            raise RefusedError(412, "the library element has been changed by someone else")
        self.db.execute(
            "UPDATE library_element SET name = ?, model = ?, folder_uid = ?, version = version + 1 WHERE id = ?",
            (self.body["name"], json.dumps(self.body["model"]), self.body.get("folderUid") or "", row["id"]),
        )
        return 200, {"result": self._element(self._one("library_element", uid))}

    # DOCS/library_element/#delete-library-element
    def delete_element(self, uid: str) -> tuple[int, Any]:
        self._gone("library_element", uid)
        return 200, {"message": "Library element deleted"}

    # DOCS/alerting_provisioning/#alert-rules; without intervals, which groups have
    def rules(self) -> tuple[int, Any]:
        return 200, [self._rule(row) for row in self._all("alert_rule")]

    def _rule(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "id": row["id"],
            "uid": row["uid"],
            "orgID": row["org_id"],
            "folderUID": row["namespace_uid"],
            "ruleGroup": row["rule_group"],
            "title": row["title"],
            "condition": row["condition"],
            "data": json.loads(row["data"]),
            "updated": row["updated"],
            "noDataState": row["no_data_state"],
            "execErrState": row["exec_err_state"],
            "for": f"{row['for']}s",
            "annotations": json.loads(row["annotations"] or "{}"),
            "labels": json.loads(row["labels"] or "{}"),
            "isPaused": bool(row["is_paused"]),
        } | ({"provenance": made} if (made := self.g.provenance(self.org, "alertRule", row["uid"])) else {})

    def get_rule(self, uid: str) -> tuple[int, Any]:
        return 200, self._rule(self._one("alert_rule", uid))

    # DOCS/alerting_provisioning/#route-post-alert-rule: 201; 409 for a uid that is taken
    def post_rule(self) -> tuple[int, Any]:
        uid = self.body.get("uid") or secrets.token_hex(7)
        if self.db.execute("SELECT 1 FROM alert_rule WHERE org_id = ? AND uid = ?", (self.org, uid)).fetchone():
            raise RefusedError(409, "rule with the same UID already exists")
        self._one("folder", self.body["folderUID"])
        self.db.execute(
            "INSERT INTO alert_rule (org_id, title, condition, data, updated, uid, namespace_uid, rule_group) "
            "VALUES (?, '', '', '', ?, ?, '', '')",
            (self.org, now(), uid),
        )
        return 201, self.put_rule(uid)[1]

    def put_rule(self, uid: str) -> tuple[int, Any]:
        row, rule = self._one("alert_rule", uid), self.body
        self._one("folder", rule["folderUID"])
        self.db.execute(
            "UPDATE alert_rule SET title = ?, condition = ?, data = ?, updated = ?, namespace_uid = ?, rule_group = ?, "
            "no_data_state = ?, exec_err_state = ?, `for` = ?, annotations = ?, labels = ?, is_paused = ?, "
            "version = version + 1 WHERE id = ?",
            (
                rule["title"],
                rule["condition"],
                json.dumps(rule["data"]),
                now(),
                rule["folderUID"],
                rule["ruleGroup"],
                rule["noDataState"],
                rule["execErrState"],
                int(str(rule["for"]).rstrip("s")),
                json.dumps(rule.get("annotations") or {}),
                json.dumps(rule.get("labels") or {}),
                int(bool(rule.get("isPaused"))),
                row["id"],
            ),
        )
        self.g.provenance(self.org, "alertRule", uid, self.headers)
        return 200, self._rule(self._one("alert_rule", uid))

    def delete_rule(self, uid: str) -> tuple[int, Any]:
        self._gone("alert_rule", uid)
        return 204, None

    # DOCS/alerting_provisioning/#route-get-alert-rule-group
    def get_group(self, folder: str, title: str) -> tuple[int, Any]:
        rows = [row for row in self._all("alert_rule") if (row["namespace_uid"], row["rule_group"]) == (folder, title)]
        if not rows:
            raise RefusedError(404, "rule group not found")
        rules = [self._rule(row) for row in rows]
        return 200, {"folderUid": folder, "title": title, "interval": rows[0]["interval_seconds"], "rules": rules}

    # DOCS/alerting_provisioning/#route-put-alert-rule-group: rules that are not given go; unknown uids are refused
    def put_group(self, folder: str, title: str) -> tuple[int, Any]:
        for rule in self.body["rules"]:
            self._one("alert_rule", rule["uid"])
        given = {rule["uid"] for rule in self.body["rules"]}
        for row in self._all("alert_rule"):
            if (row["namespace_uid"], row["rule_group"]) == (folder, title) and row["uid"] not in given:
                self._gone("alert_rule", row["uid"])
        self.db.execute(
            "UPDATE alert_rule SET interval_seconds = ? WHERE org_id = ? AND namespace_uid = ? AND rule_group = ?",
            (self.body["interval"], self.org, folder, title),
        )
        for rule in self.body["rules"]:
            self.g.provenance(self.org, "alertRule", rule["uid"], self.headers)
        return 200, self.body

    # DOCS/alerting_provisioning/#contact-points: secrets redacted
    def points(self) -> tuple[int, Any]:
        return 200, [self._point(one, decrypt=False) for one in self._receivers()]

    def _receivers(self) -> list[dict[str, Any]]:
        config = self.g.config(self.org)["alertmanager_config"]
        return [
            {**one, "name": receiver["name"]}
            for receiver in config["receivers"]
            for one in receiver.get("grafana_managed_receiver_configs") or ()
        ]

    def _point(self, one: dict[str, Any], *, decrypt: bool) -> dict[str, Any]:
        sealed = one.get("secureSettings") or {}
        opened = {name: self.g.decrypt(value) if decrypt else REDACTED for name, value in sealed.items()}
        return {
            "uid": one["uid"],
            "name": one["name"],
            "type": one["type"],
            "settings": {**one["settings"], **opened},
            "disableResolveMessage": one["disableResolveMessage"],
        }

    # DOCS/alerting_provisioning/#route-get-contactpoints-export: `decrypt` is for admins
    def export_points(self) -> tuple[int, Any]:
        decrypt = self.asked.get("decrypt") == "true"
        if decrypt and self.role != "Admin":
            raise RefusedError(403, "user is not authorized to read secrets of contact points")
        found: dict[str, list[Any]] = {}
        for one in self._receivers():
            told = self._point(one, decrypt=decrypt)
            found.setdefault(told.pop("name"), []).append(told)
        points = [{"orgId": self.org, "name": name, "receivers": rows} for name, rows in found.items()]
        return 200, {"apiVersion": 1, "contactPoints": points}

    # DOCS/alerting_provisioning/#route-post-contactpoints: 202
    def post_point(self) -> tuple[int, Any]:
        uid = self.body.get("uid") or secrets.token_hex(7)
        if any(one["uid"] == uid for one in self._receivers()):
            raise RefusedError(400, "contact point configuration with UID already exists")
        return self._save_point(uid, {})

    # DOCS/alerting_provisioning/#route-put-contactpoint: a redacted secret stays as it is
    def put_point(self, uid: str) -> tuple[int, Any]:
        old = next((one for one in self._receivers() if one["uid"] == uid), None)
        if old is None:
            raise RefusedError(404, "contact point not found")
        return self._save_point(uid, old.get("secureSettings") or {})

    def _save_point(self, uid: str, before: dict[str, str]) -> tuple[int, Any]:
        config, body = self.g.config(self.org), self.body
        names = SEALED.get(body["type"], ())
        sealed = {
            name: before.get(name, "") if text == REDACTED else self.g.encrypt(text)
            for name, text in body["settings"].items()
            if name in names
        }
        made = {
            "uid": uid,
            "name": body["name"],
            "type": body["type"],
            "disableResolveMessage": bool(body.get("disableResolveMessage")),
            "settings": {name: text for name, text in body["settings"].items() if name not in names},
            "secureSettings": sealed,
        }
        self._without_point(config, uid)
        receivers = config["alertmanager_config"]["receivers"]
        there = next((one for one in receivers if one["name"] == body["name"]), None)
        if there is None:
            receivers.append({"name": body["name"], "grafana_managed_receiver_configs": [made]})
        else:
            there["grafana_managed_receiver_configs"].append(made)
        self.g._save_config(self.org, config)
        self.g.provenance(self.org, "contactPoint", uid, self.headers)
        return 202, self._point(made, decrypt=False)

    def _without_point(self, config: dict[str, Any], uid: str) -> None:
        told = config["alertmanager_config"]
        for receiver in told["receivers"]:
            rows = receiver["grafana_managed_receiver_configs"]
            receiver["grafana_managed_receiver_configs"] = [one for one in rows if one["uid"] != uid]
        told["receivers"] = [one for one in told["receivers"] if one["grafana_managed_receiver_configs"]]

    # DOCS/alerting_provisioning/#route-delete-contactpoints: 409 while a policy uses it
    def delete_point(self, uid: str) -> tuple[int, Any]:
        config = self.g.config(self.org)
        name = next((one["name"] for one in self._receivers() if one["uid"] == uid), None)
        if name and json.dumps(name) in json.dumps(config["alertmanager_config"]["route"]):
            raise RefusedError(409, "contact point is used by a notification policy")
        self._without_point(config, uid)
        self.g._save_config(self.org, config)
        return 202, None

    # DOCS/alerting_provisioning/#notification-policies
    def policies(self) -> tuple[int, Any]:
        return 200, {**self.g.config(self.org)["alertmanager_config"]["route"], "provenance": ""}

    # DOCS/alerting_provisioning/#route-put-policy-tree: 400 for a receiver or mute timing that is not there
    def put_policies(self) -> tuple[int, Any]:
        config = self.g.config(self.org)
        names = {one["name"] for one in config["alertmanager_config"]["receivers"]}
        timings = {one["name"] for one in config["alertmanager_config"].get("mute_time_intervals") or ()}

        def check(route: dict[str, Any]) -> None:
            if route.get("receiver") and route["receiver"] not in names:
                raise RefusedError(400, f"invalid object specification: receiver '{route['receiver']}' does not exist")
            if missing := set(route.get("mute_time_intervals") or ()) - timings:
                raise RefusedError(400, f"mute time interval {missing} does not exist")
            for one in route.get("routes") or ():
                check(one)

        check(self.body)
        config["alertmanager_config"]["route"] = {name: one for name, one in self.body.items() if name != "provenance"}
        self.g._save_config(self.org, config)
        self.g.provenance(self.org, "policy", "", self.headers)
        return 202, {"message": "policies updated"}

    # DOCS/alerting_provisioning/#mute-timings
    def timings(self) -> tuple[int, Any]:
        found = self.g.config(self.org)["alertmanager_config"].get("mute_time_intervals") or []
        return 200, [{**one, "version": hashlib.md5(json.dumps(one).encode()).hexdigest()} for one in found]

    def _save_timing(self, name: str, made: dict[str, Any] | None) -> None:
        config = self.g.config(self.org)
        told = config["alertmanager_config"]
        rest = [one for one in told.get("mute_time_intervals") or () if one["name"] != name]
        told["mute_time_intervals"] = [*rest, *([made] if made else [])]
        self.g._save_config(self.org, config)
        self.g.provenance(self.org, "muteTimeInterval", name, self.headers)

    # DOCS/alerting_provisioning/#route-post-mute-timing: 201; 400 for a name that is taken
    def post_timing(self) -> tuple[int, Any]:
        if any(one["name"] == self.body["name"] for one in self.timings()[1]):
            raise RefusedError(400, "a mute timing with this name already exists")
        self._save_timing(self.body["name"], self.body)
        return 201, self.body

    def put_timing(self, name: str) -> tuple[int, Any]:
        if not any(one["name"] == name for one in self.timings()[1]):
            raise RefusedError(404, "not found")
        self._save_timing(name, self.body)
        return 202, self.body

    def delete_timing(self, name: str) -> tuple[int, Any]:
        self._save_timing(name, None)
        return 204, None

    # DOCS/alerting_provisioning/#templates: 404 when there is none
    def templates(self) -> tuple[int, Any]:
        found = self.g.config(self.org)["template_files"] or {}
        if not found:
            raise RefusedError(404, "not found")
        return 200, [{"name": name, "template": text, "version": "1"} for name, text in sorted(found.items())]

    def put_template(self, name: str) -> tuple[int, Any]:
        config = self.g.config(self.org)
        config["template_files"] = {**(config["template_files"] or {}), name: self.body["template"]}
        self.g._save_config(self.org, config)
        self.g.provenance(self.org, "template", name, self.headers)
        return 202, {"name": name, "template": self.body["template"]}

    def delete_template(self, name: str) -> tuple[int, Any]:
        config = self.g.config(self.org)
        (config["template_files"] or {}).pop(name, None)
        self.g._save_config(self.org, config)
        return 204, None


A = "/api/v1/provisioning"
ROUTES = [
    (r"GET /api/org", "get_org"),
    (r"GET /api/frontend/settings", "get_settings"),
    (r"POST /api/serviceaccounts/1/tokens", "post_token"),
    (r"GET /api/search", "search"),
    (r"GET /api/dashboards/uid/([^/]+)", "get_dashboard"),
    (r"DELETE /api/dashboards/uid/([^/]+)", "delete_dashboard"),
    (r"POST /api/dashboards/db", "post_dashboard"),
    (r"GET /api/folders", "folders"),
    (r"POST /api/folders", "post_folder"),
    (r"POST /api/folders/([^/]+)/move", "move_folder"),
    (r"GET /api/folders/([^/]+)", "get_folder"),
    (r"PUT /api/folders/([^/]+)", "put_folder"),
    (r"DELETE /api/folders/([^/]+)", "delete_folder"),
    (r"GET /api/datasources", "data_sources"),
    (r"POST /api/datasources", "post_source"),
    (r"GET /api/datasources/uid/([^/]+)", "get_source"),
    (r"PUT /api/datasources/uid/([^/]+)", "put_source"),
    (r"DELETE /api/datasources/uid/([^/]+)", "delete_source"),
    (r"GET /api/datasources/uid/([^/]+)/health", "source_health"),
    (r"GET /api/library-elements", "elements"),
    (r"POST /api/library-elements", "post_element"),
    (r"PATCH /api/library-elements/([^/]+)", "patch_element"),
    (r"DELETE /api/library-elements/([^/]+)", "delete_element"),
    (rf"GET {A}/alert-rules", "rules"),
    (rf"POST {A}/alert-rules", "post_rule"),
    (rf"GET {A}/alert-rules/([^/]+)", "get_rule"),
    (rf"PUT {A}/alert-rules/([^/]+)", "put_rule"),
    (rf"DELETE {A}/alert-rules/([^/]+)", "delete_rule"),
    (rf"GET {A}/folder/([^/]+)/rule-groups/([^/]+)", "get_group"),
    (rf"PUT {A}/folder/([^/]+)/rule-groups/([^/]+)", "put_group"),
    (rf"GET {A}/contact-points", "points"),
    (rf"GET {A}/contact-points/export", "export_points"),
    (rf"POST {A}/contact-points", "post_point"),
    (rf"PUT {A}/contact-points/([^/]+)", "put_point"),
    (rf"DELETE {A}/contact-points/([^/]+)", "delete_point"),
    (rf"GET {A}/policies", "policies"),
    (rf"PUT {A}/policies", "put_policies"),
    (rf"GET {A}/mute-timings", "timings"),
    (rf"POST {A}/mute-timings", "post_timing"),
    (rf"PUT {A}/mute-timings/([^/]+)", "put_timing"),
    (rf"DELETE {A}/mute-timings/([^/]+)", "delete_timing"),
    (rf"GET {A}/templates", "templates"),
    (rf"PUT {A}/templates/([^/]+)", "put_template"),
    (rf"DELETE {A}/templates/([^/]+)", "delete_template"),
]


class Server(http.server.ThreadingHTTPServer):
    """The HTTP side of one Grafana."""

    daemon_threads = True

    def __init__(self, grafana: Grafana, address: tuple[str, int] | None = None) -> None:
        super().__init__(address or grafana.address, Handler)
        self.grafana = grafana


def main() -> None:
    """Start as Debian's unit starts Grafana."""
    options = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:] if "=" in one)
    environment = dict(os.environ)
    config = Path(environment.get("GF_PATHS_CONFIG") or options.get("config", "/etc/grafana/grafana.ini"))
    data = options.get("cfg:default.paths.data", "/var/lib/grafana")
    Server(Grafana(config, environment, data)).serve_forever()


if __name__ == "__main__":
    main()
