"""Durations, rates, sizes and shares: read exactly as people write them, printed as people say them."""

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from surgeline import units

_READERS = (units.parse_duration_ns, units.parse_rate_per_s, units.parse_size_bytes, units.parse_ratio)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("90", 90_000_000_000),
        (90, 90_000_000_000),
        (0.25, 250_000_000),
        ("90s", 90_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1 m 30 s", 90_000_000_000),
        ("2h", 7_200_000_000_000),
        ("1d", 86_400_000_000_000),
        ("1.5 s", 1_500_000_000),
        ("250ms", 250_000_000),
        ("10us", 10_000),
        ("10µs", 10_000),
        ("7ns", 7),
        ("0", 0),
        ("31622399999999999ns", 31_622_399_999_999_999),
    ],
)
def test_a_duration_is_read_to_the_nanosecond(text: str | float, ns: int) -> None:
    """Also where a float could not hold it: the last one has seventeen digits."""
    assert units.parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1x", "1s2", "s1", "1m 30", "1.s", "1e3", "nan", "inf", "1,5s", "1s-"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    """The sentence cites what was written and shows three right ones."""
    with pytest.raises(units.UnitError, match="is not a duration; write for example 30s, 1m30s or 250ms"):
        units.parse_duration_ns(text)


@pytest.mark.parametrize("text", ["367d", 10**12, "9" * 400, 10**4000])
def test_more_than_a_year_is_a_typing_error(text: str | int) -> None:
    """However many digits it has."""
    with pytest.raises(units.UnitError, match="longer than a year"):
        units.parse_duration_ns(text)


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("200/s", 200.0),
        ("200", 200.0),
        (200, 200.0),
        ("12k/m", 200.0),
        ("0.5/s", 0.5),
        ("3600/h", 1.0),
        ("1M/s", 1e6),
        ("50rps", 50.0),
        ("50 / s", 50.0),
        (0, 0.0),
    ],
)
def test_a_rate_is_read_per_second(text: str | float, per_s: float) -> None:
    """Whatever the period and the scale it was written with."""
    assert units.parse_rate_per_s(text) == pytest.approx(per_s, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), (512, 512), ("10kB", 10_000), ("10 KB", 10_000), ("4KiB", 4096), ("1.5MB", 1_500_000)],
)
def test_a_size_is_read_in_thousands_unless_it_says_kibi(text: str | int, size: int) -> None:
    """kB is 1,000 bytes and KiB is 1,024."""
    assert units.parse_size_bytes(text) == size


@pytest.mark.parametrize(("text", "ratio"), [("1%", 0.01), ("0.5 %", 0.005), ("0.01", 0.01), (1, 1.0), ("100%", 1.0)])
def test_a_share_is_read_as_percent_or_ratio(text: str | float, ratio: float) -> None:
    """Percent exists on pages and in plans only; inside it is a ratio."""
    assert units.parse_ratio(text) == pytest.approx(ratio, rel=1e-15)


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (units.parse_rate_per_s, ["", "fast", "-1/s", "1/d", "9" * 400, math.inf, math.nan, -1, "1e3"]),
        (units.parse_size_bytes, ["", "1TB", -1, "-1", 1 << 63, "9" * 400, "9999999999GiB"]),
        (units.parse_ratio, ["", "101%", 1.5, -0.1, "half", math.nan, "9" * 400]),
    ],
)
def test_what_is_no_quantity_is_refused(read: object, values: list[object]) -> None:
    """One UnitError with a right example, never another exception and never a guess."""
    assert callable(read)
    for value in values:
        with pytest.raises(units.UnitError, match="write for example"):
            read(value)


@given(st.one_of(st.none(), st.booleans(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()), st.binary()))
def test_other_types_are_no_quantity(value: object) -> None:
    """True is not one second, and a list is nothing."""
    for read in _READERS:
        with pytest.raises(units.UnitError):
            read(value)  # type: ignore[operator]


@given(st.one_of(st.text(), st.floats(), st.integers()))
@example("٣s")
def test_a_reader_returns_a_legal_value_or_a_unit_error(value: str | float) -> None:
    """No text or number makes a reader break, and a complaint about it stays one short line."""
    for read in _READERS:
        try:
            result = read(value)  # type: ignore[operator]
        except units.UnitError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 250
        else:
            assert math.isfinite(result)
            assert result >= 0


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (1, "1 ns"),
        (999, "999 ns"),
        (12_345_678, "12.3 ms"),
        (999_499, "999 µs"),
        (999_600, "1 ms"),
        (1_000_000_000, "1 s"),
        (1_234_567_890, "1.23 s"),
        (119_400_000_000, "119 s"),
        (119_970_000_000, "2 min"),
        (200_000_000_000, "3 min 20 s"),
        (7_199_700_000_000, "2 h"),
        (7_500_000_000_000, "2 h 5 min"),
        (-12_300_000, "-12.3 ms"),
    ],
)
def test_a_duration_is_printed_as_people_say_it(ns: int | None, text: str) -> None:
    """Three significant digits in the largest unit that leaves a whole one; not measured is a dash, not zero."""
    assert units.format_duration(ns) == text


@given(st.integers(min_value=1, max_value=119 * 10**9))
def test_a_printed_duration_is_off_by_at_most_half_of_its_last_digit(ns: int) -> None:
    """Read back, it is within 0.5 % of the value, and it never shows four digits before the unit."""
    text = units.format_duration(ns)
    back = units.parse_duration_ns(text)
    assert abs(Fraction(back - ns, ns)) <= Fraction(5, 1000)
    assert len(text.split()[0].split(".")[0]) <= 3


@pytest.mark.parametrize(
    ("per_s", "text"),
    [
        (None, "–"),
        (0, "0/s"),
        (0.5, "0.5/s"),
        (318.2, "318/s"),
        (1234.4, "1,234/s"),
        (12_345, "12.3 k/s"),
        (999_600, "1 M/s"),
    ],
)
def test_a_rate_is_printed_with_its_period(per_s: float | None, text: str) -> None:
    """Whole digits are never rounded away below ten thousand."""
    assert units.format_rate(per_s) == text


def test_a_range_of_rates_names_its_unit_once() -> None:
    """The unit stands behind the second, and the first keeps its thousands."""
    assert units.format_rates(171.2, 219) == "171–219/s"
    assert units.format_rates(9_000, 12_300) == "9,000–12.3 k/s"


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (212_345, "212 kB"), (999_600, "1 MB"), (5e9, "5 GB")],
)
def test_a_size_is_printed_in_steps_of_a_thousand(size: float | None, text: str) -> None:
    """999.6 kB is 1 MB, not 1,000 kB."""
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "–"),
        (0, "0 %"),
        (0.004, "0.4 %"),
        (0.12, "12 %"),
        (1.0, "100 %"),
        (0.9996, "99.96 %"),
        (0.99999, "99.999 %"),
        (1e-7, "< 0.001 %"),
        (-1e-7, "> -0.001 %"),
        (1.5, "150 %"),
    ],
)
def test_a_ratio_is_printed_as_percent(ratio: float | None, text: str) -> None:
    """Nearly all is not all, and nearly nothing is not nothing."""
    assert units.format_ratio(ratio) == text


@given(st.floats(min_value=0, max_value=1))
def test_only_zero_prints_as_zero_and_only_one_as_all(ratio: float) -> None:
    """`0 %` and `100 %` are claims about every single request."""
    text = units.format_ratio(ratio)
    assert (text == "0 %") == (ratio == 0)
    if text == "100 %":
        assert ratio > 0.999_999


@given(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e18)))
def test_nothing_is_printed_in_exponent_form(value: float | None) -> None:
    """A page never shows 1e+06."""
    for show in (units.format_rate, units.format_size, units.format_duration):
        assert "e+" not in show(value)


def test_counts_have_thousands_separators_and_absence_is_a_dash() -> None:
    """90,000 is read at a glance; nothing counted is not zero."""
    assert [units.format_count(value) for value in (None, 0, 90_000)] == ["–", "0", "90,000"]


@pytest.mark.parametrize(
    ("low", "high", "like", "text"),
    [
        (242e6, 307e6, 272e6, "242–307"),
        (824e6, 2.33e9, 1.25e9, "0.8–2.4"),
        (835e6, 1.3e9, 981e6, "830–1,300"),
        (6.4e6, 251e6, 91.2e6, "6–260"),
        (5e6, 5e6, 5e6, "5–5"),
        (653e6, None, 758e6, "≥ 653"),
        (None, 892e6, 758e6, "≤ 892"),
        (100e9, 250e9, 130e9, "100 s–4 min 10 s"),
    ],
)
def test_an_interval_is_printed_in_the_unit_of_what_it_is_of(
    low: float | None, high: float | None, like: float, text: str
) -> None:
    """Without a unit of its own, outwards to the digits that it supports; what is more than nothing stays so."""
    assert units.format_ends(low, high, like) == text
