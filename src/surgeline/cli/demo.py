"""`surgeline demo`: the main job on a shop of our own, so that nobody needs an app to see it."""

import tempfile
from pathlib import Path

import click

from surgeline import runner
from surgeline.cli import EXIT_DONE, live, style
from surgeline.cli.order import Wanted, order_from
from surgeline.cli.run import show, stopping
from surgeline.cli.stored import index
from surgeline.store.rundir import DEFAULT_ROOT

_NATIVE_STAGE = "10s"
"""Ten seconds with requests in them are what an interval takes."""
_LOCUST_STAGE = "5s"
"""Shorter stages: the Locust engine shows that it measures the same shop, the native run is the one to read."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--faults", default="default", show_default=True, help="Planted faults: default, all, none, or ids.")
@click.option("--engine", type=click.Choice(["both", "native", "locust"]), default="both", show_default=True)
@click.option("--stage", help=f"How long each of the seven stages lasts; {_NATIVE_STAGE} by default.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_ROOT, show_default=True)
@click.option("--ui", type=click.Choice(["auto", "live", "plain", "none"]), default="auto")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def demo(faults: str, engine: str, stage: str | None, out: Path, ui: str, ascii_only: bool) -> int:
    """Stress-test a bookshop with planted faults, from one user to more than it can take.

    The shop is a small real web API on this machine. Missed objectives are its point: the demo ends in 0. Page, report
    and raw data stay.
    """
    from surgeline.demo import plan_text, start_shop
    from surgeline.engines.native import available

    style.ascii_only(ascii_only)
    missing = available()
    engines = ["locust", "native"] if engine == "both" else [engine]
    if missing and "native" in engines:
        style.note(f"Locust alone sends: {missing}")
        engines = ["locust"]
    finished: list[runner.Finished] = []
    with tempfile.TemporaryDirectory(prefix="surgeline-shop-") as place, stopping() as stop:
        for name in engines:
            if stop.is_set():
                break
            # Each engine meets a shop of its own, so that neither inherits what the other has stirred up.
            with start_shop(faults, Path(place)) as shop:
                plan = Path(place) / f"bookshop-{name}.yaml"
                length = stage or (_NATIVE_STAGE if name == engines[-1] else _LOCUST_STAGE)
                plan.write_text(plan_text(shop.url, length), "utf-8")
                style.say("Shop", f"{shop.url}, planted faults: {', '.join(shop.faults) or 'none'}")
                order = order_from(str(plan), Wanted(engine=name, out=out, name=f"bookshop-{name}", source="demo"))
                with live.observer(ui) as observer:
                    finished.append(runner.carry_out(order, observer, stop))
            index(out).record(finished[-1].run)
    # The run to read is the newest, so that "last" names it in whatever the user does next.
    show(finished[-1].run.path, finished[-1].document, False, ascii_only)
    for other in finished[:-1]:
        click.echo(
            f" {'Locust':<9} the same shop, stressed by Locust: {style.shown_path(other.run.path) / 'summary.md'}"
        )
    return EXIT_DONE
