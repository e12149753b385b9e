"""Do a few requests take ten times as long as the others?"""

from surgeline import units
from surgeline.analysis.marks import Tail
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

LEAST_SHARE = 0.005
TIMES_OTHERS = 2.0
"""What hits all endpoints alike is a matter of the machine, not of an endpoint."""
MOST = 3
FEWEST_FOR_PRAISE = 3


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint, the costliest first; where there is none, that."""
    marks = summary.traits.marks
    alone = len(summary.endpoints) > 1
    tails = [
        tail
        for tail in marks.tails
        if tail.low > max(LEAST_SHARE, TIMES_OTHERS * tail.others if alone else 0.0)
        and not _has_modes(summary, tail.endpoint)
    ]
    if not tails:
        return [_well(summary)] if marks.tails_looked >= FEWEST_FOR_PRAISE and not marks.tails else []
    return sorted((_finding(tail) for tail in tails), key=lambda finding: -finding.impact_s)[:MOST]


def _has_modes(summary: Summary, endpoint: str) -> bool:
    """Whether latency.bimodal says it better."""
    return any(traits.name == endpoint and traits.modes is not None for traits in summary.traits.endpoints)


def _finding(tail: Tail) -> Finding:
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{wording.name(tail.endpoint)} has a heavy tail: {units.format_ratio(tail.slow / tail.n)} of its requests "
            f"({tail.slow} of {tail.n:,}, at the lower loads) take about {wording.time(tail.slow_ns)}, "
            f"{wording.change(tail.slow_ns / tail.median_ns)} the median of {wording.time(tail.median_ns)}."
        ),
        confidence=confidence(True, 1),
        endpoint=tail.endpoint,
        n=tail.n,
        evidence=(
            {
                "endpoint": tail.endpoint, "n": tail.n, "slow": tail.slow, "share_at_least": tail.low,
                "others_share": tail.others, "median_ns": tail.median_ns, "slow_ns": tail.slow_ns,
            },
        ),
        next_step=RULE.next_step,
        impact_s=(tail.slow_ns - tail.median_ns) * tail.slow / 1e9,
    )  # fmt: skip


def _well(summary: Summary) -> Finding:
    looked = summary.traits.marks.tails_looked
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=f"No heavy tail: none of {looked} endpoints keeps taking ten times its median at the lower loads.",
        confidence="medium",
        endpoint=None,
        n=summary.total.tally.ok,
        evidence=(),
        next_step="",
        impact_s=0.0,
    )


RULE = Rule(
    id="latency.heavy_tail",
    title="A heavy tail",
    question="Do a few of an endpoint's requests take ten times as long as its median, again and again?",
    statistic="share of ok requests with a service time above ten times the endpoint's median, at the lower loads",
    threshold=(
        "the lower end of its 95 % interval is above 0.5 % and twice that of the middle one of the other "
        "endpoints; at most 10 %"
    ),
    guard=(
        "at least 60 requests and 4 slow ones, 50 ms above the median, in three of four quarters of the time; "
        "requests "
        "that met a stall do not count; the loads up to half of the highest only, so that queues play no part"
    ),
    why="Whoever loads a page with thirty requests meets one in a hundred on every fourth page.",
    next_step="Look at the slowest exchanges that were kept: what do they have in common that the others have not?",
    judge=judge,
)
