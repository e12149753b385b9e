"""Presets: each fills its time with a shape that can answer its question, from a plan as from the command line."""

from typing import Any

import pytest

from surgeline import units
from surgeline.cli import Refused
from surgeline.cli.order import Wanted, _changes
from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data
from surgeline.workload import PRESETS, Workload, describe, due_ns, from_preset


def plan(**load: Any) -> Plan:
    """A plan with that load."""
    return plan_from_data(
        {"target": "http://h:1", "scenarios": {"a": {"steps": [{"get": "/"}]}}, "workload": load}, "it"
    )


def levels(load: Workload) -> list[tuple[float, float]]:
    """Where each stage begins and ends."""
    return [(stage.start, stage.end) for stage in load.stages]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", ["open", "closed", "partly-open"])
def test_a_preset_fills_its_time_and_reaches_its_peak(name: str, model: Any) -> None:
    """To the nanosecond, in any time; the greatest level is the peak, but for smoke."""
    for duration_ns in (None, 7 * units.NS_PER_S + 1):
        load = from_preset(name, model, 50.0, duration_ns)
        assert load.duration_ns == (duration_ns or PRESETS[name].duration_ns)
        assert max(max(pair) for pair in levels(load)) == (1.0 if name == "smoke" else 50.0)
        assert all(stage.duration_ns > 0 and stage.name for stage in load.stages)
        if model == "closed":
            assert all(level >= 1 and level == int(level) for pair in levels(load) for level in pair)
    assert PRESETS[name].question.endswith("?") and PRESETS[name].answered_by


def test_spikes_come_again_and_each_has_time_to_recover() -> None:
    """Three of them, from the same level and back to it, each recovery longer than its spike."""
    stages = from_preset("spike", "open", 100.0).stages
    spikes = [index for index, stage in enumerate(stages) if stage.name.startswith("spike")]
    assert [stages[index].name for index in spikes] == ["spike 1", "spike 2", "spike 3"]
    for index in spikes:
        assert stages[index - 1].start == stages[index + 2].start == stages[index + 2].end == 10.0
        assert stages[index + 2].duration_ns > stages[index].duration_ns
        assert stages[index - 1].end == stages[index].start == 100.0


def test_a_breakpoint_goes_up_step_by_step() -> None:
    """Twenty flat steps of the same size, so that each can be judged by itself."""
    stages = levels(from_preset("breakpoint", "open", 200.0))
    assert [start for start, _ in stages] == pytest.approx([10.0 * step for step in range(1, 21)])
    assert all(start == end for start, end in stages)


def test_before_and_after_are_alike() -> None:
    """Stress and volume end at the load that they began with."""
    for name in ("stress", "volume"):
        stages = from_preset(name, "open", 80.0).stages
        assert levels(Workload("open", stages))[0] == levels(Workload("open", stages))[-1]
        assert stages[0].duration_ns == stages[-1].duration_ns


def test_a_plan_names_its_load() -> None:
    """By peak: a rate is open, users are closed, sessions partly open; and it is written as it was read."""
    spike = plan(preset="spike", peak="200/s", **{"for": "2m"})
    assert spike.load() == from_preset("spike", "open", 200.0, 120 * units.NS_PER_S)
    assert plan(preset="load", peak=50).load().model == "closed"
    assert plan(preset="load", peak="50 users") == plan(preset="load", peak=50)
    sessions = plan(preset="soak", peak="20/s", sessions=True, seed=7)
    assert sessions.load().model == "partly-open" and sessions.load().seed == 7
    assert plan(preset="smoke").load().stages[0].start == 1.0
    for each in (spike, sessions, plan(preset="smoke")):
        assert parse_plan(dump_plan(each), "plan.yaml") == each


def test_sessions_follow_the_schedule_of_a_rate() -> None:
    """The same moments as an open load of as many arrivals."""
    parts = {"stages": [{"rate": "20/s", "for": "5s"}], "arrivals": "poisson"}
    half = plan(model="partly-open", **parts).load()
    assert list(due_ns(half)) == list(due_ns(plan(model="open", **parts).load()))
    assert half.stages[0].name == "20 sessions/s"
    assert describe(half) == "partly-open, 20/s of sessions, Poisson arrivals, 5 s"


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"preset": "spike"}, "spike needs its peak, as in `{preset: spike, peak: 200/s}`"),
        ({"preset": "spike", "peak": "fast"}, "write for example"),
        ({"preset": "spike", "peak": 0}, "is no peak"),
        ({"preset": "spikes", "peak": 5}, 'did you mean "spike"'),
        ({"preset": "spike", "peak": 5, "stages": []}, "a preset has stages of its own"),
        ({"preset": "spike", "peak": 5, "for": "1ms"}, "too short for the shape"),
        ({"preset": "spike", "peak": 5, "sessions": True}, "sessions arrive at a rate"),
        ({"model": "partly-open", "stages": [{"users": 3, "for": "1s"}]}, "is written with rate"),
    ],
)
def test_what_a_preset_lacks_is_said(load: dict[str, Any], said: str) -> None:
    """In one sentence."""
    with pytest.raises(PlanError) as caught:
        plan(**load)
    assert said in str(caught.value)


def test_the_command_line_names_a_load_too() -> None:
    """-u or -r is its peak and -t its time; what contradicts it is refused."""
    assert _changes(Wanted(profile="spike", rate="200/s", duration="2m", seed=3))["workload"] == {
        "preset": "spike",
        "peak": "200/s",
        "for": "2m",
        "seed": 3,
    }
    assert _changes(Wanted(profile="smoke"))["workload"] == {"preset": "smoke"}
    assert _changes(Wanted(profile="load", users=9))["workload"]["peak"] == 9
    for wanted in (
        Wanted(profile="load"),
        Wanted(profile="load", users=9, stages="9 for 1s"),
        Wanted(profile="load", users=9, ramp="1s"),
        Wanted(profile="load", users=9, rate="1/s"),
    ):
        with pytest.raises(Refused):
            _changes(wanted)
