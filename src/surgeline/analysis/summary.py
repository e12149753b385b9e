"""All the numbers of a run, from its windows, counts, health readings and events.

In: the run's description (`run.json`), its measurement and, where somebody looked at the rows, their details. Out: one
`Summary`. It does not know where those were stored or how they will be shown, and gives no opinion: what is good or bad
is the findings' business. Its cost grows with seconds and endpoints, not with requests.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis import capacity, limits, shape, slo, stalls, steady_state, steered, stress, validity
from surgeline.analysis.book import WITH_TIMES, Book, Limits, within
from surgeline.analysis.details import Details
from surgeline.analysis.model import (
    EndpointFigures,
    ErrorGroup,
    GeneratorHealth,
    PeriodicStall,
    Raised,
    Saturation,
    Second,
    ServerHealth,
    StageFigures,
    Summary,
)
from surgeline.analysis.pooled import EMPTY, Columns, quantiles_by_second
from surgeline.analysis.recovery import recoveries
from surgeline.analysis.shape import Parts
from surgeline.analysis.traits import Traits
from surgeline.analysis.workers import workers_of
from surgeline.samples import Measurement, Outcome


def summarise(
    run: Mapping[str, Any], measurement: Measurement, details: Details | None = None, traits: Traits | None = None
) -> Summary:
    """Everything a page says about the run, as values.

    Without `details` errors are known by outcome only and stalls finer than a second are not searched for; without
    `traits` nothing is said about what only single requests tell. A run without any request gives a summary with zero
    counts.
    """
    book = Book.of(run, measurement)
    book.excuse(validity.own_not_sent(run, book, details))
    together = book.of_transactions(measurement)
    parts = details.parts if details is not None else {}
    stages = [_stage(book, together, limits, parts) for limits in book.stages]
    workers = workers_of(measurement.events, book)
    judged = validity.judge(run, stages, book, details, workers, validity.standstills(measurement.events))
    warm = {stage.index: steady_state.warm_up_s(book, stage) for stage in stages}
    steady = {stage.index: steady_state.steady(book, stage) for stage in stages}
    stages = [
        replace(
            stage,
            validity=judged[stage.index].word,
            validity_reasons=judged[stage.index].reasons,
            warm_up_s=warm[stage.index],
            steady=steady[stage.index],
        )
        for stage in stages
    ]
    begin, end = book.begin_ns, book.end_ns
    total = book.figures("", None, None, begin, end)
    if len(stages) == 1:
        total = replace(total, goodput_interval=stages[0].total.goodput_interval)
    total = replace(total, parts=_pooled(parts), **_portrait(book, None, total, MOST_COLUMNS))
    whole = _with_shares([_whole(book, name, parts) for name in book.endpoints])
    # What a search puts between its steps is there to drain them: its requests wait for those before.
    steps = [stage for stage in stages if stage.role != "settle"]
    objectives = slo.judge(slo.objectives_of(run), book, steps, together)
    found = stress.of_run(run, stages, measurement.windows, measurement.counts)
    saturated = _with_interval(capacity.saturation([s for s in steps if not validity.bounded(s)]), stages)
    server = _server_health(run, book, steps)
    errors = details.errors if details is not None else _errors_by_outcome(book)
    rowless = int((run.get("stored") or {}).get("aborted") or 0)
    books = book.books(measurement, rowless)
    word, reasons = validity.of_run(run, stages, books, measurement, total.tally, workers)
    return Summary(
        run=run,
        model=book.model,
        duration_s=(end - begin) / units.NS_PER_S,
        total=replace(total, name="all endpoints", share_of_time=1.0 if total.tally.ok else None),
        endpoints=whole,
        stages=tuple(stages),
        seconds=_seconds(book),
        errors=errors,
        health=_generator_health(run, book),
        objectives=objectives,
        holds=slo.holds(objectives, steps),
        validity=word,
        validity_reasons=reasons,
        response_is_service=not run.get("due_known", True),
        books=books,
        saturation=saturated,
        stalls=(details.stalls if details is not None else ())
        or _regular_gaps(traits, whole, end - begin, total.tally.due),
        acts=book.acts,
        notes=tuple(str(event.get("reason", "")) for event in measurement.events if event.get("kind") == "note"),
        forked=validity.forked(measurement.events),
        exceptions=_exceptions(measurement, begin),
        shares_machine=_shares_machine(run),
        traits=traits or Traits(),
        server=server,
        recoveries=recoveries(book, stages),
        capacity=found,
        limit=limits.kind(stages, errors, server, found, saturated),
        transactions=tuple(_whole(together, name, {}) for name in together.endpoints),
        messages=frozenset(window.endpoint for window in measurement.messages),
        exchanges=measurement.exchanges,
        rows_seen=details is not None,
        workers=workers,
    )


def _with_interval(saturated: Saturation | None, stages: Sequence[StageFigures]) -> Saturation | None:
    """With the interval of its throughput, moved there from the stage that comes nearest to it."""
    if saturated is None:
        return None
    mine = [stage.total for stage in stages if stage.index in saturated.stages and stage.total.goodput_per_s]
    nearest = min(mine, key=lambda one: abs((one.goodput_per_s or 0.0) - saturated.throughput_per_s), default=None)
    if nearest is None or nearest.goodput_interval is None:
        return saturated
    low, high = nearest.goodput_interval
    shift = saturated.throughput_per_s - (low + high) / 2.0
    return replace(saturated, interval=(max(low + shift, 0.0), high + shift))


# --- Stages ----------------------------------------------------------------------------------------------------------


MOST_COLUMNS, MOST_COLUMNS_SMALL = 120, 60
"""Columns of a heatmap: of everything together, of one endpoint."""


def _portrait(book: Book, name: str | None, figures: EndpointFigures, most: int) -> dict[str, Any]:
    """The heatmap and the spectrum of an endpoint, or of everything."""
    first = book.begin_ns // units.NS_PER_S
    return {
        "heat": shape.heat(book.ok(None, name), book.bad_by_second(name), first, book.width, most),
        "spectrum": shape.spectrum(figures.response.histogram, figures.service.histogram),
    }


def _whole(book: Book, name: str, parts: Mapping[tuple[str, int], Parts]) -> EndpointFigures:
    """An endpoint, or a transaction, over the whole run."""
    figures = book.figures(name, None, name, book.begin_ns, book.end_ns)
    if len(book.stages) == 1:
        figures = replace(figures, goodput_interval=book.rate_interval(name, book.begin_ns, book.end_ns))
    mine = {key: part for key, part in parts.items() if key[0] == name}
    return replace(figures, parts=_pooled(mine), **_portrait(book, name, figures, MOST_COLUMNS_SMALL))


def _pooled(parts: Mapping[tuple[str, int], Parts]) -> Parts | None:
    return sum(parts.values(), Parts()) if parts else None


def _stage(book: Book, together: Book, limits: Limits, parts: Mapping[tuple[str, int], Parts]) -> StageFigures:
    begin, end = limits.begin_ns, limits.end_ns
    total = book.figures("all endpoints", limits.index, None, begin, end)
    names = [name for name in book.endpoints if (limits.index, name) in book.cells]
    endpoints = _with_shares(
        [
            replace(book.figures(name, limits.index, name, begin, end), parts=parts.get((name, limits.index)))
            for name in names
        ]
    )
    users = book.readings("users", begin, end)
    level = [sum(held.values()) for held in users.values()]
    mean_users = float(np.mean(level)) if level else None
    scripted = limits.start == limits.end == 0.0 and mean_users is not None
    seconds = (end - begin) / units.NS_PER_S
    server_cpu = book.of_server("cpu_ratio", begin, end)
    machine_cpu = book.of_server("machine_cpu_ratio", begin, end)
    return StageFigures(
        index=limits.index,
        name=limits.name,
        model=limits.model,
        start=min(level) if scripted else limits.start,
        end=max(level) if scripted else limits.end,
        begin_ns=begin,
        end_ns=end,
        completed=limits.completed,
        total=replace(
            total,
            share_of_time=1.0 if total.tally.ok else None,
            parts=_pooled({key: part for key, part in parts.items() if key[1] == limits.index}),
        ),
        endpoints=endpoints,
        planned_due=_planned_due(book, limits) if limits.model == "open" else None,
        in_flight=within(book.in_flight, begin, end) / seconds if seconds > 0 else None,
        users=mean_users,
        own_name=limits.own_name,
        sessions=limits.sessions,
        warm_up_s=None,
        validity="valid",
        validity_reasons=(),
        role=stress.role_of(book.run, limits.index),
        server_cpu=float(np.median(server_cpu)) if server_cpu else None,
        machine_cpu=float(np.median(machine_cpu)) if machine_cpu else None,
        bunched=validity.bunched(book, begin, end),
        transactions=tuple(
            together.figures(name, limits.index, name, begin, end)
            for name in together.endpoints
            if (limits.index, name) in together.cells
        ),
    )


def _planned_due(book: Book, limits: Limits) -> float:
    """How many requests the stage was meant to have until it ended, with whatever an operator changed meanwhile."""
    still = "native" in (book.run.get("engine"), book.run.get("sender"))
    line = (limits.start, limits.end, limits.duration_ns)
    return steered.planned_arrivals(*line, limits.begin_ns, limits.end_ns, book.acts, still)


def _with_shares(endpoints: list[EndpointFigures]) -> tuple[EndpointFigures, ...]:
    waited = [figures.response.histogram.sum_ns for figures in endpoints]
    whole = sum(waited)
    return tuple(
        replace(figures, share_of_time=mine / whole if whole else None)
        for figures, mine in zip(endpoints, waited, strict=True)
    )


# --- Seconds, errors, health -----------------------------------------------------------------------------------------


def _seconds(book: Book) -> tuple[Second, ...]:
    quantiles = quantiles_by_second(book.ok(None, None), (0.5, 0.95, 0.99))
    due: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    outcomes: dict[int, dict[str, dict[Outcome, int]]] = defaultdict(dict)
    stage_of: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for (stage, endpoint), cell in book.cells.items():
        for second, (count, sent) in cell.due_by_second.items():
            due[second][0] += count
            due[second][1] += sent
            stage_of[second][stage] += count
        for second, by_outcome in cell.by_second.items():
            mine = outcomes[second].setdefault(endpoint, {})
            for outcome, count in by_outcome.items():
                mine[outcome] = mine.get(outcome, 0) + count
    completed = book.arrived(None, WITH_TIMES[:2])
    levels = {
        metric: {second: sum(held.values()) for second, held in book.health.get(metric, {}).items()}
        for metric in ("users", "in_flight", "planned_rate")
    }
    found = []
    for second in range(book.begin_ns // units.NS_PER_S, book.width):
        totals: dict[Outcome, int] = {}
        for by_outcome in outcomes[second].values():
            for outcome, count in by_outcome.items():
                totals[outcome] = totals.get(outcome, 0) + count
        p50, p95, p99, most = quantiles.get(second, [None] * 4)
        stages = stage_of[second]
        found.append(
            Second(
                second=second,
                stage=max(stages, key=lambda index: (stages[index], index)) if stages else _stage_at(book, second),
                due=due[second][0],
                sent=due[second][1],
                outcomes=totals,
                users=levels["users"].get(second),
                in_flight=levels["in_flight"].get(second),
                planned_rate=levels["planned_rate"].get(second),
                p50_ns=p50,
                p95_ns=p95,
                p99_ns=p99,
                max_ns=most,
                by_endpoint=outcomes[second],
                completed=float(completed[second]),
            )
        )
    return tuple(found)


def _stage_at(book: Book, second: int) -> int:
    at = second * units.NS_PER_S
    return max((stage.index for stage in book.stages if stage.begin_ns <= at), default=0)


def _errors_by_outcome(book: Book) -> tuple[ErrorGroup, ...]:
    """Groups by endpoint and outcome: all that windows tell."""
    found = []
    for endpoint in book.endpoints:
        for outcome in (Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT, Outcome.NOT_SENT):
            by_stage: dict[int, int] = {}
            seconds: list[int] = []
            times = []
            for (stage, name), cell in book.cells.items():
                mine = [(s, held[outcome]) for s, held in cell.by_second.items() if outcome in held]
                if name == endpoint and mine:
                    by_stage[stage] = sum(count for _, count in mine)
                    seconds += [second for second, _ in mine]
                    times.append(cell.response.get(outcome, EMPTY))
            if by_stage:
                found.append(
                    ErrorGroup(
                        endpoint=endpoint,
                        outcome=outcome,
                        kind=outcome.word,
                        status=0,
                        count=sum(by_stage.values()),
                        first_ns=min(seconds) * units.NS_PER_S,
                        last_ns=max(seconds) * units.NS_PER_S,
                        median_ns=Columns.pool(times).histogram().quantile(0.5),
                        by_stage=by_stage,
                    )
                )
    return tuple(sorted(found, key=lambda group: (-group.count, group.endpoint, group.outcome)))


def _generator_health(run: Mapping[str, Any], book: Book) -> GeneratorHealth:
    cpu = validity.cpu_by_second(run, book.readings("cpu_ratio", book.begin_ns, book.end_ns))
    lag = {
        metric: [max(held.values()) for held in book.health.get(metric, {}).values()]
        for metric in ("lag_p50_ns", "lag_p99_ns", "lag_max_ns")
    }
    dropped = sum(value for held in book.health.get("rows_dropped", {}).values() for value in held.values())
    return GeneratorHealth(
        cpu_ratio_mean=float(np.mean(list(cpu.values()))) if cpu else None,
        cpu_ratio_max=max(cpu.values()) if cpu else None,
        lag_p50_ns=float(np.median(lag["lag_p50_ns"])) if lag["lag_p50_ns"] else None,
        lag_p99_ns=float(np.median(lag["lag_p99_ns"])) if lag["lag_p99_ns"] else None,
        lag_max_ns=max(lag["lag_max_ns"], default=None),
        rows_dropped=round(dropped),
        shares_machine=_shares_machine(run),
    )


def _regular_gaps(
    traits: Traits | None, endpoints: Sequence[EndpointFigures], length_ns: int, due: int
) -> tuple[PeriodicStall, ...]:
    """A regular stall that shows only in the gaps between answers; empty where they keep no time."""
    gaps = traits.gaps if traits is not None else ()
    lasted = [gap.end_ns - gap.begin_ns for gap in gaps]
    found = stalls.regular([gap.end_ns for gap in gaps], lasted, int(0.8e9), length_ns // 5)
    if found is None:
        return ()
    period, first, last, cycles, hit, duration = found
    waited = [gap.in_flight for gap in gaps if gap.end_ns - gap.begin_ns >= duration // 2]
    names = tuple(figures.name for figures in endpoints if figures.tally.ok)
    return (
        PeriodicStall(
            period_ns=period, duration_ns=duration, cycles=cycles, cycles_hit=hit, first_ns=first, last_ns=last,
            requests=sum(waited), share=sum(waited) / max(due, 1), lost_ns=sum(waited) * duration // 2,
            endpoints=names, endpoints_seen=len(names), chance=1e-3,
        ),
    )  # fmt: skip


MOST_TRACEBACK = 4_000
"""Characters of a traceback that are kept, from its end."""


def _exceptions(measurement: Measurement, begin_ns: int) -> tuple[Raised, ...]:
    """What user code raised; at most a hundred different ones, those raised most often."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for event in measurement.events:
        if event.get("kind") != "exception":
            continue
        message = str(event.get("message") or "an exception without a message")[:300]
        key = (str(event.get("type") or "")[:100], message, str(event.get("traceback") or "")[-MOST_TRACEBACK:])
        at, count = event.get("at_ns"), int(event.get("count") or 1)
        moment = max(at - begin_ns, 0) if isinstance(at, int) else 0
        held = found.setdefault(key, [0, moment, moment])
        held[0] += count
        held[1], held[2] = min(held[1], moment), max(held[2], moment)
    raised = (Raised(message, n, kind, first, last, tb) for (kind, message, tb), (n, first, last) in found.items())
    return tuple(sorted(raised, key=lambda one: (-one.count, one.type, one.message))[:100])


def _server_health(run: Mapping[str, Any], book: Book, stages: Sequence[StageFigures]) -> ServerHealth | None:
    seen = {
        metric: book.of_server(metric, book.begin_ns, max(book.end_ns, book.begin_ns + units.NS_PER_S))
        for metric in ("cpu_ratio", "machine_cpu_ratio", "rss_bytes", "threads", "descriptors", "processes")
    }
    if not any(seen.values()):
        return None
    described = run.get("server")
    found = described.get("found") if isinstance(described, Mapping) else None
    cores = ((run.get("environment") or {}).get("machine") or {}).get("cores")
    flat = max((stage for stage in stages if stage.start == stage.end), key=lambda s: s.duration_s, default=None)
    return ServerHealth(
        found=str(found or ""),
        processes=round(max(seen["processes"], default=1.0)),
        cores=int(cores) if isinstance(cores, int | float) else None,
        cpu_ratio_mean=float(np.mean(seen["cpu_ratio"])) if seen["cpu_ratio"] else None,
        cpu_ratio_max=max(seen["cpu_ratio"], default=None),
        machine_cpu_max=max(seen["machine_cpu_ratio"], default=None),
        rss_first_bytes=seen["rss_bytes"][0] if seen["rss_bytes"] else None,
        rss_last_bytes=seen["rss_bytes"][-1] if seen["rss_bytes"] else None,
        rss_max_bytes=max(seen["rss_bytes"], default=None),
        threads_max=max(seen["threads"], default=None),
        descriptors_max=max(seen["descriptors"], default=None),
        rss_stage=flat.index if flat is not None else None,
        rss_flat_bytes=tuple(book.of_server("rss_bytes", _settled(flat), flat.end_ns)) if flat is not None else (),
    )


def _settled(stage: StageFigures) -> int:
    return stage.begin_ns + round((stage.warm_up_s or 0.0) * units.NS_PER_S)


def _shares_machine(run: Mapping[str, Any]) -> bool:
    return bool((run.get("environment") or {}).get("generator_shares_machine", False))
