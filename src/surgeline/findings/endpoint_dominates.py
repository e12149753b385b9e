"""Is there one endpoint for which users wait most of all?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

MOST_OF_ALL = 0.5
FEWEST_ENDPOINTS = 3
FEWEST = 30
MUCH_MORE = 2.0
"""Its share of the time must be this much above its share of the requests: otherwise it is merely asked often."""


def judge(summary: Summary) -> list[Finding]:
    """The endpoint with more than half of all response time, where it is not simply more than half of the requests."""
    if len(summary.endpoints) < FEWEST_ENDPOINTS or not summary.total.tally.ok:
        return []
    figures = max(summary.endpoints, key=lambda item: (item.share_of_time or 0.0, item.name))
    time_share = figures.share_of_time or 0.0
    asked = figures.tally.ok / summary.total.tally.ok
    if time_share <= MOST_OF_ALL or time_share < MUCH_MORE * asked or figures.tally.ok < FEWEST:
        return []
    mean = figures.response.mean_ns or 0.0
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{wording.name(figures.name)} is {units.format_ratio(asked)} of the answers and "
                f"{units.format_ratio(time_share)} of all the time that was waited for them (mean "
                f"{wording.time(mean)}): "
                f"halving it would save {units.format_ratio(time_share / 2)} of all waiting."
            ),
            confidence=confidence(True, len(usable(summary)), doubtful=doubtful(summary.stages)),
            endpoint=figures.name,
            n=figures.tally.ok,
            evidence=tuple(
                {"endpoint": item.name, "share_of_time": item.share_of_time, "ok": item.tally.ok}
                for item in summary.endpoints
            ),
            next_step=RULE.next_step,
            impact_s=figures.response.histogram.sum_ns / 2e9,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if len(summary.endpoints) < FEWEST_ENDPOINTS or not summary.total.tally.ok:
        return ""
    figures = max(summary.endpoints, key=lambda item: (item.share_of_time or 0.0, item.name))
    if figures.tally.ok < FEWEST or figures.share_of_time is None:
        return ""
    asked = figures.tally.ok / summary.total.tally.ok
    return (
        f"No endpoint takes more than half of all waiting and more than twice its share of the answers: the most is "
        f"{units.format_ratio(figures.share_of_time)}, of {wording.name(figures.name)}, which is "
        f"{units.format_ratio(asked)} of the answers."
    )


RULE = Rule(
    id="endpoint.dominates",
    title="One endpoint takes most of the time",
    question="Is there one endpoint for which users wait more than for all others together?",
    statistic="sum of its ok response times over that of all endpoints",
    threshold="more than half, and more than twice its share of the answers",
    guard="at least 3 endpoints in the run, and 30 answers of this one",
    why="By Amdahl's law nothing that is done elsewhere can save as much.",
    next_step="Make this one faster, or ask it less often, before anything else.",
    judge=judge,
    cleared=cleared,
)
