"""Does the server itself say where the time goes?"""

from surgeline import units
from surgeline.analysis.marks import OwnTime
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

MOST_OF_IT = 0.5
LEAST_NS = 20e6
MOST = 3


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint that spends most of its time in one thing; where there is none, that."""
    marks = summary.traits.marks
    long = [one for one in marks.own_times if one.share >= MOST_OF_IT and one.own_ns >= LEAST_NS]
    if long:
        counts = {figures.name: figures.tally.ok for figures in summary.endpoints}
        found = [_finding(one, counts.get(one.endpoint, one.n)) for one in long]
        return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]
    return [_well(marks.timed, max(marks.own_times, key=lambda one: one.own_ns))] if marks.own_times else []


def _finding(one: OwnTime, count: int) -> Finding:
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{wording.name(one.endpoint)} spends {units.format_ratio(one.share)} of its time in "
            f"{wording.name(one.metric)}, as the server itself says (Server-Timing): {wording.time(one.own_ns)} of "
            f"{wording.time(one.service_ns)} (medians of {one.n:,} answers at the lower loads)."
        ),
        confidence=confidence(True, 1),
        endpoint=one.endpoint,
        n=one.n,
        evidence=(
            {
                "endpoint": one.endpoint, "metric": one.metric, "own_ns": one.own_ns,
                "service_ns": one.service_ns, "share": one.share, "n": one.n,
            },
        ),
        next_step=RULE.next_step,
        impact_s=one.own_ns * count / 2e9,
    )  # fmt: skip


def _well(timed: int, most: OwnTime) -> Finding:
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=(
            f"By its own account (Server-Timing, {wording.plural(timed, 'endpoint')}) the server spends nowhere 20 "
            "ms and "
            f"half of the time in one thing; most in {wording.name(most.metric)} of {wording.name(most.endpoint)}, "
            f"{wording.time(most.own_ns)}."
        ),
        confidence="medium",
        endpoint=None,
        n=most.n,
        evidence=(),
        next_step="",
        impact_s=0.0,
    )


RULE = Rule(
    id="http.server_timing",
    title="Where the server says the time goes",
    question="Do answers name, in Server-Timing, one thing in which an endpoint spends most of its time?",
    statistic="for each endpoint the named duration with the greatest median, and the median of its share of the time",
    threshold="half of the service time or more, and 20 ms or more",
    guard=(
        "at least 30 answers that name it, at the loads up to half of the highest; names that mean everything (total, "
        "app) do not count"
    ),
    why="What the server measured itself is the strongest hint there is at where to look first.",
    next_step="Look at that part first: for a database at its slowest statement and how many there are in a request.",
    judge=judge,
)
