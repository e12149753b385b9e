"""Do requests carry more cookie than anything else?"""

from surgeline import units
from surgeline.analysis.marks import LARGE_COOKIES
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, seen_singly
from surgeline.findings.model import Finding, Rule

FEWEST = 30
LEAST_SHARE = 0.2


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    found = [one for one in summary.traits.marks.cookies if one.n >= FEWEST and one.share >= LEAST_SHARE]
    if not found:
        return []
    found.sort(key=lambda one: -one.n * one.size)
    worst = found[0]
    whole = sum(one.n * one.size for one in found)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"Requests carry large cookies: those of {wording.names([one.endpoint for one in found])} about "
                f"{units.format_size(round(worst.size))} each, {units.format_size(round(whole))} in this run."
            ),
            confidence=confidence(True, 1),
            endpoint=worst.endpoint if len(found) == 1 else None,
            n=sum(one.n for one in found),
            evidence=tuple(
                {"endpoint": one.endpoint, "requests": one.n, "share": one.share, "bytes": one.size} for one in found
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if not summary.exchanges or not seen_singly(summary):
        return ""
    return f"No endpoint's requests carry cookies of {LARGE_COOKIES:,} bytes or more in a fifth of them."


RULE = Rule(
    id="http.cookies_large",
    title="Large cookies",
    question="Do requests carry cookies of several kilobytes?",
    statistic=(
        "bytes sent per request, less its body and the headers whose values are known, where Cookie is among them"
    ),
    threshold=f"{LARGE_COOKIES:,} bytes or more in 20 % of an endpoint's requests",
    guard=(
        "at least 30 such requests; values of cookies are never kept, so other credentials of the request are counted "
        "with them"
    ),
    why="A cookie goes up with every request, over the slower direction of most links, and fills buffers of 4 or 8 kB.",
    next_step="Keep what the cookie carries on the server and send its number, or narrow the path that it is set for.",
    judge=judge,
    cleared=cleared,
)
