"""How sure a percentile or a share is, from nothing but counts per second.

Requests of one run are not independent: a stall hits everyone who was due in it. What counts is therefore how unevenly
the requests beyond a value are spread over the seconds. Where they are spread as chance would spread them, n requests
are worth n; where they come in clusters, they are worth n / φ.

    per second b: N_b requests, K_b of them beyond the value; q = share beyond, p = 1 − q
    e_b = (K_b − N_b q) / √(N_b q p)          φ_w = mean(e²) · m / (m − 1) over the m seconds (or groups of w of them)

The interval of a percentile follows the recipe that simulation settled on (docs/explanation/intervals.md): the largest
φ over several widths, corrected for what is left of autocorrelation, with Student's t and a correction for skewness.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgeline.analysis.distributions import fewest_for_quantile, t_quantile, wilson
from surgeline.analysis.model import Estimate
from surgeline.samples import Histogram, histogram_high, histogram_low

Array = np.ndarray[Any, np.dtype[Any]]

WIDTHS_S = (1, 2, 3, 4, 5, 6, 10, 20)
FEWEST_BINS = 10
"""A width of which fewer groups fit into the run says too little about their spread."""
TAIL_FROM, TAIL_WIDENING = 0.985, 1.18
"""Far in the tail few seconds hold all that lies beyond, and their spread is known worse than any width shows. Without
the widening the campaign (docs/reference/error-rates/intervals.md) found p99 wrong in up to 11.4 % of all runs."""
FEWEST_EFFECTIVE_S = 8
"""Below this many independent seconds no interval holds what it promises."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How much more unevenly than by chance something is spread over the seconds.

    `phi` ≥ 1 divides the number of requests into the number they are worth. `df` are the degrees of freedom of that
    estimate, `skew` the skewness of the residuals over √m. `seconds` had requests in them; `effective_s` of them are
    independent.
    """

    phi: float
    df: float
    skew: float
    seconds: int
    effective_s: float


def spread(due: Array, beyond: Array, strata: Array | None = None, fewest_bins: int = FEWEST_BINS) -> Spread:
    """The spread of `beyond[b]` out of `due[b]` over consecutive seconds b.

    `strata` numbers the stage of each second, ascending: what differs between stages was planned and is no noise.
    Seconds without requests do not count. With fewer than `fewest_bins` of them, φ is 1 and `effective_s` is 0.
    """
    held = due > 0
    due, beyond = due[held].astype(float), beyond[held].astype(float)
    strata = None if strata is None else strata[held]
    seconds = len(due)
    total = float(due.sum())
    q = float(beyond.sum()) / total if total else 0.0
    if seconds < fewest_bins or not 0.0 < q < 1.0:
        return Spread(1.0, float(max(seconds - 1, 1)), 0.0, seconds, float(seconds) if seconds >= fewest_bins else 0.0)
    residual, groups = beyond - due * q, 1
    if strata is not None:
        ids = np.unique(strata, return_inverse=True)[1]
        groups = int(ids.max()) + 1
        in_stratum = np.bincount(ids, weights=beyond) / np.bincount(ids, weights=due)
        residual = beyond - due * in_stratum[ids]
    lost = max(min(groups, seconds - 2), 1)
    best, best_m, best_e = -1.0, seconds, residual
    phi_1 = 1.0
    for width in WIDTHS_S:
        m = seconds // width
        if m < fewest_bins:
            break
        grouped = residual[: m * width].reshape(m, width).sum(axis=1)
        size = due[: m * width].reshape(m, width).sum(axis=1)
        e = grouped / np.sqrt(size * q * (1.0 - q))
        phi = float((e * e).mean()) * m / max(m - max(lost / width, 1.0), 1.0)
        if width == 1:
            phi_1, first = phi, e
        if phi > best:
            best, best_m, best_e = phi, m, e
    factor = autocorrelation_factor(first)
    effective = seconds / factor
    phi_ar = phi_1 * factor
    df = best_m - 1.0 if best >= phi_ar else max(2.0, effective - 1.0)
    kurtosis, skewness = _shape(best_e)
    if kurtosis > 1.0:
        df = min(df, 2.0 * best_m / (kurtosis - 1.0))
    return Spread(max(1.0, best, phi_ar), max(3.0, df), skewness / math.sqrt(best_m), seconds, effective)


def autocorrelation_factor(e: Array) -> float:
    """(1 + r) / (1 − r) of the residuals' lag-one autocorrelation, corrected for its bias in short series."""
    count = len(e)
    centred = e - e.mean()
    power = float((centred * centred).sum())
    if count < 6 or power == 0.0:
        return 1.0
    acf = float((centred[:-1] * centred[1:]).sum()) / power
    r = min(max((count * acf + 1.0) / (count - 4.0), 0.0), 0.97)
    return (1.0 + r) / (1.0 - r)


def _shape(e: Array) -> tuple[float, float]:
    """Kurtosis (3 for a normal) and skewness."""
    centred = e - e.mean()
    variance = float((centred**2).mean())
    if variance == 0.0:
        return 1.0, 0.0
    return float((centred**4).mean()) / variance**2, float((centred**3).mean()) / variance**1.5


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each value occurred in each second: three columns of one length.

    `second` numbers the seconds from 0, ascending by stage; `index` is the histogram's bucket. `due` counts all values
    of each second, `strata` gives each second's stage.
    """

    second: Array
    index: Array
    count: Array
    due: Array
    strata: Array


FEWEST_FOR_RATE = 6
"""Whole seconds that the interval of a rate needs."""


def rate_interval(by_second: Array) -> tuple[float, float] | None:
    """The 95 % interval of a rate, from how many came in each of consecutive seconds; None with too few of them.

    mean ± t · s · √(f / n), with t of n − 1 degrees of freedom and f for seconds that depend on each other.
    """
    n = len(by_second)
    if n < FEWEST_FOR_RATE:
        return None
    mean = float(by_second.mean())
    factor = autocorrelation_factor(by_second.astype(float))
    half = t_quantile(0.975, n - 1.0) * float(by_second.std(ddof=1)) * math.sqrt(factor / n)
    return max(mean - half, 0.0), mean + half


def quantile_estimate(
    q: float, histogram: Histogram, cells: Counts, ascending: tuple[Array, Array], interval: bool = True
) -> Estimate:
    """The quantile of the histogram's values, with its 95 % interval.

    `ascending` are the histogram's buckets in order and their cumulative counts. The value is None where even
    independent samples would be too few for an interval; `low` and `high` are None with the reason in `why_not` where
    the run was too short to say how clustered they are.
    """
    n = histogram.count
    fewest = fewest_for_quantile(q)
    label = f"p{q * 100:g}"
    if n < fewest:
        return Estimate(None, n=n, why_not=f"{_samples(n)}, {label} needs {fewest:,}", brief=f"needs {fewest:,}")
    indices, cumulative = ascending
    bucket = _bucket_at(_rank(q, n), indices, cumulative)
    # As Histogram.quantile reads it; its own walk over a dictionary would cost more than all the rest.
    value = float(min(histogram_high(bucket), histogram.max_ns or 0))
    if not interval:
        return Estimate(value, n=n, why_not="not computed")
    width = len(cells.due)
    over = cells.index > bucket
    if not over.any():
        # So many values share the bucket that none lies above it: those in it and above tell the clusters instead.
        over = cells.index >= bucket
    beyond = np.bincount(cells.second[over], weights=cells.count[over], minlength=width)
    found = spread(cells.due, beyond, cells.strata)
    if found.effective_s < FEWEST_EFFECTIVE_S:
        why = (
            f"{found.seconds} s with requests, an interval needs {FEWEST_BINS}"
            if found.seconds < FEWEST_BINS
            else "too short for an interval: the seconds depend on each other"
        )
        brief = f"{found.seconds} s only" if found.seconds < FEWEST_BINS else "too short"
        return Estimate(value, n=n, why_not=why, brief=brief)
    n_eff = n / found.phi
    p = 1.0 - q
    t = min(t_quantile(0.975, round(found.df, 1)), 4.3)
    se = math.sqrt(q * p / n_eff) * (TAIL_WIDENING if q >= TAIL_FROM else 1.0)
    s = min(max(found.skew, (q - p) / math.sqrt(n_eff * q * p), 0.0), 1.0)
    c = s * (1.0 + 2.0 * t * t) / 6.0
    below, above = q - se * max(t - c, t / 2.0), q + se * (t + c)
    low = float(histogram_low(_bucket_at(max(math.floor(below * n), 1), indices, cumulative)))
    high = None
    if above <= 1.0 - 1.0 / n:
        edge = histogram_high(_bucket_at(math.ceil(above * n), indices, cumulative))
        high = float(min(edge, histogram.max_ns if histogram.max_ns is not None else edge))
    low = max(low, float(histogram.min_ns or 0))
    return Estimate(value, low, high, n, n_eff)


def _rank(q: float, n: int) -> int:
    return max(math.ceil(q * n - 1e-9 * n), 1)


def _bucket_at(rank: int, indices: Array, cumulative: Array) -> int:
    return int(indices[min(int(np.searchsorted(cumulative, rank)), len(indices) - 1)])


def _samples(n: int) -> str:
    return "1 sample" if n == 1 else f"{n:,} samples"


def ratio_estimate(due: Array, bad: Array, strata: Array | None = None) -> Estimate:
    """The share of `bad` in `due`, with its 95 % interval: Wilson's, by the number the requests are worth.

    None of n: the upper end is 3 / n, the largest share that would still show nothing once in twenty runs.
    """
    n, k = int(due.sum()), int(bad.sum())
    if n == 0:
        return Estimate(None, why_not="no request has a known outcome")
    if k == 0:
        return Estimate(0.0, 0.0, 1.0 - 0.05 ** (1.0 / n), n, float(n))
    share = k / n
    n_eff = n / spread(due, bad, strata, fewest_bins=4).phi
    low, high = wilson(share, max(n_eff, 1.0))
    return Estimate(share, low, high, n, n_eff)
