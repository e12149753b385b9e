"""The request engine: plans in, frames out. See `crates/engine`."""

from typing import TypedDict, final

class _Snapshot(TypedDict):
    at_ns: int
    in_flight: int
    users: int
    connections: int
    sent: int
    ended: int

@final
class Running:
    """A run that is under way. Dropping it ends the load at once."""

    def next(self, timeout_s: float) -> list[tuple[int, bytes]] | None:
        """Frames as (kind, payload): empty if `timeout_s` passes first, None once the run has ended and all was read.

        Raises RuntimeError, after everything else was read, where the engine broke off by a fault of its own.
        """

    def stop(self, grace_s: float) -> None:
        """Starts nothing more; what is in flight may end within `grace_s`, then it is aborted."""

    def pause(self) -> None:
        """Starts nothing until `resume`; the schedule's clock stands still."""

    def resume(self) -> None:
        """Goes on where `pause` stopped."""

    def scale(self, factor: float) -> None:
        """Multiplies the plan's rate or number of users from now on. ValueError below 0 and above 1e6."""

    def next_stage(self) -> None:
        """Goes on with the next stage; after the last that is the end."""

    def append_stage(self, duration_ns: int, start: float, end: float) -> None:
        """Adds a stage, with its levels as in the plan, behind the last. ValueError where it is not one."""

    def snapshot(self) -> _Snapshot:
        """What the threads are doing now."""

    def close(self) -> None:
        """Ends the load at once and waits for the threads. Closing twice is closing once."""

def start(plan_json: str) -> Running:
    """Starts a plan. ValueError with one sentence where the plan cannot be run.

    Requests are due relative to the plan's `clock_monotonic_ns`. Where that lies in the future the engine waits for it;
    what was due before the call is sent late, and its start lag says so.
    """

def schedule(plan_json: str, limit: int) -> list[int]:
    """When the first `limit` arrivals of an open plan are due, ns: this process's share of them."""

def histogram_index(value_ns: int) -> int:
    """The bucket of a duration in ns, the same as `samples.histogram_index`."""

def version() -> str:
    """The engine's version."""
