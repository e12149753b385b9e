"""How long a user pauses: as it is written, and one draw of it.

A pause is a duration, a range drawn from evenly, or a distribution: exponential with a mean, for pauses without memory,
or lognormal with a median and the standard deviation of its logarithm, which is how long people read.

    even: low + (high − low)·u      exponential: −mean·ln u      lognormal: median·exp(σ·√(−2 ln u)·cos 2πv)

`u` and `v` are evenly distributed in (0, 1] and handed in.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surgeline import units

LONGEST_NS = 24 * 3600 * units.NS_PER_S
"""No draw is longer; the tail of a wide distribution has no meaning beyond."""
WIDEST_SIGMA = 5.0

_DRAWN = re.compile(r"~\s*(exp|lognormal)\s*\(([^,()]*)(?:,([^,()]*))?\)")


@dataclass(frozen=True, slots=True)
class Exponential:
    """Pauses without memory; `mean_ns` > 0. Written as `~exp(2s)`."""

    mean_ns: int


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Pauses whose logarithm is normal: `median_ns` > 0, `sigma` 0 to 5. Written as `~lognormal(1s, 0.5)`."""

    median_ns: int
    sigma: float


PauseValue = tuple[int, int] | Exponential | Lognormal
"""Shortest and longest in ns, both included, or a distribution."""


def parse_pause(value: Any) -> PauseValue:
    """The pause in `1s`, `1s..3s`, `~exp(2s)` or `~lognormal(1s, 0.5)`. Raises UnitError."""
    if isinstance(value, Exponential | Lognormal):
        return value
    if isinstance(value, str) and value.strip().startswith("~"):
        return _parse_drawn(value)
    if isinstance(value, str) and ".." in value:
        low, high = (units.parse_duration_ns(part) for part in value.split("..", 1))
    elif isinstance(value, tuple | list) and len(value) == 2:
        low, high = (units.parse_duration_ns(part) for part in value)
    else:
        low = high = units.parse_duration_ns(value)
    if high < low:
        raise units.UnitError(f"{value!r} ends before it begins; write the shorter pause first, as in 1s..3s")
    return low, high


def _parse_drawn(text: str) -> PauseValue:
    found = _DRAWN.fullmatch(text.strip())
    if not found or (found[1] == "exp") != (found[3] is None):
        raise units.UnitError(f"{text[:60]!r} is no pause; write for example ~exp(2s) or ~lognormal(1s, 0.5)")
    middle_ns = units.parse_duration_ns(found[2].strip())
    if middle_ns <= 0:
        raise units.UnitError(f"{text[:60]!r} has nothing to draw from; write for example ~exp(2s)")
    if found[1] == "exp":
        return Exponential(middle_ns)
    width = found[3].strip()
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", width) or float(width) > WIDEST_SIGMA:
        raise units.UnitError(f"{text[:60]!r}: the width is a number from 0 to 5, as in ~lognormal(1s, 0.5)")
    return Lognormal(middle_ns, float(width))


def pause_text(pause: PauseValue, duration_text: Callable[[int], str]) -> str:
    """The text that `parse_pause` reads back."""
    match pause:
        case Exponential(mean_ns):
            return f"~exp({duration_text(mean_ns)})"
        case Lognormal(median_ns, sigma):
            return f"~lognormal({duration_text(median_ns)}, {sigma:g})"
    return "..".join(duration_text(end) for end in dict.fromkeys(pause))


def pause_data(pause: PauseValue) -> Any:
    """As the engines are told: `[low, high]` in ns, or a distribution by its parameters."""
    match pause:
        case Exponential(mean_ns):
            return {"exponential_ns": mean_ns}
        case Lognormal(median_ns, sigma):
            return {"lognormal_ns": median_ns, "sigma": sigma}
    return list(pause)


def draw_ns(told: Any, uniform: Callable[[], float]) -> int:
    """One pause from what `pause_data` told; `uniform` draws from (0, 1]."""
    if isinstance(told, dict) and "exponential_ns" in told:
        return min(int(told["exponential_ns"] * -math.log(uniform())), LONGEST_NS)
    if isinstance(told, dict):
        normal = math.sqrt(-2.0 * math.log(uniform())) * math.cos(math.tau * uniform())
        return min(int(told["lognormal_ns"] * math.exp(told["sigma"] * normal)), LONGEST_NS)
    low, high = told
    return int(low if low == high else low + round((high - low) * uniform()))
