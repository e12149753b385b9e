"""The journal as Parquet files, and Parquet files as what was measured.

Closing a run loads its journal into a scratch database of DuckDB, merges windows and counts there, and writes four
files. Memory is bounded whatever the run's length: the database holds its limit and puts the rest beside it on disk.
What comes out is the same as folding everything in Python (`samples.Merger`), only faster.

    samples.parquet   the columns of samples.ROW_COLUMNS, ordered by due time, worker, seq
    windows.parquet   samples.WINDOW_COLUMNS, one line per second, stage, endpoint and outcome; histograms are lists
    counts.parquet    samples.COUNT_COLUMNS, one line per second, stage and endpoint
    health.parquet    samples.HEALTH_COLUMNS, ordered by time

Texts come out as texts; inside, those that repeat travel as numbers.
"""

# ruff: noqa: S608 - what is put into a query is a column name of ours or a number; values are bound

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeline.samples import (
    COUNT_COLUMNS,
    HEALTH_COLUMNS,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    ColumnType,
    Count,
    Frame,
    Histogram,
    Measurement,
    Outcome,
    Ragged,
    Reading,
    SampleError,
    Table,
    Texts,
    Window,
    decode_table,
    fold_rows,
)
from surgeline.store import files
from surgeline.store.errors import Damaged, NoSuchRun, StoreError, from_os, shown
from surgeline.store.journal import Journal

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    Batch = dict[str, Any]
    """Arrays, or `Texts`, by the names of columns."""

SAMPLES, WINDOWS, COUNTS, HEALTH = "samples.parquet", "windows.parquet", "counts.parquet", "health.parquet"

Filter = Mapping[str, Sequence[str | int]]
"""Column name to the values that are let through."""

ROW_GROUP_ROWS = 122_880
"""DuckDB's own default: large enough to compress, small enough to be read as one batch."""
_BATCH_ROWS = 200_000
_MEMORY_LIMIT = "512MB"
"""For the scratch database. Measured: 10 million rows close in half a minute on two cores, with 0.8 GB in all."""
_SCRATCH_ON_DISK_BYTES = 64 << 20
"""From this size of journal on, the scratch database is a file; below it fits into memory."""

_SQL_TYPES: dict[ColumnType, str] = {
    "i64": "BIGINT",
    "i32": "INTEGER",
    "u8": "UTINYINT",
    "u32": "UINTEGER",
    "f64": "DOUBLE",
    "str": "VARCHAR",
    "ragged": "UINTEGER[]",
}
_NUMPY_TYPES: dict[ColumnType, str] = {"i64": "i8", "i32": "i4", "u8": "u1", "u32": "u4", "f64": "f8"}
_CODED = frozenset(("endpoint", "scenario", "worker", "method", "protocol", "source", "metric"))
"""Texts with few distinct values. The others (url, error, server_timing) may all differ and are never gathered."""
_SECOND = "((intended_ns - (intended_ns % 1000000000 + 1000000000) % 1000000000) // 1000000000)::INTEGER"
"""The second in which a row was due: floor(intended_ns / 1e9), exact also below zero."""
_KEY = ("second", "stage", "endpoint", "outcome")
_SIDES = ("response", "service")


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling the books of an interrupted run added: see `rundir.Closing`."""

    aborted: int = 0
    rebuilt: int = 0
    due_added: int = 0


class Conversion:
    """A journal on its way into Parquet files. A context: what it needs while it works is gone afterwards.

    `bytes_left_out` counts what could not be read: the journal's own, and frames whose payload is not the table that
    their kind promises.
    """

    def __init__(self, journal: Journal, directory: Path) -> None:
        self.bytes_left_out = journal.bytes_left_out
        self._directory = directory
        self._scratch = files.temporary(directory / "closing")
        self._codes: dict[str, int] = {}
        try:
            self._scratch.mkdir(mode=files.DIRECTORY_MODE)
        except OSError as error:
            raise from_os(error, directory, "closing the run in") from error
        size = sum(segment.bytes_read for segment in journal.segments)
        database = str(self._scratch / "scratch.db") if size >= _SCRATCH_ON_DISK_BYTES else ":memory:"
        try:
            self._con = _connect(database, self._scratch)
            for name, columns in _SCRATCH_TABLES.items():
                self._run(f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
            self._load(journal)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the scratch database and removes it."""
        if hasattr(self, "_con"):
            self._con.close()
        files.remove_tree(self._scratch)

    def __enter__(self) -> "Conversion":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- in ---

    def _load(self, journal: Journal) -> None:
        waiting: dict[Frame, list[Table]] = {kind: [] for kind in _WANTED}
        rows: dict[Frame, int] = dict.fromkeys(_WANTED, 0)
        for _, kind, payload in journal.frames(*_WANTED):
            table = table_of(kind, payload)
            if table is None:
                self.bytes_left_out += len(payload)
                continue
            waiting[kind].append(table)
            rows[kind] += table.rows
            if rows[kind] >= _BATCH_ROWS:
                self._insert(kind, waiting[kind])
                waiting[kind], rows[kind] = [], 0
        for kind, tables in waiting.items():
            if tables:
                self._insert(kind, tables)

    def _insert(self, kind: Frame, tables: list[Table]) -> None:
        import numpy as np

        columns = _WANTED[kind]
        batch = {name: self._column(tables, name, sort) for name, sort in columns.items() if sort != "ragged"}
        self._append(_SCRATCH_NAMES[kind], batch)
        if kind != Frame.WINDOWS:
            return
        for number, side in enumerate(_SIDES):
            lengths = np.concatenate([np.diff(table[f"{side}_index"].offsets.astype("i8")) for table in tables])
            buckets = {name: np.repeat(batch[name], lengths) for name in _KEY}
            buckets["side"] = np.full(int(lengths.sum()), number, dtype="u1")
            for part in ("index", "count"):
                buckets[f"bucket_{part}"] = np.concatenate([table[f"{side}_{part}"].flat for table in tables]).astype(
                    "i8"
                )
            self._append("buckets", buckets)

    def _column(self, tables: list[Table], name: str, kind: ColumnType) -> "np.ndarray[Any, Any]":
        import numpy as np

        if kind != "str":
            return np.concatenate([table[name] for table in tables]).astype(_NUMPY_TYPES[kind], copy=False)
        if name not in _CODED:
            return np.concatenate([np.array(table[name].texts, dtype=object)[table[name].codes] for table in tables])
        codes = self._codes
        return np.concatenate(
            [
                np.array([codes.setdefault(text, len(codes)) for text in table[name].texts], dtype="i4")[
                    table[name].codes
                ]
                for table in tables
            ]
        )

    def _append(self, table: str, batch: "Batch") -> None:
        if len(next(iter(batch.values()))):
            self._con.register("batch", batch)
            self._run(f"INSERT INTO {table} ({', '.join(batch)}) SELECT * FROM batch")
            self._con.unregister("batch")

    # --- what is in it ---

    def rows(self) -> int:
        """How many rows there are."""
        return int(self._one("SELECT count(*) FROM samples"))

    def rows_dropped(self) -> int:
        """How many rows engines say they left out."""
        code = self._codes.get("rows_dropped", -1)
        return round(float(self._one(f"SELECT coalesce(sum(value), 0) FROM health WHERE metric = {code}")))

    def last_ns(self) -> int | None:
        """The latest moment that anything in the journal speaks of, ns since t 0; None for an empty one."""
        held = self._one(
            "SELECT max(moment) FROM (SELECT max(greatest(intended_ns, end_ns)) AS moment FROM samples "
            "UNION ALL SELECT max(at_ns) FROM health)"
        )
        return None if held is None else int(held)

    # --- settling ---

    def settle(self) -> Settled:
        """Makes the books of an interrupted run balance: due = sent + not sent, sent = answered, broken or aborted.

        Three things may have been lost with the last second. Rows without their window: the window is made again from
        them. Outcomes without their due count: what has an outcome was due. And due requests without any outcome: they
        count as sent and aborted, nobody can know more of them.
        """
        rebuilt = self._rebuild_windows()
        known: dict[tuple[int, int, int], list[int]] = {}
        for second, stage, endpoint, due, sent in self._run(
            "SELECT second, stage, endpoint, sum(due)::BIGINT, sum(sent)::BIGINT FROM counts GROUP BY ALL"
        ).fetchall():
            known[second, stage, endpoint] = [due, sent, 0, 0]
        for second, stage, endpoint, outcomes, not_sent in self._run(
            "SELECT second, stage, endpoint, sum(count)::BIGINT, "
            f"coalesce(sum(count) FILTER (outcome = {int(Outcome.NOT_SENT)}), 0)::BIGINT FROM windows GROUP BY ALL"
        ).fetchall():
            known.setdefault((second, stage, endpoint), [0, 0, 0, 0])[2:] = [outcomes, not_sent]
        due_added = aborted = 0
        counts: dict[str, list[int]] = {name: [] for name in COUNT_COLUMNS}
        windows: dict[str, list[int]] = {name: [] for name, kind in WINDOW_COLUMNS.items() if kind != "ragged"}
        for (second, stage, endpoint), (due, sent, outcomes, not_sent) in sorted(known.items()):
            right_due = max(due, outcomes, sent + not_sent)
            right_sent = right_due - not_sent
            due_added += right_due - due
            if (right_due, right_sent) != (due, sent):
                _put(counts, (second, stage, endpoint, right_due - due, right_sent - sent, 0))
            if right_due > outcomes:
                aborted += right_due - outcomes
                empty = (0, -1, -1)
                _put(windows, (second, stage, endpoint, Outcome.ABORTED, right_due - outcomes, 0, 0, *empty, *empty))
        for table, values, kinds in (("counts", counts, COUNT_COLUMNS), ("windows", windows, WINDOW_COLUMNS)):
            self._append(table, _arrays(values, kinds))
        return Settled(aborted, rebuilt, due_added)

    def _rebuild_windows(self) -> int:
        """Makes each window again of which there are more rows than it counts; by how many requests they grew."""
        key = ", ".join(_KEY)
        self._run(
            f"CREATE TEMP TABLE short AS SELECT {key}, rows - coalesce(held, 0) AS lacking FROM "
            f"(SELECT {_SECOND} AS second, stage, endpoint, outcome, count(*) AS rows FROM samples GROUP BY ALL) "
            f"LEFT JOIN (SELECT {key}, sum(count) AS held FROM windows GROUP BY ALL) USING ({key}) "
            "WHERE rows > coalesce(held, 0)"
        )
        lacking = int(self._one("SELECT coalesce(sum(lacking), 0)::BIGINT FROM short"))
        if not lacking:
            return 0
        names = ("stage", "endpoint", "outcome", "intended_ns", "start_ns", "end_ns", "bytes_in", "bytes_out")
        keys = self._run(f"SELECT {key} FROM short ORDER BY ALL").fetchall()
        for table in ("windows", "buckets"):
            self._run(f"DELETE FROM {table} WHERE ({key}) IN (SELECT ({key}) FROM short)")
        texts = list(self._codes)
        for second, stage, endpoint, outcome in keys:
            found = self._run(
                f"SELECT {', '.join(names)} FROM samples WHERE {_SECOND} = ? AND stage = ? AND endpoint = ? "
                "AND outcome = ?",
                [second, stage, endpoint, outcome],
            ).fetchnumpy()
            folded = fold_rows(
                {n: [texts[endpoint]] * len(v) if n == "endpoint" else v.tolist() for n, v in found.items()}
            )
            self._insert(Frame.WINDOWS, [_table(folded, WINDOW_COLUMNS)])
        return lacking

    # --- out ---

    def write_samples(self, path: Path) -> None:
        """Writes the rows, ordered by due time."""
        self._copy(path, f"SELECT {self._texts(ROW_COLUMNS)} FROM samples ORDER BY intended_ns, worker, seq")

    def write_windows(self, path: Path) -> None:
        """Writes the merged windows, ordered by second, stage, endpoint and outcome."""
        key = ", ".join(_KEY)
        sums = [
            "sum(count)::BIGINT AS count",
            "sum(bytes_in)::BIGINT AS bytes_in",
            "sum(bytes_out)::BIGINT AS bytes_out",
        ]
        for side in _SIDES:
            sums += [
                f"sum({side}_sum_ns)::BIGINT AS {side}_sum_ns",
                f"coalesce(min({side}_min_ns) FILTER ({side}_min_ns >= 0), -1) AS {side}_min_ns",
                f"max({side}_max_ns) AS {side}_max_ns",
            ]
        # A bucket travels as index and count in one number: sorting those is twice as fast as ordering two lists.
        packed = [
            f"list_sort(list((bucket_index::UBIGINT << 32) | total) FILTER (side = {number})) AS {side}_packed"
            for number, side in enumerate(_SIDES)
        ]
        lists = [
            f"list_transform({side}_packed, lambda bucket: {part}::UINTEGER) AS {side}_{name}"
            for side in _SIDES
            for name, part in (("index", "(bucket >> 32)"), ("count", "(bucket & 4294967295)"))
        ]
        self._copy(
            path,
            f"WITH sums AS (SELECT {key}, {', '.join(sums)} FROM windows GROUP BY {key}), "
            f"merged AS (SELECT {key}, side, bucket_index, sum(bucket_count)::UBIGINT AS total FROM buckets "
            f"WHERE bucket_count > 0 GROUP BY {key}, side, bucket_index), "
            f"grouped AS (SELECT {key}, {', '.join(packed)} FROM merged GROUP BY {key}), "
            f"lists AS (SELECT {key}, {', '.join(lists)} FROM grouped) "
            f"SELECT {self._texts(WINDOW_COLUMNS, ragged=True)} FROM sums LEFT JOIN lists USING ({key}) "
            f"ORDER BY second, stage, {self._text('endpoint')}, outcome",
        )

    def write_counts(self, path: Path) -> None:
        """Writes the merged counts, ordered by second, stage and endpoint."""
        self._copy(
            path,
            f"SELECT {self._texts(COUNT_COLUMNS)} FROM (SELECT second, stage, endpoint, sum(due)::BIGINT AS due, "
            "sum(sent)::BIGINT AS sent, sum(hops)::BIGINT AS hops FROM counts GROUP BY second, stage, endpoint) "
            f"ORDER BY second, stage, {self._text('endpoint')}",
        )

    def write_health(self, path: Path) -> None:
        """Writes the readings, ordered by time; of equal times, as they were journalled."""
        self._copy(path, f"SELECT {self._texts(HEALTH_COLUMNS)} FROM health ORDER BY at_ns, rowid")

    def _text(self, column: str) -> str:
        return f"list_extract(getvariable('texts'), {column} + 1)"

    def _texts(self, columns: Mapping[str, ColumnType], *, ragged: bool = False) -> str:
        """The columns as they are to be written: codes turned into texts, absent lists into empty ones."""
        self._run("SET VARIABLE texts = ?::VARCHAR[]", [list(self._codes)])
        selected = []
        for name, kind in columns.items():
            if kind == "str" and name in _CODED:
                selected.append(f"{self._text(name)} AS {name}")
            elif kind == "ragged" and ragged:
                selected.append(f"coalesce({name}, []::UINTEGER[]) AS {name}")
            else:
                selected.append(name)
        return ", ".join(selected)

    def _copy(self, path: Path, query: str) -> None:
        passing = files.temporary(path)
        try:
            self._run(
                f"COPY ({query}) TO {_quoted(passing)} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})",
                path=path,
            )
            os.chmod(passing, files.FILE_MODE)
            files.sync(passing)
            files.settle(passing, path)
        except OSError as error:
            raise from_os(error, path, "writing") from error
        finally:
            passing.unlink(missing_ok=True)

    def _run(self, query: str, values: Sequence[Any] = (), path: Path | None = None) -> "duckdb.DuckDBPyConnection":
        import duckdb

        try:
            return self._con.execute(query, values)
        except duckdb.Error as error:
            raise _from_duckdb(error, path or self._directory, "writing") from error

    def _one(self, query: str) -> Any:
        row = self._run(query).fetchone()
        return row[0] if row else None


_WANTED: dict[Frame, Mapping[str, ColumnType]] = {
    Frame.ROWS: ROW_COLUMNS,
    Frame.WINDOWS: WINDOW_COLUMNS,
    Frame.COUNTS: COUNT_COLUMNS,
    Frame.HEALTH: HEALTH_COLUMNS,
}
_SCRATCH_NAMES = {Frame.ROWS: "samples", Frame.WINDOWS: "windows", Frame.COUNTS: "counts", Frame.HEALTH: "health"}


def _scratch_columns(columns: Mapping[str, ColumnType]) -> dict[str, str]:
    return {
        name: "INTEGER" if name in _CODED else _SQL_TYPES[kind] for name, kind in columns.items() if kind != "ragged"
    }


_SCRATCH_TABLES: dict[str, dict[str, str]] = {
    **{name: _scratch_columns(_WANTED[kind]) for kind, name in _SCRATCH_NAMES.items()},
    "buckets": {
        **{name: _scratch_columns(WINDOW_COLUMNS)[name] for name in _KEY},
        "side": "UTINYINT",
        "bucket_index": "BIGINT",
        "bucket_count": "BIGINT",
    },
}


def _put(columns: dict[str, list[int]], line: Sequence[int]) -> None:
    for column, value in zip(columns.values(), line, strict=True):
        column.append(int(value))


def _arrays(values: Mapping[str, list[int]], kinds: Mapping[str, ColumnType]) -> "Batch":
    import numpy as np

    return {name: np.array(column, dtype=_NUMPY_TYPES.get(kinds[name], "i4")) for name, column in values.items()}


def table_of(kind: Frame, payload: bytes) -> Table | None:
    """The table in a frame; None where it is not what the frame's kind promises."""
    columns = _WANTED[kind]
    try:
        table = decode_table(payload)
    except SampleError:
        return None
    for name, sort in columns.items():
        column = table.columns.get(name)
        made = {"str": Texts, "ragged": Ragged}.get(sort)
        if column is None or (isinstance(column, Texts | Ragged) if made is None else not isinstance(column, made)):
            return None
    if table.rows and "outcome" in columns and int(table["outcome"].max()) > max(Outcome):
        return None
    for side in _SIDES if kind == Frame.WINDOWS else ():
        if (table[f"{side}_index"].offsets != table[f"{side}_count"].offsets).any():
            return None
    return table


def _table(values: Mapping[str, Sequence[Any]], columns: Mapping[str, ColumnType]) -> Table:
    from surgeline.samples import encode_table

    return decode_table(encode_table(columns, values))


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_measurement(
    directory: Path,
    events: tuple[dict[str, Any], ...],
    exchanges: tuple[dict[str, Any], ...],
    rows: int,
    rows_dropped: int,
    transactions: tuple[Window, ...] = (),
    messages: tuple[Window, ...] = (),
) -> Measurement:
    """What the Parquet files of a closed run hold, but for the rows."""
    con = _connect(":memory:", Path(tempfile.gettempdir()))
    try:
        return Measurement(
            tuple(_read_windows(con, directory / WINDOWS)),
            tuple(Count(*line) for line in _read_lines(con, directory / COUNTS, COUNT_COLUMNS)),
            tuple(Reading(*line) for line in _read_lines(con, directory / HEALTH, HEALTH_COLUMNS)),
            events,
            exchanges,
            rows,
            rows_dropped,
            transactions,
            messages,
        )
    finally:
        con.close()


def read_rows(
    directory: Path, columns: Sequence[str] | None, where: Filter | None, batch_rows: int, coded: Sequence[str] = ()
) -> "Iterator[Batch]":
    """The rows of a closed run in batches, ordered by due time.

    The file is cut where its row groups begin, by due time, so each batch reads the row groups it needs and no other.
    """
    import numpy as np

    path = directory / SAMPLES
    names, conditions, values = _selection(columns, where)
    con = _connect(":memory:", Path(tempfile.gettempdir()))
    try:
        starts = [
            int(row[0])
            for row in _query(
                con,
                "SELECT DISTINCT stats_min_value::BIGINT AS low FROM parquet_metadata(?) "
                "WHERE path_in_schema = 'intended_ns' ORDER BY low",
                [_pattern(path)],
                path,
            ).fetchall()
        ]
        texts = {name: _coded(con, name, path) for name in names if name in coded}
        same = {name: value for name, value in _same(con, path).items() if name in names}
        # Something has to be read, to know how many there are.
        read = [name for name in names if name not in same] or names[:1]
        wanted = [f"enum_code({name}::texts_of_{name}) AS {name}" if name in texts else name for name in read]
        for number, low in enumerate(starts):
            ranged, limits = " AND intended_ns >= ?", [low]
            if number + 1 < len(starts):
                ranged, limits = ranged + " AND intended_ns < ?", [low, starts[number + 1]]
            found = _query(
                con,
                f"SELECT {', '.join(wanted)} FROM read_parquet(?) WHERE true{ranged}{conditions}",
                [_pattern(path), *limits, *values],
                path,
            ).fetchnumpy()
            count = len(next(iter(found.values())))
            held = {
                name: Texts(texts[name], found[name]) if name in texts else found[name] if name in found
                else np.full(count, same[name], dtype=_NUMPY_TYPES[ROW_COLUMNS[name]])
                for name in names
            }  # fmt: skip
            yield from _slices(held, batch_rows)
    finally:
        con.close()


def _same(con: "duckdb.DuckDBPyConnection", path: Path) -> dict[str, int]:
    """The columns of numbers that have one value in the whole file, by what the file says of itself: none of them need
    be read. Plain HTTP has no handshakes, and most runs look names up once.
    """
    told = _query(
        con,
        "SELECT path_in_schema, min(stats_min_value), max(stats_max_value) FROM parquet_metadata(?) GROUP BY 1 "
        "HAVING bool_and(coalesce(stats_min_value = stats_max_value AND stats_null_count = 0, false))",
        [_pattern(path)],
        path,
    ).fetchall()
    return {
        name: int(low) for name, low, high in told if ROW_COLUMNS.get(name) in _NUMPY_TYPES and low == high is not None
    }


def _coded(con: "duckdb.DuckDBPyConnection", name: str, path: Path) -> list[str]:
    """The texts of a column, after the connection has learned to number them."""
    texts = f"SELECT DISTINCT {name} FROM read_parquet({_quoted(Path(_pattern(path)))}) ORDER BY 1"
    _query(con, f"CREATE TYPE texts_of_{name} AS ENUM ({texts})", [], path)
    (found,) = _query(con, f"SELECT enum_range(NULL::texts_of_{name})", [], path).fetchone() or ([],)
    return [str(text) for text in found]


def journal_rows(
    journal: Journal, columns: Sequence[str] | None, where: Filter | None, batch_rows: int, coded: Sequence[str] = ()
) -> "Iterator[Batch]":
    """The rows of a run that is not closed, in the order of its journal; frames that are no tables are left out."""
    import numpy as np

    names, _, _ = _selection(columns, where)
    for _, _, payload in journal.frames(Frame.ROWS):
        table = table_of(Frame.ROWS, payload)
        if table is None:
            continue
        kept = np.ones(table.rows, dtype=bool)
        for name, values in (where or {}).items():
            column = table[name]
            if isinstance(column, Texts):
                known = np.array([text in values for text in column.texts], dtype=bool)
                kept &= known[column.codes] if len(known) else False
            else:
                kept &= np.isin(column, np.array(values))
        batch: dict[str, Any] = {}
        for name in names:
            column = table[name]
            if name in coded and isinstance(column, Texts):
                batch[name] = Texts(column.texts, column.codes[kept])
                continue
            whole = np.array(column.texts, dtype=object)[column.codes] if isinstance(column, Texts) else column
            batch[name] = whole[kept]
        yield from _slices(batch, batch_rows)


def _slices(batch: "Batch", batch_rows: int) -> "Iterator[Batch]":
    total = len(next(iter(batch.values())))
    for begin in range(0, total, batch_rows):
        part = slice(begin, begin + batch_rows)
        yield {
            name: Texts(column.texts, column.codes[part]) if isinstance(column, Texts) else column[part]
            for name, column in batch.items()
        }


def _selection(columns: Sequence[str] | None, where: Filter | None) -> tuple[list[str], str, list[Any]]:
    """Column names that exist, conditions as SQL behind another, and their values."""
    names = list(ROW_COLUMNS if columns is None else columns)
    for name in (*names, *(where or {})):
        if name not in ROW_COLUMNS:
            raise KeyError(f"rows have no column {name}")
    conditions, values = "", []
    for name, wanted in (where or {}).items():
        conditions += f" AND list_contains(?::{_SQL_TYPES[ROW_COLUMNS[name]]}[], {name})"
        values.append(list(wanted))
    return names, conditions, values


def _read_windows(con: "duckdb.DuckDBPyConnection", path: Path) -> Iterator[Window]:
    plain = [name for name, kind in WINDOW_COLUMNS.items() if kind != "ragged"]
    lengths = [f"len({side}_index) AS {side}_length" for side in _SIDES]
    query = f"SELECT {', '.join(plain + lengths)} FROM read_parquet(?)"
    held = {name: column.tolist() for name, column in _query(con, query, [_pattern(path)], path).fetchnumpy().items()}
    flat = {}
    for side in _SIDES:
        query = f"SELECT unnest({side}_index) AS bucket, unnest({side}_count) AS total FROM read_parquet(?)"
        found = _query(con, query, [_pattern(path)], path).fetchnumpy()
        flat[side] = (found["bucket"], found["total"])
    at = dict.fromkeys(_SIDES, 0)
    for row in range(len(held["second"])):
        histograms = []
        for side in _SIDES:
            begin, end = at[side], at[side] + held[f"{side}_length"][row]
            at[side] = end
            indices, counts = flat[side]
            sums = (held[f"{side}_{name}"][row] for name in ("sum_ns", "min_ns", "max_ns"))
            mine = counts[begin:end]
            histogram = Histogram.packed(indices[begin:end], mine, int(mine.sum()), *sums)
            histograms.append(histogram)
        yield Window(
            held["second"][row],
            held["stage"][row],
            held["endpoint"][row],
            Outcome(held["outcome"][row]),
            held["count"][row],
            held["bytes_in"][row],
            held["bytes_out"][row],
            *histograms,
        )


def read_cells(directory: Path) -> list[dict[str, Any]]:
    """The windows of a closed run added up by stage and endpoint: one mapping for each.

    `stage`, `endpoint`, `judged` (requests with a known outcome), `bad` (those of them not ok), and `index` and
    `count`, the buckets of the response times of those that were ok, ascending.
    """
    con = _connect(":memory:", Path(tempfile.gettempdir()))
    path = directory / WINDOWS
    try:
        tallies = _query(
            con,
            "SELECT stage, endpoint, sum(count)::BIGINT AS judged, "
            f"sum(CASE WHEN outcome = {int(Outcome.OK)} THEN 0 ELSE count END)::BIGINT AS bad FROM read_parquet(?) "
            f"WHERE outcome <> {int(Outcome.ABORTED)} GROUP BY stage, endpoint ORDER BY stage, endpoint",
            [_pattern(path)],
            path,
        ).fetchnumpy()
        times = _query(
            con,
            "SELECT stage, endpoint, bucket, sum(total)::BIGINT AS total FROM ("
            "SELECT stage, endpoint, unnest(response_index) AS bucket, unnest(response_count) AS total "
            f"FROM read_parquet(?) WHERE outcome = {int(Outcome.OK)}) "
            "GROUP BY stage, endpoint, bucket ORDER BY stage, endpoint, bucket",
            [_pattern(path)],
            path,
        ).fetchnumpy()
    finally:
        con.close()
    return _cells(tallies, times)


def _cells(tallies: "Batch", times: "Batch") -> list[dict[str, Any]]:
    import numpy as np

    stages, names = (np.asarray(times[name]) for name in ("stage", "endpoint"))
    begins: dict[tuple[int, str], tuple[int, int]] = {}
    if len(stages):
        new = np.flatnonzero(np.concatenate(([True], (stages[1:] != stages[:-1]) | (names[1:] != names[:-1]))))
        for begin, end in zip(new.tolist(), [*new[1:].tolist(), len(stages)], strict=True):
            begins[int(stages[begin]), str(names[begin])] = (begin, end)
    found = []
    for row in range(len(tallies["stage"])):
        key = (int(tallies["stage"][row]), str(tallies["endpoint"][row]))
        begin, end = begins.get(key, (0, 0))
        found.append(
            {
                "stage": key[0],
                "endpoint": key[1],
                "judged": int(tallies["judged"][row]),
                "bad": int(tallies["bad"][row]),
                "index": np.asarray(times["bucket"][begin:end], dtype=np.int64),
                "count": np.asarray(times["total"][begin:end], dtype=np.int64),
            }
        )
    return found


def _read_lines(
    con: "duckdb.DuckDBPyConnection", path: Path, columns: Mapping[str, ColumnType]
) -> list[tuple[Any, ...]]:
    query = f"SELECT {', '.join(columns)} FROM read_parquet(?)"
    return _query(con, query, [_pattern(path)], path).fetchall()


# --- DuckDB ----------------------------------------------------------------------------------------------------------


def _connect(database: str, scratch: Path) -> "duckdb.DuckDBPyConnection":
    import duckdb

    return duckdb.connect(
        database,
        config={
            "memory_limit": _MEMORY_LIMIT,
            "temp_directory": str(scratch),
            "threads": min(os.cpu_count() or 1, 4),
            # Nothing that is needed lies outside the wheel, and no network is asked for it.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


def _query(con: "duckdb.DuckDBPyConnection", query: str, values: list[Any], path: Path) -> "duckdb.DuckDBPyConnection":
    import duckdb

    if not path.is_file():
        raise NoSuchRun(f"{shown(path)} is missing, so this run cannot be read")
    try:
        return con.execute(query, values)
    except duckdb.Error as error:
        raise _from_duckdb(error, path, "reading") from error


def _from_duckdb(error: Exception, path: Path, doing: str) -> StoreError:
    text = str(error)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
        if os.strerror(code) in text:
            return from_os(OSError(code, os.strerror(code)), path, doing)
    first = " ".join(text.split("\n\n")[0].split())[:300]
    if doing == "reading":
        return Damaged(f"{shown(path)} is damaged: {first}")
    return StoreError(f"{doing} {shown(path)} failed: {first}")


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _pattern(path: Path) -> str:
    """A path as DuckDB's glob pattern that matches it alone."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
