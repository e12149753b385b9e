"""CSV files: every row, every nanosecond, and Locust's columns as Locust writes them."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_examples as examples
from surgeline.report import tables
from surgeline.samples import (
    CSV_COLUMNS,
    ROW_COLUMNS,
    Histogram,
    Measurement,
    Outcome,
    Texts,
    decode_table,
    encode_table,
)

LOCUST_FILES = {
    "locust_stats.csv": (
        "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,"
        "Max Response Time,Average Content Size,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%"
    ),
    "locust_stats_history.csv": (
        "Timestamp,User Count,Type,Name,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%,"
        "Total Request Count,Total Failure Count,Total Median Response Time,Total Average Response Time,"
        "Total Min Response Time,Total Max Response Time,Total Average Content Size"
    ),
    "locust_failures.csv": "Method,Name,Error,Occurrences,First Seen,Last Seen",
    "locust_exceptions.csv": "Count,Message,Traceback,Nodes",
}
"""As Locust 2.47 writes them (locust/stats.py)."""


def read(lines):
    """The rows of a CSV as dictionaries."""
    return list(csv.DictReader(io.StringIO("".join(lines), newline="")))


@st.composite
def row(draw):
    """A row as an engine would leave it: times in order, or missing from some point on."""
    due = draw(st.integers(0, 10**12))
    start = draw(st.one_of(st.just(-1), st.integers(due, due + 10**10)))
    end = -1 if start < 0 else draw(st.one_of(st.just(-1), st.integers(start, start + 10**11)))
    texts = st.text(alphabet="abc ,\"'/{}é", max_size=12)
    values = {name: draw(texts) for name, kind in ROW_COLUMNS.items() if kind == "str"}
    for name in ("dns_ns", "connect_ns", "tls_ns", "send_ns", "wait_ns", "receive_ns"):
        values[name] = draw(st.integers(-1, 10**10))
    for name in ("seq", "user", "iteration", "bytes_in", "bytes_out"):
        values[name] = draw(st.integers(-1, 10**12))
    return {
        **values,
        "intended_ns": due,
        "start_ns": start,
        "end_ns": end,
        "stage": draw(st.integers(-1, 9)),
        "status": draw(st.sampled_from([0, 200, 404, 500])),
        "outcome": draw(st.integers(0, 5)),
        "reused": draw(st.integers(0, 2)),
    }


def expected(values) -> dict[str, str]:
    """The cells of a row, worked out one by one."""

    def us(ns):
        return "" if ns is None or ns < 0 else f"{ns // 1000}.{ns % 1000:03}"

    due, start, end = values["intended_ns"], values["start_ns"], values["end_ns"]
    cells = {name: str(values[name]) for name in ("seq", "stage", "user", "iteration", "bytes_out", "bytes_in")}
    cells = {name: "" if text == "-1" else text for name, text in cells.items()}
    cells |= {f"{name}_us": us(values[f"{name}_ns"]) for name in ("dns", "connect", "tls", "send", "wait", "receive")}
    cells |= {"intended_us": us(due), "start_us": us(start)}
    cells["lag_us"] = us(start - due) if start >= 0 else ""
    cells["service_us"] = us(end - start) if end >= 0 and start >= 0 else ""
    cells["response_us"] = us(end - due) if end >= 0 else ""
    cells["status"] = str(values["status"] or "")
    cells["outcome"] = Outcome(values["outcome"]).word
    cells["reused"] = {0: "0", 1: "1", 2: ""}[values["reused"]]
    texts = {name: values[name] for name, kind in ROW_COLUMNS.items() if kind == "str"}
    return {**texts, **cells}


@given(st.lists(row(), min_size=1, max_size=20), st.booleans())
def test_requests_csv_holds_every_row_to_the_nanosecond(rows, as_objects):
    """Read back, each cell is what the row says; from the journal's tables and from plain arrays alike."""
    columns = {name: [values[name] for values in rows] for name in ROW_COLUMNS}
    batch = decode_table(encode_table(ROW_COLUMNS, columns))
    if as_objects:
        batch = {
            name: np.array(list(batch[name]), dtype=object) if kind == "str" else np.ma.masked_less(batch[name], 0)
            for name, kind in ROW_COLUMNS.items()
        }
    found = read(tables.requests_csv([batch]))
    assert list(found[0]) == list(CSV_COLUMNS)
    assert found == [{name: expected(values)[name] for name in CSV_COLUMNS} for values in rows]


def test_batches_follow_one_another_under_one_header():
    """Two batches are one file; an empty one leaves nothing."""
    values = {name: [""] if kind == "str" else [0] for name, kind in ROW_COLUMNS.items()}
    batch = decode_table(encode_table(ROW_COLUMNS, values))
    empty = decode_table(encode_table(ROW_COLUMNS, {name: [] for name in ROW_COLUMNS}))
    text = "".join(tables.requests_csv([batch, empty, batch]))
    assert text.count("\n") == 3 and text.count("seq,") == 1 and text.endswith("\n")


def test_no_rows_leave_a_header():
    """A run that measured nothing still has a file with columns."""
    assert "".join(tables.requests_csv([])) == ",".join(CSV_COLUMNS) + "\n"


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=300))
def test_percentiles_in_one_walk_are_those_of_the_histogram(values):
    """The fast way and the definition agree at each of Locust's percentiles."""
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    fast = tables.times_at(histogram, tables.LOCUST_QUANTILES)
    assert fast == [histogram.quantile(q) for q in tables.LOCUST_QUANTILES]
    assert fast[-1] == max(values)


def made():
    """Rows, windows and summary of one run."""
    rows = examples.rows(examples.LEVELS, 8)
    return rows, examples.windows(rows), examples.shop()


def test_locusts_files_have_its_names_columns_and_line_ends():
    """A tool that reads Locust's CSV reads ours."""
    _, windows, summary = made()
    files = {
        name: "".join(lines)
        for name, lines in tables.locust_csvs(summary, Measurement(windows=windows, events=({"kind": "exception"},)))
    }
    assert {name: text.split("\r\n")[0] for name, text in files.items()} == LOCUST_FILES
    for text in files.values():
        assert text.endswith("\r\n") and text.count("\r\n") == text.count("\n")


def test_locusts_stats_count_and_time_failures_as_locust_does():
    """Requests and percentiles include failures, rows go by name and method, and Aggregated comes last."""
    rows, _, summary = made()
    found = read(tables.locust_stats_csv(summary))
    assert (found[-1]["Type"], found[-1]["Name"]) == ("", "Aggregated")
    labels = [(item["Name"], item["Type"]) for item in found[:-1]]
    assert labels == sorted(labels) and ("/checkout", "POST") in labels
    for item in found[:-1]:
        times = sorted(row[5] for row in rows if row[2] == f"{item['Type']} {item['Name']}")
        assert int(item["Request Count"]) == len(times)
        assert float(item["Min Response Time"]) == pytest.approx(times[0] / 1e6)
        assert float(item["Max Response Time"]) == pytest.approx(times[-1] / 1e6)
        assert float(item["Average Response Time"]) == pytest.approx(sum(times) / len(times) / 1e6)
        for label, q in zip(("50%", "95%", "99%", "100%"), (0.5, 0.95, 0.99, 1.0), strict=True):
            exact = times[max(-(-round(q * 100) * len(times) // 100), 1) - 1] / 1e6
            assert abs(int(item[label]) - exact) <= 0.5 + exact / 1024


def test_locusts_history_is_the_last_ten_seconds_and_the_run_so_far():
    """Each second: rates and percentiles of ten seconds, totals since the start; against a brute-force count."""
    rows, windows, summary = made()
    found = read(tables.locust_history_csv(summary, windows))
    begin = summary.run["clock"]["wall_ns"] // 10**9
    assert [int(item["Timestamp"]) for item in found if item["Name"] == "Aggregated"] == [begin + s for s in range(56)]
    for item in found[:: len(found) // 60]:
        second = int(item["Timestamp"]) - begin
        label = f"{item['Type']} {item['Name']}"
        mine = [row for row in rows if item["Name"] == "Aggregated" or row[2] == label]
        recent = [row for row in mine if second - 9 <= row[0] // 10**9 <= second]
        so_far = sorted(row[5] for row in mine if row[0] // 10**9 <= second)
        failed = [row for row in mine if row[0] // 10**9 <= second and row[3] is not Outcome.OK]
        assert float(item["Requests/s"]) == pytest.approx(len(recent) / min(second + 1, 10), abs=1e-6)
        assert int(item["Total Request Count"]) == len(so_far)
        assert int(item["Total Failure Count"]) == len(failed)
        assert float(item["Total Max Response Time"]) == pytest.approx(so_far[-1] / 1e6)
        middle = so_far[(len(so_far) + 1) // 2 - 1] / 1e6
        assert float(item["Total Median Response Time"]) == pytest.approx(middle, rel=1 / 1000)
        if not recent:
            assert item["95%"] == "N/A"
            continue
        times = sorted(row[5] for row in recent)
        exact = times[max(-(-95 * len(times) // 100), 1) - 1] / 1e6
        assert abs(int(item["95%"]) - exact) <= 0.5 + exact / 1000


def test_locusts_history_ends_with_the_totals_of_its_stats():
    """The last row of each entry and its row in locust_stats.csv tell the same story."""
    _, windows, summary = made()
    stats = {(item["Type"], item["Name"]): item for item in read(tables.locust_stats_csv(summary))}
    last = {(item["Type"], item["Name"]): item for item in read(tables.locust_history_csv(summary, windows))}
    assert set(stats) == set(last)
    for key, item in last.items():
        for name in ("Request Count", "Failure Count", "Median Response Time", "Max Response Time"):
            assert item[f"Total {name}"] == stats[key][name]


def test_what_was_never_sent_is_not_a_request_of_locusts():
    """Not sent and aborted requests have no time; Locust would not have seen them, and the files say N/A."""
    rows = [(0, 0, "GET /", Outcome.NOT_SENT, "client_ports", -1, 0), (1, 0, "GET /", Outcome.ABORTED, "", -1, 0)]
    summary = examples.summary_of(rows, (1,), 2)
    first, total = read(tables.locust_stats_csv(summary))
    assert first["Request Count"] == total["Request Count"] == "0"
    assert first["50%"] == "N/A" and first["Min Response Time"] == "0"
    assert read(tables.locust_failures_csv(summary)) == []


def test_first_and_last_seen_are_utc_and_need_a_clock():
    """As Locust writes them; empty where the run does not say when it began."""
    summary = examples.shop()
    checkout = next(item for item in read(tables.locust_failures_csv(summary)) if item["Name"] == "/checkout")
    assert (checkout["Method"], checkout["Error"]) == ("POST", "status 500")
    assert checkout["First Seen"].startswith("2026-11-23T14:02:5") and checkout["First Seen"].endswith("Z")
    without = replace(summary, run={})
    assert {item["First Seen"] for item in read(tables.locust_failures_csv(without))} == {""}


def test_exceptions_of_user_code_are_counted_by_traceback():
    """Equal ones add up over workers, tracebacks keep their lines, other events are left out."""
    events = [
        {"kind": "exception", "message": "boom", "traceback": "Traceback\n  File x", "count": 2, "worker": "w1"},
        {"kind": "exception", "message": "boom", "traceback": "Traceback\n  File x", "worker": "w0"},
        {"kind": "note", "reason": "x"},
    ]
    (item,) = read(tables.locust_exceptions_csv(events))
    assert item == {"Count": "3", "Message": "boom", "Traceback": "Traceback\n  File x", "Nodes": "w0, w1"}


@pytest.mark.parametrize(
    ("endpoint", "label"),
    [
        ("GET /books/{id}", ("GET", "/books/{id}")),
        ("DELETE /a b", ("DELETE", "/a b")),
        ("checkout", ("", "checkout")),
        ("Search for it", ("", "Search for it")),
        ("GET", ("", "GET")),
        ("WS connect", ("WS", "connect")),
    ],
)
def test_an_endpoint_is_split_into_locusts_type_and_name(endpoint, label):
    """The method is the type where the name begins with one."""
    assert tables.locust_name(endpoint) == label


def test_texts_with_commas_quotes_and_line_ends_come_back_as_one_cell():
    """Quoting is CSV's; line ends are shown."""
    values = {name: [""] if kind == "str" else [0] for name, kind in ROW_COLUMNS.items()}
    batch = {**values, "url": Texts(['/a,b"c\nd'], np.zeros(1, np.uint32)), "error": [" x "]}
    (found,) = read(tables.requests_csv([batch]))
    assert found["url"] == '/a,b"c\\nd' and found["error"] == " x "
