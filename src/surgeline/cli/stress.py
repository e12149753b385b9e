"""`surgeline stress`: how much can it take? The highest load within the objectives, searched in a few minutes."""

from pathlib import Path
from typing import Any

import click

from surgeline import units
from surgeline.cli import EXIT_DONE, EXIT_INVALID, EXIT_MISSED, EXIT_USAGE, Refused, live, ways
from surgeline.cli.order import Wanted, order_from, serving
from surgeline.cli.run import show, stopping
from surgeline.cli.search import DEFAULT_SLO, searching
from surgeline.cli.stored import index
from surgeline.runner import carry_out as carried_out
from surgeline.store.rundir import DEFAULT_ROOT

SHORTEST_BUDGET_S = 30.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("subject", metavar="URL|PLAN|OPENAPI")
@click.option("--slo", multiple=True, help=f"What has to hold; the plan's objectives, or '{DEFAULT_SLO}', without it.")
@click.option("--budget", default="4m", show_default=True, help="The search takes no longer than this.")
@click.option("--at-least", metavar="RATE", help="End in 99 where capacity is below this, as in 200/s.")
@click.option("--from", "lowest", default="10/s", show_default=True, help="The load at which the floor is measured.")
@click.option("--up-to", "highest", default="50k/s", show_default=True, help="No higher load than this is tried.")
@click.option("--target", help="Base URL to test; replaces the one in a plan or document.")
@click.option("--serve", metavar="COMMAND", help="Start the app for the search, watch its process, end it afterwards.")
@click.option("--server-pid", type=click.IntRange(min=1), help="The process to watch; else who listens on the port.")
@click.option(
    "--no-finding", metavar="ID", multiple=True, help="Leave this finding out; `surgeline explain` lists them."
)
@click.option("-H", "--header", "headers", multiple=True, help="Header of every request, as in curl.")
@click.option("--timeout", help="From start to last byte; 30s by default.")
@click.option("-k", "--insecure", is_flag=True, help="Accept any TLS certificate.")
@ways.options
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same arrivals at the same loads.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that send.")
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests in flight at once; 10,000 by default.")
@click.option("--name", help="What the run is called; by default the target's host.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_ROOT, show_default=True)
@click.option("--authorized", is_flag=True, help="I may put load on this target, though it is not a private address.")
@click.option("--no-preflight", "look_first", is_flag=True, default=True, flag_value=False, help="Do not look first.")
@click.option("--anyway", is_flag=True, help="Start although the look beforehand found that it makes no sense.")
@click.option(
    "--ui", type=click.Choice(["auto", "live", "plain", "none"]), default="auto", help="What is shown meanwhile."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result document instead of the summary.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def stress(
    subject: str, budget: str, at_least: str | None, lowest: str, highest: str, slo: tuple[str, ...], **options: Any
) -> int:
    """Search for the highest arrival rate at which the objectives just hold.

    The load climbs in short steps until an objective breaks, waits until the server has recovered, closes in, and holds
    just below what it found for a minute. The answer is a rate with its interval, what gave way first, and what kind of
    limit it was. The requests are those of the plan; its own load is not used. With a --budget under 150 s the steps
    are shorter and the interval is wider.
    """
    budget_s = units.parse_duration_ns(budget) / units.NS_PER_S
    if budget_s < SHORTEST_BUDGET_S:
        raise Refused(f"A search needs {SHORTEST_BUDGET_S:.0f} s at least; write for example --budget 4m", EXIT_USAGE)
    needed = units.parse_rate_per_s(at_least) if at_least else None
    low, high = units.parse_rate_per_s(lowest), units.parse_rate_per_s(highest)
    if not 0 < low < high:
        raise Refused("--from must be more than nothing and less than --up-to", EXIT_USAGE)
    wanted = Wanted(**options, slo=slo, searching=True)
    with serving(subject, wanted) as ready, stopping() as stop:
        order = searching(order_from(subject, ready), budget_s, low, high, wanted.seed)
        with live.observer(wanted.ui) as observer:
            finished = carried_out(order, observer, stop)
    index(order.root).record(finished.run)
    show(finished.run.path, finished.document, wanted.as_json, wanted.ascii_only)
    return _exit_code(finished.document, needed)


def _exit_code(document: Any, needed: float | None) -> int:
    """0, or that no load could be judged, or that the rate asked for is not held."""
    found = document["capacity"]
    if document["verdict"]["validity"] == "invalid":
        return EXIT_INVALID
    if needed is None:
        return EXIT_DONE
    rate = found["rate_per_s"] if found else None
    if rate is not None and rate >= needed:
        return EXIT_DONE
    return EXIT_INVALID if found and found["at_least"] else EXIT_MISSED
