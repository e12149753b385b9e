"""Does response time grow with load?"""

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import RISES, Growth, growth
from surgeline.findings.model import Finding, Kind, Rule

LEAST_NS = 20e6
"""A rise of less is lost in a network: taste."""
FELT_NS = 100e6
"""Below this an answer feels immediate (Miller 1968, Nielsen 1993): a rise that stays below it is no failure."""
MOST_ALONE = 3
"""Endpoints that get a sentence of their own."""
APART = 2.0
"""One that rises this much more than all together has a cause of its own."""


def judge(summary: Summary) -> list[Finding]:
    """The whole, if most endpoints rise, and the endpoints that rise much more or alone."""
    rising = [found for name in _names(summary) if (found := growth(summary, name)) is not None and _rises(found)]
    overall = growth(summary, None)
    together = overall is not None and _rises(overall) and 2 * len(rising) > len(_names(summary))
    rising.sort(key=lambda found: -found.lost_s)
    if not together or overall is None:
        return [_finding(summary, found, _alone(found)) for found in rising[: 2 * MOST_ALONE]]
    apart = [found for found in rising if found.ratio >= APART * overall.ratio or _earlier(found, overall)]
    most = max(rising, key=lambda found: found.ratio)
    sentence = (
        f"Response times rise with load: {overall.label} of all requests {wording.time(overall.light_time)} at "
        f"{wording.loads(overall.light)}, {wording.time(overall.heavy_time)} at {wording.load(overall.heavy)} "
        f"({wording.change(overall.ratio)}){_onset(overall)}"
    )
    if len(_names(summary)) > 1:
        sentence += (
            f"; {len(rising)} of {len(_names(summary))} endpoints slow down, {wording.name(most.endpoint or '')} "
            f"most ({wording.change(most.ratio)})"
        )
    return [_finding(summary, overall, sentence + ".")] + [
        _finding(summary, found, _alone(found)) for found in apart[:MOST_ALONE]
    ]


def _names(summary: Summary) -> list[str]:
    return [figures.name for figures in summary.endpoints]


def _rises(found: Growth) -> bool:
    return found.least > RISES and found.heavy_ns - found.light_ns >= LEAST_NS


def _earlier(found: Growth, overall: Growth) -> bool:
    if not found.risen or not overall.risen:
        return False
    return found.ratio >= overall.ratio and max(found.risen[0].start, found.risen[0].end) < max(
        overall.risen[0].start, overall.risen[0].end
    )


def _onset(found: Growth) -> str:
    if len(found.risen) < 2:
        return ""
    return f", beyond {RISES:g}× from {wording.load(found.risen[0])} on"


def _alone(found: Growth) -> str:
    return (
        f"{wording.name(found.endpoint or '')} slows down with load: {found.label} {wording.time(found.light_time)} at "
        f"{wording.loads(found.light)}, {wording.time(found.heavy_time)} at {wording.load(found.heavy)} "
        f"({wording.change(found.ratio)}){_onset(found)}."
    )


def _finding(summary: Summary, found: Growth, sentence: str) -> Finding:
    felt = found.heavy_ns >= FELT_NS and found.ratio >= 2.0
    kind: Kind = "failed" if felt else "explore"
    return Finding(
        id=RULE.id,
        kind=kind,
        sentence=sentence,
        confidence=confidence(True, len(found.risen), doubtful=doubtful((*found.light, found.heavy))),
        endpoint=found.endpoint,
        n=found.n,
        evidence=found.evidence(summary),
        next_step=RULE.next_step,
        impact_s=found.lost_s,
    )


RULE = Rule(
    id="latency.rising",
    title="Response time rises with load",
    question="Does an endpoint, or everything, take longer under heavy load than under light?",
    statistic=(
        "p95 (the median where requests are few) of ok response times in the stage of the highest load, over that of "
        "the stages of the lowest loads"
    ),
    threshold="the ratio exceeds 1.5 at 99 %, and the rise is at least 20 ms",
    guard=(
        "at least 30 requests on each side; a stage that the generator limited does not count; requests of a short "
        "stage are taken to be worth a quarter of their number; below 100 ms or a factor of 2 it is explored, not "
        "failed"
    ),
    why="Waiting that appears only under load is queueing: for a CPU, a lock, a pool, or another service.",
    next_step=(
        "Look at what requests wait for at the load where the rise begins: CPU of the server, free places in its "
        "pools, "
        "locks and slow queries of its database."
    ),
    judge=judge,
    counterpart="latency.flat",
)
