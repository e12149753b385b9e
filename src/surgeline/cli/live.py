"""What is shown while a run lasts: a live view on a terminal, a status line every ten seconds elsewhere.

Both read `analysis.live.Live`, which folds the run's own journal: what is shown is what is on disk. The view answers
"is it fine?" in its first two rows and lists the worst endpoint first. Everything goes to standard error.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgeline import runner, units
from surgeline.analysis.live import Live, LiveTimes
from surgeline.cli import style
from surgeline.samples import Outcome
from surgeline.store.rundir import RunDirectory

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as RichLive

LINE_EVERY_S = 10
_NARROWEST = 60
"""Columns below which the view is not readable and lines are printed instead."""
_WORD_STYLES = {
    "WARMING": "cyan",
    "HOLDING": "green",
    "DEGRADING": "yellow",
    "SATURATED": "yellow",
    "FAILING": "red",
    "LATE NOW": "bold red",
    "ENDING": "cyan",
    "SEARCHING": "cyan",
}
SEARCHING = "SEARCHING"
ENDING, WAITS = "ENDING", "the load is over; requests in flight and rows of workers are waited for"


@contextmanager
def observer(ui: str, steered: bool = False) -> Iterator[runner.Observer]:
    """The observer that `--ui` asks for: auto picks the live view on a terminal that is wide enough.

    `steered` says whether keys are heard, so that the view names them.
    """
    if ui == "none":
        yield Silent()
        return
    terminal = sys.stderr.isatty() and style.takes_unicode(sys.stderr)
    if ui == "plain" or (ui == "auto" and (not terminal or _columns() < _NARROWEST)):
        yield Lines()
        return
    view = View(steered)
    try:
        yield view
    finally:
        view.close()


@contextmanager
def keyboard(ui: str) -> Iterator[runner.Keys]:
    """What is pressed while the live view is shown; nothing where standard input or error is no terminal."""
    if ui not in ("auto", "live") or not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield tuple
        return
    try:
        import termios
        import tty
    except ImportError:
        yield tuple
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda: _pressed(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _pressed(descriptor: int) -> str:
    """The keys that wait to be read; "" also where this process is in the background."""
    import os
    import select

    try:
        if os.getpgrp() != os.tcgetpgrp(descriptor) or not select.select([descriptor], [], [], 0)[0]:
            return ""
        return os.read(descriptor, 64).decode(errors="ignore")
    except OSError:
        return ""


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


class Silent:
    """Shows nothing."""

    def started(self, run: RunDirectory, order: runner.Order) -> None:
        """Says nothing."""

    def tick(self, live: Live, elapsed_ns: int) -> None:
        """Says nothing."""

    def ending(self, reason: str) -> None:
        """Says nothing."""


class Lines:
    """One status line every ten seconds, and one when the run ends early."""

    def __init__(self) -> None:
        self._next_s = LINE_EVERY_S
        self._order: runner.Order | None = None

    def started(self, run: RunDirectory, order: runner.Order) -> None:
        """Says where the run is kept."""
        self._order = order
        style.say("Run", str(style.shown_path(run.path)))

    def tick(self, live: Live, elapsed_ns: int) -> None:
        """Says how it goes when ten seconds have passed."""
        if elapsed_ns >= self._next_s * units.NS_PER_S:
            self._next_s = int(elapsed_ns // units.NS_PER_S // LINE_EVERY_S + 1) * LINE_EVERY_S
            style.say(clock(elapsed_ns), status_line(live, self._order))

    def ending(self, reason: str) -> None:
        """Says why nothing more is sent."""
        style.warn(f"Ended early: {reason}.")


def clock(elapsed_ns: int) -> str:
    """`03:50`."""
    seconds = elapsed_ns // units.NS_PER_S
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


def status_line(live: Live, order: runner.Order | None = None) -> str:
    """`32 users 299/s p50 21 ms p95 214 ms p99 388 ms errors 0 % in flight 24 HOLDING`; of a search its step first."""
    times, parts = live.stage_times(), []
    step = _step(live, order)
    if step:
        parts.append(step)
    elif live.users is not None and not _is_open(order):
        parts.append(f"{live.users} user{'' if live.users == 1 else 's'}")
    parts.append(f"{units.format_rate(live.done_per_s())} done")
    parts += [f"{name} {units.format_duration(value)}" for name, value in _shown(times)]
    parts.append(f"errors {units.format_ratio(live.bad / live.judged if live.judged else None)}")
    if live.in_flight is not None:
        parts.append(f"{live.in_flight} in flight")
    word = _word(live, order)
    parts.append(f"{word}: {WAITS}" if word == ENDING else word)
    return " · ".join([*parts, *([live.standstill()] if live.standing_still else [])])


STEPS = {
    "floor": "nearly alone",
    "climb": "climbing",
    "settle": "letting it recover",
    "bisect": "closing in",
    "probe": "probing",
    "overrun": "overrunning",
    "hold": "holding",
}
"""What a search for capacity does in each of its parts."""


def _step(live: Live, order: runner.Order | None) -> str:
    """`closing in, 209/s`: what a search is doing; empty for other runs."""
    pilot = None if order is None else order.pilot
    stage = live.stage.index
    if pilot is None or not 0 <= stage < len(pilot.planned):
        return ""
    move = pilot.planned[stage]
    return f"{STEPS[move.role]}, {units.format_rate(move.rate_per_s)}"


def _is_open(order: runner.Order | None) -> bool:
    """Whether arrivals are planned: then each is a user of its own, and their number is that of requests in flight."""
    return order is not None and order.workload is not None and order.workload.model == "open"


def _word(live: Live, order: runner.Order | None = None) -> str:
    """The state of the run; once its load is over and nothing comes any more, that. A search breaks what it can on
    purpose, so of its steps it only says that it goes on, unless the generator is the slow one.
    """
    if live.ended and not live.done_per_s():
        return ENDING
    word = live.word()
    return word if order is None or order.pilot is None or word == "LATE NOW" else SEARCHING


def _shown(times: LiveTimes) -> list[tuple[str, int | None]]:
    return [("p50", times.p50_ns), ("p95", times.p95_ns), ("p99", times.p99_ns)]


class View:
    """The live view: verdict word and progress, load, response times, endpoints worst first, errors."""

    def __init__(self, steered: bool = False) -> None:
        self._steered = steered
        self._live: RichLive | None = None
        self._console: Console | None = None
        self._order: runner.Order | None = None
        self._trace: list[float] = []
        self._last_s = -1
        self._reason = ""

    def started(self, run: RunDirectory, order: runner.Order) -> None:
        """Opens the view."""
        from rich.console import Console
        from rich.live import Live as RichLive

        self._order = order
        style.say("Run", str(style.shown_path(run.path)))
        self._console = Console(stderr=True, no_color=not style.takes_colour(sys.stderr), highlight=False)
        self._live = RichLive(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def tick(self, live: Live, elapsed_ns: int) -> None:
        """Draws it again."""
        second = elapsed_ns // units.NS_PER_S
        if second != self._last_s:
            self._last_s = second
            self._trace.append(live.done_per_s())
        if self._live is not None:
            self._live.update(self._draw(live, elapsed_ns), refresh=True)

    def ending(self, reason: str) -> None:
        """Notes why nothing more is sent; the view stays until the files are written."""
        self._reason = reason

    def close(self) -> None:
        """Takes the view away."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._reason:
            style.warn(f"Ended early: {self._reason}.")

    def _draw(self, live: Live, elapsed_ns: int) -> "RenderableType":
        from rich.console import Group

        width = self._console.width if self._console else 100
        rows = self._console.height if self._console else 30
        return Group(
            *self._head(live, elapsed_ns, width),
            self._load(live, width),
            self._endpoints(live, max(rows - 12, 3)),
            *self._errors(live),
        )

    def _head(self, live: Live, elapsed_ns: int, width: int) -> Iterator["RenderableType"]:
        from rich.table import Table
        from rich.text import Text

        order, stage, word = self._order, live.stage, _word(live, self._order)
        step, planned = _step(live, order), live.planned_ns
        if order is not None and order.pilot is not None:
            planned = round(order.pilot.search.budget_s * units.NS_PER_S)
        progress = min(elapsed_ns / planned, 1.0) if planned else 0.0
        bar = "█" * round(progress * 16) + "░" * (16 - round(progress * 16)) if planned else ""
        where = step or (f"stage {stage.index + 1}/{stage.of} · {stage.name}" if stage.of > 1 else stage.name)
        total = f"/{clock(planned)}" if planned else ""
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        head.add_column(justify="right", no_wrap=True)
        name = f"{order.name}  {order.target}" if order else ""
        head.add_row(Text(name, style="bold"), Text(f"{where}   {clock(elapsed_ns)}{total} {bar}"))
        yield head
        line = Text()
        line.append(f"{word:<11}", style=_WORD_STYLES.get(word, ""))
        if live.paused:
            line.append("PAUSED  ", style="bold yellow")
        if live.factor != 1.0:
            line.append(f"load × {live.factor:.3g}  ", style="bold")
        line.append(self._reason or live.health_line(), style="yellow" if self._reason else "dim")
        if word == ENDING:
            line.append(f"   {WAITS}", style="dim")
        if word == "LATE NOW":
            line.append("   at this moment the generator is the slow one, not your server", style="bold red")
        yield line

    def _load(self, live: Live, width: int) -> "RenderableType":
        from rich.columns import Columns
        from rich.text import Text

        load = Text()
        load.append(f"due {units.format_rate(live.due_per_s())}   done {units.format_rate(live.done_per_s())}   ")
        load.append(f"in flight {'–' if live.in_flight is None else live.in_flight}   ")
        if not _is_open(self._order):
            load.append(f"users {'–' if live.users is None else live.users}   ")
        load.append(f"received {units.format_size(live.bytes_in)}\n")
        load.append(sparkline(self._trace[-max(width - 2, 10) :]) + "\n", style="blue")
        for label, times in (("this stage", live.stage_times()), ("last 10 s", live.recent_times())):
            load.append(f"{label:<11}", style="dim")
            load.append("   ".join(f"{name} {units.format_duration(value):>8}" for name, value in _shown(times)) + "\n")
        return Columns([load])

    def _endpoints(self, live: Live, most: int) -> "RenderableType":
        from rich.table import Table

        table = Table(box=None, expand=True, padding=(0, 1), show_edge=False, header_style="dim")
        table.add_column("endpoint, worst first", no_wrap=True, overflow="ellipsis", ratio=1)
        for title in ("due/s", "p50", "p95", "p99", "errors"):
            table.add_column(title, justify="right", no_wrap=True)
        endpoints = live.endpoints()
        for endpoint in endpoints[:most]:
            ratio, times = endpoint.error_ratio, endpoint.times
            mark = "✗" if ratio and ratio > 0.01 else "✓"
            table.add_row(
                _plain(f"{mark} {endpoint.name}"),
                f"{endpoint.due_per_s:.1f}",
                *(units.format_duration(value) for _, value in _shown(times)),
                units.format_ratio(ratio),
                style="red" if mark == "✗" else "",
            )
        if len(endpoints) > most:
            table.add_row(f"  +{len(endpoints) - most} more", "", "", "", "", "")
        return table

    def _errors(self, live: Live) -> Iterator["RenderableType"]:
        from rich.text import Text

        counts = "   ".join(
            f"{outcome.word} {live.totals[outcome]:,}"
            for outcome in Outcome
            if live.totals[outcome] or outcome is Outcome.OK
        )
        yield Text(f"\n{counts}")
        worst = live.errors()[:3]
        if worst:
            said = " · ".join(f"{outcome.word} {name} ×{count:,}" for name, outcome, count in worst)
            yield Text(said, style="red", no_wrap=True, overflow="ellipsis")
        changes = self._steered and self._order is not None and self._order.changeable
        steering = "   p pause   + - load by a tenth   ] next stage   a last stage again" if changes else ""
        yield Text(f"{'q' if self._steered else 'Ctrl-C'} stops, keeps and reports{steering}", style="dim")


def _plain(text: str) -> Any:
    """Text from a plan or a target, shown as it is: never as markup, never with control characters."""
    from rich.text import Text

    from surgeline.report.text import shown

    return Text(shown(text))


def sparkline(values: list[float]) -> str:
    """Block characters, from nothing to the greatest of the values; "" without values."""
    blocks = "▁▂▃▄▅▆▇█"
    greatest = max(values, default=0.0)
    if greatest <= 0:
        return blocks[0] * len(values)
    return "".join(blocks[min(int(value / greatest * 8), 7)] for value in values)
