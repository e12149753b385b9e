"""Objectives are decided by counting, and what went wrong never helps."""

import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, summary_of
from surgeline.analysis.model import ObjectiveResult, Summary
from surgeline.engines import scripted


def _results(summary: Summary) -> dict[str, ObjectiveResult]:
    return {result.objective.text: result for result in summary.objectives}


def test_met_missed_and_no_data():
    """Of one run: a limit far above is met, one far below is missed, p99.9 of a few hundred is no data."""
    plan = open_plan((50,), "10s", slo=["p95 < 300ms", "p95 < 2ms", "p99.9 < 300ms"])
    results = _results(summary_of(plan, fast()))
    assert results["p95 < 300ms"].verdict == "met"
    assert results["p95 < 2ms"].verdict == "missed"
    assert results["p99.9 < 300ms"].verdict == "no data"
    assert "p99.9 needs" in results["p99.9 < 300ms"].reason


def test_failing_fast_does_not_meet_a_time_limit():
    """Two in ten answers come at once and are wrong: p95 < 300 ms is missed although every right answer takes 3 ms."""
    server = scripted.by_endpoint({}, scripted.failing_share(fast(), 0.2))
    result = _results(summary_of(open_plan((100,), "10s", slo=["p95 < 300ms"]), server))["p95 < 300ms"]
    assert result.verdict == "missed"
    assert result.observed.value is None


def test_timeouts_count_as_slow():
    """A server that never answers one request in ten misses p95, and no percentile is shown for it."""
    server = scripted.failing_share(fast(), 0.1, error="header_timeout")
    result = _results(summary_of(open_plan((100,), "10s", slo=["p95 < 300ms", "max < 60s"]), server))
    assert result["p95 < 300ms"].verdict == "missed"
    assert result["max < 60s"].verdict == "missed"


def test_too_close_to_call_is_no_data():
    """5.4 % over the limit of 1,000 requests, with 5 % allowed, is neither met nor missed."""
    server = scripted.failing_share(scripted.constant(5 * MS), 0.054, seed=11)
    result = _results(summary_of(open_plan((100,), "10s", arrivals="uniform", slo=["errors < 5%"]), server))
    share = result["errors < 5%"].observed.value
    assert share is not None
    assert 0.05 < share < 0.06
    assert result["errors < 5%"].verdict == "no data"
    assert "too close" in result["errors < 5%"].reason


def test_holds_is_the_highest_load_without_a_miss():
    """A pool of 200/s under 50 … 250/s with p95 < 300 ms: met up to 150/s or 200/s, missed at 250/s."""
    plan = open_plan((50, 100, 150, 200, 250), "20s", slo=["p95 < 300ms"])
    summary = summary_of(plan, scripted.pool(4, 20 * MS))
    result = summary.objectives[0]
    assert summary.holds in (2, 3)
    assert result.by_stage[0] == "met"
    assert result.by_stage[4] == "missed"
    assert result.first_missed_stage in (3, 4)


def test_a_stage_the_generator_limited_has_no_say():
    """Its misses are the generator's: they count neither for the run nor for what holds."""
    plan = open_plan((50, 100), "20s", slo=["p95 < 50ms"])
    late = scripted.Generator(lag_ns=lambda due: 200 * MS if due > 20 * S else 0)
    summary = summary_of(plan, fast(), late)
    assert summary.stages[1].validity == "invalid"
    assert summary.objectives[0].verdict == "met"
    assert summary.holds == 0
    assert 1 not in summary.objectives[0].by_stage


def test_an_endpoint_is_judged_by_its_own_requests():
    """A slow endpoint misses its objective; a fast one beside it meets the same limit; an unknown one has no data."""
    plan = closed_plan(
        [{"users": 10, "for": "20s"}],
        paths=("/fast", "/slow"),
        slo=["GET /fast: p95 < 50ms", "GET /slow: p95 < 50ms", "GET /other: p95 < 50ms"],
    )
    server = scripted.by_endpoint({"GET /slow": scripted.constant(80 * MS)}, fast())
    verdicts = {result.objective.endpoint: result.verdict for result in summary_of(plan, server).objectives}
    assert verdicts == {"GET /fast": "met", "GET /slow": "missed", "GET /other": "no data"}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("apdex(20ms) > 0.9", "met"),
        ("apdex(1ms) > 0.9", "missed"),
        ("rate > 80/s", "met"),
        ("rate > 500/s", "no data"),
        ("mean < 20ms", "met"),
        ("mean < 1ms", "missed"),
        ("max < 1ms", "missed"),
        ("errors < 1%", "met"),
        ("seconds(p95 < 20ms) > 80%", "met"),
        ("seconds(p95 < 1ms) > 80%", "missed"),
        ("seconds(errors < 1%) > 99%", "no data"),
    ],
)
def test_every_metric_is_judged(text: str, verdict: str):
    """At 100/s with 3 ms answers; a rate above what was due is not known to be missed."""
    assert summary_of(open_plan((100,), "20s", slo=[text]), fast()).objectives[0].verdict == verdict


def test_a_rate_is_missed_clearly_or_not_at_all():
    """Twenty seconds of 100/s scatter: a limit within their interval is too close to call, one beyond it is missed."""
    texts = ["GET /x: rate > 103/s", "GET /x: rate > 150/s", "GET /x: rate > 60/s"]
    close, missed, met = summary_of(open_plan((100,), "20s", slo=texts, seed=3), fast()).objectives
    assert close.observed.low < close.observed.value < 103 < close.observed.high
    assert (close.verdict, missed.verdict, met.verdict) == ("no data", "missed", "met")
    assert "too close to tell" in close.reason


def test_good_seconds_are_counted_one_by_one():
    """A server that freezes for one second in five: four of five are good, whatever the percentile of all requests."""
    texts = ["seconds(p95 < 50ms) > 90%", "seconds(p95 < 50ms) > 60%", "p50 < 50ms"]
    plan = open_plan((100,), "40s", slo=texts, arrivals="uniform")
    strict, lenient, median = summary_of(plan, scripted.freezing(fast(), 5 * S, 1 * S)).objectives
    assert (strict.verdict, lenient.verdict, median.verdict) == ("missed", "met", "met")
    assert strict.observed.value == pytest.approx(0.8, abs=0.06)
    assert strict.judged in (40, 41)
    assert strict.exceeded == round(strict.judged * (1 - strict.observed.value))
    assert strict.observed.low < strict.observed.value < strict.observed.high
    assert "seconds did not keep p95 < 50 ms" in strict.reason


def test_a_false_miss_is_rare():
    """A server exactly at its objective is called a miss in about one run of twenty at most."""
    missed = 0
    for seed in range(60):
        server = scripted.failing_share(scripted.constant(2 * MS), 0.05, seed=seed)
        plan = open_plan((60,), "15s", seed=seed, slo=["errors < 5%"])
        missed += summary_of(plan, server, rows=False).objectives[0].verdict == "missed"
    assert missed <= 7
