"""Do failures come faster than right answers, and so make the numbers look good?"""

from surgeline.analysis.model import EndpointFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.errors_by_load import wrong_time_s
from surgeline.findings.growth import of, usable
from surgeline.findings.model import Finding, Rule

LEAST_SHARE = 0.01
MUCH_FASTER = 0.5
FEWEST = 20
MOST = 2


def judge(summary: Summary) -> list[Finding]:
    """One finding per endpoint, the worst first."""
    found = [_finding(summary, figures) for figures in summary.endpoints if _fast(figures)]
    return sorted(found, key=lambda finding: -finding.impact_s)[:MOST]


def _fast(figures: EndpointFigures) -> bool:
    failed, ok = figures.failed_response.histogram, figures.response.histogram
    if failed.count < FEWEST or ok.count < FEWEST or (figures.error_ratio.low or 0.0) <= LEAST_SHARE:
        return False
    return (failed.quantile(0.5) or 0) < MUCH_FASTER * (ok.quantile(0.5) or 0)


def _finding(summary: Summary, figures: EndpointFigures) -> Finding:
    failed, ok = figures.failed_response.histogram, figures.response.histogram
    stages = [stage for stage in usable(summary) if (part := of(stage, figures.name)) is not None and part.tally.bad]
    return Finding(
        id=RULE.id,
        kind="failed",
        sentence=(
            f"{wording.name(figures.name)} fails faster than it answers: "
            f"{wording.share(figures.error_ratio)} of its requests went wrong, after "
            f"{wording.time(figures.failed_response.quantiles[0.5])} where a right answer takes "
            f"{wording.time(figures.response.quantiles[0.5])} (medians). Of {wording.rate(figures.throughput_per_s)} "
            f"answered, {wording.rate(figures.goodput_per_s, figures.goodput_interval)} were right."
        ),
        confidence=confidence(True, len(stages), doubtful=doubtful(stages)),
        endpoint=figures.name,
        n=failed.count + ok.count,
        evidence=(
            {
                "endpoint": figures.name,
                "failed_p50_ns": failed.quantile(0.5),
                "ok_p50_ns": ok.quantile(0.5),
                "failed": failed.count,
                "ok": ok.count,
            },
        ),
        next_step=RULE.next_step,
        impact_s=wrong_time_s(figures) / 10.0,
    )


RULE = Rule(
    id="errors.fast_fail",
    title="Failures are faster than answers",
    question="Do failures come so fast that throughput and response times look better than they are?",
    statistic="median time of requests that went wrong over that of ok ones, per endpoint",
    threshold="below one half, with more than 1 % of requests gone wrong (95 %)",
    guard="at least 20 of each",
    why="A server that refuses work quickly answers more requests per second than one that does it.",
    next_step="Look at goodput, not throughput; then at why the requests were refused.",
    judge=judge,
    counterpart="errors.none",
)
