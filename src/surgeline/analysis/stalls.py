"""Does everything stop at regular intervals?

A server that freezes makes slow all who are asking just then, and they get their answers together when it thaws. So
the requests that took much longer than their endpoint usually does are gathered by the moment they would have begun to
be served, end − usual time: those of one freeze fall on its end. The moments are then folded with every period from
under a second to a fifth of the run, and the one on which most of them agree is held against chance.

    moments    |..|...|..|...|..     period T, phase φ:  a moment is in step when |t − φ mod T| ≤ tolerance

What comes in are columns of rows; what leaves is a value or nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.distributions import binomial_at_least
from surgeline.analysis.model import PeriodicStall

Array = np.ndarray[Any, np.dtype[Any]]

SHORTEST_PERIOD_S = 0.8
FEWEST_CYCLES = 6
MOST_MOMENTS = 400
LONGEST_SPAN_NS = 600 * units.NS_PER_S
"""Of a longer run the first ten minutes are folded: what runs by the clock runs in them too."""
PARTS = 25
MOST_CANDIDATES = 60
"""Periods that are looked at closely."""
MOST_CHANCE = 1e-3
"""How likely chance alone may be to put this many moments in step, all periods that were tried counted."""
LEAST_EXCESS_NS = 40 * units.NS_PER_MS
"""What is less above the usual time is scheduling noise on a busy machine: taste, checked on the demo shop."""
VARIES = 2.0
"""What is within this many times the upper quartile's distance from the median is how the endpoint varies."""
FEWEST_IN_GROUP = 8
"""With fewer requests of an endpoint in a stage, its usual time is taken from all stages."""
MOST_TRIES = 4
"""Stages that are left out at most, the highest loads first, less one."""
FEWEST_REQUESTS = 50
LONGEST_GAP_NS = 150 * units.NS_PER_MS
"""Slow requests whose moments are closer than this belong to one episode."""


def find(
    stage: Array, endpoint: Array, names: list[str], intended_ns: Array, start_ns: Array, end_ns: Array
) -> PeriodicStall | None:
    """The regular stalls in the answered requests of a run, or None.

    The columns are of one length, `endpoint` holding positions in `names`. Looks at the whole run, then without its
    last stages one after the other: queues under the highest loads hide what the lower ones show.
    """
    early = intended_ns < LONGEST_SPAN_NS
    if not early.all():
        stage, endpoint = stage[early], endpoint[early]
        intended_ns, start_ns, end_ns = intended_ns[early], start_ns[early], end_ns[early]
    if len(end_ns) < FEWEST_REQUESTS:
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
        if found is not None and (best is None or _luck(found) < _luck(best)):
            best = found
    return best


def _luck(stall: PeriodicStall) -> float:
    """What two findings of the same moments are told apart by: chance, ten times as likely for each empty cycle."""
    return stall.chance * 10.0 ** (stall.cycles - stall.cycles_hit)


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
    """Which requests took much longer than usual: by more than the usual time, and than their endpoint often varies.

    The upper quartile is out of reach of stalls that hit less than a quarter of the requests; an endpoint that is slow
    for every third request anyway has its slowness in it.
    """
    excess = response_ns - usual
    limit = np.maximum(LEAST_EXCESS_NS, usual)
    for name in np.unique(endpoint):
        mine = endpoint == name
        for level in np.unique(stage[mine]):
            group = np.flatnonzero(mine & (stage == level))
            if len(group) < FEWEST_IN_GROUP:
                group_of = np.flatnonzero(mine)
            else:
                group_of = group
            limit[group] = np.maximum(limit[group], VARIES * max(float(np.quantile(excess[group_of], 0.75)), 0.0))
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
    hit_endpoints = np.array([len(np.unique(part)) for part in np.split(endpoint[slow], last[:-1] + 1)])
    best: PeriodicStall | None = None
    for strong in (
        _strong(strength, stage[slow[last]], 0.8, 0.3),
        # What hits everybody stands out of what is slow by itself, however often that is.
        _strong(strength * hit_endpoints, stage[slow[last]], 1.0, 0.2),
    ):
        found = _in_step(strong, moment, span_s)
        if found is None:
            continue
        in_step, figures = found
        stall = _describe(
            np.flatnonzero(strong)[in_step],
            episode,
            slow,
            excess,
            moment,
            endpoint,
            names,
            intended_ns,
            end_ns,
            figures,
        )
        if best is None or _luck(stall) < _luck(best):
            best = stall
    return best


def _in_step(strong: Array, moment: Array, span_s: float) -> tuple[Array, tuple[float, int, int, float]] | None:
    """Which of the strong moments are in step with one period, and period (s), cycles, cycles hit and chance.

    Of all the periods on which many moments agree, the one that chance explains least, where each cycle without a
    stall makes it ten times as likely: a fraction of the true period agrees as well, but half of its cycles are empty.
    """
    at_s = moment[strong] / units.NS_PER_S
    if len(at_s) > MOST_MOMENTS:
        return None  # Almost everything is slow almost always: a period would mean nothing.
    if len(at_s) < FEWEST_CYCLES:
        return None
    best: tuple[Array, tuple[float, int, int, float]] | None = None
    least = math.inf
    # Independent periods that were tried, in each of two selections of moments.
    tried = 2.0 * max(span_s / SHORTEST_PERIOD_S, 1.0)
    for period_s, phase_s in _candidates(at_s, span_s):
        period_s, phase_s, in_step = _refined(at_s, period_s, phase_s)
        hit = np.unique(np.round((at_s[in_step] - phase_s) / period_s).astype(int))
        cycles = int(hit[-1] - hit[0]) + 1 if len(hit) else 0
        if len(hit) < FEWEST_CYCLES or len(hit) < 0.7 * cycles or cycles * period_s < 0.5 * span_s:
            continue
        chance = tried * binomial_at_least(len(hit), len(at_s), min(2.0 * _tolerance(period_s) / period_s, 1.0))
        if chance > MOST_CHANCE or int(in_step.sum()) < 0.4 * len(at_s):
            continue
        score = chance * 10.0 ** (cycles - len(hit))
        if score < least:
            least, best = score, (in_step, (period_s, cycles, len(hit), chance))
    return best


def _strong(strength: Array, stage: Array, quantile: float, share: float) -> Array:
    """The episodes of at least a share of the strength of a bad one of their stage: the rest are lone outliers."""
    strong = np.zeros(len(strength), bool)
    for level in np.unique(stage):
        mine = stage == level
        strong[mine] = strength[mine] >= share * np.quantile(strength[mine], quantile)
    return strong


def _tolerance(period_s: float) -> float:
    return min(max(0.04 * period_s, 0.08), 0.12 * period_s)


def _candidates(at_s: Array, span_s: float) -> list[tuple[float, float]]:
    """The periods with which the most moments are in step, compared with chance, and their phases, s; the best first.

    For each period the moments are folded into 25 parts of it, and the fullest three in a row are found. Frequencies
    lie so close that a true period between two of them drifts by no more than such a part over the whole run.
    """
    frequencies = np.arange((FEWEST_CYCLES - 1) / span_s, 1.0 / SHORTEST_PERIOD_S, 0.05 / span_s)
    if not len(frequencies):
        return []
    folded = np.outer(frequencies, at_s) % 1.0
    part = np.minimum((folded * PARTS).astype(np.int64), PARTS - 1) + PARTS * np.arange(len(frequencies))[:, None]
    counts = np.bincount(part.ravel(), minlength=PARTS * len(frequencies)).reshape(-1, PARTS)
    in_a_row = counts + np.roll(counts, -1, axis=1) + np.roll(counts, -2, axis=1)
    fullest = in_a_row.argmax(axis=1)
    most = in_a_row[np.arange(len(frequencies)), fullest]
    surprise = np.where(most > 3.0 / PARTS * len(at_s), most, 0)
    padded = np.concatenate(([0], surprise, [0]))
    peaks = np.flatnonzero((surprise > 0) & (surprise >= padded[:-2]) & (surprise >= padded[2:]))
    peaks = peaks[np.argsort(-surprise[peaks], kind="stable")][:MOST_CANDIDATES]
    middle = (fullest[peaks] + 1.5) / PARTS
    return [(1.0 / f, float(m) / f) for f, m in zip(frequencies[peaks].tolist(), middle, strict=True)]


def _refined(at_s: Array, period_s: float, phase_s: float) -> tuple[float, float, Array]:
    """The period and phase that fit the moments in step best, and which those are."""
    in_step = np.zeros(len(at_s), bool)
    for _ in range(3):
        cycle = np.round((at_s - phase_s) / period_s)
        in_step = np.abs(at_s - phase_s - cycle * period_s) <= _tolerance(period_s)
        if int(in_step.sum()) < FEWEST_CYCLES or np.ptp(cycle[in_step]) == 0:
            break
        slope, offset = (float(value) for value in np.polyfit(cycle[in_step], at_s[in_step], 1))
        if abs(slope / period_s - 1.0) > 0.02:
            break
        period_s, phase_s = slope, offset
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


# --- regular gaps ----------------------------------------------------------------------------------------------------

IN_STEP = 0.02
"""How far from its moment, as a share of the period, a gap may end."""
MOST_GAPS = 200


def regular(ends_ns: Sequence[int], lasted_ns: Sequence[int], least_ns: int, most_ns: int) -> tuple[int, ...] | None:
    """Period, first and last end, cycles, cycles hit, and the middle length of gaps in which nothing was answered.

    For runs in which single slow requests tell nothing, because queues make all of them slow: the gaps themselves keep
    time. None where fewer than six of them, or of their cycles less than 70 %, or less than 60 % of all gaps are in
    step; chance alone does that less than once in a thousand over the periods tried (a gap is in step by chance with
    a probability of four in a hundred).
    """
    ends = np.sort(np.asarray(ends_ns[:MOST_GAPS], dtype=float))
    if len(ends) < FEWEST_IN_STEP:
        return None
    distances = {float(b - a) for i, a in enumerate(ends) for b in ends[i + 1 : i + 4]}
    best: tuple[int, float, Array] | None = None
    for period in sorted(distance for distance in distances if least_ns <= distance <= most_ns):
        for anchor in ends:
            off = (ends - anchor + period / 2) % period - period / 2
            hit = ends[np.abs(off) <= IN_STEP * period]
            if best is None or (len(hit), period) > (best[0], best[1]):
                best = (len(hit), period, hit)
    if best is None:
        return None
    count, period, hit = best
    number = np.round((hit - hit[0]) / period)
    if count >= FEWEST_IN_STEP and number[-1] > 0:
        period = float(np.polyfit(number, hit, 1)[0])
    cycles, cycles_hit = int(number[-1]) + 1, len(set(number.tolist()))
    if cycles_hit < FEWEST_IN_STEP or cycles_hit < 0.7 * cycles or count < 0.6 * len(ends):
        return None
    inside = set(hit.tolist())
    lengths = [length for end, length in zip(ends_ns, lasted_ns, strict=True) if float(end) in inside]
    return (
        round(period),
        round(float(hit[0])),
        round(float(hit[-1])),
        cycles,
        cycles_hit,
        round(float(np.median(lengths))),
    )


FEWEST_IN_STEP = 6
