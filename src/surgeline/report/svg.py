"""How is a plot drawn?

Numbers come in, SVG text leaves, by arithmetic alone: no script, no font, no reference to anything outside. Colours are
classes that the style sheet fills in, so that one drawing serves light, dark and paper.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

CHAR = 6.6
"""Mean width of a character at 12 units; a little more than most fonts need, so that labels do not touch."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From a quantity to a place. `log` scales need positive ends; equal ends put everything in the middle."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies; one far outside is drawn just outside."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, self.low * 1e-6))
        if high == low:
            return (self.begin + self.end) / 2
        share = (at - low) / (high - low)
        return self.begin + (self.end - self.begin) * min(max(share, -0.05), 1.05)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round values within [low, high], one, two or five times a power of ten apart."""
    if high <= low or most < 1:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Values 1, 2 and 5 times a power of ten within [low, high]; only powers of ten where that is more than `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**d for d in decades for f in factors if low * 0.999 <= f * 10.0**d <= high * 1.001]
        if len(ticks) <= most:
            return ticks
    every = -(-len(ticks) // most)
    return ticks[::every]


def log_range(values: Iterable[float | None]) -> tuple[float, float]:
    """Round ends for a log axis that holds all the values, at least a factor of ten apart; 1 ms to 1 s for none."""
    known = [value for value in values if value is not None and value > 0]
    if not known:
        return 1e6, 1e9
    low, high = _round_down(min(known)), _round_up(max(known))
    while high / low < 10:
        low, high = _round_down(low * 0.99), _round_up(high * 1.01)
    return low, high


def _round_down(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return next(factor * decade for factor in (5, 2, 1) if factor * decade <= value * (1 + 1e-9))


def _round_up(value: float) -> float:
    decade = 10.0 ** math.floor(math.log10(value))
    return next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= value * (1 - 1e-9))


def coordinate(value: float) -> str:
    """A coordinate: to a tenth, without a needless zero."""
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def spot(x: float, y: float) -> str:
    """A point of a path."""
    return f"{coordinate(x)} {coordinate(y)}"


def shape(outline: str, classes: str, title: str = "") -> str:
    """A path, with words for whoever points at it."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<path class="{classes}" d="{outline}"' + (f">{inside}</path>" if inside else "/>")


def text(x: float, y: float, words: str, classes: str = "", anchor: str = "") -> str:
    """Words at a place; `anchor` is start, middle or end."""
    kind = f' class="{classes}"' if classes else ""
    at = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{coordinate(x)}" y="{coordinate(y)}"{kind}{at}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    """A straight line."""
    return f'<path class="{classes}" d="M{spot(x1, y1)}L{spot(x2, y2)}"/>'


def rect(x: float, y: float, width: float, height: float, classes: str, title: str = "", fill: str = "") -> str:
    """A rectangle, with words for whoever points at it; a negative size is none."""
    paint = f' fill="{fill}"' if fill else ""
    size = f'width="{coordinate(max(width, 0))}" height="{coordinate(max(height, 0))}"'
    shape = f'<rect class="{classes}"{paint} x="{coordinate(x)}" y="{coordinate(y)}" {size}'
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def path(points: Sequence[tuple[float, float | None]], classes: str) -> str:
    """A line through the points, broken where y is None; a lone point becomes a short dash."""
    parts: list[str] = []
    run: list[tuple[float, float]] = []
    for x, y in [*points, (0.0, None)]:
        if y is not None:
            run.append((x, y))
        elif run:
            head, *rest = run if len(run) > 1 else [run[0], (run[0][0] + 1.5, run[0][1])]
            parts.append(f"M{spot(head[0], head[1])}L" + " ".join(f"{spot(a, b)}" for a, b in rest))
            run = []
    return f'<path class="{classes}" d="{"".join(parts)}"/>' if parts else ""


def area(points: Sequence[tuple[float, float]], floor: float, classes: str) -> str:
    """What lies between the points and the floor."""
    if not points:
        return ""
    edge = " ".join(spot(x, y) for x, y in [*points, (points[-1][0], floor)])
    return shape(f"M{spot(points[0][0], floor)}L{edge}Z", classes)


def mark(x: float, y: float, name: str, title: str, faint: bool = False) -> str:
    """The sign of a percentile: a dot for p50, a bigger one for p95, a hollow diamond for p99."""
    classes = f"mark {name}" + (" faint" if faint else "")
    if name == "p99":
        return shape(f"M{spot(x, y - 4.5)}l4.5 4.5-4.5 4.5-4.5-4.5Z", classes, title)
    radius = 3 if name == "p50" else 4
    around = f"M{spot(x - radius, y)}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0-{2 * radius} 0Z"
    return shape(around, classes, title)


def apart(wished: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wished ones, at least `gap` apart and within [low, high] where there is room, in their order."""
    order = sorted(range(len(wished)), key=lambda i: wished[i])
    placed = [0.0] * len(wished)
    floor = low
    for i in order:
        placed[i] = max(wished[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


@dataclass(slots=True)
class Canvas:
    """A drawing under way: its size, the room the plot itself has, and what has been drawn."""

    key: str
    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    body: list[str] = field(default_factory=list)

    @property
    def x0(self) -> float:
        """The left edge of the plot."""
        return self.left

    @property
    def x1(self) -> float:
        """The right edge of the plot."""
        return self.width - self.right

    @property
    def y0(self) -> float:
        """The lower edge of the plot."""
        return self.height - self.bottom

    @property
    def y1(self) -> float:
        """The upper edge of the plot."""
        return self.top

    def add(self, *parts: str) -> None:
        """Draws what is not empty."""
        self.body += [part for part in parts if part]

    def done(self, classes: str, title: str, description: str, defs: str = "") -> str:
        """The drawing as SVG, with its title and description for those who do not see it."""
        return (
            f'<svg class="{classes}" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-labelledby="{self.key}-t {self.key}-d">'
            f'<title id="{self.key}-t">{escape(title)}</title><desc id="{self.key}-d">{escape(description)}</desc>'
            f"{defs}{''.join(self.body)}</svg>"
        )

    def y_axis(self, scale: Scale, ticks: Sequence[float], show: Callable[[float], str]) -> None:
        """Hairlines across the plot, each with its value at the left."""
        for tick in ticks:
            y = scale(tick)
            self.add(line(self.x0, y, self.x1, y, "grid"), text(self.x0 - 7, y + 4, show(tick), "tick", "end"))
