"""Which errors are there whatever the load?"""

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import EndpointFigures, ErrorGroup, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.errors_by_load import (
    FEWEST_BAD,
    LEAST_SHARE,
    exceeds,
    main_kind,
    of_valid,
    onset,
    share_of,
    shared_luck,
    wrong,
    wrong_time_s,
)
from surgeline.findings.growth import of, usable
from surgeline.findings.kinds import KINDS
from surgeline.findings.model import Finding, Rule
from surgeline.findings.not_sent import not_sent

MOST = 4
SCRIPT_SHARE = 0.15
"""From this share on under the lowest load the request itself is likelier to be wrong than the server (as k6 warns)."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint whose errors do not depend on load, or whose run had one load only."""
    found = []
    valid = [of_valid(summary, figures) for figures in summary.endpoints]
    for figures in sorted(valid, key=lambda item: -wrong(item.tally)):
        bad, judged = wrong(figures.tally), figures.tally.judged
        if bad < FEWEST_BAD or not exceeds(bad, judged, LEAST_SHARE, shared_luck([figures])):
            continue
        if onset(summary, figures.name) is None:
            found.append(_finding(summary, figures))
    return [*found[:MOST], *not_sent(summary, RULE.id)]


def _finding(summary: Summary, figures: EndpointFigures) -> Finding:
    stages = [stage for stage in usable(summary) if of(stage, figures.name) is not None]
    loads = {load_of(stage) for stage in stages}
    kind, kind_share, group = main_kind(summary.errors, figures.name)
    of_kind = "" if not kind else f", {'all' if kind_share > 0.999 else units.format_ratio(kind_share)} of them {kind}"
    after = (
        f" after {wording.time(float(group.median_ns))} (median)"
        if group is not None and group.median_ns is not None
        else ""
    )
    share = f"{wording.share(share_of(figures))} of {wording.plural(figures.tally.judged, 'request')}"
    affected = [stage for stage in stages if (part := of(stage, figures.name)) is not None and wrong(part.tally)]
    spared = [
        (stage, part) for stage in stages if (part := of(stage, figures.name)) is not None and not wrong(part.tally)
    ]
    none_of = sum(part.tally.judged for _, part in spared)
    if len(loads) > 1 and len(affected) >= 2 and not none_of:
        where = f"go wrong whatever the load ({wording.loads(stages)})"
    elif none_of:
        where = f"go wrong (none of {none_of} at {wording.loads([stage for stage, _ in spared])}, too few to tell)"
    else:
        where = f"go wrong at {wording.loads(affected or stages)}" if stages else "go wrong"
    sentence = f"{wording.name(figures.name)}: {share} {where}{of_kind}{after}."
    wrong_request = (share_of(figures).value or 0.0) >= SCRIPT_SHARE and len(affected) == len(stages)
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=sentence,
        confidence=confidence(True, len(affected), doubtful=doubtful(stages)),
        endpoint=figures.name,
        n=figures.tally.judged,
        evidence=tuple(
            {"stage": stage.index, "load": load_of(stage), "judged": part.tally.judged, "bad": wrong(part.tally)}
            for stage in stages
            if (part := of(stage, figures.name)) is not None
        ),
        next_step=_advice(group if kind_share > 0.5 else None) if wrong_request else RULE.next_step,
        impact_s=wrong_time_s(figures),
    )


def _advice(group: ErrorGroup | None) -> str:
    """What to do about a request that goes wrong that often; `group` is how most of them do."""
    kind = None if group is None else KINDS.get(group.kind)
    return (
        "Send this request by hand first: a share this high at any load is consistent with a wrong request, a "
        "missing login or missing data."
        if kind is None
        else kind.advice
    )


RULE = Rule(
    id="errors.constant",
    title="Errors at any load",
    question="Which requests go wrong in the same share whatever the load, or at the only load there was?",
    statistic="share of judged requests of an endpoint whose outcome is not ok",
    threshold="above 0.1 % at 95 % (exact binomial), and errors.onset finds no load at which it begins",
    guard=(
        "at least 5 requests that went wrong, worth the less the more they come in bursts, as measured by second; "
        "stages that the generator limited do not count, and what was due but not sent is spoken of by itself"
    ),
    why="An error that one user meets as often as a thousand is a defect, or a test that asks for the wrong thing.",
    next_step="Read the server's own log of one of these requests; a single user suffices to see it again.",
    judge=judge,
    counterpart="errors.none",
)
