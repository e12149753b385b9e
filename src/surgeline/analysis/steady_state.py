"""How much of a stage's beginning does not look like the rest of it?

Caches fill, pools open, code is compiled: the first seconds of a stage are often slower. The beginning is found by MSER
(White 1997) on the log of the per-second median, and believed only where it differs from the rest by more than chance.
What is found is shown, never cut.
"""

from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.book import Book
from surgeline.analysis.distributions import t_quantile
from surgeline.analysis.model import StageFigures
from surgeline.analysis.pooled import quantiles_by_second

Array = np.ndarray[Any, np.dtype[Any]]

BATCH_S = 2
SHORTEST_S = 20
"""A shorter stage has too few batches to tell a beginning from chance."""
MOST_CUT = 1 / 3
LEAST_DIFFERENCE = 0.01
FEWEST_PER_SECOND = 5
LEAST_UNSTEADY = 0.03
"""Halves that differ by less are steady for all that matters."""


def warm_up_s(book: Book, stage: StageFigures) -> float | None:
    """The length of the beginning that differs; 0 where none does, None where the stage is too short or too sparse.

    Only flat stages have a beginning to look for: in a ramp everything differs from what follows.
    """
    series = _series(book, stage)
    return None if series is None else float(beginning(series) * BATCH_S)


def steady(book: Book, stage: StageFigures) -> bool | None:
    """Whether a flat stage came to a steady state after its beginning; None where that cannot be told."""
    series = _series(book, stage)
    return None if series is None else settled(series)


def _series(book: Book, stage: StageFigures) -> Array | None:
    """The log median of each whole second of a flat stage."""
    if stage.duration_s < SHORTEST_S or stage.start != stage.end:
        return None
    first = -(-stage.begin_ns // units.NS_PER_S)
    last = stage.end_ns // units.NS_PER_S
    columns = book.ok(stage.index, None)
    if len(columns.slot) == 0 or int(columns.number.sum()) < FEWEST_PER_SECOND * (last - first):
        return None
    medians = quantiles_by_second(columns, (0.5,))
    series = np.array([float(np.log(max(medians[s][0], 1))) for s in range(first, last) if s in medians])
    return None if len(series) < 0.8 * (last - first) else series


def settled(series: Array) -> bool:
    """Whether the halves of what follows the beginning agree: within 3 %, or within chance at 99 %.

    Chance is corrected for what autocorrelation is left between batches, which short series hide.
    """
    rest = series[beginning(series) * BATCH_S :]
    count = len(rest) // BATCH_S
    batches = rest[: count * BATCH_S].reshape(count, BATCH_S).mean(axis=1)
    if count < 6:
        return True
    first, second = batches[: count // 2], batches[count // 2 :]
    off = float(np.median(second) - np.median(first))
    residual = np.concatenate((first - first.mean(), second - second.mean()))
    power = float((residual**2).sum())
    acf = float((residual[:-1] * residual[1:]).sum()) / power if power > 0 else 0.0
    r = min(max((count * acf + 1.0) / max(count - 4.0, 1.0), 0.0), 0.9)
    variance = power / max(count - 2, 1) * (1.0 + r) / (1.0 - r)
    # A median scatters by 1.2533 times what a mean does; the t quantile allows for few batches.
    se = 1.2533 * (variance * (1.0 / len(first) + 1.0 / len(second))) ** 0.5
    df = float(max(round(count * (1 - r) / (1 + r)) - 2, 3))
    return bool(abs(off) <= max(LEAST_UNSTEADY, t_quantile(0.995, df) * se))


def beginning(series: Array) -> int:
    """How many batches of BATCH_S values at the beginning differ from the rest; 0 where none do."""
    half = series[len(series) // 2 :]
    centre = float(np.median(half))
    spread = 1.4826 * float(np.median(np.abs(half - centre)))
    # A lone spike is no beginning, nor may it hide one.
    clipped = np.minimum(series, np.maximum(centre + 3.0 * spread, _neighbour_minimum(series)))
    count = len(clipped) // BATCH_S
    batches = clipped[: count * BATCH_S].reshape(count, BATCH_S).mean(axis=1)
    costs = [
        float(((batches[cut:] - batches[cut:].mean()) ** 2).sum()) / (count - cut) ** 2
        for cut in range(int(count * MOST_CUT) + 1)
    ]
    cut = int(np.argmin(costs))
    if cut == 0:
        return 0
    rest, begin = batches[cut:], batches[:cut]
    error = float(rest.std(ddof=1)) * (1.0 / len(rest) + 1.0 / len(begin)) ** 0.5
    return cut if abs(float(begin.mean() - rest.mean())) > max(LEAST_DIFFERENCE, 3.0 * error) else 0


def _neighbour_minimum(series: Array) -> Array:
    """The lower of each value's neighbours: what a spike of one value stands between."""
    before = np.concatenate((series[1:2], series[:-1]))
    after = np.concatenate((series[1:], series[-2:-1]))
    return np.asarray(np.minimum(before, after))
