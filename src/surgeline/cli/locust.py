"""`surgeline locust`: Locust with exactly its own options, and the run kept."""

import sys

import click

from surgeline.cli import style


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.pass_context
def locust(context: click.Context) -> int:
    """Run stock Locust with exactly its own options (`-f -u -r -t -H --processes …`); what it measures is kept."""
    from surgeline import runner
    from surgeline.cli.stored import index
    from surgeline.engines.locust import run_locust
    from surgeline.store.rundir import Run

    code, path = run_locust(list(context.args))
    if path is not None:
        stored = Run(path)
        runner.conclude(stored)
        index(path.parent).record(stored)
        click.echo(style.places(path, not style.takes_unicode(sys.stderr)), err=True)
    return code
