"""Objectives: what would be good enough, as a value.

    p95 < 300ms                       every endpoint together
    POST /checkout: p99 < 800ms       one endpoint
    errors < 1%                       share of due requests whose outcome is not ok
    rate > 200/s                      correct answers per second
    apdex(500ms) > 0.9                Apdex with its threshold
    seconds(errors < 1%) > 99.9%      share of the seconds in which another objective holds

Several may stand in one text, separated by commas.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from surgeline import units

Metric = Literal["quantile", "mean", "max", "errors", "rate", "apdex", "seconds"]
_ONE = re.compile(
    r"(?:(?P<endpoint>.+?)\s*:\s+)?"
    r"(?P<metric>p\d+(?:\.\d+)?|mean|max|errors|rate|apdex\s*\(\s*(?P<t>[^)]+?)\s*\)"
    r"|seconds\s*\(\s*(?P<each>[^()]+?)\s*\))"
    r"\s*(?P<op><=|>=|<|>)\s*(?P<limit>[^<>=]+)"
)
LONGEST_TEXT = 1000
"""Characters of a text with objectives; an endpoint's name has up to 200."""

_LOWER_IS_BETTER = ("quantile", "mean", "max", "errors")


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective.

    `endpoint` None means every endpoint together. `quantile` is in 0..1 for metric "quantile", else None. `limit` is in
    ns for times, a ratio for errors, Apdex and seconds, per second for rate. `apdex_ns` is Apdex's T; `each` is what
    holds in a second that counts as good. `text` is how it was written.
    """

    text: str
    endpoint: str | None
    metric: Metric
    limit: float
    quantile: float | None = None
    apdex_ns: int | None = None
    each: "Objective | None" = None

    @property
    def upper(self) -> bool:
        """Whether the limit must not be exceeded (times, errors) rather than reached (rate, Apdex, seconds)."""
        return self.metric in _LOWER_IS_BETTER

    def spoken(self, where: bool = True) -> str:
        """The objective in the units of a page: `p95 < 300 ms`, `POST /checkout: errors < 1 %`, `rate > 200/s`.

        Without `where` its endpoint is left out.
        """
        limit: str
        if self.metric == "quantile":
            name, limit = f"p{(self.quantile or 0) * 100:g}", units.format_duration(self.limit)
        elif self.metric in ("mean", "max"):
            name, limit = self.metric, units.format_duration(self.limit)
        elif self.metric == "errors":
            name, limit = "errors", units.format_ratio(self.limit)
        elif self.metric == "rate":
            name, limit = "rate", units.format_rate(self.limit)
        elif self.each is not None:
            name, limit = f"seconds({self.each.spoken()})", units.format_ratio(self.limit)
        else:
            name, limit = f"apdex({units.format_duration(self.apdex_ns)})", f"{self.limit:g}"
        place = f"{self.endpoint}: " if where and self.endpoint is not None else ""
        return f"{place}{name} {'<' if self.upper else '>'} {limit}"


class ObjectiveError(ValueError):
    """A text that is not an objective; the message shows right ones."""


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives in a text, in order. Raises ObjectiveError with the part that is wrong, also for an empty text."""
    if len(text) > LONGEST_TEXT:
        raise ObjectiveError(f"an objective is one line of at most {LONGEST_TEXT} characters")
    found = tuple(_parse_one(part.strip()) for part in _split(text))
    if not found:
        raise ObjectiveError("an objective is missing; write for example `p95 < 300ms` or `errors < 1%`")
    return found


def _split(text: str) -> list[str]:
    """At commas outside of parentheses; a part that compares nothing is the beginning of an endpoint's name."""
    parts: list[str] = []
    held = ""
    for part in re.split(r",(?![^()]*\))", text):
        held += part
        if re.search("[<>]", part):
            parts.append(held)
            held = ""
        elif held.strip():
            held += ","
    return [*parts, held.rstrip(", ")] if held.strip(", ") else parts


def _parse_one(text: str) -> Objective:
    match = _ONE.fullmatch(text)
    if not match:
        raise ObjectiveError(
            f"{text!r} is not an objective; write for example `p95 < 300ms`, `errors < 1%` "
            "or `GET /search: p99 < 800ms`"
        )
    word, op, limit = match["metric"], match["op"][0], match["limit"].strip()
    metric: Metric
    quantile: float | None = None
    apdex_ns: int | None = None
    each: Objective | None = None
    try:
        if word.startswith("p"):
            metric, quantile, value = (
                "quantile",
                float(Decimal(word[1:]) / 100),
                float(units.parse_duration_ns(_with_unit(limit))),
            )
            if not 0 < quantile < 1:
                raise ObjectiveError(
                    f"{text!r}: a percentile lies between p0 and p100, and `max` is the greatest value"
                )
        elif word in ("mean", "max"):
            metric, value = (
                ("mean" if word == "mean" else "max"),
                float(units.parse_duration_ns(_with_unit(limit))),
            )
        elif word == "errors":
            metric, value = "errors", _share_of_errors(limit)
        elif word == "rate":
            metric, value = "rate", units.parse_rate_per_s(limit)
        elif word.startswith("seconds"):
            metric, value = "seconds", _share_of_seconds(limit)
            each = _in_each_second(match["each"], text)
        else:
            metric, value = "apdex", units.parse_ratio(limit)
            apdex_ns = units.parse_duration_ns(_with_unit(match["t"]))
    except units.UnitError as error:
        raise ObjectiveError(f"{text!r}: {error}") from error
    objective = Objective(text, match["endpoint"], metric, value, quantile, apdex_ns, each)
    if objective.upper != (op == "<"):
        raise ObjectiveError(f"{text!r} points the wrong way: write it with {'<' if objective.upper else '>'}")
    return objective


def _in_each_second(inner: str, text: str) -> Objective:
    """What a good second is. Only shares can be told of one second: a percentile, or errors."""
    try:
        each = _parse_one(inner)
    except ObjectiveError:
        each = None
    if each is None or each.endpoint is not None or each.metric not in ("quantile", "errors"):
        raise ObjectiveError(
            f"{text!r}: in the parentheses stands what a second must hold, a percentile or errors: "
            "`seconds(p95 < 300ms) > 99%`; an endpoint goes before it: `GET /search: seconds(errors < 1%) > 99%`"
        )
    return each


def _with_unit(limit: str) -> str:
    """A time without a unit is refused: 300 is far more often meant as milliseconds than as seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", limit):
        raise units.UnitError(f"{limit!r} has no unit; write for example {limit}ms or {limit}s")
    return limit


def _share_of_errors(limit: str) -> float:
    """A share; `1` without a percent sign would be all of them, and is meant as 1 % far more often."""
    ratio = units.parse_ratio(limit)
    if ratio >= 1 and "%" not in limit:
        raise units.UnitError(f"{limit!r} is every request; write for example {limit}% or 0.01")
    return ratio


def _share_of_seconds(limit: str) -> float:
    """A share of all seconds, below 1: no run is long enough to show that every second is good."""
    ratio = units.parse_ratio(limit)
    if not 0 < ratio < 1:
        raise units.UnitError(f"{limit!r} is not a share between 0 and 1; write for example 99% or 0.999")
    return ratio
