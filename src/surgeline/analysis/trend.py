"""When did it change? One figure of many runs of a plan, in the order of their making.

Change points are found as Matteson and James do (E-divisive, 2014), in the deterministic form of Hunter (Fleming et al.
2023): the place where the energy statistic between what came before and after is largest is held against a t test of
the two segments; what passes splits the series, and each part is searched again. Then weak points are taken out, least
sure first, until every one left separates its two neighbouring segments.

    Q(τ) = τ(n-τ)/n · ( 2/(τ(n-τ)) ΣΣ|x_i - y_j|  -  mean|x - x'|  -  mean|y - y'| )

A search looks at every place and keeps the best, so its p value is not one of a single test: it is adjusted for the
number of places (Bonferroni), which simulation showed to keep false alarms far below 1 in 100 runs. Figures come in as
logarithms; a change counts only where it is at least `MAGNITUDE`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from surgeline.analysis import effects
from surgeline.analysis.distributions import t_quantile
from surgeline.analysis.figures import ALL, TIMES, RunFigures, machine_of

LEVEL = 0.05
"""Two-sided, adjusted for the places that were looked at: in forty equal runs one false point in twenty at most."""
MAGNITUDE = math.log(1.03)
"""Changes smaller than this are not reported: 3 %. Taste."""
SHORTEST = 3
"""Runs that a segment needs, so that its spread can be known at all."""
WINDOW = 50
"""Runs that are looked at together; in a longer series windows overlap by half."""

CAPACITY = "capacity"
"""The metric that is a rate and not a time."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Point:
    """A change between run `at - 1` and run `at` (from 0).

    `change` is the ratio of after to before less one, with its 95 % interval; `p` is that of the test of the two
    segments. `before` and `after` are the geometric means, as the series counts.
    """

    at: int
    change: float
    low: float
    high: float
    p: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Step:
    """One run of a trend: who it was, when, which commit, and its figure (None: not measured)."""

    id: str
    started_at: str
    commit: str
    value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trend:
    """One figure of one endpoint over all runs of a plan.

    `points` count in `steps`; `commits` of a point are the commits of the last run before it and the first after it.
    `left_out` says, by reason, how many runs are not in it.
    """

    endpoint: str
    metric: str
    steps: tuple[Step, ...]
    points: tuple[Point, ...]
    commits: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, int], ...]

    def segments(self) -> list[tuple[int, int]]:
        """First and last-but-one step of each stretch without a change."""
        edges = [0, *(point.at for point in self.points), len(self.steps)]
        return list(pairwise(edges))


def change_points(values: Sequence[float], level: float = LEVEL, magnitude: float = MAGNITUDE) -> list[Point]:
    """The change points of a series of logarithms, in order; none for fewer than twice `SHORTEST` values."""
    x = np.asarray(values, dtype=float)
    found: set[int] = set()
    for begin in range(0, max(len(x) - WINDOW // 2, 1), WINDOW // 2):
        part = x[begin : begin + WINDOW]
        found |= {begin + at for at in _split(part, level)}
        if begin + WINDOW >= len(x):
            break
    points = _merged(x, sorted(found), level, magnitude)
    return [_point(x, points, i) for i in range(len(points))]


def _split(x: Array, level: float) -> list[int]:
    """Places that pass, by splitting and searching the parts again."""
    best = _best(x)
    if best is None:
        return []
    effect = effects.separate(x[:best].tolist(), x[best:].tolist())
    places = len(x) - 2 * SHORTEST + 1
    if effect.p_two_sided * places > level:
        return []
    left, right = _split(x[:best], level), _split(x[best:], level)
    return [*left, best, *(best + at for at in right)]


def _best(x: Array) -> int | None:
    """Where the energy statistic between the two parts is largest."""
    n = len(x)
    if n < 2 * SHORTEST:
        return None
    apart = np.abs(x[:, None] - x[None, :])
    # Sums of the distances within the first τ values, and of all, as prefix sums.
    rows = np.cumsum(np.cumsum(apart, axis=0), axis=1)
    taus = np.arange(SHORTEST, n - SHORTEST + 1)
    first = rows[taus - 1, taus - 1]
    cross = rows[taus - 1, n - 1] - first
    second = rows[n - 1, n - 1] - first - 2.0 * cross
    m = n - taus
    q = taus * m / n * (2.0 * cross / (taus * m) - first / (taus * (taus - 1)) - second / (m * (m - 1)))
    return int(taus[int(np.argmax(q))])


def _merged(x: Array, points: list[int], level: float, magnitude: float) -> list[int]:
    """Without points that no longer separate their neighbours, the least sure taken out first."""
    while points:
        edges = [0, *points, len(x)]
        worst, which = -1.0, -1
        for i in range(len(points)):
            before, after = x[edges[i] : edges[i + 1]], x[edges[i + 1] : edges[i + 2]]
            effect = effects.separate(before.tolist(), after.tolist())
            places = max(len(before) + len(after) - 2 * SHORTEST + 1, 1)
            p = min(effect.p_two_sided * places, 1.0) if abs(effect.d) >= magnitude else 2.0
            if p > worst:
                worst, which = p, i
        if worst <= level:
            break
        points = points[:which] + points[which + 1 :]
    return points


def _point(x: Array, points: Sequence[int], i: int) -> Point:
    edges = [0, *points, len(x)]
    before, after = x[edges[i] : edges[i + 1]], x[edges[i + 1] : edges[i + 2]]
    effect = effects.separate(before.tolist(), after.tolist())
    low, high = effect.interval()
    return Point(
        at=points[i],
        change=math.expm1(effect.d),
        low=math.expm1(low),
        high=math.expm1(high),
        p=effect.p_two_sided,
        before=math.exp(float(before.mean())),
        after=math.exp(float(after.mean())),
    )


def trend_of(runs: Sequence[RunFigures], endpoint: str | None = None, metric: str = "p95") -> Trend:
    """The trend of a percentile, or of the capacity, over runs, which come in the order of their making.

    Runs that are not like the last one (another load, another engine, another machine) and those that the generator
    spoiled are left out and counted.
    """
    last = runs[-1] if runs else None
    steps: list[Step] = []
    left: dict[str, int] = {}
    for run in runs:
        why = "" if last is None else _left_out(run, last, metric)
        value = None
        if not why and metric == CAPACITY:
            value, why = run.capacity_per_s, "no limit found" if run.capacity_per_s is None else ""
        elif not why:
            value = run.quantile(endpoint, TIMES[metric], run.usable_stages)
            why = "too few samples" if value is None else ""
        if why:
            left[why] = left.get(why, 0) + 1
            continue
        commit = str((run.meta.get("git") or {}).get("commit") or "")
        steps.append(Step(run.id, run.started_at, commit, value, _note(run)))
    points = change_points([math.log(step.value or 1.0) for step in steps])
    commits = tuple((steps[point.at - 1].commit, steps[point.at].commit) for point in points)
    return Trend(endpoint or ALL, metric, tuple(steps), tuple(points), commits, tuple(sorted(left.items())))


def _left_out(run: RunFigures, last: RunFigures, metric: str) -> str:
    if run.validity == "invalid":
        return "invalid"
    if run.searched != last.searched or (run.searched and metric != CAPACITY):
        return "not a search for capacity" if last.searched and metric == CAPACITY else "a search for capacity"
    if run.meta.get("engine") != last.meta.get("engine"):
        return "sent by another engine"
    if machine_of(run.meta) != machine_of(last.meta):
        return "another machine"
    keys = ("model", "from", "to", "duration_ns")
    loads = [[tuple(s.get(key) for key in keys) for s in side.meta.get("stages") or ()] for side in (run, last)]
    if loads[0] != loads[1] and not run.searched:
        return "another load"
    if run.searched and run.meta.get("slo") != last.meta.get("slo"):
        return "a search with other objectives"
    return "" if run.usable_stages else "no stage was completed"


def _note(run: RunFigures) -> str:
    return "degraded" if run.validity == "degraded" else ""


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Of the logarithms of one figure of equal runs: its standard deviation, and that one's 95 % interval, roughly."""
    n = len(values)
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(0.975, n - 1.0) / math.sqrt(2.0 * (n - 1))
    return sd, sd / (1.0 + half), sd * (1.0 + half)
