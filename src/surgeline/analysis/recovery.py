r"""After a heavy load: when was it again as it had been at the same load before?

    load  |      ____        each fall to half or less, to a load that was there before, is looked at by itself; the
          |     /    \       seconds count from where the load is back, and on through all stages that follow at it
          | ___/      \____

Each request is held against what its own endpoint took before, so that a second in which more of the slow endpoints
happened to be asked is no slower than another. A second is as before when no more than half of its answers take
longer than the median of their endpoint did, by a quarter and 5 ms at least.
"""

from collections.abc import Sequence

import numpy as np

from surgeline import units
from surgeline.analysis.book import Book
from surgeline.analysis.capacity import like, load_of
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


def recoveries(book: Book, stages: Sequence[StageFigures]) -> tuple[Recovery, ...]:
    """Of each heavy load, in order of time, what came after it; none for those after which nothing was there before.

    Stages whose figures say nothing about the server (invalid) do not count.
    """
    stages = [stage for stage in stages if stage.validity != "invalid"]
    found, since = [], 0
    for at, after in enumerate(stages):
        down = at
        while down > since and stages[down - 1].start > stages[down - 1].end:
            down -= 1
        if after.start > after.end or down == since:
            continue
        before = next((stage for stage in stages[:down] if stage.start == stage.end and like(after, stage)), None)
        heavy = stages[since:down]
        peak = max(heavy, key=lambda stage: (load_of(stage), stage.start == stage.end, -stage.index))
        if before is None or max(after.start, after.end) > FELL_BY * load_of(stages[down - 1]):
            continue
        following = [after]
        for stage in stages[at + 1 :]:
            if stage.start != stage.end or not like(stage, after):
                break
            following.append(stage)
        one = _after(book, peak, before, following)
        if one is not None:
            found.append(one)
        since = at
    return tuple(found)


def _after(book: Book, peak: StageFigures, before: StageFigures, after: Sequence[StageFigures]) -> Recovery | None:
    begin, end = after[0].begin_ns // units.NS_PER_S, after[-1].end_ns // units.NS_PER_S
    seen, late = np.zeros(max(end - begin, 0), np.int64), np.zeros(max(end - begin, 0), np.int64)
    for was in before.endpoints:
        usual = was.response.quantiles[0.5].value if was.response.histogram.count >= FEWEST else None
        if usual is None:
            continue
        limit = histogram_index(round(max(NEAR * usual, usual + LEAST_NS)))
        for stage in after:
            columns = book.ok(stage.index, was.name)
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
        peak=peak.index,
        before=before.index,
        after=after[0].index,
        within=tuple(stage.index for stage in after),
        length_s=(after[-1].end_ns - after[0].begin_ns) / units.NS_PER_S,
        seconds=took,
        requests=int(seen.sum()),
        late=ratio_estimate(seen[until], late[until]),
    )


def _first_of(length: int, good: Sequence[bool]) -> int | None:
    return next((i for i in range(len(good) - length + 1) if all(good[i : i + length])), None)
