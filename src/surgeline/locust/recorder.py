"""Rows and counts of one process, gathered in memory and appended to its journal segment once a second.

What comes in are finished rows and moments at which requests were due and sent; what leaves are frames. Windows are
folded as rows come, so that a flush is only an encoding: it runs on the hub's own thread, and everything it does there
delays the user's requests.
"""

import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from surgeline.samples import (
    COUNT_COLUMNS,
    HEALTH_COLUMNS,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    Frame,
    WindowFold,
    encode_object,
    encode_table,
    window_table,
)
from surgeline.store.errors import StoreError

log = logging.getLogger("surgeline")

BUFFER_BYTES = 8 << 20
"""A flush is one write: a process killed between two of them leaves seconds whose counts, rows and windows agree."""

NS_PER_S = 1_000_000_000


class Row(NamedTuple):
    """One row of the samples, without its number and its worker. Times are ns since the run began; -1 is "not"."""

    endpoint: str
    scenario: str
    stage: int
    user: int
    iteration: int
    method: str
    url: str
    intended_ns: int
    start_ns: int
    end_ns: int
    dns_ns: int = -1
    connect_ns: int = -1
    tls_ns: int = -1
    send_ns: int = -1
    wait_ns: int = -1
    receive_ns: int = -1
    status: int = 0
    outcome: int = 0
    error: str = ""
    bytes_out: int = 0
    bytes_in: int = 0
    reused: int = 2
    protocol: str = ""
    server_timing: str = ""


class Frames(Protocol):
    """Where frames go: a segment of the journal, or what stands in for one."""

    def append(self, kind: Frame, payload: bytes) -> None:
        """Takes a frame. Raises StoreError where it cannot."""
        ...

    def flush(self) -> None:
        """Hands on what waits."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Recorder:
    """One process's part of a run's measurements.

    Its calls neither block nor raise: a journal that cannot be written costs rows, which are counted as dropped, while
    windows and counts wait in memory for a flush that succeeds.
    """

    def __init__(self, segment: Frames, worker: str) -> None:
        self._segment = segment
        self.worker = worker
        """As in the column of that name."""
        self.recorded = 0
        """Rows handed over so far."""
        self._rows: list[Row] = []
        self._windows: dict[tuple[int, int, str, int], WindowFold] = {}
        self._counts: dict[tuple[int, int, str], list[int]] = {}
        self._dropped = 0
        self._broken = False

    def add(self, row: Row) -> None:
        """Takes a finished row. Its counts come through `count`."""
        self._rows.append(row)
        self.recorded += 1
        key = (row.intended_ns // NS_PER_S, row.stage, row.endpoint, row.outcome)
        fold = self._windows.get(key)
        if fold is None:
            fold = self._windows[key] = WindowFold()
        fold.add(row.outcome, row.intended_ns, row.start_ns, row.end_ns, row.bytes_in, row.bytes_out)

    def count(self, intended_ns: int, stage: int, endpoint: str, due: int = 0, sent: int = 0, hops: int = 0) -> None:
        """Counts a request as due, or as sent, or redirects followed for it, at the second it was due."""
        key = (intended_ns // NS_PER_S, stage, endpoint)
        held = self._counts.get(key)
        if held is None:
            held = self._counts[key] = [0, 0, 0]
        held[0] += due
        held[1] += sent
        held[2] += hops

    def event(self, at_ns: int, kind: str, **more: Any) -> None:
        """Appends an event; it is on its way to the disk when this returns."""
        self._append(Frame.EVENT, lambda: encode_object({"at_ns": at_ns, "kind": kind, **more}))
        self._flush_segment()

    def exchange(self, value: Mapping[str, Any]) -> None:
        """Appends an exchange, as the contract of the store describes it."""
        self._append(Frame.EXCHANGE, lambda: encode_object(value))

    def left_out(self, rows: int) -> None:
        """Counts rows that are known to be missing; the next flush tells of them."""
        self._dropped += rows

    def flush(self, at_ns: int, readings: Mapping[str, float] | None = None) -> None:
        """Appends what has gathered since the last flush, and these health readings of this process."""
        if self._counts:
            counts = self._counts
            if self._append(Frame.COUNTS, lambda: encode_table(COUNT_COLUMNS, _count_table(counts))):
                self._counts = {}
        if self._rows:
            rows, first = self._rows, self.recorded - len(self._rows)
            self._rows = []
            if not self._append(Frame.ROWS, lambda: encode_table(ROW_COLUMNS, self._row_table(rows, first))):
                self._dropped += len(rows)
        if self._windows:
            windows = self._windows
            if self._append(Frame.WINDOWS, lambda: encode_table(WINDOW_COLUMNS, window_table(windows))):
                self._windows = {}
        told = dict(readings or {})
        if self._dropped:
            told["rows_dropped"] = float(self._dropped)
        if told and self._append(
            Frame.HEALTH, lambda: encode_table(HEALTH_COLUMNS, _health_table(at_ns, self.worker, told))
        ):
            self._dropped = 0
        self._flush_segment()

    def frames(self, rows: int, take: Callable[[int, str], list[tuple[int, bytes]]]) -> None:
        """Appends frames that were put together elsewhere, with so many rows; `take` gets the first row's number and
        the worker."""
        first, self.recorded = self.recorded, self.recorded + rows
        for kind, payload in take(first, self.worker):
            if not self._append(Frame(kind), lambda payload=payload: payload) and kind == Frame.ROWS:  # type: ignore[misc]
                self._dropped += rows
        self._flush_segment()

    def carry(self, frames: Iterable[tuple[int, bytes]]) -> None:
        """Appends frames that an engine made, as they are."""
        for kind, payload in frames:
            rows = struct.unpack_from("<I", payload)[0] if kind == Frame.ROWS else 0
            self.recorded += rows
            if not self._append(Frame(kind), lambda payload=payload: payload):  # type: ignore[misc]
                self._dropped += rows
        self._flush_segment()

    def close(self) -> None:
        """Closes the segment; what was not flushed is lost. Twice is fine."""
        try:
            self._segment.close()
        except StoreError as error:
            self._say(error)

    def _append(self, kind: Frame, payload: Callable[[], bytes]) -> bool:
        try:
            self._segment.append(kind, payload())
        except (StoreError, ValueError) as error:
            self._say(error)
            return False
        return True

    def _flush_segment(self) -> None:
        try:
            self._segment.flush()
        except StoreError as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        if not self._broken:
            log.error("the run's journal is incomplete from now on: %s", error)
        self._broken = True

    def _row_table(self, rows: list[Row], first: int) -> dict[str, Any]:
        columns = zip(*rows, strict=True)
        named = dict(zip(Row._fields, columns, strict=True))
        return {"seq": range(first, first + len(rows)), "worker": [self.worker] * len(rows), **named}


def _count_table(counts: Mapping[tuple[int, int, str], list[int]]) -> dict[str, list[Any]]:
    keys = sorted(counts)
    columns = [*zip(*keys, strict=True), *zip(*(counts[key] for key in keys), strict=True)]
    return dict(zip(COUNT_COLUMNS, map(list, columns), strict=True))


def _health_table(at_ns: int, worker: str, readings: Mapping[str, float]) -> dict[str, list[Any]]:
    count = len(readings)
    return {
        "at_ns": [at_ns] * count,
        "source": ["generator"] * count,
        "worker": [worker] * count,
        "metric": list(readings),
        "value": [float(value) for value in readings.values()],
    }
