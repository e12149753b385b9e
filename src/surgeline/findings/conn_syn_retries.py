"""Do new connections wait for a packet that was lost?"""

from surgeline import units
from surgeline.analysis.distributions import wilson
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

FEWEST = 5
LEAST_SHARE = 0.01
USUAL_NS = 500e6
FEWEST_TOLD = 100
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all connections together."""
    seen = summary.traits.marks.retries
    if seen is None or seen.late < FEWEST or seen.median_ns > USUAL_NS:
        return []
    share = seen.late / seen.connections
    low, high = wilson(share, float(seen.connections))
    if low <= LEAST_SHARE:
        return []
    return [
        Finding(
            id=RULE.id,
            kind="failed",
            sentence=(
                f"{units.format_ratio(share)} [{units.format_ratio(low)}–{units.format_ratio(high)}] of "
                f"{wording.plural(seen.connections, 'new connection')} took about 1, 3 or 7 s to open, where the "
                f"median is {wording.time(seen.median_ns)}: consistent with a full queue of connections that drops "
                "the first packet."
            ),
            confidence=confidence(True, 1, doubtful=doubtful(usable(summary))),
            endpoint=None,
            n=seen.connections,
            evidence=({"connections": seen.connections, "late": seen.late, "median_ns": seen.median_ns},),
            next_step=RULE.next_step,
            impact_s=float(seen.late),
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    seen = summary.traits.marks.retries
    if seen is None or seen.connections < FEWEST_TOLD or seen.late >= FEWEST or seen.median_ns > USUAL_NS:
        return ""
    return (
        f"Connections are accepted at once: {seen.late:,} of {wording.plural(seen.connections, 'new connection')} "
        f"took about 1, 3 or 7 s to open, the median {wording.time(seen.median_ns)}."
    )


RULE = Rule(
    id="conn.syn_retries",
    title="Connections that open a second late",
    question="Do connections come about after 1, 3 or 7 s, the times after which a lost first packet is sent again?",
    statistic="the connect phase of requests that opened a connection: 0.95 to 1.3 s, 2.9 to 3.5 s or 6.8 to 7.8 s",
    threshold="the 95 % interval of their share lies above 1 %",
    guard="at least 5 of them, and a median below 500 ms: a far or slow network is not meant",
    why="Between machines that answer in milliseconds only a dropped packet makes a connection wait exactly a second.",
    next_step=(
        "Look at the server's backlog of connections (listen queue, somaxconn, SYN drops in its network statistics) "
        "and "
        "at how fast it accepts; keep connections open."
    ),
    judge=judge,
    cleared=cleared,
)
