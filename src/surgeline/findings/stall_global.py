"""Were there moments in which nothing at all was answered?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule


def judge(summary: Summary) -> list[Finding]:
    """One finding for all gaps; none where a regular stall was found, which says it better, or all is that slow."""
    gaps = summary.traits.gaps
    usual = summary.total.response.quantiles[0.5].value or 0.0
    # Where a request takes as long as a gap, nothing coming for a while is how it always is.
    gaps = tuple(gap for gap in gaps if gap.end_ns - gap.begin_ns > 3.0 * usual)
    if not gaps or summary.stalls or summary.traits.rows < summary.total.tally.due * 0.5:
        return []
    longest = max(gaps, key=lambda gap: gap.end_ns - gap.begin_ns)
    length = longest.end_ns - longest.begin_ns
    times = "once" if len(gaps) == 1 else f"{len(gaps)} times"
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"Everything stood still {times}: at {units.format_duration(longest.begin_ns, 3)} into "
                "the run no request "
                f"was answered for {wording.time(float(length))} while {longest.in_flight} waited."
            ),
            confidence=confidence(True, len(gaps)),
            endpoint=None,
            n=sum(gap.in_flight for gap in gaps),
            evidence=tuple(
                {"at_ns": gap.begin_ns, "lasted_ns": gap.end_ns - gap.begin_ns, "in_flight": gap.in_flight}
                for gap in sorted(gaps, key=lambda gap: gap.begin_ns - gap.end_ns)
            ),
            next_step=RULE.next_step,
            impact_s=sum((gap.end_ns - gap.begin_ns) / 2.0 * gap.in_flight for gap in gaps) / 1e9,
        )
    ]


RULE = Rule(
    id="stall.global",
    title="Everything stood still",
    question="Were there moments in which no endpoint answered anything although requests waited?",
    statistic="times without any answer while requests are in flight, from single requests",
    threshold="200 ms or more with five requests or more in flight, and three times the usual response time",
    guard="regular stalls are said by stall.periodic; not said where less than half of the requests were looked at",
    why="What stops everything at once is shared by everything: the process, its memory, its database, its machine.",
    next_step="Put the moments beside logs of garbage collection, deployments, checkpoints and the machine's own.",
    judge=judge,
)
