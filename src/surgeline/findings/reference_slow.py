"""Is an endpoint slower than its kind usually is, where nobody has said what would be good enough?"""

import re
from collections.abc import Mapping
from typing import Any

from surgeline import units
from surgeline.analysis.model import EndpointFigures, Estimate, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import of, usable
from surgeline.findings.model import Finding, Rule

FEWEST = 72
"""What a p95 needs."""
LONGEST_PATTERN = 500


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together; none where there are objectives on times, or no references."""
    if any(result.objective.metric in ("quantile", "mean", "max") for result in summary.objectives):
        return []
    stages = usable(summary)[:1]
    slow = []
    for figures in summary.endpoints:
        light = of(stages[0], figures.name) if stages else None
        entry = expected(summary.run, figures.name)
        p95 = light.response.quantiles[0.95] if light is not None else None
        if (
            entry is None
            or light is None
            or p95 is None
            or p95.value is None
            or light.response.histogram.count < FEWEST
        ):
            continue
        least = p95.low if p95.low is not None else p95.value
        if least > _ns(entry, "acceptable_ms"):
            slow.append((p95.value / _ns(entry, "acceptable_ms"), figures, p95, entry))
    if not slow:
        return []
    slow.sort(key=lambda item: (-item[0], item[1].name))
    return [_finding(slow, doubtful(stages))]


def expected(run: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The reference for an endpoint of that name: the first entry that matches; None where none does."""
    method, _, path = name.partition(" ")
    for entry in run.get("reference_times") or ():
        if not isinstance(entry, Mapping) or method.upper() not in (entry.get("methods") or ()):
            continue
        pattern = str(entry.get("path") or "")[:LONGEST_PATTERN]
        try:
            if re.search(pattern, path[:200]):
                return entry if _ns(entry, "acceptable_ms") > 0 else None
        except re.error:
            continue
    return None


def _ns(entry: Mapping[str, Any], key: str) -> float:
    value = entry.get(key)
    return float(value) * units.NS_PER_MS if isinstance(value, int | float) else 0.0


def _finding(slow: list[tuple[float, EndpointFigures, Estimate, Mapping[str, Any]]], doubted: bool) -> Finding:
    _, worst, p95, entry = slow[0]
    more = f" {wording.plural(len(slow) - 1, 'more endpoint')} beside it." if len(slow) > 1 else ""
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{wording.name(worst.name)} has a p95 of {wording.time(p95)} already at the lightest load, where for a "
            f"{entry.get('kind')} up to {units.format_duration(_ns(entry, 'acceptable_ms'))} is usual: a convention "
            f"({entry.get('source')}, {entry.get('year')}), not a limit of yours.{more}"
        ),
        confidence=confidence(False, 1, doubtful=doubted),
        endpoint=worst.name if len(slow) == 1 else None,
        n=sum(figures.tally.ok for _, figures, _, _ in slow),
        evidence=tuple(
            {
                "endpoint": figures.name,
                "p95_ns": value.value,
                "kind": held.get("kind"),
                "good_ns": _ns(held, "good_ms"),
                "acceptable_ns": _ns(held, "acceptable_ms"),
                "source": held.get("source"),
                "year": held.get("year"),
            }
            for _, figures, value, held in slow
        ),
        next_step=RULE.next_step,
        impact_s=0.0,
    )


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if any(result.objective.metric in ("quantile", "mean", "max") for result in summary.objectives):
        return ""
    stages = usable(summary)[:1]
    looked = [
        figures.name
        for figures in summary.endpoints
        if stages
        and expected(summary.run, figures.name) is not None
        and (light := of(stages[0], figures.name)) is not None
        and light.response.histogram.count >= FEWEST
    ]
    if not looked:
        return ""
    return (
        "At the lightest load none is clearly slower than what people are used to, of "
        f"{wording.plural(len(looked), 'endpoint')} of a kind that a convention is known for."
    )


RULE = Rule(
    id="reference.slow",
    title="Slower than its kind usually is",
    question="Where no objective says what is good enough: is an endpoint slower than its kind usually is?",
    statistic="p95 at the lightest load, against the reference times that the run was given",
    threshold="the lower end of its interval is above what is acceptable for its kind",
    guard="silent as soon as there is an objective on times; 72 answers at the lightest load; ranked behind all else",
    why="Conventions say what people are used to; they are a place to begin, and no more.",
    next_step="Say what would be good enough as an objective (--slo), or edit reference-times.json beside your runs.",
    judge=judge,
    cleared=cleared,
)
