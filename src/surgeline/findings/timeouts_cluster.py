"""Do requests go wrong after one and the same time?"""

from surgeline import units
from surgeline.analysis.model import ErrorGroup, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.errors_by_load import PENALTY_S, said
from surgeline.findings.model import Finding, Rule
from surgeline.samples import Outcome

FEWEST = 6
MOST_OF_THEM = 0.8
MANY_BEYOND = 0.6
USUAL_S = (0.5, 1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120)
"""Times that people set as timeouts."""
NEAR = 0.05
"""How far above the set time an answer may be: it takes a while to give up."""


def judge(summary: Summary) -> list[Finding]:
    """One finding per group of failures or broken connections that came after a time people set as a timeout."""
    found = []
    for group in summary.errors:
        set_s = _set_time(group) or _beyond(group)
        if (
            group.outcome in (Outcome.FAILURE, Outcome.ERROR)
            and set_s is not None
            and _is_client(summary, set_s) is False
        ):
            found.append(_finding(summary, group, set_s))
    return found


def _set_time(group: ErrorGroup) -> float | None:
    if group.count < FEWEST or group.cluster_ns is None or (group.cluster_share or 0.0) < MOST_OF_THEM:
        return None
    seconds = group.cluster_ns / 1e9
    return next((usual for usual in USUAL_S if usual * 0.995 <= seconds <= usual * (1 + NEAR)), None)


def _beyond(group: ErrorGroup) -> float | None:
    """The set time that most of them took beyond a right answer of that load: what waits in a queue first."""
    share = group.excess_share or 0.0
    if group.excess_ns is None or share < MANY_BEYOND or share * group.count < FEWEST:
        return None
    seconds = group.excess_ns / 1e9
    return next((usual for usual in USUAL_S if abs(seconds - usual) <= NEAR * usual), None)


def _is_client(summary: Summary, seconds: float) -> bool:
    """Whether that is the plan's own timeout."""
    plan = (summary.run.get("subject") or {}).get("plan") or {}
    try:
        own = units.parse_duration_ns(plan.get("timeout", "30s")) / 1e9
    except (units.UnitError, AttributeError, TypeError):
        return False
    return abs(own - seconds) < 0.01 * seconds


def _finding(summary: Summary, group: ErrorGroup, set_s: float) -> Finding:
    stages = [stage for stage in summary.stages if group.by_stage.get(stage.index)]
    at = units.format_duration(set_s * 1e9)
    if _set_time(group) is not None:
        share, took = group.cluster_share, f"after {units.format_duration(group.cluster_ns)}"
    else:
        share = group.excess_share
        took = f"{units.format_duration(group.excess_ns, 2)} later than right answers of that load come"
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"{units.format_ratio(share)} of the {group.count:,} requests of "
            f"{wording.name(group.endpoint)} that went wrong ({said(group)}) did so "
            f"{took}, at {wording.loads(stages) if stages else 'any load'}: "
            f"consistent with a timeout of {at} inside or behind the server."
        ),
        confidence=confidence(True, len(stages), doubtful=doubtful(stages)),
        endpoint=group.endpoint,
        n=group.count,
        evidence=(
            {
                "endpoint": group.endpoint,
                "kind": group.kind,
                "status": group.status,
                "count": group.count,
                "cluster_ns": group.cluster_ns,
                "cluster_share": group.cluster_share,
                "excess_ns": group.excess_ns,
                "excess_share": group.excess_share,
                "first_ns": group.first_ns,
                "last_ns": group.last_ns,
            },
        ),
        next_step=RULE.next_step,
        impact_s=group.count * (set_s + PENALTY_S),
    )


RULE = Rule(
    id="timeouts.cluster",
    title="Failures after a fixed time",
    question="Do requests of one kind go wrong after one and the same round time?",
    statistic=(
        "the largest share of a group's service times within 2 % of one value; failing that, of what they took beyond "
        "the median of right answers in their stage, within 4 %"
    ),
    threshold=(
        "80 % of at least 6, at 0.5, 1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90 or 120 s or up to 5 % above; beyond right "
        "answers 60 % and 6 of them, within 5 %"
    ),
    guard="the plan's own timeout is not meant; needs the rows of the run",
    why="A round time is a setting: something waits for something else and gives up.",
    next_step="Search the server, its proxy and its clients for that timeout; then ask what it was waiting for.",
    judge=judge,
    counterpart="errors.none",
)
