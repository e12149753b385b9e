"""Was it the generator that could not keep up?"""

from surgeline import units
from surgeline.analysis.capacity import by_load
from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import StageFigures, Summary
from surgeline.analysis.validity import FEWEST_SENT, bounded, times_are_apart
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule
from surgeline.findings.script_hub_delay import held_up

LOST = (
    "Look on that worker's machine for what ended it or cut it off (memory, network, somebody who stopped it), and "
    "repeat those stages."
)


def judge(summary: Summary) -> list[Finding]:
    """The stages that the generator limited; where there are none, how far it was from its limit."""
    if not summary.total.tally.due:
        return []
    limited = [stage for stage in by_load(summary.stages) if stage.validity == "invalid"]
    near = [stage for stage in by_load(summary.stages) if stage.validity == "degraded" and not bounded(stage)]
    if (limited or near) and held_up(summary) is not None:
        return []  # the script is what was slow, which script.hub_delay says
    if limited:
        return [_finding(summary, limited, "was the limit", "those stages say nothing about the server", "high")]
    if near and _gone(summary, near):
        return [_finding(summary, near, "was not whole", "fewer requests were sent than planned", "medium", LOST)]
    if near:
        if all(times_are_apart(summary.run, stage) for stage in near):
            return [_finding(summary, near, "was at its limit", "response times hold, throughput is its own", "high")]
        return [_finding(summary, near, "was near its limit", "their times may be too long", "medium")]
    facts = _facts(summary)
    if summary.total.tally.unsent > (1.0 - FEWEST_SENT) * summary.total.tally.due:
        # The load that was planned was not offered; what was due and not sent is spoken of with the errors.
        return []
    if not facts or not summary.total.tally.answered:
        return []
    return [
        Finding(
            id=RULE.id,
            kind="well",
            sentence=f"The generator was not the limit: {', '.join(facts)}.",
            confidence="high",
            endpoint=None,
            n=summary.total.tally.sent,
            evidence=(_row(summary),),
            next_step="",
            impact_s=0.0,
        )
    ]


def _finding(summary: Summary, stages: list[StageFigures], was: str, so: str, sure: str, then: str = "") -> Finding:
    reason = stages[0].validity_reasons[0] if stages[0].validity_reasons else "it could not keep up"
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=f"The generator {was} at {wording.loads(stages)}: {reason}; {so}.",
        confidence="high" if sure == "high" else "medium",
        endpoint=None,
        n=sum(stage.total.tally.due for stage in stages),
        evidence=tuple(
            {"stage": stage.index, "validity": stage.validity, "reasons": list(stage.validity_reasons)}
            for stage in stages
        ),
        next_step=then or RULE.next_step,
        impact_s=0.0,
    )


def _gone(summary: Summary, stages: list[StageFigures]) -> bool:
    """Whether all there is against these stages is that a worker was not there."""
    told = {gap.told for gap in summary.workers.gaps} if summary.workers is not None else set()
    return all(reason in told for stage in stages for reason in stage.validity_reasons)


def _facts(summary: Summary) -> list[str]:
    health = summary.health
    facts = []
    if health.cpu_ratio_max is not None:
        facts.append(f"CPU at most {units.format_ratio(health.cpu_ratio_max)} of what it can use")
    if health.lag_p99_ns is not None and summary.model != "script":
        # A p99 of fewer says no more than the latest of them.
        few = summary.total.tally.sent < fewest_for_quantile(0.99) and health.lag_max_ns is not None
        lag = ("at most", health.lag_max_ns) if few else ("p99", health.lag_p99_ns)
        facts.append(f"start lag {lag[0]} {units.format_duration(lag[1], 2)}")
    if not summary.total.tally.not_sent:
        facts.append("all that was due was sent")
    return facts if health.cpu_ratio_max is not None or health.lag_p99_ns is not None else []


def _row(summary: Summary) -> dict[str, object]:
    health = summary.health
    return {
        "cpu_ratio_max": health.cpu_ratio_max,
        "lag_p99_ns": health.lag_p99_ns,
        "not_sent": summary.total.tally.not_sent,
        "shares_machine": health.shares_machine,
    }


RULE = Rule(
    id="generator.saturated",
    title="The generator at its limit",
    question="Was it the generator, not the server, that could not keep up?",
    statistic=(
        "per stage: CPU of the generator; how long the thread that sends ran and waited for a core (native engine on "
        "Linux); response time less service time at p50, p95 and p99, which is its own "
        "delay (the "
        "start lag where an engine knows no due moments); requests due against planned, and sent against due"
    ),
    threshold=(
        "invalid: CPU above 95 % of its cores (one Locust process: 90 %), a delay above 10 ms and a quarter of p50 or "
        "p95, a thread that ran or waited for a core 90 % of the time and was late by more than 10 ms, or did so for "
        "85 % of the seconds in which half of the slowest requests were due, or less than 99 % sent or due; "
        "degraded: CPU from 80 %, a delay above 2 ms and a tenth of a percentile"
    ),
    guard=(
        "a delay that is a small part of what was measured does not count, nor one that is not in the times (the "
        "native client of a script: full CPU then degrades), nor a busy moment of a stage; what a "
        "full server "
        "keeps from being sent is the server's doing; where a script blocks its loop, script.hub_delay speaks"
    ),
    why="Numbers from a generator that cannot keep up describe the generator.",
    next_step="Give the generator more workers or a machine of its own, or a lighter script, and repeat those stages.",
    judge=judge,
)
