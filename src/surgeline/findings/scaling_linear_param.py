"""Does an endpoint get dearer with every item that is asked for?"""

from surgeline.analysis.model import Estimate, Summary
from surgeline.analysis.traits import EndpointTraits, Scaling
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, seen_singly
from surgeline.findings.model import Finding, Rule

MOST = 3
FEWEST_TOLD = 60
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint, the costliest first."""
    found = [_finding(traits, traits.scaling) for traits in summary.traits.endpoints if traits.scaling is not None]
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _finding(traits: EndpointTraits, scaling: Scaling) -> Finding:
    unit = wording.time(Estimate(scaling.unit_ns, scaling.unit_low_ns, scaling.unit_high_ns))
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{wording.name(traits.name)} costs {unit} more for each {scaling.parameter}: from "
            f"{scaling.parameter}={scaling.low:g} to {scaling.high:g} its median goes from "
            f"{wording.time(scaling.low_ns)} "
            f"to {wording.time(scaling.high_ns)}, in a straight line (R² {scaling.r2:.2f}). That is "
            "consistent with one "
            "more question to a database or service for each item."
        ),
        confidence=confidence(True, 1),
        endpoint=traits.name,
        n=scaling.n,
        evidence=(
            {
                "endpoint": traits.name, "parameter": scaling.parameter, "low": scaling.low, "high": scaling.high,
                "low_p50_ns": scaling.low_ns, "high_p50_ns": scaling.high_ns, "each_ns": scaling.unit_ns,
                "exponent": scaling.exponent, "r2": scaling.r2,
            },
        ),
        next_step=RULE.next_step,
        impact_s=(scaling.high_ns - scaling.low_ns) / 2.0 * traits.requests / 1e9,
    )  # fmt: skip


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    looked = [traits for traits in summary.traits.endpoints if traits.requests >= FEWEST_TOLD]
    if not looked or not seen_singly(summary):
        return ""
    return (
        "As far as the requests vary a number, none takes longer the greater it is: "
        f"{wording.plural(len(looked), 'endpoint')} with {FEWEST_TOLD} right answers or more."
    )


RULE = Rule(
    id="scaling.linear_param",
    title="Dearer with every item",
    question="Does response time grow in proportion to a number in the request, as with a query for each item?",
    statistic=(
        "medians of service time over the values of each numeric parameter at the lowest loads: slope, exponent, R²"
    ),
    threshold=(
        "at least three values that span a factor of two; the median at least doubles and grows by 5 ms; R² of 0.9 or "
        "more; an exponent of 0.5 to 1.5; the 95 % interval of the slope above zero; by ranks the times of the "
        "greatest "
        "value above those of the least at one in a thousand"
    ),
    guard="at least 6 requests for each value; only what the plan varies can be seen",
    why=(
        "What costs a query for each item is quick in a test with three items and slow in production "
        "with three hundred."
    ),
    next_step="Count the SQL statements of a request with few items and with many; load what they ask for at once.",
    judge=judge,
    cleared=cleared,
)
