"""How far another machine's clock is from this one's, from messages there and back.

A message leaves here at `sent`, is answered there when that clock shows `at`, and is back here at `back`, sent and back
on this machine's clock. Wherever the time between was spent, the other clock showed `at` at some moment in it:

    sent ---------------- rtt ---------------- back        offset = (sent + back) / 2 - at
                   at                                      off by no more than rtt / 2

So the round trip that took least says most, and says itself how much. Clocks drift apart by some millionths, which is
why an old round trip is forgotten. Moments are ns on CLOCK_MONOTONIC; nothing here looks at a clock.
"""

from collections import deque
from typing import NamedTuple

KEPT = 60
"""Round trips that are remembered: a minute's, at one a second. Two clocks drift by some microseconds in that time."""


class Offset(NamedTuple):
    """This clock less the other one, ns, and how far off that may be: ± `uncertainty_ns`."""

    offset_ns: int
    uncertainty_ns: int


class Clock:
    """The round trips to one other machine."""

    def __init__(self, kept: int = KEPT) -> None:
        self._trips: deque[tuple[int, int]] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._trips)

    def add(self, sent_ns: int, at_ns: int, back_ns: int) -> None:
        """Takes a round trip; one that came back before it was sent says nothing and is left out."""
        if back_ns >= sent_ns:
            self._trips.append((back_ns - sent_ns, (sent_ns + back_ns) // 2 - at_ns))

    @property
    def offset(self) -> Offset | None:
        """What the quickest of the trips says; None before the first."""
        if not self._trips:
            return None
        rtt, offset = min(self._trips)
        return Offset(offset, -(-rtt // 2))
