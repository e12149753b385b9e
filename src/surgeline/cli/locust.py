"""`surgeline locust`: Locust with exactly its own options, and the run kept."""

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.pass_context
def locust(context: click.Context) -> int:
    """Run stock Locust with exactly its own options (`-f -u -r -t -H --processes …`); what it measures is kept.

    `-f` may also name a plan, whose load Locust then decides: one user is one of the plan's, or one arrival per second.
    Beside Locust's own there are `--client native` and, for plans, `--authorized`, as in `surgeline run`.
    """
    from surgeline.locust.door import main

    return main(context.args)
