"""`surgeline export`: a stored run's raw data as CSV."""

import contextlib
import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from surgeline.cli import EXIT_USAGE, Refused, style
from surgeline.cli.stored import ROOT_OPTION, found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", default="last")
@ROOT_OPTION
@click.option(
    "-o", "--output", default=None, help="A file, or - for standard output; requests.csv in the run otherwise."
)
@click.option("--endpoint", multiple=True, help="Only these endpoints.")
@click.option("--outcome", multiple=True, help="Only these outcomes: ok, failure, error, timeout, not_sent, aborted.")
def export(run: str, root: Path, output: str | None, endpoint: tuple[str, ...], outcome: tuple[str, ...]) -> None:
    """Every request of RUN (by default the last) as a row of CSV: also those that failed or were never sent."""
    from surgeline.report import tables
    from surgeline.samples import Outcome

    names = {member.name.lower(): int(member) for member in Outcome}
    for word in outcome:
        if word not in names:
            raise click.BadParameter(f"{word!r} is no outcome; there are {', '.join(names)}", param_hint="--outcome")
    where: dict[str, Sequence[str | int]] = {}
    if endpoint:
        where["endpoint"] = list(endpoint)
    if outcome:
        where["outcome"] = [names[word] for word in outcome]
    stored = found(run, root)
    known = {count.endpoint for count in stored.measurement().counts} if endpoint else set()
    for name in endpoint:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Refused(f"{stored.id} has no endpoint {name!r}{hint}", EXIT_USAGE)
    lines = tables.requests_csv(stored.rows(where=where or None))
    if output == "-":
        for line in lines:
            sys.stdout.write(line)
        return
    if output is None:
        path = stored.write_lines("requests.csv", lines)
    else:
        path = _written(Path(output), lines)
    click.echo(style.shown_path(path))


def _written(path: Path, lines: Iterable[str]) -> Path:
    """The file, whole or not at all. Raises Refused where it cannot be written."""
    if path.is_dir():
        raise Refused(f"{path} is a directory; name a file in it", EXIT_USAGE)
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise Refused(f"{path} cannot be written: {error.strerror}", EXIT_USAGE) from error
    return path
