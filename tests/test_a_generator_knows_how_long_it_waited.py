"""The native engine's threads that send: how much they ran, and how much they waited for a core, from the scheduler."""

import time
from pathlib import Path

from surgeline.analysis.book import second_of
from surgeline.engines.native import ProcessMeter, _busiest, _senders
from surgeline.units import NS_PER_S


def _task(tasks: Path, thread: str, name: str, schedstat: str) -> None:
    (tasks / thread).mkdir(parents=True)
    (tasks / thread / "comm").write_text(f"{name}\n")
    (tasks / thread / "schedstat").write_text(schedstat)


def test_only_threads_that_send_are_read(tmp_path: Path):
    """Neither Python's threads nor what carries frames; one whose books cannot be read is passed over."""
    _task(tmp_path, "11", "python", "900 900 9\n")
    _task(tmp_path, "12", "surgeline-0", "100 200 3\n")
    _task(tmp_path, "13", "surgeline-frame", "700 700 7\n")
    _task(tmp_path, "14", "surgeline-1", "")
    assert _senders(tmp_path) == {"12": (100, 200)}
    assert _senders(tmp_path / "absent") == {}


def test_the_thread_that_rests_least_is_told_of():
    """Of two, the one that ran and waited longest; one that is new counts from its beginning; none, nothing."""
    before = {"12": (1_000, 5_000), "13": (0, 0)}
    after = {"12": (1_100, 5_850), "13": (400, 100), "14": (10, 20)}
    assert _busiest(before, after, 1_000) == {"sender_cpu_ratio": 0.1, "sender_wait_ratio": 0.85}
    assert _busiest(before, {}, 1_000) == {}


def test_every_second_of_a_run_has_its_reading():
    """Asked four times a second, and never quite on time: one for each second, none of them twice, none left out."""
    begin = time.monotonic_ns()
    meter = ProcessMeter(begin)
    asked = [begin + tick * NS_PER_S // 4 + 40_000_000 * (tick % 5) for tick in range(1, 81)]
    told = [second_of(now - begin) for now in asked if meter.read(now) is not None]
    assert told == list(range(20))
