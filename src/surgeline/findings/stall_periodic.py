"""Does everything stop at regular intervals?"""

from surgeline import units
from surgeline.analysis.model import PeriodicStall, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

LONG_ENOUGH_S = 30.0
"""A shorter run without a regular stall proves little."""


def judge(summary: Summary) -> list[Finding]:
    """Each regular stall; where there is none in a run long enough to show one, that."""
    if summary.stalls:
        return [_finding(summary, stall) for stall in summary.stalls]
    if not summary.rows_seen or summary.duration_s < LONG_ENOUGH_S or summary.total.tally.ok < 1000:
        return []
    return [
        Finding(
            id=RULE.id,
            kind="well",
            sentence=(
                f"No regular stalls: nothing slowed {wording.plural(summary.total.tally.ok, 'request')} down at a "
                "fixed "
                f"period between 0.8 s and {units.format_duration(summary.duration_s / 5 * 1e9, 2)}."
            ),
            confidence="medium",
            endpoint=None,
            n=summary.total.tally.ok,
            evidence=(),
            next_step="",
            impact_s=0.0,
        )
    ]


def _finding(summary: Summary, stall: PeriodicStall) -> Finding:
    everybody = len(stall.endpoints) >= 0.9 * stall.endpoints_seen
    who = "all endpoints pause" if everybody else f"{wording.names(list(stall.endpoints))} pause"
    if len(stall.endpoints) == 1:
        who = f"{wording.name(stall.endpoints[0])} pauses"
    touched = [stage for stage in summary.stages if stage.end_ns >= stall.first_ns and stage.begin_ns <= stall.last_ns]
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"Every {units.format_duration(stall.period_ns, 2)} {who} for about "
            f"{units.format_duration(stall.duration_ns, 2)}: seen in {stall.cycles_hit} of {stall.cycles} periods, "
            f"{units.format_ratio(stall.share)} of requests were hit ({stall.requests:,})."
        ),
        confidence=confidence(stall.chance < 1e-4, stall.cycles_hit, doubtful=doubtful(touched)),
        endpoint=stall.endpoints[0] if len(stall.endpoints) == 1 else None,
        n=stall.requests,
        evidence=(
            {
                "period_ns": stall.period_ns,
                "duration_ns": stall.duration_ns,
                "cycles": stall.cycles,
                "cycles_hit": stall.cycles_hit,
                "first_ns": stall.first_ns,
                "last_ns": stall.last_ns,
                "requests": stall.requests,
                "endpoints": list(stall.endpoints),
                "chance": stall.chance,
            },
        ),
        next_step=RULE.next_step,
        impact_s=stall.lost_ns / 1e9,
    )


RULE = Rule(
    id="stall.periodic",
    title="Regular stalls",
    question="Do requests that took much longer than usual come at regular intervals?",
    statistic=(
        "moments at which groups of slow requests were released, folded with every period from 0.8 s to a fifth of the "
        "run; slow is more than twice the endpoint's median in its stage, and at least 40 ms above it"
    ),
    threshold=(
        "6 or more cycles, 70 % of them hit, at least 40 % of all such moments in step, and chance below 1 in "
        "1,000 over "
        "all the periods that were tried"
    ),
    guard=(
        "when the generator itself was late by half as much, nothing is said; needs the rows of the run; queues under "
        "the highest loads are left out in turn"
    ),
    why="A pause that comes by the clock has a cause that comes by the clock: it can be found and removed.",
    next_step=(
        "Look for what runs at that interval in the server: garbage collection, a timer or cron job, a checkpoint or "
        "vacuum of the database, a flush of metrics or logs."
    ),
    judge=judge,
)
