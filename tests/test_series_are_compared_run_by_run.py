"""Series against series: what changed is found and where it sits, luck gets no word, and unlike things are refused."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from series_examples import MACHINE, a_run, a_side
from surgeline.analysis.compare import BudgetError, Budgets, Noise, compare_runs, sentence
from surgeline.analysis.figures import ALL, RunFigures, Seen
from surgeline.analysis.model import Change, Comparison
from surgeline.report import comparison_page, comparison_text
from surgeline.report.comparison import SCHEMA, Attempts, comparison_document
from surgeline.report.document import dump


def _row(found: Comparison, metric: str, endpoint: str = ALL) -> Change:
    return next(c for c in found.changes if (c.metric, c.endpoint) == (metric, endpoint))


def _words(found: Comparison) -> dict[tuple[str, str], Any]:
    return {(change.endpoint, change.metric): change.word for change in found.changes}


def test_a_series_against_itself_is_unchanged_everywhere():
    """Every figure: no change, certainly; whatever its noise."""
    runs = a_side("a", noise=0.2)
    found = compare_runs(runs, runs)
    assert set(_words(found).values()) == {"unchanged"}
    assert {change.change for change in found.changes} == {0.0}
    assert found.gate == "passed"
    copied = [RunFigures.parse(json.loads(json.dumps(run.as_dict()))) for run in reversed(runs)]
    assert compare_runs(runs, copied).design == "same"


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("seed", range(20, 120, 20))
def test_swapping_the_sides_mirrors_every_word(paired: bool, seed: int):
    """Regressed becomes improved, changes invert, intervals mirror; also with budgets in milliseconds."""
    group = "g" if paired else None
    base = a_side("a", 6, seed, group, factor=0.02)
    candidate = a_side("b", 6, seed + 50, group, factor=0.022)
    there, back = compare_runs(base, candidate), compare_runs(candidate, base)
    mirror = {"regressed": "improved", "improved": "regressed"}
    assert there.design == ("paired" if paired else "separate")
    for one in there.changes:
        other = _row(back, one.metric, one.endpoint)
        assert other.word == mirror.get(str(one.word), one.word)
        assert one.change is not None and other.change is not None and one.low is not None and other.high is not None
        if one.metric == "errors":
            assert one.change == pytest.approx(-other.change)
        else:
            assert (1 + one.change) * (1 + other.change) == pytest.approx(1.0)
            assert (1 + one.low) * (1 + other.high) == pytest.approx(1.0)


def test_ten_percent_slower_is_found_and_named():
    """One endpoint of two, five runs a side: regressed there, not elsewhere, and the gate fails on it."""
    slower = lambda name, times: times * (1.15 if name == "POST /b" else 1.0)  # noqa: E731 - one expression
    found = compare_runs(a_side("a"), a_side("b", first_seed=30, change=slower))
    assert _row(found, "p95", "POST /b").word == "regressed"
    assert _row(found, "p50", "POST /b").word == "regressed"
    assert _row(found, "p95", "GET /a").word in ("unchanged", "inconclusive")
    assert [(c.endpoint, c.metric) for c in found.changes if c.gate == "failed"] == [("POST /b", "p95")]
    assert found.gate == "failed"
    assert not found.indicative


def test_a_transaction_is_compared_and_gated_as_an_endpoint_is_and_is_part_of_no_total():
    """Slower by 15 %: regressed and the gate fails on it alone; requests are counted without it, a baseline's file
    keeps it, and one side that has none, as files of before, is no difference.
    """
    slower = lambda name, times: times * (1.15 if name == "checkout" else 1.0)  # noqa: E731 - one expression
    base, candidate = (
        a_side("a", together=["checkout"]),
        a_side("b", first_seed=30, change=slower, together=["checkout"]),
    )
    found = compare_runs(base, candidate)
    row = _row(found, "p95", "checkout")
    assert (row.word, row.together, row.gate) == ("regressed", True, "failed")
    assert row.low is not None and row.high is not None and row.low < 0.15 < row.high
    assert [(c.endpoint, c.metric) for c in found.changes if c.gate == "failed"] == [("checkout", "p95")]
    assert {c.endpoint for c in found.changes if c.together} == {"checkout"}
    assert base[0].tally(None, frozenset({0}))[0] == 6000
    assert base[0].transactions == ("checkout",) and "checkout" not in base[0].endpoints
    kept = [RunFigures.parse(json.loads(json.dumps(run.as_dict()))) for run in base]
    assert compare_runs(kept, candidate).changes == found.changes
    document = comparison_document(found)
    jsonschema.validate(document, SCHEMA)
    assert {c["endpoint"] for c in document["changes"] if c["together"]} == {"checkout"}
    assert "checkout" in comparison_text.render(document)
    assert "checkout" in comparison_page.render(document)
    before = [dataclasses.replace(run, together=()) for run in base]
    old = compare_runs(before, candidate)
    assert "checkout" not in {c.endpoint for c in old.changes} and old.only_candidate == ()


def test_interleaved_blocks_are_paired_by_block_and_lose_incomplete_ones():
    """Noise that a block's two runs share does not count; a block with one run is left out, and that is said."""
    moods = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2]
    base = [a_run(f"a{i}", i, m, 0.01, series=_place("a", i)) for i, m in enumerate(moods)]
    candidate = [a_run(f"b{i}", 50 + i, m * 1.1, 0.01, series=_place("b", i)) for i, m in enumerate(moods)]
    found = compare_runs(base, candidate[:5])
    assert found.design == "paired"
    assert len(found.base_runs) == 5
    assert "1 of the blocks" in found.cautions[0]
    assert _row(found, "p95").word == "regressed"
    loose = [dataclasses.replace(run, meta={**run.meta, "series": None}) for run in base]
    assert _row(compare_runs(loose, candidate), "p95").word == "inconclusive"
    assert "interleaved" in found.order


def _place(side: str, block: int) -> dict[str, Any]:
    return {"group": "g", "side": side, "block": block, "order": 2 * block + (side == "b")}


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda name, t: t * 1.15, "even"),
        (lambda name, t: t * (t / np.quantile(t, 0.05)) ** 0.3, "grows"),
        (lambda name, t: np.where(t > np.quantile(t, 0.97), t * 2.5, t), "tail"),
        (lambda name, t: np.where(t < np.quantile(t, 0.3), t * 0.5, t), "fast"),
    ],
)
def test_the_shift_says_where_the_change_sits(change: Any, pattern: str):
    """Every request, waiting, the slowest, the fastest: each is read for what it is."""
    base = a_side("a", 7, noise=0.003, count=8000)
    candidate = a_side("b", 7, 40, noise=0.003, count=8000, change=change)
    shift = next(s for s in compare_runs(base, candidate).shifts if s.endpoint == ALL)
    assert shift.pattern == pattern, shift.sentence
    assert all(low <= middle <= high for low, middle, high in zip(shift.low, shift.change, shift.high, strict=True))


def test_fewer_than_five_runs_are_indicative():
    """Three a side get words with the mark, five get them without."""
    assert compare_runs(a_side("a", 3), a_side("b", 3, 40)).indicative
    assert not compare_runs(a_side("a", 5), a_side("b", 5, 40)).indicative


def test_a_single_run_is_held_against_what_is_known_of_noise():
    """Assumed 4 %: +12 % is unsure. Learned 1 %: it regressed. Five runs on the other side: they show the noise."""
    one, worse = a_run(seed=1, noise=0.0), a_run("w", 2, 1.12, 0.0)
    assert _row(compare_runs([one], [worse]), "p95").word == "inconclusive"
    learned = compare_runs([one], [worse], {"p95": Noise(0.01, 9, learned=True)})
    assert _row(learned, "p95").word == "regressed"
    assert learned.indicative
    against_many = compare_runs(a_side("a", 6, noise=0.005), [worse])
    assert _row(against_many, "p95").word == "regressed"
    assert against_many.indicative


MACHINE_2 = {**MACHINE, "cpu": "another"}


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"subject": {"kind": "plan", "hash": "other"}}, "same plan"),
        ({"stages": [{"model": "open", "from": 200.0, "to": 200.0, "duration_ns": 10**10}]}, "loads differ"),
        ({"engine": "locust"}, "locust"),
        ({"environment": {"machine": MACHINE_2, "generator_shares_machine": False}}, "machine differs"),
        ({"environment": {"machine": MACHINE, "generator_shares_machine": True}}, "shared the server's machine"),
        ({"ended": {"at_ns": -5 * 10**9, "reason": ""}}, "clock went backwards"),
    ],
)
def test_unlike_series_get_no_word_and_the_reason(meta: dict[str, Any], reason: str):
    """One unlike run among five is enough."""
    candidate = [*a_side("b", 4, 40), a_run("odd", 50, **meta)]
    found = compare_runs(a_side("a"), candidate)
    assert not found.comparable
    assert any(reason in clause for clause in found.unlike), found.unlike
    assert {change.word for change in found.changes} == {None}
    assert found.gate == ""


def test_invalid_empty_and_overlapping_sides_are_refused():
    """A run the generator spoiled, a run without a request, a run on both sides."""
    good = a_side("a")
    invalid = dataclasses.replace(good[0], validity="invalid", reasons=("late",))
    empty = dataclasses.replace(good[0], cells=())
    for odd, words in ((invalid, "invalid: late"), (empty, "no request")):
        found = compare_runs(good, [odd, *a_side("b", 4, 40)])
        assert any(words in clause for clause in found.unlike), found.unlike
    assert any("both sides" in clause for clause in compare_runs(good, [good[0], *a_side("b", 4, 40)]).unlike)


def test_where_a_plan_tests_and_what_it_is_called_may_differ():
    """Another port, another name, other objectives, another seed: the same thing was tested."""
    from surgeline.analysis.figures import meta_of

    plan = {"target": "http://a", "name": "x", "slo": ["p95 < 1s"], "scenarios": {"s": {}}, "workload": {"seed": 1}}
    other = {"target": "http://b", "name": "y", "slo": [], "scenarios": {"s": {}}, "workload": {"seed": 2}}
    third = {**plan, "scenarios": {"s": {"weight": 2}}}
    likes = [meta_of({"subject": {"kind": "plan", "plan": p, "hash": str(i)}})["subject"]["like"]
             for i, p in enumerate((plan, other, third))]  # fmt: skip
    assert likes[0] == likes[1] != likes[2]


def test_an_endpoint_on_one_side_only_is_named_and_not_compared():
    """Listed, no row."""
    found = compare_runs(a_side("a"), a_side("b", 5, 40, endpoints=("GET /a", "GET /new")))
    assert (found.only_base, found.only_candidate) == (("POST /b",), ("GET /new",))
    assert {change.endpoint for change in found.changes} == {ALL, "GET /a"}


def test_too_few_samples_for_a_percentile_are_said():
    """p99 of a hundred requests is not compared; p50 is."""
    found = compare_runs(a_side("a", count=100), a_side("b", 5, 40, count=100))
    assert _row(found, "p99").word is None
    assert "too few samples" in _row(found, "p99").reason
    assert _row(found, "p50").word is not None
    # What was not measured does not pass a gate that looks at it.
    gated = compare_runs(a_side("a", count=100), a_side("b", 5, 40, count=100), budgets=Budgets.parse("p99:5%"))
    assert gated.gate == "inconclusive"
    assert {c.gate for c in gated.changes if c.metric == "p99" and c.endpoint != ALL} == {"inconclusive"}


def test_errors_are_compared_in_points_and_no_error_passes_the_gate():
    """From none to 2 % regressed; none on both sides does not hold a gate up."""
    worse = compare_runs(a_side("a"), a_side("b", 5, 40, errors=0.02))
    assert _row(worse, "errors").word == "regressed"
    assert _row(worse, "errors").change == pytest.approx(0.02)
    assert {
        c.gate for c in compare_runs(a_side("a"), a_side("b", 5, 40)).changes if c.metric == "errors" and c.gate
    } == {"passed"}


def _search(name: str, rate: float | None, **meta: Any) -> RunFigures:
    run = a_run(name, stages=[{"model": "open", "from": rate, "to": rate, "duration_ns": 1}], **meta)
    span = None if rate is None else (rate * 0.95, rate * 1.03)
    return dataclasses.replace(run, searched=True, capacity_per_s=rate, capacity_span=span)


def test_searches_for_capacity_are_compared_by_their_capacity_alone():
    """340/s to 290/s regressed and fails the gate; other objectives, an open end or a plain run give no word."""
    base = [_search(f"a{i}", rate) for i, rate in enumerate((341.0, 338.0, 345.0, 340.0, 343.0))]
    worse = [_search(f"b{i}", rate) for i, rate in enumerate((291.0, 288.0, 295.0, 290.0, 293.0))]
    found = compare_runs(base, worse)
    assert [(c.metric, c.word, c.gate) for c in found.changes] == [("capacity", "regressed", "failed")]
    assert found.changes[0].change == pytest.approx(-0.147, abs=0.01)
    assert (found.word, found.gate) == ("regressed", "failed")
    single = compare_runs(base[:1], worse[:1])
    assert single.changes[0].word == "inconclusive"
    made = comparison_document(found, base, worse)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(dump(made)))
    assert "291/s instead of 341/s" in made["sentence"]
    assert "capacity" in comparison_text.render(made)
    for odd, words in (
        ([_search("o", 300.0, slo=["p95 < 1s"])], "other objectives"),
        ([_search("o", None)], "no limit"),
        ([a_run("o")], "search for capacity"),
    ):
        refused = compare_runs(base, odd)
        assert any(words in clause for clause in refused.unlike)
        assert not refused.comparable


def test_findings_are_new_gone_or_persisting_by_what_most_runs_say():
    """A finding of two runs in five is luck."""
    seen = [Seen(rule, "failed", None, rule) for rule in ("old", "both", "new", "rare")]
    base = a_side("a", findings=[seen[0], seen[1]])
    candidate = a_side("b", 5, 40, findings=[seen[1], seen[2]])
    candidate[:2] = a_side("b", 2, 40, findings=[seen[1], seen[2], seen[3]])
    states = {(f.rule, f.state) for f in compare_runs(base, candidate).findings}
    assert states == {("old", "gone"), ("both", "persisting"), ("new", "new")}


def test_the_line_is_cited_only_where_the_verdict_carries_it():
    """Improved by enough runs: the line, with its interval in order; else none."""
    base, better = a_side("a", factor=2.5), a_side("b", 5, 40)
    found = compare_runs(base, better)
    line = sentence(found, "POST /b")
    assert line is not None
    assert line.startswith("Cut p95 of POST /b from ")
    assert " at 300 requests/s" in line
    assert "95 % CI -5" in line or "95 % CI -6" in line
    assert sentence(compare_runs(better, base)) is None
    assert sentence(compare_runs(base[:3], better[:3])) is None
    assert sentence(compare_runs(base, a_side("b", 5, 40, engine="locust"))) is None


@pytest.mark.parametrize(
    "text", ["", "p95", "p95:5", "p95:5pp", "errors:1%", "p42:5%", "p95:-0%", "p95:99999%", "x" * 999]
)
def test_wrong_budgets_are_refused_with_a_right_example(text: str):
    """One sentence."""
    with pytest.raises(BudgetError, match=r"write for example|more than 0|at least one"):
        Budgets.parse(text)


def test_budgets_say_what_the_gate_looks_at():
    """p99 only, 50 %: a change of 15 %, less than half of it, passes."""
    budgets = Budgets.parse("p99:+50%")
    slower = a_side("b", 7, 40, factor=1.15)
    found = compare_runs(a_side("a", 7), slower, budgets=budgets)
    assert {c.metric for c in found.changes if c.gate} == {"p99"}
    assert found.gate == "passed"


def test_figures_survive_their_file():
    """What is written as JSON reads back equal; what is not figures is refused with a reason."""
    run = a_run(errors=0.01, findings=[Seen("r", "failed", "GET /a", "said")])
    raw = json.loads(json.dumps(run.as_dict()))
    assert RunFigures.parse(raw).key == run.key
    assert RunFigures.parse(raw).as_dict() == raw
    for broken in ({}, [], None, {**raw, "format": 99}, {**raw, "cells": [{}]}, {**raw, "cells": 3}):
        with pytest.raises(ValueError):
            RunFigures.parse(broken)
    cell = {**raw["cells"][0], "bad": 10**9}
    with pytest.raises(ValueError, match="add up"):
        RunFigures.parse({**raw, "cells": [cell]})


def _document(attempts: Attempts | None = None, **more: Any) -> dict[str, Any]:
    base, candidate = a_side("a"), a_side("b", 5, 40, factor=1.2, **more)
    return comparison_document(compare_runs(base, candidate), base, candidate, "main", "last", attempts)


def test_the_document_keeps_its_schema_and_its_bytes():
    """Comparable or not, of one run or many; the same input gives the same text."""
    hostile = "GET /<script>|`\x1b[31m"
    for made in (
        _document(),
        _document(engine="locust"),
        _document(Attempts(3, ("failed", "failed"))),
        comparison_document(compare_runs([a_run()], [a_run("b", 2, endpoints=("GET /a", hostile))])),
    ):
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(dump(made)))
    assert dump(_document()) == dump(_document())


def test_the_published_schema_is_the_one_in_the_code():
    """docs/reference/comparison.schema.json is what `surgeline schema comparison` prints."""
    published = Path(__file__).parent.parent / "docs" / "reference" / "comparison.schema.json"
    assert json.loads(published.read_text()) == SCHEMA
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_rendering_is_bounded_and_escaped():
    """The comment has at most fifteen lines; markup of a target is text everywhere; XML parses."""
    import xml.etree.ElementTree as ET

    names = [f"GET /<b>{i}</b>|x" for i in range(40)]
    base, candidate = a_side("a", endpoints=names), a_side("b", 5, 40, endpoints=names, factor=1.3)
    made = comparison_document(compare_runs(base, candidate), base, candidate, "main", "last", Attempts(2, ("failed",)))
    comment = comparison_text.comment(made)
    assert len(comment.splitlines()) <= comparison_text.COMMENT_LINES
    assert "<b>" not in comment
    page = comparison_page.render(made)
    assert "<b>0</b>" not in page
    assert "script" not in page.split("</style>")[1]
    suite = ET.fromstring(comparison_text.junit(made))[0]
    assert suite.attrib["failures"] == "40"
    assert ET.fromstring(comparison_text.badge(made)).tag.endswith("svg")
    notes = comparison_text.annotations(made)
    assert notes.count("::error ") == 40
    assert all(line.startswith("::") for line in notes.splitlines())
    assert "asked 2 times" in comparison_text.render(made)
    assert comparison_text.render(made, ascii=True).isascii()


@pytest.mark.parametrize("word", ["passed", "inconclusive"])
def test_junit_knows_three_ends(word: str):
    """A case that passed says nothing, one that is unsure is skipped."""
    factor = {"passed": 1.0, "inconclusive": 1.02}[word]
    base, candidate = a_side("a", 5, noise=0.03), a_side("b", 5, 40, noise=0.03, factor=factor)
    made = comparison_document(compare_runs(base, candidate), base, candidate)
    text = comparison_text.junit(made)
    assert text.count("<skipped") == sum(row["gate"] == "inconclusive" for row in made["changes"])
    assert "<failure" not in text


def test_a_comparison_of_large_runs_is_quick():
    """Two times five runs of forty endpoints compare in well under a second; their size in requests does not matter."""
    names = [f"GET /{i}" for i in range(40)]
    base, candidate = a_side("a", endpoints=names), a_side("b", 5, 40, endpoints=names)
    begin = time.perf_counter()
    compare_runs(base, candidate)
    assert time.perf_counter() - begin < 5.0


def test_false_alarms_stay_rare_end_to_end():
    """150 pairs of equal series with 2 % noise: hardly a word for a change, hardly a failing gate."""
    words: list[Any] = []
    gates = 0
    for seed in range(150):
        found = compare_runs(a_side("a", 5, 1000 * seed, count=800), a_side("b", 5, 1000 * seed + 500, count=800))
        words += [_row(found, "p95").word, _row(found, "p50", "GET /a").word]
        gates += found.gate == "failed"
    assert sum(word in ("regressed", "improved") for word in words) <= 8
    assert gates <= 14  # 5 % of 150 is 7.5; 15 and more would be seen once in a hundred times


def test_a_change_that_one_wild_run_makes_is_doubted_beside_its_row():
    """Four equal runs and one half as slow again: whatever the word, the median says otherwise, and that is told."""
    base = a_side("a", 5, noise=0.002)
    candidate = [*a_side("b", 4, 40, noise=0.002, factor=1.06), a_run("wild", 60, 1.5, 0.002)]
    row = _row(compare_runs(base, candidate), "p95")
    assert "single run" in row.caution
    calm = a_side("b", 5, 40, noise=0.002, factor=1.06)
    assert _row(compare_runs(base, calm), "p95").caution == ""
