"""Several runs instead of one: `surgeline run --repeat`, `surgeline ab`, `surgeline calibrate`."""

import math
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from surgeline import runner, units
from surgeline.cli import EXIT_INVALID, EXIT_UNREACHABLE, EXIT_USAGE, Refused, live, style
from surgeline.cli.order import Wanted, order_from
from surgeline.cli.run import run, stopping
from surgeline.cli.stored import index
from surgeline.store.ledger import Learned, Ledger
from surgeline.store.meta import slug

PATIENCE_S = 60.0
"""How long a target may take to accept connections after its command was started."""
FAREWELL_S = 10.0
"""How long a command may take to end after SIGTERM."""
FEWEST_CALIBRATION_RUNS = 5

_SHARED = (
    *("target", "users", "rate", "duration", "ramp", "stages", "spawn_rate", "arrivals", "seed", "slo"),
    *(
        "headers",
        "no_finding",
        "timeout",
        "insecure",
        "engine",
        "workers",
        "max_in_flight",
        "name",
        "out",
        "user_agent",
        "abort",
        "authorized",
    ),
    *("look_first", "anyway", "ui", "cacert", "cert", "key", "proxy", "unix_socket", "ip"),
)
"""Options of `run` that hold for every run of a series as well."""


def _with_run_options(command: click.Command) -> click.Command:
    command.params += [option for option in run.params if option.name in _SHARED]
    return command


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an A/B series: what is run, and the command that brings its target about ("" for none)."""

    order: runner.Order
    command: str


@click.command("ab", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("subject", required=False, metavar="[URL|PLAN|OPENAPI|LOCUSTFILE]")
@click.option("--a", "a", required=True, help="Side A: a command that starts or switches the target, a URL, or a plan.")
@click.option("--b", "b", required=True, help="Side B: the same for what A is compared with.")
@click.option("--blocks", type=click.IntRange(min=2), default=7, show_default=True, help="Runs of each side.")
@click.option("--between", help="Command before each run but the first, as in 'redis-cli flushall'.")
@click.option("--warm-up", default="3s", show_default=True, help="Unmeasured load before each run.")
@click.option("--cool-down", default="1s", show_default=True, help="Rest after each run.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison document.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Print nothing but ASCII.")
def ab(
    subject: str | None,
    a: str,
    b: str,
    blocks: int,
    between: str | None,
    warm_up: str,
    cool_down: str,
    as_json: bool,
    ascii_only: bool,
    **options: Any,
) -> int:
    """Two versions of a target, run in turns, and compared pair by pair.

    Each block holds one run of either side, in an order that is drawn; both see the same arrivals. What A and B are is
    told by a command (it is started before each run of its side and ended after it; one that ends by itself has
    switched something), by two URLs, or by two plans. SUBJECT is what is run against targets that commands start.
    """
    from surgeline.cli.compare import conclude

    wanted = Wanted(**options)
    sides = {"a": _side(a, subject, wanted), "b": _side(b, subject, wanted)}
    seed = wanted.seed if wanted.seed is not None else 1
    order = runner.blocks(blocks, ("a", "b"), seed)
    group = _group(sides["a"].order.name, "ab", wanted)
    if sides["a"].order.source != sides["b"].order.source:
        group["subject"] = group["group"]  # whoever names two plans wants them compared
    turns = [_turn(sides[side], side, block) for block, side in order]
    say = " ".join(side.upper() for _, side in order)
    style.say("Series", f"{group['group']}: {blocks} blocks, {say}")
    finished = _carry_out(turns, group, _spacing(between, warm_up, cool_down), wanted)
    if len({done.run.meta.series["block"] for done in finished if done.run.meta.series}) < 2:
        raise Refused("Fewer than two runs were finished; nothing is compared.", EXIT_INVALID)
    name = str(group["group"])
    return conclude(f"{name}:a", f"{name}:b", wanted.out, as_json=as_json, ascii_only=ascii_only)


def repeat(subject: str, wanted: Wanted, times: int, between: str | None, warm_up: str, cool_down: str) -> int:
    """`surgeline run --repeat`: the same run several times, as one side of a later comparison."""
    order = order_from(subject, wanted)
    group = _group(order.name, "repeat", wanted)
    style.say("Series", f"{group['group']}: {times} runs")
    turns = [runner.Turn(order, "a", block) for block in range(times)]
    finished = _carry_out(turns, group, _spacing(between, warm_up, cool_down), wanted)
    _tell_spread(finished)
    click.echo(f"Keep them to compare with: surgeline baseline save main {group['group']}", err=True)
    return 0 if finished else EXIT_INVALID


@click.command("calibrate", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("subject", metavar="URL|PLAN|OPENAPI|LOCUSTFILE|RUNS")
@click.option(
    "--runs", type=click.IntRange(min=FEWEST_CALIBRATION_RUNS), default=10, show_default=True, help="How many."
)
@click.option("--between", help="Command before each run but the first.")
@click.option("--warm-up", default="3s", show_default=True, help="Unmeasured load before each run.")
@click.option("--cool-down", default="1s", show_default=True, help="Rest after each run.")
def calibrate(subject: str, runs: int, between: str | None, warm_up: str, cool_down: str, **options: Any) -> int:
    """Learn how much runs of one unchanged target differ here, and keep that.

    Comparisons of single runs of the same plan under the same load on the same machine are then held against it,
    instead of against an assumed 4 %. SUBJECT may be a stored series or baseline, too: nothing is run then.
    """
    from surgeline.cli.stored import members

    wanted = Wanted(**options)
    stored = members(subject, wanted.out)
    if stored is None:
        order = order_from(subject, wanted)
        group = _group(order.name, "calibrate", wanted)
        turns = [runner.Turn(order, "a", block) for block in range(runs)]
        stored = [done.run for done in _carry_out(turns, group, _spacing(between, warm_up, cool_down), wanted)]
    return _learn(stored, wanted.out)


def _learn(stored: Sequence[Any], root: Path) -> int:
    from surgeline.analysis.compare import compare_runs
    from surgeline.analysis.figures import ALL, TIMES, machine_key
    from surgeline.analysis.trend import spread

    runs = [runner.figures(run) for run in stored]
    if len(runs) < FEWEST_CALIBRATION_RUNS:
        raise Refused(f"{len(runs)} runs are too few to learn from; {FEWEST_CALIBRATION_RUNS} are needed", EXIT_USAGE)
    alike = compare_runs(runs[:1], runs[1:])
    if not alike.comparable:
        raise Refused(f"Nothing was learned: {alike.unlike[0]}.", EXIT_INVALID)
    stages = frozenset.intersection(*(run.usable_stages for run in runs))
    noise: dict[str, float] = {}
    click.echo(f"{len(runs)} runs of one target; a figure of a run differs from run to run by (standard deviation):")
    for metric, q in TIMES.items():
        values = [run.quantile(None, q, stages) for run in runs]
        known = [math.log(value) for value in values if value]
        if len(known) < len(runs):
            click.echo(f"  {metric}  too few samples in {len(runs) - len(known)} of the runs")
            continue
        sd, low, high = spread(known)
        noise[metric] = sd
        click.echo(
            f"  {metric}  {units.format_ratio(sd)}  "
            f"(95 % interval {units.format_ratio(low)} to {units.format_ratio(high)})   "
            f"a 5 % change is found 8 times in 10 by {_runs_for(sd)}"
        )
    if not noise:
        raise Refused(f"Nothing was learned: no percentile of {ALL} is known in every run.", EXIT_INVALID)
    first = runs[0]
    Ledger(root).learn(
        Learned(
            machine=machine_key(first.meta),
            subject=first.subject,
            load=load_key(first.meta),
            noise=noise,
            df=len(runs) - 1.0,
            runs=tuple(run.id for run in runs),
            learned_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )
    click.echo("Comparisons of single runs of this plan, load and machine use it from now on.", err=True)
    return 0


def load_key(meta: Mapping[str, Any]) -> str:
    """The planned load as a short text: what learned noise holds for."""
    stages = meta.get("stages") or ()
    return "; ".join(
        f"{stage.get('model')} {stage.get('from')}-{stage.get('to')} {stage.get('duration_ns')}" for stage in stages
    )


def _runs_for(sd: float) -> str:
    from surgeline.analysis.effects import MOST_RUNS, Effect, runs_needed

    k = 5
    effect = Effect(0.0, sd * math.sqrt(2.0 / k), 2.0 * (k - 1), k, k)
    needed = max(runs_needed(effect, math.log(1.05)), 3)
    return f"{needed} runs a side" if needed < MOST_RUNS else "no number of runs worth making"


def _tell_spread(finished: Sequence[runner.Finished]) -> None:
    """One line a run, and how much they differ: in p95, or in p50 where a run is too short for that."""
    from surgeline.analysis.trend import spread

    figures = [runner.figures(done.run) for done in finished]
    values = {
        metric: [run.quantile(None, q, run.usable_stages) for run in figures]
        for metric, q in (("p95", 0.95), ("p50", 0.5))
    }
    metric = "p95" if all(values["p95"]) else "p50"
    for done, value in zip(finished, values[metric], strict=True):
        shown = units.format_duration(value)
        click.echo(f"{done.run.id}  {metric} {shown:>8}  {done.document['verdict']['sentence']}")
    known = [math.log(value) for value in values[metric] if value]
    if len(known) >= 3:
        sd, _, _ = spread(known)
        ratio = units.format_ratio(sd)
        click.echo(f"{metric} differs from run to run by {ratio} (standard deviation of {len(known)} runs)")


# --- carrying it out -------------------------------------------------------------------------------------------------


def _carry_out(
    turns: Sequence[runner.Turn], group: Mapping[str, Any], spacing: runner.Spacing, wanted: Wanted
) -> list[runner.Finished]:
    def watch(number: int, turn: runner.Turn) -> AbstractContextManager[runner.Observer]:
        style.say(
            "Run", f"{number + 1} of {len(turns)}" + (f", side {turn.side.upper()}" if group["kind"] == "ab" else "")
        )
        return live.observer(wanted.ui)

    def done(finished: runner.Finished) -> None:
        index(wanted.out).record(finished.run)
        style.note(finished.document["verdict"]["sentence"])

    with stopping() as stop:
        return runner.carry_out_series(turns, group, spacing, watch, stop, done)


def _group(name: str, kind: str, wanted: Wanted) -> dict[str, Any]:
    del wanted
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return {"group": f"{day}-{slug(name)}-{kind}-{secrets.token_hex(2)}", "kind": kind}


def _spacing(between: str | None, warm_up: str, cool_down: str) -> runner.Spacing:
    return runner.Spacing(
        (lambda: _do(between)) if between else (lambda: None),
        units.parse_duration_ns(warm_up),
        units.parse_duration_ns(cool_down),
    )


def _side(text: str, subject: str | None, wanted: Wanted) -> Side:
    """A side from what `--a` or `--b` says: a URL or a file is run itself, anything else is a command."""
    if re.match(r"https?://", text, re.IGNORECASE) or Path(text).is_file():
        if subject and not re.match(r"https?://", text, re.IGNORECASE):
            raise Refused(f"{text} is a file of its own; leave {subject} out, or give a command or a URL", EXIT_USAGE)
        if subject:
            return Side(order_from(subject, replace(wanted, target=text)), "")
        return Side(order_from(text, wanted), "")
    if not subject:
        raise Refused(f"{text!r} is a command; say what to run as well: surgeline ab PLAN --a … --b …", EXIT_USAGE)
    undo = _start(text, _address(subject, wanted))
    try:
        return Side(order_from(subject, wanted), text)
    finally:
        undo()


def _address(subject: str, wanted: Wanted) -> tuple[str, int] | None:
    """Host and port that a command's target will listen on, as far as the command line says."""
    text = wanted.target or subject
    if Path(text).is_file():
        with suppress(OSError, UnicodeDecodeError):
            found = re.search(r"^target:\s*['\"]?(https?://[^\s'\"#]+)", Path(text).read_text("utf-8"), re.MULTILINE)
            text = found[1] if found else ""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    with suppress(ValueError):
        if parts.hostname:
            return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    return None


def _turn(side: Side, name: str, block: int) -> runner.Turn:
    if not side.command:
        return runner.Turn(side.order, name, block)
    parts = urlsplit(side.order.target)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = (parts.hostname, port) if parts.hostname else None
    return runner.Turn(side.order, name, block, lambda: _start(side.command, address))


def _do(command: str) -> None:
    """A command to its end; refused where it fails."""
    code = subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    if code:
        raise Refused(f"The command {command!r} failed (exit code {code}); nothing more was run.", EXIT_USAGE)


def _start(command: str, address: tuple[str, int] | None) -> Callable[[], None]:
    """Starts a side's command and waits until the target accepts connections; what is returned ends it again.

    A command that ends by itself has switched something; it must have ended well.
    """
    process = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)

    def end() -> None:
        if process.poll() is not None:
            return
        for sign, patience in ((signal.SIGTERM, FAREWELL_S), (signal.SIGKILL, FAREWELL_S)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return

    began = time.monotonic()
    try:
        while True:
            code = process.poll()
            if code:
                raise Refused(f"The command {command!r} failed (exit code {code}).", EXIT_USAGE)
            if address is None and code == 0:
                return end
            if address is not None and _accepts(address):
                return end
            if time.monotonic() - began > PATIENCE_S:
                where = f"{address[0]}:{address[1]} accepted no connection" if address else "it did not end"
                raise Refused(f"{where} within {PATIENCE_S:.0f} s after {command!r} was started.", EXIT_UNREACHABLE)
            time.sleep(0.05)
    except BaseException:
        end()
        raise


def _accepts(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, 1.0):
            return True
    except OSError:
        return False


ab = _with_run_options(ab)
calibrate = _with_run_options(calibrate)
