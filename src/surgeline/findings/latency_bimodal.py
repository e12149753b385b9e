"""Has an endpoint two speeds, and what tells them apart?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.analysis.traits import EndpointTraits, Modes
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, seen_singly
from surgeline.findings.model import Finding, Rule

MOST = 2
STALL_LIKE = 0.4
"""Two modes as far apart as a stall is long (within this share) are the stall, not the endpoint."""

STALL_SHARE = 3.0
"""A stall of a twentieth of the time hits a twentieth of the requests, a few times as many where users queue up."""
FEWEST_TOLD = 40
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint, the costliest first; none where a regular stall explains the second mode."""
    found = [
        _finding(traits, traits.modes)
        for traits in summary.traits.endpoints
        if traits.modes is not None and not _is_stall(summary, traits.modes)
    ]
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _is_stall(summary: Summary, modes: Modes) -> bool:
    apart = modes.slow_ns - modes.fast_ns
    return not modes.by and any(
        apart < (1.0 + STALL_LIKE) * stall.duration_ns
        and modes.slow_share < STALL_SHARE * stall.duration_ns / stall.period_ns
        for stall in summary.stalls
    )


def _finding(traits: EndpointTraits, modes: Modes) -> Finding:
    sentence = (
        f"{wording.name(traits.name)} has two speeds: {units.format_ratio(1.0 - modes.slow_share)} of "
        "its requests take "
        f"about {wording.time(modes.fast_ns)}, {units.format_ratio(modes.slow_share)} about "
        f"{wording.time(modes.slow_ns)}"
    )
    if modes.by:
        sentence += f"; {modes.by} tells them apart in {units.format_ratio(modes.purity)}"
    lost = (modes.slow_ns - modes.fast_ns) * modes.slow_share * traits.requests
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=f"{sentence}.",
        confidence=confidence(True, 1, enough=bool(modes.by)),
        endpoint=traits.name,
        n=modes.n,
        evidence=(
            {
                "endpoint": traits.name, "fast_ns": modes.fast_ns, "slow_ns": modes.slow_ns,
                "slow_share": modes.slow_share, "told_apart_by": modes.by, "purity_ratio": modes.purity,
            },
        ),
        next_step=RULE.next_step,
        impact_s=lost / 1e9,
        doubt="What tells them apart?",
    )  # fmt: skip


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    looked = [traits for traits in summary.traits.endpoints if traits.requests >= FEWEST_TOLD]
    if not looked or not seen_singly(summary):
        return ""
    return (
        f"None was seen to have two speeds, of {wording.plural(len(looked), 'endpoint')} with {FEWEST_TOLD} right "
        "answers or more."
    )


RULE = Rule(
    id="latency.bimodal",
    title="Two speeds",
    question="Do an endpoint's requests fall into a fast and a slow kind, and what tells them apart?",
    statistic=(
        "two normal components in the logarithm of service times at the lowest loads: Ashman's D, both "
        "weights, the gain "
        "over one component (BIC) and the valley between the peaks"
    ),
    threshold=(
        "D of 3 or more, each kind 10 % or more of the requests, the valley at most 40 % of the lower "
        "peak, and the slow "
        "kind at least twice and 5 ms slower"
    ),
    guard=(
        "at least 40 requests after the first 3 s, in stages that are not slower as a whole; times that grow with a "
        "numeric parameter, and stalls, are said elsewhere; where no header, parameter or new connection tells the "
        "kinds "
        "apart in 85 % and with half of the errors of a blind guess, it is a question, and only from D 5 on"
    ),
    why="An average of two speeds describes nobody; the slow kind is often a cache that misses.",
    next_step=(
        "Raise the share of the fast kind, or make the slow one cheaper; the header or parameter says where to look."
    ),
    judge=judge,
    cleared=cleared,
)
