"""The verdict sentence: what was held, what broke first, or why nothing can be said; in at most 25 words."""

import random
from dataclasses import replace

import pytest

import report_examples as examples
from surgeline.analysis.model import Estimate, Summary
from surgeline.report.verdict import LONGEST_WORDS, against, verdict

EVERY = {
    "missed at the top": examples.shop,
    "no objectives": lambda: examples.shop(""),
    "missed at once": lambda: examples.shop("p95 < 1ms"),
    "met": lambda: examples.shop("p95 < 20s"),
    "three objectives": lambda: examples.shop("POST /checkout: p95 < 300ms, p99 < 1s, errors < 1%"),
    "generator limited": examples.open_shop,
    "one load": examples.one_load,
    "invalid": examples.invalid_shop,
    "dead": examples.dead_target,
    "many endpoints": examples.wide_shop,
    "one endpoint alone": examples.long_run,
    "empty": lambda: examples.summary_of([], (1, 2), 4),
}


@pytest.mark.parametrize("case", EVERY)
def test_every_run_gets_one_sentence_of_at_most_25_words(case):
    """One sentence, 25 words, no number left unprinted; whatever the run was like."""
    sentence = verdict(EVERY[case]()).sentence
    assert 3 <= len(sentence.split()) <= LONGEST_WORDS, sentence
    assert sentence.endswith(".")
    assert "None" not in sentence and "nan" not in sentence and "\n" not in sentence


def test_names_of_any_length_do_not_make_it_longer():
    """An endpoint called by a paragraph, with line ends in it, still leaves 25 words on one line."""
    dice = random.Random(4)
    for _ in range(40):
        name = " ".join("x" * dice.randrange(1, 30) for _ in range(dice.randrange(1, 60))) + "\r\n\x1b[31m"
        for slo in ("", "p95 < 300ms", "p95 < 300ms, errors < 1%", "p95 < 20s", "p95 < 1ms"):
            summary = examples.with_names(examples.shop(slo), {"POST /checkout": name, "GET /books": name + "!"})
            sentence = verdict(summary).sentence
            assert len(sentence.split()) <= LONGEST_WORDS
            assert sentence.isprintable()


def test_with_objectives_it_says_what_is_held_and_what_breaks_first():
    """The held rate is the goodput of the last stage that met them; the endpoint is the one most over the limit."""
    summary = examples.shop("p95 < 300ms")
    found = verdict(summary)
    held = summary.stages[5]
    assert found.sentence == (
        f"Holds {held.total.goodput_per_s:.0f}/s at 32 users within p95 < 300 ms; "
        f"{found.breaks_endpoint} breaks it first at 64 users."
    )
    assert (found.slo, found.holds_stage, found.breaks_stage) == ("missed", 5, 6)
    over = {
        part.name: part.response.histogram.count_above(300_000_000) + part.tally.bad
        for part in summary.stages[6].endpoints
    }
    assert over[found.breaks_endpoint] == max(over.values())


def test_of_several_objectives_the_one_that_gave_way_is_named():
    """With two objectives `it` would not say which."""
    sentence = verdict(examples.shop("p95 < 300ms, errors < 1%")).sentence
    assert "POST /checkout breaks errors < 1 % first at 32 users" in sentence


def test_an_objective_missed_at_the_lightest_load_holds_nothing():
    """There is no held rate to boast of; the sentence says where and what."""
    found = verdict(examples.shop("p95 < 1ms"))
    assert found.sentence.startswith("Misses p95 < 1 ms already at 1 user: ")
    assert found.holds_stage is None


def test_a_run_that_met_everything_says_that_more_was_not_tried():
    """Holding the highest load tried is not a limit."""
    assert verdict(examples.shop("errors < 50%")).sentence.endswith("the highest load tried.")


def test_one_endpoint_that_misses_what_all_together_meet_is_named():
    """A slow report drowns in fast pages; the sentence does not let it."""
    found = verdict(examples.long_run())
    assert found.slo == "met"
    assert found.sentence.endswith("GET /reports/sales alone misses it.")


def test_stages_the_generator_limited_are_cut_from_the_verdict():
    """At least X, and then the generator: never a limit of the server that nobody measured."""
    found = verdict(examples.open_shop())
    assert "at least" in found.sentence and "generator was the limit" in found.sentence
    assert found.holds_stage == 6


def test_an_invalid_run_accuses_the_generator_not_the_server():
    """No rate, no percentile, no endpoint: they describe the generator."""
    found = verdict(examples.invalid_shop())
    assert found.sentence.startswith("The generator, not the server, was measured")
    assert found.holds_stage is None and found.breaks_endpoint is None


def test_a_dead_target_is_no_measurement():
    """Refused connections are quick, and say nothing about response time."""
    found = verdict(examples.dead_target())
    assert found.sentence.startswith("Nothing was measured: none of")
    assert found.basis == "nothing answered"


def test_without_objectives_it_says_where_throughput_stopped_growing():
    """The plateau that analysis found, and what waiting cost beyond it."""
    summary = examples.shop("")
    found = verdict(summary)
    assert summary.saturation is not None
    assert found.sentence.startswith("Throughput stops growing at 316/s from 16 users on; at 64 users p95 433 ms")
    assert found.slo is None and found.breaks_stage == summary.saturation.stage


def test_without_objectives_and_limit_it_says_how_far_one_looked():
    """Nothing found up to 4 users is not nothing to be found."""
    levels = (1, 2, 4)
    summary = examples.summary_of(examples.rows(levels, 8), levels, 8)
    summary = replace(summary, saturation=None)
    assert verdict(summary).sentence.startswith("No limit reached up to 4 users: ")


def test_without_objectives_errors_come_before_throughput():
    """A share of 1 % of wrong answers is a limit, also where throughput still grows."""
    summary = replace(examples.shop(""), saturation=None)
    found = verdict(summary)
    assert found.basis == "errors"
    assert "errors begin at 32 users" in found.sentence and "POST /checkout" in found.sentence


def test_a_limit_is_missed_clearly_or_not_at_all():
    """One slow request of three is bad luck; ninety of a hundred are not."""
    summary: Summary = examples.shop("p95 < 300ms")
    objective = summary.objectives[0].objective
    stage = summary.stages[6]
    words = {part.name: against(part, objective) for part in stage.endpoints}
    assert words["POST /checkout"] == "missed" and words["GET /"] == "met"
    report = next(part for part in stage.endpoints if part.name == "GET /reports/sales")
    few = replace(report, tally=replace(report.tally, ok=3, due=3, sent=3), error_ratio=Estimate(0.0, n=3))
    assert against(replace(few, response=examples.times(type(report.response.histogram)())), objective) == "no data"
