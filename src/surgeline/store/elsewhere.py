"""Results that other tools measured, read so that they can be stored as runs.

A file comes in; what leaves is either its requests, one by one, or its totals with whatever distribution it has, and a
list of what such a file cannot say. Nothing is filled in: a phase that was not recorded stays unknown, a percentile
between those given stays unknown, and a line that cannot be read ends the import with its number.

    locust      _stats.csv · --json · CsvRequestLogger        hey      -o csv
    jmeter      .jtl as CSV, with a header or without         oha      --output-format csv · json
    k6          --out csv · --out json                        vegeta   encode -to csv · json
"""

import csv
import gzip
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from surgeline.samples import (
    COUNT_COLUMNS,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    Frame,
    Histogram,
    Outcome,
    encode_object,
    encode_table,
    fold_rows,
)
from surgeline.store.errors import Damaged, Foreign, from_os, shown
from surgeline.store.meta import iso
from surgeline.store.rundir import Run, RunDirectory

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
BATCH = 50_000
LONGEST_LINE = 1 << 20
LONGEST_DOCUMENT = 256 << 20
BACKWARDS_NS = 3600 * NS_PER_S
"""Lines come in the order in which requests ended, so a start may lie before that of the line above; by an hour it
never does, unless a clock was set back."""
LATEST_NS = 1 << 62

_DUE = "when requests were due: response time is service time, and stalls are under-weighted"
_MACHINE = "on which machine it ran, and whether the generator was the limit"
_PLAN = "which plan was run: runs count as alike where tool and endpoints are the same"
_TIMELINE = "how figures went over time, how much they scatter within the run, and which requests stalled"
_SPLIT = "how long failed requests took: their times are among those of the others"


_WHEN = "when it was run: the date of the file stands for that"


class Request(NamedTuple):
    """One request of a file. Times in ns; -1 means that the file does not say. `start_ns` since 1970, or since whatever
    the file counts from."""

    endpoint: str
    method: str
    url: str
    start_ns: int
    took_ns: int
    status: int
    outcome: Outcome
    error: str
    bytes_out: int = 0
    bytes_in: int = 0
    connect_ns: int = -1
    wait_ns: int = -1


@dataclass(frozen=True, slots=True)
class Total:
    """One endpoint of a file that has no single requests: how many, and how often each time occurred.

    `times` maps ns to counts; `by_second` says how many began in each second, where the file does.
    """

    endpoint: str
    requests: int
    failures: int
    times: Mapping[int, int]
    sum_ns: int
    min_ns: int
    max_ns: int
    bytes_in: int = 0
    by_second: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A file of another tool.

    `cannot` completes "this cannot say …". `requests` gives its requests anew each time; None where it has `totals`.
    `wall_ns` is when it started, None where that is not known; `duration_ns` how long it lasted, where it says so.
    """

    tool: str
    form: str
    cannot: tuple[str, ...]
    requests: Callable[[], Iterator[Request]] | None = None
    totals: tuple[Total, ...] = ()
    wall_ns: int | None = None
    duration_ns: int | None = None


def read_elsewhere(path: Path | str) -> Elsewhere:
    """What a file of another tool holds. Raises NoSuchRun, Foreign for what none of them writes, or Damaged."""
    where = Path(path)
    with _opened(where) as file:
        head = file.read(4096)
    text = head.lstrip("\ufeff \t\r\n")
    first = text.split("\n", 1)[0].rstrip("\r")
    if not text:
        raise Foreign(f"{shown(where)} is empty; there is nothing to import")
    if text.startswith("<"):
        raise Foreign(
            f"{shown(where)} is XML; of JMeter the CSV form is read (jmeter.save.saveservice.output_format=csv)"
        )
    if text[0] in "[{":
        return _json_form(where, first, text)
    for form in (_locust_stats, _locust_requests, _jmeter, _k6_csv, _OHA.read, _HEY.read, _vegeta_csv, _jmeter_bare):
        found = form(where, first)
        if found is not None:
            return found
    if "Timestamp,User Count" in first:
        raise Foreign(f"{shown(where)} is Locust's history; import the file that ends in _stats.csv beside it")
    raise Foreign(
        f"{shown(where)} is none of the results that can be imported: Locust CSV or JSON, JMeter JTL (CSV), k6 CSV or "
        "JSON, vegeta CSV or JSON (vegeta encode), oha CSV or JSON, hey CSV"
    )


def import_run(
    root: Path | str, path: Path | str, name: str | None = None, series: Mapping[str, Any] | None = None
) -> Run:
    """Stores a file of another tool as a run. Raises what `read_elsewhere` raises; no run is left behind then."""
    where = Path(path)
    held = read_elsewhere(where)
    first_ns, last_ns, count, names = _survey(held, where)
    if not count:
        raise Foreign(f"{shown(where)} holds no request; there is nothing to import")
    epoch = held.wall_ns if held.wall_ns is not None else (first_ns if first_ns > 10**17 else None)
    cannot = held.cannot
    if epoch is None:
        epoch, cannot = where.stat().st_mtime_ns, (*held.cannot, _WHEN)
    duration_ns = held.duration_ns if held.duration_ns is not None else max(last_ns - first_ns, 1)
    meta = {
        "started_at": iso(epoch),
        "clock": {"wall_ns": epoch, "monotonic_ns": 0},
        "engine": held.tool,
        "due_known": False,
        "subject": {"kind": "import", "hash": _identity(held.tool, names)},
        "source": {"kind": "import", "location": where.name},
        "settings": {},
        "stages": [],
        "environment": {"machine": {}, "generator_shares_machine": None},
        "versions": {},
        "imported": {"tool": held.tool, "form": held.form, "file": where.name, "cannot": list(cannot)},
        "series": dict(series) if series else None,
    }
    directory = RunDirectory.create(root, name or where.name.split(".")[0] or held.tool, meta)
    try:
        segment = directory.segment("import")
        segment.append(Frame.EVENT, encode_object({"at_ns": 0, "kind": "stage_started", "stage": 0}))
        for kind, payload in _frames(held, first_ns):
            segment.append(kind, payload)
        segment.append(Frame.EVENT, encode_object({"at_ns": duration_ns, "kind": "stage_ended", "stage": 0}))
        segment.close()
        directory.close("finished", f"imported from {held.tool}", duration_ns)
    except BaseException:
        directory.release()
        from surgeline.store import files

        files.remove_tree(directory.path)
        raise
    return Run(directory.path)


def _identity(tool: str, names: Iterable[str]) -> str:
    text = json.dumps([tool, sorted(names)], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _survey(held: Elsewhere, where: Path) -> tuple[int, int, int, set[str]]:
    """First start, last end, number of requests, and the endpoints; raises Damaged where time runs backwards."""
    if held.requests is None:
        return 0, held.duration_ns or 0, sum(t.requests for t in held.totals), {t.endpoint for t in held.totals}
    first, last, latest, count = LATEST_NS, 0, 0, 0
    names: set[str] = set()
    for request in held.requests():
        if not 0 <= request.start_ns < LATEST_NS or not -1 <= request.took_ns < LATEST_NS:
            raise Damaged(f"{shown(where)}: request {count + 1} has a time that cannot be: nothing was imported")
        if request.start_ns < latest - BACKWARDS_NS:
            raise Damaged(
                f"{shown(where)}: the clock went backwards by more than an hour before request {count + 1}; "
                "import the parts before and after it as files of their own"
            )
        first, latest = min(first, request.start_ns), max(latest, request.start_ns)
        last = max(last, request.start_ns + max(request.took_ns, 0))
        names.add(request.endpoint)
        count += 1
    return first, last, count, names


def _frames(held: Elsewhere, first_ns: int) -> Iterator[tuple[Frame, bytes]]:
    if held.requests is None:
        yield from _total_frames(held.totals)
        return
    rows: dict[str, list[Any]] = {name: [] for name in ROW_COLUMNS}
    for seq, request in enumerate(held.requests()):
        start = request.start_ns - first_ns
        end = start + request.took_ns if request.took_ns >= 0 else -1
        values: dict[str, Any] = {
            **dict.fromkeys(("scenario", "worker", "protocol", "server_timing"), ""),
            **dict.fromkeys(("dns_ns", "tls_ns", "send_ns", "receive_ns", "user", "iteration"), -1),
            "seq": seq,
            "endpoint": request.endpoint[:500],
            "stage": 0,
            "method": request.method[:20],
            "url": request.url[:2000],
            "intended_ns": start,
            "start_ns": start,
            "end_ns": end,
            "connect_ns": request.connect_ns,
            "wait_ns": request.wait_ns,
            "status": request.status,
            "outcome": int(request.outcome),
            "error": request.error[:200],
            "bytes_out": request.bytes_out,
            "bytes_in": request.bytes_in,
            "reused": 2,
        }
        for column, into in rows.items():
            into.append(values[column])
        if (seq + 1) % BATCH == 0:
            yield from _row_frames(rows)
            rows = {name: [] for name in ROW_COLUMNS}
    if rows["seq"]:
        yield from _row_frames(rows)


def _row_frames(rows: Mapping[str, list[Any]]) -> Iterator[tuple[Frame, bytes]]:
    due: dict[tuple[int, str], int] = {}
    for start, endpoint in zip(rows["intended_ns"], rows["endpoint"], strict=True):
        key = (start // NS_PER_S, endpoint)
        due[key] = due.get(key, 0) + 1
    yield Frame.COUNTS, _counts(due)
    yield Frame.WINDOWS, encode_table(WINDOW_COLUMNS, fold_rows(rows))
    yield Frame.ROWS, encode_table(ROW_COLUMNS, rows)


def _counts(due: Mapping[tuple[int, str], int]) -> bytes:
    keys = sorted(due)
    table: dict[str, list[Any]] = {
        "second": [second for second, _ in keys],
        "stage": [0] * len(keys),
        "endpoint": [endpoint for _, endpoint in keys],
        "due": [due[key] for key in keys],
        "sent": [due[key] for key in keys],
        "hops": [0] * len(keys),
    }
    return encode_table(COUNT_COLUMNS, table)


def _total_frames(totals: Sequence[Total]) -> Iterator[tuple[Frame, bytes]]:
    """Totals have no seconds of their own: all of them stand in the first."""
    due: dict[tuple[int, str], int] = {}
    table: dict[str, list[Any]] = {name: [] for name in WINDOW_COLUMNS}
    for total in totals:
        for second, count in (total.by_second or {0: total.requests}).items():
            due[second, total.endpoint] = due.get((second, total.endpoint), 0) + count
        histogram = Histogram()
        for value, count in total.times.items():
            histogram.record(value, count)
        indices, counts = histogram.sparse()
        for outcome, count in ((Outcome.OK, total.requests - total.failures), (Outcome.FAILURE, total.failures)):
            if not count:
                continue
            ok = outcome is Outcome.OK
            line: dict[str, Any] = {
                "second": 0,
                "stage": 0,
                "endpoint": total.endpoint,
                "outcome": int(outcome),
                "count": count,
                "bytes_in": total.bytes_in if ok else 0,
                "bytes_out": 0,
            }
            for side in ("response", "service"):
                line[f"{side}_sum_ns"] = total.sum_ns if ok else 0
                line[f"{side}_min_ns"] = total.min_ns if ok else -1
                line[f"{side}_max_ns"] = total.max_ns if ok else -1
                line[f"{side}_index"] = indices if ok else []
                line[f"{side}_count"] = counts if ok else []
            for column, into in table.items():
                into.append(line[column])
    yield Frame.COUNTS, _counts(due)
    yield Frame.WINDOWS, encode_table(WINDOW_COLUMNS, table)


# --- reading ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(where: Path) -> Iterator[TextIO]:
    """The file as text; gzip is undone. What is not UTF-8 becomes replacement characters."""
    try:
        with open(where, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            with io.TextIOWrapper(stream, "utf-8", errors="replace", newline="") as file:
                yield file
    except (EOFError, gzip.BadGzipFile) as error:
        raise Damaged(f"{shown(where)} is damaged: its compression ends too early; nothing was imported") from error
    except IsADirectoryError as error:
        raise Foreign(f"{shown(where)} is a directory; name a file in it") from error
    except OSError as error:
        raise from_os(error, where, "reading") from error


def _lines(where: Path) -> Iterator[str]:
    with _opened(where) as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise Damaged(f"{shown(where)} is damaged: a line of it is longer than a megabyte")
            yield line


def _each(
    where: Path, columns: Sequence[str] | None, make: Callable[[Mapping[str, str]], Request | None], tab: str = ","
) -> Iterator[Request]:
    """The requests in a CSV file; `columns` None takes them from its first line."""
    reader = csv.reader(_lines(where), delimiter=tab, strict=True)
    try:
        names = [name.strip().lstrip("\ufeff") for name in next(reader, [])] if columns is None else list(columns)
        for cells in reader:
            if not cells:
                continue
            if len(cells) < len(names):
                raise ValueError(f"it has {len(cells)} columns where there should be {len(names)}")
            made = make(dict(zip(names, cells, strict=False)))
            if made is not None:
                yield made
    except (ValueError, KeyError, OverflowError, csv.Error) as error:
        why = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise Damaged(
            f"{shown(where)} cannot be read in line {reader.line_num}: {why[:200]}; nothing was imported"
        ) from error


def _ns(text: str | float, unit: float) -> int:
    """A time in a file's unit as ns. Raises ValueError for what is none: negative, infinite, not a number."""
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{str(text)[:40]!r} is not a time")
    return round(value * unit)


def _whole(text: str | None) -> int:
    return int(float(text)) if text not in (None, "", "null", "N/A") else 0


def _outcome(status: int, error: str, fine: bool | None = None) -> Outcome:
    """What a status and an error text amount to; `fine` is the tool's own word, where it has one."""
    if fine is True:
        return Outcome.OK
    if "timeout" in error.lower() or "timed out" in error.lower() or "deadline exceeded" in error.lower():
        return Outcome.TIMEOUT
    if status == 0:
        return Outcome.ERROR
    return Outcome.OK if fine is None and 200 <= status < 400 else Outcome.FAILURE


def _said(status: int, error: str, outcome: Outcome) -> str:
    if outcome is Outcome.OK:
        return ""
    return error or (f"status {status}" if status else "error")


# --- Locust ----------------------------------------------------------------------------------------------------------

_LEVELS = ("50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%", "99.9%", "99.99%", "100%")


def _locust_stats(where: Path, first: str) -> Elsewhere | None:
    if not first.startswith("Type,Name,Request Count,Failure Count"):
        return None
    totals, rate = [], 0.0
    for line in _rows(where):
        requests, failures = _whole(line["Request Count"]), _whole(line["Failure Count"])
        if line["Type"] == "" and line["Name"] == "Aggregated":
            rate = float(line["Requests/s"] or 0.0)
            continue
        if not requests:
            continue
        if not 0 <= failures <= requests:
            raise Damaged(f"{shown(where)}: {line['Name'][:80]} has more failures than requests; nothing was imported")
        levels = [
            (float(name[:-1]) / 100, _ms(line[name])) for name in _LEVELS if line.get(name) not in (None, "N/A", "")
        ]
        totals.append(
            Total(
                f"{line['Type']} {line['Name']}".strip(),
                requests,
                failures,
                _staircase(levels, requests),
                round(float(line["Average Response Time"]) * NS_PER_MS * requests),
                _ms(line["Min Response Time"]),
                _ms(line["Max Response Time"]),
                round(float(line["Average Content Size"] or 0.0) * requests),
            )
        )
    count = sum(total.requests for total in totals)
    return Elsewhere(
        "locust",
        "statistics as CSV",
        (
            _DUE,
            _MACHINE,
            _PLAN,
            _TIMELINE,
            _SPLIT,
            "any percentile but the eleven it holds, and those only to two digits",
        ),
        totals=tuple(totals),
        duration_ns=round(count / rate * NS_PER_S) if rate > 0 else None,
    )


def _ms(text: str | float) -> int:
    return _ns(text, NS_PER_MS)


def _staircase(levels: Sequence[tuple[float, int]], requests: int) -> dict[int, int]:
    """Times of which the given percentiles are those of the file: between two of them nothing is known, so all
    requests between stand at the upper one."""
    times: dict[int, int] = {}
    done = 0
    for q, value in sorted(levels):
        upto = min(requests, math.floor(q * requests + 0.5)) if q < 1 else requests
        if upto > done:
            times[value] = times.get(value, 0) + upto - done
            done = upto
    if done < requests and levels:
        value = max(v for _, v in levels)
        times[value] = times.get(value, 0) + requests - done
    return times


def _rows(where: Path) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(_lines(where), strict=True)
    try:
        for line in reader:
            if None in line or None in line.values():
                raise ValueError("it does not have as many columns as the first line")
            yield line
    except (ValueError, csv.Error) as error:
        raise Damaged(
            f"{shown(where)} cannot be read in line {reader.line_num}: {error}; nothing was imported"
        ) from error


def _locust_requests(where: Path, first: str) -> Elsewhere | None:
    if not first.startswith("timestamp,request_type,name,response_time_ms"):
        return None

    def make(line: Mapping[str, str]) -> Request:
        took = _ms(line["response_time_ms"])
        status, error = _whole(line.get("status_code")), line.get("exception") or ""
        outcome = _outcome(status, error, not error)
        end = _moment(line["timestamp"])
        return Request(
            f"{line['request_type']} {line['name']}",
            line["request_type"],
            line["name"],
            max(end - took, 0),
            took,
            status,
            outcome,
            _said(status, error, outcome),
            0,
            _whole(line.get("response_length")),
        )

    return Elsewhere("locust", "requests as CSV", (_DUE, _MACHINE, _PLAN), lambda: _each(where, None, make))


def _moment(text: str) -> int:
    """Unix seconds, or ISO 8601, as ns since 1970."""
    try:
        return _ns(text, NS_PER_S)
    except ValueError:
        return _iso_ns(text)


def _iso_ns(text: str) -> int:
    """RFC 3339 with up to nine decimals, as ns since 1970."""
    head, dot, rest = text.partition(".")
    digits = ""
    while dot and rest and rest[0].isdigit():
        digits, rest = digits + rest[0], rest[1:]
    zone = rest if dot else ""
    moment = datetime.fromisoformat(f"{head}{zone}")
    if moment.tzinfo is None:
        moment = datetime.fromisoformat(f"{head}{zone}+00:00")
    return round(moment.timestamp()) * NS_PER_S + int((digits + "000000000")[:9])


def _locust_json(where: Path, document: Any) -> Elsewhere:
    totals, starts, ends = [], [], []
    try:
        zero = math.floor(min(float(item["start_time"]) for item in document))
        for item in document:
            requests, failures = int(item["num_requests"]), int(item["num_failures"])
            if not requests:
                continue
            times = {_ms(float(ms)): int(count) for ms, count in item["response_times"].items()}
            if not 0 <= failures <= requests or any(count < 0 for count in times.values()):
                raise ValueError("its counts do not add up")
            start = float(item["start_time"])
            starts.append(start)
            ends.append(float(item["last_request_timestamp"] or start))
            per_second = {int(second): int(count) for second, count in (item.get("num_reqs_per_sec") or {}).items()}
            known = sum(per_second.values()) == requests
            totals.append(
                Total(
                    f"{item.get('method') or ''} {item['name']}".strip(),
                    requests,
                    failures,
                    times,
                    round(float(item["total_response_time"]) * NS_PER_MS),
                    _ms(item["min_response_time"] or 0),
                    _ms(item["max_response_time"] or 0),
                    int(item.get("total_content_length") or 0),
                    {max(second - zero, 0): count for second, count in per_second.items()} if known else {},
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(
            f"{shown(where)} looks like Locust's JSON and cannot be read: {error}; nothing was imported"
        ) from error
    return Elsewhere(
        "locust",
        "statistics as JSON",
        (_DUE, _MACHINE, _PLAN, _TIMELINE, _SPLIT, "times to more than two digits"),
        totals=tuple(totals),
        wall_ns=round(min(starts) * NS_PER_S) if starts else None,
        duration_ns=round(max(max(ends) - min(starts), 1e-3) * NS_PER_S) if starts else None,
    )


# --- JMeter ----------------------------------------------------------------------------------------------------------

_JTL = (
    *("timeStamp", "elapsed", "label", "responseCode", "responseMessage", "threadName", "dataType", "success"),
    *("failureMessage", "bytes", "sentBytes", "grpThreads", "allThreads", "URL", "Latency", "IdleTime", "Connect"),
)
_JTL_CANNOT = (_DUE, _MACHINE, _PLAN, "times to less than a millisecond")


def _jmeter(where: Path, first: str) -> Elsewhere | None:
    tab = next((sign for sign in (",", "\t", ";", "|") if first.startswith(f"timeStamp{sign}elapsed{sign}")), None)
    if tab is None:
        return None
    return Elsewhere("jmeter", "JTL as CSV", _JTL_CANNOT, lambda: _each(where, None, _jtl_request, tab))


def _jmeter_bare(where: Path, first: str) -> Elsewhere | None:
    cells = next(csv.reader([first]), [])
    if len(cells) != len(_JTL) or not cells[0].isdigit() or len(cells[0]) != 13 or cells[7] not in ("true", "false"):
        return None
    return Elsewhere("jmeter", "JTL as CSV", _JTL_CANNOT, lambda: _each(where, _JTL, _jtl_request))


def _jtl_request(line: Mapping[str, str]) -> Request:
    code = line.get("responseCode") or ""
    status = int(code) if code.isdigit() else 0
    if line["success"].lower() not in ("true", "false"):
        raise ValueError(f"{line['success'][:40]!r} is neither true nor false")
    fine = line["success"].lower() == "true"
    said = line.get("failureMessage") or ("" if code.isdigit() else line.get("responseMessage") or code)
    outcome = _outcome(status, f"{code} {said}", fine)
    return Request(
        line["label"],
        "",
        line.get("URL") or "",
        _ms(line["timeStamp"]),
        _ms(line["elapsed"]),
        status,
        outcome,
        _said(status, said, outcome),
        _whole(line.get("sentBytes")),
        _whole(line.get("bytes")),
        _ms(line["Connect"]) if line.get("Connect") else -1,
        _ms(line["Latency"]) if line.get("Latency") else -1,
    )


# --- k6 --------------------------------------------------------------------------------------------------------------

_K6_CANNOT = (
    _DUE,
    _MACHINE,
    _PLAN,
    "how long connecting took: k6 leaves that out of the duration",
)


def _k6_csv(where: Path, first: str) -> Elsewhere | None:
    if not first.startswith("metric_name,timestamp,metric_value"):
        return None

    def make(line: Mapping[str, str]) -> Request | None:
        if line["metric_name"] != "http_req_duration":
            return None
        return _k6_request(line, float(line["metric_value"]), _moment(line["timestamp"]))

    cannot = (*_K6_CANNOT, "when within a second a request ended")
    return Elsewhere("k6", "CSV", cannot, lambda: _each(where, None, make))


def _k6_json(where: Path) -> Elsewhere:
    def each() -> Iterator[Request]:
        for number, line in enumerate(_lines(where), 1):
            if '"http_req_duration"' not in line or '"Point"' not in line:
                continue
            try:
                data = json.loads(line)["data"]
                tags = {str(key): str(value) for key, value in (data.get("tags") or {}).items()}
                made = _k6_request(tags, float(data["value"]), _iso_ns(str(data["time"])))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise Damaged(
                    f"{shown(where)} cannot be read in line {number}: {error}; nothing was imported"
                ) from error
            yield made

    return Elsewhere("k6", "JSON", _K6_CANNOT, each)


def _k6_request(tags: Mapping[str, str], took_ms: float, end_ns: int) -> Request:
    took = _ms(took_ms)
    status, error = _whole(tags.get("status")), tags.get("error") or ""
    expected = tags.get("expected_response")
    outcome = _outcome(
        status, f"{error} {tags.get('error_code') or ''}", {"true": True, "false": False}.get(expected or "")
    )
    if error.startswith("request timeout") or tags.get("error_code") == "1050":
        outcome = Outcome.TIMEOUT
    name, method = tags.get("name") or tags.get("url") or "", tags.get("method") or ""
    return Request(
        f"{method} {name}".strip(),
        method,
        tags.get("url") or "",
        max(end_ns - took, 0),
        took,
        status,
        outcome,
        _said(status, error, outcome),
    )


# --- vegeta, oha, hey ------------------------------------------------------------------------------------------------

_VEGETA = (
    *("timestamp", "code", "latency", "bytes_out", "bytes_in", "error", "body", "attack", "seq", "method", "url"),
    "headers",
)


def _vegeta_csv(where: Path, first: str) -> Elsewhere | None:
    cells = next(csv.reader([first]), [])
    if len(cells) != len(_VEGETA) or len(cells[0]) != 19 or not all(cell.isdigit() for cell in cells[:5]):
        return None
    return Elsewhere("vegeta", "CSV", _VEGETA_CANNOT, lambda: _each(where, _VEGETA, _vegeta_request))


_VEGETA_CANNOT = (_DUE, _MACHINE, _PLAN)


def _vegeta_request(line: Mapping[str, Any]) -> Request:
    status, error = int(line["code"]), str(line.get("error") or "")
    outcome = _outcome(status, error)
    stamp = line["timestamp"]
    start = int(stamp) if str(stamp).isdigit() else _iso_ns(str(stamp))
    method, url = str(line.get("method") or ""), str(line.get("url") or "")
    path = "/" + url.split("://", 1)[-1].partition("/")[2].split("?", 1)[0]
    return Request(
        f"{method} {path}".strip(),
        method,
        url,
        start,
        _ns(line["latency"], 1),
        status,
        outcome,
        _said(status, error, outcome),
        int(line.get("bytes_out") or 0),
        int(line.get("bytes_in") or 0),
    )


def _vegeta_json(where: Path) -> Elsewhere:
    def each() -> Iterator[Request]:
        for number, line in enumerate(_lines(where), 1):
            if not line.strip():
                continue
            try:
                yield _vegeta_request(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise Damaged(
                    f"{shown(where)} cannot be read in line {number}: {error}; nothing was imported"
                ) from error

    return Elsewhere("vegeta", "JSON", _VEGETA_CANNOT, each)


_ONE = "the request"
"""What the only endpoint of oha and hey is called: their files do not say."""


@dataclass(frozen=True, slots=True)
class _Flat:
    """A tool's CSV with a line for each request of the only endpoint: what its first line begins with, its columns.

    Times are seconds; `size` is the column of the answer's bytes, None where there is none.
    """

    tool: str
    head: str
    start: str
    took: str
    status: str
    size: str | None
    dated: bool
    """Whether every line has its start; else a missing one is the file's."""
    cannot: tuple[str, ...]

    def read(self, where: Path, first: str) -> Elsewhere | None:
        """The file, where its first line is this tool's."""
        if not first.startswith(self.head):
            return None
        return Elsewhere(self.tool, "CSV", self.cannot, lambda: _each(where, None, self._request))

    def _request(self, line: Mapping[str, str]) -> Request:
        status = _whole(line[self.status])
        outcome = _outcome(status, "")
        return Request(
            _ONE,
            "",
            "",
            _ns(line[self.start] if self.dated else line.get(self.start) or 0.0, NS_PER_S),
            _ns(line[self.took], NS_PER_S),
            status,
            outcome,
            _said(status, "", outcome),
            0,
            0 if self.size is None else _whole(line[self.size]),
            _ns(line["DNS+dialup"], NS_PER_S),
            _ns(line["Response-delay"], NS_PER_S),
        )


_OHA = _Flat(
    tool="oha",
    head="request-start,DNS,DNS+dialup,Response-delay,request-duration",
    start="request-start",
    took="request-duration",
    status="status",
    size="bytes",
    dated=True,
    cannot=(
        *(_DUE, _MACHINE, _PLAN, "what was asked for"),
        "which requests failed without an answer: oha leaves them out",
    ),
)
_HEY = _Flat(
    tool="hey",
    head="response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code",
    start="offset",
    took="response-time",
    status="status-code",
    size=None,
    dated=False,
    cannot=(
        *(_DUE, _MACHINE, _PLAN, "what was asked for"),
        "which requests failed without an answer: hey leaves them out",
        "times to less than a tenth of a millisecond",
    ),
)


def _oha_json(where: Path, document: Mapping[str, Any]) -> Elsewhere:
    try:
        answers = {int(code): int(count) for code, count in document["statusCodeDistribution"].items()}
        errors = sum(int(count) for count in (document.get("errorDistribution") or {}).values())
        answered = sum(answers.values())
        bad = errors + sum(count for code, count in answers.items() if not 200 <= code < 400)
        levels = [
            (float(name[1:]) / 100.0, _ns(value, NS_PER_S))
            for name, value in document["latencyPercentiles"].items()
            if value is not None
        ]
        summary = document["summary"]
        low, high = (_ns(summary[key] or 0.0, NS_PER_S) for key in ("fastest", "slowest"))
        total = Total(
            _ONE,
            answered + errors,
            bad,
            _staircase([*levels, (1.0, high)], answered),
            _ns((summary["average"] or 0.0) * answered, NS_PER_S),
            low,
            high,
            int(summary.get("totalData") or 0),
        )
        duration = _ns(summary["total"], NS_PER_S)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(
            f"{shown(where)} looks like oha's JSON and cannot be read: {error}; nothing was imported"
        ) from error
    cannot = (_DUE, _MACHINE, _PLAN, _TIMELINE, _SPLIT, "what was asked for", "any percentile but those it holds")
    return Elsewhere("oha", "JSON", cannot, totals=(total,), duration_ns=max(duration, 1))


# --- JSON, told apart ------------------------------------------------------------------------------------------------


def _json_form(where: Path, first: str, text: str) -> Elsewhere:
    if '"type":"Metric"' in first.replace(" ", "") or '"type":"Point"' in first.replace(" ", ""):
        return _k6_json(where)
    if first.endswith("}") and '"latency"' in first and '"code"' in first and '"timestamp"' in first:
        return _vegeta_json(where)
    with _opened(where) as file:
        whole = file.read(LONGEST_DOCUMENT + 1)
    if len(whole) > LONGEST_DOCUMENT:
        raise Foreign(f"{shown(where)} is no result that can be imported: it is one JSON value of over 256 MB")
    try:
        document = json.loads(whole.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{shown(where)} is damaged: it is not whole JSON; nothing was imported") from error
    if isinstance(document, list) and document and all(isinstance(i, dict) and "response_times" in i for i in document):
        return _locust_json(where, document)
    if isinstance(document, dict) and "latencyPercentiles" in document and "statusCodeDistribution" in document:
        return _oha_json(where, document)
    hints = {
        "metrics": "k6's summary, which has no distribution; import what `k6 run --out json=FILE` writes",
        "latencies": "vegeta's report; import what `vegeta encode -to csv` writes",
        "DurationHistogram": "fortio's, which cannot be imported",
    }
    for key, hint in hints.items():
        if isinstance(document, dict) and key in document:
            raise Foreign(f"{shown(where)} is {hint}")
    raise Foreign(f"{shown(where)} is JSON of no tool whose results can be imported")
