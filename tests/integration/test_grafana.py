# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana as a systemd unit (a stand-in): backed up while it runs, wiped, restored, undone, drilled; and what fails."""

import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura import sqlite
from restaura.config.schema import Config, Settings
from restaura.errors import SourceError, SpaceError
from restaura.grafana import swap
from restaura.host import Host
from restaura.paths import Paths
from restaura.point import Fingerprint
from restaura.sources import Tree
from restaura.sources.grafana import Grafana, GrafanaComponent
from tests.docker_project import IMAGE, docker, make_image, run, start_daemon
from tests.grafana_server import ADMIN, HOOK, PASSWORD, PROVISIONING, Client, dump, panel, policies, rule
from tests.integration.system import System, tree_digest
from tests.standins import grafana as standin
from tools.lab import clients

ROOT = Path(__file__).resolve().parents[2]
ETC, DATA, HOME = Path("/etc/grafana"), Path("/var/lib/grafana"), Path("/usr/share/grafana")
DATABASE, INI = DATA / "grafana.db", ETC / "grafana.ini"
UNIT = Path("/etc/systemd/system/grafana-server.service")
DEFAULTS = Path("/etc/default/grafana-server")
KEY = "secret-key-of-the-lab"
SETTINGS = f"""
instance_name = lab
[server]
http_addr = 127.0.0.1
http_port = 3000
[security]
admin_password = {ADMIN[1]}
secret_key = {KEY}
"""
# As Grafana's own Debian package has them.
SERVICE = """
[Service]
EnvironmentFile=/etc/default/grafana-server
User=grafana
Group=grafana
Type=simple
WorkingDirectory=/usr/share/grafana
UMask=0027
ExecStart=/usr/share/grafana/bin/grafana server --config=${CONF_FILE} cfg:default.paths.data=${DATA_DIR} \
  cfg:default.paths.provisioning=${PROVISIONING_CFG_DIR}
"""
VARIABLES = """
GRAFANA_USER=grafana
DATA_DIR=/var/lib/grafana
CONF_FILE=/etc/grafana/grafana.ini
PROVISIONING_CFG_DIR=/etc/grafana/provisioning
PLUGINS_DIR=/var/lib/grafana/plugins
"""


def ctl(*words: str) -> None:
    run("systemctl", *words)


def install() -> None:
    """Install the stand-in where the package puts Grafana; nothing is kept of one that was there."""
    run("systemctl", "stop", "grafana-server.service", check=False)
    for folder in (ETC, DATA, HOME):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        pwd.getpwnam("grafana")
    except KeyError:
        run("useradd", "--system", "--home-dir", str(HOME), "--shell", "/bin/false", "--user-group", "grafana")
    for folder in (ETC / "provisioning/datasources", ETC / "provisioning/dashboards", DATA / "plugins", HOME / "bin"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests/standins/grafana.py", HOME / "bin/grafana.py")
    (HOME / "bin/grafana").write_text('#!/bin/sh\nexec python3 /usr/share/grafana/bin/grafana.py "$@"\n')
    (HOME / "bin/grafana").chmod(0o755)
    INI.write_text(SETTINGS)
    INI.chmod(0o640)
    shutil.chown(INI, "root", "grafana")
    run("chown", "-R", "grafana:grafana", str(DATA))
    UNIT.write_text(SERVICE)
    DEFAULTS.write_text(VARIABLES)
    plugin = DATA / "plugins/acme-panel"
    plugin.mkdir()
    (plugin / "plugin.json").write_text(json.dumps({"id": "acme-panel", "info": {"version": "1.2.3"}}))
    (ETC / "provisioning/datasources/loki.yaml").write_text("apiVersion: 1\ndatasources: []\n")
    shutil.chown(ETC / "provisioning/datasources/loki.yaml", "root", "grafana")
    (ETC / "provisioning/datasources/loki.yaml").chmod(0o640)
    ctl("daemon-reload")
    ctl("start", "grafana-server.service")
    CLIENT.wait()


CLIENT = Client("http://127.0.0.1:3000")


@pytest.fixture
def grafana() -> Iterator[Client]:
    """A Grafana that runs, and has one of everything."""
    install()
    CLIENT.fill()
    yield CLIENT
    run("systemctl", "stop", "grafana-server.service", check=False)


def system(place: Path, **options: Any) -> System:
    """Return a host that keeps the component `grafana` in a dated store."""
    one = System(place / "system")
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}],
        plans=[{"name": "daily"}],
        components={"grafana": [{"name": "grafana", **options}]},
    )
    return one


def wipe() -> None:
    """Lose all that Grafana has, and start a new one."""
    ctl("stop", "grafana-server.service")
    run("sh", "-c", f"rm -rf {DATA}/grafana.db* {ETC}/provisioning/*")
    INI.write_text(SETTINGS.replace(KEY, "another-key"))
    ctl("start", "grafana-server.service")
    CLIENT.wait()


def owner(path: Path) -> tuple[str, str, int]:
    return path.owner(), path.group(), path.stat().st_mode


def point(store: Path) -> Path:
    """Return the directory of the only component in the only point."""
    (found,) = store.glob("web1/daily/*/grafana")
    return found


def alone(tmp_path: Path) -> Host:
    """Return a host for a source that is used without the program around it."""
    return Host(Paths(tmp_path / "alone"), Config(Settings(host="h", reserve_bytes=1_000_000)))


def give_token(tmp_path: Path, token: str) -> None:
    keys = tmp_path / "alone/etc/restaura/keys"
    keys.mkdir(parents=True)
    (keys / "components.grafana.token").write_text(token)


def fingerprint(tmp_path: Path, **options: Any) -> Fingerprint:
    """Take what a run takes, and return its fingerprint."""
    with Grafana(GrafanaComponent(**{"name": "grafana", **options}), alone(tmp_path)).freeze("content") as frozen:
        indexes = {one.name: one.index for one in frozen.artifacts() if isinstance(one, Tree)}
        return frozen.outcome(indexes).fingerprint


# grafana-client comes with an HTTP library that takes the place of another one: it runs in a process of its own.
BY_CLIENT = """
import json, os, sys
from grafana_client import GrafanaApi
api = GrafanaApi.from_url(os.environ["GRAFANA_ADDRESS"])
alerting = api.alertingprovisioning
uids = sorted(one["uid"] for one in api.search.search_dashboards(type_="dash-db"))
print(json.dumps([
    api.health.check(), api.datasource.list_datasources(), api.folder.get_all_folders(),
    [api.dashboard.get_dashboard(uid) for uid in uids], api.libraryelement.list_library_elements(),
    alerting.get_alertrules_all(), alerting.get_rule_group("ops", "hosts"), alerting.get_contactpoints(),
    alerting.get_notification_policy_tree(), alerting.get_mute_timings(), alerting.get_templates(),
]))
"""


def by_grafana_client() -> Any:
    """Return what grafana-client, a client that others use, reads of the server."""
    folder = clients.folder_of("grafana")
    assert folder.is_dir(), f"python -m tools.lab.clients grafana: {folder}"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(folder),
        "GRAFANA_ADDRESS": CLIENT.url.replace("//", f"//{':'.join(ADMIN)}@"),
    }
    done = subprocess.run(
        [sys.executable, "-c", BY_CLIENT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_backup_wipe_restore_and_undo(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path, token=grafana.token())
    told = by_grafana_client()
    before, owners, files = grafana.everything(), [owner(DATABASE), owner(INI)], tree_digest(ETC / "provisioning")
    answer = host.run("run", "daily", "--drill")
    (drilled,) = answer["drill"]["results"]
    assert (drilled["verdict"], drilled["problems"]) == ("proven", [])
    (component,) = answer["components"]
    assert (component["state"], component["consistency"]) == ("complete", "transactional")
    stored = {str(one.relative_to(point(tmp_path / "store"))) for one in point(tmp_path / "store").rglob("*")}
    assert stored >= {"grafana.db.age", "grafana.ini.age", "server.json.age", "contact-points.json.age"}
    assert stored >= {"dashboards/d0.json", "alert-rules.json", "folders.json", "plugins.json", "provisioning.tar.age"}
    model = json.loads((point(tmp_path / "store") / "dashboards/d1.json").read_text())
    assert model["panels"] == [panel("CPU of çã 1")]
    everywhere = b"".join(one.read_bytes() for one in (tmp_path / "store").rglob("*") if one.is_file())
    for secret in (PASSWORD, HOOK, KEY, ADMIN[1]):
        assert secret.encode() not in everywhere
    wipe()
    assert grafana.call("GET", "/api/datasources") == []
    fresh = dump(DATABASE)
    restored = host.run("restore", "--component", "grafana", "--yes")
    assert not [note for note in restored["notes"] if "acme" not in note]
    assert grafana.everything() == before
    assert by_grafana_client() == told
    assert ([owner(DATABASE), owner(INI)], INI.read_text()) == (owners, SETTINGS)
    assert tree_digest(ETC / "provisioning") == files
    host.run("undo", "latest")
    CLIENT.wait()
    assert INI.read_text() == SETTINGS.replace(KEY, "another-key")
    assert dump(DATABASE) == fresh
    host.run("undo", restored["id"], "--discard")
    assert not [*DATA.glob(".restaura-*"), *ETC.glob(".restaura-*")]
    assert host.leftovers() == []


CHANGES: dict[str, tuple[str, Any]] = {
    "a threshold": ("alert_rule 1/r1", lambda c: c.call("PUT", f"{PROVISIONING}/alert-rules/r1", rule("r1", 91))),
    "a pause": (
        "alert_rule 1/r2",
        lambda c: c.call("PUT", f"{PROVISIONING}/alert-rules/r2", rule("r2", 5) | {"isPaused": True}),
    ),
    "an interval": (
        "export rule-groups ops/hosts",
        lambda c: c.call(
            "PUT",
            f"{PROVISIONING}/folder/ops/rule-groups/hosts",
            c.call("GET", f"{PROVISIONING}/folder/ops/rule-groups/hosts") | {"interval": 60},
        ),
    ),
    "a panel's title": (
        "dashboard 1/d0",
        lambda c: c.call(
            "POST",
            "/api/dashboards/db",
            {"dashboard": {"uid": "d0", "title": "Dashboard 0", "panels": [panel("CPU of ça 0")]}, "overwrite": True},
        ),
    ),
    "a dashboard's folder": (
        "export folders of dashboards",
        lambda c: c.call(
            "POST",
            "/api/dashboards/db",
            {**c.call("GET", "/api/dashboards/uid/d1"), "folderUid": "ops", "overwrite": True},
        ),
    ),
    "a dashboard less": ("dashboard 1/d2", lambda c: c.call("DELETE", "/api/dashboards/uid/d2")),
    "a folder's title": (
        "folder 1/ops",
        lambda c: c.call("PUT", "/api/folders/ops", {"title": "Operation", "overwrite": True}),
    ),
    "a folder's parent": (
        "folder 1/ops-db",
        lambda c: c.call("POST", "/api/folders/ops-db/move", {"parentUid": ""}),
    ),
    "a data source's secret": (
        "opened data_source 1/prom: basicAuthPassword",
        lambda c: c.call(
            "PUT",
            "/api/datasources/uid/prom",
            {**c.call("GET", "/api/datasources/uid/prom"), "secureJsonData": {"basicAuthPassword": "Password"}},
        ),
    ),
    "a data source's address": (
        "data_source 1/prom",
        lambda c: c.call(
            "PUT",
            "/api/datasources/uid/prom",
            {**c.call("GET", "/api/datasources/uid/prom"), "url": "http://127.0.0.1:9091"},
        ),
    ),
    "a contact point's secret": (
        "opened contact point 1/cp1: url",
        lambda c: c.call("PUT", f"{PROVISIONING}/contact-points/cp1", slack("#ops", HOOK + "2")),
    ),
    "a contact point's channel": (
        "export contact-points cp1",
        lambda c: c.call("PUT", f"{PROVISIONING}/contact-points/cp1", slack("#op", "[REDACTED]")),
    ),
    "a policy": (
        "export policies tree",
        lambda c: c.call("PUT", f"{PROVISIONING}/policies", policies("grafana-default-email")),
    ),
    "a mute timing": (
        "export mute-timings weekend",
        lambda c: c.call(
            "PUT",
            f"{PROVISIONING}/mute-timings/weekend",
            {"name": "weekend", "time_intervals": [{"weekdays": ["sunday"]}]},
        ),
    ),
    "a template": (
        "export templates short",
        lambda c: c.call("PUT", f"{PROVISIONING}/templates/short", {"template": '{{ define "short" }}y{{ end }}'}),
    ),
    "a library panel": (
        "library_element 1/lib1",
        lambda c: c.call(
            "PATCH",
            "/api/library-elements/lib1",
            {"name": "Load", "kind": 1, "version": 1, "folderUid": "ops", "model": {"type": "stat", "title": "Loads"}},
        ),
    ),
    "a role": ("table org_user", lambda _: sql("UPDATE org_user SET role = 'Editor'")),
    "a password": ("user 1/admin", lambda _: sql("UPDATE user SET password = upper(password)")),
    "a token revoked": ("table api_key", lambda _: sql("UPDATE api_key SET is_revoked = 1 WHERE name LIKE 'spare%'")),
    "a silence": (
        "table kv_store",
        lambda _: sql("INSERT INTO kv_store VALUES (1, 1, 'alertmanager', 'silences', 'x', 'now', 'now')"),
    ),
    "an index": ("schema", lambda _: sql("CREATE INDEX of_mine ON dashboard (title)")),
    "a plugin's setting": (
        "plugin_setting 1/acme-panel",
        lambda _: sql("INSERT INTO plugin_setting VALUES (1, 1, 'acme-panel', 1, 0, '{}', '{}', 'now', 'now', '')"),
    ),
    "the secret key": ("secret key", lambda _: INI.write_text(SETTINGS.replace(KEY, f"{KEY}2"))),
    "the environment": ("environment", lambda _: DEFAULTS.write_text(VARIABLES + "GF_USERS_DEFAULT_THEME=light\n")),
    "a provisioning file": (
        "provisioning/datasources/loki.yaml",
        lambda _: (ETC / "provisioning/datasources/loki.yaml").write_text("apiVersion: 1\ndatasources: [ ]\n"),
    ),
    "a provisioning file's mode": (
        "provisioning/datasources/loki.yaml",
        lambda _: (ETC / "provisioning/datasources/loki.yaml").chmod(0o600),
    ),
}


def slack(channel: str, url: str) -> dict[str, Any]:
    return {"uid": "cp1", "name": "Slack", "type": "slack", "settings": {"recipient": channel, "url": url}}


def sql(statement: str) -> None:
    """Change the live database beside its server."""
    with contextlib.closing(sqlite3.connect(DATABASE, timeout=20)) as opened:
        opened.execute(statement)
        opened.commit()


def test_every_small_change_is_in_the_fingerprint(
    grafana: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restaura.grafana.capture.secrets.token_hex", lambda count: "ab" * count)
    give_token(tmp_path, grafana.token())
    sql("INSERT INTO api_key SELECT NULL, 1, 'spare', 'x', 'Viewer', 'now', 'now', 1, NULL, 0")
    before = fingerprint(tmp_path)
    # What Grafana writes all the time is no change.
    sql("INSERT INTO alert_instance VALUES (1, 'r1', '[]', 'h', 'Normal', 1, 1)")
    sql("INSERT INTO user_auth_token VALUES (1, 1, 'a', 'b', 'c', 'd', 1, 1, 1, 1, 1)")
    assert before.differences(fingerprint(tmp_path)) == []
    for name, (part, change) in CHANGES.items():
        change(grafana)
        after = fingerprint(tmp_path)
        found = [one.rpartition(": ")[0].removesuffix(": differs") for one in before.differences(after)]
        assert part in found, f"{name}: {found}"
        before = after


IN_CONTAINER = """
export GF_SECURITY_SECRET_KEY="$(cat "$GF_SECURITY_SECRET_KEY__FILE")"
exec python3 /srv/grafana.py server
"""


def test_a_container_is_stopped_restored_and_started_again(tmp_path: Path) -> None:
    start_daemon()
    make_image(tmp_path)
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "grafana.ini").write_text(f"[security]\nadmin_password = {ADMIN[1]}\n")
    docker("volume", "create", "graf-data")
    volume = Path(docker("volume", "inspect", "-f", "{{.Mountpoint}}", "graf-data"))
    run("chown", "472:0", str(volume))
    options = ["-v", "graf-data:/var/lib/grafana", "-v", f"{tmp_path}/grafana.ini:/etc/grafana/grafana.ini"]
    options += ["-v", f"{tmp_path}/key:/run/secrets/key:ro", "-e", "GF_SECURITY_SECRET_KEY__FILE=/run/secrets/key"]
    options += ["-v", "/usr:/usr:ro", "-v", f"{ROOT}/tests/standins/grafana.py:/srv/grafana.py:ro", "--user", "472:0"]
    try:
        docker("run", "-d", "--init", "--name", "graf", *options, IMAGE, "sh", "-c", IN_CONTAINER)
        address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "graf")
        client = Client(f"http://{address}:3000")
        client.wait()
        client.fill()
        host = system(tmp_path / "place", container="graf", password=ADMIN[1])
        before, files = client.everything(), owner_numbers(volume / "grafana.db")
        (drilled,) = host.run("run", "daily", "--drill")["drill"]["results"]
        assert (drilled["verdict"], drilled["problems"]) == ("proven", [])
        started = docker("inspect", "-f", "{{.State.StartedAt}}", "graf")
        client.call("DELETE", "/api/dashboards/uid/d0")
        changed = client.everything()
        notes = host.run("restore", "--component", "grafana", "--yes")["notes"]
        assert docker("inspect", "-f", "{{.State.StartedAt}}", "graf") != started
        assert client.everything() == before
        assert owner_numbers(volume / "grafana.db") == files
        assert notes == []
        host.run("undo", "latest")
        client.wait()
        assert client.everything() == changed
        docker("stop", "-t", "1", "graf")
        (tmp_path / "key").write_text("another key")
        answer = host.run("restore", "--component", "grafana", "--yes", expect=2)
        assert "another secret_key" in str(answer["error"])
        (tmp_path / "key").write_text(f"{KEY}\n")
        host.run("restore", "--component", "grafana", "--yes")
        assert docker("inspect", "-f", "{{.State.Status}}", "graf") == "exited"
        with contextlib.closing(sqlite3.connect(volume / "grafana.db")) as opened:
            assert opened.execute("SELECT count(*) FROM dashboard WHERE uid = 'd0'").fetchone() == (1,)
        docker("rm", "graf")
        docker("create", "--name", "graf", IMAGE, "sh")
        check = host.run("run", "daily", "--check", expect=None)
        assert "is in no volume" in json.dumps(check)
    finally:
        docker("rm", "-f", "graf", check=False)
        docker("volume", "rm", "-f", "graf-data", check=False)


def owner_numbers(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode


# -- restores that are refused, cut off, or of something else --------------------


def test_a_killed_restore_leaves_the_old_or_the_new(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path)
    host.run("run", "daily")
    grafana.call("DELETE", "/api/dashboards/uid/d0")
    changed = grafana.everything()
    for phase in ("stage", "swap"):
        host.killed("restore", "--component", "grafana", "--yes", at=phase, who="run, watcher")
        host.run("recover")
        CLIENT.wait()
        assert grafana.everything() == changed, phase
        assert not [*DATA.glob(".restaura-*"), *ETC.glob(".restaura-*")], phase
    host.killed("restore", "--component", "grafana", "--yes", at="committed", who="run, watcher")
    host.run("recover")
    CLIENT.wait()
    assert grafana.status("GET", "/api/dashboards/uid/d0") == 200
    host.killed("undo", "latest", at="undo", who="run, watcher")
    host.run("recover")
    CLIENT.wait()
    assert grafana.everything() == changed
    assert host.leftovers() == []
    host.killed("run", "daily", at="copy", who="run, watcher")
    host.run("recover")
    assert host.leftovers() == []


def test_another_key_an_older_server_and_a_holder_are_refused(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path)
    host.run("run", "daily")
    live = dump(DATABASE)

    def refused(*words: str) -> str:
        answer = host.run("restore", "--component", "grafana", *words, "--yes", expect=2)
        assert (dump(DATABASE), host.leftovers()) == (live, [])
        assert not list(DATA.glob(".restaura-*"))
        return str(answer["error"])

    with DATABASE.open("rb"):
        assert "in use" in refused()
    INI.write_text(SETTINGS.replace(KEY, "another-key"))
    assert "another secret_key" in refused("--path", "grafana.db")
    DEFAULTS.write_text(VARIABLES + "GF_SECURITY_SECRET_KEY=of-the-unit\n")
    assert "another secret_key" in refused()
    INI.write_text(SETTINGS)
    DEFAULTS.write_text(VARIABLES + "GRAFANA_STANDIN_VERSION=10.1.0\n")
    ctl("restart", "grafana-server.service")
    CLIENT.wait()
    assert "11.6.0" in refused()
    DEFAULTS.write_text(VARIABLES + "GRAFANA_STANDIN_VERSION=12.0.0\n")
    ctl("restart", "grafana-server.service")
    CLIENT.wait()
    host.run("restore", "--component", "grafana", "--path", "grafana.db", "--yes")
    assert grafana.call("GET", "/api/health")["version"] == "12.0.0"


def test_a_server_that_does_not_come_up_gets_its_old_database_back(
    grafana: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = system(tmp_path)
    host.run("run", "daily")
    grafana.call("DELETE", "/api/dashboards/uid/d0")
    host.run("restore", "--component", "grafana", "--to", f"dir:{tmp_path / 'files'}", "--yes")
    live = dump(DATABASE)
    record = {
        **dict.fromkeys(("holds", "moves", "parents", "attributes", "left"), ()),
        "databases": [str(DATABASE)],
        "units": ["grafana-server.service"],
        "container": "",
        "stop_seconds": 10,
        "server": {},
        "url": "http://127.0.0.1:3009",
        "ca_file": "",
    }
    monkeypatch.setattr(swap, "HEALTHY_SECONDS", 1)
    with pytest.raises(SourceError, match="does not come up"):
        swap.swap(record)
    CLIENT.wait()
    assert dump(DATABASE) == live
    files = {one.name for one in (tmp_path / "files").iterdir()}
    assert files >= {"grafana.db", "grafana.ini", "server.json", "provisioning", "dashboards"}
    with contextlib.closing(sqlite3.connect(tmp_path / "files/grafana.db")) as opened:
        assert opened.execute("SELECT count(*) FROM dashboard WHERE uid = 'd0'").fetchone() == (1,)


def test_a_killed_server_leaves_no_journal_beside_the_restored_database(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path)
    INI.write_text(SETTINGS + "[database]\nwal = true\n")
    ctl("restart", "grafana-server.service")
    CLIENT.wait()
    host.run("run", "daily")
    before = grafana.everything()
    grafana.call("POST", "/api/dashboards/db", {"dashboard": {"uid": "late", "title": "Late"}})
    late = grafana.everything()
    run("systemctl", "kill", "--signal=KILL", "grafana-server.service")
    run("systemctl", "reset-failed", "grafana-server.service", check=False)
    assert (DATA / "grafana.db-wal").stat().st_size
    host.run("restore", "--component", "grafana", "--yes")
    assert sorted(one.name for one in DATA.glob("grafana.db*")) == ["grafana.db"]
    ctl("start", "grafana-server.service")
    CLIENT.wait()
    assert grafana.everything() == before
    ctl("stop", "grafana-server.service")
    host.run("undo", "latest")
    ctl("start", "grafana-server.service")
    CLIENT.wait()
    assert grafana.everything() == late


def test_the_export_goes_into_another_grafana_with_its_secrets(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path, token=grafana.token())
    host.run("run", "daily")
    wanted = grafana.portable()
    other = tmp_path / "other"
    other.mkdir()
    ini = other / "grafana.ini"
    ini.write_text(SETTINGS.replace(KEY, "key-of-the-other") + f"[paths]\ndata = {other}\n")
    server = standin.Server(standin.Grafana(ini, {}), ("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        client = Client(f"http://127.0.0.1:{server.server_address[1]}")
        empty = client.portable()
        component = {"name": "grafana", "unit": "", "url": client.url, "token": client.token(), "shrink_guard": 100}
        host.configure(components={"grafana": [component]})
        host.killed("restore", "--component", "grafana", "--to", "api", "--yes", at="swapped", who="run, watcher")
        host.run("recover")
        assert client.portable() == empty
        restored = host.run("restore", "--component", "grafana", "--to", "api", "--yes")
        assert restored["notes"] == []
        found = client.portable()
        for rows in (wanted["alert-rules"], wanted["group"]["rules"]):
            assert [row.pop("provenance") for row in rows] == ["api", "api"]
        assert found == wanted
        host.run("undo", "latest")
        assert client.portable() == empty
        host.run("undo", restored["id"], "--discard")
        assert host.leftovers() == []
        assert not list((tmp_path / "system/var/lib/restaura/kept").iterdir())
        assert "error" in host.run("restore", "--component", "grafana", "--yes", expect=2)
        # Over the network there is the export alone, and a drill proves that.
        (drilled,) = host.run("run", "daily", "--drill")["drill"]["results"]
        assert drilled["verdict"] == "proven"
    finally:
        server.shutdown()
        server.server_close()
        server.grafana.db.close()


# -- what goes wrong in a run --------------------


def test_what_cannot_be_captured_is_said_before(grafana: Client, tmp_path: Path) -> None:
    def problems(**options: Any) -> str:
        return str(Grafana(GrafanaComponent(**{"name": "grafana", **options}), alone(tmp_path)).probe().problems)

    assert problems() == "[]"
    (tmp_path / "other.ini").write_text("[database]\ntype = mysql\n")
    assert "its database is mysql" in problems(config=str(tmp_path / "other.ini"))
    (tmp_path / "other.ini").write_text("[database]\nurl = postgres://grafana@db/grafana\n")
    assert "(`postgres`) in the same plan" in problems(config=str(tmp_path / "other.ini"))
    assert problems(config=str(tmp_path / "other.ini"), external_database=True) == "[]"
    (tmp_path / "other.ini").write_text("[paths]\ndata = /nowhere\n")
    assert "no database /nowhere/grafana.db" in problems(config=str(tmp_path / "other.ini"))
    assert "systemd knows no such unit" in problems(unit="no-such.service")
    assert "`url`, and `token` or `password`" in problems(unit="")
    give_token(tmp_path, "glsa_wrong")
    assert "not taken" in problems()


def test_a_point_whose_secrets_do_not_open_is_suspect_and_not_proven(grafana: Client, tmp_path: Path) -> None:
    """Somebody changed the key in grafana.ini: no data source of such a point would decrypt."""
    INI.write_text(SETTINGS.replace(KEY, "rotated-by-somebody"))
    ctl("restart", "grafana-server.service")
    CLIENT.wait()
    host = system(tmp_path)
    taken = host.run("run", "daily", expect=3)
    (component,) = taken["components"]
    assert (component["state"], component["good"]) == ("suspect", False)
    assert "secrets do not open with the server's secret_key: " in taken["text"]
    assert "data_source 1/prom: basicAuthPassword" in str(component["notes"])
    host.run("accept", taken["point"], "grafana")
    (drilled,) = host.run("drill", "--plan", "daily", expect=None)["results"]
    assert drilled["verdict"] == "disproven"
    assert "do not open" in drilled["problems"][0]
    INI.write_text(SETTINGS)
    ctl("restart", "grafana-server.service")
    CLIENT.wait()
    again = host.run("run", "daily", "--drill")
    assert [one["state"] for one in again["components"]] == ["complete"]
    assert [one["verdict"] for one in again["drill"]["results"]] == ["proven"]
    assert "grafana: the component has no token" in again["text"]


def test_provisioning_files_behind_links_are_refused(grafana: Client, tmp_path: Path) -> None:
    shutil.move(str(ETC / "provisioning/datasources"), tmp_path / "datasources")
    (ETC / "provisioning/datasources").symlink_to(tmp_path / "datasources")
    host = system(tmp_path)
    for words in ((), ("--check",)):
        said = host.run("run", "daily", *words, expect=1)["text"]
        assert "provisioning/datasources" in said
        assert "which is not in the point" in said
    with pytest.raises(SourceError, match="which is not in the point"):
        fingerprint(tmp_path)


def test_an_export_that_fails_fails_the_component(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path, token=grafana.token())
    ctl("stop", "grafana-server.service")
    assert "does not answer" in json.dumps(host.run("run", "daily", expect=1))
    assert not list((tmp_path / "store").glob("web1/daily/*/manifest.json"))
    assert host.leftovers() == []
    # Without a token, the database alone is enough: a server that is down has it all the same.
    host = system(tmp_path / "without")
    assert host.run("run", "daily")["components"][0]["state"] == "complete"
    stored = point(tmp_path / "without/store")
    assert (stored / "dashboards/d0.json").exists()
    assert not (stored / "policies.json").exists()
    database = stored / "grafana.db.age"
    database.write_bytes(database.read_bytes()[:-100] + bytes(100))
    host.run("restore", "--component", "grafana", "--yes", expect=1)
    assert host.run("drill", "--plan", "daily", expect=6)["results"][0]["verdict"] == "disproven"
    assert not list(DATA.glob(".restaura-*"))


def test_a_locked_database_and_a_full_disk_fail_the_component(
    grafana: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE", 0.5)
    with contextlib.closing(sqlite3.connect(DATABASE, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match="locked"):
            fingerprint(tmp_path)
    assert "dashboard 1/d0" in fingerprint(tmp_path).parts
    monkeypatch.setattr(Host, "reserve", lambda *_: 1 << 60)
    with pytest.raises(SpaceError):
        fingerprint(tmp_path)
    assert not list((tmp_path / "alone/var/lib/restaura/spool").iterdir())
