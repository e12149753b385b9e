"""What was measured, as values: rows, windows, histograms, and the bytes they travel in.

An engine turns every request that was due into one *row* and adds it to one *window* (due second x stage x endpoint x
outcome). Both leave the engine as an encoded table, a few typed columns in a row, which the store appends to a journal
without looking inside. This module knows the columns, the encoding, and the histogram; it does not know who measured,
where the bytes go, or what they mean for a verdict. Reading rows needs numpy; writing does not, because a writer may
live in a process of the user's (a locustfile) that should not have to load it.
"""

import json
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Buckets = np.ndarray[Any, np.dtype[Any]]

FORMAT_VERSION = 1
"""1: first version."""


class Outcome(IntEnum):
    """What became of a request that was due."""

    OK = 0
    FAILURE = 1
    """An answer came and was wrong: its status or a check."""
    ERROR = 2
    """The transport broke; `error` says how."""
    TIMEOUT = 3
    NOT_SENT = 4
    """Due, but the generator could not send it."""
    ABORTED = 5
    """Still in flight when the run ended."""

    @property
    def word(self) -> str:
        """The outcome as people read it."""
        return self.name.lower().replace("_", " ")


class Frame(IntEnum):
    """What a journal frame carries."""

    ROWS = 1
    WINDOWS = 2
    COUNTS = 3
    HEALTH = 4
    EVENT = 5
    EXCHANGE = 6
    TRANSACTIONS = 7
    """Windows of transactions; the endpoint's column has the transaction's name."""
    MESSAGES = 8
    """Windows of messages of conversations; the endpoint's column says which, as in `WS /chat > reply`."""


ColumnType = Literal["i64", "i32", "u8", "u32", "f64", "str", "ragged"]

ROW_COLUMNS: dict[str, ColumnType] = {
    "seq": "i64",
    "endpoint": "str",
    "scenario": "str",
    "stage": "i32",
    "user": "i64",
    "iteration": "i64",
    "worker": "str",
    "method": "str",
    "url": "str",
    "intended_ns": "i64",
    "start_ns": "i64",
    "end_ns": "i64",
    "dns_ns": "i64",
    "connect_ns": "i64",
    "tls_ns": "i64",
    "send_ns": "i64",
    "wait_ns": "i64",
    "receive_ns": "i64",
    "status": "i32",
    "outcome": "u8",
    "error": "str",
    "bytes_out": "i64",
    "bytes_in": "i64",
    "reused": "u8",
    "protocol": "str",
    "server_timing": "str",
}
"""The columns of a row, in order. Times are ns since the run began, phases are ns; -1 means "did not happen"."""

WINDOW_COLUMNS: dict[str, ColumnType] = {
    "second": "i32",
    "stage": "i32",
    "endpoint": "str",
    "outcome": "u8",
    "count": "i64",
    "bytes_in": "i64",
    "bytes_out": "i64",
    "response_sum_ns": "i64",
    "response_min_ns": "i64",
    "response_max_ns": "i64",
    "response_index": "ragged",
    "response_count": "ragged",
    "service_sum_ns": "i64",
    "service_min_ns": "i64",
    "service_max_ns": "i64",
    "service_index": "ragged",
    "service_count": "ragged",
}
"""The columns of a window: additive deltas; histograms sparse, as ascending bucket indices with their counts."""

COUNT_COLUMNS: dict[str, ColumnType] = {
    "second": "i32",
    "stage": "i32",
    "endpoint": "str",
    "due": "i64",
    "sent": "i64",
    "hops": "i64",
}
"""Requests due and sent, and redirects followed, as deltas on the second in which the request was due."""

HEALTH_COLUMNS: dict[str, ColumnType] = {
    "at_ns": "i64",
    "source": "str",
    "worker": "str",
    "metric": "str",
    "value": "f64",
}
"""One reading of one metric of the generator or of the server."""

COLUMNS: dict[Frame, dict[str, ColumnType]] = {
    Frame.ROWS: ROW_COLUMNS,
    Frame.WINDOWS: WINDOW_COLUMNS,
    Frame.COUNTS: COUNT_COLUMNS,
    Frame.HEALTH: HEALTH_COLUMNS,
    Frame.TRANSACTIONS: WINDOW_COLUMNS,
    Frame.MESSAGES: WINDOW_COLUMNS,
}

CSV_COLUMNS: tuple[str, ...] = (
    *("seq", "endpoint", "scenario", "stage", "user", "iteration", "worker", "method", "url"),
    *(
        "intended_us",
        "start_us",
        "lag_us",
        "dns_us",
        "connect_us",
        "tls_us",
        "send_us",
        "wait_us",
        "receive_us",
    ),
    *(
        "service_us",
        "response_us",
        "status",
        "outcome",
        "error",
        "bytes_out",
        "bytes_in",
        "reused",
        "protocol",
    ),
    "server_timing",
)
"""The columns of `requests.csv`, in order: those of a row, with `end` given as lag, service and response time."""


class SampleError(ValueError):
    """Bytes that are not an encoded table, or not the one that was expected."""


# --- Histogram -------------------------------------------------------------------------------------------------------

HISTOGRAM_HALF = 1024
"""Buckets per power of two: at least three significant digits, a relative error below 1/1024."""


def histogram_index(value_ns: int) -> int:
    """The bucket of a value ≥ 0.

    The layout is HdrHistogram's with three digits and a unit of 1 ns: below 2048 ns every value has its own bucket,
    above it each power of two is cut into 1024 equal ones.
    """
    if value_ns < 2 * HISTOGRAM_HALF:
        return max(value_ns, 0)
    shift = value_ns.bit_length() - 11
    return HISTOGRAM_HALF * shift + (value_ns >> shift)


def histogram_low(index: int) -> int:
    """The least value that falls into the bucket, ns."""
    shift = max(index // HISTOGRAM_HALF - 1, 0)
    return (index - HISTOGRAM_HALF * shift) << shift


def histogram_high(index: int) -> int:
    """The greatest value that falls into the bucket, ns."""
    return histogram_low(index + 1) - 1


class Histogram:
    """How often each value occurred, to three significant digits, with exact count, sum, least and greatest.

    Values are ns, ≥ 0. Merging adds; a merged histogram equals the one recorded in one go. Empty: count 0, and
    `quantile`, `mean_ns`, `min_ns` and `max_ns` are None.
    """

    __slots__ = ("_counts", "_max_ns", "_min_ns", "_packed", "count", "sum_ns")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._packed: tuple[Buckets, Buckets] | None = None
        """In place of `_counts` as long as nobody asks for single buckets: a tenth of the memory."""
        self.count = 0
        self.sum_ns = 0
        self._min_ns = -1
        self._max_ns = -1

    @classmethod
    def from_parts(
        cls, indices: Sequence[int], counts: Sequence[int], sum_ns: int, min_ns: int, max_ns: int
    ) -> "Histogram":
        """From the columns of a window. `min_ns` and `max_ns` are -1 where there are no values."""
        histogram = cls()
        histogram.add_parts(indices, counts, sum_ns, min_ns, max_ns)
        return histogram

    @classmethod
    def packed(
        cls, indices: "Buckets", counts: "Buckets", count: int, sum_ns: int, min_ns: int, max_ns: int
    ) -> "Histogram":
        """From arrays, ascending and without zeros, that are kept as they are; `count` is the sum of the counts."""
        histogram = cls()
        histogram._packed = (indices, counts)
        histogram.count, histogram.sum_ns, histogram._min_ns, histogram._max_ns = count, sum_ns, min_ns, max_ns
        return histogram

    @property
    def counts(self) -> dict[int, int]:
        """Bucket index to number of values, without zeros."""
        if self._packed is not None:
            indices, counts = self._packed
            self._counts, self._packed = dict(zip(indices.tolist(), counts.tolist(), strict=True)), None
        return self._counts

    @counts.setter
    def counts(self, counts: dict[int, int]) -> None:
        self._counts, self._packed = counts, None

    def arrays(self) -> tuple["Buckets", "Buckets"]:
        """Ascending bucket indices, and their counts, as arrays; they must not be changed."""
        if self._packed is not None:
            return self._packed
        import numpy as np

        indices, counts = self.sparse()
        return np.array(indices, np.uint32), np.array(counts, np.int64)

    def add_parts(self, indices: Iterable[int], counts: Iterable[int], sum_ns: int, min_ns: int, max_ns: int) -> None:
        """Adds the histogram that a window's columns describe."""
        mine = self.counts
        for index, count in zip(indices, counts, strict=True):
            if count:
                mine[index] = mine.get(index, 0) + count
                self.count += count
        self.sum_ns += sum_ns
        if min_ns >= 0 and (self._min_ns < 0 or min_ns < self._min_ns):
            self._min_ns = min_ns
        self._max_ns = max(self._max_ns, max_ns)

    def record(self, value_ns: int, times: int = 1) -> None:
        """Counts `value_ns` as having occurred `times` times; `times` 0 changes nothing."""
        if times <= 0:
            return
        index = histogram_index(value_ns)
        self.counts[index] = self.counts.get(index, 0) + times
        self.count += times
        self.sum_ns += value_ns * times
        if self._min_ns < 0 or value_ns < self._min_ns:
            self._min_ns = value_ns
        self._max_ns = max(self._max_ns, value_ns)

    def merge(self, other: "Histogram") -> None:
        """Adds the other histogram to this one."""
        if other._packed is not None:
            indices, counts = other.sparse()
            self.add_parts(indices, counts, other.sum_ns, other._min_ns, other._max_ns)
            return
        self.add_parts(other._counts.keys(), other._counts.values(), other.sum_ns, other._min_ns, other._max_ns)

    @property
    def min_ns(self) -> int | None:
        """The least value, exact."""
        return None if self._min_ns < 0 else self._min_ns

    @property
    def max_ns(self) -> int | None:
        """The greatest value, exact."""
        return None if self._max_ns < 0 else self._max_ns

    @property
    def mean_ns(self) -> float | None:
        """The mean, exact."""
        return self.sum_ns / self.count if self.count else None

    def quantile(self, q: float) -> int | None:
        """The value at nearest rank ceil(q·count), as the upper edge of its bucket, never beyond the greatest value.

        None when empty. 0 ≤ q ≤ 1; q = 0 gives the least value.
        """
        if not self.count:
            return None
        rank = min(max(_ceil_rank(q, self.count), 1), self.count)
        return self.value_at_rank(rank)

    def value_at_rank(self, rank: int) -> int:
        """The value of the rank-th smallest, 1 ≤ rank ≤ count, as in `quantile`."""
        if rank <= 1 and self._min_ns >= 0:
            return self._min_ns
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return min(histogram_high(index), self._max_ns)
        raise IndexError(f"rank {rank} of {self.count} values")

    def count_above(self, value_ns: int) -> int:
        """How many values lie in buckets above the one that holds `value_ns`."""
        limit = histogram_index(value_ns)
        return sum(count for index, count in self.counts.items() if index > limit)

    def sparse(self) -> tuple[list[int], list[int]]:
        """Ascending bucket indices, and their counts."""
        if self._packed is not None:
            return self._packed[0].tolist(), self._packed[1].tolist()
        indices = sorted(self.counts)
        return indices, [self.counts[index] for index in indices]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.counts, self.sum_ns, self._min_ns, self._max_ns) == (
            other.counts,
            other.sum_ns,
            other._min_ns,
            other._max_ns,
        )

    __hash__ = None  # type: ignore[assignment]  # a histogram changes; it is no key

    def __repr__(self) -> str:
        return f"Histogram(count={self.count}, min_ns={self.min_ns}, max_ns={self.max_ns})"


def _ceil_rank(q: float, count: int) -> int:
    """ceil(q·count) without the rounding error that turns 0.99 · 300 into 297.00000000000006 and so into 298."""
    exact = q * count
    near = round(exact)
    return near if abs(exact - near) < 1e-9 * max(count, 1) else int(exact) + 1


# --- Encoded tables --------------------------------------------------------------------------------------------------

_TYPE_CODES: dict[ColumnType, int] = {"i64": 0, "i32": 1, "u8": 2, "u32": 3, "f64": 4, "str": 5, "ragged": 6}
_TYPE_NAMES: dict[int, ColumnType] = {code: name for name, code in _TYPE_CODES.items()}
_CODES: dict[ColumnType, Literal["q", "i", "B", "I", "d"]] = {"i64": "q", "i32": "i", "u8": "B", "u32": "I", "f64": "d"}
_DTYPES: dict[ColumnType, str] = {"i64": "<i8", "i32": "<i4", "u8": "u1", "u32": "<u4", "f64": "<f8"}
_ITEM_BYTES: dict[ColumnType, int] = {"i64": 8, "i32": 4, "u8": 1, "u32": 4, "f64": 8}


def encode_table(columns: Mapping[str, ColumnType], values: Mapping[str, Sequence[Any]]) -> bytes:
    """The bytes of a table: `values` holds one sequence per column, all of one length.

    A `str` column takes texts, a `ragged` one sequences of non-negative integers. Raises SampleError where lengths
    differ or a value does not fit its type.
    """
    names = list(columns)
    absent = [name for name in names if name not in values]
    if absent:
        raise SampleError(f"column {absent[0]} is missing")
    rows = len(values[names[0]]) if names else 0
    parts = [struct.pack("<IH", rows, len(names))]
    for name in names:
        kind, column = columns[name], values[name]
        if len(column) != rows:
            raise SampleError(f"column {name} has {len(column)} values where {names[0]} has {rows}")
        label = name.encode()
        parts.append(struct.pack("<B", len(label)) + label + struct.pack("<B", _TYPE_CODES[kind]))
        try:
            parts.append(_encode_column(kind, column))
        except (TypeError, OverflowError, ValueError, AttributeError) as error:
            raise SampleError(f"column {name}: a value does not fit {kind}: {error}") from error
    return b"".join(parts)


def _encode_column(kind: ColumnType, column: Sequence[Any]) -> bytes:
    if kind == "str":
        codes: dict[str, int] = {}
        coded = [codes.setdefault(text, len(codes)) for text in column]
        texts = b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode(errors="replace") for text in codes))
        return struct.pack("<I", len(codes)) + texts + _little(array("I", coded))
    if kind == "ragged":
        offsets, flat = [0], array("I")
        for items in column:
            flat.extend(items)
            offsets.append(len(flat))
        return _little(array("I", offsets)) + _little(flat)
    return _little(array(_CODES[kind], column))


def _little(values: "array[Any]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: `codes[i]` is the position in `texts` of row i's text."""

    texts: list[str]
    codes: "np.ndarray[Any, np.dtype[np.uint32]]"

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.texts[int(self.codes[row])]

    def __iter__(self) -> Iterator[str]:
        texts = self.texts
        return (texts[code] for code in self.codes.tolist())


@dataclass(frozen=True, slots=True)
class Ragged:
    """A column of integer lists: row i's list is `flat[offsets[i]:offsets[i + 1]]`."""

    offsets: "np.ndarray[Any, np.dtype[np.uint32]]"
    flat: "np.ndarray[Any, np.dtype[np.uint32]]"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> "np.ndarray[Any, np.dtype[np.uint32]]":
        return self.flat[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Table:
    """A decoded table: `rows` of them, each column a numpy array (or memoryview), a `Texts` or a `Ragged`."""

    rows: int
    columns: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]


def decode_table(payload: bytes | memoryview, *, arrays: bool = True) -> Table:
    """The table in `payload`. Raises SampleError where the bytes are not one, and never reads beyond them.

    The arrays are views of `payload`; nothing but the texts is copied. Without `arrays` they are memoryviews instead of
    numpy's, for whoever looks on while a load is under way and reads few of them: to import numpy takes a fifth of a
    second of a core that the load may need.
    """
    plain = not arrays and sys.byteorder == "little"
    make = _cast if plain else _array
    view = memoryview(payload)
    try:
        rows, width = struct.unpack_from("<IH", view, 0)
        at = 6
        columns: dict[str, Any] = {}
        for _ in range(width):
            size = view[at]
            name = bytes(view[at + 1 : at + 1 + size]).decode()
            kind = _TYPE_NAMES[view[at + 1 + size]]
            at += size + 2
            columns[name], at = _decode_column(make, kind, view, at, rows)
    except (struct.error, IndexError, KeyError, ValueError, MemoryError) as error:
        raise SampleError(f"these bytes are not an encoded table: {error}") from error
    if at != len(view):
        raise SampleError(f"{len(view) - at} bytes follow the end of the table")
    return Table(rows, columns)


_Maker: TypeAlias = Callable[[memoryview, ColumnType], Any]
"""What makes a column of the bytes that lie in a table."""


def _decode_column(make: _Maker, kind: ColumnType, view: memoryview, at: int, rows: int) -> tuple[Any, int]:
    if kind == "str":
        (count,) = struct.unpack_from("<I", view, at)
        at += 4
        texts = []
        for _ in range(count):
            (size,) = struct.unpack_from("<I", view, at)
            at += 4
            if at + size > len(view):
                raise ValueError("a text reaches beyond the end")
            texts.append(bytes(view[at : at + size]).decode(errors="replace"))
            at += size
        codes, at = _decode_array(make, "u32", view, at, rows)
        if rows and (not texts or _most(codes) >= len(texts)):
            raise ValueError("a text code names no text")
        return Texts(texts, codes), at
    if kind == "ragged":
        offsets, at = _decode_array(make, "u32", view, at, rows + 1)
        if int(offsets[0]) != 0 or _descends(offsets):
            raise ValueError("the offsets of a ragged column do not ascend")
        flat, at = _decode_array(make, "u32", view, at, int(offsets[-1]))
        return Ragged(offsets, flat), at
    return _decode_array(make, kind, view, at, rows)


def _decode_array(make: _Maker, kind: ColumnType, view: memoryview, at: int, count: int) -> tuple[Any, int]:
    end = at + _ITEM_BYTES[kind] * count
    if end > len(view):
        raise ValueError("a column reaches beyond the end")
    return make(view[at:end], kind), end


def _array(part: memoryview, kind: ColumnType) -> Any:
    import numpy as np

    return np.frombuffer(part, dtype=_DTYPES[kind])


def _cast(part: memoryview, kind: ColumnType) -> Any:
    return part.cast("B").cast(_CODES[kind])


def _most(column: Any) -> int:
    return max(column) if isinstance(column, memoryview) else int(column.max())


def _descends(offsets: Any) -> bool:
    if isinstance(offsets, memoryview):
        return any(after < before for before, after in pairwise(offsets))
    return bool((offsets[1:] < offsets[:-1]).any())


# --- Journal frames --------------------------------------------------------------------------------------------------

FRAME_MAGIC = b"SGL1"
SEGMENT_HEADER = b"SURGELINE JOURNAL 1\n"
_FRAME_HEAD = struct.Struct("<4sBII")
FRAME_HEAD_BYTES = _FRAME_HEAD.size
LONGEST_PAYLOAD_BYTES = 1 << 30
"""A length beyond this is taken for damage, not for a frame."""
_FRAME_KINDS = frozenset(int(kind) for kind in Frame)


def frame_head(kind: Frame, payload: bytes) -> bytes:
    """What stands before a payload: magic, kind, length, and the CRC-32 (IEEE, as in zlib) of kind and payload."""
    return _FRAME_HEAD.pack(FRAME_MAGIC, kind, len(payload), _crc(kind, payload))


def encode_frame(kind: Frame, payload: bytes) -> bytes:
    """The payload with its head."""
    return frame_head(kind, payload) + payload


def encode_object(value: Mapping[str, Any]) -> bytes:
    """The payload of an event or an exchange."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _crc(kind: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(bytes((kind,))))


def decode_frames(data: bytes | memoryview, at: int = 0) -> Iterator[tuple[Frame, memoryview, int]]:
    """The whole, undamaged frames from `at` on: kind, payload, and the offset behind the frame.

    Stops before the first frame that is cut short, damaged or of unknown kind: what a writer that was killed leaves
    behind is the longest valid prefix.
    """
    view = memoryview(data)
    while at + FRAME_HEAD_BYTES <= len(view):
        magic, kind, size, crc = _FRAME_HEAD.unpack_from(view, at)
        begin, end = at + FRAME_HEAD_BYTES, at + FRAME_HEAD_BYTES + size
        if magic != FRAME_MAGIC or size > LONGEST_PAYLOAD_BYTES or end > len(view) or kind not in _FRAME_KINDS:
            return
        payload = view[begin:end]
        if _crc(kind, payload) != crc:
            return
        yield Frame(kind), payload, end
        at = end


# --- A run's measurements --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """What became of the requests of one endpoint that were due in one second of one stage, for one outcome.

    `response` and `service` are empty for outcomes without an answer time (not sent, aborted).
    """

    second: int
    stage: int
    endpoint: str
    outcome: Outcome
    count: int
    bytes_in: int
    bytes_out: int
    response: Histogram
    service: Histogram


@dataclass(frozen=True, slots=True)
class Count:
    """Requests of one endpoint due in one second of one stage; how many were sent; redirects followed for them."""

    second: int
    stage: int
    endpoint: str
    due: int
    sent: int
    hops: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One health reading. `value` is in the unit its metric's name ends in; a ratio of 1.0 is one core."""

    at_ns: int
    source: Literal["generator", "server"]
    worker: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Everything one run measured, but for the rows, which stay where they are until somebody asks.

    `windows` and `counts` are merged: one entry per key, ordered by key. `health`, `events` and `exchanges` are in the
    order of their times. `rows` counts the rows that were kept; `rows_dropped` those left out because a sink was slow.
    """

    windows: tuple[Window, ...] = ()
    counts: tuple[Count, ...] = ()
    health: tuple[Reading, ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    exchanges: tuple[dict[str, Any], ...] = ()
    rows: int = 0
    rows_dropped: int = 0
    transactions: tuple[Window, ...] = ()
    """What steps took together: `endpoint` is the transaction's name. Their requests are in `windows` all the same."""
    messages: tuple[Window, ...] = ()
    """How long messages of conversations were waited for, and whole conversations lasted: `endpoint` says which."""


def windows_of(table: Table) -> Iterator[Window]:
    """The windows in a decoded table of windows, one per row. Raises SampleError where it is another table."""
    columns = table.columns
    absent = [name for name in WINDOW_COLUMNS if name not in columns]
    if absent:
        raise SampleError(f"this is no table of windows: column {absent[0]} is missing")
    plain = {name: columns[name].tolist() for name, kind in WINDOW_COLUMNS.items() if kind not in ("str", "ragged")}
    if table.rows and max(plain["outcome"]) > max(Outcome):
        raise SampleError(f"the outcome {max(plain['outcome'])} is not known")
    endpoints = columns["endpoint"]
    for row in range(table.rows):
        parts = {
            side: Histogram.from_parts(
                columns[f"{side}_index"][row].tolist(),
                columns[f"{side}_count"][row].tolist(),
                plain[f"{side}_sum_ns"][row],
                plain[f"{side}_min_ns"][row],
                plain[f"{side}_max_ns"][row],
            )
            for side in ("response", "service")
        }
        yield Window(
            plain["second"][row],
            plain["stage"][row],
            endpoints[row],
            Outcome(plain["outcome"][row]),
            plain["count"][row],
            plain["bytes_in"][row],
            plain["bytes_out"][row],
            parts["response"],
            parts["service"],
        )


@dataclass(slots=True)
class Merger:
    """Folds windows and counts with equal keys into one; the order in which they come does not matter."""

    _windows: dict[tuple[int, int, str, int], Window] = field(default_factory=dict)
    _counts: dict[tuple[int, int, str], list[int]] = field(default_factory=dict)

    def add_window(self, window: Window) -> None:
        """Adds a delta."""
        key = (window.second, window.stage, window.endpoint, int(window.outcome))
        held = self._windows.get(key)
        if held is None:
            response, service = Histogram(), Histogram()
            count = bytes_in = bytes_out = 0
        else:
            response, service = held.response, held.service
            count, bytes_in, bytes_out = held.count, held.bytes_in, held.bytes_out
        response.merge(window.response)
        service.merge(window.service)
        self._windows[key] = Window(
            window.second,
            window.stage,
            window.endpoint,
            window.outcome,
            count + window.count,
            bytes_in + window.bytes_in,
            bytes_out + window.bytes_out,
            response,
            service,
        )

    def add_count(self, count: Count) -> None:
        """Adds a delta."""
        held = self._counts.setdefault((count.second, count.stage, count.endpoint), [0, 0, 0])
        held[0] += count.due
        held[1] += count.sent
        held[2] += count.hops

    def add_counts(self, table: Table) -> None:
        """Adds every row of a decoded table of counts."""
        names = [name for name in COUNT_COLUMNS if name != "endpoint"]
        columns = [table[name].tolist() for name in names]
        for endpoint, (second, stage, due, sent, hops) in zip(
            table["endpoint"], zip(*columns, strict=True), strict=True
        ):
            self.add_count(Count(second, stage, endpoint, due, sent, hops))

    def windows(self) -> tuple[Window, ...]:
        """The merged windows, ordered by second, stage, endpoint and outcome."""
        return tuple(self._windows[key] for key in sorted(self._windows))

    def counts(self) -> tuple[Count, ...]:
        """The merged counts, ordered by second, stage and endpoint."""
        return tuple(Count(*key, *self._counts[key]) for key in sorted(self._counts))


class WindowFold:
    """The requests of one window, folded as they come. This is the definition of a window: an engine that folds by
    itself must come to the same."""

    __slots__ = ("bytes_in", "bytes_out", "count", "response", "service")

    def __init__(self) -> None:
        self.count = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.response = Histogram()
        self.service = Histogram()

    def add(self, outcome: int, intended_ns: int, start_ns: int, end_ns: int, bytes_in: int, bytes_out: int) -> None:
        """Counts one request; its times too, unless it has none: never sent, cut off, or without an end (-1)."""
        self.count += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out
        if end_ns < 0 or outcome in (Outcome.NOT_SENT, Outcome.ABORTED):
            return
        self.response.record(max(end_ns - intended_ns, 0))
        if start_ns >= 0:
            self.service.record(max(end_ns - start_ns, 0))


def window_table(folds: Mapping[tuple[int, int, str, int], WindowFold]) -> dict[str, list[Any]]:
    """The columns of a table of windows, ordered by key: second, stage, endpoint, outcome."""
    table: dict[str, list[Any]] = {name: [] for name in WINDOW_COLUMNS}
    names = ("second", "stage", "endpoint", "outcome", "count", "bytes_in", "bytes_out")
    for key in sorted(folds):
        fold = folds[key]
        for name, value in zip(names, (*key, fold.count, fold.bytes_in, fold.bytes_out), strict=True):
            table[name].append(value)
        for side, histogram in (("response", fold.response), ("service", fold.service)):
            indices, counts = histogram.sparse()
            table[f"{side}_index"].append(indices)
            table[f"{side}_count"].append(counts)
            table[f"{side}_sum_ns"].append(histogram.sum_ns)
            table[f"{side}_min_ns"].append(-1 if histogram.min_ns is None else histogram.min_ns)
            table[f"{side}_max_ns"].append(-1 if histogram.max_ns is None else histogram.max_ns)
    return table


def fold_rows(rows: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The windows that a batch of rows adds up to, as the columns of a table of windows.

    `rows` holds at least stage, endpoint, outcome, intended_ns, start_ns, end_ns, bytes_in and bytes_out.
    """
    folds: dict[tuple[int, int, str, int], WindowFold] = {}
    for stage, endpoint, outcome, intended, start, end, bytes_in, bytes_out in zip(
        *(rows[name] for name in ("stage", "endpoint", "outcome", "intended_ns", "start_ns", "end_ns")),
        *(rows[name] for name in ("bytes_in", "bytes_out")),
        strict=True,
    ):
        key = (intended // 1_000_000_000, stage, endpoint, int(outcome))
        fold = folds.get(key)
        if fold is None:
            fold = folds[key] = WindowFold()
        fold.add(outcome, intended, start, end, bytes_in, bytes_out)
    return window_table(folds)
