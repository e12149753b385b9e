"""Do 95 % intervals of percentiles hold what they promise? Measured on series whose percentiles are known.

    python scripts/campaigns/intervals.py             the whole campaign, some minutes; writes the page
    python scripts/campaigns/intervals.py --short     a tenth of it, to standard output

Each run is simulated request by request and goes through the histograms and the function that a page's intervals come
from. Truth is the percentile of two million requests of the same kind. Seeds are fixed: the page comes out the same.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgeline.analysis.pooled import Columns
from surgeline.samples import HISTOGRAM_HALF

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "intervals.md"
QUANTILES = (0.5, 0.9, 0.95, 0.99)
LENGTHS = ((60, 200), (180, 200), (20, 1000))
"""Seconds and requests per second; the last is reported and not judged."""
MOST_WRONG, MEAN_WRONG, LEAST_COVERED = 0.09, 0.05, 0.90
REFUSED = 0.2
LONG = 2_000_000

Array = np.ndarray[Any, np.dtype[Any]]
Dice = np.random.Generator
Series = Callable[[Dice, Array], Array]
"""From due moments in seconds to response times in seconds."""


# --- series ----------------------------------------------------------------------------------------------------------


def independent(sigma: float) -> Series:
    """Lognormal around 20 ms."""
    return lambda dice, at: 0.02 * np.exp(sigma * dice.standard_normal(len(at)))


def autoregressive(sigma: float, lasting_s: float, share: float) -> Series:
    """Lognormal; `share` of the variance of the logarithm is a level that forgets itself within `lasting_s`."""

    def make(dice: Dice, at: Array) -> Array:
        steps = np.arange(0.0, float(at[-1]) + 0.2, 0.1)
        keep = np.exp(-0.1 / lasting_s)
        noise = dice.standard_normal(len(steps)) * np.sqrt(1 - keep**2)
        level = np.empty(len(steps))
        level[0] = dice.standard_normal()
        for i in range(1, len(steps)):
            level[i] = keep * level[i - 1] + noise[i]
        slow = level[np.minimum((at / 0.1).astype(int), len(steps) - 1)]
        own = dice.standard_normal(len(at))
        return np.asarray(0.02 * np.exp(sigma * (np.sqrt(share) * slow + np.sqrt(1 - share) * own)))

    return make


def stalling(every_s: float, lasting_s: float) -> Series:
    """Two states: as independent ones, and stalls of exponential length and distance, whose end all wait for."""

    def make(dice: Dice, at: Array) -> Array:
        count = int(at[-1] / every_s * 2) + 20
        gaps, lengths = dice.exponential(every_s, count), dice.exponential(lasting_s, count)
        begins = np.cumsum(gaps + np.concatenate(([0.0], lengths[:-1])))
        ends = begins + lengths
        place = np.searchsorted(begins, at, side="right") - 1
        inside = (place >= 0) & (at < ends[np.maximum(place, 0)])
        waits = np.where(inside, ends[np.maximum(place, 0)] - at, 0.0)
        return np.asarray(0.02 * np.exp(0.4 * dice.standard_normal(len(at))) + waits)

    return make


def queue(load: float, squared_cv: float) -> Series:
    """A single server, first come first served: exponential work (1), or lognormal work of that squared variation."""

    def make(dice: Dice, at: Array) -> Array:
        # The planned rate, a whole number of hundreds; the one that chance gave is not what the server is made for.
        mean = load / (100.0 * round(len(at) / float(at[-1]) / 100.0))
        if squared_cv == 1.0:
            work = dice.exponential(mean, len(at))
        else:
            sigma = np.sqrt(np.log1p(squared_cv))
            work = mean * np.exp(sigma * dice.standard_normal(len(at)) - sigma**2 / 2)
        # Lindley: the wait is how far the walk of work less gaps stands above its least value so far.
        walk = np.concatenate(([0.0], np.cumsum(work[:-1] - np.diff(at))))
        return np.asarray(walk - np.minimum.accumulate(walk) + work)

    return make


KINDS: tuple[tuple[str, Series], ...] = (
    ("independent, σ 0.5", independent(0.5)),
    ("independent, σ 1", independent(1.0)),
    ("AR(1), 1 s, a third", autoregressive(0.6, 1.0, 0.33)),
    ("AR(1), 3 s, a third", autoregressive(0.6, 3.0, 0.33)),
    ("AR(1), 1 s, most", autoregressive(0.6, 1.0, 0.8)),
    ("stalls every 1.5 s of 0.1 s", stalling(1.5, 0.1)),
    ("stalls every 4 s of 0.2 s", stalling(4.0, 0.2)),
    ("M/M/1, load 0.5", queue(0.5, 1.0)),
    ("M/M/1, load 0.8", queue(0.8, 1.0)),
    ("M/G/1, load 0.5, cv² 4", queue(0.5, 4.0)),
    ("M/G/1, load 0.7, cv² 4", queue(0.7, 4.0)),
)


# --- through the histograms ------------------------------------------------------------------------------------------


def bucket(ns: Array) -> Array:
    """The histogram's bucket of each value, as `samples.histogram_index` has it."""
    shift = np.maximum(np.floor(np.log2(np.maximum(ns, 1))).astype(np.int64) - 10, 0)
    return np.where(ns < 2 * HISTOGRAM_HALF, ns, HISTOGRAM_HALF * shift + (ns >> shift))


def columns(at: Array, seconds: Array) -> Columns:
    """The windows of a run: one histogram for each second of due times."""
    ns = np.rint(seconds * 1e9).astype(np.int64)
    second = at.astype(np.int64)
    key = (second << 32) + bucket(ns)
    held, count = np.unique(key, return_counts=True)
    slots, begin = np.unique(held >> 32, return_index=True)
    order = np.argsort(second, kind="stable")
    edges = np.searchsorted(second[order], slots)
    return Columns(
        slots,
        np.concatenate((begin, [len(held)])),
        np.add.reduceat(np.ones(len(ns), np.int64), edges),
        np.add.reduceat(ns[order], edges),
        np.minimum.reduceat(ns[order], edges),
        np.maximum.reduceat(ns[order], edges),
        (held & 0xFFFFFFFF).astype(np.int32),
        count.astype(np.int64),
    )


@dataclass
class Cell:
    """One percentile of one kind of series at one length: runs that showed an interval, and that were wrong."""

    kind: str
    seconds: int
    rate: int
    quantile: float
    runs: int = 0
    shown: int = 0
    wrong: int = 0

    @property
    def wrong_share(self) -> float:
        """Shown and wrong, as a share of all runs."""
        return self.wrong / self.runs

    @property
    def refused(self) -> float:
        """The share of runs without an interval."""
        return 1.0 - self.shown / self.runs

    @property
    def covered(self) -> float:
        """Right, as a share of those shown."""
        return 1.0 - self.wrong / max(self.shown, 1)


def campaign(runs: int) -> Iterator[Cell]:
    """Every cell."""
    for number, (kind, make) in enumerate(KINDS):
        for seconds, rate in LENGTHS:
            if kind.startswith("stalls every 4 s") and seconds < 60:
                continue
            dice = np.random.default_rng([number, seconds, rate])
            long = np.cumsum(dice.exponential(1 / rate, LONG))
            truth = np.quantile(make(dice, long), QUANTILES) * 1e9
            cells = [Cell(kind, seconds, rate, q) for q in QUANTILES]
            for _ in range(runs):
                at = np.cumsum(dice.exponential(1 / rate, int(seconds * rate * 1.2)))
                # A queue is met in its steady state, not empty: half a minute before the run belongs to nobody.
                before = np.cumsum(dice.exponential(1 / rate, 30 * rate))
                whole = np.concatenate((before, before[-1] + at))
                response = make(dice, whole)[len(before) :][at < seconds]
                times = columns(at[at < seconds], response).times(QUANTILES)
                for cell, true in zip(cells, truth, strict=True):
                    found = times.quantiles[cell.quantile]
                    cell.runs += 1
                    if found.low is None:
                        continue
                    cell.shown += 1
                    cell.wrong += not (found.low <= true and (found.high is None or true <= found.high))
            yield from cells


def page(cells: Sequence[Cell], runs: int) -> str:
    """The page of the docs."""
    lines = [
        "# Error rates: intervals of percentiles",
        "",
        f"Made by `python scripts/campaigns/intervals.py`: {runs} simulated runs in each cell. *Wrong* are runs that",
        "show an interval that misses the true percentile, as a share of all runs; *covered* is the "
        "share of the shown ones",
        'that hold it; *refused* show none. An interval without an upper end ("or more") counts as shown.',
        "",
        "| series | length | rate | | wrong | covered | refused |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    for c in cells:
        lines.append(
            f"| {c.kind} | {c.seconds} s | {c.rate}/s | p{c.quantile * 100:g} | {100 * c.wrong_share:.1f} % | "
            f"{100 * c.covered:.1f} % | {100 * c.refused:.0f} % |"
        )
    judged = [c for c in cells if c.rate == 200]
    worst = max(judged, key=lambda c: c.wrong_share)
    mean = sum(c.wrong_share for c in judged) / len(judged)
    few = [c for c in judged if c.refused < REFUSED]
    least = min(few, key=lambda c: c.covered)
    lines += [
        "",
        "What is promised for 60 and 180 s at 200/s, and whether it holds here:",
        "",
        "| promise | here | holds |",
        "|---|---|---|",
        f"| shown and wrong, worst cell, at most 9 % | {100 * worst.wrong_share:.1f} % ({worst.kind}, "
        f"{worst.seconds} s, "
        f"p{worst.quantile * 100:g}) | {'yes' if worst.wrong_share <= MOST_WRONG else '**no**'} |",
        f"| shown and wrong, mean, at most 5 % | {100 * mean:.1f} % | {'yes' if mean <= MEAN_WRONG else '**no**'} |",
        f"| covered, where under a fifth is refused, at least 90 % | {100 * least.covered:.1f} % ({least.kind}, "
        f"{least.seconds} s, p{least.quantile * 100:g}) | {'yes' if least.covered >= LEAST_COVERED else '**no**'} |",
        "",
        "20 s at 1000/s is reported and not judged: what happens a few times in a run cannot be covered by any recipe.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of it, printed")
    parser.add_argument("--runs", type=int, help="runs in each cell")
    given = parser.parse_args()
    runs = given.runs or (50 if given.short else 500)
    began = time.monotonic()
    text = page(list(campaign(runs)), runs)
    if given.short:
        print(text)
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, "utf-8")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
