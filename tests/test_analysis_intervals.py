"""Intervals hold what they promise, or are not given."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import signal, stats

from scripted_runs import MS, S, open_plan, summary_of
from surgeline.analysis import distributions as d
from surgeline.analysis.intervals import ratio_estimate, spread
from surgeline.analysis.model import Estimate
from surgeline.analysis.pooled import Columns
from surgeline.engines import scripted
from surgeline.samples import Histogram

Series = Callable[[np.random.Generator, int], Any]


@pytest.mark.parametrize("df", [1, 2, 3, 3.7, 10, 59, 400])
@pytest.mark.parametrize("p", [0.6, 0.95, 0.975, 0.995, 0.02])
def test_students_t_is_scipys(p: float, df: float):
    """Quantiles agree to nine digits."""
    assert d.t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 10, 0.1), (1, 10, 0.1), (12, 100, 0.05), (60, 1000, 0.05), (5, 5, 0.3)])
def test_binomial_tails_are_scipys(k: int, n: int, p: float):
    """P(X ≥ k) agrees to nine digits."""
    assert d.binomial_at_least(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-9)


def test_wilson_is_scipys():
    """Both ends agree, also at 0 of n."""
    for k, n in ((0, 20), (3, 20), (300, 4000)):
        truth = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert d.wilson(k / n, n) == pytest.approx((truth.low, truth.high), abs=1e-12)


def test_the_fewest_samples_of_a_percentile():
    """6, 36, 72, 368 and 3,688: below them no finite interval exists."""
    assert [d.fewest_for_quantile(q) for q in (0.5, 0.9, 0.95, 0.99, 0.999)] == [6, 36, 72, 368, 3688]


def _iid(rng: np.random.Generator, n: int) -> Any:
    return rng.lognormal(0.0, 0.5, n)


def _ar1(rng: np.random.Generator, n: int) -> Any:
    """Log-normal with a correlation of 0.8 from one request to the next."""
    rho = 0.8
    noise = rng.normal(size=n) * math.sqrt(1 - rho * rho)
    return np.exp(0.5 * signal.lfilter([1.0], [1.0, -rho], noise))


def _stalls(rng: np.random.Generator, n: int) -> Any:
    """A stall of 200 ms every four seconds or so, at 200 per second; on average a twentieth of the requests is slow."""
    values = rng.lognormal(0.0, 0.3, n)
    at = rng.exponential(800)
    while at < n:
        values[int(at) : int(at) + 40] += 20.0
        at += 40 + rng.exponential(760)
    return values


def _estimate(values: Any, per_second: int, q: float) -> Estimate:
    parts = []
    for second in range(len(values) // per_second):
        histogram = Histogram()
        for value in (values[second * per_second : (second + 1) * per_second] * MS).astype(int).tolist():
            histogram.record(value)
        parts.append((second, histogram))
    return Columns.of(0, parts).times((q,)).quantiles[q]


@pytest.mark.parametrize(("series", "most_wrong"), [(_iid, 0.06), (_ar1, 0.08), (_stalls, 0.10)])
@pytest.mark.parametrize("q", [0.5, 0.95])
def test_intervals_are_shown_and_wrong_in_few_runs(series: Series, most_wrong: float, q: float):
    """Of 80 runs of 60 s at 200 per second, at most about one in twenty shows an interval without the truth in it."""
    rng = np.random.default_rng(20261123)
    # Seeds are fixed, so this never flickers; the allowance beyond 5 % is two standard errors of 80 runs.
    long = np.concatenate([series(rng, 200 * 600) for _ in range(10)])
    truth = float(np.quantile(long, q)) * MS
    shown = wrong = 0
    for _ in range(80):
        estimate = _estimate(series(rng, 200 * 60), 200, q)
        if estimate.low is None:
            continue
        shown += 1
        above = estimate.high is not None and truth > estimate.high
        wrong += truth < estimate.low or above
    assert shown >= 64
    assert wrong / 80 <= most_wrong


def test_requests_that_share_their_luck_are_worth_less():
    """The same number of requests beyond a value, spread evenly or all in a few seconds: φ tells them apart."""
    due = np.full(60, 200)
    even, bursts = np.full(60, 10), np.zeros(60, int)
    bursts[::20] = 200
    assert spread(due, even).phi == pytest.approx(1.0)
    assert spread(due, bursts).phi > 100


def test_what_was_planned_to_differ_is_no_noise():
    """Two stages with different shares beyond a value, each even: with the stages known, φ is one."""
    due = np.full(60, 200)
    beyond = np.concatenate([np.full(30, 2), np.full(30, 40)])
    stage = np.repeat([0, 1], 30)
    assert spread(due, beyond, stage).phi == pytest.approx(1.0)
    assert spread(due, beyond).phi > 10


def test_none_of_n_bounds_the_true_share():
    """0 of 3,000 is below 0.1 % with 95 % confidence; 0 of 0 is nothing at all."""
    clean = ratio_estimate(np.array([1000, 1000, 1000]), np.array([0, 0, 0]))
    assert (clean.value, clean.low) == (0.0, 0.0)
    assert clean.high == pytest.approx(0.000998, rel=0.01)
    assert ratio_estimate(np.zeros(3, int), np.zeros(3, int)).value is None


def test_errors_in_bursts_widen_their_interval():
    """60 errors in one second of sixty say less about the share than one each second."""
    due = np.full(60, 100)
    burst = np.zeros(60, int)
    burst[30] = 60
    one, other = ratio_estimate(due, np.ones(60, int)), ratio_estimate(due, burst)
    assert one.value == other.value
    assert (other.high or 0) - (other.low or 0) > 3 * ((one.high or 0) - (one.low or 0))


def test_a_short_stage_has_values_but_no_interval():
    """Eight seconds are too few to tell how requests cluster: the value is plain, and the reason is there."""
    p95 = summary_of(open_plan((200,), "8s"), scripted.lognormal(5 * MS)).total.response.quantiles[0.95]
    assert p95.value is not None
    assert (p95.low, p95.high) == (None, None)
    assert p95.why_not == "8 s with requests, an interval needs 10"


def test_values_that_are_all_alike_have_a_narrow_interval():
    """A server that always takes 5 ms: the interval of the median is that bucket."""
    p50 = summary_of(open_plan((200,), "30s"), scripted.constant(5 * MS)).total.response.quantiles[0.5]
    assert p50.low == pytest.approx(5 * MS, rel=0.001)
    assert p50.high == pytest.approx(5 * MS, rel=0.001)


def test_an_open_end_is_said_where_the_run_has_not_seen_the_worst():
    """A freeze or two in twenty seconds: p99 is at least something, its upper end is not known."""
    server = scripted.freezing(scripted.constant(5 * MS), 12 * S, S, from_ns=3 * S)
    p99 = summary_of(open_plan((200,), "20s"), server).total.response.quantiles[0.99]
    assert p99.value is not None
    assert p99.high is None
