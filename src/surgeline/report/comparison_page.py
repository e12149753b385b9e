"""What does a comparison look like in a browser?

A comparison document comes in, one self-contained page leaves: no network, no script, its own style sheet known by its
hash. Verdicts and gate first, then whether the sides are alike, the effects with their intervals, where each change
sits, the findings that came and went, every row, and the runs behind them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from surgeline import units
from surgeline.report import comparison_text as words
from surgeline.report import svg
from surgeline.report.text import plural
from surgeline.report.webpage import drawing, rendered

Document = Mapping[str, Any]

MOST_EFFECTS = 40
"""Rows of the plot of effects."""
MOST_BAND, LEAST_BAND = 3.0, 0.1
"""How far the plot of a shift reaches at most: so many times the largest change, taken to be 10 % or more."""
ROW = 26
"""Height of one of them."""
_TICKS = 5


def render(document: Document) -> str:
    """The page. The same document gives the same text."""
    rows, _ = words.rows_shown(document)
    plotted = [row for row in rows if row["unit"] != "ratio" and row["low"] is not None][:MOST_EFFECTS]
    shifts = [(shift, drawing(shift_plot(shift, number))) for number, shift in enumerate(document["shifts"])]
    return rendered(
        "comparison.html",
        "comparison.css",
        {
            "document": document,
            "effects": drawing(effects_plot(plotted)) if plotted else "",
            "shifts": shifts,
            "rows": document["changes"],
            "words": words,
            "plural": plural,
        },
    )


def effects_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each change with its interval on one scale; the band is the budget, colour is a verdict."""
    span = words.plot_span(rows)
    canvas = svg.Canvas("effects", 860, 40 + ROW * len(rows), 300, 110, 22, 18)
    x = svg.Scale(-span, span, canvas.x0, canvas.x1)
    for tick in _even(span):
        canvas.add(svg.line(x(tick), canvas.y1, x(tick), canvas.y0, "grid"))
        canvas.add(svg.text(x(tick), canvas.y1 - 8, _percent(tick), "tick", "middle"))
    for number, row in enumerate(rows):
        y = canvas.y1 + ROW * number + ROW / 2
        budget = min(row["budget"] or 0.0, span)
        canvas.add(svg.rect(x(-budget), y - ROW / 2 + 2, x(budget) - x(-budget), ROW - 4, "band"))
        name = f"{row['endpoint']} {row['metric']}"
        canvas.add(svg.text(canvas.x0 - 10, y + 4, name if len(name) <= 44 else f"…{name[-43:]}", "", "end"))
        low, high = (min(max(row[end], -span), span) for end in ("low", "high"))
        tone = row["word"] or "none"
        title = f"{name}: {words.change_text(row)} {words.interval_text(row)} {row['word'] or ''}"
        canvas.add(svg.shape(f"M{svg.spot(x(low), y)}H{svg.coordinate(x(high))}", f"whisker {tone}", title))
        canvas.add(
            svg.mark(x(min(max(row["change"], -span), span)), y, "p95", title).replace("mark p95", f"dot {tone}")
        )
        canvas.add(svg.text(canvas.x1 + 8, y + 4, words.change_text(row), tone))
    canvas.add(svg.line(x(0), canvas.y1, x(0), canvas.y0, "zero"))
    return canvas.done("plot", "Changes", "Each change with its 95 % interval; right of zero is more.")


def shift_plot(shift: Mapping[str, Any], number: int) -> str:
    """The change of each percentile with its band; percentiles lie by how rare what is beyond them is."""
    canvas = svg.Canvas(f"shift{number}", 420, 200, 62, 18, 12, 28)
    places = [_rarity(q) for q in shift["quantiles"]]
    values = [*shift["change"], *shift["low"], *shift["high"], 0.0]
    # A band that reaches far beyond the change itself is cut off where it says no more than that little is known.
    most = MOST_BAND * max(*(abs(value) for value in shift["change"]), LEAST_BAND)
    low, high = max(min(values), -most), min(max(values), most)
    pad = max((high - low) * 0.1, 0.01)
    x = svg.Scale(min(places), max(places), canvas.x0, canvas.x1)
    y = svg.Scale(low - pad, high + pad, canvas.y0, canvas.y1)
    canvas.y_axis(y, svg.nice_ticks(low - pad, high + pad, 5), _percent)
    for q in (0.05, 0.5, 0.9, 0.99, 0.999):
        if q in shift["quantiles"]:
            canvas.add(svg.text(x(_rarity(q)), canvas.y0 + 16, f"p{q * 100:g}", "tick", "middle"))
    if shift["low"]:
        upper = [svg.spot(x(p), y(v)) for p, v in zip(places, shift["high"], strict=True)]
        lower = [svg.spot(x(p), y(v)) for p, v in zip(places, shift["low"], strict=True)]
        canvas.add(svg.shape(f"M{upper[0]}L{' '.join([*upper[1:], *reversed(lower)])}Z", "band"))
    canvas.add(svg.line(canvas.x0, y(0), canvas.x1, y(0), "zero"))
    canvas.add(svg.path([(x(p), y(v)) for p, v in zip(places, shift["change"], strict=True)], "curve"))
    said = shift["sentence"] or "No percentile moved by more than luck."
    return canvas.done("plot small", f"Shift of {shift['endpoint']}", said)


def _rarity(q: float) -> float:
    """Log odds: p1 and p99 lie as far from p50."""
    return math.log(q / (1.0 - q))


def _even(span: float) -> list[float]:
    return [round(-span + 2 * span * step / (_TICKS - 1), 6) for step in range(_TICKS)]


def _percent(value: float) -> str:
    if value == 0:
        return "0"
    return f"{'+' if value > 0 else '−'}{units.format_ratio(abs(value), 3)}"
