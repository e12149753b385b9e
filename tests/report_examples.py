"""Summaries to render, made by a formula: the report's tests need numbers that hang together, not a server.

`shop()` is a bookshop stressed from 1 to 64 users in seven stages, with a slow checkout, 500s at the top and a stall;
other examples are variations of it. Nothing is random but what a seed decides.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from surgeline.analysis import shape
from surgeline.analysis.model import (
    QUANTILES,
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
from surgeline.analysis.pooled import Columns
from surgeline.findings.model import Finding
from surgeline.plan.objective import parse_objectives
from surgeline.samples import Histogram, Merger, Outcome, Window

S = 1_000_000_000
MS = 1_000_000

SHOP = (
    ("GET /", 3.0, 4.0, 900),
    ("GET /books", 5.0, 22.0, 212_000),
    ("GET /books/{id}", 6.0, 5.0, 1_400),
    ("GET /search", 3.0, 31.0, 8_200),
    ("GET /orders", 1.5, 48.0, 5_100),
    ("GET /authors/{id}", 2.0, 7.0, 950),
    ("POST /login", 0.8, 60.0, 240),
    ("POST /checkout", 0.9, 95.0, 310),
    ("GET /reports/sales", 0.06, 900.0, 48_000),
)
"""Endpoint, weight, median service time in ms with one user, size of the answer in bytes."""

HOSTILE = "GET /<script>alert(1)</script>|*_`[x](javascript:alert(1))\x1b[31m\u202e=cmd|' /C calc'!A0"

RUN: dict[str, Any] = {
    "format": 1,
    "id": "2026-11-23-bookshop-a3f",
    "name": "bookshop",
    "state": "finished",
    "subject": {"kind": "plan", "plan": {"target": "http://127.0.0.1:8001", "hash": "4f2c9e1b77aa"}},
    "source": {"kind": "plan", "location": "shop.yaml"},
    "engine": "native",
    "settings": {"timeout_ns": 30 * S},
    "started_at": "2026-11-23T14:02:11Z",
    "clock": {"wall_ns": 1_795_442_531 * S, "monotonic_ns": 123},
    "environment": {
        "machine": {"cpu": "AMD EPYC 7763", "cores": 8, "memory_bytes": 33_554_432_000},
        "python": "3.13.1",
        "os": "Linux 6.8",
        "generator_shares_machine": True,
    },
    "git": {"commit": "c01dbee8d1f24a", "branch": "main", "dirty": False},
    "versions": {"surgeline": "0.1.0", "locust": "2.47.0"},
    "series": None,
    "ended": {"at_ns": 56 * S, "reason": "finished"},
    "due_known": True,
}

Row = tuple[int, int, str, Outcome, str, int, int]
"""Intended ns, stage, endpoint, outcome, error, response ns (-1 none), bytes in."""


def rows(levels: Sequence[float], stage_s: int, seed: int = 7, capacity: float = 320.0) -> list[Row]:
    """What the pretend shop answered: at most `capacity` requests a second, and checkout fails when it is full."""
    dice = random.Random(seed)
    names, weights = [item[0] for item in SHOP], [item[1] for item in SHOP]
    facts = {item[0]: item for item in SHOP}
    made: list[Row] = []
    for stage, users in enumerate(levels):
        wish = users / 0.032
        rate = min(wish, capacity)
        slow = max(1.0, wish / capacity)
        for second in range(stage * stage_s, (stage + 1) * stage_s):
            count = round(rate * dice.gauss(1.0, 0.03))
            for name in dice.choices(names, weights, k=count):
                at = second * S + dice.randrange(S)
                time = facts[name][2] * slow * math.exp(dice.gauss(0.0, 0.35))
                if second % 12 == 7 and at % S > 700 * MS:
                    time += (S - at % S) / MS
                outcome, error = Outcome.OK, ""
                if name == "POST /checkout" and slow > 3 and dice.random() < 0.31:
                    outcome, error = Outcome.FAILURE, "status 500"
                elif slow > 6 and dice.random() < 0.003:
                    outcome, error, time = Outcome.ERROR, "connect_reset", time / 3
                elif slow > 6 and dice.random() < 0.002:
                    outcome, error, time = Outcome.TIMEOUT, "total_timeout", 30_000.0
                made.append((at, stage, name, outcome, error, round(time * MS), facts[name][3]))
    return sorted(made)


def estimate(histogram: Histogram, q: float) -> Estimate:
    """A quantile with an order-statistics interval, refused below a minimum count."""
    n, least = histogram.count, {0.5: 20, 0.9: 40, 0.95: 60, 0.99: 300, 0.999: 3000}[q]
    if n < least:
        return Estimate(None, n=n, why_not=f"{n} samples, p{q * 100:g} needs {least}", brief=f"needs {least}")
    half = 1.96 * math.sqrt(n * q * (1 - q)) * 1.6
    low, high = max(1, math.floor(n * q - half)), min(n, math.ceil(n * q + half))
    value = histogram.quantile(q)
    assert value is not None
    return Estimate(
        float(value), float(histogram.value_at_rank(low)), float(histogram.value_at_rank(high)), n, n / 2.56
    )


def times(histogram: Histogram) -> Times:
    """The distribution in a histogram."""
    return Times(
        {q: estimate(histogram, q) for q in QUANTILES},
        histogram.mean_ns,
        histogram.min_ns,
        histogram.max_ns,
        histogram,
    )


def ratio(bad: int, judged: int) -> Estimate:
    """A share with its Wilson interval."""
    if not judged:
        return Estimate(None, why_not="no request was judged")
    p, z2 = bad / judged, 1.96**2
    middle, half = (p + z2 / (2 * judged)), 1.96 * math.sqrt(p * (1 - p) / judged + z2 / (4 * judged**2))
    return Estimate(
        p, max((middle - half) / (1 + z2 / judged), 0.0), (middle + half) / (1 + z2 / judged), judged, float(judged)
    )


def figures(name: str, part: Sequence[Row], duration_s: float, all_ok_ns: int) -> EndpointFigures:
    """The figures of some rows."""
    ok, bad, service = Histogram(), Histogram(), Histogram()
    counts: dict[Outcome, int] = defaultdict(int)
    for _, _, _, outcome, _, time, _ in part:
        counts[outcome] += 1
        if outcome is Outcome.OK:
            ok.record(time)
            service.record(max(time - 200_000, 1))
        elif outcome in (Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT):
            bad.record(time)
    due = len(part)
    tally = Tally(
        due=due,
        sent=due - counts[Outcome.NOT_SENT],
        ok=counts[Outcome.OK],
        failure=counts[Outcome.FAILURE],
        error=counts[Outcome.ERROR],
        timeout=counts[Outcome.TIMEOUT],
        not_sent=counts[Outcome.NOT_SENT],
        aborted=counts[Outcome.ABORTED],
        bytes_in=sum(row[6] for row in part),
        bytes_out=120 * due,
    )
    return EndpointFigures(
        name,
        tally,
        duration_s,
        tally.answered / duration_s,
        tally.ok / duration_s,
        ratio(tally.bad, tally.judged),
        times(ok),
        times(service),
        times(bad),
        ok.sum_ns / all_ok_ns if all_ok_ns else None,
        parts(part),
        heat(part),
        shape.spectrum(ok, service),
    )


def parts(part: Sequence[Row]) -> shape.Parts | None:
    """Where the time went: 0.2 ms to be sent, every tenth on a connection of its own, a fiftieth to receive."""
    spent = [row[5] for row in part if row[3] is Outcome.OK]
    if not spent:
        return None
    whole, fresh = sum(spent) - 200_000 * len(spent), len(spent) // 10
    receive, connect = whole // 50, 150_000 * fresh
    return shape.Parts(
        len(spent), fresh, (200_000 * len(spent), 0, connect, 0, 9_000, whole - receive - connect, receive)
    )


def heat(part: Sequence[Row]) -> shape.Heat | None:
    """The heatmap of some rows."""
    by_second: dict[int, Histogram] = defaultdict(Histogram)
    bad: dict[int, int] = defaultdict(int)
    for row in part:
        if row[3] is Outcome.OK:
            by_second[row[0] // S].record(row[5])
        else:
            bad[row[0] // S] += 1
    last = max((row[0] // S for row in part), default=0)
    return shape.heat(Columns.of(0, sorted(by_second.items())), bad, 0, last + 1, 60)


def exchanges(names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Of each endpoint its slowest, and of the checkout a failure with an answer that tells too much."""
    found = []
    for name in names:
        request = {"method": name.split()[0], "url": f"http://127.0.0.1:8001{name.split()[-1]}?api_key=k3y-s3cret"}
        headers = [["Content-Type", "application/json"], ["Set-Cookie", "***"], ["Server-Timing", "db;dur=4.2"]]
        answer = {"status": 200, "headers": headers, "body_head": '{"token": "t0p-s3cret"}', "body_bytes": 900}
        common = {"endpoint": name, "at_ns": 3 * S, "request": request, "response_ns": 400 * MS}
        found.append({**common, "why": "slowest", "error": None, "answer": answer})
        if name == "POST /checkout":
            body = '{"error": "out of stock",\n "session_token": "t0p-s3cret", "card": "c4rd-no"}'
            failed = {**answer, "status": 500, "body_head": body, "body_bytes": len(body)}
            found.append({**common, "why": "failed", "error": "status 500", "answer": failed})
    return tuple(found)


def with_transactions(summary: Summary) -> Summary:
    """The summary with the checkout timed as a whole too, as if it were one of its endpoints."""
    wanted = "POST /checkout"

    def one(held: Sequence[EndpointFigures]) -> tuple[EndpointFigures, ...]:
        return tuple(replace(item, name="checkout", parts=None) for item in held if item.name == wanted)

    stages = tuple(replace(stage, transactions=one(stage.endpoints)) for stage in summary.stages)
    return replace(summary, stages=stages, transactions=one(summary.endpoints))


def summary_of(
    made: Sequence[Row],
    levels: Sequence[float],
    stage_s: int,
    slo: str = "",
    model: str = "closed",
    run: dict[str, Any] | None = None,
) -> Summary:
    """The summary of rows of a staircase."""
    duration = float(stage_s * len(levels))
    all_ok = sum(row[5] for row in made if row[3] is Outcome.OK)
    names = sorted({row[2] for row in made})
    by_name = {name: [row for row in made if row[2] == name] for name in names}
    stages = []
    for index, level in enumerate(levels):
        inside = [row for row in made if row[1] == index]
        ok_ns = sum(row[5] for row in inside if row[3] is Outcome.OK)
        stages.append(
            StageFigures(
                index,
                f"stage {index + 1}",
                model,  # type: ignore[arg-type]
                float(level),
                float(level),
                index * stage_s * S,
                (index + 1) * stage_s * S,
                True,
                figures("all", inside, float(stage_s), ok_ns),
                tuple(
                    figures(name, [row for row in by_name[name] if row[1] == index], float(stage_s), ok_ns)
                    for name in names
                ),
                level * stage_s if model == "open" else None,
                sum(row[5] for row in inside) / S / stage_s,
                float(level) if model == "closed" else None,
                0.0,
                "valid",
                (),
            )
        )
    total = figures("all", made, duration, all_ok)
    return judged(
        Summary(
            run or RUN,
            model,  # type: ignore[arg-type]
            duration,
            total,
            tuple(figures(name, by_name[name], duration, all_ok) for name in names),
            tuple(stages),
            tuple(seconds(made, levels, stage_s, model)),
            tuple(error_groups(made)),
            GeneratorHealth(0.22, 0.41, 60_000.0, 400_000.0, 2_100_000.0, 0, True),
            (),
            None,
            "valid",
            (),
            False,
            (),
            saturation=saturation(stages),
            shares_machine=True,
            exchanges=exchanges(names),
            rows_seen=True,
        ),
        slo,
    )


def saturation(stages: Sequence[StageFigures]) -> Saturation | None:
    """The first stage with nine tenths of the highest throughput, where more load followed."""
    rates = [stage.total.throughput_per_s or 0.0 for stage in stages]
    if len(stages) < 2:
        return None
    first = next(index for index, rate in enumerate(rates) if rate >= 0.9 * max(rates))
    flat = tuple(range(first, len(stages)))
    reached = len(flat) > 1
    held = sorted(rates[index] for index in flat)
    return Saturation(
        reached, held[len(held) // 2], held[0], held[-1], first - 1 if first else None, first, 0.0, flat, False
    )


def judged(summary: Summary, slo: str) -> Summary:
    """The summary with objectives, each held against the figures stage by stage."""
    if not slo:
        return summary
    results = []
    for objective in parse_objectives(slo):

        def missed(part: EndpointFigures, endpoints: Sequence[EndpointFigures], it: Any = objective) -> bool | None:
            if it.endpoint is not None:
                part = next(item for item in endpoints if item.name == it.endpoint)
            value = (
                part.error_ratio.value
                if it.metric == "errors"
                else part.response.quantiles[round(it.quantile, 6)].value
            )
            return None if value is None else value >= it.limit

        valid = [stage for stage in summary.stages if stage.validity != "invalid"]
        words = [missed(stage.total, stage.endpoints) for stage in valid]
        first = next((index for index, word in enumerate(words) if word), None)
        whole = summary.total.error_ratio if objective.metric == "errors" else None
        if whole is None:
            whole = summary.total.response.quantiles[round(objective.quantile or 0.5, 6)]
        word = "missed" if first is not None else "no data" if None in words else "met"
        by_stage = {index: {True: "missed", False: "met", None: "no data"}[w] for index, w in enumerate(words)}
        results.append(ObjectiveResult(objective, word, whole, first, "", by_stage))  # type: ignore[arg-type]
    firsts = [r.first_missed_stage for r in results if r.first_missed_stage is not None]
    holds = (min(firsts) if firsts else sum(stage.validity != "invalid" for stage in summary.stages)) - 1
    return replace(summary, objectives=tuple(results), holds=holds if holds >= 0 else None)


def seconds(made: Sequence[Row], levels: Sequence[float], stage_s: int, model: str) -> list[Second]:
    """The rows second by second."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in made:
        groups[row[0] // S].append(row)
    found = []
    for second in range(stage_s * len(levels)):
        part = groups[second]
        ok = Histogram()
        outcomes: dict[Outcome, int] = defaultdict(int)
        split: dict[str, dict[Outcome, int]] = defaultdict(lambda: defaultdict(int))
        for _, _, name, outcome, _, time, _ in part:
            outcomes[outcome] += 1
            split[name][outcome] += 1
            if outcome is Outcome.OK:
                ok.record(time)
        level = float(levels[second // stage_s])
        found.append(
            Second(
                second,
                second // stage_s,
                len(part),
                len(part) - outcomes[Outcome.NOT_SENT],
                dict(outcomes),
                level if model == "closed" else None,
                sum(row[5] for row in part) / S,
                level if model == "open" else None,
                ok.quantile(0.5),
                ok.quantile(0.95),
                ok.quantile(0.99),
                ok.max_ns,
                {name: dict(counts) for name, counts in split.items()},
            )
        )
    return found


def error_groups(made: Sequence[Row]) -> list[ErrorGroup]:
    """The rows that went wrong, grouped."""
    groups: dict[tuple[str, Outcome, str], list[Row]] = defaultdict(list)
    for row in made:
        if row[3] is not Outcome.OK:
            groups[row[2], row[3], row[4]].append(row)
    found = []
    for (name, outcome, error), part in sorted(groups.items()):
        by_stage: dict[int, int] = defaultdict(int)
        for row in part:
            by_stage[row[1]] += 1
        status = int(error.split()[1]) if error.startswith("status") else 0
        middle = sorted(row[5] for row in part)[(len(part) - 1) // 2]
        found.append(
            ErrorGroup(
                name,
                outcome,
                error,
                status,
                len(part),
                part[0][0],
                part[-1][0],
                middle if middle >= 0 else None,
                dict(by_stage),
            )
        )
    return found


def windows(made: Sequence[Row]) -> tuple[Window, ...]:
    """The rows as the merged windows an engine would have left."""
    merger = Merger()
    for at, stage, name, outcome, _, time, size in made:
        response, service = Histogram(), Histogram()
        if outcome not in (Outcome.NOT_SENT, Outcome.ABORTED):
            response.record(time)
            service.record(max(time - 200_000, 1))
        merger.add_window(Window(at // S, stage, name, outcome, 1, size, 120, response, service))
    return merger.windows()


FINDINGS = (
    Finding(
        "latency.flat",
        "well",
        "GET /books/{id} stayed flat: p95 9.1 ms at 64 users, 8.9 ms at 1 user.",
        "high",
        "GET /books/{id}",
        3180,
        ({"load": "1 user", "p95_ns": 8_900_000}, {"load": "64 users", "p95_ns": 9_100_000}),
        "",
        0.0,
    ),
    Finding(
        "errors.none",
        "well",
        "No request failed up to 16 users: 0 of 4,512.",
        "high",
        None,
        4512,
        ({"load": "16 users", "bad": 0, "judged": 2560},),
        "",
        0.0,
    ),
    Finding(
        "generator.healthy",
        "well",
        "Surgeline was not the limit: CPU at most 41 %, start lag p99 0.4 ms.",
        "high",
        None,
        11840,
        (),
        "",
        0.0,
    ),
    Finding(
        "throughput.plateau",
        "failed",
        "Throughput stopped growing at 16 users: 322/s, and 318/s with 64 users, while p95 rose from 110 ms to 412 ms.",
        "high",
        None,
        7650,
        (
            {"load": "16 users", "throughput_per_s": 322.1, "p95_ns": 110_400_000},
            {"load": "64 users", "throughput_per_s": 318.4, "p95_ns": 412_000_000},
        ),
        "Look for what is used up at 16 users: a connection pool, a lock, or one CPU core.",
        812.5,
    ),
    Finding(
        "endpoint.slow",
        "failed",
        "POST /checkout is slower than its kind: p95 168 ms with 1 user, where writes of this shop take 102 ms.",
        "medium",
        "POST /checkout",
        512,
        ({"endpoint": "POST /checkout", "p95_ns": 168_000_000},),
        "Profile one checkout; it is slow before there is any load.",
        420.0,
    ),
    Finding(
        "errors.onset",
        "failed",
        "Errors begin at 64 users: 2.9 % of requests, 68 % of them status 500 on POST /checkout.",
        "high",
        "POST /checkout",
        76,
        ({"endpoint": "POST /checkout", "kind": "status 500", "count": 52},),
        "Read the server's log for the 500s of POST /checkout in the last eight seconds.",
        96.0,
    ),
    Finding(
        "stall.periodic",
        "explore",
        "Every 12.0 s all endpoints pause for about 290 ms (4 of 4 periods); 2.1 % of requests are hit.",
        "medium",
        None,
        249,
        ({"period_s": 12.0, "seen": 4},),
        "What runs every 12 s? Look at garbage collection, checkpoints, cron, metrics flushes.",
        64.0,
    ),
    Finding(
        "samples.few",
        "explore",
        "GET /reports/sales was asked 39 times only: medians, no p95.",
        "low",
        "GET /reports/sales",
        39,
        (),
        "Give it a scenario of its own, or a longer run.",
        0.0,
    ),
)

LEVELS = (1, 2, 4, 8, 16, 32, 64)


@cache
def shop(slo: str = "p95 < 300ms, errors < 1%", seed: int = 7, stage_s: int = 8) -> Summary:
    """The bookshop, stressed from 1 to 64 users."""
    return summary_of(rows(LEVELS, stage_s, seed), LEVELS, stage_s, slo)


def with_names(summary: Summary, rename: dict[str, str]) -> Summary:
    """The summary with endpoints called otherwise, wherever their names stand."""

    def one(part: EndpointFigures) -> EndpointFigures:
        return replace(part, name=rename.get(part.name, part.name))

    return replace(
        summary,
        endpoints=tuple(map(one, summary.endpoints)),
        stages=tuple(replace(stage, endpoints=tuple(map(one, stage.endpoints))) for stage in summary.stages),
        errors=tuple(replace(group, endpoint=rename.get(group.endpoint, group.endpoint)) for group in summary.errors),
        seconds=tuple(
            replace(second, by_endpoint={rename.get(k, k): v for k, v in second.by_endpoint.items()})
            for second in summary.seconds
        ),
    )


@cache
def open_shop() -> Summary:
    """The shop under nine rates from 50 to 450 a second, of which the last two were too much for the generator."""
    levels = tuple(range(50, 451, 50))
    made: list[Row] = []
    for stage, rate in enumerate(levels):
        made += [
            (at - (at // S) * S + (at // S % 10 + stage * 10) * S, stage, name, outcome, error, time, size)
            for at, _, name, outcome, error, time, size in rows(
                (rate * 0.032 * (1.0 if rate <= 300 else 1.4),), 10, stage
            )
        ]
    summary = summary_of(sorted(made), levels, 10, "p95 < 300ms", "open")
    reason = "the generator used 97 % of the CPU it can use, and beyond 95 % it is slow itself"
    stages = tuple(
        replace(stage, validity="invalid", validity_reasons=(reason,)) if stage.index >= 7 else stage
        for stage in summary.stages
    )
    flat = saturation(stages[:7])
    summary = replace(summary, stages=stages, objectives=(), holds=None, validity="degraded", saturation=flat)
    return judged(summary, "p95 < 300ms")


@cache
def one_load() -> Summary:
    """The shop under one load of 16 users, without objectives."""
    return summary_of(rows((16,), 60), (16,), 60)


@cache
def invalid_shop() -> Summary:
    """A run of which no stage says anything about the server."""
    summary = shop()
    reason = "the generator used 98 % of the CPU it can use, and beyond 95 % it is slow itself"
    return replace(
        summary,
        stages=tuple(replace(stage, validity="invalid", validity_reasons=(reason,)) for stage in summary.stages),
        validity="invalid",
        validity_reasons=(f"the generator was the limit throughout: {reason}",),
        holds=None,
        response_is_service=True,
        saturation=None,
        books=("due 11,369 is not sent 11,360 + not sent 0",),
    )


@cache
def dead_target() -> Summary:
    """A target that refused every connection."""
    made = [(at, stage, name, Outcome.ERROR, "connect_refused", 90_000, 0) for at, stage, name, *_ in rows((1, 2), 4)]
    return summary_of(made, (1, 2), 4, "p95 < 300ms")


@cache
def wide_shop(endpoints: int = 40) -> Summary:
    """The shop with more endpoints than a page lists."""
    names = [f"GET /things/{number:02}/{{id}}" for number in range(endpoints)]
    made = [
        (at, stage, names[(at // 1000) % endpoints], outcome, error, time, size)
        for at, stage, _, outcome, error, time, size in rows(LEVELS, 8)
    ]
    return summary_of(made, LEVELS, 8, "p95 < 300ms")


@cache
def long_run() -> Summary:
    """Twenty minutes at a light load, with a regular stall."""
    summary = summary_of(rows((1, 2), 600), (1, 2), 600, "p95 < 300ms")
    stall = PeriodicStall(
        12 * S, 290 * MS, 99, 99, 7 * S, 1195 * S, 2100, 0.021, 300 * S, ("GET /books", "GET /"), 9, 1e-9
    )
    return replace(summary, stalls=(stall,))


@cache
def hostile_shop() -> Summary:
    """The shop with names and errors that want to be markup."""
    summary = with_names(shop(), {"GET /search": HOSTILE, "GET /books": "<img src=x onerror=alert(1)>" * 40})
    groups = tuple(replace(group, kind='"><svg onload=alert(1)>\x1b[2J') for group in summary.errors)
    return replace(summary, errors=groups)
