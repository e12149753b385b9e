"""`surgeline run`: whatever the user has, stressed, and what came of it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from surgeline import runner
from surgeline.cli import EXIT_INVALID, EXIT_MISSED, EXIT_UNREACHABLE, EXIT_USAGE, Refused, live, style, ways
from surgeline.cli.order import DEFAULT_DURATION, Wanted, order_from, serving
from surgeline.cli.stored import index
from surgeline.store.rundir import DEFAULT_ROOT
from surgeline.workload import PRESETS


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("subject", metavar="URL|PLAN|OPENAPI|LOCUSTFILE")
@click.option("--target", help="Base URL to test; replaces the one in a plan or document.")
@click.option("-u", "--users", type=click.IntRange(min=1), help="Closed load: this many users who wait for answers.")
@click.option("-r", "--rate", help="Open load: requests due per second, as in 200/s or '50/s -> 300/s'.")
@click.option("-t", "--duration", help=f"How long, as in 90s or 5m; {DEFAULT_DURATION} with -u or -r.")
@click.option(
    "--profile",
    type=click.Choice(list(PRESETS)),
    help="A load with a name, which asks a question; -u or -r is its peak, -t its whole time.",
)
@click.option("--ramp", help="Time over which -u or -r is reached first, as in 30s.")
@click.option("--stages", help="Several stages, as in '10 for 30s, 10 -> 100 for 2m' (users) or '50/s for 30s' (rate).")
@click.option("--spawn-rate", type=float, help="Users started per second; for locustfiles.")
@click.option("--arrivals", type=click.Choice(["poisson", "uniform"]), help="Spacing of an open load.")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same schedule.")
@click.option("--slo", multiple=True, help="Objective, as in 'p95<300ms, errors<1%' or 'GET /search: p99<800ms'.")
@click.option(
    "--no-finding", metavar="ID", multiple=True, help="Leave this finding out; `surgeline explain` lists them."
)
@click.option("-H", "--header", "headers", multiple=True, help="Header of every request, as in curl.")
@click.option("--timeout", help="From start to last byte; 30s by default.")
@click.option("-k", "--insecure", is_flag=True, help="Accept any TLS certificate.")
@ways.options
@click.option("--engine", type=click.Choice(["auto", "native", "locust"]), default="auto", show_default=True)
@click.option(
    "--client",
    type=click.Choice(["stock", "native"]),
    help="For locustfiles: Locust's HTTP clients, or ours in their place. stock by default.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads that send; with Locust, worker processes on this machine.",
)
@click.option(
    "--expect-workers", type=click.IntRange(min=1), help="Wait for so many `surgeline worker`s, which send instead."
)
@click.option(
    "--expect-workers-max-wait",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="Give up waiting for them after so many seconds.",
)
@click.option(
    "--master-bind-host",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine that they come to; * for all.",
)
@click.option(
    "--master-bind-port", type=click.IntRange(1, 65535), default=5557, show_default=True, help="The port of that."
)
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests in flight at once; 10,000 by default.")
@click.option("--name", help="What the run is called; by default the target's host.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_ROOT, show_default=True)
@click.option("--user-agent", help="Replaces surgeline's own, which carries the run's id.")
@click.option(
    "--no-abort", "abort", is_flag=True, default=True, flag_value=False, help="Go on whatever the target does."
)
@click.option("--authorized", is_flag=True, help="I may put load on this target, though it is not a private address.")
@click.option("--no-preflight", "look_first", is_flag=True, default=True, flag_value=False, help="Do not look first.")
@click.option("--anyway", is_flag=True, help="Start although the look beforehand found that it makes no sense.")
@click.option(
    "--ui", type=click.Choice(["auto", "live", "plain", "none"]), default="auto", help="What is shown meanwhile."
)
@click.option("--serve", metavar="COMMAND", help="Start the app for the run, watch its process, end it afterwards.")
@click.option("--server-pid", type=click.IntRange(min=1), help="The process to watch; else who listens on the port.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, help="So many runs, kept as one series.")
@click.option("--between", help="With --repeat: command before each run but the first.")
@click.option("--warm-up", help="With --repeat: unmeasured load before each run, as in 3s; none by default.")
@click.option("--cool-down", help="With --repeat: rest after each run, as in 5s; 1s by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the result document instead of the summary.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
@click.argument("locust_arguments", nargs=-1, metavar="[-- LOCUST OPTIONS]")
def run(subject: str, **options: Any) -> int:
    """Stress-test a URL, a plan, an OpenAPI document or a locustfile.

    With nothing but a URL: safe methods only, the page itself plus what an OpenAPI document or links on the same origin
    reveal, and a short search, 75 s at most, for the highest arrival rate within --slo; without it within what the
    slowest endpoint can keep. Results are kept in a directory of their own and summed up on one page.

    While a plan or a load of yours runs on a terminal, keys change it: p pauses and goes on, + and - are a tenth more
    and less, ] goes on to the next stage, a adds the last stage once more, q stops, keeps and reports.
    """
    client = options.pop("client")
    if client is not None:
        from surgeline.locust.swap import CLIENT

        if Path(subject).suffix != ".py":
            raise Refused("--client chooses the HTTP client of a locustfile; plans are sent by --engine", EXIT_USAGE)
        os.environ[CLIENT] = client
    wanted = Wanted(**options)
    if wanted.seed is not None and Path(subject).suffix == ".py":
        raise Refused("--seed draws the arrivals of plans; in a locustfile, seed `random` in the file", EXIT_USAGE)
    style.ascii_only(wanted.ascii_only)
    if wanted.repeat > 1:
        from surgeline.cli.series import repeat

        return repeat(subject, wanted, wanted.repeat, wanted.between, wanted.warm_up or "0s", wanted.cool_down or "1s")
    if wanted.between or wanted.warm_up or wanted.cool_down:
        raise Refused("--between, --warm-up and --cool-down go with --repeat, as in --repeat 5", EXIT_USAGE)
    with serving(subject, wanted) as ready:
        order = order_from(subject, replace(ready, short_search=True))
        # The objectives of a search that was given none are ours, and nobody asked for a verdict on them.
        asked = order.pilot is None or bool(wanted.slo)
        return carry_out(order, wanted.ui, wanted.as_json, wanted.ascii_only, asked)


def carry_out(order: runner.Order, ui: str, as_json: bool, ascii_only: bool, asked: bool = True) -> int:
    """Runs the order, shows it meanwhile, prints what came of it; the exit code, 0 where no verdict was asked for."""
    # Keys change the load, and a search has to know what it tried.
    ears = ui if order.pilot is None else "none"
    with stopping() as stop, live.keyboard(ears) as keys, live.observer(ui, keys is not tuple) as observer:
        finished = runner.carry_out(order, observer, stop, keys)
    index(order.root).record(finished.run)
    show(finished.run.path, finished.document, as_json, ascii_only)
    said = exit_code(finished.document) if asked else 0
    nothing = finished.document["verdict"]["basis"] in ("nothing measured", "nothing answered")
    broke = finished.run.meta.state == "failed"
    return EXIT_UNREACHABLE if said == 0 and (nothing or broke) else said


def show(path: Path, document: Mapping[str, Any], as_json: bool, ascii_only: bool) -> None:
    """The result on standard output: the summary for people, or the whole document."""
    from surgeline.report import document as documents
    from surgeline.report import terminal

    if as_json:
        click.echo(documents.dump(document), nl=False)
        return
    plain = ascii_only or not style.takes_unicode(sys.stdout)
    click.echo(terminal.render(document, style.takes_colour(sys.stdout), plain, cut=sys.stdout.isatty()), color=True)
    click.echo(style.places(path, plain))


def exit_code(document: Mapping[str, Any]) -> int:
    """0, or what the objectives say: missed, or asked for and not measurable.

    A search breaks objectives on purpose; they are missed where not even its lightest load is within them.
    """
    verdict, found = document["verdict"], document["capacity"]
    if not document["objectives"]:
        return 0
    if verdict["validity"] == "invalid":
        return EXIT_INVALID
    if found is not None:
        return EXIT_MISSED if found["rate_per_s"] is None and found["tried"] else 0
    return EXIT_MISSED if verdict["slo"] == "missed" else 0


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second leaves at once."""
    stop = threading.Event()

    def asked(number: int, frame: Any) -> None:
        if stop.is_set():
            style.warn("Left at once; `surgeline runs recover` makes a result of what was measured.")
            os._exit(128 + number)
        stop.set()
        style.warn("Stopping; what was measured is kept. Once more to leave at once.")

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
