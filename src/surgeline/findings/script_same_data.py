"""Does the load ask for the same few things again and again?"""

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import seen_singly
from surgeline.findings.model import Finding, Rule

FEW = 5
FEWEST = 200


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    found = [
        one
        for one in summary.traits.marks.same_data
        if one.requests >= FEWEST and (one.distinct < FEW if one.what == "address" else one.distinct == 1)
    ]
    if not found:
        return []
    found.sort(key=lambda one: (-one.requests, one.endpoint))
    first = found[0]
    what = "address" if first.what == "address" else "body"
    times = f"{first.distinct} different {what}{'' if first.distinct == 1 else 'es' if what == 'address' else 'ies'}"
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{wording.names([one.endpoint for one in found])} {'was' if len(found) == 1 else 'were'} asked for "
                "the "
                f"same again and again: {wording.name(first.endpoint)} {first.requests:,} times with no more than "
                f"{times}. "
                "Caches make such times look better than users will find them."
            ),
            confidence="high",
            endpoint=first.endpoint if len(found) == 1 else None,
            n=sum(one.requests for one in found),
            evidence=tuple(
                {"endpoint": one.endpoint, "requests": one.requests, "distinct": one.distinct, "of": one.what}
                for one in found
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if not seen_singly(summary) or not any(figures.tally.sent >= FEWEST for figures in summary.endpoints):
        return ""
    return "No endpoint that has a place for data was asked for the same again and again."


RULE = Rule(
    id="script.same_data",
    title="Always the same data",
    question="Is a request with a place for data filled with few values only?",
    statistic="different addresses of endpoints with a `{…}` in their name; different bodies among kept exchanges",
    threshold="fewer than 5 addresses, or one body in 6 kept exchanges or more, in 200 requests or more",
    guard="endpoints without a place for data are not meant; bodies that hold a secret are not compared",
    why="The second request for the same row is served from a cache; thousands of users ask for thousands of rows.",
    next_step="Draw the values from a data file or from a range: `{{int(1,4000)}}`, or `data:` with a CSV file.",
    judge=judge,
    cleared=cleared,
)
