# SPDX-License-Identifier: GPL-3.0-or-later
"""Analyst IA, a whole application: its schedule row by row, both of its recoveries, and its integrity checks.

A host is set up from `inventories/analyst_ia`; only the connection, the stores and the vault's values are the test's.
The application runs and writes all the while. New Relic and OpenAI are played by a stand-in; while that is stopped, the
application runs on but its data stands still, and can be compared.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks.runs import Play, Site, sh
from tools.lab import hosts

# One host, and its tests in the order of this file.
pytestmark = pytest.mark.timeout(900)

NAME = "analyst_ia"
HOME = "/srv/analyst_ia"
CACHE = f"{HOME}/backend/historico"
LOG = f"{HOME}/backend/logs/analyst_ia.log"
API = "http://127.0.0.1:8000"
INTEGRITY = f"python3 -B {HOME}/backend/test_system_integrity.py"

# Digests by the systems' own tools. A SQLite file differs from copy to copy; what is in it does not.
CACHED = f"""cd {CACHE}
{{ find . ! -name '*.half' ! -name '*-wal' ! -name '*-shm' -printf '%p %m %u %g\\n' | sort
find . -name '*.json' -exec sha256sum {{}} + | sort; sqlite3 interactions.db .dump; }} | sha256sum"""
REPORTS = f"cd {HOME}/relatorios && {{ find . -printf '%p %m %u %g\\n' | sort; sha256sum *.json; }} | sha256sum"
# What only people write, with its times.
PROGRAM = f"""cd {HOME}/backend
{{ find .env *.py utils -printf '%p %m %u %g %T@\\n' | sort; sha256sum .env *.py utils/*
sha256sum /etc/systemd/system/analyst_ia.service; }} | sha256sum"""

SERVICES = "systemd-run --quiet --unit services /usr/bin/python3 /root/new_relic_and_openai.py 9099"
# A dead-man's switch and a mailbox, as files on the host.
OBSERVERS = """
mkdir -p /root/beats && cd /root/beats && touch full cache logs reports
systemd-run --quiet --unit beats --property StandardError=append:/root/beats.log \\
  /usr/bin/python3 -m http.server 9100 --bind 127.0.0.1 --directory /root/beats
printf '#!/bin/sh\\n{ echo "mail $*"; cat; } >> /root/mailbox\\n' > /usr/local/bin/mail
chmod 755 /usr/local/bin/mail; touch /root/mailbox
"""
# The tests start the crontab's lines; the daemon must not catch up in between.
NO_CRON = r"""
mkdir -p /etc/systemd/system/cron.service.d
printf '[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n' > /etc/systemd/system/cron.service.d/idle.conf
systemctl daemon-reload; systemctl try-restart cron
"""


def answer(host: hosts.Host, command: str, code: int = 0) -> dict[str, Any]:
    """Run a verb with --json and return its answer; `code` is the exit code it must have."""
    argv = ["docker", "exec", host.container, "/bin/bash", "-c", f"{command} --json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def results(rows: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what each check of each component found."""
    return {row["component"]: {one["check"]: one["result"] for one in row["checks"]} for row in rows}


def install(host: hosts.Host, project: Path) -> None:
    """Put the application on a host, as its people would from Git, with the world around it."""
    for path in ("tests/applications/analyst_ia", "tests/standins/new_relic_and_openai.py"):
        subprocess.run(["docker", "cp", "-q", str(project / path), f"{host.container}:/root/"], check=True)
    sh(host, f"{OBSERVERS}\n{SERVICES}\n/root/analyst_ia/install.sh /root/analyst_ia http://127.0.0.1:9099")


def until(host: hosts.Host, script: str) -> None:
    """Wait until a script succeeds."""
    sh(host, f"for n in $(seq 600); do if {script}; then exit 0; fi; sleep 0.1; done; exit 1")


def stand_still(host: hosts.Host) -> None:
    """Stop what the application asks: it runs on, and its data stands still."""
    sh(host, "systemctl stop services")
    # Both of its threads have met that, and so ended what they were writing.
    size = sh(host, f"wc -c < {LOG}").strip()
    for told in ("the collector failed", "no answer"):
        until(host, f"tail -c +{size} {LOG} | grep -q '{told}'")


def health(host: hosts.Host) -> dict[str, Any]:
    """Return what the application says of itself, once it answers."""
    until(host, f"curl -fs {API}/health > /root/health")
    found: dict[str, Any] = json.loads(sh(host, "cat /root/health"))
    return found


def cron(host: hosts.Host, project: Path, plan: str) -> None:
    """Run a plan's own line of the crontab, as cron would."""
    line = (project / "molecule/resources/cron_line.py").read_text()
    sh(host, f"python3 - /etc/cron.d/restaura {plan} <<'CRON'\n{line}\nCRON\n")


def points(host: hosts.Host, plan: str) -> dict[str, list[dict[str, Any]]]:
    """Return a plan's points by id, each with its components."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in answer(host, f"restaura list --plan {plan} --refresh")["points"]:
        found.setdefault(one["point"], []).append(one)
    return found


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What outlives a host."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(project: Path, store: Path) -> Iterator[hosts.Host]:
    host = hosts.create("analyst-ia", "debian13", mounts=[f"{store}:/mnt/store"])
    sh(host, NO_CRON)
    install(host, project)
    until(host, f"curl -fs {API}/health | grep -q '\"requests\": [1-9][0-9]'")
    yield host
    hosts.destroy(host.name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, project: Path, server: hosts.Host) -> Site:
    """The inventory as it is in the repository, but for its stores and its vault."""
    site = Site(tmp_path_factory.mktemp("site"), project, {})
    site.add(server)
    site.hosts = {NAME: site.hosts[server.name]}
    variables = site.folder / "site/group_vars/all"
    variables.mkdir(parents=True)
    (variables / "backup.yml").write_bytes((project / f"inventories/{NAME}/group_vars/all/backup.yml").read_bytes())
    stores = [{"name": "local", "type": "dated", "location": "/mnt/store", "encrypt": True}]
    (variables / "stores.yml").write_text(yaml.safe_dump({"backup_runtime_stores": stores}))
    (variables / "vault.yml").write_text(yaml.safe_dump({"vault_heartbeat_url": "http://127.0.0.1:9100"}))
    return site


@pytest.fixture(scope="module")
def setup(site: Site) -> Play:
    # The first point is to be a day old, and the clock must not seem to jump.
    done = site.play("setup_backup.yml", backup_runtime_first_run=False)
    assert (done.status, done.failed) == ("successful", 0), done.messages
    return done


@pytest.fixture(scope="module")
def yesterday(setup: Play, server: hosts.Host) -> tuple[str, str]:
    """The date of a point of the cache that was taken a day ago, and the cache's digest then."""
    assert setup.changed
    stand_still(server)
    digest = sh(server, CACHED)
    preload = sh(server, "find /usr/lib -name libfaketime.so.1").strip()
    sh(server, f"LD_PRELOAD={preload} FAKETIME=-1d restaura run cache")
    sh(server, SERVICES)
    ((taken,),) = points(server, "cache").values()
    return taken["label"][:10], digest


def test_every_row_of_the_schedule_is_in_the_crontab(setup: Play, server: hosts.Host) -> None:
    assert "suporte@exemplo.com" in sh(server, "cat /etc/restaura/RUNBOOK.md")
    lines = [line.split() for line in sh(server, "grep -v @ /etc/cron.d/restaura").splitlines()]
    runs = {line[line.index("run") + 1]: " ".join(line[:5]) for line in lines if "run" in line}
    assert {plan: when for plan, when in runs.items() if not plan.startswith("-")} == {
        "full": "0 23 * * *",
        "cache": "0 */6 * * *",
        "logs": "20 23 * * *",
        "reports": "40 23 * * 0",
    }
    drills = {plan: " ".join(line[:5]) for line in lines if "drill" in line for plan in runs if plan in line}
    assert drills.keys() == {"full", "cache", "logs", "reports"}
    assert drills["cache"] == "0 5 * * *"


def test_each_row_backs_up_what_it_names_by_its_own_cron_line(
    yesterday: tuple[str, str], project: Path, server: hosts.Host
) -> None:
    rows = {
        "cache": ["cache"],
        "logs": ["logs"],
        "reports": ["reports"],
        "full": ["cache", "configuration", "logs", "program", "reports"],
    }
    before = health(server)["requests"]
    for plan, names in rows.items():
        cron(server, project, plan)
        taken = points(server, plan)
        newest = taken[max(taken)]
        assert sorted(one["component"] for one in newest) == names
        assert all(one["good"] for one in newest)
        assert f'"GET /{plan} HTTP/1.1" 200' in sh(server, "cat /root/beats.log")
    assert sh(server, "cat /root/mailbox") == ""
    # It was written to all the while.
    assert health(server)["requests"] > before


def test_a_full_backup_by_hand_is_one_command(yesterday: tuple[str, str], server: hosts.Host) -> None:
    before = points(server, "full")
    sh(server, "restaura run full")
    (added,) = points(server, "full").keys() - before.keys()
    assert len(points(server, "full")[added]) == 5
    # No key is in a store in the clear.
    assert (
        sh(server, f"grep -q NRAK-of-the-lab {HOME}/backend/.env && grep -rl NRAK-of-the-lab /mnt/store || true") == ""
    )


def test_a_drill_judges_every_component_by_its_checks(yesterday: tuple[str, str], server: hosts.Host) -> None:
    drilled = answer(server, "restaura drill --plan full")["results"]
    assert {row["verdict"] for row in drilled} == {"proven"}
    assert results(drilled) == {
        "cache": {
            **dict.fromkeys(("caches_readable", "history_readable", "entity_processing", "token_economy"), "passed"),
            "answers": "not run",
        },
        "logs": {"logs_there": "passed"},
        "reports": {"reports_readable": "passed"},
        "configuration": {"new_relic_key": "passed", "openai_key": "passed", "connections": "not run"},
        "program": {"collector": "passed"},
    }
    live = answer(server, "restaura check")["checks"]
    assert {one["check"] for one in live} >= {"answers", "connections"}
    assert {one["result"] for one in live} == {"passed"}


def test_the_cache_alone_comes_back_by_date_and_nothing_else_is_touched(
    yesterday: tuple[str, str], server: hosts.Host
) -> None:
    date, wanted = yesterday
    stand_still(server)
    before = sh(server, CACHED)
    assert before != wanted
    requests = health(server)["requests"]
    size = sh(server, f"wc -c < {LOG}").strip()
    files = f"{HOME}/backend/.env {HOME}/backend/utils/* {HOME}/relatorios/*"
    log = f"stat -c %i {LOG}; head -c {size} {LOG} | sha256sum"
    untouched = f"{PROGRAM}; {REPORTS}; stat -c '%n %i %Y' {files}; {log}"
    others = sh(server, untouched)

    restored = answer(server, f"restaura restore --component cache --date {date} --yes")
    assert set(results(restored["restored"])["cache"].values()) == {"passed"}
    assert restored["restored"][0]["label"].startswith(date)
    assert sh(server, CACHED) == wanted
    assert sh(server, untouched) == others
    # The application was stopped for it, was started again, and answers from the older data.
    assert health(server)["requests"] < requests
    assert sh(server, "systemctl is-active analyst_ia").strip() == "active"

    sh(server, restored["undo"])
    assert sh(server, CACHED) == before
    sh(server, SERVICES)


def test_a_damaged_cache_is_loud_wherever_it_is_looked_at(
    yesterday: tuple[str, str], project: Path, server: hosts.Host
) -> None:
    stand_still(server)
    damaged = f"{CACHE}/entities_apm.json"
    sh(server, f"cp -a {damaged} /root && printf damaged | dd of={damaged} conv=notrunc status=none")
    looked = answer(server, "restaura check --component cache", code=6)
    wrong = {one["check"] for one in looked["checks"] if one["result"] == "failed"}
    assert wrong == {"caches_readable", "entity_processing", "answers"}
    assert f"{damaged}: is no JSON" in looked["text"]

    cron(server, project, "cache")
    (row,) = answer(server, "restaura drill --plan cache", code=6)["results"]
    assert row["verdict"] == "disproven"
    assert {one["check"] for one in row["checks"] if one["result"] == "failed"} == wrong - {"answers"}
    mail = sh(server, "cat /root/mailbox")
    assert "Analyst IA: drill of cache ended with 6 suporte@exemplo.com admin@exemplo.com" in mail
    assert f"{damaged}: is no JSON" in mail
    # A restore does not take it by itself; who insists is told, and how to go back.
    (chosen,) = answer(server, "restaura restore --component cache")["components"]
    assert chosen["point"] != row["point"]
    sh(server, f"cp -a /root/entities_apm.json {CACHE}")
    whole = sh(server, CACHED)
    forced = answer(server, f"restaura restore --component cache --point {row['point']} --yes", code=6)
    assert any("check caches_readable failed" in one for one in forced["problems"])
    assert forced["undo"] in forced["text"]
    sh(server, forced["undo"])
    assert sh(server, CACHED) == whole
    sh(server, SERVICES)


def test_all_of_it_comes_back_on_a_clean_host_from_store_and_kit(
    yesterday: tuple[str, str], site: Site, project: Path, store: Path, server: hosts.Host
) -> None:
    assert "WRONG" not in sh(server, INTEGRITY)
    stand_still(server)
    said, first = health(server), sh(server, f"curl -s {API}/interactions")
    sh(server, "systemctl stop analyst_ia; restaura run full")
    size = sh(server, f"wc -c < {LOG}").strip()
    digests = [CACHED, REPORTS, f"head -c {size} {LOG} | sha256sum", PROGRAM]
    wanted = [sh(server, one) for one in digests]
    kit = site.folder / "recovery_kits" / f"{NAME}.kit"
    hosts.destroy(server.name)

    clean = hosts.create("analyst-ia-clean", "debian13", mounts=[f"{store}:/mnt/store"])
    try:
        # Installed from Git first, as its people would: an older program, no data, and keys that nobody knows.
        sh(clean, "useradd --system somebody-else")
        install(clean, project)
        stale = f"sed -Ei 's/^(NEW_RELIC_API_KEY|OPENAI_API_KEY)=.*/\\1=unknown/' {HOME}/backend/.env"
        sh(clean, f"{stale}; echo '# older' >> {HOME}/backend/main.py; systemctl restart analyst_ia")
        assert "WRONG connections" in sh(clean, f"{INTEGRITY} || true")
        subprocess.run(["docker", "cp", "-q", str(kit), f"{clean.container}:/root/{NAME}.kit"], check=True)
        restore = (
            f"python3 /mnt/store/restaura.pyz restore --store /mnt/store --kit /root/{NAME}.kit --host {NAME} --yes"
        )

        # Nobody answers to those keys, so what was restored stands still, and can be compared.
        data = results(
            answer(clean, f"{restore} --component cache --component logs --component reports --component program")[
                "restored"
            ]
        )
        assert {one for row in data.values() for one in row.values()} == {"passed"}
        assert data["cache"].keys() >= {"answers", "entity_processing", "token_economy"}
        assert [sh(clean, one) for one in digests[:-1]] == wanted[:-1]
        assert health(clean) == said
        assert sh(clean, f"curl -s {API}/interactions") == first

        # With its keys it goes on where it ended.
        keys = results(answer(clean, f"{restore} --component configuration")["restored"])
        assert keys == {"configuration": dict.fromkeys(("new_relic_key", "openai_key", "connections"), "passed")}
        assert sh(clean, PROGRAM) == wanted[-1]
        until(clean, f"curl -fs {API}/health | grep -v '\"requests\": {said['requests']},'")
        assert [line.split()[:2] for line in sh(clean, INTEGRITY).splitlines()] == [
            ["ok", f"{one}:"] for one in ("cache", "connections", "collector", "entities", "tokens")
        ]
    finally:
        hosts.destroy(clean.name)
