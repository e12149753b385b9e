"""Under one load, did the server never come to rest?"""

from collections.abc import Sequence

from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import latency_drift, wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Kind, Rule

SHORTEST_S = 30.0


def judge(summary: Summary) -> list[Finding]:
    """One finding for all stages of one load that are long enough; nothing where times creep, which says it better."""
    flat = [s for s in usable(summary) if s.start == s.end and s.duration_s >= SHORTEST_S and s.steady is not None]
    restless = [stage for stage in flat if not stage.steady]
    if not flat or any(finding.kind == "failed" for finding in latency_drift.RULE.judge(summary)):
        return []
    if not restless:
        sentence = f"Response times came to rest under every load of {SHORTEST_S:.0f} s or more."
        return [_finding("well", sentence, flat)]
    sentence = (
        f"No steady state at {wording.loads(restless)}: the median in the second half of the stage is another than in "
        "the first, so its percentiles describe neither."
    )
    return [_finding("explore", sentence, restless)]


def _finding(kind: Kind, sentence: str, stages: Sequence[StageFigures]) -> Finding:
    return Finding(
        id=RULE.id,
        kind=kind,
        sentence=sentence,
        confidence=confidence(True, len(stages), doubtful=doubtful(stages)),
        endpoint=None,
        n=sum(stage.total.tally.ok for stage in stages),
        evidence=tuple({"stage": stage.index, "steady": stage.steady} for stage in stages),
        next_step="" if kind == "well" else RULE.next_step,
        impact_s=0.0,
    )


RULE = Rule(
    id="steady.none",
    title="No steady state",
    question="Under one load, do response times come to rest?",
    statistic="the medians of the two halves of a stage, without its warm-up",
    threshold="apart by more than 3 % and more than chance at 99 %, autocorrelation included",
    guard="stages of one load of 30 s or more; not said where latency.drift says that times creep up",
    why="A percentile of a time that is on its way somewhere depends on when one stopped looking.",
    next_step="Hold that load for longer; look at what changes meanwhile: caches that fill, queues, other work.",
    judge=judge,
)
