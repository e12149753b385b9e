"""What the numbers mean: one judgement per file, each with its evidence, its doubts and what to do next.

A judgement takes a summary and returns the findings that the summary supports; it never looks at how they are shown.
`RULES` lists all of them in the order in which equals are shown, `judge` asks them all.
"""

from collections.abc import Collection

from surgeline.analysis.model import Summary
from surgeline.findings import (
    endpoint_dominates,
    endpoint_outlier,
    errors_constant,
    errors_fast_fail,
    errors_none,
    errors_onset,
    generator_saturated,
    latency_flat,
    latency_rising,
    recovery_time,
    samples_too_few,
    saturation_plateau,
    slo_met,
    slo_missed,
    stall_periodic,
    timeouts_cluster,
)
from surgeline.findings.confidence import asked
from surgeline.findings.model import Finding, Rule

__all__ = ["RULES", "judge"]

RULES: tuple[Rule, ...] = (
    slo_missed.RULE,
    slo_met.RULE,
    errors_onset.RULE,
    errors_constant.RULE,
    timeouts_cluster.RULE,
    errors_fast_fail.RULE,
    saturation_plateau.RULE,
    stall_periodic.RULE,
    latency_rising.RULE,
    endpoint_outlier.RULE,
    endpoint_dominates.RULE,
    recovery_time.RULE,
    errors_none.RULE,
    latency_flat.RULE,
    generator_saturated.RULE,
    samples_too_few.RULE,
)
"""Every judgement; its id is unique, and is the id of every finding it makes."""

_SURE = {"high": 0, "medium": 1, "low": 2}


def judge(summary: Summary, disabled: Collection[str] = ()) -> list[Finding]:
    """What the summary supports, the time that users lost first; rules named in `disabled` are not asked.

    Equal ones are ordered by confidence, then as in RULES. The user's own objectives rank above all else that failed.
    """
    found = [
        (place, asked(finding, summary))
        for place, rule in enumerate(RULES)
        if rule.id not in disabled
        for finding in rule.judge(summary)
    ]
    found.sort(
        key=lambda item: (
            item[1].id != slo_missed.RULE.id,
            -item[1].impact_s,
            _SURE[item[1].confidence],
            item[0],
        )
    )
    return [finding for _, finding in found]
