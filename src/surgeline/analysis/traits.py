"""What is an endpoint like: one speed or two, dearer with every item, on fresh connections, sending the same again?

Only single requests and whole exchanges can tell. Of a long run the first requests are looked at: the lower loads,
where an endpoint's own habits are not yet covered by queues. Response headers come from the few exchanges that were
kept; a trait that rests on them says on how many.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from surgeline import units
from surgeline.analysis import marks
from surgeline.analysis.marks import Marks
from surgeline.samples import Outcome

if TYPE_CHECKING:
    from surgeline.analysis.model import PeriodicStall

Array = np.ndarray[Any, np.dtype[Any]]

COLUMNS = (
    *(
        "endpoint",
        "stage",
        "url",
        "start_ns",
        "end_ns",
        "dns_ns",
        "connect_ns",
        "tls_ns",
        "bytes_in",
        "reused",
        "outcome",
        "bytes_out",
        "server_timing",
    ),
)
"""The columns of a row that `look` needs; without the last two, what rests on them is not seen."""
MOST_ROWS = 200_000
MOST_FOR_MODES = 3_000
FEWEST_FOR_MODES = FEWEST_CALM = 40
LOUDER = 1.5
WARM_UP_NS, STILL_LEFT = marks.WARM_UP_NS, marks.STILL_LEFT
STAGES = 5
"""Of how many of the lowest loads an endpoint's times are taken, as long as they are few."""
ENOUGH = 150
"""With so many requests of an endpoint, no higher load is looked at."""

LEAST_WEIGHT = 0.10
"""The rarer mode must have this share: less is a tail, or a stall."""
ASHMAN = 3.0
"""Ashman's D (Ashman, Bird and Zepf 1994): above 2 two modes are cleanly apart; 3 keeps skewed single ones out."""
FAR = 5.0
"""Without something that tells the speeds apart D must be this: a machine that is short of CPU shows 4 as well."""
VALLEY = 0.4
"""Between the modes the density must fall to this share of the lower peak."""
APART, APART_NS = 2.0, 5 * units.NS_PER_MS
PURE = 0.85
FEWEST_EXCHANGES = 4

FEWEST_PER_VALUE = 6
LINEAR_R2 = 0.9
APART_Z = 3.29
"""By ranks, the times of the greatest value must be above those of the least at one in a thousand (Mann, Whitney)."""
EXPONENT = (0.5, 1.5)
GAP_NS = 200 * units.NS_PER_MS
GAP_IN_FLIGHT = 5
OF_ONE_ANSWER = frozenset(
    {
        *(
            "date",
            "content-length",
            "server-timing",
            "etag",
            "age",
            "expires",
            "last-modified",
            "set-cookie",
            "location",
        ),
        *("x-request-id", "x-correlation-id", "traceparent", "x-trace-id", "x-runtime", "x-response-time"),
    }
)
"""Headers whose values belong to one answer: they tell any two answers apart, and say nothing."""
VALIDATORS = ("etag", "last-modified", "cache-control", "expires")


@dataclass(frozen=True, slots=True)
class Modes:
    """Two speeds. `slow_share` of `n` requests were around `slow_ns`; `by` is what tells them apart, with `purity`."""

    fast_ns: float
    slow_ns: float
    slow_share: float
    n: int
    by: str
    purity: float | None


@dataclass(frozen=True, slots=True)
class Scaling:
    """Time that grows with a parameter: from `low` to `high` it goes from `low_ns` to `high_ns` (medians).

    `unit_ns` is what one more costs, with its 95 % interval; `exponent` the slope in logarithms, `r2` of the straight
    line through the medians.
    """

    parameter: str
    low: float
    high: float
    low_ns: float
    high_ns: float
    unit_ns: float
    unit_low_ns: float
    unit_high_ns: float
    exponent: float
    r2: float
    n: int


@dataclass(frozen=True, slots=True)
class SizeCost:
    """Time that grows with the size of the answer, of its own accord: `ns_per_byte` and the ends of its range."""

    ns_per_byte: float
    low_bytes: float
    high_bytes: float
    low_ns: float
    high_ns: float
    r2: float
    n: int


@dataclass(frozen=True, slots=True)
class EndpointTraits:
    """What was seen of one endpoint; None or 0 where it was not seen.

    `new_connections` of `connections` requests with a known connection opened one, which took `setup_share` of their
    service time. `repeats` pairs of exchanges had the same address and the same body, `differ` the same address and
    another one; `validators` whether any answer had one, `private` whether any was somebody's own. `repeat_share`
    of all requests asked for an address that had been asked for before. `retry_after` of a refusal, where it had one.
    """

    name: str
    requests: int
    modes: Modes | None
    scaling: Scaling | None
    size: SizeCost | None
    new_connections: int
    connections: int
    setup_share: float
    mean_bytes: float
    repeats: int
    differ: int
    validators: bool
    private: bool
    repeat_share: float
    retry_after: str


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nothing was answered although `in_flight` requests, five or more, waited in its middle."""

    begin_ns: int
    end_ns: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Traits:
    """What was seen of each endpoint, and the gaps in everything. `rows` is how many requests were looked at.

    `marks` is what single requests carry with them.
    """

    endpoints: tuple[EndpointTraits, ...] = ()
    gaps: tuple[Gap, ...] = ()
    rows: int = 0
    marks: Marks = field(default_factory=Marks)


@dataclass(slots=True)
class _Rows:
    endpoint: list[str]
    url: list[str]
    timing: list[str]
    numbers: dict[str, Array]

    begin_ns: int
    """When the first of them was sent."""


def look(
    batches: Iterable[Mapping[str, Any]],
    exchanges: Sequence[Mapping[str, Any]],
    load_of: Mapping[int, float],
    stalls: "Sequence[PeriodicStall]" = (),
) -> Traits:
    """The traits of a run: from its first rows, its exchanges, the load of each stage, and its regular stalls."""
    rows = _read(batches)
    if rows is None:
        return Traits()
    by_name: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(rows.endpoint):
        by_name[name].append(place)
    kept: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for exchange in exchanges:
        kept[str(exchange.get("endpoint"))].append(exchange)
    gaps = tuple(_gaps(rows))
    still = [(gap.begin_ns, gap.end_ns) for gap in gaps] + [moment for stall in stalls for moment in _moments(stall)]
    asked = _requests(rows, by_name)
    quiet = marks.quiet(asked, load_of)
    found = tuple(
        _one(name, rows, np.array(mine), kept[name], (load_of, quiet), still) for name, mine in sorted(by_name.items())
    )
    return Traits(found, gaps, len(rows.endpoint), marks.look(asked, exchanges, quiet, still))


def _moments(stall: "PeriodicStall") -> Iterator[tuple[int, int]]:
    """When everything stood still, by the clock of the stall, with a fifth of its length around it."""
    room = stall.duration_ns // 5
    for end in range(stall.first_ns, stall.last_ns + stall.period_ns, stall.period_ns):
        yield end - stall.duration_ns - room, end + room


def _requests(rows: _Rows, by_name: Mapping[str, Sequence[int]]) -> marks.Requests:
    endpoint = np.zeros(len(rows.endpoint), np.int64)
    names = sorted(by_name)
    for number, name in enumerate(names):
        endpoint[by_name[name]] = number
    plain = {name: rows.numbers[name] for name in _PLAIN}
    return marks.Requests(
        endpoint=endpoint,
        names=names,
        places=[np.asarray(by_name[name]) for name in names],
        url=rows.url,
        bytes_out=rows.numbers.get("bytes_out"),
        timing=rows.timing or None,
        **plain,
    )


_PLAIN = ("stage", "start_ns", "end_ns", "dns_ns", "connect_ns", "tls_ns", "reused", "outcome")


def _read(batches: Iterable[Mapping[str, Any]]) -> _Rows | None:
    names = [name for name in COLUMNS if name not in ("endpoint", "url", "server_timing")]
    endpoint: list[str] = []
    url: list[str] = []
    timing: list[str] = []
    parts: dict[str, list[Array]] = defaultdict(list)
    for batch in batches:
        endpoint += list(batch["endpoint"])
        url += list(batch["url"])
        timing += list(batch.get("server_timing", ()))
        for name in names:
            if name in batch:
                parts[name].append(np.asarray(batch[name]))
        if len(endpoint) >= MOST_ROWS:
            break
    if not endpoint:
        return None
    numbers = {name: np.concatenate(held) for name, held in parts.items()}
    sent = numbers["start_ns"][numbers["start_ns"] >= 0]
    return _Rows(endpoint, url, timing, numbers, int(sent.min()) if len(sent) else 0)


def _one(
    name: str,
    rows: _Rows,
    mine: Array,
    exchanges: Sequence[Mapping[str, Any]],
    loads: tuple[Mapping[int, float], frozenset[int]],
    still: Sequence[tuple[int, int]],
) -> EndpointTraits:
    numbers = {column: values[mine] for column, values in rows.numbers.items()}
    urls = [rows.url[place] for place in mine]
    ok = (numbers["outcome"] == Outcome.OK) & (numbers["end_ns"] >= 0) & (numbers["start_ns"] >= 0)
    warm = ok & (numbers["start_ns"] >= rows.begin_ns + WARM_UP_NS)
    service = (numbers["end_ns"] - numbers["start_ns"]).astype(float)
    calm = _calm(numbers["stage"], warm if warm.sum() >= STILL_LEFT * ok.sum() else ok, service, *loads)
    calm_urls = [urls[place] for place in np.flatnonzero(calm)]
    levelled = _levelled(service[calm], numbers["stage"][calm])
    scaling = _scaling(calm_urls, levelled)
    until = int(numbers["end_ns"][calm].max()) if calm.any() else 0
    usual = [exchange for exchange in exchanges if not _unusual(exchange, rows.begin_ns, still)]
    early = [exchange for exchange in usual if int(exchange.get("at_ns") or 0) <= until]
    shown = next((some for some in (early, usual) if len(some) >= FEWEST_EXCHANGES), exchanges)
    modes = _modes(service[calm], calm_urls, numbers["reused"][calm], shown, numbers["stage"][calm])
    known = numbers["reused"] <= 1
    fresh = known & (numbers["reused"] == 0) & ok
    setup = sum(np.maximum(numbers[part][fresh], 0).astype(float).sum() for part in ("dns_ns", "connect_ns", "tls_ns"))
    spent = float(service[fresh].sum())
    repeats, differ, validators, private = _standing(exchanges)
    refused = [e["answer"]["headers"] for e in exchanges if (e.get("answer") or {}).get("status") in (429, 503)]
    return EndpointTraits(
        name=name,
        requests=len(mine),
        modes=None if scaling is not None else modes,
        scaling=scaling,
        size=None if scaling is not None else _size(numbers["bytes_in"][calm].astype(float), levelled),
        new_connections=int((known & (numbers["reused"] == 0)).sum()),
        connections=int(known.sum()),
        setup_share=setup / spent if spent > 0 else 0.0,
        mean_bytes=float(numbers["bytes_in"][ok].mean()) if ok.any() else 0.0,
        repeats=repeats,
        differ=differ,
        validators=validators,
        private=private,
        repeat_share=1.0 - len(set(urls)) / len(urls),
        retry_after=next((_header(headers, "retry-after") for headers in refused), ""),
    )


def _unusual(exchange: Mapping[str, Any], begin_ns: int, still: Sequence[tuple[int, int]]) -> bool:
    """Whether an exchange was under way in the first moments, or while everything stood still."""
    at = int(exchange.get("at_ns") or 0)
    end = at + max(int(exchange.get("response_ns") or 0), 0)
    return at < begin_ns + WARM_UP_NS or any(at < stop and end > begin for begin, stop in still[:1_000])


def _calm(stage: Array, ok: Array, service: Array, load_of: Mapping[int, float], quiet: frozenset[int]) -> Array:
    """Correct answers at the lowest loads, as many as are needed, of quiet stages before the highest load first.

    Once there are a few, a stage in which the endpoint is clearly slower is no calm any more.
    """
    chosen = np.zeros(len(stage), bool)
    peak = max(sorted(load_of), key=lambda index: load_of[index], default=0)
    order = sorted(set(stage.tolist()), key=lambda i: (i not in quiet, i > peak, load_of.get(i, math.inf), i))
    for index in order[:STAGES]:
        mine, count = ok & (stage == index), int(chosen.sum())
        if count >= ENOUGH:
            break
        if count >= FEWEST_CALM and index not in quiet:
            break
        if count >= FEWEST_CALM and mine.any():
            before, now = float(np.median(service[chosen])), float(np.median(service[mine]))
            if now > LOUDER * before and now - before > APART_NS:
                break
        chosen |= mine
    return chosen


def _levelled(service: Array, stage: Array) -> Array:
    """Service times as under the stage of the least median: what a higher load adds to all of them is taken away."""
    medians = {
        index: float(np.median(service[stage == index]))
        for index in set(stage.tolist())
        if int((stage == index).sum()) >= FEWEST_PER_VALUE
    }
    least = min(medians.values(), default=0.0)
    added = np.array([medians.get(index, least) - least for index in stage.tolist()])
    return np.asarray(np.maximum(service - added, 1.0))


# --- two speeds ------------------------------------------------------------------------------------------------------


def _modes(
    service: Array, urls: Sequence[str], reused: Array, exchanges: Sequence[Mapping[str, Any]], stage: Array
) -> Modes | None:
    positive = service > 0
    if int(positive.sum()) < FEWEST_FOR_MODES:
        return None
    step = max(int(positive.sum()) // MOST_FOR_MODES, 1)
    x = np.log(service[positive][::step])
    split = _two(x)
    if split is None:
        return None
    cut, low, high, weight, apart = split
    fast_ns, slow_ns = math.exp(low), math.exp(high)
    if slow_ns < APART * fast_ns or slow_ns - fast_ns < APART_NS:
        return None
    by, purity = _told_apart(math.exp(cut), service, urls, reused, exchanges)
    if not by and (apart < FAR or not _within_one(service > math.exp(cut), stage)):
        # Two loads may be two speeds: without something that tells them apart, one load must show both, far apart.
        return None
    return Modes(fast_ns, slow_ns, weight, len(x), by, purity)


def _within_one(slow: Array, stage: Array) -> bool:
    """Whether the stage with the most requests has both kinds, a tenth of each at least."""
    kinds, counts = np.unique(stage, return_counts=True)
    share = float(slow[stage == kinds[int(np.argmax(counts))]].mean())
    return LEAST_WEIGHT <= share <= 1.0 - LEAST_WEIGHT


def _two(x: Array) -> tuple[float, float, float, float, float] | None:
    """Where two normal components part, their medians, the share above, and Ashman's D; None where one is enough.

    Expectation and maximisation from a split at the widest valley; then Ashman's D, both weights, the valley's depth in
    the data themselves, and the gain over one component (BIC) must agree.
    """
    x = np.sort(x)
    n = len(x)
    first, last = int(LEAST_WEIGHT * n), int((1 - LEAST_WEIGHT) * n)
    total, squares = np.cumsum(x), np.cumsum(x * x)
    places = np.arange(first, last)
    left, right = places.astype(float), (n - places).astype(float)
    within = (squares[places - 1] - total[places - 1] ** 2 / left) + (
        squares[-1] - squares[places - 1] - (total[-1] - total[places - 1]) ** 2 / right
    )
    at = int(places[int(np.argmin(within))])
    w = np.array([at / n, 1 - at / n])
    mu = np.array([x[:at].mean(), x[at:].mean()])
    sd = np.maximum(np.array([x[:at].std(), x[at:].std()]), 0.02)
    for _ in range(60):
        density = w * np.exp(-0.5 * ((x[:, None] - mu) / sd) ** 2) / sd
        share = density / np.maximum(density.sum(axis=1, keepdims=True), 1e-300)
        w = share.mean(axis=0)
        if w.min() < 0.02:
            return None
        mu = (share * x[:, None]).sum(axis=0) / (w * n)
        sd = np.maximum(np.sqrt((share * (x[:, None] - mu) ** 2).sum(axis=0) / (w * n)), 0.02)
    if mu[0] > mu[1]:
        w, mu, sd = w[::-1], mu[::-1], sd[::-1]
    apart = abs(mu[1] - mu[0]) / math.sqrt((sd[0] ** 2 + sd[1] ** 2) / 2)
    if w.min() < LEAST_WEIGHT or apart < ASHMAN:
        return None
    density = (w * np.exp(-0.5 * ((x[:, None] - mu) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))).sum(axis=1)
    two = float(np.log(np.maximum(density, 1e-300)).sum())
    one = -0.5 * n * (1 + math.log(2 * math.pi * max(float(x.var()), 1e-9)))
    if two - one < 1.5 * math.log(n) + 5:
        return None
    counts, edges = np.histogram(x, bins=24)
    middle = (edges[:-1] + edges[1:]) / 2
    inside = np.flatnonzero((middle > mu[0]) & (middle < mu[1]))
    if len(inside) < 3:
        return None
    smooth = np.convolve(counts, [0.25, 0.5, 0.25], mode="same")
    centre = middle[inside[len(inside) // 2]]
    peaks = min(float(smooth[middle <= centre].max()), float(smooth[middle > centre].max()))
    valley = inside[int(np.argmin(smooth[inside]))]
    if smooth[valley] > VALLEY * peaks:
        return None
    cut = float(middle[valley])
    return cut, float(np.median(x[x <= cut])), float(np.median(x[x > cut])), float((x > cut).mean()), float(apart)


def _told_apart(
    cut_ns: float, service: Array, urls: Sequence[str], reused: Array, exchanges: Sequence[Mapping[str, Any]]
) -> tuple[str, float | None]:
    """What separates the slow from the fast: a header, a parameter, a fresh connection; nothing where nothing does."""
    slow = service > cut_ns
    best: tuple[str, float | None] = ("", None)
    for header in sorted({name for e in exchanges for name, _ in _headers(e)} - OF_ONE_ANSWER):
        seen = [
            (value, float(e.get("response_ns") or 0) > cut_ns)
            for e in exchanges
            if (e.get("answer") or {}).get("status") == 200
            for name, value in _headers(e)
            if name == header
        ]
        purity = _purity([value for value, _ in seen], np.array([is_slow for _, is_slow in seen]))
        if len(seen) >= FEWEST_EXCHANGES and purity is not None and purity >= max(PURE, (best[1] or 0.0) + 0.01):
            values = sorted({value for value, _ in seen})
            means = {v: np.mean([is_slow for value, is_slow in seen if value == v]) for v in values}
            words = f"{min(values, key=lambda v: (means[v], v))} fast, {max(values, key=lambda v: (means[v], v))} slow"
            best = (f"header {header} ({words}, {len(seen)} answers seen)", purity)
    for label, values in (("a new connection", [str(r) for r in reused.tolist()]), *_parameters(urls)):
        purity = _purity(values, slow)
        if purity is not None and purity >= max(PURE, (best[1] or 0.0) + 0.01):
            best = (label, purity)
    return best


def _parameters(urls: Sequence[str]) -> list[tuple[str, list[str]]]:
    asked = {url: dict(parse_qsl(urlsplit(url).query)) for url in set(urls)}
    parsed = [asked[url] for url in urls]
    names = sorted({name for held in asked.values() for name in held})[:20]
    return [(f"parameter {name}", [held.get(name, "") for held in parsed]) for name in names]


def _purity(values: Sequence[str], slow: Array) -> float | None:
    """The share that is rightly guessed from the value, where two to eight values occur and both speeds are guessed.

    None where that is not at least half as often wrong as always guessing the speed that is more frequent.
    """
    kinds = sorted(set(values))
    if not 2 <= len(kinds) <= 8 or len(values) < FEWEST_EXCHANGES:
        return None
    held = np.array(values, object)
    right, guessed = 0, set()
    for kind in kinds:
        mine = slow[held == kind]
        right += max(int(mine.sum()), len(mine) - int(mine.sum()))
        guessed.add(bool(mine.mean() > 0.5))
    wrong, always = len(values) - right, min(int(slow.sum()), len(slow) - int(slow.sum()))
    return right / len(values) if len(guessed) == 2 and 2 * wrong <= always else None


# --- dearer with more ------------------------------------------------------------------------------------------------


def _scaling(urls: Sequence[str], service: Array) -> Scaling | None:
    """The numeric parameter with which time grows in proportion, the strongest; None where none does."""
    found: Scaling | None = None
    for label, values in _parameters(urls):
        try:
            numbers = np.array([float(value) if value else math.nan for value in values])
        except ValueError:
            continue
        held = np.isfinite(numbers) & (numbers > 0)
        one = _line(numbers[held], service[held], label.removeprefix("parameter "))
        if one is not None and (found is None or one.high_ns - one.low_ns > found.high_ns - found.low_ns):
            found = one
    return found


def _line(x: Array, y: Array, parameter: str) -> Scaling | None:
    levels = [level for level in sorted(set(x.tolist())) if int((x == level).sum()) >= FEWEST_PER_VALUE]
    if not 3 <= len(levels) <= 200 or levels[-1] < 2.0 * levels[0]:
        return None
    medians = np.array([float(np.median(y[x == level])) for level in levels])
    at = np.array(levels)
    if medians[-1] < APART * medians[0] or medians[-1] - medians[0] < APART_NS:
        return None
    slope, base = np.polyfit(at, medians, 1)
    rest = medians - (slope * at + base)
    r2 = 1.0 - float((rest**2).sum()) / float(((medians - medians.mean()) ** 2).sum())
    exponent = float(np.polyfit(np.log(at), np.log(medians), 1)[0])
    if r2 < LINEAR_R2 or not EXPONENT[0] <= exponent <= EXPONENT[1]:
        return None
    if _rank_z(y[x == levels[-1]], y[x == levels[0]]) < APART_Z:
        return None
    # The interval of the slope, from how the single requests scatter around their level's median (clipped: spikes).
    off = [float(np.median(np.abs(y[x == level] - m))) for level, m in zip(levels, medians, strict=True)]
    spread = [1.2533 * 1.4826 * each for each in off]
    errors = np.array([s / math.sqrt(int((x == level).sum())) for s, level in zip(spread, levels, strict=True)])
    centred = at - at.mean()
    se = math.sqrt(float(((centred * errors) ** 2).sum())) / float((centred**2).sum())
    se = max(se, math.sqrt(float((rest**2).sum()) / max(len(levels) - 2, 1) / float((centred**2).sum())))
    if slope - 1.96 * se <= 0:
        return None
    return Scaling(
        parameter, levels[0], levels[-1], float(medians[0]), float(medians[-1]), float(slope),
        float(slope - 1.96 * se), float(slope + 1.96 * se), exponent, r2, len(x),
    )  # fmt: skip


def _rank_z(high: Array, low: Array) -> float:
    """How many standard deviations the ranks of `high` lie above chance (Mann and Whitney); ties count as chance."""
    m, n = len(high), len(low)
    order = np.sort(low)
    below = (np.searchsorted(order, high, side="left") + np.searchsorted(order, high, side="right")) / 2.0
    return float((below.sum() - m * n / 2.0) / math.sqrt(m * n * (m + n + 1) / 12.0))


def _size(size: Array, service: Array) -> SizeCost | None:
    """Time over answer size, by medians of up to ten groups of equal size; None where it does not grow in a line."""
    held = size > 0
    if int(held.sum()) < FEWEST_FOR_MODES:
        return None
    size, service = size[held], service[held]
    edges = np.unique(np.quantile(size, np.linspace(0, 1, 11)))
    group = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, len(edges) - 1)
    kept = [g for g in range(len(edges)) if int((group == g).sum()) >= FEWEST_PER_VALUE]
    if len(kept) < 3:
        return None
    x = np.array([float(np.median(size[group == g])) for g in kept])
    y = np.array([float(np.median(service[group == g])) for g in kept])
    if x[-1] < 2.0 * x[0] or y[-1] < APART * y[0] or y[-1] - y[0] < APART_NS:
        return None
    slope, base = np.polyfit(x, y, 1)
    r2 = 1.0 - float(((y - (slope * x + base)) ** 2).sum()) / float(((y - y.mean()) ** 2).sum())
    if r2 < LINEAR_R2 or slope <= 0:
        return None
    return SizeCost(float(slope), float(x[0]), float(x[-1]), float(y[0]), float(y[-1]), r2, len(size))


# --- exchanges -------------------------------------------------------------------------------------------------------


def _headers(exchange: Mapping[str, Any]) -> list[tuple[str, str]]:
    answer = exchange.get("answer") or {}
    return [(str(name).lower(), str(value)[:80]) for name, value in answer.get("headers") or ()]


def _header(headers: Sequence[Sequence[str]], wanted: str) -> str:
    return next((str(value)[:40] for name, value in headers if str(name).lower() == wanted), "")


def _standing(exchanges: Sequence[Mapping[str, Any]]) -> tuple[int, int, bool, bool]:
    """Pairs of equal and of other answers to one address; whether any had a validator, or was private.

    Private ones make no pairs.
    """
    bodies: dict[str, list[str]] = defaultdict(list)
    validators = private = False
    for exchange in exchanges:
        request, answer = exchange.get("request") or {}, exchange.get("answer") or {}
        if request.get("method") != "GET" or answer.get("status") != 200:
            continue
        names = {name for name, _ in _headers(exchange)}
        validators = validators or bool(names.intersection(VALIDATORS))
        asked = {str(name).lower() for name, _ in request.get("headers") or ()}
        if "authorization" in asked or "cookie" in asked or "set-cookie" in names:
            private = True
            continue
        bodies[str(request.get("url"))].append(str(answer.get("body_sha256")))
    same = sum(hashes.count(hashes[0]) - 1 for hashes in bodies.values())
    return same, sum(len(hashes) for hashes in bodies.values()) - len(bodies) - same, validators, private


def _gaps(rows: _Rows) -> list[Gap]:
    """Where nothing was answered for 200 ms or more although at least five requests were in flight.

    What is never answered in time waits at any moment, and is no sign that everything else does.
    """
    end, start = rows.numbers["end_ns"], rows.numbers["start_ns"]
    held = (end >= 0) & (start >= 0)
    ends = np.sort(end[held])
    kept = held & (rows.numbers["outcome"] != int(Outcome.TIMEOUT))
    starts, ended = np.sort(start[kept]), np.sort(end[kept])
    wide = np.flatnonzero(np.diff(ends) >= GAP_NS)
    found = []
    for place in wide[:1000]:
        begin, stop = int(ends[place]), int(ends[place + 1])
        waiting = int(np.searchsorted(starts, (begin + stop) // 2, side="right"))
        waiting -= int(np.searchsorted(ended, begin, side="right"))
        if waiting >= GAP_IN_FLIGHT:
            found.append(Gap(begin, stop, waiting))
    return found
