"""Text from targets and files is shown, never obeyed: by a browser, a Markdown reader, a spreadsheet or a terminal."""

import csv
import io
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt

import report_examples as examples
from surgeline.analysis.model import Summary
from surgeline.findings.model import Finding
from surgeline.plan.objective import Objective
from surgeline.report import document, html, page, tables, terminal
from surgeline.report.text import LONGEST_SHOWN, shown
from surgeline.samples import ROW_COLUMNS, Texts

MARKUP = (
    "<script>window.__pwn=1</script>",
    "<img src=x onerror=window.__pwn=1>",
    "<svg onload=window.__pwn=1>",
    "<svg><script>window.__pwn=1</script></svg>",
    '"><script>window.__pwn=1</script>',
    "'><script>window.__pwn=1</script>",
    "</title><script>window.__pwn=1</script>",
    "</style><script>window.__pwn=1</script>",
    "</svg><script>window.__pwn=1</script>",
    "</desc></svg><img src=x onerror=window.__pwn=1>",
    "--><script>window.__pwn=1</script>",
    "]]><script>window.__pwn=1</script>",
    '" onmouseover="window.__pwn=1',
    "' onfocus='window.__pwn=1' autofocus='",
    "<a href=javascript:window.__pwn=1>x</a>",
    "<iframe srcdoc='<script>parent.__pwn=1</script>'>",
    "<math><mtext></mtext><script>window.__pwn=1</script></math>",
    "<details open ontoggle=window.__pwn=1>",
    "<base href=//evil.test/>",
    "<meta http-equiv=refresh content=0;url=//evil.test>",
    "<link rel=stylesheet href=//evil.test/x.css>",
    "<form action=//evil.test><input type=submit>",
    "<object data=//evil.test>",
    "&lt;script&gt;window.__pwn=1&lt;/script&gt;",
    "&#60;script&#62;",
    "{{ 7*7 }}{% for x in y %}",
    "${7*7} #{7*7}",
    "[x](javascript:window.__pwn=1)",
    "![x](//evil.test/x.png)",
    "[x]: javascript:window.__pwn=1",
    "<javascript:window.__pwn=1>",
    "<https://evil.test>",
    "https://evil.test/?a=1 www.evil.test",
    "`</code><script>window.__pwn=1</script>`",
    "| a | b |\n|---|---|",
    "# heading\n\n- item\n\n    code",
    "*a* **b** _c_ ~~d~~ ***",
    "\x1b[2J\x1b]0;title\x07\x1b[31mred",
    "\u202egnp.exe\u2066\u200b\ufeff\U000e0041",
    "line\r\n[FATAL] forged\rover\x08\x00" + "A" * 5000,
)

FORMULAS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "|calc",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\xa0=1+1",
    "\u3000=1+1",
    "   \t =1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://evil.test","x")',
    '"=1+1',
    "',=1+1",
    "=1+1,=2+2",
    "x\n=1+1",
    "x\r\n=1+1",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(1)",
    "=\x00cmd",
    "\x00=cmd",
    "\ufeff=1+1",
    "\u200b=1+1",
    "\x1b=1+1",
    ";=1+1",
    "-2+3+cmd|' /C calc'!D2",
)
BEGINNINGS = tuple("=+-@|\t\r＝＋－＠")


@cache
def base() -> Summary:
    """A small run with errors, to hang hostile texts into."""
    levels = (16, 64)
    return examples.summary_of(examples.rows(levels, 4), levels, 4, "p95 < 300ms")


def with_text(text: str) -> tuple[Summary, list[Finding]]:
    """The small run with a text wherever a text of others may stand."""
    summary = examples.with_names(base(), {"GET /books": text})
    run = {
        **examples.RUN,
        "name": text,
        "subject": {"kind": text, "plan": {"target": text, "hash": text}},
        "source": {"kind": text, "location": text},
        "engine": text,
        "environment": {text: {text: [text]}},
        "git": {"commit": text, "branch": text},
        "ended": {"at_ns": 1, "reason": text},
    }
    result = replace(
        summary.objectives[0], objective=Objective(text, text, "quantile", 3e8, 0.95), reason=text, first_missed_stage=1
    )
    stages = tuple(replace(stage, name=text, validity_reasons=(text,)) for stage in summary.stages)
    summary = replace(
        summary,
        run=run,
        stages=stages,
        objectives=(*summary.objectives, result),
        errors=tuple(replace(group, kind=text) for group in summary.errors),
        validity="degraded",
        validity_reasons=(text,),
        books=(text,),
    )
    kept = {"endpoint": text, "request": {"method": text, "url": text}, "at_ns": 1, "response_ns": 2}
    answer = {"status": 500, "headers": [["Server", text], [text, text]], "body_head": text, "body_bytes": 3}
    exchanges = ({**kept, "answer": answer, "error": text}, {**kept, "answer": answer, "error": None})
    summary = replace(examples.with_transactions(summary), exchanges=exchanges)
    summary = replace(summary, transactions=tuple(replace(item, name=text) for item in summary.transactions))
    finding = Finding(text, "failed", text, "high", text, 3, ({text: text, "x_ns": text},), text, 1.0)
    return summary, [finding, replace(finding, kind="well"), replace(finding, kind="explore")]


@cache
def made_of(text: str):
    """The document of the run with that text."""
    return document.result_document(*with_text(text))


class Tags(HTMLParser):
    """Counts tags with the names of their attributes, and keeps the addresses they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen[tag, tuple(sorted(name for name, _ in attrs if name != "class"))] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]


def tags(markup: str) -> Tags:
    """The tags of some HTML."""
    parser = Tags()
    parser.feed(markup)
    return parser


@cache
def harmless() -> Tags:
    """The tags of the report with a name that means nothing."""
    return tags(html.render(made_of("GET /books x")))


@pytest.mark.parametrize("number", range(len(MARKUP)))
def test_html_has_the_tags_it_has_without_the_payload(number):
    """Tag by tag and attribute by attribute the report is that of a harmless name; nothing points outside."""
    markup = html.render(made_of(MARKUP[number]))
    found = tags(markup)
    assert found.seen == harmless().seen
    assert all(address.startswith("#") for address in found.addresses)
    assert found.seen["script", ()] == 0
    assert "\x1b" not in markup and "\u202e" not in markup and "\x00" not in markup


def test_the_report_forbids_everything_but_its_own_style():
    """The policy in the page lets nothing load, run or submit, and pins the style sheet by its hash."""
    markup = html.render(made_of("x"))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', markup)
    assert policy.startswith("default-src &#39;none&#39;; style-src &#39;sha256-")
    assert "unsafe" not in policy
    assert "style=" not in re.sub(r"<style>.*?</style>", "", markup, flags=re.S)
    assert not re.search(r"url\((?!#)", markup)


@cache
def reader() -> MarkdownIt:
    """A CommonMark reader with the tables and strike-through of GitHub."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def kinds(text: str) -> list[str]:
    """What a Markdown reader takes a page for, without how often plain text was cut up."""
    found = []
    for token in reader().parse(text):
        found += [
            token.type,
            *(child.type for child in token.children or () if child.type not in ("text", "text_special")),
        ]
    return found


@pytest.mark.parametrize("number", range(len(MARKUP)))
def test_markdown_has_the_structure_it_has_without_the_payload(number, monkeypatch):
    """No tag, link, picture, heading, emphasis or cell of its own, on a sheet long enough that nothing gives way."""
    monkeypatch.setattr(page, "LINES", 10**6)
    found = kinds(page.render(made_of(MARKUP[number])))
    assert not {"html_inline", "html_block", "link_open", "image"} & set(found)
    assert found == kinds(page.render(made_of("GET /books x")))


@pytest.mark.parametrize("text", MARKUP)
def test_a_terminal_gets_no_control_character(text):
    """Nothing but line ends of ours, and with colour our own colour codes; every line is bounded."""
    made = made_of(text)
    assert all(char == "\n" or char.isprintable() for char in terminal.render(made))
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", terminal.render(made, colour=True))
    assert coloured == terminal.render(made)
    assert terminal.render(made, ascii=True).isascii()
    assert max(map(len, terminal.render(made).splitlines())) < 300
    listed = terminal.render_runs([{"id": text, "state": text, "engine": text, "baselines": [text], "verdict": text}])
    assert all(char == "\n" or char.isprintable() for char in listed)


@pytest.mark.parametrize("text", MARKUP)
def test_a_shown_text_is_one_bounded_line_and_stays_the_same_when_shown_again(text):
    """Escaping twice is escaping once, so it can be done wherever a text enters or leaves."""
    once = shown(text)
    assert len(once) <= LONGEST_SHOWN and shown(once) == once
    assert once.isprintable()


def cells_of(lines) -> list[str]:
    """Every cell of a CSV."""
    return [value for row in csv.reader(io.StringIO("".join(lines), newline="")) for value in row]


def rows_with(text: str):
    """One row with a text in every column of texts."""
    columns = {}
    for name, kind in ROW_COLUMNS.items():
        columns[name] = Texts([text], np.zeros(1, np.uint32)) if kind == "str" else np.zeros(1, np.int64)
    return [columns]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_any_csv_is_a_formula(text):
    """Neither at its beginning, nor after spaces, nor behind a separator or a line end within it."""
    summary, _ = with_text(text)
    made = [
        tables.endpoints_csv(summary),
        tables.timeline_csv(summary),
        tables.requests_csv(rows_with(text)),
        tables.locust_stats_csv(summary),
        tables.locust_failures_csv(summary),
        tables.locust_exceptions_csv([{"kind": "exception", "message": text, "traceback": text, "worker": text}]),
    ]
    for lines in made:
        for cell in cells_of(lines):
            for line in cell.splitlines() or [""]:
                bare = line.strip().lstrip("\xa0\u3000")
                is_number = re.fullmatch(r"-?\d+(\.\d+)?", bare)
                assert is_number or not bare.startswith(BEGINNINGS), (text, cell)


def test_numbers_stay_numbers():
    """A negative number is no formula and gets no apostrophe."""
    columns = rows_with("x")[0]
    columns["intended_ns"] = np.array([5_000_000])
    columns["start_ns"] = np.array([4_999_001])
    columns["end_ns"] = np.array([9_000_000])
    (row,) = csv.DictReader(io.StringIO("".join(tables.requests_csv([columns]))))
    assert row["lag_us"] == "-0.999"
    assert row["response_us"] == "4000.000"


def test_a_megabyte_of_error_text_costs_200_characters():
    """A target that answers with a novel does not fill the page."""
    summary = replace(base(), errors=tuple(replace(group, kind="boo " * 250_000) for group in base().errors))
    made = document.result_document(summary, [])
    assert len(document.dump(made)) < 200_000
    assert all(len(item["kind"]) == LONGEST_SHOWN for item in made["errors"])
