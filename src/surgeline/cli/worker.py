"""`surgeline worker`: this machine sends too, in a run that is led from another one."""

import re
from pathlib import Path

import click

from surgeline.cli import EXIT_UNREACHABLE, EXIT_USAGE, Refused, style

DEFAULT_PORT = 5557


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--master", required=True, metavar="HOST[:PORT]", help="Where `surgeline run --expect-workers` waits.")
@click.argument("locustfile", required=False, type=click.Path(path_type=Path))
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="So many workers, as Locust's own."
)
@click.option("--wait", default="60s", show_default=True, help="How long a master that is not there yet is tried for.")
@click.option("--client", type=click.Choice(["stock", "native"]), help="As in `surgeline run`; for locustfiles.")
@click.argument("locust_arguments", nargs=-1, metavar="[-- LOCUST OPTIONS]")
def worker(
    master: str,
    locustfile: Path | None,
    processes: int,
    wait: str,
    client: str | None,
    locust_arguments: tuple[str, ...],
) -> int:
    """Send as a part of a run that `surgeline run --expect-workers` leads on another machine.

    What is run, plan or locustfile, comes from the master: whoever leads a run has code of theirs executed here. Name
    the LOCUSTFILE where it needs files or modules that lie beside it. Ends when the run has ended.
    """
    from surgeline import units
    from surgeline.engines.locust import absent
    from surgeline.locust import join

    host, port = _place(master)
    wait_s = units.parse_duration_ns(wait) / units.NS_PER_S
    missing = absent()
    if missing is not None:
        raise Refused(f"{missing}.", EXIT_USAGE)
    if locustfile is not None and locustfile.suffix != ".py":
        raise Refused(f"{locustfile} is no locustfile; a plan comes from the master, leave it out", EXIT_USAGE)
    if locustfile is not None and not locustfile.is_file():
        raise Refused(f"There is no locustfile at {locustfile}", EXIT_USAGE)
    if client is not None:
        import os

        from surgeline.locust.swap import CLIENT

        os.environ[CLIENT] = client

    def say(text: str) -> None:
        style.say("Worker", text)

    try:
        join.reach(host, port, wait_s, say)
        join.work(join.arguments(host, port, locustfile, processes, locust_arguments), f"{host} port {port}", say)
    except join.Gone as error:
        raise Refused(f"{str(error)[:1].upper()}{str(error)[1:]}.", EXIT_UNREACHABLE) from error
    except join.Failed as error:
        raise Refused(f"{str(error)[:1].upper()}{str(error)[1:]}.", EXIT_USAGE) from error
    return 0


def _place(text: str) -> tuple[str, int]:
    """Host and port in `10.0.0.1`, `10.0.0.1:5557`, `name:5557`, `[::1]:5557`."""
    found = re.fullmatch(r"(?:tcp://)?(?:\[([0-9a-fA-F:.]+)\]|([^\s:/\[\]]+)|([0-9a-fA-F:]{2,}))(?::(\d{1,5}))?", text)
    port = int(found[4]) if found and found[4] else DEFAULT_PORT
    if found is None or not 0 < port < 65536:
        raise Refused(f"{text!r} is no place of a master; write as in --master 10.0.0.1:5557", EXIT_USAGE)
    return found[1] or found[2] or found[3], port
