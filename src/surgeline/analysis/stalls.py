"""Does everything stop at regular intervals?

A server that freezes makes slow all who are asking just then, and they get their answers together when it thaws. So
the requests that took much longer than their endpoint usually does are gathered by the moment they would have begun to
be served, end − usual time: those of one freeze fall on its end. The moments are then folded with every period from
under a second to a fifth of the run, and the one on which most of them agree is held against chance.

    moments    |..|...|..|...|..     period T, phase φ:  a moment is in step when |t − φ mod T| ≤ tolerance

What comes in are columns of rows; what leaves is a value or nothing.
"""

from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.distributions import binomial_at_least
from surgeline.analysis.model import PeriodicStall

Array = np.ndarray[Any, np.dtype[Any]]

SHORTEST_PERIOD_S = 0.8
FEWEST_CYCLES = 6
MOST_CHANCE = 1e-3
"""How likely chance alone may be to put this many moments in step, all periods that were tried counted."""
LEAST_EXCESS_NS = 40 * units.NS_PER_MS
"""What is less above the usual time is scheduling noise on a busy machine: taste, checked on the demo shop."""
FEWEST_IN_GROUP = 8
"""With fewer requests of an endpoint in a stage, its usual time is taken from all stages."""
MOST_TRIES = 4
"""Stages that are left out at most, the highest loads first, less one."""
LONGEST_GAP_NS = 150 * units.NS_PER_MS
"""Slow requests whose moments are closer than this belong to one episode."""


def find(
    stage: Array, endpoint: Array, names: list[str], intended_ns: Array, start_ns: Array, end_ns: Array
) -> PeriodicStall | None:
    """The regular stalls in the answered requests of a run, or None.

    The columns are of one length, `endpoint` holding positions in `names`. Looks at the whole run, then without its
    last stages one after the other: queues under the highest loads hide what the lower ones show.
    """
    if len(end_ns) < 50:
        return None
    usual = _usual_ns(stage, endpoint, end_ns - intended_ns)
    best: PeriodicStall | None = None
    stages = sorted(set(stage.tolist()), key=lambda s: int(intended_ns[stage == s].min()))
    for cut in range(len(stages), max(len(stages) - MOST_TRIES, 0), -1):
        kept = np.isin(stage, stages[:cut]) if cut < len(stages) else np.ones(len(stage), bool)
        span_s = float(end_ns[kept].max() - intended_ns[kept].min()) / units.NS_PER_S
        if span_s < FEWEST_CYCLES * SHORTEST_PERIOD_S:
            break
        found = _within(
            stage[kept], endpoint[kept], names, intended_ns[kept], start_ns[kept], end_ns[kept], usual[kept], span_s
        )
        if found is not None and (best is None or found.cycles_hit > best.cycles_hit):
            best = found
    return best


def _usual_ns(stage: Array, endpoint: Array, response_ns: Array) -> Array:
    """Each request's usual time, the median of its endpoint in its stage, plus how far from it is still usual."""
    usual = np.zeros(len(response_ns), dtype=np.int64)
    for name in np.unique(endpoint):
        mine = np.flatnonzero(endpoint == name)
        overall = np.median(response_ns[mine])
        for level in np.unique(stage[mine]):
            group = mine[stage[mine] == level]
            usual[group] = np.median(response_ns[group]) if len(group) >= FEWEST_IN_GROUP else overall
    return usual


def _slow(stage: Array, endpoint: Array, response_ns: Array, usual: Array) -> Array:
    """Which requests took much longer than usual: by more than the usual time, and than four times the usual spread."""
    excess = response_ns - usual
    limit = np.maximum(LEAST_EXCESS_NS, usual)
    for name in np.unique(endpoint):
        for level in np.unique(stage[endpoint == name]):
            group = np.flatnonzero((endpoint == name) & (stage == level))
            spread = float(np.quantile(response_ns[group], 0.75)) - float(np.quantile(response_ns[group], 0.25))
            # One in four hit already widens the upper quartile: the lower half of the spread is the safer measure.
            lower = 2.0 * (float(np.quantile(response_ns[group], 0.5)) - float(np.quantile(response_ns[group], 0.25)))
            limit[group] = np.maximum(limit[group], 3.0 * min(spread, lower))
    return np.asarray(excess > limit)


def _within(
    stage: Array,
    endpoint: Array,
    names: list[str],
    intended_ns: Array,
    start_ns: Array,
    end_ns: Array,
    usual: Array,
    span_s: float,
) -> PeriodicStall | None:
    response = end_ns - intended_ns
    slow = np.flatnonzero(_slow(stage, endpoint, response, usual))
    if len(slow) < FEWEST_CYCLES:
        return None
    excess = response[slow] - usual[slow]
    if float(np.median(start_ns[slow] - intended_ns[slow])) > 0.5 * float(np.median(excess)):
        return None  # The generator was late by as much: it stalled, not the server.
    thaw = end_ns[slow] - usual[slow]
    order = np.argsort(thaw, kind="stable")
    slow, excess, thaw = slow[order], excess[order], thaw[order]
    episode = np.concatenate(([0], np.cumsum(np.diff(thaw) > LONGEST_GAP_NS)))
    strength = np.bincount(episode, weights=excess)
    last = np.searchsorted(episode, np.arange(len(strength)), side="right") - 1
    # The end of a freeze is where most of its requests fall; the median is safe against one that came late.
    moment = np.array([np.median(part) for part in np.split(thaw, last[:-1] + 1)])
    strong = _strong(strength, stage[slow[last]])
    if int(strong.sum()) < FEWEST_CYCLES:
        return None
    at_s = moment[strong] / units.NS_PER_S
    period_s, phase_s, in_step = _best_period(at_s, span_s)
    if period_s == 0.0:
        return None
    tolerance = _tolerance(period_s)
    hit = np.unique(np.round((at_s[in_step] - phase_s) / period_s).astype(int))
    cycles = int(hit[-1] - hit[0]) + 1 if len(hit) else 0
    if len(hit) < FEWEST_CYCLES or len(hit) < 0.7 * cycles or cycles * period_s < 0.5 * span_s:
        return None
    tried = max(span_s / SHORTEST_PERIOD_S, 1.0)
    chance = min(1.0, tried * binomial_at_least(len(hit), len(at_s), min(2.0 * tolerance / period_s, 1.0)))
    if chance > MOST_CHANCE or int(in_step.sum()) < 0.4 * len(at_s):
        return None
    return _describe(
        np.flatnonzero(strong)[in_step], episode, slow, excess, moment, endpoint, names, intended_ns, end_ns,
        (period_s, cycles, len(hit), chance),
    )  # fmt: skip


def _strong(strength: Array, stage: Array) -> Array:
    """The episodes that cost at least a third of what a bad one of their stage costs: the rest are lone outliers."""
    strong = np.zeros(len(strength), bool)
    for level in np.unique(stage):
        mine = stage == level
        strong[mine] = strength[mine] >= 0.3 * np.quantile(strength[mine], 0.8)
    return strong


def _tolerance(period_s: float) -> float:
    return min(max(0.04 * period_s, 0.08), 0.12 * period_s)


def _best_period(at_s: Array, span_s: float) -> tuple[float, float, Array]:
    """The period on which most moments agree, its phase, and which moments are in step; period 0 where there is none.

    Frequencies are a tenth of 1/span apart, so that no true period lies further from a tried one than a twentieth of a
    cycle over the whole run. Of a period and its fractions, which agree as well, the longest is meant.
    """
    frequencies = np.arange((FEWEST_CYCLES - 1) / span_s, 1.0 / SHORTEST_PERIOD_S, 0.1 / span_s)
    if not len(frequencies):
        return 0.0, 0.0, np.zeros(len(at_s), bool)
    phases = np.exp(2j * np.pi * np.outer(frequencies, at_s))
    agreement = np.abs(phases.sum(axis=1)) / len(at_s)
    top = float(agreement.max())
    best = int(np.flatnonzero(agreement >= 0.93 * top)[0])
    near = slice(best, min(best + 12, len(agreement)))
    best += int(np.argmax(agreement[near]))
    period_s = 1.0 / float(frequencies[best])
    phase_s = float(np.angle(phases[best].sum())) / (2.0 * np.pi) * period_s
    for _ in range(3):
        cycle = np.round((at_s - phase_s) / period_s)
        off = at_s - phase_s - cycle * period_s
        in_step = np.abs(off) <= _tolerance(period_s)
        if int(in_step.sum()) < FEWEST_CYCLES or np.ptp(cycle[in_step]) == 0:
            break
        slope, phase_s = (float(v) for v in np.polyfit(cycle[in_step], at_s[in_step], 1))
        period_s = slope
    return period_s, phase_s, in_step


def _describe(
    chosen: Array, episode: Array, slow: Array, excess: Array, moment: Array, endpoint: Array, names: list[str],
    intended_ns: Array, end_ns: Array, figures: tuple[float, int, int, float],
) -> PeriodicStall:  # fmt: skip
    period_s, cycles, cycles_hit, chance = figures
    mine = np.isin(episode, chosen)
    worst = [int(excess[episode == number].max()) for number in chosen.tolist()]
    first_ns, last_ns = int(moment[chosen].min()), int(moment[chosen].max())
    around = (intended_ns >= first_ns - period_s * units.NS_PER_S) & (end_ns <= last_ns + period_s * units.NS_PER_S)
    hit = np.bincount(endpoint[slow[mine]], minlength=len(names))
    ranked = [names[i] for i in np.argsort(-hit, kind="stable").tolist() if hit[i]]
    return PeriodicStall(
        period_ns=round(period_s * units.NS_PER_S),
        duration_ns=int(np.median(worst)),
        cycles=cycles,
        cycles_hit=cycles_hit,
        first_ns=first_ns,
        last_ns=last_ns,
        requests=int(mine.sum()),
        share=float(mine.sum()) / max(int(around.sum()), 1),
        lost_ns=int(excess[mine].sum()),
        endpoints=tuple(ranked),
        endpoints_seen=len(np.unique(endpoint)),
        chance=chance,
    )
