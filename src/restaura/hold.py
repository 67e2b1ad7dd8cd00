# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands still for a copy is started again: once, in time, and also when this process dies."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from restaura.errors import RestauraError, SourceError
from restaura.journal import Journal


class Hold:
    """Services or containers that are stopped, and for how long: from the begin of the stop to the end of the start.

    Entering the context journals a debt (`owner`, `act`, `data`: what `take_back` needs to start them) and stops;
    leaving it, `release`, or the end of `limit` seconds, whichever is first, starts them again. At the limit a thread
    of its own does that, whatever the copying one waits for.

    `stop` gets the seconds it may take. It must stop only what runs, and raise SourceError when something does not
    stop: what it stopped is started again. `start` must start exactly what ran, raise SourceError when that fails, and
    may run twice. `broken` is asked before the start: why what was stopped did not stay so, or nothing.
    """

    def __init__(
        self,
        journal: Journal,
        debt: tuple[str, str, dict[str, Any]],
        limit: float,
        stop: Callable[[float], None],
        start: Callable[[], None],
        broken: Callable[[], str] = lambda: "",
    ) -> None:
        self._journal, self._data, self._limit = journal, debt, limit
        self._stop, self._start, self._broken = stop, start, broken
        self._lock = threading.Lock()
        self._timer = threading.Timer(limit, self._expire)
        self._timer.daemon = True
        self._begun = 0.0
        self._debt = ""
        self._released = self._expired = False
        self._failure: RestauraError | None = None
        self._why = ""
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._debt = self._journal.write(*self._data).id
        self._begun = time.monotonic()
        try:
            with self._lock:
                self._timer.start()
                self._stop(self._limit)
        except BaseException as error:
            self._give_up(error)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if error is not None:
            self._give_up(error)
        elif not self._released:
            self.release()

    def _give_up(self, error: BaseException) -> None:
        """Start again after `error`; SourceError, with both, when that fails too."""
        self._end(expired=False)
        if self._failure is not None:
            raise SourceError(f"{error}; and then: {self._failure}") from error

    @property
    def debt(self) -> str:
        """The id of the debt, which stays when the start fails."""
        return self._debt

    @property
    def expired(self) -> bool:
        """Whether the limit ended it."""
        return self._expired

    @property
    def released(self) -> bool:
        """Whether everything was told to start again."""
        return self._released

    def check(self) -> None:
        """Raise SourceError once the hold was cut short or broken: what is read from now on is not what was held."""
        if self._expired:
            raise SourceError(
                f"was started again after the limit of {self._limit:.0f} s, before all was copied",
                fix="raise `stop_limit` of the plan, or give it a restic store on this host",
            )
        if self._why:
            raise SourceError(self._why)

    def release(self) -> None:
        """Start again what was stopped, unless that was done; SourceError when it did not start."""
        self._end(expired=False)
        if self._failure is not None:
            raise self._failure

    def _expire(self) -> None:
        self._end(expired=True)

    def _end(self, expired: bool) -> None:
        with self._lock:
            if self._released:
                return
            self._released, self._expired = True, expired
            self._timer.cancel()
            try:
                if not expired:
                    self._why = self._broken()
            except RestauraError as error:
                self._why = str(error)
            except Exception as error:  # noqa: BLE001 - a defect there must not leave anything stopped
                self._why = f"defect of the program: {error!r}"
            try:
                self._start()
                self._journal.settle(self._debt)
            except RestauraError as error:
                # The debt stays: `recover` tries again.
                self._failure = error
            except Exception as error:  # noqa: BLE001 - in the thread of the limit nobody would hear of it
                self._failure = SourceError(f"was not started again: defect of the program: {error!r}")
            self.seconds = time.monotonic() - self._begun
