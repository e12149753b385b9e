"""How findings say numbers, loads and names, so that one quantity reads the same in every sentence.

Digits follow the interval: a value that is known to a tenth is not printed to a thousandth. Names come from plans and
scripts; here they are only shortened, escaping is the business of whoever prints.
"""

from collections.abc import Sequence

from surgeline import units
from surgeline.analysis.model import EndpointFigures, Estimate, StageFigures

LONGEST_NAME = 60
LARGE_FACTOR = 2.0
"""From this factor on a change reads better as `12×` than as `+1,100 %`."""


def name(text: str) -> str:
    """An endpoint's name, short enough for a sentence: of a long one the beginning and the end, where names differ."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 25]}…{text[-24:]}"


def names(texts: Sequence[str], most: int = 2) -> str:
    """`A`, `A and B`, `A, B and 3 more`."""
    shown = [name(text) for text in texts[:most]]
    left = len(texts) - len(shown)
    if left:
        return f"{', '.join(shown)} and {left} more"
    return " and ".join(shown)


def plural(count: float, one: str) -> str:
    """`1 user`, `64 users`, `1,200 requests`."""
    return f"{count:,g} {one if count == 1 else one + 's'}"


def level(value: float, model: str) -> str:
    """`64 users`, `300/s`."""
    return plural(round(value, 1), "user") if model == "closed" else units.format_rate(value)


def load(stage: StageFigures) -> str:
    """A stage by its load, after its own name where it has one: `64 users`, `spike 1 (300/s)`."""
    return f"{name(stage.own_name)} ({plain_load(stage)})" if stage.own_name else plain_load(stage)


def plain_load(stage: StageFigures) -> str:
    """A stage by its load alone: `300/s`, a ramp `1–64 users`, and its name where the load is not known.

    Sessions that arrive come before the requests they make: `10 sessions/s (30/s)`.
    """
    if stage.sessions is not None:
        first, last = (units.format_rate(rate).removesuffix("/s") for rate in stage.sessions)
        requests = _line(stage)
        noun = "session/s" if stage.sessions == (1.0, 1.0) else "sessions/s"
        return f"{last if first == last else f'{first}–{last}'} {noun} ({requests})"
    return _line(stage)


def _line(stage: StageFigures) -> str:
    if stage.start == stage.end == 0:
        return stage.name
    if stage.start == stage.end:
        return level(stage.end, stage.model)
    low = level(stage.start, stage.model).removesuffix("/s").removesuffix(" users").removesuffix(" user")
    return f"{low}–{level(stage.end, stage.model)}"


def loads(stages: Sequence[StageFigures]) -> str:
    """One load, or the first and the last of several: `1–4 users`."""
    first, last = stages[0], stages[-1]
    if first is last:
        return load(first)
    if plain_load(first) == plain_load(last):
        return plain_load(first)
    if any(stage.start != stage.end for stage in stages) and len({stage.model for stage in stages}) == 1:
        # A ramp among them: from the least level to the greatest, not one range behind another.
        least, most = min(min(s.start, s.end) for s in stages), max(max(s.start, s.end) for s in stages)
        low = level(least, first.model).removesuffix("/s").removesuffix(" users").removesuffix(" user")
        return f"{low}–{level(most, first.model)}"
    low, high = _line(first), _line(last)
    for unit in (" users", " user", "/s"):
        low = low.removesuffix(unit)
    return f"{low}–{high}"


def time(estimate: Estimate | float | None) -> str:
    """`41 ms [39–44]`, `3.2 s [≥ 2.9]`, and of a plain number `41 ms`; an en dash where nothing can be said.

    Where an estimate has no interval the brackets say why, as in the tables of a page: `41 ms [8 s only]`.
    """
    if estimate is None:
        return units.format_duration(None)
    if not isinstance(estimate, Estimate):
        return units.format_duration(estimate, 2 if estimate < 9.95e9 else 3)
    if estimate.value is None:
        return units.format_duration(None)
    low, high = estimate.low, estimate.high
    known = low is not None and high is not None and high - low < 0.1 * estimate.value
    value = units.format_duration(estimate.value, 3 if known or estimate.value >= 9.95e9 else 2)
    if low is None and high is None:
        return f"{value} [{estimate.brief}]" if estimate.brief else value
    return f"{value} [{units.format_ends(low, high, estimate.value)}]"


def share(estimate: Estimate) -> str:
    """`6.2 % [5.8–6.6]`; without its interval where that is not known."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return units.format_ratio(estimate.value)
    return f"{units.format_ratio(estimate.value)} [{units.format_ratios(estimate.low, estimate.high)}]"


def change(ratio: float) -> str:
    """A factor as people say it: `12×`, `+34 %`, `-3 %`, `±0 %`."""
    if ratio >= LARGE_FACTOR:
        return f"{ratio:,.0f}×" if ratio >= 9.95 else f"{ratio:.1f}×"
    percent = round((ratio - 1.0) * 100.0)
    return "±0 %" if percent == 0 else f"{percent:+d} %"


def rate(value_per_s: float | None, interval: tuple[float, float] | None = None) -> str:
    """`338/s`, and with its interval `338/s [332–344]`."""
    if value_per_s is None or interval is None:
        return units.format_rate(value_per_s)
    return f"{units.format_rate(value_per_s)} [{units.format_rates(*interval).removesuffix('/s')}]"


def goodput(figures: EndpointFigures) -> str:
    """A stage's right answers per second with their interval, `338/s [332–344]`; `338/s [too short]` of a short one."""
    if figures.goodput_per_s is not None and figures.goodput_interval is None:
        return f"{units.format_rate(figures.goodput_per_s)} [too short]"
    return rate(figures.goodput_per_s, figures.goodput_interval)
