# SPDX-License-Identifier: GPL-3.0-or-later
"""What is held is started again exactly once: at the release, at the limit, and whatever fails."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from restaura.errors import SourceError
from restaura.hold import Hold
from restaura.journal import Journal

LONG = 600.0


class Service:
    """Counts its stops and starts; `journal` is asked what is owed at each."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.done: list[str] = []
        self.started = threading.Event()
        self.fails = ""

    def stop(self, _: float) -> None:
        self.done.append(f"stop, owing {len(self.journal.open_debts())}")
        if self.fails == "stop":
            raise SourceError("refuses to stop")

    def start(self) -> None:
        self.done.append(f"start, owing {len(self.journal.open_debts())}")
        self.started.set()
        if "start" in self.fails:
            raise SourceError("does not start")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(Journal(tmp_path / "journal"))


def hold(service: Service, limit: float = LONG, broken: Callable[[], str] = lambda: "") -> Hold:
    return Hold(service.journal, ("source:x", "start", {"units": ["x"]}), limit, service.stop, service.start, broken)


BOTH = ["stop, owing 1", "start, owing 1"]


def test_it_is_started_once_and_owed_until_then(service: Service) -> None:
    with hold(service) as held:
        assert not held.released
        held.release()
        assert service.journal.open_debts() == []
        held.release()
        held.check()
    assert service.done == BOTH
    assert held.seconds > 0


def test_leaving_starts_it_also_after_an_error(service: Service) -> None:
    with pytest.raises(KeyError), hold(service):
        raise KeyError
    assert service.done == BOTH
    assert service.journal.open_debts() == []


def test_the_limit_starts_it_whatever_the_body_waits_for(service: Service) -> None:
    with hold(service, limit=0.05) as held:
        assert service.started.wait(30)
        held.release()  # waits for the thread that starts it
        with pytest.raises(SourceError, match="after the limit"):
            held.check()
    assert service.done == BOTH
    assert service.journal.open_debts() == []


def test_what_refuses_to_stop_is_started_again(service: Service) -> None:
    service.fails = "stop"
    with pytest.raises(SourceError, match="refuses to stop"), hold(service):
        pytest.fail("it is not held")
    assert service.done == BOTH
    assert service.journal.open_debts() == []


def test_what_does_not_start_is_told_once_and_stays_owed(service: Service) -> None:
    service.fails = "start"
    with hold(service) as held:
        with pytest.raises(SourceError, match="does not start"):
            held.release()
        held.check()
    assert service.done == BOTH
    assert len(service.journal.open_debts()) == 1


def test_an_error_does_not_hide_that_it_does_not_start(service: Service) -> None:
    service.fails = "start"
    with pytest.raises(SourceError, match="disk full; and then: does not start"), hold(service):
        raise SourceError("disk full")
    assert len(service.journal.open_debts()) == 1


def test_a_hold_that_was_broken_says_so_after_the_start(service: Service) -> None:
    with hold(service, broken=lambda: "came back") as held:
        held.release()
        with pytest.raises(SourceError, match="came back"):
            held.check()
    assert service.done == BOTH


def test_a_defect_in_asking_whether_it_was_broken_leaves_nothing_stopped(service: Service) -> None:
    def broken() -> str:
        raise KeyError("Name")

    with hold(service, broken=broken) as held:
        held.release()
        with pytest.raises(SourceError, match="defect of the program: KeyError"):
            held.check()
    assert service.done == BOTH
    assert service.journal.open_debts() == []
