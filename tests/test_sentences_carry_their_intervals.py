"""What a sentence says of a percentile, a share or a rate has its interval, or why there is none, as in a table."""

import re

import pytest

import report_examples as examples
from scripted_runs import MS, closed_plan, fast, findings_of, open_plan, run_json, said, summary_from, summary_of
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.effects import MOST_RUNS
from surgeline.analysis.figures import figures_of
from surgeline.engines import scripted
from surgeline.findings import judge
from surgeline.report import baseline_page, cells, comparison_page, document, html, terminal, trust
from surgeline.report.comparison import comparison_document
from surgeline.report.verdict import verdict

AROUND = r" \[[^\]]+\]"


def users(*counts: int, each: str = "20s") -> list[dict[str, object]]:
    """Stages of so many users."""
    return [{"users": count, "for": each} for count in counts]


def test_response_times_that_rise_are_told_with_intervals():
    """Both sides: p95 under the light and under the heavy load, each followed by a bracket."""
    (found,) = said(findings_of(open_plan((50, 250), "20s"), scripted.pool(4, 20 * MS)), "latency.rising", "failed")
    assert re.search(rf"p95 of all requests [\d.]+ m?s{AROUND} at 50/s, [\d.]+ m?s{AROUND} at 250/s", found.sentence)


def test_rates_in_a_sentence_have_the_interval_of_the_table():
    """Where throughput stops, and what was answered before; a stage of few seconds says `too short`."""
    full = findings_of(open_plan((150, 250), "20s"), scripted.pool(4, 20 * MS))
    (found,) = said(full, "saturation.plateau", "failed")
    assert re.search(rf"Answers stop at \d+/s{AROUND}: .* it still kept up \(\d+/s{AROUND}\)", found.sentence)
    (short,) = said(findings_of(closed_plan(users(1, 8, each="5s")), fast()), "saturation.plateau", "well")
    assert "[too short] at 1 user" in short.sentence


def test_a_missed_objective_has_the_interval_of_what_decided_it():
    """The share of requests over the limit, and the percentile."""
    summary = summary_of(open_plan((50, 400), "20s", slo=["p95 < 100ms"]), scripted.lognormal(80 * MS))
    (found,) = said(judge(summary), "slo.missed", "failed")
    assert re.search(rf"p95 is [\d.]+ ms{AROUND} against 100 ms, [\d.]+ %{AROUND} of", found.sentence)


def test_no_percentile_is_told_of_a_handful_of_requests():
    """Ten requests have no p95: how many of them were over the limit is what is said."""
    plan = open_plan((1, 20), "10s", slo=["p95 < 100ms"])
    (found,) = said(judge(summary_of(plan, scripted.constant(400 * MS))), "slo.missed", "failed")
    assert re.search(r"from 1/s on: there (\d+) of \1 requests were slower or went wrong\.", found.sentence)


def test_seconds_are_counted_in_seconds():
    """Twenty seconds do not tell 99 % of them: it takes 299 more, of seconds and not of requests."""
    summary = summary_of(open_plan((50,), "20s", slo=["seconds(errors < 1%) > 99%"]), fast())
    (found,) = said(judge(summary), "slo.missed", "explore")
    assert "299 seconds are needed" in found.sentence


def test_one_request_has_no_p99_of_its_lag():
    """Where too few were sent for a p99, how late the latest started is what is known."""
    few = summary_of(open_plan((5,), "10s"), fast())
    many = summary_of(open_plan((60,), "10s"), fast())
    for summary, word in ((few, "start lag at most"), (many, "start lag p99")):
        (found,) = said(judge(summary), "generator.saturated", "well")
        assert word in found.sentence
    sentences = [one.sentence for one in trust.trust(few)]
    assert any("every request started within" in one for one in sentences), sentences
    assert not any("99 % of requests started" in one for one in sentences)


def test_what_went_wrong_is_no_lack_of_requests():
    """600 requests that all fail are not too few requests; they are too few right answers."""
    plan = open_plan((60,), "10s")
    summary = summary_from(scripted.play(plan, scripted.constant(MS, 500)), run_json(plan))
    assert any(one.sentence.startswith("Too few right answers") for one in trust.trust(summary))


def test_errors_are_named_where_they_and_not_slowness_break_a_limit():
    """A third of all requests fails at once: p95 is missed for that alone, and the headline speaks of errors."""
    plan = open_plan((60,), "20s", slo=["p95 < 100ms", "errors < 1%"])
    failing = scripted.failing_share(fast(), 0.3)
    assert "errors < 1 %" in verdict(summary_of(plan, failing)).sentence
    assert "p95 < 100 ms" in verdict(summary_of(plan, scripted.constant(200 * MS))).sentence


def test_a_planned_rate_that_is_held_is_the_rate_that_was_planned():
    """What came back of 60/s scatters around it; users have only the rate that was measured, with its interval."""
    held = verdict(summary_of(open_plan((60,), "20s", slo=["p95 < 1s"]), fast())).sentence
    assert held.startswith("Holds 60/s within"), held
    closed = verdict(summary_of(closed_plan(users(8), slo=["p95 < 1s"]), scripted.lognormal(20 * MS))).sentence
    assert re.match(rf"Holds [\d.]+/s{AROUND} at 8 users within", closed), closed


@pytest.mark.parametrize("render", [html.render, terminal.render])
def test_the_page_says_what_would_make_known_how_far_an_endpoint_holds(render):
    """`not known` in the table is explained below it."""
    told = document.result_document(examples.shop(), examples.FINDINGS)
    assert cells.NOT_KNOWN in cells.all_held(told, told["endpoints"])
    assert "more time for each load" in " ".join(render(told).split())


def test_nobody_counts_users_where_requests_arrive():
    """The plot of an open load has requests in flight, and no population that could all be waiting."""
    told = html.render(document.result_document(summary_of(open_plan((60,), "20s"), fast()), ()))
    assert "Requests in flight" in told
    assert "number of users" not in told


def test_a_comparison_says_how_sure_its_headline_is():
    """The change of p95 with its interval, as in the table; and no number of runs where none in reach would tell."""
    runs = [figures_of(examples.shop(seed=seed), examples.FINDINGS) for seed in (7, 8)]
    noisy = comparison_document(compare_runs(runs[:1], runs[1:]), runs[:1], runs[1:], "main", "last")
    assert re.search(r"instead of [\d.]+ ms: [+−][\d.]+ % \[[+−][\d.]+, [+−][\d.]+\]\.$", noisy["sentence"])
    row = {**noisy["changes"][0], "word": "inconclusive", "runs_needed": MOST_RUNS}
    shown = comparison_page.render({**noisy, "changes": [row]})
    assert "too noisy" in shown
    assert str(MOST_RUNS) not in re.sub("<style.*?</style>", "", shown, flags=re.S)


def test_a_baselines_page_has_both_ends_of_its_intervals():
    """Each percentile and each share of errors of one run, or that it has none."""
    run = figures_of(examples.shop(), examples.FINDINGS)
    page = baseline_page.render({"name": "main", "note": "", "created_at": "2026-11-23"}, [run])
    (row,) = [line for line in page.splitlines() if line.startswith("| GET /books |")]
    _, _, *figures = [cell.strip() for cell in row.strip("|").split("|")]
    assert all(re.fullmatch(r"[\d.]+ m?s \[([\d.,]+–[\d.,]+|too short)\]", cell) for cell in figures[:3]), figures
    assert re.fullmatch(r"[\d.]+ % \[[\d.]+–[\d.]+\]", figures[3]), figures
