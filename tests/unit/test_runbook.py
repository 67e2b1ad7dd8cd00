# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook: every command in it is one that the program takes, whatever the names; no secret; whom to call."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from restaura.cli import parser
from restaura.config import load
from restaura.config.schema import Config
from restaura.paths import Paths
from restaura.runbook import NAMED_FILES, render
from restaura.runbook_kinds import BY_HAND
from restaura.sources import registry

BUCKET, PREFIX = 'it\'s"$(reboot)"', "a|b `id`/web1"
DECLARATION: dict[str, Any] = {
    "settings": {
        "host": "web1",
        "contacts": [
            {"name": "Ana", "role": "DBA | on call", "phone": "+55 11 5555-0100", "note": "`contract` 7"},
            {"name": "Support", "email": "help@example.com"},
        ],
    },
    "stores": [
        {"name": "local", "location": "/var/backups/it's restaura", "password": "S3CRET-password"},
        {
            "name": "offsite",
            "location": f"s3:https://s3.example.org/{BUCKET}/{PREFIX}",
            "s3_access_key": "S3CRET-access",
            "s3_secret_key": "S3CRET-secret",
        },
        {"name": "archive", "type": "dated", "location": "s3:https://s3.example.org/archive", "encrypt": True},
    ],
    "plans": [{"name": "nightly", "pause": {"command": "stop | it", "resume": "start it"}}],
    "components": {
        "files": [
            {"name": "system", "paths": ["/etc"]},
            {"name": "shop", "paths": ["/srv/shop"], "checks": [{"name": "orders", "command": "test -s `orders`"}]},
        ],
        "postgres": [{"name": "postgres", "databases": ["shop"]}],
    },
}
CONFIG = load.parse(DECLARATION, "test")
PATHS = Paths(Path("/"))


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    lines = "".join(blocks(text)).splitlines()
    return [shlex.split(one)[1:] for one in lines if one.startswith("restaura ") and "--version" not in one]


def without(section: str, *names: str) -> Config:
    kept = [one for one in DECLARATION[section] if one["name"] not in names]
    return load.parse({**DECLARATION, section: kept}, "test")


def test_a_host_that_is_gone_is_restored_from_a_store_that_is_not() -> None:
    assert "--store '/var" not in render(CONFIG, PATHS)
    restores = [one for one in commands(render(CONFIG, PATHS, CONFIG.store("local"))) if "--store" in one]
    assert {one[one.index("--store") + 1] for one in restores} == {"/var/backups/it's restaura"}


def test_a_point_of_yesterday_is_taken_by_what_is_typed_today() -> None:
    # A plan that runs at 23:00 has no point of today until then, nor has one whose dates are of another time zone.
    restores = [parser().parse_args(one) for one in commands(render(CONFIG, PATHS)) if one[0] == "restore"]
    assert len(restores) > len(CONFIG.components)
    assert {(one.date, one.before, one.point) for one in restores} == {(None, None, "latest")}


def test_where_no_list_of_accounts_comes_back_the_restore_that_names_them_is_typed_again() -> None:
    shop = {"files": [DECLARATION["components"]["files"][1]]}
    page = " ".join(render(load.parse({**DECLARATION, "components": shop}, "test"), PATHS).split())
    assert "The restore names those that are missing: make them, and type it again." in page


def test_every_command_is_taken_by_the_program() -> None:
    found = commands(render(CONFIG, PATHS))
    for one in found:
        parser().parse_args(one)
    assert {one[0] for one in found} == {"status", "list", "restore", "undo", "keys"}


def test_every_component_comes_back_and_the_system_to_a_directory() -> None:
    taken = [parser().parse_args(one) for one in commands(render(CONFIG, PATHS)) if one[0] == "restore"]
    acts = [one for one in taken if one.yes and one.kit]
    assert [(one.component, one.to) for one in acts] == [
        (["system"], "dir:/root/system"),
        (["shop", "postgres"], "live"),
    ]
    place = f"s3:https://s3.example.org/{BUCKET}/{PREFIX}"
    assert {(one.store, one.kit, one.host) for one in acts} == {(place, "/root/web1.kit", "web1")}
    here = [one for one in taken if one.yes and not one.kit]
    assert [(one.component, one.to) for one in here] == [
        (["system"], "dir:/root/system-$(date +%F)"),
        (["shop"], "live"),
        (["postgres"], "live"),
    ]


@pytest.mark.parametrize("store", [None, *CONFIG.stores])
def test_every_block_is_shell_and_what_it_hands_to_python_is_python(store: Any) -> None:
    found = blocks(render(CONFIG, PATHS, store))
    assert found
    for one in found:
        subprocess.run(["sh", "-n"], input=one.encode(), check=True)
        for code in re.findall(r"<< 'END'\n(.*?)^END$", one, re.MULTILINE | re.DOTALL):
            ast.parse(code)


def test_a_bucket_of_a_hostile_name_is_read_by_its_name() -> None:
    code = next(
        re.findall(r"<< 'END'\n(.*?)^END$", one, re.MULTILINE | re.DOTALL)[0]
        for one in blocks(render(CONFIG, PATHS, CONFIG.store("offsite")))
        if "restaura.pyz" in one
    )
    call = next(
        one
        for one in ast.walk(ast.parse(code))
        if isinstance(one, ast.Call) and ast.unparse(one.func) == "s3.download_file"
    )
    assert [ast.literal_eval(one) for one in call.args] == [BUCKET, f"{PREFIX}/restaura.pyz", "/usr/local/bin/restaura"]


@pytest.mark.parametrize(("location", "segments", "folder"), [("", False, ""), ("/a", True, "a/web1/nightly/")])
def test_the_newest_point_of_a_bucket_is_found_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, segments: bool, folder: str
) -> None:
    store = {"name": "bucket", "type": "dated", "location": f"s3:https://s3.example.org/bucket{location}"}
    segment = {"host_segment": segments, "plan_segment": segments}
    text = render(load.parse({**DECLARATION, "stores": [{**store, **segment}]}, "test"), PATHS)
    (script,) = (one for one in re.findall(r"<< 'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL) if "newest" in one)
    (tmp_path / "web1.kit").write_text('{"keys": {}}')
    points = ("2025-09-21", "2025-09-22", "2025-09-22T141500")
    names = ("manifest.json", "shop/tree.tar", "stack/prompts/manifest.json", "zoo/manifest.json")
    keys = [f"{folder}{point}/{name}" for point in points for name in names] + [
        "other/host/plan/2026-01-01/manifest.json"
    ]
    client = mock.Mock()
    client.get_paginator().paginate = lambda **asked: [
        {"Contents": [{"Key": one} for one in keys if one.startswith(asked["Prefix"])]}
    ]
    monkeypatch.setitem(sys.modules, "boto3", mock.Mock(client=lambda *_, **__: client))
    monkeypatch.setitem(sys.modules, "botocore", mock.Mock())
    monkeypatch.setitem(sys.modules, "botocore.config", mock.Mock())
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "web1.kit").open() as kit:
        exec(script, {"open": lambda _: kit})
    given = [one.args for one in client.download_file.call_args_list]
    assert given == [("bucket", f"{folder}2025-09-22T141500/{name}", name) for name in names]


def test_no_secret_is_in_it() -> None:
    assert "S3CRET" not in "".join(render(CONFIG, PATHS, one) for one in (None, *CONFIG.stores))


def test_whom_to_call_stands_in_order_and_a_name_breaks_no_table() -> None:
    text = render(CONFIG, PATHS)
    assert (
        "| Ana | DBA \\| on call | +55 11 5555-0100 | - | `contract` 7 |\n| Support | - | - | help@example.com | - |"
        in text
    )
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
    assert "backup_runtime_contacts" in render(load.parse({"settings": {"host": "web1"}}, "test"), PATHS)


def test_each_component_says_what_it_covers_what_holds_it_and_what_must_be_true_of_it() -> None:
    text = render(CONFIG, PATHS)
    for said in (
        "**shop** (`files`: Directories and files",
        "`paths: /srv/shop`",
        "held by `stop | it`, released by `start it`",
        "check `orders`: `` command: test -s `orders` ``",
        "never live as a whole: `/etc`",
        "`databases: shop`",
    ):
        assert said in text, said


def test_only_what_is_needed_is_installed() -> None:
    assert "apt-get install -y --no-install-recommends python3 tar restic python3-boto3 postgresql\n" in render(
        CONFIG, PATHS, CONFIG.store("offsite")
    )
    assert "apt-get install -y --no-install-recommends python3 tar age zstd python3-boto3 postgresql\n" in render(
        CONFIG, PATHS, CONFIG.store("archive")
    )
    text = render(without("stores", "offsite", "archive"), PATHS)
    assert "apt-get install -y --no-install-recommends python3 tar restic postgresql\n" in text
    assert "install -m 755 '/var/backups/it'\"'\"'s restaura/restaura.pyz' /usr/local/bin/restaura\n" in text
    assert "python3 - <<" not in text


STACK = {
    "postgres": [{"name": "pg"}, {"name": "pgc", "container": "db"}],
    "redis": [{"name": "cache"}],
    "mongodb": [{"name": "documents"}],
    "qdrant": [{"name": "vectors", "container": "qdrant"}],
    "grafana": [{"name": "graphs"}],
    "prometheus": [{"name": "metrics"}, {"name": "far", "url": "http://10.0.0.5:9090", "data_directory": "/mnt"}],
    "docker_volumes": [{"name": "volumes", "all": True}],
    "langsmith": [{"name": "traces"}],
}


def stack(**sections: Any) -> str:
    return render(load.parse({**DECLARATION, "components": STACK, **sections}, "test"), PATHS)


def section(text: str, heading: str) -> str:
    return text.split(f"\n{heading}", 1)[1].split("\n## ", 1)[0]


def test_every_server_is_named_before_its_data_comes_back() -> None:
    text = section(stack(), "## B.")
    before, after = text.split("\n6. All the rest", 1)
    assert "Before step 6 each of these must be **there, running and empty**" in before
    for said in (
        "- `pg`: PostgreSQL: `postgresql`, installed above",
        "- `pgc`: PostgreSQL in the container `db`,",
        "- `cache`: Redis: `redis-server`, installed above",
        "- `metrics`: Prometheus: `prometheus`, installed above",
        "- `far`: Prometheus at `10.0.0.5`",
        "- `documents`: MongoDB, **which is not Debian's**",
        "- `vectors`: Qdrant in the container `qdrant`,",
        "- `graphs`: Grafana, **which is not Debian's**",
        "- `volumes`: Docker",
        "- `traces`: LangSmith",
    ):
        assert said in before, said
    (install,) = (one for one in before.splitlines() if "apt-get install" in one and "python3 tar" in one)
    assert {"postgresql", "redis-server", "prometheus"} <= set(install.split())
    assert "step 6" not in after
    assert "there, running and empty" not in section(
        stack(components={"files": DECLARATION["components"]["files"]}), "## B."
    )


@pytest.mark.parametrize("store", ["local", "archive"])
def test_every_component_is_put_back_by_hand(store: str) -> None:
    text = section(stack(), "## C.").split(f"### Store {store}\n", 1)[1].split("\n### ", 1)[0]
    names = [one["name"] for kind in STACK.values() for one in kind]
    folder = f"/root/by-hand-{store}"
    said = {name: re.split(r"\n\n`\w|$", text.split(f"\n`{name}`: ", 1)[1], maxsplit=1)[0] for name in names}
    for name in names:
        assert f"{folder}/{name}/" in said[name], name
    for name, command in (
        ("pg", f"runuser -u postgres -- pg_restore -C -d postgres < {folder}/pg/databases/DATABASE.dump"),
        ("pg", f"runuser -u postgres -- psql -d postgres < {folder}/pg/globals.sql"),
        ("pgc", f"docker exec -i db psql -U postgres -d postgres < {folder}/pgc/globals.sql"),
        ("cache", f"install -o redis -g redis -m 660 {folder}/cache/dump.rdb /var/lib/redis/dump.rdb"),
        ("documents", f"mongorestore --drop --dir={folder}/documents/dump"),
        ("vectors", "/collections/COLLECTION/snapshots/upload?priority=snapshot&wait=true"),
        ("graphs", f"-m 640 {folder}/graphs/grafana.db /var/lib/grafana/grafana.db"),
        ("metrics", f"cp -a {folder}/metrics/tsdb /var/lib/prometheus/metrics2"),
        ("volumes", f"cp -a {folder}/volumes/volumes/VOLUME/. /var/lib/docker/volumes/VOLUME/"),
        ("traces", "Only Restaura writes all of it back"),
    ):
        assert command in said[name], command
    for one in re.findall(r"^```(?:sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        subprocess.run(["sh", "-n"], input=one.encode(), check=True)


def test_every_kind_says_how_its_data_goes_back_by_hand() -> None:
    assert set(registry()) == {"files", *NAMED_FILES, *BY_HAND}


def test_every_plan_of_a_store_is_read_by_hand() -> None:
    plans = [{"name": "nightly", "components": ["pg"]}, {"name": "hourly", "components": ["cache"]}]
    text = section(stack(plans=plans), "## C.")
    for store in ("local", "archive"):
        part = text.split(f"### Store {store}\n", 1)[1].split("\n### ", 1)[0]
        assert f"/root/by-hand-{store}/pg/databases" in part
        assert f"/root/by-hand-{store}-hourly/cache/dump.rdb" in part
        assert len(re.findall("^The newest point of plan `(nightly|hourly)`", part, re.MULTILINE)) == 2
