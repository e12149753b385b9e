"""Histograms of many windows as columns, so that adding them up costs the same whoever is asked about.

One `Columns` holds the sparse histograms of the windows of one kind (an endpoint in a stage, for an outcome): three
arrays of one length, second, bucket and count, with the exact sum, least and greatest. Pooling concatenates; a
quantile, the values beyond a limit per second, and when answers arrived are each one pass over the arrays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.intervals import Counts, quantile_estimate
from surgeline.analysis.model import QUANTILES, Estimate, Times
from surgeline.samples import HISTOGRAM_HALF, Histogram

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Columns:
    """`slot` is stage x 2³² + second; `index` the bucket; `count` how often. `least` and `most` are -1 when empty."""

    slot: Array
    index: Array
    count: Array
    sum_ns: int = 0
    least: int = -1
    most: int = -1

    @classmethod
    def of(cls, stage: int, parts: Sequence[tuple[int, Histogram]]) -> "Columns":
        """From the histograms of a stage's seconds."""
        if not parts:
            return EMPTY
        sizes = [len(histogram.counts) for _, histogram in parts]
        total = sum(sizes)
        seconds = np.array([second for second, _ in parts], dtype=np.int64)
        return cls(
            np.repeat(seconds, sizes) + (stage << 32),
            np.fromiter((index for _, histogram in parts for index in histogram.counts), np.int64, total),
            np.fromiter((count for _, histogram in parts for count in histogram.counts.values()), np.int64, total),
            sum(histogram.sum_ns for _, histogram in parts),
            min((h.min_ns for _, h in parts if h.min_ns is not None), default=-1),
            max((h.max_ns for _, h in parts if h.max_ns is not None), default=-1),
        )

    @classmethod
    def pool(cls, parts: Iterable["Columns"]) -> "Columns":
        """All of them together."""
        held = [part for part in parts if len(part.slot)]
        if len(held) < 2:
            return held[0] if held else EMPTY
        return cls(
            np.concatenate([part.slot for part in held]),
            np.concatenate([part.index for part in held]),
            np.concatenate([part.count for part in held]),
            sum(part.sum_ns for part in held),
            min(part.least for part in held),
            max(part.most for part in held),
        )

    @property
    def seconds(self) -> Array:
        """The second of each entry."""
        return self.slot & 0xFFFFFFFF

    def histogram(self) -> Histogram:
        """All entries as one histogram."""
        if not len(self.slot):
            return Histogram()
        totals = np.bincount(self.index, weights=self.count)
        held = np.flatnonzero(totals)
        counts = totals[held].astype(np.int64)
        return Histogram.from_parts(held.tolist(), counts.tolist(), self.sum_ns, self.least, self.most)

    def times(self, quantiles: Sequence[float] = QUANTILES, intervals: bool = True) -> Times:
        """The distribution, with its intervals unless they are not asked for."""
        histogram = self.histogram()
        estimates: dict[float, Estimate] = {}
        if histogram.count:
            slots, number = np.unique(self.slot, return_inverse=True)
            due = np.bincount(number, weights=self.count)
            cells = Counts(number, self.index, self.count, due, slots >> 32)
            buckets, counts = histogram.sparse()
            ascending = (np.array(buckets), np.cumsum(counts))
            estimates = {q: quantile_estimate(q, histogram, cells, ascending, intervals) for q in quantiles}
        else:
            estimates = {q: Estimate(None, why_not="no samples") for q in quantiles}
        return Times(estimates, histogram.mean_ns, histogram.min_ns, histogram.max_ns, histogram)

    def arrivals(self, width: int) -> Array:
        """How many of the values' requests came to their end in each second 0 … width-1.

        A request due in second s after r seconds ends between s + r and s + r + 1, wherever in s it was due: its count
        is split between those two seconds. What ends later is left out.
        """
        if not len(self.slot) or width < 1:
            return np.zeros(max(width, 0))
        at = self.seconds + middle_ns(self.index) / units.NS_PER_S
        first = np.floor(at).astype(np.int64)
        late = at - first
        ends = np.zeros(width + 1)
        for second, weight in ((first, (1.0 - late) * self.count), (first + 1, late * self.count)):
            ends += np.bincount(np.minimum(second, width), weights=weight, minlength=width + 1)
        return ends[:width]

    def beyond(self, limit: int) -> tuple[Array, Array]:
        """The slots in order, and how many values of each lie in buckets above the one numbered `limit`."""
        slots, number = np.unique(self.slot, return_inverse=True)
        return slots, np.bincount(number, weights=self.count * (self.index > limit), minlength=len(slots))


EMPTY = Columns(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


def middle_ns(index: Array) -> Array:
    """The middle of each bucket, ns."""
    shift = np.maximum(index // HISTOGRAM_HALF - 1, 0)
    low = (index - HISTOGRAM_HALF * shift) * (1 << shift)
    return np.asarray(low + ((1 << shift) - 1) / 2.0)


def quantiles_by_second(columns: Columns, quantiles: Sequence[float]) -> dict[int, list[int]]:
    """For each second with values: their quantiles as upper bucket edges, then the upper edge of the greatest, ns."""
    if not len(columns.slot):
        return {}
    seconds = columns.seconds
    order = np.lexsort((columns.index, seconds))
    seconds, index, count = seconds[order], columns.index[order], columns.count[order]
    held, begin = np.unique(seconds, return_index=True)
    ends = np.append(begin[1:], len(seconds))
    cumulative = np.cumsum(count)
    before = np.concatenate(([0], cumulative[ends[:-1] - 1]))
    total = cumulative[ends - 1] - before
    found = []
    for q in quantiles:
        rank = np.maximum(np.ceil(q * total - 1e-9 * total), 1)
        found.append(index[np.searchsorted(cumulative, before + rank)])
    found.append(index[ends - 1])
    highs = [_high_ns(buckets) for buckets in found]
    return {second: [int(high[row]) for high in highs] for row, second in enumerate(held.tolist())}


def _high_ns(index: Array) -> Array:
    following = index + 1
    shift = np.maximum(following // HISTOGRAM_HALF - 1, 0)
    return np.asarray(((following - HISTOGRAM_HALF * shift) << shift) - 1)
