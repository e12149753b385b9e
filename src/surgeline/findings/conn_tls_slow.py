"""Does agreeing on keys take long compared with opening the connection?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

FEWEST = 30
LEAST_NS = 20e6
TIMES_CONNECT = 3.0
"""A full handshake of TLS 1.2 takes two round trips where connecting takes one (RFC 5246); 1.3 takes one (RFC 8446)."""
LEAST_SHARE = 0.2


def judge(summary: Summary) -> list[Finding]:
    """One finding for all requests together, in both directions; nothing where too few had this phase."""
    seen = summary.traits.marks.tls
    if seen is None or seen.n < FEWEST:
        return []
    slow = (
        seen.median_ns >= LEAST_NS
        and seen.share >= LEAST_SHARE
        and seen.median_ns >= TIMES_CONNECT * max(seen.connect_ns, 1.0)
    )
    return [
        Finding(
            id=RULE.id,
            kind="explore" if slow else "well",
            sentence=(
                f"A TLS handshake takes {wording.time(seen.median_ns)} (median of {seen.n:,}), against "
                f"{wording.time(seen.connect_ns)} for connecting, "
                f"{units.format_ratio(seen.share)} of the time of the requests that needed one."
            ),
            confidence=confidence(True, 1),
            endpoint=None,
            n=seen.n,
            evidence=({"n": seen.n, "median_ns": seen.median_ns, "connect_ns": seen.connect_ns, "share": seen.share},),
            next_step=RULE.next_step if slow else "",
            impact_s=seen.median_ns * seen.n / 1e9 if slow else 0.0,
        )
    ]


RULE = Rule(
    id="conn.tls_slow",
    title="Slow TLS handshakes",
    question="Does agreeing on keys take long compared with opening the connection?",
    statistic=(
        "the median of the TLS phase of requests that had one, against that of connecting, and its share of their time"
    ),
    threshold="20 ms or more, three times connecting or more, and 20 % of the time of those requests",
    guard="at least 30 handshakes; kept connections do not count",
    why="A slow handshake is felt by everybody who comes for the first time, and costs the server CPU each time.",
    next_step=(
        "Let sessions be resumed, offer TLS 1.3 and keys on elliptic curves, and look at the CPU of whatever ends TLS."
    ),
    judge=judge,
)
