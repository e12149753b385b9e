"""What do a run's CSV files hold?

Rows, windows or a summary come in, pieces of text leave: each piece is one or more whole lines. Ours end in \\n;
Locust's four keep its column names, order and \\r\\n. A cell that was not measured is empty (in Locust's files: N/A,
as there). Every text is on one line and cannot become a formula when a spreadsheet opens the file.

Columns are described in docs/reference/csv-files.md.
"""

import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np

from surgeline import units
from surgeline.analysis.model import EndpointFigures, Summary
from surgeline.report import document
from surgeline.report.cells import Node
from surgeline.report.text import LONGEST_SHOWN, shown
from surgeline.report.verdict import slo_word
from surgeline.samples import (
    CSV_COLUMNS,
    Histogram,
    Measurement,
    Outcome,
    Texts,
    Window,
    histogram_high,
    histogram_index,
)

LONGEST_URL = 2000
"""Characters of a URL in `requests.csv`: what common servers accept."""

_FORMULA = ("=", "+", "-", "@", "|", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; the last four are the wide forms, which some spreadsheets read alike."""

Integers = np.ndarray[Any, np.dtype[np.int64]]

_SPACES = " \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


class Batch(Protocol):
    """Some rows as columns: `batch[name]` for each name of samples.ROW_COLUMNS, all of one length.

    Numbers are numpy arrays (masked ones too) or sequences; texts are `samples.Texts` or sequences.
    """

    def __getitem__(self, name: str, /) -> Any: ...


def defused(text: object, limit: int = LONGEST_SHOWN) -> str:
    """A text on one line that no spreadsheet takes for a formula.

    One that begins, after spaces, with = + - @ | gets an apostrophe in front. A tab or line end at the beginning is
    visible text by then.
    """
    plain = shown(text, limit)
    return "'" + plain if plain.lstrip(_SPACES).startswith(_FORMULA) else plain


def cell(text: object, limit: int = LONGEST_SHOWN) -> str:
    """A text as a cell of a CSV file: defused, and quoted where it must be."""
    plain = defused(text, limit)
    if "," in plain or '"' in plain or plain != plain.strip():
        return '"' + plain.replace('"', '""') + '"'
    return plain


def number(value: float | int | None, digits: int = 6) -> str:
    """A number as a cell: up to `digits` decimals, no exponent, no trailing zeros; empty for None."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def milliseconds(value_ns: float | None) -> str:
    """A time as milliseconds with six decimals, that is to the nanosecond; empty for None."""
    return "" if value_ns is None else number(value_ns / units.NS_PER_MS)


# --- requests.csv ----------------------------------------------------------------------------------------------------

_THOUSANDTHS = [f".{rest:03d}" for rest in range(1000)]
_OUTCOMES = {int(outcome): outcome.word for outcome in Outcome}
_TIMES = {
    "dns_us": "dns_ns",
    "connect_us": "connect_ns",
    "tls_us": "tls_ns",
    "send_us": "send_ns",
    "wait_us": "wait_ns",
    "receive_us": "receive_ns",
}


def requests_csv(batches: Iterable[Batch]) -> Iterator[str]:
    """One row for each request that was due, in the order they come; a header, then one piece per batch.

    Times are microseconds with three decimals, exact. Empty: did not happen or was not measured. `reused` is 1 for a
    connection that had been used before, 0 for a new one.
    """
    yield ",".join(CSV_COLUMNS) + "\n"
    for batch in batches:
        columns = [_column(batch, name) for name in CSV_COLUMNS]
        if columns[0]:
            yield "\n".join(map(",".join, zip(*columns, strict=True))) + "\n"


def _column(batch: Batch, name: str) -> list[str]:
    if name in ("endpoint", "scenario", "worker", "method", "error", "protocol", "server_timing"):
        return _texts(batch[name], LONGEST_SHOWN)
    if name == "url":
        return _texts(batch[name], LONGEST_URL)
    if name == "outcome":
        return [_OUTCOMES.get(code, "") for code in _integers(batch[name]).tolist()]
    if name == "intended_us":
        return _microseconds(_integers(batch["intended_ns"]))
    if name == "start_us":
        return _microseconds(_integers(batch["start_ns"]))
    if name == "lag_us":
        return _span(batch, "intended_ns", "start_ns")
    if name == "service_us":
        return _span(batch, "start_ns", "end_ns")
    if name == "response_us":
        return _span(batch, "intended_ns", "end_ns")
    if name in _TIMES:
        return _microseconds(_integers(batch[_TIMES[name]]))
    values = _integers(batch[name])
    absent = values <= 0 if name == "status" else values > 1 if name == "reused" else values < 0
    cells = list(map(str, values.tolist()))
    for row in np.flatnonzero(absent).tolist():
        cells[row] = ""
    return cells


def _integers(values: Any) -> Integers:
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled(-1)
    return np.asarray(values, dtype=np.int64)


def _microseconds(values_ns: Integers, absent: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> list[str]:
    """Each as microseconds with three decimals; empty where `absent`, by default where negative."""
    whole, rest = np.divmod(np.abs(values_ns), 1000)
    tails = _THOUSANDTHS
    cells = [f"{micro}{tails[nano]}" for micro, nano in zip(whole.tolist(), rest.tolist(), strict=True)]
    blank = values_ns < 0 if absent is None else absent
    if absent is not None:
        for row in np.flatnonzero(values_ns < 0).tolist():
            cells[row] = "-" + cells[row]
    for row in np.flatnonzero(blank).tolist():
        cells[row] = ""
    return cells


def _span(batch: Batch, begin: str, end: str) -> list[str]:
    """From one moment to another; empty where one of them did not happen."""
    first, last = _integers(batch[begin]), _integers(batch[end])
    return _microseconds(last - first, (first < 0) | (last < 0))


def _texts(values: Any, limit: int) -> list[str]:
    """Texts as cells; each different one is worked out once."""
    if isinstance(values, Texts):
        ready = np.array([cell(text, limit) for text in values.texts] or [""], dtype=object)
        found: list[str] = ready[values.codes.astype(np.intp)].tolist()
        return found
    if isinstance(values, np.ma.MaskedArray):
        values = values.filled("")
    known: dict[Any, str] = {}
    cells = []
    for text in values.tolist() if isinstance(values, np.ndarray) else values:
        made = known.get(text)
        if made is None:
            made = known[text] = cell("" if text is None else text, limit)
        cells.append(made)
    return cells


# --- endpoints.csv and timeline.csv ----------------------------------------------------------------------------------

_PERCENTILES = ("p50", "p90", "p95", "p99", "p99.9")

ENDPOINT_COLUMNS: tuple[str, ...] = (
    *("endpoint", "stage", "load", "due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted"),
    *("throughput_per_s", "goodput_per_s", "error_ratio", "error_ratio_low", "error_ratio_high"),
    *("response_mean_ms", "response_min_ms", "response_max_ms"),
    *(f"response_{name}{side}_ms" for name in _PERCENTILES for side in ("", "_low", "_high")),
    *(f"service_{name}_ms" for name in _PERCENTILES),
    *("failed_response_p50_ms", "share_of_time", "bytes_in", "bytes_out", "slo", "stage_name"),
)
"""The columns of `endpoints.csv`. `stage` and `stage_name` are empty in rows about the whole run."""


def endpoints_csv(summary: Summary) -> Iterator[str]:
    """Everything together and each stage of it, then each endpoint, worst first, with its stages.

    An endpoint's rows about one stage have p50, p95 and p99 of response time only.
    """
    yield ",".join(ENDPOINT_COLUMNS) + "\n"
    stages = document.stage_parts(summary)
    loads = {stage["index"]: (stage["load"], stage["name"]) for stage in stages}
    yield _endpoint_row("all endpoints", document.totals_part(summary), slo=slo_word(summary.objectives))
    for stage in stages:
        yield _endpoint_row("all endpoints", stage, stage["index"], loads[stage["index"]])
    for endpoint in document.endpoint_parts(summary):
        yield _endpoint_row(endpoint["name"], endpoint, share=endpoint["share_of_time"], slo=endpoint["slo"])
        for part in endpoint["stages"]:
            yield _endpoint_row(endpoint["name"], part, part["stage"], loads.get(part["stage"], ("", "")))


TRANSACTION_COLUMNS = (
    *("transaction", "stage", "due", "ok", "failure", "error", "timeout", "not_sent", "aborted"),
    *("mean_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "bytes_in", "bytes_out", "stage_name"),
)
"""Of `transactions.csv`. Times are of transactions whose steps all were right, think times left out."""


def transactions_csv(windows: Sequence[Window], stage_names: Mapping[int, str] | None = None) -> Iterator[str]:
    """Each transaction as a whole, then each of its stages; nothing but the head without transactions.

    `stage_names` are those of the run's stages by number; a stage without one has an empty cell.
    """
    yield from _beside_csv(TRANSACTION_COLUMNS, windows, stage_names or {})


MESSAGE_COLUMNS = ("message", *TRANSACTION_COLUMNS[1:])
"""Of `messages.csv`. `due` are those that came or were waited for in vain; times are of those that came."""


def messages_csv(windows: Sequence[Window], stage_names: Mapping[int, str] | None = None) -> Iterator[str]:
    """Each kind of message as a whole, then in each stage; nothing but the head without conversations."""
    yield from _beside_csv(MESSAGE_COLUMNS, windows, stage_names or {})


def _beside_csv(columns: Sequence[str], windows: Sequence[Window], stage_names: Mapping[int, str]) -> Iterator[str]:
    yield ",".join(columns) + "\n"
    for name in dict.fromkeys(window.endpoint for window in windows):
        own = [window for window in windows if window.endpoint == name]
        yield _transaction_row(name, "", own, "")
        for stage in sorted({window.stage for window in own}):
            mine = [window for window in own if window.stage == stage]
            yield _transaction_row(name, str(stage), mine, stage_names.get(stage, ""))


def _transaction_row(name: str, stage: str, windows: Sequence[Window], stage_name: str) -> str:
    counts = dict.fromkeys(Outcome, 0)
    right = Histogram()
    for window in windows:
        counts[window.outcome] += window.count
        if window.outcome is Outcome.OK:
            right.merge(window.response)
    times = [None] * 3 if right.count == 0 else [right.sum_ns / right.count, right.min_ns, right.max_ns]
    cells = [
        cell(name),
        stage,
        str(sum(counts.values())),
        *(str(counts[outcome]) for outcome in Outcome),
        *(milliseconds(value) for value in times),
        *(milliseconds(right.quantile(q)) for q in (0.5, 0.9, 0.95, 0.99)),
        str(sum(window.bytes_in for window in windows)),
        str(sum(window.bytes_out for window in windows)),
        cell(stage_name),
    ]
    return ",".join(cells) + "\n"


def _endpoint_row(
    name: str,
    figures: Node,
    stage: int | None = None,
    load: tuple[str, str] = ("", ""),
    share: float | None = None,
    slo: str | None = None,
) -> str:
    tally, response, service = figures["tally"], figures["response"], figures.get("service", {})
    failed = figures.get("failed_response", {})
    cells = [
        cell(name),
        "" if stage is None else str(stage),
        cell(load[0]),
        *(str(tally[key]) for key in ENDPOINT_COLUMNS[3:11]),
        number(figures["throughput_per_s"]),
        number(figures["goodput_per_s"]),
        *(number(figures["error_ratio"][key], 9) for key in ("value", "low", "high")),
        *(milliseconds(response[key]) for key in ("mean_ns", "min_ns", "max_ns")),
        *(milliseconds(_side(response, key, side)) for key in _PERCENTILES for side in ("value", "low", "high")),
        *(milliseconds(_side(service, key, "value")) for key in _PERCENTILES),
        milliseconds(_side(failed, "p50", "value")),
        number(share, 9),
        str(tally["bytes_in"]),
        str(tally["bytes_out"]),
        slo or "",
        cell(load[1]),
    ]
    return ",".join(cells) + "\n"


def _side(times: Node, percentile: str, side: str) -> float | None:
    """One number of an estimate; None where the times or the percentile are not there."""
    value: float | None = times.get(percentile, {}).get(side)
    return value


TIMELINE_COLUMNS: tuple[str, ...] = (
    *("second", "stage", "due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted"),
    *("users", "in_flight", "planned_rate_per_s"),
    *("response_p50_ms", "response_p95_ms", "response_p99_ms", "response_max_ms", "stage_name"),
)
"""The columns of `timeline.csv`."""


def timeline_csv(summary: Summary) -> Iterator[str]:
    """One row a second of the run, however long; requests are booked on the second in which they were due."""
    yield ",".join(TIMELINE_COLUMNS) + "\n"
    names = {stage.index: cell(stage.name) for stage in summary.stages}
    for second in summary.seconds:
        cells = [
            str(second.second),
            str(second.stage) if second.stage >= 0 else "",
            str(second.due),
            str(second.sent),
            *(str(second.outcomes.get(outcome, 0)) for outcome in Outcome),
            number(second.users),
            number(second.in_flight),
            number(second.planned_rate),
            *(milliseconds(value) for value in (second.p50_ns, second.p95_ns, second.p99_ns, second.max_ns)),
            names.get(second.stage, ""),
        ]
        yield ",".join(cells) + "\n"


# --- Locust's four files ---------------------------------------------------------------------------------------------


def locust_csvs(summary: Summary, measurement: Measurement) -> Iterator[tuple[str, Iterator[str]]]:
    """Locust's four files: the name of each, with its lines."""
    yield "locust_stats.csv", locust_stats_csv(summary)
    yield "locust_stats_history.csv", locust_history_csv(summary, measurement.windows)
    yield "locust_failures.csv", locust_failures_csv(summary)
    yield "locust_exceptions.csv", locust_exceptions_csv(measurement.events)


LOCUST_QUANTILES: tuple[float, ...] = (0.50, 0.66, 0.75, 0.80, 0.90, 0.95, 0.98, 0.99, 0.999, 0.9999, 1.0)
_LOCUST_PERCENTILES = ("50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%", "99.9%", "99.99%", "100%")

LOCUST_STATS_COLUMNS: tuple[str, ...] = (
    *("Type", "Name", "Request Count", "Failure Count", "Median Response Time", "Average Response Time"),
    *("Min Response Time", "Max Response Time", "Average Content Size", "Requests/s", "Failures/s"),
    *_LOCUST_PERCENTILES,
)
LOCUST_HISTORY_COLUMNS: tuple[str, ...] = (
    *("Timestamp", "User Count", "Type", "Name", "Requests/s", "Failures/s"),
    *_LOCUST_PERCENTILES,
    *("Total Request Count", "Total Failure Count", "Total Median Response Time", "Total Average Response Time"),
    *("Total Min Response Time", "Total Max Response Time", "Total Average Content Size"),
)
LOCUST_FAILURE_COLUMNS = ("Method", "Name", "Error", "Occurrences", "First Seen", "Last Seen")
LOCUST_EXCEPTION_COLUMNS = ("Count", "Message", "Traceback", "Nodes")

HISTORY_SPAN_S = 10
"""Seconds that the current rates and percentiles of a history row look back; Locust's own span."""

LONGEST_TRACEBACK = 100
"""Lines of a traceback that are kept."""

_COUNTED = (Outcome.OK, Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT)
_FAILED = (Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT)


def locust_name(endpoint: str) -> tuple[str, str]:
    """Locust's Type and Name for an endpoint: `GET /books` is GET and /books; without a method the Type is empty.

    Any first word in capitals counts as a method, since Locust's own types (WebSocket, gRPC) are free text as well.
    """
    first, _, rest = endpoint.partition(" ")
    if rest and first.isascii() and first.isalpha() and first.isupper():
        return first, rest
    return "", endpoint


def locust_stats_csv(summary: Summary) -> Iterator[str]:
    """`locust_stats.csv`: a row per endpoint by name and method, then Aggregated.

    As in Locust a request is one that was sent and ended, failures are counted and timed with the rest, and percentile
    cells are whole milliseconds. They are exact, where Locust rounds to two digits.
    """
    yield _locust_row(LOCUST_STATS_COLUMNS)
    for figures in sorted(summary.endpoints, key=lambda item: tuple(reversed(locust_name(item.name)))):
        yield _locust_row(_locust_stats(*locust_name(figures.name), figures, summary.duration_s))
    yield _locust_row(_locust_stats("", "Aggregated", summary.total, summary.duration_s))


def _locust_stats(method: str, name: str, figures: EndpointFigures, duration_s: float) -> list[str]:
    everything = Histogram()
    everything.merge(figures.response.histogram)
    everything.merge(figures.failed_response.histogram)
    tally = figures.tally
    failed = tally.failure + tally.error + tally.timeout
    requests = tally.ok + failed
    return [
        defused(method),
        defused(name),
        *_locust_totals(requests, failed, everything, tally.bytes_in),
        number(requests / duration_s if duration_s else 0.0),
        number(failed / duration_s if duration_s else 0.0),
        *_locust_percentiles(everything),
    ]


def _locust_totals(requests: int, failed: int, times: Histogram, bytes_in: int) -> list[str]:
    """Count, failures, median, mean, least, greatest (ms) and mean size; 0 where nothing was asked, as in Locust."""
    return [
        str(requests),
        str(failed),
        *(milliseconds(value or 0) for value in (times.quantile(0.5), times.mean_ns, times.min_ns, times.max_ns)),
        number(bytes_in / requests if requests else 0.0),
    ]


def _locust_percentiles(times: Histogram) -> list[str]:
    """Whole milliseconds at Locust's percentiles, N/A where nothing was asked."""
    if not times.count:
        return ["N/A"] * len(LOCUST_QUANTILES)
    return [_whole_milliseconds(value) for value in times_at(times, LOCUST_QUANTILES)]


def _whole_milliseconds(value_ns: int) -> str:
    return str((value_ns + units.NS_PER_MS // 2) // units.NS_PER_MS)


def times_at(times: Histogram, quantiles: Sequence[float]) -> list[int]:
    """`times.quantile(q)` for each q, in one walk through a histogram that is not empty."""
    indices, counts = times.sparse()
    return _at_ranks(np.array(indices), np.array(counts), quantiles, times.min_ns or 0, times.max_ns or 0)


def _at_ranks(indices: Integers, counts: Integers, quantiles: Sequence[float], least: int, most: int) -> list[int]:
    """The values at nearest ranks ceil(q·n) of histogram buckets: upper edges, never beyond the extremes."""
    reached = np.cumsum(counts)
    total = int(reached[-1])
    # Parts per billion are whole numbers, so that 0.99 · 300 is rank 297 and not 298.
    ranks = [max(-(-round(q * 1e9) * total // 1_000_000_000), 1) for q in quantiles]
    places = np.searchsorted(reached, ranks)
    return [
        least if rank <= 1 else min(histogram_high(int(indices[place])), most)
        for rank, place in zip(ranks, places.tolist(), strict=True)
    ]


def _wall_ns(summary: Summary) -> int | None:
    """When the run's clock stood at 0, ns since 1970; None where the run does not say."""
    clock = summary.run.get("clock")
    value = clock.get("wall_ns") if isinstance(clock, Mapping) else None
    return value if isinstance(value, int) else None


def locust_history_csv(summary: Summary, windows: Iterable[Window]) -> Iterator[str]:
    """`locust_stats_history.csv`, as with --csv-full-history: for each second a row per endpoint seen so far, and one
    for Aggregated.

    Rates and percentiles are those of the last ten seconds, the Total columns of the run so far. Requests are booked on
    the second in which they were due. The user count is that of active users, or of requests in flight where a run has
    no users, or N/A.
    """
    yield _locust_row(LOCUST_HISTORY_COLUMNS)
    if not summary.seconds:
        return
    parts: dict[str, list[Window]] = {}
    everything: list[Window] = []
    for window in windows:
        if window.outcome in _COUNTED:
            parts.setdefault(window.endpoint, []).append(window)
            everything.append(window)
    tracks = [
        _Track(*locust_name(name), windows=parts[name])
        for name in sorted(parts, key=lambda name: tuple(reversed(locust_name(name))))
    ]
    tracks.append(_Track("", "Aggregated", windows=everything))
    wall_ns = _wall_ns(summary) or 0
    by_second = {second.second: second for second in summary.seconds}
    users = "N/A"
    for second in range(min(by_second), max(by_second) + 1):
        held = by_second.get(second)
        known = None if held is None else held.users if held.users is not None else held.in_flight
        users = "N/A" if known is None else str(round(known))
        stamp = str((wall_ns + second * units.NS_PER_S) // units.NS_PER_S)
        for track in tracks:
            track.advance(second)
            if track.requests or track is tracks[-1]:
                yield _locust_row([stamp, users, *track.cells(second)])


_BUCKETS = histogram_index((1 << 63) - 1) + 1


class _Track:
    """One entry of the history: its sums so far, and those of the last ten seconds."""

    def __init__(self, method: str, name: str, windows: Sequence[Window]) -> None:
        self._label = [defused(method), defused(name)]
        seen = np.zeros(_BUCKETS, dtype=bool)
        for window in windows:
            seen[window.response.arrays()[0]] = True
        self._indices = np.flatnonzero(seen)
        # Where each bucket is among those.
        self._place = np.cumsum(seen) - 1
        self._current = np.zeros(len(self._indices), dtype=int)
        self._total = np.zeros(len(self._indices), dtype=int)
        self._pending: dict[int, list[Window]] = {}
        for window in windows:
            self._pending.setdefault(window.second, []).append(window)
        self._recent: deque[tuple[int, list[Window]]] = deque()
        self._begin: int | None = None
        self.requests = self._failed = self._bytes = self._sum_ns = 0
        self._least_ns: int | None = None
        self._most_ns: int | None = None

    def advance(self, second: int) -> None:
        """Takes in what was due in `second`, and lets go of what is ten seconds old."""
        self._begin = second if self._begin is None else self._begin
        while self._recent and self._recent[0][0] <= second - HISTORY_SPAN_S:
            for window in self._recent.popleft()[1]:
                self._add(self._current, window, -1)
        fresh = self._pending.get(second)
        if not fresh:
            return
        self._recent.append((second, fresh))
        for window in fresh:
            self._add(self._current, window, 1)
            self._add(self._total, window, 1)
            self.requests += window.count
            self._failed += window.count if window.outcome in _FAILED else 0
            self._bytes += window.bytes_in
            self._sum_ns += window.response.sum_ns
            least, most = window.response.min_ns, window.response.max_ns
            if least is not None and (self._least_ns is None or least < self._least_ns):
                self._least_ns = least
            if most is not None and (self._most_ns is None or most > self._most_ns):
                self._most_ns = most

    def _add(self, counts: Integers, window: Window, sign: int) -> None:
        indices, values = window.response.arrays()
        places = self._place[indices]
        counts[places] += values if sign > 0 else -values.astype(int)

    def cells(self, second: int) -> list[str]:
        """The row but for its first two cells."""
        recent = [window for _, windows in self._recent for window in windows]
        span = min(second - (self._begin or 0) + 1, HISTORY_SPAN_S)
        requests = sum(window.count for window in recent)
        failed = sum(window.count for window in recent if window.outcome in _FAILED)
        return [
            *self._label,
            f"{requests / span:.6f}",
            f"{failed / span:.6f}",
            *self._percentiles(recent),
            str(self.requests),
            str(self._failed),
            *self._totals(),
        ]

    def _percentiles(self, recent: Sequence[Window]) -> list[str]:
        mins = [window.response.min_ns for window in recent if window.response.min_ns is not None]
        maxs = [window.response.max_ns for window in recent if window.response.max_ns is not None]
        if not mins:
            return ["N/A"] * len(LOCUST_QUANTILES)
        values = _at_ranks(self._indices, self._current, LOCUST_QUANTILES, min(mins), max(maxs))
        return [_whole_milliseconds(value) for value in values]

    def _totals(self) -> list[str]:
        if self._least_ns is None or self._most_ns is None:
            return ["0"] * 5
        count = int(self._total.sum())
        (median,) = _at_ranks(self._indices, self._total, (0.5,), self._least_ns, self._most_ns)
        return [
            *(milliseconds(value) for value in (median, self._sum_ns / count, self._least_ns, self._most_ns)),
            number(self._bytes / self.requests),
        ]


def locust_failures_csv(summary: Summary) -> Iterator[str]:
    """`locust_failures.csv`: what went wrong, by name, method and error; its occurrences add up to the failure counts.

    First and last seen are when the first and the last of them were due, UTC to the second.
    """
    yield _locust_row(LOCUST_FAILURE_COLUMNS)
    wall_ns = _wall_ns(summary)
    rows = []
    for group in summary.errors:
        if group.outcome in _FAILED:
            method, name = locust_name(group.endpoint)
            error = defused(group.kind or group.outcome.word)
            seen = (_utc(wall_ns, group.first_ns), _utc(wall_ns, group.last_ns))
            rows.append((defused(name), defused(method), error, group.count, *seen))
    for name, method, error, count, first, last in sorted(rows):
        yield _locust_row((method, name, error, count, first, last))


def _utc(wall_ns: int | None, at_ns: int) -> str:
    """A moment of the run as Locust writes it; empty where the run does not say when it was."""
    if wall_ns is None:
        return ""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=(wall_ns + at_ns) // units.NS_PER_S)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def locust_exceptions_csv(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """`locust_exceptions.csv` from the events of a run: exceptions that the user's own code raised, most first.

    The traceback keeps its lines. Nodes are the workers it came from, `local` where none is named.
    """
    yield _locust_row(LOCUST_EXCEPTION_COLUMNS)
    counts: dict[tuple[str, str], int] = {}
    nodes: dict[tuple[str, str], set[str]] = {}
    for event in events:
        if event.get("kind") == "exception":
            key = (str(event.get("message", "")), str(event.get("traceback", "")))
            counts[key] = counts.get(key, 0) + int(event.get("count", 1))
            nodes.setdefault(key, set()).add(str(event.get("worker") or "local"))
    for key in sorted(counts, key=lambda key: (-counts[key], key)):
        message, traceback = key
        lines = [defused(line) for line in traceback.splitlines()[:LONGEST_TRACEBACK]]
        yield _locust_row(
            (counts[key], defused(message), "\n".join(lines), ", ".join(defused(node) for node in sorted(nodes[key])))
        )


def _locust_row(values: Iterable[object]) -> str:
    """One line in Locust's dialect: commas, \\r\\n, quotes where they must be."""
    sink = io.StringIO()
    csv.writer(sink).writerow(values)
    return sink.getvalue()
