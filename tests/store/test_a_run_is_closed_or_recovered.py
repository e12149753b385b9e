"""From the journal to the Parquet files: after a normal end, a kill at any moment, and a full disk."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recorded

from surgeline.samples import ROW_COLUMNS, Count, Frame, Merger, Outcome, decode_table, encode_table, windows_of
from surgeline.store.errors import Busy, Damaged, DiskFull, Misused, NewerFormat, NoSuchRun
from surgeline.store.journal import Journal
from surgeline.store.rundir import Closing, Run, RunDirectory, is_running, recover

FILES = {"samples.parquet", "windows.parquet", "counts.parquet", "health.parquet", "events.jsonl", "exchanges.jsonl"}


def _record(root: Path, seconds: int = 4, rows: int = 120, name: str = "shop") -> tuple[RunDirectory, list[Any]]:
    """A run of two writers that is still held, and its rows in the order in which they should be stored."""
    run = RunDirectory.create(root, name, {})
    measured = []
    for writer in ("a", "b"):
        with run.segment(writer) as segment:
            for second in range(seconds):
                batch = recorded.rows(100 * ord(writer) + second, rows, second, worker=writer, first=second * rows)
                recorded.journal(segment, batch)
                measured += recorded.lines(batch)
    names = list(ROW_COLUMNS)
    due, worker, seq = (names.index(name) for name in ("intended_ns", "worker", "seq"))
    return run, sorted(measured, key=lambda row: (row[due], row[worker], row[seq]))


def _rows(run: Run, **choice: Any) -> list[tuple[Any, ...]]:
    return [line for batch in run.rows(**choice) for line in recorded.lines(batch)]


def _books(run: Run) -> None:
    """Both identities hold, for every second, stage and endpoint."""
    measurement = run.measurement()
    outcomes: dict[tuple[int, int, str], dict[Outcome, int]] = {}
    for window in measurement.windows:
        by = outcomes.setdefault((window.second, window.stage, window.endpoint), {})
        by[window.outcome] = by.get(window.outcome, 0) + window.count
    counts = {(c.second, c.stage, c.endpoint): c for c in measurement.counts}
    assert counts.keys() == outcomes.keys()
    for key, count in counts.items():
        by = outcomes[key]
        assert count.due == sum(by.values()), key
        assert count.sent == sum(by.values()) - by.get(Outcome.NOT_SENT, 0), key


# --- The normal end --------------------------------------------------------------------------------------------------


def test_what_is_stored_is_what_was_journalled(tmp_path: Path) -> None:
    """Every row comes back exactly, by due time; windows, counts, health and events equal the journal's fold."""
    run, measured = _record(tmp_path)
    before = Run(run.path).measurement()
    assert sorted(_rows(Run(run.path))) == sorted(measured)
    assert run.close("finished", "", 4 * 10**9) == Closing(rows=len(measured), rows_dropped=8)
    after = Run(run.path)
    assert _rows(after) == measured
    assert after.measurement() == before
    assert after.meta.state == "finished"
    assert after.meta.ended == {"at_ns": 4 * 10**9, "reason": ""}
    assert {entry.name for entry in run.path.iterdir()} == {*FILES, "run.json"}
    _books(after)


def test_windows_merge_as_the_merger_merges(tmp_path: Path) -> None:
    """The merge done by the database gives exactly the windows that samples.Merger gives, whatever the order."""
    run, _ = _record(tmp_path, seconds=3)
    merger = Merger()
    for _, kind, payload in reversed(list(Journal(run.journal).frames(Frame.WINDOWS, Frame.COUNTS))):
        if kind == Frame.WINDOWS:
            for window in windows_of(decode_table(payload)):
                merger.add_window(window)
        else:
            merger.add_counts(decode_table(payload))
    run.close("finished")
    assert Run(run.path).measurement().windows == merger.windows()
    assert Run(run.path).measurement().counts == merger.counts()


def test_rows_can_be_chosen(tmp_path: Path) -> None:
    """Columns, filters and batch sizes give the same rows from the journal and from the files."""
    run, measured = _record(tmp_path)
    names = list(ROW_COLUMNS)
    endpoint, outcome, seq = (names.index(name) for name in ("endpoint", "outcome", "seq"))
    where = {"endpoint": [recorded.ENDPOINTS[3], "no such"], "outcome": [1, 2]}
    wanted = sorted(
        (row[seq],) for row in measured if row[endpoint] == recorded.ENDPOINTS[3] and row[outcome] in (1, 2)
    )
    assert wanted
    for close in (False, True):
        if close:
            run.close("finished")
        read = Run(run.path)
        assert sorted(_rows(read, columns=["seq"], where=where)) == wanted
        assert _rows(read, where={"error": ["nothing like it"]}) == []
        assert {len(batch["seq"]) for batch in read.rows(["seq"], batch_rows=7)} <= set(range(1, 8))
        with pytest.raises(KeyError, match="no column nope"):
            next(iter(read.rows(["nope"])))


def test_a_run_without_requests_is_a_run(tmp_path: Path) -> None:
    """Nothing measured closes into empty files that read as nothing."""
    run = RunDirectory.create(tmp_path, "nothing", {})
    assert run.close("failed", "nothing was listening") == Closing(rows=0)
    read = Run(run.path)
    assert _rows(read) == []
    assert read.measurement() == Run(run.path).measurement()
    assert read.measurement().windows == ()
    assert read.meta.ended == {"at_ns": None, "reason": "nothing was listening"}


def test_rows_due_at_the_same_moment_are_all_read(tmp_path: Path) -> None:
    """More rows than a row group holds, all due at one moment: each is read once."""
    run = RunDirectory.create(tmp_path, "burst", {})
    count = 130_000
    values: dict[str, list[Any]] = {name: [0] * count for name in ROW_COLUMNS}
    values |= {name: ["x"] * count for name, kind in ROW_COLUMNS.items() if kind == "str"}
    values["seq"] = list(range(count))
    with run.segment() as segment:
        segment.append(Frame.ROWS, encode_table(ROW_COLUMNS, values))
    run.close("finished")
    assert [row[0] for row in _rows(Run(run.path), columns=["seq"])] == values["seq"]


def test_an_odd_path_is_no_pattern(tmp_path: Path) -> None:
    """A root whose name has quotes, brackets and stars in it is one directory, not a query."""
    root = tmp_path / "it's [1] * ? ünï"
    run, measured = _record(root, seconds=1)
    run.close("finished")
    assert _rows(Run(run.path)) == measured


def _keys(measured: recorded.Rows) -> list[tuple[Any, ...]]:
    return list(zip(measured["endpoint"], measured["outcome"], strict=True))


def test_a_frame_that_is_no_table_is_left_out_and_counted(tmp_path: Path) -> None:
    """A whole frame with a payload that its kind does not promise costs itself and nothing else."""
    run = RunDirectory.create(tmp_path, "odd", {})
    good = recorded.rows(1, 10, 0)
    lacking = encode_table({"seq": "i64"}, {"seq": [1]})
    with run.segment() as segment:
        segment.append(Frame.ROWS, b"no table")
        segment.append(Frame.WINDOWS, lacking)
        segment.append(Frame.EVENT, b"{not json")
        recorded.journal(segment, good)
        odd = encode_table(
            recorded.WINDOW_COLUMNS, {**recorded.fold_rows(good), "outcome": [99] * len(set(_keys(good)))}
        )
        segment.append(Frame.WINDOWS, odd)
    before = Run(run.path).measurement()
    closing = run.close("finished")
    assert (closing.rows, closing.bytes_left_out) == (10, len(b"no table") + len(lacking) + len(odd))
    assert Run(run.path).measurement() == before
    assert len(Run(run.path).measurement().events) == 1


def test_nobody_else_reads_a_run(tmp_path: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    mask = os.umask(0)
    try:
        run, _ = _record(tmp_path / "root", seconds=1)
        assert run.journal.stat().st_mode & 0o777 == 0o700
        run.close("finished")
        run.write_text("summary.md", "x")
    finally:
        os.umask(mask)
    assert run.path.stat().st_mode & 0o777 == run.path.parent.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in run.path.iterdir()} == {0o600}


# --- Cut short -------------------------------------------------------------------------------------------------------

STEPS = ("state", "load", *sorted(FILES, key=lambda name: (name.endswith("l"), name)), "stored", "journal")


class _Crash(Exception):
    pass


def _steps_of(root: Path) -> list[str]:
    taken: list[str] = []
    run, _ = _record(root, seconds=1)
    run.close("finished", step=taken.append)
    return taken


@pytest.mark.parametrize("again", ["close", "recover"])
def test_a_closing_that_was_cut_short_comes_to_the_same_end(tmp_path: Path, again: str) -> None:
    """Cut at each step in turn, a closing is finished by the next attempt, with the same rows, state and files."""
    steps = _steps_of(tmp_path / "steps")
    assert set(steps) == set(STEPS)
    for at, name in enumerate(steps):
        if again == "close" and name not in ("state", "windows.parquet", "stored", "journal"):
            continue  # from the second step on both are one code; three of them show it
        run, measured = _record(tmp_path / str(at), seconds=2, rows=25)
        expected = run.measurement()

        def crash(step: str, name: str = name) -> None:
            if step == name:
                raise _Crash

        with pytest.raises(_Crash):
            run.close("finished", "done", 4 * 10**9, step=crash)
        assert Run(run.path).measurement() == expected, "between the steps the run can be read"
        if again == "close":
            run.close("finished", "done", 4 * 10**9)
        else:
            run.release()
            recover(run.path)
        read = Run(run.path)
        assert (read.measurement(), _rows(read)) == (expected, measured)
        assert read.meta.state == ("interrupted" if again == "recover" and name == "state" else "finished")
        assert {entry.name for entry in run.path.iterdir()} == {*FILES, "run.json"}
        recover(run.path)
        assert Run(run.path).measurement() == expected


@pytest.mark.slow
def test_a_closing_that_was_killed_comes_to_the_same_end(tmp_path: Path) -> None:
    """Killed with SIGKILL before each step in turn, with whatever lies around then, recover still brings all of it."""
    script = """
        import os, sys
        from surgeline.store.rundir import recover
        recover(sys.argv[1], step=lambda name: os.kill(os.getpid(), 9) if name == sys.argv[2] else None)
        """
    for name in _steps_of(tmp_path / "steps"):
        run, measured = _record(tmp_path / name, seconds=2, rows=25)
        run.release()
        arguments = [sys.executable, "-c", textwrap.dedent(script), str(run.path), name]
        assert subprocess.run(arguments, timeout=60).returncode == -signal.SIGKILL
        recover(run.path)
        assert _rows(Run(run.path)) == measured
        assert {entry.name for entry in run.path.iterdir()} == {*FILES, "run.json"}


WRITER = """
    import os, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import recorded
    from surgeline.samples import Frame
    from surgeline.store.rundir import RunDirectory

    run = RunDirectory.create(Path(sys.argv[2]), "killed", {})
    acknowledged = os.open(Path(sys.argv[2]) / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    batches = [recorded.rows(number, 40, number, first=number * 40) for number in range(80)]
    with run.segment() as segment:
        while True:
            for number, batch in enumerate(batches):
                for turn, kind in enumerate((Frame.COUNTS, Frame.ROWS, Frame.WINDOWS)):
                    recorded.journal(segment, batch, kind)
                    os.write(acknowledged, f"{number} {kind.name}\\n".encode())
                    if number % 3 == turn:
                        time.sleep(0.001)  # longer in all than whoever kills this waits: there is always more to come
            time.sleep(60)
    """


def _killed_after(root: Path, pause_s: float) -> tuple[Path, set[str]]:
    """A run whose process is killed that long after its first batch; and what it had been told was written."""
    root.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(Path(__file__).parent), str(root)], stderr=subprocess.PIPE
    )
    log = root / "acknowledged"
    limit = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, errors
    (path,) = (entry for entry in root.iterdir() if entry.is_dir())
    return path, set(log.read_text().splitlines())


@pytest.mark.slow
def test_a_killed_run_is_recovered(tmp_path: Path) -> None:
    """Killed at 20 random moments, a run opens each time, has every row that its writer was told was written, none
    twice, and books that balance; nobody who looks twice sees anything else."""
    draw = random.Random(20)
    cut = 0
    for attempt in range(20):
        path, acknowledged = _killed_after(tmp_path / str(attempt), draw.random() * 0.06)
        assert not is_running(path)
        closing = recover(path)
        run = Run(path)
        seqs = [row[0] for row in _rows(run, columns=["seq"])]
        assert len(set(seqs)) == len(seqs) == closing.rows
        assert set(seqs) >= {
            number * 40 + at for number in range(80) if f"{number} ROWS" in acknowledged for at in range(40)
        }
        _books(run)
        due = sum(count.due for count in run.measurement().counts)
        assert due >= 40 * sum(f"{number} COUNTS" in acknowledged for number in range(80))
        assert due == closing.rows + closing.aborted
        cut += closing.aborted > 0 or closing.rebuilt > 0
        assert run.meta.state == "interrupted"
        assert "without closing it" in str((run.meta.ended or {})["reason"])
        assert recover(path) == closing
    assert cut, "not one of twenty kills fell between two frames: this test sees nothing"


def _left(root: Path, *kinds: Frame) -> tuple[Run, recorded.Rows]:
    """A run whose first second is whole, and of whose second one only these kinds of frames were written."""
    run = RunDirectory.create(root, "left", {})
    last = recorded.rows(2, 50, 1, first=50)
    with run.segment() as segment:
        recorded.journal(segment, recorded.rows(1, 50, 0))
        recorded.journal(segment, last, *kinds)
    run.release()
    return Run(run.path), last


def test_due_requests_without_an_answer_count_as_aborted(tmp_path: Path) -> None:
    """Only the counts of the last second survived: its requests are in the windows as aborted, and have no rows."""
    run, last = _left(tmp_path, Frame.COUNTS)
    assert recover(run.path) == Closing(rows=50, rows_dropped=1, aborted=50)
    run.reload()
    aborted = [w for w in run.measurement().windows if w.second == 1]
    assert {w.outcome for w in aborted} == {Outcome.ABORTED}
    assert {(w.endpoint, w.count) for w in aborted} == {(e, last["endpoint"].count(e)) for e in recorded.ENDPOINTS}
    assert all((w.response.count, w.response.sum_ns, w.response.max_ns, w.bytes_in) == (0, 0, None, 0) for w in aborted)
    assert len(_rows(run)) == 50
    _books(run)


def test_rows_whose_window_was_lost_get_it_back(tmp_path: Path) -> None:
    """The rows of the last second survived and its windows did not: they are made again, and nothing is aborted."""
    whole, _ = _left(tmp_path / "whole", Frame.COUNTS, Frame.ROWS, Frame.WINDOWS)
    recover(whole.path)
    run, _ = _left(tmp_path / "cut", Frame.COUNTS, Frame.ROWS)
    closing = recover(run.path)
    assert (closing.rebuilt, closing.aborted, closing.due_added) == (50, 0, 0)
    run.reload(), whole.reload()
    assert run.measurement().windows == whole.measurement().windows
    _books(run)


def test_what_has_an_outcome_was_due(tmp_path: Path) -> None:
    """The counts of the last second were lost: they follow from its windows."""
    run, last = _left(tmp_path, Frame.ROWS, Frame.WINDOWS)
    closing = recover(run.path)
    assert (closing.rebuilt, closing.aborted, closing.due_added) == (0, 0, 50)
    run.reload()
    sent = sum(outcome != Outcome.NOT_SENT for outcome in last["outcome"])
    assert sum(c.sent for c in run.measurement().counts if c.second == 1) == sent
    _books(run)


def test_the_books_of_a_finished_run_are_left_as_they_are(tmp_path: Path) -> None:
    """An engine that loses requests is found out: closing does not make its books balance."""
    run = RunDirectory.create(tmp_path, "sloppy", {})
    with run.segment() as segment:
        recorded.journal(segment, recorded.rows(1, 50, 0), Frame.COUNTS)
    assert run.close("finished") == Closing(rows=0)
    assert Run(run.path).measurement().windows == ()
    assert sum(count.due for count in Run(run.path).measurement().counts) == 50


def test_an_interrupted_run_ends_with_the_last_thing_it_saw(tmp_path: Path) -> None:
    """Nobody saw the end of a killed run; its end is the latest moment its journal speaks of."""
    run, last = _left(tmp_path, Frame.COUNTS, Frame.ROWS)
    recover(run.path)
    assert (run.reload().ended or {})["at_ns"] == max(*last["end_ns"], *last["intended_ns"])


def test_a_run_that_lasts_is_not_recovered(tmp_path: Path) -> None:
    """While a process holds the run, or only still writes into it, recovering is refused with a sentence."""
    run = RunDirectory.create(tmp_path, "alive", {})
    assert is_running(run.path)
    with pytest.raises(Busy, match=rf"the run {run.id} is still running \(process {os.getpid()}\)"):
        recover(run.path)
    segment = run.segment("worker-7")
    segment.append(Frame.EVENT, b"{}")
    run.release()
    assert not is_running(run.path)
    with pytest.raises(Busy, match="still being written by a process of it \\(worker-7\\)"):
        recover(run.path)
    assert not is_running(run.path), "a refusal lets go again"
    segment.close()
    assert recover(run.path).rows == 0


def test_a_segment_left_open_at_the_end_is_named(tmp_path: Path) -> None:
    """A worker that should have ended does not keep the run from closing, and is named."""
    run = RunDirectory.create(tmp_path, "open", {})
    with run.segment("worker-7") as segment:
        segment.append(Frame.EVENT, b"{}")
        assert run.close("finished").open_segments == ("worker-7",)


# --- No room ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_closing_on_a_full_disk_keeps_the_journal(small_disk: Path) -> None:
    """Closing without room says so, and the run can still be read; with room again, recover brings all of it."""
    run, measured = _record(small_disk, rows=1000, seconds=3)
    expected = run.measurement()
    with open(small_disk / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(DiskFull, match="the disk is full"):
        run.close("finished")
    run.release()
    assert Run(run.path).measurement() == expected
    assert not [entry for entry in run.path.iterdir() if entry.name.endswith(".tmp")]
    (small_disk / "filler").unlink()
    recover(run.path)
    assert _rows(Run(run.path)) == measured


def test_a_full_disk_at_the_start_is_a_sentence(small_disk: Path) -> None:
    """Where not even run.json fits, nothing is left behind."""
    with open(small_disk / "filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(DiskFull, match="the disk is full"):
        RunDirectory.create(small_disk / "runs", "shop", {})
    assert [path for path in small_disk.rglob("*") if path.name not in ("filler", "runs")] == []


def test_a_file_size_limit_is_a_sentence(tmp_path: Path) -> None:
    """`ulimit -f` below the size of a Parquet file is reported as what it is, and does not harm the run."""
    run, measured = _record(tmp_path, rows=1500)
    run.release()
    script = """
        import resource, sys
        from surgeline.store.errors import DiskFull
        from surgeline.store.rundir import recover
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            recover(sys.argv[1])
        except DiskFull as error:
            print(error)
        """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(run.path)], capture_output=True, text=True, timeout=60
    )
    assert "may not grow further" in result.stdout, result.stderr
    recover(run.path)
    assert _rows(Run(run.path)) == measured


# --- Damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A Parquet file that was cut, changed or removed is named in one sentence, whoever asks for it."""
    for name, ask in (("windows.parquet", "measurement"), ("samples.parquet", "rows")):
        run, _ = _record(tmp_path / name)
        run.close("finished")
        path = run.path / name
        for content in (path.read_bytes()[:-20], b"garbage" * 100, b""):
            path.write_bytes(content)
            with pytest.raises(Damaged, match=f"{name} is damaged"):
                list(Run(run.path).rows()) if ask == "rows" else Run(run.path).measurement()
        path.unlink()
        with pytest.raises(NoSuchRun, match=f"{name} is missing"):
            list(Run(run.path).rows()) if ask == "rows" else Run(run.path).measurement()


def test_a_newer_run_is_refused(tmp_path: Path) -> None:
    """A run of a later format is left alone, with a sentence that names both numbers."""
    run, _ = _record(tmp_path)
    run.close("finished")
    raw = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**raw, "format": 2}))
    with pytest.raises(NewerFormat, match=r"made by a newer Surgeline \(format 2\); this one reads up to 1"):
        Run(run.path)


def test_closing_is_not_for_what_was_let_go(tmp_path: Path) -> None:
    """A run that is no longer held is neither changed nor closed through the old handle."""
    run = RunDirectory.create(tmp_path, "x", {})
    with pytest.raises(Misused, match="no end of a run"):
        run.close("running")
    run.close("finished")
    run.release()
    for call in (lambda: run.close("finished"), lambda: run.update(engine="native")):
        with pytest.raises(Misused, match="no longer held"):
            call()


def test_counts_merge_over_segments(tmp_path: Path) -> None:
    """Deltas of one key from two writers and two moments are one count."""
    run = RunDirectory.create(tmp_path, "x", {})
    batch = {name: [0] for name in ("second", "stage", "hops")} | {"endpoint": ["e"], "due": [3], "sent": [2]}
    for name in ("a", "b"):
        with run.segment(name) as segment:
            for _ in range(2):
                segment.append(Frame.COUNTS, encode_table(recorded.COUNT_COLUMNS, batch))
    run.close("finished")
    assert Run(run.path).measurement().counts == (Count(0, 0, "e", 12, 8, 0),)
