# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole AI stack, backed up by its cron line under load, destroyed, and back on a clean host: as of one moment."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks.runs import Site, ssh
from tools.lab import hosts, stack

pytestmark = pytest.mark.timeout(1500)

TESTS = Path(__file__).parents[1]
STACK = stack.PLACE
COMPONENTS = [
    "qdrant",
    "mongodb",
    "redis",
    "postgres",
    "langchain",
    "langsmith",
    "gpt",
    "infra",
    "prometheus",
    "grafana",
]
VAULT = {
    "vault_heartbeat_url": "http://127.0.0.1:9/ping",
    "vault_qdrant_api_key": "qdrant-key-of-the-stack",
    "vault_redis_password": "redis-password-of-the-stack",
    "vault_langsmith_url": "http://127.0.0.1:1984",
    "vault_langsmith_api_key": "lsv2_key_of_the_stack",
    "vault_grafana_password": "grafana-password-of-the-stack",
}
# The layout that the stack's owners asked for. What is in `.age` holds secrets; docs/ai_stack.md has each reason.
LAYOUT = {
    *("qdrant/snapshot.snapshot", "qdrant/export.json"),
    *("mongodb/dump/intelligence/documents.bson", "mongodb/export/intelligence.documents.json"),
    *("redis/dump.rdb",),
    *("langchain/prompts.yaml", "langchain/chains.json", "langchain/agents.yaml", "langchain/prompts/answer.txt"),
    *("langsmith/runs.json", "langsmith/projects.json"),
    *("gpt/model_config.json", "gpt/system_prompts.json"),
    *("infra/docker-compose.yaml", "infra/.env.age", "infra/etl_scripts.tar.gz"),
    *("prometheus/prometheus.yml", "prometheus/rules.yml"),
    *("grafana/grafana.ini.age", "grafana/grafana.db.age"),
}
CLIENT = f"sh {STACK}/inteligencia/clients.sh"
COUNTERS = "set -a; . /etc/default/ingest; set +a; runuser -u ingest -- python3 /opt/ingest/ingest.py counters"


def declared(project: Path, bucket: Any) -> dict[str, Any]:
    """Return what the inventory declares, its bucket and keys those of the lab."""
    found: dict[str, Any] = yaml.safe_load((project / "inventories/inteligencia/group_vars/all/backup.yml").read_text())
    found["backup_runtime_stores"][1].update(location=bucket.place, **bucket.keys)
    # What the stand-in is built upon keeps the usual port for itself.
    found["backup_mongodb_components"][0]["port"] = 27117
    return {**found, **VAULT}


def stack_host(make_host: Callable[..., hosts.Host], name: str, word: str = "") -> hosts.Host:
    """Make a host with every server of the stack; `seeded` with ingestion and its data too."""
    host = make_host(name, "debian13-stack", stack.mounts())
    ssh(host, f"sh {STACK}/inteligencia/install.sh {STACK} {word}")
    return host


def counters(host: hosts.Host) -> dict[str, list[int]]:
    """Return what each system says of ingestion."""
    told: dict[str, list[int]] = json.loads(ssh(host, COUNTERS))
    return told


def look(host: hosts.Host) -> dict[str, Any]:
    """Return what the systems' own clients find."""
    found: dict[str, Any] = json.loads(ssh(host, f"{CLIENT} look"))
    return found


def test_a_stack_comes_back_as_of_one_moment(
    tmp_path: Path, project: Path, make_host: Callable[..., hosts.Host], bucket: Any
) -> None:
    old = stack_host(make_host, "inteligencia", "seeded")
    ssh(old, f"{CLIENT} fill")
    site = Site(tmp_path, project, declared(project, bucket))
    site.add(old)
    done = site.play("setup_backup.yml")
    assert done.status == "successful", done.text[-6000:]

    before = counters(old)
    subprocess.run(
        ["docker", "cp", str(project / "molecule/resources/cron_line.py"), f"{old.container}:/var/tmp/"], check=True
    )
    ssh(old, "python3 /var/tmp/cron_line.py /etc/cron.d/restaura")
    assert ssh(old, "systemctl is-active ingest") == "active\n"
    after, live = counters(old), look(old)
    assert min(one[0] for one in after.values()) > max(one[0] for one in before.values())
    told = json.loads(ssh(old, "restaura show latest --json"))
    records = {one["name"]: one for one in told["stores"]["bucket"]["manifest"]["components"]}
    assert set(records) == set(COMPONENTS)
    assert {name: one["state"] for name, one in records.items()} == dict.fromkeys(COMPONENTS, "complete")
    assert 0 < records["qdrant"]["pause_seconds"] < 60

    keys = {one.key for one in bucket.objects.all()}
    label = max(key.split("/")[0] for key in keys if re.match(r"\d{4}-\d\d-\d\d", key))
    stored = {key.removeprefix(f"{label}/") for key in keys if key.startswith(f"{label}/")}
    assert stored >= LAYOUT, LAYOUT - stored
    assert any(re.fullmatch(r"redis/appendonly(dir/.*\.aof|\.aof)", key) for key in stored)
    assert any(re.fullmatch(r"prometheus/tsdb/[0-9A-Z]{26}/index", key) for key in stored)
    assert any(re.fullmatch(r"grafana/dashboards/.*\.json", key) for key in stored)
    plain = bucket.Object(f"{label}/gpt/model_config.json").get()["Body"].read()
    assert plain == (TESTS / "applications/inteligencia/gpt/model_config.json").read_bytes()

    kit = site.folder / "recovery_kits" / f"{old.name}.kit"
    hosts.destroy(old.name)
    new = stack_host(make_host, "inteligencia-new")
    subprocess.run(["docker", "cp", str(kit), f"{new.container}:/root/old.kit"], check=True)
    bucket.Object("restaura.pyz").download_file(str(tmp_path / "restaura"))
    subprocess.run(["docker", "cp", str(tmp_path / "restaura"), f"{new.container}:/usr/local/bin/"], check=True)
    names = " ".join(f"--component {name}" for name in COMPONENTS)
    restore = f"restaura restore --store {bucket.place} --kit /root/old.kit --host {old.name} {names} --yes"
    restored = ssh(new, f"chmod +x /usr/local/bin/restaura; {restore} 2>&1")
    assert restored.count("equal") == len(COMPONENTS), restored

    there = counters(new)
    assert len({tuple(one) for one in there.values()}) == 1, there
    moment = there["postgres"][0]
    assert max(one[0] for one in before.values()) <= moment <= min(one[0] for one in after.values())
    found = look(new)
    numbers = {str(number) for number in range(1, moment + 1)}
    for system in ("qdrant", "mongodb", "redis", "postgres"):
        assert found[system].keys() == numbers, system
        assert found[system] == {number: live[system][number] for number in numbers}, system
        del live[system], found[system]
    assert before["postgres"][0] - 60 <= int(*found.pop("prometheus")) <= moment
    del live["prometheus"]
    assert found == live

    ssh(new, "systemctl start ingest; sleep 2; systemctl is-active ingest")
    assert min(one[0] for one in counters(new).values()) > moment
