"""How commands find stored runs: one option, one index, one way to name a run."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from surgeline.cli import EXIT_USAGE, Refused
from surgeline.store.rundir import DEFAULT_ROOT, Run

if TYPE_CHECKING:
    from surgeline.store.index import Index

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
    runs = index(root).resolve(reference)
    if len(runs) != 1:
        raise Refused(
            f"{reference} is {len(runs)} runs; name one of them: {', '.join(r.id for r in runs[:5])}", EXIT_USAGE
        )
    return runs[0]
