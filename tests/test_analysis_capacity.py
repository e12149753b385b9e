"""Where throughput stops growing, and how long a stage takes to settle."""

import numpy as np
import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, summary_of
from surgeline.analysis.intervals import rate_interval
from surgeline.analysis.steady_state import beginning
from surgeline.engines import scripted


def test_a_pool_saturates_at_its_capacity_under_users():
    """Four places of 20 ms: 200/s, between the users who do not fill it and those who do."""
    plan = closed_plan([{"users": u, "for": "10s"} for u in (1, 2, 4, 8, 16, 32)], paths=("/x",), think_time="20ms")
    found = summary_of(plan, scripted.pool(4, 20 * MS)).saturation
    assert found is not None
    assert found.reached
    assert found.throughput_per_s == pytest.approx(200, rel=0.1)
    assert found.before is not None
    assert found.before <= 3
    assert found.interval is not None
    assert found.interval[0] < 200 < found.interval[1]
    assert found.interval[1] - found.interval[0] < 60


@pytest.mark.parametrize("seconds", [7, 20, 60])
def test_the_interval_of_a_rate_holds_what_it_promises(seconds: int):
    """Of seconds that are independent, and of ones that depend on their neighbours, 90 % of the intervals hold it."""
    dice = np.random.default_rng(seconds)
    for carried in (0.0, 0.3):
        held = 0
        for _ in range(500):
            fresh = dice.poisson(200, seconds + 1).astype(float)
            low, high = rate_interval(fresh[1:] + carried * (fresh[:-1] - 200.0)) or (0.0, 0.0)
            held += low <= 200.0 <= high
        assert held >= 450
    assert rate_interval(np.full(5, 200.0)) is None


def test_a_pool_saturates_at_its_capacity_under_arrivals():
    """Offered 100, 150 and 250 per second, 200/s come back: the knee lies between the last two."""
    found = summary_of(open_plan((100, 150, 250), "20s"), scripted.pool(4, 20 * MS)).saturation
    assert found is not None
    assert found.reached
    assert (found.before, found.stage) == (1, 2)
    assert found.throughput_per_s == pytest.approx(200, rel=0.05)


def test_one_overloaded_stage_is_enough_under_arrivals():
    """300/s due at a server that does 200/s pile up: that is saturation, whatever lies below."""
    found = summary_of(open_plan((300,), "20s"), scripted.pool(4, 20 * MS)).saturation
    assert found is not None
    assert found.reached
    assert found.before is None


def test_a_server_with_room_is_not_saturated():
    """Throughput doubles with the users up to the end."""
    found = summary_of(closed_plan(), fast()).saturation
    assert found is not None
    assert not found.reached
    assert found.stage == 6


def test_a_freeze_at_the_end_of_a_stage_is_no_saturation():
    """Half a second without answers at the very end leaves some behind, but nothing piles up."""
    server = scripted.freezing(fast(), 10 * S, S // 2, from_ns=9_500 * MS)
    found = summary_of(open_plan((50, 100), "10s"), server).saturation
    assert found is not None
    assert not found.reached


def test_refusing_quickly_is_no_throughput():
    """A server that turns away what it cannot do answers everything, and still does no more right."""
    plan = closed_plan([{"users": u, "for": "10s"} for u in (2, 4, 8, 16, 32)], paths=("/x",), think_time="10ms")
    found = summary_of(plan, scripted.failing_above(scripted.pool(4, 20 * MS), 6)).saturation
    assert found is not None
    assert found.reached
    assert found.throughput_per_s <= 210


def test_a_stage_the_generator_limited_says_nothing():
    """Throughput that stops because the generator does is not the server's plateau."""
    slow = scripted.Generator(cpu_ratio=lambda at: 1.0 if at > 20 * S else 0.2)
    found = summary_of(open_plan((50, 100, 200), "10s"), fast(), slow).saturation
    assert found is not None
    assert not found.reached
    assert found.generator


def test_one_load_has_no_capacity():
    """A single stage that is kept up with tells nothing about more."""
    assert summary_of(open_plan((100,), "20s"), fast()).saturation is None


def test_a_slow_beginning_is_found():
    """30 s of which the first 6 are three times as slow: the beginning is 6 s; two seconds more or less are allowed."""
    server = scripted.until(6 * S, scripted.lognormal(9 * MS), scripted.lognormal(3 * MS))
    stage = summary_of(open_plan((100,), "30s"), server).stages[0]
    assert stage.warm_up_s is not None
    assert 4 <= stage.warm_up_s <= 8


def test_a_steady_stage_has_no_beginning():
    """Of 40 stationary stages at most two are said to have one; a short stage is not assessed."""
    rng = np.random.default_rng(7)
    found = sum(beginning(rng.normal(15.0, 0.05, 40)) > 0 for _ in range(40))
    assert found <= 2
    assert summary_of(open_plan((100,), "8s"), fast()).stages[0].warm_up_s is None
