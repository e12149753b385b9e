"""What single requests carry with them: the server's own times, the instance that answered, handshakes, cookies, tails.

In: columns of single requests, the exchanges that were kept, and the moments in which everything stood still. Out: one
`Marks`, plain values. It looks for what is there and how sure that is; whether it matters is the findings' business.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from surgeline import units
from surgeline.analysis.distributions import wilson
from surgeline.samples import Outcome

Array = np.ndarray[Any, np.dtype[Any]]

FEWEST_TIMED, MOST_TIMED = 30, 2_000
WHOLE_TIMES = frozenset({"total", "app", "server", "request", "handler", "origin", "response"})
"""Names in Server-Timing that mean all of the work: they attribute nothing."""
LONGEST_TIMING = 1_000
MOST_METRICS = 16

WARM_UP_NS, STILL_LEFT = 3 * units.NS_PER_S, 0.75
"""The first moments of a run are left out where most is left: caches and connections are not there yet."""
LOUD, LOUD_NS = 1.5, 5 * units.NS_PER_MS
TAIL_RATIO, TAIL_APART_NS = 10.0, 50 * units.NS_PER_MS
TAIL_FEWEST, TAIL_SLOW = 60, 4
TAIL_ENOUGH = 2_000
TAIL_OTHER = 30
MOST_TAIL_SHARE = 0.10
"""More than this is a second speed, not a tail."""
TAIL_PARTS, TAIL_IN = 4, 3
"""The slow ones must lie in three of four equal parts of the time: what happened once is no habit."""

INSTANCE_NAMES = frozenset(
    {
        *("instance", "instance-id", "host", "hostname", "pod", "pod-name", "node", "server", "server-id", "backend"),
        *("backend-server", "served-by", "upstream", "replica", "machine", "worker", "cdn-pop", "region"),
    }
)
"""Entries of Server-Timing, and headers of these names with `x-` before them, that say who answered."""
MOST_INSTANCES = 20
FEWEST_OF_INSTANCE = 20
FEWEST_EXCHANGES_OF_INSTANCE = 8
SHARED_LUCK = 2.0
"""Requests of an instance share its luck: z is divided by this."""

SYN_COMB_NS = ((950, 1_300), (2_900, 3_500), (6_800, 7_800))
"""Milliseconds within which a connection comes about whose first, second or third SYN was lost (Linux, RFC 6298)."""
MASKED = "***"
LARGE_COOKIES = 2_048


@dataclass(frozen=True, slots=True)
class OwnTime:
    """The longest of the times that the server names for an endpoint, medians of `n` answers, and its share."""

    endpoint: str
    metric: str
    own_ns: float
    service_ns: float
    share: float
    n: int


@dataclass(frozen=True, slots=True)
class Tail:
    """`slow` of `n` requests took ten times the median or longer; `low` is the lower 95 % bound of their share.

    `others` is the share of requests of the other endpoints that lost half as much against their own median, or more:
    of the middle one.
    """

    endpoint: str
    n: int
    slow: int
    low: float
    median_ns: float
    slow_ns: float
    others: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance beside the others: medians over the requests of `endpoints`, and what went wrong.

    `by` says where its name stands. `chance` is how likely chance alone makes it so much slower, over all instances
    that were compared; 1 where it is not slower.
    """

    by: str
    name: str
    instances: int
    n: int
    others: int
    median_ns: float
    others_ns: float
    chance: float
    bad: int
    others_bad: int
    errors_apart: bool
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handshakes:
    """Looking up names or agreeing on keys: medians of the `n` requests that did, and the share of their time."""

    n: int
    median_ns: float
    connect_ns: float
    share: float


@dataclass(frozen=True, slots=True)
class Retries:
    """Of `connections`, `late` came about after about 1, 3 or 7 s: their first packets were lost."""

    connections: int
    late: int
    median_ns: float


@dataclass(frozen=True, slots=True)
class SameData:
    """An endpoint that was asked `requests` times for no more than `distinct` things."""

    endpoint: str
    requests: int
    distinct: int
    what: str


@dataclass(frozen=True, slots=True)
class Cookies:
    """`n` requests of an endpoint, `share` of them, carry about `size` bytes of cookies (and other credentials)."""

    endpoint: str
    n: int
    share: float
    size: float


@dataclass(frozen=True, slots=True)
class LoginPage:
    """All `seen` kept answers of an endpoint with status 200 are a page that asks for a password."""

    endpoint: str
    seen: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What was seen; empty or None where it was not."""

    own_times: tuple[OwnTime, ...] = ()
    timed: int = 0
    """Endpoints whose answers name times of the server's own."""
    tails: tuple[Tail, ...] = ()
    tails_looked: int = 0
    """Endpoints with requests enough to show a tail."""
    instances: tuple[Instance, ...] = ()
    """The slowest and the worst instance, where several were told apart; first the one that differs most."""
    tls: Handshakes | None = None
    dns: Handshakes | None = None
    retries: Retries | None = None
    same_data: tuple[SameData, ...] = ()
    cookies: tuple[Cookies, ...] = ()
    hosts: tuple[tuple[str, int], ...] = ()
    """Requests by host, the most first."""
    login_pages: tuple[LoginPage, ...] = ()


@dataclass(frozen=True, slots=True)
class Requests:
    """The columns that `look` needs, all of one length; `timing` is the text of Server-Timing.

    `endpoint` is the number of the name in `names`, `places` the rows of each name.
    """

    endpoint: Array
    names: Sequence[str]
    places: Sequence[Array]
    url: Sequence[str]
    stage: Array
    start_ns: Array
    end_ns: Array
    dns_ns: Array
    connect_ns: Array
    tls_ns: Array
    reused: Array
    outcome: Array
    bytes_out: Array | None
    timing: Sequence[str] | None


def look(
    requests: Requests,
    exchanges: Sequence[Mapping[str, Any]],
    calm: frozenset[int],
    still: Sequence[tuple[int, int]] = (),
) -> Marks:
    """The marks of a run; `calm` are its quiet stages, `still` the moments without any answer (begin and end, ns)."""
    service = (requests.end_ns - requests.start_ns).astype(float)
    done = (requests.end_ns >= 0) & (requests.start_ns >= 0)
    ok = done & (requests.outcome == Outcome.OK)
    light = np.isin(requests.stage, sorted(calm))
    parsed = _parsed(requests.timing)
    medians = _medians(requests, ok, service)
    own = _own_times(requests, ok & light, service, parsed)
    tails = _tails(requests, ok & light, service, still)
    known = [tail for tail in tails if tail is not None]
    return Marks(
        own_times=tuple(sorted((time for time in own if time is not None), key=lambda time: -time.own_ns)),
        timed=len(own),
        tails=tuple(tail for tail in known if tail.slow),
        tails_looked=len(known),
        instances=_instances(requests, done, service, parsed, medians) or _instances_kept(exchanges, requests, medians),
        tls=_handshakes(requests.tls_ns, requests.connect_ns, service, ok),
        dns=_handshakes(requests.dns_ns, requests.connect_ns, service, ok),
        retries=_retries(requests.connect_ns, requests.reused),
        same_data=tuple(_same_data(requests, exchanges)),
        cookies=tuple(_cookies(requests, exchanges)),
        hosts=_hosts(requests.url),
        login_pages=tuple(_login_pages(exchanges)),
    )


def quiet(requests: Requests, load_of: Mapping[int, float]) -> frozenset[int]:
    """The stages up to half of the highest load in which requests are not clearly slower than in the first of them.

    Slower by half and 5 ms in the middle request, each held against its endpoint's median there. All stages where none
    has half of the load.
    """
    stages = sorted(set(requests.stage.tolist()), key=lambda index: (load_of.get(index, math.inf), index))
    most = max((load_of.get(index, 0.0) for index in stages), default=0.0)
    light = [index for index in stages if 2 * load_of.get(index, 0.0) <= most]
    if len(light) < 2:
        return frozenset(light or stages)
    ok = (requests.outcome == Outcome.OK) & (requests.end_ns >= 0) & (requests.start_ns >= 0)
    service = (requests.end_ns - requests.start_ns).astype(float)
    usual = np.full(len(requests.names), np.nan)
    first = ok & (requests.stage == light[0])
    for endpoint, mine in enumerate(requests.places):
        held = service[mine[first[mine]]]
        if len(held) >= 6:
            usual[endpoint] = np.median(held)
    beside = usual[requests.endpoint]
    found = {light[0]}
    for index in light[1:]:
        mine = ok & (requests.stage == index) & np.isfinite(beside)
        if not mine.any():
            continue
        slower = float(np.median(service[mine] / np.maximum(beside[mine], 1.0)))
        if slower <= LOUD or float(np.median(service[mine] - beside[mine])) <= LOUD_NS:
            found.add(index)
    return frozenset(found)


def _medians(requests: Requests, ok: Array, service: Array) -> dict[tuple[int, int], float]:
    """The median service time of each endpoint in each stage; none where there are too few for one."""
    found = {}
    for endpoint, places in enumerate(requests.places):
        mine = places[ok[places]]
        for stage in set(requests.stage[mine].tolist()):
            held = service[mine[requests.stage[mine] == stage]]
            if len(held) >= 6:
                found[endpoint, stage] = max(float(np.median(held)), 1.0)
    return found


# --- Server-Timing ---------------------------------------------------------------------------------------------------


def _parsed(timing: Sequence[str] | None) -> list[dict[str, tuple[float | None, str]]] | None:
    """For each request what Server-Timing says: name → duration in ms (None without one) and description."""
    if timing is None or not any(timing):
        return None
    known: dict[str, dict[str, tuple[float | None, str]]] = {"": {}}
    found = []
    for text in timing:
        held = known.get(text)
        if held is None:
            held = entries(text)
            if len(known) < 100_000:
                known[text] = held
        found.append(held)
    return found


def entries(text: str) -> dict[str, tuple[float | None, str]]:
    """The entries of a Server-Timing header (W3C): `db;dur=53.2;desc="12 statements", cache;desc="hit"`.

    Commas and semicolons within quotes belong to the description. What cannot be read is left out.
    """
    found: dict[str, tuple[float | None, str]] = {}
    for part in _split(text[:LONGEST_TIMING], ","):
        name, *parameters = (piece.strip() for piece in _split(part, ";"))
        if not name or len(found) >= MOST_METRICS:
            continue
        duration, description = None, ""
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            value = value.strip().strip('"')
            if key.strip().lower() == "dur":
                duration = _number(value)
            elif key.strip().lower() == "desc":
                description = value[:60]
        found[name.lower()[:40]] = (duration, description)
    return found


def _split(text: str, at: str) -> list[str]:
    parts, quoted, last = [], False, 0
    for place, sign in enumerate(text):
        if sign == '"':
            quoted = not quoted
        elif sign == at and not quoted:
            parts.append(text[last:place])
            last = place + 1
    return [*parts, text[last:]]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0.0 else None


def _own_times(
    requests: Requests, chosen: Array, service: Array, parsed: list[dict[str, tuple[float | None, str]]] | None
) -> list[OwnTime | None]:
    """For each endpoint that names times: the longest of them, None where it has too few answers."""
    if parsed is None:
        return []
    found: list[OwnTime | None] = []
    for name, whole in zip(requests.names, requests.places, strict=True):
        places = whole[chosen[whole]][:MOST_TIMED]
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for place in places.tolist():
            for metric, (duration, _) in parsed[place].items():
                if duration is not None and metric not in WHOLE_TIMES:
                    times[metric].append((duration * units.NS_PER_MS, service[place]))
        if not times:
            continue
        metric = max(times, key=lambda metric: (float(np.median([own for own, _ in times[metric]])), metric))
        held = np.array(times[metric])
        if len(held) < FEWEST_TIMED:
            found.append(None)
            continue
        share = float(np.median(held[:, 0] / np.maximum(held[:, 1], 1.0)))
        own, service_ns = (float(np.median(held[:, column])) for column in (0, 1))
        found.append(OwnTime(name, metric, own, service_ns, share, len(held)))
    return found


# --- tails -----------------------------------------------------------------------------------------------------------


def _tails(requests: Requests, chosen: Array, service: Array, still: Sequence[tuple[int, int]]) -> list[Tail | None]:
    """For each endpoint its tail, with `slow` 0 where it has none; None where there are too few requests."""
    begin = int(requests.start_ns[chosen].min()) if chosen.any() else 0
    warm = chosen & (requests.start_ns >= begin + WARM_UP_NS)
    calm = warm if warm.sum() >= STILL_LEFT * chosen.sum() else chosen
    calm = calm & ~_within(requests.start_ns, requests.end_ns, still)
    seen: list[tuple[Array, Array, float]] = []
    for places in requests.places:
        mine = places[calm[places]][:TAIL_ENOUGH]
        median = float(np.median(service[mine])) if len(mine) else 0.0
        seen.append((mine, service[mine] > max(TAIL_RATIO * median, median + TAIL_APART_NS), median))
    found: list[Tail | None] = []
    for number, (mine, slow, median) in enumerate(seen):
        name = requests.names[number]
        if len(mine) < TAIL_FEWEST:
            found.append(None)
            continue
        count, start = int(slow.sum()), requests.start_ns[mine]
        part = (start[slow] - start.min()) * TAIL_PARTS // max(int(start.max() - start.min()) + 1, 1)
        habit = TAIL_SLOW <= count <= MOST_TAIL_SHARE * len(mine) and len(set(part.tolist())) >= TAIL_IN
        low = wilson(count / len(mine), float(len(mine)))[0] if habit else 0.0
        slow_ns = float(np.median(service[mine][slow])) if habit else 0.0
        lost = (slow_ns - median) / 2.0
        beside = [
            float((service[other] - usual > lost).mean())
            for place, (other, _, usual) in enumerate(seen)
            if habit and place != number and len(other) >= TAIL_OTHER
        ]
        others = float(np.median(beside)) if beside else 0.0
        found.append(Tail(name, len(mine), count if habit else 0, low, median, slow_ns, others))
    return found


def _within(start: Array, end: Array, still: Sequence[tuple[int, int]]) -> Array:
    """Which requests were under way while everything stood still."""
    found = np.zeros(len(start), bool)
    for begin, stop in still[:10_000]:
        found |= (start < stop) & (end > begin)
    return found


# --- instances -------------------------------------------------------------------------------------------------------


def _instances(
    requests: Requests,
    done: Array,
    service: Array,
    parsed: list[dict[str, tuple[float | None, str]]] | None,
    medians: Mapping[tuple[int, int], float],
) -> tuple[Instance, ...]:
    """Instances that Server-Timing names in each answer."""
    if parsed is None:
        return ()
    held: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for place in np.flatnonzero(done).tolist():
        for metric, (duration, description) in parsed[place].items():
            if duration is None and description and metric in INSTANCE_NAMES:
                held[metric].append((place, description))
    found: list[Instance] = []
    for metric, seen in sorted(held.items()):
        rows = [
            (
                name,
                math.log(max(service[place], 1.0) / usual) if requests.outcome[place] == Outcome.OK else math.nan,
                requests.outcome[place] != Outcome.OK,
                int(requests.endpoint[place]),
                service[place],
            )
            for place, name in seen
            if (usual := medians.get((int(requests.endpoint[place]), int(requests.stage[place])))) is not None
        ]
        found += _compared(f"Server-Timing {metric}", rows, requests.names, FEWEST_OF_INSTANCE)
    return tuple(sorted(found, key=lambda one: one.chance)[:2])


def _instances_kept(
    exchanges: Sequence[Mapping[str, Any]], requests: Requests, medians: Mapping[tuple[int, int], float]
) -> tuple[Instance, ...]:
    """The same from the headers of the exchanges that were kept: few, but of all endpoints."""
    numbers = {name: number for number, name in enumerate(requests.names)}
    usual: dict[int, list[float]] = defaultdict(list)
    for (endpoint, _), median in medians.items():
        usual[endpoint].append(median)
    held: dict[str, list[tuple[str, float, bool, int, float]]] = defaultdict(list)
    for exchange in exchanges:
        endpoint = numbers.get(str(exchange.get("endpoint")), -1)
        answer = exchange.get("answer") or {}
        took = float(exchange.get("response_ns") or 0)
        if endpoint not in usual or took <= 0:
            continue
        bad = int(answer.get("status") or 0) >= 500
        ratio = math.nan if bad else math.log(took / min(usual[endpoint]))
        for name, value in answer.get("headers") or ():
            header = str(name).lower()
            if header.removeprefix("x-") in INSTANCE_NAMES and header not in ("server", "host"):
                held[header].append((str(value)[:60], ratio, bad, endpoint, took))
    found: list[Instance] = []
    for header, rows in sorted(held.items()):
        found += _compared(f"header {header}", rows, requests.names, FEWEST_EXCHANGES_OF_INSTANCE)
    return tuple(sorted(found, key=lambda one: one.chance)[:2])


def _compared(
    by: str, rows: Sequence[tuple[str, float, bool, int, float]], names: Sequence[str], fewest: int
) -> list[Instance]:
    """Each instance against all others: ranks of the times over the usual ones, and the shares that went wrong."""
    counts = Counter(name for name, *_ in rows)
    if not 2 <= len(counts) <= MOST_INSTANCES or sum(count >= fewest for count in counts.values()) < 2:
        return []
    who = np.array([row[0] for row in rows], object)
    ratio = np.array([row[1] for row in rows])
    bad = np.array([row[2] for row in rows])
    took = np.array([row[4] for row in rows])
    endpoints = tuple(names[number] for number in sorted({row[3] for row in rows}))
    good = np.isfinite(ratio)
    rank = np.zeros(len(rows))
    rank[good] = _ranks(ratio[good])
    found = []
    for name in sorted(counts):
        mine = who == name
        m, n = int((mine & good).sum()), int((~mine & good).sum())
        if counts[name] < fewest or m < fewest // 2 or n < fewest // 2:
            continue
        u = float(rank[mine & good].sum()) - m * (m + 1) / 2.0
        z = (u - m * n / 2.0) / math.sqrt(m * n * (m + n + 1) / 12.0) / SHARED_LUCK
        chance = min(1.0, len(counts) * (1.0 - NormalDist().cdf(z)))
        mine_bad, others_bad = int(bad[mine].sum()), int(bad[~mine].sum())
        low = wilson(mine_bad / counts[name], counts[name] / SHARED_LUCK, 0.99)[0]
        high = wilson(others_bad / max(int((~mine).sum()), 1), (~mine).sum() / SHARED_LUCK, 0.99)[1]
        found.append(
            Instance(
                by, name, len(counts), m, n, float(np.median(took[mine & good])), float(np.median(took[~mine & good])),
                chance, mine_bad, others_bad, low > high, endpoints,
            )
        )  # fmt: skip
    return found


def _ranks(values: Array) -> Array:
    """Ranks from 1 on, ties sharing their mean."""
    kinds, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    del kinds
    ends = np.cumsum(counts)
    return np.asarray(((ends - counts + 1 + ends) / 2.0)[place])


# --- connections -----------------------------------------------------------------------------------------------------


def _handshakes(part: Array, connect: Array, service: Array, ok: Array) -> Handshakes | None:
    held = ok & (part > 0)
    if not held.any():
        return None
    plain = np.maximum(connect[held], 0).astype(float)
    times = part[held].astype(float)
    return Handshakes(
        int(held.sum()), float(np.median(times)), float(np.median(plain)),
        float(times.sum() / max(service[held].sum(), 1.0)),
    )  # fmt: skip


def _retries(connect: Array, reused: Array) -> Retries | None:
    opened = connect[(reused == 0) & (connect >= 0)].astype(float)
    if not len(opened):
        return None
    ms = opened / units.NS_PER_MS
    late = sum(int(((ms >= low) & (ms <= high)).sum()) for low, high in SYN_COMB_NS)
    return Retries(len(opened), late, float(np.median(opened)))


# --- what is asked for -----------------------------------------------------------------------------------------------


def _same_data(requests: Requests, exchanges: Sequence[Mapping[str, Any]]) -> list[SameData]:
    """Templates that were filled with few values, and bodies that were always the same."""
    bodies: dict[str, list[str]] = defaultdict(list)
    for exchange in exchanges:
        request = exchange.get("request") or {}
        head = str(request.get("body_head") or "")
        if int(request.get("body_bytes") or 0) and MASKED not in head:
            bodies[str(exchange.get("endpoint"))].append(head)
    found = []
    for endpoint, name in enumerate(requests.names):
        mine = requests.places[endpoint]
        sent = bodies.get(name, [])
        if "{" in name:
            distinct = len({requests.url[place] for place in mine.tolist()})
            found.append(SameData(name, len(mine), distinct, "address"))
        elif len(sent) >= 6:
            found.append(SameData(name, len(mine), len(set(sent)), f"body ({len(sent)} seen)"))
    return found


def _cookies(requests: Requests, exchanges: Sequence[Mapping[str, Any]]) -> list[Cookies]:
    """How much of the requests is cookies: their bytes less the headers whose values are known, and the body."""
    if requests.bytes_out is None:
        return []
    visible: dict[str, list[int]] = defaultdict(list)
    for exchange in exchanges:
        request = exchange.get("request") or {}
        headers = [(str(name), str(value)) for name, value in request.get("headers") or ()]
        if any(name.lower() == "cookie" for name, _ in headers):
            line = len(str(request.get("url"))) + 16
            known = sum(len(name) + 4 + (0 if value == MASKED else len(value)) for name, value in headers)
            visible[str(exchange.get("endpoint"))].append(line + known + int(request.get("body_bytes") or 0))
    found = []
    for endpoint, name in enumerate(requests.names):
        if name not in visible:
            continue
        mine = requests.places[endpoint]
        rest = requests.bytes_out[mine] - float(np.median(visible[name]))
        large = rest >= LARGE_COOKIES
        if large.any():
            found.append(Cookies(name, int(large.sum()), float(large.mean()), float(np.median(rest[large]))))
    return found


def _hosts(urls: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Hosts by how often they were asked; of very many requests every so manieth is looked at."""
    step = max(len(urls) // 20_000, 1)
    counts: Counter[str] = Counter()
    for url in urls[::step]:
        try:
            counts[urlsplit(url).netloc.lower()[:200]] += step
        except ValueError:
            continue
    counts.pop("", None)
    return tuple(counts.most_common(20))


def _login_pages(exchanges: Sequence[Mapping[str, Any]]) -> list[LoginPage]:
    pages: dict[str, list[bool]] = defaultdict(list)
    for exchange in exchanges:
        answer = exchange.get("answer") or {}
        if answer.get("status") == 200 and (exchange.get("request") or {}).get("method") == "GET":
            body = str(answer.get("body_head") or "").lower()
            pages[str(exchange.get("endpoint"))].append('type="password"' in body or "type=password" in body)
    return [LoginPage(name, len(seen)) for name, seen in sorted(pages.items()) if all(seen)]
