"""After the heaviest load, how soon is everything as before?"""

from surgeline import units
from surgeline.analysis.model import Recovery, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

SLOW_S = 10
MOST = 0.5


def judge(summary: Summary) -> list[Finding]:
    """For the first stage after the peak whose load is again like one before it; nothing where there is none."""
    found = summary.recovery
    if found is None or summary.capacity is not None:
        # A search measures recovery after each failure, and says so beside its capacity.
        return []
    fast = found.seconds is not None and found.seconds <= SLOW_S
    if not fast and (found.late.low is None or found.late.low <= MOST):
        # Seconds scatter around what all of them together do not exceed: neither back nor away.
        return []
    return [_finding(summary, found, fast)]


def _finding(summary: Summary, found: Recovery, fast: bool) -> Finding:
    stages = {stage.index: stage for stage in summary.stages}
    peak, before, after = stages[found.peak], stages[found.before], stages[found.after]
    fell = f"after the load fell from {wording.load(peak)} to {wording.load(after)}"
    late = units.format_ratio(found.late.value or 0.0)
    usual = f"the median of their endpoint at {wording.load(before)} before"
    if found.seconds is None:
        sentence = (
            f"No recovery within {units.format_duration(after.end_ns - after.begin_ns)} {fell}: {late} of the answers "
            f"take longer, by a quarter at least, than {usual}."
        )
    elif not fast:
        sentence = (
            f"Back to normal only {found.seconds} s {fell}: until then {late} of the answers took longer, by a quarter "
            f"at least, than {usual}."
        )
    else:
        soon = "within a second" if not found.seconds else f"{found.seconds} s"
        sentence = f"Back to normal {soon} {fell}: most answers take again about {usual}."
    lost = max((after.total.response.mean_ns or 0.0) - (before.total.response.mean_ns or 0.0), 0.0)
    return Finding(
        id=RULE.id,
        kind="well" if fast else "failed",
        sentence=sentence,
        confidence=confidence(False, 1, doubtful=doubtful((before, after))),
        endpoint=None,
        n=found.requests,
        evidence=(
            {
                "peak": found.peak,
                "before": found.before,
                "after": found.after,
                "late": found.late.value,
                "seconds": found.seconds,
            },
        ),
        next_step="" if fast else RULE.next_step,
        impact_s=0.0 if fast else lost * after.total.tally.ok / 1e9,
    )


RULE = Rule(
    id="recovery.time",
    title="Recovery after the peak",
    question="After the heaviest load, how soon are response times what they were at the same load before?",
    statistic=(
        "seconds until no more than half of the answers due in a second take longer than the median of their own "
        "endpoint before, by 25 % (and 5 ms), three times in a row"
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
