"""Did throughput stop growing, and where?"""

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.model import Saturation, StageFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

FELL = 0.1
MOST_FAILING = 0.01


def judge(summary: Summary) -> list[Finding]:
    """The plateau, or that there was none."""
    found = summary.saturation
    if found is None:
        return []
    stages = {stage.index: stage for stage in summary.stages}
    if summary.capacity is not None and (found.reached or not summary.capacity.at_least):
        # The search tells of its limit itself. Its steps are too short to count answers by: those of its heaviest come
        # when it is over.
        return []
    if found.reached:
        return [_reached(summary, found, stages)]
    # Growth that comes with errors is nothing to praise; the findings about errors speak of it.
    failing = (usable(summary)[-1].total.error_ratio.low or 0.0) > MOST_FAILING
    return [] if failing else [_not_reached(summary, found, stages)]


def _reached(summary: Summary, found: Saturation, stages: dict[int, StageFigures]) -> Finding:
    first, last = stages[found.stage], usable(summary)[-1]
    sentence = _piled_up(found, first, stages) if _kept_behind(first) else _level(found, first, last, stages)
    if found.fell > FELL:
        sentence += f" It fell by {units.format_ratio(found.fell)} from its peak."
    cpu = summary.health.cpu_ratio_max
    if cpu is not None and not doubtful(usable(summary)):
        sentence += f" The generator was not the limit (CPU at most {units.format_ratio(cpu)})."
    usual = stages[found.before] if found.before is not None and _kept_behind(first) else first
    waited = [
        max((stage.total.response.mean_ns or 0.0) - (usual.total.response.mean_ns or 0.0), 0.0) * stage.total.tally.ok
        for stage in usable(summary)
        if load_of(stage) > load_of(usual)
    ]
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=sentence,
        confidence=confidence(True, len(found.stages), doubtful=doubtful([stages[index] for index in found.stages])),
        endpoint=None,
        n=sum(stages[index].total.tally.answered for index in found.stages),
        evidence=_rows(summary),
        next_step=RULE.next_step,
        impact_s=sum(waited) / 1e9,
    )


def _kept_behind(stage: StageFigures) -> bool:
    """Whether answers fell behind a planned arrival rate, rather than staying level while users were added."""
    return stage.model == "open" and (stage.total.throughput_per_s or 0.0) * stage.duration_s < stage.total.tally.due


def _piled_up(found: Saturation, first: StageFigures, stages: dict[int, StageFigures]) -> str:
    due = first.total.tally.due / first.duration_s
    sentence = f"Answers stop at {wording.rate(found.throughput_per_s, found.interval)}: at {wording.load(first)} "
    sentence += f"{wording.rate(due)} became due and {wording.goodput(first.total)} were answered"
    if found.before is not None:
        before = stages[found.before]
        sentence += f", at {wording.load(before)} it still kept up ({wording.goodput(before.total)})"
        times = [stage.total.response.quantiles[0.5] for stage in (before, first)]
        if times[0].value and times[1].value:
            sentence += f"; the median response time went from {wording.time(times[0])} to {wording.time(times[1])}"
    return sentence + "."


def _level(found: Saturation, first: StageFigures, last: StageFigures, stages: dict[int, StageFigures]) -> str:
    sentence = f"Throughput stops growing at about {wording.rate(found.throughput_per_s, found.interval)}"
    if found.before is not None:
        before = stages[found.before]
        sentence += f", between {wording.load(before)} ({wording.goodput(before.total)}) and {wording.load(first)}"
    grown = load_of(last) / max(load_of(first), 1e-9)
    sentence += f": from {wording.load(first)} to {wording.load(last)} ({grown:.3g}× the load) it went from "
    sentence += f"{wording.goodput(first.total)} to {wording.goodput(last.total)}"
    for quantile, label in ((0.95, "p95"), (0.5, "the median response time")):
        times = [stage.total.response.quantiles[quantile] for stage in (first, last)]
        if times[0].value and times[1].value:
            sentence += f" while {label} went from {wording.time(times[0])} to {wording.time(times[1])}"
            break
    return sentence + "."


def _not_reached(summary: Summary, found: Saturation, stages: dict[int, StageFigures]) -> Finding:
    first, last = usable(summary)[0], stages[found.stage]
    limit = "; above that the generator was the limit" if found.generator else ""
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=(
            f"Throughput grew with the load up to {wording.load(last)}: "
            f"{wording.goodput(first.total)} at {wording.load(first)}, {wording.goodput(last.total)} at "
            f"{wording.load(last)}; saturation was not reached{limit}."
        ),
        confidence=confidence(True, len(usable(summary)), doubtful=doubtful([last])),
        endpoint=None,
        n=summary.total.tally.answered,
        evidence=_rows(summary),
        next_step="Raise the load to find where it stops.",
        impact_s=0.0,
    )


def _rows(summary: Summary) -> tuple[dict[str, object], ...]:
    return tuple(
        {
            "stage": stage.index,
            "load": load_of(stage),
            "goodput_per_s": stage.total.goodput_per_s,
            "p50_ns": stage.total.response.quantiles[0.5].value,
            "in_flight": stage.in_flight,
        }
        for stage in usable(summary)
    )


RULE = Rule(
    id="saturation.plateau",
    title="Throughput stops growing",
    question="Is there a load beyond which more of it brings no more answers, only more waiting?",
    statistic="correct answers per second of each stage, by the second in which they came, against its load",
    threshold=(
        "a stage already has 80 % of the highest throughput, the load grows by 1.4 or more beyond it, throughput "
        "follows "
        "by less than 35 % of that, and the mean response time grows by 25 % or errors appear; under a planned arrival "
        "rate also: 7 % or more of what was due in a stage, and a second's worth, was not answered in it"
    ),
    guard=(
        "stages with fewer than 30 answers or limited by the generator do not count; without growing response times it "
        "is think time, not saturation; a search for capacity tells of its limit itself"
    ),
    why="Beyond saturation every further user only makes all of them wait longer.",
    next_step=(
        "Find what is full at that load: with CPU of the server left, it is consistent with a pool, a lock or another "
        "service; with none left, with the code itself."
    ),
    judge=judge,
)
