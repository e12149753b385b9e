"""One run at rest: its directory, from before the first request until years later.

`RunDirectory.create` makes it and holds it while the run lasts; `close` turns what the journal gathered into Parquet
files; `recover` does the same for a run whose process is gone. `Run` reads any of them, finished or not, and takes the
files that are derived from it. What the numbers mean is not known here.

    running            ended, not closed        closed
    run.json           run.json (state, ended)  run.json (stored)
    journal/*.seg      journal/*.seg            samples · windows · counts · health.parquet, events · exchanges.jsonl

Which of the two forms holds is decided by one thing: run.json has a key `stored`, or it has not. It gets that key when
all files of the right column are whole; the journal goes after that.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeline.samples import Frame, Measurement, Merger, Reading, Table, encode_object, windows_of
from surgeline.store import files
from surgeline.store.errors import Busy, Damaged, Foreign, Misused, StoreError, from_os, shown
from surgeline.store.journal import Journal, Segment, Tail, open_segments
from surgeline.store.meta import ENDED, RUN_FILE, RUN_FORMAT, STATES, Meta, State, iso, read_meta, slug, write_meta
from surgeline.store.transactions import MESSAGES, TRANSACTIONS, cells_of, windows_in
from surgeline.store.transactions import lines as window_lines
from surgeline.store.transactions import read as read_windows

if TYPE_CHECKING:
    from surgeline.store.parquet import Filter

DEFAULT_ROOT = Path("surgeline-runs")
JOURNAL = "journal"
EVENTS, EXCHANGES = "events.jsonl", "exchanges.jsonl"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OWN_FILES = frozenset(
    (
        *(RUN_FILE, JOURNAL, "samples.parquet", "windows.parquet", "counts.parquet", "health.parquet"),
        *(EVENTS, EXCHANGES, TRANSACTIONS, MESSAGES),
    )
)
_TRIES = 256
"""Names of three hexadecimal digits tried before longer ones are; 4,096 runs of one name per day fit into three."""


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing a run came to.

    `rows` were stored, `rows_dropped` were left out by an engine whose sink was slow. `bytes_left_out` of the journal
    could not be read: a frame its writer was killed in, or damage. Settling an interrupted run's books adds the others:
    `aborted` requests were due and nobody accounted for them, so they have a window and no row; `rebuilt` ones had rows
    whose window was lost, and got it back; `due_added` ones have an outcome and had lost their due count.
    `open_segments` were still being written by a process that should have ended.
    """

    rows: int
    rows_dropped: int = 0
    bytes_left_out: int = 0
    aborted: int = 0
    rebuilt: int = 0
    due_added: int = 0
    open_segments: tuple[str, ...] = ()


class Run:
    """A run's directory, to read from and to put derived files into. Opening reads `run.json` and nothing else."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._meta = read_meta(self._path)

    @property
    def path(self) -> Path:
        """The directory."""
        return self._path

    @property
    def id(self) -> str:
        """The run's id."""
        return self._meta.id

    @property
    def meta(self) -> Meta:
        """What `run.json` said when it was last read here; `reload` reads it again."""
        return self._meta

    @property
    def journal(self) -> Path:
        """The journal directory: the `directory` of every segment. Gone once the run is closed."""
        return self._path / JOURNAL

    @property
    def closed(self) -> bool:
        """Whether everything is in the Parquet files."""
        return self._meta.stored is not None

    def reload(self) -> Meta:
        """Reads `run.json` again."""
        self._meta = read_meta(self._path)
        return self._meta

    def tail(self, *kinds: Frame) -> Tail:
        """Follows the journal; without kinds, all of them."""
        return Tail(self.journal, kinds or frozenset(Frame))

    def measurement(self) -> Measurement:
        """Everything measured but the rows: from the Parquet files, or from the journal while there are none."""
        if self.closed:
            from surgeline.store import parquet

            stored = self._meta.stored or {}
            return parquet.read_measurement(
                self._path,
                tuple(_read_objects(self._path / EVENTS)),
                tuple(_read_objects(self._path / EXCHANGES)),
                int(stored.get("rows", 0)),
                int(stored.get("rows_dropped", 0)),
                read_windows(self._path / TRANSACTIONS),
                read_windows(self._path / MESSAGES),
            )
        return measurement_of(Journal(self.journal))

    def cells(self) -> list[dict[str, Any]]:
        """The windows added up by stage and endpoint, as `parquet.read_cells` has them; of a closed run."""
        from surgeline.store import parquet

        if not self.closed:
            raise Busy(f"the run {self.id} is not closed yet; `surgeline runs recover {self.id}` closes what was left")
        return parquet.read_cells(self._path)

    def cells_beside(self) -> list[dict[str, Any]]:
        """The same of what is timed beside the requests, transactions and messages; `endpoint` is the name of each."""
        return [cell for file in (TRANSACTIONS, MESSAGES) for cell in cells_of(read_windows(self._path / file))]

    def rows(
        self,
        columns: Sequence[str] | None = None,
        where: "Filter | None" = None,
        batch_rows: int = 65_536,
        coded: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """The rows, in batches of at most `batch_rows`: column name to a numpy array (objects for texts).

        `columns` None gives all of them, in the order of `samples.ROW_COLUMNS`. `where` keeps the rows whose column is
        among the given values: `{"endpoint": ["GET /"], "outcome": [1, 2]}`. Closed runs give them ordered by due time,
        others in the order of the journal. Texts of the columns that `coded` names come as `samples.Texts`: millions of
        rows share a handful of them.
        """
        from surgeline.store import parquet

        if self.closed:
            return parquet.read_rows(self._path, columns, where, batch_rows, coded)
        return parquet.journal_rows(Journal(self.journal), columns, where, batch_rows, coded)

    def write_text(self, name: str, text: str) -> Path:
        """Writes a derived file, all or nothing, replacing an older one; its path."""
        return self.write_lines(name, [text])

    def write_lines(self, name: str, lines: Iterable[str | bytes]) -> Path:
        """Writes a derived file from pieces of text, all or nothing, replacing an older one; its path.

        The pieces are written as they come: a line brings its own end. Where the iterator raises, nothing changes.
        """
        path = self.derived(name)
        files.replace(path, lines)
        return path

    def derived(self, name: str) -> Path:
        """Where a derived file of that name is or would be. Raises Misused for names that are the store's own."""
        if not _FILE_NAME.fullmatch(name) or name in _OWN_FILES:
            raise Misused(f"{name!r} is not a name for a derived file in a run directory")
        return self._path / name

    def record_result(self, result: Mapping[str, Any]) -> None:
        """Keeps verdict and totals in `run.json`, for lists of runs: `{"verdict": …, "totals": {…}, …}`."""
        write_meta(self._path, {**self.reload().raw, "result": dict(result)})
        self.reload()


class RunDirectory(Run):
    """A run directory held by this process for writing, from `create` or `hold` until `close` or `release`.

    Holding is a lock of the operating system: it ends with the process, however that ends.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self._lock_fd = lock
        self._pid = os.getpid()
        super().__init__(path)

    @classmethod
    def create(cls, root: Path | str, name: str, meta: Mapping[str, Any]) -> "RunDirectory":
        """Makes a new run directory in `root` and holds it; `run.json` is on disk when this returns.

        `meta` is what `run.json` is to say; format, id, name and state are set here, `started_at` and `clock` where
        they are missing, from this moment. Two processes that create at once get two directories.
        """
        root = Path(root)
        raw = {"format": RUN_FORMAT, "id": "", "name": name, "state": "running", **meta, "pid": os.getpid()}
        raw.update(format=RUN_FORMAT, name=name, state="running")
        if "clock" not in raw:
            raw["clock"] = {"wall_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()}
        if "started_at" not in raw:
            raw["started_at"] = iso(raw["clock"]["wall_ns"])
        for key in ("ended", "series", "git"):
            raw.setdefault(key, None)
        raw.setdefault("due_known", True)
        day = raw["started_at"][:10]
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
            raise Misused(f"started_at {raw['started_at']!r} is no ISO 8601 time")
        _make_root(root)
        nest = root / f".new-{secrets.token_hex(6)}{files.TEMPORARY_SUFFIX}"
        lock = -1
        try:
            try:
                nest.mkdir(mode=files.DIRECTORY_MODE)
                (nest / JOURNAL).mkdir(mode=files.DIRECTORY_MODE)
                lock = _lock(nest)
            except OSError as error:
                raise from_os(error, root, "making a run directory in") from error
            for attempt in range(_TRIES + 64):
                digits = 3 if attempt < _TRIES else 8
                raw["id"] = f"{day}-{slug(name)}-{secrets.token_hex(4)[:digits]}"
                path = root / raw["id"]
                if path.exists():
                    continue
                write_meta(nest, raw)
                try:
                    # A run directory is never empty, so renaming onto one fails: this is where a race is decided.
                    os.rename(nest, path)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        continue
                    raise from_os(error, path, "making a run directory at") from error
                files.sync_directory(root)
                return cls(path, lock)
            raise StoreError(f"no free name for a run {name!r} was found in {shown(root)}")
        except BaseException:
            if lock >= 0:
                os.close(lock)
            files.remove_tree(nest)
            raise

    @classmethod
    def hold(cls, path: Path | str) -> "RunDirectory":
        """Holds an existing run directory. Raises Busy where a process that lives holds it."""
        path = Path(path)
        found = read_meta(path)
        try:
            lock = _lock(path)
        except BlockingIOError as error:
            raise Busy(_still_running(found)) from error
        except OSError as error:
            raise from_os(error, path, "locking") from error
        return cls(path, lock)

    def segment(self, name: str = "main", *, buffer_bytes: int = 0) -> Segment:
        """A segment of this run's journal, for this process."""
        return Segment(self.journal, name, buffer_bytes=buffer_bytes)

    def update(self, **changes: Any) -> None:
        """Replaces keys of `run.json`, all or nothing. The id stays; `started_at` goes with `clock`."""
        self._check_held()
        if "id" in changes or "format" in changes:
            raise Misused("a run's id and format do not change")
        if changes.get("state", "running") not in STATES:
            raise Misused(f"{changes['state']!r} is no state of a run")
        if "clock" in changes:
            changes.setdefault("started_at", iso(changes["clock"]["wall_ns"]))
        write_meta(self._path, {**self.reload().raw, **changes})
        self.reload()

    def close(
        self,
        state: State = "finished",
        reason: str = "",
        at_ns: int | None = None,
        *,
        step: Callable[[str], None] = lambda name: None,
    ) -> Closing:
        """Ends the run: state and end into `run.json`, the journal into Parquet files; then lets go of it.

        All segments should be closed by now. `at_ns` is when it ended, ns since t 0; None where nobody saw it. After a
        failure or a kill at any point the same call, or `recover`, brings it to the same end; `step` is called with the
        name of each step before it is taken. A run that failed or was interrupted, or that lost a worker, has its books
        settled: due requests that nobody accounted for count as aborted.
        """
        self._check_held()
        if state not in ENDED:
            raise Misused(f"{state!r} is no end of a run; one of {', '.join(ENDED)} is")
        if self.meta.state == "running":
            step("state")
            self.update(state=state, ended={"at_ns": at_ns, "reason": reason})
        still_open = tuple(open_segments(self.journal))
        if self.meta.stored is None:
            self._convert(step)
        step("journal")
        files.remove_tree(self.journal)
        files.sweep(self._path)
        stored = self.meta.stored or {}
        names = (field.name for field in fields(Closing) if field.name != "open_segments")
        closing = Closing(**{name: int(stored.get(name, 0)) for name in names}, open_segments=still_open)
        self.release()
        return closing

    def _convert(self, step: Callable[[str], None]) -> None:
        """Writes what the journal holds into its files; the key `stored`, last of all, says that they are whole."""
        from surgeline.store import parquet

        files.sweep(self._path)
        journal = Journal(self.journal)
        step("load")
        with parquet.Conversion(journal, self._path) as conversion:
            cut_short = self.meta.state in ("interrupted", "failed") or any(
                event.get("kind") == "worker_lost" for event in objects_of(journal, Frame.EVENT)
            )
            settled = conversion.settle() if cut_short else parquet.Settled()
            for name, write in (
                (parquet.SAMPLES, conversion.write_samples),
                (parquet.WINDOWS, conversion.write_windows),
                (parquet.COUNTS, conversion.write_counts),
                (parquet.HEALTH, conversion.write_health),
            ):
                step(name)
                write(self._path / name)
            for name, kind in ((EVENTS, Frame.EVENT), (EXCHANGES, Frame.EXCHANGE)):
                step(name)
                files.replace(self._path / name, (encode_object(value) + b"\n" for value in objects_of(journal, kind)))
            for name in (TRANSACTIONS, MESSAGES):
                beside = windows_in(journal, name)
                if beside:
                    step(name)
                    files.replace(self._path / name, window_lines(beside, name))
            stored = {
                "rows": conversion.rows(),
                "rows_dropped": conversion.rows_dropped(),
                "bytes_left_out": conversion.bytes_left_out,
                **asdict(settled),
            }
            ended = dict(self.meta.ended or {})
            if ended.get("at_ns") is None:
                ended["at_ns"] = conversion.last_ns()
        step("stored")
        self.update(stored=stored, ended=ended)

    def release(self) -> None:
        """Lets go of the directory without ending the run; twice is fine. In a forked copy the other one keeps it."""
        if self._lock_fd < 0:
            return
        if self._pid == os.getpid():
            files.unlock(self._lock_fd)
        os.close(self._lock_fd)
        self._lock_fd = -1

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _check_held(self) -> None:
        if self._lock_fd < 0:
            raise Misused(f"the run {self.id} is no longer held by this process")
        if self._pid != os.getpid():
            raise Misused(f"the run {self.id} is held by process {self._pid}, not by its child")


def is_running(path: Path | str) -> bool:
    """Whether a process that lives holds the run directory."""
    try:
        fd = _lock(Path(path))
    except BlockingIOError:
        return True
    except OSError:
        return False
    files.unlock(fd)
    os.close(fd)
    return False


def recover(path: Path | str, *, step: Callable[[str], None] = lambda name: None) -> Closing:
    """Closes what an interrupted run left behind.

    A run that never got an end becomes interrupted; one whose closing was cut short is closed as it was meant to be;
    one that is closed stays as it is. Raises Busy while a process of the run lives.
    """
    with RunDirectory.hold(path) as held:
        writing = open_segments(held.journal)
        if writing:
            raise Busy(
                f"the run {held.id} is still being written by a process of it ({', '.join(writing[:5])}); "
                "end that process first"
            )
        state = held.meta.state
        if state == "running":
            return held.close("interrupted", "the process that ran it ended without closing it", step=step)
        return held.close(state, step=step)


def measurement_of(journal: Journal) -> Measurement:
    """What a journal holds so far: windows and counts merged, the rest by time; what is no table is left out."""
    from surgeline.store.parquet import table_of

    merger, rows = Merger(), 0
    readings: list[Reading] = []
    for _, kind, payload in journal.frames(Frame.ROWS, Frame.WINDOWS, Frame.COUNTS, Frame.HEALTH):
        table = table_of(kind, payload)
        if table is None:
            continue
        if kind == Frame.ROWS:
            rows += table.rows
        elif kind == Frame.WINDOWS:
            for window in windows_of(table):
                merger.add_window(window)
        elif kind == Frame.COUNTS:
            merger.add_counts(table)
        else:
            readings.extend(readings_of(table))
    readings.sort(key=lambda reading: reading.at_ns)
    return Measurement(
        merger.windows(),
        merger.counts(),
        tuple(readings),
        tuple(objects_of(journal, Frame.EVENT)),
        tuple(objects_of(journal, Frame.EXCHANGE)),
        rows,
        dropped(readings),
        windows_in(journal, TRANSACTIONS),
        windows_in(journal, MESSAGES),
    )


def dropped(readings: Iterable[Reading]) -> int:
    """The rows that engines say they left out."""
    return round(sum(reading.value for reading in readings if reading.metric == "rows_dropped"))


def readings_of(table: Table) -> list[Reading]:
    """The health readings in a decoded table, one per row."""
    return [
        Reading(at_ns, source, worker, metric, value)
        for at_ns, source, worker, metric, value in zip(
            table["at_ns"].tolist(),
            table["source"],
            table["worker"],
            table["metric"],
            table["value"].tolist(),
            strict=True,
        )
    ]


def objects_of(journal: Journal, kind: Frame) -> list[dict[str, Any]]:
    """The events or the exchanges of a journal, by time."""
    found = []
    for _, _, payload in journal.frames(kind):
        with suppress(ValueError, RecursionError):
            value = json.loads(payload)
            if isinstance(value, dict):
                found.append(value)
    found.sort(key=_time_of)
    return found


def _read_objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise Damaged(f"{shown(path)} is damaged in line {number}: it is not JSON") from error
    except OSError as error:
        raise from_os(error, path, "reading") from error


def _time_of(value: Mapping[str, Any]) -> int:
    at_ns = value.get("at_ns")
    return at_ns if isinstance(at_ns, int) else -1


# --- Making, locking and describing a directory ----------------------------------------------------------------------


def _make_root(root: Path) -> None:
    try:
        root.mkdir(mode=files.DIRECTORY_MODE, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise Foreign(f"{shown(root)} is a file, so no runs can be kept there; choose another place") from error
    except OSError as error:
        raise from_os(error, root, "making the directory") from error


def _lock(path: Path) -> int:
    """A descriptor that holds the directory's lock. Raises BlockingIOError where another has it.

    On a file system without locks everybody gets one; there, nothing protects a run from being recovered too early but
    the locks of its segments, which are missing as well.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            os.close(fd)
            raise
        if _pid_alive(path):
            os.close(fd)
            raise BlockingIOError(errno.EWOULDBLOCK, "its process lives") from error
    return fd


def _pid_alive(path: Path) -> bool:
    try:
        pid = read_meta(path).raw.get("pid")
    except StoreError:
        return False
    if not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _still_running(meta: Meta) -> str:
    pid = meta.raw.get("pid")
    by = f" (process {pid})" if isinstance(pid, int) else ""
    return f"the run {meta.id} is still running{by}; wait for its end, or stop it with Ctrl-C first"
