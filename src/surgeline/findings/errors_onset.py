"""At which load do errors begin, and of which kind are they?"""

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.errors_by_load import LEAST_SHARE, Onset, main_kind, onset, wrong, wrong_time_s
from surgeline.findings.growth import of, usable
from surgeline.findings.model import Finding, Rule

MOST = 4
"""Endpoints that get a sentence of their own; beyond that they break together."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint whose errors begin with load; one for all when many of them do at once."""
    begun = [found for item in summary.endpoints if (found := onset(summary, item.name)) is not None]
    overall = onset(summary, None)
    if len(begun) > MOST and overall is not None:
        return [_finding(summary, overall, f" on {len(begun)} of {len(summary.endpoints)} endpoints")]
    return [_finding(summary, found, "") for found in sorted(begun, key=lambda found: -found.bad)]


def _finding(summary: Summary, found: Onset, where: str) -> Finding:
    kind, kind_share, group = main_kind(summary.errors, found.endpoint)
    first = found.since[0]
    subject = "Errors" if found.endpoint is None else f"Errors of {wording.name(found.endpoint)}"
    at = wording.load(first)
    verb = "begin" if (found.before_share.value or 0.0) < LEAST_SHARE else "grow"
    sentence = (
        f"{subject} {verb} at {at}{where}: {wording.share(found.before_share)} up to "
        f"{wording.load(found.before[-1])}, {wording.share(found.first_share)} there"
    )
    if found.worst is not first:
        sentence += f", {wording.share(found.worst_share)} at {wording.load(found.worst)}"
    sentence += f" ({found.bad:,} of {found.judged:,} from there on)"
    if kind:
        most = "all" if kind_share > 0.999 else units.format_ratio(kind_share)
        sentence += f", {most} of them {kind}"
        if group is not None and group.median_ns is not None:
            sentence += f" after {wording.time(float(group.median_ns))} (median)"
    whole = next((item for item in summary.endpoints if item.name == found.endpoint), summary.total)
    rows = []
    for stage in usable(summary):
        part = of(stage, found.endpoint)
        if part is not None:
            rows.append(
                {
                    "stage": stage.index,
                    "load": load_of(stage),
                    "judged": part.tally.judged,
                    "bad": wrong(part.tally),
                    "first_ns": group.first_ns if group is not None and stage is first else None,
                }
            )
    rising = sum(1 for stage in found.since if (part := of(stage, found.endpoint)) is not None and wrong(part.tally))
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=sentence + ".",
        confidence=confidence(True, rising, doubtful=doubtful(found.since)),
        endpoint=found.endpoint,
        n=found.judged,
        evidence=tuple(rows),
        next_step=_next_step(kind),
        impact_s=wrong_time_s(whole),
    )


def _next_step(kind: str) -> str:
    if kind.startswith("status 5"):
        return (
            "Read the server's own log of these answers: an error that load brings about is consistent with a race, an "
            "exhausted pool, or a timeout inside."
        )
    if kind.startswith("status 429"):
        return "A rate limiter answered: raise it for the test, or take its limit as the answer."
    if "connection" in kind or "in time" in kind:
        return "Look at the server's backlog, its limits on connections and workers, and any proxy in front of it."
    return RULE.next_step


RULE = Rule(
    id="errors.onset",
    title="Errors begin with load",
    question="Is there a load above which requests go wrong that did not below it?",
    statistic="share of judged requests whose outcome is not ok, below and from each load on",
    threshold=(
        "the share from some load on is above 0.1 % at 97.5 % (exact binomial) and three times that below, the two "
        "apart at 99 %; the lowest such load"
    ),
    guard=(
        "at least 5 requests that went wrong, worth the less the more they come in bursts, as measured by second; "
        "stages that the generator limited do not count"
    ),
    why="Errors that need load are a capacity limit or a race; a single user never sees them.",
    next_step="Read the server's own log at the moment of the first of them.",
    judge=judge,
    counterpart="errors.none",
)
