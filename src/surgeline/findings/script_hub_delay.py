"""Does the script's own code keep the generator from sending and receiving?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.analysis.validity import times_are_apart
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

LATE_NS = 20e6
IDLE = 0.8
SHARE = 0.1


def judge(summary: Summary) -> list[Finding]:
    """For runs of scripts only; nothing where the generator's CPU was full, which generator.saturated says."""
    health = summary.health
    lag, cpu = health.lag_p99_ns, health.cpu_ratio_max
    if summary.run.get("engine") != "locust" or not summary.response_is_service or lag is None:
        return []
    p99 = summary.total.service.quantiles[0.99].value
    if lag < LATE_NS or (cpu is not None and cpu >= IDLE) or p99 is None or lag < SHARE * p99:
        return []
    apart = bool(summary.stages) and all(times_are_apart(summary.run, stage) for stage in summary.stages)
    so = (
        "Users come to their next request that much later; the times do not contain it."
        if apart
        else "Waiting answers are measured that much too long."
    )
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"The script's own code holds up the generator: in the median second its loop was "
                f"{units.format_duration(lag, 2)} late (p99) with CPU at "
                f"{units.format_ratio(cpu) if cpu is not None else 'an unknown level'}, where p99 is "
                f"{wording.time(p99)}. {so}"
            ),
            confidence="medium",
            endpoint=None,
            n=summary.total.tally.sent,
            evidence=({"lag_p99_ns": lag, "cpu_ratio_max": cpu, "service_p99_ns": p99},),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


RULE = Rule(
    id="script.hub_delay",
    title="A script that blocks its loop",
    question="Does code of the script run or block so long that answers wait for it?",
    statistic=(
        "how late gevent's loop comes round (p99 of a second, its median over the run), against p99 of the answers"
    ),
    threshold="20 ms or more, and a tenth of p99",
    guard="scripts only; not where the generator's CPU reached 80 %, which is said by generator.saturated",
    why="All users of a Locust process share one loop: while one of them computes or blocks, nobody's answer is read.",
    next_step=(
        "Look in tasks for what does not yield: calls that block outside of gevent, large parsing, hashing, files, "
        "logging "
        "of every answer; spread users over `--processes`."
    ),
    judge=judge,
)
