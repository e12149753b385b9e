"""What does the document say of a closer look: times over the run, over their ranks, by phase, and whole exchanges?

Figures and kept exchanges come in, parts of the document leave. What a target sent is bounded and made visible here;
engines have taken out the secrets they knew, and values that name themselves as secrets are taken out once more,
because a page is handed in.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from surgeline.analysis.model import EndpointFigures, ErrorGroup
from surgeline.analysis.shape import PHASES, Heat, Parts, Spectrum
from surgeline.report.text import shown
from surgeline.samples import Outcome

Exchange = Mapping[str, Any]

MOST_HEADERS = 8
LONGEST_VALUE = 120
LONGEST_BODY = 320
"""Characters of a body: enough for an error's message, too few for somebody's data."""
LONGEST_ADDRESS = 200

TELLING = (
    *("content-type", "content-length", "content-encoding", "location", "retry-after", "server-timing", "x-cache"),
    *("cache-control", "age", "via", "server"),
)
"""Headers of an answer that a page shows: those that tell why it was slow or wrong."""

_SECRET = re.compile(
    r"""(?ix) (?P<key> ["']? [\w.-]*
        (?:token|secret|passw|passphrase|api_?-?key|session|auth|jwt|card|cvv|cookie|signature)
        [\w.-]* ["']? \s* [:=] \s*) (?P<value> "(?:[^"\\]|\\.)*"? | '[^']*'? | [^\s,;&}\]]+)"""
)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+[\w.~+/=-]{8,}|\beyJ[\w-]{8,}(?:\.[\w-]*)*")
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """The text with the values hidden whose own names call them secret, and tokens of well-known forms."""
    plain = _BEARER.sub(HIDDEN, text)
    return _SECRET.sub(
        lambda match: match["key"] + (f'"{HIDDEN}"' if match["value"].startswith('"') else HIDDEN), plain
    )


def heat_part(found: Heat | None) -> dict[str, Any] | None:
    """The heatmap: cells from the fastest row up."""
    if found is None:
        return None
    return {
        "begin_s": found.begin_s,
        "width_s": found.width_s,
        "lowest": found.lowest,
        "counts": [list(row) for row in found.counts],
        "bad": list(found.bad),
    }


def spectrum_part(found: Spectrum | None) -> dict[str, Any] | None:
    """The spectrum."""
    if found is None:
        return None
    return {
        "quantiles": [round(q, 9) for q in found.quantiles],
        "response_ns": list(found.response_ns),
        "service_ns": list(found.service_ns),
        "sure_to": None if found.sure_to is None else round(found.sure_to, 9),
    }


def phases_part(found: Parts | None) -> dict[str, Any] | None:
    """The mean of each phase over all right answers; null where nobody knows."""
    if found is None or not found.count:
        return None
    return {
        "count": found.count,
        "fresh": found.fresh,
        **{f"{phase}_ns": round(found.mean_ns(phase) or 0) for phase in PHASES},
    }


def closeup_parts(figures: EndpointFigures) -> dict[str, Any]:
    """What stands of it under an endpoint, a transaction, or everything together."""
    return {
        "phases": phases_part(figures.parts),
        "heat": heat_part(figures.heat),
        "spectrum": spectrum_part(figures.spectrum),
    }


# --- exchanges -------------------------------------------------------------------------------------------------------


def by_endpoint(exchanges: Iterable[Exchange]) -> dict[str, list[Exchange]]:
    """The exchanges of each endpoint, in the order in which they came; what is none is left out."""
    found: dict[str, list[Exchange]] = {}
    for exchange in exchanges:
        if isinstance(exchange.get("request"), Mapping):
            found.setdefault(str(exchange.get("endpoint")), []).append(exchange)
    return found


def examples_part(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
    """Of one endpoint the slowest right answer and the first failure, those of them that were kept."""
    right = [exchange for exchange in exchanges if not exchange.get("error")]
    slowest = max(right, key=_took, default=None)
    failed = next((exchange for exchange in exchanges if exchange.get("error")), None)
    chosen = [("slowest", slowest), ("failed", failed)]
    return [_example(why, exchange) for why, exchange in chosen if exchange is not None]


def error_example(group: ErrorGroup, exchanges: Sequence[Exchange]) -> dict[str, Any] | None:
    """A kept exchange of the endpoint that went wrong in the same way; None where none was kept."""
    for exchange in exchanges:
        error = exchange.get("error")
        status = (exchange.get("answer") or {}).get("status")
        if error and (error == group.kind or (group.status and status == group.status and _same(group))):
            return _example("failed", exchange)
    return None


def _same(group: ErrorGroup) -> bool:
    """Whether a status is all there is to tell: of checks the words have to agree."""
    return group.outcome is Outcome.FAILURE and not group.kind.startswith("check")


def _took(exchange: Exchange) -> int:
    took = exchange.get("response_ns")
    return took if isinstance(took, int) else -1


def _example(why: str, exchange: Exchange) -> dict[str, Any]:
    request, answer = exchange["request"], exchange.get("answer")
    answer = answer if isinstance(answer, Mapping) else None
    took = _took(exchange)
    at = exchange.get("at_ns")
    return {
        "why": why,
        "at_ns": at if isinstance(at, int) else None,
        "response_ns": took if took >= 0 else None,
        "method": shown(request.get("method", ""), 20),
        "url": shown(without_secrets(str(request.get("url", ""))), LONGEST_ADDRESS),
        "error": shown(exchange["error"]) if exchange.get("error") else None,
        "status": answer["status"] if answer is not None and isinstance(answer.get("status"), int) else None,
        "headers": _headers(answer),
        "body_bytes": _bytes(answer),
        "body": _body(answer) if why == "failed" else None,
    }


def _headers(answer: Mapping[str, Any] | None) -> list[list[str]]:
    held = (answer or {}).get("headers")
    pairs = [pair for pair in held or () if isinstance(pair, list | tuple) and len(pair) == 2]
    chosen = [(str(name), str(value)) for name, value in pairs if str(name).lower() in TELLING]
    return [[shown(name, 40), shown(without_secrets(value), LONGEST_VALUE)] for name, value in chosen[:MOST_HEADERS]]


def _bytes(answer: Mapping[str, Any] | None) -> int | None:
    size = (answer or {}).get("body_bytes")
    return size if isinstance(size, int) and size >= 0 else None


def _body(answer: Mapping[str, Any] | None) -> str | None:
    """The beginning of a body as one visible line; None where there is none, or it is no text."""
    text = (answer or {}).get("body_head")
    if not isinstance(text, str) or not text or text.count("\ufffd") * 20 > len(text):
        return None
    return shown(" ".join(without_secrets(text).split()), LONGEST_BODY)
