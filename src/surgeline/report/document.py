"""What does a run's page show, as one JSON value?

A summary and its findings come in, one versioned value leaves; `page`, `html`, `terminal` and `tables` render it and
compute nothing. Times are integer ns, rates per second, ratios 0..1, sizes bytes. None means "not measured", and
where a number could have been there, `why_not` beside it is the reason. Texts of others have been through `text.shown`.
The same run gives the same bytes: keys are in a fixed order, free-form data in sorted order, and nothing is taken from
a clock, a locale or the environment.

Format history
    1   first version.

The schema is in `schema`, and published as docs/reference/result.schema.json.
"""

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

from surgeline import __version__, units
from surgeline.analysis.model import (
    EndpointFigures,
    ErrorGroup,
    Estimate,
    GeneratorHealth,
    ObjectiveResult,
    PeriodicStall,
    Saturation,
    Second,
    StageFigures,
    Summary,
    Tally,
    Times,
)
from surgeline.findings.model import Finding
from surgeline.report import closeup
from surgeline.report.capacity import BESIDE, capacity_part, limit_part, server_part
from surgeline.report.question import question_part
from surgeline.report.schema import SCHEMA as SCHEMA
from surgeline.report.text import LONGEST_SENTENCE, bounded, plain_number, plural, shown
from surgeline.report.trust import trust
from surgeline.report.verdict import (
    ERRORS_BEGIN_RATIO,
    Slo,
    against,
    applies,
    in_order_of_load,
    load_text,
    objective_text,
    objective_word,
    peak,
    stage_text,
    verdict,
)
from surgeline.samples import Outcome

FORMAT = 1

KINDS = ("well", "failed", "explore")

BOX_LINES = 4
"""Findings of one kind that a page shows; the rest is "+n more"."""

LONGEST_TIMELINE = 720
"""Points of the timeline: twelve minutes second by second; longer runs get wider buckets. Keeps a report of a long run
below a megabyte and its lines distinguishable."""

BUCKETS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
"""Widths of a timeline bucket, seconds."""

MOST_ENDPOINTS = 300
"""Endpoints in a document; more of them mean that ids have not been made into templates."""

DETAILED_ENDPOINTS = 100
"""Endpoints, worst first, whose figures per stage and whose distributions are in the document."""

MOST_ERRORS = 100
"""Groups of errors in a document, largest first."""

MOST_EVIDENCE = 20
"""Rows of evidence of one finding."""

SAME_LENGTH, LATE_S = 0.02, 0.003
"""Stages of one planned length differ by no more than this share and time: what a worker is late at either end."""

FEWEST_IN_SEARCH = 72
"""Requests of an endpoint, in all loads of a search, without which there is no p95 of it."""

STAGE_QUANTILES = (0.5, 0.95, 0.99)
"""The quantiles of an endpoint within one stage that are in the document."""


def result_document(
    summary: Summary, findings: Sequence[Finding], cleared: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """The document of one run; `cleared` is what was looked for and not found, as ids of rules and sentences."""
    judged = verdict(summary)
    kept = closeup.by_endpoint(summary.exchanges)
    return {
        "document": "surgeline-result",
        "format": FORMAT,
        "run": _run(summary),
        "verdict": {
            "sentence": judged.sentence,
            "slo": judged.slo,
            "validity": summary.validity,
            "validity_reasons": [shown(reason) for reason in summary.validity_reasons],
            "basis": judged.basis,
            "holds_stage": judged.holds_stage,
            "breaks_stage": judged.breaks_stage,
            "breaks_endpoint": None if judged.breaks_endpoint is None else shown(judged.breaks_endpoint),
            "broken": judged.broken,
        },
        "question": question_part(summary, findings),
        "totals": {**totals_part(summary), **closeup.closeup_parts(summary.total)},
        "endpoints": list(islice(_detailed(summary, kept), MOST_ENDPOINTS)),
        "endpoints_left_out": max(len(summary.endpoints) - MOST_ENDPOINTS, 0),
        "transactions": transaction_parts(summary)[:MOST_ENDPOINTS],
        "stages": stage_parts(summary),
        "capacity": capacity_part(summary),
        "limit": limit_part(summary),
        "server": server_part(summary),
        "saturation": _saturation(summary.saturation),
        "stalls": [_stall(stall) for stall in summary.stalls],
        "timeline": timeline(summary.seconds),
        "errors": [_error(group, kept.get(group.endpoint, ())) for group in _largest(summary.errors)[:MOST_ERRORS]],
        "errors_left_out": max(len(summary.errors) - MOST_ERRORS, 0),
        "objectives": [_objective(_as_searched(result, summary)) for result in summary.objectives],
        "findings": {kind: _box(kind, findings) for kind in KINDS},
        "cleared": [{"id": id, "sentence": shown(sentence, LONGEST_SENTENCE)} for id, sentence in cleared],
        "trust": [statement._asdict() for statement in trust(summary)],
        "health": _health(summary.health, summary.health.shares_machine or summary.shares_machine),
        "next": _next(summary),
    }


def dump(document: Mapping[str, Any]) -> str:
    """The document as JSON text: a key to a line, what holds plain values only on one line, a line end at the end.

    Raises ValueError for a number JSON cannot hold.
    """
    return "".join(_written(document, 0)) + "\n"


def _written(value: Any, depth: int) -> Iterable[str]:
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if not any(isinstance(item, Mapping | list | tuple) for item in held):
        yield _scalar(value)
    elif isinstance(value, Mapping):
        lead = "{"
        for key, item in value.items():
            yield f"{lead}{inner}{_scalar(str(key))}: "
            yield from _written(item, depth + 1)
            lead = ","
        yield outer + "}"
    else:
        lead = "["
        for item in value:
            yield lead + inner
            yield from _written(item, depth + 1)
            lead = ","
        yield outer + "]"


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ": "), default=_plain)


def _plain(value: Any) -> Any:
    """What is no JSON but a number all the same. Raises TypeError for everything else."""
    found = plain_number(value)
    if found is value:
        raise TypeError(f"a {type(value).__name__} cannot stand in a result document")
    return found


# --- the run ---------------------------------------------------------------------------------------------------------


def _run(summary: Summary) -> dict[str, Any]:
    run = summary.run
    subject = _mapping(run.get("subject"))
    source = _mapping(run.get("source"))
    plan = _mapping(subject.get("plan"))
    arguments = subject.get("arguments")
    ended = _mapping(run.get("ended"))
    return {
        "id": shown(run.get("id", "")),
        "name": shown(run.get("name") or ""),
        "state": shown(run.get("state", "")),
        "target": _text_or_none(plan.get("target") or run.get("target")),
        "source": {
            "kind": shown(source.get("kind", "")),
            "location": shown(source.get("location", "")),
        },
        "subject": {
            "kind": shown(subject.get("kind", "")),
            "hash": _text_or_none(plan.get("hash") or subject.get("hash") or subject.get("sha256")),
            "path": _text_or_none(subject.get("path")),
            "arguments": [shown(item) for item in arguments[:50]] if isinstance(arguments, list | tuple) else [],
        },
        "engine": shown(run.get("engine", "")),
        "model": summary.model,
        "load": describe_load(summary),
        "started_at": _text_or_none(run.get("started_at")),
        "duration_ns": _ns(summary.duration_s * units.NS_PER_S),
        "ended": None if not ended else {"at_ns": ended.get("at_ns"), "reason": _text_or_none(ended.get("reason"))},
        "response_is_service": summary.response_is_service,
        "surgeline": __version__,
        "git": _sorted(run.get("git")),
        "versions": _sorted(run.get("versions")),
        "environment": _sorted(run.get("environment")),
        "settings": _sorted(run.get("settings")),
        "series": _sorted(run.get("series")),
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text_or_none(value: Any) -> str | None:
    return None if value is None or value == "" else shown(value)


def _sorted(value: Any) -> Any:
    """Free-form data, bounded, with its keys in order at every depth."""
    cleaned = bounded(value)
    if isinstance(cleaned, dict):
        return {key: _sorted(cleaned[key]) for key in sorted(cleaned)}
    return [_sorted(item) for item in cleaned] if isinstance(cleaned, list) else cleaned


def describe_load(summary: Summary) -> str:
    """The workload in a few words: `closed, 7 stages of 8 s, 1 to 64 users`."""
    stages = summary.stages
    if summary.capacity is not None:
        tried = [stage for stage in stages if stage.role not in BESIDE]
        low, high = min((s.end for s in tried), default=0.0), max((s.end for s in tried), default=0.0)
        span = f", {units.format_rate(low).removesuffix('/s')} to {units.format_rate(high)}" if tried else ""
        return f"search for capacity, {plural(summary.capacity.steps, 'load')}{span}"
    partly = (summary.run.get("settings") or {}).get("model") == "partly-open"
    model = "script" if summary.model == "script" else f"{'partly open' if partly else summary.model} model"
    if summary.model == "script" and (summary.run.get("subject") or {}).get("kind") == "plan":
        model = "as Locust was told"
    if not stages:
        return model
    lengths = [stage.duration_s for stage in stages if stage.completed] or [stages[0].duration_s]
    equal = max(lengths) - min(lengths) <= SAME_LENGTH * max(lengths) + LATE_S
    each = units.format_duration(math.fsum(lengths) / len(lengths) * units.NS_PER_S, 2) if equal else ""
    steps = next((stage.end / stage.sessions[1] for stage in stages if stage.sessions and stage.sessions[1]), None)
    session = "" if steps is None else f", {plural(steps, 'request')} a session"
    if len(stages) == 1:
        return f"{model}, {load_text(stages[0])}{session}" + (f" for {each}" if each else "")
    low, high = min(min(s.start, s.end) for s in stages), max(max(s.start, s.end) for s in stages)
    if stages[0].model == "closed":
        span = f"{low:g} to {plural(high, 'user')}"
    else:
        span = f"{units.format_rate(low).removesuffix('/s')} to {units.format_rate(high)}"
        if steps:
            sessions = f"{units.format_rate(low / steps).removesuffix('/s')} to {units.format_rate(high / steps)}"
            span = f"{sessions.removesuffix('/s')} sessions/s ({span}{session})"
    return f"{model}, {len(stages)} stages" + (f" of {each}" if each else "") + f", {span}"


# --- figures ---------------------------------------------------------------------------------------------------------


def _ns(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else round(value)


def _number(value: float | None) -> float | None:
    """A rate or ratio to nine decimals: the tenth is rounding error of the arithmetic before."""
    return None if value is None or not math.isfinite(value) else round(value, 9)


def _estimate(estimate: Estimate, is_time: bool) -> dict[str, Any]:
    plain = _ns if is_time else _number
    value = plain(estimate.value)
    why = shown(estimate.why_not)
    if value is None and not why:
        why = "beyond what was measured" if estimate.value is not None else "not measured"
    return {
        "value": value,
        "low": plain(estimate.low),
        "high": plain(estimate.high),
        "n": estimate.n,
        "n_eff": _number(estimate.n_eff),
        "why_not": why,
        "brief": shown(estimate.brief),
    }


def _rates(interval: tuple[float, float] | None) -> dict[str, float | None] | None:
    return None if interval is None else {"low_per_s": _number(interval[0]), "high_per_s": _number(interval[1])}


def quantile_name(quantile: float) -> str:
    """`p50`, `p99.9`."""
    return f"p{quantile * 100:g}"


def _times(times: Times, quantiles: Iterable[float] | None = None) -> dict[str, Any]:
    chosen = sorted(times.quantiles) if quantiles is None else [q for q in quantiles if q in times.quantiles]
    return {
        "count": times.histogram.count,
        "mean_ns": _ns(times.mean_ns),
        "min_ns": times.min_ns,
        "max_ns": times.max_ns,
        **{quantile_name(q): _estimate(times.quantiles[q], True) for q in chosen},
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {
        "due": tally.due,
        "sent": tally.sent,
        "ok": tally.ok,
        "failure": tally.failure,
        "error": tally.error,
        "timeout": tally.timeout,
        "not_sent": tally.not_sent,
        "aborted": tally.aborted,
        "own": tally.own,
        "hops": tally.hops,
        "bytes_in": tally.bytes_in,
        "bytes_out": tally.bytes_out,
        "answered": tally.answered,
        "bad": tally.bad,
        "judged": tally.judged,
    }


def _figures(figures: EndpointFigures) -> dict[str, Any]:
    return {
        "tally": _tally(figures.tally),
        "throughput_per_s": _number(figures.throughput_per_s),
        "goodput_per_s": _number(figures.goodput_per_s),
        "goodput_interval": _rates(figures.goodput_interval),
        "error_ratio": _estimate(figures.error_ratio, False),
        "response": _times(figures.response),
        "service": _times(figures.service),
        "failed_response": _times(figures.failed_response),
    }


def stage_parts(summary: Summary) -> list[dict[str, Any]]:
    """The stages of the document, in order of time."""
    rungs = {stage.index: place for place, stage in enumerate(in_order_of_load(summary.stages))}
    return [_stage(stage, rungs.get(stage.index)) for stage in summary.stages]


def totals_part(summary: Summary) -> dict[str, Any]:
    """The document's figures of everything together."""
    return _figures(summary.total)


def _stage(stage: StageFigures, rung: int | None) -> dict[str, Any]:
    sessions = stage.sessions
    return {
        "index": stage.index,
        "name": shown(stage.name),
        "label": shown(stage_text(stage)),
        "model": stage.model,
        "load": load_text(stage),
        "rung": rung,
        "sessions": None if sessions is None else {"start": _number(sessions[0]), "end": _number(sessions[1])},
        "start": _number(stage.start),
        "end": _number(stage.end),
        "begin_ns": stage.begin_ns,
        "end_ns": stage.end_ns,
        "completed": stage.completed,
        "steady": stage.steady,
        "role": stage.role or None,
        "server_cpu_ratio": _number(stage.server_cpu),
        "planned_due": _number(stage.planned_due),
        "in_flight": _number(stage.in_flight),
        "users": _number(stage.users),
        "warm_up_ns": _ns(None if stage.warm_up_s is None else stage.warm_up_s * units.NS_PER_S),
        "validity": stage.validity,
        "validity_reasons": [shown(reason) for reason in stage.validity_reasons],
        **_figures(stage.total),
        "phases": closeup.phases_part(stage.total.parts),
    }


# --- endpoints -------------------------------------------------------------------------------------------------------


class _Standing(NamedTuple):
    """An endpoint alone against the objectives meant for it or for all: word, last stage held, first stage broken.

    Stages go by load. All None where no objective applies.
    """

    word: Slo | None
    held: int | None
    broken: int | None


_Parts = Mapping[str, Mapping[int, EndpointFigures]]
"""Endpoint to stage to figures."""


def _parts(summary: Summary) -> _Parts:
    parts: dict[str, dict[int, EndpointFigures]] = {}
    for stage in summary.stages:
        for figures in stage.endpoints:
            parts.setdefault(figures.name, {})[stage.index] = figures
    return parts


def worst_first(summary: Summary) -> list[tuple[EndpointFigures, _Standing]]:
    """The endpoints, worst first, each with how it stands.

    Those that break an objective come before the rest, at the least load first; then those of which 1 % or more of the
    requests went wrong, by that share; then by p95 (by p50 where there is no p95), slowest first. Names decide ties.
    """
    order = in_order_of_load(summary.stages)
    place = {stage.index: position for position, stage in enumerate(order)}
    parts = _parts(summary)
    standings = [(figures, _standing(summary, figures, order, parts)) for figures in summary.endpoints]

    def badness(item: tuple[EndpointFigures, _Standing]) -> tuple[float, float, float, str]:
        figures, standing = item
        ratio = figures.error_ratio.value or 0.0
        quantiles = figures.response.quantiles
        slow = quantiles[0.95].value or quantiles[0.5].value or figures.response.mean_ns or 0.0
        return (
            math.inf if standing.broken is None else place[standing.broken],
            -ratio if ratio >= ERRORS_BEGIN_RATIO else 0.0,
            -slow,
            figures.name,
        )

    return sorted(standings, key=badness)


def _standing(summary: Summary, whole: EndpointFigures, order: Sequence[StageFigures], parts: _Parts) -> _Standing:
    """How an endpoint stands.

    Stages without a word about the server (invalid) and those the endpoint took no part in are left out. An objective
    of its own has its verdict stage by stage; one for all is held against the endpoint's figures as in
    `verdict.against`. Where a stage has too little of it to tell, the whole run decides between met and no data.
    """
    results = [result for result in summary.objectives if applies(result.objective, whole.name)]
    if not results:
        return _Standing(None, None, None)
    search = summary.capacity
    if search is not None:
        # What drains a search between its steps carries what they left behind.
        order = [stage for stage in order if stage.role not in BESIDE]
    held: int | None = None
    last: Slo = "no data"
    for stage in order:
        figures = parts.get(whole.name, {}).get(stage.index)
        if stage.validity == "invalid" or figures is None or figures.tally.judged == 0:
            continue
        words = {_stage_word(result, stage.index, figures) for result in results}
        if "missed" in words:
            # A search goes beyond what is held on purpose, so what gives way within its interval is not missed.
            expected = search is not None and search.rate_per_s is not None and peak(stage) >= (search.low or 0.0)
            enough = whole.tally.judged >= FEWEST_IN_SEARCH
            return _Standing("missed" if not expected else "met" if enough else "no data", held, stage.index)
        last = "no data" if "no data" in words else "met"
        held = stage.index if last == "met" else held
    if any(objective_word(result) == "missed" and result.objective.endpoint == whole.name for result in results):
        return _Standing("missed", held, None)
    if last == "no data" and all(against(whole, result.objective) == "met" for result in results):
        last = "met"
    return _Standing(last, held, None)


def _stage_word(result: ObjectiveResult, stage: int, figures: EndpointFigures) -> Slo:
    """The verdict of one stage of an endpoint on one objective."""
    if result.objective.endpoint is not None and stage in result.by_stage:
        return result.by_stage[stage]
    return against(figures, result.objective)


def endpoint_parts(summary: Summary, detailed: int | None = None) -> Iterator[dict[str, Any]]:
    """The endpoints of the document, worst first, all of them; the first `detailed` (None: all) with their stages."""
    parts = _parts(summary)
    for position, (figures, standing) in enumerate(worst_first(summary)):
        with_stages = detailed is None or position < detailed
        yield _endpoint(figures, standing, parts.get(figures.name, {}) if with_stages else {})


def _detailed(summary: Summary, kept: Mapping[str, Sequence[closeup.Exchange]]) -> Iterator[dict[str, Any]]:
    """The endpoints with a closer look at the worst of them."""
    looked_at = [figures for figures, _ in worst_first(summary)]
    for position, part in enumerate(endpoint_parts(summary, DETAILED_ENDPOINTS)):
        figures = looked_at[position]
        near = closeup.closeup_parts(figures) if position < DETAILED_ENDPOINTS else _NOTHING_NEAR
        examples = closeup.examples_part(kept.get(figures.name, ())) if position < DETAILED_ENDPOINTS else []
        yield {**part, **near, "examples": examples}


_NOTHING_NEAR = {"phases": None, "heat": None, "spectrum": None}


def transaction_parts(summary: Summary) -> list[dict[str, Any]]:
    """Transactions and messages, slowest p95 first, each with its stages; figures as of an endpoint."""
    by_stage = {stage.index: stage for stage in summary.stages}
    verdicts: dict[str, Slo | None] = {
        figures.name: _worst(
            [objective_word(result) for result in summary.objectives if result.objective.endpoint == figures.name]
        )
        for figures in summary.transactions
    }

    def slow(figures: EndpointFigures) -> tuple[float, str]:
        quantiles = figures.response.quantiles
        return -(quantiles[0.95].value or quantiles[0.5].value or 0.0), figures.name

    return [
        {
            "name": shown(figures.name),
            "kind": "message" if figures.name in summary.messages else "transaction",
            "slo": verdicts[figures.name],
            **_figures(figures),
            "heat": closeup.heat_part(figures.heat),
            "spectrum": closeup.spectrum_part(figures.spectrum),
            "stages": [
                {
                    "stage": index,
                    "tally": _tally(part.tally),
                    "throughput_per_s": _number(part.throughput_per_s),
                    "goodput_per_s": _number(part.goodput_per_s),
                    "error_ratio": _estimate(part.error_ratio, False),
                    "response": _times(part.response, STAGE_QUANTILES),
                }
                for index, stage in by_stage.items()
                for part in stage.transactions
                if part.name == figures.name
            ],
        }
        for figures in sorted(summary.transactions, key=slow)
    ]


def _worst(words: Sequence[Slo]) -> Slo | None:
    return next((word for word in ("missed", "no data", "met") if word in words), None)


def _endpoint(figures: EndpointFigures, standing: _Standing, stages: Mapping[int, EndpointFigures]) -> dict[str, Any]:
    return {
        "name": shown(figures.name),
        "slo": standing.word,
        "holds_stage": standing.held,
        "breaks_stage": standing.broken,
        "share_of_time": _number(figures.share_of_time),
        **_figures(figures),
        "stages": [
            {
                "stage": index,
                "tally": _tally(part.tally),
                "throughput_per_s": _number(part.throughput_per_s),
                "goodput_per_s": _number(part.goodput_per_s),
                "error_ratio": _estimate(part.error_ratio, False),
                "response": _times(part.response, STAGE_QUANTILES),
                "phases": closeup.phases_part(part.parts),
            }
            for index, part in stages.items()
        ],
    }


# --- timeline, errors, objectives ------------------------------------------------------------------------------------

_COUNTED = tuple(Outcome)


def timeline(seconds: Sequence[Second], longest: int = LONGEST_TIMELINE) -> dict[str, Any]:
    """The run second by second, as columns; a run of more than `longest` seconds in wider buckets.

    A bucket's counts are sums. Its `users`, `in_flight` and `planned_rate` are means of the seconds that have them, its
    times the greatest of its seconds, so that a stall stays visible; its stage is that of its first second.
    """
    span = seconds[-1].second - seconds[0].second + 1 if seconds else 0
    width = next((bucket for bucket in BUCKETS_S if span <= bucket * (longest - 1)), -(-span // max(longest - 1, 1)))
    width = 1 if span <= longest else width
    groups: dict[int, list[Second]] = {}
    for second in seconds:
        groups.setdefault(second.second // width * width, []).append(second)
    buckets = [groups[key] for key in sorted(groups)]
    table: dict[str, Any] = {
        "bucket_s": width,
        "second": sorted(groups),
        "stage": [bucket[0].stage for bucket in buckets],
        "due": [sum(second.due for second in bucket) for bucket in buckets],
        "sent": [sum(second.sent for second in bucket) for bucket in buckets],
    }
    for outcome in _COUNTED:
        table[outcome.name.lower()] = [sum(second.outcomes.get(outcome, 0) for second in bucket) for bucket in buckets]
    table["completed"] = [_sum(second.completed for second in bucket) for bucket in buckets]
    table["users"] = [_mean(second.users for second in bucket) for bucket in buckets]
    table["in_flight"] = [_mean(second.in_flight for second in bucket) for bucket in buckets]
    table["planned_rate"] = [_mean(second.planned_rate for second in bucket) for bucket in buckets]
    table["p50_ns"] = [_greatest(second.p50_ns for second in bucket) for bucket in buckets]
    table["p95_ns"] = [_greatest(second.p95_ns for second in bucket) for bucket in buckets]
    table["p99_ns"] = [_greatest(second.p99_ns for second in bucket) for bucket in buckets]
    table["max_ns"] = [_greatest(second.max_ns for second in bucket) for bucket in buckets]
    return table


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _number(math.fsum(known)) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _number(math.fsum(known) / len(known)) if known else None


def _greatest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _largest(errors: Sequence[ErrorGroup]) -> list[ErrorGroup]:
    return sorted(
        errors, key=lambda group: (-group.count, group.endpoint, int(group.outcome), group.kind, group.status)
    )


def _error(group: ErrorGroup, exchanges: Sequence[closeup.Exchange]) -> dict[str, Any]:
    return {
        "endpoint": shown(group.endpoint),
        "outcome": group.outcome.word,
        "kind": shown(group.kind),
        "status": group.status or None,
        "count": group.count,
        "first_ns": group.first_ns,
        "last_ns": group.last_ns,
        "median_ns": group.median_ns,
        "by_stage": [[stage, group.by_stage[stage]] for stage in sorted(group.by_stage)],
        "cluster_ns": group.cluster_ns,
        "cluster_share": _number(group.cluster_share),
        "example": closeup.error_example(group, exchanges),
    }


def _as_searched(result: ObjectiveResult, summary: Summary) -> ObjectiveResult:
    """In a search that found a rate an objective is met that no load below its interval missed: beyond it, it breaks on
    purpose. All loads together, those too, say nothing of it.
    """
    found = summary.capacity
    if found is None or found.rate_per_s is None or result.objective.metric == "rate":
        return result
    loads = {stage.index: peak(stage) for stage in summary.stages}
    missed = [stage for stage, word in result.by_stage.items() if word == "missed" and stage in loads]
    if any(loads[stage] < (found.low or found.rate_per_s) for stage in missed):
        return result
    rate = units.format_rate(found.rate_per_s)
    if found.low is not None and found.high is not None:
        rate += f" [{units.format_rates(found.low, found.high)}]"
    said = f"held up to {rate}" if missed else f"missed at no load that was tried: {result.reason}"
    if missed or result.verdict == "met":
        return replace(result, verdict="met", first_missed_stage=None, reason=said)
    return result


def _objective(result: ObjectiveResult) -> dict[str, Any]:
    objective = result.objective
    is_time = objective.metric in ("quantile", "mean", "max")
    return {
        "text": objective_text(objective),
        "written": shown(objective.text),
        "endpoint": None if objective.endpoint is None else shown(objective.endpoint),
        "metric": objective.metric if objective.metric != "quantile" else quantile_name(objective.quantile or 0.0),
        "unit": "ns" if is_time else "per_s" if objective.metric == "rate" else "ratio",
        "limit": _ns(objective.limit) if is_time else _number(objective.limit),
        "apdex_ns": objective.apdex_ns,
        "verdict": objective_word(result),
        "whole_run": result.verdict,
        "observed": _estimate(result.observed, is_time),
        "first_missed_stage": result.first_missed_stage,
        "by_stage": [[stage, result.by_stage[stage]] for stage in sorted(result.by_stage)],
        "exceeded": result.exceeded,
        "judged": result.judged,
        "reason": shown(result.reason, LONGEST_SENTENCE),
    }


def _saturation(found: Saturation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "reached": found.reached,
        "throughput_per_s": _number(found.throughput_per_s),
        "low_per_s": _number(found.low_per_s),
        "high_per_s": _number(found.high_per_s),
        "interval": _rates(found.interval),
        "before_stage": found.before,
        "stage": found.stage,
        "fell": _number(found.fell),
        "stages": list(found.stages),
        "generator": found.generator,
    }


def _stall(stall: PeriodicStall) -> dict[str, Any]:
    return {
        "period_ns": stall.period_ns,
        "duration_ns": stall.duration_ns,
        "cycles": stall.cycles,
        "cycles_hit": stall.cycles_hit,
        "first_ns": stall.first_ns,
        "last_ns": stall.last_ns,
        "requests": stall.requests,
        "share": _number(stall.share),
        "lost_ns": stall.lost_ns,
        "endpoints": [shown(name) for name in stall.endpoints[:MOST_EVIDENCE]],
        "endpoints_seen": stall.endpoints_seen,
    }


# --- findings, health, next ------------------------------------------------------------------------------------------


def _box(kind: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings of one kind, in the order in which they come: the costliest first."""
    chosen = [finding for finding in findings if finding.kind == kind]
    return {
        "items": [_finding(finding) for finding in chosen],
        "shown": min(len(chosen), BOX_LINES),
        "more": max(len(chosen) - BOX_LINES, 0),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": shown(finding.id),
        "sentence": shown(finding.sentence, LONGEST_SENTENCE),
        "confidence": finding.confidence,
        "endpoint": None if finding.endpoint is None else shown(finding.endpoint),
        "n": finding.n,
        "next_step": shown(finding.next_step, LONGEST_SENTENCE),
        "impact_ns": _ns(finding.impact_s * units.NS_PER_S),
        "evidence": [bounded(dict(row)) for row in finding.evidence[:MOST_EVIDENCE]],
        "evidence_left_out": max(len(finding.evidence) - MOST_EVIDENCE, 0),
    }


def _health(health: GeneratorHealth, shares_machine: bool) -> dict[str, Any]:
    return {
        "cpu_ratio_mean": _number(health.cpu_ratio_mean),
        "cpu_ratio_max": _number(health.cpu_ratio_max),
        "lag_p50_ns": _ns(health.lag_p50_ns),
        "lag_p99_ns": _ns(health.lag_p99_ns),
        "lag_max_ns": _ns(health.lag_max_ns),
        "rows_dropped": health.rows_dropped,
        "shares_machine": shares_machine,
    }


def _next(summary: Summary) -> list[dict[str, str]]:
    """What to type next, each command with what it is good for."""
    identity = shlex.quote(shown(summary.run.get("id") or "last"))
    kept = _kept_in(summary.run)
    steps = []
    if summary.total.tally.answered == 0:
        steps.append((f"surgeline runs show {identity}{kept}", "what was tried, and what came back"))
        return [{"command": command, "why": why} for command, why in steps]
    steps.append(
        (f"surgeline baseline save main {identity}{kept}", "keep this run as what later ones are held against")
    )
    steps.append((f"surgeline compare main last{kept}", "after the next change: p50 and p95 side by side"))
    again = None if summary.objectives else _again(summary.run, ("--slo", "p95 < 300ms, errors < 1%"))
    if again is not None:
        steps.append((again, "say what would be good enough, and get a verdict"))
    steps.append((f"surgeline runs show {identity}{kept}", "this page again, in the terminal"))
    return [{"command": command, "why": why} for command, why in steps]


LONGEST_COMMAND = 300
_TAKES_OBJECTIVES = ("run", "stress")
_NOT_SHOWN = ("-H", "--header", "--user-agent", "--proxy", "--serve", "--between")
"""Options whose values may be secrets, which no page shows."""


def _words(run: Mapping[str, Any]) -> list[str]:
    """The command line of a run, without the program; empty where it was not kept."""
    command = run.get("command")
    return [str(word) for word in command[1:]] if isinstance(command, list | tuple) else []


def _kept_in(run: Mapping[str, Any]) -> str:
    """` --out PLACE` where the run is not kept where runs are looked for, as its own command says."""
    for word, following in pairwise([*_words(run), ""]):
        if word == "--":
            break
        place = following if word == "--out" else word.removeprefix("--out=") if word.startswith("--out=") else ""
        if place and shown(place) == place:
            return f" --out {shlex.quote(place)}"
    return ""


def _again(run: Mapping[str, Any], more: Sequence[str]) -> str | None:
    """The command of a run, with more options; None where it takes none, or may hold what no page shows."""
    source, words = _mapping(run.get("source")), _words(run)
    location = str(source.get("location") or "")
    if source.get("kind") == "demo":
        return None
    if not words and location and source.get("kind") != "script":
        words = ["run", location]
    if not words or words[0] not in _TAKES_OBJECTIVES or "--" in words:
        return None
    if any(word.startswith(_NOT_SHOWN) or "***" in word or "@" in word for word in words):
        return None
    again = shlex.join(["surgeline", *words, *more])
    return again if shown(again, LONGEST_COMMAND) == again else None
