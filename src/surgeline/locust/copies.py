"""Copies of a Locust process: what a locustfile forks while it runs and goes on in, not the programs that it starts.

A copy has all that its original had, users and open connections included, and records nothing. Each request that it
makes through one of Locust's clients it tells its original of, by one byte, so that the run can say how many are in no
figure. It ends with its original: on Linux always, elsewhere where somebody sees to that from outside.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from surgeline.locust.orders import die_with_parent

_STARTERS = frozenset({"subprocess", "gevent.subprocess", "multiprocessing.util"})
"""Modules that fork in order to start another program at once."""
_DEEPEST = 20


class Copies:
    """Of one process, from now on."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        """`let_go` is called in each copy: what its original has open is not its own."""
        self._let_go = let_go
        self._ear, self._mouth = os.pipe()
        for end in (self._ear, self._mouth):
            os.set_blocking(end, False)
        self._made = 0
        self._is_one = False
        self._by_main = True
        os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def asks(self) -> None:
        """A request has ended that nobody records: where this is a copy, its original hears of it."""
        if self._is_one:
            with suppress(OSError):  # the original has gone, or has not listened for 64,000 of them
                os.write(self._mouth, b".")

    def heard(self) -> tuple[int, int]:
        """How many copies were made, and how many requests they have told of, since the last call."""
        made, self._made = self._made, 0
        told = 0
        with suppress(BlockingIOError):
            while chunk := os.read(self._ear, 1 << 16):
                told += len(chunk)
        return made, told

    def _before(self) -> None:
        self._by_main = threading.get_native_id() == os.getpid() or sys.platform != "linux"

    def _in_parent(self) -> None:
        self._made += not _starts_a_program()

    def _in_child(self) -> None:
        self._let_go()
        if _starts_a_program():
            return
        self._is_one = True
        with suppress(ValueError):  # Locust's own handling would have the copy stop the test
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._by_main:  # the system watches the thread that forked
            die_with_parent()


def _starts_a_program() -> bool:
    """Whether who forks here does so to become another program."""
    frame = sys._getframe(1)
    for _ in range(_DEEPEST):
        if frame.f_globals.get("__name__") in _STARTERS:
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
