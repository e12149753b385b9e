"""Every form of a run shows the same numbers: those of the document, printed by units."""

import csv
import html as stdlib_html
import io
import re

import pytest

import report_examples as examples
from surgeline import units
from surgeline.report import cells, document, html, page, tables, terminal
from surgeline.samples import Outcome

RUNS = {
    "shop": examples.shop,
    "no objectives": lambda: examples.shop(""),
    "open": examples.open_shop,
    "one load": examples.one_load,
    "invalid": examples.invalid_shop,
    "dead": examples.dead_target,
    "wide": examples.wide_shop,
}


@pytest.fixture(params=RUNS)
def summary(request):
    """One of the runs."""
    return RUNS[request.param]()


def plain(markup: str) -> str:
    """What a reader of the HTML sees, as text with single spaces."""
    text = re.sub(r"<(style|svg)\b.*?</\1>", " ", markup, flags=re.S)
    return re.sub(r"\s+", " ", stdlib_html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("\xa0", " "))


def rows_of(lines):
    """A CSV as a list of dictionaries."""
    return list(csv.DictReader(io.StringIO("".join(lines))))


def table_rows(made):
    """The rows of the endpoint table in Markdown, terminal and HTML, each as a list of cells."""
    markdown = page.render(made).partition("worst first")[2].partition("##")[0]
    yield [[cell.strip() for cell in line.strip("|").split(" | ")] for line in markdown.splitlines() if "|" in line][2:]
    shown = terminal.render(made, width=220).partition("worst first")[2].partition("\n\n")[0]
    yield [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines() if line.strip()][1:]
    markup = re.sub(r'<t[dh][^>]* class="picture".*?</t[dh]>', "", html.render(made), flags=re.S)
    table = re.search(
        r'<table class="rank figures">.*?</table>', re.sub(r"<svg.*?</svg>", "", markup, flags=re.S), re.S
    )
    body = re.findall(r"<tr.*?</tr>", table[0], re.S)[1:]
    yield [[plain(cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)] for row in body]


def test_counts_and_percentiles_read_the_same_in_every_form(summary):
    """For each endpoint of the page: due, p50, p95, p99 and errors stand in one row of Markdown, HTML and terminal,
    each with its interval, or in its place why there is none.
    """
    made = document.result_document(summary, examples.FINDINGS[:1])
    endpoints = made["endpoints"][: cells.MOST_ROWS]
    for rows in table_rows(made):
        # What stands below the table is one sentence, in one cell.
        held = [row for row in rows if len(row) > 2]
        assert len(held) == len(endpoints)
        for endpoint, row in zip(endpoints, held, strict=True):
            response = endpoint["response"]
            figures = [
                units.format_count(endpoint["tally"]["due"]),
                *(cells.with_interval(response[name]) for name in ("p50", "p95", "p99")),
                cells.errors(endpoint, True),
            ]
            for name, text in zip(("p50", "p95", "p99"), figures[1:4], strict=True):
                assert text == (response[name]["brief"] or "–") or re.fullmatch(r"[\d.,]+ \w+ \[[^]]+\]", text)
            text = " | ".join(row).replace("✗ | ", "").replace("✓ | ", "").replace("? | ", "")
            name, *shown = text.split(" | ")
            assert name.lstrip("✗✓? ") == endpoint["name"]
            assert shown[:5] == figures


def test_the_books_read_the_same_in_every_form(summary):
    """Due, ok and each kind of wrong: one line, the same in all three."""
    made = document.result_document(summary, [])
    for part in cells.books(made):
        assert part in page.render(made)
        assert part in plain(html.render(made))
        assert part in re.sub(r"\s+", " ", terminal.render(made))


def test_the_verdict_reads_the_same_in_every_form(summary):
    """Word for word."""
    made = document.result_document(summary, [])
    sentence = made["verdict"]["sentence"]
    assert page.escaped(sentence) in page.render(made)
    assert sentence in plain(html.render(made))
    assert sentence in re.sub(r"\s+", " ", terminal.render(made))


def test_csv_files_add_up_to_the_totals_of_the_document(summary):
    """endpoints.csv, timeline.csv and Locust's files count what the document counts."""
    made = document.result_document(summary, [])
    tally = made["totals"]["tally"]
    endpoints = rows_of(tables.endpoints_csv(summary))
    whole = [row for row in endpoints if row["stage"] == "" and row["endpoint"] != "all endpoints"]
    stages = [row for row in endpoints if row["endpoint"] == "all endpoints" and row["stage"]]
    seconds = rows_of(tables.timeline_csv(summary))
    for key in ("due", "sent", "ok", "failure", "error", "timeout", "not_sent", "aborted"):
        assert sum(int(row[key]) for row in whole) == tally[key]
        assert sum(int(row[key]) for row in stages) == tally[key]
        assert sum(int(row[key]) for row in seconds) == tally[key]
    assert endpoints[0]["due"] == str(tally["due"])
    locust = rows_of(tables.locust_stats_csv(summary))
    assert int(locust[-1]["Request Count"]) == tally["ok"] + tally["failure"] + tally["error"] + tally["timeout"]
    assert int(locust[-1]["Failure Count"]) == tally["failure"] + tally["error"] + tally["timeout"]
    failures = rows_of(tables.locust_failures_csv(summary))
    assert sum(int(row["Occurrences"]) for row in failures) == int(locust[-1]["Failure Count"])


def test_percentiles_in_endpoints_csv_are_those_of_the_document_to_the_nanosecond(summary):
    """Milliseconds with six decimals lose nothing."""
    made = document.result_document(summary, [])
    rows = {(row["endpoint"], row["stage"]): row for row in rows_of(tables.endpoints_csv(summary))}
    for endpoint in made["endpoints"]:
        for name in ("p50", "p95", "p99"):
            cell = rows[endpoint["name"], ""][f"response_{name}_ms"]
            value = endpoint["response"][name]["value"]
            assert (cell == "" and value is None) or round(float(cell) * 1e6) == value
            for part in endpoint["stages"]:
                cell = rows[endpoint["name"], str(part["stage"])][f"response_{name}_ms"]
                value = part["response"][name]["value"]
                assert (cell == "" and value is None) or round(float(cell) * 1e6) == value


def test_the_timeline_adds_up_whatever_the_width_of_its_buckets():
    """Twenty minutes in buckets of two seconds count what 1,200 seconds count, and keep their greatest times."""
    summary = examples.long_run()
    made = document.timeline(summary.seconds)
    assert made["bucket_s"] == 2 and len(made["second"]) == 600
    assert sum(made["due"]) == summary.total.tally.due
    for outcome in Outcome:
        assert sum(made[outcome.name.lower()]) == sum(second.outcomes.get(outcome, 0) for second in summary.seconds)
    assert max(made["max_ns"]) == max(second.max_ns for second in summary.seconds if second.max_ns)
    assert len({len(column) for column in made.values() if isinstance(column, list)}) == 1


def test_a_long_run_stays_below_a_megabyte():
    """The report of twenty minutes, and of forty endpoints, is one a mail server takes."""
    for summary in (examples.long_run(), examples.wide_shop()):
        assert len(html.render(document.result_document(summary, examples.FINDINGS * 3)).encode()) < 1_000_000


def test_what_was_not_measured_says_why_in_its_place():
    """39 requests have no p95: no zero, no guess, and the reason within reach."""
    made = document.result_document(examples.shop(), [])
    report = next(item for item in made["endpoints"] if item["name"] == "GET /reports/sales")
    assert report["response"]["p95"] == {
        "value": None,
        "low": None,
        "high": None,
        "n": 39,
        "n_eff": None,
        "why_not": "39 samples, p95 needs 60",
        "brief": "needs 60",
    }
    said = html.render(made).replace("\xa0", " ")
    assert '<span class="absent" title="39 samples, p95 needs 60">needs 60</span>' in said
