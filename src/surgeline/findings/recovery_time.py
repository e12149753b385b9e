"""After the heaviest load, how soon is everything as before?"""

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.model import Finding, Rule

NEAR = 1.25
"""As before: the median within a quarter of what it was."""
FELL_BY = 0.5
"""The load must fall to this share of the peak or less."""
IN_A_ROW = 3
SLOW_S = 10.0
LEAST_NS = 5e6


def judge(summary: Summary) -> list[Finding]:
    """For the first stage after the peak whose load is again like one before it; nothing where there is none."""
    stages = [stage for stage in summary.stages if stage.validity != "invalid"]
    if len(stages) < 3 or summary.capacity is not None:
        # A search measures recovery after each failure, and says so beside its capacity.
        return []
    peak = max(range(len(stages)), key=lambda i: (load_of(stages[i]), -i))
    if peak + 1 >= len(stages) or not peak:
        return []
    after = stages[peak + 1]
    if max(after.start, after.end) > FELL_BY * load_of(stages[peak]):
        return []
    like = [stage for stage in stages[:peak] if 0.7 * load_of(after) <= load_of(stage) <= 1.4 * load_of(after)]
    usual = like[0].total.response.quantiles[0.5].value if like else None
    if usual is None:
        return []
    limit = max(NEAR * usual, usual + LEAST_NS)
    took = _seconds_until(summary, after, limit)
    now = after.total.response.quantiles[0.5]
    least = now.low if now.low is not None else now.value
    if took is None and (least is None or least <= limit):
        # Seconds scatter around what the stage as a whole does not exceed: neither back nor away.
        return []
    return [_finding(summary, stages[peak], like[0], after, usual, took)]


def _seconds_until(summary: Summary, after: StageFigures, limit_ns: float) -> int | None:
    """How many seconds into the stage the median came, and stayed for three seconds, below the limit."""
    begin = after.begin_ns // units.NS_PER_S
    mine = [second for second in summary.seconds if begin <= second.second < after.end_ns // units.NS_PER_S]
    good = [second.p50_ns is not None and second.p50_ns <= limit_ns for second in mine]
    for index in range(len(good) - IN_A_ROW + 1):
        if all(good[index : index + IN_A_ROW]):
            return mine[index].second - begin
    return None


def _finding(
    summary: Summary, peak: StageFigures, before: StageFigures, after: StageFigures, usual: float, took: int | None
) -> Finding:
    fell = f"after the load fell from {wording.load(peak)} to {wording.load(after)}"
    was = f"the median was {wording.time(usual)} at {wording.load(before)} before"
    if took is None:
        still = after.total.response.quantiles[0.5].value
        sentence = (
            f"No recovery within {units.format_duration(after.end_ns - after.begin_ns)} {fell}: {was}, "
            f"and is {wording.time(still)} now."
        )
    else:
        soon = "within a second" if took == 0 else f"{took} s"
        sentence = f"Back to normal {soon} {fell}: {was}, and is within 25 % of that again."
    fast = took is not None and took <= SLOW_S
    lost = max((after.total.response.mean_ns or 0.0) - (before.total.response.mean_ns or 0.0), 0.0)
    return Finding(
        id=RULE.id,
        kind="well" if fast else "failed",
        sentence=sentence,
        confidence=confidence(False, 1, doubtful=doubtful((before, after))),
        endpoint=None,
        n=after.total.tally.ok,
        evidence=(
            {
                "peak": peak.index,
                "before": before.index,
                "after": after.index,
                "usual_ns": usual,
                "seconds": took,
            },
        ),
        next_step="" if fast else RULE.next_step,
        impact_s=0.0 if fast else lost * after.total.tally.ok / 1e9,
    )


RULE = Rule(
    id="recovery.time",
    title="Recovery after the peak",
    question="After the heaviest load, how soon are response times what they were at the same load before?",
    statistic=(
        "seconds until the median of each second is within 25 % (or 5 ms) of the earlier one, three times in a row"
    ),
    threshold="up to 10 s is well; more, or not at all, failed",
    guard=(
        "only where the load falls to half or less, to a level that was measured before the peak; failed only where "
        "the "
        "median of the whole stage is above that, with its interval"
    ),
    why="A server that does not come back by itself turns a short peak into an outage.",
    next_step="Look for what outlives the peak: queues, retries, full pools, sessions, memory.",
    judge=judge,
)
