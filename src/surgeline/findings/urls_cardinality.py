"""Is what should be one endpoint spread over many names?"""

import re
from collections import Counter, defaultdict

from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

MOST_NAMES = 20
LEAST_PART = 0.25
FEW_NAMES = 3
"""Up to so many names of one template are not many."""
_VARIES = re.compile(
    r"^(\d+|[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[A-Za-z0-9_-]*\d[A-Za-z0-9_-]{15,})$"
)


def judge(summary: Summary) -> list[Finding]:
    """One finding for all templates together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for figures in summary.endpoints:
        groups[template(figures.name)].append(figures.name)
    names = len(summary.endpoints)
    wide = {key: held for key, held in groups.items() if len(held) > MOST_NAMES and len(held) >= LEAST_PART * names}
    if not wide:
        return []
    most = max(wide, key=lambda key: (len(wide[key]), key))
    counts = {figures.name: figures.tally.judged for figures in summary.endpoints}
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{len(wide[most]):,} of {names:,} endpoints differ only by what stands in their address, as "
                f"{wording.names(sorted(wide[most]))}: as one endpoint, {wording.name(most)}, they would have "
                "percentiles "
                "of their own."
            ),
            confidence="high",
            endpoint=None,
            n=sum(counts[name] for held in wide.values() for name in held),
            evidence=tuple(
                {"template": key, "names": len(held), "requests": sum(counts[name] for name in held)}
                for key, held in sorted(wide.items(), key=lambda item: (-len(item[1]), item[0]))
            ),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def template(name: str) -> str:
    """The name with `{id}` for every part of its path, and `{value}` for every value of its query, that varies."""
    path, mark, query = name.partition("?")
    parts = ["{id}" if _VARIES.match(part) else part for part in path.split("/")]
    keys = [pair.partition("=")[0] + "={value}" for pair in query.split("&")] if mark else []
    return "/".join(parts) + ("?" + "&".join(keys) if mark else "")


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    if not summary.endpoints:
        return ""
    groups = Counter(template(figures.name) for figures in summary.endpoints)
    if max(groups.values()) > FEW_NAMES:
        return ""
    return (
        f"No address is counted under many names: {wording.plural(len(summary.endpoints), 'endpoint')} of "
        f"{wording.plural(len(groups), 'form')}."
    )


RULE = Rule(
    id="urls.cardinality",
    title="Many names for one endpoint",
    question="Are there many endpoints whose names differ only by an id or by a value?",
    statistic="endpoints by their name with numbers, hashes and query values replaced",
    threshold="more than 20 names of one template, and a quarter of all endpoints",
    guard="words are never replaced; what a plan names itself stays as it is",
    why="A thousand endpoints of three requests each have no percentiles, no trend, and hide which one is slow.",
    next_step="Give those requests one name: `name:` in a plan, `name=` in a locustfile.",
    judge=judge,
    cleared=cleared,
)
