"""Are answers so large that carrying them is most of the work?"""

from surgeline import units
from surgeline.analysis.model import EndpointFigures, Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

LARGE_BYTES = 512 * 1024
FEWEST = 20


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together."""
    means = {traits.name: traits.mean_bytes for traits in summary.traits.endpoints}

    def _mean(figures: EndpointFigures) -> float:
        """Of right answers, where single requests tell; of all otherwise."""
        return means.get(figures.name) or figures.tally.bytes_in / max(figures.tally.answered, 1)

    found = [f for f in summary.endpoints if f.tally.ok >= FEWEST and _mean(f) >= LARGE_BYTES]
    if not found:
        return []
    found.sort(key=lambda figures: -_mean(figures))
    worst, whole = found[0], sum(figures.tally.bytes_in for figures in summary.endpoints)
    share = sum(figures.tally.bytes_in for figures in found) / max(whole, 1)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{wording.names([figures.name for figures in found])} {'sends' if len(found) == 1 else 'send'} large "
                f"answers: {wording.name(worst.name)} {units.format_size(round(_mean(worst)))} on average, together "
                f"{units.format_ratio(share)} of all that was received."
            ),
            confidence=confidence(True, 1),
            endpoint=worst.name if len(found) == 1 else None,
            n=sum(figures.tally.ok for figures in found),
            evidence=tuple({"endpoint": f.name, "mean_bytes": _mean(f), "answers": f.tally.answered} for f in found),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    sizes = [
        (figures.tally.bytes_in / figures.tally.answered, figures.name)
        for figures in summary.endpoints
        if figures.tally.ok >= FEWEST
    ]
    if not sizes:
        return ""
    size, name = max(sizes)
    return (
        f"Answers are small: the largest, those of {wording.name(name)}, {units.format_size(round(size))} on average."
    )


RULE = Rule(
    id="http.large_payload",
    title="Large answers",
    question="Are there endpoints whose answers are very large?",
    statistic="bytes received per right answer, by endpoint",
    threshold="512 kB or more on average (taste: half a second on a good mobile connection)",
    guard="at least 20 correct answers",
    why="Large answers fill links and memory on both sides, however fast the server is.",
    next_step="Send pages or only the fields that are needed; for files, let something else than the app send them.",
    judge=judge,
    cleared=cleared,
)
