"""How large is a change, how sure is it, and what may be said of it?

What comes in are figures of whole runs, one number a run; what leaves is an effect with its interval and a word. The
run is the unit: requests of one run share its luck, so counting them as independent finds a change in most pairs of
equal runs. Figures that are compared by their ratio come in as logarithms, so that swapping the sides flips the sign.

    separate runs   d = mean(c) - mean(b)      se² = s_b²/n_b + s_c²/n_c       df by Welch and Satterthwaite
    paired blocks   d = mean(c_i - b_i)        se² = s_d²/n                    df = n - 1
    one run a side  d = c - b                  se² = 2 τ² (+ within the runs)  df of how τ was learned

With δ the change that matters and p one-sided:

    regressed     p(d > 0) < 1 %  and  d ≥ δ/2            improved  the mirror image
    unchanged     the 90 % interval lies within ±δ        inconclusive  everything else

The floor is δ/2 and not δ, because a change of exactly δ would then be found half of the time only. Variances are not
shared between endpoints: the luck of a run is, and pooling them would count it many times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgeline.analysis.distributions import normal_quantile, t_quantile, t_tail

Word = Literal["improved", "regressed", "unchanged", "inconclusive"]

WORD_LEVEL = 0.01
"""One-sided, of *regressed* and *improved*."""
UNCHANGED_CONFIDENCE = 0.90
GATE_LEVEL = 0.05
"""One-sided, over everything the gate looks at together (Holm)."""
TABLE_RATE = 0.05
"""The share of false words among those of a table that is tolerated (Benjamini and Hochberg)."""
POWER = 0.8
MOST_RUNS = 999
"""More runs than this are not suggested to anybody."""
RESOLUTION = 1.0 / 1024.0
"""Relative width of the buckets that figures are read from."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A change `d` (positive: the candidate has more), its standard error `se` ≥ 0, and the degrees of freedom `df`.

    `base_runs` and `candidate_runs` ≥ 1 are what it rests on; `paired` says that they were compared block by block.
    `se` 0 is certainty: both sides are the same runs.
    """

    d: float
    se: float
    df: float
    base_runs: int
    candidate_runs: int
    paired: bool = False

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The two-sided interval."""
        half = t_quantile(0.5 + confidence / 2.0, self.df) * self.se if self.se > 0 else 0.0
        return self.d - half, self.d + half

    def p_above(self, limit: float = 0.0) -> float:
        """How likely luck alone puts `d` this far above `limit`; one-sided."""
        if self.se <= 0.0:
            return 0.0 if self.d > limit else 1.0
        return t_tail((self.d - limit) / self.se, self.df)

    def p_below(self, limit: float = 0.0) -> float:
        """The mirror image of `p_above`."""
        return Effect(-self.d, self.se, self.df, self.base_runs, self.candidate_runs).p_above(-limit)

    @property
    def p_two_sided(self) -> float:
        """That there is no change."""
        return min(1.0, 2.0 * min(self.p_above(), self.p_below()))

    def within(self, delta: float, confidence: float = UNCHANGED_CONFIDENCE) -> bool:
        """Whether the interval lies within ±delta."""
        level = (1.0 - confidence) / 2.0
        return self.p_above(-delta) <= level and self.p_below(delta) <= level


def separate(base: Sequence[float], candidate: Sequence[float], resolution: float = 0.0) -> Effect:
    """Two independent sets of runs, at least two in each (Welch).

    `resolution` is the width of the steps that the values come in: values that all fell into one step still differ by
    that much.
    """
    n, m = len(base), len(candidate)
    parts = [_variance(side, resolution) / len(side) for side in (base, candidate)]
    total = sum(parts)
    df = total**2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1)) if total > 0.0 else n + m - 2.0
    return Effect(_mean(candidate) - _mean(base), math.sqrt(total), df, n, m)


def paired(base: Sequence[float], candidate: Sequence[float], resolution: float = 0.0) -> Effect:
    """Blocks of two runs each, at least two of them; `base[i]` and `candidate[i]` ran side by side."""
    differences = [after - before for before, after in zip(base, candidate, strict=True)]
    n = len(differences)
    variance = _variance(differences, resolution * math.sqrt(2.0))
    return Effect(_mean(differences), math.sqrt(variance / n), n - 1.0, n, n, paired=True)


def same(n: int) -> Effect:
    """The same `n` runs on both sides."""
    return Effect(0.0, 0.0, max(n - 1.0, 1.0), n, n, paired=True)


def with_noise(
    base: Sequence[float], candidate: Sequence[float], noise: float, df: float, within: Sequence[float] = ()
) -> Effect:
    """Sets of runs of which one is a single run: what runs differ by is not measured here but known from elsewhere.

    `noise` is the standard deviation from run to run, learned with `df` degrees of freedom; `within` are the standard
    errors of the figures within their runs, where the noise does not hold them already.
    """
    spread = noise * noise * (1.0 / len(base) + 1.0 / len(candidate))
    se = math.sqrt(spread + sum(error * error for error in within))
    return Effect(_mean(candidate) - _mean(base), se, df, len(base), len(candidate))


def word_of(effect: Effect, delta: float, level: float = WORD_LEVEL) -> Word:
    """What may be said of a change where up is worse; `delta` > 0 is the change that matters, in the effect's unit."""
    floor = delta / 2.0
    if effect.d >= floor and effect.p_above() < level:
        return "regressed"
    if -effect.d >= floor and effect.p_below() < level:
        return "improved"
    return "unchanged" if effect.within(delta) else "inconclusive"


def runs_needed(effect: Effect, delta: float, power: float = POWER) -> int:
    """How many separate runs a side would tell a change of `delta` from none, 8 times in 10.

    The smallest n with (t + z) s √(2/n) ≤ δ, s being the noise of one run as these runs show it; so a rough number,
    never fewer than there are, and MOST_RUNS where that many would not do.
    """
    k = 2.0 / (1.0 / effect.base_runs + 1.0 / effect.candidate_runs)
    at_once = effect.se * math.sqrt(k)
    fewest = math.ceil(k)
    if at_once <= 0.0:
        return fewest

    def tells(n: int) -> bool:
        # Two degrees of freedom less than there are pay for a spread that has to be guessed as well (simulated).
        quantile = t_quantile(1.0 - WORD_LEVEL, max(2.0 * n - 4.0, 1.0)) + normal_quantile(power)
        return quantile * at_once / math.sqrt(n) <= delta

    low, high = max(fewest, 2), MOST_RUNS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle + 1, high)
    return low


def detectable(effect: Effect, power: float = 0.9) -> float:
    """The smallest change that would get a word with this `power`, in the effect's unit."""
    return (t_quantile(1.0 - WORD_LEVEL, effect.df) + normal_quantile(power)) * effect.se


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted so that comparing each with α keeps *any* false alarm below α, whatever they share."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, least = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted so that comparing each with q keeps the *share* of false alarms among all below q."""
    count = len(p_values)
    order = sorted(range(count), key=lambda i: -p_values[i])
    adjusted, most = [1.0] * count, 1.0
    for rank, i in enumerate(order):
        most = min(most, count / (count - rank) * p_values[i])
        adjusted[i] = most
    return adjusted


def hodges_lehmann(base: Sequence[float], candidate: Sequence[float], in_pairs: bool = False) -> float:
    """The change that one wild run cannot move: the median of pairwise differences (of Walsh averages, in pairs)."""
    if in_pairs:
        d = [after - before for before, after in zip(base, candidate, strict=True)]
        return _median([(d[i] + d[j]) / 2.0 for i in range(len(d)) for j in range(i, len(d))])
    return _median([after - before for before in base for after in candidate])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float], resolution: float) -> float:
    mean = _mean(values)
    found = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return max(found, resolution * resolution / 12.0)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0
