"""A plan's load over time, left alone and changed while it runs; and the alarm that wakes greenlets by it."""

import time
from itertools import chain
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.locust.alarm import Alarm
from surgeline.locust.timeline import NEVER_NS, Timeline, rest_of
from surgeline.workload import Stage, Workload, due_ns

S = 1_000_000_000

levels = st.floats(0, 200).map(lambda level: round(level, 1))
stages = st.lists(
    st.builds(lambda d, a, b: Stage("s", d, a, b), st.integers(S // 10, 5 * S), levels, levels), min_size=1, max_size=4
)


def opened(parts: list[Stage], arrivals: str = "poisson") -> Workload:
    """An open workload."""
    return Workload("open", tuple(parts), "uniform" if arrivals == "uniform" else "poisson", seed=7)


@given(stages, st.integers(0, 10 * S), st.integers(1, 4))
def test_left_alone_the_shares_are_the_workloads_schedule(parts: list[Stage], begin: int, of: int) -> None:
    """Whatever the number of processes: together they have every arrival of `workload.due_ns`, after the beginning."""
    workload = opened(parts)
    shares = [list(Timeline(workload, begin, index, of).arrivals(0)) for index in range(of)]
    assert sorted(chain(*shares)) == [begin + at for at in due_ns(workload)]


@given(stages, st.integers(0, 200))
def test_a_user_is_active_exactly_where_the_level_is_above_its_number(parts: list[Stage], user: int) -> None:
    """The first moment that is found is the first there is, by trying them all in steps."""
    timeline = Timeline(Workload("closed", tuple(parts)), S)
    found = timeline.active_from(user, 0)
    step = 10_000_000
    brute = next((at for at in range(S, timeline.end_ns, step) if timeline.level(at) > user), None)
    if brute is None:
        assert found is None or timeline.level(found) > user
    else:
        assert found is not None and brute - step <= found <= brute
        assert timeline.level(found) > user


def test_scaling_changes_what_lies_ahead_only() -> None:
    """Uniform arrivals, doubled after the first of two seconds: the first stays, the second has twice as many."""
    timeline = Timeline(opened([Stage("a", S, 100, 100), Stage("b", S, 100, 100)], "uniform"), 0)
    before = [at for at in timeline.arrivals(0) if at <= S]
    timeline.scale(2.0, S)
    assert [at for at in timeline.arrivals(S) if at <= S] == []
    assert len(before) == 100 and len(list(timeline.arrivals(S))) == 200
    assert (timeline.level(S - 1), timeline.level(S), timeline.peak) == (100, 200, 200)
    timeline.scale(1.0, S + S // 2)
    assert len(list(timeline.arrivals(S + S // 2))) == 50
    assert (timeline.level(S), timeline.level(S + S // 2)) == (200, 100)
    assert [timeline.stage_at(at) for at in (0, S, S + S // 2, 5 * S)] == [0, 1, 1, 1]


def test_a_ramp_goes_on_from_where_it_was_scaled() -> None:
    """Twice the line from there on, not twice the line from its beginning."""
    timeline = Timeline(Workload("closed", (Stage("a", 10 * S, 0, 100),)), 0)
    timeline.scale(2.0, 5 * S)
    assert [round(timeline.level(at)) for at in (4 * S, 5 * S, 7 * S)] == [40, 100, 140]
    assert timeline.active_from(60, 0) == 5 * S


def test_the_next_stage_moves_up() -> None:
    """The current one ends now; the later ones keep their length."""
    timeline = Timeline(Workload("closed", (Stage("a", 10 * S, 5, 5), Stage("b", S, 9, 9), Stage("c", S, 1, 1))), S)
    timeline.next_stage(3 * S)
    assert [timeline.stage_end_ns(index) for index in range(3)] == [3 * S, 4 * S, 5 * S]
    assert [timeline.level(at) for at in (2 * S, 3 * S, 4 * S)] == [5, 9, 1]
    timeline.append(Stage("d", S, 3, 3))
    assert timeline.end_ns == 6 * S and timeline.has_stage(3) and not timeline.has_stage(4)
    assert timeline.level(5 * S) == 3


def test_users_are_wanted_for_the_highest_level_so_far() -> None:
    """Locust keeps the users it has started: those that are too many park."""
    timeline = Timeline(Workload("closed", (Stage("a", 2 * S, 2, 8), Stage("b", S, 1, 1))), S)
    assert [timeline.peak_until(at) for at in (S, 2 * S, 3 * S, 4 * S, 9 * S)] == [2, 5, 8, 8, 8]


def test_greenlets_wake_in_the_order_of_their_moments() -> None:
    """Also when a later one went to sleep first; a past moment is no sleep; waking all tells the sleepers."""
    alarm = Alarm()
    woken: list[tuple[str, bool]] = []

    def sleep(name: str, at_ns: int) -> None:
        woken.append((name, alarm.wait_until(at_ns)))

    now = time.monotonic_ns()
    sleepers = [
        gevent.spawn(sleep, "third", now + 30_000_000),
        gevent.spawn(sleep, "first", now + 10_000_000),
        gevent.spawn(sleep, "at once", now - 1),
        gevent.spawn(sleep, "second", now + 20_000_000),
        gevent.spawn(sleep, "never", now + 3600 * S),
    ]
    gevent.joinall(sleepers[:4], timeout=10)
    assert time.monotonic_ns() >= now + 30_000_000
    assert woken == [("at once", True), ("first", True), ("second", True), ("third", True)]
    alarm.close()
    gevent.joinall(sleepers, timeout=10)
    assert woken[-1] == ("never", False)


@given(stages, st.integers(0, 10 * S), st.integers(1, 5 * S))
def test_a_pause_moves_what_lies_ahead_and_nothing_else(parts: list[Stage], at: int, length: int) -> None:
    """Before the pause the level is as planned; after it, all that lies ahead comes as much later as it lasted."""
    plain, paused = (Timeline(Workload("closed", tuple(parts)), S) for _ in range(2))
    paused.pause(at)
    paused.pause(at + 1)
    assert all(paused.stage_end_ns(n) in (plain.stage_end_ns(n), NEVER_NS) for n in range(len(parts)))
    paused.resume(at + length)
    for moment in range(0, plain.end_ns + length, S // 7):
        if moment < at:
            assert abs(paused.level(moment) - plain.level(moment)) < 1e-6
        elif moment >= max(at, S) + length:
            assert abs(paused.level(moment) - plain.level(moment - length)) < 1e-6
    assert paused.end_ns == plain.end_ns + (length if at < plain.end_ns else 0)


@pytest.mark.parametrize("elapsed", [-5, 0, 3, 10, 14, 20, 29])
def test_what_is_left_of_a_load_keeps_its_levels_and_stages(elapsed: int) -> None:
    """Whoever takes over at a moment plans what was planned from there on, under the same numbers of stages."""
    told = {
        "model": "open",
        "stages": [{"duration_ns": 10 * S, "from": a, "to": b} for a, b in ((0, 5), (5, 5), (8, 2))],
    }
    left = rest_of(told, elapsed * S)
    assert left is not None and len(left["stages"]) == 3 and left["model"] == "open"

    def timeline(load: dict[str, Any], begin: int) -> Timeline:
        stages = tuple(Stage("", stage["duration_ns"], stage["from"], stage["to"]) for stage in load["stages"])
        return Timeline(Workload("open", stages), begin)

    whole, rest = timeline(told, 0), timeline(left, max(elapsed, 0) * S)
    for tenth in range(max(elapsed, 0) * 10 + 1, 300):
        at = tenth * S // 10
        assert rest.level(at) == pytest.approx(whole.level(at), abs=1e-6)
        if tenth % 100:
            assert rest.stage_at(at) == whole.stage_at(at)


def test_of_a_load_that_is_over_nothing_is_left() -> None:
    """Nobody takes over what has ended."""
    assert rest_of({"stages": [{"duration_ns": S, "from": 1, "to": 1}]}, S) is None
