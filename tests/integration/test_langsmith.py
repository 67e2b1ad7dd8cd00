# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith, played by a stand-in, filled and read by its own client: kept, restored, undone, and what goes wrong."""

import hashlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from restaura.config.schema import Config, Settings
from restaura.errors import RestauraError, SourceError, SpaceError
from restaura.host import Host
from restaura.langsmith import api as api_module
from restaura.paths import Paths, private_dir
from restaura.point import Fingerprint
from restaura.sources import Stream
from restaura.sources.langsmith import Langsmith, LangsmithComponent
from tests.integration.langsmith_sdk import ALL_RUNS, FILL, KEY, PORT, READ, URL, Sdk
from tests.integration.system import System

UNIT = "restaura-langsmith-standin"
STATE = Path("/var/tmp/langsmith-standin")
STANDIN = Path(__file__).resolve().parents[1] / "standins/langsmith.py"


def standin(what: str, **given: Any) -> Any:
    """Tell the stand-in what only it does."""
    request = urllib.request.Request(f"{URL}/_standin/{what}", json.dumps(given).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    shutil.rmtree(STATE, ignore_errors=True)
    unit = f"[Service]\nExecStart=/usr/bin/python3 {STANDIN} --port {PORT} --state {STATE}\n"
    unit += f"Environment=LANGSMITH_STANDIN_KEYS={KEY},lsv2_sk_of_the_lab PYTHONDONTWRITEBYTECODE=1\n"
    Path(f"/run/systemd/system/{UNIT}.service").write_text(unit)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", UNIT], check=True)
    reachable()
    yield
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    Path(f"/run/systemd/system/{UNIT}.service").unlink()
    shutil.rmtree(STATE, ignore_errors=True)


def reachable() -> None:
    """Wait until the stand-in answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{URL}/api/v1/info").read()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="module")
def sdk(server: None) -> Iterator[Sdk]:
    one = Sdk()
    yield one
    one.close()


@pytest.fixture(scope="module")
def fill(sdk: Sdk) -> dict[str, Any]:
    """Fill the workspace once and return the ids."""
    found: dict[str, Any] = sdk.do(FILL)
    standin("keep")
    return found


@pytest.fixture
def filled(fill: dict[str, Any]) -> dict[str, Any]:
    """Bring the workspace back to what it was filled with."""
    standin("faults")
    standin("go%20back")
    return fill


def system(place: Path, **options: Any) -> System:
    """Return a host that keeps the workspace in a dated store."""
    one = System(place / "host")
    component = {"name": "langsmith", "url": URL, "api_key": KEY, "requests_per_minute": 60_000, **options}
    one.configure(
        stores=[{"name": "plain", "type": "dated", "location": str(place / "store"), "compression": "none"}],
        plans=[{"name": "daily", "drill": "daily"}],
        components={"langsmith": [component]},
    )
    return one


class Direct:
    """The source itself, with an archive of its own; `take` reads the workspace as a run does, and stores nothing."""

    def __init__(self, place: Path, **options: Any) -> None:
        self.host = Host(Paths(place), Config(Settings(host="web1", reserve_bytes=0)))
        key = private_dir(self.host.paths.keys) / "components.langsmith.api_key"
        key.write_text(options.pop("api_key", KEY))
        self.options = LangsmithComponent(name="langsmith", url=URL, requests_per_minute=60_000, **options)
        self.notes: list[str] = []

    def take(self, meanwhile: Callable[[], Any] = lambda: None) -> dict[str, Any]:
        """Return the artifacts by name, and the fingerprint as `fingerprint`; `meanwhile` comes after the freeze."""
        source = Langsmith(self.options, self.host)
        source.prepare("content")
        with source.freeze("content") as frozen:
            found: dict[str, Any] = {}
            meanwhile()
            for one in frozen.artifacts():
                if isinstance(one, Stream):
                    with one.open() as stream:
                        found[one.name.removesuffix(".json")] = json.loads(stream.read())
            outcome = frozen.outcome({})
        self.notes = outcome.notes
        return found | {"fingerprint": outcome.fingerprint}

    def runs(self) -> list[str]:
        """Return the ids of the runs that a point would hold."""
        return sorted(run["id"] for run in self.take()["runs"])


def asked(path: str) -> int:
    """Return how often something was asked for."""
    return int(standin("asked").get(path, 0))


@pytest.fixture(scope="module")
def taken(fill: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a host is that has a point of the workspace as it was filled; `host_of` gives the host."""
    assert fill
    place = tmp_path_factory.mktemp("taken")
    standin("faults")
    standin("go%20back")
    system(place).run("run", "daily")
    return place


def host_of(place: Path) -> System:
    """Return the host that `taken` made."""
    return System(place / "host")


def artifact(place: Path, name: str) -> Any:
    """Return the newest point's artifact, as it stands in the store."""
    found = sorted((place / "store").rglob(f"langsmith/{name}"), key=lambda one: one.stat().st_mtime_ns)
    return json.loads(found[-1].read_text())


def test_a_wiped_workspace_comes_back(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    host = system(tmp_path)
    before = sdk.do(READ)
    host.run("run", "daily", "--drill")
    assert sorted(run["id"] for run in artifact(tmp_path, "runs.json")) == sorted(filled["runs"])
    photos = sorted((tmp_path / "store").rglob("langsmith/attachments/runs/*/photo"))
    kept = {hashlib.sha256(one.read_bytes()).hexdigest() for one in photos}
    assert kept == {hashlib.sha256(b"PNG" * 1000 + bytes([number])).hexdigest() for number in range(3)}

    standin("wipe")
    answer = host.run("restore", "--component", "langsmith", "--yes")
    assert sdk.do(READ) == before
    assert sdk.do(ALL_RUNS) == []
    assert any("29 runs and 3 feedbacks are an archive" in note for note in answer["notes"])
    assert host.leftovers() == []
    # The runs that cannot be imported are in the next point all the same, and a drill proves it.
    host.run("run", "daily", "--drill")
    assert sorted(run["id"] for run in artifact(tmp_path, "runs.json")) == sorted(filled["runs"])


CHANGE = """
data = client.read_dataset(dataset_name="questions")
example = sorted(client.list_examples(dataset_id=data.id), key=lambda e: e.inputs["q"])[0]
client.update_example(example.id, dataset_id=data.id, outputs={"a": "changed"}, attachments_operations={"retain": []})
client.delete_dataset(dataset_name="Café / menu")
client.create_dataset("newer")
client.update_prompt("greeting", description="another", tags=["other"])
latest = next(client.list_prompt_commits("greeting", limit=1)).commit_hash
client.request_with_retries("POST", "/commits/-/greeting", json={"manifest": {"changed": 1}, "parent_commit": latest})
client.delete_prompt("summary")
client.update_annotation_queue(next(client.list_annotation_queues()).id, description="changed", rubric_items=[])
client.update_project(client.read_project(project_name="shop").id, description="changed")
"""


def test_a_restore_over_other_data_is_undone_and_done_again(filled: dict[str, Any], sdk: Sdk, taken: Path) -> None:
    host, then = host_of(taken), sdk.do(READ)
    sdk.do(CHANGE)
    changed = sdk.do(READ)
    assert changed != then

    answer = host.run("restore", "--component", "langsmith", "--yes")
    restored = sdk.do(READ)
    ours = [name for name in restored["datasets"] if "restaura" in name]
    assert len(ours) == 1
    assert "kept by restaura" in ours[0]
    # The id of an example that is kept beside cannot be used twice, and a prompt's history only grows.
    assert same(restored, then) == []
    assert restored["prompts"]["greeting"][3][0] == then["prompts"]["greeting"][3][0]
    assert restored["datasets"]["newer"] == changed["datasets"]["newer"]

    host.run("undo", answer["id"])
    assert same(sdk.do(READ), changed) == []
    host.run("undo", answer["id"], "--discard")
    assert same(sdk.do(READ), changed, exactly=True) == []
    host.run("restore", "--component", "langsmith", "--yes")
    assert same(sdk.do(READ), then) == []
    assert sorted(set(sdk.do(ALL_RUNS))) == sorted(filled["runs"])
    assert host.leftovers() == []


def same(found: dict[str, Any], wanted: dict[str, Any], *, exactly: bool = False) -> list[str]:
    """Name what differs of what is in `wanted`, ids and a prompt's older commits left out; `exactly`: nothing else."""
    wrong = []
    for kind, objects in wanted.items():
        for name, one in objects.items():
            if plain(kind, found[kind].get(name)) != plain(kind, one):
                wrong.append(f"{kind} {name}")
        if exactly and found[kind].keys() != objects.keys():
            wrong.append(f"{kind}: {sorted(found[kind])}")
    return wrong


def plain(kind: str, one: Any) -> Any:
    """Return an object without ids and history."""
    if one and kind == "datasets":
        return [*one[:3], sorted(json.dumps(example[1:], sort_keys=True) for example in one[3])]
    return [*one[:3], one[3][0]] if one and kind == "prompts" else one


ATTACH = "client.update_example(E, dataset_id=D, attachments={'plan.pdf': ('application/pdf', b'%PDF' + bytes(9))})"
TAG = "client.update_dataset_tag(dataset_id=D, as_of=datetime.datetime.now(datetime.timezone.utc), tag='prod')"
# What is changed, as the SDK does it, and the part of the fingerprint that tells.
SMALL = [
    ("client.update_feedback(next(client.list_feedback()).id, score=0.123)", "feedback/shop"),
    ("client.update_feedback(next(client.list_feedback()).id, comment='changed')", "feedback/shop"),
    (
        "client.request_with_retries('PATCH', f'/datasets/{D}', json={'description': 'x'})",
        "import/datasets/questions",
    ),
    (
        "client.request_with_retries('PATCH', f'/datasets/{D}', json={'inputs_schema_definition': {'type': 'array'}})",
        "import/datasets/questions",
    ),
    (
        "client.request_with_retries('PATCH', f'/datasets/{D}', json={'metadata': {'owner': 'bia'}})",
        "datasets/questions",
    ),
    ("client.update_example(E, dataset_id=D, inputs={'q': 'q0 '})", "examples/questions"),
    ("client.update_example(E, dataset_id=D, outputs={'a': 0.5})", "import/datasets/questions"),
    ("client.update_example(E, dataset_id=D, metadata={'level': '0'})", "import/datasets/questions"),
    ("client.update_example(E, dataset_id=D, split='valid')", "examples/questions"),
    (ATTACH, "attachments"),
    ("client.update_example(E, dataset_id=D, attachments_operations={'retain': []})", "import/datasets/questions"),
    ("client.delete_example(E)", "examples/questions"),
    ("client.create_example(inputs={'q': 'more'}, dataset_id=D)", "examples/questions"),
    (TAG, "datasets/questions"),
    ("client.update_prompt('greeting', description='the greeting.')", "import/prompts/greeting"),
    ("client.update_prompt('greeting', is_archived=True)", "import/prompts/greeting"),
    (
        "client.request_with_retries('POST', '/commits/-/summary', json={'manifest': {'lc': 2}, 'parent_commit': "
        "next(client.list_prompt_commits('summary', limit=1)).commit_hash})",
        "import/prompts/summary",
    ),
    (
        "client._create_commit_tags('-/summary', str(list(client.list_prompt_commits('summary'))[-1].id), 'old')",
        "import/prompts/summary",
    ),
    ("client.update_annotation_queue(Q, rubric_instructions='be fair!')", "import/annotation_queues/to review"),
    (
        "client.update_annotation_queue(Q, rubric_items=[{'feedback_key': 'correctness', 'description': 'is it'}])",
        "annotation_queues/to review",
    ),
    ("client.add_runs_to_annotation_queue(Q, run_ids=[R])", "annotation_queues/to review"),
    ("client.update_project(P, description='other')", "import/projects/shop"),
    ("client.update_project(P, project_extra={'metadata': {'team': 'Shop'}})", "import/projects/shop"),
    ("client.update_run(R, outputs={'answer': [1, 2.5, None]}); client.flush()", "runs/shop"),
    ("client.update_run(R, error='late'); client.flush()", "runs/shop"),
    ("trace('shop', 'one more', 1); client.flush()", "runs/shop"),
]


def test_each_small_change_is_seen(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    last: Fingerprint = direct.take()["fingerprint"]
    assert direct.take()["fingerprint"].differences(last) == []
    runs, projects = filled["runs"], filled["projects"]
    sdk.do(f"D, Q, R, P = {filled['dataset']!r}, {filled['queue']!r}, {runs[9]!r}, {projects['shop']!r}")
    for change, part in SMALL:
        sdk.do("E = sorted(client.list_examples(dataset_id=D), key=lambda e: e.inputs['q'])[0].id")
        sdk.do(change)
        found: Fingerprint = direct.take()["fingerprint"]
        told = found.differences(last)
        assert any(one.startswith(f"{part}:") for one in told), (change, told)
        last = found


def test_what_came_late_is_taken_and_what_vanished_is_kept(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    direct, runs = Direct(tmp_path), filled["runs"]
    assert direct.runs() == sorted(runs)
    photos = asked("/public/download")
    # Late, but within what is read again; and so late that only the server's count tells.
    late = sdk.do("out = [trace('shop', 'late', 1)['id'] for _ in range(2)]; client.flush()")
    standin("backdate", ids=late[:1], hours=30)
    standin("backdate", ids=late[1:], hours=24 * 40)
    assert direct.runs() == sorted([*runs, *late])
    assert asked("/public/download") == photos
    standin("expire", ids=runs[:4])
    assert direct.runs() == sorted([*runs, *late])
    sdk.do("trace('shop', 'another', 1); client.flush()")
    assert len(direct.runs()) == len(runs) + 3
    assert any("4 runs of project shop are no longer on the server" in note for note in direct.notes)
    # What is gone does not hide what was never read.
    hidden = sdk.do("out = [trace('shop', 'hidden', 1)['id'] for _ in range(2)]; client.flush()")
    standin("backdate", ids=hidden, hours=24 * 40)
    sdk.do("trace('shop', 'another', 1); client.flush()")
    assert set(hidden) < set(direct.runs())


def test_a_restore_of_an_older_point_and_its_undo_lose_no_run_that_is_only_here(
    filled: dict[str, Any], sdk: Sdk, tmp_path: Path
) -> None:
    host = system(tmp_path)
    old = host.run("run", "daily")["point"]

    def traced(name: str) -> list[str]:
        """Trace runs with attachments, back them up, and let LangSmith's retention delete them."""
        found = sdk.do(f"out = [trace('shop', '{name}', 1)['id'] for _ in range(2)]; client.flush()")
        host.run("run", "daily")
        standin("expire", ids=found)
        return list(found)

    def held() -> set[str]:
        host.run("run", "daily")
        return {run["id"] for run in artifact(tmp_path, "runs.json")}

    gone = traced("before")
    restored = host.run("restore", "--point", old, "--component", "langsmith", "--yes")["id"]
    assert set(gone) < held()
    gone += traced("between")
    host.run("undo", restored)
    assert set(gone) < held()
    # The archive was lost: there is none to give back.
    shutil.rmtree(host.root / "var/lib/restaura/langsmith")
    restored = host.run("restore", "--component", "langsmith", "--yes")["id"]
    alone = traced("alone")
    host.run("undo", restored)
    host.run("undo", restored, "--discard")
    assert set(alone) < held()


LATER = """
client.create_project("later")
trace("shop", "later", -(datetime.datetime.now(datetime.timezone.utc) - now).total_seconds() / 60)
client.flush()
client.create_feedback(R, "later", score=1, session_id=P)
client.create_dataset("later")
client.create_example(inputs={"q": "later"}, dataset_id=D)
client.create_prompt("later")
latest = next(client.list_prompt_commits("greeting", limit=1)).commit_hash
client.request_with_retries("POST", "/commits/-/greeting", json={"manifest": {"later": 1}, "parent_commit": latest})
client.create_annotation_queue(name="later")
"""


def test_what_began_after_the_freeze_is_left_out(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    direct = Direct(tmp_path)
    wanted = direct.take()["fingerprint"]
    names = {"D": filled["dataset"], "R": filled["runs"][0], "P": filled["projects"]["shop"]}
    sdk.do("; ".join(f"{name} = {value!r}" for name, value in names.items()))
    found = direct.take(meanwhile=lambda: sdk.do(LATER))
    assert found["fingerprint"].differences(wanted) == []
    assert "later" not in json.dumps({name: one for name, one in found.items() if name != "fingerprint"})
    later = direct.take()
    assert len(later["runs"]) == 30
    assert {one["name"] for one in later["datasets"]} == {"questions", "Café / menu", "later"}


def test_projects_are_chosen_and_runs_cut_off(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    some = Direct(tmp_path / "a", projects=("sh*",)).take()
    assert [one["name"] for one in some["projects"]] == ["shop"]
    assert {run["project_id"] for run in some["runs"]} == {filled["projects"]["shop"]}
    assert len(some["feedback"]) == 3
    rest = Direct(tmp_path / "b", exclude_projects=("shop",)).take()
    assert [one["name"] for one in rest["projects"]] == ["Search & co"]
    assert rest["feedback"] == []
    problems = (
        Langsmith(Direct(tmp_path / "c", projects=("shap",)).options, Direct(tmp_path / "c").host).probe().problems
    )
    assert problems == [("there is no project 'shap'", "correct projects of component langsmith")]
    assert Direct(tmp_path / "d", since="2100-01-01").take()["runs"] == []


def test_an_old_server_has_no_v2(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    standin("faults", v2=False)
    found = Direct(tmp_path, page_size=5).take()
    assert sorted(run["id"] for run in found["runs"]) == sorted(filled["runs"])
    assert sum(len(run.get("attachments") or {}) for run in found["runs"]) == 3
    assert len(found["annotation_queues"][0]["items"]) == 3


def test_pages_that_are_too_large_are_asked_for_in_parts(
    filled: dict[str, Any], sdk: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE_BYTES", 3000)
    before = asked("/runs/query")
    assert Direct(tmp_path).runs() == sorted(filled["runs"])
    assert asked("/runs/query") - before > 10


@pytest.mark.parametrize(
    "rule",
    [
        {"path": "runs/query", "status": 429, "retry_after": 1, "times": 2},
        {"path": "GET /v1/examples", "status": 500, "times": 2},
        {"path": "runs/query", "cut": True, "times": 1},
        {"path": "public/download", "cut": True, "times": 1},
        # An address that has expired is asked for anew.
        {"path": "public/download", "status": 403, "times": 1},
        {"path": "commits", "status": 503, "times": 1},
    ],
    ids=["429", "500", "cut", "cut attachment", "expired", "503"],
)
def test_what_passes_is_tried_again(filled: dict[str, Any], sdk: Sdk, tmp_path: Path, rule: dict[str, Any]) -> None:
    wanted = Direct(tmp_path / "a").take()
    standin("faults", rules=[rule])
    found = Direct(tmp_path / "b").take()
    assert found["fingerprint"].differences(wanted["fingerprint"]) == []


@pytest.mark.parametrize(
    ("rule", "options", "said"),
    [
        ({"path": "runs/query", "loop": "same", "times": 9999}, {}, "same page again and again"),
        ({"path": "runs/query", "loop": "new", "times": 9999}, {"deadline": 2}, "not read within 2 s"),
        ({"path": "runs/query", "status": 429, "times": 9999}, {"deadline": 2}, "429|not read within"),
        ({"path": "v1/feedback", "status": 500, "times": 9999}, {"deadline": 2}, "500|not read within"),
        ({"path": "runs/query", "cut": True, "times": 9999}, {}, "broke off"),
        ({"path": "public/download", "status": 403, "times": 9999}, {}, "403"),
        ({"path": "v1/datasets", "status": 401, "times": 9999}, {}, "make a key"),
    ],
    ids=["same page", "pages for ever", "429", "500", "cut", "expired", "key withdrawn"],
)
def test_what_stays_wrong_is_no_point(
    filled: dict[str, Any], sdk: Sdk, tmp_path: Path, rule: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    direct = Direct(tmp_path, **options)
    standin("faults", rules=[rule])
    with pytest.raises(SourceError) as caught:
        direct.take()
    assert re.search(said, str(caught.value))
    assert "jwt" not in str(caught.value)
    assert KEY not in str(caught.value)
    # What was read until then stays, and the next reading is whole.
    standin("faults")
    direct.options = replace(direct.options, deadline=600)
    assert direct.runs() == sorted(filled["runs"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key": "lsv2_pt_wrong"}, "Invalid token"),
        ({"workspace": "00000000-0000-4000-8000-000000000000"}, "Forbidden"),
        ({"api_key": "lsv2_sk_of_the_lab"}, "org_scoped_key_requires_workspace"),
    ],
)
def test_a_wrong_key_is_told_before_anything_is_read(
    sdk: Sdk, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    direct = Direct(tmp_path, **options)
    ((what, fix),) = Langsmith(direct.options, direct.host).probe().problems
    assert said in what
    assert "api_key and workspace of component langsmith" in fix


def test_a_server_that_is_gone_and_comes_back(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    host = system(tmp_path, deadline=2)
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    try:
        Direct(tmp_path / "direct", deadline=1)
        with pytest.raises(RestauraError, match="does not answer"):
            Direct(tmp_path / "direct", deadline=1).take()
    finally:
        subprocess.run(["systemctl", "start", UNIT], check=True)
        reachable()
    # It dies once the instant is fixed.
    standin("faults", rules=[{"path": "v1/examples", "status": 503, "times": 9999}])
    answer = host.run("run", "daily", expect=1)
    assert answer["components"][0]["state"] == "failed"
    standin("faults")
    system(tmp_path)
    host.run("run", "daily")
    assert len(artifact(tmp_path, "runs.json")) == 29


def test_files_are_written_elsewhere(taken: Path, tmp_path: Path) -> None:
    host = host_of(taken)
    host.run("restore", "--component", "langsmith", "--to", f"dir:{tmp_path}/out", "--yes")
    assert json.loads((tmp_path / "out/runs.json").read_text()) == artifact(taken, "runs.json")
    (prompt,) = [one for one in artifact(taken, "prompts.json") if one["repo_handle"] == "greeting"]
    assert [one["description"] for one in prompt["commits"]] == ["v0", "v1", "v2"]
    assert prompt["commit_tags_list"] == [{"tag_name": "prod", "commit_hash": prompt["commits"][1]["commit_hash"]}]
    files = sorted(one.name for one in (tmp_path / "out/attachments").rglob("*") if one.is_file())
    assert files == ["photo", "photo", "photo", "plan.pdf", "plan.pdf"]
    host.run("restore", "--component", "langsmith", "--to", f"dir:{tmp_path}/out", "--yes", expect=2)
    assert KEY not in "".join(one.read_text() for one in host.root.rglob("*.jsonl"))


@pytest.mark.parametrize("at", ["freeze", "seal"])
def test_a_killed_run_leaves_nothing_but_its_archive(filled: dict[str, Any], sdk: Sdk, tmp_path: Path, at: str) -> None:
    host = system(tmp_path)
    host.killed("run", "daily", at=at)
    host.settled()
    assert host.leftovers() == []
    host.run("run", "daily")
    assert len(artifact(tmp_path, "runs.json")) == 29


@pytest.mark.parametrize("at", ["swap", "swapped"])
def test_a_killed_restore_leaves_the_workspace_as_it_was(
    filled: dict[str, Any], sdk: Sdk, taken: Path, at: str
) -> None:
    host = host_of(taken)
    sdk.do(CHANGE)
    changed = sdk.do(READ)
    host.killed("restore", "--component", "langsmith", "--yes", at=at)
    host.settled()
    assert same(sdk.do(READ), changed, exactly=True) == []
    assert host.leftovers() == []
    left = [one.name for one in (host.root / "var/lib/restaura/langsmith").iterdir()]
    assert [one for one in left if "restored" in one] == []


def test_a_full_disk_and_a_damaged_archive_are_told(filled: dict[str, Any], sdk: Sdk, tmp_path: Path) -> None:
    full = Direct(tmp_path / "full")
    full.host = Host(full.host.paths, Config(Settings(host="web1", reserve_percent=100, reserve_bytes=10**15)))
    with pytest.raises(SpaceError, match="stay in reserve"):
        full.take()
    host = system(tmp_path)
    host.run("run", "daily")
    folder = host.root / "var/lib/restaura/langsmith/langsmith"
    raw = bytearray((folder / "archive.db").read_bytes())
    at = raw.rindex(b"order-3")
    raw[at : at + 7] = b"order-9"
    (folder / "archive.db").write_bytes(raw)
    answer = host.run("run", "daily")
    assert "was put aside" in json.dumps(answer)
    assert folder.with_name("langsmith.damaged").is_dir()
    assert len(artifact(tmp_path, "runs.json")) == 29


def test_an_import_that_fails_half_way_leaves_nothing(filled: dict[str, Any], sdk: Sdk, taken: Path) -> None:
    host = host_of(taken)
    sdk.do(CHANGE)
    changed = sdk.do(READ)
    standin("faults", rules=[{"path": "POST /v1/commits", "status": 500, "times": 1, "after": 1}])
    answer = host.run("restore", "--component", "langsmith", "--yes", expect=1)
    assert "500" in json.dumps(answer)
    assert same(sdk.do(READ), changed, exactly=True) == []
    assert host.leftovers() == []


def test_what_the_store_damaged_is_not_restored(filled: dict[str, Any], sdk: Sdk, taken: Path) -> None:
    host, before = host_of(taken), sdk.do(READ)
    (file,) = (taken / "store").rglob("langsmith/examples.json")
    file.write_bytes(file.read_bytes().replace(b'"q3"', b'"q4"'))
    answer = host.run("restore", "--component", "langsmith", "--yes", expect=1)
    assert "examples.json" in json.dumps(answer)
    assert sdk.do(READ) == before
    assert host.leftovers() == []
    host.run("drill", "--plan", "daily", expect=6)
