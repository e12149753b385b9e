"""Did the user's own code in the script raise?"""

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

FEWEST = 3
MOST_TEXT = 120
MOST_LINES = 40
"""Of a traceback, the last ones: where it was raised."""


def judge(summary: Summary) -> list[Finding]:
    """One finding for all exceptions together."""
    count = sum(raised.count for raised in summary.exceptions)
    if count < FEWEST:
        return []
    most = summary.exceptions[0]
    line = " ".join(f"{most.type}: {most.message}".removeprefix(": ").split())
    shown = line if len(line) <= MOST_TEXT else line[: MOST_TEXT - 1] + "…"
    kinds = len(summary.exceptions)
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"The script's own code raised {wording.plural(count, 'time')}"
                + (f" ({kinds} different ones, most often {most.count:,} times)" if kinds > 1 else "")
                + f": {shown}. What such a task would have asked next was never asked."
            ),
            confidence="high",
            endpoint=None,
            n=count,
            evidence=tuple(
                {
                    "exception": f"{raised.type}: {raised.message}".removeprefix(": "),
                    "count": raised.count,
                    "first_seen_ns": raised.first_ns,
                    "last_seen_ns": raised.last_ns,
                    "traceback": raised.traceback.splitlines()[-MOST_LINES:],
                }
                for raised in summary.exceptions[:20]
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if (summary.run.get("subject") or {}).get("kind") != "script" or not summary.total.tally.due:
        return ""
    count = sum(raised.count for raised in summary.exceptions)
    return f"The script's own code raised {wording.plural(count, 'time') if count else 'nothing'}."


RULE = Rule(
    id="script.user_code",
    title="The script itself raises",
    question="Do tasks of the script end in exceptions of their own code?",
    statistic="exceptions that left a task, by type, message and traceback",
    threshold="3 or more",
    guard="exceptions of requests are counted as failed requests, not here",
    why="A task that raises half way sends less load, of another kind, than the one that was meant.",
    next_step=("Read the tracebacks, which the report has under this finding, mend the script, and repeat the run."),
    judge=judge,
    cleared=cleared,
)
