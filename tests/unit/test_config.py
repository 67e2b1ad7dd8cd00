# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration: what is right becomes typed objects, every mistake is named with its key, and no secret shows."""

import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaura import sources
from restaura.config import load
from restaura.config.schema import Component, Config, Pause, Retention, Store, setting
from restaura.errors import ConfigError, Exit
from restaura.sources import SourceKind


@dataclass(frozen=True)
class FilesOptions(Component):
    paths: tuple[str, ...] = setting("Paths.")
    password: str | None = setting("A secret.", default=None, secret=True)


@dataclass(frozen=True)
class DatabaseOptions(Component):
    port: int = setting("Port.", default=5432, minimum=1)


@pytest.fixture(autouse=True)
def kinds(monkeypatch):
    """Two kinds of source that no real one can change."""
    made = {
        "files": SourceKind("files", FilesOptions, object),
        "database": SourceKind("database", DatabaseOptions, object, files=False),
    }
    monkeypatch.setattr(load, "registry", lambda: made)


def declaration(**changes) -> dict:
    return {
        "settings": {"host": "web1"},
        "stores": [{"name": "main", "location": "/var/backups/restaura"}],
        "plans": [{"name": "daily"}],
        "components": {"files": [{"name": "app", "paths": ["/srv"]}], "database": [{"name": "db"}]},
        **changes,
    }


URL = "http://127.0.0.1:8080/ingest"


def store(**changes) -> dict:
    return {"stores": [{"name": "main", "location": "/b", **changes}]}


def plan(**changes) -> dict:
    return {"plans": [{"name": "daily", **changes}]}


def http(**changes) -> dict:
    return plan(pause={"http": {"pause": {"url": URL, **changes}, "resume": {"url": URL}}})


def files(**changes) -> dict:
    return {"components": {"files": [{"name": "app", "paths": ["/srv"], **changes}]}}


def mistakes(data) -> str:
    with pytest.raises(ConfigError) as failed:
        load.parse(data, "declaration")
    assert failed.value.exit_code == Exit.USAGE == 2
    assert failed.value.where == "declaration"
    return failed.value.what


# -- what is right ------------------------------------------------------------------------------------------------


def test_a_declaration_becomes_typed_objects():
    config = load.parse(
        declaration(
            **plan(
                components=["db"],
                retention={"keep_daily": 9},
                pause={"command": "stop", "resume": "start"},
                timezone="America/Sao_Paulo",
                schedule="sun 03:30",
            )
        ),
        "x",
    )
    found = config.plans[0]
    assert found.retention == Retention(keep_daily=9)
    assert found.pause == Pause(command="stop", resume="start")
    assert [one.name for one in config.components] == ["app", "db"]
    assert config.kinds == {"app": "files", "db": "database"}
    assert config.component("app").paths == ("/srv",)
    assert [one.name for one in config.plan_components(found)] == ["db"]
    assert [one.name for one in config.plan_stores(found)] == ["main"]


@pytest.mark.parametrize(
    "pause",
    [
        {"command": "a", "resume": "b"},
        {"steps": [{"units": ["a.timer", "a.service"]}, {"containers": {"names": ["b"], "hold": "pause"}}], "limit": 9},
    ],
)
def test_what_is_dumped_is_read_back_equal(pause):
    config = load.parse(declaration(**plan(pause=pause)), "x")
    dumped = json.loads(json.dumps(load.dump(config)))
    assert load.parse(dumped, "x") == config
    assert load.dump(load.parse(dumped, "x")) == dumped


def test_headers_of_a_pause_are_kept_apart_by_their_place():
    headers = "Authorization: Bearer S3CRET\nX-Who: me"
    step = {"http": {"pause": {"url": URL}, "resume": {"url": URL}, "headers": headers}}
    config = load.parse(declaration(**plan(pause={"steps": [{"units": ["a.service"]}, step]})), "x")
    assert "S3CRET" not in json.dumps(load.dump(config))
    assert load.secrets_of(config.plans[0]) == {"pause.steps.1.http.headers": headers}
    wrong = mistakes(declaration(**plan(pause={"http": {**step["http"], "headers": "S3CRET"}})))
    assert "pause.http.headers: the value does not have the form" in wrong
    assert "S3CRET" not in wrong


# -- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        # Misspelt keys, at every depth.
        ({"store": []}, ["'store'", "did you mean 'stores'?"]),
        ({"settings": {"host": "web1", "reserve_percents": 5}}, ["settings.'reserve_percents'", "'reserve_percent'"]),
        (store(compresion="zstd"), ["stores['main'].'compresion'", "did you mean 'compression'?"]),
        (plan(retention={"keep_dayly": 1}), ["plans['daily'].retention.'keep_dayly'", "'keep_daily'"]),
        (files(checks=[{"name": "c", "command": "true", "timeouts": 1}]), ["checks['c'].'timeouts'", "'timeout'"]),
        (files(checks=[{"name": "c"}]), ["checks['c']: must have exactly one of command, http", "it has none"]),
        (
            files(checks=[{"name": "c", "command": "true", "sqlite": {"path": "/srv/app/a.db"}}]),
            ["checks['c']: must have exactly one of", "it has command and sqlite"],
        ),
        (files(checks=[{"name": "c", "file": {"path": "app.db"}}]), ["file.path: 'app.db' does not have the form"]),
        (files(checks=[{"name": "c", "file": {"path": "/a", "has": "x"}}]), ["checks['c'].file.'has': unknown"]),
        (files(checks=[{"name": "c", "file": {"path": "/a", "matches": "(a"}}]), ["matches is no regular expression"]),
        (files(checks=[{"name": "c", "json": {"keys": ["a"]}}]), ["checks['c'].json.path: is required"]),
        (files(checks=[{"name": "c", "http": {"url": "ftp://a"}}]), ["http.url: 'ftp://a' does not have the form"]),
        (files(checks=[{"name": "c", "http": {"url": "http://me:pass@a/"}}]), ["http.url: ", "does not have the form"]),
        (
            files(checks=[{"name": "c", "command": "true"}, {"name": "c", "command": "false"}]),
            ["components.files['app'].checks: the name 'c' stands twice"],
        ),
        (
            {"components": {"database": [{"name": "db", "checks": [{"name": "c", "sqlite": {"path": "/a"}}]}]}},
            ["components.database['db'].checks['c']: database has no files to look at; give a command"],
        ),
        ({"components": {"fils": []}}, ["components.'fils'", "did you mean 'files'?"]),
        ({"zzz": 1}, ["'zzz'", "known: settings, stores, plans, components"]),
        # Wrong types.
        ({"settings": []}, ["settings: must be an object"]),
        ({"stores": {}}, ["stores: must be a list"]),
        ({"stores": ["main"]}, ["stores[0]: must be an object"]),
        ({"components": []}, ["components: must be an object"]),
        ({"components": {"files": None}}, ["components.files: must be a list"]),
        (files(paths="/srv"), ["components.files['app'].paths: must be a list"]),
        (files(paths=["/srv", 5]), ["paths[1]: must be of type str, not int"]),
        (files(accept_torn="yes"), ["accept_torn: must be of type bool, not str"]),
        (files(shrink_guard="50"), ["shrink_guard: must be of type int, not str"]),
        (files(shrink_guard=True), ["shrink_guard: must be of type int, not bool"]),
        (plan(retention=None), ["retention: must be an object"]),
        (plan(pause="stop"), ["pause: must be an object"]),
        (plan(pause=""), ["pause: must be an object"]),
        (plan(name=None), ["plans[0].name: must be of type str, not NoneType"]),
        # What is missing, too small, not among the choices, of another form.
        ({"settings": {}}, ["settings.host: is required"]),
        ({"stores": [{"name": "main"}]}, ["stores['main'].location: is required"]),
        (plan(pause={"command": "x"}), ["plans['daily'].pause: `command` and `resume` belong together"]),
        (plan(pause={}), ["pause: must have exactly one of command, units, containers and http; it has none"]),
        (plan(pause={"command": "x", "resume": "y", "units": ["z.service"]}), ["it has command and units"]),
        (plan(pause={"units": ["z"]}), ["pause.units[0]: 'z' does not have the form"]),
        (plan(pause={"containers": {"hold": "stop"}}), ["pause.containers: must have `names` or `labels`"]),
        (plan(pause={"containers": {"labels": ["=x"]}}), ["labels[0]: '=x' does not have the form"]),
        (plan(pause={"steps": [{}]}), ["pause.steps[0]: must have exactly one of command"]),
        (plan(pause={"steps": [{"units": ["z.timer"]}], "only_if": "true"}), ["only_if stands beside `steps`"]),
        (plan(pause={"http": {"pause": {"url": URL}}}), ["pause.http.resume: is required"]),
        (http(url="ftp://x"), ["http.pause.url: 'ftp://x' does not have the form"]),
        (http(url="http://user:secret@x/"), ["http.pause.url"]),
        (http(body="{"), ["http.pause: body is no JSON"]),
        (http(method="post"), ["http.pause.method: must be one of POST, PUT"]),
        (plan(retention={"floor": 0}), ["floor: must be at least 1; it is 0"]),
        (plan(retention={"keep_last": -1}), ["keep_last: must be at least 0"]),
        (plan(retention={"keep_within": "7 days"}), ["keep_within: '7 days' does not have the form"]),
        (store(type="borg"), ["type: must be one of restic, dated; it is 'borg'"]),
        (store(type=["restic"]), ["type: must be one of restic, dated"]),
        (store(location="backups"), ["location: 'backups' does not have the form"]),
        (store(location="s3:bucket"), ["location: 's3:bucket' does not have the form"]),
        (store(location="/b\nx"), ["location"]),
        (store(age_recipients=["age1short"]), ["age_recipients[0]"]),
        (files(paths=["/srv\0"]), ["paths[0]: holds a NUL byte"]),
        # Schedules that cron would refuse, and its whole file with them.
        (plan(schedule="dayly"), ["plans['daily'].schedule: 'dayly'"]),
        (plan(drill="25:00"), ["plans['daily'].drill: '25:00'"]),
        (plan(verify="61 * * * *"), ["plans[daily].verify: minute: '61' is not within 0-59"]),
        (plan(schedule="0 0 31 2 *"), ["plans[daily].schedule", "never comes"]),
        (plan(schedule="0 0 * * *\n* * * * * root id"), ["plans['daily'].schedule"]),
        (plan(timezone="America/Sao_Paolo"), ["plans[daily].timezone: no such time zone 'America/Sao_Paolo'"]),
        (plan(timezone="../../etc/passwd"), ["timezone: no such time zone"]),
        (plan(timezone="America"), ["timezone: no such time zone"]),
        # Duplicates and dangling references.
        ({"plans": [{"name": "a"}, {"name": "a"}]}, ["plans: the name 'a' stands twice"]),
        (
            {"components": {"files": [{"name": "x", "paths": []}], "database": [{"name": "x"}]}},
            ["components: the name 'x'"],
        ),
        (
            {"stores": [{"name": "a", "location": "/b"}, {"name": "b", "location": "/c/..//b/"}]},
            ["stores: the location '/b' stands twice"],
        ),
        (plan(components=["dbs"]), ["plans[daily].components: no such name 'dbs'", "did you mean 'db'?"]),
        (plan(stores=["offsite"]), ["plans[daily].stores: no such name 'offsite'", "declared: main"]),
        ({"stores": []}, ["at least one store"]),
    ],
)
def test_a_mistake_is_named_with_its_key(change, named):
    text = mistakes(declaration(**change))
    assert text.startswith("1 mistake(s):")
    assert [one for one in named if one not in text] == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "-rf",
        ".hidden",
        "a b",
        "a\n",
        "a\nb",
        "a\0",
        "$(id)",
        "`id`",
        "a%b",
        "é",
        "a" * 64,
        "a" * 5000,
        "*",
        "a;b",
        "'",
    ],
)
def test_hostile_names_are_refused_and_shown_escaped(name):
    for change in (
        {"settings": {"host": name}},
        store(name=name),
        plan(name=name),
        files(name=name),
        {"components": {"database": [{"name": name}]}},
    ):
        text = mistakes(declaration(**change))
        assert "is no name; a name is letters" in text
        assert text.count("\n") <= 2
        assert "\0" not in text
        assert len(text) < 600


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_what_is_no_object_is_refused(data):
    assert mistakes(data) == "must be a JSON object"


def test_all_mistakes_are_told_at_once():
    text = mistakes(declaration(settings={}, stores=[{"nam": "x"}], plans=[{"name": "-", "drill": 5}]))
    lines = text.splitlines()
    assert lines[0] == "6 mistake(s):"
    named = [
        "settings.host",
        "stores[0].'nam'",
        "stores[0].name",
        "stores[0].location",
        "plans['-'].name",
        "plans['-'].drill",
    ]
    assert [line.strip().split(":")[0] for line in lines[1:]] == named


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    ("settings", None, "host"),
    ("stores", 0, "location"),
    ("stores", 0, "age_recipients"),
    ("plans", 0, "retention"),
]


@given(st.sampled_from(FIELDS), VALUES)
def test_no_value_ends_in_a_traceback(place, value):
    section, number, name = place
    data = declaration()
    target = data[section] if number is None else data[section][number]
    target[name] = value
    try:
        assert isinstance(load.parse(data, "x"), Config)
    except ConfigError as error:
        assert name in error.what  # noqa: PT017 - either end is right


@given(st.sampled_from(["settings", "stores", "plans", "components"]), VALUES)
def test_no_section_ends_in_a_traceback(section, value):
    try:
        load.parse(declaration(**{section: value}), "x")
    except ConfigError as error:
        assert "mistake(s)" in error.what  # noqa: PT017 - either end is right


# -- secrets ------------------------------------------------------------------------------------------------------

SECRET = "hunter2-hunter2"


def test_secrets_are_held_apart_and_never_dumped():
    config = load.parse(
        declaration(
            **store(password=SECRET, s3_access_key=SECRET, s3_secret_key=""),
            **plan(heartbeat_url=f"https://hc.example/{SECRET}"),
            **files(password=SECRET),
        ),
        "x",
    )
    assert load.secrets_of(config.stores[0]) == {"password": SECRET, "s3_access_key": SECRET}
    assert load.secrets_of(config.component("app")) == {"password": SECRET}
    dumped = json.dumps(load.dump(config))
    assert SECRET not in dumped
    assert "heartbeat_url" not in dumped
    assert config.stores[0].s3_secret_key is None


@pytest.mark.parametrize("value", [[SECRET], {"x": SECRET}, SECRET + "\0", [SECRET + "\n"]])
def test_a_wrong_secret_is_named_but_not_shown(value):
    for change in (store(password=value), plan(heartbeat_url=value), files(password=value)):
        text = mistakes(declaration(**change))
        assert "password" in text or "heartbeat_url" in text
        assert SECRET not in text


def test_a_secret_with_a_form_is_not_shown_when_it_lacks_it(monkeypatch):
    @dataclass(frozen=True)
    class Keyed(Component):
        token: str | None = setting("A secret.", default=None, secret=True, pattern="[0-9]+")

    monkeypatch.setattr(load, "registry", lambda: {"keyed": SourceKind("keyed", Keyed, object)})
    text = mistakes(declaration(components={"keyed": [{"name": "k", "token": SECRET}]}))
    assert "components.keyed['k'].token: the value does not have the form" in text
    assert SECRET not in text


# -- the file -----------------------------------------------------------------------------------------------------


def test_a_file_is_loaded(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(declaration()))
    assert load.load(path).stores == (Store(name="main", location="/var/backups/restaura"),)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"[]", b'{"settings": {"host": "-"}}'])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as failed:
        load.load(path)
    assert failed.value.where == str(path)
    assert path.read_bytes() == content


def test_a_host_that_is_not_set_up_says_what_to_run(tmp_path):
    with pytest.raises(ConfigError, match="not set up") as failed:
        load.load(tmp_path / "config.json")
    assert "setup_backup.yml" in failed.value.fix
    with pytest.raises(ConfigError, match="cannot be read"):
        load.load(tmp_path)


def test_only_root_reads_it(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(stat.S_IRUSR)

    def denied(*_arguments, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_text", denied)
    with pytest.raises(ConfigError, match="only root"):
        load.load(path)


def test_a_declaration_imports_no_source_but_its_own():
    declared = {"settings": {"host": "web1"}, "components": {"redis": [{"name": "cache"}]}}
    script = (
        "import json, sys; from restaura.config import load; load.parse(json.load(sys.stdin), 'test');"
        "print(*(one for one in sys.modules if one.startswith('restaura.sources.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(declared),
        env={"PYTHONPATH": str(Path(load.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["restaura.sources.redis"]


def test_every_source_is_a_module_of_its_own_name():
    found = sources.registry()
    assert [kind.name for kind in found.values()] == list(found)
    assert "nosuch" not in found
    with pytest.raises(KeyError):
        found["nosuch"]
