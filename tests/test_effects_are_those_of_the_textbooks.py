"""Effects, their intervals and their adjustments, held against SciPy; words mirror when the sides are swapped."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from surgeline.analysis import effects
from surgeline.analysis.effects import Effect, benjamini_hochberg, holm, word_of

DELTA = math.log1p(0.05)
FIGURES = st.lists(st.floats(-3, 3, allow_nan=False), min_size=2, max_size=12)


@pytest.mark.parametrize("seed", range(8))
def test_separate_runs_are_compared_as_welch_does(seed: int):
    """Estimate, p and interval of two sets of unequal size and spread."""
    dice = np.random.default_rng(seed)
    base, candidate = dice.normal(0, 1, 5 + seed), dice.normal(0.3, 2, 7)
    effect = effects.separate(base.tolist(), candidate.tolist())
    oracle = stats.ttest_ind(candidate, base, equal_var=False)
    assert effect.p_two_sided == pytest.approx(oracle.pvalue, rel=1e-9)
    assert effect.interval() == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-6)
    greater = stats.ttest_ind(candidate, base, equal_var=False, alternative="greater").pvalue
    assert effect.p_above() == pytest.approx(greater, rel=1e-9)
    assert effect.p_below() == pytest.approx(1 - greater, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_compared_as_the_paired_t_does(seed: int):
    """Estimate, p and interval of pairs."""
    dice = np.random.default_rng(seed)
    base = dice.normal(0, 1, 6)
    candidate = base + dice.normal(0.1, 0.2, 6)
    effect = effects.paired(base.tolist(), candidate.tolist())
    oracle = stats.ttest_rel(candidate, base)
    assert effect.p_two_sided == pytest.approx(oracle.pvalue, rel=1e-9)
    assert effect.interval() == pytest.approx(tuple(oracle.confidence_interval(0.95)), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_values_are_those_of_the_definitions(p_values: list[float]):
    """Holm's against his step-down rule, Benjamini and Hochberg's against SciPy; both keep the order."""
    ordered = sorted(p_values)
    count = len(ordered)
    expected = [max(min(1.0, (count - j) * ordered[j]) for j in range(i + 1)) for i in range(count)]
    assert sorted(holm(p_values)) == pytest.approx(expected)
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values).tolist())
    for first, second in zip(sorted(zip(p_values, holm(p_values), strict=True)), ordered, strict=True):
        assert first[0] == second
        assert first[1] >= first[0]


@settings(max_examples=80, deadline=None)
@given(FIGURES, FIGURES)
def test_swapping_the_sides_flips_the_sign_and_mirrors_the_word(base: list[float], candidate: list[float]):
    """Whatever the figures: regressed and improved change places, the others stay."""
    there = effects.separate(base, candidate, effects.RESOLUTION)
    back = effects.separate(candidate, base, effects.RESOLUTION)
    assert there.d == -back.d
    assert (there.se, there.df) == (back.se, back.df)
    mirror = {"regressed": "improved", "improved": "regressed"}
    word = word_of(there, DELTA)
    assert word_of(back, DELTA) == mirror.get(word, word)


@settings(max_examples=40, deadline=None)
@given(FIGURES)
def test_pairs_of_equal_runs_are_unchanged(figures: list[float]):
    """No difference in any block: zero, and unchanged."""
    effect = effects.paired(figures, figures, effects.RESOLUTION)
    assert effect.d == 0.0
    assert word_of(effect, DELTA) == "unchanged"
    assert word_of(effects.same(len(figures)), DELTA) == "unchanged"


def test_runs_that_all_fell_into_one_bucket_are_not_infinitely_sure():
    """Ten equal figures a side still differ by the width of what they were read from."""
    effect = effects.separate([1.0] * 5, [1.0004] * 5, effects.RESOLUTION)
    assert effect.se > 0
    assert word_of(effect, DELTA) == "unchanged"
    assert effect.p_two_sided > 0.01


def test_a_change_of_half_the_budget_or_less_is_never_a_word():
    """However sure: +2 % with next to no noise is no regression at a budget of 5 %."""
    effect = Effect(math.log(1.02), 1e-6, 8.0, 5, 5)
    assert effect.p_above() < 1e-9
    assert word_of(effect, DELTA) == "unchanged"
    assert word_of(Effect(math.log(1.03), 1e-6, 8.0, 5, 5), DELTA) == "regressed"


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_the_number_of_runs_asked_for_is_enough(noise: float):
    """Simulated: so many runs a side find a change of 5 % at least 8 times in 10, and not twice as many are asked."""
    dice = np.random.default_rng(11)
    first = Effect(0.0, noise * math.sqrt(2 / 5), 8.0, 5, 5)
    runs = effects.runs_needed(first, DELTA)
    hits = 0
    for _ in range(300):
        base, candidate = dice.normal(0, noise, runs), dice.normal(DELTA, noise, runs)
        hits += word_of(effects.separate(base.tolist(), candidate.tolist()), DELTA) == "regressed"
    assert 0.74 <= hits / 300 <= 0.97


def test_hodges_and_lehmann_ignore_one_wild_run():
    """The median of differences stays where nine of ten runs are."""
    base, candidate = [0.0] * 5, [0.1, 0.1, 0.1, 0.1, 5.0]
    assert effects.hodges_lehmann(base, candidate) == pytest.approx(0.1)
    assert effects.hodges_lehmann(base, candidate, in_pairs=True) == pytest.approx(0.1)
