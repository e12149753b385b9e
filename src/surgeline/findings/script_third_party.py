"""Does the load also go to hosts that are not the target?"""

from urllib.parse import urlsplit

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

LEAST_SHARE = 0.01
FEWEST = 5


def judge(summary: Summary) -> list[Finding]:
    """One finding for all other hosts together; nothing where the target is not known."""
    hosts, target = summary.traits.marks.hosts, _target(summary)
    whole, count = _elsewhere(summary)
    if not count or count < max(FEWEST, LEAST_SHARE * whole) or count == whole:
        return []
    others = [(host, count) for host, count in hosts if host != target]
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{units.format_ratio(count / whole)} of the requests went to other hosts than the target {target}: "
                f"{wording.names([host for host, _ in others])}."
            ),
            confidence="high",
            endpoint=None,
            n=count,
            evidence=tuple({"host": host, "requests": count} for host, count in hosts),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def _target(summary: Summary) -> str:
    return urlsplit(str((summary.run.get("settings") or {}).get("target") or "")).netloc.lower()


def _elsewhere(summary: Summary) -> tuple[int, int]:
    """How many requests there were, and how many of them went to other hosts; none where the target is not known."""
    hosts, target = summary.traits.marks.hosts, _target(summary)
    if not target:
        return 0, 0
    return sum(count for _, count in hosts), sum(count for host, count in hosts if host != target)


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    whole, elsewhere = _elsewhere(summary)
    if not whole or elsewhere == whole:
        return ""
    return f"The load stays with the target: {elsewhere:,} of {wording.plural(whole, 'request')} went to another host."


RULE = Rule(
    id="script.third_party",
    title="Load on other hosts",
    question="Do requests go to hosts that are not the target?",
    statistic="requests by the host in their address",
    threshold="1 % of the requests or more, to other hosts than the target",
    guard="at least 5 requests; where all go elsewhere it is the target that was named wrongly, not a second one",
    why="Load on somebody else's host is not yours to put there, and its times are not those of your server.",
    next_step="Leave those requests out, or answer them from a stand-in of your own.",
    judge=judge,
    cleared=cleared,
)
