"""Does the served process grow under one and the same load?"""

import numpy as np

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence, doubtful
from surgeline.findings.growth import usable
from surgeline.findings.model import Finding, Rule

SHORTEST_S = 120
GROUPS = 12
LEAST_BYTES = 16e6
LEAST_SHARE = 0.10
HALVES = 0.25
Z_99 = 2.576


def judge(summary: Summary) -> list[Finding]:
    """For the longest stage of one load, in both directions; nothing where memory was not read for two minutes."""
    server = summary.server
    stage = next((s for s in usable(summary) if server is not None and s.index == server.rss_stage), None)
    if server is None or stage is None or len(server.rss_flat_bytes) < SHORTEST_S:
        return []
    values = np.array(server.rss_flat_bytes)
    parts = np.array([float(np.median(part)) for part in np.array_split(values, GROUPS)])
    x = np.arange(GROUPS) / (GROUPS - 1)
    slopes = np.array([(parts[j] - parts[i]) / (x[j] - x[i]) for i in range(GROUPS) for j in range(i + 1, GROUPS)])
    grown = float(np.median(slopes))
    rest = parts - grown * x
    se = float((rest - np.median(rest)).std(ddof=2)) / float(np.sqrt(((x - x.mean()) ** 2).sum()))
    half = GROUPS // 2
    late = float(parts[-1] - parts[half])
    goes_on = late >= HALVES * float(parts[-1] - parts[0])
    grows = grown - Z_99 * se > 0 and grown >= max(LEAST_BYTES, LEAST_SHARE * float(parts[0])) and goes_on
    still = grown + Z_99 * se < max(LEAST_BYTES, LEAST_SHARE * float(parts[0]))
    if not grows and not still:
        return []
    first, last = (units.format_size(round(float(value))) for value in (parts[0], parts[-1]))
    length = units.format_duration(len(values) * units.NS_PER_S)
    hours = grown * 3600 / len(values)
    words = (
        f"The served process grows under one load: at {wording.load(stage)} its memory went from {first} to {last} "
        "within "
        f"{length}, {units.format_size(round(hours))} an hour at that pace, and did not level off."
        if grows
        else f"Memory holds: at {wording.load(stage)} the served process stayed between {first} and {last} for "
        f"{length}."
    )
    return [
        Finding(
            id=RULE.id,
            kind="failed" if grows else "well",
            sentence=words,
            confidence=confidence(True, 1, doubtful=doubtful((stage,))),
            endpoint=None,
            n=len(values),
            evidence=tuple({"part": number, "rss_bytes": float(value)} for number, value in enumerate(parts)),
            next_step=RULE.next_step if grows else "",
            impact_s=0.0,
        )
    ]


RULE = Rule(
    id="memory.leak",
    title="Memory that grows",
    question="Does the memory of the served process grow while the load stays the same?",
    statistic="slope (Theil and Sen) through the medians of twelve parts of the longest stage of one load",
    threshold="grown by 16 MB and 10 % or more, above zero at 99 %, and a quarter of the growth in the second half",
    guard=(
        "two minutes of readings without the warm-up: caches and pools fill first; growth that levels off is not "
        "meant; "
        "needs a server process that can be seen"
    ),
    why="What grows under one load grows until the process is killed, and slows down before that.",
    next_step=(
        "Run it for longer (a soak), take two heap snapshots some minutes apart, and compare what there is more of."
    ),
    judge=judge,
)
