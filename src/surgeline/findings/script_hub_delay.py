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
    highest = held_up(summary)
    if highest is None:
        return []
    apart = bool(summary.stages) and all(times_are_apart(summary.run, stage) for stage in summary.stages)
    so = (
        "Users come to their next request that much later; the times do not contain it."
        if apart
        else "Waiting answers are measured that much too long."
    )
    lag, cpu = summary.health.lag_p99_ns, summary.health.cpu_ratio_max
    name, value = highest
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"The script's own code holds up the generator: in the median second its loop was "
                f"{units.format_duration(lag, 2)} late (p99) with CPU at "
                f"{units.format_ratio(cpu) if cpu is not None else 'an unknown level'}, where {name} is "
                f"{wording.time(value)}. {so}"
            ),
            confidence="medium",
            endpoint=None,
            n=summary.total.tally.sent,
            evidence=({"lag_p99_ns": lag, "cpu_ratio_max": cpu, f"service_{name}_ns": value},),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def held_up(summary: Summary) -> tuple[str, float] | None:
    """The highest percentile of the answers that is known, where the script holds its loop up; else None."""
    health = summary.health
    lag, cpu = health.lag_p99_ns, health.cpu_ratio_max
    if summary.run.get("engine") != "locust" or not summary.response_is_service or lag is None:
        return None
    quantiles = summary.total.service.quantiles
    known = ((f"p{q * 100:g}", quantiles[q].value) for q in (0.99, 0.95, 0.5))
    highest = next(((name, value) for name, value in known if value is not None), None)
    if lag < LATE_NS or (cpu is not None and cpu >= IDLE) or highest is None or lag < SHARE * highest[1]:
        return None
    return highest


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    lag = summary.health.lag_p99_ns
    if summary.run.get("engine") != "locust" or not summary.response_is_service or lag is None or lag >= LATE_NS:
        return ""
    return (
        "The script's own code does not hold up the generator: in the median second its loop was "
        f"{units.format_duration(lag, 2)} late (p99)."
    )


RULE = Rule(
    id="script.hub_delay",
    title="A script that blocks its loop",
    question="Does code of the script run or block so long that answers wait for it?",
    statistic=(
        "how late gevent's loop comes round (p99 of a second, its median over the run), against p99 of the answers "
        "(where there are too few for it, p95 or the median)"
    ),
    threshold="20 ms or more, and a tenth of that",
    guard="scripts only; not where the generator's CPU reached 80 %, which is said by generator.saturated",
    why="All users of a Locust process share one loop: while one of them computes or blocks, nobody's answer is read.",
    next_step=(
        "Look in tasks for what does not yield: calls that block outside of gevent, large parsing, hashing, files, "
        "logging "
        "of every answer; spread users over `--processes`."
    ),
    judge=judge,
    cleared=cleared,
)
