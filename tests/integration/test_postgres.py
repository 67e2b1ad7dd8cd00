# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the postgres source promises, on a real cluster: drilled, restored live, elsewhere, by hand."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaura.errors import RefusedError, SourceError
from restaura.host import Host
from restaura.postgres.server import Server
from restaura.postgres.session import Session
from restaura.sources import Staged, Target
from restaura.sources.postgres import Postgres
from tests.memory_point import MemoryPoint, take
from tests.postgres_cluster import ORDERS, SHOP, Cluster, digests, make_host, recover, run, scratch_root, source

pytestmark = pytest.mark.debian12


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with scratch_root() as root:
        yield make_host(root)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster(5511)
    made.create()
    made.seed()
    yield made
    made.destroy()


@pytest.fixture(scope="module")
def point(cluster: Cluster, host: Host) -> MemoryPoint:
    return take(source(host, cluster.cluster))


def recorded(point: MemoryPoint) -> dict[str, str]:
    assert point.record.fingerprint is not None
    return point.record.fingerprint.parts


def test_a_probe_finds_nothing_to_complain_of(cluster: Cluster, host: Host) -> None:
    probe = source(host, cluster.cluster).probe()
    assert not probe.problems
    assert probe.consistency == "transactional"
    assert probe.bytes > 1_000_000


def test_secrets_are_marked_and_no_name_was_taken_for_a_command(point: MemoryPoint) -> None:
    holding = {name for name, data in point.data.items() if b"SCRAM-SHA-256" in data}
    assert holding == {"globals.sql", "cluster.json"} <= point.secret
    assert {name for name in point.data if name.startswith("configuration/")} <= point.secret
    assert not Path("/tmp/restaura-owned").exists()


def test_a_drill_gives_back_every_database_and_leaves_nothing(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    before = cluster.digests()
    drilled = source(host, cluster.cluster)
    with drilled.scratch() as target:
        staged = drilled.stage(point, target)
        assert point.record.fingerprint is not None
        assert point.record.fingerprint.differences(drilled.fingerprint(staged, "content")) == []
        env = drilled.checks(staged)
        after = digests({"PGHOST": env["PGHOST"], "PGPORT": env["PGPORT"]})
        server = Server.from_json(staged.data["server"])
        processes = run("ps", "-eo", "uid,args")
        assert f"{server.uid} " in processes
        pid = (Path(target.value) / "d/postmaster.pid").read_text().split()[0]
        assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        with Session(server, SHOP) as session, pytest.raises(SourceError, match="could not establish connection"):
            session.execute("SELECT public.dblink_connect('host=127.0.0.1 port=5511')")
    # The tablespace lies elsewhere in a drill; everything else is equal line by line.
    assert after == before
    assert not Path(target.value).exists()
    assert not host.journal.open_debts()
    assert "restaura-drill" not in run("ps", "-eo", "args")


def test_files_are_enough_for_somebody_without_restaura(
    cluster: Cluster, host: Host, point: MemoryPoint, tmp_path: Path
) -> None:
    owner = source(host, cluster.cluster)
    staged = owner.stage(point, Target("dir", str(tmp_path / "out")))
    assert owner.busy(staged) == []
    other = Cluster(5512, "restaurahand")
    other.create()
    try:
        text = (tmp_path / "out/globals.sql").read_text().replace(str(cluster.spaces), str(other.spaces))
        other.program("psql", "-Xq", stdin=text)
        for path in sorted((tmp_path / "out/databases").glob("*.dump")):
            if path.name in ("postgres.dump", "template1.dump"):
                continue
            with path.open("rb") as stream:
                argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "pg_restore"]
                subprocess.run(
                    [*argv, "-p", "5512", "--create", "--exit-on-error", "-d", "postgres"],
                    stdin=stream,
                    check=True,
                    cwd="/",
                    env={
                        "PATH": "/usr/bin:/bin",
                        "PGOPTIONS": "-c session_replication_role=replica -c default_transaction_read_only=off",
                    },
                )
        wanted, found = cluster.digests(), other.digests()
        # By hand, a database that allowed no connections allows them: pg_dump does not say so.
        assert found["closed"] == "t" + wanted["closed"][1:]
        assert [found[name] for name in ("roles", SHOP, "-latin")] == [
            wanted[name] for name in ("roles", SHOP, "-latin")
        ]
    finally:
        other.destroy()


def test_a_live_restore_swaps_undoes_and_discards(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    good = cluster.digests()
    cluster.sql("SET session_replication_role = replica; DROP TABLE t CASCADE; TRUNCATE parent, child", SHOP)
    cluster.sql("CREATE TABLE newer (n int); INSERT INTO newer VALUES (1)", "postgres")
    cluster.sql("ALTER ROLE readers CREATEDB; ALTER ROLE \"app Owner\" PASSWORD 'changed'; CREATE ROLE later LOGIN")
    cluster.sql("ALTER DATABASE closed ALLOW_CONNECTIONS true; DROP DATABASE closed")
    damaged = cluster.digests()
    live = source(host, cluster.cluster, terminate_sessions=True)
    staged = live.stage(point, Target("live"))
    assert cluster.digests() == damaged
    assert point.record.fingerprint is not None
    assert point.record.fingerprint.differences(live.fingerprint(staged, "content")) == []
    record = live.plan_swap(staged)
    Postgres.swap(record)
    Postgres.swap(record)
    cluster.sql("DROP ROLE later")
    assert cluster.digests() == good
    cluster.sql("CREATE ROLE later LOGIN")
    assert not [name for name in take(live).data if name.startswith("databases/restaura")]
    Postgres.undo(record)
    Postgres.undo(record)
    assert cluster.digests() == damaged
    Postgres.discard(record)
    Postgres.discard(record)
    assert cluster.digests() == damaged
    assert not [name for name in cluster.databases() if name.startswith("restaura_")]
    second = live.stage(point, Target("live"))
    record = live.plan_swap(second)
    Postgres.swap(record)
    Postgres.discard(record)
    cluster.sql("DROP ROLE later")
    assert cluster.digests() == good
    assert not [name for name in cluster.databases() if name.startswith("restaura_")]
    assert not list(host.paths.kept.iterdir())


def test_a_swap_refuses_while_somebody_is_connected(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    careful = source(host, cluster.cluster)
    staged = careful.stage(point, Target("live", paths=("-latin",)))
    before = cluster.digests()
    env = {"PGHOST": "/var/run/postgresql", "PGPORT": "5511", "PGDATABASE": "-latin", "PATH": "/usr/bin:/bin"}
    argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql", "-Xqc", "SELECT pg_sleep(60)"]
    other = subprocess.Popen(argv, env=env, cwd="/")
    try:
        while not careful.busy(staged):
            pass
        with pytest.raises(RefusedError, match="in use"):
            Postgres.swap(careful.plan_swap(staged))
    finally:
        other.kill()
        other.wait()
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '-latin'")
    assert cluster.digests() == before
    Postgres.swap(careful.plan_swap(staged))
    Postgres.discard(careful.plan_swap(staged))
    assert cluster.digests() == before


def test_one_database_comes_back_under_another_name(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    owner = source(host, cluster.cluster)
    before = cluster.digests()
    name = "new 'name\" " + "x" * 40
    staged = owner.stage(point, Target("name", name, paths=(SHOP,)))
    found = owner.fingerprint(staged, "content")
    assert found.parts == {
        part: digest for part, digest in recorded(point).items() if part.startswith(f"database {SHOP}:")
    }
    Postgres.swap(owner.plan_swap(staged))
    assert cluster.sql(f"SELECT count(*) FROM {ORDERS}", name) == cluster.sql(f"SELECT count(*) FROM {ORDERS}", SHOP)
    with pytest.raises(RefusedError, match="there is a database"):
        owner.stage(point, Target("name", name, paths=(SHOP,)))
    Postgres.undo(owner.plan_swap(staged))
    Postgres.discard(owner.plan_swap(staged))
    assert cluster.digests() == before
    with pytest.raises(RefusedError, match="holds no database 'nope'"):
        owner.stage(point, Target("live", paths=("nope",)))
    assert not [one for one in host.journal.open_debts() if one.act != "stage"]


def test_a_database_that_stands_in_the_way_is_never_dropped(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    cluster.sql("CREATE DATABASE contrib_regression")
    with pytest.raises(RefusedError, match="contrib_regression"):
        source(host, cluster.cluster).stage(point, Target("live", paths=("postgres",)))
    cluster.sql("DROP DATABASE contrib_regression")


def test_a_clean_cluster_gets_everything(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    good = cluster.digests()
    cluster.destroy()
    cluster.create()
    fresh = source(host, cluster.cluster, terminate_sessions=True)
    staged = fresh.stage(point, Target("live"))
    assert point.record.fingerprint is not None
    assert point.record.fingerprint.differences(fresh.fingerprint(staged, "content")) == []
    Postgres.swap(fresh.plan_swap(staged))
    assert cluster.digests() == good
    Postgres.discard(fresh.plan_swap(staged))
    assert cluster.digests() == good
    recover(host)


CHANGES = {
    "a row": "INSERT INTO t VALUES ('more')",
    "a value": "UPDATE t SET t = 'tt' WHERE t = 't'",
    "null and empty": "UPDATE nothing_in_it SET a = a; INSERT INTO nothing_in_it VALUES (NULL)",
    "what is published": "ALTER PUBLICATION pub DROP TABLE parent",
    "a row moved between a parent and a child": "DELETE FROM ONLY parent WHERE a = 1; INSERT INTO child VALUES (1)",
    "an unlogged row": "DELETE FROM scratchpad WHERE n = 1",
    "the extension's row": "SELECT 1",
    "a column type": "ALTER TABLE nothing_in_it ALTER a TYPE bigint",
    "a default": "ALTER TABLE nothing_in_it ALTER a SET DEFAULT 4",
    "a constraint": "ALTER TABLE lines DROP CONSTRAINT later",
    "an index": "DROP INDEX measured_at_idx",
    "a view": "CREATE OR REPLACE VIEW one_table AS SELECT t.\"T\", t.t FROM public.t WHERE t.t <> 'y'",
    "a materialized view's state": 'ALTER EVENT TRIGGER "no drop" DISABLE; REFRESH MATERIALIZED VIEW empty_one',
    "an event trigger": 'ALTER EVENT TRIGGER "no drop" ENABLE ALWAYS',
    "a function body": "CREATE OR REPLACE FUNCTION twice(x int, y int DEFAULT 2) RETURNS int LANGUAGE sql"
    " IMMUTABLE STRICT PARALLEL SAFE AS $$ SELECT $1 * $2  $$",
    "a modern body": "CREATE OR REPLACE FUNCTION modern(x int) RETURNS int LANGUAGE sql IMMUTABLE RETURN x + 2",
    "a trigger's state": "ALTER TABLE lines ENABLE TRIGGER stamp",
    "a policy": 'ALTER POLICY "mine only" ON lines USING (n < 11)',
    "row security": "ALTER TABLE lines NO FORCE ROW LEVEL SECURITY",
    "an owner": 'ALTER TABLE t OWNER TO "app Owner"',
    "a privilege": "GRANT SELECT ON t TO readers",
    "a column's privilege": "REVOKE UPDATE (t) ON t FROM readers",
    "a system function's privilege": "GRANT EXECUTE ON FUNCTION pg_catalog.pg_sleep(float8) TO readers",
    "a default privilege": 'ALTER DEFAULT PRIVILEGES FOR ROLE "app Owner" GRANT EXECUTE ON FUNCTIONS TO readers',
    "an enum": "ALTER TYPE mood ADD VALUE 'last'",
    "a domain": "ALTER DOMAIN positive SET DEFAULT 2",
    "a sequence's step": "ALTER SEQUENCE counter INCREMENT -6",
    "a sequence that fell back": "SELECT setval('counter', -101)",
    "a large object": "SELECT lo_put(424242, 3, '\\x01')",
    "a large object's end": "SELECT lo_put(424243, 4, '\\x00')",
    "a large object's owner": "ALTER LARGE OBJECT 424243 OWNER TO readers",
    "a comment": "COMMENT ON COLUMN t.\"T\" IS 'Capital'",
    "a publication": "ALTER PUBLICATION pub DROP TABLE lines",
    "a subscription": "ALTER SUBSCRIPTION sub SET (synchronous_commit = on)",
    "a foreign password": "ALTER USER MAPPING FOR \"app Owner\" SERVER elsewhere OPTIONS (SET password 'other')",
    "a statistics object": "ALTER STATISTICS st_x SET STATISTICS 77",
    "a text search mapping": "ALTER TEXT SEARCH CONFIGURATION english_x DROP MAPPING FOR email",
    "a rule": "DROP RULE quiet ON scratchpad",
    "a role's password": "ALTER ROLE \"app Owner\" PASSWORD 'x'",
    "a role's limit": "ALTER ROLE readers CONNECTION LIMIT 3",
    "a membership": 'REVOKE ADMIN OPTION FOR readers FROM "app Owner"',
    "a role's setting": "ALTER ROLE readers SET work_mem = '9MB'",
    "a database's setting": "ALTER DATABASE \"-latin\" SET work_mem = '9MB'",
    "a role's setting in a database": 'ALTER ROLE readers IN DATABASE "-latin" RESET ALL',
    "a database's privilege": "GRANT CREATE ON DATABASE bare TO readers",
    "a tablespace's owner": 'ALTER TABLESPACE "fast disk" OWNER TO readers',
    "a parameter's privilege": "REVOKE SET ON PARAMETER log_duration FROM readers",
    "a dropped schema": 'DROP SCHEMA "Sch ema" CASCADE',
}


def test_the_fingerprint_sees_every_kind_of_change(cluster: Cluster, host: Host, point: MemoryPoint) -> None:
    drilled = source(host, cluster.cluster)
    unseen = []
    with drilled.scratch() as target:
        staged = drilled.stage(point, target)
        server = Server.from_json(staged.data["server"])
        # One database is quicker than all; the changes of the others look at all.
        one = Staged(target, staged.data | {"current": {SHOP: SHOP}})
        with Session(server, SHOP) as session:
            session.execute("SET search_path = public")
            session.execute("SET session_replication_role = replica")
            for what, statements in CHANGES.items():
                looked = staged if "database" in what or "extension" in what else one
                before = drilled.fingerprint(looked, "content")
                if what == "the extension's row":
                    with Session(server, "postgres") as other:
                        other.execute("UPDATE cron.job SET command = 'SELECT 2'")
                for statement in statements.split("; "):
                    session.execute(statement)
                if not before.differences(drilled.fingerprint(looked, "content")):
                    unseen.append(what)
    assert unseen == []


def test_the_catalog_fingerprint_counts_and_does_not_read(cluster: Cluster, host: Host) -> None:
    quick = source(host, cluster.cluster, databases=(SHOP,))
    point = take(quick, "catalog")
    with quick.scratch() as target:
        staged = quick.stage(point, target)
        assert point.record.fingerprint is not None
        assert point.record.fingerprint.differences(quick.fingerprint(staged, "catalog")) == []
        with Session(Server.from_json(staged.data["server"]), SHOP) as session:
            session.execute("UPDATE public.t SET t = 'other' WHERE t = 't'")
            assert point.record.fingerprint.differences(quick.fingerprint(staged, "catalog")) == []
            session.execute("DELETE FROM public.t WHERE t = 'other'")
        assert len(point.record.fingerprint.differences(quick.fingerprint(staged, "catalog"))) == 2
