"""Durations, rates, sizes and ratios: parsed and printed here only.

Inside, a duration is integer nanoseconds, a rate is requests per second as a float, a size is integer bytes and a
ratio lies in 0..1. People write and read `1m30s`, `12k/m`, `10kB`, `0.4 %`. Everything that crosses that border goes
through this module, so that one quantity looks the same on the command line, in a plan, on a page and in a test.
"""

import math
import re
from decimal import ROUND_HALF_EVEN, Decimal

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_DURATION_UNITS_NS: dict[str, int] = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86400 * NS_PER_S,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)\s*(?:/\s*(s|m|h))?")
_RATE_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SCALE = {"": 1.0, "k": 1e3, "M": 1e6}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
_SIZE_BYTES = {
    None: 1,
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")

LONGEST_NS = 366 * 86400 * NS_PER_S
"""No duration a person writes may exceed a leap year: beyond it, a typing error is likelier than a wish."""


HIGHEST_RATE_PER_S = 1e9
"""One request per nanosecond."""

LARGEST_BYTES = 1 << 62
"""Sizes are stored in 64 bits."""


class UnitError(ValueError):
    """A text that is not the quantity it should be. Its message is one sentence that shows a right example."""


def parse_duration_ns(text: str | int | float) -> int:
    """The nanoseconds in `90`, `90s`, `1m30s`, `2h`, `1.5 s` or `250ms`. A bare number means seconds.

    Exact to the nanosecond. Raises UnitError for anything else, for negative durations and for more than a year.
    """
    wrong = UnitError(f"{_cited(text)} is not a duration; write for example 30s, 1m30s or 250ms")
    number = _number(text)
    if number is not None:
        if not 0 <= number < math.inf:
            raise wrong
        return _within_a_year(Decimal(number if isinstance(number, int) else repr(number)) * NS_PER_S, text)
    if not _is_short_text(text):
        raise wrong
    compact = str(text).replace(" ", "")
    if _NUMBER.fullmatch(compact):
        return _within_a_year(Decimal(compact) * NS_PER_S, text)
    total, at = Decimal(0), 0
    for part in _DURATION_PART.finditer(compact):
        if part.start() != at:
            break
        total += Decimal(part[1]) * _DURATION_UNITS_NS[part[2]]
        at = part.end()
    if not compact or at != len(compact):
        raise wrong
    return _within_a_year(total, text)


def _number(value: object) -> int | float | None:
    """The value where it is a number, and true and false are none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_short_text(value: object) -> bool:
    """Whether the value is a text that could be a quantity; a longer one is not even looked at."""
    return isinstance(value, str) and len(value) <= 500


def _cited(value: object) -> str:
    """A value as a complaint shows it: quoted, and no longer than a line."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return "a number of that many digits"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:78] + "…'"


def _within_a_year(value_ns: Decimal, text: object) -> int:
    if value_ns > LONGEST_NS:
        raise UnitError(f"{_cited(text)} is longer than a year; a duration without a unit is read as seconds")
    return int(value_ns.to_integral_value(ROUND_HALF_EVEN))


def parse_rate_per_s(text: str | int | float) -> float:
    """The requests per second in `200/s`, `12k/m`, `0.5/s` or a bare number (per second).

    Raises UnitError for anything else and for negative or infinite rates.
    """
    wrong = UnitError(f"{_cited(text)} is not a rate; write for example 200/s, 12k/m or 0.5/s")
    number = _number(text)
    if number is None:
        match = _RATE.fullmatch(str(text).strip().removesuffix("rps").strip()) if _is_short_text(text) else None
        if not match:
            raise wrong
        number = float(match[1]) * _SCALE[match[2]] / _RATE_SECONDS[match[3] or "s"]
    if not 0 <= number <= HIGHEST_RATE_PER_S:
        raise wrong
    return float(number)


def parse_size_bytes(text: str | int) -> int:
    """The bytes in `512`, `10kB` (1,000 each) or `4KiB` (1,024 each). Raises UnitError for anything else."""
    wrong = UnitError(f"{_cited(text)} is not a size; write for example 512, 10kB or 4MiB")
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= LARGEST_BYTES:
        return text
    match = _SIZE.fullmatch(str(text).strip()) if _is_short_text(text) else None
    if not match:
        raise wrong
    value = Decimal(match[1]) * _SIZE_BYTES[match[2]]
    if value > LARGEST_BYTES:
        raise wrong
    return int(value.to_integral_value(ROUND_HALF_EVEN))


def parse_ratio(text: str | float) -> float:
    """The ratio in `1%`, `0.5 %` or `0.01`. Raises UnitError for anything outside 0 to 100 %."""
    number = _number(text)
    match = _RATIO.fullmatch(str(text).strip()) if _is_short_text(text) else None
    if match:
        number = float(match[1]) / (100.0 if match[2] else 1.0)
    if number is None or not 0.0 <= number <= 1.0:
        raise UnitError(f"{_cited(text)} is not a share; write for example 1%, 0.5% or 0.01")
    return float(number)


def format_duration(value_ns: float | None, digits: int = 3) -> str:
    """`12.3 ms`: the largest unit that leaves at least one whole digit, to `digits` significant digits.

    None, "not measured", is an en dash. Zero is `0 ms`. Past two minutes `3 min 20 s`, past two hours `2 h 5 min`.
    """
    if value_ns is None:
        return "–"
    if value_ns < 0:
        return "-" + format_duration(-value_ns, digits)
    if value_ns == 0:
        return "0 ms"
    seconds = round(value_ns / NS_PER_S)
    if seconds >= 7200:
        minutes = round(value_ns / (60 * NS_PER_S))
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    if seconds >= 120:
        return f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds % 60 else "")
    for unit, size_ns in (("s", NS_PER_S), ("ms", NS_PER_MS), ("µs", NS_PER_US), ("ns", 1)):
        # The half step keeps 999.6 µs from printing as "1000 µs".
        if value_ns >= size_ns * (1 - 0.5 * 10.0**-digits) or unit == "ns":
            return f"{_significant(value_ns / size_ns, digits)} {unit}"
    raise AssertionError("unreachable: every positive duration has a unit")


def format_ends(low_ns: float | None, high_ns: float | None, like_ns: float) -> str:
    """An interval in the unit in which its duration is printed: `0.8–2.4` of 1.25 s; `≥ 653`, `≤ 892` with one end.

    No more digits than it supports: both ends go outwards to a power of ten of at most a quarter of its half width.
    Past two minutes, where a duration takes two units, they keep their own.
    """
    sizes = {"s": NS_PER_S, "ms": NS_PER_MS, "µs": NS_PER_US, "ns": 1}
    unit = format_duration(like_ns).rpartition(" ")[2]
    own = max(low_ns or 0.0, high_ns or 0.0, like_ns) >= 120 * NS_PER_S or unit not in sizes

    def end(value_ns: float) -> str:
        return format_duration(value_ns) if own else _significant(value_ns / sizes[unit], 3)

    if low_ns is None or high_ns is None:
        return f"≥ {end(low_ns)}" if low_ns is not None else f"≤ {end(high_ns or 0.0)}"
    if not own and high_ns > low_ns:
        step = 10.0 ** math.floor(math.log10((high_ns - low_ns) / sizes[unit] / 8.0)) * sizes[unit]
        # A hair's breadth, so that an end which is a multiple already stays where it is.
        high_ns = math.ceil(high_ns / step - 1e-6) * step
        # What is more than nothing is not printed as nothing: it keeps its first digit.
        step = step if low_ns >= step else 10.0 ** math.floor(math.log10(max(low_ns, 1.0)))
        low_ns = math.floor(low_ns / step + 1e-6) * step
    return f"{end(low_ns)}–{end(high_ns)}"


def format_rate(value_per_s: float | None, digits: int = 3) -> str:
    """`1.2 k/s`, `318/s`, `0.5/s`; None is an en dash."""
    if value_per_s is None:
        return "–"
    if value_per_s >= 999_500:
        return f"{_significant(value_per_s / 1e6, digits)} M/s"
    if value_per_s >= 9_995:
        return f"{_significant(value_per_s / 1e3, digits)} k/s"
    return f"{_significant(value_per_s, digits)}/s"


def format_rates(low_per_s: float, high_per_s: float) -> str:
    """`171–219/s`: from one rate to another."""
    return f"{format_rate(low_per_s).removesuffix('/s')}–{format_rate(high_per_s)}"


def format_count(value: int | None) -> str:
    """`90,000`; None is an en dash."""
    return "–" if value is None else f"{value:,}"


def format_size(value_bytes: float | None, digits: int = 3) -> str:
    """`212 kB`, in steps of 1,000; None is an en dash."""
    if value_bytes is None:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # As above: 999.6 kB is 1 MB.
        if value_bytes >= size * (1 - 0.5 * 10.0**-digits):
            return f"{_significant(value_bytes / size, digits)} {unit}"
    return f"{value_bytes:.0f} B"


def format_ratio(ratio: float | None, digits: int = 2) -> str:
    """`0.4 %`, `12 %`, `0 %`; None is an en dash. A ratio that is not zero never prints as `0 %`."""
    if ratio is None:
        return "–"
    percent = ratio * 100.0
    if percent == 0:
        return "0 %"
    if abs(percent) < 0.001:
        return "< 0.001 %" if percent > 0 else "> -0.001 %"
    if 99.0 < percent < 100.0:
        # 99.96 % must not read as 100 %: what is missing to the whole carries the digits.
        return f"{100 - float(_significant(100 - percent, digits)):g} %"
    return f"{_significant(percent, digits)} %"


def format_ratios(low: float | None, high: float | None) -> str:
    """The interval of a ratio as it stands behind it: `5.8–6.6` of 6.2 %; `≥ 5.8`, `≤ 6.6` with one end."""
    ends = ["" if end is None else format_ratio(end).removesuffix(" %") for end in (low, high)]
    return "–".join(ends) if all(ends) else f"≥ {ends[0]}" if ends[0] else f"≤ {ends[1]}"


def _significant(value: float, digits: int) -> str:
    """`value` to `digits` significant digits, never in exponent form; whole digits are never cut off."""
    if value == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    rounded = round(value, places)
    if rounded != 0 and math.floor(math.log10(abs(rounded))) > math.floor(math.log10(abs(value))):
        places -= 1
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
