"""`surgeline baseline`: the run that others are compared with, under a name."""

import json
from pathlib import Path

import click

from surgeline.cli.stored import ROOT_OPTION, found, index


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def baseline() -> None:
    """Keep a run as the one to compare with."""


@baseline.command("save")
@click.argument("name")
@click.argument("run", default="last")
@ROOT_OPTION
@click.option("--note", default="", help="Why this one.")
@click.option("--replace", metavar="REASON", help="Replace an older baseline of that name; the reason is kept.")
def save(name: str, run: str, root: Path, note: str, replace: str | None) -> None:
    """Remember RUN (by default the last) as NAME."""
    stored = found(run, root)
    index(root).save_baseline(name, [stored.id], note=note, replace=replace)
    click.echo(f"baseline {name} is {stored.id}")
    click.echo(f"Compare with it after your next run: surgeline compare {name} last", err=True)


@baseline.command("list")
@ROOT_OPTION
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_baselines(root: Path, as_json: bool) -> None:
    """The baselines and what they are made of."""
    baselines = index(root).baselines()
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in baselines], indent=1, ensure_ascii=False))
        return
    if not baselines:
        click.echo("There is no baseline yet. `surgeline baseline save main` makes one of the last run.", err=True)
    for entry in baselines:
        click.echo(f"{entry.name:<16} {', '.join(entry.runs)}  {entry.created_at}  {entry.note}".rstrip())


@baseline.command("rm")
@click.argument("name")
@ROOT_OPTION
def remove(name: str, root: Path) -> None:
    """Forget a baseline; its runs stay."""
    index(root).remove_baseline(name)
    click.echo(f"forgot baseline {name}")
