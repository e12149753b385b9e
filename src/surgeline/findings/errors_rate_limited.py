"""Is it a rate limiter that turns requests away?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

LIMITER = 429
LEAST_SHARE = 0.01
FEWEST = 10
FEWEST_TOLD = 100
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    groups = [group for group in summary.errors if group.status == LIMITER]
    count = sum(group.count for group in groups)
    stages = [stage for stage in usable(summary) if any(group.by_stage.get(stage.index) for group in groups)]
    if count < FEWEST or not stages or count < LEAST_SHARE * sum(stage.total.tally.judged for stage in stages):
        return []
    passed = max(stage.total.goodput_per_s or 0.0 for stage in stages)
    least = min(stages, key=lambda stage: max(stage.start, stage.end))
    after = next((traits.retry_after for traits in summary.traits.endpoints if traits.retry_after), "")
    endpoints = [group.endpoint for group in sorted(groups, key=lambda group: -group.count)]
    retry = f", Retry-After {after}" if after else ""
    return [
        Finding(
            id=RULE.id,
            kind="failed",
            sentence=(
                f"A rate limiter turns requests away from {wording.load(least)} on: "
                f"{units.format_count(count)} answers "
                f"with 429{retry}, most on {wording.name(endpoints[0])}; at most {wording.rate(passed)} came through. "
                "That is a limit somebody set, not what the server can take."
            ),
            confidence=confidence(True, len(stages), doubtful=doubtful(stages)),
            endpoint=endpoints[0] if len(set(endpoints)) == 1 else None,
            n=count,
            evidence=tuple(
                {
                    "stage": stage.index,
                    "refused": sum(group.by_stage.get(stage.index, 0) for group in groups),
                    "goodput_per_s": stage.total.goodput_per_s,
                }
                for stage in stages
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    answered = summary.total.tally.answered
    if answered < FEWEST_TOLD:
        return ""
    count = sum(group.count for group in summary.errors if group.status == LIMITER)
    if count >= FEWEST:
        return ""
    return f"No rate limiter stood in the way: {count:,} of {wording.plural(answered, 'answer')} came with 429."


RULE = Rule(
    id="errors.rate_limited",
    title="Turned away by a rate limiter",
    question="Are requests turned away by a limit on their rate, rather than by a server that can do no more?",
    statistic="answers with status 429, by stage",
    threshold="10 or more, and 1 % or more of the requests of the stages in which they occur",
    guard="status 503 may come from a limiter too, but from many other things; it is not counted",
    why="What a limiter lets through says nothing about the capacity behind it.",
    next_step="Lift the limit for the generator's address, or test from behind it; otherwise take it as the capacity.",
    judge=judge,
    cleared=cleared,
)
