"""How much longer an endpoint takes under heavy load than under light.

Light are the stages of the lowest loads, as many as it takes to have enough requests; heavy is the stage of the highest
load. Between the two, the response time at one quantile is compared: p95 where both sides have enough for it, else the
median. Both sides come from one run, so requests of one side share their luck: until a stage is long enough to tell how
much, each is taken to be worth a quarter of its number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from surgeline.analysis.capacity import ladder, load_of
from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import EndpointFigures, Estimate, StageFigures, Summary
from surgeline.samples import Histogram

FEWEST = 30
"""Requests on each side; taste, checked on the demo shop: below it a median of one lucky user passes for a fact."""
SHARED_LUCK = 4.0
SIDE_Z = 1.82
"""Two intervals of this many standard errors that do not touch differ at 99 %: 2.576 / √2."""
Z_95 = 1.96
RISES = 1.5
"""A stage has risen when its quantile is this much above the light one."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One endpoint (None: all together) under light and heavy load.

    `ratio` is heavy over light, `least` and `most` its bounds at 99 %. `risen` are the stages from the first one on
    that lies, with all after it, above RISES times the light time. `lost_s` is what waiting longer than under light
    load summed up to, over all stages. `load_ratio` is the heavy load over the highest of the light ones.
    """

    endpoint: str | None
    quantile: float
    light: tuple[StageFigures, ...]
    heavy: StageFigures
    light_ns: float
    heavy_ns: float
    ratio: float
    least: float
    most: float
    risen: tuple[StageFigures, ...]
    lost_s: float
    load_ratio: float
    n: int
    light_time: Estimate
    """`light_ns` with its 95 % interval; of several stages together from how much each of their requests is worth."""
    heavy_time: Estimate

    @property
    def label(self) -> str:
        """`p95` or `median`."""
        return "median" if self.quantile == 0.5 else f"p{self.quantile * 100:g}"

    def evidence(self, summary: Summary) -> tuple[dict[str, object], ...]:
        """One row per stage, by load."""
        rows: list[dict[str, object]] = []
        for stage in usable(summary):
            figures = of(stage, self.endpoint)
            if figures is not None and figures.response.histogram.count:
                rows.append(
                    {
                        "stage": stage.index,
                        "load": load_of(stage),
                        "n": figures.response.histogram.count,
                        "p50_ns": figures.response.histogram.quantile(0.5),
                        "p95_ns": figures.response.histogram.quantile(0.95),
                        "throughput_per_s": figures.throughput_per_s,
                    }
                )
        return tuple(rows)


def usable(summary: Summary) -> list[StageFigures]:
    """Stages that tell what the server does under their load, by load.

    What a search only drains queues with does not, nor what carries a heavier load's queue, nor ramps where a stage of
    one load is as high.
    """
    stages = [stage for stage in summary.stages if stage.validity != "invalid" and stage.role != "settle"]
    return ladder(stages)


def of(stage: StageFigures, endpoint: str | None) -> EndpointFigures | None:
    """The stage's figures of an endpoint, of all together for None; None where it was not due."""
    if endpoint is None:
        return stage.total
    return next((figures for figures in stage.endpoints if figures.name == endpoint), None)


def growth(summary: Summary, endpoint: str | None) -> Growth | None:
    """How the endpoint's times grow with load; None where two loads with enough requests are missing."""
    stages = [(stage, of(stage, endpoint)) for stage in usable(summary)]
    held = [(stage, figures.response.histogram) for stage, figures in stages if figures is not None]
    heavy = next(((stage, hist) for stage, hist in reversed(held) if hist.count >= FEWEST), None)
    if heavy is None:
        return None
    light, pooled = _light(held, heavy[0])
    if pooled.count < FEWEST:
        return None
    q = 0.95 if min(pooled.count, heavy[1].count) >= fewest_for_quantile(0.95) else 0.5
    light_low, light_ns, light_high = _bounds(pooled, q, _worth(light, pooled.count))
    heavy_low, heavy_ns, heavy_high = _bounds(heavy[1], q, _worth([heavy[0]], heavy[1].count))
    mean = pooled.mean_ns or 0.0
    lost = sum(max((hist.mean_ns or 0.0) - mean, 0.0) * hist.count for stage, hist in held if stage not in light)
    return Growth(
        endpoint=endpoint,
        quantile=q,
        light=tuple(light),
        heavy=heavy[0],
        light_ns=light_ns,
        heavy_ns=heavy_ns,
        ratio=heavy_ns / light_ns,
        least=heavy_low / light_high,
        most=heavy_high / light_low,
        risen=_risen([(stage, hist) for stage, hist in held if stage not in light], q, light_ns),
        lost_s=lost / 1e9,
        load_ratio=load_of(heavy[0]) / max(load_of(light[-1]), 1e-9),
        n=pooled.count + heavy[1].count,
        light_time=time_of(light, endpoint, pooled, q),
        heavy_time=time_of([heavy[0]], endpoint, heavy[1], q),
    )


def time_of(stages: Sequence[StageFigures], endpoint: str | None, pooled: Histogram, q: float) -> Estimate:
    """The quantile of an endpoint's (None: everybody's) answers in those stages, with its interval; `pooled` has them.

    That of a single stage is known already. Of several it is read from the number that their requests are worth, where
    all stages were long enough to tell; else there is none.
    """
    value = float(pooled.quantile(q) or 0)
    figures = of(stages[0], endpoint) if len(stages) == 1 else None
    if figures is not None:
        known = figures.response.quantiles[q]
        return replace(known, value=value) if known.value is None else known
    worth = _measured_worth(stages, pooled.count, q)
    if worth is None:
        return Estimate(value, n=pooled.count, why_not="stages too short for an interval", brief="too short")
    low, _, high = _bounds(pooled, q, worth, Z_95)
    return Estimate(value, low, high, pooled.count, worth)


def _light(held: Sequence[tuple[StageFigures, Histogram]], heavy: StageFigures) -> tuple[list[StageFigures], Histogram]:
    """The lowest loads, until there are enough requests for p95, none of them above half of the heavy load."""
    light: list[StageFigures] = []
    pooled = Histogram()
    for stage, histogram in held:
        if load_of(stage) * 2 > load_of(heavy) or pooled.count >= fewest_for_quantile(0.95):
            break
        light.append(stage)
        pooled.merge(histogram)
    return light, pooled


def _worth(stages: Sequence[StageFigures], count: int) -> float:
    """How many independent requests they are worth; where that was not measured, each a quarter."""
    measured = _measured_worth(stages, count)
    return count / SHARED_LUCK if measured is None else measured


def _measured_worth(stages: Sequence[StageFigures], count: int, q: float = 0.95) -> float | None:
    """How many independent requests they are worth at a quantile; None where a stage was too short to tell."""
    worth = [
        (figures.n_eff, figures.n)
        for figures in (stage.total.response.quantiles[q] for stage in stages)
        if figures.n_eff and figures.n
    ]
    if len(worth) == len(stages):
        return count * sum(n_eff for n_eff, _ in worth) / sum(n for _, n in worth)
    return None


def _bounds(histogram: Histogram, q: float, worth: float, z: float = SIDE_Z) -> tuple[float, float, float]:
    """The quantile between the values z standard errors of its rank below and above; never zero."""
    spread = z * math.sqrt(q * (1.0 - q) / max(worth, 1.0))
    ranks = (max(q - spread, 0.0), q, min(q + spread, 1.0))
    low, middle, high = (max(float(histogram.quantile(rank) or 1), 1.0) for rank in ranks)
    return low, middle, high


def _risen(later: Sequence[tuple[StageFigures, Histogram]], q: float, light_ns: float) -> tuple[StageFigures, ...]:
    risen: list[StageFigures] = []
    for stage, histogram in reversed(later):
        if histogram.count < FEWEST:
            continue
        if (histogram.quantile(q) or 0) < RISES * light_ns:
            break
        risen.append(stage)
    return tuple(reversed(risen))
