"""How far another machine's clock is from this one's, from messages there and back.

A message leaves here at `sent`, is answered there when that clock shows `at`, and is back here at `back`, sent and back
on this machine's clock. Wherever the time between was spent, the other clock showed `at` at some moment in it:

    sent ---------------- rtt ---------------- back        offset = (sent + back) / 2 - at
                   at                                      off by no more than rtt / 2

So the round trip that took least says most, and says itself how much. Clocks drift apart by some millionths, which is
why an older round trip counts less, and why the offset is looked at again and again: `Course` maps what was measured
meanwhile. Moments are ns on CLOCK_MONOTONIC; nothing here looks at a clock.
"""

from collections import deque
from typing import Any, NamedTuple

import numpy as np

KEPT = 60
"""Round trips that are remembered: a minute's, at one a second."""
DRIFT = 1e-4
"""By so much two clocks may drift apart: more than quartz does, a fifth of what a clock is slewed by at most."""
LEAST_NS = 1_000_000
"""Drift below this is left alone: it would shift moments by less than a round trip between machines takes."""
MOST_KNOTS = 4096

Array = np.ndarray[Any, np.dtype[Any]]


class Offset(NamedTuple):
    """This clock less the other one, ns, and how far off that may be: ± `uncertainty_ns`."""

    offset_ns: int
    uncertainty_ns: int


class Clock:
    """The round trips to one other machine."""

    def __init__(self, kept: int = KEPT) -> None:
        self._trips: deque[tuple[int, int, int]] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._trips)

    def add(self, sent_ns: int, at_ns: int, back_ns: int) -> None:
        """Takes a round trip; one that came back before it was sent says nothing and is left out."""
        if back_ns >= sent_ns:
            self._trips.append((back_ns - sent_ns, (sent_ns + back_ns) // 2 - at_ns, back_ns))

    @property
    def offset(self) -> Offset | None:
        """What the best of the trips says as of the last one; None before the first."""
        seen = self.seen
        return None if seen is None else seen[0]

    @property
    def seen(self) -> tuple[Offset, int] | None:
        """The same, and the moment on this clock in the middle of that trip."""
        if not self._trips:
            return None
        last = max(back for _, _, back in self._trips)
        low, high, found = -(1 << 62), 1 << 62, []
        for rtt, offset, back in reversed(self._trips):
            off = -(-rtt // 2) + _aged(last - back)
            low, high = max(low, offset - off), min(high, offset + off)
            if low > high:
                break  # the clock has gone further since than clocks drift: what is older no longer holds
            found.append((off, rtt, offset, back))
        off, rtt, offset, back = min(found)
        return Offset(offset, off), back - rtt // 2


def _aged(age_ns: int) -> int:
    return round(age_ns * DRIFT)


class Course:
    """How far another machine's moments are off during a run, ns, beyond the offset with which they are told."""

    def __init__(self, begin: Offset) -> None:
        self._begin = begin
        self._knots: list[tuple[int, int]] = []
        self.drifts = False
        """Whether it went further than what is uncertain anyway."""

    def add(self, at_ns: int, offset: Offset) -> None:
        """Takes the offset as it was at a moment of the run, told in the other machine's moments."""
        if self._knots and at_ns <= self._knots[-1][0]:
            return
        off = offset.offset_ns - self._begin.offset_ns
        self._knots.append((at_ns, off))
        self.drifts |= abs(off) > max(LEAST_NS, offset.uncertainty_ns + self._begin.uncertainty_ns)
        if len(self._knots) > MOST_KNOTS:
            del self._knots[1:-1:2]

    def off_ns(self, at_ns: Array) -> Array:
        """By how much these moments are too late: on straight lines between what was read; 0 where nothing drifts."""
        if not self.drifts:
            return np.zeros(len(at_ns), dtype=np.int64)
        knots = np.array([(0, 0), *self._knots]) if self._knots[0][0] > 0 else np.array(self._knots)
        off: Array = np.rint(np.interp(at_ns, knots[:, 0], knots[:, 1])).astype(np.int64)
        return off
