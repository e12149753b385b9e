"""What do response times look like: over the run, over their ranks, and taken apart into their phases?

Columns and histograms come in, small tables leave, of which each figure of a plot is read. Nothing is smoothed: a cell
counts requests, a point is a value at a rank, a part is a mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.pooled import Columns, middle_ns
from surgeline.samples import Histogram, histogram_high

Array = np.ndarray[Any, np.dtype[Any]]

PHASES = ("queue", "dns", "connect", "tls", "send", "wait", "receive")
"""The parts of a response time, in order; `queue` is from due to actual start, the others are those of service time."""

PER_DECADE = 6
"""Rows of a heatmap within a factor of ten: one is a factor of 1.47, less than what most people call slower."""
WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
RANKS_PER_DECADE = 10
NAMED = (0.5, 0.9, 0.95, 0.99, 0.999)
"""Quantiles that a spectrum has whatever its steps are: what people look for lies on its line."""


@dataclass(frozen=True, slots=True)
class Heat:
    """How many right answers took how long, by when they were due.

    Column c holds the requests due from `begin_s` + c x `width_s` on; row r those that took 10^((`lowest` + r) / 6) ns
    and up to the next. `counts` has a row for each row, `bad` what went wrong in each column, which has no row.
    """

    begin_s: int
    width_s: int
    lowest: int
    counts: tuple[tuple[int, ...], ...]
    bad: tuple[int, ...]

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return len(self.bad)


def heat(columns: Columns, bad: Mapping[int, int], first_s: int, last_s: int, most: int) -> Heat | None:
    """The heatmap of some windows from second `first_s` up to and without `last_s`, in at most `most` columns.

    `bad` counts what went wrong by second. None where nothing was answered right.
    """
    span = max(last_s - first_s, 1)
    width = next((width for width in WIDTHS_S if span <= width * most), -(-span // most))
    wide = -(-span // width)
    if not len(columns.slot):
        return None
    seconds = (columns.slot & 0xFFFFFFFF).astype(np.int64)
    at = np.clip((seconds - first_s) // width, 0, wide - 1)
    row = np.floor(np.log10(np.maximum(middle_ns(columns.index), 1.0)) * PER_DECADE + 1e-9).astype(np.int64)
    lowest, rows = int(row.min()), int(row.max() - row.min() + 1)
    cell = (row - lowest) * wide + np.repeat(at, np.diff(columns.begin))
    counts = np.bincount(cell, weights=columns.count, minlength=rows * wide).astype(np.int64).reshape(rows, wide)
    wrong = [0] * wide
    for second, count in bad.items():
        wrong[min(max((second - first_s) // width, 0), wide - 1)] += count
    return Heat(first_s, width, lowest, tuple(map(tuple, counts.tolist())), tuple(wrong))


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Response and service time at quantiles that come ever closer to 1.

    `quantiles` ascend from 0; the last leaves at least one request beyond. `sure_to` is the greatest quantile that so
    many requests can carry; what lies beyond it are single requests. None: not even the median.
    """

    quantiles: tuple[float, ...]
    response_ns: tuple[int, ...]
    service_ns: tuple[int, ...]
    sure_to: float | None


def spectrum(response: Histogram, service: Histogram) -> Spectrum | None:
    """The spectrum of right answers; None without any."""
    n = response.count
    if not n:
        return None
    steps = math.floor(math.log10(n) * RANKS_PER_DECADE + 1e-9)
    stepped = [1.0 - 10.0 ** (-step / RANKS_PER_DECADE) for step in range(steps + 1)]
    named = [q for q in NAMED if all(abs(q - other) > 1e-9 for other in stepped) and n * (1.0 - q) >= 1.0]
    quantiles = tuple(sorted(stepped + named))
    carried = [q for q in quantiles if q > 0 and fewest_for_quantile(max(q, 0.5)) <= n]
    return Spectrum(quantiles, _at(response, quantiles), _at(service, quantiles), max(carried, default=None))


def _at(histogram: Histogram, quantiles: Sequence[float]) -> tuple[int, ...]:
    """The values at those quantiles, as upper edges of their buckets; nothing of an empty histogram."""
    if not histogram.count:
        return ()
    index = np.fromiter(histogram.counts, np.int64, len(histogram.counts))
    count = np.fromiter(histogram.counts.values(), np.int64, len(histogram.counts))
    order = np.argsort(index)
    index, cumulative = index[order], np.cumsum(count[order])
    n, most, least = histogram.count, histogram.max_ns or 0, histogram.min_ns or 0
    ranks = [max(math.ceil(q * n - 1e-9 * n), 1) for q in quantiles]
    places = np.minimum(np.searchsorted(cumulative, ranks), len(index) - 1).tolist()
    found = (min(histogram_high(int(index[place])), most) for place in places)
    return tuple(least if q == 0 else value for q, value in zip(quantiles, found, strict=True))


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the time of some right answers went: sums of each of PHASES, ns, over `count` requests.

    `fresh` of them opened a connection; only those have dns, connect and tls.
    """

    count: int = 0
    fresh: int = 0
    sums_ns: tuple[int, ...] = field(default=(0,) * len(PHASES))

    def __add__(self, other: "Parts") -> "Parts":
        sums = tuple(a + b for a, b in zip(self.sums_ns, other.sums_ns, strict=True))
        return Parts(self.count + other.count, self.fresh + other.fresh, sums)

    def mean_ns(self, phase: str) -> float | None:
        """The phase's part of the mean response time; None of no request."""
        return self.sums_ns[PHASES.index(phase)] / self.count if self.count else None
