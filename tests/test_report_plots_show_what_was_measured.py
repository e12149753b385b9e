"""The plots: right values at right places, words for those who cannot see them, nothing outside the frame."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import report_examples as examples
from surgeline import units
from surgeline.report import distributions, document, html, plots, svg

RUNS = {
    "shop": examples.shop,
    "open": examples.open_shop,
    "one load": examples.one_load,
    "long": examples.long_run,
    "dead": examples.dead_target,
    "hostile": examples.hostile_shop,
    "empty": lambda: examples.summary_of([], (1, 2), 4),
    "one second": lambda: examples.summary_of(examples.rows((4, 8), 1), (4, 8), 1),
}


def drawings(made):
    """Every drawing of a report."""
    load = plots.load_plot(made)
    for plot in [*([load] if load else []), *plots.time_plots(made)]:
        yield from filter(None, (plot.wide, plot.narrow, plot.paper))
    yield from (small.drawing for small in plots.multiples(made))
    yield from plots.strips(made, made["endpoints"][:12])
    for picture in (distributions.heat_plot, distributions.spectrum_plot, distributions.phases_plot):
        if (plot := picture(made)) is not None:
            yield from (plot.wide, plot.narrow)
    for number, part in enumerate(made["endpoints"][:12]):
        yield from filter(None, distributions.near(made, part, number))
        yield from filter(None, [distributions.phase_bar(part)])
    yield from (distributions.span_strip(made, error) for error in made["errors"])


@pytest.mark.parametrize("case", RUNS)
def test_nothing_is_drawn_outside_the_frame(case):
    """Every coordinate is a number within the picture, a little room for labels above and below aside."""
    made = document.result_document(RUNS[case](), [])
    for drawing in drawings(made):
        width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())
        assert "nan" not in drawing.lower() and "inf" not in drawing.replace("info", "").lower().split("<desc")[0]
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", drawing):
            assert -12 <= float(x) <= width + 12, drawing[:200]
            assert -24 <= float(y) <= height + 12, drawing[:200]
        for x, y in re.findall(r'<text x="(-?[\d.]+)" y="(-?[\d.]+)"', drawing):
            assert 0 <= float(x) <= width and 0 <= float(y) <= height + 1


@pytest.mark.parametrize("case", RUNS)
def test_every_drawing_says_in_words_what_it_shows(case):
    """A title and a description, or a label; and no identifier twice in one report."""
    markup = html.render(document.result_document(RUNS[case](), examples.FINDINGS))
    for opening in re.findall(r"<svg [^>]*>", markup):
        if 'class="defs"' in opening:
            continue
        assert 'role="img"' in opening and ("aria-labelledby=" in opening or "aria-label=" in opening)
    names = re.findall(r' id="([^"]+)"', markup)
    assert len(names) == len(set(names))
    for pair in re.findall(r'aria-labelledby="([^"]+)"', markup):
        assert set(pair.split()) <= set(names)


def test_each_stage_has_its_point_and_its_number():
    """Seven loads, three percentiles: 20 points (one has too few requests for p99), each with load, value, interval."""
    made = document.result_document(examples.shop(), [])
    plot = plots.load_plot(made)
    for stage in made["stages"]:
        for name in ("p50", "p95", "p99"):
            value = stage["response"][name]["value"]
            tip = f"<title>{stage['load']}: {name} {units.format_duration(value)} ["
            assert (tip in plot.wide) == (value is not None)
    assert len(re.findall(r'class="mark p95"', plot.wide)) == 7
    assert len(re.findall(r'class="mark p99"', plot.wide)) == 6


def test_a_greater_time_stands_higher():
    """p95 of the stages in order of value is in order of height."""
    made = document.result_document(examples.shop(), [])
    marks = re.findall(r'class="mark p95" d="M[\d.]+ ([\d.]+)a', plots.load_plot(made).wide)
    values = [stage["response"]["p95"]["value"] for stage in made["stages"]]
    by_value = [height for _, height in sorted(zip(values, map(float, marks), strict=True))]
    assert by_value == sorted(by_value, reverse=True)


def test_a_stage_that_the_generator_limited_is_marked_and_not_joined_to_the_line():
    """Its points are faint, its loads shaded and named."""
    drawing = plots.load_plot(document.result_document(examples.open_shop(), [])).wide
    assert drawing.count('class="mark p95 faint"') == 2 and "generator at its limit" in drawing
    line = re.search(r'class="line p95" d="([^"]+)"', drawing)[1]
    assert len(re.findall(r"[\d.]+ [\d.]+", line)) == 7


def test_the_load_at_which_the_limit_showed_is_named():
    """The picture says what the sentence says: holds, then misses."""
    drawing = plots.load_plot(document.result_document(examples.shop(), [])).wide
    assert ">holds<" in drawing and ">misses its objectives<" in drawing and "p95 &lt; 300 ms" in drawing


def test_gaps_stay_gaps():
    """A second without an answer breaks the line; nothing is drawn through it."""
    summary = examples.shop()
    seconds = tuple(
        replace(second, p50_ns=None, p95_ns=None, p99_ns=None) if 10 <= second.second < 20 else second
        for second in summary.seconds
    )
    made = document.result_document(replace(summary, seconds=seconds), [])
    plot = next(plot for plot in plots.time_plots(made) if plot.key == "percentiles")
    line = re.search(r'class="line thin p95" d="([^"]+)"', plot.wide)[1]
    assert line.count("M") == 2


def test_kinds_of_wrong_differ_by_more_than_colour():
    """Failures are solid, errors hatched, timeouts dotted, and each is named with its count."""
    made = document.result_document(examples.shop(""), [])
    plot = next(plot for plot in plots.time_plots(made) if plot.key == "wrong")
    assert "75 failures, 4 errors, 6 timeouts" in plot.note
    assert "url(#wrong-w-error)" in plot.wide and "url(#wrong-w-timeout)" in plot.wide
    assert all(f">{name}</text>" in plot.wide for name in ("failures", "errors", "timeouts"))


def test_loads_set_evenly_apart_by_doubling_go_on_a_log_axis_and_even_steps_do_not():
    """1, 2, 4 … 64 users are log; 50, 100 … 450 a second are linear."""
    assert "log scale" in plots.load_plot(document.result_document(examples.shop(), [])).note
    assert "log scale" not in plots.load_plot(document.result_document(examples.open_shop(), [])).note


@given(st.lists(st.floats(1, 1e12), min_size=1, max_size=20))
def test_a_log_range_holds_its_values_between_round_ends(values):
    """The ends are 1, 2 or 5 times a power of ten, at least a decade apart."""
    low, high = svg.log_range(values)
    assert low <= min(values) * (1 + 1e-9) and max(values) <= high * (1 + 1e-9) and high / low >= 10 * (1 - 1e-9)
    for end in (low, high):
        assert round(end / 10 ** math.floor(math.log10(end) + 1e-9)) in (1, 2, 5, 10)
    assert 1 <= len(svg.log_ticks(low, high, 8)) <= 8


@given(st.floats(0, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
def test_ticks_are_round_few_and_within(low, span, most):
    """No more than asked for, ascending, inside of the range."""
    ticks = svg.nice_ticks(low, low + span, most)
    assert len(ticks) <= most + 1 and ticks == sorted(ticks)
    assert all(low - 1e-6 * (abs(low) + span) <= tick <= (low + span) * (1 + 1e-6) + 1e-9 for tick in ticks)


@given(st.lists(st.floats(0, 100), max_size=6))
def test_labels_keep_their_order_and_their_distance_where_there_is_room(wished):
    """Fourteen units apart within 0 to 200."""
    placed = svg.apart(wished, 14, 0, 200)
    pairs = sorted(zip(wished, placed, strict=True))
    assert all(b[1] - a[1] >= 14 - 1e-9 for a, b in pairwise(pairs))
    assert all(-1e-9 <= place <= 200 + 1e-9 for place in placed)
