"""Change points: found near where they are, hardly ever elsewhere, told with size, interval and commits."""

import dataclasses
import math

import numpy as np
import pytest

from series_examples import MACHINE, a_run
from surgeline.analysis.trend import change_points, spread, trend_of
from surgeline.report import trend_page


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [5, 12, 20, 33])
def test_ten_percent_in_forty_runs_is_found_within_three(at: int, sign: int):
    """At 2 % noise, 9 times in 10 at least, wherever it is; of 40 tries 36."""
    found = 0
    for seed in range(40):
        values = 0.02 * np.random.default_rng([at, seed]).standard_normal(40)
        values[at:] += sign * math.log(1.1)
        found += any(abs(point.at - at) <= 3 for point in change_points(values.tolist()))
    assert found >= 36


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02, 0.05])
def test_without_a_change_there_is_hardly_ever_a_point(noise: float):
    """At most one per hundred runs, whatever the noise; here 2,000 runs."""
    alarms = sum(
        len(change_points((noise * np.random.default_rng([1, seed]).standard_normal(40)).tolist()))
        for seed in range(50)
    )
    assert alarms <= 20


def test_a_short_or_empty_series_has_no_points():
    """Below twice three runs nothing can be told apart."""
    for count in range(6):
        assert change_points([1.0 if i < count / 2 else 9.0 for i in range(count)]) == []


def test_two_changes_are_two_points_with_their_sizes():
    """Up by a fifth, then back."""
    dice = np.random.default_rng(3)
    values = np.concatenate((np.zeros(15), np.full(15, math.log(1.2)), np.zeros(15))) + 0.01 * dice.standard_normal(45)
    first, second = change_points(values.tolist())
    assert (abs(first.at - 15) <= 1, abs(second.at - 30) <= 1) == (True, True)
    assert first.low < 0.2 < first.high
    assert second.change == pytest.approx(1 / 1.2 - 1, abs=0.02)


def test_a_long_series_is_searched_in_windows():
    """A change after 130 of 200 runs is found, and once only."""
    values = 0.02 * np.random.default_rng(4).standard_normal(200)
    values[130:] += math.log(1.1)
    (point,) = change_points(values.tolist())
    assert abs(point.at - 130) <= 3


def test_a_lone_wild_run_is_no_change():
    """One run twice as slow among twenty."""
    values = 0.01 * np.random.default_rng(5).standard_normal(20)
    values[9] += math.log(2)
    assert change_points(values.tolist()) == []


def test_a_trend_names_commits_and_leaves_out_what_is_unlike():
    """The point lies between the commits of the runs beside it; other machines and engines are not mixed in."""
    runs = [a_run(f"r{i:02d}", i + 1, 1.0 if i < 10 else 1.2, 0.01) for i in range(20)]
    other = {"machine": {**MACHINE, "cpu": "x"}, "generator_shares_machine": False}
    odd = [a_run("odd1", 70, environment=other), a_run("odd2", 71, engine="locust"), a_run("odd3", 72, count=10)]
    found = trend_of([*odd, *runs], "POST /b", "p95")
    assert [point.at for point in found.points] == [10]
    assert found.commits == (("c0000010", "c0000011"),)
    assert dict(found.left_out) == {"another machine": 1, "sent by another engine": 1, "too few samples": 1}
    text = " ".join(trend_page.render(found).split())
    assert "between commits c0000010 and c0000011" in text
    assert "r10" in text
    assert trend_page.render(found, ascii=True).isascii()
    assert trend_page.plot(found) == trend_page.plot(trend_of([*odd, *runs], "POST /b", "p95"))
    assert ">p95 of POST /b over 20 runs: 1 change point<" in trend_page.plot(found)
    assert "No run" in trend_page.render(trend_of([], None))


def test_the_spread_of_equal_runs_comes_with_its_interval():
    """The truth lies within, 9 times in 10 or more."""
    within = 0
    for seed in range(200):
        sd, low, high = spread((0.03 * np.random.default_rng(seed).standard_normal(10)).tolist())
        assert low < sd < high
        within += low <= 0.03 <= high
    assert within >= 180


def test_the_capacity_of_searches_has_a_trend_of_its_own():
    """340/s, then 290/s: one point, in rates; plain runs and open-ended searches are left out."""
    runs = [
        dataclasses.replace(a_run(f"r{i:02d}", i + 1), searched=True, capacity_per_s=rate)
        for i, rate in enumerate([340.0, 343.0, 338.0, 341.0, 340.0, 291.0, 288.0, 290.0, 293.0, 289.0])
    ]
    odd = [a_run("plain"), dataclasses.replace(runs[0], capacity_per_s=None)]
    found = trend_of([*odd, *runs], None, "capacity")
    assert [point.at for point in found.points] == [5]
    assert dict(found.left_out) == {"not a search for capacity": 1, "no limit found": 1}
    assert "from 340/s to 290/s" in " ".join(trend_page.render(found).split())
    assert trend_of(runs, None, "p95").steps == ()
