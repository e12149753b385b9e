"""Which endpoint is slower than others of its kind, already under light load?"""

import math
from collections import defaultdict
from statistics import median

from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import of, time_of, usable
from surgeline.findings.model import Finding, Rule
from surgeline.samples import Histogram

FEWEST_OF_KIND = 4
FEWEST = 30
FACTOR = 4.0
LEAST_NS = 20e6
"""Of a difference below this nobody has anything: taste, checked on the demo shop."""
SHARED_LUCK = 4.0
Z_99 = 2.576
FELT_NS = 1e9
"""Beyond a second an answer breaks the flow of thought (Miller 1968, Nielsen 1993)."""
MOST = 8


def judge(summary: Summary) -> list[Finding]:
    """The endpoints far above the median of their kind; nothing where a kind has too few members to have a usual."""
    kinds: dict[str, list[tuple[str, list[StageFigures], Histogram]]] = defaultdict(list)
    for figures in summary.endpoints:
        stages, pooled = _light(summary, figures.name)
        if pooled.count >= FEWEST:
            kinds[_kind(figures.name)].append((figures.name, stages, pooled))
    found = []
    for kind, members in kinds.items():
        if len(members) < FEWEST_OF_KIND:
            continue
        for name, stages, pooled in members:
            usual = median(float(other.quantile(0.5) or 0) for who, _, other in members if who != name)
            finding = _finding(summary, kind, len(members) - 1, name, stages, pooled, usual)
            if finding is not None:
                found.append(finding)
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _kind(name: str) -> str:
    """Reads and writes differ by nature; a name that is no method counts as a read."""
    return "writes" if name.split(" ", 1)[0].upper() in ("POST", "PUT", "PATCH", "DELETE") else "reads"


def _light(summary: Summary, endpoint: str) -> tuple[list[StageFigures], Histogram]:
    """The stages of the lowest loads, until there are enough requests."""
    stages: list[StageFigures] = []
    pooled = Histogram()
    for stage in usable(summary):
        figures = of(stage, endpoint)
        if figures is None:
            continue
        if pooled.count >= FEWEST:
            break
        stages.append(stage)
        pooled.merge(figures.response.histogram)
    return stages, pooled


def _finding(
    summary: Summary,
    kind: str,
    others: int,
    name: str,
    stages: list[StageFigures],
    pooled: Histogram,
    usual_ns: float,
) -> Finding | None:
    own = float(pooled.quantile(0.5) or 0)
    spread = Z_99 * math.sqrt(0.25 / (pooled.count / SHARED_LUCK))
    low = float(pooled.quantile(max(0.5 - spread, 0.0)) or 0)
    if usual_ns <= 0 or low < FACTOR * usual_ns or own - usual_ns < LEAST_NS:
        return None
    whole = next(figures for figures in summary.endpoints if figures.name == name)
    p95 = whole.response.quantiles[0.95]
    middle = time_of(stages, name, pooled, 0.5)
    slow = own >= FELT_NS
    return Finding(
        id=RULE.id,
        kind="failed" if slow else "explore",
        sentence=(
            f"{wording.name(name)} takes {wording.time(middle)} (median at {wording.loads(stages)}), "
            f"{wording.change(own / usual_ns)} the {wording.time(usual_ns)} of the {others} other {kind}"
            + (f"; p95 over the run {wording.time(p95)}" if p95.value is not None else "")
            + "."
        ),
        confidence=confidence(
            True, len([s for s in usable(summary) if of(s, name) is not None]), doubtful=doubtful(stages)
        ),
        endpoint=name,
        n=pooled.count,
        evidence=(
            {
                "endpoint": name,
                "kind": kind,
                "median_ns": own,
                "median_at_least_ns": low,
                "usual_ns": usual_ns,
                "others": others,
                "load": load_of(stages[-1]),
                "n": pooled.count,
            },
        ),
        next_step=RULE.next_step,
        impact_s=(own - usual_ns) / 1e9 * whole.tally.ok,
    )


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    kinds: dict[str, int] = defaultdict(int)
    for figures in summary.endpoints:
        if _light(summary, figures.name)[1].count >= FEWEST:
            kinds[_kind(figures.name)] += 1
    told = [f"{count} {kind}" for kind, count in sorted(kinds.items()) if count >= FEWEST_OF_KIND]
    if not told:
        return ""
    return (
        f"No endpoint is {FACTOR:g} times as slow as others of its kind at the lightest load, of {' and '.join(told)}."
    )


RULE = Rule(
    id="endpoint.outlier",
    title="An endpoint slower than its kind",
    question="Which endpoint takes much longer than the others that read, or that write, while nobody is waiting yet?",
    statistic="median response time in the stages of the lowest loads, over the median of the others of its kind",
    threshold=(
        "4 times as long at 99 %, and at least 20 ms longer; from a second on it failed, below it is to be explored"
    ),
    guard="at least 4 endpoints of the kind with 30 answers each; light load only, so that queues play no part",
    why=(
        "What is slow for a single user is work, not waiting: a query for each row, a missing index or cache, a "
        "big answer."
    ),
    next_step=(
        "Profile one request of it: count its database queries for a small and a large answer, look at their "
        "plans, and "
        "see whether its result could be kept."
    ),
    judge=judge,
    cleared=cleared,
)
