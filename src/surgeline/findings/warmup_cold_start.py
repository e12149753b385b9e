"""Are the first requests much slower than those after them?"""

import numpy as np

from surgeline import units
from surgeline.analysis.model import Second, StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

RATIO = 2.0
LEAST_NS = 20e6
SHORTEST_S = 8.0
MOST_S = 60


def judge(summary: Summary) -> list[Finding]:
    """For the first stage of the run; nothing where it is short, or begins as it goes on."""
    stage, mine = _beginning(summary)
    if stage is None:
        return []
    medians = np.array([float(s.p50_ns or 0) for s in mine])
    later = medians[len(medians) // 3 :]
    usual, limit = float(np.median(later)), _limit(later)
    slow = 0
    while slow < len(medians) // 3 and medians[slow] > limit:
        slow += 1
    if slow == 0 or (later > limit).sum() > max(1.0, 0.05 * len(later)):
        return []
    first = float(medians[:slow].max())
    lasted = units.format_duration(slow * units.NS_PER_S)
    waited = sum((medians[i] - usual) * sum(mine[i].outcomes.values()) for i in range(slow)) / 1e9
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"A cold start: in the first {lasted} the median was up to {wording.time(first)}, after that "
                f"{wording.time(usual)} at the same load."
            ),
            confidence=confidence(False, 1, doubtful=doubtful((stage,))),
            endpoint=None,
            n=sum(sum(s.outcomes.values()) for s in mine[:slow]),
            evidence=tuple({"second": s.second, "p50_ns": s.p50_ns} for s in mine[: slow + 5]),
            next_step=RULE.next_step,
            impact_s=waited,
        )
    ]


def _beginning(summary: Summary) -> tuple[StageFigures | None, list[Second]]:
    """The first stage and its seconds; None where it is short, not flat, or not known by the second."""
    stages = [stage for stage in summary.stages if stage.validity != "invalid"]
    if not stages or stages[0].duration_s < SHORTEST_S or stages[0].start != stages[0].end:
        return None, []
    begin, end = stages[0].begin_ns / 1e9, stages[0].end_ns / 1e9
    mine = [s for s in summary.seconds if begin - 1 < s.second < end and s.p50_ns is not None][:MOST_S]
    return (stages[0], mine) if len(mine) >= SHORTEST_S - 2 else (None, [])


def _limit(later: np.ndarray) -> float:
    """From which median on a second counts as slow, by the seconds of the last two thirds."""
    usual, spread = float(np.median(later)), float(np.percentile(later, 90))
    return max(RATIO * usual, 1.5 * spread, usual + LEAST_NS)


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    stage, mine = _beginning(summary)
    if stage is None:
        return ""
    medians = np.array([float(s.p50_ns or 0) for s in mine])
    later = medians[len(medians) // 3 :]
    usual = float(np.median(later))
    if medians[0] > _limit(later):
        return ""
    return (
        f"No cold start: the first second's median was {wording.time(float(medians[0]))}, that of later ones "
        f"{wording.time(usual)}."
    )


RULE = Rule(
    id="warmup.cold_start",
    title="A cold start",
    question="Are the first seconds of the run much slower than what follows at the same load?",
    statistic="the medians of the first seconds of the first stage, against those of its last two thirds",
    threshold=(
        "consecutive seconds from the first on, twice the usual median or more, 20 ms above it, beyond its own spread"
    ),
    guard="a flat first stage of 8 s or more, whose later seconds are rarely as slow",
    why="Whoever comes first after a deployment or a scaling step pays for it.",
    next_step="Fill caches, open pools and compile before the server takes traffic; a readiness check can wait for it.",
    judge=judge,
    cleared=cleared,
)
