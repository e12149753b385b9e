"""`surgeline trend`: one figure over all stored runs of a plan, and where it changed."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from surgeline import runner
from surgeline.cli import EXIT_USAGE, Refused, style
from surgeline.cli.stored import ROOT_OPTION, index
from surgeline.store.errors import StoreError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", default="last")
@ROOT_OPTION
@click.option("--endpoint", help="Of this endpoint; by default of all together.")
@click.option(
    "--metric", type=click.Choice(["p50", "p95", "p99"]), default="p95", show_default=True, help="Percentile."
)
@click.option(
    "-n", "--most", type=click.IntRange(min=2), default=200, show_default=True, help="The newest so many runs."
)
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Also write the plot (SVG).")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def trend(
    run: str,
    root: Path,
    endpoint: str | None,
    metric: str | None,
    most: int,
    svg: Path | None,
    as_json: bool,
    ascii_only: bool,
) -> int:
    """A percentile, or the capacity, over all runs of RUN's plan (by default the last run's), and where it changed.

    A change point comes with its size, its 95 % interval, and the commits of the runs before and after it. Runs under
    another load or on another machine than the newest are left out and counted.
    """
    from surgeline.analysis.trend import trend_of
    from surgeline.report import trend_page
    from surgeline.store import files

    books = index(root)
    wanted = runner.figures(books.resolve(run)[0])
    found, unread = [], 0
    for entry in reversed(books.runs(most)):
        if entry.problem or not entry.closed:
            unread += 1
            continue
        try:
            figures = runner.figures(books.resolve(entry.id)[0])
        except StoreError:
            unread += 1
            continue
        if figures.subject == wanted.subject:
            found.append(figures)
    if endpoint and all(endpoint not in (*figures.endpoints, *figures.transactions) for figures in found):
        names = ", ".join((*found[-1].endpoints, *found[-1].transactions)[:8]) if found else "none"
        raise Refused(f"no run of that plan has an endpoint {endpoint!r}; there are {names}", EXIT_USAGE)
    metric = metric or ("capacity" if wanted.searched else "p95")
    made = trend_of(found, None if metric == "capacity" else endpoint, metric)
    if unread:
        style.note(f"{unread} runs cannot be read or are not closed, and are left out")
    if svg is not None:
        files.replace(svg, [trend_page.plot(made)])
        style.say("Plot", str(style.shown_path(svg)))
    if as_json:
        document = {"document": "surgeline-trend", "format": 1, **asdict(made)}
        click.echo(json.dumps(document, indent=1, ensure_ascii=False, default=list))
    else:
        plain = ascii_only or not style.takes_unicode(sys.stdout)
        click.echo(
            trend_page.render(made, style.takes_colour(sys.stdout), plain, cut=sys.stdout.isatty()),
            color=True,
            nl=False,
        )
    return 0
