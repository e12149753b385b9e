"""What does the document say about capacity, the kind of limit, and the served process?

A summary comes in, the three parts leave, None for what the run has not: other runs than searches have no capacity,
targets elsewhere no process to see.
"""

from typing import Any

from surgeline import units
from surgeline.analysis.capacity_search import Tried
from surgeline.analysis.model import Summary
from surgeline.report.text import LONGEST_SENTENCE, shown
from surgeline.report.verdict import objective_text

BESIDE = ("settle", "overrun")
"""Parts of a search whose times are those of what went before, not of their own load."""

MOST_TRIED = 60


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 9)


def capacity_part(summary: Summary) -> dict[str, Any] | None:
    """What a search found."""
    found = summary.capacity
    if found is None:
        return None
    written = {result.objective.text: objective_text(result.objective) for result in summary.objectives}
    knee = found.knee
    return {
        "rate_per_s": _number(found.rate_per_s),
        "low_per_s": _number(found.low),
        "high_per_s": _number(found.high),
        "at_least": found.at_least,
        "stopped": found.stopped,
        "broken": shown(written.get(found.broken, found.broken)) or None,
        "endpoint": shown(found.endpoint) or None,
        "knee": None if knee is None else {"low_per_s": _number(knee.low), "high_per_s": _number(knee.high)},
        "held": found.held,
        "held_ns": round(found.held_s * units.NS_PER_S) if found.held != "not tried" else None,
        "recovered": found.recovered,
        "recovery_ns": None if found.recovery_s is None else round(found.recovery_s * units.NS_PER_S),
        "floor_ns": None if found.floor_ns is None else round(found.floor_ns),
        "steps": found.steps,
        "took_ns": round(found.seconds * units.NS_PER_S),
        "wide": shown(found.wide),
        "tried": [_tried(tried) for tried in found.tried if tried.role != "settle"][:MOST_TRIED],
    }


def _tried(tried: Tried) -> dict[str, Any]:
    return {
        "stage": tried.index,
        "role": tried.role,
        "rate_per_s": _number(tried.rate_per_s),
        "passed": tried.passed,
        "score": _number(tried.score),
        "completed_per_s": _number(tried.completed_per_s),
    }


def limit_part(summary: Summary) -> dict[str, str] | None:
    """What kind of limit was met."""
    limit = summary.limit
    return None if limit is None else {"kind": limit.kind, "evidence": shown(limit.evidence, LONGEST_SENTENCE)}


def server_part(summary: Summary) -> dict[str, Any] | None:
    """What the served process used."""
    server = summary.server
    if server is None:
        return None
    return {
        "found": shown(server.found),
        "processes": server.processes,
        "cores": server.cores,
        "cpu_ratio_mean": _number(server.cpu_ratio_mean),
        "cpu_ratio_max": _number(server.cpu_ratio_max),
        "machine_cpu_ratio_max": _number(server.machine_cpu_max),
        "rss_first_bytes": server.rss_first_bytes,
        "rss_last_bytes": server.rss_last_bytes,
        "rss_max_bytes": server.rss_max_bytes,
        "threads_max": server.threads_max,
        "descriptors_max": server.descriptors_max,
    }
