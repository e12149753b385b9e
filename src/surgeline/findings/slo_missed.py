"""Which objectives were missed, from which load on, and by whom?"""

from collections.abc import Sequence

from surgeline import units
from surgeline.analysis.capacity_search import Capacity
from surgeline.analysis.distributions import fewest_for_quantile, wilson
from surgeline.analysis.model import EndpointFigures, Estimate, Limit, ObjectiveResult, StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.errors_by_load import PENALTY_S
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

MAIN_CULPRIT = 0.5
"""An endpoint with more than this share of the requests over a common limit is named."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per objective that was missed, in the whole run or from some load on; one per objective without
    data.
    """
    found = []
    unknown = [r for r in summary.objectives if r.verdict == "no data" and r.first_missed_stage is None]
    for result in summary.objectives:
        if result.verdict == "missed" or result.first_missed_stage is not None:
            found.append(_missed(summary, result))
        elif result.verdict == "no data" and (summary.capacity is None or len(unknown) < 2):
            found.append(_no_data(result))
    if summary.capacity is not None and len(unknown) > 1:
        found.append(_hardly_judged(unknown))
    return found


def _beyond(summary: Summary, result: ObjectiveResult) -> StageFigures | None:
    """In a search, the stage of the lowest load above what it found in which the objective was missed for sure."""
    found = summary.capacity
    if found is None or found.rate_per_s is None:
        return None
    tried = {one.index for one in found.tried if one.rate_per_s >= found.rate_per_s and not one.passed}
    missed = [s for s in summary.stages if s.index in tried and result.by_stage.get(s.index) == "missed"]
    return min(missed, key=lambda stage: (stage.end, stage.index), default=None)


def _missed(summary: Summary, result: ObjectiveResult) -> Finding:
    stages = {stage.index: stage for stage in summary.stages}
    first = stages.get(result.first_missed_stage) if result.first_missed_stage is not None else None
    text = result.objective.spoken()
    beyond = _beyond(summary, result)
    if beyond is not None and summary.capacity is not None:
        where = f"at {wording.load(beyond)}"
        sentence = f"{text} gives way beyond {_held(summary.capacity)}: {_in_stage(result, beyond, where)}"
    elif first is not None and len(stages) > 1:
        sentence = f"{text} was missed from {wording.load(first)} on: {_in_stage(result, first)}"
    elif first is not None:
        sentence = f"{text} was missed at {wording.load(first)}: {result.reason}"
    else:
        sentence = f"{text} was missed over the whole run: {result.reason}"
    culprit = _culprit(summary, result)
    if culprit:
        sentence += f"; {culprit}"
    missed = [index for index, verdict in result.by_stage.items() if verdict == "missed"]
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=sentence + ".",
        confidence=confidence(True, len(missed), doubtful=any(stages[i].validity != "valid" for i in missed)),
        endpoint=result.objective.endpoint,
        n=result.judged or summary.total.tally.judged,
        evidence=tuple(
            {"stage": index, "load": max(stages[index].start, stages[index].end), "verdict": verdict}
            for index, verdict in result.by_stage.items()
        ),
        next_step=_step(summary.limit) if beyond is not None else RULE.next_step,
        impact_s=_impact(summary, result),
    )


def _held(found: Capacity) -> str:
    """What a search found, with its interval."""
    rate = wording.rate(found.rate_per_s)
    if found.low is None or found.high is None:
        return rate
    return f"{rate} [{units.format_rates(found.low, found.high)}]"


def _step(limit: Limit | None) -> str:
    """What to look at, by the kind of limit that was met."""
    steps = {
        "CPU": "Profile the served process at that load, and see what else took CPU on its machine: that is used up.",
        "pool or lock": "Look for what is waited for while CPU is left: a pool, a lock, another service.",
        "rate limiter": "Raise the rate limiter for the test, or take its limit as the answer.",
    }
    return steps.get(limit.kind if limit is not None else "", RULE.next_step)


def _hardly_judged(results: Sequence[ObjectiveResult]) -> Finding:
    """Objectives that steered a search on too few requests for a verdict on any."""
    first = results[0]
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{len(results)} objectives had too few requests at the loads that were tried for a verdict: "
            f"{first.objective.spoken()} ({first.reason}) and {wording.plural(len(results) - 1, 'other')}."
        ),
        confidence="low",
        endpoint=None,
        n=sum(result.judged or 0 for result in results),
        evidence=tuple({"objective": result.objective.text, "reason": result.reason} for result in results),
        next_step="Give the search more time, or see to the objective that breaks first: beyond it the loads grow.",
        impact_s=0.0,
        doubt="",
    )


def _figures(stage: StageFigures, name: str | None) -> EndpointFigures:
    """Of the endpoint or transaction of that name in a stage, or of everything."""
    held = (*stage.endpoints, *stage.transactions)
    return next((figures for figures in held if figures.name == name), stage.total)


def _what(stage: StageFigures, name: str | None) -> str:
    """What an objective counts."""
    return "transactions" if _is_transaction(stage.endpoints, stage.transactions, name) else "requests"


def _is_transaction(
    endpoints: Sequence[EndpointFigures], together: Sequence[EndpointFigures], name: str | None
) -> bool:
    names = {figures.name for figures in endpoints}
    return name not in names and any(figures.name == name for figures in together)


def _in_stage(result: ObjectiveResult, stage: StageFigures, there: str = "there") -> str:
    """The figure there against the limit."""
    objective, figures = result.objective, _figures(stage, result.objective.endpoint)
    if objective.metric == "quantile" and objective.quantile is not None:
        judged = figures.tally.judged
        if judged < fewest_for_quantile(objective.quantile):
            # Of so few there is no percentile; how many of them were over is what decides, and stays true.
            what = _what(stage, objective.endpoint)
            return f"{there} {_over(figures, result):,} of {judged:,} {what} were slower or went wrong"
        over = wording.share(_share_over(figures, result))
        value = _with_bad(figures, objective.quantile)
        limit, label = units.format_duration(objective.limit), f"p{objective.quantile * 100:g}"
        counted = f"{over} of {figures.tally.judged:,} {_what(stage, objective.endpoint)} were slower or went wrong"
        if value is None:
            allowed = units.format_ratio(1.0 - objective.quantile)
            return f"{there} {counted}, more went wrong than the {allowed} that {label} leaves out"
        return f"{there} {label} is {value} against {limit}, {counted}"
    if objective.metric == "errors":
        what, allowed = _what(stage, objective.endpoint), units.format_ratio(objective.limit)
        share = wording.share(figures.error_ratio)
        unsent = figures.tally.unsent
        went = (
            "went wrong"
            if not unsent
            else "were not sent"
            if unsent == figures.tally.bad
            else "went wrong or were not sent"
        )
        return f"{there} {share} of {figures.tally.judged:,} {what} {went} against {allowed}"
    return result.reason


def _with_bad(figures: EndpointFigures, quantile: float) -> str | None:
    """The percentile with what went wrong counted as infinitely slow; None where it is one of those."""
    histogram, judged = figures.response.histogram, figures.tally.judged
    if quantile * judged > histogram.count:
        return None
    known = figures.response.quantiles.get(quantile)
    if not figures.tally.bad and known is not None and known.value is not None:
        return wording.time(known)
    return wording.time(float(histogram.quantile(min(quantile * judged / max(histogram.count, 1), 1.0)) or 0))


def _share_over(figures: EndpointFigures, result: ObjectiveResult) -> Estimate:
    """The share of requests over a limit on a percentile, with the interval of as many as they are worth."""
    judged = figures.tally.judged
    share = _over(figures, result) / max(judged, 1)
    known = figures.response.quantiles.get(result.objective.quantile or 0.5)
    if known is None or not known.n or not known.n_eff or not judged:
        return Estimate(share, n=judged)
    worth = judged * known.n_eff / known.n
    return Estimate(share, *wilson(share, max(worth, 1.0)), judged, worth)


def _over(figures: EndpointFigures, result: ObjectiveResult) -> int:
    """Requests over the objective's limit, those that went wrong among them."""
    if result.objective.metric == "quantile":
        return figures.response.histogram.count_above(round(result.objective.limit)) + figures.tally.bad
    return figures.tally.bad if result.objective.metric == "errors" else 0


def _culprit(summary: Summary, result: ObjectiveResult) -> str:
    if result.objective.endpoint is not None or len(summary.endpoints) < 2:
        return ""
    over = [(_over(figures, result), figures) for figures in summary.endpoints]
    whole = sum(count for count, _ in over)
    most, figures = max(over, key=lambda pair: (pair[0], pair[1].name))
    if not whole or most <= MAIN_CULPRIT * whole:
        return ""
    traffic = figures.tally.due / max(summary.total.tally.due, 1)
    return (
        f"{wording.name(figures.name)} is {units.format_ratio(traffic)} of the requests and "
        f"{units.format_ratio(most / whole)} of those "
        f"{'that went wrong' if result.objective.metric == 'errors' else 'over the limit'}"
    )


def _impact(summary: Summary, result: ObjectiveResult) -> float:
    """Seconds waited beyond the limit, and the penalty of each request that went wrong."""
    objective = result.objective
    lost = 0.0
    for stage in usable(summary):
        figures = _figures(stage, objective.endpoint)
        if objective.metric == "quantile":
            mean_over = _mean_above(figures, objective.limit)
            lost += mean_over / 1e9
        lost += figures.tally.bad * PENALTY_S if objective.metric in ("quantile", "errors") else 0.0
    return lost


def _mean_above(figures: EndpointFigures, limit_ns: float) -> float:
    """The time, ns, that ok requests spent beyond the limit, all together; from the histogram."""
    from surgeline.samples import histogram_low

    return sum(
        max(histogram_low(index) - limit_ns, 0.0) * count for index, count in figures.response.histogram.counts.items()
    )


def _no_data(result: ObjectiveResult) -> Finding:
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=f"Whether {result.objective.spoken()} holds is not known: {result.reason}.",
        confidence="low",
        endpoint=result.objective.endpoint,
        n=result.judged or 0,
        evidence=({"objective": result.objective.text, "reason": result.reason},),
        next_step="Run longer at the load you care about.",
        impact_s=0.0,
        doubt="",
    )


RULE = Rule(
    id="slo.missed",
    title="An objective was missed",
    question="Which of your objectives did not hold, from which load on, and which endpoint is to blame?",
    statistic="requests over the limit, with all that went wrong counted as over it, of those whose outcome is known",
    threshold="more of them than allowed, by more than chance would do in one run of twenty (binomial, effective n)",
    guard=(
        "stages that the generator limited do not count; too few requests, or too close to call, is no data; a search "
        "for capacity misses objectives on purpose, so there it says beyond which rate they give way"
    ),
    why="It is the limit that you set yourself: nothing here ranks above it.",
    next_step="Begin with the endpoint that is over the limit most often, at the load at which it begins.",
    judge=judge,
    counterpart="slo.met",
)
