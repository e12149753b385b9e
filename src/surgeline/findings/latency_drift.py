"""Under one and the same load, do response times creep up?"""

import numpy as np

from surgeline import units
from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

SHORTEST_S = 120.0
GROUPS = 20
LEAST = 0.15
Z_99 = 2.576


def judge(summary: Summary) -> list[Finding]:
    """One finding for the longest flat stage that is long enough; in both directions."""
    flat = [stage for stage in usable(summary) if stage.start == stage.end and stage.duration_s >= SHORTEST_S]
    if not flat:
        return []
    stage = max(flat, key=lambda stage: stage.duration_s)
    begin = stage.begin_ns / 1e9 + max(stage.warm_up_s or 0.0, 1.0)
    mine = [s for s in summary.seconds if begin <= s.second < stage.end_ns / 1e9 - 1 and s.p50_ns]
    if len(mine) < 4 * GROUPS:
        return []
    # Medians of groups of seconds: what is left between them is nearly independent.
    parts = np.array_split(np.log([float(s.p50_ns or 1) for s in mine]), GROUPS)
    y = np.array([float(np.median(part)) for part in parts])
    x = np.arange(GROUPS) / (GROUPS - 1)
    slopes = [(y[j] - y[i]) / (x[j] - x[i]) for i in range(GROUPS) for j in range(i + 1, GROUPS)]
    change = float(np.median(slopes))
    rest = y - change * x
    rest = rest - np.median(rest)
    acf = max(float((rest[:-1] * rest[1:]).sum()) / max(float((rest * rest).sum()), 1e-12), 0.0)
    se = (
        float(rest.std(ddof=2)) / float(np.sqrt(((x - x.mean()) ** 2).sum())) * ((1 + acf) / (1 - min(acf, 0.9))) ** 0.5
    )
    first, last = float(np.exp(y[0])), float(np.exp(y[0] + change))
    if change - Z_99 * se > 0 and np.expm1(change) >= LEAST:
        return [_finding(summary, stage, float(np.expm1(change)), first, last, len(mine))]
    if np.expm1(change + Z_99 * se) < LEAST:
        return [_steady(stage, first, len(mine))]
    return []


def _finding(summary: Summary, stage: StageFigures, change: float, first: float, last: float, n: int) -> Finding:
    server, memory = summary.server, ""
    if server is not None and server.rss_first_bytes and server.rss_last_bytes:
        grown = server.rss_last_bytes / server.rss_first_bytes - 1.0
        if grown > 0.1:
            sizes = [units.format_size(round(value)) for value in (server.rss_first_bytes, server.rss_last_bytes)]
            memory = f" Meanwhile the memory of the served process grew from {sizes[0]} to {sizes[1]}."
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"Response times creep up under one load: at {wording.load(stage)} the median went from "
            f"{wording.time(first)} "
            f"to {wording.time(last)} within {units.format_duration(round(stage.duration_s) * units.NS_PER_S)} "
            f"({wording.change(1.0 + change)}).{memory}"
        ),
        confidence=confidence(True, 1, doubtful=doubtful((stage,))),
        endpoint=None,
        n=stage.total.tally.ok,
        evidence=({"stage": stage.index, "seconds": n, "first_p50_ns": first, "last_p50_ns": last},),
        next_step=RULE.next_step,
        impact_s=(last - first) / 2.0 * stage.total.tally.ok / 1e9,
    )


def _steady(stage: StageFigures, median: float, n: int) -> Finding:
    lasted = units.format_duration(round(stage.duration_s) * units.NS_PER_S)
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=f"No drift: over {lasted} at {wording.load(stage)} the median stayed near {wording.time(median)}.",
        confidence=confidence(True, 1, doubtful=doubtful((stage,))),
        endpoint=None,
        n=stage.total.tally.ok,
        evidence=({"stage": stage.index, "seconds": n, "first_p50_ns": median},),
        next_step="",
        impact_s=0.0,
    )


RULE = Rule(
    id="latency.drift",
    title="Response times that creep up",
    question="Under one and the same load, do response times grow with time?",
    statistic="Theil-Sen slope of the log median in 20 parts of the longest flat stage, its beginning left out",
    threshold="15 % or more from beginning to end, above zero at 99 % corrected for autocorrelation",
    guard="flat stages of two minutes or more; the warm-up that was found does not count",
    why="What creeps for minutes runs out in days: memory, tables without an index, logs, connections.",
    next_step="Let it run for an hour at half the load, and watch memory, open files and the size of tables.",
    judge=judge,
)
