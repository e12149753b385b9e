"""How often does each rule speak at its threshold, at half of it and at twice it? On runs whose truth is known.

    python -m scripts.campaigns.findings          writes the page
    python -m scripts.campaigns.findings --short  a few seeds, to standard output

Each rule has a maker below: it takes dice and a strength (1 is the rule's threshold) and returns the summary of a run
in which the effect has just that strength. The true effect is what is set, not what comes out: at the threshold itself
a rule without a guard would speak in half of the runs. Seeds are fixed: the page comes out the same.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from surgeline import units
from surgeline.analysis import details, traits
from surgeline.analysis.marks import Marks, SameData
from surgeline.analysis.model import ErrorGroup, Raised, ServerHealth, Summary
from surgeline.analysis.summary import summarise
from surgeline.analysis.traits import Traits
from surgeline.engines import scripted
from surgeline.findings import RULES
from surgeline.plan.model import Plan
from surgeline.samples import Frame, Outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "findings.md"
MS, S = units.NS_PER_MS, units.NS_PER_S
SEEDS, FEW_SEEDS = 100, 30
"""Few where a run has thousands of requests."""
STRENGTHS = (0.5, 1.0, 2.0)
Dice = np.random.Generator
Maker = Callable[[Dice, float], Summary]
ACCUSES = ("failed", "explore")


@dataclass(frozen=True, slots=True)
class Case:
    """How a rule is tried: what strength 1 means, and the kinds of finding that count as speaking."""

    rule: str
    means: str
    make: Maker
    kinds: tuple[str, ...] = ACCUSES
    slow: bool = False


# --- runs ------------------------------------------------------------------------------------------------------------


def _plan(*rates: float, each: str = "20s", seed: int = 1, paths: Sequence[str] = ("/x",), **more: Any) -> Plan:
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {f"s{i}": {"steps": [{"get": path}]} for i, path in enumerate(paths)},
            "workload": {
                "model": "open",
                "seed": seed,
                "stages": [{"rate": f"{rate}/s", "for": each} for rate in rates],
            },
            **more,
        }
    )


def _run(
    plan: Plan, server: scripted.Server, generator: scripted.Generator | None = None, look: bool = False, **more: Any
) -> Summary:
    recording = scripted.play(plan, server, generator)
    load = plan.load()
    stages = [
        {
            "index": index, "name": stage.name, "model": load.model, "from": stage.start, "to": stage.end,
            "unit": "requests/s", "duration_ns": stage.duration_ns,
        }
        for index, stage in enumerate(load.stages)
    ]  # fmt: skip
    run = {
        "engine": "scripted",
        "due_known": True,
        "settings": {"workers": 1, "max_in_flight": 10_000, "target": "http://127.0.0.1:1"},
        "subject": {"kind": "plan", "plan": plan.dump(), "hash": plan.hash},
        "environment": {"machine": {}, "generator_shares_machine": False},
        "stages": stages,
        **more,
    }
    tables = list(recording.tables(Frame.ROWS))
    seen = details.look(table.columns for table in tables)
    habits = None
    if look:
        loads = {index: stage.end for index, stage in enumerate(load.stages)}
        habits = traits.look([dict(table.columns) for table in tables], (), loads, seen.stalls)
    return summarise(run, recording.measurement(), seen, habits)


def _seed(dice: Dice) -> int:
    return int(dice.integers(1, 2**31))


def _spread(dice: Dice, median_ms: float = 20.0, sigma: float = 0.3) -> scripted.Server:
    return scripted.lognormal(round(median_ms * MS), sigma, _seed(dice))


def _failing(dice: Dice, share: float, status: int = 500) -> scripted.Server:
    return scripted.failing_share(_spread(dice), share, status, seed=_seed(dice))


@cache
def _calm() -> Summary:
    """1,000 requests of GET /x at 50/s, and nothing to say about them."""
    return _run(_plan(50), scripted.lognormal(20 * MS))


@cache
def _steps() -> Summary:
    """Three loads of 20 s each."""
    return _run(_plan(50, 100, 200), scripted.lognormal(5 * MS))


def _rows(service_ms: Any, **columns: Any) -> Summary:
    """The calm run, with the traits of so many requests of GET /x, 20 ms apart."""
    times = np.asarray(service_ms)
    count = len(times)
    start = np.arange(count) * 20 * MS
    exchanges = columns.pop("exchanges", ())
    batch = {
        "endpoint": ["GET /x"] * count,
        "url": ["http://127.0.0.1:1/x"] * count,
        "stage": np.zeros(count, int),
        "start_ns": start,
        "end_ns": start + (times * MS).astype(np.int64),
        **{name: np.full(count, -1) for name in ("dns_ns", "connect_ns", "tls_ns")},
        "bytes_in": np.full(count, 1000),
        "bytes_out": np.full(count, 200),
        "reused": np.ones(count, int),
        "outcome": np.full(count, int(Outcome.OK)),
        "server_timing": [""] * count,
        **columns,
    }
    found = traits.look([batch], exchanges, {0: 1.0})
    return replace(_calm(), traits=replace(found, rows=_calm().total.tally.due))


def _noise(dice: Dice, count: int, sigma: float = 0.3) -> Any:
    return np.exp(sigma * dice.standard_normal(count))


def _marked(marks: Marks, **changes: Any) -> Summary:
    return replace(_calm(), traits=Traits(marks=marks, rows=_calm().total.tally.due), **changes)


# --- one maker a rule ------------------------------------------------------------------------------------------------


def _over(dice: Dice, strength: float) -> Summary:
    share, seed = 0.05 * strength, _seed(dice)
    slow = scripted.failing_share(scripted.constant(20 * MS), share, 599, seed=seed)

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        answer = slow(endpoint, sent_ns, in_flight)
        return replace(answer, status=200, service_ns=200 * MS) if answer.status == 599 else answer

    return _run(_plan(100, seed=seed, slo=["p95 < 100ms"]), serve)


def _onset(dice: Dice, strength: float) -> Summary:
    share, seed = 0.001 * strength, _seed(dice)
    server = scripted.until(40 * S, _spread(dice), _failing(dice, share))
    return _run(_plan(50, 100, 200, seed=seed), server)


def _constant(dice: Dice, strength: float) -> Summary:
    return _run(_plan(100, 200, seed=_seed(dice)), _failing(dice, 0.001 * strength))


def _limited(dice: Dice, strength: float) -> Summary:
    return _run(_plan(100, seed=_seed(dice)), _failing(dice, 0.01 * strength, 429))


def _cluster(dice: Dice, strength: float) -> Summary:
    share = min(0.8 * strength, 1.0)
    times = np.where(dice.random(40) < share, 1.003, dice.uniform(0.05, 0.9, 40))
    values = np.sort(times * S)
    within = np.searchsorted(values, values * 1.04, side="right") - np.arange(40)
    best = int(np.argmax(within))
    group = ErrorGroup(
        "GET /x", Outcome.FAILURE, "status", 504, 40, S, 19 * S, round(float(np.median(values))), {0: 40},
        round(float(np.median(values[best : best + int(within[best])]))), int(within[best]) / 40,
    )  # fmt: skip
    return replace(_calm(), errors=(group,))


def _fast_fail(dice: Dice, strength: float) -> Summary:
    good, bad = _spread(dice, 40.0), _spread(dice, 20.0 / strength)
    which = scripted.failing_share(good, 0.1, 503, seed=_seed(dice))

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        answer = which(endpoint, sent_ns, in_flight)
        if answer.status != 503:
            return answer
        return replace(answer, service_ns=bad(endpoint, sent_ns, in_flight).service_ns)

    return _run(_plan(50, seed=_seed(dice)), serve)


def _dropped(dice: Dice, strength: float) -> Summary:
    (endpoint,) = _steps().endpoints
    bad = int(dice.binomial(endpoint.tally.due, 0.001 * strength))
    by_stage = {2: bad}
    group = ErrorGroup("GET /x", Outcome.ERROR, "reset_mid_body", 0, bad, S, 59 * S, 5 * MS, by_stage)
    return replace(_steps(), errors=(group,) if bad else ())


def _late(dice: Dice, strength: float) -> Summary:
    connect = np.where(dice.random(1000) < 0.01 * strength, 1_015.0, 0.4)
    return _rows(connect + 5.0, connect_ns=(connect * MS).astype(np.int64), reused=np.zeros(1000, int))


def _plateau(dice: Dice, strength: float) -> Summary:
    capacity = 200.0 * (1.0 - 0.07 * strength)
    return _run(_plan(50, 100, 200, seed=_seed(dice)), scripted.pool(4, round(4 / capacity * S), _seed(dice)))


def _retrograde(dice: Dice, strength: float) -> Summary:
    base = _steps()
    rates = (50.0, 180.0, 180.0 * (1.0 - 0.10 * strength))
    stages = tuple(
        replace(stage, total=replace(stage.total, goodput_per_s=float(dice.poisson(rate * 20)) / 20.0))
        for stage, rate in zip(base.stages, rates, strict=True)
    )
    return replace(base, stages=stages)


def _periodic(dice: Dice, strength: float) -> Summary:
    frozen = scripted.freezing(_spread(dice, 5.0), 2 * S, round(80 * strength * MS))
    return _run(_plan(200, each="30s", seed=_seed(dice)), frozen)


def _gap(dice: Dice, strength: float) -> Summary:
    once = scripted.freezing(_spread(dice, 5.0), 100 * S, round(200 * strength * MS), 10 * S)
    server = scripted.until(10 * S, _spread(dice, 5.0), once)
    return _run(_plan(50, seed=_seed(dice)), server, look=True)


def _rising(dice: Dice, strength: float) -> Summary:
    slower = 60.0 * (1.0 + 0.5 * strength)
    return _run(_plan(20, 80, seed=_seed(dice)), scripted.until(20 * S, _spread(dice, 60.0), _spread(dice, slower)))


def _flat(dice: Dice, strength: float) -> Summary:
    slower = 20.0 * (1.0 + 0.25 * strength)
    return _run(_plan(20, 100, seed=_seed(dice)), scripted.until(20 * S, _spread(dice), _spread(dice, slower)))


def _drift(dice: Dice, strength: float) -> Summary:
    grows = scripted.ramping(_spread(dice), round(20 * MS * 0.15 * strength / 150))
    return _run(_plan(40, each="150s", seed=_seed(dice)), grows)


def _leak(dice: Dice, strength: float) -> Summary:
    x = np.arange(180)
    values = tuple((200e6 * (1.0 + 0.10 * strength * x / 180) + 1e6 * dice.standard_normal(180)).tolist())
    index = _calm().stages[0].index
    server = ServerHealth(
        "", 1, 2, 0.5, 0.6, 1.0, values[0], values[-1], max(values), 8.0, 30.0, index, values
    )  # fmt: skip
    return replace(_calm(), server=server)


def _step(dice: Dice, strength: float) -> Summary:
    server = scripted.until(30 * S, _spread(dice), _spread(dice, 20.0 * (1.0 + 0.03 * strength)))
    return _run(_plan(100, each="60s", seed=_seed(dice)), server)


def _outlier(dice: Dice, strength: float) -> Summary:
    paths = ("/a", "/b", "/c", "/d", "/e")
    server = scripted.by_endpoint({"GET /a": _spread(dice, 40.0 * strength)}, _spread(dice, 10.0))
    return _run(_plan(50, seed=_seed(dice), paths=paths), server)


def _dominates(dice: Dice, strength: float) -> Summary:
    # One of five endpoints with equal traffic: its share of the time is t / (t + 4), t against the others.
    share = min(0.5 * strength, 0.9)
    server = scripted.by_endpoint({"GET /a": _spread(dice, 40.0 * share / (1.0 - share))}, _spread(dice, 10.0))
    return _run(_plan(50, seed=_seed(dice), paths=("/a", "/b", "/c", "/d", "/e")), server)


def _own_time(dice: Dice, strength: float) -> Summary:
    times = 60.0 * _noise(dice, 200)
    share = np.clip(0.5 * strength * _noise(dice, 200, 0.1), 0.0, 1.0)
    timing = [f"db;dur={own:.3f}" for own in times * share]
    return _rows(times, server_timing=timing)


def _instance(dice: Dice, strength: float) -> Summary:
    who = dice.choice(["a", "b", "c"], 400)
    times = 40.0 * _noise(dice, 400) * np.where(who == "c", 1.0 + 0.5 * strength, 1.0)
    return _rows(times, server_timing=[f"host;desc={name}" for name in who])


def _scaling(dice: Dice, strength: float) -> Summary:
    limits = dice.choice([10, 20, 50], 120)
    times = 10.0 * (1.0 + strength * (limits - 10) / 40.0) * _noise(dice, 120, 0.15)
    return _rows(times, url=[f"http://127.0.0.1:1/x?limit={limit}" for limit in limits])


def _modes(dice: Dice, strength: float) -> Summary:
    slow = dice.random(400) < 0.10 * strength
    kept = [
        {
            "endpoint": "GET /x", "at_ns": 0, "response_ns": int((80.0 if missed else 4.0) * MS),
            "request": {"method": "GET", "url": f"/{number}", "headers": []},
            "answer": {"status": 200, "headers": [["x-cache", "miss" if missed else "hit"]], "body_sha256": "a"},
        }
        for number, missed in enumerate([True, True, True, False, False, False, False])
    ]  # fmt: skip
    return _rows(np.where(slow, 80.0, 4.0) * _noise(dice, 400, 0.25), exchanges=kept)


def _tail(dice: Dice, strength: float) -> Summary:
    slow = dice.random(1000) < 0.005 * strength
    return _rows(np.where(slow, 400.0, 4.0) * _noise(dice, 1000, 0.25))


def _by_size(dice: Dice, strength: float) -> Summary:
    size = dice.uniform(1e4, 5e4, 200)
    times = 10.0 * (1.0 + strength * (size - 1.2e4) / 3.6e4) * _noise(dice, 200, 0.15)
    return _rows(times, bytes_in=size)


def _fresh(dice: Dice, strength: float) -> Summary:
    new = dice.random(400) < min(0.5 * strength, 0.98)
    return _rows(np.full(400, 5.0), reused=(~new).astype(int), connect_ns=np.where(new, MS, -1))


def _phase(name: str) -> Maker:
    def make(dice: Dice, strength: float) -> Summary:
        phase = 20.0 * strength * _noise(dice, 100)
        held = {name: (phase * MS).astype(np.int64), "connect_ns": np.full(100, 2 * MS)}
        return _rows(phase + 8.0, **held)

    return make


def _plain_text(dice: Dice, strength: float) -> Summary:
    packed = round(8_000 * (1.0 - min(0.30 * strength, 0.99)) * (1.0 + 0.02 * dice.standard_normal()))
    seen = {"endpoint": "GET /x", "content_type": "text/plain", "plain_bytes": 8_000, "gzip_bytes": packed}
    return replace(_calm(), run={**_calm().run, "looked": [{**seen, "encoding": ""}]})


def _equal_bodies(dice: Dice, strength: float) -> Summary:
    same = dice.random(12) < min(0.9 * strength, 1.0)
    kept = [
        {
            "endpoint": "GET /x", "at_ns": 0, "response_ns": 3 * MS,
            "request": {"method": "GET", "url": "/x", "headers": []},
            "answer": {"status": 200, "headers": [], "body_sha256": "a" if one or not number else f"{number}"},
        }
        for number, one in enumerate(same.tolist())
    ]  # fmt: skip
    return _rows(np.full(100, 3.0), exchanges=kept)


def _large(dice: Dice, strength: float) -> Summary:
    (only,) = _calm().endpoints
    mean = 512 * 1024 * strength * (1.0 + 0.3 / math.sqrt(only.tally.answered) * dice.standard_normal())
    return replace(
        _calm(), endpoints=(replace(only, tally=replace(only.tally, bytes_in=round(mean * only.tally.answered))),)
    )


def _hops(dice: Dice, strength: float) -> Summary:
    (only,) = _calm().endpoints
    hops = int(dice.binomial(only.tally.sent, min(0.5 * strength, 1.0)))
    return replace(_calm(), endpoints=(replace(only, tally=replace(only.tally, hops=hops)),))


def _cookie(dice: Dice, strength: float) -> Summary:
    kept = [
        {
            "endpoint": "GET /x", "at_ns": 0, "response_ns": 3 * MS,
            "request": {"method": "GET", "url": "/x", "headers": [["cookie", "***"]]},
            "answer": {"status": 200, "headers": []},
        }
    ]  # fmt: skip
    size = 2_048 * strength * _noise(dice, 200, 0.1) + 28
    return _rows(np.full(200, 3.0), bytes_out=size, exchanges=kept)


def _cold(dice: Dice, strength: float) -> Summary:
    server = scripted.until(2 * S, _spread(dice, 60.0 * strength), _spread(dice, 30.0))
    return _run(_plan(50, seed=_seed(dice)), server)


def _recovers(dice: Dice, strength: float) -> Summary:
    back = scripted.until(round((20 + 10 * strength) * S), _spread(dice, 60.0), _spread(dice))
    return _run(_plan(50, 150, 50, each="10s", seed=_seed(dice)), scripted.until(10 * S, _spread(dice), back))


def _clean(dice: Dice, strength: float) -> Summary:
    return _run(_plan(100, seed=_seed(dice)), _failing(dice, strength / 2000.0))


def _lagging(dice: Dice, strength: float) -> Summary:
    lag = round(2.0 * strength * MS)
    late = scripted.Generator(lag_ns=lambda due: lag)
    return _run(_plan(50, seed=_seed(dice)), _spread(dice, 18.0), late)


def _raised(dice: Dice, strength: float) -> Summary:
    count = int(dice.poisson(3.0 * strength))
    return replace(_calm(), exceptions=(Raised("KeyError", count),) if count else ())


def _blocked(dice: Dice, strength: float) -> Summary:
    lag = 20.0 * strength * MS * float(_noise(dice, 1, 0.1)[0])
    health = replace(_calm().health, lag_p99_ns=lag, cpu_ratio_max=0.4)
    return replace(_calm(), health=health, response_is_service=True, run={**_calm().run, "engine": "locust"})


def _wall(dice: Dice, strength: float) -> Summary:
    (only,) = _calm().endpoints
    refused = int(dice.binomial(only.tally.judged, min(0.9 * strength, 1.0)))
    group = ErrorGroup("GET /x", Outcome.FAILURE, "status", 401, refused, 0, S, MS, {0: refused})
    return replace(_calm(), errors=(group,))


def _same(dice: Dice, strength: float) -> Summary:
    distinct = len(set(dice.integers(0, max(round(5 / strength), 1), 300).tolist()))
    return _marked(Marks(same_data=(SameData("GET /x/{id}", 300, distinct, "address"),)))


def _hosts(dice: Dice, strength: float) -> Summary:
    other = dice.random(1000) < 0.01 * strength
    return _rows(np.full(1000, 3.0), url=["http://cdn.test/y" if one else "http://127.0.0.1:1/x" for one in other])


def _names(dice: Dice, strength: float) -> Summary:
    (only,) = _calm().endpoints
    count = len(set(dice.integers(0, 10**6, round(20 * strength)).tolist()))
    return replace(_calm(), endpoints=tuple(replace(only, name=f"/books/{number}") for number in range(count)))


def _reference(dice: Dice, strength: float) -> Summary:
    entries = json.loads((resources.files("surgeline") / "reference_times.json").read_text("utf-8"))["entries"]
    entry = next(e for e in entries if "GET" in e["methods"])
    limit = float(entry["acceptable_ms"])
    # The p95 of a lognormal with sigma 0.3 is 1.638 times its median.
    found = {**entry, "path": ".*"}
    server = _spread(dice, limit * strength / math.exp(0.3 * 1.6449))
    return _run(_plan(20, seed=_seed(dice)), server, reference_times=[found])


def _few(dice: Dice, strength: float) -> Summary:
    return _run(_plan(72 / 20 / strength, seed=_seed(dice)), _spread(dice))


def _short(dice: Dice, strength: float) -> Summary:
    length = 20.0 / strength + 0.05 * float(dice.standard_normal())
    return replace(_calm(), duration_s=length)


CASES: tuple[Case, ...] = (
    Case("slo.missed", "5 % of 2,000 requests over the limit of `p95 < 100ms`", _over),
    Case("slo.met", "the same", _over, ("well",)),
    Case("errors.onset", "0.1 % go wrong at 200/s (4,000 requests), none of 3,000 below", _onset, slow=True),
    Case("errors.constant", "0.1 % of 6,000 go wrong", _constant, slow=True),
    Case("errors.rate_limited", "1 % of 2,000 answered with 429", _limited),
    Case("timeouts.cluster", "80 % of 40 failures after 1 s, the others anywhere", _cluster),
    Case("errors.fast_fail", "failures (10 % of 1,000) in half of the time", _fast_fail),
    Case("conn.dropped", "0.1 % of 7,000 connections reset", _dropped),
    Case("conn.syn_retries", "1 % of 1,000 connections after a second", _late),
    Case("saturation.plateau", "a capacity 7 % below the 200/s that become due", _plateau, ("failed",), True),
    Case("saturation.retrograde", "10 % less at the highest of three loads", _retrograde),
    Case("stall.periodic", "80 ms every 2 s, twice what slow means, for 30 s at 200/s", _periodic, ("failed",), True),
    Case("stall.global", "nothing for 200 ms at 50/s", _gap),
    Case("latency.rising", "1.5 times as long at 4 times the load", _rising, slow=True),
    Case("latency.flat", "25 % longer at 5 times the load", _flat, ("well",), True),
    Case("latency.drift", "15 % more in 150 s at 40/s", _drift, ("failed",), True),
    Case("memory.leak", "10 % of 200 MB more in three minutes", _leak, ("failed",)),
    Case("steady.none", "3 % more in the second half of 60 s at 100/s", _step, slow=True),
    Case("endpoint.outlier", "4 times the usual of five endpoints, 200 requests each", _outlier),
    Case("endpoint.dominates", "half of all time in one of five endpoints (twice: 90 %)", _dominates),
    Case("http.server_timing", "half of the time (twice: all), 200 answers", _own_time),
    Case("fairness.instances", "one of three instances takes 1.5 times as long, 400 requests", _instance),
    Case("scaling.linear_param", "twice the time from limit 10 to 50, 120 requests", _scaling),
    Case("latency.bimodal", "10 % slow, 20 times as long, told apart by a header, 400 requests", _modes),
    Case("latency.heavy_tail", "0.5 % of 1,000 take 100 times as long", _tail),
    Case("payload.size_latency", "twice the time from 12 to 48 kB, 200 answers", _by_size),
    Case("conn.keepalive_off", "half of 400 requests on new connections", _fresh),
    Case("conn.tls_slow", "a median of 20 ms", _phase("tls_ns")),
    Case("conn.dns_slow", "a median of 20 ms", _phase("dns_ns")),
    Case("http.no_compression", "gzip saves 30 % ± 1 %", _plain_text),
    Case("cache.missing_validators", "90 % of 11 pairs equal (twice: all)", _equal_bodies),
    Case("http.large_payload", "512 kB on average", _large),
    Case("http.redirects", "every second of 1,000 requests redirected", _hops),
    Case("http.cookies_large", "2 kB of cookies in each of 200 requests", _cookie),
    Case("warmup.cold_start", "twice the median in the first 2 s of 20", _cold),
    Case("recovery.time", "10 s slow after the peak (half: 5 s; twice: not at all in 10 s)", _recovers, ("failed",)),
    Case("errors.none", "one of 2,000 goes wrong on average", _clean, ("well",)),
    Case("generator.saturated", "2 ms late with a p50 of 20 ms", _lagging),
    Case("script.user_code", "3 exceptions on average", _raised),
    Case("script.hub_delay", "the loop 20 ms late, a p99 of 40 ms", _blocked),
    Case("script.auth_wall", "90 % of 1,000 answered with 401 (twice: all)", _wall),
    Case("script.same_data", "5 addresses (half: 10; twice: 2)", _same),
    Case("script.third_party", "1 % of 1,000 to another host", _hosts),
    Case("urls.cardinality", "20 names of one template", _names),
    Case("reference.slow", "p95 is what is acceptable for the kind", _reference),
    Case("samples.too_few", "72 requests (half: 144; twice: 36)", _few),
    Case("duration.too_short", "20 s (half: 40 s; twice: 10 s)", _short),
)


def speaks(case: Case, summary: Summary) -> bool:
    """Whether the rule says what is counted, as a statement or as a question."""
    rule = next(rule for rule in RULES if rule.id == case.rule)
    return any(finding.kind in case.kinds for finding in rule.judge(summary))


def rates(case: Case, seeds: int) -> Mapping[float, float]:
    """How often the rule speaks at each strength."""
    number = [case.rule for case in CASES].index(case.rule)
    return {
        strength: sum(
            speaks(case, case.make(np.random.default_rng([number, round(100 * strength), seed]), strength))
            for seed in range(seeds)
        )
        / seeds
        for strength in STRENGTHS
    }


def page(seeds: int, few: int) -> str:
    """The page."""
    lines = [
        "# Error rates: findings",
        "",
        "Made by `python -m scripts.campaigns.findings`; seeds are fixed, so it comes out the same. Each rule is asked",
        "about runs in which its effect has just the strength of its threshold, half of it and twice it:",
        f"{seeds} runs each, {few} where the last column says so. What is set is the true strength; what a run shows",
        "of it scatters. At the threshold a rule that only compared numbers would speak half of the time; a rule that",
        "wants to be sure speaks less often there, and one that praises (*well*) does so below it.",
        "",
        "| rule | strength 1 is | counted | half | at it | twice | runs |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for case in CASES:
        count = few if case.slow else seeds
        found = rates(case, count)
        shown = " | ".join(f"{100 * found[strength]:.0f} %" for strength in STRENGTHS)
        counted = "well" if case.kinds == ("well",) else "failed" if case.kinds == ("failed",) else "failed or explore"
        lines.append(f"| [{case.rule}](../findings/{case.rule}.md) | {case.means} | {counted} | {shown} | {count} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few seeds, printed")
    short = parser.parse_args(arguments).short
    text = page(4, 1) if short else page(SEEDS, FEW_SEEDS)
    if short:
        print(text)
    else:
        PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
