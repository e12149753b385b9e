"""Findings that single requests, exchanges and the look beforehand support: each speaks up, each can be quiet."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import pytest

from scripted_runs import MS, S, fast, findings_of, open_plan, run_json, said, summary_from
from surgeline.analysis import traits
from surgeline.analysis.model import ServerHealth, Summary
from surgeline.analysis.traits import EndpointTraits, Gap, Traits
from surgeline.engines import scripted
from surgeline.findings import judge
from surgeline.findings.model import Finding
from surgeline.samples import Outcome

DICE = np.random.default_rng


def rows(service_ms: Sequence[float], urls: Sequence[str] | None = None, **columns: Any) -> dict[str, Any]:
    """A batch of correct answers of one endpoint, 20 ms apart; `columns` replace what is plain."""
    count = len(service_ms)
    start = np.arange(count) * 20 * MS
    plain = {
        "endpoint": ["GET /x"] * count,
        "url": list(urls) if urls is not None else ["http://127.0.0.1:1/x"] * count,
        "stage": np.zeros(count, int),
        "start_ns": start,
        "end_ns": start + (np.array(service_ms) * MS).astype(np.int64),
        "dns_ns": np.full(count, -1),
        "connect_ns": np.full(count, -1),
        "tls_ns": np.full(count, -1),
        "bytes_in": np.full(count, 1000),
        "reused": np.ones(count, int),
        "outcome": np.full(count, int(Outcome.OK)),
    }
    return {**plain, **columns}


def exchange(ms: float, body: str = "a", url: str = "/x", status: int = 200, asked: Any = (), **headers: str) -> Any:
    """A kept exchange of GET /x."""
    return {
        "endpoint": "GET /x", "why": "random", "at_ns": 0, "response_ns": int(ms * MS), "error": None,
        "request": {"method": "GET", "url": url, "headers": list(asked)},
        "answer": {
            "status": status, "body_sha256": body,
            "headers": [[name.replace("_", "-"), value] for name, value in headers.items()],
        },
    }  # fmt: skip


def seen(batch: dict[str, Any], exchanges: Sequence[Any] = ()) -> EndpointTraits:
    """The traits of the one endpoint."""
    (found,) = traits.look([batch], exchanges, {0: 1.0}).endpoints
    return found


@pytest.fixture(scope="module")
def summary() -> Summary:
    """A calm run of 1,000 requests."""
    plan = open_plan((50,), "20s")
    return summary_from(scripted.play(plan, fast()), run_json(plan))


def findings(summary: Summary, *endpoints: EndpointTraits, gaps: Sequence[Gap] = (), **changes: Any) -> list[Finding]:
    """What is said of a run with those traits."""
    held = Traits(tuple(endpoints), tuple(gaps), summary.total.tally.due)
    return judge(replace(summary, traits=held, **changes))


# --- two speeds ------------------------------------------------------------------------------------------------------


def test_two_speeds_are_told_apart_by_the_header_that_separates_them(summary: Summary):
    """A cache that misses a third of the time: both speeds, their shares, and x-cache as what tells them apart."""
    dice = DICE(1)
    slow = dice.random(300) < 0.33
    times = np.where(slow, 90.0, 3.0) * np.exp(0.2 * dice.standard_normal(300))
    kept = [exchange(3, x_cache="hit", date=f"{i}") for i in range(3)] + [exchange(92, x_cache="miss", date="9")] * 3
    found = said(findings(summary, seen(rows(times), kept)), "latency.bimodal", "explore")
    assert len(found) == 1
    assert "x-cache (hit fast, miss slow" in found[0].sentence
    assert "date" not in found[0].sentence
    assert found[0].confidence == "medium"


def test_two_speeds_without_an_explanation_are_a_question(summary: Summary):
    """The same without exchanges: said as a question, with low confidence."""
    dice = DICE(2)
    times = np.where(dice.random(300) < 0.4, 80.0, 3.0) * np.exp(0.2 * dice.standard_normal(300))
    found = said(findings(summary, seen(rows(times))), "latency.bimodal")
    assert [one.confidence for one in found] == ["low"]


@pytest.mark.parametrize("shape", ["lognormal", "exponential", "gamma", "uniform", "heavy tail", "rare stall", "ticks"])
def test_one_speed_is_not_called_two(shape: str):
    """Skewed, heavy-tailed, quantised and rarely stalled times are one speed: at most one in fifty is called two."""
    wrong = 0
    for seed in range(50):
        dice = DICE(seed)
        times = {
            "lognormal": 20 * np.exp(0.8 * dice.standard_normal(400)),
            "exponential": dice.exponential(30, 400) + 1,
            "gamma": dice.gamma(3, 10, 400),
            "uniform": dice.uniform(5, 60, 400),
            "heavy tail": 10 * (1 + dice.pareto(1.8, 400)),
            "rare stall": np.where(dice.random(400) < 0.05, 250.0, 5.0) * np.exp(0.2 * dice.standard_normal(400)),
            "ticks": np.round(20 * np.exp(0.3 * dice.standard_normal(400)), 0) + 1,
        }[shape]
        wrong += seen(rows(times)).modes is not None
    assert wrong <= 1


@pytest.mark.parametrize(("share", "apart", "least"), [(0.3, 20.0, 0.98), (0.15, 8.0, 0.9), (0.5, 5.0, 0.9)])
def test_borderline_modes_are_found_as_often_as_stated(share: float, apart: float, least: float):
    """200 requests, lognormal with sigma 0.25 around each mode: how often two are found, by share and distance."""
    hits = 0
    for seed in range(40):
        dice = DICE(1000 + seed)
        times = np.where(dice.random(200) < share, 5.0 * apart, 5.0) * np.exp(0.25 * dice.standard_normal(200))
        hits += seen(rows(times)).modes is not None
    assert hits >= least * 40


# --- dearer with more ------------------------------------------------------------------------------------------------


def _asked(dice: Any, count: int, each_ms: float, base_ms: float = 4.0) -> tuple[Any, list[str]]:
    limits = dice.choice([10, 20, 50], count)
    times = (base_ms + each_ms * limits) * np.exp(0.1 * dice.standard_normal(count))
    return times, [f"http://127.0.0.1:1/x?sort=new&limit={limit}" for limit in limits]


def test_a_query_for_each_item_is_seen_in_the_parameter(summary: Summary):
    """1.5 ms more for each of 10, 20 or 50 items: the parameter, the cost of one more, and its interval."""
    times, urls = _asked(DICE(3), 90, 1.5)
    one = seen(rows(times, urls))
    assert one.scaling is not None
    assert one.scaling.parameter == "limit"
    assert one.scaling.unit_low_ns <= 1.5 * MS <= one.scaling.unit_high_ns
    assert one.modes is None
    (found,) = said(findings(summary, one), "scaling.linear_param", "explore")
    assert "limit=10 to 50" in found.sentence


def test_a_parameter_that_costs_little_is_left_alone():
    """A tenth of a millisecond for each item on top of 15 ms: never said."""
    for seed in range(20):
        times, urls = _asked(DICE(seed), 90, 0.05, 15.0)
        assert seen(rows(times, urls)).scaling is None


def test_ids_are_no_parameter_to_scale_with():
    """Random ids between 1 and 1,000 beside random times show no line."""
    for seed in range(20):
        dice = DICE(seed)
        urls = [f"http://127.0.0.1:1/x?id={n}" for n in dice.integers(1, 12, 200)]
        assert seen(rows(20 * np.exp(0.6 * dice.standard_normal(200)), urls)).scaling is None


def test_time_that_goes_with_bytes_is_said_with_its_speed(summary: Summary):
    """From 10 kB to 1 MB at 5 MB a second: the sizes, the times, the speed; equal sizes say nothing."""
    dice = DICE(4)
    size = dice.uniform(1e4, 1e6, 200)
    one = seen(rows(5 + size / 5e3, bytes_in=size))
    assert said(findings(summary, one), "payload.size_latency", "explore")
    assert seen(rows(5 + dice.exponential(20, 200), bytes_in=size)).size is None
    assert seen(rows(5 + size / 5e3)).size is None


# --- connections, validators, compression ----------------------------------------------------------------------------


def test_connections_that_are_never_kept_are_said(summary: Summary):
    """Every request opens one and spends a third of its time on it; kept connections are left alone."""
    new = rows([6.0] * 100, reused=np.zeros(100, int), connect_ns=np.full(100, 2 * MS))
    (found,) = said(findings(summary, seen(new)), "conn.keepalive_off", "failed")
    assert "100 %" in found.sentence and "33 %" in found.sentence
    few = rows([6.0] * 100, reused=np.array([0] * 30 + [1] * 70), connect_ns=np.full(100, 2 * MS))
    assert said(findings(summary, seen(few)), "conn.keepalive_off") == []
    assert said(findings(summary, seen(rows([6.0] * 100, reused=np.full(100, 2)))), "conn.keepalive_off") == []


@pytest.mark.parametrize(
    ("more", "blamed"),
    [
        ({"connection": {"keep_alive": False}}, 0),
        ({"connection": {"keep_alive": 1}}, 0),
        ({"connection": {"share": "user"}}, 0),
        ({"headers": {"Connection": "Close"}}, 0),
        ({"scenarios": {"a": {"steps": [{"get": "/x"}], "once": [{"events": "/e"}]}}}, 0),
        ({"connection": {"keep_alive": 100, "share": "pool"}}, 1),
    ],
)
def test_the_server_is_not_blamed_for_connections_that_the_plan_gives_up(
    summary: Summary, more: dict[str, Any], blamed: int
):
    """Nothing is said of keep-alive where the plan asks for a connection for each request, or for each arrival."""
    whole = replace(summary, run={**summary.run, "subject": {"plan": open_plan((50,), "20s", **more).dump()}})
    new = rows([6.0] * 100, reused=np.zeros(100, int), connect_ns=np.full(100, 2 * MS))
    assert len(said(findings(whole, seen(new)), "conn.keepalive_off")) == blamed


def test_equal_answers_without_validators_are_said(summary: Summary):
    """Five equal bodies of one address, no ETag, no Cache-Control: said; with one, private or different: not."""
    plain = [exchange(3) for _ in range(5)]
    batch = rows([3.0] * 60)
    assert said(findings(summary, seen(batch, plain)), "cache.missing_validators", "explore")
    for kept in (
        [exchange(3, etag='"1"')] * 5,
        [exchange(3, cache_control="no-store")] * 5,
        [exchange(3, set_cookie="a=1")] * 5,
        [exchange(3, asked=[["Authorization", "…"]])] * 5,
        [exchange(3, body=str(i)) for i in range(5)],
        [exchange(3)] * 3,
        [exchange(3, url=f"/{i}") for i in range(5)],
    ):
        assert said(findings(summary, seen(batch, kept)), "cache.missing_validators") == []
    assert (
        said(findings(summary, seen(rows([3.0] * 60, bytes_in=np.full(60, 90)), plain)), "cache.missing_validators")
        == []
    )


def _looked(summary: Summary, encoding: str, packed: int = 900, plain: int = 8000) -> list[Finding]:
    text = {
        "endpoint": "GET /x", "content_type": "application/json", "plain_bytes": plain, "gzip_bytes": packed,
        "encoding": encoding,
    }  # fmt: skip
    return judge(replace(summary, run={**summary.run, "looked": [text]}))


def test_text_that_is_not_compressed_is_said(summary: Summary):
    """8 kB of JSON that gzip makes 900 B of, sent as it is to one who accepts gzip; compressed, it is praised."""
    (found,) = said(_looked(summary, ""), "http.no_compression", "explore")
    assert "8 kB" in found.sentence and "900 B" in found.sentence
    assert said(_looked(summary, "gzip"), "http.no_compression", "explore") == []
    assert said(_looked(summary, "gzip"), "http.no_compression", "well")
    assert said(_looked(summary, "", packed=7900), "http.no_compression", "explore") == []
    assert said(judge(summary), "http.no_compression") == []


# --- stalls, cold starts, drift --------------------------------------------------------------------------------------


def test_a_moment_without_any_answer_is_said():
    """A freeze of half a second under 50/s, once: twenty-odd wait, nothing is answered; a calm server has no gap."""
    plan = open_plan((50,), "20s")
    frozen = scripted.until(10 * S, fast(), scripted.freezing(fast(), 100 * S, S // 2, 10 * S))
    for server, expected in ((frozen, 1), (fast(), 0)):
        recording = scripted.play(plan, server)
        batches = [dict(table.columns) for table in recording.tables(scripted.Frame.ROWS)]
        found = traits.look(batches, (), {0: 50.0})
        summary = replace(summary_from(recording, run_json(plan)), traits=found)
        assert len(said(judge(summary), "stall.global", "explore")) == expected


def test_what_hangs_until_it_times_out_is_no_standstill():
    """Of 15 a second six in ten are never answered: chance leaves gaps of 200 ms, in which only those wait."""
    gaps = 0
    for seed in range(10):
        dice = DICE(seed)
        start = (np.sort(dice.uniform(0, 60, 900)) * S).astype(np.int64)
        hangs = dice.random(900) < 0.6
        batch = rows(
            np.where(hangs, 1000.0, 2.0),
            start_ns=start,
            end_ns=start + np.where(hangs, S, 2 * MS),
            outcome=np.where(hangs, int(Outcome.TIMEOUT), int(Outcome.OK)),
        )
        gaps += len(traits.look([batch], (), {0: 15.0}).gaps)
    assert gaps == 0


def test_where_nothing_ever_came_no_moment_stood_still():
    """Every connection times out: gaps between the timeouts are no stalls, and the advice is about connections."""
    plan = open_plan((50,), "20s", timeout="2s")
    recording = scripted.play(plan, lambda *_: scripted.Answer(S // 2, 0, "connect_timeout"))
    batches = [dict(table.columns) for table in recording.tables(scripted.Frame.ROWS)]
    held = traits.look(batches, (), {0: 50.0}).gaps or (Gap(10 * S, 11 * S, 50),)
    summary = summary_from(recording, run_json(plan))
    findings = judge(replace(summary, traits=replace(summary.traits, gaps=held, rows=summary.total.tally.due)))
    assert said(findings, "stall.global") == []
    (found,) = said(findings, "errors.constant")
    assert "accept queue" in found.next_step and "login" not in found.next_step


def test_a_cold_start_is_told_from_a_slow_server():
    """Half a second in the first three seconds and 3 ms afterwards: said. The same all along: not."""
    plan = open_plan((50,), "30s")
    cold = scripted.until(3 * S, scripted.lognormal(500 * MS), fast())
    (found,) = said(findings_of(plan, cold), "warmup.cold_start", "explore")
    assert "3 s" in found.sentence
    for seed in range(10):
        noisy = scripted.lognormal(30 * MS, 0.8, seed + 1)
        assert said(findings_of(open_plan((50,), "20s", seed=seed), noisy), "warmup.cold_start") == []


def test_times_that_creep_are_told_from_steady_ones():
    """A millisecond more every five seconds on 20 ms, over three minutes: said with both ends; steady: praised."""
    plan = open_plan((40,), "180s")
    base = scripted.lognormal(20 * MS)
    (found,) = said(findings_of(plan, scripted.ramping(base, MS // 5)), "latency.drift", "failed")
    assert "40/s" in found.sentence
    assert said(findings_of(plan, scripted.lognormal(20 * MS)), "latency.drift", "well")
    assert said(findings_of(open_plan((40,), "60s"), scripted.ramping(base, MS)), "latency.drift") == []


def test_creeping_times_have_the_memory_beside_them():
    """Where the served process was seen to grow meanwhile, the sentence says so."""
    plan = open_plan((40,), "180s")
    recording = scripted.play(plan, scripted.ramping(scripted.lognormal(20 * MS), MS // 5))
    server = ServerHealth("", 1, 2, 0.5, 0.6, 1.0, 50e6, 90e6, 90e6, 8.0, 30.0)
    summary = replace(summary_from(recording, run_json(plan)), server=server)
    (found,) = said(judge(summary), "latency.drift", "failed")
    assert "50 MB to 90 MB" in found.sentence


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_rate_limiter_is_named_by_its_status():
    """What is turned away with 429 is a limiter; with 503 it may be anything."""
    plan = open_plan((50, 100, 200), "10s")
    (found,) = said(findings_of(plan, scripted.failing_share(fast(), 0.1, 429)), "errors.rate_limited", "failed")
    assert "429" in found.sentence and "50/s" in found.sentence
    assert said(findings_of(plan, scripted.failing_share(fast(), 0.1, 503)), "errors.rate_limited") == []
    assert said(findings_of(plan, scripted.failing_share(fast(), 0.001, 429)), "errors.rate_limited") == []


def test_throughput_that_falls_under_load_is_said():
    """A pool whose work doubles once thirty wait: more load brings less. A plain pool keeps its throughput."""
    plan = open_plan((60, 120, 240), "20s", timeout="60s")

    def thrashing() -> scripted.Server:
        free = [0, 0]

        def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
            place = free.index(min(free))
            free[place] = max(free[place], sent_ns) + (10 * MS if in_flight < 30 else 28 * MS)
            return scripted.Answer(free[place] - sent_ns)

        return serve

    assert said(findings_of(plan, thrashing()), "saturation.retrograde", "failed")
    for seed in range(3):
        pool = scripted.pool(2, 12 * MS, seed + 1)
        assert said(findings_of(open_plan((60, 120, 240), "20s", seed=seed), pool), "saturation.retrograde") == []


def test_redirects_and_large_answers_are_counted(summary: Summary):
    """One redirect per request, and a megabyte per answer, are said; a redirect now and then and small ones are not."""
    (only,) = summary.endpoints
    tally = only.tally
    for hops, size, expected in ((tally.sent, 1_000_000, 1), (tally.sent // 10, 1_000, 0)):
        changed = replace(only, tally=replace(tally, hops=hops, bytes_in=size * tally.answered))
        told = judge(replace(summary, endpoints=(changed,)))
        assert len(said(told, "http.redirects", "explore")) == expected
        assert len(said(told, "http.large_payload", "explore")) == expected


def test_a_calm_run_is_accused_of_nothing_by_its_traits():
    """Thirty calm runs of six endpoints through rows and traits: no statement at all from these rules."""
    rules = ("latency.bimodal", "scaling.linear_param", "payload.size_latency", "conn.keepalive_off", "stall.global")
    accused = 0
    for seed in range(30):
        dice = DICE(seed)
        times = dice.uniform(2, 40) * np.exp(dice.uniform(0.1, 0.6) * dice.standard_normal(300))
        one = seen(rows(times, [f"http://127.0.0.1:1/x?page={n}" for n in dice.integers(1, 6, 300)]))
        plan = open_plan((20,), "10s", seed=seed)
        base = summary_from(scripted.play(plan, fast(seed + 1)), run_json(plan))
        accused += any(said(findings(base, one), rule) for rule in rules)
    assert accused <= 1


def test_nothing_is_said_without_rows():
    """No row, no exchange: no traits, and no finding that rests on them."""
    assert traits.look([], [], {}) == Traits()
    assert math.isfinite(seen(rows([1.0])).mean_bytes)


def test_reference_times_speak_only_where_nobody_has_set_an_objective():
    """900 ms for a search is slow by convention, with source and year; an objective of the user's own silences that."""
    entries = json.loads((resources.files("surgeline") / "reference_times.json").read_text("utf-8"))["entries"]
    assert all(entry["source"] and entry["year"] and entry["good_ms"] < entry["acceptable_ms"] for entry in entries)
    for slo, path, median, expected in (
        ((), "/search", 1500, 1),
        (("p95 < 3s",), "/search", 1500, 0),
        ((), "/search", 100, 0),
        ((), "/health", 300, 1),
    ):
        plan = open_plan((20,), "15s", path, slo=list(slo))
        recording = scripted.play(plan, scripted.lognormal(median * MS))
        found = judge(summary_from(recording, run_json(plan, reference_times=entries)))
        assert len(said(found, "reference.slow", "explore")) == expected
    assert (
        said(judge(summary_from(recording, run_json(plan, reference_times=["?", {"path": "("}]))), "reference.slow")
        == []
    )
