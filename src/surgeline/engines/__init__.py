"""Who sends: the seam between a plan and the outside.

An engine is handed a subject (a plan, or a script of the user's), the settings of one run and a sink, and starts
sending. It writes what it measures as journal frames into the sink and answers a small control. Three engines stand
behind this seam: `native` (Rust), `locust` (stock Locust in a child process) and `scripted` (a formula pretending to be
a server). Whoever watches a run reads the journal; nothing comes back through this seam but its end and its health.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from surgeline import units
from surgeline.plan.feed import Feed
from surgeline.plan.model import Plan
from surgeline.plan.upload import SentFile
from surgeline.samples import Frame
from surgeline.workload import Stage, Workload


@dataclass(frozen=True, slots=True)
class Script:
    """A locustfile and what it is run with.

    `arguments` are Locust's own, as on its command line, without the file. `sha256` is of the file's bytes.
    """

    path: Path
    sha256: str
    arguments: tuple[str, ...] = ()


Subject = Plan | Script


@dataclass(frozen=True, slots=True)
class Remote:
    """Workers of other machines that a run waits for before it begins, and where they find it.

    `workers` is at least 1. `host` is an address of this machine, or `*` for all of them. `wait_s` is how long they are
    waited for.
    """

    workers: int
    host: str = "127.0.0.1"
    port: int = 5557
    wait_s: int = 60

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can come there."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def place(self) -> str:
        """Host and port, as people read them."""
        return f"{'every address' if self.host == '*' else self.host}, port {self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one run, whatever is tested.

    `workload` None means that the script decides. `environment` holds the values that `{{env.NAME}}` may take: the
    caller picks them, an engine reads no environment of its own. `monotonic_ns` is the run's time zero on
    CLOCK_MONOTONIC.
    """

    run_id: str
    monotonic_ns: int
    workload: Workload | None
    user_agent: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Added to every request, behind the plan's own; the run's id is among them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Feed] = field(default_factory=dict)
    """The content of each file that the plan's `data` names."""
    sent_files: Mapping[str, SentFile] = field(default_factory=dict)
    """Where the files are whose bytes the plan sends, by their names in it."""
    max_in_flight: int = 10_000
    grace_ns: int = 10 * units.NS_PER_S
    """How long answers are waited for after the last stage; what is in flight then is aborted."""
    workers: int = 1
    """Threads (native) or processes (Locust)."""
    addresses: tuple[str, ...] = ()
    """What the target's host resolved to and the user agreed to; never resolved again during a run."""
    remote: Remote | None = None
    """Where others send; `workers` is then how many they are."""
    max_connections: int | None = None
    """Connections that may be open at once, so that the process itself has descriptors left; None for any number."""
    proxy_addresses: tuple[str, ...] = ()
    """The same of the proxy's host, where the plan names one."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The text of each file that the plan's `tls` names; the key among them is a secret."""


class Sink(Protocol):
    """Where frames go. An engine with processes of its own has them open their own segments in `directory`."""

    @property
    def directory(self) -> Path:
        """The run's journal directory."""
        ...

    def append(self, kind: Frame, payload: bytes) -> None:
        """Takes a frame; safe from any thread. Never blocks on a slow disk for longer than one write."""
        ...


class Unsupported(ValueError):
    """An engine cannot do what is asked of it. The message says what, and which engine or form can."""


class EngineError(RuntimeError):
    """An engine broke or could not start. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, as its engine saw it.

    `reason` is "finished" (all stages done), "stopped" (asked to), or "failed" with `detail` saying what broke.
    `exit_code` is that of a child process, None where there is none.
    """

    reason: Literal["finished", "stopped", "failed"]
    detail: str = ""
    exit_code: int | None = None


class Running(Protocol):
    """A started engine. Every method may be called from any thread, also after the end."""

    def wait(self, timeout_s: float) -> Ending | None:
        """Waits until all has been sent, answered and written to the sink; None when the time is up first."""
        ...

    def stop(self, grace_s: float) -> None:
        """Sends nothing more; answers may come for `grace_s`, then what is in flight is aborted. Idempotent."""
        ...

    def pause(self) -> None:
        """Sends nothing until `resume`.

        Where the native engine sends (`Engine.sender`) the schedule stands still: nothing is due meanwhile, and the run
        ends that much later. Elsewhere the schedule goes on, and each request that is due meanwhile is recorded as not
        sent, of the kind `paused`. Either way the books balance, and nobody is waited for.
        """
        ...

    def resume(self) -> None:
        """Ends a pause."""
        ...

    def scale(self, factor: float) -> None:
        """From now on `factor` times the planned rate or users; 1 is as planned."""
        ...

    def next_stage(self, only: int | None = None) -> None:
        """Ends the current stage now; with a number only where that is the current one."""
        ...

    def append_stage(self, stage: Stage) -> None:
        """Adds a stage behind the last one."""
        ...


class Engine(Protocol):
    """One way of sending."""

    name: str

    def refusal(self, subject: Subject, settings: Settings) -> str | None:
        """Why this engine cannot run that, as one sentence that names what can; None when it can."""
        ...

    def sender(self, subject: Subject) -> str:
        """The name of the engine whose threads send: this one's, unless it hosts another."""
        return self.name

    def start(self, subject: Subject, settings: Settings, sink: Sink) -> Running:
        """Begins to send. Raises Unsupported for what `refusal` names and EngineError when it cannot start."""
        ...


def preferred(engines: Sequence[Engine], subject: Subject, settings: Settings) -> tuple[Engine | None, list[str]]:
    """The first engine that takes the subject, and why those before it did not."""
    refusals: list[str] = []
    for engine in engines:
        reason = engine.refusal(subject, settings)
        if reason is None:
            return engine, refusals
        refusals.append(f"{engine.name}: {reason}")
    return None, refusals
