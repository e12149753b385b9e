"""Histograms of many windows as columns, so that adding them up costs the same whoever is asked about.

One `Columns` holds the sparse histograms of the windows of one kind (an endpoint in a stage, for an outcome), one
behind the other: bucket and count of each entry, and for each window where its entries begin, with its exact count,
sum, least and greatest. Pooling concatenates; a quantile, the values beyond a limit per second, and when answers
arrived are each one pass over the arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.intervals import Counts, quantile_estimate
from surgeline.analysis.model import QUANTILES, Estimate, Times
from surgeline.samples import HISTOGRAM_HALF, Histogram, histogram_high

Array = np.ndarray[Any, np.dtype[Any]]

_SECOND = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Columns:
    """Windows in any order, none of them empty.

    Per window: `slot` is stage x 2³² + second, `begin` the position of its first entry (one more at the end), `number`
    how many values it has, `sum_ns`, `least_ns` and `most_ns` theirs. Per entry: `index` is the bucket, `count` how
    often.
    """

    slot: Array
    begin: Array
    number: Array
    sum_ns: Array
    least_ns: Array
    most_ns: Array
    index: Array
    count: Array

    @classmethod
    def of(cls, stage: int, parts: Sequence[tuple[int, Histogram]]) -> "Columns":
        """From the histograms of a stage's seconds."""
        parts = [(second, histogram) for second, histogram in parts if histogram.count]
        held = [histogram.arrays() for _, histogram in parts]
        begin = np.concatenate(([0], np.cumsum([len(buckets) for buckets, _ in held]))).astype(np.int64)
        index, count = np.empty(begin[-1], np.int32), np.empty(begin[-1], np.int64)
        for row, (buckets, counts) in enumerate(held):
            here = slice(begin[row], begin[row + 1])
            index[here], count[here] = buckets, counts
        return cls(
            np.array([(stage << 32) + second for second, _ in parts], dtype=np.int64),
            begin,
            np.array([histogram.count for _, histogram in parts], dtype=np.int64),
            np.array([histogram.sum_ns for _, histogram in parts], dtype=np.int64),
            np.array([histogram.min_ns for _, histogram in parts], dtype=np.int64),
            np.array([histogram.max_ns for _, histogram in parts], dtype=np.int64),
            index,
            count,
        )

    @classmethod
    def pool(cls, parts: Iterable["Columns"]) -> "Columns":
        """All of them together."""
        held = [part for part in parts if len(part.slot)]
        if len(held) < 2:
            return held[0] if held else EMPTY
        shifts = np.cumsum([0] + [len(part.index) for part in held])
        begins = [part.begin[:-1] + shift for part, shift in zip(held, shifts, strict=False)]
        return cls(
            np.concatenate([part.slot for part in held]),
            np.concatenate([*begins, shifts[-1:]]),
            *(
                np.concatenate([getattr(part, name) for part in held])
                for name in ("number", "sum_ns", "least_ns", "most_ns", "index", "count")
            ),
        )

    def histogram(self) -> Histogram:
        """All entries as one histogram."""
        return self._histogram(*self._totals()) if len(self.slot) else Histogram()

    def _histogram(self, buckets: Array, counts: Array) -> Histogram:
        exact = sum(self.sum_ns.tolist())
        return Histogram.from_parts(
            buckets.tolist(), counts.tolist(), exact, int(self.least_ns.min()), int(self.most_ns.max())
        )

    def _totals(self) -> tuple[Array, Array]:
        """The buckets that hold values, ascending, and how many."""
        totals = np.bincount(self.index, weights=self.count)
        held = np.flatnonzero(totals)
        return held, totals[held].astype(np.int64)

    def times(self, quantiles: Sequence[float] = QUANTILES, intervals: bool = True) -> Times:
        """The distribution, with its intervals unless they are not asked for."""
        buckets, counts = self._totals()
        histogram = self._histogram(buckets, counts) if len(self.slot) else Histogram()
        if histogram.count:
            slots, at = np.unique(self.slot, return_inverse=True)
            due = np.bincount(at, weights=self.number)
            number = np.repeat(at, np.diff(self.begin)) if intervals else at
            cells = Counts(number, self.index, self.count, due, slots >> 32)
            ascending = (buckets, np.cumsum(counts))
            estimates = {q: quantile_estimate(q, histogram, cells, ascending, intervals) for q in quantiles}
        else:
            estimates = {q: Estimate(None, why_not="no samples", brief="none") for q in quantiles}
        return Times(estimates, histogram.mean_ns, histogram.min_ns, histogram.max_ns, histogram)

    def arrivals(self, width: int) -> Array:
        """How many of the values' requests came to their end in each second 0 … width-1.

        A request due in second s after r seconds ends between s + r and s + r + 1, wherever in s it was due: its count
        is split between those two seconds. What ends later is left out.
        """
        ends = np.zeros(width + 2)
        if not len(self.slot) or width < 1:
            return ends[:width]
        # All below a second: the part that ends in the next one is the sum of the times, and no entry is looked at.
        quick = self.most_ns < units.NS_PER_S
        second = np.minimum(self.slot[quick] & _SECOND, width)
        late = self.sum_ns[quick] / units.NS_PER_S
        ends += np.bincount(second, weights=self.number[quick] - late, minlength=width + 2)
        ends += np.bincount(second + 1, weights=late, minlength=width + 2)
        if not quick.all():
            sizes = np.diff(self.begin)
            entries = np.repeat(~quick, sizes)
            at = np.repeat(self.slot & _SECOND, sizes)[entries] + middle_ns(self.index[entries]) / units.NS_PER_S
            count = self.count[entries]
            first = np.floor(at).astype(np.int64)
            for when, weight in ((first, (1.0 - at + first) * count), (first + 1, (at - first) * count)):
                ends += np.bincount(np.minimum(when, width), weights=weight, minlength=width + 2)
        return ends[:width]

    def waiting(self, width: int) -> Array:
        """The mean number of the values' requests that were under way in each second 0 … width-1.

        A request due at u in its second takes up min(r, 1 − u) of that second and what is left of r of those after it;
        over u from 0 to 1 that is r − r²/2 and r²/2 where r is below a second.
        """
        held = np.zeros(width + 2)
        if not len(self.slot) or width < 1:
            return held[:width]
        # All below a second: as if all took the mean, so that no entry is looked at.
        quick = self.most_ns < units.NS_PER_S
        second = np.minimum(self.slot[quick] & _SECOND, width)
        total = self.sum_ns[quick] / units.NS_PER_S
        after = total * total / np.maximum(self.number[quick], 1) / 2.0
        held += np.bincount(second, weights=total - after, minlength=width + 2)
        held += np.bincount(second + 1, weights=after, minlength=width + 2)
        if not quick.all():
            sizes = np.diff(self.begin)
            entries = np.repeat(~quick, sizes)
            begin = np.repeat(self.slot & _SECOND, sizes)[entries]
            whole, part = np.divmod(middle_ns(self.index[entries]) / units.NS_PER_S, 1.0)
            last, count = begin + whole.astype(np.int64), self.count[entries]
            # The second in which it was due, up to the end of the run or of the request; then what its last two hold.
            steps = np.zeros(width + 3)
            long = whole >= 1.0
            for at, half in ((begin, 0.5), (begin + 1, 0.5), (last, -0.5), (last + 1, -0.5)):
                steps += np.bincount(np.minimum(at[long], width + 2), weights=half * count[long], minlength=width + 3)
            held += np.cumsum(steps)[: width + 2]
            # What is left of it, after as many whole seconds, overlaps two of them as a quick one does.
            for at, weight in ((last, part - part * part / 2.0), (last + 1, part * part / 2.0)):
                held += np.bincount(np.minimum(at, width + 1), weights=weight * count, minlength=width + 2)
        return held[:width]

    def beyond(self, limit: int) -> tuple[Array, Array]:
        """The slots in order, and how many values of each lie in buckets above the one numbered `limit`."""
        slots, at = np.unique(self.slot, return_inverse=True)
        over = self.index > limit
        number = np.repeat(at, np.diff(self.begin))[over]
        return slots, np.bincount(number, weights=self.count[over], minlength=len(slots))


def _none(dtype: Any) -> Array:
    return np.zeros(0, dtype)


EMPTY = Columns(
    *(_none(np.int64), np.zeros(1, np.int64), _none(np.int64), _none(np.int64), _none(np.int64), _none(np.int64)),
    *(_none(np.int32), _none(np.int64)),
)


def middle_ns(index: Array) -> Array:
    """The middle of each bucket, ns."""
    # Millions of entries share some thousand buckets, so what is worked out is one value for each bucket.
    bucket = np.arange(int(index.max()) + 1 if len(index) else 0, dtype=np.int64)
    shift = np.maximum(bucket // HISTOGRAM_HALF - 1, 0)
    low = (bucket - HISTOGRAM_HALF * shift) << shift
    return np.asarray((low + ((1 << shift) - 1) / 2.0)[index])


def quantiles_by_second(columns: Columns, quantiles: Sequence[float]) -> dict[int, list[int]]:
    """For each second with values: their quantiles as upper bucket edges, then the greatest value, ns."""
    seconds = columns.slot & _SECOND
    order = np.argsort(seconds, kind="stable")
    found: dict[int, list[int]] = {}
    for group in np.split(order, np.flatnonzero(np.diff(seconds[order])) + 1):
        if not len(group):
            continue
        parts = [slice(columns.begin[window], columns.begin[window + 1]) for window in group.tolist()]
        totals = np.bincount(
            np.concatenate([columns.index[part] for part in parts]),
            weights=np.concatenate([columns.count[part] for part in parts]),
        )
        cumulative = np.cumsum(totals)
        ranks = [max(np.ceil((q - 1e-9) * cumulative[-1]), 1.0) for q in quantiles]
        most = int(columns.most_ns[group].max())
        buckets = np.searchsorted(cumulative, ranks).tolist()
        found[int(seconds[group[0]])] = [min(histogram_high(bucket), most) for bucket in buckets] + [most]
    return found
