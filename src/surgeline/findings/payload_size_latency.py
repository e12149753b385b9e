"""Does an endpoint take longer the more it sends?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.analysis.traits import EndpointTraits, SizeCost
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, seen_singly
from surgeline.findings.model import Finding, Rule

MOST = 2
FEWEST_TOLD = 60
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint, the costliest first."""
    found = [_finding(traits, traits.size) for traits in summary.traits.endpoints if traits.size is not None]
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _finding(traits: EndpointTraits, size: SizeCost) -> Finding:
    speed = units.format_size(round(1e9 / size.ns_per_byte))
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{wording.name(traits.name)} takes longer the more it sends: from "
            f"{units.format_size(round(size.low_bytes))} "
            f"to {units.format_size(round(size.high_bytes))} its median goes from {wording.time(size.low_ns)} to "
            f"{wording.time(size.high_ns)}, {speed} a second in a straight line (R² {size.r2:.2f})."
        ),
        confidence=confidence(True, 1),
        endpoint=traits.name,
        n=size.n,
        evidence=(
            {
                "endpoint": traits.name, "low_bytes": size.low_bytes, "high_bytes": size.high_bytes,
                "low_p50_ns": size.low_ns, "high_p50_ns": size.high_ns, "r2": size.r2,
            },
        ),
        next_step=RULE.next_step,
        impact_s=(size.high_ns - size.low_ns) / 2.0 * traits.requests / 1e9,
    )  # fmt: skip


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    looked = [traits for traits in summary.traits.endpoints if traits.requests >= FEWEST_TOLD]
    if not looked or not seen_singly(summary):
        return ""
    return (
        "As far as sizes of answers vary, none takes longer the larger it is: "
        f"{wording.plural(len(looked), 'endpoint')} with {FEWEST_TOLD} right answers or more."
    )


RULE = Rule(
    id="payload.size_latency",
    title="Longer the more it sends",
    question="Does response time grow with the size of the answer?",
    statistic="medians of service time over answer size in up to ten groups of equal size, at the lowest loads",
    threshold="sizes that span a factor of two; the median at least doubles and grows by 5 ms; R² of 0.9 or more",
    guard="at least 60 answers, 6 in each of three groups; not said where a numeric parameter explains it already",
    why="Time that goes with bytes is spent on making, writing or carrying them.",
    next_step="Send less (fields, pages, compression); if the wire is fast, look at how the answer is made.",
    judge=judge,
    cleared=cleared,
)
