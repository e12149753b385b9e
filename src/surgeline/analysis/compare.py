"""Two runs side by side: what changed, and what one run on each side allows to say about it.

A run has luck of its own that all its requests share, so the difference of two runs is held against how much runs of
one and the same server differ. Where nobody has learned that from repeated runs, it is taken to be 4 % (standard
deviation, three degrees of freedom): simulation showed that this keeps false alarms at 3 % up to a true 6 %. What comes
out of one run a side is therefore *indicative*, and only large changes get a word at all.

    d = ln(candidate / base)        se² = se_base² + se_candidate² + 2 τ²        interval d ± t(df) · se
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from surgeline import units
from surgeline.analysis.capacity import load_of
from surgeline.analysis.distributions import fewest_for_quantile, t_quantile
from surgeline.analysis.model import Change, ChangeWord, Comparison, EndpointFigures, Estimate, Summary

SHARED_LUCK = 4.0
"""A request of a run too short to tell is taken to be worth a quarter."""
LEAST_CHANGE = 0.05
LEAST_NS = 1e6
ERRORS_BUDGET = 0.001
QUANTILES = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Noise:
    """How much a percentile differs from run to run: `ratio` is the standard deviation of its logarithm, `df` ≥ 1.

    `learned` False: assumed, not measured.
    """

    ratio: float = 0.04
    df: float = 3.0
    learned: bool = False


def compare(base: Summary, candidate: Summary, noise: Noise | None = None) -> Comparison:
    """p50 and p95 of everything and of each endpoint in both runs, errors and goodput, with a word where one is due.

    Unlike runs get no words, and the reasons in `unlike`.
    """
    noise = noise or Noise()
    unlike = _unlike(base, candidate)
    theirs = {figures.name: figures for figures in candidate.endpoints}
    pairs = [(base.total, candidate.total)]
    pairs += [(figures, theirs[figures.name]) for figures in base.endpoints if figures.name in theirs]
    changes = [_time_change(before, after, q, noise, bool(unlike)) for before, after in pairs for q in QUANTILES]
    changes += [_error_change(before, after, bool(unlike)) for before, after in pairs]
    return Comparison(
        comparable=not unlike,
        unlike=unlike,
        differences=_differences(base, candidate),
        changes=tuple(changes),
        word=_overall(changes) if not unlike else None,
        indicative=True,
        noise_ratio=noise.ratio,
        noise_learned=noise.learned,
        only_base=tuple(f.name for f in base.endpoints if f.name not in theirs),
        only_candidate=tuple(name for name in theirs if name not in {f.name for f in base.endpoints}),
    )


def _time_change(before: EndpointFigures, after: EndpointFigures, q: float, noise: Noise, unlike: bool) -> Change:
    one, other = before.response.quantiles[q], after.response.quantiles[q]
    metric = f"p{q * 100:g}"
    if not one.value or not other.value:
        missing = one if not one.value else other
        return Change(before.name, metric, one, other, None, None, None, None, missing.why_not or "not measured")
    effect = math.log(other.value / one.value)
    errors = (_standard_error(figures, q) for figures in (before, after))
    se = math.sqrt(sum(error * error for error in errors) + 2.0 * noise.ratio**2)
    half = t_quantile(0.975, noise.df) * se
    low, high = math.expm1(effect - half), math.expm1(effect + half)
    budget = max(LEAST_CHANGE, 2.0 * noise.ratio, LEAST_NS / one.value)
    word, why = _word(math.expm1(effect), low, high, budget, effect, se, noise)
    if unlike:
        return Change(before.name, metric, one, other, math.expm1(effect), low, high, None, "the runs are not alike")
    return Change(before.name, metric, one, other, math.expm1(effect), low, high, word, why)


def _word(
    change: float, low: float, high: float, budget: float, effect: float, se: float, noise: Noise
) -> tuple[ChangeWord, str]:
    """The word for a change of a time: positive is worse."""
    if low > 0.0 and change >= budget:
        return "regressed", "slower by more than two runs of one server differ"
    if high < 0.0 and -change >= budget / (1.0 + budget):
        return "improved", "faster by more than two runs of one server differ"
    narrow = t_quantile(0.95, noise.df) * se
    if math.expm1(effect - narrow) >= -budget and math.expm1(effect + narrow) <= budget:
        return "unchanged", f"within {units.format_ratio(budget)} whatever the luck"
    return "inconclusive", "runs of one server may differ as much"


def _standard_error(figures: EndpointFigures, q: float) -> float:
    """Of the logarithm of a quantile, within its run."""
    estimate = figures.response.quantiles[q]
    if estimate.low is not None and estimate.high is not None and estimate.low > 0:
        return math.log(estimate.high / estimate.low) / (2.0 * 1.96)
    histogram = figures.response.histogram
    worth = max((estimate.n_eff or histogram.count / SHARED_LUCK), 1.0)
    if histogram.count < fewest_for_quantile(q):
        return 1.0
    rank = math.sqrt(q * (1.0 - q) / worth)
    low, high = histogram.quantile(max(q - rank, 0.0)), histogram.quantile(min(q + rank, 1.0))
    return math.log(max(high or 1, 1) / max(low or 1, 1)) / 2.0


def _error_change(before: EndpointFigures, after: EndpointFigures, unlike: bool) -> Change:
    one, other = before.error_ratio, after.error_ratio
    if one.value is None or other.value is None:
        return Change(before.name, "errors", one, other, None, None, None, None, "no request has a known outcome")
    change = other.value - one.value
    apart = _apart(one, other)
    if unlike:
        return Change(before.name, "errors", one, other, change, None, None, None, "the runs are not alike")
    if apart and abs(change) > ERRORS_BUDGET:
        word: ChangeWord = "regressed" if change > 0 else "improved"
        return Change(before.name, "errors", one, other, change, None, None, word, "the intervals are apart")
    same = max(one.high or 1.0, other.high or 1.0) - min(one.low or 0.0, other.low or 0.0) <= 2 * ERRORS_BUDGET
    if same:
        return Change(before.name, "errors", one, other, change, None, None, "unchanged", "within 0.1 points")
    return Change(before.name, "errors", one, other, change, None, None, "inconclusive", "the intervals overlap")


def _apart(one: Estimate, other: Estimate) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _overall(changes: list[Change]) -> ChangeWord:
    """For everything together: regressed if p95 or errors are, else what p95 says."""
    whole = {change.metric: change.word for change in changes[:2] if change.word}
    errors = next((change.word for change in changes if change.metric == "errors"), None)
    if "regressed" in (*whole.values(), errors):
        return "regressed"
    return whole.get("p95") or whole.get("p50") or "inconclusive"


# --- what makes runs alike -------------------------------------------------------------------------------------------


def _unlike(base: Summary, candidate: Summary) -> tuple[str, ...]:
    """Why nothing can be said about a change, as clauses."""
    found = []
    if _subject(base.run) != _subject(candidate.run):
        found.append("they did not test the same plan or script")
    if _load(base) != _load(candidate):
        found.append("their loads differ")
    if base.run.get("engine") != candidate.run.get("engine"):
        found.append(f"one was sent by {base.run.get('engine')}, the other by {candidate.run.get('engine')}")
    if base.response_is_service != candidate.response_is_service:
        found.append("only one of them counts from when requests were due")
    for side, summary in (("base", base), ("candidate", candidate)):
        if summary.validity == "invalid":
            found.append(f"the {side} is invalid: {'; '.join(summary.validity_reasons[:1])}")
    ended = [tuple(stage.index for stage in summary.stages if stage.completed) for summary in (base, candidate)]
    if ended[0] != ended[1] and base.run.get("stages"):
        found.append(f"one completed {len(ended[0])} stages, the other {len(ended[1])}")
    return tuple(found)


def _subject(run: Mapping[str, Any]) -> Any:
    subject = run.get("subject") or {}
    return subject.get("hash") or (subject.get("sha256"), tuple(subject.get("arguments") or ()))


def _load(summary: Summary) -> Any:
    keys = ("model", "from", "to", "duration_ns")
    return [tuple(stage.get(key) for key in keys) for stage in summary.run.get("stages") or ()]


def _differences(base: Summary, candidate: Summary) -> tuple[str, ...]:
    """What else was different, as clauses; none of it forbids a comparison."""
    found = []
    for label, path in (
        ("the machine", ("environment", "machine")),
        ("the generator's place", ("environment", "generator_shares_machine")),
        ("the code", ("git", "commit")),
        ("versions", ("versions",)),
        ("the number of workers", ("settings", "workers")),
    ):
        one, other = (_dig(summary.run, path) for summary in (base, candidate))
        if one != other:
            found.append(f"{label} differs" + _values(one, other) if label != "versions" else "versions differ")
    for side, summary in (("base", base), ("candidate", candidate)):
        if summary.validity == "degraded":
            found.append(f"the {side} is degraded: {'; '.join(summary.validity_reasons[:1])}")
    rates = [summary.total.throughput_per_s for summary in (base, candidate)]
    if rates[0] and rates[1] and abs(rates[1] / rates[0] - 1.0) > 0.01 and base.model != "open":
        found.append(
            f"the same users brought {units.format_rate(rates[0])} and {units.format_rate(rates[1])}: a faster server "
            "is asked more"
        )
    top = [max((load_of(stage) for stage in summary.stages), default=0.0) for summary in (base, candidate)]
    if top[0] != top[1]:
        found.append(f"the highest loads were {top[0]:g} and {top[1]:g}")
    return tuple(found)


def _dig(run: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = run
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _values(one: Any, other: Any) -> str:
    if isinstance(one, str) and isinstance(other, str):
        return f": {one[:12]} and {other[:12]}"
    return ""
