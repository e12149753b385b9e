"""Does looking up the name of the target take long?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

FEWEST = 10
LEAST_NS = 20e6
LEAST_SHARE = 0.2


def judge(summary: Summary) -> list[Finding]:
    """One finding for all requests together, in both directions; nothing where too few had this phase."""
    seen = summary.traits.marks.dns
    if seen is None or seen.n < FEWEST:
        return []
    slow = seen.median_ns >= LEAST_NS and seen.share >= LEAST_SHARE
    return [
        Finding(
            id=RULE.id,
            kind="explore" if slow else "well",
            sentence=(
                f"Looking up the name takes {wording.time(seen.median_ns)} (median of {seen.n:,}), "
                f"{units.format_ratio(seen.share)} of the time of the requests that needed one."
            ),
            confidence=confidence(True, 1),
            endpoint=None,
            n=seen.n,
            evidence=({"n": seen.n, "median_ns": seen.median_ns, "share": seen.share},),
            next_step=RULE.next_step if slow else "",
            impact_s=seen.median_ns * seen.n / 1e9 if slow else 0.0,
        )
    ]


RULE = Rule(
    id="conn.dns_slow",
    title="Slow name lookups",
    question="Does looking up the name of the target take long?",
    statistic="the median of the DNS phase of requests that looked a name up, and its share of their time",
    threshold="20 ms or more, and 20 % of the time of those requests",
    guard=(
        "at least 10 lookups that requests waited for. The native engine and the native client look names up before "
        "they send, and stock Locust does not tell: there it cannot speak. Plans hosted in Locust without the "
        "native engine look up once in each process, so it takes ten of those"
    ),
    why="A slow lookup stands before everything else, and no server can make up for it.",
    next_step=(
        "Look at the resolver that the generator uses, and at the lifetime of the name's records; then at "
        "caches in between."
    ),
    judge=judge,
)
