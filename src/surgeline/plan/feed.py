"""The content of a data feed: rows of named texts, out of CSV or JSON lines.

What comes in are the bytes of a file and its name, what leaves is a `Feed`, or a PlanError that names the line of each
row that does not fit. Where the file is, and whether it may be read, is the caller's affair; which iteration takes
which row is the engine's.

CSV follows RFC 4180: the first row names the columns, values in quotes may hold commas and line breaks. Where the first
row has no comma but semicolons or tabs, those separate. JSON lines hold one object each, all with the same keys; a
value that is no text stands as JSON writes it, null as nothing.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from surgeline.plan.check import steps_texts
from surgeline.plan.model import TEMPLATE, DataPart, Plan
from surgeline.plan.problem import MOST_COLLECTED, Fault, PlanError, Problem, Span, did_you_mean, path_text, quoted
from surgeline.workload import Workload

MOST_BYTES = 64 << 20
"""Of one file; a million rows of test data take a third of it."""
MOST_ROWS = 1_000_000
MOST_COLUMNS = 200
LONGEST_VALUE = 64 << 10
"""Characters; as long as an extracted variable may be."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Rows of texts, each as long as `columns`; at least one row and one column. `sha256` is of the file's bytes."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sha256: str


def read_feed(content: bytes, where: str) -> Feed:
    """The rows in a file's bytes; the suffix of `where` says the form. Raises PlanError with the lines at fault."""
    text = _decoded(content, where)
    reading = _Reading(where)
    numbered = _csv_rows(text, reading) if where.lower().endswith(".csv") else _json_rows(text, reading)
    rows = tuple(islice(numbered, MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        reading.fault(1, f"there are more than {MOST_ROWS:,} rows; split the file")
    if not reading.problems and not rows:
        reading.fault(1, "there is no row of data" + (" below the names of the columns" if reading.columns else ""))
    if reading.problems:
        raise PlanError(reading.problems)
    return Feed(reading.columns, rows, hashlib.sha256(content).hexdigest())


class _Reading:
    """What is known while a file is read: its columns once they are, and what is wrong with it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.columns: tuple[str, ...] = ()
        self.problems: list[Problem] = []

    def fault(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.where, message, Span(max(line, 1), 1)))

    @property
    def full(self) -> bool:
        """Whether enough is wrong to stop."""
        return len(self.problems) >= MOST_COLLECTED

    def name_columns(self, names: Sequence[str], line: int) -> bool:
        """Takes the columns' names; False where they cannot be."""
        if len(names) > MOST_COLUMNS:
            self.fault(line, f"there are {len(names):,} columns; {MOST_COLUMNS} at most")
        seen: set[str] = set()
        for number, name in enumerate(names, 1):
            if not TEMPLATE.fullmatch(f"{{{{{name}}}}}") or name != name.strip():
                self.fault(line, f"the name {quoted(name)} of column {number} cannot stand in a template")
            elif name in seen:
                self.fault(line, f"two columns are called {quoted(name)}")
            seen.add(name)
        self.columns = tuple(names)
        return not self.problems


def _decoded(content: bytes, where: str) -> str:
    if len(content) > MOST_BYTES:
        raise PlanError.of(where, f"the file has {len(content) >> 20} MiB; {MOST_BYTES >> 20} at most")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PlanError.of(where, "the file is UTF-16; save it as UTF-8")
    try:
        # Spreadsheets put a byte order mark in front; it is no part of the first column's name.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PlanError.of(where, "this is not UTF-8; save the file as UTF-8", Span(line, 1)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise PlanError.of(where, "a zero byte cannot stand in a text", Span(line, 1))
    return text


def _csv_rows(text: str, reading: _Reading) -> Iterator[tuple[str, ...]]:
    first_line = text.split("\n", 1)[0]
    separator = "," if "," in first_line else next((mark for mark in ";\t" if mark in first_line), ",")
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number, begin = 0, 1
    try:
        for values in table:
            line, begin = begin, table.line_num + 1
            if not values:
                continue
            if not reading.columns:
                if not reading.name_columns(values, line):
                    return
                continue
            number += 1
            if len(values) != len(reading.columns):
                have = f"row {number} has {_count(len(values), 'value')}"
                reading.fault(line, f"{have}, and there are {_count(len(reading.columns), 'column')}")
            elif any(len(value) > LONGEST_VALUE for value in values):
                reading.fault(line, f"row {number} has a value of more than {LONGEST_VALUE:,} characters")
            elif not reading.problems:
                yield tuple(values)
            if reading.full:
                return
    except csv.Error as error:
        reading.fault(begin, f"row {number + 1} cannot be read: {error}; is a quotation mark not closed?")


def _json_rows(text: str, reading: _Reading) -> Iterator[tuple[str, ...]]:
    number = 0
    for line, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        number += 1
        try:
            found = json.loads(one)
        except (ValueError, RecursionError) as error:
            reading.fault(line, f"row {number} is not JSON: {error}")
            found = None
        if isinstance(found, dict):
            if not reading.columns and not reading.name_columns(tuple(found), line):
                return
            missing = [name for name in reading.columns if name not in found]
            extra = [name for name in found if name not in reading.columns]
            if missing or extra:
                word, name = ("lacks", missing[0]) if missing else ("has another key,", extra[0])
                reading.fault(line, f"row {number} {word} {quoted(name)}; every row has the keys of the first")
            else:
                values = tuple(_as_text(found[name]) for name in reading.columns)
                if any(len(value) > LONGEST_VALUE for value in values):
                    reading.fault(line, f"row {number} has a value of more than {LONGEST_VALUE:,} characters")
                elif not reading.problems:
                    yield values
        elif not reading.problems or reading.problems[-1].span != Span(line, 1):
            reading.fault(line, f'row {number} is not an object, as in {{"name": "ann"}}')
        if reading.full:
            return


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


# --- plan and feeds together -----------------------------------------------------------------------------------------


def feeds_used(plan: Plan, scenario: str) -> tuple[str, ...]:
    """The data that a scenario's templates name, each once, in the order of the plan."""
    if not plan.data:
        return ()
    named = {found[1].partition(".")[0] for text in _texts_of(plan, scenario) for found in TEMPLATE.finditer(text)}
    return tuple(name for name in plan.data if name in named)


def _texts_of(plan: Plan, scenario: str) -> Iterator[str]:
    yield from plan.headers.values()
    yield from plan.auth.header.values()
    yield plan.auth.bearer or ""
    for _, text in steps_texts(plan, scenario):
        yield text


def with_hashes(plan: Plan, feeds: Mapping[str, Feed]) -> Plan:
    """The plan with the hash of each file that it names, so that plans with other data are other plans."""
    if not plan.data:
        return plan
    data = {name: part.model_copy(update={"sha256": feeds[name].sha256}) for name, part in plan.data.items()}
    return plan.model_copy(update={"data": data})


def feed_faults(plan: Plan, feeds: Mapping[str, Feed]) -> list[Fault]:
    """What a plan wants of its data and does not find there: columns, rows, the content it was written for."""
    return list(islice(_feed_faults(plan, feeds), MOST_COLLECTED))


def _feed_faults(plan: Plan, feeds: Mapping[str, Feed]) -> Iterator[Fault]:
    for name, part in plan.data.items():
        if part.sha256 not in (None, feeds[name].sha256):
            yield Fault(("data", name), f"data.{name}: {part.file} is not the file that the plan was run with")
        yield from _too_few_rows(plan, name, part, len(feeds[name].rows))
    for scenario in plan.scenarios:
        for loc, text in steps_texts(plan, scenario):
            for found in TEMPLATE.finditer(text):
                name, dot, column = found[1].partition(".")
                if dot and name in feeds and column not in feeds[name].columns:
                    hint = did_you_mean(column, feeds[name].columns)
                    if not hint:
                        hint = f"; it has {', '.join(quoted(known) for known in feeds[name].columns[:5])}"
                    yield Fault(loc, f"{path_text(loc)}: {plan.data[name].file} has no column {quoted(column)}{hint}")


def short_feeds(plan: Plan, feeds: Mapping[str, Feed], load: Workload) -> Iterator[str]:
    """A sentence for each file whose rows will be used up before such a load is over, which ends the run; by what is
    expected, as arrivals may be drawn. None for closed users, who wait for their rows or keep them.
    """
    if not load.arrives:
        return
    per_arrival = plan.requests_per_iteration if load.model == "open" else 1.0
    arrivals = sum(stage.area for stage in load.stages) / per_arrival
    weights = {name: plan.weight_of(name) for name in plan.scenarios}
    for name, part in plan.data.items():
        taking = sum(weight for scenario, weight in weights.items() if name in feeds_used(plan, scenario))
        taken, rows = arrivals * taking / sum(weights.values()), len(feeds[name].rows)
        if not part.wraps and taken > rows:
            has = f"{part.file} has {_count(rows, 'row')}, each used once"
            yield f"{has}, and this load takes about {taken:,.0f}: the run ends when they are used up."


def _too_few_rows(plan: Plan, name: str, part: DataPart, rows: int) -> Iterator[Fault]:
    """One row for each user: no fewer than there are users at the peak."""
    load = plan.load()
    peak = max(max(stage.start, stage.end) for stage in load.stages)
    if part.order == "unique" and load.model == "closed" and peak > rows:
        have = f"data.{name}: {_count(rows, 'row')} in {part.file}"
        yield Fault(("data", name), f"{have}, and {_count(round(peak), 'user')} who each need their own")
