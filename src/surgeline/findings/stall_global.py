"""Were there moments in which nothing at all was answered?"""

from statistics import median

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.analysis.traits import Gap
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, seen_singly
from surgeline.findings.model import Finding, Rule

WARM_UP_NS = 3 * units.NS_PER_S
BEYOND_STALL = 1.8
"""How much longer than a regular stall a gap must be to be another one."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all gaps that no regular stall explains; none where all is that slow."""
    if not summary.total.tally.answered:
        return []  # nothing ever came: no moment differs from the others
    begin = summary.seconds[0].second * units.NS_PER_S if summary.seconds else 0
    # A start that takes its time is said by warmup.cold_start.
    gaps = tuple(gap for gap in summary.traits.gaps if gap.begin_ns >= begin + WARM_UP_NS)
    usual = summary.total.response.quantiles[0.5].value or 0.0
    # Where a request takes as long as a gap, nothing coming for a while is how it always is.
    gaps = tuple(gap for gap in gaps if gap.end_ns - gap.begin_ns > 3.0 * usual)
    # What a regular stall explains is said by stall.periodic; a gap twice as long is something else.
    in_step = [gap.end_ns - gap.begin_ns for gap in gaps if _in_step(summary, gap)]
    regular = min(median(in_step), *(stall.duration_ns for stall in summary.stalls)) if in_step else 0
    gaps = tuple(
        gap for gap in gaps if not _in_step(summary, gap) or gap.end_ns - gap.begin_ns > BEYOND_STALL * regular
    )
    if not gaps or not seen_singly(summary):
        return []
    longest = max(gaps, key=lambda gap: gap.end_ns - gap.begin_ns)
    length = longest.end_ns - longest.begin_ns
    zero = summary.stages[0].begin_ns if summary.stages else 0
    times = "once" if len(gaps) == 1 else f"{len(gaps)} times"
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"Everything stood still {times}: at {units.format_duration(longest.begin_ns - zero, 3)} into "
                "the run no request "
                f"was answered for {wording.time(float(length))} while {longest.in_flight} waited."
            ),
            confidence=confidence(True, len(gaps)),
            endpoint=None,
            n=sum(gap.in_flight for gap in gaps),
            evidence=tuple(
                {"at_ns": gap.begin_ns - zero, "lasted_ns": gap.end_ns - gap.begin_ns, "in_flight": gap.in_flight}
                for gap in sorted(gaps, key=lambda gap: gap.begin_ns - gap.end_ns)
            ),
            next_step=RULE.next_step,
            impact_s=sum((gap.end_ns - gap.begin_ns) / 2.0 * gap.in_flight for gap in gaps) / 1e9,
        )
    ]


def _in_step(summary: Summary, gap: Gap) -> bool:
    """Whether a regular stall falls into the gap."""
    for stall in summary.stalls:
        room = stall.duration_ns // 2
        since = (gap.end_ns + room - stall.first_ns) % stall.period_ns
        if since <= gap.end_ns - gap.begin_ns + 2 * room:
            return True
    return False


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if not seen_singly(summary) or not summary.total.tally.answered or summary.traits.gaps:
        return ""
    return "Nothing stood still: whenever five requests or more waited, one of them was answered within 200 ms."


RULE = Rule(
    id="stall.global",
    title="Everything stood still",
    question="Were there moments in which no endpoint answered anything although requests waited?",
    statistic="times without any answer while requests are in flight, from single requests",
    threshold="200 ms or more with five requests or more in flight, and three times the usual response time",
    guard=(
        "gaps in step with a regular stall, up to 1.8 times the usual one, are said by stall.periodic; the first 3 "
        "s of the run do not count; not said where nothing at all was answered, or less than half of the requests were "
        "looked at"
    ),
    why="What stops everything at once is shared by everything: the process, its memory, its database, its machine.",
    next_step="Put the moments beside logs of garbage collection, deployments, checkpoints and the machine's own.",
    judge=judge,
    cleared=cleared,
)
