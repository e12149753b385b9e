"""What one Locust process gathers and appends: rows, windows and counts that agree, also when the disk does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.engines import Ending
from surgeline.locust.recorder import Recorder, Row
from surgeline.samples import WINDOW_COLUMNS, Frame, Outcome, fold_rows
from surgeline.store.errors import DiskFull
from surgeline.store.journal import Segment
from told import Told, told_by

times = st.integers(0, 5_000_000_000)


def row(endpoint: str = "GET /", due: int = 5, start: int = 6, took: int = 10, outcome: int = 0) -> Row:
    """A row like many."""
    sent = outcome != Outcome.NOT_SENT
    ended = sent and outcome != Outcome.ABORTED
    return Row(
        *(endpoint, "s", 0, 1, 2, "GET", "http://h/", due, start if sent else -1, start + took if ended else -1),
        outcome=outcome,
        bytes_in=7,
        bytes_out=3,
    )


rows = st.builds(
    lambda endpoint, due, lag, took, outcome: row(endpoint, due, due + lag, took, outcome),
    st.sampled_from(["a", "b"]),
    times,
    times,
    times,
    st.integers(0, 5),
)


def recorded(place: Path, batches: list[list[Row]]) -> Told:
    """The batches, flushed one by one, as a reader finds them."""
    recorder = Recorder(Segment(place, "one", buffer_bytes=1 << 20), "w")
    for batch in batches:
        for one in batch:
            recorder.count(one.intended_ns, 0, one.endpoint, due=1, sent=int(one.outcome != Outcome.NOT_SENT))
            recorder.add(one)
        recorder.flush(1, {"users": 2.0})
    recorder.close()
    return told_by(place, Ending("finished"))


@given(batches=st.lists(st.lists(rows, max_size=8), max_size=4))
def test_windows_are_the_folded_rows(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Row]]) -> None:
    """Folding as rows come, batch by batch, is folding all of them at once."""
    told = recorded(tmp_path_factory.mktemp("journal"), batches)
    every = [one for batch in batches for one in batch]
    assert [r["seq"] for r in told.rows] == list(range(len(every)))
    assert told.due == len(every) and told.sent == sum(one.outcome != Outcome.NOT_SENT for one in every)
    folded = fold_rows({name: [getattr(one, name) for one in every] for name in Row._fields})
    held = told.windows.windows()
    assert [(w.second, w.stage, w.endpoint, int(w.outcome), w.count, w.bytes_in, w.bytes_out) for w in held] == list(
        zip(*(folded[name] for name in list(WINDOW_COLUMNS)[:7]), strict=True)
    )
    for side in ("response", "service"):
        assert [getattr(w, side).sparse() for w in held] == list(
            zip(folded[f"{side}_index"], folded[f"{side}_count"], strict=True)
        )


def test_a_request_without_a_time_counts_and_has_no_place_in_a_histogram(tmp_path: Path) -> None:
    """Custom clients may tell no time: zero would be a measurement."""
    untimed = row()._replace(end_ns=-1)
    (window,) = recorded(tmp_path, [[untimed]]).windows.windows()
    assert (window.count, window.response.count, window.service.count) == (1, 0, 0)


class _Full:
    """A segment on a disk that is full for a while."""

    def __init__(self, kept: Segment) -> None:
        self.kept = kept
        self.full = False

    def append(self, kind: Frame, payload: bytes) -> None:
        if self.full:
            raise DiskFull("no room is left")
        self.kept.append(kind, payload)

    def flush(self) -> None:
        self.kept.flush()

    def close(self) -> None:
        self.kept.close()


def test_a_full_disk_costs_rows_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Windows and counts wait for room; the rows left out are counted; it is said once."""
    disk = _Full(Segment(tmp_path, "one"))
    recorder = Recorder(disk, "w")  # type: ignore[arg-type]  # a segment in all that matters
    for turn in range(3):
        disk.full = turn < 2
        recorder.count(5, 0, "GET /", due=1, sent=1)
        recorder.add(row())
        recorder.flush(turn, {"users": 1.0})
    recorder.close()
    told = told_by(tmp_path, Ending("finished"))
    assert (len(told.rows), told.due, told.sent) == (1, 3, 3)
    assert [window.count for window in told.windows.windows()] == [3]
    assert "rows_dropped" in told.metrics
    assert [record.message for record in caplog.records].count(
        "the run's journal is incomplete from now on: no room is left"
    ) == 1


def test_a_value_that_fits_no_column_costs_its_batch_of_rows_only(tmp_path: Path) -> None:
    """What should not happen does not end a run."""
    told = recorded(tmp_path, [[row(), row()._replace(status=1 << 40)], [row()]])
    assert (len(told.rows), told.due) == (1, 3)
    assert sum(window.count for window in told.windows.windows()) == 3
