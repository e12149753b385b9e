"""A summary's numbers are those that a list of all requests would give."""

import math
from collections import Counter
from typing import Any

import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, run_json, summary_from, summary_of
from surgeline.analysis.live import Live, abort_reason
from surgeline.analysis.model import QUANTILES
from surgeline.analysis.summary import summarise
from surgeline.engines import Settings, scripted
from surgeline.samples import Frame, Measurement, Outcome


def _mixed() -> scripted.Server:
    """Queues, and one request in twenty broken."""
    return scripted.failing_share(scripted.pool(4, 8 * MS, seed=3), 0.05, error="connect_reset")


def _nearest_rank(values: list[int], q: float) -> int:
    return sorted(values)[max(math.ceil(q * len(values) - 1e-9), 1) - 1]


def _ok(rows: list[dict[str, Any]]) -> list[int]:
    return [row["end_ns"] - row["intended_ns"] for row in rows if row["outcome"] == Outcome.OK]


def test_percentiles_are_those_of_the_sorted_list():
    """Of the whole run, of each stage and of each endpoint, to the histogram's one in a thousand."""
    plan = closed_plan([{"users": 4, "for": "6s"}, {"users": 40, "for": "6s"}], paths=("/a", "/b"), think_time="5ms")
    recording = scripted.play(plan, _mixed())
    summary = summary_from(recording, run_json(plan))
    rows = recording.rows()
    for stage in summary.stages:
        for figures in (stage.total, *stage.endpoints):
            mine = [
                row
                for row in rows
                if row["stage"] == stage.index and figures.name in (row["endpoint"], "all endpoints")
            ]
            for q in QUANTILES:
                estimate = figures.response.quantiles[q]
                if estimate.value is not None:
                    assert estimate.value == pytest.approx(_nearest_rank(_ok(mine), q), rel=1 / 1024)
            assert figures.tally.ok == len(_ok(mine))
            assert figures.response.mean_ns == pytest.approx(sum(_ok(mine)) / len(_ok(mine)))
            assert (figures.response.min_ns, figures.response.max_ns) == (min(_ok(mine)), max(_ok(mine)))


def test_every_request_is_counted_once():
    """Outcomes of the summary, of its stages, endpoints, seconds and error groups are those of the rows."""
    plan = closed_plan([{"users": 4, "for": "5s"}, {"users": 30, "for": "5s"}], paths=("/a", "/b"), think_time="5ms")
    recording = scripted.play(plan, _mixed())
    summary = summary_from(recording, run_json(plan))
    truth = Counter(Outcome(row["outcome"]) for row in recording.rows())
    assert summary.books == ()
    for tallies in (
        [summary.total.tally],
        [stage.total.tally for stage in summary.stages],
        [figures.tally for figures in summary.endpoints],
        [figures.tally for stage in summary.stages for figures in stage.endpoints],
    ):
        for outcome in Outcome:
            assert sum(getattr(tally, outcome.name.lower()) for tally in tallies) == truth[outcome]
    by_second = Counter[Outcome]()
    for second in summary.seconds:
        by_second.update(second.outcomes)
    assert +by_second == +truth
    assert sum(group.count for group in summary.errors) == truth[Outcome.ERROR]
    assert {group.kind for group in summary.errors} == {"connect_reset"}


def test_a_run_whose_books_do_not_balance_says_so():
    """One row less than requests that were due is a clause in the summary, and the run is to be doubted."""
    plan = open_plan((100,), "5s")
    measured = scripted.play(plan, fast()).measurement()
    short = Measurement(
        measured.windows, measured.counts, measured.health, measured.events, measured.exchanges, measured.rows - 1
    )
    summary = summarise(run_json(plan), short)
    assert len(summary.books) == 1
    assert "rows" in summary.books[0]
    assert summary.validity == "degraded"


def test_throughput_counts_answers_when_they_come():
    """Offered 300/s, a pool that can do 200/s answers 200 per second of the stage, however many were due in it."""
    plan = open_plan((300,), "20s")
    recording = scripted.play(plan, scripted.pool(4, 20 * MS))
    summary = summary_from(recording, run_json(plan))
    truth = sum(0 <= row["end_ns"] < 20 * S for row in recording.rows())
    assert summary.total.tally.due / 20 == pytest.approx(300, rel=0.05)
    assert truth / 20 == pytest.approx(200, rel=0.05)
    assert summary.total.throughput_per_s == pytest.approx(truth / 20, rel=0.01)
    late = [second for second in summary.seconds if 20 < second.second < 28]
    assert all(second.completed == pytest.approx(200, rel=0.2) for second in late)


def test_littles_law_holds_between_samples_and_readings():
    """Requests in flight, derived from windows, are arrival rate times response time."""
    summary = summary_of(open_plan((200,), "30s"), scripted.constant(150 * MS))
    assert summary.stages[0].in_flight == pytest.approx(200 * 0.150, rel=0.05)


def test_the_freeze_is_seen_as_large_as_it_was():
    """One second in five frozen, 200/s for 20 s: p90 and p99 within 2 % and p50 within 1 ms of the truth."""
    plan = open_plan((200,), "20s")
    server = scripted.freezing(scripted.constant(5 * MS), 5 * S, S, from_ns=2 * S)
    recording = scripted.play(plan, server)
    truth = [
        scripted.thawed_ns(row["intended_ns"], 5 * MS, 5 * S, S, from_ns=2 * S) - row["intended_ns"]
        for row in recording.rows()
    ]
    found = summary_from(recording, run_json(plan)).total.response.quantiles
    for q in (0.9, 0.99):
        assert found[q].value == pytest.approx(_nearest_rank(truth, q), rel=0.02)
    assert found[0.5].value == pytest.approx(_nearest_rank(truth, 0.5), abs=1 * MS)


def test_a_stage_that_was_cut_short_ends_when_it_did():
    """Stopped three seconds into a stage of ten, rates are over three seconds and the stage is not complete."""
    plan = open_plan((100,), "10s")
    recording = scripted.Recording()
    running = scripted.Scripted(fast()).start(plan, Settings("r", 0, workload=plan.load()), recording)
    running.wait(3)
    running.stop(1)
    running.wait(math.inf)
    stage = summary_from(recording, run_json(plan)).stages[0]
    assert stage.duration_s == pytest.approx(3.0)
    assert not stage.completed
    assert stage.total.throughput_per_s == pytest.approx(100, rel=0.2)


def test_an_empty_run_has_zero_counts_and_no_numbers():
    """Nothing measured is None with a reason, never zero, and the run is invalid."""
    plan = open_plan()
    summary = summarise(run_json(plan), Measurement())
    assert summary.total.tally.due == 0
    assert summary.total.response.quantiles[0.5].value is None
    assert summary.total.error_ratio.value is None
    assert summary.validity == "invalid"


def test_too_few_samples_give_no_percentile_but_the_reason():
    """A user who asks twice a second for eight seconds has a median; p95 names the number it needs."""
    stage = summary_of(closed_plan([{"users": 1, "for": "8s"}], paths=("/x",), think_time="500ms"), fast()).stages[0]
    assert stage.total.response.quantiles[0.5].value is not None
    p95 = stage.total.response.quantiles[0.95]
    assert p95.value is None
    assert p95.why_not == "16 samples, p95 needs 72"


def test_without_rows_errors_are_known_by_outcome():
    """The windows alone tell how many, where and when; the kind is the outcome's word."""
    summary = summary_of(open_plan((100,), "10s"), _mixed(), rows=False)
    assert [(group.kind, group.outcome) for group in summary.errors] == [("error", Outcome.ERROR)]
    assert summary.errors[0].count == summary.total.tally.error
    assert not summary.rows_seen


def test_unknown_due_moments_are_said():
    """Stock Locust tells no due moment: the summary carries the mark."""
    assert summary_of(open_plan((50,), "5s"), fast(), due_known=False).response_is_service


def test_a_script_without_planned_stages_is_one_stage():
    """A run whose load only the script knows is summarised over the time it lasted."""
    plan = closed_plan([{"users": 5, "for": "6s"}], paths=("/x",))
    recording = scripted.play(plan, fast())
    run = run_json(plan, stages=[], engine="locust")
    summary = summary_from(recording, run)
    assert summary.model == "script"
    assert len(summary.stages) == 1
    assert summary.stages[0].duration_s == pytest.approx(6.0)
    assert summary.stages[0].end == 5


def test_the_live_view_agrees_with_the_summary_at_the_end():
    """Folding the same frames as they came gives the same totals and percentiles."""
    plan = closed_plan([{"users": 4, "for": "5s"}, {"users": 30, "for": "5s"}], paths=("/a", "/b"), think_time="5ms")
    recording = scripted.play(plan, _mixed())
    live = Live(run_json(plan))
    for kind, payload in recording.frames:
        live.add(kind, payload)
    summary = summary_from(recording, run_json(plan))
    assert live.due == summary.total.tally.due
    assert live.bad == summary.total.tally.bad
    assert live.run_times().p95_ns == summary.total.response.quantiles[0.95].value
    assert live.stage_times().p50_ns == summary.stages[1].total.response.quantiles[0.5].value
    assert {item.name for item in live.endpoints()} == {"GET /a", "GET /b"}


def _aborted_at(server: scripted.Server, seconds: int = 40) -> tuple[int, str] | None:
    """The second in which the abort rule would have ended the run, and its reason."""
    plan = closed_plan([{"users": 5, "for": f"{seconds}s"}], paths=("/x",))
    recording = scripted.Recording()
    running = scripted.Scripted(server).start(plan, Settings("r", 0, workload=plan.load()), recording)
    live, seen = Live(run_json(plan)), 0
    for second in range(1, seconds):
        running.wait(1.0)
        for kind, payload in recording.frames[seen:]:
            live.add(kind, payload)
        seen = len(recording.frames)
        reason = abort_reason(live, second * S)
        if reason is not None:
            return second, reason
    return None


def test_a_target_that_is_gone_ends_the_run_after_three_seconds():
    """Nothing listens any more from second 10 on: the rule says so at 13 or 14, and never before."""
    found = _aborted_at(scripted.until(10 * S, fast(), scripted.refusing()))
    assert found is not None
    assert 12 <= found[0] <= 14
    assert "gone" in found[1]


def test_over_half_of_the_requests_failing_for_ten_seconds_ends_the_run():
    """60 % failures from second 5 on are more than half of ten seconds' requests at about 14; 40 % never are."""
    found = _aborted_at(scripted.until(5 * S, fast(), scripted.failing_share(fast(2), 0.6)))
    assert found is not None
    assert 12 <= found[0] <= 18
    assert _aborted_at(scripted.failing_share(fast(), 0.4)) is None


def test_a_healthy_run_is_never_ended():
    """Also not one that pauses for two seconds in five."""
    assert _aborted_at(fast()) is None
    assert _aborted_at(scripted.freezing(fast(), 5 * S, 2 * S)) is None


def test_the_word_of_the_live_view_follows_the_server():
    """Holding under light load, saturated when more users only wait longer, failing when answers go wrong."""
    words = {}
    for name, server in (
        ("fast", fast()),
        ("pool", scripted.pool(2, 20 * MS)),
        ("broken", scripted.failing_share(fast(), 0.2)),
    ):
        plan = closed_plan([{"users": u, "for": "6s"} for u in (2, 8, 32)], paths=("/x",), think_time="10ms")
        live = Live(run_json(plan))
        for kind, payload in scripted.play(plan, server).frames:
            if kind is not Frame.EVENT or b"stage_ended" not in payload:
                live.add(kind, payload)
        words[name] = live.word()
    assert words == {"fast": "HOLDING", "pool": "SATURATED", "broken": "FAILING"}
