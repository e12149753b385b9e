"""Which objectives were met?"""

from surgeline.analysis.capacity import ladder
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule


def judge(summary: Summary) -> list[Finding]:
    """One finding per objective that no stage and not the whole run missed."""
    found = []
    for result in summary.objectives:
        if result.verdict != "met" or result.first_missed_stage is not None:
            continue
        met = [stage for stage in ladder(summary.stages) if result.by_stage.get(stage.index) == "met"]
        where = f" up to {wording.load(met[-1])}" if len(met) > 1 else f" at {wording.load(met[0])}" if met else ""
        found.append(
            Finding(
                id=RULE.id,
                kind="well",
                sentence=f"{result.objective.spoken()} was met{where}: {result.reason}.",
                confidence=confidence(True, len(met), doubtful=any(stage.validity != "valid" for stage in met)),
                endpoint=result.objective.endpoint,
                n=result.judged or summary.total.tally.judged,
                evidence=tuple(
                    {"stage": index, "verdict": verdict} for index, verdict in sorted(result.by_stage.items())
                ),
                next_step="",
                impact_s=0.0,
            )
        )
    return found


RULE = Rule(
    id="slo.met",
    title="An objective was met",
    question="Which of your objectives held, and up to which load?",
    statistic="requests over the limit, with all that went wrong counted as over it, of those whose outcome is known",
    threshold="no more of them than allowed, of so many requests that a miss would have shown",
    guard="stages that the generator limited do not count; one missed stage is enough to be missed",
    why="Below this load there is room left.",
    next_step="Nothing to do.",
    judge=judge,
    counterpart="slo.missed",
)
