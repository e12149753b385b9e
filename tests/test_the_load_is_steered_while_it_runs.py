"""What an operator does to a run: it happens, it is written down, and what was planned follows it."""

import itertools
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from surgeline import units
from surgeline.analysis.steered import Act, acts, planned_arrivals
from surgeline.analysis.summary import summarise
from surgeline.cli.live import Silent, _pressed
from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.engines.scripted import Scripted
from surgeline.plan.text import plan_from_data
from surgeline.report.trust import trust
from surgeline.runner import Order, Wheel, carry_out
from surgeline.samples import Frame, Outcome
from surgeline.store.journal import Segment
from surgeline.workload import Stage
from targets.faulty import Faulty
from told import Told, told_by

S = units.NS_PER_S


class Noted:
    """An engine and a sink that write down what they are told."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.events: list[dict[str, Any]] = []

    def append(self, kind: Frame, payload: bytes) -> None:
        """Takes an event."""
        assert kind is Frame.EVENT
        self.events.append(json.loads(payload))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.done.append((name, *arguments))


def test_every_key_is_one_act_and_one_event() -> None:
    """Pause and go on take turns, up and down again is where it was, and other keys do nothing."""
    noted, stop = Noted(), threading.Event()
    wheel = Wheel(noted, noted, time.monotonic_ns(), stop)  # type: ignore[arg-type]  # it looks like both
    for key in "p p++--]x\n":
        wheel.turn(key)
    up, twice = 1.1, 1.1 * 1.1
    assert [done[0] for done in noted.done] == ["pause", "resume", *["scale"] * 4, "next_stage"]
    factors = [done[1] for done in noted.done if done[0] == "scale"]
    assert factors == pytest.approx([up, twice, up, 1.0]) and factors[-1] == 1.0
    assert [event["do"] for event in noted.events] == [done[0] for done in noted.done]
    assert {event["kind"] for event in noted.events} == {"control"}
    assert not stop.is_set()
    wheel.turn("q")
    assert stop.is_set()


def test_the_load_of_a_script_is_its_own() -> None:
    """Keys neither change it nor end the run with an error, and nothing is written down; q stops."""
    noted, stop = Noted(), threading.Event()
    wheel = Wheel(noted, noted, 0, stop, changeable=False)  # type: ignore[arg-type]  # it looks like both
    for key in "p+-]a":
        wheel.turn(key)
    assert not noted.done and not noted.events and not stop.is_set()
    wheel.turn("q")
    assert stop.is_set()


@pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
def test_the_last_stage_is_added_by_a_key(tmp_path: Path) -> None:
    """Once for each press: planned, sent, counted and on the page; a script has no stage to add."""
    with Faulty() as target:
        load = {"model": "open", "stages": [{"rate": "40/s", "for": "300ms"}, {"rate": "60/s", "for": "300ms"}]}
        plan = plan_from_data(
            {"target": target.url, "scenarios": {"s": {"steps": [{"get": "/ok"}]}}, "workload": load}, "x"
        )
        order = Order(
            plan, {"kind": "plan", "location": "x"}, "shop", NativeEngine(), tmp_path, plan.load(), target=target.url
        )
        presses = iter(["a", "", "a"])
        made = carry_out(order, Silent(), threading.Event(), lambda: next(presses, ""))
    assert [stage["index"] for stage in made.run.meta.raw["stages"]] == [0, 1, 2, 3]
    assert [stage["to"] for stage in made.run.meta.raw["stages"]] == [40, 60, 60, 60]
    due = Counter(int(stage) for batch in made.run.rows(["stage"]) for stage in batch["stage"])
    assert set(due) == {0, 1, 2, 3} and sum(due.values()) > 40
    assert len(made.document["stages"]) == 4
    assert [event["do"] for event in made.run.measurement().events if event["kind"] == "control"] == [
        "append_stage"
    ] * 2
    noted = Noted()
    Wheel(noted, noted, 0, threading.Event()).turn("a")  # type: ignore[arg-type]  # it looks like both
    assert not noted.done and not noted.events


def test_the_load_can_be_steered_only_so_far() -> None:
    """A held key ends at a hundred times the plan."""
    noted = Noted()
    wheel = Wheel(noted, noted, 0, threading.Event())  # type: ignore[arg-type]  # it looks like both
    for _ in range(200):
        wheel.turn("+")
    assert 90 < max(done[1] for done in noted.done) <= 100


@pytest.mark.parametrize(
    ("done", "still", "planned"),
    [
        ((), True, 100.0),
        ((Act(15 * S, "scale", 2.0),), True, 150.0),
        ((Act(5 * S, "scale", 2.0),), True, 200.0),
        ((Act(12 * S, "pause"), Act(14 * S, "resume")), True, 80.0),
        ((Act(12 * S, "pause"), Act(14 * S, "resume")), False, 100.0),
        ((Act(5 * S, "pause"),), True, 0.0),
        ((Act(15 * S, "scale", 0.0), Act(16 * S, "scale", 1.0)), True, 90.0),
        ((Act(30 * S, "scale", 9.0),), True, 100.0),
        ((Act(12 * S, "next_stage"),), True, 100.0),
    ],
)
def test_what_was_planned_follows_the_acts(done: tuple[Act, ...], still: bool, planned: float) -> None:
    """A stage of 10/s from second 10 to 20: scaled, paused, both, before it and after it."""
    assert planned_arrivals(10.0, 10.0, 10 * S, 10 * S, 20 * S, done, still) == pytest.approx(planned)


def test_a_ramp_goes_on_where_a_pause_stopped_it() -> None:
    """Against brute force: a ramp from 0 to 10/s in 10 s, paused for 3 s, doubled, ended in the middle."""
    done = (Act(4 * S, "pause"), Act(7 * S, "resume"), Act(8 * S, "scale", 2.0))
    wanted = sum(step * 0.001 * 0.001 for step in range(5000)) + 2 * sum(
        step * 0.001 * 0.001 for step in range(5000, 8000)
    )
    assert planned_arrivals(0.0, 10.0, 10 * S, 0, 11 * S, done, True) == pytest.approx(wanted, rel=1e-3)


def test_what_is_no_act_is_left_out() -> None:
    """A journal may hold anything."""
    events = [
        {"kind": "control", "do": "scale", "factor": 2, "at_ns": 5},
        {"kind": "control", "do": "pause", "at_ns": 1},
        {"kind": "control", "do": 3, "at_ns": 1},
        {"kind": "control", "do": "scale", "factor": "x", "at_ns": 1},
        {"kind": "note", "do": "pause", "at_ns": 1},
    ]
    assert acts(events) == (Act(1, "pause"), Act(5, "scale", 2.0))


def steered_run(place: Path, load: dict[str, Any], steer: Any, seconds: float) -> tuple[Told, Faulty]:
    """A run of the native engine, steered after it has begun."""
    journal = place / "journal"
    journal.mkdir()
    with Faulty() as target, Segment(journal) as sink:
        plan = plan_from_data(
            {
                "target": target.url,
                "scenarios": {"s": {"think_time": "20ms", "steps": [{"get": "/ok"}]}},
                "workload": load,
            },
            "it",
        )
        running = NativeEngine().start(plan, Settings("r", time.monotonic_ns(), None), sink)
        steer(running)
        ending = running.wait(seconds)
        assert ending is not None
    told = told_by(journal, ending)
    assert len(told.rows) == told.due == told.sent + told.outcomes[Outcome.NOT_SENT]
    return told, target


needs_native = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")


@needs_native
@pytest.mark.slow
def test_a_pause_sends_nothing_and_the_stage_goes_on_after_it(tmp_path: Path) -> None:
    """In every model; what was planned for the second of the pause comes after it."""
    for number, load in enumerate(
        (
            {"model": "open", "arrivals": "uniform", "stages": [{"rate": "100/s", "for": "1500ms"}]},
            {"model": "partly-open", "arrivals": "uniform", "stages": [{"rate": "100/s", "for": "1500ms"}]},
            {"model": "closed", "stages": [{"users": 3, "for": "1500ms"}]},
        )
    ):
        moments: list[int] = []

        def steer(running: Any, moments: list[int] = moments) -> None:
            assert running.wait(0.5) is None
            running.pause()
            moments.append(time.monotonic_ns())
            assert running.wait(1.0) is None
            running.resume()

        place = tmp_path / str(number)
        place.mkdir()
        told, _ = steered_run(place, load, steer, 30)
        dues = sorted(row["intended_ns"] for row in told.rows)
        assert not told.outcomes[Outcome.NOT_SENT]
        gap = max(after - before for before, after in itertools.pairwise(dues))
        assert gap >= 0.9 * S
        assert max(dues) > 2.2 * S
        if load["model"] != "closed":
            assert len(told.rows) == 150


@needs_native
@pytest.mark.slow
def test_stages_are_skipped_and_added(tmp_path: Path) -> None:
    """The minute is left at once, and the stage that was added ends the run; rows say which stage they were due in."""

    def steer(running: Any) -> None:
        assert running.wait(0.4) is None
        running.append_stage(Stage("more", S // 2, 5.0, 5.0))
        running.next_stage(1)  # that one is not under way yet
        running.next_stage(0)

    told, _ = steered_run(tmp_path, {"model": "closed", "stages": [{"users": 2, "for": "1m"}]}, steer, 20)
    marks = [(event["kind"], event["stage"]) for event in told.events if event["kind"].startswith("stage")]
    assert marks == [("stage_started", 0), ("stage_ended", 0), ("stage_started", 1), ("stage_ended", 1)]
    assert {row["user"] for row in told.rows if row["stage"] == 0} == {0, 1}
    assert {row["user"] for row in told.rows if row["stage"] == 1} == {0, 1, 2, 3, 4}


@needs_native
@pytest.mark.slow
def test_users_are_scaled_up_and_down(tmp_path: Path) -> None:
    """Four users, then eight, then two: those above the number finish and rest."""

    def steer(running: Any) -> None:
        assert running.wait(0.5) is None
        running.scale(2.0)
        assert running.wait(0.5) is None
        running.scale(0.5)

    told, _ = steered_run(tmp_path, {"model": "closed", "stages": [{"users": 4, "for": "3s"}]}, steer, 30)
    assert {row["user"] for row in told.rows} == set(range(8))
    assert {row["user"] for row in told.rows if row["intended_ns"] > 2.5 * S} == {0, 1}


@needs_native
@pytest.mark.slow
def test_sessions_that_cannot_be_sent_are_samples(tmp_path: Path) -> None:
    """Bounded in flight also where sessions arrive: their first request is the row that says so."""
    journal = tmp_path / "journal"
    journal.mkdir()
    with Faulty() as target, Segment(journal) as sink:
        load = {"model": "partly-open", "arrivals": "uniform", "stages": [{"rate": "50/s", "for": "1s"}]}
        steps = [{"get": "/slow/400", "name": "first"}, {"get": "/ok"}]
        plan = plan_from_data({"target": target.url, "scenarios": {"s": {"steps": steps}}, "workload": load}, "it")
        running = NativeEngine().start(plan, Settings("r", time.monotonic_ns(), None, max_in_flight=2), sink)
        ending = running.wait(20)
    assert ending is not None
    told = told_by(journal, ending)
    refused = [row for row in told.rows if row["outcome"] == Outcome.NOT_SENT]
    assert {(row["endpoint"], row["error"]) for row in refused} == {("first", "in_flight_limit")}
    assert len(told.of("first")) == 50 and len(refused) > 30
    assert len(told.rows) == told.due == told.sent + len(refused)


def test_the_page_says_what_was_done() -> None:
    """Planned arrivals of the stage are those after scaling, and the acts are told with their moments."""
    plan = plan_from_data(
        {
            "target": "http://h:1",
            "scenarios": {"s": {"steps": [{"get": "/"}]}},
            "workload": {"model": "open", "arrivals": "uniform", "stages": [{"rate": "50/s", "for": "4s"}]},
        },
        "it",
    )
    from surgeline.engines.scripted import Recording

    sink = Recording()
    running = Scripted().start(plan, Settings("r", 0, plan.load()), sink)
    running.wait(2.0)
    running.scale(2.0)
    sink.append(Frame.EVENT, json.dumps({"at_ns": 2 * S, "kind": "control", "do": "scale", "factor": 2.0}).encode())
    running.wait(float("inf"))
    stage = {"index": 0, "name": "50/s", "model": "open", "from": 50.0, "to": 50.0, "unit": "requests/s"}
    run = {"engine": "scripted", "stages": [{**stage, "duration_ns": 4 * S}], "settings": {}, "due_known": True}
    summary = summarise(run, sink.measurement())
    assert summary.stages[0].planned_due == pytest.approx(300.0)
    assert summary.stages[0].total.tally.due == pytest.approx(300, abs=2)
    (said,) = [each.sentence for each in trust(summary) if each.about == "steered"]
    assert said.startswith("The load was steered by hand: 2 times the plan from 2 s on.")


def test_keys_are_read_from_a_terminal_that_is_ours_alone() -> None:
    """Nothing is read where nothing was pressed, and nothing where the terminal belongs to somebody else."""
    master, slave = os.openpty()
    try:
        assert _pressed(slave) == ""
        os.write(master, b"p+\n")
        assert _pressed(slave) == ""  # a terminal of another session is not ours to read
    finally:
        os.close(master)
        os.close(slave)
