"""Is the same answer sent again and again, without anything that would let a client keep it?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.analysis.traits import EndpointTraits
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

FEWEST_PAIRS = 3
SAME = 0.9
FEWEST_REQUESTS = 30
LEAST_BYTES = 256
"""An answer no larger than its headers is not worth a validator."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    bare = [traits for traits in summary.traits.endpoints if _bare(traits)]
    if not bare:
        return []
    bare.sort(key=lambda traits: -_saved(traits))
    worst, whole = bare[0], sum(_saved(traits) for traits in bare)
    names = wording.names([traits.name for traits in bare])
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{names} {'sends' if len(bare) == 1 else 'send'} the same again and again without "
                "ETag, Last-Modified or "
                f"Cache-Control: {'' if len(bare) == 1 else f'of {wording.name(worst.name)}, '}"
                f"{units.format_ratio(worst.repeat_share)} of the requests "
                f"asked for what had been sent before; {units.format_size(round(whole))} of this run could have stayed "
                "with the client."
            ),
            confidence=confidence(True, 1),
            endpoint=worst.name if len(bare) == 1 else None,
            n=sum(traits.requests for traits in bare),
            evidence=tuple(
                {
                    "endpoint": traits.name, "equal_pairs": traits.repeats, "unequal_pairs": traits.differ,
                    "repeat_share": traits.repeat_share, "mean_bytes": traits.mean_bytes,
                }
                for traits in bare
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]  # fmt: skip


def _is_compared(traits: EndpointTraits) -> bool:
    return (
        traits.name.startswith("GET ")
        and traits.requests >= FEWEST_REQUESTS
        and traits.mean_bytes >= LEAST_BYTES
        and traits.repeats + traits.differ >= FEWEST_PAIRS
    )


def _bare(traits: EndpointTraits) -> bool:
    same = traits.repeats >= max(FEWEST_PAIRS, SAME * (traits.repeats + traits.differ))
    return _is_compared(traits) and not traits.validators and same


def _saved(traits: EndpointTraits) -> float:
    return traits.mean_bytes * traits.requests * traits.repeat_share


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    compared = [traits for traits in summary.traits.endpoints if _is_compared(traits)]
    if not compared:
        return ""
    return (
        "No answer that stays the same comes again and again without ETag, Last-Modified or Cache-Control, as far as "
        f"answers of {wording.plural(len(compared), 'endpoint')} were compared."
    )


RULE = Rule(
    id="cache.missing_validators",
    title="The same again, nothing to keep it by",
    question="Are equal answers sent again and again that a client could have kept or asked about?",
    statistic="pairs of kept exchanges with the same address: equal bodies, and validators in their headers",
    threshold="three pairs or more, 90 % of them equal, and neither ETag, Last-Modified, Cache-Control nor Expires",
    guard=(
        "GET with 200 only; exchanges with Authorization, Cookie or Set-Cookie do not count; bodies of 256 bytes or "
        "more; 30 requests or "
        "more"
    ),
    why="The cheapest request is the one that a client need not send, the next the one answered with 304.",
    next_step="Send an ETag, and Cache-Control where a client may keep the answer for a while.",
    judge=judge,
    cleared=cleared,
)
