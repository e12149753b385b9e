"""Was the run too short to have seen what comes only now and then?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings.model import Finding, Rule

SHORT_S = 20.0


def judge(summary: Summary) -> list[Finding]:
    """One finding; nothing for a run that was long enough, or in which nothing was asked."""
    if not summary.total.tally.due or summary.duration_s >= SHORT_S:
        return []
    length = units.format_duration(summary.duration_s * units.NS_PER_S, 2)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"The run lasted {length}: what comes every few seconds, or begins after a while, is not in it, and "
                "its "
                "intervals cover only what happened in that time."
            ),
            confidence="high",
            endpoint=None,
            n=summary.total.tally.due,
            evidence=({"duration_s": summary.duration_s, "enough_s": SHORT_S},),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if not summary.total.tally.due or summary.duration_s < SHORT_S:
        return ""
    length = units.format_duration(summary.duration_s * units.NS_PER_S, 2)
    return f"The run lasted {length}, in which what comes every few seconds is seen more than once."


RULE = Rule(
    id="duration.too_short",
    title="A short run",
    question="Was the run long enough to see more than a moment?",
    statistic="how long load was applied",
    threshold="less than 20 s: fewer than the twenty seconds from which the scatter between seconds can be told",
    guard="none: it is a fact about the run, not about the server",
    why="Stalls, flushes and collections come every few seconds; a run of ten has seen one of them, or none.",
    next_step="Run for a minute or more; p99 and stalls want three.",
    judge=judge,
    cleared=cleared,
)
