"""How commands find stored runs: one option, one index, one way to name a run, a series, a baseline or a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from surgeline.cli import EXIT_USAGE, Refused, style
from surgeline.store.rundir import DEFAULT_ROOT, Run

if TYPE_CHECKING:
    from surgeline.analysis.figures import RunFigures
    from surgeline.store.index import Baseline, Index

ROOT_OPTION = click.option(
    "--out",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Where the runs are kept.",
)


def index(root: Path) -> "Index":
    """The index of the runs in `root`."""
    from surgeline.store.index import Index

    return Index(root)


def found(reference: str, root: Path) -> Run:
    """The one run that a reference names. Raises StoreError where there is none, Refused where there are several."""
    books = index(root)
    runs = books.resolve(reference)
    _pass_on(books)
    if len(runs) != 1:
        raise Refused(
            f"{reference} is {len(runs)} runs; name one of them: {', '.join(r.id for r in runs[:5])}", EXIT_USAGE
        )
    return runs[0]


def _pass_on(books: "Index") -> None:
    """Says what the index noticed on the way."""
    for notice in books.notices:
        style.note(notice)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: how it is called, its runs, and the baseline it is, where it is one."""

    label: str
    runs: "Sequence[RunFigures]"
    baseline: "Baseline | None" = None


def members(reference: str, root: Path) -> list[Run] | None:
    """The runs of a series, a baseline or a list (`ID,ID,…`); None where the reference is nothing stored."""
    from surgeline.store.errors import NoSuchRun

    if Path(reference).is_file() or "://" in reference:
        return None
    try:
        return [run for part in reference.split(",") for run in index(root).resolve(part.strip())]
    except NoSuchRun:
        return None


def side(reference: str, root: Path) -> Side:
    """What a comparison calls BASE or CANDIDATE: a run, a series, one side of it, a baseline, its file, or a list.

    `last` is the whole of the last series (or of its side) where the last run belongs to one; an id is always that run
    alone. Raises StoreError.
    """
    from surgeline import runner
    from surgeline.store.index import read_export

    if Path(reference).is_file():
        document = read_export(reference)
        return Side(str(document["baseline"].get("name", reference)), _parsed(document["runs"], reference))
    books = index(root)
    known = {entry.name: entry for entry in books.baselines()}
    if reference in known:
        baseline = known[reference]
        held = books.figures(reference)
        if held is not None:
            return Side(reference, _parsed(held, f"the baseline {reference}"), baseline)
        return Side(reference, [runner.figures(run) for run in books.resolve(reference)], baseline)
    runs = [run for part in reference.split(",") for run in books.resolve(part.strip())]
    _pass_on(books)
    if len(runs) == 1 and (reference == "last" or reference.startswith("last~")):
        runs = series_of_last(books, runs[0])
    group, colon, letter = reference.rpartition(":")
    if colon and len(letter) == 1 and runs[0].meta.series and group in ("last", runs[0].meta.series.get("group")):
        return Side(f"side {letter.upper()}", [runner.figures(run) for run in runs])
    label = reference if len(reference) <= 40 else f"{len(runs)} runs"
    return Side(label, [runner.figures(run) for run in runs])


def series_of_last(books: "Index", run: Run) -> list[Run]:
    """The runs of the side of the series that a run belongs to; itself where it belongs to none."""
    series = run.meta.series
    if not series or not series.get("group"):
        return [run]
    return books.resolve(f"{series['group']}:{series.get('side') or 'a'}") or [run]


def _parsed(raw: Sequence[object], where: str) -> "list[RunFigures]":
    from surgeline.analysis.figures import RunFigures
    from surgeline.store.errors import Damaged

    try:
        return [RunFigures.parse(item) for item in raw]
    except ValueError as error:
        raise Damaged(f"{where} is damaged: {error}") from error
