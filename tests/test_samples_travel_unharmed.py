"""Encoded tables and journal frames: what goes in comes out, and damage is noticed, never trusted."""

import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surgeline import samples
from surgeline.samples import ColumnType, Frame, Outcome, SampleError, decode_frames, decode_table, encode_table

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_ITEMS: dict[ColumnType, st.SearchStrategy[Any]] = {
    "i64": st.integers(-(2**63), 2**63 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "u8": st.integers(0, 255),
    "u32": st.integers(0, 2**32 - 1),
    "f64": st.floats(allow_nan=False),
    "str": _TEXT,
    "ragged": st.lists(st.integers(0, 2**32 - 1), max_size=5),
}


@st.composite
def _tables(draw: st.DrawFn) -> tuple[dict[str, ColumnType], dict[str, list[Any]]]:
    columns = draw(
        st.dictionaries(
            st.text(st.characters(categories=["L"]), min_size=1, max_size=12), st.sampled_from(list(_ITEMS))
        )
    )
    rows = draw(st.integers(0, 8))
    return columns, {name: draw(st.lists(_ITEMS[kind], min_size=rows, max_size=rows)) for name, kind in columns.items()}


def _lists(table: samples.Table) -> dict[str, list[Any]]:
    """A decoded table as plain lists."""
    plain: dict[str, list[Any]] = {}
    for name, column in table.columns.items():
        if isinstance(column, samples.Texts):
            plain[name] = list(column)
            assert plain[name] == [column[row] for row in range(len(column))]
        elif isinstance(column, samples.Ragged):
            plain[name] = [column[row].tolist() for row in range(len(column))]
        else:
            plain[name] = column.tolist()
    return plain


@given(_tables())
def test_a_table_comes_out_as_it_went_in(table: tuple[dict[str, ColumnType], dict[str, list[Any]]]) -> None:
    """Every type, with every value it can hold, also without rows and without columns."""
    columns, values = table
    for arrays in (True, False):
        decoded = decode_table(encode_table(columns, values), arrays=arrays)
        assert decoded.rows == (len(next(iter(values.values()))) if values else 0)
        assert _lists(decoded) == values


def test_the_encoding_is_the_documented_one() -> None:
    """Byte for byte, worked out by hand, so that the engine in Rust can be held to the same."""
    columns: dict[str, ColumnType] = {"n": "i64", "who": "str", "hits": "ragged"}
    encoded = encode_table(columns, {"n": [1, -1], "who": ["é", "é"], "hits": [[7], []]})
    assert encoded == (
        b"\x02\x00\x00\x00\x03\x00"
        + b"\x01n\x00" + (1).to_bytes(8, "little") + b"\xff" * 8
        + b"\x03who\x05" + b"\x01\x00\x00\x00" + b"\x02\x00\x00\x00\xc3\xa9" + bytes(8)
        + b"\x04hits\x06" + b"\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00" + b"\x07\x00\x00\x00"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("i64", 2**63), ("i32", 2**31), ("u8", 256), ("u8", -1), ("u32", -1), ("i64", 1.5), ("i64", None)),
        *(("f64", "x"), ("str", 5), ("str", None), ("ragged", [-1]), ("ragged", 5)),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(kind: ColumnType, value: object) -> None:
    """The column is named, and nothing is rounded, wrapped or made a text in silence."""
    with pytest.raises(SampleError, match="column c: a value does not fit"):
        encode_table({"c": kind}, {"c": [value]})


def test_columns_of_different_lengths_are_refused() -> None:
    """Also a column that is not there at all."""
    with pytest.raises(SampleError, match="column b has 1 values where a has 2"):
        encode_table({"a": "u8", "b": "u8"}, {"a": [1, 2], "b": [1]})
    with pytest.raises(SampleError, match="column b is missing"):
        encode_table({"a": "u8", "b": "u8"}, {"a": [1]})


def test_half_of_a_surrogate_pair_does_not_stop_a_writer() -> None:
    """A server's bytes may become such a text; a question mark takes its place."""
    assert _lists(decode_table(encode_table({"c": "str"}, {"c": ["a\ud800"]}))) == {"c": ["a?"]}


@given(_tables(), st.data())
@settings(deadline=None)
def test_a_cut_table_is_refused(table: tuple[dict[str, ColumnType], dict[str, list[Any]]], data: st.DataObject) -> None:
    """At whatever byte it ends, and also where bytes follow it."""
    encoded = encode_table(*table)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(SampleError):
        decode_table(encoded[:cut])
    with pytest.raises(SampleError, match="1 bytes follow the end"):
        decode_table(encoded + b"\0")


@given(_tables(), st.data())
@settings(deadline=None)
def test_a_damaged_table_is_refused_or_whole(
    table: tuple[dict[str, ColumnType], dict[str, list[Any]]], data: st.DataObject
) -> None:
    """With bytes overwritten at will, decoding gives SampleError or a table all of whose parts can be read."""
    encoded = bytearray(encode_table(*table))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_table(bytes(encoded))
    except SampleError:
        return
    assert all(len(column) == decoded.rows for column in _lists(decoded).values())


@given(st.binary(max_size=200))
@example(struct.pack("<IH", 0xFFFFFFFF, 1) + b"\x01a\x06" + b"\xff" * 8)
@example(struct.pack("<IH", 0, 0xFFFF))
def test_any_bytes_are_a_table_or_a_sample_error(payload: bytes) -> None:
    """No length in them makes the reader reserve memory or read beyond the end."""
    try:
        decode_table(payload)
    except SampleError as error:
        assert "\n" not in str(error)


# --- Frames ----------------------------------------------------------------------------------------------------------

_FRAMES = st.lists(st.tuples(st.sampled_from(list(Frame)), st.binary(max_size=60)), max_size=6)


def _encoded(frames: list[tuple[Frame, bytes]]) -> bytes:
    return b"".join(samples.encode_frame(kind, payload) for kind, payload in frames)


def _decoded(data: bytes) -> list[tuple[Frame, bytes]]:
    return [(kind, bytes(payload)) for kind, payload, _ in decode_frames(data)]


@given(_FRAMES)
def test_frames_come_out_as_they_went_in(frames: list[tuple[Frame, bytes]]) -> None:
    """Each with the offset behind it, from which reading can go on."""
    data = _encoded(frames)
    assert _decoded(data) == frames
    ends = [end for _, _, end in decode_frames(data)]
    assert ends[-1:] == ([len(data)] if frames else [])
    for index, end in enumerate(ends):
        assert [(kind, bytes(payload)) for kind, payload, _ in decode_frames(data, end)] == frames[index + 1 :]


@given(_FRAMES, st.data())
def test_what_a_killed_writer_leaves_is_the_longest_whole_prefix(
    frames: list[tuple[Frame, bytes]], data: st.DataObject
) -> None:
    """Cut at any byte, every frame before the cut is there and none after it."""
    whole = _encoded(frames)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [end for _, _, end in decode_frames(whole)]
    assert _decoded(whole[:cut]) == frames[: sum(end <= cut for end in ends)]


@given(_FRAMES.filter(bool), st.data())
def test_a_flipped_bit_ends_the_prefix(frames: list[tuple[Frame, bytes]], data: st.DataObject) -> None:
    """Whichever bit it is, of magic, kind, length, sum or payload: that frame and what follows is not read."""
    whole = bytearray(_encoded(frames))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    intact = sum(end * 8 <= bit for _, _, end in decode_frames(_encoded(frames)))
    assert _decoded(bytes(whole)) == frames[:intact]


def test_a_frame_of_unknown_kind_or_absurd_length_is_damage() -> None:
    """A right checksum does not help it."""
    for kind, size in ((99, 0), (0, 0), (1, samples.LONGEST_PAYLOAD_BYTES + 1)):
        head = struct.pack("<4sBII", b"SGL1", kind, size, zlib.crc32(bytes((kind,))))
        assert _decoded(head) == []


def test_an_object_is_plain_json() -> None:
    """Readable by anything; half of a surrogate pair does not stop the writer."""
    assert json.loads(samples.encode_object({"at_ns": 5, "reason": "né"})) == {"at_ns": 5, "reason": "né"}
    assert samples.encode_object({"a": "\ud800"}) == b'{"a":"?"}'


# --- Windows ---------------------------------------------------------------------------------------------------------

_SECOND = 10**9
_ROW = st.fixed_dictionaries(
    {
        "stage": st.integers(0, 2),
        "endpoint": st.sampled_from(["GET /a", "GET /b"]),
        "outcome": st.sampled_from([int(outcome) for outcome in Outcome]),
        "intended_ns": st.integers(0, 4 * _SECOND),
        "start_ns": st.integers(0, 5 * _SECOND),
        "end_ns": st.integers(0, 9 * _SECOND),
        "bytes_in": st.integers(0, 10**6),
        "bytes_out": st.integers(0, 10**6),
    }
)
_ROWS = st.lists(_ROW, max_size=40)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in _FOLDED}


_FOLDED = ("stage", "endpoint", "outcome", "intended_ns", "start_ns", "end_ns", "bytes_in", "bytes_out")


def _windows(rows: list[dict[str, Any]]) -> list[samples.Window]:
    """The windows of a batch of rows, through their encoding."""
    return list(
        samples.windows_of(decode_table(encode_table(samples.WINDOW_COLUMNS, samples.fold_rows(_columns(rows)))))
    )


@given(_ROWS)
@settings(deadline=None)
def test_windows_say_what_the_rows_say(rows: list[dict[str, Any]]) -> None:
    """One window per due second, stage, endpoint and outcome; its counts, bytes, sums and extremes are the rows'."""
    windows = {(w.second, w.stage, w.endpoint, int(w.outcome)): w for w in _windows(rows)}
    keys = {(row["intended_ns"] // _SECOND, row["stage"], row["endpoint"], row["outcome"]) for row in rows}
    assert windows.keys() == keys
    for key, window in windows.items():
        held = [
            row for row in rows if (row["intended_ns"] // _SECOND, row["stage"], row["endpoint"], row["outcome"]) == key
        ]
        assert window.count == len(held)
        assert window.bytes_in == sum(row["bytes_in"] for row in held)
        assert window.bytes_out == sum(row["bytes_out"] for row in held)
        for histogram, since in ((window.response, "intended_ns"), (window.service, "start_ns")):
            times = [max(row["end_ns"] - row[since], 0) for row in held]
            if window.outcome in (Outcome.NOT_SENT, Outcome.ABORTED):
                times = []
            assert histogram.count == len(times)
            assert histogram.sum_ns == sum(times)
            assert histogram.min_ns == min(times, default=None)
            assert histogram.max_ns == max(times, default=None)


def test_a_request_without_an_end_has_no_time() -> None:
    """An error whose end was never measured counts, but does not pass for an answer in no time."""
    row = dict.fromkeys(_FOLDED, 0) | {"endpoint": "GET /a", "outcome": int(Outcome.ERROR), "end_ns": -1}
    (window,) = _windows([row])
    assert window.count == 1
    assert window.response.count == window.service.count == 0
    assert window.response.min_ns is None


@given(_ROWS, st.data())
@settings(deadline=None)
def test_merging_does_not_care_for_order_or_cut(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """Cut into batches and added in any order, windows are those of all rows folded at once."""
    whole, parts = samples.Merger(), samples.Merger()
    for window in _windows(rows):
        whole.add_window(window)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    for batch in data.draw(st.permutations([shuffled[:cut], shuffled[cut:]])):
        for window in _windows(batch):
            parts.add_window(window)
    assert parts.windows() == whole.windows()
    assert list(whole.windows()) == sorted(whole.windows(), key=lambda w: (w.second, w.stage, w.endpoint, w.outcome))


def test_adding_a_window_leaves_it_as_it_was() -> None:
    """A delta that was merged can be merged elsewhere too."""
    row = dict.fromkeys(_FOLDED, 0) | {"endpoint": "GET /a", "end_ns": 5}
    (window,) = _windows([row])
    merger = samples.Merger()
    merger.add_window(window)
    merger.add_window(window)
    assert window.response.count == 1
    assert merger.windows()[0].count == merger.windows()[0].response.count == 2


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 2, st.sampled_from("ab"), *[st.integers(0, 9)] * 3), max_size=30))
def test_counts_add_up_by_key(rows: list[tuple[int, int, str, int, int, int]]) -> None:
    """Through a table or one by one, and ordered by second, stage and endpoint."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 6
    table = decode_table(encode_table(samples.COUNT_COLUMNS, dict(zip(samples.COUNT_COLUMNS, columns, strict=True))))
    by_table, by_one = samples.Merger(), samples.Merger()
    by_table.add_counts(table)
    for row in reversed(rows):
        by_one.add_count(samples.Count(*row))
    assert by_table.counts() == by_one.counts()
    assert sum(count.due for count in by_one.counts()) == sum(row[3] for row in rows)
    keys = [(count.second, count.stage, count.endpoint) for count in by_one.counts()]
    assert keys == sorted(set(keys))


def test_a_table_that_holds_no_windows_is_refused() -> None:
    """By what it lacks, or by an outcome that nobody knows."""
    with pytest.raises(SampleError, match="no table of windows: column second is missing"):
        list(samples.windows_of(decode_table(encode_table({"n": "u8"}, {"n": [1]}))))
    columns: dict[str, list[Any]] = {name: [0] for name in samples.WINDOW_COLUMNS}
    columns |= {"endpoint": ["GET /"], "outcome": [9]}
    columns |= {name: [[]] for name, kind in samples.WINDOW_COLUMNS.items() if kind == "ragged"}
    with pytest.raises(SampleError, match="outcome 9 is not known"):
        list(samples.windows_of(decode_table(encode_table(samples.WINDOW_COLUMNS, columns))))


def test_the_decoded_arrays_are_views() -> None:
    """Reading a segment of a hundred megabytes copies texts only."""
    payload = encode_table({"n": "i64"}, {"n": [1, 2, 3]})
    column = decode_table(payload)["n"]
    assert isinstance(column, np.ndarray)
    assert column.base is not None


def test_an_outcome_has_a_word_for_people() -> None:
    """`not sent`, with a space."""
    assert [outcome.word for outcome in Outcome] == ["ok", "failure", "error", "timeout", "not sent", "aborted"]


def test_the_csv_shows_every_column_of_a_row() -> None:
    """Each column of a row is in `requests.csv`, times as microseconds; `end` is shown as lag, service and response."""
    derived = {"lag_us", "service_us", "response_us"}
    shown = {name.replace("_us", "_ns") for name in samples.CSV_COLUMNS if name not in derived}
    assert shown == set(samples.ROW_COLUMNS) - {"end_ns"}
    assert derived < set(samples.CSV_COLUMNS)
