"""What was due and never sent, because as many requests as may be were in flight already.

It is no answer that was wrong, so no rule counts it among those. Where the bound is the generator's own, thousands, a
server that leaves so much unanswered has had its say; where somebody set it lower, it is a question of what is wanted.
What the generator had no descriptor, port or time for is none of it.
"""

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import Summary
from surgeline.analysis.validity import set_bound
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding

LEAST_SHARE = 0.01
"""Of what was due in a stage: the share from which on the planned load was not offered."""


def not_sent(summary: Summary, rule: str) -> list[Finding]:
    """The finding, under the id of the rule that speaks of errors; none where nearly all was sent."""
    stages = [
        stage
        for stage in summary.stages
        if stage.validity != "invalid" and stage.total.tally.unsent > LEAST_SHARE * stage.total.tally.due
    ]
    if not stages:
        return []
    least = min(stages, key=lambda stage: (load_of(stage), stage.index))
    unsent, due = (sum(getattr(stage.total.tally, name) for stage in stages) for name in ("unsent", "due"))
    bound, cap = set_bound(summary.run), (summary.run.get("settings") or {}).get("max_in_flight")
    where = f"at {wording.load(least)}" if len(stages) == 1 else f"from {wording.load(least)} on"
    full = (
        f"{bound:,} requests were in flight, the bound that was set"
        if bound is not None
        else f"{cap:,} requests were in flight, the most there may be"
        if isinstance(cap, int)
        else "as many requests as may be were in flight"
    )
    median = least.total.response.quantiles[0.5].value
    slow = f", and answers took {wording.time(median)} (median)" if median is not None else ""
    return [
        Finding(
            id=rule,
            kind="failed" if bound is None else "explore",
            sentence=(
                f"{units.format_ratio(unsent / due)} of {wording.plural(due, 'request')} due {where} were not sent: "
                f"{full}{slow}."
            ),
            confidence=confidence(True, len(stages)),
            endpoint=None,
            n=due,
            evidence=tuple(
                {
                    "stage": stage.index,
                    "load": load_of(stage),
                    "due": stage.total.tally.due,
                    "not_sent": stage.total.tally.unsent,
                    "in_flight": stage.in_flight,
                }
                for stage in stages
            ),
            next_step=(
                "The server did not answer as fast as requests became due: see at which load throughput stops growing."
                if bound is None
                else "Raise --max-in-flight if the server is to have more at once; response times here are those of "
                f"{wording.plural(bound, 'request')} at a time."
            ),
            impact_s=0.0,
        )
    ]
