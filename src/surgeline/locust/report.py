"""What a request of the native client is told to: Locust's `request` event, its statistics, the run's journal.

Listeners that are Locust's own statistics or the plugin's are not called: what they would do is kept natively and done
once for many requests, at the latest when somebody looks. All others get the event as the stock clients fire it. What
anybody sees is the same.
"""

import logging
import sys
import traceback
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import locust.log
import locust.runners
import locust.stats
from locust.event import EventHook
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
from locust.stats import EntriesDict, RequestStats, StatsEntry

from surgeline._engine import Answer, Ears, Tally
from surgeline.locust.native import Ended

_STATISTICS: frozenset[CodeType] = frozenset(
    const
    for const in locust.runners.Runner.__init__.__code__.co_consts
    if isinstance(const, CodeType) and const.co_name == "on_request"
)
"""The listener with which Locust's runner keeps statistics."""
_BUCKET = locust.stats.bucket_response_time
_LOG = StatsEntry.log
_LOG_REQUEST = RequestStats.log_request
_PASSED_ON = (StopUser, StopTest, RescheduleTask, RescheduleTaskImmediately, InterruptTaskSet)


class Waiting:
    """Requests that have not been added to some statistics yet."""

    def __init__(self, stats: RequestStats) -> None:
        self.stats = stats
        self.tally = Tally()
        self._numbers: dict[tuple[str, str], int] = {}
        self._names: list[tuple[str, str]] = []

    def number(self, method: str, name: str) -> int:
        """What the tally knows a name by, until its next epoch."""
        number = self._numbers.get((name, method))
        if number is None:
            if len(self._names) > 50_000:
                self.flush()
                self._numbers.clear()
                self._names.clear()
                self.tally.rename()
            number = self._numbers[(name, method)] = len(self._names)
            self._names.append((name, method))
        return number

    def add(self, method: str, name: str, ms: float, length: int) -> None:
        """As `log_request`."""
        number = self.number(method, name)
        if not self.tally.add(number, ms, length):
            self.flush()
            self.tally.add(number, ms, length)

    def flush(self) -> None:
        """Adds what waits."""
        if not self.tally:
            return
        second, last, told = self.tally.take()
        total, entries = self.stats.total, self.stats.entries
        for number, count, sum_ms, least, greatest, length, buckets in told:
            for entry in (total, entries[self._names[number]]):
                entry.__class__ = _Entry
                before = entry.last_request_timestamp
                if entry.use_response_times_cache and before and second > int(before):
                    entry._cache_response_times(second - 1)
                entry.num_requests += count
                entry.num_reqs_per_sec[second] += count
                entry.last_request_timestamp = last
                entry.total_response_time += sum_ms  # type: ignore[assignment]  # Locust adds floats to it too
                seen = entry.min_response_time
                entry.min_response_time = least if seen is None else min(seen, least)  # type: ignore[assignment]
                entry.max_response_time = max(entry.max_response_time, greatest)  # type: ignore[assignment]
                entry.total_content_length += length
                times = entry.response_times
                for bucket, times_seen in buckets.items():
                    times[bucket] += times_seen


class _Stats(RequestStats):
    """Locust's statistics, which add what waits before anybody sees anything of them."""

    def __getattribute__(self, name: str) -> Any:
        held = object.__getattribute__(self, "__dict__")
        waiting = held.get("_surgeline")
        if waiting is not None and waiting.tally:
            waiting.flush()
        value = object.__getattribute__(self, name)
        if name == "entries":
            value.__class__ = _Entries
        return value


class _Entries(EntriesDict):
    """The entries by name: each is one of ours from the beginning."""

    def __missing__(self, key: tuple[str, str]) -> StatsEntry:
        entry: StatsEntry = super().__missing__(key)  # type: ignore[no-untyped-call]
        entry.__class__ = _Entry
        return entry


class _Entry(StatsEntry):
    """One name's, likewise."""

    def __getattribute__(self, name: str) -> Any:
        stats = object.__getattribute__(self, "__dict__").get("stats")
        waiting = object.__getattribute__(stats, "__dict__").get("_surgeline") if stats is not None else None
        if waiting is not None and waiting.tally:
            waiting.flush()
        return object.__getattribute__(self, name)


def _waiting(stats: RequestStats) -> Waiting | None:
    """What waits for these statistics; None where they are not stock Locust's."""
    held = vars(stats)
    waiting: Waiting | None = held.get("_surgeline")
    if waiting is None and type(stats) is RequestStats and "log_request" not in held:
        waiting = Waiting(stats)
        held["_surgeline"] = waiting
        stats.__class__ = _Stats
        for entry in (stats.total, *stats.entries.values()):
            entry.__class__ = _Entry
    return waiting


class Told:
    """A request that has ended, as the listeners are told of it, and what only we know."""

    __slots__ = ("answer", "hops", "meta", "start_ns")

    def __init__(self, meta: dict[str, Any], answer: Ended | None, start_ns: int, hops: int) -> None:
        self.meta = meta
        self.answer = answer
        self.start_ns = start_ns
        self.hops = hops


class Reporter:
    """The listeners of one event hook, sorted."""

    def __init__(self, event: EventHook) -> None:
        self._event = event
        self._seen: list[Any] = []
        self._sorted: list[tuple[Any, Any, Any]] = []
        self._quiet = False
        self.stock = type(event) is EventHook
        """Whether the hook is one of Locust's own; all others are fired as they are."""
        self.ears = Ears(vars(event), vars(locust.stats), self._sort, self._failed)
        """The same listeners, for requests that are reported natively."""
        if self.stock:
            self._sort()

    def look(self) -> bool:
        """Whether nobody listens but those whose work is done natively."""
        if not self.stock:
            return False
        if self._event._handlers != self._seen or locust.stats.bucket_response_time is not _BUCKET:
            self._sort()
        return self._quiet

    def _sort(self) -> None:
        handlers = self._event._handlers
        self._seen = handlers.copy()
        plugin_module = sys.modules.get("surgeline.locust.plugin")
        ours = plugin_module.Plugin.on_request if plugin_module is not None else None
        patched = (
            locust.stats.bucket_response_time is not _BUCKET
            or StatsEntry.log is not _LOG
            or RequestStats.log_request is not _LOG_REQUEST
        )
        self._sorted = []
        for handler in self._seen:
            waiting = None
            if getattr(handler, "__code__", None) in _STATISTICS and not patched:
                runner = handler.__closure__[handler.__code__.co_freevars.index("self")].cell_contents
                waiting = _waiting(runner.stats)
            plugin = handler.__self__ if ours is not None and getattr(handler, "__func__", None) is ours else None
            self._sorted.append((handler, waiting, plugin))
        self._quiet = all(waiting is not None or plugin is not None for _, waiting, plugin in self._sorted)
        self.ears.hear(
            [(h, waiting.tally if waiting else None, waiting, plugin) for h, waiting, plugin in self._sorted]
        )

    def _failed(self, error: BaseException) -> bool:
        """Whether what a listener raised goes on to the user's code; logged where it does not."""
        if isinstance(error, _PASSED_ON) or not isinstance(error, Exception):
            return True
        logging.error("Uncaught exception in event handler: \n%s", "".join(traceback.format_exception(error)))
        locust.log.unhandled_greenlet_exception = True
        return False

    def quietly(self, method: str, name: str, ms: float, length: int, url: str, response: Any, answer: Answer) -> None:
        """Reports a success when `look` has said that nobody listens. `response` gives evidence where it is wanted."""
        for _, waiting, plugin in self._sorted:
            if waiting is not None:
                waiting.add(method, name, ms, length)
            else:
                plugin.on_answer(method, name, url, answer, answer.begin, None, 0, response)

    def fire(self, told: Told) -> None:
        """Reports a request to everybody."""
        meta = told.meta
        if not self.stock:
            self._event.fire(**meta)  # type: ignore[no-untyped-call]
            return
        self.look()
        for handler, waiting, plugin in self._sorted.copy():
            try:
                if waiting is not None:
                    method, name, ms = meta["request_type"], meta["name"], meta.get("response_time")
                    if not isinstance(ms, float) or not isinstance(meta["response_length"], int):
                        handler(**meta)
                        continue
                    waiting.add(method, name, ms, meta["response_length"])
                    if meta["exception"]:
                        waiting.stats.log_error(method, name, meta["exception"])
                elif plugin is not None and isinstance(told.answer, Answer):
                    plugin.on_answer(
                        meta["request_type"],
                        meta["name"],
                        meta["url"],
                        told.answer,
                        told.start_ns,
                        meta["exception"],
                        told.hops,
                        meta["response"],
                    )
                else:
                    handler(**meta)
            except Exception as error:
                if self._failed(error):
                    raise


_reporters: "WeakKeyDictionary[EventHook, Reporter]" = WeakKeyDictionary()


def reporter(event: EventHook) -> Reporter:
    """The one of this event hook."""
    found = _reporters.get(event)
    if found is None:
        found = _reporters[event] = Reporter(event)
    return found
