"""What did this run show, in one sentence?

A summary comes in, one sentence of at most 25 words leaves, with the stage and the endpoint it speaks of. It says how
much was held and what gave way first: the objectives where there are some, else errors, else throughput that stopped
growing. A stage the generator limited has no say, and a run without a valid stage gets a sentence about the generator.

Stages are compared in order of load (their greatest planned level), not in order of time; those that tell of something
else than the load they have (ramps down, what comes after a heavier load) are not spoken of as loads held.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from surgeline import units
from surgeline.analysis.capacity import ladder
from surgeline.analysis.capacity_search import Capacity
from surgeline.analysis.distributions import binomial_at_least
from surgeline.analysis.model import (
    EndpointFigures,
    ErrorGroup,
    Estimate,
    ObjectiveResult,
    Saturation,
    StageFigures,
    Summary,
)
from surgeline.plan.objective import Objective
from surgeline.report.text import plural, shown

LONGEST_WORDS = 25
"""A sentence one takes in at a glance; the promise of the page."""

LONGEST_NAME = 60
"""Characters of an endpoint's name within the sentence."""

ERRORS_BEGIN_RATIO = 0.01
"""Errors "begin" where this share of the due requests goes wrong: the limit most teams set without thinking (taste)."""

FEWEST_FOR_CAPACITY = 299
"""Requests in all loads of a search, without which not even one load could be told to hold 1 %."""

Slo = Literal["met", "missed", "no data"]
Basis = Literal[
    "objectives",
    "capacity",
    "errors",
    "throughput",
    "no limit",
    "one load",
    "generator",
    "nothing answered",
    "nothing measured",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence and what it rests on.

    `slo` is None where no objectives were set. `holds_stage` is the stage whose load is said to be held, `breaks_stage`
    the one in which the limit showed, `breaks_endpoint` the endpoint that broke it, `broken` the objective; each None
    where the sentence names none.
    """

    sentence: str
    basis: Basis
    slo: Slo | None
    holds_stage: int | None = None
    breaks_stage: int | None = None
    breaks_endpoint: str | None = None
    broken: str | None = None


def verdict(summary: Summary) -> Verdict:
    """The verdict on a run."""
    slo = slo_word(summary.objectives)
    tally = summary.total.tally
    if tally.due == 0:
        return Verdict("Nothing was measured: no request was due.", "nothing measured", slo)
    if tally.answered == 0:
        return Verdict(_nothing_answered(summary), "nothing answered", slo)
    if summary.validity == "invalid":
        return Verdict(_invalid(summary), "generator", slo)
    if summary.capacity is not None:
        return _searched(summary, summary.capacity)
    if summary.objectives:
        return _against_objectives(summary, slo)
    return _without_objectives(summary)


def objective_word(result: ObjectiveResult) -> Slo:
    """Missed if the whole run or any valid stage missed it, else what the whole run says."""
    return "missed" if result.first_missed_stage is not None else result.verdict


def slo_word(results: Sequence[ObjectiveResult]) -> Slo | None:
    """Missed if any is missed, else no data if any has none, else met; None without objectives."""
    words = {objective_word(result) for result in results}
    for word in ("missed", "no data", "met"):
        if word in words:
            return word
    return None


# --- words -----------------------------------------------------------------------------------------------------------


def load_text(stage: StageFigures) -> str:
    """The planned load of a stage: `64 users`, `300/s`, and for a ramp `1–64 users`, `50–300/s`.

    Sessions that arrive come before the requests they make: `10 sessions/s (30/s)`. Results made elsewhere
    do not say it, and neither do scripts of which no user was ever seen.
    """
    if stage.start == stage.end == 0:
        return "a load that is not known"
    if stage.model == "closed":
        if stage.start == stage.end:
            return plural(stage.end, "user")
        return f"{stage.start:g}–{plural(stage.end, 'user')}"
    requests = _rates(stage.start, stage.end)
    return requests if stage.sessions is None else f"{_rates(*stage.sessions, _sessions(stage))} ({requests})"


def _rates(first: float, last: float, noun: str = "/s") -> str:
    low, high = (units.format_rate(rate).removesuffix("/s") for rate in (first, last))
    line = high if first == last else f"{low}–{high}"
    return f"{line}{noun}" if noun == "/s" else f"{line} {noun}"


def _sessions(stage: StageFigures) -> str:
    return "session/s" if stage.sessions == (1.0, 1.0) else "sessions/s"


def stage_text(stage: StageFigures) -> str:
    """A stage by its own name with its load, `spike 1 (90/s)`; by its load alone where it was given no name."""
    return f"{_name(stage.own_name)} ({load_text(stage)})" if stage.own_name else load_text(stage)


def peak(stage: StageFigures) -> float:
    """The greatest planned level of a stage."""
    return max(stage.start, stage.end)


def in_order_of_load(stages: Sequence[StageFigures]) -> list[StageFigures]:
    """The stages that tell which load is held, by their greatest planned level; equal ones as they came."""
    return ladder(stages)


def objective_text(objective: Objective, where: bool = True) -> str:
    """The objective in the units of the page, its endpoint's name as a page may show it."""
    place = f"{shown(objective.endpoint)}: " if where and objective.endpoint is not None else ""
    return f"{place}{objective.spoken(False)}"


def _name(name: str) -> str:
    """An endpoint's name, short enough for a sentence: at most six words and LONGEST_NAME characters."""
    words = shown(name, LONGEST_NAME).split()
    return " ".join(words) if len(words) <= 6 else " ".join(words[:6]) + " …"


def _shortest_that_fits(*candidates: str) -> str:
    """The first candidate of at most 25 words; the last one, cut, where none is."""
    for text in candidates:
        if len(text.split()) <= LONGEST_WORDS:
            return text
    return " ".join(candidates[-1].split()[: LONGEST_WORDS - 1]) + " …"


# --- with objectives -------------------------------------------------------------------------------------------------


def measured(figures: EndpointFigures, objective: Objective) -> float | None:
    """What `objective` is about, for one endpoint or all together: ns, a ratio, or per second; None if not known.

    Apdex and good seconds are not told apart by endpoint, so they have none.
    """
    if objective.metric == "quantile":
        wanted = objective.quantile or 0.0
        # 99.9 / 100 is not 0.999 in binary: quantiles are equal when they are nearly so.
        found = next((value for q, value in figures.response.quantiles.items() if abs(q - wanted) < 1e-9), None)
        return figures.response.histogram.quantile(wanted) if found is None else found.value
    if objective.metric == "mean":
        return figures.response.mean_ns
    if objective.metric == "max":
        return figures.response.max_ns
    if objective.metric == "errors":
        return figures.error_ratio.value
    if objective.metric == "rate":
        return figures.goodput_per_s
    return None


def applies(objective: Objective, name: str) -> bool:
    """Whether an objective says something about this endpoint alone.

    One for all endpoints together does where it is an upper limit: no endpoint should be worse. A rate or Apdex of all
    together is nothing that one endpoint could miss.
    """
    return objective.endpoint == name or (objective.endpoint is None and objective.upper)


SURE = 0.05
"""How often chance alone may make an endpoint look as if it had missed a limit."""

SHARED_LUCK = 4.0
"""Requests of a run share its luck: where nobody has worked out how much, each is taken to be worth a quarter."""


def against(figures: EndpointFigures, objective: Objective) -> Slo:
    """One endpoint's figures against a limit that is meant for it or for all together.

    Missed where more requests were over the limit, or went wrong, than chance would put there, as for the objectives
    themselves. Met where no more were than the objective allows and the figure is known: less strict than for an
    objective, whose verdict needs enough requests that a miss would have shown. Else no data.
    """
    n = figures.tally.judged
    if not n:
        return "no data"
    if objective.metric not in ("quantile", "errors"):
        value = measured(figures, objective)
        if value is None:
            return "no data"
        return "met" if (value < objective.limit if objective.upper else value > objective.limit) else "missed"
    allowed = objective.limit if objective.metric == "errors" else 1.0 - (objective.quantile or 0.0)
    share = _over(figures, objective) / n
    if share <= allowed:
        return "no data" if measured(figures, objective) is None else "met"
    worth = max((figures.error_ratio.n_eff if objective.metric == "errors" else None) or n / SHARED_LUCK, 1.0)
    return "missed" if binomial_at_least(share * worth, worth, allowed) < SURE else "no data"


def _against_objectives(summary: Summary, slo: Slo | None) -> Verdict:
    texts = [objective_text(result.objective) for result in summary.objectives]
    within = " and ".join(texts) if len(texts) <= 2 else f"{len(texts)} objectives"
    order = in_order_of_load(summary.stages)
    held = next((stage for stage in order if stage.index == summary.holds), None)
    missed = _first_missed(summary, order)
    if missed is None and slo == "missed":
        return _missed_elsewhere(summary, held, within)
    if held is None and missed is None:
        return _undecided(summary, within, slo)
    if held is None:
        assert missed is not None  # noqa: S101 - the case before this one
        return _missed_at_once(summary, order, missed, slo)
    if missed is None:
        return _held_to_the_end(summary, order, held, within, slo)
    result, stage = missed
    worst = _breaker(stage, result.objective)
    broken = objective_text(result.objective)
    what = "it" if len(texts) == 1 else objective_text(result.objective, where=False)
    who = _name(worst.name) if worst is not None else ""
    rate, at = _held_rate(held)
    if who:
        tail = f"{who} breaks {what} first at {stage_text(stage)}"
        short = f"{who} breaks first at {stage_text(stage)}"
    else:
        tail = f"{broken} is missed at {stage_text(stage)}"
        short = f"missed at {stage_text(stage)}"
    sentence = _shortest_that_fits(
        f"Holds {rate}{at} within {within}; {tail}.",
        f"Holds {rate} within {within}; {tail}.",
        f"Holds {rate}{at} within {within}; {short}.",
        f"Holds {rate} within {within}; {short}.",
        f"Holds {rate} within its objectives; {short}.",
        f"Holds {rate} within its objectives.",
    )
    return Verdict(
        sentence, "objectives", slo, held.index, stage.index, worst.name if worst is not None else None, broken
    )


def _held_rate(stage: StageFigures) -> tuple[str, str]:
    """How much a stage held, and under which load where that is not the same thing.

    What arrives at a planned rate holds that rate; what came back of it scatters, and is in the table.
    """
    if stage.start != stage.end or stage.total.goodput_per_s is None:
        return stage_text(stage), ""
    if stage.model == "open":
        return load_text(stage), f" at {_name(stage.own_name)}" if stage.own_name else ""
    return _rate(stage), f" at {stage_text(stage)}"


def _first_missed(summary: Summary, order: list[StageFigures]) -> tuple[ObjectiveResult, StageFigures] | None:
    """The missed objective that gave way at the least load, and where; None where none can be placed."""
    place = {stage.index: position for position, stage in enumerate(order)}
    found = [
        (place[result.first_missed_stage], _by_failing(order[place[result.first_missed_stage]], result), number, result)
        for number, result in enumerate(summary.objectives)
        if result.first_missed_stage is not None and result.first_missed_stage in place
    ]
    if not found:
        return None
    position, _, _, result = min(found, key=lambda item: item[:3])
    return result, order[position]


def _by_failing(stage: StageFigures, result: ObjectiveResult) -> bool:
    """Whether an objective on times was missed by requests that went wrong more than by slow ones: errors say it."""
    objective = result.objective
    if objective.metric != "quantile":
        return False
    figures = next((one for one in stage.endpoints if one.name == objective.endpoint), stage.total)
    return 2 * figures.tally.bad > _over(figures, objective)


def _breaker(stage: StageFigures, objective: Objective) -> EndpointFigures | None:
    """The endpoint that breaks an objective most in a stage: the one with the most requests over the limit.

    Of those that miss it clearly, else of all it is meant for. None for limits on a rate or an Apdex, which no single
    request exceeds.
    """
    if not objective.upper and objective.endpoint is None:
        return None
    concerned = [figures for figures in stage.endpoints if applies(objective, figures.name)]
    guilty = [figures for figures in concerned if against(figures, objective) == "missed"] or concerned
    over = [(_over(figures, objective), figures.name, figures) for figures in guilty]
    most = max(over, key=lambda item: item[:2], default=None)
    return most[2] if most is not None and (most[0] > 0 or objective.endpoint is not None) else None


def _over(figures: EndpointFigures, objective: Objective) -> int:
    """How many requests were over the limit or went wrong."""
    if objective.each is not None:
        return _over(figures, objective.each)
    if objective.metric == "errors":
        return figures.tally.bad
    return figures.response.histogram.count_above(round(objective.limit)) + figures.tally.bad


def _missed_at_once(
    summary: Summary, order: list[StageFigures], missed: tuple[ObjectiveResult, StageFigures], slo: Slo | None
) -> Verdict:
    result, stage = missed
    worst = _breaker(stage, result.objective)
    broken = objective_text(result.objective)
    below = [one for one in order[: order.index(stage)] if one.validity != "invalid" and one.total.tally.judged]
    where = f"{'already ' if len(order) > 1 and not below else ''}at {stage_text(stage)}"
    start = f"Misses {broken} {where}"
    if result.objective.endpoint is not None:
        start = f"{_name(result.objective.endpoint)} misses {objective_text(result.objective, False)} {where}"
    tails = [""]
    if worst is not None:
        value = measured(worst, result.objective)
        own = result.objective.endpoint is not None
        if value is not None:
            tails = [f": {'it' if own else _name(worst.name)} has {_reading(result.objective, value, worst)}", ""]
        elif not own:
            tails = [f", most on {_name(worst.name)}", ""]
    flat = summary.saturation
    grows = ""
    if flat is not None and flat.reached:
        grows = f"; throughput stops growing at {units.format_rate(flat.throughput_per_s)}{_ends(flat.interval)}"
    if below:
        loads = "the load" if len(below) == 1 else f"the {len(below)} loads"
        tails = [f"; {loads} below stayed within it, in too few requests for a verdict", "; below it too few requests"]
        grows = ""
    sentence = _shortest_that_fits(*(f"{start}{tail}{more}." for tail in tails for more in (grows, "")))
    return Verdict(sentence, "objectives", slo, None, stage.index, worst.name if worst is not None else None, broken)


def _missed_elsewhere(summary: Summary, held: StageFigures | None, within: str) -> Verdict:
    """What no load broke that was held for a while: a ramp did, or what came after a heavier load, or all together."""
    stages = {stage.index: stage for stage in summary.stages}
    first = next((result for result in summary.objectives if result.first_missed_stage in stages), None)
    if first is None:
        return _undecided(summary, within, "missed")
    assert first.first_missed_stage is not None  # noqa: S101 - it is one of the stages
    stage, broken = stages[first.first_missed_stage], objective_text(first.objective)
    why = "while the load changes" if stage.start != stage.end else "after the heavier load"
    told = f"{broken} is missed at {stage_text(stage)}, {why}"
    if held is None:
        sentence = _shortest_that_fits(f"{told[0].upper()}{told[1:]}.", f"Misses {broken} at {stage_text(stage)}.")
        return Verdict(sentence, "objectives", "missed", None, stage.index, None, broken)
    rate, at = _held_rate(held)
    sentence = _shortest_that_fits(
        f"Holds {rate}{at} within {within}, but {told}.",
        f"Holds {rate}{at}, but {told}.",
        f"Holds {rate}; missed at {stage_text(stage)}, {why}.",
    )
    return Verdict(sentence, "objectives", "missed", held.index, stage.index, None, broken)


def _reading(objective: Objective, value: float | None, figures: EndpointFigures | None = None) -> str:
    """The value held against an objective, with the metric's name: `p95 412 ms [388–441]`, `6.2 % [5.8–6.6] errors`,
    `80 % not sent`.
    """
    if objective.metric == "quantile":
        shown_value = "without end" if value == math.inf else units.format_duration(value)
        known = None if figures is None else figures.response.quantiles.get(objective.quantile or 0.0)
        around = "" if known is None or known.value != value else _around(known)
        return f"p{(objective.quantile or 0) * 100:g} {shown_value}{around}"
    if objective.metric in ("mean", "max"):
        return f"{objective.metric} {units.format_duration(value)}"
    if objective.metric == "errors":
        unsent = figures is not None and mostly_unsent(figures)
        around = "" if figures is None or figures.error_ratio.value != value else _around(figures.error_ratio, False)
        return f"{units.format_ratio(value)}{around} {'not sent' if unsent else 'errors'}"
    if objective.each is not None:
        return f"{units.format_ratio(value)} of the seconds"
    return units.format_rate(value)


def _around(estimate: Estimate, is_time: bool = True) -> str:
    """The interval of an estimate as it stands behind its value, a space before it; empty where there is none."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None or (low is None and high is None):
        return ""
    return f" [{units.format_ends(low, high, value) if is_time else units.format_ratios(low, high)}]"


def mostly_unsent(figures: EndpointFigures) -> bool:
    """Whether most of what went wrong was never sent, because so much was in flight already."""
    return 2 * figures.tally.unsent > figures.tally.bad


def _held_to_the_end(
    summary: Summary, order: list[StageFigures], held: StageFigures, within: str, slo: Slo | None
) -> Verdict:
    rate, at = _held_rate(held)
    unknown = sum(objective_word(result) == "no data" for result in summary.objectives)
    if unknown:
        decided = f"{len(summary.objectives) - unknown} of {len(summary.objectives)} objectives"
        sentence = _shortest_that_fits(
            f"Holds {rate}{at} within {decided}; too little data for a verdict on the rest.",
            f"Holds {rate} within {decided}; too little data on the rest.",
        )
        return Verdict(sentence, "objectives", slo, held.index)
    later = order[order.index(held) + 1 :]
    if any(stage.validity == "invalid" for stage in later):
        sentence = _shortest_that_fits(
            f"Holds at least {rate}{at} within {within}; beyond that the generator was the limit.",
            f"Holds at least {rate} within {within}; beyond that the generator was the limit.",
            f"Holds at least {rate}; beyond that the generator was the limit.",
        )
    elif later:
        sentence = _shortest_that_fits(
            f"Holds at least {rate}{at} within {within}; more load was tried but not judged.",
            f"Holds at least {rate}; more load was tried but not judged.",
        )
    else:
        most = ", the highest load tried" if len(summary.stages) > 1 else ", the only load tried"
        worst = _alone(order, summary.objectives)
        if worst is not None:
            sentence = _shortest_that_fits(
                f"Holds {rate}{at} within {within}{most}; {_name(worst)} alone misses it.",
                f"Holds {rate} within {within}{most}; {_name(worst)} alone misses it.",
                f"Holds {rate} within its objectives; {_name(worst)} alone misses them.",
                f"Holds {rate} within its objectives{most}.",
            )
            return Verdict(sentence, "objectives", slo, held.index, None, worst)
        sentence = _shortest_that_fits(
            f"Holds {rate}{at} within {within}{most}.",
            f"Holds {rate} within {within}{most}.",
            f"Holds {rate} within its objectives{most}.",
        )
    return Verdict(sentence, "objectives", slo, held.index)


def _alone(order: Sequence[StageFigures], results: Sequence[ObjectiveResult]) -> str | None:
    """The endpoint that misses clearly, by the largest factor, what all together meet; None where none does."""
    beyond = [
        ((measured(figures, result.objective) or 0.0) / result.objective.limit, figures.name)
        for stage in order
        if stage.validity != "invalid"
        for figures in stage.endpoints
        for result in results
        if result.objective.endpoint is None
        and result.objective.upper
        and result.objective.limit > 0
        and against(figures, result.objective) == "missed"
    ]
    return max(beyond)[1] if beyond else None


def _undecided(summary: Summary, within: str, slo: Slo | None) -> Verdict:
    if slo == "met":
        return Verdict(
            _shortest_that_fits(f"Meets {within} over the whole run.", "Meets its objectives."), "objectives", slo
        )
    first = next(result for result in summary.objectives if objective_word(result) == slo)
    if slo == "missed":
        seen = _reading(first.objective, first.observed.value, summary.total)
        return Verdict(
            _shortest_that_fits(
                f"Misses {objective_text(first.objective)} over the whole run: {seen}.",
                "Misses its objectives.",
            ),
            "objectives",
            slo,
            broken=objective_text(first.objective),
        )
    why = shown(first.reason or first.observed.why_not, 120).rstrip(".")
    return Verdict(
        _shortest_that_fits(
            f"No verdict on {within}: {why}.",
            f"No verdict on {within}: too little data.",
            "No verdict: too little data.",
        ),
        "objectives",
        slo,
    )


# --- a search for capacity -------------------------------------------------------------------------------------------


def _searched(summary: Summary, found: Capacity) -> Verdict:
    """The rate with its interval, and what gave way. A search breaks objectives on purpose, so none is *missed*."""
    texts = [objective_text(result.objective) for result in summary.objectives if result.objective.metric != "rate"]
    within = " and ".join(texts) if len(texts) <= 2 else f"{len(texts)} objectives"
    failed = [tried for tried in found.tried if tried.role != "settle" and not tried.passed and not tried.generator]
    breaks = min(failed, key=lambda tried: tried.rate_per_s, default=None)
    if found.rate_per_s is None:
        if found.stopped == "generator":
            limit = "No capacity: the generator, not the server, was the limit"
            return Verdict(
                _shortest_that_fits(f"{limit}: {_first_clause(found.generator)}.", f"{limit}."), "capacity", None
            )
        if breaks is None:
            return Verdict("No capacity: too few loads could be judged.", "capacity", None)
        return Verdict(
            _shortest_that_fits(
                f"Holds no load within {within}: already {units.format_rate(breaks.rate_per_s)} breaks it.",
                f"Already {units.format_rate(breaks.rate_per_s)} breaks its objectives.",
            ),
            "capacity", None, None, breaks.index, breaks.endpoint or None, breaks.broken or None,
        )  # fmt: skip
    held = max(
        (tried for tried in found.tried if tried.passed and tried.role != "settle"),
        key=lambda tried: (not tried.generator, tried.rate_per_s),
    )
    rate = units.format_rate(found.rate_per_s)
    judged = sum(tried.due for tried in found.tried if tried.role not in ("settle", "overrun"))
    if judged < FEWEST_FOR_CAPACITY and not found.at_least:
        who = f"; {_name(found.endpoint)} breaks first" if found.endpoint else ""
        sentence = _shortest_that_fits(
            f"Little is known: {judged:,} requests put what it holds within {within} near {rate}{who}.",
            f"Little is known: {judged:,} requests put what it holds near {rate}{who}.",
            f"Little is known: {judged:,} requests put what it holds near {rate}.",
        )
        return Verdict(
            sentence, "capacity", "no data", held.index, breaks.index if breaks else None, found.endpoint or None,
            found.broken or None,
        )  # fmt: skip
    if found.at_least:
        why = {
            "generator": "beyond that the generator was the limit",
            "highest": "the highest load that was to be tried",
        }.get(found.stopped, "there was no time for more")
        sentence = _shortest_that_fits(
            f"Holds at least {rate} within {within}; {why}.", f"Holds at least {rate} within its objectives; {why}."
        )
        return Verdict(sentence, "capacity", None, held.index)
    around = ""
    if found.low is not None and found.high is not None:
        around = f" (95 % CI {units.format_rates(found.low, found.high)})"
    who = _name(found.endpoint) if found.endpoint else ""
    tail = f"; {who} breaks first" if who else ""
    sentence = _shortest_that_fits(
        f"Holds {rate}{around} within {within}{tail}.",
        f"Holds {rate}{around} within {within}.",
        f"Holds {rate}{around} within its objectives.",
    )
    return Verdict(
        sentence, "capacity", None, held.index, breaks.index if breaks else None, found.endpoint or None,
        found.broken or None,
    )  # fmt: skip


# --- without objectives ----------------------------------------------------------------------------------------------


def _without_objectives(summary: Summary) -> Verdict:
    order = [
        stage
        for stage in in_order_of_load(summary.stages)
        if stage.validity != "invalid" and stage.total.tally.judged > 0
    ]
    if not order:
        return _whole_run(summary)
    failing = next((position for position, stage in enumerate(order) if _errors(stage) >= ERRORS_BEGIN_RATIO), None)
    flat = summary.saturation if summary.saturation is not None and summary.saturation.reached else None
    if failing == 0:
        return _failing_from_the_start(summary, order)
    if failing is not None and (flat is None or failing <= _place(order, flat.stage)):
        return _errors_begin(summary, order, failing)
    if flat is not None:
        return _stops_growing(order, flat, failing)
    last = order[-1]
    facts = f"{_rate(last)}, {_p95(last.total, True)}, {_errors_text(last)}"
    generator = any(stage.validity == "invalid" and peak(stage) > peak(last) for stage in summary.stages)
    if generator:
        sentence = f"No limit reached up to {stage_text(last)} ({facts}); beyond that the generator was the limit."
        return Verdict(sentence, "no limit", None, last.index)
    elsewhere = next((s for s in summary.stages if s.validity != "invalid" and _errors(s) >= ERRORS_BEGIN_RATIO), None)
    but = "" if elsewhere is None else f"; but at {stage_text(elsewhere)} {_errors_text(elsewhere)}"
    broke = None if elsewhere is None else elsewhere.index
    if len({peak(stage) for stage in order}) == 1:
        start = f"Answers {_rate(last)} at {stage_text(last)}: {_p95(last.total, True)}, {_errors_text(last)}"
        sentence = _shortest_that_fits(f"{start}{but or '; one load shows no limit'}.", f"{start}.")
        return Verdict(sentence, "one load", None, last.index, broke)
    start = f"No limit reached up to {stage_text(last)}: {facts}"
    return Verdict(_shortest_that_fits(f"{start}{but}.", f"{start}."), "no limit", None, last.index, broke)


def _place(order: Sequence[StageFigures], index: int) -> int:
    return next((position for position, stage in enumerate(order) if stage.index == index), 0)


def _errors(stage: StageFigures) -> float:
    return stage.total.error_ratio.value or 0.0


def _rate(stage: StageFigures) -> str:
    """Right answers per second, with their interval where the stage is long enough for one: `320/s [310–330]`."""
    return f"{units.format_rate(stage.total.goodput_per_s)}{_ends(stage.total.goodput_interval)}"


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{units.format_rates(*interval).removesuffix('/s')}]"


def _p95(figures: EndpointFigures, around: bool = False) -> str:
    """`p95 41 ms`; where there is none the median, or that there is neither. With its interval if that is known."""
    for name, q in (("p95", 0.95), ("p50", 0.5)):
        found = figures.response.quantiles[q]
        if found.value is not None:
            return f"{name} {units.format_duration(found.value)}{_around(found) if around else ''}"
    return "too few answers for percentiles"


def _errors_text(stage: StageFigures) -> str:
    if stage.total.tally.bad == 0:
        return "no errors"
    what = "not sent" if mostly_unsent(stage.total) else "errors"
    ratio = stage.total.error_ratio
    return f"{units.format_ratio(ratio.value)}{_around(ratio, False)} {what}"


def _most_errors(errors: Sequence[ErrorGroup], stage: StageFigures | None) -> ErrorGroup | None:
    """The largest group of errors in a stage, or in the run."""
    counted = [(group.by_stage.get(stage.index, 0) if stage else group.count, group) for group in errors]
    counted = [item for item in counted if item[0] > 0]
    if not counted:
        return None
    return max(counted, key=lambda item: (item[0], item[1].endpoint, item[1].kind))[1]


def _failing_from_the_start(summary: Summary, order: list[StageFigures]) -> Verdict:
    first = order[0]
    group = _most_errors(summary.errors, first)
    errors = first.total.error_ratio
    ratio = f"{units.format_ratio(errors.value)}{_around(errors, False)}"
    already = " already" if len({peak(stage) for stage in order}) > 1 else ""
    unsent = mostly_unsent(first.total)
    start = f"{ratio} of requests {'were not sent' if unsent else 'fail'}{already} at {stage_text(first)}"
    sentence = f"{start}."
    bound = (summary.run.get("settings") or {}).get("max_in_flight")
    if unsent and isinstance(bound, int):
        start += f": {bound:,} in flight, the most allowed, were not answered in time"
        sentence = f"{start}."
    elif group is not None:
        sentence = _shortest_that_fits(
            f"{start}, most with {shown(group.kind, 40) or group.outcome.word} on {_name(group.endpoint)}.",
            f"{start}, most on {_name(group.endpoint)}.",
            sentence,
        )
    return Verdict(sentence, "errors", None, None, first.index, group.endpoint if group is not None else None)


def _errors_begin(summary: Summary, order: list[StageFigures], failing: int) -> Verdict:
    before, stage = order[failing - 1], order[failing]
    group = _most_errors(summary.errors, stage)
    errors = stage.total.error_ratio
    ratio = f"{units.format_ratio(errors.value)}{_around(errors, False)}"
    rate, at = _held_rate(before)
    begin = "requests stay unsent from" if mostly_unsent(stage.total) else "errors begin at"
    on = " on" if mostly_unsent(stage.total) else ""
    start = f"Holds {rate}{at}; {begin} {stage_text(stage)}{on}: {ratio} of requests"
    sentence = f"{start}."
    if group is not None:
        sentence = _shortest_that_fits(f"{start}, most on {_name(group.endpoint)}.", sentence)
    return Verdict(sentence, "errors", None, before.index, stage.index, group.endpoint if group is not None else None)


def _stops_growing(order: list[StageFigures], flat: Saturation, failing: int | None) -> Verdict:
    stage, last = order[_place(order, flat.stage)], order[-1]
    rate = units.format_rate(flat.throughput_per_s)
    around = ""
    if flat.interval is not None:
        around = f" (95 % CI {units.format_rates(*flat.interval)})"
    start = f"Throughput stops growing at {rate}{around} from {stage_text(stage)} on"
    sure, slower = (
        f"at {stage_text(last)} {_p95(last.total, around)} instead of {_p95(stage.total, around).removeprefix('p95 ')}"
        for around in (True, False)
    )
    if None in (item.total.response.quantiles[0.95].value for item in (stage, last)):
        sure, slower = (f"at {stage_text(last)} {_p95(last.total, around)}" for around in (True, False))
    errors = f", errors from {stage_text(order[failing])}" if failing is not None else ""
    sentence = _shortest_that_fits(
        f"{start}; {sure}{errors}.", f"{start}; {sure}.", f"{start}; {slower}{errors}.", f"{start}; {slower}.",
        f"{start}.",
    )  # fmt: skip
    return Verdict(sentence, "throughput", None, stage.index, stage.index)


def _whole_run(summary: Summary) -> Verdict:
    """For a run without stages that can be compared: what was answered over all of it."""
    total = summary.total
    what = "not sent" if mostly_unsent(total) else "errors"
    share = f"{units.format_ratio(total.error_ratio.value)}{_around(total.error_ratio, False)}"
    failed = "no errors" if total.tally.bad == 0 else f"{share} {what}"
    rate = f"{units.format_rate(total.goodput_per_s)}{_ends(total.goodput_interval)}"
    return Verdict(f"Answers {rate}: {_p95(total, True)}, {failed}.", "one load", None)


# --- nothing to say about the server ---------------------------------------------------------------------------------


def _nothing_answered(summary: Summary) -> str:
    tally = summary.total.tally
    group = _most_errors(summary.errors, None)
    start = f"Nothing was measured: none of {plural(tally.due, 'request')} was answered"
    if group is None or not group.kind:
        return f"{start}."
    same = sum(one.count for one in summary.errors if one.kind == group.kind)
    most = "all" if same == tally.due else "most"
    return _shortest_that_fits(f"{start}, {most} with {shown(group.kind, 40)}.", f"{start}.")


def _invalid(summary: Summary) -> str:
    start = "The generator, not the server, was measured"
    ended = summary.run.get("ended")
    broke = shown(str(ended.get("reason") or "")) if isinstance(ended, Mapping) else ""
    if summary.run.get("state") == "failed" and broke:
        reason = re.split("[,;:]", broke)[0].rstrip(".")
        return _shortest_that_fits(f"{start}: {reason}; no verdict about the server.", f"{reason}.")
    reasons = [reason for stage in summary.stages if stage.validity == "invalid" for reason in stage.validity_reasons]
    if not reasons:
        return f"{start}; no verdict about the server."
    reason = _first_clause(reasons[0])
    return _shortest_that_fits(
        f"{start}: {reason}; no verdict about the server.", f"{start}; no verdict about the server."
    )


def _first_clause(reason: str) -> str:
    """A reason up to its first comma, semicolon or colon."""
    # A clause ends where a space follows; in 1,450 none does.
    return re.split("[,;:] ", shown(reason))[0].rstrip(".")
