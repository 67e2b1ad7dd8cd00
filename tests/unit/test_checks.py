# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of check, against data that is right and data that is wrong. What needs root stands with integration."""

import http.server
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from restaura import checks, process
from restaura.config.load import parse
from restaura.config.schema import Component
from restaura.errors import RestauraError
from restaura.sources import Source, Staged, Target


class Live:
    """A source whose live data is the whole machine."""

    def checks(self, _staged: object) -> dict[str, str]:
        return {"RESTAURA_TARGET": "/", "GREETING": "hello"}


def component(*declared: dict[str, Any]) -> Component:
    data = {"name": "app", "paths": ["/srv/app"], "checks": [{"timeout": 30, **one} for one in declared]}
    return parse({"settings": {"host": "web1"}, "components": {"files": [data]}}, "x").component("app")


def judged(**check: Any) -> str:
    """Judge live data by one check; return why it failed, an empty text when it passed."""
    (found,) = checks.judge(cast("Source", Live()), component({"name": "c", **check}))
    assert found.result == ("failed" if found.why else "passed")
    return found.why


def database(path: Path, mode: str = "delete") -> Path:
    with closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA journal_mode = {mode}")
        made.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
        made.executemany("INSERT INTO t (text) VALUES (?)", [(f"row {n} " * 20,) for n in range(2000)])
        made.execute("CREATE INDEX by_text ON t (text)")
        made.commit()
    return path


# -- commands --------------------


def test_a_command_judges_by_its_exit_code_and_is_told_where_the_data_is() -> None:
    assert judged(command='test "$RESTAURA_TARGET$GREETING" = /hello') == ""
    assert judged(command="echo stale >&2; exit 3") == "the command ended with exit code 3: stale"
    assert judged(command="echo said on standard output; exit 1").endswith("exit code 1: said on standard output")


def test_a_drill_judges_without_a_network_and_where_none_can_be_shut_off_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, started = process.run, []

    def refusing(argv: Sequence[str], **keywords: Any) -> Any:
        started.append(argv[0])
        if argv[0] == "unshare":
            raise RestauraError("unshare: Operation not permitted")
        return run(argv, **keywords)

    drilled = Staged(Target("scratch", "/"), {})
    one = component({"name": "c", "command": "true"})
    monkeypatch.setattr(process, "run", refusing)
    assert [row.result for row in checks.judge(cast("Source", Live()), one, drilled)] == ["passed"]
    assert started == ["unshare", "/bin/sh"]


def test_a_command_that_hangs_has_failed() -> None:
    assert "did not end within 1 seconds" in judged(command="sleep 60", timeout=1)


def test_the_others_are_judged_when_one_fails() -> None:
    one = component(
        {"name": "first", "command": "true"}, {"name": "second", "command": "false"}, {"name": "third", "command": ":"}
    )
    found = checks.judge(cast("Source", Live()), one)
    assert [row.result for row in found] == ["passed", "failed", "passed"]
    assert checks.summary(found) == "2 passed, 1 failed"
    assert checks.failures(found) == ["check second failed: the command ended with exit code 1"]
    assert checks.summary([]) == "-"


# -- files --------------------


def test_files_must_be_there_and_hold_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "app.ini").write_text("[app]\nversion = 12\nname = ação\n")
    (tmp_path / "other.ini").write_text("[app]\nversion = x\n")
    path = str(tmp_path / "app.ini")
    assert judged(file={"path": path}) == ""
    assert judged(file={"path": path, "contains": "ação", "matches": "^version = [0-9]+$"}) == ""
    assert judged(file={"path": path, "contains": "passwort"}) == f"{path}: does not contain 'passwort'"
    assert judged(file={"path": path, "matches": "^version = [a-z]+$"}).endswith("matches '^version = [a-z]+$'")
    assert judged(file={"path": f"{path}.gone"}) == f"{path}.gone: No such file or directory"
    assert judged(file={"path": str(tmp_path)}) == f"{tmp_path}: is not a file"
    # Of several, each must.
    assert judged(file={"path": f"{tmp_path}/*.ini", "contains": "[app]"}) == ""
    assert judged(file={"path": f"{tmp_path}/*.ini", "matches": "version = 12"}).startswith(f"{tmp_path}/other.ini: ")
    assert judged(file={"path": f"{tmp_path}/*.cfg"}) == f"{tmp_path}/*.cfg: nothing matches"
    # A directory among them is no file, and none alone is not enough.
    (tmp_path / "old.ini").mkdir()
    (tmp_path / "old.cfg").mkdir()
    assert judged(file={"path": f"{tmp_path}/*.ini", "contains": "[app]"}) == ""
    assert judged(file={"path": f"{tmp_path}/*.cfg"}) == f"{tmp_path}/*.cfg: nothing matches"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert judged(file={"path": str(tmp_path / "fifo")}) == f"{tmp_path}/fifo: is not a file"
    assert judged(json={"path": str(tmp_path / "fifo")}) == f"{tmp_path}/fifo: is not a file"
    assert judged(sqlite={"path": str(tmp_path / "fifo")}) == f"{tmp_path}/fifo: is not a file"
    assert judged(file={"path": "/dev/zero"}) == "/dev/zero: is not a file"


def test_a_file_that_would_fill_the_memory_is_not_looked_at(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(300 << 20)
    assert "larger than 256 MiB" in judged(json={"path": f"{tmp_path}/huge"})


def test_an_expression_that_never_ends_is_ended(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a" * 40)
    assert "did not end" in judged(file={"path": str(tmp_path / "file"), "matches": "^(a+)+b$"}, timeout=1)


# -- JSON --------------------


def test_json_must_parse_and_have_its_keys(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "a.json").write_text('{"entities": [], "at": "2025-06-28"}')
    # As PowerShell writes it.
    (tmp_path / "deep/er/b.json").write_bytes(b"\xef\xbb\xbf" + '{"entities": {"nome": "ação"}}'.encode())
    every = f"{tmp_path}/**/*.json"
    assert judged(json={"path": every, "keys": ["entities"]}) == ""
    assert judged(json={"path": every, "keys": ["entities", "at"]}) == f"{tmp_path}/deep/er/b.json: has no 'at'"
    (tmp_path / "c.json").write_text("[1, 2]")
    assert judged(json={"path": every}) == ""
    assert judged(json={"path": every, "keys": ["entities"]}) == f"{tmp_path}/c.json: is no JSON object"


@pytest.mark.parametrize("content", [b'{"entities": [', b"", b'{"a": "\xff"}', b"[" * 200_000])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "bad.json").write_bytes(content)
    assert judged(json={"path": f"{tmp_path}/*.json"}).startswith(f"{tmp_path}/bad.json: ")


def test_of_many_wrong_files_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.json").write_text("{")
    why = judged(json={"path": f"{tmp_path}/*.json"})
    assert why.count("is no JSON") == 5
    assert why.endswith("; and 4 more")


# -- SQLite --------------------


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_must_be_whole_and_is_left_as_it_was(tmp_path: Path, mode: str) -> None:
    path = database(tmp_path / "a.db", mode)
    assert judged(sqlite={"path": str(path)}) == ""
    assert [one.name for one in tmp_path.iterdir()] == ["a.db"]
    with path.open("r+b") as file:
        file.seek(5 * 4096 + 100)
        file.write(os.urandom(2000))
    assert judged(sqlite={"path": str(path)}).startswith(f"{path}: ")
    assert [one.name for one in tmp_path.iterdir()] == ["a.db"]


def test_a_database_that_is_being_written_to_is_whole(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "wal")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("DELETE FROM t WHERE n % 2")
        writer.commit()
        writer.execute("INSERT INTO t (text) VALUES ('not yet')")
        assert judged(sqlite={"path": str(path)}) == ""
        writer.rollback()


@pytest.mark.parametrize("content", [b"", b"no database at all " * 300])
def test_what_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    assert judged(sqlite={"path": str(tmp_path / "a.db")}).startswith(f"{tmp_path}/a.db: ")


# -- services --------------------


@pytest.fixture
def service() -> Iterator[tuple[str, list[str]]]:
    """A service, and what it was asked; it is not ready before it was asked three times for /late."""
    asked: list[str] = []

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status = 503 if self.path == "/late" and len(asked) < 3 else 302 if self.path == "/moved" else 200
            self.send_response(status)
            self.send_header("Location", "/")
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_service_must_answer(service: tuple[str, list[str]]) -> None:
    url, asked = service
    assert judged(http={"url": f"{url}/health?deep=1", "contains": '"ok"'}) == ""
    assert asked == ["/health?deep=1"]
    assert judged(http={"url": url, "contains": "degraded"}) == f"{url}: answered without 'degraded'"
    assert judged(http={"url": f"{url}/moved"}) == f"{url}/moved: answered 302, not 200"
    assert judged(http={"url": f"{url}/moved", "status": 302}) == ""


def test_a_service_that_is_not_ready_is_asked_again(service: tuple[str, list[str]]) -> None:
    url, asked = service
    assert judged(http={"url": f"{url}/late"}) == ""
    assert len(asked) == 3


def test_no_answer_is_a_failure_once_time_is_up(service: tuple[str, list[str]]) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as silent:
        url = f"http://127.0.0.1:{silent.server_port}"
        # Connected by the kernel, and never answered.
        assert judged(http={"url": url}, timeout=1).startswith(f"{url}: no answer")
    assert judged(http={"url": url}, timeout=1).startswith(f"{url}: no answer")
