"""Locust's own statistics, told of what the native engine did: whole windows at once instead of single requests.

What comes in are the windows and failures of one process; what leaves are the additions that Locust's web page, CSV
files, exit code and reports to a master are made from. Counts, failures, sums, least and greatest are exact; response
times are the service times, put into Locust's buckets from ours of three digits. Requests that were not sent or were
aborted are none to Locust, as they are none in a locustfile.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import locust.stats
from locust.exception import CatchResponseError
from locust.stats import RequestStats, StatsEntry, StatsError

from surgeline.samples import Outcome, decode_table, histogram_high, histogram_low

_UNTOLD = (Outcome.NOT_SENT, Outcome.ABORTED)


class LaneStatistics:
    """The additions to one process's statistics."""

    def __init__(self, stats: Callable[[], RequestStats], methods: Mapping[str, str], began_s: float) -> None:
        """`methods` has the method of each endpoint; `began_s` is the run's time zero as `time.time()` shows it."""
        self._stats = stats
        self._names = {endpoint: (endpoint.removeprefix(f"{method} "), method) for endpoint, method in methods.items()}
        self._began_s = began_s
        self._unexplained: dict[str, int] = {}
        self._buckets: dict[int, int] = {}
        self._bucket: Callable[[float], int] | None = None

    def add(self, windows: bytes) -> None:
        """Adds an encoded table of windows."""
        table = decode_table(windows)
        stats = self._stats()
        for row in range(table.rows):
            outcome = Outcome(int(table["outcome"][row]))
            if outcome in _UNTOLD:
                continue
            endpoint, count = table["endpoint"][row], int(table["count"][row])
            name, method = self._names.get(endpoint, (endpoint, ""))
            part = self._part(stats, name, method, table, row, count)
            if outcome is not Outcome.OK:
                part.num_failures = count
                part.num_fail_per_sec = dict(part.num_reqs_per_sec)
                self._unexplained[endpoint] = self._unexplained.get(endpoint, 0) + count
            stats.entries[(name, method)].extend(part)
            stats.total.extend(part)

    def explain(self, failures: Iterable[tuple[str, str, int]]) -> None:
        """Says what was wrong with requests that `add` counts as failures: endpoint, error, how many."""
        stats, now = self._stats(), time.time()
        for endpoint, error, count in failures:
            self._unexplained[endpoint] = self._unexplained.get(endpoint, 0) - count
            name, method = self._names.get(endpoint, (endpoint, ""))
            raised = CatchResponseError(error)
            key = StatsError.create_key(method, name, raised)
            known = stats.errors.get(key)
            if known is None:
                known = stats.errors[key] = StatsError(method, name, raised, first_seen=now)
            known.occurrences += count
            known.last_seen = now

    def close(self) -> None:
        """No more comes: failures whose rows were dropped are listed without their reason."""
        rest = [(endpoint, "its row was dropped", count) for endpoint, count in self._unexplained.items() if count > 0]
        self.explain(rest)

    def _part(self, stats: RequestStats, name: str, method: str, table: Any, row: int, count: int) -> StatsEntry:
        part = StatsEntry(stats, name, method)
        part.num_requests = count
        part.last_request_timestamp = time.time()
        # Seconds of the run do not begin with seconds of the clock; each is put into the one that holds its middle.
        part.num_reqs_per_sec = {int(self._began_s + int(table["second"][row]) + 0.5): count}
        part.total_content_length = int(table["bytes_in"][row])
        least, greatest = int(table["service_min_ns"][row]), int(table["service_max_ns"][row])
        if least < 0:
            part.num_none_requests = count
            return part
        part.total_response_time = int(table["service_sum_ns"][row]) / 1e6  # type: ignore[assignment]  # as Locust does
        part.min_response_time = least / 1e6  # type: ignore[assignment]  # as above
        part.max_response_time = greatest / 1e6  # type: ignore[assignment]  # as above
        times: dict[int, int] = {}
        for index, seen in zip(table["service_index"][row].tolist(), table["service_count"][row].tolist(), strict=True):
            bucket = self._locust_bucket(index)
            times[bucket] = times.get(bucket, 0) + seen
        part.response_times = times
        return part

    def _locust_bucket(self, index: int) -> int:
        """Locust's bucket of the middle of one of ours; a locustfile may have put a function of its own there."""
        bucket = locust.stats.bucket_response_time
        if bucket is not self._bucket:
            self._bucket, self._buckets = bucket, {}
        found = self._buckets.get(index)
        if found is None:
            found = self._buckets[index] = bucket((histogram_low(index) + histogram_high(index)) / 2e6)
        return found
