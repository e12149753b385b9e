"""Up to which load did nothing go wrong?"""

from surgeline import units
from surgeline.analysis.capacity import by_load, load_of
from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

FEWEST = 100
"""Of fewer requests the share that may still go wrong is above 3 %: nothing to be proud of."""


def judge(summary: Summary) -> list[Finding]:
    """The stages from the lowest load on in which every judged request was ok."""
    clean: list[StageFigures] = []
    stages = [stage for stage in by_load(summary.stages) if stage.validity != "invalid" and stage.role != "settle"]
    # Of stages that go equally high, one of that load alone says it best.
    stages.sort(key=lambda stage: (load_of(stage), stage.start == stage.end))
    for stage in stages:
        if stage.total.tally.bad:
            break
        clean.append(stage)
    while clean and len(clean) < len(stages) and load_of(clean[-1]) == load_of(stages[len(clean)]):
        clean.pop()  # Another stage of the same load did have errors.
    judged = sum(stage.total.tally.judged for stage in clean)
    if judged < FEWEST:
        return []
    below = units.format_ratio(1.0 - 0.05 ** (1.0 / judged))
    everywhere = len(clean) == len(summary.stages)
    where = f"up to {wording.load(clean[-1])}" if len(clean) > 1 or not everywhere else f"at {wording.load(clean[-1])}"
    return [
        Finding(
            id=RULE.id,
            kind="well",
            sentence=(
                f"Nothing went wrong {where}: 0 of {wording.plural(judged, 'request')}, so the true share is below "
                f"{below} (95 %)."
            ),
            confidence=confidence(judged >= 1000, len(clean), doubtful=doubtful(clean)),
            endpoint=None,
            n=judged,
            evidence=tuple(
                {"stage": stage.index, "load": load_of(stage), "judged": stage.total.tally.judged, "bad": 0}
                for stage in clean
            ),
            next_step="",
            impact_s=0.0,
        )
    ]


RULE = Rule(
    id="errors.none",
    title="Nothing went wrong",
    question="Up to which load was every answer right?",
    statistic="judged requests whose outcome is not ok, in the stages from the lowest load on",
    threshold="none; the sentence gives the greatest share that would still show none in one run of twenty (3 / n)",
    guard="at least 100 requests; stages that the generator limited do not count",
    why="Zero of a few says little; zero of many bounds the true share.",
    next_step="Nothing to do.",
    judge=judge,
    counterpart="errors.constant",
)
