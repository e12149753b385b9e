"""After the heaviest load: when was it again as it had been at the same load before?

Each request is held against what its own endpoint took before, so that a second in which more of the slow endpoints
happened to be asked is no slower than another. A second is as before when no more than half of its answers take
longer than the median of their endpoint did, by a quarter and 5 ms at least.
"""

from collections.abc import Sequence

import numpy as np

from surgeline import units
from surgeline.analysis.book import Book
from surgeline.analysis.capacity import load_of
from surgeline.analysis.intervals import ratio_estimate
from surgeline.analysis.model import Recovery, StageFigures
from surgeline.samples import histogram_index

NEAR = 1.25
"""As before: within a quarter of the median of the endpoint."""
LEAST_NS = 5e6
"""A difference below this is as before, whatever it is of the median."""
FELL_BY = 0.5
"""The load must fall to this share of the peak or less."""
IN_A_ROW = 3
FEWEST = 5
"""An endpoint with fewer right answers at that load before is not looked at."""


def recovery(book: Book, stages: Sequence[StageFigures]) -> Recovery | None:
    """Of the first stage after the peak whose load is again like one before it; None where there is none.

    Stages whose figures say nothing about the server (invalid) do not count, nor do runs of fewer than three.
    """
    stages = [stage for stage in stages if stage.validity != "invalid"]
    if len(stages) < 3:
        return None
    peak = max(range(len(stages)), key=lambda i: (load_of(stages[i]), -i))
    if peak + 1 >= len(stages) or not peak:
        return None
    after = stages[peak + 1]
    if max(after.start, after.end) > FELL_BY * load_of(stages[peak]):
        return None
    like = [stage for stage in stages[:peak] if 0.7 * load_of(after) <= load_of(stage) <= 1.4 * load_of(after)]
    if not like:
        return None
    begin, end = after.begin_ns // units.NS_PER_S, after.end_ns // units.NS_PER_S
    seen, late = np.zeros(max(end - begin, 0), np.int64), np.zeros(max(end - begin, 0), np.int64)
    for was in like[0].endpoints:
        usual = was.response.quantiles[0.5].value if was.response.histogram.count >= FEWEST else None
        if usual is None:
            continue
        columns = book.ok(after.index, was.name)
        limit = histogram_index(round(max(NEAR * usual, usual + LEAST_NS)))
        for counts, bucket in ((seen, -1), (late, limit)):
            slots, beyond = columns.beyond(bucket)
            at = (slots & 0xFFFFFFFF) - begin
            inside = (at >= 0) & (at < len(counts))
            np.add.at(counts, at[inside], beyond[inside].astype(np.int64))
    if not seen.any():
        return None
    took = _first_of(IN_A_ROW, ((seen > 0) & (2 * late <= seen)).tolist())
    until = np.flatnonzero(seen[:took])
    return Recovery(
        peak=stages[peak].index,
        before=like[0].index,
        after=after.index,
        seconds=took,
        requests=int(seen.sum()),
        late=ratio_estimate(seen[until], late[until]),
    )


def _first_of(length: int, good: Sequence[bool]) -> int | None:
    return next((i for i in range(len(good) - length + 1) if all(good[i : i + length])), None)
