"""`surgeline runs`: what is stored, shown, removed, and closed after a crash."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from surgeline import runner
from surgeline.cli import style
from surgeline.cli.run import show
from surgeline.cli.stored import ROOT_OPTION, found, index
from surgeline.store.rundir import Run, is_running, recover

if TYPE_CHECKING:
    from surgeline.store.index import Entry


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def runs() -> None:
    """List, show, remove and recover stored runs.

    RUN is an id, the beginning or the end of one, `last`, `last~1`, or a run's directory.
    """


@runs.command("list")
@ROOT_OPTION
@click.option("-n", "--most", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_runs(root: Path, most: int, as_json: bool) -> None:
    """The stored runs, newest first."""
    from surgeline.report import terminal

    entries = [_as_listed(entry) for entry in index(root).runs(most)]
    if as_json:
        click.echo(json.dumps(entries, indent=1, ensure_ascii=False))
    elif not entries:
        click.echo(f"There are no runs in {root} yet. `surgeline demo` makes one.", err=True)
    else:
        import sys

        click.echo(
            terminal.render_runs(
                entries,
                ascii=not style.takes_unicode(sys.stdout),
                cut=sys.stdout.isatty(),
            )
        )


def _as_listed(entry: "Entry") -> dict[str, Any]:
    """The entry as a list shows it: a run that nobody closed and nobody runs is left open, whatever it says itself."""
    shown = entry.as_dict()
    if not entry.closed and not entry.problem and not is_running(entry.path):
        shown["state"] = "left open"
    return shown


@runs.command("show")
@click.argument("run", default="last")
@ROOT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the result document.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def show_run(run: str, root: Path, as_json: bool, ascii_only: bool) -> None:
    """What came of a run."""
    stored = found(run, root)
    show(stored.path, runner.read_document(stored), as_json, ascii_only)


@runs.command("rm")
@click.argument("run", nargs=-1, required=True)
@ROOT_OPTION
@click.option("--force", is_flag=True, help="Also where a baseline is made of it.")
def remove(run: tuple[str, ...], root: Path, force: bool) -> None:
    """Remove runs with everything in their directories."""
    for reference in run:
        stored = found(reference, root)
        index(root).remove(stored.id, force=force)
        click.echo(f"removed {stored.id}")


@runs.command("recover")
@click.argument("run", required=False)
@ROOT_OPTION
def recover_run(run: str | None, root: Path) -> None:
    """Close what a killed run left behind, and report it.

    At most the last second is missing; requests that were due and have no answer are counted as aborted. Without RUN,
    every run that was left open.
    """
    from surgeline.report.text import plural

    paths = [found(run, root).path] if run else index(root).left_open()
    if not paths:
        click.echo("No run was left open.", err=True)
    for path in paths:
        closing = recover(path)
        stored = Run(path)
        document = runner.conclude(stored)
        index(root).record(stored)
        click.echo(
            f"recovered {stored.id}: {plural(closing.rows, 'row')}, "
            f"{plural(closing.aborted, 'request')} counted as aborted",
            err=True,
        )
        if closing.bytes_left_out:
            style.warn(f"{closing.bytes_left_out:,} bytes at the end of its journal could not be read")
        show(stored.path, document, False, False)


@runs.command("import")
@click.argument("file", nargs=-1, required=True, type=click.Path(path_type=Path))
@ROOT_OPTION
@click.option("--name", help="What the runs are called; by default the file's name.")
def import_runs(file: tuple[Path, ...], root: Path, name: str | None) -> None:
    """Store results made elsewhere as runs: Locust CSV and JSON, JMeter JTL, k6 CSV and JSON, vegeta, oha, hey.

    Each run is marked with what such a file cannot say. Several files become one series, in the order given.
    """
    import secrets

    from surgeline.store.elsewhere import import_run, read_elsewhere
    from surgeline.store.meta import slug

    for path in file:
        read_elsewhere(path)  # all of them are looked at before the first becomes a run
    group = f"{slug(name or file[0].name.split('.')[0])}-import-{secrets.token_hex(2)}"
    for order, path in enumerate(file):
        series = {"group": group, "kind": "import", "block": order, "side": "a", "order": order}
        stored = import_run(root, path, name, series if len(file) > 1 else None)
        document = runner.conclude(stored)
        index(root).record(stored)
        click.echo(f"{stored.id}  {document['verdict']['sentence']}")
        for clause in stored.meta.raw["imported"]["cannot"]:
            style.note(f"cannot say {clause}")
    if len(file) > 1:
        click.echo(f"series {group}")
