"""The planted faults: every one of them, in one place.

Nothing else in the shop decides whether a fault is on; a handler asks `"stall" in faults`. `seen_by` names the kind of
finding that measurements of the faulty shop support, `rules` the ids of the rules that make it; the shop tells nobody,
the findings have only the measurements.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    `id` is what `--faults` takes. `sentence` says what the shop does wrong, `where` on which endpoints, `seen_by` which
    finding should see it, `rules` which rules do: one of them suffices. `default` says whether it is on when nobody
    chose.
    """

    id: str
    sentence: str
    where: str
    seen_by: str
    rules: tuple[str, ...]
    default: bool = True


FAULTS = (
    Fault(
        "n_plus_one",
        "The list of orders asks the database once more for each order in it.",
        "GET /orders",
        "an endpoint slower than its kind, and slower with every item it returns",
        ("scaling.linear_param", "endpoint.outlier"),
    ),
    Fault(
        "small_pool",
        "Checkout and report share four database connections, and keep one while they wait for somebody else.",
        "POST /checkout, GET /report",
        "throughput that stops growing while the CPU has room; response times that rise with load",
        ("saturation.plateau", "latency.rising"),
    ),
    Fault(
        "stall",
        "Every 4 s the whole process stops for 250 ms.",
        "all endpoints",
        "periodic stalls",
        ("stall.periodic",),
    ),
    Fault(
        "missing_cache",
        "The bestsellers are counted again for every request.",
        "GET /bestsellers",
        "an endpoint slower than its kind",
        ("endpoint.outlier",),
    ),
    Fault(
        "full_scan",
        "The report reads all orders ever made to find the days it is asked for.",
        "GET /report",
        "an endpoint slower than its kind",
        ("endpoint.outlier",),
    ),
    Fault(
        "contention_500",
        "A checkout answers 500 when more than three others were buying the same book when it came.",
        "POST /checkout",
        "errors that begin with load: none with a few users, more with many",
        ("errors.onset",),
    ),
    Fault(
        "bimodal_search",
        "The cache of searches throws each answer away after it was used twice; the next search starts from nothing.",
        "GET /search",
        "response times with two modes, told apart by the header x-cache",
        ("latency.bimodal",),
    ),
    Fault(
        "no_compression",
        "Answers are sent as they are to clients that accept gzip.",
        "all endpoints with JSON of 1.4 kB or more",
        "large text answers without compression",
        ("http.no_compression",),
    ),
    Fault(
        "no_validators",
        "Answers that rarely change carry neither ETag nor Cache-Control.",
        "every GET without login",
        "identical bodies sent again and again without validators",
        ("cache.missing_validators",),
    ),
    Fault(
        "slow_upstream",
        "The rating service does not answer every 12th time; the shop waits 1 s for it and answers 504.",
        "GET /books/{id}/reviews",
        "errors of one kind that all take the same time",
        ("timeouts.cluster",),
        default=False,
    ),
    Fault(
        "flaky_covers",
        "Every 15th cover is answered with 500.",
        "GET /covers/{id}",
        "errors in the same share at any load",
        ("errors.constant",),
        default=False,
    ),
    Fault(
        "rate_limit",
        "After 4 searches in one second the others are turned away with 429 and Retry-After.",
        "GET /search",
        "answers with 429: a limit somebody set",
        ("errors.rate_limited",),
        default=False,
    ),
    Fault(
        "shedding",
        "A report is refused with 503 at once while two others are being made.",
        "GET /report",
        "failures that come faster than answers",
        ("errors.fast_fail",),
        default=False,
    ),
    Fault(
        "dropped_answers",
        "Every 15th page of books breaks off in the middle, and its connection with it.",
        "GET /books",
        "connections that break",
        ("conn.dropped",),
        default=False,
    ),
    Fault(
        "rare_slow",
        "Every 25th book takes 400 ms longer.",
        "GET /books/{id}",
        "a tail far from the middle",
        ("latency.heavy_tail",),
        default=False,
    ),
    Fault(
        "slow_serializer",
        "The list of reviews waits 6 ms for each review in it.",
        "GET /books/{id}/reviews",
        "times that grow with the size of the answer",
        ("payload.size_latency",),
        default=False,
    ),
    Fault(
        "no_keep_alive",
        "Every answer closes its connection.",
        "all endpoints",
        "a new connection for each request",
        ("conn.keepalive_off",),
        default=False,
    ),
    Fault(
        "large_covers",
        "Covers are pictures of 540 kB.",
        "GET /covers/{id}",
        "large answers",
        ("http.large_payload",),
        default=False,
    ),
    Fault(
        "redirects",
        "The bestsellers have moved: each request is sent to another address first.",
        "GET /bestsellers",
        "a redirect for each request",
        ("http.redirects",),
        default=False,
    ),
    Fault(
        "large_cookies",
        "A login sets a cookie of 4 kB, which comes back with every request after it.",
        "GET /orders, POST /checkout",
        "cookies that are larger than the requests that carry them",
        ("http.cookies_large",),
        default=False,
    ),
    Fault(
        "slow_statement",
        "A page of books counts all of them in a statement of 60 ms.",
        "GET /books",
        "a time that the server itself names in Server-Timing",
        ("http.server_timing",),
        default=False,
    ),
    Fault(
        "slow_instance",
        "Of the three instances that serve the front page and the covers, one needs 40 ms more.",
        "GET /, GET /covers/{id}",
        "one instance slower than the others, told apart by Server-Timing",
        ("fairness.instances",),
        default=False,
    ),
    Fault(
        "cold_start",
        "After a second without requests the shop sleeps: for 2 s after it is woken, each request takes 300 ms more.",
        "all endpoints",
        "first seconds much slower than what follows",
        ("warmup.cold_start",),
        default=False,
    ),
    Fault(
        "thrashing",
        "From the 13th request at once on, each further one makes all of them take 18 ms longer.",
        "all endpoints",
        "throughput that falls while the load rises",
        ("saturation.retrograde",),
        default=False,
    ),
    Fault(
        "slow_recovery",
        "Once more than 12 requests were there at once, every request takes 40 ms more for the next 30 s.",
        "all endpoints",
        "no recovery after the load has fallen",
        ("recovery.time",),
        default=False,
    ),
    Fault(
        "freeze_once",
        "With its 1,200th request the whole process stops once, for 700 ms.",
        "all endpoints",
        "one moment in which nothing is answered",
        ("stall.global",),
        default=False,
    ),
    Fault(
        "leak",
        "The shop keeps 20 kB of every request, and looks through all of it with the next one.",
        "all endpoints",
        "times and memory that grow for minutes under one load",
        ("latency.drift", "memory.leak"),
        default=False,
    ),
)


def choose(text: str) -> frozenset[str]:
    """The ids named by `all`, `none`, `default`, or a list such as `stall,n_plus_one`.

    `all` is really all of them, also those that are off by default. Raises ValueError with one sentence that lists the
    ids for a name that is none of them, and for an empty text.
    """
    if text == "all":
        return frozenset(fault.id for fault in FAULTS)
    if text == "default":
        return frozenset(fault.id for fault in FAULTS if fault.default)
    if text == "none":
        return frozenset()
    known = [fault.id for fault in FAULTS]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not a planted fault; take all, none, default or some of {', '.join(known)}")
    return frozenset(names)
