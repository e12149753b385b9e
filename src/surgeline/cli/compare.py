"""`surgeline compare`: two runs side by side."""

import sys
from pathlib import Path

import click

from surgeline.cli import EXIT_INVALID, style
from surgeline.cli.stored import ROOT_OPTION, found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("base")
@click.argument("candidate", default="last")
@ROOT_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print the comparison document.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def compare(base: str, candidate: str, root: Path, as_json: bool, ascii_only: bool) -> int:
    """p50 and p95 of CANDIDATE (by default the last run) beside those of BASE.

    Each is a run or a baseline. One run on each side shows what changed, not that it changed: verdicts carry the mark
    *indicative*. Unlike things get no verdict, and the reason; the exit code is then 4.
    """
    from surgeline.report import document, terminal
    from surgeline.runner import judged

    first, second = found(base, root), found(candidate, root)
    comparison = document.comparison_document(judged(first)[1], judged(second)[1], base, candidate)
    if as_json:
        click.echo(document.dump(comparison), nl=False)
    else:
        plain = ascii_only or not style.takes_unicode(sys.stdout)
        click.echo(terminal.render_comparison(comparison, style.takes_colour(sys.stdout), plain), color=True)
    return 0 if comparison["comparable"] else EXIT_INVALID
