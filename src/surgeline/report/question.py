"""What does a load with a name ask, and what does this run answer?

A summary and its findings come in; the question that was kept with the run leaves, with one sentence that answers it
from the stages that it is about. Where they cannot answer it, the sentence says why. Nothing is computed here that is
not in the summary.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

from surgeline import units
from surgeline.analysis.capacity import ladder
from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import EndpointFigures, Recovery, StageFigures, Summary
from surgeline.analysis.slo import SURE
from surgeline.findings.model import Finding
from surgeline.findings.recovery_time import took
from surgeline.report.text import LONGEST_SENTENCE, plural, shown
from surgeline.report.trust import names_text, never_asked
from surgeline.report.verdict import ERRORS_BEGIN_RATIO, mostly_unsent, objective_text, stage_text

Tone = Literal["good", "bad", "plain", "warn"]


class Answer(NamedTuple):
    """One sentence, and how it stands: good, bad, warn (not known), plain (figures without an objective)."""

    sentence: str
    tone: Tone


def question_part(summary: Summary, findings: Sequence[Finding]) -> dict[str, Any] | None:
    """The question, and its answer; None where the load has no name."""
    preset = (summary.run.get("settings") or {}).get("preset")
    if not isinstance(preset, dict) or not isinstance(preset.get("question"), str):
        return None
    name = str(preset.get("name"))
    answer = _answer(name, summary, findings)
    return {
        "name": shown(name),
        "asked": shown(preset["question"], LONGEST_SENTENCE),
        "answer": shown(answer.sentence, LONGEST_SENTENCE),
        "tone": answer.tone,
    }


def _answer(name: str, summary: Summary, findings: Sequence[Finding]) -> Answer:
    if not summary.total.tally.answered:
        return Answer("Not known: nothing was answered.", "warn")
    if summary.validity == "invalid":
        return Answer("Not known: the generator, not the server, was the limit.", "warn")
    by_name: dict[str, Callable[[Summary, Sequence[Finding]], Answer]] = {
        "smoke": _smoke,
        "load": _load,
        "stress": _stress,
        "spike": _spike,
        "soak": _soak,
        "breakpoint": _breakpoint,
        "volume": _volume,
    }
    answer = by_name.get(name)
    return Answer("This version does not know the load.", "warn") if answer is None else answer(summary, findings)


# --- words -----------------------------------------------------------------------------------------------------------


def _p(figures: EndpointFigures) -> str:
    """`p95 41 ms`; the median, or that there are too few answers, where there is no p95."""
    for name, q in (("p95", 0.95), ("median", 0.5)):
        value = figures.response.quantiles[q].value
        if value is not None:
            return f"{name} {units.format_duration(value)}"
    return "too few answers for percentiles"


def _errors(figures: EndpointFigures) -> str:
    if not figures.tally.bad:
        return "no errors"
    what = "not sent" if mostly_unsent(figures) else "errors"
    return f"{units.format_ratio(figures.error_ratio.value)} {what}"


def _figures(stage: StageFigures) -> str:
    return f"{_p(stage.total)}, {_errors(stage.total)}"


def _words(summary: Summary, stage: StageFigures) -> tuple[list[str], list[str]]:
    """The objectives missed in a stage, and those that it has too little data for."""
    missed: list[str] = []
    unknown: list[str] = []
    for result in summary.objectives:
        word = result.by_stage.get(stage.index, "no data")
        if word != "met":
            (missed if word == "missed" else unknown).append(objective_text(result.objective))
    return missed, unknown


def _gives(summary: Summary, stage: StageFigures) -> str:
    """What gives way in a stage, as a clause; empty where nothing does. Without objectives errors are all that can."""
    missed, _ = _words(summary, stage)
    if missed:
        return f"{missed[0]} is missed ({_figures(stage)})"
    if not summary.objectives and (stage.total.error_ratio.value or 0.0) >= ERRORS_BEGIN_RATIO:
        return f"errors appear ({_errors(stage.total)})"
    return ""


def _valid(stages: Sequence[StageFigures]) -> list[StageFigures]:
    return [stage for stage in stages if stage.validity != "invalid" and stage.total.tally.judged]


def _named(summary: Summary, beginning: str) -> list[StageFigures]:
    return [stage for stage in _valid(summary.stages) if stage.own_name.startswith(beginning)]


# --- the answers -----------------------------------------------------------------------------------------------------


def _smoke(summary: Summary, _: Sequence[Finding]) -> Answer:
    absent = never_asked(summary)
    wrong = [figures for figures in summary.endpoints if figures.tally.bad]
    unasked = f"; never asked: {names_text(absent)}" if absent else ""
    if wrong:
        worst = sorted(wrong, key=lambda figures: (-(figures.error_ratio.value or 0.0), figures.name))
        told = ", ".join(
            f"{shown(figures.name, 80)} ({units.format_count(figures.tally.bad)} of "
            f"{units.format_count(figures.tally.judged)} went wrong)"
            for figures in worst[:3]
        )
        more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
        return Answer(f"No: {told}{more}{unasked}.", "bad")
    if absent:
        return Answer(f"Not known of {names_text(absent)}: never asked; the other requests work.", "warn")
    count = plural(len(summary.endpoints), "endpoint")
    least = min((figures.tally.ok for figures in summary.endpoints), default=0)
    times = "once" if least == 1 else f"{units.format_count(least)} times"
    return Answer(f"Yes: all of {count} answered right, each {times} or more; {_p(summary.total)}.", "good")


def _load(summary: Summary, _findings: Sequence[Finding]) -> Answer:
    peaks = _named(summary, "peak") or ladder(_valid(summary.stages))[-1:]
    if not peaks:
        return Answer("Not known: its peak could not be judged.", "warn")
    stage = peaks[-1]
    at = f"at {stage_text(stage)} {_figures(stage)}"
    gives = _gives(summary, stage)
    if gives:
        return Answer(f"No: at {stage_text(stage)} {gives}.", "bad")
    if not summary.objectives:
        return Answer(f"{at[0].upper()}{at[1:]}; without an objective nothing says whether that is enough.", "plain")
    _, unknown = _words(summary, stage)
    if unknown:
        return Answer(f"Not known: {at}, too few requests for a verdict on {' and '.join(unknown)}.", "warn")
    return Answer(f"Yes: {at}, within {' and '.join(objective_text(r.objective) for r in summary.objectives)}.", "good")


def _stress(summary: Summary, _findings: Sequence[Finding]) -> Answer:
    steps = [stage for stage in ladder(_valid(summary.stages)) if not stage.own_name.startswith("after")]
    first = next(((stage, gives) for stage in steps if (gives := _gives(summary, stage))), None)
    back = _back(summary)
    if first is None:
        flat = summary.saturation
        if flat is not None and flat.reached:
            what = f"Throughput gives first: it stops growing at {units.format_rate(flat.throughput_per_s)}"
            return Answer(f"{what}{back}.", "bad")
        most = f" up to {stage_text(steps[-1])} ({_figures(steps[-1])})" if steps else ""
        return Answer(f"Nothing gave way{most}{back}.", "good" if summary.objectives else "plain")
    stage, gives = first
    return Answer(f"At {stage_text(stage)} {gives}{back}.", "bad")


def _back(summary: Summary) -> str:
    """Whether the last stage is like the first, as a clause."""
    if summary.recoveries:
        found = summary.recoveries[-1]
        if found.seconds is None:
            return f"; it does not come back within {units.format_duration(found.length_s * units.NS_PER_S, 2)}"
        return f"; back to normal {took(found)} {'later' if found.seconds else 'of the end of the load'}"
    after = _named(summary, "after")
    before = _valid(summary.stages)[:1]
    if not after or not before:
        return "; whether it comes back is not known"
    return (
        f"; {stage_text(after[-1])} has {_p(after[-1].total)}, {stage_text(before[0])} at first {_p(before[0].total)}"
    )


def _spike(summary: Summary, _: Sequence[Finding]) -> Answer:
    spikes = _named(summary, "spike")
    if not spikes:
        return Answer("Not known: no spike could be judged.", "warn")
    bad = [stage for stage in spikes if stage.total.tally.bad]
    missed = [stage for stage in spikes if _words(summary, stage)[0]]
    through = "no errors in any spike"
    if bad:
        through = ", ".join(f"{_errors(stage.total)} in {stage_text(stage)}" for stage in bad)
    if missed:
        names = ", ".join(stage.own_name for stage in missed)
        through += f", but {_words(summary, missed[0])[0][0]} is missed in {names} ({_p(missed[0].total)})"
    back = _after_each(summary.recoveries, {stage.index: stage for stage in summary.stages})
    fine = not bad and not missed and all(one.seconds is not None for one in summary.recoveries) and summary.recoveries
    sentence = f"{through[0].upper()}{through[1:]}; {back}."
    return Answer(sentence, "good" if fine else "bad" if bad or missed or summary.recoveries else "warn")


def _after_each(found: Sequence[Recovery], stages: dict[int, StageFigures]) -> str:
    if not found:
        return "how long it takes to recover is not known: too few answers, or no load as before"
    if any(one.length_s < SHORTEST_RECOVERY_S and one.seconds is None for one in found):
        least = min(one.length_s for one in found)
        return (
            f"recovery cannot be told: it needs three seconds in a row, and the load is back for "
            f"{units.format_duration(least * units.NS_PER_S, 2)} only"
        )
    words = [(took(one), stages[one.peak].own_name or stage_text(stages[one.peak])) for one in found]
    said = [f"{word} after {', '.join(name for _, name in group)}" for word, group in groupby(words, lambda w: w[0])]
    return f"response times are as before {', '.join(said)}"


SHORTEST_RECOVERY_S = 4.0
"""Three seconds in a row, and what is cut off at either end."""


def _soak(summary: Summary, findings: Sequence[Finding]) -> Answer:
    flat = [stage for stage in _valid(summary.stages) if stage.start == stage.end]
    if not flat:
        return Answer("Not known: no stage of one load could be judged.", "warn")
    stage = max(flat, key=lambda one: one.duration_s)
    lasted = units.format_duration(stage.duration_s * units.NS_PER_S, 2)
    facts = _drift(summary, stage)
    about = [one for one in findings if one.id in ("latency.drift", "memory.leak")]
    grows = [one for one in about if one.kind == "failed"]
    if grows:
        names = {"latency.drift": "response times", "memory.leak": "memory"}
        what = " and ".join(names[one.id] for one in grows)
        return Answer(f"Yes, {what} in {lasted} of {stage_text(stage)}: {facts}.", "bad")
    if any(one.id == "latency.drift" for one in about):
        return Answer(f"Nothing that was seen in {lasted} of {stage_text(stage)}: {facts}.", "good")
    return Answer(f"Not known: {lasted} of {stage_text(stage)} do not tell a drift from chance; {facts}.", "warn")


def _drift(summary: Summary, stage: StageFigures) -> str:
    """From the first to the last quarter of a stage: the median second's p50, errors, and memory."""
    mine = [s for s in summary.seconds if stage.begin_ns <= s.second * units.NS_PER_S < stage.end_ns]
    size = max(len(mine) // 4, 1)
    ends = (mine[:size], mine[-size:])
    medians = [sorted(s.p50_ns for s in part if s.p50_ns is not None) for part in ends]
    facts = []
    if all(medians):
        first, last = (units.format_duration(part[len(part) // 2]) for part in medians)
        facts.append(f"median response time {first} → {last}")
    shares = []
    for part in ends:
        due = sum(s.due for s in part)
        ok = sum(count for s in part for outcome, count in s.outcomes.items() if outcome.word == "ok")
        aborted = sum(count for s in part for outcome, count in s.outcomes.items() if outcome.word == "aborted")
        shares.append(1.0 - ok / (due - aborted) if due > aborted else 0.0)
    facts.append(f"errors {units.format_ratio(shares[0])} → {units.format_ratio(shares[1])}")
    server = summary.server
    if server is not None and server.rss_first_bytes and server.rss_last_bytes:
        first, last = (units.format_size(round(value)) for value in (server.rss_first_bytes, server.rss_last_bytes))
        facts.append(f"memory {first} → {last}")
    else:
        facts.append("memory not seen")
    return "from its first to its last quarter " + ", ".join(facts)


def _breakpoint(summary: Summary, _: Sequence[Finding]) -> Answer:
    steps = ladder(_valid(summary.stages))
    if not steps:
        return Answer("Not known: no step could be judged.", "warn")
    few = _too_few(summary, steps)
    at = next((place for place, stage in enumerate(steps) if _gives(summary, stage)), None)
    held = next((stage for stage in steps if stage.index == summary.holds), None)
    if at is None:
        flat = summary.saturation
        if not summary.objectives and flat is not None and flat.reached:
            stage = next(one for one in summary.stages if one.index == flat.stage)
            rate = units.format_rate(flat.throughput_per_s)
            return Answer(f"Throughput stops growing at {rate}, from {stage_text(stage)} on{few}.", "bad")
        if few:
            return Answer(f"Not known{few}.", "warn")
        tone: Tone = "good" if summary.objectives else "plain"
        return Answer(f"Not up to {stage_text(steps[-1])} ({_figures(steps[-1])}).", tone)
    first = f"{stage_text(steps[at])} is the first step that does not hold: {_gives(summary, steps[at])}"
    if not at:
        return Answer(f"{first}; no lower load was tried{few}.", "bad")
    if summary.objectives and held is None:
        below = stage_text(steps[at - 1])
        return Answer(f"{first}; up to {below} nothing was missed, but no step is sure{few}.", "bad")
    last = held if held is not None else steps[at - 1]
    return Answer(f"{stage_text(last)} is the last step that holds, {first}{few}.", "bad")


def _too_few(summary: Summary, steps: Sequence[StageFigures]) -> str:
    """That steps have too few requests for a verdict, as a clause; empty where they have enough."""
    quantiles = [r.objective.quantile for r in summary.objectives if r.objective.quantile is not None]
    quantile = max(quantiles, default=0.95)
    # A verdict needs so many that one request over the limit would have shown; a percentile of its own some more.
    needed = math.ceil(math.log(SURE) / math.log(quantile)) if quantiles else fewest_for_quantile(quantile)
    short = [stage for stage in steps if stage.total.tally.judged < needed]
    if not short:
        return ""
    counts = [stage.total.tally.judged for stage in short]
    lasted = units.format_duration(short[0].duration_s * units.NS_PER_S, 2)
    return (
        f": {len(short)} of {plural(len(steps), 'step')} have too few requests ({min(counts)} to {max(counts)} in "
        f"{lasted}, p{quantile * 100:g} needs {needed}); give it more time"
    )


def _volume(summary: Summary, _: Sequence[Finding]) -> Answer:
    before, after = _named(summary, "before"), _named(summary, "after")
    if not before or not after:
        return Answer("Not known: the stage before or the one after could not be judged.", "warn")
    q = next((q for q in (0.95, 0.5) if all(s[0].total.response.quantiles[q].value for s in (before, after))), None)
    if q is None:
        return Answer("Not known: too few answers before or after.", "warn")
    was, now = (stage[0].total.response.quantiles[q] for stage in (before, after))
    name = f"p{q * 100:g}"
    said = f"{name} {units.format_duration(was.value)} before, {units.format_duration(now.value)} after"
    wrong = f", {_errors(before[0].total)} before, {_errors(after[0].total)} after"
    if not was.bounded or not now.bounded:
        return Answer(f"Not known, too short for intervals: {said}{wrong}.", "warn")
    if (now.low or 0.0) > (was.high or 0.0):
        return Answer(f"No, it is slower: {said}{wrong}.", "bad")
    if (now.high or 0.0) < (was.low or 0.0):
        return Answer(f"Yes, faster: {said}{wrong}.", "good")
    return Answer(f"Yes, as far as can be told (the 95 % intervals overlap): {said}{wrong}.", "good")
