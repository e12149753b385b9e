"""What commands print: the end of a run, two runs side by side, the list of runs."""

import re
from dataclasses import replace

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


# --- comparison ------------------------------------------------------------------------------------------------------


def slower(factor: float):
    """The shop with every answer slower by a factor."""
    made = [(*row[:5], round(row[5] * factor), row[6]) for row in examples.rows(examples.LEVELS, 8)]
    return examples.summary_of(made, examples.LEVELS, 8, "p95 < 300ms, errors < 1%")


def test_a_run_against_itself_shows_no_change():
    """Every change is ±0, nothing regressed, nothing improved."""
    made = document.comparison_document(examples.shop(), examples.shop(), "main", "last")
    assert made["comparable"] and made["design"] == "same"
    assert "the same run on both sides" in made["sentence"]
    assert made["counts"]["regressed"] == made["counts"]["improved"] == 0
    assert {row["p95"]["change"] for row in made["rows"]} <= {0.0, None}
    assert "±0 %" in terminal.render_comparison(made)


def test_a_slow_candidate_regressed_and_a_fast_one_improved_indicatively():
    """Twice as slow is said in a word, with the mark; swapping the sides flips it."""
    made = document.comparison_document(examples.shop(), slower(2.0), "main", "last")
    assert made["word"] == "regressed" and made["rows"][0]["name"] == "all endpoints"
    text = terminal.render_comparison(made)
    assert "regressed, indicative" in text and "✗ regressed" in text and "Indicative: one run on each side" in text
    swapped = document.comparison_document(slower(2.0), examples.shop(), "last", "main")
    assert swapped["word"] == "improved"


def test_p50_and_p95_of_both_sides_stand_side_by_side():
    """The numbers are those of the two summaries."""
    base, candidate = examples.shop(), slower(2.0)
    text = terminal.render_comparison(document.comparison_document(base, candidate, "main", "last"))
    line = next(line for line in text.splitlines() if line.strip().startswith("all endpoints"))
    assert re.search(r"28\.2 ms\s+56\.4 ms\s+258 ms\s+51[56] ms\s+\+100 %", line)


def test_regressed_rows_come_first_then_by_change():
    """After everything together."""
    made = document.comparison_document(examples.shop(), slower(2.0))
    words = [row["word"] for row in made["rows"][1:]]
    assert words == sorted(words, key=["regressed", "improved", "inconclusive", "unchanged", None].index)


def test_unlike_runs_get_no_word_and_the_reason():
    """Another plan is another thing: numbers yes, verdict no."""
    other = replace(examples.shop(), run={**examples.RUN, "subject": {"kind": "plan", "plan": {}, "hash": "other"}})
    made = document.comparison_document(examples.shop(), other)
    assert not made["comparable"] and made["obstacles"] and made["word"] is None
    assert {row["word"] for row in made["rows"]} == {None}
    assert "not comparable" in made["sentence"]
    assert "✗ not comparable: " in terminal.render_comparison(made)


def test_endpoints_of_one_side_only_are_named():
    """They are not compared, and not forgotten."""
    renamed = examples.with_names(examples.shop(), {"GET /books": "GET /tomes"})
    made = document.comparison_document(examples.shop(), renamed, "main", "last")
    assert "GET /books is only in main" in made["differences"]
    assert "GET /tomes is only in last" in made["differences"]


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
