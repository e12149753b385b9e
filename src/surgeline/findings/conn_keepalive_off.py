"""Does every request need a connection of its own?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

MOSTLY_NEW = 0.5
FEWEST = 50
MOSTLY_KEPT = 0.1
"""Up to which share of new ones they are said to be kept."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together, in both directions; nothing where connections are not known."""
    known = sum(traits.connections for traits in summary.traits.endpoints)
    fresh = sum(traits.new_connections for traits in summary.traits.endpoints)
    if known < FEWEST or _is_planned(summary):
        return []
    share = fresh / known
    if share <= MOSTLY_NEW:
        return []
    setup = sum(traits.setup_share * traits.new_connections for traits in summary.traits.endpoints) / max(fresh, 1)
    return [
        Finding(
            id=RULE.id,
            kind="failed",
            sentence=(
                f"{units.format_ratio(share)} of the requests needed a new connection although kept ones are offered; "
                f"opening it took {units.format_ratio(setup)} of their time."
            ),
            confidence=confidence(True, 1),
            endpoint=None,
            n=known,
            evidence=tuple(
                {
                    "endpoint": traits.name,
                    "new_connections": traits.new_connections,
                    "requests": traits.connections,
                    "setup_share": traits.setup_share,
                }
                for traits in summary.traits.endpoints
                if traits.new_connections
            ),
            next_step=RULE.next_step,
            impact_s=setup * (summary.total.response.mean_ns or 0.0) * fresh / 1e9,
        )
    ]


def _is_planned(summary: Summary) -> bool:
    """Whether the plan itself wants a connection for each request or arrival, or for conversations, which use it up."""
    plan = (summary.run.get("subject") or {}).get("plan") or {}
    connection = plan.get("connection") or {}
    kept = connection.get("keep_alive", True)
    closes = {str(name).lower(): str(value).lower() for name, value in (plan.get("headers") or {}).items()}
    arrives = summary.model == "open"
    flows = (plan.get("scenarios") or {}).values()
    steps = [step for flow in flows for step in (*flow.get("once", ()), *flow.get("steps", ()))]
    return (
        any("websocket" in step or "events" in step for step in steps)
        or (kept is not True and int(kept) <= 1)
        or closes.get("connection") == "close"
        or (arrives and connection.get("share") == "user")
    )


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    known = sum(traits.connections for traits in summary.traits.endpoints)
    if known < FEWEST or _is_planned(summary):
        return ""
    fresh = sum(traits.new_connections for traits in summary.traits.endpoints)
    if fresh > MOSTLY_KEPT * known:
        return ""
    return f"Connections are kept: {fresh:,} of {wording.plural(known, 'request')} needed a new one."


RULE = Rule(
    id="conn.keepalive_off",
    title="A connection for each request",
    question="Does the server keep connections open for the next request?",
    statistic="the share of requests that opened a connection, where that is known",
    threshold="more than half",
    guard="at least 50 requests; not said where the plan itself asks for new connections",
    why="A new connection costs a round trip, with TLS two or three, and a port on both sides.",
    next_step="Turn on keep-alive in the server and in proxies before it; look for `Connection: close` in answers.",
    judge=judge,
    cleared=cleared,
)
