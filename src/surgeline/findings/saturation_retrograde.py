"""Does more load bring less throughput?"""

import math

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

FELL = 0.10
SHARED_LUCK = 4.0
LOAD_GROWTH = 1.3
Z_99 = 2.576


def judge(summary: Summary) -> list[Finding]:
    """At most one finding: from the stage of most goodput to that of the highest load."""
    stages = usable(summary)
    # The heaviest steps of a search are over before their answers have come.
    if len(stages) < 3 or summary.capacity is not None:
        return []
    top = max(stages, key=lambda stage: stage.total.goodput_per_s or 0.0)
    last = stages[-1]
    best, rest = top.total.goodput_per_s or 0.0, last.total.goodput_per_s or 0.0
    if load_of(last) < LOAD_GROWTH * load_of(top) or best <= 0:
        return []
    fell, se = 1.0 - rest / best, _error(top, best) + _error(last, rest) * rest / best
    if fell - Z_99 * se <= FELL / 2.0 or fell < FELL:
        return []
    below = [stage for stage in stages if load_of(stage) > load_of(top) and (stage.total.goodput_per_s or 0.0) < best]
    return [
        Finding(
            id=RULE.id,
            kind="failed",
            sentence=(
                f"More load brings less: correct answers fall from {wording.goodput(top.total)} at {wording.load(top)} "
                f"to {wording.goodput(last.total)} at {wording.load(last)}, {units.format_ratio(fell)} less."
            ),
            confidence=confidence(True, len(below), doubtful=doubtful((top, last))),
            endpoint=None,
            n=top.total.tally.ok + last.total.tally.ok,
            evidence=tuple(
                {"stage": s.index, "load": load_of(s), "goodput_per_s": s.total.goodput_per_s} for s in stages
            ),
            next_step=RULE.next_step,
            impact_s=(best - rest) * last.duration_s * 10.0,
        )
    ]


def _error(stage: StageFigures, rate: float) -> float:
    """The standard error of a stage's goodput as a share of it: requests of a run share its luck."""
    return math.sqrt(SHARED_LUCK / max(rate * stage.duration_s, 1.0)) / 2.0


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    stages = usable(summary)
    if len(stages) < 3 or summary.capacity is not None:
        return ""
    top = max(stages, key=lambda stage: stage.total.goodput_per_s or 0.0)
    last = stages[-1]
    best, rest = top.total.goodput_per_s or 0.0, last.total.goodput_per_s or 0.0
    if best <= 0 or 1.0 - rest / best > FELL / 2.0 or load_of(last) < max(load_of(stage) for stage in stages):
        return ""
    return (
        f"More load does not bring less: correct answers are {wording.goodput(last.total)} at {wording.load(last)}, "
        "the most that was asked."
    )


RULE = Rule(
    id="saturation.retrograde",
    title="More load, less throughput",
    question="Does throughput fall when the load rises beyond what the server can take?",
    statistic="correct answers per second at the highest load over the most at any load",
    threshold="10 % less or more, at 1.3 times the load or more, and more than 5 % less at 99 %",
    guard=(
        "at least three stages; each request is taken to be worth a quarter, for the luck that a run shares; the steps "
        "of a search for capacity are too short"
    ),
    why="A server that does less the more is asked of it turns a peak into an outage.",
    next_step=(
        "Look for what many requests at once cost each other: locks, connections taken in turn, retries, swapping, "
        "garbage collection. Limiting what is let in at once keeps the throughput."
    ),
    judge=judge,
    cleared=cleared,
)
