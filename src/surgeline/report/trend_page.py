"""How does a trend read: as a table with a line for each run, and as a plot."""

import math
from collections.abc import Iterator

from surgeline import units
from surgeline.analysis.trend import CAPACITY, Point, Trend
from surgeline.report import svg
from surgeline.report.terminal import UNCUT, WIDTH, Pen, filled, joined, table
from surgeline.report.text import plural, shown

BAR = 30
"""Characters of the bar of a run."""
STYLE = (
    ".grid{stroke:#ddd;fill:none}.tick{fill:#666;font-size:12px}.run{fill:#444}"
    ".level{stroke:#1565c0;stroke-width:2;fill:none}"
    ".change{stroke:#b34e07;stroke-dasharray:4 3;fill:none}"
    ".said{fill:#b34e07;font-size:12px}.title{fill:#333;font-size:14px;font-weight:600}text{font-family:sans-serif}"
    # Whatever page it is put on, dark ones too.
    "svg{background:#fff}"
)


def render(trend: Trend, colour: bool = False, ascii: bool = False, width: int = WIDTH, cut: bool = True) -> str:
    """What `surgeline trend` prints. Without `cut` names stay whole, whatever the width."""
    return joined(_lines(trend, Pen(colour), width, cut), ascii)


def _lines(trend: Trend, pen: Pen, width: int, cut: bool) -> Iterator[str]:
    name = f"{trend.metric} of {shown(trend.endpoint)}"
    if not trend.steps:
        yield f"No run of this plan has a {name}."
    else:
        yield pen(_heading(trend), "bold")
        yield ""
    for number, point in enumerate(trend.points):
        yield from filled(
            sentence(trend, number, point),
            "  ● ",
            width,
            pen,
            ("bad" if (point.change > 0) != (trend.metric == CAPACITY) else "good",),
        )
    if trend.points:
        yield ""
    values = [step.value or 0.0 for step in trend.steps]
    top = max(values, default=1.0) or 1.0
    starts = {point.at: number for number, point in enumerate(trend.points)}
    rows = []
    for number, step in enumerate(trend.steps):
        change = trend.points[starts[number]] if number in starts else None
        rows.append(
            (
                "●" if change else "",
                shown(step.id),
                shown(step.started_at).replace("T", " ")[:16],
                shown(step.commit)[:8] or "–",
                _shown(trend, step.value),
                "─" * round(BAR * values[number] / top),
                _percent(change.change) if change else step.note,
            )
        )
    if rows:
        head = ("", "run", "started (UTC)", "commit", trend.metric, "", "change")
        for number, line in enumerate(table(head, "llllrll", rows, width if cut else UNCUT, shrink=1)):
            yield "  " + pen(line, "dim" if number == 0 else "")
    for why, count in trend.left_out:
        yield f"  ~ {plural(count, 'run')} left out: {why}"


def _heading(trend: Trend) -> str:
    """`p95 of GET /orders over 24 runs: 1 change point`."""
    word = plural(len(trend.points), "change point") if trend.points else "no change point"
    return f"{trend.metric} of {shown(trend.endpoint)} over {plural(len(trend.steps), 'run')}: {word}"


def sentence(trend: Trend, number: int, point: Point) -> str:
    """One change point in words: its size with its interval, where it is, and between which commits."""
    before, after = trend.commits[number]
    step = trend.steps[point.at]
    between = ""
    if before and after:
        between = f", between commits {shown(before)[:8]} and {shown(after)[:8]}" if before != after else (
            f", within commit {shown(after)[:8]}: not the code alone"
        )  # fmt: skip
    return (
        f"{_percent(point.change)} (95 % interval {_percent(point.low)} to {_percent(point.high)}) from "
        f"{_shown(trend, point.before)} to {_shown(trend, point.after)}, first in {shown(step.id)}"
        f"{between}."
    )


def _shown(trend: Trend, value: float | None) -> str:
    return units.format_rate(value) if trend.metric == CAPACITY else units.format_duration(value)


def _percent(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{abs(value) * 100:.1f} %"


def plot(trend: Trend) -> str:
    """The trend as an SVG of its own: a dot for each run, a line for each level, a mark for each change."""
    canvas = svg.Canvas("trend", 900, 340, 70, 20, 58, 40)
    values = [step.value or 0.0 for step in trend.steps]
    top = max(values, default=1.0) * 1.1 or 1.0
    x = svg.Scale(0, max(len(values) - 1, 1), canvas.x0 + 8, canvas.x1 - 8)
    y = svg.Scale(0, top, canvas.y0, canvas.y1)
    canvas.y_axis(y, svg.nice_ticks(0, top, 5), lambda value: _shown(trend, value))
    for number, step in enumerate(trend.steps):
        spot = svg.mark(x(number), y(values[number]), "p50", f"{step.id} {_shown(trend, step.value)}")
        canvas.add(spot.replace("mark p50", "run"))
    for begin, end in trend.segments() if values else []:
        level = level_of(values[begin:end])
        canvas.add(svg.line(x(begin), y(level), x(end - 1), y(level), "level"))
    for number, point in enumerate(trend.points):
        middle = (x(point.at - 1) + x(point.at)) / 2
        canvas.add(svg.line(middle, canvas.y1, middle, canvas.y0, "change"))
        canvas.add(svg.text(middle, canvas.y1 - 8, _percent(point.change), "said", "middle"))
        canvas.add(svg.text(middle, canvas.y0 + 32, shown(trend.commits[number][1])[:8], "tick", "middle"))
    if trend.steps:
        canvas.add(svg.text(canvas.x0, canvas.y0 + 16, shown(trend.steps[0].started_at)[:10], "tick"))
        canvas.add(svg.text(canvas.x1, canvas.y0 + 16, shown(trend.steps[-1].started_at)[:10], "tick", "end"))
    title = f"{trend.metric} of {shown(trend.endpoint)}"
    canvas.add(svg.text(canvas.x0, 20, _heading(trend), "title"))
    words = "; ".join(sentence(trend, number, point) for number, point in enumerate(trend.points)) or "No change point."
    drawn = canvas.done("trend", title, words, f"<style>{STYLE}</style>")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def level_of(values: list[float]) -> float:
    """The geometric mean, as change points count."""
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))
