"""The command line: a door to the rooms.

Each command lives in a module that is imported when it is called, so that `surgeline --help` costs no more than the
table below. Results go to standard output, everything else to standard error. Every error that a user can cause ends in
one sentence and its exit code; what is our fault says so and leaves its details in a file.
"""

import contextlib
import importlib
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from typing_extensions import override

from surgeline import __version__

EXIT_DONE = 0
EXIT_OURS = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INVALID = 4
EXIT_INCONCLUSIVE = 97
EXIT_REGRESSED = 98
EXIT_MISSED = 99

_COMMANDS = {
    "run": ("surgeline.cli.run:run", "Stress-test a URL, a plan, an OpenAPI document or a locustfile."),
    "stress": ("surgeline.cli.stress:stress", "Search for the highest load that holds its objectives."),
    "locust": ("surgeline.cli.locust:locust", "Run Locust with exactly its own options; the run is kept."),
    "worker": ("surgeline.cli.worker:worker", "Send as a part of a run that another machine leads."),
    "demo": ("surgeline.cli.demo:demo", "The main job on a small shop of our own: no app needed."),
    "runs": ("surgeline.cli.runs:runs", "List, show, remove and recover stored runs."),
    "baseline": ("surgeline.cli.baseline:baseline", "Keep runs as what others are held against."),
    "compare": ("surgeline.cli.compare:compare", "Better or worse: runs, series and baselines side by side."),
    "ab": ("surgeline.cli.series:ab", "Two versions run in turns, compared pair by pair."),
    "gate": ("surgeline.cli.gate:gate", "May this change go in? For CI."),
    "trend": ("surgeline.cli.trend:trend", "A figure over all runs of a plan, and where it changed."),
    "calibrate": ("surgeline.cli.series:calibrate", "Learn how much runs of one target differ here."),
    "report": ("surgeline.cli.report:report", "Make a stored run's page and report again."),
    "export": ("surgeline.cli.export:export", "Write a stored run's raw data as CSV."),
    "explain": ("surgeline.cli.explain:explain", "What a finding means and how it is judged."),
    "schema": ("surgeline.cli.schema:schema", "The JSON Schema of plans or of result documents."),
}

_EPILOG = """\b
Examples:
  surgeline run http://localhost:8000                  find its endpoints, step up the load, say what held
  surgeline run plan.yaml --slo "p95<300ms, errors<1%" a plan, with objectives
  surgeline run openapi.yaml -H "Authorization: Bearer $TOKEN"
  surgeline run locustfile.py --target http://localhost:8000 -u 50 -t 1m
  surgeline baseline save main                         remember the last run
  surgeline compare main last                          what changed since
  surgeline demo                                       no app at hand? a shop with planted faults
"""


class _Commands(click.Group):
    """A group whose commands are imported when they are called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is not a command")
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="surgeline")
def surgeline() -> None:
    """Find out what a web backend can take, where it fails, and whether it got better."""


class Refused(Exception):
    """A command ends here, by the user's input or the state of things: its sentence, and its exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its code. Never lets a traceback through."""
    try:
        code = surgeline.main(
            args=list(arguments) if arguments is not None else None, prog_name="surgeline", standalone_mode=False
        )
        _leave(code if isinstance(code, int) else EXIT_DONE)
    except click.exceptions.Exit as ending:
        _leave(ending.exit_code)
    except click.UsageError as error:
        error.show(file=sys.stderr)
        _leave(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        _leave(130)
    except SystemExit as ending:
        # Click ends with 1 when whoever reads our output has gone, as `head` does; that is nobody's fault.
        gone = type(sys.stdout).__name__ == "PacifyFlushWrapper"
        _leave(EXIT_DONE if gone else ending.code if isinstance(ending.code, int) else EXIT_OURS)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; there is nobody left to tell.
        with contextlib.suppress(OSError):
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115  # must outlive this block, so that the last flush has somewhere to go
        _leave(EXIT_DONE)
    except Exception as error:
        _leave(_say(error))


def _leave(code: int) -> NoReturn:
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stdout.flush()
    sys.exit(code)


def _say(error: Exception) -> int:
    """One sentence for an error, and the exit code it stands for."""
    code = _code(error)
    if code is not None:
        click.echo(f"✗ {error}" if _unicode() else f"x {error}", err=True)
        return code
    from surgeline.cli import withheld

    with tempfile.NamedTemporaryFile("w", prefix="surgeline-error-", suffix=".txt", delete=False) as file:
        file.write(f"surgeline {__version__}, Python {sys.version}\n{' '.join(withheld.command(sys.argv))}\n\n")
        traceback.print_exception(error, file=file)
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    click.echo(
        f"✗ Surgeline broke, and that is its own fault: {said}\n"
        f"  The details are in {Path(file.name)}; please report them.",
        err=True,
    )
    return EXIT_OURS


def _code(error: Exception) -> int | None:
    """The exit code of errors that users cause or meet; None for ours. Imports only what has been imported already."""
    if isinstance(error, Refused):
        return error.code
    known = (
        ("surgeline.units", "UnitError", EXIT_USAGE),
        ("surgeline.plan.text", "PlanError", EXIT_USAGE),
        ("surgeline.plan.objective", "ObjectiveError", EXIT_USAGE),
        ("surgeline.engines", "Unsupported", EXIT_USAGE),
        ("surgeline.engines", "EngineError", EXIT_UNREACHABLE),
        ("surgeline.preflight", "Unreachable", EXIT_UNREACHABLE),
        ("surgeline.store.errors", "StoreError", EXIT_USAGE),
    )
    for module, name, code in known:
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(error, getattr(loaded, name)):
            return code
    return None


def _unicode() -> bool:
    encoding = (getattr(sys.stderr, "encoding", None) or "ascii").lower().replace("-", "")
    return encoding.startswith("utf")
