"""Schedules of open workloads against brute force, shares against the whole, and the users of closed workloads."""

import math
from bisect import bisect_left
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgeline import workload
from surgeline.units import NS_PER_S
from surgeline.workload import SplitMix64, Stage, Workload, due_ns, share, share_of_users

_STAGES = st.lists(
    st.builds(
        Stage,
        st.just("x"),
        st.integers(min_value=1_000_000, max_value=20 * NS_PER_S),
        st.floats(min_value=0, max_value=300).map(lambda rate: round(rate, 3)),
        st.floats(min_value=0, max_value=300).map(lambda rate: round(rate, 3)),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
_OPEN = st.builds(
    Workload,
    st.just("open"),
    _STAGES,
    st.sampled_from(["poisson", "uniform"]),
    st.integers(min_value=0, max_value=2**63 - 1),
)


def _area_at(load: Workload, at_ns: int) -> float:
    """Arrivals expected until a moment, as a sum over stages of trapezoids: no root is taken anywhere."""
    area, begin = 0.0, 0
    for stage in load.stages:
        inside = min(max(at_ns - begin, 0), stage.duration_ns)
        area += (stage.start + stage.level(inside)) / 2 * inside / NS_PER_S
        begin += stage.duration_ns
    return area


def test_a_flat_rate_is_evenly_spaced() -> None:
    """100/s for 2 s, uniform: one every 10 ms, the first after 10 ms, the last at the end."""
    load = Workload("open", (Stage("flat", 2 * NS_PER_S, 100, 100),), "uniform")
    assert list(due_ns(load)) == pytest.approx([10_000_000 * n for n in range(1, 201)], abs=1)


def test_a_ramp_from_nothing_follows_the_square_root() -> None:
    """From 0 to 100/s over 10 s, arrival n is due where t²·100/20 = n."""
    load = Workload("open", (Stage("ramp", 10 * NS_PER_S, 0, 100),), "uniform")
    due = list(due_ns(load))
    assert len(due) == 500
    assert due == pytest.approx([math.sqrt(n / 5) * NS_PER_S for n in range(1, 501)], abs=2)


@given(_OPEN)
@settings(max_examples=60, deadline=None)
def test_arrival_n_is_due_where_the_area_reaches_its_target(load: Workload) -> None:
    """Against trapezoid sums: uniform arrival n has area n; Poisson gaps in area are the generator's exponentials."""
    due = list(islice(due_ns(load), 400))
    draws, target = SplitMix64(load.seed), 0.0
    for at in due:
        target += 1.0 if load.arrivals == "uniform" else draws.exponential()
        # One ns of rounding is worth at most the highest rate in area.
        assert _area_at(load, at) == pytest.approx(target, abs=1e-6 + 600 / NS_PER_S)
    assert all(before <= after for before, after in pairwise(due))
    assert not due or 0 <= due[0] <= due[-1] <= load.duration_ns


@given(_OPEN)
@settings(max_examples=60, deadline=None)
def test_uniform_arrivals_are_as_many_as_the_area_holds(load: Workload) -> None:
    """The count is the whole area, rounded down, ramps down to zero and stages of rest included."""
    uniform = Workload("open", load.stages, "uniform")
    total = sum(stage.area for stage in load.stages)
    assert abs(len(list(due_ns(uniform))) - math.floor(total)) <= (1 if abs(total - round(total)) < 1e-6 else 0)


def test_poisson_arrivals_have_exponential_gaps() -> None:
    """20,000 gaps at 1,000/s: mean within 3 %, deviation equal to the mean within 3 %, 63.2 % below the mean."""
    load = Workload("open", (Stage("flat", 20 * NS_PER_S, 1000, 1000),), "poisson", 7)
    due = list(due_ns(load))
    gaps = [(after - before) / NS_PER_S for before, after in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1e-3, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.03)
    assert sum(gap < mean for gap in gaps) / len(gaps) == pytest.approx(1 - math.exp(-1), abs=0.01)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    """A comparison of two builds may replay the very same arrivals."""
    flat = (Stage("flat", NS_PER_S, 100, 100),)
    first, again, other = (list(due_ns(Workload("open", flat, "poisson", seed))) for seed in (3, 3, 4))
    assert first == again != other


def test_the_generator_is_the_published_one() -> None:
    """The first numbers of SplitMix64 with seed 1234567, as its reference implementation prints them."""
    draws = SplitMix64(1234567)
    assert [draws.next_u64() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_draw_is_never_zero_and_so_never_infinite() -> None:
    """In (0, 1], 10,000 times."""
    draws = SplitMix64(0)
    assert all(0 < draws.uniform() <= 1 for _ in range(10_000))


@given(_OPEN, st.integers(min_value=1, max_value=7))
@settings(max_examples=40, deadline=None)
def test_shares_cover_the_schedule_exactly_once(load: Workload, of: int) -> None:
    """Merged, the workers' shares are the schedule; their sizes differ by at most one."""
    whole = list(islice(due_ns(load), 300))
    parts = [list(share(iter(whole), index, of)) for index in range(of)]
    assert sorted(at for part in parts for at in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(min_value=0, max_value=10_000), st.integers(min_value=1, max_value=64))
def test_every_user_has_exactly_one_host(users: int, of: int) -> None:
    """The counts add up, and worker i hosts the users that are i modulo n."""
    counts = [share_of_users(users, index, of) for index in range(of)]
    assert sum(counts) == users
    assert counts == [len(range(index, users, of)) for index in range(of)]


@pytest.mark.parametrize(("index", "of"), [(-1, 2), (2, 2), (0, 0)])
def test_a_worker_that_does_not_exist_has_no_share(index: int, of: int) -> None:
    """Asking for it is a mistake, not an empty share."""
    with pytest.raises(ValueError, match="does not exist"):
        share(iter([1]), index, of)
    with pytest.raises(ValueError, match="does not exist"):
        share_of_users(1, index, of)


def test_a_closed_workload_has_no_schedule() -> None:
    """Its requests are due when users are ready, which only the run knows."""
    with pytest.raises(ValueError, match="when its user is ready"):
        next(due_ns(workload.default_steps()))


@pytest.mark.parametrize(
    ("most", "levels"), [(64, [1, 2, 4, 8, 16, 32, 64]), (1, [1]), (48, [1, 2, 4, 8, 16, 32, 48]), (2, [1, 2])]
)
def test_the_default_steps_double_up_to_the_most(most: int, levels: list[int]) -> None:
    """Also where the most is no power of two."""
    steps = workload.default_steps(most)
    assert [stage.start for stage in steps.stages] == [stage.end for stage in steps.stages] == levels


@given(_OPEN, st.integers(min_value=-1, max_value=100 * NS_PER_S))
def test_each_moment_of_a_run_is_in_one_stage(load: Workload, at: int) -> None:
    """Stages join without gap or overlap; before the run and from its end on there is none, and no load."""
    index = load.stage_at(at)
    if index is None:
        assert at < 0 or at >= load.duration_ns
        assert load.level(at) == 0
    else:
        starts = (*load.starts_ns(), load.duration_ns)
        assert bisect_left(starts, at + 1) - 1 == index
        low, high = sorted((load.stages[index].start, load.stages[index].end))
        assert low - 1e-9 <= load.level(at) <= high + 1e-9


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (workload.default_steps(), "closed, 1 to 64 users in 7 stages, 56 s"),
        (workload.default_steps(1), "closed, 1 user, 8 s"),
        (workload.first_look(), "closed, 1 to 64 users in 8 stages, 64 s"),
        (
            Workload("open", (workload.open_stage(50, 300, 120 * NS_PER_S),)),
            "open, 50/s to 300/s, Poisson arrivals, 2 min",
        ),
        (
            Workload("open", (workload.open_stage(50, 50, NS_PER_S),), "uniform"),
            "open, 50/s, uniform arrivals, 1 s",
        ),
        (
            Workload("closed", (workload.closed_stage(1_234_567, 1_234_567, NS_PER_S),)),
            "closed, 1234567 users, 1 s",
        ),
    ],
)
def test_a_workload_is_described_in_one_clause(load: Workload, said: str) -> None:
    """What a person reads before the load starts."""
    assert workload.describe(load) == said


def test_a_stage_is_named_for_its_load() -> None:
    """One user is singular, a ramp has an arrow."""
    names = [
        workload.closed_stage(1, 1, 1).name,
        workload.closed_stage(1, 8, 1).name,
        workload.open_stage(50, 300, 1).name,
        workload.open_stage(50, 50, 1).name,
    ]
    assert names == ["1 user", "1 → 8 users", "50/s → 300/s", "50/s"]
