"""Were the objectives met?

A limit on a percentile is decided by counting: of the requests judged, how many were over the limit? Whatever went
wrong counts as over it, so failing fast never helps. *Missed* needs more of them than chance would put there in one
run out of twenty; *met* needs no more than the objective allows, and enough requests that a miss would have shown; all
else is *no data*. Stages that the generator limited do not count.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis.book import WITH_TIMES, Book, within
from surgeline.analysis.capacity import ladder
from surgeline.analysis.distributions import binomial_at_least
from surgeline.analysis.intervals import ratio_estimate, spread
from surgeline.analysis.model import Estimate, ObjectiveResult, SloVerdict, StageFigures
from surgeline.plan.objective import Objective, ObjectiveError, parse_objectives
from surgeline.samples import histogram_index

Array = np.ndarray[Any, np.dtype[Any]]

SURE = 0.05
"""How often chance alone may make a server that holds its objective look as if it had missed it."""
MOST_BAD_FOR_A_MEAN = 0.01
"""With more requests gone wrong than this, the mean of the others says little."""


def objectives_of(run: Mapping[str, Any]) -> tuple[Objective, ...]:
    """The objectives a run was given: those in its settings, else those of its plan; texts that are none are left
    out.
    """
    texts = (run.get("settings") or {}).get("slo") or ((run.get("subject") or {}).get("plan") or {}).get("slo") or ()
    found: list[Objective] = []
    for text in [texts] if isinstance(texts, str) else texts:
        try:
            found += parse_objectives(str(text))
        except ObjectiveError:
            continue
    return tuple(dict.fromkeys(found))


def judge(
    objectives: Sequence[Objective], book: Book, stages: Sequence[StageFigures], together: Book | None = None
) -> tuple[ObjectiveResult, ...]:
    """What became of each objective, over all valid stages and in each of them.

    One that names no endpoint of the run is looked for among the transactions in `together`.
    """
    valid = [stage for stage in stages if stage.validity != "invalid"]
    return tuple(_one(objective, _book_of(objective, book, together), valid) for objective in objectives)


def _book_of(objective: Objective, book: Book, together: Book | None) -> Book:
    name = objective.endpoint
    if together is None or name is None or name in book.endpoints or name not in together.endpoints:
        return book
    return together


def holds(results: Sequence[ObjectiveResult], stages: Sequence[StageFigures]) -> int | None:
    """The stage of the highest load up to which no objective was missed and in which at least one was met.

    Of the stages that tell which load is held.
    """
    best = None
    for stage in ladder(stages):
        if stage.validity == "invalid":
            continue
        verdicts = [result.by_stage.get(stage.index, "no data") for result in results]
        if "missed" in verdicts:
            break
        if "met" in verdicts:
            best = stage.index
    return best


def _one(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> ObjectiveResult:
    whole = _decide(objective, book, stages)
    by_stage: dict[int, SloVerdict] = {}
    for stage in stages:
        if any((stage.index, name) in book.cells for name in _names(objective, book)):
            by_stage[stage.index] = _decide(objective, book, [stage]).verdict
    rungs = ladder(stages)
    others = [stage for stage in stages if stage not in rungs]
    missed = [stage.index for stage in (*rungs, *others) if by_stage.get(stage.index) == "missed"]
    return ObjectiveResult(
        objective,
        whole.verdict,
        whole.observed,
        missed[0] if missed else None,
        whole.reason,
        by_stage,
        whole.exceeded,
        whole.judged,
    )


def _names(objective: Objective, book: Book) -> list[str]:
    return book.endpoints if objective.endpoint is None else [objective.endpoint]


def _decide(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> ObjectiveResult:
    """The verdict over those stages together; `by_stage` and `first_missed_stage` are left empty."""
    if objective.endpoint is not None and objective.endpoint not in book.endpoints:
        return _result(objective, "no data", Estimate(None), f"{objective.endpoint} was never due")
    judged, bad = _outcomes(objective, book, stages)
    if not judged.sum():
        why = "no request has a known outcome" if stages else "no stage is valid"
        return _result(objective, "no data", Estimate(None, why_not=why), why)
    if objective.metric == "quantile":
        return _quantile(objective, book, stages, judged)
    if objective.metric == "errors":
        observed = ratio_estimate(judged, bad, _strata(objective, book, stages))
        names = _names(objective, book)
        cells = [
            book.cells[stage.index, name] for stage in stages for name in names if (stage.index, name) in book.cells
        ]
        unsent = sum(cell.tally.unsent for cell in cells)
        went = "went wrong" if not unsent else "were not sent" if unsent == bad.sum() else "went wrong or were not sent"
        what = f"{book.what} {went}"
        return _share(objective, observed, int(bad.sum()), int(judged.sum()), objective.limit, what)
    if objective.metric == "seconds":
        return _seconds(objective, book, stages, judged, bad)
    if objective.metric == "apdex":
        return _apdex(objective, book, stages, judged)
    if objective.metric == "rate":
        return _rate(objective, book, stages)
    return _mean_or_max(objective, book, stages, int(bad.sum()), int(judged.sum()))


def _slots(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for stage in stages:
        found |= book.by_slot(stage.index, objective.endpoint)
    return found


def _outcomes(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> tuple[Array, Array]:
    """Per second: requests whose outcome is known, and those of them that are not ok."""
    slots = _slots(objective, book, stages).values()
    return np.array([pair[0] for pair in slots], dtype=np.int64), np.array([pair[1] for pair in slots], dtype=np.int64)


def _strata(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> Array:
    return np.array([slot >> 32 for slot in _slots(objective, book, stages)], dtype=np.int64)


def _over(objective: Objective, book: Book, stages: Sequence[StageFigures], limit_ns: float) -> Array:
    """Per second: requests over the limit, those that went wrong among them."""
    slots = {slot: pair[1] for slot, pair in _slots(objective, book, stages).items()}
    bucket = histogram_index(round(limit_ns))
    for stage in stages:
        for slot, count in zip(*book.ok(stage.index, objective.endpoint).beyond(bucket), strict=True):
            slots[int(slot)] += round(float(count))
    return np.array(list(slots.values()), dtype=np.int64)


def _quantile(objective: Objective, book: Book, stages: Sequence[StageFigures], judged: Array) -> ObjectiveResult:
    q = objective.quantile or 0.5
    over = _over(objective, book, stages, objective.limit)
    share = ratio_estimate(judged, over, _strata(objective, book, stages))
    n, k = int(judged.sum()), int(over.sum())
    observed = _observed_quantile(objective, book, stages, n, q)
    verdict = _verdict(k / n, n, share.n_eff or n, 1.0 - q)
    label = f"p{q * 100:g}"
    value = "without end" if observed.value is None else units.format_duration(observed.value)
    if observed.value is not None and (observed.low is not None or observed.high is not None):
        value += f" [{units.format_ends(observed.low, observed.high, observed.value)}]"
    limit = units.format_duration(objective.limit)
    counted = f"{k:,} of {n:,} {book.what} ({_around(share)}) were slower than {limit} or went wrong"
    if verdict == "no data":
        enough = math.ceil(math.log(SURE) / math.log(q))
        why = (
            f"{n:,} {book.what if n != 1 else book.what.removesuffix('s')}, {label} needs {enough:,}"
            if n < enough
            else f"{counted}: too close to the {units.format_ratio(1 - q)} allowed to tell in a run this short"
        )
        return _result(objective, "no data", observed, why, k, n)
    return _result(objective, verdict, observed, f"{label} {value} against {limit}: {counted}", k, n)


def _observed_quantile(
    objective: Objective, book: Book, stages: Sequence[StageFigures], judged: int, q: float
) -> Estimate:
    """The quantile with everything that went wrong counted as infinitely slow."""
    from surgeline.analysis.pooled import Columns

    pooled = Columns.pool(book.ok(stage.index, objective.endpoint) for stage in stages)
    histogram = pooled.histogram()
    if not histogram.count or q * judged > histogram.count:
        return Estimate(None, n=judged, why_not="so many requests went wrong that the percentile is one of them")
    if judged == histogram.count:
        return pooled.times((q,)).quantiles[q]
    rank = max(math.ceil(q * judged - 1e-9 * judged), 1)
    return Estimate(float(histogram.value_at_rank(rank)), n=judged, why_not="requests that went wrong are among them")


def _around(share: Estimate) -> str:
    """A share with its interval: `1.7 % [1.3–2.1]`."""
    return f"{units.format_ratio(share.value)} [{units.format_ratios(share.low, share.high)}]"


def _verdict(share: float, n: int, n_eff: float, allowed: float) -> SloVerdict:
    """From an observed share of requests over a limit, and the share that is allowed."""
    if share <= allowed:
        return "met" if (1.0 - allowed) ** n <= SURE else "no data"
    beyond = binomial_at_least(share * n_eff, n_eff, allowed)
    return "missed" if beyond < SURE else "no data"


def _share(objective: Objective, observed: Estimate, k: int, n: int, limit: float, what: str) -> ObjectiveResult:
    allowed = units.format_ratio(limit)
    counted = f"{k:,} of {n:,} {what} ({_around(observed)})"
    verdict = _verdict(k / n, n, observed.n_eff or n, limit) if limit > 0 else ("met" if k == 0 else "missed")
    if verdict == "no data":
        enough = math.ceil(math.log(SURE) / math.log1p(-limit)) if 0 < limit < 1 else 1
        why = (
            f"{counted}; {enough:,} {what.split(' ', 1)[0]} are needed to tell {allowed}"
            if n < enough
            else f"{counted}: too close to the {allowed} allowed to tell in a run this short"
        )
        return _result(objective, "no data", observed, why, k, n)
    return _result(objective, verdict, observed, f"{counted} against {allowed}", k, n)


def _seconds(
    objective: Objective, book: Book, stages: Sequence[StageFigures], judged: Array, bad: Array
) -> ObjectiveResult:
    """Of the seconds in which something was due and judged: did enough of them hold what they must?

    A second between two stages belongs to both, and counts once.
    """
    each = objective.each
    assert each is not None  # noqa: S101 - the parser gives every objective of this kind what a second must hold
    quantile = each.metric == "quantile"
    over = _over(objective, book, stages, each.limit) if quantile else bad
    allowed = 1.0 - (each.quantile or 0.0) if quantile else each.limit
    held: dict[int, list[int]] = {}
    for slot, n, k in zip(_slots(objective, book, stages), judged.tolist(), over.tolist(), strict=True):
        second = held.setdefault(slot & 0xFFFFFFFF, [0, 0, 0])
        second[0] += n
        second[1] += k
        second[2] = slot >> 32
    rows = [row for _, row in sorted(held.items()) if row[0]]
    wrong = np.array([k > allowed * n * (1.0 + 1e-9) for n, k, _ in rows], dtype=np.int64)
    strata = np.array([stage for _, _, stage in rows], dtype=np.int64)
    observed = ratio_estimate(np.ones(len(rows), dtype=np.int64), wrong, strata)
    limit = units.format_duration(each.limit) if quantile else units.format_ratio(each.limit)
    what = f"seconds did not keep {f'p{(each.quantile or 0.0) * 100:g}' if quantile else 'errors'} < {limit}"
    found = _share(objective, observed, int(wrong.sum()), len(rows), 1.0 - objective.limit, what)
    good = None if observed.value is None else 1.0 - observed.value
    ends = [None if end is None else 1.0 - end for end in (observed.high, observed.low)]
    return replace(found, observed=replace(observed, value=good, low=ends[0], high=ends[1]))


def _apdex(objective: Objective, book: Book, stages: Sequence[StageFigures], judged: Array) -> ObjectiveResult:
    threshold = objective.apdex_ns or 0
    satisfied = judged - _over(objective, book, stages, threshold)
    tolerated = judged - _over(objective, book, stages, 4 * threshold) - satisfied
    n = int(judged.sum())
    value = (float(satisfied.sum()) + float(tolerated.sum()) / 2.0) / n
    # A score of 0, ½ or 1 per request, spread over the seconds as uneasily as being unsatisfied is.
    phi = spread(judged, judged - satisfied, _strata(objective, book, stages), fewest_bins=4).phi
    squares = (float(satisfied.sum()) + float(tolerated.sum()) / 4.0) / n
    se = math.sqrt(max(squares - value * value, 0.0) / n * phi)
    observed = Estimate(value, max(value - 1.96 * se, 0.0), min(value + 1.96 * se, 1.0), n, n / phi)
    said = (
        f"Apdex {value:.2f} [{observed.low:.2f}–{observed.high:.2f}] against {objective.limit:g}, "
        f"T = {units.format_duration(threshold)}, {n:,} {book.what}"
    )
    if n < 30:
        return _result(objective, "no data", observed, f"{said}: too few to tell")
    if value >= objective.limit:
        return _result(objective, "met", observed, said)
    if value + 1.645 * se < objective.limit:
        return _result(objective, "missed", observed, said)
    return _result(objective, "no data", observed, f"{said}: too close to tell in a run this short")


def _rate(objective: Objective, book: Book, stages: Sequence[StageFigures]) -> ObjectiveResult:
    """Of the stage with the most right answers per second: missed where its interval lies below the limit."""
    good = [(rate, stage) for stage in stages if (rate := _goodput(book, stage, objective.endpoint)) is not None]
    if not good:
        return _result(objective, "no data", Estimate(None), "no correct answer came")
    best, stage = max(good, key=lambda item: item[0])
    # Of a stage too short for the scatter between its seconds they are taken to come as independent ones do.
    chance = 1.96 * math.sqrt(best / stage.duration_s)
    low, high = book.rate_interval(objective.endpoint, stage.begin_ns, stage.end_ns) or (
        max(best - chance, 0.0),
        best + chance,
    )
    around = units.format_rates(low, high).removesuffix("/s")
    said = f"{units.format_rate(best)} [{around}] correct answers at best against {units.format_rate(objective.limit)}"
    observed = Estimate(best, low, high)
    if best > objective.limit:
        return _result(objective, "met", observed, said)
    tried = max((stage.total.tally.due / stage.duration_s for stage in stages if stage.duration_s), default=0.0)
    if objective.endpoint is None and tried <= objective.limit:
        return _result(objective, "no data", observed, f"{said}, but no more than {units.format_rate(tried)} were due")
    if high >= objective.limit:
        return _result(objective, "no data", observed, f"{said}: too close to tell in a run this short")
    return _result(objective, "missed", observed, said)


def _goodput(book: Book, stage: StageFigures, name: str | None) -> float | None:
    if name is None:
        return stage.total.goodput_per_s
    if (stage.index, name) not in book.cells or stage.duration_s <= 0:
        return None
    return within(book.arrived(name, WITH_TIMES[:1]), stage.begin_ns, stage.end_ns) / stage.duration_s


def _mean_or_max(
    objective: Objective, book: Book, stages: Sequence[StageFigures], bad: int, judged: int
) -> ObjectiveResult:
    from surgeline.analysis.pooled import Columns

    histogram = Columns.pool(book.ok(stage.index, objective.endpoint) for stage in stages).histogram()
    limit = units.format_duration(objective.limit)
    timeouts = sum(
        book.cells[stage.index, name].tally.timeout
        for stage in stages
        for name in _names(objective, book)
        if (stage.index, name) in book.cells
    )
    if objective.metric == "max":
        most = histogram.max_ns
        if timeouts:
            said = f"{timeouts:,} {book.what} timed out, which counts as infinitely slow"
            return _result(objective, "missed", Estimate(None, n=judged, why_not=said), said, timeouts, judged)
        if most is None:
            return _result(objective, "no data", Estimate(None), "no correct answer came")
        said = f"the slowest of {histogram.count:,} took {units.format_duration(most)} against {limit}"
        observed = Estimate(float(most), n=histogram.count, why_not="the greatest value has no interval")
        return _result(objective, "met" if most < objective.limit else "missed", observed, said)
    if histogram.mean_ns is None:
        return _result(objective, "no data", Estimate(None), "no correct answer came")
    observed = Estimate(histogram.mean_ns, n=histogram.count, why_not="a mean is shown without an interval")
    said = f"mean {units.format_duration(histogram.mean_ns)} of {histogram.count:,} against {limit}"
    if bad > MOST_BAD_FOR_A_MEAN * judged:
        return _result(
            objective, "no data", observed,
            f"{said}, but {units.format_ratio(bad / judged)} went wrong and have no place in a mean",
        )  # fmt: skip
    return _result(objective, "met" if histogram.mean_ns < objective.limit else "missed", observed, said)


def _result(
    objective: Objective,
    verdict: SloVerdict,
    observed: Estimate,
    reason: str,
    exceeded: int | None = None,
    judged: int | None = None,
) -> ObjectiveResult:
    return ObjectiveResult(objective, verdict, observed, None, reason, {}, exceeded, judged)
