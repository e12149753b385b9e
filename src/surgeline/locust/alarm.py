"""Greenlets that wake when they are due.

Gevent's own timers wake on whole milliseconds, late by half of one on average, which a plan's users would see as
response time. One timer descriptor for all of them is exact to what the kernel and the hub allow. Where there is none
(it is Linux's), gevent's timers do. Moments are ns on CLOCK_MONOTONIC.
"""

import ctypes
import heapq
import itertools
import os
import time
from typing import Any

import gevent
from gevent.hub import Waiter

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o2004000
_TFD_TIMER_ABSTIME = 1
_READ = 1


class _Spec(ctypes.Structure):
    _fields_ = (("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("s", ctypes.c_long), ("ns", ctypes.c_long))


class Alarm:
    """Wakes greenlets of one hub at their moments, in the order of those; made after the fork."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()
        self._armed = 0
        self._loop = gevent.get_hub().loop
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC))
        except AttributeError:
            self._fd = -1
        if self._fd >= 0:
            self._watcher = self._loop.io(self._fd, _READ)
            self._watcher.start(self._ring)

    def wait_until(self, at_ns: int) -> bool:
        """Puts the calling greenlet to sleep; whether its moment came (False: `wake_all` did). A past one is now."""
        if at_ns <= time.monotonic_ns():
            return True
        waiter = Waiter()
        heapq.heappush(self._waiting, (at_ns, next(self._numbers), waiter))
        self._arm()
        return bool(waiter.get())

    def wake_all(self) -> None:
        """Wakes everybody now."""
        waiting, self._waiting = self._waiting, []
        for _, _, waiter in waiting:
            self._loop.run_callback(waiter.switch, False)

    def close(self) -> None:
        """Lets go of the timer; whoever still waits is woken."""
        self.wake_all()
        if self._fd >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(self._fd)
            self._fd = -1

    def _arm(self) -> None:
        if not self._waiting or self._waiting[0][0] == self._armed:
            return
        self._armed = at_ns = self._waiting[0][0]
        if self._fd >= 0:
            spec = _Spec(0, 0, *divmod(at_ns, 1_000_000_000))
            self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
            return
        timer = self._loop.timer(max(at_ns - time.monotonic_ns(), 0) / 1e9)
        timer.start(self._ring)

    def _ring(self) -> None:
        """Runs in the hub: switches straight into whoever is due. Setting the timer again clears the descriptor."""
        self._armed = 0
        while self._waiting and self._waiting[0][0] <= time.monotonic_ns():
            _, _, waiter = heapq.heappop(self._waiting)
            waiter.switch(True)
        if self._fd >= 0 and not self._waiting:
            spec = _Spec(0, 0, 0, 0)
            self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        self._arm()
