"""How often does a comparison cry wolf, and how often does it miss? Measured against simulated runs.

    python scripts/campaigns/compare.py            the whole campaign, some minutes; writes the page
    python scripts/campaigns/compare.py --short    a tenth of it, to standard output

Everything goes through the functions that `surgeline compare` uses. Runs are simulated in two ways: as the figures that
whole runs have (a luck that all endpoints of a run share, and one of their own), and request by request, with
distributions and autocorrelation, through the histograms of a stored run. Seeds are fixed: the page comes out the same.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal, stats  # type: ignore[import-untyped]  # an oracle, only here and in tests

from surgeline.analysis import effects, trend
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.figures import ALL, Cell, Leg, RunFigures
from surgeline.analysis.model import Comparison

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "compare.md"
DELTA = float(np.log1p(0.05))
OWN_LUCK = 0.6
"""Of a run's luck, what each endpoint has of its own; the rest, 0.8, is shared (0.6² + 0.8² = 1)."""
WITHIN = 0.005
"""What a percentile scatters by within a run of some ten thousand requests."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Rate:
    """How often something happened: `hits` of `tries`; `limit` is what it must stay below (or reach)."""

    hits: int
    tries: int
    limit: float
    at_least: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval (Clopper and Pearson)."""
        low = 0.0 if self.hits == 0 else float(stats.beta.ppf(0.025, self.hits, self.tries - self.hits + 1))
        high = 1.0 if self.hits == self.tries else float(stats.beta.ppf(0.975, self.hits + 1, self.tries - self.hits))
        return low, high

    @property
    def holds(self) -> bool:
        """Whether the limit is kept, as far as the tries tell: the estimate for powers, the interval for alarms."""
        return self.hits / self.tries >= self.limit if self.at_least else self.interval[0] <= self.limit

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.hits / self.tries:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


# --- runs as their figures -------------------------------------------------------------------------------------------


def figures(dice: np.random.Generator, runs: int, endpoints: int, noise: float) -> Array:
    """Log percentiles, runs x endpoints."""
    shared = np.sqrt(1 - OWN_LUCK**2) * dice.standard_normal((runs, 1)) + OWN_LUCK * dice.standard_normal(
        (runs, endpoints)
    )
    return np.asarray(noise * shared + WITHIN * dice.standard_normal((runs, endpoints)))


def table_and_gate(base: Array, candidate: Array) -> tuple[list[effects.Effect], list[str], list[bool]]:
    """For each endpoint: its effect, its word after the table's adjustment, and whether the gate fails on it."""
    found = [effects.separate(list(b), list(c)) for b, c in zip(base.T, candidate.T, strict=True)]
    words = [effects.word_of(effect, DELTA) for effect in found]
    adjusted = effects.benjamini_hochberg([effect.p_two_sided for effect in found])
    told = [
        "inconclusive" if word in ("regressed", "improved") and p > effects.TABLE_RATE else word
        for word, p in zip(words, adjusted, strict=True)
    ]
    holm = effects.holm([effect.p_above() for effect in found])
    failed = [p < effects.GATE_LEVEL and e.d >= DELTA / 2 for p, e in zip(holm, found, strict=True)]
    return found, [str(word) for word in told], failed


def no_change(scale: float) -> Iterator[tuple[str, dict[str, Rate]]]:
    """A/A by figures: each cell, and everything pooled."""
    pooled = {"two-sided": [0, 0], "gate": [0, 0], "regressed": [0, 0]}
    for noise in (0.0, 0.01, 0.02, 0.03, 0.05):
        for runs in (5, 10):
            for endpoints in (1, 10, 40):
                reps = max(int({1: 4000, 10: 1500, 40: 500}[endpoints] * scale), 20)
                dice = np.random.default_rng([1, round(noise * 1000), runs, endpoints])
                alarms = gates = worse = same = 0
                for _ in range(reps):
                    base, candidate = (figures(dice, runs, endpoints, noise) for _ in range(2))
                    found, words, failed = table_and_gate(base, candidate)
                    # Endpoints share their runs' luck, so a family counts once: one of them stands for it.
                    pick = int(dice.integers(endpoints))
                    alarms += found[pick].p_two_sided < 0.05
                    worse += words[pick] == "regressed"
                    same += words[pick] == "unchanged"
                    gates += any(failed)
                for name, hits in (("two-sided", alarms), ("gate", gates), ("regressed", worse)):
                    pooled[name][0] += hits
                    pooled[name][1] += reps
                yield (
                    f"{noise * 100:g} % | {runs}+{runs} | {endpoints}",
                    {
                        "two-sided": Rate(alarms, reps, 0.05),
                        "gate": Rate(gates, reps, 0.05),
                        "regressed": Rate(worse, reps, 0.01),
                        "unchanged": Rate(same, reps, 0.0, at_least=True),
                    },
                )
    limits = {"two-sided": 0.05, "gate": 0.05, "regressed": 0.01}
    yield "pooled", {name: Rate(hits, tries, limits[name]) for name, (hits, tries) in pooled.items()}


def power(scale: float) -> Iterator[tuple[str, Rate]]:
    """True changes at 2 % noise."""
    for change, runs, limit in ((0.05, 7, 0.9), (0.05, 5, 0.7), (0.05, 6, 0.8), (0.075, 5, 0.9), (0.10, 5, 0.95)):
        reps, found = max(int(4000 * scale), 50), 0
        dice = np.random.default_rng([2, round(change * 1000), runs])
        for _ in range(reps):
            base, candidate = (figures(dice, runs, 1, 0.02) for _ in range(2))
            _, words, _ = table_and_gate(base, candidate + np.log1p(change))
            found += words[0] == "regressed"
        yield f"+{change * 100:g} % at {runs}+{runs}, one endpoint: regressed", Rate(found, reps, limit, True)
    reps, found, others = max(int(2000 * scale), 50), 0, 0
    dice = np.random.default_rng([3])
    shift = np.zeros(10)
    shift[3] = np.log1p(0.10)
    for _ in range(reps):
        base, candidate = (figures(dice, 5, 10, 0.02) for _ in range(2))
        _, _, failed = table_and_gate(base, candidate + shift)
        found += failed[3]
        others += any(failed[:3] + failed[4:])
    yield "ten endpoints, one of them +10 %, gate at 5+5: fails on it", Rate(found, reps, 0.9, True)
    yield "the same: the gate fails on another one as well", Rate(others, reps, 0.05)
    for pairs, blocks in ((5, 0.0), (7, 0.0), (7, 0.04)):
        reps, found = max(int(3000 * scale), 50), 0
        dice = np.random.default_rng([4, pairs, round(blocks * 100)])
        for _ in range(reps):
            mood = blocks * dice.standard_normal((pairs, 1))
            base, candidate = (figures(dice, pairs, 1, 0.02) + mood for _ in range(2))
            effect = effects.paired(list(base[:, 0]), list(candidate[:, 0] + np.log1p(0.05)))
            found += effects.word_of(effect, DELTA) == "regressed"
        name = f"+5 % in {pairs} interleaved pairs, {blocks * 100:g} % noise between blocks: regressed"
        yield name, Rate(found, reps, 0.75 if pairs == 7 else 0.4, True)


def paired_no_change(scale: float) -> Iterator[tuple[str, Rate]]:
    """A/A in interleaved pairs, with and without a mood that a block's two runs share."""
    for pairs, noise, blocks in ((5, 0.02, 0.0), (7, 0.02, 0.04), (7, 0.05, 0.05)):
        reps, alarms, worse = max(int(4000 * scale), 100), 0, 0
        dice = np.random.default_rng([11, pairs, round(noise * 100), round(blocks * 100)])
        for _ in range(reps):
            mood = blocks * dice.standard_normal((pairs, 1))
            base, candidate = (figures(dice, pairs, 1, noise) + mood for _ in range(2))
            effect = effects.paired(list(base[:, 0]), list(candidate[:, 0]))
            alarms += effect.p_two_sided < 0.05
            worse += effects.word_of(effect, DELTA) == "regressed"
        name = f"A/A, {pairs} interleaved pairs, {noise * 100:g} % noise, {blocks * 100:g} % between blocks"
        yield f"{name}: two-sided", Rate(alarms, reps, 0.05)
        yield f"{name}: regressed", Rate(worse, reps, 0.01)


def single_runs(scale: float) -> Iterator[tuple[str, Rate]]:
    """One run a side: noise learned from k runs, or assumed."""
    for truth, learned in ((0.02, 5), (0.05, 5), (0.02, 10), (0.02, 0), (0.04, 0), (0.06, 0)):
        reps, hits = max(int(6000 * scale), 100), 0
        dice = np.random.default_rng([5, round(truth * 1000), learned])
        for _ in range(reps):
            noise, df = 0.04, 3.0
            if learned:
                noise, df = float(np.std(truth * dice.standard_normal(learned), ddof=1)), learned - 1.0
            pair = truth * dice.standard_normal(2)
            hits += effects.with_noise([pair[0]], [pair[1]], noise, df).p_two_sided < 0.05
        how = f"learned from {learned} runs" if learned else "assumed to be 4 %, df 3"
        yield f"{truth * 100:g} % true noise, {how}: two-sided", Rate(hits, reps, 0.05)


# --- runs request by request -----------------------------------------------------------------------------------------

GRID = np.linspace(-6.0, 6.0, 4001)
SHAPES: dict[str, Array] = {
    "lognormal": np.exp(0.5 * GRID) * 20e6,
    "gamma": stats.gamma.ppf(np.clip(stats.norm.cdf(GRID), 1e-12, 1 - 1e-12), 2.0) * 10e6,
    "bimodal": np.where(
        stats.norm.cdf(GRID) < 0.8,
        stats.lognorm.ppf(np.clip(stats.norm.cdf(GRID) / 0.8, 1e-9, 1 - 1e-9), 0.2) * 10e6,
        stats.lognorm.ppf(np.clip((stats.norm.cdf(GRID) - 0.8) / 0.2, 1e-9, 1 - 1e-9), 0.2) * 60e6,
    ),
}
MACHINE = {"cpu": "simulated", "cores": 1, "cores_usable": 1, "architecture": "none", "memory_bytes": 1}


def times(dice: np.random.Generator, shape: str, rho: float, count: int, endpoints: int) -> Array:
    """Response times, ns: endpoints x count, each row autocorrelated with lag-one correlation rho."""
    fresh = dice.standard_normal((endpoints, count)) * np.sqrt(1.0 - rho * rho)
    fresh[:, 0] /= np.sqrt(1.0 - rho * rho)
    series = signal.lfilter([1.0], [1.0, -rho], fresh, axis=1) if rho else fresh
    return np.asarray(np.interp(series, GRID, SHAPES[shape]))


def buckets(values: Array) -> tuple[Array, Array]:
    """Their histogram's buckets, as `samples.histogram_index` numbers them."""
    whole = values.astype(np.int64)
    shift = np.maximum(np.floor(np.log2(np.maximum(whole, 1))).astype(np.int64) - 10, 0)
    index, count = np.unique((whole >> shift) + 1024 * shift, return_counts=True)
    return index, count


def run_of(name: str, values: Array, series: dict[str, Any] | None = None) -> RunFigures:
    """A run of one stage whose endpoints had these response times."""
    cells = []
    for number, row in enumerate(values):
        index, count = buckets(row)
        cells.append(Cell(0, f"GET /{number}", len(row), 0, index, count))
    meta = {
        "id": name,
        "engine": "simulated",
        "started_at": "",
        "subject": {"hash": "simulated"},
        "environment": {"machine": MACHINE, "generator_shares_machine": False},
        "stages": [{"model": "open", "from": 100, "to": 100, "duration_ns": 10**10}],
        "series": series,
    }
    leg = Leg(0, "100/s", 10.0, True, "valid")
    return RunFigures(meta, "open", "open model, 100/s for 10 s", "valid", (), False, (leg,), tuple(cells))


def sides(
    dice: np.random.Generator, shape: str, rho: float, noise: float, runs: int, endpoints: int, count: int, worse: Any
) -> Comparison:
    """Two series of simulated runs, compared; `worse` changes the candidate's times."""
    made: list[list[RunFigures]] = [[], []]
    for side in (0, 1):
        for number in range(runs):
            luck = np.exp(noise * dice.standard_normal())
            values = times(dice, shape, rho, count, endpoints) * luck
            made[side].append(run_of(f"{'ab'[side]}{number}", worse(values, dice) if side else values))
    return compare_runs(made[0], made[1])


def end_to_end(scale: float) -> Iterator[tuple[str, dict[str, Rate]]]:
    """A/A from requests to verdict, and what tests on raw requests would have said of one run a side."""
    for shape in SHAPES:
        for rho in (0.0, 0.5, 0.8):
            for noise in (0.0, 0.02):
                reps = max(int(400 * scale), 10)
                dice = np.random.default_rng([6, len(shape), round(rho * 10), round(noise * 100)])
                alarms = worse = gates = naive_u = naive_t = 0
                for _ in range(reps):
                    found = sides(dice, shape, rho, noise, 5, 1, 2000, lambda values, _: values)
                    rows = {c.metric: c for c in found.changes if c.endpoint != ALL}
                    metric = ("p50", "p95", "p99")[int(dice.integers(3))]
                    alarms += (rows[metric].p or 1.0) < 0.05
                    worse += rows[metric].word == "regressed"
                    gates += found.gate == "failed"
                    one, other = (
                        times(dice, shape, rho, 2000, 1)[0] * np.exp(noise * dice.standard_normal()) for _ in range(2)
                    )
                    naive_u += stats.mannwhitneyu(one, other).pvalue < 0.05
                    naive_t += stats.ttest_ind(np.log(one), np.log(other), equal_var=False).pvalue < 0.05
                yield (
                    f"{shape} | {rho:g} | {noise * 100:g} %",
                    {
                        "two-sided": Rate(alarms, reps, 0.05),
                        "gate": Rate(gates, reps, 0.05),
                        "regressed": Rate(worse, reps, 0.01),
                        "Mann-Whitney on requests": Rate(naive_u, reps, 1.0),
                        "t on requests": Rate(naive_t, reps, 1.0),
                    },
                )


def errors(scale: float) -> Iterator[tuple[str, Rate]]:
    """A/A of the share of errors, which differs from run to run by more than counting would."""
    values = np.full((1, 10), 20e6)
    for share, spread in ((0.0, 0.0), (0.001, 0.3), (0.01, 0.3), (0.01, 0.0), (0.1, 0.3)):
        reps, alarms, worse, gates = max(int(1500 * scale), 20), 0, 0, 0
        dice = np.random.default_rng([10, round(share * 1000), round(spread * 10)])
        for _ in range(reps):
            made: list[list[RunFigures]] = [[], []]
            for side in (0, 1):
                for number in range(5):
                    bad = int(dice.binomial(3000, min(share * np.exp(spread * dice.standard_normal()), 1.0)))
                    run = run_of(f"{'ab'[side]}{number}", values)
                    made[side].append(replace(run, cells=(replace(run.cells[0], judged=3000, bad=bad),)))
            found = compare_runs(made[0], made[1])
            row = next(c for c in found.changes if c.metric == "errors" and c.endpoint != ALL)
            alarms += (row.p or 1.0) < 0.05
            worse += row.word == "regressed"
            gates += row.gate == "failed"
        name = f"{share * 100:g} % errors, {spread * 100:g} % noise between runs, 5+5"
        yield f"A/A, {name}: two-sided", Rate(alarms, reps, 0.05)
        yield f"A/A, {name}: regressed", Rate(worse, reps, 0.01)
        yield f"A/A, {name}: gate", Rate(gates, reps, 0.05)


def tail(scale: float) -> Iterator[tuple[str, Rate]]:
    """The slowest 2 % of requests take three times as long."""

    def slower(values: Array, dice: np.random.Generator) -> Array:
        limit = np.quantile(values, 0.98, axis=1, keepdims=True)
        return np.where(values > limit, 3.0 * values, values)

    reps, flagged, still, tails = max(int(400 * scale), 20), 0, 0, 0
    dice = np.random.default_rng([7])
    for _ in range(reps):
        found = sides(dice, "lognormal", 0.0, 0.02, 5, 1, 4000, slower)
        rows = {c.metric: c for c in found.changes if c.endpoint != ALL}
        flagged += rows["p99"].word == "regressed"
        still += rows["p50"].word not in ("regressed", "improved")
        tails += any(shift.pattern == "tail" for shift in found.shifts)
    yield "slowest 2 % three times slower, 2 % noise, 5+5: p99 regressed", Rate(flagged, reps, 0.9, True)
    yield "the same: p50 has no word for a change", Rate(still, reps, 0.95, True)
    yield "the same: the shift is read as one of the tail", Rate(tails, reps, 0.0, True)


# --- trend -----------------------------------------------------------------------------------------------------------


def trends(scale: float) -> Iterator[tuple[str, Rate]]:
    """Forty runs, 2 % noise."""
    reps = max(int(1000 * scale), 40)
    for where in ("10 to 30", "5 to 35"):
        low, high = map(int, where.split(" to "))
        dice = np.random.default_rng([8, low])
        found = 0
        for _ in range(reps):
            values = 0.02 * dice.standard_normal(40)
            at = int(dice.integers(low, high + 1))
            values[at:] += np.log(1.1) * (1 if dice.random() < 0.5 else -1)
            points = trend.change_points(values.tolist())
            found += any(abs(point.at - at) <= 3 for point in points)
        yield f"10 % change after {where} of 40 runs: found within 3 runs", Rate(found, reps, 0.9, True)
    kinds: tuple[tuple[str, Callable[[np.random.Generator], Array]], ...] = (
        ("normal noise", lambda dice: 0.02 * dice.standard_normal(40)),
        ("heavy-tailed noise (t with 3 df)", lambda dice: 0.02 * dice.standard_t(3, 40) / np.sqrt(3.0)),
        ("5 % noise", lambda dice: 0.05 * dice.standard_normal(40)),
    )
    for name, make in kinds:
        dice = np.random.default_rng([9, len(name)])
        alarms = sum(len(trend.change_points(make(dice).tolist())) for _ in range(reps))
        yield f"no change, {name}: change points per run", Rate(alarms, reps * 40, 0.01)


# --- the page --------------------------------------------------------------------------------------------------------


def _cells(rows: Sequence[tuple[str, dict[str, Rate]]], head: str) -> Iterator[str]:
    names = list(rows[0][1])
    yield f"| {head} | tries | {' | '.join(names)} |"
    yield "|" + " --- |" * (head.count("|") + 2 + len(names))
    for label, rates in rows:
        tries = next(iter(rates.values())).tries
        yield f"| {label} | {tries:,} | {' | '.join(str(rates[name]) for name in names)} |"


def _lines(rows: Sequence[tuple[str, Rate]]) -> Iterator[str]:
    yield "| experiment | tries | measured | at least / at most | holds |"
    yield "| --- | --- | --- | --- | --- |"
    for label, rate in rows:
        limit = f"{'≥' if rate.at_least else '≤'} {rate.limit * 100:g} %" if rate.limit else "–"
        yield f"| {label} | {rate.tries:,} | {rate} | {limit} | {'yes' if rate.holds else '**no**'} |"


def page(scale: float) -> tuple[str, bool]:
    """The page, and whether every limit holds."""
    began = time.monotonic()
    parts: dict[str, Any] = {}
    for name, make in (
        ("none", no_change), ("pairs", paired_no_change), ("power", power), ("single", single_runs),
        ("errors", errors), ("ends", end_to_end), ("tail", tail), ("trend", trends),
    ):  # fmt: skip
        parts[name] = list(make(scale))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    grid, pooled = parts["none"][:-1], parts["none"][-1][1]
    named = [(f"A/A by figures, all cells: {name}", rate) for name, rate in pooled.items()]
    for name in ("two-sided", "gate", "regressed"):
        some = [rates[name] for _, rates in parts["ends"]]
        whole = Rate(sum(r.hits for r in some), sum(r.tries for r in some), some[0].limit)
        named.append((f"A/A from requests to verdict, all cells: {name}", whole))
    checked = [
        *named,
        *parts["pairs"],
        *parts["power"],
        *parts["single"],
        *parts["errors"],
        *parts["tail"],
        *parts["trend"],
    ]
    cells = [rate for _, rates in (*grid, *parts["ends"]) for rate in rates.values()]
    holds = all(rate.holds for _, rate in checked) and all(rate.holds for rate in cells)
    text = "\n".join(
        [
            "# Error rates of comparing, the gate and the trend",
            "",
            "How often a comparison cries wolf, and how often it misses, against simulated runs of which the truth is",
            "known. Every number has its exact 95 % interval (Clopper and Pearson). A cell of a grid holds while its",
            "interval reaches down to the limit; pooled rates and powers hold by themselves.",
            "",
            "Made by `python scripts/campaigns/compare.py`; seeds are fixed, so it comes out the same. Why it is done",
            "this way: [comparing runs](../../explanation/comparing-runs.md).",
            "",
            "## What must hold",
            "",
            *_lines(checked),
            "",
            "## No change at all, by figures of runs",
            "",
            "Run-to-run noise (mostly shared by the endpoints of a run), runs a side, endpoints. *Two-sided*: the",
            "95 % interval leaves out zero; *gate*: it fails on any endpoint (Holm, 5 %); *regressed*: that word.",
            "",
            *_cells(grid, "noise | runs | endpoints"),
            "",
            "## No change at all, from requests to verdict",
            "",
            "2,000 requests a run, 5+5 runs, requests autocorrelated within their run. Beside it what a test on the",
            "raw requests of one run a side would have said: noise between runs makes it wrong, more so the more",
            "requests there are.",
            "",
            *_cells(parts["ends"], "requests | autocorrelation | noise"),
            "",
        ]
    )
    return text, holds


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("--short", action="store_true", help="a tenth of it, to standard output")
    options.add_argument("--json", type=Path, help="also write whether everything holds, and how long it took")
    given = options.parse_args()
    started = time.monotonic()
    made, all_hold = page(0.1 if given.short else 1.0)
    if given.short:
        sys.stdout.write(made)
    else:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(made, "utf-8")
    if given.json:
        given.json.write_text(json.dumps({"holds": all_hold, "seconds": round(time.monotonic() - started)}))
    sys.exit(0 if all_hold else 1)
