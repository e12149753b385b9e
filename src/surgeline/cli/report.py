"""`surgeline report`: a stored run's pages, made again."""

from pathlib import Path

import click

from surgeline import runner
from surgeline.cli import style
from surgeline.cli.stored import ROOT_OPTION, found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", default="last")
@ROOT_OPTION
def report(run: str, root: Path) -> None:
    """Make the page, the report and the tables of RUN (by default the last) again, from its directory alone."""
    stored = found(run, root)
    runner.conclude(stored)
    for path in runner.files_of(stored, ("summary.md", "report.html", "result.json", "endpoints.csv", "timeline.csv")):
        click.echo(style.shown_path(path))
