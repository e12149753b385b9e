"""`surgeline baseline`: the runs that others are compared with, under a name."""

import json
import sys
from pathlib import Path

import click

from surgeline import runner
from surgeline.cli import EXIT_INVALID, EXIT_USAGE, Refused, style
from surgeline.cli.stored import ROOT_OPTION, index, series_of_last, side


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def baseline() -> None:
    """Keep runs as what others are held against."""


@baseline.command("save")
@click.argument("name")
@click.argument("runs", default="last")
@ROOT_OPTION
@click.option("--note", default="", help="Why this one.")
@click.option("--replace", metavar="REASON", help="Replace an older baseline of that name; the reason is kept.")
def save(name: str, runs: str, root: Path, note: str, replace: str | None) -> None:
    """Remember RUNS (by default the last run or series) as NAME.

    RUNS is a run, a series, one side of it (GROUP:b), or a list (ID,ID,…). Five runs carry verdicts, one carries hints.
    """
    books = index(root)
    found = [run for part in runs.split(",") for run in books.resolve(part.strip())]
    if len(found) == 1 and runs == "last":
        found = series_of_last(books, found[0])
    figures = [runner.figures(run) for run in found]
    bad = [run for run in figures if run.validity == "invalid"]
    if bad:
        why = f": {bad[0].reasons[0]}" if bad[0].reasons else ""
        raise Refused(f"{bad[0].id} is invalid and cannot be what others are held against{why}", EXIT_INVALID)
    if len({run.subject for run in figures}) > 1:
        raise Refused("The runs of a baseline are of one plan; these are of several.", EXIT_USAGE)
    books.save_baseline(
        name,
        [run.path.name for run in found],
        note=note,
        replace=replace,
        figures=[run.as_dict() for run in figures],
    )
    ids = [run.id for run in found]
    click.echo(
        f"baseline {name} is {ids[0]}" if len(ids) == 1 else f"baseline {name} is {len(ids)} runs: {', '.join(ids)}"
    )
    click.echo(f"Compare with it after your next run: surgeline compare {name} last", err=True)
    if len(ids) < 5:
        click.echo("One run a side gives hints; `surgeline run … --repeat 5` gives verdicts.", err=True)


@baseline.command("list")
@ROOT_OPTION
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_baselines(root: Path, as_json: bool) -> None:
    """The baselines and what they are made of."""
    books = index(root)
    baselines = books.baselines()
    for notice in books.notices:
        style.warn(notice)
    if as_json:
        click.echo(json.dumps([entry.as_dict() for entry in baselines], indent=1, ensure_ascii=False))
        return
    if not baselines:
        click.echo("There is no baseline yet. `surgeline baseline save main` makes one of the last run.", err=True)
    for entry in baselines:
        runs = entry.runs[0] if len(entry.runs) == 1 else f"{len(entry.runs)} runs from {entry.runs[0]}"
        click.echo(f"{entry.name:<16} {runs}  {entry.created_at}  {entry.note}".rstrip())


@baseline.command("show")
@click.argument("name")
@ROOT_OPTION
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it there, as BASELINE.md.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, root: Path, output: Path | None, as_json: bool) -> None:
    """The documented starting point: environment, plan, numbers with intervals, findings, history.

    With -o BASELINE.md, a page to commit beside the code.
    """
    from surgeline.report import baseline_page
    from surgeline.store import files

    books = index(root)
    entry = books.baseline(name)
    if as_json:
        click.echo(json.dumps(entry.as_dict(), indent=1, ensure_ascii=False))
        return
    text = baseline_page.render(entry.as_dict(), side(name, root).runs)
    if output is not None:
        files.replace(output, [text])
        style.say("Page", str(style.shown_path(output)))
        return
    sys.stdout.write(text if style.takes_unicode(sys.stdout) else text.encode("ascii", "replace").decode())


@baseline.command("export")
@click.argument("name")
@ROOT_OPTION
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="NAME.baseline.json otherwise.")
def export(name: str, root: Path, output: Path | None) -> None:
    """Write NAME with all that comparisons need into one file, to be committed beside the code."""
    path = output or Path(f"{name}.baseline.json")
    size = index(root).export_baseline(name, path)
    click.echo(f"{style.shown_path(path)}  {size:,} bytes")


@baseline.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Under this name; by default the one it was exported with.")
@ROOT_OPTION
@click.option("--replace", metavar="REASON", help="Replace a baseline of that name; the reason is kept.")
def import_baseline(file: Path, name: str | None, root: Path, replace: str | None) -> None:
    """Take in a baseline that was exported."""
    made = index(root).import_baseline(file, name, replace=replace)
    click.echo(f"baseline {made.name} is {len(made.runs)} run{'' if len(made.runs) == 1 else 's'} from {file.name}")


@baseline.command("rm")
@click.argument("name")
@ROOT_OPTION
def remove(name: str, root: Path) -> None:
    """Forget a baseline; its runs stay."""
    index(root).remove_baseline(name)
    click.echo(f"forgot baseline {name}")
