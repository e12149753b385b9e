"""Better or worse? Two sides, each of one run or of several, and what their runs allow to say.

Unlike things get no word: another plan, another load, another machine, a run that the generator spoiled. Alike, each
percentile of each endpoint becomes one number a run, and `effects` says how large the change is, how sure, and in which
word. Interleaved series are compared block by block, others as separate sets; the same runs on both sides are
unchanged. With a single run on a side, what runs differ by has to be known from elsewhere: learned from repeated runs
of one server on this machine, or taken to be 4 % with three degrees of freedom, which simulation showed to keep false
alarms at 3 % up to a true 6 %. What comes out of that is *indicative*.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from surgeline import units
from surgeline.analysis import effects
from surgeline.analysis.distributions import t_quantile, wilson
from surgeline.analysis.effects import Effect
from surgeline.analysis.figures import ALL, TIMES, RunFigures, figures_of, machine_of
from surgeline.analysis.model import Change, ChangeWord, Comparison, Estimate, FindingChange, Shift, Summary
from surgeline.analysis.shift import shift_of

FEWEST_RUNS = 5
"""Runs a side that a word without the mark *indicative* needs."""
LEAST_CHANGE = 0.05
LEAST_NS = 2e5
"""A fifth of a millisecond: below it lies what a scheduler and a loopback interface do."""
ERRORS_BUDGET = 0.001
CAPACITY_BUDGET = 0.03
GATE_METRICS = ("p95", "errors", "capacity")
SENT_APART = 0.01
"""Sides that sent shares of what was due further apart than this had different loads."""
LONE_RUN = 0.7
"""One wild run in five moves the mean by one standard error away from the median of differences; equal runs by 0.3."""
MOST_SHIFTS = 12
"""Endpoints whose shift over percentiles is worked out, the largest changes first."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How much a percentile differs from run to run: `ratio` is the standard deviation of its logarithm, `df` ≥ 1.

    `learned` False: assumed, not measured.
    """

    ratio: float = 0.04
    df: float = 3.0
    learned: bool = False


NoiseOf = Mapping[str, Noise]
"""By metric; what is missing is assumed."""


class BudgetError(ValueError):
    """A text that is not a budget; its message is one sentence with a right example."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """The change that matters, by metric: ratios for times, goodput and capacity, a difference of ratios for errors.

    `gated` are the metrics a gate looks at. `exact` are those the user gave: they hold as they are, while the default
    of 5 % for times gives way to a fifth of a millisecond where that is more.
    """

    changes: Mapping[str, float] = field(default_factory=dict)
    gated: tuple[str, ...] = GATE_METRICS
    exact: frozenset[str] = frozenset()

    def of(self, metric: str) -> float:
        """The budget of a metric."""
        default = {"errors": ERRORS_BUDGET, "goodput": CAPACITY_BUDGET, "capacity": CAPACITY_BUDGET}
        return self.changes.get(metric, default.get(metric, LEAST_CHANGE))

    @classmethod
    def parse(cls, text: str) -> "Budgets":
        """The budgets in `p95:+5%, errors:+0.1pp, capacity:-5%`. The metrics named are those the gate looks at."""
        changes: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            match = re.fullmatch(r"(\w+)\s*:\s*[+-]?\s*(\d+(?:\.\d+)?)\s*(%|pp)", part)
            metric = match[1] if match else ""
            known = (*TIMES, "errors", "goodput", "capacity")
            if match is None or metric not in known or (metric == "errors") != (match[3] == "pp"):
                raise BudgetError(
                    f"{part[:60]!r} is not a budget; write for example 'p95:+5%, errors:+0.1pp, capacity:-5%' "
                    f"({', '.join(known)}; errors in percentage points, pp)"
                )
            value = float(match[2]) / 100.0
            if not 0.0 < value < 10.0:
                raise BudgetError(f"{part!r}: a budget is more than 0 and less than 1000 %")
            changes[metric] = value
        if not changes:
            raise BudgetError("a budget names at least one metric; write for example 'p95:+5%, errors:+0.1pp'")
        return cls(changes, tuple(changes), frozenset(changes))


def compare(base: Summary, candidate: Summary, noise: Noise | None = None) -> Comparison:
    """Two single runs, from their summaries."""
    known = {} if noise is None else dict.fromkeys(TIMES, noise)
    return compare_runs([figures_of(base)], [figures_of(candidate)], known)


def compare_runs(
    base: Sequence[RunFigures],
    candidate: Sequence[RunFigures],
    noise: NoiseOf | None = None,
    budgets: Budgets | None = None,
) -> Comparison:
    """Percentiles and errors of everything and of each endpoint on both sides, with a word where one is due.

    `noise` is by metric what single runs are held against. Raises ValueError where a side has no run.
    """
    if not base or not candidate:
        raise ValueError("a comparison needs a run on each side")
    budgets = budgets or Budgets()
    base, candidate, cautions = _paired_blocks(base, candidate)
    design = _design(base, candidate)
    unlike = _unlike(base, candidate)
    if design == "single" and max(len(base), len(candidate)) > 1:
        cautions.append("one side is a single run, so what runs differ by is not measured here but known or assumed")
    sides = _Sides(base, candidate, design, noise or {}, budgets, _common_stages((*base, *candidate)))
    theirs = set(candidate[0].endpoints).union(*(run.endpoints for run in candidate))
    mine = dict.fromkeys(name for run in base for name in run.endpoints)
    shared = [name for name in mine if name in theirs]
    ours, others = ([name for run in side for name in run.transactions] for side in (base, candidate))
    together = [name for name in dict.fromkeys(ours) if name in others]
    changes: list[Change] = []
    if not any(run.searched for run in (*base, *candidate)):
        changes += [_time_change(sides, name, metric) for name in (None, *shared, *together) for metric in TIMES]
        changes += [_error_change(sides, name) for name in (None, *shared, *together)]
        changes = [replace(c, together=c.endpoint in together) for c in changes]
        changes += [change for change in (_goodput_change(sides),) if change is not None]
    changes += [change for change in (_capacity_change(sides),) if change is not None]
    changes = _without_words(changes) if unlike else _gated(_tabled(changes, sides), budgets, len(shared))
    learned = [known for known in (noise or {}).values() if known.learned]
    tau = (noise or {}).get("p95", Noise())
    few = min(len(base), len(candidate))
    return Comparison(
        comparable=not unlike,
        unlike=unlike,
        differences=_differences(base, candidate),
        changes=tuple(changes),
        word=None if unlike else _overall(changes),
        indicative=few < FEWEST_RUNS and design != "same",
        noise_ratio=tau.ratio,
        noise_learned=bool(learned),
        only_base=(*(name for name in mine if name not in theirs), *_lonely(ours, others)),
        only_candidate=(*sorted(theirs.difference(mine)), *_lonely(others, ours)),
        design=design,
        order=_order(base, candidate, design),
        base_runs=tuple(run.id for run in base),
        candidate_runs=tuple(run.id for run in candidate),
        shifts=() if unlike else _shifts(sides, changes),
        findings=_findings(base, candidate),
        gate="" if unlike else _gate(changes),
        load=base[0].load,
        cautions=tuple(cautions),
    )


def _lonely(ours: Sequence[str], others: Sequence[str]) -> list[str]:
    """Transactions of one side only; none where the other side has none at all, as old baselines have not."""
    return sorted(set(ours).difference(others)) if others else []


# --- who stands against whom -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sides:
    base: Sequence[RunFigures]
    candidate: Sequence[RunFigures]
    design: str
    noise: NoiseOf
    budgets: Budgets
    stages: frozenset[int]

    def effect(self, before: Sequence[float], after: Sequence[float], metric: str, within: Sequence[float]) -> Effect:
        """The change of one figure per run, by the design of the comparison."""
        if self.design == "same":
            return effects.same(len(before))
        if self.design == "paired":
            return effects.paired(before, after, effects.RESOLUTION)
        if self.design == "separate":
            return effects.separate(before, after, effects.RESOLUTION)
        known = self.known(before, after, metric)
        if not known.learned:
            return effects.with_noise(before, after, known.ratio, known.df, within)
        # Learned noise holds what such runs differ by within; of shorter runs that alone may be more.
        inside = sum(error * error for error in within)
        if inside > known.ratio**2 * (1.0 / len(before) + 1.0 / len(after)):
            return effects.with_noise(before, after, 0.0, known.df, within)
        return effects.with_noise(before, after, known.ratio, known.df)

    def known(self, before: Sequence[float], after: Sequence[float], metric: str) -> Noise:
        """What runs differ by where a side is a single run: the other side shows it, where it has runs enough."""
        longer = max(before, after, key=len)
        if len(longer) >= FEWEST_RUNS:
            centre = math.fsum(longer) / len(longer)
            variance = math.fsum((value - centre) ** 2 for value in longer) / (len(longer) - 1)
            return Noise(math.sqrt(variance), len(longer) - 1.0, learned=True)
        return self.noise.get(metric, Noise())


def _paired_blocks(
    base: Sequence[RunFigures], candidate: Sequence[RunFigures]
) -> tuple[Sequence[RunFigures], Sequence[RunFigures], list[str]]:
    """Both sides in the order of their blocks, without blocks of which one side is missing, where they are one series.

    Sides that are no such series come back as they were.
    """
    groups = {run.series.get("group") for run in (*base, *candidate)}
    if len(groups) != 1 or None in groups or {run.id for run in base} & {run.id for run in candidate}:
        return base, candidate, []
    ones, others = ({run.series.get("block"): run for run in side} for side in (base, candidate))
    blocks = sorted(block for block in ones.keys() & others.keys() if isinstance(block, int))
    if len(ones) != len(base) or len(others) != len(candidate) or len(blocks) < 2:
        return base, candidate, []
    dropped = len(ones.keys() | others.keys()) - len(blocks)
    said = [f"{dropped} of the blocks lack a run on one side and are left out"] if dropped else []
    return [ones[block] for block in blocks], [others[block] for block in blocks], said


def _design(base: Sequence[RunFigures], candidate: Sequence[RunFigures]) -> str:
    if sorted(run.key for run in base) == sorted(run.key for run in candidate):
        return "same"
    groups = {run.series.get("group") for run in (*base, *candidate)}
    blocks = [[run.series.get("block") for run in side] for side in (base, candidate)]
    if len(groups) == 1 and None not in groups and len(base) >= 2 and blocks[0] == blocks[1]:
        return "paired"
    return "separate" if min(len(base), len(candidate)) >= 2 else "single"


def _common_stages(runs: Sequence[RunFigures]) -> frozenset[int]:
    """Stages that may be judged in every run; all of them where that leaves none, which `_unlike` then refuses."""
    common = frozenset.intersection(*(run.usable_stages for run in runs))
    return common or frozenset(leg.index for run in runs for leg in run.legs)


def _order(base: Sequence[RunFigures], candidate: Sequence[RunFigures], design: str) -> str:
    if design == "same":
        return "the same runs on both sides"
    if design == "paired":
        runs = [(run.series.get("order", 0), side) for runs, side in ((base, "A"), (candidate, "B")) for run in runs]
        return "interleaved " + " ".join(side for _, side in sorted(runs))
    starts = [sorted(run.started_at for run in side) for side in (base, candidate)]
    if not all(all(side) for side in starts):
        return "in an order that is not known"
    if starts[0][-1] <= starts[1][0] or starts[1][-1] <= starts[0][0]:
        return "one side after the other: what else changed meanwhile is in the difference"
    return "mixed"


# --- changes ---------------------------------------------------------------------------------------------------------


def _time_change(sides: _Sides, endpoint: str | None, metric: str) -> Change:
    q, name = TIMES[metric], endpoint or ALL
    figures = [[run.quantile(endpoint, q, sides.stages) for run in side] for side in (sides.base, sides.candidate)]
    known = [[value for value in side if value is not None and value > 0] for side in figures]
    if any(len(side) < len(all_) for side, all_ in zip(known, figures, strict=True)):
        missing = next(i for i in (0, 1) if len(known[i]) < len(figures[i]))
        ok = [_ok(run, endpoint, sides.stages) for run in (sides.base, sides.candidate)[missing]]
        why = f"too few samples for {metric}" if max(ok) else "no ok request"
        which = ("the base", "the candidate")[missing]
        if len(figures[missing]) > 1:
            lost = len(figures[missing]) - len(known[missing])
            which = f"{lost} of {len(figures[missing])} runs of {which}"
        empty = Estimate(None, why_not=why)
        return Change(name, metric, empty, empty, None, None, None, None, f"{why} in {which}")
    logs = [[math.log(value) for value in side] for side in known]
    within: list[float] = []
    if sides.design == "single":
        within = [
            run.within(endpoint, metric, sides.stages) / math.sqrt(len(side))
            for side in (sides.base, sides.candidate)
            for run in side[:1]
        ]
    effect = sides.effect(logs[0], logs[1], metric, within)
    delta = sides.budgets.of(metric)
    means = [math.exp(math.fsum(side) / len(side)) for side in logs]
    if metric not in sides.budgets.exact:
        # Of both sides together, so that swapping them mirrors the verdict.
        delta = max(delta, LEAST_NS / math.sqrt(means[0] * means[1]))
        if sides.design == "single":
            delta = max(delta, 2.0 * sides.noise.get(metric, Noise()).ratio)
    return _worded(name, metric, effect, math.log1p(delta), delta, means, known, sides)


def _ok(run: RunFigures, endpoint: str | None, stages: frozenset[int]) -> int:
    judged, bad = run.tally(endpoint, stages)
    return judged - bad


def _worded(
    name: str,
    metric: str,
    effect: Effect,
    delta: float,
    budget: float,
    means: Sequence[float],
    figures: Sequence[Sequence[float]],
    sides: _Sides,
    higher_is_worse: bool = True,
) -> Change:
    """A change of a figure that is compared by its ratio; `effect` counts up as worse."""
    sign = 1.0 if higher_is_worse else -1.0
    ends = sorted(math.expm1(sign * end) for end in effect.interval())
    word = effects.word_of(effect, delta)
    caution = ""
    if sides.design in ("paired", "separate") and min(effect.base_runs, effect.candidate_runs) >= FEWEST_RUNS:
        logs = [[math.log(value) for value in side] for side in figures]
        robust = effects.hodges_lehmann(logs[0], logs[1], effect.paired)
        if abs(robust - sign * effect.d) > LONE_RUN * effect.se:
            caution = "a single run moves this: the median of the differences says otherwise"
    return Change(
        endpoint=name,
        metric=metric,
        base=_side_estimate(figures[0], means[0]),
        candidate=_side_estimate(figures[1], means[1]),
        change=math.expm1(sign * effect.d),
        low=ends[0],
        high=ends[1],
        word=word,
        reason=_reason(word, effect, budget),
        budget=budget,
        p=effect.p_two_sided,
        p_gate=effect.p_above(),
        gate=_gate_word(effect, delta),
        runs_needed=effects.runs_needed(effect, delta) if word == "inconclusive" else None,
        detectable=math.expm1(effects.detectable(effect)),
        figures=(tuple(figures[0]), tuple(figures[1])),
        caution=caution,
    )


def _gate_word(effect: Effect, delta: float) -> str:
    """Before the adjustment for many: "over" the floor, "within" the budget, "" where it is not known."""
    if effect.d >= delta / 2.0:
        return "over"
    return "within" if effect.p_below(delta) <= (1.0 - effects.UNCHANGED_CONFIDENCE) / 2.0 else ""


def _reason(word: ChangeWord, effect: Effect, budget: float) -> str:
    shown = units.format_ratio(budget)
    if word == "unchanged":
        return "the same runs" if effect.se == 0 else f"within ±{shown}, whatever the luck of the runs"
    if word == "inconclusive":
        return "runs of one server may differ as much"
    return "more than luck, and more than half of the budget"


def _side_estimate(values: Sequence[float], mean: float) -> Estimate:
    """The geometric mean of a side's runs with its interval; plain for one run."""
    if len(values) < 2:
        return Estimate(mean, n=1, why_not="one run")
    logs = [math.log(value) for value in values]
    centre = math.fsum(logs) / len(logs)
    variance = math.fsum((value - centre) ** 2 for value in logs) / (len(logs) - 1)
    half = t_quantile(0.975, len(logs) - 1.0) * math.sqrt(variance / len(logs))
    return Estimate(mean, math.exp(centre - half), math.exp(centre + half), len(values))


def _error_change(sides: _Sides, endpoint: str | None) -> Change:
    name = endpoint or ALL
    tallies = [[run.tally(endpoint, sides.stages) for run in side] for side in (sides.base, sides.candidate)]
    if any(judged == 0 for side in tallies for judged, _ in side):
        empty = Estimate(None, why_not="no request has a known outcome")
        return Change(name, "errors", empty, empty, None, None, None, None, "no request has a known outcome")
    ratios = [[bad / judged for judged, bad in side] for side in tallies]
    pooled = [_pooled_ratio(side) for side in tallies]
    effect = _error_effect(sides, tallies, ratios)
    delta = sides.budgets.of("errors")
    word = effects.word_of(effect, delta)
    low, high = effect.interval()
    return Change(
        endpoint=name,
        metric="errors",
        base=pooled[0],
        candidate=pooled[1],
        change=effect.d,
        low=low,
        high=high,
        word=word,
        reason=_error_reason(word, effect, delta),
        budget=delta,
        p=effect.p_two_sided,
        p_gate=effect.p_above(),
        # Without any error a candidate is not held up, however few requests it rests on.
        gate="within" if not any(bad for _, bad in tallies[1]) else _gate_word(effect, delta),
        runs_needed=effects.runs_needed(effect, delta) if word == "inconclusive" else None,
        figures=(tuple(ratios[0]), tuple(ratios[1])),
    )


def _error_reason(word: ChangeWord, effect: Effect, delta: float) -> str:
    if word == "unchanged" and effect.se > 0:
        return f"within ±{delta * 100:.2g} percentage points"
    return _reason(word, effect, delta)


def _error_effect(
    sides: _Sides, tallies: Sequence[Sequence[tuple[int, int]]], ratios: Sequence[Sequence[float]]
) -> Effect:
    """The difference of two shares: what runs differ by, and never less than what counting alone would.

    One run a side has no spread of its own; its requests are then taken to be worth a quarter each.
    """
    if sides.design == "same":
        return effects.same(len(ratios[0]))
    floors = []
    for side in tallies:
        judged, bad = sum(j for j, _ in side), sum(b for _, b in side)
        share = (bad + 0.5) / (judged + 1.0)
        floors.append(share * (1.0 - share) / judged)
    if sides.design == "single":
        means = [sum(b for _, b in side) / sum(j for j, _ in side) for side in tallies]
        return Effect(means[1] - means[0], math.sqrt(4.0 * sum(floors)), 10.0, len(ratios[0]), len(ratios[1]))
    plain = effects.paired if sides.design == "paired" else effects.separate
    found = plain(ratios[0], ratios[1])
    return replace(found, se=max(found.se, math.sqrt(sum(floors))))


def _pooled_ratio(side: Sequence[tuple[int, int]]) -> Estimate:
    judged, bad = sum(j for j, _ in side), sum(b for _, b in side)
    low, high = wilson(bad / judged, judged / 4.0)
    return Estimate(bad / judged, low, high, judged)


def _goodput_change(sides: _Sides) -> Change | None:
    """Correct answers per second of everything; where arrivals are planned it says nothing and is left out."""
    runs = (*sides.base, *sides.candidate)
    if any(run.model == "open" for run in runs):
        return None
    known = []
    for side in (sides.base, sides.candidate):
        rates = []
        for run in side:
            seconds = sum(leg.seconds for leg in run.legs if leg.index in sides.stages)
            rates.append(_ok(run, None, sides.stages) / seconds if seconds > 0 else 0.0)
        known.append(rates)
    return _ratio_change(sides, "goodput", known)


def _capacity_change(sides: _Sides) -> Change | None:
    """Where throughput stopped growing; left out unless every run found that."""
    found = [[run.capacity_per_s for run in side] for side in (sides.base, sides.candidate)]
    if any(value is None for side in found for value in side):
        return None
    spans = [run.capacity_span for run in (sides.base[0], sides.candidate[0])]
    within = [math.log(span[1] / span[0]) / (2.0 * 1.96) if span and span[0] > 0 else 0.02 for span in spans]
    return _ratio_change(sides, "capacity", [[value for value in side if value is not None] for side in found], within)


def _ratio_change(
    sides: _Sides, metric: str, known: Sequence[Sequence[float]], within: Sequence[float] = (0.02, 0.02)
) -> Change | None:
    if any(value <= 0 for side in known for value in side):
        return None
    logs = [[-math.log(value) for value in side] for side in known]
    effect = sides.effect(logs[0], logs[1], metric, within)
    means = [math.exp(-math.fsum(side) / len(side)) for side in logs]
    budget = sides.budgets.of(metric)
    if sides.design == "single" and metric not in sides.budgets.exact:
        budget = max(budget, 2.0 * sides.noise.get(metric, Noise()).ratio)
    return _worded(ALL, metric, effect, math.log1p(budget), budget, means, known, sides, higher_is_worse=False)


# --- many at once ----------------------------------------------------------------------------------------------------


def _without_words(changes: Sequence[Change]) -> list[Change]:
    return [
        replace(c, word=None, reason=c.reason if c.change is None else "the two sides are not alike", p=None,
                p_gate=None, gate="", runs_needed=None)
        for c in changes
    ]  # fmt: skip


def _tabled(changes: Sequence[Change], sides: _Sides) -> list[Change]:
    """Words for a change stay where the table as a whole allows them: at most one in twenty of them is luck.

    With one endpoint, what holds for everything holds for it, and is not counted twice.
    """
    twice = len({change.endpoint for change in changes if not change.together}) == 2
    counted = [
        i
        for i, c in enumerate(changes)
        if c.p is not None and not (twice and c.endpoint == ALL and c.metric in (*TIMES, "errors"))
    ]
    adjusted = dict(zip(counted, effects.benjamini_hochberg([changes[i].p or 0.0 for i in counted]), strict=True))
    found = []
    for i, change in enumerate(changes):
        if change.p is None:
            found.append(change)
            continue
        p = adjusted.get(i, change.p)
        change = replace(change, p_table=p)
        if change.word in ("regressed", "improved") and p > effects.TABLE_RATE:
            change = replace(
                change,
                word="inconclusive",
                reason=f"among {len(counted)} figures one such change is luck",
                runs_needed=max(len(sides.base), len(sides.candidate)) + 2,
            )
        found.append(change)
    return found


def _gated(changes: Sequence[Change], budgets: Budgets, endpoints: int) -> list[Change]:
    """What the gate looks at: each endpoint's gated metrics and the whole's capacity, adjusted together (Holm).

    A figure that it should look at and that was not measured does not pass: it is inconclusive.
    """
    wanted = {
        i
        for i, c in enumerate(changes)
        if c.metric in budgets.gated and (c.endpoint != ALL or c.metric in ("capacity", "goodput") or endpoints == 0)
    }
    looked = [i for i in sorted(wanted) if changes[i].p_gate is not None]
    adjusted = dict(zip(looked, effects.holm([changes[i].p_gate or 0.0 for i in looked]), strict=True))
    found = []
    for i, change in enumerate(changes):
        if i not in adjusted:
            found.append(replace(change, p_gate=None, gate="inconclusive" if i in wanted else ""))
            continue
        sure = adjusted[i] < effects.GATE_LEVEL
        word = {"over": "failed" if sure else "inconclusive", "within": "passed"}.get(change.gate, "inconclusive")
        found.append(replace(change, p_gate=adjusted[i], gate=word))
    return found


def _gate(changes: Sequence[Change]) -> str:
    words = {change.gate for change in changes if change.gate}
    for word in ("failed", "inconclusive", "passed"):
        if word in words:
            return word
    return ""


def _overall(changes: Sequence[Change]) -> ChangeWord:
    """For everything together: regressed if any of its figures is, else what p95 says (of searches, capacity)."""
    whole = {change.metric: change.word for change in changes if change.endpoint == ALL and change.word}
    if "regressed" in whole.values():
        return "regressed"
    return whole.get("p95") or whole.get("p50") or whole.get("capacity") or "inconclusive"


def _shifts(sides: _Sides, changes: Sequence[Change]) -> tuple[Shift, ...]:
    """Of everything together, and of the endpoints that changed the most."""
    moved = [c for c in changes if c.endpoint != ALL and c.word in ("regressed", "improved") and c.metric in TIMES]
    names = dict.fromkeys(c.endpoint for c in sorted(moved, key=lambda c: -abs(math.log1p(c.change or 0.0))))
    if len({change.endpoint for change in changes if not change.together}) == 2:
        only = dict.fromkeys(change.endpoint for change in changes if change.endpoint != ALL and not change.together)
        names = {**only, **names}
    found = [
        shift_of(name, sides.base, sides.candidate, sides.stages, sides.design == "paired")
        for name in (ALL, *list(names)[:MOST_SHIFTS])
    ]
    return tuple(shift for shift in found if shift is not None)


def _findings(base: Sequence[RunFigures], candidate: Sequence[RunFigures]) -> tuple[FindingChange, ...]:
    """Findings that most runs of a side have: new, gone, persisting; what failed first."""
    held = []
    for side in (base, candidate):
        seen: dict[tuple[str, str | None, str], list[str]] = {}
        for run in side:
            for found in {(f.rule, f.endpoint, f.kind): f for f in run.findings}.values():
                seen.setdefault((found.rule, found.endpoint, found.kind), []).append(found.sentence)
        held.append({key: said[-1] for key, said in seen.items() if 2 * len(said) > len(side)})
    before, after = held
    changes = [FindingChange("new", *_named(key), after[key]) for key in after if key not in before]
    changes += [FindingChange("gone", *_named(key), before[key]) for key in before if key not in after]
    changes += [FindingChange("persisting", *_named(key), after[key]) for key in after if key in before]
    place = {"failed": 0, "explore": 1, "well": 2}
    states = ("new", "gone", "persisting")
    return tuple(sorted(changes, key=lambda c: (states.index(c.state), place.get(c.kind, 3), c.rule, c.endpoint or "")))


def _named(key: tuple[str, str | None, str]) -> tuple[str, str, str | None]:
    return key[0], key[2], key[1]


# --- what makes runs alike -------------------------------------------------------------------------------------------


def _unlike(base: Sequence[RunFigures], candidate: Sequence[RunFigures]) -> tuple[str, ...]:
    """Why nothing can be said about a change, as clauses."""
    found: list[str] = []
    first, runs = base[0], (*base, *candidate)
    shared = {run.key for run in base} & {run.key for run in candidate}
    if shared and _design(base, candidate) != "same":
        found.append(f"{len(shared)} of the runs are on both sides")
    other = next((run for run in runs if run.subject != first.subject), None)
    if other is not None and all(run.requests and run.requests == first.requests for run in runs):
        # The plan's load is part of what it tests; that alone differs.
        found.append(f"the plan is the same, its load is not: {first.load} and {other.load}"[:300])
    elif other is not None:
        found.append("they did not test the same plan or script")
    searches = [run.searched for run in runs]
    if any(searches) and not all(searches):
        found.append("only one of them is a search for capacity")
    elif all(searches):
        found += _unlike_searches(runs)
    elif any(_load(run) != _load(first) for run in runs) and not any("its load is not" in why for why in found):
        found.append("their loads differ")
    sender = next((run for run in runs if run.meta.get("engine") != first.meta.get("engine")), None)
    if sender is not None:
        found.append(f"one was sent by {first.meta.get('engine')}, the other by {sender.meta.get('engine')}")
    if any(run.response_is_service != first.response_is_service for run in runs):
        found.append("only one of them counts from when requests were due")
    machines = [machine_of(run.meta) for run in runs]
    if any(machine != machines[0] for machine in machines):
        found.append(_machines(machines[0], next(machine for machine in machines if machine != machines[0])))
    elif any(_shares(run) != _shares(first) for run in runs):
        found.append("the generator shared the server's machine in some of them only")
    found += [reason for side, word in ((base, "base"), (candidate, "candidate")) for reason in _unfit(side, word)]
    if any(searches):
        return tuple(dict.fromkeys(found))
    if first.meta.get("stages") and any(_completed(run) != _completed(first) for run in runs):
        counts = sorted({len(_completed(run)) for run in runs})
        found.append(f"one completed {counts[0]} stages, the other {counts[-1]}" if len(counts) > 1 else "other stages")
    elif not frozenset.intersection(*(run.usable_stages for run in runs)) and not any("invalid" in x for x in found):
        found.append("no stage may be judged in all of them")
    sent = [[run.sent_ratio for run in side if run.sent_ratio is not None] for side in (base, candidate)]
    if sent[0] and sent[1]:
        shares = [math.fsum(side) / len(side) for side in sent]
        if abs(shares[0] - shares[1]) > SENT_APART:
            shown = " and ".join(units.format_ratio(share, 3) for share in shares)
            found.append(f"of the requests that were due, {shown} were sent: their loads differ")
    return tuple(dict.fromkeys(found))


def _unlike_searches(runs: Sequence[RunFigures]) -> list[str]:
    """Searches look for the load that holds their objectives: with others they look for something else."""
    found = []
    if any(run.meta.get("slo") != runs[0].meta.get("slo") for run in runs):
        found.append("the searches had other objectives")
    open_ended = sum(run.capacity_per_s is None for run in runs)
    if open_ended:
        found.append(f"{open_ended} of the searches found no limit")
    return found


def _unfit(side: Sequence[RunFigures], word: str) -> list[str]:
    """Why runs of a side cannot be judged at all."""
    found = []
    for run in side:
        which = f"the {word}" if len(side) == 1 else f"{run.id} of the {word}"
        ended = run.meta.get("ended")
        at_ns = ended.get("at_ns") if isinstance(ended, Mapping) else None
        # Time zero lies a moment ahead of an engine's start, so a little below it is no sign of anything.
        if any(leg.seconds < 0 for leg in run.legs) or (isinstance(at_ns, int | float) and at_ns < -units.NS_PER_S):
            found.append(f"the clock went backwards in {which}")
        elif not run.tally(None, frozenset(leg.index for leg in run.legs))[0]:
            found.append(f"{which} holds no request with a known outcome")
        elif run.validity == "invalid":
            found.append(f"{which} is invalid" + (f": {run.reasons[0]}" if run.reasons else ""))
    return found


def _completed(run: RunFigures) -> tuple[int, ...]:
    return tuple(leg.index for leg in run.legs if leg.completed)


def _load(run: RunFigures) -> Any:
    keys = ("model", "from", "to", "duration_ns")
    return [tuple(stage.get(key) for key in keys) for stage in run.meta.get("stages") or ()]


def _shares(run: RunFigures) -> Any:
    return (run.meta.get("environment") or {}).get("generator_shares_machine")


def _machines(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    parts = [f"{key} {one[key]} and {other[key]}" for key in one if one[key] != other[key]]
    return f"the machine differs: {', '.join(parts)}"[:300]


def _differences(base: Sequence[RunFigures], candidate: Sequence[RunFigures]) -> tuple[str, ...]:
    """What else was different, as clauses; none of it forbids a comparison."""
    found = []
    for label, path in (
        ("the code", ("git", "commit")),
        ("the operating system", ("environment", "machine", "os")),
        ("Python", ("environment", "machine", "python")),
        ("the target's address", ("target",)),
        ("the number of workers", ("workers",)),
    ):
        sides = [_values(side, path) for side in (base, candidate)]
        if sides[0] != sides[1]:
            found.append(f"{label} differs: {_shown(sides[0])} and {_shown(sides[1])}")
    dirty = [any((run.meta.get("git") or {}).get("dirty") for run in side) for side in (base, candidate)]
    for word, changed in zip(("base", "candidate"), dirty, strict=True):
        if changed:
            found.append(f"the {word} ran with uncommitted changes")
    versions = [{str(sorted((run.meta.get("versions") or {}).items())) for run in side} for side in (base, candidate)]
    if versions[0] != versions[1]:
        found.append("versions differ" + _version_words(base[0], candidate[0]))
    for word, side in (("base", base), ("candidate", candidate)):
        degraded = [run for run in side if run.validity == "degraded"]
        if degraded:
            count = "" if len(side) == 1 else f" in {len(degraded)} of {len(side)} runs"
            found.append(f"the {word} is degraded{count}: {'; '.join(degraded[0].reasons[:1])}")
        for clause in dict.fromkeys(clause for run in side for clause in run.unsupported):
            found.append(f"the {word} is imported and cannot say {clause}")
    rates = [_rate(side) for side in (base, candidate)]
    runs = (*base, *candidate)
    users = all(run.model == "closed" for run in runs) and all(_load(run) == _load(base[0]) for run in runs)
    if users and rates[0] and rates[1] and abs(rates[1] / rates[0] - 1.0) > 0.01:
        found.append(
            f"the same users brought {units.format_rate(rates[0])} and {units.format_rate(rates[1])}: a faster server "
            "is asked more"
        )
    return tuple(found)


def _rate(side: Sequence[RunFigures]) -> float | None:
    seconds = sum(leg.seconds for run in side for leg in run.legs)
    judged = sum(run.tally(None, frozenset(leg.index for leg in run.legs))[0] for run in side)
    return judged / seconds if seconds > 0 else None


def _values(side: Sequence[RunFigures], path: tuple[str, ...]) -> list[Any]:
    found = []
    for run in side:
        value: Any = run.meta
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        found.append(value)
    return sorted(set(found), key=str)


def _shown(values: Sequence[Any]) -> str:
    return " or ".join("not known" if value is None else str(value)[:40] for value in values[:3])


def _version_words(base: RunFigures, candidate: RunFigures) -> str:
    one, other = (run.meta.get("versions") or {} for run in (base, candidate))
    parts = [
        f"{name} {one.get(name, 'none')} and {other.get(name, 'none')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
    return f": {', '.join(parts)}"[:200] if parts else ""


# --- the line for the résumé -----------------------------------------------------------------------------------------


def sentence(comparison: Comparison, endpoint: str | None = None, metric: str | None = None) -> str | None:
    """ "Cut p95 of POST /checkout from 371 ms to 142 ms (-62 %, 95 % CI -58 to -65) at 300 requests/s".

    Of the given endpoint and metric, else of the largest improvement of a percentile. None unless the verdict carries
    it: improved, by enough runs for a word without a mark, of sides that are alike.
    """
    if not comparison.comparable or comparison.indicative:
        return None
    wanted = [
        change
        for change in comparison.changes
        if change.word == "improved"
        and change.metric in ((metric,) if metric else ("p95", "p99", "p50"))
        and endpoint in (None, change.endpoint)
    ]
    wanted.sort(key=lambda c: (c.endpoint == ALL, c.metric != "p95" and metric is None, c.change or 0.0))
    if not wanted:
        return None
    change = wanted[0]
    if change.change is None or change.low is None or change.high is None:
        return None
    before, after = (units.format_duration(side.value) for side in (change.base, change.candidate))
    name = "all requests" if change.endpoint == ALL else change.endpoint
    percent = [f"{value * 100:+.0f}" for value in (change.change, change.high, change.low)]
    return (
        f"Cut {change.metric} of {name} from {before} to {after} "
        f"({percent[0]} %, 95 % CI {percent[1]} to {percent[2]}) at {load_words(comparison.load)}"
    )


def load_words(load: str) -> str:
    """The load as the sentence says it: `300 requests/s`, `closed model, 16 users for 30 s`."""
    match = re.search(r"([\d.,]+(?: [kM])?)/s", load)
    if match and "stages" not in load and "→" not in load and " to " not in load:
        return f"{match[1]} requests/s"
    return load
