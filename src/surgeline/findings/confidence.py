"""How sure a finding is, by definition and not by feeling.

    high     the interval of the effect excludes the threshold at 99 %, three or more independent stages (or cycles)
             agree, there are enough samples, and no stage it rests on is doubtful
    medium   95 %, one stage or one run, enough samples; or high, but for a stage that is degraded
    low      the pattern is there, but samples are too few

What is low is a question: it moves to what to explore next, and its sentence says what it is that is not known.
"""

from collections.abc import Sequence
from dataclasses import replace

from surgeline.analysis.model import StageFigures, Summary
from surgeline.findings.model import Confidence, Finding

AGREEING = 3
"""Independent stages or cycles that must agree before a finding is of high confidence."""


def confidence(sure_99: bool, agreeing: int, enough: bool = True, doubtful: bool = False) -> Confidence:
    """From whether the effect excludes its threshold at 99 %, and how many stages or cycles agree."""
    if not enough:
        return "low"
    return "high" if sure_99 and agreeing >= AGREEING and not doubtful else "medium"


def doubtful(stages: Sequence[StageFigures]) -> bool:
    """Whether any of the stages is not valid. Invalid ones are no evidence at all; rules leave them out beforehand."""
    return any(stage.validity != "valid" for stage in stages)


def asked(finding: Finding, summary: Summary) -> Finding:
    """A finding of low confidence as a question to explore; others as they are."""
    if finding.confidence != "low" or not finding.doubt:
        return finding
    reasons = [reason for stage in summary.stages for reason in stage.validity_reasons]
    doubt = f"Was that the server? In part of the run {reasons[0]}." if reasons else finding.doubt
    return replace(finding, kind="explore", sentence=f"{finding.sentence} {doubt}")


def seen_singly(summary: Summary) -> bool:
    """Whether single requests were looked at: half of all that were due, or more."""
    return summary.traits.rows > 0 and summary.traits.rows >= 0.5 * summary.total.tally.due
