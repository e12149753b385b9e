"""Is one of several instances slower, or wrong more often, than the others?"""

from surgeline import units
from surgeline.analysis.marks import Instance
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

CHANCE = 0.01
RATIO = 1.5
LEAST_NS = 10e6


def judge(summary: Summary) -> list[Finding]:
    """The instance that differs most; that none does, where several were told apart."""
    seen = summary.traits.marks.instances
    slow = [one for one in seen if one.chance < CHANCE and _slower(one)]
    wrong = [one for one in seen if one.errors_apart]
    if slow:
        return [_finding(slow[0], _slow_words(slow[0]))]
    if wrong:
        return [_finding(wrong[0], _wrong_words(wrong[0]))]
    return [_well(seen[0])] if seen else []


def _slower(one: Instance) -> bool:
    return one.median_ns >= RATIO * one.others_ns and one.median_ns - one.others_ns >= LEAST_NS


def _slow_words(one: Instance) -> str:
    return (
        f"takes {wording.time(one.median_ns)} (median) where the others take {wording.time(one.others_ns)} for the same"
    )


def _wrong_words(one: Instance) -> str:
    mine, others = one.bad / max(one.n + one.bad, 1), one.others_bad / max(one.others + one.others_bad, 1)
    return f"goes wrong in {units.format_ratio(mine)} of its requests, the others in {units.format_ratio(others)}"


def _finding(one: Instance, words: str) -> Finding:
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"One of {one.instances} instances differs: {wording.name(one.name)} {words} "
            f"({one.n:,} and {one.others:,} requests of {wording.names(one.endpoints)}, told apart by {one.by})."
        ),
        confidence=confidence(one.chance < CHANCE / 10.0, 1),
        endpoint=one.endpoints[0] if len(one.endpoints) == 1 else None,
        n=one.n + one.others,
        evidence=tuple(
            {
                "endpoint": endpoint, "instance": one.name, "by": one.by, "n": one.n, "others": one.others,
                "median_ns": one.median_ns, "others_ns": one.others_ns, "chance": one.chance, "bad": one.bad,
                "others_bad": one.others_bad,
            }
            for endpoint in one.endpoints
        ),
        next_step=RULE.next_step,
        impact_s=max(one.median_ns - one.others_ns, 0.0) * one.n / 1e9,
    )  # fmt: skip


def _well(one: Instance) -> Finding:
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=(
            f"All {one.instances} instances answer alike ({one.n + one.others:,} requests, told apart by {one.by})."
        ),
        confidence="medium",
        endpoint=None,
        n=one.n + one.others,
        evidence=(),
        next_step="",
        impact_s=0.0,
    )


RULE = Rule(
    id="fairness.instances",
    title="One instance unlike the others",
    question="Where answers say which instance they come from: is one of them slower or wrong more often?",
    statistic=(
        "ranks of service times over the usual time of the endpoint in that stage, each instance against all others "
        "(Mann and Whitney); shares of requests that went wrong"
    ),
    threshold=(
        "chance below 1 % over all instances that were compared, a median 1.5 times and 10 ms above that of the "
        "others; or shares of errors apart at 99 %"
    ),
    guard=(
        'only where Server-Timing (`host;desc="a"`) or a header such as x-instance or x-served-by names instances; 20 '
        "requests of each, 8 where only kept exchanges tell; two requests are taken to be worth one"
    ),
    why="One bad instance of ten hides in every percentile below p90, and every tenth user has it.",
    next_step="Take that instance out and compare it with another: version, machine, neighbours, caches, connections.",
    judge=judge,
)
