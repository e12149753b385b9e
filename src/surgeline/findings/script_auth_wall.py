"""Did the load ever get past the login?"""

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.model import Finding, Rule

WALLS = (401, 403)
MOST_OF_IT = 0.9
FEWEST = 20
FEWEST_SEEN = 3
HARDLY = 0.01
"""Up to which share of refusals nothing stood in the way."""
LOGINS = ("login", "signin", "sign-in", "sign_in", "logon", "auth", "session", "token", "password", "account")


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints that were answered by a wall."""
    refused: dict[str, int] = {}
    for group in summary.errors:
        if group.status in WALLS:
            refused[group.endpoint] = refused.get(group.endpoint, 0) + group.count
    judged = {figures.name: figures.tally.judged for figures in summary.endpoints}
    walls = {
        name: f"{units.format_ratio(count / judged[name])} with 401 or 403"
        for name, count in refused.items()
        if judged.get(name, 0) >= FEWEST and count >= MOST_OF_IT * judged[name]
    }
    for page in summary.traits.marks.login_pages:
        asked_for = any(word in page.endpoint.lower() for word in LOGINS)
        if page.seen >= FEWEST_SEEN and judged.get(page.endpoint, 0) >= FEWEST and not asked_for:
            walls.setdefault(page.endpoint, "with a page that asks for a password")
    if not walls:
        return []
    names = sorted(walls, key=lambda name: (-judged[name], name))
    return [
        Finding(
            id=RULE.id,
            kind="explore",
            sentence=(
                f"{wording.names(names)} {'was' if len(names) == 1 else 'were'} never reached: "
                f"{wording.name(names[0])} was answered {walls[names[0]]}. These figures are of the wall, not of "
                "what is "
                "behind it."
            ),
            confidence="high",
            endpoint=names[0] if len(names) == 1 else None,
            n=sum(judged[name] for name in names),
            evidence=tuple({"endpoint": name, "requests": judged[name], "answered": walls[name]} for name in names),
            next_step=RULE.next_step,
            impact_s=0.0,
        )
    ]


def cleared(summary: Summary) -> str:
    """The other direction; "" where the run cannot tell."""
    looked = [figures for figures in summary.endpoints if figures.tally.judged >= FEWEST]
    if not looked:
        return ""
    refused = sum(group.count for group in summary.errors if group.status in WALLS)
    judged = sum(figures.tally.judged for figures in looked)
    if refused > HARDLY * judged or summary.traits.marks.login_pages:
        return ""
    return (
        f"No wall stood before {wording.plural(len(looked), 'endpoint')}: {refused:,} of "
        f"{wording.plural(judged, 'request')} were answered with 401 or 403."
    )


RULE = Rule(
    id="script.auth_wall",
    title="Answered by the login",
    question="Are there endpoints that answered nothing but 401, 403 or a login page?",
    statistic="answers with status 401 or 403, and kept answers with 200 that hold a field for a password, by endpoint",
    threshold="90 % of an endpoint's requests, or all of three kept answers and more",
    guard="at least 20 requests; endpoints whose own name speaks of logins, sessions or tokens are not meant by a page",
    why="A wall answers fast and never breaks: what was measured is not the app.",
    next_step=(
        "Let the scenario log in first and carry what it gets (`extract:`, cookies are kept), then repeat the run."
    ),
    judge=judge,
    cleared=cleared,
)
