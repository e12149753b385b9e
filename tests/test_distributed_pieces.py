"""What runs on several machines are made of, each piece by itself: clocks, spools, and what is said of workers."""

import hashlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.analysis.book import Book
from surgeline.analysis.live import Live
from surgeline.analysis.summary import summarise
from surgeline.analysis.workers import CLOCK_LIMIT_NS, workers_of
from surgeline.engines.locust import _Log
from surgeline.locust import join, scripts
from surgeline.locust.cargo import PIECE_BYTES, Cargo, Unfit, piece_of, sha256_of
from surgeline.locust.clocks import DRIFT, Clock, Course, Offset
from surgeline.locust.spool import MOST_WAITING, PART_BYTES, Spool
from surgeline.report.trust import trust
from surgeline.samples import (
    Count,
    Frame,
    Histogram,
    Measurement,
    Outcome,
    Reading,
    Window,
    decode_frames,
    encode_object,
)
from surgeline.store.rundir import Run, RunDirectory

S = 1_000_000_000


# --- clocks ----------------------------------------------------------------------------------------------------------


@given(
    offset=st.integers(-(10**15), 10**15),
    trips=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=40),
)
def test_the_offset_is_never_further_off_than_it_says(offset: int, trips: list[tuple[int, int]]) -> None:
    """However a message was delayed on its way there or back, the truth lies within the uncertainty; age adds to it."""
    clock = Clock()
    for number, (there, back) in enumerate(trips):
        sent = 5 * S + number * S
        clock.add(sent + offset, sent + there, sent + offset + there + back)
    found = clock.offset
    assert found is not None
    assert abs(found.offset_ns - offset) <= found.uncertainty_ns + 1
    last = max(number * S + there + back for number, (there, back) in enumerate(trips))
    ages = [last - number * S - there - back for number, (there, back) in enumerate(trips)]
    off = [-(-(there + back) // 2) + round(age * DRIFT) for (there, back), age in zip(trips, ages, strict=True)]
    assert found.uncertainty_ns == min(off)


def test_the_quickest_round_trip_counts_until_it_is_old() -> None:
    """One trip of 1 ms outweighs many of 100 ms; after as many as are kept it is forgotten, for clocks drift."""
    clock = Clock(kept=10)
    clock.add(0, 500_000, 1_000_000)
    for _ in range(9):
        clock.add(0, 0, 100_000_000)
    assert clock.offset == Offset(0, 500_000 + round(99_000_000 * DRIFT))
    clock.add(0, 0, 100_000_000)
    assert clock.offset == Offset(50_000_000, 50_000_000)


def test_of_two_trips_the_one_that_says_more_now_counts() -> None:
    """A quick one of a minute ago says ± 6 ms by now; one of 4 ms a moment ago says more."""
    clock = Clock()
    clock.add(0, 0, 200_000)
    clock.add(60 * S, 60 * S - 7_000_000, 60 * S + 4_000_000)
    assert clock.seen == (Offset(9_000_000, 2_000_000), 60 * S + 2_000_000)


def test_a_clock_that_jumped_is_believed_now() -> None:
    """A quick trip from before a jump of half a second says nothing any more, however slow those since then are."""
    clock = Clock()
    clock.add(0, 0, 200_000)
    for second in range(1, 4):
        clock.add(second * S, second * S - S // 2 + 20_000_000, second * S + 40_000_000)
    found = clock.offset
    assert found is not None
    assert abs(found.offset_ns - S // 2) <= found.uncertainty_ns <= 20_000_000 + 3 * S * DRIFT


def test_a_clock_that_drifts_is_followed_on_straight_lines() -> None:
    """A clock that is 0.1 % fast for half of the run: its moments come back to within what was uncertain."""
    course = Course(Offset(5 * S, 100_000))
    for second in range(1, 21):
        course.add(second * S, Offset(5 * S + min(second, 10) * 1_000_000 + 50_000, 100_000))
    at = np.array([0, S // 2, 5 * S, 10 * S, 15 * S, 30 * S])
    assert course.drifts
    assert np.abs(course.off_ns(at) - [0, 500_000, 5_000_000, 10_000_000, 10_000_000, 10_000_000]).max() <= 100_000


def test_a_clock_that_does_not_drift_is_left_alone() -> None:
    """What lies within the uncertainty moves no row by a nanosecond; no reading at all moves none either."""
    course = Course(Offset(0, 1_000_000))
    assert not course.off_ns(np.array([0, S])).any()
    for second in range(100):
        course.add(second * S, Offset(1_900_000 if second % 2 else 0, 1_000_000))
    assert not course.drifts and not course.off_ns(np.array([50 * S])).any()


def test_no_round_trip_says_nothing() -> None:
    """Before the first there is no offset, and one that came back before it left is no round trip."""
    clock = Clock()
    assert clock.offset is None
    clock.add(10, 5, 9)
    assert clock.offset is None


# --- spools ----------------------------------------------------------------------------------------------------------


def rows(count: int, size: int = 100) -> bytes:
    """A payload that begins as a table of so many rows does."""
    return struct.pack("<I", count) + bytes(size)


def all_of(spool: Spool, kept: Any) -> list[bytes]:
    """The payloads of a file, as they come in parts."""
    at, found = 0, []
    while (part := spool.part(kept, at)).data:
        found += [bytes(payload) for _, payload, _ in decode_frames(part.data)]
        at = part.then
    return found


@given(sizes=st.lists(st.integers(0, 700_000), max_size=6))
def test_rows_come_back_in_parts_of_whole_frames(
    tmp_path_factory: pytest.TempPathFactory, sizes: Sequence[int]
) -> None:
    """Every frame once and in order, in parts no longer than they may be unless one frame alone is longer."""
    spool = Spool(tmp_path_factory.mktemp("spool"))
    for number, size in enumerate(sizes):
        spool.append(Frame.ROWS, rows(number, size))
    spool.flush()
    assert all_of(spool, "rows") == [rows(number, size) for number, size in enumerate(sizes)]
    assert spool.rows == sum(range(len(sizes)))
    part = spool.part("rows", 0)
    assert len(part.data) <= PART_BYTES or len(list(decode_frames(part.data))) == 1
    spool.close()
    assert all_of(spool, "rows") == [rows(number, size) for number, size in enumerate(sizes)]


def test_what_is_told_is_numbered_and_taken_once(tmp_path: Path) -> None:
    """Frames that are no rows wait for the next message; the number of the first tells whether one was missed."""
    spool = Spool(tmp_path)
    spool.append(Frame.COUNTS, b"a")
    spool.append(Frame.ROWS, rows(3))
    spool.append(Frame.WINDOWS, b"b")
    assert spool.take() == (0, [(Frame.COUNTS, b"a"), (Frame.WINDOWS, b"b")])
    assert spool.take() == (2, [])
    spool.append(Frame.HEALTH, b"c")
    assert spool.take() == (2, [(Frame.HEALTH, b"c")])
    assert all_of(spool, "told") == [b"a", b"b", b"c"] and spool.told == 3


def test_what_nobody_takes_stays_on_the_disk(tmp_path: Path) -> None:
    """A master that cannot be reached for long costs no memory; what was not taken can be fetched."""
    spool = Spool(tmp_path)
    big = bytes(MOST_WAITING // 3)
    for _ in range(5):
        spool.append(Frame.EVENT, big)
    first, frames = spool.take()
    assert (first, len(frames)) == (4, 1)
    assert all_of(spool, "told") == [big] * 5


# --- what is said of workers -----------------------------------------------------------------------------------------


def event(kind: str, at_s: float, **more: Any) -> dict[str, Any]:
    """An event of the master."""
    return {"at_ns": round(at_s * S), "kind": kind, **more}


def measured(*events: dict[str, Any], rate: Sequence[int] = (100,) * 10, dropped: int = 0) -> Measurement:
    """Ten seconds of an open load with so many requests due in each, and these events."""
    histogram = Histogram()
    histogram.record(2_000_000)
    windows, counts = [], []
    for second, due in enumerate(rate):
        times = Histogram()
        times.record(2_000_000, due)
        windows.append(Window(second, 0, "GET /", Outcome.OK, due, 0, 0, times, times))
        counts.append(Count(second, 0, "GET /", due, due, 0))
    marks = (event("stage_started", 0, stage=0), event("stage_ended", len(rate), stage=0))
    health = (Reading(9 * S, "generator", "worker-1", "rows_dropped", float(dropped)),) if dropped else ()
    return Measurement(
        tuple(windows), tuple(counts), health, (*marks, *events), rows=sum(rate) - dropped, rows_dropped=dropped
    )


RUN = {
    "id": "r",
    "engine": "locust",
    "due_known": True,
    "stages": [{"index": 0, "name": "s", "model": "open", "from": 100.0, "to": 100.0, "duration_ns": 10 * S}],
    "settings": {"workers": 2},
    "subject": {"kind": "plan", "plan": {}},
}
JOINED = [event("worker_joined", 0.0, worker=f"worker-{n}", host="a", late=False) for n in range(2)]


def with_users(run: Measurement, worker: str, users: Sequence[int], planned: int) -> Measurement:
    """With readings of a worker's users and of what its master planned, one for each second."""
    generator = ("generator", worker, "users"), ("generator", "master", "users_planned")
    more = [
        Reading(second * S + S // 2, *who, float(value))
        for second, own in enumerate(users)
        for who, value in zip(generator, (own, planned), strict=True)
    ]
    return replace(run, health=(*run.health, *more))


STEERED = {**RUN, "stages": [], "due_known": False, "subject": {"kind": "script"}}


def test_users_that_were_still_being_started_are_not_missed() -> None:
    """A worker that joins when all planned users are there came late for nothing; with half of them it was missed."""
    late = event("worker_joined", 8.0, worker="worker-1", host="a", late=True)
    for users, level in (((1, 2, 3, 4, 5, 6, 6, 6, 6, 6), "note"), ((3,) * 8 + (6, 6), "warning")):
        run = with_users(measured(*JOINED[:1], late), "worker-0", users, 6)
        (said,) = (line for line in trust(summarise(STEERED, run)) if "joined 8 s" in line.sentence)
        assert said.level == level and ("planned" in said.sentence) == (level == "warning")


def test_a_worker_that_has_nothing_to_send_is_missed_while_it_has_not() -> None:
    """No row of test data was left for it, though Locust gave it users: planned and actual load are told, both ways."""
    late = event("worker_joined", 2.0, worker="worker-1", host="a", late=True)
    idle = event("worker_idle", 2.0, worker="worker-1", host="a", why="all rows of test data are dealt out")
    back = event("worker_back", 6.0, worker="worker-1", host="a")
    users = (6, 6, 3, 3, 3, 3, 6, 6, 6, 6)
    for events, told in (
        (
            (late, idle),
            "sent nothing from 2 s on into the run (all rows of test data are dealt out): meanwhile 4.5 of 6",
        ),
        (
            (late, idle, back),
            "sent nothing from 2 s to 6 s into the run (all rows of test data are dealt out): meanwhile 3 of 6",
        ),
    ):
        summary = summarise(STEERED, with_users(measured(*JOINED[:1], *events), "worker-0", users, 6))
        assert summary.validity == "degraded"
        assert [told in line.sentence for line in trust(summary) if line.about == "workers"].count(True) == 1


def test_a_run_without_workers_says_nothing_of_them() -> None:
    """One process that sent is not spoken of as several."""
    run = measured()
    assert workers_of(run.events, Book.of(RUN, run)) is None


def test_a_lost_worker_marks_its_interval_and_both_loads_are_shown() -> None:
    """Lost at 4 s of 10: the stage is degraded, with what was planned and what there was from then on."""
    lost = event("worker_lost", 4.0, worker="worker-1", host="a", why="it was not heard of any more")
    missing = event("worker_rows", 10.1, worker="worker-1", rows=0, missing=200, frames_missing=0)
    run = measured(*JOINED, lost, missing, rate=(100,) * 4 + (50,) * 6, dropped=200)
    summary = summarise(RUN, run)
    assert summary.workers is not None
    (gap,) = summary.workers.gaps
    assert gap.load is not None and (gap.load.planned, gap.load.actual) == (100.0, 50.0)
    assert summary.validity != "valid" and summary.stages[0].validity != "valid"
    said = [line.sentence for line in trust(summary) if line.about == "workers"]
    assert any("Worker-1 was lost 4 s into the run" in line and "50 of 100 planned requests/s" in line for line in said)
    assert any("200 rows of it are not in requests.csv" in line for line in said)
    assert not [line for line in trust(summary) if line.about == "books" and line.level == "warning"]


def test_a_worker_that_came_back_was_missing_in_between_only() -> None:
    """The gap ends where it was heard of again, and so does the load that is compared."""
    gone = event("worker_lost", 4.0, worker="worker-1", host="a", why="it was not heard of any more")
    back = event("worker_back", 7.0, worker="worker-1", host="a")
    run = measured(*JOINED, gone, back, rate=(100,) * 4 + (50,) * 3 + (100,) * 3)
    workers = workers_of(run.events, Book.of(RUN, run))
    assert workers is not None
    (gap,) = workers.gaps
    assert (gap.begin_ns, gap.end_ns) == (4 * S, 7 * S) and gap.load is not None and gap.load.actual == 50.0


def test_a_late_worker_counts_against_the_run_where_it_was_missed() -> None:
    """With all of the load there before it came it is a note; with half of it, a reason to doubt the stage."""
    late = event("worker_joined", 5.0, worker="worker-2", host="a", late=True)
    there = summarise(RUN, measured(*JOINED, late))
    assert there.stages[0].validity == "valid"
    assert [line.level for line in trust(there) if "joined 5 s" in line.sentence] == ["note"]
    missed = summarise(RUN, measured(*JOINED, late, rate=(50,) * 5 + (100,) * 5))
    assert missed.stages[0].validity != "valid"
    assert any("until then 50 of 100 planned requests/s" in line.sentence for line in trust(missed))


@pytest.mark.parametrize(
    ("offset", "uncertainty", "drift", "doubted"),
    [
        (0, 100_000, 0, False),
        (10**15, CLOCK_LIMIT_NS, 0, False),
        (0, CLOCK_LIMIT_NS + 1, 0, True),
        (0, 1_000_000, CLOCK_LIMIT_NS + 1, True),
        (0, 40_000_000, CLOCK_LIMIT_NS + 1, False),
    ],
    ids=["together", "far apart and known", "not known", "drifted", "drift not beyond doubt"],
)
def test_a_clock_is_off_where_it_is_not_known_where_it_stood(
    offset: int, uncertainty: int, drift: int, doubted: bool
) -> None:
    """How far two clocks are apart matters to nobody; how well that is known, and whether it stayed so, does."""
    told = {"offset_ns": offset, "uncertainty_ns": uncertainty, "drift_ns": drift}
    summary = summarise(RUN, measured(*JOINED, event("worker_clock", 10.0, worker="worker-1", **told)))
    assert (summary.validity == "degraded") is doubted
    assert any("clock of worker-1" in reason for reason in summary.validity_reasons) is doubted


def test_requests_that_nobody_recorded_make_a_run_doubtful() -> None:
    """A worker without the plugin, and one of another version, are named with the reason."""
    told = event("worker_unknown", 0.0, worker="worker-1", why="it runs without Surgeline")
    summary = summarise(RUN, measured(JOINED[0], told))
    assert summary.validity == "degraded"
    assert summary.validity_reasons == (
        "worker-1 sent requests that are not in these figures: it runs without Surgeline",
    )


def test_what_locust_counted_is_held_against_what_was_recorded() -> None:
    """Equal: nothing is said. Otherwise both numbers are, and why they may differ."""
    for counted, told in ((1000, False), (990, True)):
        summary = summarise(RUN, measured(*JOINED, event("locust_counted", 10.2, requests=counted, failures=0)))
        said = [line.sentence for line in trust(summary) if "Locust's own statistics" in line.sentence]
        assert bool(said) is told
    assert "990 requests" in said[0] and "1,000" in said[0]


def test_the_live_view_says_that_a_worker_is_lost() -> None:
    """As long as it is."""
    live = Live(RUN)
    reading = {"at_ns": 1, "kind": "worker_lost", "worker": "worker-1"}
    live.add(Frame.EVENT, encode_object(reading))
    live._health["generator", "cpu_ratio"]["worker-0"] = (1, 0.1)
    assert "1 worker lost" in live.health_line()
    live.add(Frame.EVENT, encode_object({**reading, "kind": "worker_back"}))
    assert "lost" not in live.health_line()


def test_due_requests_of_a_lost_worker_are_aborted_when_the_run_is_closed(tmp_path: Path) -> None:
    """Nobody can say what became of them: the books balance, and the number is kept with the run."""
    from surgeline.samples import COUNT_COLUMNS, encode_table

    directory = RunDirectory.create(tmp_path, "r", {"engine": "locust", "stages": []})
    with directory.segment() as segment:
        counts = {"second": [0], "stage": [0], "endpoint": ["GET /"], "due": [7], "sent": [7], "hops": [0]}
        segment.append(Frame.COUNTS, encode_table(COUNT_COLUMNS, counts))
        segment.append(Frame.EVENT, encode_object(event("worker_lost", 1.0, worker="worker-1", why="it left")))
    directory.close("finished", "", 2 * S)
    measurement = Run(directory.path).measurement()
    assert [(w.outcome, w.count) for w in measurement.windows] == [(Outcome.ABORTED, 7)]


def _cargo(place: Path, data: bytes, name: str = "a.bin") -> tuple[dict[str, Any], Callable[[int, int], bytes]]:
    """A file that only its master has, and how it is got from there."""
    there = place / "there"
    there.mkdir(exist_ok=True)
    (there / name).write_bytes(data)
    item = {"name": name, "path": str(there / name), "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {**item, "path": "/nowhere/" + name}, lambda _, at: piece_of({"path": str(there / name)}, at)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 7])
def test_a_file_arrives_in_pieces_as_it_was(size: int, tmp_path: Path) -> None:
    """Whatever its length; it is gone when the run is over."""
    data = random.Random(1).randbytes(size)
    item, fetch = _cargo(tmp_path, data)
    cargo = Cargo()
    (path,) = cargo.gather([item], fetch, sha256_of)
    assert Path(path).read_bytes() == data
    cargo.forget()
    assert not Path(path).exists()


def test_a_file_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    """The same bytes at the same path are taken as they are, and stay; other bytes of that length are not."""
    data = b"as it was"
    item, fetch = _cargo(tmp_path, data)
    here = tmp_path / "here.bin"
    here.write_bytes(data)
    item["path"] = str(here)
    cargo = Cargo()
    assert cargo.gather([item], lambda *_: pytest.fail("it is there"), sha256_of) == [str(here)]
    cargo.forget()
    here.write_bytes(b"otherwise")
    (path,) = cargo.gather([item], fetch, sha256_of)
    assert path != str(here) and Path(path).read_bytes() == data
    cargo.forget()
    assert here.read_bytes() == b"otherwise"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sha256": "0" * 64}, "is not the file that the plan was made ready with"),
        ({"length": 3}, "is not the file of 3 bytes that it was"),
        ({"length": 30}, "is not the file of 30 bytes that it was"),
        ({"length": 1 << 40}, "put the files at the same paths there"),
    ],
)
def test_a_file_that_is_not_what_was_promised_is_named(
    change: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hash, another length, more than a worker is sent: one clause with the file's name, and nothing stays."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    item, fetch = _cargo(tmp_path, b"as it was")
    cargo = Cargo()
    with pytest.raises(Unfit, match="a.bin.* " + sentence):
        cargo.gather([item | change], fetch, sha256_of)
    cargo.forget()
    assert not list((tmp_path / "tmp").iterdir())


def test_workers_that_were_sent_away_had_come(tmp_path: Path) -> None:
    """Two of three were there when the master gave up; that it then let them go does not make them none."""
    log = _Log(tmp_path / "locust.log")
    log.write(b"[2026-11-23 16:06:45,882] vm/INFO/root: Waiting for workers to be ready, 2 of 3 connected\n")
    log.write(b"[2026-11-23 16:06:46,883] vm/ERROR/locust.main: Gave up waiting for workers to connect\n")
    log.write(b"[2026-11-23 16:06:47,003] vm/INFO/locust.runners: Worker 'a' (index 0) quit. 1 workers ready.\n")
    log.write(b"[2026-11-23 16:06:47,004] vm/INFO/locust.runners: Worker 'b' (index 1) quit. 0 workers ready.\n")
    assert log.gave_up() and log.connected() == 2
    log.close()


def test_a_worker_that_was_turned_away_is_named(tmp_path: Path):
    """What the master logged of it is found again when the run gives up."""
    log = _Log(tmp_path / "locust.log")
    log.write(b"[2026-11-23 13:48:13,938] vm/ERROR/surgeline: worker-0 (vm) is refused: it has Surgeline 0.0.9\n")
    log.write(b"[2026-11-23 13:48:14,938] vm/ERROR/locust.main: Gave up waiting for workers to connect\n")
    assert log.gave_up()
    assert log.refused() == "worker-0 (vm) is refused: it has Surgeline 0.0.9"
    log.close()


# --- the scripts that a master sends ----------------------------------------------------------------------------------

KEEPS = """
import json, sys, tempfile
from surgeline.locust import scripts
tempfile.tempdir = sys.argv[1]
print("up", flush=True)
for line in sys.stdin:
    for _ in range(300):
        (path,) = scripts.keep([{"filename": "locustfile.py", "contents": sys.argv[2] * 20_000}])
        text = open(path).read()
        assert text == sys.argv[2] * 20_000, (len(text), text[:1])
    print(path, flush=True)
"""


def test_workers_that_come_up_together_each_read_a_whole_script_of_their_own_master(tmp_path: Path) -> None:
    """Two of one master and one of another, whose scripts have one name: none ever reads half of one, or another's."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", KEEPS, str(tmp_path), text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for text in ("a", "a", "b")
    ]
    for one in started:
        assert one.stdout is not None and one.stdout.readline() == "up\n"
    for one in started:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    first, second, other = (one.communicate(timeout=60)[0].strip() for one in started)
    assert first == second != other and Path(other).read_text() == "b" * 20_000
    assert sorted(path.name for path in tmp_path.rglob("*.py")) == ["locustfile.py"] * 2


def test_a_script_lies_where_nobody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts of one master lie together, no name leads out of their folder, and a folder of somebody's is not used."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sources = [
        {"filename": "../../one.py", "contents": "import two"},
        "here.py",
        {"filename": "two.py", "contents": "x"},
    ]
    one, here, two = map(Path, scripts.keep(sources))
    assert here == Path("here.py") and one.parent == two.parent and one.name == "one.py"
    place = tmp_path / f"surgeline-{os.getuid()}"
    assert one.parent.parent == place and place.stat().st_mode & 0o077 == 0
    place.chmod(0o777)
    assert Path(scripts.keep(sources)[0]).parent.parent == tmp_path != place
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert Path(scripts.keep(sources)[0]).parent.parent == tmp_path
    place.unlink()
    place.write_text("")
    assert Path(scripts.keep(sources)[0]).read_text() == "import two"


def test_scripts_of_one_name_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that was given a directory sends the files of its folders by their names alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sources = [
        {"filename": "tasks.py", "contents": "a"},
        "http://127.0.0.1/contents.py",
        {"filename": "tasks.py", "contents": "b"},
        {"filename": "tasks.py", "contents": "c"},
    ]
    first, address, *others = scripts.keep(sources)
    assert [Path(path).read_text() for path in (first, *others)] == ["a", "b", "c"]
    assert address == sources[1] and len({first, *others}) == 3
    assert {Path(path).name for path in (first, *others)} == {"tasks.py"}
    assert scripts.keep(sources) == [first, address, *others]


def test_a_master_is_tried_for_as_long_as_it_says() -> None:
    """Not a second less, which for a short wait would be all of it; the last try is at its end."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        told: list[str] = []
        began = time.monotonic()
        with pytest.raises(join.Gone, match=r"after 0\.4 s: Connection refused"):
            join.reach("127.0.0.1", nobody.getsockname()[1], 0.4, told.append)
    assert time.monotonic() - began >= 0.4 and len(told) == 1


# --- what a worker's command says at its end --------------------------------------------------------------------------

ENDS = """
import json, os, signal, sys, time
pipe = int(os.environ["SURGELINE_LOCUST_JOIN"])
for state in json.loads(sys.argv[1]):
    os.write(pipe, json.dumps(state).encode() + b"\\n")
if sys.argv[2] == "still":
    time.sleep(60)
elif sys.argv[2] != "0":
    os.kill(os.getppid() if sys.argv[2] == "warden" else os.getpid(), signal.SIGKILL)
"""
HIRED = [{"state": "joined", "worker": f"worker-{number}"} for number in (0, 1)]
TOLD_OF = [*HIRED, *({"state": "run", "worker": f"worker-{number}", "run": "r"} for number in (0, 1))]
DONE = [{"state": "over", "worker": f"worker-{number}", "rows": 5, "missing": 0} for number in (0, 1)]


@pytest.mark.parametrize(
    ("told", "killed", "sentence"),
    [
        ([*TOLD_OF, *DONE], "0", ""),
        (TOLD_OF, "warden", "Locust was ended by SIGKILL; what it had not told yet is lost"),
        (TOLD_OF, "locust", "Locust was ended by SIGKILL; what it had not told yet is lost"),
        ([*TOLD_OF, DONE[0]], "0", "worker-1 was ended before the run was over; what had not been told yet is lost"),
        (TOLD_OF, "0", "the master at here ended without fetching what was measured here"),
        (HIRED, "0", "the master at here ended before a run began"),
        (
            [*TOLD_OF, DONE[0]],
            "still",
            "worker-1 kept Locust's loop busy for 0.2 s and was ended; what it had not told yet is lost",
        ),
    ],
)
def test_who_was_killed_is_not_taken_for_the_master(
    told: list[dict[str, Any]], killed: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own guard, its Locust, one of the processes that this forked, and the master: each is named for itself.

    One that hears nobody, because its script never gives way, is ended when the others are done.
    """
    if killed == "still":
        monkeypatch.setattr(join, "STILL_S", 0.2)
    monkeypatch.setattr(join, "COMMAND", (sys.executable, "-c", ENDS, json.dumps(told)))
    if not sentence:
        assert join.work([killed], "here", lambda text: None).over == {"worker-0", "worker-1"}
        return
    with pytest.raises((join.Failed, join.Gone)) as found:
        join.work([killed], "here", lambda text: None)
    assert str(found.value) == sentence
