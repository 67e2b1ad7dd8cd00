# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: debts of dead processes, of living ones, of reused PIDs, and files that cannot be read."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from restaura.journal import Debt, Journal, Process

ROOT = Path(__file__).parents[2]
OWE = (
    "import sys, time; sys.path.insert(0, 'src'); from pathlib import Path; from restaura.journal import Journal\n"
    "Journal(Path(sys.argv[1])).write('spool', 'remove', {'path': '/x'}); print('owed', flush=True); time.sleep(60)"
)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "journal")


def files(tmp_path) -> list[Path]:
    return sorted((tmp_path / "journal").iterdir())


def test_a_debt_comes_back_as_it_was_written(journal, tmp_path):
    debt = journal.write("source:files", "stage", {"path": "/srv/.restaura-stage", "odd": "\udcff\n"})
    assert journal.open_debts() == [debt]
    assert debt.process.pid == os.getpid()
    assert debt.process.alive
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o700
    assert [one.stat().st_mode & 0o777 for one in files(tmp_path)] == [0o600]


def test_an_empty_journal_owes_nothing(journal):
    assert journal.open_debts() == []


def test_debts_are_listed_oldest_first(journal):
    written = [journal.write("spool", "remove", {"n": n}) for n in range(20)]
    assert [one.data["n"] for one in journal.open_debts()] == list(range(20))
    for one in written[::2]:
        journal.settle(one)
    assert [one.data["n"] for one in journal.open_debts()] == list(range(1, 20, 2))


def test_settling_twice_is_settling_once(journal):
    debt = journal.write("spool", "remove", {})
    journal.settle(debt)
    journal.settle(debt)
    assert journal.open_debts() == []


def test_an_update_replaces_the_data_and_nothing_else(journal):
    debt = journal.write("swap", "files", {"step": 1})
    newer = journal.update(debt, {"step": 2})
    assert journal.open_debts() == [newer] == [replace(debt, data={"step": 2})]


def test_a_body_that_raises_leaves_its_debt(journal):
    with journal.owing("pause", "resume", {}):
        assert len(journal.open_debts()) == 1
    assert journal.open_debts() == []
    with pytest.raises(KeyboardInterrupt), journal.owing("pause", "resume", {}):
        raise KeyboardInterrupt
    assert [one.owner for one in journal.open_debts()] == ["pause"]


def test_the_debt_of_a_killed_process_is_there_and_its_process_dead(journal, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", OWE, tmp_path / "journal"], stdout=subprocess.PIPE, cwd=ROOT)
    with child:
        assert child.stdout.readline() == b"owed\n"
        [debt] = journal.open_debts()
        assert debt.process.pid == child.pid
        assert debt.process.alive
        child.send_signal(signal.SIGKILL)
        # A zombie, not yet waited for, is dead too.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not debt.process.alive
    assert not debt.process.alive
    assert journal.open_debts() == [debt]


def test_a_reused_pid_is_another_process():
    me = Process.own()
    assert me.alive
    assert not replace(me, started=me.started - 1).alive
    assert not replace(me, boot="another").alive
    assert not Process(0, 0, "").alive


def test_a_process_with_an_odd_name_is_read_right():
    # The name in /proc/PID/stat may itself hold blanks and parentheses.
    code = "open('/proc/self/comm', 'w').write('a) S 1 (b'); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        plain = Process.of(child.pid)
        assert plain.alive
        ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rsplit(") ", 1)[1].split()[19])
        assert plain.started == ticks


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", b'{"id": "x", "process": {}}', b'"x"', b"1"])
def test_a_torn_file_hides_no_other_debt_and_is_told(journal, tmp_path, content):
    first = journal.write("spool", "remove", {})
    torn = tmp_path / "journal/20000101T000000000000-torn.json"
    torn.write_bytes(content)
    second = journal.write("spool", "remove", {})
    debts = journal.open_debts()
    assert debts[1:] == [first, second]
    assert (debts[0].owner, debts[0].process.alive) == ("unreadable", False)
    assert str(torn) in debts[0].act
    assert torn.read_bytes() == content


def test_a_debt_of_a_newer_program_is_told_and_stays(journal, tmp_path):
    debt = journal.write("spool", "remove", {})
    [path] = files(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "surprise": 1}))
    [found] = journal.open_debts()
    assert (found.owner, found.id) == ("unreadable", debt.id)


def test_what_a_crash_left_of_a_write_is_no_debt(journal, tmp_path):
    debt = journal.write("spool", "remove", {})
    [path] = files(tmp_path)
    path.with_name(f".{path.name}.0a1b2c3d.tmp").write_bytes(b"{")
    assert journal.open_debts() == [debt]


def test_a_debt_is_on_the_disk_before_it_is_returned(journal, tmp_path, monkeypatch):
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)))
    debt = journal.write("spool", "remove", {})
    assert isinstance(debt, Debt)
    assert [one for one in synced if debt.id in one]
    assert synced[-1] == str(tmp_path / "journal")
