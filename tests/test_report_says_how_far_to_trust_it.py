"""How far to trust a run: what could make its numbers mean less is said, and what was checked too."""

from dataclasses import replace

import pytest

import report_examples as examples
from surgeline.report import cells, document, page, terminal
from surgeline.report.trust import trust


def said(summary, about: str) -> list[tuple[str, str]]:
    """Level and sentence of the statements about something."""
    return [(item.level, item.sentence) for item in trust(summary) if item.about == about]


def test_warnings_come_first_and_everything_has_a_level():
    """A reader who stops after the first line has read the worst."""
    levels = [item.level for item in trust(examples.invalid_shop())]
    assert levels == sorted(levels, key=["warning", "note", "good"].index)
    assert levels[0] == "warning" and set(levels) == {"warning", "note", "good"}


def test_a_generator_at_its_limit_is_a_warning_that_names_the_stages():
    """Which loads, why, and that they are left out."""
    ((level, sentence),) = said(examples.open_shop(), "generator")
    assert level == "warning"
    assert "2 of 9 stages (400/s, 450/s)" in sentence and "97 %" in sentence and "left out" in sentence


def test_a_healthy_generator_is_said_with_its_numbers():
    """Not a limit, and how one knows."""
    ((level, sentence),) = said(examples.shop(), "generator")
    assert level == "good" and "41 %" in sentence and "400 µs" in sentence


def test_an_unread_generator_is_not_called_healthy():
    """No reading, no praise."""
    health = replace(examples.shop().health, cpu_ratio_max=None, lag_p99_ns=None)
    ((level, sentence),) = said(replace(examples.shop(), health=health), "generator")
    assert level == "note" and "not read" in sentence


def test_without_due_moments_the_page_says_what_that_hides():
    """Stock Locust knows no due moment: waiting to be sent is missing from its times."""
    ((level, sentence),) = said(replace(examples.shop(), response_is_service=True), "due")
    assert level == "warning" and "no due moments" in sentence and "p95 and p99 look better" in sentence


def test_open_and_closed_runs_say_what_their_times_count():
    """From when it was due; or that users who wait ask less."""
    assert said(examples.open_shop(), "due")[0][0] == "good"
    assert "Closed model" in said(examples.shop(), "due")[0][1]


def test_books_that_do_not_balance_are_a_warning():
    """The clause that does not hold, in words."""
    summary = replace(examples.shop(), books=("due 3 is not sent 2 + not sent 0", "another"))
    ((level, sentence),) = said(summary, "books")
    assert level == "warning" and "due 3 is not sent 2" in sentence and "+1 more" in sentence
    assert said(examples.shop(), "books")[0][0] == "good"


def test_what_was_not_sent_cut_off_or_left_out_is_said():
    """Each with its number, in the singular where it is one."""
    summary = examples.shop()
    tally = replace(summary.total.tally, not_sent=1, aborted=12)
    summary = replace(
        summary,
        total=replace(summary.total, tally=tally),
        health=replace(summary.health, rows_dropped=1200),
        rows_seen=False,
    )
    assert "1 request was due but never sent" in said(summary, "not sent")[0][1]
    assert "12 requests were still in flight" in said(summary, "aborted")[0][1]
    sentences = [sentence for _, sentence in said(summary, "rows")]
    assert any("1,200 rows" in sentence for sentence in sentences)
    assert any("known by outcome only" in sentence for sentence in sentences)


def test_a_run_that_was_cut_short_says_where_and_why():
    """The stage, its load, the reason."""
    summary = examples.shop()
    stages = (*summary.stages[:5], replace(summary.stages[5], completed=False), *summary.stages[6:])
    run = {**summary.run, "ended": {"at_ns": 1, "reason": "over half of the requests failed for 10 s"}}
    ((level, sentence),) = said(replace(summary, stages=stages, run=run), "end")
    assert level == "note" and "in stage 6 of 7 (32 users): over half" in sentence


def test_a_recovered_run_says_what_is_missing():
    """At most the last second."""
    summary = examples.shop()
    summary = replace(summary, run={**summary.run, "state": "interrupted"})
    assert "at most its last second" in said(summary, "end")[0][1]


def test_percentiles_that_are_not_shown_are_counted():
    """One endpoint of nine has no p95."""
    assert "no p95 for 1 of 9 endpoints" in said(examples.shop(), "samples")[0][1]


@pytest.mark.parametrize("warm_up", [None, 0.0, 3.0])
def test_warm_up_is_shown_never_cut(warm_up):
    """Not told, none, or how long and where."""
    summary = examples.shop()
    stages = tuple(replace(stage, warm_up_s=warm_up) for stage in summary.stages)
    ((level, sentence),) = said(replace(summary, stages=stages), "warm-up")
    assert (level, "3 s" in sentence) == (("good", False) if warm_up == 0 else ("note", warm_up == 3.0))


def test_one_run_is_always_said_to_be_one():
    """No single run shows how much runs differ."""
    assert said(examples.shop(), "runs")[0][0] == "note"


def test_warnings_reach_every_form():
    """In the terminal with the word, since a mark may be missed."""
    made = document.result_document(examples.invalid_shop(), [])
    first = made["trust"][0]["sentence"]
    assert page.escaped(first) in page.render(made)
    assert "✗ warning: " in terminal.render(made)
    assert cells.status(made).word == "invalid"
