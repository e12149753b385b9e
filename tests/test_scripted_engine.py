"""The pretend server plays a plan on virtual time and writes what a real engine would write."""

import json
import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from surgeline.engines import Script, Settings, Unsupported
from surgeline.engines import scripted as sc
from surgeline.plan.model import Plan
from surgeline.samples import Frame, Outcome
from surgeline.units import NS_PER_MS, NS_PER_S
from surgeline.workload import due_ns, open_stage


def _plan(stages: list[dict[str, Any]], model: str = "open", paths: tuple[str, ...] = ("/x",), **more: Any) -> Plan:
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {"a": {"steps": [{"get": path} for path in paths], **more.pop("scenario", {})}},
            "workload": {"model": model, "stages": stages, "arrivals": more.pop("arrivals", "poisson")},
            **more,
        }
    )


def test_every_arrival_is_due_exactly_when_the_workload_says():
    """Across a ramp and a flat stage, the intended starts are those of workload.due_ns to the nanosecond."""
    tested = _plan([{"rate": "10/s -> 100/s", "for": "5s"}, {"rate": "100/s", "for": "5s"}])
    rows = sorted(sc.play(tested, sc.constant(NS_PER_MS)).rows(), key=lambda row: row["seq"])
    assert [row["intended_ns"] for row in rows] == list(due_ns(tested.load()))


def test_books_balance_whatever_happens_to_requests():
    """Rows = due = sent + not sent = what the windows count: with a cap, errors and an early end."""
    server = sc.failing_share(sc.pool(2, 30 * NS_PER_MS), 0.1, error="connect_reset")
    recording = sc.play(_plan([{"rate": "200/s", "for": "6s"}], timeout="1s"), server, max_in_flight=40, grace_ns=0)
    measured = recording.measurement()
    outcomes = Counter(row["outcome"] for row in recording.rows())
    due, sent = sum(c.due for c in measured.counts), sum(c.sent for c in measured.counts)
    assert measured.rows == due == sum(window.count for window in measured.windows)
    assert outcomes[Outcome.NOT_SENT] == due - sent > 0
    assert outcomes[Outcome.ABORTED] > 0
    assert outcomes[Outcome.ERROR] > 0


def test_a_frozen_server_is_felt_by_everyone_who_was_due_meanwhile():
    """At 100/s a freeze of one second makes about a hundred response times long; each ends when the freeze does."""
    server = sc.freezing(sc.constant(NS_PER_MS), every_ns=5 * NS_PER_S, for_ns=NS_PER_S, from_ns=2 * NS_PER_S)
    rows = sc.play(_plan([{"rate": "100/s", "for": "4s"}], arrivals="uniform"), server).rows()
    hit = [row for row in rows if 2 * NS_PER_S <= row["intended_ns"] < 3 * NS_PER_S]
    assert 98 <= len(hit) <= 101
    assert {row["end_ns"] for row in hit} == {3 * NS_PER_S + NS_PER_MS}


def test_a_pool_never_answers_faster_than_its_places():
    """Offered twice its capacity of 200/s, a pool of four places completes 200/s."""
    rows = sc.play(_plan([{"rate": "400/s", "for": "20s"}]), sc.pool(4, 20 * NS_PER_MS)).rows()
    done = [row for row in rows if 5 * NS_PER_S <= row["end_ns"] < 20 * NS_PER_S]
    assert len(done) / 15 == pytest.approx(200, rel=0.06)


def test_a_closed_user_waits_for_its_answer_and_then_thinks():
    """Three users, 40 ms of service and 60 ms of thinking: ten requests per second each, one at a time per user."""
    tested = _plan([{"users": 3, "for": "5s"}], "closed", scenario={"think_time": "60ms"})
    rows = sc.play(tested, sc.constant(40 * NS_PER_MS)).rows()
    assert len(rows) == 3 * 50
    of_one = sorted(row["intended_ns"] for row in rows if row["user"] == 1)
    assert {later - earlier for earlier, later in pairwise(of_one)} == {100 * NS_PER_MS}


def test_users_come_and_go_along_the_line():
    """From 0 to 10 users and back: user u works only while the planned level is above u."""
    tested = _plan([{"users": "0 -> 10", "for": "10s"}, {"users": "10 -> 0", "for": "10s"}], "closed")
    for row in sc.play(tested, sc.constant(100 * NS_PER_MS)).rows():
        assert row["user"] < tested.load().level(row["intended_ns"])


def test_time_passes_in_wait_only_and_a_stop_lands_where_it_was_asked():
    """After two seconds of waiting two seconds have been played; a stop there leaves nothing due behind it."""
    recording = sc.Recording()
    tested = _plan([{"rate": "50/s", "for": "10s"}])
    running = sc.Scripted(sc.constant(5 * NS_PER_MS)).start(tested, Settings("r", 0, workload=tested.load()), recording)
    assert running.wait(2.0) is None
    before = len(recording.rows())
    assert 70 <= before <= 130
    running.stop(1.0)
    ending = running.wait(math.inf)
    assert ending is not None
    assert ending.reason == "stopped"
    assert max(row["intended_ns"] for row in recording.rows()) <= 2 * NS_PER_S
    assert [json.loads(p)["kind"] for k, p in recording.frames if k is Frame.EVENT] == [
        *("stage_started", "stop_requested", "stage_ended")
    ]


def test_a_stage_that_is_over_ends_no_other():
    """Whoever wants the first stage ended while the second is under way has come too late, and nothing happens."""
    recording = sc.Recording()
    tested = _plan([{"rate": "10/s", "for": "2s"}, {"rate": "10/s", "for": "6s"}])
    running = sc.Scripted().start(tested, Settings("r", 0, workload=tested.load()), recording)
    running.wait(3)
    running.next_stage(0)
    running.wait(1)
    running.next_stage(1)
    assert running.wait(math.inf) is not None
    marks = [json.loads(payload) for kind, payload in recording.frames if kind is Frame.EVENT]
    assert [round(mark["at_ns"] / NS_PER_S) for mark in marks if mark["kind"] == "stage_ended"] == [2, 4]


def test_control_changes_what_becomes_due():
    """Twice the load, a pause, the next stage and an added stage each show in the arrivals of their time."""
    recording = sc.Recording()
    tested = _plan([{"rate": "100/s", "for": "10s"}, {"rate": "20/s", "for": "5s"}])
    running = sc.Scripted().start(tested, Settings("r", 0, workload=tested.load()), recording)
    running.wait(2)
    running.scale(2.0)
    running.wait(2)
    running.scale(1.0)
    running.pause()
    running.wait(1)
    running.resume()
    running.next_stage()
    running.append_stage(open_stage(300, 300, 2 * NS_PER_S))
    ending = running.wait(math.inf)
    assert ending is not None
    due = Counter(row["intended_ns"] // NS_PER_S for row in recording.rows())
    unsent = Counter(row["intended_ns"] // NS_PER_S for row in recording.rows() if row["outcome"] == Outcome.NOT_SENT)
    assert 150 <= due[0] + due[1] <= 250
    assert 340 <= due[2] + due[3] <= 460
    assert unsent == {4: due[4]}
    # Its schedule goes on, and what is due meanwhile is told of.
    assert sc.Scripted().sender(tested) != "native"
    assert {row["error"] for row in recording.rows() if row["outcome"] == Outcome.NOT_SENT} == {"paused"}
    assert 60 <= sum(due[second] for second in range(5, 10)) <= 140
    assert 520 <= due[10] + due[11] <= 680
    assert max(due) == 11


def test_the_same_run_gives_the_same_bytes():
    """Frames are equal byte for byte when plan, server and seed are."""
    tested = _plan([{"rate": "100/s", "for": "3s"}], paths=("/x", "/y"))
    one, other = (sc.play(tested, sc.pool(3, 8 * NS_PER_MS)).frames for _ in range(2))
    assert one == other


def test_a_slow_generator_is_late_and_the_lag_is_in_the_health_readings():
    """A generator 30 ms late starts every request 30 ms after it was due."""
    late = sc.Generator(lag_ns=lambda due: 30 * NS_PER_MS, cpu_ratio=lambda at: 0.97)
    recording = sc.play(_plan([{"rate": "100/s", "for": "3s"}]), sc.constant(NS_PER_MS), late)
    assert {row["start_ns"] - row["intended_ns"] for row in recording.rows()} == {30 * NS_PER_MS}
    lags = {reading.value for reading in recording.measurement().health if reading.metric == "lag_p99_ns"}
    assert lags == {30.0 * NS_PER_MS}


def test_scripts_are_refused(tmp_path):
    """What the pretend server cannot play is refused with a sentence before anything starts."""
    script = Script(tmp_path / "locustfile.py", "0" * 64)
    with pytest.raises(Unsupported, match="locust engine"):
        sc.Scripted().start(script, Settings("r", 0, workload=None), sc.Recording())


def test_work_that_a_freeze_interrupts_goes_on_after_it():
    """Begun 10 ms before a freeze, 30 ms of work end 20 ms after it; work begun within it starts at its end."""
    assert sc.thawed_ns(4990, 30, 5000, 1000) == 6020
    assert sc.thawed_ns(5500, 30, 5000, 1000) == 6030
    assert sc.thawed_ns(10, 30, 5000, 1000, from_ns=2000) == 40
    assert sc.thawed_ns(0, 9000, 5000, 1000) == 12000
