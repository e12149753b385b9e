"""Where does a change sit: in every request, in the slowest, or in the fastest?

Each percentile moves by its own ratio; the band around it comes from drawing runs anew, whole runs, with a seed that is
part of the method, so the same runs give the same band. What it looks like has a name:

    even    every percentile by about the same ratio        each request costs more, or less
    grows   the higher the percentile, the more             queueing, contention
    tail    only the slowest                                rare events: pauses, locks, cold caches
    fast    only the fastest                                a cache, or the cheap path
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from surgeline.analysis.distributions import t_quantile
from surgeline.analysis.figures import ALL, RunFigures
from surgeline.analysis.model import Shift

QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
DRAWS = 400
"""Bands from more draws look the same."""
SEED = 20_221_123
FEWEST_BEYOND = 20
"""A percentile is drawn where at least this many requests of each run lie beyond it."""
GROWS = 1.6
"""A change this much larger at the top than in the middle *grows*. Taste."""
TAIL = 8.0
"""A change this much larger at the top than anywhere up to p90 is one of the *tail*. Taste."""
MATTERS = 0.02
"""Percentiles that moved by less are not called moved, however sure that is. Taste."""

Array = np.ndarray[Any, np.dtype[Any]]


def shift_of(
    name: str,
    base: Sequence[RunFigures],
    candidate: Sequence[RunFigures],
    stages: frozenset[int],
    in_pairs: bool,
) -> Shift | None:
    """The shift of an endpoint (or of all) over the percentiles that every run has; None where there is none.

    One run on a side has no band: `low` and `high` are empty.
    """
    endpoint = None if name == ALL else name
    runs = (*base, *candidate)
    fewest = min((judged - bad for judged, bad in (run.tally(endpoint, stages) for run in runs)), default=0)
    qs = [q for q in QUANTILES if fewest * min(q, 1.0 - q) >= FEWEST_BEYOND]
    if len(qs) < 3:
        return None
    sides = []
    for side in (base, candidate):
        rows = [run.quantiles(endpoint, qs, stages) for run in side]
        if any(row is None for row in rows):
            return None
        sides.append(np.log(np.maximum(np.array(rows, dtype=float), 1.0)))
    middle = sides[1].mean(axis=0) - sides[0].mean(axis=0)
    low, high = _band(sides[0], sides[1], middle, in_pairs)
    pattern, sentence = _read_out(name, qs, middle, low, high)
    return Shift(name, tuple(qs), _ratios(middle), _ratios(low), _ratios(high), pattern, sentence)


def _ratios(logs: Array) -> tuple[float, ...]:
    return tuple(float(x) for x in np.expm1(logs))


def _band(base: Array, candidate: Array, middle: Array, in_pairs: bool) -> tuple[Array, Array]:
    """The 95 % band: drawn runs, widened to what so few runs do not know of themselves."""
    n, m = len(base), len(candidate)
    if min(n, m) < 2:
        return np.zeros(0), np.zeros(0)
    dice = np.random.default_rng(SEED)
    if in_pairs:
        drawn = dice.integers(0, n, (DRAWS, n))
        means = (candidate - base)[drawn].mean(axis=1)
        widen, df = np.sqrt(n / (n - 1.0)), n - 1.0
    else:
        before, after = dice.integers(0, n, (DRAWS, n)), dice.integers(0, m, (DRAWS, m))
        means = candidate[after].mean(axis=1) - base[before].mean(axis=1)
        fewer = min(n, m)
        widen, df = np.sqrt(fewer / (fewer - 1.0)), float(n + m - 2)
    half = t_quantile(0.975, df) * widen * np.sqrt(((means - middle) ** 2).mean(axis=0))
    return middle - half, middle + half


def _read_out(name: str, qs: Sequence[float], middle: Array, low: Array, high: Array) -> tuple[str, str]:
    if not len(low):
        return "none", ""
    sure = ((low > 0) | (high < 0)) & (np.abs(middle) >= MATTERS)
    who = "everything together" if name == ALL else name
    moved = np.flatnonzero(sure)
    if not len(moved):
        return "none", ""
    up = middle[moved] > 0
    if up.any() and not up.all():
        slower, faster = (", ".join(_p(qs[i]) for i in moved[side][:4]) for side in (up, ~up))
        return "mixed", f"{who} is slower at {slower} and faster at {faster}."
    word = "slower" if up.all() else "faster"
    first, last = int(moved[0]), int(moved[-1])
    span = f"from {_p(qs[first])} ({_change(middle[first])}) to {_p(qs[last])} ({_change(middle[last])})"
    if first == last:
        span = f"at {_p(qs[first])} ({_change(middle[first])})"
    common = [abs(float(middle[i])) for i, q in enumerate(qs) if q <= 0.9]
    if qs[first] >= 0.9 or (qs[last] > 0.95 and max(common) * TAIL < abs(middle[last])):
        first = max(first, next(i for i, q in enumerate(qs) if q >= 0.9))
        rest = [int(i) for i in moved if i >= first]
        span = f"from {_p(qs[rest[0]])} ({_change(middle[rest[0]])}) to {_p(qs[last])} ({_change(middle[last])})"
        return "tail", f"{who} is {word} only {span}: rare slow requests, not the common ones."
    if qs[last] <= 0.5:
        return "fast", f"{who} is {word} only {span}: the fast path, or a cache."
    if abs(middle[last]) >= GROWS * max(abs(middle[first]), 1e-9) and qs[last] > 0.5:
        return "grows", f"{who} is {word} {span}: it grows with the percentile, as waiting does, and is no rare stall."
    return "even", f"{who} is {word} {span}: about the same for every request, as the cost of each is."


def _p(q: float) -> str:
    return f"p{q * 100:g}"


def _change(log: float) -> str:
    return f"{np.expm1(log) * 100:+.0f} %".replace("-", "−")
