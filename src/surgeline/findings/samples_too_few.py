"""For which endpoints are there too few requests to say much?"""

from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule


def judge(summary: Summary) -> list[Finding]:
    """One finding that names the endpoints with the fewest."""
    few = []
    for figures in summary.endpoints:
        n = figures.response.histogram.count
        if figures.tally.due and figures.tally.judged - n > n:
            continue  # Mostly errors: not a matter of too few requests.
        if n < fewest_for_quantile(0.95):
            few.append((n, figures.name))
    if not few:
        return []
    few.sort()
    n, name = few[0]
    need = fewest_for_quantile(0.95)
    shown = "its median only" if n >= fewest_for_quantile(0.5) else "no percentile"
    sentence = f"{wording.name(name)} had {wording.plural(n, 'answer')}: {shown} is shown, p95 needs {need}"
    if len(few) > 1:
        others = ", ".join(f"{wording.name(other)} {count}" for count, other in few[1:4])
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        sentence += f" (also {others}{more})"
    factor = need / max(n, 1)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=sentence + ".",
            confidence="high",
            endpoint=name if len(few) == 1 else None,
            n=n,
            evidence=tuple({"endpoint": other, "n": count, "p95_needs": need} for count, other in few),
            next_step=f"Run about {max(2, round(factor + 0.5))} times as long, or give these scenarios more weight.",
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    need = fewest_for_quantile(0.95)
    counts = [(figures.response.histogram.count, figures.name) for figures in summary.endpoints if figures.tally.due]
    if not counts or min(counts)[0] < need:
        return ""
    n, name = min(counts)
    return f"Each endpoint had the {need} answers that a p95 needs: the fewest, {wording.name(name)}, had {n:,}."


RULE = Rule(
    id="samples.too_few",
    title="Too few samples",
    question="For which endpoints are there too few requests for a percentile?",
    statistic="ok answers of each endpoint in the whole run",
    threshold="fewer than 72, the least of which an interval of p95 exists at all",
    guard="endpoints that mostly fail are not meant: they have another problem",
    why="A percentile of a few requests is one lucky or unlucky request.",
    next_step="Run longer, or give these scenarios more weight.",
    judge=judge,
    cleared=cleared,
)
