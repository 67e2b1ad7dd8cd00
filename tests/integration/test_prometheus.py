# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' real server: backed up, drilled, wiped, restored and undone; what fails leaves no snapshot behind."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restaura.config.schema import Config, Settings
from restaura.errors import SourceError
from restaura.host import Host
from restaura.journal import Journal
from restaura.paths import Paths
from restaura.point import Fingerprint
from restaura.prometheus import capture, snapshot
from restaura.prometheus.references import named_by
from restaura.prometheus.server import Facts, Place
from restaura.prometheus.settings import PrometheusComponent
from restaura.sources import Tree
from restaura.sources.prometheus import Prometheus
from tests import prometheus_server as server
from tests.integration.system import System, tree_digest
from tests.postgres_cluster import scratch_root

FLAGS = ("--web.enable-admin-api", "--storage.tsdb.retention.time=90d")
COMPONENT = {"name": "prometheus", "unit": server.UNIT}
SNAPSHOTS = server.DATA / "snapshots"
FOREIGN = "20200102T030405Z-0123456789abcdef"
# Of the password "backup-pa55", by crypt(3).
HASH = "$2b$04$IZOtNetnYwm/22wfhRGsJ.nW655MfD6hvqW7GX2jFRUpgnduDVMcy"
ULID = "01HHHHHHHHHHHHHHHHHHHHHHHH"


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    server.remove()
    server.write_config()
    server.install(*FLAGS)
    server.seed()
    server.start()
    yield
    server.remove()


@pytest.fixture
def system() -> Iterator[System]:
    """A host that keeps Prometheus in a store of plain files; the server runs, whatever the last test did to it."""
    server.start()
    make_foreign_snapshot()
    with scratch_root() as place:
        one = System(place / "host")
        store = {"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}
        one.configure(
            stores=[{**store, "host_segment": False, "plan_segment": False}],
            plans=[{"name": "daily"}],
            components={"prometheus": [COMPONENT]},
        )
        yield one
        one.settled()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make waits short that are for slow servers."""
    for name, limit in (("STILL_SECONDS", 0.2), ("ANSWER_SECONDS", 1.0), ("SETTLE_SECONDS", 0.5)):
        monkeypatch.setattr(snapshot, name, limit)


def make_foreign_snapshot() -> None:
    """Make a snapshot that somebody else took."""
    (SNAPSHOTS / FOREIGN).mkdir(parents=True, exist_ok=True)
    shutil.chown(SNAPSHOTS, "prometheus", "prometheus")


def own_snapshots() -> list[str]:
    return sorted(one.name for one in SNAPSHOTS.iterdir() if one.name != FOREIGN)


def folder(system: System) -> Path:
    """Return the component's folder in the store."""
    return next(system.root.parent.glob("store/20*/prometheus"))


def pid() -> int:
    return int(server.run("systemctl", "show", "--property=MainPID", "--value", server.UNIT))


def direct(tmp_path: Path, **options: Any) -> Prometheus:
    """Return the source itself, on a host of its own."""
    host = Host(Paths(tmp_path / "direct"), Config(Settings(host="web1", reserve_bytes=0)))
    return Prometheus(PrometheusComponent(**{**COMPONENT, **options}), host)


def test_all_comes_back_on_an_empty_server_and_only_secrets_are_encrypted(system: System) -> None:
    before, files = server.digest(), tree_digest(server.ETC)
    scraped = float(server.asked("timestamp(prometheus_build_info)")[0]["value"][1])
    fresh = server.asked("prometheus_build_info", scraped)
    assert fresh
    answer = system.run("run", "daily")
    assert answer["components"][0]["consistency"] == "snapshot"
    assert own_snapshots() == []
    assert (SNAPSHOTS / FOREIGN).is_dir(), "somebody else's snapshot was removed"

    kept = folder(system)
    assert (kept / "prometheus.yml").read_text() == server.CONFIG
    assert (kept / "rules.yml").read_text() == server.RULES
    assert (kept / "targets/node.json").is_file()
    assert (kept / f"files{server.ELSEWHERE}/more.yml").is_file()
    assert server.run("promtool", "tsdb", "list", str(kept / "tsdb")).count("\n") == 3, "two blocks and a heading"
    clear = server.run("grep", "-rlF", server.PASSWORD, str(system.root.parent / "store"), check=False)
    assert clear == "", "a password stands in the store in the clear"
    assert (kept / "secrets.tar.age").is_file()

    assert [one["verdict"] for one in system.run("drill", "--plan", "daily")["results"]] == ["proven"]

    server.stop()
    for path in (server.DATA, server.ETC, server.ELSEWHERE):
        shutil.rmtree(path)
    answer = system.run("restore", "--component", "prometheus", "--yes")
    assert "does not run" in answer["notes"][0]
    assert sorted(one.name for one in server.DATA.iterdir()) == sorted(one.name for one in (kept / "tsdb").iterdir())
    assert {one.owner() for one in server.DATA.rglob("*")} == {"prometheus"}
    assert tree_digest(server.ETC) == files
    server.start()
    assert server.digest() == before
    assert server.asked("prometheus_build_info", scraped) == fresh, "what was in memory is lost"
    system.run("undo", answer["id"], "--discard")
    assert system.leftovers() == []


def test_a_restore_over_a_running_server_is_undone_to_the_sample(system: System) -> None:
    wanted = server.digest()
    system.run("run", "daily")
    server.stop()
    shutil.rmtree(server.DATA)
    server.seed(server.openmetrics(value=7))
    server.start()
    (server.ETC / "rules.yml").write_text(server.RULES.replace("0.9", "0.8"))
    other = server.digest()
    assert other != wanted
    old = pid()
    answer = system.run("restore", "--component", "prometheus", "--yes")
    assert pid() not in (0, old), "the server was not started again"
    assert server.digest() == wanted
    assert (server.ETC / "rules.yml").read_text() == server.RULES
    system.run("undo", answer["id"])
    server.wait_until_ready()
    assert server.digest() == other
    assert "0.8" in (server.ETC / "rules.yml").read_text()
    system.run("undo", answer["id"], "--discard")
    assert list(server.PLACE.glob(".restaura-*")) == []
    # Only a part: the rules, and nothing else.
    part = system.run("restore", "--component", "prometheus", "--path", f"{server.ETC}/rules.yml", "--yes")
    assert (server.ETC / "rules.yml").read_text() == server.RULES
    assert server.digest() == other
    system.run("undo", part["id"], "--discard")
    server.write_config()
    server.stop()
    shutil.rmtree(server.DATA)
    server.seed()


def test_a_directory_gets_all_as_files_and_what_a_store_damaged_is_not_restored(system: System, tmp_path: Path) -> None:
    system.run("run", "daily")
    target = tmp_path / "aside"
    system.run("restore", "--component", "prometheus", "--to", f"dir:{target}", "--yes")
    assert server.run("promtool", "tsdb", "list", str(target / "tsdb")).count("\n") >= 2
    assert (target / str(server.ETC / "target.password").lstrip("/")).read_text() == server.PASSWORD
    assert target.stat().st_mode & 0o077 == 0
    refused = system.run("restore", "--component", "prometheus", "--to", f"dir:{target}", "--yes", expect=2)
    assert refused["error"]["what"] == "is not empty"

    block = max(folder(system).glob("tsdb/*/chunks/000001"), key=lambda one: one.stat().st_size)
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    block.write_bytes(content)
    started = pid()
    answer = system.run("restore", "--component", "prometheus", "--yes", expect=1)
    assert "000001" in answer["error"]["where"] + answer["error"]["what"]
    assert pid() == started
    assert list(server.PLACE.glob(".restaura-*")) == []
    assert system.run("drill", "--plan", "daily", expect=6)["results"][0]["verdict"] == "disproven"


def test_a_block_that_the_live_server_has_damaged_is_no_proof(system: System) -> None:
    chunks = next(one for one in server.DATA.glob("*/chunks/000001") if _series(one) == 3)
    content = chunks.read_bytes()
    chunks.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    try:
        system.run("run", "daily")
    finally:
        chunks.write_bytes(content)
    verdict = system.run("drill", "--plan", "daily", expect=6)["results"][0]
    assert verdict["verdict"] == "disproven"
    assert "samples" in verdict["problems"][0]


def _series(chunks: Path) -> int:
    return int(json.loads((chunks.parents[1] / "meta.json").read_text())["stats"]["numSeries"])


def wait_for_request(system: System) -> None:
    server.wait_until((system.root / "held").exists)
    journal = system.root / "var/lib/restaura/journal"
    assert any('"act": "snapshot"' in one.read_text() for one in journal.glob("*.json"))


def frozen_in_request(system: System) -> "subprocess.Popen[str]":
    """Start a run, and hold the server as soon as it is asked for a snapshot."""
    driver = (
        f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); from restaura import cli;"
        "from restaura.prometheus import snapshot; from tests import prometheus_server as server;"
        "start = snapshot.Taking.__init__\n"
        "def held(self, *arguments):\n"
        f"    server.hold({pid()}); open({str(system.root / 'held')!r}, 'w').close(); start(self, *arguments)\n"
        "snapshot.Taking.__init__ = held; sys.exit(cli.main())"
    )
    return subprocess.Popen(
        ["/usr/bin/python3", "-c", driver, "run", "daily", "--json"],
        env=system.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_server_that_dies_in_the_freeze_fails_the_component(system: System) -> None:
    child = frozen_in_request(system)
    wait_for_request(system)
    os.kill(pid(), signal.SIGKILL)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "does not answer" in out or "broke off" in out
    system.settled()
    assert own_snapshots() == []


def test_a_snapshot_that_takes_too_long_is_given_up_and_removed_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    server.start()
    make_foreign_snapshot()
    source = direct(tmp_path, snapshot_timeout=1)
    stopped, start = pid(), snapshot.Taking.__init__

    def held(self: snapshot.Taking, *arguments: Any) -> None:
        server.hold(stopped)
        start(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot.Taking, "__init__", held)
        with pytest.raises(SourceError, match="timed out"), source.freeze("content"):
            pytest.fail("it was not held still")
    (debt,) = Journal(tmp_path / "direct/var/lib/restaura/journal").open_debts()
    with pytest.raises(SourceError, match="was asked for a snapshot and does not answer"):
        Prometheus.take_back(debt.act, debt.data)
    os.kill(stopped, signal.SIGCONT)
    server.wait_until(lambda: own_snapshots() != [])
    # As if it had gone on much later: only what was not answered may be begun then.
    monkeypatch.setattr(snapshot, "NEAR_SECONDS", -3600)
    Prometheus.take_back(debt.act, {**debt.data, "unanswered": False})
    assert len(own_snapshots()) == 1
    Prometheus.take_back(debt.act, debt.data)
    assert own_snapshots() == []
    assert (SNAPSHOTS / FOREIGN).is_dir()


@pytest.mark.parametrize("who", ["run", "run and watcher"])
def test_a_killed_run_leaves_no_snapshot(system: System, who: str) -> None:
    system.killed("run", "daily", at="copy", who=who)
    if "watcher" in who:
        assert len(own_snapshots()) == 1
        system.run("recover")
    system.settled()
    assert own_snapshots() == []
    assert (SNAPSHOTS / FOREIGN).is_dir()


@pytest.mark.parametrize("at", ["swap", "swapped"])
def test_a_restore_that_is_killed_is_taken_back(system: System, at: str) -> None:
    system.run("run", "daily")
    before = server.digest()
    system.killed("restore", "--component", "prometheus", "--yes", at=at)
    system.settled()
    server.wait_until_ready()
    assert server.digest() == before
    assert list(server.PLACE.glob(".restaura-*")) == []
    assert list(server.ETC.glob(".restaura-*")) == []


def test_what_is_missing_is_said_with_its_fix(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system.run("run", "daily")
    monkeypatch.setattr("restaura.prometheus.server.PATIENCE", 0.1)
    assert direct(tmp_path).probe().warnings == []
    later = time.time() + 60
    os.utime(server.ETC / "prometheus.yml", (later, later))
    assert "was changed after the server read it" in direct(tmp_path).probe().warnings[0]
    server.stop()
    what, fix = direct(tmp_path).probe().problems[0]
    assert "does not answer" in what
    assert fix == f"systemctl start {server.UNIT}"
    # Flags that lack the admin API, and keep nothing for long.
    server.install("--storage.tsdb.retention.time=1h")
    server.start()
    problems = direct(tmp_path).probe().problems
    assert [what for what, _ in problems] == ["its admin API is off, and only that makes snapshots"]
    assert "backup_prometheus_enable_admin_api: true" in problems[0][1]
    answer = system.run("restore", "--component", "prometheus", "--yes", expect=2)
    assert "retention would delete" in answer["error"]["what"]
    assert list(server.PLACE.glob(".restaura-*")) == []
    server.stop()
    server.install(*FLAGS)
    server.write_config()
    shutil.rmtree(server.DATA)
    server.seed()


def test_rules_that_the_server_has_and_no_file_holds_make_a_point_suspect(system: System) -> None:
    assert system.run("run", "daily")["components"][0]["state"] == "complete"
    for gone in (server.ETC / "rules.yml", server.ELSEWHERE / "more.yml"):
        text = gone.read_text()
        gone.unlink()
        try:
            [found] = system.run("run", "daily", expect=3)["components"]
        finally:
            gone.write_text(text)
        assert found["state"] == "suspect"
        [note] = [one for one in found["notes"] if "has rules of" in one]
        assert str(gone) in note
        named = f"{gone} is named by the configuration, and not there"
        assert (named in found["notes"]) == (gone.name == "rules.yml"), "a pattern may match nothing"


def test_a_server_elsewhere_is_refused_unless_its_data_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    monkeypatch.setattr("restaura.prometheus.server._is_here", lambda _: False)
    problems = direct(tmp_path, url=server.URL).probe().problems
    assert "over the network alone" in problems[0][0]
    assert direct(tmp_path, url=server.URL, data_directory=str(server.DATA)).probe().problems == []
    problems = direct(tmp_path, url=server.URL, data_directory="/var/empty-nowhere").probe().problems
    assert "is not here" in problems[0][0]


def test_a_password_is_asked_for_and_kept_from_the_store(tmp_path: Path) -> None:
    server.stop()
    (server.ETC / "web.yml").write_text(f"basic_auth_users: {{backup: {HASH}}}\n")
    server.install(*FLAGS, f"--web.config.file={server.ETC}/web.yml")
    try:
        server.run("systemctl", "start", server.UNIT)
        server.wait_until(lambda: "401" in str(direct(tmp_path).probe().problems))
        keys = tmp_path / "direct/etc/restaura/keys"
        keys.mkdir(parents=True)
        (keys / "components.prometheus.password").write_text("wrong\n")
        assert "401" in str(direct(tmp_path, username="backup").probe().problems)
        (keys / "components.prometheus.password").write_text("backup-pa55\n")
        source = direct(tmp_path, username="backup")
        assert source.probe().problems == []
        with source.freeze("content") as frozen:
            secret = next(one for one in frozen.artifacts() if one.name == "secrets")
        assert secret.secret
        assert isinstance(secret, Tree)
        assert str(server.ETC / "web.yml").lstrip("/") in [one.path for one in secret.index.entries]
    finally:
        server.stop()
        server.install(*FLAGS)
        (server.ETC / "web.yml").unlink()


def test_a_full_disk_in_the_data_directory_is_named(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    server.stop()
    shutil.rmtree(server.DATA)
    server.DATA.mkdir()
    server.run("mount", "-t", "tmpfs", "-o", "size=4m,mode=0755,uid=prometheus", "tmpfs", str(server.DATA))
    try:
        server.start()
        assert "do not fit" in system.run("run", "daily", expect=1)["text"]
        # What only the server itself finds out.
        monkeypatch.setattr(Host, "need_space", lambda *_: None)
        with pytest.raises(SourceError, match="no space left") as raised, direct(tmp_path).freeze("content") as frozen:
            list(frozen.artifacts())
        assert "free space" in raised.value.fix
        assert own_snapshots() == []
    finally:
        server.stop()
        server.run("umount", str(server.DATA))
        server.seed()


# What is changed, and which parts of the fingerprint must say so.
CHANGES: dict[str, tuple[str, str, str]] = {
    "a sample's value": ("0.617 ", "0.618 ", "chunks"),
    "the last bit of a value": ("0.617 ", "0.6170000000000001 ", "chunks"),
    "a timestamp, by a millisecond": (f" {server.START + 1170}\n", f" {server.START + 1170}.001\n", "chunks"),
    "a value that is no number": ("0.617 ", "NaN ", "chunks"),
    "a value's sign": ("0.617 ", "-0.617 ", "chunks"),
    "a label's value": ('disk="sda0"', 'disk="sdz0"', "index"),
    "a label's name": ('{disk="sda0"}', '{drive="sda0"}', "index"),
    "one more label": ('{disk="sda0"}', '{disk="sda0",room="1"}', "index"),
    "a metric's name": ("disk_used_ratio", "disk_used_ratios", "index"),
}
FILE_CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a rule's threshold": ("rules.yml", lambda path: _edit(path, "0.9", "0.91")),
    "how long an alert waits": ("rules.yml", lambda path: _edit(path, "5m", "6m")),
    "a scrape target": ("prometheus.yml", lambda path: _edit(path, "19090", "19091")),
    "an external label": ("prometheus.yml", lambda path: _edit(path, "lisbon", "lisboa")),
    "a scrape interval": ("prometheus.yml", lambda path: _edit(path, "1s", "2s")),
    "a discovered target": ("targets/node.json", lambda path: _edit(path, "19100", "19101")),
    "a label of one": ("targets/node.json", lambda path: _edit(path, '"1"', '"2"')),
    "a password": ("target.password", lambda path: _edit(path, "pa55", "pa56")),
    "who may read a password": ("target.password", lambda path: path.chmod(0o644)),
    "whose a password is": ("target.password", lambda path: shutil.chown(path, "prometheus")),
    "a certificate": ("ca.pem", lambda path: _edit(path, "not", "nor")),
}


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _fingerprint(blocks: Path, place: Path, depth: str = "content") -> Fingerprint:
    """Fingerprint blocks and the test's configuration as a run does, with one salt."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    facts = Facts("2.53.3", "", str(server.ETC / "prometheus.yml"), "", True, 0, 0, True, 0, False, False)
    named = named_by(Place("unit"), facts.config)
    capture.copy_files(Place("unit"), [*named.plain, *named.secret], place)
    one = capture.Captured(depth, facts, named, place, lambda: blocks, [], [], salt=b"s" * 16)  # type: ignore[arg-type]
    indexes = {tree.name: tree.index for tree in one.artifacts() if isinstance(tree, Tree)}
    return one.outcome(indexes).fingerprint


def _block(place: Path, text: str) -> Path:
    """Make one block of OpenMetrics text, by promtool, under the same name each time."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    source = place.with_suffix(".txt")
    source.write_text(text)
    server.run("promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(place))
    made = next(one for one in place.iterdir() if one.is_dir())
    (made / "meta.json").write_text((made / "meta.json").read_text().replace(made.name, ULID))
    made.rename(place / ULID)
    return place


def test_a_fingerprint_notices_every_small_change_and_names_its_place(tmp_path: Path) -> None:
    text = server.openmetrics()
    shutil.copytree(server.ETC, tmp_path / "etc", copy_function=shutil.copy2)
    wanted = _fingerprint(_block(tmp_path / "blocks", text), tmp_path / "spool")
    assert wanted.differences(_fingerprint(_block(tmp_path / "same", text), tmp_path / "spool")) == []
    assert server.PASSWORD not in json.dumps([wanted.parts, wanted.counts])
    unseen = []
    for what, (old, new, place) in CHANGES.items():
        changed = text.replace(old, new, 1) if "metric" not in what else text.replace(old, new)
        assert changed != text, what
        found = wanted.differences(_fingerprint(_block(tmp_path / "changed", changed), tmp_path / "spool"))
        if not any(place in one for one in found):
            unseen.append(what)
    lines = text.splitlines(keepends=True)
    for what, changed in {
        "a sample less": "".join(lines[:50] + lines[51:]),
        "a series less": "".join(one for one in lines if "sda2" not in one),
    }.items():
        found = wanted.differences(_fingerprint(_block(tmp_path / "changed", changed), tmp_path / "spool"))
        unseen += [] if any(one.startswith("samples: 360 backed up") for one in found) else [what]
        shallow = _fingerprint(tmp_path / "blocks", tmp_path / "spool", "catalog")
        found = shallow.differences(_fingerprint(tmp_path / "changed", tmp_path / "spool", "catalog"))
        unseen += [] if found else [f"{what}, without content"]
    for what, (name, change) in FILE_CHANGES.items():
        path = server.ETC / name
        text_before, state = path.read_text(), path.stat()
        change(path)
        found = wanted.differences(_fingerprint(tmp_path / "blocks", tmp_path / "spool"))
        path.write_text(text_before)
        os.chown(path, state.st_uid, state.st_gid)
        path.chmod(state.st_mode & 0o7777)
        if not found or any(not one.startswith(f"file {path}: differs") for one in found):
            unseen.append(f"{what}: {found}")
    assert unseen == []
    assert wanted.differences(_fingerprint(tmp_path / "blocks", tmp_path / "spool")) == []


def test_only_one_of_two_snapshots_of_a_moment_can_be_ours(tmp_path: Path, quick: None) -> None:
    at = 1_700_000_000.0
    names = ["20231114T221320Z-00000000000000aa", "20231114T221321Z-00000000000000bb"]
    late = "20231114T230000Z-00000000000000cc"
    for one in (*names, late):
        (tmp_path / one).mkdir()
    data = {
        "folder": str(tmp_path),
        "known": [],
        "at": at,
        "name": "",
        "unanswered": False,
        "url": "http://127.0.0.1:9",
        "ca_file": "",
    }
    with pytest.raises(SourceError, match="somebody else's"):
        snapshot.remove(data)
    assert len(list(tmp_path.iterdir())) == 3
    snapshot.remove({**data, "known": names[:1]})
    assert sorted(one.name for one in tmp_path.iterdir()) == [names[0], late]
