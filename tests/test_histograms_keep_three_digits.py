"""The histogram against a sorted list, against an independent HDR histogram, and against itself merged."""

import math
from bisect import bisect_right

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surgeline.samples import Histogram, histogram_high, histogram_index, histogram_low

_LONGEST_NS = 3600 * 10**9
_NS = st.one_of(
    st.integers(min_value=0, max_value=_LONGEST_NS),
    st.integers(min_value=0, max_value=5000),
    st.builds(lambda power, off: max((1 << power) + off, 0), st.integers(0, 41), st.integers(-2, 2)),
)
_VALUES = st.lists(_NS, max_size=200)
_Q = st.one_of(st.floats(min_value=0, max_value=1), st.sampled_from([0, 0.5, 0.9, 0.95, 0.99, 0.999, 1]))


def _of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(_NS)
@example(2047)
@example(2048)
def test_a_bucket_holds_what_falls_into_it_and_is_narrow(value: int) -> None:
    """Exact below 2,048 ns; above, a bucket's edges are less than a thousandth apart, and neighbours touch."""
    index = histogram_index(value)
    low, high = histogram_low(index), histogram_high(index)
    assert low <= value <= high
    assert histogram_index(low) == histogram_index(high) == index
    assert histogram_low(index + 1) == high + 1
    assert high - low <= value / 1024
    if value < 2048:
        assert low == high == index


@given(_NS.filter(lambda value: value > 0))
def test_buckets_are_those_of_hdrhistogram(value: int) -> None:
    """The index is the one an independent implementation with three digits and a unit of 1 ns computes."""
    theirs = HdrHistogram(1, _LONGEST_NS * 2, 3)
    index = histogram_index(value)
    assert index == theirs._counts_index_for(value)
    assert histogram_low(index) == theirs.get_lowest_equivalent_value(value)
    assert histogram_high(index) == theirs.get_highest_equivalent_value(value)


@given(
    st.lists(_NS.filter(lambda value: value > 0), min_size=1, max_size=60), st.sampled_from([1, 25, 50, 90, 99, 99.9])
)
@settings(deadline=None, max_examples=60)
def test_the_value_at_a_rank_is_that_of_hdrhistogram(values: list[int], percent: float) -> None:
    """But for the extremes: greatest and least are exact here, and edges of their buckets there."""
    theirs = HdrHistogram(1, _LONGEST_NS * 2, 3)
    for value in values:
        theirs.record_value(value)
    # That package rounds to the nearest rank, where the definition used here rounds up.
    rank = max(int(percent / 100 * len(values) + 0.5), 1)
    ours = _of(values).value_at_rank(rank)
    expected = theirs.get_value_at_percentile(percent)
    if rank == 1:
        assert ours == min(values)
        assert theirs.values_are_equivalent(ours, expected)
    else:
        assert ours == min(expected, max(values))


@given(_VALUES.filter(bool), _Q)
def test_a_quantile_is_the_value_at_its_rank_to_three_digits(values: list[int], q: float) -> None:
    """Against the sorted list: never below the truth, above it by less than a thousandth, never past the greatest."""
    truth = sorted(values)
    rank = min(max(math.ceil(round(q * len(values), 9)), 1), len(values))
    exact = truth[rank - 1]
    found = _of(values).quantile(q)
    assert found is not None
    assert exact <= found <= min(exact * (1 + 1 / 1024), truth[-1])


@given(_VALUES)
def test_count_sum_least_and_greatest_are_exact(values: list[int]) -> None:
    """Nothing is rounded but the buckets; nothing recorded is None, not zero."""
    histogram = _of(values)
    assert histogram.count == len(values) == sum(histogram.counts.values())
    assert histogram.sum_ns == sum(values)
    assert histogram.min_ns == min(values, default=None)
    assert histogram.max_ns == max(values, default=None)
    assert histogram.mean_ns == (sum(values) / len(values) if values else None)
    if not values:
        assert histogram.quantile(0.5) is None


@given(_VALUES, _VALUES)
def test_merged_equals_recorded_in_one(first: list[int], second: list[int]) -> None:
    """In either order, and through the columns of a window."""
    one, other = _of(first), _of(second)
    one.merge(other)
    other.merge(_of(first))
    whole = _of(first + second)
    assert one == other == whole
    parts = Histogram.from_parts(
        *whole.sparse(),
        whole.sum_ns,
        -1 if whole.min_ns is None else whole.min_ns,
        -1 if whole.max_ns is None else whole.max_ns,
    )
    assert parts == whole
    assert parts.count == whole.count


@given(_NS, st.integers(min_value=0, max_value=50))
def test_recording_n_times_is_recording_n_times(value: int, times: int) -> None:
    """`record(v, n)` is n × `record(v)`; nought times changes nothing."""
    at_once = Histogram()
    at_once.record(value, times)
    assert at_once == _of([value] * times)
    assert at_once.count == times


@given(_VALUES, _NS)
def test_counting_above_a_value_is_off_only_inside_its_bucket(values: list[int], limit: int) -> None:
    """What shares the bucket with the limit is not counted; all above the bucket is."""
    above = len(values) - bisect_right(sorted(values), histogram_high(histogram_index(limit)))
    assert _of(values).count_above(limit) == above


def test_a_rank_suffers_no_rounding_error() -> None:
    """0.99 · 300 is 297.00000000000006 in floating point, and its rank is 297."""
    histogram = _of(list(range(1, 301)))
    assert histogram.quantile(0.99) == 297
    assert histogram.quantile(0.07 * 100 / 100) == 21


@pytest.mark.parametrize("rank", [4, 100])
def test_a_rank_past_the_last_value_is_an_error(rank: int) -> None:
    """There is no fourth of three values."""
    with pytest.raises(IndexError, match="of 3 values"):
        _of([1, 2, 3]).value_at_rank(rank)


def test_a_histogram_is_no_key() -> None:
    """It changes, so it must not be hashed; it is comparable, and equal to nothing of another type."""
    with pytest.raises(TypeError):
        hash(Histogram())
    assert Histogram() != 0
    assert repr(_of([5])) == "Histogram(count=1, min_ns=5, max_ns=5)"


@given(values=st.lists(st.integers(0, 10**12), max_size=60), more=st.lists(st.integers(0, 10**12), max_size=20))
def test_a_packed_histogram_is_the_same_one(values: list[int], more: list[int]):
    """Kept as arrays it equals the one it was packed from, merges like it, and takes further values."""
    import numpy as np

    plain = Histogram()
    for value in values:
        plain.record(value)
    indices, counts = plain.arrays()
    low, high = (-1, -1) if plain.min_ns is None else (plain.min_ns, plain.max_ns)

    def packed() -> Histogram:
        return Histogram.packed(np.array(indices), np.array(counts), plain.count, plain.sum_ns, low, high)

    merged = Histogram()
    merged.merge(packed())
    assert packed() == plain == merged
    assert packed().sparse() == plain.sparse()
    assert [packed().quantile(q) for q in (0.0, 0.5, 0.99, 1.0)] == [plain.quantile(q) for q in (0.0, 0.5, 0.99, 1.0)]
    grown = packed()
    for value in more:
        grown.record(value)
        plain.record(value)
    assert grown == plain
