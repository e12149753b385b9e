"""After each heavy load, how soon is everything as before?"""

from collections.abc import Sequence

from surgeline import units
from surgeline.analysis.model import Recovery, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

SLOW_S = 10
MOST = 0.5


def judge(summary: Summary) -> list[Finding]:
    """One finding on those loads after which all was soon as before, one on those after which it was not."""
    if summary.capacity is not None:
        # A search measures recovery after each failure, and says so beside its capacity.
        return []
    fast = [found for found in summary.recoveries if _fast(found)]
    # Seconds scatter around what all of them together do not exceed: neither back nor away.
    slow = [found for found in summary.recoveries if not _fast(found) and (found.late.low or 0.0) > MOST]
    return [_finding(summary, part, part is fast) for part in (slow, fast) if part]


def _fast(found: Recovery) -> bool:
    return found.seconds is not None and found.seconds <= SLOW_S


def took(found: Recovery) -> str:
    """`within a second`, `4 s`, `not within 12 s`."""
    if found.seconds is None:
        return f"not within {units.format_duration(found.length_s * units.NS_PER_S, 2)}"
    return f"{found.seconds} s" if found.seconds else "within a second"


def _finding(summary: Summary, some: Sequence[Recovery], fast: bool) -> Finding:
    stages = {stage.index: stage for stage in summary.stages}
    found = max(some, key=lambda one: (one.seconds is None, one.seconds or one.late.value or 0.0, -one.peak))
    peak, before, after = stages[found.peak], stages[found.before], stages[found.after]
    fell = f"after the load fell from {wording.load(peak)} to {wording.load(after)}"
    late = units.format_ratio(found.late.value or 0.0)
    usual = f"the median of their endpoint at {wording.load(before)} before"
    if found.seconds is None:
        sentence = (
            f"No recovery within {units.format_duration(found.length_s * units.NS_PER_S, 3)} {fell}: {late} of the "
            f"answers take longer, by a quarter at least, than {usual}."
        )
    elif not fast:
        sentence = (
            f"Back to normal only {found.seconds} s {fell}: until then {late} of the answers took longer, by a quarter "
            f"at least, than {usual}."
        )
    else:
        sentence = f"Back to normal {took(found)} {fell}: most answers take again about {usual}."
    if len(some) > 1:
        each = ", ".join(f"{wording.load(stages[one.peak])} {took(one)}" for one in some[:6])
        more = f" and {len(some) - 6} more" if len(some) > 6 else ""
        sentence += f" After each: {each}{more}."
    lost = [
        max((after.total.response.mean_ns or 0.0) - (stages[one.before].total.response.mean_ns or 0.0), 0.0)
        * after.total.tally.ok
        for one in some
        for after in (stages[one.after],)
    ]
    involved = [stages[index] for one in some for index in (one.before, one.after)]
    return Finding(
        id=RULE.id,
        kind="well" if fast else "failed",
        sentence=sentence,
        confidence=confidence(False, len(some), doubtful=doubtful(involved)),
        endpoint=None,
        n=sum(one.requests for one in some),
        evidence=tuple(
            {"peak": one.peak, "before": one.before, "after": one.after, "late": one.late.value, "seconds": one.seconds}
            for one in some
        ),
        next_step="" if fast else RULE.next_step,
        impact_s=0.0 if fast else sum(lost) / 1e9,
    )


RULE = Rule(
    id="recovery.time",
    title="Recovery after a peak",
    question="After each heavy load, how soon are response times what they were at the same load before?",
    statistic=(
        "seconds until no more than half of the answers due in a second take longer than the median of their own "
        "endpoint before, by 25 % (and 5 ms), three times in a row; on through all stages that follow at that load"
    ),
    threshold="up to 10 s is well; more, or not at all, failed",
    guard=(
        "only where the load falls to half or less, to a level that was measured before the peak; failed only where, "
        "of all answers until then, more than half are that late, with their interval"
    ),
    why="A server that does not come back by itself turns a short peak into an outage.",
    next_step="Look for what outlives the peak: queues, retries, full pools, sessions, memory.",
    judge=judge,
)
