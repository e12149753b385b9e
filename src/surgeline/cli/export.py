"""`surgeline export`: a stored run's raw data as CSV."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from surgeline.cli import style
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
    lines = tables.requests_csv(stored.rows(where=where or None))
    if output == "-":
        for line in lines:
            sys.stdout.write(line)
        return
    if output is None:
        path = stored.write_lines("requests.csv", lines)
    else:
        path = Path(output)
        temporary = path.with_name(path.name + ".part")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        temporary.replace(path)
    click.echo(style.shown_path(path))
