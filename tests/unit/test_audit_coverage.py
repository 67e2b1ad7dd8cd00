# SPDX-License-Identifier: GPL-3.0-or-later
"""Which component protects which holder: never one too many, since what counts as protected is told to nobody."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from restaura.audit import coverage
from restaura.audit.holders import find_holders
from restaura.audit.model import Holder
from restaura.config import load
from tests.made_up_host import MadeUpHost

APP = Holder("tree:/srv/app", "tree", "/srv/app", True, ("/srv/app",), source="files")
DATABASE = Holder("sqlite:/srv/app/a.db", "sqlite", "/srv/app/a.db", True, ("/srv/app/a.db",), source="files")
REDIS = Holder("redis:/srv/redis", "redis", "/srv/redis", True, ("/srv/redis",))
STOPPED = Holder("redis:/srv/old", "redis", "/srv/old", False, ("/srv/old",))
MAIN = Holder("postgres:17/main", "postgres", "17/main", True, ("/var/lib/postgresql/17/main",))
OTHER = Holder("postgres:15/other", "postgres", "15/other", True, ("/var/lib/postgresql/15/other",))
BOXED = Holder("postgres:db", "postgres", "db", True, ("/v/db",), container="db", project="shop", volumes=("shop_db",))
UPLOADS = Holder(
    "docker_volume:shop_up", "docker_volume", "shop_up", True, ("/v/up",), project="shop", volumes=("shop_up",)
)
CACHE = Holder(
    "redis:cache", "redis", "cache", True, ("/v/c",), container="cache", volumes=("cache",), labels=("keep=yes",)
)
NAMELESS = Holder("docker_volume:" + "f" * 64, "docker_volume", "f" * 64, False, ("/v/f",), volumes=("f" * 64,))
BOUND = Holder("redis:shop-r", "redis", "shop-r", True, ("/srv/shop/redis",), container="shop-r", project="shop")
SHOP = Holder(
    "compose_project:shop",
    "compose_project",
    "shop",
    True,
    ("/srv/shop", "/media/blobs"),
    project="shop",
    volumes=("shop_db", "shop_up"),
)
ALL = [APP, DATABASE, REDIS, STOPPED, MAIN, BOXED, UPLOADS, CACHE, NAMELESS, BOUND, SHOP]


def config(schedule: str = "daily", **components: list[dict[str, Any]]) -> Any:
    named = {kind: [{"name": f"{kind}{n}", **one} for n, one in enumerate(ones)] for kind, ones in components.items()}
    return load.parse(
        {
            "settings": {"host": "x"},
            "stores": [{"name": "local", "location": "/store"}],
            "plans": [{"name": "daily", "schedule": schedule}],
            "components": named,
        },
        "test",
    )


@pytest.mark.parametrize(
    ("components", "taken"),
    [
        ({"files": [{"paths": ["/srv/app"]}]}, [APP, DATABASE]),
        ({"files": [{"paths": ["/srv/ap"]}]}, []),
        ({"files": [{"paths": ["/srv/app"], "exclude": ["*.db"]}]}, [APP]),
        ({"files": [{"paths": ["/srv/app"], "exclude": ["*.db"], "include": ["a.db"]}]}, [APP, DATABASE]),
        # What a server writes cannot be taken as files while it runs; nor half of a project.
        ({"files": [{"paths": ["/srv", "/v"]}]}, [APP, DATABASE, STOPPED, NAMELESS]),
        ({"files": [{"paths": ["/srv/shop", "/media"]}]}, [SHOP]),
        ({"postgres": [{}]}, [MAIN]),
        ({"postgres": [{"cluster": "17/main"}]}, [MAIN]),
        ({"postgres": [{"cluster": "16/main"}]}, []),
        ({"postgres": [{"container": "db"}]}, [BOXED]),
        ({"postgres": [{"host": "db.example.org"}]}, []),
        ({"redis": [{}]}, [REDIS]),
        ({"redis": [{"container": "cache"}]}, [CACHE]),
        ({"redis": [{"host": "cache.example.org"}]}, []),
        ({"grafana": [{}], "qdrant": [{"url": "http://127.0.0.1:6333"}]}, []),
        ({"docker_volumes": [{"volumes": ["shop_up"]}]}, [UPLOADS]),
        ({"docker_volumes": [{"volumes": ["shop_*"], "exclude": ["shop_u*"]}]}, [BOXED]),
        ({"docker_volumes": [{"labels": ["keep"]}]}, [CACHE]),
        ({"docker_volumes": [{"labels": ["keep=no"]}]}, []),
        ({"docker_volumes": [{"projects": ["shop"], "project_files": False}]}, [BOXED, UPLOADS]),
        # The project's own folder is taken, its mount of elsewhere is not.
        ({"docker_volumes": [{"projects": ["shop"]}]}, [BOXED, UPLOADS, BOUND]),
        ({"docker_volumes": [{"projects": ["shop"]}], "files": [{"paths": ["/media"]}]}, [BOXED, UPLOADS, BOUND, SHOP]),
        ({"docker_volumes": [{"all": True, "project_files": False}]}, [BOXED, UPLOADS, CACHE]),
        (
            {"docker_volumes": [{"all": True, "anonymous": True, "project_files": False}]},
            [BOXED, UPLOADS, CACHE, NAMELESS],
        ),
    ],
)
def test_what_components_protect(components: dict[str, Any], taken: list[Holder]) -> None:
    assert sorted(coverage.covered(config(**components), ALL)) == sorted(one.id for one in taken)


def test_a_component_that_is_never_run_protects_nothing() -> None:
    assert coverage.covered(config(files=[{"paths": ["/srv"]}]), ALL)
    assert coverage.covered(config("never", files=[{"paths": ["/srv"]}]), ALL) == {}


def test_a_directory_that_is_taken_bit_by_bit_is_protected_until_something_is_added(tmp_path: Path) -> None:
    for name in ("backend/logs", "backend/cache", "reports"):
        (tmp_path / "srv/app" / name).mkdir(parents=True)
    (tmp_path / "srv/app/backend/main.py").touch()
    parts = [["/srv/app/reports", "/srv/app/backend/logs"], ["/srv/app/backend/cache", "/srv/app/backend/main.py"]]
    made = config(files=[{"paths": paths} for paths in parts])
    assert coverage.covered(made, [APP], tmp_path).keys() == {APP.id}
    (tmp_path / "srv/app/backend/new").touch()
    assert coverage.covered(made, [APP], tmp_path) == {}
    assert coverage.covered(config(files=[{"paths": parts[0]}]), [APP], tmp_path) == {}


def test_the_only_cluster_is_none_of_two() -> None:
    assert coverage.covered(config(postgres=[{}]), [MAIN, OTHER]) == {}


def test_what_is_left_is_told_with_what_to_add(tmp_path: Path) -> None:
    host = MadeUpHost(tmp_path)
    host.put("/srv/app/x")
    host.put('/srv/it\'s "new"/x')
    host.put("/srv/store/config")
    host.put("/var/lib/redis/dump.rdb")
    declared = config(files=[{"paths": [f"{tmp_path}/srv/app"]}])
    stores = config(files=[{"paths": ["/x"]}])
    assert [one.id for one in coverage.unprotected(declared, tmp_path)] == [
        "redis:/var/lib/redis",
        'tree:/srv/it\'s "new"',
        "tree:/srv/store",
    ]
    assert "tree:/srv/app" in [one.id for one in coverage.unprotected(stores, tmp_path)]
    told = [coverage.told(one) for one in coverage.unprotected(declared, tmp_path)]
    assert told[0][0].startswith("redis /var/lib/redis (not running, ")
    assert told[0][1].startswith("declare it in backup_redis_components")
    assert "no source takes a running mysql" in coverage.told(replace(REDIS, kind="mysql"))[1]
    assert told[1][1].endswith("- {name: srv-it-s-new, paths: ['/srv/it''s \"new\"'], secret: true}")


def test_stores_are_copies_and_hold_no_data_of_their_own(tmp_path: Path) -> None:
    host = MadeUpHost(tmp_path)
    host.put("/store/config")
    assert coverage.unprotected(config(files=[{"paths": ["/x"]}]), tmp_path) == []
    assert [one.id for one in find_holders(tmp_path)[0]] == ["tree:/store"]
