"""The request engine: plans in, frames out. See `crates/engine`."""

from collections.abc import Callable
from typing import Any, TypedDict, final

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

    def next_stage(self, only: int | None = None) -> None:
        """Goes on with the next stage; after the last that is the end. With a number only where that is under way."""

    def append_stage(self, duration_ns: int, start: float, end: float) -> None:
        """Adds a stage, with its levels as in the plan, behind the last. ValueError where it is not one."""

    def failures(self) -> list[tuple[str, str, int]]:
        """What was wrong with requests whose rows were read since the last call: (endpoint, error, how many)."""

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

def kind_word(number: int) -> str:
    """The word of the kind that `Client.ask` told by a number below zero."""

def locust_bucket(ms: float) -> int:
    """Locust's own rounding of a response time."""

@final
class Answer:
    """The end of an exchange. Times are CLOCK_MONOTONIC, ns."""

    @property
    def status(self) -> int: ...
    @property
    def error(self) -> str | None: ...
    @property
    def begin(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def sets_cookie(self) -> bool: ...
    @property
    def encoded(self) -> bool: ...
    @property
    def reused(self) -> bool: ...
    @property
    def reset(self) -> bool: ...
    @property
    def minor(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def head(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    @property
    def milliseconds(self) -> float: ...
    @property
    def first_byte_s(self) -> float: ...
    @property
    def phases(self) -> tuple[int, int, int, int, int]: ...
    @property
    def shot(self) -> Shot | None:
        """The request that was repeated; None for any other."""
    @property
    def name(self) -> Any:
        """The name under which it was repeated."""
    def headers(self) -> list[tuple[str, str]]: ...
    def header(self, name: str) -> str | None: ...

@final
class Client:
    """The connections of one process. Belongs to the thread that made it."""

    def __new__(
        cls, wake: Callable[[], object], switch: Callable[[], object], current: Callable[[], object]
    ) -> Client: ...
    @property
    def fd(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def moved(self) -> int: ...
    def open_pool(
        self,
        address: str,
        port: int,
        server_name: str | None = None,
        insecure: bool = False,
        ca_file: str | None = None,
    ) -> int: ...
    def close_pool(self, pool: int) -> None: ...
    @property
    def waits(self) -> int:
        """Exchanges that have been waited for: when this has changed, the hub has had its turn."""
    def exchange(self, pool: int, request: bytes, bodyless: bool, connect_ns: int, silence_ns: int) -> Answer | int:
        """Sends a request and waits, as this greenlet; below zero -1 - the number of the kind that prevented it."""
    def serve(self) -> None: ...
    def hand_out(self) -> None: ...
    def asked_by(self, greenlet: object) -> tuple[str, str, str, int] | None:
        """What a greenlet waits for, of those requests that are repeated: (method, name, URL, when it was begun)."""
    def take_lag(self) -> tuple[int, int, int] | None: ...

@final
class Samples:
    """Requests for the journal, kept until they are read."""

    def __new__(cls) -> Samples: ...
    def __len__(self) -> int: ...
    def add(
        self,
        anchor_ns: int,
        endpoint: str,
        scenario: str,
        user: int,
        method: str,
        url: str,
        start_ns: int,
        answer: Answer,
        status: int,
        outcome: int,
        error: str,
        hops: int,
        timing: str,
    ) -> None: ...
    def take(self, first: int, worker: str) -> list[tuple[int, bytes]]: ...

@final
class Tally:
    """Requests by name that have not been added to Locust's statistics."""

    def __new__(cls) -> Tally: ...
    def __bool__(self) -> bool: ...
    @property
    def epoch(self) -> int: ...
    def add(self, name: int, ms: float, length: int) -> bool: ...
    def rename(self) -> None:
        """From now on numbers mean other names. Nothing may wait."""
    def take(self) -> tuple[int, float, list[tuple[int, int, float, float, float, int, dict[int, int]]]]: ...

@final
class Shot:
    """A request without a body, put together."""

    def __new__(
        cls,
        method: str,
        url: str | bytes,
        built_url: str,
        wire: bytes,
        asked: object,
        client: Client,
        pool: int,
        bodyless: bool,
        connect_ns: int,
        silence_ns: int,
        gate: object | None,
    ) -> Shot: ...
    @property
    def method(self) -> str: ...
    @property
    def url(self) -> Any: ...
    @property
    def built_url(self) -> str: ...
    @property
    def wire(self) -> bytes: ...
    @property
    def asked(self) -> Any: ...

@final
class Ears:
    """Those who are told of requests, in their order."""

    def __new__(
        cls,
        event: dict[str, Any],
        statistics: dict[str, Any],
        again: Callable[[], object],
        failed: Callable[[BaseException], bool],
    ) -> Ears: ...
    def hear(self, listeners: list[tuple[Any, Tally | None, Any, Any]]) -> None: ...

class Repeater:
    """A session's requests that have been sent before; what a session inherits from."""

    def _repeat_with(self, attributes: dict[str, Any], ears: Ears, response: type, plain: bool) -> None: ...
    def _stand(
        self,
        stakes: list[tuple[dict[str, Any], str]],
        held: list[dict[Any, Any]],
        empty: list[list[Any]],
        until: float | None,
    ) -> None: ...
    def _stands(self) -> bool: ...
    def _keep(self, shot: Shot, most: int) -> None: ...
    def _kept(self, method: object, url: object) -> Shot | None: ...
    def _exchange(self, shot: Shot, name: object) -> Answer | None: ...
    def _repeat(self, shot: Shot, name: object) -> Any: ...
    def get(self, url: Any, **named: Any) -> Any:
        """As the session's `_get`."""
