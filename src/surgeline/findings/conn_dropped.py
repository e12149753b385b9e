"""Do connections break, or are they refused?"""

from surgeline import units
from surgeline.analysis.distributions import wilson
from surgeline.analysis.model import ErrorGroup, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.errors_by_load import PENALTY_S, exceeds, said, shared_luck
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule
from surgeline.samples import Outcome

FEWEST = 5
LEAST_SHARE = 0.001
MOST = 3
KINDS = frozenset(
    {
        *("connect_refused", "connect_reset", "reset_before_headers", "short_head", "reset_mid_body", "short_body"),
        *("stale_connection", "write_failed", "tls_handshake", "connection_lost", "closed"),
    }
)
FEWEST_TOLD = 100
"""Below so many nothing is said of their absence."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per kind of break, the most frequent first; where nothing broke, that."""
    usual = {stage.index for stage in usable(summary)}
    kinds: dict[str, list[ErrorGroup]] = {}
    for group in summary.errors:
        if group.outcome is Outcome.ERROR and group.kind in KINDS and usual.intersection(group.by_stage):
            kinds.setdefault(group.kind, []).append(group)
    found = [_finding(summary, groups) for groups in kinds.values() if _enough(summary, groups)]
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _counts(summary: Summary, groups: list[ErrorGroup]) -> tuple[int, int]:
    """How many broke, and of how many requests of those endpoints in the stages that count."""
    usual = usable(summary)
    names = {group.endpoint for group in groups}
    bad = sum(group.by_stage.get(stage.index, 0) for group in groups for stage in usual)
    judged = sum(part.tally.judged for stage in usual for part in stage.endpoints if part.name in names)
    return bad, judged


def _enough(summary: Summary, groups: list[ErrorGroup]) -> bool:
    bad, judged = _counts(summary, groups)
    names = {group.endpoint for group in groups}
    luck = shared_luck([part for stage in usable(summary) for part in stage.endpoints if part.name in names])
    return bad >= FEWEST and judged > 0 and exceeds(min(bad, judged), judged, LEAST_SHARE, luck)


def _finding(summary: Summary, groups: list[ErrorGroup]) -> Finding:
    groups = sorted(groups, key=lambda group: (-group.count, group.endpoint))
    bad, judged = _counts(summary, groups)
    stages = [stage for stage in usable(summary) if any(group.by_stage.get(stage.index) for group in groups)]
    zero = summary.stages[0].begin_ns if summary.stages else 0
    first = max(min(group.first_ns for group in groups) - zero, 0)
    names = list(dict.fromkeys(group.endpoint for group in groups))
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"Connections break: {units.format_ratio(bad / judged)} of {wording.plural(judged, 'request')} of "
            f"{wording.names(names)} ended with {said(groups[0])} ({bad:,} times, at {wording.loads(stages)}, first "
            f"{units.format_duration(first, 2)} into the run)."
        ),
        confidence=confidence(True, len(stages), doubtful=doubtful(stages)),
        endpoint=names[0] if len(names) == 1 else None,
        n=judged,
        evidence=tuple(
            {
                "endpoint": group.endpoint, "kind": group.kind, "count": group.count,
                "first_ns": group.first_ns, "last_ns": group.last_ns,
            }
            for group in groups
        ),
        next_step=RULE.next_step,
        impact_s=bad * PENALTY_S,
    )  # fmt: skip


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    groups = [group for group in summary.errors if group.outcome is Outcome.ERROR and group.kind in KINDS]
    stages = usable(summary)
    bad = sum(group.by_stage.get(stage.index, 0) for group in groups for stage in stages)
    judged = sum(stage.total.tally.judged for stage in stages)
    if judged < FEWEST_TOLD:
        return ""
    # One bound at 95 %, as errors.none has it; of some, the upper end of a two-sided 90 %.
    most = wilson(bad / judged, judged, 0.9)[1] if bad else 1.0 - 0.05 ** (1.0 / judged)
    return (
        f"Connections hold: {bad:,} of {wording.plural(judged, 'request')} ended with a broken one "
        f"(the true share is below {units.format_ratio(most)} at 95 %)."
    )


RULE = Rule(
    id="conn.dropped",
    title="Connections that break",
    question="Are connections refused, reset, or closed before an answer is whole?",
    statistic="requests that ended in an error of the connection, by kind, of all of their endpoints",
    threshold="their share is above 0.1 % at 95 % (exact binomial)",
    guard=(
        "at least 5 of a kind, worth the less the more they come in bursts, as measured by second; stages that the "
        "generator limited and its own lack of ports or descriptors do not count"
    ),
    why="Whoever meets a broken connection has no answer at all, and cannot know whether the request was carried out.",
    next_step=(
        "Look at that moment in the logs of the server and of any proxy before it: restarted workers, limits on "
        "connections or memory, keep-alive times shorter than the client's."
    ),
    judge=judge,
    cleared=cleared,
)
