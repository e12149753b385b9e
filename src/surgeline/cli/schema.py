"""`surgeline schema`: the published JSON Schemas."""

import json

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", type=click.Choice(["plan", "result", "comparison"]))
def schema(what: str) -> None:
    """The JSON Schema of a plan (for an editor's completion), or of a result or comparison document (for readers)."""
    if what == "plan":
        from surgeline.plan.schema import plan_schema

        document = plan_schema()
    elif what == "result":
        from surgeline.report.document import SCHEMA

        document = SCHEMA
    else:
        from surgeline.report import comparison

        document = comparison.SCHEMA
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
