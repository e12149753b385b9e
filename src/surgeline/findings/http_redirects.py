"""Does an endpoint answer with another address, again and again?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

LEAST_SHARE = 0.5
FEWEST = 30
HARDLY = 0.01
"""Up to which share they are said not to come about."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    found = [
        figures
        for figures in summary.endpoints
        if figures.tally.sent >= FEWEST and figures.tally.hops >= LEAST_SHARE * figures.tally.sent
    ]
    if not found:
        return []
    found.sort(key=lambda figures: -figures.tally.hops)
    worst = found[0]
    hops = sum(figures.tally.hops for figures in found)
    each = worst.tally.hops / worst.tally.sent
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{wording.names([figures.name for figures in found])} "
                f"{'is' if len(found) == 1 else 'are'} redirected: "
                f"{wording.name(worst.name)} {each:.2g} times per request, {units.format_count(hops)} "
                "answers in all that "
                "only named another address."
            ),
            confidence=confidence(True, 1),
            endpoint=worst.name if len(found) == 1 else None,
            n=sum(figures.tally.sent for figures in found),
            evidence=tuple({"endpoint": f.name, "hops": f.tally.hops, "sent": f.tally.sent} for f in found),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    asked = [figures.tally for figures in summary.endpoints if figures.tally.sent >= FEWEST]
    if not asked:
        return ""
    hops, sent = sum(tally.hops for tally in asked), sum(tally.sent for tally in asked)
    if hops > HARDLY * sent:
        return ""
    return f"Addresses are final: {wording.plural(sent, 'request')} met {wording.plural(hops, 'redirect')}."


RULE = Rule(
    id="http.redirects",
    title="Redirected each time",
    question="Do requests go through redirects that a right address would spare?",
    statistic="redirects followed per request sent, by endpoint",
    threshold="one for every second request or more",
    guard="at least 30 requests; only redirects within the same origin are followed",
    why="Each redirect is one more round trip, and one more request that the server has to answer.",
    next_step="Ask for the final address: its slash at the end, its host, https.",
    judge=judge,
    cleared=cleared,
)
