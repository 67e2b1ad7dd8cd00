# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's settings, encryption, fingerprint and API, against the stand-in in this very process."""

import base64
import contextlib
import hashlib
import json
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from restaura.errors import RefusedError, SourceError
from restaura.grafana import api, database, encryption, restore, swap
from restaura.grafana.capture import provisioning
from restaura.grafana.content import PARTS, Content
from restaura.grafana.installed import Installed
from restaura.grafana.settings import SECRET_KEY, Settings
from restaura.point import Depth
from restaura.web import Service
from tests.grafana_server import ADMIN, HOOK, PASSWORD, PROVISIONING, Client, policies, rule
from tests.standins import grafana as standin

KEY = "key-of-the-test"
Answer = tuple[int, Any] | None


class Faulty(standin.Handler):
    """Answers as `fault` says first, and as Grafana does when that says nothing."""

    fault: Callable[[str, str, dict[str, str]], Answer] = staticmethod(lambda *_: None)

    def _route(self, method: str, path: str, asked: dict[str, str], body: Any) -> tuple[int, Any]:
        return self.server.fault(method, path, asked) or super()._route(method, path, asked, body)  # type: ignore[attr-defined]


class Instance:
    """One Grafana of its own data directory, and a client of it."""

    def __init__(self, folder: Path, key: str = KEY) -> None:
        folder.mkdir()
        self.ini = folder / "grafana.ini"
        self.ini.write_text(f"[paths]\ndata = {folder}\n[security]\nadmin_password = {ADMIN[1]}\nsecret_key = {key}\n")
        self.server = standin.Server(standin.Grafana(self.ini, {}), ("127.0.0.1", 0))
        self.server.RequestHandlerClass = Faulty
        self.fault(lambda *_: None)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.client = Client(f"http://127.0.0.1:{self.server.server_address[1]}")
        self.folder, self.database = folder, folder / "grafana.db"
        (folder / "password").write_text(ADMIN[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.server.grafana.db.close()

    def fault(self, fault: Callable[[str, str, dict[str, str]], Answer]) -> None:
        self.server.fault = fault  # type: ignore[attr-defined]

    def service(self, **options: Any) -> Service:
        made = api.login(self.client.url, None, ADMIN[0], self.folder / "password", "", 0)
        return Service(made.url, made.headers, **{"patience": 2.0, **options})

    def export(self, name: str) -> api.Export:
        (self.folder / name).mkdir()
        return api.export(self.service(), self.folder / name)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path / "one")
    made.client.fill()
    yield made
    made.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Instance]:
    made = Instance(tmp_path / "two", "another-key")
    yield made
    made.close()


# -- settings --------------------


def test_settings_are_read_as_grafana_reads_them() -> None:
    ini = """
; comment
app_mode = production
[paths]
data = /srv/grafana ; not the default
[security]
secret_key = \"\"\"with # and ; in it\"\"\"
admin_password = $__file{/run/secrets/admin}
[database]
path = "my.db"
[server]
http_port=8080
root_url = https://x.example.com/grafana/
serve_from_sub_path = true
domain = ${DOMAIN}
"""
    files = {"/run/secrets/admin": "from the file\n", "/run/key": "from another\n"}
    plain = Settings(ini, {"DOMAIN": "d.example", "OTHER": "x"}, files.get)
    assert (plain.secret_key, plain.get("security", "admin_password")) == ("with # and ; in it", "from the file")
    assert (plain.database, plain.data, plain.plugins) == ("/srv/grafana/my.db", "/srv/grafana", "/srv/grafana/plugins")
    assert plain.url("172.17.0.2") == "http://172.17.0.2:8080/grafana"
    assert plain.get("server", "domain") == "d.example"
    assert (plain.files, plain.told) == ({"/run/secrets/admin": "from the file\n"}, {"DOMAIN": "d.example"})
    environment = {"GF_SECURITY_SECRET_KEY__FILE": "/run/key", "GF_PATHS_DATA": "/data", "GF_SERVER_HTTP_ADDR": "::1"}
    told = Settings(ini, environment, files.get)
    assert (told.secret_key, told.database) == ("from another", "/data/my.db")
    assert told.url("127.0.0.1") == "http://[::1]:8080/grafana"
    described = {"environment": told.told, "files": told.files}
    assert Settings.recorded(ini, json.loads(json.dumps(described))).secret_key == "from another"
    assert Settings("", {}, files.get).secret_key == SECRET_KEY
    assert Settings("[database]\nurl = postgres://g@db/grafana", {}, files.get).engine == "postgres"
    assert Settings("[server]\nprotocol = socket", {}, files.get).url("x") == ""


# -- encryption --------------------


def test_what_grafana_encrypted_opens_with_its_key_alone(one: Instance) -> None:
    with database.opened(one.database) as opened:
        opener = encryption.Opener(opened, KEY)
        assert opener.data_source(1, "prom") == {"basicAuthPassword": PASSWORD, "httpHeaderValue1": "Bearer x"}
        secrets = {label: opener.open(sealed) for label, sealed in opener.secrets()}
        assert secrets["contact point 1/cp1: url"] == HOOK
        wrong = encryption.Opener(opened, "wrong")
        assert wrong.data_source(1, "prom") == {}
    parts, sealed = database.secrets(one.database, "wrong", b"salt")
    assert sorted(sealed) == sorted(secrets)
    assert set(parts.values()) == {"does not open"}
    # A key that a key management service keeps is not ours to open.
    with contextlib.closing(sqlite3.connect(one.database)) as made:
        made.execute("UPDATE data_keys SET provider = 'awskms.main'")
        made.commit()
    parts, sealed = database.secrets(one.database, KEY, b"salt")
    assert sealed == []
    assert set(parts.values()) == {"does not open"}


@pytest.mark.parametrize("depth", ["catalog", "content"])
def test_secrets_that_do_not_open_are_told_at_any_depth(one: Instance, depth: Depth) -> None:
    described = {"salt": "00", "opened": True, "environment": {"GF_SECURITY_SECRET_KEY": KEY}, "files": {}}
    found = Content(one.database.parent, described, {"grafana.db": one.database})
    assert found.fingerprint(depth)[2] == []
    described["environment"] = {"GF_SECURITY_SECRET_KEY": "wrong"}
    assert "data_source 1/prom: basicAuthPassword" in found.fingerprint(depth)[2]


def test_gcm_and_what_is_older_than_data_keys_opens() -> None:
    salt, nonce = b"8bytes!!", b"n" * 12
    key = hashlib.pbkdf2_hmac("sha256", b"secret", salt, 10_000, 32)
    name = base64.b64encode(b"aes-gcm").rstrip(b"=")
    sealed = b"*" + name + b"*" + salt + nonce + AESGCM(key).encrypt(nonce, "çã of 1".encode(), None)
    assert encryption.decrypt(sealed, b"secret").decode() == "çã of 1"
    with pytest.raises(encryption.SealedError):
        encryption.decrypt(sealed, b"other")
    for length in (0, 1, 15, 16, 17, 31, 32, 100):
        legacy = standin.seal(b"x" * length, b"secret").split(b"*", 2)[2]
        assert encryption.decrypt(legacy, b"secret") == b"x" * length
    with pytest.raises(encryption.SealedError):
        encryption.decrypt(b"short", b"secret")
    noise = standin.seal(b"a\x01", b"secret")
    with contextlib.closing(sqlite3.connect(":memory:")) as empty, pytest.raises(encryption.SealedError):
        encryption.Opener(empty, "secret").open(noise)


# -- database --------------------


def test_a_fingerprint_knows_no_order_and_no_volatile_table(one: Instance, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with contextlib.closing(sqlite3.connect(copy)) as made:
        one.server.grafana.db.backup(made)
    before = database.fingerprint(copy, "content", b"salt")
    with contextlib.closing(sqlite3.connect(copy)) as made:
        rows = made.execute("SELECT * FROM org_user").fetchall() * 1
        made.execute("INSERT INTO org_user SELECT NULL, 2, 2, 'Viewer', created, updated FROM org_user")
        made.execute("DELETE FROM org_user WHERE org_id = 1")
        made.executemany("INSERT INTO org_user VALUES (?, ?, ?, ?, ?, ?)", rows)
        made.execute("DELETE FROM org_user WHERE org_id = 2")
        made.execute("UPDATE user SET last_seen_at = 'now'")
        made.execute("INSERT INTO server_lock VALUES (1, 'x', 1, 1)")
        made.commit()
        made.execute("VACUUM")
    assert database.fingerprint(copy, "content", b"salt") == before
    with contextlib.closing(sqlite3.connect(copy)) as made:
        made.execute("UPDATE org_user SET role = 'Editor'")
        made.commit()
    parts, counts = database.fingerprint(copy, "content", b"salt")
    assert [name for name in parts if parts[name] != before[0][name]] == ["table org_user"]
    assert counts == before[1]
    assert "table org_user" not in database.fingerprint(copy, "catalog", b"salt")[0]


def test_what_is_damaged_or_another_database_is_said(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as made:
        made.execute("CREATE TABLE x (y)")
        made.commit()
    with pytest.raises(SourceError, match="no database of Grafana"):
        database.check(other)
    other.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(SourceError, match="SQLite"):
        database.check(other)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_journal_is_played_back_into_its_own_database(tmp_path: Path, mode: str) -> None:
    live, copy = tmp_path / "live.db", tmp_path / "grafana.db"
    with contextlib.closing(sqlite3.connect(live, isolation_level=None)) as made:
        made.execute(f"PRAGMA journal_mode={mode}")
        made.execute("CREATE TABLE x (y)")
        made.executemany("INSERT INTO x VALUES (?)", [["a" * 500]] * 200)
        made.execute("PRAGMA cache_size=2")
        if mode == "delete":
            made.execute("BEGIN")
            made.execute("UPDATE x SET y = 'b' || y")
        left = [one for one in tmp_path.iterdir() if one.name.startswith("live.db")]
        for path in left:
            if not path.name.endswith("-shm"):
                (tmp_path / path.name.replace("live", "grafana")).write_bytes(path.read_bytes())
    assert len(list(tmp_path.glob("grafana.db*"))) == 2
    swap.play_back(copy)
    assert [one.name for one in tmp_path.glob("grafana.db*")] == ["grafana.db"]
    with contextlib.closing(sqlite3.connect(copy)) as made:
        assert made.execute("SELECT count(*), min(y) FROM x").fetchone() == (200, "a" * 500)


def test_a_journal_of_nothing_is_kept_under_another_name(tmp_path: Path) -> None:
    damaged, journal = tmp_path / "grafana.db", tmp_path / "grafana.db-wal"
    damaged.write_bytes(b"no database at all")
    journal.write_bytes(b"journal")
    swap.play_back(damaged)
    assert not journal.exists()
    assert [one.read_bytes() for one in tmp_path.glob("grafana.db-wal.restaura-*")] == [b"journal"]


# -- the API --------------------


def test_an_export_goes_into_another_grafana_and_out_again(one: Instance, two: Instance, tmp_path: Path) -> None:
    two.client.call("POST", "/api/folders", {"uid": "own", "title": "Own"})
    two.client.call("POST", "/api/dashboards/db", {"dashboard": {"uid": "d1", "title": "Before"}, "folderUid": "own"})
    source = {"uid": "prom", "name": "Prometheus", "type": "prometheus", "url": "http://before"}
    two.client.call("POST", "/api/datasources", source)
    before = two.client.portable()
    exported = one.export("export")
    told = {"url": two.client.url, "token": "", "user": ADMIN[0], "password": str(two.folder / "password")}
    record = {"api": {**told, "ca_file": "", "org": 0}, "directory": str(tmp_path / "kept")}
    (tmp_path / "kept").mkdir()
    exported.folder.rename(tmp_path / "kept" / swap.WANTED)
    api.export(two.service(), tmp_path / "kept" / swap.BEFORE)
    for _ in range(2):
        swap.swap(record)
        found, wanted = two.client.portable(), one.client.portable()
        assert [row.pop("provenance", "") for row in found["alert-rules"]] == ["", ""]
        for name in (
            "folders?parentUid=ops",
            "library-elements",
            "dashboard d0",
            "dashboard d1",
            "policies",
            "templates",
        ):
            assert found[name] == wanted[name], name
        assert found["group"]["interval"] == 120
        assert found["contact-points/export?decrypt=true"] == wanted["contact-points/export?decrypt=true"]
        assert [row["uid"] for row in found["alert-rules"]] == ["r1", "r2"]
        assert "own" in [row["uid"] for row in found["folders"]]
    for _ in range(2):
        swap.undo(record)
        after = two.client.portable()
        assert after == before
    swap.swap(record)
    two.client.call("POST", "/api/dashboards/db", {"dashboard": {"uid": "new", "title": "New"}, "folderUid": "ops-db"})
    swap.undo(record)
    assert two.client.status("GET", "/api/dashboards/uid/new") == 200
    assert two.client.status("GET", "/api/library-elements/lib1") == 404
    swap.discard(record)
    assert not (tmp_path / "kept").exists()


def test_pages_are_read_to_their_end_and_no_further(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAGE", 2)
    assert len(one.export("paged").keys("dashboards")) == 3
    asked: list[str] = []

    def same(_: str, path: str, __: dict[str, str]) -> Answer:
        asked.append(path)
        return (200, [{"uid": "a"}, {"uid": "b"}]) if path == "/api/search" else None

    one.fault(same)
    with pytest.raises(SourceError, match="never ends"):
        one.export("same")
    assert asked.count("/api/search") == 2
    monkeypatch.setattr(api, "MOST_PAGES", 20)
    one.fault(
        lambda _, path, asked: (200, [{"uid": f"{asked['page']}-{n}"} for n in "ab"]) if path == "/api/search" else None
    )
    with pytest.raises(SourceError, match=r"never ends.*|page after page"):
        one.export("ever")


def test_a_server_that_disappears_meanwhile_is_an_error(one: Instance) -> None:
    def fault(_: str, path: str, __: dict[str, str]) -> Answer:
        if path.startswith("/api/library-elements"):
            raise ConnectionResetError
        return None

    one.fault(fault)
    one.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="does not answer"):
        api.export(Service(one.client.url, one.service().headers, patience=0.3), one.folder)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_says_later_is_asked_for_again(one: Instance, status: int) -> None:
    asked: list[str] = []

    def fault(_: str, path: str, __: dict[str, str]) -> Answer:
        asked.append(path)
        return (status, {"message": "later"}) if asked.count(path) == 1 and path.startswith("/api/dashboards") else None

    one.fault(fault)
    assert len(one.export("again").keys("dashboards")) == 3
    one.fault(lambda _, path, __: (status, {"message": "always"}) if path.startswith("/api/dashboards") else None)
    with pytest.raises(SourceError, match=rf"status {status}.*always"):
        api.export(one.service(patience=0.5), one.folder / "again")


def test_credentials_that_are_not_taken_or_not_enough_are_said(one: Instance, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glsa_wrong\n")
    wrong = api.login(one.client.url, tmp_path / "token", "", None, "", 0)
    with pytest.raises(SourceError, match="not taken") as caught:
        api.organisation(wrong)
    assert "glsa_wrong" not in str(caught.value) + repr(wrong)
    (tmp_path / "token").write_text(one.client.token("Editor"))
    editor = api.login(one.client.url, tmp_path / "token", "", None, "", 0)
    made = api.export(editor, tmp_path)
    assert any("no admin" in note for note in made.notes)
    assert api.redacted(made.read("contact-points")) == ["cp1"]
    one.fault(lambda _, path, __: (404, {"message": "Not found"}) if path.startswith(PROVISIONING) else None)
    (tmp_path / "off").mkdir()
    without = api.export(one.service(), tmp_path / "off")
    assert without.notes
    assert not (tmp_path / "off/policies.json").exists()
    one.fault(lambda _, path, __: (200, {"no": "list"}) if path == "/api/datasources" else None)
    (tmp_path / "odd").mkdir()
    with pytest.raises(SourceError, match="not what the API says"):
        api.export(one.service(), tmp_path / "odd")


def test_what_the_api_does_not_keep_is_a_mismatch(one: Instance, two: Instance, tmp_path: Path) -> None:
    wanted = one.export("wanted")
    api.put_back(two.service(), wanted, two.export("before"))
    two.client.call("PUT", f"{PROVISIONING}/alert-rules/r1", rule("r1", 91))
    two.client.call("PUT", f"{PROVISIONING}/policies", policies("grafana-default-email"))
    name = urllib.parse.quote("d0")
    two.client.call("DELETE", f"/api/dashboards/uid/{name}")
    assert api.differences(wanted, two.export("after")) == [
        "dashboards d0: missing",
        "policies tree: differs",
        "alert-rules r1: differs",
    ]


def test_what_is_there_already_is_not_written_for_files_may_provision_it(
    one: Instance, two: Instance, tmp_path: Path
) -> None:
    wanted = one.export("wanted")
    api.put_back(two.service(), wanted, two.export("before"))

    def provisioned(method: str, _: str, __: dict[str, str]) -> Answer:
        return None if method == "GET" else (400, {"message": "Cannot save provisioned dashboard"})

    two.fault(provisioned)
    there = two.export("there")
    api.put_back(two.service(), wanted, there)
    path = wanted.folder / api.DASHBOARDS / "d0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "title": "Another"}))
    with pytest.raises(SourceError, match="dashboards d0") as caught:
        api.put_back(two.service(), wanted, there)
    assert "provisioned there" in caught.value.fix


def test_a_folder_moves_only_where_its_parent_is_another(one: Instance) -> None:
    """Before folders could be nested, there was no such path."""
    wanted, there = one.export("wanted"), one.export("there")
    wanted.write("folders", [{**row, "title": f"new {row['title']}"} for row in wanted.read("folders").values()])
    one.fault(lambda _, path, __: (404, {"message": "Not found"}) if path.endswith("/move") else None)
    api.put_back(one.service(), wanted, there)
    assert api.differences(wanted, one.export("after"), ["folders"]) == []


# -- refusals of a restore --------------------


def installed(ini: str, environment: dict[str, str] | None = None) -> Installed:
    return Installed(
        "grafana-server.service",
        None,
        "/etc/grafana/grafana.ini",
        b"",
        Settings(ini, environment or {}, lambda _: None),
    )


def test_links_of_provisioning_files_must_not_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    for name in ("real/datasources/loki.yaml", "real/..data/team.yaml", "elsewhere/team.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("apiVersion: 1\n")
    (tmp_path / "provisioning").symlink_to("real")
    there = installed(f"[paths]\nprovisioning = {tmp_path}/provisioning\n")
    # As Kubernetes mounts a ConfigMap; and by the path that Grafana knows.
    (folder / "team.yaml").symlink_to("..data/team.yaml")
    (folder / "loki.yaml").symlink_to(tmp_path / "provisioning/datasources/loki.yaml")
    tree = provisioning(there, "catalog")
    assert tree is not None
    assert "real/..data/team.yaml" in [entry.path for entry in tree.index.entries]
    for target in ("../elsewhere/team.yaml", f"{tmp_path}/elsewhere", "gone.yaml"):
        (folder / "out.yaml").unlink(missing_ok=True)
        (folder / "out.yaml").symlink_to(target)
        with pytest.raises(SourceError, match=f"is a link to {target}, which is not in the point") as caught:
            provisioning(there, "catalog")
        assert (caught.value.where, "cp -rL" in caught.value.fix) == (f"{tmp_path}/provisioning/out.yaml", True)


def test_a_secret_key_of_another_server_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grafana.ini").write_text("[security]\nsecret_key = old\n")
    before = Content(tmp_path, {"environment": {}, "files": {}})
    notes: list[str] = []
    live = installed("[security]\nsecret_key = new\n")
    found = restore.places(live, before, list(PARTS), notes)
    assert str(found["grafana.db"]) == "/var/lib/grafana/grafana.db"
    with pytest.raises(RefusedError, match="another secret_key") as caught:
        restore.places(live, before, ["grafana.db"], notes)
    assert "old" not in caught.value.what + caught.value.fix.replace("look", "")
    fixed = installed("", {"GF_SECURITY_SECRET_KEY": "of the unit"})
    with pytest.raises(RefusedError, match="another secret_key"):
        restore.places(fixed, before, list(PARTS), notes)


@pytest.mark.parametrize(("point", "here", "refused"), [("12.0.0", "11.6.0", True), ("11.6.0", "12.0.0-pre", False)])
def test_an_older_grafana_is_refused(point: str, here: str, refused: bool) -> None:
    with pytest.raises(RefusedError, match="older") if refused else contextlib.nullcontext():
        assert restore.refuse_older(point, here, installed("")) == []
    assert restore.refuse_older("", here, installed(""))


def test_migrations_that_are_not_known_here_are_refused(one: Instance, two: Instance) -> None:
    restore.refuse_unknown_migrations(one.database, two.database, installed(""))
    with contextlib.closing(sqlite3.connect(one.database)) as made:
        made.execute("INSERT INTO migration_log VALUES (NULL, 'of the future', '', 1, '', 'now')")
        made.commit()
    with pytest.raises(RefusedError, match="of the future"):
        restore.refuse_unknown_migrations(one.database, two.database, installed(""))
