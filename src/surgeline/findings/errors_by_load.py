"""How the share of requests that go wrong depends on load.

Stages are put in the order of load. Errors *begin* with load when the stages below some load, taken together, have
clearly fewer of them than those from it on; they are *constant* when they are there already under the lowest load and
load does not change their share; and where all stages have one load nothing can be said about load at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from surgeline.analysis.capacity import load_of
from surgeline.analysis.distributions import binomial_at_least, wilson
from surgeline.analysis.model import EndpointFigures, ErrorGroup, Estimate, StageFigures, Summary, Tally
from surgeline.findings.growth import of, usable
from surgeline.samples import Outcome

LEAST_SHARE = 0.001
"""Errors below one in a thousand have not begun."""
FEWEST_BAD = 5
SHARED_LUCK = 2.0
"""Errors come in bursts: each is taken to be worth half where how much they do was not measured."""
SURE = 0.05
"""How often chance alone may bring more errors than a share would, where that share is exceeded."""
SURE_OF_LOAD = 0.025
"""The same where each load is tried for a beginning: there are several."""
PENALTY_S = 10.0
"""What a failed request costs its user: Nielsen's limit of attention, after which people give up."""


@dataclass(frozen=True, slots=True)
class Onset:
    """Where errors of an endpoint begin: `before` are the stages below that load, `since` those from it on.

    Shares are of judged requests, with their 95 % intervals: below, in the stage in which they begin, and in the stage
    of the highest share. `bad` of `judged` are of all the stages from the beginning on.
    """

    endpoint: str | None
    before: tuple[StageFigures, ...]
    since: tuple[StageFigures, ...]
    before_share: Estimate
    first_share: Estimate
    worst: StageFigures
    worst_share: Estimate
    bad: int
    judged: int


def onset(summary: Summary, endpoint: str | None) -> Onset | None:
    """The lowest load from which on clearly more goes wrong than below; None where load makes no such difference."""
    stages = [(stage, figures) for stage in usable(summary) if (figures := of(stage, endpoint)) is not None]
    for cut in range(1, len(stages)):
        below, above = stages[:cut], stages[cut:]
        first = above[0][1].tally
        if load_of(above[0][0]) <= load_of(below[-1][0]) or not first.judged:
            continue
        bad, judged = _sums(above)
        bad_below, judged_below = _sums(below)
        luck, luck_below = shared_luck([part for _, part in above]), shared_luck([part for _, part in below])
        if bad < FEWEST_BAD or not judged_below or wrong(first) < min(FEWEST_BAD, bad):
            continue
        low, _ = wilson(bad / judged, judged / luck, 0.99)
        high_below = wilson(bad_below / judged_below, judged_below / luck_below, 0.99)[1]
        share_below = bad_below / judged_below
        apart = low > high_below if bad_below else _not_by_chance(bad, judged, judged_below / luck)
        if (
            exceeds(bad, judged, LEAST_SHARE, luck, SURE_OF_LOAD)
            and apart
            and wrong(first) / first.judged > 3 * share_below
        ):
            worst = max(above, key=lambda item: wrong(item[1].tally) / max(item[1].tally.judged, 1))
            return Onset(
                endpoint=endpoint,
                before=tuple(stage for stage, _ in below),
                since=tuple(stage for stage, _ in above),
                before_share=_share(bad_below, judged_below, luck_below),
                first_share=share_of(above[0][1]),
                worst=worst[0],
                worst_share=share_of(worst[1]),
                bad=bad,
                judged=judged,
            )
    return None


def _not_by_chance(bad: int, judged: int, judged_below: float) -> bool:
    """Whether none below would be luck if errors were as frequent there: less than once in a hundred."""
    return bool((1.0 - bad / judged) ** judged_below < 0.01)


def shared_luck(parts: Sequence[EndpointFigures]) -> float:
    """How many requests are worth one independent one, by how unevenly errors come second by second; 1 at least."""
    measured = [part for part in parts if part.tally.judged and part.error_ratio.n_eff]
    if not measured:
        return SHARED_LUCK
    worth = sum(min(part.error_ratio.n_eff or 0.0, part.tally.judged) for part in measured)
    return max(sum(part.tally.judged for part in measured) / worth, 1.0)


def exceeds(bad: int, judged: int, share: float, luck: float, sure: float = SURE) -> bool:
    """Whether so many errors are clearly more than that share: the exact binomial tail, of independent requests."""
    return binomial_at_least(bad / luck, judged / luck, share) < sure


def _sums(parts: Sequence[tuple[StageFigures, EndpointFigures]]) -> tuple[int, int]:
    """Bad and judged requests."""
    return sum(wrong(figures.tally) for _, figures in parts), sum(figures.tally.judged for _, figures in parts)


def _share(bad: int, judged: int, luck: float) -> Estimate:
    """A share with its interval; of none, up to the largest that would still show nothing once in twenty runs."""
    worth = max(judged / luck, 1.0)
    low, high = wilson(bad / judged, worth) if bad else (0.0, 1.0 - 0.05 ** (1.0 / worth))
    return Estimate(bad / judged, low, high, judged, worth)


def wrong(tally: Tally) -> int:
    """What was sent and went wrong; what stayed unsent is spoken of by itself (`not_sent`)."""
    return tally.bad - tally.unsent


def share_of(figures: EndpointFigures) -> Estimate:
    """The share of the judged requests that were sent and went wrong, with its interval."""
    tally = figures.tally
    if not tally.unsent or not tally.judged:
        return figures.error_ratio
    value = wrong(tally) / tally.judged
    return Estimate(value, *wilson(value, tally.judged / SHARED_LUCK, 0.95), tally.judged)


def of_valid(summary: Summary, figures: EndpointFigures) -> EndpointFigures:
    """The endpoint without the stages that the generator limited: what went wrong there says nothing about it."""
    stages = [stage for stage in summary.stages if stage.validity == "invalid"]
    parts = [part for stage in stages for part in stage.endpoints if part.name == figures.name and part.tally.judged]
    if not parts:
        return figures
    names = ("due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted", "own")
    left = {name: getattr(figures.tally, name) - sum(getattr(part.tally, name) for part in parts) for name in names}
    tally = replace(figures.tally, **left)
    value = tally.bad / tally.judged if tally.judged else None
    low, high = wilson(value, tally.judged / SHARED_LUCK, 0.95) if value is not None else (None, None)
    return replace(figures, tally=tally, error_ratio=Estimate(value, low, high, tally.judged))


def main_kind(errors: Sequence[ErrorGroup], endpoint: str | None) -> tuple[str, float, ErrorGroup | None]:
    """The most frequent kind of error of an endpoint, its share of them, and its largest group; of what was sent."""
    mine = [
        group
        for group in errors
        if (endpoint is None or group.endpoint == endpoint) and group.outcome is not Outcome.NOT_SENT
    ]
    counts: dict[str, int] = {}
    for group in mine:
        counts[said(group)] = counts.get(said(group), 0) + group.count
    if not counts:
        return "", 0.0, None
    kind = max(counts, key=lambda key: (counts[key], key))
    largest = max((group for group in mine if said(group) == kind), key=lambda group: group.count)
    return kind, counts[kind] / sum(counts.values()), largest


def said(group: ErrorGroup) -> str:
    """A kind as people read it: `status 503`, `connection reset`, `no answer in time`."""
    words = {
        "connect_refused": "connection refused",
        "connect_reset": "connection reset while connecting",
        "connect_timeout": "no connection in time",
        "client_ports": "no free port on the generator",
        "client_fds": "no free descriptor on the generator",
        "dns": "name not found",
        "proxy_refused": "the proxy did not open the way",
        "tls_handshake": "TLS handshake failed",
        "tls_certificate": "TLS certificate refused",
        "write_failed": "connection broke while sending",
        "stale_connection": "kept connection was closed by the server",
        "reset_before_headers": "connection reset before the answer",
        "short_head": "connection closed within the head of the answer",
        "reset_mid_body": "connection reset in the middle of the answer",
        "short_body": "answer cut short",
        "header_timeout": "no answer in time",
        "body_timeout": "answer not complete in time",
        "total_timeout": "no answer in time",
        "in_flight_limit": "not sent: too many requests in flight",
        "body_too_large": "answer longer than the plan allows",
        "body_not_kept": "answer too long, or too many at once, for the generator to check",
        "extract_missing": "value to extract was missing",
    }
    if group.kind in words:
        return words[group.kind]
    if group.outcome is Outcome.FAILURE and group.status >= 400 and not group.kind.startswith("check"):
        return f"status {group.status}"
    return group.kind.replace("_", " ") if group.kind else group.outcome.word


def wrong_time_s(figures: EndpointFigures) -> float:
    """What requests that went wrong cost their users, s: the time they waited, and the penalty of each."""
    return figures.failed_response.histogram.sum_ns / 1e9 + wrong(figures.tally) * PENALTY_S
