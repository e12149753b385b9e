"""The planted faults: every one of them, in one place.

Nothing else in the shop decides whether a fault is on; a handler asks `"stall" in faults`. `seen_by` names the kind of
finding that measurements of the faulty shop support; the shop tells nobody, the findings have only the measurements.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    `id` is what `--faults` takes. `sentence` says what the shop does wrong, `where` on which endpoints, `seen_by` which
    finding should see it. `default` says whether it is on when nobody chose.
    """

    id: str
    sentence: str
    where: str
    seen_by: str
    default: bool = True


FAULTS = (
    Fault(
        "n_plus_one",
        "The list of orders asks the database once more for each order in it.",
        "GET /orders",
        "an endpoint slower than its kind, and slower with every item it returns",
    ),
    Fault(
        "small_pool",
        "Checkout and report share four database connections, and keep one while they wait for somebody else.",
        "POST /checkout, GET /report",
        "throughput that stops growing while the CPU has room; response times that rise with load",
    ),
    Fault(
        "stall",
        "Every 4 s the whole process stops for 250 ms.",
        "all endpoints",
        "periodic stalls",
    ),
    Fault(
        "missing_cache",
        "The bestsellers are counted again for every request.",
        "GET /bestsellers",
        "an endpoint slower than its kind",
    ),
    Fault(
        "full_scan",
        "The report reads all orders ever made to find the days it is asked for.",
        "GET /report",
        "an endpoint slower than its kind",
    ),
    Fault(
        "contention_500",
        "A checkout answers 500 when more than three others were buying the same book when it came.",
        "POST /checkout",
        "errors that begin with load: none with a few users, more with many",
    ),
    Fault(
        "bimodal_search",
        "The cache of searches throws each answer away after it was used twice; the next search starts from nothing.",
        "GET /search",
        "response times with two modes, told apart by the header x-cache",
    ),
    Fault(
        "no_compression",
        "Answers are sent as they are to clients that accept gzip.",
        "all endpoints with JSON of 1.4 kB or more",
        "large text answers without compression",
    ),
    Fault(
        "no_validators",
        "Answers that rarely change carry neither ETag nor Cache-Control.",
        "every GET without login",
        "identical bodies sent again and again without validators",
    ),
    Fault(
        "slow_upstream",
        "The rating service does not answer every 25th time; the shop waits 1 s for it and answers 504.",
        "GET /books/{id}/reviews",
        "errors of one kind that all take the same time",
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
