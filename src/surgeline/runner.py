"""One run, or one series of runs, end to end: an order goes in, a run directory with its pages comes out.

This is the only module that knows every stage. `carry_out` makes the directory, starts the engine, watches the journal
until the end and closes; `conclude` turns what a directory holds into its result document and its pages, and is all
that making a report again or recovering a run needs. `carry_out_series` makes several runs, in blocks and with what is
to happen between them.
"""

import gc
import json
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from surgeline import __version__, environment, units
from surgeline.analysis.live import Live, abort_reason, gone_reason
from surgeline.engines import Ending, Engine, EngineError, Remote, Running, Script, Settings, Sink, Subject
from surgeline.plan.feed import Feed
from surgeline.plan.model import Plan, PresetPart
from surgeline.plan.upload import SentFile
from surgeline.samples import Frame, Measurement, encode_object
from surgeline.store.errors import StoreError
from surgeline.store.rundir import Run, RunDirectory
from surgeline.workload import PRESETS, SplitMix64, Stage, Workload, open_stage

if TYPE_CHECKING:
    from surgeline.analysis.stress import Pilot
    from surgeline.served import Served

LOOK_EVERY_S = 0.2
"""How often the journal is looked at while a run lasts: five times a second is what an eye can follow."""
MOST_ROWS_AS_CSV = 1_000_000
"""Above this, `requests.csv` is written by `surgeline export` alone: a spreadsheet takes no more."""
ROWS_AT_ONCE = 1 << 17
"""Rows that are looked at together: about a row group of their file."""
GRACE_NS = 10 * units.NS_PER_S
_OUR_REFERENCE_TIMES = resources.files("surgeline") / "reference_times.json"
HEAD_START_NS = 50 * units.NS_PER_MS
"""What an engine in this process needs to compile a plan and start its threads; ten times what was measured."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, and where its directory goes.

    `workload` None means that a script decides it. `abort` off keeps a run going whatever the target does. `addresses`
    are what the target's host resolved to. `secrets` (the values that `{{env.NAME}}` takes) are used and never stored.
    """

    subject: Subject
    source: Mapping[str, str]
    name: str
    engine: Engine
    root: Path
    workload: Workload | None
    addresses: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    user_agent: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Feed] = field(default_factory=dict)
    """The rows of each file that the plan names; the run keeps their names, hashes and counts."""
    sent_files: Mapping[str, SentFile] = field(default_factory=dict)
    """The files whose bytes the plan sends."""
    max_in_flight: int = 10_000
    workers: int = 1
    remote: Remote | None = None
    """The workers of other machines, where they send."""
    abort: bool = True
    target: str = ""
    command: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    authorized: str = "own address"
    """Why load on the target is allowed: "own address", "asked" or "--authorized"; kept with the run."""
    series: Mapping[str, Any] | None = None
    """Group, block, side and order of a run that belongs to a series; kept with the run."""
    pilot: "Pilot | None" = None
    """Drives the run where its load is searched for; `workload` is then no more than the beginning."""
    looked: tuple[Mapping[str, Any], ...] = ()
    """What the look beforehand saw of each endpoint's answer to one who accepts gzip."""
    served: "Served | None" = None
    """The processes that serve the target, where they can be seen; read once a second."""
    max_connections: int | None = None
    proxy_addresses: tuple[str, ...] = ()
    """What the host of the plan's proxy resolved to."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The text of each file that the plan's `tls` names; never kept."""
    slo: tuple[str, ...] = ()
    """Objectives of a script; a plan has its own."""
    not_asked: tuple[str, ...] = ()
    """Ids of findings that the run's page does without."""

    @property
    def changeable(self) -> bool:
        """Whether the load can be changed while it runs: a script decides its own."""
        return not isinstance(self.subject, Script)


class Observer(Protocol):
    """Whoever shows a run while it lasts."""

    def started(self, run: RunDirectory, order: Order) -> None:
        """The directory is there and the engine is about to start."""
        ...

    def tick(self, live: Live, elapsed_ns: int) -> None:
        """Five times a second."""
        ...

    def ending(self, reason: str) -> None:
        """Nothing more is sent; answers may still come, then files are written."""
        ...


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended: where it is, and its result document."""

    run: Run
    document: Mapping[str, Any]


Keys = Callable[[], Sequence[str]]
"""What was pressed since it was asked last."""


def carry_out(order: Order, observer: Observer, stop: threading.Event, keys: Keys = tuple) -> Finished:
    """Runs the order. Setting `stop` ends it early; what was measured until then is kept and reported.

    Raises EngineError or Unsupported where the engine cannot start (the directory then says `failed`), StoreError where
    the directory cannot be written.
    """
    run = measure(order, observer, stop, keys)
    return Finished(run, conclude(run))


def measure(order: Order, observer: Observer, stop: threading.Event, keys: Keys = tuple) -> Run:
    """Like `carry_out`, but the run is closed and not judged."""
    directory = RunDirectory.create(order.root, order.name, _meta(order))
    observer.started(directory, order)
    sink = directory.segment("main")
    try:
        settings = _settings(order, directory)
        running = order.engine.start(order.subject, settings, sink)
    except BaseException as error:
        sink.close()
        directory.close("failed", str(error), 0)
        raise
    ending, reason = _watch(order, directory, running, sink, settings.monotonic_ns, observer, stop, keys)
    at_ns = time.monotonic_ns() - settings.monotonic_ns
    # Where the two clocks no longer agree, one was set or the machine slept.
    directory.update(clock_end={"wall_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()})
    sink.close()
    directory.close(*_state(ending, reason), at_ns)
    if ending.reason == "failed" and not Run(directory.path).measurement().counts:
        raise EngineError(ending.detail or "the engine broke before anything was measured")
    return Run(directory.path)


def _watch(
    order: Order,
    directory: RunDirectory,
    running: Running,
    sink: Sink,
    begin_ns: int,
    observer: Observer,
    stop: threading.Event,
    keys: Keys,
) -> tuple[Ending, str]:
    """Follows the journal until the engine has ended; how it ended, and why it was stopped where it was."""
    live = Live(directory.meta.raw)
    meter = _meter(order, begin_ns)
    wheel = Wheel(running, sink, begin_ns, stop, lambda: _once_more(order, running, directory, live), order.changeable)
    tail = directory.tail(Frame.COUNTS, Frame.WINDOWS, Frame.HEALTH, Frame.EVENT)
    reason = ""
    while True:
        ending = running.wait(LOOK_EVERY_S)
        if meter is not None and (readings := meter(time.monotonic_ns())) is not None:
            sink.append(Frame.HEALTH, readings)
        for _, kind, payload in tail.poll():
            live.add(kind, payload)
            if order.pilot is not None:
                order.pilot.add(kind, payload)
        elapsed_ns = time.monotonic_ns() - begin_ns
        observer.tick(live, elapsed_ns)
        if ending is not None:
            return ending, reason
        for key in keys():
            wheel.turn(key)
        if order.pilot is not None and not reason:
            _obey(order.pilot, running, directory, live)
        if not reason:
            wanted = "stopped by the user" if stop.is_set() else ""
            if not wanted and order.abort:
                # A search makes requests fail on purpose; only a target that is gone ends it.
                why = abort_reason if order.pilot is None else gone_reason
                wanted = why(live, elapsed_ns) or ""
            if wanted:
                reason = wanted
                observer.ending(reason)
                running.stop(min(GRACE_NS, 2 * units.NS_PER_S) / units.NS_PER_S)


STEP = 1.1
"""What one key press multiplies or divides the load by."""
LARGEST_FACTOR = 100.0


class Wheel:
    """Steers a run by keys, and writes each act into the journal.

    q stops, p pauses or goes on, + and - change the load by a tenth, ] goes on to the next stage, and a adds the last
    stage once more, by `append`, which says whether there is one. Where the load is not `changeable`, only q does
    anything.
    """

    def __init__(
        self,
        running: Running,
        sink: Sink,
        begin_ns: int,
        stop: threading.Event,
        append: Callable[[], bool] = lambda: False,
        changeable: bool = True,
    ) -> None:
        self._running, self._sink, self._begin_ns, self._stop = running, sink, begin_ns, stop
        self._append, self._changeable = append, changeable
        self._factor = 1.0
        self._paused = False

    def turn(self, key: str) -> None:
        """Does what a key stands for; other keys do nothing."""
        match key:
            case "q":
                self._stop.set()
            case _ if not self._changeable:
                pass
            case "p":
                self._paused = not self._paused
                (self._running.pause if self._paused else self._running.resume)()
                self._note("pause" if self._paused else "resume")
            case "+" | "=" | "-":
                wanted = self._factor / STEP if key == "-" else self._factor * STEP
                # Up and down again is where it was, not a hair beside it.
                wanted = 1.0 if abs(wanted - 1.0) < 1e-9 else wanted
                if 1 / LARGEST_FACTOR <= wanted <= LARGEST_FACTOR:
                    self._factor = wanted
                    self._running.scale(wanted)
                    self._note("scale", factor=wanted)
            case "]":
                self._running.next_stage()
                self._note("next_stage")
            case "a":
                if self._append():
                    self._note("append_stage")

    def _note(self, do: str, **more: Any) -> None:
        at_ns = max(time.monotonic_ns() - self._begin_ns, 0)
        self._sink.append(Frame.EVENT, encode_object({"at_ns": at_ns, "kind": "control", "do": do, **more}))


def _meter(order: Order, begin_ns: int) -> Callable[[int], bytes | None] | None:
    """What reads the served process; None where none is seen."""
    if order.served is None:
        return None
    from surgeline.served import Meter

    return Meter(order.served, begin_ns).read


MOST_ADDED = 100
"""Stages that keys add to a run; a held key ends there."""


def _once_more(order: Order, running: Running, directory: RunDirectory, live: Live) -> bool:
    """Adds the load's last stage behind the last; it is written down before it is sent. False where there is none.

    A script's load is its own, and a search adds its own stages.
    """
    planned = list(directory.meta.raw.get("stages") or ())
    if order.workload is None or order.pilot is not None or not planned:
        return False
    if len(planned) >= len(order.workload.stages) + MOST_ADDED:
        return False
    described = {**planned[-1], "index": len(planned)}
    directory.update(stages=[*planned, described])
    live.plan_stage(described)
    running.append_stage(order.workload.stages[-1])
    return True


def _obey(pilot: "Pilot", running: Running, directory: RunDirectory, live: Live) -> None:
    """Does what a search wants next; what it appends is written down before it is sent."""
    command = pilot.steer()
    if command.append:
        planned = _searched(pilot)
        directory.update(stages=planned)
        for described in planned[-len(command.append) :]:
            live.plan_stage(described)
        for move in command.append:
            running.append_stage(search_stage(move.rate_per_s, move.duration_s))
    if command.next_stage is not None:
        running.next_stage(command.next_stage)


def search_stage(rate_per_s: float, duration_s: float) -> Stage:
    """One load of a search, as a stage."""
    return open_stage(rate_per_s, rate_per_s, round(duration_s * units.NS_PER_S))


def _searched(pilot: "Pilot") -> list[dict[str, Any]]:
    """The stages of a search so far, each with its part in it."""
    stages = tuple(search_stage(move.rate_per_s, move.duration_s) for move in pilot.planned)
    described = _stages(Workload("open", stages))
    return [{**stage, "role": move.role} for stage, move in zip(described, pilot.planned, strict=True)]


def _state(ending: Ending, reason: str) -> tuple[Any, str]:
    if ending.reason == "failed":
        return "failed", ending.detail
    return ("aborted", reason) if reason else ("finished", "")


def _meta(order: Order) -> dict[str, Any]:
    """The run's description as it stands before the first request; nothing in it is secret."""
    load, sender = order.workload, order.engine.sender(order.subject)
    if isinstance(order.subject, Script):
        script = order.subject
        subject: dict[str, Any] = {
            "kind": "script",
            "path": str(script.path),
            "sha256": script.sha256,
            "arguments": list(script.arguments),
        }
    else:
        subject = {"kind": "plan", "plan": order.subject.dump(), "hash": order.subject.hash}
    return {
        "engine": order.engine.name,
        **({"sender": sender} if sender != order.engine.name else {}),
        "due_known": isinstance(order.subject, Plan),
        "subject": subject,
        "source": dict(order.source),
        "settings": {
            "target": order.target,
            "model": load.model if load else "script",
            "arrivals": load.arrivals if load else None,
            "preset": _preset(order.subject),
            "seed": load.seed if load else None,
            "max_in_flight": order.max_in_flight,
            "workers": order.workers,
            **({"remote": asdict(order.remote)} if order.remote is not None else {}),
            "grace_ns": GRACE_NS,
            "abort": order.abort,
            "addresses": list(order.addresses),
            "authorized": order.authorized,
            "data": _data(order),
            "slo": list(order.subject.slo if isinstance(order.subject, Plan) else order.slo),
            **({"not_asked": list(order.not_asked)} if order.not_asked else {}),
            **({"search": _search(order.pilot)} if order.pilot is not None else {}),
        },
        "stages": _searched(order.pilot)
        if order.pilot is not None
        else _stages(load, order.subject)
        if load is not None
        else [],
        **({"server": {"found": order.served.found}} if order.served is not None else {}),
        "environment": {
            "machine": environment.machine(),
            "generator_shares_machine": None
            if order.remote and not order.remote.loopback
            else _over_a_socket(order.subject) or environment.shares_machine(order.addresses),
        },
        "git": environment.git_state(Path.cwd()),
        "versions": environment.versions(),
        "command": list(order.command),
        "notes": list(order.notes),
        "reference_times": _reference_times(order.root),
        "looked": [dict(seen) for seen in order.looked],
        "series": dict(order.series) if order.series else None,
    }


def _over_a_socket(subject: Subject) -> bool:
    return isinstance(subject, Plan) and subject.connection.unix_socket is not None


def _preset(subject: Subject) -> dict[str, str] | None:
    """The question that the load asks, where it has a name; kept in words, for those who read the run later."""
    part = subject.workload if isinstance(subject, Plan) else None
    if not isinstance(part, PresetPart):
        return None
    preset = PRESETS[part.preset]
    return {"name": part.preset, "question": preset.question, "answered_by": preset.answered_by}


def _data(order: Order) -> list[dict[str, Any]]:
    """Which rows were used; the rows themselves may be passwords and are not kept."""
    if not isinstance(order.subject, Plan):
        return []
    return [
        {
            "name": name,
            "path": order.subject.data[name].file,
            "sha256": feed.sha256,
            "rows": len(feed.rows),
            "order": order.subject.data[name].order,
        }
        for name, feed in order.data.items()
    ]


def _reference_times(root: Path) -> list[Any]:
    """What to expect of endpoints of a kind: the user's own file beside the runs, else ours; kept with the run.

    Raises StoreError where the user's own cannot be read, or holds no entries.
    """
    own = root / "reference-times.json"
    if not own.exists():
        return list(json.loads(_OUR_REFERENCE_TIMES.read_text("utf-8"))["entries"])
    try:
        found = json.loads(own.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreError(f"{own} cannot be read: {why}. Mend it, or move it away for Surgeline's own.") from error
    entries = found.get("entries") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise StoreError(f'{own} has no list "entries". Mend it, or move it away for Surgeline\'s own.')
    return entries[:100]


def _search(pilot: "Pilot") -> dict[str, Any]:
    search = pilot.search
    return {
        "slo": [objective.text for objective in search.objectives],
        "budget_s": search.budget_s,
        "lowest": search.lowest,
        "highest": search.highest,
        "pace": search.pace.name,
    }


def _stages(load: Workload, subject: Subject | None = None) -> list[dict[str, Any]]:
    """The stages as they are judged: a rate in requests, also where sessions arrive, which issue several each."""
    by = subject.requests_per_iteration if load.model == "partly-open" and isinstance(subject, Plan) else 1.0
    return [
        {
            "index": index,
            "name": stage.name,
            "model": "open" if load.arrives else "closed",
            "from": stage.start * by,
            "to": stage.end * by,
            "unit": "requests/s" if load.arrives else "users",
            "duration_ns": stage.duration_ns,
            **({"sessions_from": stage.start, "sessions_to": stage.end} if load.model == "partly-open" else {}),
        }
        for index, stage in enumerate(load.stages)
    ]


def _settings(order: Order, directory: RunDirectory) -> Settings:
    """The engine's settings, with the run's time zero written down before the first request.

    Time zero lies a moment ahead, so that what is due at the very beginning is not late by the engine's own start.
    """
    clock = {"wall_ns": time.time_ns() + HEAD_START_NS, "monotonic_ns": time.monotonic_ns() + HEAD_START_NS}
    directory.update(clock=clock)
    agent = order.user_agent or f"surgeline/{__version__} (+run {directory.id})"
    return Settings(
        run_id=directory.id,
        monotonic_ns=clock["monotonic_ns"],
        workload=order.workload,
        user_agent=agent,
        headers=(*order.headers, ("x-surgeline-run", directory.id)),
        environment=order.secrets,
        data=order.data,
        sent_files=order.sent_files,
        max_in_flight=order.max_in_flight,
        grace_ns=GRACE_NS,
        workers=order.workers,
        addresses=order.addresses,
        remote=order.remote,
        max_connections=order.max_connections,
        proxy_addresses=order.proxy_addresses,
        files=order.files,
    )


# --- From a stored run to its pages ----------------------------------------------------------------------------------


def conclude(run: Run, say: Callable[[str], None] = lambda _: None, not_asked: Sequence[str] = ()) -> Mapping[str, Any]:
    """Judges a stored run and writes its result document, page, report and tables; the document.

    Works from the directory alone, whatever made it, and gives the same bytes each time. `not_asked` are ids of
    findings to do without, besides those that the run itself was told to.
    """
    from surgeline.report import document, html, page

    with _uncollected():
        measured = run.measurement()
        result, summary = _judged(run, measured, not_asked)
        run.write_text("result.json", document.dump(result))
        run.write_text("summary.md", page.render(result))
        run.write_text("report.html", html.render(result))
        for name, lines in _tables(run, measured, summary):
            say(name)
            run.write_lines(name, lines)
    run.record_result({"verdict": result["verdict"], "totals": result["totals"]})
    return result


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: a measurement is many small values without any, and to look through them again
    and again would take a twentieth of the time.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def judged(run: Run, not_asked: Sequence[str] = ()) -> tuple[dict[str, Any], Any]:
    """The result document of a stored run, and the summary it was made from; nothing is written.

    The page names the findings that were left out, here or when the run was made.
    """
    return _judged(run, run.measurement(), not_asked)


def _judged(run: Run, measured: Measurement, not_asked: Sequence[str]) -> tuple[dict[str, Any], Any]:
    from surgeline.analysis import details, traits
    from surgeline.analysis.summary import summarise
    from surgeline.findings import cleared, judge
    from surgeline.report import document

    seen = details.look(_ahead(run.rows(details.COLUMNS, None, ROWS_AT_ONCE, ("endpoint", "error"))))
    planned = [stage for stage in run.meta.raw.get("stages") or () if isinstance(stage, Mapping)]
    loads = {int(stage["index"]): float(max(stage["from"], stage["to"])) for stage in planned}
    habits = traits.look(run.rows(traits.COLUMNS), measured.exchanges, loads, seen.stalls)
    summary = summarise(run.meta.raw, measured, seen, habits)
    own = (run.meta.raw.get("settings") or {}).get("not_asked") or ()
    silent = sorted({str(rule) for rule in (*own, *not_asked)})
    summary = replace(summary, not_asked=tuple(silent))
    found = judge(summary, silent)
    return document.result_document(summary, found, cleared(summary, found, silent)), summary


BATCHES_AHEAD = 3
"""Of rows, read while one is looked at: as many as a row group of the file is cut into, and one."""


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches in the same order; the next ones are read by a thread while one is worked on."""
    with ThreadPoolExecutor(1, "reader") as reader:
        read = deque(reader.submit(next, batches, None) for _ in range(BATCHES_AHEAD))
        while (batch := read.popleft().result()) is not None:
            read.append(reader.submit(next, batches, None))
            yield batch


def _tables(run: Run, measured: Measurement, summary: Any) -> Iterator[tuple[str, Iterable[str]]]:
    from surgeline.report import tables

    yield "endpoints.csv", tables.endpoints_csv(summary)
    yield "timeline.csv", tables.timeline_csv(summary)
    names = {stage.index: stage.name for stage in summary.stages}
    if measured.transactions:
        yield "transactions.csv", tables.transactions_csv(measured.transactions, names)
    if measured.messages:
        yield "messages.csv", tables.messages_csv(measured.messages, names)
    yield from tables.locust_csvs(summary, measured)
    stored = run.meta.stored
    if stored is not None and int(stored.get("rows", 0)) <= MOST_ROWS_AS_CSV:
        yield "requests.csv", tables.requests_csv(run.rows())


def read_document(run: Run) -> Mapping[str, Any]:
    """The result document of a run: the stored one, or judged anew where there is none that this version can read."""
    from surgeline.report import document

    try:
        stored = json.loads((run.path / "result.json").read_bytes())
    except (OSError, ValueError):
        stored = None
    # Keys are added within a format; a document from before they were is judged again.
    wanted = document.SCHEMA["required"]
    if isinstance(stored, dict) and all(key in stored for key in wanted) and stored["format"] == document.FORMAT:
        return stored
    return judged(run)[0]


def figures(run: Run) -> Any:
    """What comparisons and trends take of a stored run (`analysis.figures.RunFigures`); its rows are not read."""
    import numpy as np

    from surgeline.analysis.figures import Cell, figures_from

    document = read_document(run)
    cells, together = (
        [Cell(**{**cell, "index": np.asarray(cell["index"]), "count": np.asarray(cell["count"])}) for cell in held]
        for held in (run.cells(), run.cells_beside())
    )
    return figures_from(run.meta.raw, document, cells, together)


# --- Series ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a series: what to run, on which side ("a" or "b"), in which block.

    `prepare` brings the target into the state of that side and returns what undoes it afterwards.
    """

    order: Order
    side: str
    block: int
    prepare: Callable[[], Callable[[], None]] = lambda: lambda: None


@dataclass(frozen=True, slots=True)
class Spacing:
    """What happens between the runs of a series, all of it unmeasured.

    `between` is done before each run but the first; then the target is warmed up for `warm_up_ns` with the run's own
    load at its first level, and left alone for `cool_down_ns` afterwards.
    """

    between: Callable[[], None] = lambda: None
    warm_up_ns: int = 0
    cool_down_ns: int = 0


def blocks(count: int, sides: Sequence[str], seed: int) -> list[tuple[int, str]]:
    """In which order the sides take their turns: every side once in each block, the order within it drawn.

    With two sides, half of the blocks begin with either (one more for an odd count), so that a drift over the blocks
    hits both alike.
    """
    draws = SplitMix64(seed)
    firsts = [number % len(sides) for number in range(count)]
    for last in range(count - 1, 0, -1):
        other = draws.next_u64() % (last + 1)
        firsts[last], firsts[other] = firsts[other], firsts[last]
    return [
        (number, sides[(first + step) % len(sides)])
        for number, first in enumerate(firsts)
        for step in range(len(sides))
    ]


def carry_out_series(
    turns: Sequence[Turn],
    group: Mapping[str, Any],
    spacing: Spacing,
    observer: Callable[[int, Turn], Any],
    stop: threading.Event,
    done: Callable[[Finished], None] = lambda finished: None,
) -> list[Finished]:
    """Runs the turns one after the other; those that were finished when `stop` was set, or all.

    `observer` gives a context manager of an Observer for each turn. Both sides of a block have the same arrivals: the
    workload's seed is moved by the number of the block and by nothing else. A run that was stopped is kept and judged,
    but belongs to no block.
    """
    finished: list[Finished] = []
    for number, turn in enumerate(turns):
        if stop.is_set():
            break
        if number:
            spacing.between()
        undo = turn.prepare()
        try:
            order = turn.order
            load = order.workload
            if load is not None:
                load = replace(load, seed=load.seed + turn.block)
                if spacing.warm_up_ns:
                    _warm_up(replace(order, workload=load), spacing.warm_up_ns, stop)
            place = {**group, "block": turn.block, "side": turn.side, "order": number}
            if stop.is_set():
                break
            with observer(number, turn) as watching:
                made = carry_out(replace(order, workload=load, series=place), watching, stop)
        finally:
            undo()
        if stop.is_set():
            with RunDirectory.hold(made.run.path) as cut_short:
                cut_short.update(series=None)
            break
        finished.append(made)
        done(made)
        if spacing.cool_down_ns and number + 1 < len(turns):
            stop.wait(spacing.cool_down_ns / units.NS_PER_S)
    return finished


class _Unseen:
    """Nobody watches a warm-up."""

    def started(self, run: RunDirectory, order: Order) -> None:
        del run, order

    def tick(self, live: Live, elapsed_ns: int) -> None:
        del live, elapsed_ns

    def ending(self, reason: str) -> None:
        del reason


def _warm_up(order: Order, duration_ns: int, stop: threading.Event) -> None:
    """The order's load at its first level, measured by nobody: its directory is thrown away."""
    load = order.workload
    assert load is not None  # noqa: S101 - the caller has looked
    first = load.stages[0]
    level = first.start or first.end
    calm = replace(load, stages=(replace(first, start=level, end=level, duration_ns=duration_ns),))
    with tempfile.TemporaryDirectory(prefix="surgeline-warm-up-") as nowhere:
        measure(replace(order, workload=calm, root=Path(nowhere), name="warm-up", abort=False), _Unseen(), stop)


def files_of(run: Run, names: Sequence[str] = ("summary.md", "report.html", "requests.csv")) -> list[Path]:
    """Those of the files that the run has."""
    return [run.path / name for name in names if (run.path / name).exists()]
