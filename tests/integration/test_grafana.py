# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana as a systemd unit (a stand-in): backed up while it runs, wiped, restored, undone, drilled; and what fails."""

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker_project import run, wait_until
from tests.grafana_server import ADMIN, HOOK, PASSWORD, PROVISIONING, Client, dump, panel, policies, rule
from tests.integration.system import System

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


def test_backup_wipe_restore_and_undo(grafana: Client, tmp_path: Path) -> None:
    host = system(tmp_path, token=grafana.token())
    before, stat = grafana.everything(), DATABASE.stat()
    answer = host.run("run", "daily", "--drill")
    (drilled,) = answer["drill"]["results"]
    assert (drilled["verdict"], drilled["problems"]) == ("proven", [])
    print(json.dumps(answer["components"], indent=1)[:3000])
    for one in sorted((tmp_path / "store").rglob("*")):
        print(one)
    wipe()
    assert grafana.call("GET", "/api/datasources") == []
    restored = host.run("restore", "--component", "grafana", "--yes")
    print(restored)
    assert grafana.everything() == before
    assert (DATABASE.stat().st_uid, DATABASE.stat().st_mode) == (stat.st_uid, stat.st_mode)
    assert INI.read_text() == SETTINGS
    host.run("undo", "latest")
    CLIENT.wait()
    assert "another-key" in INI.read_text()
    assert grafana.call("GET", "/api/search?type=dash-db") == []
