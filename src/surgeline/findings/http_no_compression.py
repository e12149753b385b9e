"""Are large texts sent without compression to clients that would take it?"""

from collections.abc import Mapping
from typing import Any

from surgeline import units
from surgeline.analysis.model import Summary
from surgeline.findings import wording
from surgeline.findings.confidence import confidence
from surgeline.findings.model import Finding, Rule

LEAST_SAVED = 0.3
LEAST_BYTES = 1_400


def judge(summary: Summary) -> list[Finding]:
    """One finding for all endpoints together; what does well is said too."""
    looked = [seen for seen in summary.run.get("looked") or () if isinstance(seen, Mapping)]
    seen = [one for one in looked if int(one.get("plain_bytes") or 0) >= LEAST_BYTES]
    plain = [one for one in seen if not one.get("encoding") and _saved(one) >= LEAST_SAVED]
    if not seen:
        return []
    return [_failed(summary, plain) if plain else _well(seen)]


def _saved(seen: Mapping[str, Any]) -> float:
    return 1.0 - int(seen.get("gzip_bytes") or 0) / max(int(seen.get("plain_bytes") or 0), 1)


def _failed(summary: Summary, plain: list[Mapping[str, Any]]) -> Finding:
    plain = sorted(plain, key=lambda seen: -(int(seen["plain_bytes"]) - int(seen["gzip_bytes"])))
    worst = plain[0]
    names = wording.names([str(seen["endpoint"]) for seen in plain])
    share = sum(int(seen["gzip_bytes"]) for seen in plain) / sum(int(seen["plain_bytes"]) for seen in plain)
    counts = {figures.name: figures.tally.answered for figures in summary.endpoints}
    return Finding(
        id=RULE.id,
        kind="explore",
        sentence=(
            f"{names} {'sends' if len(plain) == 1 else 'send'} text without compression to clients that accept gzip: "
            f"{wording.name(str(worst['endpoint']))} {units.format_size(int(worst['plain_bytes']))}, "
            "where gzip makes it "
            f"{units.format_size(int(worst['gzip_bytes']))}; altogether {units.format_ratio(1.0 - share)} less to send."
        ),
        confidence=confidence(True, 1),
        endpoint=str(worst["endpoint"]) if len(plain) == 1 else None,
        n=sum(counts.get(str(seen["endpoint"]), 0) for seen in plain),
        evidence=tuple(
            {
                "endpoint": seen["endpoint"], "content_type": seen.get("content_type"),
                "plain_bytes": seen["plain_bytes"], "gzip_bytes": seen["gzip_bytes"],
            }
            for seen in plain
        ),
        next_step=RULE.next_step,
        impact_s=0.0,
    )  # fmt: skip


def _well(seen: list[Mapping[str, Any]]) -> Finding:
    packed = [one for one in seen if one.get("encoding")]
    said = f"{wording.plural(len(packed), 'endpoint')} with larger texts {'sends' if len(packed) == 1 else 'send'}"
    return Finding(
        id=RULE.id,
        kind="well",
        sentence=f"{said} them compressed to clients that accept it."
        if packed
        else "No endpoint sends text that compression would make much smaller.",
        confidence=confidence(True, 1),
        endpoint=None,
        n=len(seen),
        evidence=tuple({"endpoint": one["endpoint"], "encoding": one.get("encoding")} for one in seen),
        next_step="",
        impact_s=0.0,
    )


RULE = Rule(
    id="http.no_compression",
    title="Text without compression",
    question="Are larger texts compressed for clients that accept it?",
    statistic=(
        "one answer to GET with `Accept-Encoding: gzip` per endpoint, before the load; what gzip makes of its body"
    ),
    threshold="text or JSON of 1.4 kB or more, no Content-Encoding, and gzip would save 30 % or more",
    guard="the load itself asks for no compression, so this costs nothing that is measured; endpoints with GET only",
    why="Uncompressed text takes several times as long over slow links, and fills fast ones.",
    next_step="Turn on compression in the server or in the proxy before it, for text and JSON from about 1.4 kB on.",
    judge=judge,
)
