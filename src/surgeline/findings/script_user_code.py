"""Did the user's own code in the script raise?"""

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

FEWEST = 3
MOST_TEXT = 120


def judge(summary: Summary) -> list[Finding]:
    """One finding for all exceptions together."""
    count = sum(times for _, times in summary.exceptions)
    if count < FEWEST:
        return []
    message, times = summary.exceptions[0]
    line = " ".join(message.split())
    shown = line if len(line) <= MOST_TEXT else line[: MOST_TEXT - 1] + "…"
    kinds = len(summary.exceptions)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"The script's own code raised {wording.plural(count, 'time')}"
                + (f" ({kinds} different messages, most often {times:,} times)" if kinds > 1 else "")
                + f": {shown}. What such a task would have asked next was never asked."
            ),
            confidence="high",
            endpoint=None,
            n=count,
            evidence=tuple({"message": message, "count": times} for message, times in summary.exceptions[:20]),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


RULE = Rule(
    id="script.user_code",
    title="The script itself raises",
    question="Do tasks of the script end in exceptions of their own code?",
    statistic="exceptions that left a task, by message",
    threshold="3 or more",
    guard="exceptions of requests are counted as failed requests, not here",
    why="A task that raises half way sends less load, of another kind, than the one that was meant.",
    next_step=(
        "Read the exception with its traceback in Locust's list of exceptions, mend the script, and repeat the run."
    ),
    judge=judge,
)
