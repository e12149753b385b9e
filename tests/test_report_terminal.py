"""What commands print: the end of a run, and the list of runs."""

import re

import pytest

import report_examples as examples
from surgeline.report import document, terminal


def test_colour_adds_nothing_but_colour():
    """Without its escapes the coloured text is the plain one; each line ends uncoloured."""
    made = document.result_document(examples.shop(), examples.FINDINGS)
    coloured = terminal.render(made, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == terminal.render(made)
    for line in coloured.splitlines():
        assert "\x1b[" not in line or line.rstrip().endswith("\x1b[0m") or line.count("\x1b[0m") >= 1


def test_verdicts_can_be_read_without_colour_and_without_unicode():
    """A mark and a word each: x MISSED, + MET."""
    missed = terminal.render(document.result_document(examples.shop(), []), ascii=True)
    met = terminal.render(document.result_document(examples.shop("p95 < 20s"), []), ascii=True)
    assert missed.startswith("x MISSED ") and met.startswith("+ MET ")
    assert missed.isascii() and met.isascii()


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_prose_keeps_to_the_width(width):
    """Sentences are filled; no number is parted from its unit; the table gives way in its names."""
    made = document.result_document(examples.shop(), examples.FINDINGS)
    text = terminal.render(made, width=width)
    prose = text.split("Endpoints, worst first")[0]
    assert max(map(len, prose.splitlines())) <= width
    assert not re.search(r"\d\n\s+(ms|s|users|%)\b", text)
    if width >= 80:
        assert max(map(len, text.splitlines())) <= width


def test_an_endless_endpoint_table_is_cut_with_a_count():
    """Twelve of forty, the worst."""
    text = terminal.render(document.result_document(examples.wide_shop(), []))
    assert "+28 more in endpoints.csv" in text


# --- runs list -------------------------------------------------------------------------------------------------------


def test_the_list_shows_each_run_in_a_line():
    """Id, when, engine, state, baseline, and the verdict as far as it fits; what is missing is a dash."""
    verdict = {"slo": "missed", "sentence": "Holds 320/s within p95 < 300 ms."}
    entries = [
        {
            "id": "2026-11-23-bookshop-a3f",
            "started_at": "2026-11-23T14:02:11Z",
            "engine": "native",
            "state": "finished",
            "baselines": ["main"],
            "verdict": verdict,
        },
        {"id": "2026-11-23-x-000", "state": "unreadable", "problem": "run.json is damaged"},
    ]
    head, first, second = terminal.render_runs(entries, width=160).splitlines()
    assert head.split() == ["run", "started", "(UTC)", "engine", "state", "baseline", "verdict"]
    assert first == (
        "✗  2026-11-23-bookshop-a3f  2026-11-23 14:02  native  finished    main      Holds 320/s within p95 < 300 ms."
    )
    assert "–" in second and second.endswith("run.json is damaged")
    assert terminal.render_runs(entries, ascii=True).isascii()
    assert max(map(len, terminal.render_runs(entries, width=80).splitlines())) <= 92


def test_an_empty_list_says_how_to_make_a_run():
    """Not an empty table."""
    assert "surgeline demo" in terminal.render_runs([])
