"""Which endpoints take no longer under heavy load than under light?"""

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import Growth, growth, usable
from surgeline.findings.model import Finding, Rule

MOST_RISE = 1.25
FEWEST_LOAD_RATIO = 4.0
"""Flat over less than four times the load is no achievement."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all the endpoints that stayed flat."""
    flat = [found for item in summary.endpoints if (found := growth(summary, item.name)) is not None and _flat(found)]
    if not flat:
        return []
    flat.sort(key=lambda found: -found.n)
    worst = max(flat, key=lambda found: found.ratio)
    if len(flat) == 1:
        sentence = (
            f"{wording.name(worst.endpoint or '')} stayed flat: {worst.label} {wording.time(worst.heavy_time)} at "
            f"{wording.load(worst.heavy)}, {wording.change(worst.ratio)} against {wording.loads(worst.light)}."
        )
    else:
        who = (
            f"All {len(flat)} endpoints"
            if len(flat) == len(summary.endpoints)
            else wording.names([found.endpoint or "" for found in flat])
        )
        sentence = (
            f"{who} stayed flat up to {wording.load(worst.heavy)}: at most {wording.change(worst.ratio)} against "
            f"{wording.loads(worst.light)} ({wording.name(worst.endpoint or '')}: {worst.label} "
            f"{wording.time(worst.heavy_time)})."
        )
    stages = tuple({stage.index: stage for found in flat for stage in (*found.light, found.heavy)}.values())
    return [
        Finding(
            id=RULE.id,
            kind="well",
            sentence=sentence,
            confidence=confidence(True, len(usable(summary)), doubtful=doubtful(stages)),
            endpoint=worst.endpoint if len(flat) == 1 else None,
            n=sum(found.n for found in flat),
            evidence=tuple(
                {
                    "endpoint": found.endpoint,
                    "quantile": found.quantile,
                    "light_ns": found.light_ns,
                    "heavy_ns": found.heavy_ns,
                    "ratio": found.ratio,
                    "ratio_at_most": found.most,
                    "n": found.n,
                }
                for found in flat
            ),
            next_step="",
            impact_s=0.0,
        )
    ]


def _flat(found: Growth) -> bool:
    return found.load_ratio >= FEWEST_LOAD_RATIO and found.most < MOST_RISE


RULE = Rule(
    id="latency.flat",
    title="Response time stays flat under load",
    question="Which endpoints take no longer under heavy load than under light?",
    statistic="as for latency.rising: p95 (or the median) under the highest load over that under the lowest loads",
    threshold="the ratio is below 1.25 at 99 %, over at least four times the load",
    guard="at least 30 requests on each side; a stage that the generator limited does not count",
    why="What stays flat has room left: the limit is elsewhere.",
    next_step="Nothing to do; go on with the endpoints that rise.",
    judge=judge,
    counterpart="latency.rising",
)
