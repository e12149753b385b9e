"""A campaign of real runs is made in pieces: what its file holds is not made again, and no piece is begun too late."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from scripts.campaigns.real_runs import BareTimer, Piece, Result, build, carry_on, kept, meanwhile, of_one_build


def _piece(number: int, lane: str = "a", most_s: float = 0.0, make: Callable[[], Result] | None = None) -> Piece:
    return Piece({"case": "one", "number": number}, lane, most_s, make or (lambda: {"found": number}))


def test_what_the_file_holds_is_not_made_again(tmp_path: Path):
    """Gone on with, a campaign makes the rest, and every line tells its key and the machine's load."""
    results = tmp_path / "results.jsonl"
    carry_on(results, [_piece(1), _piece(2)], [{"a": 1}], 1.0)
    carry_on(results, [_piece(number) for number in (1, 2, 3)], [{"a": 2}], 1.0)
    assert sorted((one["number"], one["found"]) for one in kept(results)) == [(1, 1), (2, 2), (3, 3)]
    assert all(one["load"] >= 0 and one["case"] == "one" for one in kept(results))
    assert "Load average" in meanwhile(kept(results))


def test_figures_of_two_builds_are_not_mixed(tmp_path: Path):
    """What an older build made is made again, and a page shows what the newest one made alone."""
    results = tmp_path / "results.jsonl"
    older = {"case": "one", "number": 1, "found": 7, "at": 1, "build": "0123456789", "load": 0.0, "nice": 0}
    results.write_text(json.dumps(older) + "\n", "utf-8")
    assert of_one_build(kept(results)) == [older]
    carry_on(results, [_piece(1), _piece(2)], [{"a": 1}], 1.0)
    shown = of_one_build(kept(results))
    assert [one["found"] for one in shown] == [1, 2]
    assert build() in meanwhile(shown)
    assert of_one_build([]) == []


def test_no_piece_is_begun_that_would_not_end_in_time(tmp_path: Path):
    """With a minute left, one of half a minute is made and one of two is not."""
    results = tmp_path / "results.jsonl"
    carry_on(results, [_piece(1, most_s=120.0), _piece(2, most_s=30.0)], [{"a": 1}], 1.0)
    assert [one["number"] for one in kept(results)] == [2]


def test_lanes_of_a_phase_go_side_by_side(tmp_path: Path):
    """Two pieces that wait for each other end only if both lanes run at once."""
    both = threading.Barrier(2, timeout=10.0)
    pieces = [_piece(number, lane, make=lambda: {"found": both.wait() >= 0}) for number, lane in ((1, "a"), (2, "b"))]
    results = tmp_path / "results.jsonl"
    carry_on(results, pieces, [{"a": 1, "b": 1}], 1.0)
    assert len(kept(results)) == 2


def test_a_bare_timer_tells_what_a_twentieth_of_its_ticks_exceeded():
    """Of 200 ticks in a second ten may be later than what it says; of none that was late it says 0."""
    bare = BareTimer()
    bare._late = [(tick * 5_000_000, tick * 1_000_000) for tick in range(1, 21)]
    assert bare.p95_ms(0, 1_000_000_000) == 10.0
    assert bare.p95_ms(1_000_000_000, 2_000_000_000) == 0.0
